"""The dealership's tables: columns, types, units, keys and rules (dataframely).

One schema, three readers: the generator writes to it, the loading door (`warehouse`) checks it, and
the data dictionary is made from it. Every column carries a one-line meaning (``description``), a
unit (``metadata["unit"]``) and, where it names a living person, ``metadata["personal"]``, so that
an error message never shows it.

Conventions: ``*_id`` are Int64 keys; money is Int32 in whole units of the data's currency; ``*_on``
are dates, ``*_at`` are local moments without a zone; a column that may be null says what null
means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import dataframely as dy

if TYPE_CHECKING:
    import polars as pl

ROLES = ("manager", "receptionist", "call_centre", "head_of_sales", "marketer", "service_advisor")
CUSTOMER_KINDS = ("person", "company")
GENDERS = ("female", "male")
INCOME_BANDS = ("low", "middle", "high")
CONDITIONS = ("new", "used", "demo")
TRAFFIC_KINDS = ("visit", "call", "web_lead", "chat")
SOURCES = ("walk_in", "phone", "web", "classifieds", "referral", "service_drive", "outdoor")
OUTCOMES = ("opportunity", "information", "service", "unanswered")
STATUSES = ("open", "won", "lost")
LOST_REASONS = (
    "price",
    "availability",
    "competitor",
    "credit_refused",
    "changed_mind",
    "no_answer",
)
PURPOSES = ("family", "commuting", "business", "second_car", "travel")
PRIORITIES = ("price", "economy", "comfort", "space", "safety", "prestige")
STAGES = (
    "new",
    "contact",
    "appointment",
    "visit",
    "test_drive",
    "offer",
    "contract",
    "delivery",
    "lost",
)
PAYMENTS = ("cash", "credit", "leasing")
ORDER_KINDS = ("scheduled", "repair", "warranty", "body", "recall", "goodwill")
PAYERS = ("customer", "warranty", "insurance", "internal")
SURVEY_KINDS = ("sales", "service")
CHANNELS = ("phone", "sms", "email")
QUESTION_TYPES = ("scale", "choice", "text")
PURCHASE_KINDS = ("car", "service")
LEDGER_PARTS = (
    "front",
    "finance",
    "accessories",
    "trade_in",
    "service",
    "discount",
    "contacts",
    "advertising",
    "compensation",
)
CONTACT_KINDS = ("call", "sms", "email", "messenger")
CONTACT_PURPOSES = (
    "lead",
    "service_reminder",
    "follow_up",
    "birthday",
    "yearly",
    "care",
    "prospect",
)
CONTACT_RESULTS = ("reached", "not_reached", "refused")
ADVERTISING = ("search", "social", "classifieds", "outdoor", "radio")
AUDIENCES = ("market", "city", "prospects")
CASE_KINDS = ("complaint", "request", "information")
CASE_TOPICS = (
    "quality",
    "waiting",
    "price",
    "staff",
    "booking",
    "documents",
    "parts",
    "offers",
)
RESOLUTIONS = ("fixed", "compensated", "explained", "rejected")
TIERS = ("bronze", "silver", "gold")
POINT_KINDS = ("earn", "redeem", "expire")
DIRECTIONS = ("outgoing", "incoming")
OWNERSHIP_ENDS = ("repurchased_here", "bought_elsewhere", "stopped_coming")
LOYALTY_KINDS = ("enquiry", "purchase", "promoter", "critic")
WARRANTY_STATES = ("in_warranty", "after_warranty")
RISK_FACTORS = (
    "months_since_visit",
    "overdue",
    "visits_two_years",
    "years_with_us",
    "bought_here",
    "car_age_years",
    "after_warranty",
    "low_score",
    "high_score",
    "complained",
    "contacts_a_year",
)
"""Columns of `departure_snapshots` that say what was known of a customer on that day."""
MARKETING_CODES = (
    "all",
    "not_recorded",
    "relative_lift",
    "difference",
    "enquiry",
    "deal",
    "first_visit",
    "later_visit",
    "mean",
    "median",
    "winsorised_mean",
    "change",
    "volume_effect",
    "gross_margin_of_cars_sold",
    "gross_margin_of_the_workshop",
    "leads",
    "workshop",
    "client_service",
    "settlements",
    "rate_effect",
    "mix_effect",
)
"""Words of the views and answers about marketing that no table has."""


def _key(meaning: str) -> dy.Int64:
    return dy.Int64(primary_key=True, description=meaning, metadata={"unit": "id"})


def _ref(meaning: str, *, nullable: bool = False) -> dy.Int64:
    return dy.Int64(nullable=nullable, description=meaning, metadata={"unit": "id"})


def _text(meaning: str, *, nullable: bool = False, personal: bool = False) -> dy.String:
    facts: dict[str, Any] = {"unit": "text", "personal": personal}
    return dy.String(nullable=nullable, description=meaning, metadata=facts)


def _one_of(options: Sequence[str], meaning: str, *, nullable: bool = False) -> dy.Enum:
    return dy.Enum(options, nullable=nullable, description=meaning, metadata={"unit": "category"})


def _money(meaning: str, *, least: int | None = 0, nullable: bool = False) -> dy.Int32:
    facts = {"unit": "currency units"}
    return dy.Int32(nullable=nullable, min=least, description=meaning, metadata=facts)


def _count(meaning: str, unit: str, *, least: int = 0, nullable: bool = False) -> dy.Int32:
    return dy.Int32(nullable=nullable, min=least, description=meaning, metadata={"unit": unit})


def _on(meaning: str, *, nullable: bool = False, personal: bool = False) -> dy.Date:
    facts: dict[str, Any] = {"unit": "date", "personal": personal}
    return dy.Date(nullable=nullable, description=meaning, metadata=facts)


def _at(meaning: str, *, nullable: bool = False) -> dy.Datetime:
    return dy.Datetime(nullable=nullable, description=meaning, metadata={"unit": "local time"})


def _yes(meaning: str) -> dy.Bool:
    return dy.Bool(description=meaning, metadata={"unit": "true or false"})


class Dealerships(dy.Schema):
    """One row a dealership of the network."""

    dealership_id = _key("dealership")
    network = _text("network (group) the dealership belongs to")
    name = dy.String(unique=True, description="its name on the door", metadata={"unit": "text"})
    region = _text("region or state; null = not recorded", nullable=True)
    city = _text("city; null = not recorded", nullable=True)
    brand_group = _text("group of brands it sells; null = not recorded", nullable=True)
    opened_on = _on("day it opened; null = not recorded", nullable=True)
    sales_seats = _count("places for sales managers; null = not recorded", "people", nullable=True)
    service_bays = _count("bays in the workshop; null = not recorded", "bays", nullable=True)


class Employees(dy.Schema):
    """One row a person employed by a dealership."""

    employee_id = _key("employee")
    dealership_id = _ref("where they work")
    role = _one_of(ROLES, "what they do")
    name = _text("full name", personal=True)
    hired_on = _on("first working day")
    left_on = _on("last working day; null = still employed", nullable=True)

    @dy.rule()
    def left_after_hired(cls) -> pl.Expr:
        return cls.left_on.col >= cls.hired_on.col


class Customers(dy.Schema):
    """One row a person or company known to the CRM: prospects, buyers and service customers."""

    customer_id = _key("customer")
    dealership_id = _ref("dealership that looks after them")
    kind = _one_of(CUSTOMER_KINDS, "person or company")
    last_name = _text("surname, or the company's name", personal=True)
    first_name = _text("first name; null for a company", nullable=True, personal=True)
    patronymic = _text("patronymic; null where there is none", nullable=True, personal=True)
    gender = _one_of(GENDERS, "gender; null = company or not asked", nullable=True)
    birth_on = _on("date of birth; null = company or not asked", nullable=True, personal=True)
    phone = _text("phone; null = not left", nullable=True, personal=True)
    email = _text("e-mail; null = not left", nullable=True, personal=True)
    city = _text("city they live in")
    occupation = _text("occupation; null = not asked", nullable=True, personal=True)
    income_band = _one_of(INCOME_BANDS, "income; null = not asked", nullable=True)
    has_children = dy.Bool(
        nullable=True,
        description="has children; null = not asked",
        metadata={"unit": "true or false"},
    )
    consent = _yes("agreed to be contacted")
    created_at = _at("first contact with the dealership")
    entered_at = _at("when the record was typed in")
    manager_id = _ref("employee responsible for them")

    @dy.rule()
    def entered_after_created(cls) -> pl.Expr:
        return cls.entered_at.col >= cls.created_at.col

    @dy.rule()
    def born_before_created(cls) -> pl.Expr:
        return cls.birth_on.col < cls.created_at.col.dt.date()


class Models(dy.Schema):
    """One row a model of car on sale or in the car parc."""

    model_id = _key("model")
    brand = _text("brand")
    model = _text("name of the model")
    segment = _text("market segment")
    body = _text("body style")
    drive = _text("driven wheels")
    list_price = _money("list price of the base version at as_of", least=1)
    warranty_months = _count("warranty", "months")
    warranty_km = _count("warranty", "km")
    service_interval_months = _count("longest time between services", "months", least=1)
    service_interval_km = _count("longest distance between services", "km", least=1)


class ModelPrices(dy.Schema):
    """One row a price of a model on the price list."""

    model_id = _key("model")
    starts_on = dy.Date(
        primary_key=True, description="first day of the price", metadata={"unit": "date"}
    )
    list_price = _money("list price of the base version from that day on", least=1)


class Vehicles(dy.Schema):
    """One row a car: in stock, sold by us, or serviced by us."""

    vehicle_id = _key("vehicle")
    vin = dy.String(
        unique=True,
        regex=r"^[A-HJ-NPR-Z0-9]{17}$",
        description="vehicle identification number, 17 characters",
        metadata={"unit": "text", "personal": True},
    )
    model_id = _ref("model")
    dealership_id = _ref("dealership that holds, sold or services it")
    condition = _one_of(CONDITIONS, "new, used or demonstrator when it came")
    model_year = dy.Int32(
        min=1950, max=2100, description="model year", metadata={"unit": "calendar year"}
    )
    arrived_on = _on("day it came to the dealership")
    cost = _money("what the dealership paid; 0 for a customer's own car")
    list_price = _money("asking price; 0 for a customer's own car")
    options_value = _money("value of factory options inside the list price")
    colour = _text("colour")
    customer_id = _ref("owner; null = in stock", nullable=True)
    sold_on = _on("day of contract; null = in stock or not sold by us", nullable=True)

    @dy.rule()
    def sold_after_arrived(cls) -> pl.Expr:
        return cls.sold_on.col >= cls.arrived_on.col

    @dy.rule()
    def sold_has_owner(cls) -> pl.Expr:
        return cls.sold_on.col.is_null() | cls.customer_id.col.is_not_null()


class Campaigns(dy.Schema):
    """One row an advertising campaign at one dealership: the wave of the network it belongs to."""

    campaign_id = _key("campaign at one dealership")
    dealership_id = _ref("dealership")
    name = _text("name of the network's campaign")
    channel = _one_of(ADVERTISING, "where it is shown")
    starts_on = _on("first day here: the roll-out is staggered")
    ends_on = _on("last day, as planned")
    budget = _money("money set aside; 0 for a dealership held out")
    audience = _one_of(AUDIENCES, "whom it is for")
    holdout_share = dy.Float64(
        min=0.0,
        max=1.0,
        description="share of the network's dealerships held out at random",
        metadata={"unit": "share"},
    )
    held_out = _yes("this dealership was held out and spends nothing")

    @dy.rule()
    def ends_after_start(cls) -> pl.Expr:
        return cls.ends_on.col >= cls.starts_on.col

    @dy.rule()
    def held_out_spends_nothing(cls) -> pl.Expr:
        return ~cls.held_out.col | (cls.budget.col == 0)


class CampaignDays(dy.Schema):
    """One row a day of a campaign."""

    campaign_id = _key("campaign")
    day_on = dy.Date(primary_key=True, description="day", metadata={"unit": "date"})
    dealership_id = _ref("dealership")
    spend = _money("money spent")
    impressions = _count("times it was shown", "impressions")
    clicks = _count("times it was followed", "clicks")

    @dy.rule()
    def clicks_within_impressions(cls) -> pl.Expr:
        return cls.clicks.col <= cls.impressions.col


class Traffic(dy.Schema):
    """One row an approach to the dealership: a visit, a call, a web lead, a chat."""

    traffic_id = _key("approach")
    dealership_id = _ref("dealership approached")
    happened_at = _at("when it happened")
    kind = _one_of(TRAFFIC_KINDS, "how they came")
    source = _one_of(SOURCES, "what brought them")
    campaign_id = _ref("campaign they are credited to; null = none", nullable=True)
    customer_id = _ref("customer; null = did not give a name", nullable=True)
    handled_by = _ref("employee who answered; null = nobody did", nullable=True)
    handled_at = _at("when it was answered; null = never", nullable=True)
    outcome = _one_of(OUTCOMES, "what became of it")
    entered_at = _at("when it was typed in")

    @dy.rule()
    def handled_after_happened(cls) -> pl.Expr:
        return cls.handled_at.col >= cls.happened_at.col

    @dy.rule()
    def handled_has_employee(cls) -> pl.Expr:
        return cls.handled_at.col.is_null() == cls.handled_by.col.is_null()

    @dy.rule()
    def entered_after_happened(cls) -> pl.Expr:
        return cls.entered_at.col >= cls.happened_at.col


class Opportunities(dy.Schema):
    """One row a possible sale of a car (a lead being worked)."""

    opportunity_id = _key("opportunity")
    dealership_id = _ref("dealership")
    customer_id = _ref("customer; null = not recorded", nullable=True)
    manager_id = _ref("sales manager responsible")
    source = _one_of(SOURCES, "what brought them; null = not recorded", nullable=True)
    opened_at = _at("when it was opened")
    model_id = _ref("model of interest; null = undecided", nullable=True)
    budget = _money("what the customer means to spend; null = not asked", nullable=True)
    condition = _one_of(CONDITIONS, "condition wanted; null = undecided", nullable=True)
    purpose = _one_of(PURPOSES, "what the car is for; null = not asked", nullable=True)
    priority = _one_of(PRIORITIES, "what matters most; null = not asked", nullable=True)
    status = _one_of(STATUSES, "open, won (delivered) or lost")
    lost_reason = _one_of(LOST_REASONS, "why it was lost; null = not lost", nullable=True)
    competitor = _text("who won it instead; null = not known", nullable=True)
    closed_at = _at("delivery or loss; null = open", nullable=True)

    @dy.rule()
    def closed_after_opened(cls) -> pl.Expr:
        return cls.closed_at.col >= cls.opened_at.col

    @dy.rule()
    def open_until_closed(cls) -> pl.Expr:
        return (cls.status.col == "open") == cls.closed_at.col.is_null()

    @dy.rule()
    def reason_only_when_lost(cls) -> pl.Expr:
        return cls.lost_reason.col.is_null() | (cls.status.col == "lost")


class StageEvents(dy.Schema):
    """One row a stage that an opportunity reached."""

    opportunity_id = _key("opportunity")
    dealership_id = _ref("dealership")
    seq = dy.Int32(
        primary_key=True,
        min=1,
        description="order within the opportunity",
        metadata={"unit": "1, 2, …"},
    )
    stage = _one_of(STAGES, "stage reached")
    happened_at = _at("when it was reached")
    entered_at = _at("when it was typed in")
    employee_id = _ref("who did it")

    @dy.rule()
    def entered_after_happened(cls) -> pl.Expr:
        return cls.entered_at.col >= cls.happened_at.col


class Deals(dy.Schema):
    """One row a contract for a car."""

    deal_id = _key("deal")
    opportunity_id = _ref("opportunity it closed")
    dealership_id = _ref("dealership")
    customer_id = _ref("buyer")
    manager_id = _ref("sales manager")
    vehicle_id = _ref("car")
    model_id = _ref("model")
    contract_on = _on("day of contract")
    delivery_on = _on("day of delivery; null = not yet, or cancelled", nullable=True)
    list_price = _money("asking price with options", least=1)
    discount = _money("discount given from the list price")
    sale_price = _money("price of the car on the contract")
    cost = _money("what the car cost the dealership")
    accessories = _money("accessories sold with it")
    trade_in = _money("allowance for the customer's old car; 0 = none")
    pay = _one_of(PAYMENTS, "how it is paid")
    fni_income = _money("finance and insurance income")
    cancelled_on = _on("day it was cancelled; null = it was not", nullable=True)

    @dy.rule()
    def discount_within_list_price(cls) -> pl.Expr:
        return cls.discount.col <= cls.list_price.col

    @dy.rule()
    def sale_price_within_list_price(cls) -> pl.Expr:
        return cls.sale_price.col <= cls.list_price.col

    @dy.rule()
    def delivered_after_contract(cls) -> pl.Expr:
        return cls.delivery_on.col >= cls.contract_on.col

    @dy.rule()
    def cancelled_after_contract(cls) -> pl.Expr:
        return cls.cancelled_on.col >= cls.contract_on.col


class Credits(dy.Schema):
    """One row an application for credit to one bank."""

    credit_id = _key("application")
    dealership_id = _ref("dealership")
    customer_id = _ref("who applies")
    opportunity_id = _ref("opportunity it is for")
    deal_id = _ref("deal it pays for; null = refused", nullable=True)
    bank = _text("bank")
    applied_on = _on("day of application")
    amount = _money("sum applied for")
    annual_rate = dy.Float64(
        min=0.0, max=1.0, description="interest", metadata={"unit": "share a year"}
    )
    months = _count("term", "months", least=1)
    approved = _yes("the bank agreed")

    @dy.rule()
    def only_approved_pays(cls) -> pl.Expr:
        return cls.deal_id.col.is_null() | cls.approved.col


class Invoices(dy.Schema):
    """One row a bill to a customer, for a car or for service."""

    invoice_id = _key("invoice")
    dealership_id = _ref("dealership")
    customer_id = _ref("who has to pay")
    deal_id = _ref("deal billed; null = service", nullable=True)
    service_order_id = _ref("service order billed; null = a deal", nullable=True)
    issued_on = _on("day of issue")
    due_on = _on("last day on which payment is on time")
    amount = _money("sum to be paid")
    paid = _money("sum paid so far")
    paid_on = _on("day on which it was paid in full; null = it is not", nullable=True)

    @dy.rule()
    def due_after_issued(cls) -> pl.Expr:
        return cls.due_on.col >= cls.issued_on.col

    @dy.rule()
    def paid_after_issued(cls) -> pl.Expr:
        return cls.paid_on.col >= cls.issued_on.col

    @dy.rule()
    def paid_in_full_has_a_day(cls) -> pl.Expr:
        return (cls.paid.col == cls.amount.col) == cls.paid_on.col.is_not_null()

    @dy.rule()
    def about_one_thing(cls) -> pl.Expr:
        return cls.deal_id.col.is_null() != cls.service_order_id.col.is_null()


class ServiceOrders(dy.Schema):
    """One row a visit of a car to the workshop."""

    service_order_id = _key("service order")
    dealership_id = _ref("dealership")
    vehicle_id = _ref("car")
    customer_id = _ref("customer who brought it")
    advisor_id = _ref("service advisor")
    booked_at = _at("when the visit was booked")
    opened_at = _at("when the car was taken in")
    closed_at = _at("when it was handed back; null = in the workshop", nullable=True)
    kind = _one_of(ORDER_KINDS, "kind of work")
    payer = _one_of(PAYERS, "who pays")
    mileage_km = _count("odometer", "km")
    labour = _money("labour before discount")
    parts = _money("parts before discount")
    costs = _money("what labour and parts cost the dealership")
    discount = _money("discount given")
    fixed_first_time = _yes("no return for the same fault")
    next_due_on = _on("next service due by date; null = not set", nullable=True)
    next_due_km = _count("next service due by odometer; null = not set", "km", nullable=True)

    @dy.rule()
    def opened_after_booked(cls) -> pl.Expr:
        return cls.opened_at.col >= cls.booked_at.col

    @dy.rule()
    def closed_after_opened(cls) -> pl.Expr:
        return cls.closed_at.col >= cls.opened_at.col

    @dy.rule()
    def discount_within_bill(cls) -> pl.Expr:
        return cls.discount.col <= cls.labour.col + cls.parts.col

    @dy.rule()
    def next_due_later(cls) -> pl.Expr:
        return cls.next_due_on.col >= cls.opened_at.col.dt.date()


class Contacts(dy.Schema):
    """One row a planned contact with a customer: a call, a message, a greeting."""

    contact_id = _key("contact")
    dealership_id = _ref("dealership")
    customer_id = _ref("customer to be contacted")
    opportunity_id = _ref("opportunity it serves; null = none", nullable=True)
    employee_id = _ref("who did it, or has to")
    kind = _one_of(CONTACT_KINDS, "how")
    purpose = _one_of(CONTACT_PURPOSES, "what for")
    direction = _one_of(DIRECTIONS, "who contacts whom")
    planned_at = _at("when it was put on the list")
    due_at = _at("latest moment at which it is on time")
    done_at = _at("when it was done; null = not yet, or never", nullable=True)
    result = _one_of(CONTACT_RESULTS, "what came of it; null = not done", nullable=True)
    entered_at = _at("when it was typed in as done; null = not done", nullable=True)

    @dy.rule()
    def due_after_planned(cls) -> pl.Expr:
        return cls.due_at.col >= cls.planned_at.col

    @dy.rule()
    def done_after_planned(cls) -> pl.Expr:
        return cls.done_at.col >= cls.planned_at.col

    @dy.rule()
    def entered_after_done(cls) -> pl.Expr:
        return cls.entered_at.col >= cls.done_at.col

    @dy.rule()
    def done_has_result(cls) -> pl.Expr:
        return cls.done_at.col.is_null() == cls.result.col.is_null()


class Cases(dy.Schema):
    """One row a complaint, a request or a question of a customer."""

    case_id = _key("case")
    dealership_id = _ref("dealership")
    customer_id = _ref("customer")
    employee_id = _ref("who deals with it")
    service_order_id = _ref("service order it is about; null = none", nullable=True)
    deal_id = _ref("deal it is about; null = none", nullable=True)
    kind = _one_of(CASE_KINDS, "complaint, request or question")
    about = _one_of(CASE_TOPICS, "what it is about")
    channel = _one_of(CONTACT_KINDS, "how it came")
    opened_at = _at("when it came")
    due_at = _at("latest moment at which a resolution is in time")
    first_response_at = _at("first answer; null = none yet", nullable=True)
    resolved_at = _at("when it was resolved; null = open", nullable=True)
    resolution = _one_of(RESOLUTIONS, "how it was resolved; null = open", nullable=True)
    compensation = _money("money given to make up for it; 0 = none")
    entered_at = _at("when it was typed in")

    @dy.rule()
    def response_after_opened(cls) -> pl.Expr:
        return cls.first_response_at.col >= cls.opened_at.col

    @dy.rule()
    def resolved_after_response(cls) -> pl.Expr:
        return cls.resolved_at.col >= cls.first_response_at.col

    @dy.rule()
    def resolved_has_resolution(cls) -> pl.Expr:
        return cls.resolved_at.col.is_null() == cls.resolution.col.is_null()

    @dy.rule()
    def entered_after_opened(cls) -> pl.Expr:
        return cls.entered_at.col >= cls.opened_at.col


class LoyaltyAccounts(dy.Schema):
    """One row a customer's account in the loyalty programme."""

    loyalty_account_id = _key("account")
    dealership_id = _ref("dealership")
    customer_id = _ref("member")
    joined_on = _on("day of joining")
    tier = _one_of(TIERS, "tier by points ever earned, at as_of")


