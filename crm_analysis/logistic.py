"""A logistic model of who will, and what its predictions are worth out of time.

Of customers who leave, of leads that are won: whatever either comes within a horizon or does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special, stats

from crm_analysis.estimates import five_columns, share_columns
from crm_analysis.uncertainty import normal_quantile

__all__ = ["LogisticModel", "concordance", "expected_by_band", "fit_logistic", "tenths"]

Floats = NDArray[np.float64]

_TENTHS = 10

_WIDEST = 1e4
"""A coefficient with a larger variance runs off: some factor tells the outcome apart."""


@dataclass(frozen=True)
class LogisticModel:
    """A fitted logistic model.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (1 + traits,)
        Log odds: first the constant.
    covariance : ndarray of float64, shape (1 + traits, 1 + traits)
    """

    coefficients: Floats
    covariance: Floats

    def predict(self, x: Floats) -> Floats:
        """Return the chance for each row of traits."""
        return np.asarray(special.expit(_design(x) @ self.coefficients), np.float64)


def _design(x: Floats) -> Floats:
    return np.column_stack([np.ones(len(x)), x])


def fit_logistic(x: Floats, k: Floats, n: Floats) -> LogisticModel | None:
    """Fit `k` of `n` in each row of traits; None where the data do not determine a model."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    model = GLM(np.column_stack([k, n - k]), _design(x), family=Binomial())
    # Where a factor tells all apart the odds run off, and are seen to have done so below.
    with warnings.catch_warnings(), np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        warnings.simplefilter("error", PerfectSeparationWarning)
        try:
            fitted = model.fit(maxiter=100)
        except (PerfectSeparationWarning, np.linalg.LinAlgError):
            return None
    covariance = np.asarray(fitted.cov_params(), np.float64)
    spread = np.diag(covariance)
    if not (fitted.converged and np.isfinite(spread).all() and (spread < _WIDEST).all()):
        return None
    return LogisticModel(np.asarray(fitted.params, np.float64), covariance)


def concordance(
    p: Floats, k: Floats, n: Floats, conf_level: float
) -> tuple[float, float, float, float]:
    """Return the chance that a case was given more than another, its error and bounds (DeLong)."""
    cases, others = np.repeat(p, k.astype(int)), np.repeat(p, (n - k).astype(int))
    if min(len(cases), len(others)) < 2:
        return (float("nan"),) * 4
    ranks = stats.rankdata(np.concatenate([cases, others]))
    own_cases, own_others = stats.rankdata(cases), stats.rankdata(others)
    above = (ranks[: len(cases)] - own_cases) / len(others)
    below = 1 - (ranks[len(cases) :] - own_others) / len(cases)
    area = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / len(cases) + below.var(ddof=1) / len(others)))
    if not 0 < area < 1 or error == 0:
        return area, error, float("nan"), float("nan")
    # On the logit scale the interval stays inside (0, 1).
    half = normal_quantile(conf_level) * error / (area * (1 - area))
    low, high = special.expit(special.logit(area) + np.array([-half, half]))
    return area, error, float(low), float(high)


def tenths(p: Floats, k: Floats, n: Floats, conf_level: float, *, came: str) -> pl.DataFrame:
    """Make ten classes by predicted chance; column `came` says of how many in each it came true."""
    order = np.argsort(p, kind="stable")
    before = np.cumsum(n[order]) - n[order]
    # A pattern goes whole into the class where its middle lies: ties are never split.
    tenth = np.empty(len(p), np.int64)
    tenth[order] = ((before + n[order] / 2) / max(n.sum(), 1) * _TENTHS).astype(np.int64)
    table = (
        pl.DataFrame({"tenth": tenth + 1, "n": n, "k": k, "sum": p * n})
        .group_by("tenth")
        .agg(pl.col("n", "k", "sum").sum())
        .sort("tenth")
    )
    five = share_columns(table["k"], table["n"], conf_level)
    return table.select(
        "tenth", (pl.col("sum") / pl.col("n")).alias("predicted"),
        pl.col("k").cast(pl.Int64).alias(came), **five,
    )  # fmt: skip


def expected_by_band(
    model: LogisticModel | None, p: Floats, x: Floats, cuts: Sequence[float], conf_level: float
) -> dict[str, pl.Series]:
    """Say how many of each band of chance are expected to, and how sure that is: five columns.

    The bands are those between the `cuts`, the lowest first. The interval is a prediction's: it
    carries the chance of each and doubt about the model.
    """
    rows = []
    for which in range(len(cuts) + 1):
        if model is None:
            rows.append((0.0, *[float("nan")] * 4))
            continue
        own = np.digitize(p, cuts) == which
        chance, total = p[own], float(own.sum())
        expected = float(chance.sum())
        slope = (chance * (1 - chance)) @ _design(x[own])
        variance = float((chance * (1 - chance)).sum() + slope @ model.covariance @ slope)
        half = normal_quantile(conf_level) * np.sqrt(variance)
        low, high = max(expected - half, 0.0), min(expected + half, total)
        rows.append((total, expected, np.sqrt(variance), low, high))
    return five_columns(*zip(*rows, strict=True))
