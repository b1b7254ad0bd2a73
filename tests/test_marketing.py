"""Sources, costs and campaigns: counted by hand, against published answers, and the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.stats import norm

from crm_analysis import ColumnError, Estimates, InputError
from crm_analysis.marketing import (
    acquisition_cost,
    average_deal,
    channel_parity,
    cost_ratio,
    holdout_effect,
    interrupted_effect,
    lost_for_want_of_stock,
    mix_decomposition,
    payback,
    payment_mix,
    popular_models,
    price_position,
    problem_finder,
    retention_cost,
    sales_cube,
    source_effectiveness,
    staggered_effect,
    stock_age,
    stock_turnover,
    traffic,
    value_change,
    visit_mix,
)
from crm_analysis.marketing.holdout import Arm, arm_difference, relative_lift
from crm_analysis.marketing.suppression import lines_of, suppressed, with_subtotals
from crm_analysis.marketing.value_change import _effects

AS_OF = date(2026, 6, 30)
Backend = Callable[[pl.DataFrame], Any]

# --- sources ------------------------------------------------------------------------------------


def some_leads() -> pl.DataFrame:
    day = datetime.combine(date(2026, 1, 5), time(12))
    rows = [
        (1, "Google", day, date(2026, 1, 20), 900.0),
        (2, "google ", day, None, None),
        (3, "unknown", day, None, None),
        (4, None, day, date(2026, 2, 1), 500.0),
        (5, "referral", day, date(2026, 6, 1), 700.0),  # after the 90 days
        (6, "referral", datetime.combine(date(2026, 6, 1), time(9)), None, None),  # too young
        (1, "google", day + timedelta(days=1), date(2026, 1, 21), 100.0),
    ]
    names = ["customer_id", "source", "opened_at", "sold_on", "margin"]
    return pl.DataFrame(rows, schema=names, orient="row")


def some_spend() -> pl.DataFrame:
    return pl.DataFrame(
        {"source": ["google", "Google", "radio", "google"], "spend": [100, 50, 30, 999],
         "day_on": [date(2026, 1, 5)] * 3 + [date(2026, 6, 20)]}
    )  # fmt: skip


def test_sources_are_counted_by_hand(backend: Backend) -> None:
    found = source_effectiveness(backend(some_leads()), spend=backend(some_spend()), as_of=AS_OF)
    rows = {row["source"]: row for row in found.table.to_dicts()}
    assert list(rows) == ["google", "not_recorded", "radio", "referral", "unknown"]
    google = rows["google"]
    # Customer 1 came twice, each time as one spelling: 3 leads, 2 sales, 1000 of margin, 150 spent.
    assert (google["n"], google["n_sold"], google["margin"]) == (3, 2, 1000.0)
    assert (google["spend"], google["cost_per_lead"], google["cost_per_sale"]) == (150, 50, 75)
    assert google["margin_per_spend"] == pytest.approx(1000 / 150)
    assert rows["radio"]["n"] == 0
    assert rows["radio"]["cost_per_sale"] is None
    assert rows["referral"]["n_sold"] == 0
    assert rows["unknown"]["spend"] is None
    assert any("Spelt in several ways and counted as one: google" in note for note in found.notes)
    assert any(note.startswith("1 leads have not had their time") for note in found.notes)
    assert any("No source is recorded for 1 leads" in note for note in found.notes)
    assert any("No spend is recorded for: not recorded" in note for note in found.notes)


def test_cost_per_sale_is_bounded_by_the_exact_bounds_of_the_number_of_sales() -> None:
    found = source_effectiveness(some_leads(), spend=some_spend(), as_of=AS_OF).table
    row = found.filter(source="google").row(0, named=True)
    # Garwood (1936): 2 events have exact 95 % bounds .2422 and 7.2247.
    assert row["cost_per_sale_low"] == pytest.approx(150 / 7.2247, rel=1e-4)
    assert row["cost_per_sale_high"] == pytest.approx(150 / 0.2422, rel=1e-3)


def test_touches_look_back(backend: Backend) -> None:
    leads = some_leads().head(1).cast({"customer_id": pl.String})
    day = datetime.combine(date(2026, 1, 5), time(12))
    traffic = pl.DataFrame(
        {
            "customer_id": ["1", "1", "1", "1", None],
            "happened_at": [day - timedelta(days=d) for d in (200, 60, 10, -3, 5)],
            "source": ["outdoor", "web", "referral", "phone", "radio"],
        }
    )

    def asked(touch: str, days: int = 90) -> list[str]:
        found = source_effectiveness(
            backend(leads), traffic=backend(traffic), touch=touch, look_back_days=days, as_of=AS_OF
        )
        sources: list[str] = found.table["source"].to_list()
        return sources

    assert asked("first") == ["web"]
    assert asked("last") == ["referral"]
    assert asked("first", 300) == ["outdoor"]
    assert asked("last", 5) == ["google"]  # no approach so near: the lead's own


def test_money_that_brought_hardly_any_sale_is_named() -> None:
    """Two sources sell six times each, a third once, for 900: chance says nothing of its cost."""
    sold = [("web", 6), ("phone", 6), ("radio", 1)]
    leads = pl.DataFrame(
        [(source, n, AS_OF - timedelta(days=200), AS_OF - timedelta(days=190), 10.0)
         for source, k in sold for n in range(k)],
        schema=["source", "customer_id", "opened_at", "sold_on", "margin"], orient="row",
    )  # fmt: skip
    spend = pl.DataFrame(
        {"source": ["web", "phone", "radio"], "day_on": [AS_OF - timedelta(days=200)] * 3,
         "spend": [60.0, 120.0, 900.0]}
    )  # fmt: skip
    found = source_effectiveness(leads, spend=spend, as_of=AS_OF)
    assert str(found).startswith("Advertising costs 10 a sale at web")
    assert str(found).endswith("The 900 spent on radio brought 1 sale.")


def test_sources_are_held_against_the_others() -> None:
    """The z-test of two shares, for two sources: 30 of 100 against 10 of 100 has z = 3.5355."""
    leads = pl.DataFrame(
        {"source": ["a"] * 100 + ["b"] * 100, "customer_id": range(200), "margin": [0.0] * 200,
         "opened_at": [date(2026, 1, 5)] * 200,
         "sold_on": [date(2026, 1, 6) if i % 100 < (30 if i < 100 else 10) else None
                     for i in range(200)]}
    )  # fmt: skip
    p = source_effectiveness(leads, as_of=AS_OF).table["p_holm"].to_list()
    assert p == pytest.approx([2 * 0.0004070] * 2, rel=1e-3)


def test_sources_of_nothing() -> None:
    nothing = source_effectiveness(some_leads().clear(), as_of=AS_OF)
    assert nothing.table.is_empty()
    nothing.show()
    with pytest.raises(InputError, match="without 'traffic'"):
        source_effectiveness(some_leads(), touch="first", as_of=AS_OF)
    with pytest.raises(InputError, match="at least 1"):
        source_effectiveness(some_leads(), within_days=0, as_of=AS_OF)
    with pytest.raises(ColumnError, match="'soruce'"):
        source_effectiveness(some_leads(), source_col="soruce", as_of=AS_OF)


# --- channels -----------------------------------------------------------------------------------


def mixed_leads(rows: list[tuple[str, str, int, int]]) -> pl.DataFrame:
    """Leads of a channel for a condition, of which so many were sold at once."""
    day = date(2026, 1, 5)
    long = [
        (channel, wanted, day, day if i < sold else None)
        for channel, wanted, n, sold in rows
        for i in range(n)
    ]
    schema = {"source": pl.String, "condition": pl.String, "opened_at": pl.Date, "sold_on": pl.Date}
    return pl.DataFrame(long, schema=schema, orient="row")


def test_a_channel_is_held_against_others_with_its_own_mix(backend: Backend) -> None:
    leads = mixed_leads(
        [("web", "used", 80, 8), ("web", "new", 20, 8), ("phone", "used", 20, 2),
         ("phone", "new", 80, 32), ("fax", "demo", 5, 5)]
    )  # fmt: skip
    found = channel_parity(backend(leads), adjust=["condition"], as_of=AS_OF)
    by = {row["source"]: row for row in found.table.to_dicts()}
    # 16 % against 34 % in all, and the same in either condition: it is all mix.
    assert by["web"]["estimate"] == pytest.approx(0.16)
    assert by["web"]["of_others"] == pytest.approx(0.8 * 0.1 + 0.2 * 0.4)
    assert by["web"]["difference"] == pytest.approx(0)
    assert by["fax"]["difference"] is None
    assert by["fax"]["n_yes"] == 5
    assert str(found).startswith("No channel differs")
    plain = channel_parity(leads, adjust=[], as_of=AS_OF)
    assert plain.table.filter(source="web")["p_holm"].item() < 0.01
    assert "web 16.0%" in str(plain)


def test_answers_within_minutes_are_compared_and_young_ones_left_out() -> None:
    at = datetime.combine(date(2026, 6, 30), time(9))
    rows: list[tuple[str, datetime, datetime | None]] = [
        ("call", at, at + timedelta(minutes=m)) for m in (5, 29, 31)
    ]
    rows += [("chat", at, None), ("chat", datetime.combine(AS_OF, time(23, 45)), None)]
    names = ["kind", "happened_at", "handled_at"]
    found = channel_parity(
        pl.DataFrame(rows, schema=names, orient="row"), channel_col="kind", at_col="happened_at",
        done_col="handled_at", within_days=30 / 1440, adjust=[], as_of=AS_OF,
    ).table  # fmt: skip
    assert found.select("kind", "n_yes", "n").rows() == [("call", 2, 3), ("chat", 0, 1)]
    with pytest.raises(InputError, match="above 0"):
        channel_parity(mixed_leads([]), within_days=0, as_of=AS_OF)
    nothing = channel_parity(mixed_leads([]), adjust=["condition"], as_of=AS_OF)
    assert nothing.table.is_empty()
    nothing.show()


# --- what customers cost ------------------------------------------------------------------------


def some_purchases() -> pl.DataFrame:
    rows = [
        (1, date(2024, 5, 1), 100.0), (1, date(2025, 2, 1), 50.0),
        (2, date(2024, 6, 1), 100.0),
        (3, date(2025, 3, 1), 20.0), (3, date(2025, 5, 15), 60.0),
        (4, date(2025, 3, 31), 10.0),
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=["customer_id", "happened_on", "margin"], orient="row")


def ads(day: date, spend: float) -> pl.DataFrame:
    return pl.DataFrame({"day_on": [day], "spend": [spend]})


def test_costs_are_counted_by_hand(backend: Backend) -> None:
    asked: dict[str, Any] = {"since": date(2025, 1, 1), "as_of": date(2025, 12, 31)}
    spend = backend(ads(date(2025, 3, 5), 80))
    won = acquisition_cost(backend(some_purchases()), spend=spend, **asked)
    assert won.table.row(0, named=True)["estimate"] == 40.0  # two new customers, 3 and 4
    costs = pl.DataFrame(
        {"customer_id": [1, 2, 3, 1], "cost": [6.0, 4.0, 99.0, 77.0],
         "happened_on": [date(2025, 4, 1)] * 3 + [date(2024, 4, 1)]}
    )  # fmt: skip
    kept = retention_cost(backend(costs), purchases=backend(some_purchases()), **asked)
    row = kept.table.row(0, named=True)
    # Of 1 and 2, who were there before, only 1 came back; both were written to.
    assert (row["n_before"], row["n"], row["estimate"]) == (2, 1, 10.0)
    ratio = cost_ratio(won, retention=kept)
    assert ratio.table["estimate"].item() == 4.0
    assert "not refuted" in str(ratio)


def test_the_ratio_of_costs_says_when_there_is_none() -> None:
    asked: dict[str, Any] = {"since": date(2025, 1, 1), "as_of": date(2025, 12, 31)}
    won = acquisition_cost(some_purchases(), spend=ads(date(2020, 1, 1), 5), **asked)
    assert won.table["estimate"].item() is None
    nothing = cost_ratio(won, retention=won)
    assert "nothing can be said" in str(nothing)
    with pytest.raises(InputError, match="not after 'as_of'"):
        acquisition_cost(some_purchases(), spend=ads(AS_OF, 1), since=AS_OF, as_of=date(2020, 1, 1))


def test_payback_by_hand(backend: Backend) -> None:
    """Customers 3 and 4 cost 80, 40 each: 15 each at once, 45 each after two months."""
    spend = ads(date(2025, 1, 5), 80)
    found = payback(
        backend(some_purchases()), spend=backend(spend), period="year",
        since=date(2025, 1, 1), as_of=date(2026, 3, 31),
    )  # fmt: skip
    cells = dict(found.table.select("months", "estimate").iter_rows())
    # The year 2025 has been seen for three months only by the end of March 2026.
    assert cells == {0: -25.0, 1: -25.0, 2: 5.0, 3: 5.0}
    row = found.cohorts.row(0, named=True)
    assert (row["n"], row["acquisition_cost"], row["payback_month"]) == (2, 40.0, 2)
    assert row["share_repaid"] == 0.5
    shown = found.show(figure=False).table
    assert shown is not None
    assert {cells_of[0] for cells_of in shown.rows} == {"2025"}
    early = payback(some_purchases(), spend=spend, since=date(2025, 1, 1), as_of=date(2025, 6, 30))
    assert early.table.is_empty()
    assert "no cohort has had its time" in str(early)
    early.show()


# --- a randomised holdout -----------------------------------------------------------------------


def test_growthbook_relative_lift() -> None:
    """GrowthBook, packages/stats, tests/frequentist/test_tests.py (commit 8f1db44569, MIT)."""
    control, treated = Arm(3407, 1396.87, 52377.9767), Arm(3461, 2422.7, 134698.29)
    lift, _error, low, high, p = relative_lift(treated, control)
    assert [lift, low, high, p] == pytest.approx([0.70732, -0.03526, 1.44989, 0.06191], abs=1e-5)
    # Beside it the difference is "significant": p = .020.
    assert arm_difference(treated, control)[4] == pytest.approx(0.020, abs=5e-4)


def arms(n: int, treated: int, control: int) -> pl.DataFrame:
    yes = [i < treated for i in range(n)] + [i < control for i in range(n)]
    return pl.DataFrame({"bought": np.array(yes, float), "treated": [True] * n + [False] * n})


def test_the_difference_of_shares_is_newcombes(backend: Backend) -> None:
    """Newcombe (1998), table II, method 10: 56/70 against 48/80 gives .0524 to .3339."""
    units = pl.concat([arms(70, 56, 0).head(70), arms(80, 0, 48).tail(80)])
    found = holdout_effect(backend(units), outcome_col="bought", treated_col="treated", as_of=AS_OF)
    row = found.table.row(0, named=True)
    assert (row["measure"], row["n"]) == ("difference", 150)
    assert row["conf_low"] == pytest.approx(0.0524, abs=5e-5)
    assert row["conf_high"] == pytest.approx(0.3339, abs=5e-5)
    assert found.lift()["estimate"] == pytest.approx((56 / 70) / (48 / 80) - 1)


def test_a_lost_arm_is_noticed() -> None:
    units = pl.concat([arms(1000, 100, 90), arms(1000, 100, 0).head(1000)])
    found = holdout_effect(
        units, outcome_col="bought", treated_col="treated", treated_share=0.5, as_of=AS_OF
    )
    assert any("somebody is lost" in note for note in found.notes)
    fair = holdout_effect(
        units, outcome_col="bought", treated_col="treated", treated_share=2 / 3, as_of=AS_OF
    )
    assert not any("somebody is lost" in note for note in fair.notes)
    with pytest.raises(InputError, match="0 held out"):
        holdout_effect(
            units.filter("treated"), outcome_col="bought", treated_col="treated", as_of=AS_OF
        )


@pytest.mark.slow
def test_a_holdout_finds_the_true_effect_of_a_policy() -> None:
    """The generator's customers under either policy, each seen in the world drawn for them.

    Six intervals of 95 %: that fewer than 4 cover has probability .002.
    """
    from synthetic import make_worlds

    inside = 0
    for seed in range(1, 7):
        worlds = make_worlds(policy="retention", preset="tiny", seed=seed, n_customers=1500)
        rows = worlds.potential.filter(pl.col("outcome") == "visits").with_columns(
            seen=pl.when("assigned").then("y1").otherwise("y0")
        )
        effect = worlds.effects.filter(pl.col("outcome") == "visits")["effect"].item()
        found = holdout_effect(
            rows, outcome_col="seen", treated_col="assigned", treated_share=0.5, as_of=AS_OF
        ).table.row(0, named=True)
        inside += found["conf_low"] <= effect <= found["conf_high"]
    assert inside >= 4


# --- a staggered start --------------------------------------------------------------------------


def daily_leads(counts: dict[str, list[int]], first: date) -> pl.DataFrame:
    rows = [
        (unit, first + timedelta(days=day))
        for unit, series in counts.items()
        for day, n in enumerate(series)
        for _lead in range(n)
    ]
    return pl.DataFrame(rows, schema=["dealership", "opened_at"], orient="row")


def test_a_staggered_start_by_hand(backend: Backend) -> None:
    """Leads double everywhere from day 28 on; where the campaign runs they treble."""
    first = date(2026, 1, 1)
    quiet, loud = [2] * 28 + [4] * 14, [2] * 28 + [6] * 14
    leads = daily_leads({"a": loud, "b": quiet, "c": quiet, "d": quiet}, first)
    start = first + timedelta(days=28)
    plan = pl.DataFrame(
        {"dealership": ["a", "b", "c", "d"], "name": ["spring"] * 4, "starts_on": [start] * 4,
         "ends_on": [start + timedelta(days=13)] * 4, "held_out": [False, True, True, True]}
    )  # fmt: skip
    found = staggered_effect(
        backend(leads), plan=plan, before_days=28, as_of=start + timedelta(days=13)
    )
    # Two weeks: 42 leads each against 56 x 84 / 169 expected (the 1 added to 168).
    expected = 2 * 56 * 84 / 169
    row = found.lift()
    assert row["n"] == 84
    assert row["estimate"] == pytest.approx(84 / expected - 1)
    assert row["extra"] == pytest.approx(84 - expected)
    # Before and after alone: 6 a day against 2.
    assert found.naive is not None
    assert found.naive.table["estimate"].item() == pytest.approx(2.0)
    assert "would have said 200.0%" in str(found)
    assert any("warning only" in note for note in found.notes)


def test_who_waits_is_no_control_any_more_once_it_starts() -> None:
    first = date(2026, 1, 1)
    flat = [2] * 56
    leads = daily_leads({"a": flat, "b": flat, "c": [0] * 56, "d": [0] * 56}, first)
    starts = [first + timedelta(days=d) for d in (28, 35)]
    plan = pl.DataFrame(
        {"dealership": ["a", "b"], "name": ["spring"] * 2, "starts_on": starts,
         "ends_on": [d + timedelta(days=20) for d in starts], "held_out": [False, False]}
    )  # fmt: skip
    found = staggered_effect(leads, plan=plan, as_of=first + timedelta(days=55))
    # Only the first week of "a" has somebody who still waits: 14 leads.
    assert found.lift()["n"] == 14
    assert found.detail["weeks"].to_list() == [-1, 0]
    assert found.lift()["conf_low"] is None
    assert any("too few for an interval" in note for note in found.notes)
    everywhere = plan.with_columns(starts_on=pl.lit(starts[0]))
    none = staggered_effect(leads, plan=everywhere, as_of=first + timedelta(days=55))
    assert none.lift()["estimate"] is None
    assert any("nothing can be said" in note for note in none.notes)
    none.show()


def first_leads(network: Any) -> pl.DataFrame:
    """The leads whose intensity advertising lifts: each customer's first, but for service."""
    leads: pl.DataFrame = network.tables["opportunities"].collect().sort("opened_at")
    first = leads.group_by("customer_id", maintain_order=True).first()
    return first.filter(pl.col("source") != "service_drive")


