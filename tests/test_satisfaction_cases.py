"""Cases, the value of satisfaction, and those who keep silent: by hand, by twins and by scipy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from crm_analysis import (
    InputError,
    complaint_resolution,
    dissatisfied_value,
    repeated_cases,
    silent_departure,
    typical_requests,
    value_weighted_score,
)
from crm_analysis.satisfaction.requests import rate_change
from crm_analysis.wording import ABSENT, speaking

AS_OF = date(2026, 6, 30)
END = datetime(2026, 7, 1)  # noqa: DTZ001 - the CRM keeps local time
START = datetime(2026, 1, 1)  # noqa: DTZ001
EXACT = 1e-9

Backend = Callable[[pl.DataFrame], Any]


def cases(seed: int, n: int = 200) -> pl.DataFrame:
    """Cases that take about six days, a tenth of them never resolved."""
    rng = np.random.default_rng(seed)
    opened = [START + timedelta(minutes=int(m)) for m in rng.integers(0, 181 * 1440, n)]
    took = rng.gamma(2, 3 * 1440, n).astype(int)
    never = rng.random(n) < 0.1
    resolved = [
        None if late or at + timedelta(minutes=int(m)) > END else at + timedelta(minutes=int(m))
        for at, m, late in zip(opened, took, never, strict=True)
    ]
    return pl.DataFrame(
        {
            "customer_id": rng.integers(0, n // 2, n),
            "about": rng.choice(["price", "staff", "waiting", "parts", "offers"], n),
            "kind": rng.choice(["complaint", "request"], n),
            "opened_at": opened,
            "due_at": [at + timedelta(days=7) for at in opened],
            "resolved_at": pl.Series(resolved, dtype=pl.Datetime("us")),
        }
    )


# --- resolution -----------------------------------------------------------------------------------


def days_open(table: pl.DataFrame) -> tuple[Any, Any]:
    done = table["resolved_at"].is_not_null().to_numpy()
    end = table["resolved_at"].fill_null(END)
    minutes = ((end - table["opened_at"]).dt.total_minutes()).to_numpy()
    return minutes / 1440, done


def test_resolution_is_the_kaplan_meier_of_statsmodels() -> None:
    table = cases(1)
    found = complaint_resolution(table, as_of=AS_OF).table.row(0, named=True)
    days, done = days_open(table)
    curve = SurvfuncRight(days, done.astype(int))
    at = np.searchsorted(curve.surv_times, 7, side="right") - 1
    assert found["estimate"] == pytest.approx(1 - curve.surv_prob[at], abs=EXACT)
    assert found["std_error"] == pytest.approx(curve.surv_prob_se[at], abs=EXACT)
    assert found["median_days"] == pytest.approx(curve.quantile(0.5), abs=EXACT)
    still = ~done
    overdue = still & (table["due_at"] < END).to_numpy()
    assert (found["n_unresolved"], found["n_past_due"]) == (still.sum(), overdue.sum())


def test_the_test_between_groups_is_the_log_rank_of_statsmodels() -> None:
    table = cases(2)
    found = complaint_resolution(table, as_of=AS_OF, by="kind")
    days, done = days_open(table)
    expected = survdiff(days, done.astype(int), table["kind"].to_numpy())[1]
    assert found.p_value == pytest.approx(expected, rel=1e-6)


def test_one_kind_is_what_is_left_without_the_others() -> None:
    table = cases(2)
    kind = str(table["kind"][0])
    found = complaint_resolution(table, kind=kind, as_of=AS_OF)
    assert_frame_equal(
        found.table, complaint_resolution(table.filter(kind=kind), as_of=AS_OF).table
    )
    assert 0 < found.table["n"].item() < table.height
    assert complaint_resolution(table, kind="complaint", as_of=AS_OF).name.startswith("Complaints")


def test_leaving_open_cases_out_would_flatter() -> None:
    """Cases really take three weeks on average; half of the year's are not old enough to show."""
    rng = np.random.default_rng(3)
    opened = [END - timedelta(minutes=int(m)) for m in rng.integers(1, 30 * 1440, 4000)]
    took = rng.exponential(21 * 1440, 4000)
    ends = [at + timedelta(minutes=float(m)) for at, m in zip(opened, took, strict=True)]
    table = pl.DataFrame({"opened_at": opened, "resolved_at": ends})
    found = complaint_resolution(table, due_col=None, within_days=14, as_of=AS_OF)
    row = found.table.row(0, named=True)
    truth = 1 - np.exp(-14 / 21)
    assert row["conf_low"] < truth < row["conf_high"]
    seen = table.filter(pl.col("resolved_at") < END)
    naive = (seen["resolved_at"] - seen["opened_at"] <= timedelta(days=14)).mean()
    assert isinstance(naive, float)
    assert naive > row["conf_high"] + 0.1
    assert row["n_past_due"] is None


