"""Same seed, same content, forever: the stored marks of `tiny`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from crm_analysis.errors import InputError
from synthetic import make_network
from synthetic.fingerprint import mark_of, marks, read_marks, store_marks
from synthetic.writing import GENERATOR

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "reference" / "synthetic_tiny.json"
REFRESH = "python -m synthetic fingerprint --out tests/reference/synthetic_tiny.json"


def test_tiny_is_what_it_was() -> None:
    """A change of any value is a new version of the generator, and is told to its readers."""
    stored = read_marks(STORED)
    made = make_network(preset=stored["preset"], seed=stored["seed"])
    found = marks({**made.tables, **made.truth})
    changed = sorted(
        name
        for name in {*found, *stored["tables"]}
        if found.get(name) != stored["tables"].get(name)
    )
    assert not changed, (
        f"The content of {', '.join(changed)} changed. If that was meant: raise GENERATOR in "
        "synthetic/writing.py, say what changed under 'Numbers that change' in CHANGELOG.md, and "
        f"run '{REFRESH}'."
    )
    assert stored["generator"] == GENERATOR


def test_the_changelog_tells_of_this_version_of_the_generator() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"### Numbers that change\n(.*?)(?=\n##)", text, re.DOTALL)
    told = [section for section in sections if f"generator {GENERATOR}" in section.lower()]
    assert told, f"CHANGELOG.md says nothing of generator {GENERATOR} under 'Numbers that change'."


@pytest.mark.parametrize(
    "other",
    [
        {"a": [1, 3], "b": ["x", None], "c": [0.5, None]},
        {"a": [1, 2], "b": ["x", ""], "c": [0.5, None]},
        {"a": [1, 2], "b": [None, "x"], "c": [0.5, None]},
        {"a": [1, 2], "b": ["x", None], "c": [0.500002, None]},
        {"a": [1, 2], "b": ["x", None], "c": [0.5, 0.0]},
        {"z": [1, 2], "b": ["x", None], "c": [0.5, None]},
    ],
)
def test_a_mark_sees_every_change_but_the_last_bits(other: dict[str, list[object]]) -> None:
    one = pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, None]})
    assert mark_of(one) != mark_of(pl.DataFrame(other))
    assert mark_of(one) == mark_of(one.with_columns(pl.col("c") + 1e-12))
    assert mark_of(one) == mark_of(one.with_columns(pl.col("b").cast(pl.Enum(["x"]))))


def test_marks_change_only_with_the_version(tmp_path: Path) -> None:
    path = tmp_path / "marks.json"
    first = {"generator": 1, "preset": "tiny", "seed": 1, "tables": {"a": "1", "b": "2"}}
    assert store_marks(path, first) == ["a", "b"]
    assert store_marks(path, first) == []
    assert store_marks(path, first | {"tables": {"a": "1", "b": "2", "c": "3"}}) == ["c"]
    other = first | {"tables": {"a": "9"}}
    with pytest.raises(InputError, match="GENERATOR"):
        store_marks(path, other)
    assert store_marks(path, other | {"generator": 2}) == ["a", "b", "c"]
    assert store_marks(path, other | {"generator": 2, "tables": {"a": "0"}}, force=True) == ["a"]
    assert json.loads(path.read_text(encoding="utf-8"))["generator"] == 2
