"""Who the customers are: against published counts, closed forms, loops anyone can check, truth."""

from __future__ import annotations

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
from scipy import stats
from scipy.stats import norm

from crm_analysis import ColumnError, InputError
from crm_analysis.segments import (
    abc_classes,
    class_migration,
    customer_portrait,
    days_sales_outstanding,
    insolvent_customers,
    ladder_transitions,
    loyalty_ladder,
    receivables_ageing,
    rfm_segments,
    state_transitions,
    value_concentration,
    value_per_customer,
)

REFERENCE = Path(__file__).parent / "reference"
AS_OF = date(2026, 6, 30)
EXACT = 1e-12
"""The same sums in another order."""

COVERAGE_BAND = (0.90, 0.985)
"""Of 300 intervals at 95 %, the binomial 99.9 % band is 0.90 to 0.985."""

Backend = Callable[[pl.DataFrame], Any]


def spent(values: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {"customer_id": range(len(values)), "margin": values},
        schema_overrides={"customer_id": pl.Int64, "margin": pl.Float64},
    )


# --- ABC and concentration -----------------------------------------------------------------------

VALUES = st.lists(st.integers(-50, 500).map(float), min_size=1, max_size=60)


def classes_by_hand(values: list[float], cuts: tuple[float, float]) -> list[int]:
    """Count A, B and C by adding one customer after another."""
    total, seen, sizes = sum(values), 0.0, [0, 0, 0]
    for value in sorted(values, reverse=True):
        if value > 0 and seen < cuts[0] * total:
            sizes[0] += 1
        elif value > 0 and seen < cuts[1] * total:
            sizes[1] += 1
        else:
            sizes[2] += 1
        seen += value
    return sizes


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_classes_are_those_of_a_loop(values: list[float]) -> None:
    found = abc_classes(spent(values), at_col=None, as_of=AS_OF)
    if sum(values) <= 0:
        assert found.table["estimate"].is_null().all()
        assert any("not above zero" in note for note in found.notes)
        return
    assert found.table["n_customers"].to_list() == classes_by_hand(values, (0.80, 0.95))
    assert found.table["value"].sum() == pytest.approx(sum(values), abs=1e-9)
    assert found.table["estimate"].sum() == pytest.approx(1.0, abs=EXACT)
    listed = found.customers["abc_class"].value_counts().rows()
    kept = {k: n for k, n in found.table.select("abc_class", "n_customers").rows() if n}
    assert dict(listed) == kept


def test_the_customer_who_crosses_a_cut_belongs_to_the_class_above() -> None:
    found = abc_classes(spent([79, 2, 14, 5]), at_col=None, as_of=AS_OF)
    # 79 do not reach 80 of 100, so the next (14) crosses the cut and is an A; so is 5 for B.
    assert found.table["n_customers"].to_list() == [2, 1, 1]


def lognormal_truth(sigma: float) -> dict[str, float]:
    """Gini, share of the best fifth, and share needed for 80 %, in closed form."""
    return {
        "gini": float(2 * norm.cdf(sigma / np.sqrt(2)) - 1),
        "best_fifth": float(1 - norm.cdf(norm.ppf(0.8) - sigma)),
        "needed": float(1 - norm.cdf(norm.ppf(0.2) + sigma)),
    }


def test_intervals_cover_the_truth_of_a_lognormal_world() -> None:
    """300 worlds of 700 customers, each a group."""
    truth = lognormal_truth(0.7)
    rng = np.random.default_rng(7)
    worlds = spent(np.exp(0.7 * rng.standard_normal(300 * 700)).tolist()).with_columns(
        world=pl.col("customer_id") // 700
    )
    found = value_concentration(worlds, at_col=None, by="world", as_of=AS_OF).table
    classes = abc_classes(worlds, at_col=None, by="world", as_of=AS_OF).table
    needed = classes.filter(abc_class="A").with_columns(measure=pl.lit("needed"))
    columns = ("measure", "conf_low", "conf_high")
    rows = pl.concat([found.select(columns), needed.select(columns)])
    for name, exact in truth.items():
        own = rows.filter(measure=name)
        assert own.height == 300
        covered = ((own["conf_low"] <= exact) & (own["conf_high"] >= exact)).mean()
        assert COVERAGE_BAND[0] <= covered <= COVERAGE_BAND[1]  # type: ignore[operator]


