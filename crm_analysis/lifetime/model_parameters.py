"""What fitted models share: parameters on the log scale, their covariance, and how they show."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.errors import InputError, NotConvergedError, listed
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.frames import check_conf_level
from crm_analysis.lifetime.newton import (
    GAIN_LEFT,
    Maximum,
    Objective,
    inverse_curvature,
    maximise,
)
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import Unit, _, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "LOG_BOUND",
    "FittedModel",
    "ModelParameters",
    "best_of",
    "check_positive",
    "covariance_and_notes",
    "empty_parameters",
    "parameter_table",
]

Floats = NDArray[np.float64]
Covariance = tuple[tuple[float, ...], ...]

LOG_BOUND = 8.0
"""Scaled parameters stay within exp(-8) and exp(8): beyond, a model is as good as its limit."""

NEAR_EDGE = 0.05
"""A log-parameter this close to the edge counts as at it."""

WIDEST = 1.5
"""Longest standard deviation of log-parameters, in any direction, that a fit reports."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ModelParameters(Estimates):
    """A model's parameters: one row each, with standard error and interval.

    The table has, beside the usual five, ``parameter``, its name in the model's paper.
    """

    model: str = ""

    def sentence(self) -> str:
        """Return the parameters with their standard errors in one sentence."""
        known = self.table.drop_nulls("estimate")
        if known.is_empty():
            return _("{name}: could not be fitted.", name=self.name)
        texts = [
            _("{parameter} = {value}", parameter=row["parameter"], value=number(row["estimate"], 3))
            + ("" if row["std_error"] is None else f" (± {number(row['std_error'], 3)})")
            for row in known.to_dicts()
        ]
        n = number(int(known["n"][0]))
        return f"{self.name}: {', '.join(texts)} (n = {n})."

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns: parameters are plain numbers with three decimals."""
        return {"n": "count"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the parameters with their intervals on a logarithmic axis, return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(self.table, label="parameter", ax=ax)
        if self.table["estimate"].drop_nulls().len():
            ax.set_xscale("log")
            figures.write_units(ax, "number", axis="x")
            _log_ticks(ax)
        ax.set_title(self.name)
        return ax


def _log_ticks(ax: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_minor_locator(NullLocator())


@dataclass(frozen=True, kw_only=True)
class FittedModel(ABC):
    """What a fit by maximum likelihood adds to a model's parameters.

    Attributes
    ----------
    log_covariance : tuple of tuple of float, or None
        Covariance of the logarithms of the parameters, in their order; None when the model was
        built by hand. A parameter at the edge of what is allowed has zeros.
    log_likelihood : float or None
    n : int or None
        Customers that the fit rests on.
    notes : tuple of str
        Cautions about the fit.
    """

    log_covariance: Covariance | None = field(default=None, repr=False)
    log_likelihood: float | None = None
    n: int | None = None
    notes: tuple[str, ...] = field(default=(), repr=False)

    @abstractmethod
    def values(self) -> dict[str, float]:
        """Return the parameters by name."""

    def shown(
        self, name: str, definition: str, *, model: str, conf_level: float
    ) -> ModelParameters:
        """Return the parameters as they show themselves, under the model's own words."""
        conf_level = check_conf_level(conf_level)
        return ModelParameters(
            table=parameter_table(self, conf_level),
            name=name,
            unit="number",
            definition=definition,
            by=("parameter",),
            conf_level=conf_level,
            notes=self.notes,
            model=model,
        )

    def to_json(self) -> str:
        """Return the model as JSON: its kind, parameters, covariance and notes."""
        return json.dumps({"kind": type(self).__name__, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the model that `to_json` wrote.

        Raises
        ------
        InputError
            The text is no JSON of this kind of model.
        """
        try:
            said = dict(json.loads(text))
            kind = said.pop("kind")
            fields = {name: _as_tuples(value) for name, value in said.items()}
            if kind == cls.__name__:
                return cls(**fields)
        except (ValueError, TypeError, KeyError) as problem:
            raise InputError(
                f"A {cls.__name__} was to be read from JSON; the text is not one that "
                f"{cls.__name__}.to_json writes ({problem}). Pass the text unchanged."
            ) from problem
        raise InputError(
            f"A {cls.__name__} was to be read from JSON; the text holds a {kind}. "
            f"Read it with {kind}.from_json."
        )

    @property
    def std_errors(self) -> dict[str, float | None]:
        """Standard errors by name; None where unknown (built by hand, or at an edge)."""
        values = self.values()
        if self.log_covariance is None:
            return dict.fromkeys(values)
        variances = np.diag(np.asarray(self.log_covariance))
        return {
            name: float(value * np.sqrt(variance)) if variance > 0 else None
            for (name, value), variance in zip(values.items(), variances, strict=True)
        }

    @property
    def covariance(self) -> Floats | None:
        """Covariance of the parameters in their own units, shape (k, k)."""
        if self.log_covariance is None:
            return None
        scale = np.array(list(self.values().values()))
        return np.asarray(self.log_covariance) * np.outer(scale, scale)

    @property
    def n_parameters(self) -> int:
        """How many parameters were chosen."""
        return len(self.values())

    @property
    def aic(self) -> float | None:
        """Akaike's information criterion."""
        if self.log_likelihood is None:
            return None
        return 2 * self.n_parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float | None:
        """Schwarz's information criterion, with customers as observations."""
        if self.log_likelihood is None or not self.n:
            return None
        return float(self.n_parameters * np.log(self.n) - 2 * self.log_likelihood)

    def draws(self, n_draws: int, seed: int) -> Floats | None:
        """Return parameters drawn from their fitted distribution, shape (n_draws, k).

        Normal on the log scale; None when the model has no covariance.
        """
        if self.log_covariance is None:
            return None
        centre = np.log(np.array(list(self.values().values())))
        covariance = np.asarray(self.log_covariance)
        spread, axes = np.linalg.eigh(covariance)
        normal = np.random.default_rng(seed).standard_normal((n_draws, len(centre)))
        moves = (normal * np.sqrt(np.maximum(spread, 0.0))) @ axes.T
        return np.asarray(np.exp(centre + np.clip(moves, -LOG_BOUND, LOG_BOUND)))


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value


def parameter_table(model: FittedModel, conf_level: float) -> pl.DataFrame:
    """Return a model's parameters as the table of `ModelParameters`.

    The intervals are normal on the log scale, so that they stay above zero.
    """
    names, values = list(model.values()), np.array(list(model.values().values()))
    errors = np.array([np.nan if e is None else e for e in model.std_errors.values()])
    factor = np.exp(normal_quantile(conf_level) * errors / values)
    n = np.full(len(names), model.n or 0)
    return pl.DataFrame(
        {
            "parameter": names,
            **five_columns(n, values, errors, values / factor, values * factor),
        }
    )


def empty_parameters(result: ModelParameters, notes: tuple[str, ...]) -> ModelParameters:
    """Return the same answer without a row: no model, and why."""
    return replace(result, table=result.table.clear(), notes=notes)


def best_of(
    objective: Objective,
    starts: Sequence[Floats],
    *,
    names: Sequence[str],
    model: str,
    gain_left: float = GAIN_LEFT,
) -> Maximum:
    """Climb from each start and return the highest top that was reached.

    Raises
    ------
    NotConvergedError
        No start led to a top; the message says which were tried and where they ended.
    """
    ends = [maximise(objective, start, LOG_BOUND, gain_left=gain_left) for start in starts]
    tops = [end for end in ends if end.converged]
    if not tops:
        best = max(ends, key=lambda end: end.value)
        place = listed(
            f"{name} = {value:.4g}" for name, value in zip(names, np.exp(best.at), strict=True)
        )
        raise NotConvergedError(
            f"{model} was to be fitted by Newton's method; none of {len(starts)} starting points "
            f"reached a maximum. The best ended after {best.n_steps} steps at {place} (times and "
            f"values divided by their means), log-likelihood {best.value:.6g}, with slope "
            f"{np.abs(best.gradient).max():.2g}. Check the data for a few extreme customers, or "
            "fit more customers together."
        )
    return max(tops, key=lambda end: end.value)


def covariance_and_notes(end: Maximum, names: Sequence[str]) -> tuple[Covariance, tuple[str, ...]]:
    """Return the covariance of the log-parameters, and cautions about edges and flat ridges."""
    held = np.asarray(np.abs(end.at) > LOG_BOUND - NEAR_EDGE)
    covariance, flat = inverse_curvature(end.hessian, held, widest=WIDEST)
    notes: tuple[str, ...] = ()
    if held.any():
        edge = ", ".join(name for name, at_edge in zip(names, held, strict=True) if at_edge)
        notes += (
            _(
                "The fit ended at the edge for {names}: the data ask for a simpler model there. "
                "Intervals take these parameters as known.",
                names=edge,
            ),
        )
    if flat:
        notes += (
            _(
                "The data hardly determine some combination of {names}: single parameters say "
                "little, and their intervals rest on a cut-off.",
                names=", ".join(names),
            ),
        )
    return tuple(tuple(float(c) for c in row) for row in covariance), notes


def check_positive(**parameters: float) -> None:
    """Refuse parameters that are not positive numbers."""
    for name, value in parameters.items():
        if not (np.isfinite(value) and value > 0):
            raise InputError(
                f"The parameter {name} must be a positive number; got {value!r}. "
                "Pass the value that the fit or the paper gives."
            )
