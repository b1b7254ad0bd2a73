"""What customers will bring: value, purchases and the share still active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from crm_analysis.dates import DAYS_PER_YEAR
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import check_conf_level, check_one_of, group_names
from crm_analysis.lifetime.beta_geometric import BetaGeometric
from crm_analysis.lifetime.buying_model import BuyingModel
from crm_analysis.lifetime.fitting import buying_or_none
from crm_analysis.lifetime.gamma_gamma import GammaGamma, spend_weights
from crm_analysis.lifetime.history import PurchaseHistory, days_in
from crm_analysis.lifetime.model_parameters import ModelParameters, empty_parameters
from crm_analysis.lifetime.outlook import (
    Horizon,
    ModelEstimates,
    Outlook,
    check_groups,
    check_resamples,
    model_cautions,
    regularity,
    spend_or_none,
)
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import Unit, _, money, number, percent

__all__ = [
    "LifetimeValue",
    "PurchaseRegularity",
    "active_share",
    "buying_parameters",
    "expected_purchases",
    "lifetime_value",
    "purchase_regularity",
    "spend_parameters",
]


DISCOUNTED_AWAY = 16.0
"""For ever ends where a purchase is worth exp(-16) of one today, less than a ten-millionth."""


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LifetimeValue(ModelEstimates):
    """The value of customers: one row per group.

    The table has, beside the usual five, ``total``: the value of all n customers together.

    Attributes
    ----------
    customers : polars DataFrame
        One row per customer: the history's columns, ``probability_active``,
        ``expected_purchases`` over the horizon (not discounted; null for ever),
        ``expected_spend`` per purchase and ``value`` (discounted); null where nothing can be said.
        It names customers, so it belongs in analysis and never on a page.
    """

    customers: pl.DataFrame

    def sentence(self) -> str:
        """Return the mean value per customer, and the total when there is one group."""
        text = super().sentence()
        if self.by or self.table["total"][0] is None:
            return text
        total = money(self.table["total"][0], self.currency)
        return f"{text[:-1]}; " + _("{total} for all of them", total=total) + "."

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns: money, but for n."""
        return {**super().units(), "total": "money"}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PurchaseRegularity(Estimates):
    """How regular gaps between purchases are: k, where 1 is chance; one row per group."""

    def sentence(self) -> str:
        """Return whether gaps are more or less regular than chance, and what follows."""
        if self.by or self.table["conf_low"].null_count():
            return super().sentence()
        row = self.table.row(0, named=True)
        value = self.value_text(row)
        if row["conf_low"] > 1:
            return _(
                "Gaps between purchases are more regular than chance: k = {value}; a model of "
                "random buying then takes lost customers for active ones.",
                value=value,
            )
        if row["conf_high"] < 1:
            return _("Purchases come in bursts rather than at random: k = {value}.", value=value)
        return _("Gaps between purchases are as irregular as chance: k = {value}.", value=value)


