"""How often customers buy until they stop, when they stop only after a purchase (BG/NBD).

While active a customer buys at random at a rate of their own (gamma over customers); after each
purchase they stop with a probability of their own (beta over customers).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from crm_analysis.lifetime.buying_model import (
    DISCOUNTED_AWAY,
    BuyingModel,
    Patterns,
    check_repeaters,
    climb,
    follow_ages,
    unit_word,
)
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.jacobi import beta_nodes, beta_rule, nodes_needed
from crm_analysis.lifetime.model_parameters import check_positive
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

CHUNK = 32_768
"""Patterns computed at once: what fits the processor's cache."""

MOST_TURNED = 5
"""Nodes per digit up to which Gauss's rule is quicker than equal steps in log-odds."""

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


@dataclass(frozen=True)
class _Averaged:
    r"""How to average over the dropout probability p ~ Beta(a, b + x), by few points.

    With R = r + x and h = a + b - r - 1, Pfaff's transformation of the hypergeometric function
    turns

    .. math:: E(1 + z p)^{-(R + 1)} = (1 + z)^{-a} E(1 - \tfrac{z}{1 + z} p)^{-h},

    where h does not grow with x. Whichever power is smaller is averaged.

    Attributes
    ----------
    turned : bool
        Whether the right-hand side is the one to average.
    power : float
        ``R`` as it stands, or ``h`` turned.
    p, weight : ndarray, shape (n,)
    """

    turned: bool
    power: float
    p: Floats
    weight: Floats

    @classmethod
    def over(cls, theta: Floats, x: Floats, largest: float, digits: float) -> list[_Averaged]:
        """Return what averages for each x, with times ahead up to `largest` alpha + T."""
        r, _alpha, a, b = theta
        h = float(a + b - r - 1)
        # Turned, the function may grow to (1 + largest) ** h, whose digits are lost.
        lost = max(h, 0.0) * np.log10(1 + largest)
        n = nodes_needed(largest, power=abs(h), digits=digits + lost)
        turned = (r + x + 1 > abs(h)) & (n <= MOST_TURNED * digits)
        found = dict[int, _Averaged]()
        if turned.any():
            p, weight = beta_nodes(np.full(int(turned.sum()), a), b + x[turned], n)
            for k, *rule in zip(np.flatnonzero(turned), p, weight, strict=True):
                found[int(k)] = cls(True, h, *rule)
        if not turned.all():
            rest = x[~turned]
            p, weight = beta_rule(
                np.full(len(rest), a), b + rest,
                largest=largest, power=float(r + rest.max() + 1), digits=digits,
            )  # fmt: skip
            for k, *rule in zip(np.flatnonzero(~turned), p, weight, strict=True):
                found[int(k)] = cls(False, float(r + x[k]), *rule)
        return [found[k] for k in range(len(x))]

    def until(self, theta: Floats, x: float, w: Floats) -> Floats:
        """Return purchases until relative times w: the mean of ``(1 - (1 + p w) ** -R) / p``."""
        _r, _alpha, a, b = theta
        if not self.turned:
            survived = -np.expm1(-self.power * np.log1p(w[..., None] * self.p))
            return np.asarray((survived / self.p) @ self.weight)
        log_age = np.log1p(w)
        gone = 1 - a
        first = log_age if gone == 0 else np.expm1(gone * log_age) / gone
        share = (w / (1 + w))[..., None] * self.p
        left = np.expm1(-self.power * np.log1p(-share)) / self.p
        return np.asarray((a + b + x - 1) * first - np.exp(gone * log_age) * (left @ self.weight))

    def rate(self, theta: Floats, w: Floats) -> Floats:
        """Return the mean of ``(1 + p w) ** -(R + 1)``: how fast purchases come at w."""
        if not self.turned:
            return np.asarray(
                np.exp(-(self.power + 1) * np.log1p(w[..., None] * self.p)) @ self.weight
            )
        share = (w / (1 + w))[..., None] * self.p
        mean = np.exp(-self.power * np.log1p(-share)) @ self.weight
        return np.asarray(np.exp(-theta[2] * np.log1p(w)) * mean)


def purchases_if_active(theta: Floats, horizon: float, x: Floats, T: Floats) -> Floats:
    """Expected purchases in `horizon` of customers active at T, shape of x.

    With A = alpha + T and R = r + x, the mean of ``(1 - (1 + p horizon / A) ** -R) / p`` over
    the dropout probability p ~ Beta(a, b + x): equation 10's hypergeometric form without its
    singularity at a = 1 and its overflow at large x.
    """
    w = horizon / (theta[1] + T)
    distinct, which = np.unique(x, return_inverse=True)
    means = _Averaged.over(theta, distinct, float(w.max(initial=0.0)), digits=12)
    out = np.empty(w.shape, np.float64)
    for k, (x_k, mean) in enumerate(zip(distinct, means, strict=True)):
        rows = np.flatnonzero(which == k)
        for at in range(0, len(rows), CHUNK):
            part = rows[at : at + CHUNK]
            out[part] = mean.until(theta, x_k, w[part])
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
    return follow_ages(
        lambda ages: _on_grid(theta, horizon, discount, x, ages, digits),
        T,
        float(theta[1]),
        digits=digits,
    )


