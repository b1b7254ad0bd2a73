"""How many leads get to the next step, and how fast: `conversion_funnel` and `time_in_stage`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise, permutations, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from statsmodels.duration.survfunc import SurvfuncRight, survdiff
from statsmodels.stats.proportion import proportion_confint

from crm_analysis.errors import ColumnError, InputError
from crm_analysis.funnel import ConversionFunnel, conversion_funnel, time_in_stage
from crm_analysis.survival import kaplan_meier, log_rank_p_value, quantile

EXACT = 1e-12
"""Two ways to the same arithmetic; only rounding may differ."""

CASES = {
    case["id"]: case
    for case in json.loads(
        (Path(__file__).parent / "reference" / "funnel_cases.json").read_text(encoding="utf-8")
    )["cases"]
}
LATER = date(2030, 1, 1)
ToBackend = Callable[[pl.DataFrame], Any]
Event = tuple[int, str, int]
"""A lead, a stage, and a moment in whole hours."""


def case_events(case: dict[str, Any]) -> pl.DataFrame:
    rows = [(str(unit), stage, at) for unit, stage, at in case["input"]["events"]]
    names = ["opportunity_id", "stage", "happened_at"]
    table = pl.DataFrame(rows, schema=names, orient="row")
    return table.with_columns(
        pl.col("happened_at")
        .str.pad_end(19, "T")
        .str.replace("TTTTTTTTT$", "T00:00:00")
        .str.to_datetime("%Y-%m-%dT%H:%M:%S")
    )


def case_window(case: dict[str, Any]) -> float:
    seconds = case["call"]["window_s"]
    return math.inf if seconds is None else seconds / 86_400


def reached(events: object, steps: Sequence[str], **kwargs: Any) -> list[int]:
    return conversion_funnel(events, steps=steps, **kwargs).table["n_reached"].to_list()


def log(*events: Event) -> pl.DataFrame:
    start = datetime.fromisoformat("2026-01-01")
    return pl.DataFrame(
        [(unit, stage, start + timedelta(hours=hour)) for unit, stage, hour in events],
        schema={"opportunity_id": pl.Int64, "stage": pl.String, "happened_at": pl.Datetime("us")},
        orient="row",
    )


def equal(left: pl.DataFrame, right: pl.DataFrame) -> None:
    from polars.testing import assert_frame_equal

    assert_frame_equal(left, right, abs_tol=EXACT, check_dtypes=False)


# --- published cases ------------------------------------------------------------------------

ORDERED = [k for k, c in CASES.items() if "ordered/any" in c.get("call", {}).get("semantics", ())]


@pytest.mark.parametrize("anchor", ["attempt", "first"])
@pytest.mark.parametrize("name", ORDERED)
def test_ordered_funnels_give_the_published_counts(name: str, anchor: Any) -> None:
    case = CASES[name]
    found = reached(
        case_events(case), case["call"]["steps"], within_days=case_window(case), anchor=anchor,
        as_of=LATER,
    )  # fmt: skip
    assert found == case["expected"]["counts"]


@pytest.mark.parametrize("name", [k for k, c in CASES.items() if "strict" in
                                  c.get("counts_under_other_semantics", {})])  # fmt: skip
def test_strict_funnels_give_the_independent_counts(name: str) -> None:
    case = CASES[name]
    found = reached(
        case_events(case), case["call"]["steps"], within_days=case_window(case), order="strict",
        as_of=LATER,
    )  # fmt: skip
    assert found == case["counts_under_other_semantics"]["strict"]


REPEATED_STEPS = {"ph_repeat_two_same": [2, 1], "ph_repeat_steps_5": [5, 4, 3, 2, 1]}
"""Where one event is one step, two events of one stage do two of the steps in any order too; the
independent count takes the set of names and so cannot get past the distinct ones."""


@pytest.mark.parametrize("name", [k for k, c in CASES.items() if c["domain"] == "funnel" and
                                  not k.startswith("own")])  # fmt: skip
def test_unordered_funnels_give_the_published_or_independent_counts(name: str) -> None:
    case = CASES[name]
    found = reached(
        case_events(case), case["call"]["steps"], within_days=case_window(case), order="unordered",
        as_of=LATER,
    )  # fmt: skip
    other = case["counts_under_other_semantics"]
    expected = other.get("unordered", case["expected"]["counts"])
    assert found == REPEATED_STEPS.get(name, expected)


@pytest.mark.parametrize("name", [k for k, c in CASES.items() if c["domain"] == "funnel_trend"])
def test_trends_are_funnels_by_day_of_entry(name: str) -> None:
    case = CASES[name]
    steps = case["call"]["steps"]
    events = case_events(case)
    entry = (
        events.filter(pl.col("stage") == steps[0])
        .group_by("opportunity_id")
        .agg(entry=pl.col("happened_at").min().dt.date())
    )
    events = events.join(entry, on="opportunity_id", how="left")
    funnel = conversion_funnel(
        events, steps=steps, within_days=case_window(case), as_of=LATER, by="entry"
    )
    found = {
        str(row["entry"]): {"entered": row["n"], "converted": row["n_reached"]}
        for row in funnel.overall().table.to_dicts()
    }
    expected = {day: v for day, v in case["expected"]["by_day"].items() if v["entered"]}
    assert found == expected


def test_an_old_lead_that_comes_back_is_kept_by_attempts_and_lost_by_first() -> None:
    case = CASES["own_reentry_discriminates_anchor"]
    events, steps = case_events(case), case["call"]["steps"]
    given = {"within_days": case_window(case), "as_of": LATER}
    assert reached(events, steps, **given) == case["expected"]["ordered/any"]
    assert reached(events, steps, anchor="first", **given) == case["expected"]["ordered/first"]


def test_rates_are_of_those_who_entered_and_nothing_over_nothing_is_null() -> None:
    case = CASES["rt_no_conversions"]
    funnel = conversion_funnel(
        case_events(case), steps=case["call"]["steps"], within_days=math.inf, as_of=LATER
    )
    assert funnel.table["step_rate"].to_list() == [None, 0.0, None]
    assert funnel.table["estimate"].to_list() == [1.0, 0.0, 0.0]
    assert any("step rate" in note for note in funnel.notes)
    basic = conversion_funnel(
        case_events(CASES["rt_basic"]), steps=["A", "B", "C"], within_days=math.inf, as_of=LATER
    )
    assert basic.table["step_rate"].to_list() == [None, pytest.approx(2 / 3), 0.5]


@pytest.mark.parametrize("window", [None, 0, -1, math.nan, "7", True])
def test_a_window_that_is_none_is_refused_and_never_replaced(window: Any) -> None:
    with pytest.raises(InputError, match="within_days"):
        conversion_funnel(log((1, "a", 0)), steps=["a", "b"], within_days=window, as_of=LATER)


# --- events that leave a lead out, and first and last touch -------------------------------------


def test_an_excluded_event_between_two_steps_leaves_the_lead_out() -> None:
    case = CASES["ph_exclusion_full_window"]
    funnel = conversion_funnel(
        case_events(case), steps=case["call"]["steps"], within_days=case_window(case),
        exclude=[rule["event"] for rule in case["call"]["exclude"]], as_of=LATER,
    )  # fmt: skip
    assert funnel.table["n_reached"].to_list() == case["expected"]["counts"]
    assert any("1 lead had an excluded event" in note for note in funnel.notes)
    assert "Left out are leads with x" in funnel.definition


PAIRS = [
    *[(unit, "landed", f"2018-{day}") for unit, day in (
        (1, "07-01"), (2, "07-01"), (3, "07-02"), (4, "07-01"), (4, "07-04"), (5, "07-10"),
        (5, "07-12"), (6, "07-07"), (6, "07-08"), (8, "08-01"), (8, "08-03"))],
    *[(unit, "registered", f"2018-{day}") for unit, day in (
        (1, "07-02"), (3, "07-02"), (4, "06-10"), (4, "07-02"), (5, "07-11"), (6, "07-10"),
        (6, "07-11"), (7, "07-07"), (8, "08-02"), (8, "08-04"))],
]  # fmt: skip
"""The example of funneljoin's README (MIT), commit 9e5cc4c, type "first-first": 5 pairs."""


