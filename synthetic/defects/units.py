"""Amounts in the wrong unit: times a thousand, or a thousandth where that would not fit."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from synthetic.defects.cells import Block, places, spoiled_cells

_MOST = 2**31 - 1


def wrong_unit(block: Block) -> Iterator[pl.DataFrame]:
    """Type an amount in another unit."""
    for place in places("wrong_unit"):
        amount = pl.col(place[1]).cast(pl.Int64)
        other = pl.when(amount * 1000 <= _MOST).then(amount * 1000).otherwise(amount // 1000)
        yield spoiled_cells(block, place, "wrong_unit", other)
