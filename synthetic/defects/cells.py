"""Which cells go wrong: one uniform a cell, cut into an interval for each kind of defect.

Intervals of one column lie side by side, each as wide as its kind needs at the heaviest level, so a
cell never has two defects and a lighter level's defects are among a heavier one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from synthetic.config import DEFECT_LEVELS, DefectSettings
from synthetic.defects.labels import Frames, cell_labels, key_of
from synthetic.keyed import Flags, Floats, Ints, Keyed

HEAVIEST = DEFECT_LEVELS[-1]
ADDED_FROM = 800_000_000_000
"""First id of a row that a defect adds."""

ORPHANS_FROM = 700_000_000_000
"""First of the ids that belong to nothing: where orphan keys point to."""

_PRIME = 2**31 - 1


@dataclass(frozen=True)
class Slot:
    """One kind of defect of a column.

    Attributes
    ----------
    kind : name in `truth_defect`.
    rate : setting of `DefectSettings`.
    most : greatest factor that a cell's own weight puts on the rate.
    """

    kind: str
    rate: str
    most: float = 1.0


_LATE = (Slot("late_entry", "late_entry"),)
_AT_RANDOM = Slot("missing_at_random", "missing_at_random")
_BY_VALUE = Slot("missing_by_value", "missing_by_value", most=2.0)
_SWAPPED = Slot("swapped_date", "swapped_dates")
_UNIT = Slot("wrong_unit", "wrong_unit")
_ORPHAN = Slot("orphan_key", "orphan_keys")

SLOTS: Mapping[tuple[str, str], tuple[Slot, ...]] = MappingProxyType(
    {
        ("customers", "phone"): (
            Slot("missing_at_random", "missing_phone"),
            Slot("shared_phone", "shared_phones"),
        ),
        ("customers", "email"): (_AT_RANDOM,),
        ("customers", "occupation"): (_AT_RANDOM,),
        ("customers", "income_band"): (_BY_VALUE,),
        ("customers", "birth_on"): (_BY_VALUE, _SWAPPED),
        ("customers", "entered_at"): _LATE,
        ("traffic", "customer_id"): (_ORPHAN,),
        ("traffic", "entered_at"): _LATE,
        ("opportunities", "source"): (_AT_RANDOM,),
        ("opportunities", "purpose"): (_AT_RANDOM,),
        ("opportunities", "lost_reason"): (_BY_VALUE,),
        ("opportunities", "model_id"): (_ORPHAN,),
        ("opportunities", "budget"): (_UNIT,),
        ("stage_events", "happened_at"): (
            Slot("wrong_stage_order", "wrong_stage_order"),
            Slot("back_dated_stage", "back_dated_stages"),
        ),
        ("stage_events", "entered_at"): _LATE,
        ("contacts", "entered_at"): _LATE,
        ("cases", "entered_at"): _LATE,
        ("deals", "vehicle_id"): (_ORPHAN,),
        ("deals", "delivery_on"): (_SWAPPED,),
        ("deals", "sale_price"): (_UNIT,),
        ("service_orders", "vehicle_id"): (_ORPHAN,),
        ("service_orders", "next_due_on"): (_SWAPPED,),
        ("service_orders", "mileage_km"): (Slot("mileage_roll_back", "mileage_roll_back"), _UNIT),
        ("service_orders", "labour"): (_UNIT,),
        ("service_orders", "parts"): (_UNIT,),
        ("surveys", "employee_id"): (_ORPHAN,),
    }
)
"""What may befall which column: (table, column) -> kinds."""


@dataclass(frozen=True)
class Block:
    """Clean tables of a block of customers, without the rows that may never be entered.

    Attributes
    ----------
    frames : clean open tables by name.
    draws : randomness of the world's seed.
    rates, level : how often what goes wrong.
    end : first moment after the last day of the data.
    locale : language of the names.
    """

    frames: Frames
    draws: Keyed
    rates: DefectSettings
    level: str
    end: datetime
    locale: str

    @property
    def last_moment(self) -> datetime:
        """Return the last minute in which anything could be typed in."""
        return self.end - timedelta(minutes=1)

    def rate(self, name: str) -> float:
        """Return the rate of a kind at this level."""
        return self.rates.at(name, self.level)

    def keys(self, table: str) -> tuple[Ints, Ints]:
        """Return the ids and event numbers that a table's draws are keyed by."""
        frame, key = self.frames[table], key_of(table)
        ids = frame[key[0]].to_numpy()
        event = frame[key[1]].cast(pl.Int64).to_numpy() if len(key) > 1 else np.zeros_like(ids)
        return ids, event


def places(kind: str) -> list[tuple[str, str]]:
    """Return the tables and columns that a kind of defect may befall."""
    return [place for place, slots in SLOTS.items() if any(slot.kind == kind for slot in slots)]


def chosen(
    block: Block, place: tuple[str, str], kind: str, ids: Ints, event: Any = 0, weight: Any = 1.0
) -> Flags:
    """Say for each cell whether a kind of defect befalls it; `weight` multiplies the rate."""
    start = 0.0
    for slot in SLOTS[place]:
        if slot.kind == kind:
            break
        start += slot.most * block.rates.at(slot.rate, HEAVIEST)
    uniform = block.draws.uniform(f"defect.{'.'.join(place)}@1", ids, event) - start
    return np.asarray((uniform >= 0) & (uniform < block.rate(slot.rate) * weight))


def spoiled_cells(
    block: Block, place: tuple[str, str], kind: str, new: pl.Expr, *, weight: pl.Expr | None = None
) -> pl.DataFrame:
    """Label the cells of a column that a kind of defect changes to `new`.

    Parameters
    ----------
    new : polars.Expr
        What a cell would turn into, over the table's columns.
    weight : polars.Expr, optional
        Factor on the rate of each cell, at most the slot's `most`.
    """
    table, column = place
    frame = block.frames[table]
    ids, event = block.keys(table)
    factor = 1.0 if weight is None else frame.select(weight).to_series().to_numpy()
    hit = pl.Series(chosen(block, place, kind, ids, event, factor))
    rows = frame.filter(hit).select(
        *key_of(table), pl.col(column).alias("old"), new.alias("new").cast(frame.schema[column])
    )
    return cell_labels(table, column, kind, rows)


def with_draw(block: Block, table: str, field: str) -> Block:
    """Return the block with a uniform `_u` beside each row of a table."""
    ids, event = block.keys(table)
    draw: Floats = block.draws.uniform(f"defect.{field}@1", ids, event)
    frames = block.frames | {table: block.frames[table].with_columns(_u=pl.Series(draw))}
    return Block(frames, block.draws, block.rates, block.level, block.end, block.locale)


def scrambled(draws: Keyed, numbers: Ints) -> Ints:
    """Return ids for added rows: one to one, and telling nothing of what they were made from."""
    bits = draws.bits("defect.scramble@1", np.arange(2)) >> np.uint64(34)
    factor, shift = int(bits[0]) + 1, int(bits[1])
    return np.asarray(ADDED_FROM + (numbers * factor + shift) % _PRIME)
