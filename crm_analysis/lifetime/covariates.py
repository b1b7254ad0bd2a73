"""Whether kinds of customers buy and stay differently: Pareto/NBD or BG/NBD with fixed covariates.

How fast customers buy, and how readily they stop, is multiplied by what is known of a customer from
the start: the kind of customer, the brand, the channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import five_columns, small_n_notes
from crm_analysis.frames import check_conf_level, check_one_of, group_names
from crm_analysis.lifetime import beta_geometric, pareto_nbd
from crm_analysis.lifetime.beta_geometric import fit_beta_geometric
from crm_analysis.lifetime.buying_model import BuyingModel, Likelihood, Patterns
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.model_parameters import best_of, covariance_and_notes
from crm_analysis.lifetime.outlook import ModelEstimates, check_groups
from crm_analysis.lifetime.pareto_nbd import fit_pareto_nbd
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import Unit, _, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PurchaseCovariates", "purchase_covariates"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Kind:
    """A model whose log-parameters move by kind.

    Attributes
    ----------
    label : str
    fit : callable
        Without covariates.
    likelihood : callable
    times : tuple of int
        Which parameters are lengths of time.
    moves : tuple of (str, dict)
        Each effect of a level: its process, and by how much of it each log-parameter moves; the
        first two have a row of their own.
    """

    label: str
    fit: Callable[[PurchaseHistory], BuyingModel]
    likelihood: Likelihood
    times: tuple[int, ...]
    moves: tuple[tuple[str, dict[int, float]], ...]


_KINDS = {
    "pareto_nbd": _Kind(
        "Pareto/NBD", fit_pareto_nbd, pareto_nbd.log_likelihood, (1, 3),
        (("buying", {1: -1.0}), ("stopping", {3: -1.0})),
    ),
    # The odds of stopping are a / b; a and b together say how much customers of a kind differ.
    "bg_nbd": _Kind(
        "BG/NBD", fit_beta_geometric, beta_geometric.log_likelihood, (1,),
        (("buying", {1: -1.0}), ("stopping", {2: 0.5, 3: -0.5}), ("alike", {2: 1.0, 3: 1.0})),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PurchaseCovariates(ModelEstimates):
    """How many times as fast customers of a kind buy and stop as those of the reference.

    The table has, beside the usual five (ratio of rates, 1 for the reference; of BG/NBD, ratio of
    the odds of stopping), ``covariate``, ``level`` and ``process`` (``buying`` or ``stopping``).

    Attributes
    ----------
    cells : polars DataFrame
        Combinations of levels that occur, and the parameters of each.
    log_likelihood : float
    likelihood_ratio : float
        Twice what the covariates add to the log-likelihood.
    p_value : float
        Of no effect at all (chi-squared).
    model : BuyingModel
        The model without covariates, fitted to all.
    """

    cells: pl.DataFrame
    log_likelihood: float
    likelihood_ratio: float
    p_value: float
    model: BuyingModel

    def model_for(self, **levels: object) -> BuyingModel:
        """Return the model of customers with these levels.

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
    history: PurchaseHistory,
    *,
    model: str = "pareto_nbd",
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
) -> PurchaseCovariates:
    r"""Do kinds of customers buy and stop at other rates? (Pareto/NBD or BG/NBD with covariates).

    .. math:: \alpha_i = \alpha_0 e^{-\gamma_1' z_i}, \qquad \beta_i = \beta_0 e^{-\gamma_2' z_i}

    by Pareto/NBD, so that :math:`e^{\gamma}` is how many times as fast a kind buys, or stops. By
    BG/NBD, where customers stop after a purchase or not, a and b of the dropout each have effects
    :math:`e^{\gamma_2}` and :math:`e^{\gamma_3}`, and what is shown is the ratio
    :math:`e^{\gamma_2 - \gamma_3}` of the odds a / b. The level with most customers is the
    reference of each covariate. Newton's method with analytic gradient and Hessian over distinct
    patterns, from the best model without covariates.

    Parameters
    ----------
    history : PurchaseHistory
        Counted by `by`; each customer should have one level of each, as one who is seen in two
        groups counts as two.
    model : {"pareto_nbd", "bg_nbd"}
    by : str or sequence of str
        Columns of the history whose levels are compared; what a customer is from the start, and
        not what they became.
    conf_level : float

    Returns
    -------
    PurchaseCovariates
        Columns ``covariate``, ``level``, ``process``, ``n`` (customers of the level),
        ``estimate`` (ratio of rates or odds), ``std_error``, ``conf_low``, ``conf_high`` (normal
        on the log scale; null for the reference and at an edge).

    Raises
    ------
    InputError
        An unknown model, no covariate, only one level in all, or fewer than five customers with a
        repeat purchase.
    NotConvergedError
        The search led to no maximum.

    References
    ----------
    Fader & Hardie (2007), Incorporating time-invariant covariates into the Pareto/NBD and BG/NBD
    models, note 019.
    """
    check_one_of("model", model, tuple(_KINDS))
    by = group_names(by)
    check_groups(history, by)
    conf_level = check_conf_level(conf_level)
    kind = _KINDS[model]
    plain = kind.fit(history)
    levels = [(name, level) for name in by for level in _levels(history, name)[1:]]
    if not levels:
        raise InputError(
            f"Covariates were asked for by {list(by)!r}, which tell no two customers apart. Pass "
            "'by' with columns of two levels or more."
        )
    scale = np.ones(4)
    scale[list(kind.times)] = float(history.table["age"].mean() or 1.0)  # type: ignore[arg-type]
    cells = _cells(history, by, levels, kind, float(scale.max()))
    n_effects = len(kind.moves) * len(levels)
    start = np.concatenate([np.log(plain.theta / scale), np.zeros(n_effects)])
    names = [*plain.values(), *(f"{process} of {level}" for process, _move in kind.moves
                                for _name, level in levels)]  # fmt: skip
    objective = partial(_log_likelihood, cells, kind.likelihood)
    end = best_of(objective, [start], names=names, model=f"{kind.label} with covariates")
    covariance, notes = covariance_and_notes(end, names)
    value = end.value - float(history.table["frequency"].sum()) * float(np.log(scale.max()))
    assert plain.log_likelihood is not None
    ratio = max(0.0, 2 * (value - plain.log_likelihood))
    errors = np.sqrt(np.diag(np.asarray(covariance)))[4:]
    table = _table(history, by, levels, end.at[4:], errors, conf_level)
    return PurchaseCovariates(
        table=table,
        name=_("How fast kinds of customers buy and stop, against the most common kind"),
        unit="number",
        definition=_definition(model),
        by=("covariate", "level", "process"),
        conf_level=conf_level,
        notes=notes + small_n_notes(table, ("covariate", "level", "process"), what=_("customers")),
        cells=_cell_models(cells, by, end.at, scale, list(plain.values())),
        log_likelihood=value,
        likelihood_ratio=ratio,
        p_value=float(stats.chi2.sf(ratio, n_effects)),
        model=plain,
    )


