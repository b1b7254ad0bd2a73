"""The truth tables: what each column that made the data means.

`truth_interval` and `truth_fate` count days alike: a day belongs to an interval when
start_on <= day < stop_on, and a relationship that ends is gone from `ended_on` on. The chance of
defecting on a day is 1 - exp(-hazard / 365.25).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import dataframely as dy

from crm_analysis.schema import PURCHASE_KINDS
from synthetic.funnel import STEPS
from synthetic.relation import CAUSES

CHANGES = ("changed", "added", "removed")
"""What a defect did: to a cell, or to a whole row."""


class TruthCustomer(dy.Schema):
    """What cannot be seen of a customer."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    satisfaction = dy.Float64(description="satisfaction intercept a_i, mean 0")
    value = dy.Float64(description="value v_i, log scale, mean 0")
    price_sensitivity = dy.Float64(
        min=0.0, description="weight of prices in contracts and in buying again, mean 1"
    )
    solvency = dy.Float64(description="solvency, standard normal: credit and paying of bills")
    km_a_year = dy.Float64(description="distance driven, km a year")
    duplicate_of = dy.Int64(
        nullable=True,
        description="customer of whom this is a second record; null = a record of its own",
    )


class TruthEmployee(dy.Schema):
    """What cannot be seen of an employee."""

    employee_id = dy.Int64(primary_key=True, description="employee")
    skill = dy.Float64(description="skill k_m, mean 0")
    discipline = dy.Float64(description="discipline in keeping the plan, logit, mean 0")
    entry_lag = dy.Float64(
        min=0.0, description="multiple of the usual time until an event is typed in, median 1"
    )


class TruthDealership(dy.Schema):
    """Level of satisfaction that a dealership gives, by month."""

    dealership_id = dy.Int64(primary_key=True, description="dealership")
    month_on = dy.Date(primary_key=True, description="first day of the month")
    satisfaction = dy.Float64(description="contribution psi_d(t) to satisfaction")


class TruthArrival(dy.Schema):
    """Whether each first lead would have come without advertising."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    base_share = dy.Float64(
        min=0.0, max=1.0, description="chance of coming without the campaign: 1 / (1 + lift)"
    )
    uniform = dy.Float64(description="comes without the campaign when below that chance")
    incremental = dy.Bool(description="advertising brought them")
    campaign_id = dy.Int64(
        nullable=True, description="campaign with the dealership's attention; null = none"
    )


class TruthCampaign(dy.Schema):
    """What each campaign really brings, in expected leads."""

    campaign_id = dy.Int64(primary_key=True, description="campaign at one dealership")
    leads_without = dy.Float64(
        description="leads expected without it while it is remembered; 0 = held out"
    )
    leads_brought = dy.Float64(description="leads it is expected to bring, also after its end")
    mean_lift = dy.Float64(description="leads brought a lead that comes without it")
    effect = dy.Float64(
        description="leads it brings here while it runs, at usual spend, were it run"
    )
    effect_average = dy.Float64(description="mean of that over all dealerships of its wave (ATE)")
    effect_treated = dy.Float64(
        description="mean of that over the dealerships of its wave not held out (ATT)"
    )


class TruthLeadIntensity(dy.Schema):
    """Expected first leads a day: base * suppression * (1 + lift)."""

    dealership_id = dy.Int64(primary_key=True, description="dealership")
    day_on = dy.Date(primary_key=True, description="day")
    base = dy.Float64(description="leads a day without advertising and word of mouth")
    lift = dy.Float64(description="lift by advertising, as a part of the base")
    suppression = dy.Float64(description="factor by which bad word of mouth thins leads")
    load = dy.Float64(
        description="expected leads of the last seven days against their mean: slows the response"
    )


class TruthInvoice(dy.Schema):
    """Why each bill is paid in time, late or never."""

    invoice_id = dy.Int64(primary_key=True, description="invoice")
    late_probability = dy.Float64(min=0.0, max=1.0, description="chance of late payment")
    never_probability = dy.Float64(min=0.0, max=1.0, description="chance of no payment")
    uniform = dy.Float64(
        description="never paid when below the chance of that, late when below the sum of both"
    )


class TruthVisit(dy.Schema):
    """What each visit left, and the complaint that was or was not made."""

    service_order_id = dy.Int64(primary_key=True, description="service order")
    satisfaction = dy.Float64(description="satisfaction the visit left")
    dissatisfied = dy.Bool(description="low enough to complain")
    complained = dy.Bool(description="did complain")
    recovery = dy.Float64(
        description="what the handling of the complaint added to satisfaction; 0 = no complaint"
    )


class TruthSale(dy.Schema):
    """What each delivery left, and the complaint that was or was not made."""

    deal_id = dy.Int64(primary_key=True, description="deal delivered")
    satisfaction = dy.Float64(description="satisfaction the purchase left")
    dissatisfied = dy.Bool(description="low enough to complain")
    complained = dy.Bool(description="did complain")
    recovery = dy.Float64(
        description="what the handling of the complaint added to satisfaction; 0 = no complaint"
    )


class TruthCase(dy.Schema):
    """Why each case was resolved in time or not."""

    case_id = dy.Int64(primary_key=True, description="case")
    in_time_probability = dy.Float64(min=0.0, max=1.0, description="chance of being in time")
    uniform = dy.Float64(description="in time when below that chance")


class TruthLoyalty(dy.Schema):
    """Why each customer joined the loyalty programme or not; joining itself changes nothing."""

    customer_id = dy.Int64(primary_key=True, description="customer with a relationship")
    join_probability = dy.Float64(min=0.0, max=1.0, description="chance of joining")
    uniform = dy.Float64(description="joined when below that chance")


class TruthWordOfMouth(dy.Schema):
    """Whom each customer tells, after how the relationship began."""

    customer_id = dy.Int64(primary_key=True, description="customer with a relationship")
    satisfaction = dy.Float64(description="satisfaction when the relationship began")
    speaks_well = dy.Bool(description="satisfied enough to speak well")
    told = dy.Int64(description="people told")


class TruthReferral(dy.Schema):
    """Who sent each lead that came by referral."""

    customer_id = dy.Int64(primary_key=True, description="customer who came by referral")
    referrer_id = dy.Int64(
        nullable=True, description="earlier customer who sent them; null = nobody we know"
    )


class TruthLedger(dy.Schema):
    """What each customer has brought in and cost up to as_of, in currency units."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    front = dy.Float64(description="sale price less cost of delivered cars")
    finance = dy.Float64(description="finance and insurance income")
    accessories = dy.Float64(description="margin of accessories")
    trade_in = dy.Float64(description="margin of cars taken in")
    service = dy.Float64(description="labour and parts less discount and costs")
    contacts = dy.Float64(description="cost of calls and messages, below zero")
    compensation = dy.Float64(description="paid for complaints, below zero")
    advertising = dy.Float64(description="mean advertising a lead, below zero")
    margin = dy.Float64(description="the sum")


