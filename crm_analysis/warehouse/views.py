"""Views derived from the open tables, all lazy.

A table that a view needs twice is opened twice: one plan that reads a DuckDB table from two places
would ask one cursor for two things at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any

import polars as pl

from crm_analysis.dates import add_months
from crm_analysis.schema import ADVERTISING, OWNERSHIP_ENDS, PURCHASE_KINDS, VIEWS, WARRANTY_STATES

Tables = Callable[[str], pl.LazyFrame]

_CAR, _SERVICE = PURCHASE_KINDS

_HALF_A_SERVICE = "6mo"
"""Half of a year between services: where between two visits a customer left is not known."""

_MOST_SNAPSHOTS = 6
"""Years back that snapshots of customers go: older ones tell of another market."""


_NAMES = {
    "dealership": ("dealerships", "dealership_id", "dealership_id"),
    "manager": ("employees", "employee_id", "manager_id"),
    "employee": ("employees", "employee_id", "employee_id"),
    "advisor": ("employees", "employee_id", "advisor_id"),
}
"""Names that views carry: column, the table it is read from, its key there, and the view's key."""


def as_view(tables: Tables, name: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return a frame with the columns and types of a view, names joined on."""
    columns = VIEWS[name].columns()
    for column, (table, key, ours) in _NAMES.items():
        if column in columns:
            names = tables(table).select(pl.col(key).alias(ours), pl.col("name").alias(column))
            frame = frame.join(names, on=ours, how="left", maintain_order="left")
    return frame.select(pl.col(column).cast(kind.dtype) for column, kind in columns.items())


def delivered(tables: Tables) -> pl.LazyFrame:
    """Return deals that ended in a delivery."""
    return tables("deals").filter(
        pl.col("delivery_on").is_not_null() & pl.col("cancelled_on").is_null()
    )


def _activity(tables: Tables, as_of: date) -> pl.LazyFrame:
    """Return each delivery and service visit up to `as_of`: who, where, when, kind, brand."""
    models = tables("models").select("model_id", "brand")
    cars = delivered(tables).select(
        "customer_id",
        "dealership_id",
        pl.col("delivery_on").alias("happened_on"),
        pl.lit(_CAR).alias("kind"),
        "model_id",
        "vehicle_id",
    )
    visits = tables("service_orders").join(
        tables("vehicles").select("vehicle_id", "model_id"), on="vehicle_id", how="left"
    )
    services = visits.select(
        "customer_id",
        "dealership_id",
        pl.col("opened_at").dt.date().alias("happened_on"),
        pl.lit(_SERVICE).alias("kind"),
        "model_id",
        "vehicle_id",
    )
    whole = pl.concat([cars, services]).join(models, on="model_id", how="left")
    return whole.filter(pl.col("happened_on") <= as_of)


def purchase_activity(purchases: pl.LazyFrame, *, as_of: date) -> pl.LazyFrame:
    """Return each purchase up to `as_of` as activity, where nothing but purchases is kept."""
    return purchases.filter(pl.col("happened_on") <= as_of).select(
        "customer_id",
        "dealership_id",
        "happened_on",
        pl.col("kind").cast(pl.String),
        brand=pl.lit(None, pl.String),
    )


def spells(
    tables: Tables, *, as_of: date, inactive_months: int, activity: pl.LazyFrame | None = None
) -> pl.LazyFrame:
    """Return each customer's first service relationship (see `Warehouse.spells`)."""
    activity = _activity(tables, as_of) if activity is None else activity
    order = ["customer_id", "happened_on", "kind"]
    lapsed_on = pl.col("happened_on").dt.offset_by(f"{inactive_months}mo")
    following = pl.col("happened_on").shift(-1).over("customer_id")
    activity = activity.sort(order).with_columns(
        lapsed_on.alias("lapsed_on"), following.alias("following")
    )
    quiet = pl.col("following").is_null() | (pl.col("following") > pl.col("lapsed_on"))
    ended = quiet & (pl.col("lapsed_on") <= as_of)
    spell = activity.group_by("customer_id", maintain_order=True).agg(
        pl.col("dealership_id").first(),
        pl.col("brand").first(),
        pl.col("kind").first().alias("started_kind"),
        pl.col("happened_on").first().alias("started_on"),
        pl.col("lapsed_on").filter(ended).min().alias("ended_on"),
    )
    return as_view(tables, "spells", spell)


def _silences(tables: Tables, as_of: date, inactive_months: int, who: str) -> pl.LazyFrame:
    """Return each activity after which nothing came for so long, with the day that showed it."""
    lapsed_on = pl.col("happened_on").dt.offset_by(f"{inactive_months}mo")
    following = pl.col("happened_on").shift(-1).over(who)
    return (
        _activity(tables, as_of)
        .filter(pl.col(who).is_not_null())
        .sort(who, "happened_on")
        .with_columns(lapsed_on.alias("lapsed_on"), following.alias("following"))
        .filter(
            (pl.col("following").is_null() | (pl.col("following") > pl.col("lapsed_on")))
            & (pl.col("lapsed_on") <= as_of)
        )
        .select(who, "happened_on", "lapsed_on")
    )


def _next(
    left: pl.LazyFrame, right: pl.LazyFrame, on: str, name: str, *, same_day: bool
) -> pl.LazyFrame:
    """Join the first later row of `right` (columns by, on, name) to each row of `left`."""
    return (
        left.sort("started_on")
        .join_asof(
            right.sort(on),
            left_on="started_on",
            right_on=on,
            by="customer_id",
            strategy="forward",
            allow_exact_matches=same_day,
            check_sortedness=False,
        )
        .select(*left.collect_schema().names(), name)
    )


def ownership_spells(tables: Tables, *, as_of: date, inactive_months: int | None) -> pl.LazyFrame:
    """Return each car delivered here until its next (see `Warehouse.ownership_spells`)."""
    models = tables("models").select("model_id", "brand")
    cars = tables("vehicles").select("vehicle_id", "condition")
    by_then = pl.col("delivery_on") <= as_of
    spell = (
        delivered(tables).filter(by_then).select(
            "vehicle_id", "customer_id", "dealership_id", "model_id",
            pl.col("delivery_on").alias("started_on"),
        )
        .join(models, on="model_id", how="left")
        .join(cars, on="vehicle_id", how="left")
        .drop("model_id")
        .unique("vehicle_id", keep="first")
    )  # fmt: skip
    again = (
        delivered(tables)
        .filter(by_then)
        .select("customer_id", pl.col("delivery_on").alias("next_on"))
    )
    lost = (
        tables("opportunities")
        .filter(pl.col("lost_reason").cast(pl.String) == "competitor")
        .select("customer_id", pl.col("closed_at").dt.date().alias("lost_on"))
        .filter(pl.col("lost_on") <= as_of, pl.col("customer_id").is_not_null())
    )
    spell = _next(spell, again.with_columns(at=pl.col("next_on")), "at", "next_on", same_day=False)
    spell = _next(spell, lost.with_columns(at=pl.col("lost_on")), "at", "lost_on", same_day=False)
    if inactive_months is None:
        spell = spell.with_columns(pl.lit(None, pl.Date).alias("lapsed_on"))
    else:
        silences = _silences(tables, as_of, inactive_months, "customer_id")
        spell = _next(spell, silences, "happened_on", "lapsed_on", same_day=True)
    ends = ("next_on", "lost_on", "lapsed_on")
    first = pl.min_horizontal(ends)
    cause: Any = pl.when(first.is_null()).then(None)
    for column, name in zip(ends, OWNERSHIP_ENDS, strict=True):
        cause = cause.when(pl.col(column) == first).then(pl.lit(name))
    return as_view(
        tables,
        "ownership_spells",
        spell.with_columns(first.alias("ended_on"), cause.alias("cause")),
    )


def _seen(tables: Tables, as_of: date) -> pl.LazyFrame:
    """Return when each car was first and last delivered or serviced here, and by whom."""
    return (
        _activity(tables, as_of)
        .filter(pl.col("vehicle_id").is_not_null())
        .sort("vehicle_id", "happened_on")
        .group_by("vehicle_id", maintain_order=True)
        .agg(
            pl.col("customer_id", "dealership_id").last(),
            pl.col("happened_on").first().alias("started_on"),
            pl.col("happened_on").last().alias("last_on"),
            (pl.col("kind") == _CAR).any().alias("sold_here"),
            pl.col("happened_on").filter(pl.col("kind") == _CAR).min().alias("delivered_on"),
        )
    )


def _described(tables: Tables) -> pl.LazyFrame:
    models = tables("models").select("model_id", "brand", "model", "warranty_months")
    cars = tables("vehicles").select("vehicle_id", "model_id", "condition", "model_year")
    return cars.join(models, on="model_id", how="left").drop("model_id")


def _in_use() -> pl.Expr:
    """Return the day from which a car's age counts, never after it was first seen."""
    new = (pl.col("condition").cast(pl.String) == "new") & pl.col("delivered_on").is_not_null()
    by_year = pl.min_horizontal(pl.date(pl.col("model_year"), 7, 1), "started_on")
    return pl.when(new).then("delivered_on").otherwise(by_year)


def _whole_years(since: pl.Expr, day: pl.Expr) -> pl.Expr:
    # Months are Int8: cast, or 32 times a month overflows without a word.
    now, then = (one.dt.month().cast(pl.Int32) * 32 + one.dt.day() for one in (day, since))
    return (day.dt.year() - since.dt.year() - (now < then).cast(pl.Int32)).clip(0)


def _warranty_ends() -> pl.Expr:
    months = pl.format("{}mo", pl.col("warranty_months"))
    return pl.col("in_use_on").dt.offset_by(months)


def car_parc(tables: Tables, *, as_of: date, inactive_months: int) -> pl.LazyFrame:
    """Return each car ever delivered or serviced here (see `Warehouse.car_parc`)."""
    day = pl.lit(as_of)
    silences = (
        _silences(tables, as_of, inactive_months, "vehicle_id")
        .group_by("vehicle_id")
        .agg(pl.col("happened_on").min())
        .select("vehicle_id", pl.col("happened_on").dt.offset_by(_HALF_A_SERVICE).alias("ended_on"))
    )
    traded = (
        delivered(tables)
        .filter(pl.col("trade_in") > 0, pl.col("delivery_on") <= as_of)
        .select("customer_id", pl.col("delivery_on").alias("left_on"))
        .with_columns(at=pl.col("left_on"))
    )
    parc = _seen(tables, as_of).join(_described(tables), on="vehicle_id", how="left")
    parc = _next(parc, traded, "at", "left_on", same_day=False)
    owners = (
        _activity(tables, as_of)
        .group_by("customer_id")
        .agg(pl.col("happened_on").max().alias("came"))
    )
    # An owner who came later with another car has not left: this one is known to its last visit.
    replaced = pl.col("came") > pl.col("last_on")
    parc = (
        parc.join(silences, on="vehicle_id", how="left")
        .join(owners, on="customer_id", how="left")
        .with_columns(
            _in_use().alias("in_use_on"),
            pl.when(replaced).then("last_on").alias("until_on"),
            pl.when(~replaced).then("ended_on").alias("ended_on"),
        )
    )
    covered = pl.when(day < _warranty_ends()).then(pl.lit(WARRANTY_STATES[0]))
    parc = parc.with_columns(
        _whole_years(pl.col("in_use_on"), day).alias("age_years"),
        pl.when(pl.col("warranty_months").is_not_null())
        .then(covered.otherwise(pl.lit(WARRANTY_STATES[1])))
        .alias("warranty"),
    )
    return as_view(tables, "car_parc", parc)


def departure_snapshots(
    tables: Tables, *, as_of: date, active_months: int, horizon_months: int
) -> pl.LazyFrame:
    """Return yearly snapshots of active customers (see `Warehouse.departure_snapshots`)."""
    days = [add_months(as_of, -horizon_months * k) for k in range(_MOST_SNAPSHOTS)]
    parts = [_snapshot(tables, day, as_of, active_months, horizon_months) for day in days]
    whole = pl.concat(parts).sort("snapshot_on", "customer_id")
    return as_view(tables, "departure_snapshots", whole)


def _snapshot(
    tables: Tables, day: date, as_of: date, active_months: int, horizon_months: int
) -> pl.LazyFrame:
    on = pl.col("happened_on")
    active_since, two_years = add_months(day, -active_months), add_months(day, -24)
    before = _activity(tables, day).sort("customer_id", "happened_on")
    known = (
        before.group_by("customer_id", maintain_order=True)
        .agg(
            pl.col("dealership_id", "vehicle_id").last(),
            on.first().alias("first_on"),
            on.last().alias("last_on"),
            (on > two_years).sum().alias("visits_two_years"),
            (pl.col("kind") == _CAR).any().alias("bought_here"),
        )
        .filter(pl.col("last_on") > active_since)
        .with_columns(pl.lit(day).alias("snapshot_on"))
    )
    until = add_months(day, horizon_months)
    later = _activity(tables, min(until, as_of)).filter(on > day)
    came = later.select("customer_id").unique()
    came = came.with_columns(came=pl.lit(value=True))
    known = known.join(came, on="customer_id", how="left").with_columns(
        left=pl.lit(None, pl.Boolean) if until > as_of else pl.col("came").is_null()
    )
    cars = _seen(tables, day).select("vehicle_id", "started_on", "delivered_on")
    cars = cars.join(_described(tables), on="vehicle_id", how="left").with_columns(
        _in_use().alias("in_use_on")
    )
    known = known.join(cars, on="vehicle_id", how="left")
    for other in (_scores_known(tables, day), _troubles(tables, day), _contacts(tables, day)):
        known = known.join(other, on="customer_id", how="left")
    since = pl.col("snapshot_on")
    months = (since.dt.year() - pl.col("last_on").dt.year()) * 12 + (
        since.dt.month().cast(pl.Int32) - pl.col("last_on").dt.month()
    )
    flags = ("low_score", "high_score", "complained")
    return known.with_columns(
        months.alias("months_since_visit"),
        (pl.col("last_on") < add_months(day, -12)).alias("overdue"),
        _whole_years(pl.col("first_on"), since).alias("years_with_us"),
        _whole_years(pl.col("in_use_on"), since).alias("car_age_years"),
        (_warranty_ends() <= since).fill_null(value=False).alias("after_warranty"),
        pl.col("contacts_a_year").fill_null(0),
        *(pl.col(name).fill_null(value=False) for name in flags),
    )


def _scores_known(tables: Tables, day: date) -> pl.LazyFrame:
    """Return whether each customer's last answer to the recommendation question was low or high."""
    asked = tables("survey_questions").filter(pl.col("code") == "nps").select("question_id")
    answers = tables("survey_answers").join(asked, on="question_id", how="semi")
    surveys = tables("surveys").filter(pl.col("answered_at").dt.date() <= day)
    last = (
        surveys.join(answers, on="survey_id")
        .sort("customer_id", "answered_at")
        .group_by("customer_id", maintain_order=True)
        .agg(pl.col("value").last())
    )
    return last.select(
        "customer_id", low_score=pl.col("value") <= 6, high_score=pl.col("value") >= 9
    )


def _troubles(tables: Tables, day: date) -> pl.LazyFrame:
    opened = pl.col("opened_at").dt.date()
    complaints = tables("cases").filter(
        pl.col("kind").cast(pl.String) == "complaint", opened <= day, opened > add_months(day, -24)
    )
    return complaints.select("customer_id", complained=pl.lit(value=True)).unique()


def _contacts(tables: Tables, day: date) -> pl.LazyFrame:
    done = pl.col("done_at").dt.date()
    return (
        tables("contacts")
        .filter(done <= day, done > add_months(day, -12))
        .group_by("customer_id")
        .agg(pl.len().alias("contacts_a_year"))
    )


def purchases(tables: Tables) -> pl.LazyFrame:
    """Return delivered cars and closed service orders with revenue and margin."""
    whole = [
        pl.col(name).cast(pl.Int64) for name in ("sale_price", "accessories", "fni_income", "cost")
    ]
    price, accessories, fni, cost = whole
    cars = delivered(tables).select(
        "customer_id",
        "dealership_id",
        pl.col("delivery_on").alias("happened_on"),
        pl.lit(_CAR).alias("kind"),
        (price + accessories + fni).alias("revenue"),
        (price - cost + fni).alias("margin"),
    )
    services = _billed(tables).select(
        "customer_id",
        "dealership_id",
        pl.col("visited_on").alias("happened_on"),
        pl.lit(_SERVICE).alias("kind"),
        "revenue",
        "margin",
    )
    return as_view(tables, "purchases", pl.concat([cars, services]))


def _billed(tables: Tables) -> pl.LazyFrame:
    """Return closed service orders with revenue (none when the dealership pays) and margin."""
    bill = (pl.col(name).cast(pl.Int64) for name in ("labour", "parts", "discount"))
    labour, parts, discount = bill
    outside = pl.col("payer").cast(pl.String) != "internal"
    revenue = pl.when(outside).then(labour + parts - discount).otherwise(0)
    return (
        tables("service_orders")
        .filter(pl.col("closed_at").is_not_null())
        .with_columns(pl.col("opened_at").dt.date().alias("visited_on"), revenue.alias("revenue"))
        .with_columns((pl.col("revenue") - pl.col("costs").cast(pl.Int64)).alias("margin"))
    )


def service_visits(tables: Tables) -> pl.LazyFrame:
    """Return closed service orders with the car's brand and model, revenue and margin."""
    cars = tables("vehicles").select("vehicle_id", "model_id")
    models = tables("models").select("model_id", "brand", "model")
    visits = (
        _billed(tables)
        .join(cars, on="vehicle_id", how="left")
        .join(models, on="model_id", how="left")
    )
    return as_view(tables, "service_visits", visits)


def scores(tables: Tables, *, question: str) -> pl.LazyFrame:
    """Return answers to one scale question with who gave them and about whom."""
    asked = tables("survey_questions").filter(pl.col("code") == question).select("question_id")
    answers = (
        tables("survey_answers").filter(pl.col("value").is_not_null()).join(asked, on="question_id")
    )
    surveys = tables("surveys").filter(pl.col("answered_at").is_not_null())
    joined = answers.join(surveys, on="survey_id").with_columns(
        pl.col("answered_at").dt.date().alias("answered_on"), pl.col("value").alias("score")
    )
    return as_view(tables, "scores", joined)


def lead_events(tables: Tables) -> pl.LazyFrame:
    """Return stage events with their opportunity's customer, manager, source and opening."""
    leads = tables("opportunities").select(
        "opportunity_id", "customer_id", "manager_id", "source", "opened_at"
    )
    return as_view(tables, "lead_events", tables("stage_events").join(leads, on="opportunity_id"))


def leads(tables: Tables) -> pl.LazyFrame:
    """Return one row per opportunity: who, what, when it was opened and when it was won."""
    won = (
        tables("stage_events")
        .filter(pl.col("stage").cast(pl.String) == "contract")
        .group_by("opportunity_id")
        .agg(pl.col("happened_at").min().alias("won_at"))
    )
    models = tables("models").select("model_id", "brand", "model")
    asked = (
        tables("opportunities")
        .join(won, on="opportunity_id", how="left")
        .join(models, on="model_id", how="left")
        .with_columns(pl.col("opened_at").dt.year().alias("year"))
    )
    return as_view(tables, "leads", asked)


def loyalty_events(tables: Tables, bought: pl.LazyFrame) -> pl.LazyFrame:
    """Return what the loyalty ladder is read from: enquiries, purchases and opinions."""
    asked = tables("opportunities").select(
        "customer_id", "dealership_id", pl.col("opened_at").dt.date().alias("happened_on"),
        pl.lit("enquiry").alias("kind"),
    )  # fmt: skip
    bought = bought.select(
        "customer_id", "dealership_id", "happened_on", pl.lit("purchase").alias("kind")
    )
    said = scores(tables, question="nps").filter(pl.col("customer_id").is_not_null())
    opinion = pl.when(pl.col("score") >= 9).then(pl.lit("promoter")).otherwise(pl.lit("critic"))
    said = said.select(
        "customer_id", "dealership_id", pl.col("answered_on").alias("happened_on"),
        opinion.alias("kind"),
    )  # fmt: skip
    return as_view(tables, "loyalty_events", pl.concat([asked, bought, said]))


def relationship_events(tables: Tables, bought: pl.LazyFrame) -> pl.LazyFrame:
    """Return purchases, and contacts in which somebody spoke with the customer, with who did."""
    bought = bought.select(
        "customer_id", "dealership_id", "dealership", "happened_on",
        pl.lit("purchase").alias("kind"), pl.lit(None, pl.Int64).alias("employee_id"),
    )  # fmt: skip
    spoken = _placed(
        tables,
        tables("contacts").filter(
            pl.col("kind").cast(pl.String) == "call",
            pl.col("result").cast(pl.String) == "reached",
        ),
    ).select(
        "customer_id", "dealership_id", "dealership",
        pl.col("done_at").dt.date().alias("happened_on"), pl.lit("contact").alias("kind"),
        "employee_id",
    )  # fmt: skip
    return pl.concat([bought, spoken])


_NO_LOYALTY = pl.LazyFrame(
    schema={"loyalty_account_id": pl.Int64, "dealership_id": pl.Int64, "customer_id": pl.Int64,
            "joined_on": pl.Date, "tier": pl.String}
)  # fmt: skip
_NO_POINTS = pl.LazyFrame(
    schema={"loyalty_account_id": pl.Int64, "happened_on": pl.Date, "kind": pl.String,
            "points": pl.Int32}
)  # fmt: skip
"""What a dealership without a programme has of it."""


def loyalty_points(tables: Tables, *, has: Callable[[str], bool]) -> pl.LazyFrame:
    """Return movements of points beside their account; an account without any has one row."""
    if not (has("loyalty_accounts") and has("loyalty_transactions")):
        return _placed(tables, _NO_LOYALTY.join(_NO_POINTS, on="loyalty_account_id", how="left"))
    moves = tables("loyalty_transactions").select(
        "loyalty_account_id", "happened_on", pl.col("kind").cast(pl.String), "points"
    )
    return _placed(
        tables, tables("loyalty_accounts").join(moves, on="loyalty_account_id", how="left")
    )


def loyalty_members(
    tables: Tables,
    bought: Callable[[], pl.LazyFrame],
    *,
    landmark_days: int,
    has: Callable[[str], bool],
) -> pl.LazyFrame:
    """Return buyers as they stood some days after their first purchase, and when they came back."""
    first = (
        bought()
        .sort("customer_id", "happened_on")
        .group_by("customer_id", maintain_order=True)
        .agg(
            pl.col("dealership_id", "dealership").first(),
            pl.col("kind").cast(pl.String).first().alias("started_kind"),
            pl.col("happened_on").first().alias("started_on"),
        )
        .with_columns(pl.col("started_on").dt.offset_by(f"{landmark_days}d").alias("watched_from"))
    )
    came = bought().select("customer_id", pl.col("happened_on").alias("came_on"))
    returned = (
        came.join(first.select("customer_id", "watched_from"), on="customer_id")
        .filter(pl.col("came_on") > pl.col("watched_from"))
        .group_by("customer_id")
        .agg(pl.col("came_on").min().alias("returned_on"))
    )
    accounts = tables("loyalty_accounts") if has("loyalty_accounts") else _NO_LOYALTY
    joined = accounts.group_by("customer_id").agg(pl.col("joined_on").min())
    return (
        first.join(joined, on="customer_id", how="left")
        .join(returned, on="customer_id", how="left")
        .with_columns(
            (pl.col("joined_on") <= pl.col("watched_from")).fill_null(value=False)
            .alias("is_member"),
            pl.col("started_on").dt.year().alias("started_year"),
        )
    )  # fmt: skip


def car_events(tables: Tables) -> pl.LazyFrame:
    """Return deliveries of cars and visits to the workshop: what visits are foretold from."""
    came = delivered(tables).select(
        "vehicle_id", "dealership_id", pl.col("delivery_on").alias("happened_on"),
        pl.lit(value=False).alias("is_visit"),
    )  # fmt: skip
    visits = tables("service_orders").select(
        "vehicle_id", "dealership_id", pl.col("opened_at").dt.date().alias("happened_on"),
        pl.lit(value=True).alias("is_visit"),
    )  # fmt: skip
    return as_view(tables, "car_events", pl.concat([came, visits]))


def portraits(tables: Tables, *, as_of: date) -> pl.LazyFrame:
    """Return one row per customer: what the CRM knows of who they are, with no name in it."""
    years = (pl.lit(as_of) - pl.col("birth_on")).dt.total_days() // 365.25
    band = (years // 10 * 10).cast(pl.Int32)
    age = pl.concat_str([band.cast(pl.String), pl.lit("-"), (band + 9).cast(pl.String)])
    young = pl.when(years < 20).then(pl.lit("under_twenty")).otherwise(age)
    known = tables("customers").filter(pl.col("created_at").dt.date() <= as_of)
    return as_view(tables, "portraits", known.with_columns(young.alias("age_band")))


ADVERTISED: Mapping[str, str] = MappingProxyType(
    dict(zip(ADVERTISING, ("web", "web", "classifieds", "outdoor", "phone"), strict=True))
)
"""Which source of leads the money of each advertising channel is held against: our assumption."""


def _placed(tables: Tables, frame: pl.LazyFrame) -> pl.LazyFrame:
    places = tables("dealerships").select("dealership_id", pl.col("name").alias("dealership"))
    return frame.join(places, on="dealership_id", how="left")


def _sale(name: str) -> pl.Expr:
    """Return a column of deals in a type in which sums cannot overflow."""
    return pl.col(name).cast(pl.Int64)


def sales(tables: Tables) -> pl.LazyFrame:
    """Return contracts that were not cancelled, with car, source and money."""
    cars = tables("vehicles").select("vehicle_id", "condition", "arrived_on")
    models = tables("models").select("model_id", "brand", "model", "segment")
    asked = tables("opportunities").select("opportunity_id", "source", "opened_at")
    price, extra, fni = (_sale(name) for name in ("sale_price", "accessories", "fni_income"))
    made = (
        tables("deals")
        .filter(pl.col("cancelled_on").is_null())
        .join(cars, on="vehicle_id", how="left")
        .join(models, on="model_id", how="left")
        .join(asked, on="opportunity_id", how="left")
    )
    return _placed(tables, made).with_columns(
        (price + extra + fni).alias("revenue"),
        (price - _sale("cost") + fni).alias("margin"),
        pl.col("contract_on").dt.year().alias("year"),
        pl.col("contract_on").dt.strftime("%Y-%m").alias("month"),
    )


def lead_sales(tables: Tables) -> pl.LazyFrame:
    """Return leads with the day, revenue and margin of the sale that came of them."""
    sold = sales(tables).select(
        "opportunity_id", pl.col("contract_on").alias("sold_on"), "revenue", "margin"
    )
    return leads(tables).join(sold, on="opportunity_id", how="left")


def spend(tables: Tables, sources: Mapping[str, str] = ADVERTISED) -> pl.LazyFrame:
    """Return advertising money by day, dealership, channel and the source it is held against."""
    waves = tables("campaigns").select("campaign_id", "name", pl.col("channel").cast(pl.String))
    days = tables("campaign_days").join(waves, on="campaign_id", how="left")
    source = pl.col("channel").replace_strict(dict(sources), default=None, return_dtype=pl.String)
    return _placed(tables, days).with_columns(source.alias("source"), _sale("spend"))


def approaches(tables: Tables) -> pl.LazyFrame:
    """Return traffic with dealership, who answered, and the model that a lead asked for."""
    models = tables("models").select("model_id", "brand", "model")
    asked = (
        tables("opportunities")
        .select("customer_id", pl.col("opened_at").alias("happened_at"), "model_id")
        .filter(pl.col("customer_id").is_not_null())
        .unique(["customer_id", "happened_at"], keep="first", maintain_order=True)
    )
    named = tables("employees").select(
        pl.col("employee_id").alias("handled_by"), pl.col("name").alias("employee")
    )
    came = (
        tables("traffic")
        .join(asked, on=["customer_id", "happened_at"], how="left")
        .join(models, on="model_id", how="left")
        .join(named, on="handled_by", how="left")
    )
    return _placed(tables, came)


def stock(tables: Tables) -> pl.LazyFrame:
    """Return cars that were put up for sale here: since when, and the day they were sold."""
    models = tables("models").select("model_id", "brand", "model", "segment")
    offered = tables("vehicles").filter((pl.col("list_price") > 0) & (pl.col("cost") > 0))
    return _placed(tables, offered.join(models, on="model_id", how="left")).drop("vin")


def keeping_costs(
    tables: Tables, *, call: float | None, message: float | None, has: Callable[[str], bool]
) -> pl.LazyFrame:
    """Return what was spent on customers one already has: contacts, discounts, amends.

    Contacts are left out where the price of a call or of a message is not known.
    """
    none = pl.LazyFrame(
        schema={"customer_id": pl.Int64, "dealership_id": pl.Int64, "happened_on": pl.Date,
                "cost": pl.Float64, "kind": pl.String}
    )  # fmt: skip
    parts = [none]
    if has("contacts") and call is not None and message is not None:
        price = pl.when(pl.col("kind").cast(pl.String) == "call").then(call).otherwise(message)
        made = tables("contacts").filter(
            pl.col("done_at").is_not_null()
            & (pl.col("direction").cast(pl.String) == "outgoing")
            & pl.col("opportunity_id").is_null()
        )
        parts.append(_cost(made, "done_at", price, "contact"))
    if has("service_orders"):
        parts.append(_cost(tables("service_orders"), "opened_at", pl.col("discount"), "discount"))
    if has("cases"):
        paid = tables("cases").filter(pl.col("resolved_at").is_not_null())
        parts.append(_cost(paid, "resolved_at", pl.col("compensation"), "compensation"))
    return _placed(tables, pl.concat(parts).filter(pl.col("cost") > 0))


def _cost(frame: pl.LazyFrame, at: str, cost: pl.Expr, kind: str) -> pl.LazyFrame:
    return frame.select(
        "customer_id", "dealership_id", pl.col(at).dt.date().alias("happened_on"),
        cost.cast(pl.Float64).alias("cost"), pl.lit(kind).alias("kind"),
    )  # fmt: skip


def campaign_plan(tables: Tables) -> pl.LazyFrame:
    """Return when each campaign began and ended at each dealership, or that it was held out."""
    return _placed(tables, tables("campaigns")).with_columns(pl.col("channel").cast(pl.String))


def visits(tables: Tables, *, has: Callable[[str], bool]) -> pl.LazyFrame:
    """Return who came for what: first and later visits to the showroom, test drives, workshop."""
    named = tables("traffic").filter(
        (pl.col("kind").cast(pl.String) == "visit") & pl.col("customer_id").is_not_null()
    )
    turn = pl.col("happened_at").rank("ordinal").over("customer_id")
    came = named.select(
        "customer_id", "dealership_id", pl.col("happened_at").dt.date().alias("happened_on"),
        pl.when(turn == 1).then(pl.lit("first_visit")).otherwise(pl.lit("later_visit"))
        .alias("kind"),
    )  # fmt: skip
    drives = lead_events(tables).filter(pl.col("stage").cast(pl.String) == "test_drive")
    drove = drives.select(
        "customer_id", "dealership_id", pl.col("happened_at").dt.date().alias("happened_on"),
        pl.lit("test_drive").alias("kind"),
    )  # fmt: skip
    parts = [came, drove]
    if has("service_orders"):
        parts.append(
            tables("service_orders").select(
                "customer_id", "dealership_id",
                pl.col("opened_at").dt.date().alias("happened_on"), pl.lit("service").alias("kind"),
            )
        )  # fmt: skip
    return _placed(tables, pl.concat(parts))


def demand(tables: Tables) -> pl.LazyFrame:
    """Return what models customers asked for, drove and bought; null = no model named."""
    asked = leads(tables).select(
        "opportunity_id", "dealership_id", "dealership", "source", "brand", "model", "opened_at"
    )
    drives = tables("stage_events").filter(pl.col("stage").cast(pl.String) == "test_drive")
    drives = drives.group_by("opportunity_id").agg(pl.col("happened_at").min())
    columns = ("dealership_id", "dealership", "source", "brand", "model")

    def rows(frame: pl.LazyFrame, at: pl.Expr, kind: str) -> pl.LazyFrame:
        return frame.select(*columns, at.alias("happened_on"), pl.lit(kind).alias("kind"))

    return pl.concat(
        [
            rows(asked, pl.col("opened_at").dt.date(), "enquiry"),
            rows(
                drives.join(asked, on="opportunity_id"),
                pl.col("happened_at").dt.date(), "test_drive",
            ),
            rows(sales(tables), pl.col("contract_on"), "deal"),
        ]
    )  # fmt: skip


_REQUIRED: tuple[tuple[str, str, str, str], ...] = (
    ("customers", "phone", "phone", "created_at"),
    ("customers", "email", "email", "created_at"),
    ("customers", "date_of_birth", "birth_on", "created_at"),
    ("customers", "income", "income_band", "created_at"),
    ("opportunities", "source", "source", "opened_at"),
    ("opportunities", "model", "model_id", "visit_at"),
    ("opportunities", "budget", "budget", "offer_at"),
    ("opportunities", "purpose", "purpose", "offer_at"),
    ("opportunities", "reason_of_loss", "lost_reason", "lost_at"),
    ("deals", "vin", "vin", "contract_on"),
    ("deals", "way_of_payment", "pay", "contract_on"),
)
"""Fields that a sale needs: table, field, column, and from when it is required."""

_OF_PERSONS = ("birth_on", "income_band")


def required_fields(tables: Tables) -> pl.LazyFrame:
    """Return one row per record and field that it must have, from its stage on."""
    stages = (
        tables("stage_events")
        .group_by("opportunity_id")
        .agg(
            pl.col("happened_at").filter(pl.col("stage").cast(pl.String) == stage).min()
            .alias(f"{stage}_at")
            for stage in ("visit", "offer", "lost")
        )
    )  # fmt: skip
    cars = tables("vehicles").select("vehicle_id", "vin")
    whole = {
        "customers": tables("customers"),
        "opportunities": tables("opportunities").join(stages, on="opportunity_id", how="left"),
        "deals": tables("deals").join(cars, on="vehicle_id", how="left"),
    }
    parts = [_fields_of(name, frame) for name, frame in whole.items()]
    return with_managers(tables, pl.concat(parts))


def _fields_of(table: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return the required fields of one table, from one pass over it."""
    asked = [required for required in _REQUIRED if required[0] == table]
    cells = []
    for _table, name, column, due in asked:
        day = pl.col(due).cast(pl.Date)
        if column in _OF_PERSONS:
            day = pl.when(pl.col("kind").cast(pl.String) == "person").then(day)
        cells.append(
            pl.struct(
                pl.lit(name).alias("field"), pl.col(column).cast(pl.String).alias("value"),
                day.alias("due_on"),
            )
        )  # fmt: skip
    return (
        frame.select("dealership_id", "manager_id", pl.lit(table).alias("table"),
                     pl.concat_list(cells).alias("cell"))
        .explode("cell", empty_as_null=True)
        .unnest("cell")
    )  # fmt: skip


def with_managers(tables: Tables, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Put manager and dealership beside their keys: by name, and the manager by number too."""
    have = frame.collect_schema().names()
    frame = frame.drop(name for name in ("manager", "manager_no", "dealership") if name in have)
    key = pl.col("employee_id")
    people = tables("employees").select(
        key.alias("manager_id"), pl.col("name").alias("manager"),
        pl.format("№ {}", key).alias("manager_no"),
    )  # fmt: skip
    places = tables("dealerships").select("dealership_id", pl.col("name").alias("dealership"))
    return frame.join(people, on="manager_id", how="left").join(
        places, on="dealership_id", how="left"
    )


def billed_deals(tables: Tables) -> pl.LazyFrame:
    """Return deals beside their invoices: what the customer has to pay, by either."""
    lent = (
        tables("credits").filter(pl.col("approved"), pl.col("deal_id").is_not_null())
        .group_by("deal_id").agg(pl.col("amount").cast(pl.Int64).sum().alias("lent"))
    )  # fmt: skip
    price, accessories, trade_in = (
        pl.col(name).cast(pl.Int64) for name in ("sale_price", "accessories", "trade_in")
    )
    own = price + accessories - trade_in - pl.col("lent").fill_null(0)
    leased = pl.col("pay").cast(pl.String) == "leasing"
    deals = delivered(tables).join(lent, on="deal_id", how="left").select(
        "deal_id", "dealership_id", "manager_id", "delivery_on",
        pl.when(~leased).then(own).alias("deal_amount"),
        pl.lit(value=True).alias("in_crm"),
    )  # fmt: skip
    bills = tables("invoices").filter(pl.col("deal_id").is_not_null()).select(
        "deal_id", pl.col("dealership_id").alias("billed_at_id"), "issued_on",
        pl.col("amount").cast(pl.Int64).alias("invoice_amount"),
        pl.lit(value=True).alias("in_books"),
    )  # fmt: skip
    both = deals.join(bills, on="deal_id", how="full", coalesce=True).with_columns(
        pl.col("in_crm", "in_books").fill_null(value=False),
        pl.coalesce("dealership_id", "billed_at_id").alias("dealership_id"),
        pl.coalesce("delivery_on", "issued_on").alias("happened_on"),
    )
    # A car paid for by the bank or the trade-in alone has nothing to bill.
    owed = pl.col("in_books") | (pl.col("deal_amount").fill_null(1) > 0)
    return with_managers(tables, both.filter(owed).drop("billed_at_id", "issued_on", "delivery_on"))


def staff_weeks(tables: Tables, *, as_of: date) -> pl.LazyFrame:
    """Return one row per sales manager and whole week on duty, with what they typed in."""
    typed = [
        tables(table).select(
            pl.col(who).alias("manager_id"),
            pl.col("entered_at").dt.date().dt.truncate("1w").alias("week_on"),
        )
        for table, who in (("stage_events", "employee_id"), ("contacts", "employee_id"))
    ]
    actions = (
        pl.concat(typed).drop_nulls().group_by("manager_id", "week_on")
        .agg(pl.len().cast(pl.Int64).alias("n_actions"))
    )  # fmt: skip
    last = pl.min_horizontal(pl.col("left_on").fill_null(as_of), pl.lit(as_of))
    first_data = tables("stage_events").select(pl.col("entered_at").dt.date().min().alias("first"))
    duty = (
        tables("employees").filter(pl.col("role").cast(pl.String) == "manager")
        .join(first_data, how="cross")
        .with_columns(
            pl.max_horizontal("hired_on", "first").dt.offset_by("6d").dt.truncate("1w")
            .alias("from"),
            last.dt.offset_by("-6d").dt.truncate("1w").alias("to"),
        )
        .filter(pl.col("from") <= pl.col("to"))
        .select(
            pl.col("employee_id").alias("manager_id"), "dealership_id",
            pl.date_ranges("from", "to", "1w").alias("week_on"),
        )
        .explode("week_on", empty_as_null=True)
    )  # fmt: skip
    weeks = duty.join(actions, on=["manager_id", "week_on"], how="left")
    return with_managers(tables, weeks.with_columns(pl.col("n_actions").fill_null(0)))


def logged_deals(tables: Tables) -> pl.LazyFrame:
    """Return deals with when the first contact with their lead was typed in."""
    typed = (
        tables("contacts").filter(pl.col("opportunity_id").is_not_null())
        .group_by("opportunity_id").agg(pl.col("entered_at").min().alias("logged_at"))
    )  # fmt: skip
    deals = tables("deals").select("deal_id", "opportunity_id", "dealership_id", "manager_id",
                                   "contract_on")  # fmt: skip
    return with_managers(tables, deals.join(typed, on="opportunity_id", how="left"))


def contact_years(tables: Tables, *, since: date, as_of: date) -> pl.LazyFrame:
    """Return days and contacts of each customer as a prospect and as a customer, in a period."""
    made = tables("contacts").filter(pl.col("done_at").is_not_null()).select(
        "customer_id", pl.col("done_at").dt.date().alias("on")
    )  # fmt: skip
    counted = (
        _stretches(tables, since, as_of).join(made, on="customer_id")
        .filter(pl.col("on") >= pl.col("from"), pl.col("on") < pl.col("to"))
        .group_by("customer_id", "category").agg(pl.len().cast(pl.Int64).alias("n_contacts"))
    )  # fmt: skip
    whole = _stretches(tables, since, as_of).join(
        counted, on=["customer_id", "category"], how="left"
    )
    return with_managers(
        tables, whole.drop("from", "to").with_columns(pl.col("n_contacts").fill_null(0))
    )


def _stretches(tables: Tables, since: date, as_of: date) -> pl.LazyFrame:
    """Return the days of a period on which each customer was a prospect, and a customer."""
    bought = (
        delivered(tables).filter(pl.col("delivery_on") <= as_of)
        .group_by("customer_id").agg(pl.col("delivery_on").min().alias("bought_on"))
    )  # fmt: skip
    after = pl.lit(as_of).dt.offset_by("1d")
    met_on, bought_on = pl.col("created_at").dt.date(), pl.col("bought_on")
    stretches = {
        "prospect": (met_on, bought_on.fill_null(after)),
        "customer": (bought_on, pl.when(bought_on.is_not_null()).then(after)),
    }
    cells = [
        pl.struct(
            pl.lit(category).alias("category"),
            pl.max_horizontal(start, pl.lit(since)).alias("from"),
            pl.min_horizontal(end, after).alias("to"),
        )
        for category, (start, end) in stretches.items()
    ]
    return (
        tables("customers").join(bought, on="customer_id", how="left")
        .select("customer_id", "dealership_id", "manager_id", "consent",
                pl.concat_list(cells).alias("cell"), "bought_on")
        .explode("cell", empty_as_null=True).unnest("cell")
        .filter((pl.col("category") == "prospect") | pl.col("bought_on").is_not_null())
        .with_columns((pl.col("to") - pl.col("from")).dt.total_days().alias("days"))
        .filter(pl.col("days") > 0).drop("bought_on")
    )  # fmt: skip


def calls(tables: Tables) -> pl.LazyFrame:
    """Return the calls that went out, with what for, what came of them, and where."""
    out = pl.col("direction").cast(pl.String) == "outgoing"
    made = tables("contacts").filter(
        pl.col("kind").cast(pl.String) == "call", out, pl.col("done_at").is_not_null()
    ).select("customer_id", "dealership_id", "purpose", "done_at", "result")  # fmt: skip
    return _placed(tables, made)


def comings(tables: Tables, *, has: Callable[[str], bool]) -> pl.LazyFrame:
    """Return what customers did: came to the showroom or the workshop, or signed a contract."""
    came = visits(tables, has=has).select(
        "customer_id", "happened_on",
        pl.when(pl.col("kind") == "service").then(pl.lit("service")).otherwise(pl.lit("visit"))
        .alias("kind"),
    )  # fmt: skip
    signed = tables("deals").select(
        "customer_id", pl.col("contract_on").alias("happened_on"), pl.lit("contract").alias("kind")
    )
    return pl.concat([came, signed])


def touches(tables: Tables) -> pl.LazyFrame:
    """Return every contact that was made: those that went out, and those that came in."""
    planned = tables("contacts").filter(pl.col("done_at").is_not_null()).select(
        "dealership_id", pl.col("employee_id").alias("manager_id"),
        pl.col("direction").cast(pl.String), pl.col("done_at").alias("happened_at"),
    )  # fmt: skip
    came = tables("traffic").select(
        "dealership_id", pl.col("handled_by").alias("manager_id"),
        pl.lit("incoming").alias("direction"), "happened_at",
    )  # fmt: skip
    return with_managers(tables, pl.concat([planned, came]))


def birthdays(tables: Tables, *, since: date, as_of: date) -> pl.LazyFrame:
    """Return the birthdays in a period of customers with a known date who agreed to contacts."""
    years = pl.DataFrame({"year": range(since.year, as_of.year + 1)}, schema={"year": pl.Int32})
    born = tables("customers").filter(pl.col("consent"), pl.col("birth_on").is_not_null()).select(
        "customer_id", "dealership_id", "manager_id", "birth_on",
        pl.col("created_at").dt.date().alias("met_on"),
    )  # fmt: skip
    month, day = pl.col("birth_on").dt.month(), pl.col("birth_on").dt.day()
    common = ~pl.date("year", 1, 1).dt.is_leap_year() & (month == 2) & (day == 29)
    on = pl.date("year", month, pl.when(common).then(28).otherwise(day))
    due = born.join(years.lazy(), how="cross").with_columns(birthday_on=on).filter(
        pl.col("birthday_on").is_between(pl.lit(since), pl.lit(as_of)),
        pl.col("birthday_on") > pl.col("met_on"),
    )  # fmt: skip
    sent = (
        tables("contacts").filter(pl.col("purpose").cast(pl.String) == "birthday")
        .select("customer_id", "done_at", pl.col("due_at").dt.year().alias("year"))
        .group_by("customer_id", "year").agg(pl.col("done_at").min().alias("greeted_at"))
    )  # fmt: skip
    greeted = due.join(sent, on=["customer_id", "year"], how="left")
    return with_managers(tables, greeted.drop("birth_on", "met_on", "year"))


def manager_loads(tables: Tables, *, since: date, as_of: date) -> pl.LazyFrame:
    """Return one row per sales manager: leads got and days on duty in a period, leads open now."""
    opened = pl.col("opened_at").dt.date()
    closed = pl.col("closed_at").dt.date()
    leads = (
        tables("opportunities").filter(opened <= as_of).group_by("manager_id")
        .agg(
            (opened >= since).sum().cast(pl.Int64).alias("n_leads"),
            (closed.is_null() | (closed > as_of)).sum().cast(pl.Int64).alias("n_open"),
        )
    )  # fmt: skip
    first = pl.max_horizontal("hired_on", pl.lit(since))
    last = pl.min_horizontal(pl.col("left_on").fill_null(as_of), pl.lit(as_of))
    staff = (
        tables("employees")
        .filter(pl.col("role").cast(pl.String) == "manager", pl.col("hired_on") <= as_of)
        .select(
            pl.col("employee_id").alias("manager_id"), "dealership_id",
            ((last - first).dt.total_days() + 1).clip(0).alias("days_on_duty"),
            (pl.col("left_on").is_null() | (pl.col("left_on") > as_of)).alias("is_present"),
        )
    )  # fmt: skip
    counted = staff.join(leads, on="manager_id", how="left").with_columns(
        pl.col("n_leads", "n_open").fill_null(0)
    )
    busy = (pl.col("days_on_duty") > 0) | (pl.col("n_open") > 0)
    return with_managers(tables, counted.filter(busy))


def deal_margins(tables: Tables) -> pl.LazyFrame:
    """Return delivered cars with who sold them and what they left."""
    price, cost, fni = (
        pl.col(name).cast(pl.Int64) for name in ("sale_price", "cost", "fni_income")
    )
    deals = delivered(tables).select(
        "deal_id", "dealership_id", "manager_id", pl.col("delivery_on").alias("happened_on"),
        (price - cost + fni).alias("margin"),
    )  # fmt: skip
    return with_managers(tables, deals)


def typed_in(tables: Tables) -> pl.LazyFrame:
    """Return stages and contacts with when they happened and when they were typed in."""
    stages = tables("stage_events").select(
        "dealership_id", pl.col("employee_id").alias("manager_id"), "happened_at", "entered_at"
    )
    contacts = tables("contacts").filter(pl.col("done_at").is_not_null()).select(
        "dealership_id", pl.col("employee_id").alias("manager_id"),
        pl.col("done_at").alias("happened_at"), "entered_at",
    )  # fmt: skip
    return with_managers(tables, pl.concat([stages, contacts]))


def planned_contacts(tables: Tables) -> pl.LazyFrame:
    """Return planned contacts with who has to make them."""
    planned = tables("contacts").select(
        "dealership_id", pl.col("employee_id").alias("manager_id"), "kind", "purpose", "due_at",
        "done_at",
    )  # fmt: skip
    return with_managers(tables, planned)


def answers(tables: Tables) -> pl.LazyFrame:
    """Return approaches with who answered them, null where nobody did."""
    came = tables("traffic").select(
        "dealership_id", pl.col("handled_by").alias("manager_id"), "kind", "source", "happened_at",
        "handled_at",
    )  # fmt: skip
    return with_managers(tables, came)
