"""Runs that wait for a worker: who takes which next."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from crm_analysis.reporting.links import Question, question_of

if TYPE_CHECKING:
    from crm_analysis.reporting.pool import Job

__all__ = ["WaitingJobs"]


class WaitingJobs:
    """Jobs in the order in which they came, but for this: a report's languages go to one worker.

    The second language asks for the same numbers, which the worker's kernel still has in memory
    (`crm_analysis.remembered`). No worker idles for that: where only such jobs are left whose
    other language another worker has, they are taken by whoever is free.
    """

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._taken: dict[object, Question] = {}
        self._closed = False
        self._changed = threading.Condition()

    def put(self, job: Job) -> None:
        """Let a job wait."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Send everybody home: from now on `take` gives nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, worker: object) -> Job | None:
        """Return the next job for a worker, waiting for one; None when all is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._jobs)
            if self._closed:
                return None
            job = min(self._jobs, key=lambda job: self._rank(job, worker))
            self._jobs.remove(job)
            self._taken[worker] = question_of(job.run)
            return job

    def _rank(self, job: Job, worker: object) -> int:
        """Own first, another's last, all else between in the order in which it came."""
        question = question_of(job.run)
        if self._taken.get(worker) == question:
            return 0
        return 2 if question in self._taken.values() else 1
