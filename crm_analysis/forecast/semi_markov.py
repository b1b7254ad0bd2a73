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
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stays", "ahead", "count_hazards", "entered"]

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


def count_hazards(
    stays: Stays, n_states: int, n_ends: int, last_day: int, weights: Floats | None = None
) -> Floats:
    """Count the daily hazards of leaving each state.

    Parameters
    ----------
    stays : Stays
        Open stays count as at risk on every day up to the last one they have lasted to, that one
        included: whoever is still there at the end of a day has not left on it.
    n_states, n_ends : int
        States that are passed through, and ways to end.
    last_day : int
        Hazards are returned for days 0 to `last_day`; days on which nobody was at risk have none.
    weights : ndarray, shape (n,), optional
        How often each stay counts.

    Returns
    -------
    ndarray, shape (n_states, n_states + n_ends, last_day + 1)
    """
    weight = np.ones(len(stays.days)) if weights is None else weights
    width, targets = last_day + 1, n_states + n_ends
    day = np.minimum(stays.days, width)  # what lasts longer is at risk on all of them
    at_risk = np.bincount(stays.state * (width + 1) + day, weight, n_states * (width + 1))
    at_risk = at_risk.reshape(n_states, width + 1)[:, ::-1].cumsum(axis=1)[:, ::-1][:, :width]
    left = (stays.to >= 0) & (stays.days <= last_day)
    place = (stays.state[left] * targets + stays.to[left]) * width + stays.days[left]
    events = np.bincount(place, weight[left], n_states * targets * width)
    events = events.reshape(n_states, targets, width)
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = events / at_risk[:, None, :]
    return np.where(at_risk[:, None, :] > 0, hazard, 0.0)


def entered(hazard: Floats, reward: Floats, horizon: int) -> Floats:
    """Return what is expected within 0 to `horizon` days of whoever enters a state now.

    Parameters
    ----------
    hazard : ndarray, shape (S, S + E, days)
        From `count_hazards`; states are passed upwards, or one returns to itself after a day.
    reward : ndarray, shape (S + E,)
        What coming into a state counts: 1 for the end that is asked about.
    horizon : int

    Returns
    -------
    ndarray, shape (S, horizon + 1)
    """
    n_states = hazard.shape[0]
    density = _densities(hazard, horizon)
    gained = np.zeros((n_states, horizon + 1))
    # Zero days may lead on at once, so the states that come last are settled first.
    for day in range(horizon + 1):
        for state in range(n_states - 1, -1, -1):
            gained[state, day] = _gained(density[state], gained, reward, day, state)
    return gained


def _densities(hazard: Floats, horizon: int) -> Floats:
    """Return the chance of leaving on each day since entry, for each target."""
    width = horizon + 1
    padded = np.zeros((*hazard.shape[:2], width))
    kept = min(width, hazard.shape[2])
    padded[:, :, :kept] = hazard[:, :, :kept]
    stay = np.cumprod(1 - padded.sum(axis=1), axis=1)
    before = np.concatenate((np.ones((len(stay), 1)), stay[:, :-1]), axis=1)
    return np.asarray(padded * before[:, None, :], np.float64)


def _gained(density: Floats, gained: Floats, reward: Floats, day: int, state: int) -> float:
    n_states = len(gained)
    total = float(density[:, : day + 1].sum(axis=1) @ reward)
    for following in range(n_states):
        # Back to an earlier state, or to this one, on the day of entry would go round for ever.
        first = 0 if following > state else 1
        if day >= first:
            days = density[following, first : day + 1]
            total += float(days @ gained[following, day - first :: -1][: len(days)])
    return total


def ahead(
    hazard: Floats, gained: Floats, reward: Floats, state: Ints, age: Ints, horizon: int
) -> Floats:
    """Return what is expected within 1 to `horizon` days of whoever is in a state for some days.

    Parameters
    ----------
    hazard, reward
        As in `entered`; hazards past the last counted day are taken as nothing.
    gained : ndarray, shape (S, horizon + 1)
        From `entered`.
    state, age : ndarray of int, shape (n,)
        Where they are now, and the last whole day through which they have been there.
    horizon : int

    Returns
    -------
    ndarray, shape (n, horizon)
    """
    result = np.zeros((len(state), horizon))
    longest = hazard.shape[2] + horizon + 1
    padded: Any = np.zeros((*hazard.shape[:2], longest))
    padded[:, :, : hazard.shape[2]] = hazard
    for place, (s, a) in enumerate(zip(state, np.minimum(age, hazard.shape[2]), strict=True)):
        window = padded[s, :, a + 1 : a + 1 + horizon]
        stay = np.cumprod(1 - window.sum(axis=0))
        density = window * np.concatenate(([1.0], stay[:-1]))
        total = np.cumsum(reward @ density)
        for following in range(len(gained)):
            moves = density[following]
            if moves.any():
                total += np.convolve(moves, gained[following])[:horizon]
        result[place] = total
    return result
