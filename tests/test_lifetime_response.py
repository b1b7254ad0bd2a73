"""Draws read off a response surface are those that the model itself would give."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from crm_analysis import (
    expected_purchases,
    lifetime_value,
    purchase_history,
)
from crm_analysis.lifetime import PurchaseHistory, outlook
from crm_analysis.lifetime.response import response

Floats = NDArray[np.float64]

CDNOW = Path(__file__).parent / "reference" / "purchases" / "cdnow_sample_transactions.csv"

ROUNDING = 1e-9
"""A polynomial of the surface's own terms is found but for rounding."""

SCATTER = 0.05
"""Of a standard error: the surface's own bound is .03 at six draws, quantiles add a little."""


def normal(theta: Floats, covariance: Floats, n: int = 50) -> Floats:
    rng = np.random.default_rng(3)
    return np.exp(rng.multivariate_normal(np.log(theta), covariance, size=n))


@pytest.mark.parametrize("deviation", [0.01, 0.1])
def test_a_quadratic_is_found_exactly(deviation: float) -> None:
    theta = np.array([0.3, 2.0, 5.0])
    covariance = np.full((3, 3), 0.5 * deviation**2) + np.eye(3) * 0.5 * deviation**2

    def logs(at: Floats) -> Floats:
        u, v, w = np.log(at)
        return np.array([u + v**2 - 3 * u * w, 2 - v * w])

    surface = response(lambda at: np.exp(logs(at)), theta, covariance)
    assert surface is not None
    for draw in normal(theta, covariance):
        assert surface(draw) == pytest.approx(logs(draw), abs=ROUNDING)


def test_more_terms_are_taken_along_a_ridge() -> None:
    theta, deviation = np.array([1.0, 4.0]), 0.6
    covariance = deviation**2 * np.array([[1, 0.999], [0.999, 1]])

    def logs(at: Floats) -> Floats:
        along = np.log(at / theta).sum() / np.sqrt(2)
        return np.array([along**6 / 100 - along**3])

    surface = response(lambda at: np.exp(logs(at)), theta, covariance)
    assert surface is not None
    for draw in normal(theta, covariance):
        assert surface(draw) == pytest.approx(logs(draw), abs=ROUNDING)


def test_a_parameter_that_does_not_move_is_left_where_it_is() -> None:
    theta = np.array([1.0, 4.0])
    surface = response(lambda at: at[:1] ** 2, theta, np.diag([0.04, 0.0]))
    assert surface is not None
    assert np.exp(surface(np.array([1.5, 4.0]))) == pytest.approx([2.25], rel=ROUNDING)


def test_an_answer_of_nothing_has_no_surface() -> None:
    theta = np.array([1.0, 4.0])
    assert response(lambda at: np.array([1.0, 0.0]), theta, np.diag([0.04, 0.01])) is None


@pytest.fixture(scope="module")
def history() -> PurchaseHistory:
    raw = pl.read_csv(CDNOW, try_parse_dates=True)
    raw = raw.with_columns(half=pl.col("customer_id") % 2)
    return purchase_history(
        raw, at_col="date", value_col="spend", as_of=date(1997, 9, 30), by="half"
    )


@pytest.mark.parametrize(
    ("model", "by"), [("bg_nbd", ("half",)), ("mbg_nbd", ()), ("pareto_nbd", ())]
)
def test_values_are_those_of_every_draw_asked(
    history: PurchaseHistory, monkeypatch: pytest.MonkeyPatch, model: str, by: tuple[str, ...]
) -> None:
    asked: list[int] = []
    whole = outlook.Outlook._asked

    def counted(self: Any, model: Any, draws: Floats, *rest: Any) -> Floats:
        asked.append(len(draws))
        return whole(self, model, draws, *rest)

    def valued() -> pl.DataFrame:
        return lifetime_value(history, model=model, horizon_months=36, by=by).table

    monkeypatch.setattr(outlook.Outlook, "_asked", counted)
    read = valued()
    assert asked == [outlook.CHECKED_DRAWS]
    monkeypatch.setattr(outlook, "MANY_DRAWS", 1_000)
    every = valued()
    for name in ("std_error", "conf_low", "conf_high"):
        error = (read[name] - every[name]).abs() / every["std_error"]
        assert (error < SCATTER).all(), name


def test_a_surface_that_is_not_near_enough_is_not_used(
    history: PurchaseHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "RESPONSE_ERROR", 0.0)
    strict = expected_purchases(history, model="bg_nbd").table
    monkeypatch.setattr(outlook, "MANY_DRAWS", 1_000)
    assert strict.equals(expected_purchases(history, model="bg_nbd").table)
