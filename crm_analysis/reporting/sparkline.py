"""A key figure over time as a line the size of a word: inline SVG with words for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from typing import Any

from crm_analysis.wording import _, amount, date_text, number

__all__ = ["sparkline"]

_WIDTH, _HEIGHT, _MARGIN = 84, 24, 3
_MOST_POINTS = 24


def sparkline(label: str, rows: Sequence[Mapping[str, Any]], *, currency: str | None) -> str:
    """Draw how a key figure went, with its interval as a band.

    Parameters
    ----------
    label : str
        What the figure is, for those who hear the line instead of seeing it.
    rows : sequence of mapping
        `as_of` (ISO), `estimate`, `conf_low`, `conf_high`, `unit`, in the order of time; the
        newest are drawn.
    currency : str or None
        ISO code, for money.

    Returns
    -------
    str
        An `<svg>`; empty where fewer than two values are known.
    """
    known = [row for row in rows if row["estimate"] is not None][-_MOST_POINTS:]
    if len(known) < 2:
        return ""
    x_of, y_of = _scales(known)
    line = " ".join(f"{x_of(row):.1f},{y_of(row['estimate']):.1f}" for row in known)
    last = known[-1]
    return (
        f'<svg class="spark" role="img" aria-label="{escape(_words(label, known, currency))}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f'{_band(known, x_of, y_of)}<polyline points="{line}"/>'
        f'<circle cx="{x_of(last):.1f}" cy="{y_of(last["estimate"]):.1f}" r="2.5"/></svg>'
    )


def _scales(rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    days = [date.fromisoformat(row["as_of"]).toordinal() for row in rows]
    names = ("estimate", "conf_low", "conf_high")
    values = [row[name] for row in rows for name in names if row[name] is not None]
    low, high = min(values), max(values)
    wide, tall = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN

    def x_of(row: Mapping[str, Any]) -> float:
        day = date.fromisoformat(row["as_of"]).toordinal()
        return _MARGIN + wide * (day - days[0]) / max(days[-1] - days[0], 1)

    def y_of(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return _MARGIN + tall * (1 - share)

    return x_of, y_of


def _band(rows: Sequence[Mapping[str, Any]], x_of: Any, y_of: Any) -> str:
    bounded = [row for row in rows if row["conf_low"] is not None and row["conf_high"] is not None]
    if len(bounded) < len(rows):
        return ""
    above = [f"{x_of(row):.1f},{y_of(row['conf_high']):.1f}" for row in rows]
    below = [f"{x_of(row):.1f},{y_of(row['conf_low']):.1f}" for row in reversed(rows)]
    return f'<polygon points="{" ".join(above + below)}"/>'


def _words(label: str, rows: Sequence[Mapping[str, Any]], currency: str | None) -> str:
    first, last = rows[0], rows[-1]
    values = [amount(row["estimate"], row["unit"], currency=currency) for row in (first, last)]
    days = [date_text(date.fromisoformat(row["as_of"])) for row in (first, last)]
    return _(
        "{label}: {first} on {first_day}, {last} on {last_day}; values drawn: {n}",
        label=label,
        first=values[0],
        first_day=days[0],
        last=values[1],
        last_day=days[1],
        n=number(len(rows)),
    )
