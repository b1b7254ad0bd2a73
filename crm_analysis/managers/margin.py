"""What a manager's deals leave: gross margin per car delivered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import to_day_number
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
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
from crm_analysis.uncertainty import mean_interval
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
)

__all__ = ["margin_per_deal"]


def margin_per_deal(
    deals: object,
    *,
    margin_col: str = "margin",
    happened_col: str = "happened_on",
    currency: str | None = None,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "t",
) -> Estimates:
    """What gross margin does a delivered car leave, on average (mean, Student's t).

    Parameters
    ----------
    deals : table
        One row per delivered car, on any backend: see `Warehouse.deal_margins`.
    margin_col, happened_col : str
        Margin in currency units (null: not known, and left out), and day of delivery.
    currency : str, optional
        ISO code of the money.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"t"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n`` (cars), ``estimate``, ``std_error``, ``conf_low``, ``conf_high``;
        the last three null for one car.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.
    """
    by = group_names(by, taken=("total", "mean", "sd"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("t",))
    asked = {
        "margin": Asked(margin_col, "number", "margin_col", nullable=True),
        "day": Asked(happened_col, "date", "happened_col"),
    }
    frame = open_table(deals, asked, by=by).filter(nw.col("day") <= to_day_number(as_of))
    if since is not None:
        frame = frame.filter(nw.col("day") >= to_day_number(since))
    margin = nw.col("margin")
    sums = (margin.count().alias("total"), margin.mean().alias("mean"), margin.std().alias("sd"))
    counted = (
        collect(frame.group_by(*keys_of(by)).agg(*sums), by=by) if by
        else collect(frame.select(*sums))
    )  # fmt: skip
    n, mean, sd = (
        counted[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("total", "mean", "sd")
    )
    n = np.nan_to_num(n)
    low, high = mean_interval(mean, sd, n, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = sd / np.sqrt(n)
    table = counted.select(*by, **five_columns(n, mean, error, low, high))
    return Estimates(
        table=table, name=_("Gross margin per car"), unit="money",
        definition=_(
            "Price of the car less its cost, and finance and insurance income, per car delivered "
            "by {as_of}; accessories are not in it.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        by=by, conf_level=conf_level, notes=small_n_notes(table, by, what=_("cars")),
        currency=currency, key="margin_per_car", better="higher",
    )  # fmt: skip
