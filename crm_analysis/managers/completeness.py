"""Is what the CRM asks for filled in, at the stage at which it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import to_day_number
from crm_analysis.estimates import group_label
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
from crm_analysis.managers.shares import SHRUNK, TeamShares, team_shares
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    number,
    percent,
)

__all__ = ["HIDDEN", "Completeness", "data_completeness"]

HIDDEN = (
    "", "-", "--", "—", "–", ".", "?", "0", "x", "n/a", "na", "nan", "none", "null", "nil",
    "select", "unknown", "not specified", "test", "нет", "нет данных", "не указано",
    "не указан", "неизвестно", "н/д", "выбрать", "выберите", "01.01.1900", "1900-01-01",
)  # fmt: skip
"""What is typed to get past a field, in small letters: as good as nothing."""

_TAKEN = ("k", "total", "n_yes", "n_hidden", *SHRUNK)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Completeness(TeamShares):
    """Shares of required values that are filled in, by field or by who should have."""

    def sentence(self) -> str:
        """Return the finding: how much is filled in, and where least is."""
        known = self.table.drop_nulls("estimate").sort("estimate", *self.by, maintain_order=True)
        if self.by and self.overall is not None and "field" in self.by and known.height > 1:
            least = known.row(0, named=True)
            return _(
                "{share} of {n} required values are filled in; least: {group}, {value}.",
                share=percent(self.overall), n=number(int(known["n"].sum())),
                group=group_label(least, self.by), value=self.value_text(least),
            )  # fmt: skip
        return super().sentence()

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_hidden": "count"}


def data_completeness(
    fields: object,
    *,
    value_col: str = "value",
    due_col: str = "due_on",
    hidden: Collection[str] = HIDDEN,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Completeness:
    """What share of the values that the CRM requires is filled in (Wilson, shrunk).

    A value is required from the day on which its stage is reached: a phone from the first contact,
    a VIN from the contract. Words typed to get past a field are as good as nothing.

    Parameters
    ----------
    fields : table
        One row per record and required field, on any backend: see `Warehouse.required_fields`.
    value_col : str
        What is in the field, as text; null: nothing.
    due_col : str
        Day from which it is required; null: it is not, and counts neither way.
    hidden : collection of str
        Values, in small letters, that are as good as nothing.
    since : date, optional
        First day of becoming required that is counted.
    as_of : date
        Last day the data covers; what is required later counts neither way.
    by : str or sequence of str
        Such as ``("table", "field")`` or ``"manager"``.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Completeness
        Columns of `by`, ``n_yes`` (filled), ``n_hidden`` (filled with what says nothing), ``n``
        (required), the five and, with groups, the shrunk ones.

    Raises
    ------
    ColumnError
        A column is missing or of another type.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> asked = pl.DataFrame({
    ...     "value": ["+7 903 1234567", "нет", None, "Select"],
    ...     "due_on": [date(2026, 1, 9), date(2026, 1, 9), date(2026, 2, 1), None],
    ... })
    >>> data_completeness(asked, as_of=date(2026, 6, 30)).table.row(0)[:3]
    (1, 1, 3)
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "value": Asked(value_col, "text", "value_col", nullable=True),
        "due": Asked(due_col, "date", "due_col", nullable=True),
    }
    frame = open_table(fields, asked, by=by).filter(nw.col("due") <= to_day_number(as_of))
    if since is not None:
        frame = frame.filter(nw.col("due") >= to_day_number(since))
    small = nw.col("value").cast(nw.String).str.strip_chars().str.to_lowercase()
    frame = frame.with_columns(small.is_in(list(hidden)).alias("nothing"))
    kept = nw.when(~nw.col("nothing")).then(nw.lit(1)).otherwise(nw.lit(0))
    blank = nw.when(nw.col("nothing")).then(nw.lit(1)).otherwise(nw.lit(0))
    empty = nw.col("value").is_null()
    frame = frame.with_columns(
        nw.when(empty).then(nw.lit(0)).otherwise(kept).alias("k"),
        nw.when(empty).then(nw.lit(0)).otherwise(blank).alias("n_hidden"),
    )
    sums = (nw.col("k").sum(), nw.col("n_hidden").sum(), nw.len().alias("total"))
    counted = (
        collect(frame.group_by(*keys_of(by)).agg(*sums), by=by) if by
        else collect(frame.select(*sums))
    )  # fmt: skip
    counted = counted.with_columns(pl.col("k", "n_hidden").fill_null(0))
    n_hidden = int(counted["n_hidden"].sum())
    notes = (
        (_("{n} values say nothing (such as '-' or 'Select') and count as empty.",
           n=number(n_hidden)),) if n_hidden else ()
    )  # fmt: skip
    shares = team_shares(
        counted, by=by, conf_level=conf_level, name=_("Required values filled in"),
        key="values_filled_in", better="higher",
        definition=_(
            "Share of the values that had to be filled in by {as_of}, each from its own stage on, "
            "that say something.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        what=_("required values"), notes=notes,
    )  # fmt: skip
    return Completeness(**vars(shares))
