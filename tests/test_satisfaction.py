"""What customers say: against R and statsmodels, loops anyone can check, and simulation."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy import stats

from crm_analysis import (
    ColumnError,
    Estimates,
    InputError,
    mean_score,
    net_promoter_score,
    response_rate,
    score_distribution,
    top_box_score,
)
from crm_analysis.satisfaction import adjusted_wald_interval, count_scores, typical_requests
from crm_analysis.wording import number, speaking

REFERENCE = Path(__file__).parent / "reference" / "satisfaction"
CASES = {
    case["id"]: case for case in json.loads((REFERENCE / "cases.json").read_text("utf-8"))["cases"]
}
AS_OF = date(2025, 12, 31)
FIRST = date(2024, 1, 1)

EXACT = 1e-9
"""The same formula in another order of adding differs by rounding alone."""

Table = pl.DataFrame
Metric = Callable[..., Estimates]


def answers(scores: Sequence[float | None], **columns: Any) -> Table:
    table = pl.DataFrame({"score": pl.Series(scores, dtype=pl.Float64), **columns})
    if "answered_on" not in table.columns:
        table = table.with_columns(answered_on=pl.lit(FIRST))
    return table


def random_answers(n: int, seed: int, n_groups: int = 5) -> Table:
    rng = np.random.default_rng(seed)
    day = rng.integers(0, 800, n)  # some after AS_OF
    score = np.clip(np.round(8 + rng.normal(0, 2.2, n)), 0, 10)
    return pl.DataFrame(
        {
            "score": pl.Series(score).set(pl.Series(rng.random(n) < 0.1), None),
            "answered_on": [FIRST + timedelta(days=int(d)) for d in day],
            "employee_id": rng.integers(1, n_groups + 1, n),
            "kind": np.where(rng.random(n) < 0.5, "sales", "service"),
        }
    )


def nps(table: Any, **arguments: Any) -> Any:
    return net_promoter_score(table, as_of=AS_OF, **arguments)


def only_row(result: Estimates) -> dict[str, Any]:
    assert result.table.height == 1
    return result.table.row(0, named=True)


# --- known answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nps_R_1", "nps_R_2", "nps_R_6"])
def test_net_promoter_score_is_that_of_r(name: str) -> None:
    case = CASES[name]
    row = only_row(nps(answers(case["input"]["scores"])))
    assert row["estimate"] == pytest.approx(case["expected"]["nps"], abs=EXACT)
    assert row["std_error"] == pytest.approx(case["expected"]["se"], abs=1e-8)
    assert round(row["std_error"] / 100, 3) == case["expected"]["published_se_3dp"]
    n = len(case["input"]["scores"])
    variance = case["expected"]["variance_unit"]
    assert (row["std_error"] / 100) ** 2 * n == pytest.approx(variance, abs=EXACT)


@pytest.mark.parametrize("name", ["wilson_18_20", "wilson_190_200"])
def test_top_box_interval_is_that_of_r(name: str) -> None:
    k, n = CASES[name]["input"]["k"], CASES[name]["input"]["n"]
    row = only_row(top_box_score(answers([5.0] * k + [1.0] * (n - k)), as_of=AS_OF))
    assert (row["n"], row["n_top"]) == (n, k)
    assert row["conf_low"] == pytest.approx(CASES[name]["expected"]["low"], abs=EXACT)
    assert row["conf_high"] == pytest.approx(CASES[name]["expected"]["high"], abs=EXACT)


def test_adjusted_wald_by_hand() -> None:
    # 3 promoters, 2 passives, 1 detractor become 3.75, 3.5 and 1.75 of 9:
    # (3.75 - 1.75) / 9 = .2222; variance (.41667 + .19444 - .2222^2) / 9 = .062414.
    row = only_row(nps(answers([0, 7, 7, 9, 9, 9])))
    half = 1.959963985 * 0.062414266**0.5
    assert row["conf_low"] == pytest.approx(100 * (2 / 9 - half), abs=1e-5)
    assert row["conf_high"] == pytest.approx(100 * (2 / 9 + half), abs=1e-5)


def test_mean_interval_is_students_t() -> None:
    scores = [3.0, 4, 4, 5, 5, 2]
    row = only_row(mean_score(answers(list(scores)), scale=(0, 10), as_of=AS_OF))
    low, high = stats.t.interval(0.95, len(scores) - 1, np.mean(scores), stats.sem(scores))
    assert row["estimate"] == pytest.approx(np.mean(scores), abs=EXACT)
    assert row["std_error"] == pytest.approx(stats.sem(scores), abs=EXACT)
    assert (row["conf_low"], row["conf_high"]) == pytest.approx((low, high), abs=EXACT)


def test_the_test_between_groups_is_the_analysis_of_variance() -> None:
    table = random_answers(300, seed=5).drop_nulls("score").with_columns(answered_on=FIRST)
    groups = [part["score"].to_numpy() for part in table.partition_by("employee_id")]
    result = mean_score(table, scale=(0, 10), as_of=AS_OF, by="employee_id")
    assert result.p_value == pytest.approx(stats.f_oneway(*groups).pvalue, rel=1e-9)


# --- slow twins ---------------------------------------------------------------------------------


def slow_summary(table: Table, by: str) -> dict[Any, list[float]]:
    """Return the counted scores of each group, one by one."""
    found: dict[Any, list[float]] = {}
    for row in table.iter_rows(named=True):
        scores = found.setdefault(row[by], [])
        if row["score"] is not None and row["answered_on"] <= AS_OF:
            scores.append(row["score"])
    return dict(sorted(found.items()))


def slow_shrunk(groups: dict[Any, list[float]]) -> tuple[list[float], float]:
    """Shrink group means by bisection for tau squared, with a pooled variance."""
    mean = {g: sum(x) / len(x) for g, x in groups.items()}
    squares = sum((v - mean[g]) ** 2 for g, x in groups.items() for v in x)
    pooled = squares / (sum(map(len, groups.values())) - len(groups))
    sigma2 = {g: pooled / len(x) for g, x in groups.items()}

    def centre_and_q(tau2: float) -> tuple[float, float]:
        weight = {g: 1 / (sigma2[g] + tau2) for g in groups}
        centre = sum(weight[g] * mean[g] for g in groups) / sum(weight.values())
        return centre, sum(weight[g] * (mean[g] - centre) ** 2 for g in groups)

    low, high = 0.0, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if centre_and_q(middle)[1] > len(groups) - 1 else (low, middle)
    tau2 = low
    centre = centre_and_q(tau2)[0]
    shrunk = [
        centre + tau2 / (tau2 + sigma2[g]) * (mean[g] - centre) if tau2 > 1e-12 else centre
        for g in groups
    ]
    return shrunk, tau2


@pytest.mark.parametrize("seed", range(4))
def test_shrunk_means_equal_the_slow_twin(seed: int) -> None:
    table = random_answers(200, seed).with_columns(
        score=(pl.col("score") - pl.col("employee_id") * (seed % 2)).clip(0, 10)
    )
    result = mean_score(table, scale=(0, 10), as_of=AS_OF, by="employee_id")
    groups = slow_summary(table, "employee_id")
    shrunk, tau2 = slow_shrunk(groups)
    assert result.table["employee_id"].to_list() == list(groups)
    assert result.table["n"].to_list() == [len(x) for x in groups.values()]
    assert result.table["shrunk"].to_list() == pytest.approx(shrunk, abs=1e-7)
    assert result.between_sd == pytest.approx(tau2**0.5, abs=1e-5)


def test_shrunk_net_promoter_scores_are_shrunk_means_of_minus_one_zero_one() -> None:
    table = random_answers(400, seed=9, n_groups=8)
    result = nps(table, by="employee_id")
    groups = {
        group: [float((v >= 9) - int(v <= 6)) for v in scores]
        for group, scores in slow_summary(table, "employee_id").items()
    }
    shrunk, tau2 = slow_shrunk(groups)
    assert result.table["shrunk"].to_list() == pytest.approx([100 * s for s in shrunk], abs=1e-4)
    assert result.between_sd == pytest.approx(100 * tau2**0.5, abs=1e-2)


def slow_periods(table: Table) -> dict[str, tuple[int, float]]:
    found: dict[str, list[float]] = {}
    for row in table.iter_rows(named=True):
        day, score = row["answered_on"], row["score"]
        if score is not None and day <= AS_OF:
            found.setdefault(f"{day.year}-Q{(day.month + 2) // 3}", []).append(score)
    return {key: (len(x), float(np.mean(x))) for key, x in sorted(found.items())}


def test_quarters_equal_the_slow_twin() -> None:
    table = random_answers(300, seed=3)
    result = mean_score(table, scale=(0, 10), period="quarter", as_of=AS_OF)
    expected = slow_periods(table)
    assert result.by == ("period",)
    assert result.table["period"].to_list() == list(expected)
    assert result.table["n"].to_list() == [n for n, _ in expected.values()]
    assert result.table["estimate"].to_list() == pytest.approx([m for _, m in expected.values()])
    assert "shrunk" not in result.table.columns


@pytest.mark.parametrize(
    ("period", "expected"), [("month", "2024-02"), ("quarter", "2024-Q1"), ("year", "2024")]
)
def test_periods_are_named(period: Any, expected: str) -> None:
    table = answers([9.0], answered_on=[date(2024, 2, 29)])
    assert nps(table, period=period).table["period"].to_list() == [expected]


def slow_response(rows: list[tuple[datetime, datetime | None]], days: float, as_of: date) -> Any:
    end = datetime.combine(as_of + timedelta(days=1), datetime.min.time())
    mature = [(s, a) for s, a in rows if s + timedelta(days=days) < end]
    in_time = [s for s, a in mature if a is not None and a - s <= timedelta(days=days)]
    return len(mature), len(in_time)


@pytest.mark.parametrize("days", [0.5, 7, 30])
def test_response_rate_equals_the_slow_twin(days: float) -> None:
    rng = np.random.default_rng(2)
    sent = [
        datetime.fromisoformat("2025-06-01") + timedelta(hours=int(h))
        for h in rng.integers(0, 6000, 150)
    ]
    wait = rng.exponential(200, 150)
    answered = [
        s + timedelta(hours=int(w)) if w < 400 else None for s, w in zip(sent, wait, strict=True)
    ]
    table = pl.DataFrame({"sent_at": sent, "answered_at": answered})
    row = only_row(response_rate(table, within_days=days, as_of=AS_OF))
    expected = slow_response(list(zip(sent, answered, strict=True)), days, AS_OF)
    assert (row["n"], row["n_in_time"]) == expected


def test_the_window_of_an_answer_is_inclusive() -> None:
    sent = datetime.fromisoformat("2025-11-01 12:00")
    answered = [sent + timedelta(days=7, seconds=s) for s in (0, 1, -1)]
    table = pl.DataFrame({"sent_at": [sent] * 3, "answered_at": answered})
    row = only_row(response_rate(table, within_days=7, as_of=AS_OF))
    assert (row["n"], row["n_in_time"]) == (3, 2)


# --- what is counted ------------------------------------------------------------------------------


def test_what_is_not_an_answer_is_left_out_and_said() -> None:
    table = pl.DataFrame(
        {
            "score": [10.0, 9.0, None, float("nan"), 0.0, 3.0],
            "answered_on": [FIRST, FIRST, None, FIRST, date(2026, 1, 1), None],
        }
    )
    result = nps(table)
    assert only_row(result)["n"] == 2
    notes = " ".join(result.notes)
    assert "2 rows without a score" in notes
    assert "1 answer given after 31 December 2025 is left out" in notes
    assert "1 answer without a date" in notes


def test_an_answer_on_the_last_day_counts() -> None:
    table = answers([10.0, 10.0], answered_on=[AS_OF, AS_OF + timedelta(days=1)])
    assert only_row(nps(table))["n"] == 1


def test_answers_count_from_the_first_day_on() -> None:
    days = [date(2025, 1, 1) + timedelta(days=d) for d in (-1, 0, 1)]
    table = answers([0.0, 10.0, 10.0], answered_on=days)
    result = nps(table, since=date(2025, 1, 1))
    assert (only_row(result)["n"], only_row(result)["estimate"]) == (2, 100)
    assert "from 1 January 2025 to 31 December 2025" in result.definition
    surveys = pl.DataFrame({"sent_at": days, "answered_at": [None, None, days[2]]})
    row = only_row(response_rate(surveys, since=date(2025, 1, 1), as_of=AS_OF))
    assert (row["n"], row["n_in_time"]) == (2, 1)
    assert (
        "Sent on 1 January 2025 or later"
        in response_rate(surveys, since=date(2025, 1, 1), as_of=AS_OF).definition
    )


def test_without_a_date_column_everything_counts() -> None:
    table = pl.DataFrame({"score": [9, 10, 3]})
    result = nps(table, at_col=None)
    assert only_row(result)["n"] == 3
    assert "All answers of the table" in result.definition


def test_groups_in_which_nobody_answered_stay_with_null() -> None:
    table = answers([9.0, 5.0, None, None], dealership=["A", "A", "B", "B"])
    result = nps(table, by="dealership")
    silent = result.table.filter(pl.col("dealership") == "B").row(0, named=True)
    assert (silent["n"], silent["estimate"], silent["conf_low"]) == (0, None, None)


def test_classes_add_up_and_cuts_can_be_set() -> None:
    table = answers([float(s) for s in range(11)])
    row = only_row(nps(table))
    assert [row[c] for c in ("n_promoters", "n_passives", "n_detractors")] == [2, 2, 7]
    row = only_row(nps(table, promoters_from=8, detractors_to=5))
    assert [row[c] for c in ("n_promoters", "n_passives", "n_detractors")] == [3, 2, 6]


def test_the_distribution_knows_scores_nobody_gave() -> None:
    table = answers([5.0, 5.0, 4.0, None], kind=["sales", "service", "sales", "service"])
    result = score_distribution(table, scale=(1, 5), as_of=AS_OF, by="kind")
    assert result.table.height == 10
    sales = result.table.filter(pl.col("kind") == "sales")
    assert sales["n_answers"].to_list() == [0, 0, 0, 1, 1]
    assert sales["n"].to_list() == [2] * 5
    assert sales["estimate"].sum() == pytest.approx(1)


# --- honest intervals -----------------------------------------------------------------------------


def test_a_group_of_like_answers_has_an_interval_with_a_width() -> None:
    table = answers([10.0] * 3 + [0.0] * 2, employee_id=[1, 1, 1, 2, 2])
    result = nps(table, by="employee_id").table
    assert (result["conf_high"] - result["conf_low"] > 30).all()
    assert result["conf_high"][0] == 100
    assert result["conf_low"][1] == -100


@pytest.mark.parametrize("scores", [[4.0], [4.0, 4.0, 4.0]])
def test_a_mean_of_like_answers_has_no_interval_and_says_so(scores: list[float]) -> None:
    result = mean_score(answers(list(scores)), scale=(1, 5), as_of=AS_OF)
    row = only_row(result)
    assert (row["estimate"], row["conf_low"], row["conf_high"]) == (4.0, None, None)
    assert any("No interval can be given" in note for note in result.notes)


def test_a_plain_wald_interval_of_like_answers_is_null() -> None:
    result = nps(answers([10.0] * 4), ci_method="wald")
    assert only_row(result)["conf_low"] is None
    assert any("No interval can be given" in note for note in result.notes)


def test_plain_wald_by_hand() -> None:
    row = only_row(nps(answers([0, 7, 7, 9, 9, 9]), ci_method="wald"))
    assert row["conf_low"] == pytest.approx(33.333333 - 1.959964 * 30.429031, abs=1e-4)


@pytest.mark.parametrize("n", [10, 25, 60, 200])
@pytest.mark.parametrize("shares", [(0.45, 0.35, 0.2), (0.7, 0.2, 0.1), (0.2, 0.3, 0.5)])
def test_adjusted_wald_covers(n: int, shares: tuple[float, float, float]) -> None:
    """95 % intervals cover; the band is binomial, and 2 points for a discrete statistic."""
    n_runs = 4000
    draws = np.random.default_rng(n).multinomial(n, shares, n_runs)
    low, high = adjusted_wald_interval(draws[:, 0], draws[:, 2], np.full(n_runs, n))
    truth = shares[0] - shares[2]
    covered = float(np.mean((low <= truth) & (truth <= high)))
    band = 3 * np.sqrt(0.95 * 0.05 / n_runs) + 0.02
    assert abs(covered - 0.95) < band


def test_adjusted_wald_covers_where_plain_wald_does_not() -> None:
    draws = np.random.default_rng(1).multinomial(10, (0.85, 0.12, 0.03), 4000)
    low, high = adjusted_wald_interval(draws[:, 0], draws[:, 2], np.full(4000, 10))
    net = (draws[:, 0] - draws[:, 2]) / 10
    half = 1.96 * np.sqrt(((draws[:, 0] + draws[:, 2]) / 10 - net**2) / 10)
    plain = np.mean(np.abs(net - 0.82) <= half)
    adjusted = np.mean((low <= 0.82) & (high >= 0.82))
    assert plain < 0.90
    assert adjusted > 0.93


def test_shrunk_intervals_cover_the_truth_of_groups() -> None:
    """Employees differ; over many networks the shrunk intervals cover about 95 % of them."""
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(40):
        skill = rng.normal(0, 0.6, 12)
        sizes = rng.integers(4, 60, 12)
        employee = np.repeat(np.arange(12), sizes)
        score = np.clip(5 + skill[employee] + rng.normal(0, 1.5, len(employee)), 0, 10)
        table = answers(list(score), employee_id=employee)
        found = mean_score(table, scale=(0, 10), as_of=AS_OF, by="employee_id").table
        low, high = found["shrunk_low"].to_numpy(), found["shrunk_high"].to_numpy()
        covered.append((low <= 5 + skill) & (5 + skill <= high))
    share = float(np.mean(covered))
    # 480 employees: the binomial standard error is .01.
    assert 0.92 <= share <= 0.98


def test_shrunk_values_are_closer_to_the_truth_than_raw_ones() -> None:
    rng = np.random.default_rng(8)
    raw, shrunk = 0.0, 0.0
    for _ in range(20):
        skill = rng.normal(0, 0.3, 15)
        employee = np.repeat(np.arange(15), rng.integers(3, 25, 15))
        score = np.clip(5 + skill[employee] + rng.normal(0, 1.5, len(employee)), 0, 10)
        found = mean_score(
            answers(list(score), employee_id=employee), scale=(0, 10), as_of=AS_OF, by="employee_id"
        ).table
        raw += float(((found["estimate"] - 5 - skill) ** 2).sum())
        shrunk += float(((found["shrunk"] - 5 - skill) ** 2).sum())
    assert shrunk < 0.7 * raw


# --- noise is not ranked --------------------------------------------------------------------------


def like_groups(n: int = 40) -> Table:
    scores = [10.0, 9.0, 8.0, 7.0, 6.0, 3.0, 10.0, 9.0] * (n // 8)
    return answers(scores * 4, employee_id=np.repeat([11, 12, 13, 14], n))


def test_like_groups_are_not_ranked() -> None:
    result = nps(like_groups(), by="employee_id")
    assert not result.differ()
    assert "no difference between them is established" in str(result)
    assert not any(name in str(result) for name in ("11", "12", "13", "14"))
    assert any("do not rank them" in note for note in result.notes)
    assert result.table["shrunk"].n_unique() == 1


def test_groups_that_differ_are_named() -> None:
    scores = [10.0, 9.0, 7.0] * 20 + [9.0, 8.0, 5.0] * 20 + [3.0, 8.0, 1.0] * 20
    result = nps(answers(scores, employee_id=np.repeat([11, 12, 13], 60)), by="employee_id")
    assert result.differ()
    assert "differ by more than chance" in str(result)
    # What is named is the shrunk value, not the raw extreme.
    low = result.table.sort("shrunk").row(0, named=True)
    assert f"runs from {number(low['shrunk'], 1)} (13)" in str(result)
    between = result.table["shrunk"].to_numpy()
    raw = result.table["estimate"].to_numpy()
    assert np.ptp(between) < np.ptp(raw)


def test_small_groups_can_be_spared_the_sight_but_still_count() -> None:
    scores = [10.0, 9.0, 7.0] * 20 + [9.0, 8.0, 5.0] * 20 + [3.0, 8.0] + [4.0] * 9
    whole = nps(
        answers(scores, employee_id=[1] * 60 + [2] * 60 + [3] * 2 + [4] * 9), by="employee_id"
    )
    shown = whole.at_least(10)
    assert shown.table["employee_id"].to_list() == [1, 2]
    assert shown.p_value == whole.p_value
    assert_frame_equal(shown.table, whole.table.head(2))
    assert "2 groups with fewer than 10 answers are compared but not shown." in shown.notes
    assert any("30 answers in: 3" in note for note in whole.notes)
    assert not any("30 answers in" in note for note in shown.notes)
    assert whole.at_least(2) is whole
    # One small group alone is the whole less the others: the next smallest goes with it.
    alone = whole.at_least(5)
    assert alone.table["employee_id"].to_list() == [1, 2]
    assert any("could be worked out" in note for note in alone.notes)


def test_two_groups_are_compared_but_not_shrunk() -> None:
    table = answers([9.0, 8.0, 3.0] * 20, kind=["sales", "service", "service"] * 20)
    result = nps(table, by="kind")
    assert result.p_value is not None
    assert result.table["shrunk"].null_count() == 2
    assert any("three groups or more" in note for note in result.notes)


def test_groups_without_variation_inside_are_not_shrunk() -> None:
    table = answers([9.0, 9.0, 8.0, 8.0, 3.0, 3.0], employee_id=[1, 1, 2, 2, 3, 3])
    result = mean_score(table, scale=(0, 10), as_of=AS_OF, by="employee_id")
    assert result.p_value is None
    assert result.table["shrunk"].null_count() == 3
    assert any("answers do not vary" in note for note in result.notes)


def test_a_question_on_another_scale_raises_a_suspicion() -> None:
    assert any("No answer is above 5" in note for note in nps(answers([5.0, 4.0] * 10)).notes)
    assert not any("No answer" in note for note in nps(answers([5.0, 10.0] * 10)).notes)


def test_an_incomplete_period_is_said() -> None:
    table = answers([9.0, 8.0], answered_on=[date(2025, 1, 5), date(2025, 11, 5)])
    early = net_promoter_score(table, period="quarter", as_of=date(2025, 11, 30))
    assert any("2025-Q4 is not complete" in note for note in early.notes)
    assert not any("not complete" in note for note in nps(table, period="quarter").notes)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [net_promoter_score, top_box_score, score_distribution])
def test_scores_off_the_scale_are_refused_with_count_and_example(metric: Metric) -> None:
    table = answers([3.0, 4.0, 11.0, 12.0, None])
    with pytest.raises(InputError, match=r"2 of 4 in 'score' lie outside, such as 11"):
        metric(table, scale=(0, 10), as_of=AS_OF)


def test_infinite_scores_are_off_every_scale() -> None:
    with pytest.raises(InputError, match="1 of 2 in 'score' lie outside"):
        nps(answers([3.0, float("inf")]))


def test_mixed_scales_are_refused_by_the_mean() -> None:
    with pytest.raises(InputError, match="one question only"):
        mean_score(answers([5.0, 4.0, 9.0]), scale=(1, 5), as_of=AS_OF)
    with pytest.raises(TypeError, match="scale"):
        mean_score(answers([5.0]), as_of=AS_OF)  # type: ignore[call-arg]


def test_a_missing_column_is_named_with_a_guess() -> None:
    with pytest.raises(ColumnError, match=r"no column 'scores' \(did you mean 'score'\?\)"):
        nps(answers([9.0]), score_col="scores")
    with pytest.raises(ColumnError, match=r"'dealrship'.*did you mean 'dealership'.*in 'by'"):
        nps(answers([9.0], dealership=["A"]), by="dealrship")
    with pytest.raises(ColumnError, match="'at_col' argument"):
        nps(pl.DataFrame({"score": [9]}))


def test_text_scores_and_text_dates_are_refused() -> None:
    with pytest.raises(ColumnError, match="must hold a number"):
        nps(pl.DataFrame({"score": ["9"], "answered_on": [FIRST]}))
    with pytest.raises(ColumnError, match="Text is never guessed"):
        nps(pl.DataFrame({"score": [9], "answered_on": ["2024-01-01"]}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"promoters_from": 6},
        {"promoters_from": 11},
        {"scale": (1, 5)},
        {"scale": (10, 0)},
        {"ci_method": "score"},
        {"conf_level": 95},
        {"period": "week"},
        {"period": "month", "at_col": None},
        {"since": FIRST, "at_col": None},
        {"since": date(2026, 1, 1)},
        {"since": "2025-01-01"},
        {"by": ("kind", "kind")},
        {"by": "score"},
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        nps(answers([9.0], kind=["sales"]), **arguments)


@pytest.mark.parametrize("top", [0, 5, 6])
def test_a_top_without_anything_below_it_is_refused(top: int) -> None:
    with pytest.raises(InputError, match="Pass a 'top' from 1 to 4"):
        top_box_score(answers([5.0]), top=top, as_of=AS_OF)


def test_as_of_is_a_date() -> None:
    with pytest.raises(InputError, match="as_of"):
        net_promoter_score(answers([9.0]), as_of="2025-12-31")  # type: ignore[arg-type]


def test_surveys_answered_before_they_were_sent_are_refused() -> None:
    table = pl.DataFrame({"sent_at": [FIRST] * 2, "answered_at": [FIRST, date(2023, 12, 31)]})
    with pytest.raises(InputError, match="1 of 2 have 'answered_at' before 'sent_at'"):
        response_rate(table, as_of=AS_OF)
    with pytest.raises(InputError, match="within_days"):
        response_rate(table, within_days=0, as_of=AS_OF)


def test_surveys_need_the_moment_of_sending() -> None:
    table = pl.DataFrame({"sent_at": [FIRST, None], "answered_at": [None, FIRST]})
    with pytest.raises(ColumnError, match="null in 1 of 2"):
        response_rate(table, as_of=AS_OF)


METRICS: dict[str, Metric] = {
    "nps": net_promoter_score,
    "top": lambda table, **k: top_box_score(table, scale=(0, 10), **k),
    "mean": lambda table, **k: mean_score(table, scale=(0, 10), **k),
    "distribution": score_distribution,
}


@pytest.mark.parametrize("by", [(), "employee_id"])
@pytest.mark.parametrize("metric", METRICS)
def test_nothing_and_nobody_is_null_with_a_note(metric: str, by: Any) -> None:
    empty = random_answers(5, seed=1).clear()
    silent = random_answers(5, seed=1).with_columns(score=pl.lit(None, pl.Float64))
    early = random_answers(5, seed=1)
    for table, as_of in ((empty, AS_OF), (silent, AS_OF), (early, date(2020, 1, 1))):
        result = METRICS[metric](table, as_of=as_of, by=by)
        assert result.table["estimate"].null_count() == result.table.height
        assert "nothing can be said" in str(result) or "nobody" in str(result)
        assert result.notes or metric == "distribution"
        result.show(figure=table is silent).to_html()  # a figure of nothing at all is the same


def test_one_answer_by_each_metric() -> None:
    one = answers([9.0], employee_id=[1])
    for metric in METRICS.values():
        result = metric(one, as_of=AS_OF, by="employee_id")
        assert result.table["n"].max() == 1
        result.show().to_html()


def test_an_empty_table_of_surveys() -> None:
    empty = pl.DataFrame(schema={"sent_at": pl.Datetime("us"), "answered_at": pl.Datetime("us")})
    result = response_rate(empty, as_of=AS_OF)
    assert only_row(result)["estimate"] is None
    assert any("no surveys" in note for note in result.notes)


def test_young_and_late_surveys_are_said() -> None:
    table = pl.DataFrame(
        {"sent_at": [FIRST, FIRST, AS_OF], "answered_at": [FIRST, date(2024, 5, 1), None]}
    )
    notes = response_rate(table, as_of=AS_OF).notes
    assert "1 survey was sent too recently to count." in notes
    assert "1 answer came later and counts as none." in notes


# --- properties -----------------------------------------------------------------------------------

some_scores = st.lists(st.integers(0, 10), min_size=1, max_size=60)
grouped_scores = st.lists(st.tuples(st.integers(0, 10), st.integers(1, 4)), min_size=1, max_size=60)


@settings(max_examples=25)
@given(some_scores, st.floats(0.5, 0.999))
def test_net_promoter_scores_stay_on_their_range(scores: list[int], level: float) -> None:
    row = only_row(nps(answers([float(s) for s in scores]), conf_level=level))
    assert -100 <= row["conf_low"] <= row["estimate"] <= row["conf_high"] <= 100
    assert row["conf_low"] < row["conf_high"]
    assert row["n_promoters"] + row["n_passives"] + row["n_detractors"] == row["n"] == len(scores)


@settings(max_examples=25)
@given(some_scores)
def test_reversing_the_scale_reverses_the_score(scores: list[int]) -> None:
    """With cuts that mirror each other, the mirrored answers have the mirrored interval."""
    cuts = {"promoters_from": 8, "detractors_to": 2}
    there = only_row(nps(answers([float(s) for s in scores]), **cuts))
    back = only_row(nps(answers([10.0 - s for s in scores]), **cuts))
    assert back["estimate"] == pytest.approx(-there["estimate"])
    assert back["conf_low"] == pytest.approx(-there["conf_high"])


@settings(max_examples=20)
@given(grouped_scores, st.randoms(use_true_random=False))
def test_row_order_is_irrelevant(rows: list[tuple[int, int]], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = (
        nps(answers([float(s) for s, _ in r], employee_id=[e for _, e in r]), by="employee_id")
        for r in (rows, shuffled)
    )
    assert_frame_equal(first.table, second.table, abs_tol=1e-9)


@settings(max_examples=20)
@given(grouped_scores)
def test_counts_add_over_groups_and_shrinking_stays_between(rows: list[tuple[int, int]]) -> None:
    table = answers([float(s) for s, _ in rows], employee_id=[e for _, e in rows])
    whole, parts = only_row(nps(table)), nps(table, by="employee_id").table
    for column in ("n", "n_promoters", "n_passives", "n_detractors"):
        assert parts[column].sum() == whole[column]
    weighted = (parts["estimate"] * parts["n"]).sum() / parts["n"].sum()
    assert weighted == pytest.approx(whole["estimate"], abs=1e-9)
    known = parts.drop_nulls("shrunk")
    least, most = parts["estimate"].min(), parts["estimate"].max()
    assert ((known["shrunk"] >= least - 1e-9) & (known["shrunk"] <= most + 1e-9)).all()
    assert (
        (known["shrunk_low"] <= known["shrunk"]) & (known["shrunk"] <= known["shrunk_high"])
    ).all()


# --- every backend says the same --------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_backends_agree(metric: str, backend: Callable[[Table], Any]) -> None:
    table = random_answers(120, seed=7)
    by = ["kind", "employee_id"]
    expected = METRICS[metric](table, as_of=AS_OF, by=by)
    found = METRICS[metric](backend(table), as_of=AS_OF, by=by)
    assert_frame_equal(found.table, expected.table, abs_tol=1e-9)
    assert found.notes == expected.notes


def test_backends_agree_on_periods(backend: Callable[[Table], Any]) -> None:
    table = random_answers(120, seed=7)
    expected = nps(table, period="month", by="kind")
    found = nps(backend(table), period="month", by="kind")
    assert_frame_equal(found.table, expected.table, abs_tol=1e-9)


def test_backends_agree_on_responses(backend: Callable[[Table], Any]) -> None:
    rng = np.random.default_rng(6)
    sent = [
        datetime.fromisoformat("2025-06-01") + timedelta(minutes=int(m))
        for m in rng.integers(0, 300_000, 80)
    ]
    wait = rng.integers(0, 80_000, 80)
    answered = [
        s + timedelta(minutes=int(w)) if w < 50_000 else None
        for s, w in zip(sent, wait, strict=True)
    ]
    kind = np.where(rng.random(80) < 0.5, "sales", "service")
    table = pl.DataFrame({"sent_at": sent, "answered_at": answered, "kind": kind})
    expected = response_rate(table, as_of=AS_OF, by="kind")
    found = response_rate(backend(table), as_of=AS_OF, by="kind")
    assert_frame_equal(found.table, expected.table, abs_tol=1e-9)
    assert found.notes == expected.notes


def test_what_comes_home_is_small() -> None:
    counts = count_scores(random_answers(5000, seed=1), as_of=AS_OF, by=["kind"])
    assert counts.table.height <= 2 * 12
    assert counts.n_late > 0
    assert counts.n_unanswered > 0


# --- grammar and what is shown ----------------------------------------------------------------


@pytest.mark.parametrize(
    "metric",
    [net_promoter_score, top_box_score, mean_score, score_distribution, response_rate],
)
def test_the_grammar_of_arguments(metric: Metric) -> None:
    data, *rest = inspect.signature(metric).parameters.values()
    assert data.default is data.empty
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)
    assert [p.name for p in rest][-4:] == ["as_of", "by", "conf_level", "ci_method"]
    columns = [p.name.endswith("_col") for p in rest]
    assert columns == sorted(columns, reverse=True)


RESULTS: dict[str, Callable[[Table], Estimates]] = {
    "nps": nps,
    "by one": lambda t: nps(t, by="employee_id"),
    "by two": lambda t: nps(t, by=["kind", "employee_id"]),
    "over time": lambda t: nps(t, period="quarter"),
    "over time by": lambda t: nps(t, period="quarter", by="kind"),
    "mean": lambda t: mean_score(t, scale=(0, 10), as_of=AS_OF, by="kind"),
    "distribution": lambda t: score_distribution(t, as_of=AS_OF),
    "distribution by": lambda t: score_distribution(t, as_of=AS_OF, by="kind"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_speaks_draws_and_travels(name: str) -> None:
    table = random_answers(200, seed=11)
    before = dict(mpl.rcParams), table.clone()
    result = RESULTS[name](table)
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert result.plot(ax) is ax
    assert ax.has_data()
    for language in ("en", "ru"):
        with speaking(language):
            sentence = str(RESULTS[name](table))
            assert "\n" not in sentence
            assert "nan" not in sentence.lower()
            html = result.show(figure=False).to_html()
            assert "nan" not in html.lower().replace("finance", "")
    assert result.definition.endswith(".")
    assert result.show().figure is not None
    assert dict(mpl.rcParams) == before[0]
    assert_frame_equal(table, before[1])


def test_a_figure_of_very_many_groups_shows_the_largest() -> None:
    rng = np.random.default_rng(3)
    employee = rng.integers(0, 90, 2000)
    result = nps(answers(list(rng.integers(0, 11, 2000).astype(float)), employee_id=employee),
                 by="employee_id")  # fmt: skip
    from matplotlib.figure import Figure

    ax = result.plot(Figure().add_subplot())
    assert result.table.height == 90
    assert len(ax.get_yticks()) == 40


def test_an_id_is_written_as_a_name() -> None:
    result = nps(answers([9.0, 8.0, 7.0], employee_id=[1001, 1002, 1003]), by="employee_id")
    block = result.show()
    assert block.table is not None
    assert [row[0] for row in block.table.rows] == ["1001", "1002", "1003"]


# --- what cases are about -----------------------------------------------------------------------


def test_topics_of_cases_can_be_counted_by_hand(backend: Callable[[pl.DataFrame], Any]) -> None:
    cases = pl.DataFrame(
        {
            "about": ["price", "waiting", "waiting", "staff", "price", None],
            "kind": ["complaint"] * 4 + ["request"] * 2,
            "opened_at": [date(2026, 6, day) for day in (1, 2, 3, 4, 5, 6)],
        }
    )
    since, day = date(2026, 6, 2), date(2026, 6, 5)
    whole = typical_requests(backend(cases), since=since, as_of=day)
    assert whole.table.select("topic", "n_cases", "n").rows()[:1] == [("waiting", 2, 4)]
    assert whole.sentence().startswith("What cases are about: most often “waiting”, 50.0%")
    complaints = typical_requests(backend(cases), kind="complaint", since=since, as_of=day)
    assert complaints.table.select("topic", "n_cases", "n").rows()[:2] == [
        ("waiting", 2, 3), ("staff", 1, 3),
    ]  # fmt: skip
    assert complaints.sentence().startswith("What complaints are about: most often “waiting”")


def test_without_cases_there_are_no_topics() -> None:
    cases = pl.DataFrame(schema={"about": pl.String, "opened_at": pl.Datetime})
    found = typical_requests(cases, since=date(2026, 6, 1), as_of=date(2026, 6, 30))
    assert found.table.is_empty()
    assert "nothing can be said" in found.sentence()
