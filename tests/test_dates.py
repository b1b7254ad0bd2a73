"""Dates as whole numbers: against Python's own calendar, day by day."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, get_args

import narwhals.stable.v2 as nw
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_analysis.dates import (
    SECONDS_PER_DAY,
    TIME_UNITS,
    TimeUnit,
    date_of,
    day_number,
    epoch_second,
    floor_divide,
    keys_per_unit,
    month_number,
    to_day_number,
    with_civil,
    with_elapsed_key,
)

EPOCH = date(1970, 1, 1)
SOME_DAYS = [
    date(1900, 2, 28), date(1900, 3, 1), date(1969, 12, 31), date(1970, 1, 1), date(2000, 2, 29),
    date(2023, 12, 31), date(2024, 2, 29), date(2024, 3, 1), date(2100, 2, 28), date(2100, 3, 1),
]  # fmt: skip

days = st.dates(date(1900, 1, 1), date(2100, 12, 31))


def every_day() -> pl.DataFrame:
    return pl.DataFrame({"day": pl.date_range(date(1900, 1, 1), date(2100, 12, 31), eager=True)})


def answer(frame: nw.LazyFrame[Any]) -> pl.DataFrame:
    native = frame.to_native()
    return (
        native.collect()
        if isinstance(native, pl.LazyFrame)
        else frame.collect("polars").to_native()
    )


def lazy(table: Any) -> nw.LazyFrame[Any]:
    frame: Any = nw.from_native(table.lazy() if isinstance(table, pl.DataFrame) else table)
    return frame if isinstance(frame, nw.LazyFrame) else frame.lazy()


# --- one day -------------------------------------------------------------------------------------


@given(days)
def test_day_numbers_are_days_since_1970(day: date) -> None:
    assert to_day_number(day) == (day - EPOCH).days
    assert date_of(to_day_number(day)) == day


def test_a_moment_has_the_number_of_its_day() -> None:
    assert to_day_number(datetime.fromisoformat("1970-01-02 23:59:59")) == 1


@given(days, days)
def test_month_numbers_count_calendar_months(first: date, second: date) -> None:
    expected = (second.year - first.year) * 12 + second.month - first.month
    assert month_number(second) - month_number(first) == expected


# --- a column of days ----------------------------------------------------------------------------


def test_every_day_from_1900_to_2100_has_its_number() -> None:
    table = every_day()
    found = answer(lazy(table).select(day_number(nw.col("day")).alias("n")))
    assert found["n"].to_list() == [(day - EPOCH).days for day in table["day"]]
    assert found["n"].dtype == pl.Int64


def test_every_day_from_1900_to_2100_comes_back(backend: Callable[[pl.DataFrame], Any]) -> None:
    """Polars has a calendar of its own; all others follow ours."""
    table = every_day()
    numbers = pl.DataFrame({"n": [to_day_number(day) for day in table["day"]]})
    found = answer(with_civil(lazy(backend(numbers)), "n")).sort("n")
    assert found["n_day"].to_list() == [day.day for day in table["day"]]
    assert found["n_month"].to_list() == [month_number(day) for day in table["day"]]
    assert found.columns == ["n", "n_day", "n_month"]


@settings(max_examples=50)
@given(st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2100-12-31")))
def test_epoch_seconds_are_those_of_the_clock(moment: datetime) -> None:
    table = pl.DataFrame({"at": [moment]}, schema={"at": pl.Datetime("us")})
    found = answer(lazy(table).select(epoch_second(nw.col("at")).alias("s")))["s"][0]
    expected = moment.replace(microsecond=0) - datetime.fromisoformat("1970-01-01")
    assert found == expected.days * SECONDS_PER_DAY + expected.seconds


def test_nulls_stay_null() -> None:
    table = pl.DataFrame({"at": [None, datetime.fromisoformat("2024-01-01 10:00")]})
    found = answer(
        lazy(table).select(
            epoch_second(nw.col("at")).alias("s"), day_number(nw.col("at")).alias("d")
        )
    )
    assert found.row(0) == (None, None)
    assert answer(with_civil(lazy(found.select("d")), "d")).row(0) == (None, None, None)


def test_whole_numbers_are_divided_downwards_on_every_backend(
    backend: Callable[[pl.DataFrame], Any],
) -> None:
    table = pl.DataFrame({"x": [-1461, -8, -7, -1, 0, 1, 6, 7, 8]})
    frame = lazy(backend(table)).with_columns(floor_divide(nw.col("x"), 7).alias("weeks"))
    found = answer(frame).sort("x")
    assert found["weeks"].to_list() == [x // 7 for x in table["x"]]


def test_backends_agree_on_days_and_moments(backend: Callable[[pl.DataFrame], Any]) -> None:
    moments = [datetime.combine(day, datetime.min.time()) + timedelta(hours=19, seconds=7)
               for day in SOME_DAYS]  # fmt: skip
    table = pl.DataFrame({"i": range(len(SOME_DAYS)), "day": SOME_DAYS, "at": moments})
    frame = lazy(backend(table)).select(
        "i", day_number(nw.col("day")).alias("d"), epoch_second(nw.col("at")).alias("s")
    )
    found = answer(with_civil(frame, "d")).sort("i")
    assert found["d"].to_list() == [(day - EPOCH).days for day in SOME_DAYS]
    assert found["s"].to_list() == [
        (day - EPOCH).days * SECONDS_PER_DAY + 19 * 3600 + 7 for day in SOME_DAYS
    ]
    assert found["d_day"].to_list() == [day.day for day in SOME_DAYS]
    assert found["d_month"].to_list() == [month_number(day) for day in SOME_DAYS]


# --- elapsed time --------------------------------------------------------------------------------


def months_later(day: date, months: int) -> date:
    """Return the same day of a later month, or the first of the next when there is none."""
    at = month_number(day) + months
    year, month = divmod(at, 12)
    if day.day <= monthrange(year, month + 1)[1]:
        return date(year, month + 1, day.day)
    year, month = divmod(at + 1, 12)
    return date(year, month + 1, 1)


def slow_months(start: date, end: date) -> int:
    """Count completed calendar months one by one."""
    completed = 0
    while months_later(start, completed + 1) <= end:
        completed += 1
    return completed


def elapsed(pairs: list[tuple[date | None, date | None]], unit: TimeUnit) -> list[int | None]:
    starts = [None if a is None else to_day_number(a) for a, _ in pairs]
    ends = [None if b is None else to_day_number(b) for _, b in pairs]
    table = pl.DataFrame({"a": starts, "b": ends}, schema={"a": pl.Int64, "b": pl.Int64})
    found: list[int | None] = answer(with_elapsed_key(lazy(table), "a", "b", unit, name="key"))[
        "key"
    ].to_list()
    return found


@settings(max_examples=200, deadline=None)
@given(st.dates(date(1999, 1, 1), date(2030, 12, 31)), st.integers(0, 2500))
def test_completed_months_and_years_equal_the_slow_twin(start: date, length: int) -> None:
    end = start + timedelta(days=length)
    (key,) = elapsed([(start, end)], "month")
    assert key is not None
    assert key // keys_per_unit("month") == slow_months(start, end)
    assert key // keys_per_unit("year") == slow_months(start, end) // 12


def test_spare_days_are_counted_from_the_day_the_last_month_was_completed() -> None:
    """Every start of a common year and a leap year, every length up to fourteen months."""
    pairs: list[tuple[date | None, date | None]] = []
    expected = []
    for start in (date(2023, 1, 1) + timedelta(days=d) for d in range(731)):
        completed, since = 0, start
        for end in (start + timedelta(days=d) for d in range(430)):
            if months_later(start, completed + 1) == end:
                completed, since = completed + 1, end
            pairs.append((start, end))
            expected.append(completed * keys_per_unit("month") + (end - since).days)
    assert elapsed(pairs, "month") == expected


@settings(max_examples=60, deadline=None)
@given(st.dates(date(1999, 1, 1), date(2030, 12, 31)), st.integers(0, 2500))
def test_days_and_weeks(start: date, length: int) -> None:
    (key,) = elapsed([(start, start + timedelta(days=length))], "week")
    assert key == length
    assert length // keys_per_unit("week") == length // 7
    assert keys_per_unit("day") == 1


@pytest.mark.parametrize(
    ("start", "end", "months"),
    [
        (date(2024, 1, 15), date(2024, 3, 14), 1),
        (date(2024, 1, 15), date(2024, 3, 15), 2),
        (date(2024, 1, 31), date(2024, 2, 29), 0),
        (date(2024, 1, 31), date(2024, 3, 1), 1),
        (date(2024, 2, 29), date(2025, 2, 28), 11),
        (date(2024, 2, 29), date(2025, 3, 1), 12),
        (date(2023, 12, 31), date(2024, 1, 1), 0),
    ],
)
def test_months_by_eye(start: date, end: date, months: int) -> None:
    (key,) = elapsed([(start, end)], "month")
    assert key is not None
    assert key // keys_per_unit("month") == months


def test_a_later_end_has_a_larger_key() -> None:
    """The key sorts as the days do: nobody who left later is counted as having left earlier."""
    for start in (date(2023, 1, 28), date(2023, 1, 31), date(2024, 2, 29), date(2023, 4, 30)):
        ends = [start + timedelta(days=d) for d in range(800)]
        keys = elapsed([(start, end) for end in ends], "month")
        assert keys[0] == 0
        assert None not in keys
        assert all(a < b for a, b in pairwise(key for key in keys if key is not None))


@pytest.mark.parametrize("unit", TIME_UNITS)
def test_time_backwards_is_negative_and_unknown_is_null(unit: TimeUnit) -> None:
    day = date(2024, 3, 15)
    keys = elapsed([(day, day - timedelta(days=1)), (day, None), (None, day), (day, day)], unit)
    assert keys[0] is not None
    assert keys[0] < 0
    assert keys[1:] == [None, None, 0]


def test_units_are_those_of_their_type() -> None:
    assert set(TIME_UNITS) == set(get_args(TimeUnit))


def test_backends_agree_on_elapsed_months(backend: Callable[[pl.DataFrame], Any]) -> None:
    pairs = [(a, b) for a in SOME_DAYS for b in SOME_DAYS if a <= b]
    table = pl.DataFrame(
        {
            "i": range(len(pairs)),
            "a": [to_day_number(a) for a, _ in pairs],
            "b": [to_day_number(b) for _, b in pairs],
        }
    )
    found = answer(with_elapsed_key(lazy(backend(table)), "a", "b", "month", name="key")).sort("i")
    assert found["key"].to_list() == elapsed([(a, b) for a, b in pairs], "month")
