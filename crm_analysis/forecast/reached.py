"""When each opportunity first reached each stage: what a forecast and a score begin with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import narwhals.stable.v2 as nw

from crm_analysis.dates import SECONDS_PER_DAY, floor_divide, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.frames import Asked, collect, group_names, keys_of, open_table

if TYPE_CHECKING:
    import polars as pl

__all__ = ["StageColumns", "first_reached", "stage_columns"]


@dataclass(frozen=True)
class StageColumns:
    """The columns of a table of stage events, the stages in order and their two ends."""

    unit: str
    stage: str
    at: str
    steps: tuple[str, ...]
    win: str
    lost: str
    by: tuple[str, ...]


def stage_columns(
    unit_col: str,
    stage_col: str,
    at_col: str,
    steps: Sequence[str],
    win_stage: str,
    lost_stage: str,
    by: str | Sequence[str],
    *,
    taken: Collection[str] = (),
) -> StageColumns:
    """Check the stages asked for, and return them with their columns."""
    if isinstance(steps, str) or not steps:
        raise InputError(
            f"'steps' must list the open stages in their order; got {steps!r}. Pass, for example, "
            'steps=["new", "contact", "visit", "offer"].'
        )
    names = tuple(str(step) for step in steps)
    wrong = sorted({win_stage, lost_stage} & set(names))
    if wrong or len(set(names)) < len(names) or win_stage == lost_stage:
        raise InputError(
            f"The stages {', '.join(names)} were asked for, with {win_stage!r} and {lost_stage!r} "
            "as the two ends. No stage may stand twice or be an end: leave it out of 'steps'."
        )
    groups = group_names(by, taken=taken)
    return StageColumns(unit_col, stage_col, at_col, names, win_stage, lost_stage, groups)


def first_reached(
    events: object, columns: StageColumns, as_of: date, *, per: int = SECONDS_PER_DAY
) -> pl.DataFrame:
    """Return, for every opportunity, when each stage was first reached.

    Columns: groups (`keys_of`), ``unit``, ``day_0`` …, ``won``, ``lost``: days since 1970, or
    spans of `per` seconds; null where it was not reached.
    """
    asked = {
        "unit": Asked(columns.unit, "key", "unit_col"),
        "stage": Asked(columns.stage, "key", "stage_col"),
        "at": Asked(columns.at, "moment", "at_col"),
    }
    frame = open_table(events, asked, by=columns.by)
    frame = frame.with_columns(
        nw.col("stage").cast(nw.String), floor_divide(nw.col("at"), per).alias("day")
    )
    frame = frame.filter(nw.col("at") < (to_day_number(as_of) + 1) * SECONDS_PER_DAY)
    names = {f"day_{i}": step for i, step in enumerate(columns.steps)}
    names |= {"won": columns.win, "lost": columns.lost}
    frame = frame.with_columns(
        *(nw.when(nw.col("stage") == s).then(nw.col("day")).alias(n) for n, s in names.items())
    )
    frame = frame.group_by(*keys_of(columns.by), "unit").agg(*(nw.col(n).min() for n in names))
    return collect(frame, order=[*keys_of(columns.by), "unit"])
