"""How a key figure stands against another: published intervals, and what must never be claimed."""

from __future__ import annotations

from math import sqrt

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_analysis.blocks import KeyFigure
from crm_analysis.changes import against_target, change, difference
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, findings, five_columns, key_figures
from crm_analysis.uncertainty import wilson_interval
from crm_analysis.wording import speaking

PUBLISHED_DIGITS = 5e-5
"""Newcombe (1998) prints four decimals."""

COVERAGE_SLACK = 0.02
"""Of 2,000 repeats a share of 0.95 has a standard error of 0.005; the rest is approximation."""


def share(k: int, n: int, **more: object) -> KeyFigure:
    low, high = wilson_interval(k, n)
    return KeyFigure(
        "Share", "", estimate=k / n, conf_low=float(low), conf_high=float(high), count=n,
        unit="share", better="higher", **more,  # type: ignore[arg-type]
    )  # fmt: skip


# Newcombe (1998), Statistics in Medicine 17:873-890, table II, method 10.
NEWCOMBE = [
    (56, 70, 48, 80, 0.0524, 0.3339),
    (9, 10, 3, 10, 0.1705, 0.8090),
    (10, 10, 0, 20, 0.6791, 1.0000),
    (5, 56, 0, 29, -0.0381, 0.1926),
    (0, 10, 0, 10, -0.2775, 0.2775),
]


@pytest.mark.parametrize(("k", "n", "j", "m", "low", "high"), NEWCOMBE)
def test_independent_shares_have_newcombes_published_interval(
    k: int,
    n: int,
    j: int,
    m: int,
    low: float,
    high: float,
) -> None:
    found = difference(share(k, n), share(j, m))
    assert found is not None
    assert found.low == pytest.approx(low, abs=PUBLISHED_DIGITS)
    assert found.high == pytest.approx(high, abs=PUBLISHED_DIGITS)


def test_a_part_and_its_whole_move_together() -> None:
    """The closed form for means: Var(A - B) = Var A + Var B - 2 (n_A / n_B) Var A."""
    part, whole = (
        KeyFigure("", "", estimate=m, conf_low=m - 2 * s, conf_high=m + 2 * s, count=n)
        for m, s, n in ((5.0, 0.3, 100), (4.0, 0.16, 400))
    )
    found = difference(part, whole, nested=True)
    assert found is not None
    spread = sqrt(0.3**2 + 0.16**2 - 2 * (100 / 400) * 0.3**2)
    assert found.low == pytest.approx(1 - 2 * spread)
    assert found.high == pytest.approx(1 + 2 * spread)
    back = difference(whole, part, nested=True)
    assert back is not None
    assert back.low == pytest.approx(-1 - 2 * spread)


@pytest.mark.parametrize(("p", "rest"), [(0.3, 0.3), (0.2, 0.5), (0.05, 0.4)])
def test_the_interval_of_a_part_against_its_whole_covers_the_truth(p: float, rest: float) -> None:
    draw = np.random.default_rng(1)
    n, m = 80, 320
    truth = p - (n * p + m * rest) / (n + m)
    inside = 0
    for k, other in zip(draw.binomial(n, p, 2000), draw.binomial(m, rest, 2000), strict=True):
        found = difference(share(int(k), n), share(int(k + other), n + m), nested=True)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    assert inside / 2000 == pytest.approx(0.95, abs=COVERAGE_SLACK)


def test_the_same_cases_never_differ() -> None:
    """A network of one dealership is not compared; a look with nobody new claims nothing."""
    figure = share(30, 40)
    assert change(figure, share(30, 40), against="network", nested=True) is None
    later = change(share(39, 40), share(2, 40), against="previous", nested=True)
    assert later is not None
    assert (later.direction, later.good, later.interval) == ("level", None, None)
    assert later.verdict == "whether they differ cannot be tested"


def test_nobody_of_five_is_no_proof_of_being_below() -> None:
    """A standard error would be zero here; the interval knows better."""
    found = change(share(0, 5), share(15, 100), against="network", nested=True)
    assert found is not None
    assert found.direction == "level"
    assert found.verdict == "no difference established"


