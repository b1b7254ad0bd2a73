"""The sales funnel: how a lead passes from stage to stage, and when.

P(next stage | this one) = logistic(logit base of its source + skill effect + response-delay effect,
and a bonus for an own customer who returns). Every step of every lead has its probability and its
uniform, also
those never reached, so the truth of any stage rate is a mean of known numbers.

The test drive is optional, and chosen: whoever came to the showroom takes one the more likely, the
more they mean to buy (a latent intent, standard normal), and intent also raises the chances of an
offer and of a contract. So most of the difference between those who drove and those who did not is
selection; what the drive itself adds is a setting, and `Paths` holds each lead's chance of a
contract with and without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from crm_analysis.schema import SOURCES, STAGES, TRAFFIC_KINDS
from synthetic.clock import DAY, next_open_minute
from synthetic.config import FunnelSettings
from synthetic.keyed import Flags, Floats, Ints, logistic, logit, place_of
from synthetic.network import Market

STEPS = STAGES[1:8]
"""Steps of the funnel after `new`: contact … delivery."""

N_STEPS = len(STEPS)
CONTRACT, DELIVERY = STEPS.index("contract") + 1, STEPS.index("delivery") + 1
"""Number of steps passed by a lead with a contract, and by one with a delivery."""

VISIT, TEST_DRIVE, OFFER = (STEPS.index(name) for name in ("visit", "test_drive", "offer"))
"""Places of those steps among `STEPS`."""

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

    def take(self, where: Ints | Flags | slice) -> Leads:
        """Return the leads at some positions."""
        return Leads(*(getattr(self, name)[where] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Odds:
    """How likely leads are to pass each step, and what decides; no time is drawn yet.

    `delay` is in minutes to the first response; all others are as `Paths` has them.
    """

    delay: Ints
    answered: Flags
    intent: Floats
    probability: Floats
    uniform: Floats
    drive: Floats

    def take(self, where: Ints | Flags | slice) -> Odds:
        """Return the odds at some positions."""
        return Odds(*(getattr(self, name)[where] for name in self.__dataclass_fields__))

    @property
    def chance(self) -> Floats:
        """Return the chance that each lead ends in a delivery, from its opening on."""
        return np.asarray(
            _chance_of_contract(self.probability, self.drive) * self.probability[:, -1]
        )


def _chance_of_contract(probability: Floats, drive: Floats) -> Floats:
    without, with_drive = drive.prod(axis=2).T
    drives = probability[:, TEST_DRIVE]
    came = probability[:, : VISIT + 1].prod(axis=1)
    return np.asarray(came * (drives * with_drive + (1 - drives) * without))


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
        The last step passed, counted from one; 7 = delivered.
    skipped : numpy array, shape (n,)
        The offer came without a test drive.
    intent : numpy array, shape (n,)
        How much they mean to buy, standard normal.
    drive : numpy array, shape (n, 2, 2)
        Chances of an offer, and of a contract after it, without and with a test drive:
        ``drive[:, 1, 0]`` is the chance of an offer with one.
    lost_at : numpy array, shape (n,)
        Minute the lead is closed as lost, were it not delivered.
    answered : numpy array, shape (n,)
        Somebody responded.
    """

    probability: Floats
    uniform: Floats
    at: Ints
    passed: Ints
    skipped: Flags
    lost_at: Ints
    answered: Flags
    intent: Floats
    drive: Floats

    def take(self, where: Ints | Flags | slice) -> Paths:
        """Return the paths at some positions."""
        return Paths(*(getattr(self, name)[where] for name in self.__dataclass_fields__))

    @property
    def won(self) -> Flags:
        """Return which leads end in a delivery."""
        return np.asarray(self.passed == N_STEPS)

    @property
    def chance_of_contract(self) -> Floats:
        """Return the chance that each lead ends in a contract, from its opening on."""
        return _chance_of_contract(self.probability, self.drive)

    @property
    def closed_at(self) -> Ints:
        """Return the minute of delivery or loss."""
        return np.where(self.won, self.at[:, -1], self.lost_at)


