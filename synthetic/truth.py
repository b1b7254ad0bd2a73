"""The truth that made the data, in tables of their own that the open tables never refer to.

`truth_interval` and `truth_fate` count days alike: a day belongs to an interval when
start_on <= day < stop_on, and a relationship that ends is gone from `ended_on` on. The chance of
defecting on a day is 1 - exp(-hazard / 365.25).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import dataframely as dy
import numpy as np
import polars as pl

from crm_analysis.schema import PURCHASE_KINDS
from synthetic.cars import OWN_CAR
from synthetic.clock import dates, masked, moments
from synthetic.config import Config, describe
from synthetic.customers import Customers
from synthetic.funnel import N_STEPS, STEPS, Leads, Paths
from synthetic.network import Market
from synthetic.relation import CAUSES, STILL_HERE, Relations
from synthetic.surveys import QUESTIONS, Sent, answer_probability, score_probabilities


class TruthCustomer(dy.Schema):
    """What cannot be seen of a customer."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    satisfaction = dy.Float64(description="satisfaction intercept a_i, mean 0")
    value = dy.Float64(description="value v_i, log scale, mean 0")
    km_a_year = dy.Float64(description="distance driven, km a year")


class TruthEmployee(dy.Schema):
    """What cannot be seen of an employee."""

    employee_id = dy.Int64(primary_key=True, description="employee")
    skill = dy.Float64(description="skill k_m, mean 0")


class TruthDealership(dy.Schema):
    """Level of satisfaction that a dealership gives, by month."""

    dealership_id = dy.Int64(primary_key=True, description="dealership")
    month_on = dy.Date(primary_key=True, description="first day of the month")
    satisfaction = dy.Float64(description="contribution psi_d(t) to satisfaction")


class TruthInterval(dy.Schema):
    """Days over which a customer's hazard of defection is constant."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    start_on = dy.Date(primary_key=True, description="first day of the interval")
    stop_on = dy.Date(description="first day after it")
    hazard = dy.Float64(min=0.0, description="hazard of silent defection, a year")
    in_warranty = dy.Bool(description="the car is in warranty")
    satisfaction = dy.Float64(description="satisfaction over the interval")


class TruthFate(dy.Schema):
    """How a relationship truly ends, also after the last day of the data."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    started_on = dy.Date(description="delivery or first visit")
    started_kind = dy.Enum(PURCHASE_KINDS, description="what it began with")
    ended_on = dy.Date(
        nullable=True, description="first day gone; null = still here when we stop following"
    )
    cause = dy.Enum(CAUSES, description="why it ended")
    followed_to = dy.Date(description="last day the truth is followed to")


