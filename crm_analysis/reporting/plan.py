"""From a plan (`reports/*.toml`) to the runs it asks for: pure, and checked before anything runs.

A plan names notebooks, dealerships, periods, languages and formats; every combination is one
`Run`, a frozen value that says everything about one report.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError, listed, near
from crm_analysis.reporting.parameters import Parameter, Value, check_values, read_parameters
from crm_analysis.reporting.periods import Period, read_periods
from crm_analysis.reporting.places import find_notebook, notebook_names
from crm_analysis.reporting.runs import (
    DEFAULT_FORMATS,
    DEFAULT_READER,
    DEFAULT_TIMEOUT_SECONDS,
    NETWORK,
    Run,
    make_run,
    page_path,
    slug,
)

__all__ = [
    "FORMATS",
    "LANGUAGES",
    "NETWORK",
    "READERS",
    "Plan",
    "Report",
    "Run",
    "check_formats",
    "check_timeout",
    "make_run",
    "make_runs",
    "read_plan",
    "slug",
]

ALL = "all"
FORMATS = ("html", "pdf")
LANGUAGES = ("en", "ru")
_LONGEST_TIMEOUT_SECONDS = 7 * 24 * 3600
READERS = ("manager", "analyst", "researcher", "teacher")
"""For whom a report may be; the index groups by them, in this order."""

_OF_REPORT: dict[str, type | tuple[type, ...]] = {
    "dealerships": (str, list),
    "periods": (str, list),
    "languages": (str, list),
    "formats": (str, list),
    "reader": str,
    "data": str,
    "parameters": dict,
    "targets": dict,
    "thresholds": dict,
    "timeout_seconds": (int, float),
    "show_code": bool,
    "subject": str,
}
_OF_PLAN = {**_OF_REPORT, "title": (str, dict), "out": str, "notebooks": list, "report": list}
_OF_ENTRY = {**_OF_REPORT, "notebook": str, "name": str}
_SET_ELSEWHERE = {"dealership": "dealerships", "lang": "languages", "targets": "targets"}
"""Parameters that have a key of their own in a plan."""


@dataclass(frozen=True)
class Report:
    """One notebook of a plan and how it is to be spread over dealerships, periods, languages."""

    name: str
    notebook: Path
    inputs: tuple[Parameter, ...]
    parameters: Mapping[str, Value]
    dealerships: tuple[str, ...]
    periods: tuple[str, ...]
    languages: tuple[str, ...]
    formats: tuple[str, ...]
    reader: str
    timeout_seconds: float
    show_code: bool
    subject: str | None

    @property
    def takes(self) -> frozenset[str]:
        """Names of the notebook's parameters."""
        return frozenset(item.name for item in self.inputs)

    @property
    def data(self) -> str | None:
        """Where the notebook reads its data, if a parameter says so."""
        default = next((item.default for item in self.inputs if item.name == "data"), None)
        data = self.parameters.get("data", default)
        return data if isinstance(data, str) else None


@dataclass(frozen=True)
class Plan:
    """A plan as read: its title in each language, where its pages go, and its reports."""

    titles: Mapping[str, str]
    source: Path
    root: Path
    out: Path
    data: str | None
    reports: tuple[Report, ...]


def read_plan(path: Path, *, root: Path) -> Plan:
    """Read and check a plan.

    Parameters
    ----------
    path : Path
        A TOML file. Keys: `title` (text, or one for each language,
        ``{ en = "…", ru = "…" }``), `data`, `out`, `notebooks` (names), `dealerships`
        (``"network"``, ``"all"``, names), `periods` (``"2025-10"``, ``"2025-Q4"``, ``"2025"``,
        ``"last 3 months"``), `languages`, `formats`, `reader`, `timeout_seconds`, `show_code`,
        `subject` (whose data, over the title), `[parameters]` and `[thresholds]` for every
        notebook that has them, `[targets]` (the key of a key figure and what it should be) for
        every notebook with a parameter `targets`, `[targets.NAME]` for the report of that name
        alone, and `[[report]]` tables with `notebook`,
        `name` and any of these again, for that notebook alone.
    root : Path
        The project's root: paths in the plan are relative to it.

    Raises
    ------
    ReportError
        An unknown key (with the near name), a value of the wrong type, a notebook that does not
        exist, or a parameter that its notebook does not take.
    """
    table = _read_toml(path)
    _check_keys(table, _OF_PLAN, f"The plan {path.name}")
    entries = [{"notebook": name} for name in table.get("notebooks", [])]
    entries += table.get("report", [])
    if not entries:
        raise ReportError(
            f"The plan {path} asks for no report. List names under 'notebooks', or add a "
            f"[[report]] table. Notebooks here: {listed(notebook_names(root))}."
        )
    reports = tuple(_read_report(entry, table, path, root) for entry in entries)
    _check_shared(table, reports, path)
    return Plan(
        titles=_titles(table, path),
        source=path,
        root=root,
        out=root / table.get("out", f"reports/out/{path.stem}"),
        data=table.get("data"),
        reports=reports,
    )


