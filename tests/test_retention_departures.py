"""What ends relationships, at what pace, and who will leave: against truth and slow twins."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import optimize, special, stats

from crm_analysis import (
    InputError,
    churn_rate,
    departure_causes,
    departure_hazard,
    departure_risk,
    hazard_ratios,
    mean_retention,
    median_retention,
    next_purchase_chance,
    open_warehouse,
    repurchase_rate,
    retention_curve,
    retention_difference,
)
from crm_analysis.dates import add_months
from crm_analysis.survival import rate_ratio
from synthetic.closed_form import make_closed_form

AS_OF = date(2022, 12, 31)
FIRST = date(2018, 1, 1)

EXACT = 1e-10
"""Two programs that add the same numbers in another order differ by rounding alone."""

DAY_LATE = 0.003
"""Ends are written up to a day late, calendar months lie within two days of the mean one: at the
steepest these ownerships end at a quarter a year."""

CAUSES = ("moved", "bought_elsewhere")


def spells_of(n: int, seed: int) -> pl.DataFrame:
    """Random spells with causes, late entry, nulls and ends after the last day."""
    rng = np.random.default_rng(seed)
    start, length = rng.integers(0, 1800, n), rng.exponential(500, n).astype(int)
    delay = np.where(rng.random(n) < 0.3, rng.integers(0, 200, n), 0)
    cause = rng.choice([0, 1, 2], n)
    starts = [FIRST + timedelta(days=int(s)) for s in start]
    return pl.DataFrame(
        {
            "started_on": starts,
            "ended_on": [
                None if c == 0 else s + timedelta(days=int(x))
                for s, x, c in zip(starts, length, cause, strict=True)
            ],
            "entered_on": [s + timedelta(days=int(d)) for s, d in zip(starts, delay, strict=True)],
            "cause": [None if c == 0 else CAUSES[c - 1] for c in cause],
            "brand": ["Lada" if s % 2 else "Kia" for s in start],
            "kind": ["car" if s % 3 else "service" for s in start],
            "warranty_months": [24 if s % 5 else None for s in start],
        },
        schema_overrides={"ended_on": pl.Date, "warranty_months": pl.Int64},
    )


# Causes -----------------------------------------------------------------------------------


def test_causes_and_retention_make_up_all_in_every_group() -> None:
    spells = spells_of(600, 1)
    causes = departure_causes(spells, entry_col="entered_on", as_of=AS_OF, by="brand")
    curve = retention_curve(spells, entry_col="entered_on", as_of=AS_OF, by="brand")
    ended = causes.table.group_by("brand", "time").agg(pl.col("estimate", "n_exits").sum())
    both = curve.table.join(ended, on=["brand", "time"], suffix="_ended")
    assert both.height == curve.table.height
    np.testing.assert_allclose(both["estimate"] + both["estimate_ended"], 1, atol=EXACT)
    assert (both["n_exits"] == both["n_exits_ended"]).all()


@cache
def ownerships(seed: int, n: int) -> tuple[pl.DataFrame, pl.DataFrame, date]:
    made = make_closed_form("weibull_competing_risks", n_customers=n, seed=seed)
    table = made.tables["ownerships"].collect().with_columns(pl.col("cause").cast(pl.String))
    return table, made.truth["truth_curve"].collect(), made.parameters.as_of


def test_causes_are_those_of_the_closed_form_world() -> None:
    """At each year and cause the exact incidence lies within 3.3 standard errors."""
    spells, truth, as_of = ownerships(1, 8_000)
    found = departure_causes(spells, as_of=as_of).table.filter(
        pl.col("time") % 12 == 0, pl.col("time") > 0, pl.col("n_at_risk") > 300
    )
    exact = truth.filter(group="all").select("time", "value", cause="quantity")
    both = found.cast({"time": pl.Float64}).join(exact, on=["time", "cause"])
    assert both.height == found.height >= 24
    miss = (both["estimate"] - both["value"]).abs()
    assert (miss <= 3.3 * both["std_error"] + DAY_LATE).all()


def test_intervals_of_the_causes_cover_the_exact_incidence() -> None:
    hits = []
    for seed in range(40):
        spells, truth, as_of = ownerships(100 + seed, 400)
        found = departure_causes(spells, as_of=as_of).table.filter(pl.col("time") == 60)
        exact = truth.filter(group="all", time=60.0).select("value", cause="quantity")
        both = found.join(exact, on="cause")
        hits += (
            both.select(pl.col("value").is_between("conf_low", "conf_high", closed="both"))
            .to_series()
            .to_list()
        )
    assert len(hits) == 120
    # Causes of one world go together, so the band is that of forty trials.
    assert abs(np.mean(hits) - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / 40)


def test_repurchase_is_an_incidence_not_one_minus_kaplan_meier() -> None:
    spells, truth, as_of = ownerships(1, 8_000)
    found = repurchase_rate(
        spells, repurchase_cause="repurchase_here", horizons_months=(36, 60), as_of=as_of
    ).table
    exact = truth.filter(group="all", quantity="repurchase_here")
    for row in found.to_dicts():
        value = exact.filter(time=float(row["horizon_months"]))["value"].item()
        assert abs(row["estimate"] - value) < 3.3 * row["std_error"] + DAY_LATE
    single = followed(spells, "repurchase_here", as_of)
    naive = 1 - retention_curve(single, as_of=as_of).after(60).table["estimate"][0]
    assert naive > found["estimate"][1] + 0.02


def followed(spells: pl.DataFrame, cause: str, as_of: date) -> pl.DataFrame:
    """One cause alone, the other ends censored: all spells are moved to stop on the last day."""
    days = (pl.coalesce("ended_on", pl.lit(as_of)) - pl.col("started_on")).dt.total_days()
    return spells.with_columns(days=days).select(
        started_on=pl.lit(as_of) - pl.duration(days="days"),
        ended_on=pl.when(pl.col("cause") == cause).then(pl.lit(as_of)),
        serviced="serviced",
    )


def test_a_horizon_beyond_the_data_is_null_and_a_cause_never_met_is_zero() -> None:
    spells = spells_of(200, 2)
    found = repurchase_rate(spells, horizons_months=(12, 600), as_of=AS_OF)
    first, beyond = found.table.to_dicts()
    assert (first["estimate"], first["conf_low"]) == (0.0, 0.0)
    assert first["conf_high"] > 0
    assert beyond["estimate"] is beyond["conf_high"] is None
    assert any("600 months" in note for note in found.notes)
    with pytest.raises(InputError, match="whole number, at least 1; got 0"):
        repurchase_rate(spells, horizons_months=(0,), as_of=AS_OF)


def test_the_chance_of_the_next_car_is_the_exact_one_at_each_age() -> None:
    spells, truth, as_of = ownerships(1, 8_000)
    found = next_purchase_chance(spells, repurchase_cause="repurchase_here", as_of=as_of).table
    whole = truth.filter(group="all")
    values = {q: dict(whole.filter(quantity=q).select("time", "value").iter_rows())
              for q in ("share open", "repurchase_here")}  # fmt: skip
    for row in found.filter(pl.col("owned_years") < 8).to_dicts():
        age = row["owned_years"] * 12.0 + 6
        here, open_ = values["repurchase_here"], values["share open"]
        exact = (here[age + 12] - here[age]) / open_[age]
        assert abs(row["estimate"] - exact) < 3.3 * row["std_error"] + DAY_LATE
    open_now = spells.filter(pl.col("ended_on").is_null()).height
    assert found["n"].sum() == open_now


# Pace -------------------------------------------------------------------------------------


def broken_hazard(n: int, seed: int, ratio: float = 2.5) -> pl.DataFrame:
    """Cars whose owners leave at .1 a year in warranty and `ratio` times that after 36 months."""
    rng = np.random.default_rng(seed)
    expiry, pace = 36 * 365.25 / 12, 0.1 / 365.25
    budget = rng.exponential(1, n)
    days = np.where(
        budget < pace * expiry, budget / pace, expiry + (budget / pace - expiry) / ratio
    )
    start = rng.integers(0, 1500, n)
    entry = np.where(rng.random(n) < 0.5, rng.integers(0, 900, n), 0)
    known = days > entry
    return pl.DataFrame(
        {
            "in_use_on": [date(2014, 1, 1) + timedelta(days=int(s)) for s in start[known]],
            "days": np.ceil(days[known]).astype(np.int64),
            "entry": entry[known],
        }
    ).select(
        "in_use_on",
        started_on=pl.col("in_use_on") + pl.duration(days="entry"),
        ended_on=pl.col("in_use_on") + pl.duration(days="days"),
        warranty_months=pl.lit(36, pl.Int64),
    )


def test_the_break_at_the_end_of_the_warranty_is_recovered() -> None:
    """Exactly dated departures: intervals of both rows cover 2.5 within the binomial band."""
    hits: list[bool] = []
    n_sets = 60
    for seed in range(n_sets):
        found = departure_hazard(broken_hazard(700, seed), rush_months=0, as_of=AS_OF)
        rows = found.warranty_break.table
        hits += rows.select((pl.col("conf_low") <= 2.5) & (pl.col("conf_high") >= 2.5))[
            "conf_low"
        ].to_list()
    # Exact intervals cover at least what they say; the two rows of a set go together.
    assert 0.95 - 3 * np.sqrt(0.95 * 0.05 / n_sets) <= np.mean(hits)


def test_no_break_is_not_found() -> None:
    found = departure_hazard(broken_hazard(3000, 5, ratio=1.0), rush_months=0, as_of=AS_OF)
    assert (found.warranty_break.table["p_value"] > 0.01).all()
    assert "not established" in str(found)


def test_paces_equal_their_slow_twin() -> None:
    spells = spells_of(300, 3)
    found = departure_hazard(
        spells, start_col="started_on", entry_col="entered_on", band_months=12, as_of=AS_OF
    ).table
    width = 12 * 365.25 / 12
    for row in found.to_dicts():
        low = row["age_months"] / 12 * width
        ended = lived = 0.0
        for spell in spells.to_dicts():
            end = spell["ended_on"]
            gone = end is not None and end <= AS_OF
            last = ((end if gone else AS_OF) - spell["started_on"]).days
            first = (spell["entered_on"] - spell["started_on"]).days
            if spell["started_on"] > AS_OF or spell["entered_on"] > AS_OF:
                continue
            if not (first < last or first == 0):
                continue
            lived += max(0.0, min(last, low + width) - max(first, low))
            ended += gone and (low < last <= low + width or (low == 0 == last))
        assert row["n_ended"] == ended
        assert row["car_years"] == pytest.approx(lived / 365.25)
        assert row["estimate"] == pytest.approx(ended / (lived / 365.25))


def test_a_car_is_at_risk_only_while_it_is_observed() -> None:
    spells = spells_of(300, 8)
    until = spells.select(pl.col("started_on") + pl.duration(days=400)).to_series()
    given: dict[str, Any] = {"start_col": "started_on", "as_of": AS_OF, "band_months": 6}
    found = departure_hazard(
        spells.with_columns(until_on=until), entry_col=None, until_col="until_on", **given
    ).table
    whole = departure_hazard(spells, entry_col=None, **given).table
    # Up to 12 months both see the same; nobody is at risk after day 400.
    same = ["age_months", "n_ended", "car_years", "n"]
    assert_frame_equal(found[:2].select(same), whole[:2].select(same))
    assert found["age_months"].max() == 12
    left = (spells["ended_on"] <= AS_OF) & (spells["ended_on"] <= until)
    assert found["n_ended"].sum() == left.sum()


def test_the_network_leaves_after_warranty_as_fast_as_its_truth_says(tiny_network: Path) -> None:
    """With the true relative paces as time at risk, the ratio of 2.5 is found; it is not what a
    CRM sees: silence is dated between visits, and those who bought elsewhere are silent too."""
    truth = {
        name: pl.read_parquet(tiny_network / "truth" / f"truth_{name}.parquet")
        for name in ("interval", "fate")
    }
    fates = truth["fate"].select("customer_id", "ended_on", "cause")
    spans = (
        truth["interval"]
        .join(fates, on="customer_id")
        .with_columns(
            years=(pl.col("stop_on") - pl.col("start_on")).dt.total_days() / 365.25,
            left=(pl.col("cause") == "defected") & (pl.col("stop_on") == pl.col("ended_on")),
            relative=pl.col("hazard") / pl.when("in_warranty").then(1.0).otherwise(2.5),
        )
    )
    sums = spans.group_by("in_warranty").agg(
        pl.col("left").sum(), (pl.col("relative") * pl.col("years")).sum()
    )
    before, after = (sums.filter(in_warranty=side) for side in (True, False))
    found = rate_ratio(
        (before["left"][0], after["left"][0]), (before["relative"][0], after["relative"][0])
    )
    assert found.low <= 2.5 <= found.high
    assert found.high - found.low < 1.5

    crm = open_warehouse(tiny_network)
    seen = departure_hazard(
        crm.car_parc(), until_col="until_on", as_of=crm.months_before(18), near_months=30
    ).warranty_break.table
    assert seen["estimate"][0] > 1


# Cox --------------------------------------------------------------------------------------

SIX_MP = [6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def remission() -> pl.DataFrame:
    """Gehan (1965): weeks in remission, as days before the last one."""
    weeks = SIX_MP + PLACEBO
    return pl.DataFrame(
        {
            "started_on": [AS_OF - timedelta(days=abs(w)) for w in weeks],
            "ended_on": [AS_OF if w > 0 else None for w in weeks],
            "drug": ["6-MP"] * 21 + ["placebo"] * 21,
        },
        schema_overrides={"ended_on": pl.Date},
    )


def test_cox_matches_the_published_fit_on_remission() -> None:
    """Efron's ties: log ratio 1.572, standard error .412; concordance .690 (R coxph)."""
    found = hazard_ratios(remission(), factors="drug", as_of=AS_OF)
    row = found.table.row(0, named=True)
    assert (row["trait"], row["n"], row["n_exits"]) == ("placebo", 42, 30)
    assert round(float(np.log(row["estimate"])), 3) == 1.572
    assert round(row["std_error"] / row["estimate"], 3) == 0.412
    assert (round(row["conf_low"], 2), round(row["conf_high"], 2)) == (2.15, 10.81)
    assert found.concordance is not None
    assert round(found.concordance, 3) == 0.690


