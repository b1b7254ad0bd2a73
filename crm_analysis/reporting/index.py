"""The page over a batch: by dealership, period and reader, opened from a folder without a server.

One page for every language of the batch: `index.html` in the first, `index.ru.html` beside it.
What failed stands first; then the key figures of all dealerships side by side; then every report.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crm_analysis.files import write_whole
from crm_analysis.reporting.history import in_one_money
from crm_analysis.reporting.links import index_names
from crm_analysis.reporting.periods import period_text
from crm_analysis.reporting.plan import READERS
from crm_analysis.reporting.runs import NETWORK
from crm_analysis.reporting.sparkline import sparkline
from crm_analysis.wording import _, date_text, plural, speaking, visible

if TYPE_CHECKING:
    from crm_analysis.reporting.batch import Batch, Outcome

__all__ = ["write_index"]

_TEMPLATES = Path(__file__).resolve().parent / "template"
_LANGUAGE_NAMES = {"en": "English", "ru": "Русский"}
_MOST_COLUMNS = 6
Entry = dict[str, Any]


def write_index(batch: Batch) -> Path:
    """Write the index of a batch in each of its languages; return the path of the first.

    Raises
    ------
    OSError
        It could not be written; an older one is left as it was.
    """
    names = index_names(o.run for o in batch.outcomes)
    for lang, name in names.items():
        with speaking(lang):
            write_whole(batch.out / name, visible(_page(batch, lang, names)))
    return batch.out / "index.html"


def _page(batch: Batch, lang: str, names: Mapping[str, str]) -> str:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    environment.globals["_"] = _
    script = _file("batch.js")
    entries = [_entry(batch, outcome) for outcome in _in_language(batch.outcomes, lang)]
    return environment.get_template("batch.html.j2").render(
        lang=lang,
        style=_file("page.css") + _file("batch.css"),
        script=script,
        script_hash=_hash(script),
        title=batch.titles[lang],
        days=_days(entries),
        counts=_counts(entries),
        languages=[(code, _LANGUAGE_NAMES[code], name) for code, name in names.items()],
        failures=[entry for entry in entries if entry["status"] == "failed"],
        notes=[*batch.notes, *([batch.stopped] if batch.stopped else [])],
        glance=_glance(entries),
        groups=_groups(entries),
        periods=_choices(entries, "period", "period_name"),
        readers=_choices(entries, "reader", "reader_name"),
    )


def _file(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _in_language(outcomes: Iterable[Outcome], lang: str) -> list[Outcome]:
    """Choose each report once: in the page's language where there is one, else in another."""
    found: dict[tuple[str, str | None, str | None], Outcome] = {}
    for outcome in outcomes:
        run = outcome.run
        place = (run.name, run.dealership, run.period)
        if place not in found or run.lang == lang:
            found[place] = outcome
    return list(found.values())


def _entry(batch: Batch, outcome: Outcome) -> Entry:
    run = outcome.run
    result: Mapping[str, Any] = outcome.result or outcome.older
    failure = result.get("failure") or {}
    findings = result.get("findings") or [None]
    as_of = result.get("as_of") or batch.inputs.as_of(run)
    return {
        "title": result.get("title") or run.name.replace("_", " ").capitalize(),
        "name": run.name,
        "lang": run.lang,
        "dealership": run.dealership or run.subject,
        "place": _place(run.dealership or run.subject),
        "as_of": as_of,
        "period": run.period or "",
        "period_name": period_text(run.period) if run.period else "",
        "reader": run.reader,
        "reader_name": _reader_name(run.reader),
        "status": "ready" if outcome.status in ("made", "unchanged") else outcome.status,
        "finding": findings[0],
        "figures": _figures(batch, outcome, result, as_of),
        "reason": failure.get("message"),
        "cell": failure.get("cell"),
        "links": _links(batch, outcome),
    }


def _place(dealership: str | None) -> str:
    if dealership is None:
        return _("Reports")
    return _("The whole network") if dealership == NETWORK else dealership


def _reader_name(reader: str) -> str:
    return {
        "manager": _("For managers"),
        "analyst": _("For analysts"),
        "researcher": _("For researchers"),
        "teacher": _("For teachers"),
    }[reader]


def _links(batch: Batch, outcome: Outcome) -> dict[str, str]:
    """Return the report's files that are there, by format."""
    files = {"html": outcome.run.path, **outcome.run.paths}
    return {name: quote(path) for name, path in files.items() if (batch.out / path).is_file()}


def _figures(
    batch: Batch, outcome: Outcome, result: Mapping[str, Any], as_of: str | None
) -> list[Entry]:
    series = batch.history.series(batch.inputs.chain(outcome.run)) if as_of else {}
    return [
        {
            "key": figure.get("key"),
            "label": figure["label"],
            "value": figure["value"],
            "interval": figure.get("interval"),
            "spark": sparkline(
                figure["label"],
                _comparable(series.get(figure.get("key"), []), figure, as_of or ""),
                currency=figure.get("currency"),
            ),
            "change": _change(figure),
        }
        for figure in result.get("key_figures") or []
    ]