@given(
    st.integers(0, 50), st.integers(1, 50), st.integers(0, 200), st.integers(1, 200), st.booleans()
)
def test_an_interval_holds_its_difference(k: int, n: int, j: int, m: int, nested: bool) -> None:
    k, j = min(k, n), min(j, m)
    found = difference(share(k, n), share(k + j, n + m), nested=nested)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    said = change(share(k, n), share(k + j, n + m), against="previous", nested=nested)
    assert said is not None
    assert (said.direction == "level") == (found.low <= 0 <= found.high)


def test_better_and_worse_follow_the_metric_and_not_the_sign() -> None:
    up = change(share(90, 100), share(50, 100), against="previous")
    assert up is not None
    assert (up.direction, up.good, up.value, up.verdict) == ("up", True, "+40.0 points", "better")
    slow = KeyFigure(
        "Days", "", estimate=5.0, conf_low=4.8, conf_high=5.2, count=90, unit="days", better="lower"
    )
    late = change(slow, KeyFigure("", "", estimate=4.0, conf_low=3.9, conf_high=4.1, count=80),
                  against="previous")  # fmt: skip
    assert late is not None
    assert (late.direction, late.good, late.value) == ("up", False, "+1.0 days")
    neutral = change(
        KeyFigure("n", "", estimate=12, count=12, unit="count"),
        KeyFigure("n", "", estimate=7, count=7, unit="count"),
        against="previous",
    )
    assert neutral is not None
    assert (neutral.direction, neutral.good, neutral.value) == ("up", None, "+5")


def test_a_target_is_met_missed_or_open() -> None:
    def met(target: float) -> tuple[str, bool | None]:
        said = against_target(share(60, 100), target)
        assert said is not None
        return said.direction, said.good

    assert [met(0.3), met(0.6), met(0.9)] == [("up", True), ("level", None), ("down", False)]
    said = against_target(share(60, 100), 0.65)
    assert said is not None
    assert said.label == "against the target of 65.0%"


def test_what_is_not_known_is_not_compared() -> None:
    unknown = KeyFigure("Share", "–", count=0)
    assert difference(share(1, 2), unknown) is None
    assert change(unknown, share(1, 2), against="network") is None
    assert against_target(unknown, 0.5) is None


# --- on the page ----------------------------------------------------------------------------------


def estimated(k: int, n: int, key: str = "share_of_ours") -> Estimates:
    low, high = wilson_interval(k, n)
    table = pl.DataFrame(five_columns([n], [k / n], [0.1], [low], [high]))
    return Estimates(
        table=table, name="Share", unit="share", definition="d", key=key, better="higher"
    )


def test_key_figures_are_matched_by_key() -> None:
    block = key_figures(
        [estimated(60, 100), estimated(1, 9, "another")],
        previous=[estimated(20, 100)],
        network=[estimated(300, 1000)],
        targets={"another": 0.9},
    )
    first, second = block.key_figures
    assert [c.against for c in first.changes] == ["previous", "network"]
    assert [c.against for c in second.changes] == ["target"]
    assert (first.key, first.estimate, first.count) == ("share_of_ours", 0.6, 100)
    assert block.definition is not None
    assert key_figures([estimated(6, 9)]).definition is None
    assert "▲ +40.0 points against a year earlier better" in block.to_text()


def test_a_target_is_a_number_and_may_be_another_pages() -> None:
    assert key_figures([estimated(6, 9)], targets={"of_another": 0.5}).definition is None
    with pytest.raises(InputError, match=r"must be a number; got '65%'"):
        key_figures([estimated(6, 9)], targets={"share_of_ours": "65%"})  # type: ignore[dict-item]


def test_the_head_of_a_page_takes_five_findings() -> None:
    assert len(findings(*"abcde").findings) == 5
    with pytest.raises(InputError, match="at most 5 findings; got 6"):
        findings(*"abcdef")


def test_changes_are_said_in_russian() -> None:
    with speaking("ru"):
        block = key_figures([estimated(60, 100)], previous=[estimated(20, 100)])
    (said,) = block.key_figures[0].changes
    assert said.value == "+40,0 п. п."
    assert said.label == "к прошлому году"
    with speaking("ru"):
        html = block.to_html()
    assert ">лучше<" in html
    assert 'aria-hidden="true">▲<' in html
