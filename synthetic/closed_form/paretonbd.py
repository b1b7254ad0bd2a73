r"""World ``paretonbd``: customers buy at random and may leave at any moment.

While active, customer i buys at rate :math:`\lambda_i` (Poisson) and leaves at rate
:math:`\mu_i`; :math:`\lambda \sim Gamma(r, \alpha)`, :math:`\mu \sim Gamma(s, \beta)`, independent.

References
----------
Schmittlein, Morrison & Colombo (1987), "Counting your customers: who are they and what will they
do next?", Management Science 33, 1-24. Fader, Hardie & Lee (2005), "RFM and CLV: using iso-value
curves for customer base analysis", J. Marketing Research 42, 415-430 (discounted purchases; the
defaults are its estimates for CDNOW, in weeks).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from synthetic.closed_form.buying import Events, Histories, Latents, Outlook, follow
from synthetic.closed_form.draws import erlang_ticks, gamma
from synthetic.closed_form.integrals import discounted
from synthetic.closed_form.parameters import WEEK, scale, shape
from synthetic.closed_form.spending import Spending
from synthetic.keyed import Flags, Floats, Ints, Keyed

_SOURCE = "Fader, Hardie & Lee (2005), J. Marketing Research 42: CDNOW"


@dataclass(frozen=True, kw_only=True)
class ParetoBuying(Spending):
    """Parameters of the Pareto/NBD with gamma-gamma spend; time in weeks."""

    r: float = shape(0.553, "buying rates: shape r", _SOURCE, "published")
    alpha: float = scale(10.578, "buying rates: rate alpha", "weeks", _SOURCE, "published")
    s: float = shape(0.606, "leaving rates: shape s", _SOURCE, "published")
    beta: float = scale(11.669, "leaving rates: rate beta", "weeks", _SOURCE, "published")


def _series(parameters: ParetoBuying, x: Floats, at: Floats) -> Floats:
    """Return ``2F1(1, r + x; r + s + x + 1; (alpha - beta) / (alpha + at))``."""
    r, alpha, s, beta = parameters.r, parameters.alpha, parameters.s, parameters.beta
    c = r + s + x + 1
    if alpha >= beta:
        return np.asarray(special.hyp2f1(1.0, r + x, c, (alpha - beta) / (alpha + at)))
    found = special.hyp2f1(1.0, s + 1, c, (beta - alpha) / (beta + at))
    return np.asarray(found * (alpha + at) / (beta + at))


def probability_alive(parameters: ParetoBuying, x: Floats, t_x: Floats, T: Floats) -> Floats:
    """Return P(alive | x, t_x, T) of Schmittlein et al.

    In Euler's form of the hypergeometric function, which holds for alpha above and below beta.
    """
    r, alpha, s, beta = parameters.r, parameters.alpha, parameters.s, parameters.beta
    log_ratio = (r + x) * np.log((alpha + T) / (alpha + t_x)) + s * np.log(
        (beta + T) / (beta + t_x)
    )
    # Beyond 1e280 the chance is zero to any digit; the cut only keeps the exponential finite.
    ratio = np.exp(np.minimum(log_ratio, 645.0))
    odds = ratio * _series(parameters, x, t_x) - _series(parameters, x, T)
    return np.asarray(1 / (1 + s / (r + s + x) * np.maximum(odds, 0.0)))


def purchases_if_alive(
    parameters: ParetoBuying,
    x: Floats,
    T: Floats,
    *,
    horizon: float | None,
    discount: float = 0.0,
) -> Floats:
    """Return purchases expected of customers alive at T, over a horizon in weeks (None = ever).

    The rate of buying, ``(r + x) / (alpha + T) ((beta + T) / (beta + T + t)) ** s``, integrated;
    without a discount as in Schmittlein et al., for ever the DERT of Fader, Hardie &
    Lee (2005), whose Tricomi function is this integral.
    """
    ages, which = np.unique(T, return_inverse=True)
    length = parameters.beta + ages
    found = discounted(
        lambda after: (1 + after / length[:, None]) ** -parameters.s,
        length,
        horizon=horizon,
        discount=discount,
    )
    return np.asarray((parameters.r + x) / (parameters.alpha + T) * found[which])


def expected_purchases_new(parameters: ParetoBuying, weeks: Floats) -> Floats:
    """Return repeat purchases expected of a new customer (Schmittlein et al.)."""
    zero = np.zeros(1)
    return np.array(
        [
            purchases_if_alive(parameters, zero, zero, horizon=float(t))[0] if t else 0.0
            for t in weeks
        ]
    )


def share_alive(parameters: ParetoBuying, weeks: Floats) -> Floats:
    """Return the share still active: ``(beta / (beta + t)) ** s``."""
    return np.asarray((1 + weeks / parameters.beta) ** -parameters.s)


def own_purchases(
    rate: Floats, death_rate: Floats, *, horizon: float | None, discount: float = 0.0
) -> Floats:
    r"""Return :math:`\lambda (1 - e^{-(\mu + \delta) H}) / (\mu + \delta)`, of the living."""
    ends = death_rate + discount
    share = 1.0 if horizon is None else -np.expm1(-ends * horizon)
    return np.asarray(rate * share / ends)


class ParetoModel:
    """How the world ``paretonbd`` makes customers and what it knows of them."""

    def latents(self, draws: Keyed, parameters: ParetoBuying, ids: Ints) -> Latents:
        """Return lambda and mu."""
        return Latents(
            rate=gamma(draws, "paretonbd.rate@1", parameters.r, parameters.alpha, ids),
            death_rate=gamma(draws, "paretonbd.death_rate@1", parameters.s, parameters.beta, ids),
        )

    def events(
        self,
        draws: Keyed,
        parameters: ParetoBuying,  # noqa: ARG002 - the latents say it all here
        who: Latents,
        ids: Ints,
        limit: Ints,
    ) -> Events:
        """Follow customers up to a tick each."""
        assert who.death_rate is not None
        left = erlang_ticks(draws, "paretonbd.lifetime@1", 1, who.death_rate, ids, 0)

        def gap(row: Ints, number: int) -> Ints:
            return erlang_ticks(draws, "paretonbd.gap@1", 1, who.rate[row], ids[row], number)

        def stays(row: Ints, _: int) -> Flags:
            return np.ones(len(row), dtype=np.bool_)

        return follow(len(ids), limit, gap, stays, left)

    def outlook(self, parameters: ParetoBuying, who: Latents, histories: Histories) -> Outlook:
        """Return what is expected of customers."""
        x, T, death = histories.x, histories.T, who.death_rate
        ahead, rate = parameters.horizon_days / WEEK, parameters.discount(WEEK)
        assert death is not None
        return Outlook(
            alive=probability_alive(parameters, x, histories.t_x, T),
            purchases=purchases_if_alive(parameters, x, T, horizon=ahead),
            discounted=purchases_if_alive(parameters, x, T, horizon=ahead, discount=rate),
            ever=purchases_if_alive(parameters, x, T, horizon=None, discount=rate),
            own=own_purchases(who.rate, death, horizon=ahead),
            own_discounted=own_purchases(who.rate, death, horizon=ahead, discount=rate),
            own_ever=own_purchases(who.rate, death, horizon=None, discount=rate),
        )

    def curves(self, parameters: ParetoBuying, weeks: Floats) -> dict[str, Floats]:
        """Return exact population curves by quantity."""
        return {
            "share alive": share_alive(parameters, weeks),
            "repeat purchases": expected_purchases_new(parameters, weeks),
        }
