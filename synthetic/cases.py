"""Cases: complaints that the dissatisfied make or keep to themselves, requests and questions.

A visit that leaves a satisfaction below a threshold makes a customer dissatisfied; three in ten of
those complain. A complaint resolved in time wins part of the satisfaction back, a late one costs
some more; the effect counts from the visit on. A purchase that leaves a low satisfaction is
complained of in the same way, to the sales manager.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from crm_analysis.schema import CASE_KINDS, CASE_TOPICS, CONTACT_KINDS, RESOLUTIONS
from synthetic.cars import OWN_CAR
from synthetic.clock import DAY, YEAR, chosen, masked, minute_in_hours, moments, next_open_minute
from synthetic.contacts import responsible
from synthetic.customers import Customers
from synthetic.deals import rounded
from synthetic.keyed import Flags, Floats, Ints, logistic, logit
from synthetic.network import Market
from synthetic.traffic import entry_lag

if TYPE_CHECKING:
    from synthetic.relation import Relations

_COMPLAINT, _REQUEST, _INFORMATION = range(len(CASE_KINDS))
_QUALITY, _WAITING, _PRICE, _STAFF, _BOOKING = range(5)
ROOM = 10_000
_REQUESTS_FROM, _MOST_REQUESTS, _SALES_FROM = 1000, 4, 5000
LONG_WAIT = 6
"""Places for a customer's cases, for their requests and for complaints of a sale, and days that
count as a long wait."""


def in_time_probability(market: Market, employee: Ints) -> Floats:
    """Return the chance that each employee resolves a case in time."""
    discipline = market.staff.discipline[employee]
    return np.round(logistic(logit(market.config.cases.in_time) + discipline), 9)


def waited_days(market: Market, ids: Ints) -> Ints:
    """Return days between a visit and the complaint about it."""
    return market.draws.integer("case.wait@1", 3, ids)


def complaints(
    market: Market, dealership: Ints, customer: Ints, order: Ints, day: Ints, satisfaction: Floats
) -> tuple[Flags, Flags, Floats]:
    """Return who complains of a visit, whose complaint is resolved in time, and what that adds."""
    rules, draws = market.config.cases, market.draws
    said = draws.uniform("case.complains@1", customer, order) < rules.complains
    complains = (satisfaction < rules.dissatisfied_below) & said
    after = day + waited_days(market, customer * ROOM + order)
    employee = responsible(market, "service_advisor", dealership, customer, after)
    chance = in_time_probability(market, employee)
    in_time = draws.uniform("case.in_time@1", customer * ROOM + order) < chance
    effect = np.where(in_time, rules.recovered, rules.let_down)
    return complains, complains & in_time, np.where(complains, effect, 0.0)


def sale_complaints(
    market: Market, dealership: Ints, customer: Ints, car: Ints, day: Ints, satisfaction: Floats
) -> tuple[Flags, Flags, Floats]:
    """Return who complains of a purchase, whose complaint is in time, and what that adds.

    A car bought elsewhere is no purchase, and nobody complains of it.
    """
    rules, draws = market.config.cases, market.draws
    said = draws.uniform("case.complains_of_sale@1", customer, car) < rules.complains
    complains = (satisfaction < rules.dissatisfied_below) & said & (car != OWN_CAR)
    ids = customer * ROOM + _SALES_FROM + car
    after = day + 1 + waited_days(market, ids)
    employee = responsible(market, "manager", dealership, customer, after)
    in_time = draws.uniform("case.in_time@1", ids) < in_time_probability(market, employee)
    effect = np.where(in_time, rules.recovered, rules.let_down)
    return complains, complains & in_time, np.where(complains, effect, 0.0)


def sale_truth(market: Market, relations: Relations, end: int) -> pl.DataFrame:
    """Write what each delivery before minute `end` left."""
    cars = relations.cars
    seen = (cars["car"] != OWN_CAR) & (cars["start"] < end // DAY)
    felt = cars["satisfaction"][seen]
    return pl.DataFrame(
        {
            "deal_id": cars["customer"][seen] * 10 + cars["car"][seen],
            "satisfaction": felt,
            "dissatisfied": felt < market.config.cases.dissatisfied_below,
            "complained": cars["complains"][seen],
            "recovery": cars["recovery"][seen],
        }
    )


def visit_truth(market: Market, relations: Relations, end: int) -> pl.DataFrame:
    """Write what each visit before minute `end` left."""
    visits = relations.visits
    seen = visits["day"] < end // DAY
    felt = visits["satisfaction"][seen]
    return pl.DataFrame(
        {
            "service_order_id": visits["customer"][seen] * 1000 + visits["order"][seen],
            "satisfaction": felt,
            "dissatisfied": felt < market.config.cases.dissatisfied_below,
            "complained": visits["complains"][seen],
            "recovery": visits["recovery"][seen],
        }
    )


def _complaint_rows(visits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    made = visits["complains"]
    rows = {name: visits[name][made] for name in ("customer", "place", "order", "day")}
    about = np.where(visits["wait"] > LONG_WAIT, _WAITING, -1)
    about = np.where(visits["fixed"], about, _QUALITY)[made]
    return rows | {"about": about, "kind": np.full(len(about), _COMPLAINT)}


def _sale_rows(who: Customers, cars: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    made = cars["complains"]
    customer = cars["customer"][made]
    none = np.full(len(customer), -1)
    return {
        "customer": customer, "place": np.searchsorted(who.ids, customer),
        "order": _SALES_FROM + cars["car"][made], "day": cars["start"][made] + 1, "about": none,
        "kind": np.full(len(customer), _COMPLAINT),
    }  # fmt: skip


def _request_rows(market: Market, relations: Relations) -> dict[str, np.ndarray]:
    """Spread requests and questions over the years in which the customer is really here."""
    years, draws = relations.years, market.draws
    key = years["customer"] * 64 + years["year"]
    counts = draws.poisson("case.requests@1", market.config.cases.requests, _MOST_REQUESTS, key)
    at = np.repeat(np.arange(len(key)), counts)
    turn = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    year, customer = years["year"][at], years["customer"][at]
    order = _REQUESTS_FROM + year * 8 + turn
    within = 1 + 364 * draws.uniform("case.day@1", customer * ROOM + order)
    day = years["start"][at] + np.floor(YEAR * year + within).astype(np.int64)
    fates = relations.fates
    ends = fates["end"][np.searchsorted(fates["customer"], customer)]
    here = day < ends
    kind = np.where(
        draws.chance("case.asks@1", 0.5, customer * ROOM + order), _REQUEST, _INFORMATION
    )
    about = _BOOKING + draws.integer("case.about@1", 4, customer * ROOM + order)
    return {
        "customer": customer[here], "place": years["place"][at][here], "order": order[here],
        "day": day[here], "about": about[here], "kind": kind[here],
    }  # fmt: skip


def case_tables(
    market: Market, who: Customers, relations: Relations, end: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write the cases opened before minute `end`, and the truth behind them."""
    parts = [
        _complaint_rows(relations.visits), _request_rows(market, relations),
        _sale_rows(who, relations.cars),
    ]  # fmt: skip
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ids = rows["customer"] * ROOM + rows["order"]
    draws, rules = market.draws, market.config.cases
    wait = np.where(rows["kind"] == _COMPLAINT, waited_days(market, ids), 0)
    opened = minute_in_hours(rows["day"] + wait, draws.uniform("case.hour@1", ids))
    opened = np.where(wait == 0, rows["day"] * DAY + 1200 + opened % 60, opened)
    shown = np.flatnonzero(opened < end)
    shown = shown[np.argsort(ids[shown])]
    rows = {name: values[shown] for name, values in rows.items()}
    ids, opened = ids[shown], opened[shown]
    dealership = who.dealership[rows["place"]]
    day = opened // DAY
    of_sale = rows["order"] >= _SALES_FROM
    advisor = np.where(
        of_sale,
        responsible(market, "manager", dealership, rows["customer"], day),
        responsible(market, "service_advisor", dealership, rows["customer"], day),
    )
    chance = in_time_probability(market, advisor)
    uniform = draws.uniform("case.in_time@1", ids)
    answered, resolved = _handled(market, ids, opened, uniform < chance)
    done = resolved < end
    complaint = rows["kind"] == _COMPLAINT
    resolution, compensation = _resolution(market, ids, complaint)
    lag = entry_lag(market, "case.entry@1", ids, advisor)
    table = pl.DataFrame(
        {
            "case_id": ids,
            "dealership_id": dealership + 1,
            "customer_id": rows["customer"],
            "employee_id": advisor,
            "service_order_id": masked(
                rows["customer"] * 1000 + rows["order"], complaint & ~of_sale
            ),
            "deal_id": masked(rows["customer"] * 10 + rows["order"] - _SALES_FROM, of_sale),
            "kind": chosen(CASE_KINDS, rows["kind"]),
            "about": chosen(CASE_TOPICS, _topic(market, ids, rows["about"])),
            "channel": chosen(
                CONTACT_KINDS,
                np.searchsorted([0.6, 0.65, 0.85], draws.uniform("case.channel@1", ids)),
            ),
            "opened_at": moments(opened),
            "due_at": moments(opened + rules.days * DAY),
            "first_response_at": moments(answered, answered < end),
            "resolved_at": moments(resolved, done),
            "resolution": chosen(RESOLUTIONS, resolution, done),
            "compensation": np.where(done, compensation, 0),
            "entered_at": moments(np.minimum(opened + lag, end - 1)),
        }
    )
    truth = {"case_id": ids, "in_time_probability": chance, "uniform": uniform}
    return table, pl.DataFrame(truth)


