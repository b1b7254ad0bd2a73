"""Events of leads that lie in polars: one sort of whole numbers in place of a plan.

Lead, moment and stage of an event fit into one whole number of 64 bits, so that sorting those
numbers puts the events of a lead in a row, in time, and at one moment in the order of the stages.
What a plan does by joins and windows is then one pass over blocks that fit the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.collected import collected
from crm_analysis.frames import keys_of
from crm_analysis.funnel.lead_events import Frame, refuse_mixed

__all__ = [
    "Block",
    "SortedEvents",
    "first_of_each",
    "first_of_each_code",
    "runs",
    "sort_events",
]

Whole = NDArray[np.int64]

_BITS = 63
"""Bits of a whole number that may be filled: all but the sign."""

_BLOCK = 1 << 18
"""Events looked at in one go: a few arrays of so many lie in the processor's cache."""

_SPARSE = 4
"""Numbers of leads may range over so many times their events before they are renumbered."""


_MOST_NUMBERED = 1 << 16
"""Whole numbers of groups that lie in so narrow a range are not looked up one by one."""


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
        Lead, moment, stage and group in one number, ascending.
    groups : polars DataFrame
        The columns of `by`, one row per number of a group.
    unit_col : str
        The user's name of the lead's column.
    """

    keys: Whole
    groups: pl.DataFrame
    unit_col: str
    first_at: int
    moment_bits: int
    code_bits: int
    group_bits: int

    def blocks(self) -> Iterator[Block]:
        """Yield the events in blocks that never cut a lead in two.

        Raises
        ------
        InputError
            A lead lies in several groups.
        """
        shift = self._shift
        low = 0
        while low < len(self.keys):
            high = self._end_of_lead(min(low + _BLOCK, len(self.keys)), shift)
            part, low = self.keys[low:high], high
            lead = part >> shift
            new = np.concatenate([[True], lead[1:] != lead[:-1]])
            number = np.cumsum(new) - 1
            at = (part >> self.code_bits + self.group_bits) & ((1 << self.moment_bits) - 1)
            code = (part >> self.group_bits) & ((1 << self.code_bits) - 1)
            own = part & ((1 << self.group_bits) - 1)
            group = own[new]
            if self.group_bits and (own != group[number]).any():
                self._refuse()
            yield Block(number, at + self.first_at, code, len(group), group)

    @property
    def _shift(self) -> int:
        return self.moment_bits + self.code_bits + self.group_bits

    def _refuse(self) -> NoReturn:
        """Say how many leads lie in several groups."""
        lead, group = self.keys >> self._shift, self.keys & ((1 << self.group_bits) - 1)
        other = (lead[1:] == lead[:-1]) & (group[1:] != group[:-1])
        mixed, whole = len(np.unique(lead[1:][other])), len(np.unique(lead))
        refuse_mixed(mixed, whole, self.groups.columns, self.unit_col)

    def _end_of_lead(self, at: int, shift: int) -> int:
        last = int(self.keys[at - 1]) >> shift
        if at == len(self.keys) or last == int(self.keys[-1]) >> shift:
            return len(self.keys)
        return int(np.searchsorted(self.keys, (last + 1) << shift))


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
    """
    native = frame.to_native()
    if not isinstance(native, pl.LazyFrame):
        return None
    whole = native.collect_schema()["unit"].is_integer()
    span = _span(native, end, by, whole=whole)
    if span.high - span.low > _SPARSE * span.n_events + _BLOCK:
        native = native.with_columns(pl.col("unit").rank("dense").cast(pl.Int64))
        span = _span(native, end, by, whole=True)
    events = native.with_columns(_code(native, stages).alias("code")).filter(
        pl.col("at") <= end, pl.col("code") > 0
    )
    groups, events = _numbered(events, by, span)
    sizes = (
        (span.high - span.low).bit_length(),
        max(span.last_at - span.first_at, 0).bit_length(),
        len(stages).bit_length(),
        (groups.height - 1).bit_length() if by else 0,
    )
    if sum(sizes) > _BITS:
        return None
    _lead_bits, moment_bits, code_bits, group_bits = sizes
    key = (pl.col("unit").cast(pl.Int64) - span.low) * (1 << moment_bits + code_bits + group_bits)
    key = key + (pl.col("at") - span.first_at) * (1 << code_bits + group_bits)
    key = key + pl.col("code").cast(pl.Int64) * (1 << group_bits)
    key = key + pl.col("group") if by else key
    keys = _streamed(events.select(key.cast(pl.Int64))).to_series().to_numpy()
    keys = np.array(keys)  # polars' own memory must not be written to
    keys.sort()
    return SortedEvents(keys, groups, unit_col, span.first_at, moment_bits, code_bits, group_bits)


