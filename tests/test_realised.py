"""What customers have brought: against the generator's own ledger, slow twins and closed forms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from crm_analysis import (
    ColumnError,
    InputError,
    cumulative_value,
    later_value,
    loss_share,
    open_warehouse,
    payback_time,
    realised_value,
    remembered,
)
from crm_analysis.lifetime import realised
from crm_analysis.warehouse.ledger import UnitCosts
from synthetic.closed_form import make_closed_form

CENT = 0.005
"""A balance this close to zero counts as zero."""

ToBackend = Callable[[pl.DataFrame], Any]

END = date(2025, 12, 31)

EARNED = ("front", "service")
SPENT = ("contacts", "advertising")


# --- the ledger against the generator's -----------------------------------------------------------


def summed(path: Path) -> pl.DataFrame:
    entries = open_warehouse(path).ledger().collect()
    wide = entries.with_columns(pl.col("part").cast(pl.String)).pivot(
        "part", index="customer_id", values="amount", aggregate_function="sum"
    )
    return wide.with_columns(pl.selectors.float().fill_null(0.0)).sort("customer_id")


def internal_work(path: Path) -> pl.DataFrame:
    """What the generator's ledger counts as revenue of orders that the dealership pays itself."""
    orders = pl.read_parquet(path / "service_orders.parquet").filter(
        pl.col("closed_at").is_not_null() & (pl.col("payer").cast(pl.String) == "internal")
    )
    bill = (pl.col("labour") + pl.col("parts") - pl.col("discount")).cast(pl.Float64)
    return orders.group_by("customer_id").agg(internal=bill.sum())


def test_the_ledger_is_the_generators_own(tiny_network: Path) -> None:
    truth = pl.read_parquet(tiny_network / "truth" / "truth_ledger.parquet").sort("customer_id")
    ours = truth.select("customer_id").join(summed(tiny_network), on="customer_id", how="left")
    ours = ours.join(internal_work(tiny_network), on="customer_id", how="left")
    ours = ours.with_columns(pl.selectors.float().fill_null(0.0))
    for part in ("finance", "accessories", "trade_in", "contacts", "compensation"):
        assert ours[part].to_numpy() == pytest.approx(truth[part].to_numpy(), abs=1e-6), part
    traded = ours["front"] + ours["service"] + ours["discount"] + ours["internal"]
    assert traded.to_numpy() == pytest.approx((truth["front"] + truth["service"]).to_numpy())


def test_all_advertising_is_carried_by_those_who_came_as_leads(tiny_network: Path) -> None:
    spent = pl.read_parquet(tiny_network / "campaign_days.parquet")["spend"].sum()
    ours = summed(tiny_network)
    led = pl.read_parquet(tiny_network / "opportunities.parquet")["customer_id"].unique()
    assert -ours["advertising"].sum() == pytest.approx(spent)
    assert set(ours.filter(pl.col("advertising") < 0)["customer_id"]) <= set(led)


def test_realised_value_is_the_sum_of_the_ledger(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    value = realised_value(crm.ledger(), since="first_entry", as_of=crm.as_of)
    entries = crm.ledger().collect()
    assert value.table["total"][0] == pytest.approx(entries["amount"].sum())
    assert value.table["n"][0] == entries["customer_id"].n_unique()
    assert value.by_part().table["estimate"].sum() == pytest.approx(value.table["estimate"][0])


def test_one_dealership_sees_its_own_entries_only(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    name = crm.dealerships()[0]
    one = open_warehouse(tiny_network, dealership=name).ledger().collect()
    whole = crm.ledger().collect().filter(pl.col("dealership") == name)
    assert one["amount"].sum() == pytest.approx(whole["amount"].sum())


def test_unit_costs_are_said_and_taken(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    usual, dear = (
        crm.ledger(call_cost=cost).filter(pl.col("part") == "contacts").collect()["amount"].sum()
        for cost in (None, 40.0)
    )
    assert dear < 5 * usual < 0
    assert any("40.00" in rule for rule in crm.ledger_rule(call_cost=40.0))
    with pytest.raises(InputError, match="call = -1"):
        crm.ledger(call_cost=-1.0)


@pytest.mark.parametrize("bad", [float("nan"), -0.1])
def test_impossible_margins_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="accessories_margin"):
        UnitCosts(accessories_margin=bad)


def test_where_only_purchases_are_kept_they_are_the_ledger_and_the_activity(tmp_path: Path) -> None:
    world = make_closed_form("bgnbd", n_customers=200, seed=1)
    for name in ("dealerships", "purchases"):
        world.tables[name].collect().write_parquet(tmp_path / f"{name}.parquet")
    as_of = world.parameters.as_of
    (tmp_path / "manifest.json").write_text(f'{{"as_of": "{as_of}"}}', encoding="utf-8")
    crm = open_warehouse(tmp_path)
    bought = crm.purchases().collect()
    ledger = crm.ledger().collect()
    assert ledger["amount"].sum() == pytest.approx(bought["margin"].sum())
    assert crm.spells().collect().height == bought["customer_id"].n_unique()
    assert "no cost is counted" in crm.ledger_rule()[0]


# --- a slow twin ----------------------------------------------------------------------------------


def months_between(start: date, end: date) -> int:
    """Completed calendar months; a month ends on the same day of the month."""
    return (end.year - start.year) * 12 + end.month - start.month - (end.day < start.day)


entries = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.dates(date(2023, 1, 1), date(2025, 12, 31)),
        st.sampled_from([*EARNED, *SPENT]),
        st.integers(1, 400),
    ),
    max_size=30,
)


