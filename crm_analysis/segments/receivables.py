"""Who owes us what, and since when: ageing, days outstanding, insolvent customers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    few_notes,
    five_columns,
    share_columns,
    small_n_notes,
    without_few,
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
from crm_analysis.uncertainty import ratio_interval, wilson_interval
from crm_analysis.wording import _, amount, date_text, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["Ageing", "days_sales_outstanding", "insolvent_customers", "receivables_ageing"]

_MONEY = ("open", "billed")
_TAKEN = (
    *_MONEY, "bucket", "customer", "from_days", "n_invoices", "n_overdue", "owed", "total",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Ageing(Estimates):
    """What is owed, by how long it is overdue."""

    def sentence(self) -> str:
        """Say what share of the money owed is overdue."""
        if self.by != ("bucket",) or not self.table["owed"].sum():
            return super().sentence()
        late = self.table.filter(pl.col("from_days") > 0)
        total = float(self.table["owed"].sum())
        oldest = late.row(-1, named=True)
        return _(
            "Of {total} owed to us, {share} is overdue; {bucket}: {oldest} ({level} interval {low} "
            "to {high}, {n} debtors).",
            total=amount(total, "money", currency=self.currency),
            share=percent(float(late["owed"].sum()) / total), oldest=percent(oldest["estimate"]),
            bucket=oldest["bucket"], level=percent(self.conf_level, 0),
            low=percent(oldest["conf_low"]), high=percent(oldest["conf_high"]),
            n=number(oldest["n"]),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of the money owed in each bucket, and return the Axes."""
        if self.by != ("bucket",):
            return super().plot(ax)
        ax = figures.new_axes(ax)
        shown = self._spared(self.table).drop_nulls("estimate")
        figures.bars(shown, label="bucket", value="estimate", ax=ax, text=percent)
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def _readable(self) -> pl.DataFrame:
        return self._spared(super()._readable()).drop("from_days")

    def _spared(self, table: pl.DataFrame) -> pl.DataFrame:
        """Leave out what a few invoices come to: it would be what one customer owes."""
        if self.by != ("bucket",):
            return table
        columns = ("owed", "estimate", "std_error", "conf_low", "conf_high")
        return without_few(table, columns, count="n_invoices")

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_invoices": "count", "owed": "money"}


