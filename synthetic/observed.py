"""What a data set shows, in the terms of the calibration targets.

Each function measures one metric by stratum; a rate comes with its count and standard error, so
that a target is called missed only beyond what chance does in a world of this size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from types import MappingProxyType

import numpy as np
import polars as pl

from synthetic.measures import YEAR, Seen, World, mean_of, median_of, number_of, ratio_of, share_of
from synthetic.observed_care import (
    acquisition_to_retention,
    advertising_a_sale,
    bills_unpaid,
    brand_kept,
    brand_share,
    complaints_made,
    contacts_a_year,
    defect_share,
    first_day,
    people_told,
    referred_leads,
    repairs_a_year,
)

_MATURE_DAYS = 180
"""Leads younger than this may still pass further steps, and are left out of stage rates."""


# --- when customers come --------------------------------------------------------------------------


def _first_leads(world: World) -> pl.DataFrame:
    """Return the lead with which each customer who came as a lead became known."""
    known = world.tables["customers"].select("customer_id", "created_at")
    leads = world.tables["opportunities"].join(known, on="customer_id")
    first = leads.filter(pl.col("opened_at") == pl.col("created_at"))
    return first.select("opportunity_id", "opened_at", "source").collect()


def _whole_years(world: World) -> tuple[int, int]:
    """Return the first and last year that the data cover whole."""
    leads = world.tables["opportunities"].select(pl.col("opened_at").min()).collect().item()
    if leads is None:
        return world.as_of.year + 1, world.as_of.year
    first = leads.year + (leads.date() > date(leads.year, 1, 31))
    last = world.as_of.year - (world.as_of < date(world.as_of.year, 12, 31))
    return first, last


def _index(counts: dict[str, int], wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Scale counts so that their mean is the mean of the targets they are held against."""
    there = {key: counts[key] for key in wanted if counts.get(key)}
    total = sum(there.values())
    scale = sum(wanted[key] for key in there) / total if total else 0.0
    for key, count in there.items():
        yield Seen(key, count * scale, count, math.sqrt(count) * scale)


