"""A batch: what changed is made, what did not is left, what failed is said.

The folder of a batch holds its pages, `index.html`, `batch.json` (for a scheduler, and for the
next time), `history.parquet` (every key figure as it was reported) and `.memory.json` (hashes of
files already read, and how long reports take).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.files import check_writable
from crm_analysis.reporting.chosen import chosen_runs
from crm_analysis.reporting.dealerships import dealership_names
from crm_analysis.reporting.fingerprints import Fingerprints, digest
from crm_analysis.reporting.history import FILE as HISTORY
from crm_analysis.reporting.history import Chain, History, figure_rows
from crm_analysis.reporting.inputs import Inputs, read_json
from crm_analysis.reporting.links import Links, Question, by_question, index_names, links_of
from crm_analysis.reporting.lock import locked
from crm_analysis.reporting.pace import Pace
from crm_analysis.reporting.places import find_root, resolve_path
from crm_analysis.reporting.plan import make_runs, read_plan
from crm_analysis.reporting.pool import Job, StopBatch, cores, run_jobs
from crm_analysis.reporting.records import (
    MANIFEST,
    MEMORY,
    Outcome,
    failure_page,
    made_before,
    manifest,
    write_json,
)
from crm_analysis.reporting.runs import Run

__all__ = ["Batch", "Outcome", "make_batch", "open_batch"]

_SAVE_EVERY_SECONDS = 1.0


@dataclass
class Batch:
    """A batch before, while and after it is made: its folder and one outcome for every run.

    Attributes
    ----------
    root, out : Path
    titles : mapping
        By language.
    plan : str
    outcomes : list of Outcome
        In the order of the plan.
    inputs : Inputs
    history : History
    memory : dict
        What is remembered between batches only to be quick.
    before : mapping
        By path, what an earlier batch says of a report.
    chosen : set of str or None
        Paths of the reports that are to be made now (`--only`); None for all.
    pace : Pace
    interrupted : bool
    stopped : str or None
        Why the batch ended before its end, such as a full disk.
    notes : list of str
        What else is to be known: a history that was damaged, a record that could not be written.
    """

    root: Path
    out: Path
    titles: Mapping[str, str]
    plan: str
    outcomes: list[Outcome]
    inputs: Inputs
    history: History
    memory: dict[str, Any] = field(default_factory=dict)
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    chosen: set[str] | None = None
    pace: Pace = field(default_factory=Pace)
    seconds: float = 0.0
    interrupted: bool = False
    stopped: str | None = None
    notes: list[str] = field(default_factory=list)
    _identity: str = ""
    _saved_at: float = 0.0

    @property
    def title(self) -> str:
        """The title in the language of the first report."""
        return self.titles[self.outcomes[0].run.lang]

    def count(self, status: str) -> int:
        """Count the runs of a status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def exit_status(self) -> int:
        """Number of failed reports, at most 100; 130 when it was interrupted."""
        if self.interrupted:
            return 130
        failed = self.count("failed") + (1 if self.stopped else 0)
        return min(failed, 100)

    @property
    def identity(self) -> str:
        """The batch's name for machines: a hash of everything that its runs rest on."""
        if not self._identity:
            self._identity = digest(sorted(self.inputs.key(o.run) for o in self.outcomes))[:12]
        return self._identity

    @property
    def unfinished(self) -> list[Outcome]:
        """The reports still to be made now."""
        return [outcome for outcome in self.outcomes if self.is_to_make(outcome)]

    def is_to_make(self, outcome: Outcome) -> bool:
        """Whether a report waits and is among the chosen ones."""
        chosen = self.chosen is None or outcome.run.path in self.chosen
        return outcome.status == "waiting" and chosen

    def check(self) -> None:
        """Refuse the batch when the data of a run is not there.

        Raises
        ------
        ReportError
        """
        for outcome in self.outcomes:
            self.inputs.check(outcome.run)

    def links(self, run: Run) -> Links:
        """Return where the page of a run leads: there is an index where there is a plan."""
        pages, indices = self._places
        return links_of(run, pages, indices)

    @cached_property
    def _places(self) -> tuple[dict[Question, dict[str, str]], dict[str, str]]:
        runs = [outcome.run for outcome in self.outcomes]
        return by_question(runs), index_names(runs) if self.plan else {}

    def remember(self, outcome: Outcome) -> None:
        """Keep a report's key figures for the reports to come."""
        figures = outcome.result.get("key_figures") or []
        if figures and self.inputs.as_of(outcome.run) is not None:
            origin = self.inputs.origin(outcome.run, self.identity)
            self.history.add(self.inputs.chain(outcome.run), figure_rows(figures, origin))

    def settle(self, index: int) -> None:
        """Find out whether a report has to be made, all reports that it looks back on being done.

        Its key covers what was reported before and what it links to, because its page shows that.
        """
        outcome = self.outcomes[index]
        run = outcome.run
        reported = self.history.reported(self.inputs.chain(run), self.inputs.as_of(run))
        key = digest([self.inputs.key(run), reported, self.links(run).to_json()])
        held = self.before.get(run.path, {})
        there = all((self.out / path).is_file() for path in run.paths.values())
        if there and held.get("key") == key and not outcome.forced:
            result = {name: value for name, value in held.items() if name != "key"}
            self.outcomes[index] = replace(outcome, status="unchanged", key=key, result=result)
            if not self.history.trusted:  # it may lack what a batch that was killed has made
                self.remember(self.outcomes[index])
            return
        older = held if (self.out / run.path).is_file() else {}
        self.outcomes[index] = replace(outcome, key=key, older=older, reported=reported)

    def unsettle(self, index: int) -> None:
        """Let a report wait after all: one that it looks back on is to be made first."""
        outcome = self.outcomes[index]
        if outcome.status == "unchanged":
            older = {**outcome.result, "key": outcome.key}
            self.outcomes[index] = replace(outcome, status="waiting", result={}, older=older)

    def save(self, *, running: bool = False) -> None:
        """Write `batch.json`, so that the next batch goes on from here; said if that fails.

        While the batch is running this is done about once a second.
        """
        if running and time.monotonic() - self._saved_at < _SAVE_EVERY_SECONDS:
            return
        self._saved_at = time.monotonic()
        try:
            if not running:
                self.history.save()
            self.memory["history"] = self.history.memo
            self.memory["files"] = self.inputs.prints.known
            self.memory["seconds"] = self.pace.means()
            write_json(self.out / MANIFEST, manifest(self, running=running))
            write_json(self.out / MEMORY, self.memory)
        except OSError as error:
            self.stopped = self.stopped or (
                f"The record of the batch could not be written into {self.out}: "
                f"{error.strerror or error}. Free some space; the same command makes the rest."
            )