def receivables_ageing(
    invoices: object,
    *,
    customer_col: str = "customer_id",
    amount_col: str = "amount",
    paid_col: str | None = "paid",
    issued_col: str = "issued_on",
    due_col: str = "due_on",
    paid_on_col: str = "paid_on",
    buckets: Sequence[int] = (30, 60, 90),
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> Ageing:
    """How much of the money owed is overdue, and for how long (ageing of receivables).

    Parameters
    ----------
    invoices : table
        One row per invoice, on any backend.
    customer_col, amount_col, issued_col, due_col, paid_on_col : str
        `paid_on_col` is the day on which an invoice was paid in full; null while it is not.
    paid_col : str or None
        Sum paid so far; None when it is not kept: then an unpaid invoice is owed whole.
    buckets : sequence of int
        Days overdue at which a bucket ends, rising.
    currency : str, optional
        ISO code of the amounts.
    as_of : date
        Invoices issued later are not counted, and those paid later are still owed. Part payments
        have no day, so they count from the beginning.
    by : str or sequence of str
    conf_level : float
    ci_method : {"linearised"}

    Returns
    -------
    Ageing
        Columns of `by`, ``bucket``, ``from_days``, ``n`` (customers who owe), ``n_invoices``
        (of the bucket), ``owed``, ``estimate`` (share of the money owed), ``std_error``,
        ``conf_low``, ``conf_high``. Where nothing is owed the estimate is null.

    Raises
    ------
    InputError
        Buckets that do not rise from at least one day.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    Intervals take customers as the units, since one customer's invoices are late together: the
    linearised variance of a ratio of sums (Cochran 1977, *Sampling Techniques*, section 6.4),
    turned into an effective number of customers for Wilson's interval (Korn & Graubard 1998).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> bills = pl.DataFrame({
    ...     "customer_id": [1, 2], "amount": [100, 300], "paid": [0, 0],
    ...     "issued_on": [date(2026, 6, 1), date(2026, 3, 1)],
    ...     "due_on": [date(2026, 7, 1), date(2026, 3, 15)],
    ...     "paid_on": pl.Series([None, None], dtype=pl.Date),
    ... })
    >>> aged = receivables_ageing(bills, as_of=date(2026, 6, 30))
    >>> aged.table.filter(pl.col("owed") > 0).select("bucket", "estimate").rows()
    [('not due', 0.25), ('over 90 days', 0.75)]
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("linearised",))
    if not buckets or buckets[0] < 1 or any(a >= b for a, b in pairwise(buckets)):
        raise InputError(
            f"'buckets' were given as {tuple(buckets)}. They are days overdue, rising from at "
            "least 1: try (30, 60, 90)."
        )
    names = (customer_col, amount_col, paid_col, issued_col, due_col, paid_on_col)
    frame = _owed(invoices, names, as_of, by)
    starts = (0, 1, *(day + 1 for day in buckets))
    owed = _by_bucket(frame, starts, by)
    table = _ageing_table(owed, starts, by, conf_level)
    return Ageing(
        table=table,
        name=_("Share of the money owed"),
        unit="share",
        definition=_(
            "What is owed on {as_of} for invoices issued by then, by days past the day on which "
            "it was due.",
            as_of=date_text(as_of),
        ),
        by=(*by, "bucket"),
        conf_level=conf_level,
        notes=_debtor_notes(owed, by) + (() if by else few_notes(table, count="n_invoices")),
        currency=currency,
    )


def days_sales_outstanding(
    invoices: object,
    *,
    customer_col: str = "customer_id",
    amount_col: str = "amount",
    paid_col: str | None = "paid",
    issued_col: str = "issued_on",
    due_col: str = "due_on",
    paid_on_col: str = "paid_on",
    last_days: int = 90,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> Estimates:
    r"""How many days of sales are still to be paid for (days sales outstanding).

    Parameters
    ----------
    invoices : table
        As in `receivables_ageing`.
    customer_col, amount_col, paid_col, issued_col, due_col, paid_on_col : str
    last_days : int
        Days up to `as_of` whose invoices are the sales.
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"linearised"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n`` (customers billed or owing), ``estimate`` in days, ``std_error``,
        ``conf_low``, ``conf_high``. Null where nothing was billed in the period.

    Raises
    ------
    InputError
        A period below one day.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    .. math:: \frac{\text{owed on as\_of}}{\text{billed in the last } d \text{ days}} \cdot d

    with the linearised variance of a ratio over customers. Debts older than the period are in the
    numerator, so the figure passes `last_days` where old debts weigh more than sales.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> bills = pl.DataFrame({
    ...     "customer_id": [1, 2], "amount": [100, 300], "paid": [0, 300],
    ...     "issued_on": [date(2026, 6, 1)] * 2, "due_on": [date(2026, 7, 1)] * 2,
    ...     "paid_on": [None, date(2026, 6, 2)],
    ... })
    >>> days_sales_outstanding(bills, as_of=date(2026, 6, 30)).table["estimate"].to_list()
    [22.5]
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("linearised",))
    if last_days < 1:
        raise InputError(f"'last_days' must be at least 1; got {last_days}. Pass, say, 90.")
    names = (customer_col, amount_col, paid_col, issued_col, due_col, paid_on_col)
    since = to_day_number(as_of) - last_days
    recent = nw.when(nw.col("issued") > since).then(nw.col("amount")).otherwise(nw.lit(0.0))
    frame = _owed(invoices, names, as_of, by).with_columns(recent.alias("billed"))
    people = collect(
        frame.group_by(*keys_of(by), "customer").agg(*(nw.col(name).sum() for name in _MONEY)),
        by=by,
        order=["customer"],
    ).filter((pl.col("open") != 0) | (pl.col("billed") != 0))
    parts = people.partition_by(by, maintain_order=True) if by and people.height else [people]
    rows = [_outstanding(part, by, last_days, conf_level) for part in parts]
    table = pl.concat(rows)
    return Estimates(
        table=table,
        name=_("Days sales outstanding"),
        unit="days",
        definition=_(
            "Money owed on {as_of}, in days of what was billed over the last {n} days.",
            as_of=date_text(as_of),
            n=number(last_days),
        ),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("customers")),
        key="days_sales_outstanding",
        better="lower",
    )


