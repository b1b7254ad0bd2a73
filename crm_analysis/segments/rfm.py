"""When customers last bought, how often and for how much: scores and segments (RFM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    few_notes,
    share_columns,
    small_n_notes,
    without_few,
)
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    check_period,
    collect,
    group_names,
    keys_of,
)
from crm_analysis.segments.values import open_values
from crm_analysis.uncertainty import wilson_interval
from crm_analysis.wording import _, amount, date_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SEGMENTS", "RfmSegments", "rfm_segments"]

N_SCORES = 5

SEGMENTS = (
    "champions",
    "loyal",
    "potentially_loyal",
    "new_customers",
    "promising",
    "need_attention",
    "about_to_sleep",
    "at_risk",
    "cannot_lose",
    "hibernating",
    "gone",
)
"""All segments, the ones to thank first."""

_GRID = {
    5: ("new_customers", "potentially_loyal", "potentially_loyal", "champions", "champions"),
    4: ("promising", "potentially_loyal", "potentially_loyal", "loyal", "champions"),
    3: ("about_to_sleep", "about_to_sleep", "need_attention", "loyal", "loyal"),
    2: ("hibernating", "hibernating", "at_risk", "at_risk", "cannot_lose"),
    1: ("gone", "gone", "at_risk", "cannot_lose", "cannot_lose"),
}
"""Segment by recency score (the key) and by the mean of frequency and money scores, 1 to 5.

Every cell has exactly one name, so no segment depends on the order in which rules are tried.
"""

_MEASURES = ("recency", "frequency", "money")
_TAKEN = (
    *"rfm", "customer", "fm", "frequency", "last", "mean_frequency", "mean_value",
    "median_recency_days", "money", "n_customers", "place", "recency_days", "segment", "total",
    "value",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RfmSegments(Estimates):
    """Segments of customers by recency, frequency and money.

    Attributes
    ----------
    customers : polars DataFrame
        Columns of `by`, ``customer``, ``recency_days``, ``frequency``, ``money``, the three
        scores ``r``, ``f``, ``m`` and ``segment``: for a list in the CRM, never for a page.
    cuts : mapping of str to tuple of float
        Where scores begin: a value belongs to the score whose cut it has reached.
    """

    customers: pl.DataFrame
    cuts: dict[str, tuple[float, ...]]

    def sentence(self) -> str:
        """Say how many are in the two ends that ask for action."""
        if self.by != ("segment",) or not self.table["n"].sum():
            return super().sentence()
        slipping = self.table.filter(pl.col("segment").is_in(["at_risk", "cannot_lose"]))
        best = int(self.table.filter(pl.col("segment") == "champions")["n_customers"].sum())
        k, n = int(slipping["n_customers"].sum()), int(self.table["n_customers"].sum())
        low, high = (float(bound) for bound in wilson_interval(k, n, self.conf_level))
        return _(
            "{k} customers ({share}, {level} interval {low} to {high}, n = {n}) bought often or "
            "much and have not been seen for long: they brought {value}. {best} are champions.",
            k=number(k), share=percent(k / n), level=percent(self.conf_level, 0),
            low=percent(low), high=percent(high), n=number(n),
            value=amount(float(slipping["value"].sum()), "money", currency=self.currency),
            best=percent(best / n),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of customers in each segment, and return the Axes."""
        if self.by != ("segment",):
            return super().plot(ax)
        ax = figures.new_axes(ax)
        named = self.table.with_columns(
            pl.Series("label", [word_of(name) for name in self.table["segment"]], pl.String)
        )
        figures.bars(named, label="label", value="estimate", ax=ax, text=percent)
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def _readable(self) -> pl.DataFrame:
        shown = super()._readable()
        if self.by != ("segment",):
            return shown
        columns = ("value", "mean_value", "median_recency_days", "mean_frequency")
        return without_few(shown, columns, count="n_customers")

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {
            "n_customers": "count",
            "value": "money",
            "mean_value": "money",
            "median_recency_days": "days",
            "mean_frequency": "number",
        }


