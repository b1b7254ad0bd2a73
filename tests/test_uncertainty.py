"""Intervals: against statsmodels, scipy and the papers' own examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import WLS
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.rates import confint_poisson

from crm_analysis.uncertainty import (
    bootstrap_interval,
    exact_rate_interval,
    homogeneity_p_value,
    linear_drift,
    log_log_interval,
    mean_interval,
    newcombe_difference,
    normal_quantile,
    paule_mandel,
    shrink_groups,
    wilson_interval,
)

EXACT = 1e-10
"""The same formula in another order of adding differs by rounding alone."""

levels = st.floats(0.5, 0.999)
counts = st.tuples(st.integers(0, 500), st.integers(0, 500)).map(lambda p: (min(p), max(p)))


def by_statsmodels(k: int, n: int, level: float) -> tuple[float, float]:
    low, high = proportion_confint(k, n, alpha=1 - level, method="wilson")
    return float(low), float(high)


# --- the normal quantile --------------------------------------------------------------------------


@given(levels)
def test_normal_quantile_is_that_of_scipy(level: float) -> None:
    assert normal_quantile(level) == pytest.approx(stats.norm.ppf(0.5 + level / 2), abs=EXACT)


# --- proportions ----------------------------------------------------------------------------------


@given(counts, levels)
def test_wilson_is_that_of_statsmodels(k_n: tuple[int, int], level: float) -> None:
    k, n = k_n
    assume(n > 0)
    low, high = wilson_interval(k, n, level)
    assert (float(low), float(high)) == pytest.approx(by_statsmodels(k, n, level), abs=1e-12)
    assert 0 <= low <= k / n <= high <= 1
    assert low < high


def test_wilson_at_its_edges() -> None:
    low, high = wilson_interval([0, 7, 0], [7, 7, 0])
    assert (low[0], high[1]) == (0.0, 1.0)
    assert high[0] == pytest.approx(1 - low[1])
    assert np.isnan([low[2], high[2]]).all()


def test_wilson_takes_effective_counts_and_broadcasts() -> None:
    low, _ = wilson_interval([1.5, 3.0], 6.5)
    assert low.shape == (2,)
    assert 0 < low[0] < 1.5 / 6.5
    assert low[0] < low[1]


@given(counts)
def test_wilson_narrows_as_the_level_falls(k_n: tuple[int, int]) -> None:
    k, n = k_n
    assume(n > 0)
    wide, narrow = wilson_interval(k, n, 0.99), wilson_interval(k, n, 0.8)
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


# --- rates ----------------------------------------------------------------------------------------


@given(st.integers(0, 400), st.floats(0.1, 1e4), levels)
def test_exact_rates_are_garwoods(events: int, exposure: float, level: float) -> None:
    """Bounds of a Poisson mean are quantiles of chi-squared (Garwood 1936)."""
    tail = (1 - level) / 2
    low = stats.chi2.ppf(tail, 2 * events) / 2 if events else 0.0
    high = stats.chi2.ppf(1 - tail, 2 * events + 2) / 2
    found = exact_rate_interval(events, exposure, level)
    assert float(found[0]) == pytest.approx(low / exposure, rel=1e-9)
    assert float(found[1]) == pytest.approx(high / exposure, rel=1e-9)
    assert found[0] <= events / exposure <= found[1]


def test_exact_rates_against_statsmodels() -> None:
    for events in (0, 1, 10, 60):
        expected = confint_poisson(events, 51.0, method="exact-c", alpha=0.05)
        found = [float(b) for b in exact_rate_interval(events, 51.0)]
        assert found == pytest.approx(list(expected), rel=1e-9)


def test_no_exposure_has_no_rate() -> None:
    low, high = exact_rate_interval([0, 3], [0, 0])
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_the_exact_rate_covers_at_least_as_promised() -> None:
    draws = np.random.default_rng(1).poisson(3.7, 5000)
    low, high = exact_rate_interval(draws, 1.0)
    covered = np.mean((low <= 3.7) & (high >= 3.7))
    # Exact means never less; the binomial standard error of 5000 runs is .003.
    assert covered >= 0.95 - 3 * 0.0031


# --- survival -------------------------------------------------------------------------------------


@given(st.floats(0.001, 0.999), st.floats(0.0001, 0.3), levels)
def test_log_log_by_its_definition(survival: float, error: float, level: float) -> None:
    """log(-log S) +- z se / (S |log S|), taken back."""
    centre = np.log(-np.log(survival))
    half = stats.norm.ppf(0.5 + level / 2) * error / (survival * abs(np.log(survival)))
    low, high = log_log_interval(survival, error, level)
    assert float(low) == pytest.approx(np.exp(-np.exp(centre + half)), abs=1e-10)
    assert float(high) == pytest.approx(np.exp(-np.exp(centre - half)), abs=1e-10)
    assert 0 <= low <= survival <= high <= 1


def test_log_log_is_undefined_at_nought_and_one() -> None:
    low, high = log_log_interval([0.0, 1.0], [0.0, 0.0])
    assert np.isnan(low).all()
    assert np.isnan(high).all()


# --- means ----------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=50), levels)
def test_the_mean_is_bounded_by_students_t(values: list[float], level: float) -> None:
    deviation = float(np.std(values, ddof=1))
    assume(deviation > 1e-6)
    found = mean_interval(np.mean(values), deviation, len(values), level)
    expected = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    assert [float(b) for b in found] == pytest.approx(list(expected), rel=1e-8, abs=1e-8)


def test_one_value_bounds_no_mean() -> None:
    low, high = mean_interval([3.0, 3.0, 3.0], [1.0, 1.0, 1.0], [0, 1, 2])
    assert np.isnan(low).tolist() == [True, True, False]
    assert np.isnan(high).tolist() == [True, True, False]


# --- differences ----------------------------------------------------------------------------------

# Newcombe (1998), Statistics in Medicine 17:873-890, table II, method 10.
NEWCOMBE = [
    ((56, 70, 48, 80), 0.0524, 0.3339),
    ((9, 10, 3, 10), 0.1705, 0.8090),
    ((6, 7, 2, 7), 0.0582, 0.8062),
    ((5, 56, 0, 29), -0.0381, 0.1926),
    ((0, 10, 0, 20), -0.1611, 0.2775),
    ((0, 10, 0, 10), -0.2775, 0.2775),
    ((10, 10, 0, 20), 0.6791, 1.0),
    ((10, 10, 0, 10), 0.6075, 1.0),
]


@pytest.mark.parametrize(("example", "low", "high"), NEWCOMBE)
def test_newcombe_1998_table_2(example: tuple[int, int, int, int], low: float, high: float) -> None:
    found = newcombe_difference(*example)
    assert [float(b) for b in found] == pytest.approx([low, high], abs=5e-5)


@given(counts, counts)
def test_newcombe_is_that_of_statsmodels(one: tuple[int, int], two: tuple[int, int]) -> None:
    assume(one[1] > 0 and two[1] > 0)
    expected = confint_proportions_2indep(*one, *two, method="newcomb", compare="diff")
    found = [float(b) for b in newcombe_difference(*one, *two)]
    assert found == pytest.approx(list(expected), abs=1e-9)
    difference = one[0] / one[1] - two[0] / two[1]
    assert -1 - EXACT <= found[0] <= difference + EXACT
    assert difference - EXACT <= found[1] <= 1 + EXACT


def test_newcombe_changes_sign_with_its_groups_and_knows_nothing_of_nobody() -> None:
    low, high = newcombe_difference(7, 20, 12, 25)
    back_low, back_high = newcombe_difference(12, 25, 7, 20)
    assert (float(low), float(high)) == pytest.approx((-float(back_high), -float(back_low)))
    assert np.isnan(newcombe_difference(0, 0, 3, 10)).all()


# --- groups ---------------------------------------------------------------------------------------

SCHOOLS = [28.0, 8, -3, 7, -1, 1, 18, 12], [15.0, 10, 16, 11, 9, 11, 10, 18]
"""Rubin (1981); Gelman et al. (2013), Bayesian Data Analysis, section 5.5."""

CLINICS = [3.0, 9.5, 4.2, 14.0, -2.0, 6.6], [1.5, 2.0, 0.8, 3.0, 2.5, 1.1]
"""Made up so that they differ."""


@pytest.mark.parametrize(("effects", "errors"), [SCHOOLS, CLINICS])
def test_homogeneity_is_cochrans_q(effects: list[float], errors: list[float]) -> None:
    found = combine_effects(np.array(effects), np.array(errors) ** 2)
    expected = stats.chi2.sf(found.q, len(effects) - 1)
    assert homogeneity_p_value(effects, errors) == pytest.approx(expected, rel=1e-9)


def test_homogeneity_with_a_pooled_variance_is_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(m, 2, n) for m, n in ((1.0, 8), (2.0, 5), (1.5, 30))]
    sizes = np.array([len(g) for g in groups])
    freedom = float(sizes.sum() - 3)
    pooled = sum(((g - g.mean()) ** 2).sum() for g in groups) / freedom
    p = homogeneity_p_value([g.mean() for g in groups], np.sqrt(pooled / sizes), freedom=freedom)
    assert p == pytest.approx(stats.f_oneway(*groups).pvalue, rel=1e-10)


def test_homogeneity_needs_two_groups_that_are_known() -> None:
    assert homogeneity_p_value([1.0], [0.5]) is None
    assert homogeneity_p_value([1.0, 2.0], [0.5, 0.0]) is None
    assert homogeneity_p_value([1.0, np.nan, 2.0], [0.5, 0.5, 0.5]) == pytest.approx(
        0.1573, abs=1e-4
    )


def test_homogeneity_is_uniform_when_nothing_differs() -> None:
    rng = np.random.default_rng(5)
    errors = np.array([0.5, 1.0, 2.0, 0.7, 1.1])
    values = [homogeneity_p_value(rng.normal(0, errors), errors) for _ in range(2000)]
    assert stats.kstest([v for v in values if v is not None], "uniform").pvalue > 0.001


@pytest.mark.parametrize(("effects", "errors"), [SCHOOLS, CLINICS])
def test_paule_mandel_is_that_of_statsmodels(effects: list[float], errors: list[float]) -> None:
    found = combine_effects(
        np.array(effects), np.array(errors) ** 2, method_re="iterated", row_names=None
    )
    assert paule_mandel(effects, errors) == pytest.approx(max(found.tau2, 0.0), abs=1e-4)


def test_eight_schools_are_shrunk_to_their_common_mean() -> None:
    """Gelman et al.: pooled 7.7 with variance 16.6; the schools differ less than by chance."""
    assert 1 / sum(1 / e**2 for e in SCHOOLS[1]) == pytest.approx(16.6, abs=0.05)
    found = shrink_groups(*SCHOOLS)
    assert found.between_variance == 0
    assert found.centre == pytest.approx(7.7, abs=0.05)
    assert found.estimate == pytest.approx([found.centre] * 8)
    assert (found.std_error > 16.5**0.5).all()


def test_shrinking_by_hand() -> None:
    # 0, 4, 8 with errors 1: sample variance 16, so tau2 = 15 and w = 15/16.
    found = shrink_groups([0, 4, 8], [1, 1, 1])
    assert found.between_variance == pytest.approx(15)
    assert found.weight == pytest.approx([15 / 16] * 3)
    assert found.estimate == pytest.approx([0.25, 4, 7.75])
    # g1 = 15/16, g2 = (1/16)^2 * 16/3, g3 = 1/16^3 * 2*3 / (3/16)^2; capped at 1.
    assert found.std_error == pytest.approx([1.0] * 3)


def test_the_error_of_shrinking_by_hand() -> None:
    # Twelve groups +-2 with errors 1: sample variance 48/11, tau2 = 37/11, total 48/11.
    found = shrink_groups([2.0, -2.0] * 6, [1.0] * 12)
    total = 48 / 11
    w = (37 / 11) / total
    g1, g2 = w, (1 - w) ** 2 * total / 12
    g3 = 1 / total**3 * 2 * 12 / (12 / total) ** 2
    assert found.std_error**2 == pytest.approx([g1 + g2 + 2 * g3] * 12)


groups_of = st.lists(st.tuples(st.floats(-100, 100), st.floats(0.05, 50)), min_size=3, max_size=12)


@given(groups_of)
def test_shrinking_stays_between_the_group_and_the_mean(groups: list[tuple[float, float]]) -> None:
    y, se = np.array([g[0] for g in groups]), np.array([g[1] for g in groups])
    found = shrink_groups(y, se)
    low, high = np.minimum(y, found.centre), np.maximum(y, found.centre)
    assert ((low - 1e-9 <= found.estimate) & (found.estimate <= high + 1e-9)).all()
    assert ((found.weight >= 0) & (found.weight <= 1)).all()
    assert ((found.low <= found.estimate) & (found.estimate <= found.high)).all()
    assert ((found.std_error > 0) & (found.std_error <= se * (1 + 1e-12))).all()
    assert found.between_variance >= 0


@given(groups_of, st.floats(-50, 50), st.floats(0.1, 20))
def test_shrinking_follows_the_unit(
    groups: list[tuple[float, float]], shift: float, factor: float
) -> None:
    """Points or shares, dollars or cents: the answer is the same one in the other unit."""
    y, se = np.array([g[0] for g in groups]), np.array([g[1] for g in groups])
    plain, scaled = shrink_groups(y, se), shrink_groups(shift + factor * y, factor * se)
    assert scaled.estimate == pytest.approx(shift + factor * plain.estimate, rel=1e-4, abs=1e-3)


def test_shrunk_intervals_cover_the_true_values() -> None:
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(400):
        se = 1 / np.sqrt(rng.integers(5, 80, 8))
        truth = rng.normal(0, 0.2, 8)
        found = shrink_groups(rng.normal(truth, se), se)
        covered.append((found.low <= truth) & (truth <= found.high))
    # 3200 groups, correlated within runs: standard error about .006.
    assert 0.93 <= np.mean(covered) <= 0.99


# --- the bootstrap --------------------------------------------------------------------------------


def test_the_bootstrap_of_a_mean_is_near_students_t() -> None:
    values = np.random.default_rng(2).normal(10, 3, 400)
    error, low, high = bootstrap_interval(values, np.mean, n_resamples=4000, seed=1)
    t_low, t_high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    # A bootstrap of 4000 knows its standard error to about 1 %, its quantiles to about 3 %.
    assert error == pytest.approx(stats.sem(values), rel=0.05)
    assert low == pytest.approx(t_low, abs=0.05 * (t_high - t_low))
    assert high == pytest.approx(t_high, abs=0.05 * (t_high - t_low))


def test_the_bootstrap_resamples_whole_units_and_repeats_itself() -> None:
    values = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [5.0, 50.0]])

    def ratio(rows: np.ndarray) -> float:
        return float(rows[:, 1].sum() / rows[:, 0].sum())

    error, low, high = bootstrap_interval(values, ratio, n_resamples=50, seed=3)
    assert (error, low, high) == pytest.approx((0, 10, 10))
    first, again = (bootstrap_interval(values[:, 0], np.mean, seed=4) for _ in range(2))
    assert first == again
    assert first != bootstrap_interval(values[:, 0], np.mean, seed=5)


@pytest.mark.parametrize("n", [0, 1])
def test_the_bootstrap_of_fewer_than_two_units_is_unknown(n: int) -> None:
    assert np.isnan(bootstrap_interval(np.ones(n), np.mean)).all()


# --- a drift --------------------------------------------------------------------------------------


def test_a_drift_is_the_weighted_regression_of_statsmodels() -> None:
    rng = np.random.default_rng(5)
    error = rng.uniform(0.5, 2.0, 12)
    value = 3 + 0.4 * np.arange(12) + rng.normal(0, 3 * error)  # more scatter than the errors say
    slope, low, high = linear_drift(value, error) or (0.0, 0.0, 0.0)
    fitted = WLS(value, np.column_stack([np.ones(12), np.arange(12)]), weights=error**-2).fit()
    assert fitted.scale > 1
    assert slope == pytest.approx(fitted.params[1], abs=EXACT)
    assert (high - low) / 2 == pytest.approx(1.959963984540054 * fitted.bse[1], abs=EXACT)
    # Less scatter than the errors say makes nothing surer: then the errors alone count.
    calm = linear_drift(3 + 0.4 * np.arange(12), error) or (0.0, 0.0, 0.0)
    assert calm[2] - calm[1] == pytest.approx((high - low) / np.sqrt(fitted.scale), abs=EXACT)


def test_a_drift_needs_three_values_and_keeps_the_place_of_those_that_lack() -> None:
    assert linear_drift([1.0, 2.0, np.nan], [0.1, 0.1, 0.1]) is None
    found = linear_drift([0.0, np.nan, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0])
    assert found is not None
    assert found[0] == pytest.approx(1.0, abs=EXACT)