def make_runs(
    plan: Plan,
    names_of: Callable[[str], Mapping[str, str]],
    last_day_of: Callable[[str], date | None] = lambda _data: None,
) -> tuple[Run, ...]:
    """List every report that a plan asks for.

    Parameters
    ----------
    plan : Plan
    names_of : callable
        Given the data's path, the names of its dealerships by id; called where the plan asks for
        dealerships, by ``"all"`` or by name.
    last_day_of : callable
        Given the data's path, the last day they cover, or None where that is not known before
        they are read; called only where the plan has periods.

    Raises
    ------
    ReportError
        Two reports that would be written to the same page, a dealership that the data do not
        have, or a period that cannot be meant.
    """
    spread = [
        run for report in plan.reports for run in _spread(report, plan, names_of, last_day_of)
    ]
    runs = _in_own_folders(spread)
    taken: dict[str, Run] = {}
    for run in runs:
        other = taken.setdefault(run.path.casefold(), run)
        if other is not run:
            raise ReportError(
                f"The plan {plan.source} asks twice for the page {run.path}: by {other.notebook} "
                f"and by {run.notebook}. Give one of them another 'name' in its [[report]] table."
            )
    return tuple(runs)


def _in_own_folders(runs: Sequence[Run]) -> list[Run]:
    """Put a mark to the folders of dealerships whose names differ in nothing a folder shows."""
    names: dict[str, set[str]] = {}
    for run in runs:
        if run.dealership is not None:
            names.setdefault(slug(run.dealership), set()).add(run.dealership)
    return [
        replace(run, path=page_path(run.name, run.dealership, run.period, run.lang, marked=True))
        if run.dealership is not None and len(names[slug(run.dealership)]) > 1
        else run
        for run in runs
    ]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        # Windows editors put a mark first.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ReportError(
            f"The plan {path} cannot be opened: {error.strerror}{_plan_near(path)}. "
            "Plans lie in reports/*.toml."
        ) from error
    except ValueError as error:  # not TOML, or not text in UTF-8
        raise ReportError(f"The plan {path} is not TOML: {error}.") from error


def _plan_near(path: Path) -> str:
    found = path.parent.glob("*.toml") if path.parent.is_dir() else ()
    return near(path.name, [other.name for other in found])


def _check_keys(
    table: Mapping[str, Any], allowed: Mapping[str, type | tuple[type, ...]], where: str
) -> None:
    for key, value in table.items():
        if key not in allowed:
            raise ReportError(
                f"{where} has an unknown key {key!r}{near(key, allowed)}. "
                f"It may have: {listed(sorted(allowed))}."
            )
        wanted = allowed[key]
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        if type(value) not in kinds:
            words = " or ".join(kind.__name__ for kind in kinds)
            raise ReportError(f"{where}: {key!r} must be {words}, not {value!r}.")


def _titles(table: Mapping[str, Any], path: Path) -> dict[str, str]:
    title = table.get("title", path.stem.replace("_", " ").capitalize())
    if isinstance(title, str):
        return dict.fromkeys(LANGUAGES, title)
    where = f"The title of the plan {path.name}"
    _check_keys(title, dict.fromkeys(LANGUAGES, str), where)
    if not title:
        raise ReportError(f"{where} is empty. Write it as text, or one for each language.")
    first = next(iter(title.values()))
    return {lang: title.get(lang, first) for lang in LANGUAGES}


