"""Whether a model of buying fits: what it expects beside what customers did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import TIME_UNITS, TimeUnit, date_of, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, collect
from crm_analysis.lifetime.buying_model import BuyingModel
from crm_analysis.lifetime.history import (
    PurchaseHistory,
    days_in,
    open_purchase_days,
    purchase_history,
)
from crm_analysis.lifetime.outlook import buying_or_none, check_resamples
from crm_analysis.uncertainty import exact_rate_interval, mean_interval, wilson_interval
from crm_analysis.wording import Unit, _, date_text, month_text, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "FrequencyCheck",
    "HoldoutComparison",
    "PurchaseTracking",
    "frequency_check",
    "holdout_comparison",
    "purchase_tracking",
]

Floats = NDArray[np.float64]

HIGHEST = 7
"""Customers with this many repeats or more stand in one class."""

MISFIT = 0.05
"""From this share of customers in the wrong class, or bias of a forecast, a note warns."""

_MODEL_COLOUR = "C1"


# Frequencies ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FrequencyCheck(Estimates):
    """Customers by number of repeat purchases, as seen and as the model expects.

    The table has, beside the usual five (shares as seen, Wilson intervals), ``frequency`` (the
    class), ``n_customers`` seen in it, and ``expected``, the model's share.
    """

    @property
    def misplaced(self) -> float | None:
        """Share of customers that would have to change class for the model to be right."""
        if self.table["expected"].null_count() or self.table.is_empty():
            return None
        return float((self.table["estimate"] - self.table["expected"]).abs().sum() / 2)

    def sentence(self) -> str:
        """Return how far the model's frequencies are from those seen."""
        if self.misplaced is None:
            return _("{name}: there is no model to compare with.", name=self.name)
        first = self.table.row(0, named=True)
        return _(
            "The model puts {misplaced} of {n} customers at another number of repeat purchases "
            "than they made; it expects {expected} never to come back, and {seen} did not.",
            misplaced=percent(self.misplaced),
            n=number(first["n"]),
            expected=percent(first["expected"]),
            seen=percent(first["estimate"]),
        )

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        return {**super().units(), "expected": "share", "n_customers": "count"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares seen as bars and those expected as diamonds, return the Axes."""
        ax = figures.new_axes(ax)
        figures.bars(self.table, label="frequency", value="estimate", ax=ax)
        _draw_expected(self.table, ax)
        figures.write_units(ax, "share", axis="x")
        ax.set_ylabel(_("Repeat purchases"))
        ax.set_title(self.name)
        return ax


def _draw_expected(table: pl.DataFrame, ax: Axes) -> None:
    known = [(v, row) for row, v in enumerate(table["expected"]) if v is not None]
    if known:
        ax.scatter(
            [v for v, _row in known], [row for _v, row in known],
            marker="D", color=_MODEL_COLOUR, zorder=4, label=_("expected by the model"),
        )  # fmt: skip
        ax.legend(loc="best")


def frequency_check(
    history: PurchaseHistory, *, model: BuyingModel | None = None, conf_level: float = 0.95
) -> FrequencyCheck:
    """Does a BG/NBD model expect as many customers with 0, 1, 2 … repeats as there are? (fit).

    Parameters
    ----------
    history : PurchaseHistory
    model : BuyingModel, optional
        Fitted to the history when not given.
    conf_level : float

    Returns
    -------
    FrequencyCheck
        Columns ``frequency`` (0 to 6, and 7+), ``n_customers``, ``n`` (all customers),
        ``estimate`` (share seen), ``std_error``, ``conf_low``, ``conf_high`` (Wilson), and
        ``expected`` (the model's share over the customers' ages; null without a model).

    Notes
    -----
    Made on the data of the fit, so agreement is necessary and not sufficient: `holdout_comparison`
    looks at data that the fit has not seen.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284, equation 8 and figure 2.
    """
    conf_level = check_conf_level(conf_level)
    buying, notes = buying_or_none(history, model)
    seen = history.table["frequency"].clip(0, HIGHEST).to_numpy()
    counts = np.bincount(seen, minlength=HIGHEST + 1)
    n = np.full(HIGHEST + 1, history.n)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = counts / n
        error = np.sqrt(share * (1 - share) / n)
    low, high = wilson_interval(counts, n, conf_level)
    expected = _expected_shares(history, buying)
    result = FrequencyCheck(
        table=pl.DataFrame(
            {
                "frequency": _classes(),
                "n_customers": counts.astype(np.int64),
                **five_columns(n, share, error, low, high),
                "expected": pl.Series(expected, dtype=pl.Float64).fill_nan(None),
            }
        ),
        name=_("Customers by number of repeat purchases"),
        unit="share",
        definition=_(
            "Share of customers with so many repeat purchase days, beside what the BG/NBD model "
            "expects of customers of the same ages."
        ),
        by=("frequency",),
        conf_level=conf_level,
        notes=notes,
    )
    return result.with_notes(*_misfit_notes(result.misplaced))


def _misfit_notes(misplaced: float | None) -> tuple[str, ...]:
    if misplaced is None or misplaced <= MISFIT:
        return ()
    if misplaced <= 2 * MISFIT:
        return (_("The model describes only roughly how often these customers buy."),)
    return (_("The model does not describe how often these customers buy: do not rely on it."),)


def _classes() -> list[str]:
    return [*(str(k) for k in range(HIGHEST)), f"{HIGHEST}+"]


def _expected_shares(history: PurchaseHistory, model: BuyingModel | None) -> Floats:
    if model is None or not history.n:
        return np.full(HIGHEST + 1, np.nan)
    ages = history.patterns.group_by("age").agg(pl.col("weight").sum()).sort("age")
    probabilities = model.frequency_probabilities(ages["age"].to_numpy(), HIGHEST - 1)
    shares = ages["weight"].to_numpy() @ probabilities / history.n
    return np.append(shares, 1 - shares.sum())


# Held-out period --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class HoldoutComparison(Estimates):
    """Purchases in a period that the fit has not seen, beside the forecast, by past frequency.

    The table has, beside the usual five (mean purchases per customer as seen), ``frequency``
    (the class before the period) and ``expected``, the model's mean for the same customers.

    Attributes
    ----------
    n_seen : int
        Purchases made in the period.
    n_expected : float or None
        Purchases expected in it.
    error : float or None
        Standard error of seen minus expected, from the scatter over customers.
    """

    n_seen: int
    n_expected: float | None
    error: float | None

    def sentence(self) -> str:
        """Return expected and seen purchases of the held-out period."""
        if self.n_expected is None:
            return _("{name}: there is no forecast to compare with.", name=self.name)
        off = _off(self.n_expected, self.n_seen)
        return _(
            "For the period held out the model expected {expected} repeat purchases; {seen} were "
            "made ({off}).",
            expected=number(self.n_expected),
            seen=number(self.n_seen),
            off=off,
        )

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        return {**super().units(), "expected": "number"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw means seen with intervals and means expected as diamonds, return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(self.table, label="frequency", ax=ax)
        _draw_expected(self.table, ax)
        figures.write_units(ax, "number", axis="x")
        ax.set_ylabel(_("Repeats before the period"))
        ax.set_title(self.name)
        return ax


def _off(expected: float, seen: float) -> str:
    if not seen:
        return _("none was made")
    share = expected / seen - 1
    if abs(share) < 0.0005:
        return _("as expected")
    if share > 0:
        return _("{share} too many expected", share=percent(share))
    return _("{share} too few expected", share=percent(-share))


def holdout_comparison(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    unit: TimeUnit = "week",
    holdout_days: int,
    as_of: date,
    conf_level: float = 0.95,
) -> HoldoutComparison:
    """Would the model have foretold the last `holdout_days`? (BG/NBD, fitted to what was before).

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col : str
        Columns of the customer's key and of the day.
    unit : {"day", "week", "month", "year"}
        Unit of time of the model.
    holdout_days : int
        Length of the period held out, which ends at `as_of`.
    as_of : date
        Last day the data covers.
    conf_level : float

    Returns
    -------
    HoldoutComparison
        Columns ``frequency`` (repeats before the period, 0 to 6 and 7+), ``n`` (customers),
        ``estimate`` (mean purchase days in the period), ``std_error``, ``conf_low``,
        ``conf_high`` (Student's t over customers, exact Poisson where nobody bought; null for one
        customer), ``expected``.
        Customers who came within the period are left out.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284, figure 4.
    """
    as_of, until = _calibration(as_of, holdout_days)
    check_one_of("unit", unit, TIME_UNITS)
    conf_level = check_conf_level(conf_level)
    before, after = (
        purchase_history(
            purchases, customer_col=customer_col, at_col=at_col, value_col=None,
            unit=unit, as_of=day,
        )
        for day in (until, as_of)
    )  # fmt: skip
    model, notes = buying_or_none(before, None)
    customers = _with_seen(before, after, customer_col, model, holdout_days / days_in(unit))
    table = _by_class(customers, conf_level)
    seen = customers["seen"].to_numpy()
    expected = customers["expected"].to_numpy() if model is not None else None
    comparison = HoldoutComparison(
        table=table,
        name=_("Purchases in the held-out period, by repeats before it"),
        unit="number",
        definition=_(
            "Mean purchase days per customer from the day after {until} to {as_of}, beside what a "
            "BG/NBD model fitted to the purchases until {until} expected of the same customers.",
            until=date_text(until),
            as_of=date_text(as_of),
        ),
        by=("frequency",),
        conf_level=conf_level,
        notes=notes + small_n_notes(table, ("frequency",), what=_("customers")),
        n_seen=int(seen.sum()),
        n_expected=None if expected is None else float(expected.sum()),
        error=_sum_error(seen, expected),
    )
    return comparison.with_notes(*_bias_notes(comparison))


def _calibration(as_of: date, holdout_days: int) -> tuple[date, date]:
    as_of = check_as_of(as_of)
    if holdout_days != int(holdout_days) or holdout_days < 1:
        raise InputError(
            f"'holdout_days' must be a whole number of days of 1 or more; got {holdout_days!r}. "
            "Pass, for example, holdout_days=180."
        )
    return as_of, as_of - timedelta(days=holdout_days)


def _with_seen(
    before: PurchaseHistory,
    after: PurchaseHistory,
    customer_col: str,
    model: BuyingModel | None,
    horizon: float,
) -> pl.DataFrame:
    later = after.table.select(customer_col, later="frequency")
    table = before.table.join(later, on=customer_col, how="left", maintain_order="left")
    expected = np.full(table.height, np.nan)
    if model is not None:
        x, t_x, T = (table[c].to_numpy() for c in ("frequency", "recency", "age"))
        expected = model.expected_purchases(horizon, x, t_x, T)
    return table.select(
        "frequency",
        seen=(pl.col("later") - pl.col("frequency")).cast(pl.Float64),
        expected=pl.Series(expected, dtype=pl.Float64).fill_nan(None),
    )


def _by_class(customers: pl.DataFrame, conf_level: float) -> pl.DataFrame:
    classes = (
        customers.with_columns(pl.col("frequency").clip(0, HIGHEST))
        .group_by("frequency")
        .agg(
            n=pl.len(),
            mean=pl.col("seen").mean(),
            deviation=pl.col("seen").std(),
            expected=pl.col("expected").mean(),
        )
        .sort("frequency")
    )
    n, mean = classes["n"].to_numpy(), classes["mean"].to_numpy()
    deviation = classes["deviation"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    low, high = mean_interval(mean, deviation, n, conf_level)
    # Counts: never below none, and a class in which nobody bought is not known to buy nothing.
    nobody = mean == 0
    low = np.where(nobody, 0.0, np.maximum(low, 0.0))
    high = np.where(nobody, exact_rate_interval(0 * n, n, conf_level)[1], high)
    names = _classes()
    return pl.DataFrame(
        {
            "frequency": pl.Series([names[k] for k in classes["frequency"]], dtype=pl.String),
            **five_columns(n, mean, deviation / np.sqrt(n), low, high),
            "expected": classes["expected"],
        }
    )


def _sum_error(seen: Floats, expected: Floats | None) -> float | None:
    if expected is None or len(seen) < 2:
        return None
    return float((seen - expected).std(ddof=1) * np.sqrt(len(seen)))


def _bias_notes(comparison: HoldoutComparison) -> tuple[str, ...]:
    expected, seen, error = comparison.n_expected, comparison.n_seen, comparison.error
    if expected is None or error is None or not seen:
        return ()
    if abs(expected - seen) > 2 * error and abs(expected / seen - 1) > MISFIT:
        return (
            _(
                "The forecast misses by more than chance allows ({off}): values and purchases "
                "ahead are biased the same way.",
                off=_off(expected, seen),
            ),
        )
    return ()


# Tracking ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PurchaseTracking(Estimates):
    """Repeat purchases over time, as made and as the model expects.

    The table has, beside the usual five (expected cumulative repeat purchases), ``time``
    (periods since the first purchase of all), ``ends_on`` (last day of the period), ``seen``
    (cumulative repeat purchases made) and ``held_out`` (whether the fit has not seen the day).
    """

    def sentence(self) -> str:
        """Return expected and seen repeat purchases at the end."""
        known = self.table.drop_nulls("estimate")
        if known.is_empty():
            return _("{name}: there is no model to compare with.", name=self.name)
        row = known.row(-1, named=True)
        return _(
            "Until {day} the model expects {expected} repeat purchases of these {n} customers; "
            "{seen} were made ({off}).",
            day=date_text(row["ends_on"]),
            expected=number(row["estimate"]),
            n=number(row["n"]),
            seen=number(row["seen"]),
            off=_off(row["estimate"], row["seen"]),
        )

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        return {**super().units(), "seen": "count", "time": "count"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw purchases seen and expected, with the start of the hold-out; return the Axes."""
        ax = figures.new_axes(ax)
        if self.table.is_empty():
            ax.set_title(self.name)
            return ax
        ax.plot(self.table["ends_on"], self.table["seen"], label=_("made"))
        known = self.table.drop_nulls("estimate")
        ax.plot(known["ends_on"], known["estimate"], color=_MODEL_COLOUR, linestyle="--",
                label=_("expected by the model"))  # fmt: skip
        inside = known.drop_nulls(["conf_low", "conf_high"])
        ax.fill_between(
            inside["ends_on"].to_numpy(), inside["conf_low"].to_numpy(),
            inside["conf_high"].to_numpy(), color=_MODEL_COLOUR, alpha=0.16, linewidth=0,
        )  # fmt: skip
        fitted = self.table.filter(~pl.col("held_out"))
        if 0 < fitted.height < self.table.height:
            ax.axvline(fitted["ends_on"][-1], color="#999999", linewidth=1, linestyle=":",
                       label=_("end of the data of the fit"))  # fmt: skip
        ax.legend(loc="upper left")
        _date_ticks(ax)
        figures.write_units(ax, "count")
        ax.set_ylim(bottom=0)
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None


def _date_ticks(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    # Matplotlib counts dates in days since 1970-01-01, as `dates` does.
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda at, _at: month_text(date_of(int(at)))))


