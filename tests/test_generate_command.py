"""The commands of the generator: formats, workers, refusals, and nothing half-made."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner, Result

from crm_analysis import open_warehouse
from crm_analysis.errors import InputError
from crm_analysis.schema import TABLES
from synthetic import PRESETS, make_network, write_network, write_worlds
from synthetic.cli import app
from synthetic.closed_form import WORLDS as CLOSED_WORLDS
from synthetic.closed_form import write_closed_form
from synthetic.columns import unit_of
from synthetic.dictionary import EVERY
from synthetic.reading import open_data
from synthetic.truth import TRUTH_TABLES
from synthetic.world import SCHEMAS

ROOT = Path(__file__).parents[1]
N = 300
"""Customers of the worlds written here: enough for a row in nearly every table."""


def _run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def _sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "data"
    write_network(out, preset="tiny", seed=1, n_customers=N)
    return out


# --- presets, workers and formats -----------------------------------------------------------------


def test_presets_are_the_promised_worlds() -> None:
    sizes = {
        name: (c.n_customers, c.n_dealerships, c.ends_on.year - c.starts_on.year + 1)
        for name, c in PRESETS.items()
    }
    assert sizes == {
        "tiny": (2_000, 3, 3),
        "small": (20_000, 6, 8),
        "medium": (200_000, 24, 10),
        "large": (1_000_000, 60, 11),
    }


def test_two_workers_write_the_bytes_of_one(plain: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    write_network(two, preset="tiny", seed=1, n_customers=N, workers=2, block_size=150)
    assert _sums(two) == _sums(plain)


@pytest.mark.parametrize("kind", ["csv", "duckdb"])
def test_every_format_holds_the_same_tables(kind: str, plain: Path, tmp_path: Path) -> None:
    out = tmp_path / ("data.duckdb" if kind == "duckdb" else "data")
    rows = write_network(out, preset="tiny", seed=1, n_customers=N, kind=kind)
    there, wanted = open_data(out), open_data(plain)
    assert there.kind == kind
    assert dict.fromkeys(there.everything) == dict.fromkeys(wanted.everything)
    for name, frame in wanted.everything.items():
        found = there.everything[name].collect()
        assert found.height == rows[name]
        columns = SCHEMAS[name].columns().items()
        cast = [pl.col(column).cast(kind_.dtype) for column, kind_ in columns]
        assert_frame_equal(found.select(cast), frame.collect(), check_row_order=kind == "csv")
    assert there.facts["seed"] == 1


def test_csv_is_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, block in (("one", 300), ("two", 150)):
        write_network(
            tmp_path / name, preset="tiny", seed=1, n_customers=N, kind="csv", block_size=block
        )
    assert _sums(tmp_path / "one") == _sums(tmp_path / "two")


def test_the_warehouse_opens_the_database(tmp_path: Path) -> None:
    out = tmp_path / "data.duckdb"
    write_network(out, preset="tiny", seed=1, n_customers=N, kind="duckdb")
    warehouse = open_warehouse(out)
    assert warehouse.as_of.isoformat() == "2025-12-31"
    assert warehouse.table("customers").collect().height == N
    with duckdb.connect(str(out), read_only=True) as connection:
        said = connection.execute(
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'deals' AND "
            "column_name = 'discount'"
        ).fetchall()
        assert said == [("discount given from the list price",)]


@pytest.mark.parametrize("name", ["deals", "truth_fate"])
def test_meanings_and_units_travel_in_the_files(name: str, plain: Path) -> None:
    folder = plain if name in TABLES else plain / "truth"
    schema = pq.read_schema(folder / f"{name}.parquet")
    assert schema.metadata[b"table"] == name.encode()
    for column, kind in SCHEMAS[name].columns().items():
        facts = schema.field(column).metadata
        assert facts[b"description"].decode() == kind.description
        assert facts[b"unit"].decode() == unit_of(name, column) != ""


def test_every_file_of_every_world_says_what_its_columns_mean(plain: Path, tmp_path: Path) -> None:
    for world in CLOSED_WORLDS:
        write_closed_form(tmp_path / world, world, seed=1, n_customers=20)
    write_worlds(tmp_path / "pair", policy="contacts", preset="tiny", seed=1, n_customers=20)
    files = [*plain.rglob("*.parquet"), *tmp_path.rglob("*.parquet")]
    assert len({file.stem for file in files}) == len(EVERY)
    for file in files:
        schema = pq.read_schema(file)
        assert schema.metadata[b"description"], file
        for field in schema:
            assert field.metadata[b"description"], (file, field.name)
            assert field.metadata[b"unit"], (file, field.name)


def test_every_column_has_a_unit() -> None:
    assert all(unit_of(name, column) for name in SCHEMAS for column in SCHEMAS[name].columns())


def test_the_manifest_says_which_settings_are_not_the_presets(tmp_path: Path) -> None:
    out = tmp_path / "data"
    asked = {"relation.hazard": 0.2, "n_customers": 40}
    write_network(out, preset="tiny", seed=1, settings=asked)
    facts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert facts["settings"] == asked
    params = pl.read_parquet(out / "truth" / "truth_params.parquet")
    assert params.filter(pl.col("name") == "relation.hazard")["value"].item() == "0.2"


# --- refusals -------------------------------------------------------------------------------------


def test_generate_says_what_was_made_and_refuses_nonsense(tmp_path: Path) -> None:
    out = tmp_path / "data"
    done = _run("generate", "--preset", "tiny", "--set", f"n_customers={N}", "--out", out)
    assert done.exit_code == 0, done.output
    assert "preset tiny, seed 1" in done.output
    for words, said in (
        (["--set", "relation.hazrd=1"], "did you mean 'relation.hazard'"),
        (["--set", "money.credit_share=1.5"], "from 0 to 1"),
        (["--set", "hazard"], "name=value"),
        (["--format", "parket"], "did you mean 'parquet'"),
        (["--format", "duckdb"], "ends in .duckdb"),
        (["--world", "bgnbdd"], "did you mean 'bgnbd'"),
        (["--settings", str(tmp_path / "none.toml")], "cannot be read"),
    ):
        failed = _run("generate", "--preset", "tiny", "--out", tmp_path / "other", *words)
        assert failed.exit_code == 2, (words, failed.output)
        assert said in failed.output.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_closed_form_world_is_written_by_its_name(tmp_path: Path) -> None:
    out = tmp_path / "data"
    done = _run("generate", "--world", "bgnbd", "--set", "n_customers=50", "--out", out)
    assert done.exit_code == 0, done.output
    assert "world bgnbd" in done.output
    again = _run("generate", "--world", "bgnbd", "--set", "n_customers=50", "--out", out)
    assert again.exit_code == 0, again.output


def test_a_policy_is_written_as_two_worlds(tmp_path: Path) -> None:
    out = tmp_path / "data"
    words = ["--preset", "tiny", "--set", "n_customers=40", "--out", out]
    done = _run("generate", "--world", "base,treated", "--policy", "contacts", *words)
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} >= {"base", "treated", "truth"}
    without = _run("generate", "--world", "base,treated", *words)
    assert without.exit_code == 2
    assert "--policy one of" in without.output


def test_a_foreign_manifest_beside_a_database_is_kept(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(InputError, match="holds something else"):
        write_network(tmp_path / "data.duckdb", preset="tiny", seed=1, n_customers=5, kind="duckdb")
    assert (tmp_path / "data.json").read_text() == "{}"


def test_workers_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one or more"):
        write_network(tmp_path / "data", preset="tiny", seed=1, workers=0)


def test_an_error_in_a_worker_reaches_the_caller(tmp_path: Path) -> None:
    from synthetic.config import find_preset
    from synthetic.workers import generate_with

    config = find_preset("tiny", n_customers=30, block_size=10)
    object.__setattr__(config, "locale", "xx_XX")  # past the door, so that the worker finds it
    with pytest.raises(InputError, match="xx_XX"):
        list(generate_with(config, 1, 2))


# --- nothing half-made ----------------------------------------------------------------------------

_CAPPED = (
    "import resource, sys\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    "from synthetic.cli import app\n"
    "app(['generate', '--preset', 'tiny', '--format', sys.argv[2], '--out', sys.argv[1]])\n"
)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file")
@pytest.mark.parametrize(("kind", "name"), [("parquet", "data"), ("csv", "data")])
def test_a_full_disk_is_said_and_leaves_nothing(kind: str, name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CAPPED, str(tmp_path / name), kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "the system refused" in done.stderr
    assert not list(tmp_path.iterdir())


_SLOW = (
    "import sys\n"
    "import synthetic.writing as w\n"
    "from synthetic.cli import app\n"
    "real = w.add_frames\n"
    "def slow(*a):\n"
    "    real(*a)\n"
    "    print('part', flush=True)\n"
    "    sys.stdin.readline()\n"
    "w.add_frames = slow\n"
    "if __name__ == '__main__':\n"
    "    app(['generate', '--preset', 'tiny', '--set', 'block_size=500',\n"
    "         '--workers', sys.argv[2], '--out', sys.argv[1]])\n"
)


def _children(pid: int) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _parent(entry) == pid
    ]


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


@contextmanager
def _stopped_after_a_part(tmp_path: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    """Give a run into `tmp_path/out/data` that goes on after a part when it is told a line."""
    script = tmp_path / "slow.py"
    script.write_text(_SLOW)
    out = tmp_path / "out" / "data"
    with subprocess.Popen(
        [sys.executable, str(script), str(out), str(workers)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "part\n"
        yield process


def _gone(pids: list[int]) -> None:
    limit = time.monotonic() + 20
    while [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < limit
        time.sleep(0.05)


_LISTED = pytest.mark.skipif(not Path("/proc").exists(), reason="children are listed in /proc")


@_LISTED
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_leaves_nothing(workers: int, number: int, tmp_path: Path) -> None:
    with _stopped_after_a_part(tmp_path, workers) as process:
        children = _children(process.pid)
        assert list((tmp_path / "out").iterdir())
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "nothing half-made was left" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").iterdir())
    assert len(children) >= workers - 1
    _gone(children)


def test_an_interrupted_run_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out" / "data"
    write_network(out, preset="tiny", seed=9, n_customers=20)
    before = _sums(out)
    with _stopped_after_a_part(tmp_path, 1) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert _sums(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["data"]


@_LISTED
def test_a_killed_worker_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with _stopped_after_a_part(tmp_path, 2) as process:
        for child in _children(process.pid):
            os.kill(child, signal.SIGKILL)
        _, said = process.communicate("\n" * 9, timeout=60)
    assert process.returncode == 2
    assert "the process ended (exit status -9" in said.replace("\n", " ")
    assert "Use fewer workers" in said.replace("\n", " ")
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    """A file stands where the folder's parent should: that stops the superuser too."""
    (tmp_path / "file").write_text("mine")
    done = _run("generate", "--preset", "tiny", "--out", tmp_path / "file" / "data")
    assert done.exit_code == 2
    assert "cannot be written to" in done.output
    assert (tmp_path / "file").read_text() == "mine"


