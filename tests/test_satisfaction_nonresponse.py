"""Those who did not answer: bounds and weights by hand, by slow twins, and in simulated worlds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from crm_analysis import (
    InputError,
    mean_score,
    nonresponse_check,
    response_rate,
    score_bounds,
    weighted_score,
)
from crm_analysis.errors import NotConvergedError
from crm_analysis.satisfaction import effective_n, rake
from crm_analysis.wording import speaking

AS_OF = date(2025, 12, 31)
SENT = datetime(2025, 3, 1, 12)  # noqa: DTZ001 - the CRM keeps local time
SCALE = (1.0, 5.0)
EXACT = 1e-9
"""The same formula in another order of adding differs by rounding alone."""

Backend = Callable[[pl.DataFrame], Any]


def surveys(seed: int, n: int = 400) -> pl.DataFrame:
    """Sales customers answer often and are pleased; service customers are neither."""
    rng = np.random.default_rng(seed)
    sales, phone = rng.random(n) < 0.3, rng.random(n) < 0.5
    answers = rng.random(n) < np.where(sales, 0.7, 0.25) * np.where(phone, 1.2, 0.8)
    score = np.clip(np.round(np.where(sales, 4.4, 3.4) + rng.normal(0, 0.9, n)), 1, 5)
    wait = rng.integers(0, 40, n)
    return pl.DataFrame(
        {
            "score": pl.Series(score).set(pl.Series(~answers), None),
            "kind": np.where(sales, "sales", "service"),
            "channel": np.where(phone, "phone", "email"),
            "customer_id": rng.integers(0, n, n),
            "sent_at": [SENT + timedelta(days=int(d)) for d in rng.integers(0, 200, n)],
        }
    ).with_columns(
        answered_at=pl.when(pl.col("score").is_not_null()).then(
            pl.col("sent_at") + pl.Series(wait) * pl.duration(days=1)
        )
    )


def in_time(table: pl.DataFrame) -> pl.DataFrame:
    late = pl.col("answered_at") - pl.col("sent_at") > pl.duration(days=30)
    return table.with_columns(score=pl.when(late).then(None).otherwise("score"))


# --- who answers ----------------------------------------------------------------------------------


def test_response_by_kind_is_that_of_pearson_and_of_the_response_rate() -> None:
    table = surveys(1)
    found = nonresponse_check(table, scale=SCALE, as_of=AS_OF)
    kinds = found.table.filter(pl.col("trait") == "kind")
    rate = response_rate(table, as_of=AS_OF, by="kind").table
    for name in ("n", "estimate", "conf_low", "conf_high"):
        assert kinds[name].to_list() == pytest.approx(rate[name].to_list(), abs=EXACT)
    raw = []
    for trait in ("kind", "channel"):
        rows = found.table.filter(pl.col("trait") == trait)
        counts = rows.select("n_answered", silent=pl.col("n") - pl.col("n_answered")).to_numpy()
        raw.append(stats.chi2_contingency(counts, correction=False).pvalue)
    smaller, larger = min(raw), max(raw)
    adjusted = sorted([min(1, 2 * smaller), max(min(1, 2 * smaller), larger)])
    assert sorted(p for p in found.p_values.values() if p is not None) == pytest.approx(adjusted)
    means = in_time(table).group_by("kind").agg(pl.col("score").mean()).sort("kind")
    assert kinds["mean"].to_list() == pytest.approx(means["score"].to_list())


def test_the_r_indicator_by_hand() -> None:
    # Rates .75 and .25 in halves: S = .25, so R = 1 - 2 * .25.
    table = pl.DataFrame(
        {
            "kind": ["sales"] * 20 + ["service"] * 20,
            "score": [5.0] * 15 + [None] * 5 + [3.0] * 5 + [None] * 15,
            "sent_at": SENT,
            "answered_at": SENT,
        }
    )
    found = nonresponse_check(table, strata="kind", scale=SCALE, as_of=AS_OF)
    assert found.r_indicators["kind"] == pytest.approx(0.5)
    assert str(found).startswith("Who answers depends on kind (from 25.0%, service, to 75.0%")
    assert any("kind 0.50" in note for note in found.notes)


def test_alike_kinds_are_not_told_apart() -> None:
    table = surveys(4).with_columns(kind=pl.Series(["sales", "service"] * 200))
    found = nonresponse_check(table, strata="kind", scale=SCALE, as_of=AS_OF)
    assert "Nobody is found to answer more readily" in str(found)


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["mean", "top", "nps"])
def test_bounds_are_the_score_with_the_worst_and_the_best_put_in(measure: str) -> None:
    scale = (0.0, 10.0) if measure == "nps" else SCALE
    table = surveys(2)
    if measure == "nps":
        table = table.with_columns(pl.col("score") * 2)
    found = score_bounds(table, measure=measure, scale=scale, as_of=AS_OF).table.row(0, named=True)
    score = in_time(table)["score"]
    value: dict[str, Callable[[float], float]] = {
        "mean": lambda s: s,
        "top": lambda s: float(s > 3),
        "nps": lambda s: 100 * (float(s >= 9) - float(s <= 6)),
    }
    each = [value[measure](s) for s in score.drop_nulls()]
    worst, best = (value[measure](end) for end in scale)
    silent = score.null_count()
    assert found["estimate"] == pytest.approx(np.mean(each), abs=EXACT)
    for name, put_in in (("bound_low", worst), ("bound_high", best)):
        assert found[name] == pytest.approx(np.mean([*each, *[put_in] * silent]), abs=EXACT)
    assert found["conf_low"] < found["bound_low"] < found["bound_high"] < found["conf_high"]


def test_bounds_reach_as_far_as_imbens_and_manski_say() -> None:
    # With all answered the bounds meet, and two standard errors reach out: 1.96. With them far
    # apart only one end can be near the truth: 1.645.
    rng = np.random.default_rng(3)
    full = pl.DataFrame({"score": rng.integers(1, 6, 500).astype(float)})
    full = full.with_columns(sent_at=pl.lit(SENT), answered_at=pl.lit(SENT))
    row = score_bounds(full, scale=SCALE, as_of=AS_OF).table.row(0, named=True)
    assert row["bound_low"] == row["bound_high"] == row["estimate"]
    half = (row["conf_high"] - row["conf_low"]) / 2 / row["std_error"]
    assert half == pytest.approx(stats.norm.ppf(0.975), rel=1e-6)
    few = full.with_columns(score=pl.when(pl.int_range(pl.len()) < 100).then("score"))
    row = score_bounds(few, scale=SCALE, as_of=AS_OF).table.row(0, named=True)
    worst = few["score"].fill_null(1.0).to_numpy()
    reach = (row["bound_low"] - row["conf_low"]) / (worst.std() / 500**0.5)
    assert reach == pytest.approx(stats.norm.ppf(0.95), rel=1e-6)


# --- weights --------------------------------------------------------------------------------------


def test_raked_weights_reproduce_deming_and_stephans_margins() -> None:
    rows, columns = np.repeat([0, 1, 2], 2), np.tile([0, 1], 3)
    counts = np.array([12.0, 30, 7, 44, 25, 9])
    wanted = [np.array([50.0, 30, 20]), np.array([35.0, 65])]
    weight = rake(counts, [rows, columns], wanted)
    assert np.bincount(rows, counts * weight) == pytest.approx(wanted[0])
    assert np.bincount(columns, counts * weight) == pytest.approx(wanted[1])
    # What raking keeps of the counts are their odds ratios.
    cell = (counts * weight).reshape(3, 2)
    odds = (cell[0, 0] * cell[1, 1]) / (cell[0, 1] * cell[1, 0])
    assert odds == pytest.approx(12 * 44 / (30 * 7))


def test_margins_that_contradict_each_other_are_refused() -> None:
    same = np.array([0, 1])
    with pytest.raises(NotConvergedError, match="Name fewer traits"):
        rake([5, 5], [same, same], [[4, 6], [6, 4]])


def test_kish_by_hand() -> None:
    assert effective_n([1, 3], [50, 50]) == pytest.approx(80)  # 200 squared over 50 + 450
    assert effective_n([2.5], [40]) == pytest.approx(40)


def slow_weighted(table: pl.DataFrame, strata: list[str]) -> tuple[float, float]:
    """Post-stratify answer by answer: mean, and the square root of sum W^2 s^2 / n."""
    mean, variance, total = 0.0, 0.0, table.height
    answered, freedom = 0, 0
    for cell in table.partition_by(strata):
        scores = cell["score"].drop_nulls().to_list()
        share, n = cell.height / total, len(scores)
        middle = sum(scores) / n
        mean += share * middle
        variance += share**2 * sum((s - middle) ** 2 for s in scores) / n**2
        answered, freedom = answered + n, freedom + n - 1
    return mean, (variance * answered / freedom) ** 0.5


@pytest.mark.parametrize("strata", [["kind"], ["kind", "channel"]])
def test_weighting_by_cells_equals_the_slow_twin(strata: list[str]) -> None:
    table = surveys(5)
    found = weighted_score(table, strata=strata, method="cells", scale=SCALE, as_of=AS_OF)
    mean, error = slow_weighted(in_time(table), strata)
    row = found.table.filter(weighting="weighted").row(0, named=True)
    assert row["estimate"] == pytest.approx(mean, abs=EXACT)
    assert row["std_error"] == pytest.approx(error, abs=EXACT)
    if len(strata) == 1:
        raked = weighted_score(table, strata=strata, scale=SCALE, as_of=AS_OF).table
        assert_frame_equal(raked, found.table)


def test_as_answered_it_is_the_mean_score() -> None:
    table = surveys(6)
    raw = weighted_score(table, scale=SCALE, as_of=AS_OF, customer_col="customer_id").table
    answers = in_time(table).with_columns(answered_on=pl.col("answered_at").dt.date())
    plain = mean_score(answers, scale=SCALE, as_of=AS_OF, customer_col="customer_id").table
    first = raw.row(0, named=True)
    for name in ("n", "estimate", "std_error"):
        assert first[name] == pytest.approx(plain[name][0], abs=EXACT)
    # mean_score takes the degrees of freedom of the effective number of answers.
    assert first["conf_low"] == pytest.approx(plain["conf_low"][0], abs=1e-3)


def test_weights_mend_what_the_strata_tell() -> None:
    """Everybody's mean is known here; the raw one misses it, the weighted one covers it."""
    hits, missed = [], []
    for seed in range(40):
        table = surveys(seed, 500)
        share = table.filter(kind="sales").height / table.height
        truth = share * _clipped_mean(4.4) + (1 - share) * _clipped_mean(3.4)
        raw, weighted = weighted_score(table, scale=SCALE, as_of=AS_OF).table.to_dicts()
        hits.append(weighted["conf_low"] <= truth <= weighted["conf_high"])
        missed.append(raw["conf_low"] <= truth <= raw["conf_high"])
    band = 3 * (0.95 * 0.05 / 40) ** 0.5
    assert abs(np.mean(hits) - 0.95) <= band
    assert np.mean(missed) < 0.2


