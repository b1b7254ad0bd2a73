"""Count histories of a table in memory by sorting whole numbers: customer and day in one.

It gives what the lazy plan of `history` gives, ten times as fast; data that live in a database are
counted there instead.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["count_days", "fits"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST = 2**62
"""Customer and day must fit into one whole number."""

CHUNK = 32_768
"""Texts read at once: what fits the processor's cache."""

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
    day = purchases["day"].to_numpy().astype(np.int64)
    if not len(day):
        return _table(purchases["customer"], *(np.zeros(0, np.int64) for _column in range(7)))
    origin = int(day.min())
    bits = (int(day.max()) - origin).bit_length()
    code, name = _numbered(purchases["customer"], LARGEST >> bits)
    # In place from here on: fresh memory costs more than the arithmetic.
    day -= origin
    code <<= bits
    code += day
    valued = purchases["value"].null_count() < purchases.height
    order = _order(code, int(code.max()) + 1) if valued else None
    # polars sorts whole numbers in half the time of numpy.
    key = pl.Series(code).sort().to_numpy() if order is None else code[order]
    new = np.empty(len(key), bool)
    new[0] = True
    np.not_equal(key[1:], key[:-1], out=new[1:])
    when = key[new]
    n = len(when)
    who = np.right_shift(when, bits, out=code[:n])
    when &= (1 << bits) - 1
    begins = np.flatnonzero(np.concatenate([[True], who[1:] != who[:-1]]))
    customers = name(who[begins])
    n_days = np.diff(np.append(begins, n))
    gap = day[:n]
    np.subtract(when[1:], when[:-1], out=gap[1:])
    gap[begins] = 0
    squares = np.add.reduceat(np.multiply(gap, gap, out=who), begins)
    # Gaps are few different whole numbers: their logarithms are looked up.
    log = np.log(np.maximum(np.arange(int(gap.max()) + 1), 1))
    logs = np.add.reduceat(np.take(log, gap, out=who.view(np.float64)), begins)
    total, n_valued = np.zeros(len(begins)), np.zeros(len(begins), np.int64)
    if order is not None:
        starts = np.flatnonzero(new)
        total, n_valued = _values(purchases["value"], order, starts, begins)
    ends = begins + n_days - 1
    return _table(
        customers,
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


Names = Callable[[Ints], pl.Series]
"""Takes customers' numbers, ascending; returns the customers."""


def _numbered(customers: pl.Series, most: int) -> tuple[Ints, Names]:
    """Return each row's customer as a number below `most`, in the order of customers.

    Whole numbers, and digits after the same letters ("C0001234"), are their own numbers; other
    texts are looked up, which takes most of the time.
    """
    if customers.dtype.is_integer():
        values = customers.to_numpy().astype(np.int64)
        low = int(values.min())
        if int(values.max()) - low < most:
            return values - low, lambda code: pl.Series(code + low)
        distinct, code = np.unique(values, return_inverse=True)
        return code.astype(np.int64), lambda code: pl.Series(distinct[code])
    read = _digits(customers, most)
    if read is not None:
        return read
    coded = customers.to_arrow().dictionary_encode()
    names = pl.Series(coded.dictionary).cast(pl.String)
    order = names.arg_sort().to_numpy()
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[coded.indices.to_numpy()], lambda code: names.gather(order[code])


def _digits(customers: pl.Series, most: int) -> tuple[Ints, Names] | None:
    """Read texts that differ in digits alone, all of one length; None where they are others."""
    sizes = customers.str.len_bytes()
    size = int(sizes.min())  # type: ignore[arg-type]
    low, high = str(customers.min()).encode(), str(customers.max()).encode()
    if size != sizes.max() or low == high:
        return None
    # What the first and the last in order begin with, all begin with.
    same = next(i for i in range(size) if low[i] != high[i])
    if 10 ** (size - same) > most:
        return None
    text = customers.rechunk().to_arrow()
    first = text.offset * size
    letters = np.frombuffer(text.buffers()[2], np.uint8, len(text) * size, first)
    code = np.empty(len(text), np.int64)
    for at in range(0, len(text), CHUNK):
        # Anything but a digit is above 9 here: bytes below "0" turn round.
        digit = letters.reshape(-1, size)[at : at + CHUNK, same:] - np.uint8(ord("0"))
        if digit.max() > 9:
            return None
        part = digit[:, 0].astype(np.int64)
        for column in digit.T[1:]:
            part = part * 10 + column
        code[at : at + CHUNK] = part
    before = low[:same].decode()

    def name(code: Ints) -> pl.Series:
        return before + pl.Series(code).cast(pl.String).str.zfill(size - same)

    return code, name


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
