from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis import remembered
from crm_analysis.collected import collected


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    remembered.stop()
    remembered.start()
    yield
    remembered.stop()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note every plan that is really collected."""
    done: list[int] = []
    collect = pl.LazyFrame.collect

    def noted(plan: pl.LazyFrame, *args: Any, **asked: Any) -> Any:
        done.append(1)
        return collect(plan, *args, **asked)

    monkeypatch.setattr(pl.LazyFrame, "collect", noted)
    return done


def of_file(path: Path) -> pl.LazyFrame:
    return pl.scan_parquet(path).group_by("g").agg(pl.col("x").sum()).sort("g")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sales.parquet"
    pl.DataFrame({"g": ["a", "a", "b"], "x": [1, 2, 3]}).write_parquet(path)
    return path


def test_a_count_of_the_same_file_is_made_once(file: Path, counted: list[int]) -> None:
    first = collected(of_file(file))
    assert_frame_equal(collected(of_file(file)), first)
    assert len(counted) == 1
    assert collected(of_file(file).filter(pl.col("x") > 2)).height == 2
    assert len(counted) == 2


def test_a_file_that_changed_is_counted_anew(file: Path, counted: list[int]) -> None:
    before = file.stat()
    collected(of_file(file))
    # The same length and even the same time of change: the system's own clock tells.
    pl.DataFrame({"g": ["a", "a", "b"], "x": [1, 2, 4]}).write_parquet(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert collected(of_file(file))["x"].to_list() == [3, 4]
    assert len(counted) == 2


def test_tables_in_memory_are_known_by_what_they_hold(counted: list[int]) -> None:
    one, same, other = (pl.DataFrame({"x": [1, 2, last]}) for last in (3, 3, 4))
    assert collected(one.lazy().sum())["x"].item() == 6
    assert collected(same.lazy().sum())["x"].item() == 6
    assert len(counted) == 1
    assert collected(other.lazy().sum())["x"].item() == 7


def test_changing_an_answer_changes_no_other(file: Path) -> None:
    mine = collected(of_file(file))
    mine[0, "x"] = 99
    mine.extend(mine)
    assert collected(of_file(file))["x"].to_list() == [3, 3]


@pytest.mark.parametrize("what", ["chance", "python", "frames", "several", "folder"])
def test_what_may_give_another_answer_is_counted_anew(
    what: str, file: Path, counted: list[int]
) -> None:
    pl.read_parquet(file).write_parquet(file.with_name("more.parquet"))
    counted.clear()
    frame = pl.DataFrame({"x": list(range(9))}).lazy()
    plan = {
        "chance": frame.select(pl.col("x").shuffle()),
        "python": frame.select(pl.col("x").map_batches(lambda x: x + 1, return_dtype=pl.Int64)),
        "frames": frame.map_batches(lambda whole: whole),
        "several": pl.scan_parquet([file, file.with_name("more.parquet")]),
        "folder": pl.scan_parquet(file.parent / "*.parquet"),
    }[what]
    for _turn in range(2):
        collected(plan)
    assert len(counted) == 2


def test_where_nothing_is_kept_every_count_is_made(file: Path, counted: list[int]) -> None:
    remembered.stop()
    for _turn in range(2):
        collected(of_file(file))
    assert len(counted) == 2