def rfm_segments(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    value_col: str = "revenue",
    recency_cuts: Sequence[float] | None = None,
    frequency_cuts: Sequence[float] | None = None,
    money_cuts: Sequence[float] | None = None,
    since: date | None = None,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> RfmSegments:
    """Who bought lately, often and much, and who is slipping away (RFM segments, Wilson).

    Every customer gets three scores from 1 to 5: for the days since the last purchase (fewer is
    better), for the number of purchases, and for the money they brought. Score k begins at the
    k-th cut, the cut itself included; customers with the same value always have the same score.
    Without cuts of your own they are the quintiles of all customers: a value above a quintile
    reaches the next score.

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col, value_col : str
        A null value adds nothing.
    recency_cuts, frequency_cuts, money_cuts : sequence of 4 float, optional
        Rising cuts; for recency in days.
    since : date, optional
        First day counted.
    currency : str, optional
        ISO code of the values.
    as_of : date
        Last day the data covers; recency is counted to it.
    by : str or sequence of str
        Groups whose segments are counted apart; scores are made over all customers.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    RfmSegments
        Columns of `by`, ``segment``, ``n`` (customers of the group), ``n_customers`` (of the
        segment), ``estimate`` (share of customers), ``std_error``, ``conf_low``, ``conf_high``,
        ``value``, ``mean_value``, ``median_recency_days`` and ``mean_frequency``. Segments that
        nobody is in are there with a share of zero.

    Raises
    ------
    InputError
        Cuts that are not four rising numbers; a period that ends before it begins.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Hughes (1994), *Strategic Database Marketing*; thresholds as in the R package rfm (Hebbali).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> bought = pl.DataFrame({
    ...     "customer_id": [1, 1, 1, 2], "revenue": [9.0, 9.0, 9.0, 1.0],
    ...     "happened_on": [date(2026, 6, day) for day in (1, 8, 20)] + [date(2025, 1, 5)],
    ... })
    >>> found = rfm_segments(bought, as_of=date(2026, 6, 30), recency_cuts=(30, 60, 90, 120),
    ...                      frequency_cuts=(2, 3, 4, 5), money_cuts=(5, 10, 20, 40))
    >>> found.customers.select("r", "f", "m", "segment").rows()
    [(5, 3, 4, 'champions'), (1, 1, 1, 'gone')]
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    check_period(since, as_of)
    given = dict(zip(_MEASURES, (recency_cuts, frequency_cuts, money_cuts), strict=True))
    for name, own in given.items():
        _check_cuts(name, own)
    people = _people(purchases, customer_col, at_col, value_col, since, as_of, by)
    columns = dict(zip(_MEASURES, ("recency_days", "frequency", "money"), strict=True))
    cuts = {
        name: tuple(map(float, own)) if own is not None else _quintiles(people[columns[name]])
        for name, own in given.items()
    }
    scored = _segmented(_scored(people, columns, cuts, own=given))
    table = _table(scored, by, conf_level)
    return RfmSegments(
        table=table,
        name=_("Share of customers in each segment"),
        unit="share",
        definition=_(
            "Customers with a purchase up to {as_of}, scored from 1 to 5 by days since the last "
            "purchase, number of purchases and money brought; the segment follows from the first "
            "score and the mean of the other two. Cuts: {cuts}.",
            as_of=date_text(as_of), cuts=_cuts_text(cuts),
        ),
        by=(*by, "segment"),
        conf_level=conf_level,
        notes=_notes(scored, by) + (() if by else few_notes(table, count="n_customers")),
        currency=currency,
        customers=scored.drop("fm"),
        cuts=cuts,
    )  # fmt: skip


def _check_cuts(name: str, cuts: Sequence[float] | None) -> None:
    if cuts is None:
        return
    rising = all(a < b for a, b in pairwise(cuts))
    if len(cuts) != N_SCORES - 1 or not rising:
        raise InputError(
            f"'{name}_cuts' were given as {tuple(cuts)}. Five scores need four rising cuts, such "
            "as (30, 90, 180, 365); leave them out to cut at the quintiles."
        )


def _people(
    purchases: object,
    customer_col: str,
    at_col: str,
    value_col: str,
    since: date | None,
    as_of: date,
    by: tuple[str, ...],
) -> pl.DataFrame:
    frame = open_values(
        purchases, customer_col=customer_col, value_col=value_col, at_col=at_col, since=since,
        as_of=as_of, by=by,
    )  # fmt: skip
    summed = frame.group_by(*keys_of(by), "customer").agg(
        nw.col("day").max().alias("last"),
        nw.len().alias("frequency"),
        nw.col("value").sum().alias("money"),
    )
    table = collect(summed, by=by, order=["customer"])
    return table.select(
        *by,
        "customer",
        (to_day_number(as_of) - pl.col("last")).alias("recency_days"),
        "frequency",
        pl.col("money").fill_null(0.0),
    )


def _quintiles(values: pl.Series) -> tuple[float, ...]:
    if values.is_empty():
        return (0.0,) * (N_SCORES - 1)
    levels = np.arange(1, N_SCORES) / N_SCORES
    return tuple(float(cut) for cut in np.quantile(values.to_numpy(), levels))


def _scored(
    people: pl.DataFrame,
    columns: dict[str, str],
    cuts: dict[str, tuple[float, ...]],
    *,
    own: dict[str, Sequence[float] | None],
) -> pl.DataFrame:
    scores = {}
    for name, letter in zip(_MEASURES, "rfm", strict=True):
        # A cut of one's own belongs to the score it begins; a quintile to the one it ends.
        side: Any = "right" if own[name] is not None else "left"
        reached = np.searchsorted(cuts[name], people[columns[name]].to_numpy(), side=side)
        score = N_SCORES - reached if name == "recency" else reached + 1
        scores[letter] = pl.Series(score, dtype=pl.Int64)
    return people.with_columns(**scores)


def _segmented(scored: pl.DataFrame) -> pl.DataFrame:
    both = (pl.col("f") + pl.col("m") + 1) // 2  # the mean, halves rounded up
    names = pl.DataFrame(
        [(r, fm, name) for r, row in _GRID.items() for fm, name in enumerate(row, 1)],
        schema={"r": pl.Int64, "fm": pl.Int64, "segment": pl.String},
        orient="row",
    )
    return scored.with_columns(both.alias("fm")).join(
        names, on=["r", "fm"], how="left", maintain_order="left"
    )


def _table(scored: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    order = pl.DataFrame({"segment": SEGMENTS}).with_row_index("place")
    groups = scored.select(by).unique(maintain_order=True) if by else pl.DataFrame({"one": [0]})
    counted = scored.group_by([*by, "segment"]).agg(
        pl.len().cast(pl.Int64).alias("n_customers"),
        pl.col("money").sum().alias("value"),
        pl.col("money").mean().alias("mean_value"),
        pl.col("recency_days").median().alias("median_recency_days"),
        pl.col("frequency").mean().alias("mean_frequency"),
    )
    whole = (
        groups.join(order, how="cross")
        .join(counted, on=[*by, "segment"], how="left", nulls_equal=True)
        .with_columns(pl.col("n_customers").fill_null(0), pl.col("value").fill_null(0.0))
        .sort([*by, "place"], nulls_last=True)
    )
    total = pl.col("n_customers").sum()
    whole = whole.with_columns((total.over(by) if by else total).alias("total"))
    return whole.select(
        *by,
        "segment",
        "n_customers",
        **share_columns(whole["n_customers"], whole["total"], conf_level),
        value="value",
        mean_value="mean_value",
        median_recency_days="median_recency_days",
        mean_frequency="mean_frequency",
    )


def _cuts_text(cuts: dict[str, tuple[float, ...]]) -> str:
    names = {"recency": _("days since"), "frequency": _("purchases"), "money": _("money")}
    return "; ".join(
        f"{names[name]} {', '.join(number(cut) for cut in row)}" for name, row in cuts.items()
    )


def _notes(scored: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    used = scored["f"].n_unique()
    if scored.height and used < N_SCORES:
        notes += (
            _(
                "Customers differ little in the number of purchases: only {k} of 5 scores occur, "
                "because equal numbers are never parted.",
                k=number(used),
            ),
        )
    whole = scored.group_by(by).agg(pl.len().alias("n")) if by else scored.select(n=pl.len())
    return notes + small_n_notes(whole, by, what=_("customers"))
