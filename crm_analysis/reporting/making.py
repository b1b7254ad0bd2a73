"""A batch being made: which reports may begin, what follows when one has ended, and the index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

from crm_analysis.errors import ReportError, listed, near
from crm_analysis.files import check_writable
from crm_analysis.reporting.batch import Batch, Outcome, by_day
from crm_analysis.reporting.lock import locked
from crm_analysis.reporting.pool import Job, StopBatch, cores, run_jobs
from crm_analysis.reporting.records import failure_page
from crm_analysis.reporting.runs import Run

__all__ = ["make_batch", "missed_targets"]


def make_batch(
    batch: Batch,
    *,
    workers: int | None = None,
    isolate: bool = False,
    progress: Callable[[Outcome], None] | None = None,
    started: Callable[[Run], None] | None = None,
    keep: bool = True,
) -> Batch:
    """Make the reports of a batch that are not there yet, and its index.

    Parameters
    ----------
    batch : Batch
        From `open_batch`; its outcomes are filled in.
    workers : int, optional
        Reports made side by side; by default one for every processor core.
    isolate : bool
        Whether every report gets a new kernel instead of a warm one.
    progress, started : callable, optional
        Told of every report as it ends, and as it begins.
    keep : bool
        Whether to write the index, the history and `batch.json`.

    Returns
    -------
    Batch
        The same batch. When interrupted, what was made is kept and the next batch resumes.

    Raises
    ------
    ReportError
        The folder cannot be written, or another batch is being made in it.
    """
    start = time.monotonic()
    check_writable(
        batch.out,
        what="Reports were",
        remedy="name another folder: 'out' in the plan, or --out",
        refusal=ReportError,
    )
    with locked(batch.out):
        making = _Making(batch, keep, progress, started, start)
        if making.todo:
            making.make(workers or cores(), isolate=isolate)
        batch.seconds = time.monotonic() - start
        changed = making.todo or batch.notes or batch.history.changed
        batch.notes += missed_targets(batch)
        if keep and (changed or not (batch.out / "index.html").is_file()):
            _write_index(batch)
            batch.save()
    return batch


class _Making:
    """One batch being made: which reports may begin, and what follows when one has ended."""

    def __init__(
        self,
        batch: Batch,
        keep: bool,
        progress: Callable[[Outcome], None] | None,
        started: Callable[[Run], None] | None,
        start: float,
    ) -> None:
        self.batch = batch
        self.keep = keep
        self.progress = progress
        self.started = started
        self.start = start
        self.todo = {o.run.path for o in batch.unfinished}
        self.places = {outcome.run.path: index for index, outcome in enumerate(batch.outcomes)}
        self.after: dict[int, list[int]] = {}
        self.waits: dict[int, set[int]] = {}
        for groups in by_day(batch):
            self._chain([self._mine(group) for group in groups])

    def _mine(self, group: Iterable[int]) -> list[int]:
        return [i for i in group if self.batch.outcomes[i].run.path in self.todo]

    def _chain(self, groups: list[list[int]]) -> None:
        filled = [group for group in groups if group]
        for earlier, later in pairwise(filled):
            for index in later:
                self.waits[index] = set(earlier)
            for index in earlier:
                self.after[index] = later

    def make(self, workers: int, *, isolate: bool) -> None:
        """Make all that is to be made; an interruption and a full disk end it early."""
        batch = self.batch
        ready = [self.places[path] for path in self.todo if self.places[path] not in self.waits]
        try:
            run_jobs(
                [self._job(index) for index in self._longest_first(ready)],
                root=batch.root,
                workers=min(workers, len(self.todo)),
                isolate=isolate,
                done=self._done,
                started=self._begun,
            )
        except KeyboardInterrupt:
            batch.interrupted = True

    def _longest_first(self, indices: Iterable[int]) -> list[int]:
        """Order runs so that the last to end are short ones, and no worker waits for long."""
        seconds = {i: self.batch.pace.expected(self.batch.outcomes[i].run) or 0.0 for i in indices}
        return sorted(sorted(seconds), key=lambda index: -seconds[index])

    def _job(self, index: int) -> Job:
        outcome = self.batch.outcomes[index]
        facts = self.batch.inputs.facts(outcome.run)
        facts["links"] = self.batch.links(outcome.run).to_json()
        return Job(outcome.run, facts, self.batch.out / outcome.run.path, outcome.reported)

    def _begun(self, job: Job) -> None:
        self.batch.pace.start(job.run)
        if self.started is not None:
            self.started(job.run)

    def _done(self, job: Job, result: dict[str, Any]) -> list[Job]:
        """Note how a report went; return those that may begin now."""
        batch, index = self.batch, self.places[job.run.path]
        status = result.pop("status")
        batch.pace.end(job.run, result.get("seconds") if status == "made" else None)
        kind = result.get("failure", {}).get("kind")
        if kind == "worker":
            with suppress(OSError):
                result.update(failure_page(job, result["failure"], root=batch.root))
        ended = replace(batch.outcomes[index], status=status, result=result, older={})
        self._end(index, ended)
        if kind == "disk":
            batch.stopped = (
                f"{job.run.path}: {result['failure']['message']} The batch was stopped, as the "
                "others could not be kept either; the same command makes the rest."
            )
            raise StopBatch
        return [self._job(i) for i in self._longest_first(self._freed(index))]

    def _end(self, index: int, outcome: Outcome) -> None:
        batch = self.batch
        batch.outcomes[index] = outcome
        if outcome.status == "made":
            batch.remember(outcome)
        batch.seconds = time.monotonic() - self.start
        if self.keep:
            batch.save(running=True)
        if self.progress is not None:
            self.progress(outcome)

    def _freed(self, index: int) -> list[int]:
        """Return the runs that waited for this one alone and must be made.

        One that turns out as it was, because the figures it looks back on came out the same,
        has ended with that.
        """
        freed = []
        for later in self.after.get(index, ()):
            self.waits[later].discard(index)
            if self.waits[later]:
                continue
            self.batch.settle(later)
            if self.batch.outcomes[later].status == "unchanged":
                self._end(later, self.batch.outcomes[later])
                freed += self._freed(later)
            else:
                freed.append(later)
        return freed


def missed_targets(batch: Batch) -> list[str]:
    """Say which targets no report has shown: their names may be misspelt.

    Not where some report is missing, which may be the one that has them.
    """
    if batch.count("failed") or batch.count("waiting"):
        return []
    asked: dict[str, None] = {}
    shown: dict[str, None] = {}
    for outcome in batch.outcomes:
        targets = outcome.run.parameters.get("targets")
        asked.update(dict.fromkeys(targets if isinstance(targets, dict) else ()))
        figures = outcome.result.get("key_figures") or []
        shown.update(dict.fromkeys(figure["key"] for figure in figures if figure.get("key")))
    return [
        f"A target is set for {key!r}{near(key, shown)}, and no report has a key figure of that "
        f"name. They have: {listed(sorted(shown))}."
        for key in asked
        if key not in shown
    ]


def _write_index(batch: Batch) -> None:
    from crm_analysis.reporting.index import write_index

    try:
        write_index(batch)
    except OSError as error:
        batch.stopped = batch.stopped or (
            f"The index could not be written into {batch.out}: {error.strerror or error}. Free "
            "some space, and run it again."
        )
