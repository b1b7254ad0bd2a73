"""Means over a beta distribution, for many distributions at once, by as few points as will do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

__all__ = ["beta_nodes", "beta_rule", "logit_nodes", "nodes_needed"]

Floats = NDArray[np.float64]

FEWEST = 12
MOST, MOST_STEPS = 300, 2_000
"""Models at an edge of what can be fitted ask for more, and get what time allows."""

_WAY = np.array([0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.99])
"""How far towards the singularity an ellipse may reach: the wider, the larger the function."""


def beta_rule(
    a: Floats, b: Floats, *, largest: float, power: float, digits: float = 12
) -> tuple[Floats, Floats]:
    """Return nodes and weights that average ``(1 + z p) ** -power`` over each Beta(a, b).

    Gauss-Jacobi where few nodes do: with a small z, or a small power. Otherwise equal steps in
    log-odds, whose number depends on neither.

    Parameters
    ----------
    a, b : ndarray, shape (m,)
        Positive shapes.
    largest : float
        The largest z.
    power : float
        The largest power, by absolute value.
    digits : float
        Accuracy sought, in decimal digits of the mean.

    Returns
    -------
    p, weight : ndarray, shape (m, n)
        Nodes within [0, 1], and weights that sum to 1.
    """
    n = nodes_needed(largest, power=power, digits=digits)
    steps, range_ = _logit_steps(a, b, largest, power, digits)
    if n <= min(max(steps, 2 * FEWEST), MOST):
        return beta_nodes(a, b, n)
    return logit_nodes(a, b, min(steps, MOST_STEPS), range_)


# Gauss-Jacobi -----------------------------------------------------------------------------


def nodes_needed(largest: float, *, power: float = 1.0, digits: float = 12) -> int:
    """Return how many Gauss nodes average ``(1 + largest * p) ** -power`` to so many digits.

    On an ellipse through ``p = -q / largest`` the function is at most ``(1 - q) ** -power``, and n
    nodes leave the ellipse's size to the power ``-2 n`` of that (Trefethen 2013, theorem 19.3):
    the best of several ellipses counts.

    Examples
    --------
    >>> nodes_needed(1.0), nodes_needed(100.0), nodes_needed(1.0, power=100.0)
    (12, 93, 32)
    """
    largest = max(largest, 1e-12)
    if not np.isfinite(largest):
        return np.iinfo(np.int64).max
    size = np.arccosh(1 + 2 * _WAY / largest)
    asked = np.log(10) * digits + np.log1p(largest) - power * np.log1p(-_WAY)
    return max(FEWEST, int(np.ceil((asked / (2 * size)).min())) + 2)


def beta_nodes(a: Floats, b: Floats, n: int) -> tuple[Floats, Floats]:
    r"""Return nodes and weights so that ``sum(w * f(p))`` is the mean of f under Beta(a, b).

    Golub & Welsch (1969): the nodes are the eigenvalues of the tridiagonal matrix of the Jacobi
    polynomials' recurrence, the weights the squared first components of its eigenvectors. Exact
    for polynomials up to degree 2n - 1, whatever the singularity of the density at 0 and 1.

    Parameters
    ----------
    a, b : ndarray, shape (m,)
        Positive shapes.
    n : int

    Returns
    -------
    p, weight : ndarray, shape (m, n)
        Nodes within (0, 1), ascending, and weights that sum to 1.

    Examples
    --------
    >>> p, weight = beta_nodes(np.array([2.0]), np.array([3.0]), 12)
    >>> round(float((weight * p).sum()), 12)
    0.4
    """
    at_one, at_zero = b[:, None] - 1, a[:, None] - 1
    both = at_one + at_zero
    k = np.arange(1, n)[None, :]
    diagonal = np.empty((len(a), n))
    diagonal[:, :1] = (at_zero - at_one) / (both + 2)
    diagonal[:, 1:] = (at_zero - at_one) * both / ((2 * k + both) * (2 * k + both + 2))
    ratio = np.ones((len(a), n - 1))
    later = k[:, 1:]
    # In the first term (1 + both) stands above and below, and may be 0: it is cancelled.
    ratio[:, 1:] = (later + both) / (2 * later + both - 1)
    off = 4 * k * (k + at_one) * (k + at_zero) * ratio
    off = np.sqrt(off / ((2 * k + both) ** 2 * (2 * k + both + 1)))
    # LAPACK's own routine: the checks around `eigh_tridiagonal` cost more than such a matrix.
    pairs = [linalg.lapack.dstev(d, e)[:2] for d, e in zip(diagonal, off, strict=True)]
    value = np.array([nodes for nodes, _ in pairs]).reshape(-1, n)
    first = np.array([vectors[0] for _, vectors in pairs]).reshape(-1, n)
    return np.clip((1 + value) / 2, 1e-300, 1.0), first**2


# Equal steps in log-odds ------------------------------------------------------------------


def _logit_steps(
    a: Floats, b: Floats, largest: float, power: float, digits: float
) -> tuple[int, Floats]:
    r"""Return how many steps it takes, and from where to where, shape (2, m).

    In v = log(p / (1 - p)) the density is analytic for :math:`|\Im v| < \pi`, and with
    :math:`|\Im v| \le \pi / 2` neither it nor ``1 / (1 + z p)`` grows beyond a known size: the
    trapezoidal rule with step h leaves ``exp(-pi ** 2 / h)`` of that (Trefethen & Weideman 2014,
    theorem 5.1).
    """
    log_beta = special.betaln(a, b)
    reach = power * min(largest, 1e300)
    # Averaged over times up to the largest z, what is sought is at least so small.
    asked = np.log(10) * digits + np.minimum(a, 1) * np.log1p(reach / (a + b))
    size = special.betaln(a / 2, b / 2) - log_beta
    step = np.pi**2 / (asked + np.maximum(size, np.log(2)))
    # Beyond the range the function is taken for what it is at its end.
    low = (log_beta + np.log(a) - asked - np.log1p(reach)) / (1 + a)
    # A density that rises towards 0 is highest, beyond the range, where that begins.
    rises = np.maximum(1 - a, 0) * np.log(a + b)
    left = (asked - log_beta - np.log(b) + np.maximum(rises, 0)) / (1 + b)
    high = left + np.log(-np.expm1(-left))
    low, high = np.minimum(low, np.log(a / b) - 1), np.maximum(high, np.log(a / b) + 1)
    n = int(np.ceil(((high - low) / step).max())) + 1
    return n, np.stack([low, high])


def logit_nodes(a: Floats, b: Floats, n: int, range_: Floats) -> tuple[Floats, Floats]:
    """Return n nodes at equal steps of log-odds; the outermost stand for all steps beyond them."""
    low, high = range_[:, :, None]
    v = low + (high - low) * np.linspace(0, 1, n)
    step = (high - low) / (n - 1)
    log_density = -a[:, None] * np.logaddexp(0, -v) - b[:, None] * np.logaddexp(0, v)
    weight = step * np.exp(log_density - special.betaln(a, b)[:, None])
    # Beyond the ends the weights go on as geometric series.
    ends = np.exp(-step * np.column_stack([a, b]))
    weight[:, [0, -1]] /= 1 - ends
    p = special.expit(v)
    return p, weight / weight.sum(axis=1, keepdims=True)
