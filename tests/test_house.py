"""The rules of the house that no tool knows: names, the grammar of metrics, light imports.

Each rule is a function that returns what it found wrong, so that the rule itself is tested too
(at the end): a check that cannot fail is a defect.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from crm_analysis import open_warehouse

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "crm_analysis"
METRICS = (
    "retention",
    "lifetime",
    "funnel",
    "satisfaction",
    "segments",
    "managers",
    "marketing",
    "forecast",
)
REPORTS = {
    "segments": "customer_base",
    "managers": "sales_head",
    "marketing": "marketer",
    "forecast": "pipeline",
}
"""Families whose notebook is named for its reader or its question."""
ABOVE = ("claims",)
"""Combines metrics of several families, and stands on the floor above them."""
HEAVY = {
    "duckdb",
    "great_tables",
    "matplotlib",
    "nbconvert",
    "pandas",
    "papermill",
    "polars",
    "scipy",
    "statsmodels",
}


@pytest.mark.parametrize("metric", METRICS)
def test_one_word_finds_everything(metric: str) -> None:
    """A family of metrics has its notebook and its tests."""
    assert (LIBRARY / metric / "__init__.py").exists()
    assert (ROOT / "notebooks" / f"{REPORTS.get(metric, metric)}.ipynb").exists()
    assert (ROOT / "tests" / f"test_{metric}.py").exists()


# --- the public names ---------------------------------------------------------------------------


def stub() -> ast.Module:
    return ast.parse((LIBRARY / "__init__.pyi").read_text(encoding="utf-8"))


def public_imports() -> list[tuple[str, str]]:
    """The stub's (module, name) pairs, in its order."""
    return [
        (node.module or "", alias.asname or alias.name)
        for node in stub().body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def public_names() -> set[str]:
    return {name for _, name in public_imports()}


def public_functions() -> dict[str, Callable[..., object]]:
    library = importlib.import_module("crm_analysis")
    found = {name: getattr(library, name) for name in sorted(public_names())}
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


def metrics() -> dict[str, Callable[..., object]]:
    """The public functions that return `Estimates` or a class of that kind."""
    library = importlib.import_module("crm_analysis")
    found = {}
    for name, function in public_functions().items():
        kind = inspect.signature(function).return_annotation
        if isinstance(kind, str):
            kind = function.__globals__.get(kind) or getattr(library, kind, None)
        if inspect.isclass(kind) and issubclass(kind, library.Estimates):
            found[name] = function
    return found


def schema_columns() -> set[str]:
    """The names of all columns of the open tables and of the views made from them."""
    schema = importlib.import_module("crm_analysis.schema")
    kinds = [*schema.TABLES.values(), *schema.VIEWS.values()]
    return {name for kind in kinds for name in kind.column_names()}


def broken_grammar(function: Callable[..., object]) -> list[str]:
    """One positional argument, the data; then keywords: *_col, definition, as_of, by, …"""
    data, *rest = inspect.signature(function).parameters.values()
    found = []
    if data.kind is data.KEYWORD_ONLY or data.default is not data.empty:
        found.append("the first argument is not the data, positional and required")
    found += [f"{p.name} is not keyword-only" for p in rest if p.kind is not p.KEYWORD_ONLY]
    names = [p.name for p in rest]
    last = [name for name in ("as_of", "by", "conf_level", "ci_method") if name in names]
    if names[len(names) - len(last) :] != last:
        found.append(f"keywords end in {last}, in this order; found {names}")
    columns = [name.endswith("_col") for name in names]
    if columns != sorted(columns, reverse=True):
        found.append(f"*_col keywords come first; found {names}")
    defaults = {p.name: p.default for p in rest}
    if defaults.get("conf_level") != 0.95:
        found.append("conf_level is missing or its default is not .95")
    if defaults.get("by", ()) != ():
        found.append("the default of by is not ()")
    if defaults.get("as_of", inspect.Parameter.empty) is not inspect.Parameter.empty:
        found.append("as_of has a default: nothing silently means today")
    return found


def unknown_columns(function: Callable[..., object], columns: set[str]) -> list[str]:
    """The *_col keywords whose default is no column of the dealership's tables."""
    arguments = inspect.signature(function).parameters.values()
    asked = {p.name: p.default for p in arguments if p.name.endswith("_col")}
    return [
        f"{name}={default!r} is no column of the schema"
        for name, default in asked.items()
        if isinstance(default, str) and default not in columns
    ]


def undocumented(name: str, value: object) -> bool:
    """Whether a function or class lacks a docstring of its own (a dataclass invents one)."""
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return False
    text = value.__doc__ or ""
    return len(text.split()) < 3 or text.startswith(f"{name}(")


def test_public_names_are_sorted_and_marked_for_export() -> None:
    pairs = public_imports()
    modules = [module for module, _ in pairs]
    assert modules == sorted(modules), "the stub's modules are not sorted"
    aliases = [a for node in stub().body if isinstance(node, ast.ImportFrom) for a in node.names]
    assert [a.name for a in aliases] == [a.asname for a in aliases], "write 'import x as x'"
    assert len(public_names()) == len(pairs)


def test_no_public_name_hides_its_module() -> None:
    modules = {path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or path.is_dir()}
    hiding = {name for name in public_names() if name in modules}
    assert not hiding, f"{sorted(hiding)} hide the modules of the same names"


def test_every_public_name_is_there_and_documented() -> None:
    library = importlib.import_module("crm_analysis")
    found = [name for name in public_names() if undocumented(name, getattr(library, name))]
    assert not found, f"public and without a docstring: {sorted(found)}"


def test_every_module_has_a_docstring() -> None:
    paths = [p for package in ("crm_analysis", "synthetic") for p in (ROOT / package).rglob("*.py")]
    texts = {p: ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) for p in paths}
    assert [str(p.relative_to(ROOT)) for p, text in texts.items() if not text] == []


