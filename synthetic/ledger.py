"""The margin ledger: what each customer has brought in and cost up to the last day.

Sums are taken in whole numbers and turned into money once, so that their order cannot matter.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from synthetic.campaigns import sales_a_lead
from synthetic.config import Config

PARTS = (
    "front", "finance", "accessories", "trade_in", "service", "contacts", "compensation",
    "advertising",
)  # fmt: skip
SOURCES = ("customers", "opportunities", "deals", "service_orders", "contacts", "cases")
"""Columns of the ledger, and the tables it is made from."""


def _came(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Return the customers, with a mark `led` where they came as a lead."""
    first = tables["opportunities"].filter(pl.col("opportunity_id") % 10 == 0)
    led = first.select("customer_id", led=pl.lit(value=True))
    customers = tables["customers"].select("customer_id")
    joined = customers.join(led, on="customer_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("led").fill_null(value=False))


def _counted(tables: Mapping[str, pl.LazyFrame]) -> list[pl.LazyFrame]:
    """Return whole-number sums by customer, from each table that money comes from."""
    delivered = tables["deals"].filter(pl.col("delivery_on").is_not_null())
    gross = pl.col("labour") + pl.col("parts") - pl.col("discount") - pl.col("costs")
    spoken = (pl.col("kind") == "call").cast(pl.Int64)
    wide = pl.Int64
    return [
        delivered.group_by("customer_id").agg(
            front=(pl.col("sale_price") - pl.col("cost")).cast(wide).sum(),
            finance=pl.col("fni_income").cast(wide).sum(),
            accessories=pl.col("accessories").cast(wide).sum(),
            trade_in=pl.col("trade_in").cast(wide).sum(),
        ),
        tables["service_orders"]
        .filter(pl.col("closed_at").is_not_null())
        .group_by("customer_id")
        .agg(service=gross.cast(wide).sum()),
        tables["contacts"]
        .filter(pl.col("done_at").is_not_null())
        .group_by("customer_id")
        .agg(calls=spoken.sum(), messages=(1 - spoken).sum()),
        tables["cases"]
        .group_by("customer_id")
        .agg(compensation=pl.col("compensation").cast(wide).sum()),
    ]


def margin_ledger(tables: Mapping[str, pl.LazyFrame], config: Config) -> pl.LazyFrame:
    """Return the ledger of every customer of a world.

    Parameters
    ----------
    tables : mapping of str to polars.LazyFrame
        The open tables of `SOURCES`.
    config : Config
        What made them.

    Returns
    -------
    polars.LazyFrame
        customer_id, `PARTS` in currency units (costs below zero) and their sum `margin`. The cost
        of advertising is the mean one of a lead, for everyone who did not first come to the
        workshop.
    """
    money, rules = config.money, config.contacts
    dollars = config.currency == "USD"
    call = rules.call_cost_dollars if dollars else rules.call_cost
    message = rules.message_cost_dollars if dollars else rules.message_cost
    sale = config.campaigns.cost_a_sale_dollars if dollars else config.campaigns.cost_a_sale
    lead = sale * sales_a_lead(config) * config.campaigns.running
    came = _came(tables)
    for part in _counted(tables):
        came = came.join(part, on="customer_id", how="left", maintain_order="left")
    filled = came.with_columns(pl.exclude("customer_id", "led").fill_null(0).cast(pl.Float64))
    spent = -call * pl.col("calls") - message * pl.col("messages")
    return (
        filled.with_columns(
            accessories=pl.col("accessories") * money.accessories_margin,
            trade_in=pl.col("trade_in") * money.trade_in_margin,
            contacts=spent,
            compensation=-pl.col("compensation"),
            advertising=-lead * pl.col("led").cast(pl.Float64),
        )
        .with_columns(margin=pl.sum_horizontal(PARTS).round(6))
        .select("customer_id", *PARTS, "margin")
    )
