"""How many leads come by word of mouth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import to_day_number
from crm_analysis.estimates import (
    Estimates,
    share_columns,
    small_n_notes,
)
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.wording import _, date_text, number

__all__ = ["referral_rate"]


def referral_rate(
    leads: object,
    *,
    at_col: str = "opened_at",
    source_col: str = "source",
    referral_source: str = "referral",
    since: date,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Estimates:
    """What share of leads was sent by somebody who knows the dealership (Wilson).

    Parameters
    ----------
    leads : table
        One row per lead, on any backend.
    at_col, source_col : str
        When it was opened, and what brought it; null = not recorded, left out and noted.
    referral_source : str
        The source that means a recommendation.
    since, as_of : date
        First and last day of the period.
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n_referred``, ``n`` (leads with a known source), ``estimate``
        (share), ``std_error``, ``conf_low``, ``conf_high``. Null without such leads.

    Raises
    ------
    InputError
        A period that ends before it begins.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Examples
    --------
    >>> import polars as pl
    >>> leads = pl.DataFrame({
    ...     "opened_at": [date(2024, 1, 5), date(2024, 2, 5), date(2024, 3, 5)],
    ...     "source": ["referral", "web", None],
    ... })
    >>> referral_rate(leads, since=date(2024, 1, 1), as_of=date(2024, 12, 31)).table.row(0)[:3]
    (1, 2, 0.5)
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    since = check_since(since, as_of)
    asked = {
        "day": Asked(at_col, "date", "at_col"),
        "source": Asked(source_col, "key", "source_col", nullable=True),
    }
    frame = open_table(leads, asked, by=by)
    frame = frame.filter(
        nw.col("day") >= to_day_number(since), nw.col("day") <= to_day_number(as_of)
    )
    frame = frame.with_columns(
        nw.when(nw.col("source").is_null()).then(nw.lit(0)).otherwise(nw.lit(1)).alias("known"),
        nw.when(nw.col("source").cast(nw.String) == referral_source)
        .then(nw.lit(1))
        .otherwise(nw.lit(0))
        .alias("referred"),
    )
    counted = collect(
        frame.group_by(*keys_of(by), "known").agg(
            nw.len().alias("n"), nw.col("referred").sum().alias("n_referred")
        ),
        by=by,
        order=["known"],
    )
    table = _shares(counted, by, conf_level)
    unknown = int(counted.filter(pl.col("known") == 0)["n"].sum())
    notes = small_n_notes(table, by, what=_("leads"))
    if unknown:
        notes += (_("{n} leads without a recorded source are left out.", n=number(unknown)),)
    return Estimates(
        table=table,
        name=_("Share of leads by recommendation"),
        unit="share",
        definition=_(
            "Share of the leads opened from {since} to {as_of} whose recorded source is a "
            "recommendation.",
            since=date_text(since),
            as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=notes,
    )


def _shares(counted: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    known = pl.col("known") == 1
    sums = {name: pl.col(name).filter(known).sum() for name in ("n_referred", "n")}
    table = (
        counted.group_by(by).agg(**sums).sort(by, nulls_last=True) if by else counted.select(**sums)
    )
    five = share_columns(table["n_referred"], table["n"], conf_level)
    return table.select(*by, "n_referred", **five)
