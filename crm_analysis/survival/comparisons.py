"""Whether groups end at one and the same pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse, special

from crm_analysis.survival.curves import KaplanMeier

__all__ = ["Comparison", "Weights", "holm", "log_rank", "log_rank_p_value"]

Floats = NDArray[np.float64]

_ROUNDING = 1e-9
"""Share of what the variance is the difference of, below which a direction has none."""

_SLICE = 1 << 14
"""Exit times looked at in one go."""

_LONGEST = 1 << 26
"""Longest time for which ticking off each is cheaper than sorting those that occur."""

Weights = Literal["log-rank", "gehan-breslow", "peto-peto"]
"""How much each exit time counts: alike, by the number at risk, or by the pooled survival."""


@dataclass(frozen=True)
class Comparison:
    """The statistic of a test of equal hazards, its degrees of freedom and p-value."""

    statistic: float
    freedom: int
    p_value: float


def log_rank(curves: Sequence[KaplanMeier], weights: Weights = "log-rank") -> Comparison | None:
    r"""Test whether groups leave at one and the same pace (k-sample, weighted log-rank).

    At each distinct exit time the exits are compared with those expected were the hazard the
    same in all groups; the statistic is chi-squared with k - 1 degrees of freedom. Late entry is
    allowed: a spell is compared with those at risk at the same duration.

    Parameters
    ----------
    curves : sequence of KaplanMeier
        One per group.
    weights : {"log-rank", "gehan-breslow", "peto-peto"}
        The log-rank test is strongest where hazards are proportional; the others give early
        differences more weight, by n(t) or by the pooled S(t-).

    Returns
    -------
    Comparison or None
        None when fewer than two groups, or no exits, leave something to compare.

    References
    ----------
    Mantel (1966), Cancer Chemotherapy Reports 50:163-170; Peto & Peto (1972), JRSS A 135:185-207;
    Gehan (1965), Biometrika 52:203-223; Breslow (1970), Biometrika 57:579-594; Harrington &
    Fleming (1982), Biometrika 69:553-566.
    """
    if len(curves) < 2:
        return None
    times = _exit_times(curves)
    places = [np.searchsorted(times, curve.time, side="right") for curve in curves]
    present = [_present(curve, to, 0, len(times)) for curve, to in zip(curves, places, strict=True)]
    n: Floats = np.asarray(np.sum(present, axis=0, dtype=np.float64))
    del present
    ended = [_ended(curve, times) for curve in curves]
    d = np.zeros(len(times))
    for at, exits in ended:
        d[at] += exits
    weight = _weights(weights, n, d)
    spread = np.where(n > 1, d * (n - d) / (n**2 * np.maximum(n - 1, 1)), 0.0) * weight**2
    observed = np.array([(exits * weight[at]).sum() for at, exits in ended])
    expected, variance, whole = _expected(curves, places, weight * d / n, n * spread, spread)
    found = _quadratic_form(observed - expected, variance, _ROUNDING * whole)
    if found is None:
        return None
    statistic, freedom = found
    return Comparison(statistic, freedom, float(special.chdtrc(freedom, statistic)))


def _exit_times(curves: Sequence[KaplanMeier]) -> NDArray[Any]:
    """Return the distinct times at which any group has exits, ascending."""
    own = [curve.time[curve.n_exits > 0] for curve in curves]
    top = max((int(times[-1]) for times in own if len(times)), default=0)
    if top > _LONGEST:
        return np.unique(np.concatenate(own))
    there = np.zeros(top + 1, np.bool_)
    for times in own:
        there[times] = True
    return np.flatnonzero(there)


def _quadratic_form(excess: Floats, variance: Floats, least: float) -> tuple[float, int] | None:
    """Return the statistic and its degrees of freedom; None where nothing varies.

    The groups' excesses add to nothing, so that one group says nothing that the others do not.
    What is at most `least` is rounding.
    """
    try:
        root = np.linalg.cholesky(variance[:-1, :-1])
    except np.linalg.LinAlgError:
        root = np.zeros((1, 1))
    if np.diag(root).min() ** 2 > least:
        scaled = linalg.solve_triangular(root, excess[:-1], lower=True)
        return float(scaled @ scaled), len(excess) - 1
    values, directions = np.linalg.eigh(variance)
    known = values > least
    along = excess @ directions[:, known]
    return (float((along**2 / values[known]).sum()), int(known.sum())) if known.any() else None


def _expected(
    curves: Sequence[KaplanMeier],
    places: Sequence[NDArray[Any]],
    rate: Floats,
    own: Floats,
    spread: Floats,
) -> tuple[Floats, Floats, float]:
    r"""Return the exits expected of each group, the covariance of their excesses, and its scale.

    The covariance :math:`\sum_t s_t n_i(t) n_j(t)` is summed by parts: those who leave group i at t
    meet what group j has gathered until then, so that the cost grows with the leads and not with
    all groups at all times. In slices of the times, which would fill the memory in one.
    """
    expected, variance = np.zeros(len(curves)), np.zeros((len(curves), len(curves)))
    whole = 0.0
    gathered = np.zeros((len(curves), 1))
    for low in range(0, len(rate), _SLICE):
        high = min(low + _SLICE, len(rate))
        some = zip(curves, places, strict=True)
        present = np.array([_present(curve, to, low, high + 1) for curve, to in some], np.float64)
        if high == len(rate):
            present[:, -1] = 0
        left = sparse.csr_array(present[:, :-1] - present[:, 1:])
        present = present[:, :-1]
        expected += present @ rate[low:high]
        single = present @ own[low:high]
        variance += np.diag(single)
        whole += float(single.sum())
        gathered = gathered[:, -1:] + np.cumsum(present * spread[low:high], axis=1)
        # Whoever is still there in the next slice meets that slice's sums.
        variance -= np.asarray(left @ gathered.T)
    return expected, (variance + variance.T) / 2, whole


def _weights(kind: Weights, n: Floats, d: Floats) -> Floats:
    if kind == "log-rank":
        return np.ones_like(n)
    if kind == "gehan-breslow":
        return n
    return np.concatenate([[1.0], np.cumprod(1 - d / n)[:-1]])


def log_rank_p_value(curves: Sequence[KaplanMeier]) -> float | None:
    """Return the p-value of the log-rank test; None when there is nothing to compare."""
    found = log_rank(curves)
    return None if found is None else found.p_value


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values of several tests, so that any false finding at all is as rare as stated.

    Parameters
    ----------
    p_values : array_like, shape (k,)
        ``nan`` where a test could not be made; such tests are not counted.

    References
    ----------
    Holm (1979), Scand. J. Statistics 6:65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return out


def _present(curve: KaplanMeier, places: NDArray[Any], low: int, high: int) -> NDArray[Any]:
    """Return the number at risk at the exit times `low` to `high` of all groups."""
    ends = np.concatenate([[low], np.clip(places, low, high), [high]])
    return np.repeat(np.append(curve.n_at_risk, 0), np.diff(ends))


def _ended(curve: KaplanMeier, times: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where among all exit times a group has its own, and how many left then."""
    some = curve.n_exits > 0
    return np.searchsorted(times, curve.time[some]), curve.n_exits[some]
