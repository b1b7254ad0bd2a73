r"""World ``weibull_competing_risks``: an ownership ends by the first of three clocks to ring.

Repurchase here, repurchase elsewhere and defection have independent Weibull clocks with
cause-specific hazards :math:`h_c(t \mid z) = e^{\gamma_c z} (k_c / \tau_c)(t / \tau_c)^{k_c - 1}`,
z = 1 for a car serviced here. Cumulative incidences
:math:`F_c(t) = \int_0^t h_c(u) \exp(-\sum_c H_c(u))\, du` are exact; one minus Kaplan-Meier, with
the other causes censored, is not F_c but what would happen if there were no other cause.

Clock: in ticks of a millionth of a day from the end of the day of delivery; an ownership that ends
at time t is written under ``delivery + ceil(t)``, less than a day late. `as_of` is the end of the
last day.

References
----------
Kalbfleisch & Prentice (2002), "The Statistical Analysis of Failure Time Data", 2nd ed., chapter 8;
Prentice et al. (1978), "The analysis of failure times in the presence of competing risks",
Biometrics 34, 541-554.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from synthetic.clock import YEAR, dates, day_of, masked
from synthetic.closed_form.buying import Frames
from synthetic.closed_form.draws import (
    TICKS,
    dealership_of,
    first_days,
    last_day_of,
    rounded,
    ticks,
)
from synthetic.closed_form.integrals import nodes
from synthetic.closed_form.network import dealership_name
from synthetic.closed_form.parameters import OWN, Cohort, parameter
from synthetic.closed_form.schemas import CAUSES
from synthetic.keyed import Flags, Floats, Ints, Keyed

_POWER = 4.0
"""The integrals' nodes crowd at zero, where hazards of shapes below one are infinite."""

_PANELS = 6
_NODES = 48


def _shape(default: float, what: str, source: str) -> float:
    found: float = parameter(
        default, f"{what}: Weibull shape k", "shape", source, "assumed", least=0.2, most=20.0
    )
    return found


def _scale(default: float, what: str) -> float:
    found: float = parameter(
        default, f"{what}: Weibull scale tau", "years", OWN, "assumed", least=0.01, most=1_000.0
    )
    return found


def _effect(default: float, what: str) -> float:
    found: float = parameter(
        default, f"{what}: effect of service here on the hazard", "log ratio", OWN, "assumed",
        least=-5.0, most=5.0,
    )  # fmt: skip
    return found


@dataclass(frozen=True, kw_only=True)
class CompetingRisks(Cohort):
    """Parameters of the three clocks; time in years."""

    starts_on: date = parameter(
        date(2012, 1, 1), "first day on which customers come", "date", "choice", "assumed",
        least=date(1990, 1, 1), most=date(2100, 1, 1),
    )  # fmt: skip
    acquisition_days: int = parameter(
        2_922, "days over which customers come, each as likely", "days", "choice", "assumed",
        least=1, most=36_525,
    )  # fmt: skip
    shape_here: float = _shape(2.2, "repurchase here", "dealer world: time a car is kept")
    scale_here: float = _scale(9.0, "repurchase here")
    shape_elsewhere: float = _shape(2.2, "repurchase elsewhere", "dealer world: same")
    scale_elsewhere: float = _scale(7.5, "repurchase elsewhere")
    shape_defection: float = _shape(1.2, "defection", OWN)
    scale_defection: float = _scale(8.0, "defection")
    serviced_share: float = parameter(
        0.5, "cars serviced here", "share", OWN, "assumed", least=0.0, most=1.0
    )
    effect_here: float = _effect(0.55, "repurchase here")
    effect_elsewhere: float = _effect(-0.2, "repurchase elsewhere")
    effect_defection: float = _effect(-0.5, "defection")
    car_price: float = parameter(
        30_000.0, "revenue of a car", "currency units", OWN, "assumed", least=0.0, most=1e9
    )
    car_margin: float = parameter(
        2_400.0, "margin of a car", "currency units", OWN, "assumed", least=-1e9, most=1e9
    )

    @property
    def shapes(self) -> Floats:
        """Shapes in the order of the causes."""
        return np.array([self.shape_here, self.shape_elsewhere, self.shape_defection])

    @property
    def scales(self) -> Floats:
        """Scales in the order of the causes, years."""
        return np.array([self.scale_here, self.scale_elsewhere, self.scale_defection])

    @property
    def effects(self) -> Floats:
        """Effects of service here in the order of the causes, log ratios of hazards."""
        return np.array([self.effect_here, self.effect_elsewhere, self.effect_defection])


