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


DEFECT_LEVELS = ("none", "light", "medium", "heavy")
"""How badly the CRM is kept: see `synthetic.defects`."""

AUDITS = "audits of CRM data, weakly founded (design notes, section 4)"
Rate = tuple[float, float, float]
"""Shares at the levels light, medium and heavy."""


def setting(
    default: Any,
    meaning: str,
    unit: str,
    source: str,
    confidence: Confidence,
    bounds: tuple[float, float] | None = None,
) -> Any:
    """Declare a setting with what it means, its unit, where it comes from and how sure that is.

    `bounds` are its least and greatest value, where they are not those of its unit.
    """
    facts = {"meaning": meaning, "unit": unit, "source": source, "confidence": confidence}
    return field(default=default, metadata=facts | ({"range": bounds} if bounds else {}))


@dataclass(frozen=True)
class Latent:
    """Spread of what cannot be observed."""

    satisfaction_sd: float = setting(0.9, "customer's satisfaction intercept", "sd", OWN, "assumed")
    value_sd: float = setting(0.5, "customer's value (log scale)", "sd", OWN, "assumed")
    price_sd: float = setting(
        0.4, "customer's sensitivity to prices, lognormal of mean one", "log sd", OWN, "assumed"
    )
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
class CampaignSettings:
    """Advertising: when it runs, what it costs, and the leads it brings."""

    a_year: int = setting(4, "campaigns of the network", "a year", OWN, "assumed")
    weeks: int = setting(6, "length of a campaign", "weeks", OWN, "assumed")
    rollout_days: int = setting(
        14, "step of the staggered roll-out; a dealership starts 0, 1 or 2 steps late", "days",
        OWN, "assumed",
    )  # fmt: skip
    holdout_share: float = setting(
        0.25, "chance that a dealership is held out of a campaign", "share", OWN, "assumed"
    )
    memory: float = setting(
        0.80, "advertising remembered from day to day (adstock theta)", "fraction", OWN, "assumed"
    )
    half: float = setting(
        3.0, "adstock at which half of the greatest lift is reached", "days of usual spend", OWN,
        "assumed",
    )  # fmt: skip
    lift: Table = setting(
        (("search", 0.30), ("social", 0.18), ("classifieds", 0.25), ("outdoor", 0.12),
         ("radio", 0.10)),
        "greatest lift of traffic by channel", "of the base intensity", OWN, "assumed",
    )  # fmt: skip
    spend_sigma: float = setting(0.3, "spread of spend from day to day", "log sd", OWN, "assumed")
    cost_a_sale: float = setting(
        14_000.0, "advertising a sale", "roubles", "5:1 acquisition to retention", "derived"
    )
    cost_a_sale_dollars: float = setting(
        600.0, "advertising a sale", "dollars", "NADA, rounded", "published"
    )
    credited: float = setting(
        0.70, "leads brought by a campaign that are credited to it", "share", OWN, "assumed"
    )
    miscredited: float = setting(
        0.25, "leads that would have come anyway, credited to a campaign that runs on their source",
        "share", OWN, "assumed",
    )  # fmt: skip
    running: int = setting(
        1, "1 = campaigns run; 0 = the world without them, from which the leads they bring are "
        "missing", "1 or 0", "policy", "assumed",
    )  # fmt: skip
    bad_word: float = setting(
        0.6, "bad word of mouth: log intensity of leads a share of dissatisfied customers",
        "log a share", OWN, "assumed",
    )  # fmt: skip


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
        "one before (contract: given an offer, with a test drive or without), for a manager of "
        "mean skill and a median response", "probability", PRACTICE, "published",
    )  # fmt: skip
    intent_effect: tuple[float, ...] = setting(
        (2.0, 2.0, 1.0), "effect of latent intent on taking a test drive, on offer and on contract",
        "logit a standard deviation", OWN, "assumed",
    )  # fmt: skip
    test_drive_effect: tuple[float, ...] = setting(
        (1.0, 0.3), "what a test drive itself adds to offer and to contract", "logit", OWN,
        "assumed",
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
    delay_load: float = setting(
        0.7, "response time against the dealership's load: elasticity", "log a log", OWN, "assumed"
    )
    never_answered: float = setting(
        0.08, "calls and web leads nobody answers", "share", "Pied Piper", "published"
    )
    response_within: float = setting(
        28_800.0, "longest response to a web lead or chat: a rule of the dealership", "minutes",
        "policy", "assumed",
    )  # fmt: skip
    rescued: float = setting(
        0.0, "approaches nobody would answer that a rule of the dealership has answered", "share",
        "policy", "assumed",
    )  # fmt: skip
    discount_effect: float = setting(
        6.0, "effect on contract of the discount, from its mean, at mean sensitivity",
        "logit a share of list price", OWN, "assumed",
    )  # fmt: skip
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
    month: tuple[float, ...] = setting(
        (0.90, 0.90, 0.95, 1.00, 1.05, 1.05, 1.10, 1.15, 1.10, 1.00, 0.90, 0.90),
        "season of defection, January to December", "ratio to the mean month", OWN, "assumed",
    )  # fmt: skip
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
    return_price: float = setting(
        -4.0, "effect of the price of the next car here, after discount, against the market's, at "
        "mean sensitivity", "logit a share of list price", OWN, "assumed",
    )  # fmt: skip
    return_contacts: float = setting(
        0.5, "effect of last year's contacts on time, from their mean to the best", "logit", OWN,
        "assumed",
    )  # fmt: skip
    follow_years: int = setting(
        14, "years from the start that the truth is followed, past the data's last day", "years",
        "choice", "assumed",
    )  # fmt: skip


@dataclass(frozen=True)
class ContactSettings:
    """How the CRM's plan of contacts is made and kept, and what keeping it does."""

    customers_a_year: int = setting(
        4, "care contacts planned with a customer", "a year", "source documents", "published",
        (0, 31),
    )  # fmt: skip
    prospects_a_year: int = setting(
        6, "contacts planned with a prospect in the year after a loss", "a year",
        "source documents", "published", (0, 31),
    )  # fmt: skip
    lead_days: tuple[int, ...] = setting(
        (1, 3, 7), "days after a lead opens on which it is called", "days", PRACTICE, "assumed"
    )
    reminder_days: int = setting(
        14, "days before the next service that the customer is reminded", "days", PRACTICE,
        "assumed",
    )  # fmt: skip
    follow_up_days: int = setting(
        3, "days after delivery that the customer is asked", "days", PRACTICE, "assumed"
    )
    on_time: float = setting(
        0.70, "contacts done on time by a manager of mean discipline", "share", OWN, "assumed"
    )
    never: float = setting(
        0.45, "contacts not done on time that are never done", "share", OWN, "assumed"
    )
    discipline_sd: float = setting(0.8, "manager's discipline", "logit sd", OWN, "assumed")
    asks: float = setting(
        0.6, "effect of discipline on asking for and noting a customer's needs",
        "logit a unit of discipline", OWN, "assumed",
    )  # fmt: skip
    late_days: float = setting(9.0, "mean delay of a late contact", "days", OWN, "assumed")
    entry_median: float = setting(
        12.0, "median time until an event is typed in", "minutes", OWN, "assumed"
    )
    entry_sigma: float = setting(1.6, "spread of that time", "log sd", OWN, "assumed")
    entry_manager_sigma: float = setting(
        0.5, "spread of that time between employees", "log sd", OWN, "assumed"
    )
    hazard_effect: float = setting(
        -0.5, "log hazard of defection at the best number of contacts on time in the last year",
        "log", OWN, "assumed",
    )  # fmt: skip
    best_number: float = setting(
        6.0, "contacts on time in a year beyond which more of them drive customers away", "a year",
        OWN, "assumed",
    )  # fmt: skip
    usual_warmth: float = setting(
        0.64, "mean of the saturating effect, at which the hazard is the one configured",
        "fraction of the best", "solved for the defaults", "derived",
    )  # fmt: skip
    active_months: float = setting(
        18.0, "months without a visit after which no care is planned", "months", PRACTICE,
        "assumed",
    )  # fmt: skip
    automatic: float = setting(
        0.0, "service reminders sent by a machine, always on time", "share", "policy", "assumed"
    )
    call_cost: float = setting(150.0, "cost of a call", "roubles", PRACTICE, "assumed")
    message_cost: float = setting(8.0, "cost of a message", "roubles", PRACTICE, "assumed")
    call_cost_dollars: float = setting(4.0, "cost of a call", "dollars", OWN, "assumed")
    message_cost_dollars: float = setting(0.05, "cost of a message", "dollars", OWN, "assumed")
    reminder_effect: float = setting(
        0.3, "part of the time still to wait that a reminder on time saves", "fraction", OWN,
        "assumed",
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
    price_sigma: float = setting(
        0.02, "a model's list price against the market's, by quarter", "log sd", OWN, "assumed"
    )
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
    discount_cap: float = setting(
        1.0, "rule of the dealership: no discount above this", "of list price", "policy",
        "assumed",
    )  # fmt: skip
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
    accessories_margin: float = setting(
        0.35, "gross margin of accessories", "of price", PRACTICE, "assumed"
    )
    trade_in_margin: float = setting(
        0.05, "gross margin of selling on a car taken in", "of price", PRACTICE, "assumed"
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
class CreditSettings:
    """Who gets credit, and who pays their bills; solvency is a standard normal of the customer."""

    approved_logit: float = setting(
        1.2, "a bank's approval at mean solvency", "logit", OWN, "assumed"
    )
    approved_solvency: float = setting(1.0, "effect of solvency on it", "logit", OWN, "assumed")
    refused_share: float = setting(
        0.12, "lost leads lost for want of credit, times the normal tail of solvency", "share",
        OWN, "assumed",
    )  # fmt: skip
    rate_by_year: Table = setting(
        ((2014, 0.165), (2015, 0.19), (2017, 0.15), (2019, 0.135), (2021, 0.125), (2022, 0.18),
         (2023, 0.17), (2024, 0.23), (2025, 0.24)),
        "mean rate of a car loan in roubles", "a year", "Bank of Russia, rounded", "assumed",
    )  # fmt: skip
    dollar_rate_by_year: Table = setting(
        ((2014, 0.043), (2018, 0.05), (2021, 0.045), (2023, 0.074), (2025, 0.072)),
        "mean rate of a car loan in dollars", "a year", "Federal Reserve G.19, rounded", "assumed",
    )  # fmt: skip
    late_logit: float = setting(-2.2, "a bill paid late at mean solvency", "logit", OWN, "assumed")
    late_solvency: float = setting(-1.0, "effect of solvency on it", "logit", OWN, "assumed")
    never_logit: float = setting(-5.2, "a bill never paid", "logit", OWN, "assumed")
    never_solvency: float = setting(-1.2, "effect of solvency on it", "logit", OWN, "assumed")
    deal_logit: float = setting(
        -1.5, "bills for cars against bills for service, both", "logit", OWN, "assumed"
    )
    late_days: float = setting(25.0, "mean delay of a late payment", "days", OWN, "assumed")
    company_days: int = setting(30, "time a company has to pay", "days", PRACTICE, "assumed")


@dataclass(frozen=True)
class CaseSettings:
    """Who complains, how complaints are handled, and what that does to satisfaction."""

    dissatisfied_below: float = setting(
        -0.5, "satisfaction below which a customer is dissatisfied", "units", OWN, "assumed"
    )
    complains: float = setting(
        0.30, "dissatisfied customers who complain", "share",
        "TARP, quoted in the source documents: 70 % do not", "published",
    )  # fmt: skip
    in_time: float = setting(
        0.60, "complaints resolved in time by an advisor of mean discipline", "share", OWN,
        "assumed",
    )  # fmt: skip
    days: int = setting(7, "time in which a case has to be resolved", "days", PRACTICE, "assumed")
    recovered: float = setting(
        0.6, "effect on satisfaction of a complaint resolved in time", "units", OWN, "assumed"
    )
    let_down: float = setting(
        -0.2, "effect on satisfaction of a complaint resolved late", "units", OWN, "assumed"
    )
    requests: float = setting(0.5, "requests and questions of a customer", "a year", OWN, "assumed")
    compensated: float = setting(
        0.35, "complaints that end in compensation", "share", OWN, "assumed"
    )


@dataclass(frozen=True)
class LoyaltySettings:
    """The loyalty programme; it has no effect of its own: members differ because they chose it."""

    join_logit: float = setting(0.2, "joining at mean satisfaction", "logit", OWN, "assumed")
    join_satisfaction: float = setting(
        0.8, "effect of the satisfaction intercept on joining", "logit", OWN, "assumed"
    )
    earn_service: float = setting(
        0.03, "points earned at the workshop", "a currency unit", PRACTICE, "assumed"
    )
    earn_car: float = setting(
        0.002, "points earned with a car", "a currency unit", PRACTICE, "assumed"
    )
    expire_days: int = setting(
        730, "time without activity after which points expire", "days", PRACTICE, "assumed"
    )
    silver: float = setting(
        4.0, "points ever earned for silver", "usual service orders", OWN, "assumed"
    )
    gold: float = setting(
        10.0, "points ever earned for gold", "usual service orders", OWN, "assumed"
    )


@dataclass(frozen=True)
class WordOfMouthSettings:
    """Whom customers tell, and who comes of it."""

    satisfied_above: float = setting(
        0.0, "satisfaction above which a customer speaks well", "units", OWN, "assumed"
    )
    tells: float = setting(
        5.0, "people a satisfied customer tells", "mean count", "source documents", "published"
    )
    tells_bad: int = setting(
        10, "people a dissatisfied customer tells at least", "count", "source documents",
        "published",
    )  # fmt: skip
    tells_bad_more: float = setting(
        1.0, "people told beyond that", "mean count", "source documents", "published"
    )
    asked: int = setting(
        8, "earlier customers a dealership considered as the one who sent a referred lead",
        "mean count", "choice", "assumed",
    )  # fmt: skip


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


POLICY_NAMES = ("contacts", "response", "reminders", "retention", "discount", "campaigns")
"""Policies that a world can have: see `synthetic.rollout`."""


@dataclass(frozen=True)
class RolloutSettings:
    """A policy of the world: when each dealership starts it, and who is held out."""

    policy: str = setting(
        "", f"policy of the treated customers: {', '.join(POLICY_NAMES)}; empty = none", "name",
        "policy", "assumed",
    )  # fmt: skip
    first_days: int = setting(
        365, "days from the first of the world until the first wave starts", "days", OWN, "assumed"
    )
    step_days: int = setting(90, "days from wave to wave", "days", OWN, "assumed")
    waves: int = setting(
        4, "waves, of which each dealership draws one", "count", OWN, "assumed", (1, 1000)
    )
    holdout_share: float = setting(
        0.20, "customers held out of the policy, at random", "share", OWN, "assumed"
    )

    def __post_init__(self) -> None:
        """Refuse a policy that nobody knows."""
        if self.policy and self.policy not in POLICY_NAMES:
            raise InputError(
                f"Policy {self.policy!r} was asked for{near(str(self.policy), POLICY_NAMES)}; "
                f"there are {', '.join(POLICY_NAMES)}. Choose one of these."
            )


@dataclass(frozen=True)
class ValueSettings:
    """The true value of customers: whose is worked out, and how."""

    sample_share: float = setting(
        0.01, "customers whose expected margin is in truth_value, drawn at random", "share",
        "choice", "assumed",
    )  # fmt: skip
    lives: int = setting(
        24, "lives lived by each of them (Monte Carlo)", "count", "choice", "assumed", (2, 1000)
    )
    annual_discount_rate: float = setting(
        0.10, "discount from the day of arrival", "fraction", OWN, "assumed"
    )


@dataclass(frozen=True)
class DefectSettings:
    """Share of what could be wrong that is wrong, at the levels light, medium and heavy."""

    duplicates: Rate = setting(
        (0.02, 0.06, 0.15), "customers entered a second time", "share of customers", AUDITS,
        "published",
    )  # fmt: skip
    missing_phone: Rate = setting(
        (0.01, 0.04, 0.10), "phones not kept, whoever the customer", "share of phones", AUDITS,
        "published",
    )  # fmt: skip
    missing_at_random: Rate = setting(
        (0.005, 0.02, 0.06), "e-mail, occupation, source, purpose not kept, whatever the value",
        "share of values", OWN, "assumed",
    )  # fmt: skip
    missing_by_value: Rate = setting(
        (0.005, 0.02, 0.06), "income, birth date, reason of loss not kept: twice this share of "
        "high incomes, of customers of fifty and over, of losses on price or to a competitor, and "
        "half of it among the rest", "share of values", OWN, "assumed",
    )  # fmt: skip
    swapped_dates: Rate = setting(
        (0.002, 0.008, 0.02), "dates whose day and month are exchanged",
        "share of dates that allow it", OWN, "assumed",
    )  # fmt: skip
    mileage_roll_back: Rate = setting(
        (0.002, 0.006, 0.02), "odometers that show less than at the visit before",
        "share of visits after the first", OWN, "assumed",
    )  # fmt: skip
    wrong_unit: Rate = setting(
        (0.001, 0.003, 0.01), "amounts and odometers typed in thousandths or thousands",
        "share of amounts", OWN, "assumed",
    )  # fmt: skip
    orphan_keys: Rate = setting(
        (0.001, 0.004, 0.01), "keys that point to a record since deleted", "share of keys", OWN,
        "assumed",
    )  # fmt: skip
    back_dated_stages: Rate = setting(
        (0.003, 0.01, 0.03), "leads with a stage dated three to thirty days too early",
        "share of leads with a second stage", OWN, "assumed",
    )  # fmt: skip
    wrong_stage_order: Rate = setting(
        (0.002, 0.01, 0.03), "leads with two neighbouring stages in the wrong order",
        "share of leads with two such stages", AUDITS, "published",
    )  # fmt: skip
    test_records: Rate = setting(
        (0.001, 0.003, 0.01), "customers and leads typed in to try the system",
        "a customer", OWN, "assumed",
    )  # fmt: skip
    shared_phones: Rate = setting(
        (0.003, 0.01, 0.03), "phones replaced by one of the dealership's own", "share of phones",
        OWN, "assumed",
    )  # fmt: skip
    late_entry: Rate = setting(
        (0.05, 0.15, 0.35), "records typed in a day or more late", "share of records", AUDITS,
        "published",
    )  # fmt: skip
    never_entered: Rate = setting(
        (0.01, 0.04, 0.10), "approaches without a name, and leads that came to no contract, that "
        "were never typed in", "share of them", AUDITS, "published",
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Refuse what is not a share, or falls from a level to the next."""
        for part in fields(self):
            found = getattr(self, part.name)
            if len(found) != 3 or not 0 <= found[0] <= found[1] <= found[2] <= 0.5:
                raise InputError(
                    f"Rates {found} were asked for defect {part.name!r}. Give three shares, for "
                    "light, medium and heavy, that do not fall and lie between 0 and 0.5."
                )

    def at(self, name: str, level: str) -> float:
        """Return a rate at a level other than ``"none"``."""
        rate: Rate = getattr(self, name)
        return rate[DEFECT_LEVELS.index(level) - 1]


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
    block_size: int = 16_384
    defects: str = "none"
    latent: Latent = Latent()
    traffic: TrafficSettings = TrafficSettings()
    campaigns: CampaignSettings = CampaignSettings()
    funnel: FunnelSettings = FunnelSettings()
    relation: RelationSettings = RelationSettings()
    contacts: ContactSettings = ContactSettings()
    money: MoneySettings = MoneySettings()
    credit: CreditSettings = CreditSettings()
    cases: CaseSettings = CaseSettings()
    loyalty: LoyaltySettings = LoyaltySettings()
    word_of_mouth: WordOfMouthSettings = WordOfMouthSettings()
    surveys: SurveySettings = SurveySettings()
    rollout: RolloutSettings = RolloutSettings()
    values: ValueSettings = ValueSettings()
    defect_rates: DefectSettings = DefectSettings()

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
        self._refuse_level()

    def _refuse_level(self) -> None:
        if self.defects not in DEFECT_LEVELS:
            raise InputError(
                f"Defects {self.defects!r} were asked for{near(str(self.defects), DEFECT_LEVELS)}; "
                f"the levels are {', '.join(DEFECT_LEVELS)}. Choose one of these."
            )

    @property
    def currency(self) -> str:
        """Return the ISO code of the money in the tables."""
        return "RUB" if self.locale == "ru_RU" else "USD"


PRESETS: dict[str, Config] = {
    "tiny": Config(preset="tiny", n_customers=2_000, n_dealerships=3, starts_on=date(2023, 1, 1)),
    "small": Config(),
    "medium": Config(
        preset="medium",
        n_customers=200_000,
        n_dealerships=24,
        sales_seats=1,
        starts_on=date(2016, 1, 1),
    ),
    "large": Config(
        preset="large",
        n_customers=1_000_000,
        n_dealerships=60,
        sales_seats=2,
        starts_on=date(2015, 1, 1),
    ),
}
"""Worlds by name: `tiny` for tests, `small` for the demonstration, `medium` for calibration,
`large` for speed. A manager of `medium` (one a dealership) and of `large` (two) sells about as many
cars as one of a busy showroom; the first two have three a dealership, to be compared inside one."""


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
