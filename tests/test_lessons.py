"""Lessons: each runs in both languages, and a student's copy holds no solution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_notebooks import write_project

from crm_analysis.errors import ReportError
from crm_analysis.reporting import make_batch, open_batch
from crm_analysis.reporting.desk import new_notebook

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "notebooks" / "teaching").glob("*.ipynb"))


def test_there_are_lessons() -> None:
    assert [path.stem for path in LESSONS] == ["retention_pays"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: str(path.stem))
def test_a_students_copy_holds_the_exercises_and_no_solution(path: Path, tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    made = new_notebook("for_class", like=str(path), title=None, root=root, for_students=True)
    lesson, copy = (json.loads(file.read_text(encoding="utf-8"))["cells"] for file in (path, made))
    solutions = {"".join(cell["source"]) for cell in lesson if "solution" in tags_of(cell)}
    assert len(solutions) >= 3
    assert len(copy) == len(lesson) - len(solutions)
    assert sum("exercise" in tags_of(cell) for cell in copy) >= 3
    assert not solutions & {"".join(cell["source"]) for cell in copy}
    assert copy[0]["source"] == lesson[0]["source"]  # under its own title


def test_a_copy_for_students_of_what_is_no_lesson_is_refused(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    source = str(ROOT / "notebooks" / "funnel.ipynb")
    with pytest.raises(ReportError, match="has the tag 'solution': there is nothing to leave out"):
        new_notebook("for_class", like=source, title=None, root=root, for_students=True)
    assert list((root / "notebooks").iterdir()) == []


def tags_of(cell: dict[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


@pytest.mark.slow
@pytest.mark.notebook
def test_lessons_run_in_both_languages(tmp_path: Path) -> None:
    plan = tmp_path / "lessons.toml"
    reports = "".join(
        f'[[report]]\nnotebook = "{path.stem}"\n[report.parameters]\n'
        "n_customers = 1500\nreplicates = 2\n"
        for path in LESSONS
    )
    plan.write_text(
        f'title = "Lessons"\nout = "{(tmp_path / "out").as_posix()}"\n'
        f'languages = ["en", "ru"]\nformats = ["html"]\n{reports}',
        encoding="utf-8",
    )
    batch = make_batch(open_batch(plan, root=ROOT))
    assert [o.result.get("failure") for o in batch.outcomes if o.status == "failed"] == []
    texts = [(batch.out / o.run.path).read_text(encoding="utf-8") for o in batch.outcomes]
    assert len(texts) == 2 * len(LESSONS)
    for word in ("Solution", "Решение"):
        assert sum(f"<summary>{word}</summary>" in text for text in texts) == len(LESSONS)
