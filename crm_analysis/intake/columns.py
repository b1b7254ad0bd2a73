"""One column of ours out of an export's rows: constants, dates, numbers, words and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from crm_analysis.errors import InputError, listed, near
from crm_analysis.intake.described import ColumnMap, Source
from crm_analysis.intake.findings import Finding
from crm_analysis.intake.rules import (
    ROW,
    holds,
    normal,
    parse_dates,
    parse_numbers,
    shown_value,
    want_column,
)

__all__ = ["Keys", "Target", "to_column"]

_TYPES: Mapping[str, pl.DataType] = {
    "text": pl.String(),
    "number": pl.Float64(),
    "integer": pl.Int64(),
    "date": pl.Date(),
    "moment": pl.Datetime("us"),
    "flag": pl.Boolean(),
}


@dataclass
class Keys:
    """Spaces of keys: the export's text to 1, 2, 3, … in order of first appearance."""

    spaces: dict[str, dict[str, int]] = field(default_factory=dict)

    def recode(self, texts: pl.Series, space: str) -> pl.Series:
        """Return the numbers of text keys, giving new ones to those not yet seen."""
        known = self.spaces.setdefault(space, {})
        for text in texts.unique(maintain_order=True).drop_nulls():
            known.setdefault(text, len(known) + 1)
        return texts.replace_strict(known, default=None, return_dtype=pl.Int64)


@dataclass(frozen=True)
class Target:
    """What a column of ours must become.

    Attributes
    ----------
    table, name : str
    dtype : polars DataType or None
        None for a column that our schema does not know.
    personal : bool
        Whether its values may name a living person, and so stay out of messages.
    """

    table: str
    name: str
    dtype: pl.DataType | None = None
    personal: bool = False


def to_column(
    frame: pl.DataFrame,
    spec: ColumnMap,
    target: Target,
    *,
    source: Source,
    as_of: date,
    keys: Keys,
    findings: list[Finding],
) -> pl.Series:
    """Return one column of a table of ours, one value per row of `frame`.

    Raises
    ------
    ColumnError
        The export lacks the column.
    InputError
        A value cannot be read as the mapping says (row number, value and what is known).
    """
    dtype = _dtype(spec, target)
    if spec.as_of or (spec.origin is None and spec.months_before_as_of is None):
        given = as_of if spec.as_of else spec.value
        values = _constant(given, frame.height, dtype, target)
    elif spec.months_before_as_of is not None:
        values = _months_before(frame, spec.months_before_as_of, as_of, source)
        findings.append(_constructed(spec, target, as_of))
    else:
        values = _converted(frame, spec, target, dtype, source, keys, findings)
    if spec.when is not None:
        kept = holds(frame, spec.when, source.label, source.decimal)
        values = values.set(~kept, None)
    return values.cast(dtype).alias(spec.name)


def _dtype(spec: ColumnMap, target: Target) -> pl.DataType:
    if target.dtype is not None:
        if spec.type is not None:
            raise InputError(
                f"The column {target.name!r} of {target.table!r} has its type from our tables "
                f"({target.dtype}); the mapping says {spec.type!r}. Remove 'type'."
            )
        return target.dtype
    if spec.type is not None:
        return _TYPES[spec.type]
    by_value: dict[type, pl.DataType] = {
        bool: pl.Boolean(),
        int: pl.Int64(),
        float: pl.Float64(),
        date: pl.Date(),
    }
    return pl.Int64() if spec.recode else by_value.get(type(spec.value), pl.String())


def _constant(value: Any, height: int, dtype: pl.DataType, target: Target) -> pl.Series:
    try:
        return pl.Series(target.name, [value] * height).cast(dtype)
    except pl.exceptions.PolarsError:
        raise InputError(
            f"The constant {value!r} cannot stand in {target.name!r} of {target.table!r}, which "
            f"holds {dtype}. Correct 'value' in the mapping."
        ) from None


def _months_before(frame: pl.DataFrame, column: str, as_of: date, source: Source) -> pl.Series:
    raw = want_column(frame, column, source.label)
    months = _whole(
        parse_numbers(raw, frame[ROW], source.label, decimal=source.decimal),
        raw,
        frame[ROW],
        source.label,
    )
    if as_of.day > 28:
        raise InputError(
            f"Dates are to be reckoned back from {as_of} in months, and not every month has a "
            f"day {as_of.day}. Choose an as_of with a day up to 28."
        )
    table = pl.DataFrame({"day": pl.repeat(as_of, frame.height, eager=True), "months": months})
    back = pl.format("-{}mo", pl.col("months"))
    moved = pl.when(pl.col("months").is_not_null()).then(pl.col("day").dt.offset_by(back))
    return table.select(moved).to_series()


def _constructed(spec: ColumnMap, target: Target, as_of: date) -> Finding:
    values = {
        "table": target.table,
        "column": target.name,
        "as_of_on": as_of.isoformat(),
        "months": str(spec.months_before_as_of),
    }
    return Finding("constructed", values)


def _converted(
    frame: pl.DataFrame,
    spec: ColumnMap,
    target: Target,
    dtype: pl.DataType,
    source: Source,
    keys: Keys,
    findings: list[Finding],
) -> pl.Series:
    raw = want_column(frame, spec.origin or "", source.label)
    rows = frame[ROW]
    if spec.recode is not None:
        return keys.recode(raw.cast(pl.String), spec.recode)
    if spec.values or isinstance(dtype, pl.Enum):
        return _mapped(raw, spec, target, dtype, rows, source, findings)
    if dtype in (pl.Date, pl.Datetime):
        return _dated(raw, spec, target, dtype, rows, source, findings)
    if dtype.is_numeric():
        return _numbered(raw, spec, target, dtype, rows, source, findings)
    if dtype == pl.Boolean and raw.dtype != pl.Boolean:
        raise InputError(
            f"The column {target.name!r} of {target.table!r} is true or false, and "
            f"{spec.origin!r} of {source.label} holds text. Say which is which: "
            "values = { Yes = true, No = false }."
        )
    return raw


