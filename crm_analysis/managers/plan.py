"""Will the plan be met: what is sold, what is likely still to come, and what that makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from scipy import stats

from crm_analysis.changes import least_size
from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, group_label, groups_text
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.wording import _, date_text, interval_text, number, percent
from crm_analysis.working_time import WorkingCalendar

__all__ = ["PlanAttainment", "plan_attainment"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PlanAttainment(Estimates):
    """What share of the plan will have been reached at the end of the period."""

    def sentence(self) -> str:
        """Say where the plan will be missed at this pace, or of one plan how far it will come."""
        if self.by and self.table["conf_high"].drop_nulls().len():
            return self._missed_text()
        if self.by or self.table.height != 1 or self.table["estimate"].item() is None:
            return super().sentence()
        row = self.table.row(0, named=True)
        if self._over():
            return _(
                "Sold: {fact} of a plan of {plan}, {share} of it; the time of the plan is over.",
                fact=number(row["n"]), plan=number(row["plan"]), share=percent(row["estimate"]),
            )  # fmt: skip
        return _(
            "Sold so far: {fact} of a plan of {plan}. At this pace {share} of it will be reached "
            "({interval}), with {days} working days left.",
            fact=number(row["n"]), plan=number(row["plan"]), share=percent(row["estimate"], 0),
            interval=interval_text(row["conf_low"], row["conf_high"], "share"),
            days=number(row["days_left"]),
        )  # fmt: skip

    def _over(self) -> bool:
        """Whether no working day is left, so that nothing is expected any more."""
        return self.table["days_left"].sum() == 0

    def _missed_text(self) -> str:
        known = self.table.drop_nulls("conf_high").sort("estimate", maintain_order=True)
        short = known.filter(pl.col("conf_high") < 1)
        if self._over():
            return self._result_text(short, known.height)
        if short.is_empty():
            return _("{name}: of {n} plans none is sure to be missed at this pace.",
                     name=self.name, n=number(known.height))  # fmt: skip
        said = [
            _("{group} {share} ({interval})", group=group_label(row, self.by),
              share=percent(row["estimate"], 0),
              interval=interval_text(row["conf_low"], row["conf_high"], "share"))
            for row in short.to_dicts()
        ]  # fmt: skip
        return _(
            "{name}: {k} of {n} plans will be missed at this pace: {groups}.",
            name=self.name, k=number(short.height), n=number(known.height),
            groups=groups_text(said),
        )  # fmt: skip

    def _result_text(self, short: pl.DataFrame, n: int) -> str:
        if short.is_empty():
            return _("{name}: all {n} plans were met.", name=self.name, n=number(n))
        said = [
            _("{group} {share}", group=group_label(row, self.by), share=percent(row["estimate"]))
            for row in short.to_dicts()
        ]
        return _(
            "{name}: {k} of {n} plans were not met: {groups}.",
            name=self.name, k=number(short.height), n=number(n), groups=groups_text(said),
        )  # fmt: skip

    def importance(self) -> float:
        """Return by how much, at least, the plan missed or beaten by most is off; 0 if none is."""
        known = self.table.drop_nulls(["estimate", "conf_low", "conf_high"])
        rows = known.select("estimate", "conf_low", "conf_high").iter_rows()
        return max((least_size(low - 1, high - 1, value=v) for v, low, high in rows), default=0.0)

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | dict.fromkeys(("plan", "days_left"), "count") | {"fact": "share"}


def plan_attainment(
    sales: object,
    *,
    sold_col: str = "contract_on",
    plan: float | Mapping[Any, float],
    starts_on: date,
    ends_on: date,
    calendar: WorkingCalendar | None = None,
    history_days: int = 90,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "prediction",
) -> PlanAttainment:
    r"""What share of the plan will be sold by its last day (run-rate, prediction interval).

    Parameters
    ----------
    sales : table
        One row per sale, on any backend.
    sold_col : str
    plan : float, or mapping of group to float
        Sales planned for the period; with one column in `by`, a plan for each of its groups.
    starts_on, ends_on : date
        First and last day of the period.
    calendar : WorkingCalendar, optional
        Working days and holidays; without it every day is one.
    history_days : int
        Days up to `as_of` from which the pace is taken.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        At most one column. Groups without a plan are left out and noted.
    conf_level : float
    ci_method : {"prediction"}

    Returns
    -------
    PlanAttainment
        Columns of `by`, ``n`` (sold so far in the period), ``plan``, ``fact`` (share of the plan
        sold so far), ``days_left`` (working days), ``estimate`` (share expected at the end),
        ``std_error`` (null), ``conf_low``, ``conf_high`` (where the share will end up).

    Raises
    ------
    InputError
        A plan that is not above zero, a period that ends before it begins, more than one group
        column, or plans of groups without one.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    Sales in the days left, given :math:`x` in :math:`d` days of the past, are negative binomial
    with :math:`x + 1/2` successes and chance :math:`d / (d + d_{left})`: Poisson sales whose rate
    is not known (Jeffreys' prior). A season that changes within the history is not seen.

    References
    ----------
    Hahn & Meeker (1991), *Statistical Intervals*, section 7.6.
    """
    names = group_names(by, taken=("plan", "fact", "days_left", "k", "past"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("prediction",))
    plans = _checked_plans(plan, names, starts_on, ends_on, history_days)
    first_past = as_of - timedelta(days=history_days - 1)
    counted = _count(sales, sold_col, names, starts_on, min(ends_on, as_of), first_past, as_of)
    counted = counted.with_columns(
        plan=pl.Series(
            [plans.get(key) for key in (counted[names[0]] if names else [None])], dtype=pl.Float64
        )
    )
    left_out = counted.filter(pl.col("plan").is_null()).height
    counted = counted.drop_nulls("plan")
    days_past = _working_days(calendar, first_past, as_of)
    days_left = _working_days(calendar, max(starts_on, as_of + timedelta(days=1)), ends_on)
    table = _predicted(counted, names, days_past, days_left, conf_level)
    notes = (_("{n} groups without a plan are left out.", n=number(left_out)),) if left_out else ()
    return PlanAttainment(
        table=table, name=_("Plan reached"), unit="share",
        definition=_(
            "Share of the plan for {start} to {end} expected to have been sold at its end: what "
            "was sold by {as_of}, and the pace of the last {days} days over the working days left.",
            start=date_text(starts_on), end=date_text(ends_on), as_of=date_text(as_of),
            days=number(history_days),
        ),
        by=names, conf_level=conf_level, notes=notes,
    )  # fmt: skip


def _checked_plans(
    plan: float | Mapping[Any, float],
    names: tuple[str, ...],
    starts_on: date,
    ends_on: date,
    history_days: int,
) -> Mapping[Any, float]:
    plans = plan if isinstance(plan, Mapping) else {None: plan}
    if len(names) > 1 or isinstance(plan, Mapping) != bool(names):
        raise InputError(
            f"A plan of the kind {type(plan).__name__} by {list(names) or 'nothing'} was asked "
            "for. Pass one number without groups, or a mapping of groups with one column in 'by'."
        )
    if ends_on < starts_on or history_days < 1:
        raise InputError(
            f"A plan from {starts_on} to {ends_on} by the pace of {history_days} days was asked "
            "for. The period must not end before it begins, nor the pace come from no day."
        )
    bad = {key: value for key, value in plans.items() if not value > 0}
    if bad:
        raise InputError(f"Plans must be above 0; got {bad}. Leave out groups without a plan.")
    return plans


def _count(
    sales: object,
    sold_col: str,
    names: tuple[str, ...],
    start: date,
    end: date,
    first_past: date,
    as_of: date,
) -> pl.DataFrame:
    frame = open_table(sales, {"day": Asked(sold_col, "date", "sold_col")}, by=names)
    day = nw.col("day")
    inside = (day >= to_day_number(start)) & (day <= to_day_number(end))
    before = (day >= to_day_number(first_past)) & (day <= to_day_number(as_of))
    frame = frame.with_columns(
        nw.when(inside).then(nw.lit(1)).otherwise(nw.lit(0)).alias("k"),
        nw.when(before).then(nw.lit(1)).otherwise(nw.lit(0)).alias("past"),
    )
    sums = (nw.col("k").sum(), nw.col("past").sum())
    if names:
        return collect(frame.group_by(*keys_of(names)).agg(*sums), by=names)
    return collect(frame.select(*sums)).with_columns(pl.all().fill_null(0))


def _working_days(calendar: WorkingCalendar | None, first: date, last: date) -> int:
    days = (first + timedelta(days=i) for i in range((last - first).days + 1))
    if calendar is None:
        return sum(1 for _day in days)
    return sum(
        1 for day in days if day.weekday() in calendar.weekdays and day not in calendar.holidays
    )


def _predicted(
    counted: pl.DataFrame, names: tuple[str, ...], past: int, left: int, conf_level: float
) -> pl.DataFrame:
    sold, plan, seen = (counted[name].to_numpy().astype(float) for name in ("k", "plan", "past"))
    tail = (1 - conf_level) / 2
    unknown = np.full(len(sold), np.nan)
    if left == 0:
        expected = low = high = sold
    elif past == 0:
        expected = low = high = unknown
    else:
        ahead = stats.nbinom(seen + 0.5, past / (past + left))
        expected = sold + seen * left / past
        low, high = sold + ahead.ppf(tail), sold + ahead.ppf(1 - tail)
    low, high = np.minimum(low, expected), np.maximum(high, expected)
    return counted.select(
        *names,
        **five_columns(sold, expected / plan, unknown, low / plan, high / plan),
        plan=pl.Series(plan, dtype=pl.Float64),
        fact=pl.Series(sold / plan, dtype=pl.Float64),
        days_left=pl.Series([left] * len(sold), dtype=pl.Int64),
    )
