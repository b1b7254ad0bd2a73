"""How a key figure stands against another: published intervals, and what must never be claimed."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_analysis.blocks import Block, KeyFigure
from crm_analysis.changes import against_target, change, difference, least_size
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    findings,
    five_columns,
    key_figures,
    scoreboard,
)
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


def test_what_time_alone_changes_is_held_against_no_other_year_and_called_no_success() -> None:
    still, before = (replace(estimated(k, 100), key="still_here", drifts=True) for k in (60, 20))
    head = key_figures(
        [still],
        previous=[before],
        earlier=[before],
        network=[replace(estimated(300, 1000), key="still_here")],
        targets={"still_here": 0.3},
    )
    (card,) = head.key_figures
    assert [(c.against, c.good) for c in card.changes] == [("network", True), ("target", True)]
    (older,) = key_figures([before]).key_figures
    since = change(card, older, against="reported")
    assert since is not None
    assert (since.direction, since.good, since.verdict) == ("up", None, "")


@pytest.mark.parametrize(
    ("low", "value", "said"),
    [
        (0.006, 0.010, ("+1.0 points", "+0.6 to +1.4")),
        (0.0004, 0.010, ("+1.00 points", "+0.04 to +1.96")),
        (0.00004, 0.010, ("+1.000 points", "+0.004 to +1.996")),
        (-0.0004, 0.010, ("+1.0 points", "0.0 to +2.0")),
    ],
)
def test_an_interval_that_leaves_out_zero_is_not_written_as_if_it_held_it(
    low: float, value: float, said: tuple[str, str]
) -> None:
    arm, then = value - low, 0.5 - value
    now = KeyFigure("", "", estimate=0.5, conf_low=0.5 - arm, conf_high=0.5 + arm, unit="share")
    fixed = replace(now, estimate=then, conf_low=then, conf_high=then)
    found = change(now, fixed, against="previous")
    assert found is not None
    assert (found.value, found.interval) == said


def test_a_target_is_a_number_and_may_be_another_pages() -> None:
    assert key_figures([estimated(6, 9)], targets={"of_another": 0.5}).definition is None
    with pytest.raises(InputError, match=r"must be a number; got '65%'"):
        key_figures([estimated(6, 9)], targets={"share_of_ours": "65%"})  # type: ignore[dict-item]


# --- what is said first ---------------------------------------------------------------------------


def test_a_difference_counts_for_the_least_it_may_be() -> None:
    """.5 against at most .4: h = 2 (asin sqrt .5 - asin sqrt .4) = .2014; 80 against 100: a fifth;
    5 points of a score whose answers have a deviation of 75: d = .0667."""
    assert least_size(0.1, 0.3, value=0.5, unit="share") == pytest.approx(0.20136, abs=1e-5)
    assert least_size(-40, -20, value=80) == pytest.approx(0.2)
    assert least_size(5, 30, value=20, unit="points", spread=75) == pytest.approx(5 / 75)
    assert least_size(-1, 1, value=5) == least_size(None, None, value=5) == 0


def test_scales_agree_about_one_half() -> None:
    """A twentieth off one half is a tenth of it, on the scale of shares and on that of money."""
    as_share = least_size(0.05, 0.2, value=0.525, unit="share")
    assert as_share == pytest.approx(least_size(0.05, 0.2, value=0.525), rel=0.06)


def teams(*shares: float, n: int = 400, name: str = "Teams") -> Estimates:
    """Shares of groups, with the errors of so many cases."""
    spread = [sqrt(p * (1 - p) / n) for p in shares]
    low, high = ([p + s * 1.96 * e for p, e in zip(shares, spread, strict=True)] for s in (-1, 1))
    table = pl.DataFrame({"team": list("abcdefgh")[: len(shares)]}).with_columns(
        **five_columns([n] * len(shares), shares, spread, low, high)
    )
    return Estimates(table=table, name=name, unit="share", definition="", by=("team",))


def nothing_known() -> Estimates:
    table = pl.DataFrame(five_columns([0], *[[np.nan]] * 4))
    return Estimates(table=table, name="", unit="share", definition="")


def test_the_largest_difference_is_said_first() -> None:
    """Established before not established, larger before smaller, alike as given, unknown last."""
    head = key_figures(
        [estimated(60, 100), replace(estimated(52, 100), key="b", name="B")],
        previous=[estimated(20, 100), replace(estimated(50, 100), key="b")],
    )
    wide, narrow = teams(0.3, 0.5, 0.5, name="Wide"), teams(0.44, 0.53, 0.53, name="Narrow")
    unknown = replace(nothing_known(), key="c", name="Unknown")
    given: list[Estimates | Block | str] = [
        unknown,
        "By hand.",
        teams(0.5, 0.5, 0.5, name="Even"),
        narrow,
        head,
        wide,
    ]
    said = findings(*given).findings
    assert [text.split(":")[0].split(" runs")[0].split(" is ")[0] for text in said] == [
        "Share", "Wide", "Narrow", "By hand.", "Even",
    ]  # fmt: skip
    assert len(findings(*given, limit=2).findings) == 2
    assert findings(unknown, "By hand.").findings[0] == "By hand."


def test_sizes_alike_keep_the_order_given() -> None:
    """One is at least .18 off and the other .20: less than a step of two apart."""
    one, other = teams(0.37, 0.53, 0.53, name="One"), teams(0.36, 0.53, 0.53, name="Other")
    assert one.importance() < other.importance()
    assert findings(one, other).findings[0].startswith("One")
    assert findings(other, one).findings[0].startswith("Other")


def test_chance_and_sheer_numbers_carry_nothing_to_the_top() -> None:
    small_but_sure = teams(0.500, 0.505, 0.505, n=1_000_000)
    large_and_unsure = teams(0.3, 0.6, 0.6, n=20)
    sound = teams(0.40, 0.55, 0.55, n=1_000)
    assert large_and_unsure.importance() < sound.importance()
    assert 0 < small_but_sure.importance() < sound.importance()


class Told(Estimates):
    """An answer whose sentence says more than its card."""

    says_more = True


def test_a_figure_is_said_once_and_with_what_it_was_held_against() -> None:
    head = key_figures([estimated(60, 100)], previous=[estimated(20, 100)])
    (said,) = findings(estimated(60, 100), head).findings
    assert said == (
        "Share: 60.0% (50.2% to 69.1%, n = 100); +40.0 points against a year earlier "
        "(+26.8 to +51.2), better."
    )
    # Groups are another figure; parts of the same one say it better than its card.
    groups = replace(teams(0.5, 0.5), key="share_of_ours", name="Groups")
    assert [text[:5] for text in findings(head, groups).findings] == ["Share", "Group"]
    parts = groups.table.rename({"team": "measure"})
    richer = replace(groups, table=parts, by=("measure",), name="Richer")
    assert [text[:6] for text in findings(head, richer).findings] == ["Richer"]
    told = replace(Told(**vars(estimated(60, 100))), name="Told")
    assert [text[:4] for text in findings(head, told).findings] == ["Told"]


def test_a_change_that_is_neither_better_nor_worse_is_no_news() -> None:
    neutral = replace(estimated(60, 100), better=None)
    head = key_figures([neutral], previous=[estimated(20, 100)])
    assert head.key_figures[0].changes[0].size > 0
    assert findings("First.", head).findings[0] == "First."


def test_a_head_of_a_page_has_one_to_five_findings_of_figures() -> None:
    assert findings(*"abcdef").findings == tuple("abcde")
    with pytest.raises(InputError, match="with 6 findings was asked for; a reader takes 1 to 5"):
        findings("a", limit=6)
    with pytest.raises(InputError, match="no key figures"):
        findings(teams(0.5, 0.5).show())


def test_a_scoreboard_has_a_line_for_every_figure() -> None:
    """Beside each stands what its department's block was held against, and no empty column."""
    leads = key_figures([estimated(60, 100)], previous=[estimated(20, 100)])
    money = key_figures(
        [replace(estimated(9, 10), key="b", name="B"), replace(nothing_known(), key="c", name="C")],
        targets={"b": 0.95},
    )
    board = scoreboard({"leads": leads, "client_service": money})
    assert board.finding == (
        "Against a year earlier – better (1): Share. "
        "Against the target – no difference established: 1 of 1."
    )
    table = board.table
    assert table is not None
    assert [column.name for column in table.columns] == [
        "name", "estimate", "previous", "target",
    ]  # fmt: skip
    assert [row[0] for row in table.rows] == ["LEADS", "Share", "CLIENT SERVICE", "B", "C"]
    assert table.rows[0][1:] == ("", "", "")
    assert table.rows[1][2:] == ("▲ +40.0 points (+26.8 to +51.2), better", "–")
    with pytest.raises(InputError, match="no key figures"):
        scoreboard({"leads": findings("a")})


def test_changes_are_said_in_russian() -> None:
    with speaking("ru"):
        block = key_figures([estimated(60, 100)], previous=[estimated(20, 100)])
    (said,) = block.key_figures[0].changes
    assert said.value == "+40,0\N{NO-BREAK SPACE}п.\N{NO-BREAK SPACE}п."
    assert said.label == "к прошлому году"
    with speaking("ru"):
        html = block.to_html()
    assert ">лучше<" in html
    assert 'aria-hidden="true">▲<' in html
