"""What customers are worth: against the papers, finite differences, loops and simulated truth."""

from __future__ import annotations

import inspect
import json
from collections import defaultdict
from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
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

from crm_analysis import (
    BetaGeometric,
    ColumnError,
    Estimates,
    GammaGamma,
    InputError,
    NotConvergedError,
    PurchaseHistory,
    active_share,
    buying_parameters,
    expected_purchases,
    fit_beta_geometric,
    fit_gamma_gamma,
    frequency_check,
    holdout_comparison,
    lifetime_value,
    purchase_history,
    purchase_regularity,
    purchase_tracking,
    spend_parameters,
)
from crm_analysis.lifetime.beta_geometric import discounted_purchases_if_active, purchases_if_active
from crm_analysis.lifetime.beta_geometric import log_likelihood as buying_likelihood
from crm_analysis.lifetime.gamma_gamma import log_likelihood as spend_likelihood
from crm_analysis.lifetime.model_parameters import best_of
from crm_analysis.lifetime.newton import maximise
from crm_analysis.lifetime.patterns import count_patterns

PURCHASES = Path(__file__).parent / "reference" / "purchases"
END = date(1997, 9, 30)
LAST = date(1998, 6, 30)

PUBLISHED_ROUNDING = 1e-3
"""Papers print three decimals."""

QUADRATURE = 1e-9
"""Ours and scipy's adaptive quadrature; scipy's tolerance is the wider one."""

ROUNDING = 1e-10
"""Two programs that add the same numbers in another order differ by rounding alone."""

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def published() -> PurchaseHistory:
    """The summary that the papers used: weeks with two decimals."""
    summary = pl.read_csv(PURCHASES / "cdnow_sample_cbs_weeks.csv")
    return PurchaseHistory.from_summary(
        summary, frequency_col="x", recency_col="t_x", age_col="T", value_col="mean_spend"
    )


@pytest.fixture(scope="module")
def cdnow() -> pl.DataFrame:
    """The purchases themselves, with our columns."""
    raw = pl.read_csv(PURCHASES / "cdnow_sample_transactions.csv", try_parse_dates=True)
    return raw.select("customer_id", happened_on="date", revenue="spend")


@pytest.fixture(scope="module")
def counted(cdnow: pl.DataFrame) -> PurchaseHistory:
    return purchase_history(cdnow, value_col="revenue", as_of=END)


# --- published numbers --------------------------------------------------------------------------


def test_purchase_history_is_that_of_cdnow(cdnow: pl.DataFrame, counted: PurchaseHistory) -> None:
    assert (counted.n, counted.n - counted.n_repeat) == (2357, 1411)
    table = counted.table
    assert (table["frequency"].sum(), table["frequency"].max()) == (2457, 29)
    assert table["recency"].sum() == pytest.approx(16135.57142857143, abs=1e-6)
    assert table["age"].sum() == pytest.approx(77111.28571428571, abs=1e-6)
    whole = purchase_history(cdnow, value_col=None, as_of=LAST)
    both = table.join(whole.table.select("customer_id", later="frequency"), on="customer_id")
    assert (both["later"] - both["frequency"]).sum() == 1882


def test_bg_nbd_matches_fader_hardie_lee_2005_table_2(published: PurchaseHistory) -> None:
    model = fit_beta_geometric(published)
    assert model.values() == pytest.approx(
        {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}, abs=PUBLISHED_ROUNDING
    )
    assert model.log_likelihood == pytest.approx(-9582.425560567364, abs=1e-6)
    assert model.values() == pytest.approx(
        {"r": 0.242592907, "alpha": 4.413531563, "a": 0.792886148, "b": 2.425753436}, rel=1e-6
    )
    errors = {"r": 0.01255731958, "alpha": 0.37822141579, "a": 0.1857191431, "b": 0.7053457548}
    assert model.std_errors == pytest.approx(errors, rel=1e-5)
    assert (model.n, model.notes) == (2357, ())
    assert model.aic == pytest.approx(2 * 4 + 2 * 9582.425560567364)
    assert model.bic == pytest.approx(4 * np.log(2357) + 2 * 9582.425560567364)


def test_bg_nbd_predictions_match_the_paper(published: PurchaseHistory) -> None:
    model = fit_beta_geometric(published)
    x, t_x, T = (published.table[c].to_numpy() for c in ("frequency", "recency", "age"))
    assert model.probability_alive(x, t_x, T).sum() == pytest.approx(1917.276332558, rel=1e-6)
    assert model.expected_purchases(39, x, t_x, T).sum() == pytest.approx(1653.42325981, rel=1e-6)
    assert model.expected_purchases(39, 2, 30.43, 38.86) == pytest.approx(1.22591045, rel=1e-6)
    assert model.probability_alive(2, 30.43, 38.86) == pytest.approx(0.72660915, rel=1e-6)
    assert model.expected_purchases_new(52) == pytest.approx(1.44402085, rel=1e-6)


