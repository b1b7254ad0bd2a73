"""A campaign that starts here today and there later: those who have it against those who wait."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

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
    open_table,
)
from crm_analysis.marketing.effects import CampaignEffect, measure_names, with_naive
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, duration_text, number, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["before_after", "staggered_effect"]

Floats = NDArray[np.float64]

_TAKEN = ("measure", "extra", "extra_low", "extra_high", "weeks", "unit", "wave", "start", "end",
          "out", "day")  # fmt: skip
WEEK = 7
FEWEST_UNITS = 4
"""With fewer places a jackknife over them says nothing."""

_PLACEBO = -1


def staggered_effect(
    events: object,
    *,
    unit_col: str = "dealership",
    at_col: str = "opened_at",
    wave_col: str = "name",
    plan: object,
    before_days: int = 28,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "jackknife",
) -> CampaignEffect:
    r"""How many more leads did a campaign bring that started at different times (group-time DiD).

    In each week since its start a dealership is held against those that do not have the campaign
    yet, or were held out of it: how their leads changed since the days before is how its own would
    have changed. A regression on places and days ("two-way fixed effects") would also hold late
    starters against early ones, whose effect is still on its way, and be biased.

    Parameters
    ----------
    events : table
        One row per lead (or whatever the campaign is to bring), on any backend.
    unit_col, at_col : str
        Where and when.
    wave_col : str
        Which campaign of the network a row of `plan` belongs to.
    plan : table
        One row per campaign and place: `unit_col`, `wave_col`, ``starts_on``, ``ends_on``,
        ``held_out`` and the columns of `by`. See `Warehouse.campaign_plan`.
    before_days : int
        Days before the start from which a place's usual level is taken.
    since : date, optional
        Only campaigns that started on this day or later.
    as_of : date
    by : str or sequence of str
        Columns of `plan`, such as ``"channel"``.
    conf_level : float
    ci_method : {"jackknife"}
        Leaves out one place at a time, on the scale of logs; Student's t.

    Returns
    -------
    CampaignEffect
        Columns of `by`, ``measure`` (``"relative_lift"``), ``extra`` (leads that would not have
        come otherwise, with its interval), ``n`` (leads during the campaigns), and the five as a
        share of what would have come. `detail` has the effect by week since the start, and in
        week -1, where there can be none: a check of the assumption. Null where no place was
        without the campaign, or too few places for an interval.

    Raises
    ------
    InputError
        Fewer days before the start than two weeks.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    For places that start on day g, in week t, with the leads Y and controls C that have not
    started by the end of that week,

    .. math:: \hat E_{gt} = Y_{g,\mathrm{before}} \cdot
              \frac{Y_{C,t}}{Y_{C,\mathrm{before}} + 1}, \qquad
              \widehat{\mathrm{lift}} = \frac{\sum Y_{gt}}{\sum \hat E_{gt}} - 1.

    Seasons multiply leads, so changes are compared as ratios; the 1 makes the ratio of Poisson
    counts unbiased. Assumed: without the campaign, leads of all places would have changed in the
    same proportion, and nobody reacts before the start.

    References
    ----------
    Callaway & Sant'Anna (2021), Journal of Econometrics 225:200-230; Goodman-Bacon (2021),
    ibid. 254-277 (what two-way fixed effects do); Ciani & Fisher (2019), Journal of Econometric
    Methods 8 (differences in differences as ratios).
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("jackknife",))
    if before_days < 2 * WEEK:
        raise InputError(
            f"A usual level from {before_days} days before the start was asked for. It takes at "
            "least 14: pass 28."
        )
    waves = _plan(plan, unit_col, wave_col, since, as_of, by)
    counts, first = _daily_counts(events, unit_col, at_col, as_of, waves)
    groups = waves.partition_by(by, maintain_order=True) if by and waves.height else [waves]
    rows, details, naives = [], [], []
    for group in groups:
        cells = _cells(group, counts, first, before_days)
        label = group.select(by).head(1)
        rows.append(_with_group(label, _effect_row(cells, counts, conf_level)))
        details.append(_with_group(label, _week_rows(cells, counts, conf_level)))
        naives.append(_with_group(label, _naive_row(cells, before_days, conf_level)))
    table, detail, naive = pl.concat(rows), pl.concat(details), pl.concat(naives)
    definition = _(
        "Leads while a campaign ran against what would have come: the leads of the {days} before, "
        "carried on as those of dealerships without it yet, or held out, went on; up to {as_of}.",
        days=duration_text(before_days, "day"), as_of=date_text(as_of),
    )  # fmt: skip
    plain = Estimates(
        table=naive, name=_("Before and after, compared plainly"), unit="share", by=by,
        definition=_("Leads a day while a campaign ran against those of the {days} before.",
                     days=duration_text(before_days, "day")),
        conf_level=conf_level,
    )  # fmt: skip
    effect = CampaignEffect(
        table=table, name=_("Leads that campaigns brought"), unit="share", definition=definition,
        by=measure_names(by), conf_level=conf_level,
        notes=_notes(table, detail, by, len(counts)), detail=detail,
        p_value=_p_value(table, len(counts)) if not by else None,
    )  # fmt: skip
    return with_naive(effect, plain)


