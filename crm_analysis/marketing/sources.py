"""Which sources bring leads, sales and money, and what each sale from them costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from scipy import special

from crm_analysis import figures
from crm_analysis.dates import SECONDS_PER_DAY, floor_divide, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, group_label, share_columns, small_n_notes
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
from crm_analysis.uncertainty import exact_rate_interval, normal_quantile
from crm_analysis.wording import (
    _,
    amount,
    date_text,
    duration_text,
    interval_text,
    number,
    percent,
    plural,
    word_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["SourceEffectiveness", "holm", "source_effectiveness"]

_TAKEN = (
    "source", "n_sold", "n_customers", "margin", "spend", "cost_per_lead", "cost_per_sale",
    "cost_per_sale_low", "cost_per_sale_high", "margin_per_spend", "margin_per_spend_low",
    "margin_per_spend_high", "p_holm", "customer", "opened", "sold", "raw", "k", "squares",
)  # fmt: skip
NOT_RECORDED = "not_recorded"
_FEW_SALES = 5
"""Below it what a sale costs is chance."""

TOUCHES = ("lead", "first", "last")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SourceEffectiveness(Estimates):
    """Conversion of each source, with the money behind it."""

    def sentence(self) -> str:
        """Say where a sale costs least and most, if money is known; else who converts.

        What a sale costs of a handful is chance: such a source is named for its money alone.
        """
        priced = self.table.drop_nulls("cost_per_sale").sort("cost_per_sale", maintain_order=True)
        known = priced.filter(pl.col("n_sold") >= _FEW_SALES)
        if known.height < 2:
            known = priced
        if known.height < 2:
            return super().sentence()
        low, high = known.row(0, named=True), known.row(-1, named=True)
        said = _(
            "Advertising costs {low} a sale at {low_source} ({low_interval}, {low_n} sales) and "
            "{high} at {high_source} ({high_interval}, {high_n} sales).",
            low=self._money(low["cost_per_sale"]), low_source=group_label(low, self.by),
            low_interval=self._between(low), low_n=number(low["n_sold"]),
            high=self._money(high["cost_per_sale"]), high_source=group_label(high, self.by),
            high_interval=self._between(high), high_n=number(high["n_sold"]),
        )  # fmt: skip
        return f"{said} {hardly}" if (hardly := self._hardly_any()) else said

    def _hardly_any(self) -> str:
        """Name the source on which most was spent for a handful of sales, if there is one."""
        few = self.table.filter((pl.col("spend") > 0) & (pl.col("n_sold") < _FEW_SALES))
        if few.is_empty() or few.height == self.table.drop_nulls("spend").height:
            return ""
        row = few.sort("spend", descending=True, maintain_order=True).row(0, named=True)
        return plural(
            row["n_sold"],
            "The {spend} spent on {source} brought {n} sale.",
            "The {spend} spent on {source} brought {n} sales.",
            spend=self._money(row["spend"]), source=group_label(row, self.by),
        )  # fmt: skip

    def conversion_sentence(self) -> str:
        """Say which source converts best and which worst, if sources differ at all."""
        return super().sentence()

    def _money(self, value: float | None) -> str:
        return amount(value, "money", currency=self.currency)

    def _between(self, row: dict[str, Any]) -> str:
        return interval_text(
            row["cost_per_sale_low"], row["cost_per_sale_high"], "money", currency=self.currency
        )

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        money = ("margin", "spend", "cost_per_lead", "cost_per_sale", "cost_per_sale_low",
                 "cost_per_sale_high")  # fmt: skip
        return (
            super().units()
            | dict.fromkeys(money, "money")
            | dict.fromkeys(("n_sold", "n_customers"), "count")
            | dict.fromkeys(
                ("margin_per_spend", "margin_per_spend_low", "margin_per_spend_high"), "number"
            )
        )

    def plot_cost(self, ax: Axes | None = None) -> Axes:
        """Draw what a sale from each source costs in advertising, and return the Axes."""
        ax = figures.new_axes(ax)
        known = self.table.drop_nulls("cost_per_sale")
        labels = [group_label(row, self.by) for row in known.to_dicts()]
        table = known.select(
            pl.Series("label", labels, pl.String), pl.col("cost_per_sale").alias("estimate"),
            pl.col("cost_per_sale_low").alias("conf_low"),
            pl.col("cost_per_sale_high").alias("conf_high"),
        )  # fmt: skip
        figures.points(table, label="label", ax=ax)
        figures.write_units(ax, "money", axis="x", currency=self.currency)
        ax.set_title(_("Advertising per sale"))
        return ax


def source_effectiveness(
    leads: object,
    *,
    source_col: str = "source",
    customer_col: str = "customer_id",
    opened_col: str = "opened_at",
    sold_col: str = "sold_on",
    margin_col: str = "margin",
    spend: object | None = None,
    traffic: object | None = None,
    touch: str = "lead",
    look_back_days: int = 90,
    within_days: int = 90,
    since: date | None = None,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> SourceEffectiveness:
    r"""Which sources bring leads that become sales, and what does a sale cost (Wilson, Poisson).

    Only leads that have had `within_days` are counted, a sale only if it came within them, and
    money only of the days on which those leads were opened: so leads, sales and spend are of one
    period. Capitals and blanks around a source's name make no difference; a source that reads
    ``unknown`` and one that is empty stay apart.

    Parameters
    ----------
    leads : table
        One row per lead, on any backend: see `Warehouse.lead_sales`.
    source_col, customer_col, opened_col, sold_col, margin_col : str
        What brought the lead, who it is, when it was opened, the day it was sold (null: not),
        and the margin of the sale.
    spend : table, optional
        Money by day: columns `source_col`, ``day_on``, ``spend`` and those of `by`.
    traffic : table, optional
        Approaches, needed for ``touch`` other than ``"lead"``: columns `customer_col`,
        ``happened_at`` and `source_col`.
    touch : {"lead", "first", "last"}
        To which source a lead belongs: the one written on it, or that of its customer's first or
        last approach in the `look_back_days` before it was opened; without one, its own.
    look_back_days, within_days : int
    since : date, optional
        First day of opening that is counted.
    currency : str, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    SourceEffectiveness
        Columns of `by`, ``source``, ``n_customers``, ``n_sold``, ``n`` (leads), ``estimate``
        (share sold), ``std_error``, ``conf_low``, ``conf_high``, ``p_holm`` (this source against
        all others of its group, corrected for the number of sources), ``margin``, ``spend``,
        ``cost_per_lead``, ``cost_per_sale`` and ``margin_per_spend`` with their intervals. What
        has no spend has no cost: null, not free of charge.

    Raises
    ------
    InputError
        Windows below one day, or a touch without `traffic`.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    Spend is known; how many sales came is chance. The interval of cost per sale is spend over
    the exact Poisson bounds of the number of sales; that of the return takes customers as a
    compound Poisson process, whose sum of margins has variance :math:`\sum_c m_c^2`. Neither says
    that the money caused the sales: see `staggered_effect` and `holdout_effect`.

    References
    ----------
    Wilson (1927), JASA 22:209-212; Garwood (1936), Biometrika 28:437-442; Holm (1979),
    Scandinavian Journal of Statistics 6:65-70.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> leads = pl.DataFrame({"source": ["web", "Web ", None], "customer_id": [1, 2, 3],
    ...     "opened_at": [date(2026, 1, 5)] * 3, "sold_on": [date(2026, 1, 9), None, None],
    ...     "margin": [900.0, None, None]})
    >>> found = source_effectiveness(leads, as_of=date(2026, 6, 30)).table
    >>> found.select("source", "n", "n_sold").rows()
    [('not_recorded', 1, 0), ('web', 2, 1)]
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    check_one_of("touch", touch, TOUCHES)
    if within_days < 1 or look_back_days < 1:
        raise InputError(
            f"Windows of {within_days} and {look_back_days} days were asked for; each is at least "
            "1. Pass, say, within_days=90."
        )
    if touch != "lead" and traffic is None:
        raise InputError(
            f"touch={touch!r} was asked for without 'traffic', where the touches are. Pass the "
            "table of approaches, or touch='lead'."
        )
    frame = _open(leads, source_col, customer_col, opened_col, sold_col, margin_col, by)
    if touch != "lead":
        frame = _touched(frame, traffic, source_col, customer_col, touch, look_back_days)
    first = None if since is None else to_day_number(since)
    last = to_day_number(as_of) - within_days
    counted, young = _count(frame, by, first, last, to_day_number(as_of), within_days)
    folded = _spelt_alike(counted.select("raw"))
    cells = _fold(counted, by)
    if spend is not None:
        cells = _with_spend(cells, _spent(spend, source_col, by, first, last), by)
    else:
        cells = cells.with_columns(spend=pl.lit(None, pl.Float64))
    table = _table(cells, by, conf_level)
    return SourceEffectiveness(
        table=table,
        name=_("Leads that became sales, by source"),
        unit="share",
        definition=_definition(touch, look_back_days, within_days, as_of, since),
        by=(*by, "source"),
        conf_level=conf_level,
        notes=_notes(table, (*by, "source"), folded, young, spend is not None),
        currency=currency,
    )


