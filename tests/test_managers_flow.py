"""How many leads are in work, and Little's law on the CRM's own record."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis.managers import leads_in_work

ToBackend = Callable[[pl.DataFrame], Any]


def flowing(opened: Any, lasts: Any) -> pl.DataFrame:
    """Leads opened so many days after the first day of 2026, in work for so many days."""
    start = datetime.fromisoformat("2026-01-01")
    rows = [
        (start + timedelta(days=float(o)), start + timedelta(days=float(o + k)))
        for o, k in zip(opened, lasts, strict=True)
    ]
    table = pl.DataFrame(rows, schema=["opened_at", "closed_at"], orient="row")
    won = pl.int_range(pl.len()) % 3 == 0
    return table.with_columns(won_at=pl.when(won).then("closed_at")).with_columns(
        closed_at=pl.when(~won).then("closed_at"), team=pl.int_range(pl.len()) % 2
    )


PERIOD: dict[str, Any] = {"since": date(2026, 3, 1), "as_of": date(2026, 4, 29)}
"""60 days, from the 59th on."""


def test_leads_in_work_are_counted_hour_by_hour() -> None:
    rng = np.random.default_rng(1)
    opened, lasts = rng.integers(0, 130 * 24, 200) / 24, rng.integers(0, 60 * 24, 200) / 24
    row = leads_in_work(flowing(opened, lasts), **PERIOD).table.row(0, named=True)
    hours = np.arange(59 * 24, 119 * 24) / 24 + 1 / 48
    there = (opened <= hours[:, None]) & (hours[:, None] < opened + lasts)
    assert row["estimate"] == pytest.approx(there.sum(axis=1).mean(), abs=1e-9)
    over = opened + lasts
    closed = (over >= 59) & (over < 119)
    came = (opened >= 59) & (opened < 119)
    assert (row["n_opened"], row["n_closed"]) == (came.sum(), closed.sum())
    assert row["n_at_start"] == ((opened < 59) & (over >= 59)).sum()
    assert row["n_at_end"] == ((opened < 119) & (over >= 119)).sum()
    assert row["mean_days"] == pytest.approx(lasts[closed].mean(), abs=1e-9)
    assert row["flow_ratio"] == pytest.approx(
        row["estimate"] / (came.sum() / 60 * lasts[closed].mean()), abs=1e-9
    )


def test_where_leads_flow_steadily_littles_law_holds_as_often_as_it_should() -> None:
    # Opened at random times at one rate, for times of any shape: the number in work is Poisson
    # with mean rate x time (Little; Palm 1943), and the ratio 1 lies in nearly all intervals.
    rng, held, inside, draws = np.random.default_rng(2), 0, 0, 100
    for _ in range(draws):
        n = rng.poisson(400 * 3)
        leads = flowing(rng.uniform(-281, 119, n), rng.gamma(1.5, 8, n))
        row = leads_in_work(leads, **PERIOD).table.row(0, named=True)
        held += row["conf_low"] <= 3 * 12 <= row["conf_high"]
        inside += row["flow_low"] <= 1 <= row["flow_high"]
    # 3 standard errors of 100 draws around 95 %, over which no share goes by much.
    assert min(held, inside) / draws > 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)


def test_leads_that_nobody_closes_are_told_by_the_ratio() -> None:
    rng = np.random.default_rng(3)
    opened = rng.uniform(-281, 119, 1200)
    forgotten = rng.random(1200) < 0.2
    found = leads_in_work(flowing(opened, np.where(forgotten, 1000, 10)), **PERIOD)
    assert found.table["flow_low"].item() > 1.1
    assert "stay open longer" in found.sentence()
    assert found.importance() > 0
    steady = leads_in_work(flowing(opened, np.full(1200, 10)), **PERIOD)
    assert "agrees with itself" in steady.sentence()
    assert steady.importance() == 0


def test_leads_in_work_by_group_are_those_of_each_group_alone(backend: ToBackend) -> None:
    rng = np.random.default_rng(4)
    leads = flowing(rng.uniform(0, 119, 90), rng.gamma(2, 8, 90))
    found = leads_in_work(backend(leads), by="team", **PERIOD)
    for team in (0, 1):
        alone = leads_in_work(leads.filter(pl.col("team") == team), **PERIOD).table
        assert_frame_equal(found.table.filter(pl.col("team") == team).drop("team"), alone)
    nobody = leads_in_work(leads.clear(), **PERIOD)
    assert nobody.table.select("n", "flow_ratio").row(0) == (0, None)
    assert any("no leads" in note for note in nobody.notes)
