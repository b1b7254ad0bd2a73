"""The shape of a notebook: the rules of the house that no tool knows.

Each rule is a function that returns what it found wrong, so that the rule itself is tested too
(at the end): a check that cannot fail is a defect.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import crm_analysis

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(
    path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)

Notebook = dict[str, Any]
Cell = dict[str, Any]

TAGS = {"parameters", "setup", "figure", "finding", "diagnostics", "definitions"}
LESSON_TAGS = {"exercise", "solution"}
REQUIRED_PARAMETERS = {"dealership", "as_of", "data", "lang"}
LESSON_PARAMETERS = {"lang", "seed"}
SIMPLE_TYPES = {"str", "int", "float", "bool"}
FEWEST_CELLS, MOST_CELLS = 8, 20
GLOBAL_STATE = {
    "filterwarnings": "silences warnings",
    "simplefilter": "silences warnings",
    "catch_warnings": "silences warnings",
    "rcParams": "sets a global style",
    "rc": "sets a global style",
    "set_theme": "sets a global style",
    "use": "sets a global style or backend",
    "set_config": "sets global options",
}
# Numbers that look like results: a share, a decimal, money, or a count of three digits and more.
# Years, and what stands in code or formulas, are not results.
RESULT_NUMBER = re.compile(
    r"(?<![\w.])(?:[$€£₽]\s?\d|\d[\d.,]*\s?(?:%|€|₽|percent\b)|\d+[.,]\d+|(?!(?:19|20)\d\d\b)\d{3,})"
)


# --- reading notebooks --------------------------------------------------------------------------


def read(path: Path) -> Notebook:
    notebook: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def source(cell: Cell) -> str:
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def tags(cell: Cell) -> set[str]:
    return set(cell.get("metadata", {}).get("tags", ()))


def is_lesson(notebook: Notebook) -> bool:
    """A lesson makes its own world and sets exercises; it is no report on a dealership."""
    return any("exercise" in tags(cell) for cell in notebook["cells"])


def code_cells(notebook: Notebook) -> list[Cell]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def nodes(notebook: Notebook) -> Iterator[ast.AST]:
    for cell in code_cells(notebook):
        yield from ast.walk(ast.parse(source(cell)))


# --- the rules of a notebook ----------------------------------------------------------------------


def kept_outputs(notebook: Notebook) -> list[str]:
    """No outputs and no execution counts."""
    return [
        f"cell {cell['id']}: has an output or an execution count"
        for cell in code_cells(notebook)
        if cell.get("outputs") or cell.get("execution_count") is not None
    ]


def broken_format(notebook: Notebook) -> list[str]:
    """Valid format 4.5, in which cells have ids; the ids are there and differ."""
    found = []
    if (notebook["nbformat"], notebook["nbformat_minor"]) < (4, 5):
        found.append("the format is older than 4.5, in which cells have ids")
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        return [*found, "a cell has no id, or two have the same"]
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        found.append(str(error).splitlines()[0])
    return found


def broken_shape(notebook: Notebook) -> list[str]:
    """A title first; `parameters`, then `setup`; definitions; no unknown tag; not too long."""
    cells = notebook["cells"]
    found = []
    if cells[0]["cell_type"] != "markdown" or not source(cells[0]).startswith("# "):
        found.append("the first cell is not a markdown title")
    for tag in ("parameters", "setup"):
        count = sum(tag in tags(cell) for cell in code_cells(notebook))
        if count != 1:
            found.append(f"{count} code cells are tagged '{tag}' instead of one")
    order = [tag for cell in cells for tag in ("parameters", "setup") if tag in tags(cell)]
    if order != sorted(order):
        found.append("'setup' comes before 'parameters'")
    if not any("definitions" in tags(cell) for cell in cells):
        found.append("no cell is tagged 'definitions'")
    unknown = set().union(*map(tags, cells)) - TAGS - LESSON_TAGS
    if unknown:
        found.append(f"unknown tags {sorted(unknown)}; known: {sorted(TAGS)}")
    if not FEWEST_CELLS <= len(cells) <= MOST_CELLS:
        found.append(f"{len(cells)} cells; a thin story has {FEWEST_CELLS}-{MOST_CELLS}")
    return found


def unsolved_exercises(notebook: Notebook) -> list[str]:
    """Each exercise is followed by its solution, folded away in JupyterLab too."""
    found = []
    cells = notebook["cells"]
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if "exercise" in tags(cell) and (after is None or "solution" not in tags(after)):
            found.append(f"cell {cell['id']}: the exercise has no solution after it")
        folded = cell.get("metadata", {}).get("jupyter", {})
        if "solution" in tags(cell) and set(folded) != {"source_hidden", "outputs_hidden"}:
            found.append(f"cell {cell['id']}: the solution is not folded away in JupyterLab")
    return found


def is_seen_by_papermill(annotation: ast.expr) -> bool:
    """One word, or a word with brackets: papermill's inspector sees nothing else."""
    if isinstance(annotation, ast.Name):
        return annotation.id in SIMPLE_TYPES
    return isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name)


