"""What a column is: its unit, its kind and its meaning, for files, dictionaries and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from synthetic.world import SCHEMAS

if TYPE_CHECKING:
    import dataframely as dy


def unit_of(name: str, column: str) -> str:
    """Return the unit of a column: as the schema says, or as its name and type imply.

    Parameters
    ----------
    name, column : str
        Table and column.

    Examples
    --------
    >>> unit_of("deals", "sale_price")
    'currency units'
    >>> unit_of("truth_fate", "ended_on")
    'date'
    """
    return unit_for(column, SCHEMAS[name].columns()[column])


def unit_for(column: str, kind: dy.Column) -> str:
    """Return the unit of a column of any table."""
    said = (kind.metadata or {}).get("unit")
    if said:
        return str(said)
    if column.endswith("_id"):
        return "id"
    return _UNITS.get(kind.dtype.base_type(), "number")


_UNITS: dict[Any, str] = {
    pl.Boolean: "true or false",
    pl.Date: "date",
    pl.Datetime: "local time",
    pl.Enum: "category",
    pl.String: "text",
}


def meaning_of(kind: dy.Column) -> str:
    """Return what a column means, in English."""
    return kind.description or ""


def about(table: type[dy.Schema]) -> str:
    """Return what one row of a table is: the first line of its schema's docstring."""
    return (table.__doc__ or "").strip().partition("\n")[0]


def to_arrow(frame: pl.DataFrame) -> pa.Table:
    """Return a frame as an Arrow table of the widest-read types."""
    return frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())


def arrow_schema(name: str, table: type[dy.Schema] | None = None) -> pa.Schema:
    """Return a table's Arrow schema, with meanings and units in its metadata.

    Parameters
    ----------
    name : str
        The table.
    table : type of dataframely.Schema, optional
        Its columns; left out for a table of the network.
    """
    table = table or SCHEMAS[name]
    columns = table.columns()
    plain = to_arrow(pl.DataFrame(schema={name: one.dtype for name, one in columns.items()})).schema
    described = [
        field.with_metadata(
            (field.metadata or {})  # polars keeps the categories of an Enum there
            | {
                "description": meaning_of(columns[field.name]),
                "unit": unit_for(field.name, columns[field.name]),
                "key": "primary" if columns[field.name].primary_key else "",
            }
        )
        for field in plain
    ]
    return pa.schema(described, metadata={"table": name, "description": about(table)})
