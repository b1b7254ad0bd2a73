"""Records typed in days after the event."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from synthetic.defects.cells import Block, places, spoiled_cells, with_draw

MEAN_DAYS = 7.0
"""Mean days of delay past the first [assumed]."""

_MINUTES_A_DAY = 1440


def late_entry(block: Block) -> Iterator[pl.DataFrame]:
    """Type a record in a day late and more, and not after the last day of the data."""
    for place in places("late_entry"):
        if place[0] not in block.frames:
            continue
        whole = with_draw(block, place[0], f"late.{place[0]}")
        days = 1.0 - MEAN_DAYS * pl.col("_u").log()
        minutes = (days * _MINUTES_A_DAY).floor().cast(pl.Int64)
        late = pl.col("entered_at") + pl.duration(minutes=minutes)
        limit = pl.lit(block.last_moment).cast(pl.Datetime("us"))
        held = pl.when(late > limit).then(limit).otherwise(late)
        yield spoiled_cells(whole, place, "late_entry", held)