def test_ratios_of_the_closed_form_world_are_recovered() -> None:
    """Repurchase here has the log ratio .55 for a serviced car; other ends are censored."""
    spells, _truth, as_of = ownerships(1, 8_000)
    single = followed(spells, "repurchase_here", as_of)
    row = hazard_ratios(single, factors="serviced", as_of=as_of).table.row(0, named=True)
    truth = 0.55 if row["trait"].endswith("yes") else -0.55
    assert abs(np.log(row["estimate"]) - truth) < 3.3 * row["std_error"] / row["estimate"]


def efron(beta: float, rows: list[tuple[int, int, bool, float]]) -> float:
    """Efron's log partial likelihood, one exit day at a time; at risk after entry, or from 0."""
    total = 0.0
    for day in sorted({end for _, end, ended, _ in rows if ended}):
        there = [r for r in rows if r[1] >= day and (r[0] < day or r[0] == 0)]
        gone = [r for r in there if r[1] == day and r[2]]
        risk = sum(np.exp(beta * r[3]) for r in there)
        tied = sum(np.exp(beta * r[3]) for r in gone)
        total += sum(beta * r[3] for r in gone)
        total -= sum(np.log(risk - i / len(gone) * tied) for i in range(len(gone)))
    return float(total)


def test_cox_with_late_entry_equals_its_slow_twin() -> None:
    spells = spells_of(250, 6)
    found = hazard_ratios(spells, entry_col="entered_on", factors="brand", as_of=AS_OF)
    row = found.table.row(0, named=True)
    rows = []
    for spell in spells.to_dicts():
        if spell["started_on"] > AS_OF or spell["entered_on"] > AS_OF:
            continue
        gone = spell["ended_on"] is not None and spell["ended_on"] <= AS_OF
        end = ((spell["ended_on"] if gone else AS_OF) - spell["started_on"]).days
        entry = (spell["entered_on"] - spell["started_on"]).days
        if entry < end or entry == 0:
            rows.append((entry, end, gone, float(spell["brand"] == row["trait"])))
    assert row["n"] == len(rows)
    best = optimize.minimize_scalar(lambda b: -efron(b, rows), bounds=(-3, 3), method="bounded",
                                    options={"xatol": 1e-8})  # fmt: skip
    assert abs(np.log(row["estimate"]) - best.x) < 1e-5
    step = 1e-3
    curved = efron(best.x + step, rows) - 2 * efron(best.x, rows) + efron(best.x - step, rows)
    error = np.sqrt(-(step**2) / curved)
    assert row["std_error"] / row["estimate"] == pytest.approx(error, rel=1e-3)


