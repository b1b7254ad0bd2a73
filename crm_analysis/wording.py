"""Numbers, money, dates and sentences in the reader's language (Babel and gettext).

The language is a property of the page being made, so it is set once, by a notebook's setup
cell; everything that speaks asks here. Words live in gettext catalogues
(``reports/locale/<language>/crm.po``); English is the source language and needs none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_currency, get_decimal_symbol, get_group_symbol

from crm_analysis.errors import InputError, listed

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog

__all__ = [
    "ABSENT",
    "LANGUAGES",
    "Duration",
    "Unit",
    "_",
    "amount",
    "counted_from",
    "date_text",
    "duration_text",
    "interval_text",
    "language",
    "marked",
    "money",
    "month_text",
    "number",
    "percent",
    "period_text",
    "plural",
    "set_language",
    "signed",
    "signed_interval_text",
    "speaking",
    "tied",
    "visible",
    "word_of",
]

LANGUAGES = ("en", "ru")
"""The languages a report can be written in."""

ABSENT = "–"
"""What stands where nothing can be known."""

Unit = Literal["share", "gap", "points", "score", "money", "days", "months", "count", "number"]
"""What an estimate is measured in; decides how it is written.

A gap is a difference of two shares, kept as a fraction and read in percentage points.
"""

Duration = Literal["day", "week", "month", "quarter", "year"]
"""Units in which a length of time is written."""

_PACKAGE = Path(__file__).resolve().parent
_CATALOGUE_FOLDERS = (_PACKAGE / "locale", _PACKAGE.parent / "reports" / "locale")

_LOCALES = {"en": "en_GB", "ru": "ru_RU"}
_state = {"language": "en"}


def language() -> str:
    """Return the language in which results speak now: ``"en"`` or ``"ru"``."""
    return _state["language"]


def set_language(lang: str) -> None:
    """Let every later result speak `lang`.

    Raises
    ------
    InputError
        When the language is not one of `LANGUAGES`.
    """
    if lang not in LANGUAGES:
        raise InputError(
            f"A report in the language {lang!r} was asked for. Reports are written in: "
            f"{listed(LANGUAGES)}. Pass one of these as 'lang'."
        )
    _state["language"] = lang


@contextmanager
def speaking(lang: str) -> Iterator[None]:
    """Speak `lang` inside a ``with`` block and the language of before after it."""
    before = language()
    set_language(lang)
    try:
        yield
    finally:
        set_language(before)


@cache
def _catalogue(lang: str) -> Catalog | None:
    from babel.messages.pofile import read_po

    for folder in _CATALOGUE_FOLDERS:
        path = folder / lang / "crm.po"
        if path.is_file():
            with path.open("rb") as file:
                return read_po(file, locale=lang)
    return None


def _translated(message: str) -> str | tuple[str, ...]:
    if language() == "en":
        return message
    catalogue = _catalogue(language())
    found = catalogue.get(message) if catalogue is not None else None
    # A fuzzy translation is one of words that have changed since.
    if found is None or found.fuzzy or not found.string:
        return message
    return found.string if isinstance(found.string, str) else tuple(found.string)


def _(message: str, **values: object) -> str:
    """Say `message` in the reader's language, with `values` put into its braces.

    Examples
    --------
    >>> _("{n} leads", n=3)
    '3 leads'
    """
    text = _translated(message)
    text = text if isinstance(text, str) else text[0]
    return text.format(**values) if values else text


def marked(message: str) -> str:
    """Say, in the reader's language, words that a table of them has marked for translation."""
    return _(message)


def plural(n: int, one: str, many: str, **values: object) -> str:
    """Say `one` or `many` as the language's plural rule asks for `n` things.

    Examples
    --------
    >>> plural(1, "{n} lead", "{n} leads"), plural(1200, "{n} lead", "{n} leads")
    ('1 lead', '1,200 leads')
    """
    forms = _translated(one)
    if isinstance(forms, tuple) and len(forms) > 1:
        index = _plural_index(n)
        text = forms[min(index, len(forms) - 1)] or one
    else:
        text = one if n == 1 else many
    return text.format(n=number(n), **values)


_CODE = re.compile(r"[a-z]+(_[a-z]+)*")
_QUARTER = re.compile(r"(\d{4})-Q([1-4])")


_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]"
    "|[\ud800-\udfff]"
)


