"""Tables of the closed-form worlds: what is open beside the library's views, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import dataframely as dy
import polars as pl

from crm_analysis.schema import TABLES, VIEWS

CAUSES = ("repurchase_here", "repurchase_elsewhere", "defection")
STATES = ("prospect", "customer", "client", "supporter", "advocate", "lost")

_CUSTOMER = "customer"


def _id(meaning: str) -> dy.Int64:
    return dy.Int64(primary_key=True, description=meaning, metadata={"unit": "id"})


def _number(meaning: str, unit: str, *, nullable: bool = False) -> dy.Float64:
    return dy.Float64(nullable=nullable, description=meaning, metadata={"unit": unit})


def _share(meaning: str, *, nullable: bool = False) -> dy.Float64:
    return dy.Float64(
        nullable=nullable, min=0.0, max=1.0, description=meaning, metadata={"unit": "probability"}
    )


class Renewals(dy.Schema):
    """One row a contract that came up for renewal by the last day."""

    customer_id = _id(_CUSTOMER)
    number = dy.Int32(primary_key=True, min=1, description="which renewal, 1 = the first")
    dealership_id = dy.Int64(description="dealership")
    dealership = dy.String(description="its name")
    due_on = dy.Date(description="day on which the contract ended")
    renewed = dy.Bool(description="it was renewed for another year")


class Ownerships(dy.Schema):
    """One row a customer's car, with how its ownership ended if it has."""

    customer_id = _id(_CUSTOMER)
    dealership_id = dy.Int64(description="dealership that sold it")
    dealership = dy.String(description="its name")
    serviced = dy.Bool(description="the car is serviced here")
    started_on = dy.Date(description="day of the delivery")
    ended_on = dy.Date(nullable=True, description="day of the end; null = open on the last day")
    cause = dy.Enum(CAUSES, nullable=True, description="how it ended; null = open")


class Ladder(dy.Schema):
    """One row a customer and date: the step of the loyalty ladder on which they stand."""

    customer_id = _id(_CUSTOMER)
    observed_on = dy.Date(primary_key=True, description="first day of the period")
    dealership_id = dy.Int64(description="dealership")
    dealership = dy.String(description="its name")
    state = dy.Enum(STATES, description="step of the ladder")


class TruthParameters(dy.Schema):
    """Every parameter that made the world."""

    name = dy.String(primary_key=True, description="parameter")
    value = dy.String(description="its value")
    meaning = dy.String(description="what it means")
    unit = dy.String(description="its unit")
    source = dy.String(description="where the default comes from")
    confidence = dy.String(description="published, derived or assumed")
    least = dy.String(description="least value allowed; empty = no such limit")
    most = dy.String(description="greatest value allowed; empty = no such limit")


class TruthCurve(dy.Schema):
    """What the whole population does, exactly."""

    quantity = dy.String(primary_key=True, description="what is counted")
    group = dy.String(primary_key=True, description="among whom; all = everybody")
    time = dy.Float64(
        primary_key=True, description="time since the start", metadata={"unit": "see time_unit"}
    )
    time_unit = dy.String(description="week, month, quarter or year")
    value = _number("exact value", "see quantity")


class TruthEvent(dy.Schema):
    """Every purchase, to the tick, also those after the last day and up to the horizon."""

    customer_id = _id(_CUSTOMER)
    number = dy.Int32(primary_key=True, min=0, description="which purchase, 0 = the first")
    at_days = _number("time since the first purchase", "days")
    happened_on = dy.Date(description="day under which it is written")
    value = _number("margin before rounding to cents", "currency units")
    seen = dy.Bool(description="it is in the open tables")


class TruthBuyer(dy.Schema):
    """What cannot be seen of a customer who buys until they silently leave."""

    customer_id = _id(_CUSTOMER)
    first_on = dy.Date(description="day of the first purchase")
    rate = _number("buying rate lambda: purchases, or phases of k a visit", "a week")
    dropout_probability = _share(
        "chance p of leaving after a purchase; null = leaves at any time", nullable=True
    )
    death_rate = _number(
        "rate mu of leaving; null = leaves after purchases", "a week", nullable=True
    )
    left_days = _number(
        "time from the first purchase to leaving; null = not by the end of the horizon", "days",
        nullable=True,
    )  # fmt: skip
    alive = dy.Bool(description="has not left at the end of the last day")
    frequency = dy.Int32(min=0, description="repeat purchases until then, by the exact clock")
    recency_weeks = _number("time from the first to the last of them, by the exact clock", "weeks")
    age_weeks = _number("time from the first purchase to the end of the last day", "weeks")
    mean_spend = _number("mean margin of a purchase", "currency units")


