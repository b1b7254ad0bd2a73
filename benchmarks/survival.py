"""How fast curves and causes are estimated, beside lifelines, in one command.

``python benchmarks/survival.py`` draws a million durations in whole days and prints the CPU
seconds of Kaplan-Meier and Aalen-Johansen as a Markdown table, each the median of several runs in
one process, imports and drawing not counted; ours once from arrays and once as the metric, which
starts from dates, counts on polars and makes the monthly table. ``--peers`` adds lifelines from a
virtual environment that the benchmark makes for itself in a temporary folder.
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
n, runs = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(1)
life, cause = rng.exponential(1000, n), rng.integers(1, 4, n)
followed = rng.uniform(0, 3000, n)
days = np.minimum(life, followed).astype(np.int64) + 1
cause = np.where(life < followed, cause, 0)
found = {}

def measure(name, work):
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    found[name] = float(np.median(seconds))
"""

_OURS = """
from datetime import date, timedelta
import polars as pl
from crm_analysis import departure_causes, retention_curve
from crm_analysis.survival import aalen_johansen, count_durations, kaplan_meier

def curve():
    counts = count_durations(days, (cause > 0).astype(np.int64))
    kaplan_meier(counts.time, counts.n_entered, counts.n_exits[0], counts.n_censored)

measure("Kaplan-Meier, ours from arrays", curve)
measure("Aalen-Johansen, ours from arrays", lambda: aalen_johansen(*count_durations(days, cause)))
last = date(2025, 12, 31)
spells = pl.DataFrame({"days": days, "cause": cause}).select(
    started_on=pl.lit(last) - pl.duration(days="days"),
    ended_on=pl.when(pl.col("cause") > 0).then(pl.lit(last)),
    cause=pl.when(pl.col("cause") > 0).then(pl.col("cause").cast(pl.String)),
)
measure("Kaplan-Meier, ours from dates", lambda: retention_curve(spells, as_of=last))
measure("Aalen-Johansen, ours from dates", lambda: departure_causes(spells, as_of=last))
"""

_LIFELINES = """
import warnings
from lifelines import AalenJohansenFitter, KaplanMeierFitter
warnings.simplefilter("ignore")  # lifelines warns of each tie that it shakes apart
measure("Kaplan-Meier, lifelines", lambda: KaplanMeierFitter().fit(days, cause > 0))

def causes():
    for kind in (1, 2, 3):
        AalenJohansenFitter(calculate_variance=True).fit(days, cause, event_of_interest=kind)

runs = 1  # a run takes minutes
n_causes = min(n, 20_000)
days, cause = days[:n_causes], cause[:n_causes]
measure(f"Aalen-Johansen, lifelines, {n_causes:,} rows only", causes)
"""

_END = """
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"seconds": found, "peak": peak}))
"""


def measured(python: str, code: str, rows: int) -> tuple[dict[str, float], int]:
    """Run a program in a process of its own; return its CPU seconds by name, and peak MB."""
    done = subprocess.run(
        [python, "-c", _DRAW + code + _END, str(rows), str(RUNS)],
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


def lifelines(rows: int) -> tuple[dict[str, float], int]:
    """Install the peer into an environment of its own and measure it."""
    with tempfile.TemporaryDirectory(prefix="survival-peers-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python"
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS],
            check=True,
        )
        return measured(str(python), _LIFELINES, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peers", action="store_true", help="measure lifelines too")
    asked = parser.parse_args()
    parts = [measured(sys.executable, _OURS, asked.rows)]
    parts += [lifelines(asked.rows)] if asked.peers else []
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()};")
    print(f"{asked.rows:,} durations in whole days, median of {RUNS} runs.\n")
    print("| what | CPU s | peak MB of the process |")
    print("|---|--:|--:|")
    for seconds, peak in parts:
        for name, value in seconds.items():
            print(f"| {name} | {value:.3f} | {peak:,} |")


if __name__ == "__main__":
    main()
