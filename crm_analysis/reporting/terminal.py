"""What a batch says in a terminal: its runs as a table, its progress, its summary."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crm_analysis.reporting.batch import Batch, Outcome
from crm_analysis.reporting.making import make_batch
from crm_analysis.reporting.pool import cores
from crm_analysis.reporting.runs import Run

_IN_PATH = {"dealership", "lang"}
"""Parameters that the path of the page says already."""

_WHOLE = 1_000
"""Letters to a line where no window bounds it."""

_STEPS = 10
"""How often a batch whose progress goes into a file says how far it is."""

__all__ = ["list_runs", "make_with_progress", "reason", "tell"]


def list_runs(batch: Batch, out: Console) -> None:
    """Show every report that a plan asks for, and whether it would be made."""
    table = Table(box=None, pad_edge=False)
    for heading in ("page", "formats", "notebook", "parameters", ""):
        table.add_column(heading, overflow="fold")
    for outcome in batch.outcomes:
        run = outcome.run
        values = ", ".join(
            f"{name}={value!r}" for name, value in run.parameters.items() if name not in _IN_PATH
        )
        texts = (run.path, " ".join(run.formats), run.notebook, values, _state(batch, outcome))
        table.add_row(*map(escape, texts))
    # Into a file or a pipe the rows go whole: a path that is broken in two cannot be searched for.
    wide = out if out.is_terminal else Console(file=out.file, width=_WHOLE, highlight=False)
    wide.print(table)
    made, unchanged = len(batch.unfinished), batch.count("unchanged")
    left = batch.count("waiting") - made
    text = f"{made} to make, {unchanged} unchanged" + (f", {left} left out" if left else "")
    seconds = batch.pace.left([o.run for o in batch.unfinished], cores())
    out.print(f"{text}{f'; {_about(seconds)}' if seconds else ''}.")
    for note in batch.notes:
        out.print(escape(note), soft_wrap=True)


def runs_document(batch: Batch) -> dict[str, Any]:
    """Return what `list_runs` shows as plain JSON."""
    return {
        "title": batch.title,
        "plan": batch.plan,
        "out": str(batch.out),
        "to_make": len(batch.unfinished),
        "unchanged": batch.count("unchanged"),
        "runs": [
            {**o.run.to_json(), "paths": o.run.paths, "state": _state(batch, o)}
            for o in batch.outcomes
        ],
    }


def _state(batch: Batch, outcome: Outcome) -> str:
    if outcome.status == "unchanged":
        return "unchanged"
    return "to make" if batch.is_to_make(outcome) else "left out"


def make_with_progress(batch: Batch, workers: int | None, err: Console, *, isolate: bool) -> None:
    """Make a batch, showing how far it is and how long it will take yet."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
    )

    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}"),
    )
    total = len(batch.unfinished)
    crew = min(workers or cores(), total)
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=total, left="")

        def left() -> str:
            seconds = batch.pace.left([outcome.run for outcome in batch.unfinished], crew)
            return "" if seconds is None else _about(seconds)

        def ended(outcome: Outcome) -> None:
            if outcome.status == "failed":
                path = escape(outcome.run.path)
                bar.console.print(f"[red]failed[/]  {path}  {escape(reason(outcome))}")
            bar.update(task, advance=1, left=left())
            if not err.is_terminal:
                _note(err, total - len(batch.unfinished), total, left())

        def begun(run: Run) -> None:
            bar.update(task, description=escape(run.path), left=left())

        make_batch(batch, workers=workers, isolate=isolate, progress=ended, started=begun)


def _note(err: Console, done: int, total: int, left: str) -> None:
    """Write a line into a log, which shows no moving bar, at every tenth of a batch."""
    if done < total and done * _STEPS // total > (done - 1) * _STEPS // total:
        err.print(f"{done} of {total} reports{f'; {left} left' if left else ''}", soft_wrap=True)


def _about(seconds: float) -> str:
    """Write a length of time as a person would say it.

    Examples
    --------
    >>> _about(4), _about(75), _about(4000)
    ('about 5 s', 'about 1 min 15 s', 'about 1 h 7 min')
    """
    whole = max(5 * round(seconds / 5), 5)
    if whole < 60:
        return f"about {whole} s"
    if whole < 3600:
        return f"about {whole // 60} min {whole % 60} s"
    return f"about {whole // 3600} h {round(whole % 3600 / 60)} min"


def reason(outcome: Outcome) -> str:
    """Return why a report could not be made, and in which cell."""
    failure = outcome.result.get("failure") or {}
    where = f"Cell {failure['cell']}: " if failure.get("cell") else ""
    return where + str(failure.get("message", ""))


def tell(batch: Batch, out: Console) -> None:
    """Say how a batch went, and where its index is."""
    made, unchanged = batch.count("made"), batch.count("unchanged")
    failed, waiting = batch.count("failed"), batch.count("waiting")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("made", f"[bold]{made}[/]")
    table.add_row("unchanged", f"[bold]{unchanged}[/]")
    table.add_row("failed", f"[bold{' red' if failed else ''}]{failed}[/]")
    if waiting:
        table.add_row("not made", f"[bold]{waiting}[/]")
    out.print(table)
    if not (made or failed or waiting):
        out.print("Nothing has changed since the last batch, so nothing was made.")
    for outcome in batch.outcomes:
        if outcome.status == "failed":
            out.print(f"  {escape(outcome.run.path)}: {escape(reason(outcome))}", soft_wrap=True)
    for note in (*batch.notes, *([batch.stopped] if batch.stopped else [])):
        out.print(escape(note), soft_wrap=True)
    if batch.interrupted:
        out.print("Interrupted. What was made is kept; the same command makes the rest.")
    seconds = f" in {batch.seconds:.1f} s" if made or failed else ""
    index = batch.out / "index.html"
    if index.is_file():
        out.print(f"{escape(str(index))}{seconds}", soft_wrap=True)
