"""A funnel and the times in its stages, beside DuckDB, pandas and retentioneering, in one command.

``python benchmarks/funnel.py`` writes 10 million stage events of 2 million leads to a Parquet file
and asks each contender the same: how many leads came how far, in order and within 90 days of their
first enquiry, and after how many minutes half have left each stage, by manager, open leads counted
as watched so far (Kaplan-Meier). Ours runs on polars and, through the same call, on DuckDB, and
says intervals and a log-rank test too; beside it stand SQL written by hand for DuckDB and pandas,
which say the same counts and medians, and retentioneering, which knows no window and no times.
Each runs in a process of its own and reads the file itself; printed are CPU seconds, wall seconds
and the peak of its memory, imports not counted in the seconds. The answers are compared first,
medians to the minute: where one differs, the run fails. Peers come into a virtual environment that
the benchmark makes for itself in a temporary folder.

``--stages`` measures ours with 2 to 5 stages; ``--stream`` 100 million events, read as a stream.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("pandas==3.1.1", "pyarrow==26.0.1", "retentioneering==5.2.4")
"""Peers and the versions that were measured; DuckDB is that of this environment."""

STAGES = ("new", "contact", "visit", "offer", "contract")

_DRAW = """
import sys
import numpy as np, polars as pl
path, n, stages = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
rng = np.random.default_rng(1)
share = np.array([1, .9, .75, .75, .7])
mean_days = np.array([0, 2, 6, 8, 10])
went = np.logical_and.accumulate(rng.random((n, 5)) < share, axis=1)
gaps = rng.exponential(mean_days * 86_400 + 1e-9, (n, 5)).astype(np.int64)
start = rng.integers(0, 3 * 365 * 86_400, n)
at = start[:, None] + np.cumsum(gaps, axis=1)
lead, stage = np.divmod(np.flatnonzero(went.ravel()), 5)
at = at.ravel()[lead * 5 + stage]
# Five events a lead: the rest are stages come to once more, some days later.
again = rng.integers(0, len(lead), max(5 * n - len(lead), 0))
lead, stage = np.concatenate([lead, lead[again]]), np.concatenate([stage, stage[again]])
at = np.concatenate([at, at[again] + rng.integers(1, 30 * 86_400, len(again))])
rows = rng.permutation(len(lead))
lead, stage, at = lead[rows], stage[rows], at[rows]
pl.DataFrame({
    "opportunity_id": lead,
    "stage": pl.Series(stage.astype(np.uint8)).replace_strict(
        dict(enumerate(stages)), return_dtype=pl.Enum(stages)),
    "happened_at": pl.Series(at * 1_000_000 + 1_577_836_800_000_000).cast(pl.Datetime("us")),
    "manager_id": lead % 200,
}).write_parquet(path)
"""

_BEFORE = """
import json, os, resource, sys, time
path, stages = sys.argv[1], sys.argv[2].split(",")
END = 1_688_169_599  # the last second of 30 June 2023

def measure(work):
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, "answer": answer}))
"""

_OURS = """
from datetime import date
from crm_analysis import conversion_funnel, time_in_stage

def answers(events):
    asked = {"as_of": date(2023, 6, 30)}
    funnel = conversion_funnel(events, steps=stages, within_days=90, anchor="first", **asked)
    times = time_in_stage(events, stages=stages, by="manager_id", **asked)
    order = times.table.sort("manager_id", "step")
    half = [None if days is None else round(days * 1440) for days in order["estimate"].to_list()]
    return {"counts": funnel.table["n_reached"].to_list(), "moved": order["n_moved_on"].to_list(),
            "half": half}
"""

_POLARS = """
import polars as pl
measure(lambda: answers(pl.scan_parquet(path)))
"""

_OVER_DUCKDB = """
import duckdb
with duckdb.connect() as base:
    base.sql("set threads to 2")
    measure(lambda: answers(base.read_parquet(path)))
"""

_SQL = """
import duckdb

