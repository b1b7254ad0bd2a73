"""HTML of a cell, or of a markdown cell once rendered, as parts of a printed report.

Only what a reader sees comes along: words, lists, tables, pictures that the HTML carries itself,
and links to the web or to an address. Scripts, styles and everything that would load from
elsewhere are left out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

from crm_analysis.reporting.pdf.nodes import (
    Cell,
    Inline,
    Node,
    code,
    column_texts,
    filled,
    heading,
    paragraph,
    plain,
    table,
    width_of,
    words,
)

__all__ = ["Element", "Marks", "parse", "quoted", "to_nodes"]

_DROPPED = set(
    "audio button embed head iframe input math noscript object script select style svg template "
    "textarea title video".split()
)
_VOID = set("area base br col embed hr img input link meta source track wbr".split())
_CLOSES = {
    "li": ({"li"}, {"ul", "ol"}),
    "dt": ({"dt", "dd"}, {"dl"}),
    "dd": ({"dt", "dd"}, {"dl"}),
    "tr": ({"tr", "td", "th"}, {"table"}),
    "td": ({"td", "th"}, {"table", "tr"}),
    "th": ({"td", "th"}, {"table", "tr"}),
    "thead": ({"thead", "tbody", "tfoot", "tr", "td", "th"}, {"table"}),
    "tbody": ({"thead", "tbody", "tfoot", "tr", "td", "th"}, {"table"}),
    "tfoot": ({"thead", "tbody", "tfoot", "tr", "td", "th"}, {"table"}),
    "p": ({"p"}, {"div", "td", "th", "li", "blockquote", "section"}),
}
"""What an opening tag ends by itself, and where the search for it stops."""

_LOOKS = {
    "b": "bold", "strong": "bold",
    "i": "italic", "em": "italic", "cite": "italic", "dfn": "italic", "var": "italic",
    "s": "struck", "del": "struck", "sup": "above", "sub": "below", "mark": "marked",
}  # fmt: skip
_BLOCKS = set(
    "address article aside blockquote caption dd details div dl dt figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section summary table tbody td tfoot th "
    "thead tr ul img".split()
)
_SPACE = re.compile(r"[ \t\n\r\f]+")
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml)((?:;[\w=-]+)*),", re.IGNORECASE)
_LINK = re.compile(r"(https?://|mailto:)[^\s\x00-\x1f]+\Z", re.IGNORECASE)
_SCHEME = re.compile(r"(https?://|mailto:)", re.IGNORECASE)
_NUMBER = re.compile(
    r"[-+−–]?[\d.,\s%\u00a0\u202f]*\d[\d.,\s%\u00a0\u202f]*(e[-+]?\d+)?", re.IGNORECASE
)
_UNKNOWN = {"", "–", "-", "—", "NaN", "nan", "NaT", "None", "null", "<NA>", "…", "..."}
_WAYS_BACK = {"↩", "¶"}
"""What stands in a link to its own place: a footnote's way back, a heading's anchor."""

_DEEPEST = 24
"""What is nested deeper stands where this depth ends; the typesetter has a limit of its own."""

_WIDEST_SPAN = 50


@dataclass
class Element:
    """An element of HTML with what it holds."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)


@dataclass
class Marks:
    """What the translation needs of the report around it.

    Attributes
    ----------
    picture : callable
        Given bytes, a file's ending, alternative text and width in pixels or None; keeps the
        picture and returns its node.
    level : callable
        Given a heading's level in HTML (1-6), the level it takes here.
    authored : bool
        Whether these are an author's words, whose straight quotes become those of the language.
    """

    picture: Callable[[bytes, str, str | None, float | None], Node]
    level: Callable[[int, str], int]
    authored: bool = False


