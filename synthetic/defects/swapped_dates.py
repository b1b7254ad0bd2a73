"""Day and month in each other's place: 3 July becomes 7 March."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from synthetic.defects.cells import Block, places, spoiled_cells


def swapped_dates(block: Block) -> Iterator[pl.DataFrame]:
    """Exchange day and month where that gives a date."""
    for place in places("swapped_date"):
        day = pl.col(place[1])
        exchanged = pl.date(day.dt.year(), pl.min_horizontal(day.dt.day(), 12), day.dt.month())
        swapped = pl.when(day.dt.day() <= 12).then(exchanged).otherwise(day)
        yield spoiled_cells(block, place, "swapped_date", swapped)
