"""Whether kinds of customers buy and stay differently: Pareto/NBD with fixed covariates.

The rates of both gamma distributions are multiplied by what is known of a customer from the
start: the kind of customer, the brand, the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import five_columns, small_n_notes
from crm_analysis.frames import check_conf_level, group_names
from crm_analysis.lifetime.buying_model import Patterns
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.model_parameters import best_of, covariance_and_notes
from crm_analysis.lifetime.outlook import ModelEstimates, check_groups
from crm_analysis.lifetime.pareto_nbd import ParetoNbd, fit_pareto_nbd, log_likelihood
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import Unit, _, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PurchaseCovariates", "purchase_covariates"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PurchaseCovariates(ModelEstimates):
    """How many times as fast customers of a kind buy and stop as those of the reference.

    The table has, beside the usual five (ratio of rates, 1 for the reference), ``covariate``,
    ``level`` and ``process`` (``buying`` or ``stopping``).

    Attributes
    ----------
    cells : polars DataFrame
        Combinations of levels that occur, and the ``r``, ``alpha``, ``s``, ``beta`` of each.
    log_likelihood : float
    likelihood_ratio : float
        Twice what the covariates add to the log-likelihood.
    p_value : float
        Of no effect at all (chi-squared).
    model : ParetoNbd
        The model without covariates, fitted to all.
    """

    cells: pl.DataFrame
    log_likelihood: float
    likelihood_ratio: float
    p_value: float
    model: ParetoNbd

    def model_for(self, **levels: object) -> ParetoNbd:
        """Return the Pareto/NBD model of customers with these levels.

        Raises
        ------
        InputError
            No customer of the fit had them.
        """
        names = [name for name in self.cells.columns if name not in self.model.values()]
        found = self.cells
        for name in names:
            found = found.filter(pl.col(name).eq_missing(pl.lit(levels.get(name))))
        if found.height != 1 or set(levels) != set(names):
            raise InputError(
                f"A model for {levels!r} was asked for; customers differ by {names}, and "
                f"{found.height} kinds of them fit. Pass one level of each."
            )
        theta = found.select(list(self.model.values())).row(0)
        return self.model.with_theta(np.array(theta))

    def sentence(self) -> str:
        """Return whether the kinds differ at all."""
        p = f"p < {number(0.001, 3)}" if self.p_value < 0.001 else f"p = {number(self.p_value, 3)}"
        text = {"x": number(self.likelihood_ratio, 1), "p": p}
        if self.p_value < 1 - self.conf_level:
            return _(
                "Kinds of customers differ in how they buy or stay (likelihood ratio {x}, {p}).",
                **text,
            )
        return _(
            "No difference between kinds of customers is established in how they buy or stay "
            "(likelihood ratio {x}, {p}).",
            **text,
        )

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns: ratios are plain numbers."""
        return {"n": "count"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the ratios with their intervals, return the Axes."""
        ax = figures.new_axes(ax)
        label = pl.format("{}: {} ({})", "covariate", pl.col("level").fill_null("—"), "process")
        figures.points(self.table.with_columns(label=label), label="label", ax=ax)
        ax.axvline(1, color="#999999", linewidth=1, linestyle=":")
        figures.write_units(ax, "number", axis="x")
        ax.set_title(self.name)
        return ax


def purchase_covariates(
    history: PurchaseHistory, *, by: str | Sequence[str] = (), conf_level: float = 0.95
) -> PurchaseCovariates:
    r"""Do kinds of customers buy and stop at other rates? (Pareto/NBD with covariates).

    .. math:: \alpha_i = \alpha_0 e^{-\gamma_1' z_i}, \qquad \beta_i = \beta_0 e^{-\gamma_2' z_i}

    so that :math:`e^{\gamma}` is how many times as fast a kind buys, or stops. The level with most
    customers is the reference of each covariate. Newton's method with analytic gradient and
    Hessian over distinct patterns, from the best model without covariates.

    Parameters
    ----------
    history : PurchaseHistory
        Counted by `by`; each customer should have one level of each, as one who is seen in two
        groups counts as two.
    by : str or sequence of str
        Columns of the history whose levels are compared; what a customer is from the start, and
        not what they became.
    conf_level : float

    Returns
    -------
    PurchaseCovariates
        Columns ``covariate``, ``level``, ``process``, ``n`` (customers of the level),
        ``estimate`` (ratio of rates), ``std_error``, ``conf_low``, ``conf_high`` (normal on the
        log scale; null for the reference and at an edge).

    Raises
    ------
    InputError
        No covariate, only one level in all, or fewer than five customers with a repeat purchase.
    NotConvergedError
        The search led to no maximum.

    References
    ----------
    Fader & Hardie (2007), Incorporating time-invariant covariates into the Pareto/NBD and BG/NBD
    models, note 019.
    """
    by = group_names(by)
    check_groups(history, by)
    conf_level = check_conf_level(conf_level)
    plain = fit_pareto_nbd(history)
    levels = [(name, level) for name in by for level in _levels(history, name)[1:]]
    if not levels:
        raise InputError(
            f"Covariates were asked for by {list(by)!r}, which tell no two customers apart. Pass "
            "'by' with columns of two levels or more."
        )
    scale = float(history.table["age"].mean() or 1.0)  # type: ignore[arg-type]
    cells = _cells(history, by, levels, scale)
    size = 4 + 2 * len(levels)

    def objective(at: Floats) -> tuple[float, Floats, Floats]:
        value, slope, curve = 0.0, np.zeros(size), np.zeros((size, size))
        for _cell, turn, patterns, weight in cells:
            data = (patterns.x, patterns.t_x, patterns.T, weight)
            v, g, h = log_likelihood(turn @ at, *data)
            value, slope, curve = value + v, slope + turn.T @ g, curve + turn.T @ h @ turn
        return value, slope, curve

    start = np.concatenate([np.log(plain.theta / [1, scale, 1, scale]), np.zeros(size - 4)])
    names = [*plain.values(), *(f"{p} of {level}" for p in ("buying", "stopping")
                                for _name, level in levels)]  # fmt: skip
    end = best_of(objective, [start], names=names, model="Pareto/NBD with covariates")
    covariance, notes = covariance_and_notes(end, names)
    value = end.value - float(history.table["frequency"].sum()) * float(np.log(scale))
    assert plain.log_likelihood is not None
    ratio = max(0.0, 2 * (value - plain.log_likelihood))
    errors = np.sqrt(np.diag(np.asarray(covariance)))[4:]
    table = _table(history, by, levels, end.at[4:], errors, conf_level)
    return PurchaseCovariates(
        table=table,
        name=_("How fast kinds of customers buy and stop, against the most common kind"),
        unit="number",
        definition=_(
            "Ratio of the rates at which customers buy, and stop buying, to those of the most "
            "common level of each covariate; by a Pareto/NBD model whose two scales differ by "
            "level (Fader & Hardie 2007)."
        ),
        by=("covariate", "level", "process"),
        conf_level=conf_level,
        notes=notes + small_n_notes(table, ("covariate", "level", "process"), what=_("customers")),
        cells=_cell_models(cells, by, end.at, scale),
        log_likelihood=value,
        likelihood_ratio=ratio,
        p_value=float(stats.chi2.sf(ratio, 2 * len(levels))),
        model=plain,
    )


def _levels(history: PurchaseHistory, name: str) -> list[Any]:
    counts = history.table.group_by(name).len().sort("len", name, descending=[True, False])
    return counts[name].to_list()


Cell = tuple[tuple[Any, ...], Floats, Patterns, Floats]


def _cells(
    history: PurchaseHistory, by: Sequence[str], levels: Sequence[tuple[str, Any]], scale: float
) -> list[Cell]:
    """Return each combination of levels: what turns all parameters into its own, and its data."""
    keys = ["frequency", "recency", "age"]
    grouped = history.table.group_by(*by, *keys).agg(weight=pl.len()).sort(*by, *keys)
    found: list[Cell] = []
    for part in grouped.partition_by(list(by), maintain_order=True):
        cell = part.select(by).row(0)
        own = dict(zip(by, cell, strict=True))
        z = np.array([float(own[name] == level) for name, level in levels])
        turn = np.zeros((4, 4 + 2 * len(levels)))
        turn[:, :4] = np.eye(4)
        turn[1, 4 : 4 + len(levels)] = -z
        turn[3, 4 + len(levels) :] = -z
        x, t_x, T, weight = (part[c].to_numpy().astype(np.float64) for c in (*keys, "weight"))
        found.append((cell, turn, Patterns(x, t_x / scale, T / scale), weight))
    return found


def _cell_models(
    cells: Sequence[Cell], by: Sequence[str], at: Floats, scale: float
) -> pl.DataFrame:
    rows = []
    for cell, turn, _patterns, _weight in cells:
        r, alpha, s, beta = np.exp(turn @ at)
        rows.append((*cell, float(r), float(alpha * scale), float(s), float(beta * scale)))
    return pl.DataFrame(rows, schema=[*by, "r", "alpha", "s", "beta"], orient="row")


def _table(
    history: PurchaseHistory,
    by: Sequence[str],
    levels: Sequence[tuple[str, Any]],
    effects: Floats,
    errors: Floats,
    conf_level: float,
) -> pl.DataFrame:
    rows: list[tuple[str, Any, str, float, float]] = []
    for offset, process in ((0, _("buying")), (len(levels), _("stopping"))):
        place = {key: offset + i for i, key in enumerate(levels)}
        for name in by:
            for level in _levels(history, name):
                i = place.get((name, level))
                effect, error = (0.0, np.nan) if i is None else (effects[i], errors[i])
                rows.append((name, level, process, float(effect), float(error) or np.nan))
    n = np.array([
        history.table.filter(pl.col(name).eq_missing(pl.lit(level))).height
        for name, level, *_rest in rows
    ])  # fmt: skip
    ratio = np.exp(np.array([row[3] for row in rows]))
    error = np.array([row[4] for row in rows])
    factor = np.exp(normal_quantile(conf_level) * error)
    return pl.DataFrame(
        {
            "covariate": [row[0] for row in rows],
            "level": [None if row[1] is None else str(row[1]) for row in rows],
            "process": [row[2] for row in rows],
            **five_columns(n, ratio, ratio * error, ratio / factor, ratio * factor),
        },
        schema_overrides={"level": pl.String},
    )
