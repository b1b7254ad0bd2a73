"""The periods of a plan: `2025-10`, `2025-Q4`, `2025`, `last 3 months`, as first and last days."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from crm_analysis.errors import ReportError, near

__all__ = ["Period", "period_text", "read_periods"]

Step = Literal["month", "quarter", "year"]

_MONTHS: dict[Step, int] = {"month": 1, "quarter": 3, "year": 12}
_MONTH = re.compile(r"(\d{4})-(\d{2})")
_QUARTER = re.compile(r"(\d{4})-[Qq]([1-4])")
_YEAR = re.compile(r"\d{4}")
_LAST = re.compile(r"last(?:\s+(\d{1,3}))?\s+(month|quarter|year)s?", re.IGNORECASE)
_EXAMPLES = "2025-10, 2025-Q4, 2025 or last 3 months"
_KNOWN_WORDS = ("last month", "last 3 months", "last quarter", "last 4 quarters", "last year")
_FIRST_YEAR, _LAST_YEAR = 1900, 2200


@dataclass(frozen=True, order=True)
class Period:
    """A month, a quarter or a year of the calendar.

    Attributes
    ----------
    starts_on, ends_on : date
        First and last day.
    label : str
        As in a file's name: ``2025-10``, ``2025-Q4``, ``2025``.
    """

    starts_on: date
    ends_on: date
    label: str

    def as_of(self, last_day: date | None) -> date:
        """Return the day to look at the data as of: the period's last, or the data's if earlier."""
        return self.ends_on if last_day is None else min(self.ends_on, last_day)


def read_periods(words: Iterable[str], *, last_day: date | None, where: str) -> tuple[Period, ...]:
    """Turn a plan's words into periods, in the order of time, each once.

    Parameters
    ----------
    words : iterable of str
        ``2025-10`` (a month), ``2025-Q4``, ``2025``, ``last 3 months`` (or quarters, years):
        the last that the data cover whole.
    last_day : date or None
        Last day that the data cover, where it is known.
    where : str
        Whose periods these are, for a message.

    Raises
    ------
    ReportError
        A word that names no period, a period that begins after the data end, or ``last …`` of
        data whose last day is not known.

    Examples
    --------
    >>> day = date(2025, 12, 30)
    >>> [period.label for period in read_periods(["last 2 months"], last_day=day, where="It")]
    ['2025-10', '2025-11']
    >>> read_periods(["2025-Q4"], last_day=day, where="It")[0].as_of(day).isoformat()
    '2025-12-30'
    """
    found: dict[str, Period] = {}
    for word in words:
        for period in _periods_of(word, last_day, where):
            if last_day is not None and period.starts_on > last_day:
                raise ReportError(
                    f"{where} asks for the period {word!r}, which begins on "
                    f"{period.starts_on.isoformat()}, and its data end on {last_day.isoformat()}. "
                    "Take an earlier period, or newer data."
                )
            found[period.label] = period
    return tuple(sorted(found.values()))


def _periods_of(word: str, last_day: date | None, where: str) -> Iterable[Period]:
    text = word.strip()
    relative = _LAST.fullmatch(text)
    if relative is None:
        return [_calendar(text) or _unknown(word, where)]
    count, step = int(relative[1] or 1), relative[2].lower()
    if count == 0:
        raise ReportError(f"{where} asks for the period {word!r}: no period at all. Ask for 1.")
    if last_day is None:
        raise ReportError(
            f"{where} asks for the period {word!r}, and the last day of its data is not known "
            "before they are read: they have no manifest.json with 'as_of'. "
            "Name the periods, such as 2025-10."
        )
    return _last(count, step, last_day)  # type: ignore[arg-type]


def _calendar(text: str) -> Period | None:
    if month := _MONTH.fullmatch(text):
        year, number = int(month[1]), int(month[2])
        return _period(year, number, "month") if 1 <= number <= 12 else None
    if quarter := _QUARTER.fullmatch(text):
        return _period(int(quarter[1]), 3 * int(quarter[2]) - 2, "quarter")
    return _period(int(text), 1, "year") if _YEAR.fullmatch(text) else None


def _period(year: int, month: int, step: Step) -> Period | None:
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        return None
    label = {
        "month": f"{year}-{month:02}",
        "quarter": f"{year}-Q{(month + 2) // 3}",
        "year": str(year),
    }[step]
    after = _first_day(year, month + _MONTHS[step])
    return Period(date(year, month, 1), after - timedelta(days=1), label)


def _first_day(year: int, month: int) -> date:
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)


def _last(count: int, step: Step, last_day: date) -> list[Period]:
    """Return the last `count` whole periods, the newest last."""
    length = _MONTHS[step]
    after = last_day + timedelta(days=1)
    end = (after.year * 12 + after.month - 1) // length * length
    starts = [end - length * back for back in range(count, 0, -1)]
    periods = [_period(start // 12, start % 12 + 1, step) for start in starts]
    return [period for period in periods if period is not None]


def _unknown(word: str, where: str) -> Period:
    raise ReportError(
        f"{where} asks for the period {word!r}{near(word, _KNOWN_WORDS)}, which is none. "
        f"Write it as {_EXAMPLES}."
    )


def period_text(label: str) -> str:
    """Write a period in the reader's language.

    Examples
    --------
    >>> period_text("2025-10"), period_text("2025-Q4"), period_text("2025")
    ('October 2025', '2025-Q4', '2025')
    """
    from crm_analysis.wording import month_text, word_of

    if month := _MONTH.fullmatch(label):
        return month_text(date(int(month[1]), int(month[2]), 1))
    return word_of(label)
