"""How fast are the models of lifetime? Side by side with lifetimes and pymc-marketing.

Every measurement is a process of its own on the same drawn data; counted is the work alone, after
imports and after the data stand in memory in the form that the library asks for (polars or
pandas). CPU seconds are those of all threads; peak memory is that of the whole process.

Histories are counted at several sizes, because lifetimes had not ended after 900 s at ten million
purchases: the ratio is that of the sizes at which both end. Ids that are numbers after the same
letters are read as numbers; others are looked up in a dictionary, which takes most of the time.

    python run.py exec python benchmarks/lifetime.py --peers lifetimes pymc-marketing

makes a virtual environment for the peers, which takes minutes (``--environment`` keeps it).
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
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = {
    "lifetimes": ["lifetimes==0.11.3", "pandas<3"],
    "pymc-marketing": ["pymc-marketing==0.19.2"],
}

_CUSTOMERS = """
import numpy as np
def customers(n):
    rng = np.random.default_rng(0)
    rate, p = rng.gamma(.243, 1 / 4.414, n), rng.beta(.793, 2.426, n)
    T = rng.integers(27 * 7, 39 * 7 + 1, n) / 7
    x, t_x, now, live = np.zeros(n, int), np.zeros(n), np.zeros(n), np.arange(n)
    while len(live):
        now[live] += rng.exponential(1 / np.maximum(rate[live], 1e-12))
        live = live[now[live] <= T[live]]
        x[live] += 1
        t_x[live] = np.minimum(np.ceil(now[live] * 7) / 7, T[live])
        live = live[rng.random(len(live)) > p[live]]
    return x, t_x, T
def purchases(n, numbered):
    rng = np.random.default_rng(0)
    customers = np.arange(n // 10) if numbered else rng.integers(0, 2**63, n // 10)
    names = np.array([f"C{c:08d}" if numbered else f"{c:016x}" for c in customers.tolist()])
    ids = names[rng.integers(0, n // 10, n)]
    return ids, np.datetime64("2014-01-01") + rng.integers(0, 3650, n)
def measured(work):
    import json, resource, time
    wall, cpu = time.perf_counter(), time.process_time()
    said = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, "said": said}))
"""

_OURS_FIT = """
import polars as pl
from crm_analysis import PurchaseHistory, {fit}
x, t_x, T = customers({n})
table = pl.DataFrame({{"frequency": x, "recency": t_x, "age": T}})
def work():
    model = {fit}(PurchaseHistory.from_summary(table))
    return [*model.values().values(), *model.std_errors.values()]
measured(work)
"""

_LIFETIMES_FIT = """
from lifetimes import {fitter}
x, t_x, T = customers({n})
def work():
    model = {fitter}().fit(x, t_x, T)
    return [float(v) for v in model.params_]
measured(work)
"""

_PYMC_FIT = """
import pandas as pd
from pymc_marketing.clv import {fitter}
x, t_x, T = customers({n})
frame = pd.DataFrame({{"customer_id": range(len(x)), "frequency": x, "recency": t_x, "T": T}})
def fit(data):
    model = {fitter}(data=data)
    model.fit(method="map", progressbar=False)
    return [float(v) for v in model.fit_summary()]
fit(frame.head(500))  # what compiling costs once is not counted
measured(lambda: fit(frame))
"""

_OURS_HISTORY = """
import polars as pl
from datetime import date
from crm_analysis import purchase_history
ids, day = purchases({n}, {numbered})
table = pl.DataFrame({{"customer_id": ids, "happened_on": day}})
def work(table):
    return purchase_history(table, value_col=None, as_of=date(2023, 12, 31)).n
work(table.head(500))  # what importing costs once is not counted
measured(lambda: work(table))
"""

_LIFETIMES_HISTORY = """
import pandas as pd
from lifetimes.utils import summary_data_from_transaction_data as summary
ids, day = purchases({n}, {numbered})
table = pd.DataFrame({{"customer_id": ids, "happened_on": pd.to_datetime(day)}})
def work(table):
    return len(summary(table, "customer_id", "happened_on", observation_period_end="2023-12-31"))
