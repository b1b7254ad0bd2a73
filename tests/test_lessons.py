"""Lessons: each runs in both languages, and a student's copy holds no solution."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbconvert.preprocessors import TagRemovePreprocessor

from crm_analysis.reporting import make_batch, open_batch

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "notebooks" / "teaching").glob("*.ipynb"))


def test_there_are_lessons() -> None:
    assert [path.stem for path in LESSONS] == ["retention_pays"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: str(path.stem))
def test_a_students_copy_holds_the_exercises_and_no_solution(path: Path) -> None:
    """As ``jupyter nbconvert --TagRemovePreprocessor.remove_cell_tags solution`` makes it."""
    whole = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    strip = TagRemovePreprocessor(remove_cell_tags={"solution"}, enabled=True)  # type: ignore[no-untyped-call]
    copy, _ = strip.preprocess(whole.copy(), {})  # type: ignore[no-untyped-call]
    tags = [tag for cell in copy.cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("exercise") >= 3
    assert "solution" not in tags


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
