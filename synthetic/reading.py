"""Open a data set of ours again: a folder of Parquet or CSV files, or one DuckDB file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import polars as pl

from crm_analysis.errors import InputError, listed
from crm_analysis.schema import TABLES
from synthetic.closed_form.schemas import SCHEMAS as CLOSED_FORM
from synthetic.formats import file_of
from synthetic.places import ENDINGS, MANIFEST, TRUTH_FOLDER, read_facts
from synthetic.world import SCHEMAS

if TYPE_CHECKING:
    import dataframely as dy

DATABASE_ENDINGS = (".duckdb", ".db", ".ddb")

EVERY: Mapping[str, type[dy.Schema]] = MappingProxyType({**SCHEMAS, **CLOSED_FORM})
"""Tables that a data set of ours may hold: the network's and those of the closed-form worlds."""


@dataclass(frozen=True)
class DataSet:
    """Tables of ours, unread.

    Attributes
    ----------
    path : Path
        Folder or DuckDB file.
    kind : str
        ``"parquet"``, ``"csv"`` or ``"duckdb"``.
    tables, truth : mapping of str to polars.LazyFrame
        Open tables and truth tables that are there.
    facts : mapping
        What the manifest says; empty without one.
    """

    path: Path
    kind: str
    tables: Mapping[str, pl.LazyFrame]
    truth: Mapping[str, pl.LazyFrame]
    facts: Mapping[str, Any]

    @property
    def everything(self) -> dict[str, pl.LazyFrame]:
        """Return open and truth tables together."""
        return {**self.tables, **self.truth}

    def sums(self) -> dict[str, dict[str, Any]]:
        """Return what the manifests say of each table: rows, and the file's hash."""
        found: dict[str, dict[str, Any]] = dict(self.facts.get("tables", {}))
        if self.path.is_dir():
            found |= read_facts(self.path / TRUTH_FOLDER / MANIFEST).get("tables", {})
        return found

    def file(self, name: str) -> Path:
        """Return the file of a table."""
        return file_of(self.path, name, ENDINGS[self.kind]) if self.path.is_dir() else self.path


def open_data(path: Path | str) -> DataSet:
    """Open a data set.

    Parameters
    ----------
    path : Path or str
        A folder of Parquet or CSV files, or a DuckDB file.

    Returns
    -------
    DataSet
        The tables of ours that are there, and the truth when it is beside them.

    Raises
    ------
    InputError
        There is nothing there, or no table of ours.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(
            f"The data {place} were asked for, and there is nothing there. Pass a folder or a "
            "DuckDB file, or make one with 'python -m synthetic generate'."
        )
    frames, kind = _folder(place) if place.is_dir() else _database(place)
    if not frames:
        inside = listed(sorted(p.name for p in place.iterdir())) if place.is_dir() else "none"
        raise InputError(
            f"Tables of a dealership network were asked for in {place}, and it holds {inside}. "
            f"Pass a folder with some of: {listed(f'{name}.parquet' for name in TABLES)}."
        )
    facts = read_facts(place / MANIFEST if place.is_dir() else place.with_suffix(".json"))
    return DataSet(
        path=place,
        kind=kind,
        tables={name: frame for name, frame in frames.items() if not name.startswith("truth_")},
        truth={name: frame for name, frame in frames.items() if name.startswith("truth_")},
        facts=facts,
    )


def _folder(place: Path) -> tuple[dict[str, pl.LazyFrame], str]:
    for kind in ("parquet", "csv"):
        files = {name: file_of(place, name, ENDINGS[kind]) for name in EVERY}
        there = {name: file for name, file in files.items() if file.exists()}
        if there:
            scan = pl.scan_parquet if kind == "parquet" else _scan_text
            return {name: scan(file) for name, file in there.items()}, kind
    return {}, "parquet"


def _scan_text(file: Path) -> pl.LazyFrame:
    """Read a CSV file in the types of its table; columns that are not ours stay text."""
    columns = EVERY[file.stem].columns()
    frame = pl.scan_csv(file, infer_schema=False)
    names = [name for name in frame.collect_schema().names() if name in columns]
    return frame.with_columns(_parsed(name, columns[name].dtype) for name in names)


def _parsed(name: str, dtype: pl.DataType) -> pl.Expr:
    text = pl.col(name)
    if dtype == pl.Boolean:
        return text.replace_strict({"true": True, "false": False}, return_dtype=pl.Boolean)
    if isinstance(dtype, pl.Datetime):
        return text.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us")
    return text.str.to_date("%Y-%m-%d") if dtype == pl.Date else text.cast(dtype)


def _database(place: Path) -> tuple[dict[str, pl.LazyFrame], str]:
    import duckdb

    if place.suffix.lower() not in DATABASE_ENDINGS:
        raise InputError(
            f"The data {place} were asked for, and it is a file. Pass a folder of Parquet or CSV "
            f"files, or a DuckDB file ({listed(DATABASE_ENDINGS)})."
        )
    try:
        connection = duckdb.connect(str(place), read_only=True)
        rows = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
        ).fetchall()
    except duckdb.Error as error:
        raise InputError(
            f"The DuckDB file {place} was asked for, and DuckDB cannot open it: {error}. Check "
            "that it is a DuckDB file and that no other program is writing to it."
        ) from error
    there = {table: f"{schema}.{table}" for schema, table in rows if table in EVERY}
    frames = {
        name: connection.cursor().table(there[name]).pl(lazy=True)
        for name in EVERY
        if name in there
    }
    return frames, "duckdb"