def cumulative_hazards(parameters: CompetingRisks, serviced: Flags, years: Floats) -> Floats:
    """Return each cause's cumulative hazard; shapes (n,) and (n, …) give (3, n, …)."""
    extra = (1,) * (np.ndim(years) - 1)
    z = np.asarray(serviced, dtype=np.float64).reshape(-1, *extra)
    parts = zip(parameters.shapes, parameters.scales, parameters.effects, strict=True)
    return np.stack([np.exp(effect * z) * (years / tau) ** k for k, tau, effect in parts])


def survival(parameters: CompetingRisks, serviced: Flags, years: Floats) -> Floats:
    """Return the chance that an ownership is still open, shape (n,)."""
    return np.asarray(np.exp(-cumulative_hazards(parameters, serviced, years).sum(axis=0)))


def cumulative_incidence(
    parameters: CompetingRisks, serviced: Flags, years: Floats, since: Floats | float = 0.0
) -> Floats:
    """Return the chance that each cause has ended an ownership by a time, shape (3, n).

    With `since`, the chance that it ends between the two times. By Gauss-Legendre, to 1e-9.
    """
    node, weight = nodes(_NODES, _PANELS)
    power = _POWER / min(1.0, float(parameters.shapes.min()))
    start = np.asarray(since, dtype=np.float64) + np.zeros_like(years)
    span = (years - start)[:, None]
    at = start[:, None] + span * node**power
    pace = span * power * node ** (power - 1)
    hazards = cumulative_hazards(parameters, serviced, at)
    density = hazards * parameters.shapes[:, None, None] / np.maximum(at, 1e-300)
    density = density * np.exp(-hazards.sum(axis=0))
    return np.asarray((density * pace) @ weight)


def _clocks(draws: Keyed, parameters: CompetingRisks, ids: Ints, serviced: Flags) -> Ints:
    """Return the tick at which each clock rings, shape (3, n)."""
    parts = zip(CAUSES, parameters.shapes, parameters.scales, parameters.effects, strict=True)
    years = [
        tau * (draws.exponential(f"risk.{cause}@1", ids) * np.exp(-effect * serviced)) ** (1 / k)
        for cause, k, tau, effect in parts
    ]
    return ticks(np.stack(years) * YEAR)


def risk_frames(parameters: CompetingRisks, draws: Keyed, ids: Ints) -> Frames:
    """Return the tables of a block of customers."""
    start = first_days(draws, parameters, ids)
    serviced = draws.chance("risk.serviced@1", parameters.serviced_share, ids)
    clocks = _clocks(draws, parameters, ids, serviced)
    cause, ended = clocks.argmin(axis=0), clocks.min(axis=0)
    age = day_of(parameters.as_of) - start
    over = ended <= age * TICKS
    dealership = dealership_of(draws, parameters, ids)
    owners = pl.DataFrame(
        {
            "customer_id": ids,
            "dealership_id": dealership,
            "dealership": dealership_name(dealership),
            "serviced": serviced,
            "started_on": dates(start),
            "ended_on": dates(start + np.where(over, last_day_of(ended), 0), over),
            "cause": _causes(cause, over),
        }
    )
    return {
        "ownerships": owners,
        "spells": owners.with_columns(brand=pl.lit(None), started_kind=pl.lit("car")),
        "purchases": _cars(parameters, owners),
        "truth_owner": _truth(parameters, owners, clocks, age, over),
    }


