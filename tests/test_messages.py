"""Words for translators: gathered from every source, kept in a catalogue, put into a page."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from test_pages import NOTEBOOKS, Page
from typer.testing import CliRunner

from crm_analysis.errors import ReportError
from crm_analysis.reporting import make_batch, open_batch
from crm_analysis.reporting.cli import commands
from crm_analysis.reporting.messages import (
    catalogue_path,
    catalogues,
    flaws,
    gathered,
    refreshed,
    translate_notebook,
)
from crm_analysis.wording import speaking

ROOT = Path(__file__).parents[1]


# --- the catalogue of the house -------------------------------------------------------------------


def test_every_message_has_its_russian() -> None:
    found = flaws(ROOT, "ru")
    assert found == [], "run: crm-report messages, and translate what it lists"


def test_messages_come_from_the_library_its_pages_the_codes_and_the_notebooks() -> None:
    said = {one.message: one.path for one in gathered(ROOT)}
    assert said["Sales funnel"] == "crm_analysis/funnel/rates.py"
    assert said["Skip to the report"] == "crm_analysis/reporting/template/index.html.j2"
    assert said["service drive"] == "crm_analysis/schema.py"
    assert said["How long do customers stay?"] == "notebooks/retention.ipynb"
    assert said["{n} day", "{n} days"]


def literal_calls(path: Path) -> set[str]:
    """The first words of every call of `_` and `plural`, found by another way: the syntax tree."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        place = {"_": 0, "plural": 1}.get(node.func.id)
        if place is None:
            continue
        words = node.args[place]
        if isinstance(words, ast.Constant):
            found.add(str(words.value))
        elif path.name not in ("wording.py", "messages.py"):
            found.add(f"{path.name}:{node.lineno} says words that are put together elsewhere")
    return found


def test_no_message_hides_from_the_extractor() -> None:
    """Such as one inside an f-string, or one whose words are not written where it is said."""
    said = {m if isinstance(m := one.message, str) else m[0] for one in gathered(ROOT)}
    called = set().union(*map(literal_calls, (ROOT / "crm_analysis").rglob("*.py")))
    assert called - said == set()


def test_a_catalogue_holds_no_dates_and_no_line_numbers() -> None:
    text = catalogue_path(ROOT, "ru").read_text(encoding="utf-8")
    assert "Creation-Date" not in text
    assert not re.search(r"^#: .*:\d", text, re.MULTILINE)


# --- refreshing and checking ----------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A library of one file, a notebook, and their catalogue."""
    library, notebooks = tmp_path / "crm_analysis", tmp_path / "notebooks"
    library.mkdir()
    notebooks.mkdir()
    (library / "wording.py").write_text('_("{n} of {total} leads were won", n=1, total=2)\n')
    (library / "schema.py").write_text('PAYMENTS = ("cash", "trade_in")\n')
    (library / "page.j2").write_text('{{ _("Contents") }} {{ _("to {day}", day=day) }}\n')
    (library / "counts.py").write_text('plural(n, "{n} lead", "{n} leads")\n')
    cells = [{"cell_type": "markdown", "source": ["# A title\n\n", "One line\n", "and another."]}]
    (notebooks / "one.ipynb").write_text(json.dumps({"cells": cells}))
    write(tmp_path, refreshed(tmp_path, "ru"))
    return tmp_path


def write(root: Path, text: str) -> None:
    path = catalogue_path(root, "ru")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def translate(root: Path) -> None:
    """Give every message a translation of a kind: itself, with a mark before it."""
    text = catalogue_path(root, "ru").read_text(encoding="utf-8")
    head, _, body = text.partition("\n\n")
    body = re.sub(r'msgid "(.+)"\nmsgstr ""', r'msgid "\1"\nmsgstr "Р \1"', body)
    body = re.sub(r'msgstr\[(\d)\] ""', r'msgstr[\1] "{n} Р"', body)
    write(root, f"{head}\n\n{body}")


def test_a_new_catalogue_asks_for_everything(project: Path) -> None:
    assert set(flaws(project, "ru")) == {
        f"without a translation: {message}"
        for message in (
            "{n} of {total} leads were won", "cash", "trade in", "Contents", "to {day}", "{n} lead",
            "A title", "One line and another.",
        )
    }  # fmt: skip
    translate(project)
    assert flaws(project, "ru") == []


def test_refreshing_changes_nothing_where_nothing_changed(project: Path) -> None:
    translate(project)
    edit(catalogue_path(project, "ru"), lambda text: "# A glossary.\n# lead - лид\n" + text)
    once = refreshed(project, "ru")
    assert once == catalogue_path(project, "ru").read_text(encoding="utf-8")
    assert once.startswith("# A glossary.\n# lead - лид\n")


