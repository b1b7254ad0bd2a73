#!/usr/bin/env python3
"""One command per job, on any platform, with nothing installed before but Python 3.11.

`python run.py` lists the jobs. Each makes `.venv` when it is missing, installs the exact versions
of `requirements.lock` when they changed, and runs with that environment's Python.
Standard library only; it starts on old Pythons too, so that it can say that they are too old.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed.json"
PYPROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "requirements.lock"
LAB_LOCK = ROOT / "requirements-lab.lock"
CONDA = ROOT / "environment.yml"

OUT = ROOT / "reports" / "out"
DEMO_DATA = OUT / "data" / "small"
DEMO_STAMP = OUT / "data" / "small.inputs"
DEMO_OPTIONS = ("--preset", "small", "--seed", "1")
DEMO_INDEX = OUT / "demo" / "index.html"
INTAKE_OPTIONS = ("--all", "reports/intake", "--out", "reports/out/data")
REAL_INDEX = OUT / "real" / "index.html"

LOCK_COMMAND = "python run.py lock"
OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")
WINDOWS = os.name == "nt"
CACHES = (".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".import_linter_cache")


class JobError(Exception):
    """Something the person at the terminal has to know or do; the message says what."""


class Target(NamedTuple):
    """A job of this file: what the help says, and what does it."""

    help: str
    run: Callable[[Sequence[str]], int]


def say(message: str) -> None:
    """Print one line of progress at once, also when the output is a file."""
    print(message, flush=True)


# --- the environment ----------------------------------------------------------------------------


def check_python() -> None:
    """Refuse a Python that is too old, naming a newer one when there is one on the path."""
    if sys.version_info >= OLDEST:
        return
    found = next(filter(None, map(shutil.which, NEWER)), None)
    advice = (
        f"Run it with the one found on this machine: {found} run.py"
        if found
        else "Install Python 3.11 or newer (python.org, or your system's packages) and run again."
    )
    raise JobError(
        f"This toolkit needs Python {OLDEST[0]}.{OLDEST[1]} or newer; "
        f"this is {sys.version.split()[0]} ({sys.executable}).\n{advice}"
    )


def fingerprint(paths: Sequence[Path], *words: str) -> str:
    """Return one hash of the files' names and contents and of `words`."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in sorted(paths):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def in_venv(name: str) -> Path:
    """Return the path of a program of the environment, installed or not."""
    return VENV / ("Scripts" if WINDOWS else "bin") / (name + ".exe" if WINDOWS else name)


def find_uv() -> str | None:
    """Return uv's path when it is to be used: it is on the path, and nobody asked for pip."""
    asked = os.environ.get("CRM_INSTALLER", "")
    if asked not in {"", "pip", "uv"}:
        raise JobError(
            f"CRM_INSTALLER is {asked!r}; it can be 'uv' or 'pip'. Unset it or correct it."
        )
    uv = shutil.which("uv") if asked != "pip" else None
    if asked == "uv" and uv is None:
        raise JobError(
            "CRM_INSTALLER asks for uv, which is not on the path. Install it, or unset it."
        )
    return uv


def installed() -> dict[str, str]:
    """Return what the last finished installation wrote, nothing when there was none."""
    if not in_venv("python").exists() or not STAMP.exists():
        return {}
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return stamp


def environment(lock: Path | None = None) -> Path:
    """Return the environment's Python, first installing `lock` when it or pyproject.toml changed.

    The stamp is removed before and written after, so an interrupted installation is repeated.
    """
    lock = lock or LOCK
    wanted = {path.name: fingerprint([path, PYPROJECT]) for path in {LOCK, lock}}
    if wanted.items() <= installed().items():
        return in_venv("python")
    started = time.monotonic()
    uv = find_uv()
    STAMP.unlink(missing_ok=True)
    make_venv(uv)
    install(lock, uv)
    STAMP.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    say(f"environment: ready in .venv ({time.monotonic() - started:.0f} s)")
    return in_venv("python")


