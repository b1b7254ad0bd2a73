"""Settings from outside: a TOML file and `name=value`, each checked for its name, type and range.

A range comes from the setting itself (``metadata["range"]`` of its field) or, where it has none,
from its unit: a share lies in [0, 1], a standard deviation in [0, 10].
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields, is_dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from crm_analysis.errors import InputError, listed, near
from synthetic.config import PRESETS, Config

_FRACTION, _LOGIT = (0.0, 1.0), (-12.0, 12.0)

_BY_UNIT: dict[str, tuple[float, float]] = {
    "share": _FRACTION,
    "probability": _FRACTION,
    "fraction": _FRACTION,
    "of price": _FRACTION,
    "of list price": _FRACTION,
    "of the bill": _FRACTION,
    "sd": (0.0, 10.0),
    "log sd": (0.0, 5.0),
    "logit": _LOGIT,
    "logit a unit of skill": _LOGIT,
    "log": _LOGIT,
    "log a year": (-2.0, 2.0),
    "units": _LOGIT,
    "per unit": _LOGIT,
    "ratio": (0.0, 100.0),
    "ratio to the mean month": (0.0, 12.0),
    "a year": (1e-6, 50.0),
    "mean count": (0.0, 8.0),
    "k": (0.1, 100.0),
    "shape": (0.1, 100.0),
    "minutes": (0.1, 100_000.0),
    "days": (0.0, 3_650.0),
    "months": (0.0, 240.0),
    "years": (0.1, 60.0),
    "km a year": (100.0, 500_000.0),
    "roubles": (0.0, 1e9),
    "dollars": (0.0, 1e7),
    "million roubles": (0.01, 1_000.0),
    "weeks": (1.0, 520.0),
    "days of usual spend": (0.01, 1_000.0),
    "of the base intensity": (0.0, 100.0),
    "1 or 0": _FRACTION,
    "log a share": _LOGIT,
    "log a log": _LOGIT,
    "logit a share of list price": (-100.0, 100.0),
    "logit sd": (0.0, 10.0),
    "fraction of the best": _FRACTION,
    "a currency unit": _FRACTION,
    "usual service orders": (0.0, 1_000.0),
    "count": (0.0, 1_000.0),
    "a customer": (0.0, 1.0),
}
"""Least and greatest value by unit; a unit that is not here takes any finite number."""

_BY_START = {"share of": _FRACTION, "logit": _LOGIT, "log ": _LOGIT}
"""Ranges of units that begin like this."""

_TOP: dict[str, tuple[float, float]] = {
    "n_customers": (0, 1_000_000_000),
    "n_dealerships": (1, 2_000),
    "sales_seats": (1, 250),
    "advisors": (1, 250),
    "block_size": (1, 1_000_000),
}
"""Ranges of the sizes of a world."""

_TOP_MEANING = {
    "n_customers": "customers, prospects included",
    "n_dealerships": "dealerships of the network",
    "starts_on": "first day of the world",
    "ends_on": "last day of the world",
    "as_of": "last day that the CRM has seen",
    "locale": "names, cities and currency: en_US or ru_RU",
    "sales_seats": "places for sales managers in each dealership",
    "advisors": "service advisors in each dealership",
    "block_size": "customers made at a time; changes memory, not data",
    "defects": "how badly the CRM is kept: none, light, medium or heavy",
}
"""What the settings at the top mean: choices of a preset, without a source."""

_HIDDEN = ("preset",)


def _parts(config: Config) -> dict[str, tuple[str, Field[Any], Any]]:
    """Return every setting by its full name: its section ("" at the top), its field, its value."""
    found: dict[str, tuple[str, Field[Any], Any]] = {}
    for part in fields(config):
        value = getattr(config, part.name)
        if is_dataclass(value):
            inside = ((f"{part.name}.{item.name}", item) for item in fields(value))
            found |= {name: (part.name, item, getattr(value, item.name)) for name, item in inside}
        elif part.name not in _HIDDEN:
            found[part.name] = ("", part, value)
    return found


def names_of(config: Config) -> list[str]:
    """Return the full names of all settings.

    Examples
    --------
    >>> "relation.hazard" in names_of(Config())
    True
    """
    return list(_parts(config))


@cache
def _known_fields() -> dict[str, Field[Any]]:
    """Return the field of each setting; all configurations have the same."""
    return {name: item for name, (_, item, _) in _parts(Config()).items()}


def range_of(name: str) -> tuple[float, float] | None:
    """Return the least and greatest value of a setting, None where any finite number will do.

    Examples
    --------
    >>> range_of("money.credit_share")
    (0.0, 1.0)
    """
    item = _known_fields()[name]
    said = item.metadata.get("range") or _TOP.get(name)
    unit = str(item.metadata.get("unit", ""))
    alike = [bounds for start, bounds in _BY_START.items() if unit.startswith(start)]
    found = said or _BY_UNIT.get(unit) or (alike[0] if alike else None)
    return (float(found[0]), float(found[1])) if found else None


def _span(name: str) -> str:
    bounds = range_of(name)
    return f"from {bounds[0]:g} to {bounds[1]:g}" if bounds else "any finite number"


def _refuse(name: str, asked: Any, wanted: str) -> InputError:
    return InputError(
        f"Setting {name!r} was asked for with {asked!r}, and it takes {wanted}. Give it such a "
        "value, or leave it out for the preset's own."
    )


def _number(name: str, asked: Any, old: float) -> float | int:
    """Return a number of the old one's type inside the setting's range."""
    whole = isinstance(old, int)
    kind = "a whole number" if whole else "a number"
    good = isinstance(asked, int if whole else int | float) and not isinstance(asked, bool)
    if not good or not math.isfinite(asked):
        raise _refuse(name, asked, f"{kind} {_span(name)}")
    bounds = range_of(name)
    if bounds and not bounds[0] <= asked <= bounds[1]:
        raise _refuse(name, asked, f"{kind} {_span(name)}")
    return int(asked) if whole else float(asked)


def _is_table(old: Any) -> bool:
    """Say whether a value is a table of (key, number …) pairs."""
    return bool(old) and all(isinstance(row, tuple) and len(row) == 2 for row in old)


def _tuple(name: str, asked: Any, old: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(asked, Mapping):
        asked = [[_key(key, old), value] for key, value in asked.items()]
    if not isinstance(asked, list | tuple):
        raise _refuse(name, asked, f"a list such as {_plain(old)!r}")
    if _is_table(old):
        return tuple(_row(name, row, old) for row in asked)
    if len(asked) != len(old):
        raise _refuse(name, asked, f"{len(old)} values such as {_plain(old)!r}")
    pairs = zip(asked, old, strict=True)
    return tuple(_converted(name, new, before) for new, before in pairs)


def _key(key: Any, old: tuple[Any, ...]) -> Any:
    whole = old and isinstance(old[0], tuple) and isinstance(old[0][0], int)
    return int(key) if whole and str(key).lstrip("-").isdigit() else key


def _row(name: str, row: Any, old: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return one (key, value) pair; words as keys must be those of the preset."""
    if not isinstance(row, list | tuple) or len(row) != 2:
        raise _refuse(name, row, f"pairs such as {_plain(old[0])!r}")
    key, value = row
    known = [before[0] for before in old]
    if isinstance(known[0], str) and key not in known:
        raise _refuse(name, key, f"the keys {listed(known)}{near(str(key), known)}")
    if type(key) is not type(known[0]):
        raise _refuse(name, key, f"keys such as {known[0]!r}")
    return key, _converted(name, value, old[0][1])


