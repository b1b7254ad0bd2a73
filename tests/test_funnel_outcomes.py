"""What becomes of leads and how they compare: differences, losses, what stands still, velocity."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from crm_analysis.errors import InputError
from crm_analysis.funnel import (
    conversion_difference,
    loss_reasons,
    loss_stage,
    pipeline_velocity,
    stalled_leads,
    time_in_stage,
)
from crm_analysis.funnel.attempts import _count_planned, _count_sorted
from crm_analysis.funnel.lead_events import Columns, open_events, with_stage_text
from crm_analysis.funnel.sorted_events import sort_events
from crm_analysis.funnel.stays import count_stays

EXACT = 1e-12
"""Two ways to the same arithmetic; only rounding may differ."""

WILSON_IN_STATSMODELS = 1e-6
"""statsmodels computes the same interval by another route."""

FIRST = date(2026, 1, 1)
AS_OF = date(2026, 6, 30)
STEPS = ("new", "visit", "sale")
ToBackend = Callable[[pl.DataFrame], Any]


def events_of(*rows: tuple[Any, ...], by: Sequence[str] = ()) -> pl.DataFrame:
    """Rows of lead, stage, day after the first, and groups."""
    schema = ["opportunity_id", "stage", "day", *by]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        happened_at=pl.lit(FIRST) + pl.duration(days="day")
    )


def won_of(groups: dict[str | None, tuple[int, int]]) -> pl.DataFrame:
    """Leads by group, k of n of which buy on the day they come."""
    rows = [
        (f"{group}{i}", stage, 0, group)
        for group, (k, n) in groups.items()
        for i in range(n)
        for stage in (("new", "sale") if i < k else ("new",))
    ]
    return events_of(*rows, by=["source"])


def compare(events: pl.DataFrame, **asked: Any) -> pl.DataFrame:
    given_: dict[str, Any] = {
        "steps": ["new", "sale"],
        "within_days": 30,
        "as_of": AS_OF,
        "by": "source",
    } | asked
    return conversion_difference(events, **given_).table


# --- one sort instead of a plan -------------------------------------------------------------------

problems = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([*STEPS, "lost", "x"]), st.integers(0, 40)),
    min_size=1, max_size=14,
)  # fmt: skip


@pytest.mark.parametrize("anchor", ["attempt", "first"])
@settings(max_examples=40, deadline=None)
@given(rows=problems, window=st.integers(0, 20), sparse=st.booleans())
def test_the_sort_counts_what_the_plan_counts(
    rows: list[Any], window: int, sparse: bool, anchor: Any
) -> None:
    spread = 10**12 if sparse else 1
    events = events_of(*[(lead * spread, s, day, lead % 2) for lead, s, day in rows], by=["g"])
    end, seconds = 10**10, window * 86_400
    columns, asked = Columns("opportunity_id", "stage", "happened_at"), ("g",)
    frame = open_events(events, columns, asked)
    sorted_events = sort_events(frame, STEPS, end, asked, "opportunity_id")
    assert sorted_events is not None
    cutoff = (FIRST - date(1970, 1, 1)).days * 86_400 + 30 * 86_400
    found = _count_sorted(sorted_events, len(STEPS), seconds, cutoff, anchor, asked)
    plan = with_stage_text(frame)
    wanted = _count_planned(plan, STEPS, seconds, cutoff, "ordered", anchor, asked).drop("mixed")
    counted = pl.col("depth", "young", "n_units").cast(pl.Int64)
    assert_frame_equal(found, wanted.with_columns(counted), check_row_order=False)


@settings(max_examples=25, deadline=None)
@given(rows=problems)
def test_stays_are_the_same_by_the_sort_and_by_the_plan(rows: list[Any]) -> None:
    import duckdb

    events = events_of(*rows)
    asked: dict[str, Any] = {
        "columns": Columns("opportunity_id", "stage", "happened_at"), "stages": STEPS,
        "end_stages": ("lost",), "as_of": FIRST + timedelta(30),
    }  # fmt: skip
    with duckdb.connect() as base:
        planned = count_stays(
            open_events(base.from_arrow(events.to_arrow()), asked["columns"], ()), **asked
        )
    made = count_stays(open_events(events, asked["columns"], ()), **asked)
    assert [one.step for one in made] == [one.step for one in planned]
    for one, other in zip(made, planned, strict=True):
        assert one.minutes.tolist() == other.minutes.tolist()
        assert one.n.tolist() == other.n.tolist()


def test_ids_too_wide_for_one_number_are_renumbered_or_left_to_the_plan() -> None:
    wide = events_of((-(2**62), "new", 0), (2**62, "new", 1), (2**62, "sale", 2))
    text = wide.with_columns(pl.col("opportunity_id").cast(pl.String))
    for events in (wide, text):
        frame = open_events(events, Columns("opportunity_id", "stage", "happened_at"), ())
        made = sort_events(frame, ("new", "sale"), 10**10, (), "opportunity_id")
        assert made is not None
        assert [block.n_leads for block in made.blocks()] == [2]


@pytest.mark.parametrize("low", [-3, 10**6, -(10**12)])
def test_groups_by_number_are_those_by_name(low: int) -> None:
    rows = [
        (lead, stage, day + lead, None if lead % 5 == 4 else low + 10**7 * (lead % 5))
        for lead in range(20)
        for day, stage in enumerate(STEPS[: 1 + lead % 3])
    ]
    near = [(lead, stage, day, None if g is None else low + (g - low) // 10**6) for
            lead, stage, day, g in rows]  # fmt: skip
    for numbered in (rows, near):
        events = events_of(*numbered, by=["g"])
        named = events.with_columns(pl.col("g").cast(pl.String).str.zfill(20))
        asked: dict[str, Any] = {"stages": STEPS, "as_of": AS_OF, "by": "g"}
        made, wanted = (time_in_stage(one, **asked).table for one in (events, named))
        by_stage = ["stage", "n", "n_moved_on", "n_open", "estimate"]
        as_rows = [sorted(one.select(by_stage).rows(), key=str) for one in (made, wanted)]
        assert as_rows[0] == as_rows[1]
        assert set(made["g"]) == set(events["g"])


# --- differences ----------------------------------------------------------------------------------


def test_a_difference_is_newcombes_of_1998() -> None:
    """Newcombe (1998), table II, contrast (a): 56/70 against 48/80, method 10."""
    table = compare(won_of({"a": (56, 70), "b": (48, 80)}), reference="b")
    row = table.row(0, named=True)
    assert (row["n"], row["n_other"], row["estimate"]) == (70, 80, pytest.approx(0.2))
    assert [round(row[bound], 4) for bound in ("conf_low", "conf_high")] == [0.0524, 0.3339]
    assert row["rate_ratio"] == pytest.approx((56 / 70) / (48 / 80))


def test_the_p_value_is_the_published_z_test() -> None:
    """statsmodels' documented example: 5 of 83 against 12 of 99, z = -1.4078, p = .159."""
    row = compare(won_of({"a": (5, 83), "b": (12, 99)}), reference="b").row(0, named=True)
    assert row["p_value"] == pytest.approx(0.15918129181156992, abs=EXACT)
    assert row["p_value"] == pytest.approx(proportions_ztest([5, 12], [83, 99])[1], abs=EXACT)
    assert row["p_adjusted"] == row["p_value"]


