"""Curves, causes and comparisons: against R, published trials, closed forms and slow twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crm_analysis.errors import InputError
from crm_analysis.survival import (
    CumulativeIncidence,
    DurationCounts,
    KaplanMeier,
    Weights,
    aalen_johansen,
    count_durations,
    exposure,
    holm,
    kaplan_meier,
    log_rank,
    log_rank_p_value,
    quantile,
    rate_ratio,
    restricted_mean,
)
from crm_analysis.uncertainty import log_log_interval

REFERENCE = Path(__file__).parent / "reference" / "survival"

EXACT = 1e-10
"""Two programs that add the same numbers in another order differ by rounding alone."""

R_PRINTED = 1e-9
"""R's answers were printed to twelve digits."""

SKSURV_PRINTED = 1e-8
"""scikit-survival's answers were printed to eight digits."""

Row = tuple[int, int, int]
"""Entry, last day, and cause (0 = censored)."""


def counts_of(rows: list[Row], n_causes: int = 1) -> tuple[np.ndarray, ...]:
    times = np.unique([0, *(r[0] for r in rows), *(r[1] for r in rows)])
    entered = np.array([sum(r[0] == t for r in rows) for t in times])
    exits = np.array(
        [
            [sum(r[1] == t and r[2] == k for r in rows) for t in times]
            for k in range(1, n_causes + 1)
        ]
    )
    censored = np.array([sum(r[1] == t and r[2] == 0 for r in rows) for t in times])
    return times, entered, exits, censored


def curve_of(rows: list[Row]) -> KaplanMeier:
    times, entered, exits, censored = counts_of([(a, b, int(c > 0)) for a, b, c in rows])
    return kaplan_meier(times, entered, exits[0], censored)


def incidence_of(rows: list[Row], n_causes: int = 2) -> CumulativeIncidence:
    return aalen_johansen(*counts_of(rows, n_causes))


def walton(group: str) -> list[Row]:
    rows = pl.read_csv(REFERENCE / "waltons.csv").filter(group=group)
    return [(0, int(t), int(e)) for t, e in zip(rows["T"], rows["E"], strict=True)]


def bmt() -> list[Row]:
    rows = pl.read_csv(REFERENCE / "bmt.csv")
    return [(0, t, c) for t, c in rows.select("time", "cause").iter_rows()]


# Gehan (1965): weeks in remission of leukaemia; a negative number is censored.
SIX_MP = [6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def remission(weeks: list[int]) -> list[Row]:
    return [(0, abs(w), int(w > 0)) for w in weeks]


ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 12), st.integers(0, 2)).filter(
        lambda r: r[0] < r[1] or r[0] == 0
    ),
    min_size=1,
    max_size=25,
)


# Counts -----------------------------------------------------------------------------------


@given(rows=ROWS)
@settings(max_examples=100, deadline=None)
def test_counting_equals_counting_by_hand(rows: list[Row]) -> None:
    entry, duration, cause = np.array(rows).T
    found = count_durations(duration, cause, entry)
    times, entered, exits, censored = counts_of(rows, 2)
    assert found.time.tolist() == times.tolist()
    assert found.n_entered.tolist() == entered.tolist()
    assert found.n_exits.tolist() == exits[: len(found.n_exits)].tolist()
    assert exits[len(found.n_exits) :].sum() == 0
    assert found.n_censored.tolist() == censored.tolist()


def test_nobody_and_backward_durations() -> None:
    none = np.array([], np.int64)
    assert kaplan_meier(*_single(count_durations(none, none))).survival.tolist() == [1.0]
    with pytest.raises(InputError, match="cannot be below 0; the least are -1 and 0"):
        count_durations(np.array([-1]), np.array([1]))
    late = count_durations(np.array([4]), np.array([1]), np.array([4]))
    assert late.n_entered.sum() == 0


def _single(counts: DurationCounts) -> tuple[np.ndarray, ...]:
    return counts.time, counts.n_entered, counts.n_exits.sum(axis=0), counts.n_censored


