"""How long customers stay: against R, statsmodels, a loop anyone can check, and the backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from crm_analysis import (
    ColumnError,
    InputError,
    cohort_retention,
    repeat_rate,
    retention_curve,
)
from crm_analysis.dates import TimeUnit

REFERENCE = Path(__file__).parent / "reference"
AS_OF = date(2022, 12, 31)
FIRST = date(2018, 1, 1)

EXACT = 1e-10
"""Two programs that add the same numbers in another order differ by rounding alone."""

Row = tuple[int, int | None, int]


def spells_of(rows: Sequence[Row]) -> pl.DataFrame:
    """Make spells from (start, length or none, entry delay), all in days."""
    starts = [FIRST + timedelta(days=start) for start, _, _ in rows]
    return pl.DataFrame(
        {
            "started_on": starts,
            "ended_on": [
                None if length is None else start + timedelta(days=length)
                for start, (_, length, _) in zip(starts, rows, strict=True)
            ],
            "entered_on": [
                start + timedelta(days=delay)
                for start, (_, _, delay) in zip(starts, rows, strict=True)
            ],
            "brand": ["Lada" if start % 2 else "Kia" for start, _, _ in rows],
        },
        schema_overrides={"started_on": pl.Date, "ended_on": pl.Date, "entered_on": pl.Date},
    )


def random_rows(n: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    start, length = rng.integers(0, 1500, n), rng.exponential(600, n).astype(int)
    open_ = rng.random(n) < 0.2
    delay = np.where(rng.random(n) < 0.3, rng.integers(0, 300, n), 0)
    return [
        (int(s), None if o else int(x), int(d))
        for s, x, o, d in zip(start, length, open_, delay, strict=True)
    ]


ROWS = st.lists(
    st.tuples(st.integers(0, 2000), st.none() | st.integers(0, 900), st.integers(0, 200)),
    min_size=1,
    max_size=40,
)


def months_between(start: date, end: date) -> int:
    """Completed calendar months, the way one counts them on one's fingers."""
    months = 0
    while True:
        year, month = divmod(start.year * 12 + start.month - 1 + months + 1, 12)
        if (year, month + 1, start.day) > (end.year, end.month, end.day):
            return months
        months += 1


def whole_and_spare(start: date, day: date) -> tuple[int, int]:
    """Completed months, and the days since the last of them was completed."""
    months = months_between(start, day)
    spare = 0
    while day - timedelta(days=spare + 1) >= start and months == months_between(
        start, day - timedelta(days=spare + 1)
    ):
        spare += 1
    return months, spare


def slow_curve(spells: pl.DataFrame, as_of: date, *, entry: bool) -> dict[int, tuple[float, int]]:
    """Kaplan-Meier by whole months, one spell and one day at a time."""
    seen = []
    for row in spells.to_dicts():
        if row["started_on"] > as_of:
            continue
        end, ended = row["ended_on"], True
        if end is None or end > as_of:
            end, ended = as_of, False
        entered = row["entered_on"] if entry else row["started_on"]
        if entered > as_of:
            continue
        first, last = (whole_and_spare(row["started_on"], day) for day in (entered, end))
        if first < last or first == (0, 0):
            seen.append((first, last, ended))
    survival, curve = 1.0, {}
    times = sorted({last for _, last, _ in seen})
    for t in range(max(times)[0] + 1 if times else 0):
        while times and times[0] <= (t, 0):
            now = times.pop(0)
            at_risk = sum(
                (first < now or first == (0, 0)) and last >= now for first, last, _ in seen
            )
            left = sum(ended and last == now for _, last, ended in seen)
            survival *= 1 - left / at_risk
        watched = sum((f < (t, 0) or f == (0, 0)) and last >= (t, 0) for f, last, _ in seen)
        curve[t] = (survival, watched)
    return curve


# Known answers ----------------------------------------------------------------------------


