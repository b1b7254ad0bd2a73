"""Defects: labels that say everything that is wrong, and give the clean tables back exactly."""

from __future__ import annotations

import hashlib
import math
from dataclasses import fields
from datetime import date, datetime, time, timedelta
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from crm_analysis import open_warehouse
from crm_analysis.errors import InputError, SchemaError
from crm_analysis.schema import FOREIGN_KEYS, TABLES
from synthetic import Network, make_network, repair, with_defects, write_network
from synthetic.config import DEFECT_LEVELS, DefectSettings
from synthetic.defects import misspelling
from synthetic.defects.cells import SLOTS, places
from synthetic.defects.labels import decoded, encoded, key_of, key_text
from synthetic.truth import TRUTH_TABLES, TruthDefect
from synthetic.vocabulary import LOCALES
from synthetic.writing import STAMP

Z = 4.0
"""Standard errors that a correct count stays within, but for one in fifteen thousand."""

LEVELS = DEFECT_LEVELS[1:]
SEEDS = (1, 2, 3)


@cache
def _clean(seed: int = 1, locale: str = "en_US") -> Network:
    return make_network(preset="tiny", seed=seed, locale=locale)


@cache
def _spoiled(level: str, seed: int = 1, locale: str = "en_US") -> Network:
    return with_defects(_clean(seed, locale), level)


def _table(network: Network, name: str) -> pl.DataFrame:
    return (network.tables if name in TABLES else network.truth)[name].collect()


@cache
def _labels(level: str, seed: int = 1, locale: str = "en_US") -> pl.DataFrame:
    return _table(_spoiled(level, seed, locale), "truth_defect")


def _cells(level: str, kind: str, table: str, seed: int = 1) -> pl.DataFrame:
    """Return the labels of one kind in one table, with the row's clean and spoiled values."""
    labels = _labels(level, seed).filter(pl.col("kind") == kind, pl.col("table") == table)
    clean = _table(_clean(seed), table).with_columns(key_text(table).alias("key"))
    spoiled = _table(_spoiled(level, seed), table).with_columns(key_text(table).alias("key"))
    return labels.join(clean, on="key").join(spoiled, on="key", suffix="_now")


