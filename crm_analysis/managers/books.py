"""Do the CRM and the books tell of the same sales, for the same money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, share_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    number,
    percent,
)

__all__ = ["Reconciliation", "reconciliation"]

_COUNTS = ("n_matched", "n_differ", "n_only_crm", "n_only_books", "n_uncompared")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Reconciliation(Estimates):
    """How far two sets of books agree."""

    def sentence(self) -> str:
        """Return the finding in one sentence."""
        n = int(self.table["n"].sum())
        if not n:
            return super().sentence()
        total = {name: int(self.table[name].sum()) for name in _COUNTS}
        return _(
            "{share} of {n} sales are in the CRM and in the books alike; {crm} are only in the "
            "CRM, {books} only in the books, and {differ} differ in the amount.",
            share=percent(total["n_matched"] / n), n=number(n), crm=number(total["n_only_crm"]),
            books=number(total["n_only_books"]), differ=number(total["n_differ"]),
        )  # fmt: skip

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | dict.fromkeys(_COUNTS, "count") | {"difference": "money"}


def reconciliation(
    pairs: object,
    *,
    crm_col: str = "in_crm",
    books_col: str = "in_books",
    crm_amount_col: str = "deal_amount",
    books_amount_col: str = "invoice_amount",
    happened_col: str = "happened_on",
    tolerance: float = 1.0,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Reconciliation:
    """What share of the sales stands alike in the CRM and in the books (counted, Wilson).

    Parameters
    ----------
    pairs : table
        One row per sale, joined from both, on any backend: see `Warehouse.billed_deals`.
    crm_col, books_col : str
        Whether the CRM, and whether the books, know of it.
    crm_amount_col, books_amount_col : str
        What either says it came to; null: not said, and then the sale counts neither way.
    happened_col : str
        Day by which a sale belongs to a period (the same for both, so that none falls between).
    tolerance : float
        Currency units by which amounts may differ and still be the same.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}
        The counts are whole; the interval says what to expect of another period.

    Returns
    -------
    Reconciliation
        Columns of `by`, ``n_matched``, ``n_differ``, ``n_only_crm``, ``n_only_books``,
        ``n_uncompared`` (in both, an amount not said), ``difference`` (books minus CRM, summed
        over those that differ), ``n`` (without those uncompared), ``estimate`` (matched),
        ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        A tolerance below zero.
    ColumnError
        A column is missing, of another type, or null.
    """
    by = group_names(by, taken=(*_COUNTS, "difference", "k", "total"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    if tolerance < 0:
        raise InputError(f"'tolerance' must not be below 0; got {tolerance}. Pass, say, 1.")
    asked = {
        "crm": Asked(crm_col, "flag", "crm_col"),
        "books": Asked(books_col, "flag", "books_col"),
        "ours": Asked(crm_amount_col, "number", "crm_amount_col", nullable=True),
        "theirs": Asked(books_amount_col, "number", "books_amount_col", nullable=True),
        "day": Asked(happened_col, "date", "happened_col"),
    }
    frame = open_table(pairs, asked, by=by).filter(nw.col("day") <= to_day_number(as_of))
    if since is not None:
        frame = frame.filter(nw.col("day") >= to_day_number(since))
    counted = _count(frame, by, tolerance)
    judged = counted["total"] - counted["n_uncompared"]
    table = counted.select(
        *by, *_COUNTS, "difference", **share_columns(counted["n_matched"], judged, conf_level)
    )
    uncompared = int(table["n_uncompared"].sum())
    notes = (
        (_("Of {n} sales in both an amount is not said: they count neither way.",
           n=number(uncompared)),)
        if uncompared else ()
    )  # fmt: skip
    return Reconciliation(
        table=table, name=_("Sales alike in the CRM and in the books"), unit="share",
        definition=_(
            "Share of the sales up to {as_of} in the CRM or in the books that are in both, with "
            "amounts that differ by no more than {tolerance}.",
            as_of=date_text(as_of), tolerance=number(tolerance),
        ) + counted_from(since),
        by=by, conf_level=conf_level, key="sales_alike_in_books", better="higher",
        notes=(*notes, *small_n_notes(table, by, what=_("sales"))),
    )  # fmt: skip


def _count(frame: nw.LazyFrame[Any], by: tuple[str, ...], tolerance: float) -> pl.DataFrame:
    gap = nw.col("theirs") - nw.col("ours")
    frame = frame.with_columns(
        (nw.col("crm") & nw.col("books")).alias("both"), gap.alias("gap"), gap.abs().alias("apart")
    )
    verdicts = {
        "n_matched": nw.col("both") & (nw.col("apart") <= tolerance),
        "n_differ": nw.col("both") & (nw.col("apart") > tolerance),
        "n_only_crm": nw.col("crm") & ~nw.col("books"),
        "n_only_books": nw.col("books") & ~nw.col("crm"),
        "n_uncompared": nw.col("both") & nw.col("apart").is_null(),
    }
    frame = frame.with_columns(
        *(
            nw.when(flag).then(nw.lit(1)).otherwise(nw.lit(0)).alias(name)
            for name, flag in verdicts.items()
        ),
        nw.when(verdicts["n_differ"])
        .then(nw.col("gap"))
        .otherwise(nw.lit(0.0))
        .alias("difference"),
    )
    sums = (*(nw.col(name).sum() for name in _COUNTS), nw.col("difference").sum(),
            nw.len().alias("total"))  # fmt: skip
    if by:
        return collect(frame.group_by(*keys_of(by)).agg(*sums), by=by)
    counted = collect(frame.select(*sums))
    return counted.with_columns(pl.col(pl.Int64).fill_null(0), pl.col(pl.Float64).fill_null(0.0))