# Restricted mean --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "horizon", "mean", "std_error"),
    [
        ("control", 75, 56.628058230192, 0.954138763069),
        ("miR-137", 62, 25.705882352941, 2.257064806966),
        ("control", 10, 9.976744186047, 0.02316549977171),
        ("miR-137", 10, 9.794117647059, 0.1232448526737),
    ],
)
def test_restricted_mean_matches_r_on_walton_data(
    group: str, horizon: float, mean: float, std_error: float
) -> None:
    curve = curve_of(walton(group))
    found = restricted_mean(curve, curve.time, horizon)
    np.testing.assert_allclose(found, (mean, std_error), rtol=R_PRINTED)


def test_restricted_mean_without_censoring_is_the_mean_of_what_was_lived() -> None:
    rng = np.random.default_rng(3)
    days = rng.integers(1, 60, 400)
    curve = curve_of([(0, int(d), 1) for d in days])
    for horizon in (7.5, 30, 59):
        lived = np.minimum(days, horizon)
        found = restricted_mean(curve, curve.time, horizon)
        np.testing.assert_allclose(found.mean, lived.mean(), rtol=EXACT)
        np.testing.assert_allclose(found.std_error, lived.std() / 20, rtol=EXACT)


def test_restricted_mean_beyond_the_data_is_not_known() -> None:
    open_, ended = curve_of([(0, 5, 1), (0, 9, 0)]), curve_of([(0, 5, 1), (0, 9, 1)])
    assert np.isnan(restricted_mean(open_, open_.time, 9.5)).all()
    assert restricted_mean(open_, open_.time, 9).mean == 7
    assert restricted_mean(ended, ended.time, 100).mean == 7


def test_restricted_mean_intervals_cover_the_truth_under_late_entry() -> None:
    """Geometric lifetimes entered late: 95 % intervals cover within the binomial band."""
    rng = np.random.default_rng(8)
    n_sets, stay, horizon = 400, 0.97, 60
    truth = (1 - stay**horizon) / (1 - stay)
    hits = 0
    for _ in range(n_sets):
        life, entry = rng.geometric(1 - stay, 500), rng.integers(0, 40, 500)
        end = np.minimum(life, 80)
        seen = (entry < end) | (entry == 0)
        rows = [
            (int(a), int(b), int(c <= 80))
            for a, b, c in zip(entry[seen], end[seen], life[seen], strict=True)
        ]
        curve = curve_of(rows)
        found = restricted_mean(curve, curve.time, horizon)
        hits += abs(found.mean - truth) < 1.959964 * found.std_error
    # Three standard errors of a binomial share of .95 over the data sets.
    assert abs(hits / n_sets - 0.95) < 3 * np.sqrt(0.95 * 0.05 / n_sets)


# Causes -----------------------------------------------------------------------------------


def test_cumulative_incidence_matches_scikit_survival_on_transplants() -> None:
    found = incidence_of(bmt())
    at = np.searchsorted(found.curve.time, [3, 8, 14, 26])
    relapse = [0.14581281, 0.23771164, 0.27283899, 0.27283899]
    death = [0.11527094, 0.27050544, 0.41101485, 0.48126955]
    np.testing.assert_allclose(found.incidence[:, at], [relapse, death], atol=SKSURV_PRINTED)
    low, high = log_log_interval(found.incidence[:, -1], found.std_error[:, -1])
    np.testing.assert_allclose(low, [0.13527005, 0.29900733], atol=SKSURV_PRINTED)
    np.testing.assert_allclose(high, [0.43027411, 0.64210079], atol=SKSURV_PRINTED)


@given(rows=ROWS)
@settings(max_examples=200, deadline=None)
def test_causes_and_those_still_there_make_up_all(rows: list[Row]) -> None:
    found = incidence_of(rows)
    np.testing.assert_allclose(found.incidence.sum(axis=0), 1 - found.curve.survival, atol=EXACT)
    assert (np.diff(found.incidence, axis=1) >= 0).all()


