"""The table of what the documents ask for: complete, and true to the library and the notebooks."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import crm_analysis
from crm_analysis.reporting import cli

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "notebooks" / "capabilities.md"
NUMBERS = {"A": 32, "B": 58, "C": 10, "D": 11, "E": 20}
"""How many each of the five documents asks for: 131 in all."""

Row = dict[str, str]
_ANSWER = re.compile(r"`(\w+)` \((\w+)\)")


def rows(text: str) -> list[Row]:
    """Read the rows of all tables: id, asked, metric, answer, note."""
    names = ("id", "asked", "metric", "answer", "note")
    lines = [line for line in text.splitlines() if re.match(r"\| [A-E]\d\d \|", line)]
    return [
        dict(zip(names, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
        for line in lines
    ]


def code_of(notebook: str) -> str:
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    if not path.exists():
        return ""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def flaws(row: Row) -> list[str]:
    """Say what is not true of a row."""
    commands = {command.name for command in cli.commands.registered_commands}
    answers = _ANSWER.findall(row["answer"])
    if not answers:
        why = row["answer"] == "—" and row["note"].startswith(("Not yet", "Out of scope"))
        return [] if why else [f"{row['id']}: neither an answer nor a reason"]
    found = []
    for name, where in answers:
        if where == "command":
            if name not in commands:
                found.append(f"{row['id']}: crm-report has no command {name}")
        elif name not in dir(crm_analysis):
            found.append(f"{row['id']}: {name} is not public")
        elif where != "library" and not re.search(rf"\b{name}\(", code_of(where)):
            found.append(f"{row['id']}: the notebook {where} does not use {name}")
    return found


def test_every_capability_is_there_once() -> None:
    asked = [f"{letter}{n:02}" for letter, most in NUMBERS.items() for n in range(1, most + 1)]
    assert len(asked) == 131
    assert Counter(row["id"] for row in rows(TABLE.read_text(encoding="utf-8"))) == Counter(asked)


def test_what_is_said_to_answer_does() -> None:
    table = rows(TABLE.read_text(encoding="utf-8"))
    assert [flaw for row in table for flaw in flaws(row)] == []
    assert all(row["asked"] and row["metric"] for row in table)


@pytest.mark.parametrize(
    ("answer", "note", "flaw"),
    [
        ("`no_such_metric` (marketer)", "", "is not public"),
        ("`traffic` (pipeline)", "", "does not use traffic"),
        ("`traffic` (no_such_page)", "", "does not use traffic"),
        ("`print` (command)", "", "no command print"),
        ("—", "", "neither an answer nor a reason"),
    ],
)
def test_a_row_that_is_not_true_is_found(answer: str, note: str, flaw: str) -> None:
    line = f"| A01 | something | M1.1 | {answer} | {note} |"
    assert flaw in flaws(rows(line)[0])[0]
