"""Intervals: arrays in, bounds out.

Every function takes arrays that broadcast together and returns arrays of the same shape, with
``nan`` where an interval is undefined; `estimates` turns those into nulls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

__all__ = [
    "RANK_DRAWS",
    "Matched",
    "Ranks",
    "SharePosterior",
    "Shrinkage",
    "against_others",
    "bootstrap_interval",
    "exact_rate_interval",
    "homogeneity_p_value",
    "log_log_interval",
    "matched_difference",
    "mean_interval",
    "newcombe_difference",
    "normal_quantile",
    "paule_mandel",
    "rank_draws",
    "ratio_interval",
    "share_posterior",
    "shrink_groups",
    "sum_interval",
    "wilson_interval",
]

Floats = NDArray[np.float64]
Bounds = tuple[Floats, Floats]


def normal_quantile(conf_level: float) -> float:
    """Return the two-sided standard normal quantile: 1.96 for 0.95.

    Examples
    --------
    >>> round(normal_quantile(0.95), 4)
    1.96
    """
    return float(special.ndtri(0.5 + conf_level / 2))


def wilson_interval(k: ArrayLike, n: ArrayLike, conf_level: float = 0.95) -> Bounds:
    """Bound a proportion from `k` successes in `n` trials (Wilson score interval).

    Parameters
    ----------
    k, n : array_like
        Successes and trials, not negative; fractional (effective) counts are allowed.
    conf_level : float

    Returns
    -------
    low, high : ndarray
        ``nan`` where `n` is 0; always within [0, 1].

    References
    ----------
    Wilson (1927), JASA 22:209-212; Brown, Cai & DasGupta (2001), Statistical Science 16:101-133.

    Examples
    --------
    >>> low, high = wilson_interval(18, 20)
    >>> round(float(low), 4), round(float(high), 4)
    (0.699, 0.9721)
    """
    k_, n_ = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    z2 = normal_quantile(conf_level) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        p = k_ / n_
        centre = (p + z2 / (2 * n_)) / (1 + z2 / n_)
        half = np.sqrt(z2 * (p * (1 - p) / n_ + z2 / (4 * n_**2))) / (1 + z2 / n_)
    low = np.where(k_ == 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(k_ == n_, 1.0, np.minimum(centre + half, 1.0))
    return np.where(n_ > 0, low, np.nan), np.where(n_ > 0, high, np.nan)


def exact_rate_interval(events: ArrayLike, exposure: ArrayLike, conf_level: float = 0.95) -> Bounds:
    """Bound a rate from a count of events over an exposure (exact Poisson, Garwood 1936).

    Parameters
    ----------
    events : array_like
        Counted events.
    exposure : array_like
        Time, or units, over which they were counted; ``nan`` bounds where it is 0.

    Examples
    --------
    >>> low, high = exact_rate_interval(0, 10)
    >>> round(float(low), 4), round(float(high), 4)
    (0.0, 0.3689)
    """
    d, t = np.broadcast_arrays(np.asarray(events, np.float64), np.asarray(exposure, np.float64))
    tail = (1 - conf_level) / 2
    low = np.where(d > 0, special.gammaincinv(np.maximum(d, 1e-9), tail), 0.0)
    high = special.gammaincinv(d + 1, 1 - tail)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(t > 0, low / t, np.nan), np.where(t > 0, high / t, np.nan)


def log_log_interval(survival: ArrayLike, std_error: ArrayLike, conf_level: float = 0.95) -> Bounds:
    """Bound a survival probability on the log(-log) scale, so that it stays within (0, 1).

    Parameters
    ----------
    survival, std_error : array_like
        Estimated survival and its standard error (Greenwood).

    Returns
    -------
    low, high : ndarray
        ``nan`` where survival is 0 or 1, at which the scale is undefined.

    References
    ----------
    Kalbfleisch & Prentice (1980), *The Statistical Analysis of Failure Time Data*, section 1.3.
    """
    s, se = np.broadcast_arrays(np.asarray(survival, np.float64), np.asarray(std_error, np.float64))
    inside = (s > 0) & (s < 1)
    safe = np.where(inside, s, 0.5)
    spread = normal_quantile(conf_level) * se / (safe * np.abs(np.log(safe)))
    low = np.where(inside, safe ** np.exp(spread), np.nan)
    high = np.where(inside, safe ** np.exp(-spread), np.nan)
    return low, high


def mean_interval(
    mean: ArrayLike, std_dev: ArrayLike, n: ArrayLike, conf_level: float = 0.95
) -> Bounds:
    """Bound a mean by Student's t; ``nan`` where fewer than two values were seen.

    Parameters
    ----------
    mean, std_dev, n : array_like
        Sample mean, sample standard deviation (n - 1 in the denominator), and sample size.
    """
    m, s, n_ = np.broadcast_arrays(
        np.asarray(mean, np.float64), np.asarray(std_dev, np.float64), np.asarray(n, np.float64)
    )
    enough = n_ > 1
    freedom = np.where(enough, n_ - 1, 1.0)
    half = special.stdtrit(freedom, 0.5 + conf_level / 2) * s / np.sqrt(np.where(enough, n_, 1.0))
    return np.where(enough, m - half, np.nan), np.where(enough, m + half, np.nan)


def newcombe_difference(
    k_1: ArrayLike, n_1: ArrayLike, k_2: ArrayLike, n_2: ArrayLike, conf_level: float = 0.95
) -> Bounds:
    """Bound the difference of two proportions, first minus second (Newcombe's hybrid score).

    References
    ----------
    Newcombe (1998), Statistics in Medicine 17:873-890, method 10.

    Examples
    --------
    >>> low, high = newcombe_difference(56, 70, 48, 80)
    >>> round(float(low), 4), round(float(high), 4)
    (0.0524, 0.3339)
    """
    k1, n1, k2, n2 = (np.asarray(x, np.float64) for x in (k_1, n_1, k_2, n_2))
    low_1, high_1 = wilson_interval(k1, n1, conf_level)
    low_2, high_2 = wilson_interval(k2, n2, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        p1, p2 = k1 / n1, k2 / n2
    down = np.sqrt((p1 - low_1) ** 2 + (high_2 - p2) ** 2)
    up = np.sqrt((high_1 - p1) ** 2 + (p2 - low_2) ** 2)
    return np.asarray(p1 - p2 - down), np.asarray(p1 - p2 + up)


def sum_interval(estimates: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[float, float]:
    r"""Bound a sum of independent estimates from the interval of each (MOVER).

    .. math:: L = \sum \theta_i - \sqrt{\sum (\theta_i - l_i)^2}, \quad
              U = \sum \theta_i + \sqrt{\sum (u_i - \theta_i)^2}

    Keeps what is lopsided lopsided, where standard errors would not.

    Parameters
    ----------
    estimates, low, high : array_like, shape (k,)
        ``nan`` bounds make the sum's ``nan``.

    References
    ----------
    Zou & Donner (2008), Statistics in Medicine 27:1693-1702.

    Examples
    --------
    >>> sum_interval([10, 20], [7, 16], [13, 24])
    (25.0, 35.0)
    """
    x, lows, highs = (np.asarray(a, np.float64) for a in (estimates, low, high))
    down, up = np.sqrt(np.sum((x - lows) ** 2)), np.sqrt(np.sum((highs - x) ** 2))
    return float(x.sum() - down), float(x.sum() + up)


@dataclass(frozen=True)
class Matched:
    """Two shares over the same mix of strata, and their difference: estimate, low, high."""

    first: tuple[float, float, float]
    other: tuple[float, float, float]
    difference: tuple[float, float, float]


def matched_difference(
    k_1: ArrayLike, n_1: ArrayLike, k_0: ArrayLike, n_0: ArrayLike, conf_level: float = 0.95
) -> Matched:
    r"""Compare two shares as if both had the mix of the first (direct standardisation, MOVER).

    With :math:`w_s = n_{1s} / n_1`, the difference is :math:`\sum_s w_s (p_{1s} - p_{0s})`; its
    bounds are put together from Wilson's of each stratum and side.

    Parameters
    ----------
    k_1, n_1, k_0, n_0 : array_like, shape (strata,)
        Yes and all, of the first and of the other, in strata that hold both.

    References
    ----------
    Yan & Su (2010), Statistics in Biopharmaceutical Research 2:329-335; Zou & Donner (2008),
    Statistics in Medicine 27:1693-1702.

    Examples
    --------
    >>> found = matched_difference([56], [70], [48], [80])  # one stratum: Newcombe's interval
    >>> [round(value, 4) for value in found.difference]
    [0.2, 0.0524, 0.3339]
    """
    k1, n1, k0, n0 = (np.asarray(x, np.float64) for x in (k_1, n_1, k_0, n_0))
    weight = n1 / n1.sum()
    first, other = (_in_mix(k, n, weight, conf_level) for k, n in ((k1, n1), (k0, n0)))
    gap = first[0] - other[0]
    down = float(np.hypot(first[0] - first[1], other[2] - other[0]))
    up = float(np.hypot(first[2] - first[0], other[0] - other[1]))
    return Matched(first, other, (gap, gap - down, gap + up))


def _in_mix(k: Floats, n: Floats, weight: Floats, conf_level: float) -> tuple[float, float, float]:
    share = k / n
    bounds = wilson_interval(k, n, conf_level)
    low, high = sum_interval(weight * share, *(weight * bound for bound in bounds))
    return float((weight * share).sum()), max(low, 0.0), min(high, 1.0)


def homogeneity_p_value(
    estimates: ArrayLike, std_errors: ArrayLike, *, freedom: float | None = None
) -> float | None:
    """Test whether groups differ at all (Cochran's Q against chi-squared, k - 1 degrees).

    Parameters
    ----------
    estimates, std_errors : array_like, shape (k,)
    freedom : float, optional
        Degrees of freedom of one variance pooled over the groups, from which every standard
        error was made; the test is then the F test of the analysis of variance.

    Returns
    -------
    float or None
        None when fewer than two groups have a positive standard error.

    References
    ----------
    Cochran (1954), Biometrics 10:101-129.
    """
    x = np.asarray(estimates, np.float64)
    se = np.asarray(std_errors, np.float64)
    usable = np.isfinite(x) & np.isfinite(se) & (se > 0)
    if usable.sum() < 2:
        return None
    weight = 1 / se[usable] ** 2
    centre = np.sum(weight * x[usable]) / np.sum(weight)
    q = np.sum(weight * (x[usable] - centre) ** 2)
    groups = int(usable.sum()) - 1
    if freedom is not None:
        return float(special.fdtrc(groups, freedom, q / groups))
    return float(special.chdtrc(groups, q))


def linear_drift(
    estimates: ArrayLike, std_errors: ArrayLike, conf_level: float = 0.95
) -> tuple[float, float, float] | None:
    """Return by how much estimates in a row rise from one to the next, with an interval.

    The weighted least-squares slope over 0, 1, 2, ...; where the estimates scatter about the line
    by more than their errors, the interval is wider for it (Birge's ratio).

    Parameters
    ----------
    estimates, std_errors : array_like, shape (k,)
    conf_level : float

    Returns
    -------
    tuple of (slope, low, high), or None
        None when fewer than three of them have a positive standard error.

    References
    ----------
    Birge (1932), Physical Review 40:207-227.

    Examples
    --------
    >>> [round(part, 3) for part in linear_drift([1.0, 2.0, 3.0], [0.1, 0.1, 0.1])]
    [1.0, 0.861, 1.139]
    """
    y, se = np.asarray(estimates, np.float64), np.asarray(std_errors, np.float64)
    usable = np.isfinite(y) & np.isfinite(se) & (se > 0)
    if usable.sum() < 3:
        return None
    x, y, weight = np.flatnonzero(usable).astype(np.float64), y[usable], 1 / se[usable] ** 2
    x -= np.average(x, weights=weight)
    spread = np.sum(weight * x**2)
    slope = np.sum(weight * x * y) / spread
    left = np.sum(weight * (y - np.average(y, weights=weight) - slope * x) ** 2)
    half = normal_quantile(conf_level) * np.sqrt(max(1.0, left / (len(y) - 2)) / spread)
    return float(slope), float(slope - half), float(slope + half)


def against_others(estimates: ArrayLike, std_errors: ArrayLike) -> tuple[Floats, Floats]:
    """How far is each group from the mean of the others, weighted by how well they are known.

    Parameters
    ----------
    estimates, std_errors : array_like, shape (k,)
        Finite estimates of at least two groups, with positive standard errors.

    Returns
    -------
    gap, std_error : ndarray, shape (k,)

    Examples
    --------
    >>> gap, error = against_others([1, 2, 3], [1, 1, 1])
    >>> gap.tolist(), error.round(3).tolist()
    ([-1.5, 0.0, 1.5], [1.225, 1.225, 1.225])
    """
    value, error = np.asarray(estimates, np.float64), np.asarray(std_errors, np.float64)
    weight = 1 / error**2
    rest = weight.sum() - weight
    others = ((weight * value).sum() - weight * value) / rest
    return value - others, np.sqrt(error**2 + 1 / rest)


def paule_mandel(estimates: ArrayLike, std_errors: ArrayLike) -> float:
    r"""Estimate the variance between the true values of groups (Paule & Mandel's moments).

    The root of :math:`\sum (y_i - \mu(\tau^2))^2 / (\sigma_i^2 + \tau^2) = k - 1`, or 0 when
    the groups scatter less than chance alone would make them. Small-area statistics knows it
    as the moment estimator of Fay & Herriot (1979).

    Parameters
    ----------
    estimates, std_errors : array_like, shape (k,)
        One finite estimate and one positive standard error per group, at least two groups.

    References
    ----------
    Paule & Mandel (1982), J. Res. NBS 87:377-385; recommended over DerSimonian & Laird's by
    Veroniki et al. (2016), Research Synthesis Methods 7:55-79.

    Examples
    --------
    >>> round(paule_mandel([0, 4, 8], [1, 1, 1]), 6)
    15.0
    """
    y, variance = np.asarray(estimates, np.float64), np.asarray(std_errors, np.float64) ** 2

    def excess(tau2: float) -> float:
        weight = 1 / (variance + tau2)
        centre = np.sum(weight * y) / np.sum(weight)
        return float(np.sum(weight * (y - centre) ** 2)) - (len(y) - 1)

    if excess(0.0) <= 0:
        return 0.0
    # With all variances 0 the root would be the sample variance; it is never beyond k times it.
    most = float(np.sum((y - y.mean()) ** 2))
    return float(optimize.brentq(excess, 0.0, most, xtol=1e-12 * most, rtol=1e-12))


@dataclass(frozen=True)
class Shrinkage:
    r"""Groups drawn toward their common mean, each as far as its own answers are few.

    Attributes
    ----------
    estimate, std_error, low, high, weight : ndarray, shape (k,)
        Shrunk estimate, root of its mean squared error, its interval, and the weight
        :math:`w_i` of the group's own estimate.
    centre : float
        The common mean.
    between_variance : float
        :math:`\tau^2`, the variance between the groups' true values.
    """

    estimate: Floats
    std_error: Floats
    low: Floats
    high: Floats
    weight: Floats
    centre: float
    between_variance: float


def shrink_groups(
    estimates: ArrayLike, std_errors: ArrayLike, conf_level: float = 0.95
) -> Shrinkage:
    r"""Draw the estimates of groups toward their common mean (normal-normal empirical Bayes).

    .. math:: \hat\theta_i = \mu + w_i (y_i - \mu), \quad
              w_i = \tau^2 / (\tau^2 + \sigma_i^2)

    with :math:`\tau^2` by Paule & Mandel. The interval rests on the mean squared error of
    Prasad & Rao, which knows that :math:`\mu` and :math:`\tau^2` are themselves estimated
    :math:`(g_1 + g_2 + 2 g_3)`, and never more than :math:`\sigma_i^2`: the plain interval of
    empirical Bayes has no width at all where :math:`\tau^2` is estimated to be 0.

    Parameters
    ----------
    estimates, std_errors : array_like, shape (k,)
        One finite estimate and one positive standard error per group, at least three groups:
        from two nothing can be learnt about how groups vary.
    conf_level : float

    References
    ----------
    Fay & Herriot (1979), JASA 74:269-277; Prasad & Rao (1990), JASA 85:163-171; Datta, Rao &
    Smith (2005), Biometrika 92:183-196 (the variance of this :math:`\tau^2`).

    Examples
    --------
    >>> shrink_groups([0, 4, 8], [1, 1, 1]).estimate.round(2).tolist()
    [0.25, 4.0, 7.75]
    """
    y, variance = np.asarray(estimates, np.float64), np.asarray(std_errors, np.float64) ** 2
    tau2 = paule_mandel(y, np.sqrt(variance))
    total = variance + tau2
    centre = float(np.sum(y / total) / np.sum(1 / total))
    weight = tau2 / total
    g1 = weight * variance
    g2 = (1 - weight) ** 2 / np.sum(1 / total)
    g3 = variance**2 / total**3 * (2 * len(y) / np.sum(1 / total) ** 2)
    std_error = np.sqrt(np.minimum(g1 + g2 + 2 * g3, variance))
    shrunk = centre + weight * (y - centre)
    half = normal_quantile(conf_level) * std_error
    return Shrinkage(shrunk, std_error, shrunk - half, shrunk + half, weight, centre, tau2)


@dataclass(frozen=True)
class SharePosterior:
    """What the shares of groups have in common: a beta distribution, known through a grid.

    Attributes
    ----------
    mean, concentration, weight : ndarray, shape (g,)
        Mean of the beta distribution, how tightly groups lie about it, and the posterior
        weight of that pair; the weights add to one.
    """

    mean: Floats
    concentration: Floats
    weight: Floats

    def shrink(self, k: ArrayLike, n: ArrayLike, conf_level: float = 0.95) -> Shrinkage:
        """Draw the shares `k` / `n` toward what they have in common.

        The mean and variance of each group are averaged over the grid; its interval is that of
        the beta distribution with these moments (Kass & Steffey 1989, JASA 84:717-726).
        """
        k_, n_ = (np.asarray(x, np.float64)[:, None] for x in (k, n))
        kappa, total = self.concentration, n_ + self.concentration
        each = (self.mean * kappa + k_) / total
        estimate = each @ self.weight
        variance = (each * (1 - each) / (total + 1) + each**2) @ self.weight - estimate**2
        size = estimate * (1 - estimate) / variance - 1
        tail = (1 - conf_level) / 2
        low, high = (
            np.asarray(special.betaincinv(size * estimate, size * (1 - estimate), p), np.float64)
            for p in (tail, 1 - tail)
        )
        spread = self.mean * (1 - self.mean) / (kappa + 1)
        return Shrinkage(
            estimate, np.sqrt(variance), low, high, (n_ / total) @ self.weight,
            float(self.mean @ self.weight), float(spread @ self.weight),
        )  # fmt: skip

    def draw(self, k: ArrayLike, n: ArrayLike, size: int, seed: int = 0) -> Floats:
        """Draw the groups' true shares together, shape (size, k)."""
        rng = np.random.default_rng(seed)
        at = rng.choice(len(self.weight), size, p=self.weight)
        kappa, mean = self.concentration[at, None], self.mean[at, None]
        k_, n_ = np.asarray(k, np.float64), np.asarray(n, np.float64)
        return np.asarray(rng.beta(mean * kappa + k_, (1 - mean) * kappa + n_ - k_))


_LARGEST_SPREAD = 2.0
"""Least concentration looked at is 1 / 4: shares that lie mostly at 0 and 1."""
_SPREADS, _MEANS = 40, 21
_NEGLIGIBLE = 12.0
"""Log-likelihood below the best at which a value is left out."""


def share_posterior(k: ArrayLike, n: ArrayLike) -> SharePosterior:
    r"""Learn from several groups how their shares vary (hierarchical beta-binomial model).

    .. math:: k_i \sim \mathrm{Bin}(n_i, \theta_i), \quad
              \theta_i \sim \mathrm{Beta}(\mu\kappa, (1 - \mu)\kappa), \quad
              p(\mu, \kappa^{-1/2}) \propto 1

    The mean and the concentration are not put in as if they were known, as plain empirical Bayes
    does: everything is averaged over what they may be. A spread of 0, groups that do not differ,
    is among the possible ones, so few groups are not sure to differ.

    Parameters
    ----------
    k, n : array_like, shape (groups,)
        Successes and trials, fractional (effective) counts allowed; three groups or more, with
        at least one trial between them.

    References
    ----------
    Gelman et al. (2013), *Bayesian Data Analysis*, third edition, section 5.3 (the prior).

    Examples
    --------
    >>> k, n = [18, 3, 30], [20, 4, 60]
    >>> share_posterior(k, n).shrink(k, n).estimate.round(2).tolist()
    [0.85, 0.71, 0.51]
    """
    k_, n_ = np.asarray(k, np.float64), np.asarray(n, np.float64)
    widest = _LARGEST_SPREAD
    for points in (200, _SPREADS):
        spread = (np.arange(points) + 0.5) / points * widest
        mean, step = _means_of(spread, k_, n_)
        rows = (
            slice(None) if points == _SPREADS else slice(_MEANS // 2, _MEANS // 2 + 1)
        )  # at first the middle alone, to see how far the spread reaches
        kappa = (1 / spread**2)[:, None]
        fit = _log_likelihood(mean[:, rows], kappa, k_, n_)
        likely = spread[fit.max(axis=1) > fit.max() - _NEGLIGIBLE]
        widest = float(likely.max()) + widest / points
    log_weight = fit + np.log(step) + np.log(mean) + np.log1p(-mean)
    weight = np.exp(log_weight - log_weight.max()).ravel()
    kept = weight > np.exp(-_NEGLIGIBLE) * weight.max()
    return SharePosterior(
        mean.ravel()[kept],
        np.broadcast_to(kappa, mean.shape).ravel()[kept],
        weight[kept] / weight[kept].sum(),
    )


def _means_of(spread: Floats, k: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Return the means looked at for each spread, on a grid of log odds, and its step."""
    centre = (k.sum() + 0.5) / (n.sum() + 1)
    alike = spread**2 / (1 + spread**2)  # correlation within groups
    known = (n[n > 0] / (1 + (n[n > 0] - 1) * alike[:, None])).sum(axis=1)
    error = 1 / np.sqrt(centre * (1 - centre) * known)
    reach = 5 * np.maximum(error, 0.05)
    grid = np.linspace(-1, 1, _MEANS)
    log_odds = special.logit(centre) + reach[:, None] * grid
    return special.expit(log_odds), np.broadcast_to(reach[:, None], log_odds.shape)


def _log_likelihood(mean: Floats, kappa: Floats, k: Floats, n: Floats) -> Floats:
    a, b = mean * kappa, (1 - mean) * kappa
    total = np.zeros(a.shape)
    for won, size in zip(k, n, strict=True):
        total += special.betaln(a + won, b + size - won)
    return np.asarray(total - len(k) * special.betaln(a, b))


@dataclass(frozen=True)
class Ranks:
    """How well the order of groups is known; rank 1 is the highest.

    Attributes
    ----------
    low, high : ndarray of float, shape (k,)
        Best and worst rank that a group may have.
    best : ndarray, shape (k,)
        Probability of being the highest; they add to one.
    """

    low: Floats
    high: Floats
    best: Floats


RANK_DRAWS = 4_000
"""Draws behind a rank: its probability of being best is within 0.02 of the exact one."""


def rank_draws(draws: ArrayLike, conf_level: float = 0.95) -> Ranks:
    """Rank groups in each joint draw of their true values, and bound each rank.

    Parameters
    ----------
    draws : array_like, shape (draws, k)
        Each row one possible set of true values.
    conf_level : float
        At least this share of the draws have the rank within its bounds.

    References
    ----------
    Goldstein & Spiegelhalter (1996), JRSS A 159:385-443 (league tables and their uncertainty).

    Examples
    --------
    >>> ranks = rank_draws([[3, 2, 1], [3, 1, 2]])
    >>> ranks.low.tolist(), ranks.high.tolist(), ranks.best.tolist()
    ([1.0, 2.0, 2.0], [1.0, 3.0, 3.0], [1.0, 0.0, 0.0])
    """
    values = np.asarray(draws, np.float64)
    ranks = (-values).argsort(axis=1, kind="stable").argsort(axis=1) + 1
    tail = (1 - conf_level) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return Ranks(low.astype(float), high.astype(float), (ranks == 1).mean(axis=0))


def ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, conf_level: float = 0.95
) -> tuple[float, float, float, float]:
    r"""Bound a ratio of two sums over independent units, such as customers (linearised variance).

    .. math:: R = \frac{\sum y_i}{\sum x_i}, \qquad
              \mathrm{se} = \frac{\sqrt{\frac{n}{n - 1} \sum (y_i - R x_i)^2}}{\sum x_i}

    Parameters
    ----------
    numerators, denominators : array_like, shape (n,)
        One value a unit; a unit's several rows are summed before, so that they count as one.
    conf_level : float

    Returns
    -------
    estimate, std_error, low, high : float
        All ``nan`` where the denominators sum to nothing; the last three where there are fewer
        than two units.

    References
    ----------
    Cochran (1977), *Sampling Techniques*, third edition, sections 2.11 and 6.4.

    Examples
    --------
    >>> [round(value, 4) for value in ratio_interval([1, 0, 1, 1], [1, 1, 1, 1])]
    [0.75, 0.25, 0.26, 1.24]
    """
    y, x = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    n, total = len(y), float(x.sum())
    nan = float("nan")
    if total == 0:
        return nan, nan, nan, nan
    ratio = float(y.sum()) / total
    if n < 2:
        return ratio, nan, nan, nan
    error = float(np.sqrt(n / (n - 1) * np.sum((y - ratio * x) ** 2))) / abs(total)
    half = normal_quantile(conf_level) * error
    return ratio, error, ratio - half, ratio + half


def bootstrap_interval(
    values: NDArray[Any],
    statistic: Callable[[NDArray[Any]], float],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    conf_level: float = 0.95,
) -> tuple[float, float, float]:
    """Bound any statistic of independent units by resampling them (percentile bootstrap).

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        One row per independent unit, such as a customer.
    statistic : callable
        Takes an array like `values` and returns one number.
    n_resamples, seed : int
        The same seed gives the same interval.

    Returns
    -------
    std_error, low, high : float
        ``nan`` where there are fewer than two units.

    References
    ----------
    Efron & Tibshirani (1993), *An Introduction to the Bootstrap*, chapter 13.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    draws = np.array(
        [statistic(values[rng.integers(0, n, n)]) for _ in range(n_resamples)], np.float64
    )
    tail = (1 - conf_level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(draws.std(ddof=1)), float(low), float(high)