@pytest.mark.slow
def test_a_staggered_start_finds_the_true_lift_and_before_and_after_does_not() -> None:
    """10 networks: 6 or fewer 95 % intervals that cover have probability .001.

    The mean error of the estimate is within three standard errors of zero; that of before and
    after is not: campaigns start in season.
    """
    from synthetic import make_network
    from synthetic.config import CampaignSettings

    inside, errors = 0, []
    for seed in range(1, 11):
        network = make_network(
            preset="tiny", seed=seed, n_customers=8_000, n_dealerships=12,
            campaigns=CampaignSettings(a_year=2, holdout_share=0.4),
        )  # fmt: skip
        plan = network.tables["campaigns"].collect()
        found = staggered_effect(
            first_leads(network), unit_col="dealership_id", plan=plan, as_of=network.config.ends_on
        )
        true = true_lift(network.truth["truth_lead_intensity"].collect(), plan)
        row, naive = found.lift(), found.naive
        assert naive is not None
        inside += row["conf_low"] <= true <= row["conf_high"]
        errors.append([row["estimate"] - true, naive.table["estimate"].item() - true])
    mean = np.mean(errors, axis=0)
    error = np.std(errors, axis=0, ddof=1) / np.sqrt(len(errors))
    assert inside > 6
    assert abs(mean[0]) < 3 * error[0]
    assert mean[1] > 3 * error[1]


