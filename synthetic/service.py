"""Service orders: what each visit to the workshop was for, who paid, and how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from crm_analysis.schema import ORDER_KINDS, PAYERS
from synthetic.clock import DAY, chosen, dates, day_of, minute_in_hours, moments
from synthetic.customers import Customers
from synthetic.deals import price_level, rounded
from synthetic.keyed import Flags, Floats, Ints
from synthetic.network import Market
from synthetic.relation import Relations

_SCHEDULED, _REPAIR, _WARRANTY, _BODY, _RECALL, _GOODWILL = range(len(ORDER_KINDS))
_CUSTOMER, _MAKER, _INSURANCE, _INTERNAL = range(len(PAYERS))
_PAYER_OF = np.array([_CUSTOMER, _CUSTOMER, _MAKER, _INSURANCE, _MAKER, _INTERNAL])
_BILL_OF = np.array([1.0, 1.35, 1.0, 3.2, 0.5, 0.6])
_HOURS_OF = np.array([3.0, 8.0, 8.0, 60.0, 3.0, 4.0])
"""Payer, bill against a scheduled one, and mean hours in the workshop by kind [assumed]."""

ADVANCE_SHARE = 0.15
"""Orders with a discount [assumed]."""


@dataclass(frozen=True)
class Orders:
    """Service orders that the CRM has seen; arrays of shape (n,)."""

    ids: Ints
    customer: Ints
    place: Ints
    dealership: Ints
    advisor: Ints
    opened: Ints
    closed: Ints
    satisfaction: Floats


def order_ids(visits: dict[str, np.ndarray]) -> Ints:
    """Return service_order_id of each visit: the customer and the visit's number."""
    return np.asarray(visits["customer"] * 1000 + visits["order"])


def _kinds(market: Market, ids: Ints, unplanned: Flags, in_warranty: Flags) -> Ints:
    chosen = market.draws.uniform("order.kind@1", ids)
    rare = np.searchsorted([0.76, 0.90, 0.96], chosen)
    usual = np.where(in_warranty, _WARRANTY, _REPAIR)
    kind = np.where(rare == 0, usual, np.array([_REPAIR, _BODY, _RECALL, _GOODWILL])[rare])
    return np.where(unplanned, kind, _SCHEDULED)


def make_orders(
    market: Market, who: Customers, relations: Relations, end: int
) -> tuple[pl.DataFrame, Orders]:
    """Write the visits that began before minute `end`."""
    draws = market.draws
    seen = relations.visits["day"] < end // DAY
    visits = {name: values[seen] for name, values in relations.visits.items()}
    ids, day, place = order_ids(visits), visits["day"], visits["place"]
    kind = _kinds(market, ids, visits["unplanned"], visits["in_warranty"])
    opened = opened_minutes(market, ids, day)
    hours = _HOURS_OF[kind] * draws.erlang("order.hours@1", 2, ids)
    closed = opened + 20 + np.floor(hours * 60).astype(np.int64)
    dealership = who.dealership[place]
    seat = draws.integer("order.advisor@1", market.staff.seats("service_advisor"), ids)
    advisor = market.staff.holder("service_advisor", dealership, seat, day)
    orders = Orders(
        ids, visits["customer"], place, dealership, advisor, opened, closed, visits["satisfaction"]
    )
    money = _bills(market, who.value[place], ids, day, kind)
    table = pl.DataFrame(
        {
            "service_order_id": ids,
            "dealership_id": dealership + 1,
            "vehicle_id": visits["customer"] * 10 + visits["car"],
            "customer_id": visits["customer"],
            "advisor_id": advisor,
            "booked_at": moments(booked_minutes(market, ids, opened, visits["wait"])),
            "opened_at": moments(opened),
            "closed_at": moments(closed, closed < end),
            "kind": chosen(ORDER_KINDS, kind),
            "payer": chosen(PAYERS, _PAYER_OF[kind]),
            "mileage_km": visits["km"],
            **money,
            "fixed_first_time": visits["fixed"],
            "next_due_on": dates(visits["next_day"]),
            "next_due_km": visits["next_km"],
        }
    )
    return table, orders


def opened_minutes(market: Market, ids: Ints, day: Ints) -> Ints:
    """Return when each car is taken in: in the first three quarters of the working day."""
    return minute_in_hours(day, 0.75 * market.draws.uniform("order.hour@1", ids))


def booked_minutes(market: Market, ids: Ints, opened: Ints, wait: Ints) -> Ints:
    """Return when each visit was booked: `wait` days earlier, and not before the world began."""
    hour = market.draws.uniform("order.booked@1", ids)
    earlier = minute_in_hours(opened // DAY - wait, hour)
    first = day_of(market.config.starts_on) * DAY
    return np.where(wait > 0, np.clip(earlier, first, opened), opened)


def _bills(market: Market, value: Floats, ids: Ints, day: Ints, kind: Ints) -> dict[str, Ints]:
    draws, money = market.draws, market.config.money
    dollars = market.config.currency == "USD"
    median = money.service_bill_dollars if dollars else money.service_bill
    size = np.where(kind == _WARRANTY, money.warranty_bill, _BILL_OF[kind])
    spread = money.service_sigma * draws.normal("order.bill@1", ids) + 0.15 * value
    total = median * price_level(market, day) * size * np.exp(spread)
    ratio = 1.3 + 0.25 * draws.uniform("order.ratio@1", ids)
    labour = rounded(market, total / (1 + ratio), step=1)
    parts = rounded(market, total, step=1) - labour
    share = 1 - money.service_margin + 0.05 * draws.normal("order.cost@1", ids)
    off = draws.chance("order.has_discount@1", ADVANCE_SHARE, ids) & (_PAYER_OF[kind] == _CUSTOMER)
    cut = total * (0.05 + 0.1 * draws.uniform("order.discount@1", ids)) * off
    return {
        "labour": labour,
        "parts": parts,
        "costs": rounded(market, total * np.clip(share, 0.2, 0.9), step=1),
        "discount": rounded(market, cut, step=1),
    }