def broken_parameters(notebook: Notebook) -> list[str]:
    """Each parameter: one line, annotated simply, with a default and a comment."""
    found: list[str] = []
    names: set[str] = set()
    for cell in code_cells(notebook):
        if "parameters" not in tags(cell):
            continue
        lines = source(cell).splitlines()
        for node in ast.parse(source(cell)).body:
            line = lines[node.lineno - 1]
            if isinstance(node, ast.Import | ast.ImportFrom):
                continue
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                found.append(f"{line!r} is not an annotated parameter")
                continue
            names.add(node.target.id)
            if not is_seen_by_papermill(node.annotation):
                found.append(f"{line!r}: papermill does not see this annotation")
            comment = line[node.end_col_offset :] if node.end_lineno == node.lineno else ""
            if node.value is None or not re.fullmatch(r"\s*#\s*\S.+", comment):
                found.append(f"{line!r} needs a default and a comment, on one line")
    missing = (LESSON_PARAMETERS if is_lesson(notebook) else REQUIRED_PARAMETERS) - names
    return [*found, *(f"there is no parameter '{name}'" for name in sorted(missing))]


def hidden_code(notebook: Notebook) -> list[str]:
    """No function, class or lambda: when a cell wants one, the library wants a function."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    return [
        f"{type(node).__name__} in a cell: move it into the library"
        for node in nodes(notebook)
        if isinstance(node, kinds)
    ]


def changed_globals(notebook: Notebook) -> list[str]:
    """No silenced warnings and no global style, by attribute or by import."""
    found: list[str] = []
    for node in nodes(notebook):
        if isinstance(node, ast.Attribute) and node.attr in GLOBAL_STATE:
            found.append(f"{ast.unparse(node)} {GLOBAL_STATE[node.attr]}")
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names} & set(GLOBAL_STATE)
            found.extend(f"{name} {GLOBAL_STATE[name]}" for name in sorted(names))
    return found


def private_imports(notebook: Notebook) -> list[str]:
    """Of ours, only public names: `from crm_analysis import …`."""
    found: list[str] = []
    for node in nodes(notebook):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crm_analysis."):
            found.append(f"'from {node.module} import …' reaches past the public names")
        elif isinstance(node, ast.ImportFrom) and node.module == "crm_analysis":
            unknown = {alias.name for alias in node.names} - set(dir(crm_analysis))
            found.extend(f"crm_analysis has no public name {name!r}" for name in sorted(unknown))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("crm_analysis")]
            found.extend(f"'import {name}': import its public names" for name in names)
    return found


def handwritten_results(notebook: Notebook) -> list[str]:
    """No number in prose that looks like a result: a sentence with a number in it is code."""
    found: list[str] = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown" or "definitions" in tags(cell):
            continue
        text = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)", " ", source(cell),
                      flags=re.DOTALL)  # fmt: skip
        prose = [line for line in text.splitlines() if not line.startswith("#")]
        found.extend(
            f"cell {cell['id']}: {match.group()!r} in prose looks like a result: compute it"
            for line in prose
            for match in RESULT_NUMBER.finditer(line)
        )
    return found


NOTEBOOK_RULES: tuple[Callable[[Notebook], list[str]], ...] = (
    kept_outputs,
    broken_format,
    broken_shape,
    broken_parameters,
    hidden_code,
    changed_globals,
    private_imports,
    handwritten_results,
    unsolved_exercises,
)


@pytest.mark.parametrize("rule", NOTEBOOK_RULES, ids=lambda rule: str(rule.__name__))
def test_notebooks_keep_the_rule(rule: Callable[[Notebook], list[str]]) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {fault}" for path in NOTEBOOKS for fault in rule(read(path))
    ]
    assert not found, "\n".join(found)


# --- the rules can fail -------------------------------------------------------------------------


def notebook_of(*cells: tuple[str, str, str]) -> Notebook:
    """A notebook made of (kind, tag, source)."""
    made = []
    for number, (kind, tag, text) in enumerate(cells):
        cell: Cell = {"id": f"c{number}", "cell_type": kind, "source": text}
        cell["metadata"] = {"tags": [tag]} if tag else {}
        if kind == "code":
            cell |= {"outputs": [], "execution_count": None}
        made.append(cell)
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}


PARAMETERS = "\n".join(f'{name}: str = ""  # what it is' for name in sorted(REQUIRED_PARAMETERS))
GOOD = notebook_of(
    ("markdown", "", "# Retention\n\nHow long do customers stay? Kaplan and Meier (1958)."),
    ("code", "parameters", PARAMETERS),
    ("code", "setup", "import polars as pl"),
    (
        "markdown",
        "",
        "## After 12 months\n\nThe first 12 months decide; see `x = 0.5` and $p=.05$.",
    ),
    ("code", "figure", "1 + 1"),
    ("code", "finding", "2 + 2"),
    ("markdown", "", "Three steps follow."),
    ("markdown", "definitions", "Retention: the share, in %, of 1000 customers."),
)


def with_cell(number: int, **changes: object) -> Notebook:
    copy: Notebook = json.loads(json.dumps(GOOD))
    copy["cells"][number] |= changes
    return copy


def lesson(*, folded: bool = True, solved: bool = True) -> Notebook:
    cells = [("markdown", "", "# Lesson"), ("code", "parameters", 'lang: str = "en"  # language')]
    made = notebook_of(*cells, ("code", "exercise", "1"), *[("code", "solution", "2")] * solved)
    if solved and folded:
        made["cells"][-1]["metadata"]["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    return made


def test_a_lesson_needs_other_parameters_than_a_report() -> None:
    assert broken_parameters(lesson()) == ["there is no parameter 'seed'"]
    assert unsolved_exercises(lesson()) == []


def test_a_good_notebook_keeps_every_rule() -> None:
    assert [fault for rule in NOTEBOOK_RULES for fault in rule(GOOD)] == []


@pytest.mark.parametrize(
    ("rule", "notebook"),
    [
        (kept_outputs, with_cell(4, execution_count=3)),
        (kept_outputs, with_cell(4, outputs=[{"output_type": "stream"}])),
        (broken_format, with_cell(4, id="c5")),
        (broken_format, {**GOOD, "nbformat_minor": 4}),
        (broken_shape, with_cell(0, source="Retention")),
        (broken_shape, with_cell(2, metadata={})),
        (broken_shape, with_cell(2, metadata={"tags": ["set-up"]})),
        (broken_shape, {**GOOD, "cells": GOOD["cells"][:4]}),
        (broken_parameters, with_cell(1, source=PARAMETERS + "\nx = 1  # not annotated")),
        (broken_parameters, with_cell(1, source=PARAMETERS + "\nx: int = 1")),
        (broken_parameters, with_cell(1, source=PARAMETERS + "\nx: int | None = 1  # unseen")),
        (broken_parameters, with_cell(1, source="x: int = 1  # the others are missing")),
        (hidden_code, with_cell(4, source="def f(x):\n    return x")),
        (hidden_code, with_cell(4, source="f = lambda x: x")),
        (
            changed_globals,
            with_cell(4, source="import warnings\nwarnings.filterwarnings('ignore')"),
        ),
        (changed_globals, with_cell(4, source="plt.rcParams['font.size'] = 7")),
        (changed_globals, with_cell(4, source="from warnings import simplefilter")),
        (private_imports, with_cell(2, source="from crm_analysis.retention import count_exits")),
        (private_imports, with_cell(2, source="import crm_analysis.frames")),
        (private_imports, with_cell(2, source="from crm_analysis import no_such_name")),
        (unsolved_exercises, lesson(solved=False)),
        (unsolved_exercises, lesson(folded=False)),
        (handwritten_results, with_cell(6, source="Of the leads, 38 % are won.")),
        (handwritten_results, with_cell(6, source="In all 1,234 customers left.")),
        (handwritten_results, with_cell(6, source="The median is 417 days.")),
    ],
)
def test_a_faulty_notebook_is_found(
    rule: Callable[[Notebook], list[str]], notebook: Notebook
) -> None:
    assert rule(notebook)
