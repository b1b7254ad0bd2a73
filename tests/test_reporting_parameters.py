from __future__ import annotations

from pathlib import Path

import pytest
from toy_notebooks import PARAMETERS, write_notebook

from crm_analysis.errors import ReportError
from crm_analysis.reporting.parameters import (
    Parameter,
    check_values,
    parse_values,
    read_parameters,
)

EVERY_KIND = """\
%matplotlib inline
from typing import Literal, Optional
import datetime as dt
name: str = "x"  # plain text
months: int = 12
rate: float = 0.1  # a year
all_of: bool = False
day: str = "2026-01-31"
as_of: Optional[str] = None
brands: list[str] = ["a", "b"]
shares: list[float] = []
limit: int | None = None
colour: Literal["red", "blue"] = "red"
plain = 3
computed = dt.date(2026, 1, 1)
x, y = 1, 2
"""


def parameters_of(folder: Path, source: str) -> dict[str, Parameter]:
    path = write_notebook(folder / "n.ipynb", [("markdown", "# N"), ("code", source, "parameters")])
    return {item.name: item for item in read_parameters(path)}


def parse(folder: Path, source: str, *assignments: str) -> dict[str, object]:
    return dict(parse_values(parameters_of(folder, source).values(), assignments, notebook="n"))


def test_kinds_defaults_and_help_are_read(tmp_path: Path) -> None:
    found = parameters_of(tmp_path, EVERY_KIND)
    kinds = {name: (item.kind, item.is_list, item.optional) for name, item in found.items()}
    assert kinds == {
        "name": ("str", False, False),
        "months": ("int", False, False),
        "rate": ("float", False, False),
        "all_of": ("bool", False, False),
        "day": ("date", False, False),
        "as_of": ("date", False, True),
        "brands": ("str", True, False),
        "shares": ("float", True, False),
        "limit": ("int", False, True),
        "colour": ("str", False, False),
        "plain": ("int", False, False),
        "computed": ("computed", False, False),
    }
    assert found["name"].help == "plain text"
    assert found["rate"].default == 0.1
    assert found["colour"].choices == ("red", "blue")


def test_a_notebook_without_parameters_has_none(tmp_path: Path) -> None:
    assert read_parameters(write_notebook(tmp_path / "n.ipynb", [("code", "x = 1")])) == ()


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("months=24", 24),
        ("rate=1", 1.0),
        ("all_of=yes", True),
        ("all_of=0", False),
        ("day=2025-12-31", "2025-12-31"),
        ("as_of=", None),
        ("limit=none", None),
        ("brands=Lada, Geely", ["Lada", "Geely"]),
        ('brands=["A, B"]', ["A, B"]),
        ("shares=0.1,1", [0.1, 1.0]),
        ("colour=blue", "blue"),
        ("name=a=b", "a=b"),
    ],
)
def test_texts_become_values(tmp_path: Path, assignment: str, expected: object) -> None:
    [value] = parse(tmp_path, EVERY_KIND, assignment).values()
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("horizn_months=1", "did you mean 'horizon_months'"),
        ("unlike=1", "It has: dealership, as_of, lang, horizon_months"),
        ("horizon_months=x", "takes a whole number; it was given 'x'"),
        ("horizon_months=1.5", "takes a whole number"),
        ("horizon_months=", "takes a whole number"),
        ("as_of=2026-02-30", "takes a date like 2026-06-30; it was given '2026-02-30'"),
        ("as_of=20260630", "takes a date"),
        ("as_of", "without a value"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, assignment: str, said: str) -> None:
    with pytest.raises(ReportError, match=said):
        parse(tmp_path, PARAMETERS, assignment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("months", True),
        ("months", 1.0),
        ("months", "12"),
        ("all_of", 1),
        ("name", 3),
        ("name", None),
        ("brands", "a"),
        ("brands", [1]),
        ("colour", "green"),
        ("computed", "2026-01-01"),
    ],
)
def test_typed_values_are_taken_strictly(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ReportError, match=name):
        check_values(parameters_of(tmp_path, EVERY_KIND).values(), {name: value}, notebook="n")


def test_files_that_are_no_python_notebook_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be opened"):
        read_parameters(tmp_path / "absent.ipynb")
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(ReportError, match="not JSON"):
        read_parameters(broken)
    broken.write_text("[]", encoding="utf-8")
    with pytest.raises(ReportError, match="no cells"):
        read_parameters(broken)
    with pytest.raises(ReportError, match="is for R"):
        read_parameters(write_notebook(tmp_path / "r.ipynb", [("code", "1")], language="R"))
    with pytest.raises(ReportError, match="not plain Python"):
        parameters_of(tmp_path, "x: int = = 3")
    twice = write_notebook(tmp_path / "t.ipynb", [("code", "x=1", "parameters")] * 2)
    with pytest.raises(ReportError, match="2 cells tagged"):
        read_parameters(twice)


MAPPINGS = """\
targets: dict[str, float] = {}  # what key figures should be
names: "Optional[dict[str, str]]" = None
limits: dict = {"least": 3}
either: dict[str, int] | None = {"a": 1}
"""


def test_values_by_name_are_read_and_checked(tmp_path: Path) -> None:
    found = parameters_of(tmp_path, MAPPINGS)
    kinds = {name: (item.kind, item.is_mapping, item.optional) for name, item in found.items()}
    assert kinds == {
        "targets": ("float", True, False),
        "names": ("str", True, True),
        "limits": ("int", True, False),
        "either": ("int", True, True),
    }
    assert parse(tmp_path, MAPPINGS, "targets=nps=40, csat=4.5") == {
        "targets": {"nps": 40.0, "csat": 4.5}
    }
    assert parse(tmp_path, MAPPINGS, 'targets={"nps": 40}') == {"targets": {"nps": 40.0}}
    assert parse(tmp_path, MAPPINGS, "names=") == {"names": None}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("targets", 40.0),
        ("targets", {"nps": "high"}),
        ("targets", {1: 2.0}),
        ("limits", {"a": 1.5}),
    ],
)
def test_values_by_name_of_another_kind_are_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    found = parameters_of(tmp_path, MAPPINGS)
    with pytest.raises(ReportError, match="names with values"):
        check_values(found.values(), {name: value}, notebook="n")
    with pytest.raises(ReportError, match="names with values"):
        parse(tmp_path, MAPPINGS, "targets=nps")
