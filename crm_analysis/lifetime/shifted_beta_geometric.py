"""How long contracts are renewed, when every customer tosses a coin of their own (sBG).

At each renewal a customer leaves with a probability of their own (beta over customers). Retention
rises with age though nobody becomes more loyal: those who leave easily have left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import special

from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.frames import Asked, check_as_of, collect, open_table, require_columns
from crm_analysis.lifetime.model_parameters import (
    FittedModel,
    ModelParameters,
    best_of,
    check_positive,
    covariance_and_notes,
)
from crm_analysis.wording import _

__all__ = [
    "RenewalCounts",
    "ShiftedBetaGeometric",
    "fit_shifted_beta_geometric",
    "renewal_counts",
]

Floats = NDArray[np.float64]

LEAST_RENEWALS = 5
"""Two parameters from fewer renewals due say nothing."""

_NAMES = ("alpha", "beta")


# Count ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RenewalCounts:
    """Contracts due for their first, second, … renewal, and how many were renewed.

    Attributes
    ----------
    table : polars DataFrame
        ``period`` (1 for the first renewal), ``n_due`` and ``n_renewed``, all Int64. Contracts
        not due yet are in no row, which is all that censoring asks for.
    n : int
        Contracts in all: those due for the first renewal.

    Examples
    --------
    >>> RenewalCounts.from_survivors([1000, 869, 743]).table.rows()
    [(1, 1000, 869), (2, 869, 743)]
    """

    table: pl.DataFrame

    def __post_init__(self) -> None:
        wanted = ("period", "n_due", "n_renewed")
        require_columns(self.table.columns, dict.fromkeys(wanted, "RenewalCounts"))
        object.__setattr__(self, "table", self.table.select(pl.col(wanted).cast(pl.Int64)))
        wrong = self.table.filter(
            (pl.col("period") < 1)
            | (pl.col("n_renewed") < 0)
            | (pl.col("n_renewed") > pl.col("n_due"))
            | pl.any_horizontal(pl.col(wanted).is_null())
        )
        if wrong.height or self.table["period"].is_duplicated().any():
            raise InputError(
                "Renewals need one row for each period from 1 with 0 <= n_renewed <= n_due; "
                f"{wrong.height} of {self.table.height} rows differ or a period stands twice. "
                "Correct the counts, or count them by renewal_counts."
            )

    @classmethod
    def from_survivors(cls, survivors: Sequence[float]) -> RenewalCounts:
        """Take one cohort's customers at the start and after each renewal, as papers print them.

        Raises
        ------
        InputError
            Fewer than two numbers, or numbers that rise.
        """
        counts = np.asarray(survivors, np.float64)
        whole = counts.ndim == 1 and len(counts) > 1 and bool((counts == np.floor(counts)).all())
        if not whole or (np.diff(counts) > 0).any() or counts[-1] < 0:
            raise InputError(
                "Survivors were asked for as whole numbers that never rise, two or more; got "
                f"{list(survivors)[:8]!r}. Pass the customers at the start and after each renewal."
            )
        period = np.arange(1, len(counts))
        table = pl.DataFrame({"period": period, "n_due": counts[:-1], "n_renewed": counts[1:]})
        return cls(table)

    @property
    def n(self) -> int:
        """Contracts that came to their first renewal in the data."""
        first = self.table.filter(pl.col("period") == pl.col("period").min())
        return int(first["n_due"].sum())


def renewal_counts(
    renewals: object,
    *,
    customer_col: str = "customer_id",
    due_col: str = "due_on",
    renewed_col: str,
    as_of: date,
) -> RenewalCounts:
    """How many contracts came to their first, second, … renewal, and how many were renewed.

    Parameters
    ----------
    renewals : table
        One row per renewal that fell due, on any backend.
    customer_col, due_col : str
        Columns of the contract's key and of the day on which renewal fell due.
    renewed_col : str
        Column that says whether it was renewed: true or false, or 1 and 0.
    as_of : date
        Last day counted: renewals due later are not known yet.

    Returns
    -------
    RenewalCounts

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null where it must not be.
    """
    as_of = check_as_of(as_of)
    frame = open_table(
        _as_numbers(renewals, renewed_col),
        {
            "customer": Asked(customer_col, "key", "customer_col"),
            "due": Asked(due_col, "date", "due_col"),
            "renewed": Asked(renewed_col, "number", "renewed_col"),
        },
    )
    counted = (
        frame.filter(nw.col("due") <= to_day_number(as_of))
        .with_columns(nw.lit(1).cast(nw.Int64).alias("one"))
        .with_columns(nw.col("one").cum_sum().over("customer", order_by="due").alias("period"))
        .group_by("period")
        .agg(nw.col("one").sum().alias("n_due"), nw.col("renewed").sum().alias("n_renewed"))
    )
    return RenewalCounts(collect(counted, order=["period"]))


def _as_numbers(renewals: object, renewed_col: str) -> object:
    frame = nw.from_native(renewals, pass_through=True)
    if not isinstance(frame, nw.DataFrame | nw.LazyFrame):
        return renewals
    if dict(frame.collect_schema()).get(renewed_col) != nw.Boolean:
        return renewals
    return frame.with_columns(nw.col(renewed_col).cast(nw.Int64)).to_native()


# Likelihood -------------------------------------------------------------------------------


def log_likelihood(
    log_theta: Floats, period: Floats, n_due: Floats, n_renewed: Floats
) -> tuple[float, Floats, Floats]:
    r"""Return the log-likelihood with gradient and Hessian in the log-parameters.

    .. math:: P(\text{renew the } t\text{-th time}) = \frac{\beta + t - 1}{\alpha + \beta + t - 1}

    References
    ----------
    Fader & Hardie (2007), How to project customer retention, Journal of Interactive Marketing
    21:76-90.
    """
    theta = np.exp(log_theta)
    alpha, beta = theta
    stays = beta + period - 1
    either, lost = alpha + stays, n_due - n_renewed
    value = lost.sum() * np.log(alpha) + n_renewed @ np.log(stays) - n_due @ np.log(either)
    shared = n_due @ (1 / either)
    slope = np.array([lost.sum() / alpha - shared, n_renewed @ (1 / stays) - shared])
    curve = np.full((2, 2), n_due @ (1 / either**2))
    curve[0, 0] -= lost.sum() / alpha**2
    curve[1, 1] -= n_renewed @ (1 / stays**2)
    return float(value), theta * slope, np.outer(theta, theta) * curve + np.diag(theta * slope)


# Model ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShiftedBetaGeometric(FittedModel):
    """A shifted beta-geometric model: the probability to leave at a renewal ~ Beta(alpha, beta).

    Built by `fit_shifted_beta_geometric`, or by hand from a paper's figures. Time runs in
    periods: from one renewal to the next.

    Attributes
    ----------
    alpha, beta : float
        Shapes of the beta distribution; a new customer leaves at the first renewal with
        probability alpha / (alpha + beta).

    References
    ----------
    Fader & Hardie (2007), Journal of Interactive Marketing 21:76-90; Fader & Hardie (2010),
    Customer-base valuation in a contractual setting, Marketing Science 29:85-93.

    Examples
    --------
    >>> model = ShiftedBetaGeometric(alpha=0.668, beta=3.806)
    >>> [round(float(s), 3) for s in model.survival([1, 7, 12])]
    [0.851, 0.489, 0.378]
    >>> round(model.expected_lifetime(discount_rate=0.1), 2)
    5.92
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        check_positive(**self.values())

    def values(self) -> dict[str, float]:
        """Return the parameters by name: alpha, beta."""
        return {"alpha": self.alpha, "beta": self.beta}

    def survival(self, periods: ArrayLike, *, n_renewals: ArrayLike = 0) -> Floats:
        """Which share is still in contract after `periods` more renewals? (S(t)).

        Parameters
        ----------
        periods : array_like
            Renewals ahead, 0 or more.
        n_renewals : array_like
            Renewals made already; 0 for new customers.
        """
        ahead, done = np.asarray(periods, np.float64), np.asarray(n_renewals, np.float64)
        _check_counts(periods=ahead, n_renewals=done)
        beta = self.beta + done
        return np.asarray(
            np.exp(special.betaln(self.alpha, beta + ahead) - special.betaln(self.alpha, beta))
        )

    def retention_rate(self, period: ArrayLike) -> Floats:
        """Which share of those in contract renews for the `period`-th time? (rises with age)."""
        t = np.asarray(period, np.float64)
        _check_counts(period=t - 1)
        return np.asarray((self.beta + t - 1) / (self.alpha + self.beta + t - 1))

    def expected_renewals(self, horizon: int, *, n_renewals: ArrayLike = 0) -> Floats:
        """How many of the next `horizon` renewals will a customer make? (the mean).

        Parameters
        ----------
        horizon : int
            Renewals ahead.
        n_renewals : array_like
            Renewals made already, by a customer still in contract.
        """
        done = np.asarray(n_renewals, np.float64)
        ahead = np.arange(1.0, horizon + 1)
        return np.asarray(self.survival(ahead, n_renewals=done[..., None]).sum(axis=-1))

    def expected_lifetime(self, *, discount_rate: float) -> float:
        """What is a new customer worth, in contracts of today? (DEL).

        The contract taken now, and each renewal discounted by `discount_rate` a period:
        ``2F1(1, beta; alpha + beta; 1 / (1 + d))``, the mean of (1 + d) / (d + theta).
        """
        _check_rate(discount_rate)
        both = self.alpha + self.beta
        return float(special.hyp2f1(1.0, self.beta, both, 1 / (1 + discount_rate)))

    def expected_residual_lifetime(self, n_renewals: ArrayLike, *, discount_rate: float) -> Floats:
        """What are coming renewals worth, in contracts of today, just before the next? (DERL).

        Parameters
        ----------
        n_renewals : array_like
            Renewals made already; the next one is due now and not yet decided.
        discount_rate : float
            Effective rate per period, above 0.

        References
        ----------
        Fader & Hardie (2010), Marketing Science 29:85-93.
        """
        _check_rate(discount_rate)
        done = np.asarray(n_renewals, np.float64)
        _check_counts(n_renewals=done)
        beta, both = self.beta + done, self.alpha + self.beta + done
        series = special.hyp2f1(1.0, beta + 1, both + 1, 1 / (1 + discount_rate))
        return np.asarray(beta / both * series)

    def parameters(self, *, conf_level: float = 0.95) -> ModelParameters:
        """Return the parameters with standard errors and intervals.

        Returns
        -------
        ModelParameters
            Columns ``parameter``, ``n`` (contracts), ``estimate``, ``std_error``, ``conf_low``,
            ``conf_high`` (normal on the log scale); null where the model was built by hand.
        """
        return self.shown(
            _("Shifted beta-geometric model of renewal"),
            _(
                "At each renewal a customer leaves with a probability of their own (beta with "
                "shapes alpha and beta over customers). Fitted by maximum likelihood (Fader & "
                "Hardie 2007)."
            ),
            model="sBG",
            conf_level=conf_level,
        )


