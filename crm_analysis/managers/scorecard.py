"""All that is known of each manager's work on one card, and what of it is more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import special

from crm_analysis import figures
from crm_analysis.blocks import Block, BlockTable, Column
from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import Estimates, five_columns, group_label, groups_text
from crm_analysis.frames import check_conf_level, group_names
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import ABSENT, _, amount, interval_text, number, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ManagerScorecard", "manager_scorecard"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ManagerScorecard(Estimates):
    """Estimates of several kinds, one row per manager and kind.

    Attributes
    ----------
    results : mapping of str to Estimates
        What stands on the card, by its label.
    lower_is_better : frozenset of str
        Labels of which less is better.
    """

    results: Mapping[str, Estimates] = field(default_factory=dict)
    lower_is_better: frozenset[str] = frozenset()

    def sentence(self) -> str:
        """Name who is better or worse than the team beyond chance, and in what."""
        flagged = self.table.filter(pl.col("flag").is_not_null())
        who = self.by[:-1]
        managers = self.table.select(who).n_unique()
        if flagged.is_empty():
            return _(
                "Of the {n} compared nobody differs from the rest in anything by more than chance.",
                n=number(managers),
            )
        flags: dict[str, list[str]] = {}
        for row in flagged.to_dicts():
            said_of = flags.setdefault(group_label(row, who), [])
            said_of.append(f"{row['measure']}: {word_of(row['flag'])}")
        said = [f"{name} ({'; '.join(told)})" for name, told in flags.items()]
        return _(
            "Of the {n} compared, these differ from the rest by more than chance: {groups}.",
            n=number(managers), groups=groups_text(said),
        )  # fmt: skip

    def show(self, *, title: str | None = None, figure: bool = False, table: bool = True) -> Block:
        """Return the block that a page shows: the card, one row a manager."""
        del figure  # unlike measures share no axis
        return Block(
            title=title, finding=self.sentence(), table=self._card() if table else None,
            definition=self.definition, notes=self.notes,
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how far each manager lies from the team in standard errors, and return the Axes."""
        ax = figures.new_axes(ax)
        rows = self.table.drop_nulls("z").with_columns(
            label=pl.Series(
                [group_label(row, self.by) for row in self.table.drop_nulls("z").to_dicts()],
                dtype=pl.String,
            ),
            conf_low=pl.lit(None, pl.Float64), conf_high=pl.lit(None, pl.Float64),
        )  # fmt: skip
        figures.points(rows, label="label", value="z", ax=ax, reference=0.0)
        ax.set_title(self.name)
        return ax

    def _card(self) -> BlockTable:
        who = self.by[:-1]
        first = next(iter(self.results))
        columns = [Column("manager", _("Who")), Column("n", _("n"), "integer")]
        columns += [Column(f"m{i}", label) for i, label in enumerate(self.results)]
        rows = []
        for part in self.table.partition_by(who, maintain_order=True):
            cells = {row["measure"]: row for row in part.to_dicts()}
            n = cells[first]["n"] if first in cells else None
            rows.append(
                (
                    group_label(part.row(0, named=True), who), number(n),
                    *(self._cell(label, cells.get(label)) for label in self.results),
                )
            )  # fmt: skip
        return BlockTable(tuple(columns), tuple(rows))

    def _cell(self, label: str, row: Mapping[str, Any] | None) -> str:
        if row is None or row["estimate"] is None:
            return ABSENT
        result = self.results[label]
        value = amount(row["estimate"], result.unit, currency=result.currency)
        if row["conf_low"] is None or row["conf_high"] is None:
            return value
        interval = interval_text(
            row["conf_low"], row["conf_high"], result.unit, currency=result.currency
        )
        mark = f" · {word_of(row['flag'])}" if row["flag"] is not None else ""
        return f"{value} ({interval}){mark}"


