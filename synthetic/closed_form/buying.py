"""What the three worlds of buying share: purchases one after the other until the customer leaves.

A world says how customers differ and how long they wait (`Model`); here its customers are followed
event by event, vectorised over customers, and written as tables.

Clock: a customer's time starts at the end of the day of the first purchase and runs in ticks of a
millionth of a day; `as_of` is the end of the last day. A purchase at time t is written under the
day at whose end it is known, ``first day + ceil(t)``, so that none falls on the first day or after
the last. Two purchases never share a day: the later one waits for the next free day, so frequency
is exact and recency is late by less than a day (more only after purchases on one day). The exact
times are in `truth_event`. A purchase whose wait ends after the last day is not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl

from synthetic.clock import dates, day_of, masked
from synthetic.closed_form.draws import (
    TICKS,
    dealership_of,
    first_days,
    last_day_of,
    rounded,
)
from synthetic.closed_form.network import dealership_name
from synthetic.closed_form.parameters import WEEK
from synthetic.closed_form.spending import Spending, cents, expected_spend, spend, spend_rate
from synthetic.keyed import Flags, Floats, Ints, Keyed
from synthetic.log import Log

Frames = dict[str, pl.DataFrame]
Gap = Callable[[Ints, int], Ints]
Stays = Callable[[Ints, int], Flags]

NEVER = np.iinfo(np.int64).max
"""A tick that is never reached."""


@dataclass(frozen=True)
class Latents:
    """What differs between customers; each array has shape (n,).

    Attributes
    ----------
    rate : ndarray
        Buying rate a week.
    dropout, death_rate : ndarray or None
        Chance of leaving after a purchase, or rate of leaving a week.
    """

    rate: Floats
    dropout: Floats | None = None
    death_rate: Floats | None = None


@dataclass(frozen=True)
class Events:
    """Repeat purchases, sorted by customer and number, and when each customer left.

    Attributes
    ----------
    row, number, at, day : ndarray, shape (m,)
        Customer's position in the block, number from 1, tick, and day (since the first) under
        which it is written.
    left : ndarray, shape (n,)
        Tick of leaving; `NEVER` where not known by the end.
    """

    row: Ints
    number: Ints
    at: Ints
    day: Ints
    left: Ints


@dataclass(frozen=True)
class Histories:
    """Sufficient statistics at the end of the last day, by the exact clock, in weeks.

    Each array has shape (n,): repeat purchases `x`, recency `t_x`, age `T`, whether alive, and
    the money of the repeat purchases.
    """

    x: Floats
    t_x: Floats
    T: Floats
    alive: Flags
    spent: Floats


@dataclass(frozen=True)
class Outlook:
    """What is expected of customers over the horizon; each array has shape (n,).

    None where no closed form exists.
    """

    alive: Floats
    purchases: Floats
    discounted: Floats | None
    ever: Floats | None
    own: Floats
    own_discounted: Floats
    own_ever: Floats


class Model(Protocol):
    """What a world of buying says of itself."""

    def latents(self, draws: Keyed, parameters: Any, ids: Ints) -> Latents:
        """Return what differs between customers."""

    def events(self, draws: Keyed, parameters: Any, who: Latents, ids: Ints, limit: Ints) -> Events:
        """Follow customers up to a tick each."""

    def outlook(self, parameters: Any, who: Latents, histories: Histories) -> Outlook:
        """Return what is expected of customers."""

    def curves(self, parameters: Any, weeks: Floats) -> dict[str, Floats]:
        """Return exact population curves by quantity."""


def follow(n: int, limit: Ints, gap: Gap, stays: Stays, left: Ints) -> Events:
    """Follow customers from purchase to purchase.

    Parameters
    ----------
    n : int
        Customers.
    limit : ndarray, shape (n,)
        Last tick that is followed.
    gap, stays : callable
        Take positions and the number of a purchase; return the ticks waited for it, and whether
        the customer stays after it.
    left : ndarray, shape (n,)
        Tick of leaving that is known beforehand, `NEVER` where none; purchases end there.
    """
    left, log = left.copy(), Log()
    at, day = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    live = np.flatnonzero(left > 0)
    number = 0
    log.add(row=live[:0], number=live[:0], at=live[:0], day=live[:0])
    while live.size:
        number += 1
        at[live] += gap(live, number)
        live = live[at[live] <= np.minimum(limit, left)[live]]
        day[live] = np.maximum(last_day_of(at[live]), day[live] + 1)
        log.add(row=live, number=np.full(len(live), number), at=at[live], day=day[live])
        stay = stays(live, number)
        left[live[~stay]] = at[live[~stay]]
        live = live[stay]
    known = np.where(left <= limit, left, NEVER)
    return Events(**log.join("row", "number"), left=known)


def _histories(n: int, events: Events, age: Ints, spent: Floats) -> Histories:
    seen = events.at <= age[events.row] * TICKS
    row = events.row[seen]
    last = np.zeros(n, dtype=np.int64)
    np.maximum.at(last, row, events.at[seen])
    return Histories(
        x=np.bincount(row, minlength=n).astype(np.float64),
        t_x=last / (TICKS * WEEK),
        T=age / WEEK,
        alive=events.left > age * TICKS,
        spent=np.bincount(row, spent[seen], minlength=n).astype(np.float64),
    )


def buying_frames(model: Model, parameters: Any, draws: Keyed, ids: Ints) -> Frames:
    """Return the tables of a block of customers."""
    first, who = first_days(draws, parameters, ids), model.latents(draws, parameters, ids)
    age = day_of(parameters.as_of) - first
    limit = (age + parameters.horizon_days) * TICKS
    events = model.events(draws, parameters, who, ids, limit)
    nu = spend_rate(draws, parameters, ids)
    value = spend(draws, parameters, nu[events.row], ids[events.row], events.number)
    histories = _histories(len(ids), events, age, value)
    start = spend(draws, parameters, nu, ids, np.zeros_like(ids))
    every = _every_purchase(ids, first, age, events, (start, value))
    mean = rounded(parameters.spend_p / nu)
    return {
        "purchases": _purchases(draws, parameters, every),
        "truth_event": every,
        "truth_buyer": _buyers(ids, first, who, events, histories, mean),
        "truth_buyer_value": _values(model, parameters, ids, who, histories, mean),
    }


def _every_purchase(
    ids: Ints, first: Ints, age: Ints, events: Events, values: tuple[Floats, Floats]
) -> pl.DataFrame:
    zero, row = np.zeros_like(ids), np.concatenate([np.arange(len(ids)), events.row])
    day = np.concatenate([zero, events.day])
    return pl.DataFrame(
        {
            "customer_id": ids[row],
            "number": np.concatenate([zero, events.number]),
            "at_days": np.concatenate([zero, events.at]) / TICKS,
            "happened_on": dates(first[row] + day),
            "value": np.concatenate(values),
            "seen": day <= age[row],
        }
    ).sort("customer_id", "number")


def _purchases(draws: Keyed, parameters: Spending, every: pl.DataFrame) -> pl.DataFrame:
    seen = every.filter("seen")
    margin = cents(seen["value"].to_numpy())
    dealership = dealership_of(draws, parameters, seen["customer_id"].to_numpy())
    return pl.DataFrame(
        {
            "customer_id": seen["customer_id"],
            "dealership_id": dealership,
            "dealership": dealership_name(dealership),
            "happened_on": seen["happened_on"],
            "kind": pl.repeat("service", seen.height, dtype=pl.String, eager=True),
            "revenue": cents(margin / parameters.margin_share),
            "margin": margin,
        }
    )


def _or_null(values: Floats | None, n: int) -> pl.Series:
    return pl.Series([None] * n, dtype=pl.Float64) if values is None else pl.Series(values)


def _buyers(
    ids: Ints, first: Ints, who: Latents, events: Events, histories: Histories, mean: Floats
) -> pl.DataFrame:
    known = events.left != NEVER
    return pl.DataFrame(
        {
            "customer_id": ids,
            "first_on": dates(first),
            "rate": who.rate,
            "dropout_probability": _or_null(who.dropout, len(ids)),
            "death_rate": _or_null(who.death_rate, len(ids)),
            "left_days": masked(np.where(known, events.left, 0) / TICKS, known),
            "alive": histories.alive,
            "frequency": histories.x.astype(np.int64),
            "recency_weeks": histories.t_x,
            "age_weeks": histories.T,
            "mean_spend": mean,
        }
    )


def _values(
    model: Model, parameters: Any, ids: Ints, who: Latents, histories: Histories, mean: Floats
) -> pl.DataFrame:
    outlook = model.outlook(parameters, who, histories)
    alive = histories.alive
    given = {
        "expected_purchases": outlook.purchases,
        "discounted_purchases": outlook.discounted,
        "discounted_ever": outlook.ever,
    }
    own = {
        "own_purchases": outlook.own,
        "own_discounted": outlook.own_discounted,
        "own_ever": outlook.own_ever,
        "own_value": outlook.own_ever * mean,
    }
    chance = rounded(outlook.alive)
    return pl.DataFrame(
        {"customer_id": ids, "probability_alive": chance}
        | {
            name: _or_null(None if value is None else rounded(chance * value), len(ids))
            for name, value in given.items()
        }
        | {"expected_spend": expected_spend(parameters, histories.x, histories.spent)}
        | {name: rounded(np.where(alive, value, 0.0)) for name, value in own.items()}
    )


def buying_curves(model: Model, parameters: Any) -> pl.DataFrame:
    """Return exact population curves, by week since the first purchase."""
    longest = day_of(parameters.as_of) - day_of(parameters.starts_on) + parameters.horizon_days
    weeks = np.arange(int(longest // WEEK) + 1, dtype=np.float64)
    parts = [
        pl.DataFrame({"time": weeks, "value": rounded(value)}).with_columns(
            quantity=pl.lit(quantity), group=pl.lit("all"), time_unit=pl.lit("week")
        )
        for quantity, value in model.curves(parameters, weeks).items()
    ]
    return pl.concat(parts)
