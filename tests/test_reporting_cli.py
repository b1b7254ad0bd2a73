from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_notebooks import PARAMETERS, write_notebook, write_project

from crm_analysis.reporting import cli
from crm_analysis.reporting.cli import REFUSED, app


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = write_project(tmp_path / "project")
    cells = [("markdown", "# T"), ("code", PARAMETERS, "parameters")]
    write_notebook(root / "notebooks" / "retention.ipynb", cells)
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "200")
    return root


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["crm-report", *arguments])
    with pytest.raises(SystemExit) as ended:
        app()
    return int(ended.value.code or 0)


def test_list_tells_the_notebooks_and_what_they_take(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    for text in ("retention", "horizon_months", "a whole number", "36", "how far the curve goes"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "retension"), "did you mean 'retention'"),
        (("run", "retention", "-p", "horizon=3"), "did you mean 'horizon_months'"),
        (("run", "retention", "-p", "as_of=June"), "takes a date"),
        (("run", "retention", "--lang", "de"), "Pages are written in: en, ru"),
        (("batch", "reports/absent.toml"), "cannot be opened"),
        (("batch", "reports/demmo.toml"), "did you mean 'demo.toml'"),
        (("batch", "reports/demo.toml", "--forse"), "No such option: --forse"),
        (("batch", "reports/demo.toml", "--workers", "two"), "Invalid value for '--workers'"),
        (("bach", "reports/demo.toml"), "No such command 'bach'"),
        (("--quiet",), "No such option: --quiet"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    (project / "reports" / "demo.toml").write_text("", encoding="utf-8")
    assert run(monkeypatch, *arguments) == REFUSED
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_interruption_before_anything_runs_is_one_too(
    project: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    def interrupted(*_plan: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "open_batch", interrupted)
    assert run(monkeypatch, "batch", "reports/demo.toml", *more) == 130


def test_a_dry_run_lists_and_makes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = 'notebooks = ["retention"]\ndealerships = ["network", "North"]\nout = "out"'
    (project / "reports" / "p.toml").write_text(plan, encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "40")  # what a window would bound does not bound a file
    assert run(monkeypatch, "batch", "reports/p.toml", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "north/retention.en.html" in out
    assert "2 to make, 0 unchanged" in out
    assert not (project / "out").exists()


def test_the_list_and_the_summary_come_as_json_too(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = 'notebooks = ["retention"]\ndealerships = ["network", "North"]\nout = "out"'
    (project / "reports" / "p.toml").write_text(plan, encoding="utf-8")
    only = ("--only", "retention/nor*")
    assert run(monkeypatch, "batch", "reports/p.toml", "--dry-run", "--json", *only) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["to_make"], said["unchanged"]) == (1, 0)
    states = {one["paths"]["html"]: one["state"] for one in said["runs"]}
    assert states == {
        "network/retention.en.html": "left out",
        "north/retention.en.html": "to make",
    }


@pytest.mark.notebook
def test_a_batch_sums_up_in_json_what_became_of_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_notebook(project / "notebooks" / "bad.ipynb", [("code", "nowhere")])
    plan = 'notebooks = ["retention", "bad"]\nout = "out"'
    (project / "reports" / "p.toml").write_text(plan, encoding="utf-8")
    assert run(monkeypatch, "batch", "reports/p.toml", "--json", "--workers", "1") == 1
    out, err = capsys.readouterr()
    assert "1 of 2 reports" in err
    said = json.loads(out)
    counts = {name: said[name] for name in ("made", "unchanged", "failed", "waiting")}
    assert counts == {"made": 1, "unchanged": 0, "failed": 1, "waiting": 0}
    assert said["exit_status"] == 1
    [failure] = said["failures"]
    assert (failure["path"], failure["cell"]) == ("bad.en.html", 1)
    assert Path(said["index"]).is_file()


def test_a_plan_alone_needs_no_parser_and_ends_as_with_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = project / "reports" / "none.toml"
    plan.write_text('out = "made"\nnotebooks = ["retention"]\nlanguages = ["fr"]\n')
    parsed = run(monkeypatch, "batch", "reports/none.toml", "--json")
    said = capsys.readouterr().err
    with monkeypatch.context() as without:
        without.setattr(cli, "commands", lambda: pytest.fail("the words were parsed"))
        assert run(monkeypatch, "batch", "reports/none.toml") == parsed == REFUSED
    assert capsys.readouterr().err == said
    assert "fr" in said


@pytest.mark.parametrize("words", [[], ["batch"], ["batch", "--help"], ["list", "x"]])
def test_other_words_go_to_the_parser(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(cli, "commands", lambda: asked.append(1))
    monkeypatch.setattr("sys.argv", ["crm-report", *words])
    app()
    assert asked == [1]
