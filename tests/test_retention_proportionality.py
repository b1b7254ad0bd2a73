"""Whether ratios of a Cox regression stay: against R, in closed form, and by a slow twin."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.duration.hazard_regression import PHReg

from crm_analysis import InputError, hazard_ratios, proportional_hazards

SURVIVAL = Path(__file__).parent / "reference" / "survival"
LAST = date(2020, 12, 31)

EXACT = 1e-8
"""The same sums in another order, and a maximum found by Newton's method."""

PUBLISHED = 5e-4
"""R prints three decimals."""


def spells_of(table: pl.DataFrame) -> pl.DataFrame:
    """Relationships that all last until one day: `days` long, ended there or still open."""
    last = pl.lit(LAST)
    return table.with_columns(
        started_on=last - pl.duration(days="days"),
        ended_on=pl.when(pl.col("ended") == 1).then(last),
    )


def ovarian() -> pl.DataFrame:
    table = pl.read_csv(SURVIVAL / "ovarian.csv")
    return spells_of(table.rename({"died": "ended"}))


def test_cox_matches_rs_ovarian_fit() -> None:
    """coxph(Surv(futime, fustat) ~ age + rx): .14733 (.04615), -.80397 (.63205)."""
    table = hazard_ratios(ovarian(), factors=["age", "treatment"], as_of=LAST).table
    log_ratios = np.log(table["estimate"].to_numpy())
    assert log_ratios == pytest.approx([0.14732660, -0.80397301], abs=1e-7)
    errors = (table["std_error"] / table["estimate"]).to_numpy()
    assert errors == pytest.approx([0.04614705, 0.63204937], abs=1e-7)


@pytest.mark.parametrize("late", [False, True])
def test_cox_is_statsmodels_own_with_ties_and_many_traits(*, late: bool) -> None:
    rng = np.random.default_rng(11)
    n = 400
    days = rng.integers(1, 60, n)  # some seven end on each day
    traits = np.column_stack([rng.normal(size=n), rng.integers(0, 2, (n, 3))])
    ended = (rng.random(n) < 0.4 + 0.4 * traits[:, 1]).astype(int)
    entry = np.where(rng.random(n) < 0.5, rng.integers(0, days), 0)
    names = ["a", "b", "c", "d"]
    spells = spells_of(
        pl.DataFrame(
            {"days": days, "ended": ended, "entry": entry} | dict(zip(names, traits.T, strict=True))
        )
    ).with_columns(entered_on=pl.col("started_on") + pl.duration(days="entry"))
    column = "entered_on" if late else None
    table = hazard_ratios(spells, entry_col=column, factors=names, as_of=LAST).table
    # Who enters on a day is at risk from the next: half a day keeps that whatever is done of ties.
    own = PHReg(
        days, traits, status=ended, ties="efron",
        entry=np.where(entry > 0, entry + 0.5, 0) if late else None,
    ).fit(disp=0)  # fmt: skip
    ratios = table["estimate"].to_numpy()
    assert ratios == pytest.approx(np.exp(own.params), rel=EXACT)
    assert (table["std_error"].to_numpy() / ratios) == pytest.approx(own.bse, rel=EXACT)


def test_traits_that_tell_apart_have_no_ratio_and_small_units_have_theirs() -> None:
    rng = np.random.default_rng(3)
    kind = np.repeat([0, 1], 30)
    days = rng.integers(1, 300, 60)
    table = pl.DataFrame({
        "days": days, "ended": kind, "kind": np.where(kind, "leaves", "stays"),
        "price": 1e6 + 1e5 * rng.normal(size=60), "log": np.zeros(60),
    }).with_columns(log=(pl.col("price") - 1e6) / 1e5)  # fmt: skip
    apart = hazard_ratios(spells_of(table), factors=["kind", "log"], as_of=LAST)
    assert apart.table["estimate"].null_count() == 2
    assert "No model can be fitted" in " ".join(apart.notes)
    # A unit a hundred thousand times smaller, and the log ratio with it.
    large, small = (
        hazard_ratios(spells_of(table), factors=[name], as_of=LAST).table
        for name in ("price", "log")
    )
    assert 1e5 * np.log(large["estimate"][0]) == pytest.approx(
        np.log(small["estimate"][0]), rel=EXACT
    )


