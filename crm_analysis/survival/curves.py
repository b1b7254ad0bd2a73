"""What share has not ended after so long, when half have, and how long they last on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crm_analysis.uncertainty import log_log_interval

__all__ = [
    "KaplanMeier",
    "Quantile",
    "RestrictedMean",
    "at_risk",
    "kaplan_meier",
    "quantile",
    "restricted_mean",
]

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
    n = at_risk(time, n_entered, n_exits + n_censored).astype(np.float64)
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


def at_risk(time: NDArray[Any], n_entered: NDArray[Any], n_left: NDArray[Any]) -> Counts:
    """Count the spells under observation just before each duration.

    Those who enter at u > 0 are at risk from just after u; those present from the start (u = 0)
    also at 0. Those who leave at u, ended or censored, are still at risk at u.

    Parameters
    ----------
    time, n_entered, n_left : ndarray, shape (m,)
        Distinct ascending durations, and the spells that enter and leave at each.
    """
    gone = np.cumsum(n_left) - n_left
    late = np.where(np.asarray(time) == 0, 0, n_entered)
    return np.asarray(np.cumsum(n_entered) - late - gone, np.int64)


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


class RestrictedMean(NamedTuple):
    """The mean duration up to a horizon, and its standard error; ``nan`` where not observed."""

    mean: float
    std_error: float


def restricted_mean(curve: KaplanMeier, time: NDArray[Any], horizon: float) -> RestrictedMean:
    r"""Find how long spells last on average up to a horizon: the area under the curve.

    .. math:: \mu(\tau) = \int_0^\tau S(t)\,dt, \quad \mathrm{var} =
              \sum_{t_i \le \tau} \Big(\int_{t_i}^\tau S\Big)^2 \frac{d_i}{n_i (n_i - d_i)}

    Spells that enter late count in the n at risk from their entry on, and so in both sums. It is
    ``nan`` when nobody was observed as long as the horizon and the curve has not come down to 0:
    the area beyond the last observation is not known, and is not made up.

    Parameters
    ----------
    curve : KaplanMeier
    time : ndarray, shape (m,)
        The durations of the curve in the unit of the answer (``curve.time`` may count otherwise).
    horizon : float
        In the same unit, above 0.

    References
    ----------
    Irwin (1949), J. Hygiene 47:188-189; Klein & Moeschberger (2003), *Survival Analysis*,
    section 4.5; Royston & Parmar (2013), BMC Medical Research Methodology 13:152.

    Examples
    --------
    >>> entered, ended = np.array([4, 0, 0, 0, 0]), np.array([0, 1, 1, 1, 1])
    >>> km = kaplan_meier(np.arange(5), entered, ended, np.zeros(5, np.int64))
    >>> restricted_mean(km, km.time, 4).mean
    2.5
    """
    at = np.asarray(time, np.float64)
    observed = at.size and (at[-1] >= horizon - _ROUNDING or curve.survival[-1] == 0)
    if not observed:
        return RestrictedMean(float("nan"), float("nan"))
    inside = at < horizon
    edges = np.concatenate([[0.0], at[inside], [horizon]])
    height = np.concatenate([[1.0], curve.survival[inside]])
    areas = height * np.diff(edges)
    after = np.cumsum(areas[::-1])[::-1][1:]  # area from each duration to the horizon
    d, n = curve.n_exits[inside].astype(float), curve.n_at_risk[inside].astype(float)
    split = (d > 0) & (n > d)
    terms = np.where(split, d / np.where(split, n * (n - d), 1.0), 0.0)
    return RestrictedMean(float(areas.sum()), float(np.sqrt(np.sum(after**2 * terms))))
