"""What an executed notebook tells, in the order of its cells, as parts of a printed report."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from crm_analysis.blocks import BLOCK_MIME, Change
from crm_analysis.reporting.beside import name_beside
from crm_analysis.reporting.cells import (
    BARE_OBJECT,
    HIDDEN_TAGS,
    IMAGES,
    LESSON_TAGS,
    RESEARCHER_TAGS,
    excerpt,
    interactive,
    last_words,
    markdown,
    split_opening,
    steady,
    take_title,
    text_of,
)
from crm_analysis.reporting.execute import Failure
from crm_analysis.reporting.pdf.markup import Marks, parse, to_nodes
from crm_analysis.reporting.pdf.nodes import Cell, Node, code, heading, paragraph, table, words
from crm_analysis.reporting.plan import Run
from crm_analysis.wording import _, number

__all__ = ["MOST_NUMBERS", "Story", "tell", "tell_failure"]

MOST_NUMBERS = 24
"""A table of more rows under a figure is left to the page, where it folds away."""

_ENDINGS = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}


@dataclass
class Story:
    """The parts of a report and the pictures among them.

    Attributes
    ----------
    title : str
    nodes : list of Node
    pictures : dict
        What the compiler reads under each file name that the nodes give.
    closing : list of Node
        What is said after everything else.
    solutions : list of Node
        The solutions of a lesson's exercises, which paper cannot fold away: they follow at the end.
    heading : str
        The heading last come by.
    brief : bool
        Set small and close, for a reader who wants all of it on two or three sheets: the notebook
        says so in its metadata.
    """

    title: str
    nodes: list[Node] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    closing: list[Node] = field(default_factory=list)
    solutions: list[Node] = field(default_factory=list)
    heading: str = ""
    brief: bool = False
    _level: int = 0

    def level(self, asked: int, said: str) -> int:
        """Return the level a heading takes, so that none is skipped; level 1 is a section."""
        self._level = min(max(asked - 1, 1), self._level + 1)
        self.heading = said
        return self._level

    def picture(self, data: bytes, ending: str, alt: str | None, width: float | None) -> Node:
        """Keep a picture and return its node; one without words takes those of its heading."""
        name = f"{len(self.pictures) + 1}.{ending}"
        # The compiler takes files that are text; dots come to it as a list of their bytes.
        self.pictures[name] = data if ending == "svg" else json.dumps(list(data)).encode()
        said = alt or _("Figure: {heading}", heading=self.heading or self.title)
        return {"k": "picture", "file": name, "alt": words(said), "width": width, "caption": None}

    def marks(self, *, authored: bool = False) -> Marks:
        """Return what the translation of HTML needs of this story."""
        return Marks(self.picture, self.level, authored)


def tell(notebook: Any, run: Run) -> Story:
    """Tell an executed notebook: what its cells say and show, without its code.

    Parameters
    ----------
    notebook : NotebookNode
        Executed; it is left as it is.
    run : Run
    """
    notebook = deepcopy(notebook)
    story = Story(take_title(notebook.cells) or run.name.replace("_", " ").capitalize())
    story.brief = bool(notebook.metadata.get("brief"))
    known = _definitions(notebook)
    for cell in split_opening(notebook.cells):
        if cell.metadata.get("page_section"):
            story.nodes.append({"k": "contents"})
        story.nodes += [node for node in _cell(cell, story, run, known) if node]
    if story.solutions:
        story.nodes += [heading([_("Solutions")], 1), *story.solutions]
    story.nodes += story.closing
    _check_contents(story)
    return story


def tell_failure(notebook: Any, run: Run, failure: Failure) -> Story:
    """Tell of a report that could not be made: what failed, where, and what to do."""
    notebook = deepcopy(notebook)
    story = Story(take_title(notebook.cells) or run.name.replace("_", " ").capitalize())
    story.nodes = [
        heading([_("This report could not be made")], 1),
        *(paragraph([words(line)]) for line in failure.message.split("\n") if line.strip()),
    ]
    if failure.cell:
        story.nodes.append(paragraph([_where(failure)]))
    if shown := excerpt(failure):
        lines = (f"{'>' if marked else ' '} {n:>3} {line}" for n, line, marked in shown)
        story.nodes.append(code("\n".join(lines)))
    if failure.advice:
        advice = {"k": "bold", "body": [_("What to do next.")]}
        story.nodes.append(paragraph([advice, " ", words(failure.advice)]))
    if failure.details:
        story.nodes += [heading([_("The technical trace")], 2), code(failure.details, "warning")]
    return story


def _where(failure: Failure) -> str:
    place = _("It stopped in cell {cell} of {cells}", cell=failure.cell, cells=failure.cells)
    line = f", {_('line {line}', line=failure.line)}" if failure.line else ""
    return f"{place}{line}."


def _check_contents(story: Story) -> None:
    """Keep the table of contents only where there is more than one section to find, and far off."""
    sections = sum(node["k"] == "heading" and node["level"] == 1 for node in story.nodes)
    if sections < 2 or story.brief:
        story.nodes = [node for node in story.nodes if node["k"] != "contents"]


# --- cells ---------------------------------------------------------------------------------------


def _cell(cell: Any, story: Story, run: Run, known: set[str]) -> Iterator[Node]:
    tags = set(cell.metadata.get("tags", []))
    if cell.cell_type == "markdown":
        yield from _markup(str(markdown(trusted=True)(cell.source)), story, authored=True)
        return
    if cell.cell_type != "code":
        return
    if "solution" in tags:
        said = story.heading or story.title
        story.solutions.append(heading([words(said)], 2))
        story.solutions += _code_cell(cell, story, run, known, tags)
        yield {"k": "small", "text": _("The solution is at the end of this document.")}
        return
    yield from _code_cell(cell, story, run, known, tags)


def _code_cell(
    cell: Any, story: Story, run: Run, known: set[str], tags: set[str]
) -> Iterator[Node]:
    # An exercise is its code: without it there is nothing to try.
    if (run.show_code or tags & LESSON_TAGS) and cell.source.strip():
        yield code(cell.source)
    if tags & HIDDEN_TAGS or (tags & RESEARCHER_TAGS and not run.show_code):
        return
    for output in cell.get("outputs", []):
        yield from _output(output, cell, story, run, known)


def _markup(html: str, story: Story, *, authored: bool = False) -> list[Node]:
    return to_nodes(parse(html)[0], story.marks(authored=authored))


def _output(output: Any, cell: Any, story: Story, run: Run, known: set[str]) -> list[Node]:
    if output.output_type == "stream":
        role = "printed" if output.name == "stdout" else "warning"
        return _printed(output.text, role)
    if output.output_type == "error":  # a cell that is allowed to fail shows how it does
        return _printed(output.evalue, "warning")
    if BLOCK_MIME in output.data:
        return list(_block(output, story, run, known))
    return _data(output, cell, story, run)


def _printed(text: str, role: str) -> list[Node]:
    return [code(steady(text), role)] if text.strip() else []


def _data(output: Any, cell: Any, story: Story, run: Run) -> list[Node]:
    """Choose among an output's forms as the page does: HTML, picture, markdown, words."""
    data = output.data
    image = next((mime for mime in IMAGES if mime in data), None)
    if "text/html" in data:
        tree, scripted = parse(text_of(data["text/html"]))
        if not (scripted and (image or interactive(data))) and (
            nodes := to_nodes(tree, story.marks())
        ):
            return nodes
    if image is not None and (node := _image(image, output, cell, story)):
        return [node]
    if "text/markdown" in data:
        return _markup(str(markdown(trusted=False)(text_of(data["text/markdown"]))), story)
    text, noted = last_words(data)
    if noted:
        return [{"k": "small", "text": words(text)}]
    bare = BARE_OBJECT.match(text) and not run.show_code
    return [] if bare else _printed(text, "printed")


