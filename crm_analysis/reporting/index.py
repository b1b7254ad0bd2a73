"""The page over a batch: by dealership and report, made from the results, opened from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crm_analysis.reporting.plan import NETWORK
from crm_analysis.wording import _, date_text, plural, speaking

if TYPE_CHECKING:
    from crm_analysis.reporting.batch import Batch, Outcome

__all__ = ["write_index"]

_TEMPLATES = Path(__file__).resolve().parent / "template"


def write_index(batch: Batch) -> Path:
    """Write `index.html` of a batch and return its path."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    environment.globals["_"] = _
    languages = {outcome.run.lang for outcome in batch.outcomes}
    lang = languages.pop() if len(languages) == 1 else "en"
    with speaking(lang):
        html = environment.get_template("batch.html.j2").render(
            lang=lang,
            style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
            title=batch.title,
            days=_days(batch.outcomes),
            counts=_counts(batch),
            groups=_groups(batch.outcomes),
        )
    path = batch.out / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(".index.html.part")
    part.write_text(html, encoding="utf-8", newline="\n")
    part.replace(path)
    return path


def _groups(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Gather the outcomes by dealership, in the plan's order, the network first."""
    found: dict[str | None, list[dict[str, Any]]] = {}
    for outcome in sorted(outcomes, key=lambda o: o.run.dealership != NETWORK):
        found.setdefault(outcome.run.dealership or outcome.run.subject, []).append(_entry(outcome))
    return [
        {
            "anchor": f"d{number}",
            "name": _group_name(name),
            "entries": entries,
            "by_language": _by_language(entries),
        }
        for number, (name, entries) in enumerate(found.items(), 1)
    ]


def _by_language(entries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Part the entries by language, so that nobody has to skip every second one."""
    languages = dict.fromkeys(entry["lang"] for entry in entries)
    return [[entry for entry in entries if entry["lang"] == lang] for lang in languages]


def _group_name(dealership: str | None) -> str:
    if dealership is None:
        return _("Reports")
    return _("The whole network") if dealership == NETWORK else dealership


def _entry(outcome: Outcome) -> dict[str, Any]:
    result: Mapping[str, Any] = outcome.result
    failure = result.get("failure") or {}
    findings = result.get("findings") or [None]
    page = outcome.status != "waiting" and failure.get("kind") != "disk"
    return {
        "title": result.get("title") or outcome.run.name,
        "lang": outcome.run.lang,
        "status": "ready" if outcome.status in ("made", "unchanged") else outcome.status,
        "finding": findings[0],
        "reason": failure.get("message"),
        "cell": failure.get("cell"),
        "href": quote(_page_of(outcome)) if page else None,
    }


def _page_of(outcome: Outcome) -> str:
    """Return what a reader opens: the page, or the PDF where that alone was asked for."""
    made = outcome.run.paths
    return made.get("pdf", outcome.run.path) if "html" not in made else outcome.run.path


def _days(outcomes: list[Outcome]) -> list[str]:
    days = {str(outcome.result["as_of"]) for outcome in outcomes if outcome.result.get("as_of")}
    return [date_text(date.fromisoformat(day)) for day in sorted(days)]


def _counts(batch: Batch) -> list[str]:
    ready = batch.count("made") + batch.count("unchanged")
    failed, waiting = batch.count("failed"), batch.count("waiting")
    texts = [plural(ready, "{n} report", "{n} reports")]
    if failed:
        texts.append(plural(failed, "{n} could not be made", "{n} could not be made"))
    if waiting:
        texts.append(plural(waiting, "{n} not made yet", "{n} not made yet"))
    return texts
