r"""World ``sbg``: yearly contracts, each renewed or not by the toss of the customer's own coin.

At every renewal customer i leaves with chance :math:`\theta_i \sim Beta(\alpha, \beta)`, so that
the share still in contract after t years is :math:`S(t) = B(\alpha, \beta + t) / B(\alpha, \beta)`:
retention rises with age though nobody becomes more loyal.

Clock: contracts run whole calendar years from a day between the first and the 28th of a month, so
that every anniversary exists; nothing is rounded.

References
----------
Fader & Hardie (2007), "How to project customer retention", Journal of Interactive Marketing 21,
76-90 (the shifted beta-geometric; the defaults are its high-end segment). Fader & Hardie (2010),
"Customer-base valuation in a contractual setting", Marketing Science 29, 85-93 (residual lifetime).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from scipy import special

from synthetic.clock import dates, day_of, masked, month_of
from synthetic.closed_form.buying import Frames
from synthetic.closed_form.draws import beta, dealership_of, first_days, rounded
from synthetic.closed_form.network import dealership_name
from synthetic.closed_form.parameters import OWN, Cohort, parameter, shape
from synthetic.keyed import Floats, Ints, Keyed
from synthetic.log import Log

_SOURCE = "Fader & Hardie (2007), J. Interactive Marketing 21: high-end segment"
_LAST_DAY = 28


@dataclass(frozen=True, kw_only=True)
class ShiftedBetaGeometric(Cohort):
    """Parameters of the shifted beta-geometric; time in years."""

    starts_on: date = parameter(
        date(2016, 1, 1), "first day on which customers come", "date", "choice", "assumed",
        least=date(1990, 1, 1), most=date(2100, 1, 1),
    )  # fmt: skip
    acquisition_days: int = parameter(
        1_461, "days over which customers come, each as likely", "days", "choice", "assumed",
        least=1, most=36_525,
    )  # fmt: skip
    horizon_days: int = parameter(
        1_826, "days past the last day over which the truth is followed and expected", "days",
        "choice", "assumed", least=366, most=36_525,
    )  # fmt: skip
    alpha: float = shape(0.668, "chance of leaving: first shape alpha", _SOURCE, "published")
    beta: float = shape(3.806, "chance of leaving: second shape beta", _SOURCE, "published")
    contract_price: float = parameter(
        600.0, "revenue of a contract", "currency units", OWN, "assumed", least=0.0, most=1e9
    )
    contract_margin: float = parameter(
        240.0, "margin of a contract", "currency units", OWN, "assumed", least=0.0, most=1e9
    )

    @property
    def horizon_years(self) -> int:
        """Whole years of the horizon."""
        return self.horizon_days // 365


def survival(parameters: ShiftedBetaGeometric, years: Floats) -> Floats:
    """Return the share still in contract after so many renewals."""
    a, b = parameters.alpha, parameters.beta
    return np.asarray(np.exp(special.betaln(a, b + years) - special.betaln(a, b)))


def retention_rate(parameters: ShiftedBetaGeometric, years: Floats) -> Floats:
    """Return the share of those in contract who renew for the t-th time."""
    return np.asarray(
        (parameters.beta + years - 1) / (parameters.alpha + parameters.beta + years - 1)
    )


def residual_lifetime(parameters: ShiftedBetaGeometric, n_renewals: Floats) -> Floats:
    """Return discounted expected renewals just before the next one (DERL)."""
    discount = 1 / (1 + parameters.annual_discount_rate)
    b, both = parameters.beta + n_renewals, parameters.alpha + parameters.beta + n_renewals
    return np.asarray(b / both * special.hyp2f1(1.0, b + 1, both + 1, discount))


def _start(draws: Keyed, parameters: ShiftedBetaGeometric, ids: Ints) -> Ints:
    """Return first days, moved from the last days of a month to its 28th."""
    day = first_days(draws, parameters, ids)
    month = month_of(day).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return np.minimum(day, month + _LAST_DAY - 1)


def _anniversary(start: Ints, years: Ints) -> Ints:
    """Return the same calendar day so many years later."""
    month = month_of(start)
    first = month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    later = (month + 12 * years).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return np.asarray(later + (start - first))


def _renewals(
    draws: Keyed, parameters: ShiftedBetaGeometric, ids: Ints, start: Ints, theta: Floats
) -> tuple[dict[str, Ints], Ints]:
    """Return every renewal up to the horizon, and the contracts taken in all (0 = not known)."""
    end = day_of(parameters.as_of) + parameters.horizon_days
    log, periods = Log(), np.zeros(len(ids), dtype=np.int64)
    live, number = np.arange(len(ids)), 0
    log.add(row=live[:0], number=live[:0], due=live[:0], renewed=live[:0])
    while live.size:
        number += 1
        due = _anniversary(start[live], np.full(len(live), number))
        live, due = live[due <= end], due[due <= end]
        leaves = draws.chance("sbg.leaves@1", theta[live], ids[live], number)
        log.add(row=live, number=np.full(len(live), number), due=due, renewed=(~leaves).astype(int))
        periods[live[leaves]] = number
        live = live[~leaves]
    return log.join("row", "number"), periods


def sbg_frames(parameters: ShiftedBetaGeometric, draws: Keyed, ids: Ints) -> Frames:
    """Return the tables of a block of customers."""
    start, theta = (
        _start(draws, parameters, ids),
        beta(draws, "sbg.theta@1", parameters.alpha, parameters.beta, ids),
    )
    renewals, periods = _renewals(draws, parameters, ids, start, theta)
    seen = renewals["due"] <= day_of(parameters.as_of)
    dealership = dealership_of(draws, parameters, ids)
    row = renewals["row"][seen]
    home = {
        "dealership_id": pl.Series(dealership),
        "dealership": dealership_name(dealership),
    }
    known = pl.DataFrame(
        {
            "customer_id": ids[row],
            "number": renewals["number"][seen],
            "dealership_id": dealership[row],
            "dealership": home["dealership"].gather(row),
            "due_on": dates(renewals["due"][seen]),
            "renewed": renewals["renewed"][seen] == 1,
        }
    )
    renewed = np.bincount(row, renewals["renewed"][seen], minlength=len(ids)).astype(np.int64)
    ended = (periods > 0) & (_anniversary(start, periods) <= day_of(parameters.as_of))
    return {
        "renewals": known,
        "spells": pl.DataFrame({"customer_id": ids} | home).with_columns(
            brand=pl.lit(None),
            started_kind=pl.lit("service"),
            started_on=dates(start),
            ended_on=dates(_anniversary(start, periods), ended),
        ),
        "purchases": _contracts(parameters, ids, start, known, home),
        "truth_contract": _truth(parameters, ids, start, theta, periods, renewed, ended),
    }


def _contracts(
    parameters: ShiftedBetaGeometric,
    ids: Ints,
    start: Ints,
    known: pl.DataFrame,
    home: dict[str, pl.Series],
) -> pl.DataFrame:
    """Return a purchase for every contract begun."""
    first = pl.DataFrame({"customer_id": ids, **home, "happened_on": dates(start)})
    again = known.filter("renewed").rename({"due_on": "happened_on"}).select(first.columns)
    return (
        pl.concat([first, again])
        .with_columns(
            kind=pl.lit("service"),
            revenue=pl.lit(parameters.contract_price),
            margin=pl.lit(parameters.contract_margin),
        )
        .sort("customer_id", "happened_on")
    )


def _truth(
    parameters: ShiftedBetaGeometric,
    ids: Ints,
    start: Ints,
    theta: Floats,
    periods: Ints,
    renewed: Ints,
    ended: np.ndarray,
) -> pl.DataFrame:
    done, ahead = renewed.astype(np.float64), parameters.horizon_years
    now = survival(parameters, done)
    coming = np.sum([survival(parameters, done + j) / now for j in range(1, ahead + 1)], axis=0)
    stays, rate = 1 - theta, parameters.annual_discount_rate
    own = np.sum([stays**j for j in range(1, ahead + 1)], axis=0)
    expected = {
        "expected_renewals": coming,
        "discounted_renewals": residual_lifetime(parameters, done),
        "own_renewals": own,
        "own_discounted": stays * (1 + rate) / (rate + theta),
    }
    return pl.DataFrame(
        {
            "customer_id": ids,
            "started_on": dates(start),
            "churn_probability": theta,
            "n_periods": masked(periods, periods > 0),
            "n_renewals": renewed,
            "active": ~ended,
        }
        | {name: rounded(np.where(ended, 0.0, value)) for name, value in expected.items()}
    )


def sbg_curves(parameters: ShiftedBetaGeometric) -> pl.DataFrame:
    """Return exact survival and retention rates by years."""
    last = parameters.as_of + timedelta(days=parameters.horizon_days)
    years = np.arange(last.year - parameters.starts_on.year + 1, dtype=np.float64)
    parts = {
        "share in contract": (years, survival(parameters, years)),
        "retention rate": (years[1:], retention_rate(parameters, years[1:])),
    }
    return pl.concat(
        pl.DataFrame({"time": time, "value": rounded(value)}).with_columns(
            quantity=pl.lit(quantity), group=pl.lit("all"), time_unit=pl.lit("year")
        )
        for quantity, (time, value) in parts.items()
    )
