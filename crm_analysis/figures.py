"""Marks: a tidy table and an Axes in, ink out. Knows columns, not customers.

Colours are the Okabe-Ito palette, which readers who see few colours can tell apart; the same
group gets the same colour in every figure of a page, because colours follow sorted names.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from crm_analysis.wording import Unit, _, amount, month_text, number, percent, word_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

__all__ = [
    "LARGEST_SVG_BYTES",
    "MAX_CURVES",
    "bars",
    "calibration",
    "curve",
    "drawn",
    "heatmap",
    "height_for",
    "histogram",
    "house_style",
    "inked",
    "new_axes",
    "points",
    "ratio_axis",
    "time_axis",
    "whole_ticks",
    "write_units",
]

MAX_CURVES = 7
"""More curves than this on one Axes cannot be told apart."""

_STYLE = Path(__file__).with_name("house.mplstyle")
_ROW_INCHES = 0.36
_CLOSE_ROW_INCHES = 0.28
_AIRY_ROWS = 12
_PAD = 0.3
"""Margin around a figure, in sizes of its letters."""

_TITLE_LETTERS = 52
"""A longer title is wrapped."""

_ROOM_LETTERS = 16
"""Labels of rows so long leave a title its letters; each further one takes part of one away."""

_LETTER_OF_TITLE = 0.75
"""A letter of a label is so much as wide as one of a title."""

_LABEL_LETTERS = 40

_TICK_STEPS = (1, 2, 5, 10)
"""Ticks stand on round numbers: 10, 20, 30 and not 8, 16, 24."""

LARGEST_SVG_BYTES = 200_000
"""A figure whose drawing is larger than this is kept as a picture."""

_PNG_DPI = 160
_HASHED_ID = re.compile(rb'id="([a-zA-Z][0-9a-f]{10})"')
_HASHED_NAME = re.compile(rb'(?<=["#])[a-zA-Z][0-9a-f]{10}(?=["\)])')
_MISSING_LETTER = r"Glyph .* missing from font"


def house_style() -> AbstractContextManager[None]:
    """Return a ``with`` block in which figures look like ours; the style of before returns."""
    import matplotlib.style

    return matplotlib.style.context(_house_settings())


@cache
def _house_settings() -> dict[str, Any]:
    """Return what the file of our style says, read once."""
    from matplotlib import rc_params_from_file

    settings = rc_params_from_file(_STYLE, use_default_template=False)
    return {str(name): value for name, value in settings.items()}


def new_axes(ax: Axes | None = None) -> Axes:
    """Return `ax`, or a fresh Axes that a notebook shows by itself."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    with house_style():
        _, fresh = plt.subplots()
    return fresh


def drawn(draw: Callable[[Axes], object], *, height: float | None = None) -> bytes:
    """Draw on a figure of its own and return it as SVG bytes, the same on every run.

    Parameters
    ----------
    draw : callable
        Receives an Axes and puts ink on it, such as ``estimates.plot``.
    height : float, optional
        Height in inches when the house's does not suit (many rows).
    """
    from matplotlib.figure import Figure

    from crm_analysis.svg import svg_of

    with _drawing():
        figure = Figure()
        _put_ink(figure, draw, height)
        return _with_plain_ids(svg_of(figure))


def _with_plain_ids(drawing: bytes) -> bytes:
    """Number the parts of a drawing instead of naming them by a hash of unrounded positions.

    A sum over threads may differ in its last bit from run to run. The ink does not show that, and
    the drawing's bytes shall not either.
    """
    found = dict.fromkeys(_HASHED_ID.findall(drawing))
    numbered = {name: b"%s%d" % (name[:1], number) for number, name in enumerate(found)}
    return _HASHED_NAME.sub(lambda match: numbered.get(match[0], match[0]), drawing)