def _read_report(
    entry: Mapping[str, Any], table: Mapping[str, Any], path: Path, root: Path
) -> Report:
    if not isinstance(entry.get("notebook"), str):
        raise ReportError(
            f"A report of the plan {path.name} names no notebook: {dict(entry)!r}. "
            'Add notebook = "…" to its [[report]] table.'
        )
    notebook = find_notebook(entry["notebook"], root=root)
    where = f"The report {entry['notebook']!r} of {path.name}"
    _check_keys(entry, _OF_ENTRY, where)
    merged = {**table, **entry}
    inputs = read_parameters(notebook)
    report = Report(
        name=entry.get("name", notebook.stem),
        notebook=notebook,
        inputs=inputs,
        parameters=_parameters(entry, table, inputs, where),
        dealerships=_words(merged, "dealerships", (), where),
        periods=_words(merged, "periods", (), where),
        languages=_words(merged, "languages", ("en",), where),
        formats=_words(merged, "formats", DEFAULT_FORMATS, where),
        reader=merged.get("reader", DEFAULT_READER),
        timeout_seconds=float(merged.get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS)),
        show_code=merged.get("show_code", False),
        subject=merged.get("subject"),
    )
    _check_report(report, where)
    return report


def _parameters(
    entry: Mapping[str, Any], table: Mapping[str, Any], inputs: Sequence[Parameter], where: str
) -> dict[str, Value]:
    """Gather a report's values: the plan's where the notebook takes them, then its own."""
    takes = {item.name for item in inputs}
    given = {**table.get("thresholds", {}), **table.get("parameters", {})}
    shared = {name: value for name, value in given.items() if name in takes}
    own = {**entry.get("thresholds", {}), **entry.get("parameters", {})}
    for name, key in _SET_ELSEWHERE.items():
        if name in {**given, **own}:
            raise ReportError(
                f"{where} sets the parameter {name!r}. Write it as '{key}' in the plan, so that "
                "the page goes to its own place and every report is held to the same."
            )
    targets = _targets(entry, table)
    if targets and ("targets" in takes or not _for_all(table).items() >= targets.items()):
        own["targets"] = targets
    if "data" in entry:
        own.setdefault("data", entry["data"])
    elif "data" in table and "data" in takes:
        shared.setdefault("data", table["data"])
    return check_values(inputs, {**shared, **own}, notebook=Path(entry["notebook"]).stem)


