"""Check a data set: its files, schema, keys, order in time, rules between tables, and its truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from crm_analysis.schema import FOREIGN_KEYS, rule_columns
from synthetic.reading import EVERY, DataSet
from synthetic.rules import RULES, Rule

if TYPE_CHECKING:
    import dataframely as dy

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Problem:
    """A rule that rows break.

    Attributes
    ----------
    kind : str
        files, schema, keys, time, rules or truth.
    table, rule : str
        The table and what should hold.
    rows : int
        Rows that break it.
    example : str
        Keys and values of one of them.
    """

    kind: str
    table: str
    rule: str
    rows: int
    example: str

    def __str__(self) -> str:
        """Say it in one line."""
        count = "1 row breaks it" if self.rows == 1 else f"{self.rows:,} rows break it"
        return (
            f"{self.kind}: table {self.table!r}, {self.rule}: {count}, for example {self.example}"
        )


@dataclass(frozen=True)
class Report:
    """What a check looked at and found.

    Attributes
    ----------
    problems : tuple of Problem
        Empty when the data hold.
    n_rules : int
        Rules looked at.
    skipped : tuple of str
        Rules that need a table that is not there.
    """

    problems: tuple[Problem, ...]
    n_rules: int
    skipped: tuple[str, ...]
    note: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        found = f"{len(self.problems)} broken" if self.problems else "all hold"
        note = f" ({self.note})" if self.note else ""
        return f"{self.n_rules} rules looked at, {found}{note}"


def _shown(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in row.items())


def _digest_problem(data: DataSet, name: str, said: dict[str, Any]) -> Iterator[Problem]:
    rows = data.everything[name].select(pl.len()).collect().item()
    if rows != said.get("rows", rows):
        text = f"manifest {said['rows']:,}, file {rows:,}"
        yield Problem("files", name, "rows as the manifest says", abs(rows - said["rows"]), text)
    file = data.file(name)
    if "sha256" in said and file.exists():
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != said["sha256"]:
            text = f"manifest {said['sha256'][:12]}…, file {found[:12]}…"
            yield Problem("files", name, "hash as the manifest says", rows, text)


def _file_problems(data: DataSet) -> Iterator[Problem]:
    for name, said in data.sums().items():
        if name not in data.everything:
            yield Problem("files", name, "the manifest's table is there", 1, str(data.file(name)))
        else:
            yield from _digest_problem(data, name, said)


def _column_problems(name: str, frame: pl.LazyFrame) -> Iterator[Problem]:
    """Find columns that are missing or of another type."""
    found = frame.collect_schema()
    for column, kind in EVERY[name].columns().items():
        if column not in found:
            yield Problem("schema", name, f"has column {column!r}", 1, listing(found))
        elif not _reads_as(found[column], kind.dtype):
            text = f"it is {found[column]}"
            yield Problem("schema", name, f"{column} is {kind.dtype}", 1, text)


def listing(found: pl.Schema) -> str:
    """Say which columns a table has."""
    return f"it has {', '.join(found.names())}"


def _reads_as(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Say whether a column has its type, or DuckDB's own form of it."""
    if isinstance(wanted, pl.Enum):
        return isinstance(found, pl.Enum | pl.Categorical | pl.String)
    return found == wanted