def test_first_touch_and_first_purchase_are_a_funnel_of_first_events() -> None:
    events = pl.DataFrame(PAIRS, schema=["opportunity_id", "stage", "happened_at"], orient="row")
    events = events.with_columns(pl.col("happened_at").str.to_date())
    given_: dict[str, Any] = {"steps": ["landed", "registered"], "within_days": math.inf}
    first = events.group_by("opportunity_id", "stage").agg(pl.col("happened_at").min())
    assert reached(first, as_of=LATER, **given_) == [7, 5]
    # Who had registered before and came again is a pair of ours: the enquiry is the unit.
    assert reached(events, as_of=LATER, anchor="first", **given_) == [7, 6]


def excluded(
    events: list[tuple[str, int]], steps: Sequence[str], window: float, anchor: str, end: float
) -> bool:
    """Whether a lead has "x" after a start, within the window and before all steps were made."""
    events = [event for event in events if event[1] <= end]
    entries = [at for stage, at in events if stage == steps[0]]
    starts = [
        at for at in entries if at + window <= end and (anchor == "attempt" or at == min(entries))
    ]

    def done(until: int) -> bool:
        before = [event for event in events if event[1] <= until]
        return has_chain(before, steps, window, "ordered", starts.__contains__)

    return any(
        start < at <= start + window and not done(at)
        for start in starts for stage, at in events if stage == "x"
    )  # fmt: skip


# --- the slow twin --------------------------------------------------------------------------


