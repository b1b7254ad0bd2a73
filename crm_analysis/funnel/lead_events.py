"""Events of leads, on any backend: opened, gathered by lead, each lead in one group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NoReturn

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY, date_of, to_day_number
from crm_analysis.errors import InputError, listed, near
from crm_analysis.frames import Asked, collect, keys_of, open_table
from crm_analysis.wording import _, word_of

__all__ = [
    "TOUCHES",
    "Columns",
    "Frame",
    "Touch",
    "check_ends",
    "check_steps",
    "group_marks",
    "last_second",
    "one_group_each",
    "open_events",
    "refuse_mixed",
    "stage_notes",
    "touched",
    "with_mixed",
    "with_stage_text",
]

Frame = nw.LazyFrame[Any]
Touch = Literal["lead", "first", "last"]
TOUCHES: tuple[Touch, ...] = ("lead", "first", "last")


@dataclass(frozen=True)
class Columns:
    """The user's names for the columns of an event table."""

    unit: str
    stage: str
    at: str

    def asked(self) -> dict[str, Asked]:
        """Return what is asked of the table."""
        return {
            "unit": Asked(self.unit, "key", "unit_col"),
            "stage": Asked(self.stage, "key", "stage_col"),
            "at": Asked(self.at, "moment", "at_col"),
        }


def check_steps(steps: Sequence[str], argument: str = "steps") -> tuple[str, ...]:
    """Return the steps as a tuple, or say that at least two stages are needed, as a list."""
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise InputError(
            f"{argument!r} must list the stages in their order; got {steps!r}. "
            f'Pass, for example, {argument}=["contact", "visit", "contract"].'
        )
    names = tuple(str(step) for step in steps)
    if len(names) < 2:
        raise InputError(
            f"{argument!r} must name at least two stages; got {listed(names)}. "
            "One stage alone leads nowhere: add the one that should follow."
        )
    return names


def check_ends(stages: tuple[str, ...], end_stages: Sequence[str]) -> tuple[str, ...]:
    """Return the stages that end a lead as a tuple, or say what is wrong with them."""
    if isinstance(end_stages, str) or not isinstance(end_stages, Iterable):
        raise InputError(
            f"'end_stages' must list stages; got {end_stages!r}. Pass, for example, "
            'end_stages=["lost"], or [] when there are none.'
        )
    ends = tuple(str(stage) for stage in end_stages)
    twice = [
        stage for stage in dict.fromkeys((*stages, *ends)) if (*stages, *ends).count(stage) > 1
    ]
    if twice:
        raise InputError(
            f"Times in the stages {listed(stages)} until {listed(ends)} were asked for; "
            f"{listed(twice)} is named more than once. Name each stage once."
        )
    return ends


def last_second(as_of: date) -> int:
    """Return the last second of the day that the data cover."""
    return (to_day_number(as_of) + 1) * SECONDS_PER_DAY - 1


def open_events(events: object, columns: Columns, by: Sequence[str]) -> Frame:
    """Open a table of events as ``unit``, ``stage`` as it is, ``at`` (epoch seconds) and groups."""
    return open_table(events, columns.asked(), by=by)


def with_stage_text(frame: Frame) -> Frame:
    """Return opened events with their stages as text."""
    return frame.with_columns(nw.col("stage").cast(nw.String))


