"""How long, how different, how many a year; which cars come back and who is late."""

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

from crm_analysis import (
    SERVICE_RULES,
    InputError,
    ServiceRule,
    behaviour_change,
    churn_rate,
    departure_causes,
    departure_hazard,
    hazard_ratios,
    mean_retention,
    median_retention,
    next_purchase_chance,
    open_warehouse,
    referral_rate,
    repurchase_rate,
    retention_curve,
    retention_difference,
    service_retention,
    sold_and_serviced,
)
from crm_analysis.dates import add_months

REFERENCE = Path(__file__).parent / "reference"
AS_OF = date(2022, 12, 31)
FIRST = date(2018, 1, 1)

R_PRINTED = 1e-9
"""R's answers were printed to twelve digits."""


def walton() -> pl.DataFrame:
    rows = pl.read_csv(REFERENCE / "survival" / "waltons.csv")
    return rows.select(
        started_on=pl.lit(AS_OF) - pl.duration(days=pl.col("T").cast(pl.Int64)),
        ended_on=pl.when(pl.col("E") == 1).then(pl.lit(AS_OF)),
        group="group",
    )


# Lengths ----------------------------------------------------------------------------------


def test_means_medians_and_their_difference_match_r_on_walton_data() -> None:
    given_: dict[str, Any] = {"unit": "day", "as_of": AS_OF, "by": "group"}
    means = mean_retention(walton(), horizon=10, **given_).table
    np.testing.assert_allclose(means["estimate"], [9.976744186047, 9.794117647059], rtol=R_PRINTED)
    errors = [0.02316549977171, 0.1232448526737]
    np.testing.assert_allclose(means["std_error"], errors, rtol=R_PRINTED)
    medians = median_retention(walton(), **given_).table
    assert medians["estimate"].to_list() == [58, 26]
    assert medians["conf_low"][0] == 56
    assert medians["conf_high"].to_list() == [60, 29]
    found = retention_difference(walton(), horizon=10, **given_)
    assert found.test is not None
    np.testing.assert_allclose(found.test.statistic, 122.249125573006, rtol=R_PRINTED)
    row = found.table.row(0, named=True)
    np.testing.assert_allclose(row["estimate"], 0.182626538988, rtol=1e-8)
    np.testing.assert_allclose(row["std_error"], np.hypot(errors[0], errors[1]), rtol=R_PRINTED)


def test_whole_months_are_whole_and_spare_days_are_parts() -> None:
    spells = pl.DataFrame({"started_on": [date(2020, 1, 31)] * 2,
                           "ended_on": [date(2021, 1, 31), date(2021, 2, 15)]})  # fmt: skip
    found = median_retention(spells, as_of=AS_OF).table
    assert found["estimate"][0] == 12
    mean = mean_retention(spells, horizon=20, as_of=AS_OF).table["estimate"][0]
    assert mean == pytest.approx(12 + 15 / 30.4375 / 2)


def test_what_is_not_reached_is_null_with_a_note() -> None:
    spells = pl.DataFrame(
        {"started_on": [FIRST] * 4, "ended_on": [date(2019, 1, 1), None, None, None]}
    )
    median = median_retention(spells, as_of=AS_OF)
    assert median.table.row(0) == (4, None, None, None, None)
    assert any("median is not known" in note for note in median.notes)
    beyond = mean_retention(spells, horizon=100, as_of=AS_OF)
    assert beyond.table["estimate"][0] is None
    assert any("whole horizon" in note for note in beyond.notes)
    with pytest.raises(InputError, match="above 0"):
        mean_retention(spells, horizon=0, as_of=AS_OF)


