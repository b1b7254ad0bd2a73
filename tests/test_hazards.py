"""The processes of the generator, held against the hazards that made them.

A counting process less its integrated hazard is a martingale: the difference of events and
expectation, over the root of the expectation, is standard normal. Time counted in integrated hazard
is exponential of mean one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from scipy import stats

from synthetic import Network, find_preset, make_network
from synthetic.cars import OWN_CAR
from synthetic.clock import YEAR, day_of
from synthetic.customers import make_customers
from synthetic.keyed import Floats, Ints
from synthetic.referral import first_leads
from synthetic.relation import SCHEDULED, STILL_HERE, UNPLANNED, Relations, walk_relations
from synthetic.season import Season, make_season
from synthetic.world import lay_ground

Z = 4.0
"""Standard errors that a correct count stays within, but for one seed in fifteen thousand."""

LEAST_P = 1e-4
"""Chance with which a Kolmogorov-Smirnov test calls a correct world wrong."""

SEEDS = (1, 2, 3, 4)
N = 6_000
"""Customers of each world walked here: some two thousand relationships."""


@cache
def _walked(seed: int) -> Relations:
    ground = lay_ground(find_preset("tiny", n_customers=N), seed)
    who = make_customers(ground.market, np.arange(1, N + 1), ground.edges)
    return walk_relations(ground.market, who, *first_leads(ground.market, who))


@cache
def _network(seed: int) -> Network:
    return make_network(preset="tiny", seed=seed)


def _z(events: float, expected: float) -> float:
    return (events - expected) / math.sqrt(expected)


def _chi2_fits(z: list[float]) -> bool:
    """Say whether z values are each within bounds, and together as spread as standard normals."""
    total = float(np.square(z).sum())
    return max(map(abs, z)) < Z and LEAST_P < stats.chi2.sf(total, len(z)) < 1 - LEAST_P


# --- the season -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def season() -> Season:
    return make_season(find_preset("tiny"))


def _factors(days: Ints) -> Floats:
    months = find_preset("tiny").relation.month
    return np.array([months[(date(1970, 1, 1) + timedelta(days=int(d))).month - 1] for d in days])


def test_weighted_days_equal_a_sum_day_by_day(season: Season) -> None:
    first = day_of(find_preset("tiny").starts_on)
    for start, length in ((0, 1), (5, 40), (200, 900), (31, 0)):
        days = np.arange(first + start, first + start + length)
        at = np.array([first + start])
        assert season.days(at, at + length) == pytest.approx(_factors(days).sum(), abs=1e-9)
    assert season.mean(at, at) == 1.0


def test_the_day_a_sum_is_reached_is_found_exactly(season: Season) -> None:
    """A slow twin adds day after day until the sum is passed."""
    first = day_of(find_preset("tiny").starts_on)
    rng = np.random.default_rng(1)
    starts, sums = first + rng.integers(0, 2000, 200), rng.exponential(300.0, 200)
    found = season.reached(starts, sums)
    for start, wanted, day in zip(starts, sums, found, strict=True):
        factors = np.cumsum(_factors(np.arange(start, start + 3000)))
        assert day == start + int(np.searchsorted(factors, wanted, side="right"))


def test_the_season_of_defection_is_a_mean_of_one() -> None:
    months = np.array(find_preset("tiny").relation.month)
    assert months.mean() == pytest.approx(1.0, abs=1e-9)
    assert months.max() > 1.1
    assert months.min() < 0.95


def test_more_customers_leave_in_the_months_that_say_so() -> None:
    """Defections by month against the hazards integrated day by day."""
    events, expected = np.zeros(12), np.zeros(12)
    months = np.array(find_preset("tiny").relation.month)
    for seed in SEEDS:
        walked = _walked(seed)
        spans, fates = walked.intervals, walked.fates
        last = fates["end"][fates["cause"] == 0] - 1
        month = last.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12
        events += np.bincount(month, minlength=12)
        base = spans["hazard"] / spans["season"] / YEAR
        days = spans["stop"] - spans["start"]
        day = np.repeat(spans["start"], days) + np.arange(days.sum())
        day -= np.repeat(np.cumsum(days) - days, days)
        month = day.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12
        expected += np.bincount(month, weights=np.repeat(base, days) * months[month], minlength=12)
    assert expected.min() > 100
    z = [_z(float(n), float(m)) for n, m in zip(events, expected, strict=True)]
    assert _chi2_fits(z)


# --- martingales by cause -------------------------------------------------------------------------


@pytest.mark.parametrize("in_warranty", [True, False])
def test_defections_less_their_hazards_are_a_martingale(in_warranty: bool) -> None:
    z = []
    for seed in SEEDS:
        walked = _walked(seed)
        spans, fates = walked.intervals, walked.fates
        gone = dict(zip(fates["customer"], fates["end"] * (fates["cause"] == 0), strict=True))
        here = spans["in_warranty"] == in_warranty
        ends = np.array([gone[customer] for customer in spans["customer"][here]])
        events = float((ends == spans["stop"][here]).sum())
        years = (spans["stop"] - spans["start"])[here] / YEAR
        z.append(_z(events, float((spans["hazard"][here] * years).sum())))
    assert _chi2_fits(z)


def test_rescaled_times_to_defection_are_exponential() -> None:
    """Those who leave otherwise are censored: a Kaplan-Meier twin of the test, with its own z."""
    for seed in SEEDS:
        walked = _walked(seed)
        spans, fates = walked.intervals, walked.fates
        years = (spans["stop"] - spans["start"]) / YEAR
        _, at = np.unique(spans["customer"], return_inverse=True)
        spent = np.bincount(at, weights=spans["hazard"] * years)
        order = np.argsort(spent)
        event = (fates["cause"] == 0)[order]
        spent, risk = spent[order], np.arange(len(spent), 0, -1)
        hazard, error = np.cumsum(event / risk), np.sqrt(np.cumsum(event / risk**2))
        for level in (0.1, 0.3, 0.6, 1.0, 1.5):
            place = int(np.searchsorted(spent, level)) - 1
            assert abs(hazard[place] - level) < Z * error[place] + 1e-3


def _car_ages(walked: Relations, customer: Ints, car: Ints) -> tuple[Floats, Ints]:
    """Return the age of cars when their ownership began, and the day it did."""
    cars = walked.cars
    key = cars["customer"] * 10 + cars["car"]
    order = np.argsort(key)
    at = order[np.searchsorted(key[order], customer * 10 + car)]
    return cars["age"][at], cars["start"][at]


def _stretches(walked: Relations) -> tuple[Ints, Ints, Floats, Ints]:
    """Return from each event: the next one's day, whether a repair, the rate, days at risk.

    Events are deliveries and visits; each draws the next repair at the age of the car.
    """
    visits, cars, fates = walked.visits, walked.cars, walked.fates
    sold = cars["car"] != OWN_CAR
    customer = np.concatenate([visits["customer"], cars["customer"][sold]])
    day = np.concatenate([visits["day"], cars["start"][sold]])
    kind = np.concatenate(
        [np.where(visits["unplanned"], UNPLANNED, SCHEDULED), np.full(sold.sum(), 2)]
    )
    car = np.concatenate([visits["car"], cars["car"][sold]])
    order = np.lexsort([kind != 2, day, customer])
    customer, day, kind, car = (part[order] for part in (customer, day, kind, car))
    same = np.append(customer[1:] == customer[:-1], False)
    ends = fates["end"][np.searchsorted(fates["customer"], customer)]
    next_day = np.where(same, np.append(day[1:], 0), ends)
    repair = same & (np.append(kind[1:], 0) == UNPLANNED)
    age, start = _car_ages(walked, customer, car)
    rules = find_preset("tiny").relation
    years = np.minimum(age + (day - start) / YEAR, 20)
    rate = rules.repairs * np.exp(rules.repairs_growth * years)
    kept = _kept_until(walked, customer, car)
    stop = np.where(repair, next_day + 1, np.minimum(next_day, kept))
    return next_day, repair.astype(np.int64), rate, np.maximum(stop - day - 1, 0)


def _kept_until(walked: Relations, customer: Ints, car: Ints) -> Ints:
    cars = walked.cars
    key = cars["customer"] * 10 + cars["car"]
    order = np.argsort(key)
    return np.asarray(cars["until"][order[np.searchsorted(key[order], customer * 10 + car)]])


def test_unplanned_repairs_less_their_hazards_are_a_martingale() -> None:
    """Day by day from each event on: 1 - exp(-rate / 365.25), at the rate of the car's age then."""
    z = []
    for seed in SEEDS:
        _, repair, rate, days = _stretches(_walked(seed))
        chance = 1 - np.exp(-rate / YEAR)
        expected = float((days * chance).sum())
        assert expected > 500
        z.append(_z(float(repair.sum()), expected))
    assert _chi2_fits(z)


