"""Small cells of a cube are not shown, and cannot be worked out from the totals that are.

A cell below the stated size is left out ("primary"). A reader could still subtract the others from
their total, so further cells go ("complementary") until no left-out cell is determined by what is
shown: until the linear equations "the parts make the total" have no unique answer for any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from crm_analysis.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TOTAL", "Line", "determined", "lines_of", "suppressed", "with_subtotals"]

TOTAL = "all"
"""What stands in a dimension that is summed over."""

_ZERO = 1e-9
"""Below this an eigenvalue of the equations is rounding: they are small whole numbers."""

MOST_HIDDEN = 400
"""A cube with more cells too small to show is too fine to be read, and slow to make safe."""


@dataclass(frozen=True)
class Line:
    """A total and the cells that make it, by their row numbers."""

    total: int
    parts: tuple[int, ...]


def with_subtotals(
    cells: pl.DataFrame, dims: tuple[str, ...], sums: tuple[str, ...]
) -> pl.DataFrame:
    """Add the sums over every set of dimensions; ``level`` = dimensions that are not summed over.

    Dimensions are text. The grand total comes first, the cells last.
    """
    parts = []
    for level in range(len(dims) + 1):
        for kept in combinations(dims, level):
            grouped = (
                cells.group_by(kept).agg(pl.col(name).sum() for name in sums)
                if kept
                else cells.select(pl.col(name).sum() for name in sums)
            )
            away = [pl.lit(TOTAL).alias(name) for name in dims if name not in kept]
            whole = grouped.with_columns(*away, pl.lit(level).alias("level"))
            parts.append(whole.select(*dims, "level", *sums).sort(dims))
    return pl.concat(parts)


def lines_of(table: pl.DataFrame, dims: tuple[str, ...]) -> list[Line]:
    """Find every equation between rows: a row and the rows that take one of its totals apart."""
    keys = list(table.select(dims).iter_rows())
    children: dict[tuple[int, int], list[int]] = {}
    place = {key: i for i, key in enumerate(keys)}
    for row, key in enumerate(keys):
        for axis, value in enumerate(key):
            if value != TOTAL:
                parent = (*key[:axis], TOTAL, *key[axis + 1 :])
                children.setdefault((place[parent], axis), []).append(row)
    return [Line(total, tuple(parts)) for (total, _axis), parts in children.items()]


def determined(hidden: NDArray[np.bool_], lines: list[Line]) -> NDArray[np.bool_]:
    """Say which hidden rows follow from the others by the equations between totals and parts.

    An unknown has one possible value if and only if no vector of the null space moves it.
    """
    unknown = np.flatnonzero(hidden)
    column = {int(row): i for i, row in enumerate(unknown)}
    equations = []
    for line in lines:
        inside = [row for row in line.parts if hidden[row]]
        if inside or hidden[line.total]:
            equation = np.zeros(len(unknown))
            for row in inside:
                equation[column[row]] += 1.0
            if hidden[line.total]:
                equation[column[line.total]] -= 1.0
            equations.append(equation)
    out = np.zeros(len(hidden), bool)
    if not equations:
        return out
    matrix = np.array(equations)
    size, vectors = np.linalg.eigh(matrix.T @ matrix)
    free = vectors[:, size < _ZERO]
    out[unknown] = np.abs(free).max(axis=1, initial=0.0) < _ZERO**0.5
    return out


def suppressed(
    n: NDArray[np.int64], lines: list[Line], least_n: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose what is not shown: rows below `least_n`, and what would give them away.

    Returns
    -------
    primary, hidden : ndarray of bool
        `hidden` holds the primary ones too.
    """
    primary = (n > 0) & (n < least_n)
    hidden = primary.copy()
    for _round in range(len(n)):
        _check_readable(hidden, least_n)
        _hide_lonely(n, hidden, lines, least_n)
        _check_readable(hidden, least_n)
        known = np.flatnonzero(determined(hidden, lines))
        if not len(known):
            break
        for row in known:
            _hide_beside(n, hidden, lines, int(row))
    return primary, hidden


def _check_readable(hidden: NDArray[np.bool_], least_n: int) -> None:
    if hidden.sum() > MOST_HIDDEN:
        raise InputError(
            f"A cube was asked for in which more than {MOST_HIDDEN} cells are too small to show, "
            f"or would give those away (fewer than {least_n} rows each). Name fewer dimensions, or "
            "coarser ones."
        )


def _hide_lonely(
    n: NDArray[np.int64], hidden: NDArray[np.bool_], lines: list[Line], least_n: int
) -> None:
    """In every line under a shown total, hide parts until those hidden are several and enough."""
    changed = True
    while changed:
        changed = False
        for line in lines:
            if hidden[line.total]:
                continue
            away = [row for row in line.parts if hidden[row]]
            if not away or (len(away) > 1 and n[away].sum() >= least_n):
                continue
            shown = [row for row in line.parts if not hidden[row]]
            victim = min(shown, key=lambda row: (n[row], row)) if shown else line.total
            hidden[victim] = changed = True


def _hide_beside(
    n: NDArray[np.int64], hidden: NDArray[np.bool_], lines: list[Line], row: int
) -> None:
    """Hide the smallest row that stands in an equation with one that is given away."""
    near = {
        other
        for line in lines
        if row in (line.total, *line.parts)
        for other in (line.total, *line.parts)
        if not hidden[other]
    }
    victim = min(near, key=lambda other: (n[other], other), default=None)
    if victim is not None:
        hidden[victim] = True
    else:
        # Everything beside it is hidden: what gives it away lies further off.
        shown = np.flatnonzero(~hidden)
        if shown.size:
            hidden[shown[np.argmin(n[shown])]] = True
