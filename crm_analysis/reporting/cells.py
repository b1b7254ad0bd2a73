"""What a cell of an executed notebook holds, read alike for the page and for the PDF."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import mistune

from crm_analysis.reporting.execute import Failure
from crm_analysis.wording import _

__all__ = [
    "BARE_OBJECT",
    "HIDDEN_TAGS",
    "IMAGES",
    "LESSON_TAGS",
    "RESEARCHER_TAGS",
    "excerpt",
    "interactive",
    "last_words",
    "markdown",
    "split_opening",
    "steady",
    "take_title",
    "text_of",
]

HIDDEN_TAGS = {"parameters", "injected-parameters", "remove-cell"}
RESEARCHER_TAGS = {"diagnostics"}
LESSON_TAGS = {"exercise", "solution"}
_TITLE = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
_SECTION = re.compile(r"^##[ \t]+\S", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_INTERACTIVE = (
    "application/vnd.plotly", "application/vnd.vega", "application/vnd.bokeh",
    "application/vnd.holoviews", "application/vnd.jupyter.widget", "application/javascript",
)  # fmt: skip
_SCRIPTED_OBJECT = re.compile(r"<IPython\.core\.display\.(HTML|Javascript) object>")
_WORD = re.compile(r"\S+")
_CELL_FILE = re.compile(r".*ipykernel_\d+[\\/]\d+\.py")
BARE_OBJECT = re.compile(
    r"\s*[\[(]*(<[^<>]*(at 0x[0-9a-f]+|Axes|Figure)[^<>]*>|Text\()", re.IGNORECASE
)
IMAGES = ("image/svg+xml", "image/png", "image/jpeg")


@cache
def markdown(*, trusted: bool) -> Any:
    """Return the markdown converter; what code computes may not bring HTML of its own."""
    return mistune.create_markdown(
        escape=not trusted, plugins=["table", "strikethrough", "footnotes", "def_list"]
    )


def take_title(cells: list[Any]) -> str | None:
    """Return the words of the first heading, taking it out when it is the notebook's title."""
    for cell in cells:
        if cell.cell_type != "markdown":
            continue
        found = _TITLE.search(_FENCE.sub(lambda m: " " * len(m.group()), cell.source))
        if found is None:
            continue
        if len(found.group(1)) == 1:
            cell.source = (cell.source[: found.start()] + cell.source[found.end() :]).strip("\n")
        return _plain(found.group(2))
    return None


def _plain(words: str) -> str:
    html = str(markdown(trusted=False)(words))
    return re.sub(r"<[^>]*>", "", html).strip().replace("&amp;", "&").replace("&quot;", '"')


def split_opening(cells: list[Any]) -> Iterator[Any]:
    """Part the cell in which the first section begins: the contents stand just before it."""
    for index, cell in enumerate(cells):
        if cell.cell_type != "markdown":
            yield cell
            continue
        found = _SECTION.search(_FENCE.sub(lambda m: " " * len(m.group()), cell.source))
        if found is None:
            yield cell
            continue
        if cell.source[: found.start()].strip():
            first = cell.copy()
            first.metadata = cell.metadata.copy()
            first.source = cell.source[: found.start()]
            first["id"] = f"{cell.get('id', 'cell')}-opening"
            yield first
            cell.source = cell.source[found.start() :]
        cell.metadata["page_section"] = True
        yield cell
        yield from cells[index + 1 :]
        return


def text_of(value: Any) -> str:
    """Join what a notebook keeps as lines."""
    return "".join(value) if isinstance(value, list) else str(value)


def steady(text: str) -> str:
    r"""Take out what a terminal would not show or the next run would say otherwise.

    Colours, addresses, process numbers, and what a line said before it was written over, as bars
    of progress are.

    Examples
    --------
    >>> steady("10 %\r50 %\r100 %\nread <a at 0x7f0123456789>\r\n")
    '100 %\nread <a at 0x…>\n'
    """
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in _ANSI.sub("", text).split("\n")]
    return _ADDRESS.sub("0x…", _without_cell_files("\n".join(lines)))


def interactive(data: Mapping[str, Any]) -> bool:
    """Whether an output is drawn by a script in the reader's browser, as charts of Plotly are."""
    return any(mime.startswith(_INTERACTIVE) for mime in data)


def last_words(data: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what is said of an output none of whose forms can be drawn.

    Returns
    -------
    (str, bool)
        The words, and whether they are a note of ours instead of the output itself.
    """
    text = text_of(data.get("text/latex") or data.get("text/plain") or "")
    if "application/json" in data:
        return json.dumps(data["application/json"], ensure_ascii=False, indent=1), False
    if not interactive(data) and not _SCRIPTED_OBJECT.match(text):
        return text, False
    note = _(
        "Here the notebook shows something that moves, by a script; a page and its print hold "
        "still. Show it as a picture too, and the picture will stand here."
    )
    return note, True


def _without_cell_files(text: str) -> str:
    """Write "cell" for the file that a kernel keeps a cell in.

    Word by word, each looked at once from its beginning: a search that begins anew at every
    letter of a long line takes minutes.
    """
    if "ipykernel_" not in text:
        return text
    return _WORD.sub(_without_cell_file, text)


def _without_cell_file(word: re.Match[str]) -> str:
    found = _CELL_FILE.match(word.group())
    return word.group() if found is None else f"cell{word.group()[found.end() :]}"


def excerpt(failure: Failure) -> list[tuple[int, str, bool]]:
    """Return the failing line with its neighbours: number, code, whether it is the line."""
    lines = failure.source.split("\n")
    if not failure.source:
        return []
    if failure.line is None:
        return [(number, line, False) for number, line in enumerate(lines[:8], 1)]
    first = max(failure.line - 3, 1)
    return [
        (number, lines[number - 1], number == failure.line)
        for number in range(first, min(failure.line + 2, len(lines)) + 1)
    ]
