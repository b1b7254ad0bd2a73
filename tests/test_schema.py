"""The schema is one source: names, types, units, keys and meanings of every table."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from crm_analysis import schema
from crm_analysis.schema import FOREIGN_KEYS, TABLES, VIEWS, rule_columns

if TYPE_CHECKING:
    import dataframely as dy

THEN, NEXT = (datetime.fromisoformat(day) for day in ("2020-01-01", "2020-01-02"))
SCALE, ENDED = "scale_has_range", "ended_after_started"
EVERY = {**TABLES, **VIEWS}
MONEY = {
    "cost",
    "list_price",
    "sale_price",
    "discount",
    "labour",
    "parts",
    "trade_in",
    "fni_income",
}


@pytest.mark.parametrize("name", EVERY)
def test_every_column_has_a_meaning_and_a_unit(name: str) -> None:
    for column, kind in EVERY[name].columns().items():
        assert kind.description, f"{name}.{column} has no meaning"
        assert (kind.metadata or {}).get("unit"), f"{name}.{column} has no unit"


@pytest.mark.parametrize("name", EVERY)
def test_names_tell_types(name: str) -> None:
    for column, kind in EVERY[name].columns().items():
        if column.endswith("_id"):
            assert kind.dtype == pl.Int64(), column
        if column.endswith("_on"):
            assert kind.dtype == pl.Date(), column
        if column.endswith("_at"):
            assert kind.dtype == pl.Datetime("us"), column
        if column in MONEY:
            assert kind.dtype == pl.Int32(), column


@pytest.mark.parametrize("name", TABLES)
def test_every_open_table_has_a_key(name: str) -> None:
    assert TABLES[name].primary_key()


def test_foreign_keys_name_columns_that_exist_and_parents_keys() -> None:
    for child, column, parent, key in FOREIGN_KEYS:
        assert column in TABLES[child].columns()
        assert TABLES[parent].primary_key() == [key]
        assert list(TABLES).index(parent) < list(TABLES).index(child)


def test_every_reference_is_a_foreign_key() -> None:
    known = {(child, column) for child, column, _, _ in FOREIGN_KEYS}
    for name, table in TABLES.items():
        for column in table.columns():
            own = table.primary_key() == [column]
            if column.endswith("_id") and not own:
                assert (name, column) in known, f"{name}.{column} points nowhere"


def test_names_of_people_are_marked_personal() -> None:
    columns = TABLES["customers"].columns()
    for column in ("last_name", "first_name", "patronymic", "phone", "email", "birth_on"):
        assert (columns[column].metadata or {})["personal"]


def test_a_rule_knows_its_columns() -> None:
    assert rule_columns(schema.Deals, "discount|min") == ["discount"]
    assert rule_columns(schema.Deals, "primary_key") == ["deal_id"]
    found = rule_columns(schema.Opportunities, "closed_after_opened")
    assert sorted(found) == ["closed_at", "opened_at"]


def _broken(table: type[dy.Schema], **row: object) -> set[str]:
    """Return the rules that one row breaks; columns not given are null."""
    columns = table.columns()
    values = {name: [row.get(name)] for name in columns}
    types = {name: kind.dtype for name, kind in columns.items()}
    _, failure = table.filter(pl.DataFrame(values, schema=types))
    return {rule for rule in failure.counts() if not rule.endswith("|nullability")}


@pytest.mark.parametrize(
    ("table", "row", "rule"),
    [
        (schema.Employees, {"hired_on": NEXT.date(), "left_on": THEN.date()}, "left_after_hired"),
        (schema.Deals, {"discount": 2, "list_price": 1}, "discount_within_list_price"),
        (schema.Deals, {"discount": -1, "list_price": 1}, "discount|min"),
        (schema.Opportunities, {"status": "open", "closed_at": THEN}, "open_until_closed"),
        (schema.Opportunities, {"status": "won", "closed_at": None}, "open_until_closed"),
        (
            schema.Opportunities,
            {"status": "won", "closed_at": THEN, "lost_reason": "price"},
            "reason_only_when_lost",
        ),
        (
            schema.ServiceOrders,
            {"opened_at": NEXT, "closed_at": THEN},
            "closed_after_opened",
        ),
        (schema.ServiceOrders, {"labour": 5, "parts": 5, "discount": 11}, "discount_within_bill"),
        (schema.ServiceOrders, {"mileage_km": -1}, "mileage_km|min"),
        (schema.SurveyQuestions, {"type": "scale", "scale_min": 5, "scale_max": 1}, SCALE),
        (schema.SurveyQuestions, {"type": "scale", "scale_min": None}, SCALE),
        (schema.SurveyAnswers, {"value": None, "text": None}, "says_something"),
        (schema.SurveyAnswers, {"value": float("nan")}, "value_is_a_number"),
        (schema.Vehicles, {"vin": "TOO SHORT"}, "vin|regex"),
        (schema.Vehicles, {"sold_on": THEN.date(), "customer_id": None}, "sold_has_owner"),
        (schema.Spells, dict.fromkeys(["started_on", "ended_on"], THEN.date()), ENDED),
    ],
)  # fmt: skip
def test_rules_catch_what_they_are_for(
    table: type[dy.Schema], row: dict[str, object], rule: str
) -> None:
    assert rule in _broken(table, **row)
