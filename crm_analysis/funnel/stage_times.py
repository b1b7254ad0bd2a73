"""How long leads stay in each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import MINUTES_PER_DAY
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    group_label,
    groups_text,
    labelled_groups,
    small_n_notes,
)
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    group_names,
)
from crm_analysis.funnel.lead_events import (
    Columns,
    check_ends,
    check_steps,
    open_events,
    stage_notes,
)
from crm_analysis.funnel.stays import OUTCOMES, StayCounts, count_stays, from_zero, together
from crm_analysis.survival import KaplanMeier, kaplan_meier, log_rank_p_value, quantile
from crm_analysis.wording import _, amount, date_text, interval_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TimeInStage", "time_in_stage"]


# Estimate ---------------------------------------------------------------------------------


def _curve(stays: StayCounts) -> KaplanMeier:
    """Return the curve of the time in one stage."""
    minutes, n_entered, n = from_zero(stays.minutes, stays.n)
    return kaplan_meier(minutes, n_entered, n[0] + n[1], n[2])


def _stage_rows(
    counts: Sequence[StayCounts], stages: tuple[str, ...], by: tuple[str, ...], conf_level: float
) -> pl.DataFrame:
    curves = [_curve(stays) for stays in counts]
    half = [quantile(curve, 0.5, conf_level) for curve in curves]
    most = [quantile(curve, 0.9, conf_level) for curve in curves]
    ended = np.array([stays.n.sum(axis=1) for stays in counts], np.int64).reshape(-1, len(OUTCOMES))
    unknown = np.full(len(counts), np.nan)
    table = pl.DataFrame(
        {name: [stays.group[name] for stays in counts] for name in by}
        | {"step": pl.Series([stays.step for stays in counts], dtype=pl.Int64)}
        | dict(zip(OUTCOMES, ended.T, strict=True))
    )
    table = table.with_columns(
        **five_columns(ended.sum(axis=1), _days(half, 0), unknown, _days(half, 1), _days(half, 2)),
        p90=pl.Series(_days(most, 0), dtype=pl.Float64).fill_nan(None),
        p90_low=pl.Series(_days(most, 1), dtype=pl.Float64).fill_nan(None),
        p90_high=pl.Series(_days(most, 2), dtype=pl.Float64).fill_nan(None),
    )
    names = pl.DataFrame({"step": range(1, len(stages)), "stage": stages[:-1]})
    if not by:  # without groups a stage that nobody entered is said to be empty
        table = names.join(table, on="step", how="left", maintain_order="left").with_columns(
            pl.col("n", *OUTCOMES).fill_null(0)
        )
    else:
        table = table.join(names, on="step", how="left", maintain_order="left")
    return table.select(
        *by, "step", "stage", *OUTCOMES,
        "n", "estimate", "std_error", "conf_low", "conf_high", "p90", "p90_low", "p90_high",
    )  # fmt: skip


def _days(quantiles: Sequence[tuple[float, float, float]], which: int) -> Any:
    return np.array([one[which] for one in quantiles], np.float64) / MINUTES_PER_DAY


def _slowest(counts: Sequence[StayCounts], by: tuple[str, ...]) -> tuple[int | None, float | None]:
    """Return the step with the longest known median, and whether groups differ in it."""
    medians: dict[int, float] = {}
    for step in sorted({stays.step for stays in counts}):
        whole = together([stays for stays in counts if stays.step == step])
        median = quantile(_curve(whole), 0.5).time
        if np.isfinite(median):
            medians[step] = median
    if not medians:
        return None, None
    step = max(medians, key=lambda one: medians[one])
    if not by:
        return step, None
    return step, log_rank_p_value([_curve(stays) for stays in counts if stays.step == step])


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TimeInStage(Estimates):
    """Time in each stage: one row per group and stage, medians in days.

    The table has, beside the usual five, ``step``, ``stage``, ``n_moved_on``, ``n_lost``,
    ``n_open``, ``p90``, ``p90_low`` and ``p90_high``; see `time_in_stage`.

    Attributes
    ----------
    slowest_stage : str or None
        The stage with the longest known median, all groups together.
    p_value : float or None
        Whether groups differ in that stage (log-rank).
    """

    slowest_stage: str | None = None
    p_value: float | None = None

    columns_with_unit: ClassVar[tuple[str, ...]] = (
        *Estimates.columns_with_unit,
        "p90",
        "p90_low",
        "p90_high",
    )

    def slowest(self) -> TimeInStage:
        """Return the rows of the slowest stage, one per group; none when no median is known."""
        name = _("Median days in a stage")
        if self.slowest_stage is not None:
            name = _("Median days in stage {stage}", stage=word_of(self.slowest_stage))
        return TimeInStage(
            table=self.table.filter(pl.col("stage") == (self.slowest_stage or "")),
            name=name, unit=self.unit, definition=self.definition, by=self.by,
            conf_level=self.conf_level, notes=self.notes,
            slowest_stage=self.slowest_stage, p_value=self.p_value,
            key=f"median_days_in_{self.slowest_stage}", better="lower",
        )  # fmt: skip

    def difference_p_value(self) -> float | None:
        """Return the p-value of the log-rank test between groups in the slowest stage."""
        return self.p_value

    def sentence(self) -> str:
        """Return in which stage leads stay longest, and how long."""
        slowest = self.slowest()
        if slowest.table.is_empty():
            return _("{name}: no median is known in any stage.", name=self.name)
        if self.by:
            one_stage = self.table["stage"].n_unique() == 1
            return self._groups_sentence() if one_stage else slowest.sentence()
        row = slowest.table.row(0, named=True)
        late = _("when 90% have left is not known")
        if row["p90"] is not None:
            late = _("90% have left after {days} days", days=amount(row["p90"], self.unit))
        return _(
            "Leads stay longest in stage {stage}: half have left it after {value}; {late}.",
            stage=word_of(row["stage"]),
            value=self.value_text(row),
            late=late,
        )

    def value_text(self, row: Mapping[str, Any]) -> str:
        """Write a median with its interval and n; its upper end may not be known yet."""
        days = _("{value} days", value=amount(row["estimate"], self.unit))
        n, low, high = number(row["n"]), row["conf_low"], row["conf_high"]
        if low is None:
            return _("{value} (n = {n}, no interval)", value=days, n=n)
        interval = interval_text(low, high, self.unit)
        if high is None:
            interval = _("from {low}, its end not yet known", low=amount(low, self.unit))
        level = percent(self.conf_level, 0)
        return _(
            "{value} ({level} interval {interval}, n = {n})",
            value=days, level=level, interval=interval, n=n,
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the medians with their intervals: all stages, or the slowest by group."""
        shown = self.slowest() if self.by else self
        table = labelled_groups(shown.table, self.by or ("stage",))
        ax = figures.new_axes(ax)
        figures.points(table, label="label", ax=ax)
        figures.write_units(ax, "days", axis="x")
        ax.set_xlim(left=0)
        ax.set_xlabel(_("Days until half have left"))
        ax.set_title(shown.name)
        return ax

    def _figure_height(self) -> float | None:
        return figures.height_for((self.slowest() if self.by else self).table.height)


