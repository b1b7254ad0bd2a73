"""Which report reads which column, for the data dictionary.

Reports read views of the warehouse; a view reads columns of tables. Both are listed here, because
the generator does not know the library; a test takes columns away one by one and holds the list to
what the views and the notebooks truly read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Columns = Mapping[str, tuple[str, ...]]

_DEALERSHIP = {"dealerships": ("dealership_id", "name")}
_PEOPLE = _DEALERSHIP | {"employees": ("employee_id", "name")}

_BOUGHT = {
    "deals": (
        "dealership_id", "customer_id", "delivery_on", "sale_price", "cost", "accessories",
        "fni_income", "cancelled_on",
    ),
    "service_orders": (
        "dealership_id", "customer_id", "opened_at", "closed_at", "payer", "labour", "parts",
        "costs", "discount",
    ),
}  # fmt: skip

_CAME = {
    "dealerships": ("dealership_id", "name"),
    "employees": ("employee_id", "name"),
    "traffic": ("customer_id", "dealership_id", "happened_at", "kind"),
    "opportunities": (
        "opportunity_id", "customer_id", "manager_id", "source", "opened_at",
    ),
    "stage_events": (
        "opportunity_id", "dealership_id", "employee_id", "seq", "stage", "happened_at",
        "entered_at",
    ),
    "service_orders": ("customer_id", "dealership_id", "opened_at"),
}  # fmt: skip

VIEWS: Mapping[str, Columns] = MappingProxyType(
    {
        "spells": _DEALERSHIP
        | {
            "models": ("model_id", "brand"),
            "vehicles": ("vehicle_id", "model_id"),
            "deals": (
                "dealership_id", "customer_id", "vehicle_id", "model_id",
                "delivery_on", "cancelled_on",
            ),
            "service_orders": ("dealership_id", "vehicle_id", "customer_id", "opened_at"),
        },
        "ownership_spells": _DEALERSHIP
        | {
            "models": ("model_id", "brand"),
            "vehicles": ("vehicle_id", "model_id", "condition"),
            "opportunities": ("customer_id", "lost_reason", "closed_at"),
            "deals": (
                "dealership_id", "customer_id", "vehicle_id", "model_id",
                "delivery_on", "cancelled_on",
            ),
            "service_orders": ("dealership_id", "vehicle_id", "customer_id", "opened_at"),
        },
        "car_parc": _DEALERSHIP
        | {
            "models": ("model_id", "brand", "model", "warranty_months"),
            "vehicles": ("vehicle_id", "model_id", "condition", "model_year"),
            "deals": (
                "dealership_id", "customer_id", "vehicle_id", "model_id",
                "delivery_on", "trade_in", "cancelled_on",
            ),
            "service_orders": ("dealership_id", "vehicle_id", "customer_id", "opened_at"),
        },
        "departure_snapshots": _DEALERSHIP
        | {
            "models": ("model_id", "brand", "model", "warranty_months"),
            "vehicles": ("vehicle_id", "model_id", "condition", "model_year"),
            "deals": (
                "dealership_id", "customer_id", "vehicle_id", "model_id",
                "delivery_on", "cancelled_on",
            ),
            "service_orders": ("dealership_id", "vehicle_id", "customer_id", "opened_at"),
            "contacts": ("customer_id", "done_at"),
            "cases": ("customer_id", "kind", "opened_at"),
            "surveys": ("survey_id", "customer_id", "answered_at"),
            "survey_questions": ("question_id", "code"),
            "survey_answers": ("survey_id", "question_id", "value"),
        },
        "service_visits": _PEOPLE
        | {
            "models": ("model_id", "brand", "model"),
            "vehicles": ("vehicle_id", "model_id"),
            "service_orders": (
                "service_order_id", "dealership_id", "vehicle_id", "customer_id",
                "advisor_id", "opened_at", "closed_at", "kind", "payer",
                "mileage_km", "labour", "parts", "costs", "discount",
                "fixed_first_time", "next_due_on",
            ),
        },
        "purchases": _DEALERSHIP | _BOUGHT,
        "ledger": _DEALERSHIP
        | {
            "campaigns": ("campaign_id", "channel"),
            "campaign_days": ("campaign_id", "day_on", "dealership_id", "spend"),
            "opportunities": ("dealership_id", "customer_id", "source", "opened_at"),
            "deals": (
                "dealership_id", "customer_id", "delivery_on", "discount", "sale_price", "cost",
                "accessories", "trade_in", "fni_income", "cancelled_on",
            ),
            "service_orders": (
                "dealership_id", "customer_id", "opened_at", "closed_at", "payer", "labour",
                "parts", "costs", "discount",
            ),
            "contacts": ("dealership_id", "customer_id", "kind", "done_at"),
            "cases": (
                "dealership_id", "customer_id", "opened_at", "resolved_at", "compensation",
            ),
        },
        "scores": _PEOPLE
        | {
            "surveys": (
                "survey_id", "dealership_id", "customer_id", "employee_id", "kind", "answered_at",
            ),
            "survey_questions": ("question_id", "code"),
            "survey_answers": ("survey_id", "question_id", "value"),
        },
        "lead_events": _PEOPLE
        | {
            "opportunities": (
                "opportunity_id", "customer_id", "manager_id", "source", "opened_at",
            ),
            "stage_events": (
                "opportunity_id", "dealership_id", "seq", "stage", "happened_at", "entered_at",
                "employee_id",
            ),
        },
        "leads": _PEOPLE
        | {
            "models": ("model_id", "brand", "model"),
            "opportunities": (
                "opportunity_id", "dealership_id", "customer_id", "manager_id", "source",
                "opened_at", "model_id", "budget", "condition", "purpose", "priority", "status",
                "lost_reason", "competitor", "closed_at",
            ),
            "stage_events": ("opportunity_id", "stage", "happened_at"),
        },
        "loyalty_events": _PEOPLE
        | {
            "opportunities": ("dealership_id", "customer_id", "opened_at"),
            "deals": (
                "dealership_id", "customer_id", "delivery_on", "sale_price", "cost", "accessories",
                "fni_income", "cancelled_on",
            ),
            "service_orders": (
                "dealership_id", "customer_id", "opened_at", "closed_at", "payer", "labour",
                "parts", "costs", "discount",
            ),
            "surveys": (
                "survey_id", "dealership_id", "customer_id", "employee_id", "kind", "answered_at",
            ),
            "survey_questions": ("question_id", "code"),
            "survey_answers": ("survey_id", "question_id", "value"),
        },
        "car_events": _DEALERSHIP
        | {
            "deals": ("dealership_id", "vehicle_id", "delivery_on", "cancelled_on"),
            "service_orders": ("dealership_id", "vehicle_id", "opened_at"),
        },
        "portraits": _DEALERSHIP
        | {
            "customers": (
                "customer_id", "dealership_id", "kind", "gender", "birth_on", "city",
                "income_band", "has_children", "consent", "created_at",
            ),
        },
        "required_fields": _PEOPLE
        | {
            "customers": (
                "dealership_id", "kind", "birth_on", "phone", "email", "income_band", "created_at",
                "manager_id",
            ),
            "vehicles": ("vehicle_id", "vin"),
            "opportunities": (
                "opportunity_id", "dealership_id", "manager_id", "source", "opened_at", "model_id",
                "budget", "purpose", "lost_reason",
            ),
            "stage_events": ("opportunity_id", "stage", "happened_at"),
            "deals": ("dealership_id", "manager_id", "vehicle_id", "contract_on", "pay"),
        },
        "billed_deals": _PEOPLE
        | {
            "deals": (
                "deal_id", "dealership_id", "manager_id", "delivery_on", "sale_price",
                "accessories", "trade_in", "pay", "cancelled_on",
            ),
            "credits": ("deal_id", "amount", "approved"),
            "invoices": ("dealership_id", "deal_id", "issued_on", "amount"),
        },
        "staff_weeks": _DEALERSHIP
        | {
            "employees": ("employee_id", "dealership_id", "role", "name", "hired_on", "left_on"),
            "stage_events": ("entered_at", "employee_id"),
            "contacts": ("employee_id", "entered_at"),
        },
        "logged_deals": _PEOPLE
        | {
            "deals": ("deal_id", "opportunity_id", "dealership_id", "manager_id", "contract_on"),
            "contacts": ("opportunity_id", "entered_at"),
        },
        "manager_loads": _DEALERSHIP
        | {
            "employees": ("employee_id", "dealership_id", "role", "name", "hired_on", "left_on"),
            "opportunities": ("manager_id", "opened_at", "closed_at"),
        },
        "deal_margins": _PEOPLE
        | {
            "deals": (
                "deal_id", "dealership_id", "manager_id", "delivery_on", "sale_price", "cost",
                "fni_income", "cancelled_on",
            ),
        },
        "typed_in": _PEOPLE
        | {
            "stage_events": ("dealership_id", "happened_at", "entered_at", "employee_id"),
            "contacts": ("dealership_id", "employee_id", "done_at", "entered_at"),
        },
        "planned_contacts": _PEOPLE
        | {
            "contacts": ("dealership_id", "employee_id", "kind", "purpose", "due_at", "done_at"),
        },
        "answers": _PEOPLE
        | {
            "traffic": (
                "dealership_id", "happened_at", "kind", "source", "handled_by", "handled_at",
            ),
        },
        "sales": {
            "dealerships": ("dealership_id", "name"),
            "models": ("model_id", "brand", "model", "segment"),
            "vehicles": ("vehicle_id", "condition", "arrived_on"),
            "opportunities": ("opportunity_id", "source", "opened_at"),
            "deals": (
                "opportunity_id", "dealership_id", "vehicle_id", "model_id", "contract_on",
                "sale_price", "cost", "accessories", "fni_income", "cancelled_on",
            ),
        },
        "lead_costs": {
            "campaigns": ("campaign_id", "channel"),
            "campaign_days": ("campaign_id", "day_on", "dealership_id", "spend"),
            "opportunities": ("opportunity_id", "dealership_id", "source", "opened_at"),
            "contacts": ("opportunity_id", "kind", "done_at"),
        },
        "lead_sales": {
            "dealerships": ("dealership_id", "name"),
            "employees": ("employee_id", "name"),
            "models": ("model_id", "brand", "model", "segment"),
            "vehicles": ("vehicle_id", "condition", "arrived_on"),
            "opportunities": (
                "opportunity_id", "dealership_id", "customer_id", "manager_id", "source",
                "opened_at", "model_id", "budget", "condition", "purpose", "priority", "status",
                "lost_reason", "competitor", "closed_at",
            ),
            "stage_events": ("opportunity_id", "stage", "happened_at"),
            "deals": (
                "opportunity_id", "dealership_id", "vehicle_id", "model_id", "contract_on",
                "sale_price", "cost", "accessories", "fni_income", "cancelled_on",
            ),
        },
        "spend": {
            "dealerships": ("dealership_id", "name"),
            "campaigns": ("campaign_id", "name", "channel"),
            "campaign_days": ("campaign_id", "dealership_id", "spend"),
        },
        "approaches": {
            "dealerships": ("dealership_id", "name"),
            "employees": ("employee_id", "name"),
            "models": ("model_id", "brand", "model"),
            "traffic": ("dealership_id", "happened_at", "customer_id", "handled_by"),
            "opportunities": ("customer_id", "opened_at", "model_id"),
        },
        "asked": _PEOPLE
        | _BOUGHT
        | {
            "surveys": (
                "survey_id", "customer_id", "employee_id", "dealership_id", "kind", "channel",
                "sent_at", "answered_at",
            ),
            "survey_questions": ("question_id", "code"),
            "survey_answers": ("survey_id", "question_id", "value"),
        },
        "question_scores": _PEOPLE
        | {
            "surveys": (
                "survey_id", "customer_id", "employee_id", "dealership_id", "kind", "answered_at",
            ),
            "survey_questions": ("question_id", "code", "type", "scale_min", "scale_max"),
            "survey_answers": ("survey_id", "question_id", "value"),
        },
        "case_values": _DEALERSHIP
        | _BOUGHT
        | {"cases": ("customer_id",)},
        "customer_scores": _DEALERSHIP
        | _BOUGHT
        | {
            "surveys": ("survey_id", "customer_id", "answered_at"),
            "survey_questions": ("question_id", "code"),
            "survey_answers": ("survey_id", "question_id", "value"),
        },
        "stock": {
            "dealerships": ("dealership_id", "name"),
            "models": ("model_id", "brand", "model", "segment"),
            "vehicles": ("vin", "model_id", "dealership_id", "cost", "list_price"),
        },
        "campaign_plan": {
            "dealerships": ("dealership_id", "name"),
            "campaigns": ("dealership_id", "channel"),
        },
        "demand": {
            "dealerships": ("dealership_id", "name"),
            "employees": ("employee_id", "name"),
            "models": ("model_id", "brand", "model", "segment"),
            "vehicles": ("vehicle_id", "condition", "arrived_on"),
            "opportunities": (
                "opportunity_id", "dealership_id", "customer_id", "manager_id", "source",
                "opened_at", "model_id", "budget", "condition", "purpose", "priority", "status",
                "lost_reason", "competitor", "closed_at",
            ),
            "stage_events": ("opportunity_id", "stage", "happened_at"),
            "deals": (
                "opportunity_id", "dealership_id", "vehicle_id", "model_id", "contract_on",
                "sale_price", "cost", "accessories", "fni_income", "cancelled_on",
            ),
        },
        "relationship_events": {
            "dealerships": ("dealership_id", "name"),
            "deals": (
                "customer_id", "dealership_id", "delivery_on", "cancelled_on", "sale_price",
                "accessories", "fni_income", "cost",
            ),
            "service_orders": (
                "customer_id", "dealership_id", "opened_at", "closed_at", "labour", "parts",
                "discount", "costs", "payer",
            ),
            "contacts": (
                "customer_id", "dealership_id", "employee_id", "kind", "result", "done_at",
            ),
        },
        "loyalty_points": {
            "dealerships": ("dealership_id", "name"),
            "loyalty_accounts": ("loyalty_account_id", "dealership_id"),
            "loyalty_transactions": ("loyalty_account_id", "happened_on", "kind", "points"),
        },
        "loyalty_members": {
            "dealerships": ("dealership_id", "name"),
            "deals": (
                "customer_id", "dealership_id", "delivery_on", "cancelled_on", "sale_price",
                "accessories", "fni_income", "cost",
            ),
            "service_orders": (
                "customer_id", "dealership_id", "opened_at", "closed_at", "labour", "parts",
                "discount", "costs", "payer",
            ),
            "loyalty_accounts": ("customer_id", "joined_on"),
        },
        "contact_years": _PEOPLE
        | {
            "customers": ("customer_id", "dealership_id", "manager_id", "consent", "created_at"),
            "deals": ("customer_id", "delivery_on", "cancelled_on"),
            "contacts": ("customer_id", "done_at"),
        },
        "birthdays": _PEOPLE
        | {
            "customers": (
                "customer_id", "dealership_id", "manager_id", "consent", "birth_on", "created_at",
            ),
            "contacts": ("customer_id", "purpose", "done_at", "due_at"),
        },
        "touches": _PEOPLE
        | {
            "contacts": ("dealership_id", "employee_id", "direction", "done_at"),
            "traffic": ("dealership_id", "handled_by", "happened_at"),
        },
        "calls": {
            "dealerships": ("dealership_id", "name"),
            "contacts": (
                "dealership_id", "customer_id", "kind", "purpose", "direction", "done_at", "result",
            ),
        },
        "visits": _CAME,
        "comings": _CAME | {"deals": ("customer_id", "contract_on")},
        "keeping_costs": {
            "dealerships": ("dealership_id", "name"),
            "service_orders": ("dealership_id", "customer_id", "opened_at", "discount"),
            "contacts": (
                "dealership_id", "customer_id", "opportunity_id", "kind", "direction", "done_at",
            ),
            "cases": ("dealership_id", "customer_id", "resolved_at", "compensation"),
        },
    }
)  # fmt: skip
"""Columns that each view of the warehouse is made from."""

REPORTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "director": (
            "answers",
            "car_parc",
            "deal_margins",
            "lead_events",
            "leads",
            "purchases",
            "sales",
            "scores",
            "service_visits",
            "stock",
        ),
        "retention": ("car_parc", "purchases", "service_visits", "spells"),
        "departures": ("car_parc", "departure_snapshots", "ownership_spells", "spells"),
        "lifetime": ("ledger", "leads", "ownership_spells", "purchases", "sales", "spells"),
        "funnel": ("lead_costs", "lead_events"),
        "satisfaction": ("asked", "question_scores", "scores"),
        "customer_base": (
            "birthdays",
            "contact_years",
            "loyalty_events",
            "loyalty_members",
            "loyalty_points",
            "portraits",
            "purchases",
            "relationship_events",
            "touches",
        ),
        "pipeline": ("lead_events", "lead_sales"),
        "service_head": ("car_events", "car_parc", "purchases", "service_visits"),
        "client_service": ("asked", "case_values", "customer_scores", "scores"),
        "data_quality": (
            "billed_deals",
            "lead_events",
            "logged_deals",
            "required_fields",
            "staff_weeks",
            "typed_in",
        ),
        "sales_head": (
            "answers",
            "deal_margins",
            "lead_events",
            "leads",
            "manager_loads",
            "planned_contacts",
            "sales",
            "scores",
            "typed_in",
        ),
        "marketer": (
            "answers",
            "approaches",
            "calls",
            "campaign_plan",
            "comings",
            "demand",
            "keeping_costs",
            "lead_sales",
            "purchases",
            "sales",
            "spend",
            "stock",
            "visits",
        ),
        "synthetic_network": ("lead_events", "purchases", "spells"),
    }
)
"""Views that each report, a notebook of that name, reads."""

DIRECT: Mapping[str, Columns] = MappingProxyType(
    {
        "director": {
            "deals": ("contract_on",),
            "invoices": ("customer_id", "issued_on", "due_on", "amount", "paid", "paid_on"),
        },
        "satisfaction": {"surveys": ("customer_id", "sent_at", "answered_at")},
        "customer_base": {
            "invoices": ("customer_id", "issued_on", "due_on", "amount", "paid", "paid_on"),
            "opportunities": ("opened_at", "source"),
        },
        "marketer": {"customers": ("created_at",)},
        "sales_head": {"deals": ("contract_on",), "employees": ("employee_id", "hired_on")},
        "pipeline": {"deals": ("contract_on",)},
        "client_service": {
            "surveys": ("customer_id", "kind", "sent_at", "answered_at", "channel"),
            "cases": (
                "customer_id",
                "kind",
                "about",
                "opened_at",
                "due_at",
                "first_response_at",
                "resolved_at",
            ),
        },
        "data_quality": {
            "customers": (
                "customer_id",
                "last_name",
                "first_name",
                "birth_on",
                "phone",
                "email",
                "created_at",
            ),
        },
        "synthetic_network": {
            "customers": ("customer_id",),
            "opportunities": ("opened_at",),
            "deals": ("customer_id", "vehicle_id", "delivery_on"),
            "vehicles": ("vehicle_id", "condition"),
            "surveys": ("survey_id", "kind", "answered_at"),
            "survey_answers": ("survey_id", "question_id", "value"),
            "truth_answer": ("survey_id", "question_id", "expected_score"),
            "truth_defect": ("table", "key", "kind", "change"),
            "truth_fate": ("customer_id", "started_on", "ended_on", "cause"),
            "truth_interval": ("customer_id", "start_on", "stop_on", "hazard", "in_warranty"),
        },
    }
)
"""Columns that a report reads from a table itself."""


def columns_of(report: str) -> dict[str, set[str]]:
    """Return the columns that a report reads, by table.

    Examples
    --------
    >>> sorted(columns_of("funnel")["employees"])
    ['employee_id', 'name']
    """
    found: dict[str, set[str]] = {}
    read = [VIEWS[view] for view in REPORTS[report]] + [DIRECT.get(report, {})]
    for tables in read:
        for table, columns in tables.items():
            found.setdefault(table, set()).update(columns)
    return found


def readers(table: str, column: str | None = None) -> list[str]:
    """Return the reports that read a column of a table, or anything of it.

    A closed-form world may hold a view itself as a table: it is read as the view is.
    """
    found = []
    for report, views in REPORTS.items():
        columns = columns_of(report).get(table, set())
        if table in views or (columns if column is None else column in columns):
            found.append(report)
    return found
