"""How far each lead got: the relational half of the conversion funnel.

Each lead's events are gathered into moments, and one pass per step carries along, for every
moment, the latest start among the chains that have got so far. The latest start is the best
one, because the window is measured from it; so no attempt has to be followed on its own, and
the cost grows with the number of steps and not with the number of attempts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY
from crm_analysis.errors import InputError
from crm_analysis.frames import collect, keys_of
from crm_analysis.funnel.lead_events import (
    Columns,
    Frame,
    Touch,
    group_marks,
    last_second,
    one_group_each,
    touched,
    with_mixed,
    with_stage_text,
)
from crm_analysis.funnel.sorted_events import Block, SortedEvents, first_of_each, sort_events

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ANCHORS", "ORDERS", "Anchor", "Order", "check_within_days", "count_attempts"]

Order = Literal["ordered", "strict", "unordered"]
ORDERS: tuple[Order, ...] = ("ordered", "strict", "unordered")
Anchor = Literal["attempt", "first"]
ANCHORS: tuple[Anchor, ...] = ("attempt", "first")

_NEVER = -(10**15)
"""Start of a chain that does not exist: longer ago than any window."""

_ALWAYS = 10**14
"""A window, in seconds, that no chain outlasts; still shorter than the time since `_NEVER`."""


def check_within_days(within_days: float) -> float:
    """Return the window in days, or say that it must be a positive number."""
    # A parameter from a file may be anything: None and NaN must not pass for "no limit".
    given: object = within_days
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        raise InputError(
            f"'within_days' must be a number of days above 0; got {within_days!r}. Pass the time "
            "a lead is given from its first step, such as 60, or math.inf for no limit."
        )
    return float(within_days)


def window_seconds(within_days: float) -> int:
    """Return a window in whole seconds; without a limit, longer than any chain of steps."""
    return _ALWAYS if math.isinf(within_days) else int(within_days * SECONDS_PER_DAY + 1e-6)


def count_attempts(
    frame: Frame,
    *,
    columns: Columns,
    steps: tuple[str, ...],
    within_days: float,
    order: Order,
    anchor: Anchor,
    exclude: tuple[str, ...] = (),
    touch: Touch = "lead",
    as_of: date,
    by: Sequence[str] = (),
) -> pl.DataFrame:
    """Count leads by how many steps they reached.

    Returns
    -------
    polars DataFrame
        The columns of `by`, ``depth`` (steps reached by the deepest attempt that is old enough
        to be judged, 0 when there is none, -1 where an excluded event leaves the lead out),
        ``young`` (1 when an attempt started too recently to be judged) and ``n_units``.

    Raises
    ------
    InputError
        A lead lies in several groups.
    """
    end = last_second(as_of)
    window = window_seconds(within_days)
    cutoff = end if math.isinf(within_days) else end - window
    if by and touch != "lead":
        frame = touched(frame, steps, end, by, touch)
    if not exclude and order == "ordered" and len(set(steps)) == len(steps):
        sorted_events = sort_events(frame, steps, end, by, columns.unit)
        if sorted_events is not None:
            return _count_sorted(sorted_events, len(steps), window, cutoff, anchor, by)
    frame = with_stage_text(frame).filter(nw.col("at") <= end)
    counted = _count_planned(frame, steps, window, cutoff, order, anchor, by, exclude)
    return one_group_each(counted, by, columns.unit)


# Events in memory: one sort, one pass -----------------------------------------------------


def _count_sorted(
    events: SortedEvents, n_steps: int, window: int, cutoff: int, anchor: Anchor, by: Sequence[str]
) -> pl.DataFrame:
    kinds = 2 * (n_steps + 1)
    counts = np.zeros(max(events.groups.height, 1) * kinds, np.int64)
    for block in events.blocks():
        depth, young = _depths(block, n_steps, window, cutoff, anchor)
        code = (block.group * (n_steps + 1) + depth) * 2 + young
        counts += np.bincount(code, minlength=len(counts))
    at = np.flatnonzero(counts)
    found = pl.DataFrame(
        {"depth": at % kinds // 2, "young": at % 2, "n_units": counts[at]},
        schema=dict.fromkeys(("depth", "young", "n_units"), pl.Int64),
    )
    counted = pl.concat([events.groups[at // kinds], found], how="horizontal") if by else found
    # Categories sort by the alphabet, as on every other backend.
    counted = counted.with_columns(
        pl.col(name).cast(pl.String)
        for name in by
        if isinstance(counted.schema[name], pl.Enum | pl.Categorical)
    )
    return counted.sort([*by, "depth", "young"], nulls_last=True)


def _depths(
    block: Block, n_steps: int, window: int, cutoff: int, anchor: Anchor
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each lead, the steps it reached, and whether an attempt is too young."""
    lead, at, code = block.lead, block.at, block.code
    begins = code == 1
    if anchor == "first":
        first = first_of_each(lead[begins], at[begins], block.n_leads, _NEVER)
        begins &= at == first[lead]
    young = np.zeros(block.n_leads, np.int64)
    young[lead[begins & (at > cutoff)]] = 1
    # A lead's starts lie above those of all leads before it: one running maximum serves all.
    origin, floor = int(at.min()) - 1, lead * (int(at.max() - at.min()) + 2)
    chain = np.where(begins & (at <= cutoff), at - origin, 0) + floor
    depth = np.zeros(block.n_leads, np.int64)
    depth[lead[chain > floor]] = 1
    for step in range(2, n_steps + 1):
        start = np.maximum.accumulate(chain) - floor
        here = (code == step) & (start > 0)
        depth[lead[here & (at - origin - start <= window)]] = step
        chain = np.where(here, start, 0) + floor
    return depth, young


