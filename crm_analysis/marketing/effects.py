"""What a campaign really brought: a randomised holdout, a staggered start, an interrupted series.

A plain comparison of before and after takes the season, the market and everything else of those
days for the campaign. It is computed beside each answer only to show how far off it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from crm_analysis import figures
from crm_analysis.changes import least_size
from crm_analysis.estimates import Estimates
from crm_analysis.wording import _, interval_text, number, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = ["CampaignEffect", "with_naive"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CampaignEffect(Estimates):
    """The effect of a campaign as a share of what would have come without it.

    Attributes
    ----------
    detail : polars DataFrame
        What the design shows further: arms, weeks since the start, coefficients.
    naive : Estimates or None
        The comparison of before and after: a warning, never an answer.
    p_value : float or None
        How surprising the effect were if there was none.
    """

    detail: pl.DataFrame
    naive: Estimates | None = None
    p_value: float | None = None

    def difference_p_value(self) -> float | None:
        """Return the p-value of the test that there is no effect, or that groups do not differ."""
        return self.p_value if self.by == ("measure",) else super().difference_p_value()

    def lift(self) -> dict[str, Any]:
        """Return the row with the relative effect of all together."""
        return self.table.filter(pl.col("measure") == "relative_lift").row(0, named=True)

    def importance(self) -> float:
        """Return how large the effect is at least, as a part of what would have come without."""
        if self.by != ("measure",):
            return super().importance()
        row = self.lift()
        if row["estimate"] is None:
            return 0.0
        return least_size(row["conf_low"], row["conf_high"], value=1 + row["estimate"])

    def sentence(self) -> str:
        """Say the relative effect, whether it is established, and what the naive answer was."""
        if self.by != ("measure",):
            return super().sentence()
        row = self.lift()
        if row["estimate"] is None:
            return _("{name}: nothing can be said (n = {n}).", name=self.name, n=number(row["n"]))
        if row["conf_low"] is None:
            verdict = _("there is no interval, so nothing is established")
        elif row["conf_low"] > 0:
            verdict = _("more than chance")
        elif row["conf_high"] < 0:
            verdict = _("less than without it")
        else:
            verdict = _("no effect is established")
        text = _("{name}: {value}; {verdict}.", name=self.name, value=self.value_text(row),
                 verdict=verdict)  # fmt: skip
        return f"{text} {self._naive_text()}".strip()

    def _naive_text(self) -> str:
        if self.naive is None:
            return ""
        row = self.naive.table.row(0, named=True)
        if row["estimate"] is None:
            return ""
        return _(
            "A plain comparison of before and after would have said {value} ({interval}).",
            value=percent(row["estimate"]),
            interval=interval_text(row["conf_low"], row["conf_high"], "share"),
        )

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        counts = ("weeks", "extra", "extra_low", "extra_high")
        return super().units() | dict.fromkeys(counts, "count")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the effect by week since the start where that is known, and return the Axes."""
        weeks = self._weeks()
        if weeks is None:
            return super().plot(ax)
        ax = figures.new_axes(ax)
        labels = [_("week {n}", n=number(week)) for week in weeks["weeks"].to_list()]
        figures.points(weeks.with_columns(pl.Series("label", labels, pl.String)), label="label",
                       ax=ax, reference=0.0)  # fmt: skip
        figures.write_units(ax, self.unit, axis="x")
        ax.set_title(self.name)
        return ax

    def _weeks(self) -> pl.DataFrame | None:
        if "weeks" not in self.detail.columns or self.by != ("measure",):
            return None
        known = self.detail.drop_nulls("estimate")
        return known if known.height else None

    def _figure_height(self) -> float | None:
        weeks = self._weeks()
        return figures.height_for(self.table.height if weeks is None else weeks.height)


def with_naive(effect: CampaignEffect, naive: Estimates) -> CampaignEffect:
    """Put the naive comparison beside an effect, with the warning that goes with it."""
    note = _(
        "Before and after differ by the season, the market and other campaigns too: that "
        "comparison is shown as a warning only."
    )
    return replace(effect, naive=naive, notes=(*effect.notes, note))


def measure_names(by: Sequence[str]) -> tuple[str, ...]:
    """Return the group columns of an effect's table: those of `by`, and what was measured."""
    return (*by, "measure")