def _causes(cause: Ints, known: Flags) -> pl.Series:
    return masked(cause, known).replace_strict(
        dict(enumerate(CAUSES)), return_dtype=pl.Enum(CAUSES)
    )


def _cars(parameters: CompetingRisks, owners: pl.DataFrame) -> pl.DataFrame:
    """Return the purchase of each car here: the first, and the next where it was bought here."""
    who = ["customer_id", "dealership_id", "dealership"]
    first = owners.select(*who, pl.col("started_on").alias("happened_on"))
    here = owners.filter(pl.col("cause") == CAUSES[0])
    again = here.select(*who, pl.col("ended_on").alias("happened_on"))
    cars = pl.concat([first, again]).sort("customer_id", "happened_on")
    return cars.with_columns(
        kind=pl.lit("car"),
        revenue=pl.lit(parameters.car_price),
        margin=pl.lit(parameters.car_margin),
    )


def _ahead(parameters: CompetingRisks, serviced: Flags, age: Ints) -> Floats:
    """Return the chance of each end within the horizon, of ownerships open at an age in days."""
    pairs, which = np.unique(np.stack([age, serviced]), axis=1, return_inverse=True)
    years, group = pairs[0] / YEAR, pairs[1] == 1
    until = years + parameters.horizon_days / YEAR
    chance = cumulative_incidence(parameters, group, until, years)
    # Where nobody would still be open the ratio is 0 / 0; such a row is never asked for.
    share = np.maximum(survival(parameters, group, years), 1e-300)
    return np.asarray((chance / share)[:, which.ravel()])


def _truth(
    parameters: CompetingRisks, owners: pl.DataFrame, clocks: Ints, age: Ints, over: Flags
) -> pl.DataFrame:
    serviced = owners["serviced"].to_numpy()
    chance = rounded(np.where(over, 0.0, _ahead(parameters, serviced, age)))
    days = dict(zip((f"{cause}_days" for cause in CAUSES), clocks / TICKS, strict=True))
    return pl.DataFrame(
        {
            "customer_id": owners["customer_id"],
            "started_on": owners["started_on"],
            "serviced": serviced,
            **days,
            "ended_days": clocks.min(axis=0) / TICKS,
            "cause": _causes(clocks.argmin(axis=0), np.ones(len(over), dtype=np.bool_)),
            "open": ~over,
            "here_probability": chance[0].clip(0, 1),
            "elsewhere_probability": chance[1].clip(0, 1),
            "defection_probability": chance[2].clip(0, 1),
        }
    )


def risk_curves(parameters: CompetingRisks) -> pl.DataFrame:
    """Return exact survival and cumulative incidence by month: serviced here, not, and all."""
    days = day_of(parameters.as_of) - day_of(parameters.starts_on) + parameters.horizon_days
    months = np.arange(int(days / YEAR * 12) + 1, dtype=np.float64)
    parts = []
    for group, share in (("serviced", 1.0), ("not serviced", 0.0), ("all", None)):
        weight = parameters.serviced_share if share is None else share
        for quantity, (yes, no) in _both(parameters, months / 12).items():
            parts.append(
                pl.DataFrame(
                    {"time": months, "value": rounded(weight * yes + (1 - weight) * no)}
                ).with_columns(
                    quantity=pl.lit(quantity), group=pl.lit(group), time_unit=pl.lit("month")
                )
            )
    return pl.concat(parts)


def _both(parameters: CompetingRisks, years: Floats) -> dict[str, tuple[Floats, Floats]]:
    groups = [np.full(len(years), value) for value in (True, False)]
    open_ = [survival(parameters, group, years) for group in groups]
    ended = [cumulative_incidence(parameters, group, years) for group in groups]
    found = {"share open": (open_[0], open_[1])}
    return found | {cause: (ended[0][c], ended[1][c]) for c, cause in enumerate(CAUSES)}
