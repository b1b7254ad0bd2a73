"""What no record of a dealership may say: one rule a line, with the record that breaks it.

A rule answers, for each row, true (broken), false (looked at and in order) or null (nothing to
look at). A table that lacks a rule's column is not checked by that rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from crm_analysis.frames import Kind
from crm_analysis.managers.duplicates import find_duplicates, normal_phone

__all__ = ["KEYS", "PARENTS", "RULES", "Rule"]

OFF_SCALE = 30
"""An amount so many times above or below the median of its column is in another unit."""

BILL_TO_COSTS = 20
"""A bill of so many times its costs is in another unit: workshops bill two or three times."""

MOST_KM = 1_500_000
"""More than any car of a dealership's workshop has run."""

CUSTOMER_AGES = (14 * 365, 110 * 365)
"""Ages in days at which somebody can be a customer."""

SHARED_BY = 3
"""A phone that so many people of different names have is nobody's own."""

DELIVERY_DAYS = 366
"""A car delivered later after its contract was dated wrongly."""

KEYS = {
    "customers": "customer_id", "vehicles": "vehicle_id", "opportunities": "opportunity_id",
    "deals": "deal_id", "service_orders": "service_order_id", "traffic": "traffic_id",
    "contacts": "contact_id", "cases": "case_id", "invoices": "invoice_id",
    "credits": "credit_id", "surveys": "survey_id", "stage_events": "opportunity_id",
}  # fmt: skip
"""The key by which a record is found in the CRM."""

PARENTS = {
    "customer_id": ("customers", "customer_id"), "vehicle_id": ("vehicles", "vehicle_id"),
    "opportunity_id": ("opportunities", "opportunity_id"), "deal_id": ("deals", "deal_id"),
    "service_order_id": ("service_orders", "service_order_id"),
    "model_id": ("models", "model_id"), "campaign_id": ("campaigns", "campaign_id"),
    "manager_id": ("employees", "employee_id"), "advisor_id": ("employees", "employee_id"),
    "employee_id": ("employees", "employee_id"), "handled_by": ("employees", "employee_id"),
}  # fmt: skip
"""Where a column that names another record points to."""


@dataclass(frozen=True)
class Rule:
    """One thing that must not be so.

    Attributes
    ----------
    table, name, field : str
        Where it is looked for, what is wrong, and in which column.
    needs : mapping of str to Kind
        Columns it looks at.
    broken : callable
        Takes the table's rows and returns a boolean for each.
    """

    table: str
    name: str
    field: str
    needs: dict[str, Kind]
    broken: Callable[[pl.DataFrame], pl.Series]


def _by(expression: pl.Expr) -> Callable[[pl.DataFrame], pl.Series]:
    return lambda rows: rows.select(expression.alias("broken")).to_series()


_PERSON: dict[str, Kind] = {
    "last_name": "text", "first_name": "text", "phone": "text", "email": "text",
    "birth_on": "date", "created_at": "moment",
}  # fmt: skip
_TRIAL = r"(?i)^(test|тест|проверк|проба|asdf|qwert|йцук|фыва|xxx|aaa|ааа)"


def _duplicate(rows: pl.DataFrame) -> pl.Series:
    found = find_duplicates(rows.rename({"key": "customer_id"}))
    return rows["key"].is_in(found["customer_id"].unique().implode())


def _shared_phone(rows: pl.DataFrame) -> pl.Series:
    phone = normal_phone(pl.col("phone").cast(pl.String))
    named = rows.select(phone.alias("phone"), "last_name")
    names = pl.col("last_name").n_unique().over("phone")
    return named.select(pl.when(pl.col("phone").is_not_null()).then(names >= SHARED_BY)).to_series()


def _off_scale(name: str) -> pl.Expr:
    value = pl.col(name)
    middle = value.filter(value > 0).median()
    return pl.when(value > 0).then((value > OFF_SCALE * middle) | (value * OFF_SCALE < middle))


def _goes_back() -> pl.Expr:
    """Say which odometer is wrong: below the visit before, unless that one stands alone too high.

    The reading that its two neighbours contradict is to blame, not the one after it.
    """
    order = ["opened_at", "key"]
    km = pl.when(pl.col("mileage_km") <= MOST_KM).then("mileage_km")
    before, after = (km.shift(step).over("vehicle_id", order_by=order) for step in (1, -1))
    later = km.shift(-2).over("vehicle_id", order_by=order)
    too_low = (km < before) & ~(after < before).fill_null(value=False)
    too_high = (km > after) & (later < km).fill_null(value=False)
    too_high = too_high & ~(before > after).fill_null(value=False)
    return pl.when(before.is_not_null() | after.is_not_null()).then(
        too_low.fill_null(value=False) | too_high.fill_null(value=False)
    )