# Risk -------------------------------------------------------------------------------------

SNAPSHOT_DAYS = [date(year, 12, 31) for year in (2018, 2019, 2020, 2021, 2022)]


def snapshots_of(n: int, seed: int) -> pl.DataFrame:
    """Yearly snapshots whose odds of leaving are exp(-1 + .8 x - .5 flag)."""
    rng = np.random.default_rng(seed)
    x, flag = rng.normal(size=5 * n).round(1), rng.random(5 * n) < 0.4
    left = rng.random(5 * n) < special.expit(-1 + 0.8 * x - 0.5 * flag)
    days = [day for day in SNAPSHOT_DAYS for _ in range(n)]
    return pl.DataFrame(
        {
            "snapshot_on": days,
            "left": [None if day == SNAPSHOT_DAYS[-1] else bool(k)
                     for day, k in zip(days, left, strict=True)],
            "x": x,
            "flag": flag,
        },
        schema_overrides={"left": pl.Boolean},
    )  # fmt: skip


def test_the_risk_model_recovers_its_truth_and_is_calibrated() -> None:
    found = departure_risk(snapshots_of(3000, 1), factors=["x", "flag"])
    rows = {row["factor"]: row for row in found.table.to_dicts()}
    for factor, truth in (("x", 0.8), ("flag", -0.5)):
        row = rows[factor]
        assert abs(np.log(row["estimate"]) - truth) < 3.3 * row["std_error"] / row["estimate"]
        assert row["n"] == 9000
    classes = found.calibration.table
    z = (classes["estimate"] - classes["predicted"]) / classes["std_error"]
    assert (z.abs() < 3.5).all()
    # The area under the curve of the true risk, by simulation.
    rng = np.random.default_rng(0)
    p = special.expit(-1 + 0.8 * rng.normal(size=200_000) - 0.5 * (rng.random(200_000) < 0.4))
    left = rng.random(200_000) < p
    ranks = stats.rankdata(p)
    area = (ranks[left].mean() - (left.sum() + 1) / 2) / (~left).sum()
    row = found.concordance.table.row(0, named=True)
    assert row["conf_low"] <= area <= row["conf_high"]
    assert found.slipping_away.table["n"].sum() == 3000
    assert "expected to fall silent" in str(found.calibration)