def holm(p_values: NDArray[Any]) -> NDArray[Any]:
    """Correct p-values for their number (Holm's step-down); ``nan`` stays and is not counted.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6:65-70.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    out = np.full(len(p), np.nan)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out


# Count ------------------------------------------------------------------------------------


def _plain(column: str) -> nw.Expr:
    return nw.col(column).cast(nw.String).str.strip_chars().str.to_lowercase()


def _open(
    leads: object,
    source_col: str,
    customer_col: str,
    opened_col: str,
    sold_col: str,
    margin_col: str,
    by: tuple[str, ...],
) -> nw.LazyFrame[Any]:
    asked = {
        "raw": Asked(source_col, "text", "source_col", nullable=True),
        "customer": Asked(customer_col, "key", "customer_col", nullable=True),
        "opened": Asked(opened_col, "moment", "opened_col"),
        "sold": Asked(sold_col, "date", "sold_col", nullable=True),
        "margin": Asked(margin_col, "number", "margin_col", nullable=True),
    }
    frame = open_table(leads, asked, by=by)
    return frame.with_columns(nw.col("raw").cast(nw.String))


def _touched(
    frame: nw.LazyFrame[Any],
    traffic: object,
    source_col: str,
    customer_col: str,
    touch: str,
    look_back_days: int,
) -> nw.LazyFrame[Any]:
    """Give each lead the source of its customer's first or last approach before it.

    Approaches of one moment are taken in the order of the alphabet, so that no row order shows.
    """
    asked = {
        "customer": Asked(customer_col, "key", "customer_col", nullable=True),
        "at": Asked("happened_at", "moment", "traffic"),
        "seen": Asked(source_col, "text", "source_col", nullable=True),
    }
    seen = open_table(traffic, asked).filter(~nw.col("customer").is_null())
    seen = seen.with_columns(nw.col("seen").cast(nw.String)).filter(~nw.col("seen").is_null())
    lead = ["customer", "opened"]
    pairs = (
        frame.select(*lead)
        .unique(lead)
        .join(seen, on="customer", how="inner")
        .filter(
            nw.col("at") <= nw.col("opened"),
            nw.col("at") >= nw.col("opened") - look_back_days * SECONDS_PER_DAY,
        )
    )
    moment = nw.col("at").min() if touch == "first" else nw.col("at").max()
    picked = pairs.group_by(*lead).agg(moment.alias("picked"))
    chosen = (
        pairs.join(picked, on=lead, how="inner")
        .filter(nw.col("at") == nw.col("picked"))
        .group_by(*lead)
        .agg(nw.col("seen").min())
    )
    joined = frame.join(chosen, on=lead, how="left")
    return joined.with_columns(nw.coalesce(nw.col("seen"), nw.col("raw")).alias("raw")).drop("seen")


def _count(
    frame: nw.LazyFrame[Any],
    by: tuple[str, ...],
    first: int | None,
    last: int,
    end: int,
    within_days: int,
) -> tuple[pl.DataFrame, int]:
    """Count mature leads by group and source as written; and how many were too young."""
    frame = frame.with_columns(floor_divide(nw.col("opened"), SECONDS_PER_DAY).alias("day"))
    frame = frame.filter(nw.col("day") <= end)
    if first is not None:
        frame = frame.filter(nw.col("day") >= first)
    young = collect(frame.filter(nw.col("day") > last).select(nw.len().alias("n"))).item()
    wait = nw.col("sold") - nw.col("day")
    won = (wait >= 0) & (wait <= within_days)
    units = (
        frame.filter(nw.col("day") <= last)
        .with_columns(
            nw.when(won).then(nw.lit(1)).otherwise(nw.lit(0)).alias("k"),
            nw.when(won).then(nw.col("margin")).otherwise(nw.lit(0.0)).alias("margin"),
        )
        .with_columns(nw.col("margin").fill_null(0.0))
        .group_by(*keys_of(by), "raw", "customer")
        .agg(nw.len().alias("n"), nw.col("k").sum(), nw.col("margin").sum())
        .with_columns((nw.col("margin") * nw.col("margin")).alias("squares"))
        .group_by(*keys_of(by), "raw")
        .agg(
            nw.len().alias("n_customers"),
            *(nw.col(name).sum() for name in ("n", "k", "margin", "squares")),
        )
    )
    return collect(units, by=by, order=["raw"]), int(young or 0)


def _folded() -> pl.Expr:
    plain = pl.col("raw").str.strip_chars().str.to_lowercase()
    return pl.when(plain == "").then(None).otherwise(plain).fill_null(NOT_RECORDED)


def _spelt_alike(raw: pl.DataFrame) -> list[str]:
    """Return the sources that stand in the data in more than one spelling."""
    kinds = raw.drop_nulls().unique().with_columns(_folded().alias("source"))
    return (
        kinds.group_by("source").len().filter(pl.col("len") > 1).sort("source")["source"].to_list()
    )


def _fold(counted: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    sums = ("n_customers", "n", "k", "margin", "squares")
    return (
        counted.with_columns(_folded().alias("source"))
        .group_by(*by, "source")
        .agg(pl.col(name).sum() for name in sums)
        .sort(*by, "source", nulls_last=True)
    )


def _spent(
    spend: object, source_col: str, by: tuple[str, ...], first: int | None, last: int
) -> pl.DataFrame:
    asked = {
        "raw": Asked(source_col, "text", "source_col", nullable=True),
        "day": Asked("day_on", "date", "spend"),
        "spend": Asked("spend", "number", "spend"),
    }
    frame = open_table(spend, asked, by=by).filter(nw.col("day") <= last)
    if first is not None:
        frame = frame.filter(nw.col("day") >= first)
    frame = frame.with_columns(nw.col("raw").cast(nw.String))
    summed = collect(frame.group_by(*keys_of(by), "raw").agg(nw.col("spend").sum()), by=by)
    return (
        summed.with_columns(_folded().alias("source"), pl.col("spend").cast(pl.Float64))
        .group_by(*by, "source")
        .agg(pl.col("spend").sum())
    )


def _with_spend(cells: pl.DataFrame, money: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    keys = [*by, "source"]
    joined = cells.join(money, on=keys, how="full", coalesce=True, nulls_equal=True)
    counts = ("n_customers", "n", "k", "margin", "squares")
    return joined.with_columns(pl.col(name).fill_null(0) for name in counts).sort(
        keys, nulls_last=True
    )


# Table ------------------------------------------------------------------------------------


def _table(cells: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    n, k, spend, margin, squares = (
        cells[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for name in ("n", "k", "spend", "margin", "squares")
    )
    spend = np.where(spend > 0, spend, np.nan)
    fewest, most = exact_rate_interval(k, np.ones(len(k)), conf_level)
    error = normal_quantile(conf_level) * np.sqrt(squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        money = {
            "cost_per_lead": spend / n,
            "cost_per_sale": spend / k,
            "cost_per_sale_low": spend / most,
            "cost_per_sale_high": spend / fewest,
            "margin_per_spend": margin / spend,
            "margin_per_spend_low": (margin - error) / spend,
            "margin_per_spend_high": (margin + error) / spend,
        }
    columns = {
        name: pl.Series(np.where(np.isfinite(value), value, np.nan), dtype=pl.Float64).fill_nan(
            None
        )
        for name, value in money.items()
    }
    kept = cells.select(
        *by, "source", pl.col("n_customers").cast(pl.Int64), pl.col("k").alias("n_sold")
    )
    return kept.with_columns(
        **share_columns(k, n, conf_level),
        p_holm=_against_others(cells, by),
        margin=cells["margin"],
        spend=pl.Series(spend, dtype=pl.Float64).fill_nan(None),
        **columns,
    )


def _against_others(cells: pl.DataFrame, by: tuple[str, ...]) -> pl.Series:
    """Test each source against the others of its group, and correct for their number."""
    groups: list[Any] = list(by)
    whole = [pl.col(name).sum().over(groups) if by else pl.col(name).sum() for name in ("n", "k")]
    both = cells.select("n", "k", all_n=whole[0], all_k=whole[1])
    n, k, all_n, all_k = (both[name].to_numpy().astype(float) for name in both.columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = k / n - (all_k - k) / (all_n - n)
        share = all_k / all_n
        z = gap / np.sqrt(share * (1 - share) * (1 / n + 1 / (all_n - n)))
    p = np.where(np.isfinite(z), 2 * special.ndtr(-np.abs(z)), np.nan)
    return pl.Series("p_holm", holm(p), pl.Float64).fill_nan(None)


def _definition(
    touch: str, look_back_days: int, within_days: int, as_of: date, since: date | None
) -> str:
    belongs = {
        "lead": _("the source written on the lead"),
        "first": _(
            "the source of the customer's first approach in the {days} before the lead",
            days=duration_text(look_back_days, "day"),
        ),
        "last": _(
            "the source of the customer's last approach in the {days} before the lead",
            days=duration_text(look_back_days, "day"),
        ),
    }[touch]
    period = _("from {since} on", since=date_text(since)) if since else _("from the first day on")
    return _(
        "Share of leads opened {period}, at least {days} before {as_of}, that were sold within "
        "{days}, by {belongs}. Spend is that of the same days; cost per sale is spend over sales, "
        "and the return is their margin over spend.",
        period=period, days=duration_text(within_days, "day"), as_of=date_text(as_of),
        belongs=belongs,
    )  # fmt: skip


def _notes(
    table: pl.DataFrame, by: tuple[str, ...], folded: list[str], young: int, has_spend: bool
) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if folded:
        notes += (
            _("Spelt in several ways and counted as one: {names}.",
              names=", ".join(word_of(name) for name in folded)),
        )  # fmt: skip
    if young:
        notes += (
            _("{n} leads have not had their time yet and count neither way.", n=number(young)),
        )
    none = int(table.filter(pl.col("source") == NOT_RECORDED)["n"].sum())
    if none:
        share = none / int(table["n"].sum())
        notes += (
            _("No source is recorded for {n} leads ({share}).", n=number(none),
              share=percent(share)),
        )  # fmt: skip
    if has_spend:
        notes += (
            _("What a sale costs says what was paid, not what the money brought: those who would "
              "have come anyway are among them."),
        )  # fmt: skip
    free = table.filter(pl.col("spend").is_null() & (pl.col("n") > 0))
    if has_spend and free.height:
        names = dict.fromkeys(word_of(name) for name in free["source"].to_list())
        notes += (
            _("No spend is recorded for: {names}; what a sale from them costs is not known.",
              names=", ".join(names)),
        )  # fmt: skip
    return notes + small_n_notes(table, by, what=_("leads"))
