"""A report looks back: its key figures held against what was reported last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import date
from typing import Any

from crm_analysis.blocks import BLOCK_MIME, Block, KeyFigure
from crm_analysis.changes import change, with_changes
from crm_analysis.reporting.history import in_one_money
from crm_analysis.wording import _, date_text

__all__ = ["show_reported"]


def show_reported(notebook: Any, reported: Iterable[Mapping[str, Any]]) -> None:
    """Put into an executed notebook how its key figures stand against those reported last.

    The two are held to be independent, though most of their customers are the same. That makes
    the interval of the difference too wide rather than too narrow, and a change is called one
    only where it is established all the same.

    Parameters
    ----------
    notebook : NotebookNode
        Executed; changed in place.
    reported : iterable of mapping
        As `History.reported` returns them.
    """
    before = {row["key"]: row for row in reported}
    for cell in notebook.cells if before else ():
        for output in cell.get("outputs", []):
            block = output.get("data", {}).get(BLOCK_MIME, {})
            if block.get("key_figures"):
                _show(output.data, block, before)


def _show(
    data: dict[str, Any], block: Mapping[str, Any], before: Mapping[str, Mapping[str, Any]]
) -> None:
    figures = tuple(
        _held_against(KeyFigure.from_json(figure), before) for figure in block["key_figures"]
    )
    own = {one.name for one in fields(Block)} - {"figure", "table", "key_figures", "files"}
    words = {name: block[name] for name in own if name in block}
    for name in ("notes", "findings"):
        words[name] = tuple(words.get(name, ()))
    changed = Block(**words, key_figures=figures)
    data["text/html"] = changed.to_html()
    data[BLOCK_MIME] = {**block, "key_figures": changed.to_json()["key_figures"]}


def _held_against(figure: KeyFigure, before: Mapping[str, Mapping[str, Any]]) -> KeyFigure:
    row = before.get(figure.key or "")
    if row is None or row["unit"] != figure.unit or not in_one_money(row, figure.currency):
        return figure
    numbers = {name: row[name] for name in ("estimate", "conf_low", "conf_high", "count", "unit")}
    other = replace(figure, changes=(), **numbers)
    day = date_text(date.fromisoformat(row["as_of"]))
    label = _("against {day}, as reported", day=day)
    return with_changes(figure, [change(figure, other, against="reported", label=label)])
