"""Observed against target: the packaged file, the verdicts, the table and the figure."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from crm_analysis.errors import InputError
from synthetic import write_network
from synthetic.cli import app
from synthetic.measures import Seen
from synthetic.observed import METRICS
from synthetic.reading import DataSet, open_data
from synthetic.targets import (
    Held,
    Target,
    as_markdown,
    as_svg,
    as_table,
    draw,
    hold,
    read_targets,
    summary,
    write_targets,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """A world of six years with enough customers for every rate to be known."""
    from datetime import date

    out = tmp_path_factory.mktemp("targets") / "data"
    write_network(out, preset="small", seed=3, n_customers=12_000, starts_on=date(2020, 1, 1))
    return open_data(out)


@pytest.fixture(scope="module")
def held(data: DataSet) -> list[Held]:
    return hold(data)


def test_the_packaged_targets_are_whole() -> None:
    targets = read_targets()
    assert {target.metric for target in targets} == set(METRICS)
    assert len({(t.metric, t.stratum, t.currency) for t in targets}) == len(targets)
    for target in targets:
        assert target.confidence in {"published", "derived", "assumed"}
        assert target.source
        assert target.unit
        assert target.tolerance > 0


def test_a_world_meets_its_targets_or_says_why_not(held: list[Held]) -> None:
    """Every miss carries its explanation in the calibration file."""
    off = [one for one in held if one.verdict == "off"]
    unexplained = [(one.target, one.seen) for one in off if not one.target.note]
    assert unexplained == []


@pytest.mark.parametrize("level", ["light", "medium", "heavy"])
def test_defects_are_as_frequent_as_their_level_says(level: str, tmp_path: Path) -> None:
    out = tmp_path / "data"
    write_network(out, preset="tiny", seed=4, n_customers=4_000, defects=level)
    wanted = [target for target in read_targets() if target.metric == "defect_share"]
    found = hold(open_data(out), wanted)
    mine = [one for one in found if one.target.stratum.startswith(level)]
    assert len(mine) == 5
    assert [(one.target, one.seen) for one in mine if one.verdict != "within"] == []
    assert {one.verdict for one in found if one not in mine} == {"not there"}


def test_what_the_data_cannot_show_is_not_called_off(held: list[Held]) -> None:
    gone = [one for one in held if one.verdict == "not there"]
    assert {"2014", "2015"} <= {one.target.stratum for one in gone}
    assert all(one.seen is None for one in gone)


def test_rates_equal_a_slow_count(data: DataSet, held: list[Held]) -> None:
    """One target by hand: among phone leads contacted, those with an appointment."""
    leads = data.tables["opportunities"].collect()
    known = dict(data.tables["customers"].select("customer_id", "created_at").collect().iter_rows())
    stages: dict[int, set[str]] = {}
    for row in data.tables["stage_events"].collect().iter_rows(named=True):
        stages.setdefault(row["opportunity_id"], set()).add(row["stage"])
    at_risk = passed = 0
    from datetime import date, timedelta

    for row in leads.iter_rows(named=True):
        first = known[row["customer_id"]] == row["opened_at"]
        mature = row["opened_at"].date() <= date(2025, 12, 31) - timedelta(days=180)
        if (
            first
            and mature
            and row["source"] == "phone"
            and "contact" in stages[row["opportunity_id"]]
        ):
            at_risk += 1
            passed += "appointment" in stages[row["opportunity_id"]]
    seen = next(one.seen for one in held if one.target.stratum == "phone appointment")
    assert seen is not None
    assert seen.n == at_risk
    assert seen.value == pytest.approx(passed / at_risk)


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [(0.52, 0.0, "within"), (0.56, 0.0, "off"), (0.56, 0.01, "within"), (0.40, 0.01, "off")],
)
def test_chance_is_allowed_past_the_tolerance(value: float, error: float, verdict: str) -> None:
    target = Target("used_share", "all", 0.5, 0.05, "share", "somebody", "assumed")
    one = Held(target, Seen("all", value, 100, error))
    assert one.verdict == verdict
    assert one.miss == pytest.approx((value - 0.5) / 0.05)


def test_the_table_and_the_page_hold_every_target(held: list[Held], tmp_path: Path) -> None:
    table = as_table(held)
    assert table.height == len(held)
    assert table["observed"].is_nan().sum() == 0
    assert as_markdown(held, "Title").count("\n| ") == len(held) + 1
    made = write_targets(held, tmp_path / "out", "Title")
    assert [path.name for path in made] == [
        "targets.md", "targets.csv", "targets.svg", "targets.html",
    ]  # fmt: skip
    page = (tmp_path / "out" / "targets.html").read_text(encoding="utf-8")
    assert page.count("<tr") == len(held) + 1
    assert summary(held) in page


def test_the_figure_is_the_same_each_time_and_draws_what_was_seen(held: list[Held]) -> None:
    figure = as_svg(held)
    assert figure == as_svg(held)
    assert ElementTree.fromstring(figure.encode()).tag.endswith("svg")
    labels = [text.get_text() for text in draw(held).get_yticklabels()]
    assert len(labels) == sum(one.seen is not None for one in held)


def test_other_targets_can_be_held_and_bad_ones_are_refused(data: DataSet) -> None:
    head = "metric,stratum,value,tolerance,unit,source,confidence\n"
    (one,) = hold(data, read_targets(head + "used_share,all,0.9,0.01,share,me,assumed\n"))
    assert one.verdict == "off"
    for line, said in (
        ("used_shar,all,0.9,0.01,share,me,assumed", "used_shar"),
        ("used_share,all,0.9,0,share,me,assumed", "greater than zero"),
        ("used_share,all,lots,0.1,share,me,assumed", "not a number"),
    ):
        with pytest.raises(InputError, match=said):
            read_targets(head + line + "\n")


def test_the_command_ends_with_status_one_when_something_is_off(
    data: DataSet, tmp_path: Path
) -> None:
    wanted = tmp_path / "wanted.csv"
    head = "metric,stratum,value,tolerance,unit,source,confidence\n"
    wanted.write_text(head + "used_share,all,0.28,0.05,share,me,assumed\n", encoding="utf-8")

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["targets", str(data.path), *words])
        return done.exit_code, done.output

    status, text = run("--targets", str(wanted))
    assert (status, "1 of 1 targets within" in text) == (0, True)
    wanted.write_text(head + "used_share,all,0.9,0.05,share,me,assumed\n", encoding="utf-8")
    status, text = run("--targets", str(wanted), "--out", str(tmp_path / "out"))
    assert (status, "1 off" in text) == (1, True)
    assert (tmp_path / "out" / "targets.svg").exists()
    assert run("--targets", str(tmp_path / "none.csv"))[0] == 2