@pytest.mark.parametrize("resolved", [True, False])
def test_all_and_none_resolved_have_an_interval_with_a_width(*, resolved: bool) -> None:
    table = pl.DataFrame(
        {
            "opened_at": [START] * 10,
            "resolved_at": pl.Series(
                [START + timedelta(days=1) if resolved else None] * 10, dtype=pl.Datetime("us")
            ),
        }
    )
    found = complaint_resolution(table, due_col=None, as_of=AS_OF).table.row(0, named=True)
    assert found["estimate"] == float(resolved)
    assert found["conf_high"] - found["conf_low"] == pytest.approx(0.2775, abs=1e-4)  # Wilson, 0/10


def test_cases_resolved_before_they_came_are_refused() -> None:
    table = pl.DataFrame({"opened_at": [START], "resolved_at": [START - timedelta(days=1)]})
    with pytest.raises(InputError, match="before 'opened_at'"):
        complaint_resolution(table, due_col=None, as_of=AS_OF)
    with pytest.raises(InputError, match="positive number of days"):
        complaint_resolution(cases(1), within_days=0, as_of=AS_OF)


def slow_repeats(table: pl.DataFrame, within: int) -> tuple[int, int]:
    yes = total = 0
    rows = table.sort("opened_at").to_dicts()
    for i, row in enumerate(rows):
        resolved = row["resolved_at"]
        if resolved is None or resolved + timedelta(days=within) >= END:
            continue
        total += 1
        after = [
            other for other in rows[i + 1 :]
            if (other["customer_id"], other["about"]) == (row["customer_id"], row["about"])
        ]  # fmt: skip
        yes += bool(after) and after[0]["opened_at"] - resolved <= timedelta(days=within)
    return total, yes


@pytest.mark.parametrize("within", [5, 30])
def test_cases_that_come_back_equal_the_slow_twin(within: int) -> None:
    table = cases(4, 300)
    row = repeated_cases(table, within_days=within, as_of=AS_OF).table.row(0, named=True)
    assert (row["n"], row["n_back"]) == slow_repeats(table, within)
    assert row["n_back"] > 0


# --- typical requests -----------------------------------------------------------------------------


def test_kinds_and_their_change_by_hand() -> None:
    topics = ["price"] * 15 + ["staff"] * 5 + ["parts"] * 4 + ["offers"] * 3 + ["waiting"] * 3
    earlier = ["price"] * 5 + ["staff"] * 5
    days = [date(2026, 6, 1)] * 30 + [date(2026, 2, 15)] * 10
    table = pl.DataFrame({"about": [*topics, *earlier], "opened_at": days})
    found = typical_requests(table, since=date(2026, 4, 1), as_of=AS_OF)
    assert found.table["times"].null_count() == 5
    assert any("do not reach back" in note for note in found.notes)
    old = pl.DataFrame({"about": ["staff"], "opened_at": [date(2025, 12, 1)]})
    found = typical_requests(pl.concat([table, old]), since=date(2026, 4, 1), as_of=AS_OF)
    first = found.table.row(0, named=True)
    assert (first["topic"], first["n_cases"], first["n_earlier"], first["times"]) == (
        "price", 15, 5, 3.0,
    )  # fmt: skip
    raw = stats.binomtest(15, 20, 0.5)
    ends = raw.proportion_ci(method="exact")
    assert first["times_low"] == pytest.approx(ends.low / (1 - ends.low), abs=1e-6)
    assert first["times_high"] == pytest.approx(ends.high / (1 - ends.high), abs=1e-6)
    p = [
        stats.binomtest(k, k + e, 0.5).pvalue for k, e in ((15, 5), (5, 5), (4, 0), (3, 0), (3, 0))
    ]
    assert first["p_holm"] == pytest.approx(min(1, 5 * min(p)), abs=EXACT)
    assert found.table["cumulative"].to_list() == pytest.approx([0.5, 2 / 3, 0.8, 0.9, 1.0])
    assert found.fifth_share == pytest.approx(0.5)
    assert "not 80%" in str(found)


