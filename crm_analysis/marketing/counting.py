"""What the metrics of this family share: rows of a period, and sums by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw

from crm_analysis.dates import to_day_number
from crm_analysis.estimates import Estimates, group_label
from crm_analysis.frames import Asked, check_period, collect, keys_of, open_table
from crm_analysis.wording import _

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    import polars as pl

__all__ = ["Listing", "grouped", "in_period", "parts_of", "with_label"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Listing(Estimates):
    """Estimates of different things side by side: they are listed, not held against each other."""

    def sentence(self) -> str:
        """Name each with its value and interval."""
        known = self.table.drop_nulls("estimate")
        if len(self.by) != 1 or known.is_empty():
            return super().sentence()
        items = [
            _("{label} {value}", label=group_label(row, self.by), value=self.value_text(row))
            for row in known.sort("estimate", descending=True, maintain_order=True).to_dicts()
        ]
        return _("{name}: {items}.", name=self.name, items="; ".join(items))


def in_period(
    data: object,
    asked: Mapping[str, Asked],
    *,
    at_col: str,
    since: date | None,
    as_of: date,
    by: Sequence[str] = (),
) -> nw.LazyFrame[Any]:
    """Open a table with its ``day``, and keep the rows from `since` to `as_of`."""
    check_period(since, as_of)
    frame = open_table(data, {**asked, "day": Asked(at_col, "date", "at_col")}, by=by)
    frame = frame.filter(nw.col("day") <= to_day_number(as_of))
    return frame if since is None else frame.filter(nw.col("day") >= to_day_number(since))


def grouped(
    frame: nw.LazyFrame[Any], by: Sequence[str], *sums: nw.Expr, beside: Sequence[str] = ()
) -> pl.DataFrame:
    """Sum by the groups, and by columns `beside` them; one row without any."""
    keys = [*keys_of(by), *beside]
    if keys:
        return collect(frame.group_by(*keys).agg(*sums), by=by, order=beside)
    return collect(frame.select(*sums))


def parts_of(table: pl.DataFrame, by: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Part a table by its groups; an empty one stays whole."""
    if by and table.height:
        yield from table.partition_by(list(by), maintain_order=True)
    else:
        yield table


def with_label(part: pl.DataFrame, by: Sequence[str], rows: pl.DataFrame) -> pl.DataFrame:
    """Put the group of a part beside its rows."""
    return part.select(by).head(1).join(rows, how="cross") if by else rows
