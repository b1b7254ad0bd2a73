"""What each customer's purchases say about the next ones: frequency, recency, age, value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import DAYS_PER_MONTH, DAYS_PER_YEAR, TIME_UNITS, TimeUnit, to_day_number
from crm_analysis.errors import InputError, listed
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_one_of,
    collect,
    group_names,
    keys_of,
    open_table,
    require_columns,
)
from crm_analysis.lifetime.day_counts import count_days, fits
from crm_analysis.lifetime.patterns import count_patterns
from crm_analysis.wording import _, date_text, number

__all__ = [
    "PurchaseHistory",
    "days_in",
    "open_purchase_days",
    "purchase_history",
]


_COLUMNS: dict[str, pl.DataType] = {
    "frequency": pl.Int64(),
    "recency": pl.Float64(),
    "age": pl.Float64(),
    "n_valued": pl.Int64(),
    "mean_value": pl.Float64(),
    "spacing": pl.Float64(),
    "sum_log_gaps": pl.Float64(),
}


def days_in(unit: TimeUnit) -> float:
    """Return the length of a unit of time in days; months and years are mean ones.

    Examples
    --------
    >>> days_in("week"), days_in("month")
    (7.0, 30.4375)
    """
    return {"day": 1.0, "week": 7.0, "month": DAYS_PER_MONTH, "year": DAYS_PER_YEAR}[unit]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PurchaseHistory:
    """Each customer's purchases until a day, as the models of buying need them.

    Attributes
    ----------
    table : polars DataFrame
        One row per customer (and group): the customer's column, the columns of `by`, and
        ``frequency`` (repeat purchase days x, Int64), ``recency`` (time t_x from the first to
        the last purchase day), ``age`` (time T from the first purchase day to `as_of`), both
        in `unit`, ``n_valued`` (repeat purchase days whose value is known), ``mean_value``
        (mean value of these; null without any), ``spacing`` (Greenwood's statistic: sum of
        the squared gaps between purchase days over t_x squared; null below two repeats) and
        ``sum_log_gaps`` (sum of the logarithms of the gaps, in `unit`; 0 without a repeat; null
        where the gaps are not known).
    unit : {"day", "week", "month", "year"}
        What ``recency`` and ``age`` are measured in; a month is 365.25 / 12 days.
    as_of : date or None
        Last day counted; None when the summary was given ready-made.
    by : tuple of str
        Group columns that the table carries.
    value_name : str or None
        The column whose values were averaged; None when values were not counted.
    """

    table: pl.DataFrame
    unit: TimeUnit = "week"
    as_of: date | None = None
    by: tuple[str, ...] = ()
    value_name: str | None = None

    def __post_init__(self) -> None:
        require_columns(self.table.columns, dict.fromkeys((*_COLUMNS, *self.by), "PurchaseHistory"))

    @classmethod
    def from_summary(
        cls,
        summary: pl.DataFrame,
        *,
        frequency_col: str = "frequency",
        recency_col: str = "recency",
        age_col: str = "age",
        value_col: str | None = None,
        sum_log_gaps_col: str | None = None,
        unit: TimeUnit = "week",
        by: str | Sequence[str] = (),
    ) -> PurchaseHistory:
        """Take a ready-made summary, one row per customer, such as a paper prints.

        Parameters
        ----------
        summary : polars DataFrame
        frequency_col, recency_col, age_col : str
            Columns of x, t_x and T.
        value_col : str, optional
            Column of the mean value of repeat purchases; ignored without a repeat.
        sum_log_gaps_col : str, optional
            Column of the sum of the logarithms of the gaps between purchases, in `unit`: what
            tells how regular they are (``litt`` in R's BTYDplus).
        unit : {"day", "week", "month", "year"}
            What recency and age are measured in.
        by : str or sequence of str

        Raises
        ------
        InputError
            A frequency below 0, a recency outside [0, age], or a recency of 0 with repeats.
        """
        by = group_names(by)
        asked = {frequency_col: "frequency_col", recency_col: "recency_col", age_col: "age_col"}
        if value_col is not None:
            asked[value_col] = "value_col"
        if sum_log_gaps_col is not None:
            asked[sum_log_gaps_col] = "sum_log_gaps_col"
        gaps = pl.lit(None) if sum_log_gaps_col is None else pl.col(sum_log_gaps_col)
        require_columns(summary.columns, asked | dict.fromkeys(by, "by"))
        value = pl.col(value_col) if value_col is not None else pl.lit(None, pl.Float64)
        repeated = pl.col("frequency") > 0
        table = summary.with_columns(
            frequency=pl.col(frequency_col).cast(pl.Int64),
            recency=pl.col(recency_col).cast(pl.Float64),
            age=pl.col(age_col).cast(pl.Float64),
            mean_value=value.cast(pl.Float64),
            spacing=pl.lit(None, pl.Float64),
            sum_log_gaps=gaps.cast(pl.Float64),
        ).with_columns(mean_value=pl.when(repeated).then("mean_value"))
        known = pl.col("mean_value").is_not_null()
        table = table.with_columns(n_valued=pl.when(known).then("frequency").otherwise(0))
        _check_summary(table)
        return cls(table=table, unit=unit, by=by, value_name=value_col)

    @property
    def n(self) -> int:
        """Number of customers."""
        return self.table.height

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that say who a row is: those that are neither counted nor groups."""
        known = (*_COLUMNS, *self.by)
        return tuple(name for name in self.table.columns if name not in known)

    @property
    def n_repeat(self) -> int:
        """Number of customers with a repeat purchase."""
        return int((self.table["frequency"] > 0).sum())

    @property
    def sum_log_gaps(self) -> float | None:
        """Sum of the logarithms of all gaps, in `unit`; None where some are not known."""
        repeated = self.table.filter(pl.col("frequency") > 0)["sum_log_gaps"]
        return None if repeated.null_count() else float(repeated.sum())

    @property
    def unit_days(self) -> float:
        """Length of the unit in days."""
        return days_in(self.unit)

    @cached_property
    def patterns(self) -> pl.DataFrame:
        """Distinct ``frequency``, ``recency``, ``age`` with ``weight``, how many share them."""
        return count_patterns(self.table, self.unit_days)

    def as_rows(self) -> PurchaseHistory:
        """Return the same history with a group ``row`` for each customer, in the same order."""
        table = self.table.with_row_index("row")
        return replace(self, table=table, by=("row",))

    def __str__(self) -> str:
        until = "" if self.as_of is None else _(" until {day}", day=date_text(self.as_of))
        return _(
            "{n} customers, {repeat} with a repeat purchase{until}.",
            n=number(self.n),
            repeat=number(self.n_repeat),
            until=until,
        )

    def __repr__(self) -> str:
        return f"PurchaseHistory: {self}"


def _check_summary(table: pl.DataFrame) -> None:
    wrong = table.filter(
        (pl.col("frequency") < 0)
        | (pl.col("recency") < 0)
        | (pl.col("recency") > pl.col("age"))
        | ((pl.col("frequency") > 0) & (pl.col("recency") == 0))
        | pl.any_horizontal(pl.col("frequency", "recency", "age").is_null())
        | pl.any_horizontal(pl.col("recency", "age").is_nan())
    )
    if wrong.height:
        row = wrong.select("frequency", "recency", "age").row(0)
        raise InputError(
            "A purchase history needs frequency >= 0 and 0 <= recency <= age, with recency above "
            f"0 after a repeat; {wrong.height} of {table.height} rows differ, for example "
            f"frequency {row[0]}, recency {row[1]}, age {row[2]}. Correct or leave out those rows."
        )


def open_purchase_days(
    purchases: object,
    *,
    customer_col: str,
    at_col: str,
    value_col: str | None = None,
    as_of: date,
    by: Sequence[str] = (),
) -> nw.LazyFrame[Any]:
    """Merge each customer's purchases of one day and add the customer's first day, lazily.

    Returns
    -------
    narwhals LazyFrame
        Group keys, ``customer``, ``day``, ``value`` (sum of the day; null when any purchase of
        the day has no value), ``first`` (the customer's first day), days to `as_of` only.
    """
    frame = _open_purchases(purchases, customer_col, at_col, value_col, as_of, by)
    who = [*keys_of(by), "customer"]
    days = frame.group_by(*who, "day").agg(
        nw.col("value").sum().alias("value"),
        nw.col("value").is_null().cast(nw.Int64).sum().alias("n_null"),
    )
    days = days.with_columns(
        nw.when(nw.col("n_null") == 0).then(nw.col("value")).alias("value"),
        nw.col("day").min().over(*who).alias("first"),
    )
    return days.drop("n_null")


def _open_purchases(
    purchases: object,
    customer_col: str,
    at_col: str,
    value_col: str | None,
    as_of: date,
    by: Sequence[str],
) -> nw.LazyFrame[Any]:
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "day": Asked(at_col, "date", "at_col"),
    }
    if value_col is not None:
        asked["value"] = Asked(value_col, "number", "value_col", nullable=True)
    frame = open_table(purchases, asked, by=by)
    if value_col is None:
        frame = frame.with_columns(nw.lit(None).cast(nw.Float64).alias("value"))
    return frame.filter(nw.col("day") <= to_day_number(as_of))