def test_gini_is_the_mean_difference_between_all_pairs() -> None:
    values = [3.0, 8.0, 8.0, 0.0, 21.0, 5.0]
    pairs = [abs(a - b) for a in values for b in values]
    by_pairs = np.mean(pairs) / (2 * np.mean(values))
    found = value_concentration(spent(values), at_col=None, as_of=AS_OF).table
    assert found["estimate"][0] == pytest.approx(by_pairs, abs=EXACT)


def test_a_rule_that_does_not_hold_is_said_not_to_hold() -> None:
    even = abc_classes(spent([10.0] * 100), at_col=None, as_of=AS_OF)
    steep = abc_classes(spent([40.0] * 20 + [2.5] * 80), at_col=None, as_of=AS_OF)
    assert any("does not hold" in note for note in even.notes)
    assert not any("does not hold" in note for note in steep.notes)


def test_classes_count_the_period_asked_for(backend: Backend) -> None:
    rows = pl.DataFrame(
        {
            "customer_id": [1, 1, 2, 3, 3],
            "margin": [10.0, 90.0, 50.0, None, 500.0],
            "happened_on": [
                date(2025, 1, 1), date(2025, 7, 1), date(2025, 8, 1), date(2025, 9, 1),
                date(2027, 1, 1),
            ],
            "dealership": ["a", "a", "a", "b", "b"],
        }
    )  # fmt: skip
    found = abc_classes(
        backend(rows), since=date(2025, 6, 1), as_of=AS_OF, by="dealership", conf_level=0.9
    )
    got = found.table.select("dealership", "abc_class", "n", "n_customers", "value").rows()
    assert got[:3] == [("a", "A", 2, 2, 140.0), ("a", "B", 2, 0, 0.0), ("a", "C", 2, 0, 0.0)]
    assert found.table.filter(pl.col("dealership") == "b")["estimate"].is_null().all()
    assert any("1 of 3 purchases is not known" in note for note in found.notes)


