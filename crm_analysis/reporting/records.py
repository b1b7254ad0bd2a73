"""What became of each run, and `batch.json`, which says it to schedulers and to the next batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crm_analysis.errors import ReportError
from crm_analysis.files import write_whole
from crm_analysis.reporting.pool import Job
from crm_analysis.reporting.runs import Run

if TYPE_CHECKING:
    from crm_analysis.reporting.batch import Batch

__all__ = [
    "MANIFEST",
    "MEMORY",
    "STATUSES",
    "Outcome",
    "failure_page",
    "made_before",
    "manifest",
    "write_json",
]

MANIFEST = "batch.json"
MEMORY = ".memory.json"
STATUSES = ("made", "unchanged", "failed", "waiting")
_FORMAT = 2


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
    older : mapping
        While it waits: the key and the result of the page that lies there from before.
    reported : sequence of mapping
        The key figures last reported for the day before, which the page shows.
    forced : bool
        Whether it is to be made again though nothing has changed.
    """

    run: Run
    status: str
    key: str
    result: Mapping[str, Any] = field(default_factory=dict)
    older: Mapping[str, Any] = field(default_factory=dict)
    reported: Sequence[Mapping[str, Any]] = ()
    forced: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON."""
        said = {"paths": self.run.paths, "status": self.status, "key": self.key, **self.result}
        older = {"older": dict(self.older)} if self.older else {}
        return {**self.run.to_json(), **said, **older}


def manifest(batch: Batch, *, running: bool) -> dict[str, Any]:
    """Say how a batch went, or stands while it is `running`, as plain JSON."""
    return {
        "format": _FORMAT,
        "title": batch.title,
        "plan": batch.plan,
        "batch": batch.identity,
        **{status: batch.count(status) for status in STATUSES},
        "running": running,
        "interrupted": batch.interrupted,
        "stopped": batch.stopped,
        "notes": list(batch.notes),
        "exit_status": batch.exit_status,
        "seconds": round(batch.seconds, 3),
        "runs": [outcome.to_json() for outcome in batch.outcomes],
    }


def made_before(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by path the key and the result of every page that an earlier batch has made."""
    if document.get("format") != _FORMAT:
        return {}
    own = {*Run.__dataclass_fields__, "paths", "status", "older"}
    found = {}
    for run in document.get("runs", []):
        held = run if run["status"] in ("made", "unchanged") else run.get("older")
        if held:
            found[run["path"]] = {name: held[name] for name in held if name not in own}
    return found


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON so that it is there whole, or as it was before."""
    write_whole(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def failure_page(job: Job, failure: Mapping[str, Any], *, root: Path) -> dict[str, Any]:
    """Write the page and the PDF of a report whose worker was lost, and could not write them.

    Returns
    -------
    dict
        What an index says of the report: its `title` and `as_of`.

    Raises
    ------
    OSError
        They could not be written.
    """
    from crm_analysis.reporting.beside import put_beside
    from crm_analysis.reporting.execute import Failure
    from crm_analysis.reporting.messages import translate_notebook
    from crm_analysis.reporting.render import Facts, make_exporter, render_failure
    from crm_analysis.wording import speaking

    run, facts, said = job.run, Facts.from_json(job.facts), Failure(**failure)
    notebook = _as_written(root / run.notebook)
    with speaking(run.lang):
        translate_notebook(notebook)  # its title stands over the failure
        printed = _printed(notebook, run, facts, said) if "pdf" in run.formats else None
        shown = facts if printed is not None else facts.without_pdf()
        page = render_failure(notebook, run, shown, said, make_exporter())
    put_beside(job.path, {})
    if "html" in run.formats or printed is None:
        write_whole(job.path, page.html)
    if printed is not None:
        write_whole(job.path.with_suffix(".pdf"), printed)
    else:  # one of a time when it could be made would mislead
        job.path.with_suffix(".pdf").unlink(missing_ok=True)
    return page.summary


def _as_written(path: Path) -> Any:
    """Read a notebook from its file; one that cannot be read has nothing to say."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError):
        return nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]


def _printed(notebook: Any, run: Run, facts: Any, failure: Any) -> bytes | None:
    from crm_analysis.reporting.pdf import Press

    try:
        return Press().failure(notebook, run, facts, failure)
    except ReportError:
        return None
