"""A short mark of each table's content, the same on every machine and for every file format.

Files carry their writer's version in their bytes; content does not. Real numbers are rounded to six
decimals first: the last bit of an exponential may differ between processors, a datum may not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from crm_analysis.errors import InputError

DECIMALS = 6


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame of whole numbers and texts alone."""
    columns = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if dtype.is_float():
            whole = (column * 10**DECIMALS).round(0)
            columns.append(whole.cast(pl.Int64, strict=False).fill_null(-(2**62)).alias(name))
        elif dtype.is_temporal() or dtype == pl.Boolean:
            columns.append(column.to_physical().cast(pl.Int64).alias(name))
        elif isinstance(dtype, pl.Enum | pl.Categorical):
            columns.append(column.cast(pl.String))
        else:
            columns.append(column.cast(pl.Int64) if dtype.is_integer() else column)
    return frame.select(columns)


def mark_of(frame: pl.DataFrame) -> str:
    """Return the mark of a table's content: names, values and nulls, in their order.

    Parameters
    ----------
    frame : polars.DataFrame
        The table.

    Returns
    -------
    str
        Sixteen hexadecimal digits of a SHA-256.

    Examples
    --------
    >>> one = pl.DataFrame({"a": [1, None], "b": ["x", "y"]})
    >>> mark_of(one) == mark_of(one.clone()), mark_of(one) == mark_of(one.reverse())
    (True, False)
    """
    digest = hashlib.sha256()
    for column in _plain(frame).iter_columns():
        digest.update(f"\0{column.name}\0{len(column)}\0".encode())
        digest.update(column.is_null().to_numpy().tobytes())
        digest.update(_bytes(column))
    return digest.hexdigest()[:16]


def _bytes(column: pl.Series) -> bytes:
    if column.dtype == pl.String:
        sizes = column.str.len_bytes().fill_null(0).to_numpy().astype("<i8").tobytes()
        return sizes + "".join(column.fill_null("")).encode()
    return column.fill_null(0).to_numpy().astype("<i8").tobytes()


def marks(tables: Mapping[str, pl.LazyFrame]) -> dict[str, str]:
    """Return the mark of each table."""
    return {name: mark_of(frame.collect()) for name, frame in tables.items()}


def read_marks(path: Path) -> dict[str, Any]:
    """Return stored marks, empty where there are none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def store_marks(path: Path, made: Mapping[str, Any], *, force: bool = False) -> list[str]:
    """Store marks, and return the tables whose marks are new or other than before.

    Parameters
    ----------
    path : Path
        JSON file to write.
    made : mapping
        ``{"generator": version, "preset": …, "seed": …, "tables": {name: mark}}``.
    force : bool
        Store other content under the same version all the same.

    Raises
    ------
    InputError
        Content changed and the generator's version did not.
    """
    before = read_marks(path)
    old = before.get("tables", {})
    other = [name for name, mark in made["tables"].items() if old.get(name) != mark]
    lost = [name for name in old if name not in made["tables"]]
    changed = [name for name in other if name in old] + lost
    if changed and before.get("generator") == made["generator"] and not force:
        raise InputError(
            f"The marks in {path} were to be stored, and the content of {', '.join(changed)} "
            f"changed while the generator still calls itself version {made['generator']}. Raise "
            "GENERATOR in synthetic/writing.py and say in CHANGELOG.md, under 'Numbers that "
            "change', what changed; or add --force while that version is not yet released."
        )
    text = json.dumps(dict(made), indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    return other + lost
