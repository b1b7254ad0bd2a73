"""What the trade says, judged: intervals against claimed ranges, and data that cannot tell."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_analysis import (
    claim_half_lost,
    claim_half_unprofitable,
    claim_late_payback,
    claim_retention_pays,
    claims_table,
    open_warehouse,
    set_language,
)
from crm_analysis.claims import VERDICTS, judge
from crm_analysis.wording import speaking

END = date(2025, 12, 31)
BEGIN = date(2019, 1, 1)


def spells_with(retention: float, n: int = 4000, years: int = 6) -> pl.DataFrame:
    """Relationships of which exactly so many are left after each year."""
    ends: list[date | None] = []
    left = n
    for year in range(years):
        gone = round(left * (1 - retention))
        ends += [BEGIN + timedelta(days=365 * year + 200)] * gone
        left -= gone
    ends += [None] * left
    return pl.DataFrame(
        {"started_on": [BEGIN] * n, "ended_on": ends}, schema_overrides={"ended_on": pl.Date}
    )


def ledger_with(n_late: int, n_loss: int, n: int = 1000) -> pl.DataFrame:
    """Customers who cost 100: some pay back in the second year, some never, the rest at once."""
    rows: list[tuple[int, date, str, float]] = []
    for customer in range(n):
        rows.append((customer, date(2023, 1, 1), "advertising", -100.0))
        at_once = customer >= n_late + n_loss
        rows.append((customer, date(2023, 1, 10), "service", 150.0 if at_once else 50.0))
        if customer < n_late:
            rows.append((customer, date(2024, 6, 1), "service", 100.0))
    return pl.DataFrame(rows, schema=["customer_id", "happened_on", "part", "amount"], orient="row")


@given(
    low=st.floats(0, 1), width=st.floats(0, 0.5), claimed=st.floats(0, 0.9),
    room=st.floats(0.01, 0.3),
)  # fmt: skip
def test_a_verdict_is_a_relation_of_two_intervals(
    low: float, width: float, claimed: float, room: float
) -> None:
    high, top = low + width, claimed + room
    verdict = judge(low, high, claimed, top)
    assert verdict in VERDICTS
    assert (verdict == "supported") == (claimed <= low and high <= top)
    assert (verdict == "contradicted") == (high < claimed or low > top)
    assert judge(None, None, claimed, top) == "not_testable"


@pytest.mark.parametrize(
    ("retention", "verdict"),
    [(0.5 ** (1 / 5), "supported"), (0.95, "contradicted"), (0.7, "contradicted")],
)
def test_half_lost_in_five_years(retention: float, verdict: str) -> None:
    found = claim_half_lost(spells_with(retention), as_of=END)
    assert found.verdict == verdict
    assert found.table["estimate"][0] == pytest.approx(1 - retention**5, abs=0.002)


def test_few_customers_cannot_tell() -> None:
    few = claim_half_lost(spells_with(0.5 ** (1 / 5), n=60), as_of=END)
    assert few.verdict == "not_testable"
    assert "cannot tell" in str(few)


def test_data_shorter_than_five_years_cannot_tell() -> None:
    short = claim_half_lost(spells_with(0.5 ** (1 / 5)), as_of=date(2023, 6, 30))
    assert short.verdict == "not_testable"
    assert "at most, and the claim speaks of 60" in str(short)
    assert short.table["estimate"].null_count() == 1
    assert claim_half_lost(spells_with(0.87).clear(), as_of=END).verdict == "not_testable"


@pytest.mark.parametrize(
    ("n_late", "verdict"), [(700, "supported"), (100, "contradicted"), (500, "not_testable")]
)
def test_late_payback(n_late: int, verdict: str) -> None:
    found = claim_late_payback(ledger_with(n_late, 0), as_of=END)
    assert found.verdict == verdict
    assert found.table["estimate"][0] == pytest.approx(n_late / 1000)


@pytest.mark.parametrize(
    ("n_loss", "verdict"), [(500, "supported"), (100, "contradicted"), (540, "not_testable")]
)
def test_half_unprofitable(n_loss: int, verdict: str) -> None:
    found = claim_half_unprofitable(ledger_with(0, n_loss, 1000), as_of=END)
    assert found.verdict == verdict
    assert found.table["estimate"][0] == pytest.approx(n_loss / 1000)


@pytest.mark.parametrize(
    ("discount", "cost", "verdicts"),
    [
        (0.20, 0.0, ("contradicted", "supported")),
        (0.05, 2.0, ("supported", "contradicted")),
        (0.10, 0.5, ("contradicted", "contradicted")),
    ],
)
def test_the_two_claims_on_retention_exclude_each_other(
    discount: float, cost: float, verdicts: tuple[str, str]
) -> None:
    found = claim_retention_pays(
        spells_with(0.5 ** (1 / 5)), annual_discount_rate=discount, acquisition_years=cost,
        as_of=END,
    )  # fmt: skip
    assert tuple(one.verdict for one in found) == verdicts
    assert "contradict each other" in str(found[0])


def test_the_cost_of_winning_comes_from_the_ledger() -> None:
    spells, ledger = spells_with(0.87), ledger_with(400, 0)
    first, _ = claim_retention_pays(spells, ledger=ledger, as_of=END)
    # 100 spent to win each, and 100 earned in the second year by 400 of 1000.
    by_hand, _ = claim_retention_pays(spells, acquisition_years=100 / 40, as_of=END)
    assert first.table["estimate"][0] == pytest.approx(by_hand.table["estimate"][0])
    assert "from the ledger" in first.context
    nothing, _ = claim_retention_pays(spells.clear(), ledger=ledger.clear(), as_of=END)
    assert nothing.verdict == "not_testable"


def test_claims_of_a_network_make_one_table(tiny_network: Path) -> None:
    crm = open_warehouse(tiny_network)
    spells, ledger = crm.spells(), crm.ledger()
    verdicts = (
        claim_half_lost(spells, as_of=crm.as_of),
        claim_late_payback(ledger, as_of=crm.as_of),
        claim_half_unprofitable(ledger, as_of=crm.as_of),
        *claim_retention_pays(spells, ledger=ledger, as_of=crm.as_of),
    )
    assert verdicts[0].verdict == "not_testable"
    block = claims_table(*verdicts)
    assert block.table is not None
    assert len(block.table.rows) == 5
    assert "not testable here" in block.to_html()
    with speaking("ru"):
        assert "not testable" not in claims_table(*verdicts).to_html()
    set_language("en")
