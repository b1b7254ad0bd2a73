"""How many come back: cohorts by period, and a second purchase within a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import (
    floor_divide,
    keys_per_unit,
    month_number,
    to_day_number,
    with_civil,
    with_elapsed_key,
)
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    share_columns,
    small_n_notes,
)
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
from crm_analysis.wording import _, date_text, duration_text, number, period_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CohortRetention", "cohort_retention", "count_cohorts", "repeat_rate"]

Period = Literal["month", "quarter", "year"]
PERIODS: tuple[Period, ...] = ("month", "quarter", "year")
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


# Cohorts ----------------------------------------------------------------------------------


def _open_events(
    events: object, customer_col: str, at_col: str, last_day: int, by: Sequence[str]
) -> nw.LazyFrame[Any]:
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "day": Asked(at_col, "date", "at_col"),
    }
    return open_table(events, asked, by=by).filter(nw.col("day") <= last_day)


def count_cohorts(
    events: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    period: Period = "month",
    as_of: date,
    by: Sequence[str] = (),
) -> pl.DataFrame:
    """Count the customers of each cohort who were active in each later period.

    Parameters
    ----------
    events : table
        One row per activity of a customer.
    customer_col, at_col : str
    period : {"month", "quarter", "year"}
    as_of : date
        Activity after this day is not counted.
    by : sequence of str
        A customer active in two groups belongs to both, with a first activity in each.

    Returns
    -------
    polars DataFrame
        The columns of `by`, ``cohort`` and ``active`` (periods as whole numbers since year 0)
        and ``n_active`` (customers); the size of a cohort stands where the two are equal.
    """
    groups = keys_of(by)
    frame = _open_events(events, customer_col, at_col, to_day_number(as_of), by)
    frame = with_civil(frame, "day").with_columns(
        floor_divide(nw.col("day_month"), _MONTHS[period]).alias("active")
    )
    frame = frame.unique(subset=[*groups, "customer", "active"]).with_columns(
        nw.col("active").min().over(*groups, "customer").alias("cohort")
    )
    counted = frame.group_by(*groups, "cohort", "active").agg(nw.len().alias("n_active"))
    return collect(counted, by=by, order=["cohort", "active"])


def _cohort_cells(
    counts: pl.DataFrame, by: tuple[str, ...], last_whole: int, n_periods: int
) -> pl.DataFrame:
    """Lay out every mature cell of every cohort, with zero where nobody was active."""
    sizes = counts.filter(pl.col("cohort") == pl.col("active")).select(
        *by, "cohort", n=pl.col("n_active")
    )
    later = pl.DataFrame({"period": range(1, n_periods + 1)}, schema={"period": pl.Int64})
    cells = sizes.join(later, how="cross").filter(pl.col("cohort") + pl.col("period") <= last_whole)
    active = counts.select(*by, "cohort", "n_active", period=pl.col("active") - pl.col("cohort"))
    return (
        cells.join(active, on=[*by, "cohort", "period"], how="left", nulls_equal=True)
        .with_columns(pl.col("n_active").fill_null(0))
        .sort(*by, "cohort", "period", nulls_last=True)
    )


def _last_whole_period(as_of: date, period: Period) -> int:
    """Return the last period all of whose days are covered."""
    following = date.fromordinal(as_of.toordinal() + 1)
    return month_number(following) // _MONTHS[period] - 1


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CohortRetention(Estimates):
    """Cohort retention: one row per group, cohort and later period that is wholly covered.

    The table has, beside the usual five, ``cohort`` (first day of the cohort's period),
    ``period`` (periods since then, from 1) and ``n_active``.
    """

    period_kind: Period = "month"

    def pooled(self) -> pl.DataFrame:
        """Return one row per group and period over all cohorts that are mature there."""
        pooled = (
            self.table.group_by(*self.by, "period")
            .agg(pl.col("n", "n_active").sum())
            .sort(*self.by, "period", nulls_last=True)
        )
        return pooled.with_columns(
            **share_columns(pooled["n_active"], pooled["n"], self.conf_level)
        )

    def sentence(self) -> str:
        """Return what share of customers was active again in the first later period."""
        if self.table.is_empty():
            return _("{name}: no cohort has a whole later period yet.", name=self.name)
        if self.by:
            return self._pooled_estimates(self._middle()).sentence()
        row = self.pooled().filter(pl.col("period") == self._middle()).row(0, named=True)
        return _(
            "{when} after their first, {value} of customers were active again.",
            when=duration_text(self._middle(), self.period_kind),
            value=self.value_text(row),
        )

    def _middle(self) -> int:
        first_year = {"month": 12, "quarter": 4, "year": 1}[self.period_kind]
        return min(first_year, int(max(self.table["period"].to_list())))

    def _pooled_estimates(self, period: int) -> Estimates:
        return Estimates(
            table=self.pooled().filter(pl.col("period") == period),
            name=_(
                "The share active again after {when}", when=duration_text(period, self.period_kind)
            ),
            unit="share",
            definition=self.definition,
            by=self.by,
            conf_level=self.conf_level,
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the cohorts as a matrix (or pooled curves by group) and return the Axes."""
        ax = figures.new_axes(ax)
        if self.by:
            figures.curve(self.pooled(), x="period", by=self.by, ax=ax)
            figures.write_units(ax, "share")
            ax.set_ylim(bottom=0)
        elif not self.table.is_empty():
            figures.heatmap(self._readable(), row="cohort", column="period", ax=ax)
        ax.set_xlabel(_periods_axis(self.period_kind))
        ax.set_title(self.name)
        return ax

    def _readable(self) -> pl.DataFrame:
        names = [period_text(day, self.period_kind) for day in self.table["cohort"].to_list()]
        return super()._readable().with_columns(pl.Series("cohort", names, pl.String))

    def _figure_height(self) -> float | None:
        if self.by:
            return None
        return min(9.0, max(3.2, 1.2 + 0.16 * self.table["cohort"].n_unique()))


def _periods_axis(period: Period) -> str:
    return {
        "month": _("Months since the first"),
        "quarter": _("Quarters since the first"),
        "year": _("Years since the first"),
    }[period]


def cohort_retention(
    events: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    period: Period = "month",
    n_periods: int = 24,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> CohortRetention:
    """What share of those who came first in one period is active k periods later (Wilson).

    Parameters
    ----------
    events : table
        One row per activity of a customer, on any backend.
    customer_col, at_col : str
    period : {"month", "quarter", "year"}
        Calendar periods; a cohort is everybody whose first activity lies in one.
    n_periods : int
        How many later periods to follow, at least 1.
    as_of : date
        Last day the data covers. A period that is not wholly covered has no cell: absent,
        not zero.
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    CohortRetention
        Columns of `by`, ``cohort`` (first day), ``period`` (1 to `n_periods`), ``n``
        (customers of the cohort), ``n_active``, ``estimate`` (share), ``std_error``,
        ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        An unknown period, or fewer than one period to follow.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    The first cohorts of a data set also hold customers who came before it began.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> visits = pl.DataFrame({
    ...     "customer_id": [1, 1, 2, 3],
    ...     "happened_on": [date(2024, 1, 5), date(2024, 2, 9), date(2024, 1, 7), date(2024, 2, 1)],
    ... })
    >>> cohort_retention(visits, as_of=date(2024, 2, 29)).table["estimate"].to_list()
    [0.5]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    check_one_of("period", period, PERIODS)
    check_one_of("ci_method", ci_method, ("wilson",))
    conf_level = check_conf_level(conf_level)
    if n_periods < 1:
        raise InputError(f"'n_periods' must be at least 1; got {n_periods}. Pass, say, 12.")
    counts = count_cohorts(
        events, customer_col=customer_col, at_col=at_col, period=period, as_of=as_of, by=by
    )
    cells = _cohort_cells(counts, by, _last_whole_period(as_of, period), n_periods)
    months = pl.col("cohort") * _MONTHS[period]
    table = cells.select(
        *by,
        pl.date(months // 12, months % 12 + 1, 1).alias("cohort"),
        "period",
        "n_active",
        **share_columns(cells["n_active"], cells["n"], conf_level),
    )
    return CohortRetention(
        table=table,
        name=_("Cohort retention"),
        unit="share",
        definition=_(
            "Share of the customers whose first activity lies in one period who were active in "
            "a later one; periods not wholly covered by {as_of} are left out.",
            as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=_cohort_notes(counts, table),
        period_kind=period,
    )


def _cohort_notes(counts: pl.DataFrame, table: pl.DataFrame) -> tuple[str, ...]:
    if counts.is_empty():
        return (_("Nobody was active by then: there is nothing to count."),)
    if table.is_empty():
        return (_("No later period is wholly covered yet."),)
    return (_("The first cohort also holds customers who came before the data begin."),)


# A second purchase ------------------------------------------------------------------------


def repeat_rate(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    within_months: int = 12,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Estimates:
    """What share of customers came back within so many months of their first purchase (Wilson).

    Only customers whose first purchase lies at least `within_months` before `as_of` are
    counted; the others have not had their time and are counted in the notes.

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend; several on one day are one purchase.
    customer_col, at_col : str
    within_months : int
        Calendar months; the anniversary day itself is inside.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        A customer of two groups counts in both, with a first purchase in each.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n_repeated``, ``n`` (customers with enough follow-up),
        ``estimate`` (share), ``std_error``, ``conf_low``, ``conf_high``. Without such
        customers the estimate is null.

    Raises
    ------
    InputError
        A window below one month.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> bought = pl.DataFrame({
    ...     "customer_id": [1, 1, 2, 3],
    ...     "happened_on": [date(2022, 1, 5), date(2023, 1, 5), date(2022, 3, 1), date(2023, 9, 1)],
    ... })
    >>> rate = repeat_rate(bought, as_of=date(2023, 12, 31))
    >>> rate.table["n"].to_list(), rate.table["estimate"].to_list()
    ([2], [0.5])
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    if within_months < 1:
        raise InputError(f"'within_months' must be at least 1; got {within_months}. Pass, say, 12.")
    counted = _count_repeats(
        purchases, customer_col, at_col, to_day_number(as_of), within_months, by
    )
    table = _repeat_table(counted, by, conf_level)
    return Estimates(
        table=table,
        name=_("Came back within {when}", when=duration_text(within_months, "month")),
        unit="share",
        definition=_(
            "Share of customers with another purchase or visit, on another day, within {when} of "
            "their first; only customers whose first is at least so long before {as_of}.",
            when=duration_text(within_months, "month"),
            as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=_repeat_notes(counted, table, by, within_months),
        key=f"repeat_rate_within_{within_months}_months",
        better="higher",
    )


def _count_repeats(
    purchases: object,
    customer_col: str,
    at_col: str,
    last_day: int,
    within_months: int,
    by: tuple[str, ...],
) -> pl.DataFrame:
    groups = keys_of(by)
    window = within_months * keys_per_unit("month")
    frame = _open_events(purchases, customer_col, at_col, last_day, by)
    frame = frame.with_columns(nw.col("day").min().over(*groups, "customer").alias("first"))
    again = nw.when(nw.col("day") > nw.col("first")).then(nw.col("day"))
    frame = (
        frame.with_columns(again.alias("later"))
        .group_by(*groups, "customer", "first")
        .agg(nw.col("later").min().alias("second"))
        .with_columns(nw.lit(last_day).alias("last"))
    )
    frame = with_elapsed_key(frame, "first", "last", "month", name="followed")
    frame = with_elapsed_key(frame, "first", "second", "month", name="waited")
    frame = frame.with_columns(
        (nw.col("followed") >= window).cast(nw.Int64).alias("mature"),
        nw.when(nw.col("waited") <= window).then(nw.lit(1)).otherwise(nw.lit(0)).alias("repeated"),
    )
    return collect(
        frame.group_by(*groups, "mature").agg(
            nw.len().alias("n"), nw.col("repeated").sum().alias("n_repeated")
        ),
        by=by,
        order=["mature"],
    )


def _repeat_table(counted: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    mature = pl.col("mature") == 1
    sums = {name: pl.col(name).filter(mature).sum() for name in ("n_repeated", "n")}
    if by:
        table = counted.group_by(by).agg(**sums).sort(by, nulls_last=True)
    else:
        table = counted.select(**sums)
    five = share_columns(table["n_repeated"], table["n"], conf_level)
    return table.select(*by, "n_repeated", **five)


def _repeat_notes(
    counted: pl.DataFrame, table: pl.DataFrame, by: tuple[str, ...], within_months: int
) -> tuple[str, ...]:
    notes = small_n_notes(table, by, what=_("customers with enough follow-up"))
    young = counted.filter(pl.col("mature") == 0)
    n_young, n_early = int(young["n"].sum()), int(young["n_repeated"].sum())
    if n_young:
        notes += (
            _(
                "{n} customers who first came less than {when} ago are left out ({early} of them "
                "have come back already).",
                n=number(n_young),
                when=duration_text(within_months, "month"),
                early=number(n_early),
            ),
        )
    return notes