# Events anywhere: a plan ------------------------------------------------------------------


def _count_planned(
    frame: Frame,
    steps: tuple[str, ...],
    window: int,
    cutoff: int,
    order: Order,
    anchor: Anchor,
    by: Sequence[str],
    exclude: tuple[str, ...] = (),
) -> pl.DataFrame:
    stages = tuple(dict.fromkeys(steps))
    codes = [stages.index(step) for step in steps]
    if order != "strict":
        frame = frame.filter(nw.col("stage").is_in([*stages, *exclude]))
    frame = _moments(frame, stages, by, exclude)
    frame = _with_starts(frame, entry=None if order == "unordered" else "c0", anchor=anchor,
                         cutoff=cutoff)  # fmt: skip
    reach = {"ordered": _reach_in_order, "strict": _reach_strictly, "unordered": _reach_any}
    frame = reach[order](frame, codes, window)
    if exclude:
        frame = _leave_out(frame, len(codes), window)
    frame = frame.group_by("unit").agg(
        nw.col("depth").max(), nw.col("young").max(), *group_marks(by, gathered=True).values()
    )
    return collect(
        with_mixed(frame, by)
        .group_by(*keys_of(by), "depth", "young", "mixed")
        .agg(nw.len().alias("n_units")),
        by=by,
        order=["depth", "young"],
    )


# Moments and starts -----------------------------------------------------------------------


def _moments(
    frame: Frame, stages: tuple[str, ...], by: Sequence[str], exclude: tuple[str, ...]
) -> Frame:
    """Gather events into moments: one row per lead and second, with a count of each stage."""
    stage = nw.col("stage")
    wanted = {f"c{i}": stage == name for i, name in enumerate(stages)}
    if exclude:
        wanted["excluded"] = stage.is_in(list(exclude))
    counts = [
        nw.when(this).then(1).otherwise(0).sum().cast(nw.Int64).alias(name)
        for name, this in wanted.items()
    ]
    return frame.group_by("unit", "at").agg(*counts, *group_marks(by, gathered=False).values())


