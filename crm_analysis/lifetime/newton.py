"""The top of a smooth function within a box, with its curvature (damped Newton)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GAIN_LEFT", "Maximum", "inverse_curvature", "maximise"]

Floats = NDArray[np.float64]
Objective = Callable[[Floats], tuple[float, Floats, Floats]]

GAIN_LEFT = 1e-9
"""Stop when a full Newton step promises less than this much log-likelihood."""

GAIN_IN_ROUNDING = 1e-5
"""So little may be left to gain when steps no longer raise the value: rounding hides it.

A log-likelihood 1e-5 below its maximum is less than a hundredth of a standard error away.
"""

LONGEST_STEP = 2.0
"""No coordinate moves further than this in one step; on log-parameters, a factor of 7.4."""

MOST_STEPS = 200
MOST_HALVINGS = 40
FLATTEST = 1e-11
"""Curvatures below this fraction of the largest count as flat."""


@dataclass(frozen=True)
class Maximum:
    """Where the climb ended.

    Attributes
    ----------
    at : ndarray, shape (k,)
    value : float
    gradient : ndarray, shape (k,)
    hessian : ndarray, shape (k, k)
    at_bound : ndarray of bool, shape (k,)
        Coordinates held by the box, against a gradient that points out of it.
    n_steps : int
    converged : bool
    """

    at: Floats
    value: float
    gradient: Floats
    hessian: Floats
    at_bound: NDArray[np.bool_]
    n_steps: int
    converged: bool


def maximise(
    objective: Objective, start: Floats, bound: float, *, gain_left: float = GAIN_LEFT
) -> Maximum:
    """Climb from `start` to a maximum with every coordinate within ``[-bound, bound]``.

    Each step solves the quadratic model in its eigenvectors, with curvatures made positive, so
    that it always climbs; it is shortened until the value rises.

    Parameters
    ----------
    objective : callable
        Returns value, gradient (k,) and Hessian (k, k) at a point.
    start : ndarray, shape (k,)
    bound : float
    gain_left : float
        Stop when a full Newton step promises less than this.
    """
    at = np.clip(np.asarray(start, np.float64), -bound, bound)
    value, gradient, hessian = objective(at)
    for n_steps in range(MOST_STEPS):
        held = _held(at, gradient, bound)
        step = _step_within(at, gradient, hessian, held, bound)
        gain = 0.5 * float(gradient @ step)
        if gain < gain_left + 1e-14 * abs(value):
            return Maximum(at, value, gradient, hessian, held, n_steps, converged=True)
        found = _climb(objective, at, value, step, bound)
        stalled = found is None or found[1] < value + GAIN_LEFT
        if stalled and gain < GAIN_IN_ROUNDING:
            return Maximum(at, value, gradient, hessian, held, n_steps, converged=True)
        if found is None:
            return Maximum(at, value, gradient, hessian, held, n_steps, converged=False)
        at, value, gradient, hessian = found
    held = _held(at, gradient, bound)
    return Maximum(at, value, gradient, hessian, held, MOST_STEPS, converged=False)


def _held(at: Floats, gradient: Floats, bound: float) -> NDArray[np.bool_]:
    return np.asarray(((at <= -bound) & (gradient <= 0)) | ((at >= bound) & (gradient >= 0)))


def _step_within(
    at: Floats, gradient: Floats, hessian: Floats, held: NDArray[np.bool_], bound: float
) -> Floats:
    """Newton's step among the coordinates that are free to follow it, cut at the box.

    A step that is bent at the box may lead down; so whoever stands at the edge and would leave
    it is held, and the rest of the step is shortened as a whole.
    """
    held = held.copy()
    while True:
        step = _newton_step(gradient, hessian, held)
        leaving = ~held & (np.abs(at) >= bound) & (step * at > 0)
        if not leaving.any():
            break
        held |= leaving
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step != 0, (np.sign(step) * bound - at) / step, np.inf)
    return step * min(1.0, float(room.min()))


def _newton_step(gradient: Floats, hessian: Floats, held: NDArray[np.bool_]) -> Floats:
    step = np.zeros_like(gradient)
    free = ~held
    if not free.any():
        return step
    curvature, axes = np.linalg.eigh(-hessian[np.ix_(free, free)])
    largest = np.abs(curvature).max()
    safe = np.maximum(np.abs(curvature), max(FLATTEST * largest, 1e-300))
    move = axes @ ((axes.T @ gradient[free]) / safe)
    step[free] = move / max(1.0, float(np.abs(move).max()) / LONGEST_STEP)
    return step


def _climb(
    objective: Objective, at: Floats, value: float, step: Floats, bound: float
) -> tuple[Floats, float, Floats, Floats] | None:
    slack = 1e-13 * (1 + abs(value))
    for halving in range(MOST_HALVINGS):
        there = np.clip(at + step / 2**halving, -bound, bound)
        if not (there != at).any():
            return None
        found = objective(there)
        if np.isfinite(found[0]) and found[0] > value - slack:
            return there, *found
    return None


def inverse_curvature(
    hessian: Floats, held: NDArray[np.bool_], *, widest: float
) -> tuple[Floats, bool]:
    """Return the covariance that a Hessian implies, and whether some direction was flat.

    Parameters
    ----------
    hessian : ndarray, shape (k, k)
        Of the log-likelihood at its maximum.
    held : ndarray of bool, shape (k,)
        Coordinates on the edge of the box: they get no variance.
    widest : float
        Longest standard deviation along any eigenvector; a flat ridge is cut there.
    """
    covariance = np.zeros_like(hessian)
    free = ~held
    if not free.any():
        return covariance, True
    curvature, axes = np.linalg.eigh(-hessian[np.ix_(free, free)])
    least = 1 / widest**2
    flat = bool((curvature < least).any())
    covariance[np.ix_(free, free)] = (axes / np.maximum(curvature, least)) @ axes.T
    return covariance, flat
