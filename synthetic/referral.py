"""Word of mouth: whom customers tell, and which of them sent each lead that came by referral.

A referred lead asks, in turn, earlier customers drawn at random; the first of its own dealership
whose relationship had begun, who speaks well, and who wins a draw in proportion to the people they
told, is the referrer. So the chance of having sent a lead is in proportion to the telling, and it
depends on earlier customers only: a larger world leaves it as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from crm_analysis.schema import SOURCES
from synthetic.clock import DAY
from synthetic.customers import Customers, home_dealership, make_customers
from synthetic.funnel import Leads, Paths, make_leads, run_funnel
from synthetic.keyed import Flags, Floats, Ints
from synthetic.network import Market
from synthetic.relation import satisfaction_after_sale

_REFERRAL = SOURCES.index("referral")
_MOST_TOLD = 24
MOST_ASKED = 512
"""Customers looked at, at most, to find those of a lead's dealership."""


@dataclass(frozen=True)
class Beginnings:
    """How relationships begin, for those who have one; arrays of shape (n,)."""

    customer: Ints
    start: Ints
    satisfaction: Floats
    speaks_well: Flags
    told: Ints


def first_leads(market: Market, who: Customers) -> tuple[Leads, Paths]:
    """Open the first lead of everyone who does not first come to the workshop."""
    came = ~who.by_service
    ids = who.ids[came]
    leads = make_leads(
        market,
        ids * 10,
        ids,
        who.dealership[came],
        who.source[came],
        who.arrival[came],
        np.zeros(len(ids), dtype=np.bool_),
    )
    return leads, run_funnel(market, leads)


def relation_beginnings(market: Market, who: Customers, leads: Leads, paths: Paths) -> Beginnings:
    """Return when each relationship begins, with what satisfaction, and how many are told."""
    won = np.flatnonzero(paths.won)
    bought = leads.take(won)
    buyers, guests = np.searchsorted(who.ids, bought.customer), np.flatnonzero(who.by_service)
    day = paths.at[won, -1] // DAY
    level = market.satisfaction_level(who.dealership[guests], who.arrival[guests])
    place = np.concatenate([buyers, guests])
    order = np.argsort(place)
    felt = np.concatenate(
        [
            satisfaction_after_sale(market, who, bought, buyers, day),
            who.satisfaction[guests] + level,
        ]
    )[order]
    customer = who.ids[place[order]]
    rules, draws = market.config.word_of_mouth, market.draws
    well = felt > rules.satisfied_above
    good = draws.poisson("word.told@1", rules.tells, _MOST_TOLD, customer)
    bad = rules.tells_bad + draws.poisson(
        "word.told_bad@1", rules.tells_bad_more, _MOST_TOLD, customer
    )
    start = np.concatenate([day, who.arrival[guests]])[order]
    return Beginnings(customer, start, felt, well, np.where(well, good, bad))


def tell_truth(begun: Beginnings) -> pl.DataFrame:
    """Write whom each customer tells."""
    return pl.DataFrame(
        {
            "customer_id": begun.customer,
            "satisfaction": begun.satisfaction,
            "speaks_well": begun.speaks_well,
            "told": begun.told,
        }
    )


def referral_truth(
    market: Market, who: Customers, edges: tuple[Floats, Floats], shown: Ints
) -> pl.DataFrame:
    """Write who sent each customer shown who came by referral."""
    came = shown[(who.source[shown] == _REFERRAL) & ~who.by_service[shown]]
    customer = who.ids[came]
    row, asked = _asked(market, customer, who.dealership[came])
    known = make_customers(market, np.unique(asked), edges)
    begun = relation_beginnings(market, known, *first_leads(market, known))
    at = np.searchsorted(begun.customer, asked).clip(max=max(len(begun.customer) - 1, 0))
    if len(begun.customer):
        wins = market.draws.uniform("referral.wins@1", customer[row], asked) * _MOST_TOLD / 2
        fits = (begun.customer[at] == asked) & (begun.start[at] < who.arrival[came][row])
        fits &= begun.speaks_well[at] & (wins < begun.told[at])
    else:
        fits = np.zeros(len(row), dtype=np.bool_)
    sender = np.zeros(len(customer), dtype=np.int64)
    first = np.flatnonzero(fits)[::-1]
    sender[row[first]] = asked[first]
    frame = pl.DataFrame({"customer_id": customer, "referrer_id": sender})
    return frame.with_columns(
        pl.when(pl.col("referrer_id") > 0).then("referrer_id").alias("referrer_id")
    )


def _asked(market: Market, customer: Ints, dealership: Ints) -> tuple[Ints, Ints]:
    """Draw earlier customers for each referred one, and keep those of the same dealership."""
    config = market.config
    number = min(config.word_of_mouth.asked * config.n_dealerships, MOST_ASKED)
    turns = np.arange(number)[None, :]
    earlier = customer[:, None] - 1
    asked = 1 + market.draws.integer("referral.asked@1", earlier, customer[:, None], turns)
    same = home_dealership(market, asked.ravel()).reshape(asked.shape) == dealership[:, None]
    row, turn = np.nonzero(same & (asked <= earlier))
    return row, asked[row, turn]
