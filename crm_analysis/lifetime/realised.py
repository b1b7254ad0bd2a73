"""What customers have brought so far, after what they have cost: counted from a margin ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, ClassVar

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.collected import contents, recalled
from crm_analysis.dates import keys_per_unit, to_day_number, with_elapsed_key
from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import FIVE, Estimates, five_columns, group_label, small_n_notes
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
from crm_analysis.uncertainty import mean_interval
from crm_analysis.wording import Unit, _, date_text, money, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COST_PARTS",
    "PURCHASE_PARTS",
    "SINCE",
    "CountedLedger",
    "LedgerColumns",
    "PartValues",
    "RealisedValue",
    "count_ledger",
    "realised_value",
    "since_text",
    "without_purchase",
]

Floats = NDArray[np.float64]

PURCHASE_PARTS = ("front", "service")
"""Parts of the ledger that say that a customer bought: a car, or work on one."""

COST_PARTS = ("contacts", "advertising", "compensation")
"""Parts that are the cost to serve (and to win) a customer."""

LOST_LEADS = "lost_leads"
"""What was spent on people who never bought, where those who did carry it."""

SINCE = ("purchase", "first_entry")
"""What a customer's time is counted from: the first purchase, or the first movement of money."""


@dataclass(frozen=True)
class LedgerColumns:
    """Under which names a table holds the ledger."""

    customer: str
    at: str
    part: str
    amount: str