work(table.head(500))  # what importing costs once is not counted
measured(lambda: work(table))
"""


@dataclass(frozen=True)
class Measured:
    """One line of the table."""

    what: str
    who: str
    wall: float
    cpu: float
    peak: int

    def line(self, ours: Measured | None) -> str:
        """Write it as a line of a Markdown table."""
        ratio = "1" if ours is None else f"{self.cpu / ours.cpu:,.1f}"
        spent = f"{self.cpu:.3f} | {self.wall:.3f} | {self.peak:,}"
        return f"| {self.what} | {self.who} | {spent} | {ratio} |"


class NotMeasuredError(Exception):
    """A measurement could not be made; the message says why."""


def run(what: str, who: str, python: str, code: str, seconds: float) -> Measured:
    """Run a measurement in a process of its own, for so many seconds at most.

    Raises
    ------
    NotMeasuredError
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    for tuned in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        environment.pop(tuned, None)
    try:
        done = subprocess.run(
            [python, "-c", _CUSTOMERS + code],
            env=environment, capture_output=True, text=True, check=False, timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotMeasuredError(
            f"{what} by {who} had not ended after {seconds:g} s, imports and compiling included"
        ) from None
    if done.returncode:
        raise NotMeasuredError(
            f"{what} by {who} failed: {(done.stderr.strip() or 'no word')[-400:]}"
        )
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return Measured(what, who, said["wall"], said["cpu"], said["peak"])


def environment_of(peers: list[str], folder: Path) -> str:
    """Return the interpreter of an environment with the peers, made when it is not there."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for peer in peers:
            if subprocess.run([*install, *PINS[peer]], check=False).returncode:
                print(f"{peer} could not be installed: its lines will say that it is missing")
    return str(python)


def tasks(asked: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Return the code of every measurement, by task and by library; size 0 leaves a task out."""
    customers, pareto = asked.customers, asked.pareto_customers
    fits = {
        f"BG/NBD, {customers:,} customers": {
            "ours, with standard errors": _OURS_FIT.format(fit="fit_beta_geometric", n=customers),
            "lifetimes": _LIFETIMES_FIT.format(fitter="BetaGeoFitter", n=customers),
            "pymc-marketing": _PYMC_FIT.format(fitter="BetaGeoModel", n=customers),
        },
        f"Pareto/NBD, {pareto:,} customers": {
            "ours, with standard errors": _OURS_FIT.format(fit="fit_pareto_nbd", n=pareto),
            "lifetimes": _LIFETIMES_FIT.format(fitter="ParetoNBDFitter", n=pareto),
        },
    }
    programs = {"ours": _OURS_HISTORY, "lifetimes": _LIFETIMES_HISTORY}
    histories = {
        f"history of {n:,} purchases, ids {example}": {
            who: code.format(n=n, numbered=numbered)
            for who, code in programs.items()
            if who == "ours" or n <= asked.peer_transactions
        }
        for n in asked.transactions
        for example, numbered in (("C00001234", True), ("9f86d081884c7d65", False))
    }
    wanted = [size > 0 for size in (customers, pareto)]
    return dict(compress(fits.items(), wanted)) | histories


def measure(asked: argparse.Namespace, python: str) -> None:
    """Run every task, ours first, and print each line as it comes."""
    for what, codes in tasks(asked).items():
        ours: Measured | None = None
        for who, code in codes.items():
            is_ours = who.startswith("ours")
            if not is_ours and who not in asked.peers:
                continue
            try:
                one = run(what, who, sys.executable if is_ours else python, code, asked.seconds)
            except NotMeasuredError as why:
                print(f"| {what} | {who} | not measured: {why} |", flush=True)
                continue
            print(one.line(None if is_ours else ours), flush=True)
            ours = one if is_ours else ours


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="*", choices=list(PINS), default=[])
    parser.add_argument("--environment", type=Path, help="folder of the peers' environment")
    parser.add_argument("--customers", type=int, default=1_000_000, help="0 leaves a task out")
    parser.add_argument("--pareto-customers", type=int, default=10_000)
    parser.add_argument("--transactions", type=int, nargs="*",
                        default=[1_000_000, 2_000_000, 10_000_000])  # fmt: skip
    parser.add_argument("--peer-transactions", type=int, default=2_000_000,
                        help="lifetimes counts histories of so many at most")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=900, help="give up on a line after these")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifetime-peers-") as folder:
        python = sys.executable
        if asked.peers:
            python = environment_of(asked.peers, asked.environment or Path(folder))
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n")
        print("| what | by | CPU s | wall s | peak MB | CPU to ours |")
        print("|---|---|--:|--:|--:|--:|", flush=True)
        measure(asked, python)


if __name__ == "__main__":
    main()
