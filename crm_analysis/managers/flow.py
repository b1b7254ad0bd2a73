"""How many leads are in work, and whether the CRM's own record of their flow explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.changes import least_size
from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
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
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, amount, date_text, interval_text, number, percent

__all__ = ["LeadsInWork", "leads_in_work"]

_COUNTS = ("n_at_start", "n_opened", "n_closed", "n_at_end")
_FLOW = ("opened_per_day", "mean_days", "by_flow")
_RATIO = ("flow_ratio", "flow_low", "flow_high")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LeadsInWork(Estimates):
    """Leads in work at a time on average, held against their flow; see `leads_in_work`."""

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        counts, numbers = dict.fromkeys(_COUNTS, "count"), ("opened_per_day", "by_flow", *_RATIO)
        return super().units() | counts | dict.fromkeys(numbers, "number") | {"mean_days": "days"}

    def sentence(self) -> str:
        """Say how many leads are in work, and whether their flow explains so many."""
        if self.by or self.table.height != 1 or self.table["flow_low"][0] is None:
            return super().sentence()
        row = self.table.row(0, named=True)
        return _(
            "{name}: {value}. {opened} came a day and those closed had taken {days} days, which "
            "makes {expected}; {verdict} (ratio {ratio}, {interval}).",
            name=self.name, value=self.value_text(row), opened=number(row["opened_per_day"], 1),
            days=amount(row["mean_days"], "days"), expected=number(row["by_flow"]),
            verdict=_verdict(row["flow_low"], row["flow_high"]), ratio=number(row["flow_ratio"], 2),
            interval=interval_text(row["flow_low"], row["flow_high"], "number"),
        )  # fmt: skip

    def importance(self) -> float:
        """Return by how much at least more, or fewer, are in work than their flow explains."""
        if self.by or self.table.height != 1 or self.table["flow_low"][0] is None:
            return super().importance()
        row = self.table.row(0, named=True)
        low, high = row["flow_low"] - 1, row["flow_high"] - 1
        far = low > _LITTLE or high < -_LITTLE
        return least_size(low, high, value=row["flow_ratio"]) if far else 0.0


_LITTLE = 0.1
"""A record that disagrees with itself by no more than this is one that nobody would act on."""


def _verdict(low: float, high: float) -> str:
    share = percent(_LITTLE, 0)
    if low > 1 + _LITTLE:
        return _("more are in work than that: leads stay open longer than those closed tell")
    if high < 1 - _LITTLE:
        return _("fewer are in work than that: old leads were closed in this time")
    if low >= 1 - _LITTLE and high <= 1 + _LITTLE:
        return _("the record agrees with itself to within {share}", share=share)
    return _("no disagreement of more than {share} is established", share=share)


def leads_in_work(
    leads: object,
    *,
    opened_col: str = "opened_at",
    won_col: str = "won_at",
    closed_col: str = "closed_at",
    since: date,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "poisson",
) -> LeadsInWork:
    r"""How many leads are in work at a time, and does their flow explain it (Little's law).

    In a period of T days a lead is in work from its opening until it is won or closed. On average
    :math:`L = \sum o / T` are, with o the days of the period that each was. Where as many are
    closed as come, L is the arrivals a day times the mean days in work:

    .. math:: L = \lambda W, \qquad \lambda = A / T, \qquad W = \sum_{closed} d / C

    A are the leads opened in the period and C those closed in it, which had been in work for d days
    since their opening. A ratio :math:`L / (\lambda W)` above 1 says that leads stay open longer
    than the closed ones tell (forgotten leads, a backlog that grows); below 1, that old leads were
    closed in this period.

    Parameters
    ----------
    leads : table
        One row per lead, on any backend: see `Warehouse.leads`. Leads opened before the period
        must be there too.
    opened_col, won_col, closed_col : str
        Columns of the moments of opening, winning and closing; null where it has not come.
    since : date
        First day of the period.
    as_of : date
        Last day of the period, to its end.
    by : str or sequence of str
        Such as the manager.
    conf_level : float
    ci_method : {"poisson"}
        Leads come at random times and independently (compound Poisson sums); bounds on the log
        scale.

    Returns
    -------
    LeadsInWork
        Per group ``n_at_start`` (in work as the period began), ``n_opened``, ``n_closed``,
        ``n_at_end`` (in work at its end), ``n`` (all that were in work in it), ``estimate`` (in
        work at a time, on average), ``std_error``, ``conf_low``, ``conf_high``,
        ``opened_per_day``, ``mean_days`` (of those closed), ``by_flow`` (their product),
        ``flow_ratio`` (estimate / by_flow), ``flow_low`` and ``flow_high``. Null where none was
        opened or closed.

    Raises
    ------
    InputError
        A period that ends before it begins.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    References
    ----------
    Little (1961), Operations Research 9:383-387; Little & Graves (2008), in *Building Intuition*,
    chapter 5.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date, timedelta
    >>> opened = [date(2026, 1, 1) + timedelta(days=day) for day in range(90)]
    >>> over = [day + timedelta(days=10) for day in opened]
    >>> leads = pl.DataFrame({"opened_at": opened, "won_at": over, "closed_at": over})
    >>> found = leads_in_work(leads, since=date(2026, 2, 1), as_of=date(2026, 2, 28))
    >>> found.table.select("estimate", "opened_per_day", "mean_days", "flow_ratio").row(0)
    (10.0, 1.0, 10.0, 1.0)
    """
    as_of, by = check_as_of(as_of), group_names(by, taken=(*_COUNTS, *_FLOW, *_RATIO))
    since, conf_level = check_since(since, as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("poisson",))
    asked = {
        "opened": Asked(opened_col, "moment", "opened_col"),
        "won": Asked(won_col, "moment", "won_col", nullable=True),
        "closed": Asked(closed_col, "moment", "closed_col", nullable=True),
    }
    sums = _sums(open_table(leads, asked, by=by), since, as_of, by)
    table = _flow_table(sums, (as_of - since).days + 1, by, conf_level)
    return LeadsInWork(
        table=table,
        name=_("Leads in work at a time"),
        unit="number",
        definition=_(
            "Leads opened and not yet won or closed, on average over the moments from {since} to "
            "{as_of}; beside them what Little's law makes of their flow: leads opened a day times "
            "the mean days in work of those closed in that time. Compound Poisson intervals on the "
            "log scale.",
            since=date_text(since), as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("leads")),
        key="leads_in_work",
    )  # fmt: skip


_PARTS = ("o", "a", "c", "d")
"""Days in work in the period, opened in it, closed in it, days until closed: one number a lead."""


def _sums(frame: nw.LazyFrame[Any], since: date, as_of: date, by: Sequence[str]) -> pl.DataFrame:
    """Bring home the sums over leads in work in the period, of their squares and products."""
    first = to_day_number(since) * SECONDS_PER_DAY
    past = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    opened, over = nw.col("opened"), nw.col("over")
    won, closed = nw.col("won").fill_null(past), nw.col("closed").fill_null(past)
    frame = frame.with_columns(nw.when(won < closed).then(won).otherwise(closed).alias("over"))
    frame = frame.filter(opened < past, over >= first)
    frame = frame.with_columns(
        nw.when(opened > first).then(opened).otherwise(nw.lit(first)).alias("from"),
        nw.when(over < past).then(over).otherwise(nw.lit(past)).alias("until"),
        (opened >= first).cast(nw.Float64).alias("a"),
        (over < past).cast(nw.Float64).alias("c"),
    )
    frame = frame.with_columns(
        ((nw.col("until") - nw.col("from")).cast(nw.Float64) / SECONDS_PER_DAY).alias("o"),
        (nw.col("c") * (over - opened).cast(nw.Float64) / SECONDS_PER_DAY).alias("d"),
    )
    products = [
        (nw.col(a) * nw.col(b)).sum().alias(f"{a}{b}")
        for i, a in enumerate(_PARTS)
        for b in _PARTS[i:]
    ]
    sums = [nw.len().alias("n"), *[nw.col(name).sum() for name in _PARTS], *products]
    if by:
        return collect(frame.group_by(*keys_of(by)).agg(*sums), by=by)
    return collect(frame.select(*sums)).with_columns(pl.all().fill_null(0))


def _flow_table(
    sums: pl.DataFrame, days: int, by: tuple[str, ...], conf_level: float
) -> pl.DataFrame:
    total = {name: sums[name].to_numpy().astype(np.float64) for name in ("n", *_PARTS)}
    z = normal_quantile(conf_level)
    variance = np.zeros(sums.height)
    slope = {"o": 1, "c": 1, "a": -1, "d": -1}
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, error = total["o"] / days, np.sqrt(sums["oo"].to_numpy()) / days
        arrivals, lasts = total["a"] / days, total["d"] / total["c"]
        expected = arrivals * lasts
        ratio = mean / expected
        for i, a in enumerate(_PARTS):
            for j, b in enumerate(_PARTS):
                both = sums[f"{a}{b}" if i <= j else f"{b}{a}"].to_numpy()
                variance += slope[a] * slope[b] * both / (total[a] * total[b])
        half = z * np.sqrt(np.maximum(variance, 0))
        known = np.isfinite(ratio) & (total["c"] > 1)
        columns = {
            "opened_per_day": arrivals, "mean_days": lasts, "by_flow": expected,
            "flow_ratio": ratio,
            "flow_low": np.where(known, ratio * np.exp(-half), np.nan),
            "flow_high": np.where(known, ratio * np.exp(half), np.nan),
        }  # fmt: skip
        spread = np.exp(z * error / mean)
        five = five_columns(total["n"], mean, error, mean / spread, mean * spread)
    counts = {
        "n_at_start": total["n"] - total["a"], "n_opened": total["a"], "n_closed": total["c"],
        "n_at_end": total["n"] - total["c"],
    }  # fmt: skip
    whole = {name: pl.Series(v.astype(np.int64)) for name, v in counts.items()}
    own = {
        name: pl.Series(np.where(np.isfinite(v), v, np.nan), dtype=pl.Float64).fill_nan(None)
        for name, v in columns.items()
    }
    parts = pl.DataFrame({**whole, **five, **own})
    return pl.concat([sums.select(*by), parts], how="horizontal") if by else parts
