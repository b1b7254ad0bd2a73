"""Write a world to a folder: same seed, same bytes, and nothing half-made is left behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from crm_analysis.errors import InputError
from crm_analysis.schema import TABLES
from synthetic.config import Config, find_preset
from synthetic.formats import (
    ROW_GROUP,
    TableWriter,
    add_frames,
    file_of,
    named_place,
    open_writers,
)
from synthetic.places import (
    ENDINGS,
    MAKER,
    MANIFEST,
    STAMP,
    TRUTH_FOLDER,
    beside,
    exchange,
    is_ours,
    refuse_foreign,
)
from synthetic.progress import silent
from synthetic.settings import changed_settings, with_settings
from synthetic.truth import TRUTH_TABLES
from synthetic.vocabulary import load_vocabulary
from synthetic.workers import generate_with
from synthetic.world import Frames, generate

FORMAT = 1
GENERATOR = 3
"""Version of the content: it grows when the same seed gives other data."""

_NOTE = (
    "Invented data of an invented network: no row describes a living person. Locale en_US has "
    "English names and US dollars, so that pages in English show no Cyrillic; ru_RU has Russian "
    "names and roubles. The truth that made the data is in {truth}."
)

__all__ = [
    "FORMAT",
    "GENERATOR",
    "MANIFEST",
    "ROW_GROUP",
    "STAMP",
    "TRUTH_FOLDER",
    "TableWriter",
    "is_ours",
    "parts_of",
    "refuse_foreign",
    "write_network",
]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(config: Config, seed: int, kind: str) -> dict[str, Any]:
    truth = "the schema 'truth'" if kind == "duckdb" else "the folder 'truth'"
    return {
        "format": FORMAT,
        "made_by": MAKER,
        "generator": GENERATOR,
        "preset": config.preset,
        "seed": seed,
        "as_of": config.as_of.isoformat(),
        "starts_on": config.starts_on.isoformat(),
        "locale": config.locale,
        "currency": config.currency,
        "n_customers": config.n_customers,
        "n_dealerships": config.n_dealerships,
        "defects": config.defects,
        "settings": changed_settings(config),
        "vocabulary_sha256": load_vocabulary(config.locale).sha256,
        "note": _NOTE.format(truth=truth),
    }


def _put(path: Path, facts: dict[str, Any], tables: dict[str, Any]) -> None:
    text = json.dumps(facts | {"tables": tables}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _write_manifest(made: Path, kind: str, facts: dict[str, Any], rows: dict[str, int]) -> None:
    """Write the manifests of a folder (with a hash a file) or the one beside a DuckDB file."""
    if kind == "duckdb":
        _put(made.with_suffix(".json"), facts, {name: {"rows": n} for name, n in rows.items()})
        return
    ending = ENDINGS[kind]
    sums = {
        name: {"rows": n, "sha256": _digest(file_of(made, name, ending))}
        for name, n in rows.items()
    }
    for where, names in ((made, TABLES), (made / TRUTH_FOLDER, TRUTH_TABLES)):
        _put(where / MANIFEST, facts, {name: sums[name] for name in names})


def parts_of(config: Config, seed: int, workers: int) -> Iterator[Frames]:
    """Yield the parts of a world, made in one process or in several."""
    return generate(config, seed) if workers == 1 else generate_with(config, seed, workers)


def _fill(
    made: Path,
    config: Config,
    seed: int,
    *,
    kind: str,
    workers: int,
    progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Write every table into `made`; return rows by table."""
    with ExitStack() as stack:
        writers = stack.enter_context(open_writers(made, kind))
        pool = None
        if workers > 1 and kind != "duckdb":
            pool = stack.enter_context(ThreadPoolExecutor(workers))
        for part, frames in enumerate(parts_of(config, seed, workers)):
            with_customers = "customers" in frames
            add_frames(writers, frames, pool)
            if with_customers:
                progress(min(part * config.block_size, config.n_customers), config.n_customers)
    rows = {name: writer.rows for name, writer in writers.items()}
    _write_manifest(made, kind, _facts(config, seed, kind), rows)
    return rows


def _check_workers(workers: int) -> None:
    if workers < 1:
        raise InputError(
            f"{workers} workers were asked for. Ask for one or more: one a core is a good number."
        )


def write_network(
    out: Path | str,
    *,
    preset: str = "small",
    seed: int,
    force: bool = False,
    progress: Callable[[int, int], None] = silent,
    workers: int = 1,
    kind: str = "parquet",
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, int]:
    """Generate a world into a folder of files (or a DuckDB file), with its truth inside.

    Parameters
    ----------
    out : Path or str
        The folder, or the DuckDB file, to make. It appears whole or not at all.
    preset : str
        One of `synthetic.PRESETS`.
    seed : int
        The same seed gives the same bytes.
    force : bool
        Replace what is there even if this generator did not write it.
    progress : callable
        Called with the number of customers done and their total.
    workers : int
        Processes that make the world; the bytes do not depend on it. More than one needs a program
        that can be imported (a script with ``if __name__ == "__main__":``, or a notebook).
    kind : str
        ``"parquet"``, ``"csv"`` or ``"duckdb"``.
    settings : dict, optional
        Settings to change by their full names, e.g. ``{"relation.hazard": 0.1}``.
    **changes
        Fields of `Config` to change, e.g. ``locale="ru_RU"``.

    Returns
    -------
    dict of str to int
        Rows by table.

    Raises
    ------
    InputError
        Unknown preset, setting or format; a setting out of its range; or `out` holds something
        else, cannot be written to, or the disk is full.
    """
    place = named_place(out, kind)
    _check_workers(workers)
    config = with_settings(find_preset(preset, **changes), settings or {})
    refuse_foreign(place, force=force)
    with beside(place) as folder:
        made = folder / f"made{ENDINGS['duckdb'] if kind == 'duckdb' else ''}"
        try:
            rows = _fill(made, config, seed, kind=kind, workers=workers, progress=progress)
            exchange(made, place, folder)
            if kind == "duckdb":
                exchange(made.with_suffix(".json"), place.with_suffix(".json"), folder)
        except OSError as error:
            raise InputError(
                f"The data were being written beside {place}, and the system refused "
                f"({error.strerror or error}). Nothing was left there. Free some space, or choose "
                "another folder with --out."
            ) from error
    return rows