@pytest.mark.parametrize("cuts", [(0.95, 0.8), (0, 0.9), (0.5, 1), (0.5, 0.5)])
def test_cuts_that_cannot_be_are_refused(cuts: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        abc_classes(spent([1.0]), at_col=None, a_share=cuts[0], b_share=cuts[1], as_of=AS_OF)


# --- RFM ------------------------------------------------------------------------------------------

RFM_CUTS: dict[str, Any] = {
    "recency_cuts": (115, 181, 297, 482),
    "frequency_cuts": (4, 5, 6, 8),
    "money_cuts": (256, 382, 506, 666),
}


def test_what_a_customer_brings_is_the_mean_of_sums(backend: Backend) -> None:
    """Sums of 150 and 250, and 40 elsewhere: their means, and Student's interval of two."""
    rows = pl.DataFrame(
        {
            "customer_id": [1, 1, 2, 1, 3],
            "margin": [100.0, 50.0, 250.0, 40.0, 7.0],
            "happened_on": [date(2026, 3, 1)] * 4 + [date(2025, 3, 1)],
            "dealership": ["a", "a", "a", "b", "b"],
        }
    )
    asked: dict[str, Any] = {"since": date(2026, 1, 1), "as_of": AS_OF}
    both = value_per_customer(backend(rows), by="dealership", **asked).table
    assert both.select("dealership", "n", "estimate").rows() == [("a", 2, 200.0), ("b", 1, 40.0)]
    low, high = stats.t.interval(0.95, 1, 200.0, np.std([150.0, 250.0], ddof=1) / 2**0.5)
    assert both.row(0)[-2:] == pytest.approx((low, high))
    assert both["conf_low"][1] is None
    whole = value_per_customer(rows, **asked).table
    assert whole.select("n", "estimate").row(0) == (2, 220.0)
    nobody = value_per_customer(rows.clear(), **asked).table
    assert nobody.select("n", "estimate").row(0) == (0, None)


def test_scores_are_those_published_with_the_r_package_rfm(backend: Backend) -> None:
    orders = pl.read_csv(REFERENCE / "rfm" / "rfm_data_orders.csv", try_parse_dates=True)
    assert orders.height == 4906
    found = rfm_segments(
        backend(orders), at_col="order_date", value_col="revenue", as_of=date(2006, 12, 31),
        **RFM_CUTS,
    )  # fmt: skip
    counts = {
        letter: [n for _, n in found.customers[letter].value_counts().sort(letter).rows()]
        for letter in "rfm"
    }
    assert counts == {
        "r": [197, 201, 198, 199, 200],
        "f": [268, 187, 176, 244, 120],
        "m": [200, 200, 197, 203, 195],
    }
    assert found.table["n_customers"].sum() == 995


def test_equal_customers_are_never_parted() -> None:
    rows = pl.DataFrame(
        {
            "customer_id": range(50),
            "revenue": [5.0] * 50,
            "happened_on": [AS_OF - timedelta(days=10)] * 50,
        }
    )
    found = rfm_segments(rows, as_of=AS_OF)
    assert found.customers.select("r", "f", "m", "segment").unique().height == 1
    assert any("never parted" in note for note in found.notes)


def test_every_combination_of_scores_has_one_segment() -> None:
    days = [200, 150, 100, 50, 10]  # recency scores 1 to 5
    rows = [
        (f"{r}{f}{m}", date(2026, 6, 30) - timedelta(days=days[r - 1]), float(m))
        for r in range(1, 6)
        for f in range(1, 6)
        for m in range(1, 6)
        for _again in range(f)
    ]
    table = pl.DataFrame(rows, schema=["customer_id", "happened_on", "revenue"], orient="row")
    each = table.with_columns(
        pl.col("revenue") / pl.len().over("customer_id")  # the sum is the money score
    )
    found = rfm_segments(
        each, as_of=AS_OF, recency_cuts=(20, 60, 110, 160), frequency_cuts=(2, 3, 4, 5),
        money_cuts=(1.5, 2.5, 3.5, 4.5),
    )  # fmt: skip
    people = found.customers
    assert people.height == 125
    assert people["segment"].null_count() == 0
    assert people.select(pl.concat_str("r", "f", "m")).to_series().equals(people["customer"])
    assert found.table["estimate"].sum() == pytest.approx(1.0, abs=EXACT)


def test_cuts_must_rise() -> None:
    with pytest.raises(InputError, match="four rising cuts"):
        rfm_segments(
            spent([1.0]).with_columns(happened_on=AS_OF), value_col="margin",
            frequency_cuts=(1, 1, 2, 3), as_of=AS_OF,
        )  # fmt: skip


# --- the ladder -----------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.integers(0, 1500),
        st.sampled_from(["enquiry", "purchase", "promoter", "critic", "referral"]),
    ),
    min_size=1,
    max_size=75,
)
"""Of several customers: an example costs much the same with one and with a dozen."""


def rung_by_hand(events: list[tuple[date, str]], day: date) -> str | None:  # noqa: PLR0911
    """Read the rules of the ladder aloud, for one customer."""
    known = [(on, kind) for on, kind in events if on <= day]
    if not known:
        return None

    def within(on: date, months: int) -> bool:
        year, month = divmod(on.year * 12 + on.month - 1 + months, 12)
        return (year, month + 1, on.day) > (day.year, day.month, day.day)

    if not within(max(on for on, _ in known), 18):
        return "gone"
    bought = {on for on, kind in known if kind == "purchase"}
    if not bought:
        return "prospect"
    if len(bought) == 1:
        return "buyer"
    if any(kind == "referral" and within(on, 24) for on, kind in known):
        return "advocate"
    said = [on for on, kind in known if kind == "promoter"]
    complained = [on for on, kind in known if kind == "critic"]
    if said and within(max(said), 24) and (not complained or max(said) > max(complained)):
        return "supporter"
    return "client"


