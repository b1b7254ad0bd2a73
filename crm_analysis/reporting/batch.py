"""A batch: what changed is made, what did not is left, what failed is said.

The folder of a batch holds its pages, `index.html`, `batch.json` (for a scheduler, and for the
next time), `history.parquet` (every key figure as it was reported) and `.memory.json` (hashes of
files already read, and how long reports take).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.reporting.chosen import chosen_runs
from crm_analysis.reporting.dealerships import dealership_names
from crm_analysis.reporting.fingerprints import Fingerprints, digest
from crm_analysis.reporting.history import FILE as HISTORY
from crm_analysis.reporting.history import Chain, History, figure_rows
from crm_analysis.reporting.inputs import Inputs, read_json
from crm_analysis.reporting.links import Links, Question, by_question, index_names, links_of
from crm_analysis.reporting.pace import Pace
from crm_analysis.reporting.places import find_root, resolve_path
from crm_analysis.reporting.plan import make_runs, read_plan
from crm_analysis.reporting.records import (
    MANIFEST,
    MEMORY,
    Outcome,
    made_before,
    manifest,
    write_json,
)
from crm_analysis.reporting.runs import Run

__all__ = ["Batch", "Outcome", "by_day", "open_batch", "single_batch"]

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
        page = self.out / run.path
        files = [page.with_name(name) for name in held.get("files", ())]
        files += [self.out / path for path in run.paths.values()]
        there = all(path.is_file() for path in files)
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
    for groups in by_day(batch):
        changing = False
        for group in groups:
            for index in group:
                batch.settle(index)
                if changing:
                    batch.unsettle(index)
            changing = changing or any(batch.is_to_make(batch.outcomes[i]) for i in group)
    if batch.history.damaged:
        batch.notes.append(batch.history.damaged)


def by_day(batch: Batch) -> list[list[list[int]]]:
    """Gather the runs by chain, and in a chain by day: a later day looks back on an earlier."""
    chains: dict[Chain, dict[str, list[int]]] = {}
    for index, outcome in enumerate(batch.outcomes):
        days = chains.setdefault(batch.inputs.chain(outcome.run), {})
        days.setdefault(batch.inputs.as_of(outcome.run) or "", []).append(index)
    return [[days[day] for day in sorted(days)] for days in chains.values()]


def single_batch(run: Run, *, root: Path, out: Path) -> Batch:
    """Build a batch of one run, to be made whatever is there already."""
    inputs = Inputs(root, Fingerprints(root))
    outcome = Outcome(run, "waiting", key="")
    return Batch(root, out, {run.lang: run.name}, "", [outcome], inputs, History(out / HISTORY))


def _names(data: str, inputs: Inputs, memory: dict[str, Any]) -> Mapping[str, str]:
    path = resolve_path(data, root=inputs.root)
    if path is None:
        raise ReportError(
            f"The plan asks for all dealerships of the data {data!r}, and there is no such file "
            f"or folder in {inputs.root.name}/. Generate it (python -m synthetic generate "
            f"--preset small --seed 1 --out {data}) or list the dealerships by name."
        )
    held: dict[str, dict[str, str]] = memory.setdefault("dealership_names", {})
    key = inputs.prints.of_data(path)
    if key not in held:
        held.clear()
        held[key] = dealership_names(path)
    return held[key]
