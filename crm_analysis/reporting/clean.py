"""What may stand on a page: a strict pass over every piece of HTML that a notebook shows.

Only known elements and attributes are written back; scripts, frames and anything that would
load from elsewhere are left out. On the way the pass does the page's housekeeping: headings get
anchors and an unbroken order, tables a box of their own to scroll in, images a description.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html import escape
from html.parser import HTMLParser

__all__ = ["Heading", "PageState", "clean"]

_TEXT = set(
    "a abbr address article aside b bdi bdo blockquote br caption cite code col colgroup dd del "
    "details dfn div dl dt em figcaption figure footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd "
    "li mark meter ol p pre progress q rp rt ruby s samp section small span strong style sub "
    "summary sup table tbody td tfoot th thead time tr u ul var wbr".split()
)
_DRAWING = set(
    "circle clippath defs desc ellipse g line lineargradient path pattern polygon polyline "
    "radialgradient rect stop svg symbol text title tspan use".split()
)
_ALLOWED = _TEXT | _DRAWING
_DROPPED = {"script", "iframe", "object", "embed", "noscript", "template", "math", "audio", "video"}
_VOID = {"br", "col", "hr", "img", "wbr", "link", "meta", "input", "base", "source", "embed"}
_ATTRIBUTES = set(
    "align class colspan datetime dir headers height id lang max min open role rowspan scope "
    "start style tabindex title valign value width".split()
)
_DRAWING_ATTRIBUTES = set(
    "clip-path cx cy d dominant-baseline dx dy fill fill-opacity font-family font-size font-weight "
    "gradienttransform gradientunits offset opacity patterntransform patternunits points "
    "preserveaspectratio r rx ry stop-color stop-opacity stroke stroke-dasharray stroke-linecap "
    "stroke-linejoin stroke-opacity stroke-width text-anchor transform vector-effect viewbox "
    "x x1 x2 y y1 y2".split()
)
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml)[;,]", re.IGNORECASE)
_OUTSIDE = re.compile(r"https?://", re.IGNORECASE)
_UNSAFE_STYLE = re.compile(
    r"url\s*\(|@import|expression\s*\(|javascript:|position\s*:|\\|<", re.IGNORECASE
)
_BOX_END = "</div><!-- table -->"
_OUR_ANCHOR = re.compile(r"s\d+")


@dataclass(frozen=True)
class Heading:
    """One heading of the page: its anchor, its level (2-6) and its words."""

    anchor: str
    level: int
    text: str


@dataclass
class PageState:
    """What the pass knows of the page so far.

    Attributes
    ----------
    headings : list of Heading
    figures, tables : int
        How many have been written.
    table_label : str
        What a screen reader says of a table's box.
    figure_label : str
        What stands for a figure without a description of its own; `{heading}` is the last one.
    title, path : str
        Of the page; its path is relative to the folder of its batch.
    """

    headings: list[Heading] = field(default_factory=list)
    figures: int = 0
    tables: int = 0
    table_label: str = "Table"
    figure_label: str = "Figure: {heading}"
    title: str = ""
    path: str = ""
    _level: int = 1

    def next_level(self, asked: int) -> int:
        """Return the level a heading takes, so that none is skipped."""
        self._level = min(max(asked, 2), self._level + 1)
        return self._level

    def saved(self) -> PageState:
        """Return the state as it is now, to go back to."""
        return replace(self, headings=list(self.headings))

    def back_to(self, saved: PageState) -> None:
        """Forget everything added since `saved`."""
        self.headings[:] = saved.headings
        self.figures, self.tables, self._level = saved.figures, saved.tables, saved._level

    @property
    def heading(self) -> str:
        """Words of the nearest heading above."""
        return self.headings[-1].text if self.headings else self.title

    def describe_figure(self) -> str:
        """Return the words for a figure that brings none."""
        return self.figure_label.format(heading=self.heading)


@dataclass(frozen=True)
class Cleaned:
    """HTML that may stand on the page, and whether a script was left out of it."""

    html: str
    scripted: bool
    empty: bool


def clean(html: str, state: PageState) -> Cleaned:
    """Write `html` again with nothing in it but what may stand on a page.

    Parameters
    ----------
    html : str
        A fragment, from anywhere.
    state : PageState
        The page so far; headings, figures and tables are added to it.
    """
    parser = _Pass(state)
    parser.feed(html)
    parser.close()
    return Cleaned(parser.result(), parser.scripted, parser.empty)


class _Pass(HTMLParser):
    def __init__(self, state: PageState) -> None:
        super().__init__(convert_charrefs=True)
        self.state = state
        self.out: list[str] = []
        self.open: list[tuple[str, str]] = []
        self.scripted = False
        self.empty = True
        self._dropping: list[str] = []
        self._heading: list[str] | None = None
        self._links: list[str] = []
        self._link_text: list[str] = []

    def result(self) -> str:
        while self.open:
            self.out.append(self.open.pop()[1])
        return "".join(self.out)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DROPPED:
            self.scripted = self.scripted or tag == "script"
            self._dropping += [] if tag in _VOID else [tag]
        if self._dropping or tag not in _ALLOWED:
            return
        given = {name: value or "" for name, value in attrs}
        if tag == "img":
            self._image(given)
        elif re.fullmatch("h[1-6]", tag):
            self._start_heading(int(tag[1]), given)
        elif tag == "table":
            self._start_table(given)
        elif tag == "a":
            self._start_link(given)
        elif tag == "div" and "crm-table" in given.get("class", "").split():
            self._start_box()
        else:
            self._start(tag, _attributes(given), f"</{tag}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._dropping:
            if tag == self._dropping[-1]:
                self._dropping.pop()
            return
        if not any(name == tag for name, _end in self.open):
            return
        while True:
            name, end = self.open.pop()
            self._before_end(name)
            self.out.append(end)
            if name == "a":
                self._after_link()
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._dropping:
            return
        if self.open and self.open[-1][0] == "style":
            self.out.append("" if _UNSAFE_STYLE.search(_plain_style(data)) else data)
            return
        self.empty = self.empty and not data.strip()
        if self._heading is not None:
            self._heading.append(data)
        if self._links:
            self._link_text.append(data)
        self.out.append(escape(data, quote=False))

    def _start(self, tag: str, attributes: str, end: str) -> None:
        self.out.append(f"<{tag}{attributes}>")
        if tag not in _VOID:
            self.open.append((tag, end))

    def _image(self, given: dict[str, str]) -> None:
        if not _IMAGE.match(given.get("src", "")):
            self.out.append(escape(given.get("alt", "")))
            return
        self.empty = False
        self.state.figures += 1
        alt = given["alt"] if "alt" in given else self.state.describe_figure()
        words = f' src="{escape(given["src"])}" alt="{escape(alt)}"'
        self.out.append(f"<img{words}{_attributes(given)}>")

    def _start_heading(self, asked: int, given: dict[str, str]) -> None:
        level = self.state.next_level(asked)
        given["id"] = f"s{len(self.state.headings) + 1}"
        self._heading = []
        words = _attributes({k: v for k, v in given.items() if k != "id"})
        self.out.append(f'<h{level} id="{given["id"]}"{words}>')
        self.open.append((f"h{asked}", f"</h{level}>"))
        self.state.headings.append(Heading(given["id"], level, ""))

    def _start_table(self, given: dict[str, str]) -> None:
        self.empty = False
        nested = any(name == "table" for name, _end in self.open)
        boxed = any(end == _BOX_END for _name, end in self.open)
        end = "</table>"
        if not nested:
            self.state.tables += 1
        if not nested and not boxed:
            self.out.append(self._box())
            end = "</table></div>"
        self.out.append(f"<table{_attributes(given)}>")
        self.open.append(("table", end))

    def _start_box(self) -> None:
        self.out.append(self._box())
        self.open.append(("div", _BOX_END))

    def _box(self) -> str:
        label = escape(f"{self.state.table_label}: {self.state.heading}".rstrip(": "))
        return f'<div class="crm-table" tabindex="0" role="region" aria-label="{label}">'

    def _start_link(self, given: dict[str, str]) -> None:
        target = given.get("href", "")
        inside = f' href="{escape(target)}"' if target.startswith("#") else ""
        self._start("a", inside + _attributes(given), "</a>")
        self._links.append(target)

    def _before_end(self, name: str) -> None:
        if re.fullmatch("h[1-6]", name) and self._heading is not None:
            last = self.state.headings[-1]
            text = " ".join("".join(self._heading).split())
            self.state.headings[-1] = Heading(last.anchor, last.level, text)
            self._heading = None

    def _after_link(self) -> None:
        """Say where an outside link would have led: a page that is handed on leads nowhere."""
        target, text = self._links.pop(), "".join(self._link_text)
        self._link_text.clear()
        bare = _OUTSIDE.sub("", target)
        if _OUTSIDE.match(target) and bare not in text:
            self.out.append(f' <span class="crm-address">({escape(bare)})</span>')


def _attributes(given: dict[str, str]) -> str:
    parts = []
    for name, value in given.items():
        if name == "id" and _OUR_ANCHOR.fullmatch(value):
            continue
        if name == "style" and _UNSAFE_STYLE.search(value):
            continue
        if name in _ATTRIBUTES or name.startswith("aria-") or _is_drawing(name, value):
            parts.append(f' {name}="{escape(value)}"')
    return "".join(parts)


def _is_drawing(name: str, value: str) -> bool:
    if name not in _DRAWING_ATTRIBUTES:
        return False
    return "url(" not in value or re.fullmatch(r"url\(#[\w-]+\)", value) is not None


def _plain_style(text: str) -> str:
    """Return a style sheet without what great_tables writes and what is harmless."""
    return re.sub(r"position:\s*(sticky|relative|initial)", "", text.replace("-webkit-", ""))
