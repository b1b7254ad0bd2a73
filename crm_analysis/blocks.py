"""What a result shows: one structured block for the page, the PDF and JupyterLab alike.

A block is what a notebook's cell leaves behind: a finding in words, perhaps a figure with
its alternative text, perhaps the numbers behind it, the definition and the cautions. It
travels as a mime bundle: HTML to look at, the figure's own bytes, and the block itself as
JSON, so that no renderer ever has to scrape words back out of HTML.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape as escaped
from typing import Any, Literal

from crm_analysis.wording import _, tied, visible

__all__ = [
    "BLOCK_MIME",
    "FILES_MIME",
    "FILE_NAME",
    "Block",
    "BlockFigure",
    "BlockFile",
    "BlockTable",
    "Change",
    "Column",
    "KeyFigure",
]

BLOCK_MIME = "application/vnd.crm.block+json"
"""The mime type under which a block travels in a notebook's output."""

FILES_MIME = "application/vnd.crm.files+json"
"""The mime type under which its files travel: by name, their bytes in base 64."""

FILE_NAME = r"[a-z][a-z0-9_]{0,59}\.(csv|parquet)"
"""What a file beside a page may be called."""

FILES_NOTE = '<div class="crm-files-note">'
"""Where a notebook's words on files begin; a page has links instead, and leaves them out."""

BLOCK_VERSION = 1

NOTEBOOK_STYLE = (
    "<style>"
    ".crm-block{max-width:46rem;color:var(--jp-ui-font-color1,inherit)}"
    ".crm-block .crm-title{margin:.2em 0 .5em}"
    ".crm-block p.crm-finding{font-size:1.1em;margin:.3em 0 .7em}"
    ".crm-block .crm-key-figures{display:flex;flex-wrap:wrap;gap:.7em}"
    ".crm-block .crm-key-figures>div{flex:1 1 11em;border:1px solid var(--jp-border-color2,#8886);"
    "border-radius:8px;padding:.7em .9em;line-height:1.35}"
    ".crm-block .crm-label,.crm-block small,.crm-block figcaption"
    "{color:var(--jp-ui-font-color2,inherit)}"
    ".crm-block .crm-value b{display:block;font-size:1.55em;margin:.15em 0}"
    ".crm-block ul.crm-changes{list-style:none;margin:.6em 0 0;padding:.5em 0 0;"
    "border-top:1px solid var(--jp-border-color2,#8886)}"
    ".crm-block .crm-change small{display:block}"
    ".crm-block .crm-good .crm-verdict,.crm-block .crm-bad .crm-verdict{font-weight:600}"
    ".crm-block .crm-notes{border-left:3px solid var(--jp-warn-color1,#b36b00);padding:.1em .9em;"
    "margin:.7em 0}"
    ".crm-block .crm-figure{margin:.7em 0}"
    ".crm-block .crm-figure img{max-width:100%;background:#fff;border-radius:6px}"
    ".crm-block .crm-table{overflow-x:auto;max-height:30em}"
    ".crm-block th.left,.crm-block td.left{text-align:left!important}"
    ".crm-block summary{cursor:pointer;color:var(--jp-content-link-color,inherit)}"
    "</style>"
)
"""How blocks look in a notebook, light or dark; a page has a style of its own and drops this."""

CellKind = Literal["text", "integer", "number", "percent", "money", "date"]


@dataclass(frozen=True)
class Column:
    """One column of a block's table: its name, the words over it, and what its cells are."""

    name: str
    label: str
    kind: CellKind = "text"

    @property
    def align(self) -> str:
        """Side on which the cells stand: words left, numbers right."""
        return "left" if self.kind in ("text", "date") else "right"


@dataclass(frozen=True)
class BlockTable:
    """The numbers of a block, already in the reader's words: one text per cell."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str | None = None


@dataclass(frozen=True)
class BlockFigure:
    """A drawn figure: its bytes, and the words that stand for it."""

    data: bytes
    alt: str
    mime: Literal["image/svg+xml", "image/png"] = "image/svg+xml"
    caption: str | None = None


@dataclass(frozen=True)
class BlockFile:
    """A file that belongs beside the page: its name there, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Change:
    """How a key figure stands against something else.

    Attributes
    ----------
    against : {"previous", "network", "target", "reported"}
        What it is held against: the period before, the whole network, a target of the plan, or
        the figure as it was reported last.
    label : str
        The same in words: "against the year before".
    value : str
        The difference, written: "+1.2 points".
    direction : {"up", "down", "level"}
        Where it went; level when no difference is established.
    good : bool or None
        Whether that is better; None when there is no better or no difference is established.
    interval : str or None
        The interval of the difference, written.
    size : float
        How large it is at least, on a scale that all figures share; 0 when none is established.
    """

    against: Literal["previous", "network", "target", "reported"]
    label: str
    value: str
    direction: Literal["up", "down", "level"]
    good: bool | None
    interval: str | None = None
    size: float = 0.0

    @property
    def arrow(self) -> str:
        """The direction as one sign."""
        return {"up": "▲", "down": "▼", "level": "≈"}[self.direction]

    @property
    def tone(self) -> str:
        """The word by which a page colours it: ``"good"``, ``"bad"`` or ``"level"``."""
        return {True: "good", False: "bad", None: "level"}[self.good]

    @property
    def verdict(self) -> str:
        """What the change means, in words; empty where it is neither better nor worse."""
        if self.good is not None:
            return _("better") if self.good else _("worse")
        if self.direction != "level":
            return ""
        if self.interval is None:
            return _("whether they differ cannot be tested")
        return _("no difference established")


