"""The data dictionary: complete in both languages, and a page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from crm_analysis.errors import InputError
from crm_analysis.schema import TABLES
from crm_analysis.warehouse import opinions, views
from crm_analysis.warehouse.ledger import UnitCosts, lead_costs, ledger
from synthetic.cli import app
from synthetic.dictionary import (
    EVERY,
    LANGUAGES,
    dictionary,
    entries,
    missing_russian,
    russian_meaning,
)
from synthetic.usage import DIRECT, REPORTS, VIEWS, columns_of, readers

ROOT = Path(__file__).parents[1]


def test_no_column_category_or_unit_lacks_its_russian_words() -> None:
    """Write what is missing into synthetic/dictionary_ru.toml."""
    assert missing_russian() == []


def test_nothing_russian_speaks_of_what_is_not_there() -> None:
    import tomllib

    words = tomllib.loads((ROOT / "synthetic" / "dictionary_ru.toml").read_text(encoding="utf-8"))
    assert set(words["tables"]) <= set(EVERY)
    for name, columns in words["columns"].items():
        if isinstance(columns, dict):
            assert set(columns) <= set(EVERY[name].columns()), name


def test_a_column_that_may_be_null_says_what_null_means_in_both_languages() -> None:
    for name in TABLES:
        for column, kind in EVERY[name].columns().items():
            if kind.nullable:
                assert "null" in (kind.description or ""), f"{name}.{column}"
                assert "пусто" in (russian_meaning(name, column) or ""), f"{name}.{column}"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_column_is_in_both_forms(lang: str) -> None:
    markdown, page = dictionary(lang, "markdown"), dictionary(lang, "html")
    for name, table in EVERY.items():
        assert f"### {name}\n" in markdown
        assert f"<section id='{name}'>" in page
        found = [entry.name for entry in entries(name, lang)]
        assert found == list(table.columns())
    rows = sum(len(table.columns()) for table in EVERY.values())
    assert len(re.findall(r"^\| `", markdown, re.MULTILINE)) == rows
    assert page.count("<td><code>") == rows


def test_english_has_no_russian_and_russian_has_no_english_meaning() -> None:
    assert not re.search("[а-яё]", dictionary("en").lower())
    for name in EVERY:
        for entry in entries(name, "ru"):
            assert re.search("[а-яё]", entry.meaning.lower()), f"{name}.{entry.name}"


def test_keys_say_where_they_point() -> None:
    found = {entry.name: entry for entry in entries("deals")}
    assert found["deal_id"].key == "primary key"
    assert found["customer_id"].key == "→ customers"
    assert found["pay"].labels["cash"] == "cash"
    assert {entry.name: entry for entry in entries("deals", "ru")}["pay"].labels["cash"] == (
        "свои средства"
    )


class _Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.ids.add(facts.get("id") or "")
        self.links += [facts["href"] or ""] if "href" in facts else []
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_is_whole_and_links_inside_itself(lang: str) -> None:
    page = _Balanced()
    page.feed(dictionary(lang, "html"))
    assert page.open == []
    assert page.links
    assert {link.removeprefix("#") for link in page.links} <= page.ids


_BUILT: dict[str, Callable[[views.Tables], pl.LazyFrame]] = {
    "spells": lambda tables: views.spells(tables, as_of=date(2025, 1, 1), inactive_months=18),
    "ownership_spells": lambda tables: views.ownership_spells(
        tables, as_of=date(2025, 1, 1), inactive_months=18
    ),
    "car_parc": lambda tables: views.car_parc(tables, as_of=date(2025, 1, 1), inactive_months=18),
    "departure_snapshots": lambda tables: views.departure_snapshots(
        tables, as_of=date(2025, 1, 1), active_months=18, horizon_months=12
    ),
    "service_visits": views.service_visits,
    "purchases": views.purchases,
    "scores": lambda tables: views.scores(tables, question="nps"),
    "lead_events": views.lead_events,
    "leads": views.leads,
    "loyalty_events": lambda tables: views.loyalty_events(tables, views.purchases(tables)),
    "car_events": views.car_events,
    "portraits": lambda tables: views.portraits(tables, as_of=date(2025, 1, 1)),
    "required_fields": views.required_fields,
    "billed_deals": views.billed_deals,
    "staff_weeks": lambda tables: views.staff_weeks(tables, as_of=date(2025, 1, 1)),
    "logged_deals": views.logged_deals,
    "manager_loads": lambda tables: views.manager_loads(
        tables, since=date(2024, 1, 1), as_of=date(2025, 1, 1)
    ),
    "deal_margins": views.deal_margins,
    "typed_in": views.typed_in,
    "planned_contacts": views.planned_contacts,
    "answers": views.answers,
    "asked": lambda tables: opinions.asked(
        tables, views.purchases(tables), question="nps", within_days=30
    ),
    "question_scores": opinions.question_scores,
    "case_values": lambda tables: opinions.case_values(
        tables, views.purchases(tables), since=date(2024, 1, 1), as_of=date(2025, 1, 1)
    ),
    "customer_scores": lambda tables: opinions.customer_scores(
        tables,
        views.purchases(tables),
        question="csat",
        since=date(2024, 1, 1),
        as_of=date(2025, 1, 1),
    ),
    "sales": views.sales,
    "lead_costs": lambda tables: lead_costs(
        tables, tuple(TABLES), UnitCosts(call=4.0, message=0.05)
    ),
    "lead_sales": views.lead_sales,
    "spend": views.spend,
    "approaches": views.approaches,
    "stock": views.stock,
    "campaign_plan": views.campaign_plan,
    "relationship_events": lambda tables: views.relationship_events(
        tables, views.purchases(tables)
    ),
    "loyalty_points": lambda tables: views.loyalty_points(tables, has=TABLES.__contains__),
    "loyalty_members": lambda tables: views.loyalty_members(
        tables, lambda: views.purchases(tables), landmark_days=30, has=TABLES.__contains__
    ),
    "contact_years": lambda tables: views.contact_years(
        tables, since=date(2024, 1, 1), as_of=date(2024, 12, 31)
    ),
    "birthdays": lambda tables: views.birthdays(
        tables, since=date(2024, 1, 1), as_of=date(2024, 12, 31)
    ),
    "touches": views.touches,
    "calls": views.calls,
    "comings": lambda tables: views.comings(tables, has=TABLES.__contains__),
    "visits": lambda tables: views.visits(tables, has=TABLES.__contains__),
    "keeping_costs": lambda tables: views.keeping_costs(
        tables, call=4.0, message=0.05, has=TABLES.__contains__
    ),
    "demand": views.demand,
    "ledger": lambda tables: ledger(tables, tuple(TABLES), UnitCosts(call=4.0, message=0.05)),
}
"""How the warehouse builds each view that reports read."""


def _reads(view: str, frames: Mapping[str, pl.LazyFrame]) -> bool:
    try:
        _BUILT[view](lambda name: frames[name]).collect()
    except pl.exceptions.ColumnNotFoundError:
        return False
    return True


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_reads_the_columns_listed_and_no_others(view: str) -> None:
    """A column is read when the view cannot be built without it."""
    whole = {name: table.create_empty().lazy() for name, table in TABLES.items()}
    assert _reads(view, whole)
    for name, table in TABLES.items():
        needed = {
            column
            for column in table.columns()
            if not _reads(view, whole | {name: whole[name].drop(column)})
        }
        assert needed == set(VIEWS[view].get(name, ())), name


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_reads_the_views_and_tables_listed(report: str) -> None:
    text = (ROOT / "notebooks" / f"{report}.ipynb").read_text(encoding="utf-8")
    called = set(re.findall(r"(?:crm|view|whole)\.(\w+)\(", text)) & set(_BUILT)
    assert called == set(REPORTS[report])
    named = set(
        re.findall(r"(?:(?:crm|view)\.table\(|world\.truth\[|spoiled\.truth\[)\\\"(\w+)", text)
    )
    assert named == set(DIRECT.get(report, {}))
    for table, columns in columns_of(report).items():
        assert columns <= set(EVERY[table].columns()), table


def test_every_notebook_is_in_the_dictionary() -> None:
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(REPORTS)


def test_a_column_names_its_readers_in_both_forms() -> None:
    assert readers("deals", "sale_price") == [
        "director",
        "retention",
        "lifetime",
        "satisfaction",
        "customer_base",
        "pipeline",
        "service_head",
        "client_service",
        "data_quality",
        "sales_head",
        "marketer",
        "synthetic_network",
    ]
    assert readers("customers", "phone") == ["data_quality"]
    assert readers("renewals") == []
    assert readers("spells", "ended_on") == [
        "retention",
        "departures",
        "lifetime",
        "synthetic_network",
    ]
    line = next(one for one in dictionary("ru").splitlines() if one.startswith("| `sale_price`"))
    assert line.endswith(
        "| director, retention, lifetime, satisfaction, customer_base, pipeline, service_head, "
        "client_service, data_quality, sales_head, marketer, synthetic_network |"
    )


def test_other_languages_and_forms_are_refused() -> None:
    with pytest.raises(InputError, match="en, ru"):
        dictionary("fr")
    with pytest.raises(InputError, match="markdown, html"):
        dictionary("en", "pdf")


def test_the_command_prints_and_writes_and_never_overwrites(tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["dictionary", *words])
        return done.exit_code, done.output

    assert run("--lang", "ru")[1] == dictionary("ru")
    page = tmp_path / "deep" / "dictionary.html"
    assert run("--out", str(page))[0] == 0
    assert page.read_text(encoding="utf-8") == dictionary("en", "html")
    assert run("--out", str(page), "--lang", "ru")[0] == 2
    assert run("--out", str(page), "--lang", "ru", "--force")[0] == 0
    assert "<html lang='ru'>" in page.read_text(encoding="utf-8")
