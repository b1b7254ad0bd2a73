"""Whether models of buying foretell: forecasts beside what customers did in a period held out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import TIME_UNITS, TimeUnit
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import check_conf_level, check_one_of
from crm_analysis.lifetime.buying_model import BuyingModel
from crm_analysis.lifetime.checking import (
    HIGHEST,
    MISFIT,
    calibration_end,
    count_interval,
    draw_expected,
    frequency_classes,
    off_text,
)
from crm_analysis.lifetime.fitting import buying_or_none, check_model_name
from crm_analysis.lifetime.history import PurchaseHistory, days_in, purchase_history
from crm_analysis.wording import Unit, _, date_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["HeldOut", "HoldoutComparison", "holdout_comparison"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Customers' histories until a day, and how often they bought in the days held out after it.

    Attributes
    ----------
    before : PurchaseHistory
    seen : ndarray, shape (n,)
        Purchase days in the period, customer by customer.
    horizon : float
        Length of the period in the history's unit.
    until, as_of : date
        Last day that a fit may see, and last day of the period.
    """

    before: PurchaseHistory
    seen: Floats
    horizon: float
    until: date
    as_of: date

    @classmethod
    def of(
        cls,
        purchases: object,
        *,
        customer_col: str,
        at_col: str,
        unit: TimeUnit,
        holdout_days: int,
        as_of: date,
    ) -> HeldOut:
        """Count both periods; customers who came within the later one are left out."""
        as_of, until = calibration_end(as_of, holdout_days)
        check_one_of("unit", unit, TIME_UNITS)
        before, after = (
            purchase_history(
                purchases, customer_col=customer_col, at_col=at_col, value_col=None,
                unit=unit, as_of=day,
            )
            for day in (until, as_of)
        )  # fmt: skip
        later = after.table.select(customer_col, later="frequency")
        both = before.table.join(later, on=customer_col, how="left", maintain_order="left")
        seen = (both["later"] - both["frequency"]).cast(pl.Float64).to_numpy()
        return cls(before, seen, holdout_days / days_in(unit), until, as_of)

    def forecast(self, model: BuyingModel) -> tuple[Floats, Floats]:
        """Return P(active) and purchases expected in the period, customer by customer."""
        x, t_x, T = (self.before.table[c].to_numpy() for c in ("frequency", "recency", "age"))
        return model.probability_alive(x, t_x, T), model.expected_purchases(self.horizon, x, t_x, T)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class HoldoutComparison(Estimates):
    """Purchases in a period that the fit has not seen, beside the forecast, by past frequency.

    The table has, beside the usual five (mean purchases per customer as seen), ``frequency``
    (the class before the period), ``expected``, the model's mean for the same customers, ``bias``
    (expected minus seen), ``mae`` and ``rmse`` (mean absolute and root mean squared error of
    single customers' forecasts).

    Attributes
    ----------
    n_seen : int
        Purchases made in the period.
    n_expected : float or None
        Purchases expected in it.
    error : float or None
        Standard error of seen minus expected, from the scatter over customers.
    mae, rmse : float or None
        Errors of single customers' forecasts, over all customers.
    """

    n_seen: int
    n_expected: float | None
    error: float | None
    mae: float | None = None
    rmse: float | None = None

    def sentence(self) -> str:
        """Return expected and seen purchases of the held-out period."""
        if self.n_expected is None:
            return _("{name}: there is no forecast to compare with.", name=self.name)
        off = off_text(self.n_expected, self.n_seen)
        return _(
            "For the period held out the model expected {expected} repeat purchases; {seen} were "
            "made ({off}).",
            expected=number(self.n_expected),
            seen=number(self.n_seen),
            off=off,
        )

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        return {**super().units(), **dict.fromkeys(("expected", "bias", "mae", "rmse"), "number")}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw means seen with intervals and means expected as diamonds, return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(self.table, label="frequency", ax=ax)
        draw_expected(self.table, ax)
        figures.write_units(ax, "number", axis="x")
        ax.set_xlabel(_("Purchase days per customer"))
        ax.set_ylabel(_("Repeats before the period"))
        ax.set_title(self.name)
        return ax