class _Tree(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.open = [self.root]
        self.dropping: list[str] = []
        self.scripted = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DROPPED:
            self.scripted = self.scripted or tag == "script"
            self.dropping += [] if tag in _VOID else [tag]
        if self.dropping or tag in _DROPPED:
            return
        self._close_before(tag)
        made = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(made)
        if tag not in _VOID and len(self.open) < _DEEPEST:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.dropping:
            if tag == self.dropping[-1]:
                self.dropping.pop()
            return
        for place in range(len(self.open) - 1, 0, -1):
            if self.open[place].tag == tag:
                del self.open[place:]
                return

    def handle_data(self, data: str) -> None:
        if not self.dropping:
            self.open[-1].children.append(data)

    def _close_before(self, tag: str) -> None:
        ends, stops = _CLOSES.get(tag, (set(), set()))
        for place in range(len(self.open) - 1, 0, -1):
            if self.open[place].tag in stops or not ends:
                return
            if self.open[place].tag in ends:
                del self.open[place:]


def parse(html: str) -> tuple[Element, bool]:
    """Read HTML as a tree, and say whether a script was left out of it."""
    tree = _Tree()
    tree.feed(html)
    tree.close()
    return tree.root, tree.scripted


def to_nodes(element: Element, marks: Marks) -> list[Node]:
    """Turn what an element holds into parts of a report."""
    nodes: list[Node] = []
    run: list[Inline] = []

    def end_paragraph() -> None:
        parts = _trimmed(run)
        run.clear()
        if plain(parts).strip():
            nodes.append(paragraph(parts))

    for child in element.children:
        if isinstance(child, Element) and _is_block(child):
            end_paragraph()
            nodes += _block(child, marks)
        else:
            run += _inline(child, marks)
    end_paragraph()
    return nodes


def _is_block(element: Element) -> bool:
    return element.tag in _BLOCKS or any(
        isinstance(child, Element) and _is_block(child) for child in element.children
    )


def _block(element: Element, marks: Marks) -> list[Node]:
    return _MAKERS.get(element.tag, to_nodes)(element, marks)


def _preformatted(element: Element, _marks: Marks) -> list[Node]:
    text = _text(element)
    return [code(text)] if text.strip() else []


def _rule(_element: Element, _marks: Marks) -> list[Node]:
    return [{"k": "rule"}]


def _quotation(element: Element, marks: Marks) -> list[Node]:
    inside = to_nodes(element, marks)
    return [{"k": "quotation", "blocks": inside}] if inside else []


def _summary(element: Element, marks: Marks) -> list[Node]:
    parts = _words(element, marks)
    return [paragraph([{"k": "bold", "body": parts}])] if parts else []


def _heading(element: Element, marks: Marks) -> list[Node]:
    parts = _words(element, marks)
    said = plain(parts).strip()
    return [heading(parts, marks.level(int(element.tag[1]), said))] if said else []


def _list(element: Element, marks: Marks) -> list[Node]:
    items = [inside for item in _items(element) if (inside := to_nodes(item, marks))]
    if not items:
        return []
    if element.tag == "ul":
        return [{"k": "list", "items": items}]
    start = element.attributes.get("start", "1")
    return [
        {"k": "enum", "items": items, "start": int(start) if re.fullmatch(r"\d{1,6}", start) else 1}
    ]


def _items(element: Element) -> list[Element]:
    """Return a list's items; what stands between them is one too."""
    return [
        child if isinstance(child, Element) and child.tag == "li" else Element("li", {}, [child])
        for child in element.children
    ]


def _terms(element: Element, marks: Marks) -> list[Node]:
    nodes: list[Node] = []
    term: list[Inline] = []
    for child in _elements(element, "dt", "dd", "div"):
        if child.tag == "div":
            nodes += _terms(child, marks)
        elif child.tag == "dt":
            term = _words(child, marks)
        else:
            nodes.append({"k": "term", "term": term, "blocks": to_nodes(child, marks)})
            term = []
    return nodes


def _image(element: Element, marks: Marks) -> list[Node]:
    alt = element.attributes.get("alt")
    found = _picture_bytes(element.attributes.get("src", ""))
    if found is None:
        return [paragraph([words(alt)])] if alt else []
    width = element.attributes.get("width", "")
    pixels = float(width) if re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", width) else None
    return [marks.picture(*found, alt, pixels)]


def _picture_bytes(source: str) -> tuple[bytes, str] | None:
    found = _PICTURE.match(source)
    if found is None:
        return None
    kind = found.group(1).lower()
    ending = {"svg+xml": "svg", "jpeg": "jpg"}.get(kind, kind)
    raw = source[found.end() :]
    try:
        data = base64.b64decode(raw) if "base64" in found.group(2) else unquote_to_bytes(raw)
    except (binascii.Error, ValueError):
        return None
    return data, ending


# --- words ---------------------------------------------------------------------------------------


def _words(element: Element, marks: Marks) -> list[Inline]:
    """Return an element's words in one run; what would stand apart is joined by spaces."""
    return _trimmed(_inline_children(element, marks))


def _inline_children(element: Element, marks: Marks) -> list[Inline]:
    return [part for child in element.children for part in _inline(child, marks)]


def _inline(item: Element | str, marks: Marks) -> list[Inline]:
    if isinstance(item, str):
        text = words(_SPACE.sub(" ", item))
        return quoted(text) if marks.authored else [text]
    if item.tag in _SHORT:
        return [_SHORT[item.tag](item)]
    inside = _inline_children(item, marks)
    if not plain(inside).strip():
        return inside
    if item.tag == "a":
        return _linked(item.attributes.get("href", ""), inside)
    if item.tag in _LOOKS:
        return [{"k": _LOOKS[item.tag], "body": inside}]
    return [_BREAK, *inside, _BREAK] if item.tag in _BLOCKS else inside


def _fixed(element: Element) -> Inline:
    text = words(_SPACE.sub(" ", _text(element)))
    return {"k": "fixed", "text": text} if text.strip() else text


_BREAK: Node = {"k": "break"}
_SHORT: dict[str, Callable[[Element], Inline]] = {
    "br": lambda _element: _BREAK,
    "wbr": lambda _element: "\u200b",
    "img": lambda element: words(element.attributes.get("alt", "")),
    **dict.fromkeys(("code", "kbd", "samp", "tt"), _fixed),
}


def quoted(text: str) -> list[Inline]:
    """Take the straight quotes out of an author's words: the typesetter puts the right ones."""
    parts: list[Inline] = []
    for piece in re.split("([\"'])", text):
        if piece in ('"', "'"):
            parts.append({"k": "quote", "double": piece == '"', "text": piece})
        elif piece:
            parts.append(piece)
    return parts


def _linked(target: str, inside: list[Inline]) -> list[Inline]:
    """Keep a link to the web or to an address; on paper it says where it leads."""
    target = target.strip()
    if target.startswith("#") and plain(inside).strip() in _WAYS_BACK:
        return []
    if not _LINK.match(target):
        return inside
    bare = _SCHEME.sub("", target)
    shown = bare.rstrip("/") not in plain(inside).replace("\u200b", "")
    after: list[Inline] = [{"k": "soft", "text": words(f" ({bare})")}] if shown else []
    return [{"k": "link", "target": target, "body": inside}, *after]


def _trimmed(parts: Sequence[Inline]) -> list[Inline]:
    """Join neighbouring strings, and take spaces and breaks from both ends."""
    joined: list[Inline] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] = _SPACE.sub(" ", joined[-1] + part)
        elif not (_is_empty(part) and joined and _is_break(joined[-1])):
            joined.append(part)
    while joined and _is_empty(joined[0]):
        joined.pop(0)
    while joined and _is_empty(joined[-1]):
        joined.pop()
    if joined and isinstance(joined[0], str):
        joined[0] = joined[0].lstrip(" ")
    if joined and isinstance(joined[-1], str):
        joined[-1] = joined[-1].rstrip(" ")
    return joined


