"""Advertising: staggered campaigns with a random holdout, and the intensity of leads they make.

Leads arrive with intensity base(d, t) · exp(-bad word of mouth) · (1 + lift(d, t)), where
lift = alpha A / (A + h) and A_t = x_t + theta A_{t-1} is the adstock of spend x (1 = usual). Each
lead carries a thinning uniform u: it comes without the campaign too if and only if
u < 1 / (1 + lift), so the leads that advertising brought are named rows. One campaign at a time has
a dealership's attention: the next one starts with an empty memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from crm_analysis.schema import ADVERTISING, AUDIENCES, SOURCES
from synthetic.clock import YEAR, dates, day_of, month_of, weekday_of, year_of
from synthetic.config import Config
from synthetic.keyed import Flags, Floats, Ints, Keyed, normal_below

_SOURCE_OF = np.array(
    [SOURCES.index(name) for name in ("web", "web", "classifieds", "outdoor", "phone")]
)
_THOUSAND_SHOWN = np.array([0.9, 0.25, 0.6, 0.12, 0.2])
_CLICKED = np.array([0.035, 0.008, 0.02, 0.0, 0.0])
"""Source of the leads that each channel brings, cost of a thousand impressions against 400 roubles
or 8 dollars, and the share of impressions followed [assumed]."""

_SALES_AT_ONCE, _SALES_A_YEAR = 0.15, 0.006
DISSATISFIED = -0.7
ROOM = 1000
_FORGOTTEN = 0.05
"""Sales a first lead, and those that each year of a world adds by customers who return (solved on
`tiny` and `medium`), the satisfaction below which customers speak badly, places for dealerships in
a campaign's number, and the adstock below which advertising is forgotten."""


@dataclass(frozen=True)
class Advertising:
    """Campaigns and what they do to the intensity of leads; day 0 is the world's first.

    Attributes
    ----------
    first_day : day number of the first column.
    starts, ends : day of each wave at each dealership, shape (n_waves, n_dealerships).
    held_out : shape (n_waves, n_dealerships).
    channel, audience : codes of each wave, shape (n_waves,).
    spend : spend in units of the usual day, shape (n_dealerships, n_days).
    current : wave that has the dealership's attention, -1 = none; same shape.
    base, lift, suppression : expected leads a day, lift and thinning; same shape.
    load : expected leads of the last seven days against their mean; same shape.
    share_edges : cumulative share of the dealerships in all leads.
    edges : cumulative share of the days in each dealership's leads, plus its position; flat.
    """

    first_day: int
    starts: Ints
    ends: Ints
    held_out: Flags
    channel: Ints
    audience: Ints
    spend: Floats
    current: Ints
    base: Floats
    lift: Floats
    suppression: Floats
    load: Floats
    share_edges: Floats
    edges: Floats

    @property
    def last_day(self) -> int:
        """Return the world's last day."""
        return self.first_day + int(self.base.shape[1]) - 1

    def arrival(self, dealership: Ints, uniform: Floats) -> Ints:
        """Return the day on which leads of each dealership arrive."""
        n_days = self.base.shape[1]
        place = np.searchsorted(self.edges, uniform + dealership) - dealership * n_days
        return np.asarray(self.first_day + np.clip(place, 0, n_days - 1))

    def load_on(self, dealership: Ints, day: Ints) -> Floats:
        """Return the load on each day, one outside the world."""
        column = day - self.first_day
        inside = (column >= 0) & (column < self.load.shape[1])
        return np.where(inside, self.load[dealership, np.where(inside, column, 0)], 1.0)

    def lift_on(self, dealership: Ints, day: Ints) -> Floats:
        """Return the lift on each day."""
        return np.asarray(self.lift[dealership, day - self.first_day])

    def wave_on(self, dealership: Ints, day: Ints) -> Ints:
        """Return the wave that has each dealership's attention on each day, -1 = none."""
        return np.asarray(self.current[dealership, day - self.first_day])

    def source_of(self, wave: Ints) -> Ints:
        """Return the source of the leads that each wave brings."""
        return np.asarray(_SOURCE_OF[self.channel[wave]])

    def runs_on(self, wave: Ints, dealership: Ints, day: Ints) -> Flags:
        """Say whether each wave is running, and not only remembered, on each day."""
        known = np.maximum(wave, 0)
        return np.asarray((wave >= 0) & (day <= self.ends[known, dealership]))