def strict_orders(events: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Every order of a lead's events that its moments allow."""
    moments = sorted({at for _, at in events})
    tied = [[event for event in events if event[1] == at] for at in moments]
    return [
        [event for part in parts for event in part]
        for parts in product(*[list(permutations(part)) for part in tied])
    ]


def has_chain(
    events: list[tuple[str, int]], steps: Sequence[str], window: float, order: str,
    may_start: Callable[[int], bool],
) -> bool:  # fmt: skip
    """Try every choice of different events for the steps."""
    if order == "strict":
        return any(
            [stage for stage, _ in run] == list(steps)
            and may_start(run[0][1])
            and run[-1][1] - run[0][1] <= window
            for row in strict_orders(events)
            for run in (row[i : i + len(steps)] for i in range(len(row) - len(steps) + 1))
        )
    return any(
        all(stage == step for (stage, _), step in zip(chosen, steps, strict=True))
        and may_start(chosen[0][1])
        and all(a[1] <= b[1] for a, b in pairwise(chosen))
        and chosen[-1][1] - chosen[0][1] <= window
        for chosen in permutations(events, len(steps))
    )


def most_in_any_order(
    events: list[tuple[str, int]], steps: Sequence[str], window: float,
    may_start: Callable[[int], bool],
) -> int:  # fmt: skip
    """For each possible start, count the steps that the window from it holds."""
    wanted = Counter(steps)
    starts = [at for stage, at in events if stage in wanted and may_start(at)]
    return max(
        (
            (Counter(s for s, at in events if start <= at <= start + window) & wanted).total()
            for start in starts
        ),
        default=0,
    )


def slow_depth(
    events: list[tuple[str, int]], steps: Sequence[str], window: float, order: str, anchor: str,
    end: float,
) -> int:  # fmt: skip
    events = [event for event in events if event[1] <= end]
    entries = [at for stage, at in events if stage == steps[0] or
               (order == "unordered" and stage in steps)]  # fmt: skip

    def may_start(at: int) -> bool:
        return at + window <= end and (anchor == "attempt" or at == min(entries))

    if order == "unordered":
        return most_in_any_order(events, steps, window, may_start)
    depths = range(1, len(steps) + 1)
    return max((k for k in depths if has_chain(events, steps[:k], window, order, may_start)),
               default=0)  # fmt: skip


def slow_counts(
    events: Sequence[Event], steps: Sequence[str], window: float, order: str, anchor: str,
    end: float,
) -> list[int]:  # fmt: skip
    leads = {unit for unit, _, _ in events}
    depths = [
        slow_depth([(s, at) for u, s, at in events if u == unit], steps, window, order, anchor, end)
        for unit in leads
    ]
    return [sum(depth >= k for depth in depths) for k in range(1, len(steps) + 1)]


STAGES = ("a", "b", "c", "x")
problems = st.fixed_dictionaries(
    {
        "events": st.lists(
            st.tuples(st.integers(1, 3), st.sampled_from(STAGES), st.integers(0, 71)),
            min_size=1, max_size=11,
        ),
        "steps": st.lists(st.sampled_from(STAGES[:3]), min_size=2, max_size=4),
        "window": st.integers(1, 50),
        "as_of_day": st.integers(1, 5),
    }
)  # fmt: skip
tied_problems = st.fixed_dictionaries(
    {
        "events": st.lists(
            st.tuples(st.just(1), st.sampled_from(STAGES), st.sampled_from([0, 24, 48])),
            min_size=1, max_size=7,
        ),
        "steps": st.lists(st.sampled_from(STAGES[:2]), min_size=2, max_size=5),
        "window": st.sampled_from([1, 24, 48]),
        "as_of_day": st.integers(2, 5),
    }
)  # fmt: skip


@pytest.mark.parametrize("anchor", ["attempt", "first"])
@pytest.mark.parametrize("order", ["ordered", "strict", "unordered"])
@settings(max_examples=60, deadline=None)
@given(problem=problems | tied_problems)
def test_counts_equal_the_slow_twin(problem: dict[str, Any], order: Any, anchor: Any) -> None:
    # More than a handful of tied events has too many orders to try one by one.
    events: list[Event] = problem["events"]
    end = 24 * problem["as_of_day"] - 1 / 3600
    if min(at for _, _, at in events) > end:
        return
    found = reached(
        log(*events), problem["steps"], within_days=problem["window"] / 24, order=order,
        anchor=anchor, as_of=date(2025, 12, 31) + timedelta(problem["as_of_day"]),
    )  # fmt: skip
    assert found == slow_counts(events, problem["steps"], problem["window"], order, anchor, end)
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("anchor", ["attempt", "first"])
@settings(max_examples=25, deadline=None)
@given(problem=problems)
def test_leads_left_out_are_those_of_the_slow_twin(problem: dict[str, Any], anchor: Any) -> None:
    events: list[Event] = problem["events"]
    end, steps, window = 24 * problem["as_of_day"] - 1 / 3600, problem["steps"], problem["window"]
    if min(at for _, _, at in events) > end:
        return
    out = {
        unit for unit in {unit for unit, _, _ in events}
        if excluded([(s, at) for u, s, at in events if u == unit], steps, window, anchor, end)
    }  # fmt: skip
    funnel = conversion_funnel(
        log(*events), steps=steps, within_days=window / 24, anchor=anchor, exclude=["x"],
        as_of=date(2025, 12, 31) + timedelta(problem["as_of_day"]),
    )  # fmt: skip
    kept = [event for event in events if event[0] not in out]
    assert funnel.table["n_reached"].to_list() == slow_counts(
        kept, steps, window, "ordered", anchor, end
    )
    told = [note for note in funnel.notes if "excluded event" in note]
    assert (len(told), [note.startswith(str(len(out))) for note in told]) == (
        bool(out), [True] * bool(out)
    )  # fmt: skip


def test_what_is_excluded_must_lie_between_steps() -> None:
    events = log((1, "a", 0))
    given_: dict[str, Any] = {"steps": ["a", "b"], "within_days": 1, "as_of": LATER}
    with pytest.raises(InputError, match="one of the two"):
        conversion_funnel(events, exclude=["b"], **given_)
    with pytest.raises(InputError, match="nothing lies between"):
        conversion_funnel(events, exclude=["x"], order="strict", **given_)
    with pytest.raises(InputError, match="must list stages"):
        conversion_funnel(events, exclude="x", **given_)


def test_leads_belong_to_their_first_or_last_known_touch() -> None:
    rows = [  # of one lead: unknown, then web, then phone; of another only phone
        (1, "a", 0, None), (1, "b", 1, "web"), (1, "c", 2, "phone"), (1, "x", 3, "outdoor"),
        (2, "a", 0, "phone"),
    ]  # fmt: skip
    events = log(*[row[:3] for row in rows]).with_columns(
        source=pl.Series([row[3] for row in rows], dtype=pl.Enum(["web", "phone", "outdoor"]))
    )
    given_: dict[str, Any] = {"steps": ["a", "b", "c"], "within_days": 1, "as_of": LATER}

    def counted(touch: Any) -> dict[str, int]:
        funnel = conversion_funnel(events, touch=touch, by="source", **given_)
        return dict(funnel.overall().table.select("source", "n").iter_rows())

    assert counted("first") == {"web": 1, "phone": 1}
    assert counted("last") == {"phone": 2}
    with pytest.raises(InputError, match="more than one group"):
        counted("lead")
    whole = conversion_funnel(events, touch="last", **given_)
    assert whole.table["n_reached"].to_list() == [2, 1, 1]


@settings(max_examples=40, deadline=None)
@given(problem=problems, data=st.data())
def test_the_order_of_rows_is_irrelevant(problem: dict[str, Any], data: Any) -> None:
    shuffled = data.draw(st.permutations(problem["events"]))
    for order in ("ordered", "strict", "unordered"):
        given_ = {"within_days": 1, "order": order, "as_of": LATER}
        assert reached(log(*shuffled), problem["steps"], **given_) == reached(
            log(*problem["events"]), problem["steps"], **given_
        )


@settings(max_examples=40, deadline=None)
@given(problem=problems)
def test_counts_add_up_over_groups(problem: dict[str, Any]) -> None:
    events = log(*problem["events"]).with_columns(team=pl.col("opportunity_id") % 2)
    whole = reached(events, problem["steps"], within_days=1, as_of=LATER)
    parts = conversion_funnel(
        events, steps=problem["steps"], within_days=1, as_of=LATER, by="team"
    ).table
    summed = parts.group_by("step").agg(pl.col("n_reached").sum()).sort("step")["n_reached"]
    assert (summed.to_list() or [0] * len(whole)) == whole


# --- what a moment is, and who can be judged ------------------------------------------------


def test_the_window_is_inclusive_and_may_be_a_fraction_of_a_day() -> None:
    events = log((1, "a", 0), (1, "b", 12), (2, "a", 0), (2, "b", 13))
    assert reached(events, ["a", "b"], within_days=0.5, as_of=LATER) == [2, 1]


def test_events_at_one_moment_chain_in_step_order() -> None:
    events = log((1, "c", 0), (1, "b", 0), (1, "a", 0))
    for order in ("ordered", "strict"):
        assert reached(events, ["a", "b", "c"], within_days=1, order=order, as_of=LATER) == [1] * 3


def test_one_event_is_one_step_even_among_ties() -> None:
    steps = ["a", "b", "a"]
    assert reached(log((1, "a", 0), (1, "b", 0)), steps, within_days=1, as_of=LATER) == [1, 1, 0]
    twice = log((1, "a", 0), (1, "b", 0), (1, "a", 0))
    assert reached(twice, steps, within_days=1, as_of=LATER) == [1, 1, 1]
    before = log((1, "a", 0), (1, "a", 5), (1, "b", 5))
    assert reached(before, steps, within_days=1, as_of=LATER) == [1, 1, 1]


def test_leads_too_young_to_be_judged_count_neither_way() -> None:
    events = log((1, "a", 0), (1, "b", 24), (2, "a", 24), (3, "a", 48), (3, "b", 49))
    funnel = conversion_funnel(events, steps=["a", "b"], within_days=2, as_of=date(2026, 1, 4))
    assert funnel.table["n_reached"].to_list() == [2, 1]
    assert funnel.table["n_immature"].to_list() == [1, 1]
    assert "1 lead started too recently to be judged and is left out." in funnel.notes
    later = conversion_funnel(events, steps=["a", "b"], within_days=2, as_of=date(2026, 1, 5))
    assert later.table["n_reached"].to_list() == [3, 2]
    assert later.table["n_immature"].to_list() == [0, 0]


def test_a_young_second_attempt_is_not_counted_and_said() -> None:
    events = log((1, "a", 0), (1, "a", 24 * 30), (1, "b", 24 * 31))
    funnel = conversion_funnel(events, steps=["a", "b"], within_days=5, as_of=date(2026, 2, 2))
    assert funnel.table["n_reached"].to_list() == [1, 0]
    assert any("started again too recently" in note for note in funnel.notes)


def test_with_nobody_mature_the_rate_is_null_and_not_zero() -> None:
    funnel = conversion_funnel(
        log((1, "a", 0)), steps=["a", "b"], within_days=60, as_of=date(2026, 1, 9)
    )
    assert funnel.table["estimate"].to_list() == [None, None]
    assert funnel.table["conf_low"].to_list() == [None, None]
    assert funnel.table["n_immature"].to_list() == [1, 1]
    assert "nothing can be said" in str(funnel)


def test_without_a_window_everybody_is_counted_and_the_caution_given() -> None:
    funnel = conversion_funnel(
        log((1, "a", 0)), steps=["a", "b"], within_days=math.inf, as_of=date(2026, 1, 1)
    )
    assert funnel.table["n"].to_list() == [1, 1]
    assert any("no window" in note for note in funnel.notes)


def test_events_after_as_of_are_ignored() -> None:
    events = log((1, "a", 0), (1, "b", 24))
    assert reached(events, ["a", "b"], within_days=math.inf, as_of=date(2026, 1, 1)) == [1, 0]


# --- rates, groups, words -------------------------------------------------------------------


def some_leads(n: int = 400, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, str, datetime, str]] = []
    for unit in range(n):
        source = "web" if unit % 3 else "walk_in"
        at = datetime.fromisoformat("2025-01-01") + timedelta(hours=int(rng.integers(0, 24 * 300)))
        for stage, chance in (("contact", 1), ("visit", 0.6), ("offer", 0.4), ("contract", 0.5)):
            if rng.random() > chance + (0.2 if source == "walk_in" and stage == "visit" else 0):
                if rng.random() < 0.8:
                    rows.append((unit, "lost", at + timedelta(days=5), source))
                break
            at += timedelta(hours=int(rng.integers(0, 200)) if stage != "contact" else 0)
            rows.append((unit, stage, at, source))
    schema = ["opportunity_id", "stage", "happened_at", "source"]
    return pl.DataFrame(rows, schema=schema, orient="row")


