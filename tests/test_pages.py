"""Every notebook of ours, on ordinary data and on the data that break reports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from crm_analysis.blocks import BLOCK_MIME
from crm_analysis.reporting import make_batch, open_batch

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
NOTEBOOKS = (
    "director", "retention", "departures", "lifetime", "funnel", "satisfaction", "customer_base",
    "pipeline", "service_head", "client_service", "sales_head", "data_quality", "marketer",
)  # fmt: skip
TABLES = {"marketer": ("sales_cube",)}
"""The tables that a page has beside it for its reader."""

EMPTY, LONELY = "Empty Autos", "One Customer Autos"
PLACES = ("network", EMPTY, LONELY)


class Page(HTMLParser):
    """What a reader meets on a page: its words, its links, and the words for its figures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.alternatives: list[str | None] = []
        self.labels: list[str] = []
        self._silent = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in ("style", "script")
        given = dict(attrs)
        names = ("aria-label", "title", "placeholder", "data-label")
        self.labels += [value for name in names if (value := given.get(name))]
        self.addresses += [value for name in ("href", "src") if (value := given.get(name))]
        if tag == "img":
            self.alternatives.append(given.get("alt"))

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    @property
    def title(self) -> str:
        """What the browser's tab says; it is among the words too."""
        return self.words[next(i for i, word in enumerate(self.words) if word.strip())]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


FAR = 7_310_000_000
"""Added to customers' ids, which no page may show, so that no count looks like one."""


def _tell_ids_from_counts(folder: Path) -> None:
    for path in folder.glob("*.parquet"):
        table = pl.read_parquet(path)
        if "customer_id" in table.columns:
            table.with_columns(pl.col("customer_id") + FAR).write_parquet(path)


