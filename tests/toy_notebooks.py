"""Small notebooks for the tests of reporting, written cell by cell."""

from __future__ import annotations

import json
from pathlib import Path

Cell = tuple[str, ...]
"""Kind ("markdown" or "code"), source, and tags."""

PARAMETERS = """\
from typing import Optional
dealership: Optional[str] = None  # one dealership, or the whole network
as_of: str = "2026-06-30"  # last day the data covers
lang: str = "en"  # language of the page
horizon_months: int = 36  # how far the curve goes
"""


def write_notebook(path: Path, cells: list[Cell], *, language: str = "python") -> Path:
    """Write a notebook of these cells."""
    document = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": language}
        },
        "cells": [_cell(f"c{number}", *cell) for number, cell in enumerate(cells)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def _cell(name: str, kind: str, source: str, *tags: str) -> dict[str, object]:
    cell: dict[str, object] = {"cell_type": kind, "id": name, "source": source}
    cell["metadata"] = {"tags": list(tags)} if tags else {}
    if kind == "code":
        cell |= {"outputs": [], "execution_count": None}
    return cell


def write_project(folder: Path) -> Path:
    """Make an empty project: a root with a pyproject.toml, notebooks/ and reports/."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "reports").mkdir()
    (folder / "pyproject.toml").write_text("", encoding="utf-8")
    return folder
