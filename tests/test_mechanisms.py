"""The mechanisms of the synthetic network: each leaves in the data what its truth says."""

from __future__ import annotations

import math
from datetime import date
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crm_analysis.errors import InputError
from crm_analysis.schema import CONTACT_PURPOSES, TABLES
from synthetic import Network, make_network
from synthetic.config import find_preset
from synthetic.contacts import warmth
from synthetic.values import customer_values

Z = 4.0
"""Standard errors that a correct count stays within, but for one seed in fifteen thousand."""

SEEDS = (1, 2, 3, 4)
AS_OF = date(2025, 12, 31)


@cache
def _world(seed: int = 1, **changes: object) -> Network:
    return make_network(preset="tiny", seed=seed, **changes)


@cache
def _table(name: str, seed: int = 1, **changes: object) -> pl.DataFrame:
    network = _world(seed, **changes)
    source = network.tables if name in TABLES else network.truth
    return source[name].collect()


@cache
def _several(name: str) -> pl.DataFrame:
    """Return a table pooled over seeds, its keys made distinct by the column `seed`."""
    return pl.concat([_table(name, seed).with_columns(seed=pl.lit(seed)) for seed in SEEDS])


def _within(found: float, chances: np.ndarray) -> bool:
    """Say whether a count agrees with the sum of its probabilities."""
    spread = math.sqrt(float((chances * (1 - chances)).sum()) + 1e-9)
    return abs(found - float(chances.sum())) <= Z * spread


def _within_poisson(found: float, expected: float) -> bool:
    """Say whether a count agrees with its integrated intensity."""
    return abs(found - expected) <= Z * math.sqrt(expected)


# --- planned contacts ----------------------------------------------------------------------------


def test_contacts_are_done_on_time_as_often_as_the_truth_says() -> None:
    both = _several("contacts").join(_several("truth_contact"), on=["seed", "contact_id"])
    assert both.height == _several("contacts").height
    both = both.filter(pl.col("due_at").dt.date() < date(2025, 12, 1))
    on_time = (both["done_at"] <= both["due_at"]).fill_null(value=False)
    chances = both["on_time_probability"].to_numpy()
    assert _within(float(on_time.sum()), chances)
    assert on_time.equals(both["uniform"] < both["on_time_probability"], check_names=False)


def test_a_disciplined_manager_keeps_the_plan_better() -> None:
    both = _several("contacts").join(
        _several("truth_employee").select("seed", "employee_id", "discipline"),
        on=["seed", "employee_id"],
    )
    both = both.with_columns(on_time=(pl.col("done_at") <= pl.col("due_at")).fill_null(value=False))
    mean = both.group_by(pl.col("discipline") > 0).agg(pl.col("on_time").mean())
    rate = dict(mean.iter_rows())
    assert rate[True] > rate[False] + 0.1


@pytest.mark.parametrize("purpose", CONTACT_PURPOSES)
def test_every_purpose_is_planned_done_late_and_forgotten(purpose: str) -> None:
    found = _several("contacts").filter(
        (pl.col("purpose") == purpose) & (pl.col("due_at").dt.date() < date(2025, 11, 1))
    )
    late = (found["done_at"] > found["due_at"]).fill_null(value=False)
    assert found["done_at"].null_count() > 0
    assert late.sum() > 0
    assert found.height > 2 * late.sum()


def test_leads_are_called_on_the_days_of_the_rule_and_only_while_open() -> None:
    calls = _table("contacts").filter(pl.col("purpose") == "lead")
    leads = _table("opportunities").select("opportunity_id", "opened_at", "closed_at")
    both = calls.join(leads, on="opportunity_id")
    assert both.height == calls.height
    days = (both["due_at"].dt.date() - both["opened_at"].dt.date()).dt.total_days()
    assert set(days) == set(find_preset("tiny").contacts.lead_days)
    assert both.filter(pl.col("planned_at") >= pl.col("closed_at")).is_empty()


def test_nobody_is_cared_for_without_consent_or_before_they_are_a_customer() -> None:
    care = _table("contacts").filter(
        pl.col("purpose").cast(pl.String).is_in(["care", "yearly", "birthday", "prospect"])
    )
    both = care.join(_table("customers"), on="customer_id")
    assert both["consent"].all()
    assert both.filter(pl.col("planned_at") < pl.col("created_at")).is_empty()


