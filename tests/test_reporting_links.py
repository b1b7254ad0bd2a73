"""Where a page leads, and how it says it was made."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from crm_analysis.reporting.links import by_question, index_names, links_of
from crm_analysis.reporting.provenance import Facts, commit_of, provenance
from crm_analysis.reporting.runs import Run


def run_of(path: str, lang: str = "en", **more: object) -> Run:
    return Run("stay", "notebooks/stay.ipynb", path, lang=lang, **more)  # type: ignore[arg-type]


def test_a_page_leads_to_its_index_its_pdf_and_its_other_language() -> None:
    both = ("html", "pdf")
    runs = [
        run_of("2025/авто мир/stay.en.html", dealership="A", formats=both),
        run_of("2025/авто мир/stay.ru.html", "ru", dealership="A", formats=both),
        run_of("2025/b/stay.ru.html", "ru", dealership="B"),
        run_of("stay.ru.html", "ru", formats=("pdf",)),
    ]
    found = [links_of(run, by_question(runs), index_names(runs)) for run in runs]
    assert found[0].index == "../../index.html"
    assert found[1].index == "../../index.ru.html"
    assert (found[0].pdf, found[0].languages) == ("stay.en.pdf", {"ru": "stay.ru.html"})
    assert (found[2].pdf, found[2].languages) == (None, {})
    assert (found[3].index, found[3].languages) == ("index.ru.html", {})
    assert links_of(runs[2], {}, {}).to_json() == {"index": None, "pdf": None, "languages": {}}


def test_an_address_is_quoted_whatever_the_dealership_is_called() -> None:
    runs = [
        run_of(f'a"b/x y#?.{lang}.html', lang, formats=("html", "pdf")) for lang in ("en", "ru")
    ]
    links = links_of(runs[0], by_question(runs), {})
    assert links.pdf == "x%20y%23%3F.en.pdf"
    assert links.languages == {"ru": "x%20y%23%3F.ru.html"}


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    command = ["git", *names, *words]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="compares with git itself")
def test_the_commit_is_the_one_that_git_says(tmp_path: Path) -> None:
    main = tmp_path / "main"
    main.mkdir()
    assert commit_of(main) is None
    git(main, "init", "-q")
    assert commit_of(main) is None  # nothing committed yet
    git(main, "commit", "-q", "--allow-empty", "-m", "one")
    first = git(main, "rev-parse", "HEAD")
    assert commit_of(main) == first
    git(main, "pack-refs", "--all")
    assert commit_of(main) == first
    git(main, "worktree", "add", "-q", str(tmp_path / "second"))
    assert commit_of(tmp_path / "second") == first
    git(main, "commit", "-q", "--allow-empty", "-m", "two")
    assert commit_of(main) == git(main, "rev-parse", "HEAD") != first
    git(main, "checkout", "-q", first)
    assert commit_of(main) == first


def test_what_is_no_commit_is_not_stated(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert commit_of(tmp_path) is None
    (tmp_path / ".git").unlink()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("<script>\n")
    assert commit_of(tmp_path) is None


def test_a_page_says_how_it_was_made_and_no_time() -> None:
    facts = Facts(
        "ab" * 32, {"by": [], "targets": {"nps": 40.0}, "as_of": None}, {}, "2026-06-30", "7",
        code="cd" * 32, commit="ef" * 20,
    )  # fmt: skip
    said = dict(provenance(run_of("stay.html"), facts))
    assert said["Notebook"] == ["stay.ipynb · abababababab"]
    assert said["Parameters"] == ["by = –", "targets = nps: 40.0", "as_of = –"]
    assert said["Code"] == ["cdcdcdcdcdcd", "commit efefefefefef"]
    assert said["Seed"] == ["7"]
    assert Facts.from_json(facts.to_json()) == facts