class LoyaltyTransactions(dy.Schema):
    """One row a movement of points; a point is worth one currency unit."""

    loyalty_transaction_id = _key("movement")
    loyalty_account_id = _ref("account")
    dealership_id = _ref("dealership")
    happened_on = _on("day")
    kind = _one_of(POINT_KINDS, "earned, redeemed or expired")
    points = dy.Int32(
        description="points: above zero earned, below zero redeemed or expired",
        metadata={"unit": "points"},
    )
    deal_id = _ref("deal that earned them; null = none", nullable=True)
    service_order_id = _ref("service order that earned or used them; null = none", nullable=True)

    @dy.rule()
    def sign_follows_kind(cls) -> pl.Expr:
        return (cls.kind.col == "earn") == (cls.points.col > 0)


class Surveys(dy.Schema):
    """One row a questionnaire sent to a customer."""

    survey_id = _key("survey")
    dealership_id = _ref("dealership")
    customer_id = _ref("customer asked")
    employee_id = _ref("employee the survey is about")
    deal_id = _ref("deal it follows; null = a service survey", nullable=True)
    service_order_id = _ref("service order it follows; null = a sales survey", nullable=True)
    kind = _one_of(SURVEY_KINDS, "after a sale or after a service")
    sent_at = _at("when it was sent")
    answered_at = _at("when it was answered; null = not answered", nullable=True)
    channel = _one_of(CHANNELS, "how it was asked")

    @dy.rule()
    def answered_after_sent(cls) -> pl.Expr:
        return cls.answered_at.col >= cls.sent_at.col

    @dy.rule()
    def about_one_thing(cls) -> pl.Expr:
        return cls.deal_id.col.is_null() | cls.service_order_id.col.is_null()


