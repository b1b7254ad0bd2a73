"""From a plan (`reports/*.toml`) to the runs it asks for: pure, and checked before anything runs.

A plan names notebooks, dealerships, languages and formats; every combination is one `Run`, a
frozen value that says everything about one report: which notebook, with which parameters, and
where its page goes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError, listed, near
from crm_analysis.reporting.parameters import Parameter, Value, check_values, read_parameters
from crm_analysis.reporting.places import find_notebook, notebook_names

__all__ = [
    "FORMATS",
    "NETWORK",
    "Plan",
    "Report",
    "Run",
    "check_formats",
    "make_runs",
    "read_plan",
    "slug",
]

NETWORK = "network"
"""The word for no filter: all dealerships together."""

ALL = "all"
FORMATS = ("html", "pdf")
DEFAULT_FORMATS = ("html",)
LANGUAGES = ("en", "ru")
DEFAULT_TIMEOUT_SECONDS = 600.0

_OF_REPORT: dict[str, type | tuple[type, ...]] = {
    "dealerships": (str, list),
    "languages": (str, list),
    "formats": (str, list),
    "data": str,
    "parameters": dict,
    "timeout_seconds": (int, float),
    "show_code": bool,
    "subject": str,
}
_OF_PLAN = {**_OF_REPORT, "title": str, "out": str, "notebooks": list, "report": list}
_OF_ENTRY = {**_OF_REPORT, "notebook": str, "name": str}


@dataclass(frozen=True)
class Run:
    """One report to make.

    Attributes
    ----------
    name : str
        What the report is called in its batch; the notebook's own name unless the plan says else.
    notebook : str
        The notebook's path, relative to the project's root where it lies inside.
    parameters : mapping
        Checked values that differ from, or confirm, the notebook's defaults.
    dealership : str or None
        One dealership, ``"network"`` for all together, or None where the plan speaks of none.
    lang : str
        Language of the page, ``"en"`` or ``"ru"``.
    path : str
        Where the page goes, relative to the batch's folder, with forward slashes; a PDF goes
        beside it.
    formats : tuple of str
        ``"html"``, ``"pdf"`` or both.
    timeout_seconds : float
        After this the report is given up.
    show_code : bool
        Whether the page shows code (the researcher's version).
    subject : str or None
        Whose data these are, over the title, where no dealership says it.
    """

    name: str
    notebook: str
    path: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    dealership: str | None = None
    lang: str = "en"
    formats: tuple[str, ...] = DEFAULT_FORMATS
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    show_code: bool = False
    subject: str | None = None

    @property
    def paths(self) -> dict[str, str]:
        """Where each of the formats goes, relative to the batch's folder."""
        return {name: f"{self.path.removesuffix('.html')}.{name}" for name in self.formats}

    def to_json(self) -> dict[str, Any]:
        """Return the run as plain JSON, for a worker or a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Run:
        """Build the run that `to_json` described."""
        return cls(**{**data, "formats": tuple(data["formats"])})


@dataclass(frozen=True)
class Report:
    """One notebook of a plan and how it is to be spread over dealerships and languages."""

    name: str
    notebook: Path
    inputs: tuple[Parameter, ...]
    parameters: Mapping[str, Value]
    dealerships: tuple[str, ...]
    languages: tuple[str, ...]
    formats: tuple[str, ...]
    timeout_seconds: float
    show_code: bool
    subject: str | None

    @property
    def takes(self) -> frozenset[str]:
        """Names of the notebook's parameters."""
        return frozenset(item.name for item in self.inputs)


@dataclass(frozen=True)
class Plan:
    """A plan as read: its title, where its pages go, and its reports."""

    title: str
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
        A TOML file. Keys: `title`, `data`, `out`, `notebooks` (names), `dealerships`
        (``"network"``, ``"all"``, names), `languages`, `formats`, `timeout_seconds`,
        `show_code`, `subject` (whose data, over the title), `[parameters]` for every notebook
        that has them, and `[[report]]` tables
        with `notebook`, `name` and any of these again, for that notebook alone.
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
    _check_shared(table.get("parameters", {}), reports, path)
    return Plan(
        title=table.get("title", path.stem.replace("_", " ").capitalize()),
        source=path,
        root=root,
        out=root / table.get("out", f"reports/out/{path.stem}"),
        data=table.get("data"),
        reports=reports,
    )


def make_runs(plan: Plan, names_of: Callable[[str], Sequence[str]]) -> tuple[Run, ...]:
    """List every report that a plan asks for.

    Parameters
    ----------
    plan : Plan
    names_of : callable
        Given the data's path, the names of its dealerships; called only where the plan says
        ``"all"``.

    Raises
    ------
    ReportError
        Two reports that would be written to the same page.
    """
    runs = [run for report in plan.reports for run in _spread(report, plan.root, names_of)]
    taken: dict[str, Run] = {}
    for run in runs:
        other = taken.setdefault(run.path.casefold(), run)
        if other is not run:
            raise ReportError(
                f"The plan {plan.source} asks twice for the page {run.path}: by {other.notebook} "
                f"and by {run.notebook}. Give one of them another 'name' in its [[report]] table."
            )
    return tuple(runs)


def slug(name: str) -> str:
    """Make a folder name of a dealership's name: letters and digits of any script, and dashes.

    Examples
    --------
    >>> slug("North Star / Motors"), slug("Автомир №2")
    ('north-star-motors', 'автомир-2')
    """
    return re.sub(r"[^\w]+", "-", name.casefold()).strip("-_") or "dealership"


def page_path(name: str, dealership: str | None, lang: str) -> str:
    """Say where a report's page goes inside its batch's folder."""
    page = f"{slug(name).replace('-', '_')}.{lang}.html"
    return page if dealership is None else f"{slug(dealership)}/{page}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(
            f"The plan {path} cannot be opened: {error.strerror}. Plans lie in reports/*.toml."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ReportError(f"The plan {path} is not TOML: {error}.") from error


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
        parameters=_parameters(entry, table, inputs, notebook.stem),
        dealerships=_words(merged.get("dealerships", [])),
        languages=_words(merged.get("languages", ["en"])),
        formats=_words(merged.get("formats", list(DEFAULT_FORMATS))),
        timeout_seconds=float(merged.get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS)),
        show_code=merged.get("show_code", False),
        subject=merged.get("subject"),
    )
    _check_report(report, where)
    return report


