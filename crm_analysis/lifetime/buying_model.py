"""What every model of buying offers, whatever it assumes: one small set of answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crm_analysis.dates import DAYS_PER_YEAR, TimeUnit
from crm_analysis.errors import InputError
from crm_analysis.lifetime.history import PurchaseHistory, days_in
from crm_analysis.lifetime.model_parameters import (
    Covariance,
    FittedModel,
    ModelParameters,
    best_of,
    covariance_and_notes,
)
from crm_analysis.lifetime.newton import GAIN_LEFT, Maximum
from crm_analysis.remembered import remembered
from crm_analysis.wording import _

__all__ = [
    "BuyingModel",
    "Fitted",
    "Patterns",
    "age_series",
    "check_repeaters",
    "climb",
    "follow_ages",
    "unit_word",
]

Floats = NDArray[np.float64]
Likelihood = Callable[[Floats, Floats, Floats, Floats, Floats], tuple[float, Floats, Floats]]

LEAST_REPEATERS = 5
"""Four parameters from fewer customers with a repeat say nothing."""

START_PATTERNS = 5_000
"""The search starts on at most so many patterns, thinned evenly."""

RACE_GAIN_LEFT = 1e-2
"""On thinned patterns a start need not get nearer to its top: the whole is climbed after."""

_OF_THE_FIT = ("log_covariance", "log_likelihood", "n", "notes")

DISCOUNTED_AWAY = 40.0
"""Purchases discounted by exp(-40) add nothing to any digit that is shown."""


@dataclass(frozen=True)
class Patterns:
    """Repeat purchases, recency and age of customers, side by side.

    Attributes
    ----------
    x, t_x, T : ndarray, shape (m,)
    """

    x: Floats
    t_x: Floats
    T: Floats

    @classmethod
    def of(cls, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> Patterns:
        """Check and flatten what a caller passed.

        Raises
        ------
        InputError
            x that is not whole, or a recency outside [0, T].
        """
        x_, t_, T_ = np.broadcast_arrays(
            np.asarray(x, np.float64), np.asarray(t_x, np.float64), np.asarray(T, np.float64)
        )
        good = (x_ >= 0) & (t_ >= 0) & (t_ <= T_) & (x_ == np.floor(x_))
        if not good.all():
            at = np.unravel_index(int(np.argmin(good)), good.shape)
            raise InputError(
                "A prediction needs whole x >= 0 and 0 <= t_x <= T; got x = "
                f"{x_[at]:g}, t_x = {t_[at]:g}, T = {T_[at]:g}. Pass repeat purchases, recency "
                "and age, in this order and in the model's unit of time."
            )
        return cls(x_.ravel(), t_.ravel(), T_.ravel())

    @cached_property
    def _by_x(self) -> tuple[Floats, NDArray[np.intp]]:
        return np.unique(self.x, return_inverse=True)

    @cached_property
    def _by_age(self) -> tuple[Floats, NDArray[np.intp]]:
        return np.unique(self.T, return_inverse=True)

    @property
    def distinct_x(self) -> Floats:
        """Distinct numbers of repeat purchases, ascending."""
        return self._by_x[0]

    @property
    def at_x(self) -> NDArray[np.intp]:
        """Where each pattern's x stands in `distinct_x`."""
        return self._by_x[1]

    @property
    def distinct_age(self) -> Floats:
        """Distinct ages, ascending."""
        return self._by_age[0]

    @property
    def at_age(self) -> NDArray[np.intp]:
        """Where each pattern's T stands in `distinct_age`."""
        return self._by_age[1]