def test_the_ratio_is_that_of_statsmodels() -> None:
    row = compare(won_of({"a": (30, 90), "b": (12, 80)}), reference="b").row(0, named=True)
    low, high = confint_proportions_2indep(30, 90, 12, 80, method="log", compare="ratio")
    assert row["rate_ratio_low"] == pytest.approx(low, abs=WILSON_IN_STATSMODELS)
    assert row["rate_ratio_high"] == pytest.approx(high, abs=WILSON_IN_STATSMODELS)


def test_each_group_is_held_against_all_others_and_adjusted_for_all() -> None:
    table = compare(won_of({"a": (50, 100), "b": (20, 100), "c": (30, 100), None: (30, 90)}))
    assert table["n_other"].to_list() == [290, 290, 290, 300]
    assert table["n_reached_other"].to_list() == [80, 110, 100, 100]
    # Holm by hand: the smallest p four times, the next three times, …, and never falling.
    p = sorted(table["p_value"].to_list())
    running, wanted = 0.0, []
    for k, one in zip((4, 3, 2, 1), p, strict=True):
        running = max(running, min(1.0, k * one))
        wanted.append(running)
    assert sorted(table["p_adjusted"].to_list()) == pytest.approx(wanted, abs=EXACT)


def test_two_groups_make_one_comparison_of_the_smaller_with_the_larger() -> None:
    result = conversion_difference(
        won_of({"a": (10, 100), "b": (20, 50)}), steps=["new", "sale"], within_days=30,
        as_of=AS_OF, by="source",
    )  # fmt: skip
    assert result.table["source"].to_list() == ["b"]
    assert "b: 40.0% against 10.0%" in str(result)