def inked(
    draw: Callable[[Axes], object], *, height: float | None = None
) -> tuple[bytes, Literal["image/svg+xml", "image/png"]]:
    """Draw as `drawn` does, or as a picture where the drawing would be too large for a page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = drawn(draw, height=height)
    if len(drawing) <= LARGEST_SVG_BYTES:
        return drawing, "image/svg+xml"
    with _drawing():
        figure = Figure()
        FigureCanvasAgg(figure)
        buffer = io.BytesIO()
        _put_ink(figure, draw, height)
        figure.savefig(buffer, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return buffer.getvalue(), "image/png"


@contextmanager
def _drawing() -> Iterator[None]:
    """Look like ours, and say nothing of a letter that the font lacks.

    It is drawn as a box; the words beside the figure have it.
    """
    with house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MISSING_LETTER, UserWarning)
        yield


def _put_ink(figure: Figure, draw: Callable[[Axes], object], height: float | None) -> None:
    from matplotlib.layout_engine import TightLayoutEngine

    if height is not None:
        figure.set_figheight(height)
    draw(figure.add_subplot())
    for ax in figure.axes:
        _wrap_title(ax)
        _leave_unmeasured(ax)
    if len(figure.axes) == 1:
        # With nothing to align, one look at the words is enough; the house's engine takes two,
        # and so does this one unless it is given no rectangle to fill.
        figure.set_layout_engine(TightLayoutEngine(pad=_PAD, rect=None))  # type: ignore[arg-type]


def _wrap_title(ax: Axes) -> None:
    import matplotlib as mpl
    from matplotlib.ticker import ScalarFormatter

    where = mpl.rcParams["axes.titlelocation"]
    # Only a power of ten over the axis, which our own units never write, would move a title up:
    # matplotlib looks for it by measuring every label of the axis at each turn.
    at = None if isinstance(ax.yaxis.get_major_formatter(), ScalarFormatter) else 1.0
    if ax.xaxis.get_ticks_position() != "bottom":
        at = None
    ax.set_title(fill(ax.get_title(loc=where), _title_letters(ax)), loc=where, y=at)


def _title_letters(ax: Axes) -> int:
    """Return how many letters of a title fit over the axes, beside the labels of its rows."""
    from matplotlib.ticker import FixedLocator

    if not isinstance(ax.yaxis.get_major_locator(), FixedLocator):
        return _TITLE_LETTERS
    lines = [line for label in ax.get_yticklabels() for line in label.get_text().splitlines()]
    beyond = max(map(len, lines), default=0) - _ROOM_LETTERS
    return _TITLE_LETTERS - max(0, round(_LETTER_OF_TITLE * beyond))


def _leave_unmeasured(ax: Axes) -> None:
    """Fix where an axis would have its words if it had any: else each look measures its ticks."""
    for axis in (ax.xaxis, ax.yaxis):
        if not axis.get_label_text():
            axis.set_label_coords(0, 0)


def write_units(ax: Axes, unit: Unit, *, axis: str = "y", currency: str | None = None) -> None:
    """Write the ticks of an axis the way its unit is read, in the reader's language."""
    from matplotlib.ticker import MaxNLocator

    which = ax.yaxis if axis == "y" else ax.xaxis
    whole = unit in ("count", "money")
    which.set_major_locator(MaxNLocator(nbins=6, integer=whole, steps=_TICK_STEPS))

    which.set_major_formatter(_unit_text(unit, currency))
    if unit == "gap":  # its numbers alone would be taken for shares
        which.set_label_text(_("percentage points"))
    if unit == "share" and axis == "x":
        _keep_shares(ax)


_OF_HUNDRED = ("share", "gap")
"""Units kept as fractions, and read in hundredths."""


def _keep_shares(ax: Axes) -> None:
    """Let an axis of shares not go on beyond all or nothing where no value does."""
    (least, most), (left, right) = ax.dataLim.intervalx, ax.get_xlim()
    room = 0.02 * (right - left)
    if 0 <= least <= most <= 1:
        ax.set_xlim(max(left, -room), min(right, 1 + room))