class SurveyQuestions(dy.Schema):
    """One row a question that surveys ask."""

    question_id = _key("question")
    code = dy.String(
        unique=True, description="short name: nps, csat, staff, …", metadata={"unit": "text"}
    )
    text_ru = _text("wording in Russian")
    text_en = _text("wording in English")
    type = _one_of(QUESTION_TYPES, "kind of answer")
    scale_min = dy.Int32(
        nullable=True, description="lowest score; null = not a scale", metadata={"unit": "points"}
    )
    scale_max = dy.Int32(
        nullable=True, description="highest score; null = not a scale", metadata={"unit": "points"}
    )

    @dy.rule()
    def scale_has_range(cls) -> pl.Expr:
        return (cls.type.col != "scale") | (cls.scale_min.col < cls.scale_max.col).fill_null(False)


class SurveyAnswers(dy.Schema):
    """One row an answer to one question of one survey."""

    survey_id = _key("survey")
    question_id = _key("question")
    value = dy.Float64(
        nullable=True, description="score or choice; null = text only", metadata={"unit": "points"}
    )
    text = _text("words; null = none", nullable=True, personal=True)

    @dy.rule()
    def says_something(cls) -> pl.Expr:
        return cls.value.col.is_not_null() | cls.text.col.is_not_null()

    @dy.rule()
    def value_is_a_number(cls) -> pl.Expr:
        return cls.value.col.is_finite()