def purchase_tracking(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    unit: TimeUnit = "week",
    holdout_days: int,
    n_resamples: int = 200,
    seed: int = 0,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "parameters",
) -> PurchaseTracking:
    """Does the model follow the repeat purchases over time, also beyond its data? (BG/NBD).

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col : str
        Columns of the customer's key and of the day.
    unit : {"day", "week", "month", "year"}
        Unit of time of the model and of the rows.
    holdout_days : int
        Length of the period held out, which ends at `as_of`; the model is fitted to what was
        before. Customers who came within it are left out.
    n_resamples, seed : int
        How often parameters are drawn for the interval.
    as_of : date
        Last day the data covers.
    conf_level : float
    ci_method : {"parameters"}
        Parametric bootstrap over the model's parameters: what chance adds is not in it.

    Returns
    -------
    PurchaseTracking
        Columns ``time``, ``ends_on``, ``seen``, ``held_out``, ``n`` (customers), ``estimate``
        (expected cumulative repeat purchases; null without a model), ``std_error``,
        ``conf_low``, ``conf_high``.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284, equation 9 and figure 3.
    """
    as_of, until = _calibration(as_of, holdout_days)
    check_one_of("unit", unit, TIME_UNITS)
    check_one_of("ci_method", ci_method, ("parameters",))
    check_resamples(n_resamples)
    conf_level = check_conf_level(conf_level)
    columns = {"customer_col": customer_col, "at_col": at_col}
    history = purchase_history(purchases, **columns, value_col=None, unit=unit, as_of=until)
    model, notes = buying_or_none(history, None)
    daily = _daily(purchases, as_of, until, columns)
    return PurchaseTracking(
        table=_tracked(daily, model, unit, as_of, until, conf_level, n_resamples, seed),
        name=_("Repeat purchases, made and expected"),
        unit="count",
        definition=_(
            "Cumulative repeat purchase days of the customers who came until {until}, and what a "
            "BG/NBD model fitted to that day expects of as many customers who came on the same "
            "days. The interval covers what is not known of the model's parameters.",
            until=date_text(until),
        ),
        conf_level=conf_level,
        notes=notes + (() if history.n else (_("No customer had bought by then."),)),
    )


