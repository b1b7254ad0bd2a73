"""The environment's files say the same: pyproject.toml, the two locks, environment.yml, run.py."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import crm_analysis
import run

ROOT = Path(__file__).resolve().parents[1]
LARGEST_TEXT = 2_000_000  # bytes; a larger file is data, which no one wrote an address into
SKIPPED = {".git", ".venv", "out", "__pycache__", "node_modules"}
# Written in pieces, so that this file does not find itself.
ADDRESSES = re.compile(
    "|".join(
        (
            r"(?:extra-|default-)?index-" + r"url",
            r"find-" + r"links",
            r"https?://(?:[\w-]+\.)*pypi" + r"\.org/simple",
            r"files\.python" + r"hosted\.org",
            r"file:" + r"//+[\w/]",
        )
    )
)
MACHINE_PATHS = re.compile(
    r"(?<![\w.:/*)\]}-])(?:/(?:root|home/\w+|work|tmp|Users/\w+|private/var)/[\w.-]|[A-Z]:\\Users\\)"
)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked(name: str) -> dict[str, Requirement]:
    lines = run.pins((ROOT / name).read_text(encoding="utf-8"))
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def stated(*extras: str) -> list[Requirement]:
    table = project()["project"]
    lists = [table["dependencies"], *(table["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for lines in lists for line in lines]


def our_files() -> list[Path]:
    """Files that git keeps or would keep; without git, all but what is made."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [p for p in ROOT.rglob("*") if not SKIPPED & set(p.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str:
    """The file's text; nothing for binary and very large files."""
    if path.stat().st_size > LARGEST_TEXT:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-lab.lock"])
def test_every_line_of_a_lock_is_one_exact_version(name: str) -> None:
    for line in run.pins((ROOT / name).read_text(encoding="utf-8")):
        pattern = r"[a-z0-9][a-z0-9.-]*(\[[a-z0-9,-]+\])?==[\w.!+]+( ; .+)?"
        assert re.fullmatch(pattern, line), f"{name}: {line!r} is not an exact version"
    assert len(locked(name)) > 50


@pytest.mark.parametrize(
    ("name", "extras"),
    [("requirements.lock", ("test", "dev")), ("requirements-lab.lock", ("test", "dev", "lab"))],
)
def test_lock_holds_what_pyproject_asks_for(name: str, extras: tuple[str, ...]) -> None:
    pins = locked(name)
    for wanted in stated(*extras):
        pin = pins.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{name} lacks {wanted.name}: {run.LOCK_COMMAND}"
        version = str(pin.specifier).removeprefix("==")
        assert wanted.specifier.contains(version), f"{name} has {pin}, pyproject {wanted}"


def test_every_dependency_has_a_lower_bound_and_a_line_in_decisions() -> None:
    told = (ROOT / "DECISIONS.md").read_text(encoding="utf-8")
    for wanted in stated("test", "dev", "lab", "spark"):
        assert str(wanted.specifier).startswith(">="), f"{wanted} has no lower bound"
        assert re.search(rf"^\|.*\b{wanted.name}\b.*\|", told, re.MULTILINE), wanted.name


def test_lab_lock_holds_the_first_lock_whole() -> None:
    small = {(name, pin.specifier) for name, pin in locked("requirements.lock").items()}
    large = {(name, pin.specifier) for name, pin in locked("requirements-lab.lock").items()}
    assert small <= large


def test_lock_is_complete() -> None:
    """It is installed without resolving, so what its packages need must be in it."""
    pins = locked("requirements.lock")
    here = {name: value for name, value in default_environment().items() if isinstance(value, str)}
    seen = 0
    for name, pin in pins.items():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        seen += 1
        for need in map(Requirement, needs):
            wanted = {"", *pin.extras}
            markers = [need.marker.evaluate({**here, "extra": e}) for e in wanted if need.marker]
            if need.marker is None or any(markers):
                found = pins.get(canonicalize_name(need.name))
                assert found is not None, f"{name} needs {need}, which the lock lacks"
                version = str(found.specifier).removeprefix("==")
                assert need.specifier.contains(version, prereleases=True), f"{name} needs {need}"
    assert seen > 50, "these tests do not run in the environment of the lock"


def test_environment_yml_carries_the_same_pins() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    lab = (ROOT / "requirements-lab.lock").read_text(encoding="utf-8")
    items = [line.strip().removeprefix("- ").strip('"') for line in text.splitlines()]
    dependencies = items[items.index("dependencies:") + 1 :]
    assert dependencies == ["python=3.11", "pip", "pip:", *run.pins(lab), "--editable ."]
    assert text == run.conda_file(lab), f"write it again: {run.LOCK_COMMAND}"


def test_oldest_python_is_the_same_everywhere() -> None:
    table = project()
    oldest = "{}.{}".format(*run.OLDEST)
    assert table["project"]["requires-python"] == f">={oldest}"
    assert table["tool"]["mypy"]["python_version"] == oldest
    assert table["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")


def test_version_is_the_same_everywhere() -> None:
    version = project()["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## ([\d.]+) - ([\d-]+)\n\n### (.+)$", changes, re.MULTILINE)
    assert newest is not None, "CHANGELOG: a release opens with '## X.Y.Z - date' and a section"
    assert newest.group(1) == version
    assert version == crm_analysis.__version__
    assert f"version: {version}" in citation
    assert f"date-released: {newest.group(2)}" in citation
    assert newest.group(3) == "Numbers that change"


def test_no_file_of_ours_names_an_index_or_a_machine() -> None:
    found = []
    for path in our_files():
        for number, line in enumerate(text_of(path).splitlines(), start=1):
            if ADDRESSES.search(line) or MACHINE_PATHS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:90]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "--extra-index-" + "url something",
        "see /ro" + "ot/project",
        "data = '/tm" + "p/x.csv'",
        'open("/ho' + 'me/ann/data.csv")',
        "C:" + "\\Users\\ann",
        "https://pypi" + ".org/simple/numpy",
    ],
)
def test_the_check_above_can_fail(line: str) -> None:
    assert ADDRESSES.search(line) or MACHINE_PATHS.search(line)


def test_makefile_knows_every_job_it_names() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = re.findall(r"^([a-z ]+):$", text, re.MULTILINE)
    jobs = set(" ".join(names).split()) - {"help"}
    assert {"report", "test", "real", "lab", "check", "clean"} <= jobs <= set(run.TARGETS)
