"""Money changed: because there were more deals, other deals, or better ones (volume, mix, rate)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.changes import least_size
from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Better, Estimates, five_columns
from crm_analysis.frames import Asked, check_as_of, check_conf_level, check_one_of
from crm_analysis.marketing.counting import grouped, in_period
from crm_analysis.tables import label_of
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import (
    _,
    date_text,
    money,
    number,
    percent,
    signed,
    signed_interval_text,
    word_of,
)

if TYPE_CHECKING:
    from datetime import date

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["ValueChange", "value_change"]

EFFECTS = ("change", "volume_effect", "mix_effect", "rate_effect")

_STEP = 1e-30
"""Imaginary step of the derivatives, which are then exact: the formulas are smooth in it."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ValueChange(Estimates):
    """The change of a sum of money, and how much of it is number, mix and value of each deal.

    Attributes
    ----------
    groups : polars DataFrame
        ``group``, ``n_before``, ``n_after``, ``value_before``, ``value_after``, and the variances
        of both sums.
    totals : tuple of float
        The sum before and after.
    group_col : str
        What the groups are.
    reversed_everywhere : bool
        The value of a deal moved one way over all and the other way in every group: Simpson's
        paradox.
    """

    groups: pl.DataFrame
    totals: tuple[float, float]
    group_col: str
    reversed_everywhere: bool

    def sentence(self) -> str:
        """Say how the sum has changed and, where it has, what that is due to."""
        row, *parts = self.table.to_dicts()
        if row["estimate"] is None:
            return _("{name}: nothing can be said (n = {n}).", name=self.name, n=number(row["n"]))
        said = _(
            "{name}: {now}, {change} against the period before ({level} interval {interval})",
            name=self.name, now=money(self.totals[1], self.currency),
            level=percent(self.conf_level, 0), interval=_interval(row, self.currency),
            change=signed(row["estimate"], "money", currency=self.currency),
        )  # fmt: skip
        if row["conf_low"] <= 0 <= row["conf_high"]:
            return _("{said}: no change is established.", said=said)
        if parts[0]["estimate"] is None:
            return f"{said}."
        volume, mix, rate = (_with_interval(part, self.currency) for part in parts)
        said = _(
            "{said}; of that {volume} by their number, {mix} by another mix, {rate} by what each "
            "brought.",
            said=said, volume=volume, mix=mix, rate=rate,
        )  # fmt: skip
        if not self.reversed_everywhere:
            return said
        turned = _("What one brings moved one way over all, and in every group the other.")
        return f"{said} {turned}"

    def importance(self) -> float:
        """Return by how much at least the sum has changed, as a part of the larger one."""
        low, high = self.table.select("conf_low", "conf_high").row(0)
        return least_size(low, high, value=self.totals[1])

    def total(self) -> Estimates:
        """Return the sum of the later period, with its interval."""
        return self._sum("after", self.totals[1])

    def before(self) -> Estimates:
        """Return the sum of the period before, with its interval."""
        return self._sum("before", self.totals[0])

    def _sum(self, when: str, value: float) -> Estimates:
        n = int(self.groups[f"n_{when}"].sum())
        error = float(np.sqrt(self.groups[f"variance_{when}"].to_numpy().sum()))
        known = value if n else np.nan
        half = normal_quantile(self.conf_level) * error
        return self._part(
            pl.DataFrame(five_columns([n], [known], [error], [known - half], [known + half])), ()
        )

    def by_group(self) -> Estimates:
        """Return by how much each group's sum has changed."""
        groups = self.groups
        change = (groups["value_after"] - groups["value_before"]).to_numpy()
        error = np.sqrt((groups["variance_after"] + groups["variance_before"]).to_numpy())
        half = normal_quantile(self.conf_level) * error
        n = (groups["n_before"] + groups["n_after"]).to_numpy()
        table = groups.select(pl.col("group").alias(self.group_col)).with_columns(
            **five_columns(n, change, error, change - half, change + half)
        )
        group = label_of(self.group_col).lower()
        name = _("{name}: change by {group}", name=self.name, group=group)
        return _GroupChanges(
            table=table, name=name, unit="money", definition=self.definition,
            by=(self.group_col,), conf_level=self.conf_level, currency=self.currency,
        )  # fmt: skip

    def _part(self, table: pl.DataFrame, by: tuple[str, ...]) -> Estimates:
        return Estimates(
            table=table, name=self.name, unit="money", definition=self.definition, by=by,
            conf_level=self.conf_level, currency=self.currency, key=self.key, better=self.better,
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the change and its parts with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        labels = [word_of(measure) for measure in self.table["measure"]]
        labelled = self.table.with_columns(pl.Series("label", labels, pl.String))
        figures.points(labelled, label="label", ax=ax, reference=0.0)
        figures.write_units(ax, "money", axis="x", currency=self.currency)
        ax.set_title(_("{name}: change and its causes", name=self.name))
        return ax


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _GroupChanges(Estimates):
    """Changes of the groups' sums: each is held against zero, not against the others."""

    def sentence(self) -> str:
        """Name the groups whose sum has changed, those that lost most first."""
        known = self.table.drop_nulls("conf_low").sort("estimate", maintain_order=True)
        changed = known.filter((pl.col("conf_low") > 0) | (pl.col("conf_high") < 0))
        if changed.is_empty():
            return _("{name}: in no group of {n} is a change established.",
                     name=self.name, n=number(known.height))  # fmt: skip
        told = [
            f"{word_of(row[self.by[0]])} {_with_interval(row, self.currency)}"
            for row in changed.to_dicts()
        ]
        return _("{name}, where it is established: {groups}.", name=self.name,
                 groups="; ".join(told))  # fmt: skip

    def importance(self) -> float:
        """Return 0: the change over all is the finding, and this says where."""
        return 0.0

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the changes with their intervals about zero, and return the Axes."""
        ax = figures.new_axes(ax)
        rows = self.table.sort("estimate", maintain_order=True)
        labels = [word_of(value) for value in rows[self.by[0]]]
        figures.points(rows.with_columns(pl.Series("label", labels, pl.String)), label="label",
                       ax=ax, reference=0.0)  # fmt: skip
        figures.write_units(ax, "money", axis="x", currency=self.currency)
        ax.set_title(self.name)
        return ax


def _interval(row: dict[str, Any], currency: str | None) -> str:
    return signed_interval_text(row["conf_low"], row["conf_high"], "money", currency=currency)


def _with_interval(row: dict[str, Any], currency: str | None) -> str:
    return f"{signed(row['estimate'], 'money', currency=currency)} ({_interval(row, currency)})"


def value_change(
    records: object,
    *,
    group_col: str = "dealership",
    value_col: str = "margin",
    at_col: str = "contract_on",
    since: date,
    split_on: date,
    name: str | None = None,
    key: str | None = None,
    better: Better | None = "higher",
    currency: str | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> ValueChange:
    r"""Did money change by the number of deals, by their mix, or by what each brought.

    Parameters
    ----------
    records : table
        One row per deal or visit, on any backend: see `Warehouse.sales`.
    group_col : str
        Where the mix may have changed: dealership, segment. Null is a group of its own.
    value_col : str
        Margin or revenue; a row whose value is null is left out and noted.
    at_col : str
    since, split_on, as_of : date
        First day before, first day after, last day after. Periods of the same length and season
        are the reader's to choose.
    name : str, optional
        What the sum is, in the reader's words, or a code that becomes words; else those over the
        column.
    key, better : str, optional
        Of the sum as a key figure: its name for machines, and which way is better.
    currency : str, optional
    conf_level : float
    ci_method : {"linearised"}
        Numbers and sums of each group are compound Poisson; the effects are linearised in them.

    Returns
    -------
    ValueChange
        Rows ``measure`` = ``"change"``, ``"volume_effect"``, ``"mix_effect"``,
        ``"rate_effect"``: the last three add up to the first, and are null where one of the
        periods is empty. `total`, `before` and `by_group` are key figures and a table of their own.

    Raises
    ------
    InputError
        Days that are not in order.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    With numbers :math:`n_g`, shares :math:`w_g`, mean values :math:`r_g`, all together :math:`N`
    and :math:`R = \sum_g w_g r_g`, and bars for the mean of both periods,

    .. math:: \Delta(NR) = \bar R \Delta N + \bar N \sum_g \bar r_g \Delta w_g
              + \bar N \sum_g \bar w_g \Delta r_g

    exactly. A group that is missing from one period counts there with the mean of the other: all
    its part is mix. Var(n) = n, Var(sum) = :math:`\sum x^2`, Cov = :math:`\sum x`.

    References
    ----------
    Kitagawa (1955), JASA 50:1168-1194 (rates and mix); Das Gupta (1993), *Standardization and
    Decomposition of Rates*, U.S. Bureau of the Census P23-186 (products of factors).
    """
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("linearised",))
    if not since < split_on <= as_of:
        raise InputError(
            f"The days {since}, {split_on} and {as_of} were given; they must follow one another: "
            "first day, first day of the second period, last day."
        )
    groups, unknown = _counts(records, group_col, value_col, at_col, since, split_on, as_of)
    n, total, squares = (
        groups.select(f"{what}_before", f"{what}_after").to_numpy().astype(np.float64)
        for what in ("n", "value", "variance")
    )
    found, error = _effects(n, total), _errors(n, total, squares)
    # The change needs no split: its variance is that of two sums, whatever is missing.
    error[0] = np.sqrt(squares.sum())
    if n.sum(axis=0).min() == 0:
        found[1:] = np.nan
    if not n.sum():
        found[:] = np.nan
    half = normal_quantile(conf_level) * error
    n_rows = [int(n.sum())] * len(EFFECTS)
    return ValueChange(
        table=pl.DataFrame(
            {
                "measure": list(EFFECTS),
                **five_columns(n_rows, found, error, found - half, found + half),
            }
        ),
        name=_named(name) if name else label_of(value_col),
        unit="money",
        definition=_(
            "Sum from {split_on} to {as_of}, held against that from {since} until then; the change "
            "is parted into that of the number, that of the groups' shares, and that of what one "
            "brings on average in each group.",
            split_on=date_text(split_on), as_of=date_text(as_of), since=date_text(since),
        ),
        by=("measure",),
        conf_level=conf_level,
        notes=_notes(unknown),
        currency=currency,
        key=key,
        better=better,
        groups=groups,
        totals=(float(total[:, 0].sum()), float(total[:, 1].sum())),
        group_col=group_col,
        reversed_everywhere=_is_reversed(n, total),
    )  # fmt: skip


def _named(name: str) -> str:
    words = word_of(name)
    return words[:1].upper() + words[1:]


def _notes(unknown: int) -> tuple[str, ...]:
    if not unknown:
        return ()
    return (_("The measure is not known for {n} rows.", n=number(unknown)),)


def _counts(
    records: object,
    group_col: str,
    value_col: str,
    at_col: str,
    since: date,
    split_on: date,
    as_of: date,
) -> tuple[pl.DataFrame, int]:
    """Count rows, sums and sums of squares by group and period; and rows of unknown value."""
    asked = {
        "group": Asked(group_col, "text", "group_col", nullable=True),
        "value": Asked(value_col, "number", "value_col", nullable=True),
    }
    frame = in_period(records, asked, at_col=at_col, since=since, as_of=as_of)
    after = nw.col("day") >= to_day_number(split_on)
    frame = frame.with_columns(
        nw.when(after).then(nw.lit("after")).otherwise(nw.lit("before")).alias("later"),
        nw.when(nw.col("value").is_null()).then(nw.lit(1)).otherwise(nw.lit(0)).alias("unknown"),
        (nw.col("value") * nw.col("value")).alias("square"),
    )
    cells = grouped(
        frame, (), nw.col("value").count().alias("n"), nw.col("value").sum(),
        nw.col("square").sum().alias("variance"), nw.col("unknown").sum(),
        beside=("group", "later"),
    )  # fmt: skip
    unknown = int(cells["unknown"].sum() or 0)
    groups = cells.select(pl.col("group").unique(maintain_order=True))
    for when in ("before", "after"):
        part = cells.filter(pl.col("later") == when).select(
            "group",
            pl.col("n").cast(pl.Int64).alias(f"n_{when}"),
            pl.col("value").cast(pl.Float64).alias(f"value_{when}"),
            pl.col("variance").cast(pl.Float64).alias(f"variance_{when}"),
        )
        groups = groups.join(part, on="group", how="left", nulls_equal=True)
    return groups.with_columns(pl.exclude("group").fill_null(0)).sort("group"), unknown


def _effects(n: Any, total: Any) -> Any:
    """Return change, volume, mix and rate effect of arrays of shape (groups, 2)."""
    size = n.sum(axis=0)
    mean = _mean_values(n, total)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = n / size
        whole = total.sum(axis=0) / size
    volume = (size[1] - size[0]) * whole.mean()
    mix = size.mean() * (mean.mean(axis=1) * (weight[:, 1] - weight[:, 0])).sum()
    rate = size.mean() * (weight.mean(axis=1) * (mean[:, 1] - mean[:, 0])).sum()
    return np.array([total[:, 1].sum() - total[:, 0].sum(), volume, mix, rate])


def _mean_values(n: Any, total: Any) -> Any:
    """Return mean values; where a group has no rows, that of the other period."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n
    other = mean[:, ::-1]
    there = n.real > 0
    return np.where(there, mean, np.where(there[:, ::-1], other, 0.0))


def _errors(n: Floats, total: Floats, squares: Floats) -> Floats:
    """Return the standard errors of the effects: derivatives times the covariances of cells."""
    variance = np.zeros(len(EFFECTS))
    for cell in np.argwhere(n > 0):
        place = tuple(cell)
        by_n, by_total = (_derivative(n, total, place, which) for which in (0, 1))
        variance += (
            by_n**2 * n[place] + 2 * by_n * by_total * total[place] + by_total**2 * squares[place]
        )
    return np.sqrt(np.maximum(variance, 0.0))


def _derivative(n: Floats, total: Floats, place: tuple[int, ...], which: int) -> Floats:
    moved = [n.astype(complex), total.astype(complex)]
    moved[which][place] += 1j * _STEP
    return np.asarray(_effects(*moved).imag / _STEP)


def _is_reversed(n: Floats, total: Floats) -> bool:
    """Whether the mean moved one way over all and the other way in every group (several)."""
    both = (n > 0).all(axis=1)
    if both.sum() < 2 or not both.all():
        return False
    whole = np.diff(total.sum(axis=0) / n.sum(axis=0))[0]
    each = np.diff(total / n, axis=1)[:, 0]
    return bool((each * np.sign(whole) < 0).all())
