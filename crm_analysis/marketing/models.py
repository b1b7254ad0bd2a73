"""What customers ask for and pay: models, prices, ways of paying, the average deal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    group_label,
    labelled_groups,
    share_columns,
    small_n_notes,
)
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    keys_of,
)
from crm_analysis.marketing.counting import Listing, grouped, in_period, parts_of, with_label
from crm_analysis.uncertainty import bootstrap_interval, ratio_interval
from crm_analysis.wording import (
    Unit,
    _,
    counted_from,
    date_text,
    number,
    percent,
    word_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = [
    "PopularModels",
    "PricePosition",
    "average_deal",
    "payment_mix",
    "popular_models",
    "price_position",
]

_TAKEN = ("day", "k", "list", "off", "value")
_RANK_DRAWS = 4_000
_SHOWN = 5
KINDS = ("enquiry", "test_drive", "deal")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PopularModels(Estimates):
    """Shares of models in what was asked for, driven and bought, with their ranks."""

    def sentence(self) -> str:
        """Name the first model of each list, and how sure its place is."""
        texts = []
        lists = {"enquiry": _("asked for"), "test_drive": _("driven"), "deal": _("bought")}
        for kind, asked_for in lists.items():
            rows = self.table.filter(pl.col("kind") == kind)
            if rows.is_empty():
                continue
            row = rows.row(0, named=True)
            place = (
                _("first beyond doubt")
                if row["rank_high"] == 1
                else _("its place may be as low as {rank}", rank=number(row["rank_high"]))
            )
            texts.append(
                _("most {asked}: {model}, {share} ({place})", asked=asked_for,
                  model=group_label(row, [c for c in self.by if c != "kind"]),
                  share=percent(row["estimate"]), place=place)
            )  # fmt: skip
        if not texts:
            return super().sentence()
        return _("Models {lists}.", lists="; ".join(texts))

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | dict.fromkeys(("rank_low", "rank_high"), "count")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the first models of each list, and return the Axes."""
        ax = figures.new_axes(ax)
        rows = self._first()
        figures.points(labelled_groups(rows, self.by), label="label", ax=ax)
        figures.write_units(ax, self.unit, axis="x")
        ax.set_title(self.name)
        return ax

    def _first(self) -> pl.DataFrame:
        groups = [name for name in self.by if name != "model"]
        return (
            self.table.group_by(groups, maintain_order=True).head(_SHOWN).select(self.table.columns)
        )

    def _figure_height(self) -> float | None:
        return figures.height_for(self._first().height)


