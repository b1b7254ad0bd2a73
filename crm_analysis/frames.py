"""The one door for tables: any backend in, checked and named columns out; the only collect.

Data may be polars (eager or lazy), a DuckDB relation, a Spark or SQLFrame data frame, pandas,
pyarrow, or anything Narwhals wraps. What lives in a database stays there until `collect`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.collected import collected
from crm_analysis.dates import SECONDS_PER_DAY, day_number, epoch_second, floor_divide
from crm_analysis.errors import ColumnError, InputError, listed, near

__all__ = [
    "Asked",
    "Kind",
    "check_as_of",
    "check_conf_level",
    "check_one_of",
    "check_period",
    "check_since",
    "check_whole",
    "collect",
    "group_names",
    "keys_of",
    "open_table",
    "require_columns",
]

Kind = Literal["key", "date", "moment", "number", "text", "flag"]

_ALLOWED: dict[str, str] = {
    "date": "a date or a date with time",
    "moment": "a date with time, or a date",
    "number": "a number",
    "flag": "true or false",
}


_OWN = ("n", "estimate", "std_error", "conf_low", "conf_high")
"""Columns that every answer has: no group can be called so."""


@dataclass(frozen=True)
class Asked:
    """A column that a metric asks for.

    Attributes
    ----------
    column : str
        Its name in the user's table.
    kind : Kind
        What it must hold; dates become day numbers, moments epoch seconds, numbers Float64.
    nullable : bool
        Whether a null means something here.
    argument : str
        The keyword through which the user can name another column.
    """

    column: str
    kind: Kind
    argument: str
    nullable: bool = False


def keys_of(by: Sequence[str]) -> tuple[str, ...]:
    """Return the internal names of the group columns, which cannot hide a metric's own."""
    return tuple(f"by_{name}" for name in by)


