"""What differs between two worlds."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from synthetic import write_network
from synthetic.cli import app
from synthetic.diff import MOST_EXAMPLES, compare
from synthetic.reading import open_data


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("diff") / "data"
    write_network(out, preset="tiny", seed=1, n_customers=120)
    return out


def test_a_world_is_the_same_as_itself_in_another_format(world: Path, tmp_path: Path) -> None:
    for kind, name in (("csv", "data"), ("duckdb", "data.duckdb")):
        out = tmp_path / name
        write_network(out, preset="tiny", seed=1, n_customers=120, kind=kind)
        assert compare(open_data(world), open_data(out)) == []


def test_each_kind_of_difference_is_named_and_shown(world: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(world, tmp_path / "data"))
    deals = pl.read_parquet(out / "deals.parquet")
    key = deals["deal_id"][1]
    other = deals.with_columns(
        discount=pl.when(pl.col("deal_id") == key).then(7).otherwise("discount").cast(pl.Int32),
        pay=pl.when(pl.col("deal_id") == key).then(None).otherwise("pay"),
        extra=pl.lit(1),
    ).drop("cost")
    other.slice(1).write_parquet(out / "deals.parquet")
    (out / "truth" / "truth_fate.parquet").unlink()
    found = compare(open_data(world), open_data(out))
    said = {(one.table, one.what, one.column): one for one in found}
    assert set(said) == {
        ("deals", "column only in A", "cost"),
        ("deals", "column only in B", "extra"),
        ("deals", "rows only in A", ""),
        ("deals", "changed", "discount"),
        ("deals", "changed", "pay"),
        ("truth_fate", "only in A", ""),
    }
    before = deals["discount"][1]
    assert said["deals", "changed", "discount"].examples == (f"deal_id = {key}: A {before}, B 7",)
    assert said["deals", "rows only in A", ""].count == 1


def test_another_setting_shows_in_facts_truth_and_rows(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    settings = {"relation.hazard": 0.5}
    write_network(out, preset="tiny", seed=1, n_customers=120, settings=settings)
    found = compare(open_data(world), open_data(out))
    assert found[0].table == "manifest"
    assert "relation.hazard" in found[0].examples[0]
    params = next(one for one in found if one.table == "truth_params")
    assert params.examples[0].startswith("name = relation.hazard: A 0.084, B 0.5")
    assert {one.table for one in found} >= {"truth_fate", "truth_interval"}
    assert {one.table for one in found}.isdisjoint({"truth_arrival", "dealerships", "employees"})
    assert all(len(one.examples) <= MOST_EXAMPLES for one in found)


def test_the_command_ends_with_status_one_when_anything_differs(
    world: Path, tmp_path: Path
) -> None:
    same = CliRunner().invoke(app, ["diff", str(world), str(world)])
    assert (same.exit_code, "the tables are the same" in same.output) == (0, True)
    write_network(tmp_path / "data", preset="tiny", seed=2, n_customers=120)
    other = CliRunner().invoke(app, ["diff", str(world), str(tmp_path / "data")])
    assert other.exit_code == 1
    assert "manifest.seed - fact: A 1, B 2" in other.output
