"""A table that a reader takes away: the numbers of an answer as files beside its page.

A notebook writes no file. What it shows carries the files' bytes with it, and whoever makes the
page puts them beside it: the same bytes in every kernel, whole or not at all, and gone when the
page no longer has them. In JupyterLab and under plain papermill a line says how to write them by
hand.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from crm_analysis.blocks import FILE_NAME, Block, BlockFile
from crm_analysis.errors import InputError
from crm_analysis.estimates import FEW, withheld
from crm_analysis.exports import csv_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crm_analysis.estimates import Estimates

__all__ = ["downloadable"]

MOST_BYTES = 5_000_000
"""A larger table is no annex to a page; it is data, and stays where the data are."""

_NUMBERS = pl.selectors.numeric() | pl.selectors.boolean() | pl.selectors.temporal()


def downloadable(result: Estimates, *, name: str, least_n: int = FEW) -> Block:
    """Return an answer as a page shows it, with its table as CSV and Parquet beside the page.

    Parameters
    ----------
    result : Estimates
        Its whole table goes into the files: tidy, with the columns' own names, shares as fractions.
    name : str
        Name of the files, in small letters, digits and underscores: ``"sales_cube"``. One page has
        each name once.
    least_n : int
        The numbers of a row that rests on fewer cases are left out of the files, and those of
        further rows where a total over all, or over one value of a column, would give it away. A
        cube does so by itself: see `sales_cube`.

    Returns
    -------
    Block
        Shown by a notebook's cell, it brings the files with it.

    Raises
    ------
    InputError
        A name that is none for a file, a table that a CSV file cannot hold, or one of more than
        five million bytes.
    """
    if not re.fullmatch(FILE_NAME, f"{name}.csv"):
        raise InputError(
            f"Files named {name!r} were asked for. Name them in small letters, digits and "
            "underscores, a letter first: 'sales_cube'."
        )
    table = _without_small(result, least_n)
    parquet = io.BytesIO()
    table.write_parquet(parquet)
    files = (
        BlockFile(f"{name}.csv", csv_text(table).encode("utf-8-sig")),
        BlockFile(f"{name}.parquet", parquet.getvalue()),
    )
    largest = max(len(file.data) for file in files)
    if largest > MOST_BYTES:
        raise InputError(
            f"A table of {largest:,} bytes was to stand beside a page; {MOST_BYTES:,} are the "
            "most. Name fewer groups, or write it where the data are with to_csv()."
        )
    return replace(result.show(), files=files)


def _without_small(result: Estimates, least_n: int) -> pl.DataFrame:
    """Leave out the numbers of small rows, where the table has not done it by itself."""
    table = result.table
    if "hidden" in table.columns:
        return table
    numbers = [c for c in table.select(_NUMBERS).columns if c not in result.by]
    hidden = pl.Series(_hidden(table, result.by, least_n))
    return table.with_columns(pl.when(~hidden).then(pl.col(c)).alias(c) for c in numbers)


def _hidden(table: pl.DataFrame, by: tuple[str, ...], least_n: int) -> NDArray[np.bool_]:
    """Say which rows to blank, so that no total over all, or over one group, gives them away."""
    n = table["n"].fill_null(0).to_numpy()
    hidden = withheld(n, least_n)
    if len(by) < 2:
        return np.asarray(hidden | (n == 0), np.bool_)
    rows = table.select(by).with_row_index("row")
    sums = [
        part["row"].to_numpy()
        for name in by
        for part in rows.partition_by(name, maintain_order=True)
    ]
    while True:
        wider = hidden.copy()
        for inside in sums:
            wider[inside] = withheld(n[inside], least_n, already=wider[inside])
        wider = withheld(n, least_n, already=wider)
        if (wider == hidden).all():
            return np.asarray(wider | (n == 0), np.bool_)
        hidden = wider
