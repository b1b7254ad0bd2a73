"""Durations of which some are still running: curves and their quantiles, counts in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from crm_analysis.uncertainty import log_log_interval

__all__ = ["KaplanMeier", "Quantile", "kaplan_meier", "log_rank_p_value", "quantile"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDING = 1e-12
"""How far a product of shares may lie from the share it stands for."""


@dataclass(frozen=True)
class KaplanMeier:
    """A Kaplan-Meier curve at its distinct durations.

    Attributes
    ----------
    time : ndarray of int64, shape (m,)
        Distinct durations, ascending.
    n_at_risk, n_exits : ndarray of int64, shape (m,)
        Spells under observation just before each duration, and those that end at it.
    survival, std_error : ndarray of float64, shape (m,)
        Share not ended after each duration, and its Greenwood standard error.
    """

    time: Counts
    n_at_risk: Counts
    n_exits: Counts
    survival: Floats
    std_error: Floats


def kaplan_meier(
    time: NDArray[Any], n_entered: NDArray[Any], n_exits: NDArray[Any], n_censored: NDArray[Any]
) -> KaplanMeier:
    r"""Estimate what share has not ended after each duration (Kaplan-Meier, Greenwood).

    .. math:: S(t) = \prod_{u \le t} (1 - d_u / n_u), \quad
              \mathrm{var} = S(t)^2 \sum_{u \le t} d_u / (n_u (n_u - d_u))

    Those who enter at u are at risk from just after u, those present from the start (u = 0)
    also at 0; those censored at u are at risk at u. Assumes that whoever is censored would
    have gone on like those still observed.

    Parameters
    ----------
    time, n_entered, n_exits, n_censored : ndarray, shape (m,)
        Distinct ascending durations, and the spells that enter, end and are censored at each.

    References
    ----------
    Kaplan & Meier (1958), JASA 53:457-481; Greenwood (1926).
    """
    d = np.asarray(n_exits, np.float64)
    left = np.cumsum(n_exits + n_censored) - (n_exits + n_censored)
    entered = np.cumsum(n_entered)
    late = np.where(np.asarray(time) == 0, 0, n_entered)
    n = (entered - late - left).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(n > 0, 1 - d / n, 1.0)
        terms = np.where((d > 0) & (n > d), d / (n * (n - d)), 0.0)
    survival = np.cumprod(kept)
    std_error = survival * np.sqrt(np.cumsum(terms))
    return KaplanMeier(
        time=np.asarray(time, np.int64),
        n_at_risk=n.astype(np.int64),
        n_exits=d.astype(np.int64),
        survival=np.asarray(survival, np.float64),
        std_error=std_error,
    )


class Quantile(NamedTuple):
    """The duration after which a share has ended, and its interval; ``nan`` where not reached."""

    time: float
    low: float
    high: float


def quantile(curve: KaplanMeier, share: float, conf_level: float = 0.95) -> Quantile:
    r"""Find the duration after which `share` has ended (Brookmeyer-Crowley interval, log-log).

    .. math:: t_p = \inf\{t : S(t) \le 1 - p\}

    The bounds are the first durations at which the lower and the upper log(-log) bound of the
    curve come down to 1 - p: those t at which S(t) = 1 - p is not rejected. Both are ``nan``
    when the curve, or its bound, never comes down so far: the quantile is then known only to
    be longer than what was observed.

    Parameters
    ----------
    curve : KaplanMeier
    share : float
        Share ended, between 0 and 1: 0.5 for the median.
    conf_level : float

    Returns
    -------
    Quantile
        In the unit of ``curve.time``.

    References
    ----------
    Brookmeyer & Crowley (1982), Biometrics 38:29-41; Klein & Moeschberger (2003), *Survival
    Analysis*, sections 4.2 and 4.5.

    Examples
    --------
    >>> entered, ended = np.array([8, 0, 0, 0, 0]), np.array([0, 2, 2, 2, 2])
    >>> km = kaplan_meier(np.arange(5), entered, ended, np.zeros(5))
    >>> quantile(km, 0.5).time
    2.0
    """
    low, high = log_log_interval(curve.survival, curve.std_error, conf_level)
    return Quantile(
        _first_at_most(curve, curve.survival, 1 - share),
        _first_at_most(curve, low, 1 - share),
        _first_at_most(curve, high, 1 - share),
    )


def _first_at_most(curve: KaplanMeier, values: Floats, level: float) -> float:
    # Where a bound is undefined (survival 0 or 1) the comparison is false: nothing is known.
    reached = np.flatnonzero(values <= level + _ROUNDING)
    return float(curve.time[reached[0]]) if reached.size else float("nan")


def log_rank_p_value(curves: Sequence[KaplanMeier]) -> float | None:
    r"""Test whether groups leave at one and the same pace (k-sample log-rank).

    At each distinct exit time the exits are compared with those expected were the hazard the
    same in all groups; the statistic is chi-squared with k - 1 degrees of freedom.

    Parameters
    ----------
    curves : sequence of KaplanMeier
        One per group, in which all are present from the start (no late entry).

    Returns
    -------
    float or None
        None when fewer than two groups, or no exits, leave something to compare.

    References
    ----------
    Mantel (1966), Cancer Chemotherapy Reports 50:163-170; Peto & Peto (1972), JRSS A 135:185-207.
    """
    if len(curves) < 2:
        return None
    exits = np.array([curve.n_exits.sum() for curve in curves])
    times = np.unique(np.concatenate([curve.time[curve.n_exits > 0] for curve in curves]))
    at_risk = np.array([_present(curve, times) for curve in curves], np.float64)
    ended = np.array([_ended(curve, times) for curve in curves], np.float64)
    n, d = at_risk.sum(axis=0), ended.sum(axis=0)
    expected = at_risk * d / n
    weight = np.where(n > 1, d * (n - d) / (n**2 * np.maximum(n - 1, 1)), 0.0)
    variance = np.diag((at_risk * n * weight).sum(axis=1)) - (at_risk * weight) @ at_risk.T
    excess = exits - expected.sum(axis=1)
    freedom = int(np.linalg.matrix_rank(variance))
    if freedom == 0:
        return None
    statistic = excess @ np.linalg.pinv(variance) @ excess
    return float(special.chdtrc(freedom, statistic))


def _present(curve: KaplanMeier, times: NDArray[Any]) -> NDArray[Any]:
    at = np.searchsorted(curve.time, times, side="left")
    return np.append(curve.n_at_risk, 0)[at]


def _ended(curve: KaplanMeier, times: NDArray[Any]) -> NDArray[Any]:
    at = np.minimum(np.searchsorted(curve.time, times, side="left"), len(curve.time) - 1)
    return np.where(curve.time[at] == times, curve.n_exits[at], 0)
