"""A whole world: the network, its customers block by block, and the truth that made them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crm_analysis.schema import TABLES
from synthetic.clock import DAY, day_of
from synthetic.config import Config, describe, find_preset
from synthetic.customers import Customers, customer_table, day_edges, make_customers
from synthetic.deals import make_deals, opportunity_table, stage_table
from synthetic.funnel import Leads, Paths, join_leads, make_leads, run_funnel
from synthetic.keyed import Floats, Ints
from synthetic.network import Market, make_market
from synthetic.relation import Relations, walk_relations
from synthetic.service import booked_minutes, make_orders, opened_minutes, order_ids
from synthetic.surveys import question_table, send_surveys, survey_tables
from synthetic.traffic import anonymous_traffic, entry_lag, lead_traffic, traffic_table
from synthetic.truth import (
    TRUTH_TABLES,
    customer_truth,
    network_truth,
    relation_truth,
    stage_truth,
    survey_truth,
)
from synthetic.vehicles import own_cars, stock, vehicle_table

if TYPE_CHECKING:
    import dataframely as dy

SCHEMAS: Mapping[str, type[dy.Schema]] = {**TABLES, **TRUTH_TABLES}
Frames = dict[str, pl.DataFrame]


def fit(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with the columns, order and types of its schema."""
    columns = SCHEMAS[name].columns()
    if not frame.width:
        return SCHEMAS[name].create_empty()
    return frame.select(pl.col(column).cast(kind.dtype) for column, kind in columns.items())


def network_frames(market: Market) -> Frames:
    """Return the tables that do not depend on customers, as known on the last day."""
    last = pl.lit(market.config.as_of)
    employees = market.employees.filter(pl.col("hired_on") <= last).with_columns(
        pl.when(pl.col("left_on") <= last).then("left_on").alias("left_on")
    )
    frames = {
        "dealerships": market.dealerships,
        "employees": employees,
        "models": market.catalogue.table,
        "survey_questions": question_table(),
        **network_truth(market),
    }
    return {name: fit(name, frame) for name, frame in frames.items()}


def _first_leads(market: Market, who: Customers) -> tuple[Leads, Paths]:
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


def _created(
    market: Market, who: Customers, first: Leads, relations: Relations
) -> tuple[Ints, Ints]:
    """Return the minute each customer became known, and the employee then responsible."""
    created, manager = (
        np.zeros(len(who.ids), dtype=np.int64),
        np.zeros(len(who.ids), dtype=np.int64),
    )
    lead = ~who.by_service
    created[lead], manager[lead] = first.opened, first.manager
    visits = relations.visits
    begun = np.flatnonzero((visits["order"] == 0) & who.by_service[visits["place"]])
    place, ids = visits["place"][begun], order_ids(visits)[begun]
    opened = opened_minutes(market, ids, visits["day"][begun])
    booked = booked_minutes(market, ids, opened, visits["wait"][begun])
    seat = market.draws.integer("order.advisor@1", market.staff.seats("service_advisor"), ids)
    created[place] = booked
    manager[place] = market.staff.holder(
        "service_advisor", who.dealership[place], seat, booked // DAY
    )
    return created, manager


def _felt_after_sale(leads: Leads, relations: Relations) -> Floats:
    """Return the satisfaction that each purchase left, zero where there was none."""
    key = relations.cars["customer"] * 10 + relations.cars["car"]
    order = np.argsort(key)
    at = np.searchsorted(key[order], leads.ids).clip(max=max(len(key) - 1, 0))
    if not len(key):
        return np.zeros(len(leads.ids))
    found = order[at]
    return np.where(key[found] == leads.ids, relations.cars["satisfaction"][found], 0.0)


