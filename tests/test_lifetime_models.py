"""Models of buying and renewing: against the papers, slow twins, and worlds of known truth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, special, stats

from crm_analysis import (
    BetaGeometric,
    InputError,
    PurchaseHistory,
    RegularBetaGeometric,
    fit_beta_geometric,
    fit_modified_beta_geometric,
    fit_regular_beta_geometric,
    purchase_history,
)
from crm_analysis.lifetime import regular_beta_geometric
from crm_analysis.lifetime.buying_model import Patterns
from synthetic.closed_form import ClosedForm, make_closed_form
from synthetic.closed_form import regular_visits as visits_world

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