class TruthValue(dy.Schema):
    """Expected discounted margin of customers drawn at random, from arrival to the truth's end."""

    customer_id = dy.Int64(
        primary_key=True, description="customer of the sample (values.sample_share of all)"
    )
    value = dy.Float64(
        description="expected margin of cars and service, discounted to the day of arrival, in "
        "currency units: a mean over lives (Monte Carlo)"
    )
    std_error = dy.Float64(min=0.0, description="standard error of that mean")
    lives = dy.Int64(min=2, description="lives lived again, all but the traits drawn anew")


class TruthContact(dy.Schema):
    """Why each planned contact was done on time or not."""

    contact_id = dy.Int64(primary_key=True, description="contact")
    on_time_probability = dy.Float64(min=0.0, max=1.0, description="chance of being on time")
    uniform = dy.Float64(description="on time when below that chance; never in the upper tail")


class TruthInterval(dy.Schema):
    """Days over which a customer's hazard of defection is constant."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    start_on = dy.Date(primary_key=True, description="first day of the interval")
    stop_on = dy.Date(description="first day after it")
    hazard = dy.Float64(
        min=0.0, description="hazard of silent defection, a year, mean over the interval"
    )
    season = dy.Float64(
        min=0.0,
        description="mean factor of its months (relation.month): day by day, the hazard is "
        "hazard / season * factor of the month",
    )
    in_warranty = dy.Bool(description="the car is in warranty")
    satisfaction = dy.Float64(description="satisfaction over the interval")
    contacts = dy.Int64(
        nullable=True,
        description="contacts on time in the last year of the relationship; null = first year",
    )


class TruthFate(dy.Schema):
    """How a relationship truly ends, also after the last day of the data."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    started_on = dy.Date(description="delivery or first visit")
    started_kind = dy.Enum(PURCHASE_KINDS, description="what it began with")
    ended_on = dy.Date(
        nullable=True, description="first day gone; null = still here when we stop following"
    )
    cause = dy.Enum(CAUSES, description="why it ended")
    followed_to = dy.Date(description="last day the truth is followed to")


class TruthOwnership(dy.Schema):
    """How long each car is kept (a Weibull clock), and the chance that the next is bought here."""

    customer_id = dy.Int64(primary_key=True, description="customer")
    vehicle_id = dy.Int64(primary_key=True, description="car")
    started_on = dy.Date(description="first day of ownership that we see")
    elapsed_years = dy.Float64(description="years owned before that day")
    scale_years = dy.Float64(description="Weibull scale, years")
    replaced_on = dy.Date(
        description="day the clock rings; reached only if the customer has not left"
    )
    return_probability = dy.Float64(
        nullable=True, description="chance of buying the next car here; null = clock not reached"
    )