def _for_all(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the targets that hold for every report: those not under a report's name."""
    targets = table.get("targets", {})
    return {key: value for key, value in targets.items() if not isinstance(value, dict)}


def _targets(entry: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Gather a report's targets: those for all, those under its name, then its own."""
    name = entry.get("name", Path(entry["notebook"]).stem)
    under_its_name = table.get("targets", {}).get(name, {})
    named = under_its_name if isinstance(under_its_name, dict) else {}
    return {**_for_all(table), **named, **entry.get("targets", {})}


def _words(
    table: Mapping[str, Any], key: str, default: tuple[str, ...], where: str
) -> tuple[str, ...]:
    value = table.get(key, list(default))
    words = [value] if isinstance(value, str) else value
    if not all(isinstance(word, str) for word in words):
        raise ReportError(f"{where}: {key!r} must be texts in quotes, not {value!r}.")
    return tuple(dict.fromkeys(words))


def check_formats(formats: Sequence[str], where: str) -> None:
    """Refuse formats that do not exist, or whose maker is not installed.

    Raises
    ------
    ReportError
    """
    _check_words(formats, FORMATS, "formats", where)
    if "pdf" in formats and find_spec("typst") is None:
        raise ReportError(
            f"{where} is to be made as PDF, and the package 'typst', which sets it, is not "
            'installed. Install it (python -m pip install typst), or ask for formats = ["html"].'
        )


def check_timeout(seconds: float, where: str) -> None:
    """Refuse a time in which no report can be made.

    Raises
    ------
    ReportError
    """
    if not 0 < seconds <= _LONGEST_TIMEOUT_SECONDS:
        raise ReportError(
            f"{where}: timeout_seconds is {seconds:g}. It may be any number above 0 and up to "
            f"{_LONGEST_TIMEOUT_SECONDS:,}, which is a week."
        )


def _check_report(report: Report, where: str) -> None:
    check_timeout(report.timeout_seconds, where)
    _check_words(report.languages, LANGUAGES, "languages", where)
    check_formats(report.formats, where)
    _check_words((report.reader,), READERS, "reader", where)
    for words, parameter, key in (
        (report.dealerships, "dealership", "dealerships"),
        (report.periods, "as_of", "periods"),
    ):
        if words and parameter not in report.takes:
            raise ReportError(
                f"{where} is to be made for {listed(words)}, but its notebook has no "
                f"parameter {parameter!r}. Put {key} = [] into its [[report]] table."
            )
    if report.periods and "as_of" in report.parameters:
        raise ReportError(
            f"{where} has 'periods' and sets the parameter 'as_of' too. Take one of them out: "
            "a period sets 'as_of' to its last day."
        )
    if "lang" not in report.takes and report.languages != ("en",):
        raise ReportError(
            f"{where} is to be made in {listed(report.languages)}, but its notebook has no "
            "parameter 'lang'. Put languages = [\"en\"] into its [[report]] table."
        )


def _check_words(words: Iterable[str], allowed: Sequence[str], key: str, where: str) -> None:
    found = list(words)
    for word in found:
        if word not in allowed:
            raise ReportError(
                f"{where}: {key} has {word!r}{near(word, allowed)}. It may have: {listed(allowed)}."
            )
    if not found:
        raise ReportError(f"{where}: {key} is empty. It may have: {listed(allowed)}.")


def _check_shared(table: Mapping[str, Any], reports: Sequence[Report], path: Path) -> None:
    every = {name for report in reports for name in report.takes}
    for key in ("parameters", "thresholds"):
        for name in table.get(key, {}):
            if name not in every:
                raise ReportError(
                    f"The plan {path.name} sets the parameter {name!r} for all notebooks, under "
                    f"[{key}], and none has it{near(name, every)}. "
                    f"They have: {listed(sorted(every))}."
                )
    names = [report.name for report in reports]
    for name, value in table.get("targets", {}).items():
        if isinstance(value, dict) and name not in names:
            raise ReportError(
                f"The plan {path.name} sets targets for the report {name!r}{near(name, names)}, "
                f"and has none of that name. It has: {listed(names)}."
            )
    if table.get("targets") and "targets" not in every:
        raise ReportError(
            f"The plan {path.name} sets [targets], and none of its notebooks has the parameter "
            "'targets'. Add  targets: dict[str, float] = {}  to the parameters of one."
        )


def _spread(
    report: Report,
    plan: Plan,
    names_of: Callable[[str], Mapping[str, str]],
    last_day_of: Callable[[str], date | None],
) -> Iterable[Run]:
    for period, as_of in _periods(report, plan, last_day_of):
        values = {**report.parameters, **({"as_of": as_of} if as_of else {})}
        for dealership in _dealerships(report, plan, names_of):
            for lang in report.languages:
                yield make_run(
                    report.notebook,
                    values,
                    takes=report.takes,
                    root=plan.root,
                    name=report.name,
                    dealership=dealership,
                    lang=lang,
                    period=period.label if period else None,
                    formats=report.formats,
                    reader=report.reader,
                    timeout_seconds=report.timeout_seconds,
                    show_code=report.show_code,
                    subject=report.subject,
                )


def _periods(
    report: Report, plan: Plan, last_day_of: Callable[[str], date | None]
) -> list[tuple[Period | None, str | None]]:
    if not report.periods:
        return [(None, None)]
    last_day = last_day_of(report.data) if report.data else None
    where = f"The report {report.name!r} of {plan.source.name}"
    periods = read_periods(report.periods, last_day=last_day, where=where)
    return [(period, period.as_of(last_day).isoformat()) for period in periods]


def _dealerships(
    report: Report, plan: Plan, names_of: Callable[[str], Mapping[str, str]]
) -> tuple[str | None, ...]:
    if not report.dealerships:  # the page names none: its data need not be a dealership's
        return (None,)
    where = f"The report {report.name!r} of {plan.source.name}"
    names: dict[str, None] = {}
    for word in report.dealerships:
        if word == ALL:
            names.update(dict.fromkeys(_all_names(report, names_of).values()))
            continue
        if word != NETWORK:
            _check_dealership(word, report, names_of, where)
        names[word] = None
    return tuple(names)


def _all_names(report: Report, names_of: Callable[[str], Mapping[str, str]]) -> Mapping[str, str]:
    if report.data is None:
        raise ReportError(
            f"The report {report.name!r} is to be made for all dealerships, but names no data "
            "to read them from. Set 'data' in the plan, or list the dealerships by name."
        )
    return names_of(report.data)


def _check_dealership(
    word: str, report: Report, names_of: Callable[[str], Mapping[str, str]], where: str
) -> None:
    """Refuse a name that the data do not have; data that hold no names of theirs say nothing."""
    try:
        known = names_of(report.data) if report.data else {}
    except ReportError:
        return
    names = [*known.values(), NETWORK, ALL]
    if known and word not in {*names, *known}:
        raise ReportError(
            f"{where} is to be made for the dealership {word!r}{near(word, names)}, and the data "
            f"{report.data} have none of that name. It may be: {listed(names)}."
        )
