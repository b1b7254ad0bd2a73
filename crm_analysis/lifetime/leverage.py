"""What a customer's value gains when a few more stay: the lever behind "retention pays"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.frames import check_conf_level, check_one_of
from crm_analysis.lifetime.shifted_beta_geometric import ShiftedBetaGeometric
from crm_analysis.wording import Unit, _, interval_text, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "CHANGES",
    "RetentionLeverage",
    "customer_years",
    "retention_leverage",
    "yearly_retention",
]

Floats = NDArray[np.float64]

CHANGES = ("points", "churn")
"""Percentage points more retention, and a relative cut of churn: two readings of "5 % more"."""

_SBG_YEARS = 60
"""Years after which a shifted beta-geometric's retention, by then near 1, is held."""


# Value --------------------------------------------------------------------------------------


def customer_years(
    rates: ArrayLike, *, annual_discount_rate: float, horizon_years: int | None = None
) -> Floats:
    r"""How many discounted further years does a customer stay? (the sum of survival).

    .. math:: \sum_{t \ge 1} \frac{\prod_{u \le t} r_u}{(1+d)^t} = \frac{r}{1 + d - r}
              \text{ for one r}

    In years of a customer's margin: the first year, in which they were won, is not in it.

    Parameters
    ----------
    rates : array_like, shape (..., T)
        Retention in the first, second, … year; the last holds from then on.
    annual_discount_rate : float
        Margins of year t are discounted by ``(1 + d) ** t``.
    horizon_years : int, optional
        Years counted; without it all.

    Returns
    -------
    ndarray, shape (...)
        ``inf`` where everybody stays for ever and nothing is discounted.

    Examples
    --------
    >>> round(float(customer_years([0.5], annual_discount_rate=0.0)), 6)
    1.0
    """
    r = np.minimum(np.asarray(rates, np.float64), 1.0)
    if horizon_years is not None and horizon_years > r.shape[-1]:
        held = np.repeat(r[..., -1:], horizon_years - r.shape[-1], axis=-1)
        r = np.concatenate([r, held], axis=-1)
    r = r[..., :horizon_years]
    stays = np.cumprod(r / (1 + annual_discount_rate), axis=-1)
    total = stays.sum(axis=-1)
    if horizon_years is None:
        last, gap = r[..., -1], 1 + annual_discount_rate - r[..., -1]
        with np.errstate(divide="ignore"):
            total = total + np.where(gap > 0, stays[..., -1] * last / gap, np.inf)
    return np.asarray(total)


def _changed(rates: Floats, change: str, step: float) -> Floats:
    if change == "points":
        return np.asarray(np.minimum(rates + step, 1.0))
    return np.asarray(1 - (1 - rates) * (1 - step))


# Show ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RetentionLeverage(Estimates):
    """The relative change of a customer's value: one row per reading of the change.

    The table has ``change`` (``points``: percentage points of yearly retention; ``churn``: a
    relative cut of the share that leaves), the usual five (relative change of value, 0.25 = a
    quarter more), and ``value_before`` and ``value_after`` in years of a customer's margin.

    Attributes
    ----------
    step : float
        How large the change is, as a fraction.
    retention : float
        Yearly retention before the change; of several years, their geometric mean.
    """

    step: float
    retention: float

    def sentence(self) -> str:
        """Return what each reading of the change brings."""
        rows = {row["change"]: row for row in self.table.to_dicts()}
        if any(row["estimate"] is None for row in rows.values()):
            return super().sentence()
        return _(
            "From a yearly retention of {r}, {step} percentage points more raise a customer's "
            "value by {points}; {step}% fewer departures raise it by {churn}.",
            r=percent(self.retention),
            step=_step(self.step),
            points=self._gain(rows["points"]),
            churn=self._gain(rows["churn"]),
        )

    def _gain(self, row: dict[str, Any]) -> str:
        value = percent(row["estimate"])
        if row["conf_low"] is None:
            return value
        bounds = interval_text(row["conf_low"], row["conf_high"], "share")
        return _("{value} ({level} interval {bounds})", value=value,
                 level=percent(self.conf_level, 0), bounds=bounds)  # fmt: skip

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        years: dict[str, Unit] = {"value_before": "number", "value_after": "number"}
        return {**super().units(), **years}

    def _words(self, change: str) -> str:
        if change == "points":
            return _("{step} points more retention", step=_step(self.step))
        return _("{step}% fewer departures", step=_step(self.step))

    def _readable(self) -> pl.DataFrame:
        words = [self._words(change) for change in self.table["change"]]
        return super()._readable().with_columns(pl.Series("change", words, pl.String))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw both changes of value with their intervals, return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(self._readable(), label="change", ax=ax)
        ax.axvline(0, linewidth=0.8, color="0.6", zorder=0)
        figures.write_units(ax, self.unit, axis="x")
        ax.set_title(self.name)
        return ax


