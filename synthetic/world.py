"""A whole world: the network, its customers block by block, and the truth that made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crm_analysis.schema import TABLES
from synthetic.campaigns import campaign_tables, intensity_table
from synthetic.cases import case_tables, sale_truth, visit_truth
from synthetic.clock import DAY, day_of
from synthetic.config import Config, describe, find_preset
from synthetic.contacts import contact_tables, plan_contacts
from synthetic.customers import Customers, customer_table, day_edges
from synthetic.deals import (
    make_deals,
    model_table,
    opportunity_table,
    price_table,
    stage_table,
)
from synthetic.funnel import Leads, Paths
from synthetic.keyed import Floats, Ints
from synthetic.ledger import SOURCES, margin_ledger
from synthetic.loyalty import loyalty_tables
from synthetic.network import Market, make_market
from synthetic.receivables import credit_table, invoice_tables
from synthetic.referral import referral_truth, relation_beginnings, tell_truth
from synthetic.relation import Relations
from synthetic.service import booked_minutes, make_orders, opened_minutes, order_ids
from synthetic.settings import check_settings
from synthetic.surveys import question_table, send_surveys, survey_tables
from synthetic.traffic import anonymous_traffic, entry_lag, lead_traffic, traffic_table
from synthetic.truth import (
    TRUTH_TABLES,
    arrival_truth,
    customer_truth,
    lead_truth,
    network_truth,
    relation_truth,
    stage_truth,
    survey_truth,
)
from synthetic.values import value_truth, with_lives
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
    campaigns, campaign_days, effects = campaign_tables(
        market.config, market.advertising, day_of(market.config.as_of)
    )
    frames = {
        "campaigns": campaigns,
        "campaign_days": campaign_days,
        "truth_campaign": effects,
        "truth_lead_intensity": intensity_table(market.config, market.advertising),
        "dealerships": market.dealerships,
        "employees": employees,
        "models": model_table(market),
        "model_prices": price_table(market),
        "survey_questions": question_table(),
        **network_truth(market),
    }
    return {name: fit(name, frame) for name, frame in frames.items()}


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


def _contacts(
    market: Market, who: Customers, created: Ints, sales: tuple[Leads, Paths],
    relations: Relations, end: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """Write the plan of contacts, and the truth behind it."""
    starts = np.full(len(who.ids), np.iinfo(np.int64).max)
    starts[relations.fates["place"]] = relations.fates["start"]
    books = (relations.years, relations.reminders, starts)
    return contact_tables(market, who, plan_contacts(market, who, created, sales, books), end)


def _block(market: Market, ids: Ints, edges: tuple[Floats, Floats], end: int) -> Frames:
    """Make every table of a block of customers but the ledger, before they fit their schemas."""
    lived, again = with_lives(market, ids, edges)
    who, first, relations = lived.who.take(slice(len(lived.ids))), lived.first, lived.relations
    leads, paths = lived.sales
    created, manager = _created(market, who, first[0], relations)
    shown = np.flatnonzero(created < end)
    typed = created + entry_lag(market, "customer.entry@1", who.ids, manager)
    entered = np.minimum(typed, end - 1)
    orders_table, orders = make_orders(market, who, relations, end)
    deals, sold = make_deals(market, who, leads, paths, end)
    credits_table = credit_table(market, who, deals, leads, paths, end)
    invoices, invoice_truth = invoice_tables(market, who, deals, credits_table, orders_table, end)
    cases, case_truth = case_tables(market, who, relations, end)
    accounts, points, loyalty_truth = loyalty_tables(
        market, who, relations, deals, orders_table, end
    )
    begun = relation_beginnings(market, who, *first)
    felt = _felt_after_sale(leads, relations)
    sent = send_surveys(market, who, (leads, paths, felt), orders, end)
    surveys, answers = survey_tables(market, sent, end)
    contacts, contact_truth = _contacts(market, who, created, (leads, paths), relations, end)
    traffic = [lead_traffic(market, who, leads, paths), anonymous_traffic(market, who, edges)]
    values = value_truth(market, again)
    return {
        "customers": customer_table(market, who, created, entered, manager)[shown],
        "vehicles": vehicle_table(market, [sold, own_cars(who, relations, end)]),
        "traffic": traffic_table(traffic, end),
        "opportunities": opportunity_table(market, leads, paths, end),
        "stage_events": stage_table(market, leads, paths, end),
        "deals": deals,
        "service_orders": orders_table,
        "credits": credits_table,
        "invoices": invoices,
        "truth_invoice": invoice_truth,
        "cases": cases,
        "loyalty_accounts": accounts,
        "loyalty_transactions": points,
        "truth_visit": visit_truth(market, relations, end),
        "truth_sale": sale_truth(market, relations, end),
        "truth_case": case_truth,
        "truth_loyalty": loyalty_truth,
        "truth_word_of_mouth": tell_truth(begun),
        "truth_referral": referral_truth(market, who, edges, shown),
        "contacts": contacts,
        "surveys": surveys,
        "survey_answers": answers,
        "truth_arrival": arrival_truth(who, shown),
        "truth_customer": customer_truth(market, who, shown),
        "truth_contact": contact_truth,
        "truth_value": values.filter(pl.col("customer_id").is_in(who.ids[shown].tolist())),
        **relation_truth(market, relations),
        "truth_stage": stage_truth(leads, paths, end),
        "truth_lead": lead_truth(leads, paths, end),
        **survey_truth(market, sent),
    }


def block_frames(market: Market, ids: Ints, edges: tuple[Floats, Floats], end: int) -> Frames:
    """Return every table of a block of customers, as the CRM knows them before minute `end`."""
    frames = _block(market, ids, edges, end)
    for name in frames:  # one by one, so that no second copy of the whole block is made
        frames[name] = fit(name, frames[name])
    ledger = margin_ledger({name: frames[name].lazy() for name in SOURCES}, market.config)
    return frames | {"truth_ledger": fit("truth_ledger", ledger.collect())}


@dataclass(frozen=True)
class Ground:
    """What every part of a world stands on: the market, the calendars of arrival, the last minute.

    Attributes
    ----------
    market : Market
        The network, with its configuration and draws.
    edges : tuple of two numpy arrays
        Cumulative shares of first leads and of first service visits by day.
    end : int
        First minute after the last day of the data.
    """

    market: Market
    edges: tuple[Floats, Floats]
    end: int


def blocks_of(config: Config) -> int:
    """Return the number of blocks of customers."""
    return -(-config.n_customers // config.block_size)


def count_parts(config: Config) -> int:
    """Return the number of parts of a world: the network, each block of customers, the stock."""
    return blocks_of(config) + 2


def lay_ground(config: Config, seed: int) -> Ground:
    """Build what every part of a world stands on; the same in every process.

    Raises
    ------
    InputError
        A setting is out of its range.
    """
    check_settings(config)
    market = make_market(config, seed)
    return Ground(market, day_edges(config), (day_of(config.as_of) + 1) * DAY)


def _clean_part(ground: Ground, part: int) -> Frames:
    """Make one part of a world before anything is wrong in it."""
    config = ground.market.config
    if part == 0:
        return network_frames(ground.market)
    if part > blocks_of(config):
        stand = vehicle_table(ground.market, [stock(ground.market, ground.end)])
        return {"vehicles": fit("vehicles", stand)}
    start = (part - 1) * config.block_size
    stop = min(start + config.block_size, config.n_customers)
    return block_frames(ground.market, np.arange(start + 1, stop + 1), ground.edges, ground.end)


def make_part(ground: Ground, part: int) -> Frames:
    """Make one part of a world: part 0 is the network, the last one the stock.

    A part depends on the ground and its number alone, so that parts can be made in any process.
    """
    market, frames = ground.market, _clean_part(ground, part)
    if market.config.defects == "none":
        return frames
    from synthetic.defects.spoiling import spoil

    return spoil(frames, market.config, market.draws.seed)


def generate(config: Config, seed: int) -> Iterator[Frames]:
    """Yield the tables of a world in parts: the network, each block of customers, the stock.

    Parts come in order of their keys, so joining them keeps every table sorted, and what they hold
    does not depend on the size of a block.
    """
    ground = lay_ground(config, seed)
    for part in range(count_parts(config)):
        yield make_part(ground, part)


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
        from synthetic.shown import network_page  # it describes the tables by this module

        return network_page(self)


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
    return network_of(find_preset(preset, **changes), seed)


def network_of(config: Config, seed: int) -> Network:
    """Make the network of a configuration in memory."""
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


__all__ = [
    "Ground",
    "Network",
    "block_frames",
    "blocks_of",
    "count_parts",
    "generate",
    "lay_ground",
    "make_network",
    "make_part",
    "network_frames",
    "network_of",
]
