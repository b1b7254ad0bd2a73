"""Integrals over the time ahead for many customers' ages at once.

What a customer does within a time t depends on t relative to A = alpha + age alone. So it is
computed at a few relative times, and every age takes its integral from these: one small matrix
times another instead of a grid of ages and times.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crm_analysis.lifetime.buying_model import DISCOUNTED_AWAY

__all__ = ["TimeAhead"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TimeAhead:
    """Relative times, and what each counts for in the integral of each age.

    Attributes
    ----------
    at : ndarray, shape (c,)
        Times ahead over alpha + age: Chebyshev points in ``log(1 + speed * time)``.
    weights : ndarray, shape (ages, c)
        What purchases made until each time count for in the discounted purchases until the horizon.
    """

    at: Floats
    weights: Floats

    @classmethod
    def over(
        cls,
        ages: Floats,
        horizon: float,
        discount: float,
        *,
        speed: float,
        digits: float,
        steps: float = 0.0,
    ) -> TimeAhead:
        """Prepare the integrals.

        Parameters
        ----------
        ages : ndarray, shape (ages,)
            alpha + age of each customer, in the model's unit.
        horizon : float
            Length of time ahead; infinity with a discount above 0.
        discount : float
            Continuous discount rate per unit of time.
        speed : float
            How fast the integrand changes at first: its scale is a relative time of ``1 / speed``.
        digits : float
            Accuracy sought, in decimal digits.
        steps : float
            How many steps of a staircase, one at each multiple of ``1 / speed``, stand out.
        """
        if discount > 0:
            # What is worth less than the digits sought, and two to spare, is left out.
            away = min(DISCOUNTED_AWAY, np.log(10) * (digits + 2))
            horizon = min(horizon, away / discount)
        top = np.log1p(speed * horizon / ages)
        longest = float(top.max(initial=0.0))
        points = _points(longest, digits, min(steps, float(np.expm1(longest))))
        n_times = int((8 + 1.5 * digits) * max(1.0, longest / 3)) + len(points)
        node, node_weight = _legendre(_rounded(n_times))
        w = np.multiply.outer(top, (node + 1) / 2)
        times = np.expm1(w) / speed
        # dt = A / speed exp(w) dw
        worth = np.exp(w - discount * ages[:, None] * times) * node_weight
        worth *= (top / (2 * speed))[:, None]
        basis = _basis(len(points))
        discounted = np.einsum("gq,gqk->gk", worth, _waves(w, longest, len(points))) @ basis
        last = _waves(top, longest, len(points)) @ basis
        weights = (discount * ages)[:, None] * discounted + np.exp(-discount * horizon) * last
        return cls(np.expm1(points) / speed, weights)


def _points(longest: float, digits: float, steps: float) -> Floats:
    """Chebyshev points of [0, longest]: as many as the digits need over such a range.

    The narrowest steps, in the logarithm, are one over their number wide. pi points to each would
    follow them everywhere; half as many do, as they are so narrow at one place only.
    """
    n = int((12 + 2.5 * digits) * max(1.0, longest / 3) + 1.6 * longest * steps)
    n = _rounded(n)
    angle = np.pi * (np.arange(n) + 0.5) / n
    return np.asarray(longest * (1 + np.cos(angle)) / 2)


def _waves(w: Floats, longest: float, n: int) -> Floats:
    """Chebyshev polynomials at w, shape (*w.shape, n)."""
    where = np.clip(2 * w / longest - 1, -1, 1) if longest > 0 else np.zeros_like(w)
    return np.asarray(np.polynomial.chebyshev.chebvander(where, n - 1), np.float64)


def _rounded(n: int) -> int:
    """Round up, so that few sizes are needed and each is computed once."""
    return -(-n // 8) * 8


@lru_cache(maxsize=64)
def _legendre(n: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(n)


@lru_cache(maxsize=64)
def _basis(n: int) -> Floats:
    """From values at Chebyshev points to coefficients, shape (n, n)."""
    angle = np.pi * (np.arange(n) + 0.5) / n
    waves = np.cos(np.multiply.outer(np.arange(n), angle)) * (2 / n)
    waves[0] /= 2
    return np.asarray(waves)
