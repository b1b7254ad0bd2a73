"""Signs that customers give: coming later than they used to, and being ripe for the next car."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.dates import DAYS_PER_MONTH, keys_per_unit, to_day_number
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    groups_text,
    share_columns,
    small_n_notes,
)
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_whole,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.retention.listed import Listed
from crm_analysis.retention.spells import COUNTS, count_causes
from crm_analysis.survival import aalen_johansen
from crm_analysis.uncertainty import log_log_interval, wilson_interval
from crm_analysis.wording import _, date_text, duration_text, number

__all__ = ["behaviour_change", "next_purchase_chance"]

Floats = NDArray[np.float64]


# Later than usual -------------------------------------------------------------------------


def behaviour_change(
    visits: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    least_gaps: int = 2,
    active_months: int = 24,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Estimates:
    r"""How many customers are later than they themselves used to be (own-baseline z).

    Each customer's wait since the last visit is set against the mean of their own earlier gaps.
    How far gaps scatter around a customer's own mean is learnt from all customers together,
    because nobody has enough visits to tell it alone.

    Parameters
    ----------
    visits : table
        One row per visit or purchase, on any backend; several on one day are one.
    customer_col, at_col : str
    least_gaps : int
        Gaps between visits that a customer must have to have a baseline, at least 2.
    active_months : int
        Only customers seen within so many months of 30.44 days are looked at: who is gone for
        longer is no longer slipping away.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        A customer of two groups counts in both.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Estimates
        One row per group and state: columns of `by`, ``state`` ("as usual": z below 1; "later
        than usual": 1 to 2; "much later": 2 and more), ``n_customers``, ``n`` (customers with a
        baseline), ``estimate`` (share), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        Fewer than two gaps, or less than a month.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    With mean m of a customer's :math:`n` gaps and relative scatter c of all,
    :math:`z = (w - m) / (c\,m\sqrt{1 + 1/n})` for the wait w. A wait that is not over yet is
    not a gap, so z has no exact distribution: the limits sort customers, they test nothing.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date, timedelta
    >>> days = [0, 100, 200, 300, 0, 90, 210, 690]
    >>> visits = pl.DataFrame({
    ...     "customer_id": [1] * 4 + [2] * 4,
    ...     "happened_on": [date(2023, 1, 1) + timedelta(days=d) for d in days],
    ... })
    >>> late = behaviour_change(visits, as_of=date(2024, 12, 31))
    >>> late.table.select("state", "n_customers").rows()
    [('as usual', 1), ('later than usual', 0), ('much later', 1)]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    check_whole("least_gaps", least_gaps, least=2)
    check_whole("active_months", active_months)
    habits = _habits(visits, customer_col, at_col, as_of, by)
    seen = habits.filter(pl.col("wait") <= active_months * DAYS_PER_MONTH)
    table = _states(seen.filter(pl.col("gaps") >= least_gaps), habits, by, conf_level)
    thin = seen.filter(pl.col("gaps") < least_gaps).height
    return Listed(
        table=table,
        name=_("Customers by how late they are"),
        unit="share",
        definition=_(
            "Customers seen in the {active} to {as_of} with at least {gaps} gaps between visits, "
            "by the wait since the last against the mean of their own gaps: as usual (less than "
            "one standard deviation above it), later than usual (one to two), much later.",
            active=duration_text(active_months, "month"),
            as_of=date_text(as_of),
            gaps=number(least_gaps),
        ),
        by=(*by, "state"),
        conf_level=conf_level,
        notes=(
            *small_n_notes(table.unique([*by, "n"]), by, what=_("customers with a baseline")),
            _("{n} customers have too few visits for a baseline of their own.", n=number(thin)),
        ),
    )