@dataclass(frozen=True)
class KeyFigure:
    """One number for the head of a page, never without its interval and n.

    Attributes
    ----------
    label, value : str
        What it is, and the number in the reader's words.
    interval, n, detail : str or None
        Its interval and its n in words; one more remark.
    key : str or None
        A name for machines, the same in every language: ``"retention_after_24_months"``.
    estimate, conf_low, conf_high : float or None
        The number itself and its bounds; None where nothing can be known.
    count : int or None
        Units counted.
    unit : str or None
        What the estimate is measured in.
    changes : tuple of Change
        How it stands against other figures.
    currency : str or None
        ISO code, when the estimate is money and the currency is known.
    better : {"higher", "lower"} or None
        Which way is better; None when neither is.
    drifts : bool
        Whether time alone changes it: a later value is then neither better nor worse.
    """

    label: str
    value: str
    interval: str | None = None
    n: str | None = None
    detail: str | None = None
    key: str | None = None
    estimate: float | None = None
    conf_low: float | None = None
    conf_high: float | None = None
    count: int | None = None
    unit: str | None = None
    changes: tuple[Change, ...] = ()
    currency: str | None = None
    better: Literal["higher", "lower"] | None = None
    drifts: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KeyFigure:
        """Build the key figure that a block's JSON describes."""
        return cls(**{**data, "changes": tuple(Change(**c) for c in data.get("changes", ()))})


@dataclass(frozen=True)
class Block:
    """Everything one answer shows, ready for a page.

    Attributes
    ----------
    kind : {"result", "key_figures", "findings", "notice"}
        What the page does with it.
    title, finding, definition : str or None
        The question, the answer in one sentence, and what the number means.
    figure : BlockFigure or None
    table : BlockTable or None
    notes : tuple of str
        Cautions, shown beside the answer and never hidden.
    key_figures : tuple of KeyFigure
    findings : tuple of str
    files : tuple of BlockFile
        What a reader may take away, beside the page.
    """

    kind: Literal["result", "key_figures", "findings", "notice"] = "result"
    title: str | None = None
    finding: str | None = None
    figure: BlockFigure | None = None
    table: BlockTable | None = None
    definition: str | None = None
    notes: tuple[str, ...] = ()
    key_figures: tuple[KeyFigure, ...] = ()
    findings: tuple[str, ...] = field(default=())
    files: tuple[BlockFile, ...] = ()

    def titled(self, title: str) -> Block:
        """Return the same block under another title."""
        return replace(self, title=title)

    def to_json(self) -> dict[str, Any]:
        """Return the block as plain JSON, without the bytes of its figure and its files."""
        data = asdict(replace(self, figure=None, files=()))
        data["version"] = BLOCK_VERSION
        data["files"] = [file.name for file in self.files]
        if self.figure is not None:
            data["figure"] = {
                "alt": self.figure.alt,
                "caption": self.figure.caption,
                "mime": self.figure.mime,
            }
        if self.table is not None:
            data["table"] = {
                "caption": self.table.caption,
                "columns": [{**asdict(c), "align": c.align} for c in self.table.columns],
                "rows": [list(row) for row in self.table.rows],
            }
        return data

    def to_text(self) -> str:
        """Return the block in plain words: what a terminal shows."""
        lines = [self.title, self.finding, *self.findings]
        for item in self.key_figures:
            lines.append(f"{item.label}: {item.value}{_spaced(item.interval)}")
            lines += [f"  {c.arrow} {c.value} {c.label} {c.verdict}" for c in item.changes]
        lines += [f"! {note}" for note in self.notes]
        return "\n".join(line for line in lines if line)

    def to_html(self) -> str:
        """Return the block as one self-contained HTML fragment, everything escaped."""
        parts = [
            _tag("h3", self.title, "crm-title"),
            _key_figures_html(self.key_figures),
            _tag("p", self.finding, "crm-finding"),
            _list_html(self.findings, "crm-findings"),
            _figure_html(self.figure),
            _notes_html(self.notes),
            self._table_html(),
            _folded(self._definition_label(), _tag("p", self.definition, ""), "crm-definition"),
        ]
        body = "".join(part for part in parts if part)
        return f'<section class="crm-block crm-{self.kind}">{body}</section>'

    def _definition_label(self) -> str:
        compared = self.kind == "key_figures"
        return _("How the figures are compared") if compared else _("Definition")

    def _table_html(self) -> str:
        table = _table_html(self.table)
        # A notice is its table, and so is an answer that nothing draws, unless its sentence says
        # the one row there is; beside a figure a table folds.
        rows = 0 if self.table is None else len(self.table.rows)
        said = rows == 1 and bool(self.finding)
        open_table = self.kind == "notice" or (rows > 0 and self.figure is None and not said)
        return table if open_table else _folded(_("The numbers"), table, "crm-numbers")

    def _repr_html_(self) -> str:
        return NOTEBOOK_STYLE + self.to_html() + self._files_note()

    def _files_note(self) -> str:
        if not self.files:
            return ""
        names = ", ".join(file.name for file in self.files)
        text = _(
            "A report has the data of this table beside its page ({names}); here, write them with "
            "to_csv().",
            names=names,
        )
        return f"{FILES_NOTE}<small>{escape(text)}</small></div>"

    def _repr_mimebundle_(self, **_asked: object) -> dict[str, Any]:
        bundle: dict[str, Any] = {
            "text/plain": self.to_text(),
            "text/html": self._repr_html_(),
            BLOCK_MIME: self.to_json(),
        }
        if self.figure is not None:
            svg = self.figure.mime == "image/svg+xml"
            raw = self.figure.data
            bundle[self.figure.mime] = raw.decode() if svg else base64.b64encode(raw).decode()
        if self.files:
            bundle[FILES_MIME] = {
                file.name: base64.b64encode(file.data).decode() for file in self.files
            }
        return bundle