class TruthBuyerValue(dy.Schema):
    """What is expected of a customer: given the history alone, and knowing all (``own_*``)."""

    customer_id = _id(_CUSTOMER)
    probability_alive = _share("chance of not having left, given the history")
    expected_purchases = _number("purchases expected over the horizon, given the history", "count")
    discounted_purchases = _number(
        "the same, discounted; null = no closed form", "count", nullable=True
    )
    discounted_ever = _number(
        "discounted purchases for ever, given the history; null = no closed form", "count",
        nullable=True,
    )  # fmt: skip
    expected_spend = _number("margin expected of a purchase, given the history", "currency units")
    own_purchases = _number("purchases expected over the horizon, knowing all", "count")
    own_discounted = _number("the same, discounted", "count")
    own_ever = _number("discounted purchases expected for ever, knowing all", "count")
    own_value = _number("discounted margin expected for ever, knowing all", "currency units")


class TruthContract(dy.Schema):
    """What cannot be seen of a customer with a contract, and what is expected of them."""

    customer_id = _id(_CUSTOMER)
    started_on = dy.Date(description="first day of the first contract")
    churn_probability = _share("chance theta of not renewing, at every renewal")
    n_periods = dy.Int32(
        nullable=True, min=1, description="contracts taken in all; null = more than are followed"
    )
    n_renewals = dy.Int32(min=0, description="renewals until the last day")
    active = dy.Bool(description="in contract on the last day")
    expected_renewals = _number(
        "renewals expected among the next ones within the horizon, given the history", "count"
    )
    discounted_renewals = _number(
        "discounted expected residual lifetime just before the next renewal, given the history",
        "renewals",
    )
    own_renewals = _number("renewals expected within the horizon, knowing theta", "count")
    own_discounted = _number("discounted residual lifetime, knowing theta", "renewals")


class TruthOwner(dy.Schema):
    """Every clock of an ownership: the first ends it, the others are what might have been."""

    customer_id = _id(_CUSTOMER)
    started_on = dy.Date(description="day of the delivery")
    serviced = dy.Bool(description="the car is serviced here")
    repurchase_here_days = _number("clock of the next car bought here", "days")
    repurchase_elsewhere_days = _number("clock of the next car bought elsewhere", "days")
    defection_days = _number("clock of defection", "days")
    ended_days = _number("when the first of them rings", "days")
    cause = dy.Enum(CAUSES, description="which rings first")
    open = dy.Bool(description="none has rung by the end of the last day")
    here_probability = _share("chance of repurchase here within the horizon, if open; else 0")
    elsewhere_probability = _share("chance of repurchase elsewhere, if open; else 0")
    defection_probability = _share("chance of defection, if open; else 0")


class TruthTransition(dy.Schema):
    """The transition matrix."""

    from_state = dy.Enum(STATES, primary_key=True, description="state in a period")
    to_state = dy.Enum(STATES, primary_key=True, description="state in the next")
    probability = _share("chance of going from one to the other")


class TruthClimber(dy.Schema):
    """What is expected of a customer on the ladder."""

    customer_id = _id(_CUSTOMER)
    entered_on = dy.Date(description="first period observed")
    state = dy.Enum(STATES, description="state in the last period observed")
    lost_probability = _share("chance of being lost at the end of the horizon")
    expected_margin = _number("margin expected over the horizon's periods", "currency units")
    discounted_margin = _number(
        "discounted margin expected of all periods after the last", "currency units"
    )


class TruthState(dy.Schema):
    """States after the last day, up to the horizon."""

    customer_id = _id(_CUSTOMER)
    observed_on = dy.Date(primary_key=True, description="first day of the period")
    state = dy.Enum(STATES, description="state in it")


OPEN: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {
        "dealerships": TABLES["dealerships"],
        "spells": VIEWS["spells"],
        "purchases": VIEWS["purchases"],
        "renewals": Renewals,
        "ownerships": Ownerships,
        "ladder": Ladder,
    }
)
"""Open tables by name; each world has some of them."""

TRUTH: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {
        "truth_parameters": TruthParameters,
        "truth_curve": TruthCurve,
        "truth_event": TruthEvent,
        "truth_buyer": TruthBuyer,
        "truth_buyer_value": TruthBuyerValue,
        "truth_contract": TruthContract,
        "truth_owner": TruthOwner,
        "truth_transition": TruthTransition,
        "truth_climber": TruthClimber,
        "truth_state": TruthState,
    }
)
"""Truth tables by name; each world has some of them."""

SCHEMAS: Mapping[str, type[dy.Schema]] = MappingProxyType({**OPEN, **TRUTH})


def fit(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with the columns, order and types of its schema."""
    columns = SCHEMAS[name].columns()
    return frame.select(pl.col(column).cast(kind.dtype) for column, kind in columns.items())
