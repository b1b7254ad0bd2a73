"""What customers spend per purchase, when spending differs more between than within (Gamma-Gamma).

A customer's purchases scatter around their own mean (gamma with shape p); the means differ over
customers (through a gamma with shape q and scale v).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import special

from crm_analysis.errors import InputError
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.model_parameters import (
    FittedModel,
    ModelParameters,
    best_of,
    check_positive,
    covariance_and_notes,
)
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, number, percent

__all__ = ["GammaGamma", "fit_gamma_gamma"]

Floats = NDArray[np.float64]

LEAST_SPENDERS = 5
"""Three parameters from fewer customers with a valued repeat say nothing."""

MOST_LEFT_OUT = 0.5
"""When more than this share has no positive mean, a model of positive spending is refused."""

NOTABLE_CORRELATION = 0.1
"""Below this a dependence of spend on frequency moves value by little."""

_NAMES = ("p", "q", "v")


def log_likelihood(
    log_theta: Floats, x: Floats, m: Floats, weight: Floats
) -> tuple[float, Floats, Floats]:
    r"""Return the log-likelihood of mean spends with gradient and Hessian in log-parameters.

    .. math:: L = \frac{\Gamma(px+q)}{\Gamma(px)\Gamma(q)}
        \frac{v^q m^{px-1} x^{px}}{(v + mx)^{px+q}}

    Parameters
    ----------
    log_theta : ndarray, shape (3,)
        Logarithms of p, q, v.
    x, m, weight : ndarray, shape (k,)
        Purchases averaged, their positive mean, and how many customers share the pattern.

    References
    ----------
    Fader & Hardie (2013), The Gamma-Gamma model of monetary value, note 025, equation 1a.
    """
    theta = np.exp(log_theta)
    p, q, v = theta
    s, total, n = p * x, v + m * x, weight.sum()
    log_total = np.log(total)
    value = weight @ (
        special.gammaln(s + q) - special.gammaln(s) + (s - 1) * np.log(m) + s * np.log(x)
        - (s + q) * log_total
    ) + n * (q * np.log(v) - special.gammaln(q))  # fmt: skip
    psi, psi_1 = special.psi(s + q), special.polygamma(1, s + q)
    slope = np.array([
        (weight * x) @ (psi - special.psi(s) + np.log(m * x) - log_total),
        weight @ (psi - log_total) + n * (np.log(v) - special.psi(q)),
        n * q / v - weight @ ((s + q) / total),
    ])  # fmt: skip
    curve = np.empty((3, 3))
    curve[0, 0] = (weight * x**2) @ (psi_1 - special.polygamma(1, s))
    curve[0, 1] = curve[1, 0] = (weight * x) @ psi_1
    curve[0, 2] = curve[2, 0] = -((weight * x) @ (1 / total))
    curve[1, 1] = weight @ psi_1 - n * special.polygamma(1, q)
    curve[1, 2] = curve[2, 1] = n / v - weight @ (1 / total)
    curve[2, 2] = -n * q / v**2 + weight @ ((s + q) / total**2)
    return float(value), theta * slope, np.outer(theta, theta) * curve + np.diag(theta * slope)


def spend_weights(theta: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Return c0, c1 so that the conditional mean spend is ``c0 + c1 * m`` (equation 5).

    A credibility mean: the more purchases, the less the whole weighs. Null mean, x = 0: c1 = 0.
    ``inf`` where the model has no mean.
    """
    p, q, v = theta
    below = p * x + q - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        c0 = np.where(below > 0, p * v / below, np.inf)
        c1 = np.where(below > 0, p * x / below, 0.0)
    return c0, c1


