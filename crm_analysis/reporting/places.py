"""Where things are: the project's root, its notebooks, and what a path in a plan points to."""

from __future__ import annotations

import os
from pathlib import Path

from crm_analysis.errors import ReportError, listed, near

__all__ = ["find_notebook", "find_root", "may_be_path", "notebook_names", "resolve_path"]

_WORDS_OF_PATHS = {"data", "file", "folder", "path"}
_NEVER_PATHS = {"dealership", "lang"}


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


def may_be_path(name: str, value: object) -> bool:
    """Whether a parameter may name a file or folder: by its own name, or by a slash in its value.

    Any other word is a word, also where a folder of that name happens to be: ``lang = "en"``.

    Examples
    --------
    >>> may_be_path("data", "small"), may_be_path("prices_file", "p.csv"), may_be_path("lang", "en")
    (True, True, False)
    >>> may_be_path("costs", "tables/costs.csv"), may_be_path("dealership", "North/South")
    (True, False)
    """
    if not isinstance(value, str) or name in _NEVER_PATHS:
        return False
    slashed = "/" in value or os.sep in value
    return slashed or not _WORDS_OF_PATHS.isdisjoint(name.split("_"))


def resolve_path(text: str, *, root: Path, beside: Path | None = None) -> Path | None:
    """Find the file or folder that `text` names; None where there is none.

    It is looked for from the root, from here, and from the folder `beside` which a notebook lies,
    where its own defaults are read from.
    """
    if not text or len(text) > 4096 or "\n" in text or "\0" in text:
        return None
    for base in (root, Path.cwd(), *([] if beside is None else [beside])):
        path = Path(os.path.normpath(base / text))
        try:
            if path.exists():
                return path
        except OSError:  # longer than a file name may be: plainly not a path
            return None
    return None
