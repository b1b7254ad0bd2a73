"""Customers entered a second time, in slightly other words, with part of their history."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from crm_analysis.schema import TABLES
from synthetic.defects import misspelling
from synthetic.defects.cells import Block, scrambled
from synthetic.defects.labels import ADDED, Frames, cell_labels, key_of, row_labels

KIND = "duplicate"
MOVES = 0.5
REFORMATTED = 0.6
NO_EMAIL = 0.7
"""Later meetings kept under the second record, phones written in another way, e-mails not asked
again [assumed]."""

_SLIPS = ("typo", "yo", "look_alike", "swapped_names", "phone_format")
_MEETINGS = (("opportunities", "opened_at"), ("service_orders", "booked_at"))
_MINUTE = 60_000_000


def _meetings(block: Block, twice: pl.DataFrame) -> pl.DataFrame:
    """Return the meetings of the customers entered twice, in order, with their number."""
    parts = [
        block.frames[table].select(
            "customer_id", pl.lit(table).alias("table"), pl.col(key_of(table)[0]).alias("id"),
            pl.col(when).alias("at"),
        )
        for table, when in _MEETINGS
    ]  # fmt: skip
    return (
        pl.concat(parts)
        .join(twice.select("customer_id"), on="customer_id", how="semi")
        .sort("customer_id", "at", "table", "id")
        .with_columns(
            n=pl.len().over("customer_id"), turn=pl.int_range(pl.len()).over("customer_id")
        )
    )


def _moved(block: Block, twice: pl.DataFrame) -> pl.DataFrame:
    """Return the meetings kept under the second record: one after the first, and later ones."""
    meetings = _meetings(block, twice).filter(pl.col("n") > 1)
    ids = meetings["customer_id"].to_numpy()
    first = 1 + block.draws.integer("defect.duplicate.from@1", meetings["n"].to_numpy() - 1, ids)
    again = block.draws.chance("defect.duplicate.moves@1", MOVES, meetings["id"].to_numpy())
    turn = meetings["turn"].to_numpy()
    here = (turn == first) | ((turn > first) & again)
    return meetings.filter(pl.Series(here))


def find_duplicates(block: Block) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the second records, with `duplicate_of`, and the meetings kept under them."""
    customers = block.frames["customers"]
    ids = customers["customer_id"].to_numpy()
    hit = block.draws.chance("defect.duplicate@1", block.rate("duplicates"), ids)
    twice = customers.filter(pl.Series(hit))
    moved = _moved(block, twice)
    since = moved.group_by("customer_id").agg(pl.col("at").min().alias("_since"))
    ids = twice["customer_id"].to_numpy()
    later = block.draws.uniform("defect.duplicate.later@1", ids)
    waited = pl.col("entered_at") - pl.col("created_at")
    left = (pl.lit(block.last_moment) - pl.col("created_at")).dt.total_minutes()
    some_day = pl.duration(minutes=(left * pl.Series(later)).floor().cast(pl.Int64))
    copies = (
        twice.join(since, on="customer_id", how="left", maintain_order="left")
        .with_columns(
            duplicate_of="customer_id",
            customer_id=pl.Series(scrambled(block.draws, 2 * ids)),
            _new=pl.coalesce("_since", pl.col("created_at") + some_day),
            _waited=waited,
        )
        .with_columns(
            created_at="_new",
            entered_at=pl.min_horizontal(pl.col("_new") + pl.col("_waited"), block.last_moment),
        )
    )
    return _rewritten(block, copies).drop("_since", "_new", "_waited"), moved


def _rewritten(block: Block, copies: pl.DataFrame) -> pl.DataFrame:
    """Write the names and phones of second records in other words; `_slip` says how."""
    draws, ids = block.draws, copies["duplicate_of"].to_numpy()
    russian = block.locale == "ru_RU"
    slip = np.array(_SLIPS)[draws.integer("defect.duplicate.slip@1", len(_SLIPS), ids)]
    fields = {name: draws.uniform(f"defect.duplicate.{name}@1", ids) for name in ("where", "how")}
    fields |= {
        name: draws.uniform(f"defect.duplicate.{name}@1", ids) for name in ("format", "mail")
    }
    fields |= {"again": draws.uniform("defect.duplicate.again@1", ids)}
    copies = copies.with_columns(
        *(pl.Series(f"_{name}", values) for name, values in fields.items()),
        pl.Series("_slip", slip, dtype=pl.String),
    )
    last, phone = pl.col("last_name"), pl.col("phone")
    copies = copies.with_columns(
        _typo=misspelling.typo(last, pl.col("_where"), pl.col("_how")),
        _yo=misspelling.yo(last) if russian else last,
        _alike=misspelling.look_alike(last, russian=russian),
        _phone=misspelling.phone_format(phone, pl.col("_format"), russian=russian),
    )
    return _with_slips(copies)


