"""What comes next: against closed forms, a simulation, a loop anyone can check, and the past."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from scipy import stats

from crm_analysis import InputError, remembered
from crm_analysis.forecast import (
    pipeline_backtest,
    pipeline_forecast,
    sales_backtest,
    sales_forecast,
    semi_markov,
    service_demand,
    service_demand_backtest,
)
from crm_analysis.forecast.backtest import judge
from crm_analysis.forecast.counts import count_bounds
from crm_analysis.forecast.semi_markov import Stays, ahead, count_hazards, entered, expected

AS_OF = date(2025, 12, 31)
STEPS = ["new", "visit", "offer"]
EXACT = 1e-12

Backend = Callable[[pl.DataFrame], Any]

# --- the process ----------------------------------------------------------------------------------

WON = np.array([0.0, 0.0, 1.0, 0.0])
"""Two states and two ends, of which the first is asked about."""


def constant_hazards(days: int) -> Any:
    """State 0 goes on with .10 a day and is lost with .05; state 1 is won with .20."""
    hazard = np.zeros((2, 4, days + 1))
    hazard[0, 1, 1:], hazard[0, 3, 1:], hazard[1, 2, 1:] = 0.10, 0.05, 0.20
    return hazard[None]


def test_the_chance_of_winning_is_that_of_two_geometric_waits() -> None:
    """P(first wait = k, on) P(second wait <= H - k), added up by hand."""
    horizon = 30
    [gained] = entered(constant_hazards(200), WON, horizon)
    by_hand = sum(
        0.10 * 0.85 ** (k - 1) * (1 - 0.80 ** (horizon - k)) for k in range(1, horizon + 1)
    )
    assert gained[0, horizon] == pytest.approx(by_hand, abs=EXACT)
    assert gained[1, horizon] == pytest.approx(1 - 0.80**horizon, abs=EXACT)


def test_a_wait_without_memory_forgets_how_long_it_has_lasted() -> None:
    hazard = constant_hazards(200)
    gained = entered(hazard, WON, 30)
    later = ahead(hazard, gained, WON, np.array([0, 1]), np.array([60, 7]), 30)
    assert later[0, :, -1] == pytest.approx(gained[0, :, 30], abs=1e-10)


def test_hazards_are_events_over_those_at_risk() -> None:
    stays = Stays(
        state=np.zeros(5, np.int64),
        days=np.array([0, 2, 2, 2, 3]),
        to=np.array([1, 1, 2, -1, 1]),
        unit=np.arange(5),
    )
    [hazard] = count_hazards(stays, 1, 2, 4)
    assert hazard[0, 1].tolist() == [1 / 5, 0, 1 / 4, 1, 0]
    assert hazard[0, 2].tolist() == [0, 0, 1 / 4, 0, 0]


def test_hazards_are_counted_again_without_each_part() -> None:
    rng = np.random.default_rng(4)
    columns = rng.integers([0, 0, -1, 0], [3, 40, 4, 30], (500, 4)).T
    stays = Stays(*columns)
    whole, *without = count_hazards(stays, 3, 2, 30, 7)
    assert (whole == count_hazards(stays, 3, 2, 30)[0]).all()
    for part, hazard in enumerate(without):
        kept = stays.unit % 7 != part
        rest = Stays(*columns[:, kept])
        assert (hazard == count_hazards(rest, 3, 2, 30)[0]).all()


def test_what_is_expected_is_told_by_weeks_and_kept_for_the_next_who_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    stays = Stays(*rng.integers([0, 0, -1, 0], [3, 40, 4, 30], (500, 4)).T)
    where = (np.array([0, 1, 2]), np.array([0, 5, 12]))
    reward = np.array([0.0, 0.0, 0.0, 1.0])
    asked: dict[str, Any] = {"n_states": 3, "last_day": 30, "parts": 7, "horizon": 28, "every": 7}
    hazard = count_hazards(stays, 3, 1, 30, 7)
    daily = ahead(hazard, entered(hazard, reward, 28), reward, *where, 28)
    remembered.start()
    try:
        found = expected(stays, reward, *where, **asked)
        assert (found == daily[:, :, [6, 13, 20, 27]]).all()
        monkeypatch.setattr(semi_markov, "count_hazards", None)
        assert expected(stays, reward, *where, **asked) is found
    finally:
        remembered.stop()


def test_renewals_of_geometric_gaps_come_at_their_rate() -> None:
    """With hazard h every day, h H visits are expected in H days, from any age."""
    hazard = np.zeros((1, 1, 1, 400))
    hazard[..., 1:] = 0.02
    gained = entered(hazard, np.array([1.0]), 90)
    assert gained[0, 0, 90] == pytest.approx(1.8, abs=1e-9)
    later = ahead(hazard, gained, np.array([1.0]), np.array([0]), np.array([30]), 90)
    assert later[0, 0] == pytest.approx(0.02 * np.arange(1, 91), abs=1e-9)


def test_bounds_of_counts_are_those_of_the_distributions() -> None:
    low, high = count_bounds([10.0, 10.0, 5.0], [10.0, 20.0, 2.5])
    wide = stats.nbinom(10, 0.5)
    assert (low[0], high[0]) == (stats.poisson.ppf(0.025, 10), stats.poisson.ppf(0.975, 10))
    assert (low[1], high[1]) == (wide.ppf(0.025), wide.ppf(0.975))
    assert (low[2], high[2]) == (stats.binom.ppf(0.025, 10, 0.5), stats.binom.ppf(0.975, 10, 0.5))


# --- the pipeline ---------------------------------------------------------------------------------


def leads(n: int, seed: int, *, first: date = date(2024, 1, 1), days: int = 700) -> pl.DataFrame:
    """Make leads that are opened evenly and go on with known daily chances."""
    rng = np.random.default_rng(seed)
    opened = rng.integers(0, days, n)
    rows = []
    for lead, day in enumerate(opened):
        moment, rows_of = int(day), [("new", int(day))]
        for step, (on, lost) in enumerate([(0.10, 0.05), (0.08, 0.04), (0.10, 0.10)]):
            moment += int(rng.geometric(on + lost))
            if rng.random() < lost / (on + lost):
                rows_of.append(("lost", moment))
                break
            rows_of.append(([*STEPS[1:], "contract"][step], moment))
        rows += [(lead, stage, at) for stage, at in rows_of]
    moments = [datetime(first.year, first.month, first.day) + timedelta(days=d) for _, _, d in rows]  # noqa: DTZ001
    return pl.DataFrame(
        {
            "opportunity_id": [lead for lead, _, _ in rows],
            "stage": [stage for _, stage, _ in rows],
            "happened_at": moments,
            "team": ["a" if lead % 3 else "b" for lead, _, _ in rows],
        }
    )


def true_chance(horizon: int) -> list[float]:
    """The chance of a contract within `horizon` days from each stage: waits have no memory."""
    hazard = np.zeros((3, 5, horizon + 1))
    for state, (on, lost) in enumerate([(0.10, 0.05), (0.08, 0.04), (0.10, 0.10)]):
        hazard[state, state + 1, 1:], hazard[state, 4, 1:] = on, lost
    reward = np.array([0.0, 0.0, 0.0, 1.0, 0.0])
    return [float(value) for value in entered(hazard[None], reward, horizon)[0, :, horizon]]


def test_chances_are_those_that_made_the_leads() -> None:
    events = leads(6_000, seed=1)
    last = date(2025, 9, 30)
    made = pipeline_forecast(events, steps=STEPS, horizon_days=30, as_of=last).table
    for chance, found in zip(true_chance(30), made["mean_chance"].to_list(), strict=True):
        assert found == pytest.approx(chance, abs=0.06)  # two dozen open leads of many ages each


def test_the_prediction_interval_holds_what_comes() -> None:
    """Forty worlds; of 40 intervals at 95 %, 34 or more are inside with probability .999."""
    inside = 0
    last = date(2025, 6, 30)
    for seed in range(40):
        events = leads(700, seed=100 + seed)
        made = pipeline_forecast(events, steps=STEPS, horizon_days=30, as_of=last).total().table
        known = events.filter(pl.col("happened_at").dt.date() <= last)
        done = known.filter(pl.col("stage").is_in(["contract", "lost"]))["opportunity_id"]
        still = set(known["opportunity_id"]) - set(done)
        came = events.filter(
            (pl.col("stage") == "contract")
            & pl.col("opportunity_id").is_in(list(still))
            & (pl.col("happened_at").dt.date() <= last + timedelta(days=30))
        ).height
        assert made["n"].item() == len(still)
        inside += made["conf_low"].item() <= came <= made["conf_high"].item()
    assert inside >= 34


def test_the_pipeline_is_the_same_on_every_backend(backend: Backend) -> None:
    events = leads(300, seed=4)
    asked: dict[str, Any] = {"steps": STEPS, "horizon_days": 30, "as_of": AS_OF, "by": "team"}
    wanted = pipeline_forecast(events, **asked).total().table
    assert pipeline_forecast(backend(events), **asked).total().table.equals(wanted)
    mixed = events.sample(fraction=1.0, shuffle=True, seed=1)
    assert pipeline_forecast(mixed, **asked).total().table.equals(wanted)
    assert (
        wanted["n"].sum()
        == pipeline_forecast(events, **{**asked, "by": ()}).total().table["n"].item()
    )


def test_the_pipelines_backtest_counts_contracts_from_what_was_open() -> None:
    events = leads(1_500, seed=9)
    asked: dict[str, Any] = {"steps": STEPS, "horizon_days": 30}
    tested = pipeline_backtest(events, n_origins=6, as_of=date(2025, 9, 30), **asked)
    assert tested.forecasts.height == 6
    row = tested.forecasts.row(2, named=True)
    assert row["origin"] == date(2025, 9, 30) - timedelta(days=120)
    alone = pipeline_forecast(events, as_of=row["origin"], **asked).total().table
    assert row["estimate"] == pytest.approx(alone["estimate"].item(), abs=1e-9)
    known = events.filter(pl.col("happened_at").dt.date() <= row["origin"])
    done = known.filter(pl.col("stage").is_in(["contract", "lost"]))["opportunity_id"].to_list()
    open_then = set(known["opportunity_id"]) - set(done)
    came = events.filter(
        (pl.col("stage") == "contract")
        & pl.col("opportunity_id").is_in(list(open_then))
        & (pl.col("happened_at").dt.date() <= row["origin"] + timedelta(days=30))
    ).height
    assert row["actual"] == came
    tested.show()


def test_an_end_among_the_steps_is_refused() -> None:
    with pytest.raises(InputError, match="No stage may stand twice or be an end"):
        pipeline_forecast(leads(5, seed=1), steps=["new", "contract"], as_of=AS_OF)


def test_nothing_open_and_nothing_ended_are_said() -> None:
    events = leads(50, seed=2)
    over = pipeline_forecast(events.filter(pl.col("stage") == "lost"), steps=STEPS, as_of=AS_OF)
    assert over.total().table["estimate"].is_null().all()
    assert any("Nothing is open" in note for note in over.notes)
    begun = pipeline_forecast(events.filter(pl.col("stage") == "new"), steps=STEPS, as_of=AS_OF)
    assert begun.total().table["estimate"].is_null().all()
    assert any("chances are not known" in note for note in begun.notes)
    begun.show()


# --- sales ----------------------------------------------------------------------------------------


def monthly(counts: list[int], first: date = date(2020, 1, 1)) -> pl.DataFrame:
    """Make so many sales on the tenth of each month."""
    days = []
    for step, count in enumerate(counts):
        month = first.year * 12 + first.month - 1 + step
        days += [date(month // 12, month % 12 + 1, 10)] * count
    return pl.DataFrame({"contract_on": days}, schema={"contract_on": pl.Date})


def seasonal(n: int, seed: int, level: float = 60.0) -> list[int]:
    rng = np.random.default_rng(seed)
    season = 1 + 0.4 * np.sin(2 * np.pi * np.arange(n) / 12)
    return [int(x) for x in rng.poisson(level * season)]


def test_a_season_is_found_and_foretold() -> None:
    counts = seasonal(72, seed=3)
    made = sales_forecast(monthly(counts), horizon_months=12, as_of=AS_OF)
    truth = 60 * (1 + 0.4 * np.sin(2 * np.pi * np.arange(72, 84) / 12))
    got = made.table["estimate"].to_numpy()
    assert np.corrcoef(got, truth)[0, 1] > 0.9
    assert any("season" in note for note in made.notes)
    assert made.table["month"][0] == date(2026, 1, 1)
    assert made.table["naive"].to_list() == counts[-12:]


def test_sales_intervals_hold_what_comes() -> None:
    """Thirty worlds of six months: 180 counts at 95 %, dependent within a world: .88 at least."""
    inside = 0
    for seed in range(30):
        counts = seasonal(78, seed=200 + seed)
        made = sales_forecast(monthly(counts[:72]), as_of=AS_OF).table
        low, high = made["conf_low"].to_numpy(), made["conf_high"].to_numpy()
        inside += int(np.sum((low <= counts[72:]) & (counts[72:] <= high)))
    assert inside / 180 >= 0.88


def test_the_backtest_makes_each_forecast_from_its_own_past() -> None:
    counts = seasonal(60, seed=5)
    last = date(2024, 12, 31)
    tested = sales_backtest(monthly(counts), horizon_months=2, n_origins=5, as_of=last)
    assert tested.forecasts.height == 10
    row = tested.forecasts.filter(pl.col("ahead") == 1).row(0, named=True)
    alone = sales_forecast(monthly(counts[: row["n"]]), as_of=date(2024, 6, 30)).table
    assert row["n"] == 54
    assert row["estimate"] == pytest.approx(alone["estimate"][0], rel=1e-9)
    assert row["actual"] == counts[54]
    assert row["naive"] == counts[54 - 12]


def test_a_month_that_is_not_over_is_no_past() -> None:
    counts = [20] * 30 + [1]
    made = sales_forecast(monthly(counts), as_of=date(2022, 7, 15))
    assert made.history.height == 30
    assert made.table["month"][0] == date(2022, 7, 1)
    assert made.table["estimate"][0] == 20


def test_a_short_past_is_not_forecast() -> None:
    made = sales_forecast(monthly([5] * 8), as_of=date(2020, 8, 31))
    assert made.table["estimate"].is_null().all()
    assert any("Fewer than 12 whole months" in note for note in made.notes)
    year = sales_forecast(monthly(seasonal(18, 1)), as_of=date(2021, 6, 30))
    assert year.table["estimate"].is_not_null().all()
    assert any("season cannot be told" in note for note in year.notes)
    nothing = sales_forecast(monthly([]), as_of=AS_OF)
    assert "nothing can be said" in str(nothing)
    nothing.show()


# --- the workshop ---------------------------------------------------------------------------------


def cars(n: int, seed: int, *, days: int = 1_200) -> pl.DataFrame:
    """Cars delivered over two years that come every 180 days or so, a fifth never again."""
    rng = np.random.default_rng(seed)
    rows = []
    for car in range(n):
        day = int(rng.integers(0, 700))
        rows.append((car, day, False))
        while rng.random() > 0.2:
            day += int(rng.gamma(8, 180 / 8)) + 1
            if day > days + 60:
                break
            rows.append((car, day, True))
    first = date(2022, 9, 1)
    return pl.DataFrame(
        {
            "vehicle_id": [car for car, _, _ in rows],
            "happened_on": [first + timedelta(days=day) for _, day, _ in rows],
            "is_visit": [visit for _, _, visit in rows],
        }
    )


def test_visits_come_as_expected() -> None:
    """Twenty worlds; of 20 intervals at 95 %, 16 or more are inside with probability .997."""
    last = date(2022, 9, 1) + timedelta(days=1_200)
    inside, expected, came = 0, 0.0, 0
    for seed in range(20):
        events = cars(500, seed=seed)
        known = events.filter(pl.col("happened_on") <= last)
        made = service_demand(known, horizon_weeks=4, as_of=last).table
        window = pl.col("happened_on").is_between(
            last + timedelta(days=1), last + timedelta(days=28)
        )
        actual = events.filter(pl.col("is_visit") & window)
        first_week = actual.filter(pl.col("happened_on") <= last + timedelta(days=7)).height
        inside += made["conf_low"][0] <= first_week <= made["conf_high"][0]
        expected, came = expected + float(made["estimate"].sum()), came + actual.height
    assert inside >= 16
    assert expected == pytest.approx(came, rel=0.06)  # about 1,000 visits: 3 % is one deviation


def test_the_workshops_backtest_sees_only_cars_known_then() -> None:
    events = cars(400, seed=3)
    last = date(2022, 9, 1) + timedelta(days=1_200)
    tested = service_demand_backtest(events, n_origins=6, as_of=last)
    row = tested.forecasts.row(3, named=True)
    known = events.filter(pl.col("happened_on") <= row["origin"])
    window = pl.col("happened_on").is_between(
        row["origin"] + timedelta(days=1), row["origin"] + timedelta(days=28)
    )
    came = events.filter(
        pl.col("is_visit")
        & window
        & pl.col("vehicle_id").is_in(known["vehicle_id"].unique().to_list())
    )
    assert row["actual"] == came.height
    assert row["n"] == known["vehicle_id"].n_unique()
    alone = service_demand(events, horizon_weeks=4, as_of=row["origin"]).table["estimate"].sum()
    assert row["estimate"] == pytest.approx(alone, rel=1e-9)


def test_demand_is_the_same_on_every_backend(backend: Backend) -> None:
    events = cars(60, seed=8).with_columns(place=pl.col("vehicle_id") % 2)
    last = date(2025, 6, 30)
    wanted = service_demand(events, as_of=last, by="place").table
    assert service_demand(backend(events), as_of=last, by="place").table.equals(wanted)


def test_cars_that_never_came_are_not_forecast() -> None:
    events = cars(30, seed=1).filter(~pl.col("is_visit"))
    made = service_demand(events, as_of=AS_OF)
    assert made.table["estimate"].is_null().all()
    assert any("No car has ever come" in note for note in made.notes)
    nothing = service_demand(events.clear(), as_of=AS_OF)
    assert "nothing can be said" in str(nothing)
    nothing.show()


# --- judging --------------------------------------------------------------------------------------


def test_a_forecast_is_judged_by_its_error_beside_the_naive_one() -> None:
    rows = [
        {
            "origin": date(2025, month, 1), "ahead": 1, "n": 10, "actual": 10.0,
            "estimate": 12.0, "conf_low": 11.0 if month == 1 else 5.0, "conf_high": 20.0,
            "naive": 14.0,
        }
        for month in range(1, 9)
    ]  # fmt: skip
    judged = judge(rows, name="x", definition="y", conf_level=0.95)
    assert judged.value("relative_error")["estimate"] == pytest.approx(0.5)
    assert judged.value("coverage")["estimate"] == pytest.approx(7 / 8)
    assert judged.value("bias")["estimate"] == pytest.approx(0.2)
    assert "better than the naive" in str(judged)
    ax: Any = judged.plot(Figure().add_subplot())
    assert ax.get_ylim()[1] > 1.1 * 20.0  # a line for the legend, over every interval
    few = judge(rows[:3], name="x", definition="y", conf_level=0.95)
    assert few.table["estimate"].is_null().all()
    assert few.notes


# --- one figure out of many, and nothing at all ---------------------------------------------------


def test_the_next_month_and_the_next_week_are_one_figure_each() -> None:
    days = [date(2020 + m // 12, m % 12 + 1, 5) for m in range(48) for _sale in range(3)]
    sales = pl.DataFrame({"contract_on": days})
    ahead = sales_forecast(sales, horizon_months=3, as_of=date(2023, 12, 31))
    assert ahead.next_month().table.height == 1
    assert ahead.next_month().table["estimate"][0] == ahead.table["estimate"][0]
    assert "in the same months a year before it was 9" in ahead.sentence()
    events = pl.DataFrame(
        {"vehicle_id": [1, 1], "happened_on": [date(2020, 1, 1), date(2021, 1, 1)],
         "is_visit": [False, True]}
    )  # fmt: skip
    demand = service_demand(events, horizon_weeks=4, as_of=date(2023, 12, 31))
    assert demand.next_week().table.row(0) == demand.table.row(0)


def test_without_a_past_a_backtest_draws_nothing_and_says_so() -> None:
    nothing = pl.DataFrame(schema={"contract_on": pl.Date})
    held = sales_backtest(nothing, as_of=date(2023, 12, 31))
    assert held.show().figure is not None
    assert "nothing can be said" in held.sentence()
    assert held.error().table["estimate"].to_list() == [None]
