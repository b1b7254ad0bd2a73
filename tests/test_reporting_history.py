"""What was reported stays as it was reported: rows are added, never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from nbformat import v4

from crm_analysis.blocks import BLOCK_MIME, Block, KeyFigure
from crm_analysis.reporting.history import FILE, Chain, History, figure_rows
from crm_analysis.reporting.reported import show_reported

CHAIN = Chain("director", "network", "abc", "month")


def rows(period: str, estimate: float, *, data: str = "d1", key: str = "nps") -> list[Any]:
    origin = {
        "batch": "b1",
        "report": CHAIN.report,
        "notebook": "notebooks/director.ipynb",
        "settings": CHAIN.settings,
        "dealership": CHAIN.dealership,
        "period": period,
        "as_of": f"{period}-28",
        "reported_at": "2025-12-31",
        "data": data,
        "code": "c1",
    }
    figure = {
        "key": key,
        "estimate": estimate,
        "conf_low": estimate - 1,
        "conf_high": estimate + 1,
        "count": 50,
        "unit": "points",
        "label": "NPS",
    }
    return figure_rows([figure, {"label": "a figure without a name", "value": "3"}], origin)


def begun(folder: Path) -> History:
    history = History(folder / FILE)
    history.add(CHAIN, rows("2025-10", 40.0))
    history.add(CHAIN, rows("2025-11", 42.0))
    history.save()
    return history


def test_a_report_looks_back_on_the_day_before_its_own(tmp_path: Path) -> None:
    begun(tmp_path)
    history = History(tmp_path / FILE)
    [before] = history.reported(CHAIN, "2025-12-31")
    assert (before["key"], before["estimate"], before["as_of"]) == ("nps", 42.0, "2025-11-28")
    assert history.reported(CHAIN, "2025-11-28")[0]["estimate"] == 40.0
    assert history.reported(CHAIN, "2025-10-28") == []
    assert history.reported(CHAIN, None) == []


@pytest.mark.parametrize(
    "other",
    [
        CHAIN._replace(report="retention"),
        CHAIN._replace(dealership="North"),
        CHAIN._replace(settings="another definition"),
        CHAIN._replace(kind="quarter"),
    ],
)
def test_nothing_is_held_against_what_is_not_comparable(tmp_path: Path, other: Chain) -> None:
    assert begun(tmp_path).reported(other, "2025-12-31") == []


def test_a_file_from_before_currencies_were_kept_is_read(tmp_path: Path) -> None:
    begun(tmp_path)
    path = tmp_path / FILE
    pl.read_parquet(path).drop("currency").write_parquet(path)
    history = History(path)
    assert [row["currency"] for row in history.reported(CHAIN, "2025-12-31")] == [None]
    assert history.damaged is None
    history.add(CHAIN, rows("2025-12", 41.0))
    history.save()
    assert pl.read_parquet(path)["currency"].to_list() == [None, None, None]


@pytest.mark.parametrize(("currency", "compared"), [("USD", 1), (None, 1), ("RUB", 0)])
def test_money_is_held_against_the_same_money_only(currency: str | None, compared: int) -> None:
    numbers: dict[str, Any] = {"estimate": 90.0, "conf_low": 80.0, "conf_high": 99.0, "count": 50}
    figure = KeyFigure("Value", "$90", key="value", unit="money", currency="USD", **numbers)
    block = Block("key_figures", key_figures=(figure,))
    output = v4.new_output("display_data", block._repr_mimebundle_())  # type: ignore[no-untyped-call]
    cell = v4.new_code_cell("1", outputs=[output])  # type: ignore[no-untyped-call]
    notebook = v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
    before = {"key": "value", "unit": "money", "currency": currency, "as_of": "2025-10-31"}
    show_reported(notebook, [{**numbers, **before}])
    [shown] = output.data[BLOCK_MIME]["key_figures"]
    assert len(shown["changes"]) == compared


def test_the_file_does_not_say_which_report_ended_first(tmp_path: Path) -> None:
    both = [rows("2025-10", 40.0), rows("2025-10", 2.5, key="cars")]
    for name, order in (("one", both), ("other", both[::-1])):
        history = History(tmp_path / f"{name}.parquet")
        for figures in order:
            history.add(CHAIN, figures)
        history.save()
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()


def test_a_restated_figure_is_a_new_row_and_the_old_one_stays(tmp_path: Path) -> None:
    begun(tmp_path)
    history = History(tmp_path / FILE)
    history.add(CHAIN, rows("2025-11", 45.0, data="d2"))
    history.save()
    table = pl.read_parquet(tmp_path / FILE)
    assert table["estimate"].to_list() == [40.0, 42.0, 45.0]
    assert table["revision"].to_list() == [1, 1, 2]
    as_known_now = History(tmp_path / FILE).series(CHAIN)["nps"]
    assert [row["estimate"] for row in as_known_now] == [40.0, 45.0]


def test_what_was_reported_already_is_not_reported_again(tmp_path: Path) -> None:
    begun(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    history = History(tmp_path / FILE)
    history.add(CHAIN, rows("2025-11", 42.0))
    history.save()
    assert (tmp_path / FILE).read_bytes() == before
    history.add(CHAIN, rows("2025-11", 42.0, data="d2"))  # the same value from other data
    history.save()
    assert pl.read_parquet(tmp_path / FILE)["revision"].to_list() == [1, 1, 2]


def test_days_are_days_and_a_figure_that_is_not_known_is_null(tmp_path: Path) -> None:
    history = History(tmp_path / FILE)
    [row] = rows("2025-10", 40.0)
    unknown = {**row, "estimate": None, "conf_low": None, "conf_high": None, "count": 0}
    history.add(CHAIN, [unknown])
    history.save()
    table = pl.read_parquet(tmp_path / FILE)
    assert table.schema["as_of"] == pl.Date
    assert table["estimate"].to_list() == [None]
    assert History(tmp_path / FILE).reported(CHAIN, "2026-01-01")[0]["estimate"] is None


@pytest.mark.parametrize("damage", ["cut", "another table", "text", "empty"])
def test_a_damaged_history_is_said_and_set_aside(tmp_path: Path, damage: str) -> None:
    begun(tmp_path)
    path = tmp_path / FILE
    whole = path.read_bytes()
    if damage == "another table":
        pl.DataFrame({"x": [1]}).write_parquet(path)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"abc", "empty": b""}[damage])
    wrong = path.read_bytes()
    history = History(path)
    assert history.reported(CHAIN, "2025-12-31") == []
    assert history.damaged is not None
    [aside] = tmp_path.glob("history.damaged-*.parquet")
    assert aside.name in history.damaged
    assert aside.read_bytes() == wrong
    history.add(CHAIN, rows("2025-12", 41.0))
    history.save()
    assert pl.read_parquet(path).height == 1


def test_a_history_that_cannot_be_written_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    history = History(tmp_path / FILE)
    history.add(CHAIN, rows("2025-12", 41.0))

    def full(_part: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        history.save()
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_an_untouched_history_answers_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)
    first = History(tmp_path / FILE)
    answer = first.reported(CHAIN, "2025-12-31")
    first.save()
    second = History(tmp_path / FILE, first.memo)
    with monkeypatch.context() as patched:
        patched.setattr(pl, "DataFrame", None)
        patched.setattr(Path, "read_bytes", None)
        assert second.reported(CHAIN, "2025-12-31") == answer
    (tmp_path / FILE).unlink()
    assert History(tmp_path / FILE, first.memo).reported(CHAIN, "2025-12-31") == []