def _on_grid(
    theta: Floats, horizon: float, discount: float, x: Floats, T: Floats, digits: float
) -> Floats:
    r, alpha = theta[:2]
    age = alpha + T
    if discount > 0:
        horizon = min(horizon, DISCOUNTED_AWAY / discount)
    top = np.log1p(horizon / age)
    # A horizon of several e-folds of the age needs as many more nodes.
    n_times = int((8 + 1.5 * digits) * max(1.0, float(top.max(initial=0.0)) / 2))
    node, node_weight = np.polynomial.legendre.leggauss(n_times)
    u = np.multiply.outer(top, (node + 1) / 2)
    w = np.expm1(u)
    factor = np.exp(u - discount * age[:, None] * w) * node_weight * (top[:, None] / 2)
    means = _Averaged.over(theta, x, float(w.max(initial=0.0)), digits)
    out = np.empty((len(x), len(T)))
    for k, mean in enumerate(means):
        out[k] = (r + x[k]) * (mean.rate(theta, w) * factor).sum(axis=1)
    return out


# Model ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BetaGeometric(BuyingModel):
    """A BG/NBD model: rates of buying ~ Gamma(r, alpha), dropout after a purchase ~ Beta(a, b).

    Built by `fit_beta_geometric`, or by hand from a paper's figures. Whoever has not bought
    again is active for certain: the model lets customers stop only after a repeat purchase.

    Attributes
    ----------
    r, alpha : float
        Shape and rate of the gamma distribution of buying rates; r / alpha purchases a `unit`.
    a, b : float
        Shapes of the beta distribution of the probability to stop after a purchase.

    References
    ----------
    Fader, Hardie & Lee (2005), "Counting your customers" the easy way, Marketing Science
    24:275-284: equations 8 (frequencies), 9 (new customers) and 10 (purchases ahead).

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

    def __post_init__(self) -> None:
        check_positive(**self.values())

    def values(self) -> dict[str, float]:
        """Return the parameters by name: r, alpha, a, b."""
        return {"r": self.r, "alpha": self.alpha, "a": self.a, "b": self.b}

    @property
    def label(self) -> str:
        """The model's short name."""
        return "BG/NBD"

    def story(self) -> str:
        """Return what the model takes customers to do."""
        return _(
            "While active, a customer buys at random at a rate of their own (gamma with shape r "
            "and rate alpha, per {unit}); after each repeat purchase they stop with a probability "
            "of their own (beta with shapes a and b). Fitted by maximum likelihood (Fader, Hardie "
            "& Lee 2005).",
            unit=unit_word(self.unit),
        )

    def active(self, patterns: Patterns) -> Floats:
        """Return the probability that each customer is still active."""
        odds = probability_stopped_odds(self.theta, patterns.x, patterns.t_x, patterns.T)
        return np.asarray(special.expit(-odds))

    def purchases_if_active(
        self, patterns: Patterns, horizon: float, discount: float = 0.0, *, digits: float = 12
    ) -> Floats:
        """Return discounted purchases ahead of customers who are active at T."""
        if discount == 0 and len(patterns.distinct_age) * len(patterns.distinct_x) > len(
            patterns.x
        ):
            return purchases_if_active(self.theta, horizon, patterns.x, patterns.T)
        ahead = discounted_purchases_if_active(
            self.theta, horizon, discount, patterns.distinct_x, patterns.distinct_age, digits=digits
        )
        return np.asarray(ahead[patterns.at_x, patterns.at_age])

    def mean_purchases(self, times: Floats) -> Floats:
        """Return repeat purchases expected of a new customer until each time."""
        return mean_purchases(self.theta, times)

    def frequency_probabilities(self, age: ArrayLike, most: int) -> Floats:
        """How probable are 0, 1, …, `most` repeat purchases within `age`? (equation 8).

        Returns
        -------
        ndarray, shape (len(age), most + 1)
        """
        return _frequency_probabilities(self.theta, np.atleast_1d(np.asarray(age, float)), most)

    def log_likelihood_of(self, patterns: Patterns, weight: Floats) -> float:
        """Return the log-likelihood of patterns."""
        return log_likelihood(np.log(self.theta), patterns.x, patterns.t_x, patterns.T, weight)[0]


def mean_purchases(theta: Floats, ahead: Floats) -> Floats:
    """Equation 9: a customer at T = 0 with x = 0 is active for certain."""
    w = ahead / theta[1]
    (mean,) = _Averaged.over(theta, np.zeros(1), float(w.max(initial=0.0)), digits=12)
    return mean.until(theta, 0.0, w)


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
    check_repeaters(history, "BG/NBD")
    fitted = climb(history, log_likelihood, _guesses, names=_NAMES, times=(1,), model="BG/NBD")
    r, alpha, a, b = (float(value) for value in fitted.theta)
    return BetaGeometric(
        r=r,
        alpha=alpha,
        a=a,
        b=b,
        unit=history.unit,
        log_covariance=fitted.log_covariance,
        log_likelihood=fitted.log_likelihood,
        n=history.n,
        notes=fitted.notes,
    )


def _guesses(rate: float) -> list[Floats]:
    shapes = [(0.3, 0.8, 2.4), (1.0, 0.5, 5.0), (4.0, 1.0, 1.0)]
    return [np.array([r, r / rate, a, b]) for r, a, b in shapes]
