"""How fast curves and causes are estimated, beside lifelines, in one command.

``python benchmarks/survival.py`` draws a million relationships as dates and prints the CPU seconds
of Kaplan-Meier and Aalen-Johansen as a Markdown table, each the median of several runs in one
process, imports and drawing not counted: from dates, as a user has them, and from whole days
counted beforehand. ``--peers`` adds lifelines from a virtual environment that the benchmark makes
for itself in a temporary folder (``--environment`` keeps it), and the ratio to ours of the same
rows. From dates lifelines counts days by its own ``datetimes_to_durations``; ours gives a monthly
table, in days and in calendar months. lifelines' Aalen-Johansen shakes ties apart and walks
through the rows one by one: it is measured, beside ours, on rows that it can do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("lifelines==0.30.3",)
"""Peers and the versions that were measured."""

RUNS = 5

_DRAW = """
import json, resource, sys, time
import numpy as np
n, runs, n_causes = (int(said) for said in sys.argv[1:])
rng = np.random.default_rng(1)
life, cause = rng.exponential(1000, n).astype(int), rng.integers(1, 4, n)
followed = rng.integers(0, 3000, n)
last = np.datetime64("2025-12-31")
start = last - followed
cause = np.where(life <= followed, cause, 0)
end = np.where(cause > 0, start + life, np.datetime64("NaT"))
days = np.minimum(life, followed)
found = {}

def measure(name, work, runs=runs):
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    found[name] = float(np.median(seconds))

def measure_all(curve_from_dates, curve_from_days, causes_from_dates, causes_from_days, runs):
    measure(f"Kaplan-Meier of {n:,} from dates", curve_from_dates)
    measure(f"Kaplan-Meier of {n:,} from days", curve_from_days)
    measure(f"Aalen-Johansen of {n_causes:,} from dates", lambda: causes_from_dates(n_causes), runs)
    measure(f"Aalen-Johansen of {n_causes:,} from days", lambda: causes_from_days(n_causes), runs)
"""

_OURS = """
import polars as pl
from crm_analysis import departure_causes, retention_curve
from crm_analysis.survival import aalen_johansen, count_durations, kaplan_meier

day = last.item()
spells = pl.DataFrame({"started_on": start, "ended_on": end, "cause": cause}).with_columns(
    cause=pl.when(pl.col("cause") > 0).then(pl.col("cause").cast(pl.String)),
)

def curve():
    counts = count_durations(days, (cause > 0).astype(np.int64))
    kaplan_meier(counts.time, counts.n_entered, counts.n_exits[0], counts.n_censored)

measure_all(
    lambda: retention_curve(spells, as_of=day, unit="day"),
    curve,
    lambda n: departure_causes(spells.head(n), as_of=day, unit="day"),
    lambda n: aalen_johansen(*count_durations(days[:n], cause[:n])),
    runs,
)
measure(f"Kaplan-Meier of {n:,} from dates, calendar months", lambda: retention_curve(
    spells, as_of=day))
measure(f"Aalen-Johansen of {n:,} from dates", lambda: departure_causes(
    spells, as_of=day, unit="day"))
measure(f"Aalen-Johansen of {n:,} from dates, calendar months", lambda: departure_causes(
    spells, as_of=day))
measure(f"Aalen-Johansen of {n:,} from days", lambda: aalen_johansen(
    *count_durations(days, cause)))
"""

_LIFELINES = """
import warnings
import pandas as pd
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from lifelines.utils import datetimes_to_durations
warnings.simplefilter("ignore")  # lifelines warns of each tie that it shakes apart
starts, ends = (pd.Series(dates.astype("datetime64[ns]")) for dates in (start, end))

def durations(n):
    return datetimes_to_durations(starts[:n], ends[:n], fill_date=str(last), freq="D")

def causes(days, n):
    for kind in (1, 2, 3):
        AalenJohansenFitter(calculate_variance=True).fit(days, cause[:n], event_of_interest=kind)

measure_all(
    lambda: KaplanMeierFitter().fit(*durations(n)),
    lambda: KaplanMeierFitter().fit(days, cause > 0),
    lambda n: causes(durations(n)[0], n),
    lambda n: causes(days[:n], n),
    1,  # a run takes seconds
)
"""

_END = """
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"seconds": found, "peak": peak}))
"""


def measured(python: str, code: str, rows: int, n_causes: int) -> tuple[dict[str, float], int]:
    """Run a program in a process of its own; return its CPU seconds by name, and peak MB."""
    done = subprocess.run(
        [python, "-c", _DRAW + code + _END, str(rows), str(RUNS), str(min(rows, n_causes))],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return said["seconds"], said["peak"]


def environment_in(folder: Path) -> str:
    """Return the interpreter of an environment with the peer, made when it is not there."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *PEERS], check=True)
    return str(python)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--cause-rows", type=int, default=20_000,
                        help="rows of the Aalen-Johansen that lifelines is to do too")  # fmt: skip
    parser.add_argument("--peers", action="store_true", help="measure lifelines too")
    parser.add_argument("--environment", type=Path, help="folder of the peer's environment")
    asked = parser.parse_args()
    sizes = (asked.rows, asked.cause_rows)
    ours, peak = measured(sys.executable, _OURS, *sizes)
    theirs, their_peak = {}, 0
    if asked.peers:
        with tempfile.TemporaryDirectory(prefix="survival-peers-") as folder:
            python = environment_in(asked.environment or Path(folder))
            theirs, their_peak = measured(python, _LIFELINES, *sizes)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()};")
    print(f"median of {RUNS} runs; peak memory {peak:,} MB, lifelines {their_peak:,} MB.\n")
    print("| what | ours, CPU s | lifelines, CPU s | times ours |")
    print("|---|--:|--:|--:|")
    for name, seconds in ours.items():
        other = f"{theirs[name]:.3f} | {theirs[name] / seconds:.1f}" if name in theirs else " | "
        print(f"| {name} | {seconds:.3f} | {other} |")


if __name__ == "__main__":
    main()
