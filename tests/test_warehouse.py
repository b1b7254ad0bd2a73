"""The loading door: what it opens, what it refuses and how it says so, and the views it derives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis import remembered, schema
from crm_analysis.errors import ColumnError, InputError, SchemaError
from crm_analysis.schema import TABLES, VIEWS
from crm_analysis.warehouse import Warehouse, checks, open_warehouse
from crm_analysis.warehouse.sources import Source

VIEW_NAMES = tuple(VIEWS)
Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture
def copy(tiny_network: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny network that a test may break."""
    return Path(shutil.copytree(tiny_network, tmp_path / "copy"))


def _change(folder: Path, table: str, change: Change) -> None:
    path = folder / f"{table}.parquet"
    change(pl.read_parquet(path)).write_parquet(path)


def _first(column: str, value: object) -> Change:
    """Return a change that sets a column's first value."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        at = pl.int_range(pl.len()) == 0
        new = pl.lit(value).cast(table.schema[column])
        return table.with_columns(pl.when(at).then(new).otherwise(column).alias(column))

    return change


def _refusal(folder: Path, error: type[Exception] = SchemaError) -> str:
    with pytest.raises(error) as caught:
        open_warehouse(folder)
    return str(caught.value)


# --- opening -------------------------------------------------------------------------------------


def test_a_generated_network_opens_with_its_facts(tiny_network: Path) -> None:
    warehouse = open_warehouse(tiny_network)
    assert warehouse.as_of == date(2025, 12, 31)
    assert warehouse.currency == "USD"
    assert warehouse.manifest["seed"] == 1
    assert warehouse.tables == tuple(TABLES)
    assert len(warehouse.dealerships()) == 3


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_lazy_and_fit_their_schema(tiny_network: Path, name: str) -> None:
    table = open_warehouse(tiny_network).table(name)
    assert isinstance(table, pl.LazyFrame)
    assert TABLES[name].is_valid(table.collect())


@pytest.mark.parametrize("name", VIEW_NAMES)
def test_views_are_lazy_and_fit_their_schema(tiny_network: Path, name: str) -> None:
    view = getattr(open_warehouse(tiny_network), name)()
    assert isinstance(view, pl.LazyFrame)
    found = view.collect()
    assert found.height > 0
    VIEWS[name].validate(found)


def test_a_relative_path_is_found_from_the_projects_root(
    tiny_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    shutil.copytree(tiny_network, tmp_path / "data")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert open_warehouse("data").path == (tmp_path / "data").resolve()


def test_data_that_are_not_there_say_where_was_looked(tmp_path: Path) -> None:
    message = _refusal(tmp_path / "nowhere", InputError)
    assert "nowhere" in message
    assert "python -m synthetic generate" in message


def test_a_folder_of_something_else_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    message = _refusal(tmp_path, InputError)
    assert "notes.txt" in message
    assert "deals.parquet" in message


def test_a_file_that_is_not_duckdb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.duckdb").write_text(
        "not a database, though it is long enough to be looked at"
    )
    assert "DuckDB" in _refusal(tmp_path / "data.duckdb", InputError)
    (tmp_path / "data.csv").write_text("a,b")
    assert ".csv" in _refusal(tmp_path / "data.csv", InputError)


def test_a_broken_manifest_is_said(copy: Path) -> None:
    (copy / "manifest.json").write_text("{")
    assert "not JSON" in _refusal(copy, InputError)
    (copy / "manifest.json").write_text('{"as_of": "yesterday"}')
    assert "'yesterday'" in _refusal(copy, InputError)


def test_without_a_manifest_as_of_is_the_latest_event(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    warehouse = open_warehouse(copy)
    assert date(2025, 12, 20) <= warehouse.as_of <= date(2025, 12, 31)
    assert warehouse.currency is None


# --- one dealership ------------------------------------------------------------------------------


def test_a_dealership_is_found_by_name_and_by_id(tiny_network: Path) -> None:
    name = open_warehouse(tiny_network).dealerships()[1]
    by_name = open_warehouse(tiny_network, dealership=name)
    by_id = open_warehouse(tiny_network, dealership="2")
    assert by_name.dealership == by_id.dealership == name
    assert by_name.dealerships() == [name]


def test_dealerships_divide_every_table_and_view(tiny_network: Path) -> None:
    whole = open_warehouse(tiny_network)
    parts = [open_warehouse(tiny_network, dealership=name) for name in whole.dealerships()]

    def rows(read: Callable[[Warehouse], pl.LazyFrame]) -> tuple[int, int]:
        total = sum(read(part).collect().height for part in parts)
        return read(whole).collect().height, total

    for name in set(TABLES) - {"models", "model_prices", "survey_questions"}:
        all_rows, parted = rows(lambda warehouse, name=name: warehouse.table(name))  # type: ignore[misc]
        assert all_rows == parted, name
    for name in VIEW_NAMES:
        all_rows, parted = rows(lambda warehouse, name=name: getattr(warehouse, name)())  # type: ignore[misc]
        assert all_rows == parted, name


def test_an_unknown_dealership_is_answered_with_the_list(tiny_network: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'Riverside Motors'.*Northgate Auto"):
        open_warehouse(tiny_network, dealership="Riverside Motor")


def test_a_dealership_without_rows_gives_empty_tables(copy: Path) -> None:
    def add(table: pl.DataFrame) -> pl.DataFrame:
        new = table.head(1).with_columns(
            pl.lit(99, dtype=pl.Int64).alias("dealership_id"), pl.lit("Quiet Cars").alias("name")
        )
        return pl.concat([table, new])

    _change(copy, "dealerships", add)
    quiet = open_warehouse(copy, dealership="Quiet Cars")
    assert quiet.table("deals").collect().is_empty()
    for name in VIEW_NAMES:
        found = getattr(quiet, name)().collect()
        assert found.is_empty()
        VIEWS[name].validate(found)


# --- what is refused -----------------------------------------------------------------------------


def test_a_missing_column_is_named_with_a_guess(copy: Path) -> None:
    _change(copy, "deals", lambda table: table.rename({"discount": "discnt"}))
    message = _refusal(copy, ColumnError)
    assert "'deals'" in message
    assert "'discount' (did you mean 'discnt'?)" in message


def test_a_wrong_type_is_named(copy: Path) -> None:
    _change(copy, "deals", lambda table: table.with_columns(pl.col("contract_on").cast(pl.String)))
    message = _refusal(copy, ColumnError)
    assert "contract_on" in message
    assert "Date" in message
    assert "String" in message


def test_a_broken_rule_says_which_how_many_and_an_example(copy: Path) -> None:
    row = pl.read_parquet(copy / "deals.parquet").row(0, named=True)
    _change(copy, "deals", _first("discount", row["list_price"] + 1))
    message = _refusal(copy)
    assert "discount_within_list_price" in message
    assert "1 row" in message
    assert f"deal_id = {row['deal_id']}" in message
    assert f"discount = {row['list_price'] + 1}" in message


def test_null_keys_are_refused(copy: Path) -> None:
    _change(copy, "deals", _first("customer_id", None))
    message = _refusal(copy)
    assert "customer_id: nullability" in message
    assert "customer_id = None" in message


def test_keys_used_twice_are_refused_with_their_number(copy: Path) -> None:
    _change(copy, "deals", lambda table: pl.concat([table, table.head(2)]))
    message = _refusal(copy)
    assert "primary_key" in message
    assert "4 rows" in message


def test_a_key_that_points_nowhere_is_refused(copy: Path) -> None:
    _change(copy, "stage_events", _first("employee_id", 987654))
    message = _refusal(copy)
    assert "employee_id is in employees" in message
    assert "employee_id = 987654" in message


def test_an_unknown_category_is_refused(copy: Path) -> None:
    def change(table: pl.DataFrame) -> pl.DataFrame:
        return _first("pay", "barter")(table.with_columns(pl.col("pay").cast(pl.String)))

    _change(copy, "deals", change)
    message = _refusal(copy)
    assert "pay is one of cash, credit, leasing" in message
    assert "pay = barter" in message


def test_a_score_outside_its_scale_is_refused(copy: Path) -> None:
    _change(copy, "survey_answers", _first("value", 11.0))
    message = _refusal(copy)
    assert "question's scale" in message
    assert "value = 11.0" in message


def test_an_example_never_shows_a_person(copy: Path) -> None:
    customers = pl.read_parquet(copy / "customers.parquet")
    named = customers.filter(pl.col("birth_on").is_not_null()).row(0, named=True)
    born = named["created_at"].date()

    def change(table: pl.DataFrame) -> pl.DataFrame:
        here = pl.col("customer_id") == named["customer_id"]
        return table.with_columns(
            pl.when(here).then(pl.lit(born)).otherwise("birth_on").alias("birth_on")
        )

    _change(copy, "customers", change)
    message = _refusal(copy)
    assert "born_before_created" in message
    assert "birth_on = (personal, not shown)" in message
    for column in ("last_name", "phone", "email"):
        assert named[column] is None or str(named[column]) not in message


def test_several_problems_are_told_at_once(copy: Path) -> None:
    _change(copy, "deals", _first("discount", 2_000_000_000))
    _change(copy, "service_orders", _first("mileage_km", -5))
    message = _refusal(copy)
    assert "discount_within_list_price" in message
    assert "mileage_km" in message


def test_a_broken_table_can_still_be_looked_at(copy: Path) -> None:
    _change(copy, "deals", _first("discount", 2_000_000_000))
    assert open_warehouse(copy, check=False).table("deals").collect().height > 0


def leave_out(folder: Path, *names: str) -> None:
    """Take tables away, and out of the manifest."""
    for name in names:
        (folder / f"{name}.parquet").unlink()
        forget(folder, name)


def forget(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["tables"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_missing_table_is_fine_until_asked_for(copy: Path) -> None:
    leave_out(copy, "surveys", "survey_answers")
    warehouse = open_warehouse(copy)
    assert warehouse.spells().collect().height > 0
    with pytest.raises(InputError, match=r"Table 'survey_answers'.*do not have it.*deals"):
        warehouse.scores().collect()
    with pytest.raises(InputError, match="did you mean 'deals'"):
        warehouse.table("deal")


def test_sales_alone_or_the_workshop_alone_make_spells(copy: Path) -> None:
    leave_out(copy, "service_orders", "vehicles", "models", "surveys", "survey_answers")
    warehouse = open_warehouse(copy)
    spells = warehouse.spells().collect()
    assert spells["started_kind"].unique().to_list() == ["car"]
    assert spells["brand"].null_count() == spells.height > 0
    assert warehouse.purchases().collect()["kind"].unique().to_list() == ["car"]
    leave_out(copy, "deals")
    with pytest.raises(InputError, match="'deals'"):
        open_warehouse(copy).spells()


def test_an_unknown_question_is_answered_with_the_list(tiny_network: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'nps'.*csat"):
        open_warehouse(tiny_network).scores("npss")


def test_where_no_question_is_asked_nobody_has_answered(tiny_network: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_network, tmp_path / "copy")
    for name in ("survey_questions", "survey_answers", "surveys"):
        file = copy / f"{name}.parquet"
        pl.read_parquet(file).clear().write_parquet(file)
    assert open_warehouse(copy).scores("nps").collect().is_empty()


@pytest.mark.parametrize("months", [0, -1, 1.5, True])
def test_inactive_months_is_a_whole_number(tiny_network: Path, months: int) -> None:
    with pytest.raises(InputError, match="inactive_months"):
        open_warehouse(tiny_network).spells(inactive_months=months)


# --- checked once --------------------------------------------------------------------------------


def test_the_same_files_are_not_checked_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / ".checked.json").unlink(missing_ok=True)
    calls: list[Path] = []
    real = checks.find_problems

    def counted(source: Source) -> list[str]:
        calls.append(source.path)
        return real(source)

    monkeypatch.setattr(checks, "find_problems", counted)
    open_warehouse(copy)
    open_warehouse(copy)
    assert len(calls) == 1
    _change(copy, "deals", lambda table: table.head(table.height))
    open_warehouse(copy)
    assert len(calls) == 2
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"seed": 2}))
    open_warehouse(copy)
    assert len(calls) == 3


def test_a_folder_that_cannot_be_written_to_is_checked_again(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / ".checked.json").unlink(missing_ok=True)

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    assert open_warehouse(copy).table("deals").collect().height > 0
    assert not (copy / ".checked.json").exists()


def test_a_broken_table_is_not_remembered_as_passed(copy: Path) -> None:
    (copy / ".checked.json").unlink(missing_ok=True)
    _change(copy, "deals", _first("discount", 2_000_000_000))
    _refusal(copy)
    _refusal(copy)


# --- DuckDB and a user's own files ---------------------------------------------------------------


@pytest.fixture
def database(tiny_network: Path, tmp_path: Path) -> Path:
    """Return the tiny network as one DuckDB file with its manifest beside it."""
    path = tmp_path / "network.duckdb"
    with duckdb.connect(str(path)) as connection:
        for name in TABLES:
            file = str(tiny_network / f"{name}.parquet")
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM read_parquet(?)", [file])
    shutil.copy(tiny_network / "manifest.json", path.with_suffix(".json"))
    return path


def test_a_duckdb_file_opens_equal_to_the_folder(database: Path, tiny_network: Path) -> None:
    ours, folder = open_warehouse(database), open_warehouse(tiny_network)
    assert ours.as_of == folder.as_of
    for name, table in TABLES.items():
        key = table.primary_key()
        assert_frame_equal(
            ours.table(name).collect().sort(key), folder.table(name).collect().sort(key)
        )
    for name in VIEW_NAMES:
        left, right = (getattr(warehouse, name)().collect() for warehouse in (ours, folder))
        assert_frame_equal(left, right, check_row_order=False)


def test_parts_in_a_folder_and_plain_types_are_read(copy: Path) -> None:
    deals = pl.read_parquet(copy / "deals.parquet")
    (copy / "deals.parquet").unlink()
    (copy / "deals").mkdir()
    plain = deals.with_columns(pl.col("pay").cast(pl.String), pl.col("discount").cast(pl.Int64))
    plain.head(10).write_parquet(copy / "deals" / "a.parquet")
    plain.slice(10).with_columns(own=pl.lit(1)).drop("own").write_parquet(
        copy / "deals" / "b.parquet"
    )
    assert_frame_equal(open_warehouse(copy).table("deals").collect(), deals)


# --- spells --------------------------------------------------------------------------------------


def _visits(tmp_path: Path, days: dict[int, list[date]], as_of: date) -> Warehouse:
    """Return a warehouse of nothing but service visits on given days by customer."""
    rows = [(customer, day) for customer, found in days.items() for day in found]
    n = len(rows)
    opened = [datetime.fromisoformat(f"{day}T10:00") for _, day in rows]
    frames: dict[str, dict[str, Any]] = {
        "dealerships": {"dealership_id": [1], "network": ["N"], "name": ["D"], "region": ["R"],
                        "city": ["C"], "brand_group": ["B"], "opened_on": [date(2000, 1, 1)],
                        "sales_seats": [1], "service_bays": [1]},
        "models": {"model_id": [1], "brand": ["Brand"], "model": ["M"], "segment": ["S"],
                   "body": ["B"], "drive": ["D"], "list_price": [1], "warranty_months": [36],
                   "warranty_km": [1], "service_interval_months": [12], "service_interval_km": [1]},
        "vehicles": {"vehicle_id": list(days), "vin": [f"{c:017d}" for c in days],
                     "model_id": [1] * len(days), "dealership_id": [1] * len(days),
                     "condition": ["used"] * len(days), "model_year": [2010] * len(days),
                     "arrived_on": [date(2010, 1, 1)] * len(days), "cost": [0] * len(days),
                     "list_price": [0] * len(days), "options_value": [0] * len(days),
                     "colour": ["white"] * len(days), "customer_id": list(days),
                     "sold_on": [None] * len(days)},
        "service_orders": {"service_order_id": range(n), "dealership_id": [1] * n,
                           "vehicle_id": [c for c, _ in rows], "customer_id": [c for c, _ in rows],
                           "advisor_id": [1] * n, "booked_at": opened, "opened_at": opened,
                           "closed_at": opened, "kind": ["scheduled"] * n,
                           "payer": ["customer"] * n,
                           "mileage_km": [1] * n, "labour": [10] * n, "parts": [10] * n,
                           "costs": [5] * n, "discount": [1] * n, "fixed_first_time": [True] * n,
                           "next_due_on": [None] * n, "next_due_km": [None] * n},
        "deals": {},
    }  # fmt: skip
    for name, columns in frames.items():
        types = {column: kind.dtype for column, kind in TABLES[name].columns().items()}
        frame = pl.DataFrame(columns or None, schema=types)
        frame.write_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "manifest.json").write_text(json.dumps({"as_of": as_of.isoformat()}))
    return open_warehouse(tmp_path)


def test_a_spell_ends_with_the_first_long_gap_and_not_before(tmp_path: Path) -> None:
    warehouse = _visits(
        tmp_path,
        {
            1: [date(2020, 1, 31), date(2020, 6, 1), date(2024, 1, 1)],  # left, and came back later
            2: [date(2020, 1, 1), date(2021, 7, 1)],  # back on the very last day: stayed, then left
            3: [date(2023, 8, 1)],  # open: eighteen months are not over
            4: [date(2023, 6, 30)],  # they are over on the last day itself
        },
        as_of=date(2024, 12, 30),
    )
    found = warehouse.spells(inactive_months=18).collect().sort("customer_id")
    assert found["started_on"].to_list() == [
        date(2020, 1, 31), date(2020, 1, 1), date(2023, 8, 1), date(2023, 6, 30),
    ]  # fmt: skip
    assert found["ended_on"].to_list() == [
        date(2021, 12, 1), date(2023, 1, 1), None, date(2024, 12, 30),
    ]  # fmt: skip
    assert found["brand"].unique().to_list() == ["Brand"]


def test_what_a_spell_says_by_a_day_depends_on_that_day_only(tiny_network: Path) -> None:
    """A stopping time: looking earlier gives the same endings up to then, and open spells after."""
    warehouse, earlier = open_warehouse(tiny_network), date(2024, 12, 31)
    late = warehouse.spells(inactive_months=6).collect()
    early = warehouse.spells(inactive_months=6, as_of=earlier).collect()
    expected = late.filter(pl.col("started_on") <= earlier).with_columns(
        pl.when(pl.col("ended_on") <= earlier).then("ended_on").alias("ended_on")
    )
    assert early["ended_on"].null_count() < early.height
    assert_frame_equal(early, expected, check_row_order=False)


def _slow_spells(warehouse: Warehouse, months: int) -> dict[int, tuple[date, date | None]]:
    """The definition as a loop that anyone can check by eye."""
    days: dict[int, list[date]] = {}
    deals = warehouse.table("deals").filter(pl.col("delivery_on").is_not_null()).collect()
    for row in deals.iter_rows(named=True):
        days.setdefault(row["customer_id"], []).append(row["delivery_on"])
    for row in warehouse.table("service_orders").collect().iter_rows(named=True):
        days.setdefault(row["customer_id"], []).append(row["opened_at"].date())
    found: dict[int, tuple[date, date | None]] = {}
    for customer, active in days.items():
        active.sort()
        ended = None
        for position, day in enumerate(active):
            lapsed = pl.Series([day]).dt.offset_by(f"{months}mo")[0]
            back = active[position + 1] if position + 1 < len(active) else None
            if (back is None or back > lapsed) and lapsed <= warehouse.as_of:
                ended = lapsed
                break
        found[customer] = (active[0], ended)
    return found


def test_spells_equal_a_slow_twin(tiny_network: Path) -> None:
    warehouse = open_warehouse(tiny_network)
    rows = warehouse.spells(inactive_months=9).collect().iter_rows(named=True)
    fast = {row["customer_id"]: (row["started_on"], row["ended_on"]) for row in rows}
    assert fast == _slow_spells(warehouse, 9)


def test_purchases_hold_every_delivery_and_closed_order(tiny_network: Path) -> None:
    warehouse = open_warehouse(tiny_network)
    purchases = warehouse.purchases().collect()
    deals = warehouse.table("deals").filter(pl.col("delivery_on").is_not_null()).collect()
    cars = purchases.filter(pl.col("kind") == "car")
    assert cars.height == deals.height
    paid = deals.select(pl.sum_horizontal("sale_price", "accessories", "fni_income").sum())
    assert cars["revenue"].sum() == paid.item()
    orders = warehouse.table("service_orders").collect()
    bill = orders.filter(pl.col("payer") != "internal", pl.col("closed_at").is_not_null())
    services = purchases.filter(pl.col("kind") == "service")
    expected = bill.select((pl.col("labour") + pl.col("parts") - pl.col("discount")).sum()).item()
    assert services["revenue"].sum() == expected


def test_scores_are_the_answers_to_one_question(tiny_network: Path) -> None:
    warehouse = open_warehouse(tiny_network)
    nps = warehouse.scores().collect()
    answers = warehouse.table("survey_answers").filter(pl.col("question_id") == 1).collect()
    assert nps.height == answers.height
    assert nps["score"].is_between(0, 10).all()


def test_the_schema_knows_every_view() -> None:
    assert set(VIEW_NAMES) == {name for name in dir(Warehouse) if name in VIEWS}
    assert schema.VIEWS is VIEWS


# --- the day, and what is missing ---------------------------------------------------------------


def test_the_day_is_the_datas_own_or_an_earlier_one(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    assert crm.day() == crm.day(None) == crm.as_of == date(2025, 12, 31)
    assert crm.day("2024-06-30") == date(2024, 6, 30)
    with pytest.raises(InputError, match=r"they cover no day after 2025-12-31"):
        crm.day("2040-01-01")
    with pytest.raises(InputError, match=r"'31\.12\.2025', which is not a day"):
        crm.day("31.12.2025")


def test_a_table_that_the_manifest_lists_must_be_there(tiny_network: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_network, tmp_path / "data")
    (folder / "deals.parquet").unlink()
    with pytest.raises(SchemaError, match="lists the tables deals, and they are not there"):
        open_warehouse(folder)
    forget(Path(folder), "deals")
    crm = open_warehouse(folder)
    assert crm.cautions == ("These data hold no sales: customers are known by their visits alone.",)
    assert open_warehouse(tiny_network).cautions == ()


def test_purchases_and_leads_can_be_limited(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    kinds = crm.purchases(kind="car").select("kind").unique().collect()
    assert kinds.to_series().to_list() == ["car"]
    with pytest.raises(InputError, match=r"did you mean 'car'\?"):
        crm.purchases(kind="cars")
    since = date(2025, 1, 1)
    opened = crm.lead_events(since=since).select(pl.col("opened_at").dt.date()).collect()
    assert opened.to_series().min() >= since  # type: ignore[operator]
    assert "18 months" in crm.spell_rule()
    assert "12 months" in crm.spell_rule(12)


def test_a_damaged_file_is_named(copy: Path) -> None:
    (copy / "deals.parquet").write_bytes(b"not a table")
    with pytest.raises(
        InputError, match="Table 'deals' was asked for, and its file cannot be read"
    ):
        open_warehouse(copy)


def test_a_view_read_once_is_given_to_the_next_report_of_the_same_files(copy: Path) -> None:
    remembered.stop()
    remembered.start()
    try:
        first = open_warehouse(copy)
        read = first.read(first.ledger())
        assert_frame_equal(
            read.sort(pl.all()), first.ledger().collect().sort(pl.all()), check_exact=True
        )
        again = open_warehouse(copy)
        # Whatever order a plan gives its rows in: the second reads none, and has the first's.
        assert_frame_equal(again.read(again.ledger()), read, check_exact=True)
        _change(copy, "contacts", lambda made: made.head(made.height // 2))
        changed = open_warehouse(copy)
        assert changed.read(changed.ledger()).height < read.height
    finally:
        remembered.stop()


@pytest.mark.parametrize("whose", ["network", "dealership"])
def test_the_ledger_has_its_rows_in_one_order(tiny_network: Path, whose: str) -> None:
    # Sums of amounts in another order differ in their last bit, and then so do reports.
    place = None if whose == "network" else open_warehouse(tiny_network).dealerships()[0]
    first, *others = (
        open_warehouse(tiny_network, dealership=place).ledger().collect() for _turn in range(5)
    )
    for other in others:
        assert_frame_equal(other, first, check_exact=True)
