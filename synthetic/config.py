"""What the generator assumes: one frozen, documented configuration.

Each setting carries its meaning, unit, source and confidence in its field's metadata, so that the
data's own ``truth/params`` table can say where every number comes from. Confidence is ``published``
(a figure somebody measured), ``derived`` (solved from one) or ``assumed``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import date
from typing import Any, Literal

from crm_analysis.errors import InputError, near
from synthetic.vocabulary import LOCALES

Confidence = Literal["published", "derived", "assumed"]
Table = tuple[tuple[Any, float], ...]

PRACTICE = "practice of sales departments, design notes section 4"
OWN = "our assumption"


def setting(default: Any, meaning: str, unit: str, source: str, confidence: Confidence) -> Any:
    """Declare a setting with what it means, its unit, where it comes from and how sure that is."""
    facts = {"meaning": meaning, "unit": unit, "source": source, "confidence": confidence}
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class Latent:
    """Spread of what cannot be observed."""

    satisfaction_sd: float = setting(0.9, "customer's satisfaction intercept", "sd", OWN, "assumed")
    value_sd: float = setting(0.5, "customer's value (log scale)", "sd", OWN, "assumed")
    skill_sd: float = setting(0.35, "manager's skill", "sd", OWN, "assumed")
    dealership_sd: float = setting(0.3, "dealership's satisfaction level", "sd", OWN, "assumed")
    drift_sd: float = setting(0.1, "dealership's slow drift", "sd", OWN, "assumed")
    drift_memory: float = setting(
        0.95, "drift kept from month to month", "fraction", OWN, "assumed"
    )
    km_a_year: float = setting(
        17_500.0, "mean distance driven", "km a year", "Avtostat", "published"
    )
    km_sigma: float = setting(0.35, "spread of distance driven", "log sd", "Avtostat", "published")


@dataclass(frozen=True)
class TrafficSettings:
    """When and through what customers first come."""

    market_by_year: Table = setting(
        ((2014, 1.56), (2015, 1.0), (2016, 0.89), (2017, 1.0), (2018, 1.13), (2019, 1.1),
         (2020, 1.0), (2021, 1.04), (2022, 0.43), (2023, 0.66), (2024, 0.98), (2025, 0.83)),
        "new-car market, 2015 = 1", "ratio", "AEB, Avtostat", "published",
    )  # fmt: skip
    month: tuple[float, ...] = setting(
        (0.683, 0.888, 1.048, 1.016, 0.983, 1.042, 0.956, 0.982, 1.049, 1.069, 1.116, 1.168),
        "season, January to December", "ratio to the mean month", "AEB 2018", "published",
    )  # fmt: skip
    weekday: tuple[float, ...] = setting(
        (0.85, 0.85, 0.9, 0.95, 1.05, 1.3, 1.1), "Monday to Sunday", "ratio", OWN, "assumed"
    )
    source_2015: Table = setting(
        (("walk_in", 0.34), ("phone", 0.34), ("web", 0.14), ("classifieds", 0.06),
         ("referral", 0.08), ("service_drive", 0.03), ("outdoor", 0.04)),
        "share of leads by source in 2015", "share", OWN, "assumed",
    )  # fmt: skip
    source_2025: Table = setting(
        (("walk_in", 0.18), ("phone", 0.24), ("web", 0.30), ("classifieds", 0.14),
         ("referral", 0.08), ("service_drive", 0.05), ("outdoor", 0.01)),
        "share of leads by source in 2025, linear in between", "share", OWN, "assumed",
    )  # fmt: skip
    service_share: float = setting(
        0.25, "customers who first come to the workshop, with a car bought elsewhere", "share", OWN,
        "assumed",
    )  # fmt: skip
    anonymous_per_lead: float = setting(
        0.6, "approaches that leave no name, a lead", "mean count", OWN, "assumed"
    )


@dataclass(frozen=True)
class FunnelSettings:
    """How leads pass from stage to stage."""

    passing: tuple[tuple[str, tuple[float, ...]], ...] = setting(
        (("walk_in", (0.999, 0.999, 0.999, 0.62, 0.70, 0.52)),
         ("phone", (0.92, 0.48, 0.62, 0.60, 0.72, 0.66)),
         ("web", (0.78, 0.40, 0.58, 0.62, 0.74, 0.66)),
         ("classifieds", (0.78, 0.42, 0.60, 0.60, 0.74, 0.66)),
         ("referral", (0.95, 0.62, 0.75, 0.70, 0.78, 0.78)),
         ("service_drive", (0.95, 0.62, 0.75, 0.70, 0.78, 0.78)),
         ("outdoor", (0.75, 0.40, 0.60, 0.62, 0.74, 0.66))),
        "probability of contact, appointment, visit, test drive, offer, contract, each given the "
        "one "
        "before, for a manager of mean skill and a median response", "probability", PRACTICE,
        "published",
    )  # fmt: skip
    delivered: float = setting(
        0.97, "contracts that end in delivery", "probability", OWN, "assumed"
    )
    skill_effect: tuple[float, ...] = setting(
        (0.2, 0.7, 0.5, 0.6, 0.6, 0.9, 0.0), "effect of the manager's skill on each step",
        "logit a unit of skill", OWN, "assumed",
    )  # fmt: skip
    delay_effect: float = setting(
        -0.12, "effect on appointment of each doubling of the response time past five minutes",
        "logit", "Pied Piper response studies", "published",
    )  # fmt: skip
    delay_median: float = setting(
        30.0, "median response to a web lead or chat", "minutes", "Pied Piper", "published"
    )
    delay_sigma: float = setting(
        2.0, "spread of the response time", "log sd", "Pied Piper", "published"
    )
    never_answered: float = setting(
        0.08, "calls and web leads nobody answers", "share", "Pied Piper", "published"
    )
    return_bonus: float = setting(
        1.1, "advantage of an own customer who returns, each step", "logit", OWN, "assumed"
    )
    days: tuple[float, ...] = setting(
        (0.3, 1.0, 3.0, 0.4, 1.5, 5.0, 14.0),
        "mean time to each step, Gamma(2)",
        "days",
        OWN,
        "assumed",
    )
    days_to_loss: float = setting(
        12.0, "mean time until a lost lead is closed", "days", OWN, "assumed"
    )


@dataclass(frozen=True)
class RelationSettings:
    """How customers come to service, stay, leave and buy again."""

    memory: float = setting(
        0.7, "satisfaction kept from one visit to the next", "fraction", OWN, "assumed"
    )
    visit_sd: float = setting(0.8, "what one visit adds to satisfaction", "sd", OWN, "assumed")
    sale_sd: float = setting(0.4, "what the purchase adds to satisfaction", "sd", OWN, "assumed")
    skill_satisfaction: float = setting(0.5, "effect of skill on it", "per unit", OWN, "assumed")
    not_fixed_effect: float = setting(
        -0.5, "effect of a fault not fixed first time", "units", OWN, "assumed"
    )
    not_fixed: float = setting(
        0.12, "visits after which the fault returns", "share", OWN, "assumed"
    )
    hazard: float = setting(
        0.084, "defection in warranty at satisfaction zero", "a year",
        "solved: half of customers lost in five years", "derived",
    )  # fmt: skip
    after_warranty: float = setting(
        2.5, "ratio of defection after warranty", "ratio", "same", "derived"
    )
    satisfaction_effect: float = setting(
        -0.55, "log hazard a unit of satisfaction", "log", "same", "derived"
    )
    visits_in_warranty: int = setting(
        8, "regularity of service (Erlang shape) in warranty", "k", OWN, "assumed"
    )
    visits_after: int = setting(3, "regularity of service after warranty", "k", OWN, "assumed")
    repairs: float = setting(0.25, "unplanned repairs of a new car", "a year", OWN, "assumed")
    repairs_growth: float = setting(
        0.12, "growth of repairs with age", "log a year", OWN, "assumed"
    )
    used_warranty_months: int = setting(
        6, "warranty the dealership gives on a used car", "months", OWN, "assumed"
    )
    ownership_shape: float = setting(
        2.2, "Weibull shape of the time a car is kept", "k", "NAPI", "published"
    )
    ownership_scale: float = setting(
        5.93, "Weibull scale of the time a car is kept", "years", "NAPI", "published"
    )
    return_logit: float = setting(
        -0.85, "buying the next car here", "logit", "NAPI, fitted", "derived"
    )
    return_satisfaction: float = setting(
        0.8, "effect of satisfaction on it", "logit", OWN, "assumed"
    )
    return_serviced: float = setting(
        0.55, "effect of a visit in the last twelve months", "logit", OWN, "assumed"
    )
    follow_years: int = setting(
        14, "years from the start that the truth is followed, past the data's last day", "years",
        "choice", "assumed",
    )  # fmt: skip


@dataclass(frozen=True)
class MoneySettings:
    """Prices, margins and bills, in roubles; `scales` turns them into another currency."""

    new_price_by_year: Table = setting(
        ((2015, 1.16), (2019, 1.52), (2021, 1.80), (2022, 2.40), (2023, 2.96), (2025, 3.14)),
        "average new price", "million roubles", "Avtostat", "published",
    )  # fmt: skip
    dollar_price_by_year: Table = setting(
        ((2015, 0.70), (2019, 0.78), (2021, 0.88), (2022, 0.97), (2023, 0.99), (2025, 1.0)),
        "new price level in dollars, 2025 = 1", "ratio", OWN, "assumed",
    )  # fmt: skip
    credit_share: float = setting(0.55, "deals on credit", "share", "NBKI", "published")
    credit_share_2022: float = setting(
        0.40, "deals on credit in 2022", "share", "NBKI", "published"
    )
    leasing_share: float = setting(0.05, "deals on leasing", "share", OWN, "assumed")
    trade_in_by_year: Table = setting(
        ((2015, 0.15), (2024, 0.35)), "deals with a trade-in", "share", OWN, "assumed"
    )
    used_share: float = setting(0.28, "deals for a used car", "share", OWN, "assumed")
    demo_share: float = setting(0.02, "deals for a demonstrator", "share", OWN, "assumed")
    front_margin_new: float = setting(
        0.05, "margin on a new car after discount", "of price", PRACTICE, "published"
    )
    front_margin_used: float = setting(
        0.08, "margin on a used car after discount", "of price", PRACTICE, "published"
    )
    discount_most: float = setting(0.12, "greatest discount", "of list price", OWN, "assumed")
    discount_a: float = setting(
        1.15, "Kumaraswamy a: the closed-form twin of Beta(1.2, 4)", "shape", OWN, "assumed"
    )
    discount_b: float = setting(4.1, "Kumaraswamy b", "shape", OWN, "assumed")
    fni_credit: float = setting(
        0.020, "finance and insurance income on credit", "of price", PRACTICE, "published"
    )
    fni_other: float = setting(
        0.006, "finance and insurance income otherwise", "of price", PRACTICE, "published"
    )
    service_bill: float = setting(
        11_000.0, "median service order, 2025", "roubles", "NADA ratios", "assumed"
    )
    service_bill_dollars: float = setting(
        290.0, "median service order, 2025", "dollars", "NADA ratios", "assumed"
    )
    service_sigma: float = setting(0.55, "spread of service orders", "log sd", OWN, "assumed")
    warranty_bill: float = setting(
        1.14, "warranty order to customer-pay order", "ratio", "NADA", "published"
    )
    service_margin: float = setting(
        0.46, "gross margin of service", "of the bill", "NADA", "published"
    )


@dataclass(frozen=True)
class SurveySettings:
    """Who answers, and what they say."""

    answer_logit: float = setting(
        -1.2, "answering a survey at satisfaction zero", "logit", OWN, "assumed"
    )
    answer_extreme: float = setting(
        0.5, "effect of |satisfaction| on answering", "logit", OWN, "assumed"
    )
    item_missing: float = setting(
        0.05, "questions left out by those who answer", "share", OWN, "assumed"
    )
    comments: float = setting(0.25, "answers with a comment", "share", OWN, "assumed")


@dataclass(frozen=True)
class Config:
    """Everything but the seed that decides a world.

    The world runs from `starts_on` to `ends_on`; `as_of` is the last day its CRM has seen. An
    earlier `as_of` shows less of the same world. Nothing reads the clock.
    """

    preset: str = "small"
    n_customers: int = 20_000
    n_dealerships: int = 6
    starts_on: date = date(2018, 1, 1)
    ends_on: date = date(2025, 12, 31)
    as_of: date = date(2025, 12, 31)
    locale: str = "en_US"
    sales_seats: int = 3
    advisors: int = 2
    block_size: int = 32_768
    latent: Latent = Latent()
    traffic: TrafficSettings = TrafficSettings()
    funnel: FunnelSettings = FunnelSettings()
    relation: RelationSettings = RelationSettings()
    money: MoneySettings = MoneySettings()
    surveys: SurveySettings = SurveySettings()

    def __post_init__(self) -> None:
        """Refuse sizes and dates that no world can have."""
        if self.n_customers < 0 or self.n_dealerships < 1 or self.block_size < 1:
            raise InputError(
                f"A world of {self.n_customers} customers, {self.n_dealerships} dealerships and "
                f"blocks of {self.block_size} was asked for. Ask for 0 or more customers, at "
                "least one dealership, and blocks of at least one customer."
            )
        if not self.starts_on <= self.as_of <= self.ends_on:
            raise InputError(
                f"as_of {self.as_of} was asked for in a world from {self.starts_on} to "
                f"{self.ends_on}. Choose a day inside the world."
            )
        if self.locale not in LOCALES:
            raise InputError(
                f"Locale {self.locale!r} was asked for{near(self.locale, LOCALES)}; there are "
                f"{', '.join(LOCALES)}. Choose one of these."
            )

    @property
    def currency(self) -> str:
        """Return the ISO code of the money in the tables."""
        return "RUB" if self.locale == "ru_RU" else "USD"


PRESETS: dict[str, Config] = {
    "tiny": Config(preset="tiny", n_customers=2_000, n_dealerships=3, starts_on=date(2023, 1, 1)),
    "small": Config(),
}
"""Worlds by name: `tiny` for tests, `small` for the demonstration."""


def find_preset(name: str, **changes: Any) -> Config:
    """Return a preset, with fields of `Config` changed by keyword.

    Raises
    ------
    InputError
        There is no such preset, or no such field.
    """
    if name not in PRESETS:
        raise InputError(
            f"Preset {name!r} was asked for{near(name, PRESETS)}; there are {', '.join(PRESETS)}. "
            "Choose one of these."
        )
    known = [part.name for part in fields(Config)]
    for change in changes:
        if change not in known:
            raise InputError(
                f"Setting {change!r} was asked for{near(change, known)}; there are "
                f"{', '.join(known)}. Choose one of these."
            )
    return replace(PRESETS[name], **changes)


def describe(config: Config) -> list[dict[str, str]]:
    """List every setting of a configuration: name, value, meaning, unit, source, confidence."""
    rows = []
    for part in fields(config):
        value = getattr(config, part.name)
        if not is_dataclass(value):
            if part.name != "block_size":
                rows.append({"name": part.name, "value": str(value)} | dict.fromkeys(_FACTS, ""))
            continue
        for item in fields(value):
            facts = {name: str(item.metadata[name]) for name in _FACTS}
            rows.append(
                {"name": f"{part.name}.{item.name}", "value": str(getattr(value, item.name))}
                | facts
            )
    return rows


_FACTS = ("meaning", "unit", "source", "confidence")
