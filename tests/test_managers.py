"""Who serves the customers: against loops anyone can check, and the skill that made the data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import spearmanr

from crm_analysis import ColumnError, InputError
from crm_analysis.managers import (
    adjusted_conversion,
    answered_in_time,
    contact_discipline,
    entry_timeliness,
    first_time_fix,
    overdue_contacts,
    response_time,
)
from crm_analysis.managers.shares import TeamShares, team_shares
from crm_analysis.working_time import WorkingCalendar

AS_OF = date(2026, 6, 30)
Backend = Callable[[pl.DataFrame], Any]

# --- adjusted conversion ------------------------------------------------------------------------


def leads_of(skills: list[float], n_each: list[int], seed: int, mix: float = 0.0) -> pl.DataFrame:
    """Leads whose chance is source + skill; with `mix` able managers get the poorer leads."""
    rng = np.random.default_rng(seed)
    rows = []
    for manager, (skill, n) in enumerate(zip(skills, n_each, strict=True)):
        good = expit(-mix * skill)
        for _lead in range(n):
            source = "referral" if rng.random() < good else "web"
            chance = expit((0.2 if source == "referral" else -2.0) + skill)
            won = date(2026, 1, 20) if rng.random() < chance else None
            rows.append((manager, source, date(2026, 1, 5), won))
    return pl.DataFrame(rows, schema=["manager", "source", "opened_at", "won_at"], orient="row")


def test_able_managers_with_poor_leads_are_recognised() -> None:
    rng = np.random.default_rng(1)
    skills = rng.normal(0, 0.5, 24).tolist()
    better = []
    for seed in range(5):
        leads = leads_of(skills, [150] * 24, seed, mix=3.0)
        found = adjusted_conversion(leads, as_of=AS_OF).table.sort("manager")
        adjusted = spearmanr(found["estimate"], skills)[0]
        naive = spearmanr(found["raw"], skills)[0]
        better.append(adjusted - naive)
    assert np.mean(better) > 0.3
    assert min(better) > 0


def test_intervals_cover_what_each_manager_would_win() -> None:
    """24 managers x 8 worlds: 192 intervals; the binomial 99.9 % band at 95 % starts at .89."""
    inside = 0
    for seed in range(8):
        rng = np.random.default_rng(100 + seed)
        skills = rng.normal(0, 0.4, 24)
        sizes = rng.integers(40, 300, 24).tolist()
        leads = leads_of(skills.tolist(), sizes, seed)
        share = leads["source"].value_counts(normalize=True)
        weight = dict(share.select("source", "proportion").iter_rows())
        truth = sum(weight[s] * expit(a + skills) for s, a in (("referral", 0.2), ("web", -2.0)))
        found = adjusted_conversion(leads, as_of=AS_OF).table.sort("manager")
        low, high = found["conf_low"].to_numpy(), found["conf_high"].to_numpy()
        inside += int(np.sum((low <= truth) & (truth <= high)))
    assert inside / 192 >= 0.89


def test_managers_who_are_alike_are_not_ranked() -> None:
    """With equal skills the test rejects in 5 % of worlds: 5 or more of 20 has probability .003."""
    rejected = 0
    for seed in range(20):
        found = adjusted_conversion(leads_of([0.0] * 12, [80] * 12, seed), as_of=AS_OF)
        assert found.p_value is not None
        if found.p_value < 0.05:
            rejected += 1
        else:
            assert "no difference between them is established" in str(found)
        assert (found.table["rank_high"] - found.table["rank_low"]).max() >= 5  # type: ignore[operator]
    assert rejected < 5


def test_few_leads_are_drawn_to_the_middle() -> None:
    leads = leads_of([0.8, 0.0, -0.3, 0.2, -0.6, 0.5], [400, 400, 400, 400, 400, 4], seed=2)
    found = adjusted_conversion(leads, as_of=AS_OF).table
    few = found.filter(pl.col("manager") == 5).row(0, named=True)
    middle = float(np.average(found["raw"], weights=found["n"]))
    assert abs(few["estimate"] - middle) < abs(few["raw"] - middle) or few["raw"] == middle
    assert few["conf_high"] - few["conf_low"] > 0.15


def test_young_leads_count_neither_way(backend: Backend) -> None:
    leads = leads_of([0.0, 0.5, -0.5], [60] * 3, seed=3)
    late = leads.head(10).with_columns(
        opened_at=pl.lit(date(2026, 6, 1)), won_at=pl.lit(None, pl.Date)
    )
    both = pl.concat([leads, late])
    alone = adjusted_conversion(leads, as_of=AS_OF)
    together = adjusted_conversion(backend(both), as_of=AS_OF)
    assert together.table["estimate"].to_list() == pytest.approx(alone.table["estimate"].to_list())
    assert any(note.startswith("10 leads have not had their time") for note in together.notes)


def test_two_managers_are_not_compared() -> None:
    found = adjusted_conversion(leads_of([0.0, 1.0], [50, 50], seed=1), as_of=AS_OF)
    assert found.table["estimate"].is_null().all()
    assert found.table["raw"].is_not_null().all()
    assert "too few managers" in str(found)
    nothing = adjusted_conversion(leads_of([], [], seed=1).cast(
        {"manager": pl.Int64, "source": pl.String, "opened_at": pl.Date, "won_at": pl.Date}
    ), as_of=AS_OF)  # fmt: skip
    assert nothing.table.is_empty()
    nothing.show()


def test_the_ranking_is_nearer_to_true_skill_than_the_naive_one() -> None:
    """Over seeds of the whole network, by Spearman's rank correlation with the skill behind it."""
    from synthetic import make_network

    gains = []
    for seed in (1, 2):
        network = make_network(preset="small", seed=seed, n_customers=7_500)
        stages = network.tables["stage_events"]
        won = stages.filter(pl.col("stage").cast(pl.String) == "contract")
        first = won.group_by("opportunity_id").agg(pl.col("happened_at").min().alias("won_at"))
        leads = network.tables["opportunities"].join(first, on="opportunity_id", how="left")
        found = adjusted_conversion(
            leads.with_columns(year=pl.col("opened_at").dt.year()), manager_col="manager_id",
            adjust=("source", "year"), as_of=network.config.as_of,
        ).table  # fmt: skip
        truth = network.truth["truth_employee"].lazy().collect()
        both = found.join(truth, left_on="manager_id", right_on="employee_id")
        assert both.height > 30
        adjusted = spearmanr(both["estimate"], both["skill"])[0]
        gains.append(adjusted - spearmanr(both["raw"], both["skill"])[0])
        assert adjusted > 0.5
    assert min(gains) > 0


