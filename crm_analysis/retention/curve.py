"""What share of relationships has not ended after so long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import TIME_UNITS, TimeUnit, keys_per_unit
from crm_analysis.estimates import SMALL_N, Estimates, five_columns, group_label, small_n_notes
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.retention.spells import (
    count_exits,
    curve_of,
    labelled,
    last_at,
    parts_of,
    watched_at,
    whole_units,
)
from crm_analysis.uncertainty import log_log_interval, wilson_interval
from crm_analysis.wording import _, date_text, duration_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RetentionCurve", "retention_curve", "time_axis"]

Floats = NDArray[np.float64]


# Estimate ---------------------------------------------------------------------------------


def _curve_rows(counts: pl.DataFrame, unit: TimeUnit, conf_level: float) -> pl.DataFrame:
    km = curve_of(counts)
    grid = whole_units(counts, unit)
    keys = grid * keys_per_unit(unit)
    at = last_at(counts, keys)
    survival = np.where(at >= 0, km.survival[at], 1.0)
    std_error = np.where(at >= 0, km.std_error[at], 0.0)
    exits = np.concatenate([[0], np.cumsum(km.n_exits)])[at + 1]
    watched = watched_at(counts, keys)
    low, high = _survival_bounds(survival, std_error, watched, conf_level)
    total = int(counts["n_entered"].sum())
    return pl.DataFrame(
        {
            "time": grid,
            "n_at_risk": watched,
            "n_exits": np.diff(exits, prepend=0).astype(np.int64),
            **five_columns(np.full(len(grid), total), survival, std_error, low, high),
        }
    )


def _survival_bounds(
    survival: Floats, std_error: Floats, at_risk: NDArray[Any], conf_level: float
) -> tuple[Floats, Floats]:
    low, high = log_log_interval(survival, std_error, conf_level)
    # Before the first exit log(-log) is undefined, but all of those still observed have stayed.
    all_stay = wilson_interval(at_risk, at_risk, conf_level)[0]
    return np.where(survival == 1, all_stay, low), np.where(survival == 1, 1.0, high)


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RetentionCurve(Estimates):
    """A retention curve: one row per group and completed unit of time.

    The table has, beside the usual five, ``time`` (completed units), ``n_at_risk`` (spells
    under observation at that time) and ``n_exits`` (ended since the row before).
    """

    time_unit: TimeUnit = "month"

    def at(self, time: int) -> pl.DataFrame:
        """Return the rows at one completed time, one per group that was observed so long."""
        return self.table.filter(pl.col("time") == time)

    def best_known_time(self) -> int:
        """Return the longest whole year (or unit) at which enough spells are still observed."""
        many = pl.max_horizontal(SMALL_N, 0.1 * pl.col("n"))
        # Of few customers, half of them have to do.
        enough = pl.col("n_at_risk") >= pl.min_horizontal(many, 0.5 * pl.col("n"))
        longest = self.table.filter(enough).group_by(self.by or pl.lit(0)).agg(pl.col("time").max())
        time = min(longest["time"].drop_nulls().to_list(), default=0)
        year = {"day": 365, "week": 52, "month": 12, "year": 1}[self.time_unit]
        return time // year * year or time

    def sentence(self) -> str:
        """Return what share stays for how long, at the longest time that is well observed."""
        if self.table.is_empty():
            return _("{name}: nobody was observed.", name=self.name)
        time = self.best_known_time()
        if self.by:
            return self.after(time).sentence()
        row = self.at(time).row(0, named=True)
        return _(
            "After {time} the share still with us is {value}.",
            time=duration_text(time, self.time_unit),
            value=self.value_text(row),
        )

    def after(self, time: int) -> Estimates:
        """Return the share still with us after `time` completed units, one row per group.

        A group that was not observed for so long has a null estimate.
        """
        groups = self.table.filter(pl.col("time") == 0).select(*self.by, "n")
        if not self.by and groups.is_empty():
            groups = pl.DataFrame({"n": [0]}, schema={"n": pl.Int64})
        known = self.at(time).drop("n")
        on = ["time", *self.by]
        rows = (
            groups.with_columns(time=pl.lit(time, pl.Int64))
            .join(known, on=on, how="left", nulls_equal=True)
            .drop("time")
        )
        late = rows.filter(pl.col("estimate").is_null()).height
        return Estimates(
            table=rows,
            name=_("Still with us after {time}", time=duration_text(time, self.time_unit)),
            unit=self.unit,
            definition=self.definition,
            by=self.by,
            conf_level=self.conf_level,
            notes=(_("Nobody has been observed for so long."),) if late else (),
            key=f"retention_after_{time}_{self.time_unit}s",
            better="higher",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curve as steps with its interval and the number at risk, return the Axes."""
        ax = figures.new_axes(ax)
        figures.curve(self.table, x="time", by=self.by, ax=ax, step=True)
        figures.write_units(ax, "share")
        ax.set_ylim(0, 1.02)
        figures.time_axis(ax, self.table, x="time", by=self.by, n="n_at_risk",
                          step=12 if self.time_unit == "month" else 1,
                          label=_("Observed"))  # fmt: skip
        ax.set_xlabel(time_axis(self.time_unit))
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None