def _topic(market: Market, ids: Ints, about: Ints) -> Ints:
    """Return what each case is about; a complaint with no plain reason is of price or staff."""
    staff = market.draws.chance("case.staff@1", 0.5, ids)
    return np.where(about < 0, np.where(staff, _STAFF, _PRICE), about)


def _handled(market: Market, ids: Ints, opened: Ints, in_time: Flags) -> tuple[Ints, Ints]:
    """Return the minutes of the first answer and of the resolution."""
    draws, limit = market.draws, market.config.cases.days * DAY
    part = draws.uniform("case.resolved@1", ids)
    late = limit * (1 + 0.1 + 1.5 * draws.erlang("case.late@1", 1, ids))
    length = np.where(in_time, limit * (0.05 + 0.7 * part), late)
    hour = draws.uniform("case.resolved_hour@1", ids)
    resolved = next_open_minute(opened + np.floor(length).astype(np.int64), hour)
    share = draws.uniform("case.answered@1", ids) ** 2
    answered = opened + np.floor((resolved - opened) * share).astype(np.int64)
    return answered, resolved


def _resolution(market: Market, ids: Ints, complaint: Flags) -> tuple[Ints, Ints]:
    draws, rules, money = market.draws, market.config.cases, market.config.money
    uniform = draws.uniform("case.resolution@1", ids)
    paid = uniform < rules.compensated
    how = np.where(paid, 1, np.where(uniform < 0.75, 0, np.where(uniform < 0.9, 2, 3)))
    other = np.where(uniform < 0.6, 0, 2)
    bill = money.service_bill_dollars if market.config.currency == "USD" else money.service_bill
    given = rounded(market, bill * (0.1 + 0.5 * draws.uniform("case.money@1", ids)), step=1)
    return np.where(complaint, how, other), np.where(complaint & paid, given, 0)