@given(EVENTS)
@settings(max_examples=50, deadline=None)
def test_rungs_are_those_of_the_rules_read_aloud(rows: list[tuple[int, int, str]]) -> None:
    first = date(2022, 1, 1)
    table = pl.DataFrame(
        [(who, first + timedelta(days=day), kind) for who, day, kind in rows],
        schema=["customer_id", "happened_on", "kind"],
        orient="row",
    )
    day = date(2025, 3, 31)
    rungs = [
        rung_by_hand([(on, kind) for w, on, kind in table.iter_rows() if w == who], day)
        for who in {who for who, _, _ in rows}
    ]
    wanted = {rung: rungs.count(rung) for rung in rungs if rung is not None}
    found = loyalty_ladder(table, as_of=day).table
    assert {r: n for r, n in found.select("rung", "n_customers").rows() if n} == wanted


def test_moves_on_the_ladder_know_only_what_had_happened(backend: Backend) -> None:
    rows = pl.DataFrame(
        {
            "customer_id": [1, 1, 2, 3],
            "kind": ["enquiry", "purchase", "purchase", "enquiry"],
            "happened_on": [
                date(2025, 1, 1), date(2025, 12, 1), date(2024, 7, 1), date(2026, 1, 1),
            ],
        }
    )  # fmt: skip
    moves = ladder_transitions(backend(rows), since=date(2025, 6, 30), as_of=date(2026, 6, 30))
    happened = moves.table.filter(pl.col("n_moved") > 0).select("from_state", "to_state").rows()
    assert happened == [("prospect", "buyer"), ("buyer", "gone")]
    assert any("1 customers were first met" in note for note in moves.notes)


def test_an_unknown_kind_of_event_is_refused() -> None:
    rows = pl.DataFrame({"customer_id": [1], "kind": ["purchse"], "happened_on": [AS_OF]})
    with pytest.raises(InputError, match="does not know"):
        loyalty_ladder(rows, as_of=AS_OF)


@pytest.mark.parametrize("months", [0, 1.5, True, "18"])
def test_the_ladder_counts_in_whole_months(months: Any) -> None:
    rows = pl.DataFrame({"customer_id": ["a"], "happened_on": [AS_OF], "kind": ["sale"]})
    with pytest.raises(InputError, match="'lapse_months' must be a whole number, at least 1"):
        loyalty_ladder(rows, as_of=AS_OF, lapse_months=months)


def test_transitions_find_the_matrix_that_made_the_world() -> None:
    """In the closed-form world the chain is exactly true; 4 standard errors is a wide band."""
    from synthetic.closed_form import make_closed_form

    world = make_closed_form("markov_ladder", seed=3, n_customers=4000)
    ladder = world.tables["ladder"]
    truth = (
        world.truth["truth_transition"]
        .lazy()
        .collect()
        .select(pl.col("from_state", "to_state").cast(pl.String), "probability")
    )
    found = state_transitions(
        ladder, state_col="state", at_col="observed_on", as_of=date(2030, 1, 1)
    ).table
    both = found.join(truth, on=["from_state", "to_state"], how="inner")
    assert both.height >= 30
    chance = both.filter(pl.col("probability").is_between(0.001, 0.999))
    assert chance.height >= 15
    z = (chance["estimate"] - chance["probability"]) / (
        (chance["probability"] * (1 - chance["probability"]) / chance["n"]).sqrt()
    )
    assert float(z.abs().max()) < 4  # type: ignore[arg-type]
    assert 0.5 < float((z**2).mean()) < 1.7  # type: ignore[arg-type]
    never = both.filter(pl.col("probability") == 0)
    assert (never["estimate"] == 0).all()