def test_groups_are_compared_with_all_others_and_allowed_for() -> None:
    rng = np.random.default_rng(3)
    n = 900
    group = np.repeat(["a", "b", "c"], n // 3)
    length = rng.exponential(np.where(group == "c", 200, 500)).astype(int) + 1
    spells = pl.DataFrame(
        {
            "started_on": [FIRST] * n,
            "ended_on": [FIRST + timedelta(days=int(x)) for x in length],
            "group": group,
        }
    )
    found = retention_difference(spells, horizon=24, as_of=AS_OF, by="group")
    assert found.table["n_others"].to_list() == [600, 600, 600]
    by_group = mean_retention(spells, horizon=24, as_of=AS_OF, by="group").table
    others = mean_retention(spells.filter(pl.col("group") != "a"), horizon=24, as_of=AS_OF).table
    row = found.table.row(0, named=True)
    assert row["estimate"] == pytest.approx(by_group["estimate"][0] - others["estimate"][0])
    assert row["std_error"] == pytest.approx(
        np.hypot(by_group["std_error"][0], others["std_error"][0])
    )
    assert (found.table["p_adjusted"] >= found.table["p_value"]).all()
    assert any("Holm" in note for note in found.notes)
    assert "c (\N{MINUS SIGN}" in str(found)
    with pytest.raises(InputError, match="'by' names no column"):
        retention_difference(spells, horizon=24, as_of=AS_OF)


def test_difference_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(9)
    n_sets, hits = 300, 0
    for _ in range(n_sets):
        length = np.concatenate([rng.geometric(1 / 300, 80), rng.geometric(1 / 450, 80)])
        spells = pl.DataFrame(
            {
                "started_on": [FIRST] * 160,
                "ended_on": [FIRST + timedelta(days=int(min(x, 1500))) for x in length],
                "group": ["a"] * 80 + ["b"] * 80,
            }
        )
        row = retention_difference(
            spells, horizon=365, unit="day", as_of=AS_OF, by="group"
        ).table.row(0, named=True)
        truth = 300 * (1 - (1 - 1 / 300) ** 365) - 450 * (1 - (1 - 1 / 450) ** 365)
        hits += row["conf_low"] <= truth <= row["conf_high"]
    assert abs(hits / n_sets - 0.95) < 3 * np.sqrt(0.95 * 0.05 / n_sets)


# Churn ------------------------------------------------------------------------------------

SPELL = st.tuples(st.integers(0, 900), st.none() | st.integers(0, 900), st.integers(0, 100))


@given(rows=st.lists(SPELL, min_size=1, max_size=20), first=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_churn_equals_its_slow_twin(rows: list[tuple[int, int | None, int]], first: int) -> None:
    since, last = FIRST + timedelta(days=first), FIRST + timedelta(days=first + 300)
    starts = [FIRST + timedelta(days=s) for s, _, _ in rows]
    spells = pl.DataFrame(
        {
            "started_on": starts,
            "ended_on": [
                None if x is None else s + timedelta(days=x)
                for s, (_, x, _) in zip(starts, rows, strict=True)
            ],
            "seen_on": [s + timedelta(days=d) for s, (_, _, d) in zip(starts, rows, strict=True)],
        },
        schema_overrides={"ended_on": pl.Date},
    )
    row = churn_rate(spells, entry_col="seen_on", since=since, as_of=last).table.row(0, named=True)
    ended = days = there = 0
    for spell in spells.to_dicts():
        watched = 0
        day = since
        while day <= last:
            late = spell["seen_on"] > spell["started_on"]
            begun = day > spell["seen_on"] if late else day >= spell["started_on"]
            gone = spell["ended_on"] is not None and day > spell["ended_on"]
            watched += begun and not gone
            ended += begun and day == spell["ended_on"]
            day += timedelta(days=1)
        days += watched
        there += watched > 0
    assert (row["n_ended"], row["n"]) == (ended, there)
    assert row["customer_years"] == pytest.approx(days / 365.25)
    assert row["estimate"] == (pytest.approx(ended / (days / 365.25)) if days else None)


def test_churn_intervals_cover_the_true_rate() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        days = rng.geometric(0.25 / 365.25, 300)
        spells = pl.DataFrame(
            {
                "started_on": [FIRST] * 300,
                "ended_on": [FIRST + timedelta(days=int(d) - 1) for d in np.minimum(days, 5000)],
            }
        )
        row = churn_rate(spells, since=date(2019, 1, 1), as_of=date(2019, 12, 31)).table.row(
            0, named=True
        )
        hits += row["conf_low"] <= 0.25 <= row["conf_high"]
    # The exact interval covers at least 95 %.
    assert hits / 200 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200)


def test_a_period_turned_around_is_refused() -> None:
    with pytest.raises(InputError, match="not after 'as_of'"):
        churn_rate(walton(), since=date(2023, 1, 1), as_of=AS_OF)


# Service ----------------------------------------------------------------------------------


def parc_of(n: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 1700, n)
    cars = pl.DataFrame(
        {
            "vehicle_id": np.arange(n),
            "dealership_id": rng.integers(1, 3, n),
            "started_on": [FIRST + timedelta(days=int(s)) for s in start],
            "left_on": [FIRST + timedelta(days=1600) if s % 7 == 0 else None for s in start],
            "sold_here": start % 2 == 0,
            "warranty": ["in" if s > 900 else "after" for s in start],
        },
        schema_overrides={"left_on": pl.Date},
    )
    m = 6 * n
    car = rng.integers(0, n, m)
    visits = pl.DataFrame(
        {
            "vehicle_id": car,
            "dealership_id": rng.integers(1, 3, m),
            "visited_on": [FIRST + timedelta(days=int(d)) for d in rng.integers(0, 1900, m)],
            "kind": rng.choice(["scheduled", "repair", "body", "warranty"], m),
        }
    )
    return cars, visits


def kept_by_hand(
    cars: pl.DataFrame, visits: pl.DataFrame, rule: ServiceRule, as_of: date
) -> tuple[int, int]:
    n = k = 0
    for car in cars.to_dicts():
        if car["left_on"] is not None and car["left_on"] <= as_of:
            continue
        if rule.base == "sold_here" and not car["sold_here"]:
            continue
        days = sorted(
            {
                v["visited_on"]
                for v in visits.to_dicts()
                if v["vehicle_id"] == car["vehicle_id"]
                and v["kind"] in rule.kinds
                and v["visited_on"] <= as_of
                and (not rule.same_dealership or v["dealership_id"] == car["dealership_id"])
            }
        )
        edge = add_months(as_of, -rule.window_months)
        if rule.base == "serviced":
            old = add_months(as_of, -rule.window_months - 12)
            base = [d for d in days if old < d <= edge]
            if base:
                n += 1
                back = [d for d in days if base[-1] < d <= add_months(base[-1], rule.window_months)]
                k += len(back) >= rule.n_visits
        elif car["started_on"] <= edge:
            n += 1
            k += sum(d > edge for d in days) >= rule.n_visits
    return k, n


@pytest.mark.parametrize("name", SERVICE_RULES)
@pytest.mark.parametrize("seed", range(3))
def test_service_retention_equals_its_slow_twin(name: str, seed: int) -> None:
    cars, visits = parc_of(60, seed)
    as_of = date(2022, 6, 15)
    row = service_retention(cars, visits=visits, rule=name, as_of=as_of).table.row(0, named=True)
    assert (row["n_kept"], row["n"]) == kept_by_hand(cars, visits, SERVICE_RULES[name], as_of)
    assert 0 < row["n"] < 60


def test_groups_of_cars_add_up_and_the_denominator_is_said() -> None:
    cars, visits = parc_of(200, 4)
    given_: dict[str, Any] = {"visits": visits, "as_of": date(2022, 6, 15)}
    whole = service_retention(cars, rule="one_visit_in_12_months", **given_)
    parts = service_retention(cars, rule="one_visit_in_12_months", by="warranty", **given_)
    assert parts.table.select(pl.col("n_kept", "n").sum()).row(0) == whole.table.row(0)[:2]
    sold = sold_and_serviced(cars, **given_)
    assert "cars delivered here before that" in sold.definition
    assert sold.table["n"][0] < whole.table["n"][0]
    assert any("left out" in note for note in whole.notes)


def test_rules_have_no_default_and_near_names_are_guessed() -> None:
    cars, visits = parc_of(5, 1)
    with pytest.raises(InputError, match=r"did you mean 'return_in_13_months'\?"):
        service_retention(cars, visits=visits, rule="return_in_12_months", as_of=AS_OF)
    with pytest.raises(TypeError, match="missing"):
        ServiceRule(n_visits=1)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="no kind of work"):
        ServiceRule(n_visits=1, window_months=12, base="in_use", kinds=(), same_dealership=False)


