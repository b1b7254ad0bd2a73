"""How often customers buy until they stop, when they may stop at any moment (Pareto/NBD).

While active a customer buys at random at a rate of their own (gamma over customers), and stops at
a rate of their own (another gamma over customers).
"""

from __future__ import annotations

from collections.abc import Iterator
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
    unit_word,
)
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.model_parameters import check_positive
from crm_analysis.wording import _

__all__ = ["ParetoNbd", "fit_pareto_nbd"]

Floats = NDArray[np.float64]

N_NODES = 32
"""Nodes of the integral over the moment of stopping: 1e-11 on histories of customers."""

CUT = 40.0
"""The integrand is followed until it has fallen by exp(-40)."""

CHUNK = 2_048
"""Patterns computed at once: 32 nodes each must fit the processor's cache."""

RACE = 500
"""Patterns on which the starting points race: 33 numbers a pattern make this model dear."""

_RULES = (8, 12, 16, 24, N_NODES)
_FALLS = (2.0, 6.0, 12.0, 25.0)
_LENGTHS = (1.5, 2.5, 3.5, 5.0)
"""Fewer nodes serve as long as the integrand falls by no more than exp(-2), exp(-6), … over a
range no longer than 1.5, 2.5, …: each rule is within 1e-12 of 96 nodes there."""


def _legendre(n_nodes: int) -> tuple[Floats, Floats]:
    node, weight = np.polynomial.legendre.leggauss(n_nodes)
    return (node[:, None] + 1) / 2, np.log(weight[:, None] / 2)


_LEGENDRE = {n_nodes: _legendre(n_nodes) for n_nodes in _RULES}

_NAMES = ("r", "alpha", "s", "beta")


# Likelihood -------------------------------------------------------------------------------


def log_likelihood(
    log_theta: Floats, x: Floats, t_x: Floats, T: Floats, weight: Floats
) -> tuple[float, Floats, Floats]:
    r"""Return the log-likelihood with gradient and Hessian in the log-parameters.

    .. math:: L = \frac{\Gamma(r+x) \alpha^r}{\Gamma(r)} \left[
        (\alpha+T)^{-(r+x)} \left(\frac{\beta}{\beta+T}\right)^s
        + \int_{t_x}^T (\alpha+y)^{-(r+x)} \frac{s \beta^s}{(\beta+y)^{s+1}}\, dy \right]

    The integral over the moment y of stopping is the paper's difference of two hypergeometric
    functions, without their overflow and cancellation.

    Parameters
    ----------
    log_theta : ndarray, shape (4,)
        Logarithms of r, alpha, s, beta.
    x, t_x, T, weight : ndarray, shape (m,)
        Distinct patterns, and how many customers share each.

    References
    ----------
    Schmittlein, Morrison & Colombo (1987), Management Science 33:1-24; Fader & Hardie (2005), A
    note on deriving the Pareto/NBD model and related expressions.
    """
    theta = np.exp(log_theta)
    value, slope, curve = _counting_terms(theta, x, weight)
    v, s, c = _timing_terms(theta, x, t_x, T, weight)
    value, slope, curve = value + v, slope + s, curve + c
    return value, theta * slope, np.outer(theta, theta) * curve + np.diag(theta * slope)


def _counting_terms(theta: Floats, x: Floats, weight: Floats) -> tuple[float, Floats, Floats]:
    """Terms that depend on x alone: special functions at the distinct x only."""
    r, alpha = theta[:2]
    counts = np.bincount(x.astype(np.int64), weights=weight)
    k = np.flatnonzero(counts).astype(np.float64)
    w = counts[counts > 0]
    n = w.sum()
    value = w @ (special.gammaln(r + k) - special.gammaln(r)) + n * r * np.log(alpha)
    slope, curve = np.zeros(4), np.zeros((4, 4))
    slope[0] = w @ (special.psi(r + k) - special.psi(r)) + n * np.log(alpha)
    slope[1] = n * r / alpha
    curve[0, 0] = w @ (special.polygamma(1, r + k) - special.polygamma(1, r))
    curve[0, 1] = curve[1, 0] = n / alpha
    curve[1, 1] = -n * r / alpha**2
    return float(value), slope, curve


def _ranges(theta: Floats, x: Floats, t_x: Floats, T: Floats) -> Floats:
    """How far the integral over the moment of stopping goes, in `v` (see `_Branches`)."""
    r, alpha, s, beta = theta
    least = min(alpha, beta)
    # Either factor alone having fallen by exp(-CUT) ends the range.
    buying = (alpha + t_x) * np.expm1(np.minimum(CUT / (r + x), 300.0))
    stopping = (beta + t_x) * np.expm1(np.minimum(CUT / s, 300.0))
    span = np.minimum(T - t_x, np.minimum(buying, stopping))
    return np.asarray(np.log1p(span / (least + t_x)))


