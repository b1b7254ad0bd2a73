"""Which model of buying to believe: several on the same history, and one against what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import TimeUnit
from crm_analysis.errors import InputError
from crm_analysis.estimates import five_columns, small_n_notes
from crm_analysis.frames import check_conf_level, check_one_of
from crm_analysis.lifetime.buying_model import BuyingModel
from crm_analysis.lifetime.checking import MODEL_COLOUR, count_interval
from crm_analysis.lifetime.fitting import buying_or_none, check_model_name
from crm_analysis.lifetime.holdout import HeldOut
from crm_analysis.lifetime.outlook import ModelEstimates
from crm_analysis.uncertainty import mean_interval, wilson_interval
from crm_analysis.wording import Unit, _, date_text, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ModelComparison", "ModelReliability", "compare_models", "model_reliability"]

Floats = NDArray[np.float64]

ALL_MODELS = ("bg_nbd", "mbg_nbd", "pareto_nbd", "mbg_cnbd_k")


# Comparison -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ModelComparison(ModelEstimates):
    """Models of buying on the same histories: one row per model, best AIC first.

    The table has, beside the usual five (mean of purchases expected minus made in the period held
    out, per customer), ``model``, ``n_parameters``, ``log_likelihood``, ``aic``, ``bic``,
    ``mae`` and ``rmse`` (errors of single customers' forecasts), ``mean_active`` (mean
    probability of being active at the start of the period), ``share_bought`` (customers who
    bought in it) and ``brier`` (mean squared difference of the two, customer by customer).

    Attributes
    ----------
    models : tuple of BuyingModel
        The fitted models, in the table's order; those that could not be fitted have none.
    """

    models: tuple[BuyingModel, ...] = ()

    def sentence(self) -> str:
        """Return which model describes the past best, and which foretold best."""
        known = self.table.drop_nulls("aic")
        if known.is_empty():
            return _("{name}: no model could be fitted.", name=self.name)
        best = known.row(0, named=True)
        ahead = known.sort("mae", maintain_order=True).row(0, named=True)
        return _(
            "{best} describes these purchases best (AIC {aic}); {ahead} foretold single customers "
            "best (missed by {mae} purchases on average).",
            best=best["model"],
            aic=number(best["aic"], 1),
            ahead=ahead["model"],
            mae=number(ahead["mae"], 3),
        )

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        plain: tuple[str, ...] = ("log_likelihood", "aic", "bic", "mae", "rmse", "brier")
        return {
            **super().units(),
            "n_parameters": "count",
            **dict.fromkeys(plain, "number"),
            "mean_active": "share",
            "share_bought": "share",
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw each model's bias per customer with its interval, return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(self.table, label="model", ax=ax)
        ax.axvline(0, color="#999999", linewidth=1, linestyle=":")
        figures.write_units(ax, "number", axis="x")
        ax.set_title(self.name)
        return ax


def compare_models(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    unit: TimeUnit = "week",
    models: Sequence[str] = ALL_MODELS,
    holdout_days: int,
    as_of: date,
    conf_level: float = 0.95,
) -> ModelComparison:
    """Which model of buying fits these customers, and which foretells them? (AIC; held-out days).

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col : str
        Columns of the customer's key and of the day.
    unit : {"day", "week", "month", "year"}
        Unit of time of the models; log-likelihoods depend on it, their differences do not.
    models : sequence of str
        Of ``"bg_nbd"``, ``"mbg_nbd"``, ``"pareto_nbd"``, ``"bg_cnbd_k"`` and ``"mbg_cnbd_k"``.
    holdout_days : int
        Length of the period held out, which ends at `as_of`. All models are fitted to what was
        before; customers who came within it are left out.
    as_of : date
        Last day the data covers.
    conf_level : float

    Returns
    -------
    ModelComparison
        One row per model: see there; where k = 1 is chosen, ``"mbg_cnbd_k"`` is MBG/NBD and stands
        once. ``estimate`` is the mean of purchases expected minus made,
        with Student's t interval over customers; null where a model could not be fitted.

    Notes
    -----
    Whether a customer is active is never observed. ``brier`` and ``share_bought`` hold the
    probability of being active against a purchase in the period: an active customer who waits
    longer than the period counts as gone there, so that a period of two usual gaps or more is
    needed, and a difference between models says more than the level.

    References
    ----------
    Platzer & Reutterer (2016), Marketing Science 35:779-799; Akaike (1974), IEEE
    Transactions on Automatic Control 19:716-723.
    """
    names = _model_names(models)
    conf_level = check_conf_level(conf_level)
    held = HeldOut.of(
        purchases, customer_col=customer_col, at_col=at_col, unit=unit,
        holdout_days=holdout_days, as_of=as_of,
    )  # fmt: skip
    fitted, notes = _fit_all(held, names)
    rows = [_judged(held, model, conf_level) for model in fitted]
    table = pl.concat(rows) if rows else _judged_nothing(held)
    order = table["aic"].arg_sort(nulls_last=True).to_list()
    return ModelComparison(
        table=table[order],
        name=_("Models of buying: expected minus made in the period held out, per customer"),
        unit="number",
        definition=_(
            "Mean purchase days per customer from the day after {until} to {as_of} that each model "
            "expected, minus those made; fitted to the purchases until {until}. AIC judges the fit "
            "to those, the lower the better; the Brier score holds the probability of being active "
            "against a purchase in the period.",
            until=date_text(held.until),
            as_of=date_text(held.as_of),
        ),
        by=("model",),
        conf_level=conf_level,
        notes=notes,
        models=tuple(fitted[i] for i in order) if rows else (),
    )


def _model_names(models: Sequence[str]) -> tuple[str, ...]:
    names = (models,) if isinstance(models, str) else tuple(models)
    for name in names:
        check_model_name(name)
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"'models' must name each model once; got {list(names)!r}. Leave out what stands twice."
        )
    return names


def _fit_all(held: HeldOut, names: Sequence[str]) -> tuple[list[BuyingModel], tuple[str, ...]]:
    fitted: list[BuyingModel] = []
    notes: tuple[str, ...] = ()
    for name in names:
        model, said = buying_or_none(held.before, name)
        if model is None:
            notes += tuple(note for note in said if note not in notes)
            continue
        if model.label in [one.label for one in fitted]:
            # k = 1 was chosen: the same model stands there under its own name.
            continue
        fitted.append(model)
        notes += tuple(f"{model.label}: {note}" for note in said)
    return fitted, notes


def _judged(held: HeldOut, model: BuyingModel, conf_level: float) -> pl.DataFrame:
    active, expected = held.forecast(model)
    missed, bought = expected - held.seen, held.seen > 0
    n = np.array([len(missed)])
    mean, deviation = np.array([missed.mean()]), np.array([missed.std(ddof=1)])
    low, high = mean_interval(mean, deviation, n, conf_level)
    return pl.DataFrame(
        {
            "model": [model.label],
            **five_columns(n, mean, deviation / np.sqrt(n), low, high),
            "n_parameters": [model.n_parameters],
            "log_likelihood": pl.Series([model.log_likelihood], dtype=pl.Float64),
            "aic": pl.Series([model.aic], dtype=pl.Float64),
            "bic": pl.Series([model.bic], dtype=pl.Float64),
            "mae": [float(np.abs(missed).mean())],
            "rmse": [float(np.sqrt((missed**2).mean()))],
            "mean_active": [float(active.mean())],
            "share_bought": [float(bought.mean())],
            "brier": [float(((active - bought) ** 2).mean())],
        }
    )


def _judged_nothing(held: HeldOut) -> pl.DataFrame:
    null = np.full(1, np.nan)
    columns = (
        "log_likelihood",
        "aic",
        "bic",
        "mae",
        "rmse",
        "mean_active",
        "share_bought",
        "brier",
    )
    return pl.DataFrame(
        {
            "model": pl.Series([None], dtype=pl.String),
            **five_columns(np.array([held.before.n]), null, null, null, null),
            "n_parameters": pl.Series([None], dtype=pl.Int64),
            **{name: pl.Series([None], dtype=pl.Float64) for name in columns},
        }
    ).clear()


# Reliability ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ModelReliability(ModelEstimates):
    """Customers sorted by a forecast, in groups of like size: what was said and what happened.

    The table has, beside the usual five (what happened: share that bought, or mean purchases),
    ``group`` (1 for the lowest forecasts) and ``expected``, the mean forecast.

    Attributes
    ----------
    quantity : {"active", "purchases"}
    error : float or None
        Mean distance of forecast and outcome over groups, weighed by customers.
    """

    quantity: Literal["active", "purchases"]
    error: float | None

    def sentence(self) -> str:
        """Return how far forecasts and outcomes lie apart."""
        if self.error is None:
            return _("{name}: there is no forecast to compare with.", name=self.name)
        n = number(int(self.table["n"].sum()))
        if self.quantity == "active":
            return _(
                "Over groups of {n} customers the probability of being active lies {error} from "
                "the share that bought in the period held out, on average.",
                n=n,
                error=percent(self.error),
            )
        return _(
            "Over groups of {n} customers the purchases expected lie {error} from those made in "
            "the period held out, on average.",
            n=n,
            error=number(self.error, 3),
        )

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        return {**super().units(), "expected": self.unit, "group": "count"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw outcomes with intervals over forecasts, beside the diagonal; return the Axes."""
        ax = figures.new_axes(ax)
        known = self.table.drop_nulls(["estimate", "expected"])
        x, y = known["expected"].to_numpy(), known["estimate"].to_numpy()
        low = known["conf_low"].fill_null(known["estimate"]).to_numpy()
        high = known["conf_high"].fill_null(known["estimate"]).to_numpy()
        top = float(max(high.max(initial=0.0), x.max(initial=0.0))) or 1.0
        top = 1.0 if self.quantity == "active" else top
        ax.plot([0, top], [0, top], color="#999999", linewidth=1, linestyle=":",
                label=_("as forecast"))  # fmt: skip
        ax.errorbar(x, y, yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)], fmt="o",
                    color=MODEL_COLOUR, label=_("what happened"))  # fmt: skip
        figures.write_units(ax, self.unit, axis="x")
        figures.write_units(ax, self.unit)
        ax.set_xlabel(_("Forecast"))
        ax.set_ylabel(_("What happened"))
        ax.legend(loc="upper left")
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None


