"""Values that were not kept: at random, and by what they say."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from synthetic.defects.cells import Block, places, spoiled_cells

_OFTEN, _SELDOM = 2.0, 0.5
_NOTHING = pl.lit(None)


def missing_at_random(block: Block) -> Iterator[pl.DataFrame]:
    """Lose values whatever they say."""
    for place in places("missing_at_random"):
        yield spoiled_cells(block, place, "missing_at_random", _NOTHING)


def missing_by_value(block: Block) -> Iterator[pl.DataFrame]:
    """Lose values because of what they say: an estimate from those left is biased."""
    age_days = pl.col("created_at").dt.date() - pl.col("birth_on")
    likely = {
        "income_band": pl.col("income_band").cast(pl.String) == "high",
        "birth_on": age_days.dt.total_days() >= 50 * 365.25,
        "lost_reason": pl.col("lost_reason").cast(pl.String).is_in(["price", "competitor"]),
    }
    for place in places("missing_by_value"):
        often = likely[place[1]].fill_null(value=False)
        weight = pl.when(often).then(_OFTEN).otherwise(_SELDOM)
        yield spoiled_cells(block, place, "missing_by_value", _NOTHING, weight=weight)
