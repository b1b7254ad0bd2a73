"""A batch: what changed is made, what did not is left, what failed is said.

The folder of a batch holds its pages, `index.html`, `batch.json` (for a scheduler, and for the
next time) and `.memory.json` (hashes of files already read).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.files import check_writable
from crm_analysis.reporting.dealerships import dealership_names
from crm_analysis.reporting.fingerprints import Fingerprints
from crm_analysis.reporting.parameters import Parameter, read_parameters
from crm_analysis.reporting.places import find_root, resolve_path
from crm_analysis.reporting.plan import Plan, Run, make_runs, read_plan
from crm_analysis.reporting.pool import Job, cores, run_jobs

__all__ = ["Batch", "Outcome", "make_batch", "open_batch"]

_FORMAT = 1
_MANIFEST = "batch.json"
_MEMORY = ".memory.json"
_SAVE_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes
    ----------
    run : Run
    status : {"made", "unchanged", "failed", "waiting"}
    key : str
        Hash of everything the report depends on.
    result : mapping
        Title, findings, key figures, seconds; `failure` where it failed.
    """

    run: Run
    status: str
    key: str
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON."""
        return {**self.run.to_json(), "status": self.status, "key": self.key, **self.result}


@dataclass
class Batch:
    """A batch before, while and after it is made: its folder and one outcome for every run.

    Attributes
    ----------
    root, out : Path
    title, plan : str
    outcomes : list of Outcome
        In the order of the plan.
    prints : Fingerprints
    """

    root: Path
    out: Path
    title: str
    plan: str
    outcomes: list[Outcome]
    prints: Fingerprints
    memory: dict[str, Any]
    seconds: float = 0.0
    interrupted: bool = False
    _saved_at: float = 0.0

    def count(self, status: str) -> int:
        """Count the runs of a status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def exit_status(self) -> int:
        """Number of failed reports, at most 100; 130 when it was interrupted."""
        return 130 if self.interrupted else min(self.count("failed"), 100)

    def check(self) -> None:
        """Refuse the batch when the data of a run is not there.

        Raises
        ------
        ReportError
        """
        for outcome in self.outcomes:
            facts = facts_of(outcome.run, self.root, self.prints)
            _check_data(facts["parameters"], outcome.run, self.root)

    def save(self, *, now: bool = True) -> None:
        """Write `batch.json`, so that the next batch goes on from here."""
        if not now and time.monotonic() - self._saved_at < _SAVE_EVERY_SECONDS:
            return
        self._saved_at = time.monotonic()
        statuses = ("made", "unchanged", "failed", "waiting")
        document = {
            "format": _FORMAT,
            "title": self.title,
            "plan": self.plan,
            **{status: self.count(status) for status in statuses},
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "runs": [outcome.to_json() for outcome in self.outcomes],
        }
        self.memory["files"] = self.prints.known
        write_json(self.out / _MANIFEST, document)
        write_json(self.out / _MEMORY, self.memory)


def open_batch(plan_path: Path, *, root: Path | None = None, force: bool = False) -> Batch:
    """Read a plan, list its runs and find which of them are there already, unchanged.

    Parameters
    ----------
    plan_path : Path
        A plan, `reports/*.toml`.
    root : Path, optional
        The project's root; by default the nearest folder above the plan with a pyproject.toml.
    force : bool
        Whether to make every report again.

    Raises
    ------
    ReportError
        The plan, a parameter or a data path cannot be used; nothing has run.
    """
    root = root or find_root(plan_path)
    plan = read_plan(plan_path.resolve(), root=root)
    memory = _read_json(plan.out / _MEMORY)
    prints = Fingerprints(root, memory.get("files", {}))
    runs = make_runs(plan, lambda data: _names(data, root, prints, memory))
    before = {} if force else _made_before(plan.out)
    inputs = {str(report.notebook): report.inputs for report in plan.reports}
    outcomes = [_look(run, prints, before, plan, inputs) for run in runs]
    source = plan.source.relative_to(root) if plan.source.is_relative_to(root) else plan.source
    return Batch(root, plan.out, plan.title, source.as_posix(), outcomes, prints, memory)


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
        Whether to write the index and `batch.json`.

    Returns
    -------
    Batch
        The same batch. When interrupted, what was made is kept and the next batch resumes.
    """
    start = time.monotonic()
    check_writable(
        batch.out,
        what="Reports were",
        remedy="name another folder: 'out' in the plan, or --out",
        refusal=ReportError,
    )
    places = {outcome.run.path: index for index, outcome in enumerate(batch.outcomes)}
    jobs = [_job(outcome, batch) for outcome in batch.outcomes if outcome.status == "waiting"]

    def done(job: Job, result: dict[str, Any]) -> None:
        index = places[job.run.path]
        status = result.pop("status")
        if result.get("failure", {}).get("kind") == "worker":
            _write_failure(job, result["failure"])
        batch.outcomes[index] = replace(batch.outcomes[index], status=status, result=result)
        batch.seconds = time.monotonic() - start
        if keep:
            batch.save(now=False)
        if progress is not None:
            progress(batch.outcomes[index])

    try:
        if jobs:
            run_jobs(
                jobs,
                root=batch.root,
                workers=workers or cores(),
                isolate=isolate,
                done=done,
                started=(lambda job: started(job.run)) if started else None,
            )
    except KeyboardInterrupt:
        batch.interrupted = True
    batch.seconds = time.monotonic() - start
    if keep and (jobs or not (batch.out / "index.html").is_file()):
        from crm_analysis.reporting.index import write_index

        write_index(batch)
        batch.save()
    return batch


def single_batch(run: Run, *, root: Path, out: Path) -> Batch:
    """Build a batch of one run, to be made whatever is there already."""
    prints = Fingerprints(root)
    outcome = Outcome(run, "waiting", key="")
    return Batch(root, out, run.name, "", [outcome], prints, {})


def facts_of(run: Run, root: Path, prints: Fingerprints) -> dict[str, Any]:
    """Collect what a report's page states about its making."""
    notebook = root / run.notebook
    values = {**_defaults(read_parameters(notebook)), **run.parameters}
    whole = replace(run, parameters=values)
    manifest = _manifest_of(values, root)
    as_of = values.get("as_of") or manifest.get("as_of")
    seed = manifest.get("seed")
    return {
        "notebook_hash": prints.of_notebook(notebook),
        "parameters": values,
        "inputs": prints.of_inputs(whole),
        "as_of": as_of if _is_date(as_of) else None,
        "seed": None if seed is None else str(seed),
    }


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON so that it is there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    text = json.dumps(document, ensure_ascii=False, indent=1)
    part.write_text(text + "\n", encoding="utf-8", newline="\n")
    part.replace(path)