def time_in_stage(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    stages: Sequence[str],
    end_stages: Sequence[str] = ("lost",),
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> TimeInStage:
    """How long leads stay in each stage before they leave it (Kaplan-Meier median).

    The time in a stage runs from a lead's first event of it to its first event, at the same
    moment or later, of a later listed stage (moved on) or of an end stage (lost). Either way of
    leaving ends it: whoever is lost has left, and to treat them as still waiting would make
    up time that nobody spends. Leads still there are censored at the end of `as_of`; the mean
    of finished stays alone would be too short. Going back to a stage starts no second stay.

    Parameters
    ----------
    events : table
        One row per event, on any backend; events after `as_of` are ignored.
    unit_col, stage_col, at_col : str
        Columns of the lead, the stage and the moment (a date counts as its midnight).
    stages : sequence of str
        At least two stages in their order; no time is counted for the last, where leads are going.
    end_stages : sequence of str
        Stages in which a lead ends without having moved on; none may be in `stages`.
    as_of : date
        Last day the data covers, to its end.
    by : str or sequence of str
        Group columns, the same in all events of a lead.
    conf_level : float
    ci_method : {"log-log"}
        Brookmeyer-Crowley interval on the log(-log) scale.

    Returns
    -------
    TimeInStage
        One row per group and stage but the last: ``step``, ``stage``, ``n`` (leads that came to
        it), ``n_moved_on``, ``n_lost``, ``n_open`` (how they left, or not), ``estimate`` (median
        days, whole minutes), ``conf_low``, ``conf_high``, and ``p90`` (days after which 90 % have
        left), ``p90_low``, ``p90_high``. Null where too few have left for it to be known; a
        median has no standard error, so ``std_error`` is null.

    Raises
    ------
    InputError
        Fewer than two stages, a stage listed twice or also as an end, a lead in several
        groups, an `as_of` before every event.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Kaplan & Meier (1958), JASA 53:457-481; Brookmeyer & Crowley (1982), Biometrics 38:29-41.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> events = pl.DataFrame({
    ...     "opportunity_id": [1, 1, 2, 2, 3],
    ...     "stage": ["contact", "visit", "contact", "lost", "contact"],
    ...     "happened_at": [date(2026, 1, day) for day in (1, 3, 1, 6, 1)],
    ... })
    >>> times = time_in_stage(events, stages=["contact", "visit"], as_of=date(2026, 1, 20))
    >>> times.table.select("stage", "n", "n_moved_on", "n_lost", "n_open", "estimate").rows()
    [('contact', 3, 1, 1, 1, 5.0)]
    """
    names = check_steps(stages, "stages")
    ends = check_ends(names, end_stages)
    check_one_of("ci_method", ci_method, ("log-log",))
    as_of, by = check_as_of(as_of), group_names(by)
    conf_level = check_conf_level(conf_level)
    columns = Columns(unit_col, stage_col, at_col)
    frame = open_events(events, columns, by)
    notes = stage_notes(frame, names, columns=columns, as_of=as_of)
    counts = count_stays(frame, columns=columns, stages=names, end_stages=ends, as_of=as_of, by=by)
    table = _stage_rows(counts, names, by, conf_level)
    step, p_value = _slowest(counts, by)
    return TimeInStage(
        table=table,
        name=_("Median days in each stage"),
        unit="days",
        definition=_definition(names, ends, as_of),
        by=by,
        conf_level=conf_level,
        notes=(*notes, *_notes(table, by)),
        slowest_stage=None if step is None else names[step - 1],
        p_value=p_value,
    )


def _definition(stages: tuple[str, ...], ends: tuple[str, ...], as_of: date) -> str:
    lost = _(" or is {ends}", ends=", ".join(map(word_of, ends))) if ends else ""
    return _(
        "Days from a lead's first event of a stage until it moves on to a later one of {stages}"
        "{lost}; leads still there on {day} are censored, not left out (Kaplan-Meier; interval by "
        "Brookmeyer and Crowley, log-log).",
        stages=", ".join(map(word_of, stages)),
        lost=lost,
        day=date_text(as_of),
    )


def _notes(table: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    entered = table.filter(pl.col("n") > 0)
    if entered.is_empty():
        return (_("There are no leads: nothing can be said."),)
    notes = []
    for column, share in (("estimate", 0.5), ("p90", 0.9)):
        unknown = entered.filter(pl.col(column).is_null())
        if unknown.height:
            rows = [group_label(row, (*by, "stage")) for row in unknown.to_dicts()]
            notes.append(
                _("Fewer than {share} are known to have left, so the time is not known, in: "
                  "{groups}.", share=percent(share, 0), groups=groups_text(rows))
            )  # fmt: skip
    return (*notes, *small_n_notes(table, (*by, "stage"), what=_("leads")))
