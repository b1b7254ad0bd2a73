"""How often customers buy until they stop, when they stop only after a purchase (BG/NBD).

While active a customer buys at random at a rate of their own (gamma over customers); after each
purchase they stop with a probability of their own (beta over customers).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from crm_analysis.dates import TimeUnit
from crm_analysis.errors import InputError
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.jacobi import beta_nodes, nodes_needed
from crm_analysis.lifetime.model_parameters import (
    FittedModel,
    ModelParameters,
    best_of,
    check_positive,
    covariance_and_notes,
)
from crm_analysis.wording import _

__all__ = [
    "BetaGeometric",
    "discounted_purchases_if_active",
    "fit_beta_geometric",
    "log_likelihood",
    "mean_purchases",
    "probability_stopped_odds",
    "purchases_if_active",
]

Floats = NDArray[np.float64]

LEAST_REPEATERS = 5
"""Four parameters from fewer customers with a repeat say nothing."""

CHUNK = 32_768
"""Patterns computed at once: what fits the processor's cache."""

START_PATTERNS = 20_000
"""The search starts on at most so many patterns, thinned evenly."""

_NAMES = ("r", "alpha", "a", "b")


# Likelihood -------------------------------------------------------------------------------


def log_likelihood(
    log_theta: Floats, x: Floats, t_x: Floats, T: Floats, weight: Floats
) -> tuple[float, Floats, Floats]:
    r"""Return the log-likelihood with gradient and Hessian in the log-parameters.

    .. math:: L = \frac{B(a, b+x)}{B(a, b)} \frac{\Gamma(r+x) \alpha^r}{\Gamma(r)}
        \left[ (\alpha+T)^{-(r+x)} + \delta_{x>0} \frac{a}{b+x-1} (\alpha+t_x)^{-(r+x)} \right]

    Parameters
    ----------
    log_theta : ndarray, shape (4,)
        Logarithms of r, alpha, a, b.
    x, t_x, T, weight : ndarray, shape (m,)
        Distinct patterns, and how many customers share each.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284, equation 6.
    """
    theta = np.exp(log_theta)
    value, slope, curve = _counting_terms(theta, x, weight)
    for at in range(0, len(x), CHUNK):
        part = slice(at, at + CHUNK)
        v, s, c = _timing_terms(theta, x[part], t_x[part], T[part], weight[part])
        value, slope, curve = value + v, slope + s, curve + c
    return value, theta * slope, np.outer(theta, theta) * curve + np.diag(theta * slope)


def _counting_terms(theta: Floats, x: Floats, weight: Floats) -> tuple[float, Floats, Floats]:
    """Terms that depend on x alone: special functions at the distinct x only."""
    r, alpha, a, b = theta
    counts = np.bincount(x.astype(np.int64), weights=weight)
    k = np.flatnonzero(counts).astype(np.float64)
    w = counts[counts > 0]
    n = w.sum()
    value = w @ (
        special.gammaln(r + k) - special.gammaln(r) + r * np.log(alpha)
        + special.betaln(a, b + k) - special.betaln(a, b)
    )  # fmt: skip
    both = special.psi(a + b) - special.psi(a + b + k)
    both_2 = special.polygamma(1, a + b) - special.polygamma(1, a + b + k)
    slope = np.array([
        w @ (special.psi(r + k) - special.psi(r)) + n * np.log(alpha),
        n * r / alpha,
        w @ both,
        w @ (both + special.psi(b + k) - special.psi(b)),
    ])  # fmt: skip
    curve = np.zeros((4, 4))
    curve[0, 0] = w @ (special.polygamma(1, r + k) - special.polygamma(1, r))
    curve[0, 1] = curve[1, 0] = n / alpha
    curve[1, 1] = -n * r / alpha**2
    curve[2, 2] = curve[2, 3] = curve[3, 2] = w @ both_2
    curve[3, 3] = w @ (both_2 + special.polygamma(1, b + k) - special.polygamma(1, b))
    return float(value), slope, curve