def test_hazards_hold_the_contacts_on_time_of_the_year_before() -> None:
    """Count them anew from the open table, a year of the relationship at a time."""
    care = _table("contacts").filter(pl.col("purpose").cast(pl.String).is_in(["care", "yearly"]))
    year = pl.col("contact_id") % 100_000 // 32
    done = (pl.col("done_at") <= pl.col("due_at")).fill_null(value=False)
    counted = care.group_by("customer_id", year=year).agg(done.sum().cast(pl.Int64).alias("found"))
    spans = _table("truth_interval").join(
        _table("truth_fate").select("customer_id", "started_on"), on="customer_id"
    )
    days = (pl.col("start_on") - pl.col("started_on")).dt.total_days()
    spans = spans.with_columns(year=((days + 0.5) / 365.25).floor().cast(pl.Int64) - 1)
    seen = spans.filter(pl.col("contacts").is_not_null(), pl.col("start_on") <= AS_OF)
    both = seen.join(counted, on=["customer_id", "year"], how="left")
    assert both.height > 500
    assert (both["contacts"] == both["found"].fill_null(0)).all()
    assert (spans.filter(pl.col("year") < 0)["contacts"].is_null()).all()


def test_contacts_lower_the_hazard_up_to_the_best_number_and_raise_it_beyond() -> None:
    number = np.arange(30)
    effect = warmth(number, 6.0)
    assert effect[0] == 0
    assert effect.argmax() == 6
    assert effect.max() == pytest.approx(1)
    assert effect[29] < effect[10] < effect[6]
    spans = _several("truth_interval").filter(pl.col("contacts").is_not_null())
    rules = find_preset("tiny")
    base = rules.relation.hazard * np.exp(
        rules.relation.satisfaction_effect * spans["satisfaction"].to_numpy()
    )
    base *= np.where(spans["in_warranty"].to_numpy(), 1.0, rules.relation.after_warranty)
    warm = warmth(spans["contacts"].to_numpy(), rules.contacts.best_number)
    factor = np.exp(rules.contacts.hazard_effect * (warm - rules.contacts.usual_warmth))
    season = spans["season"].to_numpy()
    assert spans["hazard"].to_numpy() == pytest.approx(base * factor * season, abs=1e-8)


def test_everybody_types_at_their_own_speed() -> None:
    events = _several("stage_events").join(
        _several("truth_employee").select("seed", "employee_id", "entry_lag"),
        on=["seed", "employee_id"],
    )
    lag = (pl.col("entered_at") - pl.col("happened_at")).dt.total_minutes()
    slow = events.group_by(pl.col("entry_lag") > 1).agg(lag.median())
    median = dict(slow.iter_rows())
    assert median[True] > 1.3 * median[False]


def test_a_disciplined_manager_notes_what_the_customer_needs() -> None:
    leads = _several("opportunities").join(
        _several("truth_employee").select("seed", "discipline", manager_id="employee_id"),
        on=["seed", "manager_id"],
    )
    mean = leads.group_by(pl.col("discipline") > 0).agg(pl.col("purpose").is_not_null().mean())
    rate = dict(mean.iter_rows())
    assert rate[True] > rate[False] + 0.03


def test_more_contacts_on_the_list_leave_everything_drawn_before_as_it_was() -> None:
    """The plan has its own randomness: who comes first and what they buy does not move."""
    rules = find_preset("tiny").contacts
    other = _table("customers", 1, contacts=type(rules)(customers_a_year=6))
    assert_frame_equal(other, _table("customers"))


# --- advertising ---------------------------------------------------------------------------------


def test_leads_arrive_with_the_intensity_the_truth_says() -> None:
    """By dealership, and on days of much advertising against days of none."""
    intensity = _several("truth_lead_intensity").with_columns(
        expected=pl.col("base") * pl.col("suppression") * (1 + pl.col("lift")),
        much=pl.col("lift") > 0.05,
    )
    first = _several("opportunities").filter(pl.col("opportunity_id") % 10 == 0)
    leads = first.with_columns(day_on=pl.col("opened_at").dt.date())
    both = leads.join(intensity, on=["seed", "dealership_id", "day_on"], how="left")
    assert both["expected"].null_count() == 0
    for by in ("dealership_id", "much"):
        expected = dict(
            intensity.group_by("seed", by)
            .agg(pl.col("expected").sum())
            .select(pl.concat_str("seed", by, separator="/"), "expected")
            .iter_rows()
        )
        found = dict(
            both.group_by("seed", by)
            .len()
            .select(pl.concat_str("seed", by, separator="/"), "len")
            .iter_rows()
        )
        for stratum, mean in expected.items():
            assert _within_poisson(found.get(stratum, 0), mean), (by, stratum)