STEPS = ["contact", "visit", "offer", "contract"]
GIVEN: dict[str, Any] = {"steps": STEPS, "within_days": 30, "as_of": date(2025, 12, 31)}


def test_rates_and_intervals_are_wilsons() -> None:
    table = conversion_funnel(some_leads(), **GIVEN).table
    counts = table["n_reached"].to_list()
    for step in (1, 2, 3):
        row = table.row(step, named=True)
        low, high = proportion_confint(counts[step], counts[0], method="wilson")
        assert (row["n"], row["estimate"]) == (counts[0], pytest.approx(counts[step] / counts[0]))
        assert (row["conf_low"], row["conf_high"]) == pytest.approx((low, high), abs=EXACT)
        low, high = proportion_confint(counts[step], counts[step - 1], method="wilson")
        assert (row["step_low"], row["step_high"]) == pytest.approx((low, high), abs=EXACT)
    assert table.row(0, named=True)["conf_low"] == 1.0


def test_the_sentence_names_the_whole_and_the_weakest_step() -> None:
    funnel = conversion_funnel(some_leads(), **GIVEN)
    assert funnel.counted().table["estimate"].to_list() == [400.0]
    weakest = funnel.weakest_step().table.row(0, named=True)
    assert weakest["estimate"] == funnel.table["step_rate"].min()
    assert weakest["n"] == funnel.table["n_reached"][weakest["step"] - 2]
    text = str(funnel)
    assert text.startswith("Conversion to contract within 30 days: ")
    last = conversion_funnel(some_leads(), **{**GIVEN, "steps": ["offer", "contract"]})
    assert str(last).startswith("Conversion from offer to contract within 30 days: ")
    assert "the weakest step is visit → offer" in text
    assert text.count(".\n") == 0


