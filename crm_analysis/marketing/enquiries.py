"""How many come, how they come, and whether somebody answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import DAYS_PER_YEAR, SECONDS_PER_DAY, floor_divide, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, group_label, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.marketing.counting import Listing, grouped, in_period, parts_of, with_label
from crm_analysis.uncertainty import exact_rate_interval, wilson_interval
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    duration_text,
    interval_text,
    percent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

__all__ = ["Traffic", "traffic", "visit_mix"]

_TAKEN = (
    "n_approaches", "n_handled", "handled_share", "handled_low", "handled_high", "at", "customer",
    "handled", "fresh", "before", "day",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Traffic(Estimates):
    """Enquiries a day, with the approaches behind them and the share that was answered."""

    def sentence(self) -> str:
        """Say how many come, and where fewest are answered."""
        known = self.table.drop_nulls("handled_share").sort("handled_share", maintain_order=True)
        if known.is_empty():
            return super().sentence()
        row = known.row(0, named=True)
        interval = interval_text(row["handled_low"], row["handled_high"], "share")
        if self.by:
            answered = _(
                "Fewest are answered at {group}: {share} ({interval}).",
                group=group_label(row, self.by), share=percent(row["handled_share"]),
                interval=interval,
            )  # fmt: skip
        else:
            answered = _("{share} of the approaches were answered ({interval}).",
                         share=percent(row["handled_share"]), interval=interval)  # fmt: skip
        return f"{super().sentence()} {answered}"

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        shares = dict.fromkeys(("handled_share", "handled_low", "handled_high"), "share")
        return super().units() | shares | dict.fromkeys(("n_approaches", "n_handled"), "count")


def traffic(
    approaches: object,
    *,
    at_col: str = "happened_at",
    customer_col: str = "customer_id",
    handled_col: str = "handled_at",
    same_days: int = 30,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "quasi-poisson",
) -> Traffic:
    """How many enquiries come a day, and what share is answered (quasi-Poisson, Wilson).

    Whoever comes again within `same_days` of the last time is still the same enquiry; whoever
    leaves no name always counts as a new one. Missed calls count.

    Parameters
    ----------
    approaches : table
        One row per visit, call, web lead or chat, on any backend: see `Warehouse.approaches`.
    at_col, customer_col, handled_col : str
        When it came, from whom (null: no name), and when it was answered (null: never).
    same_days : int
        0: every approach is an enquiry.
    since : date, optional
        First day; else that of the first approach.
    as_of : date
        Last day.
    by : str or sequence of str
    conf_level : float
    ci_method : {"quasi-poisson", "poisson"}
        The first widens the interval as far as days vary by more than chance.

    Returns
    -------
    Traffic
        Columns of `by`, ``n_approaches``, ``n_handled``, ``n`` (enquiries), ``estimate``
        (enquiries a day), ``std_error``, ``conf_low``, ``conf_high``, ``handled_share`` (of the
        approaches) and its interval.

    Raises
    ------
    InputError
        `same_days` below 0.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Ver Hoef & Boveng (2007), Ecology 88:2766-2772 (quasi-Poisson against negative binomial).
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("quasi-poisson", "poisson"))
    if same_days < 0:
        raise InputError(f"'same_days' is at least 0; got {same_days}. Pass 30.")
    frame = _fresh(approaches, at_col, customer_col, handled_col, same_days, as_of, by)
    if since is not None:
        frame = frame.filter(nw.col("day") >= to_day_number(since))
    daily = grouped(
        frame, by, nw.len().alias("k"), nw.col("fresh").sum(), nw.col("handled").sum(),
        beside=("day",),
    )  # fmt: skip
    earliest = int(daily["day"].min()) if daily.height else to_day_number(as_of)  # type: ignore[arg-type]
    n_days = to_day_number(as_of) - (to_day_number(since) if since else earliest) + 1
    quasi = ci_method == "quasi-poisson"
    table = pl.concat(
        [
            with_label(part, by, _traffic_row(part, n_days, conf_level, quasi=quasi))
            for part in parts_of(daily, by)
        ]
    )
    return Traffic(
        table=table,
        name=_("Enquiries a day"),
        unit="number",
        definition=_(
            "Visits, calls, web leads and chats up to {as_of}, by day; somebody who came within "
            "{days} before is the same enquiry, and somebody without a name always a new one.",
            as_of=date_text(as_of), days=duration_text(same_days, "day"),
        ) + counted_from(since),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("enquiries")),
        key="enquiries_a_day", better="higher",
    )  # fmt: skip


