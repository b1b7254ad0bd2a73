"""Do 95 % intervals cover the truth that made the data, as often as they say?

Every data set here is one dealership of a tiny network with a seed of its own. The truth is the
generator's: never an estimate. A count of hits over independent data sets is binomial, so the
share must lie within three binomial standard errors of 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import cache

import numpy as np
import polars as pl
import pytest

from crm_analysis import conversion_funnel, mean_score, net_promoter_score, retention_curve
from synthetic import Network, make_network

SEEDS = range(1, 21)
AS_OF = date(2025, 12, 31)
YEAR_DAYS = 365.25

pytestmark = pytest.mark.slow


@cache
def network(seed: int) -> Network:
    return make_network(preset="tiny", seed=seed)


def dealerships(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    yield from table.partition_by("dealership_id")


def assert_covers(hits: list[bool], *, at_most: float | None = None) -> None:
    n, share = len(hits), float(np.mean(hits))
    band = 3 * float(np.sqrt(0.95 * 0.05 / n))
    highest = 0.95 + band if at_most is None else at_most
    assert 0.95 - band <= share <= highest, f"{share:.3f} of {n} intervals cover, band {band:.3f}"


# Retention --------------------------------------------------------------------------------


def spells(seed: int) -> pl.DataFrame:
    """Return relationships as they truly went, censored by any other end than defection."""
    truth = network(seed).truth["truth_fate"].collect()
    home = network(seed).tables["customers"].select("customer_id", "dealership_id").collect()
    left = pl.col("cause").cast(pl.String) == "defected"
    seen_to = pl.min_horizontal("ended_on", pl.lit(AS_OF))
    return (
        truth.filter(pl.col("started_on") <= AS_OF)
        .join(home, on="customer_id")
        .with_columns(
            defected_on=pl.when(left & (pl.col("ended_on") <= AS_OF)).then("ended_on"),
            seen_to=seen_to,
        )
    )


def true_retention(relations: pl.DataFrame, intervals: pl.DataFrame, days: int) -> float:
    """Return the product over days of one minus the mean true chance of leaving, of those there."""
    pieces = (
        relations.join(intervals, on="customer_id")
        .with_columns(
            first=(pl.col("start_on") - pl.col("started_on")).dt.total_days().clip(0, days),
            last=(pl.min_horizontal("stop_on", "seen_to") - pl.col("started_on"))
            .dt.total_days()
            .clip(0, days),
            chance=1 - (-pl.col("hazard") / YEAR_DAYS).exp(),
        )
        .filter(pl.col("last") > pl.col("first"))
    )
    at_risk, leaving = np.zeros(days + 1), np.zeros(days + 1)
    first, last = pieces["first"].to_numpy(), pieces["last"].to_numpy()
    for total, weight in ((at_risk, np.ones(len(first))), (leaving, pieces["chance"].to_numpy())):
        np.add.at(total, first, weight)
        np.add.at(total, last, -weight)
    there = np.cumsum(at_risk)[:days]
    mean_chance = np.cumsum(leaving)[:days] / np.maximum(there, 1)
    return float(np.prod(1 - mean_chance))


def test_retention_covers_the_true_hazards() -> None:
    days, hits = 730, []
    for seed in SEEDS:
        intervals = network(seed).truth["truth_interval"].collect()
        for relations in dealerships(spells(seed)):
            # Those whose relationship ended otherwise are watched until then and no longer.
            curve = _cause_specific(relations, days)
            truth = true_retention(relations, intervals, days)
            hits.append(curve["conf_low"] <= truth <= curve["conf_high"])
    assert_covers(hits)


def _cause_specific(relations: pl.DataFrame, days: int) -> dict[str, float]:
    """Return the curve's row: a spell ended otherwise is moved to end at `AS_OF`, still open."""
    shift = pl.lit(AS_OF) - pl.col("seen_to")
    moved = relations.with_columns(
        started_on=pl.when(pl.col("defected_on").is_null())
        .then(pl.col("started_on") + shift)
        .otherwise("started_on")
    )
    curve = retention_curve(moved, end_col="defected_on", as_of=AS_OF, unit="day")
    return curve.at(days).row(0, named=True)


# Conversion -------------------------------------------------------------------------------

WINDOW_DAYS = 365.0
"""Long enough that no lead of the generator is still on its way at the end of it."""


def test_conversion_covers_the_true_stage_probabilities() -> None:
    hits = []
    for seed in SEEDS:
        events = network(seed).tables["stage_events"].collect()
        chances = (
            network(seed)
            .truth["truth_lead"]
            .select("opportunity_id", probability="contract_probability")
            .collect()
        )
        for lead_events in dealerships(events):
            funnel = conversion_funnel(
                lead_events, steps=["new", "contract"], within_days=WINDOW_DAYS, as_of=AS_OF
            )
            row = funnel.table.filter(pl.col("step") == 2).row(0, named=True)
            opened = lead_events.filter(pl.col("stage").cast(pl.String) == "new")
            mature = opened.filter(
                pl.col("happened_at").dt.date() < AS_OF - pl.duration(days=WINDOW_DAYS)
            )
            truth = mature.join(chances, on="opportunity_id")["probability"].mean()
            assert isinstance(truth, float)
            hits.append(row["conf_low"] <= truth <= row["conf_high"])
    # Leads differ in their chances, so their sum varies less than a binomial: more may cover.
    assert_covers(hits, at_most=1.0)


# Satisfaction -----------------------------------------------------------------------------


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


def test_net_promoter_score_covers_the_true_chances() -> None:
    hits = []
    for seed in SEEDS:
        for given in dealerships(answers(seed, "nps")):
            row = net_promoter_score(given, as_of=AS_OF).table.row(0, named=True)
            truth = 100 * (given["top_probability"] - given["low_probability"]).to_numpy().mean()
            hits.append(row["conf_low"] <= truth <= row["conf_high"])
    # Customers differ in their chances, so more may cover.
    assert_covers(hits, at_most=1.0)


def test_mean_score_covers_the_true_mean() -> None:
    hits = []
    for seed in SEEDS:
        for given in dealerships(answers(seed, "csat")):
            row = mean_score(given, scale=(1, 5), as_of=AS_OF).table.row(0, named=True)
            hits.append(row["conf_low"] <= given["expected_score"].mean() <= row["conf_high"])
    assert_covers(hits, at_most=1.0)
