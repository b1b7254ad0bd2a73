"""Conditions of a mapping file, asked of an export's rows."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl

from crm_analysis.errors import ColumnError, InputError, listed, near
from crm_analysis.intake.described import Condition

__all__ = [
    "ROW",
    "all_normal",
    "holds",
    "normal",
    "parse_dates",
    "parse_numbers",
    "shown_value",
    "want_column",
]

ROW = "__row__"
"""Column of the row's number in its file, the header being row 1."""

_YEARS = (1900, 2100)
_SEPARATORS = (";", "\t", "|", ",")


def want_column(frame: pl.DataFrame, column: str, file: str) -> pl.Series:
    """Return a column of an export, or say which it has."""
    if column not in frame.columns or column == ROW:
        have = [name for name in frame.columns if name != ROW]
        raise ColumnError(
            f"The mapping asks for the column {column!r}{near(column, have)} of {file}. "
            f"It has: {listed(have, most=40)}. {_what_next(have)}"
        )
    return frame[column]


def _what_next(columns: list[str]) -> str:
    """Say what to mend: a file that was read as one column was split at the wrong sign."""
    between = next((sign for sign in _SEPARATORS if len(columns) == 1 and sign in columns[0]), None)
    if between is None:
        return "Correct the mapping."
    return f"It was read as one column: state its separator = {between!r} in its source."


def normal(text: str) -> str:
    """Return a value without regard to case and blanks.

    Examples
    --------
    >>> normal("  Closed   WON ")
    'closed won'
    """
    return " ".join(text.split()).lower()


def all_normal(column: pl.Series) -> pl.Series:
    """Return a whole column as `normal` returns one value."""
    texts = column.cast(pl.String).str.replace_all(r"\s+", " ")
    return texts.str.strip_chars().str.to_lowercase()


def holds(frame: pl.DataFrame, condition: Condition, file: str, decimal: str = ".") -> pl.Series:
    """Return for each row whether a condition holds; what is missing passes ``is`` alone.

    Raises
    ------
    ColumnError
        The export lacks the column.
    InputError
        A date or a number that the condition compares cannot be read.
    """
    column = want_column(frame, condition.column, file)
    test, value = condition.test, condition.value
    if test == "is":
        return _is(column, value)
    if test in ("one_of", "not_one_of"):
        wanted = [normal(str(item)) for item in value]
        texts = all_normal(column)
        found: pl.Series = texts.is_in(wanted).fill_null(value=False)
        return found if test == "one_of" else ~found & column.is_not_null()
    if test in ("less_than", "more_than"):
        numbers = parse_numbers(column, frame[ROW], file, decimal=decimal)
        found = numbers < value if test == "less_than" else numbers > value
        return found.fill_null(value=False)
    return _compare_dates(frame, column, condition, file)


def _is(column: pl.Series, value: str) -> pl.Series:
    if value == "missing":
        return column.is_null()
    filled = column.is_not_null()
    return filled & ~column.is_first_distinct() if value == "repeated" else filled


def _compare_dates(
    frame: pl.DataFrame, column: pl.Series, condition: Condition, file: str
) -> pl.Series:
    days = parse_dates(column, condition.format, frame[ROW], file).cast(pl.Date)
    if condition.test == "earlier_than":
        other = want_column(frame, condition.value, file)
        earlier = days < parse_dates(other, condition.format, frame[ROW], file).cast(pl.Date)
        return earlier.fill_null(value=False)
    limit: date = condition.value
    found = days < limit if condition.test == "before" else days > limit
    return found.fill_null(value=False)


def parse_dates(
    column: pl.Series, form: str | None, rows: pl.Series, file: str, *, personal: bool = False
) -> pl.Series:
    """Read a column of dates in the stated format; dates of a Parquet file stay as they are.

    Returns a Date series, or a Datetime one when the format has hours.

    Raises
    ------
    InputError
        No format is stated for text, or a value does not match it (row number and value).
    """
    if column.dtype in (pl.Date, pl.Datetime):
        return column
    if form is None:
        example = shown_value(_first(column), personal=personal)
        raise InputError(
            f"The column {column.name!r} of {file} holds {column.dtype}, and a date is asked "
            f"for. Text is never guessed to be a date: add its format, such as "
            f'format = "%d.%m.%Y"; its first value is {example}.'
        )
    timed = any(code in form for code in ("%H", "%I", "%T", "%R", "%s"))
    dtype = pl.Datetime("us") if timed else pl.Date()
    texts = column.cast(pl.String)
    try:
        parsed = texts.str.strptime(dtype, form, strict=False)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"The format {form!r} of {column.name!r} in {file} cannot be used: {error}. "
            "Write it with %d, %m, %Y, %H, %M, %S."
        ) from error
    # Two figures of a year, read as four, would be the first century.
    sane = parsed.dt.year().is_between(*_YEARS)
    what = f"a date written as {form!r}"
    _refuse(texts, parsed.is_null() | ~sane, rows, file, what, personal=personal)
    return parsed


def parse_numbers(
    column: pl.Series,
    rows: pl.Series,
    file: str,
    *,
    decimal: str = ".",
    thousands: str = "",
    remove: tuple[str, ...] = (),
    personal: bool = False,
) -> pl.Series:
    """Read a column of numbers as Float64, in the file's way of writing them.

    Raises
    ------
    InputError
        A value is not a number (row number and value).
    """
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column.cast(pl.Float64).fill_nan(None)
    texts = column.cast(pl.String)
    written = texts
    for sign in remove:
        written = written.str.replace_all(sign, "", literal=True)
    if thousands == " ":
        written = written.str.replace_all(r"\s", "")
    elif thousands:
        written = written.str.replace_all(thousands, "", literal=True)
    if decimal != ".":
        written = written.str.replace_all(decimal, ".", literal=True)
    numbers = written.str.strip_chars().cast(pl.Float64, strict=False)
    what = f"a number (decimal sign {decimal!r})"
    wrong = numbers.is_null() | ~numbers.is_finite()
    _refuse(texts, wrong, rows, file, what, personal=personal)
    return numbers


def shown_value(value: object, *, personal: bool) -> str:
    """Write a value for a message; what may name a living person is not shown."""
    if personal:
        return "a personal value, not shown"
    return value.isoformat(" ") if isinstance(value, datetime) else repr(value)


def _refuse(
    texts: pl.Series, wrong: pl.Series, rows: pl.Series, file: str, what: str, *, personal: bool
) -> None:
    bad = (wrong.fill_null(value=True) & texts.is_not_null()).arg_true()
    if len(bad):
        first = int(bad[0])
        raise InputError(
            f"The column {texts.name!r} of {file} was to hold {what}. {len(bad)} of "
            f"{texts.drop_nulls().len()} values are not: row {rows[first]} holds "
            f"{shown_value(texts[first], personal=personal)}. Correct the mapping or the file, "
            "name the value under 'missing', or leave such rows out by a rule."
        )


def _first(column: pl.Series) -> object:
    filled = column.drop_nulls()
    return filled[0] if filled.len() else None