def test_kaplan_meier_matches_r_on_walton_data() -> None:
    walton = pl.read_csv(REFERENCE / "survival" / "waltons.csv")
    spells = walton.select(
        started_on=pl.lit(AS_OF) - pl.duration(days=pl.col("T").cast(pl.Int64)),
        ended_on=pl.when(pl.col("E") == 1).then(pl.lit(AS_OF)),
    )
    curve = retention_curve(spells, as_of=AS_OF, unit="day").table
    found = curve.filter(pl.col("time").is_in([10, 30, 50, 56, 60]))
    survival = [0.9692101226994, 0.8272239263804, 0.6168168456033, 0.4299026499659, 0.3115236593956]
    errors = [
        0.01355638985633,
        0.02969834550601,
        0.03823405561863,
        0.03901000483871,
        0.03651778009688,
    ]
    np.testing.assert_allclose(found["estimate"], survival, atol=EXACT)
    np.testing.assert_allclose(found["std_error"], errors, atol=EXACT)
    assert found["n_at_risk"].to_list() == [157, 134, 99, 87, 65]


@pytest.mark.parametrize("late_entry", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_kaplan_meier_equals_statsmodels(seed: int, *, late_entry: bool) -> None:
    from statsmodels.duration.survfunc import SurvfuncRight

    spells = spells_of(random_rows(600, seed))
    if not late_entry:
        spells = spells.with_columns(entered_on="started_on")
    curve = retention_curve(spells, as_of=AS_OF, unit="day", entry_col="entered_on")
    known = spells.filter(pl.col("started_on") <= AS_OF, pl.col("entered_on") <= AS_OF)
    ended = (known["ended_on"].is_not_null() & (known["ended_on"] <= AS_OF)).to_numpy()
    last = known.select(pl.min_horizontal("ended_on", pl.lit(AS_OF))).to_series()
    time = (last - known["started_on"]).dt.total_days().to_numpy()
    entry = (known["entered_on"] - known["started_on"]).dt.total_days().to_numpy()
    # A customer first seen on the last day was never at risk; statsmodels wants them left out.
    at_risk = (entry < time) | ((entry == 0) & (time > 0))
    theirs = SurvfuncRight(
        time[at_risk | (time == 0) & (entry == 0)],
        ended[at_risk | (time == 0) & (entry == 0)],
        entry=np.where(entry == 0, -1, entry)[at_risk | (time == 0) & (entry == 0)],
    )
    ours = curve.table.filter(pl.col("time").is_in(theirs.surv_times.astype(int)))
    np.testing.assert_allclose(ours["estimate"], theirs.surv_prob, atol=EXACT)
    np.testing.assert_allclose(ours["std_error"], theirs.surv_prob_se, atol=EXACT)


@given(rows=ROWS, entry=st.booleans())
@settings(max_examples=60, deadline=None)
def test_curve_equals_its_slow_twin(rows: list[Row], *, entry: bool) -> None:
    spells = spells_of(rows)
    entry_col = "entered_on" if entry else None
    curve = retention_curve(spells, as_of=AS_OF, entry_col=entry_col).table
    expected = slow_curve(spells, AS_OF, entry=entry)
    assert curve["time"].to_list() == list(expected)
    np.testing.assert_allclose(
        curve["estimate"].to_numpy(), [s for s, _ in expected.values()], atol=EXACT
    )
    assert curve["n_at_risk"].to_list() == [n for _, n in expected.values()]


def test_months_are_calendar_months() -> None:
    """A month from the 31st is completed on the first of March, in a leap year too."""
    spells = pl.DataFrame(
        {
            "started_on": [date(2023, 1, 31), date(2024, 1, 31)],
            "ended_on": [date(2023, 3, 1), date(2024, 3, 1)],
        }
    )
    curve = retention_curve(spells, as_of=date(2024, 6, 30)).table
    assert curve["estimate"].to_list() == [1.0, 0.0]
    year = retention_curve(
        pl.DataFrame({"started_on": [date(2023, 2, 10)], "ended_on": [date(2024, 2, 10)]}),
        as_of=date(2024, 6, 30),
        unit="year",
    ).table
    assert year["estimate"].to_list() == [1.0, 0.0]


def test_customers_of_before_the_crm_bias_the_curve_without_entry() -> None:
    """Only those who stayed until the CRM came are known: without entry they look immortal."""
    rng = np.random.default_rng(5)
    n, crm_from = 40_000, FIRST + timedelta(days=1400)
    start = rng.integers(0, 1800, n)
    length = rng.exponential(500, n).astype(int) + 1
    spells = spells_of([(int(s), int(x), 0) for s, x in zip(start, length, strict=True)])
    spells = spells.filter(pl.col("ended_on") > crm_from).with_columns(
        entered_on=pl.max_horizontal("started_on", pl.lit(crm_from))
    )
    with_entry = retention_curve(spells, as_of=AS_OF, entry_col="entered_on", unit="day")
    without = retention_curve(spells, as_of=AS_OF, unit="day")
    row = with_entry.at(365).row(0, named=True)
    truth = np.exp(-364.5 / 500)
    assert abs(row["estimate"] - truth) < 4 * row["std_error"] + 0.002
    assert without.at(365)["estimate"][0] > truth + 0.1


# Properties -------------------------------------------------------------------------------


@given(rows=ROWS, unit=st.sampled_from(["day", "week", "month", "year"]))
@settings(max_examples=60, deadline=None)
def test_retention_never_rises_and_stays_inside_its_interval(
    rows: list[Row], unit: TimeUnit
) -> None:
    table = retention_curve(spells_of(rows), as_of=AS_OF, unit=unit).table
    assert (np.diff(table["estimate"].to_numpy()) <= 0).all()
    assert table["estimate"].is_between(0, 1).all()
    bounds = table.drop_nulls(["conf_low", "conf_high"])
    assert (bounds["conf_low"] <= bounds["estimate"] + 1e-12).all()
    assert (bounds["estimate"] <= bounds["conf_high"] + 1e-12).all()
    assert not table.select(pl.selectors.float().is_nan().any()).row(0)[0]


@given(rows=ROWS, seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_row_order_is_irrelevant(rows: list[Row], seed: int) -> None:
    spells = spells_of(rows)
    shuffled = spells.sample(fraction=1.0, shuffle=True, seed=seed)
    assert_frame_equal(
        retention_curve(spells, as_of=AS_OF, by="brand").table,
        retention_curve(shuffled, as_of=AS_OF, by="brand").table,
    )


def test_intervals_cover_the_truth() -> None:
    """95 % intervals at one year cover exp(-1) within the binomial band of the simulation."""
    rng = np.random.default_rng(11)
    n_sets, n = 300, 120
    hits = 0
    for _ in range(n_sets):
        length = rng.exponential(365, n)
        start = rng.integers(0, 1700, n)
        rows = [(int(s), int(np.ceil(x)), 0) for s, x in zip(start, length, strict=True)]
        row = retention_curve(spells_of(rows), as_of=AS_OF, unit="day").at(365).row(0, named=True)
        hits += row["conf_low"] <= np.exp(-1) <= row["conf_high"]
    # Three standard errors of a binomial share of .95 over the data sets.
    band = 3 * np.sqrt(0.95 * 0.05 / n_sets)
    assert abs(hits / n_sets - 0.95) < band


# Backends ---------------------------------------------------------------------------------


def test_every_backend_gives_the_same_curve(backend: Callable[[pl.DataFrame], Any]) -> None:
    spells = spells_of(random_rows(300, 4))
    expected = retention_curve(spells, as_of=AS_OF, entry_col="entered_on", by="brand").table
    found = retention_curve(backend(spells), as_of=AS_OF, entry_col="entered_on", by="brand").table
    assert_frame_equal(found, expected)


def test_every_backend_gives_the_same_returns(backend: Callable[[pl.DataFrame], Any]) -> None:
    events = events_of(random_events(800, 2))
    for by in ((), ("kind",)):
        for metric in (cohort_retention, repeat_rate):
            expected = metric(events, as_of=AS_OF, by=by).table
            assert_frame_equal(metric(backend(events), as_of=AS_OF, by=by).table, expected)


# Coming back ------------------------------------------------------------------------------

Event = tuple[int, int]


def events_of(events: list[Event]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "customer_id": [customer for customer, _ in events],
            "happened_on": [FIRST + timedelta(days=day) for _, day in events],
            "kind": ["car" if customer % 3 else "service" for customer, _ in events],
        },
        schema_overrides={"customer_id": pl.Int64, "happened_on": pl.Date},
    )


def random_events(n: int, seed: int) -> list[Event]:
    rng = np.random.default_rng(seed)
    return [
        (int(c), int(d))
        for c, d in zip(rng.integers(0, n // 5, n), rng.integers(0, 1900, n), strict=True)
    ]


EVENTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1900)), min_size=1, max_size=50)