def ledger_of(rows: list[tuple[int, date, str, int]]) -> pl.DataFrame:
    schema = {"customer_id": pl.Int64, "happened_on": pl.Date, "part": pl.String,
              "amount": pl.Float64}  # fmt: skip
    signed = [(c, d, p, float(-a if p in SPENT else a)) for c, d, p, a in rows]
    return pl.DataFrame(signed, schema=schema, orient="row")


def slow_customers(ledger: pl.DataFrame) -> dict[int, tuple[date, list[tuple[date, float]]]]:
    """Each customer's first purchase and movements, nothing merged."""
    moves: dict[int, list[tuple[date, float]]] = defaultdict(list)
    bought: dict[int, date] = {}
    for customer, day, part, amount in ledger.iter_rows():
        moves[customer].append((day, amount))
        if part in EARNED:
            bought[customer] = min(day, bought.get(customer, day))
    return {c: (bought[c], moves[c]) for c in bought}


@given(rows=entries)
@settings(max_examples=60, deadline=None)
def test_values_and_payback_are_those_of_a_slow_loop(
    rows: list[tuple[int, date, str, int]],
) -> None:
    ledger = ledger_of(rows)
    slow = slow_customers(ledger)
    value = realised_value(ledger, as_of=END)
    assert value.table["n"][0] == len(slow)
    for row in value.customers.to_dicts():
        start, moves = slow[row["customer_id"]]
        assert row["value"] == pytest.approx(sum(amount for _, amount in moves))
        assert row["started_on"] == start
        balance, paid = 0.0, None
        for day in sorted({max(d, start) for d, _ in moves}):
            balance = sum(a for d, a in moves if max(d, start) <= day)
            if balance >= -CENT:
                paid = day
                break
        assert row["paid_back_on"] == paid
    followed = {c: m for c, (start, m) in slow.items() if months_between(start, END) >= 12}
    in_loss = [c for c, moves in followed.items() if sum(a for _, a in moves) < -CENT]
    assert loss_share(ledger, as_of=END).table["n_in_loss"][0] == len(in_loss)


@given(rows=entries)
@settings(max_examples=60, deadline=None)
def test_cumulative_value_is_that_of_a_slow_loop(rows: list[tuple[int, date, str, int]]) -> None:
    ledger = ledger_of(rows)
    slow = slow_customers(ledger)
    table = cumulative_value(ledger, horizon_months=36, as_of=END).table
    mean = 0.0
    for age, n, estimate in table.select("time", "n", "estimate").iter_rows():
        followed = {c: v for c, v in slow.items() if months_between(v[0], END) >= age}
        assert n == len(followed)
        for start, moves in followed.values():
            months = [0 if d <= start else months_between(start, d) + 1 for d, _ in moves]
            mean += sum(a for m, (_, a) in zip(months, moves, strict=True) if m == age) / n
        assert estimate == pytest.approx(mean, abs=1e-6)


def test_a_value_at_one_age_takes_each_month_from_those_followed_so_long() -> None:
    rows = [
        (1, date(2022, 1, 10), "front", 900), (1, date(2022, 6, 1), "service", 100),
        (2, date(2022, 3, 1), "front", 500), (2, date(2024, 5, 1), "service", 700),
        (3, date(2025, 6, 1), "front", 9_100),
    ]  # fmt: skip
    ledger = ledger_of(rows).with_columns(place=pl.col("customer_id") > 2)
    by_age = cumulative_value(ledger, currency="USD", as_of=END)
    # All three bought and were there in the fifth month; the third is not yet in the twelfth.
    found = by_age.after(12)
    assert found.table.select("n", "estimate").row(0) == (2, (900 + 500 + 9_100 + 100) / 3)
    assert found.key == "value_in_first_12_months"
    late = by_age.after(60)
    assert (late.table["n"][0], late.table["estimate"][0], len(late.notes)) == (0, None, 1)
    by_place = cumulative_value(ledger, currency="USD", as_of=END, by="place").after(12)
    assert by_place.table.select("place", "n", "estimate").rows() == [(False, 2, 750.0)]


