"""Pages in a real browser, and PDFs before a validator: accessible, and never wider than a phone.

Left out of the daily run: needs Chromium, chromedriver, npm and the package index
(`python run.py test -m browser`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from browser import Browser, browser_paths, opened_browser
from matplotlib.figure import Figure
from toy_notebooks import write_notebook

from crm_analysis.reporting import make_batch, open_batch

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.notebook]

ROOT = Path(__file__).parents[1]
OF_DEALERSHIP = ("director", "retention", "lifetime", "funnel", "satisfaction")
LANGUAGES = ("en", "ru")
AXE = "axe-core@4.14.1"
VALIDATOR = "page-validation==0.11.0"
"""An independent checker of PDF/UA-1, which passes the tests that veraPDF is tested by."""

VALIDATE = """
import json, sys
from page import ValidationProfile, validate_pdf
for path in sys.argv[1:]:
    report = validate_pdf(path, profile=ValidationProfile.PDF_UA_1)
    failures = [(one.rule_id, one.message) for one in report.failures]
    print(json.dumps([report.is_compliant, failures]))
"""
DESKTOP, TABLET, PHONE = 1280, 820, 390
GRAVE = ("serious", "critical")
RUN_AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  r => done(r.violations.map(v => ({
    rule: v.id, impact: v.impact, help: v.help,
    where: v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " " + (n.failureSummary || "")),
  }))), e => done([{rule: "error", impact: "critical", help: String(e), where: []}]));
"""

HELD = """
return [...document.querySelectorAll('main img')].filter(image => {
  const box = image.closest('.crm-figure') ?? image;
  const cut = image.offsetWidth > box.clientWidth && getComputedStyle(box).overflowX !== 'auto';
  return cut || box.clientWidth > innerWidth;
}).map(image => image.alt);
"""
"""Figures that the screen cuts: on a phone they are wide enough to read, in a box that scrolls."""

CASES = [
    *((notebook, lang) for notebook in (*OF_DEALERSHIP, "synthetic_network") for lang in LANGUAGES),
    ("broken", "en"),
    ("index", "en"),
]


@pytest.fixture(scope="module")
def axe(request: pytest.FixtureRequest) -> str:
    """The script of axe-core, fetched once by npm into pytest's cache."""
    npm = shutil.which("npm")
    assert npm is not None, "npm fetches axe-core: install Node.js"
    folder = request.config.cache.mkdir("axe")
    archive = folder / f"{AXE.replace('@', '-')}.tgz"
    if not archive.is_file():
        subprocess.run([npm, "pack", AXE, "--silent"], cwd=folder, check=True, timeout=300)
    with tarfile.open(archive) as package:
        member = package.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.fixture(scope="module")