@dataclass(frozen=True)
class GammaGamma(FittedModel):
    """A Gamma-Gamma model of spend per purchase.

    Built by `fit_gamma_gamma`, or by hand from a paper's figures.

    Attributes
    ----------
    p : float
        Shape of the scatter of one customer's purchases around their mean.
    q, v : float
        Shape and scale of the differences between customers; v in the unit of money.
    correlation : float or None
        Pearson's correlation of frequency with mean spend, which the model takes to be none.

    References
    ----------
    Fader, Hardie & Lee (2005), RFM and CLV, Journal of Marketing Research 42:415-430;
    Fader & Hardie (2013), note 025.

    Examples
    --------
    >>> model = GammaGamma(p=6.25, q=3.74, v=15.44)
    >>> round(model.mean_spend(), 2)
    35.22
    >>> round(float(model.expected_spend(2, 22.35)), 2)
    24.66
    """

    p: float
    q: float
    v: float
    correlation: float | None = None

    def __post_init__(self) -> None:
        check_positive(**self.values())

    def values(self) -> dict[str, float]:
        """Return the parameters by name: p, q, v."""
        return {"p": self.p, "q": self.q, "v": self.v}

    @property
    def theta(self) -> Floats:
        """The parameters as an array, shape (3,)."""
        return np.array([self.p, self.q, self.v])

    def mean_spend(self) -> float | None:
        """What does a customer of whom nothing is known spend per purchase? (the mean).

        ``p v / (q - 1)``; None when q is at most 1, where the model has no mean.
        """
        return self.p * self.v / (self.q - 1) if self.q > 1 else None

    def expected_spend(self, n_purchases: ArrayLike, mean_value: ArrayLike) -> Floats:
        """What will a customer spend per purchase, given what they have spent? (equation 5).

        Parameters
        ----------
        n_purchases : array_like
            Repeat purchases of known value; 0 gives the mean of all customers.
        mean_value : array_like
            Their mean; ignored where `n_purchases` is 0.

        Returns
        -------
        ndarray
            ``(p v + p x m) / (p x + q - 1)``; ``inf`` where that mean does not exist.
        """
        x, m = np.broadcast_arrays(
            np.asarray(n_purchases, np.float64), np.asarray(mean_value, np.float64)
        )
        c0, c1 = spend_weights(self.theta, x)
        return np.asarray(c0 + c1 * np.where(x > 0, m, 0.0))

    def parameters(self, *, conf_level: float = 0.95) -> ModelParameters:
        """Return the parameters with standard errors and intervals.

        Returns
        -------
        ModelParameters
            Columns ``parameter``, ``n`` (customers), ``estimate``, ``std_error``, ``conf_low``,
            ``conf_high`` (normal on the log scale); null where the model was built by hand.
        """
        return self.shown(
            _("Gamma-Gamma model of spend"),
            _(
                "A customer's purchases scatter around their own mean (gamma with shape p); these "
                "means differ over customers (gamma with shape q and scale v, in money). Fitted by "
                "maximum likelihood to repeat purchases (Fader & Hardie 2013)."
            ),
            model="Gamma-Gamma",
            conf_level=conf_level,
        )


def fit_gamma_gamma(history: PurchaseHistory) -> GammaGamma:
    """Which Gamma-Gamma model makes these spends most probable? (maximum likelihood).

    Newton's method with analytic gradient and Hessian on the log-parameters, from three starting
    points, on values divided by their mean. Fitted to customers with a repeat purchase of known
    value and a positive mean; the others are left out, and counted in a note.

    Parameters
    ----------
    history : PurchaseHistory
        Counted with a value column.

    Returns
    -------
    GammaGamma
        With covariance, log-likelihood, the correlation of frequency with spend, and notes.

    Raises
    ------
    InputError
        No values were counted, fewer than five customers have a positive mean, or most have none.
    NotConvergedError
        No starting point led to a maximum.

    References
    ----------
    Fader & Hardie (2013), The Gamma-Gamma model of monetary value, note 025.
    """
    if history.value_name is None:
        raise InputError(
            "A Gamma-Gamma model of spend was to be fitted; the history was counted without "
            "values. Pass 'value_col' to purchase_history, for example value_col='margin'."
        )
    valued = history.table.filter(pl.col("n_valued") > 0)
    positive = valued.filter(pl.col("mean_value") > 0)
    _check_spenders(history, valued.height, positive.height)
    patterns = positive.group_by("n_valued", "mean_value").agg(pl.len()).sort(pl.all())
    x, m, weight = (patterns[c].cast(pl.Float64).to_numpy() for c in patterns.columns)
    scale = float(weight @ m / weight.sum())
    starts = [np.log(np.array(guess)) for guess in ((4.0, 3.0, 0.5), (1.0, 5.0, 4.0), (20, 20, 1))]
    end = best_of(
        lambda theta: log_likelihood(theta, x, m / scale, weight),
        starts,
        names=_NAMES,
        model="Gamma-Gamma",
    )
    p, q, v = (float(value) for value in np.exp(end.at))
    covariance, notes = covariance_and_notes(end, _NAMES)
    correlation = _correlation(x, m, weight)
    return GammaGamma(
        p=p,
        q=q,
        v=v * scale,
        correlation=correlation,
        log_covariance=covariance,
        log_likelihood=end.value - float(weight.sum()) * float(np.log(scale)),
        n=positive.height,
        notes=notes
        + _mean_notes(q)
        + _left_out_notes(valued.height, positive.height)
        + _correlation_notes(correlation, positive.height),
    )