def escape(text: str, *, quote: bool = True) -> str:
    """Write a text so that it can be nothing but text, whatever the data call things."""
    return escaped(tied(visible(text)), quote=quote)


def _spaced(text: str | None) -> str:
    return f" {text}" if text else ""


def _tag(name: str, text: str | None, css: str) -> str:
    if not text:
        return ""
    attribute = f' class="{css}"' if css else ""
    return f"<{name}{attribute}>{escape(text)}</{name}>"


def _list_html(items: Sequence[str], css: str) -> str:
    if not items:
        return ""
    return f'<ul class="{css}">' + "".join(_tag("li", item, "") for item in items) + "</ul>"


def _notes_html(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    label = escape(_("Cautions"))
    return f'<aside class="crm-notes" aria-label="{label}">{_list_html(notes, "")}</aside>'


def _folded(label: str, body: str, css: str) -> str:
    if not body:
        return ""
    return f'<details class="{css}"><summary>{escape(label)}</summary>{body}</details>'


def _figure_html(figure: BlockFigure | None) -> str:
    if figure is None:
        return ""
    source = f"data:{figure.mime};base64,{base64.b64encode(figure.data).decode()}"
    image = f'<img src="{source}" alt="{escape(figure.alt, quote=True)}">'
    caption = _tag("figcaption", figure.caption, "")
    return f'<figure class="crm-figure" tabindex="0">{image}{caption}</figure>'


def _key_figures_html(figures: Sequence[KeyFigure]) -> str:
    cards = []
    for item in figures:
        small = " · ".join(text for text in (item.interval, item.n, item.detail) if text)
        value = f"<b>{escape(item.value)}</b>{_tag('small', small, '')}"
        changes = "".join(map(_change_html, item.changes))
        listed = f'<ul class="crm-changes">{changes}</ul>' if changes else ""
        cards.append(
            f'<div><div class="crm-label">{escape(item.label)}</div>'
            f'<div class="crm-value">{value}</div>{listed}</div>'
        )
    return f'<div class="crm-key-figures">{"".join(cards)}</div>' if cards else ""


def _change_html(change: Change) -> str:
    """Write a change so that its arrow and colour only repeat what its words say."""
    verdict = change.verdict
    said = f'<span class="crm-verdict">{escape(verdict)}</span>' if verdict else ""
    interval = _tag("small", change.interval, "")
    return (
        f'<li class="crm-change crm-{change.tone}"><span aria-hidden="true">{change.arrow}</span> '
        f"<span><strong>{escape(change.value)}</strong> {escape(change.label)}"
        f"{': ' if said else ''}{said} {interval}</span></li>"
    )


def _table_html(table: BlockTable | None) -> str:
    if table is None:
        return ""
    head = "".join(
        f'<th scope="col" class="{c.align}">{escape(c.label)}</th>' for c in table.columns
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td class="{c.align}">{escape(cell)}</td>'
            for c, cell in zip(table.columns, row, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    caption = _tag("caption", table.caption, "")
    return (
        f'<div class="crm-table" tabindex="0"><table>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