def true_lift(intensity: pl.DataFrame, plan: pl.DataFrame) -> float:
    """Expected extra leads over those expected without, on the days when campaigns ran."""
    ran = plan.filter(~pl.col("held_out")).select("dealership_id", "starts_on", "ends_on")
    days = intensity.join(ran, on="dealership_id").filter(
        pl.col("day_on").is_between("starts_on", "ends_on")
    )
    without = days["base"] * days["suppression"]
    return float((without * days["lift"]).sum()) / float(without.sum())


# --- an interrupted series ----------------------------------------------------------------------


def seasonal_leads(seed: int, lift: float) -> tuple[pl.DataFrame, list[tuple[date, date]], date]:
    """Three years of leads with trend and season; six weeks of campaign each spring."""
    rng = np.random.default_rng(seed)
    first, n = date(2022, 1, 3), 7 * 156
    starts = [60, 430, 795]
    windows = [(first + timedelta(days=s), first + timedelta(days=s + 41)) for s in starts]
    days = np.arange(n)
    on = np.zeros(n)
    for start in starts:
        on[start : start + 42] = 1
    season = 0.3 * np.sin(2 * np.pi * (days + 30) / 365.25)
    counts = rng.poisson(5 * np.exp(0.3 * days / n + season) * (1 + lift * on))
    at = [first + timedelta(days=int(d)) for d in np.repeat(days, counts)]
    return pl.DataFrame({"opened_at": at}), windows, first + timedelta(days=n - 1)


