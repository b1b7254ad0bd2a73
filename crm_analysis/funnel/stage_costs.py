"""What each stage of the cycle costs, and how much time it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import SECONDS_PER_DAY
from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import Estimates, five_columns, labelled_groups, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.funnel.attempts import check_within_days, window_seconds
from crm_analysis.funnel.lead_events import (
    Columns,
    Frame,
    check_ends,
    check_steps,
    group_marks,
    last_second,
    one_group_each,
    open_events,
    stage_notes,
    with_mixed,
    with_stage_text,
)
from crm_analysis.funnel.results import days_text
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, amount, date_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["StageCost", "stage_cost"]

_DAYS = ("days", "days_low", "days_high")
_TAKEN = ("step", "stage", "n_moved_on", "cost", "cost_per_lead", "cost_per_sale", *_DAYS)


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StageCost(Estimates):
    """Cost and time of each stage: one row per group and stage; see `stage_cost`.

    Attributes
    ----------
    sales : polars DataFrame
        Per group ``n`` (leads), ``n_sold``, ``cost`` and the cost of a sale with its interval.
    """

    sales: pl.DataFrame

    columns_with_unit: ClassVar[tuple[str, ...]] = (
        *Estimates.columns_with_unit, "cost", "cost_per_lead", "cost_per_sale",
    )  # fmt: skip

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | dict.fromkeys(_DAYS, "days") | {"n_moved_on": "count"}

    def per_sale(self) -> Estimates:
        """Return what a sale costs in all, those who did not buy included: one row per group."""
        return Estimates(
            table=self.sales, name=_("Cost of a sale over the whole cycle"), unit="money",
            definition=self.definition, by=self.by, conf_level=self.conf_level, notes=self.notes,
            currency=self.currency, key="cost_of_the_cycle", better="lower",
        )  # fmt: skip

    def sentence(self) -> str:
        """Return what a sale costs, at which stage most of it arises, and where time goes."""
        whole = self.per_sale()
        known = self.table.drop_nulls("cost_per_sale")
        if self.by or known.is_empty():
            return whole.sentence()
        most = known.sort("cost", "step", descending=[True, False]).row(0, named=True)
        slow = known.sort("days", "step", descending=[True, False]).row(0, named=True)
        return _(
            "A sale costs {value} from the first enquiry on, {share} of it in stage {stage}; a "
            "lead stays longest in stage {slow}, {days} days on average.",
            value=whole.value_text(self.sales.row(0, named=True)),
            share=percent(most["cost"] / known["cost"].sum(), 0), stage=word_of(most["stage"]),
            slow=word_of(slow["stage"]), days=amount(slow["days"], "days"),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what it costs to bring a lead past each stage, or a sale by group."""
        if self.by:
            return self.per_sale().plot(ax)
        ax = figures.new_axes(ax)
        figures.points(labelled_groups(self.table, ("stage",)), label="label", ax=ax)
        figures.write_units(ax, "money", axis="x", currency=self.currency)
        ax.set_xlim(left=0)
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return figures.height_for((self.sales if self.by else self.table).height)


# The metric -------------------------------------------------------------------------------