def _check_spenders(history: PurchaseHistory, n_valued: int, n_positive: int) -> None:
    asked = f"A Gamma-Gamma model of {history.value_name!r} was to be fitted"
    if n_positive < LEAST_SPENDERS:
        raise InputError(
            f"{asked}; only {n_positive} of {history.n} customers have a repeat purchase of known "
            f"value with a mean above zero, and at least {LEAST_SPENDERS} are needed. Count a "
            "longer period or more customers together, or name another column of values."
        )
    if n_positive < (1 - MOST_LEFT_OUT) * n_valued:
        raise InputError(
            f"{asked}; {n_valued - n_positive} of {n_valued} customers with valued repeat "
            "purchases have a mean of zero or less, and the model knows positive spending only. "
            "Value revenue instead, or leave out purchases that were free of charge."
        )


def _correlation(x: Floats, m: Floats, weight: Floats) -> float | None:
    n = weight.sum()
    dx, dm = x - weight @ x / n, m - weight @ m / n
    spread = float(np.sqrt((weight @ dx**2) * (weight @ dm**2)))
    # Spreads of rounding alone say nothing.
    if spread <= 1e-12 * float(np.sqrt((weight @ x**2) * (weight @ m**2))):
        return None
    return float((weight @ (dx * dm)) / spread)


def _correlation_notes(correlation: float | None, n: int) -> tuple[str, ...]:
    if correlation is None or n <= 3:
        return ()
    half = normal_quantile(0.95) / np.sqrt(n - 3)
    middle = np.arctanh(np.clip(correlation, -0.999999, 0.999999))
    low, high = np.tanh(middle - half), np.tanh(middle + half)
    values = {
        "r": number(correlation, 2), "low": number(low, 2), "high": number(high, 2)
    }  # fmt: skip
    if abs(correlation) > NOTABLE_CORRELATION and (low > 0 or high < 0):
        return (
            _(
                "Spend per purchase goes with frequency (correlation {r}, 95% interval {low} to "
                "{high}); the model takes them to be independent, so values of frequent buyers "
                "are biased.",
                **values,
            ),
        )
    if abs(correlation) > NOTABLE_CORRELATION:
        return (
            _(
                "Whether spend per purchase goes with frequency is open (correlation {r}, 95% "
                "interval {low} to {high}); the model takes them to be independent.",
                **values,
            ),
        )
    return (
        _(
            "Spend per purchase hardly goes with frequency (correlation {r}, 95% interval {low} "
            "to {high}), as the model assumes.",
            **values,
        ),
    )


def _mean_notes(q: float) -> tuple[str, ...]:
    if q > 1:
        return ()
    return (
        _(
            "Spend differs so widely over customers that the model has no mean (q is at most 1): "
            "nothing can be said of customers without a valued repeat purchase."
        ),
    )


def _left_out_notes(n_valued: int, n_positive: int) -> tuple[str, ...]:
    left_out = n_valued - n_positive
    if not left_out:
        return ()
    return (
        _(
            "{k} of {n} customers ({share}) have a mean value of zero or less and are left out of "
            "the spend model, which knows positive values only; the mean of all is too high for "
            "that.",
            k=number(left_out),
            n=number(n_valued),
            share=percent(left_out / n_valued),
        ),
    )
