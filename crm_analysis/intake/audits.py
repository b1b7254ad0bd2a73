"""Questions put to an export before anybody believes it: whether it is whole, and recorded.

A rate from an export that left out the early ends, or dates that no working week shows in, is
exact and wrong. Each audit is one test with its numbers; what it finds is a caution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from crm_analysis.intake.described import Audit, Intake, Source
from crm_analysis.intake.findings import Finding
from crm_analysis.intake.rules import (
    ROW,
    all_normal,
    normal,
    parse_dates,
    parse_numbers,
    want_column,
)

__all__ = ["run_audits"]

SURE = 0.001
"""Below this p-value a dependence is said to exist; above 0.05 to be not established."""

UNSURE = 0.05

MOST_GROUPS = 6
"""Groups that a finding lists in full; of more, only those concerned."""

DRAWS = 1_000
"""Resamples of groups behind an interval."""

FOUR_FIFTHS = 0.8
"""What the best fifth brings by the rule of thumb."""

LEAST_EXPECTED = 10
"""Ends that must have been expected before their absence is called a filter of the export."""


def run_audits(intake: Intake, frames: Mapping[str, pl.DataFrame]) -> list[Finding]:
    """Answer every question that a mapping puts to its sources."""
    found = []
    for audit in intake.audits:
        source = intake.sources[audit.source]
        found.append(_AUDITS[audit.kind](frames[audit.source], audit, source, intake.as_of))
    return found


def _missing_by(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    del as_of
    column, by = audit.asked["column"], audit.asked["by"]
    want_column(frame, column, source.label)
    want_column(frame, by, source.label)
    table = (
        frame.group_by(by)
        .agg(pl.col(column).is_null().sum().alias("gone"), pl.len().alias("n"))
        .sort("gone", "n", by, descending=[True, True, False])
    )
    shown = table.filter(pl.col("gone") > 0) if table.height > MOST_GROUPS else table
    p = _independence(table["gone"].to_numpy(), (table["n"] - table["gone"]).to_numpy())
    values = {
        "file": source.label,
        "column": column,
        "by": by,
        "counts": [[str(name), gone, n] for name, gone, n in shown.select(by, "gone", "n").rows()],
        "p": p,
    }
    return Finding("missing_by" if p < SURE else "missing_by_chance", values)


def _weekdays(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    del as_of
    from scipy.stats import chisquare

    days = _days(frame, audit.asked["column"], audit, source).drop_nulls()
    weekday = days.dt.weekday()
    counts = np.array([(weekday == day).sum() for day in range(1, 8)], np.float64)
    p = float(chisquare(counts).pvalue) if counts.sum() else 1.0
    values = {
        "file": source.label,
        "column": audit.asked["column"],
        "share": float(counts[5:].sum() / max(counts.sum(), 1.0)),
        "p": p,
    }
    return Finding("no_working_week" if p > UNSURE else "working_week", values)


def _starts_late(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    """Compare how many early rows should have ended before the first end with none that did.

    Durations of rows that began after the first end say how soon an end comes.
    """
    del as_of
    first = _days(frame, audit.asked["first"], audit, source)
    then = _days(frame, audit.asked["then"], audit, source)
    names = {key: audit.asked[key] for key in ("first", "then")}
    cutoff = then.min()
    if not isinstance(cutoff, date):
        return Finding("starts_whole", {"file": source.label, **names})
    early = (first < cutoff).fill_null(value=False)
    took = (then - first).dt.total_days()
    usual = np.sort(took.filter(~early & took.is_not_null()).to_numpy())
    room = (pl.Series([cutoff]) - first.filter(early)).dt.total_days().to_numpy() - 1
    share_ended = usual.size / max(int((~early & first.is_not_null()).sum()), 1)
    ended = np.searchsorted(usual, room, side="right") / max(usual.size, 1) * share_ended
    # The rows that are missing cannot be counted; those that came had this chance to be missing.
    expected = float(np.sum(ended))
    if expected < LEAST_EXPECTED:
        return Finding("starts_whole", {"file": source.label, **names})
    values = {
        "file": source.label,
        **names,
        "cutoff_on": cutoff.isoformat(),
        "rows": int(early.sum()),
        "n_expected": round(expected),
    }
    return Finding("starts_late", values)


def _stale(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    first = _days(frame, audit.asked["first"], audit, source)
    then = _days(frame, audit.asked["then"], audit, source)
    longest = (then - first).dt.total_days().max()
    waiting = then.is_null() & first.is_not_null()
    age = (pl.Series([as_of]) - first.filter(waiting)).dt.total_days()
    old = int((age > longest).sum()) if isinstance(longest, int) else 0
    if not old:
        return Finding("fresh", {"file": source.label, "then": audit.asked["then"]})
    values = {
        "file": source.label,
        "then": audit.asked["then"],
        "rows": old,
        "n_open": int(waiting.sum()),
        "as_of_on": as_of.isoformat(),
        "days": longest,
    }
    return Finding("stale", values)


def _differs_by(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    del as_of
    group = want_column(frame, audit.asked["by"], source.label).cast(pl.String)
    return _differs(frame, audit, source, group)


def _differs_by_month(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    del as_of
    days = _days(frame, audit.asked["by"], audit, source)
    place = (days.dt.month().cast(pl.Int64) - 1) % 3 + 1
    found = _differs(frame, audit, source, place.cast(pl.String))
    return Finding(found.code.replace("differs", "differs_in_quarter"), found.values)


def _differs(frame: pl.DataFrame, audit: Audit, source: Source, group: pl.Series) -> Finding:
    column = want_column(frame, audit.asked["column"], source.label).cast(pl.String)
    texts = all_normal(column)
    of = [normal(str(word)) for word in audit.asked["of"]]
    among = [normal(str(word)) for word in audit.asked["among"]]
    table = (
        pl.DataFrame({"group": group, "hit": texts.is_in(of), "in": texts.is_in(among)})
        .filter(pl.col("in") & pl.col("group").is_not_null())
        .group_by("group")
        .agg(pl.col("hit").sum().cast(pl.Int64), pl.len().cast(pl.Int64).alias("n"))
        .with_columns((pl.col("hit") / pl.col("n")).alias("share"))
        .sort("share", "group")
    )
    p = _independence(table["hit"].to_numpy(), (table["n"] - table["hit"]).to_numpy())
    values: dict[str, Any] = {
        "file": source.label,
        "of": list(audit.asked["of"]),
        "among": list(audit.asked["among"]),
        "by": audit.asked["by"],
        "n_groups": table.height,
        "p": p,
    }
    for end, row in (("low", 0), ("high", -1)):
        values[end] = table["group"][row] if table.height else ""
        values[f"share_{end}"] = table["share"][row] if table.height else None
    return Finding("differs" if p < SURE else "differs_by_chance", values)


def _capped(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    del as_of
    column = want_column(frame, audit.asked["column"], source.label)
    numbers = parse_numbers(column, frame[ROW], source.label, decimal=source.decimal).drop_nulls()
    counts = numbers.value_counts(name="n").sort(column.name, descending=True)
    n_top = int(counts["n"][0]) if counts.height else 0
    n_next = int(counts["n"][1]) if counts.height > 1 else 0
    values = {
        "file": source.label,
        "column": column.name,
        "rows": n_top,
        "n_of": numbers.len(),
        "top": float(counts[column.name][0]) if counts.height else None,
        "n_next": n_next,
    }
    far_more = n_top > n_next + 5 * max(n_next, 1) ** 0.5
    return Finding("capped" if far_more and counts.height > 1 else "not_capped", values)


def _not_positive(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    del as_of
    column = want_column(frame, audit.asked["column"], source.label)
    numbers = parse_numbers(
        column, frame[ROW], source.label, decimal=source.decimal, thousands=source.thousands
    )
    n = int((numbers <= 0).sum())
    values = {"file": source.label, "column": column.name, "rows": n, "n_of": frame.height}
    return Finding("not_positive" if n else "positive", values)


def _few_bring_most(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    """Ask how much the best fifth of the groups bring, with the bootstrap over groups."""
    del as_of
    group = want_column(frame, audit.asked["by"], source.label).cast(pl.String)
    column = want_column(frame, audit.asked["column"], source.label)
    numbers = parse_numbers(
        column, frame[ROW], source.label, decimal=source.decimal, thousands=source.thousands
    )
    brought = (
        pl.DataFrame({"group": group, "value": numbers})
        .drop_nulls()
        .group_by("group")
        .agg(pl.col("value").sum())
        .filter(pl.col("value") > 0)
        .sort("value", "group", descending=[True, False])["value"]
        .to_numpy()
    )
    rng, shares = np.random.default_rng(0), []
    if len(brought):
        drawn = rng.choice(brought, (DRAWS, len(brought)))
        shares = [_best_fifth(np.sort(one)[::-1]) for one in drawn]
    values = {
        "file": source.label,
        "column": column.name,
        "by": audit.asked["by"],
        "n_groups": len(brought),
        "share_best": _best_fifth(brought) if len(brought) else None,
        "share_low": float(np.quantile(shares, 0.025)) if shares else None,
        "share_high": float(np.quantile(shares, 0.975)) if shares else None,
    }
    holds = not shares or values["share_high"] >= FOUR_FIFTHS
    return Finding("few_bring_most" if holds else "few_do_not_bring_most", values)


def _best_fifth(falling: np.ndarray[Any, Any]) -> float:
    best = falling[: max(round(len(falling) / 5), 1)]
    return float(best.sum() / falling.sum())


def _same(frame: pl.DataFrame, audit: Audit, source: Source, as_of: date) -> Finding:
    del as_of
    columns = list(audit.asked["columns"])
    for column in columns:
        want_column(frame, column, source.label)
    n = frame.height - frame.select(columns).unique().height
    values = {"file": source.label, "columns": columns, "rows": n}
    return Finding("same" if n else "all_differ", values)


def _days(frame: pl.DataFrame, column: str, audit: Audit, source: Source) -> pl.Series:
    raw = want_column(frame, column, source.label)
    return parse_dates(raw, audit.asked["format"], frame[ROW], source.label).cast(pl.Date)


def _independence(hits: np.ndarray[Any, Any], misses: np.ndarray[Any, Any]) -> float:
    """Return the p-value of "the same share in every group" (chi-squared), 1 if untestable."""
    from scipy.stats import chi2_contingency

    table = np.stack([hits, misses]).astype(np.float64)
    if table.size == 0 or table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    return float(chi2_contingency(table).pvalue)


_AUDITS: Mapping[str, Callable[[pl.DataFrame, Audit, Source, date], Finding]] = {
    "missing_by": _missing_by,
    "weekdays": _weekdays,
    "starts_late": _starts_late,
    "stale": _stale,
    "differs_by": _differs_by,
    "differs_by_month_of_quarter": _differs_by_month,
    "capped": _capped,
    "not_positive": _not_positive,
    "few_bring_most": _few_bring_most,
    "same": _same,
}
