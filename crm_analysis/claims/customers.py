"""Claims about customers: how many are lost, when they pay back, what retention brings, who costs.

The documents are two of those the toolkit was asked to serve: a chapter on CRM systems, and an
article on improving customer relationships (2023). Where they contradict each other, both are
tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from crm_analysis.claims.verdict import ClaimVerdict, verdict_of
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.frames import check_as_of
from crm_analysis.lifetime import (
    RetentionLeverage,
    cumulative_value,
    loss_share,
    payback_time,
    realised_value,
    retention_leverage,
    yearly_retention,
)
from crm_analysis.retention import RetentionCurve, retention_curve
from crm_analysis.wording import _, date_text, number, percent

__all__ = [
    "claim_half_lost",
    "claim_half_unprofitable",
    "claim_late_payback",
    "claim_retention_pays",
]

HALF = (0.45, 0.55)
"""What is taken to agree with "half"."""

MOST = (0.5, 1.0)
"""What is taken to agree with "most"."""

FIFTY_TO_HUNDRED = (0.5, 1.0)
A_QUARTER = (0.2, 0.3)
"""What is taken to agree with "50 to 100 per cent" and with "25 per cent"."""

_WON = ("advertising", "lost_leads")
"""Parts of the ledger that are the cost of winning a customer."""


def _chapter() -> str:
    return _("chapter on CRM systems")


def _article() -> str:
    return _("article on improving customer relationships, 2023")


def claim_half_lost(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    years: int = 5,
    as_of: date,
    conf_level: float = 0.95,
) -> ClaimVerdict:
    """Does a business lose half of its customers in five years? (Kaplan-Meier against 45-55 %).

    Parameters
    ----------
    spells : table
        One row per relationship, as `Warehouse.spells` returns them.
    start_col, end_col : str
    years : int
        The claim's term.
    as_of : date
        Last day the data covers.
    conf_level : float

    Returns
    -------
    ClaimVerdict
        Estimate: the share lost within `years`. Not testable where nobody has been followed so
        long: what is beyond the data is not extrapolated.
    """
    curve = retention_curve(
        spells, start_col=start_col, end_col=end_col, unit="month", as_of=as_of,
        conf_level=conf_level,
    )  # fmt: skip
    lost, reached = _lost(curve, 12 * years, as_of)
    short = _(
        "The data follow relationships for {reached} months at most, and the claim speaks of "
        "{months}.",
        reached=number(reached),
        months=number(12 * years),
    )
    return verdict_of(
        lost,
        claim=_("A business loses half of its customers every five years"),
        source=_chapter(),
        claimed=HALF,
        untestable=short if reached < 12 * years else None,
    )


def _lost(curve: RetentionCurve, months: int, as_of: date) -> tuple[Estimates, int]:
    """Return the share lost after so many months, and how far the curve reaches."""
    known = curve.table.drop_nulls("estimate")
    reached = int(known["time"].cast(pl.Int64).to_numpy().max(initial=0))
    row = {"n": int(curve.table["n"].to_numpy().max(initial=0))}
    at = known.filter(pl.col("time") <= months).tail(1)
    numbers = np.full(4, np.nan)
    if at.height and reached >= months:
        columns = ("estimate", "std_error", "conf_low", "conf_high")
        values = at.select(columns).cast(pl.Float64).fill_null(np.nan).row(0)
        stays, error, low, high = values
        numbers = np.array([1 - stays, error, 1 - high, 1 - low])
    table = pl.DataFrame(five_columns([row["n"]], *([value] for value in numbers)))
    found = Estimates(
        table=table,
        name=_("Share of customers lost within {months} months", months=number(months)),
        unit="share",
        definition=_(
            "Share of relationships that have ended within {months} months of their start "
            "(Kaplan-Meier, data until {day}).",
            months=number(months),
            day=date_text(as_of),
        ),
        conf_level=curve.conf_level,
        notes=curve.notes,
    )
    return found, reached


def claim_late_payback(
    ledger: object,
    *,
    within_months: int = 12,
    loaded: bool = True,
    as_of: date,
    conf_level: float = 0.95,
) -> ClaimVerdict:
    """Do most customers pay back only after a year? (Kaplan-Meier against more than half).

    Parameters
    ----------
    ledger : table
        As `Warehouse.ledger` returns it.
    within_months : int
    loaded : bool
        Customers carry what was spent on people who did not buy (see `payback_time`): the reading
        that is kindest to the claim.
    as_of : date
        Last day the data covers.
    conf_level : float

    Returns
    -------
    ClaimVerdict
        Estimate: the share that has not paid back within `within_months`.
    """
    paid = payback_time(
        ledger, within_months=within_months, loaded=loaded, as_of=as_of, conf_level=conf_level
    )
    row = paid.table.row(0, named=True)
    shares = [
        np.nan if row[c] is None else row[c] for c in ("share_paid", "share_high", "share_low")
    ]
    share, low, high = (1 - value for value in shares)
    found = Estimates(
        table=pl.DataFrame(five_columns([row["n"]], [share], [np.nan], [low], [high])),
        name=_("Share of customers not paid back within {months} months",
               months=number(within_months)),
        unit="share",
        definition=paid.definition,
        conf_level=paid.conf_level,
        notes=paid.notes,
    )  # fmt: skip
    return verdict_of(
        found,
        claim=_("Most customers pay back what they cost only after a year"),
        source=_chapter(),
        claimed=MOST,
    )


def claim_half_unprofitable(
    ledger: object,
    *,
    followed_months: int = 12,
    loaded: bool = True,
    as_of: date,
    conf_level: float = 0.95,
) -> ClaimVerdict:
    """Are about half of the existing customers unprofitable? (Wilson against 45-55 %).

    Parameters
    ----------
    ledger : table
        As `Warehouse.ledger` returns it.
    followed_months : int
        Customers must have been followed so long to be counted.
    loaded : bool
        As in `claim_late_payback`.
    as_of : date
        Last day the data covers.
    conf_level : float

    Returns
    -------
    ClaimVerdict
        Estimate: the share of customers who have cost more than they have brought.
    """
    found = loss_share(
        ledger, followed_months=followed_months, loaded=loaded, as_of=as_of, conf_level=conf_level
    )
    return verdict_of(
        found,
        claim=_("About half of the existing customers are unprofitable"),
        source=_chapter(),
        claimed=HALF,
    )


def claim_retention_pays(
    spells: object,
    *,
    ledger: object | None = None,
    annual_discount_rate: float = 0.10,
    acquisition_years: float | None = None,
    years: int = 5,
    as_of: date,
    conf_level: float = 0.95,
) -> tuple[ClaimVerdict, ClaimVerdict]:
    """Does five per cent more retention bring 50 to 100, or 25, per cent more? (an identity).

    Two documents give two figures that exclude each other, and both can be had from one identity
    by choosing a discount and a cost of winning a customer. Here these are the user's own.

    Parameters
    ----------
    spells : table
        One row per relationship, as `Warehouse.spells` returns them.
    ledger : table, optional
        Gives the cost of winning a customer in years of margin where `acquisition_years` is None.
    annual_discount_rate : float
    acquisition_years : float, optional
        Cost of winning a customer, in years of a customer's margin; 0 without it and `ledger`.
    years : int
        Years over which yearly retention is taken.
    as_of : date
        Last day the data covers.
    conf_level : float

    Returns
    -------
    tuple of ClaimVerdict
        Of the claim of 50 to 100 per cent, and of that of 25 per cent. Estimate: the relative
        change of a customer's value with five percentage points more yearly retention; `why` says
        what a five per cent cut of departures would bring instead.
    """
    as_of = check_as_of(as_of)
    curve = retention_curve(spells, unit="month", as_of=as_of, conf_level=conf_level)
    rate = yearly_retention(curve, years=years, conf_level=conf_level)
    cost = _acquisition(ledger, as_of, acquisition_years)
    known = rate.table["estimate"][0] is not None and rate.table["estimate"][0] > 0
    found = (
        retention_leverage(
            rate,
            annual_discount_rate=annual_discount_rate,
            acquisition_years=cost.years,
            conf_level=conf_level,
        )
        if known
        else None
    )
    one = _points_row(found, rate)
    why = "" if found is None else _terms(found, rate, annual_discount_rate, cost)
    claims = (
        (_("Five per cent more retention brings 50 to 100% more profit"), _chapter(),
         FIFTY_TO_HUNDRED),
        (_("Five per cent more retention brings 25% more profit"), _article(), A_QUARTER),
    )  # fmt: skip
    first, second = (
        verdict_of(one, claim=claim, source=source, claimed=claimed, context=why)
        for claim, source, claimed in claims
    )
    return first, second


@dataclass(frozen=True)
class _Cost:
    """Cost of winning a customer, in years of margin, and where it comes from."""

    years: float
    text: str


def _acquisition(ledger: object | None, as_of: date, given: float | None) -> _Cost:
    if given is not None:
        return _Cost(given, _("as stated"))
    if ledger is None:
        return _Cost(0.0, _("not counted"))
    value = realised_value(ledger, loaded=True, as_of=as_of)
    won = [part for part in value.parts if part in _WON]
    spent = -sum(_mean(value.customers[part]) for part in won)
    grown = cumulative_value(ledger, horizon_months=24, as_of=as_of).table
    at = dict(grown.select("time", "estimate").iter_rows())
    yearly = at[24] - at[12] if {12, 24} <= set(at) else 0.0
    if yearly <= 0:
        return _Cost(0.0, _("not known: a second year of margin is missing"))
    return _Cost(max(spent / yearly, 0.0), _("from the ledger, over the margin of a second year"))


def _mean(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).to_numpy().mean()) if values.len() else 0.0


def _points_row(found: RetentionLeverage | None, rate: Estimates) -> Estimates:
    if found is None:
        table = rate.table.with_columns(pl.lit(None, pl.Float64).alias(c) for c in _FLOATS)
        return Estimates(
            table=table, name=_("Change of a customer's value"), unit="share",
            definition=rate.definition, conf_level=rate.conf_level, notes=rate.notes,
        )  # fmt: skip
    return Estimates(
        table=found.table.filter(pl.col("change") == "points").drop("change"),
        name=found.name,
        unit=found.unit,
        definition=found.definition,
        conf_level=found.conf_level,
        notes=rate.notes + found.notes,
    )


_FLOATS = ("estimate", "std_error", "conf_low", "conf_high")


def _terms(
    found: RetentionLeverage, rate: Estimates, annual_discount_rate: float, cost: _Cost
) -> str:
    churn = found.table.filter(pl.col("change") == "churn")["estimate"][0]
    return _(
        "“Five per cent more retention” is read as five percentage points, at a yearly "
        "retention of {r}, a discount of {d} and {a} years' margin to win a customer ({origin}), "
        "the last two taken as known; five per cent fewer departures would bring {churn} instead. "
        "The documents contradict each other: either figure follows from the same identity under "
        "another discount and cost.",
        r=percent(rate.table["estimate"][0]),
        d=percent(annual_discount_rate, 0),
        a=number(cost.years, 1),
        origin=cost.text,
        churn=percent(churn),
    )