def test_a_gap_in_the_records_is_no_move(backend: Backend) -> None:
    rows = pl.DataFrame(
        {
            "customer_id": [1, 1, 2, 2],
            "state": ["a", "b", "a", "a"],
            "starts_on": [date(2026, 1, 1), date(2026, 7, 1), date(2026, 1, 1), date(2026, 4, 1)],
        }
    )
    found = state_transitions(backend(rows), state_col="state", as_of=date(2026, 12, 31)).table
    assert found.filter(pl.col("n_moved") > 0).select("from_state", "to_state", "n").rows() == [
        ("a", "a", 1)
    ]


# --- classes from year to year --------------------------------------------------------------------


def test_migration_counts_who_stayed_away() -> None:
    rows = pl.DataFrame(
        {
            "customer_id": [1, 2, 3, 1, 4],
            "margin": [80.0, 15.0, 5.0, 10.0, 90.0],
            "happened_on": [date(2024, 3, 1)] * 3 + [date(2025, 3, 1)] * 2,
        }
    )
    moves = class_migration(
        rows, before=date(2024, 1, 1), since=date(2025, 1, 1), as_of=date(2025, 12, 31)
    )
    happened = moves.table.filter(pl.col("n_moved") > 0).select("from_state", "to_state").rows()
    assert sorted(happened) == [("A", "B"), ("B", "no_purchase"), ("C", "no_purchase")]
    assert any("1 customers are new" in note for note in moves.notes)
    with pytest.raises(InputError, match="before < since"):
        class_migration(rows, before=AS_OF, since=AS_OF, as_of=AS_OF)


# --- portrait -------------------------------------------------------------------------------------


def test_the_standardised_difference_is_austins(backend: Backend) -> None:
    rows = pl.DataFrame(
        {
            "member": [True] * 40 + [False] * 60,
            "kind": [*"x" * 30, *"y" * 10, *"x" * 15, *"y" * 45],
        }
    )
    found = customer_portrait(backend(rows), member_col="member", traits=["kind"], as_of=AS_OF)
    x = found.table.row(0, named=True)
    d = (0.75 - 0.25) / np.sqrt((0.75 * 0.25 + 0.25 * 0.75) / 2)
    assert (x["share"], x["rest_share"], x["n"], x["n_rest"]) == (0.75, 0.25, 40, 60)
    assert x["estimate"] == pytest.approx(d, abs=EXACT)
    assert x["std_error"] == pytest.approx(np.sqrt(100 / 2400 + d**2 / 200), abs=EXACT)
    assert "Kind: x" in str(found)


def test_rare_values_are_folded_and_unknown_ones_said() -> None:
    rows = pl.DataFrame(
        {
            "member": [True, False] * 20,
            "city": ["Big"] * 36 + ["Tiny", "Small"] + [None] * 2,
            "job": [None] * 30 + ["smith"] * 10,
        }
    )
    found = customer_portrait(rows, member_col="member", traits=["city", "job"], as_of=AS_OF)
    assert set(found.table["value"]) == {"Big", "other", "smith"}
    assert any(note.startswith("Job: known of 25.0%") for note in found.notes)


def test_a_portrait_needs_traits() -> None:
    with pytest.raises(InputError, match="Name the columns in a list"):
        customer_portrait(
            pl.DataFrame({"member": [True]}), member_col="member", traits=[], as_of=AS_OF
        )


# --- receivables ----------------------------------------------------------------------------------


