"""Models of buying and renewing: against the papers, slow twins, and worlds of known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from polars.testing import assert_frame_equal
from scipy import integrate, special, stats

from benchmarks.coverage_lifetime import (
    TRIALS,
    Trial,
    random_sets,
    service_table,
    sound,
    tried,
)
from crm_analysis import (
    BetaGeometric,
    BetaGeometricBetaBinomial,
    BuyingModel,
    Estimates,
    InputError,
    OpportunityHistory,
    ParetoNbd,
    PurchaseHistory,
    RegularBetaGeometric,
    RenewalCounts,
    ShiftedBetaGeometric,
    compare_models,
    expected_purchases,
    fit_beta_geometric,
    fit_beta_geometric_beta_binomial,
    fit_modified_beta_geometric,
    fit_pareto_nbd,
    fit_regular_beta_geometric,
    fit_shifted_beta_geometric,
    holdout_comparison,
    lifetime_value,
    model_reliability,
    opportunity_history,
    purchase_covariates,
    purchase_history,
    purchase_tracking,
    renewal_counts,
)
from crm_analysis.lifetime import (
    beta_binomial,
    pareto_nbd,
    regular_beta_geometric,
    shifted_beta_geometric,
)
from crm_analysis.lifetime.buying_model import Patterns
from crm_analysis.lifetime.history import days_in
from crm_analysis.lifetime.model_checks import TRACKED_ACCURACY, _expected_until
from synthetic.closed_form import ClosedForm, make_closed_form
from synthetic.closed_form import regular_visits as visits_world
from synthetic.closed_form import sbg as sbg_world

REFERENCE = Path(__file__).parent / "reference"

EXACT = 1e-9
"""Two formulas for one quantity differ by rounding and quadrature alone."""

PUBLISHED = 0.002
"""Relative; papers print three digits, and reference programs stop early."""

LAST_OF_CALIBRATION = date(1997, 9, 30)

Floats = NDArray[np.float64]


@cache
def cdnow() -> PurchaseHistory:
    """The summary that the papers used: weeks with two decimals."""
    summary = pl.read_csv(REFERENCE / "purchases" / "cdnow_sample_cbs_weeks.csv")
    return PurchaseHistory.from_summary(
        summary, frequency_col="x", recency_col="t_x", age_col="T", value_col="mean_spend"
    )


def history_of_world(world: ClosedForm) -> PurchaseHistory:
    return purchase_history(world.tables["purchases"], value_col=None, as_of=world.parameters.as_of)


def columns_of(history: PurchaseHistory) -> tuple[Floats, Floats, Floats]:
    x, t_x, T = (history.table[c].to_numpy() for c in ("frequency", "recency", "age"))
    return x.astype(float), t_x, T


def finite_differences(f: Callable[[Floats], Any], at: Floats) -> Floats:
    step = 1e-5
    rows = [(f(at + step * e) - f(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    return np.array(rows)


def check_derivatives(
    likelihood: Callable[..., tuple[float, Floats, Floats]], at: Floats, data: tuple[Floats, ...]
) -> None:
    _, gradient, hessian = likelihood(at, *data)
    scale = 1 + np.abs(hessian).max()
    slope = finite_differences(lambda p: likelihood(p, *data)[0], at)
    curve = finite_differences(lambda p: likelihood(p, *data)[1], at)
    assert gradient == pytest.approx(slope, abs=1e-6 * scale)
    assert hessian == pytest.approx(curve, abs=1e-6 * scale)


def some_customers(seed: int, n: int = 15) -> tuple[Floats, ...]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 12, n).astype(float)
    T = rng.uniform(0.5, 5, n)
    t_x = np.where(x > 0, T * rng.uniform(0.05, 1, n), 0.0)
    t_x[:2] = np.where(x[:2] > 0, T[:2], 0.0)
    return x, t_x, T, rng.integers(1, 9, n).astype(float)


log_parameters = st.tuples(*[st.floats(-2.5, 2.5)] * 4)


# --- (M)BG/CNBD-k -------------------------------------------------------------------------------


def test_mbg_nbd_on_cdnow_is_that_of_btydplus_and_lifetimes() -> None:
    model = fit_modified_beta_geometric(cdnow())
    lifetimes = {"r": 0.52484, "alpha": 6.18299, "a": 0.89136, "b": 1.61400}
    assert model.values() == pytest.approx(lifetimes, abs=1e-5)
    assert (model.label, model.n, model.notes) == ("MBG/NBD", 2357, ())
    raw = pl.read_csv(
        REFERENCE / "purchases" / "cdnow_sample_transactions.csv", try_parse_dates=True
    )
    days = purchase_history(raw, at_col="date", value_col=None, as_of=LAST_OF_CALIBRATION)
    exact = fit_modified_beta_geometric(days)
    btydplus = {"r": 0.524843, "alpha": 6.183085, "a": 0.891359, "b": 1.614002}
    assert exact.values() == pytest.approx(btydplus, rel=PUBLISHED)
    assert exact.log_likelihood == pytest.approx(-9582.1357, abs=0.01)


def test_k_of_one_without_the_first_dropout_is_bg_nbd() -> None:
    general = fit_regular_beta_geometric(cdnow(), modified=False, k=1)
    special_case = fit_beta_geometric(cdnow())
    assert general.theta == pytest.approx(special_case.theta, rel=1e-6)
    assert general.log_likelihood == pytest.approx(special_case.log_likelihood, abs=1e-6)
    assert general.std_errors == pytest.approx(special_case.std_errors, rel=1e-4)
    x, t_x, T = (column[:200] for column in columns_of(cdnow()))
    twin = BetaGeometric(*general.theta)
    for ours, theirs in (
        (general.probability_alive(x, t_x, T), twin.probability_alive(x, t_x, T)),
        (general.expected_purchases(39, x, t_x, T), twin.expected_purchases(39, x, t_x, T)),
        (general.expected_purchases_new([3, 52]), twin.expected_purchases_new([3, 52])),
        (general.frequency_probabilities([39.0], 9), twin.frequency_probabilities([39.0], 9)),
    ):
        assert ours == pytest.approx(theirs, rel=1e-9)
    rate = {"annual_discount_rate": 0.15}
    assert general.discounted_expected_transactions(x, t_x, T, **rate) == pytest.approx(
        twin.discounted_expected_transactions(x, t_x, T, **rate), rel=1e-6
    )


@given(log_parameters, st.integers(1, 9), st.booleans(), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_gradient_and_hessian_of_the_regular_model(
    log_theta: tuple[float, ...], k: int, modified: bool, seed: int
) -> None:
    likelihood = partial(regular_beta_geometric.log_likelihood, k=k, modified=modified)
    check_derivatives(likelihood, np.array(log_theta), some_customers(seed))
    x, t_x, T, weight = some_customers(seed)
    r, alpha, a, b = np.exp(log_theta)
    model = RegularBetaGeometric(r=r, alpha=alpha, a=a, b=b, k=k, modified=modified)
    # Without slope and curvature the value is the same.
    assert model.log_likelihood_of(Patterns(x, t_x, T), weight) == pytest.approx(
        likelihood(np.array(log_theta), x, t_x, T, weight)[0], rel=1e-13
    )


@pytest.mark.parametrize(("k", "modified"), [(1, True), (3, True), (4, False)])
def test_the_regular_likelihood_is_the_mixture_that_the_model_says(k: int, modified: bool) -> None:
    """Slow twin: one customer with given gaps, integrated over rate and dropout numerically."""
    theta = np.array([1.8, 2.1, 1.3, 2.2])
    r, alpha, a, b = theta
    gaps, T = np.array([0.6, 0.3, 0.9]), 2.4
    x, t_x, m = len(gaps), gaps.sum(), int(modified)

    def of_rate(rate: float) -> tuple[float, float]:
        density = stats.gamma.pdf(gaps, k, scale=1 / rate).prod()
        weight = stats.gamma.pdf(rate, r, scale=1 / alpha)
        waits = stats.gamma.sf(T - t_x, k, scale=1 / rate)
        return density * weight * waits, density * weight

    def of_dropout(p: float) -> tuple[float, float]:
        weight = stats.beta.pdf(p, a, b)
        return weight * (1 - p) ** (x + m), weight * p * (1 - p) ** (x + m - 1)

    waits, came = (integrate.quad(lambda v, i=i: of_rate(v)[i], 0, 60)[0] for i in (0, 1))
    stays, stops = (integrate.quad(lambda v, i=i: of_dropout(v)[i], 0, 1)[0] for i in (0, 1))
    one = (np.array([float(v)]) for v in (x, t_x, T, 1))
    ours = regular_beta_geometric.log_likelihood(np.log(theta), *one, k=k, modified=modified)[0]
    ours += (k - 1) * np.log(gaps).sum() - x * special.gammaln(k)
    assert ours == pytest.approx(np.log(waits * stays + came * stops), rel=1e-7)


@pytest.mark.parametrize("k", [1, 2, 3, 8])
def test_regular_predictions_are_the_generators_series(k: int) -> None:
    world = make_closed_form("regular_visits", n_customers=300, seed=2, k=k)
    p = world.parameters
    assert isinstance(p, visits_world.RegularVisits)
    model = RegularBetaGeometric(r=p.r, alpha=p.alpha, a=p.a, b=p.b, k=k)
    x, t_x, T = columns_of(history_of_world(world))
    alive = visits_world.probability_alive(p, x, t_x, T)
    assert model.probability_alive(x, t_x, T) == pytest.approx(alive, rel=EXACT)
    for horizon in (1.0, 52.0, 520.0):
        series = visits_world.visits_if_alive(p, x, t_x, T, horizon)
        ours = model.purchases_if_active(Patterns(x, t_x, T), horizon)
        assert ours == pytest.approx(series, rel=EXACT, abs=1e-10)
    times = np.array([0.0, 5.0, 60.0, 900.0])
    assert model.expected_purchases_new(times) == pytest.approx(
        visits_world.expected_visits_new(p, times), rel=1e-6, abs=1e-12
    )


@pytest.mark.parametrize("k", [1, 3, 8])
def test_regular_discounted_purchases_are_their_integral(k: int) -> None:
    model = RegularBetaGeometric(r=6.0, alpha=60.0, a=1.2, b=5.0, k=k)
    x, t_x, T = np.array([0.0, 4.0]), np.array([0.0, 150.0]), np.array([90.0, 170.0])
    grid = np.linspace(0, 156, 1001)
    until = np.array([model.expected_purchases(t, x, t_x, T) for t in grid])
    delta = model.discount_per_unit(0.2)
    slow = np.exp(-delta * 156) * until[-1] + delta * integrate.simpson(
        np.exp(-delta * grid)[:, None] * until, x=grid, axis=0
    )
    ours = model.discounted_expected_transactions(
        x, t_x, T, annual_discount_rate=0.2, horizon=156.0
    )
    assert ours == pytest.approx(slow, rel=1e-7)


@pytest.mark.parametrize("horizon", [30.0, 300.0])
@pytest.mark.parametrize("discount", [0.0, 0.01])
def test_regular_purchases_are_the_active_share_times_those_of_active_customers(
    horizon: float, discount: float
) -> None:
    model = RegularBetaGeometric(r=4.0, alpha=70.0, a=1.0, b=6.0, k=3)
    # More ages than are computed one by one, and fewer.
    for n in (200, 5):
        x = np.asarray(np.arange(n) % 7, np.float64)
        T = np.asarray(np.linspace(10.0, 300.0, n), np.float64)
        patterns = Patterns.of(x, np.where(x > 0, 0.8 * T, 0.0), T)
        ahead = model.purchases_if_active(patterns, horizon, discount)
        whole = model.purchases(patterns, horizon, discount)
        assert whole == pytest.approx(model.active(patterns) * ahead, rel=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        RegularBetaGeometric(r=25.0, alpha=90.0, a=1.0, b=9.0, k=2, unit="month"),
        # Near clockwork: no few waits tell its steps.
        RegularBetaGeometric(r=800.0, alpha=130.0, a=1.0, b=90.0, k=24, unit="week"),
    ],
    ids=["regular", "clockwork"],
)
def test_tracked_purchases_are_the_sum_over_every_customers_wait(
    model: RegularBetaGeometric,
) -> None:
    known = replace(model, log_covariance=tuple(map(tuple, 1e-3 * np.eye(4))))
    new = np.zeros(1500)
    new[[0, 3, 700, 1499]] = (5, 1, 2, 9)
    ends = np.array([29, 800, 1499])
    _middle, spread, low, high = _expected_until(ends, new, known, model.unit, 0.95, 20, 1)
    draws = known.draws(20, 1)
    assert draws is not None
    slow = np.array([
        [
            sum(new[d] * float(model.with_theta(theta).mean_purchases(
                np.array([(end - d) / days_in(model.unit)]))[0])
                for d in np.flatnonzero(new) if d <= end)
            for end in ends
        ]
        for theta in draws
    ])  # fmt: skip
    # The interpolation's tolerance, which holds for the fitted parameters, and some to spare.
    near = 10 * TRACKED_ACCURACY * slow.max()
    assert spread == pytest.approx(slow.std(axis=0, ddof=1), abs=near)
    assert low == pytest.approx(np.minimum(np.quantile(slow, 0.025, axis=0), _middle), abs=near)
    assert high == pytest.approx(np.maximum(np.quantile(slow, 0.975, axis=0), _middle), abs=near)


def test_regular_frequencies_sum_to_one_and_have_the_right_mean() -> None:
    model = RegularBetaGeometric(r=4.0, alpha=70.0, a=1.0, b=6.0, k=3)
    shares = model.frequency_probabilities([52.0, 300.0], 800)
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-12)
    mean = shares @ np.arange(801)
    assert model.expected_purchases_new([52.0, 300.0]) == pytest.approx(mean, rel=1e-9)


def test_a_history_without_gaps_cannot_choose_k() -> None:
    with pytest.raises(InputError, match="no 'sum_log_gaps'"):
        fit_regular_beta_geometric(cdnow())
    assert fit_regular_beta_geometric(cdnow(), k=2).log_likelihood is None


def test_the_unit_of_time_does_not_choose_another_k() -> None:
    world = make_closed_form("regular_visits", n_customers=800, seed=5, k=4)
    weeks, days = (
        fit_regular_beta_geometric(
            purchase_history(
                world.tables["purchases"], value_col=None, unit=unit, as_of=world.parameters.as_of
            )
        )
        for unit in ("week", "day")
    )
    assert weeks.k == days.k == 4
    assert days.alpha / 7 == pytest.approx(weeks.alpha, rel=1e-5)
    n_gaps = int(history_of_world(world).table["frequency"].sum())
    assert weeks.log_likelihood is not None
    assert days.log_likelihood == pytest.approx(weeks.log_likelihood - n_gaps * np.log(7), abs=1e-4)


# --- Pareto/NBD ---------------------------------------------------------------------------------


def test_pareto_nbd_on_cdnow_is_that_of_the_papers() -> None:
    model = fit_pareto_nbd(cdnow())
    printed = {"r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.669}
    assert model.values() == pytest.approx(printed, abs=0.0015)
    assert model.log_likelihood == pytest.approx(-9594.973929826887, abs=1e-6)
    errors = {"r": 0.0476264, "alpha": 0.8427222, "s": 0.1872594, "beta": 6.2105448}
    assert model.std_errors == pytest.approx(errors, rel=PUBLISHED)
    assert (model.n, model.notes) == (2357, ())
    x, t_x, T = columns_of(cdnow())
    assert model.probability_alive(x, t_x, T).sum() == pytest.approx(1051.87876, rel=1e-6)
    assert model.expected_purchases(39, x, t_x, T).sum() == pytest.approx(1665.53454, rel=1e-6)
    assert model.expected_purchases_new(52) == pytest.approx(1.47344156, rel=1e-6)


def test_pareto_nbd_predictions_are_those_of_btyd() -> None:
    model = ParetoNbd(r=0.553, alpha=10.578, s=0.606, beta=11.669)
    assert model.expected_purchases(52, 26, 30.86, 31) == pytest.approx(25.46, abs=0.005)
    assert model.probability_alive(26, 30.86, 31) == pytest.approx(0.9979, abs=1e-4)
    patterns = Patterns.of(2, 30.43, 38.86)
    residual = model.purchases_if_active(patterns, np.inf, 0.0027) * model.active(patterns)
    assert residual == pytest.approx(6.48377, abs=1e-5)


@given(log_parameters, st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_gradient_and_hessian_of_pareto_nbd(log_theta: tuple[float, ...], seed: int) -> None:
    check_derivatives(pareto_nbd.log_likelihood, np.array(log_theta), some_customers(seed))


@given(log_parameters, st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_pareto_nbd_likelihood_is_the_papers_hypergeometric_form(
    log_theta: tuple[float, ...], seed: int
) -> None:
    """Where scipy's hypergeometric functions hold: the difference must not cancel."""
    r, alpha, s, beta = np.exp(np.array(log_theta))
    x, t_x, T, weight = some_customers(seed)
    most, power = max(alpha, beta), s + 1 if alpha >= beta else r + x

    def term(at: Floats) -> Floats:
        shape = (most - min(alpha, beta)) / (most + at)
        total = r + s + x
        return np.asarray(special.hyp2f1(total, power, total + 1, shape) / (most + at) ** total)

    difference = term(t_x) - term(T)
    sound = (difference > 1e-6 * term(t_x)) | (t_x == T)
    active = (alpha + T) ** -(r + x) * (beta + T) ** -s
    logs = special.gammaln(r + x) - special.gammaln(r) + r * np.log(alpha) + s * np.log(beta)
    logs += np.log(active + s / (r + s + x) * np.maximum(difference, 0.0))
    data = (column[sound] for column in (x, t_x, T, weight))
    ours = pareto_nbd.log_likelihood(np.array(log_theta), *data)[0]
    assert ours == pytest.approx(float((weight * logs)[sound].sum()), rel=1e-8, abs=1e-8)