def popular_models(
    demand: object,
    *,
    model_col: str = "model",
    kind_col: str = "kind",
    at_col: str = "happened_on",
    since: date | None = None,
    seed: int = 0,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> PopularModels:
    """Which models are asked for, driven and bought most (three lists, ranks with uncertainty).

    Parameters
    ----------
    demand : table
        One row per enquiry, test drive and deal, on any backend: see `Warehouse.demand`.
    model_col, kind_col, at_col : str
        A null model counts in no share: the denominators are those who named one.
    since : date, optional
    seed : int
        Of the draws behind the ranks.
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    PopularModels
        Columns of `by`, ``kind``, ``model``, the most frequent first; ``n`` (enquiries, drives or
        deals that named any model), ``estimate`` (share of them), ``std_error``, ``conf_low``,
        ``conf_high``, ``rank_low`` and ``rank_high`` (interval of the rank, 1 = first).

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    Ranks are those of draws from the Dirichlet distribution of the shares with one half added to
    each count (Jeffreys).

    References
    ----------
    Goldstein & Spiegelhalter (1996), JRSS A 159:385-443 (league tables and their uncertainty).
    """
    by = group_names(by, taken=(*_TAKEN, "kind", "model", "rank_low", "rank_high"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "model": Asked(model_col, "key", "model_col", nullable=True),
        "kind": Asked(kind_col, "text", "kind_col"),
    }
    frame = in_period(demand, asked, at_col=at_col, since=since, as_of=as_of, by=by)
    cells = grouped(frame, by, nw.len().alias("k"), beside=("kind", "model"))
    known = cells.drop_nulls("model")
    groups = (*by, "kind")
    parts = [_ranked(part, groups, conf_level, seed) for part in parts_of(known, groups)]
    order = pl.col("kind").replace_strict({k: i for i, k in enumerate(KINDS)}, default=len(KINDS))
    table = pl.concat(parts).sort(*by, order, maintain_order=True, nulls_last=True)
    silent = cells.filter(pl.col("model").is_null())
    notes = tuple(
        _("“{kind}”: {n} name no model and are in no share.", n=number(row["k"]),
          kind=word_of(row["kind"]))
        for row in silent.group_by("kind", maintain_order=True).agg(pl.col("k").sum()).to_dicts()
    )  # fmt: skip
    return PopularModels(
        table=table,
        name=_("Most popular models"),
        unit="share",
        definition=_(
            "Share of each model in the enquiries, test drives and deals up to {as_of} that name "
            "a model.",
            as_of=date_text(as_of),
        )
        + counted_from(since),
        by=(*groups, "model"),
        conf_level=conf_level,
        notes=notes + small_n_notes(table, groups, what=_("cases")),
    )


def _ranked(
    part: pl.DataFrame, groups: tuple[str, ...], conf_level: float, seed: int
) -> pl.DataFrame:
    part = part.sort("k", "model", descending=[True, False])
    k = part["k"].to_numpy().astype(float)
    n = np.full(len(k), k.sum())
    low, high = _rank_bounds(k, conf_level, seed)
    return part.select(*groups, "model").with_columns(
        **share_columns(k, n, conf_level),
        rank_low=pl.Series(low, dtype=pl.Int64),
        rank_high=pl.Series(high, dtype=pl.Int64),
    )


def _rank_bounds(
    k: NDArray[Any], conf_level: float, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    if not len(k):
        return np.zeros(0), np.zeros(0)
    drawn = np.random.default_rng(seed).gamma(k + 0.5, size=(_RANK_DRAWS, len(k)))
    ranks = (-drawn).argsort(axis=1).argsort(axis=1) + 1
    tail = (1 - conf_level) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0)
    return np.floor(low), np.ceil(high)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PricePosition(Estimates):
    """Discount as a share of the list price, and how it is spread."""

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        shares = ("median_discount", "p90_discount", "without_discount")
        return super().units() | dict.fromkeys(shares, "share")


def price_position(
    sales: object,
    *,
    list_col: str = "list_price",
    discount_col: str = "discount",
    at_col: str = "contract_on",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> PricePosition:
    """What is taken off the list price, and by whom most (discounts over list prices, by deal).

    Parameters
    ----------
    sales : table
        One row per contract, on any backend: see `Warehouse.sales`.
    list_col, discount_col, at_col : str
    since : date, optional
    as_of : date
    by : str or sequence of str
        Such as ``"model"`` or ``"price_band"``.
    conf_level : float
    ci_method : {"linearised"}

    Returns
    -------
    PricePosition
        Columns of `by`, ``median_discount``, ``p90_discount`` (nine of ten deals get no more),
        ``without_discount`` (share of deals), ``n`` (deals), ``estimate`` (all discounts over all
        list prices; what is realised is 1 less this), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    No elasticity is computed: prices here follow demand (a slow model gets the discount), so a
    regression of sales on price would find the manager's rule and not the customers' answer.

    References
    ----------
    Cochran (1977), *Sampling Techniques*, sections 2.11 and 6.4 (ratio of two sums).
    """
    by = group_names(by, taken=(*_TAKEN, "median_discount", "p90_discount", "without_discount"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("linearised",))
    asked = {
        "list": Asked(list_col, "number", "list_col"),
        "off": Asked(discount_col, "number", "discount_col"),
    }
    frame = in_period(sales, asked, at_col=at_col, since=since, as_of=as_of, by=by)
    rows = collect(frame.select(*keys_of(by), "list", "off"), by=by, order=["list", "off"])
    table = pl.concat(
        [with_label(part, by, _price_row(part, conf_level)) for part in parts_of(rows, by)]
    )
    return PricePosition(
        table=table,
        name=_("Discount off the list price"),
        unit="share",
        definition=_(
            "All discounts over all list prices of the contracts up to {as_of} that were not "
            "cancelled.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        by=by,
        conf_level=conf_level,
        notes=(
            _("A model that sells badly gets the discount: from this nobody can read what a lower "
              "price would sell."),
            *small_n_notes(table, by, what=_("deals")),
        ),
    )  # fmt: skip


def _price_row(part: pl.DataFrame, conf_level: float) -> pl.DataFrame:
    price, off = (part[name].cast(pl.Float64).to_numpy() for name in ("list", "off"))
    found = ratio_interval(off, price, conf_level)
    share = off[price > 0] / price[price > 0]
    spread = [*np.quantile(share, [0.5, 0.9]), (share == 0).mean()] if len(share) else [np.nan] * 3
    names = ("median_discount", "p90_discount", "without_discount")
    more = {
        name: pl.Series([float(value)], dtype=pl.Float64).fill_nan(None)
        for name, value in zip(names, spread, strict=True)
    }
    low = max(found[2], 0.0) if np.isfinite(found[2]) else found[2]
    five = five_columns([len(price)], [found[0]], [found[1]], [low], [found[3]])
    return pl.DataFrame({**more, **five})


def payment_mix(
    sales: object,
    *,
    pay_col: str = "pay",
    at_col: str = "contract_on",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Listing:
    """How is it paid: shares of cash, credit and leasing in the contracts (Wilson).

    Parameters
    ----------
    sales : table
        One row per contract, on any backend: see `Warehouse.sales`.
    pay_col, at_col : str
        A null way of paying is a row of its own.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Listing
        Columns of `by`, ``pay``, ``n_paid_so`` (contracts paid so), ``n`` (all contracts of the
        group: the denominator of finance penetration), and the five.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Wilson (1927), JASA 22:209-212.
    """
    by = group_names(by, taken=(*_TAKEN, "pay", "n_paid_so", "n_all"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {"pay": Asked(pay_col, "text", "pay_col", nullable=True)}
    frame = in_period(sales, asked, at_col=at_col, since=since, as_of=as_of, by=by)
    cells = grouped(frame, by, nw.len().alias("k"), beside=("pay",))
    total = pl.col("k").sum().over(list(by)) if by else pl.col("k").sum()
    cells = cells.with_columns(total.alias("n_all"))
    columns = share_columns(cells["k"], cells["n_all"], conf_level)
    table = cells.select(*by, "pay", pl.col("k").alias("n_paid_so")).with_columns(**columns)
    return Listing(
        table=table,
        name=_("How contracts are paid"),
        unit="share",
        definition=_(
            "Contracts paid so, of all contracts up to {as_of} that were not cancelled.",
            as_of=date_text(as_of),
        )
        + counted_from(since),
        by=(*by, "pay"),
        conf_level=conf_level,
        notes=small_n_notes(table, (*by, "pay"), what=_("contracts")),
    )


def average_deal(
    sales: object,
    *,
    value_col: str = "revenue",
    at_col: str = "contract_on",
    winsor_share: float = 0.05,
    since: date | None = None,
    currency: str | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "bootstrap",
) -> Listing:
    """What is the average deal: mean, median, and the mean with its extremes drawn in.

    Parameters
    ----------
    sales : table
        One row per contract, on any backend: see `Warehouse.sales`.
    value_col, at_col : str
        A deal whose value is null is left out.
    winsor_share : float
        Share at either end that is set to the value where it begins, at least 0 and below .5.
    since : date, optional
    currency : str, optional
    n_resamples, seed : int
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"bootstrap"}

    Returns
    -------
    Listing
        Columns of `by`, ``measure`` (``"mean"``, ``"median"``, ``"winsorised_mean"``), and the
        five in money.

    Raises
    ------
    InputError
        A share outside [0, .5).
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Wilcox (2012), *Introduction to Robust Estimation and Hypothesis Testing*, section 3.3.
    """
    by = group_names(by, taken=(*_TAKEN, "measure"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("bootstrap",))
    if not 0 <= winsor_share < 0.5:
        raise InputError(f"'winsor_share' lies between 0 and .5; got {winsor_share!r}. Pass 0.05.")
    asked = {"value": Asked(value_col, "number", "value_col", nullable=True)}
    frame = in_period(sales, asked, at_col=at_col, since=since, as_of=as_of, by=by)
    rows = collect(frame.select(*keys_of(by), "value"), by=by, order=["value"]).drop_nulls("value")
    measures: dict[str, Callable[[NDArray[Any]], float]] = {
        "mean": lambda v: float(np.mean(v)),
        "median": lambda v: float(np.median(v)),
        "winsorised_mean": lambda v: _winsorised(v, winsor_share),
    }

    def of(part: pl.DataFrame) -> pl.DataFrame:
        values = part["value"].cast(pl.Float64).to_numpy()
        found = []
        for measure in measures.values():
            bounds = bootstrap_interval(
                values, measure, n_resamples=n_resamples, seed=seed, conf_level=conf_level
            )
            value = measure(values) if len(values) else float("nan")
            found.append((value, bounds[0], min(bounds[1], value), max(bounds[2], value)))
        columns = zip(*found, strict=True)
        return pl.DataFrame(
            {"measure": list(measures), **five_columns([len(values)] * 3, *map(list, columns))}
        )

    table = pl.concat([with_label(part, by, of(part)) for part in parts_of(rows, by)])
    unit: Unit = "money"
    return Listing(
        table=table,
        name=_("Average deal"),
        unit=unit,
        definition=_(
            "Mean, median and mean with {share} at either end drawn in, of the contracts up to "
            "{as_of} that were not cancelled.",
            share=percent(winsor_share, 0), as_of=date_text(as_of),
        ) + counted_from(since),
        by=(*by, "measure"),
        conf_level=conf_level,
        notes=small_n_notes(table, (*by, "measure"), what=_("deals")),
        currency=currency,
    )  # fmt: skip


def _winsorised(values: NDArray[Any], share: float) -> float:
    """Return the mean with ``floor(share * n)`` values at either end set to the next one."""
    ordered = np.sort(values)
    g = int(share * len(ordered))
    if g:
        ordered[:g], ordered[-g:] = ordered[g], ordered[-g - 1]
    return float(ordered.mean())
