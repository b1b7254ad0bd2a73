"""The words of tables, fields and rules as readers know them.

Codes such as ``odometer_goes_back`` are turned into words where they are shown; here they are said,
so that every language has them.
"""

from __future__ import annotations

from crm_analysis.wording import _

__all__ = ["vocabulary"]


def vocabulary() -> tuple[str, ...]:
    """Return the words of every code that a page on the quality of records may show."""
    tables = (
        _("customers"), _("vehicles"), _("opportunities"), _("deals"), _("service orders"),
        _("traffic"), _("contacts"), _("cases"), _("invoices"), _("credits"), _("surveys"),
        _("stage events"),
    )  # fmt: skip
    fields = (
        _("phone"), _("email"), _("date of birth"), _("income"), _("source"), _("model"),
        _("budget"), _("purpose"), _("reason of loss"), _("vin"), _("way of payment"),
        _("last name"), _("birth on"), _("closed at"), _("happened at"), _("entered at"),
        _("sale price"), _("delivery on"), _("mileage km"), _("labour"), _("next due on"),
        _("customer id"), _("vehicle id"), _("opportunity id"), _("deal id"),
        _("service order id"), _("model id"), _("campaign id"), _("manager id"), _("advisor id"),
        _("employee id"), _("handled by"),
    )  # fmt: skip
    rules = (
        _("possible duplicate"), _("phone of many"), _("phone without seven digits"),
        _("not an address"), _("trial record"), _("impossible age"), _("impossible vin"),
        _("amount off scale"), _("closed before opened"), _("stage before the one before"),
        _("price does not add up"), _("impossible delivery"), _("impossible odometer"),
        _("odometer goes back"), _("bill does not fit its costs"),
        _("next visit before this one"), _("typed in before it happened"), _("key of nothing"),
    )  # fmt: skip
    return (*tables, *fields, *rules, _("better"), _("worse"), _("customer"), _("prospect"))
