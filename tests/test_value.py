"""What customers will bring, and what follows from it: closed-form worlds, identities, edges."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from crm_analysis import (
    BetaGeometric,
    BuyingModel,
    ColumnError,
    Estimates,
    GammaGamma,
    InputError,
    ParetoNbd,
    PurchaseHistory,
    ShiftedBetaGeometric,
    affordable_discount,
    fit_beta_geometric,
    fit_gamma_gamma,
    fit_value_models,
    lifetime_value,
    open_warehouse,
    purchase_history,
    remembered,
    retention_curve,
    retention_leverage,
    value_by_process,
    yearly_retention,
)
from crm_analysis.lifetime.leverage import customer_years
from crm_analysis.uncertainty import sum_interval
from crm_analysis.wording import speaking
from synthetic.closed_form import ClosedForm, make_closed_form

SPEND_ROUNDING = 5e-4
"""Margins are written in whole cents; the world knows what they were before."""

ToBackend = Callable[[pl.DataFrame], Any]

QUADRATURE = 1e-6
"""Ours cuts for ever where a purchase is worth exp(-16); the world integrates by another rule."""

STATED_ROUNDING = 0.005
"""Whole per cents as the source writes them."""


# --- closed-form worlds ---------------------------------------------------------------------------


def world_of(name: str, n: int = 600) -> tuple[ClosedForm, PurchaseHistory, pl.DataFrame]:
    """A world, its exact histories (not rounded to days), and the truth by customer."""
    world = make_closed_form(name, n_customers=n, seed=3)
    counted = purchase_history(
        world.tables["purchases"], value_col="margin", as_of=world.parameters.as_of
    )
    exact = world.truth["truth_buyer"].collect().select(
        "customer_id", x="frequency", t="recency_weeks", T="age_weeks"
    )  # fmt: skip
    rows = counted.table.select("customer_id", "mean_value").join(exact, on="customer_id")
    history = PurchaseHistory.from_summary(
        rows.select("customer_id", "x", "t", "T", m="mean_value"),
        frequency_col="x", recency_col="t", age_col="T", value_col="m",
    )  # fmt: skip
    truth = world.truth["truth_buyer_value"].collect()
    return (
        world,
        history,
        rows.select("customer_id").join(truth, on="customer_id", maintain_order="left"),
    )


def true_models(name: str, p: Any) -> tuple[BuyingModel, GammaGamma]:
    spend = GammaGamma(p=p.spend_p, q=p.spend_q, v=p.spend_v)
    if name == "bgnbd":
        return BetaGeometric(r=p.r, alpha=p.alpha, a=p.a, b=p.b), spend
    return ParetoNbd(r=p.r, alpha=p.alpha, s=p.s, beta=p.beta), spend


@pytest.mark.parametrize("name", ["paretonbd", "bgnbd"])
def test_value_is_the_worlds_exact_value_by_customer(name: str) -> None:
    world, history, truth = world_of(name)
    buying, spend = true_models(name, world.parameters)
    months = world.parameters.horizon_days / 365.25 * 12
    rate = world.parameters.annual_discount_rate
    columns: dict[str, float | None] = {"discounted_purchases": months}
    columns["discounted_ever"] = None
    for column, horizon in columns.items():
        value = lifetime_value(
            history, model=buying, spend_model=spend, horizon_months=horizon,
            annual_discount_rate=rate,
        )  # fmt: skip
        exact = (truth[column] * truth["expected_spend"]).to_numpy()
        assert value.customers["value"].to_numpy() == pytest.approx(exact, rel=SPEND_ROUNDING)
        assert value.table["total"][0] == pytest.approx(exact.sum(), rel=SPEND_ROUNDING)


N_WORLDS = 20
COVERED = 15
"""Of 20 intervals at 95 % fewer than 15 cover with a chance below 1 in 1,000."""


@pytest.mark.slow
def test_intervals_of_the_total_cover_what_the_true_parameters_give() -> None:
    covered = 0
    for seed in range(N_WORLDS):
        world = make_closed_form("bgnbd", n_customers=400, seed=seed)
        history = purchase_history(
            world.tables["purchases"], value_col="margin", as_of=world.parameters.as_of
        )
        buying, spend = true_models("bgnbd", world.parameters)
        true = lifetime_value(history, model=buying, spend_model=spend).table["estimate"][0]
        row = lifetime_value(
            history, model=fit_beta_geometric(history), spend_model=fit_gamma_gamma(history),
            n_resamples=60,
        ).table.row(0, named=True)  # fmt: skip
        covered += row["conf_low"] <= true <= row["conf_high"]
    assert covered >= COVERED


def test_for_ever_is_the_limit_of_long_horizons() -> None:
    _, history, _ = world_of("bgnbd", 300)
    models = fit_value_models(history)
    terms: dict[str, Any] = {"model": models.buying, "spend_model": models.spend, "n_resamples": 2}
    long, ever = (
        lifetime_value(history, horizon_months=m, **terms) for m in (12 * 168, None)
    )  # fmt: skip
    assert ever.table["total"][0] == pytest.approx(long.table["total"][0], rel=QUADRATURE)
    assert ever.customers["expected_purchases"].null_count() == history.n
    assert "all that is to come" in str(ever)
    with pytest.raises(InputError, match="without a discount"):
        lifetime_value(history, horizon_months=None, annual_discount_rate=0.0, **terms)


def test_each_customer_has_a_value_with_its_own_interval() -> None:
    world = make_closed_form("bgnbd", n_customers=400, seed=5)
    history = purchase_history(
        world.tables["purchases"], value_col="margin", as_of=world.parameters.as_of
    )
    whole = lifetime_value(history)
    each = lifetime_value(history, by="customer_id")
    joined = each.table.join(whole.customers, on="customer_id")
    assert joined["estimate"].to_numpy() == pytest.approx(joined["value"].to_numpy(), rel=1e-9)
    assert each.table["total"].sum() == pytest.approx(whole.table["total"][0])
    assert (each.table["conf_low"] <= each.table["conf_high"]).all()
    assert each.table["conf_low"].null_count() == 0
    assert any("one customer" in note for note in each.notes)
    assert not any("Fewer than" in note for note in each.notes)


# --- choice of models and processes ---------------------------------------------------------------


def test_near_regular_visits_get_a_model_of_regular_visits() -> None:
    regular = make_closed_form("regular_visits", n_customers=600, seed=2)
    random = make_closed_form("bgnbd", n_customers=3000, seed=2)
    chosen = [
        fit_value_models(
            purchase_history(w.tables["purchases"], value_col="margin", as_of=w.parameters.as_of)
        )
        for w in (regular, random)
    ]
    assert chosen[0].buying is not None
    assert chosen[1].buying is not None
    assert chosen[0].buying.label.startswith("MBG/CNBD")
    assert chosen[1].buying.label == "BG/NBD"


def two_processes() -> dict[str, PurchaseHistory]:
    """Two independent worlds of the same customers, as if one bought cars and one came for work."""
    made = {}
    for process, seed in (("car", 1), ("service", 2)):
        world = make_closed_form("bgnbd", n_customers=500, seed=seed, n_dealerships=2)
        made[process] = purchase_history(
            world.tables["purchases"], value_col="margin", as_of=world.parameters.as_of
        )
    return made


def test_values_recalled_are_those_computed_to_the_last_bit() -> None:
    histories = two_processes()
    asked: dict[str, Any] = {"n_resamples": 20}
    models = {process: fit_value_models(history) for process, history in histories.items()}
    computed = value_by_process(histories, models=models, **asked)
    try:
        remembered.start()
        for _turn in range(2):
            again = {process: fit_value_models(history) for process, history in histories.items()}
            assert again == models
            recalled = value_by_process(histories, models=again, **asked)
            assert_frame_equal(recalled.table, computed.table, check_exact=True)
            assert_frame_equal(recalled.customers, computed.customers, check_exact=True)
        # Half of the customers are others: nothing of the whole's may be theirs.
        half = {"car": PurchaseHistory(table=histories["car"].table.head(250), value_name="margin")}
        known = value_by_process(half, models=models, **asked)
        remembered.stop()
        assert_frame_equal(
            known.table, value_by_process(half, models=models, **asked).table, check_exact=True
        )
        # Words are the reader's own, whoever asked first.
        remembered.start()
        value_by_process(histories, models=models, **asked)
        with speaking("ru"):
            assert str(value_by_process(histories, models=models, **asked)) != str(computed)
    finally:
        remembered.stop()


def test_values_of_processes_add_up_by_customer_and_in_total() -> None:
    histories = two_processes()
    half = histories["car"].table.head(300)
    histories["car"] = PurchaseHistory(
        table=half, as_of=histories["car"].as_of, value_name="margin"
    )
    models = {process: fit_value_models(history) for process, history in histories.items()}
    both = value_by_process(histories, models=models, n_resamples=50)
    rows = {row["kind"]: row for row in both.table.to_dicts()}
    alone = {
        process: lifetime_value(
            history, model=models[process].buying, spend_model=models[process].spend,
            n_resamples=50,
        ).table.row(0, named=True)
        for process, history in histories.items()
    }  # fmt: skip
    assert rows["together"]["total"] == pytest.approx(sum(r["total"] for r in alone.values()))
    assert rows["together"]["total"] == pytest.approx(both.customers["value"].sum())
    assert rows["together"]["n"] == both.customers.height == 500
    assert rows["car"]["n"] == 300
    scale = {p: alone[p]["n"] / 500 for p in alone}
    low, high = sum_interval(
        *([alone[p][c] * scale[p] for p in alone] for c in ("estimate", "conf_low", "conf_high"))
    )
    assert rows["together"]["conf_low"] == pytest.approx(low)
    assert rows["together"]["conf_high"] == pytest.approx(high)
    assert "cars" in str(both)
    assert both.together().table["total"][0] == rows["together"]["total"]


def test_a_process_without_a_model_leaves_the_sum_unknown_and_an_empty_one_adds_nothing() -> None:
    histories = two_processes()
    few = PurchaseHistory(
        table=histories["car"].table.filter(pl.col("frequency") == 0),
        as_of=histories["car"].as_of, value_name="margin",
    )  # fmt: skip
    unknown = value_by_process({**histories, "car": few}, n_resamples=5)
    assert unknown.table["estimate"].null_count() == 2
    assert str(unknown)
    empty = PurchaseHistory(table=few.table.clear(), as_of=few.as_of, value_name="margin")
    none = value_by_process({**histories, "car": empty}, n_resamples=5)
    totals = dict(none.table.select("kind", "total").iter_rows())
    assert totals["together"] == pytest.approx(totals["service"])


def test_processes_of_other_customers_columns_are_refused() -> None:
    histories = two_processes()
    other = histories["car"].table.rename({"customer_id": "buyer"})
    with pytest.raises(InputError, match="same customer_col"):
        value_by_process({**histories, "car": PurchaseHistory(table=other, value_name="margin")})


def test_cars_and_service_of_a_dealership_are_added(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    histories = {
        kind: purchase_history(
            crm.purchases(kind=kind), value_col="margin", unit="month", as_of=crm.as_of,
            by="dealership",
        )
        for kind in ("car", "service")
    }  # fmt: skip
    value = value_by_process(histories, by="dealership", n_resamples=10, currency="USD")
    assert value.table["kind"].unique().sort().to_list() == ["car", "service", "together"]
    assert value.show().table is not None
    # That one model values all groups is said of their sums too, once.
    assert value.together().notes == value.notes[-2:]
    assert not set(value.together().notes) & set(value.notes[:-2])


# --- retention leverage ---------------------------------------------------------------------------

HALF_IN_FIVE = 0.5 ** (1 / 5)


@pytest.mark.parametrize(
    ("discount", "cost", "gain"), [(0.20, 0.0, 0.25), (0.10, 1.0, 0.48), (0.0, 2.0, 1.03)]
)
def test_the_contradictory_claims_are_one_identity(
    discount: float, cost: float, gain: float
) -> None:
    found = retention_leverage(HALF_IN_FIVE, annual_discount_rate=discount, acquisition_years=cost)
    points, churn = found.table["estimate"]
    assert points == pytest.approx(gain, abs=STATED_ROUNDING)
    assert 0.02 < churn < 0.09
    r = HALF_IN_FIVE
    before = r / (1 + discount - r) - cost
    after = (r + 0.05) / (1 + discount - r - 0.05) - cost
    assert points == pytest.approx(after / before - 1, rel=1e-12)


@pytest.mark.parametrize("discount", [0.05, 0.10])
def test_five_per_cent_fewer_departures_bring_four_to_seven(discount: float) -> None:
    churn = retention_leverage(HALF_IN_FIVE, annual_discount_rate=discount).table["estimate"][1]
    assert 0.035 < churn < 0.07


@given(
    rates=st.lists(st.floats(0.05, 0.99), min_size=1, max_size=6),
    discount=st.floats(0.01, 0.5),
    horizon=st.one_of(st.none(), st.integers(1, 12)),
)
@settings(max_examples=100, deadline=None)
def test_customer_years_are_a_slow_sum(
    rates: list[float], discount: float, horizon: int | None
) -> None:
    survival, total = 1.0, 0.0
    for year in range(1, (horizon or 1500) + 1):
        survival *= rates[min(year, len(rates)) - 1]
        total += survival * (1 + discount) ** -year
    found = customer_years(rates, annual_discount_rate=discount, horizon_years=horizon)
    assert float(found) == pytest.approx(total, rel=1e-9)


@given(r=st.floats(0.1, 0.94), d=st.floats(0.02, 0.4))
@settings(max_examples=100, deadline=None)
def test_more_points_and_more_cuts_bring_more(r: float, d: float) -> None:
    small, large = (
        retention_leverage(r, step=s, annual_discount_rate=d).table["estimate"]
        for s in (0.02, 0.05)
    )
    assert (large > small).all()
    assert (small > 0).all()
    assert small[0] > small[1]


def share(k: int, n: int) -> Estimates:
    p = k / n
    error = (p * (1 - p) / n) ** 0.5
    table = pl.DataFrame({
        "n": [n], "estimate": [p], "std_error": [error],
        "conf_low": [p - 1.96 * error], "conf_high": [p + 1.96 * error],
    })  # fmt: skip
    return Estimates(table=table, name="Retention", unit="share", definition="A share.")


def test_the_interval_is_that_of_the_delta_method() -> None:
    found = retention_leverage(share(8710, 10_000), annual_discount_rate=0.2)
    step = 1e-6
    slope = [
        (
            retention_leverage(0.871 + step, annual_discount_rate=0.2).table["estimate"][i]
            - retention_leverage(0.871 - step, annual_discount_rate=0.2).table["estimate"][i]
        )
        / (2 * step)
        for i in (0, 1)
    ]
    error = (0.871 * 0.129 / 10_000) ** 0.5
    assert found.table["std_error"].to_numpy() == pytest.approx(np.abs(slope) * error, rel=0.06)
    width = found.table["conf_high"] - found.table["conf_low"]
    assert width.to_numpy() == pytest.approx(2 * 1.96 * np.abs(slope) * error, rel=0.1)


def test_an_sbg_gives_the_leverage_of_its_rates() -> None:
    alpha, beta = 1.2, 4.0
    model = ShiftedBetaGeometric(alpha=alpha, beta=beta)
    rates = [(beta + t - 1) / (alpha + beta + t - 1) for t in range(1, 61)]
    by_model, by_rates = (
        retention_leverage(x, horizon_years=20).table["estimate"].to_list() for x in (model, rates)
    )
    assert by_model == pytest.approx(by_rates)
    world = make_closed_form("sbg", n_customers=2000, seed=4)
    assert world.tables  # the world is there; its fit is tested with the model


def test_a_curve_gives_the_rates_of_its_years() -> None:
    spells = pl.DataFrame({
        "started_on": [date(2020, 1, 1)] * 100,
        "ended_on": [date(2020, 6, 1)] * 20 + [date(2021, 6, 1)] * 16 + [None] * 64,
    })  # fmt: skip
    curve = retention_curve(spells, as_of=date(2022, 1, 1), unit="month")
    by_curve = retention_leverage(curve)
    by_rates = retention_leverage([0.8, 0.8])
    assert by_curve.table["estimate"].to_list() == pytest.approx(
        by_rates.table["estimate"].to_list()
    )
    assert by_curve.table["conf_low"].null_count() == 0
    rate = yearly_retention(curve, years=2)
    assert rate.table["estimate"][0] == pytest.approx(0.8)
    assert rate.table["std_error"][0] == pytest.approx(0.048 / (2 * 0.8), rel=1e-6)
    assert any("no further" in note for note in yearly_retention(curve, years=5).notes)


def test_what_has_no_bound_or_no_value_is_null_with_a_note() -> None:
    ever = retention_leverage(0.97, annual_discount_rate=0.0)
    assert ever.table["estimate"][0] is None
    assert any("no bound" in note for note in ever.notes)
    dear = retention_leverage(0.5, acquisition_years=3.0)
    assert dear.table["estimate"].null_count() == 2
    assert any("costs more" in note for note in dear.notes)
    for result in (ever, dear):
        assert str(result)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"retention": 1.2}, "above 0 and up to 1"),
        ({"retention": 0.0}, "above 0 and up to 1"),
        ({"retention": []}, "above 0 and up to 1"),
        ({"retention": 0.8, "step": 0.0}, "'step'"),
        ({"retention": 0.8, "annual_discount_rate": -0.1}, "annual_discount_rate"),
        ({"retention": 0.8, "acquisition_years": float("nan")}, "acquisition_years"),
        ({"retention": 0.8, "horizon_years": 0}, "horizon_years"),
    ],
)
def test_impossible_retention_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        retention_leverage(arguments.pop("retention"), **arguments)


# --- affordable discount --------------------------------------------------------------------------

DEALS = pl.DataFrame({
    "deal_id": [1, 2, 3, 4, 5],
    "kind": ["a", "a", "b", "b", "c"],
    "sale_price": [20_000, 20_000, 18_000, 15_000, None],
    "cost": [19_200, 20_500, 17_900, 15_400, 14_000],
    "fni_income": [300, 0, 100, 0, 0],
})  # fmt: skip


def future(*rows: tuple[str, float, float, float]) -> Estimates:
    table = pl.DataFrame(
        [(kind, 10, mean, 50.0, low, high) for kind, mean, low, high in rows],
        schema=["kind", "n", "estimate", "std_error", "conf_low", "conf_high"], orient="row",
    )  # fmt: skip
    return Estimates(table=table, name="F", unit="money", definition="F.", by=("kind",))


def test_a_discount_is_margin_and_future_less_the_floor() -> None:
    found = affordable_discount(DEALS, future_value=900.0, least_margin=500.0, by="deal_id")
    assert found.table["estimate"].to_list() == [800.0, 0.0, 100.0, 0.0, None]
    assert found.table["n"].to_list() == [1, 1, 1, 1, 0]
    lower = affordable_discount(
        DEALS, future_value=900.0, least_margin=500.0, below_cost_approved=True, by="deal_id"
    )
    assert lower.table["estimate"].to_list() == [1500.0, 0.0, 600.0, 0.0, None]
    assert any("1 of 5" in note for note in found.notes)
    assert not any("read" in note for note in found.notes)
    by_kind = affordable_discount(DEALS, future_value=900.0, by="kind")
    assert any("Fewer than 30 deals in: a, b, c" in note for note in by_kind.notes)


def test_the_interval_of_the_future_carries_over() -> None:
    found = affordable_discount(
        DEALS, below_cost_approved=True, by="deal_id",
        future_value=future(("a", 900, 700, 1200), ("b", 100, -900, 300), ("c", 0, 0, 0)),
    )  # fmt: skip
    rows = {row["deal_id"]: row for row in found.table.to_dicts()}
    assert [rows[1][c] for c in ("conf_low", "estimate", "conf_high")] == [1800, 2000, 2300]
    assert [rows[3][c] for c in ("conf_low", "estimate", "conf_high")] == [0, 300, 500]
    whole = affordable_discount(
        DEALS, below_cost_approved=True,
        future_value=future(("a", 900, 700, 1200), ("b", 100, -900, 300), ("c", 0, 0, 0)),
    )  # fmt: skip
    assert whole.table["estimate"][0] == pytest.approx(found.table["estimate"].mean())
    assert whole.table["n"][0] == 4


@given(
    price=st.integers(1, 50_000), cost=st.integers(0, 50_000),
    ahead=st.floats(-5000, 5000), floor=st.floats(-1000, 5000), approved=st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_no_discount_goes_below_cost_unapproved_nor_below_the_floor(
    price: int, cost: int, ahead: float, floor: float, approved: bool
) -> None:
    deal = pl.DataFrame({"sale_price": [price], "cost": [cost], "fni_income": [0]})
    given_away = affordable_discount(
        deal, future_value=ahead, least_margin=floor, below_cost_approved=approved
    ).table["estimate"][0]
    assert 0 <= given_away <= price
    if given_away > 0:
        assert price - given_away - cost + ahead >= floor - 1e-6
        assert approved or price - given_away >= cost


def test_discounts_by_customer_use_values_by_customer(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    history = purchase_history(
        crm.purchases(kind="service"), value_col="margin", unit="month", as_of=crm.as_of
    )
    models = fit_value_models(history)
    values = lifetime_value(
        history, model=models.buying, spend_model=models.spend, n_resamples=20, by="customer_id"
    )
    deals = crm.table("deals")
    found = affordable_discount(deals, future_value=values, by="deal_id")
    known = found.table.drop_nulls("estimate")
    assert 0 < known.height < found.table.height
    assert (known["conf_low"] <= known["conf_high"]).all()


def test_a_discount_needs_matching_inputs(backend: ToBackend) -> None:
    with pytest.raises(ColumnError, match="kind"):
        affordable_discount(DEALS.drop("kind"), future_value=future(("a", 1, 0, 2)))
    with pytest.raises(InputError, match="future_value"):
        affordable_discount(DEALS, future_value=float("nan"))
    with pytest.raises(InputError, match="least_margin"):
        affordable_discount(DEALS, least_margin=float("inf"))
    with pytest.raises(InputError, match="conf_level"):
        affordable_discount(DEALS, future_value=future(("a", 1, 0, 2)), conf_level=0.9)
    one = affordable_discount(backend(DEALS), future_value=100.0)
    assert one.table.equals(affordable_discount(DEALS, future_value=100.0).table)
    assert affordable_discount(DEALS.clear(), future_value=1.0).table["n"].to_list() == [0]
