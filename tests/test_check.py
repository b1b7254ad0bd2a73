"""The check: silent on a clean world, and loud on each kind of damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from crm_analysis.errors import InputError
from synthetic import write_network
from synthetic.check import Report, check_data
from synthetic.cli import app
from synthetic.reading import open_data
from synthetic.rules import RULES
from synthetic.world import SCHEMAS

Damage = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clean") / "data"
    write_network(out, preset="tiny", seed=1, n_customers=600)
    return out


def _found(report: Report) -> set[tuple[str, str]]:
    return {(problem.kind, problem.table) for problem in report.problems}


def _spoiled(clean: Path, out: Path, name: str, damage: Damage) -> Report:
    """Check a copy with one table damaged and the manifests' sums taken away."""
    shutil.copytree(clean, out)
    for manifest in (out / "manifest.json", out / "truth" / "manifest.json"):
        facts = json.loads(manifest.read_text(encoding="utf-8")) | {"tables": {}}
        manifest.write_text(json.dumps(facts), encoding="utf-8")
    path = (out / "truth" if name.startswith("truth_") else out) / f"{name}.parquet"
    damage(pl.read_parquet(path)).write_parquet(path)
    return check_data(open_data(out))


def test_a_clean_world_breaks_nothing_and_every_rule_is_looked_at(clean: Path) -> None:
    report = check_data(open_data(clean))
    assert report.problems == ()
    assert report.skipped == ()
    assert report.n_rules > len(RULES) + len(SCHEMAS)


def _first(**values: object) -> Damage:
    """Change cells of the first row."""

    def damage(frame: pl.DataFrame) -> pl.DataFrame:
        row = pl.int_range(pl.len()) == 0
        return frame.with_columns(
            pl.when(row)
            .then(pl.lit(value).cast(frame.schema[column]))
            .otherwise(column)
            .alias(column)
            for column, value in values.items()
        )

    return damage


def _twice(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame, frame.head(1)])


def _without_first(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.slice(1)


def _backwards(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(mileage_km=pl.col("mileage_km").reverse())


@pytest.mark.parametrize(
    ("name", "damage", "kind", "table"),
    [
        ("deals", _first(discount=-1), "schema", "deals"),
        ("deals", _first(sale_price=1), "rules", "deals"),
        ("deals", _first(customer_id=10**15), "keys", "deals"),
        ("deals", _without_first, "rules", "deals"),
        ("customers", _twice, "keys", "customers"),
        ("customers", _without_first, "truth", "customers"),
        ("stage_events", _without_first, "time", "stage_events"),
        ("service_orders", _backwards, "time", "service_orders"),
        ("survey_answers", _first(value=99.0), "rules", "survey_answers"),
        ("truth_stage", _first(probability=0.0, uniform=0.5, passed=True), "truth", "truth_stage"),
        ("truth_fate", _without_first, "truth", "service_orders"),
        ("truth_survey", _without_first, "truth", "surveys"),
    ],
)
def test_each_kind_of_damage_is_found(
    name: str, damage: Damage, kind: str, table: str, clean: Path, tmp_path: Path
) -> None:
    report = _spoiled(clean, tmp_path / "data", name, damage)
    assert (kind, table) in _found(report)
    assert all(problem.rows > 0 and problem.example for problem in report.problems)


def test_a_day_after_the_last_one_is_found(clean: Path, tmp_path: Path) -> None:
    def later(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(answered_at=pl.col("answered_at").dt.offset_by("30y"))

    report = _spoiled(clean, tmp_path / "data", "surveys", later)
    assert ("time", "surveys") in _found(report)


def test_a_missing_column_and_a_wrong_type_are_said(clean: Path, tmp_path: Path) -> None:
    def wrong(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.drop("pay").with_columns(pl.col("cost").cast(pl.String))

    report = _spoiled(clean, tmp_path / "data", "deals", wrong)
    assert {problem.rule for problem in report.problems} == {"has column 'pay'", "cost is Int32"}
    assert report.skipped


def test_a_changed_file_and_a_lost_one_differ_from_the_manifest(
    clean: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(clean, tmp_path / "data"))
    path = out / "dealerships.parquet"
    pl.read_parquet(path).with_columns(city=pl.lit("Elsewhere")).write_parquet(path)
    (out / "truth" / "truth_answer.parquet").unlink()
    report = check_data(open_data(out))
    rules = {(problem.table, problem.rule) for problem in report.problems}
    assert ("dealerships", "hash as the manifest says") in rules
    assert ("truth_answer", "the manifest's table is there") in rules
    assert any("expected" in rule for rule in report.skipped)


def test_data_without_truth_are_checked_too(clean: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(clean, tmp_path / "data"))
    shutil.rmtree(out / "truth")
    report = check_data(open_data(out))
    assert report.problems == ()
    assert report.skipped


def test_labelled_defects_are_taken_off_first(tmp_path: Path) -> None:
    out = tmp_path / "data"
    write_network(out, preset="tiny", seed=2, n_customers=600, defects="heavy")
    assert check_data(open_data(out)).problems == ()
    assert check_data(open_data(out), as_is=True).problems


def test_the_command_says_what_it_found(clean: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(clean)])
    assert (done.exit_code, "all hold" in done.output) == (0, True)
    out = Path(shutil.copytree(clean, tmp_path / "data"))
    path = out / "deals.parquet"
    _first(discount=-1)(pl.read_parquet(path)).write_parquet(path)
    broken = CliRunner().invoke(app, ["check", str(out)])
    assert broken.exit_code == 1
    assert "discount" in broken.output
    nothing = CliRunner().invoke(app, ["check", str(tmp_path / "nowhere")])
    assert nothing.exit_code == 2


def test_what_is_not_ours_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it holds nothing"):
        open_data(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(InputError, match="DuckDB file"):
        open_data(tmp_path / "file.txt")
    (tmp_path / "file.duckdb").write_text("x")
    with pytest.raises(InputError, match="cannot open it"):
        open_data(tmp_path / "file.duckdb")
