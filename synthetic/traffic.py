"""Traffic: every approach to a dealership, with and without a name."""

from __future__ import annotations

import numpy as np
import polars as pl

from crm_analysis.schema import OUTCOMES, SOURCES, TRAFFIC_KINDS
from synthetic.campaigns import campaign_id
from synthetic.clock import DAY, chosen, day_of, masked, minute_in_hours, moments
from synthetic.customers import Customers, source_edges
from synthetic.funnel import Leads, Paths, draw_kind
from synthetic.keyed import Flags, Floats, Ints
from synthetic.network import Market

MOST_ANONYMOUS = 8
_OPPORTUNITY, _UNANSWERED = (OUTCOMES.index(name) for name in ("opportunity", "unanswered"))


def entry_lag(market: Market, field: str, ids: Ints, employee: Ints, event: Ints | int = 0) -> Ints:
    """Draw minutes between an event and its record, typed in by an employee."""
    rules = market.config.contacts
    normal = market.draws.normal(field, ids, event)
    lag = rules.entry_median * np.exp(rules.entry_sigma * normal)
    lag *= market.staff.slowness[employee]
    return np.asarray(np.floor(np.minimum(lag, 20 * DAY)), dtype=np.int64)


def _who_answers(market: Market, dealership: Ints, kind: Ints, day: Ints) -> Ints:
    seat = np.zeros_like(day)
    desk = market.staff.holder("receptionist", dealership, seat, day)
    phone = market.staff.holder("call_centre", dealership, seat, day)
    return np.where(kind == TRAFFIC_KINDS.index("visit"), desk, phone)


def credited_campaign(market: Market, who: Customers, leads: Leads) -> tuple[Ints, Flags]:
    """Return the campaign each lead is credited to, rightly or not, and whether to any."""
    rules, plan = market.config.campaigns, market.advertising
    place = np.searchsorted(who.ids, leads.customer)
    day, first = leads.opened // DAY, leads.ids % 10 == 0
    brought = who.incremental[place] & first
    wave = plan.wave_on(leads.dealership, np.minimum(day, plan.last_day))
    alike = plan.source_of(np.maximum(wave, 0)) == leads.source
    running = plan.runs_on(wave, leads.dealership, day) & alike & ~brought
    uniform = market.draws.uniform("traffic.credit@1", leads.ids)
    known = (brought & (uniform < rules.credited)) | (running & (uniform < rules.miscredited))
    return campaign_id(wave, leads.dealership), known & bool(market.config.campaigns.running)


def lead_traffic(market: Market, who: Customers, leads: Leads, paths: Paths) -> pl.DataFrame:
    """Write the approach that opened each lead."""
    handled = paths.at[:, 1]
    answered = paths.answered
    employee = _who_answers(market, leads.dealership, leads.kind, handled // DAY)
    return pl.DataFrame(
        {
            "traffic_id": leads.customer * 20 + leads.ids % 10,
            "dealership_id": leads.dealership + 1,
            "minute": leads.opened,
            "kind": chosen(TRAFFIC_KINDS, leads.kind),
            "source": chosen(SOURCES, leads.source),
            "campaign_id": masked(*credited_campaign(market, who, leads)),
            "customer_id": leads.customer,
            "handled_by": masked(employee, answered),
            "handled_at": moments(handled, answered),
            "outcome": chosen(OUTCOMES, np.where(answered, _OPPORTUNITY, _UNANSWERED)),
            "entered_at": moments(
                leads.opened + entry_lag(market, "traffic.entry@1", leads.ids, employee)
            ),
        }
    )


def anonymous_traffic(market: Market, who: Customers, edges: tuple[Floats, Floats]) -> pl.DataFrame:
    """Write approaches that left no name, a few for each customer who came as a lead."""
    draws, mean = market.draws, market.config.traffic.anonymous_per_lead
    counts = draws.poisson("anonymous.count@1", mean, MOST_ANONYMOUS, who.ids)
    counts = np.where(who.by_service, 0, counts)
    customer = np.repeat(who.ids, counts)
    turn = np.arange(len(customer)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = customer * 20 + 10 + turn
    dealership = np.repeat(who.dealership, counts)
    place = draws.uniform("anonymous.day@1", ids)
    day = day_of(market.config.starts_on) + np.searchsorted(edges[0], place)
    shares = source_edges(market.config, day)
    source = (draws.uniform("anonymous.source@1", ids)[:, None] >= shares[:, :-1]).sum(axis=1)
    kind = draw_kind(market, source, ids)
    minute = minute_in_hours(day, draws.uniform("anonymous.minute@1", ids))
    outcome = 1 + np.digitize(draws.uniform("anonymous.outcome@1", ids), [0.6, 0.85])
    answered = outcome != _UNANSWERED
    handled = minute + draws.integer("anonymous.handled@1", 15, ids)
    employee = _who_answers(market, dealership, kind, day)
    return pl.DataFrame(
        {
            "traffic_id": ids,
            "dealership_id": dealership + 1,
            "minute": minute,
            "kind": chosen(TRAFFIC_KINDS, kind),
            "source": chosen(SOURCES, source),
            "campaign_id": pl.Series([None] * len(ids), dtype=pl.Int64),
            "customer_id": pl.Series([None] * len(ids), dtype=pl.Int64),
            "handled_by": masked(employee, answered),
            "handled_at": moments(handled, answered),
            "outcome": chosen(OUTCOMES, outcome),
            "entered_at": moments(minute + entry_lag(market, "traffic.entry@1", ids, employee)),
        }
    )


def traffic_table(parts: list[pl.DataFrame], end: int) -> pl.DataFrame:
    """Join the approaches that the CRM has seen before minute `end`."""
    whole = (
        pl.concat(parts, how="vertical_relaxed").filter(pl.col("minute") < end).sort("traffic_id")
    )
    at = pl.from_epoch(pl.col("minute") * 60, time_unit="s").cast(pl.Datetime("us"))
    limit = pl.from_epoch(pl.lit(end * 60), time_unit="s").cast(pl.Datetime("us"))
    seen = pl.col("handled_at") < limit
    return whole.with_columns(
        at.alias("happened_at"),
        pl.when(seen).then("handled_by").alias("handled_by"),
        pl.when(seen).then("handled_at").alias("handled_at"),
        pl.when(seen | pl.col("handled_at").is_null())
        .then("outcome")
        .otherwise(pl.lit("unanswered", dtype=pl.Enum(OUTCOMES)))
        .alias("outcome"),
        pl.min_horizontal("entered_at", limit - pl.duration(minutes=1)).alias("entered_at"),
    )