def thirty_times(rows: list[tuple[int, date, str, int]]) -> list[tuple[int, date, str, int]]:
    """The same customers thirty times over: enough to be followed."""
    return [(c + 10 * i, d, p, a) for i in range(30) for c, d, p, a in rows]


@given(rows=entries)
@settings(max_examples=20, deadline=None)
def test_later_value_is_that_of_a_slow_loop(rows: list[tuple[int, date, str, int]]) -> None:
    slow = slow_customers(ledger_of([row for row in rows if row[2] != "service"]))
    moved = slow_customers(ledger_of(rows))
    row = later_value(
        ledger_of(thirty_times(rows)), horizon_months=18, annual_discount_rate=0.2, as_of=END
    ).table.row(0, named=True)
    assert row["n"] == 30 * len(slow)
    reached = max((months_between(start, END) for start, _ in slow.values()), default=0)
    if not reached:
        assert row["estimate"] is None
        return
    assert row["months"] == min(18, reached)
    total = 0.0
    for month in range(1, row["months"] + 1):
        followed = [c for c, (start, _) in slow.items() if months_between(start, END) >= month]
        brought = sum(
            amount
            for c in followed
            for day, amount in moved[c][1]
            if day > slow[c][0] and months_between(slow[c][0], day) + 1 == month
        )
        total += brought / len(followed) * 1.2 ** (-(month - 0.5) / 12)
    assert row["estimate"] == pytest.approx(total, abs=1e-6)


# --- closed forms ---------------------------------------------------------------------------------


def test_without_censoring_it_is_the_mean_of_the_sums() -> None:
    rng = np.random.default_rng(1)
    n, start = 40, date(2023, 1, 1)
    days = [start + timedelta(days=int(d)) for d in rng.integers(0, 360, n)]
    amounts = rng.normal(100, 30, 2 * n).round(2)
    ledger = pl.DataFrame({
        "customer_id": [*range(n), *range(n)],
        "happened_on": [start] * n + days,
        "part": ["front"] * n + ["contacts"] * n,
        "amount": amounts,
    })  # fmt: skip
    sums = amounts[:n] + amounts[n:]
    last = cumulative_value(ledger, horizon_months=12, as_of=END).table.row(-1, named=True)
    assert last["estimate"] == pytest.approx(sums.mean())
    assert last["std_error"] == pytest.approx(sums.std(ddof=1) / np.sqrt(n))
    value = realised_value(ledger, as_of=END).table
    assert value["std_error"][0] == pytest.approx(last["std_error"])


N_WORLDS = 300
COVERAGE = (0.917, 0.98)
"""Binomial band (99.7 %) of 300 intervals at 95 %, and the skew of small compound Poisson sums."""


def test_intervals_of_cumulative_value_cover_under_staggered_entry() -> None:
    """Visits at 0.1 a month worth 50 on average; customers join over three years."""
    rng = np.random.default_rng(7)
    covered, n = 0, 150
    for _ in range(N_WORLDS):
        joined = rng.integers(0, 1000, n)
        visits = rng.poisson(0.1 * 35, n)
        who = np.repeat(np.arange(n), visits)
        after = rng.uniform(0, 35 * 30.4375, visits.sum())
        days = joined[who] + np.ceil(after).astype(int)
        worth = rng.exponential(50, visits.sum())
        origin = date(2023, 1, 1)
        ledger = pl.DataFrame({
            "customer_id": [*range(n), *who],
            "happened_on": [origin + timedelta(days=int(d)) for d in [*joined, *days]],
            "part": ["front"] * n + ["service"] * len(who),
            "amount": [0.0] * n + worth.tolist(),
        })  # fmt: skip
        row = cumulative_value(ledger, horizon_months=24, as_of=END).table.row(-1, named=True)
        covered += row["conf_low"] <= 0.1 * 24 * 50 <= row["conf_high"]
    assert COVERAGE[0] <= covered / N_WORLDS <= COVERAGE[1]


def day(text: str) -> date:
    return date.fromisoformat(text)


