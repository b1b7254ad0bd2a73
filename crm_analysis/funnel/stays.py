"""How long each lead stayed in each stage: the relational half of `time_in_stage`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import floor_divide
from crm_analysis.frames import collect, keys_of
from crm_analysis.funnel.lead_events import (
    Columns,
    Frame,
    group_marks,
    last_second,
    one_group_each,
    with_mixed,
    with_stage_text,
)
from crm_analysis.funnel.sorted_events import (
    Block,
    SortedEvents,
    first_of_each,
    first_of_each_code,
    runs,
    sort_events,
)
from crm_analysis.survival import all_at_start

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OUTCOMES", "StayCounts", "count_stays", "from_zero", "together"]

OUTCOMES = ("n_moved_on", "n_lost", "n_open")
"""How a stay ends, or does not: the columns that count them, in the order of their codes."""

_MOVED, _LOST, _OPEN = range(len(OUTCOMES))


def count_stays(
    frame: Frame,
    *,
    columns: Columns,
    stages: tuple[str, ...],
    end_stages: tuple[str, ...],
    as_of: date,
    by: Sequence[str] = (),
) -> tuple[StayCounts, ...]:
    """Count leads by how many whole minutes they stayed in a stage, and how that ended.

    Returns
    -------
    tuple of StayCounts
        One per group and stage that a lead entered, in their order. The last stage is where leads
        are going, and has none.

    Raises
    ------
    InputError
        A lead lies in several groups.
    """
    end = last_second(as_of)
    known = [*stages, *end_stages]
    sorted_events = sort_events(frame, known, end, by, columns.unit)
    if sorted_events is not None:
        return _count_sorted(sorted_events, len(stages), len(known), end, by)
    frame = with_stage_text(frame).filter(nw.col("at") <= end, nw.col("stage").is_in(known))
    counted = one_group_each(_count_planned(frame, stages, end, by), by, columns.unit)
    parts = counted.partition_by([*by, "step"], maintain_order=True)
    return tuple(_from_rows(part, by) for part in parts)


@dataclass(frozen=True)
class StayCounts:
    """Stays in one stage, of one group, at their distinct lengths in whole minutes.

    Attributes
    ----------
    group : dict
        The values of the group columns.
    step : int
        1 for the first stage.
    minutes : ndarray of int64, shape (m,)
    n : ndarray of int64, shape (3, m)
        How many of each length ended as `OUTCOMES` say.
    """

    group: dict[str, Any]
    step: int
    minutes: NDArray[np.int64]
    n: NDArray[np.int64]


def from_zero(
    minutes: NDArray[np.int64], n: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Let lengths begin with 0, where every stay does.

    Returns
    -------
    minutes, n_entered : ndarray of int64, shape (m,)
    n : ndarray of int64, shape (3, m)
    """
    if minutes[0] > 0:
        minutes = np.concatenate([[0], minutes])
        n = np.concatenate([np.zeros((len(OUTCOMES), 1), np.int64), n], axis=1)
    return minutes, all_at_start(len(minutes), n.sum()), n


def together(parts: Sequence[StayCounts]) -> StayCounts:
    """Put the groups of one stage together."""
    if len(parts) == 1:
        return parts[0]
    n = np.zeros((1 + max(int(part.minutes[-1]) for part in parts), len(OUTCOMES)), np.int64)
    for part in parts:
        n[part.minutes] += part.n.T  # a row an entry lies together in memory
    minutes = np.flatnonzero(n.any(axis=1))
    return StayCounts({}, parts[0].step, minutes, n[minutes].T)


def _from_codes(codes: NDArray[np.int64], n: NDArray[np.int64]) -> Any:
    """Return lengths and counts by outcome from ascending ``minutes * outcomes + outcome``."""
    length, outcome = np.divmod(codes, len(OUTCOMES))
    new = np.concatenate([[True], length[1:] != length[:-1]])
    minutes = length[new]
    counts = np.zeros((len(OUTCOMES), len(minutes)), np.int64)
    counts[outcome, np.cumsum(new) - 1] = n
    return minutes, counts


def _from_rows(rows: pl.DataFrame, by: Sequence[str]) -> StayCounts:
    first = rows.row(0, named=True)
    codes = rows["minutes"].to_numpy() * len(OUTCOMES) + rows["outcome"].to_numpy()
    group = {name: first[name] for name in by}
    return StayCounts(group, first["step"], *_from_codes(codes, rows["n_units"].to_numpy()))


# Events in memory: one sort, one pass -----------------------------------------------------


