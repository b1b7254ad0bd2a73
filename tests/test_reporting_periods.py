"""Batches over time: later reports look back on earlier ones, and nothing is made in vain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from toy_notebooks import Cell, write_notebook, write_project

from crm_analysis.errors import ReportError
from crm_analysis.reporting import Batch, make_batch, open_batch

pytestmark = pytest.mark.notebook

COUNTED: list[Cell] = [
    ("markdown", "# Customers"),
    (
        "code",
        """\
from typing import Optional
data: str = "in/data"  # folder
dealership: Optional[str] = None  # whose
as_of: str = "2025-12-31"  # day
lang: str = "en"  # language
scale: float = 1.0  # how much one counts
""",
        "parameters",
    ),
    ("code", "from pathlib import Path\nfrom crm_analysis.blocks import Block, KeyFigure"),
    (
        "code",
        """\
values = dict(line.split(",") for line in Path(data, "t.csv").read_text().split())
n = float(values[as_of[:7]]) * scale
figure = KeyFigure("Customers", f"{n:g}", key="customers", estimate=n, conf_low=n - 1,
    conf_high=n + 1, count=int(n), unit="number", better="higher")
Block("key_figures", key_figures=(figure,))
""",
        "finding",
    ),
]
PLAN = """
data = "in/data"
out = "out"
dealerships = ["network"]
languages = ["en", "ru"]
periods = ["2025-10", "2025-11", "2025-12"]
notebooks = ["counted"]
"""


def write_data(root: Path, october: int, november: int, december: int) -> None:
    (root / "in" / "data").mkdir(exist_ok=True, parents=True)
    lines = f"2025-10,{october}\n2025-11,{november}\n2025-12,{december}\n"
    (root / "in" / "data" / "t.csv").write_text(lines, encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = write_project(tmp_path / "project")
    write_notebook(root / "notebooks" / "counted.ipynb", COUNTED)
    write_data(root, 40, 50, 70)
    write_plan(root, PLAN)
    return root


def write_plan(root: Path, text: str) -> None:
    (root / "reports" / "p.toml").write_text(text, encoding="utf-8")


def opened(root: Path, **options: Any) -> Batch:
    return open_batch(root / "reports" / "p.toml", **options)


def statuses(batch: Batch) -> dict[str, str]:
    return {o.run.path.split("/")[-1]: o.status for o in batch.outcomes}


def changes(batch: Batch) -> dict[str, list[tuple[str, str, str]]]:
    return {
        f"{o.run.period} {o.run.lang}": [
            (c["value"], c["label"], c["direction"]) for c in o.result["key_figures"][0]["changes"]
        ]
        for o in batch.outcomes
    }


def history(batch: Batch) -> list[tuple[Any, ...]]:
    table = pl.read_parquet(batch.out / "history.parquet")
    return table.select("period", "estimate", "revision").rows()


def test_months_of_one_batch_look_back_on_each_other(project: Path) -> None:
    batch = make_batch(opened(project), workers=1)
    assert batch.count("made") == 6
    assert changes(batch) == {
        "2025-10 en": [],
        "2025-10 ru": [],
        "2025-11 en": [("+10.00", "against 31 October 2025, as reported", "up")],
        "2025-11 ru": [("+10,00", "к отчёту на 31 октября 2025", "up")],
        "2025-12 en": [("+20.00", "against 30 November 2025, as reported", "up")],
        "2025-12 ru": [("+20,00", "к отчёту на 30 ноября 2025", "up")],
    }
    page = (batch.out / "2025-12" / "network" / "counted.2025-12.en.html").read_text("utf-8")
    assert "against 30 November 2025, as reported" in page
    # Both languages report one and the same figure: it is kept once.
    assert history(batch) == [("2025-10", 40.0, 1), ("2025-11", 50.0, 1), ("2025-12", 70.0, 1)]
    assert set(statuses(opened(project)).values()) == {"unchanged"}


def test_a_batch_with_nothing_to_do_reads_no_history(project: Path) -> None:
    make_batch(opened(project), workers=1)
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from crm_analysis.reporting import make_batch, open_batch\n"
        "batch = make_batch(open_batch(Path('reports/p.toml')))\n"
        "print(batch.count('unchanged'), sorted({'polars', 'numpy', 'babel'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "6 []"


def test_corrected_data_restate_and_what_was_reported_stays(project: Path) -> None:
    make_batch(opened(project), workers=1)
    write_data(project, 40, 55, 70)
    write_plan(project, PLAN.replace('["2025-10", "2025-11", "2025-12"]', '"2025-11"'))
    batch = make_batch(opened(project), workers=1)
    assert history(batch)[-1] == ("2025-11", 55.0, 2)
    assert history(batch)[1] == ("2025-11", 50.0, 1)


def test_a_report_is_made_again_when_what_it_looks_back_on_was_restated(project: Path) -> None:
    first = make_batch(opened(project), workers=1)
    page = first.out / "2025-10" / "network" / "counted.2025-10.en.html"
    page.unlink()
    waiting = [name for name, status in statuses(opened(project)).items() if status == "waiting"]
    assert len(waiting) == 5  # October in English, and for now all that look back on it
    again = make_batch(opened(project), workers=1)
    # October came out the same, so that the later months, once it was there, were left alone.
    assert (again.count("made"), again.count("unchanged")) == (1, 5)


def test_other_settings_are_another_figure(project: Path) -> None:
    make_batch(opened(project), workers=1)
    write_plan(project, PLAN + "[parameters]\nscale = 2.0\n")
    batch = make_batch(opened(project), workers=1)
    assert changes(batch)["2025-10 en"] == []
    assert changes(batch)["2025-11 en"][0][0] == "+20.00"  # 100 against 80, not against 40


def test_a_history_that_was_lost_is_built_again_from_what_stands(project: Path) -> None:
    first = make_batch(opened(project), workers=1)
    rows = history(first)
    (first.out / "history.parquet").unlink()
    again = make_batch(opened(project), workers=1)
    assert again.count("unchanged") == 6
    assert history(again) == rows


def test_a_damaged_history_is_told_and_kept_aside(project: Path) -> None:
    first = make_batch(opened(project), workers=1)
    rows = history(first)
    (first.out / "history.parquet").write_bytes(b"PAR1 not really PAR1")
    again = make_batch(opened(project), workers=1)
    assert "could not be read" in again.notes[0]
    assert "could not be read" in (again.out / "index.html").read_text("utf-8")
    assert history(again) == rows
    assert len(list(again.out.glob("history.damaged-*"))) == 1


def test_only_what_is_chosen_is_made_and_the_rest_stays(project: Path) -> None:
    batch = make_batch(opened(project, only=["counted/network/2025-11"]), workers=1)
    made = [name for name, status in statuses(batch).items() if status == "made"]
    assert made == ["counted.2025-11.en.html", "counted.2025-11.ru.html"]
    assert batch.count("waiting") == 4
    assert batch.exit_status == 0
    rest = make_batch(opened(project), workers=1)
    assert rest.count("failed") == 0
    # November now has an October to look back on.
    assert changes(rest)["2025-11 en"] == [("+10.00", "against 31 October 2025, as reported", "up")]


@pytest.mark.parametrize("pattern", ["counted/netwrk", "count", "counted/*/2024"])
def test_a_choice_that_means_nothing_is_refused(project: Path, pattern: str) -> None:
    with pytest.raises(ReportError, match="means no report of the plan"):
        opened(project, only=[pattern])


def test_a_choice_that_is_nearly_one_is_named(project: Path) -> None:
    with pytest.raises(ReportError, match=r"did you mean .counted/network/2025-1"):
        opened(project, only=["counted/network/2025-1"])


def test_the_index_draws_a_line_through_the_months(project: Path) -> None:
    batch = make_batch(opened(project), workers=1)
    english = (batch.out / "index.html").read_text("utf-8")
    russian = (batch.out / "index.ru.html").read_text("utf-8")
    assert "Customers: 40.00 on 31 October 2025, 70.00 on 31 December 2025" in english
    assert "values drawn: 3" in english
    assert 'href="index.ru.html"' in english
    assert 'href="2025-12/network/counted.2025-12.en.html"' in english
    assert 'href="2025-12/network/counted.2025-12.ru.html"' in russian
    assert "Прежние периоды" in russian


def test_the_manifest_says_what_a_scheduler_needs(project: Path) -> None:
    batch = make_batch(opened(project), workers=1)
    manifest = json.loads((batch.out / "batch.json").read_text("utf-8"))
    assert manifest["batch"] == opened(project).identity
    assert (manifest["made"], manifest["exit_status"], manifest["running"]) == (6, 0, False)
    run = manifest["runs"][0]
    assert run["paths"] == {"html": "2025-10/network/counted.2025-10.en.html"}
    assert (run["period"], run["reader"], run["status"]) == ("2025-10", "manager", "made")
