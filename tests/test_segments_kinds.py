"""Kinds of relationship, classes of models, and the loyalty programme: loops, hand and truth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis import InputError
from crm_analysis.dates import add_months
from crm_analysis.segments import (
    abc_xyz,
    loyalty_activity,
    loyalty_lift,
    relationship_kinds,
    relationship_transitions,
)
from crm_analysis.segments.assortment import variation

AS_OF = date(2026, 6, 30)
Backend = Callable[[pl.DataFrame], Any]

# --- kinds of relationship ------------------------------------------------------------------------


def lives(seed: int, n_customers: int = 60) -> pl.DataFrame:
    """Purchases and contacts of customers, few or many, at random days of five years."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(n_customers):
        for kind, most in (("purchase", 9), ("contact", 12)):
            span = int(rng.choice([200, 600, 1800]))
            for _event in range(int(rng.integers(0, most))):
                day = AS_OF - timedelta(days=int(rng.integers(-20, span)))
                who = int(rng.choice([1, 1, 1, 2])) if kind == "contact" else None
                rows.append((customer, day, kind, who))
    names = ["customer_id", "happened_on", "kind", "employee_id"]
    return pl.DataFrame(rows, schema=names, orient="row").sample(
        fraction=1.0, shuffle=True, seed=seed
    )


def kind_by_hand(rows: list[tuple[date, str, int | None]], day: date) -> str | None:
    """Read the rules aloud for one customer; None for whoever has not bought."""
    bought = {on for on, kind, _who in rows if kind == "purchase" and on <= day}
    year_ago = add_months(day, -12)
    spoken = {(on, who) for on, kind, who in rows if kind == "contact" and year_ago < on <= day}
    if not bought:
        return None
    if max(bought) <= add_months(day, -18):
        return "lapsed"
    years = [(add_months(day, -12 * (k + 1)), add_months(day, -12 * k)) for k in range(3)]
    if all(any(after < on <= to for on in bought) for after, to in years):
        return "long_term"
    if len(bought) == 1:
        return "transactional"
    by_one = [sum(1 for _on, who in spoken if who == one) for one in (1, 2)]
    if len(spoken) >= 3 and max(by_one) >= 2 / 3 * len(spoken):
        return "dedicated"
    return "assisted" if spoken else "repeated"


@pytest.mark.parametrize("seed", [1, 2])
def test_kinds_are_those_of_the_rules_read_aloud(seed: int) -> None:
    events = lives(seed)
    expected: dict[str, int] = {}
    for _customer, part in events.group_by("customer_id"):
        kind = kind_by_hand(part.drop("customer_id").rows(), AS_OF)
        if kind is not None:
            expected[kind] = expected.get(kind, 0) + 1
    assert len(expected) == 6, "every rule is met by somebody"
    found = relationship_kinds(events, as_of=AS_OF)
    assert dict(found.table.select("relationship", "n_customers").iter_rows()) == expected
    assert found.table["n"][0] == sum(expected.values())
    assert "are lost" in str(found)


def test_kinds_are_the_same_on_every_backend(backend: Backend) -> None:
    events = lives(3, 12).with_columns(shop=pl.col("customer_id") % 2)
    alone = relationship_kinds(events, as_of=AS_OF, by="shop").table
    assert_frame_equal(relationship_kinds(backend(events), as_of=AS_OF, by="shop").table, alone)


def test_moves_between_kinds_know_only_what_had_happened() -> None:
    events, before = lives(4), date(2025, 6, 30)
    moves = relationship_transitions(events, since=before, as_of=AS_OF)
    first = relationship_kinds(events.filter(pl.col("happened_on") <= before), as_of=before)
    counted = moves.table.group_by("from_state").agg(pl.col("n").first())
    there = first.table.filter(pl.col("n_customers") > 0)
    assert dict(counted.iter_rows()) == dict(
        there.select("relationship", "n_customers").iter_rows()
    )
    with pytest.raises(InputError, match="not before"):
        relationship_transitions(events, since=AS_OF, as_of=AS_OF)


def test_strange_events_and_nobody() -> None:
    events = lives(5, 5)
    with pytest.raises(InputError, match="neither purchases nor contacts"):
        relationship_kinds(events.with_columns(kind=pl.lit("call")), as_of=AS_OF)
    nothing = relationship_kinds(events.clear(), as_of=AS_OF)
    assert nothing.table["estimate"].is_null().all()
    nothing.show()