def group_names(by: str | Sequence[str], *, taken: Collection[str] = ()) -> tuple[str, ...]:
    """Return `by` as a tuple of names, whether one name or several were given.

    Parameters
    ----------
    by : str or sequence of str
    taken : collection of str
        Columns that the answer has of its own, beside the five that every answer has.

    Raises
    ------
    InputError
        A name twice, or one that the answer has of its own.

    Examples
    --------
    >>> group_names("dealership"), group_names(["a", "b"])
    (('dealership',), ('a', 'b'))
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            f"Groups by {listed(names)} were asked for, with {listed(repeated)} more than once. "
            "Name each column of 'by' once."
        )
    own = [name for name in names if name in {*_OWN, *taken}]
    if own:
        raise InputError(
            f"Groups by {listed(names)} were asked for, but the answer has a column "
            f"{listed(own)} of its own. Rename that column of the table first."
        )
    return names


def open_table(
    data: object,
    asked: Mapping[str, Asked],
    *,
    by: Sequence[str] = (),
) -> nw.LazyFrame[Any]:
    """Open a table and return the columns a metric needs, named, checked and as numbers.

    Parameters
    ----------
    data : polars, DuckDB, Spark, SQLFrame, pandas, pyarrow or Narwhals table
        One row per whatever the metric counts.
    asked : mapping of internal name to Asked
        The columns needed and the names under which they are returned.
    by : sequence of str
        Group columns, returned as ``by_<name>`` (see `keys_of`); null groups stay null.

    Returns
    -------
    narwhals LazyFrame
        Nothing is computed except one count of nulls in columns that must have none.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null where it must not be.
    InputError
        `data` is not a table.
    """
    frame = _as_lazy(data)
    schema = frame.collect_schema()
    where = {spec.column: spec.argument for spec in asked.values()} | dict.fromkeys(by, "by")
    require_columns(schema.names(), where)
    for spec in asked.values():
        _check_type(spec, schema[spec.column])
    required = [spec for spec in asked.values() if not spec.nullable]
    _check_nulls(data if isinstance(data, pl.DataFrame) else frame, required)
    read = _read_polars if isinstance(frame.to_native(), pl.LazyFrame) else _read
    columns = [read(spec, schema[spec.column]).alias(name) for name, spec in asked.items()]
    groups = [nw.col(name).alias(key) for name, key in zip(by, keys_of(by), strict=True)]
    return frame.select(*columns, *groups)


def require_columns(have: Sequence[str], wanted: Mapping[str, str]) -> None:
    """Refuse a table that lacks a column; `wanted` maps column to the argument naming it."""
    for column, argument in wanted.items():
        if column not in have:
            what = "a name in 'by'" if argument == "by" else f"the '{argument}' argument"
            raise ColumnError(
                f"The table has no column {column!r}{near(column, have)}. "
                f"It has: {listed(sorted(have))}. Pass the right name with {what}."
            )


def collect(
    frame: nw.LazyFrame[Any], *, by: Sequence[str] = (), order: Sequence[str] = ()
) -> pl.DataFrame:
    """Bring a counted table home: polars, plain types, a fixed order, groups under their names.

    Parameters
    ----------
    frame : narwhals LazyFrame
    by : sequence of str
        Group columns to be given their own names again.
    order : sequence of str
        Further columns to sort by, so that no backend's row order shows.
    """
    names = dict(zip(keys_of(by), by, strict=True))
    ordering = [*by, *order]

    def finished(table: pl.DataFrame) -> pl.DataFrame:
        plain = {name: _plain(dtype) for name, dtype in table.schema.items()}
        plan = table.lazy().cast({n: p for n, p in plain.items() if p != table.schema[n]})
        plan = plan.rename(names) if names else plan
        return (plan.sort(ordering, nulls_last=True) if ordering else plan).collect()

    native = frame.to_native()
    if isinstance(native, pl.LazyFrame):
        return collected(native, finished, said=(tuple(by), tuple(order)))
    return finished(frame.collect("polars").to_native())


def _plain(dtype: pl.DataType) -> pl.DataType:
    # Databases sum whole numbers into wider ones, or into decimals without decimals.
    if dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0):
        return pl.Int64()
    # Categories sort by their own order on some backends and by the alphabet on others.
    if isinstance(dtype, pl.Enum | pl.Categorical):
        return pl.String()
    return pl.Float64() if dtype.is_numeric() else dtype


def check_as_of(as_of: object) -> date:
    """Return `as_of` as a date, or say that one is needed."""
    if isinstance(as_of, datetime):
        return as_of.date()
    if isinstance(as_of, date):
        return as_of
    raise InputError(
        f"'as_of' must be the last day the data covers, as a datetime.date; got {as_of!r}. "
        "Pass, for example, as_of=date(2026, 6, 30)."
    )


def check_conf_level(conf_level: object) -> float:
    """Return `conf_level`, or say that it must lie between 0 and 1."""
    if not isinstance(conf_level, int | float) or not 0 < conf_level < 1:
        raise InputError(
            f"'conf_level' must lie between 0 and 1; got {conf_level!r}. "
            "Pass 0.95 for a 95 % interval."
        )
    return float(conf_level)


def check_one_of(argument: str, value: str, allowed: Sequence[str]) -> str:
    """Return `value`, or say which values `argument` takes."""
    if value not in allowed:
        raise InputError(
            f"{argument!r} was given as {value!r}{near(str(value), allowed)}. "
            f"It takes: {listed(allowed)}."
        )
    return value


def check_whole(argument: str, value: object, *, least: int = 1) -> int:
    """Return `value`, or say that `argument` must be a whole number of at least `least`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise InputError(
        f"{argument!r} must be a whole number, at least {least}; got {value!r}. "
        f"Pass, say, {max(least, 12)}."
    )


def check_since(since: object, as_of: date) -> date:
    """Return the first day of a period, or say that it must be a date not after its last."""
    if isinstance(since, date) and since <= as_of:
        return since
    raise InputError(
        f"'since' must be the first day of the period, a date not after 'as_of' ({as_of}); "
        f"got {since!r}. Pass, say, the day a year before."
    )


def check_period(since: date | None, as_of: date) -> None:
    """Refuse a period that ends before it begins; without a first day it has no beginning."""
    if since is not None:
        check_since(since, as_of)


