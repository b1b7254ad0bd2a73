"""The data dictionary: every table and column in English or Russian, as Markdown or HTML.

English comes from the schema itself; Russian from ``dictionary_ru.toml`` beside this file, which a
test holds complete.
"""

from __future__ import annotations

import html
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import polars as pl

from crm_analysis.errors import InputError, near
from crm_analysis.schema import FOREIGN_KEYS, TABLES
from synthetic.closed_form.schemas import OPEN as CLOSED_OPEN
from synthetic.closed_form.schemas import TRUTH as CLOSED_TRUTH
from synthetic.columns import about, meaning_of, unit_for
from synthetic.policies import POLICY_TABLES
from synthetic.truth import TRUTH_TABLES
from synthetic.usage import readers

if TYPE_CHECKING:
    import dataframely as dy

LANGUAGES = ("en", "ru")
FORMS = ("markdown", "html")


@dataclass(frozen=True)
class Entry:
    """One column of the dictionary, in one language.

    Attributes
    ----------
    name, type, unit, key, meaning : str
        `key` is "primary key", "-> table" or empty; `meaning` says what null means.
    labels : mapping of str to str
        What each category means; empty for other columns.
    reports : list of str
        Reports (notebooks) that read it.
    """

    name: str
    type: str
    unit: str
    key: str
    meaning: str
    labels: Mapping[str, str]
    reports: list[str]


WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "en": {
            "title": "Data dictionary",
            "open": "Open tables",
            "truth": "Truth tables",
            "about_open": "What a CRM holds. Nothing here knows the future.",
            "about_truth": "What made the data. Never join it into a report.",
            "contents": "Contents",
            "name": "column",
            "type": "type",
            "unit": "unit",
            "key": "key",
            "meaning": "meaning",
            "reports": "reports",
            "policy": "Truth of a policy's two worlds",
            "about_policy": "What a policy does: beside the two worlds that differ by it alone.",
            "closed": "Open tables of the closed-form worlds",
            "about_closed": "Views ready made; dealerships is as above.",
            "closed_truth": "Truth tables of the closed-form worlds",
            "about_closed_truth": "Parameters, latent rates and exact expectations.",
            "primary": "primary key",
            "used": "Read by the reports",
        },
        "ru": {
            "title": "Словарь данных",
            "open": "Открытые таблицы",
            "truth": "Таблицы правды",
            "about_open": "То, что хранит CRM. О будущем здесь ничего не известно.",
            "about_truth": "То, из чего сделаны данные. В отчёты не подмешивать.",
            "contents": "Содержание",
            "name": "колонка",
            "type": "тип",
            "unit": "единица",
            "key": "ключ",
            "meaning": "значение",
            "reports": "отчёты",
            "policy": "Правда о двух мирах меры",
            "about_policy": "Что делает мера: рядом с двумя мирами, которые отличаются только ею.",
            "closed": "Открытые таблицы миров с точным решением",
            "about_closed": "Готовые представления; dealerships - как выше.",
            "closed_truth": "Таблицы правды миров с точным решением",
            "about_closed_truth": "Параметры, скрытые частоты и точные ожидания.",
            "primary": "первичный ключ",
            "used": "Читают отчёты",
        },
    }
)

PARTS: Mapping[str, Mapping[str, type[dy.Schema]]] = MappingProxyType(
    {
        "open": TABLES,
        "truth": TRUTH_TABLES,
        "policy": POLICY_TABLES,
        "closed": {name: table for name, table in CLOSED_OPEN.items() if name not in TABLES},
        "closed_truth": CLOSED_TRUTH,
    }
)
"""Tables by part: the network's, those of two worlds, and those of the closed-form worlds."""

EVERY: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {name: table for tables in PARTS.values() for name, table in tables.items()}
)
"""All tables of the dictionary."""

_HEADS = ("name", "type", "unit", "key", "meaning", "reports")