def _with_slips(copies: pl.DataFrame) -> pl.DataFrame:
    """Choose each record's slip; one that does not apply becomes a typo."""
    last, first, phone = pl.col("last_name"), pl.col("first_name"), pl.col("phone")
    idle = {
        "typo": pl.lit(value=False),
        "yo": pl.col("_yo") == last,
        "look_alike": pl.col("_alike") == last,
        "swapped_names": first.is_null() | (first == last),
        "phone_format": phone.is_null(),
    }
    stuck = pl.any_horizontal(
        (pl.col("_slip") == name) & does_nothing for name, does_nothing in idle.items()
    )
    copies = copies.with_columns(
        pl.when(stuck).then(pl.lit("typo")).otherwise("_slip").alias("_slip")
    )
    slip = pl.col("_slip")
    name = (
        pl.when(slip == "typo").then("_typo").when(slip == "yo").then("_yo")
        .when(slip == "look_alike").then("_alike").when(slip == "swapped_names").then("first_name")
        .otherwise("last_name")
    )  # fmt: skip
    other_way = (slip == "phone_format") | (pl.col("_again") < REFORMATTED)
    return copies.with_columns(
        name.alias("last_name"),
        pl.when(slip == "swapped_names").then("last_name").otherwise("first_name")
        .alias("first_name"),
        pl.when(other_way).then("_phone").otherwise("phone").alias("phone"),
        pl.when(pl.col("_mail") >= NO_EMAIL).then("email").alias("email"),
    )  # fmt: skip


def duplicate_labels(
    block: Block, copies: pl.DataFrame, moved: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Label second records, what is written otherwise in them, and what they took over."""
    customers = block.frames["customers"]
    yield row_labels("customers", KIND, ADDED, copies.select(customers.columns))
    true = customers.select(
        pl.col("customer_id").alias("duplicate_of"),
        *(pl.col(name).alias(f"_true_{name}") for name in _WRITTEN),
    )
    both = copies.join(true, on="duplicate_of", maintain_order="left")
    for column in _WRITTEN:
        found = both.select("customer_id", "_slip", old=f"_true_{column}", new=column)
        for kind, rows in _by_kind(column, found):
            yield cell_labels("customers", column, kind, rows)
    yield from _moved_labels(block, copies, moved)


_WRITTEN = ("last_name", "first_name", "phone", "email")


def _by_kind(column: str, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the kind of each difference in a column."""
    if column == "phone":
        yield f"{KIND}_phone_format", rows
    elif column == "email":
        yield f"{KIND}_no_email", rows
    else:
        for slip in _SLIPS[:-1]:
            yield f"{KIND}_{slip}", rows.filter(pl.col("_slip") == slip)


def _moved_labels(
    block: Block, copies: pl.DataFrame, moved: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Label the meetings kept under second records, and the rows that belong to them."""
    record = copies.select(pl.col("duplicate_of").alias("customer_id"), new="customer_id")
    taken: Frames = {
        table: moved.filter(pl.col("table") == table)
        .join(record, on="customer_id", maintain_order="left")
        .select(pl.col("id").alias(key_of(table)[0]), "new")
        for table, _ in _MEETINGS
    }
    for table in TABLES:
        if table in block.frames and "customer_id" in block.frames[table].columns:
            rows = _taken_rows(block, taken, table)
            if rows is not None:
                taken |= {table: rows.select(*key_of(table), "new")}
                yield cell_labels(table, "customer_id", f"{KIND}_history", rows)


_LINKS = (
    ("deals", "deal_id"),
    ("service_orders", "service_order_id"),
    ("opportunities", "opportunity_id"),
)


def _taken_rows(block: Block, taken: Frames, table: str) -> pl.DataFrame | None:
    """Return the rows of a table that go with meetings already taken over."""
    frame = block.frames[table].rename({"customer_id": "old"})
    links = [
        (parent, key)
        for parent, key in _LINKS
        if parent in taken and key in frame.columns and (parent == table or table not in taken)
    ]
    if not links:
        return None
    parts = [
        frame.join(taken[parent], on=key, maintain_order="left").select(
            *key_of(table), "old", "new"
        )
        for parent, key in links
    ]
    return pl.concat(parts).unique(key_of(table), keep="first", maintain_order=True)
