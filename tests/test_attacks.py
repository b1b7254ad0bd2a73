"""Whatever the data call things, no page has markup, script or link of theirs.

The names are what people type into a CRM by mistake, and what somebody would type on purpose.
"""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import nbformat
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pages import ROOT

from crm_analysis import Estimates, figures, findings, key_figures, to_csv
from crm_analysis.blocks import Block, BlockTable, Change, Column, KeyFigure
from crm_analysis.estimates import five_columns
from crm_analysis.reporting import make_batch, open_batch
from crm_analysis.reporting.provenance import Facts
from crm_analysis.reporting.render import make_exporter, render_report
from crm_analysis.reporting.runs import NETWORK, make_run, slug
from crm_analysis.wording import speaking

EVIL = [
    "<script>alert(1)</script>",
    '"onload="alert(1)',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "</title><svg/onload=alert(1)>",
    '=HYPERLINK("http://evil.example","Open")',
    "javascript:alert(1)",
    "[Open](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "{{ 7 * 7 }}{% for x in y %}",
    "<!-- -->]]><![CDATA[",
    "&lt;script&gt;&#106;avascript",
    "../../etc/passwd",
    "..\\..\\windows",
    "CON",
    "\u202egnp.exe\u202c",
    "a\x00b\x08\x1b[31mc",
    "$\\frac{1}{0}$ and $x$",
    "#let x = 1; @evil *bold* _it_ $x$",
    "N" * 300,
    "Ж" * 300,
    "<b>North</b>",
    "東京モーターズ 🚗",
]
HANDED_ON = {"script", "iframe", "object", "embed", "form", "base", "b", "link"}
UNSEEN = "\x00\x08\x1b\u202a\u202e\u2066"


class Markup(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def assert_harmless(html: str, *, own: frozenset[str] = frozenset()) -> Markup:
    page = Markup(html)
    for tag, attributes in page.elements:
        assert tag not in HANDED_ON - own, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "action", "xlink:href"):
                address = (value or "").strip().casefold()
                assert address.startswith(("#", "data:image/")) or ":" not in address, value
    assert not any(mark in html for mark in UNSEEN)
    return page


def hostile_block(evil: str) -> Block:
    return Block(
        title=evil,
        finding=evil,
        table=BlockTable((Column(evil, evil), Column("n", "n", "integer")), ((evil, "1"),), evil),
        definition=evil,
        notes=(evil,),
        key_figures=(
            KeyFigure(evil, evil, evil, evil, evil, key=evil,
                      changes=(Change("network", evil, evil, "up", True, evil),)),
        ),
        findings=(evil,),
    )  # fmt: skip


def page_of(evil: str) -> str:
    block = hostile_block(evil)
    shown = [
        nbformat.v4.new_output("execute_result", block._repr_mimebundle_()),  # type: ignore[no-untyped-call]
        nbformat.v4.new_output("stream", name="stdout", text=evil),  # type: ignore[no-untyped-call]
        nbformat.v4.new_output("execute_result", {"text/plain": evil}),  # type: ignore[no-untyped-call]
        nbformat.v4.new_output("execute_result", {"text/markdown": evil}),  # type: ignore[no-untyped-call]
    ]
    cell = nbformat.v4.new_code_cell("1", outputs=shown)  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
    run = make_run(
        Path("/p/notebooks/stay.ipynb"), {"by": [evil]}, takes=("dealership", "by"),
        root=Path("/p"), name="stay", dealership=evil, lang="en",
    )  # fmt: skip
    facts = Facts("ab" * 32, {"dealership": evil, "by": [evil]}, {"by": "cd"}, None, evil)
    with speaking("en"):
        return render_report(notebook, run, facts, EXPORTER).html


EXPORTER = make_exporter()


@pytest.mark.parametrize("evil", EVIL)
def test_a_page_holds_a_hostile_name_as_words(evil: str) -> None:
    # The cards' numbers stand in our own <b>.
    page = assert_harmless(page_of(evil), own=frozenset({"b"}))
    assert sum(tag == "b" for tag, _attributes in page.elements) == 1


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="<>/\"'= \t\n`$(){}[]!#&;:-\\abcdejlnoprstvx0\x00\u202e", max_size=60))
def test_no_text_at_all_becomes_markup(evil: str) -> None:
    assert_harmless(page_of(evil), own=frozenset({"b"}))