def model_reliability(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    unit: TimeUnit = "week",
    model: str = "bg_nbd",
    quantity: Literal["active", "purchases"] = "active",
    n_groups: int = 10,
    holdout_days: int,
    as_of: date,
    conf_level: float = 0.95,
) -> ModelReliability:
    """When the model says so much, does so much happen? (calibration in a period held out).

    Customers are sorted by the model's forecast and cut into `n_groups` groups of like size; ties
    stay together, so there may be fewer.

    Parameters
    ----------
    purchases : table
        One row per purchase, on any backend.
    customer_col, at_col : str
        Columns of the customer's key and of the day.
    unit : {"day", "week", "month", "year"}
        Unit of time of the model.
    model : str
        Which model is fitted to what was before: ``"bg_nbd"``, ``"mbg_nbd"``, ``"pareto_nbd"``,
        ``"bg_cnbd_k"`` or ``"mbg_cnbd_k"``.
    quantity : {"active", "purchases"}
        The probability of being active, against a purchase in the period; or expected purchases,
        against those made.
    n_groups : int
    holdout_days : int
        Length of the period held out, which ends at `as_of`.
    as_of : date
        Last day the data covers.
    conf_level : float

    Returns
    -------
    ModelReliability
        Columns ``group``, ``n`` (customers), ``estimate`` (share that bought, Wilson interval; or
        mean purchases, Student's t), ``std_error``, ``conf_low``, ``conf_high`` and ``expected``
        (mean forecast; null without a model).

    Notes
    -----
    Whether a customer is active is not observed. Of customers who are active a part does not buy
    within the period, so the share that bought is to lie somewhat below the diagonal; the more so
    the shorter the period is.

    References
    ----------
    Murphy & Winkler (1977), Reliability of subjective probability forecasts, Applied Statistics
    26:41-47.
    """
    check_one_of("quantity", quantity, ("active", "purchases"))
    check_model_name(model)
    if n_groups != int(n_groups) or n_groups < 2:
        raise InputError(
            f"'n_groups' must be a whole number of 2 or more; got {n_groups!r}. Pass 10 for tenths."
        )
    conf_level = check_conf_level(conf_level)
    held = HeldOut.of(
        purchases, customer_col=customer_col, at_col=at_col, unit=unit,
        holdout_days=holdout_days, as_of=as_of,
    )  # fmt: skip
    buying, notes = buying_or_none(held.before, model)
    table = _by_forecast(held, buying, quantity, int(n_groups), conf_level)
    label = "BG/NBD" if buying is None else buying.label
    weight = table["n"].to_numpy()
    apart = (table["estimate"] - table["expected"]).abs().to_numpy()
    return ModelReliability(
        table=table,
        name=_reliability_name(quantity),
        unit="share" if quantity == "active" else "number",
        definition=_reliability_definition(quantity, label, held),
        by=("group",),
        conf_level=conf_level,
        notes=notes
        + _not_observed(quantity)
        + small_n_notes(table, ("group",), what=_("customers")),
        quantity=quantity,
        error=None if buying is None else float(weight @ apart / weight.sum()),
    )