@cache
def _russian() -> dict[str, Any]:
    text = files("synthetic").joinpath("dictionary_ru.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def russian_meaning(table: str, column: str) -> str | None:
    """Return the Russian meaning of a column, None where it is missing."""
    columns = _russian()["columns"]
    found = columns.get(table, {}).get(column) or columns.get(column)
    return found if isinstance(found, str) else None


def russian_label(table: str, column: str, code: str) -> str | None:
    """Return the Russian word for a category, None where it is missing."""
    labels = _russian()["labels"]
    found = labels.get(f"{table}.{column}", {}).get(code) or labels.get(code)
    return found if isinstance(found, str) else None


def missing_russian() -> list[str]:
    """Return the tables, columns, categories, units and types that have no Russian words."""
    words = _russian()
    lost = [f"tables.{name}" for name in EVERY if name not in words["tables"]]
    for name, table in EVERY.items():
        for column, kind in table.columns().items():
            if russian_meaning(name, column) is None:
                lost.append(f"columns.{name}.{column}")
            if unit_for(column, kind) not in words["units"]:
                lost.append(f"units.{unit_for(column, kind)!r}")
            if _type(kind.dtype) not in words["types"]:
                lost.append(f"types.{_type(kind.dtype)}")
            lost += [
                f"labels.{name}.{column}.{code}"
                for code in _codes(kind.dtype)
                if russian_label(name, column, code) is None
            ]
    return list(dict.fromkeys(lost))


def _type(dtype: pl.DataType) -> str:
    return str(dtype.base_type())


def _codes(dtype: pl.DataType) -> list[str]:
    return dtype.categories.to_list() if isinstance(dtype, pl.Enum) else []


def _key(table: str, column: str, *, primary: bool, lang: str) -> str:
    parents = [
        f"→ {parent}" for child, name, parent, _ in FOREIGN_KEYS if (child, name) == (table, column)
    ]
    return ", ".join([WORDS[lang]["primary"]] * primary + parents)


def entries(table: str, lang: str = "en") -> list[Entry]:
    """Return the columns of a table in a language.

    Parameters
    ----------
    table : str
        Open or truth table.
    lang : str
        ``"en"`` or ``"ru"``.

    Raises
    ------
    InputError
        No such language.
    """
    _check(lang, LANGUAGES, "Language")
    found = []
    for column, kind in EVERY[table].columns().items():
        unit, shape = unit_for(column, kind), _type(kind.dtype)
        meaning, labels = meaning_of(kind), {code: _spoken(code) for code in _codes(kind.dtype)}
        if lang == "ru":
            words = _russian()
            unit, shape = words["units"].get(unit, unit), words["types"].get(shape, shape)
            meaning = russian_meaning(table, column) or meaning
            labels = {code: russian_label(table, column, code) or code for code in labels}
        key = _key(table, column, primary=kind.primary_key, lang=lang)
        found.append(Entry(column, shape, unit, key, meaning, labels, readers(table, column)))
    return found


def _spoken(code: str) -> str:
    return code.replace("_", " ")


def _about(table: str, lang: str) -> str:
    said = about(EVERY[table])
    return _russian()["tables"].get(table, said) if lang == "ru" else said


def _check(asked: str, options: tuple[str, ...], what: str) -> None:
    if asked not in options:
        raise InputError(
            f"{what} {asked!r} was asked for{near(asked, options)}; there are "
            f"{', '.join(options)}. Choose one of these."
        )


def _categories(entry: Entry) -> str:
    """Write categories as code = word, or as code where the word says no more."""
    return ", ".join(
        code if _spoken(code) == word else f"{code} = {word}" for code, word in entry.labels.items()
    )


def dictionary(lang: str = "en", form: str = "markdown") -> str:
    """Write the whole data dictionary.

    Parameters
    ----------
    lang : str
        ``"en"`` or ``"ru"``.
    form : str
        ``"markdown"`` or ``"html"``.

    Returns
    -------
    str
        A Markdown text, or an HTML page that needs no other file.

    Raises
    ------
    InputError
        No such language or form.
    """
    _check(lang, LANGUAGES, "Language")
    _check(form, FORMS, "Form")
    return _markdown(lang) if form == "markdown" else _html(lang)


def _markdown(lang: str) -> str:
    words = WORDS[lang]
    lines = [f"# {words['title']}", ""]
    for part, tables in PARTS.items():
        lines += [f"## {words[part]}", "", words[f"about_{part}"], ""]
        for table in tables:
            lines += [f"### {table}", "", _about(table, lang), ""]
            if used := readers(table):
                lines += [f"{words['used']}: {', '.join(used)}.", ""]
            lines += [*_markdown_table(table, lang), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: str, lang: str) -> list[str]:
    words = WORDS[lang]
    heads = [words[name] for name in _HEADS]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for entry in entries(table, lang):
        said = f"{entry.meaning}: {_categories(entry)}" if entry.labels else entry.meaning
        said, read = said.replace("|", "\\|"), ", ".join(entry.reports)
        cells = (f"`{entry.name}`", entry.type, entry.unit, entry.key, said, read)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _html(lang: str) -> str:
    words = WORDS[lang]
    parts = []
    for part, tables in PARTS.items():
        parts.append(f"<h2>{words[part]}</h2><p>{words[f'about_{part}']}</p>")
        parts += [_html_table(table, lang) for table in tables]
    links = "".join(
        f"<p>{words[part]}: "
        + " · ".join(f"<a href='#{table}'>{table}</a>" for table in tables)
        + "</p>"
        for part, tables in PARTS.items()
    )
    return (
        f"<!doctype html><html lang='{lang}'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{words['title']}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{words['title']}</h1><nav aria-label='{words['contents']}'>{links}</nav>"
        f"{''.join(parts)}</body></html>\n"
    )


def _html_table(table: str, lang: str) -> str:
    words = WORDS[lang]
    head = "".join(f"<th scope='col'>{words[name]}</th>" for name in _HEADS)
    rows = "".join(_html_row(entry) for entry in entries(table, lang))
    used = readers(table)
    note = f" <small>{words['used']}: {', '.join(used)}.</small>" if used else ""
    return (
        f"<section id='{table}'><h3>{table}</h3><p>{html.escape(_about(table, lang))}{note}</p>"
        f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        "</div></section>"
    )


def _html_row(entry: Entry) -> str:
    said = html.escape(entry.meaning)
    if entry.labels:
        said += f"<br><small>{html.escape(_categories(entry))}</small>"
    key = html.escape(entry.key)
    if entry.key.rpartition("→ ")[2] in EVERY:
        parent = entry.key.rpartition("→ ")[2]
        key = key.replace(f"→ {parent}", f"→ <a href='#{parent}'>{parent}</a>")
    return (
        f"<tr><td><code>{entry.name}</code></td><td>{html.escape(entry.type)}</td>"
        f"<td>{html.escape(entry.unit)}</td><td>{key}</td><td>{said}</td>"
        f"<td><small>{', '.join(entry.reports)}</small></td></tr>"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;"
    "color:#222}table{border-collapse:collapse;width:100%;font-size:14px}"
    "th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}"
    "th{border-bottom:2px solid #888}nav{line-height:2}small{color:#555}.wide{overflow-x:auto}"
    "h3{margin-top:2rem}code{font-size:13px}@media print{nav{display:none}}"
)