def test_the_expected_number_of_departures_is_inside_its_interval() -> None:
    hits = []
    for seed in range(60):
        table = snapshots_of(250, seed)
        rng = np.random.default_rng(seed + 1000)
        last = table.filter(snapshot_on=SNAPSHOT_DAYS[-1])
        p = special.expit(-1 + 0.8 * last["x"].to_numpy() - 0.5 * last["flag"].to_numpy())
        bands = departure_risk(table, factors=["x", "flag"]).slipping_away.table
        model = departure_risk(table, factors=["x", "flag"]).table["estimate"].log().to_list()
        assert len(model) == 2
        total = bands["estimate"].sum()
        width = float((bands["std_error"].to_numpy() ** 2).sum()) ** 0.5
        hits.append(abs(total - (rng.random(len(p)) < p).sum()) <= 2.3 * width)
    assert np.mean(hits) >= 0.85


def test_the_model_never_sees_the_year_of_the_test() -> None:
    """Outcomes of the test and of snapshots that overlap it change no coefficient."""
    table = snapshots_of(500, 3)
    late = pl.col("snapshot_on") >= SNAPSHOT_DAYS[3]
    turned = table.with_columns(left=pl.when(late).then(~pl.col("left")).otherwise("left"))
    one, other = (departure_risk(t, factors=["x", "flag"]) for t in (table, turned))
    assert_frame_equal(one.table, other.table)
    assert one.concordance.table["estimate"][0] > 0.6 > other.concordance.table["estimate"][0]
    middle = departure_risk(
        table, factors=["x", "flag"], test_since=add_months(SNAPSHOT_DAYS[3], -1)
    )
    assert middle.table["n"].unique().to_list() == [1000]