def _step(step: float) -> str:
    """Write a step in per cent, with a decimal where it is not whole."""
    return number(100 * step, 0 if abs(100 * step - round(100 * step)) < 0.05 else 1)


# Estimate -----------------------------------------------------------------------------------


def yearly_retention(curve: Estimates, *, years: int = 5, conf_level: float = 0.95) -> Estimates:
    """Which yearly retention, the same in every year, leads to where a curve stands? (a root).

    Parameters
    ----------
    curve : Estimates
        Share still there over ``time`` in months, without groups, such as a retention curve.
    years : int
        Where the curve is read; the last whole year it reaches when that is earlier.
    conf_level : float
        That of the curve.

    Returns
    -------
    Estimates
        One row: ``n`` (of the curve), ``estimate`` (``S(years) ** (1 / years)``), ``std_error``
        (delta method), ``conf_low``, ``conf_high`` (the curve's bounds, transformed). Null, with a
        note, where the curve does not reach a whole year.
    """
    if curve.conf_level != check_conf_level(conf_level) or "time" not in curve.table.columns:
        raise InputError(
            "A yearly retention was to be read off a curve over 'time' in months at a confidence "
            f"of {conf_level:.0%}; {curve.name!r} has the columns {curve.table.columns} and "
            f"{curve.conf_level:.0%}. Pass a retention curve of that level."
        )
    known = curve.table.drop_nulls("estimate")
    time = known["time"].cast(pl.Float64).to_numpy()
    reached = min(years, int(time.max(initial=0.0) // 12))
    n = int(curve.table["n"].to_numpy().max(initial=0))
    values, notes = np.full(4, np.nan), _read_at(reached, years)
    if reached:
        row = known.row(int(np.searchsorted(time, 12 * reached, side="right")) - 1, named=True)
        share, *bounds = (row[c] for c in ("estimate", "std_error", "conf_low", "conf_high"))
        error, low, high = (np.nan if b is None else float(b) for b in bounds)
        rate = share ** (1 / reached)
        slope = rate / (reached * share) if share > 0 else np.nan
        values = np.array([rate, slope * error, low ** (1 / reached), high ** (1 / reached)])
    return Estimates(
        table=pl.DataFrame(five_columns([n], *([value] for value in values))),
        name=_("Yearly retention"),
        unit="share",
        definition=_(
            "The retention a year, the same in every year, that leads to the share still there "
            "after {years} years.",
            years=number(reached or years),
        ),
        conf_level=curve.conf_level,
        notes=notes,
        # Read off another year of the curve it is another figure.
        key=f"yearly_retention_over_{reached or years}_years",
        better="higher",
    )


def _read_at(reached: int, years: int) -> tuple[str, ...]:
    if not reached:
        return (_("The data do not follow anybody for a whole year: nothing can be said."),)
    if reached < years:
        return (
            _(
                "Read after {reached} years and not after {years}: the data reach no further.",
                reached=number(reached),
                years=number(years),
            ),
        )
    return ()


def retention_leverage(
    retention: float | Sequence[float] | Estimates | ShiftedBetaGeometric,
    *,
    step: float = 0.05,
    annual_discount_rate: float = 0.10,
    acquisition_years: float = 0.0,
    horizon_years: int | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    conf_level: float = 0.95,
    ci_method: str = "simulation",
) -> RetentionLeverage:
    r"""What does a little more retention do to a customer's value? (an identity).

    .. math:: \text{value} = \sum_{t \ge 1} \frac{S(t)}{(1+d)^t} - A
              = \frac{r}{1 + d - r} - A \text{ for one yearly retention } r

    Two changes that are both called "five per cent more retention" are told apart: r grows by
    `step` percentage points; or the share that leaves, 1 - r, falls by `step` of itself.

    Parameters
    ----------
    retention : float, sequence of float, Estimates or ShiftedBetaGeometric
        Yearly retention: one rate; one for each year, of which the last holds from then on;
        estimates of a share (one row: a rate a year; a curve over ``time`` in months, such as a
        retention curve, from which the rate of each whole year is taken); or a fitted sBG whose
        period is a year.
    step : float
        The change, as a fraction.
    annual_discount_rate : float
        What a year's delay costs.
    acquisition_years : float
        A: what winning a customer costs, in years of a customer's margin; below zero where the
        first purchase earns more than winning costs, and is to be counted.
    horizon_years : int, optional
        Years counted; without it all.
    n_resamples, seed : int
        For the interval, where retention is an estimate; the same seed, the same interval.
    conf_level : float
    ci_method : {"simulation"}
        Quantiles over rates drawn on the logit scale (an sBG: parameters on the log scale). Rates
        of different years of one curve are independent, as Greenwood's variances add up.

    Returns
    -------
    RetentionLeverage
        Columns ``change``, ``n`` (customers behind the rate; 0 for a rate that is given),
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``, ``value_before``,
        ``value_after``. Null, with a note, where the value is not above zero before the change, or
        has no bound after it.

    Raises
    ------
    InputError
        A rate outside (0, 1], a step outside (0, 1), or a curve without a whole year.

    References
    ----------
    Reichheld & Sasser (1990), Harvard Business Review 68(5):105-111 (the claim); Gupta & Lehmann
    (2003), Journal of Interactive Marketing 17:9-24 (the identity).

    Examples
    --------
    >>> half_in_five_years = 0.5 ** (1 / 5)
    >>> gain = retention_leverage(half_in_five_years, annual_discount_rate=0.20)
    >>> [round(x, 3) for x in gain.table["estimate"]]
    [0.247, 0.028]
    """
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("simulation",))
    _check(step, annual_discount_rate, acquisition_years, horizon_years)
    if isinstance(retention, Estimates) and not retention.table["estimate"].drop_nulls().len():
        return _unknown(retention, step)
    rates, n, draws = _rates(retention, n_resamples, seed)
    terms = {"annual_discount_rate": annual_discount_rate, "horizon_years": horizon_years}

    def values(r: Floats) -> tuple[Floats, ...]:
        changed = (customer_years(_changed(r, change, step), **terms) for change in CHANGES)  # type: ignore[arg-type]
        return tuple(v - acquisition_years for v in (customer_years(r, **terms), *changed))  # type: ignore[arg-type]

    before, *after = (float(value) for value in values(rates))
    drawn = None if draws is None else values(draws)
    gains = [_gain(before, value) for value in after]
    spreads = [_spread(drawn, i, gains[i], conf_level) for i in range(len(CHANGES))]
    errors, lows, highs = zip(*spreads, strict=True)
    five = five_columns([n] * 2, gains, errors, lows, highs)
    worth = {
        "value_before": pl.Series([before] * 2, dtype=pl.Float64),
        "value_after": pl.Series([v if np.isfinite(v) else None for v in after], dtype=pl.Float64),
    }
    return RetentionLeverage(
        table=pl.DataFrame({"change": list(CHANGES), **five, **worth}),
        name=_("Change of a customer's value"),
        unit="share",
        definition=_(
            "Relative change of a customer's value (years they stay after the first, discounted at "
            "{rate} a year{cost}) when yearly retention grows by {step} percentage points, or the "
            "share that leaves falls by {step}% of itself.",
            rate=percent(annual_discount_rate, 0),
            cost=_less(acquisition_years),
            step=_step(step),
        ),
        by=("change",),
        conf_level=conf_level,
        notes=_notes(before, after, rates, step),
        step=step,
        retention=float(np.exp(np.log(rates).mean())),
    )


def _unknown(retention: Estimates, step: float) -> RetentionLeverage:
    """Return the answer where the retention itself is not known."""
    n = int(retention.table["n"].to_numpy().max(initial=0))
    nothing = [np.nan, np.nan]
    five = five_columns([n, n], nothing, nothing, nothing, nothing)
    worth = dict.fromkeys(("value_before", "value_after"), five["estimate"])
    columns = {"change": list(CHANGES), **five, **{k: v.alias(k) for k, v in worth.items()}}
    return RetentionLeverage(
        table=pl.DataFrame(columns),
        name=_("Change of a customer's value"),
        unit="share",
        definition=retention.definition,
        by=("change",),
        conf_level=retention.conf_level,
        notes=retention.notes,
        step=step,
        retention=float("nan"),
    )


def _less(years: float) -> str:
    if not years:
        return _(", before what it cost to win them")
    return _(", less {cost} years' margin for winning them", cost=number(years, 1))


def _check(step: float, rate: float, cost: float, horizon: int | None) -> None:
    if not 0 < step < 1:
        raise InputError(
            f"'step' must be a fraction between 0 and 1; got {step!r}. Pass 0.05 for five points."
        )
    if not 0 <= rate < 1:
        raise InputError(
            f"'annual_discount_rate' must be a fraction from 0 up to 1; got {rate!r}. Pass 0.10 "
            "for ten per cent a year."
        )
    if not np.isfinite(cost):
        raise InputError(
            f"'acquisition_years' must be a number of years' margin; got {cost!r}. Divide what "
            "winning a customer costs by what one brings in a year."
        )
    if horizon is not None and horizon < 1:
        raise InputError(f"'horizon_years' must be at least 1; got {horizon!r}. Pass None for all.")


def _rates(
    retention: float | Sequence[float] | Estimates | ShiftedBetaGeometric, n_draws: int, seed: int
) -> tuple[Floats, int, Floats | None]:
    """Return yearly rates (T,), the customers behind them, and drawn rates (n_draws, T)."""
    if isinstance(retention, ShiftedBetaGeometric):
        return _rates_of_model(retention, n_draws, seed)
    if not isinstance(retention, Estimates):
        return _checked_rates(np.atleast_1d(np.asarray(retention, np.float64))), 0, None
    table = retention.table.drop_nulls("estimate")
    if "time" in table.columns:
        rates, errors, n = _rates_of_curve(table)
    elif table.height == 1:
        rates, errors = (
            table["estimate"].to_numpy(),
            table["std_error"].fill_null(np.nan).to_numpy(),
        )
        n = int(table["n"][0])
    else:
        raise InputError(
            f"One yearly retention was asked for; {retention.name!r} has {table.height} known "
            "rows. Pass an estimate without groups, or a retention curve over months."
        )
    rates = _checked_rates(rates)
    if not np.isfinite(errors).all():
        return rates, n, None
    with np.errstate(divide="ignore"):
        logit = np.log(rates / (1 - rates))
    normal = np.random.default_rng(seed).standard_normal((n_draws, len(rates)))
    inside = (rates > 0) & (rates < 1)
    scale = errors / np.where(inside, rates * (1 - rates), 1.0)
    moved = 1 / (1 + np.exp(-(np.where(inside, logit, 0.0) + scale * normal)))
    return rates, n, np.where(inside, moved, rates)


def _rates_of_curve(table: pl.DataFrame) -> tuple[Floats, Floats, int]:
    """Read each whole year's retention off a curve over months; variances of logarithms add up."""
    time = table["time"].cast(pl.Float64).to_numpy()
    years = int(time.max(initial=0.0) // 12)
    survival = table["estimate"].to_numpy()
    errors = table["std_error"].fill_null(np.nan).to_numpy()
    at = np.searchsorted(time, 12.0 * np.arange(1, years + 1), side="right") - 1
    s, e = np.append(1.0, survival[at]), np.append(0.0, errors[at])
    s, e = s[s > 0], e[s > 0]
    if len(s) < 2:
        raise InputError(
            "A yearly retention was to be read off a curve; it does not reach a whole year with "
            "somebody left. Pass a curve over at least 12 months, or the rate itself."
        )
    squares = np.maximum(np.diff((e / s) ** 2), 0.0)
    rates = s[1:] / s[:-1]
    return rates, rates * np.sqrt(squares), int(table["n"].to_numpy().max())


def _rates_of_model(
    model: ShiftedBetaGeometric, n_draws: int, seed: int
) -> tuple[Floats, int, Floats | None]:
    periods = np.arange(1.0, _SBG_YEARS + 1)
    draws = model.draws(n_draws, seed)
    drawn = None
    if draws is not None:
        alpha, beta = draws.T[:, :, None]
        drawn = (beta + periods - 1) / (alpha + beta + periods - 1)
    return np.asarray(model.retention_rate(periods)), model.n or 0, drawn


def _checked_rates(rates: Floats) -> Floats:
    if not (len(rates) and np.isfinite(rates).all() and (rates > 0).all() and (rates <= 1).all()):
        raise InputError(
            f"Yearly retention must be a share above 0 and up to 1; got {rates.tolist()}. Pass "
            "0.87 when 87 of 100 customers stay a year."
        )
    return rates


def _gain(before: float, after: float) -> float:
    return after / before - 1 if before > 0 and np.isfinite(after) else float("nan")


def _spread(
    drawn: tuple[Floats, ...] | None, i: int, middle: float, conf_level: float
) -> tuple[float, float, float]:
    """Standard error and bounds over the draws; unknown where some draws have no value."""
    unknown = (float("nan"),) * 3
    if drawn is None or not np.isfinite(middle):
        return unknown
    before, after = drawn[0], drawn[1 + i]
    if not (np.isfinite(after).all() and (before > 0).all()):
        return unknown
    gains, tail = after / before - 1, (1 - conf_level) / 2
    low, high = np.quantile(gains, [tail, 1 - tail])
    return float(gains.std()), float(min(low, middle)), float(max(high, middle))


def _notes(before: float, after: Sequence[float], rates: Floats, step: float) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if before <= 0:
        notes += (
            _(
                "Winning a customer costs more than one is worth at this retention: a relative "
                "change of the value has no meaning."
            ),
        )
    if not np.isfinite(after).all():
        notes += (
            _("With the change everybody stays for ever, which without a discount has no bound."),
        )
    if rates.max() + step > 1:
        notes += (_("In some years retention cannot grow by so many points: it is held at 100%."),)
    return (
        *notes,
        _(
            "A change of value is no change of profit: what it costs to make customers stay is not "
            "in it, nor is the margin of their first year."
        ),
    )
