"""Rules between tables: what must hold in time, in number and against the truth.

Each rule is a lazy query that returns the rows that break it, keys first; it is looked at when all
the tables that it needs are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from crm_analysis.schema import STAGES

Tables = Mapping[str, pl.LazyFrame]


@dataclass(frozen=True)
class Rule:
    """A rule between tables.

    Attributes
    ----------
    kind : str
        time, rules or truth.
    says : str
        What must hold.
    needs : tuple of str
        Tables it looks at; the first is the one whose rows break it.
    find : callable
        Returns the rows that break it, unread.
    """

    kind: str
    says: str
    needs: tuple[str, ...]
    find: Callable[[Tables], pl.LazyFrame]


def _day(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Date)


def _staffed(name: str, key: str, column: str, when: str) -> Rule:
    """Whoever acts is employed there on that day."""

    def find(tables: Tables) -> pl.LazyFrame:
        staff = tables["employees"].select(
            "employee_id", "hired_on", "left_on", works="dealership_id"
        )
        joined = tables[name].join(staff, left_on=column, right_on="employee_id")
        away = (_day(when) < pl.col("hired_on")) | (_day(when) > pl.col("left_on"))
        elsewhere = pl.col("dealership_id") != pl.col("works")
        return joined.filter(away | elsewhere).select(key, column, when, "hired_on", "left_on")

    says = f"{column} works at the dealership on the day of {when}"
    return Rule("time", says, (name, "employees"), find)


def _at_home(name: str, key: str) -> Rule:
    """Customers are served by their own dealership."""

    def find(tables: Tables) -> pl.LazyFrame:
        home = tables["customers"].select("customer_id", home="dealership_id")
        joined = tables[name].join(home, on="customer_id")
        return joined.filter(pl.col("dealership_id") != pl.col("home")).select(
            key, "dealership_id", "home"
        )

    says = "rows of a customer are in the customer's dealership"
    return Rule("rules", says, (name, "customers"), find)


def _known_before(name: str, key: str, when: str) -> Rule:
    def find(tables: Tables) -> pl.LazyFrame:
        known = tables["customers"].select("customer_id", "created_at")
        joined = tables[name].join(known, on="customer_id")
        return joined.filter(pl.col(when) < pl.col("created_at")).select(key, when, "created_at")

    return Rule("time", f"{when} is not before the customer was known", (name, "customers"), find)


def _stages_in_order(tables: Tables) -> pl.LazyFrame:
    rank = {stage: place for place, stage in enumerate(STAGES)}
    events = tables["stage_events"].sort("opportunity_id", "seq")
    ranked = events.with_columns(rank=pl.col("stage").cast(pl.String).replace_strict(rank))
    before = ranked.with_columns(
        earlier=pl.col("happened_at").shift().over("opportunity_id"),
        lower=pl.col("rank").shift().over("opportunity_id"),
        last=pl.col("seq").shift().over("opportunity_id"),
    )
    wrong = (
        (pl.col("happened_at") < pl.col("earlier"))
        | (pl.col("rank") <= pl.col("lower"))
        | (pl.col("seq") != pl.col("last").fill_null(0) + 1)
    )
    return before.filter(wrong).select("opportunity_id", "seq", "stage", "happened_at")


def _status_of_last_stage(tables: Tables) -> pl.LazyFrame:
    last = (
        tables["stage_events"]
        .group_by("opportunity_id")
        .agg(pl.col("stage").sort_by("seq").last(), pl.col("happened_at").max())
    )
    both = tables["opportunities"].join(last, on="opportunity_id", how="left")
    stage = pl.col("stage").cast(pl.String)
    won = pl.when(stage == "delivery").then(pl.lit("won"))
    status = won.when(stage == "lost").then(pl.lit("lost")).otherwise(pl.lit("open"))
    other = pl.col("status").cast(pl.String) != status
    moment = pl.col("closed_at") != pl.col("happened_at")
    return both.filter(stage.is_null() | other | moment).select(
        "opportunity_id", "status", "stage", "closed_at", "happened_at"
    )


def _deal_of_contract(tables: Tables) -> pl.LazyFrame:
    signed = (
        tables["stage_events"]
        .filter(pl.col("stage").cast(pl.String) == "contract")
        .select("opportunity_id", signed_on=_day("happened_at"))
    )
    both = tables["deals"].join(signed, on="opportunity_id", how="full", coalesce=True)
    one = pl.col("deal_id").is_null() | pl.col("signed_on").is_null()
    return both.filter(one | (pl.col("signed_on") != pl.col("contract_on"))).select(
        "opportunity_id", "deal_id", "contract_on", "signed_on"
    )


def _price(tables: Tables) -> pl.LazyFrame:
    wrong = pl.col("sale_price") != pl.col("list_price") - pl.col("discount")
    return tables["deals"].filter(wrong).select("deal_id", "list_price", "discount", "sale_price")


def _one_outcome(tables: Tables) -> pl.LazyFrame:
    both = pl.col("delivery_on").is_not_null() & pl.col("cancelled_on").is_not_null()
    return tables["deals"].filter(both).select("deal_id", "delivery_on", "cancelled_on")


def _one_car_a_contract(tables: Tables) -> pl.LazyFrame:
    sold = tables["deals"].filter(pl.col("cancelled_on").is_null())
    return sold.group_by("vehicle_id").len("deals").filter(pl.col("deals") > 1).sort("vehicle_id")


def _odometer(tables: Tables) -> pl.LazyFrame:
    orders = tables["service_orders"].sort("vehicle_id", "opened_at", "service_order_id")
    orders = orders.with_columns(before=pl.col("mileage_km").shift().over("vehicle_id"))
    return orders.filter(pl.col("mileage_km") < pl.col("before")).select(
        "service_order_id", "vehicle_id", "mileage_km", "before"
    )


def _after_delivery(tables: Tables) -> pl.LazyFrame:
    bought = (
        tables["deals"]
        .filter(pl.col("delivery_on").is_not_null())
        .select("vehicle_id", "delivery_on")
    )
    joined = tables["service_orders"].join(bought, on="vehicle_id")
    early = joined.filter(_day("opened_at") < pl.col("delivery_on"))
    return early.select("service_order_id", "vehicle_id", "opened_at", "delivery_on")


def _owner(tables: Tables) -> pl.LazyFrame:
    owner = tables["vehicles"].select("vehicle_id", owner="customer_id")
    joined = tables["service_orders"].join(owner, on="vehicle_id")
    return joined.filter(pl.col("owner") != pl.col("customer_id")).select(
        "service_order_id", "vehicle_id", "customer_id", "owner"
    )


def _on_scale(tables: Tables) -> pl.LazyFrame:
    scale = tables["survey_questions"].select("question_id", "scale_min", "scale_max")
    joined = tables["survey_answers"].join(scale, on="question_id")
    outside = ~pl.col("value").is_between("scale_min", "scale_max")
    return joined.filter(outside).select("survey_id", "question_id", "value")


def _answers_of_answered(tables: Tables) -> pl.LazyFrame:
    silent = tables["surveys"].filter(pl.col("answered_at").is_null()).select("survey_id")
    return tables["survey_answers"].join(silent, on="survey_id").select("survey_id", "question_id")


# --- truth ---------------------------------------------------------------------------------------


def _without_added(rows: pl.LazyFrame, tables: Tables, name: str, key: str) -> pl.LazyFrame:
    """Leave out rows that the last pass added: they have a truth, and go when it is undone."""
    if "truth_defect" not in tables:
        return rows
    defects = tables["truth_defect"].filter(pl.col("table") == name)
    added = defects.filter(pl.col("change").cast(pl.String) == "added").select(text="key")
    return rows.join(added, left_on=pl.col(key).cast(pl.String), right_on="text", how="anti")


def _same_keys(name: str, truth: str, key: str) -> Rule:
    """Every row has its truth, and every truth its row."""

    def find(tables: Tables) -> pl.LazyFrame:
        left = tables[name].select(key, open=True)
        right = tables[truth].select(key, true=True).unique()
        both = left.join(right, on=key, how="full", coalesce=True)
        alone = both.filter(pl.col("open").is_null() | pl.col("true").is_null())
        return _without_added(alone, tables, name, key)

    return Rule("truth", f"one row of {truth} for each row of {name}", (name, truth), find)


def _within(name: str, truth: str, key: str) -> Rule:
    """Every row has its truth."""

    def find(tables: Tables) -> pl.LazyFrame:
        return (
            tables[name]
            .filter(pl.col(key).is_not_null())
            .join(tables[truth].select(key).unique(), on=key, how="anti")
            .select(key)
        )

    return Rule("truth", f"{key} of {name} is in {truth}", (name, truth), find)


def _stages_of_truth(tables: Tables) -> pl.LazyFrame:
    """Stages seen are the true ones, at their moments."""
    seen = tables["stage_events"].with_columns(pl.col("stage").cast(pl.String))
    seen = seen.filter(~pl.col("stage").is_in(["new", "lost"]))
    true = tables["truth_stage"].filter(pl.col("passed"))
    true = true.select("opportunity_id", pl.col("stage").cast(pl.String), true_at="happened_at")
    both = seen.join(true, on=["opportunity_id", "stage"], how="left")
    wrong = pl.col("true_at").is_null() | (pl.col("true_at") != pl.col("happened_at"))
    return both.filter(wrong).select("opportunity_id", "stage", "happened_at", "true_at")


def _passed_below(tables: Tables) -> pl.LazyFrame:
    """A step at risk is passed exactly when its uniform is below its probability."""
    wrong = pl.col("passed") != (pl.col("at_risk") & (pl.col("uniform") < pl.col("probability")))
    return (
        tables["truth_stage"]
        .filter(wrong)
        .select("opportunity_id", "stage", "probability", "uniform", "passed")
    )


def _nobody_after_leaving(tables: Tables) -> pl.LazyFrame:
    fates = tables["truth_fate"].select("customer_id", "started_on", "ended_on")
    joined = tables["service_orders"].join(fates, on="customer_id", how="left")
    early = pl.col("started_on").is_null() | (_day("opened_at") < pl.col("started_on"))
    late = _day("opened_at") >= pl.col("ended_on")
    return joined.filter(early | late.fill_null(value=False)).select(
        "service_order_id", "customer_id", "opened_at", "started_on", "ended_on"
    )


def _intervals_cover(tables: Tables) -> pl.LazyFrame:
    """Intervals follow each other without overlap, from the start to the defection."""
    spans = tables["truth_interval"].sort("customer_id", "start_on")
    spans = spans.with_columns(before=pl.col("stop_on").shift().over("customer_id"))
    wrong = (pl.col("stop_on") < pl.col("start_on")) | (pl.col("start_on") < pl.col("before"))
    return spans.filter(wrong).select("customer_id", "start_on", "stop_on", "before")


def _intervals_end(tables: Tables) -> pl.LazyFrame:
    spans = tables["truth_interval"].group_by("customer_id")
    ends = spans.agg(pl.col("start_on").min(), pl.col("stop_on").max())
    fates = tables["truth_fate"].join(ends, on="customer_id", how="left")
    gone = pl.col("cause").cast(pl.String) == "defected"
    wrong = (pl.col("start_on") != pl.col("started_on")) | (
        gone & (pl.col("stop_on") != pl.col("ended_on"))
    )
    return fates.filter(pl.col("start_on").is_null() | wrong).select(
        "customer_id", "started_on", "ended_on", "start_on", "stop_on"
    )


def _sales_of_deliveries(tables: Tables) -> pl.LazyFrame:
    delivered = tables["deals"].filter(pl.col("delivery_on").is_not_null())
    left = delivered.select("deal_id", open=True)
    both = left.join(
        tables["truth_sale"].select("deal_id", true=True), on="deal_id", how="full", coalesce=True
    )
    return both.filter(pl.col("open").is_null() | pl.col("true").is_null())


def _outcome_of_choice(tables: Tables) -> pl.LazyFrame:
    stage = pl.col("stage").cast(pl.String)
    steps = tables["truth_stage"].group_by("opportunity_id").agg(
        drove=pl.col("passed").filter(stage == "test_drive").first(),
        signed=pl.col("passed").filter(stage == "contract").first(),
    )  # fmt: skip
    came = tables["truth_lead"].filter("visited").join(steps, on="opportunity_id")
    says = pl.when("drove").then("y1").otherwise("y0")
    return came.filter(says != pl.col("signed")).select("opportunity_id", "drove", "y1", "y0")


def _values_of_customers(tables: Tables) -> pl.LazyFrame:
    known = tables["customers"].select("customer_id")
    return tables["truth_value"].join(known, on="customer_id", how="anti").select("customer_id")


def _answers_have_truth(tables: Tables) -> pl.LazyFrame:
    scored = tables["survey_answers"].filter(pl.col("value").is_not_null())
    true = tables["truth_answer"].select("survey_id", "question_id")
    return scored.join(true, on=["survey_id", "question_id"], how="anti").select(
        "survey_id", "question_id"
    )


RULES: tuple[Rule, ...] = (
    _staffed("stage_events", "opportunity_id", "employee_id", "happened_at"),
    _staffed("deals", "deal_id", "manager_id", "contract_on"),
    _staffed("service_orders", "service_order_id", "advisor_id", "opened_at"),
    _staffed("opportunities", "opportunity_id", "manager_id", "opened_at"),
    _at_home("opportunities", "opportunity_id"),
    _at_home("deals", "deal_id"),
    _at_home("service_orders", "service_order_id"),
    _at_home("surveys", "survey_id"),
    _at_home("vehicles", "vehicle_id"),
    _at_home("traffic", "traffic_id"),
    _at_home("cases", "case_id"),
    _at_home("contacts", "contact_id"),
    _staffed("cases", "case_id", "employee_id", "opened_at"),
    _known_before("opportunities", "opportunity_id", "opened_at"),
    _known_before("service_orders", "service_order_id", "booked_at"),
    Rule("time", "stages come in order, without gaps", ("stage_events",), _stages_in_order),
    Rule(
        "rules", "status and closing follow from the last stage",
        ("opportunities", "stage_events"), _status_of_last_stage,
    ),
    Rule(
        "rules", "one deal for each contract, on its day", ("deals", "stage_events"),
        _deal_of_contract,
    ),
    Rule("rules", "sale price is list price less discount", ("deals",), _price),
    Rule("rules", "a deal is not both delivered and cancelled", ("deals",), _one_outcome),
    Rule("rules", "a car is sold by one deal that stands", ("deals",), _one_car_a_contract),
    Rule("time", "an odometer never goes back", ("service_orders",), _odometer),
    Rule(
        "time", "a car we sold is serviced after its delivery", ("service_orders", "deals"),
        _after_delivery,
    ),
    Rule("rules", "the owner brings the car", ("service_orders", "vehicles"), _owner),
    Rule(
        "rules", "scores are on their question's scale", ("survey_answers", "survey_questions"),
        _on_scale,
    ),
    Rule(
        "rules", "only answered surveys have answers", ("survey_answers", "surveys"),
        _answers_of_answered,
    ),
    _same_keys("customers", "truth_customer", "customer_id"),
    _same_keys("opportunities", "truth_stage", "opportunity_id"),
    _same_keys("surveys", "truth_survey", "survey_id"),
    _same_keys("opportunities", "truth_lead", "opportunity_id"),
    _within("service_orders", "truth_visit", "service_order_id"),
    _within("employees", "truth_employee", "employee_id"),
    Rule(
        "truth", "one row of truth_sale for each delivery", ("deals", "truth_sale"),
        _sales_of_deliveries,
    ),
    Rule(
        "truth", "a visit ends in a contract as its potential outcome says",
        ("truth_lead", "truth_stage"), _outcome_of_choice,
    ),
    Rule(
        "truth", "the value is of customers that are known", ("truth_value", "customers"),
        _values_of_customers,
    ),
    _within("dealerships", "truth_dealership", "dealership_id"),
    Rule(
        "truth", "stages seen are the true ones", ("stage_events", "truth_stage"), _stages_of_truth
    ),
    Rule("truth", "a step is passed when its uniform is below", ("truth_stage",), _passed_below),
    Rule(
        "truth", "nobody is serviced outside the relationship", ("service_orders", "truth_fate"),
        _nobody_after_leaving,
    ),
    Rule("truth", "intervals do not overlap", ("truth_interval",), _intervals_cover),
    Rule(
        "truth", "intervals begin and end with the relationship", ("truth_fate", "truth_interval"),
        _intervals_end,
    ),
    Rule(
        "truth", "every score has its expected one", ("survey_answers", "truth_answer"),
        _answers_have_truth,
    ),
)  # fmt: skip
"""Rules between tables, in the order in which they are looked at."""