def before_after(after: float, before: float, exposure: float, conf_level: float) -> Floats:
    """Compare two Poisson counts, the second over `exposure` times as long: lift, error, bounds.

    Examples
    --------
    >>> before_after(120, 100, 1.0, 0.95).round(3).tolist()
    [0.2, 0.162, -0.08, 0.565]
    """
    if min(after, before) <= 0 or exposure <= 0:
        return np.full(4, np.nan)
    ratio = after / before * exposure
    error = np.sqrt(1 / after + 1 / before)
    factor = np.exp(normal_quantile(conf_level) * error)
    return np.array([ratio - 1, ratio * error, ratio / factor - 1, ratio * factor - 1])


# Count ------------------------------------------------------------------------------------


def _plan(
    plan: object,
    unit_col: str,
    wave_col: str,
    since: date | None,
    as_of: date,
    by: tuple[str, ...],
) -> pl.DataFrame:
    asked = {
        "unit": Asked(unit_col, "key", "unit_col"),
        "wave": Asked(wave_col, "key", "wave_col"),
        "start": Asked("starts_on", "date", "plan"),
        "end": Asked("ends_on", "date", "plan"),
        "out": Asked("held_out", "flag", "plan"),
    }
    rows = collect(open_table(plan, asked, by=by), by=by, order=["wave", "start", "unit"])
    began = pl.col("start").min().over("wave", *by)
    earliest = to_day_number(since or date.min)
    return rows.filter((began >= earliest) & (began <= to_day_number(as_of)))


def _daily_counts(
    events: object, unit_col: str, at_col: str, as_of: date, waves: pl.DataFrame
) -> tuple[dict[Any, Floats], int]:
    """Count events by place and day; every place of the plan has a row of days."""
    asked = {
        "unit": Asked(unit_col, "key", "unit_col", nullable=True),
        "day": Asked(at_col, "date", "at_col"),
    }
    last = to_day_number(as_of)
    frame = open_table(events, asked).filter(nw.col("day") <= last)
    cells = collect(frame.group_by("unit", "day").agg(nw.len().alias("n")), order=["unit", "day"])
    units = waves["unit"].unique(maintain_order=True).to_list()
    first = int(cells["day"].min() if cells.height else last)  # type: ignore[arg-type]
    counts = {unit: np.zeros(last - first + 1) for unit in units}
    for unit, day, n in cells.iter_rows():
        if unit in counts:
            counts[unit][day - first] += n
    return counts, first


