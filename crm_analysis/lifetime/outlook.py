"""What fitted models say of the customers at hand, group by group, with parameter uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.errors import ColumnError, InputError, NotConvergedError, listed, near
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.lifetime.buying_model import BuyingModel, Patterns
from crm_analysis.lifetime.gamma_gamma import GammaGamma, fit_gamma_gamma, spend_weights
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.response import response
from crm_analysis.remembered import LARGEST_BYTES, remembered
from crm_analysis.wording import _, number, percent

__all__ = [
    "Horizon",
    "ModelEstimates",
    "Outlook",
    "Quantity",
    "check_groups",
    "check_resamples",
    "model_cautions",
    "regularity",
    "spend_or_none",
]

Floats = NDArray[np.float64]
Quantity = Literal["active", "purchases", "value"]

DRAW_DIGITS = 5
"""Accuracy of a draw; its error is far below the scatter between draws."""

MANY_DRAWS = 100
"""From so many draws on, fewer answers than draws make a response surface."""

CHECKED_DRAWS = 6
"""So many draws that were read off a surface are asked of the model itself."""

RESPONSE_ERROR = 0.03
"""Largest error of a mean at those draws, as a share of the scatter it is there for."""

RIDGE = 0.5
"""From this standard deviation of log-parameters on, draws are weighed by the likelihood."""

REGULAR = 1.5
"""From this many random events per purchase on, gaps are called more regular than chance."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ModelEstimates(Estimates):
    """Means that a model gives for groups of customers.

    All groups share one model, so their intervals move together and cannot test whether groups
    differ; the sentence says so instead of testing.
    """

    def difference_p_value(self) -> float | None:
        """Return None: errors that come from one shared model do not test differences."""
        return None

    def _difference_text(self) -> str:
        return _("their intervals share one model, so they do not test whether groups differ")


@dataclass(frozen=True)
class Horizon:
    """How far ahead, and how the future is discounted, in the history's unit of time."""

    length: float = 0.0
    discount: float = 0.0