def _streamed(plan: pl.LazyFrame) -> pl.DataFrame:
    return collected(plan, engine="streaming")


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


class _Span(NamedTuple):
    """First and last lead and moment, number of events, first and last number of a group."""

    low: int
    high: int
    first_at: int
    last_at: int
    n_events: int
    first_group: int | None
    last_group: int | None


def _span(native: pl.LazyFrame, end: int, by: Sequence[str], *, whole: bool) -> _Span:
    """Find how far leads, moments and numbered groups reach, whatever the stage."""
    unit, at = pl.col("unit"), pl.col("at")
    ends = [unit.min(), unit.max()] if whole else [pl.lit(0), pl.lit(1 << 62)]
    groups = [pl.lit(None), pl.lit(None)]
    if len(by) == 1 and native.collect_schema()[keys_of(by)[0]].is_integer():
        groups = [pl.col(keys_of(by)[0]).min(), pl.col(keys_of(by)[0]).max()]
    reach = native.select(
        *[one.cast(pl.Int64).alias(name) for one, name in zip(ends, "ab", strict=True)],
        at.min().alias("c"), at.max().clip(upper_bound=end).alias("d"),
        pl.len().cast(pl.Int64).alias("e"),
        *[one.cast(pl.Int64, strict=False).alias(name)
          for one, name in zip(groups, "fg", strict=True)],
    )  # fmt: skip
    row = _streamed(reach).row(0)
    return _Span(*row) if row[4] else _Span(0, 0, 0, 0, 0, None, None)


def _numbered(
    events: pl.LazyFrame, by: Sequence[str], span: _Span
) -> tuple[pl.DataFrame, pl.LazyFrame]:
    """Return the groups in the order of their numbers, and the events with them as ``group``."""
    keys = keys_of(by)
    if not by:
        return pl.DataFrame({"": [0]}).select([]), events
    names = dict(zip(keys, by, strict=True))
    if span.first_group is not None and span.last_group is not None:
        # Whole numbers that lie close are numbered by subtraction, which needs no join.
        width = span.last_group - span.first_group + 1
        if width < _MOST_NUMBERED:
            number = pl.col(keys[0]).cast(pl.Int64) - span.first_group
            values = [*range(span.first_group, span.last_group + 1), None]
            groups = pl.DataFrame({keys[0]: values}, schema_overrides={
                keys[0]: events.collect_schema()[keys[0]]
            })  # fmt: skip
            return groups.rename(names), events.with_columns(number.fill_null(width).alias("group"))
    groups = _streamed(events.select(keys).unique())
    numbered = groups.with_row_index("group").with_columns(pl.col("group").cast(pl.Int64))
    joined = events.join(numbered.lazy(), on=list(keys), nulls_equal=True)
    return groups.rename(names), joined


def runs(values: Whole) -> tuple[Whole, Whole]:
    """Return the distinct values of a sorted array, and how often each stands there."""
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
    return values[first], np.diff(np.append(first, len(values)))


def first_of_each_code(block: Block, n_codes: int, otherwise: int) -> Whole:
    """Return each lead's first moment of each stage, shape (n_codes, leads), codes from 1."""
    out = np.full(n_codes * block.n_leads, otherwise, np.int64)
    place = (block.code - 1) * block.n_leads + block.lead
    out[place[::-1]] = block.at[::-1]  # of an index that comes twice, the last value stays
    return out.reshape(n_codes, block.n_leads)


def first_of_each(lead: Whole, value: Whole, n_leads: int, otherwise: int) -> Any:
    """Return, for each lead, the value of its first row; `otherwise` where it has none."""
    out = np.full(n_leads, otherwise, np.int64)
    out[lead[::-1]] = value[::-1]  # of an index that comes twice, the last value stays
    return out