def test_two_runs_at_once_leave_one_whole_data_set(tmp_path: Path) -> None:
    out = tmp_path / "data"
    words = [sys.executable, "-m", "synthetic", "generate", "--preset", "tiny", "--out", str(out)]
    size = ["--set", "n_customers=200"]
    runs = [
        subprocess.Popen([*words, *size, "--seed", seed], cwd=ROOT, stderr=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    for run in runs:
        run.communicate(timeout=120)
    assert {run.returncode for run in runs} <= {0, 2}
    assert 0 in {run.returncode for run in runs}
    seed = json.loads((out / "manifest.json").read_text())["seed"]
    alone = tmp_path / "alone"
    write_network(alone, preset="tiny", seed=seed, n_customers=200)
    assert _sums(out) == _sums(alone)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "alone"}


def test_progress_is_told_with_the_time_left(tmp_path: Path) -> None:
    done = _run(
        "generate", "--preset", "tiny", "--set", "block_size=500", "--out", tmp_path / "data"
    )
    assert done.exit_code == 0
    assert re.search(r"1,000 of 2,000 customers, \d+ s left", done.stderr)
    assert "2,000 of 2,000 customers" in done.stderr


# --- a notebook -----------------------------------------------------------------------------------


def test_a_network_shows_what_was_made() -> None:
    network = make_network(preset="tiny", seed=1, n_customers=60)
    page = network._repr_html_()
    for word in ("preset tiny, seed 1", "60 customers", "n_customers = 60", *TABLES, *TRUTH_TABLES):
        assert word in page
    assert page.count("<table>") == page.count("</table>") == 2
