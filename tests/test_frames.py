"""The door for tables: what it lets in, what it refuses and how it says so, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis.errors import ColumnError, CrmError, InputError
from crm_analysis.frames import (
    Asked,
    Kind,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    keys_of,
    open_table,
    require_columns,
)

ToBackend = Callable[[pl.DataFrame], Any]

DAY = date(2024, 2, 29)
MOMENT = datetime.fromisoformat("2024-02-29 13:30:05")
DAY_NUMBER = (DAY - date(1970, 1, 1)).days
SECOND = DAY_NUMBER * 86_400 + 13 * 3600 + 30 * 60 + 5


def asked(column: str, kind: Kind, *, nullable: bool = True) -> dict[str, Asked]:
    return {"it": Asked(column, kind, f"{column}_col", nullable=nullable)}


def read(table: Any, column: str, kind: Kind, *, nullable: bool = True) -> list[Any]:
    return collect(open_table(table, asked(column, kind, nullable=nullable)))["it"].to_list()


# --- what comes in -------------------------------------------------------------------------------


def some_visits() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "visit_id": [1, 2, 3, 4],
            "on": [DAY, date(1969, 12, 31), None, date(2100, 3, 1)],
            "at": [MOMENT, None, MOMENT + timedelta(days=1), MOMENT],
            "score": [9.5, None, 0.0, -1.0],
            "count": [1, 2, None, 4],
            "paid": [True, False, None, True],
            "source": ["web", None, "walk-in", "web"],
            "net": ["a", "a", "b", None],
        }
    )


def test_every_backend_gives_equal_columns(backend: ToBackend) -> None:
    table = some_visits()
    columns = {
        "id": Asked("visit_id", "key", "id_col"),
        "day": Asked("on", "date", "on_col", nullable=True),
        "day_of_moment": Asked("at", "date", "at_col", nullable=True),
        "second": Asked("at", "moment", "at_col", nullable=True),
        "midnight": Asked("on", "moment", "on_col", nullable=True),
        "score": Asked("score", "number", "score_col", nullable=True),
        "count": Asked("count", "number", "count_col", nullable=True),
        "source": Asked("source", "text", "source_col", nullable=True),
    }
    found = collect(open_table(backend(table), columns, by=["net"]), by=["net"], order=["id"])
    expected = collect(open_table(table, columns, by=["net"]), by=["net"], order=["id"])
    assert_frame_equal(found, expected)
    assert expected["net"].to_list() == ["a", "a", "b", None]
    assert expected["id"].to_list() == [1, 2, 3, 4]
    assert expected["day"].to_list() == [DAY_NUMBER, -1, None, 47541]
    assert expected["second"].to_list()[0] == SECOND
    assert expected["midnight"].to_list()[0] == DAY_NUMBER * 86_400
    assert expected["count"].dtype == pl.Float64


def test_a_flag_is_let_in_on_every_backend(backend: ToBackend) -> None:
    # pandas keeps true, false and null as objects: there the flag must be filled.
    table = some_visits().drop_nulls("paid")
    assert read(backend(table), "paid", "flag") == [True, False, True]


def test_what_is_not_a_number_becomes_null(backend: ToBackend) -> None:
    table = pl.DataFrame({"i": [1, 2, 3], "score": [1.0, float("nan"), None]})
    columns = {"i": Asked("i", "key", "i_col"), **asked("score", "number")}
    assert collect(open_table(backend(table), columns), order=["i"])["it"].to_list() == [
        1,
        None,
        None,
    ]


def test_what_is_not_a_number_does_not_count_as_filled() -> None:
    """A float that is not a number is as good as null, so it needs a nullable column."""
    table = pl.DataFrame({"score": [1.0, float("nan")]})
    assert read(table, "score", "number") == [1.0, None]


def test_a_time_zone_keeps_its_wall_clock() -> None:
    moments = pl.Series(
        "at", [datetime.fromisoformat("2024-02-29T23:30:00+03:00")]
    ).dt.convert_time_zone("Europe/Moscow")
    assert read(moments.to_frame(), "at", "date") == [DAY_NUMBER]
    assert read(moments.to_frame(), "at", "moment") == [DAY_NUMBER * 86_400 + 23 * 3600 + 1800]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_moments_of_any_precision(unit: Any) -> None:
    table = pl.DataFrame({"at": [MOMENT]}, schema={"at": pl.Datetime(unit)})
    assert read(table, "at", "moment") == [SECOND]


def test_narwhals_frames_come_in_too() -> None:
    table = pl.DataFrame({"score": [1, 2]})
    assert read(nw.from_native(table), "score", "number") == [1.0, 2.0]
    assert read(nw.from_native(table.lazy()), "score", "number") == [1.0, 2.0]


def test_small_integers_do_not_overflow() -> None:
    table = pl.DataFrame({"count": pl.Series([120, 120], dtype=pl.Int8)})
    frame = open_table(table, asked("count", "number")).select(nw.col("it").sum())
    assert collect(frame)["it"].to_list() == [240.0]


def test_a_group_cannot_hide_a_column_of_the_metric() -> None:
    table = pl.DataFrame({"it": ["x", "y"], "score": [1, 2]})
    found = collect(open_table(table, asked("score", "number"), by=["it"]).rename({"it": "value"}),
                    by=["it"])  # fmt: skip
    assert found.to_dict(as_series=False) == {"value": [1.0, 2.0], "it": ["x", "y"]}


def test_the_table_is_left_as_it_was() -> None:
    table = some_visits()
    before = table.clone()
    open_table(table, asked("score", "number"), by=["net"]).collect()
    assert_frame_equal(table, before)


# --- what is refused -----------------------------------------------------------------------------


def test_a_missing_column_is_named_with_a_guess_and_a_way_out(backend: ToBackend) -> None:
    table = backend(pl.DataFrame({"end_on": [DAY], "dealer": ["A"]}))
    with pytest.raises(ColumnError) as caught:
        open_table(table, {"end": Asked("ended_on", "date", "end_col")})
    said = str(caught.value)
    assert "no column 'ended_on' (did you mean 'end_on'?)" in said
    assert "It has: dealer, end_on." in said
    assert "'end_col' argument" in said


def test_a_missing_group_is_named() -> None:
    with pytest.raises(ColumnError, match=r"'dealers' \(did you mean 'dealer'\?\).*in 'by'"):
        open_table(pl.DataFrame({"dealer": ["A"]}), {}, by=["dealers"])


def test_require_columns_without_a_likeness() -> None:
    require_columns(["a"], {"a": "a_col"})
    with pytest.raises(ColumnError) as caught:
        require_columns(["a"], {"zzz": "z_col"})
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        (["2024-02-29"], "date", "Text is never guessed to be a date"),
        (["2024-02-29 10:00"], "moment", "Text is never guessed to be a date"),
        ([20240229], "date", "must hold a date"),
        (["9"], "number", "must hold a number"),
        ([True], "number", "must hold a number"),
        ([1], "flag", "must hold true or false"),
        (["yes"], "flag", "must hold true or false"),
        ([timedelta(days=1)], "number", "must hold a number"),
    ],
)
def test_another_type_is_refused_with_the_one_found(
    values: list[Any], kind: Kind, said: str
) -> None:
    with pytest.raises(ColumnError, match=said) as caught:
        read(pl.DataFrame({"what": values}), "what", kind)
    assert "'what_col'" in str(caught.value)


def test_text_dates_are_refused_on_every_backend(backend: ToBackend) -> None:
    with pytest.raises(ColumnError, match="Text is never guessed"):
        read(backend(pl.DataFrame({"on": ["2024-02-29"]})), "on", "date")


def test_null_keys_are_counted(backend: ToBackend) -> None:
    table = backend(pl.DataFrame({"customer_id": [1, None, None]}))
    with pytest.raises(
        ColumnError, match="'customer_id' must be filled in every row; it is null in 2 of 3"
    ):
        read(table, "customer_id", "key", nullable=False)


def test_a_column_asked_for_twice_may_have_nulls_in_neither_place() -> None:
    table = pl.DataFrame({"on": [DAY, None]})
    columns = {"a": Asked("on", "date", "a_col", nullable=True), "b": Asked("on", "date", "b_col")}
    with pytest.raises(ColumnError, match="with 'b_col'"):
        open_table(table, columns)


@pytest.mark.parametrize("data", [None, 3, "deals.parquet", [1, 2], {"a": [1]}, object()])
def test_what_is_no_table_is_refused(data: object) -> None:
    with pytest.raises(InputError, match="A table was asked for"):
        open_table(data, {})


def test_one_column_is_no_table() -> None:
    with pytest.raises(InputError, match="A table was asked for"):
        open_table(pl.Series("a", [1]), {})


def test_an_empty_table_comes_in_empty(backend: ToBackend) -> None:
    table = pl.DataFrame({"on": [DAY], "score": [1.0]}).clear()
    columns = {"on": Asked("on", "date", "on_col"), "score": Asked("score", "number", "score_col")}
    assert collect(open_table(backend(table), columns)).shape == (0, 2)


# --- coming home ---------------------------------------------------------------------------------


def test_counts_come_home_as_plain_types_in_a_fixed_order(backend: ToBackend) -> None:
    table = pl.DataFrame({"net": ["b", "a", None, "b", "a"], "score": [1, 2, 3, 4, 5]})
    frame = open_table(backend(table), asked("score", "number"), by=["net"])
    counted = frame.group_by(*keys_of(["net"])).agg(
        nw.len().alias("n"), nw.col("it").sum().alias("total")
    )
    found = collect(counted, by=["net"])
    assert found["net"].to_list() == ["a", "b", None]
    assert found["n"].to_list() == [2, 2, 1]
    assert found["total"].to_list() == [7.0, 5.0, 3.0]
    assert found.schema["n"] == pl.Int64
    assert found.schema["total"] == pl.Float64


def test_decimals_without_decimals_are_whole_numbers() -> None:
    import duckdb

    with duckdb.connect() as connection:
        table = connection.sql(
            "select 3::decimal(38, 0) as n, 1.50::decimal(10, 2) as price, 7::hugeint as big"
        )
        found = collect(nw.from_native(table))
    assert found.schema == {"n": pl.Int64, "price": pl.Float64, "big": pl.Int64}
    assert found.row(0) == (3, 1.5, 7)


def test_categories_come_home_in_the_same_order_from_every_backend(backend: ToBackend) -> None:
    kinds = pl.Enum(["service", "sales"])  # not in the order of the alphabet
    table = pl.DataFrame(
        {"kind": pl.Series(["sales", "service", "sales"], dtype=kinds), "x": [1, 2, 3]}
    )
    counted = (
        open_table(backend(table), asked("x", "number"), by=["kind"])
        .group_by("by_kind")
        .agg(nw.len().alias("n"))
    )
    assert collect(counted, by=["kind"])["kind"].cast(pl.String).to_list() == ["sales", "service"]


# --- arguments -----------------------------------------------------------------------------------


def test_groups_are_named_once() -> None:
    assert group_names("dealership") == ("dealership",)
    assert group_names(()) == ()
    assert group_names(["a", "b"]) == ("a", "b")
    with pytest.raises(InputError, match="with a more than once"):
        group_names(["a", "b", "a"])


def test_as_of_is_a_day() -> None:
    assert check_as_of(DAY) == DAY
    assert check_as_of(MOMENT) == DAY
    assert type(check_as_of(MOMENT)) is date
    for wrong in ("2024-02-29", None, 20240229):
        with pytest.raises(InputError, match=r"as_of=date\(2026, 6, 30\)"):
            check_as_of(wrong)


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, float("nan")])
def test_a_level_lies_between_nought_and_one(level: float) -> None:
    with pytest.raises(InputError, match=r"Pass 0\.95"):
        check_conf_level(level)


def test_a_level_that_is_one() -> None:
    assert check_conf_level(0.9) == 0.9


def test_one_of_some_words() -> None:
    assert check_one_of("unit", "month", ["day", "month"]) == "month"
    with pytest.raises(
        InputError, match=r"'unit' was given as 'months' \(did you mean 'month'\?\)"
    ):
        check_one_of("unit", "months", ["day", "month"])


def test_every_refusal_is_one_of_ours() -> None:
    assert issubclass(ColumnError, InputError)
    assert issubclass(InputError, CrmError)
    assert issubclass(InputError, ValueError)
