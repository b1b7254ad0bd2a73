"""An executed notebook becomes a page: nbconvert with our own template, self-contained.

Everything a cell shows passes through `clean`; what the page is made of is decided here, how it
looks in `template/`. The exporter is created once per worker and used again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from nbconvert.exporters.templateexporter import TemplateExporter

from crm_analysis.blocks import BLOCK_MIME, FILES_NOTE, NOTEBOOK_STYLE
from crm_analysis.reporting.beside import address_of
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
from crm_analysis.reporting.clean import Heading, PageState, clean
from crm_analysis.reporting.execute import Failure
from crm_analysis.reporting.provenance import Facts, provenance
from crm_analysis.reporting.runs import NETWORK, Run
from crm_analysis.wording import _, date_text, visible

__all__ = ["Facts", "Page", "make_exporter", "render_failure", "render_report", "whose"]

_HERE = Path(__file__).resolve().parent
_MOST_FINDINGS = 5
_LANGUAGE_NAMES = {"en": "English", "ru": "Русский"}


@dataclass(frozen=True)
class Page:
    """A finished page, and what an index says of it."""

    html: str
    summary: dict[str, Any]


def make_exporter() -> TemplateExporter:
    """Create the exporter: our template on nbconvert's `base`, everything escaped by default."""
    exporter = TemplateExporter(  # type: ignore[no-untyped-call]
        extra_template_basedirs=[str(_HERE)],
        template_name="template",
        file_extension=".html",
    )
    exporter.environment.autoescape = True
    exporter.environment.globals["_"] = _
    return exporter


def render_report(notebook: Any, run: Run, facts: Facts, exporter: TemplateExporter) -> Page:
    """Turn an executed notebook into a page.

    Parameters
    ----------
    notebook : NotebookNode
        Executed.
    run : Run
    facts : Facts
    exporter : TemplateExporter
        From `make_exporter`.

    Returns
    -------
    Page
        Its summary holds `title`, `findings`, `key_figures`, `as_of`, `figures`, `tables`.
    """
    notebook = deepcopy(notebook)
    title = take_title(notebook.cells) or run.name.replace("_", " ").capitalize()
    state = _page_state(title)
    state.path = run.path
    notebook.cells = list(split_opening(notebook.cells))
    for cell in notebook.cells:
        cell.metadata["page"] = [html for html in _parts(cell, state, run.show_code) if html]
    _mark_body(notebook.cells)
    html = _export(notebook, exporter, run, facts, title, state, failure=None)
    return Page(html, {**_summary(notebook, title, facts), **_counts(state)})


def render_failure(
    notebook: Any, run: Run, facts: Facts, failure: Failure, exporter: TemplateExporter
) -> Page:
    """Write the page of a report that could not be made: what failed, where, and what to do."""
    notebook = deepcopy(notebook)
    title = take_title(notebook.cells) or run.name.replace("_", " ").capitalize()
    notebook.cells = []
    html = _export(notebook, exporter, run, facts, title, _page_state(title), failure=failure)
    return Page(html, {"title": title, "as_of": facts.as_of})


def _page_state(title: str) -> PageState:
    return PageState(title=title, table_label=_("Table"), figure_label=_("Figure: {heading}"))


def _export(
    notebook: Any,
    exporter: TemplateExporter,
    run: Run,
    facts: Facts,
    title: str,
    state: PageState,
    failure: Failure | None,
) -> str:
    page = {
        "title": title,
        "lang": run.lang,
        "style": _style(),
        "whose": whose(run),
        "as_of": date_text(date.fromisoformat(facts.as_of)) if facts.as_of else None,
        "as_of_iso": facts.as_of,
        "language": _LANGUAGE_NAMES[run.lang],
        "contents": _contents(state.headings),
        "provenance": list(provenance(run, facts)),
        "links": list(_links(facts.links)),
        "show_code": run.show_code,
        "failure": failure,
        "excerpt": excerpt(failure) if failure else [],
    }
    html, _resources = exporter.from_notebook_node(notebook, resources={"page": page})
    return visible(str(html))


@cache
def _style() -> str:
    return (_HERE / "template" / "page.css").read_text(encoding="utf-8")