def purchase_history(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    value_col: str | None = "margin",
    unit: TimeUnit = "week",
    as_of: date,
    by: str | Sequence[str] = (),
) -> PurchaseHistory:
    """How often, how recently, since when and for how much each customer has bought.

    Purchases of one customer on one day are one purchase, their values added. The first day
    makes a customer; later days are repeats, and only their values enter ``mean_value``.

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col : str
        Columns of the customer's key and of the day.
    value_col : str or None
        Column of the value (margin, revenue) of a purchase; None counts purchases alone. A day
        with a purchase of unknown value counts as a purchase day and is left out of
        ``mean_value``; values of zero and below are kept as they are.
    unit : {"day", "week", "month", "year"}
        What recency and age are measured in: days divided by 1, 7, 30.4375 or 365.25.
    as_of : date
        Last day counted: later purchases are ignored, which ends a calibration period.
    by : str or sequence of str
        Group columns. A customer seen in two groups is two customers, one in each.

    Returns
    -------
    PurchaseHistory

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null where it must not be.
    InputError
        An unknown unit, or `as_of` that is no date.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284, section 3.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> purchases = pl.DataFrame({
    ...     "customer_id": [1, 1, 1, 2],
    ...     "happened_on": [date(2025, 1, 1), date(2025, 1, 15), date(2025, 1, 15),
    ...                     date(2025, 1, 8)],
    ...     "margin": [900.0, 40.0, 60.0, 700.0],
    ... })
    >>> history = purchase_history(purchases, as_of=date(2025, 2, 5))
    >>> history.table.select("customer_id", "frequency", "recency", "age", "mean_value").rows()
    [(1, 1, 2.0, 5.0, 100.0), (2, 0, 0.0, 4.0, None)]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    check_one_of("unit", unit, TIME_UNITS)
    _check_names(customer_col, by)
    counted = _count_here(purchases, customer_col, at_col, value_col, as_of, by)
    if counted is None:
        days = open_purchase_days(
            purchases, customer_col=customer_col, at_col=at_col, value_col=value_col,
            as_of=as_of, by=by,
        )  # fmt: skip
        counted = _count(days, by)
    table = _in_units(counted, days_in(unit), to_day_number(as_of), valued=value_col is not None)
    table = table.rename({"customer": customer_col})
    columns = [*by, customer_col, *_COLUMNS]
    return PurchaseHistory(
        table=table.select(columns), unit=unit, as_of=as_of, by=by, value_name=value_col
    )


def _check_names(customer_col: str, by: Sequence[str]) -> None:
    taken = sorted({customer_col, *by} & set(_COLUMNS))
    if taken or customer_col in by:
        raise InputError(
            f"The customer's column {customer_col!r} and the groups {listed(by)} must differ, and "
            f"differ from the columns of a history ({listed(_COLUMNS)}). Rename the columns."
        )


def _count_here(
    purchases: object,
    customer_col: str,
    at_col: str,
    value_col: str | None,
    as_of: date,
    by: Sequence[str],
) -> pl.DataFrame | None:
    """Count a table that is in memory by sorting; None for groups, and for data elsewhere."""
    if by or not isinstance(nw.to_native(purchases, pass_through=True), pl.DataFrame):
        return None
    frame = _open_purchases(purchases, customer_col, at_col, value_col, as_of, by).to_native()
    assert isinstance(frame, pl.LazyFrame)
    table = frame.collect()
    return count_days(table) if fits(table) else None


def _count(days: nw.LazyFrame[Any], by: Sequence[str]) -> pl.DataFrame:
    who = [*keys_of(by), "customer"]
    previous = nw.col("day").shift(1).over(*who, order_by="day")
    counted = (
        days.with_columns(previous.alias("previous"))
        .with_columns(
            (nw.col("day") - nw.col("previous")).alias("gap"),
            (nw.col("day") > nw.col("first")).cast(nw.Int64).alias("repeat"),
        )
        .with_columns(
            (nw.col("gap") * nw.col("gap")).alias("gap_square"),
            nw.col("gap").cast(nw.Float64).log().alias("log_gap"),
            nw.when(nw.col("repeat") == 1).then(nw.col("value")).alias("repeat_value"),
        )
        .group_by(*who)
        .agg(
            nw.col("repeat").sum().alias("frequency"),
            nw.col("first").min().alias("first"),
            nw.col("day").max().alias("last"),
            nw.col("gap_square").sum().alias("gap_squares"),
            nw.col("log_gap").sum().alias("log_gaps"),
            nw.col("repeat_value").sum().alias("value"),
            nw.col("repeat_value").count().alias("n_valued"),
        )
    )
    return collect(counted, by=by, order=["customer"])


def _in_units(
    counted: pl.DataFrame, days_per_unit: float, last_day: int, *, valued: bool
) -> pl.DataFrame:
    recency = pl.col("last") - pl.col("first")
    several = pl.col("frequency") > 1
    n_valued = pl.col("n_valued") if valued else pl.lit(0, pl.Int64)
    return counted.with_columns(
        n_valued=n_valued,
        recency=recency / days_per_unit,
        age=(last_day - pl.col("first")) / days_per_unit,
        sum_log_gaps=pl.col("log_gaps").fill_null(0.0)
        - pl.col("frequency") * float(np.log(days_per_unit)),
        spacing=pl.when(several).then(pl.col("gap_squares") / recency.cast(pl.Float64) ** 2),
    ).with_columns(
        mean_value=pl.when(pl.col("n_valued") > 0).then(pl.col("value") / pl.col("n_valued"))
    )
