"""How often customers come at regular intervals until they stop ((M)BG/CNBD-k).

The time between purchases is Erlang with k phases at a rate of the customer's own (gamma over
customers); after each purchase they stop with a probability of their own (beta over customers).
k = 1 is random buying; services of a car are far more regular. In the modified model a customer
may stop after the first purchase too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from crm_analysis.errors import InputError
from crm_analysis.lifetime.buying_model import (
    BuyingModel,
    Fitted,
    Patterns,
    age_series,
    check_repeaters,
    climb,
    unit_word,
)
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.jacobi import beta_rule
from crm_analysis.lifetime.model_parameters import check_positive
from crm_analysis.lifetime.time_ahead import TimeAhead
from crm_analysis.wording import _, number

__all__ = ["RegularBetaGeometric", "fit_modified_beta_geometric", "fit_regular_beta_geometric"]

Floats = NDArray[np.float64]

MOST_K = 24
"""Gaps more regular than this (a standard deviation of a fifth of the mean) are as good as it."""

WORSE_IN_A_ROW = 2
"""The search over k ends when so many more k did not raise the likelihood."""

CHUNK = 8_192
"""Patterns computed at once: k + 1 numbers each must fit the processor's cache."""

_TINY = 1e-300
_NAMES = ("r", "alpha", "a", "b")


# Likelihood -------------------------------------------------------------------------------


def log_likelihood(
    log_theta: Floats,
    x: Floats,
    t_x: Floats,
    T: Floats,
    weight: Floats,
    *,
    k: int,
    modified: bool,
) -> tuple[float, Floats, Floats]:
    r"""Return the log-likelihood with gradient and Hessian in the log-parameters.

    .. math:: L = \frac{B(a, b+x+m)}{B(a, b)} \frac{\Gamma(r+kx) \alpha^r}{\Gamma(r)}
        \left[ \sum_{j<k} \frac{(r+kx)_j}{j!} \frac{(T-t_x)^j}{(\alpha+T)^{r+kx+j}}
        + \delta \frac{a}{b+x+m-1} (\alpha+t_x)^{-(r+kx)} \right]

    with m = 1 in the modified model and 0 else, and delta = 0 only where x + m = 0. The first
    term sums over the phases j passed since the last purchase by a customer who is active; the
    second is that of one who stopped there. Left out is what the gaps bring to every set of
    parameters alike, ``(k - 1) sum(log gap) - x log Gamma(k)``.

    Parameters
    ----------
    log_theta : ndarray, shape (4,)
        Logarithms of r, alpha, a, b.
    x, t_x, T, weight : ndarray, shape (m,)
        Distinct patterns, and how many customers share each.
    k : int
    modified : bool

    References
    ----------
    Platzer & Reutterer (2016), Marketing Science 35:779-799; Batislam, Denizel &
    Filiztekin (2007), International Journal of Research in Marketing 24:201-209 (k = 1).
    """
    theta = np.exp(log_theta)
    value, slope, curve = _counting_terms(theta, *_visits(x, weight), k, int(modified))
    for at in range(0, len(x), CHUNK):
        part = slice(at, at + CHUNK)
        v, s, c = _timing_terms(theta, x[part], t_x[part], T[part], weight[part], k, int(modified))
        value, slope, curve = value + v, slope + s, curve + c
    return value, theta * slope, np.outer(theta, theta) * curve + np.diag(theta * slope)


def _log_likelihood_alone(
    theta: Floats, x: Floats, t_x: Floats, T: Floats, weight: Floats, k: int, m: int
) -> float:
    """Return the value of `log_likelihood` without its gradient and Hessian, at their third."""
    value = _counting_value(theta, *_visits(x, weight), k, m)
    for at in range(0, len(x), CHUNK):
        part = slice(at, at + CHUNK)
        log_count = _phase_logs(float(theta[0]), x[part], k)
        ways = _ways(theta, x[part], t_x[part], T[part], log_count, m)
        value += float(weight[part] @ ways.log_sum)
    return value