_SIGNED = re.compile("\\b([np])[ \N{NO-BREAK SPACE}]([=<])[ \N{NO-BREAK SPACE}](?=\\d)")


def visible(text: str) -> str:
    r"""Return a text without what cannot be seen and changes how the rest is read.

    Control characters, and the marks by which a name could turn the direction of the words that
    follow it, do not reach a page.

    Examples
    --------
    >>> visible("North\x00 \u202eSouth")
    'North South'
    """
    return _UNSEEN.sub("", text)


def tied(text: str) -> str:
    """Return a text in which no line ends between an n or a p and its number.

    Examples
    --------
    >>> tied("a mean (n = 5)") == "a mean (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}5)"
    True
    """
    return _SIGNED.sub("\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", text)


def word_of(value: object) -> str:
    """Write a value of the data as a reader's word: codes such as ``service_drive`` in words.

    Only what looks like a code (small letters joined by underscores) or a quarter (``2025-Q1``)
    is changed; names stay.

    Examples
    --------
    >>> word_of("service_drive"), word_of("Riverside_Motors"), word_of(None), word_of(7)
    ('service drive', 'Riverside_Motors', 'unknown', '7')
    """
    if value is None:
        return _("unknown")
    text = visible(str(value))
    if quarter := _QUARTER.fullmatch(text):
        return _("{year}-Q{quarter}", year=quarter[1], quarter=quarter[2])
    return _(text.replace("_", " ")) if _CODE.fullmatch(text) else text


def duration_text(n: int, unit: Duration) -> str:
    """Write a length of time in whole units.

    Examples
    --------
    >>> duration_text(1, "month"), duration_text(36, "month")
    ('1 month', '36 months')
    """
    if unit == "day":
        return plural(n, "{n} day", "{n} days")
    if unit == "week":
        return plural(n, "{n} week", "{n} weeks")
    if unit == "month":
        return plural(n, "{n} month", "{n} months")
    if unit == "quarter":
        return plural(n, "{n} quarter", "{n} quarters")
    return plural(n, "{n} year", "{n} years")


def _plural_index(n: int) -> int:
    order = ("one", "few", "many", "other")
    return order.index(_locale(language()).plural_form(n))


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def number(value: float | None, digits: int = 0) -> str:
    """Write a number with `digits` decimals, or `ABSENT` for null.

    Examples
    --------
    >>> number(12345.678, 1)
    '12,345.7'
    """
    if value is None or not _known(value):
        return ABSENT
    # As babel rounds and groups, without asking it what it has said of the locale already.
    rounded = Decimal(str(_unsigned_zero(value, digits))).quantize(_last_place(digits))
    return f"{rounded:,f}".translate(_signs(language()))


@cache
def _last_place(digits: int) -> Decimal:
    return Decimal(1).scaleb(-digits)


@cache
def _signs(lang: str) -> dict[int, str]:
    """Return the signs of a language, and the minus that is as wide as a plus."""
    locale = _locale(lang)
    return str.maketrans(
        {",": get_group_symbol(locale), ".": get_decimal_symbol(locale), "-": _MINUS}
    )


_MINUS = "−"
"""As wide as a plus: all signed differences have it."""


@cache
def _locale(lang: str) -> Locale:
    return Locale.parse(_LOCALES[lang])


def percent(value: float | None, digits: int = 1) -> str:
    """Write a fraction as a percentage, or `ABSENT` for null.

    Examples
    --------
    >>> percent(0.1234)
    '12.3%'
    """
    if value is None or not _known(value):
        return ABSENT
    text = number(100 * value, digits)
    return f"{text}%" if language() == "en" else f"{text}\u00a0%"


def money(value: float | None, currency: str | None = None) -> str:
    """Write an amount in whole currency units, with its currency when that is known.

    Examples
    --------
    >>> money(12345.678, "USD")
    'US$12,346'
    >>> money(12345.678)
    '12,346'
    """
    if value is None or not _known(value):
        return ABSENT
    if currency is None:
        return number(value)
    digits = number(value)
    before, after = _around(language(), currency, negative=digits.startswith(_MINUS))
    return before + digits.removeprefix(_MINUS) + after


@cache
def _around(lang: str, currency: str, *, negative: bool) -> tuple[str, str]:
    """Return what stands before and after the digits of an amount in a currency."""
    text = format_currency(
        -1 if negative else 1,
        currency,
        locale=_locale(lang),
        currency_digits=False,
        format="¤#,##0" if lang == "en" else "#,##0\u00a0¤",
    )
    before, _digit, after = text.replace("-", _MINUS).partition("1")
    return before, after


