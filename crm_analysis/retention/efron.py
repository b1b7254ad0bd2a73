r"""Cox's partial likelihood with Efron's ties: its value, slope and curvature by running sums.

Who is at risk at a departure is whoever has come and not gone, so that every sum over them is a
running sum over relationships in order of their end, less one in order of their entry. What a
relationship adds to all departures together is what it is exposed to: the sum of
:math:`1 / \sum_{at risk} e^{x\beta}` over those it lived to see. A fit takes as many operations as
there are relationships times the square of the traits, however many departures there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AtRisk", "RiskSets", "maximum"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_MOST_STEPS = 100
_MOST_HALVINGS = 30

_NEAR = 1e-9
"""In standard errors: after a Newton step as short as this the next would be its square."""

_SLACK = 1e-12
"""Share of a log-likelihood that may be lost to rounding."""


@dataclass(frozen=True)
class RiskSets:
    """Relationships in order, and where each departure stands among them.

    Attributes
    ----------
    days, entry : ndarray, shape (relationships,)
        From the start: the last day, and the day after which it is at risk.
    ended : ndarray of int or bool, shape (relationships,)
        Whether it ended on its last day. At least one did.
    x : ndarray, shape (relationships, traits)
    """

    days: Floats
    entry: Floats
    ended: NDArray[Any]
    x: Floats

    @cached_property
    def gone(self) -> Ints:
        """Who ended, in order of the day."""
        gone = np.flatnonzero(self.ended)
        return gone[np.argsort(self.days[gone], kind="stable")]

    @cached_property
    def own(self) -> Floats:
        """Traits of those who ended, shape (departures, traits)."""
        return self.x[self.gone]

    @cached_property
    def _ties(self) -> tuple[Floats, Ints, Ints]:
        day, at, tied = np.unique(self.days[self.gone], return_inverse=True, return_counts=True)
        return day, at, tied

    @property
    def day(self) -> Floats:
        """The distinct days of departures."""
        return self._ties[0]

    @property
    def at(self) -> Ints:
        """Which of these each departure fell on."""
        return self._ties[1]

    @cached_property
    def first(self) -> Ints:
        """The first departure of each day."""
        tied = self._ties[2]
        return np.asarray(np.cumsum(tied) - tied)

    @cached_property
    def share(self) -> Floats:
        """Share of those who left on the day that are gone before each departure (Efron)."""
        return np.asarray(
            (np.arange(len(self.gone)) - self.first[self.at]) / self._ties[2][self.at]
        )

    @cached_property
    def _lines(self) -> tuple[Ints, Ints, Ints, Ints]:
        by_end, by_entry = np.argsort(self.days), np.argsort(self.entry)
        past_end = np.searchsorted(self.days[by_end], self.day, side="left")
        past_entry = np.searchsorted(self.entry[by_entry], self.day, side="left")
        return by_end, by_entry, past_end, past_entry

    def there(self, values: Floats) -> Floats:
        """Sum over those at risk on each day: followed until then, less those not there yet."""
        by_end, by_entry, past_end, past_entry = self._lines
        sums = _sums_from(values[by_end])[past_end]
        if past_entry[0] < len(values):
            sums -= _sums_from(values[by_entry])[past_entry]
        return np.asarray(sums)

    @cached_property
    def _seen(self) -> tuple[Ints, Ints]:
        """How many of the days each relationship lived to see, and of these had before entry."""
        return (
            np.searchsorted(self.day, self.days, side="right"),
            np.searchsorted(self.day, self.entry, side="right"),
        )

    def exposure(self, rate: Floats) -> Floats:
        """Sum a rate of each departure over those at which a relationship was at risk."""
        until, since = self._seen
        seen = np.append(0.0, np.cumsum(np.add.reduceat(rate, self.first)))
        exposed = seen[until] - seen[since]
        # Of those who left on one day, the earlier were no longer at risk when the later left.
        exposed[self.gone] -= np.add.reduceat(rate * self.share, self.first)[self.at]
        return np.asarray(exposed)

    def stays(self) -> Floats:
        """Return the Kaplan-Meier curve after each day."""
        return np.asarray(np.cumprod(1 - self._ties[2] / self.there(np.ones(len(self.days)))))

    def weighed(self, beta: Floats) -> AtRisk:
        """Weigh those at risk by their pace at these log ratios."""
        line = self.x @ beta
        line -= line.max()  # a factor of all paces, so that none overflows
        pace = np.exp(line)
        weights = np.column_stack([pace, pace[:, None] * self.x])
        left = np.add.reduceat(weights[self.gone], self.first)[self.at]
        sums = self.there(weights)[self.at] - self.share[:, None] * left
        total = sums[:, 0]
        value = float(line[self.gone].sum() - np.log(total).sum())
        return AtRisk(self, pace, total, sums[:, 1:] / total[:, None], value)


def _sums_from(values: Floats) -> Floats:
    """Return the sum of each value and all after it, and of none after the last."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]))
    sums[:-1] = np.cumsum(values[::-1], axis=0)[::-1]
    return sums


@dataclass(frozen=True)
class AtRisk:
    """Those at risk at each departure, weighted by their pace.

    Attributes
    ----------
    sets : RiskSets
    pace : ndarray, shape (relationships,)
        Up to a common factor.
    total : ndarray, shape (departures,)
        Sum of the pace of those at risk.
    mean : ndarray, shape (departures, traits)
        Their mean traits.
    value : float
        The log partial likelihood.
    """

    sets: RiskSets
    pace: Floats
    total: Floats
    mean: Floats
    value: float

    @property
    def residuals(self) -> Floats:
        """Schoenfeld's: traits of who left, less what was expected; (departures, traits)."""
        return self.sets.own - self.mean

    def information(self, weight: Floats | None = None) -> Floats:
        """Sum the covariance of traits over departures, each with its weight (1 without)."""
        weight = np.ones(len(self.total)) if weight is None else weight
        exposed = self.pace * self.sets.exposure(weight / self.total)
        x = self.sets.x
        return np.asarray(
            (x * exposed[:, None]).T @ x - (self.mean * weight[:, None]).T @ self.mean
        )


def maximum(sets: RiskSets) -> tuple[Floats, AtRisk] | None:
    """Return the log ratios where the partial likelihood is largest, and those at risk there.

    It has one top, so Newton's steps from no difference find it, halved where one is too long.
    None where its curvature vanishes on the way: the data do not determine the ratios.
    """
    beta = np.zeros(sets.x.shape[1])
    here = sets.weighed(beta)
    for _step in range(_MOST_STEPS):
        score, information = here.residuals.sum(axis=0), here.information()
        try:
            step = np.linalg.solve(information, score)
        except np.linalg.LinAlgError:
            return None
        length = float(score @ step)
        if not np.isfinite(length) or length < 0:
            return None
        beta, here = _shortened(sets, beta, step, here)
        if length < _NEAR**2:
            break
    return beta, here


def _shortened(sets: RiskSets, beta: Floats, step: Floats, here: AtRisk) -> tuple[Floats, AtRisk]:
    """Take a step, halved until it does not lead down."""
    for _halving in range(_MOST_HALVINGS):
        there = sets.weighed(beta + step)
        if there.value >= here.value - _SLACK * (1 + abs(here.value)):
            return beta + step, there
        step = step / 2
    return beta, here