def insolvent_customers(
    invoices: object,
    *,
    customer_col: str = "customer_id",
    amount_col: str = "amount",
    paid_col: str | None = "paid",
    issued_col: str = "issued_on",
    due_col: str = "due_on",
    paid_on_col: str = "paid_on",
    overdue_days: int = 90,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Estimates:
    """What share of customers have owed us for so long that they may not pay (Wilson).

    Parameters
    ----------
    invoices : table
        As in `receivables_ageing`.
    customer_col, amount_col, paid_col, issued_col, due_col, paid_on_col : str
    overdue_days : int
        A customer counts whose oldest open invoice is overdue by more than so many days.
    currency : str, optional
        ISO code of the amounts.
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n`` (customers ever billed), ``n_overdue``, ``owed`` (by those),
        ``estimate`` (share of customers), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        A limit below one day.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> bills = pl.DataFrame({
    ...     "customer_id": [1, 2], "amount": [100, 300], "paid": [0, 0],
    ...     "issued_on": [date(2026, 6, 1), date(2026, 1, 1)],
    ...     "due_on": [date(2026, 7, 1), date(2026, 1, 15)],
    ...     "paid_on": pl.Series([None, None], dtype=pl.Date),
    ... })
    >>> insolvent_customers(bills, as_of=date(2026, 6, 30)).table.select("n_overdue", "n").row(0)
    (1, 2)
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    if overdue_days < 1:
        raise InputError(f"'overdue_days' must be at least 1; got {overdue_days}. Pass, say, 90.")
    names = (customer_col, amount_col, paid_col, issued_col, due_col, paid_on_col)
    frame = _owed(invoices, names, as_of, by)
    long = (nw.col("late") > overdue_days) & (nw.col("open") > 0)
    frame = frame.with_columns(
        long.cast(nw.Int64).alias("long"),
        nw.when(long).then(nw.col("open")).otherwise(nw.lit(0.0)).alias("bad"),
    )
    frame = frame.group_by(*keys_of(by), "customer").agg(
        nw.col("long").max().alias("long"), nw.col("bad").sum().alias("bad")
    )
    sums = (
        nw.len().alias("total"),
        nw.col("long").sum().alias("n_overdue"),
        nw.col("bad").sum().alias("owed"),
    )
    counted = frame.group_by(*keys_of(by)).agg(*sums) if by else frame.select(*sums)
    table = collect(counted, by=by)
    table = table.with_columns(pl.col("n_overdue", "total").fill_null(0).cast(pl.Int64))
    five = share_columns(table["n_overdue"], table["total"], conf_level)
    table = table.select(*by, "n_overdue", pl.col("owed").fill_null(0.0), **five)
    return _Insolvent(
        table=table,
        name=_("Customers who may not pay"),
        unit="share",
        definition=_(
            "Share of the customers ever billed by {as_of} who have an open invoice more than {n} "
            "days overdue.",
            as_of=date_text(as_of),
            n=number(overdue_days),
        ),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("customers")),
        currency=currency,
        key="customers_who_may_not_pay",
        better="lower",
    )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Insolvent(Estimates):
    def units(self) -> dict[str, Any]:
        return super().units() | {"n_overdue": "count", "owed": "money"}


def _owed(
    invoices: object,
    names: tuple[str, str, str | None, str, str, str],
    as_of: date,
    by: tuple[str, ...],
) -> nw.LazyFrame[Any]:
    """Return groups, ``customer, amount, issued, late`` (days past due) and ``open`` (sum owed)."""
    customer, amount, paid, issued, due, paid_on = names
    asked = {
        "customer": Asked(customer, "key", "customer_col"),
        "amount": Asked(amount, "number", "amount_col"),
        "issued": Asked(issued, "date", "issued_col"),
        "due": Asked(due, "date", "due_col"),
        "settled": Asked(paid_on, "date", "paid_on_col", nullable=True),
    }
    if paid is not None:
        asked["paid"] = Asked(paid, "number", "paid_col", nullable=True)
    last = to_day_number(as_of)
    frame = open_table(invoices, asked, by=by).filter(nw.col("issued") <= last)
    received = nw.col("paid").fill_null(0.0) if paid is not None else nw.lit(0.0)
    # What was settled later was owed whole: nobody knows when its parts came.
    part = nw.when(nw.col("settled").is_null()).then(received).otherwise(nw.lit(0.0))
    frame = frame.with_columns(
        part.alias("part"), (last - nw.col("due")).alias("late"), nw.lit(last).alias("last")
    )
    still = nw.col("settled").is_null() | (nw.col("settled") > nw.col("last"))
    owed = nw.when(still).then(nw.col("amount") - nw.col("part")).otherwise(nw.lit(0.0))
    return frame.with_columns(owed.alias("open"))


def _by_bucket(
    frame: nw.LazyFrame[Any], starts: Sequence[int], by: tuple[str, ...]
) -> pl.DataFrame:
    """Sum what each customer owes in each bucket: groups, customer, from_days, owed, n_invoices."""
    start: Any = nw.lit(starts[0])
    for day in starts[1:]:
        start = nw.when(nw.col("late") >= day).then(nw.lit(day)).otherwise(start)
    frame = frame.filter(nw.col("open") > 0).with_columns(start.alias("from_days"))
    frame = frame.group_by(*keys_of(by), "customer", "from_days").agg(
        nw.col("open").sum().alias("owed"), nw.len().alias("n_invoices")
    )
    return collect(frame, by=by, order=["customer", "from_days"])


def _ageing_table(
    owed: pl.DataFrame, starts: Sequence[int], by: tuple[str, ...], conf_level: float
) -> pl.DataFrame:
    parts = owed.partition_by(by, maintain_order=True) if by and owed.height else [owed]
    rows = []
    for part in parts:
        wide = [part.filter(pl.col("from_days") == start) for start in starts]
        people = part.select("customer").unique(maintain_order=True)
        whole = part.group_by("customer", maintain_order=True).agg(pl.col("owed").sum())
        five = _ratios(people, wide, whole, conf_level)
        counted = {
            "bucket": [_bucket_text(starts, i) for i in range(len(starts))],
            "from_days": list(starts),
            "n_invoices": [int(w["n_invoices"].sum()) for w in wide],
            "owed": [float(w["owed"].sum()) for w in wide],
        }
        table = pl.DataFrame({**counted, **five})
        rows.append(part.select(by).head(1).join(table, how="cross") if by else table)
    return pl.concat(rows)


def _ratios(
    people: pl.DataFrame, wide: Sequence[pl.DataFrame], whole: pl.DataFrame, conf_level: float
) -> dict[str, pl.Series]:
    total = people.join(whole, on="customer", how="left", maintain_order="left")["owed"].to_numpy()
    bounds = [
        ratio_interval(
            people.join(w, on="customer", how="left", maintain_order="left")["owed"]
            .fill_null(0.0)
            .to_numpy(),
            total,
            conf_level,
        )
        for w in wide
    ]
    estimate, error = (np.array(column) for column in list(zip(*bounds, strict=True))[:2])
    low, high = _share_bounds(estimate, error, total, conf_level)
    return five_columns(np.full(len(wide), people.height), estimate, error, low, high)


def _share_bounds(
    share: NDArray[Any], error: NDArray[Any], weights: NDArray[Any], conf_level: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bound shares of money by Wilson, at the number of equal debtors that would be as sure.

    That number follows from the standard error; where a share is nothing or all, and the standard
    error says nothing, it is Kish's (1965), from the sums alone.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        kish = weights.sum() ** 2 / np.sum(weights**2)
        size = np.where(error > 0, share * (1 - share) / error**2, kish)
    return wilson_interval(share * size, size, conf_level)


def _bucket_text(starts: Sequence[int], place: int) -> str:
    if place == 0:
        return _("not due")
    if place == len(starts) - 1:
        return _("over {n} days", n=number(starts[place] - 1))
    return _("{first}-{last} days", first=starts[place], last=starts[place + 1] - 1)


def _outstanding(
    part: pl.DataFrame, by: tuple[str, ...], last_days: int, conf_level: float
) -> pl.DataFrame:
    owed, billed = (part[name].to_numpy().astype(float) for name in _MONEY)
    estimate, error, low, high = (
        last_days * value for value in ratio_interval(owed, billed, conf_level)
    )
    five = five_columns([part.height], [estimate], [error], [max(low, 0.0)], [high])
    table = pl.DataFrame(five)
    return part.select(by).head(1).join(table, how="cross") if by else table


def _debtor_notes(owed: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    debtors = owed.select(*by, "customer").unique()
    whole = debtors.group_by(by).agg(pl.len().alias("n")) if by else debtors.select(n=pl.len())
    return small_n_notes(whole, by, what=_("customers who owe"))
