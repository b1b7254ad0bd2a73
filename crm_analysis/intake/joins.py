"""Lookups: columns of another file by a key, and the names that do not meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import polars as pl

from crm_analysis.errors import InputError, listed, near
from crm_analysis.intake.described import Join, Source
from crm_analysis.intake.findings import Finding
from crm_analysis.intake.rules import ROW, want_column

__all__ = ["MOST_NAMES", "joined_with", "names_of", "unmatched"]

MOST_NAMES = 8
"""How many names a finding lists."""


def names_of(values: pl.Series) -> list[str]:
    """Return the different values of a column as text, in order of first appearance."""
    return [str(value) for value in values.unique(maintain_order=True).drop_nulls()]


def joined_with(
    frame: pl.DataFrame,
    source: Source,
    join: Join,
    sources: Mapping[str, Source],
    frames: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    """Add the columns that a lookup has for each row; rows without a match keep nulls.

    Raises
    ------
    InputError
        The lookup is not described, has a key twice, or brings a column that is there already.
    ColumnError
        A column is missing.
    """
    if join.source not in sources:
        raise InputError(
            f"[sources.{source.name}] joins the source {join.source!r}"
            f"{near(join.source, sources)}, which is not described. "
            f"Described are: {listed(sources)}."
        )
    want_column(frame, join.key, source.label)
    clash = sorted(set(join.take) & set(frame.columns))
    if clash:
        raise InputError(
            f"[sources.{source.name}] takes {listed(clash)} from {sources[join.source].label}, and "
            f"{source.label} has columns of that name. Give them others: "
            'take = { new_name = "their_name" }.'
        )
    taken = _taken(frames[join.source], join, sources[join.source].label)
    return frame.join(
        taken, left_on=join.key, right_on="__key__", how="left", maintain_order="left"
    )


def _taken(lookup: pl.DataFrame, join: Join, file: str) -> pl.DataFrame:
    theirs = want_column(lookup, join.their_key, file)
    again = lookup.filter(theirs.is_duplicated() & theirs.is_not_null())
    if again.height:
        raise InputError(
            f"The lookup {file} was to have each {join.their_key!r} once; {again.height} rows "
            f"share theirs with another, the first is row {again[ROW][0]}. Joining would multiply "
            "rows: mend the lookup."
        )
    columns = [want_column(lookup, c, file).alias(name) for name, c in join.take.items()]
    return pl.DataFrame([theirs.alias("__key__"), *columns]).drop_nulls("__key__")


def unmatched(
    source: Source,
    join: Join,
    sources: Mapping[str, Source],
    frames: Mapping[str, pl.DataFrame],
    *,
    hidden: bool = False,
) -> list[Finding]:
    """Say which keys the lookup does not know, with the nearest known, and which nobody uses.

    Parameters
    ----------
    hidden : bool
        Whether the keys may name living persons: then they are counted and not named.
    """
    ours = frames[source.name][join.key]
    theirs = frames[join.source][join.their_key]
    known, used = names_of(theirs), names_of(ours)
    strange = sorted(set(used) - set(known))
    idle = sorted(set(known) - set(used))
    common = {"file": source.label, "lookup": sources[join.source].label}
    found = []
    if strange:
        values: dict[str, Any] = {
            **common,
            "column": ours.name,
            "rows": int(ours.cast(pl.String).is_in(strange).sum()),
            "names": _listed(strange, hidden=hidden),
            "nearest": "" if hidden else _nearest(strange[:MOST_NAMES], known),
        }
        found.append(Finding("unmatched", values))
    if idle:
        values = {
            **common,
            "column": theirs.name,
            "n_unused": len(idle),
            "n_of": len(known),
            "names": _listed(idle, hidden=hidden),
        }
        found.append(Finding("unused", values))
    return found


def _listed(names: list[str], *, hidden: bool) -> list[str]:
    return [f"{len(names)} (…)"] if hidden else names[:MOST_NAMES]


def _nearest(strange: Iterable[str], known: list[str]) -> str:
    pairs = []
    for name in strange:
        close = get_close_matches(name, known, n=1, cutoff=0.6)
        pairs += [f"{name} ~ {close[0]}"] if close else []
    return f" ({listed(pairs)})" if pairs else ""