def test_leads_that_advertising_brought_are_named_and_as_many_as_its_intensity() -> None:
    arrivals = _several("truth_arrival")
    brought = arrivals.filter(pl.col("incremental"))
    assert brought.height > 50
    chances = 1 - arrivals["base_share"].to_numpy()
    assert _within(brought.height, chances)
    assert (arrivals["incremental"] == (arrivals["uniform"] >= arrivals["base_share"])).all()
    expected = float(_several("truth_campaign")["leads_brought"].sum())
    assert _within_poisson(brought.height, expected)
    assert brought["campaign_id"].null_count() == 0


def test_a_dealership_held_out_spends_nothing_and_has_no_lift() -> None:
    campaigns, days = _table("campaigns"), _table("campaign_days")
    out = campaigns.filter(pl.col("held_out"))
    assert out.height > 0
    assert days.join(out, on="campaign_id", how="semi").is_empty()
    truth = _table("truth_campaign").join(campaigns, on="campaign_id")
    assert truth.filter("held_out")["leads_brought"].sum() == 0
    assert (truth["effect"] > 0).all()
    ran = days.join(campaigns, on="campaign_id")
    assert ran.filter(
        (pl.col("day_on") < pl.col("starts_on")) | (pl.col("day_on") > pl.col("ends_on"))
    ).is_empty()


