"""The test drive is chosen: its naive effect is mostly selection, its true effect is known."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import polars as pl
import pytest

from crm_analysis.schema import SOURCES
from synthetic import find_preset, make_network
from synthetic.funnel import CONTRACT, OFFER, STEPS, TEST_DRIVE, step_logits
from synthetic.keyed import logistic

Z = 4.0
"""Standard errors that a correct count stays within, but for one seed in fifteen thousand."""

QUADRATURE = 2e-4
"""What a sum over a grid of 20,001 points may differ from Gauss-Hermite quadrature by."""


@cache
def _visitors() -> pl.DataFrame:
    """Return leads that came to the showroom, with what they did and what they would have done."""
    parts = []
    for seed in (1, 2, 3, 4):
        truth = make_network(preset="tiny", seed=seed, n_customers=6_000).truth
        steps = truth["truth_stage"].with_columns(pl.col("stage").cast(pl.String))
        passed = [
            steps.filter(pl.col("stage") == stage).select("opportunity_id", passed.alias(name))
            for stage, name in (("test_drive", "drove"), ("contract", "signed"))
            for passed in (pl.col("passed"),)
        ]
        lead = truth["truth_lead"].filter("visited")
        for one in passed:
            lead = lead.join(one, on="opportunity_id")
        parts.append(lead.with_columns(seed=pl.lit(seed)).collect())
    return pl.concat(parts)


def _mean(frame: pl.DataFrame, column: str) -> float:
    found = frame[column].mean()
    assert isinstance(found, float)
    return found


def test_most_of_the_naive_difference_is_selection() -> None:
    leads = _visitors()
    drove, not_driven = (leads.filter(pl.col("drove") == side) for side in (True, False))
    naive = _mean(drove, "signed") - _mean(not_driven, "signed")
    true = float(
        (leads["with_drive_probability"] - leads["without_drive_probability"]).to_numpy().mean()
    )
    assert 0.03 < true < naive / 2
    assert _mean(drove, "intent") > _mean(not_driven, "intent") + 0.8


def test_potential_outcomes_have_the_effect_that_the_probabilities_say() -> None:
    leads = _visitors()
    gain = leads["y1"].cast(pl.Int8).to_numpy() - leads["y0"].cast(pl.Int8).to_numpy()
    true = (leads["with_drive_probability"] - leads["without_drive_probability"]).to_numpy()
    assert gain.min() >= 0
    assert abs(gain.mean() - true.mean()) < Z * gain.std() / math.sqrt(len(gain))
    for name, chance in (("y1", "with"), ("y0", "without")):
        p = leads[f"{chance}_drive_probability"].to_numpy()
        spread = math.sqrt(float((p * (1 - p)).sum()))
        assert abs(float(leads[name].sum()) - p.sum()) < Z * spread


def test_what_happened_is_the_outcome_of_what_was_chosen() -> None:
    leads = _visitors()
    seen = pl.when("drove").then("y1").otherwise("y0")
    assert leads.filter(seen != pl.col("signed")).is_empty()
    assert leads.filter(~pl.col("drove"), "signed").height > 50


def test_given_intent_the_difference_is_the_effect() -> None:
    """Standardised over narrow bands of intent and of skill's result, selection is gone."""
    leads = _visitors().with_columns(band=(pl.col("intent") * 4).round())
    bands = leads.group_by("band").agg(
        n=pl.len(),
        drove=pl.col("signed").filter("drove").mean(),
        not_driven=pl.col("signed").filter(~pl.col("drove")).mean(),
        n_drove=pl.col("drove").sum(),
        true=(pl.col("with_drive_probability") - pl.col("without_drive_probability")).mean(),
    )
    both = bands.filter(pl.col("n_drove") >= 30, pl.col("n") - pl.col("n_drove") >= 30)
    weight = both["n"].to_numpy() / both["n"].sum()
    found = (both["drove"] - both["not_driven"]).to_numpy()
    n1, n0 = both["n_drove"].to_numpy(), (both["n"] - both["n_drove"]).to_numpy()
    p1, p0 = both["drove"].to_numpy(), both["not_driven"].to_numpy()
    error = math.sqrt(float((weight**2 * (p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)).sum()))
    assert abs(float((weight * (found - both["true"].to_numpy())).sum())) < Z * error
    assert both.height >= 6


@pytest.mark.parametrize("source", SOURCES)
def test_rates_over_intent_are_those_configured(source: str) -> None:
    """A grid over intent in place of the quadrature that solved the logits."""
    funnel = find_preset("tiny").funnel
    rates = dict(funnel.passing)[source]
    base = step_logits(funnel)[0, SOURCES.index(source)]
    z = np.linspace(-9, 9, 20_001)
    weight = np.exp(-z * z / 2)
    weight /= weight.sum()
    pull, lost = funnel.intent_effect, funnel.test_drive_effect
    drive = logistic(base[TEST_DRIVE] + pull[0] * z)
    assert float((weight * drive).sum()) == pytest.approx(rates[TEST_DRIVE], abs=QUADRATURE)
    offer = [logistic(base[OFFER] + pull[1] * z - gap) for gap in (lost[0], 0.0)]
    share = float((weight * drive * offer[1]).sum() / (weight * drive).sum())
    assert share == pytest.approx(rates[OFFER], abs=QUADRATURE)
    sign = [logistic(base[CONTRACT - 1] + pull[2] * z - gap) for gap in (lost[1], 0.0)]
    offered = weight * (drive * offer[1] + (1 - drive) * offer[0])
    signed = weight * (drive * offer[1] * sign[1] + (1 - drive) * offer[0] * sign[0])
    assert float(signed.sum() / offered.sum()) == pytest.approx(rates[CONTRACT - 1], abs=QUADRATURE)
    assert STEPS[CONTRACT - 1] == "contract"


def test_an_offer_without_a_test_drive_leaves_stages_in_a_row() -> None:
    events = make_network(preset="tiny", seed=1).tables["stage_events"].collect()
    lists = (
        events.sort("opportunity_id", "seq")
        .group_by("opportunity_id", maintain_order=True)
        .agg(pl.col("stage").cast(pl.String), pl.col("seq"))
    )
    skipped = lists.filter(
        pl.col("stage").list.contains("offer"), ~pl.col("stage").list.contains("test_drive")
    )
    assert skipped.height > 10
    assert all(list(seq) == list(range(1, len(seq) + 1)) for seq in skipped["seq"])