def _comparable(
    rows: Iterable[Mapping[str, Any]], figure: Mapping[str, Any], until: str
) -> list[Mapping[str, Any]]:
    """Choose what one line may be drawn through: up to a day, in one unit and one money."""
    return [
        row
        for row in rows
        if row["as_of"] <= until
        and row["unit"] == figure.get("unit")
        and in_one_money(row, figure.get("currency"))
    ]


def _change(figure: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Choose the change that an index shows: an established one, against what is nearest."""
    order = ("target", "reported", "previous", "network")
    signs = {"up": "▲", "down": "▼"}
    changes = [one for one in figure.get("changes") or () if one["direction"] in signs]
    nearest = min(changes, key=lambda one: order.index(one["against"]), default=None)
    if nearest is None:
        return None
    tone = {True: "good", False: "bad", None: "level"}[nearest["good"]]
    return {**nearest, "sign": signs[nearest["direction"]], "tone": tone}


def _glance(entries: list[Entry]) -> Entry | None:
    """Lay the key figures of one report side by side for all dealerships, newest period."""
    for name in dict.fromkeys(entry["name"] for entry in entries):
        rows = _newest([entry for entry in entries if entry["name"] == name])
        if len(rows) > 1:
            first = rows[0]
            keys = [figure["key"] or figure["label"] for figure in first["figures"]]
            table = [(entry, _cells(entry, keys[:_MOST_COLUMNS])) for entry in rows]
            return {"first": first, "labels": first["figures"][:_MOST_COLUMNS], "rows": table}
    return None


def _newest(entries: list[Entry]) -> list[Entry]:
    """Choose of each dealership the newest report with key figures, the network first."""
    found: dict[str | None, Entry | None] = dict.fromkeys(e["dealership"] for e in entries)
    for entry in entries:
        held = found[entry["dealership"]]
        if entry["figures"] and (held is None or (entry["as_of"] or "") > (held["as_of"] or "")):
            found[entry["dealership"]] = entry
    known = [entry for entry in found.values() if entry is not None]
    return sorted(known, key=lambda entry: entry["dealership"] != NETWORK)


def _cells(entry: Entry, keys: list[str]) -> list[Entry | None]:
    by_key = {figure["key"] or figure["label"]: figure for figure in entry["figures"]}
    return [by_key.get(key) for key in keys]


def _groups(entries: list[Entry]) -> list[Entry]:
    """Gather reports by dealership, the network first; in each the newest period stands open."""
    found: dict[str | None, list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: e["dealership"] != NETWORK):
        found.setdefault(entry["dealership"], []).append(entry)
    return [
        {
            "anchor": f"d{number}",
            "name": _place(dealership),
            "failed": sum(entry["status"] == "failed" for entry in inside),
            "periods": _by_period(inside),
        }
        for number, (dealership, inside) in enumerate(found.items(), 1)
    ]


def _by_period(entries: list[Entry]) -> list[Entry]:
    days: dict[str, str] = {}
    for entry in entries:
        days[entry["period"]] = max(days.get(entry["period"], ""), entry["as_of"] or "")
    return [
        {
            "name": period_text(period) if period else "",
            "readers": _by_reader([entry for entry in entries if entry["period"] == period]),
        }
        for period in sorted(days, key=lambda period: days[period], reverse=True)
    ]


def _by_reader(entries: list[Entry]) -> list[tuple[str, list[Entry]]]:
    groups = [(name, [e for e in entries if e["reader"] == name]) for name in READERS]
    return [(_reader_name(name), inside) for name, inside in groups if inside]


def _choices(entries: list[Entry], value: str, name: str) -> list[tuple[str, str]]:
    """Return what a list to choose from offers; nothing where there is no choice."""
    found = {entry[value]: entry[name] for entry in entries if entry[value]}
    return sorted(found.items(), reverse=value == "period") if len(found) > 1 else []


def _days(entries: list[Entry]) -> list[str]:
    days = {entry["as_of"] for entry in entries if entry["as_of"]}
    if len(days) > 2:
        days = {min(days), max(days)}
    return [date_text(date.fromisoformat(day)) for day in sorted(days)]


def _counts(entries: list[Entry]) -> list[str]:
    statuses = [entry["status"] for entry in entries]
    texts = [plural(statuses.count("ready"), "{n} report", "{n} reports")]
    if failed := statuses.count("failed"):
        texts.append(plural(failed, "{n} could not be made", "{n} could not be made"))
    if waiting := statuses.count("waiting"):
        texts.append(plural(waiting, "{n} not made yet", "{n} not made yet"))
    return texts
