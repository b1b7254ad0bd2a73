"""Customers and leads that somebody typed in to try the system."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import polars as pl

from synthetic.defects.cells import Block, scrambled
from synthetic.defects.labels import ADDED, row_labels

KIND = "test_record"
_WORDS = {
    "ru_RU": ("Тестов", "Тест", "+7 (000) 000-00-00"),
    "en_US": ("Test", "Test", "+1 (900) 555-0000"),
}
_MINUTES_OPEN = 5


def _filled(block: Block, table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with all the columns of a table, null where nothing was given."""
    schema = block.frames[table].schema
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in schema.items()
    )


def find_trials(block: Block) -> pl.DataFrame:
    """Return test customers, each with the customer in whose place it stands as `beside`."""
    customers = block.frames["customers"]
    ids = customers["customer_id"].to_numpy()
    hit = block.draws.chance("defect.test_record@1", block.rate("test_records"), ids)
    rows = customers.filter(pl.Series(hit))
    last_name, first_name, phone = _WORDS[block.locale]
    limit = block.last_moment - timedelta(minutes=2 * _MINUTES_OPEN)
    tried_at = pl.min_horizontal("created_at", limit)
    return rows.select(
        pl.col("customer_id").alias("beside"),
        pl.Series("customer_id", scrambled(block.draws, 2 * rows["customer_id"].to_numpy() + 1)),
        "dealership_id",
        "city",
        "manager_id",
        kind=pl.lit("person"),
        last_name=pl.lit(last_name),
        first_name=pl.lit(first_name),
        phone=pl.lit(phone),
        consent=pl.lit(value=False),
        created_at=tried_at,
        entered_at=tried_at,
    )


def trial_labels(block: Block, trials: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Label test customers, and the lead and the stages of each."""
    closed_at = pl.col("created_at") + pl.duration(minutes=_MINUTES_OPEN)
    leads = trials.with_columns(
        opportunity_id="customer_id",
        source=pl.lit("web"),
        opened_at="created_at",
        status=pl.lit("lost"),
        lost_reason=pl.lit("changed_mind"),
        closed_at=closed_at,
    )
    stages = [
        leads.select(
            "opportunity_id",
            "dealership_id",
            seq=pl.lit(seq),
            stage=pl.lit(stage),
            happened_at=pl.col(when),
            entered_at=pl.col(when),
            employee_id="manager_id",
        )
        for seq, stage, when in ((1, "new", "opened_at"), (2, "lost", "closed_at"))
    ]
    parts = {"customers": trials, "opportunities": leads, "stage_events": pl.concat(stages)}
    for table, rows in parts.items():
        yield row_labels(table, KIND, ADDED, _filled(block, table, rows))
