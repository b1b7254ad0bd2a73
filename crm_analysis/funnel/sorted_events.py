"""Events of leads that lie in polars: one sort of whole numbers in place of a plan.

Lead, moment and stage of an event fit into one whole number of 64 bits, so that sorting those
numbers puts the events of a lead in a row, in time, and at one moment in the order of the stages.
What a plan does by joins and windows is then one pass over blocks that fit the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.frames import keys_of
from crm_analysis.funnel.lead_events import Frame, refuse_mixed

__all__ = ["Block", "SortedEvents", "first_of_each", "runs", "sort_events"]

Whole = NDArray[np.int64]

_BITS = 62
"""Bits of a whole number that may be filled, one spared beside the sign."""

_BLOCK = 1 << 18
"""Events looked at in one go: a few arrays of so many lie in the processor's cache."""

_SPARSE = 4
"""Numbers of leads may range over so many times their events before they are renumbered."""


class Block(NamedTuple):
    """Some leads with all of their events, sorted.

    ``lead`` counts leads from 0 within the block; ``code`` is 1 for the first stage asked for;
    ``group`` holds the number of each lead's group.
    """

    lead: Whole
    at: Whole
    code: Whole
    n_leads: int
    group: Whole


@dataclass(frozen=True)
class SortedEvents:
    """Events of leads as sorted whole numbers.

    Attributes
    ----------
    keys : ndarray of int64, shape (events,)
        Lead, moment and stage in one number, ascending.
    groups : polars DataFrame
        The columns of `by`, one row per group.
    """

    keys: Whole
    groups: pl.DataFrame
    group_of: NDArray[np.uint32] | None
    first_at: int
    moment_bits: int
    code_bits: int

    def blocks(self) -> Iterator[Block]:
        """Yield the events in blocks that never cut a lead in two."""
        shift = self.moment_bits + self.code_bits
        low = 0
        while low < len(self.keys):
            high = self._end_of_lead(min(low + _BLOCK, len(self.keys)), shift)
            part, low = self.keys[low:high], high
            lead = part >> shift
            at = (part >> self.code_bits) & ((1 << self.moment_bits) - 1)
            code = part & ((1 << self.code_bits) - 1)
            new = np.concatenate([[True], lead[1:] != lead[:-1]])
            number = np.cumsum(new) - 1
            leads = lead[new]
            group = np.zeros(len(leads), np.int64)
            if self.group_of is not None:
                group = self.group_of[leads].astype(np.int64)
            yield Block(number, at + self.first_at, code, len(leads), group)

    def _end_of_lead(self, at: int, shift: int) -> int:
        if at == len(self.keys):
            return at
        past = ((int(self.keys[at - 1]) >> shift) + 1) << shift
        return int(np.searchsorted(self.keys, past))


def sort_events(
    frame: Frame, stages: Sequence[str], end: int, by: Sequence[str], unit_col: str
) -> SortedEvents | None:
    """Sort the events of these stages up to a moment; None where only a plan will do.

    Parameters
    ----------
    frame : narwhals LazyFrame
        Columns ``unit``, ``stage``, ``at`` (epoch seconds) and groups.
    stages : sequence of str
        Different stages, in their order.
    end : int
        Last second to be looked at.
    by : sequence of str
    unit_col : str
        The user's name of the lead's column.

    Raises
    ------
    InputError
        A lead lies in several groups.
    """
    native = frame.to_native()
    if not isinstance(native, pl.LazyFrame):
        return None
    events = native.with_columns(_code(native, stages).alias("code")).filter(
        pl.col("at") <= end, pl.col("code") > 0
    )
    unit = pl.col("unit")
    whole = native.collect_schema()["unit"].is_integer()
    low, high, first_at, last_at, n_events = _span(events, whole=whole)
    if high - low > _SPARSE * n_events + _BLOCK:
        events = events.with_columns(unit.rank("dense").cast(pl.Int64))
        low, high, first_at, last_at, n_events = _span(events, whole=True)
    n_leads = high - low + 1
    moment_bits, code_bits = (last_at - first_at).bit_length(), len(stages).bit_length()
    if (high - low).bit_length() + moment_bits + code_bits > _BITS:
        return None
    lead = unit.cast(pl.Int64) - low
    key = lead * (1 << moment_bits + code_bits) + (pl.col("at") - first_at) * (1 << code_bits)
    key = key + pl.col("code")
    keys = events.select(key.cast(pl.Int64)).collect(engine="streaming").to_series().to_numpy()
    keys = np.array(keys)  # polars' own memory must not be written to
    keys.sort()
    groups, group_of = _groups(events.with_columns(lead.alias("unit")), n_leads, by, unit_col)
    return SortedEvents(keys, groups, group_of, first_at, moment_bits, code_bits)


