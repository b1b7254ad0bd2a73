"""The sales funnel: how a lead passes from stage to stage, and when.

P(next stage | this one) = logistic(logit base of its source + skill effect + response-delay effect,
and a bonus for an own customer who returns). Every step of every lead has its probability and its
uniform, also
those never reached, so the truth of any stage rate is a mean of known numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crm_analysis.schema import SOURCES, STAGES, TRAFFIC_KINDS
from synthetic.clock import DAY, next_open_minute
from synthetic.keyed import Flags, Floats, Ints, logistic, logit, place_of
from synthetic.network import Market

STEPS = STAGES[1:8]
"""Steps of the funnel after `new`: contact … delivery."""

N_STEPS = len(STEPS)
CONTRACT, DELIVERY = STEPS.index("contract") + 1, STEPS.index("delivery") + 1
"""Number of steps passed by a lead with a contract, and by one with a delivery."""

MEAN_OFF = 0.235
"""Mean discount offered, of the greatest one."""

_VISIT, _CALL, _WEB_LEAD, _CHAT = range(len(TRAFFIC_KINDS))
_KIND_SHARES = {
    "walk_in": (1.0, 0.0, 0.0, 0.0),
    "phone": (0.0, 1.0, 0.0, 0.0),
    "web": (0.0, 0.0, 0.75, 0.25),
    "classifieds": (0.0, 0.55, 0.45, 0.0),
    "referral": (0.2, 0.6, 0.2, 0.0),
    "service_drive": (0.7, 0.3, 0.0, 0.0),
    "outdoor": (0.2, 0.8, 0.0, 0.0),
}


@dataclass(frozen=True)
class Leads:
    """Opportunities at the moment they open; arrays of shape (n,).

    `opened` is in minutes since 1970, `source` and `kind` are positions in `SOURCES` and
    `TRAFFIC_KINDS`, `manager` is an employee_id and `seat` the manager's seat.
    """

    ids: Ints
    customer: Ints
    dealership: Ints
    source: Ints
    kind: Ints
    opened: Ints
    seat: Ints
    manager: Ints
    returning: Flags

    def take(self, where: Ints | Flags) -> Leads:
        """Return the leads at some positions."""
        return Leads(*(getattr(self, name)[where] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Paths:
    """What becomes of leads, whether or not the CRM has seen it yet.

    Attributes
    ----------
    probability, uniform : numpy arrays, shape (n, 7)
        A step is passed when its uniform is below its probability and all before it were passed.
    at : numpy array, shape (n, 8)
        Minute of `new` and of each step, as if it were passed.
    passed : numpy array, shape (n,)
        Number of steps passed, 7 = delivered.
    lost_at : numpy array, shape (n,)
        Minute the lead is closed as lost, were it not delivered.
    answered : numpy array, shape (n,)
        Somebody responded.
    """

    probability: Floats
    uniform: Floats
    at: Ints
    passed: Ints
    lost_at: Ints
    answered: Flags

    def take(self, where: Ints | Flags) -> Paths:
        """Return the paths at some positions."""
        return Paths(*(getattr(self, name)[where] for name in self.__dataclass_fields__))

    @property
    def won(self) -> Flags:
        """Return which leads end in a delivery."""
        return np.asarray(self.passed == N_STEPS)

    @property
    def closed_at(self) -> Ints:
        """Return the minute of delivery or loss."""
        return np.where(self.won, self.at[:, -1], self.lost_at)


def discount_share(market: Market, ids: Ints) -> Floats:
    """Return the discount each opportunity is offered, of the list price."""
    money = market.config.money
    uniform = market.draws.uniform("deal.discount@1", ids)
    off = (1 - (1 - uniform) ** (1 / money.discount_b)) ** (1 / money.discount_a)
    share = np.minimum(money.discount_most * off, money.discount_cap)
    return np.asarray(np.round(share, 9), dtype=np.float64)


def draw_kind(market: Market, source: Ints, ids: Ints) -> Ints:
    """Draw how each lead comes: a visit, a call, a web lead or a chat."""
    edges = np.cumsum([_KIND_SHARES[name] for name in SOURCES], axis=1)
    return place_of(market.draws.uniform("lead.kind@1", ids), edges[:, :-1], source)


def make_leads(
    market: Market,
    ids: Ints,
    customer: Ints,
    dealership: Ints,
    source: Ints,
    day: Ints,
    returning: Flags,
) -> Leads:
    """Open leads: draw the way they come, the minute, and (blind to skill) a manager."""
    draws = market.draws
    kind = draw_kind(market, source, ids)
    online = (kind == _WEB_LEAD) | (kind == _CHAT)
    within = draws.uniform("lead.minute@1", ids)
    minute = np.where(online, 480 + np.floor(within * 930), 540 + np.floor(within * 600))
    seat = draws.integer("lead.seat@1", market.staff.seats("manager"), ids)
    return Leads(
        ids=ids,
        customer=customer,
        dealership=dealership,
        source=source,
        kind=kind,
        opened=day * DAY + minute.astype(np.int64),
        seat=seat,
        manager=market.staff.holder("manager", dealership, seat, day),
        returning=returning,
    )


def _response(market: Market, leads: Leads) -> tuple[Ints, Flags]:
    """Draw minutes to the first response, and whether anybody responds."""
    draws, funnel = market.draws, market.config.funnel
    slow = np.exp(
        np.log(funnel.delay_median) + funnel.delay_sigma * draws.normal("lead.delay@1", leads.ids)
    )
    quick = 4.0 * draws.erlang("lead.quick@1", 2, leads.ids)
    online = (leads.kind == _WEB_LEAD) | (leads.kind == _CHAT)
    load = market.advertising.load_on(leads.dealership, leads.opened // DAY)
    slow *= load**funnel.delay_load
    minutes = np.where(online, np.minimum(slow, funnel.response_within), quick)
    never = draws.chance("lead.unanswered@1", funnel.never_answered, leads.ids)
    never &= ~draws.chance("lead.rescued@1", funnel.rescued, leads.ids)
    return np.floor(minutes).astype(np.int64), ~never | (leads.kind == _VISIT)


def _probabilities(market: Market, leads: Leads, delay: Ints, answered: Flags) -> Floats:
    funnel, base = market.config.funnel, dict(market.config.funnel.passing)
    table = np.array([(*base[name], funnel.delivered) for name in SOURCES])
    chosen = table[leads.source]
    remote = leads.kind != _VISIT
    contact = np.where(remote, chosen[:, 0] / (1 - funnel.never_answered), chosen[:, 0])
    chosen = np.column_stack([np.minimum(contact, 0.999), chosen[:, 1:]])
    online = (leads.kind == _WEB_LEAD) | (leads.kind == _CHAT)
    doublings = np.log2(np.maximum(delay, 5) / 5) - np.log2(funnel.delay_median / 5)
    score = logit(chosen)
    score[:, 1] += np.where(online, funnel.delay_effect * doublings, 0.0)
    score += np.outer(market.staff.skill[leads.manager], funnel.skill_effect)
    off = discount_share(market, leads.ids) - market.config.money.discount_most * MEAN_OFF
    score[:, CONTRACT - 1] += funnel.discount_effect * off
    score[:, :-1] += funnel.return_bonus * leads.returning[:, None]
    out = logistic(score)
    out[:, 0] *= answered
    return out


def _times(market: Market, leads: Leads, delay: Ints) -> Ints:
    draws, funnel = market.draws, market.config.funnel
    at = np.empty((len(leads.ids), N_STEPS + 1), dtype=np.int64)
    at[:, 0] = leads.opened
    here = leads.source == 0
    for step in range(N_STEPS):
        length = draws.erlang("lead.duration@1", 2, leads.ids, step) * funnel.days[step] * DAY
        minutes = delay if step == 0 else np.floor(length).astype(np.int64)
        if step in (1, 2):
            minutes = np.where(here, 0, minutes)
        hour = draws.uniform("lead.hour@1", leads.ids, step)
        at[:, step + 1] = next_open_minute(at[:, step] + minutes, hour)
    return at


def run_funnel(market: Market, leads: Leads) -> Paths:
    """Carry leads through the funnel."""
    draws, funnel = market.draws, market.config.funnel
    delay, answered = _response(market, leads)
    probability = _probabilities(market, leads, delay, answered)
    uniform = draws.uniform("lead.step@1", leads.ids[:, None], np.arange(N_STEPS)[None, :])
    passed = np.cumprod(uniform < probability, axis=1).sum(axis=1)
    at = _times(market, leads, delay)
    waiting = draws.erlang("lead.loss@1", 2, leads.ids) * funnel.days_to_loss * DAY
    last = np.take_along_axis(at, passed[:, None], axis=1)[:, 0]
    lost = next_open_minute(
        last + 1 + np.floor(waiting).astype(np.int64), draws.uniform("lead.loss_hour@1", leads.ids)
    )
    return Paths(probability, uniform, at, passed, lost, answered)


def join_leads(parts: list[tuple[Leads, Paths]]) -> tuple[Leads, Paths]:
    """Put leads and their paths together, in order of opportunity_id."""
    order = np.argsort(np.concatenate([leads.ids for leads, _ in parts]), kind="stable")
    leads = {
        n: np.concatenate([getattr(one, n) for one, _ in parts])[order]
        for n in Leads.__dataclass_fields__
    }
    paths = {
        n: np.concatenate([getattr(one, n) for _, one in parts])[order]
        for n in Paths.__dataclass_fields__
    }
    return Leads(**leads), Paths(**paths)