def test_the_average_effect_is_the_mean_over_the_wave() -> None:
    truth = _table("truth_campaign").join(_table("campaigns"), on="campaign_id")
    whole = truth.filter(pl.len().over(pl.col("campaign_id") // 1000) == 3)
    wave = whole.group_by(pl.col("campaign_id") // 1000).agg(
        pl.col("effect").mean(), pl.col("effect_average").first(),
        treated=pl.col("effect").filter(~pl.col("held_out")).mean(),
        effect_treated=pl.col("effect_treated").first(),
    )  # fmt: skip
    assert wave["effect"].to_numpy() == pytest.approx(wave["effect_average"].to_numpy())
    known = wave.filter(pl.col("treated").is_not_null())
    assert known["treated"].to_numpy() == pytest.approx(known["effect_treated"].to_numpy())


def test_campaigns_are_credited_with_too_little_and_too_much() -> None:
    credited = _several("traffic").filter(pl.col("campaign_id").is_not_null())
    truth = _several("truth_arrival").select("seed", "customer_id", "incremental")
    both = credited.join(truth, on=["seed", "customer_id"])
    rightly = both["incremental"].sum()
    assert 0 < rightly < both.height
    assert rightly < _several("truth_arrival")["incremental"].sum()


def test_advertising_costs_what_a_sale_is_said_to_cost() -> None:
    spent = float(_several("campaign_days")["spend"].sum())
    sold = _several("deals").height
    assert spent / sold == pytest.approx(600, rel=0.25)


# --- prices, credit, bills -----------------------------------------------------------------------


def test_new_cars_are_priced_by_the_price_list_of_their_day() -> None:
    prices = _table("model_prices").sort("starts_on")
    cars = _table("vehicles").select("vehicle_id", "condition", "options_value")
    deals = _table("deals").join(cars, on="vehicle_id").filter(pl.col("condition") == "new")
    both = deals.sort("contract_on").join_asof(
        prices.rename({"list_price": "listed"}),
        left_on="contract_on", right_on="starts_on", by="model_id", check_sortedness=False,
    )  # fmt: skip
    assert both["listed"].null_count() == 0
    ratio = (both["list_price"] - both["options_value"]) / both["listed"]
    spread = np.log(ratio.to_numpy())
    assert abs(spread.mean()) < Z * 0.03 / math.sqrt(len(spread))
    assert spread.std() == pytest.approx(0.03, rel=0.3)
    last = prices.group_by("model_id").agg(pl.col("list_price").last())
    assert_frame_equal(
        last.sort("model_id"), _table("models").select("model_id", "list_price"), check_dtypes=False
    )


def test_every_deal_on_credit_has_one_bank_that_agreed() -> None:
    credits_ = _several("credits")
    deals = _several("deals").filter(pl.col("pay") == "credit")
    agreed = credits_.filter("approved")
    assert sorted(agreed.select("seed", "deal_id").rows()) == sorted(
        deals.select("seed", "deal_id").rows()
    )
    refused = credits_.filter(~pl.col("approved"), pl.col("deal_id").is_null())
    lost = _several("opportunities").filter(pl.col("lost_reason") == "credit_refused")
    without = lost.join(refused, on=["seed", "opportunity_id"], how="anti")
    assert refused.height > 0
    assert without.is_empty()


def test_banks_refuse_the_insolvent() -> None:
    both = _several("credits").join(_several("truth_customer"), on=["seed", "customer_id"])
    mean = dict(both.group_by("approved").agg(pl.col("solvency").mean()).iter_rows())
    assert mean[True] > mean[False] + 0.3


def test_bills_are_paid_late_and_never_as_often_as_the_truth_says() -> None:
    bills = _several("invoices").join(_several("truth_invoice"), on=["seed", "invoice_id"])
    assert bills.height == _several("invoices").height
    old = bills.filter(pl.col("due_on") < date(2025, 3, 1))
    never, late = (old[f"{name}_probability"].to_numpy() for name in ("never", "late"))
    uniform = old["uniform"].to_numpy()
    assert _within(float((uniform < never).sum()), never)
    assert _within(float(((uniform >= never) & (uniform < never + late)).sum()), late)
    assert old.filter(pl.col("paid_on").is_not_null(), uniform < never).is_empty()
    seen_late = old.filter(pl.col("paid_on") > pl.col("due_on"))
    assert (
        seen_late["uniform"] < seen_late["late_probability"] + seen_late["never_probability"]
    ).all()
    assert seen_late.height > 100
    paid = old.filter(pl.col("uniform") >= pl.col("late_probability") + pl.col("never_probability"))
    assert (paid["paid_on"] <= paid["due_on"]).all()


def test_bills_add_up_to_what_was_sold() -> None:
    orders = _table("service_orders").filter(
        (pl.col("payer") == "customer") & pl.col("closed_at").is_not_null()
    )
    billed = orders.join(_table("invoices"), on="service_order_id", how="left")
    total = pl.col("labour") + pl.col("parts") - pl.col("discount")
    assert billed.filter(total > 0, pl.col("amount") != total).is_empty()
    cars = _table("deals").filter(pl.col("delivery_on").is_not_null(), pl.col("pay") == "credit")
    agreed = _table("credits").filter("approved").select("deal_id", lent="amount")
    both = cars.join(agreed, on="deal_id").join(
        _table("invoices").select("deal_id", "amount"), on="deal_id", how="left"
    )
    own = pl.col("sale_price") + pl.col("accessories") - pl.col("trade_in") - pl.col("lent")
    assert both.filter(pl.col("amount").fill_null(0) != own.clip(lower_bound=0)).is_empty()


def test_an_english_world_has_english_banks_and_a_russian_one_russian() -> None:
    assert _table("credits")["bank"].str.contains("Bank").any()
    assert _table("credits", 1, locale="ru_RU")["bank"].str.contains("банк").any()


# --- cases and loyalty ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"), [("truth_visit", "service_order_id"), ("truth_sale", "deal_id")]
)
def test_seven_in_ten_of_the_dissatisfied_never_complain(name: str, key: str) -> None:
    """After a visit to the workshop, and after a purchase."""
    felt = _several(name)
    unhappy = felt.filter("dissatisfied")
    share = find_preset("tiny").cases.complains
    assert unhappy.height > 200
    assert _within(float(unhappy["complained"].sum()), np.full(unhappy.height, share))
    assert felt.filter(~pl.col("dissatisfied"), pl.col("complained")).is_empty()
    cases = _several("cases").filter(pl.col("kind") == "complaint", pl.col(key).is_not_null())
    both = cases.join(felt, on=["seed", key])
    assert both.height == cases.height > 0
    assert both["complained"].all()


def test_every_complaint_is_about_a_visit_or_a_purchase_and_goes_to_the_right_person() -> None:
    cases = _several("cases").filter(pl.col("kind") == "complaint")
    assert (cases["deal_id"].is_null() != cases["service_order_id"].is_null()).all()
    roles = _several("employees").select("seed", "employee_id", "role")
    both = cases.join(roles, on=["seed", "employee_id"])
    sale = both["deal_id"].is_not_null()
    assert set(both.filter(sale)["role"]) == {"manager"}
    assert set(both.filter(~sale)["role"]) == {"service_advisor"}
    deals = _several("deals").select("seed", "deal_id", "delivery_on")
    delivered = both.join(deals, on=["seed", "deal_id"])
    assert (delivered["opened_at"].dt.date() > delivered["delivery_on"]).all()


def test_the_handling_of_a_complaint_of_a_sale_sways_satisfaction() -> None:
    """The first stretch after a delivery starts from what it left plus the recovery."""
    sales = _several("truth_sale").with_columns(customer_id=pl.col("deal_id") // 10)
    owned = _several("truth_ownership").select("seed", "started_on", deal_id="vehicle_id")
    spans = _several("truth_interval").select(
        "seed", "customer_id", "satisfaction", started_on="start_on"
    )
    both = sales.join(owned, on=["seed", "deal_id"]).join(
        spans, on=["seed", "customer_id", "started_on"], suffix="_after"
    )
    first = both.unique(["seed", "deal_id"], keep="first", maintain_order=True)
    found = (first["satisfaction_after"] - first["satisfaction"]).to_numpy()
    assert first.filter("complained").height > 50
    assert found == pytest.approx(first["recovery"].to_numpy(), abs=1e-9)


def test_cases_are_resolved_in_time_as_often_as_the_truth_says() -> None:
    both = _several("cases").join(_several("truth_case"), on=["seed", "case_id"])
    assert both.height == _several("cases").height
    old = both.filter(pl.col("opened_at").dt.date() < date(2025, 10, 1))
    in_time = (old["resolved_at"] <= old["due_at"]).fill_null(value=False)
    assert _within(float(in_time.sum()), old["in_time_probability"].to_numpy())
    assert in_time.equals(old["uniform"] < old["in_time_probability"], check_names=False)


def test_a_complaint_resolved_in_time_wins_satisfaction_back() -> None:
    """The interval after the visit starts from what the visit left plus the recovery."""
    orders = _table("service_orders").select(
        "service_order_id", "customer_id", start_on=pl.col("opened_at").dt.date()
    )
    visits = _table("truth_visit").join(orders, on="service_order_id")
    spans = _table("truth_interval").select("customer_id", "start_on", after="satisfaction")
    both = visits.join(spans, on=["customer_id", "start_on"])
    last = both.sort("service_order_id").unique(["customer_id", "start_on"], keep="last")
    assert last.filter("complained").height > 50
    found = (last["after"] - last["satisfaction"]).to_numpy()
    assert found == pytest.approx(last["recovery"].to_numpy(), abs=1e-9)
    rules = find_preset("tiny").cases
    assert set(last["recovery"].unique()) == {0.0, rules.recovered, rules.let_down}


def test_loyalty_is_joined_by_the_satisfied_and_its_points_add_up() -> None:
    truth = _several("truth_loyalty").join(_several("truth_customer"), on=["seed", "customer_id"])
    joined = truth["uniform"] < truth["join_probability"]
    assert _within(float(joined.sum()), truth["join_probability"].to_numpy())
    mean = dict(
        truth.group_by(joined.alias("joined")).agg(pl.col("satisfaction").mean()).iter_rows()
    )
    assert mean[True] > mean[False] + 0.2
    moves = _table("loyalty_transactions").sort(
        "loyalty_account_id", "happened_on", "loyalty_transaction_id"
    )
    balance = moves.with_columns(balance=pl.col("points").cum_sum().over("loyalty_account_id"))
    assert balance.filter(pl.col("balance") < 0).is_empty()
    assert set(_several("loyalty_transactions")["kind"].unique()) >= {"earn", "redeem"}
    used = moves.filter(pl.col("kind") == "redeem").join(
        _table("service_orders"), on="service_order_id"
    )
    assert (used["points"] == -used["discount"]).all()
    home = _table("loyalty_accounts").select("loyalty_account_id", "joined_on")
    both = moves.join(home, on="loyalty_account_id")
    assert both.height == moves.height
    assert both.filter(pl.col("happened_on") < pl.col("joined_on")).is_empty()


# --- word of mouth and capacity ------------------------------------------------------------------


def test_the_satisfied_tell_five_and_the_dissatisfied_more_than_ten() -> None:
    told = _several("truth_word_of_mouth")
    good, bad = told.filter("speaks_well")["told"], told.filter(~pl.col("speaks_well"))["told"]
    assert float(good.sum()) / len(good) == pytest.approx(5, abs=Z * math.sqrt(5 / len(good)))
    assert float(bad.sum()) / len(bad) == pytest.approx(11, abs=Z * math.sqrt(1 / len(bad)))
    start = _several("truth_fate").select("seed", "customer_id")
    assert start.join(told, on=["seed", "customer_id"], how="anti").is_empty()


def test_a_referred_lead_was_sent_by_an_earlier_customer_who_speaks_well() -> None:
    sent = _several("truth_referral").filter(pl.col("referrer_id").is_not_null())
    assert sent.height > 100
    assert sent.filter(pl.col("referrer_id") >= pl.col("customer_id")).is_empty()
    home = _several("customers").select("seed", "customer_id", "dealership_id", "created_at")
    both = sent.join(home, on=["seed", "customer_id"]).join(
        home.rename({"customer_id": "referrer_id"}), on=["seed", "referrer_id"], suffix="_sender"
    )
    assert both.filter(pl.col("dealership_id") != pl.col("dealership_id_sender")).is_empty()
    fates = _several("truth_fate").select("seed", "started_on", referrer_id="customer_id")
    both = both.join(fates, on=["seed", "referrer_id"])
    assert both.height == sent.height
    assert both.filter(pl.col("started_on") > pl.col("created_at").dt.date()).is_empty()
    speak = _several("truth_word_of_mouth").rename({"customer_id": "referrer_id"})
    assert both.join(speak, on=["seed", "referrer_id"])["speaks_well"].all()


def test_responses_slow_down_under_load() -> None:
    load = _several("truth_lead_intensity").select(
        "seed", "dealership_id", "load", opened_on="day_on"
    )
    leads = _several("traffic").filter(
        pl.col("kind").cast(pl.String).is_in(["web_lead", "chat"]),
        pl.col("handled_at").is_not_null(),
        pl.col("outcome") == "opportunity",
    )  # fmt: skip
    minutes = (pl.col("handled_at") - pl.col("happened_at")).dt.total_minutes()
    both = leads.with_columns(
        opened_on=pl.col("happened_at").dt.date(), wait=(minutes + 1).log()
    ).join(load, on=["seed", "dealership_id", "opened_on"])
    inside = both.filter(pl.col("happened_at").dt.hour().is_between(9, 17))
    x, y = inside["load"].log().to_numpy(), inside["wait"].to_numpy()
    slope = np.cov(x, y)[0, 1] / x.var()
    error = y.std() / x.std() / math.sqrt(len(x))
    assert abs(slope - find_preset("tiny").funnel.delay_load) < Z * error


# --- the ledger ----------------------------------------------------------------------------------


def test_the_ledger_adds_up_to_the_open_tables() -> None:
    """A slow twin: every part summed anew over the whole network."""
    ledger, rules = _table("truth_ledger"), find_preset("tiny")
    assert ledger.height == _table("customers").height
    sold = _table("deals").filter(pl.col("delivery_on").is_not_null())
    orders = _table("service_orders").filter(pl.col("closed_at").is_not_null())
    done = _table("contacts").filter(pl.col("done_at").is_not_null())
    calls = int((done["kind"] == "call").sum())
    twins = {
        "front": float((sold["sale_price"] - sold["cost"]).sum()),
        "finance": float(sold["fni_income"].sum()),
        "accessories": 0.35 * float(sold["accessories"].sum()),
        "trade_in": 0.05 * float(sold["trade_in"].sum()),
        "service": float(
            (orders["labour"] + orders["parts"] - orders["discount"] - orders["costs"]).sum()
        ),
        "contacts": -rules.contacts.call_cost_dollars * calls
        - rules.contacts.message_cost_dollars * (done.height - calls),
        "compensation": -float(_table("cases")["compensation"].sum()),
    }
    for part, total in twins.items():
        assert float(ledger[part].sum()) == pytest.approx(total), part
    parts = ledger.select(pl.sum_horizontal(pl.exclude("customer_id", "margin"))).to_series()
    assert parts.to_numpy() == pytest.approx(ledger["margin"].to_numpy(), abs=1e-5)


def test_most_prospects_cost_more_than_they_bring_and_buyers_bring_more() -> None:
    ledger = _table("truth_ledger").join(
        _table("deals").select("customer_id").unique().with_columns(bought=pl.lit(value=True)),
        on="customer_id", how="left",
    )  # fmt: skip
    mean = ledger.group_by(pl.col("bought").fill_null(value=False)).agg(pl.col("margin").mean())
    margin = dict(mean.iter_rows())
    assert margin[True] > 1000 > margin[False]
    assert (ledger["margin"] < 0).any()


# --- value ---------------------------------------------------------------------------------------


def test_values_of_two_sets_of_lives_differ_by_their_stated_errors() -> None:
    first, second = (
        customer_values(preset="tiny", seed=1, n_customers=400, replicates=8, first_life=life)
        for life in (1, 9)
    )
    error = math.sqrt(float((first["std_error"] ** 2 + second["std_error"] ** 2).sum()))
    assert abs(float((first["value"] - second["value"]).sum())) < Z * error
    assert first["customer_id"].to_list() == list(range(1, 401))
    assert float(first["value"].mean()) > 0  # type: ignore[arg-type]


def test_the_life_that_happened_is_one_of_those_expected() -> None:
    """Its total is within the spread of the others; life 0 is the world's own."""
    lives = customer_values(preset="tiny", seed=1, n_customers=600, replicates=8)
    own = customer_values(
        preset="tiny", seed=1, n_customers=600, replicates=2, first_life=0,
        annual_discount_rate=0.1,
    )  # fmt: skip
    spread = math.sqrt(float((lives["std_error"] ** 2 * 8 / 2 + lives["std_error"] ** 2).sum()))
    assert abs(float((own["value"] - lives["value"]).sum())) < Z * spread
    traits = _table("truth_customer", 1, n_customers=600)
    both = lives.join(traits, on="customer_id")
    happy = both.group_by(pl.col("satisfaction") > 0).agg(pl.col("value").mean())
    worth = dict(happy.iter_rows())
    assert worth[True] > worth[False]


def test_one_life_has_no_error_and_is_refused() -> None:
    with pytest.raises(InputError, match="two or more lives"):
        customer_values(preset="tiny", seed=1, replicates=1)


# --- invariances of the new tables ---------------------------------------------------------------

LASTING: tuple[tuple[str, str, list[str]], ...] = (
    ("contacts", "planned_at", ["employee_id", "done_at", "result", "entered_at"]),
    ("campaign_days", "day_on", []),
    ("campaigns", "starts_on", []),
    ("credits", "applied_on", []),
    ("invoices", "issued_on", ["paid", "paid_on"]),
    ("cases", "opened_at",
     ["first_response_at", "resolved_at", "resolution", "compensation", "entered_at"]),
    ("loyalty_accounts", "joined_on", ["tier"]),
    ("loyalty_transactions", "happened_on", []),
)  # fmt: skip


@pytest.mark.parametrize(("name", "when", "unknown"), LASTING)
def test_a_later_last_day_extends_an_earlier_one(name: str, when: str, unknown: list[str]) -> None:
    day = date(2025, 3, 31)
    early, late = _table(name, 1, as_of=day), _table(name, 1)
    known = late.filter(pl.col(when).cast(pl.Date) <= day)
    keep = [column for column in known.columns if column not in unknown]
    assert early.height > 0
    assert_frame_equal(early.select(keep), known.select(keep))


@pytest.mark.parametrize(("name", "when"), [("contacts", "done_at"), ("cases", "opened_at")])
def test_people_act_while_they_are_employed(name: str, when: str) -> None:
    staff = _table("employees").select("employee_id", "hired_on", "left_on")
    joined = _table(name).join(staff, on="employee_id")
    day = pl.col(when).cast(pl.Date)
    assert joined.height == _table(name).height
    assert joined.filter((day < pl.col("hired_on")) | (day > pl.col("left_on"))).is_empty()