def stage_notes(
    frame: Frame, stages: Sequence[str], *, columns: Columns, as_of: date
) -> tuple[str, ...]:
    """Return a note for each stage that no event has, with the stage that may have been meant.

    Raises
    ------
    InputError
        Every event is later than `as_of`.
    """
    covered = (nw.col("at") <= last_second(as_of)).cast(nw.Int64)
    seen = collect(
        frame.with_columns(covered.alias("covered"))
        .group_by("stage")
        .agg(nw.col("covered").sum(), nw.col("at").min().alias("first_at"))
    )
    if seen.height and not seen["covered"].sum():
        first_at = seen["first_at"].cast(pl.Int64).min()
        first_on = date_of(int(first_at) // SECONDS_PER_DAY)  # type: ignore[arg-type]
        raise InputError(
            f"The state on {as_of} was asked for, but the first event in {columns.at!r} is of "
            f"{first_on}. Pass the last day the data cover as 'as_of'."
        )
    known = seen["stage"].cast(pl.String).to_list()
    unseen = [stage for stage in dict.fromkeys(stages) if known and stage not in known]
    for stage in unseen:
        hint = near(stage, known, alike=_MISSPELT)
        if hint:
            raise InputError(
                f"The stage {stage!r} was asked for{hint}, and no event has it. "
                f"There are: {listed(known)}. Name the stages as the data do."
            )
    return tuple(_("No event has the stage {stage}.", stage=word_of(stage)) for stage in unseen)


_MISSPELT = 0.85
"""From this likeness on, a stage that nobody reached is taken for a slip of the pen."""


# Groups: a lead lies in one ---------------------------------------------------------------


def group_marks(by: Sequence[str], *, gathered: bool) -> dict[str, nw.Expr]:
    """Return aggregates of group columns, by name, that show a lead with two values of one.

    The first time from events, with `gathered` from rows that carry the marks already.
    """
    marks = {"n": nw.col("n").sum() if gathered else nw.len()}
    for key in keys_of(by):
        top, nulls = f"{key}_top", f"{key}_nulls"
        null = nw.col(key).is_null().cast(nw.Int64)
        marks[key] = nw.col(key).min()
        marks[top] = nw.col(top if gathered else key).max()
        marks[nulls] = nw.col(nulls).sum() if gathered else null.sum()
    return {name: mark.alias(name) for name, mark in marks.items()}


def with_mixed(frame: Frame, by: Sequence[str]) -> Frame:
    """Add ``mixed``: 1 for a lead whose gathered group columns hold more than one value."""
    frame = frame.with_columns(nw.lit(0).alias("mixed"))
    for key in keys_of(by):
        top, nulls = nw.col(f"{key}_top"), nw.col(f"{key}_nulls")
        mixed = (nw.col(key) != top) | ((nulls > 0) & (nulls < nw.col("n")))
        frame = frame.with_columns(
            nw.when(mixed).then(nw.lit(1)).otherwise(nw.col("mixed")).alias("mixed")
        )
    return frame


def touched(frame: Frame, steps: Sequence[str], end: int, by: Sequence[str], touch: Touch) -> Frame:
    """Give every event of a lead the group of its first or last step at which one is known.

    Of several values at that moment the least is taken, whatever the order of rows.
    """
    frame = with_stage_text(frame)
    schema = frame.collect_schema()
    at, step = nw.col("at"), nw.col("stage").is_in(list(steps)) & (nw.col("at") <= end)
    for key in keys_of(by):
        if schema[key] in (nw.Categorical, nw.Enum):
            frame = frame.with_columns(nw.col(key).cast(nw.String))
        moment = nw.when(step & ~nw.col(key).is_null()).then(at)
        moment = moment.min() if touch == "first" else moment.max()
        frame = frame.with_columns(moment.over("unit").alias("touched_at"))
        value = nw.when(step & (at == nw.col("touched_at"))).then(nw.col(key)).min()
        frame = frame.with_columns(value.over("unit").alias(key))
    return frame


def one_group_each(counted: pl.DataFrame, by: Sequence[str], unit_col: str) -> pl.DataFrame:
    """Return the counts, or refuse leads that lie in several groups (``mixed`` is 1)."""
    mixed = counted.filter(pl.col("mixed") == 1)["n_units"].sum()
    if mixed:
        refuse_mixed(int(mixed), int(counted["n_units"].sum()), by, unit_col)
    return counted.drop("mixed")


def refuse_mixed(n_mixed: int, n_units: int, by: Sequence[str], unit_col: str) -> NoReturn:
    """Say that leads lie in several groups."""
    raise InputError(
        f"Groups by {listed(by)} were asked for, but {n_mixed} of {n_units} "
        f"values of {unit_col!r} have events in more than one group. Give every event of one "
        f"{unit_col!r} the same group, such as the value at its first event."
    )
