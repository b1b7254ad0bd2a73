"""Credit and receivables: who is lent the money for a car, and who pays their bills late or never.

A customer's latent solvency z decides both: a bank approves with logit a + b z, a bill is paid late
with logit c + d z and never with logit e + f z (d, f < 0). A refused customer tries the next bank.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from crm_analysis.schema import LOST_REASONS
from synthetic.clock import DAY, YEAR, dates, masked
from synthetic.customers import COMPANY_SHARE, Customers
from synthetic.deals import loss_reason, price_cars, rounded
from synthetic.funnel import CONTRACT, Leads, Paths
from synthetic.keyed import Floats, Ints, logistic
from synthetic.network import Market

BANKS = {
    "en_US": ("First Harbor Bank", "Union Auto Finance", "Northern Credit", "City Savings"),
    "ru_RU": ("Портовый банк", "Автосоюз Кредит", "Северный кредит", "Городской банк"),
}
"""Invented banks."""

TERMS = (36, 48, 60, 72, 84)
MOST_TRIES = 3
PAYS_IN_TIME_AT_ONCE = 0.6
PART_PAID = 0.2
"""Terms in months, banks tried at most, bills paid on the day of issue, and unpaid bills of which a
part is paid [assumed]."""


def approval_probability(market: Market, solvency: Floats) -> Floats:
    """Return the chance that one bank approves an application."""
    rules = market.config.credit
    return np.round(logistic(rules.approved_logit + rules.approved_solvency * solvency), 9)


def _first_approval(market: Market, ids: Ints, chance: Floats) -> Ints:
    """Return the number of refusals before the first approval, at most two."""
    refusals = np.zeros(len(ids), dtype=np.int64)
    going = np.ones(len(ids), dtype=np.bool_)
    for attempt in range(MOST_TRIES - 1):
        going &= market.draws.uniform("credit.approved@1", ids, attempt) >= chance
        refusals += going
    return refusals


def credit_table(
    market: Market, who: Customers, deals: pl.DataFrame, leads: Leads, paths: Paths, end: int
) -> pl.DataFrame:
    """Write applications for credit: those of deals on credit, and those of leads refused."""
    on_credit = deals.filter(pl.col("pay") == "credit")
    ids = on_credit["opportunity_id"].to_numpy()
    down = 0.15 + 0.35 * market.draws.uniform("credit.down@1", ids)
    need = (on_credit["sale_price"] - on_credit["trade_in"]).to_numpy()
    chance = approval_probability(
        market, who.solvency[np.searchsorted(who.ids, on_credit["customer_id"].to_numpy())]
    )
    tries = _first_approval(market, ids, chance) + 1
    day = on_credit["contract_on"].to_physical().to_numpy().astype(np.int64)
    bought = _applications(
        market,
        on_credit,
        ids,
        tries,
        day,
        np.maximum(need, 0) * (1 - down),
    )
    return pl.concat([bought, _refused(market, leads, paths, end)], how="vertical_relaxed").sort(
        "credit_id"
    )


def _refused(market: Market, leads: Leads, paths: Paths, end: int) -> pl.DataFrame:
    reason = loss_reason(market, leads, paths)
    lost = (paths.passed < CONTRACT) & (paths.lost_at < end)  # a cancelled deal has its own rows
    lost &= reason == LOST_REASONS.index("credit_refused")
    leads, paths = leads.take(lost), paths.take(lost)
    ids, day = leads.ids, paths.lost_at // DAY
    cars = price_cars(market, leads, leads.opened // DAY)
    tries = 1 + market.draws.integer("credit.tries@1", MOST_TRIES, ids)
    head = pl.DataFrame(
        {
            "dealership_id": leads.dealership + 1,
            "customer_id": leads.customer,
            "deal_id": pl.Series([None] * len(ids), dtype=pl.Int64),
        }
    )
    return _applications(market, head, ids, tries, day, 0.7 * cars.list_price)


def _applications(
    market: Market, head: pl.DataFrame, ids: Ints, tries: Ints, day: Ints, amount: np.ndarray
) -> pl.DataFrame:
    """Write one row a bank tried; the last one of a deal approves."""
    at = np.repeat(np.arange(len(ids)), tries)
    attempt = np.arange(len(at)) - np.repeat(np.cumsum(tries) - tries, tries)
    credit = ids[at] * 10 + attempt
    draws, money = market.draws, market.config.credit
    table = money.dollar_rate_by_year if market.config.currency == "USD" else money.rate_by_year
    level = np.interp(1970 + day[at] / YEAR, *np.array(table).T)
    rate = level * np.exp(0.12 * draws.normal("credit.rate@1", credit))
    bank = (draws.integer("credit.bank@1", 4, ids)[at] + attempt) % 4
    last = attempt == tries[at] - 1
    deal = head["deal_id"].to_numpy().astype(np.float64)[at] if len(at) else np.empty(0)
    approved = last & ~np.isnan(deal)
    return pl.DataFrame(
        {
            "credit_id": credit,
            "dealership_id": head["dealership_id"].to_numpy()[at],
            "customer_id": head["customer_id"].to_numpy()[at],
            "opportunity_id": ids[at],
            "deal_id": masked(ids[at], approved),
            "bank": pl.Series(BANKS[market.config.locale]).gather(bank),
            "applied_on": dates(day[at]),
            "amount": rounded(market, amount[at], step=100),
            "annual_rate": np.round(rate, 4),
            "months": np.array(TERMS)[draws.integer("credit.months@1", len(TERMS), ids)][at],
            "approved": approved,
        }
    )


# --- bills ---------------------------------------------------------------------------------------


def invoice_tables(
    market: Market,
    who: Customers,
    deals: pl.DataFrame,
    credits_table: pl.DataFrame,
    orders: pl.DataFrame,
    end: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write a bill for the customer's part of each delivered car and each service order they pay.

    Returns
    -------
    tuple of polars.DataFrame
        The open table, and the truth behind it.
    """
    bills = pl.concat(
        [_car_bills(deals, credits_table), _service_bills(orders)], how="vertical_relaxed"
    ).sort("invoice_id")
    return _pay(market, who, bills.filter(pl.col("amount") > 0), end)


