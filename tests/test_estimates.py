"""The one shape of an answer: what it refuses to hold, what it says, what it shows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from crm_analysis import blocks
from crm_analysis.errors import CrmError, InputError
from crm_analysis.estimates import (
    FIVE,
    SMALL_N,
    Estimates,
    definitions,
    findings,
    five_columns,
    group_label,
    key_figures,
    small_n_notes,
)
from crm_analysis.wording import speaking


def made(rows: list[tuple[Any, ...]], *, by: tuple[str, ...] = (), **arguments: Any) -> Estimates:
    """Make estimates from (groups…, n, estimate, std_error, conf_low, conf_high)."""
    schema: dict[str, Any] = dict.fromkeys(by, pl.String) | {"n": pl.Int64}
    schema |= dict.fromkeys(FIVE[1:], pl.Float64)
    table = pl.DataFrame(rows, schema=schema, orient="row")
    defaults = {"name": "Conversion", "unit": "share", "definition": "Won of all leads.", "by": by}
    return Estimates(table=table, **(defaults | arguments))


ONE = made([(40, 0.25, 0.07, 0.14, 0.40)])
THREE = made(
    [("A", 400, 0.25, 0.02, 0.21, 0.29), ("B", 100, 0.40, 0.05, 0.31, 0.50),
     ("C", 5, None, None, None, None)],
    by=("source",),
)  # fmt: skip


# --- what it shows ------------------------------------------------------------------------------


def test_one_number_needs_no_picture_and_its_row_stands_in_the_sentence() -> None:
    one, three = ONE.show(), THREE.show()
    assert one.figure is None
    assert "crm-numbers" in one.to_html()  # folded
    assert three.figure is not None
    assert made([], by=("source",)).show().table is None


# --- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize("column", range(1, 5))
def test_nan_is_refused_in_every_column(column: int) -> None:
    row: list[Any] = [40, 0.25, 0.07, 0.14, 0.40]
    row[column] = math.nan
    with pytest.raises(CrmError, match="NaN"):
        made([tuple(row)])


def test_nan_is_refused_in_a_column_of_the_metrics_own() -> None:
    table = ONE.table.with_columns(median=pl.lit(math.nan))
    with pytest.raises(CrmError, match="NaN"):
        Estimates(table=table, name="x", unit="share", definition="d")


@pytest.mark.parametrize("bounds", [(0.3, 0.4), (0.1, 0.2), (0.4, 0.1)])
def test_an_estimate_outside_its_interval_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(CrmError, match="outside its interval"):
        made([(40, 0.25, 0.07, *bounds)])


def test_rounding_is_not_outside() -> None:
    made([(40, 0.25, 0.07, 0.25 + 1e-12, 0.40)])
    made([(40, 1e9, 1.0, 0.0, 1e9 - 1e-3)])


@pytest.mark.parametrize("missing", [*FIVE, "source"])
def test_a_missing_column_is_refused(missing: str) -> None:
    with pytest.raises(CrmError, match=missing):
        Estimates(
            table=THREE.table.drop(missing), name="x", unit="share", definition="d", by=("source",)
        )


def test_nulls_are_welcome() -> None:
    assert made([(0, None, None, None, None)]).table["estimate"][0] is None
    assert made([(1, 0.5, None, None, None)]).table["estimate"][0] == 0.5


# --- what it says -------------------------------------------------------------------------------


def test_one_number_travels_with_its_interval_and_n() -> None:
    assert str(ONE) == "Conversion: 25.0% (95% interval 14.0% to 40.0%, n = 40)."
    assert repr(ONE) == f"Estimates: {ONE}"


def test_a_number_without_an_interval_says_so() -> None:
    assert str(made([(1, 0.5, None, None, None)])) == "Conversion: 50.0% (n = 1, no interval)."
    assert str(made([(0, None, None, None, None)])) == "Conversion: nothing can be said (n = 0)."


def test_the_level_is_the_one_asked_for() -> None:
    assert "80% interval" in str(made([(9, 0.5, 0.1, 0.4, 0.6)], conf_level=0.8))


def test_groups_are_compared() -> None:
    said = str(THREE)
    assert "from 25.0% (A) to 40.0% (B) over 2 groups" in said
    assert "differ by more than chance (p = 0.005)" in said


def test_like_groups_are_not_said_to_differ() -> None:
    said = str(made([("A", 40, 0.25, 0.07, 0.1, 0.4), ("B", 40, 0.27, 0.07, 0.1, 0.4)], by=("s",)))
    assert said.endswith(
        "lies between 25.0% and 27.0% in 2 groups; no difference between them is established "
        "(p = 0.84)."
    )


def test_what_cannot_be_tested_is_said() -> None:
    groups = made([("A", 1, 0.25, None, 0.1, 0.4), ("B", 1, 0.5, None, 0.1, 0.7)], by=("s",))
    assert groups.difference_p_value() is None
    assert "cannot be tested" in str(groups)


def test_one_known_group_and_none() -> None:
    assert str(
        made([("A", 4, 0.5, 0.1, 0.4, 0.6), ("B", 0, None, None, None, None)], by=("s",))
    ) == ("Conversion, A: 50.0% (95% interval 40.0% to 60.0%, n = 4).")
    assert "nothing can be said in any group" in str(made([], by=("s",)))


def test_labels_of_groups() -> None:
    assert group_label({}, ()) == "all"
    assert group_label({"a": "x", "b": None}, ("a", "b")) == "x · unknown"


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_it_speaks_one_line_without_nan(lang: str) -> None:
    with speaking(lang):
        for result in (ONE, THREE, made([], by=("s",))):
            assert "\n" not in str(result)
            assert "nan" not in str(result).lower()


# --- what it shows ------------------------------------------------------------------------------


def test_it_plots_on_the_axes_given_and_changes_no_style() -> None:
    style = dict(mpl.rcParams)
    ax = Figure().add_subplot()
    assert THREE.plot(ax) is ax
    assert [text.get_text() for text in ax.get_yticklabels()] == ["A", "B", "C"]
    assert dict(mpl.rcParams) == style


def test_a_block_holds_all_that_a_reader_needs() -> None:
    block = THREE.with_notes("Mind the gap.").show(title="How many buy?")
    assert block.title == "How many buy?"
    assert block.finding == str(THREE)
    assert block.definition == "Won of all leads."
    assert block.notes == ("Mind the gap.",)
    assert block.figure is not None
    assert block.figure.alt == str(THREE)
    assert block.table is not None
    assert block.table.rows[0] == ("A", "400", "25.0%", "2.0%", "21.0%", "29.0%")
    assert block.table.rows[2] == ("C", "5", "–", "–", "–", "–")
    assert THREE.notes == ()


def test_a_block_without_a_figure() -> None:
    assert ONE.show(figure=False).figure is None
    assert made([], by=("s",)).show().figure is None


def test_whole_numbers_that_name_a_group_are_names() -> None:
    table = THREE.table.with_columns(source=pl.Series([1001, 2024, None], dtype=pl.Int64))
    result = Estimates(table=table, name="x", unit="share", definition="d", by=("source",))
    block = result.show(figure=False)
    assert block.table is not None
    assert [row[0] for row in block.table.rows][:2] == ["1001", "2024"]
    assert result.table.schema["source"] == pl.Int64


def test_it_is_a_mime_bundle_and_html() -> None:
    bundle = ONE._repr_mimebundle_()
    assert bundle["text/plain"] == str(ONE)
    assert bundle[blocks.BLOCK_MIME]["finding"] == str(ONE)
    assert ONE._repr_html_() == bundle["text/html"]


def test_it_is_a_typeset_table_and_a_plain_one() -> None:
    html = THREE.to_gt().as_raw_html()
    assert "Conversion" in html
    assert "25.0%" in html
    assert THREE.to_gt().as_raw_html() == html
    assert THREE.to_polars() is THREE.table


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ONE.name = "other"  # type: ignore[misc]


# --- the head and the end of a page -------------------------------------------------------------


def test_key_figures_never_travel_alone() -> None:
    block = key_figures({"Leads won": ONE, "Nobody": made([])})
    first, second = block.key_figures
    assert (first.label, first.value, first.interval, first.n) == (
        "Leads won", "25.0%", "14.0% to 40.0%", "n = 40"
    )  # fmt: skip
    assert (second.value, second.interval, second.n) == ("–", None, "n = 0")
    assert key_figures([ONE]).key_figures[0].label == "Conversion"


def test_a_card_holds_one_number() -> None:
    with pytest.raises(InputError, match="3 rows"):
        key_figures([THREE])


def test_findings_and_definitions() -> None:
    assert findings(ONE, "Said by hand.").findings == (str(ONE), "Said by hand.")
    block = definitions(ONE, THREE, ONE)
    assert block.table is not None
    assert block.table.rows == (("Conversion", "Won of all leads."),)
    assert block.kind == "notice"


def test_one_name_that_means_two_things_says_which_is_by_groups() -> None:
    whole = dataclasses.replace(ONE, definition="Of all.")
    table = definitions(whole, THREE).table
    assert table is not None
    assert [row[0] for row in table.rows] == ["Conversion", "Conversion by source"]


# --- helpers ------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8))
def test_five_columns_turn_what_is_not_finite_into_null(values: list[float]) -> None:
    columns = five_columns(range(len(values)), values, values, values, values)
    assert list(columns) == list(FIVE)
    assert columns["n"].dtype == pl.Int64
    for name in FIVE[1:]:
        assert columns[name].dtype == pl.Float64
        expected = [v if math.isfinite(v) else None for v in values]
        assert columns[name].to_list() == expected


def test_five_columns_take_single_numbers() -> None:
    columns = five_columns(3, 0.5, 0.1, np.nan, np.float64(0.7))
    assert {name: column.to_list() for name, column in columns.items()} == {
        "n": [3], "estimate": [0.5], "std_error": [0.1], "conf_low": [None], "conf_high": [0.7],
    }  # fmt: skip


def test_small_groups_are_named() -> None:
    assert small_n_notes(pl.DataFrame({"n": [SMALL_N]}), ()) == ()
    assert small_n_notes(pl.DataFrame({"n": [12]}), (), what="leads") == (
        "Only 12 leads: read with care.",
    )
    (note,) = small_n_notes(THREE.table, ("source",), what="leads")
    assert note == "Fewer than 30 leads in: C; read those with care."


def test_very_many_small_groups_are_counted() -> None:
    table = pl.DataFrame({"s": [f"g{i:02}" for i in range(10)], "n": [1] * 10})
    (note,) = small_n_notes(table, ("s",))
    assert "g05 and 4 more" in note
    assert "g06" not in note
