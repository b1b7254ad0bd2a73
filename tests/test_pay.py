"""A scheme of pay over what was sold: by hand, and against the draws that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis import InputError, PayScheme, pay_simulation
from crm_analysis.managers.pay_scheme import bonus_moments, falls_apart

SINCE, AS_OF = date(2025, 1, 1), date(2025, 12, 31)
DAYS = 365
PERIOD: dict[str, Any] = {"since": SINCE, "as_of": AS_OF}
SCHEME = PayScheme(
    base=1000, per_deal=100, margin_share=0.1, steps={2: 300, 4: 900}, per_pleased=20
)

DRAWS = 40_000
DRAWN = 0.03
"""Relative error of a standard deviation over so many draws, with room: 1 / sqrt(2 * 40,000)."""


def by_hand() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Three managers: one sells 1, 2 and 4 cars in three months, one one car, one none."""
    sold = [(m, i) for m, n in {1: 1, 2: 2, 3: 4}.items() for i in range(n)]
    deals: list[tuple[str, float | None, date]] = [
        *(("a", 1000.0 + 100 * i, date(2025, m, 10 + i)) for m, i in sold),
        ("b", None, date(2025, 5, 5)),
        ("b", 5000.0, date(2024, 12, 31)),
    ]
    loads = [("a", 365), ("b", 73), ("c", 365)]
    answers = [("a", 5, date(2025, 2, 1)), ("a", 4, date(2025, 2, 1)), ("b", 5, date(2026, 1, 1))]
    return (
        pl.DataFrame(deals, schema=["manager", "margin", "happened_on"], orient="row"),
        pl.DataFrame(loads, schema=["manager", "days_on_duty"], orient="row"),
        pl.DataFrame(answers, schema=["manager", "score", "answered_on"], orient="row"),
    )


def test_pay_is_what_a_clerk_would_have_paid(backend: Callable[[pl.DataFrame], Any]) -> None:
    deals, loads, answers = by_hand()
    found = pay_simulation(
        backend(deals), scheme=SCHEME, loads=backend(loads), answers=backend(answers), **PERIOD
    )
    margins = sum(1000 + 100 * i for n in (1, 2, 4) for i in range(n))
    base = 1000 * 365 / (365.25 / 12)
    a = base + 100 * 7 + 0.1 * margins + 300 + 900 + 20
    b, c = base / 5 + 100, base
    lasted = 12 * 365 / 365.25
    pay = dict(found.managers.table.select("manager", "estimate").rows())
    assert pay == pytest.approx({"a": a / lasted, "b": 5 * b / lasted, "c": c / lasted})
    assert found.total.table["estimate"].item() == pytest.approx(a + b + c)
    assert found.cost_per_deal.table["estimate"].item() == pytest.approx((a + b + c) / 8)
    assert found.steps.table["n_reached"].to_list() == [2, 1]
    assert found.steps.table["n"].to_list() == [26, 26]  # twelve months of two, and two of one
    # Three people are one row, and its parts make up the pay.
    row = found.table.row(0, named=True)
    assert row["n"] == 3
    assert sum(
        row[part] for part in ("base", "deals", "margin", "bonus", "pleased")
    ) == pytest.approx(row["estimate"])
    assert "Of 1 cars the margin is not known" in found.notes[-1]


def test_the_interval_is_that_of_the_draws_it_stands_for() -> None:
    """Cars drawn a Poisson number of times at the manager's pace, month by month."""
    rng = np.random.default_rng(1)
    margins = rng.gamma(4, 400, 30)
    deals = pl.DataFrame(
        {
            "manager": "a", "margin": margins,
            "happened_on": [SINCE + timedelta(days=int(d)) for d in rng.integers(0, DAYS, 30)],
        }
    )  # fmt: skip
    loads = pl.DataFrame({"manager": ["a"], "days_on_duty": [DAYS]})
    scheme = PayScheme(per_deal=100, margin_share=0.1, steps={2: 300, 4: 900})
    made = pay_simulation(deals, scheme=scheme, loads=loads, **PERIOD).total.table
    cars = rng.poisson(30 / 12, (DRAWS, 12))
    bonus = np.where(cars >= 4, 900, np.where(cars >= 2, 300, 0)).sum(axis=1)
    total = cars.sum(axis=1)
    own = np.concatenate([[0.0], np.cumsum(rng.choice(100 + 0.1 * margins, total.max() * 400))])
    start = rng.integers(0, len(own) - total.max() - 1, DRAWS)
    drawn = bonus + own[start + total] - own[start]
    assert made["std_error"].item() == pytest.approx(drawn.std(), rel=DRAWN)