# Late, and sent ---------------------------------------------------------------------------


def test_lateness_equals_its_slow_twin() -> None:
    rng = np.random.default_rng(6)
    drawn = zip(rng.integers(0, 40, 300), rng.integers(0, 1800, 300), strict=True)
    events = [(int(c), int(d)) for c, d in drawn]
    visits = pl.DataFrame(
        {
            "customer_id": [c for c, _ in events],
            "happened_on": [FIRST + timedelta(days=d) for _, d in events],
        }
    )
    last = (AS_OF - FIRST).days
    habits = []
    for customer in range(40):
        days = sorted({d for c, d in events if c == customer})
        gaps = np.diff(days)
        if len(gaps) >= 2 and last - days[-1] <= 24 * 365.25 / 12:
            habits.append((gaps, last - days[-1]))
    scatter = np.sqrt(
        sum((((g - g.mean()) / g.mean()) ** 2).sum() for g, _ in habits)
        / sum(len(g) - 1 for g, _ in habits)
    )
    z = [(w - g.mean()) / (scatter * g.mean() * np.sqrt(1 + 1 / len(g))) for g, w in habits]
    expected = [sum(v < 1 for v in z), sum(1 <= v < 2 for v in z), sum(v >= 2 for v in z)]
    found = behaviour_change(visits, as_of=AS_OF).table
    assert found["n_customers"].to_list() == expected
    assert found["n"].unique().to_list() == [len(habits)]
    assert expected[2] > 0