class Spells(dy.Schema):
    """A customer's service relationship: one row a customer who ever took a car or a service."""

    customer_id = _key("customer")
    dealership_id = _ref("dealership of the first activity")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    brand = _text("brand of the first car; null = not known", nullable=True)
    started_kind = _one_of(
        PURCHASE_KINDS, "what the relationship began with; null = not known", nullable=True
    )
    started_on = _on("first delivery or service visit")
    ended_on = _on(
        "first day of inactivity long enough to count as left; null = open", nullable=True
    )

    @dy.rule()
    def ended_after_started(cls) -> pl.Expr:
        return cls.ended_on.col > cls.started_on.col


class OwnershipSpells(dy.Schema):
    """One row a car delivered here: how long until the next one, and how that ended."""

    vehicle_id = _key("car")
    customer_id = _ref("buyer")
    dealership_id = _ref("dealership that delivered it")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    brand = _text("brand; null = not known", nullable=True)
    condition = _one_of(CONDITIONS, "new, used or demonstrator; null = not known", nullable=True)
    started_on = _on("day of delivery")
    ended_on = _on("day of the end; null = open", nullable=True)
    cause = _one_of(OWNERSHIP_ENDS, "how it ended; null = open", nullable=True)

    @dy.rule()
    def ended_after_started(cls) -> pl.Expr:
        return cls.ended_on.col >= cls.started_on.col

    @dy.rule()
    def ended_has_cause(cls) -> pl.Expr:
        return cls.ended_on.col.is_null() == cls.cause.col.is_null()


