"""How often customers use discrete opportunities until they stop (BG/BB).

At each opportunity (a year, a season, a campaign) an active customer buys with a probability of
their own, and before each may have stopped, with another (both beta over customers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import special

from crm_analysis.dates import TIME_UNITS, TimeUnit, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.frames import check_as_of, check_one_of, collect, require_columns
from crm_analysis.lifetime.history import days_in, open_purchase_days
from crm_analysis.lifetime.model_parameters import (
    FittedModel,
    ModelParameters,
    best_of,
    check_positive,
    covariance_and_notes,
)
from crm_analysis.wording import _

__all__ = [
    "BetaGeometricBetaBinomial",
    "OpportunityHistory",
    "fit_beta_geometric_beta_binomial",
    "opportunity_history",
]

Floats = NDArray[np.float64]

LEAST_BUYERS = 5
"""Four parameters from fewer customers who bought again say nothing."""

_NAMES = ("alpha", "beta", "gamma", "delta")
_KEYS = ("frequency", "recency", "n_opportunities")


# Count ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class OpportunityHistory:
    """How many opportunities customers used, and which one last.

    Attributes
    ----------
    table : polars DataFrame
        ``frequency`` (opportunities used, x), ``recency`` (number of the last one used, t_x; 0
        without any) and ``n_opportunities`` (n), Int64; and ``weight``, how many customers share
        the row. Other columns are kept.

    Examples
    --------
    >>> table = pl.DataFrame({"frequency": [0, 2], "recency": [0, 3], "n_opportunities": [6, 6]})
    >>> OpportunityHistory(table).n
    2
    """

    table: pl.DataFrame

    def __post_init__(self) -> None:
        require_columns(self.table.columns, dict.fromkeys(_KEYS, "OpportunityHistory"))
        table = self.table.with_columns(pl.col(_KEYS).cast(pl.Int64))
        if "weight" not in table.columns:
            table = table.with_columns(weight=pl.lit(1, pl.Int64))
        object.__setattr__(self, "table", table)
        x, last, n = (pl.col(name) for name in _KEYS)
        wrong = table.filter(
            (x < 0) | (x > last) | (last > n) | ((x == 0) & (last > 0)) | (pl.col("weight") < 0)
            | pl.any_horizontal(pl.col(*_KEYS, "weight").is_null())
        )  # fmt: skip
        if wrong.height:
            row = wrong.select(_KEYS).row(0)
            raise InputError(
                "Opportunities need 0 <= frequency <= recency <= n_opportunities, with recency 0 "
                f"where nothing was bought; {wrong.height} of {table.height} rows differ, for "
                f"example frequency {row[0]}, recency {row[1]}, n_opportunities {row[2]}. Correct "
                "or leave out those rows."
            )

    @property
    def n(self) -> int:
        """Number of customers."""
        return int(self.table["weight"].sum())

    @cached_property
    def patterns(self) -> pl.DataFrame:
        """Distinct rows with ``weight``, how many customers share them."""
        return self.table.group_by(_KEYS).agg(pl.col("weight").sum()).sort(_KEYS)


def opportunity_history(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    period: TimeUnit = "year",
    as_of: date,
) -> OpportunityHistory:
    """In how many periods after the first purchase did each customer buy again, and in which last.

    Periods run from the customer's own first day and have the mean length of their unit; only
    those that had ended by `as_of` count.

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col : str
        Columns of the customer's key and of the day.
    period : {"day", "week", "month", "year"}
        Length of an opportunity: for services due each year, a year.
    as_of : date
        Last day counted.

    Returns
    -------
    OpportunityHistory
        With the customer's column. Customers without a whole period are in it, with n of 0.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null where it must not be.
    """
    as_of = check_as_of(as_of)
    check_one_of("period", period, TIME_UNITS)
    days = open_purchase_days(purchases, customer_col=customer_col, at_col=at_col, as_of=as_of)
    length = days_in(period)
    waited = (nw.col("day") - nw.col("first")).cast(nw.Float64)
    # Day d of the life stands in period ceil(d / length), numbered from 1; the first day in 0.
    place = (waited / length).ceil().cast(nw.Int64)
    whole = (nw.lit(float(to_day_number(as_of))) - nw.col("first").cast(nw.Float64)) / length
    counted = (
        days.with_columns(place.alias("place"), whole.floor().cast(nw.Int64).alias("whole"))
        .with_columns(
            ((nw.col("place") > 0) & (nw.col("place") <= nw.col("whole")))
            .cast(nw.Int64)
            .alias("used")
        )
        .group_by("customer", "place", "whole")
        .agg(nw.col("used").max().alias("used"))
        .with_columns((nw.col("used") * nw.col("place")).alias("used_place"))
        .group_by("customer")
        .agg(
            nw.col("used").sum().alias("frequency"),
            nw.col("used_place").max().alias("recency"),
            nw.col("whole").max().alias("n_opportunities"),
        )
    )
    table = collect(counted, order=["customer"])
    return OpportunityHistory(table.rename({"customer": customer_col}))


# Likelihood -------------------------------------------------------------------------------


def _branches(t_x: Floats, n: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Opportunities lived through in each way a history can have come about, (ways, m).

    Stopped after opportunity t_x + i, for every i below n - t_x; the last row is active at n.
    """
    longest = int((n - t_x).max(initial=0))
    lived = t_x + np.arange(longest + 1.0)[:, None]
    possible = lived < n
    lived = np.concatenate([np.where(possible, lived, t_x), n[None]])
    stops = np.ones((len(lived), 1))
    stops[-1] = 0
    return lived, stops, np.concatenate([possible, np.ones((1, len(n)), bool)])