def test_the_score_test_matches_rs_cox_zph() -> None:
    """R survival 3, example of cox.zph: age .698 (p .40), ecog.ps 2.371 (.12), global 3.633."""
    found = proportional_hazards(ovarian(), factors=["age", "performance"], as_of=LAST)
    assert found.table["chi_squared"].to_list() == pytest.approx([0.698, 2.371], abs=PUBLISHED)
    assert [round(p, 2) for p in found.table["p_value"]] == [0.40, 0.12]
    assert found.test is not None
    assert found.test.statistic == pytest.approx(3.633, abs=PUBLISHED)
    assert (found.test.freedom, round(found.test.p_value, 2)) == (2, 0.16)
    assert "No change" in str(found)


def test_the_score_test_has_its_closed_form_on_ties() -> None:
    """Six customers whose maximum under Efron's ties is a cubic's root (tests of R survival)."""
    table = pl.DataFrame({
        "days": [9, 1, 1, 6, 6, 8], "ended": [1, 1, 0, 1, 1, 0], "x": [0, 1, 1, 1, 0, 0]
    })  # fmt: skip
    found = proportional_hazards(spells_of(table), factors="x", clock="days", as_of=LAST)
    r = 2 * np.sqrt(23 / 3) * np.cos(np.arccos(45 / 23 * np.sqrt(3 / 23)) / 3)
    score = np.array([1 / (r + 1), 3 / (r + 3), -r / (r + 5), 0])
    spread = np.array([r / (r + 1) ** 2, 3 * r / (r + 3) ** 2, 5 * r / (r + 5) ** 2, 0])
    g = np.array([1, 6, 6, 9])
    u = np.array([score.sum(), g @ score])
    curve = np.array([[spread.sum(), g @ spread], [g @ spread, g**2 @ spread]])
    assert found.table["chi_squared"][0] == pytest.approx(u @ np.linalg.solve(curve, u), rel=EXACT)
    # Of one trait the test of all together is its own.
    assert found.test is not None
    assert found.test.statistic == pytest.approx(found.table["chi_squared"][0], rel=EXACT)


