"""Spells, counted by how long they lasted: what every figure of staying starts from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.dates import (
    DAYS_PER_MONTH,
    TimeUnit,
    keys_per_unit,
    to_day_number,
    with_elapsed_key,
)
from crm_analysis.errors import InputError
from crm_analysis.frames import Asked, collect, keys_of, open_table
from crm_analysis.survival import KaplanMeier, kaplan_meier

__all__ = [
    "COUNTS",
    "count_causes",
    "count_exits",
    "curve_of",
    "labelled",
    "last_at",
    "length_of",
    "open_spells",
    "parts_of",
    "watched_at",
    "whole_units",
]

Floats = NDArray[np.float64]

Columns = tuple[str, str, str | None, str | None, str | None]
"""Columns of spells: start, end, entry, cause, until; the last three may not be there."""

COUNTS = ("key", "n_entered", "n_exits", "n_censored")
"""The columns that `count_exits` returns beside those of `by`."""


def count_exits(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    until_col: str | None = None,
    as_of: date,
    unit: TimeUnit = "month",
    by: Sequence[str] = (),
) -> pl.DataFrame:
    """Count how many spells entered, ended and were censored at each duration.

    Runs where the data lives; what comes home has at most one row per distinct duration.

    Parameters
    ----------
    spells : table
        One row per spell.
    start_col, end_col : str
        First and last day; a null end, or one after `as_of`, is open at `as_of`.
    entry_col : str, optional
        Day from which the spell was observed, when that is after its start (left truncation):
        customers of before the CRM are known only because they stayed until it came.
    until_col : str, optional
        Day after which the spell was no longer observed; null = it was until `as_of`.
    as_of : date
        Last day the data covers; spells that start later are not counted.
    unit : {"day", "week", "month", "year"}
    by : sequence of str

    Returns
    -------
    polars DataFrame
        The columns of `by`, ``key`` (duration as in `dates.with_elapsed_key`), and counts
        ``n_entered``, ``n_exits``, ``n_censored`` at that duration.

    Raises
    ------
    InputError
        A spell ends, or is first observed, before it starts.
    """
    columns = (start_col, end_col, entry_col, None, until_col)
    counted = _count_spells(spells, columns, as_of, unit, by)
    return _by_duration(counted, by)


def count_causes(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    cause_col: str = "cause",
    as_of: date,
    unit: TimeUnit = "month",
    by: Sequence[str] = (),
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Count the same, and of what cause spells ended at each duration.

    Returns
    -------
    counts, causes : polars DataFrame
        As `count_exits`; and the columns of `by`, ``cause``, ``key`` and ``n_exits``. An end
        without a cause is of the cause null, unknown.
    """
    columns = (start_col, end_col, entry_col, cause_col, None)
    counted = _count_spells(spells, columns, as_of, unit, by)
    causes = (
        _ever_at_risk(counted)
        .filter(pl.col("n_exits") > 0)
        .group_by(*by, "cause", "key")
        .agg(pl.col("n_exits").sum())
        .sort(*by, "cause", "key", nulls_last=True)
    )
    return _by_duration(counted, by), causes


def _count_spells(
    spells: object, columns: Columns, as_of: date, unit: TimeUnit, by: Sequence[str]
) -> pl.DataFrame:
    start_col, end_col, entry_col, cause_col, until_col = columns
    last_day = to_day_number(as_of)
    frame = open_spells(spells, start_col, end_col, entry_col, cause_col, by, until_col=until_col)
    frame = frame.filter(nw.col("start") <= last_day, nw.col("entry") <= last_day)
    last = nw.lit(last_day)
    if until_col is not None:
        last = nw.when(nw.col("until") < last_day).then(nw.col("until")).otherwise(last)
    frame = frame.with_columns(last.alias("last"))
    frame = frame.with_columns(
        (~nw.col("end").is_null() & (nw.col("end") <= nw.col("last"))).cast(nw.Int64).alias("ended")
    ).with_columns(
        nw.when(nw.col("ended") == 1).then(nw.col("end")).otherwise(nw.col("last")).alias("end")
    )
    frame = with_elapsed_key(frame, "start", "end", unit, name="key")
    durations = ["key"]
    if entry_col is not None:
        frame = with_elapsed_key(frame, "start", "entry", unit, name="entry_key")
        durations.append("entry_key")
    groups = [*keys_of(by)]
    if cause_col is not None:
        frame = frame.with_columns(
            nw.when(nw.col("ended") == 1).then(nw.col("cause")).alias("cause")
        )
        groups.append("cause")
    counted = collect(
        frame.group_by(*groups, *durations).agg(
            nw.len().alias("n_spells"), nw.col("ended").sum().alias("n_exits")
        ),
        by=by,
        order=durations,
    )
    if entry_col is None:
        counted = counted.with_columns(entry_key=pl.lit(0, pl.Int64))
    _check_order(counted, start_col, end_col, entry_col)
    return counted


