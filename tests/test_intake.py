"""A dealership's own export becomes our tables: published facts, flaws said, bad input refused."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_analysis.errors import ColumnError, CrmError, InputError, SchemaError
from crm_analysis.intake import folder as intake_folder
from crm_analysis.intake import intake_report, is_current, take_in
from crm_analysis.intake.findings import Finding, sentence
from crm_analysis.retention import retention_curve
from crm_analysis.warehouse import open_warehouse
from crm_analysis.wording import speaking

ROOT = Path(__file__).resolve().parents[1]
MAPPINGS = ROOT / "reports" / "intake"

PUBLISHED_DIGITS = 1e-6
"""The published survivals and bounds have six decimals."""


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The three public data sets, taken in once."""
    out = tmp_path_factory.mktemp("taken")
    names = ("cdnow", "pipeline", "telco")
    return {name: take_in(MAPPINGS / f"{name}.toml", out / name) for name in names}


def read(folder: Path, table: str) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{table}.parquet")


def report_of(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = manifest["intake"]
    return found


def said(folder: Path, code: str) -> list[dict[str, Any]]:
    return [item["values"] for item in report_of(folder)["findings"] if item["code"] == code]


# --- the published facts ------------------------------------------------------------------------


def test_cdnow_has_its_published_customers_and_rows(taken: Mapping[str, Path]) -> None:
    purchases = read(taken["cdnow"], "purchases")
    assert purchases.height == 6919
    assert purchases["customer_id"].n_unique() == 2357
    assert purchases["customer_id"].max() == 2357
    assert purchases["happened_on"].min() == date(1997, 1, 1)
    assert purchases["happened_on"].max() == date(1998, 6, 30)
    assert purchases["revenue"].sum() == pytest.approx(244091.94, abs=0.01)


def test_cdnow_flaws_are_said(taken: Mapping[str, Path]) -> None:
    folder = taken["cdnow"]
    assert [item["rows"] for item in said(folder, "repeated")] == [21]
    assert [item["rows"] for item in said(folder, "not_positive")] == [8]
    assert [item["rows"] for item in said(folder, "same")] == [223]


def test_the_pipeline_has_its_published_opportunities(taken: Mapping[str, Path]) -> None:
    opportunities = read(taken["pipeline"], "opportunities")
    counts = dict(opportunities["status"].cast(pl.String).value_counts().rows())
    assert counts == {"won": 4238, "lost": 2473, "open": 1589}
    made = report_of(taken["pipeline"])["tables"]["opportunities"]
    assert made["rows_read"] == 8800
    assert [item["rows"] for item in made["left_out"]] == [500]


def test_the_pipeline_has_its_published_revenue_by_quarter(taken: Mapping[str, Path]) -> None:
    won = read(taken["pipeline"], "purchases")
    assert won["revenue"].sum() == 10_005_534
    assert won["revenue"].mean() == pytest.approx(2360.909391, abs=1e-6)
    assert won["revenue"].median() == 1117
    by_quarter = won.group_by(won["happened_on"].dt.quarter()).agg(pl.len(), pl.sum("revenue"))
    assert by_quarter.sort("happened_on").rows() == [
        (1, 531, 1134672),
        (2, 1254, 3086111),
        (3, 1257, 2982255),
        (4, 1196, 2802496),
    ]


def test_the_pipeline_takes_its_published_days(taken: Mapping[str, Path]) -> None:
    days = (pl.col("closed_at") - pl.col("opened_at")).dt.total_days()
    took = (
        read(taken["pipeline"], "opportunities")
        .group_by(pl.col("status").cast(pl.String))
        .agg(days.median().alias("median"), days.mean().round(6).alias("mean"))
        .sort("status")
    )
    assert took.rows() == [
        ("lost", 14, 41.479175),
        ("open", None, None),
        ("won", 57, 51.781973),
    ]


def test_lead_events_begin_where_the_export_is_whole(taken: Mapping[str, Path]) -> None:
    events = read(taken["pipeline"], "lead_events")
    made = report_of(taken["pipeline"])["tables"]["lead_events"]
    assert [item["rows"] for item in made["left_out"]] == [500, 1185]
    assert events["opportunity_id"].n_unique() == 8800 - 500 - 1185
    assert events["opened_at"].dt.date().min() == date(2017, 3, 1)


def test_telco_has_its_published_survival(taken: Mapping[str, Path]) -> None:
    spells = read(taken["telco"], "spells")
    assert spells.height == 7043
    assert spells["ended_on"].count() == 1869
    curve = retention_curve(spells, as_of=date(2018, 6, 1))
    published = {
        1: 0.945961,
        6: 0.884826,
        12: 0.8432,
        24: 0.788736,
        36: 0.748545,
        48: 0.70884,
        60: 0.664404,
        72: 0.59279,
    }
    for month, survival in published.items():
        row = curve.at(month).row(0, named=True)
        assert row["estimate"] == pytest.approx(survival, abs=PUBLISHED_DIGITS)
        assert row["n"] == 7043
    bounds = {12: (0.834169, 0.851783), 24: (0.778313, 0.798735), 72: (0.573063, 0.611936)}
    for month, (low, high) in bounds.items():
        row = curve.at(month).row(0, named=True)
        assert (row["conf_low"], row["conf_high"]) == (
            pytest.approx(low, abs=PUBLISHED_DIGITS),
            pytest.approx(high, abs=PUBLISHED_DIGITS),
        )


def test_telco_flaws_are_said(taken: Mapping[str, Path]) -> None:
    folder = taken["telco"]
    (blank,) = said(folder, "hidden_missing")
    assert (blank["column"], blank["rows"]) == ("TotalCharges", 11)
    (by_tenure,) = said(folder, "missing_by")
    assert by_tenure["counts"] == [["0", 11, 11]]
    assert said(folder, "constructed")
    assert [item["rows"] for item in said(folder, "capped")] == [362]


def test_pipeline_flaws_are_said(taken: Mapping[str, Path]) -> None:
    folder = taken["pipeline"]
    (late,) = said(folder, "starts_late")
    assert (late["cutoff_on"], late["rows"]) == ("2017-03-01", 1185)
    assert late["n_expected"] > 100
    (stale,) = said(folder, "stale")
    assert (stale["rows"], stale["n_open"], stale["days"]) == (1291, 1589, 138)
    corrected = {item["written"]: item["rows"] for item in said(folder, "corrected")}
    assert corrected == {"'GTXPro'": 1480, "'technolgy'": 12}
    (idle,) = said(folder, "unused")
    assert (idle["n_unused"], idle["n_of"]) == (5, 35)
    (empty,) = said(folder, "missing_by")
    assert ["Engaging", 1088, 1589] in empty["counts"]
    assert {item["column"] for item in said(folder, "no_working_week")} == {
        "engage_date",
        "close_date",
    }
    assert {item["by"] for item in said(folder, "differs_by_chance")} == {
        "sales_agent",
        "team_head",
    }
    (left_open,) = said(folder, "differs")
    assert (left_open["of"], left_open["by"]) == (["Engaging"], "sales_agent")
    assert left_open["share_low"] == 0
    assert left_open["share_high"] == pytest.approx(0.3125)
    (quarter,) = said(folder, "differs_in_quarter")
    assert quarter["share_high"] == pytest.approx(0.8065, abs=1e-3)
    (closed_first,) = said(folder, "none_left_out")
    assert closed_first["reason"] == "they were closed before they were engaged"
    sold = pl.read_csv(ROOT / "tests" / "reference" / "pipeline" / "sales_pipeline.csv").drop_nulls(
        "account"
    )
    sums = sold.group_by("account").agg(pl.col("close_value").sum())["close_value"].sort()
    (few,) = said(folder, "few_do_not_bring_most")
    assert few["n_groups"] == len(sums) == 85
    best, whole = (float(part.to_numpy().sum()) for part in (sums.tail(17), sums))
    assert few["share_best"] == pytest.approx(best / whole)
    assert few["share_low"] < few["share_best"] < few["share_high"] < 0.8


def test_a_mismatched_name_is_said_with_the_nearest_known_one(tmp_path: Path) -> None:
    text = (MAPPINGS / "pipeline.toml").read_text(encoding="utf-8")
    text = text.replace('product = { "GTXPro" = "GTX Pro" }\n', "")
    text = text.replace('file = "tests/', f'file = "{ROOT.as_posix()}/tests/')
    mapping = tmp_path / "raw.toml"
    mapping.write_text(text, encoding="utf-8")
    folder = take_in(mapping, tmp_path / "raw")
    (strange,) = said(folder, "unmatched")
    assert (strange["rows"], strange["names"]) == (1480, ["GTXPro"])
    assert strange["nearest"] == " (GTXPro ~ GTX Pro)"


# --- the warehouse and the page -----------------------------------------------------------------


def test_the_warehouse_opens_what_was_taken_in(taken: Mapping[str, Path]) -> None:
    cdnow = open_warehouse(taken["cdnow"])
    assert cdnow.as_of == date(1998, 6, 30)
    assert cdnow.currency == "USD"
    assert cdnow.purchases().collect().height == 6919
    telco = open_warehouse(taken["telco"])
    spells = telco.spells().collect()
    assert {"contract", "internet_service", "dealership"} <= set(spells.columns)
    assert telco.purchases().collect().is_empty()
    pipeline = open_warehouse(taken["pipeline"])
    assert pipeline.lead_events().collect().height == 12854
    assert pipeline.dealerships() == ["Central", "West", "East"]
    east = open_warehouse(taken["pipeline"], dealership="East").lead_events().collect()
    assert east["dealership"].unique().to_list() == ["East"]


def test_the_report_is_a_notice_with_every_caution(taken: Mapping[str, Path]) -> None:
    crm = open_warehouse(taken["pipeline"])
    block = intake_report(crm)
    assert block.kind == "notice"
    assert "Maven Analytics" in str(block.finding)
    assert list(block.notes) == report_of(taken["pipeline"])["cautions"]
    assert block.table is not None
    assert ("opportunities", "8,800", "500", "8,300") in block.table.rows
    assert "nan" not in block.to_html().casefold().replace("finance", "")


def test_the_report_speaks_russian_where_the_mapping_does(taken: Mapping[str, Path]) -> None:
    crm = open_warehouse(taken["telco"])
    with speaking("ru"):
        notes = intake_report(crm).notes
    assert any("снимок одного дня" in note for note in notes)


class Opened:
    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.manifest = manifest
        self.cautions: tuple[str, ...] = ()


def test_data_that_nobody_took_in_say_so() -> None:
    generated = intake_report(Opened({"preset": "small", "seed": 1}))
    assert "generated (preset small, seed 1)" in str(generated.finding)
    assert generated.notes == ()
    assert "not taken in" in str(intake_report(Opened({})).finding)


def test_every_finding_can_be_said() -> None:
    from crm_analysis.intake import findings

    with speaking("en"):
        codes = findings._templates()
    for code, template in codes.items():
        assert template.endswith("."), code
    one = Finding("not_positive", {"file": "a.csv", "column": "spend", "rows": 1, "n_of": 1200})
    assert sentence(one) == "a.csv: spend is zero or less in 1 row of 1,200."


# --- all or nothing -----------------------------------------------------------------------------


def test_the_same_export_makes_the_same_bytes(taken: Mapping[str, Path], tmp_path: Path) -> None:
    again = take_in(MAPPINGS / "pipeline.toml", tmp_path / "pipeline")
    files = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert files
    for name in files:
        assert (again / name).read_bytes() == (taken["pipeline"] / name).read_bytes(), name


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(folder: Path, spaces: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(intake_folder, "_write_keys", stop)
    with pytest.raises(KeyboardInterrupt):
        take_in(MAPPINGS / "cdnow.toml", tmp_path / "cdnow")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_the_folder_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = take_in(MAPPINGS / "cdnow.toml", tmp_path / "cdnow")
    before = (folder / "purchases.parquet").read_bytes()

    def stop(folder: Path, spaces: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(intake_folder, "_write_keys", stop)
    with pytest.raises(KeyboardInterrupt):
        take_in(MAPPINGS / "cdnow.toml", folder, force=True)
    assert (folder / "purchases.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["cdnow"]


def test_nothing_is_done_twice_and_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    mapping = write_export(tmp_path)
    out = take_in(mapping, tmp_path / "out")
    stamp = (out / "manifest.json").stat().st_mtime_ns
    assert is_current(mapping, out)
    take_in(mapping, out)
    assert (out / "manifest.json").stat().st_mtime_ns == stamp
    (tmp_path / "sales.csv").write_text(EXPORT + "C9;05.02.2024;10\n", encoding="utf-8")
    assert not is_current(mapping, out)
    assert read(take_in(mapping, out), "purchases").height == 3
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="never replaced"):
        take_in(mapping, other, force=True)
    assert (other / "thesis.txt").exists()


# --- a small export of one's own ----------------------------------------------------------------

EXPORT = """Клиент;Дата;Сумма
C7;31.01.2024;1 234,50
C2;01.02.2024;-
C7;03.02.2024;99,00
"""

MAPPING = """
title = "Sales of one dealership"
origin = "its own system"
licence = "internal"
as_of = 2024-06-30
currency = "RUB"

[sources.sales]
file = "sales.csv"
separator = ";"
decimal = ","
thousands = " "

[tables.purchases]
source = "sales"
leave_out = [{ reason = "the sum is not known", column = "Сумма", is = "missing" }]

[tables.purchases.columns]
customer_id = { from = "Клиент", recode = "customer" }
dealership_id = { value = 1 }
dealership = { value = "Ours" }
happened_on = { from = "Дата", format = "%d.%m.%Y" }
revenue = { from = "Сумма" }
kind = { value = "car" }
"""


def write_export(
    folder: Path, mapping: str = MAPPING, export: str = EXPORT, encoding: str = "utf-8"
) -> Path:
    (folder / "sales.csv").write_bytes(export.encode(encoding))
    path = folder / "own.toml"
    path.write_text(mapping, encoding="utf-8")
    return path


def take(folder: Path, mapping: str = MAPPING, export: str = EXPORT, **more: str) -> pl.DataFrame:
    out = take_in(write_export(folder, mapping, export, **more), folder / "out")
    return read(out, "purchases")


def test_an_export_in_its_own_manner_is_read(tmp_path: Path) -> None:
    table = take(tmp_path)
    assert table["revenue"].to_list() == [1234.5, 99.0]
    assert table["customer_id"].to_list() == [1, 1]
    assert table["happened_on"].to_list() == [date(2024, 1, 31), date(2024, 2, 3)]
    keys = pl.read_parquet(tmp_path / "out" / "keys" / "customer.parquet")
    assert keys.rows() == [(1, "C7")]
    (left,) = said(tmp_path / "out", "left_out")
    assert (left["rows"], left["n_of"], left["first"]) == (1, 3, "3")


def test_encodings_are_stated_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not in the encoding 'utf-8': byte 0 is 0xca"):
        take(tmp_path, encoding="cp1251")
    stated = MAPPING.replace('separator = ";"', 'separator = ";"\nencoding = "cp1251"')
    assert take(tmp_path, stated, encoding="cp1251").height == 2
    with_mark = "\ufeff" + EXPORT
    assert take(tmp_path, export=with_mark).height == 2


def test_text_that_looks_like_a_formula_stays_text(tmp_path: Path) -> None:
    wicked = EXPORT.replace("C7", "=cmd|' /C calc'!A0").replace("C2", "{customer_id}")
    mapping = MAPPING.replace('kind = { value = "car" }', 'note = { from = "Клиент" }')
    table = take(tmp_path, mapping, wicked)
    assert table["note"].to_list() == ["=cmd|' /C calc'!A0"] * 2
    report = intake_report(Opened(json.loads((tmp_path / "out/manifest.json").read_text("utf-8"))))
    assert report.to_html()


def test_case_and_blanks_of_mapped_values_do_not_matter(tmp_path: Path) -> None:
    export = (
        "Клиент;Дата;Сумма;Вид\nA;01.02.2024;1; Авто\nB;02.02.2024;2;АВТО\nC;03.02.2024;3;сервис\n"
    )
    kinds = 'kind = { from = "Вид", values = { "авто" = "car", "сервис" = "service" } }'
    table = take(tmp_path, MAPPING.replace('kind = { value = "car" }', kinds), export)
    assert table["kind"].to_list() == ["car", "car", "service"]
    (ways,) = said(tmp_path / "out", "variants")
    assert ways["written"] == "'Авто', 'АВТО'"
    (around,) = said(tmp_path / "out", "blanks")
    assert around["rows"] == 1


def test_parquet_keeps_its_dates(tmp_path: Path) -> None:
    frame = pl.DataFrame({"who": ["a"], "day": [date(2024, 1, 2)], "sum": [5]})
    frame.write_parquet(tmp_path / "sales.parquet")
    mapping = MAPPING.replace("sales.csv", "sales.parquet").replace(', format = "%d.%m.%Y"', "")
    mapping = mapping.replace("Клиент", "who").replace("Дата", "day").replace("Сумма", "sum")
    table = take(tmp_path, mapping)
    assert table["happened_on"].to_list() == [date(2024, 1, 2)]


def test_moments_keep_their_time_of_day(tmp_path: Path) -> None:
    export = "id;when\nx;31.12.2023 14:05\n"
    events = """
[tables.lead_events]
source = "sales"
[tables.lead_events.columns]
opportunity_id = { from = "id", recode = "lead" }
dealership_id = { value = 1 }
dealership = { value = "Ours" }
seq = { value = 1 }
stage = { value = "visit" }
happened_at = { from = "when", format = "%d.%m.%Y %H:%M" }
opened_at = { from = "when", format = "%d.%m.%Y %H:%M" }
employee_id = { value = 3 }
manager_id = { value = 3 }
manager = { value = "Ivanova" }
"""
    mapping = MAPPING[: MAPPING.index("[tables")] + events
    out = take_in(write_export(tmp_path, mapping, export), tmp_path / "out")
    (happened_at,) = read(out, "lead_events")["happened_at"]
    assert happened_at.isoformat() == "2023-12-31T14:05:00"
    assert not said(out, "no_time")


# --- bad mappings and bad exports are refused ---------------------------------------------------

BAD_MAPPINGS = {
    "unknown key": ('from = "Дата", format', 'from = "Дата", fromat', "did you mean 'format'"),
    "missing column": ('from = "Сумма" }\nkind', 'from = "Суммы" }\nkind', "did you mean 'Сумма'"),
    "unknown table": ("tables.purchases", "tables.purchase", "did you mean 'purchases'"),
    "no format": (', format = "%d.%m.%Y"', "", "Text is never guessed to be a date"),
    "wrong format": ("%d.%m.%Y", "%m.%d.%Y", "row 2 holds '31.01.2024'"),
    "two-figure years": ("%d.%m.%Y", "%d.%m.%y", "row 2 holds '31.01.2024'"),
    "unknown category": ('value = "car"', 'value = "kar"', "cannot stand in 'kind'"),
    "wrong type": ("value = 1 }", 'value = "one" }', "cannot stand in 'dealership_id'"),
    "no origin": ("dealership_id = { value = 1 }", "dealership_id = {}", "must say once"),
    "two origins": ("{ value = 1 }", '{ value = 1, from = "Дата" }', "must say once"),
    "nothing said": ("dealership_id = { value = 1 }\n", "", "says nothing of dealership_id"),
    "rule without reason": ('reason = "the sum is not known", ', "", "without a reason"),
    "rule without test": (', is = "missing"', "", "must ask one thing"),
    "unknown source": ('source = "sales"', 'source = "sale"', "did you mean 'sales'"),
    "no file": ("sales.csv", "sails.csv", "did you mean 'sales.csv'"),
    "spreadsheet": ("sales.csv", "sales.xlsx", "Save the sheet as CSV"),
    "no licence": ('licence = "internal"\n', "", "lacks 'licence'"),
    "date in quotes": ("as_of = 2024-06-30", 'as_of = "2024-06-30"', "must be date"),
    "wrong decimal": ('decimal = ","', 'decimal = "."', "row 2 holds '1 234,50'"),
    "unknown encoding": ('separator = ";"', 'encoding = "utf-9"', "does not exist"),
    "long separator": ('separator = ";"', 'separator = "; "', "must be one sign"),
    "unknown audit": (
        "[tables.purchases]\n",
        '[[audit]]\nkind = "weekday"\nsource = "sales"\n[tables.purchases]\n',
        "did you mean 'weekdays'",
    ),
    "unknown correction": (
        "[tables.purchases]\n",
        '[sources.sales.corrections]\n"Клиент" = { "C77" = "C7" }\n[tables.purchases]\n',
        "no row has it (did you mean 'C7'",
    ),
    "not toml": ("[tables.purchases]", "[tables.purchases", "is not TOML"),
}


@pytest.mark.parametrize("fault", BAD_MAPPINGS)
def test_a_bad_mapping_is_refused_with_what_to_do(fault: str, tmp_path: Path) -> None:
    before, after, message = BAD_MAPPINGS[fault]
    assert before in MAPPING
    with pytest.raises(InputError) as caught:
        take(tmp_path, MAPPING.replace(before, after))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


BAD_EXPORTS = {
    "empty": ("", "is empty"),
    "same name twice": ("Клиент;Дата;Дата\nA;01.02.2024;1\n", "more than one column 'Дата'"),
    "ragged": (EXPORT + "C1;05.02.2024;1;2;3\n", "cannot be read as a table"),
    "no customer": (EXPORT + ";05.02.2024;10\n", "must be filled in every row; it is empty in 1"),
    "not a number": (EXPORT + "C1;05.02.2024;much\n", "row 5 holds 'much'"),
    "infinite": (EXPORT + "C1;05.02.2024;inf\n", "row 5 holds 'inf'"),
}


@pytest.mark.parametrize("fault", BAD_EXPORTS)
def test_a_bad_export_is_refused_with_its_row(fault: str, tmp_path: Path) -> None:
    export, message = BAD_EXPORTS[fault]
    with pytest.raises(InputError) as caught:
        take(tmp_path, export=export)
    assert message in str(caught.value)


def test_an_unmapped_value_is_refused_or_said(tmp_path: Path) -> None:
    export = "Клиент;Дата;Сумма;Вид\nA;01.02.2024;1;Авто\nB;02.02.2024;2;Автo\n"
    kinds = 'kind = { from = "Вид", values = { "авто" = "car" } }'
    with pytest.raises(InputError, match=r"row 3 holds 'Автo'.*It names: авто"):
        take(tmp_path, MAPPING.replace('kind = { value = "car" }', kinds), export)
    lenient = kinds.replace("} }", '}, otherwise = "missing" }')
    table = take(tmp_path, MAPPING.replace('kind = { value = "car" }', lenient), export)
    assert table["kind"].to_list() == ["car", None]
    assert said(tmp_path / "out", "unmapped_missing")


def test_a_broken_rule_of_ours_is_refused_with_an_example(tmp_path: Path) -> None:
    export = "who;from;to\na;01.02.2024;01.01.2024\nb;01.02.2024;01.03.2024\n"
    spells = """
[tables.spells]
source = "sales"
[tables.spells.columns]
customer_id = { from = "who", recode = "customer" }
dealership_id = { value = 1 }
dealership = { value = "Ours" }
started_on = { from = "from", format = "%d.%m.%Y" }
ended_on = { from = "to", format = "%d.%m.%Y" }
"""
    mapping = MAPPING[: MAPPING.index("[tables")] + spells
    with pytest.raises(SchemaError, match="'ended_after_started' in 1 of 2 rows"):
        take(tmp_path, mapping, export)
    rule = (
        '[tables.spells]\nleave_out = [{ reason = "it ends before it starts", column = "to", '
        'earlier_than = "from", format = "%d.%m.%Y" }]'
    )
    path = write_export(tmp_path, mapping.replace("[tables.spells]", rule, 1), export)
    out = take_in(path, tmp_path / "out")
    assert read(out, "spells").height == 1
    assert said(out, "left_out")[0]["example"] == ", to = '01.01.2024'"


def test_a_lookup_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("who,town\nC7,X\nC7,Y\n", encoding="utf-8")
    join = """
[[sources.sales.join]]
source = "people"
key = "Клиент"
their_key = "who"
take = { town = "town" }

[sources.people]
file = "people.csv"

[tables.purchases]
"""
    with pytest.raises(InputError, match="to have each 'who' once"):
        take(tmp_path, MAPPING.replace("[tables.purchases]\n", join, 1))


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    keyed = MAPPING.replace('decimal = ","', 'decimal = ","\nkey = "Клиент"')
    with pytest.raises(InputError, match="1 of 3 rows repeat one, the first is row 4"):
        take(tmp_path, keyed)


def test_rows_that_repeat_a_key_are_left_out_by_a_rule(tmp_path: Path) -> None:
    rule = '{ reason = "entered twice", column = "Клиент", is = "repeated" }'
    table = take(tmp_path, MAPPING.replace("leave_out = [", f"leave_out = [{rule}, "))
    assert table["revenue"].to_list() == [1234.5]
    left = {item["reason"]: item["rows"] for item in said(tmp_path / "out", "left_out")}
    assert left == {"entered twice": 1, "the sum is not known": 1}


def test_a_file_split_at_the_wrong_sign_is_told_its_separator(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="read as one column: state its separator = ';'"):
        take(tmp_path, MAPPING.replace('separator = ";"', 'separator = "|"'))


def test_decimals_are_rounded_only_when_told(tmp_path: Path) -> None:
    export = "Клиент;Дата;Сумма;Бак\nA;01.02.2024;1;2,5\n"
    extra = 'litres = { from = "Бак", type = "integer" }\nkind = { value = "car" }'
    mapping = MAPPING.replace('kind = { value = "car" }', extra)
    with pytest.raises(InputError, match="row 2 holds '2,5'"):
        take(tmp_path, mapping, export)
    told = mapping.replace('type = "integer"', 'type = "integer", round = true')
    assert take(tmp_path, told, export)["litres"].to_list() == [2]
    assert said(tmp_path / "out", "rounded")


def test_personal_values_stay_out_of_messages(tmp_path: Path) -> None:
    export = "id;name;born\n1;Ivan Petrov;1.1.19x0\n"
    customers = """
[tables.customers]
source = "sales"
[tables.customers.columns]
customer_id = { from = "id" }
birth_on = { from = "born", format = "%d.%m.%Y" }
"""
    mapping = MAPPING[: MAPPING.index("[tables")] + customers
    with pytest.raises(InputError) as caught:
        take(tmp_path, mapping, export)
    assert "19x0" not in str(caught.value)
    assert "not shown" in str(caught.value)


def test_a_missing_column_of_an_export_is_a_column_error(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="It has: Клиент, Дата, Сумма"):
        take(tmp_path, MAPPING.replace('from = "Сумма"', 'from = "revenue"'))


# --- the audits can say no ----------------------------------------------------------------------


def test_a_whole_export_with_a_working_week_is_not_accused(tmp_path: Path) -> None:
    first = pl.date_range(date(2023, 1, 2), date(2023, 12, 29), "1d", eager=True)
    first = first.filter(first.dt.weekday() < 6)
    then = first.dt.offset_by("7d")
    pl.DataFrame(
        {"who": [f"c{i}" for i in range(len(first))], "first": first, "then": then, "sum": 1}
    ).write_parquet(tmp_path / "sales.parquet")
    mapping = MAPPING.replace("sales.csv", "sales.parquet").replace(', format = "%d.%m.%Y"', "")
    mapping = mapping.replace("Клиент", "who").replace("Дата", "first").replace("Сумма", "sum")
    audits = "".join(
        f'[[audit]]\nkind = "{kind}"\nsource = "sales"\nfirst = "first"\nthen = "then"\n'
        'format = "%Y-%m-%d"\n'
        for kind in ("starts_late", "stale")
    )
    audits += (
        '[[audit]]\nkind = "weekdays"\nsource = "sales"\ncolumn = "first"\nformat = "%Y"\n'
        '[[audit]]\nkind = "not_positive"\nsource = "sales"\ncolumn = "sum"\n'
        '[[audit]]\nkind = "same"\nsource = "sales"\ncolumns = ["who"]\n'
        '[[audit]]\nkind = "capped"\nsource = "sales"\ncolumn = "sum"\n'
    )
    take(tmp_path, mapping + audits)
    codes = {item["code"] for item in report_of(tmp_path / "out")["findings"]}
    assert {
        "starts_whole",
        "fresh",
        "working_week",
        "positive",
        "all_differ",
        "not_capped",
    } <= codes
    assert report_of(tmp_path / "out")["cautions"] == []


# --- the command --------------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crm_analysis.intake", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT
    )


def test_the_command_takes_in_a_folder_of_mappings_once(tmp_path: Path) -> None:
    mappings = tmp_path / "mappings"
    mappings.mkdir()
    write_export(mappings)
    done = run("--all", mappings, "--out", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "own" / "purchases.parquet").exists()
    again = run("--all", mappings, "--out", tmp_path / "data")
    assert "is up to date" in again.stdout
    both = run(mappings / "own.toml", "--all", mappings, "--out", tmp_path / "data")
    assert both.returncode == 2
    assert "not both" in both.stderr


def test_the_command_says_what_is_wrong_in_words(tmp_path: Path) -> None:
    mapping = write_export(tmp_path, MAPPING.replace("format =", "fromat ="))
    done = run(mapping, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "did you mean 'format'" in done.stderr
    assert "Traceback" not in done.stderr


# --- the mapping's own page, and any text at all ------------------------------------------------


def test_the_page_about_mappings_names_every_key_and_audit() -> None:
    from crm_analysis.intake import mapping

    page = (MAPPINGS / "README.md").read_text(encoding="utf-8")
    tables = (
        mapping._OF_FILE,
        mapping._OF_SOURCE,
        mapping._OF_JOIN,
        mapping._OF_TABLE,
        mapping._OF_PART,
        mapping._OF_COLUMN,
        mapping._OF_CONDITION,
        mapping.AUDITS,
    )
    keys = {key for table in tables for key in table} - {
        "sources",
        "tables",
        "audit",
        "caution",
        "join",
    }
    assert [key for key in sorted(keys) if f"`{key}" not in page and f"{key}`" not in page] == []
    assert all(f"[{name}." in page for name in ("sources", "tables"))
    assert all(f"[[{name}]]" in page for name in ("audit", "caution"))


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5))
def test_any_text_is_taken_in_or_refused_in_words(rows: list[tuple[str, str, str]]) -> None:
    table = pl.DataFrame(rows, schema=["Клиент", "Дата", "Сумма"], orient="row")
    export = table.cast(pl.String).write_csv(separator=";")
    with tempfile.TemporaryDirectory() as name:
        try:
            n = take(Path(name), export=export).height
        except CrmError:
            n = 0
    assert n <= len(rows)