def test_a_source_that_never_sells_is_no_stumbling_block() -> None:
    leads = leads_of([0.0, 0.4, -0.4, 0.2], [80] * 4, seed=5)
    never = leads.head(12).with_columns(
        source=pl.lit("radio"), won_at=pl.lit(None, pl.Date), manager=pl.int_range(12) % 4
    )
    found = adjusted_conversion(pl.concat([leads, never]), as_of=AS_OF)
    assert found.table["estimate"].is_not_null().all()
    assert found.table["n"].sum() == 332


# --- working time ---------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


@given(
    st.integers(0, 60 * 24 * 40),
    st.integers(0, 60 * 24 * 12),
    st.sets(st.integers(0, 39), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_open_minutes_are_those_counted_one_by_one(
    start: int, length: int, closed: set[int]
) -> None:
    first = datetime(2026, 2, 20)  # noqa: DTZ001
    shop = WorkingCalendar(
        opens=time(9, 30), closes=time(19), weekdays=frozenset({0, 1, 2, 3, 4, 5}),
        holidays=frozenset(first.date() + timedelta(days=d) for d in closed),
    )  # fmt: skip
    begin = first + timedelta(minutes=start)
    by_hand = sum(
        1
        for minute in range(length)
        if (now := begin + timedelta(minutes=minute)).weekday() != 6
        and now.date() not in shop.holidays
        and time(9, 30) <= now.time() < time(19)
    )
    seconds = (begin - EPOCH).total_seconds()
    assert shop.minutes_between(seconds, seconds + 60 * length) == pytest.approx(by_hand, abs=1e-6)


def test_a_calendar_must_open_before_it_closes() -> None:
    with pytest.raises(InputError, match="open before it closes"):
        WorkingCalendar(opens=time(20), closes=time(9))
    with pytest.raises(InputError, match=r"0 \(Monday\) to 6"):
        WorkingCalendar(weekdays=frozenset({7}))


# --- planned contacts -----------------------------------------------------------------------------


def contacts() -> pl.DataFrame:
    moment = [datetime(2026, 6, day, 12) for day in (1, 2, 3, 29, 30)]  # noqa: DTZ001
    return pl.DataFrame(
        {
            "due_at": [*moment, datetime(2026, 7, 5)],  # noqa: DTZ001
            "done_at": [
                moment[0], moment[1] + timedelta(hours=1), None, moment[3] - timedelta(days=1),
                datetime(2026, 7, 2), None,  # noqa: DTZ001
            ],
            "team": ["a", "a", "b", "b", "b", "b"],
        }
    )  # fmt: skip


def test_discipline_is_that_of_a_clerk(backend: Backend) -> None:
    found = contact_discipline(backend(contacts()), as_of=AS_OF, by="team").table
    assert found.select("team", "n_yes", "n_late", "n_never", "n").rows() == [
        ("a", 1, 1, 0, 2),
        ("b", 1, 0, 2, 3),  # what was done in July was not done by the end of June
    ]
    late = overdue_contacts(backend(contacts()), as_of=AS_OF).table.row(0, named=True)
    assert (late["n_yes"], late["n"], late["estimate"]) == (2, 3, pytest.approx(2 / 3))
    assert late["days"] == pytest.approx((27.5 + 0.5) / 2)


def test_groups_are_shrunk_and_told_apart_only_where_they_differ() -> None:
    rng = np.random.default_rng(4)
    due = datetime(2026, 5, 1)  # noqa: DTZ001
    rows = [
        (team, due, due if rng.random() < (0.9 if team < 5 else 0.5) else None)
        for team in range(10)
        for _contact in range(80)
    ]
    table = pl.DataFrame(rows, schema=["team", "due_at", "done_at"], orient="row")
    found = contact_discipline(table, as_of=AS_OF, by="team")
    assert "more than chance" in str(found)
    inside = found.table.select(
        (pl.col("shrunk") - pl.col("estimate").mean()).abs()
        <= (pl.col("estimate") - pl.col("estimate").mean()).abs() + 1e-9
    )
    assert inside.to_series().all()
    alike = contact_discipline(
        table.with_columns(team=pl.int_range(pl.len()) % 10), as_of=AS_OF, by="team"
    )
    assert "no difference between them is established" in str(alike)


# --- entry and answers ----------------------------------------------------------------------------


def test_what_is_typed_in_before_it_happened_is_not_in_time(backend: Backend) -> None:
    noon = datetime(2026, 6, 10, 12)  # noqa: DTZ001
    rows = pl.DataFrame(
        {
            "happened_at": [noon, noon, noon, noon, datetime(2026, 6, 30, 20)],  # noqa: DTZ001
            "entered_at": [
                noon + timedelta(hours=24), noon + timedelta(hours=25), noon - timedelta(hours=1),
                None, None,
            ],
        }
    )  # fmt: skip
    found = entry_timeliness(backend(rows), as_of=AS_OF)
    assert found.table.select("n_yes", "n_early", "n").row(0) == (1, 1, 4)
    assert any("1 records were typed in before" in note for note in found.notes)


def waits() -> pl.DataFrame:
    start = datetime(2026, 6, 10, 10)  # noqa: DTZ001
    minutes = [5, 10, 20, 60, None]
    return pl.DataFrame(
        {
            "happened_at": [start] * 5,
            "handled_at": [None if m is None else start + timedelta(minutes=m) for m in minutes],
        }
    )


def test_whoever_has_no_answer_is_still_waiting(backend: Backend) -> None:
    found = response_time(backend(waits()), as_of=AS_OF).table.row(0, named=True)
    assert (found["n"], found["n_waiting"], found["estimate"]) == (5, 1, 20.0)
    assert found["p90"] is None
    share = answered_in_time(backend(waits()), within_minutes=20, as_of=AS_OF).table
    assert share.select("n_yes", "n").row(0) == (3, 5)


def test_what_nobody_answered_flatters_those_who_are_named() -> None:
    at = datetime.combine(date(2026, 6, 1), time(10))
    rows = [("a", at, at + timedelta(minutes=5)), (None, at, None), (None, at, at)]
    names = ["manager", "happened_at", "handled_at"]
    came = pl.DataFrame(rows, schema=names, orient="row")
    for metric in (answered_in_time, response_time):
        found = metric(came, by="manager", as_of=AS_OF)
        assert found.notes[-1].startswith("1 unanswered approaches name nobody")
        assert not any("name nobody" in note for note in metric(came, as_of=AS_OF).notes)


def test_open_minutes_leave_out_the_night() -> None:
    rows = pl.DataFrame(
        {
            "happened_at": [datetime(2026, 6, 10, 19, 50)],  # noqa: DTZ001
            "handled_at": [datetime(2026, 6, 11, 9, 5)],  # noqa: DTZ001
        }
    )
    assert response_time(rows, as_of=AS_OF).table["estimate"].item() == 13 * 60 + 15
    found = response_time(rows, calendar=WorkingCalendar(), as_of=AS_OF)
    assert found.table["estimate"].item() == 15
    assert "open minutes" in found.name


def test_bad_windows_and_columns_are_refused() -> None:
    with pytest.raises(InputError, match="positive number of hours"):
        entry_timeliness(waits(), entered_col="handled_at", within_hours=0, as_of=AS_OF)
    with pytest.raises(InputError, match="positive number"):
        answered_in_time(waits(), within_minutes=-1, as_of=AS_OF)
    with pytest.raises(InputError, match="'within_days' must be at least 1"):
        adjusted_conversion(leads_of([0.0], [1], 1), within_days=0, as_of=AS_OF)
    with pytest.raises(ColumnError, match="did you mean 'due_at'"):
        contact_discipline(contacts(), due_col="due_on", as_of=AS_OF)


def test_nothing_at_all_is_said() -> None:
    made = [
        contact_discipline(contacts().clear(), as_of=AS_OF),
        overdue_contacts(contacts().clear(), as_of=AS_OF),
        entry_timeliness(waits().clear(), entered_col="handled_at", as_of=AS_OF),
        response_time(waits().clear(), as_of=AS_OF),
        answered_in_time(waits().clear(), as_of=AS_OF),
    ]
    for result in made:
        assert result.table["estimate"].is_null().all()
        assert result.notes
        assert "nothing can be said" in str(result)
        result.show()


# --- the workshop -----------------------------------------------------------------------------


def test_the_share_put_right_at_once_can_be_counted_by_hand(backend: Backend) -> None:
    visits = pl.DataFrame(
        {
            "fixed_first_time": [True, True, False, True, False],
            "visited_on": [date(2026, 6, day) for day in (1, 2, 3, 4, 30)],
            "advisor": ["Ann", "Ann", "Ann", "Bob", "Bob"],
        }
    )
    june: dict[str, Any] = {"since": date(2026, 6, 1), "as_of": date(2026, 6, 29)}
    whole = first_time_fix(backend(visits), **june).table
    assert whole.select("n_yes", "n", "estimate").row(0) == (3, 4, 0.75)
    by_advisor = first_time_fix(backend(visits), by="advisor", **june).table.sort("advisor")
    assert by_advisor.select("advisor", "n_yes", "n").rows() == [("Ann", 2, 3), ("Bob", 1, 1)]


def test_without_visits_nothing_is_said_of_repairs() -> None:
    visits = pl.DataFrame(schema={"fixed_first_time": pl.Boolean, "visited_on": pl.Date})
    found = first_time_fix(visits, as_of=date(2026, 6, 30))
    assert found.table.select("n", "estimate").row(0) == (0, None)
    with pytest.raises(InputError, match="first day of the period"):
        first_time_fix(visits, since=date(2027, 1, 1), as_of=date(2026, 6, 30))


# --- small groups -------------------------------------------------------------------------------


def shares_of(**n: int) -> TeamShares:
    counted = pl.DataFrame(
        {"team": list(n), "k": [v // 2 for v in n.values()], "total": [*n.values()]}
    )
    return team_shares(
        counted, by=("team",), conf_level=0.95, name="Share", definition="d", what="cases"
    )


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ({"a": 50, "b": 8, "c": 90, "d": 6},
         [("a", 50), ("c", 90), ("2 groups of fewer than 30", 14)]),
        ({"a": 50, "b": 8, "c": 90}, [("c", 90), ("the 2 smallest groups", 58)]),
        ({"a": 50, "b": 40}, [("a", 50), ("b", 40)]),
        ({"a": 8}, [("a", 8)]),
    ],
)  # fmt: skip
def test_no_small_group_stands_alone(sizes: dict[str, int], rows: list[tuple[str, int]]) -> None:
    """Small groups are one row; a single one goes with the next, or it would be itself again."""
    assert shares_of(**sizes).at_least(30).table.select("team", "n").rows() == rows