def test_an_interrupted_series_takes_the_season_out() -> None:
    """20 worlds with a true lift of .2: 15 or fewer intervals that cover have probability .003."""
    inside = naive = 0
    for seed in range(20):
        leads, windows, last = seasonal_leads(seed, 0.2)
        found = interrupted_effect(leads, windows=windows, as_of=last)
        row = found.lift()
        inside += row["conf_low"] <= 0.2 <= row["conf_high"]
        assert found.naive is not None
        plain = found.naive.table.row(0, named=True)
        naive += plain["conf_low"] <= 0.2 <= plain["conf_high"]
    assert inside > 6
    assert naive < 5


def test_an_interrupted_series_by_hand(backend: Backend) -> None:
    """13 and 15 leads a week in turn, 20 and 22 in the campaign: a lift of one half.

    The trend takes up a little of the turns: hence a tolerance of a hundredth.
    """
    first = date(2026, 1, 1)
    weeks = [3 if 10 <= w < 14 else 2 for w in range(30)]
    series = [n for n in weeks for _day in range(7)]
    for week in range(30):
        series[7 * week] += 1 - 2 * (week % 2)
    leads = daily_leads({"a": series}, first)
    window = (first + timedelta(days=70), first + timedelta(days=97))
    found = interrupted_effect(backend(leads), windows=[window], as_of=first + timedelta(days=209))
    assert found.lift()["estimate"] == pytest.approx(0.5, abs=0.01)
    short = interrupted_effect(leads, windows=[window], as_of=first + timedelta(days=104))
    assert short.lift()["estimate"] is None
    assert any("too few to tell" in note for note in short.notes)
    with pytest.raises(InputError, match="without any"):
        interrupted_effect(leads, windows=[], as_of=AS_OF)


