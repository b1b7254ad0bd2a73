"""Odometers that go back: less than at the car's visit before."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from synthetic.defects.cells import Block, places, spoiled_cells, with_draw


def mileage_roll_back(block: Block) -> Iterator[pl.DataFrame]:
    """Show 30 to 90 % of the odometer at the visit before."""
    for place in places("mileage_roll_back"):
        whole = with_draw(block, place[0], "roll_back")
        before = (
            pl.col("mileage_km")
            .shift()
            .over("vehicle_id", order_by=["opened_at", "service_order_id"])
        )
        back = (before * (0.3 + 0.6 * pl.col("_u"))).floor()
        frames = whole.frames
        frames[place[0]] = frames[place[0]].with_columns(
            _back=pl.when(before > 0).then(back).otherwise("mileage_km")
        )
        yield spoiled_cells(whole, place, "mileage_roll_back", pl.col("_back"))