# --- models by value and regularity ---------------------------------------------------------------


def monthly_sales(counts: dict[str, list[int]], margin: float = 1.0) -> pl.DataFrame:
    """Sales of models by month, the last one the month of `AS_OF`."""
    rows = []
    for model, series in counts.items():
        for back, n in enumerate(reversed(series)):
            day = add_months(date(2026, 6, 15), -back)
            rows += [(model, day, margin)] * n
    return pl.DataFrame(rows, schema=["model", "contract_on", "margin"], orient="row")


def test_classes_of_models_by_hand(backend: Backend) -> None:
    sales = monthly_sales({"even": [4, 5, 4, 5, 4, 5], "odd": [0, 9, 0, 0, 0, 1], "new": [1]})
    found = abc_xyz(backend(sales), last_months=6, as_of=AS_OF)
    row = found.table.row(0, named=True)
    # Standard deviation of 4 5 4 5 4 5 is sqrt(6 * .25 / 5); its mean 4.5.
    assert row["estimate"] == pytest.approx(np.sqrt(1.5 / 5) / 4.5)
    assert row["chance"] == pytest.approx(1 / np.sqrt(4.5))
    # "odd" counts from its first sale on: 9 0 0 0 1 is less than half a year.
    assert found.table.select("model", "abc_class", "xyz_class", "n").rows() == [
        ("even", "A", "X", 6), ("odd", "A", None, 5), ("new", "C", None, 1),
    ]  # fmt: skip
    assert any("without a class: odd, new" in note for note in found.notes)


def test_the_error_of_the_coefficient_leaves_out_each_month_in_turn() -> None:
    counts = np.array([3.0, 5, 2, 8, 4, 4, 1, 6])
    value, error, low, high = variation(counts, 0.95)
    each = np.array(
        [np.std(c, ddof=1) / c.mean() for c in (np.delete(counts, i) for i in range(8))]
    )
    assert value == pytest.approx(np.std(counts, ddof=1) / counts.mean())
    assert error == pytest.approx(np.sqrt(7 / 8 * ((each - each.mean()) ** 2).sum()))
    assert low * high == pytest.approx(value**2)


def test_intervals_cover_the_coefficient_of_gamma_poisson_counts() -> None:
    """300 models of 36 months with mean 6 and variance 12; the jackknife is known to be near 95 %
    only for many months: at 36 no fewer than 88 % are asked for."""
    rng = np.random.default_rng(6)
    counts = rng.poisson(rng.gamma(6, 1, (300, 36)))
    found = np.array([variation(series.astype(float), 0.95) for series in counts])
    truth = np.sqrt(12) / 6
    assert 0.88 <= np.mean((found[:, 2] <= truth) & (truth <= found[:, 3])) <= 0.985


def test_a_season_is_found_where_there_is_one_and_chance_is_not_called_one() -> None:
    rng = np.random.default_rng(1)
    wave = 1 + 0.8 * np.sin(2 * np.pi * np.arange(36) / 12)
    sales = monthly_sales(
        {"waves": rng.poisson(20 * wave).tolist(), "flat": rng.poisson(20, 36).tolist()}
    )
    found = abc_xyz(sales, as_of=AS_OF)
    p = dict(found.table.select("model", "season_p").iter_rows())
    assert p["waves"] < 0.001
    assert p["flat"] > 0.05
    # The wave is at its top three months after its first, July: the peak is October.
    peak = dict(found.table.select("model", "peak_month").iter_rows())["waves"]
    assert abs(peak - 10) <= 1
    assert "A season is established for: waves." in found.notes


def test_cuts_and_months_that_cannot_be_are_refused() -> None:
    sales = monthly_sales({"one": [1] * 6})
    with pytest.raises(InputError, match="must rise"):
        abc_xyz(sales, x_to=1.0, y_to=0.5, as_of=AS_OF)
    with pytest.raises(InputError, match="last_months"):
        abc_xyz(sales, last_months=3, as_of=AS_OF)
    nothing = abc_xyz(sales.clear(), as_of=AS_OF)
    assert nothing.table.is_empty()
    nothing.show()


