"""The PDF of a report: what it says, how it is tagged, and that data cannot command it."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject
from test_reporting_page import EVIL, FACTS, RUN, SVG, block, code, markdown, shown, stream
from toy_notebooks import write_notebook, write_project

from crm_analysis.blocks import Block, BlockFigure, BlockTable, Change, Column, KeyFigure
from crm_analysis.errors import ReportError
from crm_analysis.reporting import make_batch, open_batch
from crm_analysis.reporting.execute import Failure
from crm_analysis.reporting.pdf import Press
from crm_analysis.reporting.pdf.nodes import Cell, column_texts, filled, width_of, words
from crm_analysis.reporting.pdf.nodes import table as table_node
from crm_analysis.reporting.plan import Run, check_formats
from crm_analysis.reporting.pool import Job
from crm_analysis.reporting.render import make_exporter
from crm_analysis.reporting.worker import Worker
from crm_analysis.wording import speaking, tied

if TYPE_CHECKING:
    from pypdf import PageObject

EXAMPLES = 15
"""Each is a whole document, so fewer than Hypothesis would take: a minute of them found no more."""

BOTH = replace(RUN, formats=("html", "pdf"))
COMMANDS = "#let x = 1 $a_1$ *b* _c_ @d <e> \\f `g` // h /* i */ = j - k + l ~ m [n] {o} #p[q]"
"""Everything that means something to Typst, should it ever read it as its own."""


@pytest.fixture(scope="module")
def press() -> Press:
    return Press()


def printed(press: Press, *cells: Any, run: Run = BOTH) -> PdfReader:
    return PdfReader(io.BytesIO(printed_bytes(press, *cells, run=run)))


def printed_bytes(press: Press, *cells: Any, run: Run = BOTH) -> bytes:
    notebook = nbformat.v4.new_notebook(cells=list(cells))  # type: ignore[no-untyped-call]
    with speaking(run.lang):
        return press.report(notebook, run, FACTS)


def text_of(reader: PdfReader) -> str:
    return "\n".join(page.extract_text() for page in reader.pages)


def flat(text: str) -> str:
    """Return a text without white space and places where a long word may be or was broken."""
    return re.sub(r"[\s\u200b\xad]+", "", text)


def elements(reader: PdfReader, *kinds: str) -> list[DictionaryObject]:
    """Return the elements of the structure tree that a screen reader would meet, in order."""
    found = _walk(reader.trailer["/Root"]["/StructTreeRoot"])  # type: ignore[index]
    return [element for element in found if element.get("/S", "").lstrip("/") in kinds]


def _walk(item: Any) -> Iterator[DictionaryObject]:
    item = item.get_object() if isinstance(item, IndirectObject) else item
    if isinstance(item, ArrayObject):
        for kid in item:
            yield from _walk(kid)
    elif isinstance(item, DictionaryObject):
        yield item
        if "/K" in item:
            yield from _walk(item["/K"])


def table_of(rows: int, columns: int) -> str:
    frame = pd.DataFrame(
        {f"column {c}": [f"r{r}c{c}" for r in range(rows)] for c in range(columns)}
    )
    return str(frame.to_html())


# --- what it says --------------------------------------------------------------------------------


def test_the_first_page_says_what_whose_when_and_the_last_how_it_was_made(press: Press) -> None:
    reader = printed(
        press, markdown("# How long?\n\nIntro."), markdown("## One"), markdown("## Two")
    )
    first, last = reader.pages[0].extract_text(), reader.pages[-1].extract_text()
    for text in ("How long?", "North", "Data to 30 June 2026", "Intro.", "Contents"):
        assert text in first
    for text in ("How this report was made", "retention.ipynb · abababababab", "cdcdcdcdcdcd"):
        assert text in last
    assert reader.metadata is not None
    assert reader.metadata.title == "How long?"
    assert reader.metadata.creation_date is not None
    assert reader.metadata.creation_date.date().isoformat() == FACTS.as_of


def test_every_page_is_numbered_and_all_but_the_first_say_whose_report_it_is(press: Press) -> None:
    reader = printed(press, markdown("# Title"), code(shown({"text/html": table_of(120, 3)})))
    count = len(reader.pages)
    assert count >= 3
    for number, page in enumerate(reader.pages, 1):
        lines = page.extract_text()
        assert f"{number} / {count}" in lines
        assert ("North · Data to 30 June 2026" in lines) == (number > 1)
        assert [float(side) for side in page.mediabox[2:]] == pytest.approx(
            [595.28, 841.89], abs=0.01
        )


def test_contents_and_bookmarks_lead_to_the_sections(press: Press) -> None:
    cells = [markdown("# T"), *(markdown(f"## Part {n}\n\n### Inner {n}") for n in range(1, 4))]
    reader = printed(press, *cells)
    outline = [item for item in reader.outline if not isinstance(item, list)]
    assert [str(item["/Title"]) for item in outline[:3]] == ["Part 1", "Part 2", "Part 3"]
    assert len(elements(reader, "TOCI")) == 3  # inner headings are bookmarks only
    assert [e.get("/S") for e in elements(reader, "H1", "H2")][:4] == ["/H1", "/H2", "/H1", "/H2"]


def test_a_brief_report_is_set_close_and_has_no_contents(press: Press) -> None:
    cells = [markdown("# T"), *(markdown(f"## Part {n}\n\n{'Word. ' * 260}") for n in range(6))]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    notebook.metadata["brief"] = True
    close = PdfReader(io.BytesIO(press.report(notebook, BOTH, FACTS)))
    wide = printed(press, *cells)
    assert len(close.pages) < len(wide.pages)
    assert flat(text_of(close)).count("Word.") == flat(text_of(wide)).count("Word.")
    assert not elements(close, "TOCI")


def test_a_table_of_sentences_may_go_on_on_the_next_sheet() -> None:
    def breaks(letters: int) -> bool:
        rows = [[Cell(("Figure",)), Cell(("a" * letters,))]] * 3
        return bool(table_node([], rows, ["left", "left"])["breaks"])

    assert breaks(400)
    assert not breaks(20)


def test_blocks_become_cards_findings_figures_and_cautions(press: Press) -> None:
    change = Change("previous", "against 2024", "+2.5 points", "up", good=True, interval="1 to 4")
    card = KeyFigure("Stay", "61%", "58-64%", "n = 9", changes=(change,))
    figure = BlockFigure(SVG.encode(), alt='Falls to "61%"', caption="Curve")
    columns = (Column("m", "Months", "integer"),)
    reader = printed(
        press,
        markdown("# T"),
        code(block(Block("key_figures", key_figures=(card,)))),
        code(block(Block("findings", findings=("One.", "Two.")))),
        code(block(Block(title="Q", finding="F", figure=figure, notes=("Few.",), definition="D.",
                         table=BlockTable(columns, (("12",), ("24",)))))),
    )  # fmt: skip
    text = text_of(reader)
    assert tied("58-64% · n = 9") in text
    for said in ("Stay", "61%", "One.", "Two.", "Q", "Curve", "Few.", "Cautions"):
        assert said in text
    for said in ("The numbers", "Months", "24", "Definition: D."):
        assert said in text
    assert flat("▲ +2.5 points against 2024: better (1 to 4)") in flat(text)
    assert [str(e["/Alt"]) for e in elements(reader, "Figure")] == ['Falls to "61%"']


def test_long_numbers_stay_on_the_page_and_definitions_are_said_once(press: Press) -> None:
    figure = BlockFigure(SVG.encode(), alt="A")
    columns = (Column("m", "Months", "integer"),)
    many = BlockTable(columns, tuple((f"row{n}",) for n in range(40)))
    defined = BlockTable((Column("d", "Meaning"),), (("Said once.",),))
    reader = printed(
        press,
        code(block(Block(finding="F", figure=figure, table=many, definition="Said once."))),
        code(block(Block("notice", table=defined))),
    )
    text = text_of(reader)
    assert "row39" not in text
    assert "The 40 rows of numbers behind this figure are on the HTML page." in text
    assert text.count("Said once.") == 1
    alone = text_of(printed(press, code(block(Block("notice", table=many)))))
    assert "row39" in alone


def test_how_figures_are_compared_is_said_at_the_end(press: Press) -> None:
    cards = Block("key_figures", key_figures=(KeyFigure("Stay", "61%"),), definition="By MOVER.")
    text = text_of(printed(press, markdown("# T"), code(block(cards)), markdown("Last.")))
    assert text.index("61%") < text.index("Last.") < text.index("compared: By MOVER.")


def test_ordinary_outputs_come_along(press: Press) -> None:
    frame = pd.DataFrame({"name": ["Ann & Co", "$x$"], "value": [1.5, -2.25]})
    reader = printed(
        press,
        markdown(
            "# T\n\n| a | b |\n|---|--:|\n| cell | 7 |\n\n- item\n  1. deep\n\n> said\n\n"
            "Term\n: meant"
        ),
        code(shown({"text/html": frame._repr_html_(), "text/plain": "x"})),
        code(shown({"text/html": pl.DataFrame({"p": ["pole"]})._repr_html_()})),
        code(shown({"image/svg+xml": SVG, "text/plain": "<Figure>"}, alt="A drawing")),
        code(shown({"image/png": png(), "text/plain": "<Figure>"}, alt="A photograph")),
        code(shown({"text/markdown": "## Computed\n\n**bold**"})),
        code(shown({"text/latex": r"$\frac{a}{b}$", "text/plain": "x"})),
        code(shown({"text/plain": "42"}), stream("printed\n"), stream("warned", "stderr")),
        code(nbformat.v4.new_output("error", ename="E", evalue="it failed")),  # type: ignore[no-untyped-call]
        code(shown({"text/plain": "<Axes: title='a'>"})),
    )
    text = text_of(reader)
    for said in ("cell", "item", "deep", "said", "meant", "Ann & Co", "$x$", "-2.25", "pole"):
        assert said in text
    for said in ("Computed", "bold", r"$\frac{a}{b}$", "42", "printed", "warned", "it failed"):
        assert said in text
    assert "Axes" not in text
    assert [str(e["/Alt"]) for e in elements(reader, "Figure")] == ["A drawing", "A photograph"]
    assert len(elements(reader, "Table")) == 3


def png() -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 3), "teal").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_picture_that_cannot_be_drawn_leaves_its_words(press: Press) -> None:
    broken = base64.b64encode(b"no picture").decode()
    reader = printed(
        press,
        markdown("# T"),
        code(shown({"image/png": broken}, alt="What it showed")),
        code(
            shown(
                {"text/html": f'<ul><li><img src="data:image/png;base64,{broken}" alt="In a list">'}
            )
        ),
        code(shown({"image/png": png()}, alt="Whole")),
    )
    assert "What it showed" in text_of(reader)
    assert "In a list" in text_of(reader)
    assert [str(e["/Alt"]) for e in elements(reader, "Figure")] == ["Whole"]


@pytest.mark.parametrize("address", ["https://example.org/a.png", "report.typ", "/etc/hostname"])
def test_a_drawing_may_not_fetch_anything(press: Press, address: str) -> None:
    drawing = SVG.replace("></svg>", f'><image width="9" height="9" href="{address}"/></svg>')
    assert "href" in drawing
    reader = printed(press, code(shown({"image/svg+xml": drawing}, alt="It would fetch")))
    kept = len(elements(reader, "Figure"))
    assert kept == 0 or not any(page.images for page in reader.pages)
    assert kept == 1 or "It would fetch" in text_of(reader)


def test_code_is_absent_unless_asked_for(press: Press) -> None:
    cells = [code(source="secret = 1", tags=("parameters",)), code(source="look < 2")]
    assert "secret" not in text_of(printed(press, *cells))
    text = text_of(printed(press, *cells, run=replace(BOTH, show_code=True)))
    assert "secret = 1" in text
    assert "look < 2" in text


def test_russian_has_its_quotes_and_words(press: Press) -> None:
    run = replace(BOTH, lang="ru", dealership="Север")
    reader = printed(press, markdown('# Отчёт\n\nСказано: "хорошо", 12\u00a0%.'), run=run)
    text = text_of(reader)
    for said in (
        "«хорошо»",
        "12\u00a0%",
        "Север",
        "Данные по 30 июня 2026",
        "Как создан этот отчёт",
    ):
        assert said in text
    assert reader.trailer["/Root"]["/Lang"] == "ru-RU"  # type: ignore[index]


# --- tables --------------------------------------------------------------------------------------


def test_a_long_table_repeats_its_head_and_cuts_no_row(press: Press) -> None:
    rows = 300
    reader = printed(press, markdown("# T"), code(shown({"text/html": table_of(rows, 4)})))
    pages = [page.extract_text() for page in reader.pages]
    carrying = [text for text in pages if re.search(r"r\d+c0", text)]
    assert len(carrying) > 3
    assert all("column 0" in text and "column 3" in text for text in carrying)
    for row in range(rows):
        assert any(all(f"r{row}c{c}" in text for c in range(4)) for text in carrying), row
    heads = elements(reader, "TH")
    assert len(heads) == 5  # the index's empty head, and four columns; not again on every page
    assert set(map(scope_of, heads)) == {"/Column"}
    assert len(elements(reader, "TR")) == rows + 1


def scope_of(head: Any) -> str:
    attributes = head["/A"].get_object()
    parts = attributes if isinstance(attributes, ArrayObject) else [attributes]
    return next(str(part.get_object()["/Scope"]) for part in parts if "/Scope" in part.get_object())


@pytest.mark.parametrize("columns", [12, 24, 60])
@pytest.mark.parametrize("rows", [3, 20])
def test_a_wide_table_stays_on_its_paper(press: Press, columns: int, rows: int) -> None:
    reader = printed(
        press, markdown("## Wide"), code(shown({"text/html": table_of(rows, columns)}))
    )
    text = text_of(reader)
    for row in range(rows):
        for column in range(columns):
            assert f"r{row}c{column}" in text
    for page in reader.pages:
        left, right = reach(page)
        assert left >= 0.05 * float(page.mediabox.width)
        assert right <= 0.97 * float(page.mediabox.width)


def reach(page: PageObject) -> tuple[float, float]:
    """Return the leftmost and the rightmost place where a run of words begins."""
    starts: list[float] = []

    def visit(text: str, cm: Any, tm: Any, _font: Any, _size: Any) -> None:
        if text.strip():
            starts.append(tm[4] * cm[0] + cm[4])

    page.extract_text(visitor_text=visit)
    return min(starts), max(starts)


def test_spans_of_html_fill_a_grid() -> None:
    a, b, c = Cell(("a",), columns=2, rows=2), Cell(("b",)), Cell(("c",), columns=9, rows=9)
    rows = [[a, b], [c], [b]]
    assert width_of([[a, b], [b]]) == 3
    square = filled(rows, 3)
    assert [[(cell.columns, cell.rows) for cell in row] for row in square] == [
        [(2, 2), (1, 1)],
        [(1, 2)],
        [(1, 1), (1, 1)],
    ]
    assert column_texts(square, 3) == [["b"], [""], ["b", "c"]]


@given(
    st.lists(
        st.lists(
            st.builds(Cell, st.just(("x",)), columns=st.integers(1, 4), rows=st.integers(1, 4)),
            max_size=4,
        ),
        max_size=5,
    )
)
def test_a_filled_grid_has_no_hole_and_no_overlap(rows: list[list[Cell]]) -> None:
    count = width_of(rows)
    taken: set[tuple[int, int]] = set()
    for number, row in enumerate(filled(rows, count)):
        at = 0
        for cell in row:
            while (number, at) in taken:
                at += 1
            area = {(number + r, at + c) for r in range(cell.rows) for c in range(cell.columns)}
            assert not area & taken
            taken |= area
    assert taken == {(r, c) for r in range(len(rows)) for c in range(count)}


def test_a_table_s_title_and_notes_stand_over_and_under_it(press: Press) -> None:
    html = (
        "<table><thead><tr><td colspan=2>Title</td></tr><tr><th>a<th>b</tr></thead>"
        "<tbody><tr><td>1<td>2</tr></tbody>"
        "<tfoot><tr><td colspan=2>Source</td></tr></tfoot></table>"
    )
    reader = printed(press, code(shown({"text/html": html})))
    assert len(elements(reader, "TH")) == 2
    assert len(elements(reader, "TD")) == 2
    assert {"Title", "Source"} <= set(text_of(reader).split())


# --- nothing from data is a command --------------------------------------------------------------


def test_data_cannot_command_the_typesetter(press: Press) -> None:
    figure = BlockFigure(SVG.encode(), alt=COMMANDS)
    table = BlockTable((Column(COMMANDS, COMMANDS),), ((COMMANDS,), (COMMANDS,)), caption=COMMANDS)
    item = Block(title=COMMANDS, finding=COMMANDS, notes=(COMMANDS,), definition=COMMANDS,
                 figure=figure, table=table, findings=(COMMANDS,),
                 key_figures=(KeyFigure(COMMANDS, COMMANDS, COMMANDS),))  # fmt: skip
    run = replace(BOTH, dealership=COMMANDS)
    reader = printed(press, code(block(item)), code(stream(COMMANDS)), run=run)
    times = flat(text_of(reader)).replace("-", "").count(flat(COMMANDS).replace("-", ""))
    assert times >= 12  # hyphens of broken words aside, every one is there as it was said
    assert [str(e["/Alt"]) for e in elements(reader, "Figure")] == [COMMANDS]


def test_only_links_to_the_web_and_to_addresses_are_kept(press: Press) -> None:
    reader = printed(
        press,
        markdown(
            "[a](https://example.org/a) [b](javascript:alert(1)) [c](ftp://example.org) "
            "[d](mailto:me@example.org) [e](data:text/html,x) [f](HTTP://example.org)"
        ),
        code(
            shown({"text/html": f'<a href="  javascript:x">g</a><a href="vbscript:y">h</a>{EVIL}'})
        ),
    )
    targets = [
        str(note.get_object()["/A"]["/URI"])
        for page in reader.pages
        for note in page.get("/Annots", [])
        if "/A" in note.get_object() and "/URI" in note.get_object()["/A"]
    ]
    assert sorted(targets) == [
        "HTTP://example.org",
        "https://example.org/a",
        "mailto:me@example.org",
    ]
    text = text_of(reader)
    assert "alert('x')" not in text
    assert "(example.org/a)" in text  # on paper a link says where it leads


READABLE = st.text(
    st.one_of(
        st.sampled_from(COMMANDS + "\"'«»„“”–—…№₽€%&|;:!?ёЁ\u00a0\u202f"),
        st.characters(min_codepoint=0x21, max_codepoint=0x7E),
        st.characters(min_codepoint=0x410, max_codepoint=0x44F),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=EXAMPLES)
@given(text=READABLE)
def test_any_text_survives_as_itself(press: Press, text: str) -> None:
    cell = stream(f"{{{text}}}")
    assert flat(f"{{{text}}}") in flat(text_of(printed(press, code(cell))))


def test_letters_that_no_font_draws_are_read_aloud_all_the_same(press: Press) -> None:
    reader = printed(press, code(stream("{一丁}")))
    drawn = reader.pages[0].get_contents()
    assert drawn is not None
    # Two letters share the box that stands for their script; the words behind it tell them apart.
    assert f"/ActualText<FEFF{ord('丁'):X}>".encode() in drawn.get_data().replace(b" ", b"")


@settings(deadline=None, max_examples=EXAMPLES)
@given(text=st.text(st.characters(codec=None), max_size=80))
def test_any_text_at_all_can_be_printed_and_read_aloud(press: Press, text: str) -> None:
    table = BlockTable((Column("t", text),), ((text,), ("x",)))
    item = Block(title=f"t{text}", finding=text, findings=(text,), table=table)
    figure = shown({"image/svg+xml": SVG}, alt=f"a{text}")
    reader = printed(press, code(block(item)), code(figure), run=replace(BOTH, dealership=text))
    assert len(elements(reader, "Table")) == 1
    assert len(elements(reader, "TD")) == 2
    assert [str(e["/Alt"]) for e in elements(reader, "Figure")] == [words(f"a{text}")]


TAGS = (
    "<table> </table> <tr> <td> <th> <td~colspan=3> <td~rowspan=9> <caption> <thead> <tfoot> <ul> "
    "<ol~start=7> <li> </li> <p> </p> <b> </b> <a~href=https://e.org> </a> <pre> <h1> <h6> <hr> "
    "<br> <img> <dl> <dt> <dd> <blockquote> <details> <summary> <div> </div> <sup> <code> </code> "
    "<script> </script> <style> </style> <svg> </svg> <!-- word & &lt; &#0;"
).split()


@settings(deadline=None, max_examples=EXAMPLES)
@given(html=st.lists(st.sampled_from(TAGS), max_size=30))
def test_any_html_can_be_printed(press: Press, html: list[str]) -> None:
    reader = printed(press, code(shown({"text/html": "".join(html).replace("~", " ")})))
    assert "How this report was made" in text_of(reader)


def test_deep_and_long_html_is_printed_too(press: Press) -> None:
    deep = "<div><ul><li>" * 400 + "deepest"
    word = "long" * 200
    text = text_of(printed(press, code(shown({"text/html": f"{deep}<p>{word}"})), markdown(word)))
    assert "deepest" in text
    assert flat(text).count(word) == 2


# --- tags, and the same bytes --------------------------------------------------------------------


def test_the_file_is_tagged_for_a_screen_reader(press: Press) -> None:
    reader = printed(
        press, markdown("# T\n\nIntro\n\n- a\n\n## S"), code(shown({"image/svg+xml": SVG}))
    )
    root: Any = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en-GB"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert "/Outlines" in root
    assert b"pdfuaid:part" in root["/Metadata"].get_object().get_data()
    assert [str(e["/Alt"]) for e in elements(reader, "Figure")] == ["Figure: S"]
    assert elements(reader, "L")
    assert elements(reader, "P")
    assert all("/StructParents" in page for page in reader.pages)


def test_the_same_report_has_the_same_bytes(press: Press) -> None:
    cells = [markdown("# T\n\n漢字 😀 № ₽"), code(shown({"image/png": png()}, alt="A"))]
    once = printed_bytes(press, *cells)
    printed(press, markdown("# Another"))
    assert printed_bytes(press, *cells) == once
    assert printed_bytes(Press(), *cells) == once


def test_solutions_of_a_lesson_stand_at_the_end(press: Press) -> None:
    exercise = code(stream("tried"), source="tried = ...", tags=("exercise",))
    solution = code(stream("forty-two"), source="answer = 42", tags=("solution",))
    text = text_of(
        printed(press, markdown("# T\n\n## One"), exercise, solution, markdown("## Two\n\nLast."))
    )
    order = ["tried = ...", "at the end of this document", "Last.", "Solutions", "answer = 42"]
    places = [text.rfind(said) for said in order]  # the contents name the sections first
    assert -1 not in places
    assert places == sorted(places)
    assert text.count("answer = 42") == text.count("forty-two") == 1


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_report_that_failed_says_so_on_paper_too(press: Press) -> None:
    notebook = nbformat.v4.new_notebook(cells=[markdown("# Title")])  # type: ignore[no-untyped-call]
    failure = Failure("cell", "No #data.", "Get some.", 3, 9, 2, "a = 1\nb = x\nc = 3", "Trace\x1b")
    reader = PdfReader(io.BytesIO(press.failure(notebook, BOTH, FACTS, failure)))
    text = text_of(reader)
    for said in ("Title", "could not be made", "No #data.", "cell 3 of 9, line 2", "b = x"):
        assert said in text
    for said in ("What to do next. Get some.", "Trace", "retention.ipynb"):
        assert said in text


def test_a_pdf_without_its_typesetter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "crm_analysis.reporting.plan.find_spec",
        lambda name: None if name == "typst" else find_spec(name),
    )
    check_formats(("html",), "The report 'x'")
    with pytest.raises(ReportError, match="'x' is to be made as PDF, and the package 'typst'"):
        check_formats(("html", "pdf"), "The report 'x'")
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(ReportError, match="'typst', which makes it, is not installed"):
        Press()


def test_a_refusal_of_the_compiler_is_told(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crm_analysis.reporting.pdf.press.STANDARD", "1.4")
    broken = Press()
    monkeypatch.setattr(Press, "_template", b"#panic(1)")
    with pytest.raises(ReportError, match=r"The PDF could not be set: panicked with: 1"):
        printed(broken, markdown("# T"))


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose kernel is not needed: the notebook is there, executed."""
    notebook = nbformat.v4.new_notebook(cells=[markdown("# T")])  # type: ignore[no-untyped-call]
    made = Worker(tmp_path, tmp_path, isolate=False, tell=lambda _message: None)
    made.exporter = make_exporter()
    monkeypatch.setattr(made, "_ready_kernel", lambda _folder: None)
    monkeypatch.setattr(made, "_is_worn", lambda _kernel: False)
    monkeypatch.setattr(
        "crm_analysis.reporting.worker.execute", lambda _run, _kernel, *, root: (notebook, None)
    )
    return made


