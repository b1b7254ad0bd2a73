"""Numbers, money, dates and sentences as a reader of English or of Russian writes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from io import BytesIO
from typing import get_args

import pytest
from babel import Locale
from babel.messages.pofile import read_po
from babel.numbers import format_currency, parse_pattern
from hypothesis import assume, given
from hypothesis import strategies as st

from crm_analysis import wording
from crm_analysis.errors import InputError
from crm_analysis.wording import (
    ABSENT,
    LANGUAGES,
    Unit,
    _,
    amount,
    date_text,
    interval_text,
    language,
    money,
    month_text,
    number,
    percent,
    plural,
    set_language,
    speaking,
    tied,
    word_of,
)

UNITS: tuple[Unit, ...] = get_args(Unit)

RUSSIAN = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 "
"&& (n%100<10 || n%100>=20) ? 1 : 2);\\n"

msgid "{n} test drive"
msgid_plural "{n} test drives"
msgstr[0] "{n} тест-драйв"
msgstr[1] "{n} тест-драйва"
msgstr[2] "{n} тест-драйвов"

msgid "nobody came on {day}"
msgstr "{day} никто не пришёл"

msgid "still to be put into words"
msgstr ""
""".strip()


@pytest.fixture
def russian(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Speak Russian with the small catalogue above."""
    catalogue = read_po(BytesIO(RUSSIAN.encode()), locale="ru")
    monkeypatch.setattr(wording, "_catalogue", lambda _lang: catalogue)
    with speaking("ru"):
        yield


# --- the language --------------------------------------------------------------------------------


def test_the_language_is_english_until_it_is_set_and_comes_back() -> None:
    assert language() == "en"
    with speaking("ru"):
        assert language() == "ru"
        with speaking("en"):
            assert language() == "en"
        assert language() == "ru"
    assert language() == "en"


def test_the_language_comes_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), speaking("ru"):
        raise ZeroDivisionError
    assert language() == "en"


@pytest.mark.parametrize("lang", ["de", "", "EN", "english"])
def test_another_language_is_refused_with_those_there_are(lang: str) -> None:
    with pytest.raises(InputError, match="en, ru"):
        set_language(lang)
    assert language() == "en"


# --- sentences -----------------------------------------------------------------------------------


def test_english_is_the_source() -> None:
    assert _("nobody came on {day}", day="Monday") == "nobody came on Monday"
    assert _("braces {stay} without values") == "braces {stay} without values"


@pytest.mark.usefixtures("russian")
def test_sentences_are_translated_and_the_untranslated_stay() -> None:
    assert _("nobody came on {day}", day="5 мая") == "5 мая никто не пришёл"
    assert _("still to be put into words") == "still to be put into words"
    assert _("never seen before") == "never seen before"


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (0, "0 test drives"),
        (1, "1 test drive"),
        (21, "21 test drives"),
        (1000, "1,000 test drives"),
    ],
)
def test_english_knows_two_forms(n: int, said: str) -> None:
    assert plural(n, "{n} test drive", "{n} test drives") == said


@pytest.mark.usefixtures("russian")
@pytest.mark.parametrize(
    ("n", "said"),
    [
        (0, "0 тест-драйвов"),
        (1, "1 тест-драйв"),
        (2, "2 тест-драйва"),
        (4, "4 тест-драйва"),
        (5, "5 тест-драйвов"),
        (11, "11 тест-драйвов"),
        (12, "12 тест-драйвов"),
        (21, "21 тест-драйв"),
        (22, "22 тест-драйва"),
        (111, "111 тест-драйвов"),
        (121, "121 тест-драйв"),
        (1001, "1\u00a0001 тест-драйв"),
    ],
)
def test_russian_knows_three_forms(n: int, said: str) -> None:
    assert plural(n, "{n} test drive", "{n} test drives") == said


def test_a_plural_without_a_translation_is_english() -> None:
    with speaking("ru"):
        assert plural(2, "{n} thing unheard of", "{n} things unheard of") == "2 things unheard of"


def test_a_plural_takes_further_values() -> None:
    assert plural(2, "{n} row of {all}", "{n} rows of {all}", all=7) == "2 rows of 7"


def test_codes_become_words_and_names_stay() -> None:
    assert word_of("service_drive") == "service drive"
    assert word_of("Riverside Motors") == "Riverside Motors"
    assert word_of(None) == "unknown"
    assert word_of(1001) == "1001"


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "digits", "english", "russian_"),
    [
        (12345.678, 1, "12,345.7", "12\u00a0345,7"),
        (1234567, 0, "1,234,567", "1\u00a0234\u00a0567"),
        (0.5, 2, "0.50", "0,50"),
        (-3.25, 1, "−3.2", "−3,2"),
        (-0.04, 1, "0.0", "0,0"),
        (-0.0, 0, "0", "0"),
    ],
)
def test_numbers(value: float, digits: int, english: str, russian_: str) -> None:
    assert number(value, digits) == english
    with speaking("ru"):
        assert number(value, digits) == russian_


@given(
    st.floats(-1e15, 1e15)
    | st.integers(-(10**9), 10**9)
    | st.integers(-999, 999).map(lambda n: n / 8),
    st.integers(0, 4),
    st.sampled_from(["USD", "RUB", "CHF"]),
)
def test_numbers_and_money_are_written_as_babel_writes_them(
    value: float, digits: int, currency: str
) -> None:
    # Of what is rounded to nothing babel keeps the minus; we do not.
    assume(round(value, digits) != 0 and round(value) != 0)
    pattern = parse_pattern("#,##0" + ("." + "0" * digits if digits else ""))
    for lang, locale, form in (("en", "en_GB", "¤#,##0"), ("ru", "ru_RU", "#,##0\u00a0¤")):
        with speaking(lang):
            own = pattern.apply(value, Locale.parse(locale))
            assert number(value, digits) == own.replace("-", "−")
            own = format_currency(value, currency, form, locale, currency_digits=False)
            assert money(value, currency) == own.replace("-", "−")


@pytest.mark.parametrize(
    ("value", "english", "russian_"),
    [
        (0.1234, "12.3%", "12,3\u00a0%"),
        (1, "100.0%", "100,0\u00a0%"),
        (-0.0001, "0.0%", "0,0\u00a0%"),
        (-0.05, "−5.0%", "−5,0\u00a0%"),
    ],
)
def test_percentages(value: float, english: str, russian_: str) -> None:
    assert percent(value) == english
    with speaking("ru"):
        assert percent(value) == russian_


def test_money() -> None:
    assert money(1234567.8) == "1,234,568"
    assert money(1234567.8, "USD") == "US$1,234,568"
    assert money(-0.3, "USD") == money(0, "USD")
    assert money(-1500, "EUR") == "−€1,500"
    with speaking("ru"):
        assert money(1234567.8, "RUB") == "1\u00a0234\u00a0568\u00a0₽"
        assert money(1234567.8) == "1\u00a0234\u00a0568"


def test_dates() -> None:
    assert date_text(date(2026, 6, 30)) == "30 June 2026"
    assert month_text(date(2026, 6, 1)) == "June 2026"
    with speaking("ru"):
        assert date_text(date(2026, 6, 30)) == "30 июня 2026"
        assert month_text(date(2026, 6, 1)).startswith("июнь 2026")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_unknown_is_said_to_be_absent(unit: Unit, lang: str, value: float | None) -> None:
    with speaking(lang):
        assert amount(value, unit, currency="RUB") == ABSENT
        assert interval_text(value, value, unit) == ABSENT


def test_units_are_written_as_they_are_read() -> None:
    said = {unit: amount(0.5, unit) for unit in UNITS}
    assert said == {
        "share": "50.0%", "gap": "50.0", "points": "0.5", "score": "0.50", "money": "0",
        "days": "0.5", "months": "0.5", "count": "0", "number": "0.50",
    }  # fmt: skip


def test_half_an_interval_is_still_said() -> None:
    assert interval_text(0.5, None, "share") == f"50.0% to {ABSENT}"
    assert interval_text(10, 20, "count") == "10 to 20"


@given(st.floats(-1e12, 1e12), st.integers(0, 4))
def test_a_written_number_reads_back(value: float, digits: int) -> None:
    text = number(value, digits)
    back = float(text.replace(",", "").replace("−", "-"))
    assert abs(back - value) <= 0.5 * 10**-digits * (1 + 1e-9) + abs(value) * 1e-12
    assert text.count(".") == (1 if digits else 0)
    assert back != 0 or not text.startswith("−")
    with speaking("ru"):
        russian_ = number(value, digits).replace("\u00a0", "").replace(",", ".")
        assert float(russian_.replace("−", "-")) == back


@pytest.mark.parametrize("space", [" ", "\N{NO-BREAK SPACE}"])
def test_no_line_ends_inside_a_p_value(space: str) -> None:
    assert " " not in tied(f"p{space}<{space}0.001")