def log_likelihood(
    log_theta: Floats, x: Floats, t_x: Floats, n: Floats, weight: Floats
) -> tuple[float, Floats, Floats]:
    r"""Return the log-likelihood with gradient and Hessian in the log-parameters.

    .. math:: L = \frac{B(\alpha+x, \beta+n-x)}{B(\alpha, \beta)}
        \frac{B(\gamma, \delta+n)}{B(\gamma, \delta)}
        + \sum_{i=0}^{n-t_x-1} \frac{B(\alpha+x, \beta+t_x-x+i)}{B(\alpha, \beta)}
        \frac{B(\gamma+1, \delta+t_x+i)}{B(\gamma, \delta)}

    References
    ----------
    Fader, Hardie & Shang (2010), Customer-base analysis in a discrete-time noncontractual setting,
    Marketing Science 29:1086-1108, equation 5.
    """
    theta = np.exp(log_theta)
    alpha, beta, gamma, delta = theta
    lived, stops, possible = _branches(t_x, n)
    missed = lived - x
    logs = (
        special.betaln(alpha + x, beta + missed) - special.betaln(alpha, beta)
        + special.betaln(gamma + stops, delta + lived) - special.betaln(gamma, delta)
    )  # fmt: skip
    logs = np.where(possible, logs, -np.inf)
    top = logs.max(axis=0)
    share = np.exp(logs - top)
    total = share.sum(axis=0)
    share /= total
    value = float(weight @ (top + np.log(total)))

    def derivatives(order: int) -> tuple[Floats, ...]:
        def f(at: Floats | float) -> Floats:
            return np.asarray(special.psi(at) if order == 0 else special.polygamma(order, at))

        buys = f(alpha + beta) - f(alpha + beta + lived)
        stays = f(gamma + delta) - f(gamma + delta + lived + stops)
        own = (
            f(alpha + x) - f(alpha) + 0 * lived,
            f(beta + missed) - f(beta),
            f(gamma + stops) - f(gamma) + 0 * lived,
            f(delta + lived) - f(delta),
        )
        return buys, stays, *own

    buys, stays, *own = derivatives(0)
    first = np.stack([own[0] + buys, own[1] + buys, own[2] + stays, own[3] + stays])
    means = np.einsum("ibm,bm->im", first, share)
    weighted = share * weight
    curve = np.einsum("ibm,jbm,bm->ij", first, first, weighted)
    curve -= np.einsum("im,jm->ij", means * weight, means)
    buys, stays, *own = derivatives(1)
    curve[:2, :2] += (weighted * buys).sum()
    curve[2:, 2:] += (weighted * stays).sum()
    curve += np.diag([(weighted * part).sum() for part in own])
    slope = means @ weight
    return value, theta * slope, np.outer(theta, theta) * curve + np.diag(theta * slope)


