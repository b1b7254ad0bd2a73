"""Which customer a row came with: the order of labels and added rows, whatever the block."""

from __future__ import annotations

import polars as pl

from crm_analysis.schema import FOREIGN_KEYS
from synthetic.defects.labels import Frames, key_of

_A_CUSTOMER = {"traffic": 20, "vehicles": 10}
"""Ids a customer has in the tables where a row may name none."""

_WITHOUT = ("dealerships", "employees", "models", "survey_questions", "customers")


def owners(frames: Frames, table: str) -> pl.DataFrame:
    """Return the key of each row of a table and the customer with whom it came, `owner`."""
    frame, key = frames[table], key_of(table)
    if table in _A_CUSTOMER:
        return frame.select(*key, owner=pl.col(key[0]) // _A_CUSTOMER[table])
    if "customer_id" in frame.columns:
        return frame.select(*key, owner="customer_id")
    for child, column, parent, parent_key in FOREIGN_KEYS:
        if child == table and parent in frames and parent not in _WITHOUT:
            known = owners(frames, parent).rename({parent_key: column})
            return frame.select(*dict.fromkeys([*key, column])).join(
                known, on=column, how="left", maintain_order="left"
            ).select(*key, "owner")  # fmt: skip
    return frame.select(*key, owner=pl.lit(0, dtype=pl.Int64))
