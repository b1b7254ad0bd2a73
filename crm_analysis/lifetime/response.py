"""What a model says under many drawn parameter sets, from asking it for a few of them.

Near its maximum a fitted model answers smoothly: the logarithm of what it says of a customer is,
over the spread of the parameters, all but a polynomial of low degree in their logarithms. It is
fitted to answers at a few well spread points (a response surface; Box & Wilson 1951), and the
draws are read off it. Along a ridge, where the data hardly tell one parameter from another, more
terms are needed than across it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

__all__ = ["Response", "response"]

Floats = NDArray[np.float64]

_FLAT = 1e-12
"""Variances of log-parameters below it do not move."""

_WIDE = 0.15
"""Along a standard deviation above it a quadratic is not enough."""

_MORE_POINTS = 1.5
"""Points asked per coefficient."""

_SPREAD = 1.6
"""Points are spread wider than the draws, which are then not read beyond them."""


@dataclass(frozen=True)
class Response:
    """A polynomial in standardised log-parameters for the logarithm of each of many answers.

    Attributes
    ----------
    centre : ndarray, shape (k,)
        Logarithms of the parameters at the maximum.
    spread : ndarray, shape (d,)
        Standard deviations along the directions that move, the widest first.
    directions : ndarray, shape (k, d)
    coefficients : ndarray, shape (terms, m)
        For m answers.
    """

    centre: Floats
    spread: Floats
    directions: Floats
    coefficients: Floats

    def __call__(self, theta: Floats) -> Floats:
        """Return the logarithms of the answers under one parameter set, shape (m,)."""
        z = (np.log(theta) - self.centre) @ self.directions / self.spread
        return np.asarray(_terms(z[None, :], self.spread)[0] @ self.coefficients)


def response(
    ask: Callable[[Floats], Floats], theta: Floats, log_covariance: Floats
) -> Response | None:
    """Fit the polynomial to answers around the maximum.

    Parameters
    ----------
    ask : callable
        Parameters, shape (k,), to answers above zero, shape (m,).
    theta : ndarray, shape (k,)
        Parameters at the maximum.
    log_covariance : ndarray, shape (k, k)
        Of their logarithms.

    Returns
    -------
    Response or None
        None where an answer is not above zero, so that it has no logarithm.

    References
    ----------
    Box & Wilson (1951), J. Royal Statistical Society B 13:1-45.
    """
    variance, axes = np.linalg.eigh(log_covariance)
    moving = np.flatnonzero(variance > _FLAT)[::-1]
    spread, directions = np.sqrt(variance[moving]), axes[:, moving]
    centre = np.log(theta)
    points = _points(spread)
    answers = np.stack([ask(np.exp(centre + directions @ (spread * z))) for z in points])
    if not (np.isfinite(answers).all() and (answers > 0).all()):
        return None
    # Least squares for many thousand answers at once: one small inverse and a product.
    fitted = np.linalg.pinv(_terms(points, spread)) @ np.log(answers)
    return Response(centre, spread, directions, np.asarray(fitted, np.float64))


def _points(spread: Floats) -> Floats:
    """Return the centre and points spread evenly under a wider normal distribution."""
    d = len(spread)
    if not d:
        return np.zeros((1, 0))
    n = int(np.ceil(_MORE_POINTS * _terms(np.zeros((1, d)), spread).shape[1]))
    even = qmc.Halton(d, scramble=False).random(n + 1)[1:]
    return np.vstack([np.zeros(d), special.ndtri(even) * _SPREAD])


def _terms(z: Floats, spread: Floats) -> Floats:
    """Return a quadratic, and where a direction is wide also its powers and their products.

    Shape (points, terms).
    """
    columns = [np.ones(len(z)), *z.T, *(z**2).T]
    columns += [z[:, i] * z[:, j] for i, j in combinations(range(z.shape[1]), 2)]
    for i in np.flatnonzero(spread > _WIDE):
        wide = z[:, i]
        columns += [wide**3, wide**4] + [wide**5, wide**6] * bool(spread[i] > 2 * _WIDE)
        columns += [wide**2 * z[:, j] for j in range(z.shape[1]) if j != i]
    return np.column_stack(columns)