def test_a_weakest_step_that_is_barely_so_is_not_called_clear() -> None:
    events = [(unit, "a", 0) for unit in range(20)]
    events += [(unit, "b", 1) for unit in range(11)] + [(unit, "c", 2) for unit in range(6)]
    funnel = conversion_funnel(log(*events), steps=["a", "b", "c"], within_days=1, as_of=LATER)
    assert "not clearly fewer than" in str(funnel)


def test_groups_are_compared_with_a_test_and_their_own_rates() -> None:
    funnel = conversion_funnel(some_leads(3000), by="source", **GIVEN)
    assert funnel.table["source"].unique().sort().to_list() == ["walk_in", "web"]
    assert "they differ by more than chance" in str(funnel)
    noise = some_leads(300).with_columns(source=pl.col("opportunity_id") % 5)
    assert "no difference between them is established" in str(
        conversion_funnel(noise, by=["source"], **GIVEN)
    )
    assert funnel.weakest_step().table.height == 2
    assert str(funnel.weakest_step()) == "The weakest step is visit → offer in 2 of 2 groups."
    assert funnel.counted().table["estimate"].to_list() == funnel.overall().table["n"].to_list()


def test_groups_without_a_conversion_have_their_say_in_the_test() -> None:
    events = [(unit, "a", 0) for unit in range(200)] + [(unit, "b", 1) for unit in range(50)]
    grouped = log(*events).with_columns(half=pl.col("opportunity_id") < 100)
    funnel = conversion_funnel(grouped, steps=["a", "b"], within_days=1, as_of=LATER, by="half")
    assert "they differ by more than chance" in str(funnel)


