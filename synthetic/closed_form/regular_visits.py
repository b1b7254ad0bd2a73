r"""World ``regular_visits``: customers come at regular intervals and may leave after any visit.

The MBG/CNBD-k: while active, the time between visits of customer i is Erlang with k phases of rate
:math:`\lambda_i`; after every visit, the first included, they leave with chance :math:`p_i`;
:math:`\lambda \sim Gamma(r, \alpha)`, :math:`p \sim Beta(a, b)`, independent. With k = 1 it is the
MBG/NBD.

With a warranty cliff, of those still active when `warranty_weeks` have passed since their first
visit a share `cliff` leaves on that day, whatever their history. The model stays exact: the
formulas below carry the extra term.

References
----------
Platzer & Reutterer (2016), "Ticking away the moments: timing regularity helps to better predict
customer activity", Marketing Science 35, 779-799. Batislam, Denizel & Filiztekin (2007),
"Empirical validation and comparison of models for customer base analysis", International Journal
of Research in Marketing 24, 201-209 (k = 1). The expected number of visits given the history is
approximated in the paper; here it is the exact series over the phases already passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from scipy import special

from synthetic.closed_form.buying import NEVER, Events, Histories, Latents, Outlook, follow
from synthetic.closed_form.draws import beta, erlang_ticks, gamma, ticks
from synthetic.closed_form.parameters import OWN, WEEK, parameter, scale, shape
from synthetic.closed_form.spending import Spending
from synthetic.keyed import Flags, Floats, Ints, Keyed

_SMALL = 1e-14
"""Terms of a series below this are left out."""

_MOST_VISITS = 5_000


@dataclass(frozen=True, kw_only=True)
class RegularVisits(Spending):
    """Parameters of the MBG/CNBD-k with gamma-gamma spend; time in weeks."""

    starts_on: date = parameter(
        date(2019, 1, 1), "first day on which customers come", "date", "choice", "assumed",
        least=date(1990, 1, 1), most=date(2100, 1, 1),
    )  # fmt: skip
    acquisition_days: int = parameter(
        730, "days over which customers come, each as likely", "days", "choice", "assumed",
        least=1, most=36_525,
    )  # fmt: skip
    k: int = parameter(
        3, "regularity: phases of the time between visits; 1 = at random", "count",
        "dealer world: services after warranty", "assumed", least=1, most=50,
    )  # fmt: skip
    r: float = shape(4.0, "phase rates: shape r", OWN, "assumed")
    alpha: float = scale(
        70.0, "phase rates: rate alpha; with k = 3 and r = 4 about a visit a year", "weeks", OWN,
        "assumed",
    )  # fmt: skip
    a: float = shape(1.0, "dropout: first shape a", OWN, "assumed")
    b: float = shape(6.0, "dropout: second shape b", OWN, "assumed")
    warranty_weeks: float = parameter(
        156.5, "time from the first visit to the end of warranty", "weeks",
        "warranty of three years", "published", least=1.0, most=5_000.0,
    )  # fmt: skip
    cliff: float = parameter(
        0.0, "share of those still active who leave when warranty ends; 0 = no cliff",
        "probability", OWN, "assumed", least=0.0, most=0.99,
    )  # fmt: skip


def no_visit(parameters: RegularVisits, x: Floats, t_x: Floats, until: Floats) -> Floats:
    """Return the chance that a customer who stayed after visit x has not come again `until`.

    Fewer than k phases of a rate that is Gamma(r + k x, alpha + t_x): a beta function.
    """
    known, age = parameters.r + parameters.k * x, parameters.alpha + t_x
    return np.asarray(special.betainc(known, parameters.k, age / (age + until - t_x)))


def probability_alive(parameters: RegularVisits, x: Floats, t_x: Floats, T: Floats) -> Floats:
    """Return P(alive | x, t_x, T).

    ``(1 - c) G(T) / ((1 - c) G(T) + c G(W) + a / (b + x))`` with G the chance of no visit, where
    the warranty's end W lies between the last visit and T; else the same without c.
    """
    c, end = parameters.cliff, parameters.warranty_weeks
    stayed = no_visit(parameters, x, t_x, T)
    passed = (t_x < end) & (end <= T)
    fell = np.where(passed, c * no_visit(parameters, x, t_x, np.clip(end, t_x, T)), 0.0)
    stayed = np.where(passed, 1 - c, 1.0) * stayed
    return np.asarray(stayed / (stayed + fell + parameters.a / (parameters.b + x)))


def _summed(term: Callable[[int], Floats]) -> Floats:
    """Return the sum of falling terms 1, 2, …, until they no longer count."""
    total = part = term(1)
    visit = 1
    while visit < _MOST_VISITS and float(np.max(part, initial=0.0)) > _SMALL:
        visit += 1
        part = term(visit)
        total = total + part
    return np.asarray(total)


def _phase_weights(log_weight: Callable[[int], Floats], k: int) -> Floats:
    """Return the chances of having passed 0 … k - 1 phases since the last visit, shape (k, n)."""
    return np.asarray(special.softmax(np.stack([log_weight(j) for j in range(k)]), axis=0))


def visits_if_alive(
    parameters: RegularVisits, x: Floats, t_x: Floats, T: Floats, horizon: Any
) -> Floats:
    """Return visits expected of customers alive at T over a horizon in weeks, without the cliff.

    Mixture over the phases j passed since the last visit of the series over coming visits m:
    ``E[(1 - p) ** (m - 1)] P(at least m k - j phases in the horizon)``, negative binomial.
    """
    k, s, age = parameters.k, parameters.r + parameters.k * x, parameters.alpha + T
    waited = (T - t_x) / age
    weights = _phase_weights(
        lambda j: special.gammaln(s + j) - special.gammaln(j + 1) + special.xlogy(j, waited), k
    )
    a, b = parameters.a, parameters.b + x + 1
    share = np.broadcast_to(horizon / (age + horizon), s.shape)

    def term(m: int) -> Floats:
        stays = np.exp(special.betaln(a, b + m - 1) - special.betaln(a, b))
        comes = [weights[j] * special.betainc(m * k - j, s + j, share) for j in range(k)]
        return np.asarray(stays * np.sum(comes, axis=0))

    return _summed(term)


def own_visits(
    k: int, rate: Floats, dropout: Floats, waited: Floats, horizon: Any, *, discount: float = 0.0
) -> Floats:
    """Return visits expected of a living customer with known lambda, p and time since a visit.

    As `visits_if_alive` with a gamma in place of the negative binomial; discounted, each phase
    counts ``lambda / (lambda + delta)``, and for ever (`horizon` infinite) the series is geometric.
    """
    weights = _phase_weights(lambda j: special.xlogy(j, rate * waited) - special.gammaln(j + 1), k)
    phase = rate / (rate + discount)
    stays = 1 - dropout
    if np.all(np.isinf(horizon)):
        first = np.sum([weights[j] * phase ** (k - j) for j in range(k)], axis=0)
        return np.asarray(first / (1 - stays * phase**k))
    spent = (rate + discount) * horizon

    def term(m: int) -> Floats:
        comes = [
            weights[j] * phase ** (m * k - j) * special.gammainc(m * k - j, spent) for j in range(k)
        ]
        return np.asarray(stays ** (m - 1) * np.sum(comes, axis=0))

    return _summed(term)


def with_cliff(
    parameters: RegularVisits, T: Floats, horizon: float, expected: Callable[[Any], Floats]
) -> Floats:
    """Return an expectation over a horizon that the warranty's end may cut, of the living at T."""
    whole = expected(horizon)
    ahead = parameters.warranty_weeks - T
    if parameters.cliff == 0 or not (ahead > 0).any():
        return whole
    near = expected(np.minimum(np.maximum(ahead, 0.0), horizon))
    cut = whole - parameters.cliff * (whole - near)
    return np.asarray(np.where(ahead > 0, cut, whole))


