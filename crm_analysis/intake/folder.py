"""The data folder that an intake leaves: Parquet, keys and a manifest, all or nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from crm_analysis.errors import InputError
from crm_analysis.files import check_writable
from crm_analysis.intake.audits import run_audits
from crm_analysis.intake.described import Intake
from crm_analysis.intake.findings import Finding, is_routine, merged, sentence
from crm_analysis.intake.mapping import read_mapping
from crm_analysis.intake.reading import find_file, read_sources
from crm_analysis.intake.tables import Made, make_tables, personal_columns
from crm_analysis.wording import speaking

__all__ = ["is_current", "take_in"]

MANIFEST = "manifest.json"


def take_in(mapping: str | Path, out: str | Path, *, force: bool = False) -> Path:
    """Take a dealership's own export into a data folder that `open_warehouse` opens.

    Parameters
    ----------
    mapping : path
        A mapping file (TOML): which columns of which files become which of ours.
    out : path
        The folder to make. It is written beside its place and moved there when it is whole, so
        an interrupted run leaves nothing, and a failed one leaves the folder of before.
    force : bool
        Make it again though nothing changed, or over a folder that no intake made.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        The mapping or the export cannot be used: what was asked, what was found, what to do.
    SchemaError
        The tables made break a rule of ours.
    """
    target = Path(out)
    intake = read_mapping(Path(mapping))
    _check_target(target, force=force)
    check_writable(
        target.parent,
        what="The tables were",
        remedy="name another folder with --out",
        refusal=InputError,
    )
    if not force and _inputs_of(target) == _inputs(intake):
        return target
    frames, findings = read_sources(intake, personal_columns(intake))
    made, spaces = make_tables(intake, frames)
    findings += [finding for table in made.values() for finding in table.findings]
    findings += run_audits(intake, frames)
    findings = merged([*(Finding("caution", words) for words in intake.cautions), *findings])
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(partial, intake, frames, made, spaces, findings)
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def is_current(mapping: str | Path, out: str | Path) -> bool:
    """Return whether a folder was made from this very mapping, these files and this code."""
    return _inputs_of(Path(out)) == _inputs(read_mapping(Path(mapping)))


def _check_target(target: Path, *, force: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    manifest = _manifest(target)
    if "intake" in manifest or (force and manifest.get("format") == 1):
        return
    advice = (
        "Pass force (--force) to replace it"
        if manifest.get("format") == 1
        else "It holds no data of ours and is never replaced"
    )
    raise InputError(
        f"The folder {target} exists and was not made by an intake. {advice}, or name another."
    )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _inputs_of(folder: Path) -> str | None:
    manifest = _manifest(folder)
    taken, tables = manifest.get("intake"), manifest.get("tables")
    if not isinstance(taken, dict) or not isinstance(tables, dict):
        return None
    whole = all((folder / f"{name}.parquet").is_file() for name in tables)
    return taken.get("inputs") if whole else None


def _inputs(intake: Intake) -> str:
    """Return one hash of everything that decides the folder's bytes."""
    package = Path(__file__).resolve().parent
    paths = [intake.path, *(find_file(s, intake.path) for s in intake.sources.values())]
    paths += [*sorted(package.glob("*.py")), package.parent / "schema.py"]
    digest = hashlib.sha256(pl.__version__.encode())
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _write(
    folder: Path,
    intake: Intake,
    frames: Mapping[str, pl.DataFrame],
    made: Mapping[str, Made],
    spaces: Mapping[str, Mapping[str, int]],
    findings: list[Finding],
) -> None:
    tables = {}
    for name, item in made.items():
        path = folder / f"{name}.parquet"
        item.table.write_parquet(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        tables[name] = {"rows": item.table.height, "sha256": digest}
    _write_keys(folder / "keys", spaces)
    manifest = {
        "format": 1,
        "as_of": intake.as_of.isoformat(),
        "seed": None,
        "preset": None,
        "currency": intake.currency,
        "locale": None,
        "tables": tables,
        "intake": _report(intake, frames, made, findings),
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")


def _write_keys(folder: Path, spaces: Mapping[str, Mapping[str, int]]) -> None:
    """Write which number stands for which key of the export, so that a row can be traced."""
    if not spaces:
        return
    folder.mkdir()
    for space, known in spaces.items():
        table = pl.DataFrame(
            {"id": list(known.values()), "key": list(known)},
            schema={"id": pl.Int64, "key": pl.String},
        )
        table.write_parquet(folder / f"{space}.parquet")


def _report(
    intake: Intake,
    frames: Mapping[str, pl.DataFrame],
    made: Mapping[str, Made],
    findings: list[Finding],
) -> dict[str, Any]:
    with speaking("en"):
        cautions = [sentence(finding) for finding in findings if not is_routine(finding)]
    return {
        "title": intake.title,
        "origin": intake.origin,
        "licence": intake.licence,
        "inputs": _inputs(intake),
        "sources": {
            name: {"file": source.file, "rows": frames[name].height}
            for name, source in intake.sources.items()
        },
        "tables": {
            name: {
                "rows_read": item.rows_read,
                "rows_kept": item.table.height,
                "left_out": [{"reason": reason, "rows": n} for reason, n in item.left_out],
                "nulls": _nulls(item.table),
            }
            for name, item in made.items()
        },
        "cautions": cautions,
        "findings": [finding.to_json() for finding in findings],
    }


def _nulls(table: pl.DataFrame) -> dict[str, int]:
    counts = table.null_count().row(0, named=True)
    return {name: n for name, n in counts.items() if n}


def _put_in_place(partial: Path, target: Path) -> None:
    """Move the whole folder to its place; what stood there goes only when the new one stands."""
    partial.chmod(0o755)
    if not target.exists():
        partial.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old / target.name)
    try:
        partial.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
