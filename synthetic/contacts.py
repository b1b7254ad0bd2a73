"""Planned contacts: what the CRM puts on a manager's list, and how the list is kept.

Contacts are planned by rule: 1, 3 and 7 days after a lead opens, 14 days before the next service,
3 days after a delivery, on birthdays, evenly through each year with a customer and through the year
after a loss with a prospect. A manager's discipline decides whether each is done on time, late or
never: on time when its uniform is below its probability, never when it is in the upper tail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from crm_analysis.schema import CONTACT_KINDS, CONTACT_PURPOSES, CONTACT_RESULTS, DIRECTIONS
from synthetic.clock import DAY, YEAR, chosen, masked, minute_in_hours, moments
from synthetic.customers import Customers, birthdays
from synthetic.funnel import CONTRACT, Leads, Paths
from synthetic.keyed import Flags, Floats, Ints, logistic, logit, place_of
from synthetic.log import Log
from synthetic.network import Market
from synthetic.traffic import entry_lag

LEAD, REMINDER, FOLLOW_UP, BIRTHDAY, YEARLY, CARE, PROSPECT = range(len(CONTACT_PURPOSES))
_OUTGOING = DIRECTIONS.index("outgoing")
YEARS, TURNS = 32, 32
"""Places kept in a contact's number for the years of a relationship and the contacts of a year."""

NOTICE_DAYS = 7
MORNING, EVENING = 7 * 60, 21 * 60
"""Days of notice on the list, the minute the list is made, and the end of a day [assumed]."""

_ROOM = 1_000_000
_SHARE = 100_000
_KIND_EDGES = {
    LEAD: (0.85, 0.85, 0.90),
    REMINDER: (0.40, 0.90, 0.95),
    FOLLOW_UP: (0.90, 0.95, 1.0),
    BIRTHDAY: (0.20, 0.80, 0.95),
    YEARLY: (0.50, 0.80, 0.95),
    CARE: (0.60, 0.80, 0.95),
    PROSPECT: (0.40, 0.60, 0.95),
}
"""Cumulative shares of calls, messages and letters by purpose; the rest by messenger [assumed]."""


@dataclass(frozen=True)
class Plan:
    """Contacts on the list; arrays of shape (n,).

    `turn` numbers the contacts of one purpose with one customer, `due` is a day, `planned` a
    minute, and `lead` the opportunity or -1.
    """

    customer: Ints
    place: Ints
    purpose: Ints
    turn: Ints
    due: Ints
    planned: Ints
    lead: Ints
    role: str = "manager"


def on_time_probability(market: Market, employee: Ints) -> Floats:
    """Return the chance that each employee does a contact on time."""
    discipline = market.staff.discipline[employee]
    return np.round(logistic(logit(market.config.contacts.on_time) + discipline), 9)


def reminder_probability(
    market: Market, customer: Ints, turn: Ints, employee: Ints, dealership: Ints, day: Ints
) -> Floats:
    """Return the chance that each reminder is on time: one where a machine sends it."""
    chance = on_time_probability(market, employee)
    share = market.rollout.rule("contacts.automatic", customer, dealership, day)
    if not np.any(share):
        return chance
    machine = market.draws.chance("contact.automatic@1", share, customer, turn)
    return np.where(machine, 1.0, chance)


def kept_on_time(market: Market, plan: str, customer: Ints, turn: Ints, chance: Floats) -> Flags:
    """Return which contacts are done on time, given the chance of each."""
    return np.asarray(market.draws.uniform(f"contact.{plan}@1", customer, turn) < chance)


def responsible(market: Market, role: str, dealership: Ints, customer: Ints, day: Ints) -> Ints:
    """Return who is responsible for each customer on each day: the seat of the first lead."""
    field = "lead.seat@1" if role == "manager" else "contact.advisor@1"
    seat = market.draws.integer(field, market.staff.seats(role), customer * 10)
    return market.staff.holder(role, dealership, seat, day)


