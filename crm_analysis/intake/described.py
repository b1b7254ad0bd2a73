"""The parts of a mapping, as frozen values: sources, tables, columns, conditions, audits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

__all__ = [
    "MISSING",
    "TYPES",
    "Audit",
    "ColumnMap",
    "Condition",
    "Intake",
    "Join",
    "Part",
    "Source",
    "TableMap",
]

TYPES = ("text", "number", "integer", "date", "moment", "flag")
MISSING = ("", "-", "–", "nan", "null", "n/a", "#n/a")


@dataclass(frozen=True)
class Condition:
    """A test of one column of the export, row by row."""

    column: str
    test: str
    value: Any
    format: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class ColumnMap:
    """Where one column of a table comes from, and how its values are read.

    Attributes
    ----------
    name : str
        The column of ours.
    origin : str or None
        The export's column; None for a constant or a date reckoned from `as_of`.
    value : object
        A constant.
    as_of : bool
        Whether it is the day the data covers.
    months_before_as_of : str or None
        The export's column with a number of months: the date that many months before `as_of`.
    format : str or None
        How its dates are written; text is never guessed to be a date.
    values : mapping
        The export's value to ours; case and blanks around do not matter.
    otherwise : {"refuse", "missing", "keep"}
        What becomes of a value that `values` does not name.
    recode : str or None
        Name of the space in which text keys become 1, 2, 3, … in order of first appearance.
    type : str
        For columns that our schema does not know: one of `TYPES`.
    round : bool
        Whether numbers with decimals may be rounded into a column of whole numbers.
    remove : tuple of str
        Signs to drop before a number is read, such as a currency's.
    when : Condition or None
        Where it does not hold, the value is missing.
    """

    name: str
    origin: str | None = None
    value: Any = None
    as_of: bool = False
    months_before_as_of: str | None = None
    format: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    otherwise: str = "refuse"
    recode: str | None = None
    type: str | None = None
    round: bool = False
    remove: tuple[str, ...] = ()
    when: Condition | None = None


@dataclass(frozen=True)
class Join:
    """Columns looked up in another file by a key that is unique there."""

    source: str
    key: str
    their_key: str
    take: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """One file of the export and how it is written."""

    name: str
    file: str
    separator: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    missing: tuple[str, ...] = MISSING
    key: tuple[str, ...] = ()
    corrections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    joins: tuple[Join, ...] = ()

    @property
    def label(self) -> str:
        """The file's own name, without its folders."""
        return Path(self.file).name


@dataclass(frozen=True)
class Part:
    """Some rows of a table: an export's row may become several of ours, one a part."""

    columns: Mapping[str, ColumnMap]
    only: Condition | None = None
    leave_out: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class TableMap:
    """One table of ours: its source, the rows left out, and its parts.

    `empty` says why it has no rows; `distinct` makes equal rows one, as for a list of dealerships
    drawn from a list of sales.
    """

    name: str
    source: str
    leave_out: tuple[Condition, ...]
    parts: tuple[Part, ...]
    empty: str = ""
    distinct: bool = False


@dataclass(frozen=True)
class Audit:
    """A question to be put to a file of the export, answered in the report."""

    kind: str
    source: str
    asked: Mapping[str, Any]


@dataclass(frozen=True)
class Intake:
    """A whole mapping file, checked."""

    path: Path
    title: str
    origin: str
    licence: str
    as_of: date
    currency: str | None
    sources: Mapping[str, Source]
    tables: Mapping[str, TableMap]
    audits: tuple[Audit, ...] = ()
    cautions: tuple[Mapping[str, str], ...] = ()
