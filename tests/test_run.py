"""run.py: the first thing that a newcomer meets, so its words and its memory are tested."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).resolve().parents[1]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project of its own, on which installing is only noted down."""
    monkeypatch.setattr(run, "ROOT", tmp_path)
    for name, file in {
        "VENV": ".venv",
        "STAMP": ".venv/installed.json",
        "PYPROJECT": "pyproject.toml",
        "LOCK": "requirements.lock",
        "LAB_LOCK": "requirements-lab.lock",
        "OUT": "reports/out",
        "DEMO_DATA": "reports/out/data/small",
        "DEMO_STAMP": "reports/out/data/small.inputs",
    }.items():
        monkeypatch.setattr(run, name, tmp_path / file)
    for file in ("pyproject.toml", "requirements.lock", "requirements-lab.lock"):
        (tmp_path / file).write_text(file, encoding="utf-8")
    for file in ("synthetic/world.py", "crm_analysis/schema.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("", encoding="utf-8")
    return tmp_path


@pytest.fixture
def installs(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The locks that were installed, in order."""
    done: list[str] = []

    def make_venv(uv: str | None) -> None:
        run.in_venv("python").parent.mkdir(parents=True, exist_ok=True)
        run.in_venv("python").touch()

    monkeypatch.setattr(run, "make_venv", make_venv)
    monkeypatch.setattr(run, "install", lambda lock, uv: done.append(lock.name))
    return done


def test_alone_it_prints_its_jobs() -> None:
    done = command()
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in run.TARGETS)


def test_an_unknown_job_is_refused_with_the_nearest() -> None:
    done = command("reprot")
    assert done.returncode == 2
    assert "There is no job 'reprot' (did you mean 'report'?)." in done.stderr


def test_an_old_python_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "OLDEST", (99, 0))
    with pytest.raises(run.JobError, match=r"needs Python 99\.0 or newer; this is"):
        run.check_python()


def test_a_missing_venv_module_names_the_package(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(run.JobError, match=r"sudo apt install python3\.\d+-venv"):
        run.make_venv(None)


def test_a_failed_installation_says_what_to_do_and_is_repeated(
    installs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lock: Path, uv: str | None) -> None:
        run.must([sys.executable, "-c", "raise SystemExit(7)"], f"install {lock.name}")

    with monkeypatch.context() as patch:
        patch.setattr(run, "install", fail)
        with pytest.raises(run.JobError, match=r"status 7\.\n.*check the network"):
            run.environment()
    assert run.installed() == {}
    run.environment()
    assert installs == ["requirements.lock"]


def test_installs_once_and_again_when_a_pin_changes(installs: list[str], project: Path) -> None:
    run.environment()
    run.environment()
    assert installs == ["requirements.lock"]
    (project / "requirements.lock").write_text("numpy==1", encoding="utf-8")
    run.environment()
    assert installs == ["requirements.lock"] * 2


def test_the_lab_environment_serves_the_other_jobs(installs: list[str]) -> None:
    run.environment(run.LAB_LOCK)
    run.environment()
    assert installs == ["requirements-lab.lock"]


def test_a_damaged_stamp_means_installing_again(installs: list[str]) -> None:
    run.environment()
    run.STAMP.write_text("{", encoding="utf-8")
    run.environment()
    assert len(installs) == 2


def test_the_lab_is_opened_on_the_notebook_that_was_named(
    installs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[object]] = []
    monkeypatch.setattr(run, "start", lambda words: started.append(words[1:]))
    run.open_lab(["funnel", "--no-browser"])
    assert installs == [run.LAB_LOCK.name]
    assert started == [["-m", "crm_analysis.reporting", "lab", "funnel", "--no-browser"]]


def test_the_demonstration_network_is_made_when_its_inputs_change(
    installs: list[str],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[list[str]] = []

    def start(words: list[object]) -> int:
        made.append([str(word) for word in words[1:]])
        run.DEMO_DATA.mkdir(parents=True, exist_ok=True)
        (run.DEMO_DATA / "manifest.json").write_text(json.dumps({}), encoding="utf-8")
        return 0

    monkeypatch.setattr(run, "start", start)
    run.make_data([])
    run.make_data([])
    assert len(made) == 1
    assert made[0][:3] == ["-m", "synthetic", "generate"]
    assert "reports/out/data/small is up to date" in capsys.readouterr().out
    (project / "synthetic" / "world.py").write_text("CARS = 2", encoding="utf-8")
    run.make_data([])
    assert len(made) == 2


def test_the_status_of_a_tool_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.start([sys.executable, "-c", "raise SystemExit(3)"]) == 3


def test_pins_leave_comments_out() -> None:
    lock = "# a comment\nnumpy==1.0\n    # via x\nscipy==2 ; sys_platform == 'win32'\n"
    assert run.pins(lock) == ["numpy==1.0", "scipy==2 ; sys_platform == 'win32'"]