def _unit_text(unit: Unit, currency: str | None) -> Formatter:
    """Return what writes ticks in a unit: as many decimals as tell all of them apart."""
    from matplotlib.ticker import Formatter

    class UnitText(Formatter):
        digits = 0

        def set_locs(self, locs: Any) -> None:
            super().set_locs(locs)
            scale = 100 if unit in _OF_HUNDRED else 1
            self.digits = _digits_between([scale * float(tick) for tick in locs])

        def __call__(self, x: float, _pos: int | None = None) -> str:
            if unit == "money":
                return amount(x, unit, currency=currency)
            if unit == "gap":
                return number(100 * x, self.digits)
            return (percent if unit == "share" else number)(x, self.digits)

    return UnitText()


def _digits_between(ticks: Sequence[float]) -> int:
    """Return how many decimals write every tick exactly, so that no two read alike."""
    return next((digits for digits in range(4) if all(_is_whole(t, digits) for t in ticks)), 4)


def _is_whole(tick: float, digits: int) -> bool:
    scaled = tick * 10**digits
    return bool(abs(scaled - round(scaled)) < 1e-6)


def whole_ticks(ax: Axes, step: int) -> None:
    """Put the ticks of the x axis on whole multiples of `step`, such as years of months."""
    from matplotlib.ticker import MaxNLocator, MultipleLocator

    longest = ax.get_xlim()[1]
    if longest < 2 * step:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        return
    every = max(1, round(longest / step / 10))
    ax.xaxis.set_major_locator(MultipleLocator(step * every))


def month_axis(ax: Axes) -> None:
    """Write the dates of the x axis as months, in the reader's language, the year beneath."""
    from matplotlib.dates import num2date
    from matplotlib.ticker import FuncFormatter

    def written(at: float, _place: int | None) -> str:
        day = num2date(at).date()  # type: ignore[no-untyped-call]
        return "\n".join(month_text(day, short=True).rsplit(" ", 1))

    ax.xaxis.set_major_formatter(FuncFormatter(written))


def time_axis(
    ax: Axes, table: pl.DataFrame, *, x: str, n: str, label: str, step: int, by: Sequence[str] = ()
) -> None:
    """Write under a time axis from zero how many are behind each curve, at each of its ticks.

    Parameters
    ----------
    table : polars DataFrame
        The table that `curve` has drawn, with the numbers in column `n`.
    label : str
        The words before the numbers.
    step : int
        Ticks stand on whole multiples of it.
    """
    ax.set_xlim(left=0)
    whole_ticks(ax, step)
    if table.is_empty():
        return
    low, high = ax.get_xlim()
    ticks = [float(t) for t in ax.get_xticks() if low <= t <= high]
    ax.set_xticks(ticks)
    colours = [line.get_color() for line in ax.lines]
    for row, ((_name, part), colour) in enumerate(
        zip(_groups(table, by)[:MAX_CURVES], colours, strict=False)
    ):
        known = dict(part.select(x, n).iter_rows())
        for tick in ticks:
            _write_below(ax, tick, row, number(known.get(tick, 0)), colour, "center")
    _write_below(ax, low, -1, label, "#444444", "left")


def _write_below(ax: Axes, x: float, row: int, text: str, colour: Any, align: str) -> None:
    ax.annotate(
        text, (x, 0), xycoords=("data", "axes fraction"), xytext=(0, -55 - 12 * row),
        textcoords="offset points", ha=align, va="top", fontsize=8.5, color=colour,
        annotation_clip=False,
    )  # fmt: skip


def _groups(table: pl.DataFrame, by: Sequence[str]) -> list[tuple[str, pl.DataFrame]]:
    if not by:
        return [("", table)]
    parts = table.partition_by(list(by), maintain_order=True, as_dict=True)
    return [(" · ".join(word_of(v) for v in key), part) for key, part in parts.items()]


