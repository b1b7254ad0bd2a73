"""Would it have been right: forecasts of the past held against what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.uncertainty import ratio_interval, wilson_interval
from crm_analysis.wording import _, date_text, month_text, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Backtest", "judge"]

MEASURES = ("relative_error", "coverage", "bias")

LEAST_FORECASTS = 4
"""With fewer forecasts of the past nothing is said of how good they were."""

_ROOM_ABOVE = 1.12
"""How far a figure's axis goes on over what is drawn, so that a legend has a line to stand in."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Backtest(Estimates):
    """How good a forecast would have been: one row a measure.

    ``measure`` is ``relative_error`` (mean absolute error divided by that of the naive forecast:
    below 1 it is better), ``coverage`` (share of the intervals that held what came) and ``bias``
    (mean of forecast minus what came, divided by the mean of what came).

    Attributes
    ----------
    forecasts : polars DataFrame
        ``origin``, ``ahead``, ``n``, ``actual``, ``estimate``, ``conf_low``, ``conf_high``,
        ``naive``: one row a forecast of the past.
    by_month : bool
        Whether an origin is the last month known, and not the last day.
    """

    forecasts: pl.DataFrame
    by_month: bool = False

    def value(self, measure: str) -> dict[str, Any]:
        """Return the row of one measure."""
        return self.table.row(by_predicate=pl.col("measure") == measure, named=True)

    def error(self) -> Estimates:
        """Return the error as a share of the naive forecast's, as estimates of its own."""
        return Estimates(
            table=self.table.filter(pl.col("measure") == "relative_error"),
            name=_("Error against the naive forecast's"), unit=self.unit,
            definition=self.definition, conf_level=self.conf_level, notes=self.notes,
        )  # fmt: skip

    def sentence(self) -> str:
        """Say whether the forecast beats the naive one, and whether its intervals hold."""
        error, cover = self.value("relative_error"), self.value("coverage")
        if error["estimate"] is None:
            return _("{name}: nothing can be said (n = {n}).", name=self.name, n=number(cover["n"]))
        if error["conf_high"] is not None and error["conf_high"] < 1:
            verdict = _("better than the naive forecast")
        elif error["conf_low"] is not None and error["conf_low"] > 1:
            verdict = _("worse than the naive forecast")
        else:
            verdict = _("not shown to be better than the naive forecast")
        off = self.value("bias")
        if off["conf_low"] is not None and off["conf_low"] > 0:
            verdict = _("{verdict}, and too high on average", verdict=verdict)
        elif off["conf_high"] is not None and off["conf_high"] < 0:
            verdict = _("{verdict}, and too low on average", verdict=verdict)
        return _(
            "{name}: {verdict} (mean error {ratio} of that one's); {cover} of {n} intervals held "
            "what came.",
            name=self.name, verdict=verdict, ratio=percent(error["estimate"], 0),
            cover=percent(cover["estimate"], 0), n=number(cover["n"]),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw forecasts of the past with their intervals beside what came; return the Axes."""
        ax = figures.new_axes(ax)
        shown = self.forecasts.filter(pl.col("ahead") == pl.col("ahead").min())
        x = np.arange(shown.height)
        low, high = shown["conf_low"].to_numpy(), shown["conf_high"].to_numpy()
        ax.vlines(x, low, high, color="C0", linewidth=2.2, alpha=0.55)
        ax.scatter(x, shown["estimate"], color="C0", label=_("forecast"), zorder=3)
        ax.scatter(x, shown["actual"], color="C1", marker="D", label=_("what came"), zorder=4)
        written = month_text if self.by_month else date_text
        ax.set_xticks(x, [written(day) for day in shown["origin"]], rotation=30, ha="right")
        ax.set_xlabel(_("Last month known") if self.by_month else _("Last day known"))
        # The legend stands in a line of its own over everything drawn.
        ax.set_ylim(0, _ROOM_ABOVE * ax.get_ylim()[1])
        figures.write_units(ax, "count")
        ax.legend(loc="upper right", ncols=2)
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None


def judge(
    rows: Sequence[dict[str, Any]],
    *,
    name: str,
    definition: str,
    conf_level: float,
    by_month: bool = False,
) -> Backtest:
    """Measure forecasts of the past; each row is as in `Backtest.forecasts`.

    Forecasts of one origin share their past, so origins are the units of the intervals.

    References
    ----------
    Hyndman & Koehler (2006), International Journal of Forecasting 22:679-688 (scaled errors).
    """
    schema = {
        "origin": pl.Date, "ahead": pl.Int64, "n": pl.Int64, "actual": pl.Float64,
        "estimate": pl.Float64, "conf_low": pl.Float64, "conf_high": pl.Float64,
        "naive": pl.Float64,
    }  # fmt: skip
    table = pl.DataFrame(list(rows), schema=schema)
    known = table.drop_nulls(["actual", "estimate", "naive"])
    origins = known.group_by("origin", maintain_order=True).agg(
        (pl.col("estimate") - pl.col("actual")).abs().sum().alias("ours"),
        (pl.col("naive") - pl.col("actual")).abs().sum().alias("naive"),
        (pl.col("estimate") - pl.col("actual")).sum().alias("bias"),
        pl.col("actual").sum(),
        pl.col("actual").is_between("conf_low", "conf_high").sum().alias("inside"),
        pl.len().alias("n"),
    )
    n = int(origins["n"].sum())
    enough = n >= LEAST_FORECASTS
    nothing = (np.nan,) * 4
    ratio = ratio_interval(origins["ours"], origins["naive"], conf_level) if enough else nothing
    # Errors are sizes: their ratio is never below zero.
    ratio = (*ratio[:2], max(ratio[2], 0.0), ratio[3]) if enough else ratio
    bias = ratio_interval(origins["bias"], origins["actual"], conf_level) if enough else nothing
    k = float(origins["inside"].sum())
    share = k / n if enough else np.nan
    low, high = wilson_interval(k, n, conf_level) if enough else (np.nan, np.nan)
    error = np.sqrt(share * (1 - share) / n) if enough else np.nan
    columns = zip(ratio, (share, error, float(low), float(high)), bias, strict=True)
    five = five_columns(np.full(3, n), *(np.array(column) for column in columns))
    return Backtest(
        table=pl.DataFrame({"measure": MEASURES, **five}),
        name=name,
        unit="share",
        definition=definition,
        by=("measure",),
        conf_level=conf_level,
        notes=_notes(n, low=float(low), high=float(high), conf_level=conf_level),
        forecasts=table,
        by_month=by_month,
    )


def _notes(n: int, *, low: float, high: float, conf_level: float) -> tuple[str, ...]:
    if n < LEAST_FORECASTS:
        return (
            _("Only {n} forecasts of the past can be made: how good they are is not known.",
              n=number(n)),
        )  # fmt: skip
    if high < conf_level:
        return (_("The intervals have been too narrow: read them as too sure of themselves."),)
    if low > conf_level:
        return (_("The intervals have been wider than they need to be."),)
    return ()
