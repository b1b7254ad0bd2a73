"""Where it goes worse than elsewhere, of all that was looked at, without crying wolf."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import special

from crm_analysis.changes import least_size
from crm_analysis.errors import InputError, listed, near
from crm_analysis.estimates import Estimates, five_columns, group_label
from crm_analysis.frames import check_conf_level
from crm_analysis.uncertainty import against_others, normal_quantile
from crm_analysis.wording import ABSENT, Unit, _, amount, number, percent, signed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crm_analysis.blocks import Block, BlockFigure

__all__ = ["Loss", "Problems", "benjamini_hochberg", "problem_finder"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Problems(Estimates):
    """Groups that are worse than the others, the surest first.

    Attributes
    ----------
    n_compared : int
        How many groups of all figures were compared.
    """

    n_compared: int

    def sentence(self) -> str:
        """Name the surest problem, or say that nothing stands out."""
        if self.table.is_empty():
            return _("No group stands out below the others ({n} compared).",
                     n=number(self.n_compared))  # fmt: skip
        row = self.table.row(0, named=True)
        return _(
            "{k} of {n} groups compared are worse than the others; the surest: {measure}, {group}.",
            k=number(self.table.height), n=number(self.n_compared), measure=row["measure"],
            group=row["group"],
        )  # fmt: skip

    def losses(self) -> tuple[Loss, ...]:
        """Return what each problem costs, one finding each, the largest difference first."""
        rows = [
            Loss(
                table=self.table[place], name=row["measure"], unit=row["unit"],
                definition=self.definition, by=("group",), conf_level=self.conf_level,
                currency=self.currency,
            )
            for place, row in enumerate(self.table.to_dicts())
        ]  # fmt: skip
        return tuple(sorted(rows, key=lambda loss: -loss.importance()))

    def show(self, *, title: str | None = None, figure: bool = True, table: bool = True) -> Block:
        """Return the block that a page shows; without problems there is no table of them."""
        return super().show(title=title, figure=figure, table=table and not self.table.is_empty())

    def _figure(self) -> BlockFigure | None:
        """Draw nothing: every figure has a unit of its own, and the table says them all."""
        return None

    def _readable(self) -> pl.DataFrame:
        """Return the table in words: each figure has a unit of its own."""
        rows = [_in_words(row, self.currency) for row in self.table.to_dicts()]
        words = pl.DataFrame(rows, schema=dict.fromkeys(_WORDS, pl.String) | {"n": pl.Int64})
        told = bool(rows) and all(_lost(row) for row in self.table.to_dicts())
        return words.drop("n") if told else words  # "108 of 413": once is enough

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        money = dict.fromkeys(("worth", "money", "money_low", "money_high"), "money")
        return super().units() | {"p_value": "number", "q_value": "number"} | money


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Loss(Estimates):
    """One group that is worse than the others, and what that makes over all its cases."""

    def sentence(self) -> str:
        """Say how far it is off, and how many cases or how much money that is."""
        row = self.table.row(0, named=True)
        said = _(
            "{group}, {name}: {value}, elsewhere {others} ({difference})",
            group=row["group"], name=self.name, difference=_difference_text(row, self.currency),
            value=amount(row["value"], self.unit, currency=self.currency),
            others=amount(row["others"], self.unit, currency=self.currency),
        )  # fmt: skip
        lost = "; ".join(part for part in _amounts(row, self.currency) if part)
        return f"{said}: {lost}." if lost else f"{said}."

    def importance(self) -> float:
        """Return how far at least it is off the others."""
        row = self.table.row(0, named=True)
        return least_size(
            row["conf_low"], row["conf_high"], value=row["value"], unit=self.unit,
            spread=row["spread"],
        )  # fmt: skip


_PER_CASE = {"share": 1.0, "points": 0.01, "money": 1.0}
"""What one case counts in a difference of each unit; points are shares of answers in hundredths."""


def _lost(row: dict[str, Any]) -> tuple[float, float, float] | None:
    """Return what a difference makes over all cases of the group: a positive size and its ends."""
    if row["unit"] not in _PER_CASE:
        return None
    cases = row["n"] * _PER_CASE[row["unit"]]
    low, high = sorted(abs(cases * row[end]) for end in ("conf_low", "conf_high"))
    return abs(cases * row["estimate"]), low, high


def _amounts(row: dict[str, Any], currency: str | None) -> tuple[str, str]:
    """Return what a difference makes in cases, and what those cases are worth."""
    if row["money"] is None:
        return _lost_text(row, currency), ""
    money, low, high = (
        amount(row[name], "money", currency=currency)
        for name in ("money", "money_low", "money_high")
    )
    return _lost_text(row, currency), _("{money} ({low} to {high}) at {each} each", money=money,
        low=low, high=high, each=amount(row["worth"], "money", currency=currency))  # fmt: skip


def _lost_text(row: dict[str, Any], currency: str | None) -> str:
    lost = _lost(row)
    if lost is None:
        return ""
    unit: Unit = "money" if row["unit"] == "money" else "count"
    size, low, high = (amount(value, unit, currency=currency) for value in lost)
    if unit == "money":
        return _("{size} ({low} to {high}) less over its {n} cases",
                 size=size, low=low, high=high, n=number(row["n"]))  # fmt: skip
    if row["unit"] == "points":
        return _("{size} ({low} to {high}) promoters fewer or detractors more among {n} answers",
                 size=size, low=low, high=high, n=number(row["n"]))  # fmt: skip
    if row["estimate"] > 0:
        return _("{size} ({low} to {high}) too many of {n}",
                 size=size, low=low, high=high, n=number(row["n"]))  # fmt: skip
    return _("{size} ({low} to {high}) missing of {n}",
             size=size, low=low, high=high, n=number(row["n"]))  # fmt: skip


def _difference_text(row: dict[str, Any], currency: str | None) -> str:
    low, high = (
        signed(row[end], row["unit"], currency=currency, bare=True)
        for end in ("conf_low", "conf_high")
    )
    return _(
        "{change}; {low} to {high}",
        change=signed(row["estimate"], row["unit"], currency=currency), low=low, high=high,
    )  # fmt: skip


_WORDS = ("measure", "group", "here", "others", "difference", "loss", "money")


def _in_words(row: dict[str, Any], currency: str | None) -> dict[str, Any]:
    value, others = (amount(row[c], row["unit"], currency=currency) for c in ("value", "others"))
    cases, money = _amounts(row, currency)
    return {
        "measure": row["measure"], "group": row["group"], "here": value, "others": others,
        "difference": _difference_text(row, currency),
        "loss": cases or ABSENT, "money": money or ABSENT, "n": row["n"],
    }  # fmt: skip


def problem_finder(
    results: Sequence[Estimates],
    *,
    high_is_bad: Collection[str] = (),
    worth: Mapping[str, Estimates] | None = None,
    false_alarms: float = 0.1,
    only: str | None = None,
    conf_level: float = 0.95,
) -> Problems:
    """Which groups are worse than the others, of all figures together (Benjamini-Hochberg).

    Parameters
    ----------
    results : sequence of Estimates
        Figures by group, each with standard errors; rows without one are not compared. Of a
        figure that says lower is `better` more is worse.
    high_is_bad : collection of str
        Names of further figures of which more is worse, such as waiting times.
    worth : mapping of str to Estimates, optional
        By the name of a figure, what one of its cases is worth in money: a mean over all, or one
        for each of the same groups. Conversion, say, times the margin of a car.
    false_alarms : float
        Share of false alarms to be expected among the groups that are named.
    only : str, optional
        The one group that is held against the others, such as the dealership of a page; without
        it every group is.
    conf_level : float

    Returns
    -------
    Problems
        ``measure``, ``group``, ``unit``, ``value`` and ``others`` (in the figure's own unit),
        ``spread`` (standard deviation of single cases), ``n``, ``estimate`` (the difference),
        ``std_error``, ``conf_low``, ``conf_high``,
        ``p_value`` (one side) and ``q_value``: only the groups that are named, the surest first.
        Because only those are named, their intervals are wider: of all intervals shown, no more
        than ``1 - conf_level`` are expected to miss. ``worth`` (of one case), ``money`` (of all
        that are missing or too many), ``money_low`` and ``money_high`` are null where no worth was
        given; they allow for the uncertainty of both (delta method). `losses` says what each costs.

    Raises
    ------
    InputError
        A name in `high_is_bad` or `worth` that no figure has, a worth that is no money, or a share
        outside (0, 1).

    References
    ----------
    Benjamini & Hochberg (1995), JRSS B 57:289-300; Benjamini & Yekutieli (2005), JASA 100:71-81
    (intervals of what was selected).
    """
    conf_level = check_conf_level(conf_level)
    worth = worth or {}
    _check_names(results, high_is_bad, worth)
    if not 0 < false_alarms < 1:
        raise InputError(f"'false_alarms' lies between 0 and 1; got {false_alarms}. Pass 0.1.")
    rows = [
        row
        for result in results
        for row in _against(result, result.name in high_is_bad or result.better == "lower")
        if only is None or row[1] == only
    ]
    table = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    table = table.with_columns(
        q_value=pl.Series(benjamini_hochberg(table["p_value"].to_numpy()), dtype=pl.Float64)
    )
    worse = table.filter(pl.col("q_value") <= false_alarms).sort("p_value", maintain_order=True)
    gap, error = (worse[name].to_numpy() for name in ("difference", "error"))
    missed = (1 - conf_level) * worse.height / max(table.height, 1)
    half = normal_quantile(1 - missed) * error if worse.height else error
    five = five_columns(worse["n"], gap, error, gap - half, gap + half)
    named = worse.select("measure", "group", "unit", "value", "others", "spread").with_columns(
        **five
    )
    return Problems(
        table=named.with_columns(
            *_money(named, half, worth), p_value=worse["p_value"], q_value=worse["q_value"]
        ),
        name=_("Where it goes worse than elsewhere"),
        unit="number",
        definition=_(
            "Each group against the others of its figure, weighted by how well they are known; of "
            "the groups named, at most {rate} are expected to be false alarms. What is missing, or "
            "too many, is the difference times the group's cases.",
            rate=percent(false_alarms, 0),
        ),
        by=("measure", "group"),
        conf_level=conf_level,
        currency=next((r.currency for r in (*results, *worth.values()) if r.currency), None),
        n_compared=table.height,
    )


_SCHEMA = {
    "measure": pl.String, "group": pl.String, "unit": pl.String, "value": pl.Float64,
    "others": pl.Float64, "spread": pl.Float64, "n": pl.Int64, "difference": pl.Float64,
    "error": pl.Float64, "p_value": pl.Float64,
}  # fmt: skip


def _check_names(
    results: Sequence[Estimates], high_is_bad: Collection[str], worth: Mapping[str, Estimates]
) -> None:
    known = [result.name for result in results]
    for asked, names in (("high_is_bad", high_is_bad), ("worth", worth)):
        for name in names:
            if name not in known:
                raise InputError(
                    f"{asked} names {name!r}{near(name, known)}; the figures are: {listed(known)}."
                )
    for name, mean in worth.items():
        if mean.unit != "money":
            raise InputError(
                f"The worth of a case of {name!r} is given in the unit {mean.unit!r}. Pass a mean "
                "in money, such as margin_per_deal()."
            )


def _money(
    named: pl.DataFrame, half: NDArray[Any], worth: Mapping[str, Estimates]
) -> tuple[pl.Series, ...]:
    """Return what a case is worth, and what all that are missing or too many are, bounded."""
    rows = [
        _worth_of(row, float(wide), worth) for row, wide in zip(named.to_dicts(), half, strict=True)
    ]
    columns = ("worth", "money", "money_low", "money_high")
    return tuple(
        pl.Series(name, [row[place] for row in rows], pl.Float64)
        for place, name in enumerate(columns)
    )


def _worth_of(
    row: dict[str, Any], half: float, worth: Mapping[str, Estimates]
) -> tuple[float | None, ...]:
    """Multiply the cases by their mean worth; half widths add up as relative errors do."""
    nothing = (None,) * 4
    mean, lost = worth.get(row["measure"]), _lost(row)
    if mean is None or lost is None or row["unit"] == "money":
        return nothing
    mine = [
        r for r in mean.table.to_dicts() if not mean.by or group_label(r, mean.by) == row["group"]
    ]
    if not mine or mine[0]["estimate"] is None or mine[0]["conf_low"] is None:
        return nothing
    each = mine[0]["estimate"]
    each_half = (mine[0]["conf_high"] - mine[0]["conf_low"]) / 2
    cases = lost[0]
    cases_half = row["n"] * _PER_CASE[row["unit"]] * half
    wide = sqrt((each * cases_half) ** 2 + (cases * each_half) ** 2)
    return each, each * cases, each * cases - wide, each * cases + wide


def _against(result: Estimates, high_is_bad: bool) -> list[tuple[Any, ...]]:
    """Compare each group with the mean of the others, weighted by their variances."""
    table = result.table.filter(pl.col("std_error") > 0).drop_nulls("estimate")
    if table.height < 2:
        return []
    value, error = (table[column].to_numpy() for column in ("estimate", "std_error"))
    gap, spread = against_others(value, error)
    p = special.ndtr(-gap / spread if high_is_bad else gap / spread)
    return [
        (result.name, group_label(row, result.by), result.unit, value[i], value[i] - gap[i],
         error[i] * sqrt(row["n"]), row["n"], gap[i], spread[i], p[i])
        for i, row in enumerate(table.to_dicts())
    ]  # fmt: skip


def benjamini_hochberg(p_values: NDArray[Any]) -> NDArray[Any]:
    """Return q-values: the least false discovery rate at which each would be named.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return out