def _check_counts(**counts: Floats) -> None:
    for name, value in counts.items():
        if not (value >= 0).all():
            raise InputError(
                f"{name!r} must be 0 or more (the first renewal is period 1); got "
                f"{float(np.min(value)):g}. Count renewals."
            )


def _check_rate(rate: float) -> None:
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(
            f"'discount_rate' must be above 0 for a sum without end; got {rate!r}. Pass 0.10 for "
            "ten per cent a period, or use expected_renewals over a horizon."
        )


# Fit --------------------------------------------------------------------------------------


def fit_shifted_beta_geometric(
    renewals: RenewalCounts | Sequence[float],
) -> ShiftedBetaGeometric:
    """Which shifted beta-geometric model makes these renewals most probable? (maximum likelihood).

    Newton's method with analytic gradient and Hessian on the log-parameters, from three starting
    points.

    Parameters
    ----------
    renewals : RenewalCounts or sequence of int
        Counted by `renewal_counts`, or one cohort's customers at the start and after each renewal.

    Returns
    -------
    ShiftedBetaGeometric
        With covariance, log-likelihood and notes.

    Raises
    ------
    InputError
        Fewer than five renewals fell due, or counts that cannot be.
    NotConvergedError
        No starting point led to a maximum.

    References
    ----------
    Fader & Hardie (2007), Journal of Interactive Marketing 21:76-90.

    Examples
    --------
    >>> model = fit_shifted_beta_geometric([1000, 869, 743, 653, 593, 551, 517, 491])
    >>> round(model.alpha, 3), round(model.beta, 3), round(model.log_likelihood, 1)
    (0.668, 3.806, -1611.2)
    """
    counts = (
        renewals if isinstance(renewals, RenewalCounts) else RenewalCounts.from_survivors(renewals)
    )
    period, n_due, n_renewed = (
        counts.table[c].to_numpy().astype(np.float64) for c in counts.table.columns
    )
    if n_due.sum() < LEAST_RENEWALS:
        raise InputError(
            f"A shifted beta-geometric model was to be fitted; only {n_due.sum():.0f} renewals "
            f"fell due, and at least {LEAST_RENEWALS} are needed. Count a longer period, or more "
            "contracts together."
        )
    end = best_of(
        lambda theta: log_likelihood(theta, period, n_due, n_renewed),
        [np.log(np.array(guess)) for guess in ((1.0, 1.0), (0.5, 4.0), (5.0, 20.0))],
        names=_NAMES,
        model="sBG",
    )
    covariance, notes = covariance_and_notes(end, _NAMES)
    if len(period) == 1:
        notes += (
            _(
                "Only one renewal was seen: the share that leaves is known, and not how it differs "
                "between customers, on which later renewals depend."
            ),
        )
    alpha, beta = (float(value) for value in np.exp(end.at))
    return ShiftedBetaGeometric(
        alpha=alpha, beta=beta, log_covariance=covariance, log_likelihood=end.value,
        n=counts.n, notes=notes,
    )  # fmt: skip
