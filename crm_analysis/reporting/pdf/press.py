"""The press: parts of a report in, a PDF out. Kept warm between reports.

Typst comes with its compiler and its fonts in one wheel; for characters that its fonts lack,
those that matplotlib brings stand in. Nothing is read from the system, and no clock is looked at,
so the same report has the same bytes on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.reporting.execute import Failure
from crm_analysis.reporting.pdf.markup import quoted
from crm_analysis.reporting.pdf.nodes import Node, paragraph, words
from crm_analysis.reporting.pdf.story import Story, tell, tell_failure
from crm_analysis.reporting.plan import Run
from crm_analysis.reporting.provenance import Facts, provenance
from crm_analysis.reporting.render import whose
from crm_analysis.wording import _, date_text

__all__ = ["Press"]

STANDARD = "ua-1"
"""PDF/UA-1: the compiler refuses a document that a screen reader could not read in order."""

_HERE = Path(__file__).resolve().parent
_REGIONS = {"en": "GB", "ru": "RU"}


class Press:
    """Prints reports, one after another, with one compiler.

    Raises
    ------
    ReportError
        Typst is not installed.
    """

    def __init__(self) -> None:
        try:
            import typst
        except ImportError as error:
            raise ReportError(
                "A PDF was asked for, and the package 'typst', which makes it, is not installed. "
                'Install it (python -m pip install typst), or ask for formats = ["html"] only.'
            ) from error
        self._typst = typst
        fonts = typst.Fonts(include_system_fonts=False, font_paths=[_more_fonts()])
        # Its types do not know yet that a project may be given as a mapping of names to bytes.
        self._compiler: Any = typst.Compiler(root=_HERE, font_paths=fonts)

    @cached_property
    def _template(self) -> bytes:
        return (_HERE / "report.typ").read_bytes()

    def report(self, notebook: Any, run: Run, facts: Facts) -> bytes:
        """Print an executed notebook, in the language spoken now (`wording.speaking`).

        Raises
        ------
        ReportError
            The compiler refuses it.
        """
        return self._print(tell(notebook, run), run, facts)

    def failure(self, notebook: Any, run: Run, facts: Facts, failure: Failure) -> bytes:
        """Print what became of a report that could not be made."""
        return self._print(tell_failure(notebook, run, failure), run, facts)

    def _print(self, story: Story, run: Run, facts: Facts) -> bytes:
        when = _moment(facts)
        document = _document(story, run, facts)
        try:
            return self._compile(document, story.pictures, when)
        except self._typst.TypstError as error:
            unreadable = [name for name in story.pictures if not self._readable(name, story)]
            if not unreadable:
                raise ReportError(_refusal(error)) from error
        document["story"] = _without(document["story"], set(unreadable))
        try:
            return self._compile(document, story.pictures, when)
        except self._typst.TypstError as error:
            raise ReportError(_refusal(error)) from error

    def _compile(
        self, document: Mapping[str, Any], pictures: Mapping[str, bytes], when: datetime
    ) -> bytes:
        files = {
            "main.typ": self._template,
            "report.json": json.dumps(document, ensure_ascii=False).encode(),
            **pictures,
        }
        made = self._compiler.compile(
            input=files, format="pdf", pdf_standards=[STANDARD], timestamp=when
        )
        assert isinstance(made, bytes)
        return made

    def _readable(self, name: str, story: Story) -> bool:
        """Ask the compiler whether it can draw a picture."""
        source = f'"{name}"' if name.endswith(".svg") else f'bytes(json("{name}"))'
        files = {"main.typ": f"#image({source})".encode(), name: story.pictures[name]}
        try:
            self._compiler.compile(input=files, format="svg")
        except self._typst.TypstError:
            return False
        return True


def _more_fonts() -> Path:
    """Return the folder of matplotlib's fonts."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


def _moment(facts: Facts) -> datetime:
    """Return the moment that the file states: the last day of the data, not a clock's."""
    day = date.fromisoformat(facts.as_of) if facts.as_of else date(1970, 1, 1)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _document(story: Story, run: Run, facts: Facts) -> dict[str, Any]:
    owner = whose(run)
    day = date_text(date.fromisoformat(facts.as_of)) if facts.as_of else None
    until = _("Data to {day}", day=day) if day else None
    return {
        "title": words(story.title),
        "heading": quoted(words(story.title)),
        "lang": run.lang,
        "region": _REGIONS[run.lang],
        "whose": words(owner) if owner else None,
        "day": until,
        "about": words(" · ".join(text for text in (owner, until) if text)),
        "story": story.nodes,
        "brief": story.brief,
        "made": [[label, words(" · ".join(values))] for label, values in provenance(run, facts)],
        "words": {"contents": _("Contents"), "made": _("How this report was made")},
    }


def _refusal(error: Exception) -> str:
    return _("The PDF could not be set: {reason}", reason=str(error).strip().splitlines()[0])


def _without(nodes: list[Node], unreadable: set[str]) -> list[Node]:
    """Let the words of pictures stand for those that cannot be drawn."""
    kept = []
    for node in nodes:
        if node["k"] == "picture" and node["file"] in unreadable:
            kept.append(paragraph([node["alt"]]))
        elif node["k"] in ("list", "enum"):
            kept.append({**node, "items": [_without(item, unreadable) for item in node["items"]]})
        elif "blocks" in node:
            kept.append({**node, "blocks": _without(node["blocks"], unreadable)})
        else:
            kept.append(node)
    return kept
