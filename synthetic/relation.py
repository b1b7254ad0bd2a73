"""The service relationship: visits, satisfaction, silent defection, and the next car.

The path of each customer is followed event by event to its true end, whatever the CRM's last day
is:
`as_of` only decides what is shown. Between two events the hazard of defection is constant but
for the factor of its month, so the time of defection comes from one exponential by exact inversion
(`synthetic.season`). All times are whole days, and an
interval [start, stop) includes its first day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crm_analysis.schema import SOURCES
from synthetic.cars import NEW, OWN_CAR, USED, draw_cars
from synthetic.cases import complaints, sale_complaints
from synthetic.catalogue import INTERVAL_MONTHS, WARRANTY_MONTHS
from synthetic.clock import DAY, YEAR
from synthetic.contacts import (
    care_done,
    kept_on_time,
    later_years,
    reminder_probability,
    responsible,
    warmth,
)
from synthetic.customers import Customers
from synthetic.deals import price_gap
from synthetic.funnel import (
    Leads,
    Paths,
    funnel_odds,
    join_leads,
    make_leads,
    price_sensitivity,
    run_funnel,
)
from synthetic.keyed import Flags, Floats, Ints, logistic
from synthetic.log import Log
from synthetic.network import Market
from synthetic.state import State, blank_state

MAX_CARS = 9
CAUSES = ("defected", "bought_elsewhere", "still_here")
DEFECTED, ELSEWHERE, STILL_HERE = range(3)
SCHEDULED, UNPLANNED = 0, 1
_RETURN_SHARES = (("service_drive", 0.55), ("walk_in", 0.15), ("phone", 0.15), ("referral", 0.15))
MONTH = YEAR / 12
_LEAST_HAZARD = 1e-9
WAIT_DAYS = 4.0
WAIT_EFFECT = -0.02
"""Mean wait for a booked visit, and its effect on satisfaction a day past the mean [assumed]."""


@dataclass(frozen=True)
class Relations:
    """The relationships of a block, as columns sorted by customer and time.

    Attributes
    ----------
    visits : customer, order, day, unplanned, in_warranty, car, model, km, age, satisfaction, wait,
    fixed, complains, in_time, recovery, next_day, next_km, place.
    intervals : customer, start, stop, hazard, season, in_warranty, satisfaction, contacts; `hazard`
    is the mean over the interval, `season` the mean factor of its months.
    cars : customer, car, start, elapsed, scale, until, model, condition, age, satisfaction,
    complains, in_time, recovery, p_return; `satisfaction` is what the purchase left.
    fates : customer, place, start, by_service, end, cause, seen, year, limit.
    years : customer, place, start, year, cared: years whose care contacts are planned or not.
    reminders : customer, place, day, turn, due: the next service, set on a day.
    leads, paths : opportunities of customers who returned for the next car; None when nobody did.
    """

    visits: dict[str, np.ndarray]
    intervals: dict[str, np.ndarray]
    cars: dict[str, np.ndarray]
    fates: dict[str, np.ndarray]
    years: dict[str, np.ndarray]
    reminders: dict[str, np.ndarray]
    returns: tuple[Leads, Paths] | None

    def side(self, border: int, side: int) -> Relations:
        """Return the relationships of customers below a border (0), or from it on (1)."""

        def cut(customer: Ints) -> slice:
            place = int(np.searchsorted(customer, border))
            return slice(place, None) if side else slice(place)

        parts: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            columns = getattr(self, name)
            if isinstance(columns, dict):
                where = cut(columns["customer"])
                parts[name] = {key: values[where] for key, values in columns.items()}
            elif columns is not None:
                where = cut(columns[0].customer)
                parts[name] = (columns[0].take(where), columns[1].take(where))
        return Relations(**{"returns": None, **parts})


def satisfaction_after_sale(
    market: Market, who: Customers, leads: Leads, place: Ints, day: Ints
) -> Floats:
    """Return the satisfaction that a purchase alone would leave."""
    rules = market.config.relation
    level = market.satisfaction_level(leads.dealership, day)
    skill = rules.skill_satisfaction * market.staff.skill[leads.manager]
    luck = rules.sale_sd * market.draws.normal("sale.quality@1", leads.ids)
    return np.asarray(who.satisfaction[place] + level + skill + luck)


class _Walk:
    """One walk through the events of a block's relationships."""

    def __init__(self, market: Market, who: Customers) -> None:
        self.market, self.who = market, who
        self.draws, self.rules = market.draws, market.config.relation
        self.visits, self.intervals, self.cars, self.fates = Log(), Log(), Log(), Log()
        self.years, self.reminders = Log(), Log()
        self.returns: list[tuple[Leads, Paths]] = []

    # -- cars -------------------------------------------------------------------------------------

    def take_car(
        self, state: State, at: Ints, car: Ints, model: Ints, condition: Ints, age: Floats
    ) -> None:
        """Start the ownership of a car for the relationships at positions `at`."""
        draws, rules, catalogue = self.draws, self.rules, self.market.catalogue
        customer, day = state.customer[at], state.day[at]
        yearly = self.who.km_a_year[state.place[at]]
        months = np.where(condition == USED, rules.used_warranty_months, WARRANTY_MONTHS)
        days = np.minimum(months * MONTH, catalogue.warranty_km[model] / yearly * YEAR)
        passed = np.where(condition == USED, 0.0, age * YEAR)
        state.model[at], state.car[at], state.bought[at] = model, car, day
        state.car_age[at], state.km_start[at] = age, np.round(age * yearly) + 10
        state.warranty_ends[at] = day + np.floor(days - passed).astype(np.int64)
        elapsed = np.where(car == OWN_CAR, age, 0.0)
        scale = rules.ownership_scale * catalogue.keep[model]
        fresh = draws.exponential("car.kept@1", customer, car)
        shape = rules.ownership_shape
        kept = scale * ((elapsed / scale) ** shape + fresh) ** (1 / shape) - elapsed
        state.kept_until[at] = day + 1 + np.floor(kept * YEAR).astype(np.int64)
        felt = state.satisfaction[at]
        complains, in_time, recovery = sale_complaints(
            self.market, self.who.dealership[state.place[at]], customer, car, day, felt
        )
        self.cars.add(
            customer=customer, car=car, start=day, elapsed=elapsed, scale=scale,
            until=state.kept_until[at], model=model, condition=condition, age=age,
            satisfaction=felt, complains=complains, in_time=in_time, recovery=recovery,
        )  # fmt: skip
        state.satisfaction[at] = felt + recovery

    def plan(self, state: State, at: Ints, *, service: Ints | None = None) -> None:
        """Draw the next unplanned repair, and the next service for the positions `service`."""
        draws, rules = self.draws, self.rules
        age = state.car_age[at] + (state.day[at] - state.bought[at]) / YEAR
        rate = rules.repairs * np.exp(rules.repairs_growth * np.minimum(age, 20))
        turn = state.orders[at] + 1000 * state.car[at]
        gap = draws.exponential("repair.gap@1", state.customer[at], turn) / rate * YEAR
        state.repair[at] = state.day[at] + 1 + np.floor(gap).astype(np.int64)
        where = at if service is None else service
        due = self.interval_days(state, where)
        turn = state.orders[where] + 1000 * state.car[where]
        customer = state.customer[where]
        covered, gap = state.day[where] < state.warranty_ends[where], np.empty(len(where))
        for field, visits, some in (
            ("service.gap@1", rules.visits_after, ~covered),
            ("service.gap_warranty@1", rules.visits_in_warranty, covered),
        ):
            gap[some] = draws.erlang(field, visits, customer[some], turn[some])
        gap *= due
        planned = state.day[where] + 1 + np.floor(gap).astype(np.int64)
        state.scheduled[where] = self.remind(state, where, due, planned, turn)

    def remind(self, state: State, at: Ints, due: Floats, planned: Ints, turn: Ints) -> Ints:
        """Set the reminder of the next service; one on time brings a late visit forward."""
        contacts, customer, place = self.market.config.contacts, state.customer[at], state.place[at]
        day = state.day[at] + np.floor(due).astype(np.int64) - contacts.reminder_days
        self.reminders.add(customer=customer, place=place, day=state.day[at], turn=turn, due=day)
        home = self.who.dealership[place]
        employee = responsible(self.market, "service_advisor", home, customer, day)
        chance = reminder_probability(self.market, customer, turn, employee, home, day)
        done = kept_on_time(self.market, "reminder", customer, turn, chance)
        saved = np.floor((planned - day) * contacts.reminder_effect).astype(np.int64)
        helped = done & (planned > day) & (day > state.day[at])
        return np.where(helped, planned - saved, planned)

    def interval_days(self, state: State, at: Ints) -> Floats:
        """Return days between services: twelve months or the interval in km, what comes first."""
        yearly = self.who.km_a_year[state.place[at]]
        return np.minimum(
            INTERVAL_MONTHS * MONTH,
            self.market.catalogue.interval_km[state.model[at]] / yearly * YEAR,
        )

    # -- visits -----------------------------------------------------------------------------------

    def visit(self, state: State, at: Ints, unplanned: Flags) -> None:
        """Take cars into the workshop: satisfaction moves, the order is logged."""
        draws, rules, who = self.draws, self.rules, self.who
        customer, order, place = state.customer[at], state.orders[at], state.place[at]
        fixed = ~draws.chance("visit.returns@1", rules.not_fixed, customer, order)
        wait = np.floor(WAIT_DAYS * draws.erlang("visit.wait@1", 2, customer, order))
        wait = np.where(unplanned, np.floor(wait / 4), wait)
        since = state.day[at] - np.maximum(state.bought[at], state.visited[at])
        wait = np.where(since > 0, np.minimum(wait, since - 1), wait)
        level = self.market.satisfaction_level(who.dealership[place], state.day[at])
        target = who.satisfaction[place] + level
        target += rules.visit_sd * draws.normal("visit.quality@1", customer, order)
        fresh = (1 - rules.memory) * target + rules.memory * state.satisfaction[at]
        fresh += rules.not_fixed_effect * (~fixed - rules.not_fixed)
        fresh += WAIT_EFFECT * np.where(unplanned, 0.0, wait - WAIT_DAYS)
        state.satisfaction[at] = fresh
        wait = wait.astype(np.int64)
        complaint = complaints(self.market, who.dealership[place], customer, order, state.day[at],
                               fresh)  # fmt: skip
        self.log_visit(state, at, unplanned, (fixed, wait, *complaint))
        state.satisfaction[at] += complaint[-1]
        state.orders[at] += 1
        state.visited[at] = state.day[at]

    def log_visit(
        self, state: State, at: Ints, unplanned: Flags, found: tuple[np.ndarray, ...]
    ) -> None:
        """Write one order a visit."""
        fixed, wait, complains, in_time, recovery = found
        day, place = state.day[at], state.place[at]
        years = (day - state.bought[at]) / YEAR
        km = np.floor(state.km_start[at] + self.who.km_a_year[place] * years).astype(np.int64)
        interval = self.market.catalogue.interval_km[state.model[at]]
        self.visits.add(
            customer=state.customer[at], order=state.orders[at], day=day, unplanned=unplanned,
            in_warranty=day < state.warranty_ends[at], car=state.car[at], model=state.model[at],
            age=state.car_age[at] + years, satisfaction=state.satisfaction[at], km=km, wait=wait,
            fixed=fixed, complains=complains, in_time=in_time, recovery=recovery,
            next_day=day + np.floor(self.interval_days(state, at)).astype(np.int64),
            next_km=km + interval, place=place,
        )  # fmt: skip

    # -- care -------------------------------------------------------------------------------------

    def begin_care(self, state: State) -> None:
        """Plan the first year of contacts; how many will be on time is not known yet."""
        at = np.arange(len(state.customer))
        state.contacts[at] = -1
        state.cared[at] = self.who.consent[state.place]
        state.review[at] = state.start + int(YEAR)
        self.plan_year(state, at)

    def plan_year(self, state: State, at: Ints) -> None:
        """Log whether this year's contacts are planned."""
        self.years.add(
            customer=state.customer[at], place=state.place[at], start=state.start[at],
            year=state.year[at], cared=state.cared[at],
        )  # fmt: skip

    def review(self, state: State, at: Ints) -> None:
        """Close a year of contacts and plan the next, for those seen not too long ago."""
        months = self.market.config.contacts.active_months
        customer, place, start = state.customer[at], state.place[at], state.start[at]
        dealership = self.who.dealership[place]
        done = care_done(self.market, dealership, customer, start, state.year[at])
        state.contacts[at] = np.where(state.cared[at], done, 0)
        seen = np.maximum(state.visited[at], state.bought[at])
        recent = state.review[at] - seen <= int(months * MONTH)
        state.cared[at] = recent & self.who.consent[place]
        state.year[at] += 1
        state.review[at] = start + np.floor(YEAR * (state.year[at] + 1)).astype(np.int64)
        self.plan_year(state, at)

    # -- leaving ----------------------------------------------------------------------------------

    def advance(self, state: State, at: Ints, until: Ints) -> Ints:
        """Live through the days up to `until`; return the positions that have not defected."""
        rules, season, day = self.rules, self.market.season, state.day[at]
        covered = day < state.warranty_ends[at]
        home = self.who.dealership[state.place[at]]
        usual = self.market.rollout.rule("relation.hazard", state.customer[at], home, day)
        hazard = usual * np.exp(rules.satisfaction_effect * state.satisfaction[at])
        hazard *= np.where(covered, 1.0, rules.after_warranty) * self.care_factor(state, at)
        hazard = np.maximum(np.round(hazard, 9), _LEAST_HAZARD)
        spent = hazard * season.days(day, until) / YEAR
        gone = state.left[at] < spent
        passed = season.reached(day, state.left[at] / hazard * YEAR)
        last = np.where(gone, np.minimum(passed, until - 1), until)
        stop = np.where(gone, last + 1, until)
        factor = season.mean(day, stop)
        self.intervals.add(
            customer=state.customer[at], start=day, stop=stop,
            hazard=np.round(hazard * factor, 9), season=factor, in_warranty=covered,
            satisfaction=state.satisfaction[at], contacts=state.contacts[at],
        )  # fmt: skip
        state.left[at] -= np.where(gone, state.left[at], spent)
        state.day[at] = last
        self.leave(state, at[gone], last[gone] + 1, DEFECTED)
        return np.asarray(at[~gone])

    def before_policy(self, state: State, at: Ints, until: Ints) -> Ints:
        """Cut stretches at the day on which a policy changes the hazard itself."""
        rollout = self.market.rollout
        if "relation.hazard" not in rollout.changes:
            return until
        home = self.who.dealership[state.place[at]]
        begins = rollout.begins(state.customer[at], home)
        return np.where((begins > state.day[at]) & (begins < until), begins, until)

    def care_factor(self, state: State, at: Ints) -> Floats:
        """Return what last year's contacts do to the hazard; one in the first year."""
        effect = self.market.config.contacts.hazard_effect
        return np.asarray(np.exp(effect * self.warmth_left(state, at)))

    def warmth_left(self, state: State, at: Ints) -> Floats:
        """Return last year's effect of contacts against the usual one; zero in the first year."""
        rules, number = self.market.config.contacts, state.contacts[at]
        warm = warmth(np.maximum(number, 0), rules.best_number) - rules.usual_warmth
        return np.where(number < 0, 0.0, warm)

    def leave(self, state: State, at: Ints, day: Ints, cause: int) -> None:
        """End relationships."""
        state.live[at], state.end[at], state.cause[at] = False, day, cause

    # -- the next car -----------------------------------------------------------------------------

    def replace(self, state: State, at: Ints) -> None:
        """Choose the next car: here, as a lead that goes through the funnel, or elsewhere."""
        draws, rules, who = self.draws, self.rules, self.who
        customer, place = state.customer[at], state.place[at]
        turn = np.where(state.car[at] == OWN_CAR, 1, state.car[at] + 1)
        share = np.cumsum([part for _, part in _RETURN_SHARES])
        codes = np.array([SOURCES.index(name) for name, _ in _RETURN_SHARES])
        ids = customer * 10 + turn
        source = codes[(draws.uniform("return.source@1", ids)[:, None] >= share[:-1]).sum(axis=1)]
        everyone = np.ones(len(at), dtype=np.bool_)
        leads = make_leads(
            self.market, ids, customer, who.dealership[place], source, state.day[at], everyone
        )
        odds = funnel_odds(self.market, leads)
        recent = state.day[at] - state.visited[at] <= YEAR
        score = rules.return_logit + rules.return_satisfaction * state.satisfaction[at]
        score += rules.return_contacts * self.warmth_left(state, at)
        gap = price_sensitivity(self.market, customer) * price_gap(self.market, leads)
        score += rules.return_price * gap
        wanted = logistic(score + rules.return_serviced * recent)
        success = odds.chance
        comes = draws.uniform("return.comes@1", ids) < wanted / np.maximum(success, 1e-9)
        comes &= turn < MAX_CARS
        self.cars_returned(state, at, np.minimum(wanted, success))
        self.leave(state, at[~comes], state.day[at][~comes], ELSEWHERE)
        if comes.any():
            leads = leads.take(comes)
            paths = run_funnel(self.market, leads, odds.take(comes))
            self.returned(state, at[comes], leads, paths, turn[comes])

    def returned(self, state: State, at: Ints, leads: Leads, paths: Paths, turn: Ints) -> None:
        """Sell the next car to those who came back for it, or lose them."""
        self.returns.append((leads, paths))
        won = paths.won
        self.leave(state, at[~won], paths.lost_at[~won] // DAY, ELSEWHERE)
        self.buy(state, at[won], leads.take(won), paths.take(won), turn[won])

    def cars_returned(self, state: State, at: Ints, p_return: Floats) -> None:
        """Keep the true probability of buying the next car here."""
        state.p_return[at] = p_return
        self.fates.add(customer=state.customer[at], car=state.car[at], p_return=p_return)

    def buy(self, state: State, at: Ints, leads: Leads, paths: Paths, turn: Ints) -> None:
        """Deliver the next car; the purchase moves satisfaction."""
        if not len(at):
            return
        state.day[at] = paths.at[:, -1] // DAY
        old = state.satisfaction[at]
        state.satisfaction[at] = self.rules.memory * old + (
            1 - self.rules.memory
        ) * self.after_sale(leads, state.place[at], state.day[at])
        opened = leads.opened // DAY
        model, condition, age = draw_cars(self.market, leads.dealership, leads.ids, opened)
        self.take_car(state, at, turn, model, condition, age)
        self.plan(state, at)

    def after_sale(self, leads: Leads, place: Ints, day: Ints) -> Floats:
        """Return the satisfaction that a purchase alone would leave."""
        return satisfaction_after_sale(self.market, self.who, leads, place, day)


def _begin(walk: _Walk, leads: Leads, paths: Paths) -> State:
    """Start with the buyers among the first leads and those who first come to the workshop."""
    who, draws = walk.who, walk.draws
    won = np.flatnonzero(paths.won)
    bought = leads.take(won)
    buyers = np.searchsorted(who.ids, bought.customer)
    guests = np.flatnonzero(who.by_service)
    place = np.concatenate([buyers, guests])
    start = np.concatenate([paths.at[won, -1] // DAY, who.arrival[guests]])
    state = blank_state(
        place, who.ids[place], start, draws.exponential("defection@1", who.ids[place])
    )
    first, rest = np.arange(len(buyers)), np.arange(len(buyers), len(place))
    state.satisfaction[first] = walk.after_sale(bought, buyers, start[first])
    opened = bought.opened // DAY
    model, condition, age = draw_cars(walk.market, bought.dealership, bought.ids, opened)
    walk.take_car(state, first, np.zeros(len(first), dtype=np.int64), model, condition, age)
    walk.plan(state, first)
    _begin_guests(walk, state, rest)
    walk.begin_care(state)
    return state


def _begin_guests(walk: _Walk, state: State, at: Ints) -> None:
    who, draws, ids = walk.who, walk.draws, state.customer[at]
    dealership = who.dealership[state.place[at]]
    age = np.round(0.3 + 8.0 * draws.uniform("guest.age@1", ids) ** 1.4, 4)
    built = state.day[at] - np.floor(age * YEAR).astype(np.int64)
    model = walk.market.catalogue.pick(
        walk.market.group[dealership], draws.uniform("guest.model@1", ids), built
    )
    level = walk.market.satisfaction_level(dealership, state.day[at])
    state.satisfaction[at] = who.satisfaction[state.place[at]] + level
    own = np.full(len(at), OWN_CAR, dtype=np.int64)
    walk.take_car(state, at, own, model, np.full(len(at), NEW, dtype=np.int64), age)
    walk.visit(state, at, draws.chance("guest.unplanned@1", 0.35, ids))
    walk.plan(state, at)


def _step(walk: _Walk, state: State, at: Ints, limit: Ints) -> None:
    """Carry the live relationships to their next event."""
    late = state.day[at] >= limit[at]
    walk.leave(state, at[late], limit[at][late], STILL_HERE)
    at = at[~late]
    while (due := at[state.day[at] >= state.review[at]]).size:
        walk.review(state, due)
    day = state.day[at]
    planned = np.minimum(state.scheduled[at], state.repair[at])
    until = np.minimum(np.minimum(planned, state.kept_until[at]), state.review[at])
    ends = state.warranty_ends[at]
    until = np.where((ends > day) & (ends < until), ends, until)
    until = walk.before_policy(state, at, until)
    over = until >= limit[at]
    stayed = walk.advance(state, at, np.where(over, limit[at], until))
    stayed = stayed[state.day[stayed] < limit[stayed]]
    changes = state.day[stayed] == state.kept_until[stayed]
    if changes.any():
        walk.replace(state, stayed[changes])
    stayed = stayed[~changes]
    service = state.day[stayed] == state.scheduled[stayed]
    calls = service | (state.day[stayed] == state.repair[stayed])
    came, planned_service = stayed[calls], service[calls]
    if len(came):
        walk.visit(state, came, ~planned_service)
        walk.plan(state, came, service=came[planned_service])


def walk_relations(market: Market, who: Customers, leads: Leads, paths: Paths) -> Relations:
    """Follow every relationship that a block of customers starts, to its true end."""
    walk = _Walk(market, who)
    state = _begin(walk, leads, paths)
    limit = state.start + int(market.config.relation.follow_years * YEAR)
    _step(walk, state, np.empty(0, dtype=np.int64), limit)  # a block without any still has columns
    while (at := np.flatnonzero(state.live)).size:
        _step(walk, state, at, limit)
    cars = walk.cars.join("customer", "car")
    fates = _fates(state, who, limit)
    active = int(market.config.contacts.active_months * MONTH)
    return Relations(
        visits=walk.visits.join("customer", "order"),
        intervals=walk.intervals.join("customer", "start"),
        cars=cars | {"p_return": _matched(walk.fates, cars)},
        fates=fates,
        years=later_years(walk.years, who, fates, active),
        reminders=walk.reminders.join("customer", "day"),
        returns=join_leads(walk.returns) if walk.returns else None,
    )


def _matched(log: Log, cars: dict[str, np.ndarray]) -> Floats:
    """Return each car's probability that the next is bought here, NaN where not replaced."""
    out = np.full(len(cars["customer"]), np.nan)
    if log.parts:
        known = log.join("customer", "car")
        key = cars["customer"] * 10 + cars["car"]
        order = np.argsort(key)
        at = np.searchsorted(key[order], known["customer"] * 10 + known["car"])
        out[order[at]] = known["p_return"]
    return out


def _fates(state: State, who: Customers, limit: Ints) -> dict[str, np.ndarray]:
    order = np.argsort(state.customer)
    return {
        "customer": state.customer[order],
        "start": state.start[order],
        "by_service": who.by_service[state.place[order]],
        "end": state.end[order],
        "cause": state.cause[order],
        "place": state.place[order],
        "seen": np.maximum(state.visited, state.bought)[order],
        "year": state.year[order],
        "limit": limit[order],
    }
