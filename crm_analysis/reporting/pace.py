"""How long the rest of a batch will take, from how long reports took."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from crm_analysis.reporting.runs import Run

__all__ = ["Pace"]


@dataclass
class Pace:
    """Seconds a report takes, by notebook: from this batch, else from the one before.

    The seconds are those of the report alone. A kernel's start is paid once for each worker; put
    into the mean of the first reports it would let every batch seem hours long at first.

    Attributes
    ----------
    before : dict
        Mean seconds by notebook, of an earlier batch.
    """

    before: dict[str, float] = field(default_factory=dict)
    _seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _running: dict[str, float] = field(default_factory=dict)

    def start(self, run: Run) -> None:
        """Note that a worker has taken a run."""
        self._running[run.path] = time.monotonic()

    def end(self, run: Run, seconds: float | None) -> None:
        """Note how long a report took; None where nothing was measured."""
        self._running.pop(run.path, None)
        if seconds is not None:
            self._seen[run.notebook].append(seconds)

    def expected(self, run: Run) -> float | None:
        """Return the seconds a run should take; None while nothing is known."""
        means = self.means()
        if run.notebook in means:
            return means[run.notebook]
        return sum(means.values()) / len(means) if means else None

    def means(self) -> dict[str, float]:
        """Return the mean seconds of every notebook that is known."""
        seen = {name: sum(times) / len(times) for name, times in self._seen.items() if times}
        return {**self.before, **seen}

    def left(self, unfinished: Iterable[Run], workers: int) -> float | None:
        """Return the seconds until all is done; None while nothing is known.

        Never less than the longest report that is still to end: more workers do not help it.
        """
        waits = [self._rest(run) for run in unfinished]
        known = [wait for wait in waits if wait is not None]
        if len(known) < len(waits):
            return None
        return max(sum(known) / max(workers, 1), *known, 0.0) if known else 0.0

    def _rest(self, run: Run) -> float | None:
        expected = self.expected(run)
        if expected is None or run.path not in self._running:
            return expected
        return max(expected - (time.monotonic() - self._running[run.path]), 0.0)