def _timing_terms(
    theta: Floats, x: Floats, t_x: Floats, T: Floats, weight: Floats
) -> tuple[float, Floats, Floats]:
    """Terms of recency and age: active (A3) or stopped at t_x (A4), as a softplus."""
    r, alpha, a, b = theta
    age, shape = alpha + T, r + x
    log_age = np.log(age)
    value = -(weight @ (shape * log_age))
    slope = np.array([-(weight @ log_age), -(weight @ (shape / age)), 0.0, 0.0])
    curve = np.zeros((4, 4))
    curve[0, 1] = curve[1, 0] = -(weight @ (1 / age))
    curve[1, 1] = weight @ (shape / age**2)

    again = x > 0
    shape, age, w = shape[again], age[again], weight[again]
    last, stops = alpha + t_x[again], b + x[again] - 1
    log_gap = log_age[again] - np.log(last)
    odds = np.log(a) - np.log(stops) + shape * log_gap
    stopped = special.expit(odds)
    value += w @ np.logaddexp(0.0, odds)
    gap = 1 / age - 1 / last
    first = np.stack([log_gap, shape * gap, np.full_like(gap, 1 / a), -1 / stops])
    slope += first @ (w * stopped)
    spread = (first * (w * stopped * (1 - stopped))) @ first.T
    ws = w * stopped
    spread[0, 1] += ws @ gap
    spread[1, 0] = spread[0, 1]
    spread[1, 1] += ws @ (shape * (1 / last**2 - 1 / age**2))
    spread[2, 2] -= ws.sum() / a**2
    spread[3, 3] += ws @ (1 / stops**2)
    return float(value), slope, curve + spread


# Prediction -------------------------------------------------------------------------------


def probability_stopped_odds(theta: Floats, x: Floats, t_x: Floats, T: Floats) -> Floats:
    """Return the log-odds that a customer has stopped; minus infinity without a repeat."""
    r, alpha, a, b = theta
    repeats = np.maximum(x, 1.0)
    odds = np.log(a) - np.log(b + repeats - 1) + (r + x) * np.log((alpha + T) / (alpha + t_x))
    return np.asarray(np.where(x > 0, odds, -np.inf))


def purchases_if_active(theta: Floats, horizon: float, x: Floats, T: Floats) -> Floats:
    """Expected purchases in `horizon` of customers active at T, shape of x.

    With A = alpha + T and R = r + x, the mean of ``(1 - (1 + p horizon / A) ** -R) / p`` over
    the dropout probability p ~ Beta(a, b + x): equation 10's hypergeometric form without its
    singularity at a = 1 and its overflow at large x.
    """
    r, alpha, a, b = theta
    w = horizon / (alpha + T)
    distinct, which = np.unique(x, return_inverse=True)
    n = nodes_needed(float(w.max(initial=0.0)))
    out = np.empty(w.shape, np.float64)
    for k, x_k in enumerate(distinct):
        p, weight = beta_nodes(np.array([a]), np.array([b + x_k]), n)
        rows = np.flatnonzero(which == k)
        for at in range(0, len(rows), CHUNK):
            part = rows[at : at + CHUNK]
            survived = -np.expm1(-(r + x_k) * np.log1p(w[part, None] * p))
            out[part] = (survived / p) @ weight[0]
    return np.asarray(out, np.float64)