# Model ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BetaGeometricBetaBinomial(FittedModel):
    """A BG/BB model: buying at an opportunity, and stopping before one, are both beta.

    Built by `fit_beta_geometric_beta_binomial`, or by hand from a paper's figures.

    Attributes
    ----------
    alpha, beta : float
        Shapes of the distribution of the probability to buy at an opportunity while active.
    gamma, delta : float
        Shapes of the distribution of the probability to stop before an opportunity.

    References
    ----------
    Fader, Hardie & Shang (2010), Marketing Science 29:1086-1108.

    Examples
    --------
    >>> donors = BetaGeometricBetaBinomial(alpha=1.204, beta=0.750, gamma=0.657, delta=2.783)
    >>> round(float(donors.expected_purchases(5, 6, 6, 6)), 2)
    3.75
    """

    alpha: float
    beta: float
    gamma: float
    delta: float

    def __post_init__(self) -> None:
        check_positive(**self.values())

    def values(self) -> dict[str, float]:
        """Return the parameters by name: alpha, beta, gamma, delta."""
        return {
            "alpha": self.alpha, "beta": self.beta, "gamma": self.gamma, "delta": self.delta,
        }  # fmt: skip

    def _active_at_last(self, x: Floats, t_x: Floats, n: Floats) -> Floats:
        """Probability of having been active at opportunity n."""
        lived, stops, possible = _branches(t_x.ravel(), n.ravel())
        logs = special.betaln(self.alpha + x.ravel(), self.beta + lived - x.ravel())
        logs = logs + special.betaln(self.gamma + stops, self.delta + lived)
        logs = np.where(possible, logs, -np.inf)
        return np.asarray(np.exp(logs[-1] - special.logsumexp(logs, axis=0)).reshape(x.shape))

    def probability_alive(self, x: ArrayLike, t_x: ArrayLike, n: ArrayLike) -> Floats:
        """How probable is it that a customer is active at the next opportunity? (equation 11).

        Parameters
        ----------
        x, t_x, n : array_like
            Opportunities used, the last one used (0 without any), and opportunities so far.
        """
        x_, t_, n_ = _checked(x, t_x, n)
        stays = (self.delta + n_) / (self.gamma + self.delta + n_)
        return np.asarray(self._active_at_last(x_, t_, n_) * stays)

    def expected_purchases(
        self, horizon: int, x: ArrayLike, t_x: ArrayLike, n: ArrayLike
    ) -> Floats:
        """How many of the next `horizon` opportunities will a customer use? (equation 13).

        Parameters
        ----------
        horizon : int
            Opportunities ahead.
        x, t_x, n : array_like
            As in `probability_alive`.
        """
        x_, t_, n_ = _checked(x, t_x, n)
        ahead = np.arange(1.0, _whole_horizon(horizon) + 1)
        stays = np.exp(
            special.betaln(self.gamma, self.delta + n_[..., None] + ahead)
            - special.betaln(self.gamma, self.delta + n_)[..., None]
        )
        return np.asarray(self._buys_while_active(x_, t_, n_) * stays.sum(axis=-1))

    def discounted_expected_transactions(
        self, x: ArrayLike, t_x: ArrayLike, n: ArrayLike, *, discount_rate: float
    ) -> Floats:
        """What are a customer's coming purchases worth in purchases of today? (DERT, equation 14).

        Parameters
        ----------
        x, t_x, n : array_like
            As in `probability_alive`.
        discount_rate : float
            Effective rate from one opportunity to the next, above 0; the next one is discounted
            once.
        """
        if not (np.isfinite(discount_rate) and discount_rate > 0):
            raise InputError(
                f"'discount_rate' must be above 0 for a sum without end; got {discount_rate!r}. "
                "Pass 0.10 for ten per cent an opportunity."
            )
        x_, t_, n_ = _checked(x, t_x, n)
        stays, both = self.delta + n_, self.gamma + self.delta + n_
        z = 1 / (1 + discount_rate)
        series = z * stays / both * special.hyp2f1(1.0, stays + 1, both + 1, z)
        return np.asarray(self._buys_while_active(x_, t_, n_) * series)

    def _buys_while_active(self, x: Floats, t_x: Floats, n: Floats) -> Floats:
        buys = (self.alpha + x) / (self.alpha + self.beta + n)
        return np.asarray(self._active_at_last(x, t_x, n) * buys)

    def expected_purchases_new(self, horizon: int) -> float:
        """How many of the first `horizon` opportunities will a new customer use? (equation 8)."""
        return float(self.expected_purchases(horizon, 0, 0, 0))

    def frequency_probabilities(self, n_opportunities: int) -> Floats:
        """How probable are 0, 1, …, n uses of n opportunities? (equation 7).

        Returns
        -------
        ndarray, shape (n + 1,)
        """
        n = _whole_horizon(n_opportunities)
        x = np.arange(n + 1.0)[:, None]
        lived = np.arange(n + 1.0)
        stays = np.where(
            lived < n,
            special.betaln(self.gamma + 1, self.delta + lived),
            special.betaln(self.gamma, self.delta + lived),
        ) - special.betaln(self.gamma, self.delta)
        possible = lived >= x
        missed = np.where(possible, lived - x, 0.0)
        buys = special.betaln(self.alpha + x, self.beta + missed)
        buys = buys - special.betaln(self.alpha, self.beta)
        ways = special.gammaln(lived + 1) - special.gammaln(x + 1) - special.gammaln(missed + 1)
        return np.asarray(np.where(possible, np.exp(ways + buys + stays), 0.0).sum(axis=1))

    def parameters(self, *, conf_level: float = 0.95) -> ModelParameters:
        """Return the parameters with standard errors and intervals.

        Returns
        -------
        ModelParameters
            Columns ``parameter``, ``n`` (customers), ``estimate``, ``std_error``, ``conf_low``,
            ``conf_high`` (normal on the log scale); null where the model was built by hand.
        """
        return self.shown(
            _("BG/BB model of opportunities used"),
            _(
                "At each opportunity an active customer buys with a probability of their own (beta "
                "with shapes alpha and beta), and may have stopped before it with another (beta "
                "with shapes gamma and delta). Fitted by maximum likelihood (Fader, Hardie & Shang "
                "2010)."
            ),
            model="BG/BB",
            conf_level=conf_level,
        )


