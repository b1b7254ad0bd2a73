"""What differs between two data sets: tables, columns, rows and cells, with examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from synthetic.reading import EVERY, DataSet

MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Attributes
    ----------
    table : str
        Table; ``"manifest"`` for what the data say of themselves.
    what : str
        only in A, only in B, column, rows only in A, rows only in B, changed, or fact.
    column : str
        Column, or empty.
    count : int
        Rows, or columns.
    examples : tuple of str
        A few of them: keys, and for a change the values in A and B.
    """

    table: str
    what: str
    column: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in one line."""
        name = f"{self.table}.{self.column}" if self.column else self.table
        shown = f": {'; '.join(self.examples)}" if self.examples else ""
        count = f" {self.count:,}" if self.what not in _WITHOUT_COUNT else ""
        return f"{name} - {self.what}{count}{shown}"


_WITHOUT_COUNT = ("only in A", "only in B", "fact")
_SAID = ("format", "note", "tables", "vocabulary_sha256", "made_by")


def _facts(one: DataSet, two: DataSet) -> Iterator[Difference]:
    names = [name for name in {**one.facts, **two.facts} if name not in _SAID]
    for name in names:
        left, right = one.facts.get(name), two.facts.get(name)
        if left != right:
            yield Difference("manifest", "fact", name, 1, (f"A {left}, B {right}",))


def _keys(name: str, columns: list[str]) -> list[str]:
    """Return what names a row: the primary key, or every column where there is none."""
    return EVERY[name].primary_key() or columns


def _said(row: dict[str, Any], columns: list[str]) -> str:
    return ", ".join(f"{column} = {row[column]}" for column in columns)


def _some(rows: pl.DataFrame, columns: list[str]) -> tuple[str, ...]:
    return tuple(_said(row, columns) for row in rows.head(MOST_EXAMPLES).iter_rows(named=True))


def _lonely(
    name: str, left: pl.LazyFrame, right: pl.LazyFrame, keys: list[str], what: str
) -> Iterator[Difference]:
    rows = left.select(keys).join(right.select(keys), on=keys, how="anti", nulls_equal=True)
    found = rows.collect()
    if found.height:
        yield Difference(name, what, "", found.height, _some(found.sort(keys), keys))


def _changed(
    name: str, left: pl.LazyFrame, right: pl.LazyFrame, keys: list[str], columns: list[str]
) -> Iterator[Difference]:
    rest = [column for column in columns if column not in keys]
    if not rest:
        return
    both = left.select(*keys, *rest).join(
        right.select(*keys, *rest), on=keys, how="inner", suffix="/B", nulls_equal=True
    )
    other = {c: pl.col(c).ne_missing(pl.col(f"{c}/B")) for c in rest}
    counts = both.select(other[c].sum().alias(c) for c in rest).collect()
    for column in rest:
        count = counts[column].item() or 0
        if count:
            few = both.filter(other[column]).sort(keys).head(MOST_EXAMPLES).collect()
            examples = tuple(
                f"{_said(row, keys)}: A {row[column]}, B {row[f'{column}/B']}"
                for row in few.iter_rows(named=True)
            )
            yield Difference(name, "changed", column, count, examples)


def _plain(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return categories as text, so that two files' own categories can be compared."""
    schema = frame.collect_schema()
    words = [c for c, t in schema.items() if isinstance(t, pl.Enum | pl.Categorical)]
    return frame.with_columns(pl.col(words).cast(pl.String)) if words else frame


def _of_table(name: str, left: pl.LazyFrame, right: pl.LazyFrame) -> Iterator[Difference]:
    left, right = _plain(left), _plain(right)
    one, two = left.collect_schema(), right.collect_schema()
    for here, there, what in ((one, two, "column only in A"), (two, one, "column only in B")):
        for column in here:
            if column not in there:
                yield Difference(name, what, column, 1, ())
    shared = [column for column in one if column in two]
    for column in shared:
        if one[column] != two[column]:
            types = (f"A {one[column]}, B {two[column]}",)
            yield Difference(name, "type", column, 1, types)
    shared = [column for column in shared if one[column] == two[column]]
    keys = [key for key in _keys(name, shared) if key in shared]
    if keys:
        yield from _lonely(name, left, right, keys, "rows only in A")
        yield from _lonely(name, right, left, keys, "rows only in B")
        yield from _changed(name, left, right, keys, shared)


def compare(one: DataSet, two: DataSet) -> list[Difference]:
    """Return what differs between two data sets, rows matched by their primary keys.

    Parameters
    ----------
    one, two : DataSet
        A and B.

    Returns
    -------
    list of Difference
        Empty when every table is the same; what the manifests say differently comes first.
    """
    found = list(_facts(one, two))
    left, right = one.everything, two.everything
    for name in EVERY:
        if name in left and name in right:
            found += _of_table(name, left[name], right[name])
        elif name in left or name in right:
            found.append(Difference(name, f"only in {'A' if name in left else 'B'}", "", 1, ()))
    return found