# --- the loyalty programme ------------------------------------------------------------------------


def test_use_of_the_programme_by_hand(backend: Backend) -> None:
    rows = [
        (1, date(2024, 1, 1), date(2026, 1, 5), "earn", 100),
        (1, date(2024, 1, 1), date(2026, 2, 5), "redeem", -40),
        (2, date(2024, 1, 1), date(2024, 2, 5), "earn", 60),
        (2, date(2024, 1, 1), date(2026, 2, 5), "expire", -60),
        (3, date(2024, 1, 1), None, None, None),
        (4, date(2026, 6, 1), date(2026, 6, 1), "earn", 500),  # a member for a month only
        (3, date(2024, 1, 1), date(2026, 7, 1), "earn", 900),  # after the last day
    ]
    names = ["loyalty_account_id", "joined_on", "happened_on", "kind", "points"]
    found = loyalty_activity(
        backend(pl.DataFrame(rows, schema=names, orient="row")), as_of=AS_OF
    ).table
    assert found["n"].to_list() == [3, 3, 3]
    assert found["estimate"].to_list() == pytest.approx([1 / 3, 1 / 3, 40 / 160])


def members(rows: list[tuple[str, bool, int, int]]) -> pl.DataFrame:
    """Strata with so many members or others, and so many of them back."""
    start = date(2024, 1, 1)
    long = [
        (stratum, member, start, start + timedelta(days=30) if i < back else None)
        for stratum, member, n, back in rows
        for i in range(n)
    ]
    names = ["started_kind", "is_member", "watched_from", "returned_on"]
    return pl.DataFrame(long, schema=names, orient="row")


def test_members_are_held_against_others_like_them(backend: Backend) -> None:
    """Simpson's paradox: members come back more in all, and less in either stratum."""
    rows = members([("car", True, 10, 2), ("car", False, 40, 10), ("service", True, 40, 32),
                    ("service", False, 10, 9), ("lone", True, 5, 5)])  # fmt: skip
    found = loyalty_lift(backend(rows), as_of=AS_OF)
    member, like, gap, plain = found.table["estimate"].to_list()
    assert member == pytest.approx(34 / 50)
    assert like == pytest.approx(0.2 * 0.25 + 0.8 * 0.9)
    assert gap == pytest.approx(member - like)
    assert gap < 0 < plain
    assert plain == pytest.approx(39 / 55 - 19 / 50)
    assert any(note.startswith("5 members have nobody like them") for note in found.notes)
    # A difference of shares is written in points, the shares themselves in per cent.
    table = found.show().table
    assert table is not None
    assert [row[2] for row in table.rows] == ["68.0%", "77.0%", "−9.0 points", "+32.9 points"]
    assert "−9.0 points (95% interval" in found.sentence()


def test_a_programme_without_effect_is_only_selection() -> None:
    """Membership changes nothing in the generator, and the satisfied join more often.

    Among customers of like satisfaction the interval must cover zero: of 3 networks two or more
    miss with probability .007.
    """
    from crm_analysis.warehouse import views
    from synthetic import make_network

    covered = 0
    for seed in (1, 2, 3):
        network = make_network(preset="tiny", seed=seed)
        tables = network.tables.__getitem__
        bought = partial(views.purchases, tables)
        rows = views.loyalty_members(
            tables, bought, landmark_days=30, has=network.tables.__contains__
        )
        latent = network.truth["truth_customer"].select(
            "customer_id", level=(pl.col("satisfaction") / 0.5).round().clip(-3, 3)
        )
        found = loyalty_lift(
            rows.join(latent, on="customer_id"), adjust=("started_kind", "level"),
            as_of=network.config.as_of,
        )  # fmt: skip
        gap = found.table.row(2, named=True)
        assert gap["n"] > 300
        covered += gap["conf_low"] <= 0 <= gap["conf_high"]
    assert covered >= 2


def test_nobody_is_compared_with_nobody() -> None:
    rows = members([("car", True, 3, 1)])
    found = loyalty_lift(rows, as_of=AS_OF)
    assert found.table["estimate"].is_null().all()
    found.show()
    with pytest.raises(InputError, match="within_days"):
        loyalty_lift(rows, within_days=0, as_of=AS_OF)