def holdout_comparison(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    unit: TimeUnit = "week",
    model: str = "bg_nbd",
    holdout_days: int,
    as_of: date,
    conf_level: float = 0.95,
) -> HoldoutComparison:
    """Would the model have foretold the last `holdout_days`? (fitted to what was before).

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col : str
        Columns of the customer's key and of the day.
    unit : {"day", "week", "month", "year"}
        Unit of time of the model.
    model : str
        Which model is fitted: ``"bg_nbd"``, ``"mbg_nbd"``, ``"pareto_nbd"``, ``"bg_cnbd_k"`` or
        ``"mbg_cnbd_k"``.
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
        customer), ``expected``, ``bias``, ``mae``, ``rmse`` (null without a model).
        Customers who came within the period are left out.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284, figure 4.
    """
    check_model_name(model)
    conf_level = check_conf_level(conf_level)
    held = HeldOut.of(
        purchases, customer_col=customer_col, at_col=at_col, unit=unit,
        holdout_days=holdout_days, as_of=as_of,
    )  # fmt: skip
    buying, notes = buying_or_none(held.before, model)
    expected = None if buying is None else held.forecast(buying)[1]
    table = _by_class(held, expected, conf_level)
    missed = None if expected is None or not len(expected) else expected - held.seen
    comparison = HoldoutComparison(
        table=table,
        name=_("Held-out purchases, by earlier repeats"),
        unit="number",
        definition=_(
            "Mean purchase days per customer from the day after {until} to {as_of}, beside what a "
            "{model} model fitted to the purchases until {until} expected of the same customers.",
            until=date_text(held.until),
            as_of=date_text(held.as_of),
            model="BG/NBD" if buying is None else buying.label,
        ),
        by=("frequency",),
        conf_level=conf_level,
        notes=notes + small_n_notes(table, ("frequency",), what=_("customers")),
        n_seen=int(held.seen.sum()),
        n_expected=None if expected is None else float(expected.sum()),
        error=None if missed is None else sum_error(missed),
        mae=None if missed is None else float(np.abs(missed).mean()),
        rmse=None if missed is None else float(np.sqrt((missed**2).mean())),
    )
    return comparison.with_notes(*_bias_notes(comparison))


def _by_class(held: HeldOut, expected: Floats | None, conf_level: float) -> pl.DataFrame:
    forecast = np.full(len(held.seen), np.nan) if expected is None else expected
    customers = pl.DataFrame(
        {
            "frequency": held.before.table["frequency"].clip(0, HIGHEST),
            "seen": held.seen,
            "expected": pl.Series(forecast, dtype=pl.Float64).fill_nan(None),
        }
    ).with_columns(missed=pl.col("expected") - pl.col("seen"))
    classes = (
        customers.group_by("frequency")
        .agg(
            n=pl.len(),
            mean=pl.col("seen").mean(),
            deviation=pl.col("seen").std(),
            expected=pl.col("expected").mean(),
            bias=pl.col("missed").mean(),
            mae=pl.col("missed").abs().mean(),
            rmse=(pl.col("missed") ** 2).mean().sqrt(),
        )
        .sort("frequency")
    )
    n, mean = classes["n"].to_numpy(), classes["mean"].to_numpy()
    deviation = classes["deviation"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    low, high = count_interval(mean, deviation, n, conf_level)
    names = frequency_classes()
    return pl.DataFrame(
        {
            "frequency": pl.Series([names[k] for k in classes["frequency"]], dtype=pl.String),
            **five_columns(n, mean, deviation / np.sqrt(n), low, high),
            **{name: classes[name] for name in ("expected", "bias", "mae", "rmse")},
        }
    )


def sum_error(missed: Floats) -> float | None:
    """Return the standard error of a sum over customers, from their scatter."""
    return float(missed.std(ddof=1) * np.sqrt(len(missed))) if len(missed) > 1 else None


def _bias_notes(comparison: HoldoutComparison) -> tuple[str, ...]:
    expected, seen, error = comparison.n_expected, comparison.n_seen, comparison.error
    if expected is None or error is None or not seen:
        return ()
    if abs(expected - seen) > 2 * error and abs(expected / seen - 1) > MISFIT:
        return (
            _(
                "The forecast misses by more than chance allows ({off}): values and purchases "
                "ahead are biased the same way.",
                off=off_text(expected, seen),
            ),
        )
    return ()
