"""Where a page leads: to its index, to the same report as PDF, to the same in another language.

Only files of the page's own batch are linked, by addresses relative to the page, so that a folder
that is copied or handed on keeps its links.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from crm_analysis.reporting.runs import Run

__all__ = ["Links", "Question", "by_question", "index_names", "links_of", "question_of"]


@dataclass(frozen=True)
class Links:
    """Addresses relative to a page, quoted.

    Attributes
    ----------
    index, pdf : str or None
    languages : mapping
        By language, the same report in it; without the page's own.
    """

    index: str | None = None
    pdf: str | None = None
    languages: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the links as plain JSON."""
        return asdict(self)


Question = tuple[str | None, ...]


def by_question(runs: Iterable[Run]) -> dict[Question, dict[str, str]]:
    """Gather the pages of a batch that differ in language only: by language, their paths."""
    found: dict[Question, dict[str, str]] = {}
    for run in runs:
        if "html" in run.formats:
            found.setdefault(question_of(run), {})[run.lang] = run.path
    return found


def links_of(
    run: Run, pages: Mapping[Question, Mapping[str, str]], indices: Mapping[str, str]
) -> Links:
    """Collect where the page of a run leads.

    Parameters
    ----------
    run : Run
    pages : mapping
        From `by_question`, of all runs of its batch.
    indices : mapping
        By language, the file of the batch's index; empty where there is none.

    Examples
    --------
    >>> runs = [
    ...     Run("stay", "n.ipynb", f"north/stay.{lang}.html", lang=lang, formats=("html", "pdf"))
    ...     for lang in ("en", "ru")
    ... ]
    >>> links = links_of(runs[1], by_question(runs), index_names(runs))
    >>> links.index, links.pdf, links.languages
    ('../index.ru.html', 'stay.ru.pdf', {'en': 'stay.en.html'})
    """
    index = indices.get(run.lang)
    pdf = run.paths.get("pdf")
    same = pages.get(question_of(run), {})
    return Links(
        index=_seen_from(run, index) if index else None,
        pdf=_seen_from(run, pdf) if pdf else None,
        languages={lang: _seen_from(run, path) for lang, path in same.items() if lang != run.lang},
    )


def question_of(run: Run) -> Question:
    """Return what a run is about: everything but its language."""
    return (run.name, run.dealership, run.subject, run.period)


def _seen_from(run: Run, path: str) -> str:
    """Return the address of a file of the batch as the run's page has to write it."""
    here, there = PurePosixPath(run.path).parts[:-1], PurePosixPath(path).parts
    shared = 0
    while shared < min(len(here), len(there) - 1) and here[shared] == there[shared]:
        shared += 1
    return "/".join([*[".."] * (len(here) - shared), *map(quote, there[shared:])])


def index_names(runs: Iterable[Run]) -> dict[str, str]:
    """Return the file of the index in each language of a batch, the first being index.html."""
    languages = dict.fromkeys(run.lang for run in runs)
    return {
        lang: "index.html" if number == 0 else f"index.{lang}.html"
        for number, lang in enumerate(languages)
    }