def care_number(market: Market, dealership: Ints, customer: Ints, start: Ints, year: Ints) -> Ints:
    """Return the care contacts planned in a year of each relationship: the rule of its first day.

    Parameters
    ----------
    dealership, customer, start, year : numpy arrays, shape (n,)
        Position of the dealership, customer, first day of the relationship, and number of the year.

    Returns
    -------
    numpy array, shape (n,)
    """
    begins = start + np.floor(YEAR * year).astype(np.int64)
    number = market.rollout.rule("contacts.customers_a_year", customer, dealership, begins)
    return np.broadcast_to(np.asarray(number, dtype=np.int64), customer.shape)


def care_turns(
    market: Market, customer: Ints, start: Ints, year: Ints, turn: Ints, number: Ints
) -> Ints:
    """Return the day of each care contact of a year of a relationship, of `number` in it."""
    place = market.draws.uniform("care.day@1", customer, year * TURNS + turn)
    begins = start + np.floor(YEAR * year).astype(np.int64)
    within = np.floor((turn + 0.2 + 0.6 * place) / np.maximum(number, 1) * 365)
    return np.asarray(begins + within.astype(np.int64))


def care_done(market: Market, dealership: Ints, customer: Ints, start: Ints, year: Ints) -> Ints:
    """Return the number of care contacts done on time in a year of each relationship."""
    number = care_number(market, dealership, customer, start, year)
    at, turn = _one_by_one(number)
    who, when = customer[at], year[at]
    day = care_turns(market, who, start[at], when, turn, number[at])
    employee = responsible(market, "manager", dealership[at], who, day)
    chance = on_time_probability(market, employee)
    kept = kept_on_time(market, "care", who, when * TURNS + turn, chance)
    return np.bincount(at[kept], minlength=len(number))


def _one_by_one(number: Ints) -> tuple[Ints, Ints]:
    """Return the year of each contact, of `number` in each year, and its turn in the year."""
    at = np.repeat(np.arange(len(number)), number)
    return at, np.arange(len(at)) - np.repeat(np.cumsum(number) - number, number)


def warmth(number: Ints, best: float) -> Floats:
    """Return the saturating effect of contacts on time: one at the best number, less beyond it."""
    part = number / best
    return np.asarray(part * np.exp(1 - part))


# --- the plan ------------------------------------------------------------------------------------


def _list_made(due: Ints, notice: int) -> Ints:
    return (due - notice) * DAY + MORNING


def _lead_plan(market: Market, who: Customers, leads: Leads, paths: Paths) -> Plan:
    days = np.array(market.config.contacts.lead_days, dtype=np.int64)
    due = leads.opened[:, None] // DAY + days[None, :]
    signed = np.where(paths.passed >= CONTRACT, paths.at[:, CONTRACT], paths.closed_at)
    at, step = np.nonzero(_list_made(due, 0) < signed[:, None])
    return Plan(
        customer=leads.customer[at],
        place=np.searchsorted(who.ids, leads.customer[at]),
        purpose=np.full(len(at), LEAD),
        turn=leads.ids[at] % 10 * TURNS + step,
        due=due[at, step],
        planned=_list_made(due[at, step], 0),
        lead=leads.ids[at],
    )


def _follow_up_plan(market: Market, who: Customers, leads: Leads, paths: Paths) -> Plan:
    at = np.flatnonzero(paths.won)
    due = paths.at[at, -1] // DAY + market.config.contacts.follow_up_days
    return Plan(
        customer=leads.customer[at],
        place=np.searchsorted(who.ids, leads.customer[at]),
        purpose=np.full(len(at), FOLLOW_UP),
        turn=leads.ids[at] % 10,
        due=due,
        planned=paths.at[at, -1],
        lead=leads.ids[at],
    )


def _prospect_plan(
    market: Market, who: Customers, leads: Leads, paths: Paths, starts: Ints
) -> Plan:
    """Plan the year after a loss, for those who talked to us, agreed and are not customers yet."""
    number = market.config.contacts.prospects_a_year
    place = np.searchsorted(who.ids, leads.customer)
    lost = ~paths.won & (paths.passed >= 1) & who.consent[place]
    at = np.repeat(np.flatnonzero(lost), number)
    turn = np.tile(np.arange(number), int(lost.sum()))
    wait = np.floor((turn + 1) / max(number, 1) * 365).astype(np.int64)
    due = paths.lost_at[at] // DAY + wait
    still = due - NOTICE_DAYS < starts[place[at]]
    at, turn, due = at[still], turn[still], due[still]
    return Plan(
        customer=leads.customer[at],
        place=place[at],
        purpose=np.full(len(at), PROSPECT),
        turn=leads.ids[at] % 10 * TURNS + turn,
        due=due,
        planned=_list_made(due, NOTICE_DAYS),
        lead=np.full(len(at), -1),
    )


