"""Batches with real kernels: one small project, made once, and asked many things."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from toy_notebooks import PARAMETERS, write_notebook, write_project

from crm_analysis.reporting import Batch, make_batch, open_batch

pytestmark = pytest.mark.notebook

SETUP = """\
import random
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from crm_analysis.blocks import Block, KeyFigure
"""
GOOD = [
    ("markdown", "# How long do they stay?\n\nIntro."),
    ("code", PARAMETERS, "parameters"),
    ("code", SETUP, "setup"),
    ("code", "Block('key_figures', key_figures=(KeyFigure('Horizon', str(horizon_months)),))"),
    ("code", "Block('findings', findings=(f'{dealership} looks {horizon_months} months on.',))"),
    ("markdown", "## Numbers"),
    ("code", "pl.DataFrame({'dealership': [str(dealership)], 'x': [np.random.rand()]})"),
    ("code", "fig, ax = plt.subplots()\nax.plot([1, 3, 2])"),
    ("code", "plt.figure()\nplt.scatter(*np.random.rand(2, 9000), s=2)\nplt.show()"),
    ("code", "print(random.random(), hash('text') % 1000, sorted({'b', 'a'}))"),
]
# Everything a careless notebook can leave behind; the next report must not notice.
UNTIDY = [
    ("markdown", "# Untidy"),
    ("code", PARAMETERS, "parameters"),
    (
        "code",
        """\
import os, sys, warnings, random
import numpy as np, polars as pl, matplotlib as mpl, matplotlib.pyplot as plt
import helper
leftover = 1
warnings.simplefilter("ignore")
mpl.rcParams["lines.linewidth"] = 12
plt.subplots()[1].plot([9, 9])
pl.Config.set_tbl_rows(1)
np.set_printoptions(precision=1)
np.seterr(all="ignore")
random.seed(99)
os.environ["LEFTOVER"] = "1"
sys.path.insert(0, "/nowhere")
print(helper.WHERE)
os.chdir("/")
""",
    ),
]
TIDY = [
    ("markdown", "# Tidy"),
    (
        "code",
        """\
