"""Check tables against their schema once, and remember that they passed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from crm_analysis import schema as schema_module
from crm_analysis.errors import ColumnError, InputError, SchemaError, near
from crm_analysis.schema import FOREIGN_KEYS, TABLES_AND_VIEWS, rule_columns
from crm_analysis.warehouse.sources import Source

if TYPE_CHECKING:
    import dataframely as dy

Tables = Callable[[str], pl.LazyFrame]

MOST_PROBLEMS = 8
"""Broken rules that one message lists; the rest are counted."""


def _same_kind(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Say whether a column can be read as its schema's type without changing what it means."""
    if found == wanted or found == pl.Null():
        return True
    if isinstance(wanted, pl.Enum):
        return isinstance(found, pl.Enum | pl.Categorical | pl.String)
    if wanted.is_integer():
        return found.is_integer()
    if wanted.is_float():
        return found.is_numeric()
    if isinstance(wanted, pl.Datetime):
        return isinstance(found, pl.Datetime) and found.time_zone is None
    return False


def conform(name: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return a table with its schema's columns first and in their types, and any others after them.

    Raises
    ------
    ColumnError
        A column is missing, or holds another kind of value.
    InputError
        The table's file cannot be read at all.
    """
    try:
        found = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"Table {name!r} was asked for, and its file cannot be read: {error}. It is damaged or "
            "of another format: make or export it again."
        ) from error
    columns = TABLES_AND_VIEWS[name].columns()
    missing = [column for column in columns if column not in found]
    if missing:
        hints = ", ".join(f"{column!r}{near(column, found.names())}" for column in missing)
        raise ColumnError(
            f"Table {name!r} was asked for column {hints}, and it has: "
            f"{', '.join(found.names())}. Add or rename the column at the source; where nothing "
            "is known, fill it with nulls if it may be null."
        )
    wrong = [c for c, kind in columns.items() if not _same_kind(found[c], kind.dtype)]
    if wrong:
        column = wrong[0]
        raise ColumnError(
            f"Column {column!r} of table {name!r} should be {columns[column].dtype}, and it is "
            f"{found[column]}{_others(wrong)}. Convert it at the source."
        )
    return frame.select(
        *(pl.col(column).cast(kind.dtype, strict=False) for column, kind in columns.items()),
        pl.exclude(*columns),
    )


def _others(wrong: list[str]) -> str:
    return f" (so are {', '.join(wrong[1:])} of another type)" if len(wrong) > 1 else ""


def _example(table: type[dy.Schema], row: Mapping[str, Any], columns: list[str]) -> str:
    """Write a row's keys and the values in question, without what names a person."""
    shown = list(dict.fromkeys([*table.primary_key(), *columns]))
    facts = {name: column.metadata or {} for name, column in table.columns().items()}
    values = (
        f"{name} = {'(personal, not shown)' if facts.get(name, {}).get('personal') else row[name]}"
        for name in shown
    )
    return ", ".join(values)


def _broken_rules(name: str, frame: pl.LazyFrame) -> Iterator[str]:
    """Describe each rule of its schema that a table breaks."""
    table = TABLES_AND_VIEWS[name]
    _, failure = table.filter(frame)
    failed = failure.details()
    for rule, count in sorted(failure.counts().items()):
        row = failed.filter(pl.col(rule) == "invalid").row(0, named=True)
        yield _sentence(
            name, rule.replace("|", ": "), count, _example(table, row, rule_columns(table, rule))
        )


def _sentence(name: str, rule: str, count: int, example: str) -> str:
    rows = "1 row breaks it" if count == 1 else f"{count:,} rows break it"
    return f"table {name!r}, rule '{rule}': {rows}, for example {example}"


def _unknown_categories(name: str, raw: pl.LazyFrame) -> Iterator[str]:
    """Describe texts that are not among a column's categories (the cast made them null)."""
    table = TABLES_AND_VIEWS[name]
    for column, kind in table.columns().items():
        wanted, found = kind.dtype, raw.collect_schema()[column]
        if not isinstance(wanted, pl.Enum) or found == wanted:
            continue
        text = pl.col(column).cast(pl.String)
        bad = raw.filter(text.is_not_null() & ~text.is_in(wanted.categories.to_list()))
        count = bad.select(pl.len()).collect().item()
        if count:
            row = bad.head(1).collect().row(0, named=True)
            options = ", ".join(wanted.categories)
            yield _sentence(
                name, f"{column} is one of {options}", count, _example(table, row, [column])
            )


def _orphans(tables: Tables, names: tuple[str, ...]) -> Iterator[str]:
    """Describe keys that point nowhere, by one anti-join each."""
    for child, column, parent, key in FOREIGN_KEYS:
        if child not in names or parent not in names:
            continue
        known = tables(parent).select(pl.col(key).alias(column)).unique()
        lost = tables(child).filter(pl.col(column).is_not_null()).join(known, on=column, how="anti")
        found = lost.select(
            *dict.fromkeys([*TABLES_AND_VIEWS[child].primary_key(), column])
        ).collect()
        if found.height:
            example = _example(TABLES_AND_VIEWS[child], found.row(0, named=True), [column])
            yield _sentence(child, f"{column} is in {parent}", found.height, example)


def _scores_outside(tables: Tables, names: tuple[str, ...]) -> Iterator[str]:
    """Describe answers outside their question's scale."""
    if "survey_answers" not in names or "survey_questions" not in names:
        return
    scales = tables("survey_questions").select("question_id", "scale_min", "scale_max")
    outside = ~pl.col("value").is_between("scale_min", "scale_max")
    wrong = tables("survey_answers").join(scales, on="question_id").filter(outside)
    found = wrong.select("survey_id", "question_id", "value", "scale_min", "scale_max").collect()
    if found.height:
        row = found.row(0, named=True)
        example = ", ".join(f"{column} = {value}" for column, value in row.items())
        yield _sentence("survey_answers", "value is on its question's scale", found.height, example)


def find_problems(source: Source) -> list[str]:
    """Return a sentence for each rule that the tables of a source break."""
    names = source.names()
    ready = {name: conform(name, source.scan(name)) for name in names}
    problems = [
        *(line for name in names for line in _unknown_categories(name, source.scan(name))),
        *(line for name in names for line in _broken_rules(name, ready[name])),
    ]
    if problems:
        return problems
    return [*_orphans(ready.__getitem__, names), *_scores_outside(ready.__getitem__, names)]


def check(source: Source) -> None:
    """Check every table of a source, unless the same files have passed before.

    Raises
    ------
    ColumnError
        A column is missing or of another type.
    SchemaError
        Rows break a rule; the message says which, how many, and gives an example of each.
    """
    now = _fingerprint(source)
    if _remembered(source.stamp()) == now:
        return
    problems = find_problems(source)
    if problems:
        lines = "\n".join(f"- {line}" for line in problems[:MOST_PROBLEMS])
        more = (
            f"\n- and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        )
        raise SchemaError(
            f"The tables in {source.path} were checked, and they break {len(problems)} of their "
            f"rules:\n{lines}{more}\n{_advice(source.manifest())}"
        )
    _remember(source.stamp(), now)


def _advice(facts: Mapping[str, Any]) -> str:
    """Say what to do with rows that break a rule; made data may be wrong on purpose."""
    level = facts.get("defects", "none")
    if level == "none":
        return "Correct the rows at the source, or open with check=False to look at them."
    return (
        f"Their manifest says that they were made with {level} defects on purpose, each labelled "
        "in the table truth_defect of their truth. Open them with check=False to work on them as "
        "they are, or take the labels off with synthetic.repair to have them clean."
    )


def _fingerprint(source: Source) -> dict[str, Any]:
    """Return what a check depends on: the rules, the files' sizes and times, and the manifest."""
    rules = b"".join(
        Path(str(module)).read_bytes() for module in (schema_module.__file__, __file__)
    )
    facts = json.dumps(source.manifest(), sort_keys=True).encode()
    files = {file: file.stat() for file in source.files()}
    return {
        "rules": hashlib.sha256(rules).hexdigest(),
        "manifest": hashlib.sha256(facts).hexdigest(),
        "files": {file.name: [stat.st_size, stat.st_mtime_ns] for file, stat in files.items()},
    }


def _remembered(stamp: Path) -> Any:
    try:
        return json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _remember(stamp: Path, fingerprint: dict[str, Any]) -> None:
    """Keep the mark of a passed check; a folder that cannot be written to is checked again."""
    try:
        stamp.write_text(json.dumps(fingerprint, indent=1) + "\n", encoding="utf-8")
    except OSError:
        return
