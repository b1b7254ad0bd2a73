"""What customers bring after the deal that won them: the future that a discount may draw on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.errors import InputError
from crm_analysis.estimates import FIVE, SMALL_N, Estimates, five_columns, small_n_notes
from crm_analysis.frames import check_as_of, check_conf_level, check_whole, group_names
from crm_analysis.lifetime.payback import beside, groups_of, mean_cumulative, movements
from crm_analysis.lifetime.realised import LedgerColumns, count_ledger
from crm_analysis.wording import Unit, _, date_text, number, percent

__all__ = ["LaterValue", "later_value"]

Floats = NDArray[np.float64]

CAR_PARTS = ("front",)
"""Parts of the ledger that say that a customer bought a car."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LaterValue(Estimates):
    """What customers bring after a first purchase: one row per group.

    The table has, beside the usual five (the mean per customer), ``months`` (how many after the
    purchase are counted) and ``n_followed`` (customers followed to their end).
    """

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns: money, but for counts."""
        return {**super().units(), "months": "count", "n_followed": "count"}


def later_value(
    ledger: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    part_col: str = "part",
    amount_col: str = "amount",
    purchase_parts: Sequence[str] = CAR_PARTS,
    horizon_months: int = 36,
    annual_discount_rate: float = 0.10,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
) -> LaterValue:
    r"""What does a customer bring in the months after a first car, in today's money? (a mean).

    .. math:: \sum_{u=1}^{H} \frac{\bar y_u}{(1+d)^{(u - 1/2)/12}}

    with :math:`\bar y_u` the mean movement in month u after the purchase among the customers who
    have been followed to its end; the variance is that of `cumulative_value`. The purchase itself
    is not in it, so it is what `affordable_discount` may count on.

    Parameters
    ----------
    ledger, customer_col, at_col, part_col, amount_col
        As in `realised_value`.
    purchase_parts : sequence of str
        Parts that start a customer's clock; as they stand, the first car.
    horizon_months : int
        Months counted after the purchase.
    annual_discount_rate : float
        What a year's delay costs, as a fraction; a month's money is taken to come at its middle.
    currency : str, optional
        ISO code, for the words only.
    as_of : date
        Last day counted.
    by : str or sequence of str
        Group columns of the ledger, known when the customer buys.
    conf_level : float

    Returns
    -------
    LaterValue
        Columns of `by`, ``n`` (customers who made such a purchase), ``estimate``, ``std_error``
        (robust), ``conf_low``, ``conf_high`` (normal), ``months``, ``n_followed``. Where fewer than
        30 have been followed for `horizon_months`, only as many months are counted as 30 have
        been, and a note says so; null where they have not been for one.

    Raises
    ------
    InputError
        A discount rate outside [0, 1), or a horizon that is no whole number of months.

    Notes
    -----
    It foretells nothing: it takes for granted that new customers will do as earlier ones did. What
    somebody who came to the workshop before would have brought without the car is in it too.

    References
    ----------
    Nelson (1988), Journal of Quality Technology 20:24-35 (the mean cumulative function).

    Examples
    --------
    >>> from datetime import date
    >>> rows = [(i, day, part, amount) for i in range(30) for day, part, amount in (
    ...     (date(2023, 1, 10), "front", 900.0), (date(2024, 1, 9), "service", 100.0 + i))]
    >>> ledger = pl.DataFrame(
    ...     rows, schema=["customer_id", "happened_on", "part", "amount"], orient="row")
    >>> found = later_value(ledger, horizon_months=12, as_of=date(2025, 12, 31))
    >>> found.table.select(pl.col("estimate").round(2), "months", "n_followed").row(0)
    (104.51, 12, 30)
    """
    by = group_names(by)
    columns = LedgerColumns(customer_col, at_col, part_col, amount_col)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_whole("horizon_months", horizon_months)
    if not 0 <= annual_discount_rate < 1:
        raise InputError(
            f"'annual_discount_rate' must be a fraction from 0 up to 1; got "
            f"{annual_discount_rate!r}. Pass 0.10 for ten per cent a year."
        )
    counted = count_ledger(
        ledger, columns, purchase_parts=purchase_parts, since="purchase", loaded=False,
        as_of=as_of, by=by,
    )  # fmt: skip
    kept = _in_money_of_the_purchase(counted.kept, annual_discount_rate)
    rows = [
        beside(head, _row(group, horizon_months, conf_level)) for head, group in groups_of(kept, by)
    ]
    table = pl.concat(rows) if rows else beside(counted.table.select(by).clear(), _nobody(bool(by)))
    return LaterValue(
        table=table,
        name=_("Value in the {n} months after the purchase", n=number(horizon_months)),
        unit="money",
        definition=_(
            "Mean of what customers brought after costs in the {n} months after their first car, "
            "without that purchase, discounted at {rate} a year; each month by those followed so "
            "long until {day} (mean cumulative function).",
            n=number(horizon_months),
            rate=percent(annual_discount_rate, 1),
            day=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("customers")) + _cut_short(table, horizon_months),
        currency=currency,
    )


def _in_money_of_the_purchase(counted: pl.DataFrame, rate: float) -> pl.DataFrame:
    """Discount each movement to the purchase, and take out what came with it or before."""
    delay = (pl.col("month") - 0.5) / 12
    worth = pl.lit(1 + rate).pow(-delay)
    return counted.with_columns(
        amount=pl.when(pl.col("month") > 0).then(pl.col("amount") * worth).otherwise(0.0)
    )


def _row(group: pl.DataFrame, horizon: int, conf_level: float) -> pl.DataFrame:
    followed, customer, month, amount = movements(group)
    rows = mean_cumulative(followed, customer, month, amount, horizon, conf_level)
    enough = rows.filter((pl.col("n") >= SMALL_N) & (pl.col("time") > 0)).tail(1)
    if enough.is_empty():
        return _nobody(grouped=False).with_columns(n=pl.lit(len(followed), pl.Int64))
    return enough.select(
        pl.lit(len(followed), pl.Int64).alias("n"),
        *FIVE[1:],
        pl.col("time").alias("months"),
        pl.col("n").alias("n_followed"),
    )


def _nobody(grouped: bool) -> pl.DataFrame:
    unknown = [] if grouped else [np.nan]
    five = five_columns(np.zeros(len(unknown)), unknown, unknown, unknown, unknown)
    none = pl.Series([None] * len(unknown), dtype=pl.Int64)
    return pl.DataFrame({**five, "months": none, "n_followed": none})


def _cut_short(table: pl.DataFrame, horizon: int) -> tuple[str, ...]:
    short = table.filter(pl.col("months") < horizon)
    if short.is_empty():
        return ()
    least = short["months"].cast(pl.Int64).to_numpy().min()
    return (
        _(
            "Too few customers have been followed for {n} months after the purchase; of the "
            "shortest group {least} are counted, and what comes later is left out.",
            n=number(horizon),
            least=number(int(least)),
        ),
    )