def _checked(x: ArrayLike, t_x: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats, Floats]:
    x_, t_, n_ = np.broadcast_arrays(
        np.asarray(x, np.float64), np.asarray(t_x, np.float64), np.asarray(n, np.float64)
    )
    whole = (x_ == np.floor(x_)) & (t_ == np.floor(t_)) & (n_ == np.floor(n_))
    good = whole & (x_ >= 0) & (x_ <= t_) & (t_ <= n_) & ((x_ > 0) | (t_ == 0))
    if not good.all():
        at = np.unravel_index(int(np.argmin(good)), good.shape)
        raise InputError(
            "A prediction needs whole 0 <= x <= t_x <= n, with t_x 0 where x is 0; got x = "
            f"{x_[at]:g}, t_x = {t_[at]:g}, n = {n_[at]:g}. Pass opportunities used, the last one "
            "used, and opportunities so far."
        )
    return x_, t_, n_


def _whole_horizon(horizon: int) -> int:
    if horizon != int(horizon) or horizon < 0:
        raise InputError(
            f"A whole number of opportunities of 0 or more was asked for; got {horizon!r}. "
            "Pass, for example, 5."
        )
    return int(horizon)


# Fit --------------------------------------------------------------------------------------


def fit_beta_geometric_beta_binomial(history: OpportunityHistory) -> BetaGeometricBetaBinomial:
    """Which BG/BB model makes these uses of opportunities most probable? (maximum likelihood).

    Newton's method with analytic gradient and Hessian on the log-parameters, over distinct
    patterns with weights, from three starting points.

    Parameters
    ----------
    history : OpportunityHistory

    Returns
    -------
    BetaGeometricBetaBinomial
        With covariance, log-likelihood and notes.

    Raises
    ------
    InputError
        Fewer than five customers used an opportunity.
    NotConvergedError
        No starting point led to a maximum.

    References
    ----------
    Fader, Hardie & Shang (2010), Marketing Science 29:1086-1108.
    """
    x, t_x, n, weight = (
        history.patterns[c].to_numpy().astype(np.float64) for c in (*_KEYS, "weight")
    )
    buyers = float(weight[x > 0].sum())
    if buyers < LEAST_BUYERS:
        raise InputError(
            f"A BG/BB model was to be fitted; only {buyers:.0f} of {history.n} customers used an "
            f"opportunity, and at least {LEAST_BUYERS} are needed. Count a longer period, or more "
            "customers together."
        )
    end = best_of(
        lambda theta: log_likelihood(theta, x, t_x, n, weight),
        _starts(),
        names=_NAMES,
        model="BG/BB",
    )
    covariance, notes = covariance_and_notes(end, _NAMES)
    alpha, beta, gamma, delta = (float(value) for value in np.exp(end.at))
    return BetaGeometricBetaBinomial(
        alpha=alpha, beta=beta, gamma=gamma, delta=delta, log_covariance=covariance,
        log_likelihood=end.value, n=history.n, notes=notes,
    )  # fmt: skip


def _starts() -> Sequence[Floats]:
    guesses = [(1.0, 1.0, 0.5, 3.0), (0.5, 2.0, 1.0, 10.0), (5.0, 5.0, 1.0, 1.0)]
    return [np.log(np.array(guess)) for guess in guesses]
