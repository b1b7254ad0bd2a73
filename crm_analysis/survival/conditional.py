"""How long those take who end of one cause, when there are others and some are still open."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crm_analysis.survival.causes import CumulativeIncidence
from crm_analysis.survival.curves import KaplanMeier, Quantile, quantile

__all__ = ["CauseTimes", "cause_times"]

Floats = NDArray[np.float64]

_NOTHING = Quantile(float("nan"), float("nan"), float("nan"))


class CauseTimes(NamedTuple):
    """Times to one cause, among those who end of it within a horizon; ``nan``: not observed.

    ``share`` is how many end of it by then, ``quantiles`` are in the unit of the durations, and
    so are ``mean`` and its ``std_error``.
    """

    share: float
    quantiles: tuple[Quantile, ...]
    mean: float
    std_error: float


def cause_times(
    found: CumulativeIncidence,
    cause: int,
    horizon: float,
    shares: tuple[float, ...] = (0.5, 0.9),
    conf_level: float = 0.95,
) -> CauseTimes:
    r"""Find how long those take who end of a cause within a horizon.

    .. math:: G(t) = F_k(t) / F_k(\tau), \qquad
              \mu = \frac{\sum_{u \le \tau} u\, S(u-)\, d_{ku} / n_u}{F_k(\tau)}

    Whoever is still open counts as watched so far, and whoever ends of another cause is not made
    to wait for this one. Variances are the delta method's, of the multinomial split at each
    duration; the quantiles' bounds are those of `quantile` on the curve 1 - G, and never beyond
    the horizon. Without censoring G is the distribution of the durations of those who ended so.

    Parameters
    ----------
    found : CumulativeIncidence
    cause : int
        Its row in ``found.incidence``.
    horizon : float
        In the unit of the durations.
    shares : tuple of float
        Which quantiles: 0.5 is the median.
    conf_level : float

    References
    ----------
    Aalen & Johansen (1978), Scand. J. Statistics 5:141-150; Gaynor et al. (1993), JASA 88:400-409.

    Examples
    --------
    >>> from crm_analysis.survival import aalen_johansen
    >>> exits = np.array([[0, 1, 0, 1], [0, 0, 2, 0]])  # two won after 1 and 3, two lost after 2
    >>> cif = aalen_johansen(np.arange(4), np.array([4, 0, 0, 0]), exits, np.zeros(4, np.int64))
    >>> times = cause_times(cif, 0, 3)
    >>> times.share, times.quantiles[0].time, times.mean
    (0.5, 1.0, 2.0)
    """
    curve = found.curve
    inside = curve.time <= horizon
    known = inside.any() and (curve.time[-1] >= horizon or curve.survival[-1] == 0)
    share = float(found.incidence[cause][inside][-1]) if known else float("nan")
    if not share > 0:
        return CauseTimes(share, (_NOTHING,) * len(shares), float("nan"), float("nan"))
    time = curve.time[inside]
    done = found.incidence[cause][inside] / share
    spread = _spread(found, cause, inside) / share
    waiting = KaplanMeier(
        time, curve.n_at_risk[inside], found.n_exits[cause][inside], 1 - done, spread
    )
    found_at = [quantile(waiting, one, conf_level) for one in shares]
    bounded = tuple(
        one._replace(high=horizon if np.isnan(one.high) else one.high) for one in found_at
    )
    return CauseTimes(share, bounded, *_mean(found, cause, inside))


def _split(found: CumulativeIncidence, cause: int, inside: NDArray[Any]) -> tuple[Floats, ...]:
    """Return n at risk, exits of the cause and of any, and the share not ended just before."""
    n = np.maximum(found.curve.n_at_risk[inside].astype(np.float64), 1)  # nobody at risk, no exit
    before = np.concatenate([[1.0], found.curve.survival[inside][:-1]])
    own, every = found.n_exits[cause][inside], found.curve.n_exits[inside]
    return n, own.astype(np.float64), every.astype(np.float64), before


def _spread(found: CumulativeIncidence, cause: int, inside: NDArray[Any]) -> Floats:
    """Return the standard error of F(t) - G(t) F(horizon), G held at its estimate."""
    n, own, every, before = _split(found, cause, inside)
    at = found.incidence[cause][inside]
    end = at[-1]
    stay = np.divide(every, n * (n - every), out=np.zeros_like(n), where=n > every)
    cross = before * own / n**2
    # (F(t) - F(u)) (F(s) - F(u)) opens into running sums over u, for s = t and s = horizon.
    own_sum = np.cumsum(before**2 * own * (n - own) / n**3)
    stays, stays_at, stays_sq = (np.cumsum(stay * at**k) for k in (0, 1, 2))
    crosses, crosses_at = np.cumsum(cross), np.cumsum(cross * at)

    def covariance(other: Floats | float) -> Floats:
        """Of F(t) and F(s), with `other` the F(s) of an s not before t."""
        both = at + other
        apart = at * other * stays - both * stays_at + stays_sq
        return np.asarray(own_sum - both * crosses + 2 * crosses_at + apart)

    done = at / end
    variance = covariance(at)
    apart = variance + done**2 * variance[-1] - 2 * done * covariance(end)
    return np.asarray(np.sqrt(np.maximum(apart, 0.0)))


def _mean(found: CumulativeIncidence, cause: int, inside: NDArray[Any]) -> tuple[float, float]:
    """Return the mean duration of those who end of the cause, and its standard error."""
    n, own, every, before = _split(found, cause, inside)
    time, step = found.curve.time[inside].astype(np.float64), before * own / n
    share = float(step.sum())
    mean = float((time * step).sum()) / share
    late = np.cumsum((time - mean) * step)
    left = np.divide(late[-1] - late, 1 - every / n, out=np.zeros_like(n), where=n > every)
    ours, others = before * (time - mean) - left, -left
    p, q = own / n, (every - own) / n
    variance = float(np.sum((ours**2 * p + others**2 * q - (ours * p + others * q) ** 2) / n))
    return mean, float(np.sqrt(max(variance, 0.0))) / share
