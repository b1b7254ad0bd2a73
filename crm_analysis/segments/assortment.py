"""Which models carry the margin and sell evenly, and which do neither (ABC by XYZ)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import add_months, month_number, with_civil
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, groups_text
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_whole,
    collect,
    open_table,
)
from crm_analysis.segments.concentration import CLASSES, classified
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, duration_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["REGULARITY", "AbcXyz", "abc_xyz"]

REGULARITY = ("X", "Y", "Z")
"""Sells evenly, with swings, now and then."""

_LEAST_MONTHS = 6
"""Fewer months say nothing of regularity."""
_SEASON_MONTHS = 24
"""A season needs every month of the year at least twice."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AbcXyz(Estimates):
    """How evenly each item sells (coefficient of variation), beside its class by value.

    Attributes
    ----------
    x_to, y_to : float
        Greatest coefficients of X and of Y.
    """

    x_to: float
    y_to: float

    def sentence(self) -> str:
        """Say which of the items that carry the value sell evenly, and which do not."""
        known = self.table.drop_nulls("estimate")
        if known.is_empty():
            return super().sentence()
        best = known.filter(pl.col("abc_class") == CLASSES[0])
        steady = best.filter(pl.col("xyz_class") == REGULARITY[0])
        chance = int((known["conf_low"] <= known["chance"]).sum())
        return _(
            "{k} of {n} are in class A by value ({names}); of these {steady} are in X and sell "
            "evenly. Of all, {chance} swing no more than such numbers do by chance alone.",
            k=number(best.height), n=number(known.height),
            names=groups_text([word_of(name) for name in best[self.by[0]]], most=4),
            steady=number(steady.height), chance=number(chance),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of the value in each pair of classes, and return the Axes."""
        ax = figures.new_axes(ax)
        cells = (
            pl.DataFrame({"abc_class": CLASSES})
            .join(pl.DataFrame({"xyz_class": REGULARITY}), how="cross")
            .join(
                self.table.group_by("abc_class", "xyz_class").agg(
                    pl.col("value_share").sum().alias("estimate"), pl.len().alias("items")
                ),
                on=["abc_class", "xyz_class"], how="left", maintain_order="left",
            )
        )  # fmt: skip
        figures.heatmap(cells, row="abc_class", column="xyz_class", ax=ax)
        most = cells["estimate"].max() or 0.0
        for place, (_abc, _xyz, share, items) in enumerate(cells.iter_rows()):
            if items is not None:
                ax.text(
                    place % 3, place // 3, f"{percent(share, 0)}\n({number(items)})",
                    ha="center", va="center", color="white" if share > most / 2 else "black",  # type: ignore[operator]
                )  # fmt: skip
        ax.set_xlabel(_("how evenly it sells"))
        ax.set_ylabel(_("what it brings"))
        ax.set_title(_("Share of the value (number of items)"))
        return ax

    def _figure_height(self) -> float | None:
        return None

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {
            "n_sold": "count", "value": "money", "value_share": "share", "chance": self.unit,
            "peak": "number", "season_p": "number",
        }  # fmt: skip


def abc_xyz(
    sales: object,
    *,
    item_col: str = "model",
    value_col: str = "margin",
    at_col: str = "contract_on",
    a_share: float = 0.80,
    b_share: float = 0.95,
    x_to: float = 0.5,
    y_to: float = 1.0,
    last_months: int = 36,
    currency: str | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "jackknife",
) -> AbcXyz:
    r"""Which items bring the value, and which of them sell evenly (ABC by value, XYZ by variation).

    A, B and C are made as in `abc_classes`, by what items brought. X, Y and Z are made from the
    coefficient of variation of the number sold by month: the standard deviation over the mean.

    Parameters
    ----------
    sales : table
        One row per sale, on any backend; a null item is left out and noted.
    item_col, value_col, at_col : str
    a_share, b_share : float
        Cumulative shares of value.
    x_to, y_to : float
        Greatest coefficients of X and of Y. Cars sell by ones and twos: cuts of 0.1 and 0.25, as
        for groceries, would put all of them into Z.
    last_months : int
        Whole months up to `as_of` that are looked at; an item counts from the month of its first
        sale in them.
    currency : str, optional
        ISO code of the values.
    as_of : date
        Last day the data covers.
    conf_level : float
    ci_method : {"jackknife"}
        Months left out one by one; bounds on the logarithmic scale.

    Returns
    -------
    AbcXyz
        One row per item, the most valuable first: the item, ``abc_class``, ``xyz_class``,
        ``value``, ``value_share``, ``n_sold``, ``n`` (months), ``estimate`` (coefficient of
        variation), ``std_error``, ``conf_low``, ``conf_high``, ``chance`` (the coefficient that
        the chance of counts alone gives), ``peak_month`` (1 to 12), ``peak`` (mean of that month
        over the mean of all) and ``season_p`` (how surprising the season were if there was none,
        corrected for the number of items; null below two years). The coefficient is null with
        fewer than six months.

    Raises
    ------
    InputError
        Cuts that do not rise; fewer than six months.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    If n cars a month are sold by chance at a steady rate :math:`\mu`, the coefficient is
    :math:`1 / \sqrt{\mu}` (``chance``): a model of which one is sold a month is in Z however
    steady its demand is. The season is tested by an analysis of variance of the square roots of
    the monthly numbers between months of the year.

    References
    ----------
    Efron & Stein (1981), Annals of Statistics 9:586-596 (the jackknife).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> months = [date(2025, month, 10) for month in range(1, 13)]
    >>> sold = pl.DataFrame({
    ...     "model": ["even"] * 24 + ["rare"] * 2, "margin": [10.0] * 26,
    ...     "contract_on": [*months, *months, months[0], months[6]],
    ... })
    >>> found = abc_xyz(sold, last_months=12, as_of=date(2025, 12, 31))
    >>> found.table.select("model", "abc_class", "xyz_class").rows()
    [('even', 'A', 'X'), ('rare', 'B', 'Z')]
    """
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("jackknife",))
    check_whole("last_months", last_months, least=_LEAST_MONTHS)
    _check_cuts(a_share, b_share, x_to, y_to)
    last = _last_whole_month(as_of)
    first = last - last_months + 1
    rows = _monthly(sales, item_col, value_col, at_col, first, last)
    known = rows.filter(pl.col("item").is_not_null())
    table = _table(known, (a_share, b_share), (x_to, y_to), last, conf_level)
    return AbcXyz(
        table=table.rename({"item": item_col}),
        name=_("How evenly items sell (coefficient of variation by month)"),
        unit="number",
        definition=_(
            "Standard deviation over mean of the number sold in each of the {months} before "
            "{as_of}, from an item's first sale on: X up to {x}, Y up to {y}, Z above. By what "
            "they brought in that time A are the items needed for {a} of it, B those up to {b}, C "
            "the rest.",
            months=duration_text(last_months, "month"), as_of=date_text(as_of), x=number(x_to, 2),
            y=number(y_to, 2), a=percent(a_share, 0), b=percent(b_share, 0),
        ),
        by=(item_col,),
        conf_level=conf_level,
        notes=_notes(rows, table),
        currency=currency,
        x_to=x_to,
        y_to=y_to,
    )  # fmt: skip


def _check_cuts(a_share: float, b_share: float, x_to: float, y_to: float) -> None:
    if not (0 < a_share < b_share < 1 and 0 < x_to < y_to):
        raise InputError(
            f"Cuts at {a_share!r} and {b_share!r} of the value and at coefficients of {x_to!r} and "
            f"{y_to!r} were asked for. Shares must rise within 0 and 1, coefficients from above 0: "
            "try 0.80 and 0.95, 0.5 and 1."
        )


def _last_whole_month(as_of: date) -> int:
    whole = add_months(as_of.replace(day=1), 1).toordinal() - 1 == as_of.toordinal()
    return month_number(as_of) - (0 if whole else 1)


def _monthly(
    sales: object, item_col: str, value_col: str, at_col: str, first: int, last: int
) -> pl.DataFrame:
    """Count sales and sum their value by item and month."""
    asked = {
        "item": Asked(item_col, "text", "item_col", nullable=True),
        "value": Asked(value_col, "number", "value_col", nullable=True),
        "day": Asked(at_col, "date", "at_col"),
    }
    frame = with_civil(open_table(sales, asked), "day")
    frame = frame.filter(nw.col("day_month") >= first).filter(nw.col("day_month") <= last)
    frame = frame.with_columns(nw.col("item").cast(nw.String).alias("item"))
    summed = frame.group_by("item", "day_month").agg(
        nw.len().alias("sold"), nw.col("value").sum().alias("value")
    )
    rows = collect(summed, order=["item", "day_month"])
    return rows.with_columns(pl.col("value").fill_null(0.0), pl.col("day_month").cast(pl.Int64))


def _table(
    rows: pl.DataFrame,
    shares: tuple[float, float],
    cuts: tuple[float, float],
    last: int,
    conf_level: float,
) -> pl.DataFrame:
    items = (
        rows.group_by("item")
        .agg(pl.col("value").sum(), pl.col("sold").sum().cast(pl.Int64).alias("n_sold"))
        .sort(["value", "item"], descending=[True, False])
    )
    total = pl.col("value").sum()
    items = classified(items, shares).with_columns(
        pl.when(total > 0).then(pl.col("value") / total).alias("value_share")
    )
    series = {name: _series(rows.filter(item=name), last) for name in items["item"]}
    found = np.array([variation(counts, conf_level) for counts in series.values()]).reshape(-1, 4)
    months = np.array([len(counts) for counts in series.values()], np.int64)
    means = np.array([counts.mean() for counts in series.values()], np.float64)
    seasons = pl.DataFrame(
        [_season(counts, last) for counts in series.values()],
        schema={"peak_month": pl.Int64, "peak": pl.Float64, "season_p": pl.Float64},
        orient="row",
    )
    tested = seasons["season_p"].count()
    estimate = pl.col("estimate")
    return (
        items.with_columns(
            **five_columns(months, *found.T),
            chance=pl.Series(1 / np.sqrt(means), dtype=pl.Float64),
        )
        .hstack(seasons)
        .with_columns(
            (pl.col("season_p") * tested).clip(upper_bound=1.0),
            pl.when(estimate <= cuts[0]).then(pl.lit("X"))
            .when(estimate <= cuts[1]).then(pl.lit("Y"))
            .when(estimate.is_not_null()).then(pl.lit("Z"))
            .alias("xyz_class"),
        )
        .select("item", "abc_class", "xyz_class", "value", "value_share", "n_sold", "n", "estimate",
                "std_error", "conf_low", "conf_high", "chance", "peak_month", "peak", "season_p")
    )  # fmt: skip


def _series(rows: pl.DataFrame, last: int) -> Floats:
    """Return the number sold in each month from the first with a sale to the last of all."""
    start = int(rows["day_month"].min())  # type: ignore[arg-type]
    counts = np.zeros(last - start + 1)
    counts[rows["day_month"].to_numpy() - start] = rows["sold"].to_numpy()
    return counts


def variation(counts: Floats, conf_level: float) -> tuple[float, float, float, float]:
    """Return the coefficient of variation of counts with its jackknife error and bounds.

    ``nan`` with fewer than six counts; bounds are ``nan`` where all counts are equal.
    """
    n = len(counts)
    if n < _LEAST_MONTHS:
        return (float("nan"),) * 4
    total, squares = counts.sum(), (counts**2).sum()
    value = float(np.std(counts, ddof=1) / counts.mean())
    means = (total - counts) / (n - 1)
    without = np.maximum(squares - counts**2 - (n - 1) * means**2, 0.0) / (n - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.sqrt(without) / means
    # An item of which one sale is all has no coefficient without that month.
    if not np.isfinite(each).all() or value == 0:
        return value, float("nan"), float("nan"), float("nan")
    error = float(np.sqrt((n - 1) / n * ((each - each.mean()) ** 2).sum()))
    factor = float(np.exp(normal_quantile(conf_level) * error / value))
    return value, error, value / factor, value * factor


def _season(counts: Floats, last: int) -> tuple[int | None, float | None, float | None]:
    """Return the strongest month of the year, its index, and the p-value of the season."""
    from scipy.stats import f_oneway

    n = len(counts)
    if n < _SEASON_MONTHS:
        return None, None, None
    month = (last - n + 1 + np.arange(n)) % 12
    means = np.array([counts[month == k].mean() for k in range(12)])
    best = int(np.argmax(means))
    roots = np.sqrt(counts)
    if np.ptp(roots) == 0:
        return best + 1, 1.0, 1.0
    p = float(f_oneway(*(roots[month == k] for k in range(12))).pvalue)
    return best + 1, float(means[best] / counts.mean()), p if np.isfinite(p) else 1.0


def _notes(rows: pl.DataFrame, table: pl.DataFrame) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    unknown = int(rows.filter(pl.col("item").is_null())["sold"].sum() or 0)
    if unknown:
        notes += (_("{n} sales name no item and are left out.", n=number(unknown)),)
    young = table.filter(pl.col("n") < _LEAST_MONTHS)
    if young.height:
        notes += (
            _(
                "Known for fewer than {least}, without a class: {groups}.",
                least=duration_text(_LEAST_MONTHS, "month"),
                groups=groups_text([word_of(name) for name in young[table.columns[0]]]),
            ),
        )
    seasonal = table.filter(pl.col("season_p") < 0.05)
    if seasonal.height:
        notes += (
            _(
                "A season is established for: {groups}.",
                groups=groups_text([word_of(name) for name in seasonal[table.columns[0]]]),
            ),
        )
    elif table["season_p"].count():
        notes += (_("No item has an established season."),)
    return (
        *notes,
        _(
            "Few sales swing by chance alone: hold each coefficient against the column with what "
            "chance gives before calling demand irregular."
        ),
    )
