"""How many sales the coming months will bring: exponential smoothing, held against its past."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from scipy import special

from crm_analysis import figures
from crm_analysis.dates import month_number, to_day_number, with_civil
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, group_label, labelled_groups
from crm_analysis.forecast.backtest import Backtest, judge
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
from crm_analysis.remembered import remembered
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, month_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["SalesForecast", "sales_backtest", "sales_forecast"]

SEASON = 12
LEAST_MONTHS = 12
"""With fewer whole months than this nothing is forecast."""

SEASONAL_FROM = 2 * SEASON
"""With fewer whole months than two years no season can be told from chance."""

_SHOWN_MONTHS = 36


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SalesForecast(Estimates):
    """Forecast counts by month.

    Attributes
    ----------
    history : polars DataFrame
        Columns of `by`, ``month`` (its first day) and ``count``: whole months so far.
    """

    history: pl.DataFrame

    def sentence(self) -> str:
        """Say how many are expected next month and over the whole horizon."""
        known = self.table.drop_nulls("estimate")
        if self.by != ("month",) or known.is_empty():
            return super().sentence()
        first = known.row(0, named=True)
        last = known["month"][-1]
        if first["n"] >= SEASON and known.height <= SEASON:
            return _(
                "{name}: {n} in {month} ({level}% prediction interval {low} to {high}), {all} up "
                "to {last}; in the same months a year before it was {before}.",
                name=self.name, n=number(first["estimate"]), month=month_text(first["month"]),
                level=number(100 * self.conf_level), low=number(first["conf_low"]),
                high=number(first["conf_high"]), all=number(float(known["estimate"].sum())),
                last=month_text(last), before=number(float(known["naive"].sum())),
            )  # fmt: skip
        return _(
            "{name}: {n} in {month} ({level}% prediction interval {low} to {high}), {all} up to "
            "{last}.",
            name=self.name, n=number(first["estimate"]), month=month_text(first["month"]),
            level=number(100 * self.conf_level), low=number(first["conf_low"]),
            high=number(first["conf_high"]), all=number(float(known["estimate"].sum())),
            last=month_text(last),
        )  # fmt: skip

    def next_month(self) -> Estimates:
        """Return the forecast for the next month, as estimates of its own."""
        groups = tuple(name for name in self.by if name != "month")
        first = pl.col("month").min()
        return Estimates(
            table=self.table.filter(pl.col("month") == first), name=_("Sales expected next month"),
            unit=self.unit, definition=self.definition, by=groups, conf_level=self.conf_level,
            notes=self.notes, key="sales_next_month",
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the months so far and the forecast with its interval, and return the Axes."""
        ax = figures.new_axes(ax)
        groups = [name for name in self.by if name != "month"]
        if groups:
            return self._plot_groups(ax, groups)
        past = self.history.tail(_SHOWN_MONTHS)
        ax.plot(past["month"], past["count"], color="C0", label=_("so far"))
        ahead = self.table.drop_nulls("estimate")
        ax.plot(ahead["month"], ahead["estimate"], color="C1", label=_("forecast"))
        ax.fill_between(
            ahead["month"].to_numpy(), ahead["conf_low"].to_numpy(), ahead["conf_high"].to_numpy(),
            color="C1", alpha=0.2, linewidth=0,
        )  # fmt: skip
        figures.month_axis(ax)
        ax.set_ylim(bottom=0)
        ax.legend(loc="best")
        ax.set_title(self.name)
        return ax

    def _plot_groups(self, ax: Axes, groups: list[str]) -> Axes:
        first = self.table.group_by(groups, maintain_order=True).first()
        figures.points(labelled_groups(first, groups), label="label", ax=ax)
        when = month_text(first["month"][0]) if first.height else ""
        ax.set_title(f"{self.name}, {when}")
        return ax

    def _figure_height(self) -> float | None:
        groups = [name for name in self.by if name != "month"]
        if not groups:
            return None
        return figures.height_for(self.table.select(groups).n_unique())

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"naive": "count"}