def market_by_year(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """New customers by year, in the scale of the published index."""
    first, last = _whole_years(world)
    years = _first_leads(world)["opened_at"].dt.year()
    counts = {str(year): int((years == year).sum()) for year in range(first, last + 1)}
    yield from _index(counts, wanted)


def season_by_month(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """New customers by month of the year, the mean month = 1."""
    first, last = _whole_years(world)
    opened = _first_leads(world)["opened_at"]
    months = opened.filter(opened.dt.year().is_between(first, last)).dt.month()
    yield from _index({f"{m:02d}": int((months == m).sum()) for m in range(1, 13)}, wanted)


def source_share(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Share of each source among a year's first leads; strata are ``year source``."""
    leads = _first_leads(world)
    for stratum in wanted:
        year, source = stratum.split()
        inside = leads.filter(pl.col("opened_at").dt.year() == int(year))
        yield from share_of(stratum, int((inside["source"] == source).sum()), inside.height)


# --- the funnel -----------------------------------------------------------------------------------


def _reached(world: World) -> pl.DataFrame:
    """Return mature first leads, with the stages that each reached."""
    limit = world.as_of - timedelta(days=_MATURE_DAYS)
    leads = _first_leads(world).filter(pl.col("opened_at").dt.date() <= limit)
    stages = world.tables["stage_events"].group_by("opportunity_id")
    lists = stages.agg(pl.col("stage").cast(pl.String)).collect()
    return leads.join(lists, on="opportunity_id")


def stage_passage(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Chance of a stage given the one before; strata are ``source stage``."""
    before = dict(zip(_STAGES[1:], _STAGES, strict=False))
    reached = _reached(world)
    for stratum in wanted:
        source, stage = stratum.split()
        lists = reached.filter(pl.col("source") == source)["stage"]
        at_risk = lists.filter(lists.list.contains(before[stage]))
        yield from share_of(stratum, int(at_risk.list.contains(stage).sum()), len(at_risk))


_STAGES = ("new", "contact", "appointment", "visit", "test_drive", "offer", "contract", "delivery")


def lead_to_contract(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Share of a source's leads that end in a contract."""
    reached = _reached(world)
    for source in wanted:
        lists = reached.filter(pl.col("source") == source)["stage"]
        yield from share_of(source, int(lists.list.contains("contract").sum()), len(lists))


def _approaches(world: World) -> pl.DataFrame:
    named = world.tables["traffic"].filter(pl.col("customer_id").is_not_null())
    kind = pl.col("kind").cast(pl.String)
    return named.select(kind, "happened_at", "handled_at").collect()


def response_minutes(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Median minutes to the first response to a web lead or chat that came in working hours."""
    online = _approaches(world).filter(pl.col("kind").is_in(["web_lead", "chat"]))
    inside = online.filter(pl.col("happened_at").dt.hour().is_between(9, 14))
    waited = (inside["handled_at"] - inside["happened_at"]).dt.total_minutes()
    yield from median_of("all", waited.drop_nulls())


def never_answered(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Share of calls, web leads and chats that nobody answers."""
    remote = _approaches(world).filter(pl.col("kind") != "visit")
    old = remote.filter(pl.col("happened_at").dt.date() < world.as_of - timedelta(days=30))
    yield from share_of("all", old["handled_at"].null_count(), old.height)


# --- money ----------------------------------------------------------------------------------------


def _deals(world: World) -> pl.DataFrame:
    cars = world.tables["vehicles"].select("vehicle_id", pl.col("condition").cast(pl.String))
    return world.tables["deals"].join(cars, on="vehicle_id").collect()


def new_price(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Mean price of a new car by year, in millions of the data's currency."""
    deals = _deals(world).filter(pl.col("condition") == "new")
    for year in wanted:
        inside = deals.filter(pl.col("contract_on").dt.year() == int(year))
        yield from mean_of(year, inside["sale_price"] / 1e6)


def credit_share(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Share of deals on credit; strata are a year, or ``other years``."""
    deals = _deals(world)
    year = deals["contract_on"].dt.year()
    named = [int(stratum) for stratum in wanted if stratum.isdigit()]
    for stratum in wanted:
        chosen = year == int(stratum) if stratum.isdigit() else ~year.is_in(named)
        inside = deals.filter(chosen)
        yield from share_of(stratum, int((inside["pay"] == "credit").sum()), inside.height)


def trade_in_share(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Share of deals with a trade-in, by year."""
    deals = _deals(world)
    for year in wanted:
        inside = deals.filter(pl.col("contract_on").dt.year() == int(year))
        yield from share_of(year, int((inside["trade_in"] > 0).sum()), inside.height)


def used_share(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Share of deals for a used car."""
    deals = _deals(world)
    yield from share_of("all", int((deals["condition"] == "used").sum()), deals.height)


def front_margin(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Front margin of the price, by condition."""
    deals = _deals(world)
    for condition in wanted:
        cars = deals.filter(pl.col("condition") == condition)
        yield from ratio_of(condition, cars["sale_price"] - cars["cost"], cars["sale_price"])


def finance_income(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Finance and insurance income of the price: on credit, and otherwise."""
    deals = _deals(world)
    on_credit = deals["pay"] == "credit"
    for stratum in wanted:
        chosen = deals.filter(on_credit if stratum == "credit" else ~on_credit)
        yield from ratio_of(stratum, chosen["fni_income"], chosen["sale_price"])


# --- service --------------------------------------------------------------------------------------


def _orders(world: World) -> pl.DataFrame:
    bill = pl.col("labour") + pl.col("parts")
    return world.tables["service_orders"].with_columns(bill=bill).collect()


def service_bill(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Median scheduled order paid by the customer, in the last year."""
    orders = _orders(world)
    late = orders.filter(pl.col("opened_at").dt.year() == world.as_of.year)
    plain = late.filter((late["kind"] == "scheduled") & (late["payer"] == "customer"))
    yield from median_of(world.currency, plain["bill"])


def warranty_bill(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Median warranty order to median scheduled order paid by the customer."""
    orders = _orders(world)
    makers = list(median_of("", orders.filter(orders["kind"] == "warranty")["bill"]))
    own = list(median_of("", orders.filter(orders["kind"] == "scheduled")["bill"]))
    if makers and own:
        ratio = makers[0].value / own[0].value
        error = math.hypot(makers[0].std_error / makers[0].value, own[0].std_error / own[0].value)
        yield Seen("all", ratio, makers[0].n, ratio * error)


def service_margin(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Gross margin of service before discounts."""
    orders = _orders(world)
    yield from ratio_of("all", orders["bill"] - orders["costs"], orders["bill"])


def parts_to_labour(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Parts sold a unit of labour."""
    orders = _orders(world)
    yield from ratio_of("all", orders["parts"], orders["labour"])


# --- staying --------------------------------------------------------------------------------------


def km_a_year(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Distance driven, from the truth of customers: its mean, and the spread of its logarithm."""
    driven = world.read("truth_customer", "km_a_year")["km_a_year"]
    yield from mean_of("mean", driven)
    logs = driven.log()
    if len(logs) > 1:
        sd = number_of(logs.std())
        yield Seen("log sd", sd, len(logs), sd / math.sqrt(2 * len(logs)))


def _new_car_fates(world: World) -> pl.DataFrame:
    cars = world.tables["truth_ownership"].sort("started_on").group_by("customer_id").first()
    new = world.tables["vehicles"].filter(pl.col("condition").cast(pl.String) == "new")
    first = cars.join(new.select("vehicle_id"), on="vehicle_id", how="semi").select("customer_id")
    fates = world.tables["truth_fate"].filter(pl.col("started_kind").cast(pl.String) == "car")
    end = pl.coalesce("ended_on", "followed_to")
    years = (end - pl.col("started_on")).dt.total_days() / YEAR
    found = fates.join(first, on="customer_id", how="semi")
    return found.select(years=years, gone=pl.col("cause").cast(pl.String) == "defected").collect()


def not_defected(world: World, wanted: Mapping[str, float]) -> Iterator[Seen]:
    """New-car buyers who have not silently left after some years (Kaplan-Meier on the truth)."""
    fates = _new_car_fates(world).sort("years")
    years, gone = fates["years"].to_numpy(), fates["gone"].to_numpy()
    at_risk = np.arange(len(years), 0, -1)
    for stratum in wanted:
        inside = years <= float(stratum.split()[0])
        if not len(years) or not inside.any():
            continue
        survival = float(np.prod(1 - gone[inside] / at_risk[inside]))
        risk = at_risk[inside & gone].astype(np.float64)
        greenwood = (1 / (risk * np.maximum(risk - 1, 1))).sum()
        yield Seen(stratum, survival, len(years), survival * math.sqrt(greenwood))


def years_kept(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Median years a car bought here is kept, from the clocks of ownership."""
    cars = world.tables["truth_ownership"].filter(pl.col("elapsed_years") == 0)
    kept = (pl.col("replaced_on") - pl.col("started_on")).dt.total_days() / YEAR
    yield from median_of("all", cars.select(kept.alias("kept")).collect()["kept"])


def survey_answered(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Share of surveys that are answered."""
    sent = world.read("surveys", "sent_at", "answered_at")
    old = sent.filter(pl.col("sent_at").dt.date() < world.as_of - timedelta(days=14))
    yield from share_of("all", int(old["answered_at"].is_not_null().sum()), old.height)


def sales_a_month(world: World, _wanted: Mapping[str, float]) -> Iterator[Seen]:
    """Deliveries a sales manager in a month of employment."""
    deals = world.read("deals", "delivery_on").drop_nulls()
    staff = world.tables["employees"].filter(pl.col("role").cast(pl.String) == "manager")
    first = first_day(world)
    last = pl.min_horizontal(pl.col("left_on").fill_null(world.as_of), pl.lit(world.as_of))
    days = (last - pl.max_horizontal(pl.col("hired_on"), pl.lit(first))).dt.total_days() + 1
    months = staff.select(days.clip(lower_bound=0).sum()).collect().item() / (YEAR / 12)
    if months:
        yield Seen("all", deals.height / months, deals.height, math.sqrt(deals.height) / months)


Measure = Callable[[World, Mapping[str, float]], Iterator[Seen]]

METRICS: Mapping[str, tuple[Measure, tuple[str, ...]]] = MappingProxyType(
    {
        "market_by_year": (market_by_year, ("customers", "opportunities")),
        "season_by_month": (season_by_month, ("customers", "opportunities")),
        "source_share": (source_share, ("customers", "opportunities")),
        "stage_passage": (stage_passage, ("customers", "opportunities", "stage_events")),
        "lead_to_contract": (lead_to_contract, ("customers", "opportunities", "stage_events")),
        "response_minutes": (response_minutes, ("traffic",)),
        "never_answered": (never_answered, ("traffic",)),
        "new_price": (new_price, ("deals", "vehicles")),
        "credit_share": (credit_share, ("deals", "vehicles")),
        "trade_in_share": (trade_in_share, ("deals", "vehicles")),
        "used_share": (used_share, ("deals", "vehicles")),
        "front_margin": (front_margin, ("deals", "vehicles")),
        "finance_income": (finance_income, ("deals", "vehicles")),
        "service_bill": (service_bill, ("service_orders",)),
        "warranty_bill": (warranty_bill, ("service_orders",)),
        "service_margin": (service_margin, ("service_orders",)),
        "parts_to_labour": (parts_to_labour, ("service_orders",)),
        "km_a_year": (km_a_year, ("truth_customer",)),
        "not_defected": (not_defected, ("truth_ownership", "truth_fate", "vehicles")),
        "years_kept": (years_kept, ("truth_ownership",)),
        "survey_answered": (survey_answered, ("surveys",)),
        "contacts_a_year": (contacts_a_year, ("contacts", "opportunities", "truth_fate")),
        "advertising_a_sale": (advertising_a_sale, ("campaign_days", "deals")),
        "acquisition_to_retention": (
            acquisition_to_retention,
            ("campaign_days", "deals", "contacts", "truth_fate", "truth_params"),
        ),
        "complaints_made": (complaints_made, ("truth_visit", "truth_sale")),
        "people_told": (people_told, ("truth_word_of_mouth",)),
        "referred_leads": (
            referred_leads,
            ("truth_referral", "truth_visit", "truth_sale", "truth_params"),
        ),
        "bills_unpaid": (bills_unpaid, ("invoices",)),
        "brand_share": (brand_share, ("deals", "vehicles", "models")),
        "brand_kept": (brand_kept, ("truth_ownership", "vehicles", "models")),
        "repairs_a_year": (
            repairs_a_year,
            ("service_orders", "truth_ownership", "truth_fate", "vehicles"),
        ),
        "defect_share": (defect_share, ("truth_defect",)),
        "sales_a_month": (sales_a_month, ("deals", "employees", "opportunities")),
    }
)
"""How each metric is measured, and the tables that it needs."""