@given(st.text(max_size=400))
def test_every_name_has_a_folder_of_its_own_inside_the_batch(name: str) -> None:
    folder = slug(name)
    assert folder not in ("", ".", "..")
    assert PurePosixPath(folder).parts == (folder,)
    assert not set(folder) & set('\\/:*?"<>|\x00')
    assert len(folder.encode()) < 100
    assert slug(name) == folder


def test_long_names_that_begin_alike_do_not_share_a_folder() -> None:
    assert slug("Ж" * 200 + "a") != slug("Ж" * 200 + "b")


@pytest.mark.parametrize("evil", EVIL)
def test_a_figure_and_a_spreadsheet_take_any_name(evil: str, tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "dealership": [evil, "North"],
            **five_columns([9, 9], [0.4, 0.5], [0.1, 0.1], [0.2, 0.3], [0.6, 0.7]),
        }
    )
    answer = Estimates(table=table, name="s", unit="share", definition="d", by=("dealership",))
    drawing = figures.drawn(answer.plot).decode()
    assert "<script" not in drawing
    assert "<text" not in drawing  # letters are drawn as paths: nothing to be read as markup
    assert_harmless(answer.show().to_html())
    lines = to_csv(answer.table, tmp_path / "a.csv").read_text(encoding="utf-8-sig").splitlines()
    cell = lines[1].removeprefix('"')
    assert not cell.startswith(("=", "+", "-", "@"))


def test_the_head_of_a_page_takes_any_name() -> None:
    for evil in EVIL:
        table = pl.DataFrame(five_columns([9], [0.4], [0.1], [0.2], [0.6]))
        answer = Estimates(table=table, name=evil, unit="share", definition="d")
        assert_harmless(key_figures([answer]).to_html(), own=frozenset({"b"}))
        assert_harmless(findings(evil).to_html())


@pytest.mark.slow
@pytest.mark.notebook
def test_a_dealership_with_a_hostile_name_gets_its_reports(
    tiny_network: Path, tmp_path: Path
) -> None:
    """From the data to the page, the index and the names of files."""
    names = [
        '=HYPERLINK("javascript:alert(1)")<script>alert(1)</script>',
        '"onload="alert(1) \u202eA$\\frac$',
    ]
    data = tmp_path / "data"
    shutil.copytree(tiny_network, data, ignore=shutil.ignore_patterns("truth", ".*"))
    path = data / "dealerships.parquet"
    table = pl.read_parquet(path)
    table.with_columns(
        name=pl.Series([*names, *table["name"].to_list()[len(names) :]])
    ).write_parquet(path)
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'title = "<script>alert(1)</script>"\ndata = "{data.as_posix()}"\n'
        f'out = "{(tmp_path / "o").as_posix()}"\n'
        'notebooks = ["funnel"]\n'
        f"dealerships = {json.dumps([NETWORK, *names])}\n",
        encoding="utf-8",
    )
    batch = make_batch(open_batch(plan, root=ROOT))
    assert [o.result.get("failure") for o in batch.outcomes if o.status == "failed"] == []
    made = sorted(file for file in batch.out.rglob("*.html"))
    assert len(made) == 4
    for file in made:
        own = frozenset({"script", "form", "b"}) if file.name == "index.html" else frozenset({"b"})
        page = assert_harmless(file.read_text(encoding="utf-8"), own=own)
        assert "alert(1)" in "".join(page.words)  # as words it is there
        for _tag, attributes in page.elements:
            address = attributes.get("href") or "#"
            if not address.startswith("#"):
                assert (file.parent / unquote(address)).is_file(), address
    index = (batch.out / "index.html").read_text(encoding="utf-8")
    scripts = [1 for tag, _attributes in Markup(index).elements if tag == "script"]
    assert len(scripts) <= 1  # the index's own search