class CarParc(dy.Schema):
    """One row a car that was ever delivered or serviced here, with what is known of it by a day."""

    vehicle_id = _key("car")
    customer_id = _ref("customer who last bought or brought it")
    dealership_id = _ref("dealership of that")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    brand = _text("brand; null = not known", nullable=True)
    model = _text("model; null = not known", nullable=True)
    condition = _one_of(CONDITIONS, "new, used or demonstrator; null = not known", nullable=True)
    sold_here = _yes("delivered here")
    in_use_on = _on(
        "day from which its age counts: delivery of a new car, else 1 July of the model year"
    )
    warranty_months = _count("maker's warranty; null = not known", "months", nullable=True)
    started_on = _on("first delivery or visit here")
    last_on = _on("last delivery or visit here")
    left_on = _on("day it was traded in here for another; null = was not", nullable=True)
    until_on = _on(
        "last visit of a car whose owner came later with another; null = none did", nullable=True
    )
    ended_on = _on(
        "middle of the gap after the last visit before a silence; null = none", nullable=True
    )
    age_years = _count("completed years since in_use_on", "years")
    warranty = _one_of(WARRANTY_STATES, "by date alone; null = not known", nullable=True)


class DepartureSnapshots(dy.Schema):
    """One row a customer and yearly date on which they were active: what was known, what came."""

    customer_id = _key("customer")
    snapshot_on = dy.Date(
        primary_key=True, description="day of the snapshot", metadata={"unit": "date"}
    )
    dealership_id = _ref("dealership of the last activity")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    left = dy.Bool(
        nullable=True,
        description="nothing in the following twelve months; null = they are not over",
        metadata={"unit": "true or false"},
    )
    months_since_visit = _count("since the last delivery or visit", "months")
    overdue = _yes("that is more than twelve months ago")
    visits_two_years = _count("deliveries and visits in the last two years", "visits")
    years_with_us = _count("completed years since the first activity", "years")
    bought_here = _yes("has taken delivery of a car here")
    car_age_years = _count("age of the car last seen; null = not known", "years", nullable=True)
    after_warranty = _yes("that car is past its maker's warranty by date")
    low_score = _yes("last answer to a recommendation question was 0 to 6")
    high_score = _yes("last answer to a recommendation question was 9 or 10")
    complained = _yes("complained in the last two years")
    contacts_a_year = _count("contacts done in the last twelve months", "contacts")


