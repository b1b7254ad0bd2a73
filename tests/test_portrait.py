"""The world beside its truth: small tables that a reader's figures are made of."""

from __future__ import annotations

import math
import re
from datetime import date
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from crm_analysis import Estimates
from crm_analysis.errors import InputError
from synthetic import Network, make_network, portrait, targets
from synthetic.portrait import FIVE

Z = 4.0
"""Standard errors that a correct estimate stays within, but for one in fifteen thousand."""


@cache
def _world() -> Network:
    return make_network(preset="tiny", seed=1)


def _fits(table: pl.DataFrame, by: tuple[str, ...]) -> None:
    """Check that the table is one that `Estimates` takes."""
    assert set(FIVE) <= set(table.columns)
    made = Estimates(table=table, name="name", unit="number", definition="What it is.", by=by)
    assert str(made)


def test_the_season_is_that_of_the_leads() -> None:
    leads = _world().tables["opportunities"]
    found = portrait.season(leads, as_of=date(2025, 12, 31))
    _fits(found, ("month",))
    assert found["month"].to_list() == [f"month {month:02d}" for month in range(1, 13)]
    assert found["estimate"].mean() == pytest.approx(1.0)
    slow = [0] * 12
    for opened in leads.select("opened_at").collect()["opened_at"]:
        slow[opened.month - 1] += 1
    assert found["n"].to_list() == slow


def test_a_season_counts_whole_years_only() -> None:
    leads = _world().tables["opportunities"]
    found = portrait.season(leads, as_of=date(2025, 6, 30))
    whole = leads.filter(pl.col("opened_at").dt.year() < 2025).collect().height
    assert found["n"].sum() == whole


def test_defections_counted_agree_with_the_hazards_that_made_them() -> None:
    truth = _world().truth
    found = portrait.defection_by_year(truth["truth_interval"], truth["truth_fate"])
    _fits(found, ("year", "curve"))
    counted = found.filter(pl.col("curve") == "counted")
    true = found.filter(pl.col("curve") == "true_hazard")
    for row, promise in zip(counted.iter_rows(named=True), true["estimate"], strict=True):
        assert abs(math.log(row["estimate"] / promise)) < Z * row["std_error"] / row["estimate"]
    years = truth["truth_interval"].select(
        (pl.col("stop_on") - pl.col("start_on")).dt.total_days().sum() / 365.25
    )
    assert years.collect().item() > 0


def test_the_warranty_of_new_cars_ends_in_the_fourth_year() -> None:
    world = _world()
    fates = portrait.began_with_new_car(
        world.truth["truth_fate"], world.tables["deals"], world.tables["vehicles"]
    )
    assert 0 < fates.height < world.truth["truth_fate"].collect().height
    found = portrait.defection_by_year(world.truth["truth_interval"], fates).filter(
        pl.col("curve") == "true_hazard"
    )
    covered = dict(found.select("year", "in_warranty_share").iter_rows())
    hazard = dict(found.select("year", "estimate").iter_rows())
    assert covered["year 2"] > 0.9
    assert covered["year 4"] < 0.5
    assert hazard["year 4"] > 1.5 * hazard["year 2"]


def test_what_was_felt_is_known_of_those_who_said_nothing() -> None:
    world = _world()
    found = portrait.said_and_felt(
        world.tables["surveys"], world.tables["survey_answers"], world.truth["truth_answer"]
    )
    _fits(found, ("kind", "who"))
    by_who = found.group_by("who").agg(pl.col("n").sum())
    counts = dict(by_who.iter_rows())
    assert counts["felt_by_all_who_were_asked"] == world.sizes()["surveys"]
    assert counts["said_by_those_who_answered"] <= counts["felt_by_those_who_answered"]
    both = found.filter(pl.col("kind").cast(pl.String) == "service").sort("who")
    felt, said = both.row(1, named=True), both.row(2, named=True)
    assert abs(felt["estimate"] - said["estimate"]) < Z * said["std_error"]


def test_defects_are_counted_against_the_rows_there_truly_were() -> None:
    spoiled = make_network(preset="tiny", seed=1, defects="heavy")
    found = portrait.defect_shares(spoiled.tables, spoiled.truth["truth_defect"])
    _fits(found, ("kind",))
    twice = found.filter(pl.col("kind") == "duplicate").row(0, named=True)
    assert twice["n"] == 2_000
    assert twice["estimate"] == pytest.approx(0.15, abs=0.03)
    none = portrait.defect_shares(_world().tables, _world().truth["truth_defect"])
    assert none.is_empty()


