"""Keys that point to a record since deleted."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from synthetic.defects.cells import ORPHANS_FROM, Block, places, spoiled_cells, with_draw


def orphan_keys(block: Block) -> Iterator[pl.DataFrame]:
    """Point a key to an id that belongs to nothing."""
    for place in places("orphan_key"):
        whole = with_draw(block, place[0], f"orphan.{'.'.join(place)}")
        nobody = ORPHANS_FROM + (pl.col("_u") * 1e9).floor().cast(pl.Int64)
        lost = pl.when(pl.col(place[1]).is_not_null()).then(nobody)
        yield spoiled_cells(whole, place, "orphan_key", lost)