def pages(
    tiny_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """Every notebook in both languages, a report that failed, and the index over them."""
    out = tmp_path_factory.mktemp("browser")
    broken = write_notebook(
        out / "broken.ipynb",
        [("markdown", "# Broken\n\nWhy?"), ("code", "1 / 0  # nobody can")],
    )
    name = pl.read_parquet(tiny_network / "dealerships.parquet")["name"][0]
    plan = out / "plan.toml"
    plan.write_text(
        f'title = "Browser"\ndata = "{tiny_network.as_posix()}"\n'
        f'out = "{(out / "made").as_posix()}"\nlanguages = ["en", "ru"]\n'
        'formats = ["html", "pdf"]\n'
        f"notebooks = {json.dumps(OF_DEALERSHIP)}\ndealerships = [{json.dumps(name)}]\n"
        '[[report]]\nnotebook = "synthetic_network"\ndealerships = ["network"]\n'
        f'[[report]]\nnotebook = "{broken.as_posix()}"\ndealerships = []\nlanguages = ["en"]\n',
        encoding="utf-8",
    )
    batch = make_batch(open_batch(plan, root=ROOT))
    failed = [o.run.name for o in batch.outcomes if o.status == "failed"]
    assert failed == ["broken"]
    made = {(o.run.name, o.run.lang): batch.out / o.run.path for o in batch.outcomes}
    return {**made, ("index", "en"): batch.out / "index.html"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert browser_paths() is not None, "install Chromium and its chromedriver"
    with opened_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def violations(browser: Browser, axe: str) -> list[Any]:
    browser.run(axe)
    found = browser.run_async(RUN_AXE)
    assert isinstance(found, list)
    return [one for one in found if one["impact"] in GRAVE]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize(("notebook", "lang"), CASES)
def test_axe_finds_nothing_serious(
    pages: dict[tuple[str, str], Path],
    browser: Browser,
    axe: str,
    notebook: str,
    lang: str,
    width: int,
    dark: bool,
) -> None:
    browser.open(pages[notebook, lang], width=width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert violations(browser, axe) == []


@pytest.mark.parametrize("width", [PHONE, TABLET, DESKTOP])
@pytest.mark.parametrize(("notebook", "lang"), CASES)
def test_a_page_is_never_wider_than_the_screen(
    pages: dict[tuple[str, str], Path], browser: Browser, notebook: str, lang: str, width: int
) -> None:
    browser.open(pages[notebook, lang], width=width)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.body.scrollWidth") <= width
    assert browser.run(HELD) == []


def test_a_page_is_printed_on_white_whatever_the_screen(
    pages: dict[tuple[str, str], Path], browser: Browser
) -> None:
    browser.open(pages["director", "ru"], dark=True)
    look = "return [getComputedStyle(document.body).backgroundColor, matchMedia('print').matches]"
    assert browser.run(look)[0] != "rgb(255, 255, 255)"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.devtools("Emulation.setEmulatedMedia", media="print", features=dark)
    assert browser.run(look) == ["rgb(255, 255, 255)", True]


def test_axe_would_find_a_fault(browser: Browser, axe: str, tmp_path: Path) -> None:
    """A check that cannot fail is a defect: grey on grey, a picture without words."""
    page = tmp_path / "faulty.html"
    page.write_text(
        '<!DOCTYPE html><html lang="en"><title>t</title><main><h1>t</h1>'
        '<p style="color:#aaa;background:#bbb">grey</p><img src="data:image/png;base64,AAAA">'
        '<div style="width:900px">wide</div></main></html>',
        encoding="utf-8",
    )
    browser.open(page, width=PHONE)
    assert {one["rule"] for one in violations(browser, axe)} >= {"color-contrast", "image-alt"}
    assert browser.run("return document.documentElement.scrollWidth") > PHONE


# --- the PDFs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator(request: pytest.FixtureRequest) -> Path:
    """A Python with the validator, installed once into pytest's cache."""
    folder = request.config.cache.mkdir("validator") / VALIDATOR.replace("==", "-")
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / "done"
    if not done.is_file():
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", VALIDATOR]
        subprocess.run(install, check=True, timeout=300)
        done.touch()
    return python


def validated(python: Path, *paths: Path) -> list[tuple[bool, list[list[str]]]]:
    """Say of each file whether it conforms to PDF/UA-1, and which rules it breaks."""
    said = subprocess.run(
        [python, "-c", VALIDATE, *paths], capture_output=True, check=True, text=True, timeout=120
    )
    return [tuple(json.loads(line)) for line in said.stdout.splitlines()]


def test_every_pdf_conforms_to_pdf_ua_1(
    pages: dict[tuple[str, str], Path], validator: Path
) -> None:
    files = [path.with_suffix(".pdf") for name, path in pages.items() if name != ("index", "en")]
    assert len(files) == len(CASES) - 1
    found = dict(zip(files, validated(validator, *files), strict=True))
    assert {path.name: broken for path, (fine, broken) in found.items() if not fine} == {}


def test_the_validator_would_find_a_fault(validator: Path, tmp_path: Path) -> None:
    """A PDF without tags, title and language, as a plotting library writes it, is refused."""
    figure = Figure()
    figure.subplots().plot([1, 2])
    figure.savefig(tmp_path / "plain.pdf")
    ((fine, broken),) = validated(validator, tmp_path / "plain.pdf")
    assert not fine
    assert {rule for rule, _message in broken} >= {"PDFUA1-TAGGED-DOCUMENT-001"}
