from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from toy_notebooks import PARAMETERS, write_notebook, write_project

from crm_analysis.errors import ReportError
from crm_analysis.reporting import Run, make_runs, open_batch, read_plan
from crm_analysis.reporting.fingerprints import Fingerprints
from crm_analysis.reporting.making import missed_targets
from crm_analysis.reporting.plan import slug


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = write_project(tmp_path / "project")
    cells = [("markdown", "# Title"), ("code", PARAMETERS, "parameters")]
    for name in ("retention", "funnel"):
        write_notebook(root / "notebooks" / f"{name}.ipynb", cells)
    aims = PARAMETERS + 'data: str = "x"\ntargets: dict[str, float] = {}\nleast_n: int = 10'
    write_notebook(root / "notebooks" / "aims.ipynb", [("code", aims, "parameters")])
    source = 'data: str = "x"  # folder\ntop: int = 3'
    write_notebook(root / "notebooks" / "sales.ipynb", [("code", source, "parameters")])
    return root


LAST_DAY = date(2025, 12, 20)


def runs_of(root: Path, toml: str, last_day: date | None = LAST_DAY) -> tuple[Run, ...]:
    path = root / "reports" / "p.toml"
    path.write_text(toml, encoding="utf-8")
    return make_runs(read_plan(path, root=root), names, lambda _data: last_day)


def names(_data: str) -> Mapping[str, str]:
    return {"1": "North Star", "2": "Южный"}


def test_every_combination_is_one_run(project: Path) -> None:
    runs = runs_of(
        project,
        """
        notebooks = ["retention", "funnel"]
        dealerships = ["network", "North Star"]
        languages = ["en", "ru"]
        [parameters]
        horizon_months = 24
        """,
    )
    assert [run.path for run in runs] == [
        f"{place}/{name}.{lang}.html"
        for name in ("retention", "funnel")
        for place in ("network", "north-star")
        for lang in ("en", "ru")
    ]
    assert runs[0].parameters == {"horizon_months": 24, "dealership": None, "lang": "en"}
    assert runs[3].parameters["dealership"] == "North Star"
    assert runs[0].notebook == "notebooks/retention.ipynb"
    assert Run.from_json(runs[0].to_json()) == runs[0]


def test_a_report_of_its_own_takes_its_own_parameters(project: Path) -> None:
    [run] = runs_of(
        project,
        """
        [[report]]
        notebook = "notebooks/sales.ipynb"
        name = "pipeline"
        data = "real.csv"
        timeout_seconds = 30
        show_code = true
        parameters = { top = 5 }
        """,
    )
    assert run.parameters == {"data": "real.csv", "top": 5}
    assert (run.path, run.dealership, run.timeout_seconds) == ("pipeline.en.html", None, 30.0)
    assert run.show_code