class Purchases(dy.Schema):
    """One row a delivered car or a closed service order the customer paid for or received."""

    customer_id = _ref("customer")
    dealership_id = _ref("dealership")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    happened_on = _on("day of delivery, or day the service order was opened")
    kind = _one_of(PURCHASE_KINDS, "car or service; null = not known", nullable=True)
    revenue = dy.Float64(description="revenue", metadata={"unit": "currency units"})
    margin = dy.Float64(
        nullable=True,
        description="gross margin; null = not known",
        metadata={"unit": "currency units"},
    )


class Ledger(dy.Schema):
    """One row a movement of money with a customer: above zero earned, below zero spent."""

    customer_id = _ref("customer")
    dealership_id = _ref("dealership")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    happened_on = _on("day of delivery, visit, contact, settlement, or of the lead advertised for")
    part = _one_of(LEDGER_PARTS, "what the money is for")
    amount = dy.Float64(
        description="gross margin above zero, cost below zero", metadata={"unit": "currency units"}
    )

    @dy.rule()
    def amount_is_a_number(cls) -> pl.Expr:
        return cls.amount.col.is_finite()


class Scores(dy.Schema):
    """One row an answered scale question."""

    survey_id = _key("survey")
    customer_id = _ref("customer who answered; null = not recorded", nullable=True)
    employee_id = _ref("employee the survey is about; null = not recorded", nullable=True)
    employee = _text("name of that employee; null = not known", nullable=True)
    dealership_id = _ref("dealership")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    kind = _one_of(SURVEY_KINDS, "after a sale or after a service; null = not known", nullable=True)
    answered_on = _on("day of the answer")
    score = dy.Float64(description="score on the question's scale", metadata={"unit": "points"})