def test_moments_of_a_bonus_are_those_of_its_draws() -> None:
    rng = np.random.default_rng(2)
    scheme = PayScheme(steps={3: 400, 5: 1000, 6: 1000})
    cars = rng.poisson(3.2, DRAWS * 10)
    drawn = np.array([scheme.bonus(n) for n in range(cars.max() + 1)])[cars]
    spread, along = bonus_moments(np.array([3.2, 0.0]), scheme)
    assert spread[0] == pytest.approx(drawn.var(), rel=0.01)
    assert along[0] == pytest.approx(np.cov(drawn, cars)[0, 1], rel=0.02)
    assert (spread[1], along[1]) == (0, 0)
    apart = (cars[::2] >= 3) != (cars[1::2] >= 3)
    assert falls_apart(np.array([3.2]), 3)[0] == pytest.approx(apart.mean(), abs=0.005)


def test_managers_stand_in_quarters_and_never_alone() -> None:
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(13), rng.integers(5, 40, 13))
    days = rng.integers(0, DAYS, len(who))
    deals = pl.DataFrame(
        {
            "manager": [f"m{i}" for i in who], "margin": 1000.0,
            "happened_on": [SINCE + timedelta(days=int(day)) for day in days],
        }
    )  # fmt: skip
    loads = pl.DataFrame({"manager": [f"m{i}" for i in range(13)], "days_on_duty": DAYS})
    scheme = PayScheme(base=500, per_deal=100, steps={3: 400})
    found = pay_simulation(deals, scheme=scheme, loads=loads, currency="EUR", **PERIOD)
    assert found.table["n"].sum() == 13
    assert min(found.table["n"]) >= 3
    assert found.table["estimate"].is_sorted()
    assert "by luck alone" in found.sentence()
    found.show()
    assert found.steps.sentence().startswith("Months that reached a step: 3 cars – ")
    found.steps.show()
    two = loads.head(2)
    few = pay_simulation(
        deals.filter(pl.col("manager").is_in(["m0", "m1"])), scheme=scheme, loads=two, **PERIOD
    )
    assert few.table["estimate"].null_count() == 1
    assert "not shown for fewer than 3 managers" in few.sentence()
    few.show()


def test_cars_moved_over_a_step_are_noticed() -> None:
    """Ten managers with three cars in a month or none, at the pace of two; and an honest team."""
    rows = []
    for manager in range(10):
        for month in (m for m in range(1, 13) if m % 3):
            rows += [(f"m{manager}", 900.0, date(2025, month, 1 + i)) for i in range(3)]
    names = ["manager", "margin", "happened_on"]
    loads = pl.DataFrame({"manager": [f"m{i}" for i in range(10)], "days_on_duty": DAYS})
    scheme = PayScheme(per_deal=10, steps={3: 500})
    found = pay_simulation(
        pl.DataFrame(rows, schema=names, orient="row"), scheme=scheme, loads=loads, **PERIOD
    )
    assert any("moved between months" in note for note in found.notes)
    rng = np.random.default_rng(4)
    honest = pl.DataFrame(
        {
            "manager": [f"m{i}" for i in rng.integers(0, 10, 240)], "margin": 900.0,
            "happened_on": [SINCE + timedelta(days=int(d)) for d in rng.integers(0, DAYS, 240)],
        }
    )  # fmt: skip
    quiet = pay_simulation(honest, scheme=scheme, loads=loads, **PERIOD)
    assert not any("moved" in note for note in quiet.notes)


def test_nobody_and_nothing_sold_are_said() -> None:
    deals, loads, _answers = by_hand()
    scheme = PayScheme(base=1000, steps={2: 100})
    nobody = pay_simulation(deals.clear(), scheme=scheme, loads=loads.clear(), **PERIOD)
    assert nobody.total.table["estimate"].item() is None
    assert "nothing can be said" in nobody.sentence()
    idle = pay_simulation(deals.clear(), scheme=scheme, loads=loads, **PERIOD)
    assert idle.total.table["estimate"].item() == pytest.approx(1000 * 803 / (365.25 / 12))
    assert idle.total.table["std_error"].item() == 0
    assert idle.cost_per_deal.table["estimate"].item() is None
    idle.show()
    plain = pay_simulation(deals, scheme=PayScheme(per_deal=1), loads=loads, **PERIOD)
    assert plain.steps.table.is_empty()
    assert "luck" not in plain.sentence()
    assert_frame_equal(plain.managers.table.select("n"), pl.DataFrame({"n": [7, 1, 0]}))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"base": -1}, "takes money away"),
        ({"steps": {2: 500, 4: 300}}, "pays less for a higher step"),
        ({"steps": {0: 500}}, "whole number of cars from 1 on"),
        ({"steps": {2.5: 500}}, "whole number of cars from 1 on"),
    ],
)
def test_a_scheme_must_be_one(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PayScheme(**asked)


def test_a_plan_file_may_write_steps_as_text() -> None:
    assert PayScheme(steps={"5": 900, "3": 400}).steps == {3: 400.0, 5: 900.0}  # type: ignore[dict-item]


def test_pay_for_satisfaction_needs_answers() -> None:
    deals, loads, _answers = by_hand()
    with pytest.raises(InputError, match="no answers were given"):
        pay_simulation(deals, scheme=SCHEME, loads=loads, **PERIOD)
