r"""World ``bgnbd``: customers buy at random and may leave after any repeat purchase.

While active, customer i buys at rate :math:`\lambda_i` (Poisson), and leaves after each repeat
purchase with chance :math:`p_i`; :math:`\lambda \sim Gamma(r, \alpha)`, :math:`p \sim Beta(a, b)`,
independent. Nobody leaves before the first repeat purchase.

References
----------
Fader, Hardie & Lee (2005), "'Counting your customers' the easy way: an alternative to the
Pareto/NBD model", Marketing Science 24, 275-284; the defaults are table 2
(CDNOW, weeks).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from synthetic.closed_form.buying import NEVER, Events, Histories, Latents, Outlook, follow
from synthetic.closed_form.draws import beta, erlang_ticks, gamma
from synthetic.closed_form.integrals import discounted
from synthetic.closed_form.parameters import WEEK, scale, shape
from synthetic.closed_form.spending import Spending
from synthetic.keyed import Flags, Floats, Ints, Keyed

_SOURCE = "Fader, Hardie & Lee (2005), Marketing Science 24, table 2: CDNOW"


@dataclass(frozen=True, kw_only=True)
class BetaGeometricBuying(Spending):
    """Parameters of the BG/NBD with gamma-gamma spend; time in weeks."""

    r: float = shape(0.243, "buying rates: shape r", _SOURCE, "published")
    alpha: float = scale(4.414, "buying rates: rate alpha", "weeks", _SOURCE, "published")
    a: float = shape(0.793, "dropout: first shape a", _SOURCE, "published")
    b: float = shape(2.426, "dropout: second shape b", _SOURCE, "published")


def probability_alive(parameters: BetaGeometricBuying, x: Floats, t_x: Floats, T: Floats) -> Floats:
    """Return P(alive | x, t_x, T): one without a repeat purchase."""
    r, alpha, a, b = parameters.r, parameters.alpha, parameters.a, parameters.b
    log_odds = np.log(a / (b + np.maximum(x, 1) - 1))
    log_odds = log_odds + (r + x) * np.log((alpha + T) / (alpha + t_x))
    return np.where(x > 0, special.expit(-log_odds), 1.0)


def buying_rate(parameters: BetaGeometricBuying, x: Floats, T: Floats, after: Floats) -> Floats:
    r"""Return the expected rate of buying at a time `after` T, of customers alive at T.

    The mean of :math:`\lambda e^{-\lambda p t}` over the posterior Gamma(r + x, alpha + T) and
    Beta(a, b + x), by Pfaff's transformation of the derivative of equation (10):
    ``(R / A) (1 + t / A) ** -a 2F1(a, a + b - r - 1; a + b + x; t / (A + t))``.
    """
    r, a, b = parameters.r, parameters.a, parameters.b
    age = parameters.alpha + T
    series = special.hyp2f1(a, a + b - r - 1, a + b + x, after / (age + after))
    return np.asarray((r + x) / age * (1 + after / age) ** -a * series)


def purchases_if_alive(
    parameters: BetaGeometricBuying,
    x: Floats,
    T: Floats,
    *,
    horizon: float | None,
    discount: float = 0.0,
) -> Floats:
    """Return purchases expected of customers alive at T, over a horizon in weeks (None = ever)."""
    pairs, which = np.unique(np.stack([x, T], axis=1), axis=0, return_inverse=True)
    one, age = pairs[:, :1], pairs[:, 1:]
    found = discounted(
        lambda after: buying_rate(parameters, one, age, after),
        parameters.alpha + pairs[:, 1],
        horizon=horizon,
        discount=discount,
    )
    return np.asarray(found[which.ravel()])


def expected_purchases_new(parameters: BetaGeometricBuying, weeks: Floats) -> Floats:
    """Return repeat purchases expected of a new customer (equation 9)."""
    zero = np.zeros(1)
    return np.array(
        [
            purchases_if_alive(parameters, zero, zero, horizon=float(t))[0] if t else 0.0
            for t in weeks
        ]
    )


def share_alive(parameters: BetaGeometricBuying, weeks: Floats) -> Floats:
    r"""Return the share still active a time after the first purchase: the mean of
    :math:`e^{-\lambda p t}`.
    """  # noqa: D205 - one sentence
    r, alpha, a, b = parameters.r, parameters.alpha, parameters.a, parameters.b
    series = special.hyp2f1(a, a + b - r, a + b, weeks / (alpha + weeks))
    return np.asarray((1 + weeks / alpha) ** -a * series)


def own_purchases(
    rate: Floats, dropout: Floats, *, horizon: float | None, discount: float = 0.0
) -> Floats:
    r"""Return purchases expected of a living customer with known lambda and p.

    :math:`\lambda (1 - e^{-(\lambda p + \delta) H}) / (\lambda p + \delta)`.
    """
    ends = rate * dropout + discount
    share = 1.0 if horizon is None else -np.expm1(-ends * horizon)
    return np.asarray(rate * share / ends)


class BetaGeometricModel:
    """How the world ``bgnbd`` makes customers and what it knows of them."""

    def latents(self, draws: Keyed, parameters: BetaGeometricBuying, ids: Ints) -> Latents:
        """Return lambda and p."""
        return Latents(
            rate=gamma(draws, "bgnbd.rate@1", parameters.r, parameters.alpha, ids),
            dropout=beta(draws, "bgnbd.dropout@1", parameters.a, parameters.b, ids),
        )

    def events(
        self,
        draws: Keyed,
        parameters: BetaGeometricBuying,  # noqa: ARG002 - the latents say it all here
        who: Latents,
        ids: Ints,
        limit: Ints,
    ) -> Events:
        """Follow customers up to a tick each."""
        dropout = who.dropout
        assert dropout is not None

        def gap(row: Ints, number: int) -> Ints:
            return erlang_ticks(draws, "bgnbd.gap@1", 1, who.rate[row], ids[row], number)

        def stays(row: Ints, number: int) -> Flags:
            return ~draws.chance("bgnbd.leaves@1", dropout[row], ids[row], number)

        return follow(len(ids), limit, gap, stays, np.full(len(ids), NEVER))

    def outlook(
        self, parameters: BetaGeometricBuying, who: Latents, histories: Histories
    ) -> Outlook:
        """Return what is expected of customers."""
        x, T = histories.x, histories.T
        ahead, rate = parameters.horizon_days / WEEK, parameters.discount(WEEK)
        dropout = who.dropout
        assert dropout is not None
        return Outlook(
            alive=probability_alive(parameters, x, histories.t_x, T),
            purchases=purchases_if_alive(parameters, x, T, horizon=ahead),
            discounted=purchases_if_alive(parameters, x, T, horizon=ahead, discount=rate),
            ever=purchases_if_alive(parameters, x, T, horizon=None, discount=rate),
            own=own_purchases(who.rate, dropout, horizon=ahead),
            own_discounted=own_purchases(who.rate, dropout, horizon=ahead, discount=rate),
            own_ever=own_purchases(who.rate, dropout, horizon=None, discount=rate),
        )

    def curves(self, parameters: BetaGeometricBuying, weeks: Floats) -> dict[str, Floats]:
        """Return exact population curves by quantity."""
        return {
            "share alive": share_alive(parameters, weeks),
            "repeat purchases": expected_purchases_new(parameters, weeks),
        }