def _clipped_mean(centre: float) -> float:
    """Mean of the rounded and clipped normal score of `surveys`, in closed form."""
    cuts = stats.norm.cdf((np.arange(1, 5) + 0.5 - centre) / 0.9)
    chance = np.diff(np.concatenate([[0.0], cuts, [1.0]]))
    return float(chance @ np.arange(1, 6))


def test_traits_that_contradict_each_other_are_left_out_and_said() -> None:
    # Of those asked by phone only sales customers answered, of those by e-mail only service ones:
    # 60 and 40 by kind, 50 and 50 by channel, cannot both be met.
    parts = [("sales", "phone", 40), ("sales", "email", 20), ("service", "phone", 10),
             ("service", "email", 30)]  # fmt: skip
    rows = [
        (kind, channel, 3.0 + i % 3 if (kind == "sales") == (channel == "phone") else None)
        for kind, channel, n in parts
        for i in range(n)
    ]
    table = pl.DataFrame(rows, schema=["kind", "channel", "score"], orient="row").with_columns(
        sent_at=pl.lit(SENT), answered_at=pl.lit(SENT)
    )
    both = weighted_score(table, scale=SCALE, as_of=AS_OF)
    assert any("channel is left out" in note for note in both.notes)
    alone = weighted_score(table, strata="kind", scale=SCALE, as_of=AS_OF)
    assert_frame_equal(both.table, alone.table)


