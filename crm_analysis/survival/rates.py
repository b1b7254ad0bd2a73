"""How fast spells end: events over time at risk."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["RateRatio", "exposure", "rate_ratio"]

Floats = NDArray[np.float64]


def exposure(
    time: NDArray[Any], n_entered: NDArray[Any], n_left: NDArray[Any], edges: NDArray[Any]
) -> Floats:
    """Add up the time at risk inside each band.

    Parameters
    ----------
    time, n_entered, n_left : ndarray, shape (m,)
        Distinct ascending durations, and the spells that enter and leave at each.
    edges : ndarray, shape (bands + 1,)
        Ascending limits of the bands (low, high], in the unit of `time`.

    Returns
    -------
    ndarray, shape (bands,)

    Examples
    --------
    >>> exposure(np.array([0, 3, 5]), np.array([2, 0, 0]), np.array([0, 1, 1]), np.array([0, 4, 8]))
    array([7., 1.])
    """
    # A spell from a to b adds min(b, x) - min(a, x) up to x.
    stay = (np.asarray(n_left) - np.asarray(n_entered)).astype(np.float64)
    up_to = [float(np.sum(stay * np.minimum(time, edge))) for edge in edges]
    return np.diff(np.array(up_to))


class RateRatio(NamedTuple):
    """A ratio of two rates, its interval and the p-value of no difference; ``nan`` if unknown."""

    ratio: float
    low: float
    high: float
    p_value: float


def rate_ratio(
    events: tuple[int, int], exposures: tuple[float, float], conf_level: float = 0.95
) -> RateRatio:
    r"""Compare two rates: the second over the first (exact, conditional on all events).

    Given :math:`d = d_1 + d_2`, the second count is binomial with
    :math:`p = \theta T_2 / (T_1 + \theta T_2)`, and the interval is Clopper & Pearson's for p.

    Parameters
    ----------
    events, exposures : pair
        Of the first and of the second.

    References
    ----------
    Przyborowski & Wilenski (1940), Biometrika 31:313-323; Lehmann & Romano (2005), *Testing
    Statistical Hypotheses*, section 4.5.

    Examples
    --------
    >>> [round(x, 3) for x in rate_ratio((15, 41), (19017.0, 28010.0))[:3]]
    [1.856, 1.006, 3.609]
    """
    (d1, d2), (t1, t2) = events, exposures
    if d1 + d2 == 0 or t1 <= 0 or t2 <= 0:
        return RateRatio(*[float("nan")] * 4)
    tail = (1 - conf_level) / 2
    low = special.betaincinv(d2, d1 + 1, tail) if d2 else 0.0
    high = special.betaincinv(d2 + 1, d1, 1 - tail) if d1 else 1.0
    ratio, bottom, top = (_odds(float(p)) * t1 / t2 for p in (d2 / (d1 + d2), low, high))
    share = t2 / (t1 + t2)
    below, above = special.bdtr(d2, d1 + d2, share), special.bdtrc(d2 - 1, d1 + d2, share)
    p_value = min(1.0, 2 * min(float(below), float(above) if d2 else 1.0))
    return RateRatio(ratio, bottom, top, p_value)


def _odds(p: float) -> float:
    return float("inf") if p >= 1 else float(p / (1 - p))