def make_venv(uv: str | None) -> None:
    """Create `.venv`, or repair one whose Python or pip is missing."""
    python = in_venv("python")
    if uv:
        if not python.exists():
            say("environment: creating .venv with uv")
            options = ["--quiet", "--allow-existing", "--python", sys.executable]
            must([uv, "venv", *options, str(VENV)], "create .venv")
        return
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise JobError(
            f"Creating .venv needs Python's own module {missing[0]!r}, which this Python "
            f"({sys.executable}) came without.\nOn Debian and Ubuntu: "
            f"sudo apt install python{version}-venv. Or install uv, which needs no such module."
        )
    if not python.exists():
        say("environment: creating .venv")
        must([sys.executable, "-m", "venv", "--clear", str(VENV)], "create .venv")
    elif answers([str(python), "-m", "pip", "--version"]):
        return
    must([str(python), "-m", "ensurepip", "--upgrade"], "put pip into .venv", quiet=True)


def install(lock: Path, uv: str | None) -> None:
    """Install the pins of `lock` and the toolkit itself, editable, with bytecode compiled.

    The lock is complete, so nothing is resolved: what it lists is what is installed.
    """
    python = str(in_venv("python"))
    count = len(pins(lock.read_text(encoding="utf-8")))
    say(f"environment: installing {lock.name} ({count} pins) with {'uv' if uv else 'pip'};")
    say("  minutes when they have to be downloaded, and only when the pins change")
    ours = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    locked = ["--no-deps", "--requirement", str(lock)]
    if uv:
        tool = [uv, "pip", "install", "--python", python]
        must([*tool, "--compile-bytecode", *locked], f"install {lock.name}")
        must([*tool, "--quiet", *ours], "install the toolkit itself")
    else:
        tool = [python, "-m", "pip", "--disable-pip-version-check", "install"]
        follow_pip([*tool, "--no-compile", *locked], count)
        must([*tool, "--quiet", *ours], "install the toolkit itself")
    compile_bytecode(python, whole=uv is None)


def compile_bytecode(python: str, *, whole: bool) -> None:
    """Compile our packages, and the `whole` environment where pip was told to leave it to us.

    Without it every process pays two to three times for its imports. On all cores it is quicker
    than pip's own. The exit status says only that some package ships a file that is not Python.
    """
    folders = [str(ROOT / "crm_analysis"), str(ROOT / "synthetic")]
    if whole:
        say("environment: compiling")
        folders.append(str(VENV / "Lib" if WINDOWS else VENV / "lib"))
    subprocess.call([python, "-m", "compileall", "-qq", "-j", "0", *folders])


def follow_pip(command: Sequence[str], count: int) -> None:
    """Run pip, showing every twentieth package instead of its hundreds of lines."""
    lines: list[str] = []
    seen = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith(("Collecting", "Processing", "Requirement already", "Ignoring")):
                seen += 1
                if seen % 20 == 0:
                    say(f"  {seen} of {count}")
            elif line.startswith("Installing"):
                say("  unpacking, about a minute")
    if process.returncode:
        print("".join(lines[-20:]), file=sys.stderr)
        raise failed("install requirements", process.returncode)


def must(command: Sequence[str], task: str, *, quiet: bool = False) -> None:
    """Run a step of the installation; where it fails, stop and say what to do."""
    status = subprocess.call(command, stdout=subprocess.DEVNULL if quiet else None)
    if status:
        raise failed(task, status)


def failed(task: str, status: int) -> JobError:
    """Return what to say when a step of the installation failed."""
    other = "pip" if find_uv() else "uv"
    return JobError(
        f"Could not {task}: the installer above ended with status {status}.\n"
        "- It speaks of a connection, a time-out, a name or a certificate: check the network (and "
        "HTTPS_PROXY\n  behind a proxy), then run the same command again; what was downloaded is "
        "kept.\n"
        "- Your organisation has its own package index: pip reads it from pip's configuration, uv "
        "from uv's;\n"
        f"  set the variable CRM_INSTALLER={other} to install with {other} instead.\n"
        "- It says that no version fits: this Python or platform has no build of that package "
        f"(this is {sys.version.split()[0]}\n  on {sys.platform}); try another Python from "
        "3.11 on.\n"
        "- It says that the disk is full: the environment takes about 1.5 GB.\n"
        "- Anything odder: python run.py clean --all, and run again."
    )


def answers(command: Sequence[str]) -> bool:
    """Return whether a command ends well, without showing what it says."""
    return not subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start(command: Sequence[object]) -> int:
    """Run a tool of the environment from the project's root and return its exit status.

    Ctrl-C reaches the tool too: it is left to end in its own way, closing what it has open.
    """
    path = str(in_venv("python").parent) + os.pathsep + os.environ.get("PATH", "")
    settings = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(VENV), "PYTHONUTF8": "1"}
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, env=settings) as process:
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                say("interrupted: waiting for the job to end")
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