def test_a_null_group_is_a_group() -> None:
    events = some_leads(60).with_columns(
        source=pl.when(pl.col("opportunity_id") % 2 == 0).then(pl.col("source"))
    )
    funnel = conversion_funnel(events, by="source", **GIVEN)
    assert None in funnel.table["source"].to_list()


@pytest.mark.parametrize("mixed", [["x", "y"], ["x", None], [None, "x"]])
def test_a_lead_in_two_groups_is_refused(mixed: list[str | None]) -> None:
    events = log((1, "a", 0), (1, "b", 1)).with_columns(team=pl.Series(mixed))
    with pytest.raises(InputError, match="more than one group"):
        conversion_funnel(events, steps=["a", "b"], within_days=1, as_of=LATER, by="team")
    with pytest.raises(InputError, match="more than one group"):
        time_in_stage(events, stages=["a", "b"], as_of=LATER, by="team")


@pytest.mark.parametrize("by", [(), ("source",)])
def test_it_plots_on_a_given_axes_and_shows_itself(by: tuple[str, ...]) -> None:
    before = dict(mpl.rcParams)
    funnel = conversion_funnel(some_leads(), by=by, **GIVEN)
    for result in (
        funnel,
        funnel.weakest_step(),
        time_in_stage(some_leads(), stages=STEPS, as_of=GIVEN["as_of"], by=by),
    ):
        ax = Figure().add_subplot()
        assert result.plot(ax) is ax
        block = result.show(title="Where?")
        assert block.figure is not None
        assert "nan" not in result._repr_html_().lower().replace("finance", "")
        assert result.to_gt().as_raw_html()
    assert dict(mpl.rcParams) == before


# --- bad input ------------------------------------------------------------------------------


def test_bad_arguments_are_refused_with_what_to_do() -> None:
    events = log((1, "a", 0), (1, "b", 1))
    good: dict[str, Any] = {"steps": ["a", "b"], "within_days": 1, "as_of": LATER}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"steps": "ab"}, "list the stages"),
        ({"steps": ["a"]}, "at least two"),
        ({"steps": []}, "at least two"),
        ({"order": "order"}, "did you mean 'ordered'"),
        ({"anchor": "last"}, "attempt, first"),
        ({"ci_method": "wald"}, "wilson"),
        ({"as_of": "2026-01-01"}, "as_of"),
        ({"as_of": date(2020, 1, 1)}, "first event"),
        ({"conf_level": 95}, "conf_level"),
    ]
    for change, message in bad:
        with pytest.raises(InputError, match=message):
            conversion_funnel(events, **(good | change))


def test_bad_tables_are_refused_with_what_to_do() -> None:
    events = log((1, "a", 0), (1, "b", 1))
    good: dict[str, Any] = {"steps": ["a", "b"], "within_days": 1, "as_of": LATER}
    with pytest.raises(ColumnError, match=r"did you mean 'stages'.*stage_col"):
        conversion_funnel(events.rename({"stage": "stages"}), **good)
    with pytest.raises(ColumnError, match="must hold a date with time"):
        conversion_funnel(events.with_columns(happened_at=pl.lit("2026")), **good)
    with pytest.raises(ColumnError, match="null in 2 of 2"):
        conversion_funnel(events.with_columns(opportunity_id=None), **good)
    with pytest.raises(InputError, match="table was asked for"):
        conversion_funnel([1, 2], **good)


