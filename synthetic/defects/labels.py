"""Labels: what they say, how a value becomes text and back, and putting them on and taking off.

The encoding is that of `synthetic.truth.TruthDefect`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from crm_analysis.schema import TABLES
from synthetic.truth import CHANGES, TruthDefect

Frames = dict[str, pl.DataFrame]

CHANGED, ADDED, REMOVED = CHANGES
_MOMENT = "%Y-%m-%dT%H:%M:%S%.6f"
_DAY = "%Y-%m-%d"


def encoded(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Write values of a type as text; null stays null."""
    if isinstance(dtype, pl.Datetime):
        return value.dt.to_string(_MOMENT)
    if dtype == pl.Date:
        return value.dt.to_string(_DAY)
    return value.cast(pl.String)


def decoded(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Read values of a type from their text."""
    if isinstance(dtype, pl.Datetime):
        return text.str.to_datetime(_MOMENT, time_unit="us").cast(dtype)
    if dtype == pl.Date:
        return text.str.to_date(_DAY)
    if dtype == pl.Boolean:
        return text == "true"
    return text.cast(dtype)


def key_of(table: str) -> list[str]:
    """Return the primary key of a table."""
    return TABLES[table].primary_key()


def key_text(table: str) -> pl.Expr:
    """Write the key of each row of a table as text."""
    return pl.concat_str([pl.col(part).cast(pl.String) for part in key_of(table)], separator="/")


def row_text(frame: pl.DataFrame) -> pl.Expr:
    """Write each whole row as a JSON object of texts."""
    cells = [encoded(pl.col(name), dtype).alias(name) for name, dtype in frame.schema.items()]
    return pl.struct(cells).struct.json_encode()


def cell_labels(table: str, column: str, kind: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Label changed cells; `rows` has the key and the columns `old` and `new`."""
    dtype = rows.schema["old"]
    rows = rows.filter(pl.col("old").ne_missing(pl.col("new")))
    return rows.select(
        pl.lit(table).alias("table"),
        key_text(table).alias("key"),
        pl.lit(column).alias("column"),
        pl.lit(kind).alias("kind"),
        pl.lit(CHANGED).alias("change"),
        encoded(pl.col("old"), dtype).alias("true_value"),
        encoded(pl.col("new"), dtype).alias("injected_value"),
    )


def row_labels(table: str, kind: str, change: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Label whole rows that are added or removed."""
    nothing = pl.lit(None, dtype=pl.String)
    whole = row_text(rows)
    return rows.select(
        pl.lit(table).alias("table"),
        key_text(table).alias("key"),
        nothing.alias("column"),
        pl.lit(kind).alias("kind"),
        pl.lit(change).alias("change"),
        (whole if change == REMOVED else nothing).alias("true_value"),
        (whole if change == ADDED else nothing).alias("injected_value"),
    )


def no_labels() -> pl.DataFrame:
    """Return labels of a world without defects."""
    return TruthDefect.create_empty()


def _with_key(table: str, labels: pl.DataFrame, dtypes: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return labels with the columns of the key in their own types."""
    parts = pl.col("key").str.split("/").list
    return labels.with_columns(
        parts.get(place).cast(dtypes[name]).alias(name) for place, name in enumerate(key_of(table))
    )


def _set_cells(table: str, frame: pl.DataFrame, labels: pl.DataFrame, value: str) -> pl.DataFrame:
    """Put the labels' values into their cells; labels of rows that are not there are passed by."""
    key = key_of(table)
    cells = _with_key(table, labels, frame.schema)
    for (column,), part in sorted(cells.group_by("column"), key=lambda group: str(group[0])):
        name = str(column)
        new = part.select(*key, decoded(pl.col(value), frame.schema[name]).alias("_new"))
        frame = (
            frame.join(
                new.with_columns(_hit=pl.lit(value=True)), on=key, how="left",
                maintain_order="left",
            )
            .with_columns(pl.when("_hit").then("_new").otherwise(name).alias(name))
            .drop("_new", "_hit")
        )  # fmt: skip
    return frame


def _rows(frame: pl.DataFrame, labels: pl.DataFrame, value: str) -> pl.DataFrame:
    """Read whole rows of a table from their labels."""
    texts = pl.Struct({name: pl.String() for name in frame.columns})
    return (
        labels.select(pl.col(value).str.json_decode(texts).alias("row"))
        .unnest("row")
        .select(decoded(pl.col(name), dtype) for name, dtype in frame.schema.items())
    )


def _rewritten(
    table: str, frame: pl.DataFrame, labels: pl.DataFrame, *, undo: bool
) -> pl.DataFrame:
    value, leaving, coming = (
        ("true_value", ADDED, REMOVED) if undo else ("injected_value", REMOVED, ADDED)
    )
    change = pl.col("change").cast(pl.String)
    gone = _with_key(table, labels.filter(change == leaving), frame.schema)
    come = _rows(frame, labels.filter(change == coming), value)
    key = key_of(table)
    if gone.height:
        frame = frame.join(gone.select(key), on=key, how="anti", maintain_order="left")
    frame = _set_cells(table, frame, labels.filter(change == CHANGED), value)
    return pl.concat([frame, come]) if come.height else frame


def put_on(frames: Mapping[str, pl.DataFrame], labels: pl.DataFrame) -> Frames:
    """Return clean tables with the defects of the labels; added rows come last."""
    return _all_rewritten(frames, labels, undo=False)


def take_off(frames: Mapping[str, pl.DataFrame], labels: pl.DataFrame) -> Frames:
    """Return defective tables without the defects of the labels, in the order of their keys."""
    frames = _all_rewritten(frames, labels, undo=True)
    touched = set(labels.filter(pl.col("column").is_null())["table"].unique())
    return {
        name: frame.sort(key_of(name)) if name in touched else frame
        for name, frame in frames.items()
    }


def _all_rewritten(
    frames: Mapping[str, pl.DataFrame], labels: pl.DataFrame, *, undo: bool
) -> Frames:
    by_table = {str(name): part for (name,), part in labels.group_by("table", maintain_order=True)}
    return {
        name: _rewritten(name, frame, by_table[name], undo=undo) if name in by_table else frame
        for name, frame in frames.items()
    }


def repair(
    tables: Mapping[str, pl.LazyFrame], truth_defect: pl.LazyFrame | pl.DataFrame
) -> dict[str, pl.LazyFrame]:
    """Return the clean tables: take every labelled defect off.

    Parameters
    ----------
    tables : mapping of str to polars.LazyFrame
        Open tables with defects, as in `Network.tables`.
    truth_defect : polars.LazyFrame or polars.DataFrame
        The labels of all their defects (`synthetic.truth.TruthDefect`).

    Returns
    -------
    dict of str to polars.LazyFrame
        The tables as they were before the last pass: same rows, order, columns and types.

    Examples
    --------
    >>> from synthetic import make_network
    >>> clean = make_network(preset="tiny", seed=1, n_customers=40)
    >>> from synthetic.defects import with_defects
    >>> spoiled = with_defects(clean, "heavy")
    >>> again = repair(spoiled.tables, spoiled.truth["truth_defect"])
    >>> all(again[name].collect().equals(clean.tables[name].collect()) for name in again)
    True
    """
    labels = truth_defect.lazy().collect()
    frames = {name: frame.collect() for name, frame in tables.items()}
    return {name: frame.lazy() for name, frame in take_off(frames, labels).items()}


def joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Join labels into one frame with the columns and types of `truth_defect`."""
    columns = TruthDefect.columns()
    whole = pl.concat(parts) if parts else no_labels()
    return whole.with_columns(
        pl.col(name).cast(kind.dtype) for name, kind in columns.items() if name in whole.columns
    )
