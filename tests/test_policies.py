"""Policy worlds: common random numbers, one contained in the other, and effects known exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis.errors import InputError
from crm_analysis.schema import TABLES
from synthetic import Network, find_preset
from synthetic.policies import (
    OUTCOMES,
    POLICIES,
    TruthEffect,
    TruthPotential,
    TruthRollout,
    Worlds,
    make_worlds,
    potential_outcomes,
    write_worlds,
)
from synthetic.settings import with_settings
from synthetic.world import network_of

Z = 4.0
"""Standard errors that a correct count stays within, but for one seed in fifteen thousand."""

WHOLE_CUSTOMERS = (
    "customers", "vehicles", "opportunities", "stage_events", "deals", "service_orders", "credits",
    "invoices", "contacts", "cases", "loyalty_accounts", "loyalty_transactions", "surveys",
)  # fmt: skip


AT_ONCE: dict[str, Any] = {"rollout.first_days": 0, "rollout.step_days": 0}
EVERYBODY: dict[str, Any] = {**AT_ONCE, "rollout.holdout_share": 0.0}
"""Roll-outs: from the first day, and of everybody."""

OF_CUSTOMERS = [name for name in POLICIES if name != "campaigns"]


@pytest.fixture(autouse=True, scope="module")
def _each_world_once() -> Iterator[None]:
    """Make a world once for all that ask for it: most policies have the same base world."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthetic.policies.network_of", cache(network_of))
        yield


@cache
def _worlds(policy: str, seed: int = 1, how: str = "waves") -> Worlds:
    settings = {"waves": {}, "everybody": EVERYBODY}[how]
    return make_worlds(policy=policy, preset="tiny", seed=seed, settings=settings)


def _effect(worlds: Worlds, outcome: str, column: str = "effect") -> float:
    found = worlds.effects.filter(pl.col("outcome") == outcome)[column].item()
    assert isinstance(found, int | float)
    return float(found)


def _counted(world: Network, name: str) -> int:
    table = world.tables[name].collect()
    if name == "deals":
        table = table.filter(pl.col("delivery_on").is_not_null())
    return table.height


@pytest.mark.parametrize("policy", POLICIES)
def test_the_recorded_effect_is_the_difference_of_the_worlds(policy: str) -> None:
    """Count cars and visits anew from the open tables of both worlds."""
    worlds = _worlds(policy)
    TruthPotential.validate(worlds.potential)
    TruthEffect.validate(worlds.effects)
    TruthRollout.validate(worlds.rollout)
    for outcome, name in (("cars", "deals"), ("visits", "service_orders"), ("lead", "customers")):
        counts = [_counted(world, name) for world in (worlds.base, worlds.treated)]
        assert _effect(worlds, outcome, "total") == counts[1] - counts[0]
        per_unit = _effect(worlds, outcome, "effect_assigned")
        assert per_unit * _effect(worlds, outcome, "n_assigned") == pytest.approx(
            counts[1] - counts[0], abs=1e-6
        )
    margin = [
        float(world.truth["truth_ledger"].collect()["margin"].sum())
        for world in (worlds.base, worlds.treated)
    ]
    assert _effect(worlds, "margin", "total") == pytest.approx(margin[1] - margin[0], abs=0.01)


@pytest.mark.parametrize("policy", OF_CUSTOMERS)
def test_a_treated_customer_lives_the_full_policy_and_one_held_out_the_base_world(
    policy: str,
) -> None:
    """Nobody's treatment reaches another: the treated world is put together from two others."""
    worlds = _worlds(policy)
    full = _everybody(policy)
    assigned = worlds.potential.unique("customer_id").filter("assigned").select("customer_id")
    share = assigned.height / worlds.potential["customer_id"].n_unique()
    usual = worlds.treated.config.rollout.holdout_share
    assert share == pytest.approx(1 - usual, abs=Z * math.sqrt(usual * (1 - usual) / 2000))
    for name in ("deals", "service_orders", "contacts", "invoices", "surveys", "cases"):
        base, whole, mixed = (
            world.tables[name].collect() for world in (worlds.base, full, worlds.treated)
        )
        expected = pl.concat(
            [
                whole.join(assigned, on="customer_id", how="semi"),
                base.join(assigned, on="customer_id", how="anti"),
            ]
        )
        assert_frame_equal(expected, mixed, check_row_order=False)


@cache
def _everybody(policy: str) -> Network:
    settings = {"rollout.policy": policy, "rollout.holdout_share": 0.0}
    return network_of(with_settings(find_preset("tiny"), settings), 1)


@pytest.mark.parametrize("policy", OF_CUSTOMERS)
def test_before_its_dealership_starts_nobody_is_treated(policy: str) -> None:
    """All that opened before the first wave is the same in both worlds."""
    worlds = _worlds(policy)
    first = worlds.rollout.select(pl.col("starts_on").min()).item()
    assert worlds.rollout["starts_on"].n_unique() > 1
    for name, when in (
        ("opportunities", "opened_at"), ("service_orders", "opened_at"), ("deals", "contract_on"),
    ):  # fmt: skip
        key = TABLES[name].primary_key()[0]
        base, treated = (
            world.tables[name]
            .filter(pl.col(when).cast(pl.Date) < first)
            .select(key, when)
            .collect()
            for world in (worlds.base, worlds.treated)
        )
        assert base.height > 50
        assert_frame_equal(base, treated)