def work():
    with duckdb.connect() as base:
        base.sql("set threads to 2")
        base.sql(f"create view e as select * from read_parquet('{path}')")
        # The chain of first events: each step's first event at or after that of the step before.
        chain, last = [], "e0"
        base.sql(f"create temp table t0 as select opportunity_id, min(happened_at) as a0 "
                 f"from e where stage = '{stages[0]}' group by 1")
        for i, stage in enumerate(stages[1:], 1):
            kept = ", ".join(f"any_value(t.a{k}) as a{k}" for k in range(i))
            base.sql(
                f"create temp table t{i} as select t.opportunity_id, {kept}, "
                f"min(e.happened_at) filter (e.happened_at >= t.a{i - 1}) as a{i} from t{i - 1} t "
                f"left join (select * from e where stage = '{stage}') e "
                "using (opportunity_id) group by 1")
            base.sql(f"drop table t{i - 1}")
        k = len(stages) - 1
        counts = base.sql("select " + ", ".join(
            f"count(*) filter (a{i} <= a0 + interval 90 day)" for i in range(k + 1)
        ) + f" from t{k}").fetchall()[0]
        # The first entry of each stage, and the first later stage from it on.
        entered = ", ".join(
            f"min(happened_at) filter (stage = '{s}') as in{i}" for i, s in enumerate(stages))
        base.sql(f"create temp table f as select opportunity_id, any_value(manager_id) as "
                 f"manager_id, {entered} from e group by 1")
        moved = ", ".join(
            "min(e.happened_at) filter (e.stage in ("
            + ", ".join(f"'{s}'" for s in stages[i + 1:])
            + f") and e.happened_at >= f.in{i}) as on{i}" for i in range(k))
        kept = ", ".join(f"any_value(f.in{i}) as in{i}" for i in range(k))
        base.sql(f"create temp table s as select opportunity_id, any_value(f.manager_id) as "
                 f"manager_id, {kept}, {moved} from e join f using (opportunity_id) group by 1")
        # Stays by whole minutes, open ones until the end of the last day; then Kaplan-Meier.
        stays = " union all ".join(
            f"select manager_id, {i} as step, (coalesce(epoch(on{i})::bigint, {END}) "
            f"- epoch(in{i})::bigint) // 60 as m, count(*) as n, count(on{i}) as d from s "
            f"where in{i} is not null group by 1, 3" for i in range(k))
        base.sql(f"create temp table r as select *, sum(n) over (partition by manager_id, step "
                 f"order by m desc) as risk from ({stays})")
        base.sql("create temp table c as select *, sum(case when d = risk then -1000 else "
                 "ln(1 - d / risk) end) over (partition by manager_id, step order by m) as kept "
                 "from r")
        found = base.sql("select manager_id, step, sum(d)::bigint, min(m) filter "
                         "(exp(kept) <= 0.5 + 1e-12) from c group by 1, 2 order by 1, 2").fetchall()
        return {"counts": list(counts), "moved": [row[2] for row in found],
                "half": [row[3] for row in found]}

measure(work)
"""

_PANDAS = """
import pandas as pd

