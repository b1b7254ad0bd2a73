"""What ended relationships, when several causes compete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import TIME_UNITS, TimeUnit, keys_per_unit
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    group_names,
)
from crm_analysis.retention.curve import time_axis
from crm_analysis.retention.spells import (
    COUNTS,
    count_causes,
    labelled,
    last_at,
    parts_of,
    watched_at,
    whole_units,
)
from crm_analysis.survival import CumulativeIncidence, aalen_johansen
from crm_analysis.uncertainty import log_log_interval, wilson_interval
from crm_analysis.wording import _, date_text, duration_text, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DepartureCauses", "departure_causes", "incidences"]

Floats = NDArray[np.float64]


# Estimate ---------------------------------------------------------------------------------


def _incidence(counts: pl.DataFrame, causes: pl.DataFrame, kinds: list[str | None]) -> tuple[
    CumulativeIncidence, NDArray[np.int64]
]:  # fmt: skip
    exits = np.zeros((len(kinds), counts.height), np.int64)
    place = {key: i for i, key in enumerate(counts["key"].to_list())}
    for cause, key, n in causes.select("cause", "key", "n_exits").iter_rows():
        exits[kinds.index(cause), place[key]] = n
    columns = [counts[name].to_numpy() for name in COUNTS]
    return aalen_johansen(columns[0], columns[1], exits, columns[3]), exits


def _bounds(incidence: Floats, std_error: Floats, watched: Floats, conf_level: float) -> tuple[
    Floats, Floats
]:  # fmt: skip
    low, high = log_log_interval(incidence, std_error, conf_level)
    # Before the first end of a cause log(-log) is undefined, but all still observed were spared.
    none = wilson_interval(np.zeros_like(watched), watched, conf_level)[1]
    nothing = incidence == 0
    return np.where(nothing, 0.0, low), np.where(nothing, none, high)


def _rows(
    counts: pl.DataFrame,
    causes: pl.DataFrame,
    kinds: list[str | None],
    unit: TimeUnit,
    conf_level: float,
) -> pl.DataFrame:
    found, exits = _incidence(counts, causes, kinds)
    grid = whole_units(counts, unit)
    keys = grid * keys_per_unit(unit)
    at, watched = last_at(counts, keys), watched_at(counts, keys)
    total = np.full(len(grid), int(counts["n_entered"].sum()))
    parts = []
    for which, kind in enumerate(kinds):
        share = np.where(at >= 0, found.incidence[which][at], 0.0)
        error = np.where(at >= 0, found.std_error[which][at], 0.0)
        ended = np.concatenate([[0], np.cumsum(exits[which])])[at + 1]
        low, high = _bounds(share, error, watched.astype(np.float64), conf_level)
        five = five_columns(total, share, error, low, high)
        own = pl.DataFrame(
            {
                "cause": pl.Series("cause", [kind] * len(grid), pl.String),
                "time": grid,
                "n_at_risk": watched,
                "n_exits": np.diff(ended, prepend=0).astype(np.int64),
                **five,
            }
        )
        parts.append(own)
    return pl.concat(parts)


def _table(
    counts: pl.DataFrame,
    causes: pl.DataFrame,
    by: tuple[str, ...],
    unit: TimeUnit,
    conf_level: float,
) -> pl.DataFrame:
    kinds = causes["cause"].cast(pl.String).unique(maintain_order=True).to_list()
    kinds = sorted(kinds, key=lambda kind: (kind is None, kind))
    causes = causes.with_columns(pl.col("cause").cast(pl.String))
    parts = []
    for group, part in parts_of(counts, by) if kinds else []:
        own = group.join(causes, on=by, nulls_equal=True) if by else causes
        parts.append(labelled(group, _rows(part, own, kinds, unit, conf_level)))
    if parts:
        return pl.concat(parts)
    whole = ("time", "n_at_risk", "n_exits")
    return pl.DataFrame(
        {
            **{name: pl.Series(name, [], counts.schema[name]) for name in by},
            "cause": pl.Series("cause", [], pl.String),
            **{name: pl.Series(name, [], pl.Int64) for name in whole},
            **five_columns([], [], [], [], []),
        }
    )


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DepartureCauses(Estimates):
    """Cumulative incidence of each cause: one row per group, cause and completed unit of time.

    The table has, beside the usual five, ``cause``, ``time``, ``n_at_risk`` (spells under
    observation) and ``n_exits`` (ended of this cause since the row before). At each time the
    estimates of a group sum to the share that has ended at all.

    Attributes
    ----------
    groups : tuple of str
        The group columns without ``cause``.
    """

    groups: tuple[str, ...] = ()
    time_unit: TimeUnit = "month"

    def after(self, time: int) -> Estimates:
        """Return the share ended of each cause after `time` completed units.

        A group that was not observed for so long has no row.
        """
        return Estimates(
            table=self.table.filter(pl.col("time") == time).drop("time"),
            name=_("Ended within {time}", time=duration_text(time, self.time_unit)),
            unit=self.unit,
            definition=self.definition,
            by=self.by,
            conf_level=self.conf_level,
        )

    def last_known_time(self) -> int:
        """Return the longest whole year at which a tenth of the spells is still observed."""
        enough = self.table.filter(pl.col("n_at_risk") >= 0.1 * pl.col("n"))
        longest = enough.group_by(self.groups or pl.lit(0)).agg(pl.col("time").max())
        time = min(longest["time"].drop_nulls().to_list(), default=0)
        year = {"day": 365, "week": 52, "month": 12, "year": 1}[self.time_unit]
        return time // year * year or time

    def sentence(self) -> str:
        """Return what has become of relationships, at the longest time that is well observed."""
        if self.table.is_empty():
            return _("{name}: no relationship has ended.", name=self.name)
        time = self.last_known_time()
        if self.groups:
            return self._groups_text(time)
        rows = self.table.filter(pl.col("time") == time).sort("estimate", descending=True)
        parts = [
            f"{word_of(row['cause'])} {self.value_text(row)}" for row in rows.iter_rows(named=True)
        ]
        return _(
            "Within {time} relationships have ended like this: {causes}.",
            time=duration_text(time, self.time_unit),
            causes="; ".join(parts),
        )

    def _groups_text(self, time: int) -> str:
        rows = self.table.filter(pl.col("time") == time)
        most = rows.group_by("cause").agg(pl.col("estimate").mean()).sort("estimate")
        if most.is_empty():
            return _("{name}: no group was observed long enough.", name=self.name)
        cause = most["cause"][-1]
        compared = replace(
            self.after(time),
            table=rows.filter(pl.col("cause").eq_missing(pl.lit(cause))),
            by=self.groups,
            name=_(
                "{cause} within {time}",
                cause=word_of(cause).capitalize(),
                time=duration_text(time, self.time_unit),
            ),
        )
        return compared.sentence()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share ended of each cause over time and return the Axes.

        Of groups, the shares at the longest time that is well observed.
        """
        if self.groups:
            return self.after(self.last_known_time()).plot(ax)
        ax = figures.new_axes(ax)
        figures.curve(self.table, x="time", by=self.by, ax=ax, step=True)
        figures.write_units(ax, "share")
        ax.set_ylim(bottom=0)
        step = 12 if self.time_unit == "month" else 1
        counted = self.table
        if counted.height:
            counted = counted.filter(pl.col("cause").eq_missing(pl.lit(counted["cause"][0])))
        figures.time_axis(ax, counted, x="time", n="n_at_risk",
                          step=step, label=_("Observed"))  # fmt: skip
        ax.set_xlabel(time_axis(self.time_unit))
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        if not self.groups:
            return None
        rows = self.table.filter(pl.col("time") == self.last_known_time()).height
        return figures.height_for(rows)


