"""What each customer is worth: the expected discounted margin, by Monte Carlo, with its error.

A customer's life is lived again and again from the day of arrival: traits, dealership, source and
the network stay as they are, everything else is drawn anew, and the mean of the discounted margins
is the value. The stated error is the standard error of that mean. A life is a customer of a number
of its own, so all lives of all customers are walked at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from crm_analysis.errors import InputError
from synthetic.clock import DAY, YEAR
from synthetic.config import find_preset
from synthetic.customers import Customers, make_customers
from synthetic.deals import make_deals
from synthetic.funnel import Leads, Paths, join_leads
from synthetic.keyed import Floats, Ints, Keyed
from synthetic.network import Market
from synthetic.referral import first_leads
from synthetic.relation import Relations, walk_relations
from synthetic.service import make_orders
from synthetic.truth_tables import TruthValue

KEPT = ("customer", "arrival", "policy")
"""Fields, by the word before their first point, that every life of a customer has in common."""

LIFE_ROOM = 10**10
"""Numbers between a life and the next: more than there can be customers."""


@dataclass(frozen=True)
class Retold(Keyed):
    """Draws of other lives: a customer's `KEPT` fields as they were, all others anew.

    Life k of customer i is customer ``k * LIFE_ROOM + i``; life 0 is the one that the world tells.
    """

    def entities(self, field: str, ids: Any) -> Ints:
        """Return the ids as which a field is drawn: those of customers for `KEPT` fields."""
        own = super().entities(field, ids)
        return own % LIFE_ROOM if _kept(field) else own


@cache
def _kept(field: str) -> bool:
    return field.partition(".")[0] in KEPT


@dataclass(frozen=True)
class Walked:
    """Customers, or their lives, with all that happens to them.

    `who` may hold more customers than `ids`; `relations` and `first` are those of `ids`.
    """

    ids: Ints
    who: Customers
    first: tuple[Leads, Paths]
    relations: Relations

    @property
    def sales(self) -> tuple[Leads, Paths]:
        """Return first leads and those of customers who returned, together."""
        returns = self.relations.returns
        return join_leads([self.first, returns]) if returns else self.first

    def split(self) -> tuple[Walked, Walked]:
        """Return the world's own customers, and the lives lived again."""
        parts = []
        n = int(np.searchsorted(self.ids, LIFE_ROOM))
        for side, ids in enumerate((self.ids[:n], self.ids[n:])):
            relations = self.relations.side(LIFE_ROOM, side)
            parts.append(Walked(ids, self.who, _side(self.first, LIFE_ROOM, side), relations))
        return parts[0], parts[1]


def _side(sales: tuple[Leads, Paths], border: int, side: int) -> tuple[Leads, Paths]:
    """Return the sales to customers below a border, or from it on."""
    cut = int(np.searchsorted(sales[0].customer, border))
    where = slice(cut, None) if side else slice(cut)
    return sales[0].take(where), sales[1].take(where)


def walk(market: Market, ids: Ints, edges: tuple[Floats, Floats]) -> Walked:
    """Let customers live, in order of their ids; some may not come in a world without campaigns."""
    who = make_customers(market, ids, edges)
    first = first_leads(market, who)
    return Walked(who.ids, who, first, walk_relations(market, who, *first))


def with_lives(market: Market, ids: Ints, edges: tuple[Floats, Floats]) -> tuple[Walked, Walked]:
    """Let customers live, and the sample of them whose value is worked out live again.

    All are walked at once: a walk costs the more by its steps than by its walkers.
    """
    every = np.concatenate([ids, lives_of(market, value_sample(market, ids))])
    retold = replace(market, draws=Retold(market.draws.seed))
    return walk(retold, every, edges).split()


def lives_of(market: Market, ids: Ints, *, first_life: int = 1) -> Ints:
    """Return the numbers of the lives of customers, life by life."""
    lives = np.arange(first_life, first_life + market.config.values.lives)
    return np.asarray((lives[:, None] * LIFE_ROOM + ids[None, :]).ravel())