def campaign_id(wave: Ints, dealership: Ints) -> Ints:
    """Return the number of a wave at a dealership, by their positions."""
    return np.asarray((wave + 1) * ROOM + dealership + 1)


def sales_a_lead(config: Config) -> float:
    """Return the contracts a first lead that a world of its length has, returns included."""
    years = (day_of(config.ends_on) - day_of(config.starts_on)) / YEAR
    return _SALES_AT_ONCE + _SALES_A_YEAR * years


def lead_weights(config: Config) -> Floats:
    """Return the calendar of first leads, by day of the world: market, season and weekday."""
    days = np.arange(day_of(config.starts_on), day_of(config.ends_on) + 1)
    traffic = config.traffic
    market = np.interp(year_of(days), *np.array(traffic.market_by_year).T)
    season = np.array(traffic.month)[month_of(days) % 12]
    weekday = np.array(traffic.weekday)
    return np.asarray(market * season * weekday[weekday_of(days)] / _month_weight(days, weekday))


def _month_weight(days: Ints, weekday: Floats) -> Floats:
    """Return the weekdays' weight of the whole month of each day.

    A published month index is of the month's total: a short month is not a weak one.
    """
    month = month_of(days)
    first, last = int(month[0]), int(month[-1]) + 1
    ends = np.arange(first, last + 1).astype("datetime64[M]").astype("datetime64[D]")
    edges = ends.astype(np.int64)
    every = np.arange(edges[0], edges[-1])
    total = np.add.reduceat(weekday[weekday_of(every)], edges[:-1] - edges[0])
    return np.asarray(total[month - first])


def plan_advertising(
    config: Config, draws: Keyed, weight: Floats, level: Floats, first_month: int
) -> Advertising:
    """Draw the campaigns of a world and work out the intensity of its leads.

    `weight` is the size of each dealership and `level` its satisfaction by month.
    """
    rules, n = config.campaigns, len(weight)
    first, calendar = day_of(config.starts_on), lead_weights(config)
    days = np.arange(first, first + len(calendar))
    waves = np.arange(max(int(np.ceil(len(days) / 365.25 * rules.a_year)), 1))
    step = 365.25 / max(rules.a_year, 1)
    jitter = draws.uniform("campaign.start@1", waves)
    begins = first + np.floor((waves + 0.15 * jitter) * step).astype(np.int64)
    key = waves[:, None] * ROOM + np.arange(n)[None, :]
    starts = begins[:, None] + rules.rollout_days * draws.integer("campaign.rollout@1", 3, key)
    held_out = draws.chance("campaign.held_out@1", rules.holdout_share, key)
    current = _current(starts, held_out, begins, days, running=rules.a_year > 0)
    ends = starts + 7 * rules.weeks - 1
    spend = _spend(config, draws, current, ends, days)
    channel = draws.integer("campaign.channel@1", len(ADVERTISING), waves)
    lift = _lift(config, current, spend, channel)
    suppression = _suppression(config, level, month_of(days) - first_month)
    share = weight / weight.sum() * config.n_customers * (1 - config.traffic.service_share)
    base = share[:, None] * (calendar / calendar.sum())[None, :]
    weights = weight[:, None] * calendar[None, :] * suppression * (1 + lift)
    total = weights.sum(axis=1)
    by_day = np.round(np.cumsum(weights, axis=1) / total[:, None], 13)
    scale = share.sum() / max(float((base * suppression * (1 + lift)).sum()), 1e-9)
    return Advertising(
        first_day=first, starts=starts, ends=ends, held_out=held_out, channel=channel,
        audience=draws.integer("campaign.audience@1", len(AUDIENCES), waves),
        spend=spend, current=current, base=base * scale, lift=lift, suppression=suppression,
        load=_load(weights),
        share_edges=np.round(np.cumsum(total) / total.sum(), 13),
        edges=(by_day + np.arange(n)[:, None]).ravel(),
    )  # fmt: skip


