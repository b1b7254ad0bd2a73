"""Blocks: markup is escaped wherever a word can come from data; the JSON comes back whole."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from crm_analysis.blocks import (
    BLOCK_MIME,
    Block,
    BlockFigure,
    BlockTable,
    Change,
    Column,
    KeyFigure,
)
from crm_analysis.wording import speaking

EVIL = """<script>alert("x")</script>&'"<b>"""
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>'
PNG = b"\x89PNG\r\n\x1a\nrest"


class Tags(HTMLParser):
    """Collects tags, attributes and text of a fragment, and whether it is balanced."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    return tags


def full(word: str = "word", *, figure: BlockFigure | None = None) -> Block:
    return Block(
        title=f"title {word}",
        finding=f"finding {word}",
        figure=figure or BlockFigure(SVG, alt=f"alt {word}", caption=f"figure {word}"),
        table=BlockTable(
            (Column("name", f"name {word}"), Column("n", f"n {word}", "integer")),
            ((f"row {word}", "1"), (word, "2")),
            caption=f"table {word}",
        ),
        definition=f"definition {word}",
        notes=(f"note {word}",),
        key_figures=(
            KeyFigure(
                f"label {word}",
                f"value {word}",
                f"interval {word}",
                f"n {word}",
                f"d {word}",
                changes=(
                    Change("network", f"against {word}", f"+1 {word}", "up", True, f"0 to {word}"),
                ),
            ),
        ),
        findings=(f"first {word}", f"second {word}"),
    )


def test_no_word_can_become_markup() -> None:
    html = full(EVIL).to_html()
    tags = parsed(html)
    assert "script" not in tags.seen
    assert tags.seen.count("b") == 1  # the key figure's own
    # Every place where the word was put says it as it was, in text or in the alternative text.
    said = tags.text + "".join(value or "" for _, value in tags.attributes)
    assert said.count(EVIL) == 21


def test_the_parts_stand_in_the_order_a_reader_needs() -> None:
    html = full().to_html()
    parts = [
        "<h3",
        "crm-key-figures",
        "crm-finding",
        "<figure",
        "crm-notes",
        "crm-numbers",
        "crm-definition",
    ]
    places = [html.index(part) for part in parts]
    assert places == sorted(places)


def test_cautions_are_never_folded_away() -> None:
    html = full().to_html()
    folded = "".join(re.findall(r"<details.*?</details>", html, flags=re.DOTALL))
    assert "note word" in html
    assert "note word" not in folded
    assert "definition word" in folded


def test_a_notice_shows_its_table_open() -> None:
    assert "<details" not in Block(kind="notice", table=full().table).to_html()


def test_a_fragment_needs_nothing_from_outside() -> None:
    tags = parsed(full().to_html())
    links = [value for name, value in tags.attributes if name in ("src", "href")]
    assert len(links) == 1
    assert links[0] is not None
    assert links[0].startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(links[0].split(",")[1]) == SVG


def test_every_picture_has_words_and_every_column_a_side() -> None:
    tags = parsed(full().to_html())
    assert ("alt", "alt word") in tags.attributes
    assert Column("n", "n", "integer").align == "right"
    assert Column("day", "day", "date").align == "left"
    assert ("scope", "col") in tags.attributes


def test_an_empty_block_is_an_empty_section() -> None:
    assert Block().to_html() == '<section class="crm-block crm-result"></section>'
    assert Block().to_text() == ""


# --- the bundle ----------------------------------------------------------------------------------


def test_the_bundle_of_a_drawing() -> None:
    bundle = full()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", BLOCK_MIME, "image/svg+xml"}
    assert bundle["image/svg+xml"] == SVG.decode()
    assert "title word" in bundle["text/plain"]
    assert "! note word" in bundle["text/plain"]


def test_the_bundle_of_a_photograph_is_base64() -> None:
    bundle = full(figure=BlockFigure(PNG, alt="a", mime="image/png"))._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == PNG
    assert "image/svg+xml" not in bundle


def test_without_a_figure_there_is_no_image() -> None:
    bundle = Block(finding="f")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", BLOCK_MIME}


def rebuilt(data: dict[str, object]) -> Block:
    """Make the block again from its JSON, without the figure's bytes."""
    table = data["table"]
    assert table is None or isinstance(table, dict)
    return Block(
        kind=data["kind"],  # type: ignore[arg-type]
        title=data["title"],  # type: ignore[arg-type]
        finding=data["finding"],  # type: ignore[arg-type]
        definition=data["definition"],  # type: ignore[arg-type]
        notes=tuple(data["notes"]),  # type: ignore[arg-type]
        findings=tuple(data["findings"]),  # type: ignore[arg-type]
        key_figures=tuple(KeyFigure.from_json(item) for item in data["key_figures"]),  # type: ignore[attr-defined]
        table=None
        if table is None
        else BlockTable(
            tuple(Column(c["name"], c["label"], c["kind"]) for c in table["columns"]),
            tuple(tuple(row) for row in table["rows"]),
            table["caption"],
        ),
    )


@pytest.mark.parametrize("block", [full(EVIL), Block(), Block(kind="findings", findings=("a",))])
def test_json_goes_there_and_back(block: Block) -> None:
    data = json.loads(json.dumps(block.to_json()))
    assert data["version"] == 1
    assert rebuilt(data) == replace(block, figure=None)


def test_json_says_what_the_figure_is_without_its_bytes() -> None:
    data = full().to_json()
    assert data["figure"] == {"alt": "alt word", "caption": "figure word", "mime": "image/svg+xml"}
    assert data["table"]["columns"][1] == {
        "name": "n", "label": "n word", "kind": "integer", "align": "right"
    }  # fmt: skip
    assert Block().to_json()["figure"] is None


def test_json_has_every_field_of_the_contract() -> None:
    assert set(Block().to_json()) == {
        "version", "kind", "title", "finding", "figure", "table", "definition", "notes",
        "key_figures", "findings", "files",
    }  # fmt: skip


def test_a_title_is_given_without_touching_the_block() -> None:
    block = Block(title="a", finding="f")
    assert block.titled("b") == Block(title="b", finding="f")
    assert block.title == "a"


def test_a_table_whose_rows_do_not_fit_is_refused() -> None:
    crooked = Block(table=BlockTable((Column("a", "A"),), (("1", "2"),)))
    with pytest.raises(ValueError, match="zip"):
        crooked.to_html()


def test_the_words_around_follow_the_language() -> None:
    with speaking("ru"):
        assert parsed(full().to_html()).seen