# Count ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountedLedger:
    """A ledger as `count_ledger` counts it.

    Attributes
    ----------
    table : polars DataFrame
        One row per group, customer, day and part.
    by : tuple of str
    key : tuple or None
        What it follows from, as `recalled` takes it.
    """

    table: pl.DataFrame
    by: tuple[str, ...]
    key: tuple[object, ...] | None

    @property
    def kept(self) -> pl.DataFrame:
        """The rows of customers whose time has started."""
        return self.table.drop_nulls("start")

    def customers(self) -> pl.DataFrame:
        """Return one row per customer: clock, value, parts, and when the balance left the red."""
        return self._derived("customers", lambda: _customers(self.kept, self.paid_back(), self.by))

    def paid_back(self) -> pl.DataFrame:
        """Return when each customer's balance first stood at 0 or more on or after the start.

        Returns
        -------
        polars DataFrame
            The columns of `by`, ``customer``, ``paid_back`` (day number), ``paid_month``; only
            customers who got there. Movements of one day count together, and all before the start
            are counted at it.
        """
        return self._derived("paid back", lambda: _paid_back(self.kept, self.by))

    def _derived(self, name: str, derive: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        return recalled(self.key and (name, self.key), derive)


def count_ledger(
    ledger: object,
    columns: LedgerColumns,
    *,
    purchase_parts: Sequence[str],
    since: str,
    loaded: bool,
    as_of: date,
    by: Sequence[str],
) -> CountedLedger:
    """Sum a ledger by customer, day and part, with each customer's clock.

    With `loaded`, what was spent on people of the group who never bought is shared equally among
    those who did, at their start, as the part ``lost_leads``.

    Returns
    -------
    CountedLedger
        Its table has the columns of `by`, ``customer``, ``start`` and ``day`` (day numbers),
        ``month`` (0 for everything up to the start, 1 for the first month after it, …),
        ``followed`` (completed months from the start to `as_of`), ``part``, ``amount``. ``start``,
        ``month`` and ``followed`` are null for a customer without a purchase, unless `since` is
        first_entry.
    """
    check_one_of("since", since, SINCE)
    own = {columns.customer, columns.at, columns.part, columns.amount}
    if own & set(by):
        raise InputError(
            f"Groups by {listed(by)} were asked for; they must differ from the ledger's own "
            f"columns {listed(sorted(own))}. `by_part` of a realised value tells the parts apart."
        )
    terms = (tuple(purchase_parts), since, as_of.toordinal(), tuple(by))
    names = (columns.customer, columns.at, columns.part, columns.amount)
    known = contents(ledger, [*names, *by])
    key = known and ("ledger", known, names, terms)
    counted = recalled(
        key, lambda: _sums(ledger, columns, purchase_parts, since, to_day_number(as_of), by)
    )
    if loaded:
        counted = _with_lost_leads(counted, by)
    return CountedLedger(counted, tuple(by), key and (*key, loaded))


def _sums(
    ledger: object,
    columns: LedgerColumns,
    purchase_parts: Sequence[str],
    since: str,
    last: int,
    by: Sequence[str],
) -> pl.DataFrame:
    """Sum by customer, day and part, each with the customer's clock."""
    asked = {
        "customer": Asked(columns.customer, "key", "customer_col"),
        "day": Asked(columns.at, "date", "at_col"),
        "part": Asked(columns.part, "key", "part_col"),
        "amount": Asked(columns.amount, "number", "amount_col"),
    }
    who = [*keys_of(by), "customer"]
    frame = open_table(ledger, asked, by=by).filter(nw.col("day") <= last)
    part = nw.col("part").cast(nw.String)
    starts = part.is_in(list(purchase_parts)) if since == "purchase" else nw.lit(True)
    frame = frame.with_columns(nw.lit(last).alias("last"))
    frame = frame.with_columns(nw.when(starts).then(nw.col("day")).alias("bought")).with_columns(
        nw.col("bought").min().over(*who).alias("start")
    )
    frame = with_elapsed_key(frame, "start", "day", "month", name="month")
    frame = with_elapsed_key(frame, "start", "last", "month", name="followed")
    # A customer has one start, and a day of theirs one month: the fewer keys, the less to compare.
    summed = frame.group_by(*who, "day", "part").agg(
        nw.col("start", "month", "followed").min(), nw.col("amount").sum()
    )
    names = [*who, "start", "day", "month", "followed", "part", "amount"]
    counted = collect(summed.select(*names), by=by, order=["customer", "day", "part"])
    size = keys_per_unit("month")
    after = pl.when(pl.col("day") > pl.col("start")).then(pl.col("month") // size + 1)
    return counted.with_columns(
        month=pl.when(pl.col("start").is_not_null()).then(after.otherwise(0)),
        followed=pl.col("followed") // size,
    )


def _with_lost_leads(counted: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Share the balance of those who never bought among those of their group who did."""
    lost = counted.filter(pl.col("start").is_null())
    kept = counted.drop_nulls("start")
    buyers = kept.unique([*by, "customer"], keep="first", maintain_order=True)
    n = pl.len().over(by) if by else pl.len()
    if by:
        spent = lost.group_by(by).agg(lost=pl.col("amount").sum())
        buyers = buyers.join(spent, on=by, nulls_equal=True)
    else:
        buyers = buyers.with_columns(lost=pl.lit(lost["amount"].sum(), pl.Float64))
    share = buyers.with_columns(
        day=pl.col("start"), month=pl.lit(0, pl.Int64), part=pl.lit(LOST_LEADS),
        amount=pl.col("lost") / n,
    )  # fmt: skip
    return pl.concat([kept, share.select(kept.columns)])


def _customers(kept: pl.DataFrame, paid_back: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    who = [*by, "customer"]
    clock = kept.group_by(who, maintain_order=True).agg(
        pl.col("start").first(), pl.col("followed").first(), value=pl.col("amount").sum()
    )
    parts = kept.pivot("part", index=who, values="amount", aggregate_function="sum")
    return clock.join(parts, on=who, how="left", nulls_equal=True).join(
        paid_back, on=who, how="left", nulls_equal=True
    )


def _paid_back(kept: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    who = [*by, "customer"]
    daily = (
        kept.with_columns(day=pl.max_horizontal("day", "start"))
        .group_by(*who, "day", "month", maintain_order=True)
        .agg(pl.col("amount").sum())
        .sort(*who, "day", nulls_last=True)
        .with_columns(balance=pl.col("amount").cum_sum().over(who))
    )
    return (
        daily.filter(pl.col("balance") >= -_CENT)
        .group_by(who, maintain_order=True)
        .agg(paid_back=pl.col("day").first(), paid_month=pl.col("month").first())
    )


_CENT = 0.005
"""A balance this close to zero is zero: sums of cents carry rounding."""


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PartValues(Estimates):
    """What each part of the ledger brought or cost per customer: one row per group and part."""

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what each part brought and cost with its interval, return the Axes."""
        ax = figures.new_axes(ax)
        rows = self.table.to_dicts()
        words = [group_label(row | {"part": _part(row["part"])}, self.by) for row in rows]
        labelled = self.table.with_columns(pl.Series("label", words, pl.String))
        figures.points(labelled, label="label", ax=ax)
        ax.axvline(0, linewidth=0.8, color="0.6", zorder=0)
        figures.write_units(ax, self.unit, axis="x", currency=self.currency)
        ax.set_title(self.name)
        return ax

    def _readable(self) -> pl.DataFrame:
        words = [_part(part) for part in self.table["part"]]
        return super()._readable().with_columns(pl.Series("part", words, pl.String))

    def sentence(self) -> str:
        """Return what brought most and what cost most."""
        known = self.table.drop_nulls("estimate").sort("estimate")
        if self.by != ("part",) or known.is_empty():
            return super().sentence()
        low, high = known.row(0, named=True), known.row(-1, named=True)
        if low["estimate"] >= 0 or high["estimate"] <= 0:
            return super().sentence()
        return _(
            "Per customer, most was earned by {high} ({earned}) and most was spent on {low} "
            "({spent}).",
            high=_part(high["part"]),
            earned=money(high["estimate"], self.currency),
            low=_part(low["part"]),
            spent=money(-low["estimate"], self.currency),
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RealisedValue(Estimates):
    """What customers have brought after costs: one row per group.

    The table has, beside the usual five (the mean per customer), ``total`` (of all n customers)
    and ``cost_to_serve`` (mean per customer of `cost_parts`, above zero).

    Attributes
    ----------
    customers : polars DataFrame
        One row per customer: group and customer, ``started_on``, ``followed_months``, one column
        per part of the ledger, ``value`` (their sum), ``paid_back_on`` (day on which the balance
        first came to zero or above; null if it has not) and ``paid_back_month`` (0 = with the
        first purchase). It names customers, so it belongs in analysis and never on a page.
    parts : tuple of str
        The parts of the ledger, in the order of `customers`.
    """

    customers: pl.DataFrame
    parts: tuple[str, ...]

    says_more: ClassVar[bool] = True

    def sentence(self) -> str:
        """Return the mean per customer, the total, and what serving them cost."""
        text = super().sentence()
        row = self.table.row(0, named=True) if self.table.height else {"total": None}
        if self.by or row["total"] is None:
            return text
        rest = _(
            "{total} for all of them, after a cost to serve of {cost} each",
            total=money(row["total"], self.currency),
            cost=money(row["cost_to_serve"], self.currency),
        )
        return f"{text[:-1]}; {rest}."

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns: money, but for n."""
        return {**super().units(), "total": "money", "cost_to_serve": "money"}

    def by_part(self) -> PartValues:
        """Return what each part of the ledger brought or cost per customer, with intervals."""
        long = self.customers.select(*self.by, *self.parts).unpivot(
            self.parts, index=list(self.by), variable_name="part", value_name="value"
        )
        keys = (*self.by, "part")
        table = _means(long, keys, self.conf_level).drop("total")
        order = {part: place for place, part in enumerate(self.parts)}
        table = table.sort(*self.by, pl.col("part").replace_strict(order, return_dtype=pl.Int64))
        return PartValues(
            table=table,
            name=_("What was earned and spent per customer"),
            unit="money",
            definition=_(
                "Mean over customers of each part of the margin ledger: earnings above zero, costs "
                "below. The parts add up to the realised value."
            ),
            by=keys,
            conf_level=self.conf_level,
            notes=self.notes,
            currency=self.currency,
        )


def _part(part: str) -> str:
    return {
        "front": _("cars, at list price"),
        "finance": _("finance and insurance"),
        "accessories": _("accessories"),
        "trade_in": _("cars taken in"),
        "service": _("service"),
        "discount": _("discounts"),
        "contacts": _("contacts"),
        "advertising": _("advertising"),
        "compensation": _("compensation"),
        LOST_LEADS: _("people who did not buy"),
    }.get(part, part)


# Estimate ---------------------------------------------------------------------------------


def realised_value(
    ledger: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    part_col: str = "part",
    amount_col: str = "amount",
    purchase_parts: Sequence[str] = PURCHASE_PARTS,
    cost_parts: Sequence[str] = COST_PARTS,
    since: str = "purchase",
    loaded: bool = False,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
) -> RealisedValue:
    """What has a customer brought so far, after what they cost? (the mean of a margin ledger).

    Parameters
    ----------
    ledger : table
        One row per movement of money with a customer, as `Warehouse.ledger` returns it.
    customer_col, at_col, part_col, amount_col : str
        Whose, when, what for, and how much: above zero earned, below zero spent.
    purchase_parts : sequence of str
        Parts that say that a customer bought.
    cost_parts : sequence of str
        Parts that make up the cost to serve.
    since : {"purchase", "first_entry"}
        Count customers from their first purchase, and only those who made one; or everybody, also
        those who only cost money, from their first movement. What was spent on a customer before
        the start counts at it.
    loaded : bool
        Let those who bought carry, in equal parts, what was spent on people who did not: the cost
        of winning a customer in full. Otherwise it is left out, and a note says how much it is.
    currency : str, optional
        ISO code, for the words only.
    as_of : date
        Last day counted.
    by : str or sequence of str
    conf_level : float

    Returns
    -------
    RealisedValue
        Columns of `by`, ``n`` (customers), ``estimate`` (mean per customer), ``std_error``,
        ``conf_low``, ``conf_high`` (Student's t over customers), ``total``, ``cost_to_serve``.

    Notes
    -----
    Nothing is discounted and nothing foretold: the past as it was. Customers won lately have had
    less time to bring anything; `cumulative_value` compares them at equal ages.

    Examples
    --------
    >>> from datetime import date
    >>> ledger = pl.DataFrame({
    ...     "customer_id": [1, 1, 2],
    ...     "happened_on": [date(2025, 1, 1), date(2025, 1, 9), date(2025, 2, 1)],
    ...     "part": ["advertising", "front", "service"],
    ...     "amount": [-50.0, 250.0, 100.0],
    ... })
    >>> realised_value(ledger, as_of=date(2025, 12, 31)).table["estimate"].to_list()
    [150.0]
    """
    by, columns = group_names(by), LedgerColumns(customer_col, at_col, part_col, amount_col)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    counted = count_ledger(
        ledger, columns, purchase_parts=purchase_parts, since=since, loaded=loaded,
        as_of=as_of, by=by,
    )  # fmt: skip
    parts = tuple(_ordered(counted.kept["part"].unique().to_list()))
    customers = counted.customers().with_columns(pl.col(parts).fill_null(0.0))
    table = _means(customers, by, conf_level)
    costs = [part for part in parts if part in (*cost_parts, LOST_LEADS)]
    cost = -pl.sum_horizontal(costs) if costs else pl.lit(0.0)
    served = customers.with_columns(cost_to_serve=cost)
    table = table.with_columns(_group_means(served, by, "cost_to_serve"))
    return RealisedValue(
        table=table,
        name=_("Realised value per customer"),
        unit="money",
        definition=_(
            "Mean over customers of all they brought in gross margin until {day}, less discounts, "
            "contacts, advertising and compensation; {since}. Not discounted.",
            day=date_text(as_of),
            since=since_text(since, loaded=loaded),
        ),
        by=by,
        conf_level=conf_level,
        notes=without_purchase(counted, currency) + small_n_notes(table, by, what=_("customers")),
        currency=currency,
        key="realised_value",
        better="higher",
        drifts=True,
        customers=_named(customers, by, parts, customer_col),
        parts=parts,
    )


def since_text(since: str, *, loaded: bool) -> str:
    """Say whom a figure of the ledger counts."""
    if since == "first_entry":
        return _("everybody on whom money was earned or spent counts, whether they bought or not")
    if loaded:
        return _(
            "customers are those who bought; they carry what was spent on them before, and in "
            "equal parts what was spent on people who did not buy"
        )
    return _("customers are those who bought, and earlier costs count at their first purchase")


def _ordered(parts: Sequence[str]) -> list[str]:
    known = (
        "front",
        "finance",
        "accessories",
        "trade_in",
        "service",
        "discount",
        *COST_PARTS,
        LOST_LEADS,
    )
    return sorted(parts, key=lambda part: (known.index(part) if part in known else 99, part))


def _means(values: pl.DataFrame, by: Sequence[str], conf_level: float) -> pl.DataFrame:
    """Return groups and the five columns of the mean of ``value``, and its total."""
    aggregates = {
        "n": pl.len(),
        "mean": pl.col("value").mean(),
        "spread": pl.col("value").std(),
        "total": pl.col("value").sum(),
    }
    if by:
        found = values.group_by(by).agg(**aggregates).sort(by, nulls_last=True)
    else:
        found = values.select(**aggregates)
    numbers = found.select("n", "mean", "spread").cast(pl.Float64).fill_null(np.nan)
    n, mean, spread = (numbers[name].to_numpy() for name in numbers.columns)
    low, high = mean_interval(mean, spread, n, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        five = five_columns(n.astype(np.int64), mean, spread / np.sqrt(n), low, high)
    total = pl.when(pl.col("n") > 0).then(pl.col("total"))
    return found.select(*by, "n", "total").with_columns(**five).select(*by, *FIVE, total)


def _group_means(values: pl.DataFrame, by: Sequence[str], column: str) -> pl.Series:
    if not by:
        return pl.Series(column, [values[column].mean()], pl.Float64)
    means = values.group_by(by).agg(pl.col(column).mean())
    return means.sort(by, nulls_last=True)[column]


def _named(
    customers: pl.DataFrame, by: Sequence[str], parts: Sequence[str], customer_col: str
) -> pl.DataFrame:
    return customers.select(
        *by,
        pl.col("customer").alias(customer_col),
        started_on=pl.col("start").cast(pl.Int32).cast(pl.Date),
        followed_months=pl.col("followed"),
        **{part: pl.col(part) for part in parts},
        value=pl.col("value"),
        paid_back_on=pl.col("paid_back").cast(pl.Int32).cast(pl.Date),
        paid_back_month=pl.col("paid_month"),
    )


def without_purchase(counted: CountedLedger, currency: str | None) -> tuple[str, ...]:
    """Say how many people cost money and are not counted, because they never bought."""
    only_cost = counted.table.filter(pl.col("start").is_null())
    if only_cost.is_empty():
        return ()
    return (
        _(
            "Left out: {n} people on whom money was spent and who have not bought; together they "
            "stand at {total}.",
            n=number(only_cost.select(*counted.by, "customer").n_unique()),
            total=money(float(only_cost["amount"].sum()), currency),
        ),
    )