def _as_lazy(data: object) -> nw.LazyFrame[Any]:
    if isinstance(data, pl.DataFrame):
        return nw.from_native(data.lazy())
    try:
        frame: Any = nw.from_native(data)
    except TypeError:
        raise InputError(
            f"A table was asked for; got {type(data).__name__}. Pass a polars, DuckDB, Spark, "
            "pandas or pyarrow table, with one row per thing counted."
        ) from None
    if isinstance(frame, nw.LazyFrame):
        return frame
    if isinstance(frame, nw.DataFrame):
        return nw.from_native(frame.to_polars().lazy())
    raise InputError(
        f"A table was asked for; got one column ({type(data).__name__}). Pass the whole table."
    )


def _fits(kind: Kind, dtype: nw.dtypes.DType) -> bool:
    if kind in ("date", "moment"):
        return dtype in (nw.Date, nw.Datetime) or isinstance(dtype, nw.Datetime)
    if kind == "number":
        return dtype.is_numeric()
    if kind == "flag":
        return dtype == nw.Boolean
    return True


def _check_type(spec: Asked, dtype: nw.dtypes.DType) -> None:
    if _fits(spec.kind, dtype):
        return
    hint = ""
    if spec.kind in ("date", "moment") and dtype == nw.String:
        hint = " Text is never guessed to be a date: convert it first, stating its format."
    raise ColumnError(
        f"Column {spec.column!r} must hold {_ALLOWED[spec.kind]}; it holds {dtype}.{hint} "
        f"Convert it, or name another column with '{spec.argument}'."
    )


def _check_nulls(table: pl.DataFrame | nw.LazyFrame[Any], required: Sequence[Asked]) -> None:
    if not required:
        return
    columns = list(dict.fromkeys(spec.column for spec in required))
    counts = _null_counts(table, columns)
    for column, n_nulls in zip(columns, counts[:-1], strict=True):
        if n_nulls:
            argument = next(spec.argument for spec in required if spec.column == column)
            raise ColumnError(
                f"Column {column!r} must be filled in every row; it is null in {n_nulls} of "
                f"{counts[-1]} rows. Fill or leave out those rows, or name another column "
                f"with '{argument}'."
            )


def _null_counts(table: pl.DataFrame | nw.LazyFrame[Any], columns: Sequence[str]) -> list[int]:
    """Return how many nulls each column has, and last how many rows there are."""
    if isinstance(table, pl.DataFrame):
        # In memory they are counted already.
        return [*(table.get_column(name).null_count() for name in columns), table.height]
    nulls = [
        nw.col(name).is_null().cast(nw.Int64).sum().alias(f"n{i}") for i, name in enumerate(columns)
    ]
    return list(collect(table.select(*nulls, nw.len().alias("rows"))).row(0))


def _read(spec: Asked, dtype: nw.dtypes.DType) -> nw.Expr:
    column = nw.col(spec.column)
    if spec.kind == "date":
        return day_number(column)
    if spec.kind == "moment":
        return epoch_second(column) if isinstance(dtype, nw.Datetime) else _midnight(column)
    if spec.kind == "number":
        value = column.cast(nw.Float64)
        # A float that is not a number says as little as a null: let both be null.
        return nw.when(~value.is_nan()).then(value) if dtype.is_float() else value
    return column


def _read_polars(spec: Asked, dtype: nw.dtypes.DType) -> nw.Expr:
    """Read as `_read` does: polars keeps dates and moments as the whole numbers that we count in.

    The arithmetic of `dates` gives the same numbers on every backend, at ten times the cost.
    """
    column = nw.col(spec.column)
    if dtype == nw.Date and spec.kind in ("date", "moment"):
        day = column.cast(nw.Int32).cast(nw.Int64)
        return day if spec.kind == "date" else day * SECONDS_PER_DAY
    if isinstance(dtype, nw.Datetime) and dtype.time_zone is None:
        ticks = SECONDS_PER_DAY if spec.kind == "date" else 1
        if spec.kind in ("date", "moment"):
            return floor_divide(column.cast(nw.Int64), ticks * _TICKS[dtype.time_unit])
    return _read(spec, dtype)


_TICKS = {"ns": 10**9, "us": 10**6, "ms": 10**3, "s": 1}
"""Ticks of a moment in one second."""


def _midnight(column: nw.Expr) -> nw.Expr:
    return day_number(column) * SECONDS_PER_DAY
