"""Views derived from the open tables, all lazy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import polars as pl

from crm_analysis.schema import PURCHASE_KINDS, VIEWS

Tables = Callable[[str], pl.LazyFrame]

_CAR, _SERVICE = PURCHASE_KINDS


_NAMES = {
    "dealership": ("dealerships", "dealership_id", "dealership_id"),
    "manager": ("employees", "employee_id", "manager_id"),
    "employee": ("employees", "employee_id", "employee_id"),
}
"""Names that views carry: column, the table it is read from, its key there, and the view's key."""


def _fit(tables: Tables, name: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    columns = VIEWS[name].columns()
    for column, (table, key, ours) in _NAMES.items():
        if column in columns:
            names = tables(table).select(pl.col(key).alias(ours), pl.col("name").alias(column))
            frame = frame.join(names, on=ours, how="left")
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
    )
    whole = pl.concat([cars, services]).join(models, on="model_id", how="left")
    return whole.filter(pl.col("happened_on") <= as_of)


def spells(tables: Tables, *, as_of: date, inactive_months: int) -> pl.LazyFrame:
    """Return each customer's first service relationship (see `Warehouse.spells`)."""
    order = ["customer_id", "happened_on", "kind"]
    lapsed_on = pl.col("happened_on").dt.offset_by(f"{inactive_months}mo")
    following = pl.col("happened_on").shift(-1).over("customer_id")
    activity = (
        _activity(tables, as_of)
        .sort(order)
        .with_columns(lapsed_on.alias("lapsed_on"), following.alias("following"))
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
    return _fit(tables, "spells", spell)


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
    return _fit(tables, "purchases", pl.concat([cars, services]))


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
    return _fit(tables, "service_visits", visits)


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
    return _fit(tables, "scores", joined)


def lead_events(tables: Tables) -> pl.LazyFrame:
    """Return stage events with their opportunity's customer, manager, source and opening."""
    leads = tables("opportunities").select(
        "opportunity_id", "customer_id", "manager_id", "source", "opened_at"
    )
    return _fit(tables, "lead_events", tables("stage_events").join(leads, on="opportunity_id"))
