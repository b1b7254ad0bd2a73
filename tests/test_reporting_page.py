from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from pypdf import PdfReader

from crm_analysis.blocks import Block, BlockFigure, BlockTable, Column, KeyFigure
from crm_analysis.reporting.cells import steady
from crm_analysis.reporting.execute import Failure
from crm_analysis.reporting.pdf import Press
from crm_analysis.reporting.plan import Run
from crm_analysis.reporting.render import Facts, Page, make_exporter, render_failure, render_report
from crm_analysis.wording import speaking

if TYPE_CHECKING:
    from nbconvert.exporters.templateexporter import TemplateExporter

EVIL = "<script>alert('x')</script>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
FACTS = Facts("ab" * 32, {"dealership": "North", "top": [1, 2]}, {"top": "cd" * 32}, "2026-06-30")
RUN = Run("retention", "notebooks/retention.ipynb", "north/retention.en.html", dealership="North")


class Elements(HTMLParser):
    """Collects the elements of a page and the text of some of them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def exporter() -> TemplateExporter:
    return make_exporter()


def markdown(source: str) -> Any:
    return nbformat.v4.new_markdown_cell(source)  # type: ignore[no-untyped-call]


def code(*outputs: Any, source: str = "1", tags: tuple[str, ...] = (), **metadata: str) -> Any:
    cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
    cell.outputs = list(outputs)
    cell.metadata.update({"tags": list(tags), **metadata})
    return cell


def shown(data: dict[str, Any], kind: str = "execute_result", **metadata: str) -> Any:
    return nbformat.v4.new_output(kind, data, metadata=metadata)  # type: ignore[no-untyped-call]


def stream(text: str, name: str = "stdout") -> Any:
    return nbformat.v4.new_output("stream", name=name, text=text)  # type: ignore[no-untyped-call]


def block(item: Block) -> Any:
    return shown(item._repr_mimebundle_())


def page_of(exporter: TemplateExporter, *cells: Any, run: Run = RUN) -> Page:
    notebook = nbformat.v4.new_notebook(cells=list(cells))  # type: ignore[no-untyped-call]
    with speaking(run.lang):
        return render_report(notebook, run, FACTS, exporter)


def test_the_page_says_what_whose_when_and_how_it_was_made(exporter: TemplateExporter) -> None:
    page = page_of(exporter, markdown(f"# How long? {EVIL} & *why*\n\nIntro."), markdown("## One"))
    assert "<h1>How long?" in page.html
    assert page.html.count("How long?") == 2  # the title and the heading, not the body again
    for text in ("North", "30 June 2026", "retention.ipynb · abababababab", "cdcdcdcdcdcd"):
        assert text in page.html
    assert "nbconvert " in page.html
    assert "top = 1, 2" in page.html
    assert '<html lang="en">' in page.html
    assert "http-equiv" in page.html
    assert page.summary["title"].startswith("How long?")


def test_ordinary_outputs_survive_and_are_counted(exporter: TemplateExporter) -> None:
    table = "<table><tr><td>1</td></tr></table>"
    png = base64.b64encode(b"png").decode()
    page = page_of(
        exporter,
        markdown("# T\n\n| a |\n|---|\n| 1 |"),
        code(shown({"text/html": table, "text/plain": "x"})),
        code(shown({"text/html": table}, "display_data"), shown({"image/png": png})),
        code(shown({"image/svg+xml": SVG, "text/plain": "<Figure>"}, "display_data")),
        code(shown({"text/markdown": "## Computed\n\n**bold**"})),
        code(shown({"text/plain": "42"}), stream("printed\n"), stream("warned", "stderr")),
    )
    elements = Elements(page.html)
    assert len(elements.named("table")) == page.summary["tables"] == 3
    assert len(elements.named("img")) == page.summary["figures"] == 2
    assert all(image["alt"] for image in elements.named("img"))
    for text in ("<strong>bold</strong>", ">42<", "printed", "warned"):
        assert text in page.html


def test_blocks_become_cards_findings_and_figures(exporter: TemplateExporter) -> None:
    figure = BlockFigure(SVG.encode(), alt='Falls to "61%"', caption="Curve")
    table = BlockTable((Column("m", "Months", "integer"),), (("12",),))
    page = page_of(
        exporter,
        markdown("# T"),
        code(block(Block("key_figures", key_figures=(KeyFigure("Stay", "61%", "58-64%"),)))),
        code(block(Block("findings", findings=("One.", f"Two {EVIL}")))),
        code(block(Block(title="Q", finding="F", figure=figure, table=table, notes=("Few.",)))),
    )
    elements = Elements(page.html)
    assert [image["alt"] for image in elements.named("img")] == ['Falls to "61%"']
    assert page.summary["findings"] == ["One.", f"Two {EVIL}"]
    assert page.summary["key_figures"][0]["value"] == "61%"
    assert 'class="crm-key-figures"' in page.html
    assert len(elements.named("table")) == page.summary["tables"] == 1


def test_nothing_from_data_becomes_markup(exporter: TemplateExporter) -> None:
    page = page_of(
        exporter,
        markdown(
            f"# {EVIL}\n\n{EVIL} [link](https://outside.org/x) ![i](https://outside.org/i.png)"
        ),
        code(shown({"text/plain": EVIL}), stream(EVIL)),
        code(
            shown({"text/markdown": f"| {EVIL} |\n|---|\n| {EVIL} |\n\n[x](javascript:alert(1))"})
        ),
        code(shown({"text/html": f"<p onmouseover=x()>ok</p>{EVIL}<img src=x onerror=y>"})),
        code(shown({"image/svg+xml": SVG}, alt=f'"><b>{EVIL}')),
        code(block(Block(title=EVIL, finding=EVIL, notes=(EVIL,), definition=EVIL))),
    )
    elements = Elements(page.html)
    names = {name for name, _attributes in elements.found}
    assert not names & {"script", "iframe", "object", "embed", "link", "base", "form"}
    for name, attributes in elements.found:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("href", "src"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/"))


def test_scripted_outputs_fall_back_to_their_picture_or_words(exporter: TemplateExporter) -> None:
    png = base64.b64encode(b"png").decode()
    page = page_of(
        exporter,
        code(shown({"text/html": f"<div>chart{EVIL}</div>", "image/png": png})),
        code(shown({"text/html": EVIL, "text/plain": "chart in words"})),
    )
    assert page.summary["figures"] == 1
    assert "chart in words" in page.html


@pytest.mark.parametrize(
    "data",
    [
        {"application/vnd.plotly.v1+json": {}, "text/html": "<p>x</p><script>draw()</script>"},
        {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "IntSlider(value=5)"},
        {
            "text/html": "<script>draw()</script>",
            "text/plain": "<IPython.core.display.HTML object>",
        },
    ],
)
def test_what_a_script_would_have_drawn_is_said_on_page_and_in_print(
    exporter: TemplateExporter, data: dict[str, Any]
) -> None:
    cell = code(shown(data))
    html = page_of(exporter, cell).html
    assert "by a script; a page and its print hold still" in html
    assert not any(left in html for left in ("draw()", "f()", "IntSlider", "IPython.core"))
    with speaking("en"):
        notebook = nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
        printed = PdfReader(io.BytesIO(Press().report(notebook, RUN, FACTS)))
    assert "by a script; a page and its print" in printed.pages[0].extract_text()


def test_a_long_line_takes_no_longer_than_many_short_ones() -> None:
    long = "x" * 2_000_000  # a search anew at each letter would take hours
    assert steady(f"{long}\r\n") == f"{long}\n"
    assert steady("File /x/ipykernel_1/2.py:3 at 0x7f0123456789") == "File cell:3 at 0x…"


def test_contents_list_the_sections_by_anchor(exporter: TemplateExporter) -> None:
    page = page_of(
        exporter,
        markdown("# T\n\nIntro.\n\n## Срок & same\n\n### Inner\n\n## Срок & same"),
        code(shown({"text/markdown": "## Computed"})),
    )
    anchors = [a["href"] for a in Elements(page.html).named("a") if a.get("href") != "#main"]
    assert anchors == ["#s1", "#s3", "#s4"]
    assert page.html.index("Intro.") < page.html.index('class="contents"')
    identifiers = [a["id"] for _n, a in Elements(page.html).found if "id" in a]
    assert len(identifiers) == len(set(identifiers))


def test_code_is_absent_unless_asked_for(exporter: TemplateExporter) -> None:
    def cells() -> list[Any]:
        return [
            code(source="secret = 1", tags=("parameters",)),
            code(shown({"text/plain": "deep"}), source="look < 2", tags=("diagnostics",)),
            code(shown({"text/plain": "<Axes: title='a'>"}), source="ax"),
            code(shown({"text/plain": "[<Line2D object at 0x7f0011223344>]"}), source="ax"),
        ]

    plain = page_of(exporter, *cells()).html
    assert "secret" not in plain
    assert "deep" not in plain
    assert "Axes" not in plain
    assert "Line2D" not in plain
    shown_code = page_of(exporter, *cells(), run=Run("r", "n.ipynb", "p", show_code=True)).html
    for text in ("secret = 1", "look &lt; 2", "deep", "Line2D object at 0x…"):
        assert text in shown_code


def test_a_plain_figure_is_described_by_its_cell_or_its_heading(exporter: TemplateExporter) -> None:
    page = page_of(
        exporter,
        markdown("# T\n\n## Sales by month"),
        code(shown({"image/svg+xml": SVG})),
        code(shown({"image/svg+xml": SVG}), alt="Sales doubled"),
    )
    alts = [image["alt"] for image in Elements(page.html).named("img")]
    assert alts == ["Figure: Sales by month", "Sales doubled"]


def test_a_failure_says_what_where_and_what_next(exporter: TemplateExporter) -> None:
    failure = Failure("cell", f"No {EVIL}", "Do this.", 3, 9, 2, f"a\nb {EVIL}\nc", f"T {EVIL}")
    notebook = nbformat.v4.new_notebook(cells=[markdown("# How long?")])  # type: ignore[no-untyped-call]
    page = render_failure(notebook, RUN, FACTS, failure, exporter)
    for text in ("How long?", "cell 3 of 9", "line 2", "Do this.", "b &lt;script&gt;"):
        assert text in page.html
    assert not Elements(page.html).named("script")


def test_two_renderings_are_the_same_bytes(exporter: TemplateExporter) -> None:
    cells = [markdown("# T\n\n## A\n\ntext"), code(shown({"image/svg+xml": SVG}))]
    assert page_of(exporter, *cells).html == page_of(make_exporter(), *cells).html


def test_a_solution_is_folded_with_its_code_and_an_exercise_shows_its_code(
    exporter: TemplateExporter,
) -> None:
    page = page_of(
        exporter,
        markdown("# Lesson"),
        code(shown({"text/plain": "tried"}), source="guess = 1", tags=("exercise",)),
        code(shown({"text/plain": "solved"}), source="exact = 2", tags=("solution",)),
        code(shown({"text/plain": "plain"}), source="hidden = 3"),
    ).html
    before, _, solution = page.partition('<details class="crm-solution">')
    solution, _, after = solution.partition("</details>")
    assert "guess = 1" in before
    assert "tried" in before
    assert "<summary>Solution</summary>" in solution
    assert "exact = 2" in solution
    assert "solved" in solution
    assert "solved" not in before + after
    assert "hidden = 3" not in page
