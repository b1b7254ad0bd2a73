"""Tables beside a page: the same bytes in every kernel, all or none, and gone with it."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from toy_notebooks import PARAMETERS, write_notebook, write_project

from crm_analysis import Estimates, InputError, downloadable, sales_cube
from crm_analysis.blocks import BLOCK_MIME, FILES_MIME
from crm_analysis.errors import ReportError
from crm_analysis.estimates import five_columns
from crm_analysis.reporting import Batch, make_batch, open_batch
from crm_analysis.reporting.beside import put_beside, tables_in

SHOW = """\
import polars as pl
from crm_analysis import Estimates, downloadable
from crm_analysis.estimates import five_columns
table = pl.DataFrame({"team": ["=1+1", "b"]}).with_columns(
    **five_columns([50, 3], [0.5, 0.25], [0.1, 0.1], [0.3, 0.1], [0.7, 0.9])
)
share = Estimates(table=table, name="Share", unit="share", definition="d", by=("team",))
downloadable(share, name="teams")
"""


def estimates(*n: int) -> Estimates:
    half, low, high = ([value] * len(n) for value in (0.5, 0.1, 0.9))
    columns = five_columns(n, half, half, low, high)
    table = pl.DataFrame({"team": list("abcdef")[: len(n)]}).with_columns(**columns)
    return Estimates(table=table, name="Share", unit="share", definition="d", by=("team",))


def files_of(result: Estimates, **more: int) -> dict[str, bytes]:
    block = downloadable(result, name="teams", **more)
    return {file.name: file.data for file in block.files}


def parquet(data: bytes) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(data))


# --- what is in the files -------------------------------------------------------------------------


def test_the_files_hold_the_table_and_small_rows_are_blank() -> None:
    files = files_of(estimates(50, 3, 4))
    assert list(files) == ["teams.csv", "teams.parquet"]
    table = parquet(files["teams.parquet"])
    assert table.row(0) == estimates(50, 3, 4).table.row(0)
    assert table.row(1) == ("b", *[None] * 5)
    rows = list(csv.reader(io.StringIO(files["teams.csv"].decode("utf-8-sig"))))
    assert rows[2] == ["b", "", "", "", "", ""]
    assert parquet(files_of(estimates(50, 3), least_n=1)["teams.parquet"]).row(1)[1] == 3


def test_no_small_row_of_a_file_follows_from_the_others() -> None:
    """One blank row would be the whole less the rest: the smallest of those goes with it."""
    table = parquet(files_of(estimates(50, 3, 20, 9))["teams.parquet"])
    assert table["n"].to_list() == [50, None, 20, None]
    two = pl.DataFrame(
        {"place": ["x", "x", "x", "y", "y", "y"], "kind": ["a", "b", "c"] * 2,
         "n": [9, 3, 8, 20, 30, 40]}
    ).with_columns(estimate=0.5, std_error=0.1, conf_low=0.4, conf_high=0.6)  # fmt: skip
    whole = Estimates(table=two, name="Share", unit="share", definition="", by=("place", "kind"))
    n = parquet(files_of(whole)["teams.parquet"])["n"].to_list()
    # Each blank has another in its row and in its column, so that no margin gives it away.
    assert n == [9, None, None, 20, None, None]


def test_a_cube_brings_its_own_suppression() -> None:
    """Hidden cells are null in the file, those that would give a small one away too."""
    rows = [("a", "x")] * 9 + [("a", "y")] * 2 + [("b", "x")] * 7 + [("b", "y")] * 8
    sales = pl.DataFrame(rows, schema=["segment", "source"], orient="row").with_columns(
        contract_on=pl.date(2025, 5, 1)
    )
    cube = sales_cube(sales, by=["segment", "source"], as_of=date(2025, 12, 31))
    table = parquet(files_of(cube)["teams.parquet"])
    hidden = table.filter("hidden")
    assert hidden.height > 1
    assert (
        hidden.select("n", "estimate", "std_error", "conf_low", "conf_high").null_count().row(0)
        == (hidden.height,) * 5
    )


def test_a_name_for_a_file_is_small_letters() -> None:
    for name in ("../x", "Cube", "a b", "", "1a", "x.csv"):
        with pytest.raises(InputError, match="small letters, digits"):
            downloadable(estimates(9), name=name)


def test_a_notebook_says_where_the_files_will_be() -> None:
    bundle = downloadable(estimates(9), name="teams")._repr_mimebundle_()
    assert list(bundle[FILES_MIME]) == ["teams.csv", "teams.parquet"]
    assert "write them with to_csv()" in bundle["text/html"]
    assert bundle[BLOCK_MIME]["files"] == ["teams.csv", "teams.parquet"]
    json.dumps(bundle)


# --- where they go ------------------------------------------------------------------------------


def test_files_come_and_go_with_their_page(tmp_path: Path) -> None:
    page, other = tmp_path / "m.en.html", tmp_path / "m.en.notes.txt"
    (tmp_path / "m.ru.teams.csv").write_text("of another page")
    other.write_text("by hand")
    put_beside(page, {"a.csv": b"1", "b.parquet": b"2"})
    assert put_beside(page, {"b.parquet": b"3"}) == ["m.en.b.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m.en.b.parquet", "m.en.notes.txt", "m.ru.teams.csv",
    ]  # fmt: skip
    assert (tmp_path / "m.en.b.parquet").read_bytes() == b"3"
    assert put_beside(page, {}) == []
    assert other.is_file()


def test_all_are_written_or_none(tmp_path: Path) -> None:
    page = tmp_path / "m.en.html"
    (tmp_path / "m.en.b.csv" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"m\.en\.b\.csv"):
        put_beside(page, {"a.csv": b"1", "b.csv": b"2"})
    assert not (tmp_path / "m.en.a.csv").exists()


class Cells:
    def __init__(self, *files: dict[str, object]) -> None:
        self.cells = [{"outputs": [{"data": {FILES_MIME: one}}]} for one in files]


@pytest.mark.parametrize(
    "files",
    [({"a.csv": "MQ=="}, {"a.csv": "MQ=="}), ({"../a.csv": "MQ=="},), ({"a.csv": "?"},),
     ({"a.csv": 1},)],
)  # fmt: skip
def test_what_is_no_file_of_ours_is_refused(files: tuple[dict[str, object], ...]) -> None:
    with pytest.raises(ReportError, match=r"downloadable"):
        tables_in(Cells(*files))


# --- a report with a table ------------------------------------------------------------------------


def batch_of(root: Path, source: str, *, isolate: bool = False, out: str = "made") -> Batch:
    cells = [("markdown", "# Teams"), ("code", PARAMETERS, "parameters"), ("code", source)]
    write_notebook(root / "notebooks" / "teams.ipynb", cells)
    plan = root / "reports" / "plan.toml"
    plan.write_text(f'out = "{out}"\nnotebooks = ["teams"]\nformats = ["html", "pdf"]\n')
    return make_batch(open_batch(plan, root=root), isolate=isolate, workers=1)


@pytest.mark.notebook
@pytest.mark.slow
def test_a_page_links_its_tables_and_loses_them_with_the_cell(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    first = batch_of(root, SHOW)
    names = ["teams.en.teams.csv", "teams.en.teams.parquet"]
    (outcome,) = first.outcomes
    assert outcome.result["files"] == names
    page = first.out / outcome.run.path
    html = page.read_text(encoding="utf-8")
    assert [f'href="{name}" download' in html for name in names] == [True, True]
    assert "write them with to_csv()" not in html
    text = (page.parent / names[0]).read_text("utf-8-sig")
    assert text.splitlines()[1].startswith('"\'=1+1"')
    assert batch_of(root, SHOW).count("unchanged") == 1
    (page.parent / names[1]).unlink()  # a file that is gone is made again, with its page
    assert batch_of(root, SHOW).count("made") == 1
    apart = batch_of(root, SHOW, isolate=True, out="apart")
    for name in names:
        assert (page.parent / name).read_bytes() == (apart.out / name).read_bytes()
    batch_of(root, "print(1)")
    assert not any((page.parent / name).exists() for name in names)


@pytest.mark.notebook
@pytest.mark.slow
def test_two_tables_of_one_name_fail_and_leave_none(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    batch = batch_of(root, SHOW + "\ndisplay(downloadable(share, name=\"teams\"))\n"
                     "downloadable(share, name=\"teams\")")  # fmt: skip
    (outcome,) = batch.outcomes
    assert outcome.status == "failed"
    assert "a name of its own" in outcome.result["failure"]["message"]
    assert not list(batch.out.glob("*.csv"))
