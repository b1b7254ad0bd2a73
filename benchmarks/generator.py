"""How fast and how lean the generator is, beside its peers, in one command.

``python benchmarks/generator.py --json generator.json`` writes worlds with all tables and truth as
Parquet (zstd-1), then lets the peers work: leadforge, which simulates a CRM with its truth and
writes Parquet too, and Faker and Mimesis, which draw a customer's record field by field and keep
nothing. It prints rows per CPU-second, how many times faster our world of 200,000 customers is made
by one process, and peak memory, as a Markdown table. Peers live in a virtual environment that it
makes for itself in a temporary folder. Every measurement runs in a process of its own; CPU seconds,
because the wall depends on neighbours. The world of a million customers needs 4 GB of disk, where
``TMPDIR`` says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("leadforge==1.0.0", "Faker==40.54.0", "mimesis==22.2.0")
"""Peers and the versions that were measured."""

PEER_ROWS = {"leadforge": 5_000, "Faker": 20_000, "mimesis": 20_000}
"""Leads of leadforge (its own usual number), and records of the others."""

_WORLD = """
import json, resource, sys
from synthetic import write_network
if __name__ == "__main__":
    out, preset, customers, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rows = write_network(out, preset=preset, seed=1, n_customers=customers, workers=workers)
    peaks = [
        resource.getrusage(who).ru_maxrss // 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(json.dumps({"rows": sum(rows.values()), "peaks": peaks}))
"""

_LEADFORGE = """
import json, resource, sys, tempfile
from pathlib import Path
import pyarrow.parquet as pq
from leadforge.api import Generator
leads = int(sys.argv[1])
made = Generator.from_recipe(
    "b2b_saas_procurement_v1", seed=1, exposure_mode="research_instructor"
)
with tempfile.TemporaryDirectory() as out:
    made.generate(n_leads=leads).save(out)
    rows = sum(pq.read_metadata(path).num_rows for path in Path(out).rglob("*.parquet"))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"rows": rows, "peaks": [peak]}))
"""

_FAKER = """
import json, random, resource, sys
from faker import Faker
fake = Faker("en_US"); Faker.seed(1); n = int(sys.argv[1])
for _ in range(n):
    (fake.last_name(), fake.first_name(), fake.phone_number(), fake.email(), fake.city(),
     fake.job(), fake.date_of_birth(), random.choice(("low", "middle", "high")),
     random.random() < 0.5)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"rows": n, "peaks": [peak]}))
"""

_MIMESIS = """
import json, random, resource, sys
from mimesis import Address, Datetime, Person
from mimesis.locales import Locale
who, where, when = Person(Locale.EN, seed=1), Address(Locale.EN, seed=1), Datetime(seed=1)
n = int(sys.argv[1])
for _ in range(n):
    (who.last_name(), who.first_name(), who.phone_number(), who.email(), where.city(),
     who.occupation(), when.date(start=1940, end=2005), random.choice(("low", "middle", "high")),
     random.random() < 0.5)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"rows": n, "peaks": [peak]}))
"""


_WORK = {
    "leadforge": (_LEADFORGE, "its CRM with truth, as Parquet"),
    "Faker": (_FAKER, "customers' records one by one, in memory"),
    "mimesis": (_MIMESIS, "customers' records one by one, in memory"),
}
"""What each peer does."""


@dataclass(frozen=True)
class Measured:
    """One line of the table; `peak` is the largest process, in MB."""

    what: str
    rows: int
    wall: float
    cpu: float
    peak: int

    @property
    def rate(self) -> float:
        """Return rows a CPU-second."""
        return self.rows / self.cpu

    def line(self, ours: float) -> str:
        """Write it as a line of a Markdown table, against our rate."""
        return (
            f"| {self.what} | {self.rows:,} | {self.wall:.1f} | {self.cpu:.1f} | {self.rate:,.0f} "
            f"| {ours / self.rate:,.1f} | {self.peak:,} |"
        )


def measure(what: str, command: list[str], environment: dict[str, str]) -> Measured:
    """Run a program that prints its rows as JSON; take its wall and CPU time, start included."""
    started, before = time.monotonic(), os.times()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-2000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    cpu = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return Measured(what, said["rows"], time.monotonic() - started, cpu, max(said["peaks"]))


WORLDS = (("tiny", 2_000, 1), ("medium", 200_000, 1), ("medium", 200_000, 2),
          ("medium", 1_000_000, 2))  # fmt: skip
"""Presets, customers and workers of the worlds that are made."""


def _world(preset: str, customers: int, workers: int) -> Measured:
    """Write a world into a folder that is deleted, and measure it."""
    with tempfile.TemporaryDirectory(prefix="generator-benchmark-") as folder:
        script = Path(folder) / "world.py"
        script.write_text(_WORLD, encoding="utf-8")
        words = [str(Path(folder) / "data"), preset, str(customers), str(workers)]
        what = (
            f"ours: {preset}, {customers:,} customers, {workers} process{'es'[: 2 * (workers > 1)]}"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return measure(what, [sys.executable, str(script), *words], environment)


def worlds(share: float) -> list[Measured]:
    """Write the worlds, of a share of their customers each."""
    return [_world(preset, max(int(n * share), 1), workers) for preset, n, workers in WORLDS]


def peers(share: float) -> list[Measured]:
    """Install the peers into an environment of their own, and let each do its work."""
    found = []
    with tempfile.TemporaryDirectory(prefix="generator-peers-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python"
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS],
            check=True,
        )
        for pin in PEERS:
            name, _, version = pin.partition("==")
            code, work = _WORK[name]
            command = [str(python), "-c", code, str(max(int(PEER_ROWS[name] * share), 1))]
            found.append(measure(f"{name} {version}: {work}", command, dict(os.environ)))
    return found


def _table(found: list[Measured], ours: float) -> str:
    note = (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}. CPU "
        "seconds include starting Python and its imports; 'ours is faster' is the rate of our "
        "`medium` world made by one process against each line; peak is the largest process."
    )
    lines = [
        note,
        "",
        "| what | rows | wall s | CPU s | rows a CPU-second | ours is faster | peak MB |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(one.line(ours) for one in found),
    ]
    return "\n".join(lines)


def _facts(found: list[Measured]) -> str:
    machine = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    measured = [asdict(one) | {"rows_per_cpu_second": round(one.rate)} for one in found]
    return json.dumps(machine | {"measured": measured}, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="share of all customers and rows")
    parser.add_argument("--no-peers", action="store_true", help="measure ours alone")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    found = worlds(asked.share)
    ours = found[1].rate
    found += [] if asked.no_peers else peers(asked.share)
    print(_table(found, ours))
    if asked.json:
        asked.json.write_text(_facts(found), encoding="utf-8")


if __name__ == "__main__":
    main()
