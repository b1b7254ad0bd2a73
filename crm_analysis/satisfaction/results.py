"""How answers are shown: raw and shrunk side by side, over time, over the scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.estimates import (
    FIVE,
    Estimates,
    five_columns,
    group_label,
    groups_text,
    small_n_notes,
    withheld,
)
from crm_analysis.satisfaction.answers import (
    LEAST_GROUPS,
    RANKED,
    SHRUNK,
    Compared,
    Floats,
    Period,
    compare,
    float_column,
    score_text,
)
from crm_analysis.tables import label_of
from crm_analysis.uncertainty import linear_drift
from crm_analysis.wording import Unit, _, amount, number, percent, plural, signed, word_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from crm_analysis.uncertainty import Shrinkage

__all__ = ["ScoreEstimates", "ScoreShares", "estimated"]

MOST_ROWS = 40
"""A figure with more labelled rows than this cannot be read."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ScoreEstimates(Estimates):
    """What answers say, one row per group and period.

    With groups the table has, beside the usual five, ``shrunk``, ``shrunk_low`` and
    ``shrunk_high``: the estimate drawn toward the mean of all groups (`shrink_groups`, for
    shares `share_posterior`). ``rank_low`` and ``rank_high`` bound the rank among all groups
    compared (1 is the highest), and ``chance_best`` is the probability of being the highest.

    Attributes
    ----------
    period : {"month", "quarter", "year"} or None
        Calendar period of the column ``period``, which is then the last of `by`.
    p_value : float or None
        How surprising the differences between rows were if none differed (analysis of
        variance); None where it cannot be tested.
    between_sd : float or None
        Standard deviation between the true values of groups, in the estimate's unit.
    what : str
        What ``n`` counts, in the reader's words.
    """

    period: Period | None = None
    p_value: float | None = None
    between_sd: float | None = None
    what: str = ""

    columns_with_unit: ClassVar[tuple[str, ...]] = (*Estimates.columns_with_unit, *SHRUNK)
    compares_groups: ClassVar[bool] = True

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        ranks: dict[str, Unit] = {"rank_low": "count", "rank_high": "count", "chance_best": "share"}
        return super().units() | ranks

    def difference_p_value(self) -> float | None:
        """Return the p-value of the analysis of variance between rows."""
        return self.p_value

    def differ(self) -> bool:
        """Return whether a difference between rows is established."""
        return self.p_value is not None and self.p_value < 1 - self.conf_level

    def at_least(self, n: int) -> Self:
        """Return the same answer without the rows that rest on fewer than `n` answers.

        They stay in the comparison and in what the others are shrunk toward; only the sight
        of them is spared, and a note says how many they are. Where the whole would give them
        away, the next smallest goes with them.
        """
        away = withheld(self.table["n"].to_numpy(), n) | (self.table["n"] == 0).to_numpy()
        if not away.any():
            return self
        shown = self.table.filter(~pl.Series(away))
        hidden = self.table.filter(pl.col("n") < n).height
        beside = self.table.height - shown.height - hidden
        note = plural(
            hidden,
            "{n} group with fewer than {least} {what} is compared but not shown.",
            "{n} groups with fewer than {least} {what} are compared but not shown.",
            least=number(n),
            what=self.what,
        )
        small = small_n_notes(self.table, self.by, what=self.what)
        kept = (
            *small_n_notes(shown, self.by, what=self.what),
            *(said for said in self.notes if said not in small),
        )
        if beside:
            note += " " + _("The next smallest is left out too: from the whole and all others they "
                            "could be worked out.")  # fmt: skip
        return replace(self, table=shown, notes=(*kept, note))

    def sentence(self) -> str:
        """Return the finding; groups are named only where a difference is established."""
        known = self.table.drop_nulls("estimate")
        if self.period is not None and len(self.by) == 1 and known.height > 1:
            return self._trend_sentence(known)
        if not self.by or known.height < 2:
            return super().sentence()
        if not self.differ():
            return _(
                "{name} by {groups}: {verdict}.",
                name=self.name,
                groups=", ".join(label_of(name).lower() for name in self.by),
                verdict=self._difference_text(),
            )
        if self.between_sd is None:
            return super().sentence()
        return self._shrunk_sentence(known.drop_nulls("shrunk").sort("shrunk", maintain_order=True))

    def _shrunk_sentence(self, known: pl.DataFrame) -> str:
        # The raw extremes are those of the smallest groups: shrunk ones are compared instead.
        low, high = known.row(0, named=True), known.row(-1, named=True)
        return _(
            "{name}, drawn toward the mean of all, runs from {low} ({low_group}) to {high} "
            "({high_group}) over {k} groups; {verdict}.",
            name=self.name,
            low=amount(low["shrunk"], self.unit),
            low_group=group_label(low, self.by),
            high=amount(high["shrunk"], self.unit),
            high_group=group_label(high, self.by),
            k=number(known.height),
            verdict=self._difference_text(),
        )

    def _trend_sentence(self, known: pl.DataFrame) -> str:
        before, last = known.row(-2, named=True), known.row(-1, named=True)
        return _(
            "{name} in {last}: {value}; in {before}: {earlier}. Over {k} periods {drift}.",
            name=self.name,
            last=word_of(last["period"]),
            value=self.value_text(last),
            before=word_of(before["period"]),
            earlier=amount(before["estimate"], self.unit),
            k=number(known.height),
            drift=self._drift_text(),
        )

    def _drift_text(self) -> str:
        found = linear_drift(self.table["estimate"], self.table["std_error"], self.conf_level)
        if found is None:
            return _("whether it drifts cannot be tested")
        slope, low, high = found
        if low <= 0 <= high:
            return _("no drift up or down is established")
        told = {
            "size": signed(slope, self.unit),
            "level": percent(self.conf_level, 0),
            "low": signed(low, self.unit, bare=True),
            "high": signed(high, self.unit, bare=True),
        }
        if slope > 0:
            return _("it rises, by {size} a period ({level} interval {low} to {high})", **told)
        return _("it falls, by {size} a period ({level} interval {low} to {high})", **told)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw periods as lines, groups as points, raw and shrunk; return the Axes."""
        ax = figures.new_axes(ax)
        if self.period is not None:
            return self._plot_periods(ax)
        if self.by and self.table["shrunk"].null_count() < self.table.height:
            return self._plot_shrunk(ax)
        return super().plot(ax)

    def _plot_periods(self, ax: Axes) -> Axes:
        periods = sorted(self.table["period"].unique().to_list())
        numbered = self.table.with_columns(
            x=pl.col("period").replace_strict(periods, range(len(periods)), return_dtype=pl.Int64)
        )
        figures.curve(numbered, x="x", by=self.by[:-1], ax=ax)
        every = max(1, -(-len(periods) // 8))
        labels = [_on_two_lines(word_of(period)) for period in periods[::every]]
        ax.set_xticks(range(0, len(periods), every), labels)
        figures.write_units(ax, self.unit)
        ax.set_title(self.name)
        return ax

    def _plot_shrunk(self, ax: Axes) -> Axes:
        rows = self._rows_to_draw()
        labels = [group_label(row, self.by) for row in rows.to_dicts()]
        shrunk = rows.select(estimate="shrunk", conf_low="shrunk_low", conf_high="shrunk_high")
        figures.points(shrunk.with_columns(label=pl.Series(labels, dtype=pl.String)),
                       label="label", ax=ax, reference=self._centre())  # fmt: skip
        raw = [(v, i) for i, v in enumerate(rows["estimate"]) if v is not None]
        ax.scatter([v for v, _i in raw], [i for _v, i in raw], facecolors="none",
                   edgecolors="#777777", zorder=2, label=_("raw"))  # fmt: skip
        figures.write_units(ax, self.unit, axis="x")
        ax.set_title(_("{name}: shrunk with interval, raw as circles", name=self.name))
        return ax

    def _rows_to_draw(self) -> pl.DataFrame:
        # The order of a figure is a ranking: only a difference that is established makes one.
        rows = self.table.top_k(MOST_ROWS, by="n") if self.table.height > MOST_ROWS else self.table
        if self.differ():
            return rows.sort("shrunk", descending=True, nulls_last=True, maintain_order=True)
        return rows.sort(*self.by, nulls_last=True)

    def _centre(self) -> float | None:
        n = self.table["n"].sum()
        total = (self.table["estimate"] * self.table["n"]).sum()
        return float(total) / float(n) if n else None

    def _figure_height(self) -> float | None:
        if self.period is not None:
            return None
        return figures.height_for(min(self.table.height, MOST_ROWS))


def _on_two_lines(label: str) -> str:
    return "\n".join(label.rsplit(" ", 1))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ScoreShares(Estimates):
    """The share of answers that gave each score, one row per group and score."""

    def sentence(self) -> str:
        """Return the most frequent score of each group, or of all."""
        known = self.table.drop_nulls("estimate")
        if known.is_empty():
            return _("{name}: nobody has answered.", name=self.name)
        groups = self.by[:-1]
        if groups:
            return _("{name} in {k} groups.", name=self.name,
                     k=number(known.select(groups).unique().height))  # fmt: skip
        top = known.sort("estimate", "score", descending=True).row(0, named=True)
        return _(
            "The most frequent answer is {score}: {value}.",
            score=score_text(top["score"]),
            value=self.value_text(top),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw one bar per score, or one line per group, and return the Axes."""
        ax = figures.new_axes(ax)
        if len(self.by) > 1:
            figures.curve(self.table, x="score", by=self.by[:-1], ax=ax, band=False)
        else:
            ax.bar(self.table["score"], self.table["estimate"].fill_null(0.0), color="C0")
            ax.grid(visible=False, axis="x")
        figures.write_units(ax, "share")
        ax.set_ylim(bottom=0)
        ax.set_xlabel(_("Score"))
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None


