"""What a data set shows of care, word of mouth, bills, brands and defects, for the targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

import numpy as np
import polars as pl

from synthetic.measures import YEAR, Seen, World, mean_of, median_of, number_of, share_of

_YEARS_KEPT = 5.0
"""Years in which half of the customers are lost: the care that winning one is held against."""

_SETTLED_DAYS = 120
"""Days after which a bill still unpaid is taken to stay so, and lateness is known."""

Wanted = Mapping[str, float]


def _setting(world: World, name: str) -> float:
    params = world.tables["truth_params"].filter(pl.col("name") == name)
    return float(params.select("value").collect().item())


# --- contacts and what they cost ------------------------------------------------------------------


def contacts_a_year(world: World, _wanted: Wanted) -> Iterator[Seen]:
    """Care contacts planned in a whole year with a customer, and in the year after a loss."""
    care = ["care", "yearly"]
    purpose = pl.col("purpose").cast(pl.String)
    contacts = world.tables["contacts"].with_columns(purpose)
    year = pl.col("contact_id") % _SHARE // _TURNS
    theirs = contacts.filter(purpose.is_in(care)).group_by("customer_id", year=year)
    counts = theirs.agg(n=pl.len(), last=pl.col("due_at").max().dt.date(),
                        whole=(purpose == "yearly").any()).collect()  # fmt: skip
    yield from mean_of("customers", counts.filter("whole")["n"])
    stays = world.tables["truth_fate"].select("customer_id")
    lost = world.tables["opportunities"].filter(
        pl.col("closed_at").dt.date() < world.as_of - timedelta(days=372)
    )
    lost = lost.join(stays, on="customer_id", how="anti").select("customer_id").unique()
    asked = contacts.filter(purpose == "prospect").join(lost, on="customer_id", how="semi")
    lead = pl.col("contact_id") % _SHARE // _TURNS
    each = asked.group_by("customer_id", lead=lead).len().collect()
    yield from mean_of("prospects", each["len"])


_SHARE, _TURNS = 100_000, 32
"""Places of a purpose's contacts in a contact's number, and of the contacts of one year."""


def advertising_a_sale(world: World, _wanted: Wanted) -> Iterator[Seen]:
    """Advertising spent a contract."""
    spent = world.tables["campaign_days"].select(pl.col("spend").sum()).collect().item()
    deals = world.tables["deals"].select(pl.len()).collect().item()
    if deals:
        yield Seen(world.currency, spent / deals, deals, spent / deals / deals**0.5)


def acquisition_to_retention(world: World, wanted: Wanted) -> Iterator[Seen]:
    """Advertising a sale against five years of care, reminders, greetings and follow-up calls."""
    dollars = "_dollars" if world.currency == "USD" else ""
    call, message = (
        _setting(world, f"contacts.{kind}_cost{dollars}") for kind in ("call", "message")
    )
    purpose = pl.col("purpose").cast(pl.String)
    kept = world.tables["contacts"].filter(
        pl.col("done_at").is_not_null() & ~purpose.is_in(["lead", "prospect"])
    )
    calls = kept.select((pl.col("kind").cast(pl.String) == "call").sum()).collect().item()
    done = kept.select(pl.len()).collect().item()
    years = _years_of_relation(world)
    won = list(advertising_a_sale(world, wanted))
    if won and years and done:
        kept_cost = (call * calls + message * (done - calls)) / years * _YEARS_KEPT
        yield Seen("all", won[0].value / kept_cost, done, won[0].std_error / kept_cost)


def _years_of_relation(world: World) -> float:
    gone = pl.col("ended_on").fill_null(world.as_of)
    ends = pl.min_horizontal(gone, pl.lit(world.as_of))
    begun = world.tables["truth_fate"].filter(pl.col("started_on") <= world.as_of)
    days = begun.select((ends - pl.col("started_on")).dt.total_days().sum()).collect().item()
    return number_of(days) / YEAR


# --- complaints and word of mouth -----------------------------------------------------------------


def complaints_made(world: World, _wanted: Wanted) -> Iterator[Seen]:
    """Share of the dissatisfied who complain, after a visit and after a purchase."""
    for stratum, name in (("visit", "truth_visit"), ("purchase", "truth_sale")):
        unhappy = world.tables[name].filter("dissatisfied").select("complained").collect()
        yield from share_of(stratum, int(unhappy["complained"].sum()), unhappy.height)


def people_told(world: World, _wanted: Wanted) -> Iterator[Seen]:
    """People told by a customer who speaks well, and by one who does not."""
    told = world.read("truth_word_of_mouth", "speaks_well", "told")
    for stratum, well in (("satisfied", True), ("dissatisfied", False)):
        yield from mean_of(stratum, told.filter(pl.col("speaks_well") == well)["told"])


def referred_leads(world: World, _wanted: Wanted) -> Iterator[Seen]:
    """Leads by referral a person told by the satisfied, after each purchase and visit."""
    good = [
        world.tables[name].select((pl.col("satisfaction") > 0).sum()).collect().item()
        for name in ("truth_visit", "truth_sale")
    ]
    tells = sum(good) * _setting(world, "word_of_mouth.tells")
    came = world.tables["truth_referral"].select(pl.len()).collect().item()
    if tells:
        yield Seen("all", came / tells, came, came**0.5 / tells)


# --- bills ----------------------------------------------------------------------------------------


def bills_unpaid(world: World, wanted: Wanted) -> Iterator[Seen]:
    """Share of bills paid late, and never; strata are ``car late``, ``service never`` and so on."""
    old = world.tables["invoices"].filter(
        pl.col("due_on") < world.as_of - timedelta(days=_SETTLED_DAYS)
    )
    bills = old.select(
        car=pl.col("deal_id").is_not_null(),
        late=(pl.col("paid_on") > pl.col("due_on")).fill_null(value=False),
        never=pl.col("paid_on").is_null(),
    ).collect()
    for stratum in wanted:
        what, how = stratum.split()
        theirs = bills.filter(pl.col("car") == (what == "car"))
        yield from share_of(stratum, int(theirs[how].sum()), theirs.height)


# --- brands ---------------------------------------------------------------------------------------


def brand_share(world: World, wanted: Wanted) -> Iterator[Seen]:
    """Share of a brand among new cars sold; strata are ``first year-last year brand``."""
    cars = world.tables["vehicles"].filter(pl.col("condition").cast(pl.String) == "new")
    brands = world.tables["models"].select("model_id", "brand")
    sold = world.tables["deals"].join(cars.select("vehicle_id"), on="vehicle_id", how="semi")
    each = sold.join(brands, on="model_id").select(
        "brand", year=pl.col("contract_on").dt.year()
    ).collect()  # fmt: skip
    for stratum in wanted:
        years, brand = stratum.split(maxsplit=1)
        first, last = (int(year) for year in years.split("-"))
        inside = each.filter(pl.col("year").is_between(first, last))["brand"]
        yield from share_of(stratum, int((inside == brand).sum()), len(inside))


def brand_kept(world: World, wanted: Wanted) -> Iterator[Seen]:
    """Median time cars of some brands are kept, against the Weibull clock of scale 5.93 years."""
    cars = world.tables["truth_ownership"].filter(pl.col("elapsed_years") == 0)
    model = world.tables["vehicles"].select("vehicle_id", "model_id")
    brand = world.tables["models"].select("model_id", "brand")
    kept = (pl.col("replaced_on") - pl.col("started_on")).dt.total_days() / YEAR
    known = cars.join(model, on="vehicle_id").join(brand, on="model_id")
    both = known.select("brand", kept=kept / _MEDIAN_KEPT).collect()
    for stratum in wanted:
        yield from median_of(stratum, both.filter(both["brand"].is_in(_BRANDS[stratum]))["kept"])


_MEDIAN_KEPT = 5.93 * np.log(2) ** (1 / 2.2)
_BRANDS = {
    "Chinese": ["Haval", "Chery", "Geely", "Changan", "Exeed", "Tank", "Jetour", "Jaecoo"],
    "Lada": ["Lada"],
    "Korean": ["Kia", "Hyundai"],
}
"""Median of that clock in years, and the brands of each stratum."""


# --- repairs --------------------------------------------------------------------------------------


def repairs_a_year(world: World, wanted: Wanted) -> Iterator[Seen]:
    """Unplanned visits of a car in a year of its life; strata are ``year k`` (1 = the first).

    Cars bought new, from delivery until the next car, the end of the relationship or `as_of`.
    """
    new = world.tables["vehicles"].filter(pl.col("condition").cast(pl.String) == "new")
    owned = world.tables["truth_ownership"].join(new.select("vehicle_id"), on="vehicle_id",
                                                 how="semi")  # fmt: skip
    later = world.tables["truth_ownership"].select("customer_id", next_on="started_on")
    fates = world.tables["truth_fate"].select("customer_id", "ended_on")
    spans = (
        owned.join(fates, on="customer_id")
        .join(later, on="customer_id")
        .with_columns(
            pl.when(pl.col("next_on") > pl.col("started_on")).then("next_on").alias("next_on")
        )
        .group_by("vehicle_id", "started_on", "ended_on")
        .agg(pl.col("next_on").min())
        .select(
            "vehicle_id",
            "started_on",
            stop=pl.min_horizontal("next_on", "ended_on", pl.lit(world.as_of)),
        )
    ).collect()
    years = (spans["stop"] - spans["started_on"]).dt.total_days().to_numpy() / YEAR
    kind = pl.col("kind").cast(pl.String)
    visits = world.tables["service_orders"].filter(kind != "scheduled")
    age = (pl.col("opened_at").dt.date() - pl.col("started_on")).dt.total_days() / YEAR
    ages = visits.join(spans.lazy(), on="vehicle_id").select(age=age).collect()["age"].to_numpy()
    for stratum in wanted:
        low = float(stratum.split()[1]) - 1
        exposed = float(np.clip(years - low, 0, 1).sum())
        came = int(((ages >= low) & (ages < low + 1)).sum())
        if exposed:
            yield Seen(stratum, came / exposed, came, came**0.5 / exposed)


# --- defects --------------------------------------------------------------------------------------


def defect_share(world: World, wanted: Wanted) -> Iterator[Seen]:
    """Share of what could be wrong that is; strata are ``level kind``, of the data's level."""
    for stratum in wanted:
        level, kind = stratum.split(maxsplit=1)
        if level == world.defects:
            part, whole = _DEFECTS[kind](world)
            yield from share_of(stratum, part, whole)


