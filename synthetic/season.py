"""The calendar of leaving: days weighted by the factor of their month, and its exact inversion.

A hazard times a factor that is constant within a month integrates to hazard x weighted days, and
the day on which a given sum is reached is looked up, so nothing is approximated. Weights are whole
thousandths: their sums are exact on every processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic.clock import YEAR, day_of, month_of
from synthetic.config import Config
from synthetic.keyed import Floats, Ints

_PARTS = 1000
_SPARE_YEARS = 3
"""Parts of a day that weights are counted in, and years past the last one followed."""


@dataclass(frozen=True)
class Season:
    """Weighted days since the first one.

    Attributes
    ----------
    first : day number of the first day.
    upto : numpy array, shape (n_days + 1,)
        Weighted thousandths of a day before each day.
    """

    first: int
    upto: Floats

    def _at(self, day: Ints) -> Ints:
        return np.asarray(np.clip(day - self.first, 0, len(self.upto) - 1))

    def days(self, start: Ints, stop: Ints) -> Floats:
        """Return the weighted days of each stretch [start, stop)."""
        return np.asarray((self.upto[self._at(stop)] - self.upto[self._at(start)]) / _PARTS)

    def mean(self, start: Ints, stop: Ints) -> Floats:
        """Return the mean factor of each stretch, one where it has no days."""
        length = stop - start
        weighted = self.days(start, stop) / np.maximum(length, 1)
        return np.asarray(np.round(np.where(length > 0, weighted, 1.0), 9))

    def reached(self, start: Ints, days: Floats) -> Ints:
        """Return the day in which a number of weighted days from `start` on is passed."""
        sought = self.upto[self._at(start)] + days * _PARTS
        place = np.searchsorted(self.upto, sought, side="right") - 1
        return np.asarray(self.first + place, dtype=np.int64)


def make_season(config: Config) -> Season:
    """Build the calendar of a world, as far as its truth is followed."""
    first = day_of(config.starts_on)
    years = config.relation.follow_years + _SPARE_YEARS
    days = np.arange(first, day_of(config.ends_on) + int(years * YEAR))
    weights = np.round(np.array(config.relation.month) * _PARTS)[month_of(days) % 12]
    upto = np.concatenate([[0.0], np.cumsum(weights)])
    upto.setflags(write=False)
    return Season(first, upto)