def stage_cost(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    cost_col: str = "cost",
    costs: object,
    stages: Sequence[str],
    end_stages: Sequence[str] = ("lost",),
    hours: Mapping[str, float] | None = None,
    hour_cost: float | None = None,
    within_days: float = 90,
    since: date | None = None,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> StageCost:
    r"""What does each stage of the cycle cost for a lead that passes it, and how long does it take.

    A stage costs what is spent on all leads that stand in it, those among them that go no further
    too; so its cost is spread over those who pass. A lead stands in the furthest stage that it has
    come to, and what is spent at the very moment of coming to one has brought it there: it counts
    in the stage before. What is spent before a lead's first event counts in the first stage. Costs
    end with the last stage, the sale, or with the window.

    Parameters
    ----------
    events : table
        One row per event, on any backend.
    unit_col, stage_col, at_col : str
        Columns of the lead, the stage and the moment; `unit_col` and `at_col` are named alike in
        both tables.
    cost_col : str
        Column of `costs`: money, not null.
    costs : table
        One row per sum spent on a lead, such as its share of advertising or a call: see
        `Warehouse.lead_costs`.
    stages : sequence of str
        At least two stages in their order; the last is the sale, and costs nothing more.
    end_stages : sequence of str
        Stages in which a lead ends without a sale; they stop the clock.
    hours : mapping of str to float, optional
        Hours of work that coming to a stage takes, by stage, once a lead; with `hour_cost`.
    hour_cost : float, optional
        What an hour of work costs, in currency units.
    within_days : float
        Days from a lead's first event for which costs and time are counted.
    since : date, optional
        First day of the leads counted, by their first event.
    currency : str, optional
    as_of : date
        Last day the data covers. Only leads that began `within_days` before its end are counted:
        what younger ones will cost is not known yet.
    by : str or sequence of str
        Group columns of `events`, the same in all events of a lead.
    conf_level : float
    ci_method : {"linearised"}
        Ratio of two sums over leads; the mean of days has a normal interval.

    Returns
    -------
    StageCost
        One row per group and stage but the last: ``step``, ``stage``, ``n`` (leads that came so
        far or further), ``n_moved_on`` (further), ``cost`` (money spent on leads in it),
        ``cost_per_lead`` (cost / n), ``estimate`` (cost / n_moved_on: money for a lead that passes
        it), ``std_error``, ``conf_low``, ``conf_high``, ``cost_per_sale`` (cost / sales; over the
        stages it adds up to the cost of a sale), ``days`` (mean days in the stage, of those who
        came so far), ``days_low`` and ``days_high``. Null where nobody passed or no cost is known.

    Raises
    ------
    InputError
        Fewer than two stages, hours of a stage that is not asked for or without `hour_cost`, a
        lead in several groups, an `as_of` before every event.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Cochran (1977), *Sampling Techniques*, sections 2.11 and 6.4 (ratio of two sums).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> events = pl.DataFrame({
    ...     "opportunity_id": [1, 1, 2, 3],
    ...     "stage": ["new", "contract", "new", "new"],
    ...     "happened_at": [date(2026, 1, day) for day in (1, 11, 1, 1)],
    ... })
    >>> spent = pl.DataFrame({
    ...     "opportunity_id": [1, 2, 3], "happened_at": [date(2026, 1, 1)] * 3,
    ...     "cost": [100.0, 100.0, 160.0],
    ... })
    >>> cost = stage_cost(events, costs=spent, stages=["new", "contract"], as_of=date(2026, 6, 1))
    >>> cost.table.select("n", "n_moved_on", "cost_per_lead", "estimate").row(0)
    (3, 1, 120.0, 360.0)
    """
    names = check_steps(stages, "stages")
    ends = check_ends(names, end_stages)
    work = _check_work(names, hours, hour_cost)
    within_days = _check_window(within_days)
    check_one_of("ci_method", ci_method, ("linearised",))
    as_of, by = check_as_of(as_of), group_names(by, taken=_TAKEN)
    since = None if since is None else check_since(since, as_of)
    conf_level = check_conf_level(conf_level)
    columns = Columns(unit_col, stage_col, at_col)
    frame = open_events(events, columns, by)
    notes = stage_notes(frame, names, columns=columns, as_of=as_of)
    asked = columns.asked() | {"cost": Asked(cost_col, "number", "cost_col")}
    del asked["stage"]
    spent = open_table(costs, asked)
    leads = _leads(frame, names, ends, within_days, since, as_of, by)
    sums = _sums(_with_costs(leads, spent, len(names), work), len(names), by, unit_col)
    table, sales = _tables(sums, names, by, conf_level)
    return StageCost(
        table=table,
        name=_("Cost of bringing a lead past each stage"),
        unit="money",
        definition=_definition(names, within_days, since, as_of),
        by=by,
        conf_level=conf_level,
        notes=(*notes, *_notes(sales, by, hours, hour_cost, currency)),
        currency=currency,
        sales=sales,
    )


def _check_window(within_days: float) -> float:
    days = check_within_days(within_days)
    if math.isinf(days):
        raise InputError(
            "Costs were asked for without a window: only of leads that have had one is it known "
            "what they cost. Pass 'within_days' as a number of days, such as 90."
        )
    return days


def _check_work(
    stages: tuple[str, ...], hours: Mapping[str, float] | None, hour_cost: float | None
) -> dict[int, float]:
    """Return the cost of the work that coming to a stage takes, by step."""
    if (hours is None) != (hour_cost is None):
        raise InputError(
            "The cost of work takes both 'hours' (by stage) and 'hour_cost' (currency units an "
            f"hour); got hours={hours!r} and hour_cost={hour_cost!r}. Pass both, or neither."
        )
    given: dict[str, float] = {} if hours is None else dict(hours)
    unknown = [stage for stage in given if stage not in stages[:-1]]
    if unknown:
        raise InputError(
            f"Hours were given for {listed(unknown)}; costs are counted in {listed(stages[:-1])}. "
            "Name stages as in 'stages', but for the last."
        )
    for name, value in (*given.items(), ("hour_cost", hour_cost or 0.0)):
        if isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
            raise InputError(
                f"Work was priced with {name} = {value!r}. It is a number of 0 or more."
            )
    return {stages.index(stage) + 1: n * (hour_cost or 0.0) for stage, n in given.items()}


# Count ------------------------------------------------------------------------------------


def _leads(
    frame: Frame,
    stages: tuple[str, ...],
    ends: tuple[str, ...],
    within_days: float,
    since: date | None,
    as_of: date,
    by: Sequence[str],
) -> Frame:
    """Return one row a lead: when it came to each stage, how far, until when, its days in each."""
    end, window = last_second(as_of), window_seconds(within_days)
    frame = with_stage_text(frame).filter(
        nw.col("at") <= end, nw.col("stage").is_in([*stages, *ends])
    )
    never, stage, at = nw.lit(end + 1), nw.col("stage"), nw.col("at")
    entries = [
        nw.when(stage == name).then(at).otherwise(never).alias(f"in{k}")
        for k, name in enumerate(stages, 1)
    ]
    lost = nw.when(stage.is_in(list(ends))).then(at).otherwise(never).alias("lost")
    moments = [f"in{k}" for k in range(1, len(stages) + 1)] + ["lost"]
    leads = (
        frame.with_columns(*entries, lost)
        .group_by("unit")
        .agg(
            *[nw.col(name).min() for name in moments], at.min().alias("began"),
            *group_marks(by, gathered=False).values(),
        )
    )  # fmt: skip
    leads = with_mixed(leads, by).filter(nw.col("began") + window <= end)
    if since is not None:
        leads = leads.filter(nw.col("began") > last_second(since - timedelta(1)))
    leads = leads.with_columns((nw.col("began") + window).alias("limit"))
    return _with_days(_with_reach(leads, len(stages)), len(stages))


def _with_reach(leads: Frame, n: int) -> Frame:
    """Add ``reach``, the furthest step within the window, and ``until``, where costs end."""
    reach: Any = nw.lit(0)
    for k in range(1, n + 1):
        reach = nw.when(nw.col(f"in{k}") <= nw.col("limit")).then(nw.lit(k)).otherwise(reach)
    sold = nw.col(f"in{n}") <= nw.col("limit")
    until = nw.when(sold).then(nw.col(f"in{n}")).otherwise(nw.col("limit"))
    return leads.with_columns(reach.alias("reach"), until.alias("until"))


def _with_days(leads: Frame, n: int) -> Frame:
    """Add ``days1`` …: how long a lead stood in each stage before a later one, its end or limit."""
    leads = leads.with_columns(nw.col("limit").alias(f"left{n}"))
    for k in range(n - 1, 0, -1):
        later, sooner = nw.col(f"left{k + 1}"), nw.col(f"in{k + 1}")
        leads = leads.with_columns(
            nw.when(sooner < later).then(sooner).otherwise(later).alias(f"left{k}")
        )
    for k in range(1, n):
        came, left, lost = nw.col(f"in{k}"), nw.col(f"left{k}"), nw.col("lost")
        out = nw.when((lost < left) & (lost >= came)).then(lost).otherwise(left)
        leads = leads.with_columns(out.alias(f"out{k}")).with_columns(
            nw.when(nw.col(f"out{k}") > came)
            .then((nw.col(f"out{k}") - came).cast(nw.Float64) / SECONDS_PER_DAY)
            .otherwise(nw.lit(0.0))
            .alias(f"days{k}")
        )
    return leads


def _with_costs(leads: Frame, spent: Frame, n: int, work: Mapping[int, float]) -> Frame:
    """Add ``cost1`` …: what was spent on a lead while it stood in each stage."""
    moments = [nw.col(f"in{k}") for k in range(1, n)]
    rows = spent.join(leads.select("unit", "until", *moments), on="unit", how="inner")
    rows = rows.filter(nw.col("at") <= nw.col("until"))
    step: Any = nw.lit(1)
    for k in range(2, n):
        step = nw.when(nw.col(f"in{k}") < nw.col("at")).then(nw.lit(k)).otherwise(step)
    rows = rows.with_columns(step.alias("step"))
    parts = [
        nw.when(nw.col("step") == k).then(nw.col("cost")).otherwise(nw.lit(0.0)).alias(f"cost{k}")
        for k in range(1, n)
    ]
    names = [f"cost{k}" for k in range(1, n)]
    rows = rows.with_columns(*parts).group_by("unit").agg(*[nw.col(name).sum() for name in names])
    leads = leads.join(rows, on="unit", how="left")
    leads = leads.with_columns(*[nw.col(name).fill_null(0.0) for name in names])
    worked = [
        nw.when(nw.col(f"in{k}") <= nw.col("until")).then(nw.col(f"cost{k}") + price)
        .otherwise(nw.col(f"cost{k}")).alias(f"cost{k}")
        for k, price in work.items()
    ]  # fmt: skip
    return leads.with_columns(*worked) if worked else leads


def _sums(leads: Frame, n: int, by: Sequence[str], unit_col: str) -> pl.DataFrame:
    """Bring home, per group, the sums of costs and days, of their squares and products."""
    total: Any = nw.lit(0.0)
    for k in range(1, n):
        total = total + nw.col(f"cost{k}")
    leads = leads.with_columns(
        total.alias(f"cost{n}"),
        nw.lit(0.0).alias(f"days{n}"),
        *[(nw.col("reach") >= k).cast(nw.Float64).alias(f"came{k}") for k in range(1, n + 1)],
    )
    sums = [nw.len().alias("n_units")]
    for k in range(1, n + 1):
        cost, days, came = nw.col(f"cost{k}"), nw.col(f"days{k}"), nw.col(f"came{k}")
        passed = nw.col(f"came{min(k + 1, n)}")
        sums += [
            came.sum().alias(f"n{k}"), cost.sum().alias(f"c{k}"),
            (cost * cost).sum().alias(f"cc{k}"), (cost * passed).sum().alias(f"cm{k}"),
            days.sum().alias(f"d{k}"), (days * days).sum().alias(f"dd{k}"),
        ]  # fmt: skip
    counted = collect(leads.group_by(*keys_of(by), "mixed").agg(*sums), by=by)
    return one_group_each(counted, by, unit_col)


# Estimate ---------------------------------------------------------------------------------


def _tables(
    sums: pl.DataFrame, stages: tuple[str, ...], by: tuple[str, ...], conf_level: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows by stage, and those of the sale, in which costs are those of all stages."""
    n = len(stages)
    if not by and sums.is_empty():
        nothing = {name: [0] for name in sums.columns}
        sums = pl.DataFrame(nothing, schema=sums.schema)

    def part(name: str, k: int) -> Any:
        return sums[f"{name}{k}"].to_numpy().astype(np.float64)

    units, sold = sums["n_units"].to_numpy().astype(np.float64), part("n", n)
    anything = part("c", n) > 0
    rows = []
    for k in range(1, n):
        ratio = _ratio(units, part("c", k), part("cc", k), part("cm", k), part("n", k + 1),
                       anything, conf_level)  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(anything, part("c", k) / part("n", k), np.nan)
            of_sale = np.where(anything, part("c", k) / sold, np.nan)
            mean = part("d", k) / part("n", k)
            spread = np.sqrt(np.maximum(part("dd", k) / part("n", k) - mean**2, 0))
            half = normal_quantile(conf_level) * spread / np.sqrt(part("n", k) - 1)
        own = {
            "cost": np.where(anything, part("c", k), np.nan), "cost_per_lead": each,
            "cost_per_sale": of_sale, "days": mean,
            "days_low": np.maximum(mean - half, 0), "days_high": mean + half,
        }  # fmt: skip
        rows.append(
            sums.select(*by).with_columns(
                pl.lit(k, pl.Int64).alias("step"), pl.lit(stages[k - 1]).alias("stage"),
                **_known(own), **five_columns(part("n", k), *ratio),
                n_moved_on=pl.Series(part("n", k + 1), dtype=pl.Int64),
            ) if by else pl.DataFrame({"step": [k], "stage": [stages[k - 1]], **_known(own),
                **five_columns(part("n", k), *ratio),
                "n_moved_on": pl.Series(part("n", k + 1).astype(np.int64)),
            })
        )  # fmt: skip
    table = pl.concat(rows).sort(*by, "step", nulls_last=True).select(
        *by, "step", "stage", "n", "n_moved_on", "cost", "cost_per_lead", "estimate", "std_error",
        "conf_low", "conf_high", "cost_per_sale", *_DAYS,
    )  # fmt: skip
    whole = _ratio(units, part("c", n), part("cc", n), part("cm", n), sold, anything, conf_level)
    sale = {
        "n_sold": pl.Series(sold.astype(np.int64)),
        **_known({"cost": np.where(anything, part("c", n), np.nan)}),
        **five_columns(units, *whole),
    }
    sales = sums.select(*by).with_columns(**sale) if by else pl.DataFrame(sale)
    return table, sales


def _known(columns: Mapping[str, Any]) -> dict[str, pl.Series]:
    return {
        name: pl.Series(np.where(np.isfinite(v), v, np.nan), dtype=pl.Float64).fill_nan(None)
        for name, v in columns.items()
    }


def _ratio(
    units: Any, y: Any, yy: Any, xy: Any, x: Any, known: Any, conf_level: float
) -> tuple[Any, Any, Any, Any]:
    """Return sums over sums with their linearised error; x counts leads, so it is its square."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(known, y / x, np.nan)
        squares = np.maximum(yy - 2 * ratio * xy + ratio**2 * x, 0)
        error = np.where(x > 1, np.sqrt(units / (units - 1) * squares) / x, np.nan)
    half = normal_quantile(conf_level) * error
    return ratio, error, np.maximum(ratio - half, 0), ratio + half


# Say --------------------------------------------------------------------------------------


def _definition(
    stages: tuple[str, ...], within_days: float, since: date | None, as_of: date
) -> str:
    period = "" if since is None else " " + _("from {since} on", since=date_text(since))
    return _(
        "What was spent on leads while they stood in each of the stages {stages}, over the leads "
        "that went on from it; a sale bears the costs of all who did not buy. A lead stands in the "
        "furthest stage it has come to; what is spent until it comes to the next counts in it. "
        "Counted are leads that began{period} and at least {days} before {day}, "
        "with costs and time of {days}. Intervals are those of a ratio over leads.",
        stages=", ".join(map(word_of, stages[:-1])), days=days_text(within_days),
        day=date_text(as_of), period=period,
    )  # fmt: skip


def _notes(
    sales: pl.DataFrame,
    by: tuple[str, ...],
    hours: Mapping[str, float] | None,
    hour_cost: float | None,
    currency: str | None,
) -> tuple[str, ...]:
    if sales.is_empty() or not sales["n"].sum():
        return (_("There are no leads: nothing can be said."),)
    notes = []
    if sales["cost"].null_count():
        notes.append(_("Where no cost at all is recorded, none is taken to be known."))
    if sales["estimate"].null_count():
        notes.append(
            _("Where nobody bought, or no cost is known, the cost of a sale is not known.")
        )
    if hours and hour_cost is not None:
        told = ", ".join(f"{word_of(stage)} {number(n, 2)}" for stage, n in hours.items())
        notes.append(
            _("An hour of work is taken to cost {price}, and coming to a stage to take hours: "
              "{hours}. These are assumptions of whoever made the report.",
              price=amount(hour_cost, "money", currency=currency), hours=told)
        )  # fmt: skip
    return (*notes, *small_n_notes(sales, by, what=_("leads")))