def test_each_family_has_metrics() -> None:
    found = {module for module, name in public_imports() if name in metrics()}
    assert found == {*METRICS, *ABOVE}


def test_metrics_follow_the_grammar() -> None:
    found = [f"{name}: {fault}" for name, f in metrics().items() for fault in broken_grammar(f)]
    assert not found, "\n".join(found)


def view_columns(network: Path) -> set[str]:
    """Columns of every view that the warehouse makes of its tables."""
    crm = open_warehouse(network)
    asked = {
        "as_of": crm.as_of, "since": crm.as_of - timedelta(days=365),
    }  # fmt: skip
    found: set[str] = set()
    for name, method in inspect.getmembers(type(crm), inspect.isfunction):
        needed = inspect.signature(method).parameters
        if method.__annotations__.get("return") != "pl.LazyFrame" or {"name", "frame"} & set(
            needed
        ):
            continue
        given = {key: value for key, value in asked.items() if key in needed}
        found |= set(getattr(crm, name)(**given).collect_schema().names())
    return found


def test_default_columns_exist_in_the_schema(tiny_network: Path) -> None:
    columns = schema_columns() | view_columns(tiny_network)
    assert {"customer_id", "started_on", "score"} <= columns
    found = [
        f"{name}: {fault}"
        for name, function in public_functions().items()
        for fault in unknown_columns(function, columns)
    ]
    assert not found, "\n".join(found)


# --- light imports ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", ["crm_analysis", "crm_analysis.reporting", "crm_analysis.reporting.cli"]
)
def test_the_command_starts_without_the_heavy_libraries(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []


# --- the rules can fail -------------------------------------------------------------------------


def test_faulty_signatures_are_found() -> None:
    def loose(data: object, by: object = ()) -> None: ...

    def dated(data: object, *, as_of: object = None, conf_level: float = 0.95) -> None: ...

    def shuffled(
        data: object, *, by: object = (), score_col: str = "scroe", conf_level: float = 0.9
    ) -> None: ...

    assert len(broken_grammar(loose)) == 2
    assert broken_grammar(dated) == ["as_of has a default: nothing silently means today"]
    assert len(broken_grammar(shuffled)) == 3
    assert unknown_columns(shuffled, {"score"}) == ["score_col='scroe' is no column of the schema"]