def _care_plan(market: Market, who: Customers, years: dict[str, np.ndarray]) -> Plan:
    cared = np.flatnonzero(years["cared"])
    places = who.dealership[years["place"][cared]]
    start, customer, year = (years[name][cared] for name in ("start", "customer", "year"))
    planned = care_number(market, places, customer, start, year)
    at, turn = _one_by_one(planned)
    customer, year, number = customer[at], year[at], planned[at]
    due = care_turns(market, customer, start[at], year, turn, number)
    return Plan(
        customer=customer,
        place=years["place"][cared][at],
        purpose=np.where(turn == number - 1, YEARLY, CARE),
        turn=year * TURNS + turn,
        due=due,
        planned=_list_made(due, NOTICE_DAYS),
        lead=np.full(len(at), -1),
    )


def _birthday_plan(market: Market, created: Ints, years: dict[str, np.ndarray]) -> Plan:
    """Plan a greeting in each year of care, for those whose birthday is known."""
    at = np.flatnonzero(years["cared"])
    customer, place = years["customer"][at], years["place"][at]
    born, known = birthdays(market, customer, created[place])
    begins = years["start"][at] + np.floor(YEAR * years["year"][at]).astype(np.int64)
    due = begins + np.floor((born - begins) % YEAR).astype(np.int64)
    keep = known & (due > begins)
    return Plan(
        customer=customer[keep],
        place=place[keep],
        purpose=np.full(int(keep.sum()), BIRTHDAY),
        turn=years["year"][at][keep],
        due=due[keep],
        planned=_list_made(due[keep], NOTICE_DAYS),
        lead=np.full(int(keep.sum()), -1),
    )


def _reminder_plan(reminders: dict[str, np.ndarray]) -> Plan:
    """Plan a reminder of each service whose car has not been seen since it was set."""
    customer, due = reminders["customer"], reminders["due"]
    planned = np.maximum(due - NOTICE_DAYS, reminders["day"] + 1)
    later = np.append(reminders["day"][1:], 0)
    same = np.append(customer[1:] == customer[:-1], False)
    keep = (~same | (planned < later)) & (due > reminders["day"])
    return Plan(
        customer=customer[keep],
        place=reminders["place"][keep],
        purpose=np.full(int(keep.sum()), REMINDER),
        turn=reminders["turn"][keep],
        due=due[keep],
        planned=np.minimum(planned, due)[keep] * DAY + MORNING,
        lead=np.full(int(keep.sum()), -1),
        role="service_advisor",
    )


def plan_contacts(
    market: Market,
    who: Customers,
    created: Ints,
    sales: tuple[Leads, Paths],
    books: tuple[dict[str, np.ndarray], dict[str, np.ndarray], Ints],
) -> list[Plan]:
    """List every contact that the rules ask for.

    `books` holds the years of care, the reminders, and the day each customer became one.
    """
    years, reminders, starts = books
    return [
        _lead_plan(market, who, *sales),
        _follow_up_plan(market, who, *sales),
        _prospect_plan(market, who, *sales, starts),
        _care_plan(market, who, years),
        _birthday_plan(market, created, years),
        _reminder_plan(reminders),
    ]


# --- how it is kept ------------------------------------------------------------------------------


