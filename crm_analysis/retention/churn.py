"""How many relationships end in a period, for the time that customers were there to leave."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import DAYS_PER_YEAR, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    collect,
    group_names,
    keys_of,
)
from crm_analysis.retention.spells import open_spells
from crm_analysis.uncertainty import exact_rate_interval
from crm_analysis.wording import _, date_text

__all__ = ["churn_rate"]


def churn_rate(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    since: date,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "exact",
) -> Estimates:
    """How many relationships ended in a period, a year of customers' time (exact Poisson).

    Parameters
    ----------
    spells, start_col, end_col, entry_col
        As for `retention_curve`.
    since, as_of : date
        First and last day of the period.
    by : str or sequence of str
    conf_level : float
    ci_method : {"exact"}
        Garwood's interval for the number that ended, over the time at risk.

    Returns
    -------
    Estimates
        Columns of `by`, ``n_ended``, ``customer_years`` (time at risk in the period), ``n``
        (relationships at risk at some time in it), ``estimate`` (ended for each customer-year),
        ``std_error``, ``conf_low``, ``conf_high``. Null where nobody was at risk. A rate of 0.25
        a year leaves exp(-0.25) = 78 % of customers after a year, if it stays so.

    Raises
    ------
    InputError
        A period that ends before it begins; spells that end before they start.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    The denominator is time, not the number of customers at the start: those who came within the
    period count for the part of it that they were here. Who left without a word has ended only
    if the data say so; for silent departures use a model of buying (`active_share`).

    References
    ----------
    Garwood (1936), Biometrika 28:437-442.

    Examples
    --------
    >>> import polars as pl
    >>> spells = pl.DataFrame({
    ...     "started_on": [date(2023, 5, 1), date(2023, 6, 1)],
    ...     "ended_on": [date(2024, 6, 30), None],
    ... })
    >>> rate = churn_rate(spells, since=date(2024, 1, 1), as_of=date(2024, 12, 31))
    >>> rate.table.select("n_ended", "n").row(0), round(rate.table["estimate"][0], 3)
    ((1, 2), 0.667)
    """
    by = group_names(by)
    as_of, since = check_as_of(as_of), check_since(since, check_as_of(as_of))
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("exact",))
    counts = _count(spells, (start_col, end_col, entry_col), since, as_of, by)
    table = _rates(counts, by, conf_level)
    return Estimates(
        table=table,
        name=_("Churn rate, a year"),
        unit="share",
        definition=_(
            "Relationships that ended from {since} to {as_of}, divided by the time in that "
            "period during which customers were there to leave, in years.",
            since=date_text(since),
            as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=(
            *small_n_notes(table, by, what=_("relationships")),
            _("Only ends that the data show are counted: silent departures need a model."),
        ),
        key="churn_rate",
        better="lower",
    )


def _count(
    spells: object,
    columns: tuple[str, str, str | None],
    since: date,
    as_of: date,
    by: tuple[str, ...],
) -> pl.DataFrame:
    first, last = to_day_number(since), to_day_number(as_of)
    frame = open_spells(spells, *columns, None, by)
    ended = (~nw.col("end").is_null() & (nw.col("end") <= last)).cast(nw.Int64)
    # A spell is watched from the day after it is first seen late, but from its own first day.
    late = (nw.col("entry") > nw.col("start")).cast(nw.Int64)
    frame = frame.with_columns(
        ended.alias("ended"),
        (nw.col("entry") + late).alias("from_day"),
        nw.when(nw.col("end") <= last).then(nw.col("end")).otherwise(nw.lit(last)).alias("to_day"),
        (~nw.col("end").is_null() & (nw.col("end") < nw.col("start")))
        .cast(nw.Int64)
        .alias("backward"),
    ).with_columns(
        nw.when(nw.col("from_day") > first)
        .then(nw.col("from_day"))
        .otherwise(nw.lit(first))
        .alias("from_day")
    )
    frame = frame.with_columns((nw.col("to_day") - nw.col("from_day") + 1).alias("days"))
    frame = frame.with_columns((nw.col("days") > 0).cast(nw.Int64).alias("there"))
    counts = collect(
        frame.group_by(*keys_of(by), "there").agg(
            nw.len().alias("n"),
            nw.col("ended").sum().alias("n_ended"),
            nw.col("days").sum().alias("days"),
            nw.col("backward").sum().alias("backward"),
        ),
        by=by,
        order=["there"],
    )
    if n_backward := int(counts["backward"].sum()):
        raise InputError(
            f"Spells must end on or after the day they start; {n_backward} have {columns[1]!r} "
            f"before {columns[0]!r}. Correct or leave out those rows."
        )
    return counts


def _rates(counts: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    there = pl.col("there") == 1
    sums = {name: pl.col(name).filter(there).sum() for name in ("n_ended", "days", "n")}
    table = (
        counts.group_by(by).agg(**sums).sort(by, nulls_last=True) if by else counts.select(**sums)
    )
    ended = table["n_ended"].to_numpy().astype(np.float64)
    years = table["days"].to_numpy() / DAYS_PER_YEAR
    low, high = exact_rate_interval(ended, years, conf_level)
    positive = np.where(years > 0, years, np.nan)
    five = five_columns(
        table["n"].to_numpy(), ended / positive, np.sqrt(ended) / positive, low, high
    )
    return table.select(
        *by, "n_ended", (pl.col("days") / DAYS_PER_YEAR).alias("customer_years"), **five
    )
