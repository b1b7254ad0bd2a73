"""Whether groups end at one and the same pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from crm_analysis.survival.curves import KaplanMeier

__all__ = ["Comparison", "Weights", "holm", "log_rank", "log_rank_p_value"]

Floats = NDArray[np.float64]

_ROUNDING = 1e-9
"""Share of the whole variance below which a direction has none."""

_SLICE = 1 << 14
"""Exit times looked at in one go."""

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
    times = np.unique(np.concatenate([curve.time[curve.n_exits > 0] for curve in curves]))
    n = np.sum([_present(curve, times) for curve in curves], axis=0, dtype=np.float64)
    d = np.sum([_ended(curve, times) for curve in curves], axis=0, dtype=np.float64)
    weight = _weights(weights, n, d)
    excess, variance = np.zeros(len(curves)), np.zeros((len(curves), len(curves)))
    # In slices of the times: all groups at all times at once would fill the memory.
    for low in range(0, len(times), _SLICE):
        part = slice(low, low + _SLICE)
        one, two = _excess(curves, times[part], n[part], d[part], weight[part])
        excess += one
        variance += two
    # The groups' excesses add to nothing: one direction has no variance but for rounding.
    least = _ROUNDING * float(np.trace(variance))
    freedom = int(np.linalg.matrix_rank(variance, tol=least, hermitian=True))
    if freedom == 0:
        return None
    inverse = np.linalg.pinv(variance, rcond=_ROUNDING, hermitian=True)
    statistic = float(excess @ inverse @ excess)
    return Comparison(statistic, freedom, float(special.chdtrc(freedom, statistic)))


def _excess(
    curves: Sequence[KaplanMeier], times: NDArray[Any], n: Floats, d: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """Return by how much the exits of each group exceed those expected, and the covariance."""
    present = np.array([_present(curve, times) for curve in curves], np.float64)
    ended = np.array([_ended(curve, times) for curve in curves], np.float64)
    excess = ((ended - present * d / n) * weight).sum(axis=1)
    spread = np.where(n > 1, d * (n - d) / (n**2 * np.maximum(n - 1, 1)), 0.0) * weight**2
    return excess, np.diag((present * n * spread).sum(axis=1)) - (present * spread) @ present.T


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


def _present(curve: KaplanMeier, times: NDArray[Any]) -> NDArray[Any]:
    at = np.searchsorted(curve.time, times, side="left")
    return np.append(curve.n_at_risk, 0)[at]


def _ended(curve: KaplanMeier, times: NDArray[Any]) -> NDArray[Any]:
    at = np.minimum(np.searchsorted(curve.time, times, side="left"), len(curve.time) - 1)
    return np.where(curve.time[at] == times, curve.n_exits[at], 0)
