"""How unequal customers are: ABC classes, and how concentrated their value is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import (
    Estimates,
    few_notes,
    five_columns,
    group_label,
    small_n_notes,
    without_few,
)
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    check_period,
    group_names,
)
from crm_analysis.segments.values import customer_values
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["CLASSES", "AbcClasses", "abc_classes", "share_needed", "value_concentration"]

CLASSES = ("A", "B", "C")
MEASURES = ("gini", "best_fifth")

_TAKEN = (
    "abc_class", "customer", "customer_share", "mean_value", "measure", "n_customers", "n_rows",
    "n_unknown", "value", "value_share",
)  # fmt: skip

_CURVE_POINTS = 201
_TOP = 0.2


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AbcClasses(Estimates):
    """Classes of customers by what they bring.

    Attributes
    ----------
    customers : polars DataFrame
        Columns of `by`, ``customer``, ``value`` and ``abc_class``, one row a customer: for a list
        in the CRM, never for a page.
    curve : polars DataFrame
        Columns of `by`, ``customer_share`` and ``value_share``: the best customers first.
    a_share, b_share : float
        Cumulative shares of value at which A and B end.
    """

    customers: pl.DataFrame
    curve: pl.DataFrame
    a_share: float
    b_share: float

    def sentence(self) -> str:
        """Say how few customers bring most of the value."""
        best = self.table.filter(pl.col("abc_class") == CLASSES[0])
        if self.by:
            return self.of_class(CLASSES[0]).sentence()
        row = best.row(0, named=True)
        if row["estimate"] is None:
            return _("{name}: nothing can be said (n = {n}).", name=self.name, n=number(row["n"]))
        return _(
            "{cut} of the value comes from class A, {value} of the customers.",
            cut=percent(self.a_share, 0),
            value=self.value_text(row),
        )

    def of_class(self, abc_class: str = "A") -> Estimates:
        """Return the share of customers in one class, as estimates of their own.

        Raises
        ------
        InputError
            There is no such class.
        """
        check_one_of("abc_class", abc_class, CLASSES)
        return Estimates(
            table=self.table.filter(pl.col("abc_class") == abc_class),
            name=_("Customers in class {letter}", letter=abc_class), unit=self.unit,
            definition=self.definition, by=self.by,
            conf_level=self.conf_level, notes=self.notes, currency=self.currency,
            key=f"customers_in_class_{abc_class.lower()}",
        )  # fmt: skip

    def marked(
        self, customers: pl.LazyFrame, abc_class: str = "A", *, customer_col: str = "customer_id"
    ) -> pl.LazyFrame:
        """Return the customers that have a class, with whether they are in this one as ``member``.

        Parameters
        ----------
        customers : polars.LazyFrame
            One row per customer, such as `Warehouse.portraits`.
        abc_class : {"A", "B", "C"}
        customer_col : str

        Raises
        ------
        InputError
            There is no such class, or classes were made by groups: a customer of two groups has
            two.
        """
        check_one_of("abc_class", abc_class, CLASSES)
        if self.by:
            raise InputError(
                f"Customers of class {abc_class} were asked for, and the classes were made by "
                f"{listed(self.by)}, so that a customer may have several. Make them without 'by'."
            )
        known = self.customers.lazy().select(
            pl.col("customer").alias(customer_col),
            (pl.col("abc_class") == abc_class).alias("member"),
        )
        return customers.join(known, on=customer_col)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of value that the best customers bring, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.curve(
            self.curve, x="customer_share", y="value_share", by=self.by, ax=ax, band=False
        )
        for cut in (self.a_share, self.b_share):
            ax.axhline(cut, color="#999999", linewidth=1, linestyle="--", zorder=1)
        figures.write_units(ax, "share", axis="x")
        figures.write_units(ax, "share")
        ax.set_xlim(0, 1)
        ax.set_xlabel(_("Customers, the most valuable first"))
        ax.set_ylabel(_("Share of the value"))
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None

    def _readable(self) -> pl.DataFrame:
        shown = super()._readable()
        return shown if self.by else without_few(shown, _MONEY, count="n_customers")

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {
            "n_customers": "count",
            "value": "money",
            "value_share": "share",
            "mean_value": "money",
        }


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Concentration(Estimates):
    """How unequal customers are in what they bring: one row a measure."""

    def sentence(self) -> str:
        """Say how much the best fifth of the customers brings."""
        if self.by != ("measure",):
            return super().sentence()
        return self.best_fifth().sentence()

    def best_fifth(self) -> Estimates:
        """Return the share of value that the best fifth brings, as estimates of its own."""
        return Estimates(
            table=self.table.filter(pl.col("measure") == "best_fifth"),
            name=_("Value from the best fifth of customers"), unit=self.unit,
            definition=self.definition, by=tuple(name for name in self.by if name != "measure"),
            conf_level=self.conf_level, notes=self.notes, key="value_from_best_fifth",
        )  # fmt: skip


def abc_classes(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    value_col: str = "margin",
    at_col: str | None = "happened_on",
    a_share: float = 0.80,
    b_share: float = 0.95,
    since: date | None = None,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> AbcClasses:
    r"""How few customers bring most of the value (ABC classes).

    Customers are put in order of the value they brought in the period. Class A holds those who
    are needed for `a_share` of it, B those who bring it to `b_share`, C the rest; the customer
    with whom a cut is crossed belongs to the class above. Whoever brought nothing, or less than
    nothing, is always in C.

    Parameters
    ----------
    purchases : table
        One row per purchase, or per customer, on any backend.
    customer_col, value_col : str
        A row whose value is null adds nothing and is counted in the notes.
    at_col : str or None
        Day of the purchase; None when the table has no dates: then all of it counts.
    a_share, b_share : float
        Cumulative shares of value.
    since : date, optional
        First day counted.
    currency : str, optional
        ISO code of the values.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        Classes are made within each group.
    conf_level : float
    ci_method : {"linearised"}

    Returns
    -------
    AbcClasses
        Columns of `by`, ``abc_class``, ``n`` (customers of the group), ``n_customers`` (of the
        class), ``estimate`` (share of customers), ``std_error``, ``conf_low``, ``conf_high``,
        ``value``, ``value_share`` and ``mean_value``. Where the total is not above zero there
        are no classes: all but the counts is null.

    Raises
    ------
    InputError
        Cuts that are not ``0 < a_share < b_share < 1``; a period that ends before it begins.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    The interval says how far the share would move with other customers from the same source. With
    :math:`T(p)` the share of value of the best :math:`p`, :math:`q` the value at the cut and
    :math:`\mu` the mean, the influence of a customer on the share needed is

    .. math:: -\frac{(y - q)^+ + p q - T y}{q}

    and the interval is taken on the logit scale.

    References
    ----------
    Beach & Davidson (1983), Review of Economic Studies 50:723-735 (variance of Lorenz ordinates).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> spent = pl.DataFrame({"customer_id": [1, 2, 3, 4, 5], "margin": [70, 15, 8, 5, 2]})
    >>> classes = abc_classes(spent, at_col=None, as_of=date(2026, 6, 30))
    >>> classes.table["n_customers"].to_list()
    [2, 2, 1]
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("linearised",))
    check_period(since, as_of)
    if not 0 < a_share < b_share < 1:
        raise InputError(
            f"Classes were asked for with cuts at {a_share!r} and {b_share!r} of the value. They "
            "must lie between 0 and 1, the first below the second: try 0.80 and 0.95."
        )
    values = customer_values(
        purchases, customer_col=customer_col, value_col=value_col, at_col=at_col, since=since,
        as_of=as_of, by=by,
    )  # fmt: skip
    cuts = (a_share, b_share)
    parts = list(_parts(values, by))
    table = pl.concat([_class_rows(part, by, cuts, conf_level) for part in parts])
    return AbcClasses(
        table=table,
        name=_("Share of customers in each ABC class"),
        unit="share",
        definition=_(
            "Customers in order of what they brought up to {as_of}: A are those needed for {a} of "
            "it, B those who bring it to {b}, C the rest. Whoever crosses a cut belongs to the "
            "class above; whoever brought nothing or less is in C.",
            as_of=date_text(as_of), a=percent(a_share, 0), b=percent(b_share, 0),
        ),
        by=by,
        conf_level=conf_level,
        notes=_notes(values, table, by, a_share)
        + (() if by else few_notes(table, count="n_customers")),
        currency=currency,
        customers=pl.concat([classified(part, cuts) for part in parts]).select(
            *by, "customer", "value", "abc_class"
        ),
        curve=pl.concat([_curve(part, by) for part in parts]),
        a_share=a_share,
        b_share=b_share,
    )  # fmt: skip