def test_ownership_clocks_are_weibull() -> None:
    """The rise of the integrated Weibull hazard over each ownership is exponential, mean one."""
    rules = find_preset("tiny").relation
    for seed in SEEDS:
        cars = _walked(seed).cars
        scale, elapsed = cars["scale"], cars["elapsed"]
        kept = (cars["until"] - cars["start"] - 0.5) / YEAR
        shape = rules.ownership_shape
        risen = ((elapsed + kept) / scale) ** shape - (elapsed / scale) ** shape
        assert stats.kstest(risen, "expon").pvalue > LEAST_P


def test_repurchases_less_their_probabilities_are_a_martingale() -> None:
    z = []
    for seed in SEEDS:
        cars = _walked(seed).cars
        asked = ~np.isnan(cars["p_return"])
        customer, p = cars["customer"][asked], cars["p_return"][asked]
        here = np.array(
            [
                ((cars["customer"] == one) & (cars["start"] > start)).any()
                for one, start in zip(customer, cars["start"][asked], strict=True)
            ]
        )
        spread = math.sqrt(float((p * (1 - p)).sum()))
        z.append(float(here.sum() - p.sum()) / spread)
    assert _chi2_fits(z)


def test_every_relationship_ends_of_one_cause_or_is_followed_to_the_end() -> None:
    fates = _walked(1).fates
    still = fates["cause"] == STILL_HERE
    assert (fates["end"][still] >= fates["limit"][still]).all()
    assert (fates["end"][~still] <= fates["limit"][~still] + 400).all()
    assert 0 < still.mean() < 0.5