def _daily(purchases: object, as_of: date, until: date, columns: dict[str, Any]) -> pl.DataFrame:
    days = open_purchase_days(purchases, **columns, as_of=as_of)
    days = days.filter(nw.col("first") <= to_day_number(until)).with_columns(
        (nw.col("day") == nw.col("first")).cast(nw.Int64).alias("is_new")
    )
    counted = days.group_by("day").agg(
        nw.col("is_new").sum().alias("n_new"), nw.len().alias("n_days")
    )
    return collect(counted, order=["day"])


def _tracked(
    daily: pl.DataFrame,
    model: BuyingModel | None,
    unit: TimeUnit,
    as_of: date,
    until: date,
    conf_level: float,
    n_resamples: int,
    seed: int,
) -> pl.DataFrame:
    origin = daily["day"].min() if daily.height else to_day_number(as_of) + 1
    assert isinstance(origin, int)
    span = to_day_number(as_of) - origin
    n_periods = int((span + 1) / days_in(unit)) if span >= 0 else 0
    ends = np.floor(np.arange(1, n_periods + 1) * days_in(unit)).astype(np.int64) - 1
    new, repeats = np.zeros(max(span + 1, 0)), np.zeros(max(span + 1, 0))
    at = daily["day"].to_numpy() - origin
    new[at] = daily["n_new"].to_numpy()
    repeats[at] = (daily["n_days"] - daily["n_new"]).to_numpy()
    expected = _expected_until(ends, new, model, unit, conf_level, n_resamples, seed)
    return pl.DataFrame(
        {
            "time": np.arange(1, n_periods + 1),
            "ends_on": pl.Series([date_of(origin + end) for end in ends], dtype=pl.Date),
            "seen": np.cumsum(repeats)[ends].astype(np.int64),
            "held_out": ends + origin > to_day_number(until),
            **five_columns(np.full(n_periods, int(new.sum())), *expected),
        }
    )


def _expected_until(
    ends: NDArray[np.int64],
    new: Floats,
    model: BuyingModel | None,
    unit: TimeUnit,
    conf_level: float,
    n_resamples: int,
    seed: int,
) -> tuple[Floats, Floats, Floats, Floats]:
    unknown = np.full(len(ends), np.nan)
    if model is None or not len(ends):
        return unknown, unknown, unknown, unknown
    waits = np.arange(len(new)) / days_in(unit)

    # Who comes on day d has had ends - d days: a convolution of arrivals with waiting times.
    length = 2 * len(new)
    arrivals = np.fft.rfft(new, length)

    def summed(at: BuyingModel) -> Floats:
        waiting = np.fft.rfft(at.mean_purchases(waits), length)
        return np.asarray(np.fft.irfft(arrivals * waiting, length)[ends], np.float64)

    middle = summed(model)
    thetas = model.draws(n_resamples, seed)
    if thetas is None:
        return middle, unknown, unknown, unknown
    draws = np.stack([summed(model.with_theta(theta)) for theta in thetas])
    tail = (1 - conf_level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return middle, draws.std(axis=0, ddof=1), np.minimum(low, middle), np.maximum(high, middle)
