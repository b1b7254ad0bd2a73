"""From durations, one a spell, to the counts that everything else here starts from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crm_analysis.errors import InputError

__all__ = ["DurationCounts", "all_at_start", "count_durations"]

Counts = NDArray[np.int64]


class DurationCounts(NamedTuple):
    """Counts at distinct ascending durations; shapes (m,), and (causes, m) for the exits."""

    time: Counts
    n_entered: Counts
    n_exits: Counts
    n_censored: Counts


def all_at_start(n_times: int, n: int) -> Counts:
    """Return how many enter at each of so many durations, of which the first is 0: all there.

    Examples
    --------
    >>> all_at_start(3, 8).tolist()
    [8, 0, 0]
    """
    entered = np.zeros(n_times, np.int64)
    entered[0] = n
    return entered


def count_durations(
    duration: NDArray[Any], cause: NDArray[Any], entry: NDArray[Any] | None = None
) -> DurationCounts:
    """Count spells by whole durations, in one pass over each column and without sorting.

    Parameters
    ----------
    duration : ndarray of whole numbers, shape (n,)
        How long each spell lasted, or has lasted so far; not negative.
    cause : ndarray of whole numbers, shape (n,)
        0 for a spell that is still open (censored), else what ended it: 1, 2, …
    entry : ndarray of whole numbers, shape (n,), optional
        The duration from which it was observed; one first seen when it ended was never at risk
        and is left out.

    Raises
    ------
    InputError
        A duration or an entry below 0.

    Examples
    --------
    >>> counts = count_durations(np.array([5, 5, 9]), np.array([1, 2, 0]))
    >>> counts.time.tolist(), counts.n_exits.tolist(), counts.n_censored.tolist()
    ([0, 5, 9], [[0, 1, 0], [0, 1, 0]], [0, 0, 1])
    """
    days, kind = np.asarray(duration), np.asarray(cause)
    entered = np.zeros_like(days) if entry is None else np.asarray(entry)
    if days.size and min(days.min(), entered.min()) < 0:
        raise InputError(
            "Durations and entries count from the start of a spell and cannot be below 0; the "
            f"least are {days.min()} and {entered.min()}. Correct or leave out those spells."
        )
    if entry is not None:
        seen = (entered < days) | (entered == 0)
        days, kind, entered = days[seen], kind[seen], entered[seen]
    size = int(days.max()) + 1 if days.size else 1
    n_kinds = int(kind.max()) + 1 if kind.size else 1
    # One number for cause and duration together, so that each spell is counted once.
    ended = np.bincount(kind * size + days, minlength=max(n_kinds, 2) * size).reshape(-1, size)
    came = np.bincount(entered, minlength=size) if entry is not None else np.zeros(size, np.int64)
    came[0] += 0 if entry is not None else days.size
    there = (ended.sum(axis=0) + came > 0) | (np.arange(size) == 0)
    time = np.flatnonzero(there)
    return DurationCounts(time, came[time], ended[1:, time], ended[0, time])
