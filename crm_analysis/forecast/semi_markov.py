r"""Where open things will be in so many days: a semi-Markov process in whole days.

A state is left for another one, for good, or not yet; the chance of leaving depends on the days
spent in it alone. With the daily hazards :math:`h_{s \to s'}(u)` counted from the past, what will
have happened within H days to whoever has been in state s for a days is

.. math:: W_{s,a}(H) = \sum_{k=1}^{H} \prod_{v=a+1}^{a+k-1} (1 - h_s(v))
          \sum_{s'} h_{s \to s'}(a + k)\, W_{s'}(H - k)

and whoever enters a state begins there at day 0. No form is assumed for the hazards: they are
those of the Aalen-Johansen estimator, and open stays count for as long as they have lasted.

References
----------
Andersen, Borgan, Gill & Keiding (1993), *Statistical Models Based on Counting Processes*, chapter
IV; Janssen & Manca (2006), *Applied Semi-Markov Processes*.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from crm_analysis.remembered import remembered

__all__ = ["Stays", "ahead", "count_hazards", "entered", "expected"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stays:
    """Stays in states, one element each.

    Attributes
    ----------
    state : ndarray of int, shape (n,)
        State in which the stay was, from 0.
    days : ndarray of int, shape (n,)
        Whole days until it ended, or so far.
    to : ndarray of int, shape (n,)
        State it ended in; -1 while it is open. `n_states` and above are ends for good.
    unit : ndarray of int, shape (n,)
        Whose stay it was: units are what a bootstrap draws.
    """

    state: Ints
    days: Ints
    to: Ints
    unit: Ints


def expected(
    stays: Stays,
    reward: Floats,
    state: Ints,
    age: Ints,
    *,
    n_states: int,
    last_day: int,
    parts: int,
    horizon: int,
    every: int,
) -> Floats:
    """Return what is expected of whoever is in a state now: of all stays, and without each part.

    Parameters
    ----------
    stays, n_states, last_day, parts
        As in `count_hazards`; the ends are those targets of `reward` that are no states.
    reward, state, age, horizon
        As in `ahead`.
    every : int
        Days between two that are told of, the last of them `horizon`.

    Returns
    -------
    ndarray, shape (1 + parts, n, horizon // every)
        Within `every` days, twice as many, and so on.
    """
    shape = (n_states, last_day, parts, horizon, every)

    def computed() -> Floats:
        hazard = count_hazards(stays, n_states, len(reward) - n_states, last_day, parts)
        gained = entered(hazard, reward, horizon)
        return ahead(hazard, gained, reward, state, age, horizon)[:, :, every - 1 :: every].copy()

    past = (stays.state, stays.days, stays.to, stays.unit)
    return remembered(("expected", *past, reward, state, age, *shape), computed)


def count_hazards(
    stays: Stays, n_states: int, n_ends: int, last_day: int, parts: int = 0
) -> Floats:
    """Count the daily hazards of leaving each state: of all stays, and again without each part.

    Parameters
    ----------
    stays : Stays
        Open stays count as at risk on every day up to the last one they have lasted to, that one
        included: whoever is still there at the end of a day has not left on it.
    n_states, n_ends : int
        States that are passed through, and ways to end.
    last_day : int
        Hazards are returned for days 0 to `last_day`; days on which nobody was at risk have none.
    parts : int
        Units are dealt out to so many parts, for a jackknife that leaves out one at a time.

    Returns
    -------
    ndarray, shape (1 + parts, n_states, n_states + n_ends, last_day + 1)
    """
    width, targets, n_parts = last_day + 1, n_states + n_ends, max(parts, 1)
    part = stays.unit % n_parts
    day = np.minimum(stays.days, width)  # what lasts longer is at risk on all of them
    place = (part * n_states + stays.state) * (width + 1) + day
    at_risk = _counted(place, (n_parts, n_states, width + 1))
    at_risk = at_risk[:, :, ::-1].cumsum(axis=2)[:, :, ::-1][:, :, :width]
    left = (stays.to >= 0) & (stays.days <= last_day)
    way = (part[left] * n_states + stays.state[left]) * targets + stays.to[left]
    events = _counted(way * width + stays.days[left], (n_parts, n_states, targets, width))
    if parts:
        events, at_risk = _all_and_without(events), _all_and_without(at_risk)
    return np.divide(
        events, at_risk[:, :, None], out=np.zeros_like(events), where=at_risk[:, :, None] > 0
    )


def _counted(place: Ints, shape: tuple[int, ...]) -> Floats:
    """Count how often each place of an array is named."""
    return np.asarray(np.bincount(place, minlength=prod(shape)), np.float64).reshape(shape)


def _all_and_without(counted: Floats) -> Floats:
    """Turn counts of each part into those of all, and of all without each part."""
    whole = counted.sum(axis=0, keepdims=True)
    return np.concatenate((whole, whole - counted))


def entered(hazard: Floats, reward: Floats, horizon: int) -> Floats:
    """Return what is expected within 0 to `horizon` days of whoever enters a state now.

    Parameters
    ----------
    hazard : ndarray, shape (B, S, S + E, days)
        From `count_hazards`; states are passed upwards, or one returns to itself after a day.
    reward : ndarray, shape (S + E,)
        What coming into a state counts: 1 for the end that is asked about.
    horizon : int

    Returns
    -------
    ndarray, shape (B, S, horizon + 1)
    """
    n_states = hazard.shape[1]
    density = _densities(hazard, horizon)
    gained = np.cumsum(np.einsum("bstd,t->bsd", density, reward), axis=2)
    onward = np.ascontiguousarray(density[:, :, :n_states])
    settled = np.zeros_like(gained)
    for day in range(horizon + 1):
        backwards = settled[:, :, day::-1]
        # Zero days may lead on at once, so the states that come last are settled first. Back to
        # an earlier state, or to this one, on the day of entry would go round for ever: those
        # are not settled yet, and count as nothing.
        for state in range(n_states - 1, -1, -1):
            gained[:, state, day] += np.einsum(
                "btd,btd->b", onward[:, state, :, : day + 1], backwards
            )
            settled[:, state, day] = gained[:, state, day]
    return settled


def _densities(hazard: Floats, horizon: int) -> Floats:
    """Return the chance of leaving on each day since entry, for each target."""
    width = horizon + 1
    padded = np.zeros((*hazard.shape[:3], width))
    kept = min(width, hazard.shape[3])
    padded[..., :kept] = hazard[..., :kept]
    return padded * _still_there(padded)


def _still_there(hazard: Floats) -> Floats:
    """Return the chance of not having left before each day (last axis), for any target."""
    stay = np.cumprod(1 - hazard.sum(axis=-2, keepdims=True), axis=-1)
    return np.concatenate((np.ones_like(stay[..., :1]), stay[..., :-1]), axis=-1)


def ahead(
    hazard: Floats, gained: Floats, reward: Floats, state: Ints, age: Ints, horizon: int
) -> Floats:
    """Return what is expected within 1 to `horizon` days of whoever is in a state for some days.

    Parameters
    ----------
    hazard, reward
        As in `entered`; hazards past the last counted day are taken as nothing.
    gained : ndarray, shape (B, S, horizon + 1)
        From `entered`.
    state, age : ndarray of int, shape (n,)
        Where they are now, and the last whole day through which they have been there.
    horizon : int

    Returns
    -------
    ndarray, shape (B, n, horizon)
    """
    n, n_states, last = len(state), gained.shape[1], hazard.shape[3]
    day = np.minimum(age, last)[:, None] + 1 + np.arange(horizon)
    counted = (day < last)[:, None]
    result = np.zeros((len(hazard), n, horizon))
    for each, (own, worth) in enumerate(zip(hazard, gained, strict=True)):
        window = own[state[:, None], :, np.minimum(day, last - 1)].swapaxes(1, 2) * counted
        density = window * _still_there(window)
        moves = density[:, :n_states].reshape(n, n_states * horizon)
        result[each] = np.cumsum(reward @ density, axis=1) + moves @ _shifted(worth, horizon)
    return result


def _shifted(gained: Floats, horizon: int) -> Floats:
    """Lay out, for each state and day of a move into it, what follows by each day of the horizon.

    Returns
    -------
    ndarray, shape (S * horizon, horizon)
    """
    wait = np.arange(horizon) - np.arange(horizon)[:, None]
    laid = np.where(wait >= 0, gained[:, np.maximum(wait, 0)], 0.0)
    return laid.reshape(-1, horizon)