def _unsigned_zero(value: float, digits: int) -> float:
    return 0.0 if round(value, digits) == 0 else value


def date_text(day: date) -> str:
    """Write a day: ``30 June 2026``."""
    return str(format_date(day, "d MMMM y", locale=_locale(language())))


def month_text(day: date, *, short: bool = False) -> str:
    """Write a month: ``June 2026``, or ``Jun 2026`` where there is little room."""
    return str(format_date(day, "LLL y" if short else "LLLL y", locale=_locale(language())))


def period_text(start: date, period: Literal["month", "quarter", "year"]) -> str:
    """Write the period that a day begins.

    Examples
    --------
    >>> period_text(date(2018, 1, 1), "year"), period_text(date(2018, 4, 1), "quarter")
    ('2018', '2018-Q2')
    """
    if period == "quarter":
        quarter = str((start.month + 2) // 3)
        return _("{year}-Q{quarter}", year=str(start.year), quarter=quarter)
    return str(start.year) if period == "year" else month_text(start)


def amount(value: float | None, unit: Unit = "number", *, currency: str | None = None) -> str:
    """Write a value the way its unit is read.

    Examples
    --------
    >>> amount(0.5, "share"), amount(12.34, "points"), amount(3, "count")
    ('50.0%', '12.3', '3')
    >>> amount(-0.134, "gap")
    '−13.4'
    """
    if unit == "share":
        return percent(value)
    if unit == "gap":
        return number(None if value is None else 100 * value, 1)
    if unit == "money":
        return money(value, currency)
    digits = {"points": 1, "score": 2, "days": 1, "months": 1, "count": 0, "number": 2}[unit]
    return number(value, digits)


def signed(
    value: float | None,
    unit: Unit = "number",
    *,
    currency: str | None = None,
    bare: bool = False,
    digits: int = 1,
) -> str:
    """Write a difference with its sign, shares in percentage points.

    Parameters
    ----------
    bare : bool
        Whether to leave out the unit where it is a word, as beside a number that has it.
    digits : int
        Decimals of percentage points and of days.

    Examples
    --------
    >>> signed(0.0123, "share"), signed(-4.2, "points"), signed(0, "count")
    ('+1.2 points', '−4.2', '0')
    >>> signed(-0.0123, "share", bare=True)
    '−1.2'
    """
    if value is None or not _known(value):
        return ABSENT
    if unit in ("share", "days"):
        size = number(abs(100 * value if unit == "share" else value), digits)
    else:
        size = amount(abs(value), unit, currency=currency)
    sign = ("+" if value > 0 else "−") if re.search("[1-9]", size) else ""
    if bare or unit not in ("share", "days"):
        return sign + size
    return sign + (_("{n} points", n=size) if unit == "share" else _("{n} days", n=size))


def interval_text(
    low: float | None, high: float | None, unit: Unit = "number", *, currency: str | None = None
) -> str:
    """Write an interval, or `ABSENT` when neither bound is known.

    Examples
    --------
    >>> interval_text(0.5, 0.75, "share")
    '50.0% to 75.0%'
    """
    if not (_known(low) or _known(high)):
        return ABSENT
    return _(
        "{low} to {high}",
        low=amount(low, unit, currency=currency),
        high=amount(high, unit, currency=currency),
    )


def signed_interval_text(
    low: float | None,
    high: float | None,
    unit: Unit = "number",
    *,
    currency: str | None = None,
    digits: int = 1,
) -> str:
    """Write the interval of a difference, its bounds as `signed` writes them, the unit left out.

    Examples
    --------
    >>> signed_interval_text(-0.012, 0.034, "share")
    '−1.2 to +3.4'
    """
    ends = (signed(end, unit, currency=currency, bare=True, digits=digits) for end in (low, high))
    return _("{low} to {high}", **dict(zip(("low", "high"), ends, strict=True)))


def counted_from(since: date | None) -> str:
    """Say from when on a definition counts, as a sentence to follow it; nothing for no first day.

    Examples
    --------
    >>> counted_from(date(2026, 1, 1)), counted_from(None)
    (' Counted from 1 January 2026 on.', '')
    """
    return "" if since is None else " " + _("Counted from {since} on.", since=date_text(since))
