"""How fast reports are made, beside a loop of command lines and beside the floor, in one run.

``python benchmarks/reports.py`` (after ``python run.py data``) makes the demonstration batch: every
notebook, for the network and for each dealership, in English and Russian, HTML and PDF. Beside it:

* **loop**: what one would write without this toolkit, over a sample of the same reports:
  `papermill`, then `jupyter nbconvert --to html`, then `--to webpdf`. Where a Chromium is on the
  path it prints the page, and a second conversion to HTML is counted for the one with which
  webpdf begins; beside it a loop that spares that, and one that makes no PDF at all;
* **floor**: the same sample in one warm process: the cells and both renderings, nothing else.

Then the same for as many notebooks of one figure, whose cells cost little: what a runner costs.

CPU seconds are those of every process that took part, kernels too (on Linux their orphans are
adopted and counted). Sample means are weighted by the batch's share of network and dealership
reports. Ratios are of seconds per report.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = tuple(sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
SCRATCH = ROOT / "reports" / "out" / "benchmark"
_PR_SET_CHILD_SUBREAPER = 36

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_BROWSER_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-pdf-header-footer",
)

_FLOOR = """
import gc, json, sys, time
sys.modules.setdefault("rfc3987_syntax", None)
import matplotlib
import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.displayhook import CapturingDisplayHook
from IPython.utils.capture import RichOutput, capture_output
from crm_analysis import wording
from crm_analysis.reporting import fresh
from crm_analysis.reporting.messages import translate_notebook
from crm_analysis.reporting.pdf import Press
from crm_analysis.reporting.render import Facts, make_exporter, render_report
from crm_analysis.reporting.runs import Run

jobs = json.loads(sys.stdin.read())
shell = InteractiveShell.instance()
matplotlib.use("inline")  # as a kernel does
fresh.warm_up()
gc.collect()
gc.freeze()  # as a kernel does
exporter, press = make_exporter(), Press()

def bundle(output):
    return nbformat.v4.new_output("display_data", data=output.data, metadata=output.metadata or {})

def make(job):
    run, facts = Run.from_json(job["run"]), Facts.from_json(job["facts"])
    notebook = nbformat.read(job["notebook"], as_version=4)
    shell.reset(new_session=True)
    fresh.restore(job["folder"])
    marks = [time.process_time()]
    with wording.speaking(run.lang):
        translate_notebook(notebook)
        for cell in (c for c in notebook.cells if c.cell_type == "code"):
            cell.outputs = []
            source = cell.source
            if "parameters" in cell.metadata.get("tags", []):
                source += "".join(f"\\n{k} = {v!r}" for k, v in job["values"].items())
            with capture_output() as shown:
                shell.display_trap.hook = CapturingDisplayHook(shell, kept := [])
                result = shell.run_cell(source)
            result.raise_error()
            cell.outputs = [bundle(o) for o in (*shown.outputs, *(RichOutput(**o) for o in kept))]
    marks.append(time.process_time())
    with wording.speaking(run.lang):
        page = render_report(notebook, run, facts, exporter)
        marks.append(time.process_time())
        printed = press.report(notebook, run, facts)
    marks.append(time.process_time())
    assert "data:image/svg" in page.html and printed.startswith(b"%PDF")
    return [late - early for early, late in zip(marks, marks[1:])]

make(jobs[0])  # everything is imported, compiled and cached by now
for job in jobs:
    start, cpu = time.monotonic(), time.process_time()
    phases = make(job)
    print(json.dumps([time.monotonic() - start, time.process_time() - cpu, *phases]), flush=True)
"""


@dataclass
class Cost:
    """Seconds by the clock and of the processors."""

    wall: float = 0.0
    cpu: float = 0.0

    def of(self, n: float) -> Cost:
        """Return the cost of one of `n`."""
        return Cost(self.wall / n, self.cpu / n)

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of one after the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu)


@dataclass
class Sample:
    """Costs of single reports, for the network and for dealerships."""

    network: list[Cost] = field(default_factory=list)
    dealership: list[Cost] = field(default_factory=list)

    def add(self, place: str, cost: Cost) -> None:
        """Keep one."""
        (self.network if place == "network" else self.dealership).append(cost)

    def mean(self, network_share: float) -> Cost:
        """Return the mean of a report where so large a share is for the network."""
        parts = ((self.network, network_share), (self.dealership, 1 - network_share))
        mean = Cost()
        for costs, share in parts:
            mean.wall += share * sum(cost.wall for cost in costs) / len(costs)
            mean.cpu += share * sum(cost.cpu for cost in costs) / len(costs)
        return mean


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what happens inside: the clock, and every process that was started and ended."""
    cost, start, before = Cost(), time.monotonic(), os.times()
    yield cost
    cost.wall = time.monotonic() - start
    _reap()
    after = os.times()
    cost.cpu = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def adopt_orphans() -> None:
    """Let the kernels of an ended program become our children, whose time the system tells us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap() -> None:
    deadline = time.monotonic() + 10
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)


def write_plan(data: str, notebooks: list[str], dealerships: list[str]) -> Path:
    """Write the plan of the batch into the project, where its paths are looked for."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    plan = SCRATCH / "plan.toml"
    lines = {
        "data": data,
        "out": (SCRATCH / "batch").as_posix(),
        "notebooks": notebooks,
        "dealerships": ["network", *dealerships],
        "languages": ["en", "ru"],
        "formats": ["html", "pdf"],
    }
    plan.write_text(
        "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in lines.items())
    )
    return plan


