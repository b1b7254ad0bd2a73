"""A batch among failures: it ends by itself, says what and where, and keeps all it had."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pypdf import PdfReader
from toy_notebooks import PARAMETERS, Cell, write_notebook, write_project

from crm_analysis.errors import ReportError
from crm_analysis.reporting import Batch, make_batch, open_batch
from crm_analysis.reporting.guard import MOST_PRINTED
from crm_analysis.reporting.lock import locked

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals and forks of POSIX"),
]

SMALL = 2_000_000
"""Bytes that no page here may reach, however much its cells print."""

GOOD: list[Cell] = [
    ("markdown", "# Good"),
    ("code", PARAMETERS, "parameters"),
    ("code", "from crm_analysis.blocks import Block, KeyFigure"),
    ("code", "Block('findings', findings=('All is well.',))"),
    ("code", "import threading\nprint(len(threading.enumerate()) < 20)"),
    ("code", "import polars as pl\nprint(len(pl.DataFrame({'a': [1, 2]})))"),
]
FAULTS = {
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "gone": "import os\nos._exit(3)",
    "exits": "import sys\nsys.exit()",
    "exits_with": "import sys\nsys.exit('no reason')",
    "threads": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()",
    "children": "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\nprint(child.pid)",
    "forks": "import os, time\nif os.fork() == 0:\n    time.sleep(600)\n    os._exit(0)",
    "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    "        time.sleep(600)\n    os._exit(0)\nos.wait()\nprint(os.environ['IPYTHONDIR'])",
    "leaves": "import os, tempfile\nwith tempfile.TemporaryDirectory() as folder:\n"
    "    os.chdir(folder)",
    "patches": "import polars as pl\npl.DataFrame.__len__ = lambda frame: 1 / 0",
    "quits": "quit()",
    "misspelt": "x = 1\ndef f(:\n    pass",
    "asks": "name = input('Who?')",
    "closes": "import sys\nsys.stdout.close()",
    "signals": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass",
    "prints": "for _ in range(4):\n    print('x' * 50_000_000)",
    "shows": "from IPython.display import display, HTML\nfor _ in range(300):\n"
    "    display(HTML('<p>' + 'x' * 200_000 + '</p>'))",
    "vandal": "from pathlib import Path\nPath('../data/t.csv').unlink()",
    "reads": "from pathlib import Path\nprint(Path('../data/t.csv').read_text())",
}
FAILED = {
    "killed", "gone", "exits", "exits_with", "quits", "asks", "misspelt", "closes", "signals",
    "reads",
}  # fmt: skip
CAREFUL = (
    "exits", "threads", "children", "forks", "leaves", "patches", "quits", "closes", "signals",
    "prints", "shows",
)  # fmt: skip
"""Those after which a report could find something left."""


def write_plan(root: Path, text: str, name: str) -> Path:
    path = root / "reports" / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_project(tmp_path_factory.mktemp("faults") / "project")
    write_notebook(root / "notebooks" / "good.ipynb", GOOD)
    for name, source in FAULTS.items():
        cells: list[Cell] = [
            ("markdown", f"# {name}"),
            ("code", source),
            ("code", "print('after')"),
        ]
        write_notebook(root / "notebooks" / f"{name}.ipynb", cells)
    (root / "data").mkdir()
    (root / "data" / "t.csv").write_text("a,b", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def made(project: Path) -> Batch:
    """Every fault in turn, one worker, a good report after those that could leave something."""
    text = 'out = "out"\ntimeout_seconds = 60\n'
    for name in FAULTS:
        limit = "timeout_seconds = 3\n" if name == "signals" else ""
        text += f'[[report]]\nnotebook = "{name}"\n{limit}'
        if name in CAREFUL:
            text += f'[[report]]\nnotebook = "good"\nname = "after_{name}"\n'
    return make_batch(open_batch(write_plan(project, text, "all")), workers=1)


def result_of(batch: Batch, name: str) -> Any:
    [outcome] = [o for o in batch.outcomes if o.run.name == name]
    return outcome


def page_of(batch: Batch, name: str) -> str:
    return (batch.out / f"{name}.en.html").read_text(encoding="utf-8")


def test_each_fault_costs_its_own_report_and_no_other(made: Batch) -> None:
    failed = {outcome.run.name for outcome in made.outcomes if outcome.status == "failed"}
    assert failed == FAILED
    assert made.exit_status == len(FAILED)
    manifest = json.loads((made.out / "batch.json").read_text(encoding="utf-8"))
    assert (manifest["failed"], manifest["running"]) == (len(FAILED), False)


def test_a_report_after_any_fault_is_what_it_is_without(project: Path, made: Batch) -> None:
    text = 'out = "alone"\n[[report]]\nnotebook = "good"\n'
    alone = make_batch(open_batch(write_plan(project, text, "alone")), workers=1, isolate=True)
    expected = page_of(alone, "good")
    for name in CAREFUL:
        assert page_of(made, f"after_{name}") == expected, name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("killed", "ended by itself"),
        ("gone", "ended by itself"),
        ("exits", "ended itself before its last cell"),
        ("exits_with", "ended itself before its last cell"),
        ("quits", "ended itself before its last cell"),
        ("misspelt", "The computation stopped with SyntaxError: invalid syntax<"),
        ("asks", "nobody is there to type it"),
        ("closes", "I/O operation on closed file"),
        ("signals", "not finished after 3 seconds"),
        ("reads", "A file or folder is not there."),
    ],
)
def test_the_page_says_what_happened_and_where(made: Batch, name: str, said: str) -> None:
    assert said in page_of(made, name)
    cell = 3 if name == "closes" else 2  # what is closed is missed by the next cell
    assert result_of(made, name).result["failure"]["cell"] == cell
    index = (made.out / "index.html").read_text(encoding="utf-8")
    assert index.count(said) >= 2  # in the list of what failed, and on its own card


@pytest.mark.parametrize("name", ["prints", "shows"])
def test_what_a_cell_shows_without_end_is_cut(made: Batch, name: str) -> None:
    html = page_of(made, name)
    assert "was left out" in html
    if name == "prints":
        assert MOST_PRINTED / 2 < len(html) < SMALL


def test_no_process_of_a_notebook_outlives_its_kernel(made: Batch) -> None:
    child = int(page_of(made, "children").split("<pre")[1].split(">")[1].split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_what_a_notebook_cut_loose_is_ended_with_the_batch(made: Batch) -> None:
    folder = page_of(made, "daemon").split("<pre")[1].split(">")[1].split()[0]
    assert "/crm-" in folder
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            left += [process] if process.environ().get("IPYTHONDIR") == folder else []
    assert left == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of one megabyte, or skip where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.call(mount, stderr=subprocess.DEVNULL):
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


LARGE: list[Cell] = [
    ("markdown", "# Large"),
    ("code", "n: int = 1", "parameters"),
    ("code", "from IPython.display import HTML\nHTML('<p>' + f'{n} ' * 200_000 + '</p>')"),
]


def test_a_disk_that_fills_ends_the_batch_and_loses_nothing(project: Path, full_disk: Path) -> None:
    write_notebook(project / "notebooks" / "large.ipynb", LARGE)
    text = f'out = "{full_disk.as_posix()}"\n'
    text += "".join(
        f'[[report]]\nnotebook = "large"\nname = "large{n}"\nparameters = {{ n = {n} }}\n'
        for n in range(1, 6)
    )
    plan = write_plan(project, text, "disk")
    batch = make_batch(open_batch(plan), workers=1)
    statuses = [outcome.status for outcome in batch.outcomes]
    assert statuses == ["made", "made", "failed", "waiting", "waiting"]
    assert batch.stopped is not None
    assert "large3.en.html" in batch.stopped
    assert "No space left on device" in batch.stopped
    assert batch.exit_status == 2
    assert not list(full_disk.glob("*.part"))
    for name in ("large1", "large2"):
        assert page_of(batch, name).rstrip().endswith("</html>")
    subprocess.run(["mount", "-o", "remount,size=9m", str(full_disk)], check=True)
    again = make_batch(open_batch(plan), workers=1)
    assert [o.status for o in again.outcomes] == ["unchanged"] * 2 + ["made"] * 3


def test_a_file_that_may_not_grow_is_said_too(project: Path) -> None:
    """The same without a disk of its own: the system refuses to write past a limit."""
    write_notebook(project / "notebooks" / "large.ipynb", LARGE)
    write_plan(project, 'out = "limit"\nnotebooks = ["large"]\n', "limit")
    limited = "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000,) * 2)\n"
    process = command("batch", "reports/limit.toml", folder=project, before=limited)
    output, _errors = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "File too large" in output
    assert not list((project / "limit").rglob("*.part"))


def command(*arguments: str, folder: Path, before: str = "") -> subprocess.Popen[str]:
    program = f"{before}from crm_analysis.reporting.cli import app\napp()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "300"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_cell_that_may_fail_shows_how_it_does(project: Path) -> None:
    cells: list[Cell] = [("code", "1 / 0", "raises-exception"), ("code", "print('after')")]
    write_notebook(project / "notebooks" / "allowed.ipynb", cells)
    text = 'out = "allowed"\nnotebooks = ["allowed"]\n'
    batch = make_batch(open_batch(write_plan(project, text, "allowed")), workers=1)
    assert batch.count("made") == 1
    html = page_of(batch, "allowed")
    assert "ZeroDivisionError: division by zero" in html
    assert "after" in html


SLOW: list[Cell] = [
    ("code", "wait: float = 0.0", "parameters"),
    ("code", "import time; time.sleep(wait)"),
]


def slow_plan(project: Path, name: str) -> Path:
    write_notebook(project / "notebooks" / "slow.ipynb", SLOW)
    return write_plan(
        project,
        f'out = "{name}"\n[[report]]\nnotebook = "good"\n'
        '[[report]]\nnotebook = "slow"\nparameters = { wait = 60 }\n',
        name,
    )


def wait_for(path: Path, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.is_file():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.1)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_batch_in_order(project: Path, sent: signal.Signals) -> None:
    name = f"cut_{sent.name}"
    plan = slow_plan(project, name)
    process = command("batch", f"reports/{name}.toml", "--workers", "1", folder=project)
    wait_for(project / name / "good.en.html")
    time.sleep(1)
    process.send_signal(sent)
    time.sleep(0.05)
    process.send_signal(sent)  # an impatient second one breaks nothing
    output, _errors = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "the same command makes the rest" in output
    manifest = json.loads((project / name / "batch.json").read_text("utf-8"))
    assert (manifest["interrupted"], manifest["running"]) == (True, False)
    assert (project / name / "index.html").is_file()
    assert [o.status for o in open_batch(plan).outcomes] == ["unchanged", "waiting"]


def test_a_killed_batch_resumes_and_its_lock_holds_nobody_up(project: Path) -> None:
    plan = slow_plan(project, "shot")
    process = command("batch", "reports/shot.toml", "--workers", "1", folder=project)
    wait_for(project / "shot" / "batch.json")
    with pytest.raises(ReportError, match=rf"already, by process {process.pid} on"):
        make_batch(open_batch(plan))
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=30)
    assert len(workers) >= 2  # a worker and its kernel, in the middle of a minute's sleep
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    assert (project / "shot" / ".lock").is_file()
    batch = open_batch(plan)
    assert [o.status for o in batch.outcomes] == ["unchanged", "waiting"]
    with locked(batch.out):
        pass


def test_two_batches_in_one_folder_do_not_meet(project: Path) -> None:
    text = 'out = "one"\nnotebooks = ["good"]\n'
    batch = open_batch(write_plan(project, text, "one"))
    batch.out.mkdir()
    with locked(batch.out), pytest.raises(ReportError, match="name another folder with 'out'"):
        make_batch(batch)
    assert make_batch(batch, workers=1).count("made") == 1


def test_a_worker_that_is_killed_costs_its_report_only(project: Path) -> None:
    source = (
        "import os, signal, psutil\npsutil.Process().parent().kill()\nimport time\ntime.sleep(9)"
    )
    cells: list[Cell] = [("markdown", "# Blows of fate"), ("code", source)]
    write_notebook(project / "notebooks" / "parricide.ipynb", cells)
    text = (
        'out = "worker"\nformats = ["html", "pdf"]\n'
        '[[report]]\nnotebook = "parricide"\n[[report]]\nnotebook = "good"\n'
    )
    batch = make_batch(open_batch(write_plan(project, text, "worker")), workers=1)
    assert [outcome.status for outcome in batch.outcomes] == ["failed", "made"]
    said = "The worker that made this report ended by itself"
    assert said in page_of(batch, "parricide")
    printed = PdfReader(batch.out / "parricide.en.pdf").pages[0].extract_text()
    assert "Blows of fate" in printed
    assert said in " ".join(printed.split())
    assert batch.outcomes[0].result["title"] == "Blows of fate"
