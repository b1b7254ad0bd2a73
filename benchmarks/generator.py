"""How fast and how lean the generator is, beside its peers, in one command.

``python benchmarks/generator.py`` writes worlds with all tables and truth as Parquet (zstd-1) and
prints rows per CPU-second and peak memory as a Markdown table; ``--peers`` adds Faker and Mimesis,
each drawing a customer's record field by field, from a virtual environment that it makes for itself
in a temporary folder. Every measurement runs in a process of its own.
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
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("Faker==40.54.0", "mimesis==22.2.0")
"""Peers and the versions that were measured."""

PEER_ROWS = 20_000

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

_FAKER = """
import json, random, sys
from faker import Faker
fake = Faker("en_US"); Faker.seed(1); n = int(sys.argv[1])
for _ in range(n):
    (fake.last_name(), fake.first_name(), fake.phone_number(), fake.email(), fake.city(),
     fake.job(), fake.date_of_birth(), random.choice(("low", "middle", "high")),
     random.random() < 0.5)
print(json.dumps({"rows": n}))
"""

_MIMESIS = """
import json, random, sys
from mimesis import Address, Datetime, Person
from mimesis.locales import Locale
who, where, when = Person(Locale.EN, seed=1), Address(Locale.EN, seed=1), Datetime(seed=1)
n = int(sys.argv[1])
for _ in range(n):
    (who.last_name(), who.first_name(), who.phone_number(), who.email(), where.city(),
     who.occupation(), when.date(start=1940, end=2005), random.choice(("low", "middle", "high")),
     random.random() < 0.5)
print(json.dumps({"rows": n}))
"""


@dataclass(frozen=True)
class Measured:
    """One line of the table; memory in MB, None where it was not measured."""

    what: str
    rows: int
    wall: float
    cpu: float
    peak: int | None

    def line(self) -> str:
        """Write it as a line of a Markdown table."""
        peak = "-" if self.peak is None else f"{self.peak:,}"
        rate = self.rows / self.cpu
        return (
            f"| {self.what} | {self.rows:,} | {self.wall:.1f} | {self.cpu:.1f} | {rate:,.0f} "
            f"| {peak} |"
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
    peaks = said.get("peaks")
    return Measured(
        what, said["rows"], time.monotonic() - started, cpu, max(peaks) if peaks else None
    )


def worlds(preset: str, sizes: list[int], workers: list[int]) -> list[Measured]:
    """Write a world of each size with each number of workers."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = []
    with tempfile.TemporaryDirectory(prefix="generator-benchmark-") as folder:
        script = Path(folder) / "world.py"
        script.write_text(_WORLD, encoding="utf-8")
        for size in sizes:
            for count in workers:
                out = Path(folder) / "data"
                words = [str(out), preset, str(size), str(count)]
                what = f"ours: {preset}, {size:,} customers, {count} worker{'s'[: count > 1]}"
                found.append(measure(what, [sys.executable, str(script), *words], environment))
    return found


def peers() -> list[Measured]:
    """Install the peers into an environment of their own, and let each draw customers' records."""
    found = []
    with tempfile.TemporaryDirectory(prefix="generator-peers-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python"
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS],
            check=True,
        )
        for pin, code in zip(PEERS, (_FAKER, _MIMESIS), strict=True):
            command = [str(python), "-c", code, str(PEER_ROWS)]
            what = f"{pin.replace('==', ' ')}, customers' records one by one, in memory"
            found.append(measure(what, command, dict(os.environ)))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--customers", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peers", action="store_true", help="measure Faker and Mimesis too")
    asked = parser.parse_args()
    found = worlds(asked.preset, asked.customers, asked.workers)
    found += peers() if asked.peers else []
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; CPU")
    print("seconds include starting Python and its imports; peak is the largest process, in MB.\n")
    print("| what | rows | wall s | CPU s | rows a CPU-second | peak MB |")
    print("|---|--:|--:|--:|--:|--:|")
    for one in found:
        print(one.line())


if __name__ == "__main__":
    main()