def _by_nodes(theta: Floats, x: Floats, top: Floats) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Put patterns together that the same number of nodes serves, in parts that fit the cache."""
    falls = (theta[0] + x + theta[2]) * top
    need = np.searchsorted(_FALLS, falls)
    need = np.maximum(need, np.searchsorted(_LENGTHS, top))
    for i, n_nodes in enumerate(_RULES):
        rows = np.flatnonzero(need == i)
        size = CHUNK * N_NODES // n_nodes
        for at in range(0, len(rows), size):
            yield n_nodes, rows[at : at + size]


@dataclass(frozen=True)
class _Branches:
    """The ways in which histories can have come about: stopping at each node, or being active.

    Gauss-Legendre in ``v = log((g + y) / (g + t_x))`` with g the smaller of alpha and beta, in
    which the integrand has no scale of its own. The last row is being active at T.

    Attributes
    ----------
    logs : ndarray, shape (nodes + 1, m)
        Log of each branch's share of the likelihood.
    near, far : ndarray, shape (nodes + 1, m)
        Logs of alpha + y and beta + y, where y is the node, or T.
    by_near, by_far : ndarray, shape (nodes + 1, m)
        Their reciprocals.
    """

    logs: Floats
    near: Floats
    far: Floats
    by_near: Floats
    by_far: Floats

    @classmethod
    def at(
        cls, theta: Floats, x: Floats, t_x: Floats, T: Floats, top: Floats, n_nodes: int
    ) -> _Branches:
        """Compute the branches of patterns whose integrals go as far as `top`."""
        r, alpha, s, beta = theta
        node, log_weight = _LEGENDRE[n_nodes]
        least, most = min(alpha, beta), max(alpha, beta)
        v, y, small, by_small = (np.empty((n_nodes + 1, len(x))) for _array in range(4))
        np.multiply(top, node, out=v[:-1])
        grown = np.exp(v[:-1])
        y[:-1] = t_x + (least + t_x) * (grown - 1)
        y[-1] = T
        small[:-1] = np.log(least + t_x) + v[:-1]
        small[-1] = np.log(least + T)
        np.divide(1 / (least + t_x), grown, out=by_small[:-1])
        by_small[-1] = 1 / (least + T)
        y += most
        large, by_large = np.log(y), 1 / y
        pair, by_pair = (small, large), (by_small, by_large)
        near, far = pair if alpha <= beta else pair[::-1]
        by_near, by_far = by_pair if alpha <= beta else by_pair[::-1]
        logs = (s * np.log(beta) - (r + x) * near) - s * far
        step = np.log(np.maximum(top * (least + t_x), 1e-300)) + np.log(s)
        logs[:-1] += (v[:-1] - far[:-1]) + (log_weight + step)
        return cls(logs, near, far, by_near, by_far)


def _timing_terms(
    theta: Floats, x: Floats, t_x: Floats, T: Floats, weight: Floats
) -> tuple[float, Floats, Floats]:
    """Terms of recency and age: moments over the ways in which a history can have come about."""
    top = _ranges(theta, x, t_x, T)
    value, slope, curve = 0.0, np.zeros(4), np.zeros((4, 4))
    for n_nodes, rows in _by_nodes(theta, x, top):
        ways = _Branches.at(theta, x[rows], t_x[rows], T[rows], top[rows], n_nodes)
        v, s, c = _moments(theta, x[rows], weight[rows], ways)
        value, slope, curve = value + v, slope + s, curve + c
    return value, slope, curve


def _moments(
    theta: Floats, x: Floats, weight: Floats, ways: _Branches
) -> tuple[float, Floats, Floats]:
    r, _alpha, s, beta = theta
    by_near, by_far = ways.by_near, ways.by_far
    top = ways.logs.max(axis=0)
    share = np.exp(ways.logs - top)
    total = share.sum(axis=0)
    share *= 1 / total
    stopped = 1 - share[-1]
    value = float(weight @ (top + np.log(total)))
    # Derivatives of one branch's log: -near, -(r + x) / (alpha + y), log beta - far + 1 / s where
    # stopped, s / beta - s / (beta + y), with s + 1 above where stopped.
    d_s = np.log(beta) - ways.far
    d_s[:-1] += 1 / s
    steep = (s + 1) * by_far
    steep[-1] = s * by_far[-1]
    first = (-ways.near, -(r + x) * by_near, d_s, s / beta - steep)
    weighted = share * weight
    held = [one * weighted for one in first]
    means = np.stack([(one * share).sum(axis=0) for one in first])
    curve = np.empty((4, 4))
    for i in range(4):
        for j in range(i, 4):
            curve[i, j] = curve[j, i] = _sum_of_products(held[i], first[j])
    curve -= np.einsum("im,jm->ij", means * weight, means)
    # Second derivatives of one branch's log.
    near_mean = _sum_of_products(weighted, by_near)
    curve[0, 1] -= near_mean
    curve[1, 0] -= near_mean
    curve[1, 1] -= _sum_of_products(held[1], by_near)
    curve[2, 2] -= (weight @ stopped) / s**2
    cross = weight.sum() / beta - _sum_of_products(weighted, by_far)
    curve[2, 3] += cross
    curve[3, 2] += cross
    curve[3, 3] += _sum_of_products(weighted * steep, by_far) - weight.sum() * s / beta**2
    return value, means @ weight, curve


def _sum_of_products(one: Floats, other: Floats) -> float:
    """Sum two arrays' products in one thread: more cost more than they give at this size."""
    return float(np.einsum("i,i->", one.ravel(), other.ravel()))