def bills() -> pl.DataFrame:
    return pl.DataFrame(
        [
            # customer, amount, paid, issued, due, paid on
            (1, 100, 100, date(2026, 1, 10), date(2026, 1, 31), date(2026, 2, 5)),
            (1, 200, 50, date(2026, 1, 10), date(2026, 1, 31), None),  # 150 days late
            (2, 80, 0, date(2026, 6, 1), date(2026, 6, 15), None),  # 15 days late
            (3, 120, 120, date(2026, 6, 20), date(2026, 7, 5), date(2026, 7, 2)),  # paid later
            (4, 60, 0, date(2026, 7, 1), date(2026, 7, 15), None),  # issued later
        ],
        schema=["customer_id", "amount", "paid", "issued_on", "due_on", "paid_on"],
        orient="row",
    )


def test_ageing_is_that_of_a_clerk(backend: Backend) -> None:
    found = receivables_ageing(backend(bills()), as_of=AS_OF)
    assert found.table.select("bucket", "n_invoices", "owed").rows() == [
        ("not due", 1, 120.0),
        ("1-30 days", 1, 80.0),
        ("31-60 days", 0, 0.0),
        ("61-90 days", 0, 0.0),
        ("over 90 days", 1, 150.0),
    ]
    assert found.table["estimate"].to_list() == pytest.approx(
        [120 / 350, 80 / 350, 0, 0, 150 / 350]
    )
    inside = found.table.select(pl.col("conf_low") >= 0, pl.col("conf_high") <= 1)
    assert inside.to_numpy().all()
    assert found.table["n"].to_list() == [3] * 5


def test_days_outstanding_and_insolvent_customers_by_hand(backend: Backend) -> None:
    days = days_sales_outstanding(backend(bills()), as_of=AS_OF, last_days=90).table
    assert days["estimate"].item() == pytest.approx(90 * 350 / 200, abs=1e-9)
    bad = insolvent_customers(backend(bills()), as_of=AS_OF).table
    assert bad.select("n_overdue", "n", "owed").row(0) == (1, 3, 150.0)


def test_shares_of_money_are_covered_when_customers_are_the_units() -> None:
    """Debtors with several bills each: an interval over bills would be too narrow.

    300 worlds of 60 debtors, each a group.
    """
    rng, n = np.random.default_rng(11), 300 * 60
    late = rng.random(n) < 0.4
    owner = np.repeat(np.arange(n), rng.integers(1, 6, n))
    due = np.where(late[owner], AS_OF.toordinal() - 10, AS_OF.toordinal() + 10)
    rows = pl.DataFrame(
        {
            "customer_id": owner,
            "world": owner // 60,
            "amount": np.exp(rng.normal(4, 0.5, len(owner))),
            "issued_on": [date(2026, 5, 1)] * len(owner),
            "due_on": [date.fromordinal(int(d)) for d in due],
            "paid_on": pl.Series([None] * len(owner), dtype=pl.Date),
        }
    )
    found = receivables_ageing(rows, paid_col=None, by="world", as_of=AS_OF).table
    second = found.group_by("world", maintain_order=True).agg(pl.all().get(1))
    assert second.height == 300
    inside = ((second["conf_low"] <= 0.4) & (second["conf_high"] >= 0.4)).mean()
    assert COVERAGE_BAND[0] <= inside <= COVERAGE_BAND[1]  # type: ignore[operator]


@pytest.mark.parametrize("buckets", [(), (0, 30), (60, 30)])
def test_buckets_must_rise(buckets: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="rising from at"):
        receivables_ageing(bills(), buckets=buckets, as_of=AS_OF)


# --- all of them ----------------------------------------------------------------------------------


def test_nothing_at_all_is_said_and_not_counted() -> None:
    nothing = spent([]).with_columns(
        happened_on=pl.lit(AS_OF), revenue=pl.lit(0.0), kind=pl.lit("purchase")
    )
    made = [
        abc_classes(nothing, as_of=AS_OF),
        value_concentration(nothing, as_of=AS_OF),
        rfm_segments(nothing, as_of=AS_OF),
        loyalty_ladder(nothing, as_of=AS_OF),
        receivables_ageing(bills().clear(), as_of=AS_OF),
        days_sales_outstanding(bills().clear(), as_of=AS_OF),
        insolvent_customers(bills().clear(), as_of=AS_OF),
    ]
    for result in made:
        assert result.table["estimate"].is_null().all()
        assert "nothing can be said" in str(result)
        assert result.notes
        result.show()


