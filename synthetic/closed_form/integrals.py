"""One-dimensional integrals of smooth functions, for many customers at once (Gauss-Legendre)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from synthetic.keyed import Floats

N_NODES = 96
"""Nodes of one integral: relative error below 1e-9 for the integrands of this package."""

_VANISHED = 40.0
"""Discounted by exp(-40), what comes later is below the last digit."""


@cache
def nodes(n: int = N_NODES, n_panels: int = 1) -> tuple[Floats, Floats]:
    """Return nodes in (0, 1), n in each of equal panels, and weights that sum to one."""
    node, weight = np.polynomial.legendre.leggauss(n)
    panel = np.arange(n_panels)[:, None]
    return ((node + 1) / 2 + panel).ravel() / n_panels, np.tile(weight / 2 / n_panels, n_panels)


def discounted(
    rate: Callable[[Floats], Floats], length: Floats, *, horizon: float | None, discount: float
) -> Floats:
    r"""Return :math:`\int_0^H e^{-\delta t} rate(t)\, dt` for rates that vary over `length`.

    Parameters
    ----------
    rate : callable
        Takes times, shape (n, nodes), and returns the rate at each.
    length : ndarray, shape (n,)
        Time over which the rate changes: the nodes are even in ``log(1 + t / length)``.
    horizon : float or None
        H; None = for ever, which needs a discount above zero.
    discount : float
        Continuous rate.
    """
    end = _VANISHED / discount if horizon is None else horizon
    node, weight = nodes()
    top = np.log1p(end / length)[:, None]
    grown = np.exp(top * node)
    at = length[:, None] * (grown - 1)
    inside = rate(at) * np.exp(-discount * at) * grown
    return np.asarray((inside @ weight) * top[:, 0] * length)
