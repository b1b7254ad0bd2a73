"""Is the work done that was planned, and how soon does the CRM know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    open_table,
)
from crm_analysis.managers.shares import TeamShares, grouped, team_shares
from crm_analysis.survival import all_at_start, kaplan_meier, quantile
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    number,
)
from crm_analysis.working_time import WorkingCalendar

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "answered_in_time",
    "contact_discipline",
    "entry_timeliness",
    "overdue_contacts",
    "response_time",
]

_TAKEN = ("k", "total", "n_yes", "n_late", "n_never", "shrunk", "shrunk_low", "shrunk_high")


def contact_discipline(
    contacts: object,
    *,
    due_col: str = "due_at",
    done_col: str = "done_at",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TeamShares:
    """What share of the planned contacts that were due was done on time (Wilson, shrunk).

    Parameters
    ----------
    contacts : table
        One row per planned contact, on any backend; leave out those that were cancelled.
    due_col, done_col : str
        Latest moment at which it is on time, and when it was done (null: it was not).
    since : date, optional
        First day of falling due that is counted.
    as_of : date
        Last day the data covers; contacts due later count neither way.
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes`` (done on time), ``n_late`` (done, but late), ``n_never`` (not
        done by `as_of`), ``n`` (due), ``estimate`` (share on time), ``std_error``, ``conf_low``,
        ``conf_high``, and with groups ``shrunk``, ``shrunk_low``, ``shrunk_high``.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> planned = pl.DataFrame({
    ...     "due_at": [date(2026, 6, 1), date(2026, 6, 2), date(2026, 6, 3), date(2026, 7, 9)],
    ...     "done_at": [date(2026, 6, 1), date(2026, 6, 5), None, None],
    ... })
    >>> kept = contact_discipline(planned, as_of=date(2026, 6, 30))
    >>> kept.table.select("n_yes", "n_late", "n_never", "n").row(0)
    (1, 1, 1, 3)
    """
    by, as_of, conf_level = _checked(by, as_of, conf_level, ci_method)
    frame = _due(contacts, due_col, done_col, since, as_of, by)
    kept = nw.when(nw.col("done") <= nw.col("due")).then(nw.lit(1)).otherwise(nw.lit(0))
    done = (~nw.col("done").is_null()).cast(nw.Int64)
    frame = frame.with_columns(kept.alias("k"), done.alias("was_done"))
    counted = grouped(
        frame, by,
        nw.col("k").sum(), nw.col("was_done").sum(), nw.len().alias("total"),
    )  # fmt: skip
    counted = counted.select(
        *by,
        pl.col("k").fill_null(0),
        (pl.col("was_done") - pl.col("k")).fill_null(0).alias("n_late"),
        (pl.col("total") - pl.col("was_done")).fill_null(0).alias("n_never"),
        "total",
    )
    return team_shares(
        counted, by=by, conf_level=conf_level, name=_("Planned contacts done on time"),
        definition=_(
            "Share of the planned contacts due by {as_of} that were done by then when they were "
            "due; those not due yet count neither way.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        what=_("planned contacts"), key="contacts_on_time", better="higher",
    )  # fmt: skip


def overdue_contacts(
    contacts: object,
    *,
    due_col: str = "due_at",
    done_col: str = "done_at",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TeamShares:
    """What share of the contacts still to be done is overdue now (a stock, Wilson).

    Parameters
    ----------
    contacts : table
        As in `contact_discipline`.
    due_col, done_col : str
    since : date, optional
        First day of falling due that is counted: what was due long before, nobody will do.
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes`` (overdue), ``days`` (median days overdue), ``n`` (open), the
        five and, with groups, the shrunk ones.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.
    """
    by, as_of, conf_level = _checked((*group_names(by),), as_of, conf_level, ci_method)
    asked = {
        "due": Asked(due_col, "moment", "due_col"),
        "done": Asked(done_col, "moment", "done_col", nullable=True),
    }
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    frame = open_table(contacts, asked, by=by)
    if since is not None:
        frame = frame.filter(nw.col("due") >= to_day_number(since) * SECONDS_PER_DAY)
    still = nw.col("done").is_null() | (nw.col("done") >= end)
    late = nw.when(nw.col("due") < end).then((end - nw.col("due")) / SECONDS_PER_DAY)
    frame = frame.filter(still).with_columns(late.alias("days"))
    frame = frame.with_columns((~nw.col("days").is_null()).cast(nw.Int64).alias("k"))
    counted = grouped(
        frame, by, nw.col("k").sum(), nw.col("days").median(), nw.len().alias("total")
    )
    return team_shares(
        counted.select(*by, pl.col("k").fill_null(0), "days", "total"), by=by,
        conf_level=conf_level, name=_("Open contacts that are overdue"),
        definition=_(
            "Of the planned contacts not done by the end of {as_of}, the share that was due by "
            "then; and by how many days, at the median.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        what=_("open contacts"),
    )  # fmt: skip


def entry_timeliness(
    records: object,
    *,
    happened_col: str = "happened_at",
    entered_col: str = "entered_at",
    within_hours: float = 24,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TeamShares:
    """What share of what happened was typed in within so many hours (Wilson, shrunk).

    Parameters
    ----------
    records : table
        One row per record, on any backend.
    happened_col, entered_col : str
        When it happened and when it was typed in; rows with a null entry count as not yet.
    within_hours : float
    since : date, optional
        First day of happening that is counted.
    as_of : date
        Records younger than the window count neither way.
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes`` (in time), ``n_early`` (typed in before it happened: back to
        front, and counted as not in time), ``n``, the five and, with groups, the shrunk ones.
        What was never typed in cannot be seen: hold it against the telephone's count.

    Raises
    ------
    InputError
        A window that is not above zero.
    ColumnError
        A column is missing, of another type, or null.
    """
    by, as_of, conf_level = _checked(by, as_of, conf_level, ci_method)
    if not 0 < within_hours < float("inf"):
        raise InputError(
            f"'within_hours' must be a positive number of hours; got {within_hours!r}. Pass 24."
        )
    asked = {
        "happened": Asked(happened_col, "moment", "happened_col"),
        "entered": Asked(entered_col, "moment", "entered_col", nullable=True),
    }
    window = round(within_hours * 3600)
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    frame = open_table(records, asked, by=by).filter(nw.col("happened") + window <= end)
    if since is not None:
        frame = frame.filter(nw.col("happened") >= to_day_number(since) * SECONDS_PER_DAY)
    frame = frame.with_columns((nw.col("entered") - nw.col("happened")).alias("lag"))
    in_time = nw.when((nw.col("lag") >= 0) & (nw.col("lag") <= window)).then(nw.lit(1))
    early = nw.when(nw.col("lag") < 0).then(nw.lit(1)).otherwise(nw.lit(0))
    frame = frame.with_columns(in_time.otherwise(nw.lit(0)).alias("k"), early.alias("n_early"))
    counted = grouped(
        frame, by, nw.col("k").sum(), nw.col("n_early").sum(), nw.len().alias("total")
    )
    backwards = int(counted["n_early"].sum() or 0)
    notes = (
        (_("{n} records were typed in before they happened.", n=number(backwards)),)
        if backwards
        else ()
    )
    return team_shares(
        counted.with_columns(pl.col("k", "n_early").fill_null(0)), by=by, conf_level=conf_level,
        name=_("Typed in within {n} h", n=number(within_hours)),
        definition=_(
            "Share of what happened by {as_of}, at least {n} h before its end, that was typed "
            "in within {n} h. What was never typed in is not among it.",
            as_of=date_text(as_of), n=number(within_hours),
        ) + counted_from(since),
        what=_("records"), notes=notes, key="typed_in_on_time", better="higher",
    )  # fmt: skip


def response_time(
    traffic: object,
    *,
    start_col: str = "happened_at",
    end_col: str = "handled_at",
    calendar: WorkingCalendar | None = None,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> Estimates:
    """How long do customers wait for an answer (median by Kaplan-Meier, in minutes).

    Whoever has no answer yet has waited as long as until the end of `as_of`: leaving them out
    would make slow managers look quick.

    Parameters
    ----------
    traffic : table
        One row per call, visit, lead or case, on any backend.
    start_col, end_col : str
        When it came, and when it was answered (null: not yet).
    calendar : WorkingCalendar, optional
        Opening hours; with it only open minutes count.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"log-log"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n_waiting`` (no answer yet), ``n``, ``estimate`` (median minutes),
        ``std_error`` (null), ``conf_low``, ``conf_high``, ``p90`` (minutes after which nine of ten
        have their answer). Null where so many wait that there is no median.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null; an answer before its question counts as at
        once and is noted.

    References
    ----------
    Brookmeyer & Crowley (1982), Biometrics 38:29-41 (interval of a median).
    """
    by = group_names(by, taken=(*_TAKEN, "n_waiting", "p90", "minutes", "answered"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("log-log",))
    waits, backwards = _waits(traffic, start_col, end_col, calendar, since, as_of, by)
    parts = waits.partition_by(by, maintain_order=True) if by and waits.height else [waits]
    table = pl.concat([_wait_row(part, by, conf_level) for part in parts])
    notes = small_n_notes(table, by, what=_("approaches"))
    if backwards:
        notes += (_("{n} answers stand before their question.", n=number(backwards)),)
    silent = table.filter(pl.col("estimate").is_null() & (pl.col("n") > 0)).height
    if silent:
        notes += (_("Where half have no answer yet, the median is not known."),)
    notes += _nobodys(waits, by)
    return Estimates(
        table=table,
        name=_("Median minutes to the answer")
        if calendar is None
        else _("Median open minutes to the answer"),
        unit="count",
        definition=_(
            "Minutes from an approach (a call, visit, lead or case) to its answer, of those up to "
            "{as_of}; whoever has no answer yet has waited until then.",
            as_of=date_text(as_of),
        )
        + counted_from(since),
        by=by,
        conf_level=conf_level,
        notes=notes,
        key="minutes_to_answer",
        better="lower",
    )


def answered_in_time(
    traffic: object,
    *,
    start_col: str = "happened_at",
    end_col: str = "handled_at",
    within_minutes: float = 30,
    calendar: WorkingCalendar | None = None,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TeamShares:
    """What share of calls and leads had an answer within so many minutes (Wilson, shrunk).

    Parameters
    ----------
    traffic : table
        As in `response_time`.
    start_col, end_col : str
    within_minutes : float
    calendar : WorkingCalendar, optional
    since : date, optional
    as_of : date
        Those who have not waited so long yet count neither way.
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes``, ``n``, the five and, with groups, the shrunk ones.

    Raises
    ------
    InputError
        A window that is not above zero.
    ColumnError
        A column is missing, of another type, or null.
    """
    by, as_of, conf_level = _checked(by, as_of, conf_level, ci_method)
    if not 0 < within_minutes < float("inf"):
        raise InputError(
            f"'within_minutes' must be a positive number; got {within_minutes!r}. Pass 30."
        )
    waits, _backwards = _waits(traffic, start_col, end_col, calendar, since, as_of, by)
    waited = waits.filter(pl.col("answered") | (pl.col("minutes") >= within_minutes))
    in_time = (pl.col("answered") & (pl.col("minutes") <= within_minutes)).cast(pl.Int64).sum()
    counts = {"k": in_time, "total": pl.len().cast(pl.Int64)}
    if by:
        counted = waited.group_by(by, maintain_order=True).agg(**counts)
    else:
        counted = waited.select(**counts)
    found = team_shares(
        counted, by=by, conf_level=conf_level,
        name=_("Answered within {n} minutes", n=number(within_minutes)),
        definition=_(
            "Share of approaches up to {as_of} that had an answer within {n} minutes; "
            "those who have not waited so long yet count neither way.",
            as_of=date_text(as_of), n=number(within_minutes),
        ) + counted_from(since),
        what=_("approaches"),
    )  # fmt: skip
    notes = (*found.notes, *_nobodys(waited, by))
    return replace(found, key="answered_in_time", better="higher", notes=notes)


# Count ------------------------------------------------------------------------------------


def _checked(
    by: str | Sequence[str], as_of: date, conf_level: float, ci_method: str
) -> tuple[tuple[str, ...], date, float]:
    check_one_of("ci_method", ci_method, ("wilson",))
    taken = (*_TAKEN, "n_early", "days", "minutes", "answered", "was_done")
    return group_names(by, taken=taken), check_as_of(as_of), check_conf_level(conf_level)


def _due(
    contacts: object,
    due_col: str,
    done_col: str,
    since: date | None,
    as_of: date,
    by: tuple[str, ...],
) -> nw.LazyFrame[Any]:
    """Return what was due by the end of `as_of`; what was done later was not done by then."""
    asked = {
        "due": Asked(due_col, "moment", "due_col"),
        "done": Asked(done_col, "moment", "done_col", nullable=True),
    }
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    frame = open_table(contacts, asked, by=by).filter(nw.col("due") < end)
    if since is not None:
        frame = frame.filter(nw.col("due") >= to_day_number(since) * SECONDS_PER_DAY)
    return frame.with_columns(nw.when(nw.col("done") < end).then(nw.col("done")).alias("done"))


def _waits(
    traffic: object,
    start_col: str,
    end_col: str,
    calendar: WorkingCalendar | None,
    since: date | None,
    as_of: date,
    by: tuple[str, ...],
) -> tuple[pl.DataFrame, int]:
    """Return groups, ``minutes`` waited and ``answered``; and how many answers came too early."""
    asked = {
        "start": Asked(start_col, "moment", "start_col"),
        "end": Asked(end_col, "moment", "end_col", nullable=True),
    }
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    frame = open_table(traffic, asked, by=by).filter(nw.col("start") < end)
    if since is not None:
        frame = frame.filter(nw.col("start") >= to_day_number(since) * SECONDS_PER_DAY)
    rows = collect(frame, by=by, order=["start", "end"])
    answered = (pl.col("end") < end).fill_null(value=False)
    rows = rows.select(
        *by, "start", pl.when(answered).then("end").otherwise(end).alias("end"),
        answered.alias("answered"),
    )  # fmt: skip
    start, stop = rows["start"].to_numpy(), rows["end"].to_numpy()
    minutes = (stop - start) / 60 if calendar is None else calendar.minutes_between(start, stop)
    backwards = int(np.count_nonzero(stop < start))
    waits = rows.select(*by, "answered").with_columns(minutes=pl.Series(np.maximum(minutes, 0.0)))
    return waits, backwards


def _nobodys(waits: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    """Caution that approaches which name nobody are those that were never answered."""
    unnamed = (
        pl.any_horizontal(pl.col(name).is_null() for name in by) if by else pl.lit(value=False)
    )
    lost = waits.filter(unnamed & ~pl.col("answered")).height
    if not lost:
        return ()
    return (
        _(
            "{n} unanswered approaches name nobody and count against no one: whoever is named "
            "looks better than they are.",
            n=number(lost),
        ),
    )


def _wait_row(part: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    minutes = np.floor(part["minutes"].to_numpy()).astype(np.int64)
    answered = part["answered"].to_numpy()
    half, most = _median_and_p90(minutes, answered, conf_level)
    n = part.height
    row = pl.DataFrame(
        {
            "n_waiting": pl.Series([int(n - answered.sum())], dtype=pl.Int64),
            **five_columns([n], [half[0]], [np.nan], [half[1]], [half[2]]),
            "p90": pl.Series([most], dtype=pl.Float64).fill_nan(None),
        }
    )
    return part.select(by).head(1).join(row, how="cross") if by else row


def _median_and_p90(
    minutes: NDArray[np.int64], answered: NDArray[Any], conf_level: float
) -> tuple[tuple[float, float, float], float]:
    unknown = (float("nan"),) * 3
    if not len(minutes):
        return unknown, float("nan")
    times = np.unique(np.concatenate(([0], minutes)))
    place = np.searchsorted(times, minutes)
    exits = np.bincount(place[answered], minlength=len(times))
    censored = np.bincount(place[~answered], minlength=len(times))
    entered = all_at_start(len(times), len(minutes))
    curve = kaplan_meier(times, entered, exits, censored)
    half, most = quantile(curve, 0.5, conf_level), quantile(curve, 0.9, conf_level)
    return (half.time, half.low, half.high), most.time
