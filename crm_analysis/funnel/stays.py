"""How long each lead stayed in each stage: the relational half of `time_in_stage`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import floor_divide
from crm_analysis.frames import collect, keys_of
from crm_analysis.funnel.lead_events import (
    Columns,
    Frame,
    group_marks,
    last_second,
    one_group_each,
    open_events,
    with_mixed,
)

__all__ = ["OUTCOMES", "count_stays"]

OUTCOMES = ("n_moved_on", "n_lost", "n_open")
"""How a stay ends, or does not: the columns that count them, in the order of their codes."""

_MOVED, _LOST, _OPEN = range(len(OUTCOMES))


def count_stays(
    events: object,
    *,
    columns: Columns,
    stages: tuple[str, ...],
    end_stages: tuple[str, ...],
    as_of: date,
    by: Sequence[str] = (),
) -> pl.DataFrame:
    """Count leads by how many whole minutes they stayed in a stage, and how that ended.

    Returns
    -------
    polars DataFrame
        The columns of `by`, ``step`` (1 for the first stage; the last stage is where leads are
        going, and has none), ``minutes``, and counts ``n_moved_on``, ``n_lost``, ``n_open``.

    Raises
    ------
    InputError
        A lead lies in several groups.
    """
    end = last_second(as_of)
    known = [*stages, *end_stages]
    frame = open_events(events, columns, by).filter(
        nw.col("at") <= end, nw.col("stage").is_in(known)
    )
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
    counted = collect(
        _with_outcome(frame, end)
        .group_by(*groups, "minutes", "outcome")
        .agg(nw.len().alias("n_units")),
        by=by,
        order=["step", "minutes", "outcome"],
    )
    return _by_outcome(one_group_each(counted, by, columns.unit), by)


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


def _by_outcome(counted: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    n_units, outcome = pl.col("n_units"), pl.col("outcome")
    counts = [n_units.filter(outcome == code).sum().alias(n) for code, n in enumerate(OUTCOMES)]
    keys = [*by, "step", "minutes"]
    return counted.group_by(keys).agg(counts).sort(keys, nulls_last=True)