def _fresh(
    approaches: object,
    at_col: str,
    customer_col: str,
    handled_col: str,
    same_days: int,
    as_of: date,
    by: tuple[str, ...],
) -> nw.LazyFrame[Any]:
    """Open approaches with ``day``, ``handled`` and ``fresh``: not long since the last time."""
    asked = {
        "at": Asked(at_col, "moment", "at_col"),
        "customer": Asked(customer_col, "key", "customer_col", nullable=True),
        "done": Asked(handled_col, "moment", "handled_col", nullable=True),
    }
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    frame = open_table(approaches, asked, by=by).filter(nw.col("at") < end)
    answered = (~nw.col("done").is_null()) & (nw.col("done") < end)
    last = nw.col("at").shift(1).over("customer", order_by="at")
    frame = frame.with_columns(
        floor_divide(nw.col("at"), SECONDS_PER_DAY).alias("day"),
        nw.when(answered).then(nw.lit(1)).otherwise(nw.lit(0)).alias("handled"),
        last.alias("before"),
    )
    again = (
        ~nw.col("customer").is_null()
        & ~nw.col("before").is_null()
        & (nw.col("at") - nw.col("before") <= same_days * SECONDS_PER_DAY)
    )
    if same_days == 0:
        return frame.with_columns(nw.lit(1).alias("fresh"))
    return frame.with_columns(nw.when(again).then(nw.lit(0)).otherwise(nw.lit(1)).alias("fresh"))


def _traffic_row(
    part: pl.DataFrame, n_days: int, conf_level: float, *, quasi: bool
) -> pl.DataFrame:
    k, handled = (int(part[name].sum() or 0) for name in ("k", "handled"))
    days = np.zeros(max(n_days, part.height))
    days[: part.height] = part["fresh"].to_numpy()
    n = float(days.sum())
    # Days that nobody came on are among the zeros.
    spread = float(days.var(ddof=1) / days.mean()) if len(days) > 1 and n else 1.0
    phi = max(spread, 1.0) if quasi else 1.0
    low, high = exact_rate_interval(n / phi, n_days / phi, conf_level)
    five = five_columns(
        [int(n)], [n / n_days], [np.sqrt(phi * n) / n_days], [float(low)], [float(high)]
    )
    share = wilson_interval(handled, k, conf_level)
    values = (handled / k if k else np.nan, float(share[0]), float(share[1]))
    names = ("handled_share", "handled_low", "handled_high")
    return pl.DataFrame(
        {
            "n_approaches": [k],
            "n_handled": [handled],
            **five,
            **{
                name: pl.Series([value], dtype=pl.Float64).fill_nan(None)
                for name, value in zip(names, values, strict=True)
            },
        }
    )


def visit_mix(
    visits: object,
    *,
    at_col: str = "happened_on",
    kind_col: str = "kind",
    customers: object,
    since: date,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "exact",
) -> Listing:
    """How often customers come, and what for: visits by kind, per 100 customers and year.

    Parameters
    ----------
    visits : table
        One row per visit, on any backend: see `Warehouse.visits`.
    at_col, kind_col : str
    customers : table
        One row per customer: ``created_at`` and the columns of `by`. Each counts from the day
        they were first met.
    since, as_of : date
        First and last day.
    by : str or sequence of str
    conf_level : float
    ci_method : {"exact"}

    Returns
    -------
    Listing
        Columns of `by`, ``kind``, ``customer_years``, ``n`` (visits), and the five per 100
        customers and year (exact Poisson).

    Raises
    ------
    InputError
        A period that ends before it begins.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Garwood (1936), Biometrika 28:437-442.
    """
    by = group_names(by, taken=("kind", "customer_years", "met", "days", "k", "day"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("exact",))
    asked = {"kind": Asked(kind_col, "text", "kind_col")}
    frame = in_period(visits, asked, at_col=at_col, since=since, as_of=as_of, by=by)
    counts = grouped(frame, by, nw.len().alias("k"), beside=("kind",))
    first, last = to_day_number(since), to_day_number(as_of)
    known = open_table(customers, {"met": Asked("created_at", "date", "customers")}, by=by)
    known = known.filter(nw.col("met") <= last).with_columns(
        nw.when(nw.col("met") < first).then(nw.lit(first)).otherwise(nw.col("met")).alias("met")
    )
    days = (nw.lit(last + 1) - nw.col("met")).alias("days")
    exposure = grouped(known.select(*keys_of(by), days), by, nw.col("days").sum())
    joined = (
        counts.join(exposure, on=list(by), how="left", nulls_equal=True)
        if by
        else counts.join(exposure, how="cross")
    )
    years = joined["days"].cast(pl.Float64).to_numpy() / DAYS_PER_YEAR
    k = joined["k"].cast(pl.Float64).to_numpy()
    low, high = exact_rate_interval(k, years / 100, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        five = five_columns(k, 100 * k / years, 100 * np.sqrt(k) / years, low, high)
    table = joined.select(*by, "kind", customer_years=pl.Series(years)).with_columns(**five)
    return Listing(
        table=table,
        name=_("Visits per 100 customers a year"),
        unit="number",
        definition=_(
            "Visits from {since} to {as_of} by kind, over the time that customers were known in "
            "it, per 100 customers and year.",
            since=date_text(since), as_of=date_text(as_of),
        ),
        by=(*by, "kind"),
        conf_level=conf_level,
        notes=small_n_notes(table, (*by, "kind"), what=_("visits")),
    )  # fmt: skip
