from __future__ import annotations

import time
from typing import TYPE_CHECKING

from crm_analysis.reporting.pace import Pace
from crm_analysis.reporting.runs import Run

if TYPE_CHECKING:
    import pytest


def run(name: str, place: str = "network") -> Run:
    return Run(name, f"notebooks/{name}.ipynb", f"{place}/{name}.en.html")


RUNS = [run("long"), run("short"), run("short", "north"), run("short", "south")]


def test_nothing_is_foretold_while_nothing_is_known() -> None:
    assert Pace().left(RUNS, 2) is None
    assert Pace().left([], 2) == 0


def test_an_earlier_batch_foretells_and_this_one_corrects_it() -> None:
    known = Pace({"notebooks/long.ipynb": 8.0, "notebooks/short.ipynb": 2.0})
    assert known.left(RUNS, 2) == 8.0  # a longest report is not shortened by a second worker
    assert known.left(RUNS, 1) == 14.0
    known.end(RUNS[1], 4.0)
    assert known.left([RUNS[0], *RUNS[2:]], 1) == 16.0
    assert known.means() == {"notebooks/long.ipynb": 8.0, "notebooks/short.ipynb": 4.0}


def test_a_notebook_never_made_takes_as_long_as_the_others_on_average() -> None:
    known = Pace()
    known.end(run("a"), 2.0)
    known.end(run("b"), 6.0)
    assert known.expected(run("c")) == 4.0


def test_time_that_a_report_has_taken_is_not_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    known = Pace({"notebooks/long.ipynb": 8.0})
    known.start(RUNS[0])
    clock[0] += 3
    assert known.left(RUNS[:1], 1) == 5.0
    clock[0] += 30
    assert known.left(RUNS[:1], 1) == 0.0


def test_a_report_that_failed_foretells_nothing() -> None:
    known = Pace()
    known.start(RUNS[0])
    known.end(RUNS[0], None)
    assert known.left(RUNS, 1) is None