def share_alive(parameters: RegularVisits, weeks: Floats) -> Floats:
    """Return the share still active a time after the first visit.

    ``1 - (sum over visits of the chance of coming and then leaving)``, and the cliff.
    """
    k, a, b = parameters.k, parameters.a, parameters.b
    share = weeks / (parameters.alpha + weeks)

    def term(m: int) -> Floats:
        leaves = np.exp(special.betaln(a + 1, b + m - 1) - special.betaln(a, b))
        comes = special.betainc((m - 1) * k, parameters.r, share) if m > 1 else 1.0
        return np.asarray(leaves * comes + np.zeros_like(weeks))

    passed = weeks >= parameters.warranty_weeks
    return np.asarray((1 - _summed(term)) * np.where(passed, 1 - parameters.cliff, 1.0))


def expected_visits_new(parameters: RegularVisits, weeks: Floats) -> Floats:
    """Return visits after the first expected of a new customer."""
    k, a, b, end = parameters.k, parameters.a, parameters.b, parameters.warranty_weeks

    def visits(until: Floats) -> Floats:
        share = until / (parameters.alpha + until)

        def term(m: int) -> Floats:
            stays = np.exp(special.betaln(a, b + m) - special.betaln(a, b))
            return np.asarray(stays * special.betainc(m * k, parameters.r, share))

        return _summed(term)

    near = visits(np.minimum(weeks, end))
    return np.asarray(near + (1 - parameters.cliff) * (visits(weeks) - near))