def test_pareto_nbd_stays_finite_where_hypergeometric_functions_overflow() -> None:
    model = ParetoNbd(r=0.55, alpha=10.0, s=0.6, beta=1e-3)
    x, t_x, T = [0, 400, 5000, 3], [0.0, 90.0, 520.0, 1e-3], [520.0, 520.0, 520.0, 520.0]
    alive = model.probability_alive(x, t_x, T)
    assert np.isfinite(alive).all()
    assert ((alive >= 0) & (alive <= 1)).all()
    assert alive[1] < 1e-12
    assert alive[2] > 0.99
    assert np.isfinite(model.expected_purchases(52, x, t_x, T)).all()


def test_pareto_nbd_has_no_hole_at_s_of_one() -> None:
    below, there, above = (
        ParetoNbd(r=0.5, alpha=6.0, s=s, beta=9.0).expected_purchases(20, 3, 20, 30)
        for s in (1 - 1e-7, 1.0, 1 + 1e-7)
    )
    assert there == pytest.approx(float((below + above) / 2), rel=1e-10)


def test_pareto_nbd_frequencies_sum_to_one_and_have_the_right_mean() -> None:
    model = ParetoNbd(r=0.553, alpha=10.578, s=0.606, beta=11.669)
    shares = model.frequency_probabilities([39.0], 2000)
    assert shares.sum() == pytest.approx(1, abs=1e-10)
    assert model.expected_purchases_new(39) == pytest.approx(
        float(shares[0] @ np.arange(2001)), rel=1e-8
    )