def test_wrapping_lines_anew_or_moving_them_changes_nothing(project: Path) -> None:
    translate(project)
    edit(project / "crm_analysis" / "wording.py", lambda text: "\n\n\n" + text)
    edit(project / "notebooks" / "one.ipynb", lambda text: text.replace("line\\n", "line "))
    assert flaws(project, "ru") == []


def test_a_changed_sentence_keeps_its_translation_as_a_draft(project: Path) -> None:
    translate(project)
    edit(project / "crm_analysis" / "wording.py", lambda text: text.replace("were won", "are won"))
    write(project, refreshed(project, "ru"))
    (flaw,) = flaws(project, "ru")
    assert flaw == "changed since it was translated: {n} of {total} leads are won"
    assert "Р {n} of {total} leads were won" in refreshed(project, "ru")


def test_a_new_word_is_no_draft_of_another(project: Path) -> None:
    translate(project)
    edit(project / "crm_analysis" / "schema.py", lambda text: text.replace("cash", "cashier"))
    write(project, refreshed(project, "ru"))
    assert "without a translation: cashier" in flaws(project, "ru")


def test_what_is_said_no_longer_is_told_and_kept(project: Path) -> None:
    translate(project)
    edit(project / "crm_analysis" / "page.j2", lambda _text: '{{ _("to {day}") }}')
    assert flaws(project, "ru") == ["said no longer: Contents"]
    write(project, refreshed(project, "ru"))
    assert flaws(project, "ru") == ["said no longer: Contents"]
    assert '#~ msgstr "Р Contents"' in refreshed(project, "ru")
    write(project, refreshed(project, "ru", drop=True))
    assert flaws(project, "ru") == []


def test_what_is_said_again_gets_its_translation_back(project: Path) -> None:
    translate(project)
    page = project / "crm_analysis" / "page.j2"
    whole = page.read_text(encoding="utf-8")
    edit(page, lambda _text: "")
    write(project, refreshed(project, "ru"))
    edit(page, lambda _text: whole)
    write(project, refreshed(project, "ru"))
    assert flaws(project, "ru") == []


def test_other_placeholders_are_told(project: Path) -> None:
    translate(project)
    edit(catalogue_path(project, "ru"), lambda text: text.replace("Р to {day}", "по {date}"))
    assert flaws(project, "ru") == [
        "with other placeholders in its translation: to {day} -> по {date}"
    ]


def test_a_plural_without_all_its_forms_is_told(project: Path) -> None:
    translate(project)
    edit(
        catalogue_path(project, "ru"),
        lambda text: text.replace('msgstr[2] "{n} Р"', 'msgstr[2] ""'),
    )
    assert flaws(project, "ru") == ["without a translation: {n} lead"]


def test_a_message_that_the_catalogue_lacks_is_told(project: Path) -> None:
    translate(project)
    edit(project / "crm_analysis" / "counts.py", lambda text: text + '_("Won")\n')
    assert flaws(project, "ru") == ["not in the catalogue: Won"]
    catalogue_path(project, "ru").unlink()
    (flaw,) = flaws(project, "ru")
    assert "There is no catalogue" in flaw


def test_the_command_refreshes_and_the_check_only_looks(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(project)
    translate(project)
    edit(project / "crm_analysis" / "counts.py", lambda text: text + '_("Won")\n')
    before = catalogue_path(project, "ru").read_text(encoding="utf-8")
    checked = CliRunner().invoke(commands, ["messages", "--check"])
    assert checked.exit_code == 1
    assert "not in the catalogue: Won" in checked.output
    assert catalogue_path(project, "ru").read_text(encoding="utf-8") == before
    made = CliRunner().invoke(commands, ["messages"])
    assert made.exit_code == 0
    assert "without a translation: Won" in made.output


def test_without_sources_the_command_says_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="checkout"):
        catalogues(tmp_path)


# --- a notebook's markdown ------------------------------------------------------------------------


def notebook_of(markdown: str) -> SimpleNamespace:
    return SimpleNamespace(cells=[SimpleNamespace(cell_type="markdown", source=markdown)])


def in_russian(markdown: str) -> str:
    notebook = notebook_of(markdown)
    with speaking("ru"):
        translate_notebook(notebook)
    return str(notebook.cells[0].source)


def test_markdown_is_translated_piece_by_piece() -> None:
    assert in_russian("## Where do leads stop?\n\nSomebody's own words.\n\n- Cautions\n") == (
        "## Где мы теряем лиды?\n\nSomebody's own words.\n\n- На что обратить внимание\n"
    )
    assert in_russian("Who hears\nwhat?") == "Кто какие оценки получает?"