def discounted_purchases_if_active(
    theta: Floats, horizon: float, discount: float, x: Floats, T: Floats, *, digits: float = 12
) -> Floats:
    """Discounted purchases in `horizon` for every pair of x and T, shape (len(x), len(T)).

    The integral over time of ``exp(-discount t)`` times the expected rate of buying
    ``R A**R / (A + p t) ** (R + 1)``, averaged over p; by Gauss-Legendre in
    ``u = log(1 + t / A)`` and Gauss-Jacobi in p. It varies smoothly with ``log A``: with many
    distinct T it is computed at Chebyshev points and interpolated.

    Parameters
    ----------
    theta : ndarray, shape (4,)
    horizon, discount : float
        Time ahead, and continuous discount rate per unit of time.
    x, T : ndarray
        Distinct repeat purchases and ages.
    digits : float
        Accuracy sought, in decimal digits.
    """
    n_points = 8 + int(2 * digits)
    alpha = theta[1]
    log_age = np.log(alpha + T)
    if len(T) <= n_points:
        return _on_grid(theta, horizon, discount, x, T, digits)
    low, high = float(log_age.min()), float(log_age.max())
    angle = np.pi * (np.arange(n_points) + 0.5) / n_points
    at = np.exp((low + high + (high - low) * np.cos(angle)) / 2) - alpha
    values = _on_grid(theta, horizon, discount, x, np.maximum(at, 0.0), digits)
    order = np.arange(n_points)
    waves = np.cos(np.multiply.outer(order, angle)) * (2 / n_points)
    waves[0] /= 2
    where = np.clip((2 * log_age - low - high) / (high - low), -1, 1)
    basis = np.cos(np.multiply.outer(np.arccos(where), order))
    # einsum, because threads cost more than they give on products of this size.
    series = np.einsum("kj,xj->xk", waves, values)
    return np.asarray(np.einsum("tk,xk->xt", basis, series), np.float64)


def _on_grid(
    theta: Floats, horizon: float, discount: float, x: Floats, T: Floats, digits: float
) -> Floats:
    r, alpha, a, b = theta
    age = alpha + T
    n_times = 8 + int(1.5 * digits)
    node, node_weight = np.polynomial.legendre.leggauss(n_times)
    top = np.log1p(horizon / age)
    u = np.multiply.outer(top, (node + 1) / 2)
    w = np.expm1(u)
    factor = np.exp(u - discount * age[:, None] * w) * node_weight * (top[:, None] / 2)
    n_p = nodes_needed(float(w.max(initial=0.0)), digits=digits)
    p, weight = beta_nodes(np.full(len(x), a), b + x, n_p)
    out = np.empty((len(x), len(T)))
    for k, x_k in enumerate(x):
        rate = np.exp(-(r + x_k + 1) * np.log1p(w[:, :, None] * p[k])) @ weight[k]
        out[k] = (r + x_k) * (rate * factor).sum(axis=1)
    return out


