"""Opportunities, their stages, the deals they end in, and the cars sold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from crm_analysis.schema import (
    CONDITIONS,
    LOST_REASONS,
    PRIORITIES,
    PURPOSES,
    SOURCES,
    STAGES,
)
from synthetic.cars import NEW, USED, draw_cars
from synthetic.clock import DAY, YEAR, chosen, dates, day_of, masked, moments, month_of, year_of
from synthetic.config import MoneySettings
from synthetic.customers import Customers
from synthetic.funnel import (
    CONTRACT,
    MEAN_OFF,
    N_STEPS,
    TEST_DRIVE,
    Leads,
    Paths,
    discount_share,
)
from synthetic.keyed import Flags, Floats, Ints, logistic, logit, normal_below
from synthetic.network import Market
from synthetic.traffic import entry_lag

KEPT_A_YEAR = 0.87
STOCK_DAYS = 40.0
OPTIONS_MOST = 0.15
ACCESSORY_SHARE = 0.45
TRADE_IN_OF_PRICE = 0.38
"""Value a used car keeps each year, mean days in stock, options of the price, deals with
accessories, and an old car's value against the new one's price [assumed]."""


@dataclass(frozen=True)
class Cars:
    """The car each opportunity is about; arrays of shape (n,), money in whole units."""

    model: Ints
    condition: Ints
    age: Floats
    options: Ints
    list_price: Ints


def price_level(market: Market, day: Ints) -> Floats:
    """Return the price level on each day, 2025 = 1, in the data's currency.

    A year's mean is taken to be the level of its middle.
    """
    money = market.config.money
    table = (
        money.dollar_price_by_year if market.config.currency == "USD" else money.new_price_by_year
    )
    years, level = np.array(table).T
    return np.asarray(np.interp(1970 + day / YEAR, years + 0.5, level) / level[-1])


def rounded(market: Market, amount: Any, *, step: int) -> Ints:
    """Return money in whole currency units, rounded to a step (roubles to ten times the step)."""
    unit = step * (10 if market.config.currency == "RUB" else 1)
    return np.asarray(np.round(amount / unit).astype(np.int64) * unit)


def quarter_of(day: Ints) -> Ints:
    """Return quarters since 1970 of each day number."""
    return np.asarray(month_of(day) // 3)


def listed_price(market: Market, model: Ints, quarter: Ints) -> Ints:
    """Return the price of each model's base version on the price list of a quarter."""
    first = (quarter * 3).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    own = market.draws.normal("model.price@1", model + 1, quarter)
    level = price_level(market, first) * np.exp(market.config.money.price_sigma * own)
    return rounded(market, market.catalogue.price[model] * level, step=50)


def price_gap(market: Market, leads: Leads) -> Floats:
    """Return the price of the car of each lead, after discount, against the market's usual one.

    In logarithms, zero where list price and discount are the mean ones.
    """
    day, money = leads.opened // DAY, market.config.money
    model, _, _ = draw_cars(market, leads.dealership, leads.ids, day)
    own = market.draws.normal("model.price@1", model + 1, quarter_of(day))
    off = discount_share(market, leads) - money.discount_most * MEAN_OFF
    return np.asarray(np.round(money.price_sigma * own - off, 9))


def price_table(market: Market) -> pl.DataFrame:
    """Write the price lists in force from the world's first day to its last."""
    days = np.array([day_of(market.config.starts_on), day_of(market.config.as_of)])
    first, last = quarter_of(days)
    n, quarters = len(market.catalogue.price), np.arange(first, last + 1)
    model, quarter = np.repeat(np.arange(n), len(quarters)), np.tile(quarters, n)
    day = (quarter * 3).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return pl.DataFrame(
        {
            "model_id": model + 1,
            "starts_on": dates(day),
            "list_price": listed_price(market, model, quarter),
        }
    )


def model_table(market: Market) -> pl.DataFrame:
    """Write the models with the list price of the last day."""
    model = np.arange(len(market.catalogue.price))
    last = quarter_of(np.full(len(model), day_of(market.config.as_of)))
    return market.catalogue.table.with_columns(
        pl.Series("list_price", listed_price(market, model, last))
    )


