"""Cars in stock: how long they stand, how fast the stock turns, and who left for want of a car."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import DAYS_PER_YEAR, to_day_number
from crm_analysis.estimates import Estimates, five_columns, share_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    group_names,
    open_table,
)
from crm_analysis.marketing.counting import grouped, parts_of, with_label
from crm_analysis.survival import all_at_start, kaplan_meier, quantile
from crm_analysis.uncertainty import exact_rate_interval
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    number,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

__all__ = ["StockAge", "lost_for_want_of_stock", "stock_age", "stock_turnover"]

_TAKEN = (
    "n_in_stock", "p90", "p90_low", "p90_high", "came", "went", "days", "days_of_supply", "k",
    "day", "n_lost", "average_stock", "lost",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StockAge(Estimates):
    """Days until a car is sold, with those still standing."""

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        days = dict.fromkeys(("p90", "p90_low", "p90_high"), "days")
        return super().units() | days | {"n_in_stock": "count"}


def stock_age(
    stock: object,
    *,
    arrived_col: str = "arrived_on",
    sold_col: str = "sold_on",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> StockAge:
    """How long does a car stand before it is sold (Kaplan-Meier, unsold cars censored).

    The mean age of sold cars leaves out those that nobody wants, and the age of those in stock
    those that went at once: neither is how long a car stands.

    Parameters
    ----------
    stock : table
        One row per car put up for sale, on any backend: see `Warehouse.stock`.
    arrived_col, sold_col : str
        Sold: null while it stands.
    since : date, optional
        Only cars that arrived on this day or later.
    as_of : date
    by : str or sequence of str
        Such as ``"model"`` or ``"condition"``.
    conf_level : float
    ci_method : {"log-log"}

    Returns
    -------
    StockAge
        Columns of `by`, ``n_in_stock``, ``n`` (cars), ``estimate`` (median days), ``std_error``
        (null), ``conf_low``, ``conf_high``, ``p90`` with its interval. Null where so many stand
        that it is not reached.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Kaplan & Meier (1958), JASA 53:457-481; Brookmeyer & Crowley (1982), Biometrics 38:29-41.
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("log-log",))
    last = to_day_number(as_of)
    frame = _cars(stock, arrived_col, sold_col, by).filter(nw.col("came") <= last)
    if since is not None:
        frame = frame.filter(nw.col("came") >= to_day_number(since))
    gone = ~nw.col("went").is_null() & (nw.col("went") <= last)
    frame = frame.with_columns(
        nw.when(gone).then(nw.lit(1)).otherwise(nw.lit(0)).alias("k"),
        nw.when(gone).then(nw.col("went")).otherwise(nw.lit(last)).alias("end"),
    ).with_columns((nw.col("end") - nw.col("came")).alias("days"))
    cells = grouped(frame, by, nw.len().alias("n"), nw.col("k").sum(), beside=("days",))
    backwards = int(cells.filter(pl.col("days") < 0)["n"].sum())
    cells = cells.filter(pl.col("days") >= 0)
    table = pl.concat(
        [with_label(part, by, _age_row(part, conf_level)) for part in parts_of(cells, by)]
    )
    notes: tuple[str, ...] = ()
    if backwards:
        notes += (
            _("{n} cars were sold before they came and are left out.", n=number(backwards)),
        )  # fmt: skip
    return StockAge(
        table=table,
        name=_("Days in stock until half are sold"),
        unit="days",
        definition=_(
            "Days from arrival to contract, of cars that arrived by {as_of}; those still "
            "unsold have stood at least until then.",
            as_of=date_text(as_of),
        )
        + counted_from(since),
        by=by,
        conf_level=conf_level,
        notes=notes + small_n_notes(table, by, what=_("cars")),
        key="days_in_stock",
        better="lower",
    )


def _cars(stock: object, arrived_col: str, sold_col: str, by: tuple[str, ...]) -> nw.LazyFrame[Any]:
    asked = {
        "came": Asked(arrived_col, "date", "arrived_col"),
        "went": Asked(sold_col, "date", "sold_col", nullable=True),
    }
    return open_table(stock, asked, by=by)


def _age_row(part: pl.DataFrame, conf_level: float) -> pl.DataFrame:
    days = np.concatenate(([0], part["days"].to_numpy()))
    n = np.concatenate(([0], part["n"].to_numpy()))
    k = np.concatenate(([0], part["k"].to_numpy()))
    times = np.unique(days)
    place = np.searchsorted(times, days)
    exits, censored = (
        np.bincount(place, counts, len(times)).astype(np.int64) for counts in (k, n - k)
    )
    entered = all_at_start(len(times), n.sum())
    half = most = (float("nan"),) * 3
    if n.sum():
        curve = kaplan_meier(times, entered, exits, censored)
        half, most = quantile(curve, 0.5, conf_level), quantile(curve, 0.9, conf_level)
    five = five_columns([n.sum()], [half[0]], [np.nan], [half[1]], [half[2]])
    more = {
        name: pl.Series([value], dtype=pl.Float64).fill_nan(None)
        for name, value in zip(("p90", "p90_low", "p90_high"), most, strict=True)
    }
    in_stock = pl.Series([int((n - k).sum())], dtype=pl.Int64)
    return pl.DataFrame({"n_in_stock": in_stock, **five, **more})