def _with_starts(frame: Frame, *, entry: str | None, anchor: Anchor, cutoff: int) -> Frame:
    """Add ``start``: the moment itself where an attempt may start and can be judged."""
    at = nw.col("at")
    here = (nw.col(entry) > 0) if entry else (nw.col("n") > 0)
    frame = frame.with_columns(nw.when(here).then(at).otherwise(nw.lit(-_NEVER)).alias("entry"))
    if anchor == "first":
        frame = frame.with_columns(nw.col("entry").min().over("unit"))
    here = nw.col("entry") == at
    return frame.with_columns(
        nw.when(here & (at <= cutoff)).then(at).otherwise(nw.lit(_NEVER)).alias("start"),
        nw.when(here & (at > cutoff)).then(nw.lit(1)).otherwise(nw.lit(0)).alias("young"),
        nw.lit(0).alias("depth"),
    )


def _so_far(frame: Frame, name: str) -> Frame:
    """Replace a column by its largest value up to each moment of the lead."""
    return frame.with_columns(nw.col(name).cum_max().over("unit", order_by="at"))


def _just_before(frame: Frame, name: str, new: str) -> Frame:
    """Add the value of a column at the lead's moment before, `_NEVER` at its first."""
    before = nw.col(name).shift(1).over("unit", order_by="at")
    return frame.with_columns(before.alias(new)).with_columns(nw.col(new).fill_null(_NEVER))


def _deepen(frame: Frame, name: str, step: int, window: int) -> Frame:
    """Let moments that end a chain of `step` steps inside the window count as that deep."""
    inside = nw.col("at") - nw.col(name) <= window
    return frame.with_columns(
        nw.when(inside).then(nw.lit(step)).otherwise(nw.col("depth")).alias("depth")
    )


def _with_floor(frame: Frame, codes: Sequence[int], step: int) -> Frame:
    """Add ``floor<step>``: from which step on one moment's own events lead up to `step`.

    Events of the moment can make up steps floor + 1 … `step`, and no more: going back from
    `step`, either a stage is missing or its events are used up (one event is one step).
    """
    code = codes[step - 1]
    used = [j for j in range(step, 0, -1) if codes[j - 1] == code]
    floor: Any = nw.lit(0)
    for count, position in reversed(list(enumerate(used))):
        floor = nw.when(nw.col(f"c{code}") == count).then(nw.lit(position)).otherwise(floor)
    new = f"floor{step}"
    frame = frame.with_columns(floor.alias(new))
    if step == 1:
        return frame
    lower = f"floor{step - 1}"
    return frame.with_columns(
        nw.when(nw.col(lower) > nw.col(new)).then(nw.col(lower)).otherwise(nw.col(new)).alias(new)
    )


def _at_floor(step: int) -> nw.Expr:
    """Pick, of the chains that ended before this moment, the shortest it can carry to `step`.

    The shortest starts latest: whoever has got further started no later. The shortest of all
    starts here, where an attempt may start; else it has one step behind it.
    """
    start, before = nw.col("start"), nw.col("before1")
    picked: Any = nw.when(start > _NEVER).then(start).otherwise(before)
    for i in range(1, step):
        picked = nw.when(nw.col(f"floor{step}") == i).then(nw.col(f"before{i}")).otherwise(picked)
    nothing = nw.col(f"floor{step}") == step
    return nw.when(nothing).then(nw.lit(_NEVER)).otherwise(picked)


