"""What was never typed in: approaches without a name, and leads that came to nothing."""

from __future__ import annotations

import polars as pl

from crm_analysis.schema import FOREIGN_KEYS, TABLES
from synthetic.defects.labels import REMOVED, Frames, key_of, row_labels
from synthetic.keyed import Keyed

KIND = "never_entered"
_MEETINGS = ("opportunities", "vehicles", "deals", "service_orders")
"""Tables with a row for every customer who did more than ask once."""


def _drawn(rows: pl.DataFrame, draws: Keyed, rate: float, key: str) -> pl.DataFrame:
    hit = draws.chance(f"defect.never.{key}@1", rate, rows[key].to_numpy())
    return rows.filter(pl.Series(hit)).select(key)


def _asked_once(frames: Frames, leads: pl.DataFrame) -> pl.DataFrame:
    """Return the customers whose only meeting with the dealership is one of the leads."""
    meetings = pl.concat([frames[name].select("customer_id") for name in _MEETINGS])
    alone = meetings.group_by("customer_id").len().filter(pl.col("len") == 1)
    theirs = frames["opportunities"].join(leads, on="opportunity_id", how="semi")
    return theirs.join(alone, on="customer_id", how="semi").select("customer_id")


def never_entered(frames: Frames, draws: Keyed, rate: float) -> Frames:
    """Return, by table, the keys of the rows that are missing at a rate.

    A lead goes with its stages and contacts, and a customer who only ever asked that once goes
    with everything the CRM would have kept of them.
    """
    quiet = frames["opportunities"].join(frames["deals"], on="opportunity_id", how="anti")
    leads = _drawn(quiet, draws, rate, "opportunity_id")
    nameless = frames["traffic"].filter(pl.col("customer_id").is_null())
    gone = {
        "opportunities": leads,
        "customers": _asked_once(frames, leads),
        "traffic": _drawn(nameless, draws, rate, "traffic_id"),
    }
    for child in TABLES:
        if child in frames:
            gone = _with_children(frames, gone, child)
    return {name: keys.unique().sort(key_of(name)) for name, keys in gone.items() if keys.height}


def _with_children(frames: Frames, gone: Frames, child: str) -> Frames:
    """Add the rows of a table whose parents are gone."""
    links = [link for link in FOREIGN_KEYS if link[0] == child and link[2] in gone]
    found = [
        frames[child]
        .join(gone[parent].select(pl.col(key).alias(column)), on=column, how="semi")
        .select(key_of(child))
        for _, column, parent, key in links
    ]
    if child in gone:
        found.append(gone[child])
    return gone | {child: pl.concat(found)} if found else gone


def without(frames: Frames, gone: Frames) -> Frames:
    """Return the tables without the rows of the keys."""
    return {
        name: frame.join(gone[name], on=key_of(name), how="anti", maintain_order="left")
        if name in gone
        else frame
        for name, frame in frames.items()
    }


def removed(frames: Frames, gone: Frames) -> list[pl.DataFrame]:
    """Label the rows of the keys as removed, each kept whole."""
    return [
        row_labels(
            name, KIND, REMOVED, frames[name].join(keys, on=key_of(name), how="semi")
        )
        for name, keys in gone.items()
    ]  # fmt: skip