def _converted(name: str, asked: Any, old: Any) -> Any:
    """Return a value from outside in the type of the one it replaces, checked for its range."""
    if isinstance(old, bool):
        if not isinstance(asked, bool):
            raise _refuse(name, asked, "true or false")
        return asked
    if isinstance(old, int | float):
        return _number(name, asked, old)
    if isinstance(old, date):
        return _date(name, asked)
    if isinstance(old, tuple):
        return _tuple(name, asked, old)
    if isinstance(old, str) and not isinstance(asked, str):
        raise _refuse(name, asked, "a word")
    return asked


def _date(name: str, asked: Any) -> date:
    try:
        return asked if isinstance(asked, date) else date.fromisoformat(str(asked))
    except ValueError as error:
        raise _refuse(name, asked, "a date, YYYY-MM-DD") from error


def _flat(data: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Write the sections of a TOML file as full names."""
    sections = {part.name for part in fields(config) if is_dataclass(getattr(config, part.name))}
    found: dict[str, Any] = {}
    for name, value in data.items():
        if name in sections and isinstance(value, Mapping):
            found |= {f"{name}.{inside}": new for inside, new in value.items()}
        else:
            found[name] = value
    return found


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file: sections are those of `Config`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Values by full name, not yet checked; `with_settings` checks them.

    Raises
    ------
    InputError
        The file cannot be read, or is not TOML.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"The settings {path} were asked for, and the file cannot be read "
            f"({error.strerror}). Check the path; 'settings --format toml' prints one to start "
            "from."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"The settings {path} were asked for, and the file is not TOML ({error}). Correct it; "
            "'settings --format toml' prints one to start from."
        ) from error
    return _flat(data, Config())


def parse_settings(words: Iterable[str]) -> dict[str, Any]:
    """Read settings from words such as ``relation.hazard=0.1``.

    Raises
    ------
    InputError
        A word is not name=value.

    Examples
    --------
    >>> parse_settings(["relation.hazard=0.1", "locale=ru_RU", "as_of=2024-06-30"])
    {'relation.hazard': 0.1, 'locale': 'ru_RU', 'as_of': datetime.date(2024, 6, 30)}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.strip():
            raise InputError(
                f"--set was given {word!r}. Write it as name=value, for example "
                "--set relation.hazard=0.1."
            )
        found[name.strip()] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return a configuration with settings changed by their full names.

    Parameters
    ----------
    config : Config
        What to start from.
    settings : mapping of str to value
        Full names (``relation.hazard``, ``n_customers``) and values.

    Raises
    ------
    InputError
        No such setting, or a value of another type or out of its range.

    Examples
    --------
    >>> with_settings(Config(), {"relation.hazard": 0.1}).relation.hazard
    0.1
    """
    known = _parts(config)
    top: dict[str, Any] = {}
    inside: dict[str, dict[str, Any]] = {}
    for name, asked in settings.items():
        if name not in known:
            raise InputError(
                f"Setting {name!r} was asked for{_alike(name, known)}. The command "
                "'python -m synthetic settings' lists all of them with their ranges."
            )
        section, item, old = known[name]
        value = _converted(name, asked, old)
        (inside.setdefault(section, {}) if section else top)[item.name] = value
    parts = {name: replace(getattr(config, name), **new) for name, new in inside.items()}
    return replace(config, **top, **parts)


def check_settings(config: Config) -> None:
    """Refuse a configuration with a setting out of its range, however it was built.

    Raises
    ------
    InputError
        A setting is out of its range.
    """
    for name, (_, _, value) in _parts(config).items():
        _within(name, value)


def _within(name: str, value: Any) -> None:
    if isinstance(value, tuple):
        for part in value:
            keyed = isinstance(part, tuple) and len(part) == 2
            _within(name, part[1] if keyed else part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(name, value, value)


def _alike(name: str, known: Iterable[str]) -> str:
    """Say which full name an unknown one resembles, with or without its section."""
    known = list(known)
    said = near(name, known)
    if said:
        return said
    last = {full.rpartition(".")[2]: full for full in known}
    word = name.rpartition(".")[2]
    close = word if word in last else near(word, last).partition("'")[2].partition("'")[0]
    return f" (did you mean {last[close]!r}?)" if close else ", and there is no such setting"


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def changed_settings(config: Config) -> dict[str, Any]:
    """Return the settings that differ from the preset's own, by full name; block size apart."""
    base = _parts(PRESETS.get(config.preset, Config()))
    return {
        name: value.isoformat() if isinstance(value, date) else _plain(value)
        for name, (_, _, value) in _parts(config).items()
        if name != "block_size" and value != base[name][2]
    }


def settings_rows(config: Config) -> list[dict[str, str]]:
    """List every setting: name, value, unit, range, meaning, source, confidence."""
    rows = []
    for name, (_, item, value) in _parts(config).items():
        bounds = range_of(name)
        rows.append(
            {
                "name": name,
                "value": as_toml(value),
                "unit": str(item.metadata.get("unit", "")),
                "range": f"{bounds[0]:g} … {bounds[1]:g}" if bounds else "",
                "meaning": str(item.metadata.get("meaning") or _TOP_MEANING.get(name, "")),
                "source": str(item.metadata.get("source", "")),
                "confidence": str(item.metadata.get("confidence", "") or "a choice"),
            }
        )
    return rows


def as_toml(value: Any) -> str:
    """Write a value as TOML.

    Examples
    --------
    >>> as_toml((("web", 0.3), ("phone", 0.24)))
    '[["web", 0.3], ["phone", 0.24]]'
    """
    if isinstance(value, tuple):
        return f"[{', '.join(as_toml(part) for part in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def settings_toml(config: Config) -> str:
    """Write a configuration as a TOML file that `read_settings` reads back."""
    return rows_toml(settings_rows(config))


def rows_toml(rows: Iterable[Mapping[str, str]]) -> str:
    """Write rows of settings as a TOML file, meanings and sources as comments."""
    lines: list[str] = []
    section = ""
    for row in rows:
        where, _, last = row["name"].rpartition(".")
        if where != section:
            lines += ["", f"[{where}]"]
            section = where
        if row["meaning"]:
            unit = f" [{row['unit']}]" if row["unit"] else ""
            source = f"; {row['source']} ({row['confidence']})" if row["source"] else ""
            lines.append(f"# {row['meaning']}{unit}{source}")
        lines.append(f"{last} = {row['value']}")
    return "\n".join(lines).strip() + "\n"
