"""What each customer brought: one row a customer, summed where the data lie."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import to_day_number
from crm_analysis.frames import Asked, collect, keys_of, open_table

__all__ = ["customer_values", "open_values"]


def open_values(
    data: object,
    *,
    customer_col: str,
    value_col: str,
    at_col: str | None,
    since: date | None,
    as_of: date,
    by: Sequence[str],
) -> nw.LazyFrame[Any]:
    """Open the rows from `since` to `as_of`: groups, ``customer``, ``value``, maybe ``day``."""
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "value": Asked(value_col, "number", "value_col", nullable=True),
    }
    if at_col is not None:
        asked["day"] = Asked(at_col, "date", "at_col")
    frame = open_table(data, asked, by=by)
    if at_col is None:
        return frame
    frame = frame.filter(nw.col("day") <= to_day_number(as_of))
    return frame if since is None else frame.filter(nw.col("day") >= to_day_number(since))


def customer_values(
    data: object,
    *,
    customer_col: str,
    value_col: str,
    at_col: str | None,
    since: date | None,
    as_of: date,
    by: Sequence[str],
) -> pl.DataFrame:
    """Sum the value of every customer: groups, ``customer``, ``value``, ``n_rows``, ``n_unknown``.

    A row whose value is not known adds nothing and is counted in ``n_unknown``. The most valuable
    customer comes first; equal values stand in the order of their keys, so that no row order shows.
    """
    frame = open_values(
        data, customer_col=customer_col, value_col=value_col, at_col=at_col, since=since,
        as_of=as_of, by=by,
    )  # fmt: skip
    unknown = nw.col("value").is_null().cast(nw.Int64)
    summed = (
        frame.with_columns(unknown.alias("unknown"))
        .group_by(*keys_of(by), "customer")
        .agg(
            nw.col("value").sum().alias("value"),
            nw.len().alias("n_rows"),
            nw.col("unknown").sum().alias("n_unknown"),
        )
    )
    table = collect(summed, by=by, order=["customer"])
    return table.with_columns(pl.col("value").fill_null(0.0)).sort(
        [*by, "value", "customer"],
        descending=[*([False] * len(by)), True, False],
        nulls_last=True,
    )
