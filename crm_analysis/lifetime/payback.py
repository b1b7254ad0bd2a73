"""When customers have paid back what they cost: cumulative value, payback, and who stands in loss.

Customers have been followed for different times, so nothing here compares the raw sums of old and
new ones: means at each age come from those who have been followed so long, and payback is a
duration that is censored where the data end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    FIVE,
    SMALL_N,
    Estimates,
    five_columns,
    share_columns,
    small_n_notes,
)
from crm_analysis.frames import check_as_of, check_conf_level, group_names
from crm_analysis.lifetime.realised import (
    PURCHASE_PARTS,
    LedgerColumns,
    count_ledger,
    since_text,
    without_purchase,
)
from crm_analysis.survival import KaplanMeier, all_at_start, kaplan_meier, quantile
from crm_analysis.uncertainty import log_log_interval, normal_quantile, wilson_interval
from crm_analysis.wording import Unit, _, date_text, duration_text, money, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "CumulativeValue",
    "LossShare",
    "PaybackTime",
    "beside",
    "cumulative_value",
    "groups_of",
    "loss_share",
    "mean_cumulative",
    "movements",
    "payback_time",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CENT = 0.005
"""A balance this close to zero is zero: sums of cents carry rounding."""


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CumulativeValue(Estimates):
    """Mean value per customer up to each age: one row per group and completed month (``time``)."""

    def after(self, months: int) -> Estimates:
        """Return the mean value up to one age, one row per group.

        Each month is taken from those who have been followed so long, whenever they came, so it may
        be held against another year and other places. Null, with n of 0, for a group of which
        nobody has been followed so long.
        """
        groups = self.table.select(self.by).unique(maintain_order=True)
        if not self.by:
            groups = pl.DataFrame({"time": [months]}, schema={"time": pl.Int64})
        asked = groups.with_columns(time=pl.lit(months, pl.Int64))
        keys = [*self.by, "time"]
        rows = asked.join(self.table, on=keys, how="left", nulls_equal=True, maintain_order="left")
        table = rows.drop("time").with_columns(pl.col("n").fill_null(0))
        late = table["estimate"].null_count()
        return Estimates(
            table=table,
            name=_("Value per customer in the first {time}", time=duration_text(months, "month")),
            unit="money",
            definition=self.definition,
            by=self.by,
            conf_level=self.conf_level,
            notes=(_("Nobody has been observed for so long."),) if late else (),
            currency=self.currency,
            key=f"value_in_first_{months}_months",
            better="higher",
        )

    def sentence(self) -> str:
        """Return the value with the first purchase, and at the last age shown."""
        known = self.table.drop_nulls("estimate")
        if known.is_empty():
            return super().sentence()
        if self.by:
            return Estimates.sentence(self._at_common_age(known))
        first, last = known.row(0, named=True), known.row(-1, named=True)
        return _(
            "A customer brings {first} with the first purchase and {value} within {months} months "
            "of it.",
            first=money(first["estimate"], self.currency),
            months=number(last["time"]),
            value=self.value_text(last),
        )

    def _at_common_age(self, known: pl.DataFrame) -> CumulativeValue:
        ages = known.group_by(self.by).agg(pl.col("time").max())["time"].cast(pl.Int64)
        age = int(ages.to_numpy().min())
        name = _("Cumulative value per customer after {months} months", months=number(age))
        return replace(self, table=known.filter(pl.col("time") == age), name=name)

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns: money over months."""
        return {**super().units(), "time": "count"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean against the months since the start, return the Axes."""
        ax = figures.new_axes(ax)
        figures.curve(self.table.drop_nulls("estimate"), x="time", by=self.by, ax=ax)
        ax.axhline(0, linewidth=0.8, color="0.6", zorder=0)
        figures.whole_ticks(ax, 12)
        ax.set_xlabel(_("Months since the start"))
        figures.write_units(ax, "money", currency=self.currency)
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PaybackTime(Estimates):
    """After how many months half of the customers have paid back: one row per group.

    The table has, beside the usual five (the median in completed months; 0 = with the start),
    ``share_paid``, ``share_low`` and ``share_high``: the share paid back within `within_months`.

    Attributes
    ----------
    within_months : int
    curve : polars DataFrame
        The Kaplan-Meier curve: columns of `by`, ``time``, ``n`` (at risk), ``estimate`` (share paid
        back after so many months), ``std_error``, ``conf_low``, ``conf_high``.
    """

    within_months: int
    curve: pl.DataFrame

    def sentence(self) -> str:
        """Return the share paid back in time, and the median."""
        if self.by or self.table["share_paid"].null_count():
            return super().sentence()
        row = self.table.row(0, named=True)
        share = _(
            "{share} ({level} interval {low} to {high}, n = {n}) of customers have paid back what "
            "they cost within {months} months",
            share=percent(row["share_paid"]),
            level=percent(self.conf_level, 0),
            low=percent(row["share_low"]),
            high=percent(row["share_high"]),
            n=number(row["n"]),
            months=number(self.within_months),
        )
        if row["estimate"] is None:
            return share + _("; half of them have not been seen to.")
        if row["estimate"] == 0:
            return share + _("; half of them with their first purchase.")
        return share + _("; half of them by month {month}.", month=number(row["estimate"]))

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        shares: dict[str, Unit] = dict.fromkeys(("share_paid", "share_low", "share_high"), "share")
        months: dict[str, Unit] = dict.fromkeys(("estimate", "conf_low", "conf_high"), "count")
        return {**super().units(), **months, **shares}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share paid back against the months since the start, return the Axes."""
        ax = figures.new_axes(ax)
        figures.curve(self.curve, x="time", by=self.by, ax=ax, step=True)
        ax.set_ylim(0, 1.02)
        figures.whole_ticks(ax, 12)
        ax.set_xlabel(_("Months since the start"))
        figures.write_units(ax, "share")
        ax.set_title(_("Share of customers who have paid back what they cost"))
        return ax

    def _figure_height(self) -> float | None:
        return None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LossShare(Estimates):
    """The share of customers who have cost more than they have brought: one row per group."""


# Cumulative value ---------------------------------------------------------------------------


def cumulative_value(
    ledger: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    part_col: str = "part",
    amount_col: str = "amount",
    purchase_parts: Sequence[str] = PURCHASE_PARTS,
    since: str = "purchase",
    loaded: bool = False,
    horizon_months: int = 60,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
) -> CumulativeValue:
    r"""What has a customer brought by each age? (mean cumulative function, Nelson).

    .. math:: M(t) = \sum_{u \le t} \bar y_u, \quad
        \mathrm{var} = \frac{n}{n-1}
        \sum_i \Big( \sum_{u \le \min(t, T_i)} \frac{y_{iu} - \bar y_u}{n_u} \Big)^2

    with :math:`\bar y_u` the mean movement in month u among the :math:`n_u` customers followed to
    its end. Where all are followed alike it is the mean of the sums and its standard error.

    Parameters
    ----------
    ledger, customer_col, at_col, part_col, amount_col, purchase_parts, since, loaded, currency
        As in `realised_value`.
    horizon_months : int
        The greatest age shown.
    as_of, by, conf_level
        As in `realised_value`.

    Returns
    -------
    CumulativeValue
        Columns of `by`, ``time`` (completed months; 0 = all up to and with the start), ``n``
        (customers followed so long), ``estimate`` (mean value per customer), ``std_error``
        (robust), ``conf_low``, ``conf_high`` (normal). Ages to which fewer than two
        customers have been followed are left out.

    Notes
    -----
    Assumes that customers won lately will do at each age as the earlier ones did: whoever joined
    late is censored, and nothing else is.

    References
    ----------
    Nelson (1988), Journal of Quality Technology 20:24-35; Lawless & Nadeau (1995), Technometrics
    37:158-168.
    """
    by = group_names(by)
    columns = LedgerColumns(customer_col, at_col, part_col, amount_col)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    horizon = _months("horizon_months", horizon_months)
    counted = count_ledger(
        ledger, columns, purchase_parts=purchase_parts, since=since, loaded=loaded,
        as_of=as_of, by=by,
    )  # fmt: skip
    tables = []
    for head, group in groups_of(counted.kept, by):
        rows = mean_cumulative(*movements(group), horizon, conf_level)
        tables.append(beside(head, rows))
    table = pl.concat(tables) if tables else _no_rows(counted.table, by)
    return CumulativeValue(
        table=table,
        name=_("Cumulative value per customer"),
        unit="money",
        definition=_(
            "Mean of what a customer had brought after costs by each age, in completed months, "
            "among customers followed so long by {day} (mean cumulative function); {since}. Not "
            "discounted.",
            day=date_text(as_of),
            since=since_text(since, loaded=loaded),
        ),
        by=by,
        conf_level=conf_level,
        notes=without_purchase(counted, currency) + _few_left(table),
        currency=currency,
    )


def _no_rows(counted: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    empty = np.empty(0)
    table = pl.DataFrame(
        {"time": pl.Series([], dtype=pl.Int64), **five_columns(empty, empty, empty, empty, empty)}
    )
    return pl.concat([counted.select(by).clear(), table], how="horizontal") if by else table


def _few_left(table: pl.DataFrame) -> tuple[str, ...]:
    few = table.filter(pl.col("n") < SMALL_N)
    if few.is_empty():
        return ()
    return (
        _(
            "Beyond {months} months fewer than {least} customers have been followed: read with "
            "care.",
            months=number(int(few["time"].cast(pl.Int64).to_numpy().min()) - 1),
            least=number(SMALL_N),
        ),
    )


def _months(name: str, value: int) -> int:
    if isinstance(value, bool) or value != int(value) or value < 1:
        raise InputError(
            f"{name!r} was given as {value!r}. It is a whole number of months, at least 1: try 12."
        )
    return int(value)


def groups_of(counted: pl.DataFrame, by: Sequence[str]) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Return the head (one row of group columns) and the rows of each group, in order."""
    if not by:
        return [(pl.DataFrame(), counted)] if counted.height else []
    parts = counted.sort(by, nulls_last=True, maintain_order=True).partition_by(
        list(by), maintain_order=True
    )
    return [(part.select(by).head(1), part) for part in parts]


def movements(group: pl.DataFrame) -> tuple[Ints, Ints, Ints, Floats]:
    """Return customers' follow-up, and movements' customer (position), month and amount."""
    ids = group.select(pl.col("customer").rank("dense").cast(pl.Int64) - 1)["customer"].to_numpy()
    followed = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
    followed[ids] = group["followed"].to_numpy()
    return followed, ids, group["month"].to_numpy(), group["amount"].to_numpy()


def mean_cumulative(
    followed: Ints, customer: Ints, month: Ints, amount: Floats, horizon: int, conf_level: float
) -> pl.DataFrame:
    """Return one row per age of the mean cumulative function: ``time`` and the five columns."""
    n, order = len(followed), np.argsort(month, kind="stable")
    bounds = np.searchsorted(month[order], np.arange(horizon + 2))
    spread = np.zeros(n)
    rows: list[tuple[int, int, float, float]] = []
    total = 0.0
    for age in range(horizon + 1):
        at_risk = followed >= age
        n_at_risk = int(at_risk.sum())
        if n_at_risk < 2:
            break
        here = order[bounds[age] : bounds[age + 1]]
        brought = np.bincount(customer[here], weights=amount[here], minlength=n)
        mean = float(brought[at_risk].mean())
        total += mean
        spread += np.where(at_risk, (brought - mean) / n_at_risk, 0.0)
        error = float(np.sqrt((spread**2).sum() * n / (n - 1)))
        rows.append((age, n_at_risk, total, error))
    ages, counts, means, errors = np.array(rows, np.float64).reshape(-1, 4).T
    half = normal_quantile(conf_level) * errors
    five = five_columns(counts, means, errors, means - half, means + half)
    return pl.DataFrame({"time": pl.Series(ages.astype(np.int64), dtype=pl.Int64), **five})


# Payback ------------------------------------------------------------------------------------


def payback_time(
    ledger: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    part_col: str = "part",
    amount_col: str = "amount",
    purchase_parts: Sequence[str] = PURCHASE_PARTS,
    since: str = "purchase",
    loaded: bool = False,
    within_months: int = 12,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
) -> PaybackTime:
    """How long until a customer has paid back what they cost? (Kaplan-Meier).

    A customer has paid back when the balance of all movements first stands at zero or above, on or
    after the start; costs of before count at it. Whoever has not by the last completed month is
    censored there.

    Parameters
    ----------
    ledger, customer_col, at_col, part_col, amount_col, purchase_parts, since, loaded
        As in `realised_value`.
    within_months : int
        The share that has paid back by then is given too.
    as_of, by, conf_level
        As in `realised_value`.

    Returns
    -------
    PaybackTime
        Columns of `by`, ``n`` (customers), ``estimate`` (median, completed months; 0 = with the
        start; null where half have not been seen to pay back), ``std_error`` (null), ``conf_low``,
        ``conf_high`` (Brookmeyer-Crowley), ``share_paid``, ``share_low``, ``share_high``
        (log(-log); Wilson where nobody, or everybody, has); null where nobody was followed so long.

    Notes
    -----
    A balance that has been paid back may fall below zero again: `loss_share` counts that.
    """
    by = group_names(by)
    columns = LedgerColumns(customer_col, at_col, part_col, amount_col)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    within = _months("within_months", within_months)
    counted = count_ledger(
        ledger, columns, purchase_parts=purchase_parts, since=since, loaded=loaded,
        as_of=as_of, by=by,
    )  # fmt: skip
    paid_back = counted.paid_back()
    rows, curves = [], []
    for head, group in groups_of(counted.kept, by):
        curve = _payback_curve(group, paid_back, by)
        rows.append(beside(head, _payback_row(curve, within, conf_level)))
        curves.append(beside(head, _paid_rows(curve, conf_level)))
    table = pl.concat(rows) if rows else beside(counted.table.select(by).clear(), _nobody(bool(by)))
    return PaybackTime(
        table=table,
        name=_("Months until half of the customers have paid back"),
        unit="number",
        definition=_(
            "A customer has paid back when all they brought in gross margin first covers what they "
            "cost, in completed months (Kaplan-Meier, data until {day}); {since}.",
            day=date_text(as_of),
            since=since_text(since, loaded=loaded),
        ),
        by=by,
        conf_level=conf_level,
        notes=without_purchase(counted, None) + small_n_notes(table, by, what=_("customers")),
        within_months=within,
        curve=pl.concat(curves) if curves else _no_rows(counted.table, by),
    )


def beside(head: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Put the group columns of one row beside every row of a table."""
    return head.join(rows, how="cross") if head.width else rows


def _payback_curve(group: pl.DataFrame, paid_back: pl.DataFrame, by: Sequence[str]) -> KaplanMeier:
    who = [*by, "customer"]
    clock = group.group_by(who).agg(pl.col("followed").first())
    joined = clock.join(paid_back, on=who, how="left", nulls_equal=True)
    seen = pl.col("paid_month") <= pl.col("followed")
    times = joined.select(
        ended=seen.fill_null(value=False),
        time=pl.when(seen).then("paid_month").otherwise("followed"),
    )
    size = int(times["time"].cast(pl.Int64).to_numpy().max()) + 1
    time, ended = (times[name].cast(pl.Int64).to_numpy() for name in ("time", "ended"))
    n, d = (np.bincount(time, weights=w, minlength=size) for w in (None, ended))
    entered = all_at_start(size, len(time))
    return kaplan_meier(np.arange(size), entered, d.astype(np.int64), n - d.astype(np.int64))


def _paid_bounds(curve: KaplanMeier, at: Ints, conf_level: float) -> tuple[Floats, Floats, Floats]:
    """Return the share paid back and its bounds at positions of the curve."""
    unpaid, error = curve.survival[at], curve.std_error[at]
    low, high = log_log_interval(unpaid, error, conf_level)
    n = curve.n_at_risk[at].astype(np.float64)
    low_w, high_w = wilson_interval(unpaid * n, n, conf_level)
    inside = (unpaid > 0) & (unpaid < 1)
    low, high = np.where(inside, low, low_w), np.where(inside, high, high_w)
    return 1 - unpaid, 1 - high, 1 - low


def _payback_row(curve: KaplanMeier, within: int, conf_level: float) -> pl.DataFrame:
    middle = quantile(curve, 0.5, conf_level)
    n = int(curve.n_at_risk[0])
    row = five_columns([n], [middle.time], [np.nan], [middle.low], [middle.high])
    shares = np.full((3, 1), np.nan)
    # Beyond the last customer followed nothing is known, unless all have paid back by then.
    if curve.time[-1] >= within or curve.survival[-1] == 0:
        at = np.array([np.searchsorted(curve.time, within, side="right") - 1])
        shares = np.array(_paid_bounds(curve, at, conf_level))
    names = ("share_paid", "share_low", "share_high")
    known = {
        name: pl.Series(name, value, pl.Float64).fill_nan(None)
        for name, value in zip(names, shares, strict=True)
    }
    return pl.DataFrame(row | known)


def _paid_rows(curve: KaplanMeier, conf_level: float) -> pl.DataFrame:
    at = np.arange(len(curve.time))
    share, low, high = _paid_bounds(curve, at, conf_level)
    five = five_columns(curve.n_at_risk, share, curve.std_error, low, high)
    return pl.DataFrame({"time": pl.Series(curve.time, dtype=pl.Int64), **five})


def _nobody(grouped: bool) -> pl.DataFrame:
    unknown = [] if grouped else [np.nan]
    five = five_columns(np.zeros(len(unknown)), unknown, unknown, unknown, unknown)
    shares = dict.fromkeys(("share_paid", "share_low", "share_high"), five["estimate"])
    return pl.DataFrame(five | {k: v.alias(k) for k, v in shares.items()})


# Loss ---------------------------------------------------------------------------------------


def loss_share(
    ledger: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    part_col: str = "part",
    amount_col: str = "amount",
    purchase_parts: Sequence[str] = PURCHASE_PARTS,
    since: str = "purchase",
    loaded: bool = False,
    followed_months: int = 12,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
) -> LossShare:
    """What share of customers has cost more than they have brought? (Wilson).

    Parameters
    ----------
    ledger, customer_col, at_col, part_col, amount_col, purchase_parts, since, loaded
        As in `realised_value`.
    followed_months : int
        Only customers followed at least so long: newer ones have had no time to pay back.
    as_of, by, conf_level
        As in `realised_value`.

    Returns
    -------
    LossShare
        Columns of `by`, ``n`` (customers followed so long), ``estimate`` (share whose balance at
        `as_of` is below zero), ``std_error``, ``conf_low``, ``conf_high``, ``n_in_loss``; null
        where nobody was followed so long.
    """
    by = group_names(by)
    columns = LedgerColumns(customer_col, at_col, part_col, amount_col)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    least = _months("followed_months", followed_months)
    counted = count_ledger(
        ledger, columns, purchase_parts=purchase_parts, since=since, loaded=loaded,
        as_of=as_of, by=by,
    )  # fmt: skip
    kept = counted.kept.filter(pl.col("followed") >= least)
    balances = kept.group_by(*by, "customer").agg(pl.col("amount").sum())
    aggregates = {
        "n": pl.len().cast(pl.Int64),
        "n_in_loss": (pl.col("amount") < -CENT).sum().cast(pl.Int64),
    }
    found = (
        balances.group_by(by).agg(**aggregates).sort(by, nulls_last=True)
        if by
        else balances.select(**aggregates)
    )
    table = _share_table(found, by, conf_level)
    return LossShare(
        table=table,
        name=_("Share of customers in loss"),
        unit="share",
        definition=_(
            "Share of customers followed for {months} months or more who by {day} had cost more "
            "than they had brought in gross margin; {since}.",
            months=number(least),
            day=date_text(as_of),
            since=since_text(since, loaded=loaded),
        ),
        by=by,
        conf_level=conf_level,
        notes=without_purchase(counted, None) + small_n_notes(table, by, what=_("customers")),
        key="customers_in_loss",
        better="lower",
        # Everybody counts who has been followed so long or longer: time alone moves the share.
        drifts=True,
    )


def _share_table(found: pl.DataFrame, by: Sequence[str], conf_level: float) -> pl.DataFrame:
    five = share_columns(found["n_in_loss"], found["n"], conf_level)
    return found.with_columns(**five).select(*by, *FIVE, "n_in_loss")
