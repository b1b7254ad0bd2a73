"""CSV files: what leaves for a spreadsheet comes back as it was, and nothing in it computes."""

from __future__ import annotations

import csv
import io
import math
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_analysis import Estimates, InputError, to_csv
from crm_analysis.estimates import five_columns
from crm_analysis.exports import csv_text

EVIL = [
    '=HYPERLINK("http://evil.example","Click")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1",
    " =1+1", "\u00a0=1", "＝1+1", "=cmd|' /C calc'!A0",
]  # fmt: skip


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("evil", EVIL)
def test_a_formula_in_a_name_leaves_as_text(evil: str) -> None:
    table = pl.DataFrame({evil: [evil, "North"], "n": [-1, 2]})
    head, first, second = read(csv_text(table))
    assert head[0] == first[0] == f"'{evil}"
    assert first[1] == "-1"
    assert second == ["North", "2"]


@given(st.text(max_size=30))
def test_no_text_begins_a_formula_and_none_is_lost(text: str) -> None:
    _head, (cell,) = read(csv_text(pl.DataFrame({"a": [text]})))
    assert not cell.strip(" \u00a0").startswith(("=", "+", "-", "@", "\t", "\r"))
    kept = text.replace("\0", "")
    assert cell in (kept, f"'{kept}")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_numbers_stay_numbers(values: list[float]) -> None:
    text = csv_text(pl.DataFrame({"x": values}))
    assert pl.read_csv(io.StringIO(text), schema={"x": pl.Float64})["x"].to_list() == values


def test_every_kind_of_cell() -> None:
    table = pl.DataFrame({"d": [date(2026, 6, 30)], "b": [True], "s": ['a;=1, "b"'], "z": [None]})
    assert csv_text(table) == '"d","b","s","z"\r\n"2026-06-30","true","a;=1, ""b""",\r\n'


def test_estimates_write_their_table_for_a_spreadsheet(tmp_path: Path) -> None:
    none = math.nan
    columns = five_columns([3, 4], [0.5, none], [0.1, none], [0.2, none], [0.8, none])
    table = pl.DataFrame({"dealership": ["=1+1", "Автомир"], **columns})
    answer = Estimates(table=table, name="s", unit="share", definition="d", by=("dealership",))
    path = answer.to_csv(tmp_path / "deep" / "share.csv")
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    back = pl.read_csv(path)
    assert back["dealership"].to_list() == ["'=1+1", "Автомир"]
    assert back["estimate"].to_list() == [0.5, None]


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    table = pl.DataFrame({"a": [1]})
    with pytest.raises(InputError, match=r"does not end in \.csv"):
        to_csv(table, tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="the columns a hold lists"):
        to_csv(pl.DataFrame({"a": [[1, 2]]}), tmp_path / "a.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be done"):
        to_csv(table, tmp_path / "file" / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_there_is_replaced_whole(tmp_path: Path) -> None:
    to_csv(pl.DataFrame({"a": range(1000)}), tmp_path / "a.csv")
    to_csv(pl.DataFrame({"a": [1]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b'\xef\xbb\xbf"a"\r\n1\r\n'
    assert len(list(tmp_path.iterdir())) == 1