def time_axis(unit: TimeUnit) -> str:
    """Return the words for an axis of completed units."""
    return {
        "day": _("Completed days"),
        "week": _("Completed weeks"),
        "month": _("Completed months"),
        "year": _("Completed years"),
    }[unit]


def retention_curve(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    unit: TimeUnit = "month",
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> RetentionCurve:
    """What share of relationships has not ended after t completed units (Kaplan-Meier).

    Parameters
    ----------
    spells : table
        One row per relationship, on any backend.
    start_col, end_col : str
        Columns of its first and last day; a null end is still open at `as_of`.
    entry_col : str, optional
        Column of the day from which it was observed, for customers who predate the CRM;
        without it they would look immortal until the CRM came (left truncation).
    unit : {"day", "week", "month", "year"}
        Unit of time; durations are exact to the day, in calendar months and years.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        Group columns, one curve each.
    conf_level : float
    ci_method : {"log-log"}
        Greenwood's variance on the log(-log) scale; before the first exit Wilson's lower bound
        for those still observed; null once everybody has gone.

    Returns
    -------
    RetentionCurve
        Columns of `by`, ``time``, ``n_at_risk``, ``n_exits``, ``n`` (spells counted),
        ``estimate`` (share, 0 to 1), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        Spells that end before they start, an unknown unit, `as_of` that is not a date.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    Assumes that censoring says nothing about leaving. Ties and exits on the first day count.

    References
    ----------
    Kaplan & Meier (1958), JASA 53:457-481; Greenwood (1926); Kalbfleisch & Prentice (1980).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> spells = pl.DataFrame({
    ...     "started_on": [date(2024, 1, 15)] * 4,
    ...     "ended_on": [date(2024, 3, 15), date(2024, 5, 1), None, None],
    ... })
    >>> curve = retention_curve(spells, as_of=date(2024, 7, 20))
    >>> curve.table["estimate"].to_list()
    [1.0, 1.0, 0.75, 0.75, 0.5, 0.5, 0.5]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    check_one_of("unit", unit, TIME_UNITS)
    check_one_of("ci_method", ci_method, ("log-log",))
    conf_level = check_conf_level(conf_level)
    counts = count_exits(
        spells, start_col=start_col, end_col=end_col, entry_col=entry_col,
        as_of=as_of, unit=unit, by=by,
    )  # fmt: skip
    table = _curves(counts, by, unit, conf_level)
    return RetentionCurve(
        table=table,
        name=_("Retention"),
        unit="share",
        definition=_definition(as_of, unit, entry_col),
        by=by,
        conf_level=conf_level,
        notes=_notes(table, by, unit),
        time_unit=unit,
    )


def _curves(
    counts: pl.DataFrame, by: tuple[str, ...], unit: TimeUnit, conf_level: float
) -> pl.DataFrame:
    if counts.is_empty():
        empty = five_columns([], [], [], [], [])
        return pl.DataFrame(
            {
                **{name: pl.Series(name, [], counts.schema[name]) for name in by},
                **{c: pl.Series(c, [], pl.Int64) for c in ("time", "n_at_risk", "n_exits")},
                **empty,
            }
        )
    rows = [
        labelled(group, _curve_rows(part, unit, conf_level)) for group, part in parts_of(counts, by)
    ]
    return pl.concat(rows)


def _definition(as_of: date, unit: TimeUnit, entry_col: str | None) -> str:
    text = _(
        "Share of relationships not ended after so many completed {unit}, by Kaplan-Meier; "
        "those still open on {as_of} count as observed until then.",
        unit=time_axis(unit).split()[-1],
        as_of=date_text(as_of),
    )
    if entry_col is not None:
        text += " " + _("Relationships begun before they were observed count from then on only.")
    return text


def _notes(table: pl.DataFrame, by: tuple[str, ...], unit: TimeUnit) -> tuple[str, ...]:
    if table.is_empty():
        return (_("No relationship had begun by then: there is nothing to count."),)
    notes = small_n_notes(table.filter(pl.col("time") == 0), by, what=_("relationships"))
    thin = table.filter((pl.col("n_at_risk") < SMALL_N) & (pl.col("time") > 0))
    if not thin.is_empty() and not notes:
        first = thin.sort("time").row(0, named=True)
        where = f" ({group_label(first, by)})" if by else ""
        notes += (
            _(
                "From {time} on fewer than {n} are still observed{where}: read the end of the "
                "curve with care.",
                time=duration_text(first["time"], unit),
                n=number(SMALL_N),
                where=where,
            ),
        )
    late = table.filter((pl.col("estimate") == 0) & (pl.col("n_at_risk") > 0))
    if not late.filter(pl.col("n_exits") == 0).is_empty():
        notes += (
            _(
                "At some time all who were then observed had gone; those who came under "
                "observation later cannot raise the curve again."
            ),
        )
    if table["estimate"].min() == 0:
        notes += (_("Where everybody has gone the interval is undefined."),)
    return notes
