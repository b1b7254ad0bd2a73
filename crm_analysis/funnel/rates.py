"""What share of leads reaches each step, and passes from one to the next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import five_columns, small_n_notes
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.funnel.attempts import (
    ANCHORS,
    ORDERS,
    Anchor,
    Order,
    check_within_days,
    count_attempts,
)
from crm_analysis.funnel.lead_events import (
    TOUCHES,
    Columns,
    Touch,
    check_steps,
    open_events,
    stage_notes,
)
from crm_analysis.funnel.results import ConversionFunnel, days_text
from crm_analysis.uncertainty import wilson_interval
from crm_analysis.wording import _, date_text, plural, word_of

__all__ = ["conversion_funnel"]


def conversion_funnel(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    steps: Sequence[str],
    within_days: float,
    order: Order = "ordered",
    anchor: Anchor = "attempt",
    exclude: Sequence[str] = (),
    touch: Touch = "lead",
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> ConversionFunnel:
    """What share of leads reaches each step within a window from the first (conversion funnel).

    A lead reaches step k when it has k different events of steps 1 to k, at moments
    t1 <= t2 <= … <= tk, with tk - t1 not longer than the window.

    Parameters
    ----------
    events : table
        One row per event, on any backend; events after `as_of` are ignored.
    unit_col, stage_col, at_col : str
        Columns of the lead, the stage and the moment (a date counts as its midnight).
    steps : sequence of str
        At least two stages in their order. A stage may be named twice: then two events of it
        are needed, because one event satisfies one step (two rows at one moment are two events).
    within_days : float
        Window in days from the event of the first step, both ends included; fractions allowed.
        ``math.inf`` is no window; then nobody is too young to be counted.
    order : {"ordered", "strict", "unordered"}
        Ordered: other events may lie in between. Strict: events in a row, nothing in between.
        Unordered: step k is any k of the steps, inside one window. Moments are told apart to the
        second; events at one moment stand in the order of the steps, whatever the order of
        rows, and in "strict" in whichever order lets the lead go on.
    anchor : {"attempt", "first"}
        Attempt: any event of the first step may start an attempt and the deepest one counts.
        First: only the lead's first such event starts one. (Unordered: an event of any step.)
    exclude : sequence of str
        Stages that leave a lead out of the count, both above and below the line: one with such an
        event after an event that starts an attempt, within the window from it, and before the
        moment at which it first has all steps. At the very moment of either it is no matter. Only
        with "ordered".
    touch : {"lead", "first", "last"}
        To which group a lead belongs. Lead: all of its events have the same. First, last: to that
        of its first or last event of one of the steps, of those whose group is known.
    as_of : date
        Last day the data covers, to its end. Attempts whose window ends after it are too young to
        be judged and count neither way; leads with no other attempt are left out.
    by : str or sequence of str
        Group columns, the same in all events of a lead but for `touch`.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    ConversionFunnel
        One row per group and step: ``step``, ``stage``, ``n`` (leads counted: those that reached
        step 1), ``n_reached``, ``n_immature`` (leads left out as too young), ``estimate``
        (n_reached / n: conversion from step 1), ``std_error``, ``conf_low``, ``conf_high``, and
        ``step_rate`` (n_reached / n_reached of the step before; null at step 1) with ``step_low``
        and ``step_high``. 0/0 is null. At step 1 the estimate is 1 by definition, and so are its
        bounds. Groups in which no lead started have no row.

    Raises
    ------
    InputError
        Fewer than two steps, a window that is not above 0 (or None), a lead in several groups,
        an `as_of` before every event, a step that is excluded or an order without a between.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Wilson (1927), JASA 22:209-212.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> events = pl.DataFrame({
    ...     "opportunity_id": [1, 1, 2, 3],
    ...     "stage": ["contact", "contract", "contact", "contact"],
    ...     "happened_at": [date(2026, 1, 1), date(2026, 1, 31), date(2026, 1, 5),
    ...                     date(2026, 3, 1)],
    ... })
    >>> funnel = conversion_funnel(events, steps=["contact", "contract"], within_days=30,
    ...                            as_of=date(2026, 3, 15))
    >>> funnel.table.select("stage", "n", "n_reached", "n_immature", "estimate").rows()
    [('contact', 2, 2, 1, 1.0), ('contract', 2, 1, 1, 0.5)]
    """
    names = check_steps(steps)
    within_days = check_within_days(within_days)
    check_one_of("order", order, ORDERS)
    check_one_of("anchor", anchor, ANCHORS)
    check_one_of("touch", touch, TOUCHES)
    excluded = _check_excluded(exclude, names, order)
    check_one_of("ci_method", ci_method, ("wilson",))
    as_of, by = check_as_of(as_of), group_names(by)
    conf_level = check_conf_level(conf_level)
    columns = Columns(unit_col, stage_col, at_col)
    frame = open_events(events, columns, by)
    notes = stage_notes(frame, names, columns=columns, as_of=as_of)
    counted = count_attempts(
        frame, columns=columns, steps=names, within_days=within_days, order=order,
        anchor=anchor, exclude=excluded, touch=touch, as_of=as_of, by=by,
    )  # fmt: skip
    shown = _any_of(len(names)) if order == "unordered" else names
    table = _funnel_table(counted, shown, by, conf_level)
    return ConversionFunnel(
        table=table,
        name=_("Sales funnel"),
        unit="share",
        definition=" ".join(
            (
                _definition(names, within_days, order, anchor, as_of),
                *_rules(excluded, touch if by else "lead"),
            )
        ),
        by=by,
        conf_level=conf_level,
        notes=(*notes, *_notes(table, counted, by, within_days)),
        steps=shown,
        within_days=within_days,
    )


def _check_excluded(
    exclude: Sequence[str], steps: tuple[str, ...], order: Order
) -> tuple[str, ...]:
    """Return the excluded stages as a tuple, or say why they cannot be."""
    if isinstance(exclude, str) or not isinstance(exclude, Iterable):
        raise InputError(
            f"'exclude' must list stages; got {exclude!r}. Pass, for example, exclude=['lost']."
        )
    names = tuple(str(stage) for stage in exclude)
    both = [name for name in names if name in steps]
    if both:
        raise InputError(
            f"The steps {listed(steps)} were asked for without leads that have {listed(both)} in "
            "between. A stage is a step or is excluded: name it in one of the two."
        )
    if names and order != "ordered":
        raise InputError(
            f"Leads with {listed(names)} between two steps were to be left out, in the order "
            f"{order!r}, in which nothing lies between. Pass order='ordered'."
        )
    return names


def _any_of(n_steps: int) -> tuple[str, ...]:
    return tuple(_("any {k} of {n} steps", k=k, n=n_steps) for k in range(1, n_steps + 1))


def _funnel_table(
    counted: pl.DataFrame, steps: tuple[str, ...], by: tuple[str, ...], conf_level: float
) -> pl.DataFrame:
    """Turn leads by depth into one row per group and step."""
    n_units, depth = pl.col("n_units"), pl.col("depth")
    reached = [n_units.filter(depth >= k).sum().alias(f"r{k}") for k in range(1, len(steps) + 1)]
    immature = n_units.filter((depth == 0) & (pl.col("young") == 1)).sum().alias("n_immature")
    started = counted.filter((depth > 0) | (pl.col("young") == 1))
    if by:
        groups = started.group_by(by).agg(*reached, immature).sort(by, nulls_last=True)
    else:
        groups = started.select(*reached, immature)
    counts = groups.select(pl.col("^r[0-9]+$")).to_numpy().reshape(groups.height, len(steps))
    long = groups.select(*by, "n_immature").join(
        pl.DataFrame({"step": range(1, len(steps) + 1), "stage": steps}), how="cross"
    )
    before = np.column_stack([np.zeros(groups.height, np.int64), counts[:, :-1]]).ravel()
    overall = _rates(counts.ravel(), counts[:, [0] * len(steps)].ravel(), conf_level)
    estimates = five_columns(counts[:, [0] * len(steps)].ravel(), *overall)
    step = five_columns(before, *_rates(counts.ravel(), before, conf_level))
    table = long.with_columns(
        **estimates,
        n_reached=pl.Series(counts.ravel(), dtype=pl.Int64),
        step_rate=step["estimate"],
        step_low=step["conf_low"],
        step_high=step["conf_high"],
    )
    by_definition = (pl.col("step") == 1) & (pl.col("n") > 0)
    table = table.with_columns(
        pl.when(by_definition).then(1.0).otherwise(bound).alias(bound)
        for bound in ("conf_low", "conf_high")
    )
    return table.select(*by, "step", "stage", "n_reached", "n_immature", *estimates,
                        "step_rate", "step_low", "step_high")  # fmt: skip


def _rates(reached: Any, n: Any, conf_level: float) -> tuple[Any, Any, Any, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = reached / n
        std_error = np.sqrt(rate * (1 - rate) / n)
    # At step 1 nothing was before: x / 0 is not a rate.
    known = n > 0
    low, high = wilson_interval(np.where(known, reached, 0), n, conf_level)
    return np.where(known, rate, np.nan), np.where(known, std_error, np.nan), low, high


def _definition(
    steps: tuple[str, ...], within_days: float, order: Order, anchor: Anchor, as_of: date
) -> str:
    how = {
        "ordered": _("in this order, whatever lies in between"),
        "strict": _("in this order, with no other event in between"),
        "unordered": _("in any order (step k is any k of them)"),
    }[order]
    start = {
        "attempt": _("Any first event starts an attempt; the deepest one counts."),
        "first": _("Only the first such event of a lead starts an attempt."),
    }[anchor]
    window = "" if math.isinf(within_days) else ", " + _(
        "within {days} of the first", days=days_text(within_days)
    )  # fmt: skip
    return _(
        "Share of leads that have the steps {steps} {how}{window}, by {day}. {start} Counted are "
        "the leads that came to the first step long enough ago to be judged; the step rate is "
        "the share of those at the step before. One event is one step. Wilson intervals.",
        steps=", ".join(map(word_of, steps)),
        how=how,
        window=window,
        day=date_text(as_of),
        start=start,
    )


def _rules(exclude: tuple[str, ...], touch: Touch) -> tuple[str, ...]:
    """Say who is left out, and to which group a lead belongs, where it is not plain."""
    rules = []
    if exclude:
        rules.append(
            _("Left out are leads with {stages} after the first step, within its window and before "
              "all steps were made.", stages=", ".join(map(word_of, exclude)))
        )  # fmt: skip
    if touch == "first":
        rules.append(_("A lead belongs to the group of its first step."))
    if touch == "last":
        rules.append(_("A lead belongs to the group of its last step."))
    return tuple(rules)


def _notes(
    table: pl.DataFrame, counted: pl.DataFrame, by: tuple[str, ...], within_days: float
) -> tuple[str, ...]:
    depth, young = pl.col("depth"), pl.col("young") == 1
    n_young = int(counted.filter((depth == 0) & young)["n_units"].sum())
    n_again = int(counted.filter((depth > 0) & young)["n_units"].sum())
    n_out = int(counted.filter(depth < 0)["n_units"].sum())
    notes = []
    if n_out:
        notes.append(
            plural(n_out, "{n} lead had an excluded event between the steps and is left out.",
                   "{n} leads had an excluded event between the steps and are left out.")
        )  # fmt: skip
    if n_young:
        notes.append(
            plural(n_young, "{n} lead started too recently to be judged and is left out.",
                   "{n} leads started too recently to be judged and are left out.")
        )  # fmt: skip
    if n_again:
        notes.append(
            plural(n_again, "{n} lead counted started again too recently: that attempt is not "
                   "counted.", "{n} leads counted started again too recently: those attempts are "
                   "not counted.")
        )  # fmt: skip
    if math.isinf(within_days):
        notes.append(_("There is no window: leads that started lately have had less time."))
    first = table.filter(pl.col("step") == 1)
    return (*notes, *_unknown_notes(table, by), *small_n_notes(first, by, what=_("leads")))


def _unknown_notes(table: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    unknown = table.filter((pl.col("step") > 1) & pl.col("step_rate").is_null(), pl.col("n") > 0)
    if unknown.is_empty():
        return ()
    if not by:
        return (_("Nobody came to the step before {stage}: its step rate and those after it are "
                  "unknown.", stage=word_of(unknown["stage"][0])),)  # fmt: skip
    n_groups = unknown.select(by).n_unique()
    return (
        plural(
            n_groups,
            "In {n} group nobody came to some step: the rates after it are unknown.",
            "In {n} groups nobody came to some step: the rates after it are unknown.",
        ),
    )
