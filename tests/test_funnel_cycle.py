"""The whole cycle of a sale: how long it takes, and what each of its stages costs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal

from crm_analysis import key_figures, open_warehouse
from crm_analysis.errors import InputError
from crm_analysis.funnel import sales_cycle, stage_cost
from crm_analysis.survival import aalen_johansen, cause_times, count_durations
from crm_analysis.uncertainty import ratio_interval

EXACT = 1e-9
"""Two ways to the same arithmetic; only rounding may differ."""

START = datetime.fromisoformat("2026-01-01")
AS_OF = date(2026, 12, 31)
STAGES = ("new", "visit", "offer", "contract")
ToBackend = Callable[[pl.DataFrame], Any]
DAY = 86_400
NEVER = datetime.fromisoformat("9999-01-01")


def log(*rows: tuple[Any, ...], by: Sequence[str] = ()) -> pl.DataFrame:
    """Rows of lead, stage, days after the start, and groups."""
    names = ["opportunity_id", "stage", "day", *by]
    table = pl.DataFrame(rows, schema=names, orient="row")
    seconds = (pl.col("day") * DAY).cast(pl.Int64)
    at = pl.lit(START) + pl.duration(seconds=seconds)
    return table.select("opportunity_id", "stage", at.alias("happened_at"), *by)


# --- times to one cause of several --------------------------------------------------------------


def curves(duration: Any, cause: Any) -> Any:
    return aalen_johansen(*count_durations(np.asarray(duration), np.asarray(cause)))


def test_without_censoring_times_are_those_of_the_winners_alone() -> None:
    rng = np.random.default_rng(1)
    duration, cause = rng.integers(1, 200, 301), rng.integers(1, 3, 301)
    found = cause_times(curves(duration, cause), 0, 200)
    won = np.sort(duration[cause == 1])
    assert found.share == pytest.approx(len(won) / 301, abs=EXACT)
    assert found.mean == pytest.approx(won.mean(), abs=EXACT)
    assert found.std_error == pytest.approx(won.std() / math.sqrt(len(won)), abs=EXACT)
    ranks = [math.ceil(share * len(won)) - 1 for share in (0.5, 0.9)]
    assert [one.time for one in found.quantiles] == won[ranks].tolist()


REPEATS, LEADS, HORIZON = 300, 400, 600
"""Enough to tell a share of 95 % from one of 91 %, by 3 standard errors of 300 draws."""


def test_intervals_cover_the_true_times_though_many_are_still_open() -> None:
    # Two exponential causes compete: the times to either have the rate of both together.
    rate, own = 1 / 300, 0.4
    reached = -math.expm1(-rate * HORIZON)
    true = [-math.log1p(-share * reached) / rate for share in (0.5, 0.9)]
    true_mean = 1 / rate - HORIZON * (1 - reached) / reached
    rng, hits, means = np.random.default_rng(2), np.zeros(3), []
    for _ in range(REPEATS):
        lasts = rng.exponential(1 / rate, LEADS)
        watched = rng.uniform(0, 2 * HORIZON, LEADS)
        cause = np.where(lasts <= watched, np.where(rng.random(LEADS) < own, 1, 2), 0)
        duration = np.minimum(lasts, watched).astype(int)
        found = cause_times(curves(duration, cause), 0, HORIZON)
        bounds = [(one.low, one.high) for one in found.quantiles]
        bounds.append((found.mean - 1.96 * found.std_error, found.mean + 1.96 * found.std_error))
        hits += [
            low <= t <= high for t, (low, high) in zip([*true, true_mean], bounds, strict=True)
        ]
        means.append(found.mean)
    error = math.sqrt(0.95 * 0.05 / REPEATS)
    assert (abs(hits / REPEATS - 0.95) < 3 * error).all(), hits / REPEATS
    assert np.mean(means) == pytest.approx(
        true_mean, abs=3 * float(np.std(means)) / math.sqrt(REPEATS)
    )


def test_what_nobody_was_watched_for_is_not_known() -> None:
    found = cause_times(curves([3, 5], [1, 0]), 0, 10)
    assert math.isnan(found.share)
    assert math.isnan(found.mean)
    nobody = cause_times(curves([3, 12], [2, 0]), 0, 10)
    assert (nobody.share, math.isnan(nobody.quantiles[0].time)) == (0.0, True)


# --- the cycle ----------------------------------------------------------------------------------


def test_the_cycle_runs_from_the_first_enquiry_and_not_from_the_last() -> None:
    cases = json.loads(
        (Path(__file__).parent / "reference" / "funnel_cases.json").read_text(encoding="utf-8")
    )["cases"]
    case = next(one for one in cases if one["id"] == "own_time_from_which_start")
    rows = [
        (unit, stage, datetime.fromisoformat(at)) for unit, stage, at in case["input"]["events"]
    ]
    events = pl.DataFrame(rows, schema=["opportunity_id", "stage", "happened_at"], orient="row")
    cycle = sales_cycle(
        events, from_stage="lead", within_days=case["call"]["window_s"] / DAY, as_of=AS_OF
    )
    days = case["expected"]["ordered/first (speed-to-sale from first enquiry)"] / DAY
    assert cycle.table["estimate"].item() == days
    assert cycle.table["mean_days"].item() == days


def test_open_leads_are_watched_so_far_and_lost_ones_do_not_wait() -> None:
    # By hand: of 4 leads one is won on day 10 (F = 1/4); of 3 left one is lost on day 20 and one
    # stops being watched on day 30; the last is won on day 40, with half of all still there.
    events = log(
        (1, "new", 0), (1, "contract", 10), (2, "new", 0), (2, "lost", 20),
        (3, "new", 335), (4, "new", 0), (4, "contract", 40),
    )  # fmt: skip
    cycle = sales_cycle(events, within_days=60, as_of=AS_OF)
    row = cycle.table.row(0, named=True)
    # Its median is of sales: a card and the finding name the same n.
    assert key_figures([cycle]).key_figures[0].n == "n = 2"
    assert "n = 2)" in str(cycle)
    assert (row["n"], row["n_won"], row["n_lost"], row["n_open"]) == (4, 2, 1, 1)
    assert row["win_rate"] == pytest.approx(1 / 4 + 1 / 2, abs=EXACT)
    assert row["mean_days"] == pytest.approx((10 / 4 + 40 / 2) / (3 / 4), abs=EXACT)
    assert row["estimate"] == 40.0


def test_the_mean_of_finished_cycles_is_too_short_and_ours_is_not() -> None:
    rng = np.random.default_rng(3)
    n = 4000
    opened, lasts = rng.uniform(0, 60, n), rng.gamma(4, 8, n)
    end = 60.0
    rows = [
        (i, stage, day)
        for i in range(n)
        for stage, day in (("new", opened[i]), ("contract", opened[i] + lasts[i]))
        if day <= end
    ]
    found = sales_cycle(log(*rows), within_days=59, as_of=date(2026, 3, 1)).table.row(0, named=True)
    kept = lasts[lasts <= 59]
    closed = lasts[opened + lasts <= end].mean()
    true = kept.mean()
    assert closed < found["mean_low"]
    assert found["mean_low"] < true < found["mean_high"]


def test_groups_are_compared_by_their_means_and_said() -> None:
    rng = np.random.default_rng(4)
    rows = [
        (i, stage, day, "slow" if i % 2 else "fast")
        for i in range(200)
        for stage, day in (("new", 0), ("contract", float(rng.gamma(9, 3 if i % 2 else 2))))
    ]
    cycle = sales_cycle(log(*rows, by=["team"]), within_days=90, as_of=AS_OF, by="team")
    p = cycle.difference_p_value()
    assert p is not None
    assert p < 0.001
    assert "slow" in cycle.sentence()
    assert isinstance(cycle.plot().figure, Figure)
    halves = [row for row in rows if row[3] == "slow"]
    one = sales_cycle(log(*halves, by=["team"]), within_days=90, as_of=AS_OF)
    assert one.table["estimate"].item() == cycle.table["estimate"].to_list()[1]
    assert "nine in ten" in one.sentence()


def test_a_cycle_of_nobody_is_not_known() -> None:
    events = log((1, "new", 0), (2, "new", 300))
    nobody = sales_cycle(events, within_days=60, as_of=AS_OF)
    assert nobody.table.select("n", "n_won", "estimate", "win_rate").row(0) == (2, 0, None, 0.0)
    assert "nothing can be said" in nobody.sentence()
    empty = sales_cycle(events.clear(), within_days=60, as_of=AS_OF)
    assert empty.table.select("n", "estimate").row(0) == (0, None)
    assert any("no leads" in note for note in empty.notes)
    young = sales_cycle(log((1, "new", 360), (1, "contract", 362)), within_days=60, as_of=AS_OF)
    assert young.table["estimate"].item() == 2.0  # everybody is done: nothing more can come
    watched = sales_cycle(log((1, "new", 360), (2, "new", 1)), within_days=math.inf, as_of=AS_OF)
    assert watched.table["win_rate"].item() == 0.0
    with pytest.raises(InputError, match="within_days"):
        sales_cycle(events, within_days=0, as_of=AS_OF)


# --- what stages cost ---------------------------------------------------------------------------


def drawn(seed: int, n: int = 60) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leads that skip stages, go back, are lost and come at the same moment; and sums spent."""
    rng = np.random.default_rng(seed)
    rows = [
        (i, str(rng.choice([*STAGES, "lost"])), int(rng.integers(0, 60)) + int(i % 5), f"t{i % 2}")
        for i in range(n)
        for _ in range(rng.integers(1, 6))
    ]
    spent = [(int(rng.integers(0, n)), "", int(rng.integers(0, 120))) for _ in range(4 * n)]
    costs = log(*spent).drop("stage")
    return log(*rows, by=["team"]), costs.with_columns(
        cost=pl.Series(rng.integers(1, 50, len(spent)).astype(float))
    )