class LeadEvents(StageEvents):
    """Stage events with what is known of their opportunity."""

    entered_at = _at("when it was typed in; null = not known", nullable=True)
    customer_id = _ref("customer; null = not recorded", nullable=True)
    manager_id = _ref("sales manager responsible; null = not recorded", nullable=True)
    manager = _text("name of that manager; null = not known", nullable=True)
    dealership = _text("name of the dealership; null = not known", nullable=True)
    source = _one_of(SOURCES, "what brought them; null = not recorded", nullable=True)
    opened_at = _at("when the opportunity was opened; null = not recorded", nullable=True)


class ServiceVisits(dy.Schema):
    """One row a closed service order, with the car and the money."""

    service_order_id = _key("service order")
    customer_id = _ref("customer who brought the car")
    dealership_id = _ref("dealership")
    vehicle_id = _ref("car")
    advisor_id = _ref("service advisor")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    advisor = _text("name of the service advisor; null = not known", nullable=True)
    brand = _text("brand of the car; null = not known", nullable=True)
    model = _text("model of the car; null = not known", nullable=True)
    visited_on = _on("day the car was taken in")
    kind = _one_of(ORDER_KINDS, "kind of work")
    payer = _one_of(PAYERS, "who pays")
    mileage_km = _count("odometer", "km")
    revenue = dy.Int64(description="revenue", metadata={"unit": "currency units"})
    margin = dy.Int64(description="gross margin", metadata={"unit": "currency units"})
    fixed_first_time = _yes("no return for the same fault")
    next_due_on = _on("next service due by date; null = not set", nullable=True)


class Leads(Opportunities):
    """One row an opportunity, with when it was won, and the names that reports group by."""

    won_at = _at("first contract; null = none", nullable=True)
    manager = _text("name of the sales manager; null = not known", nullable=True)
    dealership = _text("name of the dealership; null = not known", nullable=True)
    brand = _text("brand of interest; null = undecided", nullable=True)
    model = _text("model of interest; null = undecided", nullable=True)
    year = dy.Int32(description="year of opening", metadata={"unit": "calendar year"})


class LoyaltyEvents(dy.Schema):
    """One row something that moves a customer on the loyalty ladder."""

    customer_id = _ref("customer; null = not recorded", nullable=True)
    dealership_id = _ref("dealership")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    happened_on = _on("day")
    kind = _one_of(LOYALTY_KINDS, "enquiry, purchase, a score of 9 or 10, or another score")


class CarEvents(dy.Schema):
    """One row a delivery of a car or its visit to the workshop."""

    vehicle_id = _ref("car")
    dealership_id = _ref("dealership")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    happened_on = _on("day")
    is_visit = _yes("a visit to the workshop, not a delivery")


class Portraits(dy.Schema):
    """One row a customer: what is known of who they are, with nothing that names them."""

    customer_id = _key("customer")
    dealership_id = _ref("dealership that looks after them")
    dealership = _text("name of the dealership; null = not known", nullable=True)
    kind = _one_of(CUSTOMER_KINDS, "person or company")
    gender = _one_of(GENDERS, "gender; null = company or not asked", nullable=True)
    age_band = _text("ten years of age; null = company or not asked", nullable=True)
    city = _text("city they live in")
    income_band = _one_of(INCOME_BANDS, "income; null = not asked", nullable=True)
    has_children = dy.Bool(
        nullable=True,
        description="has children; null = not asked",
        metadata={"unit": "true or false"},
    )
    consent = _yes("agreed to be contacted")


TABLES: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {
        "dealerships": Dealerships,
        "employees": Employees,
        "customers": Customers,
        "models": Models,
        "model_prices": ModelPrices,
        "vehicles": Vehicles,
        "campaigns": Campaigns,
        "campaign_days": CampaignDays,
        "traffic": Traffic,
        "opportunities": Opportunities,
        "stage_events": StageEvents,
        "deals": Deals,
        "service_orders": ServiceOrders,
        "credits": Credits,
        "invoices": Invoices,
        "contacts": Contacts,
        "cases": Cases,
        "loyalty_accounts": LoyaltyAccounts,
        "loyalty_transactions": LoyaltyTransactions,
        "surveys": Surveys,
        "survey_questions": SurveyQuestions,
        "survey_answers": SurveyAnswers,
    }
)
"""Open tables by name, in the order in which one may be read before the next."""

VIEWS: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {
        "spells": Spells,
        "ownership_spells": OwnershipSpells,
        "car_parc": CarParc,
        "departure_snapshots": DepartureSnapshots,
        "purchases": Purchases,
        "ledger": Ledger,
        "scores": Scores,
        "lead_events": LeadEvents,
        "service_visits": ServiceVisits,
        "leads": Leads,
        "loyalty_events": LoyaltyEvents,
        "car_events": CarEvents,
        "portraits": Portraits,
    }
)
"""Tables that `Warehouse` derives from the open ones, or that data may hold ready made."""

