"""Work that had to be done twice: what share of repairs held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import to_day_number
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
from crm_analysis.managers.shares import SHRUNK, TeamShares, team_shares
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
)

__all__ = ["first_time_fix"]


def first_time_fix(
    visits: object,
    *,
    fixed_col: str = "fixed_first_time",
    at_col: str = "visited_on",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TeamShares:
    """What share of visits to the workshop did not have to be repeated (Wilson, shrunk).

    Parameters
    ----------
    visits : table
        One row per closed service order, on any backend: see `Warehouse.service_visits`.
    fixed_col : str
        True where the car did not come back for the same fault.
    at_col : str
        Day of the visit.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes``, ``n``, the five and, with groups, the shrunk ones.

    Raises
    ------
    InputError
        A first day that is not before the last.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> visits = pl.DataFrame({
    ...     "fixed_first_time": [True, True, True, False], "visited_on": [date(2026, 6, 1)] * 4,
    ... })
    >>> first_time_fix(visits, as_of=date(2026, 6, 30)).table["estimate"].to_list()
    [0.75]
    """
    by = group_names(by, taken=("k", "total", "n_yes", *SHRUNK))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {"fixed": Asked(fixed_col, "flag", "fixed_col"), "day": Asked(at_col, "date", "at_col")}
    frame = open_table(visits, asked, by=by).filter(nw.col("day") <= to_day_number(as_of))
    if since is not None:
        frame = frame.filter(nw.col("day") >= to_day_number(check_since(since, as_of)))
    frame = frame.with_columns(nw.col("fixed").cast(nw.Int64).alias("k"))
    sums = (nw.col("k").sum(), nw.len().alias("total"))
    keys = keys_of(by)
    grouped = frame.group_by(*keys).agg(*sums) if by else frame.select(*sums)
    counted = collect(grouped, by=by)
    found = team_shares(
        counted.with_columns(pl.col("k").fill_null(0)), by=by, conf_level=conf_level,
        name=_("Put right at the first visit"),
        definition=_(
            "Share of closed service orders up to {as_of} whose car did not come back for the "
            "same fault.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        what=_("visits"),
    )  # fmt: skip
    return replace(found, key="first_time_fix", better="higher")