def _visits(x: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the distinct x and how many customers share each."""
    counts = np.bincount(x.astype(np.int64), weights=weight)
    visits = np.flatnonzero(counts)
    return visits.astype(np.float64), np.asarray(counts[visits], np.float64)


def _counting_value(theta: Floats, visits: Floats, w: Floats, k: int, m: int) -> float:
    r, alpha, a, b = theta
    s, stayed = r + k * visits, b + visits + m
    value = w @ (
        special.gammaln(s) - special.gammaln(r) + r * np.log(alpha)
        + special.betaln(a, stayed) - special.betaln(a, b)
    )  # fmt: skip
    return float(value)


def _counting_terms(
    theta: Floats, visits: Floats, w: Floats, k: int, m: int
) -> tuple[float, Floats, Floats]:
    """Terms that depend on x alone: special functions at the distinct x only."""
    r, alpha, a, b = theta
    n, s, stayed = w.sum(), r + k * visits, b + visits + m
    both = special.psi(a + b) - special.psi(a + stayed)
    both_2 = special.polygamma(1, a + b) - special.polygamma(1, a + stayed)
    slope = np.array([
        w @ (special.psi(s) - special.psi(r)) + n * np.log(alpha),
        n * r / alpha,
        w @ both,
        w @ (both + special.psi(stayed) - special.psi(b)),
    ])  # fmt: skip
    curve = np.zeros((4, 4))
    curve[0, 0] = w @ (special.polygamma(1, s) - special.polygamma(1, r))
    curve[0, 1] = curve[1, 0] = n / alpha
    curve[1, 1] = -n * r / alpha**2
    curve[2, 2] = curve[2, 3] = curve[3, 2] = w @ both_2
    curve[3, 3] = w @ (both_2 + special.polygamma(1, stayed) - special.polygamma(1, b))
    return _counting_value(theta, visits, w, k, m), slope, curve


def _phase_logs(r: float, x: Floats, k: int) -> Floats:
    """Return log of ``(s)_j / j!`` of s = r + k x, shape (k, m)."""
    distinct, which = np.unique(x, return_inverse=True)
    steps = _phase_steps(r, distinct, k)
    log_count = np.zeros((k, len(distinct)))
    np.cumsum(np.log(steps / np.arange(1.0, k)[:, None]), axis=0, out=log_count[1:])
    return np.asarray(log_count[:, which])


def _phase_slopes(r: float, x: Floats, k: int) -> tuple[Floats, Floats]:
    """Return the first and second derivative of `_phase_logs` in s, each (k, m)."""
    distinct, which = np.unique(x, return_inverse=True)
    steps = _phase_steps(r, distinct, k)
    first, second = (np.zeros((k, len(distinct))) for _term in range(2))
    np.cumsum(1 / steps, axis=0, out=first[1:])
    np.cumsum(-1 / steps**2, axis=0, out=second[1:])
    return first[:, which], second[:, which]


def _phase_steps(r: float, x: Floats, k: int) -> Floats:
    return np.asarray(r + k * x + np.arange(k - 1.0)[:, None])


@dataclass(frozen=True)
class _Ways:
    """What a customer's last purchase can mean: active, with j phases passed, or stopped there.

    Attributes
    ----------
    share : ndarray, shape (k + 1, m)
        Chance of each, the last of having stopped.
    log_sum : ndarray, shape (m,)
        Logarithm of all of them together.
    """

    share: Floats
    log_sum: Floats


def _ways(theta: Floats, x: Floats, t_x: Floats, T: Floats, log_count: Floats, m: int) -> _Ways:
    """Weigh the k ways to be active, and the one to have stopped, as a softmax."""
    r, alpha, a, b = theta
    k = len(log_count)
    s, log_age = r + k * x, np.log(alpha + T)
    waited = np.log(np.maximum(T - t_x, _TINY))
    phase = np.arange(float(k))[:, None]
    logs = np.empty((k + 1, len(x)))
    logs[:k] = log_count + phase * (waited - log_age) - s * log_age
    stops = np.maximum(b + x + m - 1, _TINY)
    logs[k] = np.where(x + m > 0, np.log(a / stops) - s * np.log(alpha + t_x), -np.inf)
    top = logs.max(axis=0)
    share = np.exp(logs - top)
    total = share.sum(axis=0)
    return _Ways(share / total, top + np.log(total))


def _timing_terms(
    theta: Floats, x: Floats, t_x: Floats, T: Floats, weight: Floats, k: int, m: int
) -> tuple[float, Floats, Floats]:
    """Terms of recency and age."""
    r, alpha, a, b = theta
    age, last, s = alpha + T, alpha + t_x, r + k * x
    log_age, log_last = np.log(age), np.log(last)
    first_s, second_s = _phase_slopes(r, x, k)
    ways = _ways(theta, x, t_x, T, _phase_logs(r, x, k), m)
    share, phase = ways.share, np.arange(float(k))[:, None]
    stops, may_stop = np.maximum(b + x + m - 1, _TINY), x + m > 0
    active, stopped = share[:k], share[k]

    d_r = np.concatenate([first_s - log_age, -log_last[None]])
    d_alpha = np.concatenate([-(s + phase) / age, (-s / last)[None]])
    d_a, d_b = 1 / a, np.where(may_stop, -1 / stops, 0.0)
    mean_r, mean_alpha = (share * d_r).sum(axis=0), (share * d_alpha).sum(axis=0)
    mean_a, mean_b = stopped * d_a, stopped * d_b
    value = float(weight @ ways.log_sum)
    means = np.stack([mean_r, mean_alpha, mean_a, mean_b])
    n_active = 1 - stopped
    curve = np.empty((4, 4))
    curve[0, 0] = weight @ ((share * d_r**2).sum(axis=0) + (active * second_s).sum(axis=0))
    curve[0, 1] = weight @ ((share * d_r * d_alpha).sum(axis=0) - n_active / age - stopped / last)
    curve[1, 1] = weight @ (
        (share * d_alpha**2).sum(axis=0)
        - (active * d_alpha[:k]).sum(axis=0) / age
        - stopped * d_alpha[k] / last
    )
    ws = weight * stopped
    curve[0, 2], curve[0, 3] = (ws @ d_r[k]) * d_a, ws @ (d_r[k] * d_b)
    curve[1, 2], curve[1, 3] = (ws @ d_alpha[k]) * d_a, ws @ (d_alpha[k] * d_b)
    # d_a squared and the second derivative of log a cancel; those of b add up.
    curve[2, 2], curve[2, 3], curve[3, 3] = 0.0, (ws @ d_b) * d_a, 2 * (ws @ d_b**2)
    lower = np.tril_indices(4, -1)
    curve[lower] = curve.T[lower]
    return value, means @ weight, curve - np.einsum("in,jn->ij", means * weight, means)


# Prediction -------------------------------------------------------------------------------


def _waiting_logs(theta: Floats, x: Floats, t_x: Floats, T: Floats, k: int) -> Floats:
    """Log of the chance of j phases and no purchase since the last one, shape (k, m)."""
    r, alpha = theta[:2]
    log_count = _phase_logs(float(r), x, k)
    waited = np.log(np.maximum(T - t_x, _TINY)) - np.log(alpha + T)
    none = (r + k * x) * (np.log(alpha + t_x) - np.log(alpha + T))
    return np.asarray(log_count + np.arange(float(k))[:, None] * waited + none)


def _purchases_by_phase(
    theta: Floats, k: int, m: int, x: Floats, times: Floats, digits: float
) -> Floats:
    r"""Purchases until relative times of customers active now, shape (k, len(x), len(times)).

    With j phases passed since the last purchase, the phases come at a rate lambda ~
    Gamma(s + j, A), and every k-th is a purchase, after which a share q = 1 - p stays. The series
    over purchases sums to one term per k-th root of unity :math:`\omega^l`,

    .. math:: \frac{1}{k} \sum_l \omega^{l(j+1)} \rho^{j+1-k}\,
        \frac{1 - (1 + (t/A) (1 - \rho \omega^l))^{-(s+j)}}{1 - \rho \omega^l},
        \quad \rho = q^{1/k},

    which is averaged over p ~ Beta(a, b + x + m) by Gauss-Jacobi.

    Parameters
    ----------
    theta : ndarray, shape (4,)
    k, m : int
    x : ndarray
        Distinct repeat purchases.
    times : ndarray
        Lengths of time ahead over A = alpha + T.
    digits : float
    """
    r, _alpha, a, b = theta
    longest = float(times.max(initial=0.0))
    reach = 1 / np.expm1(k * np.log1p(1 / longest)) if longest > 0 else 0.0
    power = float(r + k * x.max(initial=0.0) + k)
    p, weight = beta_rule(np.full(len(x), a), b + x + m, largest=reach, power=power, digits=digits)
    log_rho = np.log1p(-np.minimum(p, 1 - 1e-16)) / k
    out = np.empty((k, len(x), len(times)))
    size = max(1, CHUNK // max(1, len(times) * p.shape[1]))
    for at in range(0, len(x), size):
        part = slice(at, at + size)
        out[:, part] = _roots_summed(r + k * x[part], k, times, log_rho[part], weight[part])
    return out


def _roots_summed(s: Floats, k: int, y: Floats, log_rho: Floats, weight: Floats) -> Floats:
    """Sum over the roots of unity, shape (k, len(s), len(y))."""
    rho, less = np.exp(log_rho), -np.expm1(log_rho)
    phase = np.arange(float(k))[:, None, None]
    shares = weight * np.exp((phase + 1 - k) * log_rho) / k
    growth = np.log1p(y[:, None] * less[:, None, :])
    power = (s[:, None] + np.arange(float(k))[:, None, None])[..., None]
    out = np.einsum("jxyp,jxp->jxy", -np.expm1(-power * growth), shares / less)
    for root in range(1, k // 2 + 1):
        turn = np.exp(2j * np.pi * root / k)
        gap = 1 - rho * turn
        # Roots come in conjugate pairs, but for -1.
        twice = 1.0 if 2 * root == k else 2.0
        share = twice * turn ** (phase + 1) * shares / gap
        inverse = 1 / (1 + y[:, None] * gap[:, None, :])
        falls = np.exp(s[:, None, None] * np.log(inverse))
        for j in range(k):
            left = np.einsum("xyp,xp->xy", falls, share[j])
            out[j] += (share[j].sum(axis=1)[:, None] - left).real
            if j < k - 1:
                falls *= inverse
    return np.asarray(out)


def _steps(s: float, k: int, digits: float) -> float:
    """How many purchases from now still come at a time of their own, and not at any.

    The n-th, of n k phases at a rate ~ Gamma(s), is spread by ``1/(n k) + 1/s`` of its square: as
    a wave of period 1/n in relative time it has fallen by ``exp(-2 pi**2 (n/k + n**2/s))``.
    """
    fall = digits * np.log(10) / (2 * np.pi**2)
    return float(s / 2 * (np.sqrt(1 / k**2 + 4 * fall / s) - 1 / k))


def _ahead_by_phase(
    theta: Floats,
    k: int,
    m: int,
    x: Floats,
    T: Floats,
    horizon: float,
    discount: float,
    digits: float,
) -> Floats:
    """Discounted purchases ahead by phase, x and age, shape (k, len(x), len(T)).

    Discounted by parts: purchases until the horizon, and what waiting for each costs.
    """
    ages = theta[1] + T
    if discount == 0:
        return _purchases_by_phase(theta, k, m, x, horizon / ages, digits)
    fastest = float(theta[0] + k * x.max(initial=0.0))
    ahead = TimeAhead.over(
        ages, horizon, discount,
        speed=max(1.0, fastest / k), digits=digits, steps=_steps(fastest, k, digits),
    )  # fmt: skip
    until = _purchases_by_phase(theta, k, m, x, ahead.at, digits)
    return np.asarray(np.einsum("jxc,gc->jxg", until, ahead.weights))


@dataclass(frozen=True)
class RegularBetaGeometric(BuyingModel):
    """An (M)BG/CNBD-k model: regular gaps (Erlang-k), dropout after a purchase ~ Beta(a, b).

    Built by `fit_regular_beta_geometric` or `fit_modified_beta_geometric`, or by hand.

    Attributes
    ----------
    r, alpha : float
        Shape and rate of the gamma distribution of phase rates; a customer buys every
        ``k alpha / r`` units, about.
    a, b : float
        Shapes of the beta distribution of the probability to stop after a purchase.
    k : int
        Phases between purchases: 1 is random buying, and the larger the more regular.
    modified : bool
        Whether a customer may stop after the first purchase already.

    References
    ----------
    Platzer & Reutterer (2016), Ticking away the moments, Marketing Science 35:779-799; Reutterer,
    Platzer & Schroeder (2021), Leveraging purchase regularity for predicting customer behavior the
    easy way, International Journal of Research in Marketing 38:194-215.

    Notes
    -----
    Expected purchases are exact here, given the phases that may have passed since the last
    purchase; the papers approximate them.

    Examples
    --------
    >>> yearly = RegularBetaGeometric(r=20, alpha=130, a=1, b=6, k=8, unit="week")
    >>> [round(float(yearly.probability_alive(3, 156, T)), 2) for T in (160, 208, 260)]
    [0.9, 0.81, 0.16]
    """

    r: float
    alpha: float
    a: float
    b: float
    k: int = 1
    modified: bool = True

    def __post_init__(self) -> None:
        check_positive(**self.values())
        _check_k(self.k)

    def values(self) -> dict[str, float]:
        """Return the parameters by name: r, alpha, a, b."""
        return {"r": self.r, "alpha": self.alpha, "a": self.a, "b": self.b}

    @property
    def n_parameters(self) -> int:
        """Parameters that were chosen: k is one more where it is not 1."""
        return 4 + (self.k > 1)

    @property
    def label(self) -> str:
        """The model's short name."""
        return f"{'M' * self.modified}BG/{'NBD' if self.k == 1 else f'CNBD-{self.k}'}"

    def story(self) -> str:
        """Return what the model takes customers to do."""
        told = {
            "k": number(self.k),
            "unit": unit_word(self.unit),
        }
        if self.modified:
            return _(
                "While active, a customer buys after {k} random events at a rate of their own "
                "(gamma with shape r and rate alpha, per {unit}), so the more events the more "
                "regular; after each purchase, the first included, they stop with a probability "
                "of their own (beta with shapes a and b). Fitted by maximum likelihood (Platzer & "
                "Reutterer 2016).",
                **told,
            )
        return _(
            "While active, a customer buys after {k} random events at a rate of their own (gamma "
            "with shape r and rate alpha, per {unit}), so the more events the more regular; after "
            "each repeat purchase they stop with a probability of their own (beta with shapes a "
            "and b). Fitted by maximum likelihood (Platzer & Reutterer 2016).",
            **told,
        )

    def active(self, patterns: Patterns) -> Floats:
        """Return the probability that each customer is still active."""
        return self._each(patterns, lambda _part, _shares, stays: stays)

    def purchases_if_active(
        self, patterns: Patterns, horizon: float, discount: float = 0.0, *, digits: float = 12
    ) -> Floats:
        """Return discounted purchases ahead of customers who are active at T."""
        ahead = self._ahead(patterns, horizon, discount, digits)
        return self._each(patterns, lambda part, shares, _stays: ahead(part, shares))

    def purchases(
        self, patterns: Patterns, horizon: float, discount: float = 0.0, *, digits: float = 12
    ) -> Floats:
        """Return discounted purchases ahead: both parts from one look at the waiting times."""
        ahead = self._ahead(patterns, horizon, discount, digits)
        return self._each(patterns, lambda part, shares, stays: stays * ahead(part, shares))

    def _each(
        self, patterns: Patterns, answer: Callable[[slice, Floats, Floats], Floats]
    ) -> Floats:
        """Put together what is answered for each part of the patterns."""
        out = np.empty(len(patterns.x))
        for part, shares, stays in self._waiting(patterns):
            out[part] = answer(part, shares, stays)
        return out

    def _waiting(self, patterns: Patterns) -> Iterator[tuple[slice, Floats, Floats]]:
        """Give patterns in parts, with the chance of each phase and of being active at all."""
        m = int(self.modified)
        for at in range(0, len(patterns.x), CHUNK):
            part = slice(at, at + CHUNK)
            x = patterns.x[part]
            logs = _waiting_logs(self.theta, x, patterns.t_x[part], patterns.T[part], self.k)
            top = logs.max(axis=0)
            shares = np.exp(logs - top)
            total = shares.sum(axis=0)
            stops = np.log(self.a / np.maximum(self.b + x + m - 1, _TINY))
            stays = np.where(x + m > 0, special.expit(top + np.log(total) - stops), 1.0)
            yield part, shares / total, stays

    def _ahead(
        self, patterns: Patterns, horizon: float, discount: float, digits: float
    ) -> Callable[[slice, Floats], Floats]:
        """Return what averages purchases ahead over the phases of a part of the patterns."""
        m, x = int(self.modified), patterns.distinct_x
        series, basis = age_series(
            lambda T: _ahead_by_phase(self.theta, self.k, m, x, T, horizon, discount, digits),
            patterns.distinct_age,
            self.alpha,
            digits=digits,
        )

        def averaged(part: slice, shares: Floats) -> Floats:
            # Phases first: a pattern needs one x and one age, not the grid of both.
            own = np.einsum("jm,jmc->mc", shares, series[:, patterns.at_x[part]])
            return np.asarray(np.einsum("mc,mc->m", own, basis[patterns.at_age[part]]))

        return averaged

    def mean_purchases(self, times: Floats) -> Floats:
        """Return repeat purchases expected of a new customer until each time."""
        ahead = _purchases_by_phase(
            self.theta, self.k, int(self.modified), np.zeros(1), np.ravel(times) / self.alpha, 12
        )
        stays = self.b / (self.a + self.b) if self.modified else 1.0
        return np.asarray(stays * ahead[0, 0].reshape(np.shape(times)))

    def frequency_probabilities(self, age: ArrayLike, most: int) -> Floats:
        """How probable are 0, 1, …, `most` repeat purchases within `age`? (by phases).

        Returns
        -------
        ndarray, shape (len(age), most + 1)
        """
        r, alpha, a, b = self.theta
        x, m = np.arange(most + 1.0), int(self.modified)
        ages = np.atleast_1d(np.asarray(age, np.float64))[:, None]
        share = ages / (alpha + ages)
        phases = self.k * np.maximum(x, 1.0)
        at_least = np.where(x > 0, special.betainc(phases, r, share), 1.0)
        one_more = special.betainc(self.k * (x + 1), r, share)
        stays = np.exp(special.betaln(a, b + x + m) - special.betaln(a, b))
        stopped = b + np.maximum(x + m, 1.0) - 1
        stops = np.exp(special.betaln(a + 1, stopped) - special.betaln(a, b))
        stops = np.where(x + m > 0, stops, 0.0)
        return np.asarray(stays * (at_least - one_more) + stops * at_least)

    def log_likelihood_of(self, patterns: Patterns, weight: Floats) -> float:
        """Return the log-likelihood of patterns, without the part of the gaps."""
        return _log_likelihood_alone(
            np.asarray(self.theta), patterns.x, patterns.t_x, patterns.T, weight,
            self.k, int(self.modified),
        )  # fmt: skip


def _check_k(k: int) -> None:
    if k != int(k) or not 1 <= k <= 1_000:
        raise InputError(
            f"'k' must be a whole number of phases from 1 to 1,000; got {k!r}. Pass 1 for random "
            "buying, or None to have it chosen."
        )


# Fit --------------------------------------------------------------------------------------


def fit_modified_beta_geometric(history: PurchaseHistory) -> RegularBetaGeometric:
    """Which MBG/NBD model makes these purchase histories most probable? (maximum likelihood).

    As BG/NBD, but a customer may stop after the first purchase already, so that silence since
    then tells. It is `fit_regular_beta_geometric` with k = 1.

    Parameters
    ----------
    history : PurchaseHistory
        Its groups, if any, are fitted together.

    Returns
    -------
    RegularBetaGeometric
        With k = 1, covariance, log-likelihood and notes.

    Raises
    ------
    InputError
        Fewer than five customers with a repeat purchase.
    NotConvergedError
        No starting point led to a maximum.

    References
    ----------
    Batislam, Denizel & Filiztekin (2007), International Journal of Research in Marketing
    24:201-209.
    """
    return fit_regular_beta_geometric(history, modified=True, k=1)


def fit_regular_beta_geometric(
    history: PurchaseHistory, *, modified: bool = True, k: int | None = None
) -> RegularBetaGeometric:
    """Which (M)BG/CNBD-k model makes these purchases most probable, with which k? (Newton).

    Newton's method with analytic gradient and Hessian on the log-parameters, over distinct
    patterns with weights, from three starting points for each k. k is raised from 1 until two
    more have not raised the likelihood, and the best is kept.

    Parameters
    ----------
    history : PurchaseHistory
        With ``sum_log_gaps``, which tells one k from another; its groups, if any, are fitted
        together.
    modified : bool
        Whether a customer may stop after the first purchase already.
    k : int, optional
        Phases between purchases; chosen by likelihood when not given.

    Returns
    -------
    RegularBetaGeometric
        With covariance, log-likelihood and notes; standard errors take k as known. The
        log-likelihood is None where k is above 1 and the history has no gaps.

    Raises
    ------
    InputError
        Fewer than five customers with a repeat purchase, or k to be chosen without gaps.
    NotConvergedError
        No starting point led to a maximum.

    References
    ----------
    Platzer & Reutterer (2016), Marketing Science 35:779-799; Reutterer, Platzer & Schroeder (2021),
    International Journal of Research in Marketing 38:194-215.

    Examples
    --------
    >>> import polars as pl
    >>> summary = pl.DataFrame({
    ...     "frequency": [0] * 60 + [1, 2, 3, 5, 8] * 6,
    ...     "recency": [0.0] * 60 + [9.0, 14.0, 20.0, 25.0, 29.0] * 6,
    ...     "age": [30.0] * 90,
    ... })
    >>> model = fit_regular_beta_geometric(PurchaseHistory.from_summary(summary), k=1)
    >>> model.label, model.n, round(model.log_likelihood)
    ('MBG/NBD', 90, -402)
    """
    name = f"{'M' * modified}BG/CNBD-k"
    check_repeaters(history, name)
    if k is not None:
        _check_k(k)
        fitted = _fit_one(history, k, modified=modified)
        model = _model(history, fitted, k, modified=modified)
        gaps = 0.0 if k == 1 else _gap_terms(history, k)
        return replace(model, log_likelihood=None if gaps is None else fitted.log_likelihood + gaps)
    if _gap_terms(history, 2) is None:
        raise InputError(
            f"The k of a {name} model was to be chosen by likelihood; the history has no "
            "'sum_log_gaps'. Count it by purchase_history, name its column in from_summary, or "
            "pass k."
        )
    return _best_k(history, modified=modified)


def _best_k(history: PurchaseHistory, *, modified: bool) -> RegularBetaGeometric:
    best: RegularBetaGeometric | None = None
    worse = 0
    for k in range(1, MOST_K + 1):
        fitted = _fit_one(history, k, modified=modified)
        gaps = _gap_terms(history, k)
        assert gaps is not None
        value = fitted.log_likelihood + gaps
        if best is None or best.log_likelihood is None or value > best.log_likelihood:
            best = replace(_model(history, fitted, k, modified=modified), log_likelihood=value)
            worse = 0
        else:
            worse += 1
        if worse == WORSE_IN_A_ROW:
            break
    assert best is not None
    if best.k < MOST_K:
        return best
    note = _(
        "Gaps are more regular than any k that was tried: k stands at its limit of {k}.",
        k=number(MOST_K),
    )
    return replace(best, notes=(*best.notes, note))


def _fit_one(history: PurchaseHistory, k: int, *, modified: bool) -> Fitted:
    def likelihood(
        at: Floats, x: Floats, t_x: Floats, T: Floats, weight: Floats
    ) -> tuple[float, Floats, Floats]:
        return log_likelihood(at, x, t_x, T, weight, k=k, modified=modified)

    def guesses(rate: float) -> list[Floats]:
        shapes = [(0.3, 0.8, 2.4), (1.0, 0.5, 5.0), (4.0, 1.0, 1.0)]
        return [np.array([r, r / (k * rate), a, b]) for r, a, b in shapes]

    label = f"{'M' * modified}BG/CNBD-{k}"
    return climb(history, likelihood, guesses, names=_NAMES, times=(1,), model=label, phases=k)


def _model(
    history: PurchaseHistory, fitted: Fitted, k: int, *, modified: bool
) -> RegularBetaGeometric:
    r, alpha, a, b = (float(value) for value in fitted.theta)
    return RegularBetaGeometric(
        r=r, alpha=alpha, a=a, b=b, k=int(k), modified=modified, unit=history.unit,
        log_covariance=fitted.log_covariance, n=history.n, notes=fitted.notes,
    )  # fmt: skip


def _gap_terms(history: PurchaseHistory, k: int) -> float | None:
    """What the gaps add to the log-likelihood, which differs between k alone."""
    if history.sum_log_gaps is None:
        return None
    n_gaps = float(history.table["frequency"].sum())
    return (k - 1) * history.sum_log_gaps - n_gaps * float(special.gammaln(k))