TABLES_AND_VIEWS: Mapping[str, type[dy.Schema]] = MappingProxyType({**TABLES, **VIEWS})
"""All that data may hold."""

FOREIGN_KEYS: tuple[tuple[str, str, str, str], ...] = (
    ("employees", "dealership_id", "dealerships", "dealership_id"),
    ("customers", "dealership_id", "dealerships", "dealership_id"),
    ("customers", "manager_id", "employees", "employee_id"),
    ("model_prices", "model_id", "models", "model_id"),
    ("vehicles", "model_id", "models", "model_id"),
    ("vehicles", "dealership_id", "dealerships", "dealership_id"),
    ("vehicles", "customer_id", "customers", "customer_id"),
    ("campaigns", "dealership_id", "dealerships", "dealership_id"),
    ("campaign_days", "campaign_id", "campaigns", "campaign_id"),
    ("campaign_days", "dealership_id", "dealerships", "dealership_id"),
    ("traffic", "campaign_id", "campaigns", "campaign_id"),
    ("traffic", "dealership_id", "dealerships", "dealership_id"),
    ("traffic", "customer_id", "customers", "customer_id"),
    ("traffic", "handled_by", "employees", "employee_id"),
    ("opportunities", "dealership_id", "dealerships", "dealership_id"),
    ("opportunities", "customer_id", "customers", "customer_id"),
    ("opportunities", "manager_id", "employees", "employee_id"),
    ("opportunities", "model_id", "models", "model_id"),
    ("stage_events", "opportunity_id", "opportunities", "opportunity_id"),
    ("stage_events", "dealership_id", "dealerships", "dealership_id"),
    ("stage_events", "employee_id", "employees", "employee_id"),
    ("deals", "opportunity_id", "opportunities", "opportunity_id"),
    ("deals", "dealership_id", "dealerships", "dealership_id"),
    ("deals", "customer_id", "customers", "customer_id"),
    ("deals", "manager_id", "employees", "employee_id"),
    ("deals", "vehicle_id", "vehicles", "vehicle_id"),
    ("deals", "model_id", "models", "model_id"),
    ("service_orders", "dealership_id", "dealerships", "dealership_id"),
    ("service_orders", "vehicle_id", "vehicles", "vehicle_id"),
    ("service_orders", "customer_id", "customers", "customer_id"),
    ("service_orders", "advisor_id", "employees", "employee_id"),
    ("credits", "dealership_id", "dealerships", "dealership_id"),
    ("credits", "customer_id", "customers", "customer_id"),
    ("credits", "opportunity_id", "opportunities", "opportunity_id"),
    ("credits", "deal_id", "deals", "deal_id"),
    ("invoices", "dealership_id", "dealerships", "dealership_id"),
    ("invoices", "customer_id", "customers", "customer_id"),
    ("invoices", "deal_id", "deals", "deal_id"),
    ("invoices", "service_order_id", "service_orders", "service_order_id"),
    ("contacts", "dealership_id", "dealerships", "dealership_id"),
    ("contacts", "customer_id", "customers", "customer_id"),
    ("contacts", "opportunity_id", "opportunities", "opportunity_id"),
    ("contacts", "employee_id", "employees", "employee_id"),
    ("cases", "dealership_id", "dealerships", "dealership_id"),
    ("cases", "customer_id", "customers", "customer_id"),
    ("cases", "employee_id", "employees", "employee_id"),
    ("cases", "service_order_id", "service_orders", "service_order_id"),
    ("cases", "deal_id", "deals", "deal_id"),
    ("loyalty_accounts", "dealership_id", "dealerships", "dealership_id"),
    ("loyalty_accounts", "customer_id", "customers", "customer_id"),
    (
        "loyalty_transactions",
        "loyalty_account_id",
        "loyalty_accounts",
        "loyalty_account_id",
    ),
    ("loyalty_transactions", "dealership_id", "dealerships", "dealership_id"),
    ("loyalty_transactions", "deal_id", "deals", "deal_id"),
    ("loyalty_transactions", "service_order_id", "service_orders", "service_order_id"),
    ("surveys", "dealership_id", "dealerships", "dealership_id"),
    ("surveys", "customer_id", "customers", "customer_id"),
    ("surveys", "employee_id", "employees", "employee_id"),
    ("surveys", "deal_id", "deals", "deal_id"),
    ("surveys", "service_order_id", "service_orders", "service_order_id"),
    ("survey_answers", "survey_id", "surveys", "survey_id"),
    ("survey_answers", "question_id", "survey_questions", "question_id"),
)
"""Foreign keys: (table, column, parent table, parent column). A null key points nowhere and is
allowed only where its column is nullable."""


def rule_columns(table: type[dy.Schema], rule: str) -> list[str]:
    """Return the columns that a rule of a table looks at.

    Parameters
    ----------
    table : type of dataframely.Schema
        The table.
    rule : str
        The rule as a failed check names it: ``"column|kind"``, ``"primary_key"`` or a method.

    Examples
    --------
    >>> rule_columns(Deals, "discount_within_list_price")
    ['discount', 'list_price']
    """
    column = rule.split("|", maxsplit=1)[0]
    if column in table.columns():
        return [column]
    rules = table._validation_rules(with_cast=False)  # noqa: SLF001 - no public way to a rule
    found = rules[rule].expr.meta.root_names()
    return [name for name in dict.fromkeys(found) if name in table.columns()]