def _margins(market: Market, lived: Walked) -> Floats:
    """Return the discounted margin of each life."""
    retold, who = replace(market, draws=Retold(market.draws.seed)), lived.who
    orders, _ = make_orders(retold, who, lived.relations, _LATEST)
    deals, _ = make_deals(retold, who, *lived.sales, _LATEST)
    sold = deals.filter(pl.col("delivery_on").is_not_null())
    money, rate = market.config.money, market.config.values.annual_discount_rate
    events = (
        (
            sold["customer_id"], sold["delivery_on"],
            sold["sale_price"] - sold["cost"] + sold["fni_income"]
            + sold["accessories"] * money.accessories_margin
            + sold["trade_in"] * money.trade_in_margin,
        ),
        (
            orders["customer_id"], orders["opened_at"].dt.date(),
            orders["labour"] + orders["parts"] - orders["discount"] - orders["costs"],
        ),
    )  # fmt: skip
    total = np.zeros(len(lived.ids))
    for customer, day, margin in events:
        arrived = who.arrival[np.searchsorted(who.ids, customer.to_numpy())]
        years = (day.to_physical().to_numpy() - arrived) / YEAR
        worth = margin.to_numpy() * (1 + rate) ** -years
        place = np.searchsorted(lived.ids, customer.to_numpy())
        total += np.bincount(place, weights=worth, minlength=len(total))
    return total


_LATEST = 200 * 366 * DAY
"""A minute after everything: the truth is followed to its end."""


def value_sample(market: Market, ids: Ints) -> Ints:
    """Return the customers of a block whose value is worked out, drawn at random."""
    share = market.config.values.sample_share
    return np.asarray(ids[market.draws.chance("value.sample@1", share, ids)])


def value_truth(market: Market, lived: Walked) -> pl.DataFrame:
    """Write the expected discounted margin of customers, from their lives, with its error."""
    lives = market.config.values.lives
    ids = lived.ids[: len(lived.ids) // lives] % LIFE_ROOM
    found = _margins(market, lived).reshape(lives, len(ids))
    error = found.std(axis=0, ddof=1) / np.sqrt(lives)
    return pl.DataFrame(
        {
            "customer_id": ids,
            "value": np.round(found.mean(axis=0), 6),
            "std_error": np.round(error, 6),
            "lives": np.full(len(ids), lives),
        }
    )


def customer_values(
    *,
    preset: str = "tiny",
    seed: int,
    replicates: int = 32,
    annual_discount_rate: float = 0.10,
    first_life: int = 1,
    **changes: Any,
) -> pl.DataFrame:
    """Say what each customer of a world is expected to be worth (Monte Carlo).

    The table ``truth_value`` of a world has the same for a sample of its customers.

    Parameters
    ----------
    preset, seed, **changes
        The world, as `synthetic.make_network` takes it.
    replicates : int
        Lives lived by each customer, at least two.
    annual_discount_rate : float
        Discount from the day of arrival, a year.
    first_life : int
        Number of the first life; 0 is the one that the world itself tells.

    Returns
    -------
    polars.DataFrame
        `TruthValue`: customer_id, value, std_error, lives. Margins of cars and of service,
        before the cost of contacts and advertising.

    Raises
    ------
    InputError
        Fewer than two lives, a rate of -1 or less, or a world that cannot be.
    """
    from synthetic.world import lay_ground  # it writes these values by this module

    if replicates < 2 or annual_discount_rate <= -1:
        raise InputError(
            f"{replicates} lives at a discount of {annual_discount_rate:g} a year were asked for. "
            "Ask for two or more lives, so that the error can be stated, and a rate above -1."
        )
    config = find_preset(preset, **changes)
    rules = replace(config.values, lives=replicates, annual_discount_rate=annual_discount_rate)
    ground, parts = lay_ground(replace(config, values=rules), seed), []
    retold = replace(ground.market, draws=Retold(seed))
    size = max(config.block_size // replicates, 1)
    for start in range(0, config.n_customers, size):
        ids = np.arange(start + 1, min(start + size, config.n_customers) + 1)
        every = lives_of(ground.market, ids, first_life=first_life)
        parts.append(value_truth(ground.market, walk(retold, every, ground.edges)))
    return TruthValue.cast(pl.concat(parts)) if parts else TruthValue.create_empty()


__all__ = [
    "KEPT",
    "LIFE_ROOM",
    "Retold",
    "TruthValue",
    "Walked",
    "customer_values",
    "value_truth",
    "walk",
    "with_lives",
]