def _habits(
    visits: object, customer_col: str, at_col: str, as_of: date, by: tuple[str, ...]
) -> pl.DataFrame:
    groups, last = keys_of(by), to_day_number(as_of)
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "day": Asked(at_col, "date", "at_col"),
    }
    who = [*groups, "customer"]
    frame = open_table(visits, asked, by=by).filter(nw.col("day") <= last)
    frame = frame.unique(subset=[*who, "day"])
    frame = frame.with_columns(
        (nw.col("day") - nw.col("day").shift(1).over(*who, order_by="day")).alias("gap")
    ).with_columns((nw.col("gap") * nw.col("gap")).alias("square"))
    per_customer = frame.group_by(who).agg(
        (~nw.col("gap").is_null()).cast(nw.Int64).sum().alias("gaps"),
        nw.col("gap").sum().alias("total"),
        nw.col("square").sum().alias("squares"),
        (nw.lit(last) - nw.col("day").max()).alias("wait"),
    )
    return collect(per_customer.select(*groups, "gaps", "total", "squares", "wait"), by=by)


_BEYOND = 9.0
"""A z beyond every limit."""


def _states(
    based: pl.DataFrame, habits: pl.DataFrame, by: tuple[str, ...], conf_level: float
) -> pl.DataFrame:
    gaps, total, squares, wait = (
        based[name].to_numpy().astype(np.float64) for name in ("gaps", "total", "squares", "wait")
    )
    mean = total / np.maximum(gaps, 1)
    inner = np.maximum(squares - gaps * mean**2, 0) / np.where(mean > 0, mean, 1) ** 2
    freedom = float(np.sum(gaps - 1))
    scatter = float(np.sqrt(inner.sum() / freedom)) if freedom > 0 else 0.0
    width = scatter * mean * np.sqrt(1 + 1 / np.maximum(gaps, 1))
    # Gaps that never vary at all: whoever is a day late is then much later than ever.
    never = np.where(wait > mean, _BEYOND, 0.0)
    z = np.where(width > 0, (wait - mean) / np.where(width > 0, width, 1.0), never)
    placed = based.with_columns(pl.Series("state", np.digitize(z, [1.0, 2.0]), pl.Int64))
    counted = placed.group_by(*by, "state").agg(n_customers=pl.len())
    whole = habits.select(by).unique() if by else pl.DataFrame({"one": [1]}).drop("one")
    grid = pl.DataFrame({"state": [0, 1, 2]}, schema={"state": pl.Int64})
    cells = whole.join(grid, how="cross") if by else grid
    cells = cells.join(counted, on=[*by, "state"], how="left", nulls_equal=True).with_columns(
        pl.col("n_customers").fill_null(0).cast(pl.Int64)
    )
    sums = pl.col("n_customers").sum()
    cells = cells.with_columns(n=sums.over(by) if by else sums).sort(*by, "state", nulls_last=True)
    words = (_("as usual"), _("later than usual"), _("much later"))
    return cells.select(
        *by,
        pl.col("state").replace_strict(dict(enumerate(words)), return_dtype=pl.String),
        "n_customers",
        **share_columns(cells["n_customers"], cells["n"], conf_level),
    )


# The next car -----------------------------------------------------------------------------


def next_purchase_chance(
    ownerships: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    cause_col: str = "cause",
    repurchase_cause: str = "repurchased_here",
    within_months: int = 12,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> Estimates:
    """How likely are owners to buy the next car here soon, by how long they have had this one.

    For each completed year of ownership: of those who had a car for that year and a half, what
    share bought the next here within the following months (Aalen-Johansen from that age on).

    Parameters
    ----------
    ownerships, start_col, end_col, entry_col, cause_col, as_of, conf_level
        As for `repurchase_rate`.
    repurchase_cause : str
        The cause that means buying here again.
    within_months : int
        How far to look ahead.
    ci_method : {"log-log"}

    Returns
    -------
    Estimates
        One row per completed year of ownership in which an ownership is open now: ``owned``,
        ``owned_years``, ``n`` (ownerships open now at that age), ``n_expected`` (n times the
        chance), ``estimate`` (chance), ``std_error``, ``conf_low``, ``conf_high``; null where
        nobody has been observed from that age for so long.

    Raises
    ------
    InputError
        A window below one month; else as `repurchase_rate`.
    ColumnError
        A column is missing, of another type, or null where it must not be.
    """
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("log-log",))
    check_whole("within_months", within_months)
    counts, causes = count_causes(
        ownerships, start_col=start_col, end_col=end_col, entry_col=entry_col,
        cause_col=cause_col, unit="month", as_of=as_of,
    )  # fmt: skip
    rows = _chances(counts, causes, repurchase_cause, within_months, conf_level)
    ahead = duration_text(within_months, "month")
    return _Chances(
        table=rows,
        name=_("Chance of the next car here within {ahead}", ahead=ahead),
        unit="share",
        definition=_(
            "Of cars owned for that many completed years and a half, the share after which the "
            "next was bought here within {ahead}, by Aalen-Johansen; n counts the ownerships of "
            "that age open on {as_of}.",
            ahead=ahead,
            as_of=date_text(as_of),
        ),
        by=("owned",),
        conf_level=conf_level,
        notes=small_n_notes(rows, ("owned",), what=_("cars")) + _too_old(rows),
    )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Chances(Listed):
    def units(self) -> dict[str, Any]:
        return super().units() | {"n_expected": "number", "owned_years": "count"}