@dataclass(frozen=True)
class _Cells:
    """Leads by cell (start, week) and place: of the treated and of the controls, then and before.

    Attributes
    ----------
    week : shape (cells,)
    treated, treated_before, control, control_before : shape (cells, places)
    after, before, days : leads of the treated in all, of the days before, and days counted; once
        for every start
    """

    week: NDArray[np.int64]
    treated: Floats
    treated_before: Floats
    control: Floats
    control_before: Floats
    after: float
    before: float
    days: float

    def of_week(self, week: int) -> _Cells:
        """Return the cells of one week since the start."""
        one = self.week == week
        return _Cells(
            self.week[one], self.treated[one], self.treated_before[one], self.control[one],
            self.control_before[one], 0.0, 0.0, 0.0,
        )  # fmt: skip

    def real(self) -> _Cells:
        """Return the cells since the start, without the placebo week."""
        one = self.week >= 0
        return _Cells(
            self.week[one], self.treated[one], self.treated_before[one], self.control[one],
            self.control_before[one], self.after, self.before, self.days,
        )  # fmt: skip


def _cells(waves: pl.DataFrame, counts: dict[Any, Floats], first: int, before_days: int) -> _Cells:
    place = {unit: i for i, unit in enumerate(counts)}
    grid = np.array(list(counts.values())) if counts else np.zeros((0, 0))
    weeks, four = [], []
    after = before = days = 0.0
    never = np.iinfo(np.int64).max
    for _wave, rows in waves.group_by("wave", maintain_order=True):
        start = np.full(len(counts), never)
        there = np.zeros(len(counts), bool)
        for unit, begins, out in rows.select("unit", "start", "out").iter_rows():
            there[place[unit]] = True
            start[place[unit]] = never if out else begins
        for begins in np.unique(start[there & (start < never)]):
            treated = there & (start == begins)
            end = int(rows.filter(pl.col("start") == int(begins))["end"].min())  # type: ignore[arg-type]
            column = int(begins) - first
            if column < before_days:
                continue
            seen = [
                k
                for k in (_PLACEBO, *range((end - int(begins) + 1) // WEEK))
                if column + WEEK * (k + 1) <= grid.shape[1]
                and np.any(there & (start > begins + WEEK * (k + 1) - 1) & ~treated)
            ]
            for k in seen:
                from_, to = column + WEEK * k, column + WEEK * (k + 1)
                waiting = there & (start > begins + WEEK * max(k + 1, 1) - 1) & ~treated
                usual = slice(column - before_days, column if k >= 0 else column - WEEK)
                now, then = grid[:, from_:to].sum(axis=1), grid[:, usual].sum(axis=1)
                weeks.append(k)
                four.append([now * treated, then * treated, now * waiting, then * waiting])
            n_weeks = sum(k >= 0 for k in seen)
            after += grid[treated, column : column + WEEK * n_weeks].sum()
            if n_weeks:
                before += grid[treated, column - before_days : column].sum() * n_weeks
                days += n_weeks
    stacked = np.array(four).reshape(len(weeks), 4, len(counts))
    return _Cells(
        np.array(weeks, np.int64), stacked[:, 0], stacked[:, 1], stacked[:, 2], stacked[:, 3],
        float(after), float(before), float(days),
    )  # fmt: skip


# Estimate ---------------------------------------------------------------------------------


def _log_ratio(cells: _Cells, leave_out: int | None = None) -> float:
    """Return the log of leads over those expected, leaving out one place if asked."""
    parts = (cells.treated, cells.treated_before, cells.control, cells.control_before)
    if leave_out is None:
        sums = [part.sum(axis=1) for part in parts]
    else:
        sums = [part.sum(axis=1) - part[:, leave_out] for part in parts]
    now, usual, control, control_usual = sums
    usable = (control_usual > 0) & (usual > 0)
    expected = float((usual * control / (control_usual + 1))[usable].sum())
    came = float(now[usable].sum())
    return float(np.log(came / expected)) if came > 0 and expected > 0 else float("nan")


def _jackknife(cells: _Cells, n_places: int, conf_level: float) -> tuple[float, float, float]:
    """Return the log ratio, its jackknife error and the half width of its interval."""
    whole = _log_ratio(cells)
    if n_places < FEWEST_UNITS:
        return whole, float("nan"), float("nan")
    drops = np.array([_log_ratio(cells, place) for place in range(n_places)])
    if not np.isfinite(drops).all():
        return whole, float("nan"), float("nan")
    error = float(np.sqrt((n_places - 1) / n_places * np.sum((drops - drops.mean()) ** 2)))
    return whole, error, float(special.stdtrit(n_places - 1, 0.5 + conf_level / 2)) * error


def _lift_columns(
    cells: _Cells, n_places: int, conf_level: float
) -> tuple[dict[str, pl.Series], Floats]:
    whole, error, half = _jackknife(cells, n_places, conf_level)
    lift = np.exp(np.array([whole, whole - half, whole + half])) - 1
    came = int(cells.treated.sum())
    five = five_columns([came], [lift[0]], [np.exp(whole) * error], [lift[1]], [lift[2]])
    return five, came * lift / (1 + lift)


def _effect_row(cells: _Cells, counts: dict[Any, Floats], conf_level: float) -> pl.DataFrame:
    five, extra = _lift_columns(cells.real(), len(counts), conf_level)
    names = ("extra", "extra_low", "extra_high")
    more = {
        name: pl.Series([value], dtype=pl.Float64).fill_nan(None)
        for name, value in zip(names, extra, strict=True)
    }
    return pl.DataFrame({"measure": ["relative_lift"], **more, **five})


def _week_rows(cells: _Cells, counts: dict[Any, Floats], conf_level: float) -> pl.DataFrame:
    none = pl.DataFrame({"weeks": pl.Series([], dtype=pl.Int64), **five_columns(*([],) * 5)})
    rows = [
        pl.DataFrame(
            {
                "weeks": pl.Series([week], dtype=pl.Int64),
                **_lift_columns(cells.of_week(int(week)), len(counts), conf_level)[0],
            }
        )
        for week in np.unique(cells.week)
    ]
    return pl.concat([none, *rows])


def _naive_row(cells: _Cells, before_days: int, conf_level: float) -> pl.DataFrame:
    found = before_after(cells.after, cells.before, before_days / WEEK, conf_level)
    return pl.DataFrame(five_columns([int(cells.after)], *([value] for value in found)))


def _with_group(label: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return label.join(rows, how="cross") if label.width else rows


def _p_value(table: pl.DataFrame, n_places: int) -> float | None:
    row = table.row(0, named=True)
    if row["std_error"] is None or not row["std_error"]:
        return None
    t = np.log1p(row["estimate"]) / (row["std_error"] / (1 + row["estimate"]))
    return float(2 * special.stdtr(n_places - 1, -abs(t)))


def _notes(
    table: pl.DataFrame, detail: pl.DataFrame, by: tuple[str, ...], n_places: int
) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    empty = table.filter(pl.col("estimate").is_null())
    if empty.height:
        names = groups_text([group_label(row, by) for row in empty.to_dicts()])
        notes += (
            _("No dealership was without the campaign, or all of them were, in: {groups}; nothing "
              "can be said.", groups=names),
        )  # fmt: skip
    if n_places < FEWEST_UNITS:
        notes += (
            _("{n} dealerships are too few for an interval; {least} are needed.",
              n=number(n_places), least=number(FEWEST_UNITS)),
        )  # fmt: skip
    elif n_places < 10:
        notes += (
            _("The interval rests on {n} dealerships only.", n=number(n_places)),
        )  # fmt: skip
    before = detail.filter(
        (pl.col("weeks") == _PLACEBO) & ((pl.col("conf_low") > 0) | (pl.col("conf_high") < 0))
    )
    for row in before.to_dicts():
        notes += (
            _("Already in the week before the start leads differed by {value} ({group}): what the "
              "comparison assumes does not hold.", value=percent(row["estimate"]),
              group=group_label(row, by)),
        )  # fmt: skip
    return notes
