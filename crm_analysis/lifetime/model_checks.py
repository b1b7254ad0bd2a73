"""Whether a model of buying fits: what it expects beside what customers did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import TIME_UNITS, TimeUnit, date_of, to_day_number
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    share_columns,
)
from crm_analysis.frames import check_conf_level, check_one_of, collect
from crm_analysis.lifetime.buying_model import BuyingModel
from crm_analysis.lifetime.checking import (
    HIGHEST,
    MISFIT,
    MODEL_COLOUR,
    calibration_end,
    draw_expected,
    frequency_classes,
    off_text,
)
from crm_analysis.lifetime.fitting import buying_or_none, check_model_name
from crm_analysis.lifetime.history import (
    PurchaseHistory,
    days_in,
    open_purchase_days,
    purchase_history,
)
from crm_analysis.lifetime.outlook import check_resamples
from crm_analysis.remembered import remembered
from crm_analysis.wording import Unit, _, date_text, month_text, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "FrequencyCheck",
    "PurchaseTracking",
    "frequency_check",
    "purchase_tracking",
]

Floats = NDArray[np.float64]

TRACKED_ACCURACY = 1e-6
"""Error of interpolated purchases against the largest: far below the scatter between draws."""

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
        draw_expected(self.table, ax)
        figures.write_units(ax, "share", axis="x")
        ax.set_ylabel(_("Repeat purchases"))
        ax.set_title(self.name)
        return ax


def frequency_check(
    history: PurchaseHistory, *, model: BuyingModel | str | None = None, conf_level: float = 0.95
) -> FrequencyCheck:
    """Does a model expect as many customers with 0, 1, 2 … repeats as there are? (fit).

    Parameters
    ----------
    history : PurchaseHistory
    model : BuyingModel or str, optional
        A model, or the name of one to fit (see `lifetime_value`); BG/NBD when not given.
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
    expected = _expected_shares(history, buying)
    result = FrequencyCheck(
        table=pl.DataFrame(
            {
                "frequency": frequency_classes(),
                "n_customers": counts.astype(np.int64),
                **share_columns(counts, n, conf_level),
                "expected": pl.Series(expected, dtype=pl.Float64).fill_nan(None),
            }
        ),
        name=_("Customers by number of repeat purchases"),
        unit="share",
        definition=_(
            "Share of customers with so many repeat purchase days, beside what the {model} model "
            "expects of customers of the same ages.",
            model="BG/NBD" if buying is None else buying.label,
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


def _expected_shares(history: PurchaseHistory, model: BuyingModel | None) -> Floats:
    if model is None or not history.n:
        return np.full(HIGHEST + 1, np.nan)
    ages = history.patterns.group_by("age").agg(pl.col("weight").sum()).sort("age")
    probabilities = model.frequency_probabilities(ages["age"].to_numpy(), HIGHEST - 1)
    shares = ages["weight"].to_numpy() @ probabilities / history.n
    return np.append(shares, 1 - shares.sum())


# Tracking ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PurchaseTracking(Estimates):
    """Repeat purchases over time, as made and as the model expects.

    The table has, beside the usual five (expected cumulative repeat purchases), ``time``
    (periods since the first purchase of all), ``ends_on`` (last day of the period), ``seen``
    (cumulative repeat purchases made), ``held_out`` (whether the fit has not seen the day),
    ``n_made`` and ``expected`` (repeat purchases of the period alone).
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
            off=off_text(row["estimate"], row["seen"]),
        )

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        return {
            **super().units(),
            "seen": "count",
            "time": "count",
            "n_made": "count",
            "expected": "count",
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw purchases seen and expected, with the start of the hold-out; return the Axes."""
        ax = figures.new_axes(ax)
        if self.table.is_empty():
            ax.set_title(self.name)
            return ax
        ax.plot(self.table["ends_on"], self.table["seen"], label=_("made"))
        known = self.table.drop_nulls("estimate")
        ax.plot(known["ends_on"], known["estimate"], color=MODEL_COLOUR, linestyle="--",
                label=_("expected by the model"))  # fmt: skip
        inside = known.drop_nulls(["conf_low", "conf_high"])
        ax.fill_between(
            inside["ends_on"].to_numpy(), inside["conf_low"].to_numpy(),
            inside["conf_high"].to_numpy(), color=MODEL_COLOUR, alpha=0.16, linewidth=0,
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
    model: str = "bg_nbd",
    holdout_days: int,
    n_resamples: int = 200,
    seed: int = 0,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "parameters",
) -> PurchaseTracking:
    """Does the model follow the repeat purchases over time, also beyond its data? (tracking).

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col : str
        Columns of the customer's key and of the day.
    unit : {"day", "week", "month", "year"}
        Unit of time of the model and of the rows.
    model : str
        Which model is fitted to what was before: ``"bg_nbd"``, ``"mbg_nbd"``, ``"pareto_nbd"``,
        ``"bg_cnbd_k"`` or ``"mbg_cnbd_k"``.
    holdout_days : int
        Length of the period held out, which ends at `as_of`. Customers who came within it are
        left out.
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
        ``conf_low``, ``conf_high``; and by period ``n_made`` and ``expected`` (null without a
        model): what cumulative curves hide.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284, equation 9 and figures 3 and 4.
    """
    as_of, until = calibration_end(as_of, holdout_days)
    check_one_of("unit", unit, TIME_UNITS)
    check_one_of("ci_method", ci_method, ("parameters",))
    check_model_name(model)
    check_resamples(n_resamples)
    conf_level = check_conf_level(conf_level)
    columns = {"customer_col": customer_col, "at_col": at_col}
    history = purchase_history(purchases, **columns, value_col=None, unit=unit, as_of=until)
    buying, notes = buying_or_none(history, model)
    daily = _daily(purchases, as_of, until, columns)
    return PurchaseTracking(
        table=_tracked(daily, buying, unit, as_of, until, conf_level, n_resamples, seed),
        name=_("Repeat purchases, made and expected"),
        unit="count",
        definition=_(
            "Cumulative repeat purchase days of the customers who came until {until}, and what a "
            "{model} model fitted to that day expects of as many customers who came on the same "
            "days. The interval covers what is not known of the model's parameters.",
            until=date_text(until),
            model="BG/NBD" if buying is None else buying.label,
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
    seen = np.cumsum(repeats)[ends].astype(np.int64)
    table = pl.DataFrame(
        {
            "time": np.arange(1, n_periods + 1),
            "ends_on": pl.Series([date_of(origin + end) for end in ends], dtype=pl.Date),
            "seen": seen,
            "held_out": ends + origin > to_day_number(until),
            **five_columns(np.full(n_periods, int(new.sum())), *expected),
            "n_made": np.diff(seen, prepend=0),
        }
    )
    return table.with_columns(expected=pl.col("estimate").diff().fill_null(pl.col("estimate")))


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

    def summed(waiting: Floats) -> Floats:
        spread = arrivals * np.fft.rfft(waiting, length, axis=-1)
        return np.asarray(np.fft.irfft(spread, length, axis=-1)[..., ends], np.float64)

    exact = model.mean_purchases(waits)
    middle = summed(exact)
    thetas = model.draws(n_resamples, seed)
    if thetas is None:
        return middle, unknown, unknown, unknown
    at, basis = _waits_to_ask(waits, exact, model)
    # The sum is linear in the waiting times: so is it in the few that the draws are asked for.
    parts = None if basis is None else summed(basis.T)

    def computed() -> Floats:
        each = (model.with_theta(theta).mean_purchases(at) for theta in thetas)
        return np.stack([summed(few) if parts is None else few @ parts for few in each])

    draws = remembered(("tracked", model.makeup(), thetas, at, new, ends), computed)
    tail = (1 - conf_level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return middle, draws.std(axis=0, ddof=1), np.minimum(low, middle), np.maximum(high, middle)


def _waits_to_ask(waits: Floats, exact: Floats, model: BuyingModel) -> tuple[Floats, Floats | None]:
    """Return a few waits from which purchases until any other follow, and how.

    Chebyshev points in ``log(1 + wait)``: as many as give the model's own purchases to
    `TRACKED_ACCURACY` of the largest; where not even many do, all waits.

    Returns
    -------
    at : ndarray, shape (c,)
    basis : ndarray, shape (len(waits), c), or None
        None where all waits are to be asked for.
    """
    reach = np.log1p(waits)
    for n in (32, 64, 128, 256):
        if 4 * n > len(waits):
            break
        angle = np.pi * (np.arange(n) + 0.5) / n
        at = np.expm1(reach[-1] * (1 + np.cos(angle)) / 2)
        waves = np.cos(np.multiply.outer(np.arange(n), angle)) * (2 / n)
        waves[0] /= 2
        where = np.clip(2 * reach / reach[-1] - 1, -1, 1)
        basis = np.polynomial.chebyshev.chebvander(where, n - 1) @ waves
        off = np.abs(basis @ model.mean_purchases(at) - exact).max()
        if off <= TRACKED_ACCURACY * exact.max():
            return at, basis
    return waits, None
