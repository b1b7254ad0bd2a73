from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis import collected as counting
from crm_analysis import remembered
from crm_analysis.collected import collected, contents, recalled


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


def test_a_plan_that_carries_a_large_table_is_not_written_to_its_end(
    counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pl.DataFrame({"x": range(50_000)}).lazy().sum()
    monkeypatch.setattr(counting, "LARGEST_TABLE", 100_000)
    written: list[int] = []
    write = counting._Bounded.write

    def noted(self: Any, more: Any) -> int:
        taken = write(self, more)
        written.append(taken)
        return taken

    monkeypatch.setattr(counting._Bounded, "write", noted)
    for _turn in range(2):
        assert collected(plan)["x"].item() == 50_000 * 49_999 // 2
    assert len(counted) == 2
    assert 0 < sum(written) <= 2 * 100_000


def test_contents_tell_tables_apart_by_what_they_hold() -> None:
    table = pl.DataFrame({"x": [1, 2, None], "y": ["a", "b", "c"], "z": [0.5, 1.5, 2.5]})
    others = [
        table.with_columns(x=pl.Series([1, 2, 0])),
        table.with_columns(x=pl.Series([1, 2, None], dtype=pl.Int32)),
        table.with_columns(y=pl.Series(["a", "bc", ""])),
        table.rename({"x": "y", "y": "x"}),
        table.reverse(),
        table.head(2),
    ]
    known = contents(table, ["x", "y"])
    assert known is not None
    assert len({contents(other, ["x", "y"]) for other in others} | {known}) == 7
    assert contents(table.clone(), ["x", "y"]) == known
    assert contents(table.with_columns(z=pl.lit(0.0)), ["x", "y"]) == known
    pieces = pl.concat([table.head(1), table.tail(2)])
    assert contents(pieces, ["y", "z"]) == contents(table, ["y", "z"])


def test_contents_are_told_only_of_a_table_in_memory_and_where_something_is_kept() -> None:
    table = pl.DataFrame({"x": [1]})
    assert contents(table.lazy(), ["x"]) is None
    assert contents(table, ["x", "y"]) is None
    remembered.stop()
    assert contents(table, ["x"]) is None


def test_a_count_without_a_key_is_made_each_time() -> None:
    numbers = iter(range(9))

    def count() -> pl.DataFrame:
        return pl.DataFrame({"x": [next(numbers)]})

    assert [recalled(None, count)["x"].item() for _turn in range(2)] == [0, 1]
    assert [recalled(("key",), count)["x"].item() for _turn in range(2)] == [2, 2]


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
