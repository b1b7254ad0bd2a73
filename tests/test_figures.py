"""Marks: ink on the Axes given, the same bytes twice, and nothing else of the room changed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from crm_analysis.figures import (
    MAX_CURVES,
    _put_ink,
    bars,
    curve,
    drawn,
    heatmap,
    height_for,
    histogram,
    house_style,
    inked,
    month_axis,
    new_axes,
    points,
    write_units,
)
from crm_analysis.svg import svg_of
from crm_analysis.wording import Unit, percent, speaking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE = pl.DataFrame(
    {
        "label": ["Kia", "Lada", "Volvo"],
        "time": [0, 1, 2],
        "group": ["a", "a", "b"],
        "estimate": [0.2, 0.5, None],
        "conf_low": [0.1, 0.4, None],
        "conf_high": [0.3, None, None],
    }
)

MARKS: dict[str, Callable[[Axes], Axes]] = {
    "curve": lambda ax: curve(TABLE, x="time", ax=ax),
    "curves by group": lambda ax: curve(TABLE, x="time", ax=ax, by=("group",), step=True),
    "points": lambda ax: points(TABLE, label="label", ax=ax, reference=0.3),
    "bars": lambda ax: bars(TABLE, label="label", value="estimate", ax=ax, text=percent),
    "histogram": lambda ax: histogram(TABLE, left="time", width=1, count="time", ax=ax),
    "heatmap": lambda ax: heatmap(TABLE, row="group", column="time", ax=ax),
}


def axes() -> Axes:
    return Figure().add_subplot()


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_draws_on_the_axes_it_is_given_and_returns_it(mark: str) -> None:
    ax = axes()
    assert MARKS[mark](ax) is ax
    assert ax.has_data()
    assert ax.figure.axes[0] is ax


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_leaves_style_and_table_as_they_were(mark: str) -> None:
    style, table = dict(mpl.rcParams), TABLE.clone()
    MARKS[mark](axes())
    drawn(MARKS[mark])
    assert dict(mpl.rcParams) == style
    assert TABLE.equals(table)


@pytest.mark.parametrize("mark", MARKS)
def test_two_drawings_are_the_same_bytes(mark: str) -> None:
    first, second = drawn(MARKS[mark]), drawn(MARKS[mark])
    assert first == second
    assert first.startswith(b"<?xml")
    assert b"<dc:date>" not in first


EMPTY: dict[str, Callable[[Axes], Axes]] = {
    "curve": lambda ax: curve(TABLE.clear(), x="time", ax=ax),
    "curves by group": lambda ax: curve(TABLE.clear(), x="time", ax=ax, by=("group",)),
    "points": lambda ax: points(TABLE.clear(), label="label", ax=ax),
    "bars": lambda ax: bars(TABLE.clear(), label="label", value="estimate", ax=ax),
}


@pytest.mark.parametrize("mark", EMPTY)
def test_a_mark_of_nothing_is_an_empty_picture(mark: str) -> None:
    assert drawn(EMPTY[mark]).startswith(b"<?xml")


def test_the_height_of_a_drawing_can_be_set() -> None:
    tall, short = drawn(MARKS["points"], height=9), drawn(MARKS["points"], height=3)
    assert b'height="648pt"' in tall
    assert b'height="216pt"' in short
    assert height_for(3) < height_for(30)


def test_new_axes_are_ours_and_a_given_one_is_kept() -> None:
    import matplotlib.pyplot as plt

    given = axes()
    assert new_axes(given) is given
    mpl.use("svg", force=True)
    style = dict(mpl.rcParams)
    fresh = new_axes()
    assert not fresh.spines["top"].get_visible()  # the house style
    assert dict(mpl.rcParams) == style
    plt.close("all")


def test_the_house_style_ends_with_its_block_even_after_an_error() -> None:
    style = dict(mpl.rcParams)
    with house_style():
        assert dict(mpl.rcParams) != style
    assert dict(mpl.rcParams) == style
    with pytest.raises(ZeroDivisionError), house_style():
        raise ZeroDivisionError
    assert dict(mpl.rcParams) == style


def test_unknown_values_leave_a_gap_and_draw_no_interval() -> None:
    ax = points(TABLE, label="label", ax=axes())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Kia", "Lada", "Volvo"]
    assert len(ax.lines) == 1  # only the first row has both bounds
    assert np.shape(ax.collections[-1].get_offsets()) == (2, 2)


def test_the_first_row_stands_at_the_top() -> None:
    ax = points(TABLE, label="label", ax=axes())
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_bars_start_at_nought_and_keep_their_whole_interval_in_sight() -> None:
    ax = bars(TABLE.head(1), label="label", value="estimate", ax=axes(), text=percent)
    assert ax.get_xlim()[0] == 0
    assert "20.0%" in [text.get_text() for text in ax.texts]
    negative = pl.DataFrame(
        {"label": ["x"], "estimate": [-10.0], "conf_low": [-40.0], "conf_high": [20.0]}
    )
    left, right = bars(negative, label="label", value="estimate", ax=axes()).get_xlim()
    assert left <= -40
    assert right >= 20


def test_each_group_has_its_own_line_and_name_up_to_a_limit() -> None:
    many = pl.DataFrame(
        {"x": [0, 1] * 9, "group": [f"g{i}" for i in range(9) for _ in range(2)],
         "estimate": [0.5] * 18, "conf_low": [0.4] * 18, "conf_high": [0.6] * 18}
    )  # fmt: skip
    ax = curve(many, x="x", by=("group",), ax=axes())
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"g{i}" for i in range(MAX_CURVES)]
    assert len({line.get_color() for line in ax.lines}) == MAX_CURVES


def tick_texts(low: float, high: float, unit: Unit) -> list[str]:
    ax: Any = axes()
    ax.set_ylim(low, high)
    write_units(ax, unit)
    ax.figure.draw_without_rendering()
    return [text.get_text() for text in ax.get_yticklabels()]


@pytest.mark.parametrize("unit", ["share", "points", "score", "days", "number"])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.02), (4.05, 4.4), (0.4995, 0.5005)])
def test_no_two_ticks_read_alike(unit: Unit, low: float, high: float) -> None:
    texts = tick_texts(low, high, unit)
    assert len(texts) > 1
    assert len(set(texts)) == len(texts), texts


def test_ticks_are_written_as_plainly_as_they_can_be() -> None:
    assert "50%" in tick_texts(0, 1, "share") or "40%" in tick_texts(0, 1, "share")
    assert all("." not in text for text in tick_texts(-100, 100, "points"))
    with speaking("ru"):
        assert any("," in text for text in tick_texts(4.05, 4.4, "score"))


def test_ticks_stand_on_round_numbers() -> None:
    assert tick_texts(0, 0.4, "share") == ["0%", "10%", "20%", "30%", "40%"]
    assert tick_texts(0, 6, "days") == ["0", "1", "2", "3", "4", "5", "6"]


def test_a_point_on_the_edge_is_drawn_whole() -> None:
    ax: Any = axes()
    table = pl.DataFrame({"label": ["new"], "estimate": [0.0], "conf_low": [0.0], "conf_high": [1]})
    points(table, label="label", ax=ax)
    assert [marks.get_clip_on() for marks in ax.collections] == [False]


def test_months_are_written_in_the_language_of_the_reader() -> None:
    ax: Any = axes()
    ax.plot([date(2025, 1, 1), date(2026, 1, 1)], [0, 1])
    with speaking("ru"):
        month_axis(ax)
        ax.figure.draw_without_rendering()
        assert "янв.\n2025" in [text.get_text() for text in ax.get_xticklabels()]


def test_counts_have_whole_ticks() -> None:
    texts = tick_texts(0, 3, "count")
    assert texts == sorted(set(texts))
    assert all("." not in text for text in texts)


def test_the_x_axis_has_units_too() -> None:
    ax: Any = axes()
    ax.set_xlim(0, 1)
    write_units(ax, "share", axis="x")
    ax.figure.draw_without_rendering()
    assert all(text.get_text().endswith("%") for text in ax.get_xticklabels())


def test_a_drawing_too_large_for_a_page_becomes_a_picture() -> None:
    def many(ax: Axes) -> None:
        ax.scatter(range(6_000), [(i * 7919) % 1000 for i in range(6_000)])

    data, mime = inked(many)
    assert mime == "image/png"
    assert data.startswith(b"\x89PNG")
    assert inked(many) == (data, mime)
    small, kind = inked(lambda ax: ax.plot([1, 2]))
    assert kind == "image/svg+xml"
    assert small.startswith(b"<?xml")


@pytest.mark.parametrize("letters", [4, 16, 28, 40])
def test_a_long_title_beside_long_labels_stays_on_the_sheet(letters: int) -> None:
    label = ("Продажи и электронная почта – " * 2)[:letters].strip()
    table = TABLE.with_columns(label=pl.lit(label))

    def draw(ax: Axes) -> None:
        points(table, label="label", ax=ax)
        ax.set_title("Доля ответивших: сглаженные оценки с интервалом, исходные – кружками")

    with house_style():
        figure = Figure()
        FigureCanvasAgg(figure)
        _put_ink(figure, draw, None)
        figure.draw_without_rendering()
        [ax] = figure.axes
        title = ax.get_title(loc="left")
        right = next(
            text.get_window_extent().x1 for text in ax.texts + ax.get_children()
            if isinstance(text, Text) and text.get_text() == title
        )  # fmt: skip
        assert right <= figure.bbox.x1
        assert title.count("\n") <= 3


def test_noise_in_the_last_bit_leaves_the_bytes_as_they_were() -> None:
    def with_noise(noise: float) -> bytes:
        def draw(ax: Axes) -> None:
            ax.scatter([1.0 + noise, 2.0], [3.0, 4.0 - noise])
            ax.set_position((0.1 + noise, 0.1, 0.8, 0.8))

        return drawn(draw)

    plain = with_noise(0.0)
    assert plain == with_noise(1e-15)
    assert b"url(#p" in plain  # parts are still named, and found by their names
    assert set(re.findall(rb"url\(#(\w+)\)", plain)) <= set(re.findall(rb'id="(\w+)"', plain))
    assert not re.search(rb'id="[a-z][0-9a-f]{10}"', plain)


@pytest.mark.parametrize("mark", MARKS)
def test_a_drawing_is_what_matplotlib_itself_would_save(mark: str) -> None:
    """Texts are measured once for all figures, and nothing is drawn twice: no ink moves by that."""

    def saved(figure: Figure) -> bytes:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    def marked() -> Figure:
        figure = Figure()
        figure.set_layout_engine("none")
        MARKS[mark](figure.add_subplot())
        return figure

    with house_style():
        assert svg_of(marked()) == saved(marked())
