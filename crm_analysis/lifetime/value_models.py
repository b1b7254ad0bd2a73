"""The models behind a value: chosen by what the data say, fitted once, used by every figure."""

from __future__ import annotations

from dataclasses import dataclass

from crm_analysis.errors import InputError, NotConvergedError
from crm_analysis.lifetime.buying_model import BuyingModel
from crm_analysis.lifetime.fitting import BUYING_MODELS, buying_or_none
from crm_analysis.lifetime.gamma_gamma import GammaGamma
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.outlook import spend_or_none
from crm_analysis.wording import _

__all__ = ["ValueModels", "fit_value_models"]

_CANDIDATES = ("bg_nbd", "mbg_cnbd_k")


@dataclass(frozen=True)
class ValueModels:
    """A model of buying and one of spending for the same history.

    Attributes
    ----------
    name : str
        The kind of model of buying, by which the model's checks fit it to other days.
    buying : BuyingModel or None
    spend : GammaGamma or None
        None where the data do not carry one; a metric given None tries again, and says why not.
    notes : tuple of str
        How the model of buying was chosen, and cautions about both fits.
    """

    name: str
    buying: BuyingModel | None
    spend: GammaGamma | None
    notes: tuple[str, ...] = ()


def fit_value_models(history: PurchaseHistory) -> ValueModels:
    """Which models describe how these customers buy and spend? (the lesser BIC).

    Of buying at random with dropout after repeats (BG/NBD) and buying at more regular times
    with dropout after any purchase ((M)BG/CNBD-k, k by likelihood) the one with the lower Bayesian
    information criterion is taken: service visits are near regular, and a model of random buying
    takes lost customers for active ones. Spend is a Gamma-Gamma.

    Parameters
    ----------
    history : PurchaseHistory

    Returns
    -------
    ValueModels
        Pass its ``buying`` and ``spend`` to every figure, so that all rest on one fit.
    """
    fitted = {name: model for name in _CANDIDATES if (model := _tried(name, history)) is not None}
    ranked = sorted(fitted, key=lambda name: _bic(fitted[name]))
    spend, notes = spend_or_none(history, None)
    if not ranked:
        buying, why = buying_or_none(history, None)
        return ValueModels(_CANDIDATES[0], buying, spend, why + notes)
    best = fitted[ranked[0]]
    chosen = _choice(best, fitted[ranked[-1]]) if len(ranked) > 1 else ()
    return ValueModels(ranked[0], best, spend, chosen + best.notes + notes)


def _tried(name: str, history: PurchaseHistory) -> BuyingModel | None:
    try:
        return BUYING_MODELS[name](history)
    except (InputError, NotConvergedError):
        return None


def _bic(model: BuyingModel) -> float:
    return float("inf") if model.bic is None else model.bic


def _choice(best: BuyingModel, other: BuyingModel) -> tuple[str, ...]:
    return (
        _(
            "Of {chosen} and {other} the first describes the purchases better (the lower BIC) and "
            "is used throughout.",
            chosen=best.label,
            other=other.label,
        ),
    )
