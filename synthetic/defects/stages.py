"""Stages of a lead in the wrong order, or dated too early."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from synthetic.defects.cells import Block, chosen
from synthetic.defects.labels import cell_labels

_PLACE = ("stage_events", "happened_at")


def _one_of_each(block: Block, kind: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return one of the rows of each lead that a kind of defect befalls."""
    leads = rows.group_by("opportunity_id", maintain_order=True).len()
    ids = leads["opportunity_id"].to_numpy()
    leads = leads.with_columns(
        pl.Series("_hit", chosen(block, _PLACE, kind, ids)),
        pl.Series("_which", block.draws.integer(f"defect.{kind}@1", leads["len"].to_numpy(), ids)),
    ).filter("_hit")
    place = pl.int_range(pl.len()).over("opportunity_id")
    return (
        rows.with_columns(_place=place)
        .join(leads, on="opportunity_id", maintain_order="left")
        .filter(pl.col("_place") == pl.col("_which"))
    )


def wrong_stage_order(block: Block) -> Iterator[pl.DataFrame]:
    """Exchange the moments of two neighbouring stages after the first."""
    events = block.frames["stage_events"].select("opportunity_id", "seq", "happened_at")
    after = [pl.col(name).shift(-1).over("opportunity_id") for name in ("seq", "happened_at")]
    pairs = events.filter(pl.col("seq") > 1).with_columns(
        after[0].alias("seq_after"), after[1].alias("after")
    )
    pairs = pairs.filter(pl.col("happened_at") != pl.col("after"))
    found = _one_of_each(block, "wrong_stage_order", pairs)
    for seq, old, new in (("seq", "happened_at", "after"), ("seq_after", "after", "happened_at")):
        rows = found.select("opportunity_id", seq=seq, old=old, new=new)
        yield cell_labels(*_PLACE, "wrong_stage_order", rows)


def back_dated_stages(block: Block) -> Iterator[pl.DataFrame]:
    """Date one stage after the first three to thirty days too early."""
    events = block.frames["stage_events"].select("opportunity_id", "seq", "happened_at")
    found = _one_of_each(block, "back_dated_stage", events.filter(pl.col("seq") > 1))
    days = block.draws.integer("defect.back_dated@1", 28, found["opportunity_id"].to_numpy()) + 3
    earlier = pl.col("happened_at") - pl.duration(days=pl.col("_days"))
    rows = found.with_columns(_days=pl.Series(days)).select(
        "opportunity_id", "seq", old="happened_at", new=earlier
    )
    yield cell_labels(*_PLACE, "back_dated_stage", rows)