def test_effects_draw_and_show() -> None:
    leads, windows, last = seasonal_leads(1, 0.2)
    for result in (interrupted_effect(leads, windows=windows, as_of=last),):
        block = result.show()
        assert isinstance(result, Estimates)
        assert block.finding is not None
        assert "plain comparison of before and after" in block.finding


# --- traffic, models, stock ---------------------------------------------------------------------


def test_traffic_by_hand(backend: Backend) -> None:
    """Ten days: one customer thrice (day 1, 3, 40 later), two without a name, one unanswered."""
    start = datetime.combine(date(2026, 1, 1), time(10))
    rows = [("a", 0, True), ("a", 2, True), ("a", 40, True), (None, 1, False), (None, 1, True)]
    approaches = pl.DataFrame(
        {"customer_id": [who for who, _day, _ok in rows],
         "happened_at": [start + timedelta(days=day) for _who, day, _ok in rows],
         "handled_at": [start + timedelta(days=day, hours=1) if ok else None
                        for _who, day, ok in rows]}
    )  # fmt: skip
    found = traffic(
        backend(approaches), ci_method="poisson", since=date(2026, 1, 1), as_of=date(2026, 2, 19)
    ).table.row(0, named=True)
    # Fifty days; the visit on day 3 is the enquiry of day 1.
    assert (found["n_approaches"], found["n_handled"], found["n"]) == (5, 4, 4)
    assert found["estimate"] == pytest.approx(4 / 50)
    # Garwood (1936): 4 events have exact 95 % bounds 1.0899 and 10.2416.
    assert found["conf_low"] == pytest.approx(1.0899 / 50, rel=1e-4)
    assert found["conf_high"] == pytest.approx(10.2416 / 50, rel=1e-4)
    assert found["handled_share"] == 0.8


def test_visits_have_an_exposure(backend: Backend) -> None:
    visits = pl.DataFrame({"happened_on": [date(2025, 5, 1)] * 3, "kind": ["service"] * 3})
    known = pl.DataFrame({"created_at": [date(2020, 1, 1), date(2025, 7, 2)]})
    found = visit_mix(
        backend(visits), customers=backend(known), since=date(2025, 1, 1),
        as_of=date(2025, 12, 31),
    ).table.row(0, named=True)  # fmt: skip
    years = (365 + 183) / 365.25
    assert found["customer_years"] == pytest.approx(years)
    assert found["estimate"] == pytest.approx(300 / years)


def test_models_and_their_ranks(backend: Backend) -> None:
    demand = pl.DataFrame(
        {"kind": ["enquiry"] * 101, "happened_on": [date(2026, 1, 5)] * 101,
         "model": ["a"] * 80 + ["b"] * 10 + ["c"] * 10 + [None]}
    )  # fmt: skip
    found = popular_models(backend(demand), as_of=AS_OF)
    assert found.table.select("model", "n", "estimate").rows() == [
        ("a", 100, 0.8), ("b", 100, 0.1), ("c", 100, 0.1)
    ]  # fmt: skip
    assert found.table["rank_high"].to_list() == [1, 3, 3]
    assert found.table["rank_low"].to_list() == [1, 2, 2]
    assert "first beyond doubt" in str(found)
    assert any("name no model" in note for note in found.notes)


def some_sales() -> pl.DataFrame:
    return pl.DataFrame(
        {"contract_on": [date(2026, 1, 5)] * 4, "list_price": [100, 100, 200, 100],
         "discount": [0, 10, 10, 5], "pay": ["cash", "credit", "credit", None],
         "revenue": [100, 90, 190, 95], "dealership": ["a", "a", "b", None]}
    )  # fmt: skip


def test_prices_and_payments_by_hand(backend: Backend) -> None:
    price = price_position(backend(some_sales()), as_of=AS_OF).table.row(0, named=True)
    assert price["estimate"] == pytest.approx(25 / 500)
    assert price["median_discount"] == pytest.approx(0.05)
    assert price["without_discount"] == 0.25
    paid = payment_mix(backend(some_sales()), as_of=AS_OF).table
    assert dict(paid.select("pay", "estimate").iter_rows()) == {
        "cash": 0.25, "credit": 0.5, None: 0.25
    }  # fmt: skip
    deal = average_deal(backend(some_sales()), winsor_share=0.25, as_of=AS_OF).table
    # Drawn in: 95, 95, 100, 100.
    assert deal["estimate"].to_list() == [118.75, 97.5, 97.5]


