"""Dates as whole numbers, the same on every backend.

A date becomes the number of days since 1970-01-01 and a moment the number of seconds, once,
at the door. Everything after is integer arithmetic, which polars, DuckDB and Spark agree on
where their own date types do not.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date, datetime, timedelta
from typing import Any, Literal

import narwhals.stable.v2 as nw
import polars as pl

__all__ = [
    "DAYS_PER_MONTH",
    "DAYS_PER_YEAR",
    "MINUTES_PER_DAY",
    "SECONDS_PER_DAY",
    "TIME_UNITS",
    "TimeUnit",
    "add_months",
    "date_of",
    "day_number",
    "epoch_second",
    "floor_divide",
    "keys_per_unit",
    "month_number",
    "to_day_number",
    "with_civil",
    "with_elapsed_key",
]

SECONDS_PER_DAY = 86_400
MINUTES_PER_DAY = 1_440
DAYS_PER_YEAR = 365.25
DAYS_PER_MONTH = DAYS_PER_YEAR / 12
"""On average, as are those of a year: for rates, and for lengths that no calendar counts."""
EPOCH = date(1970, 1, 1)

TimeUnit = Literal["day", "week", "month", "year"]
TIME_UNITS: tuple[TimeUnit, ...] = ("day", "week", "month", "year")

_DAYS_BEFORE_EPOCH = 719_468
"""Days from 1 March of year 0 to 1970-01-01."""

_DAYS_IN_ERA = 146_097
"""Days in the 400 years after which the calendar repeats."""

_DAYS_IN_CYCLE = 1_461
"""Days in four years of which one is a leap year."""

_DAYS_IN_KEY_MONTH = 32
"""An elapsed month is this many keys, so that spare days (at most 30) sort inside it."""


def to_day_number(day: date) -> int:
    """Return the number of days from 1970-01-01 to `day`.

    Examples
    --------
    >>> to_day_number(date(1970, 1, 2))
    1
    """
    day = day.date() if isinstance(day, datetime) else day
    return (day - EPOCH).days


def date_of(day: int) -> date:
    """Return the date that a day number stands for.

    Examples
    --------
    >>> date_of(1)
    datetime.date(1970, 1, 2)
    """
    return EPOCH + timedelta(days=int(day))


def month_number(day: date) -> int:
    """Return the number of whole calendar months from year 0 to the month of `day`.

    Examples
    --------
    >>> month_number(date(2026, 2, 1)) - month_number(date(2025, 12, 31))
    2
    """
    return day.year * 12 + day.month - 1


def add_months(day: date, months: int) -> date:
    """Return the day so many calendar months later, or the month's last day where it is shorter.

    Examples
    --------
    >>> add_months(date(2024, 1, 31), 1), add_months(date(2024, 2, 29), -12)
    (datetime.date(2024, 2, 29), datetime.date(2023, 2, 28))
    """
    year, month = divmod(month_number(day) + months, 12)
    last = monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))


def floor_divide(number: nw.Expr, divisor: int) -> nw.Expr:
    """Divide whole numbers and round down, to a whole number on every backend."""
    return (number // divisor).cast(nw.Int64)


def day_number(moment: nw.Expr) -> nw.Expr:
    """Turn an expression of dates or moments into day numbers (Int64).

    Built from year, month and day alone (the days-from-civil algorithm), because those are
    the only date parts that every backend returns with the same meaning.
    """
    year = moment.dt.year().cast(nw.Int64)
    month = moment.dt.month().cast(nw.Int64)
    day = moment.dt.day().cast(nw.Int64)
    march_year = year - (month <= 2).cast(nw.Int64)
    march_month = (month + 9) % 12
    day_of_year = floor_divide(153 * march_month + 2, 5) + day - 1
    leap_days = (
        floor_divide(march_year, 4) - floor_divide(march_year, 100) + floor_divide(march_year, 400)
    )
    return march_year * 365 + leap_days + day_of_year - _DAYS_BEFORE_EPOCH


def epoch_second(moment: nw.Expr) -> nw.Expr:
    """Turn an expression of moments into seconds since 1970-01-01 00:00, local time (Int64)."""
    hour = moment.dt.hour().cast(nw.Int64)
    minute = moment.dt.minute().cast(nw.Int64)
    second = moment.dt.second().cast(nw.Int64)
    return day_number(moment) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second


def with_civil(frame: nw.LazyFrame[Any], column: str) -> nw.LazyFrame[Any]:
    """Add day of the month and month number of a column of day numbers (civil-from-days).

    The new columns are ``<column>_day`` (1-31) and ``<column>_month``. Done in steps, each
    naming the one before, because an expression used twice is computed twice on some backends.
    On polars its own calendar says the same in a tenth of the time that it takes to write the plan.
    """
    day, month, year = f"{column}_day", f"{column}_month", f"{column}_year"
    native = frame.to_native()
    if isinstance(native, pl.LazyFrame):
        calendar = pl.col(column).cast(pl.Int32).cast(pl.Date).dt
        months = calendar.year().cast(pl.Int64) * 12 + calendar.month().cast(pl.Int64) - 1
        days = calendar.day().cast(pl.Int64)
        return nw.from_native(native.with_columns(days.alias(day), months.alias(month)))
    shifted = nw.col(column) + _DAYS_BEFORE_EPOCH
    centuries = quarters = nw.col(year)
    fifths = nw.col(day)
    return (
        # In centuries since March of year 0; then, with the leap days that three of four
        # centuries lack put back, in quarters of a day, of which each year has 1,461.
        frame.with_columns(floor_divide(4 * shifted + 3, _DAYS_IN_ERA).alias(year))
        .with_columns((4 * (shifted + centuries - floor_divide(centuries, 4)) + 3).alias(year))
        .with_columns(
            floor_divide(quarters, _DAYS_IN_CYCLE).alias(year),
            # In fifths of a day, of which a month has 153 on average from March on.
            (5 * floor_divide(quarters % _DAYS_IN_CYCLE, 4) + 2).alias(day),
        )
        .with_columns(
            (nw.col(year) * 12 + floor_divide(fifths, 153) + 2).alias(month),
            (floor_divide(fifths % 153, 5) + 1).alias(day),
        )
        .drop(year)
    )


def with_elapsed_key(
    frame: nw.LazyFrame[Any], start: str, end: str, unit: TimeUnit, *, name: str
) -> nw.LazyFrame[Any]:
    """Add the time from `start` to `end` (day numbers) as one whole number that sorts rightly.

    For days and weeks it is the number of days. For months and years it is
    ``32 * completed calendar months + spare days``: exact to the day, in calendar months, so
    that a relationship from 15 January to 15 March has lasted exactly two months, and one from
    31 January to 1 March, where February has no 31st, exactly one. Divide by `keys_per_unit`
    and round down for completed units. Negative when `end` is before `start`, null when either
    is null.
    """
    if unit in ("day", "week"):
        return frame.with_columns((nw.col(end) - nw.col(start)).alias(name))
    frame = _with_month_length(with_civil(with_civil(frame, start), end), end, f"{name}_lent")
    native = frame.to_native()
    on_polars = isinstance(native, pl.LazyFrame)
    keyed = _key_of_parts(native if on_polars else frame, pl if on_polars else nw, start, end, name)
    return nw.from_native(keyed, pass_through=True)  # type: ignore[no-any-return]


def _key_of_parts(frame: Any, api: Any, start: str, end: str, name: str) -> Any:
    """Put days, months and the length of the month before together, in narwhals or in polars."""
    lent, first_day, last_day = f"{name}_lent", f"{start}_day", f"{end}_day"
    days = api.col(last_day) - api.col(first_day)
    short = (days < 0).cast(api.Int64)
    months = api.col(f"{end}_month") - api.col(f"{start}_month") - short
    # The last month was completed on the same day of the month before, or where that month has no
    # such day, on the first of this one.
    past = api.when(api.col(lent) < api.col(first_day)).then(api.col(last_day) - 1)
    spare = api.when(days < 0).then(past.otherwise(days + api.col(lent))).otherwise(days)
    return frame.with_columns((months * _DAYS_IN_KEY_MONTH + spare).alias(name)).drop(
        first_day, f"{start}_month", last_day, f"{end}_month", lent
    )


def _with_month_length(frame: nw.LazyFrame[Any], column: str, name: str) -> nw.LazyFrame[Any]:
    """Add the number of days of the month before a column's, of which `with_civil` told."""
    native = frame.to_native()
    if isinstance(native, pl.LazyFrame):
        last = (pl.col(column) - pl.col(f"{column}_day")).cast(pl.Int32).cast(pl.Date)
        return nw.from_native(native.with_columns(last.dt.day().cast(pl.Int64).alias(name)))
    month = nw.col(f"{column}_month") - 1
    year, place = f"{name}_year", f"{name}_place"
    frame = frame.with_columns(floor_divide(month, 12).alias(year), (month % 12).alias(place))
    leap = (nw.col(year) % 4 == 0) & ((nw.col(year) % 100 != 0) | (nw.col(year) % 400 == 0))
    february = 28 + leap.cast(nw.Int64)
    # Counted from January as 0, months of 30 days are odd up to June and even from August on.
    other = 31 - (nw.col(place) + floor_divide(nw.col(place), 7)) % 2
    length = nw.when(nw.col(place) == 1).then(february).otherwise(other)
    return frame.with_columns(length.alias(name)).drop(year, place)


def keys_per_unit(unit: TimeUnit) -> int:
    """Return how many steps of an elapsed key make one unit."""
    lengths: dict[Any, int] = {
        "day": 1,
        "week": 7,
        "month": _DAYS_IN_KEY_MONTH,
        "year": 12 * _DAYS_IN_KEY_MONTH,
    }
    return lengths[unit]
