"""New managers against experienced ones: the curve that made the leads, and what chance makes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.special import expit

from crm_analysis import InputError, ramp_up
from crm_analysis.managers.ramp_up import _covariance

AS_OF = date(2026, 6, 30)
FIRST = date(2020, 1, 1)
CURVE = (-0.8, -0.4, -0.2, 0.0)
"""Log odds in months 0-3, 3-6, 6-12 and after, against those of experience."""

MONTHS = (3, 6, 12)
SEEDS = 15
LEAST_COVERED = 38
"""Of 45 intervals at 95 % that many or more hold the truth with probability .99 (binomial)."""

BACKENDS_APART = 1e-9


def leads(seed: int, *, curve: tuple[float, ...] = CURVE, n_seats: int = 12) -> pl.DataFrame:
    """Make six years of leads of seats whose holders change; the weak leave within a year."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, date, date, date | None, str]] = []
    last = (AS_OF - FIRST).days
    for seat in range(n_seats):
        day, turn = -int(rng.integers(0, 900)), 0
        while day < last:
            skill = 0.5 * rng.standard_normal()
            stays = int(rng.integers(200, 400)) if skill < 0 else int(rng.integers(900, 1500))
            for at in range(max(day, 0), min(day + stays, last), 3):
                step = int(np.searchsorted(np.array(MONTHS) * 365.25 / 12, at - day, side="right"))
                good = rng.random() < 0.3
                chance = expit(-1.6 + 0.9 * good + skill + curve[step])
                won = FIRST + timedelta(days=at + 20) if rng.random() < chance else None
                rows.append(
                    (f"{seat}/{turn}", FIRST + timedelta(days=day), FIRST + timedelta(days=at), won,
                     "referral" if good else "web")
                )  # fmt: skip
            day, turn = day + stays, turn + 1
    names = ["manager", "hired_on", "opened_at", "won_at", "source"]
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


ASKED: dict[str, Any] = {"adjust": ("source",), "months": MONTHS, "as_of": AS_OF}


def test_the_curve_that_made_the_leads_is_found_and_raw_shares_exaggerate_it() -> None:
    covered, apart, adjusted, raw = 0, 0, [], []
    for seed in range(SEEDS):
        found = ramp_up(leads(seed), **ASKED)
        table = found.table
        for step, truth in enumerate(CURVE[:-1]):
            row = table.row(step, named=True)
            covered += row["odds_low"] <= np.exp(truth) <= row["odds_high"]
        apart += (found.p_value or 0) < 0.05
        adjusted.append(np.log(table["odds"][0]))
        raw.append(
            np.log(table["raw"] / (1 - table["raw"]))[0]
            - np.log(table["raw"] / (1 - table["raw"]))[3]
        )
    assert covered >= LEAST_COVERED
    assert apart >= SEEDS - 2
    # The weak leave early, so that raw shares show them among the new and not the experienced.
    error = np.std(adjusted, ddof=1) / np.sqrt(SEEDS)
    assert abs(np.mean(adjusted) - CURVE[0]) < abs(np.mean(raw) - CURVE[0])
    assert abs(np.mean(adjusted) - CURVE[0]) < 0.1 + 3 * error  # shrinkage leaves some of it


def test_where_months_make_no_difference_none_is_established() -> None:
    """Of 15 tests at 5 % no more than 4 come out by chance with probability .995."""
    found = [ramp_up(leads(seed, curve=(0.0,) * 4), **ASKED) for seed in range(SEEDS)]
    assert sum((one.p_value or 0) < 0.05 for one in found) <= 4
    quiet = next(one for one in found if (one.p_value or 0) > 0.5)
    assert "no effect of the months in the job is established" in quiet.sentence()


def test_the_covariance_is_that_of_the_whole_system_solved_at_once() -> None:
    rng = np.random.default_rng(1)
    design, weight, place = rng.standard_normal((60, 3)), rng.random(60), rng.integers(0, 5, 60)
    everyone = np.eye(5)[place]
    both = np.hstack([design, everyone])
    whole = both.T @ (both * weight[:, None])
    whole[3:, 3:] += np.eye(5) / 0.4**2
    wanted = np.linalg.inv(whole)[:3, :3]
    np.testing.assert_allclose(_covariance(design, weight, place, 5, 0.4), wanted, rtol=1e-9)


def test_counts_are_those_of_a_clerk(backend: Callable[[pl.DataFrame], Any]) -> None:
    events = leads(3, n_seats=3)
    found = ramp_up(backend(events), **ASKED)
    days = (pl.col("opened_at") - pl.col("hired_on")).dt.total_days()
    mature = events.filter(pl.col("opened_at") <= AS_OF - timedelta(days=90))
    for step, (low, high) in enumerate([(0, 3), (3, 6), (6, 12), (12, 1e6)]):
        here = mature.filter(days >= low * 365.25 / 12, days < high * 365.25 / 12)
        row = found.table.row(step, named=True)
        assert row["n"] == here.height
        assert row["n_won"] == here["won_at"].count()
        assert row["n_managers"] == here["manager"].n_unique()
    assert_frame_equal(found.table, ramp_up(events, **ASKED).table, abs_tol=BACKENDS_APART)


def test_the_estimate_is_the_share_of_all_leads() -> None:
    """With one trait and no learning, every step comes to the share of all leads together."""
    events = leads(5, curve=(0.0,) * 4, n_seats=40)
    table = ramp_up(events, **ASKED).table
    mature = events.filter(pl.col("opened_at") <= AS_OF - timedelta(days=90))
    share = mature["won_at"].count() / mature.height
    assert table["conf_low"][3] < share < table["conf_high"][3]
    assert table["estimate"][3] == pytest.approx(share, abs=0.02)


def test_nothing_to_compare_is_said() -> None:
    events = leads(1, n_seats=4)
    old = events.filter((pl.col("opened_at") - pl.col("hired_on")).dt.total_days() > 400)
    for some in (old, events.clear(), events.filter(pl.col("manager") == "0/0")):
        found = ramp_up(some, **ASKED)
        assert found.table["estimate"].null_count() == 4
        assert found.p_value is None
        assert found.level_from is None
        assert found.notes
        assert "nothing can be said" in found.sentence()
        found.show()


def test_leads_from_before_the_first_day_are_left_out_and_said() -> None:
    events = leads(2, n_seats=4)
    early = events.with_columns(hired_on=pl.col("hired_on") + timedelta(days=30))
    found = ramp_up(early, **ASKED)
    count = early.filter(pl.col("opened_at") < pl.col("hired_on")).height
    assert count > 0
    assert any(note.startswith(f"{count} leads came before") for note in found.notes)
    found.plot()


@pytest.mark.parametrize("months", [(), (0, 3), (6, 3), (3, 3)])
def test_months_must_rise(months: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="must rise from above 0"):
        ramp_up(leads(1, n_seats=1), months=months, adjust=(), as_of=AS_OF)