@pytest.mark.parametrize(
    "markdown",
    [
        "```\nCautions\n```\n",
        "~~~text\nCautions",
        "A first line\nCautions",
        "| Cautions |\n|---|\n| a |",
        "",
        "   \n\n",
        "#\n",
    ],
)
def test_what_is_no_message_stays_as_it_is(markdown: str) -> None:
    assert in_russian(markdown) == markdown


def test_english_is_left_alone() -> None:
    notebook = notebook_of("# Cautions #")
    translate_notebook(notebook)
    assert notebook.cells[0].source == "# Cautions #"


# --- pages in Russian -----------------------------------------------------------------------------

LATIN = re.compile(r"[A-Za-z]+(?:[/'’-][A-Za-z]+)*")
ALLOWED = {
    "NPS", "BG/NBD", "MBG/NBD", "MBG/CNBD", "Pareto/NBD", "AIC", "BIC", "MMM",  # names of methods
    "ABC", "A", "B", "C", "X", "Y", "Z",  # classes of customers and of models
    "CRM", "USD", "VIN",  # what is written so in Russian too
    "n", "p", "k", "r", "a", "b", "q", "v", "s", "alpha", "beta",  # symbols of statistics
    "PDF", "CSV", "Parquet", "English",  # formats, and a language by its own name
    "tiny",  # the preset of the data
}  # fmt: skip


PARAMETERS_NAMED = re.compile(r"call_cost|message_cost|channel_sources")
"""Parameters that a page tells its reader to set."""


@pytest.fixture(scope="module")
def pages(
    tiny_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    out = tmp_path_factory.mktemp("russian")
    names = pl.read_parquet(tiny_network / "dealerships.parquet")["name"].to_list()
    data = out / "data"
    shutil.copytree(tiny_network, data, ignore=shutil.ignore_patterns("truth", ".*"))
    plan = out / "plan.toml"
    plan.write_text(
        f'title = "Сеть"\ndata = "{data.as_posix()}"\nout = "{(out / "made").as_posix()}"\n'
        f"notebooks = {json.dumps(NOTEBOOKS)}\n"
        f'dealerships = {json.dumps(["network", names[0]])}\nlanguages = ["ru"]\n',
        encoding="utf-8",
    )
    batch = make_batch(open_batch(plan, root=ROOT))
    assert not [o.result.get("failure") for o in batch.outcomes if o.status == "failed"]
    made = {
        (o.run.name, "network" if o.run.dealership == "network" else "one"): batch.out / o.run.path
        for o in batch.outcomes
    }
    return {**made, ("index", "network"): batch.out / "index.html"}


@pytest.fixture(scope="module")
def names_in_the_data(tiny_network: Path) -> set[str]:
    """Every word of a name that the data give: dealerships, brands, employees, cities."""
    columns = {
        "dealerships": ["name", "network", "region", "city", "brand_group"],
        "models": ["brand", "model", "segment"],
        "employees": ["name"],
    }
    texts = [
        str(value)
        for table, names in columns.items()
        for name in names
        for value in pl.read_parquet(tiny_network / f"{table}.parquet")[name].drop_nulls()
    ]
    return {word for text in texts for word in LATIN.findall(text)}


CASES = [(name, place) for name in NOTEBOOKS for place in ("network", "one")]


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.parametrize(("notebook", "place"), [*CASES, ("index", "network")])
def test_a_russian_page_is_russian(
    pages: dict[tuple[str, str], Path],
    names_in_the_data: set[str],
    notebook: str,
    place: str,
) -> None:
    path = pages[notebook, place]
    html = path.read_text(encoding="utf-8")
    assert '<html lang="ru">' in html
    page = Page(path)
    # Below "how this page was made" stand names of files, parameters and packages.
    text = page.text.partition("Как создана эта страница")[0]
    parts = (text, page.title, *map(str, page.alternatives), *page.labels)
    words = {word for part in parts for word in LATIN.findall(PARAMETERS_NAMED.sub("", part))}
    assert words - ALLOWED - names_in_the_data == set()
    assert len(re.findall(r"[а-яё]{3,}", text)) > 20


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_numbers_on_a_russian_page_are_written_the_russian_way(
    pages: dict[tuple[str, str], Path], notebook: str
) -> None:
    text = Page(pages[notebook, "network"]).text
    assert re.search(r"\d,\d", text)
    assert not re.search(r"\d\.\d", text.partition("Как создана эта страница")[0])
    assert not re.search(r"\d%", text)
    assert "31 декабря 2025" in text
