"""Names, phones and money of the two locales: they agree, and come as often as Faker says."""

from __future__ import annotations

import math
import re
from functools import cache

import polars as pl
import pytest
from faker.providers.person.en_US import Provider as EnglishPerson

from synthetic import Network, make_network

LOCALES = ("en_US", "ru_RU")
PHONE = {
    "en_US": re.compile(r"\+1 \(9\d\d\) 555-\d{4}"),
    "ru_RU": re.compile(r"\+7 \(0\d\d\) \d{3}-\d\d-\d\d"),
}
"""Numbers that no subscriber has: the American exchange 555, Russian codes that begin with 0."""

Z = 4.5
"""Standard errors: about one in 150,000, for a dozen names looked at."""


@cache
def _world(locale: str) -> Network:
    return make_network(preset="tiny", seed=11, locale=locale)


def _people(locale: str) -> pl.DataFrame:
    customers = _world(locale).tables["customers"].collect()
    return customers.filter(pl.col("kind") == "person")


@pytest.mark.parametrize(
    ("gender", "surname", "patronymic"),
    [
        ("female", r"(а|я)$", r"(вна|ична|инична)$"),
        ("male", r"(ов|ев|ёв|ин|ын|ий|ый)$", r"(вич|ич)$"),
    ],
)
def test_a_russian_name_agrees_in_gender_in_all_its_parts(
    gender: str, surname: str, patronymic: str
) -> None:
    people = _people("ru_RU").filter(pl.col("gender") == gender)
    assert people.height > 500
    for column, ending in (("last_name", surname), ("patronymic", patronymic)):
        odd = people.filter(~pl.col(column).str.contains(ending))[column].unique().to_list()
        assert not odd


def test_first_names_of_one_gender_are_not_those_of_the_other() -> None:
    """But for the few names that both bear in English."""
    for locale, most in (("ru_RU", 0), ("en_US", 40)):
        women, men = (
            set(_people(locale).filter(pl.col("gender") == one)["first_name"])
            for one in ("female", "male")
        )
        assert len(women & men) <= most


@pytest.mark.parametrize("gender", ["female", "male"])
def test_english_names_come_as_often_as_faker_says(gender: str) -> None:
    people = _people("en_US").filter(pl.col("gender") == gender)
    weights: dict[str, float] = getattr(EnglishPerson, f"first_names_{gender}")
    total = sum(weights.values())
    common = sorted(weights, key=lambda name: -weights[name])[:6]
    for name in common:
        share = weights[name] / total
        found = int((people["first_name"] == name).sum())
        sd = math.sqrt(people.height * share * (1 - share))
        assert abs(found - people.height * share) < Z * sd, name


def test_common_russian_names_are_commoner() -> None:
    """Faker gives them without frequencies; a dozen of each gender stand out by our choice."""
    counts = _people("ru_RU")["first_name"].value_counts(sort=True)
    first = set(counts["first_name"].head(12))
    assert len(first & set("Анна Елена Мария Ольга Наталья Екатерина Татьяна Ирина Светлана "
                           "Анастасия Юлия Дарья Александр Сергей Дмитрий Андрей Алексей Максим "
                           "Иван Михаил Николай Владимир Евгений Павел".split())) == 12  # fmt: skip


@pytest.mark.parametrize("locale", LOCALES)
def test_phones_have_the_country_s_form_and_reach_nobody(locale: str) -> None:
    phones = _world(locale).tables["customers"].collect()["phone"].drop_nulls()
    assert len(phones) > 1_000
    assert not [phone for phone in phones if not PHONE[locale].fullmatch(phone)]


@pytest.mark.parametrize(("locale", "currency"), [("en_US", "USD"), ("ru_RU", "RUB")])
def test_money_is_in_the_locale_s_currency(locale: str, currency: str) -> None:
    world = _world(locale)
    assert world.config.currency == currency
    median = world.tables["deals"].select(pl.col("sale_price").median()).collect().item()
    low, high = {"USD": (15_000, 60_000), "RUB": (800_000, 6_000_000)}[currency]
    assert low < median < high


def test_the_english_world_holds_no_cyrillic() -> None:
    """Questions of a survey are kept in both languages, by design."""
    for name, frame in _world("en_US").tables.items():
        table = frame.collect()
        for column in table.select(pl.col(pl.String)).columns:
            if column != "text_ru":
                said = table[column].drop_nulls().str.contains("[А-Яа-яЁё]")
                assert not said.any(), f"{name}.{column}"


def test_an_address_for_mail_spells_the_name_in_latin_letters() -> None:
    people = _people("ru_RU").drop_nulls("email")
    odd = people.filter(~pl.col("email").str.contains(r"^[a-z]+\.[a-z]+\d+@example\.com$"))
    assert odd["email"].to_list() == []