class RegularVisitsModel:
    """How the world ``regular_visits`` makes customers and what it knows of them."""

    def latents(self, draws: Keyed, parameters: RegularVisits, ids: Ints) -> Latents:
        """Return lambda and p."""
        return Latents(
            rate=gamma(draws, "regular.rate@1", parameters.r, parameters.alpha, ids),
            dropout=beta(draws, "regular.dropout@1", parameters.a, parameters.b, ids),
        )

    def events(
        self, draws: Keyed, parameters: RegularVisits, who: Latents, ids: Ints, limit: Ints
    ) -> Events:
        """Follow customers up to a tick each."""
        dropout = who.dropout
        assert dropout is not None

        def gap(row: Ints, number: int) -> Ints:
            rate, customer = who.rate[row], ids[row]
            return erlang_ticks(draws, "regular.gap@1", parameters.k, rate, customer, number)

        def stays(row: Ints, number: int) -> Flags:
            return ~draws.chance("regular.leaves@1", dropout[row], ids[row], number)

        falls = draws.chance("regular.falls@1", parameters.cliff, ids)
        left = np.where(falls, ticks(parameters.warranty_weeks * WEEK), NEVER)
        left[~stays(np.arange(len(ids)), 0)] = 0
        return follow(len(ids), limit, gap, stays, left)

    def outlook(self, parameters: RegularVisits, who: Latents, histories: Histories) -> Outlook:
        """Return what is expected of customers."""
        x, t_x, T, dropout = histories.x, histories.t_x, histories.T, who.dropout
        ahead, rate = parameters.horizon_days / WEEK, parameters.discount(WEEK)
        assert dropout is not None

        def own(discount: float) -> Callable[[Any], Floats]:
            return lambda until: own_visits(
                parameters.k, who.rate, dropout, T - t_x, until, discount=discount
            )

        return Outlook(
            alive=probability_alive(parameters, x, t_x, T),
            purchases=with_cliff(
                parameters, T, ahead, lambda h: visits_if_alive(parameters, x, t_x, T, h)
            ),
            discounted=None,
            ever=None,
            own=with_cliff(parameters, T, ahead, own(0.0)),
            own_discounted=with_cliff(parameters, T, ahead, own(rate)),
            own_ever=with_cliff(parameters, T, np.inf, own(rate)),
        )

    def curves(self, parameters: RegularVisits, weeks: Floats) -> dict[str, Floats]:
        """Return exact population curves by quantity."""
        return {
            "share alive": share_alive(parameters, weeks),
            "repeat purchases": expected_visits_new(parameters, weeks),
        }