class Outlook:
    """Customers compressed to distinct patterns, ready to be read by many parameter sets.

    Parameters
    ----------
    history : PurchaseHistory
    by : sequence of str
        Group columns of the history, one mean each; none for one mean of all.
    """

    def __init__(self, history: PurchaseHistory, by: Sequence[str]) -> None:
        table, keys = history.table, ["frequency", "recency", "age", "n_valued"]
        patterns = (
            table.group_by(*by, *keys)
            .agg(weight=pl.len(), value=pl.col("mean_value").sum())
            .sort(*by, *keys, nulls_last=True)
        )
        # Without groups even an empty table has its one row: nobody.
        self.groups = patterns.select(by).unique(maintain_order=True) if by else pl.DataFrame()
        self.n_groups = self.groups.height if by else 1
        runs = patterns.select(pl.struct(by).rle_id())[:, 0] if by and patterns.height else None
        self.group = np.zeros(patterns.height, np.int64) if runs is None else runs.to_numpy()
        columns = (patterns[c].cast(pl.Float64).to_numpy() for c in (*keys, "weight", "value"))
        x, t_x, T, self.n_valued, self.weight, self.value = columns
        # Groups and values apart, many share one pattern: models are asked once for each.
        self.patterns, self._at = _distinct(x, t_x, T)
        self.n = self._sum(self.weight)

    def _sum(self, amounts: Floats) -> Floats:
        summed = np.bincount(self.group, weights=amounts, minlength=self.n_groups)
        return np.asarray(summed, np.float64)

    def active(self, model: BuyingModel) -> Floats:
        """Probability of being active, per row of the patterns by group."""
        return np.asarray(model.active(self.patterns)[self._at])

    def purchases(self, model: BuyingModel, horizon: Horizon) -> Floats:
        """Discounted expected purchases over the horizon, per row of the patterns by group."""
        ahead = model.purchases(self.patterns, horizon.length, horizon.discount)
        return np.asarray(ahead[self._at])

    def means(
        self,
        quantity: Quantity,
        model: BuyingModel,
        spend: Floats | None = None,
        horizon: Horizon | None = None,
    ) -> Floats:
        """Mean of a quantity over the customers of each group, shape (groups,)."""
        if quantity == "active" or horizon is None:
            return self._mean(self.active(model), None)
        return self._mean(self.purchases(model, horizon), spend)

    def _mean(self, per_pattern: Floats, spend: Floats | None) -> Floats:
        if spend is None:
            amounts = per_pattern * self.weight
        else:
            c0, c1 = spend_weights(spend, self.n_valued)
            amounts = per_pattern * (c0 * self.weight + c1 * self.value)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._sum(amounts) / self.n)

    def estimate(
        self,
        quantity: Quantity,
        buying: BuyingModel | None,
        spend: GammaGamma | None,
        horizon: Horizon,
        *,
        conf_level: float,
        n_resamples: int,
        seed: int,
    ) -> pl.DataFrame:
        """Return groups and the five columns: means, and intervals over drawn parameters."""
        unknown = np.full(self.n_groups, np.nan)
        if buying is None or (quantity == "value" and spend is None) or not len(self.patterns.x):
            return self._table(unknown, unknown, unknown, unknown)
        spend = spend if quantity == "value" else None
        theta_2 = None if spend is None else spend.theta
        middle = self.means(quantity, buying, theta_2, horizon)
        first = buying.draws(n_resamples, seed)
        second = None if spend is None else spend.draws(n_resamples, seed + 1)
        if first is None or (spend is not None and second is None):
            return self._table(middle, unknown, unknown, unknown)
        ahead = None if quantity == "active" else horizon
        draws = self._drawn_means(buying, first, second, ahead)
        weight = self._draw_weights(buying, first)
        return self._table(middle, *_spread(draws, weight, middle, conf_level))

    def _drawn_means(
        self, model: BuyingModel, draws: Floats, spend: Floats | None, horizon: Horizon | None
    ) -> Floats:
        """Means of each group under each drawn set of parameters, shape (draws, groups)."""
        spends = [None] * len(draws) if spend is None else list(spend)

        def computed() -> Floats:
            found = None if horizon is None else self._responded(model, draws, spends, horizon)
            return found if found is not None else self._asked(model, draws, spends, horizon)

        rows = (self._at, self.group, self.n_valued, self.weight, self.value)
        key = self._drawn_key(model, draws, horizon)
        return remembered(("means of draws", key, spend, *rows), computed)

    def _asked(
        self,
        model: BuyingModel,
        draws: Floats,
        spends: Sequence[Floats | None],
        horizon: Horizon | None,
    ) -> Floats:
        """Ask the model for every draw."""
        each = zip(self._drawn(model, draws, horizon), spends, strict=True)
        return np.stack([self._mean(ahead[self._at], spend) for ahead, spend in each])

    def _responded(
        self,
        model: BuyingModel,
        draws: Floats,
        spends: Sequence[Floats | None],
        horizon: Horizon,
    ) -> Floats | None:
        """Read the draws off a response surface; None where it is not near enough."""
        if len(draws) < MANY_DRAWS:
            return None
        covariance = np.asarray(model.log_covariance)

        def ask(theta: Floats) -> Floats:
            return self._ask(model, theta, horizon)

        surface = response(ask, model.theta, covariance)
        if surface is None:
            return None
        means = np.stack([
            self._mean(np.exp(surface(theta))[self._at], spend)
            for theta, spend in zip(draws, spends, strict=True)
        ])  # fmt: skip
        some = _some(model, draws)
        exact = self._asked(model, draws[some], [spends[i] for i in some], horizon)
        error = np.sqrt(((means[some] - exact) ** 2).mean(axis=0))
        near_enough = error <= RESPONSE_ERROR * means.std(axis=0)
        return means if bool(near_enough[self.n > 0].all()) else None

    def _drawn(
        self, model: BuyingModel, draws: Floats, horizon: Horizon | None
    ) -> Iterable[Floats]:
        """Give the quantity per distinct pattern under each drawn set of parameters.

        The same customers are valued as one and by groups: where all fits, it is kept.
        """

        def one(theta: Floats) -> Floats:
            return self._ask(model, theta, horizon)

        if 8 * len(draws) * len(self.patterns.x) > LARGEST_BYTES:
            return map(one, draws)
        key = self._drawn_key(model, draws, horizon)
        return remembered(("draws", key), lambda: np.stack([one(theta) for theta in draws]))

    def _ask(self, model: BuyingModel, theta: Floats, horizon: Horizon | None) -> Floats:
        """Give the quantity per distinct pattern under one set of parameters."""
        drawn = model.with_theta(theta)
        if horizon is None:
            return drawn.active(self.patterns)
        return drawn.purchases(self.patterns, horizon.length, horizon.discount, digits=DRAW_DIGITS)

    def _drawn_key(
        self, model: BuyingModel, draws: Floats, horizon: Horizon | None
    ) -> tuple[object, ...]:
        """Everything that drawn quantities follow from."""
        at = self.patterns
        ahead = None if horizon is None else (horizon.length, horizon.discount, DRAW_DIGITS)
        return (model.makeup(), draws, at.x, at.t_x, at.T, ahead)

    def _draw_weights(self, model: BuyingModel, draws: Floats) -> Floats:
        """Weigh drawn parameters by the likelihood where the normal distribution is a poor fit.

        On a flat ridge the likelihood is far from normal: importance weights correct the draws.
        They need the data of the fit, which a model from elsewhere does not have here.
        """
        covariance = np.asarray(model.log_covariance)
        spread, axes = np.linalg.eigh(covariance)
        if np.sqrt(spread.max()) < RIDGE or model.n != self.n.sum():
            return np.full(len(draws), 1 / len(draws))
        moves = (np.log(draws) - np.log(model.theta)) @ axes
        known = spread > 1e-12
        squares = (moves[:, known] ** 2 / spread[known]).sum(axis=1)
        counts = np.bincount(self._at, weights=self.weight, minlength=len(self.patterns.x))
        weight = np.asarray(counts, np.float64)
        fits = remembered(
            ("likelihoods of draws", weight, self._drawn_key(model, draws, None)),
            lambda: np.array([
                model.with_theta(theta).log_likelihood_of(self.patterns, weight)
                for theta in draws
            ]),
        )  # fmt: skip
        logs = fits + squares / 2
        shares = np.exp(logs - logs.max())
        return np.asarray(shares / shares.sum())

    def _table(self, *columns: Floats) -> pl.DataFrame:
        table = pl.DataFrame(five_columns(self.n, *columns))
        return pl.concat([self.groups, table], how="horizontal") if self.groups.width else table


