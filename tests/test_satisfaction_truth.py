"""Do the index, bounds, weights and shrunk shares hold the truth that made the answers?

Every data set here is one dealership of a tiny network with a seed of its own. A count of hits
over independent data sets is binomial, so the share must lie within three binomial standard errors
of 95 %, or above where the truth varies less than the model says.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import cache

import numpy as np
import polars as pl
import pytest

from crm_analysis import satisfaction_index, score_bounds, top_box_score, weighted_score
from synthetic import Network, make_network
from synthetic.surveys import QUESTIONS, score_probabilities

SEEDS = range(1, 21)
AS_OF = date(2025, 12, 31)

pytestmark = pytest.mark.slow


@cache
def network(seed: int) -> Network:
    return make_network(preset="tiny", seed=seed)


def dealerships(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    yield from table.partition_by("dealership_id")


def assert_covers(hits: list[bool]) -> None:
    n, share = len(hits), float(np.mean(hits))
    band = 3 * float(np.sqrt(0.95 * 0.05 / n))
    assert share >= 0.95 - band, f"{share:.3f} of {n} intervals cover, band {band:.3f}"


def answers(seed: int, code: str) -> pl.DataFrame:
    world = network(seed)
    question = world.truth["truth_question"].filter(pl.col("code") == code).select("question_id")
    truth = world.truth["truth_answer"].join(question, on="question_id", how="semi")
    scores = world.tables["survey_answers"].join(question, on="question_id", how="semi")
    surveys = world.tables["surveys"].select("survey_id", "dealership_id", "answered_at")
    return (
        scores.filter(pl.col("value").is_not_null())
        .join(truth, on=["survey_id", "question_id"])
        .join(surveys, on="survey_id")
        .with_columns(score=pl.col("value"), answered_on=pl.col("answered_at").dt.date())
        .collect()
    )


WEIGHTS = {"csat": 4, "staff": 3, "price": 3}


def test_the_index_covers_the_true_one() -> None:
    hits = []
    for seed in SEEDS:
        scales = (
            network(seed).tables["survey_questions"].select("question_id", "scale_min", "scale_max")
        )
        given = pl.concat([
            answers(seed, code).with_columns(question=pl.lit(code)) for code in WEIGHTS
        ]).join(scales.collect(), on="question_id")  # fmt: skip
        for part in dealerships(given):
            row = satisfaction_index(
                part, weights=WEIGHTS, n_resamples=300, as_of=AS_OF
            ).table.row(0, named=True)  # fmt: skip
            truth = sum(
                weight * (part.filter(question=code)["expected_score"].to_numpy().mean() - 1) * 25
                for code, weight in WEIGHTS.items()
            )
            hits.append(row["conf_low"] <= truth <= row["conf_high"])
    assert_covers(hits)


def test_shrunk_shares_of_sales_managers_cover_their_true_chances() -> None:
    """What a manager's customers would say in the long run, of those who would answer.

    A purchase leaves the customer's level (standard deviation .9) plus the dealership's, half the
    manager's skill and luck (.4); who answers depends on how strongly they feel.
    """
    hits = []
    feeling, weight = np.polynomial.hermite_e.hermegauss(41)
    spread = float(np.hypot(0.9, 0.4))
    csat = next(question for question in QUESTIONS if question.code == "csat")
    for seed in SEEDS:
        world = network(seed)
        asked_of = world.tables["surveys"].select("survey_id", "employee_id", "kind").collect()
        given = answers(seed, "csat").join(asked_of, on="survey_id").filter(kind="sales")
        level = world.truth["truth_dealership"].select("dealership_id", "month_on", "satisfaction")
        skill = world.truth["truth_employee"].select("employee_id", "skill").collect()
        mean = (
            given.with_columns(month_on=pl.col("answered_on").dt.month_start())
            .join(level.collect(), on=["dealership_id", "month_on"])
            .join(skill, on="employee_id")
            .group_by("employee_id")
            .agg(mean=(pl.col("satisfaction") + 0.5 * pl.col("skill")).mean())
        )
        found = top_box_score(given, as_of=AS_OF, by="employee_id").table
        for row in found.join(mean, on="employee_id").drop_nulls("shrunk").to_dicts():
            felt = row["mean"] + spread * feeling
            answering = weight / (1 + np.exp(1.2 - 0.5 * np.abs(felt)))
            top = score_probabilities(felt, csat)[:, 3:].sum(axis=1)
            truth = float(answering @ top / answering.sum())
            hits.append(row["shrunk_low"] <= truth <= row["shrunk_high"])
    assert_covers(hits)


def asked(seed: int) -> pl.DataFrame:
    """Return every survey with what its customer would have said on average, and perhaps did."""
    world = network(seed)
    question = world.truth["truth_question"].filter(pl.col("code") == "csat").select("question_id")
    truth = world.truth["truth_answer"].join(question, on="question_id", how="semi")
    scores = world.tables["survey_answers"].join(question, on="question_id", how="semi")
    return (
        world.tables["surveys"]
        .join(truth.select("survey_id", "expected_score"), on="survey_id")
        .join(scores.select("survey_id", score="value"), on="survey_id", how="left")
        .collect()
    )


def test_bounds_hold_the_score_of_all_asked_and_weights_alone_need_not() -> None:
    """Here the very pleased and the very angry answer more readily, which no stratum tells."""
    bounded, errors = [], []
    for seed in SEEDS:
        for sent in dealerships(asked(seed)):
            old = sent.filter(pl.col("sent_at").dt.date() <= date(2025, 12, 1))
            truth = float(old["expected_score"].to_numpy().mean())
            row = score_bounds(sent, scale=(1, 5), as_of=AS_OF).table.row(0, named=True)
            bounded.append(row["conf_low"] <= truth <= row["conf_high"])
            weighted = weighted_score(sent, scale=(1, 5), as_of=AS_OF).table.row(1, named=True)
            errors.append((weighted["estimate"] - truth) / weighted["std_error"])
    assert all(bounded)
    # Weights leave a bias, here of less than one standard error of a tiny dealership.
    assert abs(np.mean(errors)) < 1