def test_concordance_equals_its_slow_twin() -> None:
    table = snapshots_of(60, 4)
    found = departure_risk(table, factors=["x", "flag"])
    tested = table.filter(snapshot_on=SNAPSHOT_DAYS[3])
    beta = found.table["estimate"].log().to_list()
    score = (beta[0] * tested["x"] + beta[1] * tested["flag"].cast(pl.Float64)).round(9).to_list()
    left = tested["left"].to_list()
    pairs = [(a, b) for a, k in zip(score, left, strict=True) if k
             for b, j in zip(score, left, strict=True) if not j]  # fmt: skip
    area = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert found.concordance.table["estimate"][0] == pytest.approx(area)


@pytest.mark.parametrize(
    "spoilt",
    [
        pl.lit(None, pl.Boolean).alias("left"),
        pl.when(pl.col("left").is_not_null()).then(pl.lit(value=True)).alias("left"),
        pl.when(pl.col("left").is_not_null()).then(pl.col("x") > 0).alias("left"),
        pl.lit(1.0).alias("x"),
    ],
)
def test_without_a_model_everything_is_null_and_says_why(spoilt: pl.Expr) -> None:
    found = departure_risk(snapshots_of(50, 5).with_columns(spoilt), factors=["x"])
    assert found.table["estimate"].null_count() == 1
    assert "No model can be fitted" in found.notes[0]
    for result in (found, found.concordance, found.calibration, found.slipping_away):
        assert "nan" not in result.show().to_html().lower()
    empty = departure_risk(snapshots_of(5, 5).clear(), factors=["x", "flag"])
    assert empty.table.height == 2
    assert "nothing" in str(empty.concordance) or "no" in str(empty.concordance)


