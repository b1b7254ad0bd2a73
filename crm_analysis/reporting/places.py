"""Where things are: the project's root, its notebooks, and what a path in a plan points to."""

from __future__ import annotations

import os
from pathlib import Path

from crm_analysis.errors import ReportError, listed, near

__all__ = ["find_notebook", "find_root", "notebook_names", "resolve_path"]


def find_root(start: Path) -> Path:
    """Find the project's root: the nearest folder at or above `start` with a pyproject.toml.

    Without one, `start` itself (or the folder it lies in) is the root.
    """
    start = start.resolve()
    folder = start if start.is_dir() else start.parent
    for candidate in (folder, *folder.parents):
        if (candidate / "pyproject.toml").is_file():
            return candidate
    return folder


def notebooks_in(root: Path) -> dict[str, Path]:
    """List the notebooks of a project by name, from `notebooks/` and its folders."""
    folder = root / "notebooks"
    paths = sorted(folder.rglob("*.ipynb")) if folder.is_dir() else sorted(root.glob("*.ipynb"))
    return {
        path.stem: path
        for path in reversed(paths)
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


def notebook_names(root: Path) -> list[str]:
    """Return the names by which the project's notebooks can be asked for."""
    return sorted(notebooks_in(root))


def find_notebook(asked: str, *, root: Path) -> Path:
    """Find a notebook by its name (`retention`) or its path.

    Raises
    ------
    ReportError
        There is no such notebook; the message lists those there are.
    """
    if asked.endswith(".ipynb"):
        path = resolve_path(asked, root=root)
        if path is not None and path.is_file():
            return path
    known = notebooks_in(root)
    if asked in known:
        return known[asked]
    raise ReportError(
        f"There is no notebook {asked!r}{near(asked, known)}. In {root.name}/notebooks there are: "
        f"{listed(sorted(known))}. Pass one of these names, or the path of an .ipynb file."
    )


def resolve_path(text: str, *, root: Path) -> Path | None:
    """Find the file or folder that `text` names, from the root or from here; None if neither."""
    if not text or len(text) > 4096 or "\n" in text or "\0" in text:
        return None
    for base in (root, Path.cwd()):
        path = Path(os.path.normpath(base / text))
        try:
            if path.exists():
                return path
        except OSError:  # longer than a file name may be: plainly not a path
            return None
    return None