def run(command: list[str], *, told: str | None = None) -> str:
    """Run a program from the project's root and return what it prints."""
    done = subprocess.run(
        command, cwd=ROOT, input=told, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[:4]} failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return done.stdout


def batch(plan: Path, *options: str) -> Cost:
    """Run the batch's command."""
    command = [sys.executable, "-m", "crm_analysis.reporting", "batch", str(plan), *options]
    with measured() as cost:
        run(command)
    return cost


def sample_jobs(plan: Path, notebooks: list[str]) -> list[dict[str, object]]:
    """Choose each notebook for the network and for one dealership, languages in turn."""
    from crm_analysis.reporting import open_batch

    opened = open_batch(plan, root=ROOT, force=True)
    first = next(o.run.dealership for o in opened.outcomes if o.run.dealership != "network")
    jobs: list[dict[str, object]] = []
    for number, name in enumerate(notebooks):
        for place, lang in (("network", "en"), (first, "ru")):
            wanted = lang if number % 2 == 0 else {"en": "ru", "ru": "en"}[lang]
            [one] = [
                outcome.run
                for outcome in opened.outcomes
                if (outcome.run.name, outcome.run.dealership, outcome.run.lang)
                == (name, place, wanted)
            ]
            facts = opened.inputs.facts(one)
            values = {**one.parameters, "data": str(Path(ROOT / str(facts["parameters"]["data"])))}
            jobs.append(
                {
                    "run": one.to_json(),
                    "facts": facts,
                    "values": values,
                    "notebook": str(ROOT / one.notebook),
                    "folder": str((ROOT / one.notebook).parent),
                    "place": "network" if place == "network" else "dealership",
                }
            )
    return jobs


@dataclass
class Loop:
    """Costs of reports made by command lines: the page alone, and with a PDF in two ways."""

    page: Sample = field(default_factory=Sample)
    page_printed: Sample = field(default_factory=Sample)
    two_conversions: Sample = field(default_factory=Sample)


def loop(jobs: list[dict[str, object]], browser: str | None) -> Loop:
    """Execute and convert each report by command lines, one after another.

    Without a browser nothing is printed, and those samples stay empty.
    """
    found = Loop()
    with tempfile.TemporaryDirectory(prefix="reports-benchmark-") as folder:
        for job in jobs:
            place = str(job["place"])
            with measured() as made:
                executed = _execute(job, Path(folder))
                page = _convert(executed)
            found.page.add(place, made)
            if browser is not None:
                with measured() as printed:
                    _print_by(browser, page)
                with measured() as converted:
                    _convert(executed)
                found.page_printed.add(place, made + printed)
                found.two_conversions.add(place, made + converted + printed)
    return found


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((found for name in _BROWSERS if (found := shutil.which(name))), None)


def _print_by(browser: str, page: Path) -> None:
    printed = page.with_suffix(".pdf")
    printed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        options = [*_BROWSER_OPTIONS, f"--user-data-dir={profile}", f"--print-to-pdf={printed}"]
        run([browser, *options, page.as_uri()])
    if not printed.is_file() or not printed.read_bytes().startswith(b"%PDF"):
        raise SystemExit(f"{browser} printed no PDF of {page}.")


def _execute(job: dict[str, object], folder: Path) -> Path:
    executed = folder / "executed.ipynb"
    values = folder / "values.yaml"
    values.write_text(json.dumps(job["values"]), encoding="utf-8")
    papermill = [str(Path(sys.executable).parent / "papermill"), str(job["notebook"])]
    options = ["-f", str(values), "--no-progress-bar", "--cwd", str(job["folder"])]
    run([*papermill, str(executed), *options, "-k", "python3"])
    return executed


def _convert(executed: Path) -> Path:
    convert = [str(Path(sys.executable).parent / "jupyter"), "nbconvert", "--to", "html"]
    where = ["--output", "page.html", "--output-dir", str(executed.parent)]
    run([*convert, "--no-input", str(executed), *where])
    return executed.with_name("page.html")


