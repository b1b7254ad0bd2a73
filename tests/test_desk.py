"""At the desk: a notebook to start from, JupyterLab in its folder, a preview below the cell."""

from __future__ import annotations

import json
import subprocess
import sys
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_house_notebooks import NOTEBOOK_RULES
from toy_notebooks import PARAMETERS, write_notebook, write_project
from typer.testing import CliRunner

from crm_analysis.errors import ReportError
from crm_analysis.reporting import preview
from crm_analysis.reporting.cli import commands
from crm_analysis.reporting.desk import new_notebook, open_lab
from crm_analysis.reporting.runs import INSIDE
from crm_analysis.reporting.single import Preview

ROOT = Path(__file__).parents[1]
CELLS = [
    ("markdown", "# Old question?\n\nIntro."),
    ("code", PARAMETERS, "parameters"),
    ("code", "print(dealership, horizon_months)"),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = write_project(tmp_path / "project")
    write_notebook(root / "notebooks" / "retention.ipynb", CELLS)
    return root


# --- new ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", ["retention", "director", "funnel"])
def test_a_copy_of_a_house_notebook_keeps_the_rules_of_the_house(tmp_path: Path, like: str) -> None:
    root = write_project(tmp_path / "project")
    source = ROOT / "notebooks" / f"{like}.ipynb"
    path = new_notebook("price_lists", like=str(source), title="What  do\ncars cost?", root=root)
    made = json.loads(path.read_text(encoding="utf-8"))
    assert [fault for rule in NOTEBOOK_RULES for fault in rule(made)] == []
    original = json.loads(source.read_text(encoding="utf-8"))
    ids = {cell["id"] for cell in made["cells"]}
    assert len(ids) == len(original["cells"])
    assert not ids & {cell["id"] for cell in original["cells"]}
    assert made["cells"][0]["source"][0] == "# What do cars cost?\n"
    assert made["cells"][1:][0]["source"] == original["cells"][1]["source"]


def test_outputs_of_the_original_do_not_travel(project: Path) -> None:
    source = project / "notebooks" / "retention.ipynb"
    dirty = json.loads(source.read_text(encoding="utf-8"))
    dirty["cells"][2] |= {"outputs": [{"output_type": "stream"}], "execution_count": 7}
    dirty["cells"][2]["metadata"] = {"execution": {"shell.execute_reply": "2026"}}
    source.write_text(json.dumps(dirty), encoding="utf-8")
    cell = json.loads(
        new_notebook("copy", like="retention", title=None, root=project).read_text("utf-8")
    )["cells"][2]
    assert (cell["outputs"], cell["execution_count"], cell["metadata"]) == ([], None, {})


def test_nothing_is_overwritten_and_no_name_leads_elsewhere(project: Path) -> None:
    before = (project / "notebooks" / "retention.ipynb").read_bytes()
    with pytest.raises(ReportError, match="is there already"):
        new_notebook("retention", like="retention", title=None, root=project)
    for name in ("../evil", "Price", "a b", "", "1st", "a.ipynb"):
        with pytest.raises(ReportError, match="A name has small letters"):
            new_notebook(name, like="retention", title=None, root=project)
    with pytest.raises(ReportError, match="did you mean 'retention'"):
        new_notebook("copy", like="retenton", title=None, root=project)
    assert [path.name for path in (project / "notebooks").iterdir()] == ["retention.ipynb"]
    assert (project / "notebooks" / "retention.ipynb").read_bytes() == before


def test_the_command_says_what_comes_next(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    said = CliRunner().invoke(commands, ["new", "price_lists", "--title", "What do cars cost?"])
    assert said.exit_code == 0
    assert "crm-report lab price_lists" in said.output
    assert (project / "notebooks" / "price_lists.ipynb").is_file()


# --- lab ------------------------------------------------------------------------------------------


def test_lab_opens_the_notebook_in_the_projects_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def remember(command: list[str], **options: Any) -> SimpleNamespace:
        started.append((command, options["cwd"]))
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr("crm_analysis.reporting.desk.find_spec", lambda _name: object())
    monkeypatch.setattr(subprocess, "run", remember)
    monkeypatch.chdir(project / "notebooks")
    assert CliRunner().invoke(commands, ["lab", "retention", "--no-browser"]).exit_code == 3
    ((command, folder),) = started
    assert folder == project
    assert command == [
        sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={project}", "--no-browser",
        str(Path("notebooks") / "retention.ipynb"),
    ]  # fmt: skip


def test_lab_without_jupyterlab_says_what_to_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crm_analysis.reporting.desk.find_spec", lambda _name: None)
    with pytest.raises(ReportError, match=r"python run\.py lab"):
        open_lab("retention", root=project, options=[])
    with pytest.raises(ReportError, match="There is no notebook"):
        open_lab("no_such", root=project, options=[])


# --- preview --------------------------------------------------------------------------------------


@pytest.mark.notebook
def test_a_preview_is_the_page_in_a_frame_where_nothing_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "notebooks")
    shown = preview("retention", dealership="North", horizon_months=12, lang="ru", height=300)
    assert isinstance(shown, Preview)
    assert '<html lang="ru">' in shown.html
    assert "North 12" in shown.html
    frame = shown._repr_html_()
    assert frame.startswith('<iframe sandbox srcdoc="')
    assert "height:300px" in frame
    inside = frame.removeprefix('<iframe sandbox srcdoc="').partition('"')[0]
    assert unescape(inside) == shown.html


@pytest.mark.notebook
def test_a_failing_report_is_previewed_as_its_page_says_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notebook(project / "notebooks" / "bad.ipynb", [("code", "1 / 0")])
    monkeypatch.chdir(project)
    shown = preview("bad")
    assert shown is not None
    assert "This report could not be made" in shown.html


def test_a_preview_is_as_strict_as_a_plan(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(ReportError, match="did you mean 'dealership'"):
        preview("retention", dealershp="North")
    with pytest.raises(ReportError, match="language 'de'"):
        preview("retention", lang="de")


@pytest.mark.notebook
def test_a_notebook_may_preview_itself_without_end(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [
        *CELLS,
        ("code", "from crm_analysis.reporting import preview\npreview('mirror')"),
    ]
    write_notebook(project / "notebooks" / "mirror.ipynb", cells)
    monkeypatch.chdir(project)
    shown = preview("mirror")
    assert shown is not None
    assert "iframe" not in shown.html
    monkeypatch.setenv(INSIDE, "1")
    assert preview("mirror") is None
