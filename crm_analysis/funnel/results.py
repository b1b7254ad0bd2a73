"""The shape of a conversion funnel's answer: what it says and shows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.estimates import Better, Estimates, five_columns, labelled_groups
from crm_analysis.uncertainty import newcombe_difference
from crm_analysis.wording import Unit, _, interval_text, number, percent, plural, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ConversionFunnel", "WeakestStep", "days_text"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class WeakestStep(Estimates):
    """The step that fewest pass: one row, or one per group; ``stage`` says from where to where.

    The lowest of several rates is somewhat too low by selection, and groups may have different
    steps; so it is named and counted here, and no test compares the groups.
    """

    def sentence(self) -> str:
        """Return which step is the weakest, or in how many groups the commonest one is."""
        if not self.by or self.table.is_empty():
            return Estimates.sentence(self)
        step, count = self.table["stage"].value_counts(sort=True).sort(
            ["count", "stage"], descending=[True, False]
        ).row(0)  # fmt: skip
        return _(
            "The weakest step is {step} in {k} of {n} groups.",
            step=step, k=number(count), n=number(self.table.height),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the rates with the step of each, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(labelled_groups(self.table, (*self.by, "stage")), label="label", ax=ax)
        figures.write_units(ax, self.unit, axis="x")
        ax.set_title(self.name)
        return ax


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ConversionFunnel(Estimates):
    """A funnel: one row per group and step.

    The table has, beside the usual five, ``step`` (1, 2, …), ``stage``, ``n_reached``,
    ``n_immature``, ``step_rate``, ``step_low`` and ``step_high``; see `conversion_funnel`.

    Attributes
    ----------
    steps : tuple of str
        The stages in their order, as the table's ``stage`` names them.
    within_days : float
        Window from the first step; infinite when there is none.
    """

    steps: tuple[str, ...]
    within_days: float

    columns_with_unit: ClassVar[tuple[str, ...]] = (
        *Estimates.columns_with_unit,
        "step_rate",
        "step_low",
        "step_high",
    )

    def overall(self) -> Estimates:
        """Return the share that reached the last step: one row per group."""
        last = self.table.filter(pl.col("step") == len(self.steps))
        return self._part(
            last.drop("step_rate", "step_low", "step_high"),
            self._overall_name(),
            key=_key("conversion_to", self.steps[-1]),
            better="higher",
        )

    def _overall_name(self) -> str:
        stage, window = word_of(self.steps[-1]), self._window_text()
        if len(self.steps) == 2:  # one step of a longer way: where it starts must be said too
            return _(
                "Conversion from {first} to {stage}{window}",
                first=word_of(self.steps[0]),
                stage=stage,
                window=window,
            )
        return _("Conversion to {stage}{window}", stage=stage, window=window)

    def weakest_step(self) -> WeakestStep:
        """Return the step with the lowest step rate, per group: ``n`` came to the step before.

        The first such step where two are equal; no row where no step rate is known.
        """
        rates = self._step_rates().sort("estimate", "step", maintain_order=True)
        rows = rates.unique(self.by, keep="first", maintain_order=True) if self.by else rates[:1]
        rows = rows.sort(self.by, nulls_last=True) if self.by else rows
        passed = [self._step_text(step) for step in rows["step"]]
        name = _("Weakest step")
        return WeakestStep(
            table=rows.with_columns(stage=pl.Series(passed, dtype=pl.String)),
            name=f"{name}: {passed[0]}" if passed and not self.by else name,
            unit="share", definition=self.definition, by=self.by,
            conf_level=self.conf_level, notes=self.notes, better="higher",
            key=_key("passing", *self._around(rows["step"][0])) if passed else None,
        )  # fmt: skip

    def counted(self) -> Estimates:
        """Return how many leads were counted: one row per group, a count without interval."""
        first = self.table.filter(pl.col("step") == 1)
        unknown = np.full(first.height, np.nan)
        table = first.select(*self.by, "n").with_columns(
            **five_columns(first["n"].to_numpy(), first["n"].to_numpy(), *[unknown] * 3)
        )
        return self._part(table, _("Leads counted"), unit="count", key="leads_counted")

    def _part(
        self,
        table: pl.DataFrame,
        name: str,
        unit: Unit = "share",
        *,
        key: str | None = None,
        better: Better | None = None,
    ) -> Estimates:
        return Estimates(
            table=table, name=name, unit=unit, definition=self.definition, by=self.by,
            conf_level=self.conf_level, notes=self.notes, key=key, better=better,
        )  # fmt: skip

    def _step_rates(self) -> pl.DataFrame:
        """Return the step rates as estimates of their own, where they are known."""
        came = pl.col("n_reached").shift(1)
        rates = self.table.with_columns(n=came.over(self.by) if self.by else came)
        rates = rates.drop_nulls("step_rate").drop("estimate", "conf_low", "conf_high")
        rates = rates.rename(
            {"step_rate": "estimate", "step_low": "conf_low", "step_high": "conf_high"}
        )
        spread = (pl.col("estimate") * (1 - pl.col("estimate")) / pl.col("n")).sqrt()
        return rates.with_columns(std_error=spread)

    def _window_text(self) -> str:
        if math.isinf(self.within_days):
            return ""
        return " " + _("within {days}", days=days_text(self.within_days))

    def sentence(self) -> str:
        """Return the overall conversion with its interval, and the weakest step."""
        if self.by:
            return self._comparison().sentence()
        overall = self.overall()
        row = overall.table.row(0, named=True)
        if row["estimate"] is None:
            return overall.sentence()
        reached = _("{name}: {value}", name=overall.name, value=overall.value_text(row))
        return f"{reached}{self._weakest_text() if len(self.steps) > 2 else ''}."

    def importance(self) -> float:
        """Return how far at least a group's overall conversion is from the others'."""
        return self._comparison().importance() if self.by else 0.0

    def _comparison(self) -> Estimates:
        """Return the overall conversion with the standard errors it would have were all equal.

        With them the test of the sentence is Pearson's chi-squared test, in which groups without
        a single conversion have their say (their own standard error is zero).
        """
        overall = self.overall()
        n, reached = int(overall.table["n"].sum()), int(overall.table["n_reached"].sum())
        pooled = reached / n if n else 0.0
        spread = (pl.lit(pooled * (1 - pooled)) / pl.col("n")).sqrt()
        known = pl.when(pl.col("estimate").is_not_null()).then(spread)
        return self._part(overall.table.with_columns(std_error=known), overall.name)

    def _weakest_text(self) -> str:
        rates = self._step_rates().sort("estimate", "step")
        if rates.is_empty():
            return ""
        weakest = rates.row(0, named=True)
        text = "; " + _(
            "the weakest step is {step}, which {rate} pass ({interval})",
            step=self._step_text(weakest["step"]),
            rate=percent(weakest["estimate"]),
            interval=interval_text(weakest["conf_low"], weakest["conf_high"], "share"),
        )
        if rates.height == 1 or self._is_clearly_below(weakest, rates.row(1, named=True)):
            return text
        other = self._step_text(rates["step"][1])
        return text + _(", though not clearly fewer than {step}", step=other)

    def _is_clearly_below(self, weakest: Mapping[str, Any], next_one: Mapping[str, Any]) -> bool:
        pairs = ((row["estimate"] * row["n"], row["n"]) for row in (next_one, weakest))
        (k_1, n_1), (k_2, n_2) = pairs
        return bool(newcombe_difference(k_1, n_1, k_2, n_2, self.conf_level)[0] > 0)

    def _step_text(self, step: int) -> str:
        return " → ".join(map(word_of, self._around(step)))

    def _around(self, step: int) -> tuple[str, str]:
        return self.steps[step - 2], self.steps[step - 1]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the funnel as bars, or one group beside another, and return the Axes."""
        if self.by:
            ax = self.overall().plot(ax)
            ax.set_title(self.overall().name)
            return ax
        ax = figures.new_axes(ax)
        rows = self._rows()
        labels = [f"{word_of(row['stage'])}\n{number(row['n_reached'])}" for row in rows]
        labelled = self.table.with_columns(label=pl.Series(labels, dtype=pl.String))
        figures.bars(labelled, label="label", value="estimate", ax=ax, text=percent)
        for row in rows:
            if row["step_rate"] is not None:
                ax.annotate(
                    "↓ " + percent(row["step_rate"]), (0, row["step"] - 1.5), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=8, color="#555555",
                )  # fmt: skip
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        if self.by:
            return figures.height_for(self.overall().table.height)
        return figures.height_for(2 * len(self.steps))


def _key(*words: str) -> str | None:
    """Join codes to a name for machines; None where one is a sentence in the reader's words."""
    return "_".join(words) if all(re.fullmatch(r"\w+", word) for word in words) else None


def days_text(days: float) -> str:
    """Write a number of days in words."""
    if float(days).is_integer():
        return plural(int(days), "{n} day", "{n} days")
    return _("{n} days", n=number(days, 2))