def manager_scorecard(
    results: Mapping[str, Estimates],
    *,
    lower_is_better: tuple[str, ...] = (),
    least_n: int = 1,
    by: str | tuple[str, ...] = (),
    conf_level: float = 0.95,
    ci_method: str = "holm",
) -> ManagerScorecard:
    r"""Who does better or worse than the team, in what, beyond chance (Holm over all managers).

    Parameters
    ----------
    results : mapping of label to Estimates
        Each with one row a manager, grouped by `by`.
    lower_is_better : tuple of str
        Labels of which less is better, such as minutes to the answer.
    least_n : int
        Managers for whom no result counts so many are left out and noted.
    by : str or tuple of str
        The columns that name a manager in every result.
    conf_level : float
        A flag is shown where Holm's adjusted p-value is below ``1 - conf_level``.
    ci_method : {"holm"}

    Returns
    -------
    ManagerScorecard
        Columns of `by`, ``measure``, ``n``, ``estimate``, ``std_error``, ``conf_low``,
        ``conf_high``, ``team`` (the others together, weighted by n), ``z``, ``p_value`` (Holm over
        the managers of one measure), ``flag`` (``better``, ``worse`` or null: not established).

    Raises
    ------
    InputError
        No result, one that is not grouped by `by` alone, or labels that are not there.

    Notes
    -----
    .. math:: z_i = \frac{y_i - \bar y_{-i}}{\sqrt{s_i^2 + s_{-i}^2}}

    where the error is half the interval's width by the normal quantile, so that it is that of the
    interval shown. There is no rank: an order of unequal chances rewards luck.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    names = group_names(by, taken=("measure", "team", "z", "p_value", "flag"))
    conf_level = check_conf_level(conf_level)
    if ci_method != "holm":
        raise InputError(f"'ci_method' was given as {ci_method!r}. It takes: holm.")
    _check_results(results, names, lower_is_better)
    parts = [
        _against_team(label, result, names, conf_level, label in lower_is_better)
        for label, result in results.items()
    ]
    table = pl.concat(parts, how="vertical_relaxed")
    enough = table.group_by(names).agg(pl.col("n").max()).filter(pl.col("n") >= least_n)
    small = table.select(names).n_unique() - enough.height
    table = table.join(enough.select(names), on=list(names), how="semi", nulls_equal=True)
    table = table.sort(names, nulls_last=True, maintain_order=True)
    notes = (
        (_("{k} with fewer than {n} cases each are not shown.", k=number(small),
           n=number(least_n)),) if small else ()
    )  # fmt: skip
    return ManagerScorecard(
        table=table, name=_("Managers' work"), unit="number",
        definition=_(
            "Each figure of a manager with its interval; better or worse than the rest of the team "
            "only where that is established after correcting for how many managers are compared; "
            "n is that of the first figure."
        ),
        by=(*names, "measure"), conf_level=conf_level, notes=notes, results=dict(results),
        lower_is_better=frozenset(lower_is_better),
    )  # fmt: skip


def _check_results(
    results: Mapping[str, Estimates], names: tuple[str, ...], lower: tuple[str, ...]
) -> None:
    if not results or not names:
        raise InputError(
            "A card of managers was asked for without a result or without 'by'. Pass a mapping of "
            "labels to estimates, and the columns that name a manager in each."
        )
    for label, result in results.items():
        if result.by != names:
            raise InputError(
                f"The result {label!r} is by {listed(result.by)}, and the card is by "
                f"{listed(names)}. Compute it by the same columns."
            )
    unknown = [label for label in lower if label not in results]
    if unknown:
        raise InputError(
            f"Less was said to be better of {listed(unknown)}; the card has {listed(results)}."
        )


def _against_team(
    label: str, result: Estimates, names: tuple[str, ...], conf_level: float, lower: bool
) -> pl.DataFrame:
    # What nobody is responsible for says nothing of anybody.
    table = result.table.drop_nulls(names)
    estimate, n = (table[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in
                   ("estimate", "n"))  # fmt: skip
    low, high = (table[c].fill_null(np.nan).to_numpy() for c in ("conf_low", "conf_high"))
    error = (high - low) / (2 * normal_quantile(result.conf_level))
    usable = np.isfinite(estimate) & np.isfinite(error) & (error > 0) & (n > 0)
    weight = np.where(usable, n, 0.0)
    value, spread = np.where(usable, estimate, 0.0), np.where(usable, error, 0.0)
    rest = weight.sum() - weight
    with np.errstate(divide="ignore", invalid="ignore"):
        team = (np.sum(weight * value) - weight * value) / rest
        others = (np.sum((weight * spread) ** 2) - (weight * spread) ** 2) / rest**2
        z = np.where(usable, (estimate - team) / np.sqrt(error**2 + others), np.nan)
    p = _holm(2 * special.ndtr(-np.abs(z)))
    better = (z < 0) if lower else (z > 0)
    flags = [
        None if not (chance < 1 - conf_level) else ("better" if good else "worse")
        for chance, good in zip(p, better, strict=True)
    ]
    extra = {"team": team, "z": z, "p_value": p}
    return table.select(names).with_columns(
        measure=pl.lit(label),
        **five_columns(np.nan_to_num(n), estimate, table["std_error"].fill_null(np.nan).to_numpy(),
                       low, high),
        **{name: pl.Series(values, dtype=pl.Float64).fill_nan(None)
           for name, values in extra.items()},
        flag=pl.Series(flags, dtype=pl.String),
    )  # fmt: skip


def _holm(p: Any) -> Any:
    """Return Holm's adjusted p-values; what is not known stays so."""
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else []
    return adjusted