FOUR = pl.DataFrame(
    [
        # Paid back at once; after three months; never; and not yet when the data end.
        (1, day("2024-01-10"), "front", 300.0),
        (2, day("2024-01-05"), "advertising", -200.0),
        (2, day("2024-01-10"), "service", 50.0),
        (2, day("2024-03-20"), "service", 150.0),
        (3, day("2024-01-10"), "front", -80.0),
        (4, day("2025-11-20"), "service", 20.0),
        (4, day("2025-11-01"), "advertising", -100.0),
        # Costs alone: no customer.
        (5, day("2024-05-01"), "advertising", -120.0),
    ],
    schema=["customer_id", "happened_on", "part", "amount"],
    orient="row",
)


def test_payback_by_hand() -> None:
    """At risk 4: one pays at 0; 3 left, one censored after month 1; 2 left, one pays in month 3."""
    paid = payback_time(FOUR, as_of=END)
    curve = dict(paid.curve.select("time", "estimate").iter_rows())
    assert curve[0] == pytest.approx(1 / 4)
    assert curve[2] == pytest.approx(1 / 4)
    assert curve[3] == pytest.approx(1 - 3 / 4 * 1 / 2)
    assert paid.table.row(0, named=True)["estimate"] == 3.0
    assert paid.table["share_paid"][0] == pytest.approx(0.625)
    assert any("1 people" in note and "120" in note for note in paid.notes)


def test_those_who_bought_can_carry_those_who_did_not() -> None:
    plain = realised_value(FOUR, as_of=END)
    loaded = realised_value(FOUR, loaded=True, as_of=END)
    assert loaded.table["total"][0] == pytest.approx(plain.table["total"][0] - 120)
    assert loaded.customers["lost_leads"].to_list() == [-30.0] * 4
    assert loaded.table["cost_to_serve"][0] == pytest.approx((300 + 120) / 4)
    everybody = realised_value(FOUR, since="first_entry", as_of=END)
    assert everybody.table["total"][0] == pytest.approx(loaded.table["total"][0])
    share = loss_share(FOUR, loaded=True, as_of=END).table
    assert (share["n"][0], share["n_in_loss"][0]) == (3, 2)


def test_groups_are_counted_each_for_itself() -> None:
    half = FOUR.with_columns(half=pl.col("customer_id") % 2)
    grouped = payback_time(half, loaded=True, as_of=END, by="half")
    for half_of, row in zip((0, 1), grouped.table.to_dicts(), strict=True):
        alone = payback_time(half.filter(pl.col("half") == half_of), loaded=True, as_of=END)
        assert {k: v for k, v in row.items() if k != "half"} == alone.table.row(0, named=True)
    values = realised_value(half, as_of=END, by="half")
    assert values.table["total"].sum() == pytest.approx(
        realised_value(FOUR, as_of=END).table["total"][0]
    )
    assert values.by_part().table.height == 2 * len(values.parts)


# --- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [(), ("half",)])
def test_an_empty_ledger_gives_null_with_a_note(by: tuple[str, ...]) -> None:
    nothing = FOUR.with_columns(half=pl.col("customer_id") % 2).clear()
    for result in (
        realised_value(nothing, as_of=END, by=by),
        payback_time(nothing, as_of=END, by=by),
        later_value(nothing, as_of=END, by=by),
        loss_share(nothing, as_of=END, by=by),
    ):
        assert result.table["estimate"].null_count() == result.table.height
        assert str(result)
        assert by or any("no customers" in note for note in result.notes)
    assert cumulative_value(nothing, as_of=END, by=by).table.is_empty()


def test_one_customer_has_a_value_and_no_interval() -> None:
    one = FOUR.filter(pl.col("customer_id") == 1)
    row = realised_value(one, as_of=END).table.row(0, named=True)
    assert (row["n"], row["estimate"], row["conf_low"]) == (1, 300.0, None)
    assert cumulative_value(one, as_of=END).table.is_empty()
    assert payback_time(one, as_of=END).table["share_paid"][0] == 1.0


def test_a_refund_can_take_a_payback_away_again() -> None:
    refunded = pl.concat([
        FOUR.filter(pl.col("customer_id") == 1),
        FOUR.filter(pl.col("customer_id") == 1).with_columns(
            pl.lit(day("2024-02-01")).alias("happened_on"), pl.lit(-350.0).alias("amount")
        ),
    ])  # fmt: skip
    assert realised_value(refunded, as_of=END).customers["paid_back_month"].to_list() == [0]
    assert loss_share(refunded, as_of=END).table["estimate"][0] == 1.0