def _conformed(name: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    columns = EVERY[name].columns()
    return frame.select(pl.col(c).cast(k.dtype, strict=False) for c, k in columns.items())


def _schema_problems(name: str, frame: pl.LazyFrame) -> Iterator[Problem]:
    table = EVERY[name]
    _, failure = table.filter(frame)
    counts = failure.counts()
    if not counts:
        return
    failed = failure.details()
    for rule, count in sorted(counts.items()):
        row = failed.filter(pl.col(rule) == "invalid").row(0, named=True)
        kind = "keys" if rule in {"primary_key", "unique"} else "schema"
        example = _shown({column: row[column] for column in _columns(table, rule)})
        yield Problem(kind, name, rule.replace("|", ": "), count, example)


def _columns(table: type[dy.Schema], rule: str) -> list[str]:
    return list(dict.fromkeys([*table.primary_key(), *rule_columns(table, rule)]))


def _category_problems(name: str, raw: pl.LazyFrame) -> Iterator[Problem]:
    """Find texts that are not among a column's categories (the cast makes them null)."""
    found = raw.collect_schema()
    for column, kind in EVERY[name].columns().items():
        if not isinstance(kind.dtype, pl.Enum) or found[column] == kind.dtype:
            continue
        text = pl.col(column).cast(pl.String)
        bad = raw.filter(text.is_not_null() & ~text.is_in(kind.dtype.categories.to_list()))
        rows = bad.select(column).collect()
        if rows.height:
            rule = f"{column} is one of {', '.join(kind.dtype.categories)}"
            yield Problem("schema", name, rule, rows.height, f"{column} = {rows.item(0, 0)}")


def _orphans(frames: dict[str, pl.LazyFrame]) -> Iterator[Problem]:
    for child, column, parent, key in FOREIGN_KEYS:
        if child not in frames or parent not in frames:
            continue
        known = frames[parent].select(pl.col(key).alias(column)).unique()
        lost = frames[child].filter(pl.col(column).is_not_null())
        keys = list(dict.fromkeys([*EVERY[child].primary_key(), column]))
        rows = lost.join(known, on=column, how="anti").select(keys).collect()
        if rows.height:
            example = _shown(rows.row(0, named=True))
            yield Problem("keys", child, f"{column} is in {parent}", rows.height, example)


def _future(frames: dict[str, pl.LazyFrame], as_of: date) -> Iterator[Problem]:
    """Find dates after the last day of the data; what is planned may lie ahead."""
    for name, frame in frames.items():
        if name.startswith("truth_"):
            continue
        moments = [
            column
            for column, kind in EVERY[name].columns().items()
            if kind.dtype.is_temporal() and not column.startswith(AHEAD)
        ]
        for column in moments:
            late = frame.filter(pl.col(column).cast(pl.Date) > as_of)
            keys = dict.fromkeys([*EVERY[name].primary_key(), column])
            rows = late.select(list(keys)).collect()
            if rows.height:
                rule = f"{column} is not after {as_of}"
                yield Problem("time", name, rule, rows.height, _shown(rows.row(0, named=True)))


AHEAD = ("next_due", "due_", "expires_", "ends_")
"""Columns that may speak of days to come, by how their names begin."""


def _broken(rule: Rule, frames: dict[str, pl.LazyFrame]) -> Iterator[Problem]:
    rows = rule.find(frames).collect()
    if rows.height:
        example = _shown(rows.row(0, named=True))
        yield Problem(rule.kind, rule.needs[0], rule.says, rows.height, example)


def _repaired(data: DataSet) -> tuple[dict[str, pl.LazyFrame], str]:
    """Return the tables without their labelled defects, and a note that says so."""
    level = data.facts.get("defects", "none")
    if level == "none" or "truth_defect" not in data.truth:
        return data.everything, ""
    from synthetic.defects import repair

    whole = {name: _conformed(name, frame) for name, frame in data.tables.items()}
    clean = repair(whole, data.truth["truth_defect"])
    return {**data.everything, **clean}, f"after taking off its {level} defects by their labels"


def check_data(data: DataSet, *, as_is: bool = False, progress: Tell = lambda _: None) -> Report:
    """Check a data set of ours, with its truth when it is there.

    Parameters
    ----------
    data : DataSet
        What to check.
    as_is : bool
        Check labelled defects too; left out, their labels are taken off first.
    progress : callable
        Told what is being looked at.

    Returns
    -------
    Report
        Broken rules, and what was looked at. Rules between tables are looked at only when every
        table has the columns of its schema.
    """
    progress("files")
    problems = list(_file_problems(data))
    n_rules = 2 * len(data.sums())
    everything, note = (data.everything, "") if as_is else _repaired(data)
    shapes = [p for name, frame in everything.items() for p in _column_problems(name, frame)]
    n_rules += sum(len(EVERY[name].columns()) for name in everything)
    problems += shapes
    if shapes:
        left_out = ("every rule on rows: a table has not its columns",)
        return Report(tuple(problems), n_rules, left_out, note)
    frames = {name: _conformed(name, frame) for name, frame in everything.items()}
    for name, raw in everything.items():
        progress(name)
        problems += _category_problems(name, raw)
        problems += _schema_problems(name, frames[name])
    progress("keys")
    problems += _orphans(frames)
    n_rules += len(FOREIGN_KEYS)
    if "as_of" in data.facts:
        progress("time")
        problems += _future(frames, date.fromisoformat(str(data.facts["as_of"])))
    skipped = [
        f"{rule.needs[0]}: {rule.says}" for rule in RULES if not set(rule.needs) <= set(frames)
    ]
    for rule in RULES:
        if set(rule.needs) <= set(frames):
            progress(rule.says)
            problems += _broken(rule, frames)
            n_rules += 1
    return Report(tuple(problems), n_rules, tuple(skipped), note)