@given(events=EVENTS)
@settings(max_examples=60, deadline=None)
def test_cohorts_equal_their_slow_twin(events: list[Event]) -> None:
    as_of = FIRST + timedelta(days=1500)
    table = cohort_retention(events_of(events), as_of=as_of, period="quarter", n_periods=8).table
    quarters: dict[int, set[int]] = {}
    for customer, day in events:
        on = FIRST + timedelta(days=day)
        if on <= as_of:
            quarters.setdefault(customer, set()).add(on.year * 4 + (on.month - 1) // 3)
    expected = {}
    for first in {min(active) for active in quarters.values()}:
        cohort = [active for active in quarters.values() if min(active) == first]
        for later in range(1, 9):
            year, quarter = divmod(first + later + 1, 4)
            if date(year, quarter * 3 + 1, 1) <= as_of + timedelta(days=1):
                n_active = sum(first + later in active for active in cohort)
                expected[first, later] = (len(cohort), n_active)
    found = {
        (row["cohort"].year * 4 + row["cohort"].month // 3, row["period"]): (
            row["n"],
            row["n_active"],
        )
        for row in table.to_dicts()
    }
    assert found == expected


@given(events=EVENTS, within_months=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_repeat_rate_equals_its_slow_twin(events: list[Event], within_months: int) -> None:
    as_of = FIRST + timedelta(days=1500)
    row = repeat_rate(events_of(events), as_of=as_of, within_months=within_months).table.row(
        0, named=True
    )
    n = n_repeated = 0
    for customer in {c for c, _ in events}:
        days = sorted({FIRST + timedelta(days=d) for c, d in events if c == customer})
        days = [day for day in days if day <= as_of]
        if days and months_between(days[0], as_of) >= within_months:
            n += 1
            if len(days) > 1:
                # The anniversary itself is inside the window; the day after it is not.
                before = months_between(days[0], days[1] - timedelta(days=1))
                n_repeated += before < within_months
    assert (row["n"], row["n_repeated"]) == (n, n_repeated)
    assert row["estimate"] == (pytest.approx(n_repeated / n) if n else None)


def test_immature_cells_are_absent_not_zero() -> None:
    events = events_of([(1, 0), (2, 1), (3, 40)])
    table = cohort_retention(events, as_of=date(2018, 3, 30), n_periods=6).table
    assert table.select("cohort", "period", "n_active").rows() == [(date(2018, 1, 1), 1, 0)]


def test_cohorts_are_shown_by_their_year_or_month() -> None:
    events = events_of([(1, 0), (1, 400), (2, 1)])
    years = cohort_retention(events, as_of=AS_OF, period="year").show(figure=False).table
    months = cohort_retention(events, as_of=AS_OF, period="month").show(figure=False).table
    assert years is not None
    assert months is not None
    assert (years.rows[0][0], months.rows[0][0]) == ("2018", "January 2018")


# Bad input --------------------------------------------------------------------------------


def test_missing_column_names_the_near_one() -> None:
    spells = spells_of([(0, 10, 0)]).rename({"ended_on": "end_on"})
    with pytest.raises(ColumnError, match=r"no column 'ended_on' \(did you mean 'end_on'\?\)"):
        retention_curve(spells, as_of=AS_OF)


def test_text_dates_are_refused() -> None:
    spells = spells_of([(0, 10, 0)]).with_columns(pl.col("started_on").cast(pl.String))
    with pytest.raises(ColumnError, match="never guessed to be a date"):
        retention_curve(spells, as_of=AS_OF)


def test_null_starts_are_refused_with_their_count() -> None:
    spells = spells_of([(0, 10, 0), (1, 10, 0)]).with_columns(
        started_on=pl.when(pl.col("brand") == "Kia").then("started_on")
    )
    with pytest.raises(ColumnError, match="null in 1 of 2 rows"):
        retention_curve(spells, as_of=AS_OF)


def test_spells_that_end_before_they_start_are_refused() -> None:
    spells = spells_of([(10, 5, 0)]).with_columns(ended_on=pl.lit(FIRST))
    with pytest.raises(InputError, match="1 of 1 have 'ended_on' before 'started_on'"):
        retention_curve(spells, as_of=AS_OF)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"as_of": "2022-12-31"}, "as a datetime.date"),
        ({"as_of": AS_OF, "unit": "months"}, r"did you mean 'month'\?"),
        ({"as_of": AS_OF, "conf_level": 95}, "between 0 and 1"),
        ({"as_of": AS_OF, "by": "dealer"}, "no column 'dealer'"),
        ({"as_of": AS_OF, "by": ("brand", "brand")}, "more than once"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        retention_curve(spells_of([(0, 10, 0)]), **arguments)


def test_as_of_before_the_data_says_that_there_is_nothing() -> None:
    curve = retention_curve(spells_of([(10, 5, 0)]), as_of=FIRST)
    assert curve.table.is_empty()
    assert "nothing to count" in curve.notes[0]
    assert "nobody" in str(curve)
    assert "NaN" not in curve.show().to_html()


def test_nobody_and_one_customer_make_a_page_without_nan() -> None:
    for events in (events_of([]), events_of([(1, 3)])):
        for result in (
            repeat_rate(events, as_of=AS_OF),
            cohort_retention(events, as_of=AS_OF),
        ):
            html = result.show().to_html()
            assert "nan" not in html.lower().replace("finance", "")
            assert result.notes
    one = retention_curve(spells_of([(0, None, 0)]), as_of=AS_OF)
    assert one.table["estimate"].unique().to_list() == [1.0]
    assert "Only 1 relationships" in one.notes[0]


def test_a_time_nobody_was_observed_for_is_null_with_a_note() -> None:
    spells = spells_of([(1800, None, 0), (0, None, 0), (1, 300, 0)])
    late = spells_of([(1800, None, 0)])
    for curve in (
        retention_curve(late, as_of=AS_OF),
        retention_curve(late.clear(), as_of=AS_OF),
        retention_curve(spells, as_of=AS_OF, by="brand"),
    ):
        row = curve.after(59).table.filter(pl.col("estimate").is_null())
        assert row.height == 1 or curve.by
        assert curve.after(90).notes
    assert retention_curve(spells, as_of=AS_OF, by="brand").after(3).table["n"].to_list() == [2, 1]


def test_where_everybody_has_gone_the_interval_is_null() -> None:
    curve = retention_curve(spells_of([(0, 40, 0), (0, 45, 0)]), as_of=AS_OF, unit="day")
    last = curve.table.row(-1, named=True)
    assert (last["estimate"], last["conf_low"], last["conf_high"]) == (0.0, None, None)
    assert any("undefined" in note for note in curve.notes)