def test_an_empty_table_says_that_nothing_is_known() -> None:
    empty = some_leads().clear()
    funnel = conversion_funnel(empty, **GIVEN)
    assert funnel.table["estimate"].to_list() == [None] * 4
    assert "nothing can be said" in str(funnel)
    assert funnel.weakest_step().table.is_empty()
    assert conversion_funnel(empty, by="source", **GIVEN).table.is_empty()
    assert "nothing can be said" in str(conversion_funnel(empty, by="source", **GIVEN))
    times = time_in_stage(empty, stages=STEPS, as_of=GIVEN["as_of"])
    assert times.table["n"].to_list() == [0, 0, 0]
    assert times.slowest().table.is_empty()
    assert "no median" in str(times)
    for result in (funnel, times, time_in_stage(empty, stages=STEPS, as_of=LATER, by="source")):
        assert result._repr_html_()


def test_a_stage_that_nobody_reached_is_said() -> None:
    funnel = conversion_funnel(some_leads(), **(GIVEN | {"steps": ["contact", "moon landing"]}))
    assert funnel.table["estimate"].to_list() == [1.0, 0.0]
    assert "No event has the stage moon landing." in funnel.notes


def test_a_misspelt_stage_is_refused_with_what_was_meant() -> None:
    with pytest.raises(InputError, match=r"'visits' was asked for \(did you mean 'visit'\?\)"):
        conversion_funnel(some_leads(), **(GIVEN | {"steps": ["contact", "visits"]}))


def test_other_column_names_and_date_columns_serve_as_well() -> None:
    events = some_leads().with_columns(pl.col("happened_at").dt.date())
    plain = conversion_funnel(events, **GIVEN).table
    renamed = events.rename({"opportunity_id": "lead", "stage": "status", "happened_at": "on"})
    names: dict[str, Any] = {"unit_col": "lead", "stage_col": "status", "at_col": "on"}
    equal(conversion_funnel(renamed, **names, **GIVEN).table, plain)


def test_an_enum_of_stages_without_a_step_is_no_error() -> None:
    events = some_leads().with_columns(
        pl.col("stage").cast(pl.Enum(["contact", "visit", "offer", "contract", "lost"]))
    )
    found = conversion_funnel(events, **(GIVEN | {"steps": ["contact", "delivery"]}))
    assert found.table["n_reached"][1] == 0


# --- backends -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["ordered", "strict", "unordered"])
def test_funnels_are_the_same_on_every_backend(backend: ToBackend, order: Any) -> None:
    events = some_leads(150).sort("happened_at")
    given_: dict[str, Any] = {**GIVEN, "steps": ["contact", "visit", "contact", "offer"]}
    again = events.filter(pl.col("opportunity_id") % 3 == 0, pl.col("stage") == "contact")
    events = pl.concat([events, again.with_columns(pl.col("happened_at") + pl.duration(days=10))])
    for steps, anchor in product((STEPS, given_["steps"]), ("attempt", "first")):
        args = given_ | {"steps": steps, "order": order, "anchor": anchor, "by": "source"}
        equal(conversion_funnel(backend(events), **args).table,
              conversion_funnel(events, **args).table)  # fmt: skip


def test_exclusion_and_touch_are_the_same_on_every_backend(backend: ToBackend) -> None:
    rng = np.random.default_rng(11)
    rows = [
        (int(rng.integers(9)), str(rng.choice(STAGES)), int(rng.integers(70))) for _ in range(60)
    ]
    events = log(*rows).with_columns(team=pl.Series([str(rng.integers(3)) for _ in rows]))
    given_: dict[str, Any] = {
        "steps": ["a", "b", "c"], "within_days": 2, "exclude": ["x"], "touch": "last",
        "as_of": LATER, "by": "team",
    }  # fmt: skip
    wanted, found = (conversion_funnel(table, **given_) for table in (events, backend(events)))
    equal(found.table, wanted.table)
    assert found.notes == wanted.notes


def test_times_in_stages_are_the_same_on_every_backend(backend: ToBackend) -> None:
    events = some_leads(150)
    args: dict[str, Any] = {"stages": STEPS, "as_of": date(2025, 9, 1)}
    for by in ((), ("source",)):
        equal(time_in_stage(backend(events), by=by, **args).table,
              time_in_stage(events, by=by, **args).table)  # fmt: skip


# --- time in stage --------------------------------------------------------------------------