def _bill() -> pl.Expr:
    bill, costs = pl.col("labour") + pl.col("parts"), pl.col("costs")
    return pl.when(costs > 0).then((bill > BILL_TO_COSTS * costs) | (bill * BILL_TO_COSTS < costs))


def _age_at_creation() -> pl.Expr:
    days = pl.col("created_at") // 86_400 - pl.col("birth_on")
    return ~days.is_between(*CUSTOMER_AGES)


def _lower(later: str, earlier: str, *, most: int | None = None) -> pl.Expr:
    apart = pl.col(later) - pl.col(earlier)
    return apart < 0 if most is None else (apart < 0) | (apart > most)


def _back_dated() -> pl.Expr:
    at = pl.col("happened_at")
    return at < at.shift().over("key", order_by="seq")


def _typed_in_first(table: str, happened: str) -> Rule:
    return Rule(
        table, "typed_in_before_it_happened", "entered_at",
        {happened: "moment", "entered_at": "moment"}, _by(_lower("entered_at", happened)),
    )  # fmt: skip


RULES: Sequence[Rule] = (
    Rule("customers", "possible_duplicate", "last_name", _PERSON, _duplicate),
    Rule("customers", "phone_of_many", "phone", {"phone": "text", "last_name": "text"},
         _shared_phone),
    Rule("customers", "phone_without_seven_digits", "phone", {"phone": "text"},
         _by(pl.when(pl.col("phone").is_not_null()).then(
             normal_phone(pl.col("phone").cast(pl.String)).is_null()))),
    Rule("customers", "not_an_address", "email", {"email": "text"},
         _by(~pl.col("email").cast(pl.String).str.contains(r"^[^@\s]+@[^@\s]+\.[^@\s.]+$"))),
    Rule("customers", "trial_record", "last_name", {"last_name": "text"},
         _by(pl.col("last_name").str.contains(_TRIAL))),
    Rule("customers", "impossible_age", "birth_on",
         {"birth_on": "date", "created_at": "moment"}, _by(_age_at_creation())),
    Rule("vehicles", "impossible_vin", "vin", {"vin": "text"},
         _by(~pl.col("vin").str.contains(r"^[A-HJ-NPR-Z0-9]{17}$"))),
    Rule("opportunities", "amount_off_scale", "budget", {"budget": "number"},
         _by(_off_scale("budget"))),
    Rule("opportunities", "closed_before_opened", "closed_at",
         {"closed_at": "moment", "opened_at": "moment"}, _by(_lower("closed_at", "opened_at"))),
    Rule("stage_events", "stage_before_the_one_before", "happened_at",
         {"happened_at": "moment", "seq": "number"},
         _by(_back_dated())),
    Rule("deals", "price_does_not_add_up", "sale_price",
         {"list_price": "number", "discount": "number", "sale_price": "number"},
         _by((pl.col("list_price") - pl.col("discount") - pl.col("sale_price")).abs() > 1)),
    Rule("deals", "impossible_delivery", "delivery_on",
         {"delivery_on": "date", "contract_on": "date"},
         _by(_lower("delivery_on", "contract_on", most=DELIVERY_DAYS))),
    Rule("service_orders", "impossible_odometer", "mileage_km", {"mileage_km": "number"},
         _by(pl.col("mileage_km") > MOST_KM)),
    Rule("service_orders", "odometer_goes_back", "mileage_km",
         {"mileage_km": "number", "vehicle_id": "key", "opened_at": "moment"},
         _by(_goes_back())),
    Rule("service_orders", "bill_does_not_fit_its_costs", "labour",
         {"labour": "number", "parts": "number", "costs": "number"}, _by(_bill())),
    Rule("service_orders", "next_visit_before_this_one", "next_due_on",
         {"next_due_on": "date", "opened_at": "moment"},
         _by(pl.col("next_due_on") < pl.col("opened_at") // 86_400)),
    _typed_in_first("customers", "created_at"),
    _typed_in_first("traffic", "happened_at"),
    _typed_in_first("stage_events", "happened_at"),
    _typed_in_first("contacts", "done_at"),
    _typed_in_first("cases", "opened_at"),
)  # fmt: skip
