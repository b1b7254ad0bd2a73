"""Gamma-gamma spend: what each purchase brings, and what is expected of the next.

The margin of a purchase is Gamma(p, nu) and nu differs over customers as Gamma(q, v), whatever
their buying: the model of Fader, Hardie & Lee (2005), "RFM and CLV", J. Marketing Research 42,
415-430, in the form of Fader & Hardie (2013), note 025.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic.closed_form.draws import gamma, rounded
from synthetic.closed_form.parameters import OWN, Cohort, parameter, scale, shape
from synthetic.keyed import Floats, Ints, Keyed

_SOURCE = "Fader & Hardie (2013), note 025: CDNOW"
_LEAST_CENTS = 1.0


@dataclass(frozen=True, kw_only=True)
class Spending(Cohort):
    """Parameters of spend beside those of the cohort."""

    spend_p: float = shape(6.25, "spend: shape p of one purchase's margin", _SOURCE, "published")
    spend_q: float = parameter(
        3.74, "spend: shape q of customers' rates nu; the mean needs q above 1", "shape", _SOURCE,
        "published", least=1.05, most=1e3,
    )  # fmt: skip
    spend_v: float = scale(
        15.44, "spend: rate v of customers' rates nu", "currency units", _SOURCE, "published"
    )
    margin_share: float = parameter(
        0.46, "margin of a purchase to its revenue", "fraction", OWN, "assumed",
        least=0.01, most=1.0,
    )  # fmt: skip


def spend_rate(draws: Keyed, parameters: Spending, ids: Ints) -> Floats:
    """Return each customer's nu."""
    return gamma(draws, "closed.spend_rate@1", parameters.spend_q, parameters.spend_v, ids)


def spend(draws: Keyed, parameters: Spending, nu: Floats, ids: Ints, number: Ints) -> Floats:
    """Return the margin of each purchase, exactly."""
    return gamma(draws, "closed.spend@1", parameters.spend_p, nu, ids, number)


def cents(value: Floats) -> Floats:
    """Return money in whole cents, at least one, as the open tables hold it."""
    return np.asarray(np.maximum(np.rint(value * 100), _LEAST_CENTS) / 100)


def expected_spend(parameters: Spending, n_repeats: Floats, total: Floats) -> Floats:
    """Return the mean margin expected of a customer, given the margins of repeat purchases.

    ``p (v + total) / (p x + q - 1)``, equation (5) of note 025 with total = m x.
    """
    p, q, v = parameters.spend_p, parameters.spend_q, parameters.spend_v
    return rounded(p * (v + total) / (p * n_repeats + q - 1))