def sales_forecast(
    sales: object,
    *,
    at_col: str = "contract_on",
    horizon_months: int = 6,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "state-space",
) -> SalesForecast:
    r"""How many sales will the coming months bring (exponential smoothing in state-space form).

    Parameters
    ----------
    sales : table
        One row per sale (or visit, or lead), on any backend.
    at_col : str
        Day of the sale.
    horizon_months : int
        Months ahead, from the first one that `as_of` does not wholly cover.
    as_of : date
        Last day the data covers; a month that is not over yet is left out of the past.
    by : str or sequence of str
        Groups, each forecast by itself.
    conf_level : float
        Level of the prediction interval.
    ci_method : {"state-space"}

    Returns
    -------
    SalesForecast
        Columns of `by`, ``month``, ``n`` (whole months so far), ``estimate`` (median count),
        ``std_error`` (null: the interval is not symmetric), ``conf_low``, ``conf_high``,
        ``naive`` (the same month a year before, or the last month). Null with fewer than twelve
        whole months.

    Raises
    ------
    InputError
        A horizon below one month.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    Models with and without a damped trend, and from two years on with and without an additive
    season, are fitted to :math:`\log(1 + y)`; the smallest corrected information criterion
    chooses. The choice of the model is held for known, which makes intervals a little too narrow:
    `sales_backtest` says by how much.

    References
    ----------
    Hyndman, Koehler, Ord & Snyder (2008), *Forecasting with Exponential Smoothing: The State
    Space Approach*; fitted by statsmodels' `ETSModel`.
    """
    by = group_names(by, taken=("month", "naive", "count"))
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("state-space",))
    _check_horizon(horizon_months)
    history = _months(sales, at_col, as_of, by)
    parts = history.partition_by(by, maintain_order=True) if by and history.height else [history]
    rows = [_ahead(part, by, horizon_months, as_of, conf_level) for part in parts]
    return SalesForecast(
        table=pl.concat([table for table, _model in rows]),
        name=_("Sales expected"),
        unit="count",
        definition=_(
            "Sales of the coming months from whole months up to {as_of}, by exponential smoothing "
            "with trend and season where the past bears them out.",
            as_of=date_text(as_of),
        ),
        by=(*by, "month"),
        conf_level=conf_level,
        notes=_notes(parts, by, [model for _table, model in rows]),
        history=history,
    )


def sales_backtest(
    sales: object,
    *,
    at_col: str = "contract_on",
    horizon_months: int = 3,
    n_origins: int = 12,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "state-space",
) -> Backtest:
    """Would the sales forecast have been right in the past (rolling origin, seasonal naive).

    Parameters
    ----------
    sales : table
        As in `sales_forecast`.
    at_col : str
    horizon_months : int
        Months ahead that every earlier forecast is asked for.
    n_origins : int
        Earlier months in which the forecast is made again; those before which there were fewer
        than two years are left out, since the naive forecast looks a year back.
    as_of : date
    conf_level : float
    ci_method : {"state-space"}

    Returns
    -------
    Backtest
        One row a forecast; see there.

    Raises
    ------
    InputError
        A horizon or a number of origins below one.
    ColumnError
        A column is missing, of another type, or null.
    """
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("state-space",))
    _check_horizon(horizon_months)
    if n_origins < 1:
        raise InputError(f"'n_origins' must be at least 1; got {n_origins}. Pass, say, 12.")
    history = _months(sales, at_col, as_of, ())
    counts, months = history["count"].to_numpy().astype(float), history["month"].to_list()
    rows: list[dict[str, Any]] = []
    ends = len(counts) - horizon_months + 1
    for end in range(max(ends - n_origins, SEASONAL_FROM), ends):
        middle, low, high, _model = _predict(counts[:end], horizon_months, conf_level)
        rows += [
            {
                "origin": months[end - 1], "ahead": step + 1, "n": end,
                "actual": counts[end + step], "estimate": middle[step], "conf_low": low[step],
                "conf_high": high[step], "naive": counts[end + step - SEASON],
            }
            for step in range(horizon_months)
        ]  # fmt: skip
    return judge(
        rows,
        name=_("Earlier sales forecasts"),
        definition=_(
            "Forecast again from each of the last {n} months for the {k} after it. Naive: the "
            "same month a year before.",
            n=number(n_origins),
            k=number(horizon_months),
        ),
        conf_level=conf_level,
        by_month=True,
    )