def _look(
    run: Run,
    prints: Fingerprints,
    before: Mapping[str, Mapping[str, Any]],
    plan: Plan,
    inputs: Mapping[str, Sequence[Parameter]],
) -> Outcome:
    defaults = _defaults(inputs[str(plan.root / run.notebook)])
    _check_data({**defaults, **run.parameters}, run, plan.root)
    key = prints.of_run(run, defaults)
    held = before.get(run.path)
    there = all((plan.out / path).is_file() for path in run.paths.values())
    if held is None or held["key"] != key or not there:
        return Outcome(run, "waiting", key)
    names = set(run.to_json()) | {"status", "key"}
    return Outcome(run, "unchanged", key, {k: v for k, v in held.items() if k not in names})


def _defaults(parameters: Iterable[Parameter]) -> dict[str, Any]:
    return {item.name: item.default for item in parameters if item.kind != "computed"}


def _check_data(values: Mapping[str, Any], run: Run, root: Path) -> None:
    data = values.get("data")
    if isinstance(data, str) and resolve_path(data, root=root) is None:
        raise ReportError(
            f"The report {run.name!r} reads its data from {data!r}, and there is no such file or "
            f"folder in {root.name}/. Generate it (python -m synthetic generate --preset small "
            f"--seed 1 --out {data}) or set 'data' to a folder that is there."
        )


def _job(outcome: Outcome, batch: Batch) -> Job:
    facts = facts_of(outcome.run, batch.root, batch.prints)
    return Job(outcome.run, facts, batch.out / outcome.run.path)


def _write_failure(job: Job, failure: Mapping[str, Any]) -> None:
    """Write the page of a report whose worker was lost, and could not write it."""
    import nbformat

    from crm_analysis.reporting.execute import Failure
    from crm_analysis.reporting.render import Facts, make_exporter, render_failure
    from crm_analysis.wording import speaking

    facts = Facts.from_json(job.facts)
    empty = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    with speaking(job.run.lang):
        page = render_failure(empty, job.run, facts, Failure(**failure), make_exporter())
    job.path.parent.mkdir(parents=True, exist_ok=True)
    job.path.write_text(page.html, encoding="utf-8", newline="\n")
    job.path.with_suffix(".pdf").unlink(missing_ok=True)  # of a time when it could be made


def _names(data: str, root: Path, prints: Fingerprints, memory: dict[str, Any]) -> Sequence[str]:
    path = resolve_path(data, root=root)
    if path is None:
        raise ReportError(
            f"The plan asks for all dealerships of the data {data!r}, and there is no such file "
            f"or folder in {root.name}/. Generate it (python -m synthetic generate --preset small "
            f"--seed 1 --out {data}) or list the dealerships by name."
        )
    held: dict[str, list[str]] = memory.setdefault("dealerships", {})
    key = prints.of_data(path)
    if key not in held:
        held.clear()
        held[key] = dealership_names(path)
    return held[key]


def _made_before(out: Path) -> dict[str, Mapping[str, Any]]:
    document = _read_json(out / _MANIFEST)
    if document.get("format") != _FORMAT:
        return {}
    return {run["path"]: run for run in document["runs"] if run["status"] in ("made", "unchanged")}


def _manifest_of(values: Mapping[str, Any], root: Path) -> dict[str, Any]:
    data = values.get("data")
    path = resolve_path(data, root=root) if isinstance(data, str) else None
    return _read_json(path / "manifest.json") if path is not None and path.is_dir() else {}


def _is_date(text: object) -> bool:
    try:
        date.fromisoformat(str(text))
    except ValueError:
        return False
    return True


def _read_json(path: Path) -> dict[str, Any]:
    """Read JSON; a file that is missing or was cut short counts as empty."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