def twin(table: pl.DataFrame, clock: str) -> tuple[float, float]:
    """Score test of one trait and of both, one exit day after another, by loops."""
    rows = [row for row in table.to_dicts() if row["entry"] < row["days"] or row["entry"] == 0]
    days = sorted({row["days"] for row in rows if row["ended"]})

    def there_on(day: int) -> list[dict[str, float]]:
        late = (row for row in rows if row["days"] >= day)
        return [row for row in late if row["entry"] < day or row["entry"] == 0]

    curve, stays = [], 1.0
    for day in days:
        curve.append(1 - stays)
        gone = sum(row["days"] == day and row["ended"] for row in rows)
        stays *= 1 - gone / len(there_on(day))
    g = {"km": curve, "rank": range(len(days)), "days": days}[clock]

    def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score and information of both traits and of both times g, at theta."""
        u, info = np.zeros(4), np.zeros((4, 4))
        for day, tick in zip(days, g, strict=True):
            z = {id(row): np.array([row["x"], row["y"], row["x"] * tick, row["y"] * tick])
                 for row in there_on(day)}  # fmt: skip
            there = there_on(day)
            gone = [row for row in there if row["days"] == day and row["ended"]]
            for i in range(len(gone)):
                share = [1 - i / len(gone) * (row in gone) for row in there]
                pace = np.array([
                    s * np.exp(z[id(row)] @ theta) for row, s in zip(there, share, strict=True)
                ])  # fmt: skip
                all_z = np.array([z[id(row)] for row in there])
                mean = pace @ all_z / pace.sum()
                u += z[id(gone[i])] - mean
                info += (all_z - mean).T @ ((all_z - mean) * (pace / pace.sum())[:, None])
        return u, info

    theta = np.zeros(4)
    for _step in range(8):
        u, info = at(theta)
        theta[:2] += np.linalg.solve(info[:2, :2], u[:2])
    u, info = at(theta)
    one = [0, 1, 2]
    return (
        float(u[one] @ np.linalg.solve(info[np.ix_(one, one)], u[one])),
        float(u @ np.linalg.solve(info, u)),
    )


@pytest.mark.parametrize("clock", ["km", "rank", "days"])
def test_the_score_test_equals_its_slow_twin_with_late_entry_and_ties(clock: str) -> None:
    rng = np.random.default_rng(5)
    n = 40
    days = rng.integers(1, 25, n)
    table = pl.DataFrame({
        "days": days, "ended": rng.integers(0, 2, n),
        "entry": np.where(rng.random(n) < 0.4, rng.integers(0, days), 0),
        "x": rng.normal(size=n).round(2), "y": rng.integers(0, 2, n),
    })  # fmt: skip
    spells = spells_of(table).with_columns(
        entered_on=pl.col("started_on") + pl.duration(days="entry")
    )
    found = proportional_hazards(
        spells, entry_col="entered_on", factors=["x", "y"], clock=clock, as_of=LAST
    )
    one, both = twin(table, clock)
    assert found.table["chi_squared"][0] == pytest.approx(one, rel=EXACT)
    assert found.test is not None
    assert found.test.statistic == pytest.approx(both, rel=EXACT)


def lives(n: int, seed: int, *, turns: bool) -> pl.DataFrame:
    """Kinds that leave at rates 1 to 3, the other way round after day 200 if it turns."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    early, late = np.where(kind, 3, 1) / 600, np.where(kind, 1 / 3 if turns else 3, 1) / 600
    first = rng.exponential(1 / early)
    life = np.where(first < 200, first, 200 + rng.exponential(1 / late))
    days = np.ceil(np.minimum(life, 900)).astype(int)
    return spells_of(pl.DataFrame({
        "days": days, "ended": (life < 900).astype(int),
        "kind": np.where(kind, "quick", "slow"), "age": rng.normal(40, 9, n),
    }))  # fmt: skip


def test_ratios_that_turn_are_found_and_named() -> None:
    found = proportional_hazards(lives(3_000, 1, turns=True), factors=["kind", "age"], as_of=LAST)
    kind, age = found.table.to_dicts()
    assert kind["p_adjusted"] < 1e-6
    assert age["p_adjusted"] > 0.01
    near, far = sorted([kind["ratio_first"], kind["ratio_last"]])
    assert near < 0.6
    assert far > 1.7
    assert kind["trait"] in str(found)
    assert kind["estimate"] == pytest.approx(kind["ratio_last"] / kind["ratio_first"])
    ax = found.plot()
    assert next(text.get_text() for text in ax.get_yticklabels()) == kind["trait"]


def test_ratios_that_stay_are_suspected_as_rarely_as_stated() -> None:
    p = []
    for seed in range(40):
        found = proportional_hazards(lives(150, seed, turns=False), factors="kind", as_of=LAST)
        p.append(found.table["p_value"][0])
    # Five per cent of 40, within the band that holds 99.9 % of such counts.
    low, high = stats.binom.interval(0.999, 40, 0.05)
    assert low <= sum(value < 0.05 for value in p) <= high
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_what_cannot_be_tested_is_null_with_a_note() -> None:
    same = pl.DataFrame({"days": [5] * 4, "ended": [1] * 4, "x": [0, 1, 0, 1]})
    nobody = same.with_columns(ended=pl.lit(0))
    for table in (same, nobody, same.with_columns(x=pl.lit(1))):
        found = proportional_hazards(spells_of(table), factors="x", as_of=LAST)
        assert found.test is None
        assert found.table["estimate"].null_count() == found.table.height
        assert found.notes
        assert "nothing to test" in str(found)
    with pytest.raises(InputError, match="clock"):
        proportional_hazards(ovarian(), factors="age", clock="log", as_of=LAST)
    with pytest.raises(InputError, match="at least one"):
        proportional_hazards(ovarian(), factors=[], as_of=LAST)
    assert LAST - timedelta(days=5) == spells_of(same)["started_on"][0]
