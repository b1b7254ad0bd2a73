from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_analysis.reporting.clean import PageState, clean


def cleaned(html: str) -> str:
    return clean(html, PageState(title="T")).html


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>a<script>alert(1)</script>b</p>", "<p>ab</p>"),
        ("<p onclick=x() class=c>a</p>", '<p class="c">a</p>'),
        ("<iframe src='https://x'>inside</iframe>after", "after"),
        ("<a href='javascript:x()'>a</a>", "<a>a</a>"),
        ("<a href='#s1'>a</a>", '<a href="#s1">a</a>'),
        (
            "<a href='https://x.org/a'>a</a>",
            '<a>a</a> <span class="crm-address">(x.org/a)</span>',
        ),
        ("<img src='https://x.org/i.png' alt='<i>'>", "&lt;i&gt;"),
        ("<form><input value=1>text</form>", "text"),
        ("<p style='color:red'>a</p>", '<p style="color:red">a</p>'),
        ("<p style='background:url(//x)'>a</p>", "<p>a</p>"),
        ("<p style='position:fixed'>a</p>", "<p>a</p>"),
        ("<style>p{color:red}</style>", "<style>p{color:red}</style>"),
        ("<style>@import '//x'</style>", "<style></style>"),
        ("<b>open", "<b>open</b>"),
        ("</b>closed", "closed"),
        ("a &lt;script&gt; &amp; b", "a &lt;script&gt; &amp; b"),
        ("<svg viewBox='0 0 1 1'><path d='M0 0' onload='x'/></svg>",
         '<svg viewbox="0 0 1 1"><path d="M0 0"></path></svg>'),
        ("<meta http-equiv=refresh content='0;//x'>", ""),
        ("<object data=x><p>inside</p></object>", ""),
    ],
)  # fmt: skip
def test_only_what_may_stand_on_a_page_is_written(html: str, expected: str) -> None:
    assert cleaned(html) == expected


def test_headings_get_anchors_and_never_skip_a_level() -> None:
    state = PageState()
    html = clean("<h1 id='s9'>A <b>b</b></h1><h4>C</h4><h2>Д</h2>", state).html
    assert html == '<h2 id="s1">A <b>b</b></h2><h3 id="s2">C</h3><h2 id="s3">Д</h2>'
    assert [(h.anchor, h.level, h.text) for h in state.headings] == [
        ("s1", 2, "A b"),
        ("s2", 3, "C"),
        ("s3", 2, "Д"),
    ]


def test_tables_get_one_box_and_figures_a_description() -> None:
    state = PageState(title="T")
    image = "<img src='data:image/png;base64,AAAA'>"
    html = clean(f"<h2>Sales</h2><table><tr><td><table></table></table>{image}", state).html
    assert html.count('class="crm-table"') == 1
    assert 'aria-label="Table: Sales"' in html
    assert 'alt="Figure: Sales"' in html
    assert (state.tables, state.figures) == (1, 1)
    boxed = clean('<div class="crm-table"><table></table></div>', state).html
    assert boxed.count('class="crm-table"') == 1


@given(st.text(alphabet="<>/\"'= abscriptonlm&;#!-\\u:h", max_size=80))
def test_no_text_can_become_a_script(text: str) -> None:
    html = cleaned(text).casefold()
    assert "<script" not in html
    assert "<iframe" not in html
    again = cleaned(html)
    assert cleaned(again) == again