def test_all_means_the_dealerships_of_the_data(project: Path) -> None:
    source = PARAMETERS + 'data: str = "somewhere"'
    write_notebook(project / "notebooks" / "whole.ipynb", [("code", source, "parameters")])
    runs = runs_of(project, 'notebooks = ["whole"]\ndealerships = ["network", "all"]')
    assert [run.dealership for run in runs] == ["network", "North Star", "Южный"]
    assert runs[2].path == "южный/whole.en.html"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("notebooks = ['retenton']", "did you mean 'retention'"),
        ("notebok = ['retention']", "did you mean 'notebooks'"),
        ("title = 'Nothing'", "asks for no report"),
        ("[[report]]\nname = 'x'", "names no notebook"),
        ("[[report]]\nnotebook='sales'\ndealership='x'", "did you mean 'dealerships'"),
        ("[[report]]\nnotebook='sales'\nparameters={tops=1}", "did you mean 'top'"),
        ("[[report]]\nnotebook='sales'\nparameters={top='1'}", "takes a whole number"),
        ("[[report]]\nnotebook='sales'\nlanguages='ru'", "no parameter 'lang'"),
        ("[[report]]\nnotebook='sales'\ndealerships='all'", "no parameter 'dealership'"),
        ("notebooks = ['retention']\nlanguages = 'de'", "It may have: en, ru"),
        ("notebooks = ['retention']\nformats = ['docx']", "It may have: html"),
        ("notebooks = 'retention'", "must be list"),
        ("notebooks = ['retention']\ntimeout_seconds = true", "must be int or float"),
        ("notebooks = ['retention']\n[parameters]\nhorizon = 3", "did you mean 'horizon_months'"),
        ("notebooks = ['retention']\n[parameters]\nlang = 'en'", "Write it as 'languages'"),
        ("notebooks = ['retention', 'retention']", "asks twice for the page"),
        ("notebooks = [", "is not TOML"),
        ("notebooks = ['aims']\nperiods = '2025-13'", "Write it as 2025-10"),
        ("notebooks = ['aims']\nperiods = 'last 3 mnths'", "did you mean 'last 3 months'"),
        ("notebooks = ['aims']\nperiods = '2026-01'", "its data end on 2025-12-20"),
        ("notebooks = ['aims']\nperiods = [2025]", "must be texts in quotes"),
        ("notebooks = ['sales']\nperiods = '2025'", "no parameter 'as_of'"),
        ("notebooks = ['aims']\nperiods = '2025'\n[parameters]\nas_of = '2025-01-01'", "Take one"),
        ("notebooks = ['aims']\nreader = 'manger'", "did you mean 'manager'"),
        ("notebooks = ['aims']\nformats = []", "formats is empty"),
        ("notebooks = ['aims']\n[targets]\nnps = 'high'", "names with values"),
        ("notebooks = ['retention']\n[targets]\nnps = 40", "none of its notebooks"),
        ("notebooks = ['aims']\n[targets.aim]\nnps = 40", "did you mean 'aims'"),
        ("notebooks = ['aims', 'funnel']\n[targets.funnel]\nnps = 40", "no parameter 'targets'"),
        ("[[report]]\nnotebook = 'retention'\ntargets = {nps = 40}", "no parameter 'targets'"),
        ("notebooks = ['aims']\n[thresholds]\nleast = 5", "did you mean 'least_n'"),
        ("notebooks = ['aims']\n[parameters]\ntargets = {}", "Write it as 'targets'"),
        ("notebooks = ['aims']\ndealerships = 'Nort Star'", "did you mean 'North Star'"),
        ("notebooks = ['aims']\ndealerships = 'Netwrk'", "did you mean 'network'"),
        ("notebooks = ['aims']\ntimeout_seconds = 0", "any number above 0"),
        ("notebooks = ['aims']\ntimeout_seconds = nan", "any number above 0"),
        ("notebooks = ['aims']\ntimeout_seconds = inf", "any number above 0"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(project: Path, toml: str, said: str) -> None:
    with pytest.raises(ReportError, match=said):
        runs_of(project, toml)


def test_a_dealership_is_asked_for_by_its_id_too(project: Path) -> None:
    runs = runs_of(project, 'notebooks = ["aims"]\ndealerships = ["2", "Южный"]')
    assert [run.dealership for run in runs] == ["2", "Южный"]


def test_names_that_no_folder_tells_apart_get_a_mark(project: Path) -> None:
    both = {"1": "Auto & Co", "2": "Auto-Co!", "3": "Other"}
    path = project / "reports" / "p.toml"
    path.write_text('notebooks = ["aims"]\ndealerships = "all"', encoding="utf-8")
    runs = make_runs(read_plan(path, root=project), lambda _data: both)
    folders = [run.path.split("/")[0] for run in runs]
    assert [run.dealership for run in runs] == list(both.values())
    assert len(set(folders)) == 3
    assert all(name.startswith("auto-co-") for name in folders[:2])
    assert folders[2] == "other"


@pytest.mark.parametrize(("status", "said"), [("unchanged", 1), ("failed", 0), ("waiting", 0)])
def test_a_target_that_no_report_shows_is_said(project: Path, status: str, said: int) -> None:
    path = project / "reports" / "p.toml"
    text = 'notebooks = ["aims"]\n[parameters]\ndata = "reports"\n[targets]\nnpss = 40\nshare = 0.5'
    path.write_text(text, encoding="utf-8")
    batch = open_batch(path)
    figures = {"key_figures": [{"key": "nps"}, {"key": "share"}, {"key": None}]}
    batch.outcomes = [replace(one, status=status, result=figures) for one in batch.outcomes]
    notes = missed_targets(batch)
    assert len(notes) == said
    assert all("'npss' (did you mean 'nps'?)" in note for note in notes)


def test_a_plan_from_a_windows_editor_is_read(project: Path) -> None:
    text = '\ufeffnotebooks = ["aims"]\r\ndealerships = "network"\r\n'
    [run] = runs_of(project, text)
    assert run.path == "network/aims.en.html"


def test_missing_data_is_refused_before_anything_runs(project: Path) -> None:
    path = project / "reports" / "p.toml"
    path.write_text('[[report]]\nnotebook="sales"\ndata="gone"', encoding="utf-8")
    with pytest.raises(ReportError, match="no such file or folder"):
        open_batch(path)


def test_names_become_folders() -> None:
    assert slug("../../etc") == "etc"
    assert slug("<b>Motors</b> & Co") == "b-motors-b-co"
    assert slug("…") == "dealership"


def test_a_plan_that_speaks_of_no_dealership_makes_pages_that_name_none(project: Path) -> None:
    [run] = runs_of(project, 'notebooks = ["retention"]')
    assert (run.path, run.dealership) == ("retention.en.html", None)
    assert "dealership" not in run.parameters


@pytest.mark.parametrize("with_manifest", [False, True])
def test_a_stamp_beside_the_data_does_not_change_them(
    tmp_path: Path, *, with_manifest: bool
) -> None:
    (tmp_path / "deals.parquet").write_bytes(b"deals")
    if with_manifest:
        (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    before = Fingerprints(tmp_path).of_data(tmp_path)
    (tmp_path / ".checked.json").write_text("{}", encoding="utf-8")
    assert Fingerprints(tmp_path).of_data(tmp_path) == before
    (tmp_path / "deals.parquet").write_bytes(b"other deals")
    assert Fingerprints(tmp_path).of_data(tmp_path) != before


def test_a_period_sets_the_day_and_stands_in_folder_and_name(project: Path) -> None:
    runs = runs_of(project, "notebooks = ['aims']\nperiods = ['2025-Q4', '2025-10', '2024']")
    assert [(run.period, run.parameters["as_of"]) for run in runs] == [
        ("2024", "2024-12-31"),
        ("2025-10", "2025-10-31"),
        ("2025-Q4", "2025-12-20"),  # the data end before the quarter does
    ]
    assert runs[1].path == "2025-10/aims.2025-10.en.html"


def test_the_last_months_are_those_that_the_data_cover_whole(project: Path) -> None:
    plan = "notebooks = ['aims']\nperiods = 'last 2 months'"
    assert [run.period for run in runs_of(project, plan)] == ["2025-10", "2025-11"]
    whole = runs_of(project, plan, date(2025, 12, 31))
    assert [run.period for run in whole] == ["2025-11", "2025-12"]
    with pytest.raises(ReportError, match="is not known before they are read"):
        runs_of(project, plan, None)


def test_targets_and_thresholds_reach_the_notebooks_that_take_them(project: Path) -> None:
    aims, retention = runs_of(
        project,
        """
        notebooks = ["aims", "retention"]
        [targets]
        nps = 40
        [thresholds]
        least_n = 5
        """,
    )
    assert aims.parameters["targets"] == {"nps": 40.0}
    assert aims.parameters["least_n"] == 5
    assert not {"targets", "least_n"} & set(retention.parameters)


def test_a_report_adds_targets_of_its_own(project: Path) -> None:
    [run] = runs_of(
        project,
        """
        targets = { nps = 40, csat = 4 }
        [[report]]
        notebook = "aims"
        targets = { nps = 50 }
        reader = "researcher"
        """,
    )
    assert run.parameters["targets"] == {"nps": 50.0, "csat": 4.0}
    assert run.reader == "researcher"


def test_targets_under_a_reports_name_are_its_alone(project: Path) -> None:
    first, second = runs_of(
        project,
        """
        [targets]
        nps = 40
        [targets.other]
        csat = 4
        [[report]]
        notebook = "aims"
        [[report]]
        notebook = "aims"
        name = "other"
        """,
    )
    assert first.parameters["targets"] == {"nps": 40.0}
    assert second.parameters["targets"] == {"nps": 40.0, "csat": 4.0}