def open_spells(
    spells: object,
    start_col: str,
    end_col: str,
    entry_col: str | None,
    cause_col: str | None,
    by: Sequence[str],
    *,
    until_col: str | None = None,
) -> nw.LazyFrame[Any]:
    """Open spells as day numbers ``start``, ``end`` and ``entry`` (the start if null)."""
    asked = {
        "start": Asked(start_col, "date", "start_col"),
        "end": Asked(end_col, "date", "end_col", nullable=True),
    }
    if entry_col is not None:
        asked["entry"] = Asked(entry_col, "date", "entry_col", nullable=True)
    if cause_col is not None:
        asked["cause"] = Asked(cause_col, "key", "cause_col", nullable=True)
    if until_col is not None:
        asked["until"] = Asked(until_col, "date", "until_col", nullable=True)
    frame = open_table(spells, asked, by=by)
    entry = nw.coalesce("entry", "start") if entry_col is not None else nw.col("start")
    return frame.with_columns(entry.alias("entry"))


def _check_order(
    counted: pl.DataFrame, start_col: str, end_col: str, entry_col: str | None
) -> None:
    backward = counted.filter(pl.col("key") < 0)["n_spells"].sum()
    if backward:
        raise InputError(
            f"Spells must end on or after the day they start; {backward} of "
            f"{counted['n_spells'].sum()} have {end_col!r} before {start_col!r}. "
            "Correct or leave out those rows."
        )
    early = counted.filter(pl.col("entry_key") < 0)["n_spells"].sum()
    if early:
        raise InputError(
            f"A spell is observed from its start or later; {early} of "
            f"{counted['n_spells'].sum()} have {entry_col!r} before {start_col!r}. "
            "Put the later of the two days in the entry column."
        )


def _ever_at_risk(counted: pl.DataFrame) -> pl.DataFrame:
    # A spell that ends on the day it is first seen was never at risk, unless it also starts then.
    return counted.filter((pl.col("entry_key") < pl.col("key")) | (pl.col("entry_key") == 0))


def _by_duration(counted: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    seen = _ever_at_risk(counted)
    leaving = seen.select(
        *by,
        "key",
        n_entered=pl.lit(0, pl.Int64),
        n_exits="n_exits",
        n_censored=pl.col("n_spells") - pl.col("n_exits"),
    )
    entering = seen.select(
        *by,
        key="entry_key",
        n_entered="n_spells",
        n_exits=pl.lit(0, pl.Int64),
        n_censored=pl.lit(0, pl.Int64),
    )
    return (
        pl.concat([leaving, entering])
        .group_by(*by, "key")
        .agg(pl.col("n_entered", "n_exits", "n_censored").sum())
        .sort(*by, "key", nulls_last=True)
    )


def parts_of(table: pl.DataFrame, by: Sequence[str]) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Return each group's row of names and its part of a table, in order."""
    if not by:
        return [(pl.DataFrame(), table)] if table.height else []
    return [
        (part.select(by).head(1), part)
        for part in table.partition_by(list(by), maintain_order=True)
    ]


def labelled(group: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Put a group's names before its rows."""
    return group.join(rows, how="cross") if group.width else rows


def curve_of(counts: pl.DataFrame) -> KaplanMeier:
    """Return the curve of one group's counts, at its distinct durations."""
    return kaplan_meier(*(counts[name].to_numpy() for name in COUNTS))


def length_of(key: NDArray[Any], unit: TimeUnit) -> Floats:
    """Turn elapsed keys into lengths: whole months, spare days as parts of a mean month."""
    number = np.asarray(key, np.float64)
    if unit in ("day", "week"):
        return number / keys_per_unit(unit)
    step = keys_per_unit("month")
    months = number // step + (number % step) / DAYS_PER_MONTH
    return months / (keys_per_unit(unit) / step)


def whole_units(counts: pl.DataFrame, unit: TimeUnit) -> NDArray[np.int64]:
    """Return the whole units from 0 to the longest duration."""
    longest = int(counts["key"][-1]) // keys_per_unit(unit)
    return np.arange(longest + 1, dtype=np.int64)


def last_at(counts: pl.DataFrame, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of the last duration not after each key; -1 where there is none."""
    return np.searchsorted(counts["key"].to_numpy(), keys, side="right") - 1


def watched_at(counts: pl.DataFrame, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the spells under observation at each key: entered before it and not yet gone."""
    at = last_at(counts, keys)
    before = np.searchsorted(counts["key"].to_numpy(), keys, side="left")
    gone = np.concatenate([[0], np.cumsum(counts["n_exits"] + counts["n_censored"])])
    entered = np.concatenate([[0], np.cumsum(counts["n_entered"])])
    present = np.where(keys == 0, entered[at + 1], entered[before]) - gone[before]
    return np.asarray(present, np.int64)
