"""Count histories of a table in memory by sorting whole numbers: customer and day in one.

It gives what the lazy plan of `history` gives, ten times as fast; data that live in a database are
counted there instead.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["count_days", "fits"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST = 2**62
"""Customer and day must fit into one whole number."""

TOO_WIDE = (pl.UInt64, pl.Int128, pl.UInt128)
"""Whole numbers that a signed one of 64 bits cannot hold."""


def fits(purchases: pl.DataFrame) -> bool:
    """Return whether this table's customers can be numbered here: whole numbers or text."""
    kind = purchases.schema["customer"]
    return kind == pl.String or (kind.is_integer() and kind not in TOO_WIDE)


def count_days(purchases: pl.DataFrame) -> pl.DataFrame:
    """Count each customer's purchase days, in the order of customers.

    Parameters
    ----------
    purchases : polars DataFrame
        ``customer`` (whole numbers or text, without nulls), ``day`` (whole numbers) and ``value``
        (null where unknown).

    Returns
    -------
    polars DataFrame
        ``customer``, ``frequency`` (days after the first), ``first``, ``last``, ``gap_squares``,
        ``log_gaps``, ``value`` (sum over repeat days of known value) and ``n_valued``.
    """
    code, names = _numbered(purchases["customer"])
    day = purchases["day"].to_numpy().astype(np.int64)
    if not len(day):
        return _table(names, *(np.zeros(0, np.int64) for _column in range(7)))
    origin = int(day.min())
    span = int(day.max()) - origin + 1
    assert len(names) < LARGEST // span, "customers and days must fit into one whole number"
    key = code * span + (day - origin)
    valued = purchases["value"].null_count() < purchases.height
    order = _order(key, len(names) * span) if valued else None
    key = np.sort(key) if order is None else key[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    key = key[starts]
    who = key // span
    when = key - who * span
    begins = np.flatnonzero(np.concatenate([[True], who[1:] != who[:-1]]))
    n_days = np.diff(np.append(begins, len(who)))
    gap = np.diff(when, prepend=when[:1])
    gap[begins] = 0
    squares = np.add.reduceat(gap * gap, begins)
    logs = np.add.reduceat(np.log(np.maximum(gap, 1)), begins)
    total, n_valued = np.zeros(len(begins)), np.zeros(len(begins), np.int64)
    if order is not None:
        total, n_valued = _values(purchases["value"], order, starts, begins)
    ends = begins + n_days - 1
    return _table(
        names,
        n_days - 1,
        when[begins] + origin,
        when[ends] + origin,
        squares,
        logs,
        total,
        n_valued,
    )


def _order(key: Ints, n_keys: int) -> Ints:
    """Return the stable order of the keys: sorting numbers is quicker than sorting their places."""
    n = len(key)
    if n_keys < LARGEST // n:
        return np.sort(key * n + np.arange(n)) % n
    return np.argsort(key, kind="stable")


def _numbered(customers: pl.Series) -> tuple[Ints, pl.Series]:
    """Return each row's customer as 0, 1, … in the order of customers, and the customers."""
    if customers.dtype.is_integer():
        values = customers.to_numpy().astype(np.int64)
        low = int(values.min()) if len(values) else 0
        if len(values) and int(values.max()) - low < 4 * len(values):
            there = np.bincount(values - low) > 0
            place = np.cumsum(there) - 1
            return place[values - low], pl.Series(np.flatnonzero(there) + low)
        distinct, code = np.unique(values, return_inverse=True)
        return code.astype(np.int64), pl.Series(distinct)
    coded = customers.to_arrow().dictionary_encode()
    names = pl.Series(coded.dictionary).cast(pl.String)
    order = names.arg_sort().to_numpy()
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[coded.indices.to_numpy()], names.gather(order)


def _values(value: pl.Series, order: Ints, starts: Ints, begins: Ints) -> tuple[Floats, Ints]:
    """Sum values of a day, null where any is unknown, and of each customer's repeat days."""
    known = value.is_not_null().to_numpy()[order]
    amounts = value.fill_null(0.0).cast(pl.Float64).to_numpy()[order]
    whole = np.logical_and.reduceat(known, starts)
    # The first day makes a customer, and its value is not counted.
    whole[begins] = False
    day_total = np.where(whole, np.add.reduceat(amounts, starts), 0.0)
    return np.add.reduceat(day_total, begins), np.add.reduceat(whole.astype(np.int64), begins)


def _table(
    names: pl.Series,
    frequency: Ints,
    first: Ints,
    last: Ints,
    squares: Ints,
    logs: Floats | Ints,
    value: Floats | Ints,
    n_valued: Ints,
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "customer": names.alias("customer"),
            "frequency": frequency,
            "first": first,
            "last": last,
            "gap_squares": squares,
            "log_gaps": logs.astype(np.float64),
            "value": value.astype(np.float64),
            "n_valued": n_valued,
        }
    )
