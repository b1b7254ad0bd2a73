"""Customers who answer more than once: a loop anyone can check, and what intervals then cover."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from crm_analysis import mean_score, net_promoter_score, top_box_score

AS_OF = date(2025, 12, 31)
EXACT = 1e-9
"""Sums in another order differ by rounding alone."""

Answer = tuple[int | None, int, int, int]
ANSWERS = st.lists(
    st.tuples(
        st.none() | st.integers(0, 6), st.integers(0, 10), st.integers(0, 2), st.integers(0, 400)
    ),
    min_size=2,
    max_size=40,
)  # fmt: skip


def table_of(answers: list[Answer]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "customer_id": [customer for customer, *_ in answers],
            "score": [score for _, score, *_ in answers],
            "dealership": [f"d{place}" for *_, place, _ in answers],
            "answered_on": [AS_OF - timedelta(days=ago) for *_, ago in answers],
        },
        schema_overrides={"customer_id": pl.Int64, "score": pl.Float64},
    )


def slow_effect(answers: list[Answer], groups: Callable[[Answer], Any]) -> float:
    """The design effect, one customer and one answer at a time."""
    clustered = plain = 0.0
    for group in {groups(answer) for answer in answers}:
        inside = [answer for answer in answers if groups(answer) == group]
        mean = sum(score for _, score, *_ in inside) / len(inside)
        residuals: dict[object, float] = {}
        for number, (customer, score, *_) in enumerate(inside):
            who = ("nobody", number) if customer is None else customer
            residuals[who] = residuals.get(who, 0.0) + score - mean
        many, n = len(residuals), len(inside)
        if many > 1:
            clustered += many / (many - 1) * sum(z**2 for z in residuals.values())
            plain += n / (n - 1) * sum((score - mean) ** 2 for _, score, *_ in inside)
    return max(1.0, clustered / plain) if plain > 1e-12 else 1.0


@given(answers=ANSWERS, grouped=st.booleans())
@settings(max_examples=25, deadline=None)
def test_standard_errors_grow_by_the_design_effect(answers: list[Answer], *, grouped: bool) -> None:
    table, by = table_of(answers), ("dealership",) if grouped else ()
    plain = mean_score(table, scale=(0, 10), as_of=AS_OF, by=by).table
    wider = mean_score(table, scale=(0, 10), as_of=AS_OF, by=by, customer_col="customer_id").table
    effect = slow_effect(answers, (lambda answer: answer[2]) if grouped else (lambda _: 0))
    assert_frame_equal(wider["n", "estimate"], plain["n", "estimate"])
    known = plain["std_error"].is_not_null()
    np.testing.assert_allclose(
        wider.filter(known)["std_error"],
        plain.filter(known)["std_error"] * np.sqrt(effect),
        atol=EXACT,
    )
    for bound, sign in (("conf_low", -1), ("conf_high", 1)):
        both = plain.select(plain=bound).with_columns(wider=wider[bound]).drop_nulls()
        assert (sign * (both["wider"] - both["plain"]) >= -EXACT).all()


def test_customers_who_answered_once_change_nothing() -> None:
    once = table_of([(c, c % 11, c % 3, c) for c in range(60)])
    for metric in (net_promoter_score, lambda t, **k: top_box_score(t, scale=(0, 10), **k)):
        assert_frame_equal(
            metric(once, as_of=AS_OF, customer_col="customer_id").table,
            metric(once, as_of=AS_OF).table,
        )


def test_repeated_answers_are_said_with_what_they_are_worth() -> None:
    thrice = table_of([(c, score, 0, 1) for c in range(40) for score in [(c * 7) % 11] * 3])
    result = net_promoter_score(thrice, as_of=AS_OF, customer_col="customer_id")
    assert any("120 answers of 40 customers" in note for note in result.notes)
    assert "answered more than once" in result.definition
    # Three like answers say no more than one, but for the loss of a degree of freedom.
    once = net_promoter_score(thrice.unique("customer_id"), as_of=AS_OF)
    ratio = result.table["std_error"][0] / once.table["std_error"][0]
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_periods_are_groups_of_their_own() -> None:
    answers: list[Answer] = [
        (c, (c * 5 + ago) % 11, 0, ago) for c in range(30) for ago in (10, 100)
    ]
    table = table_of(answers)
    quarterly = mean_score(
        table, scale=(0, 10), as_of=AS_OF, period="quarter", customer_col="customer_id"
    ).table
    alone = mean_score(table, scale=(0, 10), as_of=AS_OF, period="quarter").table
    # Within a quarter everybody answered once.
    assert_frame_equal(quarterly, alone)


def test_every_backend_gives_the_same_effect(backend: Callable[[pl.DataFrame], Any]) -> None:
    rng = np.random.default_rng(3)
    table = table_of(
        [
            (int(c) if c else None, int(s), int(d), int(a))
            for c, s, d, a in rng.integers(0, 11, (300, 4))
        ]
    )
    for by in ((), ("dealership",)):
        asked: dict[str, Any] = {"as_of": AS_OF, "customer_col": "customer_id", "by": by}
        expected = net_promoter_score(table, **asked).table
        assert_frame_equal(net_promoter_score(backend(table), **asked).table, expected)


def test_intervals_cover_with_repeated_answers_only_when_told_who_answered() -> None:
    """Each customer has a level of their own and answers four times."""
    rng = np.random.default_rng(8)
    n_sets, covered = 100, {"told": 0, "not told": 0}
    for _ in range(n_sets):
        level = rng.normal(5, 2, 50)
        scores = np.clip(np.round(np.repeat(level, 4) + rng.normal(0, 1, 200)), -20, 30)
        table = pl.DataFrame({"customer_id": np.repeat(np.arange(50), 4), "score": scores})
        for name, customer_col in (("told", "customer_id"), ("not told", None)):
            row = mean_score(
                table, at_col=None, scale=(-20, 30), as_of=AS_OF, customer_col=customer_col
            ).table.row(0, named=True)
            covered[name] += row["conf_low"] <= 5 <= row["conf_high"]
    band = 3 * np.sqrt(0.95 * 0.05 / n_sets)
    assert abs(covered["told"] / n_sets - 0.95) < band
    assert covered["not told"] / n_sets < 0.95 - band