def open_batch(
    plan_path: Path,
    *,
    root: Path | None = None,
    force: bool = False,
    only: Sequence[str] = (),
) -> Batch:
    """Read a plan, list its runs and find which of them are there already, unchanged.

    Parameters
    ----------
    plan_path : Path
        A plan, `reports/*.toml`.
    root : Path, optional
        The project's root; by default the nearest folder above the plan with a pyproject.toml.
    force : bool
        Whether to make every report again.
    only : sequence of str
        Which reports to make: ``NAME``, ``NAME/dealership`` or ``NAME/dealership/period``, with
        ``*`` for any; the others are left as they are.

    Raises
    ------
    ReportError
        The plan, a parameter or a data path cannot be used; nothing has run.
    """
    root = root or find_root(plan_path)
    plan = read_plan(plan_path.resolve(), root=root)
    memory = read_json(plan.out / MEMORY)
    document = read_json(plan.out / MANIFEST)
    inputs = Inputs(root, Fingerprints(root, memory.get("files", {})))
    runs = make_runs(plan, lambda data: _names(data, inputs, memory), inputs.last_day)
    # After a batch that was killed the history may lack what the manifest holds: it is read anew.
    memo = {} if document.get("running") else memory.get("history", {})
    source = plan.source.relative_to(root) if plan.source.is_relative_to(root) else plan.source
    chosen = chosen_runs(runs, only) if only else None
    forced = {run.path for run in runs if force and (chosen is None or run.path in chosen)}
    batch = Batch(
        root,
        plan.out,
        plan.titles,
        source.as_posix(),
        [Outcome(run, "waiting", "", forced=run.path in forced) for run in runs],
        inputs,
        History(plan.out / HISTORY, memo),
        memory,
        before=made_before(document),
        chosen=chosen,
        pace=Pace(memory.get("seconds", {})),
    )
    batch.check()
    _settle_all(batch)
    return batch


def _settle_all(batch: Batch) -> None:
    """Look at every run, the earlier days first; one after a run to be made waits for it."""
    for groups in _by_day(batch):
        changing = False
        for group in groups:
            for index in group:
                batch.settle(index)
                if changing:
                    batch.unsettle(index)
            changing = changing or any(batch.is_to_make(batch.outcomes[i]) for i in group)
    if batch.history.damaged:
        batch.notes.append(batch.history.damaged)


def _by_day(batch: Batch) -> list[list[list[int]]]:
    """Gather the runs by chain, and in a chain by day: a later day looks back on an earlier."""
    chains: dict[Chain, dict[str, list[int]]] = {}
    for index, outcome in enumerate(batch.outcomes):
        days = chains.setdefault(batch.inputs.chain(outcome.run), {})
        days.setdefault(batch.inputs.as_of(outcome.run) or "", []).append(index)
    return [[days[day] for day in sorted(days)] for days in chains.values()]


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
        for groups in _by_day(batch):
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
                failure_page(job, result["failure"])
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


def _write_index(batch: Batch) -> None:
    from crm_analysis.reporting.index import write_index

    try:
        write_index(batch)
    except OSError as error:
        batch.stopped = batch.stopped or (
            f"The index could not be written into {batch.out}: {error.strerror or error}. Free "
            "some space, and run it again."
        )


def single_batch(run: Run, *, root: Path, out: Path) -> Batch:
    """Build a batch of one run, to be made whatever is there already."""
    inputs = Inputs(root, Fingerprints(root))
    outcome = Outcome(run, "waiting", key="")
    return Batch(root, out, {run.lang: run.name}, "", [outcome], inputs, History(out / HISTORY))


def _names(data: str, inputs: Inputs, memory: dict[str, Any]) -> Sequence[str]:
    path = resolve_path(data, root=inputs.root)
    if path is None:
        raise ReportError(
            f"The plan asks for all dealerships of the data {data!r}, and there is no such file "
            f"or folder in {inputs.root.name}/. Generate it (python -m synthetic generate "
            f"--preset small --seed 1 --out {data}) or list the dealerships by name."
        )
    held: dict[str, list[str]] = memory.setdefault("dealerships", {})
    key = inputs.prints.of_data(path)
    if key not in held:
        held.clear()
        held[key] = dealership_names(path)
    return held[key]