def estimated(
    summary: pl.DataFrame,
    std_error: Floats,
    bounds: tuple[Floats, Floats],
    *,
    groups: tuple[str, ...],
    design_effect: float = 1.0,
    classes: Sequence[str] = (),
    share: str | None = None,
    ranked: bool = True,
    factor: float = 1.0,
    limits: tuple[float, float],
    name: str,
    unit: Unit,
    definition: str,
    notes: tuple[str, ...],
    conf_level: float,
    period: Period | None = None,
    what: str | None = None,
    key: str | None = None,
) -> ScoreEstimates:
    """Assemble an answer: raw estimates with intervals, and groups compared and shrunk.

    Parameters
    ----------
    summary : polars DataFrame
        As `summary_of` returns it; its means, `std_error` and `bounds` are multiplied by
        `factor` (100 for points).
    classes : sequence of str
        Columns of `summary` that the table keeps.
    share : str, optional
        The one of `classes` whose share is estimated: see `compare`.
    ranked : bool
        Whether groups are of a kind that is ranked.
    limits : tuple of float
        Least and most that the estimate can be.
    design_effect : float
        By which the variance of every mean is multiplied; `bounds` have it in them already.
    """
    low, high = bounds
    std_error = std_error * np.sqrt(design_effect)
    mean = float_column(summary, "mean")
    table = summary.select(*groups, "n", *classes).with_columns(
        **five_columns(
            summary["n"].to_numpy(), factor * mean, factor * std_error, factor * low, factor * high
        )
    )
    table = table.select(*groups, "n", *classes, *FIVE[1:])
    compared = (
        compare(summary, conf_level, design_effect, share)
        if groups
        else Compared(None, None, np.array([]))
    )
    if groups and period is None:
        table = table.with_columns(**_shrunk_columns(compared, factor, *limits))
        table = table.with_columns(**_rank_columns(compared)) if ranked else table
    shrunk = compared.shrunk if period is None else None
    answer = ScoreEstimates(
        table=table, name=name, unit=unit, by=groups, conf_level=conf_level,
        definition=_with_shrinkage(definition, shrunk, share=share is not None),
        period=period, p_value=compared.p_value,
        between_sd=None if shrunk is None else factor * float(np.sqrt(shrunk.between_variance)),
        what=what or _("answers"), key=key, better="higher",
    )  # fmt: skip
    return answer.with_notes(*notes, *_cautions(answer))