def test_leads_by_recommendation_leave_out_the_unknown() -> None:
    leads = pl.DataFrame(
        {
            "opened_at": [date(2022, 1, d) for d in (1, 2, 3, 4)] + [date(2021, 1, 1)],
            "source": ["referral", "web", None, "web", "referral"],
        }
    )
    found = referral_rate(leads, since=date(2022, 1, 1), as_of=AS_OF)
    assert found.table.select("n_referred", "n").row(0) == (1, 3)
    assert any("1 leads without" in note for note in found.notes)


# Edges ------------------------------------------------------------------------------------


def edge_spells() -> dict[str, pl.DataFrame]:
    base = pl.DataFrame(
        {
            "started_on": [FIRST, FIRST, FIRST],
            "ended_on": [date(2019, 1, 1)] * 3,
            "cause": ["moved"] * 3,
            "in_use_on": [FIRST] * 3,
            "warranty_months": [36] * 3,
            "group": ["a", "b", "b"],
        }
    )
    none = pl.lit(None, pl.Date).alias("ended_on")
    return {
        "nobody": base.clear(),
        "one customer": base.head(1),
        "everyone gone at once": base,
        "no one gone": base.with_columns(none, pl.lit(None, pl.String).alias("cause")),
        "no cause recorded": base.with_columns(pl.lit(None, pl.String).alias("cause")),
    }


@pytest.mark.parametrize("edge", edge_spells())
@pytest.mark.parametrize("by", [(), ("group",)])
def test_edges_make_pages_without_nan(edge: str, by: tuple[str, ...]) -> None:
    spells = edge_spells()[edge]
    given_: dict[str, Any] = {"as_of": AS_OF}
    results = [
        retention_curve(spells, by=by, **given_),
        median_retention(spells, by=by, **given_),
        mean_retention(spells, by=by, horizon=24, **given_),
        departure_causes(spells, by=by, **given_),
        repurchase_rate(spells, by=by, **given_),
        churn_rate(spells, by=by, since=date(2018, 6, 1), **given_),
        departure_hazard(spells, by=by, **given_),
        next_purchase_chance(spells, **given_),
        hazard_ratios(spells, factors="group", **given_),
        retention_difference(spells, by=by or "group", horizon=24, **given_),
    ]
    for result in results:
        html = result.show().to_html().lower()
        assert "nan" not in html.replace("finance", "")
        assert ">inf" not in html
        assert str(result)


def test_entry_after_the_end_and_before_the_start() -> None:
    spells = edge_spells()["everyone gone at once"].with_columns(seen_on=pl.lit(date(2020, 1, 1)))
    # Seen only after it had ended: never at risk.
    late = retention_curve(spells, entry_col="seen_on", as_of=AS_OF)
    assert late.table.is_empty()
    early = spells.with_columns(seen_on=pl.lit(date(2017, 1, 1)))
    for metric in (retention_curve, departure_causes, median_retention, hazard_ratios):
        more: dict[str, Any] = {"factors": "group"} if metric is hazard_ratios else {}
        with pytest.raises(InputError, match=r"from its start or later|on or after the day"):
            metric(early, entry_col="seen_on", as_of=AS_OF, **more)