def _code(native: pl.LazyFrame, stages: Sequence[str]) -> pl.Expr:
    """Return the number of an event's stage, from 1; 0 for one that was not asked for."""
    dtype = native.collect_schema()["stage"]
    known = set(dtype.categories) if isinstance(dtype, pl.Enum) else set(stages)
    stage = pl.col("stage").cast(pl.String) if dtype.is_numeric() else pl.col("stage")
    code = pl.lit(0, pl.UInt8)
    for i, name in enumerate(stages, start=1):
        if name in known:
            code = code + (stage == name).cast(pl.UInt8) * pl.lit(i, pl.UInt8)
    return code


def _span(events: pl.LazyFrame, *, whole: bool) -> tuple[int, int, int, int, int]:
    """Return the first and last lead and moment, and the number of events."""
    unit, at = pl.col("unit"), pl.col("at")
    ends = [unit.min(), unit.max()] if whole else [pl.lit(0), pl.lit(1 << _BITS)]
    row = events.select(
        ends[0].cast(pl.Int64).alias("a"), ends[1].cast(pl.Int64).alias("b"),
        at.min().alias("c"), at.max().alias("d"), pl.len().cast(pl.Int64).alias("e"),
    ).collect(engine="streaming").row(0)  # fmt: skip
    n_events = row[4]
    return (0, 0, 0, 0, 0) if n_events == 0 else row


def _groups(
    events: pl.LazyFrame, n_leads: int, by: Sequence[str], unit_col: str
) -> tuple[pl.DataFrame, NDArray[np.uint32] | None]:
    """Number the groups and find that of each lead, or refuse leads that lie in several."""
    keys = keys_of(by)
    if not by:
        return pl.DataFrame({"": [0]}).select([]), None
    groups = events.select(keys).unique().collect(engine="streaming")
    numbered = groups.with_row_index("group")
    pairs = (
        events.join(numbered.lazy(), on=list(keys), nulls_equal=True)
        .select(pl.col("unit").cast(pl.UInt32 if n_leads < 2**32 else pl.Int64), "group")
        .collect(engine="streaming")
    )
    lead, group = (pairs[name].to_numpy() for name in ("unit", "group"))
    group_of = np.zeros(n_leads, np.uint32)
    group_of[lead] = group
    other = group_of[lead] != group
    if other.any():
        refuse_mixed(len(np.unique(lead[other])), len(np.unique(lead)), by, unit_col)
    names = dict(zip(keys, by, strict=True))
    return groups.rename(names), group_of


def runs(values: Whole) -> tuple[Whole, Whole]:
    """Return the distinct values of a sorted array, and how often each stands there."""
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
    return values[first], np.diff(np.append(first, len(values)))


def first_of_each(lead: Whole, value: Whole, n_leads: int, otherwise: int) -> Any:
    """Return, for each lead, the value of its first row; `otherwise` where it has none."""
    out = np.full(n_leads, otherwise, np.int64)
    out[lead[::-1]] = value[::-1]  # of an index that comes twice, the last value stays
    return out
