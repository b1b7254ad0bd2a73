"""One notebook, one set of parameters, strictly: executed by papermill in a warm kernel."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crm_analysis.reporting.kernel import ENGINE, Kernel
from crm_analysis.reporting.messages import translate_notebook
from crm_analysis.reporting.places import may_be_path, resolve_path
from crm_analysis.reporting.runs import Run
from crm_analysis.wording import _

__all__ = ["Failure", "execute"]

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LINE = re.compile(r"Cell In\s*\[\d+\], line (\d+)|<cell line: (\d+)>")
_CELL_PLACE = re.compile(r" \(\d+\.py, line \d+\)$")
"""Where a SyntaxError stands, in a file of the kernel's own; the page says the cell and line."""

_OURS = ("CrmError", "InputError", "ColumnError", "SchemaError", "NotConvergedError", "ReportError")


@dataclass(frozen=True)
class Failure:
    """Why a report could not be made, and where it stopped.

    Attributes
    ----------
    kind : {"cell", "timeout", "kernel", "disk", "worker"}
    message : str
        What happened, in plain words.
    advice : str
        What to do next.
    cell, cells : int or None
        Number of the cell that failed (from 1, as in the notebook's file), and of all cells.
    line : int or None
        Line of that cell.
    source : str
        The cell's code.
    details : str
        The technical trace.
    """

    kind: str
    message: str
    advice: str
    cell: int | None = None
    cells: int | None = None
    line: int | None = None
    source: str = ""
    details: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the failure as plain JSON."""
        return asdict(self)


def execute(run: Run, kernel: Kernel, *, root: Path) -> tuple[Any, Failure | None]:
    """Execute a run's notebook.

    Its markdown is put into the language spoken now (`wording.speaking`) before it starts. The
    kernel was made ready to stand in the notebook's own folder, as JupyterLab does; paths among
    the parameters, which a plan writes from the project's root, are turned to be read from there.

    Returns
    -------
    (NotebookNode, Failure or None)
        The notebook with its outputs, as far as it got.
    """
    import nbformat
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    path = root / run.notebook
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    executed = _without_outputs(notebook)
    translate_notebook(notebook)
    kernel.cell_index = None
    try:
        executed = execute_notebook(
            executed,
            None,
            parameters=_seen_from(path.parent, run, root),
            engine_name=ENGINE,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel=kernel,
            timeout_seconds=run.timeout_seconds,
        )
    except PapermillExecutionError as error:
        return executed, _cell_failure(run, notebook, error)
    except CellTimeoutError:
        return executed, _timeout_failure(run, notebook, kernel.cell_index)
    except DeadKernelError:
        return executed, _death_failure(run, notebook, kernel.cell_index)
    # papermill takes sys.exit() for a good end; a page that lacks its second half is none.
    if any(_is_exit(cell) for cell in executed.cells):
        return executed, _exit_failure(run, notebook, kernel.cell_index)
    return executed, None


def _is_exit(cell: Any) -> bool:
    allowed = "raises-exception" in cell.metadata.get("tags", [])
    return not allowed and any(
        output.output_type == "error" and output.ename == "SystemExit"
        for output in cell.get("outputs", [])
    )


def _without_outputs(notebook: Any) -> Any:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    return notebook


def _seen_from(folder: Path, run: Run, root: Path) -> dict[str, Any]:
    return {
        name: _path_seen_from(folder, str(value), root) if may_be_path(name, value) else value
        for name, value in run.parameters.items()
    }


def _path_seen_from(folder: Path, value: str, root: Path) -> str:
    found = resolve_path(value, root=root)
    if found is None or Path(value).is_absolute():
        return value
    try:
        return Path(os.path.relpath(found, folder)).as_posix()
    except ValueError:  # another drive
        return str(found)


def _cell_failure(run: Run, notebook: Any, error: Any) -> Failure:
    trace = _ANSI.sub("", "\n".join(error.traceback or []))
    number = _original_number(run, notebook, error.cell_index)
    ours = error.ename in _OURS
    value = _CELL_PLACE.sub("", _ANSI.sub("", error.evalue))
    return Failure(
        kind="cell",
        message=value if ours else _in_words(error.ename, value),
        advice="" if ours else _advice(run),
        cell=number,
        cells=len(notebook.cells),
        line=_line(trace),
        source=error.source,
        details=trace,
    )


def _in_words(name: str, value: str) -> str:
    """Say an exception of Python's in words a reader of reports can use."""
    if name == "KeyError":
        return _("Something was looked up by a name that is not there: {name}.", name=value)
    if name in ("SystemExit", "MemoryError"):
        return _exit_words() if name == "SystemExit" else _("The computer ran out of memory.")
    if name == "StdinNotImplementedError":
        return _("The notebook asks for something to be typed, and nobody is there to type it.")
    words = {
        "FileNotFoundError": _("A file or folder is not there. {detail}", detail=value),
        "ModuleNotFoundError": _missing_package(value),
        "ImportError": _missing_package(value),
        "NameError": _("The notebook uses a name it has not set. {detail}", detail=value),
    }
    if name in words:
        return words[name]
    return _("The computation stopped with {name}: {detail}", name=name, detail=value or "–")


def _exit_words() -> str:
    return _("The notebook ended itself before its last cell (sys.exit).")


def _missing_package(detail: str) -> str:
    return _("A package the notebook needs is not installed. {detail}", detail=detail)


def _timeout_failure(run: Run, notebook: Any, index: int | None) -> Failure:
    return _stopped(
        "timeout",
        _(
            "The report was not finished after {seconds} seconds and was given up.",
            seconds=f"{run.timeout_seconds:g}",
        ),
        _("Raise timeout_seconds in the plan, or look for a cell that does not end."),
        run,
        notebook,
        index,
    )


def _death_failure(run: Run, notebook: Any, index: int | None) -> Failure:
    return _stopped(
        "kernel",
        _("The process that computes the report ended by itself; often it ran out of memory."),
        _("Try with fewer workers, or with less data."),
        run,
        notebook,
        index,
    )


def _exit_failure(run: Run, notebook: Any, index: int | None) -> Failure:
    return _stopped(
        "cell",
        _exit_words(),
        _("Take the call out, or raise an error that says what is missing."),
        run,
        notebook,
        index,
    )


def _stopped(
    kind: str, message: str, advice: str, run: Run, notebook: Any, index: int | None
) -> Failure:
    number = None if index is None else _original_number(run, notebook, index)
    source = notebook.cells[number - 1].source if number else ""
    return Failure(kind, message, advice, number, len(notebook.cells), source=source)


def _advice(run: Run) -> str:
    return _(
        "Open {notebook} in JupyterLab, put in the parameters below and run its cells in order.",
        notebook=run.notebook,
    )


def _original_number(run: Run, notebook: Any, index: int) -> int:
    """Number a cell as in the notebook's file: papermill puts one more in for parameters."""
    if not run.parameters:
        return index + 1
    tagged = [
        i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])
    ]
    injected = tagged[0] + 1 if tagged else 0
    return max(1, index if index >= injected else index + 1)


def _line(trace: str) -> int | None:
    found = _LINE.search(trace)
    return int(found.group(1) or found.group(2)) if found else None