def block_frames(market: Market, ids: Ints, edges: tuple[Floats, Floats], end: int) -> Frames:
    """Return every table of a block of customers, as the CRM knows them before minute `end`."""
    who = make_customers(market, ids, edges)
    first = _first_leads(market, who)
    relations = walk_relations(market, who, *first)
    leads, paths = join_leads([first, relations.returns]) if relations.returns else first
    created, manager = _created(market, who, first[0], relations)
    shown = np.flatnonzero(created < end)
    entered = np.minimum(created + entry_lag(market, "customer.entry@1", who.ids), end - 1)
    orders_table, orders = make_orders(market, who, relations, end)
    deals, sold = make_deals(market, who, leads, paths, end)
    felt = _felt_after_sale(leads, relations)
    sent = send_surveys(market, who, (leads, paths, felt), orders, end)
    surveys, answers = survey_tables(market, sent, end)
    traffic = [lead_traffic(market, leads, paths), anonymous_traffic(market, who, edges)]
    frames = {
        "customers": customer_table(market, who, created, entered, manager)[shown],
        "vehicles": vehicle_table(market, [sold, own_cars(who, relations, end)]),
        "traffic": traffic_table(traffic, end),
        "opportunities": opportunity_table(market, leads, paths, end),
        "stage_events": stage_table(market, leads, paths, end),
        "deals": deals,
        "service_orders": orders_table,
        "surveys": surveys,
        "survey_answers": answers,
        "truth_customer": customer_truth(who, shown),
        **relation_truth(market, relations),
        "truth_stage": stage_truth(leads, paths, end),
        **survey_truth(market, sent),
    }
    return {name: fit(name, frame) for name, frame in frames.items()}


def generate(config: Config, seed: int) -> Iterator[Frames]:
    """Yield the tables of a world in parts: the network, each block of customers, the stock.

    Parts come in order of their keys, so joining them keeps every table sorted, and what they hold
    does not depend on the size of a block.
    """
    market = make_market(config, seed)
    end = (day_of(config.as_of) + 1) * DAY
    yield network_frames(market)
    edges = day_edges(config)
    for start in range(0, config.n_customers, config.block_size):
        stop = min(start + config.block_size, config.n_customers)
        yield block_frames(market, np.arange(start + 1, stop + 1), edges, end)
    yield {"vehicles": fit("vehicles", vehicle_table(market, [stock(market, end)]))}


@dataclass(frozen=True)
class Network:
    """A synthetic network held in memory.

    Attributes
    ----------
    config : Config
        What made it, together with `seed`.
    seed : int
        The seed.
    tables : mapping of str to polars.LazyFrame
        The open tables of `crm_analysis.schema.TABLES`.
    truth : mapping of str to polars.LazyFrame
        The truth tables of `synthetic.truth.TRUTH_TABLES`.
    """

    config: Config
    seed: int
    tables: Mapping[str, pl.LazyFrame]
    truth: Mapping[str, pl.LazyFrame]

    def settings(self) -> pl.DataFrame:
        """Return every setting with its meaning, unit, source and confidence."""
        return pl.DataFrame(describe(self.config))

    def sizes(self) -> dict[str, int]:
        """Return the number of rows of each open table."""
        return {
            name: frame.select(pl.len()).collect().item() for name, frame in self.tables.items()
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{count:,}</td></tr>"
            for name, count in self.sizes().items()
        )
        title = f"Synthetic network: preset {self.config.preset}, seed {self.seed}"
        return (
            f"<table><caption>{html.escape(title)}, as of {self.config.as_of}</caption>"
            f"<tr><th>table</th><th>rows</th></tr>{rows}</table>"
        )


def make_network(*, preset: str = "small", seed: int, **changes: Any) -> Network:
    """Make a synthetic dealership network in memory.

    Parameters
    ----------
    preset : str
        ``"tiny"`` (2,000 customers, 3 dealerships, 3 years) or ``"small"`` (20,000, 6, 8).
    seed : int
        The same seed gives the same data.
    **changes
        Fields of `Config` to change, e.g. ``n_customers=500`` or ``locale="ru_RU"``.

    Returns
    -------
    Network
        Lazy open tables and the truth that made them.

    Raises
    ------
    InputError
        Unknown preset or locale, or a size that no world can have.

    Examples
    --------
    >>> network = make_network(preset="tiny", seed=1, n_customers=50)
    >>> network.sizes()["customers"]
    50
    """
    config = find_preset(preset, **changes)
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in SCHEMAS}
    for frames in generate(config, seed):
        for name, frame in frames.items():
            parts[name].append(frame)
    whole = {
        name: (pl.concat(frames) if frames else SCHEMAS[name].create_empty()).lazy()
        for name, frames in parts.items()
    }
    return Network(
        config=config,
        seed=seed,
        tables={name: whole[name] for name in TABLES},
        truth={name: whole[name] for name in TRUTH_TABLES},
    )


__all__ = ["Network", "block_frames", "generate", "make_network", "network_frames"]
