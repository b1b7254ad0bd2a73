"""Days and minutes as whole numbers: opening hours, and the end of what the CRM has seen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from synthetic.keyed import Floats, Ints

DAY = 1440
YEAR = 365.25
OPENS = 9 * 60
CLOSES = 20 * 60
_EPOCH = date(1970, 1, 1)


def day_of(when: date) -> int:
    """Return a date as days since 1970-01-01."""
    return (when - _EPOCH).days


def year_of(days: Ints) -> Ints:
    """Return the calendar year of each day number."""
    return days.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970


def month_of(days: Ints) -> Ints:
    """Return months since 1970-01 of each day number."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def weekday_of(days: Ints) -> Ints:
    """Return the weekday of each day number, Monday = 0."""
    return (days + 3) % 7


def minute_in_hours(days: Ints, uniform: Floats) -> Ints:
    """Return a minute since 1970 inside the opening hours of each day."""
    return days * DAY + OPENS + np.floor(uniform * (CLOSES - OPENS)).astype(np.int64)


def next_open_minute(minutes: Ints, uniform: Floats) -> Ints:
    """Move a minute outside the opening hours into the first hour of the next opening."""
    days, inside = minutes // DAY, minutes % DAY
    early, late = inside < OPENS, inside >= CLOSES
    opening = (days + late) * DAY + OPENS + np.floor(uniform * 60).astype(np.int64)
    return np.where(early | late, opening, minutes)


def moments(minutes: Ints, present: np.ndarray | None = None) -> pl.Series:
    """Return minutes since 1970 as Datetime("us"), null where not `present`."""
    series = pl.Series(minutes * 60_000_000).cast(pl.Datetime("us"))
    return series if present is None else _masked(series, present)


def dates(days: Ints, present: np.ndarray | None = None) -> pl.Series:
    """Return day numbers as Date, null where not `present`."""
    series = pl.Series(days.astype(np.int32)).cast(pl.Date)
    return series if present is None else _masked(series, present)


def chosen(
    options: Sequence[str], codes: np.ndarray, present: np.ndarray | None = None
) -> pl.Series:
    """Return the option at each code as a category, null where not `present`.

    Texts of numpy would be copied into polars one by one: a third of the time of a world.
    """
    series = pl.Series(options, dtype=pl.Enum(options)).gather(codes)
    return series if present is None else _masked(series, present)


def masked(values: np.ndarray | pl.Series, present: np.ndarray) -> pl.Series:
    """Return values as a series that is null where not `present`."""
    return _masked(pl.Series(values), present)


def _masked(series: pl.Series, present: np.ndarray) -> pl.Series:
    return series.zip_with(pl.Series(present), pl.Series([None], dtype=series.dtype))
