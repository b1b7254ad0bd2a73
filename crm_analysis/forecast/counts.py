"""Bounds of counts that are to come."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["count_bounds"]

Floats = NDArray[np.float64]


def count_bounds(
    mean: ArrayLike, variance: ArrayLike, conf_level: float = 0.95
) -> tuple[Floats, Floats]:
    """Bound counts from their mean and variance: negative binomial, or binomial where it is less.

    Parameters
    ----------
    mean, variance : array_like
        Not negative; a variance equal to the mean is Poisson's.
    conf_level : float

    Returns
    -------
    low, high : ndarray
        Whole numbers, except that a bound never lies on the other side of the mean.

    Examples
    --------
    >>> low, high = count_bounds(10, 10)
    >>> float(low), float(high)
    (4.0, 17.0)
    """
    m, v = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(variance, np.float64))
    m, v = np.maximum(m, 1e-9), np.maximum(v, 1e-9)
    tail = np.array([(1 - conf_level) / 2, (1 + conf_level) / 2]).reshape(2, *(1,) * m.ndim)
    over = v > m * (1 + 1e-9)
    size = np.where(over, m**2 / np.where(over, v - m, 1.0), 1.0)
    wide = stats.nbinom.ppf(tail, size, size / (size + m))
    chance = np.clip(1 - v / m, 1e-9, 1.0)
    trials = np.maximum(np.round(m / chance), np.ceil(m))
    narrow = stats.binom.ppf(tail, trials, np.minimum(m / trials, 1.0))
    poisson = stats.poisson.ppf(tail, m)
    same = np.abs(v - m) <= 1e-9 * m
    bounds = np.where(same, poisson, np.where(over, wide, narrow))
    return np.minimum(bounds[0], m), np.maximum(bounds[1], m)
