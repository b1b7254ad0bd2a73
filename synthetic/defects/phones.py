"""Phones that many customers share: the dealership's own, typed to get past a field."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from synthetic.defects.cells import Block, places, spoiled_cells, with_draw

NUMBERS_A_DEALERSHIP = 3


def shared_phones(block: Block) -> Iterator[pl.DataFrame]:
    """Replace a customer's phone by one of a few numbers of the dealership."""
    for place in places("shared_phone"):
        whole = with_draw(block, place[0], "shared_phone")
        line = (pl.col("_u") * NUMBERS_A_DEALERSHIP).floor().cast(pl.Int64).cast(pl.String)
        home = pl.col("dealership_id").cast(pl.String).str.zfill(2)
        russian = block.locale == "ru_RU"
        parts = ["+7 (000) 0", home, "-00-0", line] if russian else ["+1 (900) 555-0", home, line]
        number = pl.concat_str([pl.lit(p) if isinstance(p, str) else p for p in parts])
        shared = pl.when(pl.col("phone").is_not_null()).then(number)
        yield spoiled_cells(whole, place, "shared_phone", shared)