def test_gamma_gamma_matches_fader_hardie_2013(published: PurchaseHistory) -> None:
    model = fit_gamma_gamma(published)
    assert model.values() == pytest.approx({"p": 6.25, "q": 3.74, "v": 15.44}, abs=0.01)
    assert model.values() == pytest.approx({"p": 6.248801, "q": 3.744588, "v": 15.447750}, rel=1e-5)
    errors = {"p": 1.189671701, "q": 0.290163016, "v": 4.159939129}
    assert model.std_errors == pytest.approx(errors, rel=1e-3)
    assert model.log_likelihood == pytest.approx(-4055.923243502859, abs=1e-5)
    assert model.n == 946
    assert model.mean_spend() == pytest.approx(35.171, abs=1e-3)
    table = published.table.head(10)
    spend = model.expected_spend(table["n_valued"], table["mean_value"].fill_null(0.0))
    expected = [24.65, 18.91, 35.17, 35.17, 35.17, 71.46, 18.91, 35.17, 27.28, 35.17]
    assert spend == pytest.approx(expected, abs=0.02)


def test_exact_days_give_the_published_parameters_too(counted: PurchaseHistory) -> None:
    """The papers' weeks have two decimals; whole days divided by 7 differ in the fourth digit."""
    buying, spend = fit_beta_geometric(counted), fit_gamma_gamma(counted)
    assert buying.values() == pytest.approx(
        {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}, abs=PUBLISHED_ROUNDING
    )
    assert buying.log_likelihood == pytest.approx(-9582.429, abs=1e-3)
    assert spend.values() == pytest.approx({"p": 6.25, "q": 3.74, "v": 15.44}, abs=0.005)


def test_the_unit_of_time_changes_alpha_alone(cdnow: pl.DataFrame) -> None:
    weeks, days = (
        fit_beta_geometric(purchase_history(cdnow, value_col=None, unit=unit, as_of=END))
        for unit in ("week", "day")
    )
    assert days.alpha / 7 == pytest.approx(weeks.alpha, rel=1e-6)
    assert (days.r, days.a, days.b) == pytest.approx((weeks.r, weeks.a, weeks.b), rel=1e-6)
    values = [
        lifetime_value(purchase_history(cdnow, value_col="revenue", unit=unit, as_of=END)).table
        for unit in ("week", "day", "month", "year")
    ]
    assert [v["estimate"][0] for v in values] == pytest.approx([values[0]["estimate"][0]] * 4)


# --- gradients ----------------------------------------------------------------------------------

log_parameter = st.floats(-2.5, 2.5)