# Prediction -------------------------------------------------------------------------------


def _discounted_while_active(s: float, age: Floats, horizon: float, discount: float) -> Floats:
    r"""Discounted time ahead of customers active at T: ``age`` is beta + T.

    .. math:: \int_0^H e^{-\delta t} \left(\frac{\beta+T}{\beta+T+t}\right)^s dt
    """
    if discount == 0:
        top = np.log1p(horizon / age)
        away = (s - 1) * top
        near_one = np.abs(away) < 1e-9
        safe = np.where(near_one, 1.0, away)
        return np.asarray(age * top * np.where(near_one, 1 - away / 2, -np.expm1(-safe) / safe))
    top = np.log1p(min(horizon, DISCOUNTED_AWAY / discount) / age)
    n_nodes = int(26 * max(1.0, float(top.max(initial=0.0)) / 2))
    node, node_weight = np.polynomial.legendre.leggauss(n_nodes)
    out = np.zeros_like(age)
    for at, share in zip((node + 1) / 2, node_weight / 2, strict=True):
        u = top * at
        out += share * np.exp((1 - s) * u - discount * age * np.expm1(u))
    return np.asarray(out * age * top)


@dataclass(frozen=True)
class ParetoNbd(BuyingModel):
    """A Pareto/NBD model: buying rates ~ Gamma(r, alpha), rates of stopping ~ Gamma(s, beta).

    Built by `fit_pareto_nbd`, or by hand from a paper's figures.

    Attributes
    ----------
    r, alpha : float
        Shape and rate of the gamma distribution of buying rates; r / alpha purchases a `unit`.
    s, beta : float
        Shape and rate of the gamma distribution of the rates at which customers stop.

    References
    ----------
    Schmittlein, Morrison & Colombo (1987), Management Science 33:1-24; Fader, Hardie & Lee (2005),
    RFM and CLV, Journal of Marketing Research 42:415-430 (discounted purchases).

    Examples
    --------
    >>> model = ParetoNbd(r=0.553, alpha=10.578, s=0.606, beta=11.669)
    >>> round(float(model.probability_alive(26, 30.86, 31)), 3)
    0.998
    >>> round(float(model.expected_purchases(52, 26, 30.86, 31)), 2)
    25.46
    """

    r: float
    alpha: float
    s: float
    beta: float

    def __post_init__(self) -> None:
        check_positive(**self.values())

    def values(self) -> dict[str, float]:
        """Return the parameters by name: r, alpha, s, beta."""
        return {"r": self.r, "alpha": self.alpha, "s": self.s, "beta": self.beta}

    @property
    def label(self) -> str:
        """The model's short name."""
        return "Pareto/NBD"

    def story(self) -> str:
        """Return what the model takes customers to do."""
        return _(
            "While active, a customer buys at random at a rate of their own (gamma with shape r "
            "and rate alpha, per {unit}), and may stop at any moment, at a rate of their own "
            "(gamma with shape s and rate beta). Fitted by maximum likelihood (Schmittlein, "
            "Morrison & Colombo 1987).",
            unit=unit_word(self.unit),
        )

    def active(self, patterns: Patterns) -> Floats:
        """Return the probability that each customer is still active."""
        x, t_x, T = patterns.x, patterns.t_x, patterns.T
        out, top = np.empty(len(x)), _ranges(self.theta, x, t_x, T)
        for n_nodes, rows in _by_nodes(self.theta, x, top):
            ways = _Branches.at(self.theta, x[rows], t_x[rows], T[rows], top[rows], n_nodes)
            stopped = special.logsumexp(ways.logs[:-1], axis=0)
            out[rows] = special.expit(ways.logs[-1] - stopped)
        return out

    def purchases_if_active(
        self, patterns: Patterns, horizon: float, discount: float = 0.0, *, digits: float = 12
    ) -> Floats:
        """Return discounted purchases ahead of customers who are active at T.

        One quadrature serves every accuracy: it is cheap, as it depends on the age alone.
        """
        del digits
        ages = self.beta + patterns.distinct_age
        ahead = _discounted_while_active(self.s, ages, horizon, discount)[patterns.at_age]
        return np.asarray((self.r + patterns.x) / (self.alpha + patterns.T) * ahead)

    def mean_purchases(self, times: Floats) -> Floats:
        """Return repeat purchases expected of a new customer until each time."""
        flat = np.ravel(np.asarray(times, np.float64))
        top = np.log1p(flat / self.beta)
        away = (self.s - 1) * top
        near_one = np.abs(away) < 1e-9
        safe = np.where(near_one, 1.0, away)
        share = np.where(near_one, 1 - away / 2, -np.expm1(-safe) / safe)
        return np.asarray((self.r / self.alpha * self.beta * top * share).reshape(np.shape(times)))

    def frequency_probabilities(self, age: ArrayLike, most: int) -> Floats:
        """How probable are 0, 1, …, `most` repeat purchases within `age`? (by moment of stopping).

        Returns
        -------
        ndarray, shape (len(age), most + 1)
        """
        r, alpha, s, beta = self.theta
        x = np.arange(most + 1.0)
        ages = np.atleast_1d(np.asarray(age, np.float64))
        least = min(alpha, beta)
        node, node_weight = np.polynomial.legendre.leggauss(3 * N_NODES)
        top = np.log1p(ages / least)[:, None]
        v = top * (node + 1) / 2
        y = least * np.expm1(v)
        density = node_weight / 2 * top * (least + y) * s / (beta + y)
        density *= (beta / (beta + y)) ** s
        count = special.gammaln(r + x) - special.gammaln(r) - special.gammaln(x + 1)

        def buys(until: Floats) -> Floats:
            never = np.log(alpha / (alpha + until))[..., None]
            share = (until / (alpha + until))[..., None]
            return np.asarray(np.exp(count + r * never + special.xlogy(x, share)))

        stays = (beta / (beta + ages)) ** s
        stopped = np.einsum("gq,gqx->gx", density, buys(y))
        return np.asarray(stays[:, None] * buys(ages) + stopped)

    def log_likelihood_of(self, patterns: Patterns, weight: Floats) -> float:
        """Return the log-likelihood of patterns."""
        at = np.log(self.theta)
        return log_likelihood(at, patterns.x, patterns.t_x, patterns.T, weight)[0]