def _count_sorted(
    events: SortedEvents, n_stages: int, n_codes: int, end: int, by: Sequence[str]
) -> tuple[StayCounts, ...]:
    longest = max(end - events.first_at, 0) // 60 + 1
    per_group = longest * len(OUTCOMES)
    # Half as wide numbers sort in half the time.
    narrow = max(events.groups.height, 1) * per_group < 1 << 32
    dtype = np.uint32 if narrow else np.int64
    parts = [
        [codes.astype(dtype) for codes in _stay_codes(block, n_stages, n_codes, end, per_group)]
        for block in events.blocks()
    ]
    by_step = [np.concatenate([np.empty(0, dtype), *codes]) for codes in zip(*parts, strict=True)]
    del parts
    for codes in by_step:
        codes.sort()
    groups = events.groups.with_columns(
        pl.col(name).cast(pl.String)
        for name in by
        if isinstance(events.groups.schema[name], pl.Enum | pl.Categorical)
    )
    order = groups.with_row_index("#").sort(by, nulls_last=True)["#"].to_list() if by else [0]
    present = {int(group) for codes in by_step for group in np.unique(codes // per_group)}
    found = []
    for group in filter(present.__contains__, order):
        first = group * per_group
        for step, codes in enumerate(by_step, start=1):
            low, high = (bisect_left(codes, edge) for edge in (first, first + per_group))
            if high > low:
                values = groups.row(group, named=True) if by else {}
                stays = _from_codes(*runs(codes[low:high].astype(np.int64) - first))
                found.append(StayCounts(values, step, *stays))
    return tuple(found)


def _stay_codes(
    block: Block, n_stages: int, n_codes: int, end: int, per_group: int
) -> list[NDArray[np.int64]]:
    """Return, by step, one number per lead that came: group, minutes there and how that ended."""
    never, codes = end + 1, []
    first = first_of_each_code(block, n_codes, never)
    for step in range(1, n_stages):
        entered = first[step - 1]
        on, lost = _left(block, first, step, n_stages, never)
        until, outcome = np.minimum(on, lost), np.where(on <= lost, _MOVED, _LOST)
        outcome = np.where(until == never, _OPEN, outcome)
        minutes = (np.minimum(until, end) - entered) // 60
        stay = block.group * per_group + minutes * len(OUTCOMES) + outcome
        codes.append(stay[entered < never])
    return codes


def _left(
    block: Block, first: NDArray[np.int64], step: int, n_stages: int, never: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return when each lead moved on from a stage, and when it was lost, from its entry on.

    Where no later stage began before the entry, the first event of each says it. Leads that had
    been further before they came to the stage are looked at event by event.
    """
    entered, later = first[step - 1], first[step:]
    on = first[step:n_stages].min(axis=0)
    lost = first[n_stages:].min(axis=0, initial=never)
    back = (later < entered).any(axis=0) & (entered < never)
    if back.any():
        some = (back[block.lead]) & (block.code > step) & (block.at >= entered[block.lead])
        lead, at, code = block.lead[some], block.at[some], block.code[some]
        for found, these in ((on, code <= n_stages), (lost, code > n_stages)):
            found[back] = first_of_each(lead[these], at[these], block.n_leads, never)[back]
    return on, lost


# Events anywhere: a plan ------------------------------------------------------------------


def _count_planned(
    frame: Frame, stages: tuple[str, ...], end: int, by: Sequence[str]
) -> pl.DataFrame:
    frame = _with_position(frame, stages)
    steps = range(1, len(stages))
    frame = frame.with_columns(
        *[_entered(step).over("unit").alias(f"in{step}") for step in steps],
        *[mark.over("unit") for mark in group_marks(by, gathered=False).values()],
    )
    frame = frame.with_columns(
        *[_moved_on(step, len(stages)).over("unit").alias(f"on{step}") for step in steps],
        *[_lost(step, len(stages)).over("unit").alias(f"lost{step}") for step in steps],
    )
    groups = [*keys_of(by), "mixed", "step"]
    frame = _entries(with_mixed(frame, by), steps, groups)
    return collect(
        _with_outcome(frame, end)
        .group_by(*groups, "minutes", "outcome")
        .agg(nw.len().alias("n_units")),
        by=by,
        order=["step", "minutes", "outcome"],
    )


def _with_position(frame: Frame, stages: tuple[str, ...]) -> Frame:
    """Add ``step``: 1 for the first stage, and one past the last for a stage that ends."""
    position: Any = nw.lit(len(stages) + 1)
    for i, stage in enumerate(stages, start=1):
        position = nw.when(nw.col("stage") == stage).then(nw.lit(i)).otherwise(position)
    return frame.with_columns(position.cast(nw.Int64).alias("step"))


def _entered(step: int) -> nw.Expr:
    return nw.when(nw.col("step") == step).then(nw.col("at")).min()


def _moved_on(step: int, last: int) -> nw.Expr:
    later = (nw.col("step") > step) & (nw.col("step") <= last)
    return nw.when(later & (nw.col("at") >= nw.col(f"in{step}"))).then(nw.col("at")).min()


def _lost(step: int, last: int) -> nw.Expr:
    ended = nw.col("step") > last
    return nw.when(ended & (nw.col("at") >= nw.col(f"in{step}"))).then(nw.col("at")).min()


def _entries(frame: Frame, steps: Sequence[int], groups: Sequence[str]) -> Frame:
    """Keep, for each lead and stage, the entry, when it was left for a later one, and when lost."""
    picked = {}
    for what in ("in", "on", "lost"):
        value: Any = nw.lit(None, nw.Int64)
        for step in steps:
            value = nw.when(nw.col("step") == step).then(nw.col(f"{what}{step}")).otherwise(value)
        picked[what] = value.alias(what)
    entries = frame.select("unit", "at", *groups, *picked.values())
    # Two events of the stage at the moment of entry are still one entry.
    return (
        entries.filter(nw.col("at") == nw.col("in"))
        .group_by("unit", *groups)
        .agg(nw.col(name).min() for name in picked)
    )


def _with_outcome(frame: Frame, end: int) -> Frame:
    """Add whole ``minutes`` in the stage and the ``outcome``; moving on beats a loss at once."""
    never = end + 1
    on, lost = nw.col("on"), nw.col("lost")
    frame = frame.with_columns(on.fill_null(never), lost.fill_null(never))
    frame = frame.with_columns(
        nw.when(on <= lost).then(on).otherwise(lost).alias("until"),
        nw.when(on <= lost).then(nw.lit(_MOVED)).otherwise(nw.lit(_LOST)).alias("outcome"),
    )
    still = nw.col("until") > end
    frame = frame.with_columns(
        nw.when(still).then(nw.lit(end)).otherwise(nw.col("until")).alias("until"),
        nw.when(still).then(nw.lit(_OPEN)).otherwise(nw.col("outcome")).alias("outcome"),
    )
    minutes = floor_divide(nw.col("until") - nw.col("in"), 60)
    return frame.with_columns(minutes.alias("minutes"))
