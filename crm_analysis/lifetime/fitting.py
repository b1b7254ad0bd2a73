"""Models of buying by name: fit one, or take the one that was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from crm_analysis.errors import InputError, NotConvergedError, listed, near
from crm_analysis.lifetime.beta_geometric import fit_beta_geometric
from crm_analysis.lifetime.buying_model import LEAST_REPEATERS, BuyingModel
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.pareto_nbd import fit_pareto_nbd
from crm_analysis.lifetime.regular_beta_geometric import (
    fit_modified_beta_geometric,
    fit_regular_beta_geometric,
)
from crm_analysis.wording import _, number

__all__ = ["BUYING_MODELS", "buying_or_none", "check_model_name"]

BUYING_MODELS: Mapping[str, Callable[[PurchaseHistory], BuyingModel]] = MappingProxyType(
    {
        "bg_nbd": fit_beta_geometric,
        "mbg_nbd": fit_modified_beta_geometric,
        "pareto_nbd": fit_pareto_nbd,
        "bg_cnbd_k": partial(fit_regular_beta_geometric, modified=False),
        "mbg_cnbd_k": fit_regular_beta_geometric,
    }
)
"""How each model of buying is fitted."""


def check_model_name(model: str) -> None:
    """Refuse a model that is not known.

    Raises
    ------
    InputError
    """
    if model not in BUYING_MODELS:
        raise InputError(
            f"The model of buying {model!r} was asked for{near(model, BUYING_MODELS)}; there are "
            f"{listed(BUYING_MODELS)}. Name one of these, or pass a fitted model."
        )


def buying_or_none(
    history: PurchaseHistory, model: BuyingModel | str | None
) -> tuple[BuyingModel | None, tuple[str, ...]]:
    """Return the model given or fitted, or None with a note that says why.

    Parameters
    ----------
    history : PurchaseHistory
    model : BuyingModel, str or None
        A model, or the name of one to fit; None for BG/NBD.

    Raises
    ------
    InputError
        An unknown name, another unit of time, or a history without what the model needs.
    """
    if isinstance(model, BuyingModel):
        if model.unit != history.unit:
            raise InputError(
                f"The model counts time in {model.unit}s and the history in {history.unit}s. "
                "Count the history in the model's unit, or fit the model to this history."
            )
        return model, ()
    name = "bg_nbd" if model is None else model
    check_model_name(name)
    if history.n_repeat < LEAST_REPEATERS:
        return None, (
            _(
                "Only {k} of {n} customers bought on a second day: too few to fit a model of "
                "buying.",
                k=number(history.n_repeat),
                n=number(history.n),
            ),
        )
    try:
        fitted = BUYING_MODELS[name](history)
    except NotConvergedError:
        return None, (_("No model of buying could be fitted: the search found no maximum."),)
    return fitted, fitted.notes
