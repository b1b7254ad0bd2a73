"""A logistic model of leaving, and what its predictions are worth."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special, stats

from crm_analysis.estimates import (
    five_columns,
    share_columns,
)
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, percent

__all__ = ["RiskModel", "bands", "concordance", "fit_risk", "tenths"]

Floats = NDArray[np.float64]

_TENTHS = 10
_BANDS = (0.25, 0.5)
"""Where the bands of risk begin: below a quarter, to a half, above."""

_WIDEST = 1e4
"""A coefficient with a larger variance runs off: some factor tells the outcome apart."""


@dataclass(frozen=True)
class RiskModel:
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
        """Return the chance of leaving for each row of traits."""
        return np.asarray(special.expit(_design(x) @ self.coefficients), np.float64)


def _design(x: Floats) -> Floats:
    return np.column_stack([np.ones(len(x)), x])


def fit_risk(x: Floats, k: Floats, n: Floats) -> RiskModel | None:
    """Return the fitted model; None where the data do not determine one."""
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    model = sm.GLM(np.column_stack([k, n - k]), _design(x), family=sm.families.Binomial())
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
    return RiskModel(np.asarray(fitted.params, np.float64), covariance)


def concordance(
    p: Floats, k: Floats, n: Floats, conf_level: float
) -> tuple[float, float, float, float]:
    """Return the chance that one who left was given more risk than one who stayed (DeLong)."""
    left, stayed = np.repeat(p, k.astype(int)), np.repeat(p, (n - k).astype(int))
    if min(len(left), len(stayed)) < 2:
        return (float("nan"),) * 4
    ranks = stats.rankdata(np.concatenate([left, stayed]))
    own_left, own_stayed = stats.rankdata(left), stats.rankdata(stayed)
    above = (ranks[: len(left)] - own_left) / len(stayed)
    below = 1 - (ranks[len(left) :] - own_stayed) / len(left)
    area = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / len(left) + below.var(ddof=1) / len(stayed)))
    if not 0 < area < 1 or error == 0:
        return area, error, float("nan"), float("nan")
    # On the logit scale the interval stays inside (0, 1).
    half = normal_quantile(conf_level) * error / (area * (1 - area))
    low, high = special.expit(special.logit(area) + np.array([-half, half]))
    return area, error, float(low), float(high)


def tenths(p: Floats, k: Floats, n: Floats, conf_level: float) -> pl.DataFrame:
    """Put customers into ten classes by predicted risk and say how many of each have left."""
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
        pl.col("k").cast(pl.Int64).alias("n_left"), **five,
    )  # fmt: skip


def bands(
    model: RiskModel | None, p: Floats, x: Floats, n: Floats, conf_level: float
) -> pl.DataFrame:
    """Say how many customers of each band of risk are expected to leave, and how sure that is."""
    labels = (
        _("risk below {share}", share=percent(_BANDS[0], 0)),
        _("risk of {low} to {high}", low=percent(_BANDS[0], 0), high=percent(_BANDS[1], 0)),
        _("risk above {share}", share=percent(_BANDS[1], 0)),
    )
    rows = []
    for which, label in enumerate(labels):
        if model is None:
            rows.append((label, 0.0, *[float("nan")] * 4))
            continue
        own = np.digitize(p, _BANDS) == which
        risk, size = p[own], n[own]
        expected = float(np.sum(size * risk))
        slope = (size * risk * (1 - risk)) @ _design(x[own])
        # Chance of each customer, and doubt about the model.
        variance = float(np.sum(size * risk * (1 - risk)) + slope @ model.covariance @ slope)
        half = normal_quantile(conf_level) * np.sqrt(variance)
        total = float(size.sum())
        rows.append((label, total, expected, np.sqrt(variance), max(expected - half, 0.0),
                     min(expected + half, total)))  # fmt: skip
    names, *columns = zip(*rows, strict=True)
    return pl.DataFrame({"risk": pl.Series(names, dtype=pl.String), **five_columns(*columns)})