def test_a_rate_that_doubled_is_covered() -> None:
    rng = np.random.default_rng(6)
    _ratio, low, high, p = rate_change(
        rng.poisson(40, 4000).astype(float), rng.poisson(20, 4000).astype(float)
    )
    assert np.mean((low <= 2) & (high >= 2)) >= 0.95 - 3 * (0.95 * 0.05 / 4000) ** 0.5
    assert np.mean(p < 0.05) > 0.6


# --- value ----------------------------------------------------------------------------------------


def customers(seed: int, n: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    score = np.clip(np.round(4 + rng.normal(0, 1, n)), 1, 5)
    return pl.DataFrame(
        {
            "revenue": np.round(rng.lognormal(6, 1.3, n)).astype(int),
            "score": pl.Series(score).set(pl.Series(rng.random(n) < 0.5), None),
            "kind": rng.choice(["a", "b"], n),
        }
    )


def slow_classes(table: pl.DataFrame) -> list[str]:
    total, so_far, found = float(table["revenue"].to_numpy().sum()), 0.0, []
    for value in table["revenue"]:
        found.append("A" if so_far < 0.8 * total else "B" if so_far < 0.95 * total else "C")
        so_far += value
    return found


def test_classes_and_their_scores_equal_the_slow_twin() -> None:
    table = customers(1)
    found = value_weighted_score(table, scale=(1, 5), as_of=AS_OF)
    ranked = table.sort(["revenue", "score"], descending=[True, False], nulls_last=True)
    ranked = ranked.with_columns(abc_class=pl.Series(slow_classes(ranked)))
    for row in found.table.to_dicts():
        part = ranked.filter(abc_class=row["abc_class"])
        scores = part["score"].drop_nulls().to_numpy()
        assert (row["n_customers"], row["n"]) == (part.height, len(scores))
        assert row["estimate"] == pytest.approx(scores.mean(), abs=EXACT)
        low, high = stats.t.interval(0.95, len(scores) - 1, scores.mean(), stats.sem(scores))
        assert row["conf_low"] == pytest.approx(low, abs=EXACT)
        assert row["conf_high"] == pytest.approx(min(high, 5), abs=EXACT)
    answered = table.drop_nulls("score")
    weighted = np.average(answered["score"].to_numpy(), weights=answered["revenue"].to_numpy())
    assert found.weighted == pytest.approx(weighted, abs=EXACT)
    assert found.weighted_low is not None
    assert found.weighted_high is not None
    assert found.weighted_low < weighted < found.weighted_high


def test_the_value_of_the_dissatisfied_by_hand_and_its_error_by_the_delta_method() -> None:
    table = customers(2, 3000)
    found = dissatisfied_value(table, scale=(1, 5), low_to=2, as_of=AS_OF).table.row(0, named=True)
    answered = table.drop_nulls("score")
    value, low = answered["revenue"].to_numpy(), answered["score"].to_numpy() <= 2
    share = value[low].sum() / value.sum()
    assert found["estimate"] == pytest.approx(share, abs=EXACT)
    assert found["customer_share"] == pytest.approx(low.mean(), abs=EXACT)
    error = (np.sum((value * (low - share)) ** 2)) ** 0.5 / value.sum()
    assert found["std_error"] == pytest.approx(error, rel=0.12)  # a heavy tail, 1000 resamples
    assert found["value"] == pytest.approx(value[low].sum())
    few = table.with_columns(score=pl.when(pl.col("score") > 2).then("score"))
    few = pl.concat([few, table.filter(pl.col("score") <= 2, pl.col("revenue") > 0).head(3)])
    alone = dissatisfied_value(few, scale=(1, 5), low_to=2, as_of=AS_OF)
    assert "what so few brought is not shown" in str(alone)
    cells = alone.show(figure=False).table
    assert cells is not None
    assert [cells.rows[0][i] for i, c in enumerate(cells.columns) if c.name == "value"] == [ABSENT]
    none = dissatisfied_value(few.filter(pl.col("score") > 2), scale=(1, 5), low_to=2, as_of=AS_OF)
    assert str(none).startswith("Nobody who bought and answered is dissatisfied")
    assert found["value_low"] == pytest.approx(found["conf_low"] * value.sum())
    assert found["value_high"] == pytest.approx(found["conf_high"] * value.sum())


def test_of_kinds_alike_none_is_the_most_frequent() -> None:
    rows = pl.DataFrame({"about": ["price", "staff", "other"] * 2, "opened_at": [START] * 6})
    even = typical_requests(rows, since=date(2026, 1, 1), as_of=AS_OF)
    assert "most often “other”, “price”, “staff”, each 33.3%" in str(even)
    one = typical_requests(rows.head(4), since=date(2026, 1, 1), as_of=AS_OF)
    assert "most often “price”, 50.0%" in str(one)


def test_a_kind_says_how_many_customers_it_touches_and_what_they_bring(backend: Backend) -> None:
    """Two of three cases of one kind are of one customer, who counts once: 100 + 300."""
    rows = pl.DataFrame(
        {
            "about": ["price", "price", "price", "staff", "price"],
            "customer_id": [1, 1, 2, 1, 3],
            "revenue": [100.0, 100.0, 300.0, 100.0, 900.0],
            "opened_at": [date(2026, 6, 1)] * 4 + [date(2026, 5, 1)],
        }
    )
    money: dict[str, Any] = {"customer_col": "customer_id", "value_col": "revenue"}
    period: dict[str, Any] = {"since": date(2026, 5, 20), "as_of": date(2026, 6, 30)}
    found = typical_requests(backend(rows), **money, **period)
    price = found.table.row(0, named=True)
    assert (price["n_cases"], price["n_customers"], price["value"]) == (3, 2, 400.0)
    half = stats.norm.ppf(0.975) * (100.0**2 + 300.0**2) ** 0.5
    assert price["value_low"] == 0.0  # never below nothing
    assert price["value_high"] == pytest.approx(400 + half)
    # What two customers brought is said on no page; what six did is.
    assert "it came from" not in str(found)
    shown = found.show().table
    assert shown is not None
    assert "400" not in {cell for row in shown.rows for cell in row}
    many = pl.concat([rows.with_columns(customer_id=pl.lit(n)) for n in range(6)])
    assert "it came from 6 customers" in str(typical_requests(many, **money, **period))
    people = typical_requests(rows, customer_col="customer_id", **period).table
    assert people["n_customers"].to_list() == [2, 1]
    assert "value" not in people.columns
    with pytest.raises(InputError, match="without customers"):
        typical_requests(rows, value_col="revenue", **period)


# --- silence --------------------------------------------------------------------------------------


def surveys(seed: int, n: int = 600, effect: float = 0.5) -> pl.DataFrame:
    """Everyone comes again after an exponential time; low scorers at `effect` times the pace."""
    rng = np.random.default_rng(seed)
    sent = [START - timedelta(days=int(d)) for d in rng.integers(0, 900, n)]
    kind = rng.choice(3, n, p=[0.6, 0.15, 0.25])
    score = np.select([kind == 1, kind == 2], [2.0, 5.0], np.nan)
    wait = rng.exponential(200 / np.where(kind == 1, effect, 1.0))
    returned = [at.date() + timedelta(days=31 + int(w)) for at, w in zip(sent, wait, strict=True)]
    return pl.DataFrame(
        {
            "customer_id": np.arange(n),
            "score": pl.Series(score).fill_nan(None),
            "sent_at": sent,
            "answered_at": [at + timedelta(days=2) for at in sent],
            "returned_on": [day if day <= AS_OF else None for day in returned],
        }
    ).with_columns(answered_at=pl.when(pl.col("score").is_not_null()).then("answered_at"))


SILENT: dict[str, Any] = {"scale": (1, 5), "low_to": 2, "high_from": 4, "as_of": AS_OF}


def test_staying_away_is_the_kaplan_meier_and_log_rank_of_statsmodels() -> None:
    table = surveys(1)
    found = silent_departure(table, **SILENT)
    start = table["sent_at"].dt.date() + timedelta(days=30)
    came = table["returned_on"].is_not_null().to_numpy()
    days = (table["returned_on"].fill_null(AS_OF) - start).dt.total_days().to_numpy()
    for name, which in (("low_score", 2.0), ("high_score", 5.0), ("kept_silent", None)):
        rows = (table["score"].eq_missing(which)).to_numpy()
        curve = SurvfuncRight(days[rows], came[rows].astype(int))
        at = np.searchsorted(curve.surv_times, 365, side="right") - 1
        row = found.table.row(by_predicate=pl.col("opinion") == name, named=True)
        assert row["estimate"] == pytest.approx(curve.surv_prob[at], abs=EXACT)
        assert row["n"] == rows.sum()
    two = (table["score"].is_null() | (table["score"] == 2)).to_numpy()
    group = table["score"].is_null().to_numpy()[two]
    assert found.p_value == pytest.approx(
        survdiff(days[two], came[two].astype(int), group)[1], rel=1e-6
    )
    assert "differ by more than chance" in str(found)


def test_a_customer_counts_once_with_the_first_survey() -> None:
    table = surveys(2, 100)
    again = table.with_columns(sent_at=pl.col("sent_at") + pl.duration(days=1), score=pl.lit(5.0))
    twice = pl.concat([table, again.with_columns(returned_on=pl.lit(None, pl.Date))])
    assert_frame_equal(
        silent_departure(twice, **SILENT).table, silent_departure(table, **SILENT).table
    )


def test_coming_again_before_the_window_ends_is_refused() -> None:
    table = surveys(3, 50).with_columns(returned_on=pl.col("sent_at").dt.date())
    with pytest.raises(InputError, match="first purchase or visit after that"):
        silent_departure(table, **SILENT)
    with pytest.raises(InputError, match="low below high"):
        silent_departure(table, **(SILENT | {"low_to": 4}))


# --- every metric ---------------------------------------------------------------------------------

METRICS: dict[str, tuple[Callable[[Any], Any], Callable[[], pl.DataFrame]]] = {
    "resolution": (lambda t: complaint_resolution(t, as_of=AS_OF, by="kind"), lambda: cases(5)),
    "repeated": (lambda t: repeated_cases(t, as_of=AS_OF, by="kind"), lambda: cases(6)),
    "typical": (
        lambda t: typical_requests(t, since=date(2026, 4, 1), as_of=AS_OF),
        lambda: cases(7),
    ),
    "value": (
        lambda t: value_weighted_score(t, scale=(1, 5), n_resamples=100, as_of=AS_OF),
        lambda: customers(8),
    ),
    "dissatisfied": (
        lambda t: dissatisfied_value(
            t, scale=(1, 5), low_to=2, n_resamples=100, as_of=AS_OF, by="kind"
        ),
        lambda: customers(9),
    ),
    "silence": (lambda t: silent_departure(t, **SILENT), lambda: surveys(10, 150)),
}  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_every_backend_gives_the_same(name: str, backend: Backend) -> None:
    metric, make = METRICS[name]
    expected, found = metric(make()), metric(backend(make()))
    assert_frame_equal(found.table, expected.table, abs_tol=1e-9)
    assert found.notes == expected.notes


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("rows", [0, 1])
def test_nothing_and_one_row(name: str, rows: int) -> None:
    metric, make = METRICS[name]
    for language in ("en", "ru"):
        with speaking(language):
            found = metric(make().head(rows))
            assert "nan" not in str(found).lower()
            assert found.show(figure=False).definition.endswith(".")