def test_few_answers_are_weighted_together_and_said() -> None:
    table = surveys(7).with_columns(
        kind=pl.when(pl.int_range(pl.len()) < 4).then(pl.lit("fleet")).otherwise("kind")
    )
    found = weighted_score(table, strata="kind", scale=SCALE, as_of=AS_OF)
    assert any("fewer than 5 answers are weighted together" in note for note in found.notes)
    assert found.table["estimate"].null_count() == 0


# --- the edges ------------------------------------------------------------------------------------


METRICS: dict[str, Callable[..., Any]] = {
    "check": nonresponse_check,
    "bounds": score_bounds,
    "weighted": weighted_score,
}


@pytest.mark.parametrize("name", METRICS)
def test_every_backend_gives_the_same(name: str, backend: Backend) -> None:
    table = surveys(8, 120)
    expected = METRICS[name](table, scale=SCALE, as_of=AS_OF)
    found = METRICS[name](backend(table), scale=SCALE, as_of=AS_OF)
    assert_frame_equal(found.table, expected.table, abs_tol=1e-9)
    assert found.notes == expected.notes


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("rows", [0, 1])
def test_nothing_and_one_survey(name: str, rows: int) -> None:
    table = surveys(9).filter(pl.col("score").is_not_null()).head(rows)
    for language in ("en", "ru"):
        with speaking(language):
            found = METRICS[name](table, scale=SCALE, as_of=AS_OF)
            assert "nan" not in str(found).lower()
            assert found.table.height >= (1 if name != "check" else 2 * rows)


