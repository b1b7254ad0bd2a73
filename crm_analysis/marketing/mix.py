"""A rate of the network changed: because its parts got better, or because their weights moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.frames import Asked, check_as_of, check_conf_level, check_one_of
from crm_analysis.marketing.counting import grouped, in_period
from crm_analysis.wording import _, date_text, percent

if TYPE_CHECKING:
    from datetime import date

    from numpy.typing import NDArray

__all__ = ["MixDecomposition", "mix_decomposition"]

EFFECTS = ("change", "rate_effect", "mix_effect")
_RESAMPLES = 2_000


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MixDecomposition(Estimates):
    """The change of a share, and how much of it is rates and how much is mix.

    Attributes
    ----------
    groups : polars DataFrame
        ``group``, ``n_before``, ``n_after``, ``rate_before``, ``rate_after``; a rate is null where
        the group has no rows.
    reversed_everywhere : bool
        The whole moved one way and every group the other: Simpson's paradox.
    """

    groups: pl.DataFrame
    reversed_everywhere: bool

    def sentence(self) -> str:
        """Say how much of the change is due to what."""
        change, rate, mix = self.table.to_dicts()
        if change["estimate"] is None:
            return super().sentence()
        text = _(
            "{name}: {change}, of which {rate} by better or worse rates and {mix} by another mix.",
            name=self.name, change=self.value_text(change), rate=percent(rate["estimate"]),
            mix=percent(mix["estimate"]),
        )  # fmt: skip
        if not self.reversed_everywhere:
            return text
        return text + " " + _("The whole moved one way and every group the other.")


def mix_decomposition(
    records: object,
    *,
    group_col: str,
    yes_col: str,
    at_col: str = "opened_at",
    since: date,
    split_on: date,
    seed: int = 0,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "bootstrap",
) -> MixDecomposition:
    r"""Did a share change because groups did better, or because other groups came (Kitagawa).

    Parameters
    ----------
    records : table
        One row per lead, on any backend.
    group_col : str
        Where the mix may have changed: source, dealership. Null is a group of its own.
    yes_col : str
        0 or 1, or true and false as numbers: what the share is of.
    at_col : str
    since, split_on, as_of : date
        First day before, first day after, last day after.
    seed : int
        Of the bootstrap.
    conf_level : float
    ci_method : {"bootstrap"}
        Poisson draws of every count.

    Returns
    -------
    MixDecomposition
        Rows ``measure`` = ``"change"``, ``"rate_effect"``, ``"mix_effect"``: the second and third
        add up to the first. Null where one of the periods is empty. A group that is missing from
        one period counts there with the rate of the other: all its part is mix.

    Raises
    ------
    InputError
        Days that are not in order.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    .. math:: \Delta = \sum_g \bar w_g (r_{g1} - r_{g0}) + \sum_g \bar r_g (w_{g1} - w_{g0})

    with means of both periods as weights.

    References
    ----------
    Kitagawa (1955), JASA 50:1168-1194.
    """
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("bootstrap",))
    if not since < split_on <= as_of:
        raise InputError(
            f"The days {since}, {split_on} and {as_of} were given; they must follow one another: "
            "first day, first day of the second period, last day."
        )
    n, k, names = _counts(records, group_col, yes_col, at_col, since, split_on, as_of)
    found = np.array(_effects(n, k))
    rng = np.random.default_rng(seed)
    won, lost = (rng.poisson(part, (_RESAMPLES, *part.shape)) for part in (k, n - k))
    drawn = np.array(_effects((won + lost).astype(float), won.astype(float)))
    total = int(n.sum())
    known = bool(n.sum(axis=0).min() > 0 and np.isfinite(found).all())
    if not known:
        found = np.full(3, np.nan)
    usable = drawn[:, np.isfinite(drawn).all(axis=0)] if known else np.full((3, 2), np.nan)
    tail = (1 - conf_level) / 2
    low, high = np.quantile(usable, [tail, 1 - tail], axis=1)
    low, high = np.minimum(low, found), np.maximum(high, found)
    groups = _groups(n, k, names)
    moved = groups["rate_after"] - groups["rate_before"]
    against = (moved * np.sign(found[0]) < 0) if known else moved.is_null() & False
    return MixDecomposition(
        table=pl.DataFrame(
            {
                "measure": list(EFFECTS),
                **five_columns([total] * 3, found, usable.std(axis=1, ddof=1), low, high),
            }
        ),
        name=_("Change of the share"),
        unit="share",
        definition=_(
            "Share from {split_on} to {as_of} less that from {since} until then; the part of the "
            "groups' own rates, weighted by their mean share, and that of their weights.",
            split_on=date_text(split_on), as_of=date_text(as_of), since=date_text(since),
        ),
        by=("measure",),
        conf_level=conf_level,
        groups=groups,
        reversed_everywhere=bool(against.len() > 1 and against.fill_null(value=False).all()),
    )  # fmt: skip


def _counts(
    records: object,
    group_col: str,
    yes_col: str,
    at_col: str,
    since: date,
    split_on: date,
    as_of: date,
) -> tuple[NDArray[Any], NDArray[Any], list[Any]]:
    """Count rows and successes by group and period (the last axis: before, after)."""
    asked = {
        "group": Asked(group_col, "text", "group_col", nullable=True),
        "yes": Asked(yes_col, "number", "yes_col"),
    }
    frame = in_period(records, asked, at_col=at_col, since=since, as_of=as_of)
    later = nw.when(nw.col("day") >= to_day_number(split_on)).then(nw.lit(1)).otherwise(nw.lit(0))
    cells = grouped(
        frame.with_columns(later.alias("later")), (), nw.len().alias("n"),
        nw.col("yes").sum().alias("k"), beside=("group", "later"),
    )  # fmt: skip
    names = cells["group"].unique(maintain_order=True).to_list()
    place = {name: i for i, name in enumerate(names)}
    n, k = np.zeros((len(names), 2)), np.zeros((len(names), 2))
    for group, when, count, yes in cells.select("group", "later", "n", "k").iter_rows():
        n[place[group], when], k[place[group], when] = count, yes
    return n, k, names


def _effects(n: NDArray[Any], k: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return change, rate effect and mix effect of counts of shape (..., groups, 2)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = n / n.sum(axis=-2, keepdims=True)
        rate = k / n
    other = rate[..., ::-1]
    rate = np.where(n > 0, rate, np.where(np.isfinite(other), other, 0.0))
    by_rate = (weight.mean(axis=-1) * np.diff(rate, axis=-1)[..., 0]).sum(axis=-1)
    by_mix = (rate.mean(axis=-1) * np.diff(weight, axis=-1)[..., 0]).sum(axis=-1)
    return by_rate + by_mix, by_rate, by_mix


def _groups(n: NDArray[Any], k: NDArray[Any], names: list[Any]) -> pl.DataFrame:
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = k / n
    return pl.DataFrame(
        {
            "group": pl.Series(names, dtype=pl.String),
            "n_before": n[:, 0].astype(np.int64),
            "n_after": n[:, 1].astype(np.int64),
            "rate_before": pl.Series(rate[:, 0], dtype=pl.Float64).fill_nan(None),
            "rate_after": pl.Series(rate[:, 1], dtype=pl.Float64).fill_nan(None),
        }
    )
