"""What a mapping file says: which columns of an export become which columns of ours.

A mapping is TOML and only data: nothing in it, and nothing in the export, is ever run. Every
key is checked by name and type before a file is opened, so that a slip costs a second.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from crm_analysis.errors import InputError, listed, near
from crm_analysis.intake.described import (
    MISSING,
    TYPES,
    Audit,
    ColumnMap,
    Condition,
    Intake,
    Join,
    Part,
    Source,
    TableMap,
)

__all__ = ["AUDITS", "read_mapping"]

Keys = Mapping[str, type | tuple[type, ...]]

TESTS: Keys = {
    "one_of": list,
    "not_one_of": list,
    "is": str,
    "less_than": (int, float),
    "more_than": (int, float),
    "before": date,
    "after": date,
    "earlier_than": str,
}
"""What a condition can ask of its column."""

_OF_CONDITION: Keys = {**TESTS, "column": str, "format": str, "reason": str}
_OF_COLUMN: Keys = {
    "from": str,
    "value": (str, int, float, bool, date),
    "as_of": bool,
    "months_before_as_of": str,
    "format": str,
    "values": dict,
    "otherwise": str,
    "recode": str,
    "type": str,
    "round": bool,
    "remove": list,
    "when": dict,
}
_ORIGINS = ("from", "value", "as_of", "months_before_as_of")
_OF_SOURCE: Keys = {
    "file": str,
    "separator": str,
    "encoding": str,
    "decimal": str,
    "thousands": str,
    "missing": list,
    "key": (str, list),
    "corrections": dict,
    "join": list,
}
_OF_JOIN: Keys = {"source": str, "key": str, "their_key": str, "take": dict}
_OF_PART: Keys = {"only": dict, "leave_out": list, "columns": dict}
_OF_TABLE: Keys = {
    "source": str,
    "leave_out": list,
    "columns": dict,
    "part": list,
    "empty": str,
    "distinct": bool,
}
_OF_FILE: Keys = {
    "title": str,
    "origin": str,
    "licence": str,
    "as_of": date,
    "currency": str,
    "sources": dict,
    "tables": dict,
    "audit": list,
    "caution": list,
}
_OF_AUDIT: Keys = {"kind": str, "source": str}
AUDITS: Mapping[str, Keys] = {
    "missing_by": {"column": str, "by": str},
    "weekdays": {"column": str, "format": str},
    "starts_late": {"first": str, "then": str, "format": str},
    "stale": {"first": str, "then": str, "format": str},
    "differs_by": {"column": str, "of": list, "among": list, "by": str},
    "differs_by_month_of_quarter": {
        "column": str,
        "of": list,
        "among": list,
        "by": str,
        "format": str,
    },
    "capped": {"column": str},
    "not_positive": {"column": str},
    "few_bring_most": {"column": str, "by": str},
    "same": {"columns": list},
}
"""Questions that can be put to an export, and what each needs to know."""


def read_mapping(path: Path) -> Intake:
    """Read and check a mapping file.

    Raises
    ------
    InputError
        The file cannot be read or is not TOML; a key is unknown (with the near name), missing or
        of another type; a table names a source, or a column a rule, that does not exist.
    """
    table = _read_toml(path)
    where = f"The mapping {path.name}"
    _check(table, _OF_FILE, where, needed=("title", "origin", "licence", "as_of"))
    sources = {
        name: _source(name, spec, f"{where}, [sources.{name}]")
        for name, spec in _named(table, "sources", where)
    }
    tables = {
        name: _table(name, spec, sources, f"{where}, [tables.{name}]")
        for name, spec in _named(table, "tables", where)
    }
    return Intake(
        path=path,
        title=table["title"],
        origin=table["origin"],
        licence=table["licence"],
        as_of=table["as_of"],
        currency=table.get("currency"),
        sources=sources,
        tables=tables,
        audits=tuple(_audit(spec, sources, where) for spec in table.get("audit", [])),
        cautions=tuple(_caution(spec, where) for spec in table.get("caution", [])),
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"The mapping {path} cannot be opened: {error.strerror}. "
            "Mappings lie in reports/intake/*.toml."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The mapping {path} is not TOML: {error}.") from error


def _check(table: Any, allowed: Keys, where: str, *, needed: Sequence[str] = ()) -> None:
    if not isinstance(table, dict):
        raise InputError(f"{where} must be a table of keys and values, not {table!r}.")
    for key, value in table.items():
        if key not in allowed:
            raise InputError(
                f"{where} has an unknown key {key!r}{near(key, allowed)}. "
                f"It may have: {listed(sorted(allowed))}."
            )
        wanted = allowed[key]
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        # TOML's true is no number, and a date with a time is no day.
        if type(value) not in kinds:
            words = " or ".join(kind.__name__ for kind in kinds)
            raise InputError(f"{where}: {key!r} must be {words}, not {value!r}.")
    for key in needed:
        if key not in table:
            raise InputError(f"{where} lacks {key!r}. It needs: {listed(needed)}.")


def _named(table: Mapping[str, Any], key: str, where: str) -> Sequence[tuple[str, Any]]:
    if not table.get(key):
        raise InputError(f"{where} has no [{key}.…]. Describe at least one.")
    return list(table[key].items())


def _source(name: str, spec: Any, where: str) -> Source:
    _check(spec, _OF_SOURCE, where, needed=("file",))
    key = spec.get("key", ())
    corrections = spec.get("corrections", {})
    for column, changes in corrections.items():
        if not isinstance(changes, dict):
            raise InputError(
                f"{where}: the corrections of {column!r} must map what is written to what is "
                f'meant, such as {{ "GTXPro" = "GTX Pro" }}; got {changes!r}.'
            )
    for sign in ("separator", "decimal"):
        if len(spec.get(sign, ",")) != 1:
            raise InputError(f"{where}: {sign!r} must be one sign, not {spec[sign]!r}.")
    known = {k: spec[k] for k in ("separator", "encoding", "decimal", "thousands") if k in spec}
    return Source(
        name=name,
        file=spec["file"],
        missing=tuple(str(word) for word in spec.get("missing", MISSING)),
        key=(key,) if isinstance(key, str) else tuple(key),
        corrections=corrections,
        joins=tuple(_join(item, f"{where}, join") for item in spec.get("join", [])),
        **known,
    )


def _join(spec: Any, where: str) -> Join:
    _check(spec, _OF_JOIN, where, needed=("source", "key", "take"))
    return Join(spec["source"], spec["key"], spec.get("their_key", spec["key"]), spec["take"])


def _table(name: str, spec: Any, sources: Mapping[str, Source], where: str) -> TableMap:
    _check(spec, _OF_TABLE, where, needed=("source",))
    _known_source(spec["source"], sources, where)
    shared = spec.get("columns", {})
    parts = spec.get("part") or [{}]
    return TableMap(
        name=name,
        source=spec["source"],
        leave_out=_conditions(spec.get("leave_out", []), where),
        parts=tuple(_part(part, shared, where) for part in parts),
        empty=spec.get("empty", ""),
        distinct=spec.get("distinct", False),
    )


def _known_source(name: str, sources: Mapping[str, Source], where: str) -> None:
    if name not in sources:
        raise InputError(
            f"{where} reads the source {name!r}{near(name, sources)}, which is not described. "
            f"Described are: {listed(sources)}."
        )


def _part(spec: Any, shared: Mapping[str, Any], where: str) -> Part:
    _check(spec, _OF_PART, f"{where}, part")
    columns = {**shared, **spec.get("columns", {})}
    only = spec.get("only")
    return Part(
        columns={name: _column(name, item, where) for name, item in columns.items()},
        only=None if only is None else _condition(only, f"{where}, only"),
        leave_out=_conditions(spec.get("leave_out", []), where),
    )


def _column(name: str, spec: Any, where: str) -> ColumnMap:
    where = f"{where}, column {name!r}"
    if isinstance(spec, str):
        spec = {"from": spec}
    _check(spec, _OF_COLUMN, where)
    given = [key for key in _ORIGINS if spec.get(key) is not None]
    if len(given) != 1:
        raise InputError(
            f"{where} must say once where it comes from, by one of {listed(_ORIGINS)}; "
            f"it says {listed(given)}."
        )
    _check_word(spec, "otherwise", ("refuse", "missing", "keep"), where)
    _check_word(spec, "type", TYPES, where)
    return ColumnMap(
        name=name,
        origin=spec.get("from"),
        value=spec.get("value"),
        as_of=spec.get("as_of", False),
        months_before_as_of=spec.get("months_before_as_of"),
        format=spec.get("format"),
        values=spec.get("values", {}),
        otherwise=spec.get("otherwise", "refuse"),
        recode=spec.get("recode"),
        type=spec.get("type"),
        round=spec.get("round", False),
        remove=tuple(str(sign) for sign in spec.get("remove", ())),
        when=_condition(spec["when"], f"{where}, when") if "when" in spec else None,
    )


def _check_word(spec: Mapping[str, Any], key: str, allowed: Sequence[str], where: str) -> None:
    if key in spec and spec[key] not in allowed:
        raise InputError(
            f"{where}: {key!r} is {spec[key]!r}{near(spec[key], allowed)}. "
            f"It may be: {listed(allowed)}."
        )


def _conditions(specs: Sequence[Any], where: str) -> tuple[Condition, ...]:
    found = tuple(_condition(spec, f"{where}, leave_out") for spec in specs)
    for condition in found:
        if not condition.reason:
            raise InputError(
                f"{where}: the rule on {condition.column!r} leaves rows out without a reason. "
                'Add reason = "…": the report says it.'
            )
    return found


def _condition(spec: Any, where: str) -> Condition:
    _check(spec, _OF_CONDITION, where, needed=("column",))
    tests = [key for key in TESTS if key in spec]
    if len(tests) != 1:
        raise InputError(
            f"{where} must ask one thing of {spec['column']!r}, by one of {listed(TESTS)}; "
            f"it has {listed(tests)}."
        )
    test = tests[0]
    _check_word(spec, "is", ("missing", "filled", "repeated"), where)
    if test in ("before", "after", "earlier_than") and "format" not in spec:
        raise InputError(
            f"{where} compares dates of {spec['column']!r} without saying how they are written. "
            'Add format = "%Y-%m-%d", or as the file has them.'
        )
    return Condition(spec["column"], test, spec[test], spec.get("format"), spec.get("reason", ""))


def _audit(spec: Any, sources: Mapping[str, Source], where: str) -> Audit:
    kind = str(spec.get("kind")) if isinstance(spec, dict) else ""
    if kind not in AUDITS:
        raise InputError(
            f"{where} asks for the audit {kind!r}{near(kind, AUDITS)}. There are: {listed(AUDITS)}."
        )
    asked = AUDITS[kind]
    where = f"{where}, audit {kind!r}"
    _check(spec, {**_OF_AUDIT, **asked}, where, needed=("source", *asked))
    _known_source(spec["source"], sources, where)
    return Audit(kind, spec["source"], {key: spec[key] for key in asked})


def _caution(spec: Any, where: str) -> Mapping[str, str]:
    _check(spec, {"en": str, "ru": str}, f"{where}, caution", needed=("en",))
    return dict(spec)