def lifetime_value(
    history: PurchaseHistory,
    *,
    model: BuyingModel | str | None = None,
    spend_model: GammaGamma | None = None,
    horizon_months: float | None = 36,
    annual_discount_rate: float = 0.10,
    currency: str | None = None,
    n_resamples: int = 200,
    seed: int = 0,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "parameters",
) -> LifetimeValue:
    r"""What will these customers' next purchases bring, discounted? (model x spend).

    .. math:: \int_0^H e^{-\delta t}\, E[\text{purchases at } t \mid x, t_x, T]\, dt
              \times E[\text{spend} \mid x, m], \quad \delta = \ln(1 + \text{rate}) / \text{units}

    Parameters
    ----------
    history : PurchaseHistory
        Counted with a value column, from `purchase_history`.
    model : BuyingModel or str, optional
        Model of buying, or the name of one that is fitted to the whole history: ``"bg_nbd"`` (when
        not given), ``"mbg_nbd"``, ``"pareto_nbd"``, ``"bg_cnbd_k"`` or ``"mbg_cnbd_k"``. Service
        visits are near regular: fit them by ``"mbg_cnbd_k"``.
    spend_model : GammaGamma, optional
        Model of spend; fitted to the whole history when not given.
    horizon_months : float or None
        How far ahead, in months of 365.25 / 12 days from the history's last day. None = for ever,
        which takes a discount above 0: the papers' discounted expected residual transactions
        (DERT) times spend.
    annual_discount_rate : float
        Effective rate a year: 0.10 makes 110 next year worth 100 today. Purchases are
        discounted continuously, from the moment at which each is expected.
    currency : str, optional
        ISO code, for the words only.
    n_resamples, seed : int
        How often parameters are drawn for the interval; the same seed, the same interval.
    by : str or sequence of str
        Group columns by which the history was counted, or its customers' column for one row per
        customer. The models are one for all groups: groups differ by their customers' histories.
    conf_level : float
    ci_method : {"parameters"}
        Parametric bootstrap: quantiles of the mean over parameters of both models drawn from
        their fitted normal distributions on the log scale. The interval covers what is not known
        of the parameters. It does not cover the chance in what these customers will do, a wrong
        model, nor which customers came to be in the data: it is about these. So also for one
        customer: it bounds what to expect of such a customer, not what this one will bring.

    Returns
    -------
    LifetimeValue
        Columns of `by`, ``n`` (customers), ``estimate`` (mean value per customer), ``std_error``,
        ``conf_low``, ``conf_high``, ``total``; and ``customers``, with one row each. Null, with a
        note, where no model can be fitted.

    Raises
    ------
    InputError
        A horizon or a rate below 0, no end without a discount, or groups by which the history was
        not counted.

    Notes
    -----
    Values the purchases to come, not the past, nor customers yet to be won. Assumes that spend
    per purchase does not go with frequency, that everybody keeps the habits they have until they
    stop, and random (Poisson) buying: near regular visits such as services break that, and a note
    says when the data show it. A mean value of zero or less is drawn towards the mean of all like
    any other, so that a value may be negative.

    References
    ----------
    Fader, Hardie & Lee (2005), Journal of Marketing Research 42:415-430; Fader & Hardie (2013),
    note 025.
    """
    by = group_names(by)
    each = bool(set(by) & set(history.identity))
    check_groups(history, [name for name in by if name not in history.identity])
    check_resamples(n_resamples)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("parameters",))
    horizon = _horizon(history, horizon_months, annual_discount_rate)
    buying, notes = buying_or_none(history, model)
    spend, spend_notes = spend_or_none(history, spend_model)
    table = Outlook(history, by).estimate(
        "value", buying, spend, horizon,
        conf_level=conf_level, n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    return LifetimeValue(
        table=table.with_columns(total=pl.col("estimate") * pl.col("n")),
        name=_value_name(horizon_months),
        unit="money",
        definition=_value_definition(horizon_months, annual_discount_rate, buying),
        by=by,
        conf_level=conf_level,
        notes=notes
        + spend_notes
        + model_cautions(history, buying)
        + (_one_customer() if each else _row_notes(table, by) + shared_model(by)),
        currency=currency,
        key=f"value_over_{horizon_months}_months",
        better="higher",
        drifts=True,
        customers=_customers(history, buying, spend, horizon),
    )


def shared_model(by: Sequence[str]) -> tuple[str, ...]:
    """Say of groups that one model values them all."""
    if not by:
        return ()
    return (
        _(
            "One model of buying and of spending serves all groups. A page made for one group "
            "alone fits its own, and values it by its own customers only: the two differ."
        ),
    )


def _one_customer() -> tuple[str, ...]:
    return (
        _(
            "The interval of one customer bounds what to expect of a customer with such a history; "
            "what this one will bring scatters far more widely."
        ),
    )


def _horizon(history: PurchaseHistory, months: float | None, annual_rate: float = 0.0) -> Horizon:
    if not 0 <= annual_rate < 1:
        raise InputError(
            f"'annual_discount_rate' must be a fraction from 0 up to 1; got {annual_rate!r}. "
            "Pass 0.10 for ten per cent a year."
        )
    if months is None and annual_rate == 0:
        raise InputError(
            "A value without an end (horizon_months=None) was asked for, without a discount: it "
            "may have no bound. Discount the future, or end it after so many months."
        )
    if months is not None and not (np.isfinite(months) and months >= 0):
        raise InputError(
            f"'horizon_months' must be a number of months of 0 or more; got {months!r}. "
            "Pass, for example, horizon_months=36."
        )
    discount = float(np.log1p(annual_rate)) * history.unit_days / DAYS_PER_YEAR
    if months is None:
        return Horizon(DISCOUNTED_AWAY / discount, discount)
    return Horizon(months * days_in("month") / history.unit_days, discount)


def _value_name(months: float | None) -> str:
    if months is None:
        return _("Value per customer of all that is to come")
    return _("Value per customer over the next {n} months", n=number(months))


def _value_definition(months: float | None, rate: float, buying: BuyingModel | None) -> str:
    if months is None:
        return _(
            "Expected value of all purchases a customer is still to make, discounted at {rate} a "
            "year: how often they are expected to buy ({model}) times what they spend "
            "(Gamma-Gamma). The interval covers what is not known of the models' parameters, not "
            "the chance in what these customers will do.",
            rate=percent(rate, 1),
            model=_label(buying),
        )
    return _(
        "Expected value of a customer's purchases in the next {months} months, discounted at "
        "{rate} a year: how often they are expected to buy ({model}) times what they spend "
        "(Gamma-Gamma). The interval covers what is not known of the models' parameters, not the "
        "chance in what these customers will do.",
        months=number(months),
        rate=percent(rate, 1),
        model=_label(buying),
    )


def _label(buying: BuyingModel | None) -> str:
    return "BG/NBD" if buying is None else buying.label


def _row_notes(table: pl.DataFrame, by: Sequence[str]) -> tuple[str, ...]:
    if not by and not table["n"].sum():
        return (_("No customer had bought by then: there is nothing to count."),)
    return small_n_notes(table, by, what=_("customers"))


def _customers(
    history: PurchaseHistory,
    buying: BuyingModel | None,
    spend: GammaGamma | None,
    horizon: Horizon,
) -> pl.DataFrame:
    columns: dict[str, pl.Series] = {}
    unknown = np.full(history.n, np.nan)
    every = Outlook(history.as_rows(), ("row",))
    values = dict.fromkeys(
        ("probability_active", "expected_purchases", "expected_spend", "value"), unknown
    )
    if buying is not None and history.n:
        values["probability_active"] = every.active(buying)
        if horizon.length * horizon.discount < DISCOUNTED_AWAY:
            values["expected_purchases"] = every.purchases(buying, Horizon(horizon.length))
        if spend is not None:
            c0, c1 = spend_weights(spend.theta, every.n_valued)
            values["expected_spend"] = c0 + c1 * every.value
            discounted = every.purchases(buying, horizon)
            values["value"] = discounted * values["expected_spend"]
    for name, array in values.items():
        finite = np.where(np.isfinite(array), array, np.nan)
        columns[name] = pl.Series(name, finite, pl.Float64).fill_nan(None)
    return history.table.with_columns(**columns)


def expected_purchases(
    history: PurchaseHistory,
    *,
    model: BuyingModel | str | None = None,
    horizon_months: float = 12,
    n_resamples: int = 200,
    seed: int = 0,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "parameters",
) -> ModelEstimates:
    """How many more purchases will a customer make on average? (the mean).

    Parameters
    ----------
    history : PurchaseHistory
    model : BuyingModel or str, optional
        A model, or the name of one to fit, as in `lifetime_value`.
    horizon_months : float
        How far ahead, in months of 365.25 / 12 days.
    n_resamples, seed, by, conf_level, ci_method
        As in `lifetime_value`.

    Returns
    -------
    ModelEstimates
        Columns of `by`, ``n`` (customers), ``estimate`` (purchase days per customer),
        ``std_error``, ``conf_low``, ``conf_high``; null, with a note, without a model.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284, equation 10.
    """
    by, conf_level = _checked(history, by, conf_level, n_resamples, ci_method)
    horizon = _horizon(history, horizon_months)
    buying, notes = buying_or_none(history, model)
    table = Outlook(history, by).estimate(
        "purchases", buying, None, horizon,
        conf_level=conf_level, n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    return ModelEstimates(
        table=table,
        name=_("Purchases per customer in the next {n} months", n=number(horizon_months)),
        unit="number",
        definition=_(
            "Expected purchase days per customer in the next {n} months by a {model} model of "
            "these customers' histories. The interval covers what is not known of its parameters.",
            n=number(horizon_months),
            model=_label(buying),
        ),
        by=by,
        conf_level=conf_level,
        notes=notes + model_cautions(history, buying) + _row_notes(table, by),
        key=f"purchases_in_{horizon_months}_months",
        better="higher",
        drifts=True,
    )


def active_share(
    history: PurchaseHistory,
    *,
    model: BuyingModel | str | None = None,
    n_resamples: int = 200,
    seed: int = 0,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "parameters",
) -> ModelEstimates:
    """What share of the customers is probably still active? (mean P(alive)).

    Parameters
    ----------
    history : PurchaseHistory
    model : BuyingModel or str, optional
        A model, or the name of one to fit, as in `lifetime_value`.
    n_resamples, seed, by, conf_level, ci_method
        As in `lifetime_value`.

    Returns
    -------
    ModelEstimates
        Columns of `by`, ``n`` (customers), ``estimate`` (share, 0 to 1), ``std_error``,
        ``conf_low``, ``conf_high``; null, with a note, without a model.

    Notes
    -----
    By BG/NBD, customers who bought once count as active for certain, and near regular visits make
    lost customers look active: notes say when. For service visits ask ``model="mbg_cnbd_k"``.

    References
    ----------
    Fader, Hardie & Lee (2005), Marketing Science 24:275-284; Schmittlein, Morrison & Colombo
    (1987), Management Science 33:1-24.
    """
    by, conf_level = _checked(history, by, conf_level, n_resamples, ci_method)
    buying, notes = buying_or_none(history, model)
    table = Outlook(history, by).estimate(
        "active", buying, None, Horizon(),
        conf_level=conf_level, n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    return ModelEstimates(
        table=table,
        name=_("Share of customers probably still active"),
        unit="share",
        definition=_(
            "Mean probability that a customer would still buy, by a {model} model of these "
            "customers' histories. The interval covers what is not known of its parameters.",
            model=_label(buying),
        ),
        by=by,
        conf_level=conf_level,
        notes=notes + model_cautions(history, buying) + _row_notes(table, by),
        key="active_share",
        better="higher",
        drifts=True,
    )


def _checked(
    history: PurchaseHistory,
    by: str | Sequence[str],
    conf_level: float,
    n_resamples: int,
    ci_method: str,
) -> tuple[tuple[str, ...], float]:
    names = group_names(by)
    check_groups(history, names)
    check_resamples(n_resamples)
    check_one_of("ci_method", ci_method, ("parameters",))
    return names, check_conf_level(conf_level)


def purchase_regularity(
    history: PurchaseHistory, *, by: str | Sequence[str] = (), conf_level: float = 0.95
) -> PurchaseRegularity:
    r"""How regular are the gaps between purchases? (k = 1 is chance; Greenwood's statistic).

    Given first and last purchase, the gaps of an Erlang-k buyer are Dirichlet(k, …, k), with
    mean ``sum(gap**2) / t_x**2 = (k + 1) / (k x + 1)`` whatever the customer's rate and however
    customers stop. k is where the sums over customers agree.

    Parameters
    ----------
    history : PurchaseHistory
        Counted by `purchase_history`; a ready-made summary has no gaps.
    by : str or sequence of str
        Group columns by which the history was counted.
    conf_level : float

    Returns
    -------
    PurchaseRegularity
        Columns of `by`, ``n`` (customers with two repeats or more), ``estimate`` (k),
        ``std_error`` (sandwich), ``conf_low``, ``conf_high`` (normal on the log scale). Above 1
        purchases are more regular than chance, below 1 they come in bursts. Null where no k
        fits: perfectly equal gaps, or fewer than two such customers.

    References
    ----------
    Greenwood (1946), Journal of the Royal Statistical Society 109:85-110; Platzer & Reutterer
    (2016), Ticking away the moments, Marketing Science 35:779-799.
    """
    by = group_names(by)
    check_groups(history, by)
    conf_level = check_conf_level(conf_level)
    parts = history.table.sort(by, nulls_last=True) if by else history.table
    groups = parts.partition_by(list(by), maintain_order=True) if by else [parts]
    rows = np.array([regularity(part) for part in groups], np.float64).reshape(-1, 3)
    n, k, error = rows.T
    factor = np.exp(normal_quantile(conf_level) * error / k)
    table = pl.DataFrame(five_columns(n, k, error, k / factor, k * factor))
    if by:
        heads = [part.select(by).head(1) for part in groups]
        head = pl.concat(heads) if heads else parts.select(by)
        table = pl.concat([head, table], how="horizontal")
    return PurchaseRegularity(
        table=table,
        name=_("Regularity of purchases (1 is chance)"),
        unit="number",
        definition=_(
            "How many random events one purchase is like (k of an Erlang distribution), from the "
            "spread of gaps within customers with two repeats or more: 1 is chance, which BG/NBD "
            "assumes; higher is more regular, lower comes in bursts."
        ),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("customers with two repeats")),
    )


def buying_parameters(
    history: PurchaseHistory, *, model: BuyingModel | str | None = None, conf_level: float = 0.95
) -> ModelParameters:
    """What are the parameters of these customers' buying? (the fit).

    Parameters
    ----------
    history : PurchaseHistory
    model : BuyingModel or str, optional
        A model, or the name of one to fit, as in `lifetime_value`.
    conf_level : float

    Returns
    -------
    ModelParameters
        As `BetaGeometric.parameters`; without rows, and with a note, where no model can be fitted.
    """
    buying, notes = buying_or_none(history, model)
    shown = buying or BetaGeometric(1.0, 1.0, 1.0, 1.0, unit=history.unit)
    result = shown.parameters(conf_level=conf_level)
    return result if buying is not None else empty_parameters(result, notes)


def spend_parameters(
    history: PurchaseHistory, *, model: GammaGamma | None = None, conf_level: float = 0.95
) -> ModelParameters:
    """What are the parameters of these customers' spend? (Gamma-Gamma).

    Parameters
    ----------
    history : PurchaseHistory
        Counted with a value column.
    model : GammaGamma, optional
        Fitted to the whole history when not given.
    conf_level : float

    Returns
    -------
    ModelParameters
        As `GammaGamma.parameters`; without rows, and with a note, where no model can be fitted.
    """
    spend, notes = spend_or_none(history, model)
    result = (spend or GammaGamma(1.0, 2.0, 1.0)).parameters(conf_level=conf_level)
    return result if spend is not None else empty_parameters(result, notes)
