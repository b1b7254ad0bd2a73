"""Customers: who they are, when and through what they first come, and their hidden traits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from crm_analysis.schema import CUSTOMER_KINDS, GENDERS, INCOME_BANDS, SOURCES
from synthetic.campaigns import campaign_id, lead_weights
from synthetic.clock import chosen, dates, day_of, masked, moments, weekday_of, year_of
from synthetic.config import Config
from synthetic.keyed import Flags, Floats, Ints
from synthetic.network import Market
from synthetic.people import Names, draw_names

COMPANY_SHARE = 0.06
CONSENT_SHARE = 0.88
EMAIL_SHARE = 0.6
PHONE_SHARE = 0.985
ASKED_SHARE = 0.7
"""Shares of companies, of consent, of contacts left and of questions asked [assumed]."""


@dataclass(frozen=True)
class Customers:
    """A block of customers; arrays of shape (n,).

    Attributes
    ----------
    ids : customer_id.
    dealership : position of the dealership (dealership_id - 1).
    by_service : True when they first come to the workshop with a car bought elsewhere.
    arrival : day of the first contact or first visit to the workshop.
    source : position in `SOURCES`.
    satisfaction, value : latent intercepts a_i and v_i.
    solvency : latent solvency, standard normal.
    km_a_year : distance driven.
    consent : agreed to be contacted.
    base_share, thinning : chance of coming without the running campaign, and the uniform that
    decides.
    incremental : True when advertising brought them.
    campaign : the campaign that has the dealership's attention that day, -1 = none.
    """

    ids: Ints
    dealership: Ints
    by_service: Flags
    arrival: Ints
    source: Ints
    satisfaction: Floats
    solvency: Floats
    value: Floats
    km_a_year: Floats
    consent: Flags
    base_share: Floats
    thinning: Floats
    incremental: Flags
    campaign: Ints

    def take(self, where: Ints | Flags | slice) -> Customers:
        """Return the customers at some positions."""
        return Customers(*(getattr(self, name)[where] for name in self.__dataclass_fields__))


def day_edges(config: Config) -> tuple[Floats, Floats]:
    """Return the cumulative shares of leads without a name and of first service visits by day."""
    days = np.arange(day_of(config.starts_on), day_of(config.ends_on) + 1)
    leads = lead_weights(config)
    visits = np.where(weekday_of(days) < 5, 1.0, 0.5)
    return np.cumsum(leads) / leads.sum(), np.cumsum(visits) / visits.sum()


def source_edges(config: Config, day: Ints) -> Floats:
    """Return cumulative shares of the sources on each day, shape (n, 7)."""
    early, late = (
        dict(table) for table in (config.traffic.source_2015, config.traffic.source_2025)
    )
    first = np.array([early[source] for source in SOURCES])
    last = np.array([late[source] for source in SOURCES])
    part = np.clip((year_of(day) - 2015) / 10.0, 0.0, 1.0)[:, None]
    share = first[None, :] * (1 - part) + last[None, :] * part
    return np.asarray(np.cumsum(share, axis=1) / share.sum(axis=1, keepdims=True))


def home_dealership(market: Market, ids: Ints) -> Ints:
    """Return the position of each customer's dealership."""
    draws, config = market.draws, market.config
    chosen = draws.uniform("customer.dealership@1", ids)
    by_service = draws.chance("customer.by_service@1", config.traffic.service_share, ids)
    return np.where(
        by_service,
        np.searchsorted(market.share_edges, chosen),
        np.searchsorted(market.advertising.share_edges, chosen),
    ).clip(max=config.n_dealerships - 1)


def make_customers(market: Market, ids: Ints, edges: tuple[Floats, Floats]) -> Customers:
    """Draw a block of customers; those whom only advertising brings come where it runs."""
    config, draws = market.config, market.draws
    by_service = draws.chance("customer.by_service@1", config.traffic.service_share, ids)
    place = draws.uniform("customer.arrival@1", ids)
    plan, dealership = market.advertising, home_dealership(market, ids)
    arrival = np.where(
        by_service,
        day_of(config.starts_on) + np.searchsorted(edges[1], place),
        plan.arrival(dealership, place),
    )
    base_share = np.round(1 / (1 + plan.lift_on(dealership, arrival)), 9)
    thinning = draws.uniform("arrival.thinning@1", ids)
    wave = plan.wave_on(dealership, arrival)
    incremental = (thinning >= base_share) & ~by_service
    source_at = draws.uniform("customer.source@1", ids)
    source = (source_at[:, None] >= source_edges(config, arrival)[:, :-1]).sum(axis=1)
    latent = config.latent
    centre = np.log(latent.km_a_year) - latent.km_sigma**2 / 2
    driven = np.exp(centre + latent.km_sigma * draws.normal("customer.km@1", ids))
    who = Customers(
        ids=ids,
        dealership=dealership,
        by_service=by_service,
        arrival=arrival,
        source=np.where(incremental, plan.source_of(np.maximum(wave, 0)), source),
        satisfaction=latent.satisfaction_sd * draws.normal("customer.satisfaction@1", ids),
        solvency=draws.normal("customer.solvency@1", ids),
        value=latent.value_sd * draws.normal("customer.value@1", ids),
        km_a_year=np.round(driven),
        consent=draws.chance("customer.consent@1", CONSENT_SHARE, ids),
        base_share=np.where(by_service, 1.0, base_share),
        thinning=thinning,
        incremental=incremental,
        campaign=np.where((wave >= 0) & ~by_service, campaign_id(wave, dealership), -1),
    )
    return who if config.campaigns.running else who.take(~incremental)