# The dealership's own tables -----------------------------------------------------------------


def test_ownerships_end_once_and_the_first_end_counts(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    deals = crm.table("deals").filter(pl.col("delivery_on").is_not_null()).collect()
    found = crm.ownership_spells(inactive_months=None).collect()
    delivered = deals.filter(pl.col("cancelled_on").is_null())
    assert found.height == delivered.height
    assert set(found["cause"].drop_nulls().unique()) <= {"repurchased_here", "bought_elsewhere"}
    both = found.join(
        delivered.select("vehicle_id", "customer_id", "delivery_on"), on="customer_id"
    ).filter(pl.col("delivery_on") > pl.col("started_on"))
    following = both.group_by("vehicle_id").agg(pl.col("delivery_on").min())
    checked = found.join(following, on="vehicle_id", how="left")
    again = checked.filter(pl.col("cause") == "repurchased_here")
    assert again.height > 0
    assert (again["ended_on"] == again["delivery_on"]).all()
    with_silence = crm.ownership_spells(inactive_months=18).collect()
    joined = found.join(with_silence, on="vehicle_id", suffix="_silent")
    assert (joined["ended_on_silent"] <= joined["ended_on"]).drop_nulls().all()


def test_snapshots_know_nothing_of_what_came_after(tiny_network: Path) -> None:
    """The snapshot of a day is the same from data that end on that day, but for its outcome."""
    crm = open_warehouse(tiny_network)
    day = crm.months_before(12)
    who = ["customer_id", "dealership_id"]
    later = crm.departure_snapshots().filter(snapshot_on=day).collect().sort(who)
    then = crm.departure_snapshots(as_of=day).filter(snapshot_on=day).collect().sort(who)
    assert later.height > 100
    assert then["left"].null_count() == then.height
    assert later["left"].null_count() == 0
    assert_frame_equal(later.drop("left"), then.drop("left"))
    came = (
        crm.purchases()
        .filter(pl.col("happened_on") > day)
        .select("customer_id")
        .unique()
        .collect()["customer_id"]
    )
    assert not later.filter("left")["customer_id"].is_in(came.to_list()).any()


def test_the_car_parc_knows_ages_and_warranties(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    parc = crm.car_parc().collect()
    seen = pl.concat(
        [
            crm.table("service_orders").select("vehicle_id").collect(),
            crm.table("deals")
            .filter(pl.col("delivery_on").is_not_null(), pl.col("cancelled_on").is_null())
            .select("vehicle_id")
            .collect(),
        ]
    )["vehicle_id"].n_unique()
    assert parc.height == seen
    for row in parc.head(200).to_dicts():
        birthday = add_months(row["in_use_on"], 12 * row["age_years"])
        assert birthday <= crm.as_of < add_months(row["in_use_on"], 12 * row["age_years"] + 12)
        over = add_months(row["in_use_on"], row["warranty_months"]) <= crm.as_of
        assert row["warranty"] == ("after_warranty" if over else "in_warranty")


# Backends ---------------------------------------------------------------------------------


def test_every_backend_counts_the_same_cars(backend: Callable[[pl.DataFrame], Any]) -> None:
    cars, visits = parc_of(80, 2)
    there, came = backend(cars), backend(visits)
    for name in SERVICE_RULES:
        given_: dict[str, Any] = {"rule": name, "as_of": date(2022, 6, 15), "by": "warranty"}
        expected = service_retention(cars, visits=visits, **given_).table
        assert_frame_equal(service_retention(there, visits=came, **given_).table, expected)
    events = visits.select(customer_id="vehicle_id", happened_on="visited_on", kind="kind")
    late = behaviour_change(events, as_of=AS_OF, by="kind").table
    assert_frame_equal(behaviour_change(backend(events), as_of=AS_OF, by="kind").table, late)
    leads = visits.select(opened_at="visited_on", source="kind")
    span: dict[str, Any] = {"since": FIRST, "as_of": AS_OF, "referral_source": "body"}
    expected = referral_rate(leads, **span).table
    assert_frame_equal(referral_rate(backend(leads), **span).table, expected)