def _too_old(rows: pl.DataFrame) -> tuple[str, ...]:
    unknown = rows.filter(pl.col("estimate").is_null(), pl.col("n") > 0)["owned"].to_list()
    if not unknown:
        return ()
    return (
        _(
            "Too few cars have been followed so long that anything could be said of: {ages}.",
            ages=groups_text(unknown),
        ),
    )


def _chances(
    counts: pl.DataFrame, causes: pl.DataFrame, cause: str, within: int, conf_level: float
) -> pl.DataFrame:
    month, year = keys_per_unit("month"), keys_per_unit("year")
    # Open now are those censored: their age is how long they have lasted to the last day.
    ages = counts.select(owned_years=pl.col("key") // year, n="n_censored")
    open_now = ages.group_by("owned_years").agg(pl.col("n").sum()).filter(pl.col("n") > 0)
    rows = []
    for years, n in open_now.sort("owned_years").iter_rows():
        share, error = _from_age(counts, causes, cause, years * year + 6 * month, within * month)
        low, high = (float(x) for x in log_log_interval(share, error, conf_level))
        none = float(wilson_interval(0, n, conf_level)[1])
        bounds = (0.0, none) if share == 0 else (low, high)
        rows.append((years, n, n * share, share, error, *bounds))
    if not rows:
        rows_t: tuple[Sequence[float], ...] = ((),) * 7
    else:
        rows_t = tuple(zip(*rows, strict=True))
    years_, n_, expected, share_, error_, low_, high_ = rows_t
    return pl.DataFrame(
        {
            "owned": pl.Series([_owned(int(y)) for y in years_], dtype=pl.String),
            "owned_years": pl.Series(years_, dtype=pl.Int64),
            "n_expected": pl.Series(expected, dtype=pl.Float64).fill_nan(None),
            **five_columns(n_, share_, error_, low_, high_),
        }
    )


def _owned(years: int) -> str:
    if not years:
        return _("owned for less than a year")
    return _("owned for {time}", time=duration_text(years, "year"))


def _from_age(
    counts: pl.DataFrame, causes: pl.DataFrame, cause: str, age: int, within: int
) -> tuple[float, float]:
    """Return the share ended of a cause in (age, age + within] of those at risk after `age`."""
    before, after = counts.filter(pl.col("key") <= age), counts.filter(pl.col("key") > age)
    there = int((before["n_entered"] - before["n_exits"] - before["n_censored"]).sum())
    inside = after.filter(pl.col("key") <= age + within)
    if not there or after.is_empty() or int(after["key"][-1]) < age + within:
        return float("nan"), float("nan")
    key, entered, ended, censored = (inside[name].to_numpy() for name in COUNTS)
    own = dict(causes.filter(pl.col("cause") == cause).select("key", "n_exits").iter_rows())
    here = np.array([own.get(k, 0) for k in key.tolist()], np.int64)
    start = np.array([0])
    found = aalen_johansen(
        np.concatenate([start, key - age]),
        np.concatenate([[there], entered]),
        np.concatenate([[[0], [0]], np.vstack([here, ended - here])], axis=1),
        np.concatenate([start, censored]),
    )
    return float(found.incidence[0, -1]), float(found.std_error[0, -1])