@given(rows=ROWS)
@settings(max_examples=200, deadline=None)
def test_causes_equal_their_slow_twin(rows: list[Row]) -> None:
    found = incidence_of(rows)
    survival, shares = 1.0, np.zeros(2)
    for i, t in enumerate(found.curve.time):
        there = sum((a < t or a == 0) and b >= t for a, b, _ in rows)
        ended = [sum(b == t and c == k for _, b, c in rows) for k in (1, 2)]
        if there:
            shares = shares + survival * np.array(ended) / there
            survival *= 1 - sum(ended) / there
        np.testing.assert_allclose(found.incidence[:, i], shares, atol=EXACT)


@given(rows=ROWS)
@settings(max_examples=100, deadline=None)
def test_one_cause_is_kaplan_meier_turned_over(rows: list[Row]) -> None:
    single = [(a, b, min(c, 1)) for a, b, c in rows]
    found, curve = incidence_of(single, 1), curve_of(single)
    np.testing.assert_allclose(found.incidence[0], 1 - curve.survival, atol=EXACT)
    # Greenwood's standard error is 0 where nobody is left, whatever went before.
    kept = curve.survival > 0
    np.testing.assert_allclose(found.std_error[0][kept], curve.std_error[kept], atol=1e-7)


@given(days=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 2)), min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_without_censoring_the_variance_is_the_binomial_one(days: list[tuple[int, int]]) -> None:
    found = incidence_of([(0, day, cause) for day, cause in days])
    share = found.incidence
    np.testing.assert_allclose(found.std_error**2, share * (1 - share) / len(days), atol=1e-12)


def test_ties_of_several_causes_are_exact_in_any_order() -> None:
    """A program that shakes ties apart gives each cause another share on each run."""
    rows = [(0, 5, 1)] * 30 + [(0, 5, 2)] * 20 + [(0, 9, 0)] * 50
    assert incidence_of(rows).incidence[:, -1].tolist() == [0.3, 0.2]
    assert incidence_of(rows[::-1]).incidence[:, -1].tolist() == [0.3, 0.2]


def test_one_minus_kaplan_meier_per_cause_is_too_much() -> None:
    rows = bmt()
    found = incidence_of(rows).incidence[:, -1]
    naive = [1 - curve_of([(a, b, int(c == k)) for a, b, c in rows]).survival[-1] for k in (1, 2)]
    assert (naive > found + 0.05).all()


# Comparisons ------------------------------------------------------------------------------


def test_log_rank_matches_r_on_walton_data() -> None:
    found = log_rank([curve_of(walton("control")), curve_of(walton("miR-137"))])
    assert found is not None
    np.testing.assert_allclose(found.statistic, 122.249125573006, rtol=R_PRINTED)
    assert found.freedom == 1


@pytest.mark.parametrize(
    ("weights", "statistic"), [("log-rank", 16.79), ("gehan-breslow", 13.46), ("peto-peto", 14.46)]
)
def test_weighted_tests_match_the_published_ones_on_remission(
    weights: Weights, statistic: float
) -> None:
    found = log_rank([curve_of(remission(SIX_MP)), curve_of(remission(PLACEBO))], weights)
    assert found is not None
    assert round(found.statistic, 2) == statistic


def test_remission_curves_are_the_published_ones() -> None:
    curve = curve_of(remission(SIX_MP))
    at = np.searchsorted(curve.time, [6, 7, 10, 13, 16, 22, 23])
    published = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    np.testing.assert_allclose(curve.survival[at].round(3), published)
    assert quantile(curve, 0.5)[:2] == (23.0, 13.0)
    assert quantile(curve_of(remission(PLACEBO)), 0.5) == (8.0, 4.0, 11.0)