def test_entries_after_the_last_day_are_not_seen() -> None:
    before = realised_value(FOUR, as_of=day("2024-02-01"))
    assert before.table["n"][0] == 3
    assert before.table["total"][0] == pytest.approx(300 - 200 + 50 - 80)


def test_a_later_value_says_how_far_customers_have_been_followed() -> None:
    joined = [(i, date(2025, 1 + i % 6, 15), "front", 900) for i in range(60)]
    visits = [(i, date(2025, 1 + i % 6, 20), "service", 100) for i in range(60)]
    ledger = ledger_of([*joined, *visits])
    found = later_value(ledger, annual_discount_rate=0.0, as_of=END)
    # Thirty customers have been followed for nine months, and all visits fell into the first.
    assert found.table.select("n", "estimate", "months", "n_followed").row(0) == (60, 100.0, 9, 30)
    assert any("36 months" in note and "9 are counted" in note for note in found.notes)
    whole = later_value(ledger, annual_discount_rate=0.0, horizon_months=9, as_of=END)
    assert whole.table["estimate"][0] == 100.0
    assert not whole.notes
    few = later_value(ledger.filter(pl.col("customer_id") < 29), as_of=END)
    assert few.table.select("n", "estimate", "months").row(0) == (29, None, None)


@pytest.mark.parametrize("wrong", [{"annual_discount_rate": 1.0}, {"horizon_months": 0}])
def test_an_impossible_future_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        later_value(FOUR, as_of=END, **wrong)


def test_zero_spend_everywhere_is_no_loss_and_paid_at_once() -> None:
    zeros = FOUR.with_columns(amount=pl.lit(0.0))
    assert loss_share(zeros, as_of=END).table["estimate"][0] == 0.0
    paid = payback_time(zeros, as_of=END).table.row(0, named=True)
    assert (paid["estimate"], paid["share_paid"]) == (0.0, 1.0)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="since"):
        realised_value(FOUR, since="birth", as_of=END)
    with pytest.raises(InputError, match="within_months"):
        payback_time(FOUR, within_months=0, as_of=END)
    with pytest.raises(ColumnError, match="amount_col"):
        realised_value(FOUR.drop("amount"), as_of=END)
    with pytest.raises(InputError, match="must differ"):
        realised_value(FOUR, as_of=END, by="part")
    with pytest.raises(InputError, match="as_of"):
        realised_value(FOUR, as_of="2025-12-31")  # type: ignore[arg-type]


def test_every_backend_gives_one_answer(backend: ToBackend) -> None:
    for metric in (realised_value, cumulative_value, payback_time, loss_share):
        ours = metric(backend(FOUR), loaded=True, as_of=END)
        assert_frame_equal(ours.table, metric(FOUR, loaded=True, as_of=END).table)
    later = later_value(backend(FOUR), as_of=END)
    assert_frame_equal(later.table, later_value(FOUR, as_of=END).table)


def test_figures_of_one_ledger_count_it_once_and_none_another_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    sums = realised._sums

    def noted(*asked: Any) -> pl.DataFrame:
        made.append(1)
        return sums(*asked)

    monkeypatch.setattr(realised, "_sums", noted)
    dearer = FOUR.with_columns(pl.col("amount") * 2)
    terms: list[dict[str, Any]] = [
        {"as_of": END},
        {"as_of": END, "since": "first_entry"},
        {"as_of": END, "purchase_parts": ["service"]},
        {"as_of": date(2024, 6, 30)},
    ]
    metrics = (realised_value, cumulative_value, payback_time, loss_share)
    plain = [
        metric(t, **term).table for t in (FOUR, dearer) for term in terms for metric in metrics
    ]
    assert len(made) == len(plain)
    made.clear()
    try:
        remembered.start()
        for _turn in range(2):
            kept = [
                metric(t.clone(), **term).table
                for t in (FOUR, dearer) for term in terms for metric in metrics
            ]  # fmt: skip
            for one, other in zip(kept, plain, strict=True):
                assert_frame_equal(one, other, check_exact=True)
        assert len(made) == 2 * len(terms)
    finally:
        remembered.stop()


def test_results_are_shown(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    ledger = crm.ledger()
    for result in (
        realised_value(ledger, currency="USD", as_of=crm.as_of).by_part(),
        cumulative_value(ledger, currency="USD", as_of=crm.as_of),
        cumulative_value(ledger, currency="USD", as_of=crm.as_of, by="dealership"),
        payback_time(ledger, as_of=crm.as_of, by="dealership"),
        payback_time(ledger, as_of=crm.as_of),
    ):
        assert result.show().figure is not None
        assert result.sentence().endswith(".")
        assert "nan" not in result.show().to_html().replace("finance", "")
