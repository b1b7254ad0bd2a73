"""What was met in an export, as facts that can be said in either language.

A finding is a code and its values, so that the manifest keeps numbers and not sentences; the
sentence is made when a page is, in the reader's language.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from crm_analysis.wording import _, date_text, language, number, percent, plural

__all__ = ["Finding", "is_routine", "merged", "sentence"]

_ROUTINE = frozenset(
    {
        "all_differ",
        "blanks",
        "differs_in_quarter_by_chance",
        "extra",
        "few_bring_most",
        "fresh",
        "left_empty",
        "missing_by_chance",
        "no_time",
        "none_left_out",
        "not_capped",
        "positive",
        "starts_whole",
        "working_week",
    }
)
"""What a reader need not be warned of: things looked at and found in order."""

_FIRST = ("caution", "starts_late", "stale", "no_working_week", "missing_by", "constructed")
"""What changes how a number is to be read goes before what was mended."""


@dataclass(frozen=True)
class Finding:
    """One thing met: what kind (`code`), and its numbers and names (`values`, plain JSON)."""

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {"code": self.code, "values": dict(self.values)}


def is_routine(finding: Finding) -> bool:
    """Return whether a finding is no caution."""
    return finding.code in _ROUTINE


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Say once what several tables met alike, the gravest first."""
    tables: dict[str, dict[str, None]] = {}
    first: dict[str, Finding] = {}
    for finding in findings:
        rest = {key: value for key, value in finding.values.items() if key != "table"}
        same = json.dumps([finding.code, rest], ensure_ascii=False)
        first.setdefault(same, finding)
        tables.setdefault(same, {})[str(finding.values.get("table"))] = None
    found = [
        Finding(f.code, {**f.values, "table": ", ".join(tables[same])})
        if "table" in f.values
        else f
        for same, f in first.items()
    ]
    rank = {code: place for place, code in enumerate(_FIRST)}
    return sorted(found, key=lambda finding: rank.get(finding.code, len(rank)))


def sentence(finding: Finding) -> str:
    """Say a finding in the reader's language."""
    if finding.code == "caution":
        words = finding.values
        return str(words.get(language(), words["en"]))
    shown = {key: _shown(key, value) for key, value in finding.values.items()}
    return _templates()[finding.code].format(**shown)


def _shown(key: str, value: Any) -> str:
    """Write a value as its name says: n_… counts rows, share_… are fractions, …_on are days."""
    if key.startswith("share"):
        return percent(value)
    if key.endswith("_on"):
        return date_text(date.fromisoformat(value))
    if key == "rows" or key.startswith("rows_"):
        return plural(value, "{n} row", "{n} rows")
    if key == "p":
        return f"p < {number(0.001, 3)}" if value < 0.001 else f"p = {number(value, 3)}"
    if isinstance(value, list):
        return _listed(value)
    return number(value) if isinstance(value, int | float) else str(value)


def _listed(items: list[Any], most: int = 6) -> str:
    texts = [
        f"{item[0]} ({number(item[1])}{_of(item)})" if isinstance(item, list) else str(item)
        for item in items[:most]
    ]
    more = len(items) - len(texts)
    return ", ".join(texts) + (_(" and {k} more", k=number(more)) if more > 0 else "")


def _of(item: list[Any]) -> str:
    return _(" of {n}", n=number(item[2])) if len(item) > 2 else ""