# Fit --------------------------------------------------------------------------------------


def fit_pareto_nbd(history: PurchaseHistory) -> ParetoNbd:
    """Which Pareto/NBD model makes these purchase histories most probable? (maximum likelihood).

    Newton's method with analytic gradient and Hessian on the log-parameters, over distinct
    patterns with weights, from three starting points. Standard errors come from the Hessian.

    Parameters
    ----------
    history : PurchaseHistory
        Its groups, if any, are fitted together.

    Returns
    -------
    ParetoNbd
        With covariance, log-likelihood and notes. On near regular purchases parameters drift
        along a flat ridge; they are held at an edge, and a note says so.

    Raises
    ------
    InputError
        Fewer than five customers with a repeat purchase.
    NotConvergedError
        No starting point led to a maximum.

    References
    ----------
    Schmittlein, Morrison & Colombo (1987), Management Science 33:1-24.

    Examples
    --------
    >>> import polars as pl
    >>> summary = pl.DataFrame({
    ...     "frequency": [0] * 60 + [1, 2, 3, 5, 8] * 6,
    ...     "recency": [0.0] * 60 + [9.0, 14.0, 20.0, 25.0, 29.0] * 6,
    ...     "age": [30.0] * 90,
    ... })
    >>> model = fit_pareto_nbd(PurchaseHistory.from_summary(summary))
    >>> model.n, round(model.log_likelihood)
    (90, -406)
    """
    check_repeaters(history, "Pareto/NBD")
    fitted = climb(
        history, log_likelihood, _guesses,
        names=_NAMES, times=(1, 3), model="Pareto/NBD", race=RACE,
    )  # fmt: skip
    r, alpha, s, beta = (float(value) for value in fitted.theta)
    return ParetoNbd(
        r=r, alpha=alpha, s=s, beta=beta, unit=history.unit,
        log_covariance=fitted.log_covariance, log_likelihood=fitted.log_likelihood,
        n=history.n, notes=fitted.notes,
    )  # fmt: skip


def _guesses(rate: float) -> list[Floats]:
    shapes = [(0.5, 0.6, 0.4), (1.5, 1.0, 2.0), (4.0, 0.3, 0.1)]
    return [np.array([r, r / rate, s, beta]) for r, s, beta in shapes]
