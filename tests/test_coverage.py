"""Do 95 % intervals cover the truth that made the data, as often as they say?

A small version of `benchmarks/coverage_truth.py`, whose families are used here: every data set is
one dealership of a tiny network with a seed of its own, and the truth is the generator's, never an
estimate. A count of hits over independent data sets is binomial, so the share must lie within three
binomial standard errors of 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import polars as pl
import pytest

from benchmarks.coverage_truth import (
    Case,
    World,
    as_text,
    conversion,
    pairs_in_order,
    retention,
    satisfaction,
    summary,
)

SEEDS = range(1, 13)

pytestmark = pytest.mark.slow


@cache
def world(seed: int) -> World:
    return World("tiny", seed)


def named(what: str, cases: Iterable[Case]) -> Iterator[Case]:
    yield from (one for one in cases if one.what == what)


def assert_covers(hits: list[bool | None], *, at_most: float | None = None) -> None:
    n, share = len(hits), float(np.mean([bool(hit) for hit in hits]))
    assert n >= 3 * len(SEEDS)
    band = 3 * float(np.sqrt(0.95 * 0.05 / n))
    highest = 0.95 + band if at_most is None else at_most
    assert 0.95 - band <= share <= highest, f"{share:.3f} of {n} intervals cover, band {band:.3f}"


def test_retention_covers_the_true_hazards() -> None:
    what = "retention, 2 years, departures known"
    assert_covers([one.covers for seed in SEEDS for one in named(what, retention(world(seed)))])


def test_conversion_covers_the_true_stage_probabilities() -> None:
    # Leads differ in their chances, so their sum varies less than a binomial: more may cover.
    hits = [one.covers for seed in SEEDS for one in conversion(world(seed))]
    assert_covers(hits, at_most=1.0)


@cache
def opinions() -> list[Case]:
    return [one for seed in SEEDS for one in satisfaction(world(seed))]


@pytest.mark.parametrize(
    "what",
    [
        "Net Promoter Score of those who answer",
        "mean satisfaction of those who answer",
        "share of surveys answered",
    ],
)
def test_satisfaction_covers_the_true_chances(what: str) -> None:
    # Customers differ in their chances, so more may cover.
    assert_covers([one.covers for one in named(what, opinions())], at_most=1.0)


# The table ----------------------------------------------------------------------------------


def test_bias_error_and_coverage_are_those_of_a_list() -> None:
    found = pl.DataFrame(
        {
            "family": ["funnel"] * 4, "what": ["q"] * 4, "preset": ["tiny"] * 4,
            "seed": [1, 1, 2, 2],
            "estimate": [1.0, 2.0, 3.0, 6.0], "low": [0.0, 0.0, 2.5, 5.0],
            "high": [2.0, 1.0, 3.5, 7.0], "truth": [1.0, 1.0, 3.0, 3.0],
        }
    )  # fmt: skip
    row = summary(found).row(0, named=True)
    assert row["bias"] == pytest.approx((0 + 1 + 0 + 3) / 4)
    assert row["rmse"] == pytest.approx(np.sqrt((1 + 9) / 4))
    # Only the last interval, from 5 to 7, misses its truth of 3.
    assert row["coverage"] == 0.75
    # By seed the errors sum to 1 and 3: the mean of 1 an estimate is 2 a seed.
    assert row["bias_error"] == pytest.approx(np.sqrt(2 * (1 + 1)) / 4)
    assert "tiny" in as_text(found)


def test_pairs_in_order_are_counted_one_by_one() -> None:
    assert pairs_in_order(np.array([3.0, 1.0, 2.0]), np.array([9.0, 5.0, 7.0])) == 1.0
    assert pairs_in_order(np.array([3.0, 2.0, 1.0]), np.array([9.0, 5.0, 7.0])) == 2 / 3
    assert pairs_in_order(np.array([1.0, 1.0]), np.array([0.0, 5.0])) == 0.5