def _links(links: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """List where the page leads: the words, the address, and the language of what is there."""
    if links.get("index"):
        yield {"words": _("All reports"), "href": links["index"], "kind": "index"}
    for lang, href in (links.get("languages") or {}).items():
        yield {"words": _LANGUAGE_NAMES[lang], "href": href, "kind": "language", "lang": lang}
    if links.get("pdf"):
        yield {"words": "PDF", "href": links["pdf"], "kind": "pdf"}


def whose(run: Run) -> str | None:
    """Say whose data a report shows: a dealership's, the network's, or as the plan says."""
    if run.dealership is None:
        return run.subject
    return _("The whole network") if run.dealership == NETWORK else run.dealership


def _contents(headings: list[Heading]) -> list[Heading]:
    """Choose what the table of contents lists: the sections."""
    level = min((heading.level for heading in headings), default=2)
    chosen = [heading for heading in headings if heading.level == level and heading.text]
    return chosen if len(chosen) > 1 else []


def _mark_body(cells: list[Any]) -> None:
    for cell in cells:
        if cell.metadata.get("page_section"):
            cell.metadata["page_contents"] = True
            return


def _parts(cell: Any, state: PageState, show_code: bool) -> Iterator[str]:
    tags = set(cell.metadata.get("tags", []))
    if cell.cell_type == "markdown":
        yield clean(str(markdown(trusted=True)(cell.source)), state).html
        return
    if cell.cell_type != "code":
        return
    if "solution" in tags:
        yield _folded_solution(_code_parts(cell, state, tags, show_code=True))
        return
    yield from _code_parts(cell, state, tags, show_code=show_code)


def _folded_solution(parts: Iterator[str]) -> str:
    """Fold a solution away, code and all, until the student asks for it."""
    label = escape(_("Solution"))
    body = f"<summary>{label}</summary>{''.join(parts)}"
    return f'<details class="crm-solution">{body}</details>'


def _code_parts(cell: Any, state: PageState, tags: set[str], *, show_code: bool) -> Iterator[str]:
    # An exercise is its code: without it there is nothing to try.
    if (show_code or tags & LESSON_TAGS) and cell.source.strip():
        yield f'<pre class="crm-code"><code>{escape(cell.source)}</code></pre>'
    if tags & HIDDEN_TAGS or (tags & RESEARCHER_TAGS and not show_code):
        return
    for output in cell.get("outputs", []):
        yield _output_html(output, cell, state, show_code)


def _output_html(output: Any, cell: Any, state: PageState, show_code: bool) -> str:
    kind = output.output_type
    if kind == "stream":
        text = steady(output.text)
        css = "crm-stream" if output.name == "stdout" else "crm-stream crm-stderr"
        return f'<pre class="{css}">{escape(text)}</pre>' if text.strip() else ""
    if kind == "error":  # a cell that is allowed to fail shows how it does
        return f'<pre class="crm-stream crm-stderr">{escape(steady(output.evalue))}</pre>'
    return _data_html(output, cell, state, show_code)


def _data_html(output: Any, cell: Any, state: PageState, show_code: bool) -> str:
    data = output.data
    image = next((mime for mime in IMAGES if mime in data), None)
    if "text/html" in data:
        before = state.saved()
        html = text_of(data["text/html"]).removeprefix(NOTEBOOK_STYLE)
        block = data.get(BLOCK_MIME)
        cleaned = clean(html.split(FILES_NOTE)[0] if block else html, state)
        if not cleaned.empty and not (cleaned.scripted and (image or interactive(data))):
            return cleaned.html + _files(block, state) if block else _framed(cleaned.html)
        state.back_to(before)
    if image is not None:
        return _figure(image, output, cell, state)
    if "text/markdown" in data:
        html = str(markdown(trusted=False)(text_of(data["text/markdown"])))
        return clean(html, state).html
    return _text_html(data, show_code)


def _files(block: Mapping[str, Any], state: PageState) -> str:
    """Link the files that were put beside the page for a block."""
    addresses = {name: address_of(state.path, name) for name in block.get("files") or ()}
    links = [
        f'<a class="crm-file" href="{escape(address)}" download>'
        f"{'CSV' if name.endswith('.csv') else 'Parquet'}</a>"
        for name, address in addresses.items()
    ]
    label = escape(_("Data of this table:"))
    return f'<p class="crm-files">{label} {" ".join(links)}</p>' if links else ""


def _framed(html: str) -> str:
    return f'<div class="crm-output">{html}</div>'


def _text_html(data: Mapping[str, Any], show_code: bool) -> str:
    text, noted = last_words(data)
    if noted:
        return f"<p><small>{escape(text)}</small></p>"
    if not text.strip() or (BARE_OBJECT.match(text) and not show_code):
        return ""
    return f'<pre class="crm-stream">{escape(steady(text))}</pre>'


def _figure(mime: str, output: Any, cell: Any, state: PageState) -> str:
    raw = text_of(output.data[mime])
    encoded = base64.b64encode(raw.encode()).decode() if mime.startswith("image/svg") else raw
    own = output.metadata.get(mime, {})
    alt = own.get("alt") or output.metadata.get("alt") or cell.metadata.get("alt")
    width = f' width="{int(own["width"])}"' if "width" in own else ""
    words = f' alt="{escape(alt)}"' if alt else ""
    source = f"data:{mime};base64,{''.join(encoded.split())}"
    image = f'<img src="{source}"{words}{width}>'
    return clean(f'<figure class="crm-figure">{image}</figure>', state).html


def _summary(notebook: Any, title: str, facts: Facts) -> dict[str, Any]:
    blocks = [
        output.data[BLOCK_MIME]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if BLOCK_MIME in output.get("data", {})
    ]
    named = [text for block in blocks for text in block.get("findings") or []]
    single = [block["finding"] for block in blocks if block.get("finding")]
    return {
        "title": title,
        "as_of": facts.as_of,
        "findings": (named or single)[:_MOST_FINDINGS],
        "key_figures": [item for block in blocks for item in block.get("key_figures") or []],
    }


def _counts(state: PageState) -> dict[str, int]:
    return {"figures": state.figures, "tables": state.tables}