def job_for(folder: Path, formats: tuple[str, ...]) -> dict[str, Any]:
    facts = replace(FACTS, links={"pdf": "t.en.pdf"} if len(formats) == 2 else {})
    job = Job(replace(RUN, formats=formats), facts.to_json(), folder / "out" / "t.en.html")
    return dict(json.loads(job.to_line()))


@pytest.mark.parametrize("formats", [("html",), ("pdf",), ("html", "pdf")])
def test_a_worker_writes_the_formats_asked_for(
    worker: Worker, tmp_path: Path, formats: tuple[str, ...]
) -> None:
    assert worker.make(job_for(tmp_path, formats))["status"] == "made"
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted(f"t.en.{name}" for name in formats)


def test_a_pdf_that_cannot_be_made_leaves_the_page_and_is_told(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.make(job_for(tmp_path, ("pdf",)))["status"] == "made"
    assert worker.make(job_for(tmp_path, ("html", "pdf")))["status"] == "made"
    page = tmp_path / "out" / "t.en.html"
    assert 'href="t.en.pdf"' in page.read_text()

    def refuse(*_asked: object) -> bytes:
        raise ReportError("No ink.")

    monkeypatch.setattr(Press, "report", refuse)
    result = worker.make(job_for(tmp_path, ("html", "pdf")))
    assert result["status"] == "failed"
    assert result["failure"]["kind"] == "pdf"
    assert result["failure"]["message"] == "No ink."
    assert list((tmp_path / "out").iterdir()) == [page]
    assert 'href="t.en.pdf"' not in page.read_text()


@pytest.mark.notebook
def test_a_batch_makes_both_and_makes_again_what_is_missing(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    write_notebook(root / "notebooks" / "toy.ipynb", [("markdown", "# Toy"), ("code", "6 * 7")])
    plan = root / "reports" / "plan.toml"
    plan.write_text('notebooks = ["toy"]\nformats = ["html", "pdf"]\n', encoding="utf-8")
    first = make_batch(open_batch(plan), workers=1)
    assert first.count("made") == 1
    paths = [first.out / path for path in first.outcomes[0].run.paths.values()]
    assert [path.name for path in paths] == ["toy.en.html", "toy.en.pdf"]
    assert "42" in text_of(PdfReader(paths[1]))
    once = paths[1].read_bytes()
    assert open_batch(plan).count("unchanged") == 1
    paths[1].unlink()
    assert make_batch(open_batch(plan), workers=1, isolate=True).count("made") == 1
    assert paths[1].read_bytes() == once


def test_the_template_travels_with_the_package() -> None:
    import crm_analysis.reporting.pdf as package

    assert (Path(package.__file__).parent / "report.typ").is_file()