# Model ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BetaGeometric(FittedModel):
    """A BG/NBD model: rates of buying ~ Gamma(r, alpha), dropout after a purchase ~ Beta(a, b).

    Built by `fit_beta_geometric`, or by hand from a paper's figures.

    Attributes
    ----------
    r, alpha : float
        Shape and rate of the gamma distribution of buying rates; r / alpha purchases a `unit`.
    a, b : float
        Shapes of the beta distribution of the probability to stop after a purchase.
    unit : {"day", "week", "month", "year"}
        Unit of time of alpha and of everything passed to the methods.

    References
    ----------
    Fader, Hardie & Lee (2005), "Counting your customers" the easy way, Marketing Science
    24:275-284.

    Examples
    --------
    >>> model = BetaGeometric(r=0.243, alpha=4.414, a=0.793, b=2.426)
    >>> round(float(model.probability_alive(2, 30.43, 38.86)), 3)
    0.727
    >>> round(float(model.expected_purchases(39, 2, 30.43, 38.86)), 3)
    1.226
    """

    r: float
    alpha: float
    a: float
    b: float
    unit: TimeUnit = "week"

    def __post_init__(self) -> None:
        check_positive(**self.values())

    def values(self) -> dict[str, float]:
        """Return the parameters by name: r, alpha, a, b."""
        return {"r": self.r, "alpha": self.alpha, "a": self.a, "b": self.b}

    @property
    def theta(self) -> Floats:
        """The parameters as an array, shape (4,)."""
        return np.array([self.r, self.alpha, self.a, self.b])

    def probability_alive(self, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> Floats:
        """How probable is it that a customer is still active? (BG/NBD).

        1 for whoever has not bought again: the model lets customers stop only after a repeat
        purchase, so silence after the first one says nothing in it.

        Parameters
        ----------
        x, t_x, T : array_like
            Repeat purchases, recency and age in `unit`; broadcast together.
        """
        x_, t_, T_ = _checked(x, t_x, T)
        return np.asarray(special.expit(-probability_stopped_odds(self.theta, x_, t_, T_)))

    def expected_purchases(
        self, horizon: float, x: ArrayLike, t_x: ArrayLike, T: ArrayLike
    ) -> Floats:
        """How many purchases will a customer make in the coming `horizon`? (equation 10).

        Parameters
        ----------
        horizon : float
            Length of time ahead, in `unit`, not negative.
        x, t_x, T : array_like
            Repeat purchases, recency and age in `unit`; broadcast together.
        """
        _check_horizon(horizon)
        x_, t_, T_ = _checked(x, t_x, T)
        alive = special.expit(-probability_stopped_odds(self.theta, x_, t_, T_))
        ahead = purchases_if_active(self.theta, horizon, x_.ravel(), T_.ravel())
        return np.asarray(alive * ahead.reshape(x_.shape))

    def expected_purchases_new(self, horizon: ArrayLike) -> Floats:
        """How many repeat purchases will a new customer make in `horizon`? (equation 9).

        Parameters
        ----------
        horizon : array_like
            Lengths of time since the first purchase, in `unit`, not negative.
        """
        ahead = np.asarray(horizon, np.float64)
        for length in ahead.ravel():
            _check_horizon(float(length))
        return mean_purchases(self.theta, ahead)

    def frequency_probabilities(self, age: ArrayLike, most: int) -> Floats:
        """How probable are 0, 1, …, `most` repeat purchases within `age`? (equation 8).

        Returns
        -------
        ndarray, shape (len(age), most + 1)
        """
        return _frequency_probabilities(self.theta, np.atleast_1d(np.asarray(age, float)), most)

    def parameters(self, *, conf_level: float = 0.95) -> ModelParameters:
        """Return the parameters with standard errors and intervals.

        Returns
        -------
        ModelParameters
            Columns ``parameter``, ``n`` (customers), ``estimate``, ``std_error``, ``conf_low``,
            ``conf_high`` (normal on the log scale); null where the model was built by hand.
        """
        return self.shown(
            _("BG/NBD model of buying"),
            _definition(self.unit),
            model="BG/NBD",
            conf_level=conf_level,
        )


def _definition(unit: TimeUnit) -> str:
    return _(
        "While active, a customer buys at random at a rate of their own (gamma with shape r and "
        "rate alpha, per {unit}); after each repeat purchase they stop with a probability of their "
        "own (beta with shapes a and b). Fitted by maximum likelihood (Fader, Hardie & Lee 2005).",
        unit={"day": _("day"), "week": _("week"), "month": _("month"), "year": _("year")}[unit],
    )


def mean_purchases(theta: Floats, ahead: Floats) -> Floats:
    """Equation 9: a customer at T = 0 with x = 0 is active for certain."""
    r, alpha, a, b = theta
    w = ahead / alpha
    p, weight = beta_nodes(np.array([a]), np.array([b]), nodes_needed(float(w.max(initial=0.0))))
    survived = -np.expm1(-r * np.log1p(np.multiply.outer(w, p[0])))
    return np.asarray((survived / p[0]) @ weight[0])


def _frequency_probabilities(theta: Floats, age: Floats, most: int) -> Floats:
    r, alpha, a, b = theta
    x = np.arange(most + 1.0)
    share = (age / (alpha + age))[:, None]
    never = np.log(alpha / (alpha + age))[:, None]
    count = special.gammaln(r + x) - special.gammaln(r) - special.gammaln(x + 1)
    buys = np.exp(count + r * never + special.xlogy(x, share))
    stays = np.exp(special.betaln(a, b + x) - special.betaln(a, b))
    repeats = np.maximum(x, 1.0)
    stops = np.exp(special.betaln(a + 1, b + repeats - 1) - special.betaln(a, b))
    at_least = special.betainc(repeats, r, share)
    return np.asarray(stays * buys + np.where(x > 0, stops * at_least, 0.0))


def _checked(x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> tuple[Floats, Floats, Floats]:
    x_, t_, T_ = np.broadcast_arrays(
        np.asarray(x, np.float64), np.asarray(t_x, np.float64), np.asarray(T, np.float64)
    )
    good = (x_ >= 0) & (t_ >= 0) & (t_ <= T_) & (x_ == np.floor(x_))
    if not good.all():
        at = np.unravel_index(int(np.argmin(good)), good.shape)
        raise InputError(
            "A prediction needs whole x >= 0 and 0 <= t_x <= T; got x = "
            f"{x_[at]:g}, t_x = {t_[at]:g}, T = {T_[at]:g}. Pass repeat purchases, recency and "
            "age, in this order and in the model's unit of time."
        )
    return x_, t_, T_


def _check_horizon(horizon: float) -> None:
    if not (np.isfinite(horizon) and horizon >= 0):
        raise InputError(
            f"'horizon' must be a length of time of 0 or more; got {horizon!r}. "
            "Pass it in the model's unit of time."
        )


# Fit --------------------------------------------------------------------------------------


def fit_beta_geometric(history: PurchaseHistory) -> BetaGeometric:
    """Which BG/NBD model makes these purchase histories most probable? (maximum likelihood).

    Newton's method with analytic gradient and Hessian on the log-parameters, over distinct
    patterns with weights, from three starting points; times are divided by the mean age first,
    so that the unit does not matter. Standard errors come from the Hessian.

    Parameters
    ----------
    history : PurchaseHistory
        Its groups, if any, are fitted together.

    Returns
    -------
    BetaGeometric
        With covariance, log-likelihood and notes. A parameter that runs away is held at an edge
        (a factor of 2,981 from the scale of the data) and a note says so.

    Raises
    ------
    InputError
        Fewer than five customers with a repeat purchase.
    NotConvergedError
        No starting point led to a maximum.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284.

    Examples
    --------
    >>> import polars as pl
    >>> summary = pl.DataFrame({
    ...     "frequency": [0] * 60 + [1, 2, 3, 5, 8] * 6,
    ...     "recency": [0.0] * 60 + [9.0, 14.0, 20.0, 25.0, 29.0] * 6,
    ...     "age": [30.0] * 90,
    ... })
    >>> model = fit_beta_geometric(PurchaseHistory.from_summary(summary))
    >>> model.n, round(model.log_likelihood)
    (90, -406)
    """
    if history.n_repeat < LEAST_REPEATERS:
        raise InputError(
            f"A BG/NBD model was to be fitted; only {history.n_repeat} of {history.n} customers "
            f"bought on a second day, and at least {LEAST_REPEATERS} are needed. Count a longer "
            "period, or more customers together."
        )
    x, t_x, T, weight = (history.patterns[c].to_numpy() for c in history.patterns.columns)
    x = x.astype(np.float64)
    scale = float(weight @ T / weight.sum())
    t_x, T = t_x / scale, T / scale
    starts = _starts(x, t_x, T, weight)
    end = best_of(
        lambda theta: log_likelihood(theta, x, t_x, T, weight), starts, names=_NAMES, model="BG/NBD"
    )
    r, alpha, a, b = (float(value) for value in np.exp(end.at))
    covariance, notes = covariance_and_notes(end, _NAMES)
    return BetaGeometric(
        r=r,
        alpha=alpha * scale,
        a=a,
        b=b,
        unit=history.unit,
        log_covariance=covariance,
        # The density of a purchase time scales with the unit: once per repeat purchase.
        log_likelihood=end.value - float(weight @ x) * float(np.log(scale)),
        n=history.n,
        notes=notes,
    )


def _starts(x: Floats, t_x: Floats, T: Floats, weight: Floats) -> list[Floats]:
    """Three starting points; with many patterns, the best top of an even thinning of them."""
    rate = float(weight @ x / (weight @ T))
    guesses = [(0.3, 0.8, 2.4), (1.0, 0.5, 5.0), (4.0, 1.0, 1.0)]
    starts = [np.log(np.array([r, r / rate, a, b])) for r, a, b in guesses]
    if len(x) <= START_PATTERNS:
        return starts
    thin = slice(None, None, -(-len(x) // START_PATTERNS))
    end = best_of(
        lambda theta: log_likelihood(theta, x[thin], t_x[thin], T[thin], weight[thin]),
        starts,
        names=_NAMES,
        model="BG/NBD",
    )
    return [end.at]