def slow_lead(
    events: list[tuple[str, datetime]], costs: list[tuple[datetime, float]], window: timedelta,
    work: dict[str, float],
) -> tuple[int, list[float], list[float]]:  # fmt: skip
    """Return how far one lead came, and what each stage cost it and took, by the rules in words."""
    began = min(at for _, at in events)
    limit = began + window
    came = {
        k: min((at for stage, at in events if stage == name), default=NEVER)
        for k, name in enumerate(STAGES, 1)
    }
    reach = max((k for k, at in came.items() if at <= limit), default=0)
    lost = min((at for stage, at in events if stage == "lost"), default=NEVER)
    until = min(came[len(STAGES)], limit)
    spent = [0.0] * (len(STAGES) - 1)
    for at, cost in costs:
        if at <= until:
            stood = max((k for k in range(1, len(STAGES)) if came[k] < at), default=1)
            spent[stood - 1] += cost
    took = []
    for k in range(1, len(STAGES)):
        left = min(limit, *(came[j] for j in range(k + 1, len(STAGES) + 1)))
        left = lost if came[k] <= lost < left else left
        took.append(max((left - came[k]).total_seconds(), 0.0) / DAY)
        if came[k] <= until:
            spent[k - 1] += work.get(STAGES[k - 1], 0.0)
    return reach, spent, took