@pytest.fixture(scope="module")
def data(tiny_network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network with a dealership where nothing happened, and one with one customer."""
    folder = tmp_path_factory.mktemp("broken") / "data"
    shutil.copytree(tiny_network, folder, ignore=shutil.ignore_patterns("truth", ".*"))
    _tell_ids_from_counts(folder)
    dealerships = pl.read_parquet(folder / "dealerships.parquet")
    more = dealerships.head(2).with_columns(
        dealership_id=pl.Series([8, 9], dtype=pl.Int64), name=pl.Series([EMPTY, LONELY])
    )
    pl.concat([dealerships, more]).write_parquet(folder / "dealerships.parquet")
    asked = pl.read_parquet(folder / "surveys.parquet").filter(pl.col("answered_at").is_not_null())
    customer = asked.filter(pl.col("deal_id").is_not_null())["customer_id"][0]
    for path in folder.glob("*.parquet"):
        table = pl.read_parquet(path)
        if {"customer_id", "dealership_id"} <= set(table.columns):
            own = pl.col("customer_id") == customer
            moved = pl.when(own).then(pl.lit(9, pl.Int64)).otherwise("dealership_id")
            table.with_columns(dealership_id=moved).write_parquet(path)
    events = pl.read_parquet(folder / "stage_events.parquet")
    leads = pl.read_parquet(folder / "opportunities.parquet").filter(customer_id=customer)
    theirs = pl.col("opportunity_id").is_in(leads["opportunity_id"].to_list())
    events.with_columns(
        dealership_id=pl.when(theirs).then(pl.lit(9, pl.Int64)).otherwise("dealership_id")
    ).write_parquet(folder / "stage_events.parquet")
    return folder


@pytest.fixture(scope="module")
def pages(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    out = tmp_path_factory.mktemp("pages")
    plan = out / "plan.toml"
    plan.write_text(
        f'data = "{data.as_posix()}"\nout = "{(out / "made").as_posix()}"\n'
        f"notebooks = {list(NOTEBOOKS)}\ndealerships = {list(PLACES)}\n".replace("'", '"'),
        encoding="utf-8",
    )
    batch = make_batch(open_batch(plan, root=ROOT))
    failed = [o.result.get("failure") for o in batch.outcomes if o.status == "failed"]
    assert not failed
    return {
        (outcome.run.name, str(outcome.run.dealership)): batch.out / outcome.run.path
        for outcome in batch.outcomes
    }


CASES = [(notebook, place) for notebook in NOTEBOOKS for place in PLACES]


@pytest.mark.parametrize(("notebook", "place"), CASES)
def test_a_page_never_shows_what_is_not_a_number(
    pages: dict[tuple[str, str], Path], notebook: str, place: str
) -> None:
    page = Page(pages[notebook, place])
    assert len(page.text) > 500
    assert not re.search(r"\b(nan|none|null|inf|NaT|Traceback)\b", page.text, re.IGNORECASE)
    assert not re.search(r"\{\w*\}", page.text), "a sentence was left without its values"


def test_every_key_figure_of_a_page_is_kept_for_the_next(
    pages: dict[tuple[str, str], Path],
) -> None:
    out = pages[NOTEBOOKS[0], "network"].parents[1]
    runs = json.loads((out / "batch.json").read_text(encoding="utf-8"))["runs"]
    shown = [
        (run["name"], figure.get("key"))
        for run in runs
        if run["dealership"] == "network"
        for figure in run["key_figures"]
    ]
    history = pl.read_parquet(out / "history.parquet").filter(dealership="network")
    assert sorted(shown, key=str) == sorted(history.select("report", "key").rows())


@pytest.mark.parametrize(("notebook", "place"), CASES)
def test_a_page_stands_by_itself_and_says_its_figures(
    pages: dict[tuple[str, str], Path], notebook: str, place: str
) -> None:
    page = Page(pages[notebook, place])
    outside = [a for a in page.addresses if not a.startswith(("#", "data:"))]
    folder = pages[notebook, place].parent
    # A page leads to files of its own batch, which are there, and nowhere else.
    stem = pages[notebook, place].stem
    tables = [f"{stem}.{name}.{kind}" for name in TABLES.get(notebook, ())
              for kind in ("csv", "parquet")]  # fmt: skip
    assert outside == ["../index.html", *tables]
    assert all((folder / address).is_file() for address in outside)
    assert all(alternative for alternative in page.alternatives)
    if place == "network":
        assert len(page.alternatives) >= 3


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_page_shows_no_personal_data(
    pages: dict[tuple[str, str], Path], data: Path, notebook: str
) -> None:
    page = Page(pages[notebook, "network"])
    tables = sorted(pages[notebook, "network"].parent.glob(f"{notebook}.*.csv"))
    text = " ".join([page.text, *page.labels, *(path.read_text("utf-8-sig") for path in tables)])
    customers = pl.read_parquet(data / "customers.parquet")
    for column in ("phone", "email"):
        shown = [value for value in customers[column].drop_nulls() if str(value) in text]
        assert shown == []
    full = customers.select(name=pl.concat_str("first_name", pl.lit(" "), "last_name"))
    assert [name for name in full["name"].drop_nulls().unique() if name in text] == []
    digits = re.sub(r"[\s,.\u00a0\u202f]", "", text)
    assert [key for key in customers["customer_id"].to_list() if str(key) in digits] == []
    cars = pl.read_parquet(data / "vehicles.parquet")["vin"].drop_nulls()
    assert [vin for vin in cars if vin in text] == []


FOLDED = {"sales_head": 30, "data_quality": 30, "client_service": 10}
"""Pages that say from what size on a group stands alone, and the size."""


@pytest.mark.parametrize("notebook", FOLDED)
def test_groups_smaller_than_the_stated_size_do_not_stand_alone(
    data: Path, tmp_path: Path, notebook: str
) -> None:
    """With people as groups, no row of a table about people rests on fewer cases than stated."""
    name = pl.read_parquet(data / "dealerships.parquet")["name"][0]
    executed = tmp_path / "made.ipynb"
    import papermill

    papermill.execute_notebook(
        ROOT / "notebooks" / f"{notebook}.ipynb", executed, cwd=ROOT, progress_bar=False,
        parameters={"data": str(data), "dealership": name},
    )  # fmt: skip
    rows = list(people_rows(executed))
    assert len(rows) >= 2
    assert [row for row in rows if row[1] < FOLDED[notebook]] == []


def people_rows(executed: Path) -> Iterator[tuple[str, int]]:
    """Each person of a table with the cases it rests on; groups folded into one are none."""
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            table = output.get("data", {}).get(BLOCK_MIME, {}).get("table") or {}
            names = [column["name"] for column in table.get("columns", ())]
            who = next((w for w in ("manager_no", "employee") if w in names), None)
            if who is None or "n" not in names:
                continue
            for row in table["rows"]:
                n = int(row[names.index("n")].replace(",", ""))
                if n and "groups" not in row[names.index(who)]:
                    yield row[names.index(who)], n


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_an_empty_dealership_is_said_to_be_empty(
    pages: dict[tuple[str, str], Path], notebook: str
) -> None:
    text = Page(pages[notebook, EMPTY]).text
    assert re.search(r"nothing|nobody|no (one|lead|answer|customer|cohort|purchase)", text)


def blocks_of(executed: Path) -> list[str]:
    """Kinds of the blocks an executed notebook holds; nothing else may have been printed."""
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    shown = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    assert [o for o in shown if o["output_type"] in ("stream", "error")] == []
    return [o["data"][BLOCK_MIME]["kind"] for o in shown if BLOCK_MIME in o.get("data", {})]


@pytest.mark.parametrize("notebook", ["director", "lifetime"])
def test_papermills_own_command_executes_a_notebook(
    tiny_network: Path, tmp_path: Path, notebook: str
) -> None:
    """Any runner of papermill will do; ours only adds speed, checks and pages."""
    executed = tmp_path / f"{notebook}.ipynb"
    command = [
        sys.executable, "-m", "papermill", str(ROOT / "notebooks" / f"{notebook}.ipynb"),
        str(executed), "-p", "data", str(tiny_network), "-p", "lang", "ru", "--no-progress-bar",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = blocks_of(executed)
    assert {"key_figures", "findings", "result", "notice"} <= set(kinds)


def test_papermills_own_function_executes_a_notebook(data: Path, tmp_path: Path) -> None:
    """As Airflow's operator and other schedulers call it."""
    import papermill

    papermill.execute_notebook(
        ROOT / "notebooks" / "director.ipynb",
        tmp_path / "director.ipynb",
        parameters={"data": str(data), "targets": {"net_promoter_score": 40}},
        cwd=ROOT,
        progress_bar=False,
    )
    assert "key_figures" in blocks_of(tmp_path / "director.ipynb")