def _templates() -> Mapping[str, str]:
    return {
        "left_out": _(
            "{table}: {rows} of {n_of} left out, because {reason} (first: row {first}{example})."
        ),
        "none_left_out": _("{table}: no row had to be left out because {reason}."),
        "missing_cells": _("{file}: empty cells among {rows}: {columns}."),
        "hidden_missing": _(
            "{file}: {column} holds no value but {written} in {rows} (first: row {first}); "
            "read as missing."
        ),
        "blanks": _("{file}: blanks around the values of {column} removed in {rows}."),
        "repeated": _(
            "{file}: {rows} repeat an earlier row in every column (first: row {first}); kept, "
            "because nothing says that they are errors."
        ),
        "repeated_but_key": _(
            "{file}: {rows} repeat an earlier row in everything but {key} (first: row {first}); "
            "kept."
        ),
        "corrected": _("{file}: {column} {written} was read as {meant} in {rows}."),
        "variants": _("{file}: {column} writes {meant} in several ways: {written}."),
        "unmapped_keep": _(
            "{file}: {column} holds {written}, which is not mapped, in {rows}; kept as written."
        ),
        "unmapped_missing": _(
            "{file}: {column} holds {written}, which is not mapped, in {rows}; read as missing."
        ),
        "unmatched": _(
            "{file}: {rows} have a {column} that {lookup} does not know: {names}{nearest}."
        ),
        "unused": _("{lookup}: {n_unused} of {n_of} in {column} never occur in {file}: {names}."),
        "left_empty": _("{table}: the export says nothing of {columns}; left empty."),
        "extra": _("{table}: columns that our tables do not have were kept: {columns}."),
        "rounded": _("{table}: {rows} had decimals in {column} and were rounded."),
        "no_time": _("{table}: {column} is known to the day only."),
        "after_as_of": _(
            "{table}: {column} lies after {as_of_on}, the last day covered, in {rows}."
        ),
        "constructed": _(
            "{table}: {column} was reckoned back from {as_of_on} by the months in {months}; the "
            "export has no such date. Durations are exact, calendar months are not real."
        ),
        "missing_by": _(
            "{file}: {column} is empty in {counts}. Whether it is filled depends on {by} ({p}), "
            "so a rate by {column} would mislead."
        ),
        "missing_by_chance": _(
            "{file}: {column} is empty in {counts}; no dependence on {by} is established ({p})."
        ),
        "no_working_week": _(
            "{file}: {column} falls on all seven days of the week alike ({share} on Saturday or "
            "Sunday, {p}): no working week shows, so the dates may be made up."
        ),
        "working_week": _(
            "{file}: {column} falls on Saturday or Sunday in {share} of rows ({p} against seven "
            "equal days)."
        ),
        "starts_late": _(
            "{file}: no {then} is before {cutoff_on}, though {rows} have {first} before it and "
            "about {n_expected} of them should have ended by then. Rows that ended earlier seem "
            "not to have been exported: for what began before {cutoff_on}, only those that "
            "lasted are seen."
        ),
        "starts_whole": _(
            "{file}: nothing says that rows with an early {then} were left out of the export."
        ),
        "stale": _(
            "{file}: {rows} of {n_open} without {then} are older on {as_of_on} than the "
            "longest finished one took ({days} days): abandoned, perhaps, rather than open."
        ),
        "fresh": _("{file}: no row without {then} is older than the longest finished one took."),
        "few_bring_most": _(
            "{file}: the best fifth of {n_groups} values of {by} bring {share_best} of {column} "
            "({share_low} to {share_high})."
        ),
        "few_do_not_bring_most": _(
            "{file}: the best fifth of {n_groups} values of {by} bring {share_best} of {column} "
            "({share_low} to {share_high}): the rule that a fifth bring four fifths does not hold."
        ),
        "differs": _(
            "{file}: the share of {of} among {among} runs from {share_low} ({low}) to "
            "{share_high} ({high}) over {n_groups} values of {by}: more than chance ({p})."
        ),
        "differs_by_chance": _(
            "{file}: the share of {of} among {among} runs from {share_low} ({low}) to "
            "{share_high} ({high}) over {n_groups} values of {by}; no difference is established "
            "({p})."
        ),
        "differs_in_quarter": _(
            "{file}: the share of {of} among {among} runs from {share_low} (month {low} of a "
            "quarter) to {share_high} (month {high}) by {by}: more than chance ({p})."
        ),
        "differs_in_quarter_by_chance": _(
            "{file}: the share of {of} among {among} does not depend on the month of the quarter "
            "of {by} ({p})."
        ),
        "not_positive": _("{file}: {column} is zero or less in {rows} of {n_of}."),
        "positive": _("{file}: {column} is above zero in every row."),
        "same": _("{file}: {rows} share {columns} with an earlier row."),
        "all_differ": _("{file}: no two rows share {columns}."),
        "empty": _("{table}: empty, because {reason}."),
        "capped": _(
            "{file}: {rows} of {n_of} hold the largest {column}, {top}; the next largest value "
            "has {n_next}. It looks like a limit of the records, not an end that was observed."
        ),
        "not_capped": _("{file}: the largest {column}, {top}, is held by {rows}: no limit shows."),
    }