def _reliability_name(quantity: str) -> str:
    if quantity == "active":
        return _("Probability of being active, and share that bought")
    return _("Purchases expected, and purchases made")


def _reliability_definition(quantity: str, label: str, held: HeldOut) -> str:
    told = {"model": label, "until": date_text(held.until), "as_of": date_text(held.as_of)}
    if quantity == "active":
        return _(
            "Share of customers who bought from the day after {until} to {as_of}, in groups by the "
            "probability of being active that a {model} model fitted until {until} gave them.",
            **told,
        )
    return _(
        "Mean purchase days per customer from the day after {until} to {as_of}, in groups by what "
        "a {model} model fitted until {until} expected.",
        **told,
    )


def _not_observed(quantity: str) -> tuple[str, ...]:
    if quantity != "active":
        return ()
    return (
        _(
            "Whether a customer is active is not observed: some who are do not buy within the "
            "period, so that shares lie somewhat below the probabilities of a right model."
        ),
    )


def _by_forecast(
    held: HeldOut, model: BuyingModel | None, quantity: str, n_groups: int, conf_level: float
) -> pl.DataFrame:
    active_and_expected = None if model is None else held.forecast(model)
    if active_and_expected is None or not len(held.seen):
        forecast, groups = np.full(len(held.seen), np.nan), np.zeros(len(held.seen), np.int64)
    else:
        forecast = active_and_expected[0 if quantity == "active" else 1]
        edges = np.quantile(forecast, np.arange(1, n_groups) / n_groups)
        groups = np.searchsorted(np.unique(edges), forecast, side="left")
    seen = (held.seen > 0).astype(np.float64) if quantity == "active" else held.seen
    customers = pl.DataFrame({"group": groups, "forecast": forecast, "seen": seen})
    table = (
        customers.group_by("group")
        .agg(
            n=pl.len(),
            total=pl.col("seen").sum(),
            deviation=pl.col("seen").std(),
            expected=pl.col("forecast").mean(),
        )
        .sort("group")
    )
    n, total = table["n"].to_numpy(), table["total"].to_numpy()
    mean = total / n
    if quantity == "active":
        low, high = wilson_interval(total, n, conf_level)
        error = np.sqrt(mean * (1 - mean) / n)
    else:
        deviation = table["deviation"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        low, high = count_interval(mean, deviation, n, conf_level)
        error = deviation / np.sqrt(n)
    return pl.DataFrame(
        {
            "group": np.arange(1, table.height + 1),
            **five_columns(n, mean, error, low, high),
            "expected": table["expected"].fill_nan(None),
        }
    )