def test_two_periods_are_compared_without_groups() -> None:
    now, past = won_of({"a": (30, 100)}), won_of({"a": (50, 100)})
    result = conversion_difference(
        now, before=past, steps=["new", "sale"], within_days=30, as_of=AS_OF
    )
    row = result.table.row(0, named=True)
    assert row["estimate"] == pytest.approx(-0.2)
    assert (row["rate"], row["rate_other"]) == (0.3, 0.5)
    assert "the period before" in str(result)
    shown = result.show().table
    assert shown is not None
    told = {column.label: cell for column, cell in zip(shown.columns, shown.rows[0], strict=True)}
    assert told["Estimate, points"] == "−20.0"  # a difference of shares is no share
    assert told["Conversion"] == "30.0%"
    axes = result.plot(Figure().subplots())
    assert axes.get_xlabel() == "percentage points"
    assert not any("%" in label.get_text() for label in axes.get_xticklabels())


def test_equal_groups_are_not_told_apart_and_nobody_converting_is_no_evidence() -> None:
    alike = conversion_difference(
        won_of(dict.fromkeys("abc", (20, 100))), steps=["new", "sale"], within_days=30,
        as_of=AS_OF, by="source",
    )  # fmt: skip
    assert alike.established().is_empty()
    assert "not one is established" in str(alike)
    assert isinstance(alike.plot(Figure().subplots()).get_title(), str)
    nobody = compare(won_of({"a": (0, 50), "b": (0, 60), "c": (0, 10)}).vstack(
        events_of(("z", "sale", 0, "a"), by=["source"])))  # fmt: skip
    assert nobody["p_value"].to_list() == [1.0, 1.0, 1.0]
    assert nobody["rate_ratio"].null_count() == 3


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"by": ()}, "either 'by'"),
        ({"before": pl.DataFrame()}, "either 'by'"),
        ({"reference": "nowhere"}, "there are: a, b, c"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare(won_of({"a": (1, 2), "b": (1, 2), "c": (1, 2)}), **asked)


def test_one_group_alone_is_compared_with_nothing() -> None:
    alone = conversion_difference(
        won_of({"a": (1, 40)}), steps=["new", "sale"], within_days=30, as_of=AS_OF, by="source"
    )
    assert alone.table.is_empty()
    assert "nothing can be said" in str(alone)
    assert any("no two groups" in note for note in alone.notes)


def test_a_side_without_a_lead_old_enough_leaves_nothing_to_say() -> None:
    now, young = won_of({"a": (0, 1)}), events_of(("y", "new", 175, "a"), by=["source"])
    sold = events_of(("z", "sale", 0, "a"), by=["source"])  # the stage is known, no lead reached it
    result = conversion_difference(
        now.vstack(sold), before=young.vstack(sold), steps=["new", "sale"], within_days=30,
        as_of=AS_OF,
    )  # fmt: skip
    row = result.table.row(0, named=True)
    assert (row["n"], row["n_other"]) == (1, 0)
    assert [row[name] for name in ("estimate", "conf_low", "p_value", "p_adjusted")] == [None] * 4
    assert "nothing can be said" in str(result)


def test_differences_are_the_same_on_every_backend(backend: ToBackend) -> None:
    events = won_of({"a": (50, 100), "b": (20, 100), "c": (30, 100)})
    assert_frame_equal(compare(backend(events)), compare(events))


# --- reasons and stages of loss -------------------------------------------------------------------


def leads_of(*rows: tuple[int, int | None, int | None, str | None]) -> pl.DataFrame:
    """Days of opening, winning and closing, and the reason."""
    schema = {"o": pl.Int64, "w": pl.Int64, "c": pl.Int64, "lost_reason": pl.String}
    days = pl.DataFrame(rows, schema=schema, orient="row")
    return days.select(
        "lost_reason",
        *[(pl.lit(FIRST) + pl.duration(days=x)).alias(name)
          for x, name in (("o", "opened_at"), ("w", "won_at"), ("c", "closed_at"))],
    )  # fmt: skip


def slow_incidence(rows: Sequence[tuple[int, str | None]], cause: str, at: int) -> float:
    """Day by day: whoever is there, times the share of those there that go of this cause."""
    there, incidence = 1.0, 0.0
    for day in sorted({d for d, c in rows if c is not None and d <= at}):
        n = sum(d >= day for d, _ in rows)
        own = sum(d == day and c == cause for d, c in rows)
        gone = sum(d == day and c is not None for d, c in rows)
        incidence += there * own / n
        there *= 1 - gone / n
    return incidence


def test_reasons_compete_with_one_another_and_with_winning() -> None:
    rng = np.random.default_rng(3)
    rows: list[tuple[int, int | None, int | None, str | None]] = []
    slow: list[tuple[int, str | None]] = []
    for _ in range(60):
        days, opened = int(rng.integers(1, 40)), int(rng.integers(0, 30))
        kind = rng.choice(["won", "price", "no_answer", "open"])
        end = 45 - opened
        if kind == "open" or days > end:
            rows.append((opened, None, None, None))
            slow.append((end, None))
        else:
            won = opened + days if kind == "won" else None
            reason = None if kind == "won" else str(kind)
            rows.append((opened, won, opened + days, reason))
            slow.append((days, str(kind)))
    table = loss_reasons(leads_of(*rows), within_days=20, as_of=FIRST + timedelta(45)).table
    for row in table.to_dicts():
        wanted = slow_incidence(slow, row["outcome"], 20)
        assert row["estimate"] == pytest.approx(wanted, abs=EXACT)
        assert row["conf_low"] <= row["estimate"] <= row["conf_high"]


def test_shares_are_of_losses_with_a_known_reason() -> None:
    lost = [(0, None, 5, "price")] * 3 + [(0, None, 6, "rival")] + [(0, None, 7, None)] * 4
    result = loss_reasons(leads_of(*lost, (0, 3, 9, None)), within_days=30, as_of=AS_OF)
    found = {row["outcome"]: row for row in result.table.to_dicts()}
    assert found["price"]["loss_share"] == 0.75
    assert found["rival"]["loss_share"] == 0.25
    assert found[None]["loss_share"] is None
    assert found[None]["n_lost"] == 4
    assert found["won"]["estimate"] == pytest.approx(1 / 9)
    assert any("4 have no reason (50.0%)" in note for note in result.notes)


def test_a_contract_that_came_first_is_not_undone_by_a_later_end() -> None:
    table = loss_reasons(leads_of((0, 2, 9, "price")), within_days=30, as_of=AS_OF).table
    assert table.select("outcome", "estimate").rows() == [("won", 1.0)]


def test_what_nobody_was_watched_for_is_not_known() -> None:
    result = loss_reasons(leads_of((0, None, 1, "price"), (0, None, None, None)), within_days=90,
                          as_of=FIRST + timedelta(5))  # fmt: skip
    assert result.table["estimate"].null_count() == 2
    assert any("watched for so many days" in note for note in result.notes)
    empty = loss_reasons(leads_of(), within_days=90, as_of=AS_OF)
    assert empty.table.is_empty()
    assert "nothing can be said" in str(empty)


def test_leads_closed_before_they_were_opened_are_refused() -> None:
    with pytest.raises(InputError, match="before they were opened"):
        loss_reasons(leads_of((5, None, 1, "price")), as_of=AS_OF)


def test_reasons_are_the_same_on_every_backend(backend: ToBackend) -> None:
    rows = [(i % 9, 20 if i % 5 == 0 else None, 11 + i % 7, ("price", "rival", None)[i % 3])
            for i in range(40)]  # fmt: skip
    leads = leads_of(*rows)
    asked: dict[str, Any] = {"within_days": 15, "as_of": AS_OF}
    assert_frame_equal(loss_reasons(backend(leads), **asked).table,
                       loss_reasons(leads, **asked).table)  # fmt: skip


def test_a_lead_is_lost_at_the_last_stage_it_came_to() -> None:
    rows = [(1, "new", 0), (1, "lost", 2), (2, "new", 0), (2, "visit", 1), (2, "lost", 9),
            (3, "new", 0), (3, "visit", 1), (3, "sale", 3), (4, "new", 0)]  # fmt: skip
    result = loss_stage(events_of(*rows), stages=STEPS, within_days=5, as_of=AS_OF)
    columns = ("stage", "n", "n_moved_on", "n_lost", "n_open", "loss_share")
    assert result.table.select(columns).rows() == [
        ("new", 4, 2, 1, 1, 0.5),
        ("visit", 2, 1, 1, 0, 0.5),
    ]
    # Within 5 days one of four is lost at the first stage, and none of two at the visit.
    assert result.table["estimate"].to_list() == pytest.approx([0.25, 0.0])
    assert "Leads lost at a stage: most often" in str(result)


# --- what stands still ----------------------------------------------------------------------------


def test_leads_stand_still_past_the_time_of_nine_in_ten() -> None:
    rows: list[tuple[Any, ...]] = []
    for lead in range(100):  # go on after 1 to 10 days, ten leads each
        rows += [(lead, "new", 0), (lead, "visit", 1 + lead % 10), (lead, "lost", 40)]
    last = (AS_OF - FIRST).days
    rows += [(200 + i, "new", last - age) for i, age in enumerate([2, 8, 9, 10, 30])]
    result = stalled_leads(events_of(*rows), stages=STEPS[:2], as_of=AS_OF)
    row = result.table.row(0, named=True)
    assert (row["limit_days"], row["n"], row["n_moved_on"]) == (9.0, 5, 100)
    # An age runs to the end of the last day: the one of nine days is just past its limit.
    assert row["n_stalled"] == 3
    assert row["estimate"] == 0.6
    assert row["oldest_days"] == pytest.approx(31 - 1 / 1440, abs=EXACT)
    assert "3 of 5 stand there longer than the 9.0 days" in str(result)
    assert result.total().table["n"].item() == 5


def test_where_few_went_on_nobody_is_judged() -> None:
    result = stalled_leads(
        events_of((1, "new", 0), (2, "new", 0), (2, "visit", 1)), stages=STEPS[:2], as_of=AS_OF
    )
    assert result.table["estimate"].null_count() == 1
    assert any("1 open lead" in note for note in result.notes)
    assert "no open lead can be judged" in str(result)
    with pytest.raises(InputError, match="between 0 and 1"):
        stalled_leads(events_of((1, "new", 0)), stages=STEPS, quantile=90, as_of=AS_OF)


def test_stalled_leads_are_the_same_on_every_backend(backend: ToBackend) -> None:
    rows = [
        (i, stage, i % 13 + day, i % 2)
        for i in range(90)
        for stage, day in (("new", 0), ("visit", i % 11))
        if stage == "new" or i % 3
    ]
    events = events_of(*rows, by=["half"])
    asked: dict[str, Any] = {"stages": STEPS[:2], "as_of": AS_OF, "by": "half"}
    assert_frame_equal(stalled_leads(backend(events), **asked).table,
                       stalled_leads(events, **asked).table)  # fmt: skip


# --- velocity -------------------------------------------------------------------------------------


def selling(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    won = rng.random(n) < 0.2
    cycle = rng.gamma(4, 6, n).astype(int) + 1
    margin = rng.gamma(3, 500, n)
    ends = np.where(won, cycle, 20)
    return leads_of(*[(0, int(c) if w else None, int(e), None)
                      for w, c, e in zip(won, cycle, ends, strict=True)]).with_columns(
        margin=pl.Series(np.where(won, margin, np.nan)).fill_nan(None)
    ).vstack(leads_of(*[(170, None, None, None)] * 30).with_columns(
        margin=pl.lit(None, pl.Float64)))  # fmt: skip


def test_velocity_is_leads_in_work_times_margin_per_day_of_work() -> None:
    rows = [(0, 10, 10, None), (0, 30, 30, None), (0, None, 5, None), (0, None, 6, None)]
    leads = leads_of(*rows, *[(170, None, None, None)] * 10).with_columns(
        margin=pl.Series([1000.0, 3000.0, *[None] * 12])
    )
    row = pipeline_velocity(leads, as_of=AS_OF).table.row(0, named=True)
    assert (row["n_open"], row["win_rate"], row["mean_margin"]) == (10, 0.5, 2000.0)
    assert (row["cycle_days"], row["classic"], row["n"]) == (20.0, 500.0, 4)
    # 4,000 of margin in 10 + 30 + 5 + 6 days of work, and 10 leads in work.
    assert row["estimate"] == pytest.approx(10 * 4000 / 51, abs=EXACT)


def test_velocity_is_the_flow_of_margin_though_lost_leads_linger() -> None:
    # Two leads come a day; one in five is won after 10 days, the others are lost after 50.
    n, day = 400, 90
    won = np.arange(n) % 5 == 0
    opened, lasts = np.arange(n) // 2, np.where(np.arange(n) % 5 == 0, 10, 50)
    rows = [
        (int(o), int(o + k) if w and o + k <= 199 else None, int(o + k) if o + k <= 199 else None,
         None)
        for o, k, w in zip(opened, lasts, won, strict=True)
    ]  # fmt: skip
    leads = leads_of(*rows).with_columns(margin=pl.Series([1000.0 if w else None for w in won]))
    row = pipeline_velocity(
        leads, within_days=day, as_of=FIRST + timedelta(199)
    ).table.row(0, named=True)  # fmt: skip
    flow = 2 * 0.2 * 1000
    # As many leads are in work as Little's law says, but for the rounding of whole days.
    assert row["n_open"] == pytest.approx(2 * (0.2 * 10 + 0.8 * 50), abs=2)
    assert row["estimate"] == pytest.approx(flow, rel=0.03)
    assert row["classic"] == pytest.approx(flow * (0.2 * 10 + 0.8 * 50) / 10, rel=0.03)


def test_velocitys_interval_is_that_of_the_bootstrap() -> None:
    leads = selling(600, seed=5)
    row = pipeline_velocity(leads, as_of=AS_OF).table.row(0, named=True)
    kept = leads.filter(pl.col("opened_at") == FIRST)
    days = (kept["won_at"] - kept["opened_at"]).dt.total_days().fill_null(0).to_numpy()
    won, money = kept["won_at"].is_not_null().to_numpy(), kept["margin"].fill_null(0).to_numpy()
    work = (kept["closed_at"] - kept["opened_at"]).dt.total_days().to_numpy()
    rng, draws = np.random.default_rng(1), []
    for _ in range(2000):
        some = rng.integers(0, len(won), len(won))
        usual = 30 * won[some].mean() * money[some].sum() / days[some].sum()
        draws.append((30 * money[some].sum() / work[some].sum(), usual))
    lows, highs = np.quantile(draws, [0.025, 0.975], axis=0)
    bounds = (("conf_low", "conf_high"), ("classic_low", "classic_high"))
    for names, low, high in zip(bounds, lows, highs, strict=True):
        # The two agree to a tenth of the interval's width: both are approximations.
        assert row[names[0]] == pytest.approx(low, abs=(high - low) / 10)
        assert row[names[1]] == pytest.approx(high, abs=(high - low) / 10)


def test_velocity_without_sales_is_not_known() -> None:
    leads = leads_of((0, None, 5, None), (0, None, None, None)).with_columns(
        margin=pl.lit(None, pl.Float64)
    )
    result = pipeline_velocity(leads, as_of=AS_OF)
    assert result.table["estimate"].to_list() == [None]
    assert "nothing can be said" in str(result)
    assert pipeline_velocity(leads.clear(), as_of=AS_OF).table["estimate"].to_list() == [None]


def test_velocity_is_the_same_on_every_backend(backend: ToBackend) -> None:
    leads = selling(80, seed=2)
    made, wanted = (pipeline_velocity(x, as_of=AS_OF).table for x in (backend(leads), leads))
    assert_frame_equal(made, wanted)


# --- the reference cases --------------------------------------------------------------------------


def test_every_reference_case_has_a_row_and_its_test_exists() -> None:
    tests = Path(__file__).parent
    reference = tests / "reference"
    cases = json.loads((reference / "funnel_and_others.json").read_text(encoding="utf-8"))["cases"]
    text = (reference / "funnel_and_others.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    rows = [row for row in rows if row[0] != "case"]
    assert [(name, kind) for name, kind, _, _ in rows] == list(cases.items())
    for name, _, test, ours in rows:
        named = re.fullmatch(r"`tests/(\w+\.py)::(\w+)`", test)
        assert named is not None, (name, ours)
        file, function = named.groups()
        assert f"def {function}(" in (tests / file).read_text(encoding="utf-8"), name