def curve(
    table: pl.DataFrame,
    *,
    x: str,
    ax: Axes,
    y: str = "estimate",
    by: Sequence[str] = (),
    step: bool = False,
    band: bool = True,
) -> Axes:
    """Draw one line per group with its interval as a band, labelled at its end.

    Parameters
    ----------
    table : polars DataFrame
        Columns `x`, `y`, those of `by`, and ``conf_low``, ``conf_high`` when `band`.
    step : bool
        Whether the value holds until the next row, as a survival curve does.
    """
    how = "steps-post" if step else "default"
    for label, part in _groups(table, by)[:MAX_CURVES]:
        known = part.drop_nulls(y)
        (line,) = ax.plot(known[x], known[y], drawstyle=how, label=_fitted(label) or None)
        if band:
            inside = known.drop_nulls(["conf_low", "conf_high"])
            ax.fill_between(
                inside[x].to_numpy(),
                inside["conf_low"].to_numpy(),
                inside["conf_high"].to_numpy(),
                step="post" if step else None,
                color=line.get_color(),
                alpha=0.16,
                linewidth=0,
            )
    if by and ax.lines:
        ax.legend(loc="best")
    return ax


def points(
    table: pl.DataFrame,
    *,
    label: str,
    ax: Axes,
    value: str = "estimate",
    reference: float | None = None,
) -> Axes:
    """Draw one point with its interval per row, the first row at the top.

    Parameters
    ----------
    table : polars DataFrame
        Columns `label`, `value`, ``conf_low`` and ``conf_high``.
    reference : float, optional
        A value to compare with, drawn as a quiet vertical line.
    """
    rows = range(table.height)
    if reference is not None:
        ax.axvline(reference, color="#999999", linewidth=1, linestyle="--", zorder=1)
    for row, low, high in zip(rows, table["conf_low"], table["conf_high"], strict=True):
        if low is not None and high is not None:
            ax.plot([low, high], [row, row], color="C0", linewidth=2.2, alpha=0.55, zorder=2)
    known = [(v, r) for v, r in zip(table[value], rows, strict=True) if v is not None]
    # A point on the edge of the axes is drawn whole, not by half.
    at, rows_at = zip(*known, strict=True) if known else ((), ())
    ax.scatter(at, rows_at, color="C0", zorder=3, clip_on=False)
    _label_rows(ax, table[label].to_list())
    return ax


def calibration(table: pl.DataFrame, *, x: str, ax: Axes, y: str = "estimate") -> Axes:
    """Draw observed shares with their intervals over predicted ones, and the line of agreement.

    Parameters
    ----------
    table : polars DataFrame
        Columns `x`, `y`, ``conf_low`` and ``conf_high``.
    """
    known = table.drop_nulls([x, y])
    most = max([1e-9, *known[x], *known["conf_high"].drop_nulls()])
    ax.plot([0, most], [0, most], color="#999999", linewidth=1, linestyle="--", zorder=1)
    for at, low, high in known.select(x, "conf_low", "conf_high").iter_rows():
        if low is not None and high is not None:
            ax.plot([at, at], [low, high], color="C0", linewidth=2.2, alpha=0.55, zorder=2)
    ax.scatter(known[x].to_list(), known[y].to_list(), color="C0", zorder=3, clip_on=False)
    ax.set_xlim(0, 1.05 * most)
    ax.set_ylim(0, 1.05 * most)
    write_units(ax, "share")
    write_units(ax, "share", axis="x")
    return ax