def stock_turnover(
    stock: object,
    *,
    arrived_col: str = "arrived_on",
    sold_col: str = "sold_on",
    since: date,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "exact",
) -> Estimates:
    """How often does the stock turn over in a year (cars sold over the average stock).

    Parameters
    ----------
    stock : table
        As in `stock_age`.
    arrived_col, sold_col : str
    since, as_of : date
        First and last day of the period.
    by : str or sequence of str
    conf_level : float
    ci_method : {"exact"}
        Poisson for the number sold.

    Returns
    -------
    Estimates
        Columns of `by`, ``average_stock`` (cars on a day of the period), ``days_of_supply`` (how
        long that lasts at this pace), ``n`` (cars sold), and the five in turns a year. Null where
        nothing was in stock.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Garwood (1936), Biometrika 28:437-442.
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("exact",))
    first, last = to_day_number(since), to_day_number(as_of)
    here = ~nw.col("went").is_null() & (nw.col("went") <= last)
    frame = (
        _cars(stock, arrived_col, sold_col, by)
        .filter(nw.col("came") <= last)
        .with_columns(
            nw.when(here & (nw.col("went") >= first)).then(nw.lit(1)).otherwise(nw.lit(0))
            .alias("k"),
            nw.when(here).then(nw.col("went")).otherwise(nw.lit(last + 1)).alias("end"),
            nw.when(nw.col("came") > first).then(nw.col("came")).otherwise(nw.lit(first))
            .alias("start"),
        )
        .filter(nw.col("end") >= nw.col("start"))
        .with_columns((nw.col("end") - nw.col("start")).alias("days"))
    )  # fmt: skip
    cells = grouped(frame, by, nw.col("k").sum(), nw.col("days").sum())
    sold, car_days = (
        cells[name].fill_null(0).cast(pl.Float64).to_numpy() for name in ("k", "days")
    )
    years = car_days / DAYS_PER_YEAR
    low, high = exact_rate_interval(sold, years, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        turns = np.where(years > 0, sold / years, np.nan)
        supply = np.where(sold > 0, car_days / sold, np.nan)
        five = five_columns(sold, turns, np.sqrt(sold) / years, low, high)
    more = {
        "average_stock": pl.Series(car_days / (last - first + 1)),
        "days_of_supply": pl.Series(supply).fill_nan(None),
    }
    table = pl.DataFrame({**{name: cells[name] for name in by}, **more, **five})
    return Estimates(
        table=table,
        name=_("Stock turns a year"),
        unit="number",
        definition=_(
            "Cars sold from {since} to {as_of} over the cars in stock on an average day, a year.",
            since=date_text(since), as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("cars sold")),
        key="stock_turns", better="higher",
    )  # fmt: skip


def lost_for_want_of_stock(
    leads: object,
    *,
    reason_col: str = "lost_reason",
    closed_col: str = "closed_at",
    reason: str = "availability",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Estimates:
    """What share of lost leads was lost because there was no car (Wilson).

    Parameters
    ----------
    leads : table
        One row per lead, on any backend: see `Warehouse.leads`.
    reason_col, closed_col : str
        Why it was lost (null: not lost, or not said), and when.
    reason : str
        The code that stands for "no car".
    since : date, optional
    as_of : date
    by : str or sequence of str
        Such as ``"model"``.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n_lost`` (for want of a car), ``n`` (lost with a reason), and the five.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Wilson (1927), JASA 22:209-212.
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "lost": Asked(reason_col, "text", "reason_col", nullable=True),
        "closed": Asked(closed_col, "date", "closed_col", nullable=True),
    }
    frame = open_table(leads, asked, by=by).filter(
        ~nw.col("lost").is_null(), nw.col("closed") <= to_day_number(as_of)
    )
    if since is not None:
        frame = frame.filter(nw.col("closed") >= to_day_number(since))
    hit = nw.col("lost").cast(nw.String) == reason
    frame = frame.with_columns(nw.when(hit).then(nw.lit(1)).otherwise(nw.lit(0)).alias("k"))
    cells = grouped(frame, by, nw.len().alias("n"), nw.col("k").sum()).with_columns(
        pl.col("k").fill_null(0)
    )
    columns = share_columns(cells["k"], cells["n"], conf_level)
    table = cells.select(*by, pl.col("k").alias("n_lost")).with_columns(**columns)
    return Estimates(
        table=table,
        name=_("Lost for want of a car"),
        unit="share",
        definition=_(
            "Leads lost because no car was there, of all lost up to {as_of} with a reason written "
            "down.",
            as_of=date_text(as_of),
        )
        + counted_from(since),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("lost leads")),
        key="lost_for_want_of_stock",
        better="lower",
    )
