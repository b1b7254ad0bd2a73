"""Means over a beta distribution, for many distributions at once (Gauss-Jacobi)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

__all__ = ["beta_nodes", "nodes_needed"]

Floats = NDArray[np.float64]

FEWEST, MOST = 12, 160


def nodes_needed(largest: float, *, digits: float = 12) -> int:
    """Return how many nodes integrate ``(1 + largest * p) ** -s`` over p to so many digits.

    The nearest singularity, at ``p = -1 / largest``, lies on the ellipse whose size sets the
    speed at which Gauss rules converge (Trefethen 2013, theorem 19.3).

    Examples
    --------
    >>> nodes_needed(1.0), nodes_needed(100.0)
    (12, 74)
    """
    centre = 1 + 2 / max(largest, 1e-12)
    ellipse = np.log(centre + np.sqrt(centre**2 - 1))
    return int(np.clip(np.ceil(np.log(10) * digits / (2 * ellipse)) + 4, FEWEST, MOST))


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