def value_concentration(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    value_col: str = "margin",
    at_col: str | None = "happened_on",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> Concentration:
    r"""How concentrated is the value of customers (Gini coefficient, share of the best fifth).

    Parameters
    ----------
    purchases : table
        One row per purchase, or per customer, on any backend.
    customer_col, value_col, at_col : str
        As in `abc_classes`.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"linearised"}

    Returns
    -------
    Concentration
        Columns of `by`, ``measure`` (``"gini"`` or ``"best_fifth"``), ``n`` (customers),
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``. Gini is 0 when all bring the
        same and 1 when one brings all; with customers who cost more than they bring it can pass
        1. Null where the total is not above zero or there are fewer than two customers.

    Raises
    ------
    InputError
        A period that ends before it begins.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    .. math:: G = \frac{2}{n^2 \mu} \sum_i (i - \tfrac12) y_{(i)} - 1

    with the standard error of Davidson (2009), equation 22; the best fifth by Beach & Davidson.

    References
    ----------
    Davidson (2009), Journal of Econometrics 150:30-40; Beach & Davidson (1983), Review of
    Economic Studies 50:723-735.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> spent = pl.DataFrame({"customer_id": [1, 2, 3, 4, 5], "margin": [1, 1, 1, 1, 6]})
    >>> found = value_concentration(spent, at_col=None, as_of=date(2026, 6, 30))
    >>> found.table["estimate"].round(3).to_list()
    [0.4, 0.6]
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("linearised",))
    check_period(since, as_of)
    values = customer_values(
        purchases, customer_col=customer_col, value_col=value_col, at_col=at_col, since=since,
        as_of=as_of, by=by,
    )  # fmt: skip
    table = pl.concat([_measures(part, by, conf_level) for part in _parts(values, by)])
    return Concentration(
        table=table,
        name=_("Concentration of value"),
        unit="share",
        definition=_(
            "Gini coefficient of what customers brought up to {as_of} (0: all the same, 100%: one "
            "brings all), and the share that the most valuable fifth of them brought.",
            as_of=date_text(as_of),
        ),
        by=(*by, "measure"),
        conf_level=conf_level,
        notes=_unknown_note(values) + small_n_notes(table, by, what=_("customers")),
    )


# The mathematics: sorted values in, numbers out ----------------------------------------------


def share_needed(values: NDArray[Any], cut: float) -> tuple[int, NDArray[Any]]:
    """Return how many of the best are needed for `cut` of the total, and each one's influence.

    Parameters
    ----------
    values : ndarray, shape (n,)
        From the largest to the smallest; their total is above zero.
    cut : float
        Share of the total.

    Returns
    -------
    k : int
    influence : ndarray, shape (n,)
        Influence of each customer on the share ``k / n``.
    """
    n, total = len(values), float(values.sum())
    before = np.concatenate(([0.0], np.cumsum(values)[:-1]))
    k = int(np.count_nonzero((before < cut * total) & (values > 0)))
    threshold, p = float(values[k - 1]), k / n
    over = np.maximum(values - threshold, 0.0)
    # Taken at the share that the k best really bring, so that the influences sum to zero.
    brought = (over.sum() + k * threshold) / total
    return k, -(over + p * threshold - brought * values) / threshold


def _gini(values: NDArray[Any]) -> tuple[float, float]:
    """Return the Gini coefficient and its standard error (Davidson 2009)."""
    y = values[::-1]
    n, mean = len(y), float(y.mean())
    ranks = (2 * np.arange(1, n + 1) - 1) / n
    gini = float((ranks * y).sum() / (n * mean) - 1)
    z = -(gini + 1) * y + ranks * y - 2 / n * np.cumsum(y)
    return gini, float(np.sqrt(np.sum((z - z.mean()) ** 2)) / (n * mean))


def _best(values: NDArray[Any], top: float) -> tuple[float, float]:
    """Return the share of value of the best `top` of customers, and its standard error."""
    n, total = len(values), float(values.sum())
    whole = int(np.floor(top * n + 1e-9))
    threshold = float(values[min(whole, n - 1)])
    share = (float(values[:whole].sum()) + (top * n - whole) * threshold) / total
    influence = np.maximum(values - threshold, 0.0) + top * threshold - share * values
    return share, float(np.sqrt(np.sum(influence**2)) / total)


def _logit_bounds(
    estimate: NDArray[Any], error: NDArray[Any], conf_level: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bound shares on the logit scale; plainly where they are not inside (0, 1)."""
    inside = (estimate > 0) & (estimate < 1)
    p = np.where(inside, estimate, 0.5)
    half = normal_quantile(conf_level) * error
    centre, width = np.log(p / (1 - p)), half / (p * (1 - p))
    low, high = 1 / (1 + np.exp(width - centre)), 1 / (1 + np.exp(-width - centre))
    return np.where(inside, low, estimate - half), np.where(inside, high, estimate + half)


# Tables ---------------------------------------------------------------------------------------


def _parts(values: pl.DataFrame, by: tuple[str, ...]) -> Iterator[pl.DataFrame]:
    if by and values.height:
        yield from values.partition_by(by, maintain_order=True)
    else:
        yield values


def classified(part: pl.DataFrame, cuts: tuple[float, float]) -> pl.DataFrame:
    y = part["value"].to_numpy()
    if y.sum() <= 0:
        return part.with_columns(pl.lit(None, pl.String).alias("abc_class"))
    ends = [share_needed(y, cut)[0] for cut in cuts]
    rank = pl.int_range(pl.len())
    name = pl.when(rank < ends[0]).then(pl.lit("A")).when(rank < ends[1]).then(pl.lit("B"))
    return part.with_columns(name.otherwise(pl.lit("C")).alias("abc_class"))


def _class_rows(
    part: pl.DataFrame, by: tuple[str, ...], cuts: tuple[float, float], conf_level: float
) -> pl.DataFrame:
    y = part["value"].to_numpy().astype(np.float64)
    n, total = len(y), float(y.sum())
    if total <= 0:
        unknown = np.full(3, np.nan)
        counted = {name: pl.Series([None] * 3, dtype=pl.Int64) for name in ("n_customers",)}
        money = {name: pl.Series([None] * 3, dtype=pl.Float64) for name in _MONEY}
        five = five_columns(np.full(3, n), unknown, unknown, unknown, unknown)
        return _rows(part, by, counted, five, money)
    (k_a, on_a), (k_b, on_b) = (share_needed(y, cut) for cut in cuts)
    sizes = np.array([k_a, k_b - k_a, n - k_b])
    influences = np.stack([on_a, on_b - on_a, -on_b])
    error = np.sqrt((influences**2).sum(axis=1)) / n
    share = sizes / n
    low, high = _logit_bounds(share, error, conf_level)
    sums = np.array([y[:k_a].sum(), y[k_a:k_b].sum(), y[k_b:].sum()])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / sizes
    money = {
        "value": pl.Series(sums),
        "value_share": pl.Series(sums / total),
        "mean_value": pl.Series(mean).fill_nan(None),
    }
    counts = {"n_customers": pl.Series(sizes, dtype=pl.Int64)}
    return _rows(part, by, counts, five_columns(np.full(3, n), share, error, low, high), money)


_MONEY = ("value", "value_share", "mean_value")


def _rows(part: pl.DataFrame, by: tuple[str, ...], *columns: dict[str, pl.Series]) -> pl.DataFrame:
    together = {name: column for some in columns for name, column in some.items()}
    classes = pl.DataFrame({"abc_class": list(CLASSES), **together})
    if not by:
        return classes
    return part.select(by).head(1).join(classes, how="cross")


def _measures(part: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    y = part["value"].to_numpy().astype(np.float64)
    if len(y) < 2 or y.sum() <= 0:
        estimate = error = low = high = np.full(2, np.nan)
    else:
        (gini, gini_error), (best, best_error) = _gini(y), _best(y, _TOP)
        estimate, error = np.array([gini, best]), np.array([gini_error, best_error])
        low, high = _logit_bounds(estimate, error, conf_level)
    five = five_columns(np.full(2, len(y)), estimate, error, low, high)
    rows = pl.DataFrame({"measure": MEASURES, **five})
    return part.select(by).head(1).join(rows, how="cross") if by else rows


def _curve(part: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    y = part["value"].to_numpy().astype(np.float64)
    n, total = len(y), float(y.sum())
    places = np.unique(np.linspace(0, n, min(n + 1, _CURVE_POINTS)).astype(int))
    brought = np.concatenate(([0.0], np.cumsum(y)))[places]
    known = n > 0 and total > 0
    rows = pl.DataFrame(
        {
            "customer_share": places / n if known else np.zeros(0),
            "value_share": brought / total if known else np.zeros(0),
        }
    )
    return part.select(by).head(1).join(rows, how="cross") if by else rows


def _notes(
    values: pl.DataFrame, table: pl.DataFrame, by: tuple[str, ...], a_share: float
) -> tuple[str, ...]:
    notes = _unknown_note(values)
    lost = int((values["value"] <= 0).sum())
    if lost:
        notes += (
            _(
                "{n} of {all} customers brought nothing or less than nothing.",
                n=number(lost),
                all=number(values.height),
            ),
        )
    if not by and table["estimate"][0] is not None and abs(table["estimate"][0] - 0.2) > 0.05:
        notes += (
            _(
                "The rule that a fifth of the customers brings four fifths of the value does not "
                "hold here: {value} of them bring {cut}.",
                value=percent(table["estimate"][0]),
                cut=percent(a_share, 0),
            ),
        )
    without = table.filter(pl.col("estimate").is_null())
    if without.height:
        groups = ", ".join(dict.fromkeys(group_label(row, by) for row in without.to_dicts()))
        notes += (
            _("What customers brought is not above zero in: {groups}; no classes.", groups=groups),
        )
    whole = table.filter(pl.col("abc_class") == "A")
    return notes + small_n_notes(whole, by, what=_("customers"))


def _unknown_note(values: pl.DataFrame) -> tuple[str, ...]:
    unknown, rows = int(values["n_unknown"].sum()), int(values["n_rows"].sum())
    if not unknown:
        return ()
    return (
        _(
            "The value of {n} of {all} purchases is not known; they add nothing.",
            n=number(unknown),
            all=number(rows),
        ),
    )