def contact_tables(
    market: Market, who: Customers, plans: list[Plan], end: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write the contacts on the list before minute `end`, and the truth behind them."""
    kept = Log()
    for plan in plans:
        _keep(kept, market, who, plan, end)
    return _write(market, kept.join("ids"), end)


_FIELDS = {LEAD: "lead", REMINDER: "reminder", FOLLOW_UP: "follow_up", PROSPECT: "prospect",
           CARE: "care", YEARLY: "care", BIRTHDAY: "birthday"}  # fmt: skip


def _keep(kept: Log, market: Market, who: Customers, plan: Plan, end: int) -> None:
    """Do the contacts of one plan: on time, late or never."""
    shown = np.flatnonzero(plan.planned < end)
    customer, turn, due = plan.customer[shown], plan.turn[shown], plan.due[shown]
    planned, purpose = plan.planned[shown], plan.purpose[shown]
    field = _FIELDS[int(purpose[0])] if len(shown) else "care"
    group = np.where(purpose == YEARLY, CARE, purpose)
    ids = customer * _ROOM + group * _SHARE + turn
    draws, rules = market.draws, market.config.contacts
    dealership = who.dealership[plan.place[shown]]
    listed = responsible(market, plan.role, dealership, customer, due)
    chance = (
        reminder_probability(market, customer, turn, listed, dealership, due)
        if field == "reminder"
        else on_time_probability(market, listed)
    )
    uniform = draws.uniform(f"contact.{field}@1", customer, turn)
    on_time, never = uniform < chance, uniform > 1 - (1 - chance) * rules.never
    wait = np.floor(rules.late_days * draws.exponential("contact.late@1", ids)).astype(np.int64)
    day = np.where(on_time, due, due + 1 + wait)
    done = minute_in_hours(day, draws.uniform("contact.hour@1", ids))
    done = np.maximum(done, planned)
    present = ~never & (done < end)
    employee = responsible(
        market, plan.role, dealership, customer, np.where(present, day, np.minimum(due, end // DAY))
    )
    kept.add(
        ids=ids, dealership=dealership, customer=customer, lead=plan.lead[shown],
        employee=employee, purpose=purpose, planned=planned, due=due, done=done, present=present,
        chance=chance, uniform=uniform,
    )  # fmt: skip


def _write(
    market: Market, kept: dict[str, np.ndarray], end: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write what was planned and done, and the chances behind it."""
    ids, planned, done, present = (kept[name] for name in ("ids", "planned", "done", "present"))
    lag = entry_lag(market, "contact.entry@1", ids, kept["employee"])
    table = pl.DataFrame(
        {
            "contact_id": ids,
            "dealership_id": kept["dealership"] + 1,
            "customer_id": kept["customer"],
            "opportunity_id": masked(kept["lead"], kept["lead"] >= 0),
            "employee_id": kept["employee"],
            "kind": _kinds(market, ids, kept["purpose"]),
            "purpose": chosen(CONTACT_PURPOSES, kept["purpose"]),
            "direction": chosen(DIRECTIONS, np.full(len(ids), _OUTGOING)),
            "planned_at": moments(planned),
            "due_at": moments(np.maximum(kept["due"] * DAY + EVENING, planned)),
            "done_at": moments(done, present),
            "result": _results(market, ids, present),
            "entered_at": moments(np.minimum(done + lag, end - 1), present),
        }
    )
    truth = {"contact_id": ids, "on_time_probability": kept["chance"], "uniform": kept["uniform"]}
    return table, pl.DataFrame(truth)


def _kinds(market: Market, ids: Ints, purpose: Ints) -> pl.Series:
    edges = np.array([_KIND_EDGES[code] for code in range(len(CONTACT_PURPOSES))])
    return chosen(
        CONTACT_KINDS, place_of(market.draws.uniform("contact.kind@1", ids), edges, purpose)
    )


def _results(market: Market, ids: Ints, present: Flags) -> pl.Series:
    uniform = market.draws.uniform("contact.result@1", ids)
    return chosen(CONTACT_RESULTS, np.searchsorted([0.72, 0.97], uniform), present)


def later_years(
    years: Log, who: Customers, fates: dict[str, np.ndarray], active_days: int
) -> dict[str, np.ndarray]:
    """Add the years that the CRM goes on planning for those who left without a word."""
    customer, start, place = fates["customer"], fates["start"], fates["place"]
    seen, last = fates["seen"], fates["year"]
    for step in range(1, int(np.ceil(active_days / YEAR)) + 1):
        begins = start + np.floor(YEAR * (last + step)).astype(np.int64)
        on = (begins - seen <= active_days) & who.consent[place] & (begins < fates["limit"])
        years.add(
            customer=customer[on], place=place[on], start=start[on], year=(last + step)[on],
            cared=on[on],
        )  # fmt: skip
    return years.join("customer", "year")