def ratio_axis(ax: Axes) -> None:
    """Give the x axis the scale of ratios, on which a half and a double lie as far from one."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.set_xscale("log")
    low, high = ax.get_xlim()
    steps = [s * 10.0**e for e in range(-6, 7) for s in (1, 1.5, 2, 3, 5, 7)]
    inside = [step for step in steps if low <= step <= high]
    few = inside if len(inside) <= 9 else [step for step in inside if f"{step:e}"[0] in "125"]
    ax.xaxis.set_major_locator(FixedLocator(few[:: max(1, len(few) // 9)] or [1.0]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, _decimals(value))))


def _decimals(value: float) -> int:
    return next((digits for digits in range(4) if _is_whole(value, digits)), 4)


def bars(
    table: pl.DataFrame,
    *,
    label: str,
    value: str,
    ax: Axes,
    text: Callable[[Any], str] | None = None,
    interval: bool = True,
) -> Axes:
    """Draw one horizontal bar per row from zero, with its interval, the first at the top.

    Parameters
    ----------
    table : polars DataFrame
        Columns `label`, `value`, and ``conf_low``, ``conf_high`` when `interval`.
    text : callable, optional
        Writes a bar's value beside it.
    """
    values = [0.0 if v is None else float(v) for v in table[value]]
    rows = range(table.height)
    ax.barh(list(rows), values, color="C0", height=0.62, alpha=0.9)
    ends = list(values)
    if interval:
        for row, low, high in zip(rows, table["conf_low"], table["conf_high"], strict=True):
            if low is not None and high is not None:
                ax.plot([low, high], [row, row], color="#222222", linewidth=1.4)
                ends[row] = max(ends[row], float(high))
    if text is not None:
        for row, shown in zip(rows, table[value], strict=True):
            ax.annotate(
                text(shown), (ends[row], row), xytext=(6, 0), textcoords="offset points",
                va="center", fontsize=9.5, color="#333333",
            )  # fmt: skip
        ax.margins(x=0.16)
    _label_rows(ax, table[label].to_list())
    lows = [low for low in table["conf_low"] if low is not None] if interval else []
    ax.set_xlim(left=min([0.0, *values, *lows]))
    return ax


def _fitted(label: object) -> str:
    """Cut the lines of a label that would leave no room for the ink; the table has it whole."""
    lines = str(label).split("\n")
    return "\n".join(
        line if len(line) <= _LABEL_LETTERS else f"{line[: _LABEL_LETTERS - 1]}…" for line in lines
    )


def _label_rows(ax: Axes, labels: Sequence[object]) -> None:
    ax.set_yticks(range(len(labels)), [_fitted(label) for label in labels])
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def height_for(n_rows: int) -> float:
    """Return the height in inches at which `n_rows` labelled rows read well."""
    airy = min(n_rows, _AIRY_ROWS)  # many rows stand closer, or they would not fit on a sheet
    return max(2.2, 1.1 + _ROW_INCHES * airy + _CLOSE_ROW_INCHES * (n_rows - airy))


def histogram(table: pl.DataFrame, *, left: str, width: float, count: str, ax: Axes) -> Axes:
    """Draw counted bins: `left` edges of one `width`, and the `count` in each."""
    ax.bar(table[left], table[count], width=width, align="edge", color="C0", linewidth=0.4,
           edgecolor="white")  # fmt: skip
    ax.grid(visible=False, axis="x")
    return ax


def heatmap(
    table: pl.DataFrame,
    *,
    row: str,
    column: str,
    ax: Axes,
    value: str = "estimate",
    unit: Unit = "share",
) -> Axes:
    """Draw a matrix of values; cells of which nothing is known stay empty."""
    import numpy as np

    rows = table[row].unique(maintain_order=True).to_list()
    columns = sorted(table[column].unique().to_list())
    grid = np.full((len(rows), len(columns)), np.nan)
    for r, c, v in table.select(row, column, value).iter_rows():
        if v is not None:
            grid[rows.index(r), columns.index(c)] = v
    image = ax.imshow(np.ma.masked_invalid(grid), aspect="auto", cmap="Blues", vmin=0)
    ax.set_yticks(range(len(rows)), [_fitted(r) for r in rows])
    every = max(1, len(columns) // 12)
    ax.set_xticks(range(0, len(columns), every), [str(c) for c in columns[::every]])
    ax.grid(visible=False)
    # Part of the axes, so that there is nothing to align: aligning takes longer than drawing.
    beside = ax.inset_axes((1.03, 0.075, 0.03, 0.85))
    scale = ax.figure.colorbar(image, cax=beside)
    scale.outline.set_visible(False)
    write_units(scale.ax, unit)
    return ax
