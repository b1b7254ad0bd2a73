"""What managers sold and what a scheme would have paid for it, counted by manager and month."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import DAYS_PER_MONTH, to_day_number, with_civil
from crm_analysis.frames import Asked, collect, keys_of, open_table
from crm_analysis.managers.pay_scheme import PayScheme, bonus_moments

__all__ = [
    "PARTS",
    "months_of",
    "paid_to",
    "people_of",
    "pleased_by",
    "sold_by",
    "staff_of",
]

PARTS = ("base", "deals", "margin", "bonus", "pleased")
"""What pay is made of."""


def sold_by(
    deals: object,
    names: Sequence[str],
    margin_col: str,
    happened_col: str,
    since: date,
    as_of: date,
) -> pl.DataFrame:
    """Count cars by manager and month, with the sum of their margins and of its squares."""
    asked = {
        "margin": Asked(margin_col, "number", "margin_col", nullable=True),
        "day": Asked(happened_col, "date", "happened_col"),
    }
    frame = _of_period(open_table(deals, asked, by=names), names, since, as_of)
    known = nw.col("margin").fill_null(0.0)
    frame = with_civil(frame, "day").with_columns(
        nw.col("margin").is_null().cast(nw.Int64).alias("unknown"),
        known.alias("m"), (known * known).alias("m2"),
    )  # fmt: skip
    counted = frame.group_by(*keys_of(names), "day_month").agg(
        nw.len().alias("cars"), *(nw.col(name).sum() for name in ("unknown", "m", "m2"))
    )
    return collect(counted, by=tuple(names), order=["day_month"])


def _of_period(
    frame: nw.LazyFrame[Any], names: Sequence[str], since: date, as_of: date
) -> nw.LazyFrame[Any]:
    frame = frame.filter(
        nw.col("day") >= to_day_number(since), nw.col("day") <= to_day_number(as_of)
    )
    for key in keys_of(names):
        frame = frame.filter(~nw.col(key).is_null())
    return frame


def staff_of(loads: object, names: Sequence[str], days_col: str) -> pl.DataFrame:
    """Return each manager's days on duty."""
    frame = open_table(loads, {"days": Asked(days_col, "number", "days_col")}, by=names)
    counted = frame.group_by(*keys_of(names)).agg(nw.col("days").sum())
    return collect(counted, by=tuple(names))


def pleased_by(
    answers: object,
    names: Sequence[str],
    score_col: str,
    answered_col: str,
    good: float,
    since: date,
    as_of: date,
) -> pl.DataFrame:
    """Count each manager's answers at or above the good score."""
    asked = {
        "score": Asked(score_col, "number", "score_col"),
        "day": Asked(answered_col, "date", "answered_col"),
    }
    frame = _of_period(open_table(answers, asked, by=names), names, since, as_of)
    frame = frame.filter(nw.col("score") >= good)
    return collect(frame.group_by(*keys_of(names)).agg(nw.len().alias("pleased")), by=tuple(names))


def people_of(
    sold: pl.DataFrame, staff: pl.DataFrame, pleased: pl.DataFrame | None, names: Sequence[str]
) -> pl.DataFrame:
    """Return one row per manager: days, cars, sums of margins, pleased customers, months."""
    sums = sold.group_by(names).agg(pl.col("cars", "m", "m2").sum(), pl.len().alias("seen"))
    people = staff.filter(pl.col("days") > 0).join(
        sums, on=list(names), how="full", coalesce=True, nulls_equal=True
    )
    if pleased is None:
        people = people.with_columns(pleased=pl.lit(0, pl.Int64))
    else:
        people = people.join(pleased, on=list(names), how="left", nulls_equal=True)
    people = people.with_columns(
        pl.col("days", "m", "m2").cast(pl.Float64).fill_null(0.0),
        pl.col("cars", "seen", "pleased").cast(pl.Int64).fill_null(0),
    )
    # Whoever was on duty for part of a month, or is credited with a car after leaving, had it.
    whole = (pl.col("days") / DAYS_PER_MONTH).round().cast(pl.Int64)
    return people.with_columns(months=pl.max_horizontal(whole, "seen", 1)).sort(names)


def months_of(
    sold: pl.DataFrame, people: pl.DataFrame, names: Sequence[str], scheme: PayScheme
) -> pl.DataFrame:
    """Return one row per manager and number of cars in a month: how many such months."""
    counts = sold.group_by(*names, "cars").agg(pl.len().alias("months"))
    empty = people.select(
        *names, cars=pl.lit(0, pl.Int64), months=(pl.col("months") - pl.col("seen"))
    )
    both = pl.concat([counts.with_columns(pl.col("cars", "months").cast(pl.Int64)), empty])
    bonus = [scheme.bonus(cars) for cars in both["cars"]]
    pace = people.select(*names, pace=pl.col("cars") / pl.col("months"))
    return both.with_columns(bonus=pl.Series(bonus, dtype=pl.Float64)).join(
        pace, on=list(names), how="left", nulls_equal=True
    )


def paid_to(
    people: pl.DataFrame, months: pl.DataFrame, names: Sequence[str], scheme: PayScheme
) -> pl.DataFrame:
    """Return what each manager would have been paid, by part, and its variance by luck."""
    bonus = months.group_by(names).agg(bonus=(pl.col("bonus") * pl.col("months")).sum())
    people = people.join(bonus, on=list(names), how="left", nulls_equal=True, maintain_order="left")
    a, s = scheme.per_deal, scheme.margin_share
    cars, m, m2, lasted = (
        people[c].to_numpy().astype(float) for c in ("cars", "m", "m2", "months")
    )
    squares = a * a * cars + 2 * a * s * m + s * s * m2
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(cars > 0, a + s * m / cars, 0.0)
    spread, along = bonus_moments(cars / lasted, scheme)
    pleased = people["pleased"].to_numpy().astype(float)
    variance = squares + lasted * (spread + 2 * mean * along) + scheme.per_pleased**2 * pleased
    return people.with_columns(
        base=pl.lit(scheme.base) * pl.col("days") / DAYS_PER_MONTH,
        deals=pl.Series(a * cars),
        margin=pl.Series(s * m),
        pleased=pl.Series(scheme.per_pleased * pleased),
        variance=pl.Series(np.maximum(variance, 0.0)),
    ).with_columns(pay=pl.sum_horizontal(PARTS))
