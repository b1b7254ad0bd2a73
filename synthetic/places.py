"""Where a data set may be put: never over something else, and whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crm_analysis.errors import InputError
from synthetic.world import SCHEMAS

MANIFEST = "manifest.json"
TRUTH_FOLDER = "truth"
STAMP = ".checked.json"
"""The mark that the loading door leaves beside data it has checked."""

MAKER = "synthetic"
ENDINGS = {"parquet": ".parquet", "csv": ".csv", "duckdb": ".duckdb"}
"""File endings by format."""


def read_facts(path: Path) -> dict[str, Any]:
    """Return a manifest, empty where there is none that can be read."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def manifest_of(out: Path) -> Path:
    """Return where the manifest of a folder or of a DuckDB file lies."""
    return out / MANIFEST if out.is_dir() else out.with_suffix(".json")


def _known(folder: Path) -> set[Path]:
    from synthetic.closed_form.schemas import SCHEMAS as CLOSED_FORM  # it writes by this module

    inside = {folder / TRUTH_FOLDER}
    every = {*SCHEMAS, *CLOSED_FORM}
    for place in (folder, folder / TRUTH_FOLDER):
        inside |= {place / MANIFEST, place / STAMP}
        inside |= {place / f"{name}{end}" for name in every for end in ENDINGS.values()}
    return inside


def is_ours(out: Path) -> bool:
    """Say whether a folder or file holds nothing but a data set that this generator wrote."""
    if read_facts(manifest_of(out)).get("made_by") != MAKER:
        return False
    if out.is_file():
        return out.suffix == ENDINGS["duckdb"]
    known = _known(out)
    return all(path in known for path in out.rglob("*"))


def refuse_foreign(out: Path, *, force: bool) -> None:
    """Refuse to replace what is not ours, and, even when forced, a folder we are standing in.

    Raises
    ------
    InputError
        `out` is a file, holds something else, or contains the working folder or the home folder.
    """
    if out.suffix == ENDINGS["duckdb"] and not force:
        _refuse_foreign_manifest(out, out.with_suffix(".json"))
    if not out.exists():
        return
    held = [
        folder
        for folder in (Path.cwd(), Path.home())
        if folder.resolve().is_relative_to(out.resolve())
    ]
    if held:
        raise InputError(
            f"The data were to be written to {out}, which contains {held[0]}; replacing it would "
            "delete that. Choose a folder of its own with --out."
        )
    if force or is_ours(out) or (out.is_dir() and not any(out.iterdir())):
        return
    found = "is a file" if out.is_file() else "holds something this generator did not write"
    raise InputError(
        f"The data were to be written to {out}, which {found}. Choose another folder with --out, "
        "or add --force to replace it."
    )


def _refuse_foreign_manifest(out: Path, aside: Path) -> None:
    if aside.exists() and read_facts(aside).get("made_by") != MAKER:
        raise InputError(
            f"The manifest of {out} was to be written to {aside}, which holds something else. "
            "Choose another name with --out, or add --force to replace it."
        )


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out`, and remove it whatever happens."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(
            f"The data were to be written to {out}, and {out.parent} cannot be written to "
            f"({error.strerror}). Choose another folder with --out."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def exchange(made: Path, out: Path, folder: Path) -> None:
    """Put `made` in the place of `out`; what was there goes into the folder to be removed."""
    if out.exists():
        out.replace(folder / f"replaced-{out.name}")
    made.replace(out)
