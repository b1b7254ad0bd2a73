"""Where tables lie: a folder of Parquet files, or one DuckDB file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from crm_analysis.collected import file_state
from crm_analysis.errors import InputError, listed
from crm_analysis.schema import TABLES_AND_VIEWS

DUCKDB_ENDINGS = (".duckdb", ".db", ".ddb")
MANIFEST = "manifest.json"
STAMP = ".checked.json"


class Source(Protocol):
    """A place that holds tables."""

    @property
    def path(self) -> Path:
        """Return the folder or file."""

    def names(self) -> tuple[str, ...]:
        """Return the tables of ours that are there."""

    def scan(self, name: str) -> pl.LazyFrame:
        """Return a table, unread."""

    def files(self) -> tuple[Path, ...]:
        """Return the files whose change makes a check out of date."""

    def manifest(self) -> dict[str, Any]:
        """Return what the data say of themselves; empty where they say nothing."""

    def stamp(self) -> Path:
        """Return where the result of a check is kept."""


@dataclass(frozen=True)
class ParquetFolder:
    """Tables as ``<name>.parquet``, or as folders ``<name>/*.parquet``."""

    path: Path
    _opened: dict[str, tuple[object, pl.LazyFrame]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def _place(self, name: str) -> Path | None:
        for place in (self.path / f"{name}.parquet", self.path / name):
            if place.exists():
                return place
        return None

    def names(self) -> tuple[str, ...]:
        """Return the tables of ours that are there."""
        # A listing of names alone: this is asked a thousand times a report.
        there = {name.removesuffix(".parquet") for name in os.listdir(self.path)}  # noqa: PTH208
        return tuple(name for name in TABLES_AND_VIEWS if name in there)

    def scan(self, name: str) -> pl.LazyFrame:
        """Return a table, unread; the same one while its file is the same."""
        place = self._place(name)
        if place is None:
            raise KeyError(name)
        if place.is_dir():
            return pl.scan_parquet(place / "*.parquet")
        state = file_state(place)
        if name not in self._opened or self._opened[name][0] != state:
            self._opened[name] = (state, pl.scan_parquet(place))
        return self._opened[name][1]

    def files(self) -> tuple[Path, ...]:
        """Return the Parquet files of the tables."""
        places = [place for name in self.names() if (place := self._place(name)) is not None]
        inside = [
            sorted(place.glob("*.parquet")) if place.is_dir() else [place] for place in places
        ]
        return tuple(file for group in inside for file in group)

    def manifest(self) -> dict[str, Any]:
        """Return the folder's manifest."""
        return _read_manifest(self.path / MANIFEST)

    def stamp(self) -> Path:
        """Return where the result of a check is kept."""
        return self.path / STAMP


@dataclass(frozen=True)
class DuckDBFile:
    """Tables in one DuckDB file, opened read-only; its manifest is ``<name>.json`` beside it."""

    path: Path
    _kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _connection(self) -> Any:
        import duckdb

        try:
            return duckdb.connect(str(self.path), read_only=True)
        except duckdb.Error as error:
            raise InputError(
                f"The DuckDB file {self.path} was asked for, and DuckDB cannot open it: {error}. "
                "Check that it is a DuckDB file and that no other program is writing to it."
            ) from error

    def names(self) -> tuple[str, ...]:
        """Return the tables of ours that are there."""
        rows = self._connection.execute(
            "SELECT table_name FROM information_schema.tables"
        ).fetchall()
        there = {row[0] for row in rows}
        return tuple(name for name in TABLES_AND_VIEWS if name in there)

    def scan(self, name: str) -> pl.LazyFrame:
        """Return a table, unread, on a cursor of its own so that two can be read side by side."""
        relation = self._connection.cursor().table(name)
        frame: pl.LazyFrame = relation.pl(lazy=True)
        return frame

    def files(self) -> tuple[Path, ...]:
        """Return the one file."""
        return (self.path,)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest beside the file."""
        return _read_manifest(self.path.with_suffix(".json"))

    def stamp(self) -> Path:
        """Return where the result of a check is kept."""
        return self.path.with_name(f".{self.path.name}{STAMP}")


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"The manifest {path} was asked for, and it is not JSON ({error}). Repair it, or "
            "remove it: data need no manifest."
        ) from error
    if not isinstance(facts, dict):
        raise InputError(
            f"The manifest {path} was asked for an object of facts, and it holds a "
            f"{type(facts).__name__}. Repair it, or remove it: data need no manifest."
        )
    return facts


def project_root(start: Path) -> Path | None:
    """Return the nearest folder at or above `start` that holds a pyproject.toml."""
    return next(
        (folder for folder in (start, *start.parents) if (folder / "pyproject.toml").exists()), None
    )


def find_data(data: str | Path) -> Path:
    """Return the path of the data: as given, from the working folder, or from the project's root.

    Raises
    ------
    InputError
        There is nothing at any of them.
    """
    asked = Path(data).expanduser()
    root = project_root(Path.cwd())
    tried = (
        [asked] if asked.is_absolute() else [Path.cwd() / asked, *([root / asked] if root else [])]
    )
    for path in tried:
        if path.exists():
            return path.resolve()
    places = listed(dict.fromkeys(tried))
    raise InputError(
        f"The data {str(data)!r} were asked for, and there is nothing at {places}. Pass the "
        "folder or DuckDB file that holds the tables, or make a demonstration with 'python -m "
        "synthetic generate --preset small --seed 1 --out reports/out/data/small'."
    )


def open_source(path: Path) -> Source:
    """Recognise what lies at a path.

    Raises
    ------
    InputError
        It is neither a folder with tables of ours nor a DuckDB file with them.
    """
    source: Source
    if path.is_dir():
        source = ParquetFolder(path)
    elif path.suffix.lower() in DUCKDB_ENDINGS:
        source = DuckDBFile(path)
    else:
        raise InputError(
            f"The data {path} were asked for, and it is a "
            f"{path.suffix or 'file without an ending'}. Pass a folder of Parquet files, or a "
            f"DuckDB file ({listed(DUCKDB_ENDINGS)})."
        )
    if not source.names():
        found = (
            listed(sorted(p.name for p in path.iterdir())) if path.is_dir() else "no table of ours"
        )
        raise InputError(
            f"The tables of a dealership were asked for in {path}, and it holds {found}. It "
            "should hold some of: "
            f"{listed(f'{name}.parquet' if path.is_dir() else name for name in TABLES_AND_VIEWS)}."
        )
    return source