def finite_differences(f: Callable[[Floats], Any], at: Floats) -> Floats:
    step = 1e-5
    rows = [(f(at + step * e) - f(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    return np.array(rows)


@given(st.tuples(*[log_parameter] * 4), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_gradient_and_hessian_of_bg_nbd(log_theta: tuple[float, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 12, 15).astype(float)
    T = rng.uniform(0.5, 5, 15)
    t_x = np.where(x > 0, T * rng.uniform(0.05, 1, 15), 0.0)
    data: tuple[Floats, ...] = (x, t_x, T, rng.integers(1, 9, 15).astype(float))
    at = np.array(log_theta)
    _, gradient, hessian = buying_likelihood(at, *data)
    scale = 1 + np.abs(hessian).max()
    assert gradient == pytest.approx(
        finite_differences(lambda p: buying_likelihood(p, *data)[0], at), abs=1e-6 * scale
    )
    numeric = finite_differences(lambda p: buying_likelihood(p, *data)[1], at)
    assert hessian == pytest.approx(numeric, abs=1e-6 * scale)


@given(st.tuples(*[log_parameter] * 3), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_gradient_and_hessian_of_gamma_gamma(log_theta: tuple[float, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = rng.integers(1, 12, 15).astype(float), rng.integers(1, 9, 15).astype(float)
    data: tuple[Floats, ...] = (x, rng.gamma(2, 1, 15), weight)
    at = np.array(log_theta)
    _, gradient, hessian = spend_likelihood(at, *data)
    scale = 1 + np.abs(hessian).max()
    assert gradient == pytest.approx(
        finite_differences(lambda p: spend_likelihood(p, *data)[0], at), abs=1e-6 * scale
    )
    numeric = finite_differences(lambda p: spend_likelihood(p, *data)[1], at)
    assert hessian == pytest.approx(numeric, abs=1e-6 * scale)


def test_likelihood_is_the_mixture_that_the_model_says() -> None:
    """Slow twin: the likelihood of one customer, integrated over rate and dropout numerically."""
    r, alpha, a, b, x, t_x, T = 0.8, 1.7, 1.3, 2.2, 3, 1.1, 2.0

    def of_one(rate: float, p: float) -> float:
        stays = (1 - p) ** x * rate**x * np.exp(-rate * T)
        stops = p * (1 - p) ** (x - 1) * rate**x * np.exp(-rate * t_x)
        return float((stays + stops) * stats.gamma.pdf(rate, r, scale=1 / alpha))

    def over_rates(p: float) -> float:
        return float(integrate.quad(of_one, 0, 60, args=(p,))[0] * stats.beta.pdf(p, a, b))

    slow = np.log(integrate.quad(over_rates, 0, 1)[0])
    one = (np.array([float(v)]) for v in (x, t_x, T, 1))
    ours = buying_likelihood(np.log([r, alpha, a, b]), *one)[0]
    assert ours == pytest.approx(slow, rel=1e-7)


# --- predictions --------------------------------------------------------------------------------


@given(st.tuples(*[st.floats(-1.5, 1.5)] * 4), st.integers(0, 40), st.floats(0.1, 30))
@settings(max_examples=40, deadline=None)
def test_expected_purchases_is_its_integral(
    log_theta: tuple[float, ...], x: int, horizon: float
) -> None:
    """The slow twin integrates the rate of buying over time and over the dropout probability."""
    theta = np.exp(np.array(log_theta))
    r, alpha, a, b = theta
    T = 0.5 + 0.3 * x
    age, shape = alpha + T, r + x

    def at_p(q: float) -> float:
        # p = the q-quantile of its beta distribution: the weight becomes 1.
        p = special.betaincinv(a, b + x, q)
        return (
            float(-np.expm1(-shape * np.log1p(p * horizon / age)) / p)
            if p
            else shape * (horizon / age)
        )

    slow = integrate.quad(at_p, 0, 1, limit=400, epsabs=1e-9, epsrel=1e-9)[0]
    ours = purchases_if_active(theta, horizon, np.array([float(x)]), np.array([T]))[0]
    assert ours == pytest.approx(slow, rel=1e-7)


def test_expected_purchases_is_the_papers_hypergeometric_form() -> None:
    model = BetaGeometric(r=0.243, alpha=4.414, a=0.793, b=2.426)
    for x, t_x, T, t in ((0, 0.0, 38.86, 39.0), (2, 30.43, 38.86, 39.0), (7, 20.0, 30.0, 10.0)):
        r, alpha, a, b = model.theta
        top = (a + b + x - 1) / (a - 1)
        ratio = (alpha + T) / (alpha + T + t)
        series = special.hyp2f1(r + x, b + x, a + b + x - 1, t / (alpha + T + t))
        odds = a / (b + x - 1) * ((alpha + T) / (alpha + t_x)) ** (r + x) if x else 0.0
        paper = top * (1 - ratio ** (r + x) * series) / (1 + odds)
        assert model.expected_purchases(t, x, t_x, T) == pytest.approx(paper, rel=1e-9)


@pytest.mark.parametrize("a", [0.999999999, 1.0, 1.000000001])
def test_expected_purchases_has_no_hole_at_a_of_one(a: float) -> None:
    around = BetaGeometric(r=0.5, alpha=6.0, a=1.01, b=3.0).expected_purchases(20, 3, 20, 30)
    there = BetaGeometric(r=0.5, alpha=6.0, a=a, b=3.0).expected_purchases(20, 3, 20, 30)
    assert there == pytest.approx(float(around), rel=0.02)


def test_expected_purchases_of_extreme_customers_stay_finite() -> None:
    model = BetaGeometric(r=0.243, alpha=4.414, a=0.793, b=2.426)
    many = model.expected_purchases(52, [0, 300, 2000], [0, 100, 300], [0, 100, 300])
    assert np.isfinite(many).all()
    assert (many > 0).all()
    assert model.expected_purchases(0, 3, 10, 20) == 0
    assert model.expected_purchases_new([0, 1, 1000])[0] == 0


@pytest.mark.parametrize("horizon", [10.0, 156.0])
def test_discounted_purchases_are_their_integral(horizon: float) -> None:
    theta, discount = np.array([0.243, 4.414, 0.793, 2.426]), 0.0027
    model = BetaGeometric(*theta)
    x, T = np.array([0.0, 3.0]), np.array([5.0, 38.86])
    ours = discounted_purchases_if_active(theta, horizon, discount, x, T)
    for i, x_i in enumerate(x):
        for j, T_j in enumerate(T):
            alive = model.probability_alive(x_i, 0.9 * T_j if x_i else 0.0, T_j)

            def until(t: float, x_i: float = x_i, T_j: float = T_j, alive: Any = alive) -> float:
                t_x = 0.9 * T_j if x_i else 0.0
                return float(model.expected_purchases(t, x_i, t_x, T_j) / alive)

            # By parts: what is bought by t, discounted, plus the interest on it.
            held = integrate.quad(lambda t: np.exp(-discount * t) * until(t), 0, horizon)[0]
            slow = np.exp(-discount * horizon) * until(horizon) + discount * held
            assert ours[i, j] == pytest.approx(slow, rel=QUADRATURE * 10)


def test_interpolating_over_ages_loses_nothing() -> None:
    theta = np.array([0.243, 4.414, 0.793, 2.426])
    x, T = np.arange(0.0, 30.0), np.linspace(0.0, 400.0, 700)
    together = discounted_purchases_if_active(theta, 156.0, 0.0, x, T)
    alone = np.stack([purchases_if_active(theta, 156.0, np.full_like(T, k), T) for k in x])
    possible = x[:, None] <= 7 * T
    assert together[possible] == pytest.approx(alone[possible], rel=1e-9)


def test_probabilities_of_frequencies_are_those_of_simulated_customers() -> None:
    model = BetaGeometric(r=0.7, alpha=5.0, a=0.9, b=2.5)
    simulated = simulate(model, 40_000, seed=3, age=40.0)
    seen = np.bincount(simulated["frequency"].to_numpy(), minlength=6)[:6] / 40_000
    expected = model.frequency_probabilities([40.0], 5)[0]
    assert seen == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 40_000))
    tail = model.frequency_probabilities([40.0], 3000)[0]
    assert tail.sum() == pytest.approx(1, abs=1e-6)
    mean = (tail * np.arange(3001)).sum()
    assert model.expected_purchases_new(40.0) == pytest.approx(mean, rel=1e-4)


# --- counting -----------------------------------------------------------------------------------

purchase = st.tuples(
    st.integers(1, 5), st.integers(0, 80), st.one_of(st.none(), st.integers(-50, 200))
)


def purchases_of(rows: list[tuple[int, int, int | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "customer_id": [customer for customer, _, _ in rows],
            "happened_on": [date(2025, 1, 1) + timedelta(days=day) for _, day, _ in rows],
            "margin": [value for _, _, value in rows],
            "dealership": [
                None if customer == 5 else f"D{customer % 2}" for customer, _, _ in rows
            ],
        },
        schema={
            "customer_id": pl.Int64,
            "happened_on": pl.Date,
            "margin": pl.Float64,
            "dealership": pl.String,
        },
    )


def slow_history(rows: list[tuple[int, int, int | None]], last: int) -> list[tuple[Any, ...]]:
    """A loop that anyone can check by eye."""
    days: dict[int, dict[int, list[int | None]]] = defaultdict(lambda: defaultdict(list))
    for customer, day, value in rows:
        if day <= last:
            days[customer][day].append(value)
    out = []
    for customer in sorted(days):
        bought = sorted(days[customer])
        first, repeats = bought[0], bought[1:]
        values = [sum(days[customer][d]) for d in repeats if None not in days[customer][d]]  # type: ignore[arg-type]
        gaps = [later - earlier for earlier, later in pairwise(bought)]
        span = bought[-1] - first
        spacing = sum(g * g for g in gaps) / span**2 if len(repeats) > 1 else None
        mean = sum(values) / len(values) if values else None
        logs = sum(np.log(gap / 7) for gap in gaps)
        age = (last - first) / 7
        out.append((customer, len(repeats), span / 7, age, len(values), mean, spacing, logs))
    return out


@given(st.lists(purchase, max_size=40), st.integers(0, 90))
@settings(max_examples=60, deadline=None)
def test_purchase_history_is_its_slow_twin(
    rows: list[tuple[int, int, int | None]], last: int
) -> None:
    history = purchase_history(purchases_of(rows), as_of=date(2025, 1, 1) + timedelta(days=last))
    slow = slow_history(rows, last)
    assert len(slow) == history.n
    for ours, twin in zip(history.table.rows(), slow, strict=True):
        known = [(a, b) for a, b in zip(ours, twin, strict=True) if b is not None]
        assert [a for a, _ in known] == pytest.approx([b for _, b in known], rel=1e-12, abs=1e-12)
        assert [a is None for a in ours] == [b is None for b in twin]


ROWS: list[tuple[int, int, int | None]] = [
    (1, 0, 100), (1, 14, 50), (1, 14, 30), (1, 30, None), (2, 3, 10), (2, 3, 20), (3, 10, None),
    (3, 20, 40), (3, 35, -10), (4, 50, 5), (5, 1, 7), (5, 8, 9), (4, 70, 5), (3, 90, 1000),
]  # fmt: skip


def test_every_backend_counts_the_same(backend: Callable[[pl.DataFrame], Any]) -> None:
    table = purchases_of(ROWS)
    end = date(2025, 1, 1) + timedelta(days=80)
    expected = purchase_history(table, as_of=end, by="dealership").table
    assert expected["dealership"].to_list() == ["D0", "D0", "D1", "D1", None]
    ours = purchase_history(backend(table), as_of=end, by="dealership").table
    assert_frame_equal(ours, expected, abs_tol=ROUNDING)


def test_every_backend_tracks_the_same(
    backend: Callable[[pl.DataFrame], Any], cdnow: pl.DataFrame
) -> None:
    few = cdnow.filter(pl.col("customer_id") <= 120)
    asked: dict[str, Any] = {"holdout_days": 273, "as_of": LAST}
    expected = purchase_tracking(few, n_resamples=5, **asked).table
    ours = purchase_tracking(backend(few), n_resamples=5, **asked).table
    assert_frame_equal(ours, expected, abs_tol=1e-6)


def test_a_moment_counts_as_its_day_and_groups_split_customers() -> None:
    moments = pl.DataFrame(
        {
            "customer_id": ["a", "a", "a"],
            "happened_on": pl.Series(
                [f"2025-01-01 {h:02}:00" for h in (9, 17, 18)]
            ).str.to_datetime("%Y-%m-%d %H:%M"),
            "kind": ["car", "service", "service"],
        }
    )
    asked: dict[str, Any] = {"value_col": None, "as_of": date(2025, 2, 1)}
    assert purchase_history(moments, **asked).table["frequency"].to_list() == [0]
    assert purchase_history(moments, by="kind", **asked).n == 2


def test_values_are_null_without_a_value_column(cdnow: pl.DataFrame) -> None:
    history = purchase_history(cdnow, value_col=None, as_of=END)
    assert history.table["mean_value"].null_count() == history.n
    value = lifetime_value(history)
    assert value.table["estimate"].to_list() == [None]
    assert value.customers["expected_purchases"].null_count() == 0
    assert any("Values were not counted" in note for note in value.notes)


# --- value --------------------------------------------------------------------------------------


def test_value_is_its_slow_twin(counted: PurchaseHistory) -> None:
    """Month by month for a few customers: purchases in each slice times spend, discounted."""
    value = lifetime_value(counted, horizon_months=24, annual_discount_rate=0.15, n_resamples=2)
    buying, spend = fit_beta_geometric(counted), fit_gamma_gamma(counted)
    grid = np.linspace(0, 24 * 30.4375 / 7, 2001)
    for row in value.customers.head(12).to_dicts():
        args = row["frequency"], row["recency"], row["age"]
        by_then = np.array([buying.expected_purchases(t, *args) for t in grid[::20]], float)
        by_then = np.interp(grid, grid[::20], by_then)
        middle = (grid[1:] + grid[:-1]) / 2
        slow = (np.diff(by_then) * 1.15 ** (-middle * 7 / 365.25)).sum()
        slow *= spend.expected_spend(row["n_valued"], row["mean_value"] or 0.0)
        assert row["value"] == pytest.approx(slow, rel=1e-4)
    assert value.customers["value"].mean() == pytest.approx(value.table["estimate"][0])
    assert value.table["total"][0] == pytest.approx(value.customers["value"].sum())


def test_value_without_discount_is_purchases_times_spend(counted: PurchaseHistory) -> None:
    value = lifetime_value(counted, annual_discount_rate=0, n_resamples=2).customers
    product = value["expected_purchases"] * value["expected_spend"]
    assert value["value"].to_numpy() == pytest.approx(product.to_numpy(), rel=1e-9)


def test_value_grows_with_horizon_and_falls_with_discount(counted: PurchaseHistory) -> None:
    by_horizon = [
        lifetime_value(counted, horizon_months=m, n_resamples=2).table["estimate"][0]
        for m in (0, 12, 36, 120)
    ]
    by_rate = [
        lifetime_value(counted, annual_discount_rate=d, n_resamples=2).table["estimate"][0]
        for d in (0, 0.1, 0.5)
    ]
    assert by_horizon == sorted(by_horizon)
    assert by_horizon[0] == pytest.approx(0, abs=1e-12)
    assert by_rate == sorted(by_rate, reverse=True)


def test_groups_add_up_to_the_whole(cdnow: pl.DataFrame) -> None:
    halves = cdnow.with_columns(half=pl.col("customer_id") % 2)
    history = purchase_history(halves, value_col="revenue", as_of=END, by="half")
    groups = lifetime_value(history, by="half", n_resamples=3)
    whole = lifetime_value(history, n_resamples=3)
    assert groups.table["half"].to_list() == [0, 1]
    assert groups.table["n"].sum() == whole.table["n"][0]
    assert groups.table["total"].sum() == pytest.approx(whole.table["total"][0])
    assert "share one model" in str(groups)


def test_the_interval_is_that_of_the_delta_method(counted: PurchaseHistory) -> None:
    """Parameters drawn, or derivatives times covariance: the same standard error."""
    model = fit_beta_geometric(counted)
    ours = expected_purchases(counted, n_resamples=2000, seed=4).table
    x, t_x, T = (counted.table[c].to_numpy() for c in ("frequency", "recency", "age"))

    def mean(log_theta: Floats) -> float:
        other = BetaGeometric(*np.exp(log_theta))
        return float(other.expected_purchases(12 * 30.4375 / 7, x, t_x, T).mean())

    at, step = np.log(model.theta), 1e-4
    slope = np.array([(mean(at + step * e) - mean(at - step * e)) / 2 / step for e in np.eye(4)])
    delta = float(np.sqrt(slope @ np.asarray(model.log_covariance) @ slope))
    assert ours["std_error"][0] == pytest.approx(delta, rel=0.06)
    assert ours["estimate"][0] == pytest.approx(mean(at))


def test_the_same_seed_gives_the_same_interval(counted: PurchaseHistory) -> None:
    one, two, other = (
        lifetime_value(counted, n_resamples=20, seed=seed).table for seed in (1, 1, 2)
    )
    assert_frame_equal(one, two)
    assert one["std_error"][0] != other["std_error"][0]


# --- simulated truth ----------------------------------------------------------------------------


def simulate(model: BetaGeometric, n: int, *, seed: int, age: float = 0.0) -> pl.DataFrame:
    """Draw customers of a BG/NBD world: (frequency, recency, age), and purchases to come."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(model.r, 1 / model.alpha, n)
    stops = rng.beta(model.a, model.b, n)
    T = np.full(n, age) if age else rng.uniform(20, 60, n)
    x, t_x, ahead = np.zeros(n, np.int64), np.zeros(n), np.zeros(n, np.int64)
    now, going = np.zeros(n), np.ones(n, bool)
    while going.any():
        who = np.flatnonzero(going)
        now[who] += rng.exponential(1 / np.maximum(rate[who], 1e-300))
        going[who] = now[who] <= T[who] + 52
        bought = who[now[who] <= T[who]]
        x[bought] += 1
        t_x[bought] = now[bought]
        ahead[who[(now[who] > T[who]) & going[who]]] += 1
        going[who[rng.random(len(who)) < stops[who]]] = False
    return pl.DataFrame({"frequency": x, "recency": t_x, "age": T, "ahead": ahead})


def test_parameters_are_recovered_and_intervals_cover() -> None:
    """50 worlds: each parameter's 95 % interval covers within the binomial band."""
    truth = BetaGeometric(r=0.6, alpha=6.0, a=0.8, b=2.4)
    n_worlds, covered, errors = 50, dict.fromkeys(truth.values(), 0), []
    for seed in range(n_worlds):
        world = simulate(truth, 1500, seed=seed)
        parameters = fit_beta_geometric(PurchaseHistory.from_summary(world)).parameters()
        for row in parameters.table.to_dicts():
            true = truth.values()[row["parameter"]]
            covered[row["parameter"]] += row["conf_low"] <= true <= row["conf_high"]
            errors.append(np.log(row["estimate"] / true))
    low = stats.binom.ppf(0.001, n_worlds, 0.95)
    assert min(covered.values()) >= low, covered
    bias = np.array(errors).reshape(n_worlds, 4).mean(axis=0)
    assert np.abs(bias).max() < 0.1


def test_expected_purchases_come_true_in_the_models_own_world() -> None:
    truth = BetaGeometric(r=0.6, alpha=6.0, a=0.8, b=2.4)
    world = simulate(truth, 20_000, seed=5)
    history = PurchaseHistory.from_summary(world)
    ours = expected_purchases(history, horizon_months=52 * 7 / 30.4375, n_resamples=50).table
    seen = world["ahead"].to_numpy()
    chance = seen.std() / np.sqrt(len(seen))
    error = np.hypot(chance, ours["std_error"][0])
    assert ours["estimate"][0] == pytest.approx(seen.mean(), abs=3.5 * error)


def erlang_purchases(k: int, n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    gaps = rng.gamma(k, 60 / k, (n, 30))
    days = np.concatenate([np.zeros((n, 1)), np.cumsum(gaps, axis=1)], axis=1)
    keep = days < rng.uniform(100, 900, (n, 1))
    who, _ = np.nonzero(keep)
    start = date(2020, 1, 1)
    return pl.DataFrame(
        {
            "customer_id": who,
            "happened_on": [start + timedelta(days=int(d)) for d in days[keep]],
        }
    )


@pytest.mark.parametrize("k", [1, 4])
def test_regularity_of_gaps_is_recovered_and_said(k: int) -> None:
    history = purchase_history(
        erlang_purchases(k, 800, k), value_col=None, as_of=date(2022, 12, 31)
    )
    row = purchase_regularity(history).table.row(0, named=True)
    assert abs(np.log(row["estimate"] / k)) < 4 * row["std_error"] / row["estimate"] + 0.06
    assert ("more regular than chance" in str(purchase_regularity(history))) == (k > 1)
    warned = any("more regular than chance" in note for note in active_share(history).notes)
    assert warned == (k > 1)


# --- model checks -------------------------------------------------------------------------------


def test_frequencies_of_cdnow_fit(counted: PurchaseHistory) -> None:
    check = frequency_check(counted)
    assert check.table["n_customers"].to_list() == [1411, 439, 214, 100, 62, 38, 29, 64]
    assert check.table["expected"].sum() == pytest.approx(1)
    assert check.misplaced is not None
    assert check.misplaced < 0.02
    assert check.notes == ()
    other = frequency_check(counted, model=BetaGeometric(r=5.0, alpha=100.0, a=0.1, b=5.0))
    assert any("do not rely" in note for note in other.notes)


def test_holdout_of_cdnow_is_that_of_the_paper(cdnow: pl.DataFrame) -> None:
    comparison = holdout_comparison(cdnow, holdout_days=273, as_of=LAST)
    assert comparison.n_seen == 1882
    assert comparison.n_expected == pytest.approx(1653.5, abs=1)
    assert comparison.table["n"].sum() == 2357
    means = comparison.table["expected"] * comparison.table["n"]
    assert means.sum() == pytest.approx(comparison.n_expected)
    assert "too few expected" in str(comparison)


def test_tracking_counts_what_was_made_and_expects_what_the_model_says(
    cdnow: pl.DataFrame,
) -> None:
    tracking = purchase_tracking(cdnow, holdout_days=273, as_of=LAST, n_resamples=10)
    table = tracking.table
    assert (table.height, table["held_out"].sum(), table["seen"][-1]) == (78, 39, 2457 + 1882)
    model = fit_beta_geometric(purchase_history(cdnow, value_col=None, as_of=END))
    first = cdnow.group_by("customer_id").agg(pl.col("happened_on").min())["happened_on"]
    ages = np.array([(table["ends_on"][60] - day).days for day in first]) / 7
    slow = model.expected_purchases_new(np.maximum(ages, 0)).sum()
    assert table["estimate"][60] == pytest.approx(slow, rel=1e-9)
    assert (np.diff(table["estimate"]) > 0).all()


# --- nasty data ---------------------------------------------------------------------------------


def history_of(x: list[int], t_x: list[float], T: list[float], m: Any = None) -> PurchaseHistory:
    table = pl.DataFrame({"frequency": x, "recency": t_x, "age": T, "m": m or [None] * len(x)})
    return PurchaseHistory.from_summary(
        table.with_columns(pl.col("recency", "age", "m").cast(pl.Float64)), value_col="m"
    )


NASTY = {
    "nobody": history_of([], [], []),
    "one customer": history_of([3], [20.0], [30.0], [50.0]),
    "nobody with a repeat": history_of([0] * 50, [0.0] * 50, [30.0] * 50),
    "all bought today": history_of([0] * 50, [0.0] * 50, [0.0] * 50),
    "values of zero": history_of([2] * 50, [9.0] * 50, [30.0] * 50, [0.0] * 50),
    "values below zero": history_of([2] * 50, [9.0] * 50, [30.0] * 50, [-5.0] * 50),
    "values all alike": history_of([2] * 50, [9.0] * 50, [30.0] * 50, [5.0] * 50),
    "customers all alike": history_of([4] * 60, [21.5] * 60, [30.0] * 60, [9.0, 1.0] * 30),
    "huge counts": history_of([2000, 900, 5, 3000, 0, 1] * 9, [99.0, 80, 7, 99, 0, 2] * 9,
                              [100.0] * 54, [3.0, 4, 5, 6, None, 7] * 9),
    "ten years of days": history_of([12, 0, 3, 40] * 20, [3000.0, 0, 900, 3600] * 20,
                                    [3650.0] * 80, [3.0, None, 1e6, 1e-3] * 20),
}  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_nasty_data_end_in_a_number_or_in_null_with_a_note(name: str) -> None:
    history = NASTY[name]
    results: list[Estimates] = [
        lifetime_value(history, n_resamples=20),
        expected_purchases(history, n_resamples=20),
        active_share(history, n_resamples=20),
        buying_parameters(history),
        spend_parameters(history),
        frequency_check(history),
        purchase_regularity(history),
    ]
    for result in results:
        assert "nan" not in result.show().to_html().lower().replace("finance", "")
        known = result.table["estimate"].null_count() == 0 and result.table.height > 0
        assert known or result.notes, (name, result.name)
    customers = lifetime_value(history, n_resamples=2).customers
    assert not customers.select(pl.selectors.float().is_nan().any()).pipe(lambda t: any(t.row(0)))


@pytest.mark.parametrize("name", ["nobody", "one customer", "nobody with a repeat"])
def test_a_fit_without_repeats_is_refused_with_the_numbers(name: str) -> None:
    with pytest.raises(InputError, match=r"only \d+ of \d+ customers bought on a second day"):
        fit_beta_geometric(NASTY[name])


def test_spend_that_cannot_be_modelled_is_refused() -> None:
    with pytest.raises(InputError, match="only 0 of 50"):
        fit_gamma_gamma(NASTY["values below zero"])
    mostly = history_of([2] * 50, [9.0] * 50, [30.0] * 50, [5.0, -1.0, -2.0, 7.0, -3.0] * 10)
    with pytest.raises(InputError, match="30 of 50 customers"):
        fit_gamma_gamma(mostly)
    with pytest.raises(InputError, match="counted without values"):
        fit_gamma_gamma(PurchaseHistory.from_summary(mostly.table.drop("mean_value")))


def test_some_values_below_zero_are_left_out_of_the_fit_and_said() -> None:
    history = history_of([2, 3] * 30, [9.0, 20] * 30, [30.0] * 60, [5.0, 8, 12, 3, -4, 6] * 10)
    model = fit_gamma_gamma(history)
    assert model.n == 50
    assert any("10 of 60 customers" in note for note in model.notes)
    assert lifetime_value(history, n_resamples=5).customers["value"].is_not_null().all()


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_small_random_data_converge_or_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    x = rng.poisson(rng.gamma(0.7, 2, n))
    T = rng.uniform(0.1, 60, n)
    t_x = np.where(x > 0, T * rng.uniform(0.01, 1, n), 0.0)
    m = [float(v) if k else None for v, k in zip(rng.normal(40, 30, n), x, strict=True)]
    history = history_of(x.tolist(), t_x.tolist(), T.tolist(), m)
    value = lifetime_value(history, n_resamples=5)
    row = value.table.row(0, named=True)
    assert row["estimate"] is not None or value.notes
    if history.n_repeat >= 5:
        model = fit_beta_geometric(history)
        assert 0 <= model.probability_alive(1, 1.0, 2.0) <= 1
    else:
        with pytest.raises(InputError):
            fit_beta_geometric(history)


def test_a_search_without_a_top_says_what_was_tried() -> None:
    def endless(at: Floats) -> tuple[float, Floats, Floats]:
        return float("nan"), np.ones(2), -np.eye(2)

    with pytest.raises(NotConvergedError, match=r"none of 2 starting points.*r = .*Check the data"):
        best_of(endless, [np.zeros(2), np.ones(2)], names=("r", "alpha"), model="A model")


def test_newton_finds_the_top_and_the_edge() -> None:
    def hill(at: Floats) -> tuple[float, Floats, Floats]:
        return float(-((at - 1) ** 2).sum()), -2 * (at - 1), -2 * np.eye(2)

    def slope(at: Floats) -> tuple[float, Floats, Floats]:
        return float(at[0] - at[1] ** 2), np.array([1.0, -2 * at[1]]), np.diag([0.0, -2.0])

    assert maximise(hill, np.zeros(2), 5.0).at == pytest.approx([1, 1])
    end = maximise(slope, np.zeros(2), 5.0)
    assert (end.at.tolist(), end.at_bound.tolist()) == ([5.0, 0.0], [True, False])


# --- arguments and words ------------------------------------------------------------------------


def test_wrong_arguments_are_refused(cdnow: pl.DataFrame, counted: PurchaseHistory) -> None:
    with pytest.raises(ColumnError, match="did you mean 'revenue'"):
        purchase_history(cdnow, value_col="revenu", as_of=END)
    with pytest.raises(InputError, match="'unit' was given as 'wek'"):
        purchase_history(cdnow, value_col=None, unit="wek", as_of=END)  # type: ignore[arg-type]
    with pytest.raises(ColumnError, match="must hold a date"):
        purchase_history(cdnow, at_col="revenue", value_col=None, as_of=END)
    nulls = pl.DataFrame({"customer_id": [1, None], "happened_on": [END, END]})
    with pytest.raises(ColumnError, match="null in 1 of 2 rows"):
        purchase_history(nulls, value_col=None, as_of=END)
    with pytest.raises(ColumnError, match="counted by nothing"):
        lifetime_value(counted, by="dealership")
    with pytest.raises(InputError, match="'horizon_months'"):
        lifetime_value(counted, horizon_months=-1)
    with pytest.raises(InputError, match="'annual_discount_rate'"):
        lifetime_value(counted, annual_discount_rate=-0.1)
    with pytest.raises(InputError, match="'n_resamples'"):
        active_share(counted, n_resamples=1)
    with pytest.raises(InputError, match="counts time in days and the history in weeks"):
        active_share(counted, model=BetaGeometric(1, 1, 1, 1, unit="day"))
    with pytest.raises(InputError, match="'holdout_days'"):
        purchase_tracking(cdnow, holdout_days=0, as_of=LAST)
    with pytest.raises(InputError, match="alpha must be a positive number"):
        BetaGeometric(r=1, alpha=-1, a=1, b=1)
    with pytest.raises(InputError, match="0 <= t_x <= T"):
        BetaGeometric(1, 1, 1, 1).probability_alive(1, 5, 4)
    with pytest.raises(InputError, match="recency above 0 after a repeat"):
        history_of([1], [0.0], [4.0])


def test_data_that_begin_after_the_last_day_give_null_with_a_note(cdnow: pl.DataFrame) -> None:
    early = date(1990, 1, 1)
    history = purchase_history(cdnow, value_col="revenue", as_of=early)
    assert (history.n, lifetime_value(history).table["n"].to_list()) == (0, [0])
    grouped = purchase_history(purchases_of(ROWS), as_of=early, by="dealership")
    for result in (
        lifetime_value(history),
        lifetime_value(grouped, by="dealership"),
        purchase_tracking(cdnow, holdout_days=30, as_of=early),
        holdout_comparison(cdnow, holdout_days=30, as_of=early),
        frequency_check(history),
    ):
        assert result.notes
        assert str(result)
        result.show().to_html()


def test_a_model_built_by_hand_has_no_interval_and_no_errors(counted: PurchaseHistory) -> None:
    model = BetaGeometric(r=0.243, alpha=4.414, a=0.793, b=2.426)
    assert (model.aic, model.bic, model.covariance) == (None, None, None)
    row = active_share(counted, model=model).table.row(0, named=True)
    assert row["estimate"] == pytest.approx(0.8134, abs=1e-3)
    assert (row["std_error"], row["conf_low"]) == (None, None)
    assert GammaGamma(p=6.0, q=0.9, v=15.0).mean_spend() is None


def test_a_fitted_model_goes_through_json(counted: PurchaseHistory) -> None:
    from dataclasses import asdict

    model = fit_beta_geometric(counted)
    again = json.loads(json.dumps(asdict(model)))
    again["log_covariance"] = tuple(tuple(row) for row in again["log_covariance"])
    again["notes"] = tuple(again["notes"])
    assert BetaGeometric(**again) == model


def test_results_follow_the_grammar(cdnow: pl.DataFrame, counted: PurchaseHistory) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    before, table = dict(mpl.rcParams), counted.table.clone()
    results: list[Estimates] = [
        lifetime_value(counted, n_resamples=5, currency="USD"),
        expected_purchases(counted, n_resamples=5),
        active_share(counted, n_resamples=5),
        buying_parameters(counted),
        spend_parameters(counted),
        purchase_regularity(counted),
        frequency_check(counted),
        holdout_comparison(cdnow, holdout_days=273, as_of=LAST),
        purchase_tracking(cdnow, holdout_days=273, as_of=LAST, n_resamples=5),
    ]
    for result in results:
        ax = Figure().add_subplot()
        assert result.plot(ax) is ax
        assert str(result).endswith(".")
        assert "\n" not in str(result)
        assert result.definition.endswith(".")
        assert result.to_gt().as_raw_html()
    assert dict(mpl.rcParams) == before
    assert_frame_equal(counted.table, table)


@pytest.mark.parametrize(
    "function",
    [frequency_check, holdout_comparison, purchase_tracking, lifetime_value, active_share],
)
def test_arguments_keep_the_order_of_the_house(function: Callable[..., object]) -> None:
    data, *rest = inspect.signature(function).parameters.values()
    assert data.default is inspect.Parameter.empty
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)
    names = [p.name for p in rest]
    last = [name for name in ("as_of", "by", "conf_level", "ci_method") if name in names]
    assert names[len(names) - len(last) :] == last


# --- distinct patterns ----------------------------------------------------------------------------


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9)), min_size=0, max_size=40
    ),
    unit_days=st.sampled_from([1.0, 7.0, 30.4375, 365.25]),
    scale=st.sampled_from([1, 1_000, 100_000_000]),
    shift=st.sampled_from([0.0, 1e-3]),
)
@settings(max_examples=60, deadline=None)
def test_patterns_are_the_distinct_rows_whatever_their_times(
    rows: list[tuple[int, int, int]], unit_days: float, scale: int, shift: float
) -> None:
    """Whole days are packed into numbers; other times, and huge ones, are grouped as rows."""
    times = [(x, scale * t / unit_days + shift, scale * T / unit_days) for x, t, T in rows]
    counts: dict[tuple[int, float, float], float] = defaultdict(float)
    for row in times:
        counts[row] += 1.0
    columns = {"frequency": pl.Int64, "recency": pl.Float64, "age": pl.Float64}
    found = count_patterns(pl.DataFrame(times, schema=columns, orient="row"), unit_days)
    assert found.rows() == [(*row, counts[row]) for row in sorted(counts)]