def _current(starts: Ints, held_out: Flags, begins: Ints, days: Ints, *, running: bool) -> Ints:
    """Return the wave that each dealership attends to by day: the last one begun there."""
    out = np.full((starts.shape[1], len(days)), -1, dtype=np.int64)
    if running:
        for wave in range(len(begins)):
            for place in np.flatnonzero(~held_out[wave]):
                out[place, max(starts[wave, place] - days[0], 0) :] = wave
    return out


def _spend(config: Config, draws: Keyed, current: Ints, ends: Ints, days: Ints) -> Floats:
    rules, n = config.campaigns, len(current)
    places = np.arange(n)[:, None]
    noise = draws.normal("campaign.spend@1", places, days[None, :])
    size = np.round(np.exp(rules.spend_sigma * noise - rules.spend_sigma**2 / 2), 6)
    known = np.maximum(current, 0)
    on = (current >= 0) & (days[None, :] <= ends[known, places])
    return np.asarray(np.where(on, size, 0.0))


def _lift(config: Config, current: Ints, spend: Floats, channel: Ints) -> Floats:
    rules, most = config.campaigns, dict(config.campaigns.lift)
    alpha = np.array([most[name] for name in ADVERTISING])[channel][np.maximum(current, 0)]
    stock, out = np.zeros(len(current)), np.zeros_like(spend)
    before = current[:, 0]
    for day in range(spend.shape[1]):
        stock = np.where(current[:, day] == before, rules.memory * stock, 0.0) + spend[:, day]
        before = current[:, day]
        out[:, day] = np.where(stock >= _FORGOTTEN, stock / (stock + rules.half), 0.0)
    return np.asarray(np.round(np.where(current >= 0, alpha * out, 0.0), 9), dtype=np.float64)


def _load(leads: Floats) -> Floats:
    """Return the leads of the last seven days against the dealership's mean."""
    known = np.cumsum(leads, axis=1)
    week = known.copy()
    week[:, 7:] -= known[:, :-7]
    days = np.minimum(np.arange(1, leads.shape[1] + 1), 7)
    mean = leads.mean(axis=1, keepdims=True)
    return np.asarray(np.round(week / days[None, :] / mean, 9), dtype=np.float64)


def _suppression(config: Config, level: Floats, month: Ints) -> Floats:
    """Return how bad word of mouth thins leads, from the share of dissatisfied customers."""
    spread = config.latent.satisfaction_sd
    shown = level[:, np.clip(month, 0, level.shape[1] - 1)]
    share = normal_below((DISSATISFIED - shown) / spread)
    thinned = np.exp(-config.campaigns.bad_word * share)
    return np.asarray(np.round(thinned, 9), dtype=np.float64)


# --- tables --------------------------------------------------------------------------------------


def _usual_spend(config: Config, plan: Advertising) -> Floats:
    """Return the money of a usual day at each dealership, so that a sale costs what it should."""
    rules = config.campaigns
    dollars = config.currency == "USD"
    cost = rules.cost_a_sale_dollars if dollars else rules.cost_a_sale
    sales = sales_a_lead(config) * (plan.base * plan.suppression * (1 + plan.lift)).sum(axis=1)
    return np.asarray(cost * sales / np.maximum(plan.spend.sum(axis=1), 1.0))


