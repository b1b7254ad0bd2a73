"""What calling brought: a published interval, a clerk's loop, and a coin that lets some answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from crm_analysis import InputError, call_results, open_warehouse

AS_OF = date(2025, 12, 31)
FIRST = date(2025, 1, 1)
LATEST = date(2025, 12, 1)
"""Thirty days before the last: later calls have not had their time."""


def made(seed: int, n: int = 400) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Calls and what customers did, drawn without any order."""
    rng = np.random.default_rng(seed)

    def days(size: int) -> list[date]:
        return [FIRST + timedelta(days=int(d)) for d in rng.integers(0, 365, size)]

    calls = pl.DataFrame(
        {
            "customer_id": rng.integers(0, 90, n), "done_at": days(n),
            "result": rng.choice(["reached", "not_reached", "refused"], n, p=[0.5, 0.4, 0.1]),
            "purpose": rng.choice(["care", "prospect"], n),
        }
    )  # fmt: skip
    outcomes = pl.DataFrame(
        {
            "customer_id": rng.integers(0, 120, n), "happened_on": days(n),
            "kind": rng.choice(["visit", "contract"], n, p=[0.8, 0.2]),
        }
    )  # fmt: skip
    return calls.with_columns(pl.col("result").replace({"not_reached": None})), outcomes


def test_counts_are_those_of_a_clerk(backend: Callable[[pl.DataFrame], Any]) -> None:
    calls, outcomes = made(1)
    found = call_results(
        backend(calls), outcomes=backend(outcomes), by="purpose", as_of=AS_OF
    ).table
    for purpose in ("care", "prospect"):
        rows = calls.filter(pl.col("purpose") == purpose, pl.col("done_at") <= LATEST).rows(
            named=True
        )
        people = sorted({row["customer_id"] for row in rows})
        start, spoke, first = {}, set(), set()
        for one in people:
            own = [row for row in rows if row["customer_id"] == one]
            good = [row["done_at"] for row in own if row["result"] in ("reached", "refused")]
            start[one] = min(row["done_at"] for row in own)
            spoke |= {one} if good else set()
            first |= {one} if start[one] in good else set()
        answered = sum(row["result"] is not None for row in rows)
        steps = {
            "calls_answered": (answered, len(rows)),
            "people_reached": (len(spoke), len(people)),
        }
        for kind in ("visit", "contract"):
            did = {
                row["customer_id"] for row in outcomes.rows(named=True)
                if row["kind"] == kind and row["customer_id"] in start
                and 1 <= (row["happened_on"] - start[row["customer_id"]]).days <= 30
            }  # fmt: skip
            steps[kind] = (len(did & first), len(first))
            row = found.filter(purpose=purpose, step=kind).row(0, named=True)
            others = len(people) - len(first)
            assert row["n_not_reached"] == others
            assert row["not_reached"] == pytest.approx(len(did - first) / others)
            assert row["difference"] == pytest.approx(row["estimate"] - row["not_reached"])
        for step, (k, n) in steps.items():
            row = found.filter(purpose=purpose, step=step).row(0, named=True)
            assert (row["n_yes"], row["n"]) == (k, n)
    assert found["step"].to_list()[:4] == ["calls_answered", "people_reached", "contract", "visit"]


def test_the_difference_has_the_published_interval() -> None:
    """56 of 70 against 48 of 80: Newcombe (1998), table II, method 10: .0524 to .3339."""
    calls = pl.DataFrame(
        {
            "customer_id": range(150), "done_at": FIRST,
            "result": ["reached"] * 70 + ["not_reached"] * 80,
        }
    )  # fmt: skip
    came = [*range(56), *range(70, 118)]
    outcomes = pl.DataFrame(
        {"customer_id": came, "happened_on": FIRST + timedelta(days=5), "kind": "visit"}
    )
    found = call_results(calls, outcomes=outcomes, as_of=AS_OF)
    row = found.table.row(2, named=True)
    assert round(row["difference_low"], 4) == 0.0524
    assert round(row["difference_high"], 4) == 0.3339
    assert "visit within 30 days: 80.0% of them, 60.0% of those not reached" in found.sentence()
    found.show()


def test_who_answers_by_chance_does_no_more_than_others(tiny_network: Path) -> None:
    """The generator lets a coin decide who answers: differences are of chance alone.

    Of seven lists with three outcomes each, none differs after allowing for all.
    """
    crm = open_warehouse(tiny_network)
    found = call_results(
        crm.calls(), outcomes=crm.comings(), by="purpose", as_of=crm.as_of, conf_level=1 - 0.05 / 21
    )
    known = found.table.drop_nulls("difference")
    assert known.height >= 15
    assert known.filter((pl.col("difference_low") > 0) | (pl.col("difference_high") < 0)).is_empty()
    assert "not told apart" in found.sentence()


def test_what_happens_on_the_day_or_too_late_does_not_count() -> None:
    calls = pl.DataFrame({"customer_id": [1, 2, 3, 4], "done_at": FIRST, "result": "reached"})
    later = [0, 1, 30, 31]
    outcomes = pl.DataFrame(
        {
            "customer_id": [1, 2, 3, 4], "kind": "visit",
            "happened_on": [FIRST + timedelta(days=day) for day in later],
        }
    )  # fmt: skip
    found = call_results(calls, outcomes=outcomes, as_of=AS_OF)
    assert found.table.filter(step="visit")["n_yes"].item() == 2
    assert found.table["difference"].null_count() == found.table.height  # nobody was missed


def test_nobody_called_and_nothing_done_are_said() -> None:
    calls, outcomes = made(2, 60)
    nobody = call_results(calls.clear(), outcomes=outcomes, by="purpose", as_of=AS_OF)
    assert nobody.table.is_empty()
    assert "nothing can be said" in nobody.sentence()
    nobody.show()
    idle = call_results(calls, outcomes=outcomes.clear(), as_of=AS_OF)
    assert idle.table["step"].to_list() == ["calls_answered", "people_reached"]
    assert "not told apart" in idle.sentence()
    idle.plot()


def test_a_result_that_counts_as_reached_is_needed() -> None:
    calls, outcomes = made(3, 10)
    with pytest.raises(InputError, match="must list the results"):
        call_results(calls, outcomes=outcomes, reached="reached", as_of=AS_OF)