def _image(mime: str, output: Any, cell: Any, story: Story) -> Node | None:
    raw = text_of(output.data[mime])
    try:
        data = raw.encode() if mime == "image/svg+xml" else base64.b64decode(raw)
    except (binascii.Error, ValueError):
        return None
    own = output.metadata.get(mime, {})
    alt = own.get("alt") or output.metadata.get("alt") or cell.metadata.get("alt")
    width = own.get("width")
    return story.picture(data, _ENDINGS[mime], alt, float(width) if width else None)


# --- blocks --------------------------------------------------------------------------------------


def _definitions(notebook: Any) -> set[str]:
    """Return what the notebook's tables of definitions say, which is then said once."""
    return {
        text
        for block in _blocks(notebook)
        if block.get("kind") == "notice" and block.get("table")
        for row in block["table"]["rows"]
        for text in row
    }


def _blocks(notebook: Any) -> Iterator[Mapping[str, Any]]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if BLOCK_MIME in output.get("data", {}):
                yield output.data[BLOCK_MIME]


def _block(output: Any, story: Story, run: Run, known: set[str]) -> Iterator[Node]:
    block = output.data[BLOCK_MIME]
    if block.get("title"):
        yield heading([words(block["title"])], story.level(3, block["title"]))
    if block.get("key_figures"):
        yield {"k": "cards", "items": [_card(item) for item in block["key_figures"]]}
    yield from _sayings(block)
    if block.get("figure"):
        yield from _figure(block["figure"], output, story)
    if block.get("notes"):
        yield _cautions(block["notes"])
    if block.get("table"):
        yield from _numbers(block, run)
    if block.get("files"):
        names = ", ".join(name_beside(run.path, name) for name in block["files"])
        text = _("The data of this table lie beside this report: {names}.", names=names)
        yield {"k": "small", "text": text}
    if block.get("definition") and block["definition"] not in known:
        text = words(block["definition"])
        if block.get("kind") == "key_figures":  # the first page is for what was found
            label = _("How the figures are compared")
            story.closing.append({"k": "definition", "label": label, "text": text})
        else:
            yield {"k": "definition", "label": _("Definition"), "text": text}


