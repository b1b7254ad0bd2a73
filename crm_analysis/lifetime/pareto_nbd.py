"""How often customers buy until they stop, when they may stop at any moment (Pareto/NBD).

While active a customer buys at random at a rate of their own (gamma over customers), and stops at
a rate of their own (another gamma over customers).
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

CHUNK = 4_096
"""Patterns computed at once: 32 nodes each must fit the processor's cache."""

RACE = 1_000
"""Patterns on which the starting points race: 33 numbers a pattern make this model dear."""

_NODE, _NODE_WEIGHT = np.polynomial.legendre.leggauss(N_NODES)
_NODE, _LOG_NODE_WEIGHT = (_NODE[:, None] + 1) / 2, np.log(_NODE_WEIGHT[:, None] / 2)

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
    for at in range(0, len(x), CHUNK):
        part = slice(at, at + CHUNK)
        v, s, c = _timing_terms(theta, x[part], t_x[part], T[part], weight[part])
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


def _stopping_nodes(theta: Floats, x: Floats, t_x: Floats, T: Floats) -> tuple[Floats, Floats]:
    """Moments of stopping and the logs of their weights, shape (nodes, m).

    Gauss-Legendre in ``v = log((g + y) / (g + t_x))`` with g the smaller of alpha and beta, in
    which the integrand has no scale of its own; cut where it has fallen to nothing.
    """
    r, alpha, s, beta = theta
    least = min(alpha, beta)
    from_, until = least + t_x, least + T
    # Either factor alone having fallen by exp(-CUT) ends the range.
    buying = (alpha + t_x) * np.expm1(np.minimum(CUT / (r + x), 300.0))
    stopping = (beta + t_x) * np.expm1(np.minimum(CUT / s, 300.0))
    span = np.minimum(until - from_, np.minimum(buying, stopping))
    top = np.log1p(span / from_)
    v = top * _NODE
    moved = from_ * np.expm1(v)
    logs = _LOG_NODE_WEIGHT + v + np.log(np.maximum(top * from_, 1e-300))
    return t_x + moved, logs


def _branch_logs(theta: Floats, x: Floats, t_x: Floats, T: Floats) -> tuple[Floats, Floats, Floats]:
    """Logs of stopping at each node, and in the last row of being active, (nodes + 1, m).

    Returned with the logs of alpha + y and beta + y, where y is the node or T.
    """
    r, _alpha, s, beta = theta
    y, node_logs = _stopping_nodes(theta, x, t_x, T)
    y = np.concatenate([y, T[None]])
    near, far = np.log(theta[1] + y), np.log(beta + y)
    logs = -(r + x) * near - s * far + s * np.log(beta)
    logs[:-1] += node_logs + np.log(s) - far[:-1]
    return logs, near, far


def _timing_terms(
    theta: Floats, x: Floats, t_x: Floats, T: Floats, weight: Floats
) -> tuple[float, Floats, Floats]:
    """Terms of recency and age: moments over the ways in which a history can have come about."""
    r, _alpha, s, beta = theta
    logs, near, far = _branch_logs(theta, x, t_x, T)
    top = logs.max(axis=0)
    share = np.exp(logs - top)
    total = share.sum(axis=0)
    share /= total
    stopped = 1 - share[-1]
    value = float(weight @ (top + np.log(total)))
    # Derivatives of one branch's log: -near, -(r + x) / (alpha + y), log beta - far + 1 / s where
    # stopped, s / beta - s / (beta + y), with s + 1 above where stopped.
    exponent = np.full((len(logs), 1), s + 1)
    exponent[-1] = s
    by_near, by_far = np.exp(-near), np.exp(-far)
    d_s = np.log(beta) - far
    d_s[:-1] += 1 / s
    first = np.stack([-near, -(r + x) * by_near, d_s, s / beta - exponent * by_far])
    means = np.einsum("ibm,bm->im", first, share)
    weighted = share * weight
    curve = np.empty((4, 4))
    for i in range(4):
        for j in range(i, 4):
            curve[i, j] = curve[j, i] = np.einsum("bm,bm,bm->", first[i], first[j], weighted)
    curve -= np.einsum("im,jm->ij", means * weight, means)
    # Second derivatives of one branch's log.
    near_mean = (weighted * by_near).sum()
    curve[0, 1] -= near_mean
    curve[1, 0] -= near_mean
    curve[1, 1] += ((r + x) * (weighted * by_near**2).sum(axis=0)).sum()
    curve[2, 2] -= (weight @ stopped) / s**2
    cross = weight.sum() / beta - (weighted * by_far).sum()
    curve[2, 3] += cross
    curve[3, 2] += cross
    curve[3, 3] += (exponent * weighted * by_far**2).sum() - weight.sum() * s / beta**2
    return value, means @ weight, curve


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
        out = np.empty(len(patterns.x))
        for at in range(0, len(out), CHUNK):
            part = slice(at, at + CHUNK)
            logs = _branch_logs(self.theta, patterns.x[part], patterns.t_x[part], patterns.T[part])[
                0
            ]
            stopped = special.logsumexp(logs[:-1], axis=0)
            out[part] = special.expit(logs[-1] - stopped)
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