def _is_empty(part: Inline) -> bool:
    return not part.strip(" ") if isinstance(part, str) else _is_break(part)


def _is_break(part: Inline) -> bool:
    return not isinstance(part, str) and part["k"] == "break"


def _text(element: Element) -> str:
    return "".join(
        child if isinstance(child, str) else "\n" if child.tag == "br" else _text(child)
        for child in element.children
    )


def _elements(element: Element, *tags: str) -> list[Element]:
    return [c for c in element.children if isinstance(c, Element) and c.tag in tags]


# --- tables --------------------------------------------------------------------------------------


def _table(element: Element, marks: Marks) -> list[Node]:
    head, body = _rows(element, marks)
    if not body:
        head, body = [], head
    count = width_of([*head, *body])
    if not count:
        return to_nodes(element, marks)
    over = [plain(_words(child, marks)) for child in _elements(element, "caption")]
    while head and _covers(head[0], count):
        over.append(plain(head.pop(0)[0].body))
    under: list[Node] = []
    while len(body) > 1 and _covers(body[-1], count):
        under.insert(0, {"k": "small", "text": plain(body.pop()[0].body)})
    body = filled(body, count)
    caption = " · ".join(text for text in over if text) or None
    return [table(filled(head, count), body, _aligns(body, count), caption=caption), *under]


def _covers(row: Sequence[Cell], count: int) -> bool:
    """Say whether a row is one cell over all columns: a title, or a note."""
    return len(row) == 1 and row[0].columns >= count > 1


def _rows(element: Element, marks: Marks) -> tuple[list[list[Cell]], list[list[Cell]]]:
    """Return the rows of a table's head and of its body."""
    head: list[list[Element]] = []
    body: list[list[Element]] = []
    loose = Element("tbody", {}, list(_elements(element, "tr")))
    for part in [*_elements(element, "thead", "tbody", "tfoot"), loose]:
        rows = [_elements(row, "td", "th") for row in _elements(part, "tr")]
        (head if part.tag == "thead" else body).extend(row for row in rows if row)
    while not head and len(body) > 1 and all(cell.tag == "th" for cell in body[0]):
        head.append(body.pop(0))
    return _cells(head, marks), _cells(body, marks)


def _cells(rows: Sequence[Sequence[Element]], marks: Marks) -> list[list[Cell]]:
    return [[_cell(item, marks) for item in row] for row in rows]


def _cell(element: Element, marks: Marks) -> Cell:
    return Cell(
        tuple(_words(element, marks)),
        columns=_span(element.attributes.get("colspan", "1")),
        rows=_span(element.attributes.get("rowspan", "1")),
    )


def _span(text: str) -> int:
    return min(max(int(text), 1), _WIDEST_SPAN) if re.fullmatch("[0-9]{1,4}", text) else 1


def _aligns(rows: Sequence[Sequence[Cell]], count: int) -> list[str]:
    """Put columns of numbers to the right."""
    return ["right" if _is_numeric(texts) else "left" for texts in column_texts(rows, count)]


def _is_numeric(texts: Iterable[str]) -> bool:
    known = [text.strip() for text in texts if text.strip() not in _UNKNOWN]
    return bool(known) and all(_NUMBER.fullmatch(text) for text in known)


_MAKERS: dict[str, Callable[[Element, Marks], list[Node]]] = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), _heading),
    "ul": _list,
    "ol": _list,
    "dl": _terms,
    "table": _table,
    "pre": _preformatted,
    "hr": _rule,
    "img": _image,
    "blockquote": _quotation,
    "summary": _summary,
}