def price_cars(market: Market, leads: Leads, day: Ints) -> Cars:
    """Draw the car of each opportunity and its asking price on a day."""
    draws = market.draws
    model, condition, age = draw_cars(market, leads.dealership, leads.ids, leads.opened // DAY)
    base = listed_price(market, model, quarter_of(day)) * KEPT_A_YEAR**age
    base = base * np.exp(0.03 * draws.normal("car.price@1", leads.ids))
    options = rounded(
        market, base * OPTIONS_MOST * draws.uniform("car.options@1", leads.ids), step=50
    )
    return Cars(model, condition, age, options, rounded(market, base, step=50) + options)


def opportunity_table(market: Market, leads: Leads, paths: Paths, end: int) -> pl.DataFrame:
    """Write opportunities opened before minute `end`, as the CRM knows them then."""
    draws, ids = market.draws, leads.ids
    cars = price_cars(market, leads, leads.opened // DAY)
    closed = paths.closed_at < end
    lost = closed & ~paths.won
    asked = (paths.passed >= 1) & (paths.at[:, 1] < end)
    known = asked & draws.chance("lead.model_known@1", _noted(market, 0.85, leads.manager), ids)
    reason = loss_reason(market, leads, paths)
    rival = (reason == LOST_REASONS.index("competitor")) & lost
    rival &= draws.chance("lead.rival_known@1", 0.6, ids)
    spread = np.exp(0.12 * draws.normal("lead.budget@1", ids))
    table = pl.DataFrame(
        {
            "opportunity_id": ids,
            "dealership_id": leads.dealership + 1,
            "customer_id": leads.customer,
            "manager_id": leads.manager,
            "source": chosen(SOURCES, leads.source),
            "opened_at": moments(leads.opened),
            "model_id": masked(cars.model + 1, known),
            "budget": masked(
                rounded(market, cars.list_price * spread, step=500),
                asked
                & draws.chance("lead.asked_budget@1", _noted(market, 0.7, leads.manager), ids),
            ),
            "condition": chosen(CONDITIONS, cars.condition, known),
            "purpose": _asked(market, "lead.purpose@1", PURPOSES, leads, asked),
            "priority": _asked(market, "lead.priority@1", PRIORITIES, leads, asked),
            "status": chosen(("open", "won", "lost"), closed.astype(np.int64) + lost),
            "lost_reason": chosen(LOST_REASONS, reason, lost),
            "competitor": masked(
                market.words.competitors.draw(draws.uniform("lead.rival@1", ids)), rival
            ),
            "closed_at": moments(paths.closed_at, closed),
        }
    )
    return table.filter(pl.Series(leads.opened < end))


def _noted(market: Market, share: float, employee: Ints) -> Floats:
    """Return the chance that each manager asks for a need and notes it."""
    discipline = market.staff.discipline[employee]
    return logistic(logit(share) + market.config.contacts.asks * discipline)


def _asked(
    market: Market, field: str, options: tuple[str, ...], leads: Leads, asked: Flags
) -> pl.Series:
    code = market.draws.integer(field, len(options), leads.ids)
    noted = _noted(market, 0.65, leads.manager)
    return chosen(options, code, asked & market.draws.chance(f"{field}/asked", noted, leads.ids))


def loss_reason(market: Market, leads: Leads, paths: Paths) -> Ints:
    """Return a reason of loss: those never reached do not answer, the rest mind the price.

    Refused credit takes its share from changed minds, the more the less solvent the customer.
    """
    uniform = market.draws.uniform("lead.reason@1", leads.ids)
    tail = normal_below(-market.draws.normal("customer.solvency@1", leads.customer))
    refused = market.config.credit.refused_share * tail
    talked = np.searchsorted([0.34, 0.46, 0.72, 0.95], uniform)
    talked += (talked >= 3) & ((talked > 3) | (uniform >= 0.72 + refused))
    silent = LOST_REASONS.index("no_answer")
    return np.where(paths.passed < 2, np.where(uniform < 0.7, silent, talked), talked)


def stage_table(market: Market, leads: Leads, paths: Paths, end: int) -> pl.DataFrame:
    """Write the stages reached before minute `end`: one row a stage, and one for the loss."""
    n = len(leads.ids)
    seq = np.arange(N_STEPS + 2)
    reached = seq[None, :] <= paths.passed[:, None]
    reached[:, TEST_DRIVE + 1] &= ~paths.skipped
    at = np.column_stack([paths.at, paths.lost_at])
    reached[:, -1] = ~paths.won
    reached &= at < end
    lead, step = np.nonzero(reached)
    minute = at[lead, step]
    order = np.where(step == N_STEPS + 1, paths.passed[lead] + 2, step + 1)
    order -= paths.skipped[lead] & (step > TEST_DRIVE + 1)
    employee = market.staff.holder(
        "manager", leads.dealership[lead], leads.seat[lead], minute // DAY
    )
    lag = entry_lag(market, "stage.entry@1", leads.ids[lead], employee, step)
    return (
        pl.DataFrame(
            {
                "opportunity_id": leads.ids[lead],
                "dealership_id": leads.dealership[lead] + 1,
                "seq": order.astype(np.int32),
                "stage": chosen(STAGES, step),
                "happened_at": moments(minute),
                "entered_at": moments(np.minimum(minute + lag, end - 1)),
                "employee_id": employee,
            },
            schema_overrides={"opportunity_id": pl.Int64},
        )
        if n
        else pl.DataFrame()
    )


def make_deals(
    market: Market, who: Customers, leads: Leads, paths: Paths, end: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write the deals contracted before minute `end`, and the cars sold then or waiting for it."""
    signed = paths.passed >= CONTRACT
    leads, paths = leads.take(signed), paths.take(signed)
    minute = paths.at[:, CONTRACT]
    cars = price_cars(market, leads, minute // DAY)
    deals = _deal_table(market, who, leads, paths, cars, end)
    shown = pl.Series(minute < end)
    return deals.filter(shown), _sold_cars(market, leads, paths, cars, deals, end)


def _deal_table(
    market: Market, who: Customers, leads: Leads, paths: Paths, cars: Cars, end: int
) -> pl.DataFrame:
    draws, money, ids = market.draws, market.config.money, leads.ids
    day = paths.at[:, CONTRACT] // DAY
    discount = rounded(market, cars.list_price * discount_share(market, leads), step=10)
    price = cars.list_price - discount
    margin = np.where(cars.condition == USED, money.front_margin_used, money.front_margin_new)
    margin = margin + money.discount_most * MEAN_OFF + 0.012 * draws.normal("deal.cost@1", ids)
    pay = _payment(market, ids, day)
    value = np.exp(0.4 * who.value[np.searchsorted(who.ids, leads.customer)])
    extra = 0.02 * price * value * draws.exponential("deal.accessories@1", ids)
    extra *= draws.chance("deal.has_accessories@1", ACCESSORY_SHARE, ids)
    trade = price * TRADE_IN_OF_PRICE * (0.5 + draws.uniform("deal.trade_in@1", ids))
    shares = np.interp(1970 + day / YEAR, *np.array(money.trade_in_by_year).T)
    trade *= draws.chance("deal.has_trade_in@1", shares, ids)
    rate = np.where(pay == "credit", money.fni_credit, money.fni_other)
    fni = price * rate * draws.erlang("deal.fni@1", 4, ids)
    delivered = paths.won & (paths.at[:, -1] < end)
    cancelled = ~paths.won & (paths.lost_at < end)
    return pl.DataFrame(
        {
            "deal_id": ids,
            "opportunity_id": ids,
            "dealership_id": leads.dealership + 1,
            "customer_id": leads.customer,
            "manager_id": market.staff.holder("manager", leads.dealership, leads.seat, day),
            "vehicle_id": ids,
            "model_id": cars.model + 1,
            "contract_on": dates(day),
            "delivery_on": dates(paths.at[:, -1] // DAY, delivered),
            "list_price": cars.list_price,
            "discount": discount,
            "sale_price": price,
            "cost": rounded(market, cars.list_price * (1 - margin), step=10),
            "accessories": rounded(market, extra, step=10),
            "trade_in": rounded(market, trade, step=100),
            "pay": pay,
            "fni_income": rounded(market, fni, step=10),
            "cancelled_on": dates(paths.lost_at // DAY, cancelled),
        }
    )


def _payment(market: Market, ids: Ints, day: Ints) -> np.ndarray:
    money: MoneySettings = market.config.money
    credit = np.where(year_of(day) == 2022, money.credit_share_2022, money.credit_share)
    uniform = market.draws.uniform("deal.pay@1", ids)
    leased = uniform > 1 - money.leasing_share
    return np.where(uniform < credit, "credit", np.where(leased, "leasing", "cash"))


def _sold_cars(
    market: Market, leads: Leads, paths: Paths, cars: Cars, deals: pl.DataFrame, end: int
) -> pl.DataFrame:
    """Write the cars of deals that have arrived; a cancelled deal gives its car back to stock."""
    draws, ids = market.draws, leads.ids
    day = paths.at[:, CONTRACT] // DAY
    waited = np.floor(STOCK_DAYS * draws.erlang("car.stock_days@1", 2, ids)).astype(np.int64)
    arrived = np.where(cars.condition == NEW, day - waited, day - waited // 2)
    taken = paths.won | (paths.lost_at >= end)
    sold = taken & (paths.at[:, CONTRACT] < end)
    year = year_of(arrived) - np.floor(cars.age).astype(np.int64)
    return pl.DataFrame(
        {
            "vehicle_id": ids,
            "model_id": cars.model + 1,
            "dealership_id": leads.dealership + 1,
            "condition": chosen(CONDITIONS, cars.condition),
            "model_year": year,
            "arrived_on": dates(arrived),
            "cost": deals["cost"],
            "list_price": cars.list_price,
            "options_value": cars.options,
            "customer_id": masked(leads.customer, sold),
            "sold_on": dates(day, sold),
        }
    ).filter(pl.Series(arrived < end // DAY))