@pytest.mark.parametrize("seed", range(3))
def test_stage_costs_equal_the_slow_twin(seed: int) -> None:
    events, costs = drawn(seed)
    hours = {"visit": 1.5, "offer": 2.0}
    found = stage_cost(
        events, costs=costs, stages=STAGES, hours=hours, hour_cost=10.0, within_days=30, as_of=AS_OF
    )
    leads: list[Any] = []
    for (unit,), own in events.group_by("opportunity_id"):
        paid = costs.filter(pl.col("opportunity_id") == unit).select("happened_at", "cost").rows()
        told = own.select("stage", "happened_at").rows()
        leads.append(slow_lead(told, paid, timedelta(30), {k: 10 * h for k, h in hours.items()}))
    reach = np.array([one[0] for one in leads])
    for k, row in enumerate(found.table.to_dicts(), 1):
        cost, days = (np.array([one[part][k - 1] for one in leads]) for part in (1, 2))
        ratio = ratio_interval(cost, reach > k)
        made = [row[name] for name in ("estimate", "std_error", "conf_low", "conf_high")]
        assert made == pytest.approx([*ratio[:2], max(ratio[2], 0), ratio[3]], abs=EXACT)
        assert (row["n"], row["n_moved_on"]) == ((reach >= k).sum(), (reach > k).sum())
        assert row["cost"] == pytest.approx(cost.sum(), abs=EXACT)
        assert row["days"] == pytest.approx(days.sum() / (reach >= k).sum(), abs=EXACT)
    whole = np.array([sum(one[1]) for one in leads])
    ratio = ratio_interval(whole, reach == len(STAGES))
    sale = found.per_sale().table.row(0, named=True)
    assert sale["estimate"] == pytest.approx(ratio[0], abs=EXACT)
    assert sale["std_error"] == pytest.approx(ratio[1], abs=EXACT)
    assert found.table["cost_per_sale"].sum() == pytest.approx(ratio[0], abs=EXACT)


def test_costs_by_group_are_those_of_each_group_alone() -> None:
    events, costs = drawn(7)
    asked: dict[str, Any] = {"costs": costs, "stages": STAGES, "within_days": 30, "as_of": AS_OF}
    both = stage_cost(events, by="team", **asked)
    for team in ("t0", "t1"):
        alone = stage_cost(events.filter(pl.col("team") == team), **asked)
        assert_frame_equal(both.table.filter(pl.col("team") == team).drop("team"), alone.table)
        part = both.sales.filter(pl.col("team") == team).drop("team")
        assert_frame_equal(part, alone.sales.select(part.columns))
    assert isinstance(both.plot().figure, Figure)


