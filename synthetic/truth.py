"""The truth that made the data, in tables of their own that the open tables never refer to."""

from __future__ import annotations

import numpy as np
import polars as pl

from crm_analysis.schema import PURCHASE_KINDS
from synthetic.cars import OWN_CAR
from synthetic.clock import chosen, dates, masked, moments
from synthetic.config import Config, describe
from synthetic.customers import Customers
from synthetic.funnel import (
    CONTRACT,
    N_STEPS,
    OFFER,
    STEPS,
    TEST_DRIVE,
    VISIT,
    Leads,
    Paths,
    price_sensitivity,
)
from synthetic.network import Market
from synthetic.relation import CAUSES, STILL_HERE, Relations
from synthetic.surveys import QUESTIONS, Sent, answer_probability, score_probabilities
from synthetic.truth_tables import CHANGES, TRUTH_TABLES, TruthDefect

__all__ = [
    "CHANGES",
    "TRUTH_TABLES",
    "TruthDefect",
    "arrival_truth",
    "customer_truth",
    "lead_truth",
    "network_truth",
    "relation_truth",
    "stage_truth",
    "survey_truth",
]


def network_truth(market: Market) -> dict[str, pl.DataFrame]:
    """Write the truth of the network itself."""
    staff, level = market.staff, market.level
    n_dealerships, n_months = level.shape
    first = np.datetime64(market.first_month, "M")
    months = (first + np.arange(n_months)).astype("datetime64[D]")
    return {
        "truth_employee": pl.DataFrame(
            {
                "employee_id": np.arange(1, len(staff.skill)),
                "skill": staff.skill[1:],
                "discipline": staff.discipline[1:],
                "entry_lag": staff.slowness[1:],
            }
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


def customer_truth(market: Market, who: Customers, shown: np.ndarray) -> pl.DataFrame:
    """Write the latent traits of the customers shown."""
    return pl.DataFrame(
        {
            "customer_id": who.ids[shown],
            "satisfaction": who.satisfaction[shown],
            "value": who.value[shown],
            "price_sensitivity": price_sensitivity(market, who.ids[shown]),
            "solvency": who.solvency[shown],
            "km_a_year": who.km_a_year[shown],
            "duplicate_of": pl.Series([None] * len(shown), dtype=pl.Int64),
        }
    )


def arrival_truth(who: Customers, shown: np.ndarray) -> pl.DataFrame:
    """Write which of the first leads shown advertising brought."""
    who = who.take(shown[~who.by_service[shown]])
    return pl.DataFrame(
        {
            "customer_id": who.ids,
            "base_share": who.base_share,
            "uniform": who.thinning,
            "incremental": who.incremental,
            "campaign_id": masked(who.campaign, who.campaign >= 0),
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
                "season": spans["season"],
                "in_warranty": spans["in_warranty"],
                "satisfaction": spans["satisfaction"],
                "contacts": masked(spans["contacts"], spans["contacts"] >= 0),
            }
        ),
        "truth_fate": pl.DataFrame(
            {
                "customer_id": fates["customer"],
                "started_on": dates(fates["start"]),
                "started_kind": chosen(PURCHASE_KINDS, fates["by_service"].astype(np.int64)),
                "ended_on": dates(fates["end"], fates["cause"] != STILL_HERE),
                "cause": chosen(CAUSES, fates["cause"]),
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
    passed[:, TEST_DRIVE] &= ~paths.skipped
    risk[:, OFFER] |= paths.passed > VISIT
    return pl.DataFrame(
        {
            "opportunity_id": np.repeat(leads.ids, N_STEPS),
            "stage": chosen(STEPS, np.tile(np.arange(N_STEPS), n)),
            "probability": paths.probability.ravel(),
            "uniform": paths.uniform.ravel(),
            "at_risk": risk.ravel(),
            "passed": passed.ravel(),
            "happened_at": moments(paths.at[:, 1:].ravel(), passed.ravel()),
        }
    )


def lead_truth(leads: Leads, paths: Paths, end: int) -> pl.DataFrame:
    """Write what a test drive does to each lead opened before minute `end`, and its intent."""
    shown = np.flatnonzero(leads.opened < end)
    paths = paths.take(shown)
    without, with_drive = paths.drive.prod(axis=2).T
    below = np.all(paths.uniform[:, None, OFFER:CONTRACT] < paths.drive, axis=2)
    return pl.DataFrame(
        {
            "opportunity_id": leads.ids[shown],
            "intent": paths.intent,
            "visited": paths.passed > VISIT,
            "contract_probability": paths.chance_of_contract,
            "with_drive_probability": with_drive,
            "without_drive_probability": without,
            "y1": np.asarray(below)[:, 1],
            "y0": np.asarray(below)[:, 0],
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
                    "expected_score": (chance * scores).sum(
                        axis=1
                    ),  # row by row: no block changes a bit
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