def _distinct(x: Floats, t_x: Floats, T: Floats) -> tuple[Patterns, NDArray[np.intp]]:
    """Return distinct patterns in order, and where each that was given stands among them."""
    order = np.lexsort((T, t_x, x))
    columns = [column[order] for column in (x, t_x, T)]
    new = np.ones(len(x), bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    at = np.empty(len(x), np.intp)
    at[order] = np.cumsum(new) - 1
    return Patterns(*(column[new] for column in columns)), at


def _some(model: BuyingModel, draws: Floats) -> NDArray[np.intp]:
    """Choose draws for a check, from the nearest to the maximum to the furthest."""
    moves = np.log(draws) - np.log(model.theta)
    distance = (moves @ np.linalg.pinv(np.asarray(model.log_covariance)) * moves).sum(axis=1)
    places = np.linspace(0, len(draws) - 1, CHECKED_DRAWS).astype(np.int64)
    return np.argsort(distance)[places]


def _spread(
    draws: Floats, weight: Floats, middle: Floats, conf_level: float
) -> tuple[Floats, Floats, Floats]:
    """Standard error and quantiles of weighted draws, shape (draws, groups)."""
    tail = (1 - conf_level) / 2
    known = np.isfinite(draws).all(axis=0) & np.isfinite(middle)
    safe = np.where(known, draws, 0.0)
    mean = weight @ safe
    error = np.sqrt(weight @ (safe - mean) ** 2)
    bounds = np.quantile(
        safe, [tail, 1 - tail], axis=0, weights=weight, method="inverted_cdf"
    )  # fmt: skip
    return (
        np.where(known, error, np.nan),
        np.where(known, np.minimum(bounds[0], middle), np.nan),
        np.where(known, np.maximum(bounds[1], middle), np.nan),
    )


# Models, or why there are none --------------------------------------------------------------


def spend_or_none(
    history: PurchaseHistory, model: GammaGamma | None
) -> tuple[GammaGamma | None, tuple[str, ...]]:
    """Return the spend model given or fitted, or None with a note that says why."""
    if model is not None:
        return model, ()
    if history.value_name is None:
        return None, (_("Values were not counted: only purchases can be forecast."),)
    try:
        fitted = fit_gamma_gamma(history)
    except InputError:
        valued = history.table.filter(pl.col("n_valued") > 0)
        return None, (
            _(
                "Spend cannot be modelled: of {n} customers {k} have a repeat purchase of known "
                "value, and {positive} of these a mean above zero.",
                n=number(history.n),
                k=number(valued.height),
                positive=number(int((valued["mean_value"] > 0).sum())),
            ),
        )
    except NotConvergedError:
        return None, (_("No model of spend could be fitted: the search found no maximum."),)
    return fitted, fitted.notes


def check_groups(history: PurchaseHistory, by: Sequence[str]) -> None:
    """Refuse groups by which the history was not counted."""
    missing = [name for name in by if name not in history.by]
    if missing:
        raise ColumnError(
            f"Groups by {listed(by)} were asked for; the history was counted by "
            f"{listed(history.by)}{near(missing[0], history.by)}. Pass by={list(by)!r} to "
            "purchase_history."
        )


def check_resamples(n_resamples: int) -> None:
    """Refuse a number of draws from which no interval can be read."""
    if n_resamples < 2:
        raise InputError(
            f"'n_resamples' must be at least 2, better 200; got {n_resamples!r}. "
            "Pass how often the parameters are to be drawn."
        )


# Cautions -----------------------------------------------------------------------------------


def regularity(table: pl.DataFrame) -> tuple[int, float, float]:
    r"""Return n, k and its standard error: how regular gaps are (k = 1 is chance).

    Given the first and last purchase, the gaps of a random (Poisson) buyer cut t_x into
    x uniform spacings, and those of an Erlang-k buyer are Dirichlet(k, …, k), whose mean of
    ``sum(gap**2) / t_x**2`` is ``(k + 1) / (k x + 1)``, whatever the customer's rate and however
    they stop. k is where the sums agree; the standard error is a sandwich.
    """
    several = table.drop_nulls("spacing")
    x = several["frequency"].cast(pl.Float64).to_numpy()
    seen = several["spacing"].to_numpy()
    if len(x) < 2:
        return len(x), float("nan"), float("nan")

    def expected(log_k: float) -> Floats:
        k = np.exp(log_k)
        return np.asarray((k + 1) / (k * x + 1))

    low, high = np.log(1e-3), np.log(1e4)
    if not seen.sum() > expected(high).sum() or not seen.sum() < expected(low).sum():
        return len(x), float("nan"), float("nan")
    for _step in range(80):
        middle = (low + high) / 2
        above = expected(middle).sum() > seen.sum()
        low, high = (middle, high) if above else (low, middle)
    k = float(np.exp((low + high) / 2))
    slope = float(((x - 1) / (k * x + 1) ** 2).sum())
    error = float(np.sqrt(((seen - expected(np.log(k))) ** 2).sum()) / slope)
    return len(x), k, error


def model_cautions(history: PurchaseHistory, model: BuyingModel | None) -> tuple[str, ...]:
    """Return what the model is known to get wrong on such customers."""
    if not history.n or model is None:
        return ()
    notes: tuple[str, ...] = ()
    once = 1 - history.n_repeat / history.n
    if once > 0 and bool(model.probability_alive(0, 0.0, 1.0) == 1):
        notes += (
            _(
                "{share} of the customers bought once only; {model} holds each of them to be "
                "active for certain, however long ago that was.",
                share=percent(once),
                model=model.label,
            ),
        )
    n, k, error = regularity(history.table)
    if n >= 30 and k - 3 * error > 1 and k > REGULAR and getattr(model, "k", 1) == 1:
        notes += (
            _(
                "Gaps between purchases are more regular than chance (k = {k}, where chance is "
                "1), as service visits are: {model} then takes lost customers for active ones. "
                "Read shares of active customers and values as upper bounds, or fit a model that "
                "knows of regular gaps.",
                k=number(k, 1),
                model=model.label,
            ),
        )
    return notes