@pytest.mark.parametrize("name", METRICS)
def test_nobody_answered(name: str) -> None:
    table = surveys(9).with_columns(score=pl.lit(None, pl.Float64))
    found = METRICS[name](table, scale=SCALE, as_of=AS_OF)
    if name != "check":
        assert found.table["estimate"].null_count() == found.table.height
    assert "nan" not in str(found).lower()


def test_by_group_each_is_weighted_to_its_own() -> None:
    table = surveys(10)
    whole = weighted_score(table, strata="channel", by="kind", scale=SCALE, as_of=AS_OF).table
    for kind in ("sales", "service"):
        alone = weighted_score(table.filter(kind=kind), strata="channel", scale=SCALE, as_of=AS_OF)
        part = whole.filter(kind=kind)
        assert part["estimate"].to_list() == pytest.approx(alone.table["estimate"].to_list())


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"scale": (1, 4)}, "lie outside"),
        ({"scale": SCALE, "measure": "nps"}, "0 to 10"),
        ({"scale": SCALE, "measure": "median"}, "It takes"),
        ({"scale": SCALE, "measure": "top", "top": 9}, "Pass a 'top'"),
        ({"scale": SCALE, "within_days": 0}, "positive number of days"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        score_bounds(surveys(1), as_of=AS_OF, **arguments)
    with pytest.raises(InputError):
        weighted_score(surveys(1), scale=SCALE, strata=(), as_of=AS_OF)