def birthdays(
    market: Market, ids: Ints, created: Ints, company: Flags | None = None
) -> tuple[Ints, Flags]:
    """Return the day each customer was born, and whether the CRM knows it."""
    draws = market.draws
    if company is None:
        company = draws.chance("customer.company@1", COMPANY_SHARE, ids)
    age = (18 + 52 * draws.uniform("customer.age@1", ids) ** 1.3) * 365.25
    asked = ~company & draws.chance("customer.asked@1", ASKED_SHARE, ids)
    return created // 1440 - age.astype(np.int64), asked


def customer_table(
    market: Market, who: Customers, created: Ints, entered: Ints, manager: Ints
) -> pl.DataFrame:
    """Write the open table of customers; `created` and `entered` are minutes."""
    draws, ids = market.draws, who.ids
    company = draws.chance("customer.company@1", COMPANY_SHARE, ids)
    female = draws.chance("customer.female@1", 0.46, ids)
    names = draw_names(draws, market.words, "customer", ids, female)
    born, asked = birthdays(market, ids, created, company)
    firm = market.words.companies.draw(draws.uniform("customer.firm@1", ids))
    job = market.words.occupations.draw(draws.uniform("customer.job@1", ids))
    band = np.digitize(who.value + 0.5 * draws.normal("customer.income@1", ids), [-0.35, 0.45])
    patronymic = names.patronymic if names.patronymic is not None else names.first
    has_patronymic = ~company if names.patronymic is not None else np.zeros_like(company)
    return pl.DataFrame(
        {
            "customer_id": ids,
            "dealership_id": who.dealership + 1,
            "kind": chosen(CUSTOMER_KINDS, company.astype(np.int64)),
            "last_name": firm.zip_with(pl.Series(company), names.last),
            "first_name": masked(names.first, ~company),
            "patronymic": masked(patronymic, has_patronymic),
            "gender": chosen(GENDERS, np.where(female, 0, 1), ~company),
            "birth_on": dates(born, asked),
            "phone": _phones(market, ids),
            "email": _emails(market, who, names, company),
            "city": _cities(market, who),
            "occupation": masked(job, asked),
            "income_band": chosen(INCOME_BANDS, band, asked),
            "has_children": masked(draws.chance("customer.children@1", 0.55, ids), asked),
            "consent": who.consent,
            "created_at": moments(created),
            "entered_at": moments(entered),
            "manager_id": manager,
        }
    )


def _phones(market: Market, ids: Ints) -> pl.Series:
    """Return phone numbers from ranges no subscriber has (US exchange 555; Russian codes 0xx)."""
    code = market.draws.integer("customer.phone_code@1", 100, ids)
    rest = market.draws.integer("customer.phone@1", 10_000_000, ids)
    present = market.draws.chance("customer.phone_left@1", PHONE_SHARE, ids)
    frame = pl.DataFrame({"code": code, "rest": rest, "present": present})
    digits = pl.col("rest").cast(pl.String).str.zfill(7)
    area = pl.col("code").cast(pl.String).str.zfill(2)
    if market.config.locale == "ru_RU":
        parts = [
            "+7 (0",
            area,
            ") ",
            digits.str.slice(0, 3),
            "-",
            digits.str.slice(3, 2),
            "-",
            digits.str.slice(5, 2),
        ]
    else:
        parts = ["+1 (9", area, ") 555-", digits.str.slice(3, 4)]
    text = pl.concat_str([pl.lit(part) if isinstance(part, str) else part for part in parts])
    return frame.select(pl.when("present").then(text)).to_series()


def _emails(market: Market, who: Customers, names: Names, company: Flags) -> pl.Series:
    present = market.draws.chance("customer.email_left@1", EMAIL_SHARE, who.ids)
    frame = pl.DataFrame(
        {
            "first": names.first,
            "last": names.last,
            "id": who.ids,
            "company": company,
            "present": present,
        }
    )
    latin = market.words.latin
    first, last = (pl.col(part).replace_strict(latin) for part in ("first", "last"))
    person = pl.concat_str([first, pl.lit("."), last, pl.col("id").cast(pl.String)])
    local = pl.when("company").then(pl.concat_str([pl.lit("office"), pl.col("id").cast(pl.String)]))
    text = pl.concat_str([local.otherwise(person), pl.lit("@example.com")])
    return frame.select(pl.when("present").then(text)).to_series()


def _cities(market: Market, who: Customers) -> pl.Series:
    """Return the dealership's city for most customers and another one for the rest."""
    names = pl.Series([city for city, _ in market.words.cities])
    other = market.draws.integer("customer.city@1", len(names), who.ids)
    local = market.draws.chance("customer.local@1", 0.8, who.ids)
    return names.gather(np.where(local, who.dealership % len(names), other))