def slow_stays(
    events: pl.DataFrame, stages: Sequence[str], ends: Sequence[str], as_of: date
) -> dict[str, list[tuple[int, str]]]:
    """Whole minutes and outcome of every lead's stay in every stage but the last."""
    close = datetime.combine(as_of, time(23, 59, 59))
    stays: dict[str, list[tuple[int, str]]] = {stage: [] for stage in stages[:-1]}
    for _, lead in events.filter(pl.col("happened_at") <= close).group_by("opportunity_id"):
        rows = lead.select("stage", "happened_at").rows()
        for i, stage in enumerate(stages[:-1]):
            entered = min((at for s, at in rows if s == stage), default=None)
            if entered is None:
                continue
            on = min((at for s, at in rows if s in stages[i + 1 :] and at >= entered), default=None)
            lost = min((at for s, at in rows if s in ends and at >= entered), default=None)
            if on is not None and (lost is None or on <= lost):
                until, outcome = on, "n_moved_on"
            elif lost is not None:
                until, outcome = lost, "n_lost"
            else:
                until, outcome = close, "n_open"
            stays[stage].append((int((until - entered).total_seconds() // 60), outcome))
    return stays


@pytest.mark.parametrize("seed", range(3))
def test_time_in_stage_equals_the_slow_twin_and_statsmodels(seed: int) -> None:
    events, as_of = some_leads(120, seed), date(2025, 8, 1)
    result = time_in_stage(events, stages=STEPS, as_of=as_of)
    for stage, stays in slow_stays(events, STEPS, ["lost"], as_of).items():
        row = result.table.row(by_predicate=pl.col("stage") == stage, named=True)
        outcomes = Counter(outcome for _, outcome in stays)
        assert row["n"] == len(stays)
        assert {k: row[k] for k in ("n_moved_on", "n_lost", "n_open")} == {
            k: outcomes[k] for k in ("n_moved_on", "n_lost", "n_open")
        }
        minutes = np.array([m for m, _ in stays])
        peer = SurvfuncRight(minutes, np.array([o != "n_open" for _, o in stays], int))
        for share, column in ((0.5, "estimate"), (0.9, "p90")):
            below = np.flatnonzero(peer.surv_prob <= 1 - share + EXACT)
            expected = peer.surv_times[below[0]] / 1440 if below.size else None
            assert row[column] == (None if expected is None else pytest.approx(expected))


def test_a_quantile_and_its_interval_equal_statsmodels() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        # The longest stay is open: at survival 0 the peer takes the logarithm of 0.
        durations = np.append(rng.integers(1, 40, 200), 41)
        ended = np.append(rng.integers(0, 2, 200), 0)
        km = curve_of(durations, ended)
        peer = SurvfuncRight(durations, ended)
        for share in (0.25, 0.5, 0.75):
            ours = quantile(km, share)
            if not math.isnan(ours.high):
                assert (ours.low, ours.high) == peer.quantile_ci(share)
            assert ours.time == pytest.approx(peer.quantile(share), nan_ok=True)


def curve_of(durations: np.ndarray[Any, Any], ended: np.ndarray[Any, Any]) -> Any:
    grid = np.arange(int(durations.max()) + 1)
    entered = np.where(grid == 0, len(durations), 0)
    exits = np.bincount(durations, weights=ended, minlength=len(grid)).astype(int)
    censored = np.bincount(durations, minlength=len(grid)) - exits
    return kaplan_meier(grid, entered, exits, censored)


def test_the_log_rank_test_equals_statsmodels() -> None:
    rng = np.random.default_rng(5)
    for k in (2, 3, 5):
        durations, ended, group = (
            rng.integers(0, 30, 300),
            rng.integers(0, 2, 300),
            rng.integers(0, k, 300),
        )
        curves = [curve_of(durations[group == g], ended[group == g]) for g in range(k)]
        _, p = survdiff(durations, ended, group)
        assert log_rank_p_value(curves) == pytest.approx(p, rel=1e-9)
    assert log_rank_p_value(curves[:1]) is None
    assert log_rank_p_value([curve_of(np.array([3]), np.array([0]))] * 2) is None


def test_open_stages_are_censored_and_not_left_out() -> None:
    rows = [(unit, "a", 0) for unit in range(10)] + [(unit, "b", 24) for unit in range(4)]
    result = time_in_stage(log(*rows), stages=["a", "b"], as_of=date(2026, 1, 31))
    row = result.table.row(0, named=True)
    assert (row["n"], row["n_moved_on"], row["n_open"]) == (10, 4, 6)
    assert row["estimate"] is None
    assert any("Fewer than 50%" in note for note in result.notes)


def test_groups_are_compared_by_log_rank_in_the_slowest_stage() -> None:
    events = some_leads(400).with_columns(
        happened_at=pl.when(pl.col("stage") == "contact", pl.col("source") == "web")
        .then(pl.col("happened_at") - pl.duration(days=20))
        .otherwise("happened_at")
    )
    result = time_in_stage(events, stages=STEPS, as_of=date(2025, 12, 31), by="source")
    assert result.slowest_stage == "contact"
    assert "they differ by more than chance" in str(result)
    assert result.slowest().table.height == 2


def test_stages_named_twice_or_as_an_end_are_refused() -> None:
    with pytest.raises(InputError, match="more than once"):
        time_in_stage(some_leads(), stages=["contact", "lost"], as_of=LATER)
    with pytest.raises(InputError, match="more than once"):
        time_in_stage(some_leads(), stages=["contact", "contact"], as_of=LATER)
    with pytest.raises(InputError, match="must list stages"):
        time_in_stage(some_leads(), stages=STEPS, end_stages="lost", as_of=LATER)


def test_a_funnel_is_a_result_that_cannot_be_changed() -> None:
    funnel = conversion_funnel(some_leads(), **GIVEN)
    assert isinstance(funnel, ConversionFunnel)
    with pytest.raises(AttributeError):
        funnel.steps = ()  # type: ignore[misc]
