"""The parts of a printed report, as the template reads them: plain JSON, every word a string.

No part is Typst code. The template sets each string as a string, so nothing that data, a notebook
or a link says can become a command of the typesetter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crm_analysis.wording import tied

__all__ = [
    "Cell",
    "Inline",
    "Node",
    "code",
    "column_texts",
    "filled",
    "heading",
    "paragraph",
    "plain",
    "table",
    "width_of",
    "words",
]

Node = dict[str, Any]
"""A block: its kind under ``"k"``, and what that kind needs."""

Inline = str | Node
"""A run of words, or words with a look or a link."""

_ENDS_OF_PLANES = "".join(
    chr(0x10000 * plane + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_UNPRINTABLE = re.compile(
    f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb{_ENDS_OF_PLANES}]"
)
_REPLACEMENT = "\ufffd"
_LINES = re.compile("\r\n|[\r\u2028\u2029]")
_LONG = re.compile(r"\S{36,}")
_PIECE = 18
_BREAK_HERE = "\u200b"
_MEASURED = 4
"""So many of the longest texts of a column are measured: the longest in letters may be narrow."""
_KEPT_WHOLE_LINES = 30
_PROSE_LETTERS = 180
"""Rows of sentences are read one by one: a table of them may go on on the next sheet."""
_TALL_LETTERS = 1200


def words(text: object) -> str:
    """Return a text that can be printed: no control characters, and a long word may be broken.

    Examples
    --------
    >>> words("cost" + chr(0) + "s"), words("#set *x* $y$")
    ('cost�s', '#set *x* $y$')
    """
    clean = _UNPRINTABLE.sub(_REPLACEMENT, tied(str(text)).replace("\ufeff", ""))
    return _LONG.sub(_in_pieces, _LINES.sub("\n", clean).replace("\t", "    "))


def _in_pieces(found: re.Match[str]) -> str:
    word = found.group()
    return _BREAK_HERE.join(word[at : at + _PIECE] for at in range(0, len(word), _PIECE))


def plain(parts: Sequence[Inline]) -> str:
    """Return the words of a run without their look."""
    return "".join(part if isinstance(part, str) else _plain_of(part) for part in parts)


def _plain_of(part: Node) -> str:
    return " " if part["k"] == "break" else part.get("text") or plain(part.get("body", ()))


def paragraph(parts: Sequence[Inline], kind: str = "par", **more: object) -> Node:
    """Return a paragraph."""
    return {"k": kind, "body": list(parts), **more}


def heading(parts: Sequence[Inline], level: int) -> Node:
    """Return a heading; level 1 is a section."""
    return {"k": "heading", "level": level, "body": list(parts)}


def code(text: str, role: str = "code") -> Node:
    """Return text in a fixed width, as a cell printed or said it."""
    return {"k": "code", "text": words(text).rstrip("\n"), "role": role}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its words, and how many columns and rows it covers."""

    body: tuple[Inline, ...]
    columns: int = 1
    rows: int = 1

    def to_json(self) -> Inline:
        """Return the cell as the template reads it: a bare string where that says everything."""
        if self.columns > 1 or self.rows > 1:
            return {
                "k": "cell",
                "body": list(self.body),
                "columns": self.columns,
                "rows": self.rows,
            }
        if all(isinstance(part, str) for part in self.body):
            return "".join(str(part) for part in self.body)
        return {"body": list(self.body)}


def table(
    head: Sequence[Sequence[Cell]],
    body: Sequence[Sequence[Cell]],
    aligns: Sequence[str],
    *,
    caption: str | None = None,
    small: bool = False,
) -> Node:
    """Return a table: rows of cells in the order of the page, the head apart.

    Parameters
    ----------
    head, body : sequences of rows
        Together they must fill a grid of as many columns as `aligns` has.
    aligns : sequence of {"left", "right"}
    small : bool
        Whether it is set smaller, as the numbers under a figure are.
    """
    cells = [cell for row in (*head, *body) for cell in row]
    columns = [
        {"align": align, **_longest(head_texts, body_texts)}
        for align, head_texts, body_texts in zip(
            aligns, column_texts(head, len(aligns)), column_texts(body, len(aligns)), strict=True
        )
    ]
    longest = max((len(plain(cell.body)) for cell in cells), default=0)
    tall, prose = longest > _TALL_LETTERS, longest > _PROSE_LETTERS
    return {
        "k": "table",
        "columns": columns,
        "head": [[cell.to_json() for cell in row] for row in head],
        "body": [[cell.to_json() for cell in row] for row in body],
        "caption": caption,
        "small": small,
        "tall": tall,
        "breaks": tall or prose or sum(map(_height, body)) > _KEPT_WHOLE_LINES,
        "spanned": any(cell.columns > 1 or cell.rows > 1 for cell in cells),
    }


def _height(row: Sequence[Cell]) -> int:
    """Guess how many lines a row will take."""
    return 1 + max((len(plain(cell.body)) for cell in row), default=0) // 90


def width_of(rows: Sequence[Sequence[Cell]]) -> int:
    """Return how many columns rows of cells take, those included that a cell above covers."""
    return max((at + cell.columns for _row, at, cell in _placed(rows)), default=0)


def filled(rows: Sequence[Sequence[Cell]], count: int) -> list[list[Cell]]:
    """Return rows that fill a grid of `count` columns: long spans cut, gaps filled."""
    kept: list[list[Cell]] = []
    covered = [0] * count  # how many rows from here on a cell above still covers
    for number, row in enumerate(rows):
        cells, line, at = iter(row), [], 0
        while at < count:
            if covered[at]:
                covered[at] -= 1
                at += 1
                continue
            cell = next(cells, Cell(()))
            free = next(
                (n for n in range(1, cell.columns) if _taken(covered, at + n)), cell.columns
            )
            line.append(replace(cell, columns=free, rows=min(cell.rows, len(rows) - number)))
            covered[at : at + free] = [line[-1].rows - 1] * free
            at += free
        kept.append(line)
    return kept


def _taken(covered: Sequence[int], at: int) -> bool:
    return at >= len(covered) or covered[at] > 0


def column_texts(rows: Sequence[Sequence[Cell]], count: int) -> list[list[str]]:
    """Return the texts of each column's own cells; one that covers several belongs to none."""
    found: list[list[str]] = [[] for _column in range(count)]
    for _row, at, cell in _placed(rows):
        if cell.columns == 1 and at < count:
            found[at].append(plain(cell.body))
    return found


def _placed(rows: Sequence[Sequence[Cell]]) -> Iterator[tuple[int, int, Cell]]:
    """Yield each cell with its row and first column, as HTML lays them out."""
    until: dict[int, int] = {}  # column -> the first row that nothing from above covers
    for number, row in enumerate(rows):
        at = 0
        for cell in row:
            while until.get(at, 0) > number:
                at += 1
            yield number, at, cell
            until.update(dict.fromkeys(range(at, at + cell.columns), number + cell.rows))
            at += cell.columns


def _longest(heads: Iterable[str], cells: Iterable[str]) -> dict[str, list[str]]:
    heads, cells = list(dict.fromkeys(heads)), list(dict.fromkeys(cells))
    return {
        "heads": _most(heads),
        "head-words": _most(_split(heads)),
        "cells": _most(cells),
        "words": _most(_split(cells)),
    }


def _split(texts: Iterable[str]) -> list[str]:
    return list({word: None for text in texts for word in re.split(r"[ \n\u200b]+", text)})


def _most(texts: list[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)[:_MEASURED]