def test_leads_too_young_to_be_judged_cost_nothing_yet() -> None:
    events = log((1, "new", 0), (1, "contract", 5), (2, "new", 340))
    costs = log((1, "", 0), (2, "", 340)).drop("stage").with_columns(cost=pl.lit(70))
    found = stage_cost(events, costs=costs, stages=STAGES, as_of=AS_OF)
    assert found.per_sale().table.select("n", "n_sold", "estimate").row(0) == (1, 1, 70.0)
    later = stage_cost(events, costs=costs, stages=STAGES, since=date(2026, 1, 2), as_of=AS_OF)
    assert later.table["estimate"].to_list() == [None] * 3
    assert any("no leads" in note for note in later.notes)


def test_where_no_cost_is_recorded_none_is_known() -> None:
    events, costs = drawn(1)
    found = stage_cost(events, costs=costs.clear(), stages=STAGES, as_of=AS_OF)
    assert found.table["estimate"].null_count() == 3
    assert found.table["days"].null_count() == 0
    assert any("No cost" in note or "no cost" in note for note in found.notes)
    assert "nothing can be said" in found.sentence()
    empty = stage_cost(events.clear(), costs=costs, stages=STAGES, as_of=AS_OF)
    assert empty.sales.select("n", "estimate").row(0) == (0, None)


def test_work_is_priced_wholly_or_not_at_all() -> None:
    events, costs = drawn(1)
    asked: dict[str, Any] = {"costs": costs, "stages": STAGES, "as_of": AS_OF}
    with pytest.raises(InputError, match="both"):
        stage_cost(events, hours={"visit": 1}, **asked)
    with pytest.raises(InputError, match="for contract"):
        stage_cost(events, hours={"contract": 1}, hour_cost=5, **asked)
    with pytest.raises(InputError, match="0 or more"):
        stage_cost(events, hours={"visit": -1}, hour_cost=5, **asked)
    said = stage_cost(events, hours={"visit": 1}, hour_cost=5, currency="USD", **asked)
    assert any("assumptions" in note for note in said.notes)
    assert isinstance(said.plot().figure, Figure)


def test_cycles_and_costs_are_the_same_on_every_backend(backend: ToBackend) -> None:
    events, costs = drawn(5, 40)
    given: dict[str, Any] = {"stages": STAGES, "within_days": 30, "as_of": AS_OF, "by": "team"}
    made = stage_cost(backend(events), costs=backend(costs), **given)
    wanted = stage_cost(events, costs=costs, **given)
    assert_frame_equal(made.table, wanted.table)
    assert_frame_equal(made.sales, wanted.sales)
    asked: dict[str, Any] = {"within_days": 50, "as_of": AS_OF, "by": "team"}
    assert_frame_equal(
        sales_cycle(backend(events), **asked).table, sales_cycle(events, **asked).table
    )


# --- on a network -------------------------------------------------------------------------------


def test_a_networks_cycle_costs_what_its_tables_say(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    stages = ["new", "contact", "visit", "test_drive", "offer", "contract"]
    found = stage_cost(
        crm.lead_events(), costs=crm.lead_costs(call_cost=5, message_cost=1), stages=stages,
        as_of=crm.as_of,
    )  # fmt: skip
    # Advertising: all that was spent, but for what the leads of the last 90 days are to bear.
    events = crm.table("stage_events").filter(pl.col("stage").cast(pl.String) == "new").collect()
    spent = crm.lead_costs(call_cost=5, message_cost=1).collect()
    advertised = spent.filter(pl.col("kind") == "advertising")
    total = crm.table("campaign_days").select(pl.col("spend").sum()).collect().item()
    assert advertised["cost"].sum() == pytest.approx(total, rel=EXACT)
    cutoff = datetime.combine(crm.as_of, datetime.min.time()) - timedelta(89)
    young = events.filter(pl.col("happened_at") >= cutoff)["opportunity_id"]
    of_old = advertised.filter(~pl.col("opportunity_id").is_in(young.implode()))
    assert found.table["cost"][0] >= of_old["cost"].sum() > 0
    calls = spent.filter(pl.col("kind") == "contacts")["cost"].sum()
    assert float(found.table["cost"].sum()) <= float(of_old["cost"].sum()) + float(calls)
    assert len(crm.lead_cost_rule(call_cost=5, message_cost=1)) == 2
