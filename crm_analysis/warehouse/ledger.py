"""The margin ledger: every movement of money with a customer, one row each, with its rules.

The tables say what was sold, done and given; they do not say what a call costs, nor what
accessories and cars taken in earn. Those are stated here (`UnitCosts`), and said on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType

import polars as pl

from crm_analysis.errors import InputError
from crm_analysis.warehouse.views import ADVERTISED, as_view, delivered
from crm_analysis.wording import _, number, percent, word_of

__all__ = [
    "USUAL_COSTS",
    "UnitCosts",
    "lead_cost_rule",
    "lead_costs",
    "ledger",
    "ledger_of_purchases",
    "ledger_rule",
    "marketing_rule",
    "unit_costs",
]

Tables = Callable[[str], pl.LazyFrame]


@dataclass(frozen=True, kw_only=True)
class UnitCosts:
    """What the CRM does not keep: costs of a contact and margins of what has no cost of its own.

    Attributes
    ----------
    call, message : float or None
        Cost of one call and of one message (text, e-mail, messenger), in currency units; contacts
        are left out where either is None, not known.
    accessories_margin, trade_in_margin : float
        Gross margin of accessories, as a share of their price, and of selling on a car taken in,
        as a share of the allowance for it.
    """

    call: float | None = None
    message: float | None = None
    accessories_margin: float = 0.35
    trade_in_margin: float = 0.05

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (isfinite(value) and value >= 0):
                raise InputError(
                    f"The ledger was asked for with {name} = {value!r}. It is a number of 0 or "
                    "more: a cost in currency units, or a margin as a fraction (0.35)."
                )

    @property
    def priced_contacts(self) -> bool:
        """Whether the cost of every kind of contact is known."""
        return self.call is not None and self.message is not None


USUAL_COSTS: Mapping[str, UnitCosts] = MappingProxyType(
    {"USD": UnitCosts(call=4.0, message=0.05), "RUB": UnitCosts(call=150.0, message=8.0)}
)
"""Assumptions that stand in until a dealership states its own, by currency."""


def unit_costs(currency: str | None, **stated: float | None) -> UnitCosts:
    """Return the costs stated, and the usual ones of the currency for those that are None."""
    usual = USUAL_COSTS.get(currency or "", UnitCosts())
    known = {name: value for name, value in stated.items() if value is not None}
    return UnitCosts(**(vars(usual) | known))


def ledger(tables: Tables, names: tuple[str, ...], costs: UnitCosts) -> pl.LazyFrame:
    """Return every movement of money with a customer (see `Warehouse.ledger`)."""
    entries = list(_entries(tables, names, costs))
    if not entries:
        raise InputError(
            "A margin ledger was asked for; the data hold neither deals nor service orders. Add "
            "one of these tables."
        )
    return as_view(tables, "ledger", pl.concat(entries).filter(pl.col("amount") != 0))


def ledger_of_purchases(tables: Tables, purchases: pl.LazyFrame) -> pl.LazyFrame:
    """Return the margins of purchases ready made as a ledger; those not known are left out."""
    service = pl.col("kind").cast(pl.String) == "service"
    part = pl.when(service.fill_null(value=False)).then(pl.lit("service"))
    entries = purchases.drop_nulls("margin").select(
        "customer_id",
        "dealership_id",
        "happened_on",
        part.otherwise(pl.lit("front")).alias("part"),
        amount=pl.col("margin").cast(pl.Float64),
    )
    return as_view(tables, "ledger", entries)


def _entries(tables: Tables, names: tuple[str, ...], costs: UnitCosts) -> Iterator[pl.LazyFrame]:
    if "deals" in names:
        yield _of_cars(tables, costs)
    if "service_orders" in names:
        yield _of_service(tables)
    if "contacts" in names and costs.priced_contacts:
        yield _of_contacts(tables, costs)
    if "cases" in names:
        yield _of_cases(tables)
    if set(names) >= _ADVERTISING_TABLES:
        yield _of_advertising(tables)


def _parted(frame: pl.LazyFrame, day: pl.Expr, **parts: pl.Expr) -> pl.LazyFrame:
    """Return one row a part of each row. A frame is read once: a database reads it no oftener."""
    whose = ["customer_id", "dealership_id", "happened_on"]
    wide = frame.with_columns(day.alias("happened_on")).select(
        *whose, **{part: amount.cast(pl.Float64) for part, amount in parts.items()}
    )
    return wide.unpivot(list(parts), index=whose, variable_name="part", value_name="amount")


def _whole(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Int64)


def _of_cars(tables: Tables, costs: UnitCosts) -> pl.LazyFrame:
    return _parted(
        delivered(tables),
        pl.col("delivery_on"),
        front=_whole("sale_price") + _whole("discount") - _whole("cost"),
        discount=-_whole("discount"),
        finance=_whole("fni_income"),
        accessories=_whole("accessories") * costs.accessories_margin,
        trade_in=_whole("trade_in") * costs.trade_in_margin,
    )


def _of_service(tables: Tables) -> pl.LazyFrame:
    paid = (pl.col("payer").cast(pl.String) != "internal").cast(pl.Int64)
    return _parted(
        tables("service_orders").filter(pl.col("closed_at").is_not_null()),
        pl.col("opened_at").dt.date(),
        service=paid * (_whole("labour") + _whole("parts")) - _whole("costs"),
        discount=-paid * _whole("discount"),
    )


def _of_contacts(tables: Tables, costs: UnitCosts) -> pl.LazyFrame:
    done = tables("contacts").filter(pl.col("done_at").is_not_null())
    return _parted(done, pl.col("done_at").dt.date(), contacts=-_price(costs))


def _price(costs: UnitCosts) -> pl.Expr:
    spoken = pl.col("kind").cast(pl.String) == "call"
    return pl.when(spoken).then(pl.lit(costs.call)).otherwise(pl.lit(costs.message))


def _of_cases(tables: Tables) -> pl.LazyFrame:
    settled = pl.coalesce("resolved_at", "opened_at").dt.date()
    return _parted(tables("cases"), settled, compensation=-_whole("compensation"))


_ADVERTISING_TABLES = {"campaigns", "campaign_days", "opportunities"}
_CELL = ["dealership_id", "year", "source"]


def _leads(tables: Tables, *columns: str) -> pl.LazyFrame:
    """Return where, when and of what source each lead was opened, and the columns asked for."""
    opened = pl.col("opened_at").dt.date()
    return tables("opportunities").select(
        *columns,
        "dealership_id",
        source=pl.col("source").cast(pl.String),
        day=opened,
        year=opened.dt.year(),
    )


def _spend(tables: Tables) -> pl.LazyFrame:
    """Return spend by dealership, year and source, with the number of leads it may have brought."""
    channels = tables("campaigns").select(
        "campaign_id", source=pl.col("channel").cast(pl.String).replace_strict(dict(ADVERTISED))
    )
    spent = (
        tables("campaign_days")
        .join(channels, on="campaign_id")
        .group_by("dealership_id", "source", year=pl.col("day_on").dt.year())
        .agg(spend=_whole("spend").sum())
    )
    n_leads = _leads(tables).drop_nulls("source").group_by(_CELL).agg(n=pl.len())
    return spent.join(n_leads, on=_CELL, how="left")


def _advertised(tables: Tables, *columns: str) -> pl.LazyFrame:
    """Return leads with the columns asked for and their share of the advertising, ``cost``.

    A channel's spend of a calendar year at a dealership goes in equal parts to the year's leads of
    the source under which its leads arrive; where there is none, to all leads of that dealership
    and year. A year, because advertising works on after its month, and a budget is made for one.
    """
    wide = _CELL[:2]
    own = _spend(tables).drop_nulls("n").select(*_CELL, own=pl.col("spend") / pl.col("n"))
    rest = _spend(tables).filter(pl.col("n").is_null()).group_by(wide).agg(pl.col("spend").sum())
    n_all = _leads(tables).group_by(wide).agg(n=pl.len())
    shared = rest.join(n_all, on=wide).select(*wide, all=pl.col("spend") / pl.col("n"))
    priced = (
        _leads(tables, *columns)
        .join(own, on=_CELL, how="left", maintain_order="left")
        .join(shared, on=wide, how="left", maintain_order="left")
    )
    cost = pl.col("own").fill_null(0.0) + pl.col("all").fill_null(0.0)
    return priced.with_columns(cost.alias("cost"))


def _of_advertising(tables: Tables) -> pl.LazyFrame:
    known = _advertised(tables, "customer_id").drop_nulls("customer_id")
    return _parted(known, pl.col("day"), advertising=-pl.col("cost"))


# Leads ------------------------------------------------------------------------------------


def lead_costs(tables: Tables, names: tuple[str, ...], costs: UnitCosts) -> pl.LazyFrame:
    """Return what was spent on each lead, and when (see `Warehouse.lead_costs`)."""
    parts = [
        pl.LazyFrame(
            schema={"opportunity_id": pl.Int64, "happened_at": pl.Datetime("us"),
                    "cost": pl.Float64, "kind": pl.String}
        )
    ]  # fmt: skip
    if set(names) >= _ADVERTISING_TABLES:
        borne = _advertised(tables, "opportunity_id", "opened_at")
        parts.append(_lead_cost(borne, "opened_at", pl.col("cost"), "advertising"))
    if "contacts" in names and costs.priced_contacts:
        made = tables("contacts").filter(
            pl.col("done_at").is_not_null() & pl.col("opportunity_id").is_not_null()
        )
        parts.append(_lead_cost(made, "done_at", _price(costs), "contacts"))
    return pl.concat(parts).filter(pl.col("cost") > 0)


def _lead_cost(frame: pl.LazyFrame, at: str, cost: pl.Expr, kind: str) -> pl.LazyFrame:
    return frame.select(
        "opportunity_id", pl.col(at).cast(pl.Datetime("us")).alias("happened_at"),
        cost.cast(pl.Float64).alias("cost"), pl.lit(kind).alias("kind"),
    )  # fmt: skip


def lead_cost_rule(
    names: tuple[str, ...], costs: UnitCosts, currency: str | None
) -> tuple[str, ...]:
    """Say what `lead_costs` assumes, and what it leaves out for want of data."""
    advertised = set(names) >= _ADVERTISING_TABLES
    called = "contacts" in names and costs.priced_contacts
    parts = {_("advertising"): advertised, _("contacts"): called}
    missing = [part for part, there in parts.items() if not there]
    rules = [_shared_equally()] if advertised else []
    rules += [_price_of_contacts(costs, currency)] if called else []
    rules += (
        [_("Left out, for want of data: {parts}.", parts=", ".join(missing))] if missing else []
    )
    return tuple(rules)


def _shared_equally() -> str:
    return _(
        "A year's advertising is shared equally among the leads of the source it advertises for, "
        "whether they bought or not."
    )


# Rules ------------------------------------------------------------------------------------


def ledger_rule(names: tuple[str, ...], costs: UnitCosts, currency: str | None) -> tuple[str, ...]:
    """Say how the ledger was made, and what it leaves out, for the page that shows it."""
    rules = [
        _(
            "Margins stand on the day of delivery or of the visit; discounts are counted apart, "
            "as what was given away. Accessories are taken to earn {accessories} of their price "
            "and a car taken in {trade_in} of its allowance.",
            accessories=percent(costs.accessories_margin, 0),
            trade_in=percent(costs.trade_in_margin, 0),
        )
    ]
    if "contacts" in names and costs.priced_contacts:
        rules.append(_price_of_contacts(costs, currency))
    if set(names) >= _ADVERTISING_TABLES:
        rules.append(_shared_equally())
    missing = _left_out(names, costs)
    if missing:
        rules.append(_("Left out, for want of data: {parts}.", parts=", ".join(missing)))
    return tuple(rules)


def _price_of_contacts(costs: UnitCosts, currency: str | None) -> str:
    return _(
        "Contacts are taken to cost, in {currency}: a call {call}, a written message {writing}.",
        currency=currency or _("currency units"),
        call=number(costs.call, 2),
        writing=number(costs.message, 2),
    )


def marketing_rule(
    sources: Mapping[str, str], costs: UnitCosts, currency: str | None
) -> tuple[str, ...]:
    """Say what the marketer's figures assume that no table holds."""
    pairs = [f"{word_of(channel)} → {word_of(source)}" for channel, source in sources.items()]
    priced = (
        _price_of_contacts(costs, currency)
        if costs.priced_contacts
        else _("What a call or a message costs is not known: contacts are left out.")
    )
    return (
        _(
            "Which leads the money of a channel is held against is our assumption, not in the "
            "data: {held}. The report's parameter {parameter} changes it.",
            held="; ".join(pairs), parameter="channel_sources",
        ),
        priced
        + " "
        + _(
            "These prices are assumptions that stand in until the dealership states its own in "
            "{parameters}.",
            parameters="call_cost, message_cost",
        ),
    )  # fmt: skip


def _left_out(names: tuple[str, ...], costs: UnitCosts) -> list[str]:
    lacking = {
        _("sales of cars"): "deals" not in names,
        _("service"): "service_orders" not in names,
        _("contacts"): "contacts" not in names or not costs.priced_contacts,
        _("compensation"): "cases" not in names,
        _("advertising"): not set(names) >= _ADVERTISING_TABLES,
    }
    return [part for part, absent in lacking.items() if absent]