def test_row_order_is_irrelevant() -> None:
    rng = np.random.default_rng(2)
    rows = pl.DataFrame(
        {
            "customer_id": rng.integers(0, 40, 300),
            "margin": rng.integers(-5, 50, 300).astype(float),
            "revenue": rng.integers(0, 90, 300).astype(float),
            "happened_on": [AS_OF - timedelta(days=int(d)) for d in rng.integers(0, 900, 300)],
            "kind": rng.choice(["enquiry", "purchase", "promoter"], 300),
        }
    )
    mixed = rows.sample(fraction=1.0, shuffle=True, seed=5)
    for metric in (abc_classes, value_concentration, rfm_segments, loyalty_ladder):
        assert_frame_equal(metric(rows, as_of=AS_OF).table, metric(mixed, as_of=AS_OF).table)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ColumnError, match="did you mean 'margin'"):
        abc_classes(spent([1.0]), value_col="margn", at_col=None, as_of=AS_OF)


# --- one figure out of many -----------------------------------------------------------------------


def test_customers_of_a_class_are_marked_and_classes_by_groups_refused() -> None:
    spent = pl.DataFrame(
        {"customer_id": [1, 2, 3, 4, 5], "margin": [70, 15, 8, 5, 2], "shop": ["x"] * 5}
    )
    found = abc_classes(spent, at_col=None, as_of=AS_OF)
    known = pl.LazyFrame({"customer_id": [1, 2, 3, 9]})
    marked = found.marked(known).sort("customer_id").collect()
    assert marked.rows() == [(1, True), (2, True), (3, False)]
    with pytest.raises(InputError, match="were made by shop"):
        abc_classes(spent, at_col=None, by="shop", as_of=AS_OF).marked(known)
    assert found.of_class("A").key == "customers_in_class_a"


def test_the_best_fifth_is_one_figure() -> None:
    spent = pl.DataFrame({"customer_id": [1, 2, 3, 4, 5], "margin": [1, 1, 1, 1, 6]})
    found = value_concentration(spent, at_col=None, as_of=AS_OF).best_fifth()
    assert found.table["estimate"].to_list() == [0.6]
    assert "60.0%" in found.sentence()


def test_a_move_is_one_figure_and_nobody_is_null() -> None:
    rows = pl.DataFrame(
        {
            "customer_id": [1, 1, 2, 2],
            "state": ["a", "b", "a", "a"],
            "starts_on": [date(2026, 1, 1), date(2026, 4, 1)] * 2,
        }
    )
    found = state_transitions(rows, state_col="state", as_of=date(2026, 6, 30))
    assert found.share("a", "b").table.select("n", "estimate").row(0) == (2, 0.5)
    assert found.share("b", "a").table.select("n", "estimate").row(0) == (0, None)
    with pytest.raises(InputError, match="'to_state' was given as 'c'"):
        found.share("a", "c")


def test_a_rung_and_those_above_it_are_one_figure() -> None:
    rows = [(1, date(2026, 1, 1), "enquiry")]
    rows += [(2, day, "purchase") for day in (date(2026, 1, 1), date(2026, 2, 1))]
    rows += [(3, date(2026, 1, 1), "purchase")]
    events = pl.DataFrame(rows, schema=["customer_id", "happened_on", "kind"], orient="row")
    ladder = loyalty_ladder(events, as_of=date(2026, 6, 30))
    assert ladder.from_rung("client").table["estimate"].to_list() == [1 / 3]
    assert ladder.from_rung("buyer").table["estimate"].to_list() == [2 / 3]