def work():
    e = pd.read_parquet(path)
    first = e[e["stage"] == stages[0]].groupby("opportunity_id")["happened_at"].min()
    before, counts = first, [len(first)]
    for stage in stages[1:]:
        s = e[e["stage"] == stage]
        s = s[s["happened_at"] >= s["opportunity_id"].map(before)]
        before = s.groupby("opportunity_id")["happened_at"].min()
        counts.append(int((before <= first.reindex(before.index) + pd.Timedelta(days=90)).sum()))
    manager = e.groupby("opportunity_id")["manager_id"].first()
    told = []
    for i, stage in enumerate(stages[:-1]):
        entered = e[e["stage"] == stage].groupby("opportunity_id")["happened_at"].min()
        later = e[e["stage"].isin(stages[i + 1:])]
        later = later[later["happened_at"] >= later["opportunity_id"].map(entered)]
        left = later.groupby("opportunity_id")["happened_at"].min().reindex(entered.index)
        stay = left.fillna(pd.Timestamp(END, unit="s")) - entered
        stays = pd.DataFrame({"who": manager.reindex(entered.index), "d": left.notna(),
                              "m": stay.dt.total_seconds().astype("int64") // 60})
        by = stays.groupby(["who", "m"])["d"].agg(["size", "sum"]).reset_index()
        by["risk"] = by[::-1].groupby("who")["size"].cumsum()
        by["kept"] = (1 - by["sum"] / by["risk"]).groupby(by["who"]).cumprod()
        half = by[by["kept"] <= 0.5 + 1e-12].groupby("who")["m"].min()
        for who, n in by.groupby("who")["sum"].sum().items():
            told.append((int(who), i, int(n), int(half[who]) if who in half.index else None))
    told.sort(key=lambda one: one[:2])
    return {"counts": counts, "moved": [one[2] for one in told], "half": [one[3] for one in told]}

measure(work)
"""

_RETENTIONEERING = """
import pandas as pd
from retentioneering import Eventstream

def work():
    e = pd.read_parquet(path, columns=["opportunity_id", "stage", "happened_at"])
    e["stage"] = e["stage"].astype(str)
    schema = {"path_cols": ["opportunity_id"], "event_col": "stage",
              "timestamp_col": "happened_at"}
    steps = Eventstream(e, schema=schema).funnel_data(steps=stages)["steps"]
    return {"counts": [int(step["unique_paths"]) for step in steps]}

measure(work)
"""


@dataclass(frozen=True)
class Contender:
    """Who is measured: its program, its Python, and whether it answers the same question."""

    name: str
    program: str
    python: str
    same: bool = True


def run(who: Contender, path: Path, stages: tuple[str, ...]) -> dict[str, Any]:
    """Run one contender in a process of its own and return what it measured."""
    ours = {"PYTHONPATH": str(ROOT)} if who.python == sys.executable else {}
    done = subprocess.run(
        [who.python, "-c", _BEFORE + who.program, str(path), ",".join(stages)],
        cwd=path.parent,
        env=os.environ | _QUIET | ours,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


_QUIET = {"RETENTIONEERING_NO_TRACK": "1"}
"""Nothing that is measured here is to be told to anybody."""


def peers(folder: Path) -> str | None:
    """Make the peers' environment and return its Python; None where they cannot be installed."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    uv = shutil.which("uv")
    venv.create(folder, with_pip=uv is None)
    make = [uv, "pip", "install", "--quiet", "--python", str(python)] if uv else [
        str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"
    ]  # fmt: skip
    done = subprocess.run([*make, *PEERS], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"The peers could not be installed: {done.stderr.strip()[-300:]}\n")
        return None
    return str(python)


def contenders(python: str | None) -> list[Contender]:
    """Return who is measured, ours first."""
    ours = Contender("ours on polars", _OURS + _POLARS, sys.executable)
    sql = Contender("DuckDB, SQL by hand", _SQL, sys.executable)
    over = Contender("ours on DuckDB", _OURS + _OVER_DUCKDB, sys.executable)
    others = [] if python is None else [
        Contender("pandas by hand", _PANDAS, python),
        Contender("retentioneering, no window, no times", _RETENTIONEERING, python, same=False),
    ]  # fmt: skip
    return [ours, sql, *others, over]


def draw(path: Path, leads: int) -> None:
    """Write the events of so many leads, five each, to a Parquet file."""
    subprocess.run(
        [sys.executable, "-c", _DRAW, str(path), str(leads), ",".join(STAGES)], check=True
    )


def line(name: str, found: dict[str, Any]) -> str:
    """Write one row of the table."""
    if "failed" in found:
        return f"| {name} | failed: {' '.join(found['failed'])} | | |"
    return f"| {name} | {found['cpu']:.1f} | {found['wall']:.1f} | {found['peak']:,} |"


_HEAD = "| what | CPU s | wall s | peak MB |\n|---|--:|--:|--:|"


def compare(path: Path, folder: Path, *, with_peers: bool) -> None:
    """Measure all, print, and fail where two that answer the same say otherwise."""
    found = {}
    print(_HEAD)
    for who in contenders(peers(folder) if with_peers else None):
        found[who.name] = run(who, path, STAGES) | {"same": who.same}
        print(line(who.name, found[who.name]), flush=True)
    good = {name: one for name, one in found.items() if one["same"] and "failed" not in one}
    ours = found["ours on polars"]
    if "failed" in ours:
        raise SystemExit(f"Ours failed: {ours['failed']}")
    differ = [name for name, one in good.items() if one["answer"] != ours["answer"]]
    if differ:
        raise SystemExit(f"Not the same answer as ours: {', '.join(differ)}")
    known = [one for one in ours["answer"]["half"] if one is not None]
    print(f"\nThe same answer from {len(good)}: {ours['answer']['counts']} leads by step, and "
          f"{len(known)} medians, to the minute.")  # fmt: skip
    if "DuckDB, SQL by hand" in good:
        ratio = good["DuckDB, SQL by hand"]["cpu"] / ours["cpu"]
        print(f"DuckDB's SQL takes {ratio:.2f} times our CPU seconds on polars.")


def by_stages(path: Path) -> None:
    """Measure ours with 2 to 5 stages: the cost should grow linearly."""
    print("\n" + _HEAD.replace("what", "ours on polars"))
    for k in range(2, len(STAGES) + 1):
        who = Contender("", _OURS + _POLARS, sys.executable)
        print(line(f"{k} stages", run(who, path, STAGES[:k])), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--leads", type=int, default=2_000_000, help="leads, five events each")
    parser.add_argument("--no-peers", action="store_true", help="leave out what must be installed")
    parser.add_argument("--stages", action="store_true", help="measure 2 to 5 stages too")
    parser.add_argument("--stream", action="store_true", help="100 million events, ours only")
    asked = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="funnel-") as place:
        path = Path(place) / "events.parquet"
        leads = 20_000_000 if asked.stream else asked.leads
        draw(path, leads)
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()};")
        print(f"{5 * leads:,} events of {leads:,} leads, 5 stages, 200 managers.\n")
        if asked.stream:
            who = Contender("", _OURS + _POLARS, sys.executable)
            print(_HEAD + "\n" + line("ours on polars", run(who, path, STAGES)))
        else:
            compare(path, Path(place) / "peers", with_peers=not asked.no_peers)
        if asked.stages:
            by_stages(path)
    print(f"\n{time.perf_counter() - started:.0f} s in all.")


if __name__ == "__main__":
    main()
