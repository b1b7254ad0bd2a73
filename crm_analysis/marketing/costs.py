"""What it costs to win a customer and to keep one, and when the first has paid for itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import month_number, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_period,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.uncertainty import (
    exact_rate_interval,
    mean_interval,
    normal_quantile,
    ratio_interval,
)
from crm_analysis.wording import _, amount, date_text, duration_text, number, percent, period_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = ["CostRatio", "Payback", "acquisition_cost", "cost_ratio", "payback", "retention_cost"]

_TAKEN = (
    "customer",
    "day",
    "first",
    "spend",
    "cost",
    "kept",
    "cohort",
    "months",
    "value",
    "before",
)
CLAIMED_RATIO = 5.0
"""Winning a customer is said to cost five times keeping one."""

Period = Literal["month", "quarter", "year"]
MONTHS_IN = {"month": 1, "quarter": 3, "year": 12}


# Winning ----------------------------------------------------------------------------------


def acquisition_cost(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    spend: object,
    since: date | None = None,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "exact",
) -> Estimates:
    """What advertising does a new customer cost (spend over new customers, exact Poisson).

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend. A customer is new on the day of the first one.
    customer_col, at_col : str
    spend : table
        Money by day: columns ``day_on``, ``spend`` and those of `by`.
    since : date, optional
        First day of the period.
    currency : str, optional
    as_of : date
        Last day of the period.
    by : str or sequence of str
        Where a customer is new once in each group.
    conf_level : float
    ci_method : {"exact"}

    Returns
    -------
    Estimates
        Columns of `by`, ``spend``, ``n`` (new customers), ``estimate`` (money a new customer),
        ``std_error``, ``conf_low``, ``conf_high``. Null where nobody was new or nothing spent.

    Raises
    ------
    InputError
        A period that ends before it begins.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Garwood (1936), Biometrika 28:437-442.
    """
    by, as_of, conf_level = _checked(by, since, as_of, conf_level, ci_method, "exact")
    first, last = _bounds(since, as_of)
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "day": Asked(at_col, "date", "at_col"),
    }
    frame = open_table(purchases, asked, by=by)
    began = frame.group_by(*keys_of(by), "customer").agg(nw.col("day").min())
    began = began.filter(nw.col("day") >= first, nw.col("day") <= last)
    counted = _summed(began, by, nw.len().alias("k"))
    money = _money(spend, by, first, last)
    cells = _joined(counted, money, by)
    k, paid = (cells[name].cast(pl.Float64).to_numpy() for name in ("k", "spend"))
    paid = np.where(paid > 0, paid, np.nan)
    low, high = exact_rate_interval(k, np.ones(len(k)), conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        five = five_columns(k, paid / k, paid / k / np.sqrt(k), paid / high, paid / low)
    table = cells.select(*by, "spend").with_columns(**five)
    return Estimates(
        table=table,
        name=_("Advertising per new customer"),
        unit="money",
        definition=_(
            "Advertising from {since} to {as_of} over the customers whose first purchase fell "
            "into that time, whatever brought them.",
            since=date_text(since) if since else _("the first day"), as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=(
            _("Some of these customers were won by the money of earlier months, and some of this "
              "money will win customers later."),
            *small_n_notes(table, by, what=_("new customers")),
        ),
        currency=currency,
        key="acquisition_cost", better="lower",
    )  # fmt: skip


# Keeping ----------------------------------------------------------------------------------


def retention_cost(
    costs: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    cost_col: str = "cost",
    purchases: object,
    since: date,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> Estimates:
    """What does it cost to keep a customer (cost of all over those who came back, by customer).

    Parameters
    ----------
    costs : table
        One row per contact, discount or compensation, on any backend: see
        `Warehouse.keeping_costs`.
    customer_col, at_col, cost_col : str
        `customer_col` and `at_col` are named alike in both tables.
    purchases : table
        One row per purchase, with the columns of `by`.
    since : date
        First day of the period. Only customers who had bought before it can be kept.
    currency : str, optional
    as_of : date
        Last day of the period.
    by : str or sequence of str
    conf_level : float
    ci_method : {"linearised"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n_before`` (customers from before), ``n`` (of whom bought again in the
        period), ``estimate`` (money a kept customer), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        A period that ends before it begins.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Cochran (1977), *Sampling Techniques*, sections 2.11 and 6.4 (ratio of two sums).
    """
    by, as_of, conf_level = _checked(by, since, as_of, conf_level, ci_method, "linearised")
    first, last = _bounds(since, as_of)
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "day": Asked(at_col, "date", "at_col"),
    }
    bought = open_table(purchases, asked, by=by).filter(nw.col("day") <= last)
    again = nw.when(nw.col("day") >= first).then(nw.lit(1)).otherwise(nw.lit(0))
    keys = [*keys_of(by), "customer"]
    known = (
        bought.with_columns(again.alias("kept"))
        .group_by(*keys)
        .agg(nw.col("day").min().alias("began"), nw.col("kept").max())
        .filter(nw.col("began") < first)
    )
    asked["cost"] = Asked(cost_col, "number", "cost_col")
    paid = open_table(costs, asked, by=by).filter(nw.col("day") >= first, nw.col("day") <= last)
    paid = paid.group_by(*keys).agg(nw.col("cost").sum())
    units = known.join(paid, on=keys, how="left").with_columns(nw.col("cost").fill_null(0.0))
    rows = collect(units.select(*keys, "kept", "cost"), by=by, order=["customer"])
    parts = rows.partition_by(by, maintain_order=True) if by and rows.height else [rows]
    table = pl.concat([_kept_row(part, by, conf_level) for part in parts])
    return Estimates(
        table=table,
        name=_("Cost per customer kept"),
        unit="money",
        definition=_(
            "What contacts, discounts and amends from {since} to {as_of} cost, for all who had "
            "bought before, over those of them who bought again in that time.",
            since=date_text(since), as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=(
            _("Many would have come back without it: this is what was spent, not what it brought."),
            *small_n_notes(table, by, what=_("customers kept")),
        ),
        currency=currency,
    )  # fmt: skip


def _kept_row(part: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    cost, kept = (part[name].cast(pl.Float64).to_numpy() for name in ("cost", "kept"))
    ratio, error, low, high = ratio_interval(cost, kept, conf_level)
    row = pl.DataFrame(
        {
            "n_before": pl.Series([part.height], dtype=pl.Int64),
            **five_columns([int(kept.sum())], [ratio], [error], [max(low, 0.0)], [high]),
        }
    )
    return part.select(by).head(1).join(row, how="cross") if by else row


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CostRatio(Estimates):
    """How many times what keeping a customer costs is what winning one costs.

    Attributes
    ----------
    claimed : float
        The ratio that is commonly claimed.
    """

    claimed: float

    def sentence(self) -> str:
        """Say the ratio, and whether the claim holds here."""
        row = self.table.row(0, named=True)
        if row["estimate"] is None:
            return super().sentence()
        claimed = number(self.claimed)
        if row["conf_low"] <= self.claimed <= row["conf_high"]:
            verdict = _("the claim of {claimed} to one is not refuted", claimed=claimed)
        elif row["estimate"] < self.claimed:
            verdict = _("less than the claimed {claimed} to one", claimed=claimed)
        else:
            verdict = _("more than the claimed {claimed} to one", claimed=claimed)
        return _(
            "Winning a customer costs {value} times what keeping one does: {verdict}.",
            value=self.value_text(row),
            verdict=verdict,
        )


def cost_ratio(
    acquisition: Estimates,
    *,
    retention: Estimates,
    claimed: float = CLAIMED_RATIO,
    conf_level: float = 0.95,
) -> CostRatio:
    """How many times more does winning a customer cost than keeping one (delta method on logs).

    Parameters
    ----------
    acquisition, retention : Estimates
        One row each, of `acquisition_cost` and `retention_cost` over the same period.
    claimed : float
        The ratio to hold it against.
    conf_level : float

    Returns
    -------
    CostRatio
        ``n`` (new and kept customers), ``estimate``, ``std_error``, ``conf_low``, ``conf_high``;
        null where either is not known or nothing was spent.

    Raises
    ------
    InputError
        Estimates of several rows.

    Examples
    --------
    >>> import polars as pl
    >>> def cost(value, error):
    ...     table = pl.DataFrame({"n": [100], "estimate": [value], "std_error": [error],
    ...                           "conf_low": [value], "conf_high": [value]})
    ...     return Estimates(table=table, name="cost", unit="money", definition="")
    >>> found = cost_ratio(cost(600.0, 60.0), retention=cost(100.0, 0.0))
    >>> found.table.select("estimate", "conf_low", "conf_high").row(0)  # doctest: +ELLIPSIS
    (6.0, 4.93..., 7.29...)
    """
    conf_level = check_conf_level(conf_level)
    if {acquisition.table.height, retention.table.height} != {1}:
        raise InputError(
            f"The ratio of two costs was asked for, of {acquisition.table.height} and "
            f"{retention.table.height} rows. Pass costs without groups, one row each."
        )
    won, kept = (e.table.row(0, named=True) for e in (acquisition, retention))
    values = [
        row[name] if row[name] is not None else float("nan")
        for row in (won, kept)
        for name in ("estimate", "std_error")
    ]
    a, a_error, b, b_error = values
    known = a > 0 and b > 0
    ratio = a / b if known else float("nan")
    error = float(np.hypot(a_error / a, b_error / b)) if known else float("nan")
    factor = float(np.exp(normal_quantile(conf_level) * error))
    n = won["n"] + kept["n"]
    return CostRatio(
        table=pl.DataFrame(five_columns([n], [ratio], [ratio * error], [ratio / factor],
                                        [ratio * factor])),
        name=_("Cost of winning over cost of keeping"),
        unit="number",
        definition=f"{acquisition.definition} {retention.definition}",
        conf_level=conf_level,
        notes=acquisition.notes + retention.notes,
        claimed=claimed,
    )  # fmt: skip


# Paying back ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Payback(Estimates):
    """Margin brought so far, less what winning cost, by cohort and months since the first purchase.

    Attributes
    ----------
    cohorts : polars DataFrame
        ``cohort``, ``n``, ``acquisition_cost`` (money a customer), ``share_repaid`` (share of the
        customers who one by one repaid it by the last mature month, ``months_seen``),
        ``payback_month`` (first month by which the mean customer had), ``payback_low`` and
        ``payback_high`` (by the interval of the mean); null: not yet.
    period : {"month", "quarter", "year"}
        How long a cohort gathers customers.
    """

    cohorts: pl.DataFrame
    period: Period = "year"

    def sentence(self) -> str:
        """Say by when the cohorts had paid back."""
        if self.cohorts.is_empty():
            return _("{name}: no cohort has had its time.", name=self.name)
        known = self.cohorts.drop_nulls("payback_month")
        if known.is_empty():
            return _(
                "None of {n} cohorts has paid back what winning it cost.",
                n=number(self.cohorts.height),
            )
        slowest = int(known["payback_month"].max())  # type: ignore[arg-type]
        when = (
            _("at the first purchase")
            if slowest == 0
            else _("within {months}", months=duration_text(slowest, "month"))
        )
        last = self.cohorts.row(-1, named=True)
        text = _(
            "{k} of {n} cohorts have paid back what winning them cost {when}; one of {cohort} cost "
            "{cost} a customer.",
            k=number(known.height), n=number(self.cohorts.height), when=when,
            cohort=period_text(last["cohort"], self.period),
            cost=amount(last["acquisition_cost"], "money", currency=self.currency),
        )  # fmt: skip
        return f"{text} {self._alone_text()}".strip()

    def _alone_text(self) -> str:
        """Say how many customers, one by one, have repaid: a mean hides those who never do."""
        old = self.cohorts.filter(pl.col("months_seen") >= MONTHS_IN["year"])
        if old.is_empty():
            return ""
        row = old.row(-1, named=True)
        return _(
            "Of the {n} customers of {cohort}, {share} had done so one by one within {months}.",
            n=number(row["n"]), cohort=period_text(row["cohort"], self.period),
            share=percent(row["share_repaid"]), months=duration_text(row["months_seen"], "month"),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a line per cohort, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.curve(self._readable(), x="months", ax=ax, by=("cohort",), band=False)
        ax.axhline(0, linewidth=0.8, color="0.4")
        figures.write_units(ax, "money", currency=self.currency)
        ax.set_xlabel(_("Months since the first purchase"))
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"months": "count"}

    def _readable(self) -> pl.DataFrame:
        names = [period_text(day, self.period) for day in self.table["cohort"].to_list()]
        return self.table.with_columns(pl.Series("cohort", names, pl.String))


def payback(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    value_col: str = "margin",
    spend: object,
    period: Period = "year",
    horizon_months: int = 24,
    since: date | None = None,
    currency: str | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "t",
) -> Payback:
    """When has a customer brought what winning them cost (mean margin by month, mature cells only).

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend; a customer belongs to the period of the first.
    customer_col, at_col, value_col : str
        A purchase whose value is null adds nothing.
    spend : table
        Money by day: columns ``day_on`` and ``spend``.
    period : {"month", "quarter", "year"}
    horizon_months : int
    since : date, optional
        First day of the first cohort.
    currency : str, optional
    as_of : date
    conf_level : float
    ci_method : {"t"}

    Returns
    -------
    Payback
        ``cohort`` (first day of the period), ``months``, ``n`` (customers), ``estimate`` (mean
        margin up to so many months after the first purchase, less the period's spend over its new
        customers), ``std_error``, ``conf_low``, ``conf_high``. Only cells for which every customer
        of the cohort has had the time.

    Raises
    ------
    InputError
        A horizon below one month, a period that ends before it begins, or one unknown.
    ColumnError
        A column is missing, of another type, or null.
    """
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("t",))
    check_one_of("period", period, tuple(MONTHS_IN))
    check_period(since, as_of)
    if horizon_months < 1:
        raise InputError(
            f"A horizon of {horizon_months} months was asked for; it is at least 1. Pass 24."
        )
    first, last = _bounds(since, as_of)
    rows = _by_month(purchases, customer_col, at_col, value_col, last)
    rows = rows.filter(pl.col("began") >= first).with_columns(_cohort("began", period))
    money = _daily(spend, first, last).with_columns(_cohort("day", period))
    paid = dict(money.group_by("cohort").agg(pl.col("spend").sum()).iter_rows())
    parts = [
        _cohort_rows(part, paid.get(part["cohort"][0], 0.0), period, horizon_months, as_of,
                     conf_level)
        for part in rows.sort("cohort").partition_by("cohort", maintain_order=True)
    ]  # fmt: skip
    tables = [table for table, _row in parts if table.height]
    table = pl.concat(tables) if tables else _cohort_rows(rows, 0.0, period, 1, as_of, 0.95)[0]
    cohorts = pl.DataFrame(
        [row for cells, row in parts if cells.height], schema=_COHORTS, orient="row"
    )
    return Payback(
        table=table,
        name=_("Margin less the cost of winning"),
        unit="money",
        definition=_(
            "Mean margin of a customer up to so many months after the first purchase, less the "
            "advertising of the period over the customers it brought; a cohort is shown only as "
            "far as all of it has been seen.",
        ),
        by=("cohort",),
        conf_level=conf_level,
        notes=(
            _("All new customers share the advertising, also those who came of themselves; what "
              "keeping them cost is not taken off."),
            *small_n_notes(cohorts, ("cohort",), what=_("customers")),
        ),
        currency=currency,
        cohorts=cohorts,
        period=period,
    )  # fmt: skip


_COHORTS = {
    "cohort": pl.Date, "n": pl.Int64, "acquisition_cost": pl.Float64, "share_repaid": pl.Float64,
    "months_seen": pl.Int64,
    "payback_month": pl.Int64, "payback_low": pl.Int64, "payback_high": pl.Int64,
}  # fmt: skip


def _by_month(
    purchases: object, customer_col: str, at_col: str, value_col: str, last: int
) -> pl.DataFrame:
    """Sum the value by customer and whole months since the first purchase (``began``, a day)."""
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "day": Asked(at_col, "date", "at_col"),
        "value": Asked(value_col, "number", "value_col", nullable=True),
    }
    frame = open_table(purchases, asked).filter(nw.col("day") <= last)
    summed = collect(frame.group_by("customer", "day").agg(nw.col("value").sum()))
    on, start = (pl.from_epoch(pl.col(name), time_unit="d").dt for name in ("day", "began"))
    months = 12 * (on.year() - start.year()) + on.month().cast(pl.Int32) - start.month()
    return (
        summed.with_columns(pl.col("day").min().over("customer").alias("began"))
        .with_columns((months - (on.day() < start.day())).cast(pl.Int64).alias("month"))
        .group_by("customer", "began", "month")
        .agg(pl.col("value").fill_null(0.0).sum())
        .sort("customer", "month")
    )


def _cohort_rows(
    part: pl.DataFrame,
    spent: float,
    period: Period,
    horizon: int,
    as_of: date,
    conf_level: float,
) -> tuple[pl.DataFrame, tuple[Any, ...]]:
    who, place = np.unique(part["customer"].to_numpy(), return_inverse=True)
    start = part["cohort"][0] if part.height else as_of
    # The last of the cohort began on the last day of its period at the latest.
    end = _next_period(start, period) - timedelta(days=1)
    mature = min(_whole_months(end, as_of), horizon)
    months = np.arange(max(mature + 1, 0))
    month, value = part["month"].to_numpy(), part["value"].to_numpy().astype(float)
    grid = np.zeros((len(who), len(months) + 1))
    np.add.at(grid, (place, np.minimum(month, len(months))), value)
    brought = np.cumsum(grid[:, : len(months)], axis=1)
    cost = spent / len(who) if len(who) else float("nan")
    n = np.full(len(months), len(who))
    spread = brought.std(axis=0, ddof=1) if len(who) > 1 else np.full(len(months), np.nan)
    mean = brought.mean(axis=0) - cost if len(who) else np.full(len(months), np.nan)
    low, high = mean_interval(mean, spread, n, conf_level)
    table = pl.DataFrame(
        {
            "cohort": pl.Series([start] * len(months), dtype=pl.Date),
            "months": pl.Series(months, dtype=pl.Int64),
            **five_columns(n, mean, spread / np.sqrt(np.maximum(n, 1)), low, high),
        }
    )
    repaid = float((brought[:, -1] >= cost).mean()) if len(months) and len(who) else None
    reached = [_first_not_below_zero(line) for line in (mean, high, low)]
    known_cost = cost if np.isfinite(cost) else None
    return table, (start, len(who), known_cost, repaid, len(months) - 1, *reached)


def _first_not_below_zero(line: Any) -> int | None:
    found = np.flatnonzero(line >= 0)
    return int(found[0]) if found.size else None


# Shared -----------------------------------------------------------------------------------


def _checked(
    by: str | Sequence[str],
    since: date | None,
    as_of: date,
    conf_level: float,
    ci_method: str,
    only: str,
) -> tuple[tuple[str, ...], date, float]:
    check_one_of("ci_method", ci_method, (only,))
    as_of = check_as_of(as_of)
    check_period(since, as_of)
    return group_names(by, taken=_TAKEN), as_of, check_conf_level(conf_level)


def _bounds(since: date | None, as_of: date) -> tuple[int, int]:
    return to_day_number(since or date.min), to_day_number(as_of)


def _summed(frame: nw.LazyFrame[Any], by: tuple[str, ...], *sums: nw.Expr) -> pl.DataFrame:
    if by:
        return collect(frame.group_by(*keys_of(by)).agg(*sums), by=by)
    return collect(frame.select(*sums))


def _opened_spend(spend: object, by: tuple[str, ...], first: int, last: int) -> nw.LazyFrame[Any]:
    asked = {"day": Asked("day_on", "date", "spend"), "spend": Asked("spend", "number", "spend")}
    return open_table(spend, asked, by=by).filter(nw.col("day") >= first, nw.col("day") <= last)


def _money(spend: object, by: tuple[str, ...], first: int, last: int) -> pl.DataFrame:
    return _summed(_opened_spend(spend, by, first, last), by, nw.col("spend").sum())


def _daily(spend: object, first: int, last: int) -> pl.DataFrame:
    frame = _opened_spend(spend, (), first, last)
    return collect(frame.group_by("day").agg(nw.col("spend").sum()), order=["day"])


def _joined(counted: pl.DataFrame, money: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    if by:
        both = counted.join(money, on=list(by), how="full", coalesce=True, nulls_equal=True)
        both = both.sort(by, nulls_last=True)
    else:
        both = pl.concat([counted, money], how="horizontal")
    return both.with_columns(pl.col("k", "spend").fill_null(0))


def _cohort(column: str, period: Period) -> pl.Expr:
    day = pl.from_epoch(pl.col(column), time_unit="d")
    return day.dt.truncate(f"{MONTHS_IN[period]}mo").alias("cohort")


def _next_period(start: date, period: Period) -> date:
    month = month_number(start) + MONTHS_IN[period]
    return date(month // 12, month % 12 + 1, 1)


def _whole_months(start: date, end: date) -> int:
    return month_number(end) - month_number(start) - (end.day < start.day)