def _labels(world: World, table: str, kind: str, column: str | None = None) -> int:
    found = world.tables["truth_defect"].filter(
        (pl.col("table") == table) & (pl.col("kind") == kind)
    )
    if column:
        found = found.filter(pl.col("column") == column)
    return int(found.select(pl.len()).collect().item())


def _rows(world: World, name: str) -> int:
    return int(world.tables[name].select(pl.len()).collect().item())


def _duplicates(world: World) -> tuple[int, int]:
    copies = _labels(world, "customers", "duplicate")
    return copies, _rows(world, "customers") - copies


def _missing_phones(world: World) -> tuple[int, int]:
    lost = _labels(world, "customers", "missing_at_random", "phone")
    there = world.tables["customers"].select(pl.col("phone").count()).collect().item()
    return lost, int(there) + lost


def _late(world: World) -> tuple[int, int]:
    names = [name for name in _TYPED if name in world.tables]
    there = (world.tables[name].select(pl.col("entered_at").count()) for name in names)
    rows = sum(int(count.collect().item()) for count in there)
    return sum(_labels(world, name, "late_entry") for name in names), rows


_TYPED = ("customers", "traffic", "stage_events", "contacts", "cases")


def _never(world: World) -> tuple[int, int]:
    gone = _labels(world, "opportunities", "never_entered")
    quiet = world.tables["opportunities"].join(
        world.tables["deals"], on="opportunity_id", how="anti"
    )
    return gone, int(quiet.select(pl.len()).collect().item()) + gone


def _wrong_order(world: World) -> tuple[int, int]:
    cells = _labels(world, "stage_events", "wrong_stage_order")
    counts = world.tables["stage_events"].filter(pl.col("seq") > 1).group_by("opportunity_id").len()
    return cells // 2, int(counts.select((pl.col("len") > 1).sum()).collect().item())


_DEFECTS = {
    "duplicates": _duplicates,
    "missing phone": _missing_phones,
    "late entry": _late,
    "never entered": _never,
    "wrong stage order": _wrong_order,
}


def first_day(world: World) -> date:
    """Return the day of the first lead."""
    opened = world.tables["opportunities"].select(pl.col("opened_at").min().dt.date())
    found: date = opened.collect().item()
    return found
