"""How long each lead stayed in each stage: the relational half of `time_in_stage`."""

from __future__ import annotations

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
    runs,
    sort_events,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OUTCOMES", "StayCounts", "count_stays", "together"]

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
        return _count_sorted(sorted_events, len(stages), end, by)
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


def together(parts: Sequence[StayCounts]) -> StayCounts:
    """Put the groups of one stage together."""
    if len(parts) == 1:
        return parts[0]
    n = np.zeros((len(OUTCOMES), 1 + max(int(part.minutes[-1]) for part in parts)), np.int64)
    for part in parts:
        n[:, part.minutes] += part.n
    minutes = np.flatnonzero(n.any(axis=0))
    return StayCounts({}, parts[0].step, minutes, n[:, minutes])


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
    events: SortedEvents, n_stages: int, end: int, by: Sequence[str]
) -> tuple[StayCounts, ...]:
    n_steps = n_stages - 1
    longest = max(end - events.first_at, 0) // 60 + 1
    per_step = longest * len(OUTCOMES)
    parts = [_stay_codes(block, n_stages, end, per_step) for block in events.blocks()]
    codes = np.concatenate([np.empty(0, np.int64), *parts])
    del parts
    codes.sort()
    groups = events.groups.with_columns(
        pl.col(name).cast(pl.String)
        for name in by
        if isinstance(events.groups.schema[name], pl.Enum | pl.Categorical)
    )
    order = groups.with_row_index("#").sort(by, nulls_last=True)["#"].to_list() if by else [0]
    found = []
    for group in order:
        for step in range(n_steps):
            first = (group * n_steps + step) * per_step
            low, high = np.searchsorted(codes, [first, first + per_step])
            if high > low:
                values = groups.row(group, named=True) if by else {}
                stays = _from_codes(*runs(codes[low:high] - first))
                found.append(StayCounts(values, step + 1, *stays))
    return tuple(found)


def _stay_codes(block: Block, n_stages: int, end: int, per_step: int) -> NDArray[np.int64]:
    """Return one number per lead and stage: group, step, minutes there and how that ended."""
    lead, at, code = block.lead, block.at, block.code
    never, codes = end + 1, []
    for step in range(1, n_stages):
        here = code == step
        entered = first_of_each(lead[here], at[here], block.n_leads, never)
        after = (code > step) & (at >= entered[lead])
        moved, ended = after & (code <= n_stages), after & (code > n_stages)
        on = first_of_each(lead[moved], at[moved], block.n_leads, never)
        lost = first_of_each(lead[ended], at[ended], block.n_leads, never)
        until, outcome = np.minimum(on, lost), np.where(on <= lost, _MOVED, _LOST)
        outcome = np.where(until == never, _OPEN, outcome)
        minutes = (np.minimum(until, end) - entered) // 60
        stay = (block.group * (n_stages - 1) + step - 1) * per_step
        stay += minutes * len(OUTCOMES) + outcome
        codes.append(stay[entered < never])
    return np.concatenate(codes)


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
