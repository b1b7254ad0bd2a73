"""Whose satisfaction it is: of those who bring the money, and how much of it the unhappy bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.errors import InputError
from crm_analysis.estimates import FEW, Estimates, five_columns, p_text, small_n_notes
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
from crm_analysis.satisfaction.answers import check_on_scale, check_scale, float_column, score_text
from crm_analysis.satisfaction.index import percentiles, resampled
from crm_analysis.uncertainty import homogeneity_p_value, mean_interval
from crm_analysis.wording import Unit, _, amount, date_text, number, percent, plural

if TYPE_CHECKING:
    from crm_analysis.satisfaction.answers import Floats

__all__ = ["ClassScores", "DissatisfiedValue", "dissatisfied_value", "value_weighted_score"]

CLASSES = ("A", "B", "C")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ClassScores(Estimates):
    """The mean score of each class of customers by value, and weighted by what they bring.

    Attributes
    ----------
    p_value : float or None
        Whether the classes differ.
    weighted : float or None
        Mean score in which every customer counts by value; `weighted_low` and `weighted_high`
        bound it.
    plain : float or None
        Mean score in which every customer counts once.
    """

    p_value: float | None = None
    weighted: float | None = None
    weighted_low: float | None = None
    weighted_high: float | None = None
    plain: float | None = None

    def difference_p_value(self) -> float | None:
        """Return the p-value of the test that classes do not differ."""
        return self.p_value

    def sentence(self) -> str:
        """Say how satisfied the most valuable are, and what weighting by value changes."""
        best = self.table.filter((pl.col("abc_class") == "A") & pl.col("estimate").is_not_null())
        if best.is_empty() or self.weighted is None:
            return _("{name}: nothing can be said in any group.", name=self.name)
        row = best.row(0, named=True)
        verdict = (
            _("classes are not found to differ (p = {p})", p=number(self.p_value, 2))
            if self.p_value is not None and self.p_value >= 1 - self.conf_level
            else _("classes differ ({p})", p=p_text(self.p_value))
            if self.p_value is not None
            else _("whether they differ cannot be tested")
        )
        return _(
            "{name} of the customers who bring {share} of the value (class A): {value}; weighted "
            "by value over all who answered {weighted}, unweighted {plain}; {verdict}.",
            name=self.name, share=percent(row["value_share"], 0), value=self.value_text(row),
            weighted=amount(self.weighted, self.unit), plain=amount(self.plain, self.unit),
            verdict=verdict,
        )  # fmt: skip

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_customers": "count", "value_share": "share"}


def value_weighted_score(
    customers: object,
    *,
    score_col: str = "score",
    value_col: str = "revenue",
    scale: tuple[float, float],
    a_share: float = 0.80,
    b_share: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "t",
) -> ClassScores:
    r"""How satisfied are the customers who bring most of the money (by ABC class; t, bootstrap).

    Parameters
    ----------
    customers : table
        One row per customer, on any backend, those who never answered included: see
        `Warehouse.customer_scores`.
    score_col, value_col : str
        The customer's score (null: no answer) and what the customer brought (null: nothing).
    scale : tuple of float
        Lowest and highest score that the question allows.
    a_share, b_share : float
        Class A holds the best customers who together bring this share of all value, B those
        who bring it to `b_share`, C the rest.
    n_resamples, seed : int
        Of the bootstrap behind the weighted mean.
    as_of : date
        The day as of which it is said.
    conf_level : float
    ci_method : {"t"}

    Returns
    -------
    ClassScores
        One row per class: ``abc_class``, ``n_customers``, ``value_share``, ``n`` (who answered),
        ``estimate`` (mean score), ``std_error``, ``conf_low``, ``conf_high``. Null where nobody
        answered.

    Raises
    ------
    InputError
        Cuts that are not ``0 < a_share < b_share < 1``; scores off the scale.
    ColumnError
        A column is missing or of another type.

    Examples
    --------
    >>> import polars as pl
    >>> customers = pl.DataFrame({"score": [2, None, 4, 5, 5], "revenue": [800, 60, 50, 50, 40]})
    >>> found = value_weighted_score(customers, scale=(1, 5), as_of=date(2026, 6, 30))
    >>> found.table.select("abc_class", "n_customers", "estimate").rows()
    [('A', 1, 2.0), ('B', 3, 4.5), ('C', 1, 5.0)]
    >>> round(found.weighted, 3), found.plain
    (2.394, 4.0)
    """
    check_one_of("ci_method", ci_method, ("t",))
    check_whole("n_resamples", n_resamples, least=100)
    if not 0 < a_share < b_share < 1:
        raise InputError(
            f"Cuts must be 0 < a_share < b_share < 1; got {a_share} and {b_share}. "
            "Pass, say, 0.80 and 0.95."
        )
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    counted = _count(customers, score_col, value_col, scale, ())
    classed = _with_classes(counted, a_share, b_share)
    table = _class_table(classed, scale, conf_level)
    answered = classed.drop_nulls("score").filter(pl.col("value") > 0)
    weighted, low, high = _weighted(answered, n_resamples, seed, conf_level)
    plain = classed.drop_nulls("score").select((pl.col("score") * pl.col("n")).sum()
                                               / pl.col("n").sum()).item()  # fmt: skip
    return ClassScores(
        table=table, name=_("Mean score"), unit="score", by=("abc_class",), conf_level=conf_level,
        key="score_by_value", better="higher",
        definition=_(
            "Mean of the customers' scores, by class: A are the best customers who together bring "
            "{a} of all value, B those who bring it to {b}, C the rest. As of {as_of}.",
            a=percent(a_share, 0), b=percent(b_share, 0), as_of=date_text(as_of),
        ),
        notes=_class_notes(table, answered),
        p_value=homogeneity_p_value(table["estimate"].to_numpy(), table["std_error"].to_numpy()),
        weighted=weighted, weighted_low=low, weighted_high=high,
        plain=None if plain is None or not np.isfinite(plain) else float(plain),
    )  # fmt: skip


def _count(
    customers: object,
    score_col: str,
    value_col: str,
    scale: tuple[float, float],
    by: tuple[str, ...],
) -> pl.DataFrame:
    """Count customers of each score and value; what is brought at a loss brings nothing."""
    check_scale(scale)
    asked = {
        "score": Asked(score_col, "number", "score_col", nullable=True),
        "value": Asked(value_col, "number", "value_col", nullable=True),
    }
    frame = open_table(customers, asked, by=by)
    value = nw.when(nw.col("value") > 0).then(nw.col("value")).otherwise(nw.lit(0.0))
    counts = frame.with_columns(value.alias("value")).group_by(*keys_of(by), "score", "value")
    counted = collect(counts.agg(nw.len().alias("n")), by=by, order=["score", "value"])
    check_on_scale(counted, score_col, scale)
    return counted


def _with_classes(counted: pl.DataFrame, a_share: float, b_share: float) -> pl.DataFrame:
    """Give each customer a class; the one with whom a cut is crossed belongs above it."""
    each = counted.select(pl.exclude("n").repeat_by("n").explode(empty_as_null=False))
    each = each.sort(["value", "score"], descending=[True, False], nulls_last=True)
    total = each["value"].sum()
    before = (each["value"].cum_sum() - each["value"]) / (total or 1)
    place = np.searchsorted([a_share, b_share], before.to_numpy() + 1e-12, side="left")
    place = np.where(each["value"].to_numpy() > 0, place, 2)
    return each.with_columns(
        abc_class=pl.Series([CLASSES[i] for i in place], dtype=pl.String), n=pl.lit(1)
    )


def _class_table(
    classed: pl.DataFrame, scale: tuple[float, float], conf_level: float
) -> pl.DataFrame:
    score, value = pl.col("score"), pl.col("value")
    sums = classed.group_by("abc_class").agg(
        n_customers=pl.len().cast(pl.Int64),
        value=value.sum(),
        n_answered=score.is_not_null().sum(),
        mean=score.mean(),
        std_dev=score.std(),
    )
    sums = pl.DataFrame({"abc_class": CLASSES}).join(
        sums, on="abc_class", how="left", maintain_order="left"
    )
    n = float_column(sums.fill_null(0), "n_answered")
    mean, std_dev = (sums[name].fill_null(np.nan).to_numpy() for name in ("mean", "std_dev"))
    spread = np.where(std_dev > 0, std_dev, np.nan)
    low, high = mean_interval(mean, spread, n, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = spread / np.sqrt(n)
    total = classed["value"].sum()
    five = five_columns(n, mean, error, np.maximum(low, scale[0]), np.minimum(high, scale[1]))
    share = pl.col("value").fill_null(0) / total if total else pl.lit(None, pl.Float64)
    return sums.select(
        "abc_class", pl.col("n_customers").fill_null(0), value_share=share
    ).with_columns(**five)


def _weighted(
    answered: pl.DataFrame, n_resamples: int, seed: int, conf_level: float
) -> tuple[float | None, float | None, float | None]:
    value, score = float_column(answered, "value"), float_column(answered, "score")
    if not value.sum():
        return None, None, None
    estimate = float(value @ score / value.sum())
    if len(value) < 2:
        return estimate, None, None

    def mean(counts: Floats) -> Floats:
        return np.asarray(counts @ (value * score) / (counts @ value))

    draws = resampled(np.ones(len(value)), mean, n_resamples, seed)
    _error, low, high = percentiles(draws, estimate, conf_level)
    return (estimate, low, high) if np.isfinite(low) else (estimate, None, None)


def _class_notes(table: pl.DataFrame, answered: pl.DataFrame) -> tuple[str, ...]:
    notes = small_n_notes(table, ("abc_class",), what=_("answers"))
    if not answered.height:
        notes += (_("Nobody who brought anything has answered."),)
    return notes


# What the dissatisfied bring ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DissatisfiedValue(Estimates):
    """What share of the value comes from dissatisfied customers, and how much money it is."""

    def sentence(self) -> str:
        """Say how many of those who answered are dissatisfied, and what they bring."""
        if self.by or self.table["estimate"].item() is None:
            return super().sentence()
        row = self.table.row(0, named=True)
        if row["n_low"] == 0:
            return _("Nobody who bought and answered is dissatisfied (n = {n}).",
                     n=number(row["n"]))  # fmt: skip
        if row["n_low"] < FEW:
            return _(
                "Dissatisfied, of the {n} customers who bought and answered: {k}; what so few "
                "brought is not shown.",
                k=number(row["n_low"]), n=number(row["n"]),
            )  # fmt: skip
        money = {name: amount(row[name], "money", currency=self.currency)
                 for name in ("value", "value_low", "value_high")}  # fmt: skip
        if row["conf_low"] is None:
            return super().sentence()
        return _(
            "{k} of the {n} customers who bought and answered are dissatisfied; they brought "
            "{value} ({value_low} to {value_high}), {share} of what all these brought.",
            k=number(row["n_low"]), n=number(row["n"]), share=percent(row["estimate"]), **money,
        )  # fmt: skip

    def _readable(self) -> pl.DataFrame:
        """Leave out what a few customers brought: it would be what one of them did."""
        hidden = ("estimate", "std_error", "conf_low", "conf_high",
                  "value", "value_low", "value_high")  # fmt: skip
        few = (pl.col("n_low") > 0) & (pl.col("n_low") < FEW)
        shown = super()._readable()
        return shown.with_columns(pl.when(~few).then(pl.col(name)).alias(name) for name in hidden)

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        money: dict[str, Unit] = dict.fromkeys(("value", "value_low", "value_high"), "money")
        return super().units() | money | {"n_low": "count", "customer_share": "share"}


def dissatisfied_value(
    customers: object,
    *,
    score_col: str = "score",
    value_col: str = "revenue",
    scale: tuple[float, float],
    low_to: float,
    n_resamples: int = 1000,
    seed: int = 0,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "bootstrap",
) -> DissatisfiedValue:
    r"""What share of the value comes from dissatisfied customers (bootstrap over customers).

    Parameters
    ----------
    customers, score_col, value_col, scale, n_resamples, seed, as_of
        As in `value_weighted_score`.
    low_to : float
        Scores up to this one are those of the dissatisfied.
    currency : str, optional
        ISO code of the money.
    by : str or sequence of str
    conf_level : float
    ci_method : {"bootstrap"}

    Returns
    -------
    DissatisfiedValue
        Columns of `by`, ``n`` (customers who answered and brought something), ``n_low`` (of
        them dissatisfied), ``customer_share`` (of them), ``estimate`` (share of their value),
        ``std_error``, ``conf_low``, ``conf_high``, and the same in money: ``value``,
        ``value_low``, ``value_high``. Null where nobody answered.

    Raises
    ------
    InputError
        `low_to` off the scale, or its best score; scores off the scale.
    ColumnError
        A column is missing or of another type.

    Examples
    --------
    >>> import polars as pl
    >>> customers = pl.DataFrame({"score": [2, None, 4, 5, 5], "revenue": [800, 60, 50, 50, 100]})
    >>> found = dissatisfied_value(customers, scale=(1, 5), low_to=2, as_of=date(2026, 6, 30))
    >>> found.table.select("n", "customer_share", "estimate").row(0)
    (4, 0.25, 0.8)
    """
    check_one_of("ci_method", ci_method, ("bootstrap",))
    check_whole("n_resamples", n_resamples, least=100)
    names = group_names(by, taken=("score", "value", "n_low", "customer_share"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    counted = _count(customers, score_col, value_col, scale, names)
    if not scale[0] <= low_to < scale[1]:
        raise InputError(
            f"Scores up to {low_to:g} were to be low, on a scale from {scale[0]:g} to "
            f"{scale[1]:g}. Pass a score of the scale that is not the best."
        )
    answered = counted.drop_nulls("score").filter(pl.col("value") > 0)
    groups = counted.select(names).unique(maintain_order=True)
    parts = (
        [
            answered.join(row, on=names, how="semi", nulls_equal=True)
            for row in groups.iter_slices(1)
        ]
        if names
        else [answered]
    )
    rows = [_value_row(part, low_to, n_resamples, seed, conf_level) for part in parts]
    totals = [float((part["value"] * part["n"]).sum()) for part in parts]
    table = _in_money(_value_table(rows), totals)
    table = pl.concat([groups, table], how="horizontal") if names else table
    return DissatisfiedValue(
        table=table, name=_("Value of the dissatisfied"), unit="share", by=names,
        conf_level=conf_level, key="dissatisfied_value", better="lower", currency=currency,
        definition=_(
            "Share of what those who answered brought that comes from scores up to {cut}, and the "
            "share of customers who gave them. As of {as_of}.",
            cut=score_text(low_to), as_of=date_text(as_of),
        ),
        notes=_silent_note(counted) + small_n_notes(table, names, what=_("customers")),
    )  # fmt: skip


def _value_row(
    part: pl.DataFrame, low_to: float, n_resamples: int, seed: int, conf_level: float
) -> tuple[float, ...]:
    n, value = float_column(part, "n"), float_column(part, "value")
    low = (float_column(part, "score") <= low_to).astype(np.float64)
    nan = float("nan")
    if not n.sum():
        return 0, 0, nan, nan, nan, nan, nan
    counts = (float(n.sum()), float(n @ low), float(n @ low / n.sum()))
    estimate = float((n * value) @ low / (n @ value))
    if n.sum() < 2:
        return *counts, estimate, nan, nan, nan

    def share(drawn: Floats) -> Floats:
        return np.asarray(drawn @ (value * low) / (drawn @ value))

    draws = resampled(n, share, n_resamples, seed)
    return *counts, estimate, *percentiles(draws, estimate, conf_level)


def _value_table(rows: Sequence[tuple[float, ...]]) -> pl.DataFrame:
    size, n_low, share, *four = np.array(rows, np.float64).reshape(len(rows), 7).T
    five = five_columns(size, *four)
    return pl.DataFrame(
        {
            "n": five["n"],
            "n_low": pl.Series(n_low.astype(np.int64)),
            "customer_share": pl.Series(share).fill_nan(None),
            **{name: five[name] for name in ("estimate", "std_error", "conf_low", "conf_high")},
        }
    )


def _in_money(table: pl.DataFrame, totals: Sequence[float]) -> pl.DataFrame:
    whole = pl.Series(totals, dtype=pl.Float64)
    names = {"value": "estimate", "value_low": "conf_low", "value_high": "conf_high"}
    return table.with_columns(**{name: table[source] * whole for name, source in names.items()})


def _silent_note(counted: pl.DataFrame) -> tuple[str, ...]:
    total, silent = counted["value"] * counted["n"], counted["score"].is_null()
    n = int(counted.filter(silent)["n"].sum())
    if not n or not total.sum():
        return ()
    share = float(total.filter(silent).sum()) / float(total.sum())
    return (
        plural(n, "{n} customer who brings {share} of the value has not answered and is not "
                  "counted.",
               "{n} customers who bring {share} of the value have not answered and are not "
               "counted.", share=percent(share, 0)),
    )  # fmt: skip
