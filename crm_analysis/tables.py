"""A tidy table in, a typeset table out: for great_tables and for blocks alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from crm_analysis.blocks import BlockTable, Column
from crm_analysis.wording import (
    ABSENT,
    Unit,
    _,
    amount,
    date_text,
    marked,
    month_text,
    number,
    word_of,
)

if TYPE_CHECKING:
    from great_tables import GT

__all__ = ["cell_text", "label_of", "to_block_table", "typeset"]

_LEAST = 0.0005
"""A number of no unit smaller than this would be written as nothing in three decimals."""

_DIGITS = 4
"""Digits that a number of no unit is written with, where it has decimals: at most three of them."""

_KINDS: dict[str, Any] = {
    "share": "percent",
    "money": "money",
    "count": "integer",
}


def _labels(_: Callable[[str], str]) -> dict[str, str]:
    """Return our columns and the English words over them; `_` marks these for translation."""
    return {
        "n": _("n"),
        "estimate": _("Estimate"),
        "std_error": _("Standard error"),
        "conf_low": _("Low"),
        "conf_high": _("High"),
        "dealership": _("Dealership"),
        "dealership_id": _("Dealership"),
        "customer": _("Customer"),
        "time": _("Time"),
        "n_at_risk": _("At risk"),
        "n_exits": _("Exits"),
        "step": _("Step"),
        "stage": _("Stage"),
        "source": _("Source"),
        "brand": _("Brand"),
        "kind": _("Kind"),
        "channel": _("Channel"),
        "employee": _("Employee"),
        "employee_id": _("Employee"),
        "cohort": _("Cohort"),
        "score": _("Score"),
        "n_promoters": _("Promoters"),
        "n_passives": _("Passives"),
        "n_detractors": _("Detractors"),
        "n_top": _("Satisfied"),
        "n_answers": _("Answers"),
        "n_in_time": _("Answered in time"),
        "shrunk": _("Shrunk"),
        "shrunk_low": _("Shrunk, low"),
        "shrunk_high": _("Shrunk, high"),
        "period": _("Period"),
        "manager": _("Manager"),
        "manager_id": _("Manager"),
        "advisor": _("Service advisor"),
        "model": _("Model"),
        "payer": _("Payer"),
        "started_kind": _("Began with"),
        "started_year": _("Year of the first purchase"),
        "region": _("Region"),
        "city": _("City"),
        "n_active": _("Active"),
        "n_repeated": _("Bought again"),
        "n_reached": _("Reached"),
        "n_immature": _("Too recent"),
        "step_rate": _("Step rate"),
        "step_low": _("Step, low"),
        "step_high": _("Step, high"),
        "rate": _("Conversion"),
        "rate_other": _("Conversion of the others"),
        "n_other": _("n of the others"),
        "n_reached_other": _("Reached of the others"),
        "rate_ratio": _("Ratio of conversions"),
        "rate_ratio_low": _("Ratio, low"),
        "rate_ratio_high": _("Ratio, high"),
        "outcome": _("What became of it"),
        "loss_share": _("Share of losses"),
        "loss_share_low": _("Share of losses, low"),
        "loss_share_high": _("Share of losses, high"),
        "n_stalled": _("Stand still"),
        "limit_days": _("Usual limit, days"),
        "oldest_days": _("Oldest, days"),
        "win_rate": _("Share won"),
        "mean_margin": _("Margin of a sale"),
        "cycle_days": _("Days to the contract"),
        "n_fresh": _("In work"),
        "lead_days": _("Days in work"),
        "classic": _("Usual formula"),
        "classic_low": _("Usual formula, low"),
        "classic_high": _("Usual formula, high"),
        "late_days": _("Nine in ten, days"),
        "late_low": _("Nine in ten, low"),
        "late_high": _("Nine in ten, high"),
        "mean_days": _("Mean, days"),
        "mean_error": _("Mean, standard error"),
        "mean_low": _("Mean, low"),
        "mean_high": _("Mean, high"),
        "cost": _("Spent"),
        "days_low": _("Days, low"),
        "days_high": _("Days, high"),
        "n_at_start": _("In work at the start"),
        "n_at_end": _("In work at the end"),
        "n_opened": _("Opened"),
        "n_closed": _("Closed"),
        "opened_per_day": _("Opened a day"),
        "by_flow": _("By their flow"),
        "flow_ratio": _("In work to flow"),
        "flow_low": _("To flow, low"),
        "flow_high": _("To flow, high"),
        "n_moved_on": _("Moved on"),
        "n_lost": _("Lost"),
        "n_open": _("Still there"),
        "p90": _("90% done after"),
        "p90_low": _("90%, low"),
        "p90_high": _("90%, high"),
        "total": _("All together"),
        "parameter": _("Parameter"),
        "frequency": _("Repeat purchases"),
        "n_customers": _("Customers"),
        "abc_class": _("Class"),
        "trait_value": _("Category"),
        "value": _("Value"),
        "value_low": _("Value, low"),
        "value_high": _("Value, high"),
        "value_share": _("Share of the value"),
        "mean_value": _("Mean value"),
        "measure": _("Measure"),
        "from_state": _("From"),
        "to_state": _("To"),
        "n_moved": _("Moved"),
        "segment": _("Segment"),
        "median_recency_days": _("Days since the last, median"),
        "mean_frequency": _("Purchases, mean"),
        "rung": _("Rung"),
        "relationship": _("Relationship"),
        "xyz_class": _("Regularity"),
        "chance": _("By chance alone"),
        "peak_month": _("Strongest month"),
        "peak": _("That month to the mean"),
        "season_p": _("p of the season"),
        "of_others": _("Others, same mix"),
        "difference_low": _("Difference, low"),
        "difference_high": _("Difference, high"),
        "matched": _("Comparable"),
        "category": _("Who"),
        "n_contacts": _("Contacts"),
        "norm": _("Norm"),
        "within_norm": _("Met the norm"),
        "within_low": _("Met, low"),
        "within_high": _("Met, high"),
        "n_off": _("Off the day"),
        "n_paid_so": _("Paid so"),
        "n_rest": _("n of the others"),
        "share": _("Share"),
        "rest_share": _("Share of the others"),
        "gender": _("Gender"),
        "age_band": _("Age"),
        "income_band": _("Income"),
        "has_children": _("Children"),
        "consent": _("Consent"),
        "bucket": _("Overdue"),
        "n_invoices": _("Invoices"),
        "owed": _("Owed"),
        "n_overdue": _("Overdue customers"),
        "mean_chance": _("Mean chance"),
        "median_age_days": _("Days in the stage, median"),
        "month": _("Month"),
        "week": _("Week"),
        "naive": _("A year before"),
        "n_waiting": _("Waiting"),
        "n_yes": _("Yes"),
        "topic": _("About"),
        "n_cases": _("Cases"),
        "expected": _("Expected by the model"),
        "seen": _("Made"),
        "ends_on": _("Until"),
        "held_out": _("Held out"),
        "table": _("Table"),
        "rule": _("What is wrong"),
        "field": _("Field"),
        "manager_no": _("Manager"),
        "n_hidden": _("Says nothing"),
        "n_found": _("Found"),
        "n_late": _("Late"),
        "n_never": _("Never"),
        "days": _("Days"),
        "n_skipped": _("Step left out"),
        "n_swapped": _("Out of order"),
        "even_share": _("Even share"),
        "ratio": _("Got by even share"),
        "ratio_low": _("Ratio, low"),
        "ratio_high": _("Ratio, high"),
        "n_matched": _("Alike"),
        "n_differ": _("Amount differs"),
        "n_only_crm": _("Only in the CRM"),
        "n_only_books": _("Only in the books"),
        "n_uncompared": _("Not compared"),
        "difference": _("Difference"),
        "here": _("Here"),
        "others": _("Elsewhere"),
        "loss": _("What that makes"),
        "plan": _("Plan"),
        "fact": _("Sold so far, of the plan"),
        "days_left": _("Working days left"),
        "money": _("Money behind it"),
        "n_won": _("Won"),
        "raw": _("Raw"),
        "raw_low": _("Raw, low"),
        "raw_high": _("Raw, high"),
        "rank_low": _("Rank, best"),
        "rank_high": _("Rank, worst"),
        "chance_best": _("Chance to be best"),
        "n_staff": _("People"),
        "n_early": _("Too early"),
        "n_others": _("Others"),
        "mean": _("Mean"),
        "mean_others": _("Mean of others"),
        "p_value": _("p-value"),
        "p_adjusted": _("p-value, adjusted"),
        "chi_squared": _("Chi-squared"),
        "ratio_first": _("Ratio at first"),
        "ratio_last": _("Ratio at last"),
        "n_kept": _("Kept"),
        "age_years": _("Age, years"),
        "state": _("State"),
        "cause": _("Cause"),
        "condition": _("Condition"),
        "warranty": _("Warranty"),
        "n_ended": _("Ended"),
        "customer_years": _("Customer-years"),
        "car_years": _("Car-years"),
        "age_months": _("Age, months"),
        "comparison": _("Comparison"),
        "factor": _("Factor"),
        "tenth": _("Tenth"),
        "predicted": _("Predicted"),
        "n_left": _("Fell silent"),
        "risk": _("Risk"),
        "owned": _("Owned for"),
        "owned_years": _("Years owned"),
        "n_expected": _("Number expected"),
        "within": _("Within"),
        "horizon_months": _("Months"),
        "trait": _("Trait"),
        "n_referred": _("Recommended"),
        "n_followed": _("Followed to the end"),
        "n_made": _("Made in the period"),
        "bias": _("Expected minus made"),
        "mae": _("Mean miss"),
        "rmse": _("Root mean squared miss"),
        "group": _("Group"),
        "n_parameters": _("Parameters"),
        "log_likelihood": _("Log-likelihood"),
        "aic": _("AIC"),
        "bic": _("BIC"),
        "mean_active": _("Mean probability of being active"),
        "share_bought": _("Share that bought"),
        "brier": _("Brier score"),
        "covariate": _("Covariate"),
        "level": _("Level"),
        "process": _("What they do"),
        "chance_band": _("Chance of a contract"),
        "lift": _("Times the mean"),
        "caught": _("Of all contracts"),
        "n_managers": _("Managers"),
        "odds": _("Odds against experience"),
        "odds_low": _("Odds, low"),
        "odds_high": _("Odds, high"),
        "managers": _("Managers"),
        "base": _("Base pay"),
        "deals": _("For cars"),
        "bonus": _("For steps"),
        "pleased": _("For pleased customers"),
        "cars": _("Cars in a month"),
        "by_luck": _("Two sides by luck"),
        "purpose": _("What for"),
        "n_not_reached": _("Not reached"),
        "not_reached": _("Share of those not reached"),
        "part": _("For what"),
        "change": _("Change"),
        "cost_to_serve": _("Cost to serve"),
        "share_paid": _("Paid back in time"),
        "share_low": _("Paid back, low"),
        "share_high": _("Paid back, high"),
        "n_in_loss": _("In loss"),
        "value_before": _("Value before"),
        "value_after": _("Value after"),
        "deal_margin": _("Margin of the deal"),
        "future_value": _("Value to come"),
        "n_at_cost": _("Held at cost"),
        "n_without_room": _("Without room"),
        "n_sold": _("Sales"),
        "margin": _("Margin"),
        "spend": _("Spend"),
        "cost_per_lead": _("Cost per lead"),
        "cost_per_sale": _("Cost per sale"),
        "cost_per_sale_low": _("Cost per sale, low"),
        "cost_per_sale_high": _("Cost per sale, high"),
        "margin_per_spend": _("Margin per unit spent"),
        "margin_per_spend_low": _("Margin per unit, low"),
        "margin_per_spend_high": _("Margin per unit, high"),
        "p_holm": _("p (Holm)"),
        "months": _("Months"),
        "extra": _("Brought"),
        "extra_low": _("Brought, low"),
        "extra_high": _("Brought, high"),
        "weeks": _("Weeks since the start"),
        "n_approaches": _("Approaches"),
        "n_handled": _("Answered"),
        "handled_share": _("Answered, share"),
        "handled_low": _("Answered, low"),
        "handled_high": _("Answered, high"),
        "median_discount": _("Median discount"),
        "p90_discount": _("90% get no more than"),
        "without_discount": _("Without discount"),
        "pay": _("Paid by"),
        "n_in_stock": _("In stock"),
        "average_stock": _("Average stock"),
        "days_of_supply": _("Days of supply"),
        "n_before": _("Customers before"),
        "n_answered": _("Answered"),
        "weighting": _("Weights"),
        "n_effective": _("Worth equal answers"),
        "bound_low": _("Worst case"),
        "bound_high": _("Best case"),
        "opinion": _("Opinion"),
        "n_returned": _("Came again"),
        "n_unresolved": _("Open"),
        "n_past_due": _("Open past their day"),
        "n_back": _("Came back"),
        "median_days": _("Median, days"),
        "median_low": _("Median, low"),
        "median_high": _("Median, high"),
        "cumulative": _("Cumulative share"),
        "n_earlier": _("In the period before"),
        "times": _("Times as many"),
        "times_low": _("Times, low"),
        "times_high": _("Times, high"),
        "question": _("Question"),
        "coefficient": _("Coefficient"),
        "coef_low": _("Coefficient, low"),
        "coef_high": _("Coefficient, high"),
        "n_low": _("Low scores"),
        "customer_share": _("Share of the customers"),
        "hidden": _("Not shown"),
    }


_LABELS = _labels(str)


def label_of(column: str) -> str:
    """Return the words that stand over a column of ours; other names stay as they are.

    Examples
    --------
    >>> label_of("conf_low"), label_of("dealership")
    ('Low', 'Dealership')
    """
    words = _LABELS.get(column)
    return column.replace("_", " ") if words is None else marked(words)


def cell_text(value: object, unit: Unit | None, *, currency: str | None = None) -> str:
    """Write one cell the way its unit is read, in the reader's language.

    Examples
    --------
    >>> cell_text(35034.149, None), cell_text(3.268, None), cell_text(0.0001, None)
    ('35,034', '3.268', '< 0.001')
    """
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, date):
        return date_text(value)
    if isinstance(value, int | float):
        if unit is not None:
            return amount(float(value), unit, currency=currency)
        return _plain_number(float(value))
    return word_of(value)


def _plain_number(value: float) -> str:
    """Write a number of no unit; one that three decimals would make nothing is said to be small."""
    if value.is_integer():
        return number(value)
    if 0 < value < _LEAST:
        return f"< {number(0.001, 3)}"
    whole = len(str(int(abs(value))))
    return number(value, min(3, max(_DIGITS - whole, 0)))


def to_block_table(
    table: pl.DataFrame,
    units: Mapping[str, Unit],
    *,
    labels: Mapping[str, str] | None = None,
    currency: str | None = None,
    caption: str | None = None,
) -> BlockTable:
    """Write a tidy table as a block's: one text per cell, labels over the columns.

    Parameters
    ----------
    table : polars DataFrame
    units : mapping of column to Unit
        What the numbers of a column are measured in.
    labels : mapping, optional
        Words over the columns that `label_of` does not know.

    Examples
    --------
    >>> to_block_table(pl.DataFrame({"month": [date(2026, 1, 1)]}), {}).rows
    (('January 2026',),)
    """
    own = labels or {}
    columns = tuple(
        Column(
            name,
            _in_unit(own.get(name, label_of(name)), units.get(name)),
            _kind(dtype, units.get(name)),
        )
        for name, dtype in table.schema.items()
    )
    rows = tuple(
        tuple(
            month_text(value)
            if name == "month" and isinstance(value, date)
            else cell_text(value, units.get(name), currency=currency)
            for name, value in zip(table.columns, row, strict=True)
        )
        for row in table.iter_rows()
    )
    return BlockTable(columns, rows, caption)


def _in_unit(label: str, unit: Unit | None) -> str:
    """Add to the words over a column the unit that its numbers do not carry themselves."""
    return _("{column}, points", column=label) if unit == "gap" else label


def _kind(dtype: pl.DataType, unit: Unit | None) -> Any:
    if dtype in (pl.Date, pl.Datetime):
        return "date"
    if not dtype.is_numeric():
        return "text"
    return _KINDS.get(unit or "", "number")


def typeset(block_table: BlockTable, *, title: str | None = None, table_id: str = "crm") -> GT:
    """Set a block's table with great_tables, under a fixed id so that pages stay equal."""
    from great_tables import GT

    frame = pl.DataFrame(
        {
            column.name: [row[i] for row in block_table.rows]
            for i, column in enumerate(block_table.columns)
        },
        schema={column.name: pl.String for column in block_table.columns},
    )
    gt = GT(frame, id=table_id).cols_label(
        cases={column.name: column.label for column in block_table.columns}
    )
    for side in ("left", "right"):
        names = [column.name for column in block_table.columns if column.align == side]
        if names:
            gt = gt.cols_align(side, columns=names)
    return gt.tab_header(title=title) if title else gt