# --- the jobs -----------------------------------------------------------------------------------


def data_inputs() -> str:
    """Return the hash of everything that decides the demonstration network's bytes."""
    files = [path for path in (ROOT / "synthetic").rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    return fingerprint([*files, ROOT / "crm_analysis" / "schema.py"], *DEMO_OPTIONS)


def make_data(extra: Sequence[str]) -> int:
    """Generate the demonstration network when missing or outdated; with arguments, any network."""
    python = environment()
    generate = [python, "-m", "synthetic", "generate"]
    if extra:
        return start([*generate, *extra])
    inputs = data_inputs()
    if (DEMO_DATA / "manifest.json").exists() and DEMO_STAMP.exists():
        if DEMO_STAMP.read_text(encoding="utf-8") == inputs:
            say(f"data: {shown(DEMO_DATA)} is up to date")
            return 0
        say("data: the generator changed, making the demonstration network again")
    else:
        say("data: generating the demonstration network")
    DEMO_STAMP.unlink(missing_ok=True)
    status = start([*generate, *DEMO_OPTIONS, "--out", DEMO_DATA])
    if status == 0:
        DEMO_STAMP.write_text(inputs, encoding="utf-8")
    return status


def make_reports(plan: str, index: Path, extra: Sequence[str]) -> int:
    """Run a plan of reports and print where its index page is."""
    status = start([environment(), "-m", "crm_analysis.reporting", "batch", plan, *extra])
    if index.exists():
        say(f"open: {index}")
    return status


def make_demo_report(extra: Sequence[str]) -> int:
    """Make the demonstration network where needed, and its reports."""
    return make_data([]) or make_reports("reports/demo.toml", DEMO_INDEX, extra)


def make_real_report(extra: Sequence[str]) -> int:
    """Take in the public data sets kept in the repository where they changed, make the reports."""
    intake = [environment(), "-m", "crm_analysis.intake", *INTAKE_OPTIONS]
    return start(intake) or make_reports("reports/real.toml", REAL_INDEX, extra)


def run_tests(extra: Sequence[str]) -> int:
    """Run the tests and every example of a docstring."""
    return start([environment(), "-m", "pytest", *extra])


def open_lab(extra: Sequence[str]) -> int:
    """Open JupyterLab on the project, with the toolkit's own Python as its kernel."""
    return start([environment(LAB_LOCK), "-m", "crm_analysis.reporting", "lab", *extra])


def run_checks(extra: Sequence[str]) -> int:
    """Run lint, format, types and floors, all of them, and say which failed."""
    python = environment()
    unknown = set(extra) - {"--fix"}
    if unknown:
        raise JobError(f"check knows only --fix, not {' '.join(sorted(unknown))}.")
    fix = bool(extra)
    steps: dict[str, list[object]] = {
        "lint": [python, "-m", "ruff", "check", *(["--fix"] if fix else [])],
        "format": [python, "-m", "ruff", "format", *([] if fix else ["--check"])],
        "types": [python, "-m", "mypy"],
        "floors": [in_venv("lint-imports")],
    }
    broken = []
    for name, command in steps.items():
        say(f"== {name}")
        if start(command):
            broken.append(name)
    say(f"check: {', '.join(broken)} failed" if broken else "check: all good")
    return int(bool(broken))


def execute(extra: Sequence[str]) -> int:
    """Run any program of the environment, for example `exec crm-report list`."""
    if not extra:
        raise JobError(
            "exec needs a program to run, for example: python run.py exec crm-report list"
        )
    python = environment()
    program, *arguments = extra
    if program == "python":
        return start([python, *arguments])
    if not in_venv(program).exists():
        names = [path.stem for path in python.parent.iterdir()]
        raise JobError(f"The environment has no program {program!r}{near(program, names)}.")
    return start([in_venv(program), *arguments])


def clean(extra: Sequence[str]) -> int:
    """Remove the reports, the generated data and the caches; with --all the environment too."""
    unknown = set(extra) - {"--all"}
    if unknown:
        raise JobError(f"clean knows only --all, not {' '.join(sorted(unknown))}.")
    folders = [OUT, *(ROOT / name for name in CACHES)]
    for package in ("crm_analysis", "synthetic", "tests", "."):
        pattern = "__pycache__" if package == "." else "**/__pycache__"
        folders.extend((ROOT / package).glob(pattern))
    if extra:
        folders.append(VENV)
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
            say(f"removed {shown(folder)}")
    return 0


def lock_versions(extra: Sequence[str]) -> int:
    """Choose the versions again from pyproject.toml: the two locks and environment.yml (uv)."""
    uv = find_uv()
    if uv is None:
        raise JobError("Rebuilding the locks needs uv on the path: pip install uv, then run again.")
    everything = ["--extra", "test", "--extra", "dev"]
    lab = ["--extra", "lab", "--constraint", LOCK.name]
    compile_lock(uv, LOCK, [*everything, *extra])
    compile_lock(uv, LAB_LOCK, [*everything, *lab, *extra])
    CONDA.write_text(conda_file(LAB_LOCK.read_text(encoding="utf-8")), encoding="utf-8")
    say(f"wrote {LOCK.name}, {LAB_LOCK.name} and {CONDA.name}")
    return 0


def compile_lock(uv: str, lock: Path, options: Sequence[str]) -> None:
    """Write one lock: exact versions for every platform, and no address of any index.

    One version of each package for every Python where there is one: the same numbers everywhere.
    """
    fixed = ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--quiet"]
    fixed += ["--no-annotate", "--custom-compile-command", LOCK_COMMAND]
    command = [uv, "pip", "compile", PYPROJECT.name, *fixed, *options, "-o", lock.name]
    if subprocess.call(command, cwd=ROOT):
        raise JobError(f"uv found no set of versions for {lock.name}; it says why above.")


# --- small things -------------------------------------------------------------------------------


def pins(lock: str) -> list[str]:
    """Return the requirement lines of a lock's text, comments left out."""
    lines = (line.split(" #")[0].strip() for line in lock.splitlines())
    return [line for line in lines if re.match(r"[A-Za-z0-9]", line)]


def conda_file(lock: str) -> str:
    """Return environment.yml: Python and pip from conda, every pin of the lock through pip."""
    head = (
        "# The pins of requirements-lab.lock for conda and Binder, written by: "
        + LOCK_COMMAND
        + "\n"
        "name: crm-analysis\nchannels:\n  - conda-forge\n  - nodefaults\n"
        "dependencies:\n  - python=3.11\n  - pip\n  - pip:\n"
    )
    lines = "".join(f"      - {json.dumps(pin)}\n" for pin in pins(lock))
    return head + lines + "      - --editable .\n"


def near(name: str, options: Sequence[str]) -> str:
    """Return a question naming the closest option, nothing when none is close."""
    close = difflib.get_close_matches(name, options, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def shown(path: Path) -> str:
    """Return a path of the project as a reader types it."""
    return path.relative_to(ROOT).as_posix()


TARGETS = {
    "report": Target("make the demonstration network and its reports", make_demo_report),
    "real": Target("make the reports from real public data", make_real_report),
    "test": Target("run the tests (arguments go to pytest: test -k funnel)", run_tests),
    "lab": Target("open JupyterLab with the toolkit installed", open_lab),
    "check": Target("lint, format, types and import floors (--fix mends what it can)", run_checks),
    "data": Target("make the demonstration network (arguments: any network)", make_data),
    "exec": Target("run a program of the environment: exec crm-report list", execute),
    "lock": Target("choose the pinned versions again (needs uv; --upgrade)", lock_versions),
    "clean": Target("remove reports, data and caches (--all: .venv too)", clean),
}


def usage() -> str:
    """Return the help: every job with one line."""
    jobs = "\n".join(f"  {name:<8}{target.help}" for name, target in TARGETS.items())
    return f"usage: python run.py JOB [arguments]\n\n{jobs}\n"


def main(arguments: Sequence[str]) -> int:
    """Do one job and return the exit status."""
    check_python()
    if not arguments or arguments[0] in {"help", "-h", "--help"}:
        print(usage())
        return 0
    name, *extra = arguments
    if name not in TARGETS:
        raise JobError(f"There is no job {name!r}{near(name, list(TARGETS))}.\n\n{usage()}")
    return TARGETS[name].run(extra)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except JobError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command to go on.", file=sys.stderr)
        sys.exit(130)