@pytest.mark.parametrize("truth", ["truth_contact", "truth_case"])
def test_uniforms_that_decide_are_uniform(truth: str) -> None:
    uniform = _network(1).truth[truth].collect()["uniform"].to_numpy()
    assert stats.kstest(uniform, "uniform").pvalue > LEAST_P


def test_survey_answers_less_their_probabilities_are_a_martingale() -> None:
    """Of those sent long enough ago to be answered, over each band of satisfaction."""
    z = []
    for seed in SEEDS:
        tables, truth = _network(seed).tables, _network(seed).truth
        both = tables["surveys"].join(truth["truth_survey"], on="survey_id").collect()
        old = both.filter(pl.col("sent_at").dt.date() < date(2025, 11, 1))
        for low, high in ((-9.0, -0.5), (-0.5, 0.5), (0.5, 9.0)):
            band = old.filter(pl.col("satisfaction").is_between(low, high, closed="left"))
            p = band["answer_probability"].to_numpy()
            answered = band["answered_at"].is_not_null().sum()
            z.append(float(answered - p.sum()) / math.sqrt(float((p * (1 - p)).sum())))
    assert _chi2_fits(z)


# --- the price of the next car --------------------------------------------------------------------


def test_dear_cars_are_bought_again_less_often() -> None:
    """The same customers, with prices that weigh nothing and much in the choice."""
    config = find_preset("tiny", n_customers=N)
    p = []
    for effect in (0.0, -12.0):
        rules = replace(config.relation, return_price=effect)
        ground = lay_ground(replace(config, relation=rules), 1)
        who = make_customers(ground.market, np.arange(1, N + 1), ground.edges)
        cars = walk_relations(ground.market, who, *first_leads(ground.market, who)).cars
        first = cars["car"] == 0
        p.append(dict(zip(cars["customer"][first], cars["p_return"][first], strict=True)))
    both = [c for c in p[0] if not math.isnan(p[0][c]) and not math.isnan(p[1].get(c, math.nan))]
    moved = np.array([p[1][c] - p[0][c] for c in both])
    assert len(both) > 200
    assert (moved < -0.01).any()
    assert (moved > 0.01).any()
    assert abs(moved.mean()) < 0.02
