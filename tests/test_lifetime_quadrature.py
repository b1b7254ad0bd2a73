"""Purchases ahead of very frequent and very young customers, to the digits asked."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, special

from crm_analysis.lifetime import jacobi, regular_beta_geometric
from crm_analysis.lifetime.beta_geometric import (
    discounted_purchases_if_active,
    mean_purchases,
    purchases_if_active,
)

Floats = NDArray[np.float64]

TWELVE = 1e-10
"""Relative, where twelve digits are asked: the twins add thousands of rounded terms themselves."""

FIVE = 2e-5
"""Relative, where five digits are asked."""

FORTY_DIGITS = [
    # r, a, b, x, horizon / (alpha + T), purchases ahead
    (0.1, 0.02, 80, 30, 60, 1733.6156794816254),
    (0.1, 0.02, 80, 30, 5000, 132847.37394906938),
    (0.1, 0.02, 80, 3000, 60, 169021.96470069408),
    (0.1, 0.02, 80, 3000, 5000, 12915388.518122574),
    (0.6, 0.3, 2.4, 30, 60, 740.1036114370554),
    (0.6, 0.3, 2.4, 30, 5000, 17114.634246875587),
    (0.6, 0.3, 2.4, 3000, 60, 71900.55044125099),
    (0.6, 0.3, 2.4, 3000, 5000, 1661031.6120215664),
    (0.6, 0.8, 2.4, 30, 60, 201.64741086973146),
    (0.6, 0.8, 2.4, 30, 5000, 714.2951410567109),
    (0.6, 0.8, 2.4, 3000, 60, 19142.093109338188),
    (0.6, 0.8, 2.4, 3000, 5000, 67435.96928952329),
    (0.6, 30, 2.4, 30, 60, 2.117241379310345),
    (0.6, 30, 2.4, 30, 5000, 2.117241379310345),
    (0.6, 30, 2.4, 3000, 60, 104.53103448275863),
    (0.6, 30, 2.4, 3000, 5000, 104.53103448275863),
    (5, 4, 0.05, 30, 60, 11.016626116295464),
    (5, 4, 0.05, 30, 5000, 11.016666666593302),
    (5, 4, 0.05, 3000, 60, 1001.0122649774189),
    (5, 4, 0.05, 3000, 5000, 1001.0166666586789),
]
"""Equation 10 of Fader, Hardie & Lee (2005) in Pfaff's form, by mpmath 1.3 with 40 digits."""


def series(
    r: float, a: float, b: float, x: float, w: float, *, k: int = 1, phase: int = 0
) -> float:
    """Sum the chances of the first, second, … purchase: no integral, and no hypergeometric.

    The n-th comes in time if n k - phase phases do, at a gamma rate, and if the customer has not
    stopped after one of the n - 1 before it.
    """
    shape = r + k * x + phase
    most = int(shape * w / k * 12 + 400)
    n = np.arange(1.0, most + 1)
    in_time = special.betainc(n * k - phase, shape, w / (1 + w))
    stays = np.exp(special.betaln(a, b + n - 1) - special.betaln(a, b))
    terms = in_time * stays
    assert terms[-1] < 1e-13 * terms.sum()
    return float(terms.sum())


@pytest.mark.parametrize(("r", "a", "b", "x", "w", "expected"), FORTY_DIGITS)
def test_purchases_ahead_have_forty_digit_figures(
    r: float, a: float, b: float, x: int, w: float, expected: float
) -> None:
    theta, T = np.array([r, 1e-3, a, b]), 1e-4
    ours = purchases_if_active(theta, w * (1e-3 + T), np.array([float(x)]), np.array([T]))
    assert ours[0] == pytest.approx(expected, rel=TWELVE)


def test_purchases_ahead_are_their_series_over_a_wide_grid() -> None:
    shapes = product((0.1, 0.6, 5.0), (0.05, 0.8, 1.0, 4.0), (0.1, 2.4, 80.0))
    for (r, a, b), x, w in product(shapes, (0, 1, 30), (1e-3, 0.3, 3.0, 20.0)):
        if r + x < 1 and w > 3:
            continue  # the gamma rate's tail would need millions of terms
        theta = np.array([r, 1.0, a, b])
        ours = purchases_if_active(theta, w, np.array([float(x)]), np.zeros(1))[0]
        slow = series(r, a, b + x, x, w)
        assert ours == pytest.approx(slow, rel=TWELVE), (r, a, b, x, w)
        if x == 0:
            assert mean_purchases(theta, np.array([w]))[0] == pytest.approx(slow, rel=TWELVE)


@pytest.mark.parametrize(("digits", "near"), [(5, FIVE), (12, TWELVE)])
def test_young_and_frequent_customers_are_discounted_to_the_digits_asked(
    digits: float, near: float
) -> None:
    r, alpha, a, b = theta = np.array([0.243, 0.4, 0.793, 2.426])
    x, T, discount = np.array([0.0, 30.0, 2000.0]), np.array([0.01, 40.0]), 0.0018
    ours = discounted_purchases_if_active(theta, np.inf, discount, x, T, digits=digits)
    for i, x_i in enumerate(x):
        for j, T_j in enumerate(T):
            age = alpha + T_j

            def rate(u: float, x_i: float = x_i, age: float = age) -> float:
                z = np.expm1(u)
                mean = special.hyp2f1(a + b - r - 1, a, a + b + x_i, z / (1 + z))
                return float(np.exp(u - discount * age * z) * (1 + z) ** -a * mean)

            top = np.log1p(60 / discount / age)
            slow = (r + x_i) * integrate.quad(rate, 0, top, limit=400, epsrel=1e-12)[0]
            assert ours[i, j] == pytest.approx(slow, rel=near)


@pytest.mark.parametrize(("digits", "near"), [(5, FIVE), (12, TWELVE)])
def test_regular_purchases_ahead_are_their_series(digits: float, near: float) -> None:
    theta = np.array([1.5, 1.0, 0.8, 2.4])
    for k, x, w in product((1, 3, 8), (0, 3, 100), (0.5, 3.0, 30.0)):
        at = np.array([float(x)])
        ours = regular_beta_geometric._purchases_by_phase(theta, k, 1, at, np.array([w]), digits)
        for phase in {0, k - 1}:
            slow = series(1.5, 0.8, 2.4 + x + 1, x, w, k=k, phase=phase)
            assert ours[phase, 0, 0] == pytest.approx(slow, rel=near, abs=near / 100)


def test_both_rules_agree_and_the_shorter_is_taken() -> None:
    a, b = np.array([0.8, 0.8]), np.array([3.0, 300.0])
    few, _weight = jacobi.beta_rule(a, b, largest=1.0, power=2.0)
    many, weight = jacobi.beta_rule(a, b, largest=200.0, power=30.0)
    assert few.shape[1] == jacobi.nodes_needed(1.0, power=2.0)
    assert many.shape[1] < jacobi.nodes_needed(200.0, power=30.0) / 2
    ours = (np.exp(-30 * np.log1p(200 * many)) * weight).sum(axis=1)
    gauss, share = jacobi.beta_nodes(a, b, 600)
    slow = (np.exp(-30 * np.log1p(200 * gauss)) * share).sum(axis=1)
    assert ours == pytest.approx(slow, rel=TWELVE)
