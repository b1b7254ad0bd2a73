"""The score of leads: against the chances that made them, a loop, and what was known on the day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from crm_analysis import InputError, lead_score
from crm_analysis.dates import to_day_number
from crm_analysis.forecast.lead_snapshots import PER, snapshots
from crm_analysis.forecast.reached import first_reached, stage_columns
from crm_analysis.logistic import concordance

FIRST, AS_OF = date(2022, 1, 1), date(2025, 12, 31)
STEPS = ["new", "contact", "visit", "offer"]
MEAN_DAYS = 20
"""Mean wait between two stages, and until a lead is given up."""

EXACT = 1e-9
"""Two programs that fit the same likelihood stop within this of each other."""

CHANCE_ERROR = 0.04
"""Four standard errors of a share of 0.2, learnt from some 2,000 evenings of leads of a source."""


def leads(n: int, seed: int) -> pl.DataFrame:
    """Make leads that pass each stage with a chance known by source; waits are without memory."""
    rng = np.random.default_rng(seed)
    keen = rng.random(n) < 0.4
    opened = rng.integers(0, (AS_OF - FIRST).days, n) * 1440 + rng.integers(540, 1140, n)
    rows = []
    for lead in range(n):
        at, stages = int(opened[lead]), [*STEPS, "contract"]
        for step, stage in enumerate(stages):
            rows.append((lead, stage, at))
            at += 1 + int(rng.exponential(MEAN_DAYS * 1440))
            if step < len(stages) - 1 and rng.random() > (0.9 if keen[lead] else 0.5):
                rows.append((lead, "lost", at))
                break
    start = datetime(FIRST.year, FIRST.month, FIRST.day)  # noqa: DTZ001
    return pl.DataFrame(
        {
            "opportunity_id": [lead for lead, _, _ in rows],
            "stage": [stage for _, stage, _ in rows],
            "happened_at": [start + timedelta(minutes=at) for _, _, at in rows],
            "source": ["referral" if keen[lead] else "web" for lead, _, _ in rows],
        }
    )


def true_chance(stage: str, source: str, days: int) -> float:
    """The chance of a contract within `days`: all waits short enough (Erlang), all steps passed."""
    steps = len(STEPS) - STEPS.index(stage)
    passes = (0.9 if source == "referral" else 0.5) ** steps
    # Waits to go on and to give up are alike, so that having waited says nothing.
    return float(passes * stats.gamma.cdf(days, steps, scale=MEAN_DAYS))


def test_chances_are_those_that_made_the_leads() -> None:
    events = leads(4_000, seed=1)
    found = lead_score(events, steps=STEPS, as_of=AS_OF)
    now = (
        events.filter(pl.col("happened_at").dt.date() <= AS_OF)
        .sort("happened_at")
        .group_by("opportunity_id", maintain_order=True)
        .last()
        .filter(~pl.col("stage").is_in(["contract", "lost"]))
    )
    both = found.leads.join(now, left_on="unit", right_on="opportunity_id")
    assert both.height == now.height == found.table["n"].sum()
    wanted = [
        true_chance(stage, source, 30) for stage, source in both.select("stage", "source").rows()
    ]
    by_source = (
        both.with_columns(true=pl.Series(wanted))
        .group_by("source")
        .agg(pl.col("chance", "true").mean())
    )
    assert by_source["chance"].to_list() == pytest.approx(by_source["true"], abs=CHANCE_ERROR)
    assert found.table["estimate"].sum() == pytest.approx(found.leads["chance"].sum())
    low, high = found.table["conf_low"].sum(), found.table["conf_high"].sum()
    assert low < sum(wanted) < high


def test_the_score_orders_leads_as_well_as_their_true_chance() -> None:
    events = leads(5_000, seed=2)
    found = lead_score(events, steps=STEPS, n_test=12, as_of=AS_OF).lift
    columns = stage_columns(
        "opportunity_id", "stage", "happened_at", STEPS, "contract", "lost", "source"
    )
    reached = first_reached(events, columns, AS_OF, per=PER)
    last = to_day_number(AS_OF)
    test = snapshots(reached, columns, [last - 30 * k for k in range(12, 0, -1)], 30, last)
    assert found.table["n"].sum() == test.height
    truth = [
        true_chance(stage, source, 30) for stage, source in test.select("stage", "by_source").rows()
    ]
    won = test["won"].cast(pl.Float64).to_numpy()
    best = concordance(np.array(truth), won, np.ones(len(won)), 0.95)[0]
    area = found.concordance.table.row(0, named=True)
    assert area["conf_low"] < best < area["conf_high"]
    # No score can be better than the truth but by luck, nor is this one much worse.
    assert area["estimate"] == pytest.approx(best, abs=0.02)
    brier = 1 - np.mean((np.array(truth) - won) ** 2) / np.mean((won.mean() - won) ** 2)
    assert found.skill.table["estimate"].item() == pytest.approx(brier, abs=0.03)
    assert found.table.filter(pl.col("predicted").is_between("conf_low", "conf_high")).height >= 8
    assert found.table["caught"][0] == 1


def test_each_evening_knows_what_had_happened_by_then() -> None:
    """The rows of an evening against a loop over the events of that evening and before."""
    events = leads(400, seed=3)
    columns = stage_columns(
        "opportunity_id", "stage", "happened_at", STEPS, "contract", "lost", "source"
    )
    evening = date(2024, 5, 5)
    made = snapshots(
        first_reached(events, columns, AS_OF, per=PER), columns,
        [to_day_number(evening)], 30, to_day_number(AS_OF),
    ).sort("unit")  # fmt: skip
    midnight = datetime(2024, 5, 6)  # noqa: DTZ001
    wanted = []
    for lead, rows in events.sort("opportunity_id").group_by("opportunity_id", maintain_order=True):
        known = {s: at for s, at in rows.select("stage", "happened_at").rows() if at < midnight}
        later = dict(rows.select("stage", "happened_at").rows())
        if known and not {"contract", "lost"} & set(known):
            stage = max(known, key=STEPS.index)
            day = timedelta(days=1)
            answer = (
                (known["contact"] - known["new"]) / timedelta(hours=1) if "contact" in known else 0
            )
            won = "contract" in later and later["contract"] < midnight + 30 * day
            wanted.append(
                (lead[0], stage, (midnight - known["new"]) / day, (midnight - known[stage]) / day,
                 answer, won)
            )  # fmt: skip
    assert made["unit"].to_list() == [row[0] for row in wanted]
    assert made["stage"].to_list() == [row[1] for row in wanted]
    for place, name in enumerate(("days_open", "days_in_stage", "hours_to_answer"), 2):
        assert (2 ** made[name] - 1).to_list() == pytest.approx([row[place] for row in wanted])
    assert made["won"].to_list() == [row[5] for row in wanted]


def test_the_test_is_of_a_model_that_knew_its_past_alone() -> None:
    """The test of the last evening gives what a score made on that evening would have given."""
    events = leads(1_500, seed=4)
    tested = lead_score(events, steps=STEPS, n_test=1, as_of=AS_OF).lift.table
    evening = AS_OF - timedelta(days=30)
    past = events.filter(pl.col("happened_at").dt.date() <= evening)
    then = lead_score(past, steps=STEPS, as_of=evening).leads
    assert tested["n"].sum() == then.height
    given = (tested["predicted"] * tested["n"]).sum()
    assert given == pytest.approx(then["chance"].sum(), abs=EXACT * then.height)


def test_what_comes_later_changes_nothing() -> None:
    events = leads(800, seed=5)
    day = date(2025, 3, 31)
    asked: dict[str, Any] = {"steps": STEPS, "as_of": day}
    known = events.filter(pl.col("happened_at").dt.date() <= day)
    assert_frame_equal(lead_score(events, **asked).leads, lead_score(known, **asked).leads)


def test_a_trait_written_down_afterwards_is_called_one() -> None:
    events = leads(1_500, seed=6)
    lost = events.filter(pl.col("stage") == "lost")["opportunity_id"].to_list()
    told = events.with_columns(
        reason=pl.when(pl.col("opportunity_id").is_in(lost)).then(pl.lit("price"))
    )
    found = lead_score(told, steps=STEPS, traits=("source", "reason"), as_of=AS_OF)
    assert "reason = price" in found.notes[0]
    assert "afterwards" not in " ".join(lead_score(events, steps=STEPS, as_of=AS_OF).notes)


def test_a_stage_left_out_by_some_has_odds_of_its_own() -> None:
    """Whoever skips a visit is told apart; where all pass it, nothing is said of it."""
    events = leads(2_000, seed=7)
    skips = pl.col("opportunity_id") % 2 == 1
    left_out = events.filter(~((pl.col("stage") == "visit") & skips))
    factors = lead_score(left_out, steps=STEPS, as_of=AS_OF).odds.table
    passed = factors.filter(factor="passed").row(0, named=True)
    assert passed["value"] == "visit"
    assert passed["conf_low"] < 1 < passed["conf_high"]  # odd numbers buy no less
    assert "passed" not in lead_score(events, steps=STEPS, as_of=AS_OF).odds.table["factor"]


def test_every_backend_gives_the_same_chances(backend: Callable[[pl.DataFrame], Any]) -> None:
    events = leads(200, seed=8)
    wanted = lead_score(events, steps=STEPS, as_of=AS_OF)
    found = lead_score(
        backend(events.sample(fraction=1, shuffle=True, seed=1)), steps=STEPS, as_of=AS_OF
    )
    assert_frame_equal(found.leads, wanted.leads, check_exact=False, abs_tol=EXACT)


@pytest.mark.parametrize("n", [0, 1, 12])
def test_too_few_leads_are_said(n: int) -> None:
    found = lead_score(
        leads(12, seed=9).filter(pl.col("opportunity_id") < n), steps=STEPS, as_of=AS_OF
    )
    assert found.table["estimate"].null_count() == 3
    assert found.leads.is_empty()
    assert "No model can be fitted" in found.notes[0]
    assert "nothing can be said" in found.sentence()
    assert "too short" in found.lift.sentence()
    assert found.lift.skill.table["estimate"].item() is None
    found.show()
    found.lift.show()


@pytest.mark.parametrize("cuts", [(), (0.3, 0.1), (0.0, 0.5), (0.5, 1.0), (0.2, 0.2)])
def test_bands_must_rise_between_none_and_all(cuts: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="must rise between 0 and 1"):
        lead_score(leads(5, seed=1), steps=STEPS, thresholds=cuts, as_of=AS_OF)


def test_the_page_says_counts_and_no_lead() -> None:
    found = lead_score(leads(1_000, seed=10), steps=STEPS, as_of=AS_OF)
    assert "open leads are in the band" in found.sentence()
    assert "tenth with the highest score" in found.lift.sentence()
    assert "unit" not in found.table.columns
    assert found.table["n"].sum() == found.leads.height
    found.plot()
    found.lift.plot()
    found.odds.show()
