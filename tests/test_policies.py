"""Policy worlds: common random numbers, one contained in the other, and effects known exactly."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis.errors import InputError
from synthetic.policies import (
    OUTCOMES,
    POLICIES,
    TruthEffect,
    TruthPotential,
    Worlds,
    make_worlds,
    potential_outcomes,
    write_worlds,
)

Z = 4.0
"""Standard errors that a correct count stays within, but for one seed in fifteen thousand."""

WHOLE_CUSTOMERS = (
    "customers", "vehicles", "opportunities", "stage_events", "deals", "service_orders", "credits",
    "invoices", "contacts", "cases", "loyalty_accounts", "loyalty_transactions", "surveys",
)  # fmt: skip


@cache
def _worlds(policy: str, seed: int = 1) -> Worlds:
    return make_worlds(policy=policy, preset="tiny", seed=seed)


def _effect(policy: str, outcome: str, seed: int = 1) -> float:
    found = _worlds(policy, seed).effects.filter(pl.col("outcome") == outcome)["effect"].item()
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize("policy", POLICIES)
def test_the_recorded_effect_is_the_difference_of_the_worlds(policy: str) -> None:
    """Count cars and visits anew from the open tables of both worlds."""
    worlds = _worlds(policy)
    TruthPotential.validate(worlds.potential)
    TruthEffect.validate(worlds.effects)
    n = worlds.potential["customer_id"].n_unique()
    for outcome, name in (("cars", "deals"), ("visits", "service_orders"), ("lead", "customers")):
        counts = []
        for world in (worlds.base, worlds.treated):
            table = world.tables[name].collect()
            if name == "deals":
                table = table.filter(pl.col("delivery_on").is_not_null())
            counts.append(table.height)
        assert _effect(policy, outcome) == pytest.approx((counts[1] - counts[0]) / n, abs=1e-9)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_fair_experiment_covers_the_true_effect(policy: str) -> None:
    """Each customer shows one outcome; the difference of means is within its standard error."""
    potential = _worlds(policy).potential.with_columns(
        seen=pl.when("assigned").then("y1").otherwise("y0")
    )
    for outcome in OUTCOMES:
        rows = potential.filter(pl.col("outcome") == outcome)
        arms = [rows.filter(pl.col("assigned") == arm)["seen"] for arm in (True, False)]
        means = [float(a.to_numpy().mean()) for a in arms]
        spreads = [float(a.to_numpy().var()) / len(a) for a in arms]
        error = math.sqrt(sum(spreads)) + 1e-12
        assert abs(means[0] - means[1] - _effect(policy, outcome)) < Z * error


@pytest.mark.parametrize("name", WHOLE_CUSTOMERS)
def test_the_world_with_advertising_contains_the_world_without(name: str) -> None:
    worlds = _worlds("campaigns")
    base, treated = (world.tables[name].collect() for world in (worlds.base, worlds.treated))
    brought = worlds.treated.truth["truth_arrival"].filter("incremental").select("customer_id")
    same = treated
    if "customer_id" in treated.columns:
        same = treated.join(brought.collect(), on="customer_id", how="anti", maintain_order="left")
    else:
        key = {"stage_events": "opportunity_id", "loyalty_transactions": "loyalty_account_id"}
        same = treated.join(base.select(key[name]).unique(), on=key[name], how="semi")
    assert base.height > 0
    assert_frame_equal(same, base)


def test_leads_that_only_advertising_brings_are_as_many_as_their_intensity() -> None:
    extra, expected = 0, 0.0
    for seed in (1, 2, 3):
        worlds = _worlds("campaigns", seed)
        extra += worlds.treated.sizes()["customers"] - worlds.base.sizes()["customers"]
        brought = worlds.treated.truth["truth_campaign"].collect()["leads_brought"].sum()
        expected += float(brought)
        assert worlds.base.tables["campaign_days"].collect().is_empty()
    assert abs(extra - expected) < Z * math.sqrt(expected)


def test_who_comes_first_does_not_depend_on_a_policy_of_the_dealership() -> None:
    for policy in ("contacts", "reminders", "retention", "discount"):
        worlds = _worlds(policy)
        assert_frame_equal(
            worlds.base.tables["customers"].collect(), worlds.treated.tables["customers"].collect()
        )


def test_policies_do_what_they_mean() -> None:
    response = _worlds("response")
    for stage in ("contact", "appointment"):
        chance = [
            world.truth["truth_stage"].filter(pl.col("stage") == stage).collect()
            for world in (response.base, response.treated)
        ]
        both = chance[0].join(chance[1], on=["opportunity_id", "stage"])
        first = both.filter(pl.col("opportunity_id") % 10 == 0)
        assert (first["probability_right"] >= first["probability"]).all()
        assert (first["probability_right"] > first["probability"]).any()
    assert _effect("response", "cars") > 0
    retention = _worlds("retention")
    hazard = [
        world.truth["truth_interval"].collect()["hazard"].mean()
        for world in (retention.base, retention.treated)
    ]
    assert all(isinstance(value, float) for value in hazard)
    assert _effect("retention", "present") > 0
    late = (
        _worlds("reminders")
        .treated.tables["contacts"]
        .filter(pl.col("purpose") == "service_reminder", pl.col("done_at") > pl.col("due_at"))
    )
    assert late.collect().is_empty()
    deals = _worlds("discount").treated.tables["deals"].collect()
    assert float((deals["discount"] / deals["list_price"]).max()) < 0.0305  # type: ignore[arg-type]
    more, fewer = (
        world.tables["contacts"].filter(pl.col("purpose") == "care").collect().height
        for world in (_worlds("contacts").treated, _worlds("contacts").base)
    )
    assert more > 1.3 * fewer


def test_outcomes_missing_in_one_world_are_zero_there() -> None:
    columns = {"customer_id": [1], **{name: [2.0] for name in OUTCOMES}}
    one = pl.DataFrame(columns)
    both = potential_outcomes(one.clear(), one, seed=1)
    assert both["y0"].to_list() == [0.0] * len(OUTCOMES)
    assert both["y1"].to_list() == [2.0] * len(OUTCOMES)


def test_an_unknown_policy_is_answered_with_the_list() -> None:
    with pytest.raises(InputError, match=r"did you mean 'contacts'.*campaigns"):
        make_worlds(policy="contact", seed=1)


def test_two_worlds_are_written_whole_and_others_are_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "pair"
    for _ in range(2):
        rows = write_worlds(out, policy="campaigns", preset="tiny", seed=1, n_customers=200)
    facts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert facts["policy"] == "campaigns"
    assert rows["base/customers"] < rows["treated/customers"] == 200
    made = make_worlds(policy="campaigns", preset="tiny", seed=1, n_customers=200)
    for name, frame in (("truth_potential", made.potential), ("truth_effect", made.effects)):
        found = pl.read_parquet(out / "truth" / f"{name}.parquet")
        assert_frame_equal(found, frame, check_dtypes=False, categorical_as_str=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        write_worlds(out, policy="campaigns", preset="tiny", seed=1, n_customers=20)
    assert (out / "notes.txt").read_text() == "mine"
