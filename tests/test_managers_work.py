"""Contacts, the order of work, who gets what, the plan and the card: by hand and by simulation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from crm_analysis import InputError, open_warehouse
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.managers import (
    contact_frequency,
    greetings_due,
    greetings_sent,
    manager_scorecard,
    plan_attainment,
    proactive_share,
    process_compliance,
    traffic_distribution,
    workload,
)
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.working_time import WorkingCalendar

AS_OF = date(2026, 6, 30)
Backend = Callable[[pl.DataFrame], Any]


def at(*moment: int) -> datetime:
    return datetime(*moment)  # type: ignore[arg-type] # noqa: DTZ001


# --- contacts -----------------------------------------------------------------------------------


def exposure() -> pl.DataFrame:
    year = 365.25
    rows = [
        (1, "customer", 4, year), (2, "customer", 2, year), (3, "customer", 0, 30.0),
        (4, "prospect", 3, year / 2), (5, "prospect", 0, 0.0),
    ]  # fmt: skip
    columns = ["customer_id", "category", "n_contacts", "days"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_contacts_are_counted_by_the_time_a_customer_was_known(backend: Backend) -> None:
    found = contact_frequency(backend(exposure()), as_of=AS_OF).table
    one, other = found.to_dicts()
    assert (one["n_contacts"], one["n"]) == (6, 3)
    assert one["estimate"] == pytest.approx(6 / (2 + 30 / 365.25))
    assert one["within_norm"] == 0.5  # whoever was known for 30 days says nothing of the norm
    assert (other["estimate"], other["within_norm"], other["n"]) == (pytest.approx(6.0), 1.0, 1)


def test_the_interval_of_contacts_knows_that_customers_vary() -> None:
    """600 worlds, rates from a gamma: the linearised interval covers, Poisson's is too narrow.

    The binomial 99.9 % band of 95 % over 600 starts at .919.
    """
    rng, n = np.random.default_rng(3), 600 * 80
    table = pl.DataFrame(
        {"customer_id": range(n), "world": np.arange(n) // 80, "category": "customer",
         "days": 365.25, "n_contacts": rng.poisson(rng.gamma(1.0, 4.0, n))},
    )  # fmt: skip
    inside = {}
    for method in ("customers", "poisson"):
        found = contact_frequency(table, by="world", as_of=AS_OF, ci_method=method).table
        assert found.height == 600
        inside[method] = ((found["conf_low"] <= 4) & (found["conf_high"] >= 4)).mean()
    assert inside["customers"] >= 0.919  # type: ignore[operator]
    assert inside["poisson"] < 0.8  # type: ignore[operator]


def test_who_began_and_who_was_greeted(backend: Backend) -> None:
    touches = pl.DataFrame(
        {
            "direction": ["outgoing", "incoming", "outgoing", "outgoing"],
            "happened_at": [at(2026, 6, 1), at(2026, 6, 2), at(2026, 6, 3), at(2026, 7, 1)],
        }
    )
    begun = proactive_share(backend(touches), as_of=AS_OF).table
    assert begun.select("n_yes", "n").row(0) == (2, 3)
    birthdays = pl.DataFrame(
        {
            "birthday_on": [date(2026, 6, 10)] * 4 + [date(2026, 7, 10)],
            "greeted_at": [at(2026, 6, 10, 9), at(2026, 6, 9), at(2026, 6, 13), None, None],
        }
    )
    sent = greetings_sent(backend(birthdays), as_of=AS_OF).table
    assert sent.select("n_yes", "n_off", "n").row(0) == (2, 1, 4)
    strict = greetings_sent(birthdays, within_days=0, as_of=AS_OF).table
    assert strict["n_yes"].item() == 1


def test_nobody_is_greeted_against_their_will(backend: Backend) -> None:
    book = pl.DataFrame(
        {
            "customer_id": [1, 2, 3, 4, 5],
            "birth_on": [date(1980, 2, 29), date(1990, 1, 2), date(1990, 1, 2), None,
                         date(1970, 12, 31)],
            "consent": [True, True, False, True, True],
            "manager_id": [7] * 5,
        }
    )  # fmt: skip
    late = greetings_due(backend(book), as_of=date(2025, 12, 31))
    assert late.rows() == [(2, 7, date(2026, 1, 2), 36)]
    leap = greetings_due(book, as_of=date(2026, 2, 27))
    assert leap.rows() == [(1, 7, date(2026, 2, 28), 46)]
    assert greetings_due(book, as_of=date(2028, 2, 27))["birthday_on"].to_list() == [
        date(2028, 2, 29)
    ]
    with pytest.raises(InputError, match="'within_days'"):
        greetings_due(book, within_days=0, as_of=AS_OF)


# --- the order of work ----------------------------------------------------------------------------

STEPS = ("new", "visit", "offer", "contract")


def histories() -> pl.DataFrame:
    orders = {
        1: ["new", "visit", "offer", "contract"],
        2: ["new", "visit", "contract"],  # no offer
        3: ["new", "offer", "visit", "contract"],  # offer before the visit
        4: ["new", "visit", "offer"],  # no sale: not judged
        5: ["new", "visit", "visit", "offer", "contract"],  # a second visit harms nobody
    }
    rows = [
        (lead, stage, at(2026, 5, 1) + timedelta(days=place))
        for lead, stages in orders.items()
        for place, stage in enumerate(stages)
    ]
    columns = ["opportunity_id", "stage", "happened_at"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_sales_are_held_against_the_order_of_work(backend: Backend) -> None:
    found = process_compliance(backend(histories()), steps=STEPS, as_of=AS_OF)
    assert found.table.select("n_yes", "n_skipped", "n_swapped", "n").row(0) == (2, 1, 1, 4)
    assert found.steps.select("step", "n_missing", "n_swapped").rows() == [
        ("new", 0, 0),
        ("visit", 0, 0),
        ("offer", 1, 1),  # one is not there, one stands before the visit
        ("contract", 0, 0),
    ]
    assert "The step left out most is: offer (25.0%)" in str(found)
    free = process_compliance(histories(), steps=STEPS, may_skip=["offer"], as_of=AS_OF)
    assert free.table.select("n_yes", "n_skipped", "n_swapped").row(0) == (3, 0, 1)


def test_a_bad_order_of_work_is_refused() -> None:
    with pytest.raises(InputError, match="at least two, each once"):
        process_compliance(histories(), steps=("new", "new"), as_of=AS_OF)
    with pytest.raises(InputError, match="may be skipped"):
        process_compliance(histories(), steps=STEPS, may_skip=["contract"], as_of=AS_OF)


def test_generated_sales_are_out_of_order_where_they_were_spoiled(tmp_path: Path) -> None:
    """Every sale found out of order has a labelled event, and clean ones have none."""
    from synthetic import write_network

    shares = {}
    for level in ("none", "heavy"):
        write_network(tmp_path / level, preset="tiny", seed=1, defects=level)
        crm = open_warehouse(tmp_path / level, check=False)
        shares[level] = process_compliance(crm.lead_events(), as_of=crm.as_of)
    assert shares["none"].table["n_swapped"].item() == 0
    told = pl.read_parquet(tmp_path / "heavy" / "truth" / "truth_defect.parquet")
    told = told.filter(
        pl.col("kind").cast(pl.String).is_in(["wrong_stage_order", "back_dated_stage"])
    )
    leads = set(told["key"].str.split("/").list.get(0).cast(pl.Int64))
    sales = set(crm.table("deals").collect()["opportunity_id"])
    found = int(shares["heavy"].table["n_swapped"].item())
    assert 0 < found <= len(leads & sales)


# --- who gets what --------------------------------------------------------------------------------


def loads() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "manager_id": [1, 2, 3, 4],
            "dealership_id": [1, 1, 2, 2],
            "n_leads": [60, 40, 100, 50],
            "days_on_duty": [100, 100, 100, 50],
            "n_open": [5, 7, 0, 4],
            "is_present": [True, True, True, False],
        }
    )


def test_leads_are_held_against_days_on_duty(backend: Backend) -> None:
    found = traffic_distribution(backend(loads()), as_of=AS_OF)
    table = found.table.sort("manager_id")
    assert table["even_share"].to_list() == pytest.approx([0.5, 0.5, 2 / 3, 1 / 3])
    assert table["ratio"].to_list() == pytest.approx([1.2, 0.8, 1, 1])
    from scipy.stats import chi2

    # By hand: 10 squared by 50, twice, in the first team; nothing in the second.
    assert found.p_value == pytest.approx(chi2.sf(4.0, 2))
    # Mean difference of ratios 1.2, .8, 1, 1 with weights .2, .2, .4, .2 by twice the mean.
    ratio, weight = [1.2, 0.8, 1, 1], [0.2, 0.2, 0.4, 0.2]
    by_hand = sum(
        u * v * abs(a - b)
        for a, u in zip(ratio, weight, strict=True)
        for b, v in zip(ratio, weight, strict=True)
    )
    assert found.gini == pytest.approx(by_hand / 2)
    assert "no unevenness is established" in str(found)


def test_unevenness_is_found_where_it_is() -> None:
    unfair = loads().with_columns(n_leads=pl.Series([90, 10, 100, 50]))
    found = traffic_distribution(unfair, as_of=AS_OF)
    assert found.p_value is not None
    assert found.p_value < 0.001
    assert found.gini is not None
    assert found.expected_gini is not None
    assert found.gini > 3 * found.expected_gini
    assert str(found).startswith("Leads are not shared by days on duty: 1 gets 180%")


def test_even_sharing_is_seldom_called_uneven() -> None:
    """200 even worlds of three teams: at 5 %, more than 20 would have a chance of .002."""
    rng = np.random.default_rng(8)
    days = np.array([365, 365, 200, 365, 300, 100, 365, 365, 365])
    team = np.repeat([1, 2, 3], 3)
    rejected = 0
    for _world in range(200):
        got = np.concatenate(
            [rng.multinomial(120, days[team == t] / days[team == t].sum()) for t in (1, 2, 3)]
        )
        table = pl.DataFrame({"manager_id": range(9), "dealership_id": team, "n_leads": got,
                              "days_on_duty": days})  # fmt: skip
        p = traffic_distribution(table, as_of=AS_OF).p_value
        assert p is not None
        rejected += p < 0.05
    assert rejected <= 20


def test_open_leads_are_those_of_who_is_there(backend: Backend) -> None:
    found = workload(backend(loads()), as_of=AS_OF)
    assert found.table.select("n_open", "n", "estimate").row(0) == (12, 3, 4.0)
    assert found.notes == ("4 open leads belong to managers who have left.",)


# --- the plan -------------------------------------------------------------------------------------


def test_the_plan_is_reached_at_the_pace_of_the_past(backend: Backend) -> None:
    days = [AS_OF - timedelta(days=i) for i in range(90)]
    sales = pl.DataFrame({"contract_on": days})  # one a day
    period: dict[str, Any] = {"starts_on": date(2026, 6, 21), "ends_on": date(2026, 7, 10)}
    found = plan_attainment(backend(sales), plan=20, **period, as_of=AS_OF)
    row = found.table.row(0, named=True)
    assert (row["n"], row["days_left"], row["fact"], row["estimate"]) == (10, 10, 0.5, 1.0)
    assert row["conf_low"] < 0.85
    assert row["conf_high"] > 1.15
    closed = WorkingCalendar(weekdays=frozenset(range(5)))
    worked = plan_attainment(sales, plan=20, calendar=closed, **period, as_of=AS_OF)
    assert worked.table["days_left"].item() == 8  # July 1-3 and 6-10
    over = plan_attainment(sales, plan=20, starts_on=date(2026, 6, 1), ends_on=AS_OF, as_of=AS_OF)
    assert over.table.select("estimate", "conf_low", "conf_high").row(0) == (1.5, 1.5, 1.5)


def test_the_prediction_covers_what_comes() -> None:
    """1,000 periods of Poisson sales: at least .935, the 99.9 % band of 95 % over 1,000 is .926."""
    rng = np.random.default_rng(5)
    past, ahead = rng.poisson(0.4, (1_000, 90)), rng.poisson(0.4, (1_000, 20)).sum(axis=1)
    world, back = (
        np.repeat(place, past.ravel()) for place in np.indices(past.shape).reshape(2, -1)
    )
    days = pl.Series(AS_OF.toordinal() - date(1970, 1, 1).toordinal() - back, dtype=pl.Int32)
    sales = pl.DataFrame({"world": world, "contract_on": days.cast(pl.Date)})
    found = plan_attainment(
        sales, plan=dict.fromkeys(range(1_000), 10), starts_on=AS_OF,
        ends_on=AS_OF + timedelta(days=20), by="world", as_of=AS_OF,
    ).table  # fmt: skip
    assert found.height == 1_000
    final = (found["n"].to_numpy() + ahead[found["world"].to_numpy()]) / 10
    low, high = (found[name].to_numpy() for name in ("conf_low", "conf_high"))
    assert np.mean((low - 1e-9 <= final) & (final <= high + 1e-9)) >= 0.926


def test_plans_are_by_group_and_must_make_sense() -> None:
    sales = pl.DataFrame({"contract_on": [AS_OF] * 3, "place": ["a", "a", "b"]})
    period: dict[str, Any] = {
        "starts_on": date(2026, 6, 1),
        "ends_on": date(2026, 7, 31),
        "as_of": AS_OF,
    }
    found = plan_attainment(sales, plan={"a": 4}, by="place", **period)
    assert found.table.select("place", "n", "plan").rows() == [("a", 2, 4.0)]
    assert found.notes == ("1 groups without a plan are left out.",)
    assert "of 1 plans none is sure to be missed" in str(found)
    high = plan_attainment(sales, plan={"a": 90, "b": 1}, by="place", **period)
    assert "1 of 2 plans will be missed at this pace: a 3% (2.2% to " in str(high)
    ended = period | {"ends_on": AS_OF}
    over = plan_attainment(sales, plan={"a": 4, "b": 1}, by="place", **ended)
    assert str(over) == "Plan reached: 1 of 2 plans were not met: a 50.0%."
    assert over.importance() == pytest.approx(0.5)  # two of four
    assert str(plan_attainment(sales, plan={"a": 2, "b": 1}, by="place", **ended)) == (
        "Plan reached: all 2 plans were met."
    )
    wrongs: list[dict[str, Any]] = [{"plan": 0}, {"plan": {"a": 4}}, {"plan": 4, "by": "place"}]
    for wrong in wrongs:
        with pytest.raises(InputError):
            plan_attainment(sales, **wrong, **period)
    with pytest.raises(InputError, match="must not end before"):
        plan_attainment(sales, plan=3, starts_on=AS_OF, ends_on=date(2026, 1, 1), as_of=AS_OF)


# --- the card -------------------------------------------------------------------------------------


def measured(values: list[float], error: float, n: int = 50) -> Estimates:
    half = normal_quantile(0.95) * error
    size = len(values)
    table = pl.DataFrame({"manager_id": range(size)}).with_columns(
        **five_columns([n] * size, values, [error] * size, [v - half for v in values],
                       [v + half for v in values])
    )  # fmt: skip
    return Estimates(table=table, name="x", unit="share", definition="x", by=("manager_id",))


def test_flags_stand_only_where_holm_allows_them() -> None:
    from statsmodels.stats.multitest import multipletests

    values = [0.50, 0.52, 0.48, 0.51, 0.90, 0.34]
    card = manager_scorecard({"won": measured(values, 0.05)}, by="manager_id")
    flags = dict(card.table.select("manager_id", "flag").rows())
    assert flags[4] == "better"
    z = card.table["z"].to_numpy()
    from scipy.stats import norm

    holm = multipletests(2 * norm.sf(np.abs(z)), method="holm")[1]
    assert card.table["p_value"].to_list() == pytest.approx(holm.tolist())
    waits = manager_scorecard(
        {"minutes": measured(values, 0.05)}, lower_is_better=("minutes",), by="manager_id"
    )
    assert waits.table.filter(manager_id=4)["flag"].item() == "worse"
    assert "· worse" in str(waits.show().table)
    assert waits.show().figure is None


def test_a_team_alike_is_not_told_apart() -> None:
    """400 teams of twelve alike: a flag in any has probability .05; more than 32 has .006."""
    rng = np.random.default_rng(2)
    flagged = 0
    for _team in range(400):
        card = manager_scorecard(
            {"won": measured(rng.normal(0.4, 0.05, 12).tolist(), 0.05)}, by="manager_id"
        )
        flagged += card.table["flag"].is_not_null().any()
    assert flagged <= 32
    assert "nobody differs" in str(manager_scorecard({"a": measured([0.4] * 4, 0.1)},
                                                     by="manager_id"))  # fmt: skip


def test_a_card_joins_what_is_by_the_same_managers() -> None:
    two = {"a": measured([0.2, 0.3], 0.1), "b": measured([0.5, 0.6, 0.7], 0.1, n=3)}
    card = manager_scorecard(two, least_n=10, by="manager_id")
    assert set(card.table["manager_id"]) == {0, 1}
    assert card.notes == ("1 with fewer than 10 cases each are not shown.",)
    block = card.show().table
    assert block is not None
    assert [column.label for column in block.columns] == ["Who", "n", "a", "b"]
    assert len(block.rows) == 2
    with pytest.raises(InputError, match="by the same columns"):
        manager_scorecard(two, by="manager")
    with pytest.raises(InputError, match="Less was said to be better"):
        manager_scorecard(two, lower_is_better=("c",), by="manager_id")


def test_nothing_at_all_is_said() -> None:
    made = [
        contact_frequency(exposure().clear(), as_of=AS_OF),
        process_compliance(histories().clear(), steps=STEPS, as_of=AS_OF),
        traffic_distribution(loads().clear(), as_of=AS_OF),
        workload(loads().clear(), as_of=AS_OF),
    ]
    for result in made:
        assert result.table["estimate"].is_null().all()
        assert "nothing can be said" in str(result)
        result.show()
    empty = manager_scorecard({"a": measured([], 0.1)}, by="manager_id")
    assert empty.table.is_empty()
    empty.show()
    nothing = plan_attainment(
        pl.DataFrame(schema={"contract_on": pl.Date}), plan=5, starts_on=AS_OF,
        ends_on=date(2026, 7, 31), as_of=AS_OF,
    )  # fmt: skip
    assert nothing.table["n"].item() == 0
    nothing.show()