def test_a_factor_that_never_varies_is_named() -> None:
    table = snapshots_of(300, 6).with_columns(same=pl.lit(2))
    found = departure_risk(table, factors=["x", "same"])
    assert found.table["estimate"].null_count() == 1
    assert any("same" in note for note in found.notes)
    with pytest.raises(InputError, match="at least one column, and each once"):
        departure_risk(table, factors=["x", "x"])


# Backends ---------------------------------------------------------------------------------


def test_every_backend_gives_the_same_departures(backend: Callable[[pl.DataFrame], Any]) -> None:
    spells, snapshots = spells_of(300, 7), snapshots_of(40, 7)
    there, seen = backend(spells), backend(snapshots)
    given: dict[str, Any] = {"as_of": AS_OF, "entry_col": "entered_on"}
    since = date(2021, 1, 1)
    pairs = [
        (f(data, **given, **more).table, f(spells, **given, **more).table)
        for f, data, more in (
            (departure_causes, there, {"by": "brand"}),
            (repurchase_rate, there, {"by": "brand", "repurchase_cause": "moved"}),
            (next_purchase_chance, there, {"repurchase_cause": "moved"}),
            (median_retention, there, {"by": "brand"}),
            (mean_retention, there, {"by": "brand", "horizon": 24}),
            (retention_difference, there, {"by": "brand", "horizon": 24}),
            (churn_rate, there, {"by": "brand", "since": since}),
            (hazard_ratios, there, {"factors": ["brand", "kind"]}),
            (departure_hazard, there, {"start_col": "started_on", "by": "brand"}),
        )
    ]
    risk = [departure_risk(t, factors=["x", "flag"]) for t in (seen, snapshots)]
    pairs += [
        (risk[0].table, risk[1].table),
        (risk[0].calibration.table, risk[1].calibration.table),
    ]
    for found, expected in pairs:
        assert_frame_equal(found, expected)