class TruthStage(dy.Schema):
    """Each step of each lead: the chance of passing it given the one before, and its uniform."""

    opportunity_id = dy.Int64(primary_key=True, description="opportunity")
    stage = dy.Enum(STEPS, primary_key=True, description="step to be passed")
    probability = dy.Float64(
        min=0.0,
        max=1.0,
        description="chance of passing it, given the step before; of offer and contract, also "
        "given whether a test drive was taken",
    )
    uniform = dy.Float64(description="passed when below the probability")
    at_risk = dy.Bool(description="the step before was passed (offer: the visit)")
    passed = dy.Bool(description="this step was passed, perhaps after the last day of the data")
    happened_at = dy.Datetime(nullable=True, description="when it was passed; null = it was not")


class TruthLead(dy.Schema):
    """What a test drive does to each lead, and the intent that chooses it."""

    opportunity_id = dy.Int64(primary_key=True, description="opportunity")
    intent = dy.Float64(description="how much they mean to buy, standard normal")
    visited = dy.Bool(description="came to the showroom, so that a test drive could be taken")
    contract_probability = dy.Float64(
        min=0.0, max=1.0, description="chance of a contract, seen from the opening"
    )
    with_drive_probability = dy.Float64(
        min=0.0, max=1.0, description="chance of a contract after a visit with a test drive"
    )
    without_drive_probability = dy.Float64(
        min=0.0, max=1.0, description="chance of a contract after a visit without one"
    )
    y1 = dy.Bool(description="a visit with a test drive ends in a contract")
    y0 = dy.Bool(description="a visit without one ends in a contract")


class TruthSurvey(dy.Schema):
    """Satisfaction behind each survey, and the chance that it is answered."""

    survey_id = dy.Int64(primary_key=True, description="survey")
    satisfaction = dy.Float64(description="satisfaction when it was sent")
    answer_probability = dy.Float64(min=0.0, max=1.0, description="chance that it is answered")


class TruthAnswer(dy.Schema):
    """What each survey would say on average, answered or not."""

    survey_id = dy.Int64(primary_key=True, description="survey")
    question_id = dy.Int64(primary_key=True, description="question")
    expected_score = dy.Float64(description="expected score")
    low_probability = dy.Float64(description="chance of a score up to the question's `low_to`")
    top_probability = dy.Float64(description="chance of a score from the question's `top_from` on")


class TruthQuestion(dy.Schema):
    """How satisfaction s becomes a score: clip(round(centre + loading * s + noise * N(0, 1)))."""

    question_id = dy.Int64(primary_key=True, description="question")
    code = dy.String(description="short name")
    centre = dy.Float64(description="score before rounding at satisfaction zero")
    loading = dy.Float64(description="points a unit of satisfaction")
    noise = dy.Float64(description="standard deviation of the noise, points")
    low_to = dy.Int64(description="greatest score that counts as low (detractor)")
    top_from = dy.Int64(description="least score that counts as top (promoter, satisfied)")


class TruthDefect(dy.Schema):
    """Every cell, row added and row removed by the last pass, with what was true.

    Values are text: whole numbers in decimals, other numbers so that they read back the same,
    dates as YYYY-MM-DD, moments as YYYY-MM-DDTHH:MM:SS.ffffff, truth values as true or false,
    categories by name; null is null. A row is a JSON object of such texts, one a column.
    """

    table = dy.String(description="table")
    key = dy.String(description="primary key of the row; parts of a key are joined with '/'")
    column = dy.String(nullable=True, description="column; null = the whole row")
    kind = dy.String(description="kind of defect")
    change = dy.Enum(CHANGES, description="a cell changed, a row added, a row removed")
    true_value = dy.String(
        nullable=True, description="what was true; null = nothing was there, or a row added"
    )
    injected_value = dy.String(
        nullable=True, description="what stands there now; null = nothing, or a row removed"
    )


class TruthParams(dy.Schema):
    """Every setting of the world."""

    name = dy.String(primary_key=True, description="setting")
    value = dy.String(description="its value")
    meaning = dy.String(description="what it means")
    unit = dy.String(description="its unit")
    source = dy.String(description="where it comes from")
    confidence = dy.String(description="published, derived or assumed")


TRUTH_TABLES: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {
        "truth_customer": TruthCustomer,
        "truth_employee": TruthEmployee,
        "truth_dealership": TruthDealership,
        "truth_arrival": TruthArrival,
        "truth_campaign": TruthCampaign,
        "truth_lead_intensity": TruthLeadIntensity,
        "truth_invoice": TruthInvoice,
        "truth_visit": TruthVisit,
        "truth_sale": TruthSale,
        "truth_case": TruthCase,
        "truth_loyalty": TruthLoyalty,
        "truth_word_of_mouth": TruthWordOfMouth,
        "truth_referral": TruthReferral,
        "truth_ledger": TruthLedger,
        "truth_value": TruthValue,
        "truth_contact": TruthContact,
        "truth_interval": TruthInterval,
        "truth_fate": TruthFate,
        "truth_ownership": TruthOwnership,
        "truth_stage": TruthStage,
        "truth_lead": TruthLead,
        "truth_survey": TruthSurvey,
        "truth_answer": TruthAnswer,
        "truth_question": TruthQuestion,
        "truth_defect": TruthDefect,
        "truth_params": TruthParams,
    }
)
"""Truth tables by name."""