import os, sys, warnings
from pathlib import Path
import numpy as np, matplotlib as mpl, matplotlib.pyplot as plt
import helper
print("leftover" in globals(), "LEFTOVER" in os.environ, "/nowhere" in sys.path, helper.WHERE)
print(Path.cwd().name, mpl.rcParams["lines.linewidth"], plt.get_fignums())
print(np.geterr()["divide"], np.get_printoptions()["precision"])
warnings.warn("seen")
""",
    ),
]
FAILING = [
    ("markdown", "# Fails\n\nText."),
    ("code", PARAMETERS, "parameters"),
    ("code", "price = {}\nprice['<b>list</b>']"),
]


def write_toys(root: Path) -> None:
    for name, cells in (
        ("good", GOOD),
        ("untidy", UNTIDY),
        ("failing", FAILING),
        ("endless", [("markdown", "# Endless"), ("code", "while True:\n    pass")]),
        ("dying", [("markdown", "# Dying"), ("code", "import os\nos._exit(7)")]),
    ):
        write_notebook(root / "notebooks" / f"{name}.ipynb", list(cells))
    write_notebook(root / "notebooks" / "other" / "tidy.ipynb", list(TIDY))
    (root / "notebooks" / "helper.py").write_text("WHERE = 'beside untidy'", encoding="utf-8")
    other = root / "notebooks" / "other" / "helper.py"
    other.write_text("WHERE = 'beside tidy'", encoding="utf-8")


PLAN = """
title = "Toys & <others>"
out = "out"
[[report]]
notebook = "good"
dealerships = ["network", "North <Star>"]
[[report]]
notebook = "untidy"
dealerships = ["network"]
[[report]]
notebook = "tidy"
[[report]]
notebook = "failing"
dealerships = ["network"]
[[report]]
notebook = "endless"
timeout_seconds = 3
[[report]]
notebook = "dying"
[[report]]
notebook = "good"
name = "again"
dealerships = ["network"]
parameters = { horizon_months = 24 }
"""


def write_plan(root: Path, text: str, name: str = "p") -> Path:
    path = root / "reports" / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_project(tmp_path_factory.mktemp("toys") / "project")
    write_toys(root)
    write_plan(root, PLAN)
    return root


@pytest.fixture(scope="module")
def made(project: Path) -> Batch:
    """One worker, so that every report follows the others in the same kernel where it can."""
    return make_batch(open_batch(project / "reports" / "p.toml"), workers=1)


def page(batch: Batch, path: str) -> str:
    return (batch.out / path).read_text(encoding="utf-8")


def test_each_run_has_its_outcome(made: Batch) -> None:
    found = {outcome.run.path: outcome.status for outcome in made.outcomes}
    assert found == {
        "network/good.en.html": "made",
        "north-star/good.en.html": "made",
        "network/untidy.en.html": "made",
        "tidy.en.html": "made",
        "network/failing.en.html": "failed",
        "endless.en.html": "failed",
        "dying.en.html": "failed",
        "network/again.en.html": "made",
    }
    assert made.exit_status == 3


def test_a_report_shows_what_its_notebook_showed(made: Batch) -> None:
    html = page(made, "north-star/good.en.html")
    assert "North &lt;Star&gt; looks 36 months on." in html
    assert "North <Star>" not in html
    assert "None looks 24 months on." in page(made, "network/again.en.html")
    [result] = [o.result for o in made.outcomes if o.run.path == "north-star/good.en.html"]
    assert (result["figures"], result["tables"]) == (2, 1)
    assert html.count("data:image/svg+xml") == 1
    assert html.count("data:image/png") == 1  # nine thousand points are kept as a picture
    assert result["findings"] == ["North <Star> looks 36 months on."]


def test_the_next_report_finds_the_room_as_it_was(made: Batch) -> None:
    assert "beside untidy" in page(made, "network/untidy.en.html")
    html = page(made, "tidy.en.html")
    assert "False False False beside tidy\nother 1.5 []\nwarn 8" in html
    assert "UserWarning: seen" in html


def test_failures_say_what_where_and_what_next(made: Batch) -> None:
    html = page(made, "network/failing.en.html")
    assert "looked up by a name that is not there: &#39;&lt;b&gt;list&lt;/b&gt;&#39;" in html
    assert "cell 3 of 3, line 2" in html
    assert "Open notebooks/failing.ipynb in JupyterLab" in html
    assert "not finished after 3 seconds" in page(made, "endless.en.html")
    assert "cell 2 of 2" in page(made, "endless.en.html")
    assert "ended by itself" in page(made, "dying.en.html")


def test_the_index_leads_everywhere_and_tells_of_failures(made: Batch) -> None:
    html = page(made, "index.html")
    assert "Toys &amp; &lt;others&gt;" in html
    assert 'href="north-star/good.en.html"' in html
    assert "North &lt;Star&gt; looks 36 months on." in html
    assert html.count("Could not be made.") == 3
    # One script, our own: the page allows that and no other, and nothing from the data is one.
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in html
    assert html.count("<script") == 1


def test_the_manifest_says_the_same(made: Batch) -> None:
    manifest = json.loads(page(made, "batch.json"))
    counts = {name: manifest[name] for name in ("made", "unchanged", "failed", "waiting")}
    assert counts == {"made": 5, "unchanged": 0, "failed": 3, "waiting": 0}
    [failing] = [run for run in manifest["runs"] if run["name"] == "failing"]
    assert (failing["failure"]["cell"], failing["failure"]["line"]) == (3, 2)


def test_no_half_written_file_is_left(made: Batch) -> None:
    assert not list(made.out.rglob("*.part"))


def test_a_kernel_of_its_own_gives_the_same_bytes(project: Path, made: Batch) -> None:
    text = 'notebooks = ["good"]\ndealerships = ["network", "North <Star>"]\nout = "alone"\n'
    plan = write_plan(project, text + '[[report]]\nnotebook = "tidy"\ndealerships = []', "alone")
    alone = make_batch(open_batch(plan), workers=2, isolate=True)
    assert alone.count("made") == 3
    for outcome in alone.outcomes:
        assert page(alone, outcome.run.path) == page(made, outcome.run.path), outcome.run.path


def test_unchanged_reports_are_left_alone(project: Path, made: Batch) -> None:
    statuses = [outcome.status for outcome in open_batch(project / "reports" / "p.toml").outcomes]
    assert statuses.count("unchanged") == 5
    assert statuses.count("waiting") == 3  # what failed is tried again
    forced = open_batch(project / "reports" / "p.toml", force=True)
    assert forced.count("waiting") == 8


def test_what_a_report_depends_on_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_project(tmp_path / "project")
    source = 'data: str = "data"\nlang: str = "en"\nlimit: int = 1'
    notebook = root / "notebooks" / "n.ipynb"
    reads = "open(data + '/t.csv').read()"  # beside the notebook the folder is found elsewhere
    write_notebook(notebook, [("code", source, "parameters"), ("code", "limit"), ("code", reads)])
    (root / "data").mkdir()
    table = root / "data" / "t.csv"
    table.write_text("a", encoding="utf-8")
    plan = write_plan(root, 'notebooks = ["n"]\ndata = "data"\nout = "out"')
    assert make_batch(open_batch(plan), workers=1).count("made") == 1

    def statuses() -> list[str]:
        return [outcome.status for outcome in open_batch(plan).outcomes]

    assert statuses() == ["unchanged"]
    table.write_text("b", encoding="utf-8")
    assert statuses() == ["waiting"]
    table.write_text("a", encoding="utf-8")
    assert statuses() == ["unchanged"]
    (root / "notebooks" / "beside.py").write_text("", encoding="utf-8")
    assert statuses() == ["waiting"]
    (root / "notebooks" / "beside.py").unlink()
    (root / "data" / "manifest.json").write_text("{}", encoding="utf-8")
    assert statuses() == ["waiting"]
    assert make_batch(open_batch(plan), workers=1).count("made") == 1
    table.write_text("c", encoding="utf-8")  # of the same size, and no manifest speaks for it
    assert statuses() == ["waiting"]
    table.write_text("a", encoding="utf-8")
    package = root / "notebooks" / "package"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    assert statuses() == ["waiting"]
    (package / "__init__.py").unlink()
    (tmp_path / "elsewhere" / "en").mkdir(parents=True)  # where a word is the name of a folder
    (tmp_path / "elsewhere" / "en" / "t.csv").write_text("", encoding="utf-8")
    with monkeypatch.context() as moved:
        moved.chdir(tmp_path / "elsewhere")
        assert statuses() == ["unchanged"]
    write_plan(root, 'notebooks = ["n"]\ndata = "data"\nout = "out"\n[parameters]\nlimit = 2')
    assert statuses() == ["waiting"]
    write_plan(root, 'notebooks = ["n"]\ndata = "data"\nout = "out"\n[parameters]\nlimit = 1')
    assert statuses() == ["unchanged"]  # saying the default changes nothing
    (root / "out" / "n.en.html").unlink()
    assert statuses() == ["waiting"]


def command(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    source = str(Path(__file__).resolve().parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "crm_analysis.reporting", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": source, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.usefixtures("made")
def test_a_batch_with_nothing_to_do_imports_nothing_heavy(project: Path) -> None:
    write_plan(project, 'notebooks = ["good"]\ndealerships = ["network"]\nout = "out"', "quick")
    program = (
        "import sys, time; start = time.perf_counter()\n"
        "from crm_analysis.reporting.cli import commands\n"
        "try: commands(['batch', 'reports/quick.toml'])\n"
        "except SystemExit as end: assert not end.code, end\n"
        "heavy = {'polars', 'numpy', 'nbformat', 'papermill', 'nbconvert', 'jupyter_client',"
        " 'matplotlib', 'babel', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Nothing has changed" in done.stdout, done.stderr
    assert done.stderr.strip() == "[]"


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_an_interrupted_batch_keeps_what_it_has_and_resumes(project: Path) -> None:
    slow = [("code", "wait: float = 0.0", "parameters"), ("code", "import time; time.sleep(wait)")]
    write_notebook(project / "notebooks" / "slow.ipynb", slow)
    text = (
        'out = "cut"\n[[report]]\nnotebook = "good"\ndealerships = ["network"]\n'
        '[[report]]\nnotebook = "slow"\nparameters = { wait = 60 }\n'
    )
    plan = write_plan(project, text, "cut")
    process = command("batch", "reports/cut.toml", "--workers", "1", folder=project)
    first = project / "cut" / "network" / "good.en.html"
    deadline = time.monotonic() + 90
    while not first.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, _errors = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "Interrupted" in output
    assert [o.status for o in open_batch(plan).outcomes] == ["unchanged", "waiting"]
    assert json.loads((project / "cut" / "batch.json").read_text("utf-8"))["interrupted"]


def test_one_kernel_makes_many_reports(tmp_path: Path) -> None:
    """Also after large outputs, for which the kernel's own machinery starts threads."""
    root = write_project(tmp_path / "project")
    source = "import os\nfrom IPython.display import HTML\nHTML('<i>' + 'x ' * 200_000 + '</i>')"
    cells = [("code", "n: int = 1", "parameters"), ("code", source), ("code", "os.getpid()")]
    write_notebook(root / "notebooks" / "large.ipynb", cells)
    entry = '[[report]]\nnotebook = "large"\nname = "n{n}"\nparameters = {{ n = {n} }}\n'
    plan = write_plan(root, 'out = "out"\n' + "".join(entry.format(n=n) for n in range(3)))
    batch = make_batch(open_batch(plan), workers=1)
    pages = {
        page(batch, f"n{n}.en.html").rpartition("<pre")[2].partition("</pre>")[0] for n in range(3)
    }
    assert batch.count("made") == 3
    assert len(pages) == 1


def test_all_dealerships_are_read_from_the_data(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    source = PARAMETERS + 'data: str = "data"'
    write_notebook(root / "notebooks" / "n.ipynb", [("code", source, "parameters")])
    (root / "data").mkdir()
    frame = pl.DataFrame({"dealership_id": [2, 1], "name": ["South", "North"]})
    frame.write_parquet(root / "data" / "dealerships.parquet")
    plan = write_plan(root, 'notebooks = ["n"]\ndealerships = "all"')
    assert [o.run.dealership for o in open_batch(plan).outcomes] == ["North", "South"]


def test_one_report_by_command(project: Path) -> None:
    process = command("run", "good", "-p", "dealership=South", "--out", "single", folder=project)
    output, _errors = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert output.strip().endswith("single/south/good.en.html")
    html = (project / "single" / "south" / "good.en.html").read_text("utf-8")
    assert "South looks 36 months on." in html