def test_stock_by_hand(backend: Backend) -> None:
    cars = pl.DataFrame(
        {"arrived_on": [date(2026, 6, 1)] * 4,
         "sold_on": [date(2026, 6, 11), date(2026, 6, 21), None, None]}
    )  # fmt: skip
    age = stock_age(backend(cars), as_of=AS_OF).table.row(0, named=True)
    assert (age["n_in_stock"], age["n"], age["estimate"], age["p90"]) == (2, 4, 20.0, None)
    turns = stock_turnover(backend(cars), since=date(2026, 6, 1), as_of=AS_OF)
    row = turns.table.row(0, named=True)
    car_days = 10 + 20 + 30 + 30
    assert row["average_stock"] == pytest.approx(car_days / 30)
    assert row["estimate"] == pytest.approx(2 / (car_days / 365.25))
    assert row["days_of_supply"] == pytest.approx(45)


def test_lost_for_want_of_a_car_by_hand(backend: Backend) -> None:
    leads = pl.DataFrame(
        {"lost_reason": ["availability", "price", "price", "price", None],
         "closed_at": [date(2026, 1, 5)] * 5}
    )  # fmt: skip
    found = lost_for_want_of_stock(backend(leads), as_of=AS_OF).table.row(0, named=True)
    assert (found["n_lost"], found["n"], found["estimate"]) == (1, 4, 0.25)


# --- the cube -----------------------------------------------------------------------------------


def test_a_cube_by_hand(backend: Backend) -> None:
    cube = sales_cube(
        backend(some_sales()), value_col="revenue", statistic="sum", least_n=1,
        by=["dealership", "pay"], as_of=AS_OF,
    )  # fmt: skip
    cells = {(row["dealership"], row["pay"]): row["estimate"] for row in cube.table.to_dicts()}
    assert cells[("all", "all")] == 475.0
    assert cells[("a", "all")] == 190.0
    assert cells[("all", "credit")] == 280.0
    assert cells[("not_recorded", "not_recorded")] == 95.0
    assert cube.wide("pay").columns == ["dealership", "all", "cash", "credit", "not_recorded"]


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_no_hidden_cell_can_be_worked_out(seed: int, n_dims: int) -> None:
    """For each hidden number another solution of all equations exists (scipy's null space)."""
    rng = np.random.default_rng(seed)
    dims = tuple("xyz"[:n_dims])
    drawn = rng.integers(0, rng.integers(2, 5), size=(rng.integers(1, 50), n_dims))
    cells = pl.DataFrame({d: [str(v) for v in drawn[:, i]] for i, d in enumerate(dims)})
    table = with_subtotals(cells.group_by(dims).len("n"), dims, ("n",))
    lines = lines_of(table, dims)
    n = table["n"].to_numpy().astype(np.int64)
    primary, hidden = suppressed(n, lines, 5)
    assert (primary == ((n > 0) & (n < 5))).all()
    assert hidden[primary].all()
    unknown = np.flatnonzero(hidden).tolist()
    equations = [
        [float(row in line.parts) - float(row == line.total) for row in unknown] for line in lines
    ]
    if unknown:
        free = null_space(np.array(equations))
        assert (np.abs(free).max(axis=1, initial=0) > 1e-9).all()


def test_a_cube_leaves_whole_and_is_not_too_fine(tmp_path: Path) -> None:
    cube = sales_cube(some_sales(), least_n=1, by="dealership", as_of=AS_OF)
    back = pl.read_csv(cube.to_csv(tmp_path / "cube.csv"))
    assert back["n"].to_list() == cube.table["n"].to_list()
    assert pl.read_parquet(cube.to_parquet(tmp_path / "cube.parquet")).equals(cube.table)
    with pytest.raises(InputError, match=r"\.parquet"):
        cube.to_parquet(tmp_path / "cube.xlsx")
    with pytest.raises(InputError, match="0 dimensions"):
        sales_cube(some_sales(), as_of=AS_OF)
    fine = pl.DataFrame({"contract_on": [AS_OF] * 500, "customer_id": range(500)})
    with pytest.raises(InputError, match="coarser"):
        sales_cube(fine, by="customer_id", as_of=AS_OF)


# --- the mix ------------------------------------------------------------------------------------