def _shrunk_columns(
    compared: Compared, factor: float, least: float, most: float
) -> dict[str, pl.Series]:
    columns = {}
    found = compared.shrunk
    bounds = (None, None, None) if found is None else (found.estimate, found.low, found.high)
    for name, values in zip(SHRUNK, bounds, strict=True):
        filled = np.full(len(compared.known), np.nan)
        if values is not None:
            filled[compared.known] = np.clip(values * factor, least, most)
        columns[name] = pl.Series(name, filled, pl.Float64).fill_nan(None)
    return columns


def _rank_columns(compared: Compared) -> dict[str, pl.Series]:
    columns = {}
    found = compared.ranks
    values = (None, None, None) if found is None else (found.low, found.high, found.best)
    for name, ranks in zip(RANKED, values, strict=True):
        filled = np.full(len(compared.known), np.nan)
        if ranks is not None:
            filled[compared.known] = ranks
        column = pl.Series(name, filled, pl.Float64).fill_nan(None)
        columns[name] = column if name == "chance_best" else column.cast(pl.Int64)
    return columns


def _with_shrinkage(definition: str, shrunk: Shrinkage | None, *, share: bool) -> str:
    if shrunk is None:
        return definition
    how = (
        _("Shrunk values draw each group toward the mean of all, the more the fewer its answers "
          "(beta-binomial model).")
        if share
        else _("Shrunk values draw each group toward the mean of all, the more the fewer its "
               "answers (empirical Bayes, one variance within groups).")
    )  # fmt: skip
    return f"{definition} {how}"


def _cautions(answer: ScoreEstimates) -> tuple[str, ...]:
    table, groups, what = answer.table, answer.by, answer.what
    if not table["n"].sum():
        return (_("There are no {what}: nothing can be said.", what=what),)
    notes = small_n_notes(table, groups, what=what)
    bare = table.filter(pl.col("estimate").is_not_null() & pl.col("conf_low").is_null())
    if bare.height:
        labels = groups_text([group_label(row, groups) for row in bare.to_dicts()])
        notes += (
            _("No interval can be given from one answer, or from answers that are all alike: "
              "{groups}.", groups=labels),
        )  # fmt: skip
    return notes + _comparison_note(answer)


def _comparison_note(answer: ScoreEstimates) -> tuple[str, ...]:
    n_known = answer.table.drop_nulls("estimate").height
    if not answer.by or answer.period is not None or n_known < 2:
        return ()
    if answer.between_sd is None:
        if n_known >= LEAST_GROUPS:
            return (_("Nothing is shrunk: within groups answers do not vary."),)
        return (_("Nothing is shrunk: that takes three groups or more."),)
    spread = amount(answer.between_sd, answer.unit)
    if answer.differ():
        return (
            _("Between groups the true values have a standard deviation of about {spread}. "
              "A rank is among all {k} groups compared, and known only within its bounds.",
              spread=spread, k=number(n_known)),
        )  # fmt: skip
    return (
        _("No difference between groups is established (standard deviation between their true "
          "values about {spread}): do not rank them.", spread=spread),
    )  # fmt: skip