@pytest.mark.parametrize("policy", OF_CUSTOMERS)
def test_a_fair_experiment_covers_the_true_effect(policy: str) -> None:
    """Each customer shows one outcome; the difference of means is within its standard error."""
    worlds = _worlds(policy)
    potential = worlds.potential.with_columns(seen=pl.when("assigned").then("y1").otherwise("y0"))
    for outcome in OUTCOMES:
        rows = potential.filter(pl.col("outcome") == outcome)
        arms = [rows.filter(pl.col("assigned") == arm)["seen"] for arm in (True, False)]
        assert all(arm.len() > 300 for arm in arms)
        means = [float(a.to_numpy().mean()) for a in arms]
        spreads = [float(a.to_numpy().var()) / len(a) for a in arms]
        error = math.sqrt(sum(spreads)) + 1e-12
        assert abs(means[0] - means[1] - _effect(worlds, outcome)) < Z * error


def test_dealerships_held_out_of_a_wave_estimate_what_it_brings() -> None:
    """Leads while a wave runs, against the base intensity: run or held out at random."""
    rates: dict[bool, list[float]] = {True: [0.0, 0.0], False: [0.0, 0.0]}
    brought = 0.0
    for seed in (1, 2, 3, 4):
        world = _worlds("campaigns", seed).treated
        runs = world.tables["campaigns"].select(
            "campaign_id", "dealership_id", "starts_on", "ends_on", "held_out"
        )
        days = world.truth["truth_lead_intensity"].join(runs, on="dealership_id")
        days = days.filter(pl.col("day_on").is_between("starts_on", "ends_on"))
        plain = days.with_columns(expected=pl.col("base") * pl.col("suppression"))
        leads = world.tables["opportunities"].filter(pl.col("opportunity_id") % 10 == 0)
        came = leads.group_by("dealership_id", day_on=pl.col("opened_at").dt.date()).len("came")
        both = plain.join(came, on=["dealership_id", "day_on"], how="left").collect()
        for out, part in both.group_by("held_out"):
            side = rates[bool(out[0])]
            side[0] += float(part["came"].fill_null(0).sum())
            side[1] += float(part["expected"].sum())
        ran = both.filter(~pl.col("held_out"))
        brought += float((ran["expected"] * ran["lift"]).sum())
    run, held = rates[False], rates[True]
    estimate = run[0] - run[1] * held[0] / held[1]
    error = math.sqrt(run[0] + (run[1] / held[1]) ** 2 * held[0])
    assert brought > 100
    assert abs(estimate - brought) < Z * error


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
        worlds = _worlds(policy, 1, "everybody")
        assert_frame_equal(
            worlds.base.tables["customers"].collect(), worlds.treated.tables["customers"].collect()
        )


def test_policies_do_what_they_mean() -> None:
    response = _worlds("response", 1, "everybody")
    for stage in ("contact", "appointment"):
        chance = [
            world.truth["truth_stage"].filter(pl.col("stage") == stage).collect()
            for world in (response.base, response.treated)
        ]
        both = chance[0].join(chance[1], on=["opportunity_id", "stage"])
        first = both.filter(pl.col("opportunity_id") % 10 == 0)
        assert (first["probability_right"] >= first["probability"]).all()
        assert (first["probability_right"] > first["probability"]).any()
    assert _effect(response, "cars") > 0
    retention = _worlds("retention", 1, "everybody")
    hazard = [
        world.truth["truth_interval"].collect()["hazard"].mean()
        for world in (retention.base, retention.treated)
    ]
    assert all(isinstance(value, float) for value in hazard)
    assert _effect(retention, "present") > 0
    late = (
        _worlds("reminders", 1, "everybody")
        .treated.tables["contacts"]
        .filter(pl.col("purpose") == "service_reminder", pl.col("done_at") > pl.col("due_at"))
    )
    assert late.collect().is_empty()
    deals = _worlds("discount", 1, "everybody").treated.tables["deals"].collect()
    assert float((deals["discount"] / deals["list_price"]).max()) < 0.0305  # type: ignore[arg-type]
    more, fewer = (
        world.tables["contacts"].filter(pl.col("purpose") == "care").collect().height
        for world in (
            _worlds("contacts", 1, "everybody").treated,
            _worlds("contacts", 1, "everybody").base,
        )
    )
    assert more > 1.3 * fewer


def test_outcomes_missing_in_one_world_are_zero_there() -> None:
    columns = {"customer_id": [1], **{name: [2.0] for name in OUTCOMES}}
    one = pl.DataFrame(columns)
    both = potential_outcomes(one.clear(), one, lambda ids: np.ones(len(ids), dtype=np.bool_))
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
    for name, frame in (
        ("truth_potential", made.potential),
        ("truth_effect", made.effects),
        ("truth_rollout", made.rollout),
    ):
        found = pl.read_parquet(out / "truth" / f"{name}.parquet")
        assert_frame_equal(found, frame, check_dtypes=False, categorical_as_str=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        write_worlds(out, policy="campaigns", preset="tiny", seed=1, n_customers=20)
    assert (out / "notes.txt").read_text() == "mine"