def _car_bills(deals: pl.DataFrame, credits_table: pl.DataFrame) -> pl.DataFrame:
    lent = credits_table.filter("approved").select("deal_id", lent="amount")
    delivered = deals.filter(pl.col("delivery_on").is_not_null()).join(
        lent, on="deal_id", how="left"
    )
    own = pl.col("sale_price") + pl.col("accessories") - pl.col("trade_in")
    leased = pl.col("pay") == "leasing"
    return delivered.select(
        invoice_id=pl.col("customer_id") * 2000 + 1000 + pl.col("deal_id") % 10,
        dealership_id="dealership_id",
        customer_id="customer_id",
        deal_id="deal_id",
        service_order_id=pl.lit(None, dtype=pl.Int64),
        issued_on="delivery_on",
        days=pl.lit(3, dtype=pl.Int64),
        amount=pl.when(leased).then(0.2 * own).otherwise(own - pl.col("lent").fill_null(0)),
    ).with_columns(pl.col("amount").cast(pl.Int64))


def _service_bills(orders: pl.DataFrame) -> pl.DataFrame:
    paid_by = orders.filter((pl.col("payer") == "customer") & pl.col("closed_at").is_not_null())
    return paid_by.select(
        invoice_id=pl.col("customer_id") * 2000 + pl.col("service_order_id") % 1000,
        dealership_id="dealership_id",
        customer_id="customer_id",
        deal_id=pl.lit(None, dtype=pl.Int64),
        service_order_id="service_order_id",
        issued_on=pl.col("closed_at").dt.date(),
        days=pl.lit(0, dtype=pl.Int64),
        amount=(pl.col("labour") + pl.col("parts") - pl.col("discount")).cast(pl.Int64),
    )


def payment_probabilities(
    market: Market, solvency: Floats, car: np.ndarray
) -> tuple[Floats, Floats]:
    """Return the chances that a bill is never paid, and that it is paid late."""
    rules = market.config.credit
    shift = rules.deal_logit * car
    never = logistic(rules.never_logit + rules.never_solvency * solvency + shift)
    late = logistic(rules.late_logit + rules.late_solvency * solvency + shift) * (1 - never)
    return np.round(never, 9), np.round(late, 9)


def _pay(
    market: Market, who: Customers, bills: pl.DataFrame, end: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    draws, rules = market.draws, market.config.credit
    ids, customer = bills["invoice_id"].to_numpy(), bills["customer_id"].to_numpy()
    company = draws.chance("customer.company@1", COMPANY_SHARE, customer)
    issued = bills["issued_on"].to_physical().to_numpy().astype(np.int64)
    days = np.where(company, rules.company_days, bills["days"].to_numpy())
    solvency = who.solvency[np.searchsorted(who.ids, customer)]
    never, late = payment_probabilities(market, solvency, bills["deal_id"].is_not_null().to_numpy())
    uniform = draws.uniform("invoice.paid@1", ids)
    wait = 1 + np.floor(rules.late_days * draws.exponential("invoice.late@1", ids))
    at_once = draws.chance("invoice.at_once@1", PAYS_IN_TIME_AT_ONCE, ids)
    within = np.floor((days + 1) * draws.uniform("invoice.day@1", ids)) * ~at_once
    pays = issued + np.where(uniform < never + late, days + wait, within).astype(np.int64)
    paid = (uniform >= never) & (pays < end // DAY)
    amount = bills["amount"].to_numpy()
    part = draws.chance("invoice.part@1", PART_PAID, ids) & (uniform < never)
    part &= issued + days < end // DAY
    table = bills.drop("days", "amount").with_columns(
        dates(issued + days).alias("due_on"),
        pl.Series("amount", amount),
        pl.Series("paid", np.where(paid, amount, np.where(part, amount // 3, 0))),
        dates(pays, paid).alias("paid_on"),
    )
    truth = {
        "invoice_id": ids,
        "late_probability": late,
        "never_probability": never,
        "uniform": uniform,
    }
    return table, pl.DataFrame(truth)