def campaign_tables(
    config: Config, plan: Advertising, last_day: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Write campaigns begun by the last day, their days, and their true effects."""
    shown = (plan.starts <= last_day) & bool(config.campaigns.running)
    wave, place = np.nonzero(shown)
    usual = _usual_spend(config, plan)
    days = _campaign_days(config, plan, usual, last_day)
    begins, ends = plan.starts[wave, place], plan.ends[wave, place]
    held_out = plan.held_out[wave, place]
    campaigns = pl.DataFrame(
        {
            "campaign_id": campaign_id(wave, place),
            "dealership_id": place + 1,
            "name": [f"{ADVERTISING[plan.channel[w]]} {w + 1}" for w in wave.tolist()],
            "channel": np.array(ADVERTISING)[plan.channel[wave]],
            "starts_on": dates(begins),
            "ends_on": dates(ends),
            "budget": np.where(held_out, 0, _budget(usual, place, ends - begins + 1)),
            "audience": np.array(AUDIENCES)[plan.audience[wave]],
            "holdout_share": np.full(len(wave), config.campaigns.holdout_share),
            "held_out": held_out,
        }
    )
    return campaigns, days, _effects(config, plan, wave, place)


def _budget(usual: Floats, place: Ints, length: Ints) -> Ints:
    return np.asarray(np.round(usual[place] * length / 10).astype(np.int64) * 10)


def _campaign_days(config: Config, plan: Advertising, usual: Floats, last_day: int) -> pl.DataFrame:
    shown = plan.spend[:, : max(last_day - plan.first_day + 1, 0)] > 0
    shown &= bool(config.campaigns.running)
    place, column = np.nonzero(shown)
    wave = plan.current[place, column]
    money = np.round(plan.spend[place, column] * usual[place]).astype(np.int64)
    price = 8.0 if config.currency == "USD" else 400.0
    channel = plan.channel[wave]
    seen = np.floor(money / (price * _THOUSAND_SHOWN[channel]) * 1000).astype(np.int64)
    return pl.DataFrame(
        {
            "campaign_id": campaign_id(wave, place),
            "day_on": dates(plan.first_day + column),
            "dealership_id": place + 1,
            "spend": money,
            "impressions": seen,
            "clicks": np.floor(seen * _CLICKED[channel]).astype(np.int64),
        }
    ).sort("campaign_id", "day_on")


def _as_if_run(config: Config, plan: Advertising) -> Floats:
    """Return the leads each campaign would bring while it runs, held out or not.

    Days of spend are taken as usual ones, so that it is the effect of the plan.
    """
    rules, n_days = config.campaigns, plan.base.shape[1]
    most = dict(rules.lift)
    alpha = np.array([most[name] for name in ADVERTISING])[plan.channel][:, None]
    leads = plan.base * plan.suppression
    total, stock = np.zeros(plan.starts.shape), 0.0
    for step in range(7 * rules.weeks):
        stock = rules.memory * stock + 1.0
        column = plan.starts - plan.first_day + step
        inside = (column >= 0) & (column < n_days)
        daily = leads[np.arange(len(leads))[None, :], np.clip(column, 0, n_days - 1)]
        total += np.where(inside, daily * alpha * stock / (stock + rules.half), 0.0)
    return total


def _effects(config: Config, plan: Advertising, wave: Ints, place: Ints) -> pl.DataFrame:
    """Work out expected leads that each campaign brings, and the mean effect of its wave."""
    planned = _as_if_run(config, plan)
    treated = ~plan.held_out
    on_treated = (planned * treated).sum(axis=1) / np.maximum(treated.sum(axis=1), 1)
    leads = plan.base * plan.suppression
    brought = leads * plan.lift
    at = np.maximum(plan.current, 0) * len(leads) + np.arange(len(leads))[:, None]
    size = len(plan.starts) * len(leads)
    known = (plan.current >= 0) & (plan.lift > 0)
    totals = [
        np.bincount(at[known], weights=values[known], minlength=size).reshape(-1, len(leads))
        for values in (leads, brought)
    ]
    with np.errstate(invalid="ignore"):
        mean_lift = np.where(totals[0] > 0, totals[1] / totals[0], 0.0)
    return pl.DataFrame(
        {
            "campaign_id": campaign_id(wave, place),
            "leads_without": totals[0][wave, place],
            "leads_brought": totals[1][wave, place],
            "mean_lift": mean_lift[wave, place],
            "effect": planned[wave, place],
            "effect_average": planned.mean(axis=1)[wave],
            "effect_treated": on_treated[wave],
        }
    )


def intensity_table(config: Config, plan: Advertising) -> pl.DataFrame:
    """Write the intensity of leads by dealership and day."""
    n, n_days = plan.base.shape
    day = plan.first_day + np.arange(n_days)
    return pl.DataFrame(
        {
            "dealership_id": np.repeat(np.arange(1, n + 1), n_days),
            "day_on": dates(np.tile(day, n)),
            "base": plan.base.ravel(),
            "lift": plan.lift.ravel() * config.campaigns.running,
            "suppression": plan.suppression.ravel(),
            "load": plan.load.ravel(),
        }
    )