def _sayings(block: Mapping[str, Any]) -> Iterator[Node]:
    if block.get("finding"):
        sticky = bool(block.get("figure") or block.get("table"))
        yield paragraph([words(block["finding"])], "finding", sticky=sticky)
    if block.get("findings"):
        yield {"k": "findings", "items": [words(text) for text in block["findings"]]}


def _figure(figure: Mapping[str, Any], output: Any, story: Story) -> Iterator[Node]:
    mime = figure.get("mime", "image/svg+xml")
    if mime not in output.data:
        return
    raw = text_of(output.data[mime])
    data = raw.encode() if mime == "image/svg+xml" else base64.b64decode(raw)
    node = story.picture(data, _ENDINGS[mime], figure["alt"], None)
    caption = figure.get("caption")
    yield {**node, "caption": words(caption) if caption else None}


def _cautions(notes: Sequence[str]) -> Node:
    tall = sum(map(len, notes)) > 1500
    items = [words(note) for note in notes]
    return {"k": "cautions", "label": _("Cautions"), "items": items, "tall": tall}


def _card(item: Mapping[str, Any]) -> dict[str, Any]:
    small = " · ".join(item[part] for part in ("interval", "n", "detail") if item.get(part))
    return {
        "label": words(item["label"]),
        "value": words(item["value"]),
        "small": words(small) or None,
        "changes": [_change(Change(**change)) for change in item.get("changes") or ()],
    }


def _change(change: Change) -> dict[str, str]:
    """Write a change so that its arrow and colour only repeat what its words say."""
    return {
        "arrow": change.arrow,
        "tone": change.tone,
        "value": words(change.value),
        "label": words(": ".join(text for text in (change.label, change.verdict) if text)),
        "interval": words(change.interval or ""),
    }


def _numbers(block: Mapping[str, Any], run: Run) -> Iterator[Node]:
    """Print a block's table; under a figure only one that a reader would look through."""
    rows = block["table"]["rows"]
    beside = block.get("kind") != "notice" and bool(block.get("figure"))
    if block.get("kind") != "notice" and len(rows) == 1 and block.get("finding"):
        return  # the sentence above says that row
    if beside and len(rows) > MOST_NUMBERS:
        if "html" in run.formats:
            n = number(len(rows))
            text = _("The {n} rows of numbers behind this figure are on the HTML page.", n=n)
            yield {"k": "small", "text": text}
        return
    columns = block["table"]["columns"]
    caption = block["table"].get("caption") or (_("The numbers") if beside else None)
    yield table(
        [[Cell((words(column["label"]),)) for column in columns]],
        [[Cell((words(text),)) for text in row] for row in rows],
        [column.get("align", "left") for column in columns],
        caption=words(caption) if caption else None,
        small=beside or [column["name"] for column in columns] == ["name", "definition"],
    )
