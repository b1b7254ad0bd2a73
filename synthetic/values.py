"""What each customer is worth: the expected discounted margin, by Monte Carlo, with its error.

A customer's life is lived again and again from the day of arrival: traits, dealership, source and
the network stay as they are, everything else is drawn anew, and the mean of the discounted margins
is the value. The stated error is the standard error of that mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dataframely as dy
import numpy as np
import polars as pl

from crm_analysis.errors import InputError
from synthetic.clock import DAY, YEAR
from synthetic.config import find_preset
from synthetic.customers import make_customers
from synthetic.deals import make_deals
from synthetic.funnel import join_leads
from synthetic.keyed import Floats, Ints, Keyed
from synthetic.network import Market
from synthetic.referral import first_leads
from synthetic.relation import walk_relations
from synthetic.service import make_orders
from synthetic.world import Ground, lay_ground

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = ("customer", "arrival", "model", "dealership")
"""Fields, by the word before their first point, that every life has in common."""


class TruthValue(dy.Schema):
    """Expected discounted margin of each customer, from arrival to the end of the truth."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    value = dy.Float64(description="mean discounted margin, in currency units")
    std_error = dy.Float64(min=0.0, description="its Monte Carlo standard error")
    replicates = dy.Int64(description="lives lived")


@dataclass(frozen=True)
class Retold(Keyed):
    """Draws of another life: the fields of `KEPT` as they were, all others anew.

    Life 0 is the one that the world itself tells.
    """

    life: int = 0

    def bits(self, field: str, ids: Any, event: Any = 0) -> NDArray[np.uint64]:
        """Return 64 random bits for each entity and event."""
        if self.life and field.split(".", maxsplit=1)[0] not in KEPT:
            return super().bits(f"{field}/life {self.life}", ids, event)
        return super().bits(field, ids, event)


def _margins(market: Market, ground: Ground, ids: Ints, annual_discount_rate: float) -> Floats:
    """Return the discounted margin of one life of each customer."""
    who = make_customers(market, ids, ground.edges)
    first = first_leads(market, who)
    relations = walk_relations(market, who, *first)
    leads, paths = join_leads([first, relations.returns]) if relations.returns else first
    end = ground.end + int((market.config.relation.follow_years + 2) * YEAR) * DAY
    orders, _ = make_orders(market, who, relations, end)
    deals, _ = make_deals(market, who, leads, paths, end)
    sold = deals.filter(pl.col("delivery_on").is_not_null())
    money = market.config.money
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
    total = np.zeros(len(ids))
    for customer, day, margin in events:
        place = np.searchsorted(who.ids, customer.to_numpy())
        years = (day.to_physical().to_numpy() - who.arrival[place]) / YEAR
        worth = margin.to_numpy() * (1 + annual_discount_rate) ** -years
        at = np.searchsorted(ids, customer.to_numpy())
        total += np.bincount(at, weights=worth, minlength=len(ids))
    return total


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
        `TruthValue`: customer_id, value, std_error, replicates. Margins of cars and of service,
        before the cost of contacts and advertising.

    Raises
    ------
    InputError
        Fewer than two lives, a rate of -1 or less, or a world that cannot be.
    """
    if replicates < 2 or annual_discount_rate <= -1:
        raise InputError(
            f"{replicates} lives at a discount of {annual_discount_rate:g} a year were asked for. "
            "Ask for two or more lives, so that the error can be stated, and a rate above -1."
        )
    ground, parts = lay_ground(find_preset(preset, **changes), seed), []
    for start in range(0, ground.market.config.n_customers, ground.market.config.block_size):
        stop = min(start + ground.market.config.block_size, ground.market.config.n_customers)
        ids = np.arange(start + 1, stop + 1)
        parts.append(_block_values(ground, ids, range(first_life, first_life + replicates),
                                   annual_discount_rate))  # fmt: skip
    return TruthValue.cast(pl.concat(parts)) if parts else TruthValue.create_empty()


def _block_values(
    ground: Ground, ids: Ints, lives: range, annual_discount_rate: float
) -> pl.DataFrame:
    """Return mean and error of a block by running sums, so that memory does not grow with lives."""
    mean, square = np.zeros(len(ids)), np.zeros(len(ids))
    for done, life in enumerate(lives, start=1):
        market = replace(ground.market, draws=Retold(ground.market.draws.seed, life))
        found = _margins(market, ground, ids, annual_discount_rate)
        step = found - mean
        mean += step / done
        square += step * (found - mean)
    n = len(lives)
    return pl.DataFrame(
        {
            "customer_id": ids,
            "value": np.round(mean, 6),
            "std_error": np.round(np.sqrt(square / (n - 1) / n), 6),
            "replicates": np.full(len(ids), n),
        }
    )


__all__ = ["KEPT", "Retold", "TruthValue", "customer_values"]