@pytest.mark.parametrize("horizon", [20.0, 156.0, np.inf])
def test_pareto_nbd_discounted_purchases_are_their_integral(horizon: float) -> None:
    model = ParetoNbd(r=0.553, alpha=10.578, s=0.606, beta=11.669)
    delta, age = model.discount_per_unit(0.15), model.beta + 38.86
    slow = integrate.quad(
        lambda t: np.exp(-delta * t) * (age / (age + t)) ** model.s, 0, horizon, limit=400
    )[0] * (model.r + 2) / (model.alpha + 38.86)  # fmt: skip
    slow *= float(model.probability_alive(2, 30.43, 38.86))
    ours = model.discounted_expected_transactions(
        2, 30.43, 38.86, annual_discount_rate=0.15, horizon=horizon
    )
    assert ours == pytest.approx(float(slow), rel=1e-7)


# --- shifted beta-geometric ---------------------------------------------------------------------

HIGH_END = [1000, 869, 743, 653, 593, 551, 517, 491]
"""Customers of the high-end segment of Fader & Hardie (2007), table 1."""


def test_sbg_matches_fader_hardie_2007() -> None:
    model = fit_shifted_beta_geometric(HIGH_END)
    assert model.values() == pytest.approx({"alpha": 0.668, "beta": 3.806}, abs=5e-4)
    assert model.log_likelihood == pytest.approx(-1611.158147391156, abs=1e-6)
    errors = {"alpha": 0.10373484972740411, "beta": 0.7855310656141269}
    assert model.std_errors == pytest.approx(errors, rel=1e-4)
    projected = [0.46043968, 0.43577959, 0.41417240, 0.39505534, 0.37799907]
    assert model.survival(np.arange(8, 13)) == pytest.approx(projected, abs=1e-4)
    seen = np.array([0.468, 0.445, 0.427, 0.409, 0.394])
    assert np.abs(model.survival(np.arange(8, 13)) - seen).max() < 0.02
    assert (model.n, model.notes) == (1000, ())


