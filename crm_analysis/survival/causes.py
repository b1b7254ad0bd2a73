"""What share has ended by so long, and of what cause, when there are several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crm_analysis.survival.curves import KaplanMeier, kaplan_meier

__all__ = ["CumulativeIncidence", "aalen_johansen"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CumulativeIncidence:
    """Cumulative incidence of competing causes at the distinct durations.

    Attributes
    ----------
    curve : KaplanMeier
        The share not ended of any cause, with durations and numbers at risk.
    n_exits : ndarray of int64, shape (causes, m)
        Spells that end of each cause at each duration.
    incidence, std_error : ndarray of float64, shape (causes, m)
        Share ended of each cause by each duration; over causes they sum to 1 - survival.
    """

    curve: KaplanMeier
    n_exits: NDArray[np.int64]
    incidence: Floats
    std_error: Floats


def aalen_johansen(
    time: NDArray[Any], n_entered: NDArray[Any], n_exits: NDArray[Any], n_censored: NDArray[Any]
) -> CumulativeIncidence:
    r"""Estimate what share has ended of each cause by each duration (Aalen-Johansen).

    .. math:: F_k(t) = \sum_{u \le t} S(u-)\, d_{ku} / n_u

    One minus Kaplan-Meier with the other causes censored is not this: it answers what would
    happen were there no other cause, and adds up to more than everybody. Ties of several causes
    at one duration are exact, as they stand: all of them are drawn from the same n at risk.

    The variance is Greenwood's, of the multinomial split at each duration:

    .. math:: \mathrm{var}\,F_k(t) = \sum_{u \le t} (F_k(t) - F_k(u))^2 \frac{d_u}{n_u (n_u - d_u)}
              + S(u-)^2 \frac{d_{ku} (n_u - d_{ku})}{n_u^3}
              - 2 (F_k(t) - F_k(u)) S(u-) \frac{d_{ku}}{n_u^2}

    Without censoring it is F (1 - F) / n; with one cause it is Kaplan-Meier's.

    Parameters
    ----------
    time, n_entered, n_censored : ndarray, shape (m,)
        As for `kaplan_meier`; late entry (left truncation) is allowed.
    n_exits : ndarray, shape (causes, m)

    References
    ----------
    Aalen & Johansen (1978), Scand. J. Statistics 5:141-150; Gaynor et al. (1993), JASA
    88:400-409; Allignol, Schumacher & Beyersmann (2010), Biometrical J. 52:126-137, who
    recommend this variance where entry is late.

    Examples
    --------
    >>> exits = np.array([[0, 1, 0], [0, 1, 1]])  # two causes tie at time 1
    >>> cif = aalen_johansen(np.arange(3), np.array([4, 0, 0]), exits, np.array([0, 0, 1]))
    >>> cif.incidence[:, -1].tolist(), float(cif.curve.survival[-1])
    ([0.25, 0.5], 0.25)
    """
    ended = np.atleast_2d(np.asarray(n_exits, np.int64))
    curve = kaplan_meier(time, n_entered, ended.sum(axis=0), n_censored)
    n, d = curve.n_at_risk.astype(np.float64), curve.n_exits.astype(np.float64)
    before = np.concatenate([[1.0], curve.survival[:-1]])
    share = np.divide(before, n, out=np.zeros_like(before), where=n > 0)
    incidence = np.cumsum(share * ended, axis=1)
    split = n > d
    stay = np.divide(d, n * (n - d), out=np.zeros_like(d), where=split & (n > 0))
    own = _over(share**2 * ended * (n - ended), n)
    cross = _over(share * ended, n)
    # (F(t) - F(u))^2 and its product with S(u-) open into running sums: one pass, no loop.
    variance = (
        incidence**2 * np.cumsum(stay)
        - 2 * incidence * np.cumsum(incidence * stay, axis=1)
        + np.cumsum(incidence**2 * stay, axis=1)
        + np.cumsum(own, axis=1)
        - 2 * incidence * np.cumsum(cross, axis=1)
        + 2 * np.cumsum(incidence * cross, axis=1)
    )
    return CumulativeIncidence(curve, ended, incidence, np.sqrt(np.maximum(variance, 0.0)))


def _over(values: Floats, n: Floats) -> Floats:
    return np.divide(values, n, out=np.zeros_like(values), where=n > 0)