def test_the_farthest_group_stands_for_its_figure() -> None:
    held = pl.DataFrame(
        {
            "metric": ["a", "a", "b"],
            "stratum": ["x", "y", "z"],
            "target": [1.0, 1.0, 5.0],
            "tolerance": [0.1, 0.1, 1.0],
            "observed": [1.05, 0.8, None],
            "std_error": [0.01, 0.02, None],
            "n": [10, 20, None],
            "verdict": ["within", "off", "not there"],
        }
    )
    found = portrait.worst_misses(held)
    _fits(found, ("metric", "stratum"))
    assert found.select("metric", "stratum").rows() == [("a", "y")]
    assert found["estimate"].item() == pytest.approx(-2.0)


def test_a_world_without_customers_has_an_empty_portrait() -> None:
    nobody = make_network(preset="tiny", seed=1, n_customers=0)
    tables, truth = nobody.tables, nobody.truth
    assert portrait.season(tables["opportunities"], as_of=date(2025, 12, 31)).is_empty()
    assert portrait.defection_by_year(truth["truth_interval"], truth["truth_fate"]).is_empty()
    assert portrait.said_and_felt(
        tables["surveys"], tables["survey_answers"], truth["truth_answer"]
    ).is_empty()
    assert portrait.true_spells(truth["truth_fate"], tables["customers"]).is_empty()


def test_data_without_truth_are_refused_with_what_to_do(tmp_path: Path) -> None:
    for name, frame in make_network(preset="tiny", seed=1, n_customers=50).tables.items():
        frame.collect().write_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match="Only invented data have a truth"):
        portrait.open_truth(tmp_path)


# --- words ----------------------------------------------------------------------------------------


def _figures(network: Network) -> dict[str, pl.DataFrame]:
    """Return a table of each figure that the notebook draws."""
    tables, truth = network.tables, network.truth
    bought = tables["service_orders"].select(
        kind=pl.lit("service"), year=pl.lit("2025"), margin=pl.col("labour") - pl.col("costs")
    )
    return {
        "season": portrait.season(tables["opportunities"], as_of=date(2025, 12, 31)),
        "felt": portrait.said_and_felt(
            tables["surveys"], tables["survey_answers"], truth["truth_answer"]
        ),
        "cliff": portrait.defection_by_year(truth["truth_interval"], truth["truth_fate"]),
        "margins": portrait.mean_of(bought, "margin", by=("kind", "year")),
        "wrong": portrait.defect_shares(tables, truth["truth_defect"]),
    }


def test_every_figure_is_told_in_both_languages() -> None:
    network = make_network(preset="tiny", seed=1, defects="heavy")
    for name, table in _figures(network).items():
        for lang in ("en", "ru"):
            made = Estimates(unit="number", **portrait.told(name, table, lang))
            assert made.table.height == table.height
            letters = re.compile("[А-Яа-яё]" if lang == "en" else "[A-Za-z]")
            said = [made.name, made.definition, *made.by]
            said += [
                word
                for column in made.by
                for word in made.table[column].cast(pl.String).unique().to_list()
            ]
            assert not [word for word in said if letters.search(word)]


def test_every_target_and_verdict_has_russian_words() -> None:
    """Names of brands, currencies and numbers stay as they are."""
    known = portrait.in_words(
        pl.DataFrame(
            [
                {"metric": one.metric, "stratum": one.stratum, "verdict": verdict}
                for one in targets.read_targets()
                for verdict in ("within", "off")
            ]
        ),
        "ru",
    )
    left = {
        word
        for column in ("показатель", "группа", "вывод")
        for word in known[column].unique().to_list()
        if re.search(r"\b[a-z]", word)
    }
    assert not left


def test_other_languages_are_refused() -> None:
    with pytest.raises(InputError, match="en, ru"):
        portrait.heading("month", "fr")


def test_two_curves_keep_their_order_and_so_their_colours_in_every_language() -> None:
    codes = ["what_is_true", "what_the_data_show"]
    table = pl.DataFrame({"curve": codes})
    for lang in ("en", "ru"):
        said = portrait.in_words(table, lang).to_series().to_list()
        assert sorted(said) == said
        assert (said != codes) == (lang == "ru")  # English reads its codes
