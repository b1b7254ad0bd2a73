"""A researcher's desk: a notebook to start from, and JupyterLab in the right folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.files import write_whole
from crm_analysis.reporting.places import find_notebook

__all__ = ["new_notebook", "open_lab"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_HEADING = re.compile(r"^# .*$", re.MULTILINE)
_LONGEST_ID = 64


def new_notebook(
    name: str, *, like: str, title: str | None, root: Path, for_students: bool = False
) -> Path:
    """Copy a notebook to start from, and return where the copy lies.

    The copy has ids of its own, no outputs, and the title.

    Parameters
    ----------
    name : str
        Small letters, digits and underscores: it becomes the page's name too.
    like : str
        Name or path of the notebook to copy.
    title : str, optional
        The question that it answers; without it, its name in words, or the lesson's own title
        for students.
    root : Path
        The project's root.
    for_students : bool
        Whether to leave the cells tagged ``solution`` out; the lesson keeps them.

    Raises
    ------
    ReportError
        A name that cannot be one, one that is taken, no notebook to copy, or no solution to
        leave out.
    """
    if not _NAME.fullmatch(name):
        raise ReportError(
            f"A notebook was to be called {name!r}. A name has small letters, digits and "
            "underscores and begins with a letter, as in 'price_lists': pages and metrics are "
            "found by it."
        )
    source = find_notebook(like, root=root)
    target = root / "notebooks" / f"{name}.ipynb"
    if target.exists():
        raise ReportError(
            f"A notebook {name!r} is there already: {target}. Choose another name, or move that "
            "one away; nothing was changed."
        )
    try:
        document = json.loads(source.read_text(encoding="utf-8"))
        cells = document["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"The notebook {source} cannot be read: it is damaged.") from error
    kept = _without_solutions(cells, source) if for_students else cells
    document["cells"] = [_fresh(cell, number, name) for number, cell in enumerate(kept, 1)]
    document["nbformat"], document["nbformat_minor"] = 4, 5  # from here on cells have ids
    if title or not for_students:
        _retitle(document["cells"], title or name.replace("_", " ").capitalize())
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    write_whole(target, text)
    return target


def _without_solutions(cells: list[dict[str, Any]], source: Path) -> list[dict[str, Any]]:
    kept = [cell for cell in cells if "solution" not in cell.get("metadata", {}).get("tags", [])]
    if len(kept) == len(cells):
        raise ReportError(
            f"A copy of {source.name} for students was asked for, and none of its cells has the "
            "tag 'solution': there is nothing to leave out. Take a lesson of notebooks/teaching, "
            "or tag the cells that hold the answers."
        )
    return kept


def _fresh(cell: dict[str, Any], number: int, name: str) -> dict[str, Any]:
    tags = cell.get("metadata", {}).get("tags")
    own = f"{name}-{cell.get('id', number)}"[:_LONGEST_ID]
    copy = {**cell, "id": own, "metadata": {"tags": tags} if tags else {}}
    if cell.get("cell_type") == "code":
        copy |= {"outputs": [], "execution_count": None}
    return copy


def _retitle(cells: list[dict[str, Any]], title: str) -> None:
    line = "# " + " ".join(title.split())
    for cell in cells:
        text = "".join(cell.get("source", ""))
        if cell.get("cell_type") == "markdown" and _HEADING.search(text):
            cell["source"] = _HEADING.sub(lambda _old: line, text, count=1).splitlines(True)
            return


def open_lab(notebook: str | None, *, root: Path, options: list[str]) -> int:
    """Start JupyterLab in the project's root and wait for it; return its exit status.

    Parameters
    ----------
    notebook : str, optional
        Name or path of the notebook to open.
    root : Path
    options : list of str
        Passed on to JupyterLab, such as ``--no-browser``.

    Raises
    ------
    ReportError
        No such notebook, or JupyterLab is not installed.
    """
    shown = [] if notebook is None else [find_notebook(notebook, root=root)]
    if find_spec("jupyterlab") is None:
        raise ReportError(
            "JupyterLab is not installed in this environment: reports do not need it. Run "
            "'python run.py lab' in the project's folder, which installs and opens it, or install "
            "it with: python -m pip install 'crm-dealership-analysis[lab]'."
        )
    files = [path.relative_to(root) if path.is_relative_to(root) else path for path in shown]
    folder = f"--ServerApp.root_dir={root}"
    command = [sys.executable, "-m", "jupyterlab", folder, *options, *map(str, files)]
    return subprocess.run(command, cwd=root, check=False).returncode  # noqa: S603