# Ask --------------------------------------------------------------------------------------


def departure_causes(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    cause_col: str = "cause",
    unit: TimeUnit = "month",
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> DepartureCauses:
    """What share has ended of each cause after t completed units (Aalen-Johansen).

    Parameters
    ----------
    spells, start_col, end_col, entry_col, unit, as_of, by, conf_level
        As for `retention_curve`.
    cause_col : str
        Column that says what ended the relationship; null while it is open. An end whose cause
        is null is of an unknown cause, counted as one more.
    ci_method : {"log-log"}
        Greenwood-type variance (see `crm_analysis.survival.aalen_johansen`) on the log(-log)
        scale of the share; before the first end of a cause 0 to Wilson's upper bound for those
        still observed; null once everybody has ended of one cause.

    Returns
    -------
    DepartureCauses
        Columns of `by`, ``cause``, ``time``, ``n_at_risk``, ``n_exits``, ``n``, ``estimate``
        (share, 0 to 1), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        Spells that end before they start, an unknown unit, `as_of` that is not a date.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    One minus Kaplan-Meier of one cause, with the others censored, is larger: it says what would
    happen if nothing else ever did. Assumes that censoring says nothing about leaving.

    References
    ----------
    Aalen & Johansen (1978), Scand. J. Statistics 5:141-150; Choudhury (2002), Statistics in
    Medicine 21:1129-1144 (the interval).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> spells = pl.DataFrame({
    ...     "started_on": [date(2024, 1, 15)] * 4,
    ...     "ended_on": [date(2024, 3, 15), date(2024, 3, 15), date(2024, 5, 15), None],
    ...     "cause": ["moved", "bought_elsewhere", "moved", None],
    ... })
    >>> causes = departure_causes(spells, as_of=date(2024, 7, 20))
    >>> causes.after(5).table.select("cause", "estimate").rows()
    [('bought_elsewhere', 0.25), ('moved', 0.5)]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    check_one_of("unit", unit, TIME_UNITS)
    check_one_of("ci_method", ci_method, ("log-log",))
    conf_level = check_conf_level(conf_level)
    counts, causes = count_causes(
        spells, start_col=start_col, end_col=end_col, entry_col=entry_col, cause_col=cause_col,
        as_of=as_of, unit=unit, by=by,
    )  # fmt: skip
    return incidences(counts, causes, by, as_of, unit, conf_level)


def incidences(
    counts: pl.DataFrame,
    causes: pl.DataFrame,
    by: tuple[str, ...],
    as_of: date,
    unit: TimeUnit,
    conf_level: float,
) -> DepartureCauses:
    """Estimate the share ended of each cause from what `count_causes` has counted."""
    table = _table(counts, causes, by, unit, conf_level)
    return DepartureCauses(
        table=table,
        name=_("What became of relationships"),
        unit="share",
        definition=_(
            "Share of relationships that have ended of each cause after so many completed units "
            "of time, by Aalen-Johansen: the causes compete, and with those still open they make "
            "up all; those open on {as_of} count as observed until then.",
            as_of=date_text(as_of),
        ),
        by=(*by, "cause"),
        conf_level=conf_level,
        notes=_notes(table, counts, by),
        groups=by,
        time_unit=unit,
    )


def _notes(table: pl.DataFrame, counts: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    if counts.is_empty():
        return (_("No relationship had begun by then: there is nothing to count."),)
    if table.is_empty():
        return (_("No relationship has ended yet."),)
    sizes = table.filter(pl.col("time") == 0).select(*by, "n").unique(maintain_order=True)
    notes = small_n_notes(sizes, by, what=_("relationships"))
    if table["cause"].null_count():
        notes += (_("Some ends have no recorded cause: they are counted as unknown."),)
    if table["estimate"].max() == 1:
        notes += (_("Where everybody has gone the interval is undefined."),)
    return notes