def _check_horizon(horizon_months: int) -> None:
    if horizon_months < 1:
        raise InputError(
            f"A forecast for {horizon_months} months was asked for. It needs at least one: try 6."
        )


# Count ------------------------------------------------------------------------------------


def _months(sales: object, at_col: str, as_of: date, by: tuple[str, ...]) -> pl.DataFrame:
    """Count the sales of whole months; months without any are there with zero."""
    asked = {"day": Asked(at_col, "date", "at_col")}
    frame = open_table(sales, asked, by=by).filter(nw.col("day") <= to_day_number(as_of))
    keys = keys_of(by)
    counts = with_civil(frame, "day").group_by(*keys, "day_month").agg(nw.len().alias("count"))
    counted = collect(counts, order=[*keys, "day_month"])
    after = month_number(date.fromordinal(as_of.toordinal() + 1))
    counted = counted.filter(pl.col("day_month") < after)
    parts = counted.partition_by(keys, maintain_order=True) if by and counted.height else [counted]
    filled = []
    for part in parts:
        first = int(part["day_month"][0]) if part.height else after
        every = pl.DataFrame({"day_month": pl.Series(range(first, after), dtype=pl.Int64)})
        whole = every.join(part.select("day_month", "count"), on="day_month", how="left")
        whole = whole.with_columns(pl.col("count").fill_null(0).cast(pl.Int64))
        filled.append(part.select(keys).head(1).join(whole, how="cross") if by else whole)
    number_ = pl.col("day_month")
    month = pl.date(number_ // 12, number_ % 12 + 1, 1).alias("month")
    return pl.concat(filled).select(*keys, month, "count").rename(dict(zip(keys, by, strict=True)))


# Estimate ---------------------------------------------------------------------------------


def _ahead(
    part: pl.DataFrame, by: tuple[str, ...], horizon: int, as_of: date, conf_level: float
) -> tuple[pl.DataFrame, str]:
    counts = part["count"].to_numpy().astype(float)
    n = len(counts)
    first = month_number(date.fromordinal(as_of.toordinal() + 1))
    numbers = np.arange(first, first + horizon)
    months = [date(int(m) // 12, int(m) % 12 + 1, 1) for m in numbers]
    if n < LEAST_MONTHS:
        middle = low = high = np.full(horizon, np.nan)
        model = ""
    else:
        middle, low, high, model = _predict(counts, horizon, conf_level)
    back = SEASON if n >= SEASON else 1
    naive = [counts[-back + step % back] if n >= back else None for step in range(horizon)]
    five = five_columns(np.full(horizon, n), middle, np.full(horizon, np.nan), low, high)
    table = pl.DataFrame({"month": months, **five}).with_columns(
        naive=pl.Series(naive, dtype=pl.Float64)
    )
    return (part.select(by).head(1).join(table, how="cross") if by else table), model


def _predict(
    counts: NDArray[Any], horizon: int, conf_level: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], str]:
    """Return median, bounds, and the name of the model that was chosen."""
    if np.ptp(counts) == 0:  # nothing has ever changed: no model can tell how it might
        half = normal_quantile(conf_level) * np.sqrt(counts[-1])
        flat = np.full(horizon, counts[-1])
        return flat, np.maximum(flat - half, 0.0), flat + half, "constant"
    middle, low, high, place = remembered(
        ("smoothed", counts, horizon, conf_level), lambda: _smoothed(counts, horizon, conf_level)
    )
    return middle, low, high, _candidates(len(counts))[place][0]


def _smoothed(
    counts: NDArray[Any], horizon: int, conf_level: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], int]:
    """Return median, bounds, and which of the candidates was chosen."""
    y = np.log1p(counts)
    fitted = [_fit(y, trend, season) for _name, trend, season in _candidates(len(y))]
    place = min(range(len(fitted)), key=lambda one: _aicc(fitted[one], len(y)))
    best = fitted[place]
    centre = np.asarray(best.forecast(horizon), np.float64)
    spread, freedom = _spread(best, len(y), horizon)
    half = float(special.stdtrit(freedom, 0.5 + conf_level / 2)) * spread
    middle, low, high = (
        np.maximum(np.expm1(value), 0.0) for value in (centre, centre - half, centre + half)
    )
    return middle, low, high, place


def _spread(fit: Any, n: int, horizon: int) -> tuple[NDArray[Any], int]:
    r"""Return the forecast's standard deviation by month ahead, and its degrees of freedom.

    :math:`\sigma^2 (1 + \sum_{j<h} c_j^2)` with :math:`c_j = \alpha + \beta (\phi + \dots +
    \phi^j) + \gamma [12 | j]` (Hyndman et al. 2008, section 6.1), and :math:`\sigma^2` divided by
    the months left over by the parameters.
    """
    known = dict(zip(fit.model.param_names, fit.params, strict=True))
    alpha, beta, gamma, phi = (
        float(known.get(name, 0.0))
        for name in ("smoothing_level", "smoothing_trend", "smoothing_seasonal", "damping_trend")
    )
    step = np.arange(1, horizon)
    fading = np.cumsum(phi**step)
    answer = alpha + beta * fading + gamma * (step % SEASON == 0)
    growth = 1 + np.concatenate(([0.0], np.cumsum(answer**2)))
    freedom = max(n - _n_parameters(fit), 1)
    variance = float(np.sum(np.asarray(fit.resid) ** 2)) / freedom
    return np.sqrt(variance * growth), freedom


def _candidates(n: int) -> list[tuple[str, str | None, str | None]]:
    seasons: list[str | None] = [None, "add"] if n >= SEASONAL_FROM else [None]
    names = {
        (None, None): "level", ("add", None): "trend",
        (None, "add"): "season", ("add", "add"): "trend, season",
    }  # fmt: skip
    return [(names[trend, season], trend, season) for trend in (None, "add") for season in seasons]


def _fit(y: NDArray[Any], trend: str | None, season: str | None) -> Any:
    from statsmodels.tools.sm_exceptions import ConvergenceWarning
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    model = ETSModel(
        y, error="add", trend=trend, damped_trend=trend is not None, seasonal=season,
        seasonal_periods=SEASON if season else None, initialization_method="heuristic",
    )  # fmt: skip
    with warnings.catch_warnings():
        # A flat likelihood is no matter here: the criterion chooses by its value.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(disp=False)


def _n_parameters(fit: Any) -> int:
    """Count what was fitted, and the first level, trend and season, which were found beforehand."""
    model = fit.model
    states = 1 + bool(model.has_trend) + (SEASON - 1) * bool(model.has_seasonal)
    return len(model.param_names) + states


def _aicc(fit: Any, n: int) -> float:
    k = _n_parameters(fit) + 1
    spare = n - k - 1
    return float("inf") if spare <= 0 else float(-2 * fit.llf + 2 * k + 2 * k * (k + 1) / spare)


def _notes(
    parts: Sequence[pl.DataFrame], by: tuple[str, ...], models: Sequence[str]
) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    short = [part for part in parts if part.height < LEAST_MONTHS]
    if short:
        groups = ", ".join(
            group_label(part.row(0, named=True), by) for part in short if part.height
        )
        notes += (
            _("Fewer than {n} whole months: nothing is forecast ({groups}).",
              n=number(LEAST_MONTHS), groups=groups or _("all")),
        )  # fmt: skip
    young = [part for part in parts if LEAST_MONTHS <= part.height < SEASONAL_FROM]
    if young:
        notes += (_("Less than two years are known: the season cannot be told from chance."),)
    if len(models) == 1 and models[0]:
        words = {
            "level": _("the latest level; neither trend nor season is established"),
            "trend": _("the latest level and a trend that fades; no season is established"),
            "season": _("the latest level and the season; no trend is established"),
            "trend, season": _("the latest level, a trend that fades and the season"),
            "constant": _("the one level that there has been so far"),
        }
        notes += (_("The forecast carries on {model}.", model=words[models[0]]),)
    return notes