# --- undoing the labels --------------------------------------------------------------------------


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("level", DEFECT_LEVELS)
def test_taking_the_labels_off_gives_the_clean_tables_exactly(level: str, locale: str) -> None:
    spoiled = _spoiled(level, 1, locale)
    again = repair(spoiled.tables, spoiled.truth["truth_defect"])
    assert set(again) == set(TABLES)
    for name in TABLES:
        assert_frame_equal(again[name].collect(), _table(_clean(1, locale), name), check_exact=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_does_so_whatever_the_seed(seed: int) -> None:
    spoiled = _spoiled("heavy", seed)
    again = repair(spoiled.tables, spoiled.truth["truth_defect"])
    assert all(again[name].collect().equals(_table(_clean(seed), name)) for name in TABLES)


def test_written_data_are_repaired_from_their_own_files(tmp_path: Path) -> None:
    write_network(tmp_path / "clean", preset="tiny", seed=4, n_customers=300)
    write_network(tmp_path / "spoiled", preset="tiny", seed=4, n_customers=300, defects="heavy")
    read = {name: pl.scan_parquet(tmp_path / "spoiled" / f"{name}.parquet") for name in TABLES}
    labels = pl.scan_parquet(tmp_path / "spoiled" / "truth" / "truth_defect.parquet")
    for name, frame in repair(read, labels).items():
        assert_frame_equal(frame.collect(), pl.read_parquet(tmp_path / "clean" / f"{name}.parquet"))


@pytest.mark.parametrize("level", LEVELS)
def test_every_difference_is_labelled_and_every_label_is_a_difference(level: str) -> None:
    """A slow twin: compare clean and spoiled tables cell by cell, without the plumbing."""
    added = _labels(level).filter(pl.col("change") == "added").select("table", "key")
    told = _labels(level).join(added.filter(pl.col("table") == "customers"), on=["table", "key"],
                               how="anti")  # fmt: skip
    found: set[tuple[str, str, str | None]] = set()
    for name in TABLES:
        key = key_of(name)
        clean, now = _table(_clean(), name), _table(_spoiled(level), name)
        for some, others in ((clean, now), (now, clean)):
            alone = some.join(others, on=key, how="anti").select(key_text(name)).to_series()
            found |= {(name, text, None) for text in alone}
        both = clean.join(now, on=key, suffix="_now").with_columns(key_text(name).alias("_key"))
        for column in set(clean.columns) - set(key):
            changed = both.filter(pl.col(column).ne_missing(pl.col(f"{column}_now")))
            found |= {(name, text, column) for text in changed["_key"]}
    rows_added = {("customers", text, None) for text in
                  added.filter(pl.col("table") == "customers")["key"]}  # fmt: skip
    assert found == set(told.select("table", "key", "column").iter_rows()) | rows_added


def test_a_cell_has_one_defect_and_a_removed_row_has_none() -> None:
    labels = _labels("heavy")
    assert labels.select("table", "key", "column").is_duplicated().sum() == 0
    removed = labels.filter(pl.col("change") == "removed").select("table", "key")
    others = labels.filter(pl.col("change") != "removed")
    assert others.join(removed, on=["table", "key"], how="semi").is_empty()


@pytest.mark.parametrize("level", LEVELS)
def test_labels_fit_their_schema(level: str) -> None:
    labels = TruthDefect.validate(_labels(level))
    change = labels["change"].cast(pl.String)
    assert labels.filter(change == "added")["true_value"].null_count() == (change == "added").sum()
    assert labels.filter((change == "changed") & pl.col("column").is_null()).is_empty()
    assert labels.filter((change != "changed") & pl.col("column").is_not_null()).is_empty()


# --- invariances ---------------------------------------------------------------------------------


def _names() -> list[str]:
    return [*TABLES, *TRUTH_TABLES]


def test_defects_are_the_same_whatever_the_block() -> None:
    whole = make_network(preset="tiny", seed=1, defects="heavy")
    blocks = make_network(preset="tiny", seed=1, defects="heavy", block_size=701)
    for name in _names():
        assert_frame_equal(_table(whole, name), _table(blocks, name))
        assert_frame_equal(_table(whole, name), _table(_spoiled("heavy"), name))


def test_defects_of_the_first_customers_are_those_of_a_smaller_run() -> None:
    few = with_defects(make_network(preset="tiny", seed=1, n_customers=700), "heavy")
    some = _table(few, "truth_defect")
    whole = _labels("heavy")
    assert some.height > 100
    assert some.join(whole, on=whole.columns, how="anti", nulls_equal=True).is_empty()
    first = whole.head(some.height)
    assert_frame_equal(some, first)


def _sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != STAMP
    }


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    write_network(tmp_path / "one", preset="tiny", seed=1, n_customers=600, defects="medium")
    write_network(
        tmp_path / "two", preset="tiny", seed=1, n_customers=600, defects="medium", block_size=251
    )
    write_network(tmp_path / "other", preset="tiny", seed=2, n_customers=600, defects="medium")
    one, two, other = (_sums(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one["truth/truth_defect.parquet"] != other["truth/truth_defect.parquet"]


@pytest.mark.parametrize(("lighter", "heavier"), [("light", "medium"), ("medium", "heavy")])
@pytest.mark.parametrize("locale", LOCALES)
def test_a_level_has_the_defects_of_the_level_below(
    lighter: str, heavier: str, locale: str
) -> None:
    few, many = _labels(lighter, 1, locale), _labels(heavier, 1, locale)
    assert 0 < few.height < many.height
    assert few.join(many, on=few.columns, how="anti", nulls_equal=True).is_empty()


def test_no_defects_leave_everything_as_it_was() -> None:
    none = with_defects(_clean(), "none")
    assert all(_table(none, name).equals(_table(_clean(), name)) for name in _names())
    assert _table(none, "truth_defect").is_empty()


def test_defects_leave_the_rest_of_the_truth_as_it_was() -> None:
    for name in TRUTH_TABLES:
        if name not in {"truth_customer", "truth_defect", "truth_params"}:
            assert _table(_spoiled("heavy"), name).equals(_table(_clean(), name))
    known = _table(_spoiled("heavy"), "truth_customer").filter(pl.col("duplicate_of").is_null())
    assert_frame_equal(known, _table(_clean(), "truth_customer"))
    params = dict(_table(_spoiled("heavy"), "truth_params").select("name", "value").iter_rows())
    assert params["defects"] == "heavy"
    assert params["defect_rates.duplicates"] == str(DefectSettings().duplicates)


# --- what is touched -----------------------------------------------------------------------------

KEYS_TOUCHED = {
    ("traffic", "customer_id"): {"orphan_key"},
    ("opportunities", "model_id"): {"orphan_key"},
    ("deals", "vehicle_id"): {"orphan_key"},
    ("service_orders", "vehicle_id"): {"orphan_key"},
    ("surveys", "employee_id"): {"orphan_key"},
    ("opportunities", "customer_id"): {"duplicate_history"},
    ("deals", "customer_id"): {"duplicate_history"},
    ("service_orders", "customer_id"): {"duplicate_history"},
    ("surveys", "customer_id"): {"duplicate_history"},
}


def test_no_defect_touches_a_key_it_should_not() -> None:
    """Primary keys never change, and foreign keys only where a kind of defect says so."""
    changed = _labels("heavy").filter(pl.col("change") == "changed")
    for (table, column), part in changed.group_by("table", "column"):
        name, place = str(table), str(column)
        assert place not in key_of(name)
        if place.endswith("_id"):
            followers = {"duplicate_history"} if place == "customer_id" else set()
            allowed = KEYS_TOUCHED.get((name, place), followers)
            assert set(part["kind"]) <= allowed, (name, place)
    fixed = {"dealerships", "employees", "models", "survey_questions", "vehicles"}
    assert not fixed & set(_labels("heavy")["table"])


def test_every_place_of_a_defect_is_in_the_schema() -> None:
    for table, column in SLOTS:
        assert column in TABLES[table].columns()
        assert column not in key_of(table)


def test_only_orphan_keys_point_nowhere() -> None:
    spoiled = _spoiled("heavy")
    told = _labels("heavy").filter(pl.col("kind") == "orphan_key")
    n_lost = 0
    for child, column, parent, key in FOREIGN_KEYS:
        known = _table(spoiled, parent).select(pl.col(key).alias(column)).unique()
        used = _table(spoiled, child).filter(pl.col(column).is_not_null())
        lost = used.join(known, on=column, how="anti").select(key_text(child).alias("key"))
        labelled = told.filter(pl.col("table") == child, pl.col("column") == column)
        assert set(lost["key"]) == set(labelled["key"]), (child, column)
        n_lost += lost.height
    assert n_lost == told.height > 0


# --- how many ------------------------------------------------------------------------------------


@cache
def _spared(seed: int) -> dict[str, pl.DataFrame]:
    """Return the clean tables without the rows that the heaviest level never enters."""
    gone = _labels("heavy", seed).filter(pl.col("change") == "removed")
    out = {}
    for name in TABLES:
        keys = gone.filter(pl.col("table") == name).select("key")
        frame = _table(_clean(seed), name).with_columns(key_text(name).alias("key"))
        out[name] = frame.join(keys, on="key", how="anti")
    return out


def _within(found: int, n: int, rate: float) -> bool:
    return n > 0 and abs(found - n * rate) <= Z * math.sqrt(n * rate * (1 - rate)) + 1


def _count(level: str, kind: str, place: tuple[str, str | None]) -> int:
    """Count labels over the seeds; cells of second records are not counted."""
    return sum(
        _labels(level, seed)
        .filter(
            pl.col("kind") == kind,
            pl.col("table") == place[0],
            pl.col("column").eq_missing(pl.lit(place[1])),
        )
        .height
        for seed in SEEDS
    )


RATE_OF = {
    (kind, place): slot.rate
    for place, slots in SLOTS.items()
    for slot in slots
    for kind in [slot.kind]
    if kind in {"missing_at_random", "shared_phone", "orphan_key", "wrong_unit"}
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("kind", "place"), RATE_OF)
def test_cells_go_wrong_as_often_as_asked(level: str, kind: str, place: tuple[str, str]) -> None:
    table, column = place
    n = 0
    for seed in SEEDS:
        values = _spared(seed)[table][column].drop_nulls()
        n += int((values > 0).sum()) if kind == "wrong_unit" else len(values)
    rate = DefectSettings().at(RATE_OF[kind, place], level)
    assert _within(_count(level, kind, place), n, rate)


@pytest.mark.parametrize("level", LEVELS)
def test_customers_are_entered_twice_as_often_as_asked(level: str) -> None:
    n = sum(_spared(seed)["customers"].height for seed in SEEDS)
    rates = DefectSettings()
    assert _within(
        _count(level, "duplicate", ("customers", None)), n, rates.at("duplicates", level)
    )
    tests = _count(level, "test_record", ("customers", None))
    assert _within(tests, n, rates.at("test_records", level))
    assert _count(level, "test_record", ("stage_events", None)) == 2 * tests


@pytest.mark.parametrize("level", LEVELS)
def test_records_are_late_or_never_entered_as_often_as_asked(level: str) -> None:
    rates = DefectSettings()
    for table, column in places("late_entry"):
        n = sum(len(_spared(seed)[table][column].drop_nulls()) for seed in SEEDS)
        assert _within(
            _count(level, "late_entry", (table, column)), n, rates.at("late_entry", level)
        )
    n_leads = n_nameless = 0
    for seed in SEEDS:
        leads, deals = _table(_clean(seed), "opportunities"), _table(_clean(seed), "deals")
        n_leads += leads.join(deals, on="opportunity_id", how="anti").height
        n_nameless += _table(_clean(seed), "traffic")["customer_id"].null_count()
    rate = rates.at("never_entered", level)
    assert _within(_count(level, "never_entered", ("opportunities", None)), n_leads, rate)
    nameless = sum(
        _labels(level, seed)
        .filter(
            pl.col("kind") == "never_entered", pl.col("table") == "traffic",
            pl.col("true_value").str.json_path_match("$.customer_id").is_null(),
        )
        .height
        for seed in SEEDS
    )  # fmt: skip
    assert _within(nameless, n_nameless, rate)


@pytest.mark.parametrize("level", LEVELS)
def test_stages_go_wrong_as_often_as_asked(level: str) -> None:
    pairs = later = 0
    for seed in SEEDS:
        events = _spared(seed)["stage_events"].filter(pl.col("seq") > 1)
        later += events["opportunity_id"].n_unique()
        changes = events.filter(
            pl.col("happened_at") != pl.col("happened_at").shift(-1).over("opportunity_id")
        )
        pairs += changes["opportunity_id"].n_unique()
    place = ("stage_events", "happened_at")
    rates = DefectSettings()
    swapped = _count(level, "wrong_stage_order", place)
    assert swapped % 2 == 0
    assert _within(swapped // 2, pairs, rates.at("wrong_stage_order", level))
    found = _count(level, "back_dated_stage", place)
    assert _within(found, later, rates.at("back_dated_stages", level))


@pytest.mark.parametrize("level", LEVELS)
def test_odometers_and_dates_go_wrong_as_often_as_asked(level: str) -> None:
    rates = DefectSettings()
    n = 0
    for seed in SEEDS:
        orders = _spared(seed)["service_orders"].sort("opened_at", "service_order_id")
        before = pl.col("mileage_km").shift().over("vehicle_id")
        n += orders.filter(before > 0).height
    found = _count(level, "mileage_roll_back", ("service_orders", "mileage_km"))
    assert _within(found, n, rates.at("mileage_roll_back", level))
    for table, column in places("swapped_date"):
        day = pl.col(column).dt
        other = (day.day() <= 12) & (day.day() != day.month())
        n = sum(_spared(seed)[table].filter(other).height for seed in SEEDS)
        found = _count(level, "swapped_date", (table, column))
        assert _within(found, n, rates.at("swapped_dates", level))


def test_rates_of_zero_leave_nothing_wrong() -> None:
    never = DefectSettings(**{part.name: (0.0, 0.0, 0.0) for part in fields(DefectSettings)})
    network = make_network(preset="tiny", seed=1, n_customers=200, defect_rates=never)
    spoiled = with_defects(network, "heavy")
    assert _table(spoiled, "truth_defect").is_empty()
    assert all(_table(spoiled, name).equals(_table(network, name)) for name in TABLES)


# --- what each kind is ---------------------------------------------------------------------------


def test_values_are_missing_more_where_they_say_more() -> None:
    gone = pl.concat([_cells("heavy", "missing_by_value", "customers", seed) for seed in SEEDS])
    bands = gone.filter(pl.col("column") == "income_band")["income_band"].cast(pl.String)
    all_bands = pl.concat(
        [_spared(seed)["customers"]["income_band"].drop_nulls().cast(pl.String) for seed in SEEDS]
    )
    shares = [
        int((bands == band).sum()) / int((all_bands == band).sum())
        for band in ("low", "middle", "high")
    ]
    assert shares[2] > 2 * max(shares[:2]) > 0


def test_an_exchanged_date_has_day_and_month_exchanged() -> None:
    for table, column in places("swapped_date"):
        rows = _cells("heavy", "swapped_date", table).filter(pl.col("column") == column)
        for old, new in rows.select(column, f"{column}_now").iter_rows():
            assert (old.year, old.day, old.month) == (new.year, new.month, new.day)
            assert old != new


def test_an_odometer_goes_back_behind_the_visit_before() -> None:
    rows = _cells("heavy", "mileage_roll_back", "service_orders")
    orders = _table(_clean(), "service_orders")
    assert rows.height > 0
    for row in rows.iter_rows(named=True):
        before = orders.filter(
            pl.col("vehicle_id") == row["vehicle_id"], pl.col("opened_at") < row["opened_at"]
        )
        assert 0 <= row["mileage_km_now"] < before["mileage_km"].to_list()[-1] <= row["mileage_km"]


def test_a_wrong_unit_is_a_thousand_times_too_much_or_too_little() -> None:
    for table in ("opportunities", "service_orders"):
        rows = _cells("heavy", "wrong_unit", table)
        old, new = rows["true_value"].cast(pl.Int64), rows["injected_value"].cast(pl.Int64)
        assert ((new == old * 1000) | ((new == old // 1000) & (old * 1000 > 2**31 - 1))).all()


def test_late_records_are_a_day_late_and_nothing_is_entered_after_the_end() -> None:
    end = datetime.combine(date(2026, 1, 1), time())
    for table, _ in places("late_entry"):
        rows = _cells("heavy", "late_entry", table)
        delay = rows["entered_at_now"] - rows["entered_at"]
        last = rows["entered_at_now"] == end - timedelta(minutes=1)
        assert rows.height > 0
        assert (last | (delay >= timedelta(days=1))).all()
        assert (rows["entered_at_now"] < end).all()
        assert (delay > timedelta(0)).all()


def test_stages_stand_in_the_wrong_order_or_too_early() -> None:
    events = _table(_spoiled("heavy"), "stage_events").sort("opportunity_id", "seq")
    before = pl.col("happened_at").shift().over("opportunity_id")
    backwards = set(events.filter(pl.col("happened_at") < before)["opportunity_id"])
    wrong = _cells("heavy", "wrong_stage_order", "stage_events")
    early = _cells("heavy", "back_dated_stage", "stage_events")
    assert set(wrong["opportunity_id"]) <= backwards
    assert backwards <= set(wrong["opportunity_id"]) | set(early["opportunity_id"])
    days = (early["happened_at"] - early["happened_at_now"]).dt.total_days()
    assert days.is_between(3, 30).all()


def test_shared_phones_are_shared() -> None:
    phones = _labels("heavy").filter(pl.col("kind") == "shared_phone")["injected_value"]
    assert len(phones) > 3 * phones.n_unique()
    assert phones.n_unique() <= 9


def test_what_was_never_entered_leaves_no_trace() -> None:
    removed = _labels("heavy").filter(pl.col("change") == "removed")
    for table in ("opportunities", "customers"):
        ids = removed.filter(pl.col("table") == table)["key"].cast(pl.Int64)
        key = key_of(table)[0]
        for name in TABLES:
            if key in TABLES[name].columns():
                now = _table(_spoiled("heavy"), name)
                assert now.filter(pl.col(key).is_in(ids.to_list())).is_empty()


# --- duplicates ----------------------------------------------------------------------------------


@cache
def _pairs(locale: str = "ru_RU") -> pl.DataFrame:
    """Return each second record beside the record it repeats, as they were entered."""
    spoiled = _spoiled("heavy", 1, locale)
    truth = _table(spoiled, "truth_customer").filter(pl.col("duplicate_of").is_not_null())
    second = _table(spoiled, "customers").join(
        truth.select("customer_id", "duplicate_of"), on="customer_id"
    )
    first = _table(_clean(1, locale), "customers")
    return second.join(first, left_on="duplicate_of", right_on="customer_id", suffix="_first")


@pytest.mark.parametrize("locale", LOCALES)
def test_a_second_record_is_the_same_person_in_other_words(locale: str) -> None:
    pairs = _pairs(locale)
    labels = _labels("heavy", 1, locale)
    assert pairs.height == (labels["kind"] == "duplicate").sum() > 100
    for column in ("birth_on", "gender", "dealership_id", "patronymic", "kind", "consent"):
        assert pairs[column].eq_missing(pairs[f"{column}_first"]).all()
    written = ("last_name", "first_name", "phone")
    other = [pl.col(name).ne_missing(pl.col(f"{name}_first")) for name in written]
    assert pairs.filter(~pl.any_horizontal(other)).is_empty()
    digits = [pl.col(name).str.replace_all(r"\D", "").str.slice(-10) for name in
              ("phone", "phone_first")]  # fmt: skip
    assert pairs.filter(digits[0] != digits[1]).is_empty()
    assert (pairs["created_at"] >= pairs["created_at_first"]).all()


def test_second_records_differ_in_every_way_that_people_find() -> None:
    kinds = set(_labels("heavy", 1, "ru_RU")["kind"])
    ways = ("typo", "yo", "look_alike", "swapped_names", "phone_format", "no_email", "history")
    assert {f"duplicate_{way}" for way in ways} <= kinds
    assert "duplicate_yo" not in set(_labels("heavy", 1, "en_US")["kind"])


def test_a_second_record_has_the_traits_of_the_first() -> None:
    truth = _table(_spoiled("heavy"), "truth_customer")
    second = truth.filter(pl.col("duplicate_of").is_not_null())
    both = second.join(truth, left_on="duplicate_of", right_on="customer_id", suffix="_first")
    assert both.height == second.height
    for column in set(truth.columns) - {"customer_id", "duplicate_of"}:
        assert both[column].eq_missing(both[f"{column}_first"]).all()


def test_a_deal_and_its_surveys_go_with_the_lead_to_the_second_record() -> None:
    spoiled = _spoiled("heavy")
    leads = _table(spoiled, "opportunities").select("opportunity_id", who="customer_id")
    deals = _table(spoiled, "deals").join(leads, on="opportunity_id")
    assert deals.filter(pl.col("who") != pl.col("customer_id")).is_empty()
    orders = _table(spoiled, "service_orders").select("service_order_id", who="customer_id")
    surveys = _table(spoiled, "surveys").join(orders, on="service_order_id")
    assert surveys.height > 0
    assert surveys.filter(pl.col("who") != pl.col("customer_id")).is_empty()
    moved = _labels("heavy").filter(pl.col("kind") == "duplicate_history")
    assert set(moved["table"]) >= {"opportunities", "service_orders", "surveys"}


@pytest.mark.parametrize(
    ("function", "name", "written"),
    [
        (misspelling.yo, "Королёва", "Королева"),
        (misspelling.yo, "Семенов", "Семенов"),
        (misspelling.yo, "Соловьев", "Соловьёв"),
        (lambda name: misspelling.look_alike(name, russian=True), "Иванов", "Ивaнов"),
        (lambda name: misspelling.look_alike(name, russian=False), "Diaz", "Diаz"),
        (lambda name: misspelling.look_alike(name, russian=False), "Flint", "Flint"),
    ],
)
def test_names_are_written_in_another_way(function: object, name: str, written: str) -> None:
    assert callable(function)
    assert pl.DataFrame({"name": [name]}).select(function(pl.col("name"))).item() == written


@given(
    name=st.text("абвгджизклмн", min_size=2, max_size=12), where=st.floats(0.001, 0.999),
    how=st.floats(0.001, 0.999),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_typo_is_one_slip_after_the_first_letter(name: str, where: float, how: float) -> None:
    slip = misspelling.typo(pl.col("name"), pl.lit(where), pl.lit(how))
    written = pl.DataFrame({"name": [name]}).select(slip).item()
    assert written != name
    assert written[0] == name[0]
    assert abs(len(written) - len(name)) <= 1


# --- text and back -------------------------------------------------------------------------------

MIDNIGHT = datetime.combine(date(1900, 1, 1), time())

VALUES = {
    pl.Int64(): st.integers(-(2**62), 2**62),
    pl.Int32(): st.integers(-(2**31), 2**31 - 1),
    pl.Float64(): st.floats(allow_nan=False, allow_infinity=False),
    pl.String(): st.text(st.characters(codec="utf-8")),
    pl.Boolean(): st.booleans(),
    pl.Date(): st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    pl.Datetime("us"): st.datetimes(MIDNIGHT, MIDNIGHT.replace(year=2100)),
    pl.Enum(["new", "lost"]): st.sampled_from(["new", "lost"]),
}


@pytest.mark.parametrize("dtype", VALUES, ids=str)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_value_read_back_from_its_text_is_the_same(
    dtype: pl.DataType, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.none() | VALUES[dtype], min_size=1, max_size=8))
    frame = pl.DataFrame({"value": pl.Series(values, dtype=dtype)})
    text = frame.select(encoded(pl.col("value"), dtype))
    assert text.schema["value"] == pl.String
    assert_frame_equal(text.select(decoded(pl.col("value"), dtype)), frame, check_exact=True)


# --- the loading door ----------------------------------------------------------------------------


def test_the_door_refuses_them_plainly_and_opens_them_unchecked(tmp_path: Path) -> None:
    folder = tmp_path / "heavy"
    write_network(folder, preset="tiny", seed=1, n_customers=800, defects="heavy")
    with pytest.raises(SchemaError, match="made with heavy defects on purpose") as caught:
        open_warehouse(folder)
    assert "entered_after_happened" in str(caught.value)
    assert "check=False" in str(caught.value)
    crm = open_warehouse(folder, check=False)
    assert crm.manifest["defects"] == "heavy"
    for name in TABLES:
        assert crm.table(name).collect().height > 0
    for view in (crm.spells, crm.purchases, crm.scores, crm.lead_events, crm.service_visits):
        assert view().collect().height > 0


def test_a_repaired_folder_passes_the_door(tmp_path: Path) -> None:
    spoiled = with_defects(make_network(preset="tiny", seed=1, n_customers=400), "heavy")
    for name, frame in repair(spoiled.tables, spoiled.truth["truth_defect"]).items():
        frame.collect().write_parquet(tmp_path / f"{name}.parquet")
    assert open_warehouse(tmp_path).table("customers").collect().height == 400


# --- bad input -----------------------------------------------------------------------------------


def test_an_unknown_level_is_refused_with_the_levels() -> None:
    with pytest.raises(InputError, match=r"did you mean 'heavy'.*none, light, medium, heavy"):
        with_defects(_clean(), "havy")
    with pytest.raises(InputError, match="the levels are"):
        make_network(preset="tiny", seed=1, defects="awful")


def test_defects_are_not_put_on_twice() -> None:
    with pytest.raises(InputError, match="has them already"):
        with_defects(_spoiled("light"), "heavy")


@pytest.mark.parametrize("rate", [(0.1, 0.05, 0.2), (0.1, 0.2), (0.1, 0.2, 0.9), (-0.1, 0.0, 0.1)])
def test_rates_that_fall_or_are_no_shares_are_refused(rate: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="three shares"):
        DefectSettings(duplicates=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_customers", [0, 1, 3])
def test_the_smallest_worlds_have_defects_too(n_customers: int) -> None:
    clean = make_network(preset="tiny", seed=1, n_customers=n_customers)
    spoiled = with_defects(clean, "heavy")
    again = repair(spoiled.tables, spoiled.truth["truth_defect"])
    assert all(again[name].collect().equals(_table(clean, name)) for name in TABLES)
