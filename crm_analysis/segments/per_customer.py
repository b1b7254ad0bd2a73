"""What a customer brings: the mean over all who bought in a period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    check_period,
    group_names,
)
from crm_analysis.segments.values import customer_values
from crm_analysis.uncertainty import mean_interval
from crm_analysis.wording import _, date_text

__all__ = ["value_per_customer"]


def value_per_customer(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    value_col: str = "margin",
    at_col: str = "happened_on",
    currency: str | None = None,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "t",
) -> Estimates:
    """What does a customer who buys bring in a period, on average (mean, Student's t).

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend: see `Warehouse.purchases`.
    customer_col, value_col, at_col : str
        Who bought, what it brought (null: not known, adds nothing), and on which day.
    currency : str, optional
        ISO code of the money.
    since, as_of : date
        First and last day of the period; without the first, all until the last.
    by : str or sequence of str
        A customer of several groups counts in each, with what was bought there.
    conf_level : float
    ci_method : {"t"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n`` (customers), ``estimate`` (money a customer), ``std_error``,
        ``conf_low``, ``conf_high``; the last three null for one customer.

    Raises
    ------
    InputError
        A first day after the last.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> bought = pl.DataFrame({"customer_id": [1, 1, 2], "margin": [100, 50, 250],
    ...                        "happened_on": [date(2026, 6, 1)] * 3})
    >>> value_per_customer(bought, as_of=date(2026, 6, 30)).table.select("n", "estimate").row(0)
    (2, 200.0)
    """
    names = group_names(by, taken=("customer", "value", "n_rows", "n_unknown", "mean", "sd"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("t",))
    check_period(since, as_of)
    each = customer_values(
        purchases, customer_col=customer_col, value_col=value_col, at_col=at_col, since=since,
        as_of=as_of, by=names,
    )  # fmt: skip
    sums = (
        pl.len().alias("n"), pl.col("value").mean().alias("mean"), pl.col("value").std().alias("sd")
    )  # fmt: skip
    counted = each.group_by(names, maintain_order=True).agg(*sums) if names else each.select(*sums)
    n, mean, sd = (
        counted[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("n", "mean", "sd")
    )
    low, high = mean_interval(mean, sd, n, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = sd / np.sqrt(n)
    table = counted.select(*names, **five_columns(n, mean, error, low, high))
    return Estimates(
        table=table, name=_("Margin per customer"), unit="money",
        definition=_(
            "What the customers who bought up to {as_of} brought in the period, over their number.",
            as_of=date_text(as_of),
        ),
        by=names, conf_level=conf_level, currency=currency, key="margin_per_customer",
        better="higher", notes=small_n_notes(table, names, what=_("customers")),
    )  # fmt: skip