@pytest.mark.parametrize("seed", range(3))
def test_tests_equal_statsmodels_with_late_entry(seed: int) -> None:
    from statsmodels.duration.survfunc import survdiff

    rng = np.random.default_rng(seed)
    n = 150
    entry = np.where(rng.random(n) < 0.5, rng.integers(1, 8, n), 0)
    time = entry + rng.integers(1, 25, n)
    status, group = (rng.random(n) < 0.7).astype(int), rng.integers(0, 2, n)
    rows = [(int(a), int(b), int(c)) for a, b, c in zip(entry, time, status, strict=True)]
    curves = [curve_of([r for r, g in zip(rows, group, strict=True) if g == k]) for k in (0, 1)]
    kinds: list[tuple[Weights, str | None]] = [("log-rank", None), ("gehan-breslow", "gb")]
    for weights, theirs in kinds:
        found = log_rank(curves, weights)
        expected = survdiff(time, status, group, weight_type=theirs, entry=entry)
        assert found is not None
        np.testing.assert_allclose((found.statistic, found.p_value), expected, rtol=1e-8)


def test_the_log_rank_test_keeps_its_level() -> None:
    """Three groups alike, entered late: p-values are uniform (Kolmogorov-Smirnov)."""
    rng = np.random.default_rng(4)
    p_values = []
    for _ in range(300):
        curves = []
        for _group in range(3):
            life, entry = rng.geometric(0.05, 60), rng.integers(0, 10, 60)
            rows = [
                (int(a), int(min(b, 40)), int(b <= 40))
                for a, b in zip(entry, life, strict=True)
                if a < b or a == 0
            ]
            curves.append(curve_of(rows))
        p = log_rank_p_value(curves)
        assert p is not None
        p_values.append(p)
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_nothing_to_compare_is_said_so() -> None:
    alone = curve_of([(0, 3, 1), (0, 5, 0)])
    assert log_rank([alone]) is None
    assert log_rank([curve_of([(0, 3, 0)]), curve_of([(0, 4, 0)])]) is None
    everyone = curve_of([(0, 3, 1)] * 4)
    found = log_rank([everyone, everyone])
    assert found is None or found.p_value == pytest.approx(1)


def test_holm_is_the_published_example() -> None:
    """Holm (1979) as in R's p.adjust: c(.01, .02, .03, .04) gives .04, .06, .06, .06."""
    np.testing.assert_allclose(holm([0.01, 0.02, 0.03, 0.04]), [0.04, 0.06, 0.06, 0.06])
    adjusted = holm([0.5, np.nan, 0.01])
    np.testing.assert_allclose(adjusted, [0.5, np.nan, 0.02])


# Rates ------------------------------------------------------------------------------------


@given(rows=ROWS, edges=st.lists(st.integers(0, 13), min_size=2, max_size=5, unique=True))
@settings(max_examples=100, deadline=None)
def test_exposure_equals_its_slow_twin(rows: list[Row], edges: list[int]) -> None:
    edges = sorted(edges)
    times, entered, exits, censored = counts_of(rows, 2)
    found = exposure(times, entered, exits.sum(axis=0) + censored, np.array(edges))
    for low, high, years in zip(edges[:-1], edges[1:], found, strict=True):
        # Day d is lived from d - 1 to d.
        lived = sum(1 for a, b, _ in rows for d in range(a + 1, b + 1) if low < d <= high)
        assert years == lived


def test_a_rate_ratio_matches_the_published_one() -> None:
    """Rothman (1986): breast cancer after fluoroscopy, 41 in 28,010 against 15 in 19,017 years."""
    found = rate_ratio((15, 41), (19_017, 28_010))
    np.testing.assert_allclose(found[:3], (1.8558, 1.0057, 3.6093), atol=5e-5)


def test_rate_ratio_intervals_cover_at_least_what_they_say() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.poisson(20, 2000), rng.poisson(50, 2000)
    inside = [
        found.low <= 2.5 <= found.high
        for found in (rate_ratio((a, b), (1.0, 1.0)) for a, b in zip(before, after, strict=True))
    ]
    assert np.mean(inside) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000)


def test_rate_ratios_at_the_edge() -> None:
    assert np.isnan(rate_ratio((0, 0), (5, 5))).all()
    assert np.isnan(rate_ratio((1, 1), (0, 5))).all()
    none_before = rate_ratio((0, 4), (5, 5))
    assert none_before.high == none_before.ratio == np.inf
    assert rate_ratio((4, 0), (5, 5))[:2] == (0.0, 0.0)
    assert rate_ratio((10, 10), (5, 5)).p_value == 1
