"""Relationships as Cox regression takes them: their rows, their design, and the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.frames import collect, keys_of
from crm_analysis.retention.efron import AtRisk, RiskSets, maximum
from crm_analysis.retention.spells import open_spells
from crm_analysis.wording import _, word_of

__all__ = ["CoxFit", "CoxRegression", "regress"]

Floats = NDArray[np.float64]

_ROUNDING = 1e-12
_WIDEST = 1e4
"""A coefficient with a larger variance runs off to infinity."""


def _rows(
    spells: object, columns: tuple[str, str, str | None], as_of: date, names: tuple[str, ...]
) -> pl.DataFrame:
    """Bring home one row per relationship: its days, whether it ended, and its traits."""
    last = to_day_number(as_of)
    frame = open_spells(spells, *columns, None, names)
    frame = frame.filter(nw.col("start") <= last, nw.col("entry") <= last)
    ended = (~nw.col("end").is_null() & (nw.col("end") <= last)).cast(nw.Int64)
    frame = frame.with_columns(ended.alias("ended")).with_columns(
        nw.when(nw.col("ended") == 1).then(nw.col("end")).otherwise(nw.lit(last)).alias("until")
    )
    frame = frame.with_columns(
        (nw.col("until") - nw.col("start")).alias("days"),
        (nw.col("entry") - nw.col("start")).alias("from_days"),
    ).select("days", "from_days", "ended", *keys_of(names))
    rows = collect(frame, by=names, order=["days", "from_days", "ended"])
    backward = rows.filter((pl.col("days") < 0) | (pl.col("from_days") < 0)).height
    if backward:
        raise InputError(
            f"Spells must end, and be first observed, on or after the day they start; {backward} "
            f"of {rows.height} are not. Correct or leave out those rows."
        )
    # First seen on the day it ended, and not begun then: it was never at risk.
    return rows.filter((pl.col("from_days") < pl.col("days")) | (pl.col("from_days") == 0))


def _design(known: pl.DataFrame, names: Sequence[str]) -> tuple[Floats, list[str], list[str]]:
    """Return a column for each number and each value but the most frequent, their names, and those.

    Returns
    -------
    design : ndarray, shape (relationships, traits)
    traits, references : list of str
        In the reader's words.
    """
    columns: list[Floats] = []
    traits: list[str] = []
    references: list[str] = []
    for name in names:
        values = known[name]
        if values.dtype.is_numeric():
            if values.n_unique() > 1:
                columns.append(values.to_numpy().astype(np.float64))
                traits.append(word_of(name))
            continue
        sizes = values.value_counts(sort=True)
        ordered = sizes.sort("count", name, descending=[True, False])[name].to_list()
        for value in ordered[1:]:
            columns.append((values == value).to_numpy().astype(np.float64))
            traits.append(_value(name, value))
        references += [_value(name, value) for value in ordered[:1]]
    design = np.column_stack(columns) if columns else np.empty((known.height, 0))
    return design, traits, references


def _value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"{word_of(name)}: " + (_("yes") if value else _("no"))
    return word_of(value)


def _times(known: pl.DataFrame) -> tuple[Floats, Floats, NDArray[Any]]:
    """Return days until the end or the last day known, days before entry, and whether it ended.

    Days count from 1, so that who is there from the start has entered before any exit; who comes
    later is at risk from the day after, whichever way a tie is taken.
    """
    days = known["days"].to_numpy().astype(np.float64) + 1
    entry = known["from_days"].to_numpy().astype(np.float64)
    return days, np.where(entry == 0, 0.0, entry + 1.5), known["ended"].to_numpy()


@dataclass(frozen=True)
class CoxFit:
    """Log ratios with their standard errors, and those at risk as they weigh them."""

    beta: Floats
    error: Floats
    there: AtRisk

    def concordance(self) -> float | None:
        """Return Harrell's concordance; None where no two relationships can be compared."""
        sets = self.there.sets
        return _harrell(sets.days, sets.ended, sets.x @ self.beta)


def _fit(known: pl.DataFrame, design: Floats) -> CoxFit | None:
    """Return the fitted model; None where the data do not determine one."""
    centred = design - design.mean(axis=0)
    if np.linalg.matrix_rank(centred) < centred.shape[1]:
        return None
    found = maximum(RiskSets(*_times(known), centred))
    if found is None:
        return None
    beta, there = found
    try:
        variance = np.diag(np.linalg.inv(there.information()))
    except np.linalg.LinAlgError:
        return None
    if not (np.isfinite(variance).all() and (variance > 0).all() and (variance < _WIDEST).all()):
        return None
    return CoxFit(beta, np.sqrt(variance), there)


@dataclass(frozen=True)
class CoxRegression:
    """A regression of relationships on their traits, with what it was fitted to.

    Attributes
    ----------
    known : polars DataFrame
        The relationships of which every trait is known.
    traits, references : list of str
        In the reader's words, each number and each value but the most frequent, and the most
        frequent.
    n_exits, n_left_out : int
        Of those known, how many ended; and how many are not known.
    fit : CoxFit or None
        None where no model can be fitted.
    """

    known: pl.DataFrame
    traits: list[str]
    references: list[str]
    n_exits: int
    n_left_out: int
    fit: CoxFit | None


def regress(
    spells: object, columns: tuple[str, str, str | None], as_of: date, names: tuple[str, ...]
) -> CoxRegression:
    """Fit how the pace of leaving goes with traits; `columns`: start, end and late entry."""
    rows = _rows(spells, columns, as_of, names)
    known = rows.drop_nulls(names)
    design, traits, references = _design(known, names)
    n_exits = int(known["ended"].sum())
    return CoxRegression(
        known, traits, references, n_exits, rows.height - known.height,
        _fit(known, design) if traits and n_exits else None,
    )  # fmt: skip


def _harrell(days: Floats, ended: NDArray[Any], risk: Floats) -> float | None:
    """Return Harrell's concordance, ties in risk counted half, over distinct risks."""
    levels, place = np.unique(np.round(risk, 9), return_inverse=True)
    latest = np.argsort(-days, kind="stable")
    starts = np.flatnonzero(np.diff(days[latest], prepend=np.nan))
    waiting = np.zeros(len(levels))
    agree = pairs = 0.0
    for at in np.split(latest, starts[1:]):
        # Who is censored on a day has outlived those who left on it.
        waiting += np.bincount(place[at[ended[at] == 0]], minlength=len(levels))
        gone = np.bincount(place[at[ended[at] == 1]], minlength=len(levels))
        if gone.any():
            below = np.cumsum(waiting) - waiting
            agree += float(gone @ (below + waiting / 2))
            pairs += float(gone.sum() * waiting.sum())
        waiting += gone
    return agree / pairs if pairs > _ROUNDING else None
