"""Same seed, same content, forever: the stored marks of `tiny`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from numpy import show_config

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


# --- processors -----------------------------------------------------------------------------------

_PRINT_MARKS = """
import json, sys
from numpy import show_config
from synthetic import make_network
from synthetic.fingerprint import marks

made = make_network(preset="tiny", seed=2, n_customers=600, defects="light")
used = show_config(mode="dicts")["SIMD Extensions"].get("found", [])
json.dump([used, marks({**made.tables, **made.truth})], sys.stdout)
"""


def _made_without(features: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the features that numpy uses in a process of its own, and the marks of a world."""
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(features)}
    done = subprocess.run(
        [sys.executable, "-c", _PRINT_MARKS], env=environment, cwd=ROOT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    used, found = json.loads(done.stdout)
    return used, found


def test_another_processor_makes_the_same_world() -> None:
    """Numpy takes exp, log and sums from other code where the fast instructions are missing."""
    found = show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    if not found:
        pytest.skip("This processor has no features above the least that numpy needs.")
    plain, slow = _made_without(found)
    usual, fast = _made_without([])
    assert not plain
    assert usual == found
    assert slow == fast