def _parameters(
    entry: Mapping[str, Any],
    table: Mapping[str, Any],
    inputs: Sequence[Parameter],
    notebook: str,
) -> dict[str, Value]:
    takes = {item.name for item in inputs}
    shared = {k: v for k, v in table.get("parameters", {}).items() if k in takes}
    own = dict(entry.get("parameters", {}))
    if "data" in entry:
        own.setdefault("data", entry["data"])
    elif "data" in table and "data" in takes:
        shared.setdefault("data", table["data"])
    return check_values(inputs, {**shared, **own}, notebook=notebook)


def _words(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def check_formats(formats: Sequence[str], where: str) -> None:
    """Refuse formats that do not exist, or whose maker is not installed.

    Raises
    ------
    ReportError
    """
    if not formats:
        raise ReportError(f"{where}: formats is empty. It may have: {listed(FORMATS)}.")
    for word in formats:
        if word not in FORMATS:
            raise ReportError(f"{where}: formats has {word!r}. It may have: {listed(FORMATS)}.")
    if "pdf" in formats and find_spec("typst") is None:
        raise ReportError(
            f"{where} is to be made as PDF, and the package 'typst', which sets it, is not "
            'installed. Install it (python -m pip install typst), or ask for formats = ["html"].'
        )


def _check_report(report: Report, where: str) -> None:
    check_formats(report.formats, where)
    for word in report.languages:
        if word not in LANGUAGES:
            raise ReportError(f"{where}: languages has {word!r}. It may have: {listed(LANGUAGES)}.")
    if report.dealerships and "dealership" not in report.takes:
        raise ReportError(
            f"{where} is to be made for {listed(report.dealerships)}, but its notebook has no "
            "parameter 'dealership'. Put dealerships = [] into its [[report]] table."
        )
    if "lang" not in report.takes and report.languages != ("en",):
        raise ReportError(
            f"{where} is to be made in {listed(report.languages)}, but its notebook has no "
            "parameter 'lang'. Put languages = [\"en\"] into its [[report]] table."
        )
    for name in ("dealership", "lang"):
        if name in report.parameters:
            raise ReportError(
                f"{where} sets the parameter {name!r}. Write it as '{name}s' in the plan, so that "
                "the page goes to its own place."
            )


def _check_shared(shared: Mapping[str, Any], reports: Iterable[Report], path: Path) -> None:
    every = {name for report in reports for name in report.takes}
    for name in shared:
        if name not in every:
            raise ReportError(
                f"The plan {path.name} sets the parameter {name!r} for all notebooks, and none "
                f"has it{near(name, every)}. They have: {listed(sorted(every))}."
            )


def _spread(report: Report, root: Path, names_of: Callable[[str], Sequence[str]]) -> Iterable[Run]:
    for dealership in _dealerships(report, names_of):
        for lang in report.languages:
            yield make_run(
                report.notebook,
                report.parameters,
                takes=report.takes,
                root=root,
                name=report.name,
                dealership=dealership,
                lang=lang,
                formats=report.formats,
                timeout_seconds=report.timeout_seconds,
                show_code=report.show_code,
                subject=report.subject,
            )


def make_run(
    notebook: Path,
    parameters: Mapping[str, Value],
    *,
    takes: Iterable[str],
    root: Path,
    name: str,
    dealership: str | None,
    lang: str,
    formats: tuple[str, ...] = DEFAULT_FORMATS,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    show_code: bool = False,
    subject: str | None = None,
) -> Run:
    """Build one run; `dealership` and `lang` become parameters where the notebook takes them."""
    values = dict(parameters)
    if dealership is not None:
        values["dealership"] = None if dealership == NETWORK else dealership
    if "lang" in set(takes):
        values["lang"] = lang
    return Run(
        name=name,
        notebook=_relative(notebook, root),
        path=page_path(name, dealership, lang),
        parameters=values,
        dealership=dealership,
        lang=lang,
        formats=formats,
        timeout_seconds=timeout_seconds,
        show_code=show_code,
        subject=subject,
    )


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _dealerships(
    report: Report, names_of: Callable[[str], Sequence[str]]
) -> tuple[str | None, ...]:
    if not report.dealerships:  # the page names none: its data need not be a dealership's
        return (None,)
    names: dict[str, None] = {}
    for word in report.dealerships:
        if word != ALL:
            names[word] = None
            continue
        default = next((i.default for i in report.inputs if i.name == "data"), None)
        data = report.parameters.get("data", default)
        if not isinstance(data, str):
            raise ReportError(
                f"The report {report.name!r} is to be made for all dealerships, but names no data "
                "to read them from. Set 'data' in the plan, or list the dealerships by name."
            )
        names.update(dict.fromkeys(names_of(data)))
    return tuple(names)
