"""Write a closed-form world as data that `crm_analysis.open_warehouse` opens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from crm_analysis.errors import InputError
from synthetic.closed_form.parameters import Cohort, build, values_of
from synthetic.closed_form.schemas import OPEN, SCHEMAS
from synthetic.closed_form.worlds import (
    BLOCK,
    N_CUSTOMERS,
    World,
    find_world,
    generate_blocks,
    table_names,
)
from synthetic.columns import arrow_schema
from synthetic.formats import TableWriter, named_place
from synthetic.places import (
    ENDINGS,
    MAKER,
    MANIFEST,
    TRUTH_FOLDER,
    beside,
    exchange,
    refuse_foreign,
)
from synthetic.progress import Tell, silent

FORMAT = 1
GENERATOR = 1
"""Version of the content: it grows when the same seed gives other data."""

_NOTE = (
    "Invented data in which the model '{world}' is exactly true: no row describes a living person. "
    "Days are rounded up from the exact times, which are in {truth} with the "
    "parameters, every customer's latent rates and the exact expectations."
)


def _file(folder: Path, name: str, ending: str = ENDINGS["parquet"]) -> Path:
    return (folder if name in OPEN else folder / TRUTH_FOLDER) / f"{name}{ending}"


@contextmanager
def _writers(folder: Path, names: Sequence[str]) -> Iterator[dict[str, TableWriter]]:
    (folder / TRUTH_FOLDER).mkdir(parents=True)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                closing(TableWriter(_file(folder, name), name, arrow_schema(name, SCHEMAS[name])))
            )
            for name in names
        }
        yield writers
        for writer in writers.values():
            writer.finish()


def _facts(name: str, parameters: Cohort, n_customers: int, seed: int, kind: str) -> dict[str, Any]:
    truth = "the schema 'truth'" if kind == "duckdb" else "the folder 'truth'"
    return {
        "format": FORMAT,
        "made_by": MAKER,
        "generator": GENERATOR,
        "world": name,
        "seed": seed,
        "as_of": parameters.as_of.isoformat(),
        "starts_on": parameters.starts_on.isoformat(),
        "currency": parameters.currency,
        "n_customers": n_customers,
        "n_dealerships": parameters.n_dealerships,
        "parameters": values_of(parameters),
        "note": _NOTE.format(world=name, truth=truth),
    }


def _put(path: Path, facts: dict[str, Any], tables: dict[str, Any]) -> None:
    text = json.dumps(facts | {"tables": tables}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _write_manifests(made: Path, kind: str, facts: dict[str, Any], rows: Mapping[str, int]) -> None:
    """Write the manifests of a folder (with a hash a file) or the one beside a DuckDB file."""
    if kind == "duckdb":
        tables = {name: {"rows": count} for name, count in rows.items()}
        _put(made.with_suffix(".json"), facts, tables)
        return
    for where, is_open in ((made, True), (made / TRUTH_FOLDER, False)):
        sums: dict[str, Any] = {}
        for name, count in rows.items():
            if (name in OPEN) == is_open:
                with _file(made, name, ENDINGS[kind]).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                sums[name] = {"rows": count, "sha256": digest}
        _put(where / MANIFEST, facts, sums)


def _as_text(folder: Path, names: Iterable[str]) -> None:
    """Replace Parquet files by CSV."""
    for name in names:
        file = _file(folder, name)
        pl.scan_parquet(file).sink_csv(_file(folder, name, ENDINGS["csv"]))
        file.unlink()


def _as_database(folder: Path, names: Iterable[str], made: Path) -> None:
    """Gather Parquet files in one DuckDB file, the truth in a schema of its own."""
    import duckdb

    try:
        with duckdb.connect(str(made)) as connection:
            connection.execute("CREATE SCHEMA truth")
            for name in names:
                rows = connection.read_parquet(str(_file(folder, name)))
                rows.create(name if name in OPEN else f"truth.{name}")
    except duckdb.Error as error:
        raise OSError(str(error)) from error


def _make(
    folder: Path,
    kind: str,
    world: World,
    parameters: Cohort,
    facts: dict[str, Any],
    progress: Tell,
) -> tuple[Path, dict[str, int]]:
    """Make the data set in a folder; return where it is, and rows by table."""
    tables, made = folder / "made", folder / f"made{ENDINGS[kind] if kind == 'duckdb' else ''}"
    rows = _fill(tables, world, parameters, facts, progress)
    if kind == "csv":
        _as_text(tables, rows)
    if kind == "duckdb":
        _as_database(tables, rows, made)
    _write_manifests(made, kind, facts, rows)
    return made, rows


def _fill(
    folder: Path, world: World, parameters: Cohort, facts: dict[str, Any], progress: Tell
) -> dict[str, int]:
    """Write every table as Parquet."""
    total = facts["n_customers"]
    blocks = generate_blocks(world, parameters, n_customers=total, seed=facts["seed"])
    with _writers(folder, table_names(world, parameters)) as writers:
        for part, frames in enumerate(blocks):
            for name, frame in frames.items():
                writers[name].add(frame)
            progress(min(part * BLOCK, total), total)
    return {name: writer.rows for name, writer in writers.items()}


def write_closed_form(
    out: Path | str,
    name: str,
    *,
    n_customers: int = N_CUSTOMERS,
    seed: int,
    force: bool = False,
    progress: Tell = silent,
    kind: str = "parquet",
    settings: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> dict[str, int]:
    """Write a world in which an estimator's model is exactly true, as a folder or DuckDB file.

    The command line's door to these worlds: `settings` may hold text as it was typed.

    Parameters
    ----------
    out : Path or str
        The folder, or the DuckDB file, to make. It appears whole or not at all.
    name : str
        A name of `WORLDS`.
    n_customers, seed : int
        The same seed gives the same bytes.
    force : bool
        Replace what is there even if this generator did not write it.
    progress : callable
        Called with the number of customers done and their total.
    kind : str
        ``"parquet"``, ``"csv"`` or ``"duckdb"``.
    settings : mapping, optional
        Parameters to change, as values or as text: ``{"r": "0.5", "as_of": "2026-06-30"}``.
    **parameters
        The same by keyword.

    Returns
    -------
    dict of str to int
        Rows by table.

    Raises
    ------
    InputError
        Unknown world or parameter, a value outside its range, or `out` holds something else,
        cannot be written to, or the disk is full.
    """
    place, world = named_place(out, kind), find_world(name)
    asked = build(world.kind, {**(settings or {}), **parameters})
    refuse_foreign(place, force=force)
    with beside(place) as folder:
        try:
            facts = _facts(name, asked, n_customers, seed, kind)
            made, rows = _make(folder, kind, world, asked, facts, progress)
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