def floor(jobs: list[dict[str, object]]) -> tuple[Sample, list[float]]:
    """Make each report in one warm process; return the costs and the CPU seconds by phase."""
    lines = run([sys.executable, "-c", _FLOOR], told=json.dumps(jobs)).strip().splitlines()
    found, phases = Sample(), [0.0, 0.0, 0.0]
    for job, line in zip(jobs, lines[-len(jobs) :], strict=True):
        wall, cpu, *parts = json.loads(line)
        found.add(str(job["place"]), Cost(wall, cpu))
        phases = [sum(pair) for pair in zip(phases, parts, strict=True)]
    return found, [seconds / len(jobs) for seconds in phases]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="reports/out/data/small")
    parser.add_argument("--notebooks", nargs="+", default=list(NOTEBOOKS))
    parser.add_argument("--dealerships", nargs="+", default=["all"], help="names, or all")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--no-loop", action="store_true", help="leave the slow loop out")
    asked = parser.parse_args()
    adopt_orphans()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    compare(asked, asked.notebooks, asked.notebooks)
    print("\n**Notebooks of one figure**")
    alike = write_plain_notebooks(len(asked.notebooks))
    compare(asked, alike, alike[:1])


def compare(asked: argparse.Namespace, notebooks: list[str], sampled: list[str]) -> None:
    """Measure notebooks in a batch, some in one warm process and by command lines, and print."""
    plan = write_plan(asked.data, notebooks, asked.dealerships)
    workers = ["--workers", str(asked.workers)] if asked.workers else []
    whole = batch(plan, "--force", *workers)
    manifest = json.loads((SCRATCH / "batch" / "batch.json").read_text(encoding="utf-8"))
    again = batch(plan)
    runs = manifest["runs"]
    n = len(runs)
    share = sum(one["dealership"] == "network" for one in runs) / n
    jobs = sample_jobs(plan, [Path(name).stem for name in sampled])
    lowest, phases = floor(jobs)
    rows = {
        f"**batch**: {n} reports, HTML + PDF": whole.of(n),
        "floor: one warm process, HTML + PDF": lowest.mean(share),
    }
    if not asked.no_loop:
        by_hand = loop(jobs, find_browser())
        rows["loop: papermill, nbconvert to HTML; no PDF"] = by_hand.page.mean(share)
        if by_hand.two_conversions.network:
            rows["loop: the same, its page printed to PDF by Chromium"] = by_hand.page_printed.mean(
                share
            )
            rows["loop: papermill, nbconvert to HTML, nbconvert to PDF"] = (
                by_hand.two_conversions.mean(share)
            )
    _print(rows, n, whole, again, phases)


def write_plain_notebooks(n: int) -> list[str]:
    """Write notebooks of one figure, all alike, beside the plan; return their paths in the root."""
    import nbformat

    def code(source: str, *tags: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})

    cells = [
        nbformat.v4.new_markdown_cell("# How long do customers stay?"),
        code('data = ""\ndealership: str | None = None\nlang = "en"', "parameters"),
        code(
            "from crm_analysis import open_warehouse, retention_curve, set_language\n"
            "set_language(lang)\n"
            "crm = open_warehouse(data, dealership=dealership)"
        ),
        code("retention_curve(crm.spells(), as_of=crm.day(None))"),
    ]
    for place, cell in enumerate(cells):
        cell["id"] = f"plain-{place}"
    notebook = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    SCRATCH.mkdir(parents=True, exist_ok=True)
    paths = [SCRATCH / f"plain_{number}.ipynb" for number in range(n)]
    for path in paths:
        nbformat.write(notebook, path)
    return [path.relative_to(ROOT).as_posix() for path in paths]


def _print(rows: dict[str, Cost], n: int, whole: Cost, again: Cost, phases: list[float]) -> None:
    print("\n| seconds a report | wall | CPU | wall / batch's | CPU / batch's |")
    print("|---|--:|--:|--:|--:|")
    own = next(iter(rows.values()))
    for what, cost in rows.items():
        ratios = f"{cost.wall / own.wall:.2f} | {cost.cpu / own.cpu:.2f}"
        print(f"| {what} | {cost.wall:.2f} | {cost.cpu:.2f} | {ratios} |")
    print(f"\nThe whole batch of {n}: {whole.wall:.0f} s, {whole.cpu:.0f} CPU s. Again, nothing")
    print(f"having changed: {again.wall:.2f} s, {again.cpu:.2f} CPU s.")
    words = ("cells", "HTML", "PDF")
    said = ", ".join(f"{word} {seconds:.2f}" for word, seconds in zip(words, phases, strict=True))
    print(f"The floor's CPU seconds a report: {said}.")


if __name__ == "__main__":
    main()