def _definition(model: str) -> str:
    if model == "bg_nbd":
        return _(
            "Ratio of the rates at which customers buy, and of the odds that they stop after a "
            "purchase, to those of the most common level of each covariate; by a BG/NBD model "
            "whose scale and two shapes of dropout differ by level (Fader & Hardie 2007)."
        )
    return _(
        "Ratio of the rates at which customers buy, and stop buying, to those of the most "
        "common level of each covariate; by a Pareto/NBD model whose two scales differ by "
        "level (Fader & Hardie 2007)."
    )


def _log_likelihood(
    cells: Sequence[Cell], likelihood: Likelihood, at: Floats
) -> tuple[float, Floats, Floats]:
    """Sum over the kinds of customers, each at parameters of its own."""
    size = len(at)
    value, slope, curve = 0.0, np.zeros(size), np.zeros((size, size))
    for _cell, turn, patterns, weight in cells:
        v, g, h = likelihood(turn @ at, patterns.x, patterns.t_x, patterns.T, weight)
        value, slope, curve = value + v, slope + turn.T @ g, curve + turn.T @ h @ turn
    return value, slope, curve


def _levels(history: PurchaseHistory, name: str) -> list[Any]:
    counts = history.table.group_by(name).len().sort("len", name, descending=[True, False])
    return counts[name].to_list()


Cell = tuple[tuple[Any, ...], Floats, Patterns, Floats]


def _cells(
    history: PurchaseHistory,
    by: Sequence[str],
    levels: Sequence[tuple[str, Any]],
    kind: _Kind,
    scale: float,
) -> list[Cell]:
    """Return each combination of levels: what turns all parameters into its own, and its data."""
    keys = ["frequency", "recency", "age"]
    grouped = history.table.group_by(*by, *keys).agg(weight=pl.len()).sort(*by, *keys)
    found: list[Cell] = []
    for part in grouped.partition_by(list(by), maintain_order=True):
        cell = part.select(by).row(0)
        own = dict(zip(by, cell, strict=True))
        z = np.array([float(own[name] == level) for name, level in levels])
        turn = np.hstack([np.eye(4), np.zeros((4, len(kind.moves) * len(levels)))])
        for i, (_process, move) in enumerate(kind.moves):
            for parameter, share in move.items():
                turn[parameter, 4 + i * len(levels) : 4 + (i + 1) * len(levels)] = share * z
        x, t_x, T, weight = (part[c].to_numpy().astype(np.float64) for c in (*keys, "weight"))
        found.append((cell, turn, Patterns(x, t_x / scale, T / scale), weight))
    return found


def _cell_models(
    cells: Sequence[Cell], by: Sequence[str], at: Floats, scale: Floats, names: Sequence[str]
) -> pl.DataFrame:
    rows = [
        (*cell, *(np.exp(turn @ at) * scale).tolist()) for cell, turn, _patterns, _weight in cells
    ]
    return pl.DataFrame(rows, schema=[*by, *names], orient="row")


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