class TruthOwnership(dy.Schema):
    """How long each car is kept (a Weibull clock), and the chance that the next is bought here."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    vehicle_id = dy.Int64(primary_key=True, description="car")
    started_on = dy.Date(description="first day of ownership that we see")
    elapsed_years = dy.Float64(description="years owned before that day")
    scale_years = dy.Float64(description="Weibull scale, years")
    replaced_on = dy.Date(
        description="day the clock rings; reached only if the customer has not left"
    )
    return_probability = dy.Float64(
        nullable=True, description="chance of buying the next car here; null = clock not reached"
    )


class TruthStage(dy.Schema):
    """Each step of each lead: the chance of passing it given the one before, and its uniform."""

    opportunity_id = dy.Int64(primary_key=True, description="opportunity")
    stage = dy.Enum(STEPS, primary_key=True, description="step to be passed")
    probability = dy.Float64(
        min=0.0, max=1.0, description="chance of passing it, given the step before"
    )
    uniform = dy.Float64(description="passed when below the probability")
    at_risk = dy.Bool(description="the step before was passed")
    passed = dy.Bool(description="this step was passed, perhaps after the last day of the data")
    happened_at = dy.Datetime(nullable=True, description="when it was passed; null = it was not")


class TruthSurvey(dy.Schema):
    """Satisfaction behind each survey, and the chance that it is answered."""

    survey_id = dy.Int64(primary_key=True, description="survey")
    satisfaction = dy.Float64(description="satisfaction when it was sent")
    answer_probability = dy.Float64(min=0.0, max=1.0, description="chance that it is answered")


class TruthAnswer(dy.Schema):
    """What each survey would say on average, answered or not."""

    survey_id = dy.Int64(primary_key=True, description="survey")
    question_id = dy.Int64(primary_key=True, description="question")
    expected_score = dy.Float64(description="expected score")
    low_probability = dy.Float64(description="chance of a score up to the question's `low_to`")
    top_probability = dy.Float64(description="chance of a score from the question's `top_from` on")


class TruthQuestion(dy.Schema):
    """How satisfaction s becomes a score: clip(round(centre + loading * s + noise * N(0, 1)))."""

    question_id = dy.Int64(primary_key=True, description="question")
    code = dy.String(description="short name")
    centre = dy.Float64(description="score before rounding at satisfaction zero")
    loading = dy.Float64(description="points a unit of satisfaction")
    noise = dy.Float64(description="standard deviation of the noise, points")
    low_to = dy.Int64(description="greatest score that counts as low (detractor)")
    top_from = dy.Int64(description="least score that counts as top (promoter, satisfied)")


class TruthParams(dy.Schema):
    """Every setting of the world."""

    name = dy.String(primary_key=True, description="setting")
    value = dy.String(description="its value")
    meaning = dy.String(description="what it means")
    unit = dy.String(description="its unit")
    source = dy.String(description="where it comes from")
    confidence = dy.String(description="published, derived or assumed")


TRUTH_TABLES: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {
        "truth_customer": TruthCustomer,
        "truth_employee": TruthEmployee,
        "truth_dealership": TruthDealership,
        "truth_interval": TruthInterval,
        "truth_fate": TruthFate,
        "truth_ownership": TruthOwnership,
        "truth_stage": TruthStage,
        "truth_survey": TruthSurvey,
        "truth_answer": TruthAnswer,
        "truth_question": TruthQuestion,
        "truth_params": TruthParams,
    }
)
"""Truth tables by name."""


def network_truth(market: Market) -> dict[str, pl.DataFrame]:
    """Write the truth of the network itself."""
    staff, level = market.staff, market.level
    n_dealerships, n_months = level.shape
    first = np.datetime64(market.first_month, "M")
    months = (first + np.arange(n_months)).astype("datetime64[D]")
    return {
        "truth_employee": pl.DataFrame(
            {"employee_id": np.arange(1, len(staff.skill)), "skill": staff.skill[1:]}
        ),
        "truth_dealership": pl.DataFrame(
            {
                "dealership_id": np.repeat(np.arange(1, n_dealerships + 1), n_months),
                "month_on": pl.Series(np.tile(months, n_dealerships)),
                "satisfaction": level.ravel(),
            }
        ),
        "truth_question": _questions(),
        "truth_params": _params(market.config),
    }


def _questions() -> pl.DataFrame:
    names = ("code", "centre", "loading", "noise", "low_to", "top_from")
    rows = [{name: getattr(question, name) for name in names} for question in QUESTIONS]
    return pl.DataFrame(rows).with_row_index("question_id", offset=1)


def _params(config: Config) -> pl.DataFrame:
    return pl.DataFrame(describe(config))


def customer_truth(who: Customers, shown: np.ndarray) -> pl.DataFrame:
    """Write the latent traits of the customers shown."""
    return pl.DataFrame(
        {
            "customer_id": who.ids[shown],
            "satisfaction": who.satisfaction[shown],
            "value": who.value[shown],
            "km_a_year": who.km_a_year[shown],
        }
    )


def relation_truth(market: Market, relations: Relations) -> dict[str, pl.DataFrame]:
    """Write hazards, fates and the clocks of ownership."""
    spans, fates, cars = relations.intervals, relations.fates, relations.cars
    followed = fates["start"] + int(market.config.relation.follow_years * 365.25)
    kept = ~np.isnan(cars["p_return"])
    return {
        "truth_interval": pl.DataFrame(
            {
                "customer_id": spans["customer"],
                "start_on": dates(spans["start"]),
                "stop_on": dates(spans["stop"]),
                "hazard": spans["hazard"],
                "in_warranty": spans["in_warranty"],
                "satisfaction": spans["satisfaction"],
            }
        ),
        "truth_fate": pl.DataFrame(
            {
                "customer_id": fates["customer"],
                "started_on": dates(fates["start"]),
                "started_kind": np.where(fates["by_service"], *PURCHASE_KINDS[::-1]),
                "ended_on": dates(fates["end"], fates["cause"] != STILL_HERE),
                "cause": np.array(CAUSES)[fates["cause"]],
                "followed_to": dates(followed),
            }
        ),
        "truth_ownership": pl.DataFrame(
            {
                "customer_id": cars["customer"],
                "vehicle_id": cars["customer"] * 10 + cars["car"],
                "started_on": dates(cars["start"]),
                "elapsed_years": np.where(cars["car"] == OWN_CAR, cars["elapsed"], 0.0),
                "scale_years": cars["scale"],
                "replaced_on": dates(cars["until"]),
                "return_probability": masked(np.nan_to_num(cars["p_return"]), kept),
            }
        ),
    }


def stage_truth(leads: Leads, paths: Paths, end: int) -> pl.DataFrame:
    """Write every step of the leads opened before minute `end`."""
    shown = np.flatnonzero(leads.opened < end)
    leads, paths = leads.take(shown), paths.take(shown)
    n = len(leads.ids)
    passed = np.arange(N_STEPS)[None, :] < paths.passed[:, None]
    risk = np.arange(N_STEPS)[None, :] <= paths.passed[:, None]
    return pl.DataFrame(
        {
            "opportunity_id": np.repeat(leads.ids, N_STEPS),
            "stage": pl.Series(np.tile(STEPS, n), dtype=pl.String),
            "probability": paths.probability.ravel(),
            "uniform": paths.uniform.ravel(),
            "at_risk": risk.ravel(),
            "passed": passed.ravel(),
            "happened_at": moments(paths.at[:, 1:].ravel(), passed.ravel()),
        }
    )


def survey_truth(market: Market, sent: Sent) -> dict[str, pl.DataFrame]:
    """Write the satisfaction behind each survey and what it would say on average."""
    parts = []
    for place, question in enumerate(QUESTIONS):
        asked = np.isin(sent.kind, question.kinds)
        chance = score_probabilities(sent.satisfaction[asked], question)
        scores = np.arange(question.low, question.high + 1)
        parts.append(
            pl.DataFrame(
                {
                    "survey_id": sent.ids[asked],
                    "question_id": np.full(int(asked.sum()), place + 1),
                    "expected_score": chance @ scores,
                    "low_probability": chance[:, scores <= question.low_to].sum(axis=1),
                    "top_probability": chance[:, scores >= question.top_from].sum(axis=1),
                }
            )
        )
    return {
        "truth_survey": pl.DataFrame(
            {
                "survey_id": sent.ids,
                "satisfaction": sent.satisfaction,
                "answer_probability": answer_probability(market, sent.satisfaction),
            }
        ),
        "truth_answer": pl.concat(parts).sort("survey_id", "question_id"),
    }