def test_sbg_lifetimes_are_those_of_fader_hardie_2010() -> None:
    model = ShiftedBetaGeometric(alpha=3.80, beta=15.20)
    assert model.expected_lifetime(discount_rate=0.1) == pytest.approx(4.00893, abs=1e-5)
    world = sbg_world.ShiftedBetaGeometric(alpha=3.80, beta=15.20, annual_discount_rate=0.1)
    done = np.array([0.0, 1.0, 4.0])
    assert model.expected_residual_lifetime(done, discount_rate=0.1) == pytest.approx(
        sbg_world.residual_lifetime(world, done), rel=EXACT
    )


@given(st.floats(-3, 4), st.floats(-3, 4), st.floats(0.01, 0.9), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_sbg_sums_are_their_series(a: float, b: float, rate: float, done: int) -> None:
    model = ShiftedBetaGeometric(alpha=float(np.exp(a)), beta=float(np.exp(b)))
    t = np.arange(6000.0)
    series = (model.survival(t) * (1 + rate) ** -t).sum()
    assert model.expected_lifetime(discount_rate=rate) == pytest.approx(series, rel=1e-8)
    residual = (model.survival(t + 1, n_renewals=done) * (1 + rate) ** -t).sum()
    assert model.expected_residual_lifetime(done, discount_rate=rate) == pytest.approx(
        residual, rel=1e-8
    )
    ahead = model.survival(np.arange(1, 6), n_renewals=done).sum()
    assert model.expected_renewals(5, n_renewals=done) == pytest.approx(ahead)
    steps = np.cumprod(model.retention_rate(np.arange(1, 20)))
    assert model.survival(np.arange(1, 20)) == pytest.approx(steps, rel=1e-9)


@given(st.floats(-2.5, 2.5), st.floats(-2.5, 2.5), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_gradient_and_hessian_of_sbg(a: float, b: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    due = rng.integers(1, 200, 8).astype(float)
    data = (np.arange(1.0, 9), due, np.floor(due * rng.uniform(0, 1, 8)))
    check_derivatives(shifted_beta_geometric.log_likelihood, np.array([a, b]), data)


def test_renewals_are_counted_alike_on_every_backend(
    backend: Callable[[pl.DataFrame], Any],
) -> None:
    world = make_closed_form("sbg", n_customers=400, seed=3)
    table = world.tables["renewals"].select("customer_id", "number", "due_on", "renewed").collect()
    slow = (
        table.filter(pl.col("due_on") <= date(2021, 12, 31))
        .group_by(period="number")
        .agg(n_due=pl.len(), n_renewed=pl.col("renewed").sum())
        .sort("period")
    )
    as_numbers = table.drop("number").with_columns(pl.col("renewed").cast(pl.Int64))
    ours = renewal_counts(
        backend(as_numbers), renewed_col="renewed", as_of=date(2021, 12, 31)
    ).table
    assert ours.rows() == slow.rows()
    assert (
        renewal_counts(table, renewed_col="renewed", as_of=date(2021, 12, 31)).table.rows()
        == slow.rows()
    )


def test_sbg_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="never rise"):
        fit_shifted_beta_geometric([100, 90, 95])
    with pytest.raises(InputError, match="only 0 renewals"):
        fit_shifted_beta_geometric([0, 0])
    with pytest.raises(InputError, match="0 <= n_renewed <= n_due"):
        RenewalCounts(pl.DataFrame({"period": [1], "n_due": [3], "n_renewed": [4]}))
    with pytest.raises(InputError, match="'discount_rate' must be above 0"):
        ShiftedBetaGeometric(1, 1).expected_lifetime(discount_rate=0)
    one = fit_shifted_beta_geometric([100, 80])
    assert any("Only one renewal" in note for note in one.notes)
    assert one.survival(1) == pytest.approx(0.8, abs=1e-3)


# --- BG/BB --------------------------------------------------------------------------------------


@cache
def donations() -> OpportunityHistory:
    """Donations of six years after the first, Fader, Hardie & Shang (2010), table 1."""
    table = pl.read_csv(REFERENCE / "purchases" / "donations.csv")
    return OpportunityHistory(table.rename({"periods": "n_opportunities", "weights": "weight"}))


def test_bg_bb_matches_fader_hardie_shang_2010() -> None:
    model = fit_beta_geometric_beta_binomial(donations())
    printed = {"alpha": 1.204, "beta": 0.750, "gamma": 0.657, "delta": 2.783}
    assert model.values() == pytest.approx(printed, abs=1e-3)
    assert model.log_likelihood == pytest.approx(-33225.6, abs=0.05)
    assert (model.n, model.notes) == (11_104, ())
    expected = model.expected_purchases(5, [0, 6], [0, 6], 6)
    assert expected == pytest.approx([0.07, 3.75], abs=0.005)


@given(log_parameters, st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_gradient_and_hessian_of_bg_bb(log_theta: tuple[float, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 9, 12).astype(float)
    t_x = np.floor(rng.uniform(0, 1, 12) * (n + 1))
    x = np.where(t_x > 0, 1 + np.floor(rng.uniform(0, 1, 12) * t_x), 0)
    data = (x, t_x, n, rng.integers(1, 9, 12).astype(float))
    check_derivatives(beta_binomial.log_likelihood, np.array(log_theta), data)


def test_bg_bb_is_its_story_told_one_opportunity_at_a_time() -> None:
    """Slow twin: every string of five opportunities, followed for a grid of both probabilities."""
    model = BetaGeometricBetaBinomial(alpha=1.3, beta=0.8, gamma=0.9, delta=2.1)
    node, weight = np.polynomial.legendre.leggauss(200)
    u, weight = (node + 1) / 2, weight / 2
    buys, stops = special.betaincinv(1.3, 0.8, u), special.betaincinv(0.9, 2.1, u)
    p, theta = np.meshgrid(buys, stops)
    share = np.outer(weight, weight)
    totals, chance_of = np.zeros(6), {}
    for code in range(32):
        used = [(code >> i) & 1 for i in range(5)]
        likelihood, alive = np.zeros_like(p), np.ones_like(p)
        for at in range(6):
            rest = used[at:]
            died = alive * theta if at < 5 else alive
            likelihood += died if not any(rest) else 0
            if at < 5:
                alive = alive * (1 - theta) * (p if used[at] else 1 - p)
        chance = float((likelihood * share).sum())
        totals[sum(used)] += chance
        x, t_x = sum(used), max((i + 1 for i in range(5) if used[i]), default=0)
        chance_of[x, t_x] = chance
        ahead = float((alive * (1 - theta) * p * share).sum()) / chance
        ours = model.expected_purchases(1, x, t_x, 5)
        assert ours == pytest.approx(ahead, rel=1e-3)
    assert model.frequency_probabilities(5) == pytest.approx(totals, rel=1e-3)
    for (x, t_x), chance in chance_of.items():
        one = (np.array([float(v)]) for v in (x, t_x, 5, 1))
        value = beta_binomial.log_likelihood(np.log(list(model.values().values())), *one)[0]
        assert value == pytest.approx(np.log(chance), abs=1e-3)


def test_bg_bb_sums_agree() -> None:
    model = BetaGeometricBetaBinomial(alpha=1.3, beta=0.8, gamma=0.9, delta=2.1)
    shares = model.frequency_probabilities(12)
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    assert model.expected_purchases_new(12) == pytest.approx(float(shares @ np.arange(13)))
    until = np.array([model.expected_purchases(h, 3, 4, 6) for h in range(4001)])
    slow = (np.diff(until) * 1.2 ** -np.arange(1.0, 4001)).sum()
    ours = model.discounted_expected_transactions(3, 4, 6, discount_rate=0.2)
    assert ours == pytest.approx(slow, rel=1e-8)
    next_one = model.expected_purchases(1, 3, 4, 6)
    buys = (1.3 + 3) / (1.3 + 0.8 + 6)
    assert model.probability_alive(3, 4, 6) * buys == pytest.approx(float(next_one))


def test_opportunities_are_counted_alike_on_every_backend(
    backend: Callable[[pl.DataFrame], Any],
) -> None:
    days = {1: [0, 10, 366, 800], 2: [5], 3: [100, 465, 1000, 1001], 4: [900]}
    rows = [(who, date(2020, 1, 1) + timedelta(days=day)) for who in days for day in days[who]]
    table = pl.DataFrame(rows, schema=["customer_id", "happened_on"], orient="row")
    ours = opportunity_history(backend(table), as_of=date(2022, 12, 31)).table
    expected = []
    for who, bought in days.items():
        first, end = min(bought), 1095
        whole = int((end - first) / 365.25)
        used = sorted({int(np.ceil((d - first) / 365.25)) for d in bought if d > first})
        used = [place for place in used if place <= whole]
        expected.append((who, len(used), max(used, default=0), whole))
    keys = ("customer_id", "frequency", "recency", "n_opportunities")
    assert ours.select(keys).rows() == expected


def test_bg_bb_data_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="recency 0 where nothing was bought"):
        OpportunityHistory(pl.DataFrame({"frequency": [0], "recency": [2], "n_opportunities": [6]}))
    nobody = pl.DataFrame({"frequency": [0] * 9, "recency": [0] * 9, "n_opportunities": [6] * 9})
    with pytest.raises(InputError, match="only 0 of 9 customers used"):
        fit_beta_geometric_beta_binomial(OpportunityHistory(nobody))
    with pytest.raises(InputError, match="whole 0 <= x <= t_x <= n"):
        BetaGeometricBetaBinomial(1, 1, 1, 1).probability_alive(3, 2, 6)


# --- every model --------------------------------------------------------------------------------

FITS: dict[str, Callable[[PurchaseHistory], BuyingModel]] = {
    "bg_nbd": fit_beta_geometric,
    "mbg_nbd": fit_modified_beta_geometric,
    "pareto_nbd": fit_pareto_nbd,
    "bg_cnbd_3": partial(fit_regular_beta_geometric, modified=False, k=3),
    "mbg_cnbd_k": fit_regular_beta_geometric,
}


@cache
def cdnow_purchases() -> pl.DataFrame:
    raw = pl.read_csv(
        REFERENCE / "purchases" / "cdnow_sample_transactions.csv", try_parse_dates=True
    )
    return raw.select("customer_id", happened_on="date", revenue="spend")


@cache
def cdnow_days() -> PurchaseHistory:
    return purchase_history(cdnow_purchases(), value_col="revenue", as_of=LAST_OF_CALIBRATION)


@pytest.mark.parametrize("name", FITS)
def test_a_model_goes_through_json(name: str) -> None:
    model = FITS[name](cdnow_days())
    again = type(model).from_json(model.to_json())
    assert again == model
    other = ParetoNbd if name != "pareto_nbd" else BetaGeometric
    with pytest.raises(InputError, match=r"holds a .*\. Read it with"):
        other.from_json(model.to_json())
    with pytest.raises(InputError, match="not one that"):
        type(model).from_json("{}")
    renewing = fit_shifted_beta_geometric(HIGH_END)
    assert ShiftedBetaGeometric.from_json(renewing.to_json()) == renewing


@pytest.mark.parametrize("name", FITS)
def test_a_model_values_customers(name: str) -> None:
    """Every model serves the metrics, and its customers add up to its groups."""
    history = cdnow_days()
    model = FITS[name](history)
    value = lifetime_value(history, model=model, n_resamples=10)
    row = value.table.row(0, named=True)
    assert row["conf_low"] < row["estimate"] < row["conf_high"]
    assert value.customers["value"].mean() == pytest.approx(row["estimate"])
    assert model.label in value.definition
    x, t_x, T = columns_of(history)
    alive = model.probability_alive(x, t_x, T)
    assert value.customers["probability_active"].to_numpy() == pytest.approx(alive)
    spend = value.customers["expected_spend"].to_numpy()
    discounted = model.discounted_expected_transactions(
        x, t_x, T, annual_discount_rate=0.1, horizon=36 * 30.4375 / 7
    )
    assert value.customers["value"].to_numpy() == pytest.approx(discounted * spend, rel=1e-6)
    assert model.parameters().table.height == 4
    assert model.log_likelihood is not None
    assert model.aic == pytest.approx(2 * model.n_parameters - 2 * model.log_likelihood)


@pytest.mark.parametrize("name", ["bg_nbd", "pareto_nbd", "mbg_cnbd_k"])
def test_tracking_and_holdout_follow_any_model(name: str) -> None:
    asked: dict[str, Any] = {"model": name, "holdout_days": 273, "as_of": date(1998, 6, 30)}
    tracking = purchase_tracking(cdnow_purchases(), n_resamples=5, **asked).table
    model = FITS[name](cdnow_days())
    first = cdnow_purchases().group_by("customer_id").agg(pl.col("happened_on").min())
    ages = np.array([(tracking["ends_on"][60] - day).days for day in first["happened_on"]]) / 7
    slow = model.expected_purchases_new(np.maximum(ages, 0)).sum()
    assert tracking["estimate"][60] == pytest.approx(slow, rel=1e-7)
    assert tracking["n_made"].sum() == tracking["seen"][-1] == 2457 + 1882
    assert tracking["expected"].sum() == pytest.approx(tracking["estimate"][-1])
    holdout = holdout_comparison(cdnow_purchases(), **asked)
    x, t_x, T = columns_of(cdnow_days())
    expected = model.expected_purchases(39, x, t_x, T)
    assert holdout.n_expected == pytest.approx(expected.sum())
    later = purchase_history(cdnow_purchases(), value_col=None, as_of=date(1998, 6, 30)).table
    made = cdnow_days().table.join(later, on="customer_id", suffix="_later")
    missed = expected - (made["frequency_later"] - made["frequency"]).to_numpy()
    assert holdout.mae == pytest.approx(np.abs(missed).mean())
    assert holdout.rmse == pytest.approx(np.sqrt((missed**2).mean()))
    weights = holdout.table["n"] / holdout.table["n"].sum()
    assert (holdout.table["bias"] * weights).sum() == pytest.approx(missed.mean())
    assert (holdout.table["mae"] * weights).sum() == pytest.approx(holdout.mae)


def test_models_of_cdnow_compare_as_their_fits_say() -> None:
    comparison = compare_models(cdnow_purchases(), holdout_days=273, as_of=date(1998, 6, 30))
    table = comparison.table
    # No regularity is found in buying CDs: MBG/CNBD-k is MBG/NBD, and stands once.
    assert table["model"].to_list() == ["MBG/NBD", "BG/NBD", "Pareto/NBD"]
    assert table["aic"].is_sorted()
    assert table["log_likelihood"].to_list() == pytest.approx(
        [-9582.1357, -9582.4292, -9594.9762], abs=0.01
    )
    assert table["share_bought"][0] == pytest.approx(0.2902, abs=1e-4)
    assert "MBG/NBD describes these purchases best" in str(comparison)
    assert [model.label for model in comparison.models] == table["model"].to_list()
    early = compare_models(cdnow_purchases(), holdout_days=30, as_of=date(1990, 1, 1))
    assert early.table.is_empty()
    assert "too few" in early.notes[0]
    assert str(early).endswith("no model could be fitted.")


@pytest.mark.parametrize("quantity", ["active", "purchases"])
def test_a_right_model_is_reliable_and_a_wrong_one_is_not(quantity: Any) -> None:
    world = make_closed_form("regular_visits", n_customers=3000, seed=2, k=8, r=20.0, alpha=130.0)
    asked: dict[str, Any] = {
        "quantity": quantity, "holdout_days": 730, "as_of": world.parameters.as_of,
    }  # fmt: skip
    right, wrong = (
        model_reliability(world.tables["purchases"], model=name, **asked)
        for name in ("mbg_cnbd_k", "bg_nbd")
    )
    assert right.table["n"].sum() == wrong.table["n"].sum()
    assert right.error is not None
    assert wrong.error is not None
    # Ten groups of 300: a share's own standard error is up to .03, a mean's .06.
    assert right.error < 0.03
    assert wrong.error > 0.3
    assert right.table["expected"].is_sorted()


def test_checks_of_models_follow_the_grammar() -> None:
    from matplotlib.figure import Figure

    asked: dict[str, Any] = {"holdout_days": 273, "as_of": date(1998, 6, 30)}
    results: list[Estimates] = [
        compare_models(cdnow_purchases(), **asked),
        model_reliability(cdnow_purchases(), **asked),
        model_reliability(cdnow_purchases(), quantity="purchases", **asked),
    ]
    for result in results:
        ax = Figure().add_subplot()
        assert result.plot(ax) is ax
        assert str(result).endswith(".")
        assert result.definition.endswith(".")
        assert "nan" not in result.to_gt().as_raw_html().lower().replace("finance", "")
    with pytest.raises(InputError, match="did you mean 'pareto_nbd'"):
        compare_models(cdnow_purchases(), models=("pareto_nb",), **asked)
    with pytest.raises(InputError, match="each model once"):
        compare_models(cdnow_purchases(), models=(), **asked)
    with pytest.raises(InputError, match="'n_groups'"):
        model_reliability(cdnow_purchases(), n_groups=1, **asked)
    with pytest.raises(InputError, match="'quantity' was given as 'value'"):
        model_reliability(cdnow_purchases(), quantity="value", **asked)  # type: ignore[arg-type]


# --- worlds of known truth ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("trial", [t for t in TRIALS if t.name != "BG/NBD"], ids=lambda t: t.name)
def test_parameters_are_recovered_and_intervals_cover(trial: Trial) -> None:
    """30 worlds each; benchmarks/coverage_lifetime.py makes 500."""
    n_worlds = 30
    results = [tried(trial, seed, trial.n_customers // 2) for seed in range(n_worlds)]
    hits = np.array([hit for hit, _error in results]).sum(axis=0)
    errors = np.array([error for _hit, error in results])
    assert hits.min() >= stats.binom.ppf(1e-4, n_worlds, 0.95), hits
    # Four standard errors of the mean, and the small-sample bias of logarithms.
    slack = 4 * errors.std(axis=0, ddof=1) / np.sqrt(n_worlds) + 0.02
    assert (np.abs(errors.mean(axis=0)) < slack).all()


@pytest.mark.parametrize("k", [1, 3, 8])
def test_service_visits_find_their_k_and_who_is_active(k: int) -> None:
    """The issue's claims, beside other models and the rules of 12, 18 and 24 months."""
    table = service_table(k=k)
    chosen = table.row(3, named=True)
    assert chosen["model"] == ("MBG/NBD" if k == 1 else f"MBG/CNBD-{k}")
    assert abs(chosen["mean_active"] - chosen["truth"]) < 0.02
    others = table.filter(pl.col("model") != chosen["model"])
    assert chosen["brier"] < others["brier"].min()
    assert chosen["log_likelihood"] > others["log_likelihood"].max()
    assert table.row(0, named=True)["mean_active"] - chosen["truth"] > 0.15
    if k == 8:
        assert chosen["brier"] < 0.12


# --- nasty data ---------------------------------------------------------------------------------


def history_of(x: list[int], t_x: list[float], T: list[float], **more: Any) -> PurchaseHistory:
    logs = [k * np.log(t / k) if k else 0.0 for k, t in zip(x, t_x, strict=True)]
    table = pl.DataFrame(
        {"frequency": x, "recency": t_x, "age": T, "logs": logs},
        schema_overrides={"recency": pl.Float64, "age": pl.Float64, "logs": pl.Float64},
    )
    return PurchaseHistory.from_summary(table, sum_log_gaps_col="logs", **more)


REFUSED = {
    "nobody": history_of([], [], []),
    "one customer": history_of([3], [20.0], [30.0]),
    "nobody with a repeat": history_of([0] * 50, [0.0] * 50, [30.0] * 50),
    "all bought today": history_of([0] * 50, [0.0] * 50, [0.0] * 50),
}
FITTED = {
    "customers all alike": history_of([4] * 60, [21.5] * 60, [30.0] * 60),
    "all bought to the last day": history_of([2, 5] * 30, [30.0] * 60, [30.0] * 60),
    "huge counts": history_of([2000, 900, 5, 3000, 0, 1] * 9, [99.0, 80, 7, 99, 0, 2] * 9,
                              [100.0] * 54),
    "ten years of days": history_of([12, 0, 3, 40] * 20, [3000.0, 0, 900, 3600] * 20,
                                    [3650.0] * 80, unit="day"),
    "perfectly regular": history_of([5, 9] * 30, [260.0, 468.0] * 30, [270.0, 480.0] * 30),
    "some came today": history_of([0] * 30 + [1, 2] * 20, [0.0] * 30 + [5.0, 9.0] * 20,
                                  [0.0] * 30 + [20.0] * 40),
}  # fmt: skip

UNDETERMINED = ("customers all alike", "all bought to the last day", "perfectly regular")
"""Customers who do not differ, or never stop, leave the model's spread or dropout open."""


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("data", REFUSED)
def test_data_without_repeats_are_refused_with_the_numbers(data: str, name: str) -> None:
    with pytest.raises(InputError, match=r"only \d+ of \d+ customers bought on a second day"):
        FITS[name](REFUSED[data])


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("data", FITTED)
def test_nasty_data_give_a_sound_model_and_say_their_edges(data: str, name: str) -> None:
    history = FITTED[data]
    model = sound(FITS[name](history), history)
    if data in UNDETERMINED:
        assert model.notes, "such data leave something undetermined, and a note has to say so"
    value = expected_purchases(history, model=model, n_resamples=5).table
    assert value["estimate"].null_count() == 0


def test_gaps_that_never_differ_stop_at_the_largest_k() -> None:
    model = fit_regular_beta_geometric(FITTED["perfectly regular"])
    assert model.k == regular_beta_geometric.MOST_K
    assert any("more regular than any k" in note for note in model.notes)


@pytest.mark.parametrize("name", FITS)
def test_events_of_one_day_and_their_order_do_not_matter(name: str) -> None:
    once = cdnow_purchases().select("customer_id", "happened_on").unique(maintain_order=True)
    twice = pl.concat([once.reverse(), once])
    ours, theirs = (
        FITS[name](purchase_history(table, value_col=None, as_of=LAST_OF_CALIBRATION))
        for table in (once, twice)
    )
    assert ours == theirs


@pytest.mark.slow
def test_random_small_data_converge_or_are_refused_without_a_warning() -> None:
    """Every model on 10 sets; benchmarks/coverage_lifetime.py draws 1,000."""
    ends = random_sets(10, seed=11)
    assert sum(ends.values()) == 10 * 8
    assert not [name for name in ends if "no maximum" in name]


# --- covariates ---------------------------------------------------------------------------------


@cache
def two_kinds() -> PurchaseHistory:
    """Companies buy twice as fast as persons and stop half as fast."""
    parts = []
    for kind, n, alpha, beta in (("person", 4000, 8.0, 9.0), ("company", 2500, 4.0, 18.0)):
        world = make_closed_form(
            "paretonbd", n_customers=n, seed=n, r=0.8, alpha=alpha, s=0.7, beta=beta
        )
        buyers = world.truth["truth_buyer"].collect()
        parts.append(
            buyers.select("frequency", recency="recency_weeks", age="age_weeks", kind=pl.lit(kind))
        )
    return PurchaseHistory.from_summary(pl.concat(parts), by="kind")


def test_covariates_find_how_kinds_differ() -> None:
    effects = purchase_covariates(two_kinds(), by="kind")
    rows = {(row["level"], row["process"]): row for row in effects.table.to_dicts()}
    for process, truth in (("buying", 2.0), ("stopping", 0.5)):
        row = rows["company", process]
        assert row["conf_low"] < truth < row["conf_high"]
        assert abs(np.log(row["estimate"] / truth)) < 0.15
        assert rows["person", process]["estimate"] == 1
        assert rows["person", process]["conf_low"] is None
    assert effects.p_value < 1e-9
    assert "Kinds of customers differ" in str(effects)
    company = effects.model_for(kind="company")
    assert company.values()["alpha"] == pytest.approx(4.0, rel=0.15)
    with pytest.raises(InputError, match="0 kinds of them fit"):
        effects.model_for(kind="state")


def test_covariates_are_the_slow_likelihood_and_its_top() -> None:
    """Slow twin: each kind's own likelihood at its own parameters, and steps that lead down."""
    effects = purchase_covariates(two_kinds(), by="kind")

    def value(factor: Floats) -> float:
        total = 0.0
        for kind in ("person", "company"):
            theta = effects.model_for(kind=kind).theta * (factor if kind == "company" else 1)
            part = two_kinds().table.filter(pl.col("kind") == kind)
            data = columns_of(PurchaseHistory(table=part))
            weight = np.ones(part.height)
            total += pareto_nbd.log_likelihood(np.log(theta), *data, weight)[0]
        return total

    top = value(np.ones(4))
    assert top == pytest.approx(effects.log_likelihood, abs=1e-6)
    for step in ([1, 1.01, 1, 1], [1, 0.99, 1, 1], [1, 1, 1, 1.02], [1, 1, 1, 0.98]):
        assert value(np.array(step)) < top
    plain = fit_pareto_nbd(two_kinds()).log_likelihood
    assert effects.likelihood_ratio == pytest.approx(2 * (top - (plain or 0.0)), abs=1e-5)


def test_a_covariate_that_says_nothing_is_not_called_a_difference() -> None:
    table = two_kinds().table.filter(pl.col("kind") == "person")
    halves = table.with_row_index().with_columns(half=pl.col("index") % 2).drop("kind")
    history = PurchaseHistory.from_summary(halves, by="half")
    effects = purchase_covariates(history, by="half")
    assert effects.p_value > 0.001
    assert (effects.p_value < 0.05) == ("No difference" not in str(effects))
    with pytest.raises(InputError, match="tell no two customers apart"):
        purchase_covariates(history)


# --- counting in memory -------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.integers(-3, 9), st.integers(0, 60), st.one_of(st.none(), st.integers(-9, 99))
        ),
        max_size=60,
    ),
    st.sampled_from(["near", "far", "text", "digits", "signs"]),
)
@settings(max_examples=60, deadline=None)
def test_sorting_in_memory_counts_what_the_lazy_plan_counts(
    rows: list[tuple[int, int, int | None]], kind: str
) -> None:
    table = pl.DataFrame(
        {
            "customer_id": [who for who, _day, _value in rows],
            "happened_on": [date(2024, 1, 1) + timedelta(days=day) for _who, day, _value in rows],
            "margin": [value for _who, _day, value in rows],
        },
        schema={"customer_id": pl.Int64, "happened_on": pl.Date, "margin": pl.Float64},
    )
    if kind == "far":
        table = table.with_columns(pl.col("customer_id") * 10**12)
    if kind == "text":
        table = table.with_columns(pl.format("c{}", "customer_id").alias("customer_id"))
    if kind in ("digits", "signs"):
        # All of one length: "C07", or "+7" beside "-3", which no digits tell apart.
        padded = pl.col("customer_id").abs().cast(pl.String).str.zfill(2 if kind == "digits" else 1)
        sign = pl.when(pl.col("customer_id") < 0).then(pl.lit("-")).otherwise(pl.lit("+"))
        before = pl.lit("C") if kind == "digits" else sign
        table = table.with_columns(customer_id=before + padded)
    for value_col in ("margin", None):
        asked: dict[str, Any] = {"value_col": value_col, "as_of": date(2024, 2, 15)}
        here = purchase_history(table, **asked).table
        lazily = purchase_history(table.lazy(), **asked).table
        assert_frame_equal(here, lazily, rel_tol=1e-12, abs_tol=EXACT)