def discount_share(market: Market, leads: Leads) -> Floats:
    """Return the discount each opportunity is offered, of the list price."""
    money = market.config.money
    uniform = market.draws.uniform("deal.discount@1", leads.ids)
    off = (1 - (1 - uniform) ** (1 / money.discount_b)) ** (1 / money.discount_a)
    cap = rule_of(market, "money.discount_cap", leads)
    return np.asarray(np.round(np.minimum(money.discount_most * off, cap), 9), dtype=np.float64)


def rule_of(market: Market, name: str, leads: Leads) -> Any:
    """Return a setting as it applies to each lead on the day it opens."""
    return market.rollout.rule(name, leads.customer, leads.dealership, leads.opened // DAY)


def price_sensitivity(market: Market, customer: Ints) -> Floats:
    """Return how much prices weigh with each customer: lognormal, mean one."""
    spread = market.config.latent.price_sd
    normal = market.draws.normal("customer.price@1", customer)
    return np.asarray(np.round(np.exp(spread * normal - spread**2 / 2), 9))


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
    within = rule_of(market, "funnel.response_within", leads)
    minutes = np.where(online, np.minimum(slow, within), quick)
    never = draws.chance("lead.unanswered@1", funnel.never_answered, leads.ids)
    rescued = rule_of(market, "funnel.rescued", leads)
    never &= ~draws.chance("lead.rescued@1", rescued, leads.ids)
    return np.floor(minutes).astype(np.int64), ~never | (leads.kind == _VISIT)


def _scores(market: Market, leads: Leads, delay: Ints, intent: Floats) -> Floats:
    """Return the logit of each step, those after a visit as if a test drive was taken."""
    funnel, base = market.config.funnel, step_logits(market.config.funnel)
    score = base[np.where(leads.kind == _VISIT, 0, 1), leads.source]
    online = (leads.kind == _WEB_LEAD) | (leads.kind == _CHAT)
    doublings = np.log2(np.maximum(delay, 5) / 5) - np.log2(funnel.delay_median / 5)
    score[:, 1] += np.where(online, funnel.delay_effect * doublings, 0.0)
    score += np.outer(market.staff.skill[leads.manager], funnel.skill_effect)
    off = discount_share(market, leads) - market.config.money.discount_most * MEAN_OFF
    score[:, CONTRACT - 1] += (
        funnel.discount_effect * price_sensitivity(market, leads.customer) * off
    )
    score[:, TEST_DRIVE:CONTRACT] += np.outer(intent, funnel.intent_effect)
    score[:, :-1] += funnel.return_bonus * leads.returning[:, None]
    return score


@cache
def step_logits(funnel: FunnelSettings) -> Floats:
    """Return the logit of each step at mean skill and zero intent, shape (2, sources, steps).

    First for visits, then for approaches from afar, of which nobody answers a share. The steps
    that intent acts on are solved so that their means over leads are the rates configured.
    """
    base = dict(funnel.passing)
    table = np.array([(*base[name], funnel.delivered) for name in SOURCES])
    for source in range(len(SOURCES)):
        table[source, TEST_DRIVE:CONTRACT] = logistic(_centred(funnel, table[source]))
    far = table.copy()
    far[:, 0] /= 1 - funnel.never_answered
    out = logit(np.clip(np.stack([table, far]), 1e-6, 1 - 1e-6))
    out[:, :, 0] = np.minimum(out[:, :, 0], logit(0.999))
    out = np.round(out, 9)
    out.setflags(write=False)
    return np.asarray(out)


def _centred(funnel: FunnelSettings, rates: Floats) -> Floats:
    """Return the logits of test drive, offer and contract at zero intent, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    shift = np.outer(funnel.intent_effect, nodes)
    lost = funnel.test_drive_effect
    drive = solved(weights, shift[:1], rates[TEST_DRIVE])
    drives = weights * logistic(drive + shift[0])
    offer = solved(drives, shift[1:2], rates[OFFER])
    ways = (drives * logistic(offer + shift[1]),
            (weights - drives) * logistic(offer + shift[1] - lost[0]))  # fmt: skip
    shifts = np.concatenate([shift[2], shift[2] - lost[1]])
    contract = solved(np.concatenate(ways), shifts, rates[CONTRACT - 1])
    return np.array([drive, offer, contract])


def solved(weights: Floats, shifts: Floats, rate: float) -> float:
    """Return the logit at which the weighted mean of logistic(logit + shift) is a rate.

    Examples
    --------
    >>> abs(round(solved(np.ones(2), np.array([-1.0, 1.0]), 0.5), 6))
    0.0
    """
    low, high = -30.0, 30.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        mean = float((weights * logistic(middle + np.ravel(shifts))).sum() / weights.sum())
        low, high = (middle, high) if mean < rate else (low, middle)
    return (low + high) / 2


_NODES, _HALVINGS = 41, 60
"""Points of the quadrature over intent, and halvings of the interval searched."""


def _chances(
    market: Market, leads: Leads, delay: Ints, answered: Flags, intent: Floats
) -> tuple[Floats, Floats]:
    """Return the chance of each step with a test drive, and `Paths.drive`."""
    score = _scores(market, leads, delay, intent)
    without = score[:, OFFER:CONTRACT] - np.array(market.config.funnel.test_drive_effect)
    out = logistic(score)
    out[:, 0] *= answered
    return out, np.stack([logistic(without), out[:, OFFER:CONTRACT]], axis=1)


def _last_passed(below: Flags, skips: Flags) -> tuple[Ints, Flags]:
    """Return the last step each lead passes, and whether an offer came without a test drive.

    `below` says of each step whether its uniform is below its chance.
    """
    came = np.cumprod(below[:, : VISIT + 1], axis=1).sum(axis=1)
    later = np.cumprod(below[:, OFFER:], axis=1).sum(axis=1)
    inside = came == VISIT + 1
    reached = np.where(later > 0, OFFER + later, VISIT + 1 + ~skips)
    return np.where(inside, reached, came), inside & skips & (later > 0)


def _times(market: Market, leads: Leads, delay: Ints) -> Ints:
    draws, funnel, steps = market.draws, market.config.funnel, np.arange(N_STEPS)[:, None]
    lengths = draws.erlang("lead.duration@1", 2, leads.ids[None, :], steps)
    hours = draws.uniform("lead.hour@1", leads.ids[None, :], steps)
    at = np.empty((len(leads.ids), N_STEPS + 1), dtype=np.int64)
    at[:, 0] = leads.opened
    here = leads.source == 0
    for step in range(N_STEPS):
        length = lengths[step] * funnel.days[step] * DAY
        minutes = delay if step == 0 else np.floor(length).astype(np.int64)
        if step in (1, 2):
            minutes = np.where(here, 0, minutes)
        at[:, step + 1] = next_open_minute(at[:, step] + minutes, hours[step])
    return at


def funnel_odds(market: Market, leads: Leads) -> Odds:
    """Return how likely leads are to pass each step, and draw what decides."""
    draws = market.draws
    delay, answered = _response(market, leads)
    intent = draws.normal("lead.intent@1", leads.ids)
    probability, drive = _chances(market, leads, delay, answered, intent)
    uniform = draws.uniform("lead.step@1", leads.ids[:, None], np.arange(N_STEPS)[None, :])
    drives = uniform[:, TEST_DRIVE] < probability[:, TEST_DRIVE]
    probability[:, OFFER:CONTRACT] = np.where(drives[:, None], drive[:, 1], drive[:, 0])
    return Odds(delay, answered, intent, probability, uniform, drive)


def run_funnel(market: Market, leads: Leads, odds: Odds | None = None) -> Paths:
    """Carry leads through the funnel; `odds` are theirs, where they are known already."""
    draws, funnel = market.draws, market.config.funnel
    odds = odds or funnel_odds(market, leads)
    drives = odds.uniform[:, TEST_DRIVE] < odds.probability[:, TEST_DRIVE]
    passed, skipped = _last_passed(odds.uniform < odds.probability, ~drives)
    at = _times(market, leads, odds.delay)
    waiting = draws.erlang("lead.loss@1", 2, leads.ids) * funnel.days_to_loss * DAY
    last = np.take_along_axis(at, passed[:, None], axis=1)[:, 0]
    lost = next_open_minute(
        last + 1 + np.floor(waiting).astype(np.int64), draws.uniform("lead.loss_hour@1", leads.ids)
    )
    return Paths(
        odds.probability, odds.uniform, at, passed, skipped, lost, odds.answered, odds.intent,
        odds.drive,
    )  # fmt: skip


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
