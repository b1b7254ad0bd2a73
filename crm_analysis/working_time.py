"""Working time: how long somebody waited while the dealership was open."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, time
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WorkingCalendar"]

_MONDAY_OF_DAY_0 = 3
"""1970-01-01 was a Thursday: three days after a Monday."""


@dataclass(frozen=True)
class WorkingCalendar:
    """When a dealership is open: the same hours on every working day.

    Attributes
    ----------
    opens, closes : datetime.time
        Hours of a working day.
    weekdays : frozenset of int
        Working days of the week, 0 = Monday.
    holidays : frozenset of datetime.date
        Days on which it is closed all the same.

    Examples
    --------
    >>> from datetime import datetime
    >>> shop = WorkingCalendar(weekdays=frozenset(range(5)))
    >>> friday, monday = datetime(2026, 6, 26, 18, 30), datetime(2026, 6, 29, 10, 15)
    >>> epoch = datetime(1970, 1, 1)
    >>> seconds = [(moment - epoch).total_seconds() for moment in (friday, monday)]
    >>> float(shop.minutes_between(seconds[0], seconds[1]))
    165.0
    """

    opens: time = time(9)
    closes: time = time(20)
    weekdays: frozenset[int] = frozenset(range(7))
    holidays: frozenset[date] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if self.opens >= self.closes:
            raise InputError(
                f"A calendar that opens at {self.opens} and closes at {self.closes} was asked "
                "for. It must open before it closes; leave the calendar out for all hours."
            )
        if not self.weekdays or not self.weekdays <= set(range(7)):
            raise InputError(
                f"A calendar with the working days {sorted(self.weekdays)} was asked for. They "
                "are numbers from 0 (Monday) to 6 (Sunday), at least one."
            )

    def minutes_between(self, start: Any, end: Any) -> NDArray[np.float64]:
        """Return the open minutes between moments.

        Parameters
        ----------
        start, end : array_like
            Seconds since 1970-01-01 00:00, local time.
        """
        return np.asarray((self._open_seconds(end) - self._open_seconds(start)) / 60, np.float64)

    def _open_seconds(self, moment: Any) -> NDArray[np.float64]:
        """Count the open seconds from a fixed Monday to each moment."""
        second = np.asarray(moment, np.float64)
        day = np.floor(second / SECONDS_PER_DAY)
        first, last = (t.hour * 3600 + t.minute * 60 + t.second for t in (self.opens, self.closes))
        within = np.clip(second - day * SECONDS_PER_DAY - first, 0, last - first)
        shifted = day + _MONDAY_OF_DAY_0
        week, weekday = np.divmod(shifted, 7)
        is_open = np.array([d in self.weekdays for d in range(7)], np.float64)
        before = np.concatenate(([0.0], np.cumsum(is_open)))[:-1]
        index = weekday.astype(np.int64)
        days = week * is_open.sum() + before[index]
        closed = self._closed_days()
        today_open = is_open[index] * ~np.isin(day, closed)
        days = days - np.searchsorted(closed, day)
        return np.asarray(days * (last - first) + today_open * within)

    def _closed_days(self) -> NDArray[np.int64]:
        """Return the holidays that fall on working days, as sorted day numbers."""
        return np.array(
            sorted(to_day_number(day) for day in self.holidays if day.weekday() in self.weekdays),
            np.int64,
        )