def mixed(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> pl.DataFrame:
    rows = [
        (group, day, float(i < yes))
        for day, cells in ((date(2025, 1, 5), before), (date(2025, 7, 5), after))
        for group, (yes, n) in cells.items()
        for i in range(n)
    ]
    return pl.DataFrame(rows, schema=["source", "opened_at", "yes"], orient="row")


def test_a_mix_by_hand_and_simpsons_paradox(backend: Backend) -> None:
    """Both groups do better (.1 to .2, .5 to .6), the whole worse: the poorer one grew.

    Before: 20 % x .1 + 80 % x .5 = .42; after: 80 % x .2 + 20 % x .6 = .28. Rates: .5 x .1 + .5 x
    .1 = .10; mix: .6 x .15 - .6 x .55 = -.24.
    """
    leads = mixed({"a": (2, 20), "b": (40, 80)}, {"a": (16, 80), "b": (12, 20)})
    found = mix_decomposition(
        backend(leads), group_col="source", yes_col="yes", since=date(2025, 1, 1),
        split_on=date(2025, 7, 1), as_of=date(2025, 12, 31),
    )  # fmt: skip
    assert found.table["estimate"].to_list() == pytest.approx([-0.14, 0.10, -0.24])
    assert found.reversed_everywhere
    assert "every group the other" in str(found)
    with pytest.raises(InputError, match="follow one another"):
        mix_decomposition(
            leads, group_col="source", yes_col="yes", since=AS_OF, split_on=AS_OF, as_of=AS_OF
        )


# --- problems -----------------------------------------------------------------------------------


def by_group(name: str, values: list[float], errors: list[float]) -> Estimates:
    table = pl.DataFrame(
        {"team": list("abcdefgh")[: len(values)], "n": [100] * len(values), "estimate": values,
         "std_error": errors, "conf_low": values, "conf_high": values}
    )  # fmt: skip
    return Estimates(table=table, name=name, unit="share", definition="", by=("team",))


def test_problems_by_hand() -> None:
    """One of four is .3 below the others' .5, with errors of .05: z = -.3 / sqrt(.05^2 * 4 / 3)."""
    found = problem_finder([by_group("x", [0.5, 0.5, 0.5, 0.2], [0.05] * 4)])
    assert found.table.select("group", "estimate").rows() == [("d", pytest.approx(-0.3))]
    z = -0.3 / np.sqrt(0.05**2 * 4 / 3)
    assert found.table["p_value"].item() == pytest.approx(norm.cdf(z))
    assert found.table["q_value"].item() == pytest.approx(4 * norm.cdf(z))
    high = by_group("waiting", [0.5, 0.5, 0.5, 0.2], [0.05] * 4)
    assert "d" not in problem_finder([high], high_is_bad=["waiting"]).table["group"].to_list()
    with pytest.raises(InputError, match="high_is_bad"):
        problem_finder([high], high_is_bad=["wating"])


def test_problems_are_few_where_there_are_none() -> None:
    """With no group worse, anything at all is found in at most 10 % of worlds: 14 of 60 or more
    has probability .001."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noise = [by_group(name, rng.normal(0.5, 0.05, 8).tolist(), [0.05] * 8) for name in "xyz"]
        alarms += problem_finder(noise).table.height > 0
    assert alarms < 14


# --- nothing ------------------------------------------------------------------------------------


def test_of_nothing_nothing_is_said() -> None:
    asked: dict[str, Any] = {"as_of": AS_OF}
    sales, spend = some_sales().clear(), ads(AS_OF, 1).clear()
    plan = pl.DataFrame(
        schema={"dealership": pl.String, "name": pl.String, "starts_on": pl.Date,
                "ends_on": pl.Date, "held_out": pl.Boolean}
    )  # fmt: skip
    leads = daily_leads({}, AS_OF).cast({"opened_at": pl.Date})
    mix = pl.DataFrame(schema={"source": pl.String, "yes": pl.Float64, "opened_at": pl.Date})
    results: list[Estimates] = [
        price_position(sales, **asked),
        price_position(sales, by="dealership", **asked),
        payment_mix(sales, **asked),
        average_deal(sales, **asked),
        acquisition_cost(some_purchases().clear(), spend=spend, **asked),
        payback(some_purchases().clear(), spend=spend, **asked),
        staggered_effect(leads, plan=plan, **asked),
        staggered_effect(
            leads, plan=plan.with_columns(channel=pl.lit("radio")), by="channel", **asked
        ),
        interrupted_effect(leads, windows=[(AS_OF, AS_OF)], **asked),
        mix_decomposition(
            mix, group_col="source", yes_col="yes", since=date(2025, 1, 1),
            split_on=date(2025, 6, 1), **asked,
        ),
        problem_finder([]),
    ]  # fmt: skip
    for result in results:
        assert result.table["estimate"].is_null().all()
        assert result.show().finding


# --- money that changed -------------------------------------------------------------------------


def sold_in(before: dict[str, list[float]], after: dict[str, list[float]]) -> pl.DataFrame:
    rows = [
        (group, day, value)
        for day, cells in ((date(2025, 1, 5), before), (date(2025, 7, 5), after))
        for group, values in cells.items()
        for value in values
    ]
    return pl.DataFrame(rows, schema=["dealership", "contract_on", "margin"], orient="row")


HALVES: dict[str, Any] = {
    "since": date(2025, 1, 1), "split_on": date(2025, 7, 1), "as_of": date(2025, 12, 31),
}  # fmt: skip


def test_money_is_taken_apart_by_hand(backend: Backend) -> None:
    """Before: 2 of 100 and 2 of 300 (800 of 4); after: 4 of 110 and 2 of 280 (1,000 of 6).

    R is 200, then 166.67. Volume: 2 x 183.33 = 366.67. Mix, with N = 5 on average: 5 x (105 x .1667
    - 290 x .1667) = -154.17. Rate: 5 x (.5833 x 10 - .4167 x 20) = -12.5. Together 200.
    """
    sales = sold_in({"a": [100.0] * 2, "b": [300.0] * 2}, {"a": [110.0] * 4, "b": [280.0] * 2})
    found = value_change(backend(sales), **HALVES)
    change, volume, mix, rate = found.table["estimate"].to_list()
    assert change == 200
    assert (volume, mix, rate) == pytest.approx((366.667, -154.167, -12.5), abs=1e-3)
    assert volume + mix + rate == pytest.approx(change)
    assert found.total().table["estimate"].item() == 1_000
    assert found.before().table["estimate"].item() == 800
    by_group = found.by_group().table
    assert by_group.select("dealership", "estimate").rows() == [("a", 240), ("b", -40)]
    # A sum of a Poisson number of values has the variance of the sum of their squares.
    squares = 2 * 100**2 + 4 * 110**2
    assert by_group["std_error"][0] == pytest.approx(np.sqrt(squares))


def test_every_deal_worth_more_and_the_whole_worth_less() -> None:
    """Both groups rise (10 to 12, 100 to 110), and the poor one becomes most of all."""
    sales = sold_in({"a": [10.0] * 20, "b": [100.0] * 80}, {"a": [12.0] * 80, "b": [110.0] * 20})
    found = value_change(sales, **HALVES)
    assert found.reversed_everywhere
    assert found.importance() > 0
    assert "in every group the other" in str(found)


def test_a_period_or_a_group_without_deals() -> None:
    alone = value_change(sold_in({}, {"a": [5.0, 7.0]}), **HALVES)
    assert alone.table["estimate"].to_list() == [12, None, None, None]
    new = value_change(sold_in({"a": [5.0]}, {"a": [5.0], "b": [9.0]}), **HALVES)
    assert new.table["estimate"].sum() == pytest.approx(2 * 9)  # the change, and its parts
    nothing = value_change(sold_in({}, {"a": [5.0]}).clear(), **HALVES)
    assert nothing.table["estimate"].is_null().all()
    assert str(nothing).endswith("nothing can be said (n = 0).")
    with pytest.raises(InputError, match="follow one another"):
        value_change(sold_in({}, {}), since=AS_OF, split_on=AS_OF, as_of=AS_OF)


COVERED_LEAST = 179
"""Of 200 intervals of 95 %, so many or more hold the truth with probability .9995."""


def test_the_parts_of_a_change_are_covered() -> None:
    """Poisson numbers and skewed values in three groups: each interval holds the truth of the
    formula in as many worlds as it says."""
    rng = np.random.default_rng(7)
    rates, means = np.array([[60, 40], [30, 50], [20, 15]]), np.array([[9, 11], [30, 25], [5, 5]])
    truth = _effects(rates.astype(float), (rates * means).astype(float))
    held = np.zeros(4)
    for _world in range(200):
        before, after = (
            {g: rng.gamma(2, means[i, t] / 2, rng.poisson(rates[i, t])).tolist()
             for i, g in enumerate("abc")}
            for t in (0, 1)
        )  # fmt: skip
        found = value_change(sold_in(before, after), **HALVES).table
        held += (found["conf_low"].to_numpy() <= truth) & (truth <= found["conf_high"].to_numpy())
    assert held.min() >= COVERED_LEAST


# --- what problems cost -------------------------------------------------------------------------


def test_a_problem_says_how_many_are_missing() -> None:
    """30 points below the others over 100 cases: 30 missing, with the ends of the difference."""
    (loss,) = problem_finder([by_group("Won", [0.5, 0.5, 0.5, 0.2], [0.05] * 4)]).losses()
    row = loss.table.row(0, named=True)
    assert "d, Won: 20.0%, elsewhere 50.0%" in str(loss)
    low, high = round(-100 * row["conf_high"]), round(-100 * row["conf_low"])
    assert f"30 ({low} to {high}) missing of 100" in str(loss)
    assert loss.importance() > 0
    late = replace(by_group("Late", [0.1, 0.1, 0.1, 0.4], [0.05] * 4), better="lower")
    (much,) = problem_finder([late]).losses()
    assert "too many of 100" in str(much)


def test_a_problem_says_what_its_cases_are_worth() -> None:
    """30 of 100 missing at 200 +- 20 each: 6,000, its half width by the rule for a product."""
    figure = by_group("Won", [0.5, 0.5, 0.5, 0.2], [0.05] * 4)
    table = pl.DataFrame(
        {"team": list("abcd"), "n": [50] * 4, "estimate": [100.0, 100.0, 100.0, 200.0],
         "std_error": [10.0] * 4, "conf_low": [80.0, 80.0, 80.0, 180.0],
         "conf_high": [120.0, 120.0, 120.0, 220.0]}
    )  # fmt: skip
    each = Estimates(table=table, name="Margin", unit="money", definition="", by=("team",))
    row = problem_finder([figure], worth={"Won": each}).table.row(0, named=True)
    assert (row["worth"], row["money"]) == (200.0, pytest.approx(6000.0))
    half = 100 * (row["conf_high"] - row["conf_low"]) / 2
    wide = float(np.hypot(200 * half, 30 * 20))
    assert row["money_low"] == pytest.approx(6000 - wide)
    assert row["money_high"] == pytest.approx(6000 + wide)
    (loss,) = problem_finder([figure], worth={"Won": each}).losses()
    assert "at 200 each" in str(loss)
    assert problem_finder([figure]).table["money"].is_null().all()
    with pytest.raises(InputError, match="worth names 'Wno'"):
        problem_finder([figure], worth={"Wno": each})
    with pytest.raises(InputError, match="Pass a mean in money"):
        problem_finder([figure], worth={"Won": figure})


def test_points_of_a_score_are_counted_in_answers() -> None:
    """30 points of 100 answers: 30 promoters fewer, or detractors more."""
    score = replace(by_group("Score", [50.0, 50.0, 50.0, 20.0], [5.0] * 4), unit="points")
    (loss,) = problem_finder([score]).losses()
    assert "30 (" in str(loss)
    assert "promoters fewer or detractors more among 100 answers" in str(loss)


def test_one_group_alone_is_held_against_the_others() -> None:
    figures = [by_group("Won", [0.5, 0.5, 0.5, 0.2], [0.05] * 4)]
    assert problem_finder(figures, only="a").n_compared == 1
    assert problem_finder(figures, only="a").table.is_empty()
    alone = problem_finder(figures, only="d")
    # Of one group compared, one is named: its interval is the plain one of 95 %.
    assert alone.table["conf_high"].item() == pytest.approx(-0.3 + 1.959964 * 0.05 * np.sqrt(4 / 3))


def test_the_table_of_problems_speaks_each_figures_unit() -> None:
    money = replace(by_group("Margin", [90.0, 100.0, 100.0, 100.0], [1.0] * 4), unit="money")
    shown = problem_finder([money, by_group("Won", [0.5, 0.5, 0.5, 0.2], [0.05] * 4)]).show()
    assert shown.figure is None
    assert shown.table is not None
    cells = [row[2:4] for row in shown.table.rows]
    assert sorted(cells) == [("20.0%", "50.0%"), ("90", "100")]