@dataclass(frozen=True, kw_only=True)
class BuyingModel(FittedModel):
    """A fitted model of how often customers buy, and when they stop.

    Attributes
    ----------
    unit : {"day", "week", "month", "year"}
        Unit of time of the parameters and of everything passed to the methods.
    """

    unit: TimeUnit = "week"

    @property
    @abstractmethod
    def label(self) -> str:
        """The model's short name in the literature."""

    @abstractmethod
    def story(self) -> str:
        """Return what the model takes customers to do, in a sentence."""

    @abstractmethod
    def active(self, patterns: Patterns) -> Floats:
        """Return the probability that each customer is still active, shape (m,)."""

    @abstractmethod
    def purchases_if_active(
        self, patterns: Patterns, horizon: float, discount: float = 0.0, *, digits: float = 12
    ) -> Floats:
        """Return discounted purchases ahead of customers who are active at T, shape (m,).

        Parameters
        ----------
        patterns : Patterns
        horizon : float
            Length of time ahead; infinity with a discount above 0.
        discount : float
            Continuous discount rate per unit of time.
        digits : float
            Accuracy sought, in decimal digits.
        """

    def purchases(
        self, patterns: Patterns, horizon: float, discount: float = 0.0, *, digits: float = 12
    ) -> Floats:
        """Return discounted purchases ahead of customers, active or not, shape (m,).

        The parameters are those of `purchases_if_active`.
        """
        ahead = self.purchases_if_active(patterns, horizon, discount, digits=digits)
        return np.asarray(self.active(patterns) * ahead)

    @abstractmethod
    def mean_purchases(self, times: Floats) -> Floats:
        """Return repeat purchases expected of a new customer until each time, shape of times."""

    @abstractmethod
    def frequency_probabilities(self, age: ArrayLike, most: int) -> Floats:
        """How probable are 0, 1, …, `most` repeat purchases within `age`? (by the model).

        Returns
        -------
        ndarray, shape (len(age), most + 1)
        """

    @abstractmethod
    def log_likelihood_of(self, patterns: Patterns, weight: Floats) -> float:
        """Return the log-likelihood of patterns, less what does not depend on the parameters."""

    @property
    def theta(self) -> Floats:
        """The parameters as an array, in the order of `values`."""
        return np.array(list(self.values().values()))

    def makeup(self) -> tuple[object, ...]:
        """Return what kind of model this is and its numbers, but nothing of how it was fitted."""
        own = [field.name for field in fields(self) if field.name not in _OF_THE_FIT]
        return (type(self).__qualname__, *(getattr(self, name) for name in own))

    def with_theta(self, theta: Floats) -> Self:
        """Return the same kind of model with other parameters, as if built by hand."""
        moved = dict(zip(self.values(), (float(value) for value in theta), strict=True))
        return replace(self, **moved, log_covariance=None, log_likelihood=None, n=None, notes=())  # type: ignore[arg-type]

    def probability_alive(self, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> Floats:
        """How probable is it that a customer is still active? (P(alive)).

        Parameters
        ----------
        x, t_x, T : array_like
            Repeat purchases, recency and age in `unit`; broadcast together.
        """
        patterns, shape = Patterns.of(x, t_x, T), np.broadcast(x, t_x, T).shape
        return self.active(patterns).reshape(shape)

    def expected_purchases(
        self, horizon: float, x: ArrayLike, t_x: ArrayLike, T: ArrayLike
    ) -> Floats:
        """How many purchases will a customer make in the coming `horizon`? (the mean).

        Parameters
        ----------
        horizon : float
            Length of time ahead, in `unit`, not negative.
        x, t_x, T : array_like
            Repeat purchases, recency and age in `unit`; broadcast together.
        """
        check_horizon(horizon)
        patterns, shape = Patterns.of(x, t_x, T), np.broadcast(x, t_x, T).shape
        return self.purchases(patterns, float(horizon)).reshape(shape)

    def expected_purchases_new(self, horizon: ArrayLike) -> Floats:
        """How many repeat purchases will a new customer make in `horizon`? (the mean).

        Parameters
        ----------
        horizon : array_like
            Lengths of time since the first purchase, in `unit`, not negative.
        """
        ahead = np.asarray(horizon, np.float64)
        for length in ahead.ravel():
            check_horizon(float(length))
        return self.mean_purchases(ahead)

    def discounted_expected_transactions(
        self,
        x: ArrayLike,
        t_x: ArrayLike,
        T: ArrayLike,
        *,
        annual_discount_rate: float,
        horizon: float = np.inf,
    ) -> Floats:
        """What are a customer's coming purchases worth in purchases of today? (DERT).

        Discounted continuously from the moment at which each is expected, with
        ``delta = ln(1 + annual rate) / units in a year``.

        Parameters
        ----------
        x, t_x, T : array_like
            Repeat purchases, recency and age in `unit`; broadcast together.
        annual_discount_rate : float
            Effective rate a year, above 0 when `horizon` is infinite.
        horizon : float
            Length of time ahead, in `unit`; infinite when not given.

        References
        ----------
        Fader, Hardie & Lee (2005), RFM and CLV, Journal of Marketing Research 42:415-430.
        """
        discount = self.discount_per_unit(annual_discount_rate)
        if not (horizon >= 0 and (np.isfinite(horizon) or discount > 0)):
            raise InputError(
                f"'horizon' must be 0 or more, and finite without a discount; got {horizon!r} and "
                f"annual_discount_rate={annual_discount_rate!r}. Discount, or end the horizon."
            )
        patterns, shape = Patterns.of(x, t_x, T), np.broadcast(x, t_x, T).shape
        return self.purchases(patterns, float(horizon), discount).reshape(shape)

    def discount_per_unit(self, annual_rate: float) -> float:
        """Return the continuous discount rate per `unit` of an effective rate a year."""
        if not 0 <= annual_rate < 1:
            raise InputError(
                f"'annual_discount_rate' must be a fraction from 0 up to 1; got {annual_rate!r}. "
                "Pass 0.10 for ten per cent a year."
            )
        return float(np.log1p(annual_rate)) * days_in(self.unit) / DAYS_PER_YEAR

    def parameters(self, *, conf_level: float = 0.95) -> ModelParameters:
        """Return the parameters with standard errors and intervals.

        Returns
        -------
        ModelParameters
            Columns ``parameter``, ``n`` (customers), ``estimate``, ``std_error``, ``conf_low``,
            ``conf_high`` (normal on the log scale); null where the model was built by hand.
        """
        return self.shown(
            _("{model} model of buying", model=self.label),
            self.story(),
            model=self.label,
            conf_level=conf_level,
        )


def check_horizon(horizon: float) -> None:
    """Refuse a horizon that is no length of time."""
    if not (np.isfinite(horizon) and horizon >= 0):
        raise InputError(
            f"'horizon' must be a length of time of 0 or more; got {horizon!r}. "
            "Pass it in the model's unit of time."
        )


def unit_word(unit: TimeUnit) -> str:
    """Return the unit's name in the reader's language."""
    return {"day": _("day"), "week": _("week"), "month": _("month"), "year": _("year")}[unit]


# Fit --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """What a climb gives: parameters in the history's unit, and how sure they are."""

    theta: Floats
    log_covariance: Covariance
    log_likelihood: float
    notes: tuple[str, ...]


def check_repeaters(history: PurchaseHistory, model: str) -> None:
    """Refuse a history with too few repeats to fit anything.

    Raises
    ------
    InputError
    """
    if history.n_repeat < LEAST_REPEATERS:
        raise InputError(
            f"A {model} model was to be fitted; only {history.n_repeat} of {history.n} customers "
            f"bought on a second day, and at least {LEAST_REPEATERS} are needed. Count a longer "
            "period, or more customers together."
        )


def climb(
    history: PurchaseHistory,
    likelihood: Likelihood,
    guesses: Callable[[float], Sequence[Floats]],
    *,
    names: Sequence[str],
    times: Sequence[int],
    model: str,
    phases: int = 1,
    race: int = START_PATTERNS,
) -> Fitted:
    """Fit four parameters to a history by Newton's method from several starting points.

    Times are divided by the mean age first, so that the unit does not matter. With many
    patterns the starts race on an even thinning, and the whole is climbed from their best top.

    Parameters
    ----------
    history : PurchaseHistory
    likelihood : callable
        Of log-parameters, x, t_x, T and weights; returns value, gradient and Hessian.
    guesses : callable
        Takes purchases per customer and scaled unit of time; returns starting parameters.
    names : sequence of str
    times : sequence of int
        Which parameters are lengths of time.
    model : str
        Its name, for the message; one name, one likelihood.
    phases : int
        Random events between purchases: the density scales with the unit once for each.
    race : int
        On how many patterns the starts race, when there are more.
    """
    data, scale = _scaled(history)
    x, _t_x, T, weight = data
    starts = [np.log(guess) for guess in guesses(float(weight @ x / (weight @ T)))]
    if len(x) > race:
        thin = tuple(column[:: -(-len(x) // race)] for column in data)
        top = _top(likelihood, thin, starts, names, model, RACE_GAIN_LEFT)
        starts = [top.at]
    end = _top(likelihood, data, starts, names, model, GAIN_LEFT)
    covariance, notes = covariance_and_notes(end, names)
    theta = np.exp(end.at)
    theta[list(times)] *= scale
    value = end.value - phases * float(weight @ x) * float(np.log(scale))
    return Fitted(theta, covariance, value, notes)


def _top(
    likelihood: Likelihood,
    data: tuple[Floats, ...],
    starts: Sequence[Floats],
    names: Sequence[str],
    model: str,
    gain_left: float,
) -> Maximum:
    """Climb to the highest top, or recall it: the network is fitted for every dealership."""
    key = ("climb", likelihood.__module__, model, gain_left, *data, *starts)
    return remembered(
        key,
        lambda: best_of(
            lambda at: likelihood(at, *data), starts, names=names, model=model, gain_left=gain_left
        ),
    )


def _scaled(history: PurchaseHistory) -> tuple[tuple[Floats, Floats, Floats, Floats], float]:
    x, t_x, T, weight = (
        history.patterns[c].to_numpy().astype(np.float64, copy=False)
        for c in ("frequency", "recency", "age", "weight")
    )
    scale = float(weight @ T / weight.sum())
    return (x, t_x / scale, T / scale, weight), scale


# Ages -------------------------------------------------------------------------------------


def follow_ages(
    on_grid: Callable[[Floats], Floats], T: Floats, alpha: float, *, digits: float
) -> Floats:
    """Evaluate what varies smoothly with ``log(alpha + T)`` at many ages, shape (…, len(T)).

    With many distinct ages it is computed at Chebyshev points and interpolated.

    Parameters
    ----------
    on_grid : callable
        Takes ages (g,), returns an array of shape (…, g).
    T : ndarray
    alpha : float
    digits : float
        Accuracy sought, in decimal digits.
    """
    series, basis = age_series(on_grid, T, alpha, digits=digits)
    # einsum, because threads cost more than they give on products of this size.
    return np.asarray(np.einsum("tk,...k->...t", basis, series), np.float64)


def age_series(
    on_grid: Callable[[Floats], Floats], T: Floats, alpha: float, *, digits: float
) -> tuple[Floats, Floats]:
    """Return what `follow_ages` multiplies: a series (…, c) and, at each age, its terms.

    Returns
    -------
    series : ndarray, shape (…, c)
        Chebyshev coefficients in ``log(alpha + T)``; the values themselves where ages are few.
    basis : ndarray, shape (len(T), c)
        ``basis @ series[…]`` are the values at the ages.
    """
    n_points = 8 + int(2 * digits)
    if len(T) <= n_points:
        return on_grid(T), np.eye(len(T))
    log_age = np.log(alpha + T)
    low, high = float(log_age.min()), float(log_age.max())
    angle = np.pi * (np.arange(n_points) + 0.5) / n_points
    at = np.exp((low + high + (high - low) * np.cos(angle)) / 2) - alpha
    values = on_grid(np.maximum(at, 0.0))
    order = np.arange(n_points)
    waves = np.cos(np.multiply.outer(order, angle)) * (2 / n_points)
    waves[0] /= 2
    where = np.clip((2 * log_age - low - high) / (high - low), -1, 1)
    series = np.einsum("kj,...j->...k", waves, values)
    return series, _chebyshev(where, n_points)


def _chebyshev(where: Floats, n: int) -> Floats:
    """Chebyshev polynomials at points of [-1, 1] by their recurrence, shape (len(where), n)."""
    waves = np.ones((n, len(where)))
    waves[1] = where
    for order in range(2, n):
        waves[order] = 2 * where * waves[order - 1] - waves[order - 2]
    return waves.T.copy()