def _dated(
    raw: pl.Series,
    spec: ColumnMap,
    target: Target,
    dtype: pl.DataType,
    rows: pl.Series,
    source: Source,
    findings: list[Finding],
) -> pl.Series:
    days = parse_dates(raw, spec.format, rows, source.label, personal=target.personal)
    if dtype == pl.Datetime and days.dtype == pl.Date:
        findings.append(Finding("no_time", {"table": target.table, "column": target.name}))
    return days


def _numbered(
    raw: pl.Series,
    spec: ColumnMap,
    target: Target,
    dtype: pl.DataType,
    rows: pl.Series,
    source: Source,
    findings: list[Finding],
) -> pl.Series:
    numbers = parse_numbers(
        raw,
        rows,
        source.label,
        decimal=source.decimal,
        thousands=source.thousands,
        remove=spec.remove,
        personal=target.personal,
    )
    if not dtype.is_integer():
        return numbers
    if not spec.round:
        return _whole(numbers, raw, rows, source.label)
    n = int((numbers != numbers.round()).sum())
    if n:
        values = {"table": target.table, "column": target.name, "rows": n}
        findings.append(Finding("rounded", values))
    return numbers.round().cast(pl.Int64)


def _whole(numbers: pl.Series, raw: pl.Series, rows: pl.Series, file: str) -> pl.Series:
    broken = (numbers != numbers.round()).fill_null(value=False).arg_true()
    if len(broken):
        first = int(broken[0])
        raise InputError(
            f"The column {raw.name!r} of {file} was to hold whole numbers; {len(broken)} of "
            f"{numbers.drop_nulls().len()} have decimals: row {rows[first]} holds {raw[first]!r}. "
            "Add round = true to its column in the mapping if whole units will do."
        )
    return numbers.cast(pl.Int64)


def _mapped(
    raw: pl.Series,
    spec: ColumnMap,
    target: Target,
    dtype: pl.DataType,
    rows: pl.Series,
    source: Source,
    findings: list[Finding],
) -> pl.Series:
    known = _known_values(spec, target, dtype)
    texts = raw.cast(pl.String)
    written = [str(text) for text in texts.unique(maintain_order=True).drop_nulls()]
    strange = [text for text in written if normal(text) not in known]
    if strange:
        findings.append(_strange(strange, texts, spec, target, rows, source, known))
    findings += _variants(written, known, spec, source)
    change = {text: known.get(normal(text), _other(text, spec)) for text in written}
    made = pl.String() if isinstance(dtype, pl.Enum) else dtype
    return texts.replace_strict(change, default=None, return_dtype=made)


def _known_values(spec: ColumnMap, target: Target, dtype: pl.DataType) -> dict[str, Any]:
    categories = dtype.categories.to_list() if isinstance(dtype, pl.Enum) else []
    if not spec.values:
        return {normal(name): name for name in categories}
    known: dict[str, Any] = {}
    for written, meant in spec.values.items():
        if categories and meant not in categories:
            raise InputError(
                f"The mapping reads {written!r} as {meant!r} for {target.name!r} of "
                f"{target.table!r}{near(str(meant), categories)}. It may be: {listed(categories)}."
            )
        if known.setdefault(normal(written), meant) != meant:
            raise InputError(
                f"The mapping of {target.name!r} reads {written!r} in two ways: as "
                f"{known[normal(written)]!r} and as {meant!r} (case and blanks do not count). "
                "Keep one."
            )
    return known


def _other(text: str, spec: ColumnMap) -> str | None:
    return text if spec.otherwise == "keep" else None


def _strange(
    strange: list[str],
    texts: pl.Series,
    spec: ColumnMap,
    target: Target,
    rows: pl.Series,
    source: Source,
    known: Mapping[str, Any],
) -> Finding:
    where = texts.is_in(strange).fill_null(value=False).arg_true()
    names = spec.values or known
    if spec.otherwise == "refuse":
        first = int(where[0])
        shown = shown_value(texts[first], personal=target.personal)
        hint = "" if target.personal else near(texts[first], [str(name) for name in names])
        raise InputError(
            f"The column {texts.name!r} of {source.label} holds values that the mapping of "
            f"{target.name!r} does not name, in {len(where)} rows: row {rows[first]} holds {shown}"
            f"{hint}. It names: {listed(names)}. Add the value under 'values', or say "
            'otherwise = "missing".'
        )
    written = "a personal value" if target.personal else listed(map(repr, strange), most=8)
    values = {
        "file": source.label,
        "column": texts.name,
        "written": written,
        "rows": len(where),
    }
    return Finding(f"unmapped_{spec.otherwise}", values)


def _variants(
    written: list[str], known: Mapping[str, Any], spec: ColumnMap, source: Source
) -> list[Finding]:
    ways: dict[str, list[str]] = {}
    for text in written:
        if normal(text) in known:
            ways.setdefault(normal(text), []).append(text)
    return [
        Finding(
            "variants",
            {
                "file": source.label,
                "column": str(spec.origin),
                "meant": repr(known[key]),
                "written": listed(map(repr, texts), most=8),
            },
        )
        for key, texts in ways.items()
        if len(texts) > 1
    ]