def _leave_out(frame: Frame, n_steps: int, window: int) -> Frame:
    """Give depth -1 to leads with an excluded event after a start and before all steps are made.

    Of the starts before an event the latest is the last whose window is still open.
    """
    frame = _so_far(_just_before(frame, "chain1", "started"), "depth")
    between = (nw.col("at") - nw.col("started") <= window) & (nw.col("depth") < n_steps)
    out = nw.when((nw.col("excluded") > 0) & between).then(nw.lit(1)).otherwise(nw.lit(0))
    frame = frame.with_columns(out.max().over("unit").alias("out"))
    left_out = nw.col("out") > 0
    return frame.with_columns(
        nw.when(left_out).then(nw.lit(-1)).otherwise(nw.col("depth")).alias("depth"),
        nw.when(left_out).then(nw.lit(0)).otherwise(nw.col("young")).alias("young"),
    )


# Three orders -----------------------------------------------------------------------------


def _reach_in_order(frame: Frame, codes: Sequence[int], window: int) -> Frame:
    """Steps follow one another, with anything in between; ties chain in step order."""
    repeats = len(set(codes)) < len(codes)
    for step, code in enumerate(codes, start=1):
        if repeats:
            frame = _with_floor(frame, codes, step)
        again = code in codes[: step - 1]
        before = nw.col(f"chain{step - 1}") if step > 1 else nw.col("start")
        carried = nw.when(nw.col(f"c{code}") > 0).then(before).otherwise(nw.lit(_NEVER))
        name = f"chain{step}"
        frame = frame.with_columns((_at_floor(step) if again else carried).alias(name))
        frame = _so_far(_deepen(frame, name, step, window), name)
        if repeats:
            frame = _just_before(frame, name, f"before{step}")
    return frame


def _reach_strictly(frame: Frame, codes: Sequence[int], window: int) -> Frame:
    """Steps are events in a row; events at one moment stand in whichever order goes on.

    A chain that goes on past a moment has used all of its events, but for the moment of its
    start, where the others may have come before.
    """
    for step in range(1, len(codes) + 1):
        frame = _with_floor(frame, codes, step)
        floor, n = nw.col(f"floor{step}"), nw.col("n")
        started = nw.when(floor == 0).then(nw.col("start")).otherwise(nw.lit(_NEVER))
        frame = frame.with_columns(started.alias(f"chain{step}"), started.alias("full"))
        for i in range(1, step):
            before, chain, full = nw.col(f"before{i}"), nw.col(f"chain{step}"), nw.col("full")
            fits = (floor <= i) & (before > chain)
            whole = (floor <= i) & (n == step - i) & (before > full)
            frame = frame.with_columns(
                nw.when(fits).then(before).otherwise(chain).alias(f"chain{step}"),
                nw.when(whole).then(before).otherwise(full).alias("full"),
            )
        frame = _deepen(frame, f"chain{step}", step, window)
        frame = _just_before(frame, "full", f"before{step}")
    return frame


def _reach_any(frame: Frame, codes: Sequence[int], window: int) -> Frame:
    """Steps in any order: how many of them lie in the window that ends at each moment.

    ``last<s>_<m>`` is the time of the m-th latest event of stage s, for a step named m times.
    """
    at = nw.col("at")
    for step, code in enumerate(codes):
        nth = codes[: step + 1].count(code)
        latest: Any = nw.lit(_NEVER)
        for own in range(1, nth):
            older = nw.col(f"before{code}_{nth - own}")
            latest = nw.when(nw.col(f"c{code}") == own).then(older).otherwise(latest)
        name = f"last{code}_{nth}"
        frame = frame.with_columns(
            nw.when(nw.col(f"c{code}") >= nth).then(at).otherwise(latest).alias(name)
        )
        frame = _so_far(frame, name)
        matched = nw.when(at - nw.col(name) <= window).then(nw.lit(1)).otherwise(nw.lit(0))
        frame = frame.with_columns((nw.col("depth") + matched).alias("depth"))
        if nth < codes.count(code):
            frame = _just_before(frame, name, f"before{code}_{nth}")
    frame = _so_far(frame, "start")
    inside = at - nw.col("start") <= window
    return frame.with_columns(
        nw.when(inside).then(nw.col("depth")).otherwise(nw.lit(0)).alias("depth")
    )
