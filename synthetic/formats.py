"""Writers of tables: Parquet, CSV and one DuckDB file, part by part, in memory that stays small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from crm_analysis.errors import InputError, near
from synthetic.columns import arrow_schema, meaning_of, to_arrow
from synthetic.places import ENDINGS, TRUTH_FOLDER
from synthetic.truth import TRUTH_TABLES
from synthetic.world import SCHEMAS, Frames

if TYPE_CHECKING:
    import dataframely as dy

ROW_GROUP = 32_768
FORMATS = tuple(ENDINGS)


_SOUGHT = ("_id", "_on", "_at")
"""Endings of the columns that a reader looks rows up by: these have least and greatest values."""

_TEXTS = (pa.types.is_dictionary, pa.types.is_string, pa.types.is_large_string)


def _is_text(kind: pa.DataType) -> bool:
    """Say whether a column repeats words: a dictionary of numbers costs more than it saves."""
    return any(same(kind) for same in _TEXTS)


class Writer(Protocol):
    """Takes the rows of one table."""

    rows: int

    def add(self, frame: pl.DataFrame) -> None:
        """Take rows."""

    def finish(self) -> None:
        """Write the rows still waiting."""

    def close(self) -> None:
        """Close the file."""


class TableWriter:
    """One Parquet file, written in row groups of a fixed size whatever the parts that arrive.

    Parameters
    ----------
    path : Path
        File to write.
    name : str
        Table, for its schema; meanings and units of columns go into the file's metadata.
    schema : pyarrow.Schema, optional
        The schema itself, for a table that is not one of the network's.
    """

    def __init__(self, path: Path, name: str, schema: pa.Schema | None = None) -> None:
        self.path, self.rows = path, 0
        self._waiting: list[pl.DataFrame] = []
        self._n_waiting = 0
        shape = schema or arrow_schema(name)
        self._writer = pq.ParquetWriter(
            path,
            shape,
            compression="zstd",
            compression_level=1,
            version="2.6",
            use_dictionary=[field.name for field in shape if _is_text(field.type)],
            write_statistics=[name for name in shape.names if name.endswith(_SOUGHT)],
        )

    def finish(self) -> None:
        """Write the rows still waiting."""
        self._flush(last=True)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def add(self, frame: pl.DataFrame) -> None:
        """Take rows, and write every whole row group."""
        self._waiting.append(frame)
        self._n_waiting += frame.height
        self.rows += frame.height
        if self._n_waiting >= ROW_GROUP:
            self._flush(last=False)

    def _flush(self, *, last: bool) -> None:
        if not self._n_waiting:
            return
        whole = pl.concat(self._waiting)
        start = 0
        while whole.height - start >= (1 if last else ROW_GROUP):
            group = to_arrow(whole.slice(start, ROW_GROUP))
            self._writer.write_table(group, row_group_size=ROW_GROUP)
            start += ROW_GROUP
        self._waiting, self._n_waiting = [], max(whole.height - start, 0)
        if self._n_waiting:  # a copy: a slice would keep the whole
            self._waiting.append(whole[np.arange(start, whole.height)])


def write_table(path: Path, name: str, table: type[dy.Schema], frame: pl.DataFrame) -> None:
    """Write a whole table to a Parquet file of its own, meanings and units inside."""
    writer = TableWriter(path, name, arrow_schema(name, table))
    try:
        writer.add(table.cast(frame))
        writer.finish()
    finally:
        writer.close()


class TextWriter:
    """One CSV file: a header, ISO dates and moments, nothing between two commas for null."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.rows = path, 0
        self._file = path.open("wb")
        self._write(SCHEMAS[name].create_empty(), header=True)

    def _write(self, frame: pl.DataFrame, *, header: bool) -> None:
        moment = "%Y-%m-%dT%H:%M:%S"
        text = frame.write_csv(include_header=header, datetime_format=moment)
        self._file.write(text.encode())

    def add(self, frame: pl.DataFrame) -> None:
        """Write rows."""
        self._write(frame, header=False)
        self.rows += frame.height

    def finish(self) -> None:
        """Write the rows still waiting."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class DatabaseWriter:
    """One table of a DuckDB file; truth tables go to the schema `truth`."""

    def __init__(self, connection: Any, name: str) -> None:
        self.rows = 0
        self._connection = connection
        self._table = f"truth.{name}" if name in TRUTH_TABLES else name
        self._create(name)

    def _create(self, name: str) -> None:
        empty = self._connection.from_arrow(to_arrow(SCHEMAS[name].create_empty()))
        empty.create(self._table)
        for column, kind in SCHEMAS[name].columns().items():
            said = meaning_of(kind).replace("'", "''")
            self._connection.execute(f"COMMENT ON COLUMN {self._table}.{column} IS '{said}'")

    def add(self, frame: pl.DataFrame) -> None:
        """Insert rows."""
        self._connection.from_arrow(to_arrow(frame)).insert_into(self._table)
        self.rows += frame.height

    def finish(self) -> None:
        """Nothing waits: rows are inserted as they come."""

    def close(self) -> None:
        """The file is closed by whoever opened it."""


def file_of(folder: Path, name: str, ending: str = ".parquet") -> Path:
    """Return the file of a table in a data folder."""
    inside = folder / TRUTH_FOLDER if name.startswith("truth_") else folder
    return inside / f"{name}{ending}"


def check_format(kind: str) -> None:
    """Refuse a format that is not one of `FORMATS`.

    Raises
    ------
    InputError
        There is no such format.
    """
    if kind not in FORMATS:
        raise InputError(
            f"Format {kind!r} was asked for{near(kind, FORMATS)}; there are {', '.join(FORMATS)}. "
            "Choose one of these."
        )


def named_place(out: Path | str, kind: str) -> Path:
    """Return where to write, refusing a name that its format cannot have.

    Raises
    ------
    InputError
        There is no such format, or a DuckDB file was given another ending.
    """
    check_format(kind)
    place = Path(out)
    if kind == "duckdb" and place.suffix != ENDINGS["duckdb"]:
        raise InputError(
            f"A DuckDB file was asked for, and it was to be called {place.name!r}. Give --out a "
            f"name that ends in {ENDINGS['duckdb']}."
        )
    return place


@contextmanager
def _files(made: Path, kind: str) -> Iterator[dict[str, Writer]]:
    (made / TRUTH_FOLDER).mkdir(parents=True)
    maker = TextWriter if kind == "csv" else TableWriter
    writers: dict[str, Writer] = {}
    try:
        for name in SCHEMAS:
            writers[name] = maker(file_of(made, name, ENDINGS[kind]), name)
        yield writers
        for writer in writers.values():
            writer.finish()
    finally:
        for writer in writers.values():
            writer.close()


@contextmanager
def _database(made: Path) -> Iterator[dict[str, Writer]]:
    import duckdb

    try:
        with duckdb.connect(str(made)) as connection:
            connection.execute("CREATE SCHEMA truth")
            yield {name: DatabaseWriter(connection, name) for name in SCHEMAS}
    except duckdb.Error as error:
        raise OSError(str(error)) from error


def open_writers(made: Path, kind: str) -> AbstractContextManager[dict[str, Writer]]:
    """Return a ``with`` block that gives a writer for every table, and closes them all.

    Parameters
    ----------
    made : Path
        Folder to make, or the DuckDB file.
    kind : str
        One of `FORMATS`.
    """
    return _database(made) if kind == "duckdb" else _files(made, kind)


def add_frames(
    writers: Mapping[str, Writer], frames: Frames, pool: ThreadPoolExecutor | None
) -> None:
    """Hand the tables of a part to their writers, one by one or side by side; empties `frames`."""
    if pool is None:
        while frames:
            name, frame = frames.popitem()
            writers[name].add(frame)
        return
    tasks = [pool.submit(writers[name].add, frame) for name, frame in frames.items()]
    frames.clear()
    for task in tasks:
        task.result()
