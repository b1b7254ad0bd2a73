"""How much less is known when customers answer more than once.

Answers of one customer resemble each other: two from one say less than one each from two. The
*design effect* is how many times larger that makes the variance of a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import floor_divide, to_day_number, with_civil
from crm_analysis.frames import Asked, collect, keys_of, open_table

__all__ = ["Repeats", "count_repeats"]


@dataclass(frozen=True)
class Repeats:
    """How often customers answered more than once, and what it costs.

    Attributes
    ----------
    n_answers, n_customers : int
    design_effect : float
        Variance with customers as the units over variance with answers as the units, pooled
        over groups; at least 1, and 1 where every customer answered once.
    """

    n_answers: int
    n_customers: int
    design_effect: float


def count_repeats(
    scores: object,
    value: Callable[[nw.Expr], nw.Expr],
    *,
    score_col: str,
    at_col: str | None,
    customer_col: str,
    period_months: int | None,
    since: date | None,
    as_of: date,
    by: Sequence[str] = (),
) -> Repeats:
    r"""Compare the variance between customers with that between answers.

    Parameters
    ----------
    scores, score_col, at_col, since, as_of, by
        As in `net_promoter_score`.
    value : callable
        Turns the score into what is averaged, such as 1 for a top score and 0 for another.
    customer_col : str
        Who answered; a null customer answered once.
    period_months : int or None
        Months of a period, when answers are followed over time: each period is a group.

    Notes
    -----
    With residual sums :math:`z_c = \sum_{i \in c} (y_i - \bar y)` over the answers of customer
    c in a group with C customers and N answers,

    .. math:: D = \frac{\sum_g \frac{C}{C-1} \sum_c z_c^2}
                       {\sum_g \frac{N}{N-1} \sum_i (y_i - \bar y)^2}

    References
    ----------
    Kish (1965), *Survey Sampling*, section 5.4; Liang & Zeger (1986), Biometrika 73:13-22.
    """
    frame = _answers(scores, score_col, at_col, customer_col, since, as_of, by)
    groups = list(keys_of(by))
    if period_months is not None:
        frame = with_civil(frame, "day")
        frame = frame.with_columns(floor_divide(nw.col("day_month"), period_months).alias("index"))
        groups.append("index")
    frame = frame.with_columns(value(nw.col("score")).cast(nw.Float64).alias("y"))
    frame = frame.with_columns((nw.col("y") * nw.col("y")).alias("yy"))
    customers = frame.group_by(*groups, "customer").agg(
        nw.len().cast(nw.Float64).alias("n"), nw.col("y").sum(), nw.col("yy").sum()
    )
    return _pooled(collect(_group_sums(customers, groups)))


def _answers(
    scores: object,
    score_col: str,
    at_col: str | None,
    customer_col: str,
    since: date | None,
    as_of: date,
    by: Sequence[str],
) -> nw.LazyFrame[Any]:
    asked = {
        "score": Asked(score_col, "number", "score_col", nullable=True),
        "customer": Asked(customer_col, "key", "customer_col", nullable=True),
    }
    if at_col is not None:
        asked["day"] = Asked(at_col, "date", "at_col", nullable=True)
    frame = open_table(scores, asked, by=by).filter(~nw.col("score").is_null())
    if at_col is None:
        return frame
    if since is not None:
        frame = frame.filter(nw.col("day") >= to_day_number(since))
    return frame.filter(nw.col("day") <= to_day_number(as_of))


def _group_sums(customers: nw.LazyFrame[Any], groups: Sequence[str]) -> nw.LazyFrame[Any]:
    """Sum over each group what its residuals need; customers that nobody names stay apart."""
    known = ~nw.col("customer").is_null()
    n, y, yy = nw.col("n"), nw.col("y"), nw.col("yy")
    frame = customers.with_columns(
        nw.when(known).then(nw.lit(1.0)).otherwise(n).alias("c"),
        nw.when(known).then(n * n).otherwise(n).alias("nn"),
        nw.when(known).then(n * y).otherwise(y).alias("ny"),
        nw.when(known).then(y * y).otherwise(yy).alias("ss"),
    ).with_columns(nw.lit(0).alias("all"))
    sums = [nw.col(name).sum() for name in ("n", "y", "yy", "c", "nn", "ny", "ss")]
    return frame.group_by("all", *groups).agg(*sums)


def _pooled(sums: pl.DataFrame) -> Repeats:
    mean = pl.col("y") / pl.col("n")
    between = pl.col("ss") - 2 * mean * pl.col("ny") + mean**2 * pl.col("nn")
    within = pl.col("yy") - pl.col("n") * mean**2
    several = sums.filter(pl.col("c") > 1)
    clustered, plain = several.select(
        (pl.col("c") / (pl.col("c") - 1) * between).sum().alias("clustered"),
        (pl.col("n") / (pl.col("n") - 1) * within).sum().alias("plain"),
    ).row(0)
    effect = clustered / plain if plain > 1e-12 else 1.0
    return Repeats(int(sums["n"].sum()), int(sums["c"].sum()), max(1.0, float(effect)))
