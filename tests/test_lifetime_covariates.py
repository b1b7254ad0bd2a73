"""Covariates of BG/NBD: by a slow twin, in worlds of known truth, and where there is no effect."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import optimize, special, stats

from benchmarks.coverage_lifetime import buyers
from crm_analysis import (
    InputError,
    PurchaseCovariates,
    PurchaseHistory,
    fit_beta_geometric,
    purchase_covariates,
)

Floats = NDArray[np.float64]

PERSON = {"r": 0.9, "alpha": 10.0, "a": 0.8, "b": 2.4}
COMPANY = {"r": 0.9, "alpha": 5.0, "a": 0.6, "b": 4.0}
"""Companies buy twice as fast, and their odds of stopping are .45 of a person's."""

TRUTH = {"buying": 2.0, "stopping": (0.6 / 4.0) / (0.8 / 2.4)}

TWIN = 1e-3
"""Of a standard error; the twin's search stops where its numerical slopes are lost."""


def two_kinds(seed: int, n: int = 1_500, company: dict[str, float] = COMPANY) -> PurchaseHistory:
    rng = np.random.default_rng(seed)
    parts = [
        buyers(rng, size, truth).table.with_columns(kind=pl.lit(kind))
        for kind, size, truth in (("person", n, PERSON), ("company", n * 2 // 3, company))
    ]
    together = pl.concat(parts).select("frequency", "recency", "age", "kind")
    return PurchaseHistory.from_summary(together, by="kind")


def of_kinds(history: PurchaseHistory) -> PurchaseCovariates:
    return purchase_covariates(history, model="bg_nbd", by="kind")


def ratios(effects: PurchaseCovariates) -> dict[str, dict[str, float]]:
    rows = effects.table.filter(pl.col("level") == "company").to_dicts()
    return {row["process"]: row for row in rows}


def written_out(theta: Floats, table: pl.DataFrame) -> float:
    """Equation 6 of Fader, Hardie & Lee (2005), with the effects of note 019 on alpha, a and b."""
    z = (table["kind"] == "company").to_numpy().astype(float)
    x, t_x, T = (table[c].to_numpy().astype(float) for c in ("frequency", "recency", "age"))
    r = np.exp(theta[0])
    alpha = np.exp(theta[1] - theta[4] * z)
    a, b = np.exp(theta[2] + theta[5] * z), np.exp(theta[3] + theta[6] * z)
    first = special.betaln(a, b + x) - special.betaln(a, b)
    second = special.gammaln(r + x) - special.gammaln(r) + r * np.log(alpha)
    active = -(r + x) * np.log(alpha + T)
    often = np.maximum(x, 1)
    gone = np.log(a / (b + often - 1)) - (r + x) * np.log(alpha + t_x)
    either = np.where(x > 0, np.logaddexp(active, gone), active)
    return -float((first + second + either).sum())


def test_covariates_of_bg_nbd_are_the_slow_twins() -> None:
    history = two_kinds(1)
    effects = of_kinds(history)
    start = np.log([0.9, 10, 0.8, 2.4, 1, 1, 1])
    found = optimize.minimize(written_out, start, args=(history.table,), method="BFGS")
    ours = ratios(effects)
    stopping = found.x[5] - found.x[6]
    for process, slow in (("buying", found.x[4]), ("stopping", stopping)):
        error = ours[process]["std_error"] / ours[process]["estimate"]
        assert abs(np.log(ours[process]["estimate"]) - slow) < error * TWIN
    assert effects.log_likelihood == pytest.approx(-found.fun, abs=1e-5)
    company = effects.model_for(kind="company").values()
    slow_company = np.exp(found.x[:4] + np.array([0, -found.x[4], found.x[5], found.x[6]]))
    assert list(company.values()) == pytest.approx(slow_company, rel=1e-3)


def curved(at: Floats, table: pl.DataFrame, step: float = 1e-3) -> Floats:
    """Second differences of the written-out likelihood."""
    size = len(at)
    out = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            corners = [
                sign_i * sign_j * written_out(at + sign_i * step * np.eye(size)[i]
                                              + sign_j * step * np.eye(size)[j], table)
                for sign_i in (1, -1) for sign_j in (1, -1)
            ]  # fmt: skip
            out[i, j] = sum(corners) / (4 * step**2)
    return out


def test_their_standard_errors_are_the_curvature_of_the_written_out_likelihood() -> None:
    history = two_kinds(1)
    effects = of_kinds(history)
    models = [effects.model_for(kind=kind).theta for kind in ("person", "company")]
    person, company = np.log(models[0]), np.log(models[1])
    at = np.array([*person, person[1] - company[1], *(company[2:] - person[2:])])
    covariance = np.linalg.inv(curved(at, history.table))
    odds = np.array([0, 0, 0, 0, 0, 1.0, -1.0])
    slow = {"buying": covariance[4, 4], "stopping": odds @ covariance @ odds}
    for process, row in ratios(effects).items():
        error = row["std_error"] / row["estimate"]
        assert error == pytest.approx(float(np.sqrt(slow[process])), rel=1e-3)


def test_known_effects_are_covered_without_bias() -> None:
    n_sets = 40
    hits = dict.fromkeys(TRUTH, 0)
    errors: dict[str, list[float]] = {process: [] for process in TRUTH}
    for seed in range(n_sets):
        for process, row in ratios(of_kinds(two_kinds(seed, 900))).items():
            hits[process] += row["conf_low"] <= TRUTH[process] <= row["conf_high"]
            errors[process].append(np.log(row["estimate"] / TRUTH[process]))
    low, high = stats.binom.interval(0.999, n_sets, 0.95)
    for process, found in errors.items():
        assert low <= hits[process] <= high
        assert abs(np.mean(found)) < 3.3 * np.std(found) / np.sqrt(n_sets)


def test_kinds_that_do_not_differ_are_not_called_different() -> None:
    same = of_kinds(two_kinds(3, company=PERSON))
    assert same.p_value > 0.01
    assert "No difference" in str(same)
    plain = fit_beta_geometric(two_kinds(3, company=PERSON))
    assert same.model.values() == pytest.approx(plain.values())
    assert same.likelihood_ratio >= 0
    assert "BG/NBD" in same.definition


def test_another_unit_of_time_changes_nothing_but_alpha() -> None:
    history = two_kinds(2)
    days = history.table.with_columns(pl.col("recency", "age") * 7)
    weeks = ratios(of_kinds(history))
    for process, row in ratios(of_kinds(PurchaseHistory.from_summary(days, by="kind"))).items():
        assert row["estimate"] == pytest.approx(weeks[process]["estimate"], rel=1e-5)


def test_a_model_without_covariates_here_is_refused() -> None:
    with pytest.raises(InputError, match="bg_nbd"):
        purchase_covariates(two_kinds(2), model="mbg_nbd", by="kind")
