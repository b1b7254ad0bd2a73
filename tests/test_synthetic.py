"""The generator: same seed same bytes, a truth that made the data, and nothing half-made."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, datetime
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.special import ndtr, ndtri

from crm_analysis.errors import InputError
from crm_analysis.schema import FOREIGN_KEYS, SOURCES, STAGES, TABLES
from synthetic import Network, find_preset, make_network, write_network, writing
from synthetic.cars import NEW
from synthetic.catalogue import make_catalogue
from synthetic.config import describe
from synthetic.funnel import STEPS
from synthetic.keyed import Keyed, normal_below, normal_quantile
from synthetic.relation import DEFECTED
from synthetic.surveys import QUESTIONS, score_probabilities
from synthetic.truth import TRUTH_TABLES
from synthetic.values import walk
from synthetic.vehicles import vin_numbers
from synthetic.vocabulary import LOCALES, load_vocabulary
from synthetic.world import SCHEMAS, lay_ground

Z = 4.0
"""Standard errors that a correct count stays within, but for one seed in fifteen thousand."""

EXACT = 1e-12
"""Rounding of 64-bit arithmetic over a few operations."""

PLANNED = {"next_due_on", "due_at", "due_on", "ends_on"}
"""Days that the CRM sets ahead, and so knows before they come."""

YEAR = 365.25
ROOT = Path(__file__).parents[1]


@cache
def _world(seed: int = 1, **changes: object) -> Network:
    return make_network(preset="tiny", seed=seed, **changes)


@cache
def _table(name: str, seed: int = 1, **changes: object) -> pl.DataFrame:
    network = _world(seed, **changes)
    source = network.tables if name in TABLES else network.truth
    return source[name].collect()


def _number(value: object) -> float:
    """Return an aggregate as a number: polars types it as whatever a column may hold."""
    assert isinstance(value, int | float)
    return float(value)


@cache
def _several(name: str, seeds: int = 4) -> pl.DataFrame:
    """Return a table pooled over seeds, its keys made distinct by the column `seed`."""
    parts = [_table(name, seed).with_columns(seed=pl.lit(seed)) for seed in range(1, seeds + 1)]
    return pl.concat(parts)


# --- keyed randomness ----------------------------------------------------------------------------


def test_a_draw_depends_on_its_key_and_on_nothing_else() -> None:
    ids = np.arange(1, 1001)
    whole = Keyed(7).uniform("field@1", ids)
    assert np.array_equal(whole[100:200], Keyed(7).uniform("field@1", ids[100:200]))
    assert np.array_equal(whole[::-1], Keyed(7).uniform("field@1", ids[::-1]))
    for other in (Keyed(8).uniform("field@1", ids), Keyed(7).uniform("field@2", ids)):
        assert not np.any(whole == other)
    assert not np.any(whole == Keyed(7).uniform("field@1", ids, 1))


def test_uniforms_are_uniform_and_independent_of_their_neighbours() -> None:
    n = 200_000
    ids = np.arange(n)
    u = Keyed(3).uniform("check@1", ids)
    counts = np.bincount((u * 100).astype(int), minlength=100)
    chi2 = ((counts - n / 100) ** 2 / (n / 100)).sum()
    assert abs(chi2 - 99) < Z * math.sqrt(2 * 99)
    for other in (np.roll(u, 1), Keyed(3).uniform("check@1", ids, 1), Keyed(3).uniform("x@1", ids)):
        assert abs(np.corrcoef(u, other)[0, 1]) < Z / math.sqrt(n)
    assert 0 < u.min() < u.max() < 1


def test_the_first_draws_never_change() -> None:
    """The hash is part of every data set ever made: these numbers are its definition."""
    found = Keyed(1).uniform("golden@1", np.array([1, 2, 3]), np.array([0, 0, 1]))
    assert found.tolist() == pytest.approx(GOLDEN, abs=EXACT)


GOLDEN = [0.9676096523888793, 0.8118473695193338, 0.7135361572989853]


def test_quantiles_and_probabilities_agree_with_scipy() -> None:
    p = np.concatenate([np.linspace(1e-9, 1 - 1e-9, 10_001), [1e-300, 1e-15]])
    assert np.abs(normal_quantile(p) - ndtri(p)).max() < 1e-9
    x = np.linspace(-8, 8, 10_001)
    assert np.abs(normal_below(x) - ndtr(x)).max() < EXACT


def test_erlang_and_poisson_have_their_moments() -> None:
    ids = np.arange(100_000)
    draws = Keyed(5)
    erlang = draws.erlang("e@1", 3, ids)
    assert erlang.mean() == pytest.approx(1, abs=Z * math.sqrt(1 / 3 / len(ids)))
    assert erlang.var() == pytest.approx(1 / 3, rel=0.05)
    counts = draws.poisson("p@1", 0.6, 8, ids)
    assert counts.mean() == pytest.approx(0.6, abs=Z * math.sqrt(0.6 / len(ids)))


# --- invariances ---------------------------------------------------------------------------------


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != writing.STAMP
    }


def test_the_same_seed_gives_the_same_bytes_whatever_the_block(
    tiny_network: Path, tmp_path: Path
) -> None:
    write_network(tmp_path / "blocks", preset="tiny", seed=1, block_size=701)
    assert _sums(tmp_path / "blocks") == _sums(tiny_network)


def test_another_seed_gives_other_data() -> None:
    assert not _table("customers", 1).equals(_table("customers", 2))


@pytest.mark.parametrize("name", [n for n in SCHEMAS if "customer_id" in SCHEMAS[n].columns()])
def test_the_first_customers_of_a_larger_run_are_the_smaller_run(name: str) -> None:
    few = _table(name, 1, n_customers=700).filter(pl.col("customer_id").is_not_null())
    many = _table(name, 1).filter(pl.col("customer_id") <= 700)
    assert few.height > 0
    assert_frame_equal(few, many)


def test_a_later_last_day_extends_an_earlier_one() -> None:
    """Events up to the earlier day are the same, whatever is known of them afterwards."""
    early = {name: _table(name, 1, as_of=date(2025, 3, 31)) for name in TABLES}
    late = {name: _table(name, 1) for name in TABLES}
    events = (
        ("stage_events", "happened_at", ["entered_at"]),
        ("service_orders", "opened_at", ["closed_at"]),
        ("opportunities", "opened_at", None),
        ("deals", "contract_on", ["delivery_on", "cancelled_on"]),
        ("surveys", "sent_at", ["answered_at"]),
    )
    for name, when, unknown in events:
        known = late[name].filter(pl.col(when).cast(pl.Date) <= date(2025, 3, 31))
        keep = (
            TABLES[name].primary_key()
            if unknown is None
            else [c for c in known.columns if c not in unknown]
        )
        assert_frame_equal(early[name].select(keep), known.select(keep))
    fates = _table("truth_fate", 1, as_of=date(2025, 3, 31))
    assert_frame_equal(fates, _table("truth_fate", 1))


# --- integrity -----------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_table_fits_its_schema_and_is_in_order(name: str, locale: str) -> None:
    found = _table(name, 1, locale=locale)
    assert found.height > 0 or name == "truth_defect"
    SCHEMAS[name].validate(found)
    key = SCHEMAS[name].primary_key()
    if name not in {"truth_params", "truth_stage", "truth_defect"}:
        assert found.select(key).equals(found.select(key).sort(key))


@pytest.mark.parametrize(("child", "column", "parent", "key"), FOREIGN_KEYS)
def test_no_key_points_nowhere(child: str, column: str, parent: str, key: str) -> None:
    used = _table(child).select(pl.col(column).alias(key)).drop_nulls().unique()
    assert used.height > 0
    assert used.join(_table(parent), on=key, how="anti").is_empty()


@pytest.mark.parametrize("as_of", [date(2025, 12, 31), date(2024, 6, 30)])
@pytest.mark.parametrize("name", TABLES)
def test_open_tables_know_nothing_of_the_future(name: str, as_of: date) -> None:
    found = _table(name, 1, as_of=as_of)
    for column, dtype in found.schema.items():
        if column in PLANNED or not dtype.is_temporal():
            continue
        latest = found[column].cast(pl.Date).max()
        assert latest is None or (isinstance(latest, date) and latest <= as_of), f"{name}.{column}"


def test_every_row_belongs_to_one_dealership() -> None:
    """A customer's events, and those who serve them, are in the customer's dealership."""
    home = _table("customers").select("customer_id", home="dealership_id")
    for name in ("opportunities", "deals", "service_orders", "surveys", "vehicles", "traffic"):
        joined = _table(name).join(home, on="customer_id")
        assert joined.filter(pl.col("dealership_id") != pl.col("home")).is_empty()
    staff = _table("employees").select("employee_id", home="dealership_id")
    for name, column in (
        ("deals", "manager_id"),
        ("service_orders", "advisor_id"),
        ("stage_events", "employee_id"),
    ):
        joined = _table(name).join(staff, left_on=column, right_on="employee_id")
        assert joined.filter(pl.col("dealership_id") != pl.col("home")).is_empty()


def test_people_act_while_they_are_employed() -> None:
    staff = _table("employees").select("employee_id", "hired_on", "left_on", "role")
    for name, column, when, role in (
        ("stage_events", "employee_id", "happened_at", "manager"),
        ("deals", "manager_id", "contract_on", "manager"),
        ("service_orders", "advisor_id", "opened_at", "service_advisor"),
        ("opportunities", "manager_id", "opened_at", "manager"),
    ):
        joined = _table(name).join(staff, left_on=column, right_on="employee_id")
        day = pl.col(when).cast(pl.Date)
        assert joined.filter((day < pl.col("hired_on")) | (day > pl.col("left_on"))).is_empty()
        assert joined["role"].unique().to_list() == [role]


def test_stages_come_in_order_and_agree_with_the_opportunity() -> None:
    events, leads = _table("stage_events"), _table("opportunities")
    rank = {stage: place for place, stage in enumerate(STAGES)}
    ordered = events.with_columns(
        rank=pl.col("stage").cast(pl.String).replace_strict(rank),
        before=pl.col("happened_at").shift().over("opportunity_id"),
        rank_before=pl.col("stage")
        .cast(pl.String)
        .replace_strict(rank)
        .shift()
        .over("opportunity_id"),
        seq_before=pl.col("seq").shift().over("opportunity_id"),
    )
    assert ordered.filter(pl.col("happened_at") < pl.col("before")).is_empty()
    assert ordered.filter(pl.col("rank") <= pl.col("rank_before")).is_empty()
    assert ordered.filter(pl.col("seq") != pl.col("seq_before") + 1).is_empty()
    first = events.filter(pl.col("seq") == 1)
    assert first["stage"].unique().to_list() == ["new"]
    assert first.height == leads.height
    last = events.group_by("opportunity_id").agg(
        pl.col("stage").sort_by("seq").last(), pl.col("happened_at").max()
    )
    both = leads.join(last, on="opportunity_id")
    won, lost = pl.col("stage") == "delivery", pl.col("stage") == "lost"
    status = (
        pl.when(won).then(pl.lit("won")).when(lost).then(pl.lit("lost")).otherwise(pl.lit("open"))
    )
    assert both.filter(pl.col("status").cast(pl.String) != status).is_empty()
    closed = both.filter(pl.col("closed_at").is_not_null())
    assert closed.filter(pl.col("closed_at") != pl.col("happened_at")).is_empty()


def test_deals_agree_with_their_stages() -> None:
    events = _table("stage_events")
    signed = events.filter(pl.col("stage") == "contract").select(
        "opportunity_id", day=pl.col("happened_at").dt.date()
    )
    deals = _table("deals")
    both = deals.join(signed, on="opportunity_id")
    assert both.height == deals.height == signed.height
    assert both.filter(pl.col("day") != pl.col("contract_on")).is_empty()
    delivered = events.filter(pl.col("stage") == "delivery")
    assert delivered.height == deals["delivery_on"].is_not_null().sum()
    assert deals.filter(
        pl.col("delivery_on").is_not_null() & pl.col("cancelled_on").is_not_null()
    ).is_empty()
    assert deals.filter(
        pl.col("sale_price") != pl.col("list_price") - pl.col("discount")
    ).is_empty()


def test_a_car_is_serviced_after_it_is_bought_and_its_odometer_never_goes_back() -> None:
    orders = _table("service_orders").sort("vehicle_id", "opened_at")
    delivered = (
        _table("deals")
        .filter(pl.col("delivery_on").is_not_null())
        .select("vehicle_id", "delivery_on")
    )
    ours = orders.join(delivered, on="vehicle_id")
    assert ours.height > 0
    for column in ("booked_at", "opened_at"):
        assert ours.filter(pl.col(column).dt.date() < pl.col("delivery_on")).is_empty()
    back = pl.col("mileage_km") < pl.col("mileage_km").shift().over("vehicle_id")
    assert orders.filter(back).is_empty()
    owners = _table("vehicles").select("vehicle_id", owner="customer_id")
    assert (
        orders.join(owners, on="vehicle_id")
        .filter(pl.col("owner") != pl.col("customer_id"))
        .is_empty()
    )


def test_nobody_comes_after_leaving() -> None:
    fates = _table("truth_fate").select("customer_id", "started_on", "ended_on")
    orders = _table("service_orders").join(fates, on="customer_id", how="left")
    assert orders["started_on"].null_count() == 0
    day = pl.col("opened_at").dt.date()
    assert orders.filter(day < pl.col("started_on")).is_empty()
    assert orders.filter(day >= pl.col("ended_on")).is_empty()


def test_customers_are_known_before_anything_happens_to_them() -> None:
    known = _table("customers").select("customer_id", "created_at")
    for name, when in (("opportunities", "opened_at"), ("service_orders", "booked_at")):
        joined = _table(name).join(known, on="customer_id")
        assert joined.filter(pl.col(when) < pl.col("created_at")).is_empty()


def test_identification_numbers_are_never_the_same_twice() -> None:
    assert vin_numbers(np.arange(1, 200_001)).n_unique() == 200_000


# --- what a manager would expect -----------------------------------------------------------------


def test_every_dealership_has_leads_in_every_stage_and_work_in_hand() -> None:
    stages = _table("stage_events").group_by("dealership_id").agg(pl.col("stage").n_unique())
    assert stages["stage"].to_list() == [len(STAGES)] * 3
    leads = _table("opportunities")
    in_hand = leads.filter(pl.col("status") == "open")
    assert _number(in_hand.group_by("dealership_id").len()["len"].min()) >= 5
    recent = in_hand["opened_at"].max()
    assert isinstance(recent, datetime)
    assert recent.date() >= date(2025, 12, 24)
    stock = _table("vehicles").filter(pl.col("customer_id").is_null())
    assert _number(stock.group_by("dealership_id").len()["len"].min()) >= 10


def test_some_customers_buy_again_and_the_workshop_sees_most_of_them_twice() -> None:
    cars = _several("deals").group_by("seed", "customer_id").len()
    assert (cars["len"] >= 2).sum() >= 5
    visits = _table("service_orders").group_by("customer_id").len()
    assert _number((visits["len"] >= 2).mean()) > 0.5


@pytest.mark.parametrize(
    ("locale", "price", "bill"),
    [("en_US", (18_000, 40_000), (150, 600)), ("ru_RU", (1_500_000, 4_000_000), (7_000, 22_000))],
)
def test_money_is_plausible(locale: str, price: tuple[int, int], bill: tuple[int, int]) -> None:
    deals, orders = _table("deals", 1, locale=locale), _table("service_orders", 1, locale=locale)
    assert price[0] < _number(deals["sale_price"].median()) < price[1]
    assert bill[0] < _number((orders["labour"] + orders["parts"]).median()) < bill[1]
    front = _number((deals["sale_price"] - deals["cost"]).sum())
    assert 0.03 < front / _number(deals["sale_price"].sum()) < 0.09
    billed = _number((orders["labour"] + orders["parts"]).sum())
    service = 1 - _number(orders["costs"].sum()) / billed
    assert service == pytest.approx(0.46, abs=0.02)


@pytest.mark.parametrize("locale", LOCALES)
def test_names_agree_in_gender(locale: str) -> None:
    words = load_vocabulary(locale)
    people = _table("customers", 1, locale=locale).filter(pl.col("kind") == "person")
    for gender in ("female", "male"):
        found = people.filter(pl.col("gender") == gender)
        assert found.height > 0
        assert set(found["first_name"]) <= set(words.first[gender].words.tolist())
        assert set(found["last_name"]) <= set(words.last[gender].words.tolist())
        if words.patronymic is not None:
            assert set(found["patronymic"]) <= set(words.patronymic[gender].words.tolist())
    companies = _table("customers", 1, locale=locale).filter(pl.col("kind") == "company")
    assert (
        companies["first_name"].null_count() == companies["gender"].null_count() == companies.height
    )


def test_an_english_world_has_no_cyrillic() -> None:
    for name in TABLES:
        for column, dtype in _table(name).schema.items():
            if dtype == pl.String and column != "text_ru":
                text = _table(name)[column].drop_nulls()
                assert not text.str.contains(r"[А-Яа-яЁё]").any(), f"{name}.{column}"


def test_catalogues_share_one_shape() -> None:
    for locale in LOCALES:
        catalogue = make_catalogue(locale)
        TABLES["models"].validate(catalogue.table)
        assert catalogue.edges[..., -1] == pytest.approx(1)
        assert catalogue.table.select("brand", "model").n_unique() == catalogue.table.height


# --- the truth -----------------------------------------------------------------------------------


def _integrated(spans: pl.DataFrame) -> pl.DataFrame:
    days = (pl.col("stop_on") - pl.col("start_on")).dt.total_days()
    return spans.with_columns(expected=days / YEAR * pl.col("hazard"))


@pytest.mark.parametrize("in_warranty", [True, False])
def test_hazards_integrate_to_the_defections(in_warranty: bool) -> None:
    """The compensated count of a counting process is a martingale: its z is within bounds."""
    spans = _several("truth_interval").filter(pl.col("in_warranty") == in_warranty)
    expected = _number(_integrated(spans)["expected"].sum())
    fates = _several("truth_fate").filter(pl.col("cause") == "defected")
    ends = spans.join(
        fates,
        left_on=["seed", "customer_id", "stop_on"],
        right_on=["seed", "customer_id", "ended_on"],
    )
    assert expected > 300
    assert abs(ends.height - expected) < Z * math.sqrt(expected)


def test_hazards_seen_by_the_last_day_integrate_too() -> None:
    """Also cut at as_of, as an analyst sees it."""
    cut = pl.lit(date(2026, 1, 1))
    spans = _several("truth_interval").filter(pl.col("start_on") < cut)
    spans = spans.with_columns(stop_on=pl.min_horizontal("stop_on", cut))
    expected = _number(_integrated(spans)["expected"].sum())
    fates = _several("truth_fate").filter(
        (pl.col("cause") == "defected") & (pl.col("ended_on") <= cut)
    )
    assert abs(fates.height - expected) < Z * math.sqrt(expected)


def test_rescaled_times_to_defection_are_exponential() -> None:
    """Time counted in integrated hazard has hazard one: the Nelson-Aalen slope, by stretch."""
    spans = _integrated(_several("truth_interval"))
    total = spans.group_by("seed", "customer_id").agg(pl.col("expected").sum())
    fates = _several("truth_fate").with_columns(event=pl.col("cause") == "defected")
    both = total.join(fates, on=["seed", "customer_id"])
    spent, event = both["expected"].to_numpy(), both["event"].to_numpy()
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 1.0), (1.0, 3.0)):
        exposure = (np.minimum(spent, high) - np.minimum(spent, low)).sum()
        events = (event & (spent > low) & (spent <= high)).sum()
        assert abs(events - exposure) < Z * math.sqrt(exposure)


def test_intervals_cover_each_relationship_without_overlap() -> None:
    spans = _table("truth_interval").with_columns(
        before=pl.col("stop_on").shift().over("customer_id")
    )
    assert spans.filter(pl.col("stop_on") < pl.col("start_on")).is_empty()
    assert spans.filter(pl.col("start_on") < pl.col("before")).is_empty()
    ends = spans.group_by("customer_id").agg(pl.col("start_on").min(), pl.col("stop_on").max())
    fates = _table("truth_fate").join(ends, on="customer_id", how="left")
    assert fates.filter(pl.col("start_on") != pl.col("started_on")).is_empty()
    gone = fates.filter(pl.col("cause") == "defected")
    assert gone.filter(pl.col("stop_on") != pl.col("ended_on")).is_empty()


def test_defection_leaves_half_of_new_car_buyers_after_five_years() -> None:
    """Net of those who buy elsewhere, by Kaplan-Meier over the uncensored truth."""
    ids = np.arange(1, 24_001)
    ground = lay_ground(find_preset("tiny", n_customers=len(ids)), 1)
    told = walk(ground.market, ids, ground.edges).relations
    owner, first = np.unique(told.cars["customer"], return_index=True)  # cars come in their order
    new = np.isin(told.fates["customer"], owner[told.cars["condition"][first] == NEW])
    bought = new & ~told.fates["by_service"]
    days = (told.fates["end"] - told.fates["start"])[bought]
    order = np.argsort(days, kind="stable")
    years, event = days[order] / YEAR, (told.fates["cause"] == DEFECTED)[bought][order]
    survival = np.cumprod(1 - event / np.arange(len(years), 0, -1))
    assert len(years) > 800
    assert survival[np.searchsorted(years, 5.0) - 1] == pytest.approx(0.5, abs=0.06)


def test_the_next_car_is_bought_here_as_often_as_its_probability_says() -> None:
    owned = _several("truth_ownership").filter(pl.col("return_probability").is_not_null())
    deals = (
        _several("truth_ownership")
        .group_by("seed", "customer_id")
        .agg(last=pl.col("started_on").max())
    )
    both = owned.join(deals, on=["seed", "customer_id"])
    here = (both["last"] > both["started_on"]).to_numpy()
    p = both["return_probability"].to_numpy()
    assert len(p) > 300
    assert abs(here.sum() - p.sum()) < Z * math.sqrt((p * (1 - p)).sum())


@pytest.mark.parametrize("stage", STEPS)
def test_stages_are_passed_as_often_as_their_probability_says(stage: str) -> None:
    steps = _several("truth_stage").filter((pl.col("stage") == stage) & pl.col("at_risk"))
    p, passed = steps["probability"].to_numpy(), steps["passed"].to_numpy()
    assert abs(passed.sum() - p.sum()) <= Z * math.sqrt((p * (1 - p)).sum())
    assert np.array_equal(passed, (steps["uniform"] < steps["probability"]).to_numpy())


def test_open_stage_events_are_the_true_ones_seen_so_far() -> None:
    seen = _table("stage_events").filter(~pl.col("stage").cast(pl.String).is_in(["new", "lost"]))
    true = _table("truth_stage").filter(
        pl.col("passed"), pl.col("happened_at") < datetime.fromisoformat("2026-01-01")
    )
    left = seen.select("opportunity_id", pl.col("stage").cast(pl.String), "happened_at")
    right = true.select("opportunity_id", pl.col("stage").cast(pl.String), "happened_at")
    assert_frame_equal(left, right, check_row_order=False)


def test_leads_arrive_by_source_as_configured() -> None:
    leads = _several("opportunities").filter(pl.col("opportunity_id") % 10 == 0)
    late = dict(find_preset("tiny").traffic.source_2025)
    for source in SOURCES:
        share = (leads["source"] == source).mean()
        assert share == pytest.approx(late[source], abs=0.035)


def test_scores_follow_their_probabilities_given_who_answered() -> None:
    truth = _several("truth_answer")
    answers = _several("survey_answers").filter(pl.col("value").is_not_null())
    both = answers.join(truth, on=["seed", "survey_id", "question_id"])
    assert both.height == answers.height
    questions = _table("truth_question")
    for row in questions.iter_rows(named=True):
        asked = both.filter(pl.col("question_id") == row["question_id"])
        p = asked["top_probability"].to_numpy()
        top = (asked["value"] >= row["top_from"]).sum()
        assert abs(top - p.sum()) < Z * math.sqrt((p * (1 - p)).sum())
        low = asked["low_probability"].to_numpy()
        assert abs((asked["value"] <= row["low_to"]).sum() - low.sum()) < Z * math.sqrt(
            (low * (1 - low)).sum() + 1
        )


def test_score_probabilities_are_a_distribution_and_match_a_slow_twin() -> None:
    s = np.array([-2.0, 0.0, 1.3])
    for question in QUESTIONS:
        p = score_probabilities(s, question)
        assert p.sum(axis=1) == pytest.approx(1, abs=EXACT)
        for row, value in enumerate(s):
            for place, score in enumerate(range(question.low, question.high + 1)):
                low = -math.inf if score == question.low else score - 0.5
                high = math.inf if score == question.high else score + 0.5
                mean = question.centre + question.loading * value
                twin = ndtr((high - mean) / question.noise) - ndtr((low - mean) / question.noise)
                assert p[row, place] == pytest.approx(twin, abs=EXACT)


def test_those_who_feel_strongly_answer_more() -> None:
    surveys = _several("surveys").join(_several("truth_survey"), on=["seed", "survey_id"])
    old = surveys.filter(pl.col("sent_at") < datetime.fromisoformat("2025-12-01"))
    p = old["answer_probability"].to_numpy()
    answered = old["answered_at"].is_not_null().sum()
    assert abs(answered - p.sum()) < Z * math.sqrt((p * (1 - p)).sum())
    strong = old.filter(pl.col("satisfaction").abs() > 1)["answered_at"].is_not_null().mean()
    mild = old.filter(pl.col("satisfaction").abs() < 0.5)["answered_at"].is_not_null().mean()
    assert _number(strong) > _number(mild) + 0.05


def test_open_tables_never_hold_the_truth() -> None:
    hidden = {"satisfaction", "skill", "hazard", "probability", "uniform", "value_v"}
    for name in TABLES:
        assert not hidden & set(_table(name).columns)
    assert set(TRUTH_TABLES).isdisjoint(TABLES)


def test_every_setting_says_where_it_comes_from() -> None:
    rows = describe(find_preset("small"))
    for row in rows:
        if "." in row["name"]:
            assert row["meaning"], row
            assert row["source"], row
            assert row["confidence"] in {"published", "derived", "assumed"}, row


# --- writing -------------------------------------------------------------------------------------


def test_the_manifest_tells_rows_and_hashes(tiny_network: Path) -> None:
    manifest = json.loads((tiny_network / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["format"] == 1
    assert manifest["as_of"] == "2025-12-31"
    assert (manifest["seed"], manifest["preset"]) == (1, "tiny")
    assert (manifest["locale"], manifest["currency"]) == ("en_US", "USD")
    assert list(manifest["tables"]) == list(TABLES)
    truth = json.loads((tiny_network / "truth" / "manifest.json").read_text(encoding="utf-8"))
    assert list(truth["tables"]) == list(TRUTH_TABLES)
    for folder, facts in ((tiny_network, manifest), (tiny_network / "truth", truth)):
        for name, entry in facts["tables"].items():
            path = folder / f"{name}.parquet"
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
            assert pl.scan_parquet(path).select(pl.len()).collect().item() == entry["rows"]


def test_written_tables_equal_those_in_memory(tiny_network: Path) -> None:
    for name in SCHEMAS:
        folder = tiny_network if name in TABLES else tiny_network / "truth"
        assert_frame_equal(pl.read_parquet(folder / f"{name}.parquet"), _table(name))


def test_a_world_without_customers_is_whole(tmp_path: Path) -> None:
    write_network(tmp_path / "empty", preset="tiny", seed=1, n_customers=0)
    for name in TABLES:
        SCHEMAS[name].validate(pl.read_parquet(tmp_path / "empty" / f"{name}.parquet"))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_handful_of_customers_is_whole(count: int) -> None:
    for seed in range(1, 6):
        network = make_network(preset="tiny", seed=seed, n_customers=count)
        assert network.sizes()["customers"] == count


def _write_small(out: Path, *, force: bool = False) -> None:
    write_network(out, preset="tiny", seed=1, n_customers=20, force=force)


def test_our_own_output_is_replaced_and_others_never(tmp_path: Path) -> None:
    out = tmp_path / "data"
    _write_small(out)
    _write_small(out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        _write_small(out)
    assert (out / "notes.txt").read_text() == "mine"
    _write_small(out, force=True)
    assert not (out / "notes.txt").exists()
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        _write_small(file)


def test_the_working_folder_is_not_replaced_even_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "project" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    with pytest.raises(InputError, match="contains"):
        _write_small(tmp_path / "project", force=True)
    assert inside.exists()


def test_an_error_on_the_way_leaves_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    _write_small(out)
    before = _sums(out)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.TableWriter, "finish", full)
    with pytest.raises(InputError, match="No space left on device"):
        _write_small(out)
    assert _sums(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_unwritable_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        _write_small(tmp_path / "file" / "data")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time, synthetic.writing as w\n"
        "real = w.generate\n"
        "def slow(*a):\n"
        "    for part in real(*a):\n"
        "        yield part\n"
        "        print('part', flush=True)\n"
        "        time.sleep(60)\n"
        "w.generate = slow\n"
        "from synthetic.cli import app\n"
        "app(['generate', '--preset', 'tiny', '--out', sys.argv[1]])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out" / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert list((tmp_path / "out").iterdir())
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    assert process.returncode != 0
    assert not list((tmp_path / "out").iterdir())


def test_the_command_line_makes_a_network_and_refuses_nonsense(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "synthetic", "generate", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    wrong = run("--preset", "tinny", "--out", str(tmp_path / "data"))
    assert wrong.returncode == 2
    assert "did you mean 'tiny'" in wrong.stderr
    assert not (tmp_path / "data").exists()
    right = run(
        "--preset", "tiny", "--seed", "3", "--locale", "ru_RU", "--out", str(tmp_path / "data")
    )
    assert right.returncode == 0, right.stderr
    facts = json.loads((tmp_path / "data" / "manifest.json").read_text(encoding="utf-8"))
    assert (facts["seed"], facts["locale"], facts["currency"]) == (3, "ru_RU", "RUB")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "huge"}, "tiny, small"),
        ({"locale": "fr_FR"}, "en_US, ru_RU"),
        ({"n_customer": 5}, "did you mean 'n_customers'"),
        ({"n_customers": -1}, "0 or more customers"),
        ({"as_of": date(2030, 1, 1)}, "inside the world"),
    ],
)
def test_impossible_worlds_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_network(**({"preset": "tiny", "seed": 1} | changes))  # type: ignore[arg-type]


def test_a_changed_vocabulary_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthetic import vocabulary

    folder = Path(shutil.copytree(Path(vocabulary.__file__).parent, tmp_path / "words"))
    (folder / "en_US.json").write_text("{}")
    monkeypatch.setattr(vocabulary, "files", lambda _: folder)
    vocabulary.load_vocabulary.cache_clear()
    with pytest.raises(InputError, match="SHA-256"):
        vocabulary.load_vocabulary("en_US")
    vocabulary.load_vocabulary.cache_clear()


def test_the_vocabulary_is_what_its_script_builds(tmp_path: Path) -> None:
    from synthetic.vocabulary import build

    build.build(tmp_path)
    packaged = Path(build.__file__).parent
    for name in ("en_US.json", "ru_RU.json", "SHA256SUMS"):
        assert (tmp_path / name).read_bytes() == (packaged / name).read_bytes()


def test_a_network_shows_itself() -> None:
    page = _world()._repr_html_()
    assert "seed 1" in page
    assert "service_orders" in page


def test_tiny_is_quick() -> None:
    """Generation alone, in CPU time: a guard against an accidental loop, not a benchmark."""
    start = time.process_time()
    make_network(preset="tiny", seed=99)
    assert time.process_time() - start < 5
