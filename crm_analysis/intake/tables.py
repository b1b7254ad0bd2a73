"""From an export's rows to a checked table of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from crm_analysis.errors import InputError, SchemaError, listed, near
from crm_analysis.intake.columns import Keys, Target, to_column
from crm_analysis.intake.described import Condition, Intake, Part, Source, TableMap
from crm_analysis.intake.findings import Finding
from crm_analysis.intake.rules import ROW, holds, shown_value
from crm_analysis.schema import TABLES, VIEWS

if TYPE_CHECKING:
    import dataframely as dy

__all__ = ["Made", "make_tables", "personal_columns"]


@dataclass(frozen=True)
class Made:
    """A table of ours, checked, with what it took to make it.

    Attributes
    ----------
    table : polars DataFrame
    rows_read : int
        Rows of the export that were looked at.
    left_out : tuple of (reason, rows)
    findings : tuple of Finding
    """

    table: pl.DataFrame
    rows_read: int
    left_out: tuple[tuple[str, int], ...]
    findings: tuple[Finding, ...]


def make_tables(
    intake: Intake, frames: Mapping[str, pl.DataFrame]
) -> tuple[dict[str, Made], dict[str, dict[str, int]]]:
    """Make every table of a mapping, and return the spaces of keys with them.

    Raises
    ------
    InputError
        A table or column that is not ours, or a value that cannot be read.
    SchemaError
        Rows that break a rule of our schema (which rule, how many rows, an example).
    """
    keys = Keys()
    made = {}
    for name, plan in intake.tables.items():
        schema = _schema_of(name)
        source = intake.sources[plan.source]
        made[name] = _Maker(plan, schema, source, intake.as_of, keys).make(frames[plan.source])
    return made, keys.spaces


def personal_columns(intake: Intake) -> frozenset[tuple[str, str]]:
    """Return the export's columns (source, column) that fill a personal column of ours."""
    return frozenset(
        (plan.source, spec.origin)
        for name, plan in intake.tables.items()
        for part in plan.parts
        for column, spec in part.columns.items()
        if spec.origin is not None and _is_personal(_schema_of(name).columns().get(column))
    )


def _is_personal(column: dy.Column | None) -> bool:
    return bool(column is not None and (column.metadata or {}).get("personal"))


def _schema_of(name: str) -> type[dy.Schema]:
    known = {**TABLES, **VIEWS}
    if name not in known:
        raise InputError(
            f"The mapping fills the table {name!r}{near(name, known)}, which is not one of ours. "
            f"Ours are: {listed(known)}."
        )
    return known[name]


class _Maker:
    """One table in the making: what every step needs, and what was met on the way."""

    def __init__(
        self, plan: TableMap, schema: type[dy.Schema], source: Source, as_of: date, keys: Keys
    ) -> None:
        self.plan, self.schema, self.source, self.as_of = plan, schema, source, as_of
        self.keys = keys
        self.columns = schema.columns()
        self.findings: list[Finding] = []
        self.left_out: list[tuple[str, int]] = []

    def make(self, rows: pl.DataFrame) -> Made:
        if self.plan.empty:
            return self._empty(rows.head(0))
        kept = self._without(rows, self.plan.leave_out)
        parts = [self._part(kept, part) for part in self.plan.parts]
        table = self._completed(_stacked(parts, distinct=self.plan.distinct))
        self._check_filled(table)
        self._check_rules(table)
        self._check_dates(table)
        key = [name for name, column in self.columns.items() if column.primary_key]
        table = table.sort(key, maintain_order=True) if key else table
        left_out = tuple(self.left_out)
        return Made(table.drop(ROW), rows.height, left_out, tuple(self.findings))

    def _empty(self, rows: pl.DataFrame) -> Made:
        """Return the table without rows, with the columns that reports may group by."""
        given = self._part(rows, self.plan.parts[0]).drop(ROW)
        ours = self.schema.create_empty()
        own = given.select(name for name in given.columns if name not in ours.columns)
        values = {"table": self.plan.name, "reason": self.plan.empty}
        return Made(pl.concat([ours, own], how="horizontal"), 0, (), (Finding("empty", values),))

    def _without(self, rows: pl.DataFrame, rules: tuple[Condition, ...]) -> pl.DataFrame:
        for rule in rules:
            out = holds(rows, rule, self.source.label, self.source.decimal)
            n = int(out.sum())
            values: dict[str, Any] = {"table": self.plan.name, "reason": rule.reason}
            if n:
                first = int(out.arg_true()[0])
                values |= {"rows": n, "n_of": rows.height, "first": str(rows[ROW][first])}
                values["example"] = self._example(rows, rule, first)
                self.left_out.append((rule.reason, n))
            self.findings.append(Finding("left_out" if n else "none_left_out", values))
            rows = rows.filter(~out)
        return rows

    def _example(self, rows: pl.DataFrame, rule: Condition, at: int) -> str:
        value = rows[rule.column][at]
        if value is None or self._is_personal(rule.column):
            return ""
        return f", {rule.column} = {value!r}"

    def _is_personal(self, origin: str) -> bool:
        targets = [
            name
            for part in self.plan.parts
            for name, spec in part.columns.items()
            if spec.origin == origin
        ]
        return any(self._target(name).personal for name in targets)

    def _target(self, name: str) -> Target:
        column = self.columns.get(name)
        if column is None:
            return Target(self.plan.name, name)
        return Target(self.plan.name, name, column.dtype, _is_personal(column))

    def _part(self, rows: pl.DataFrame, part: Part) -> pl.DataFrame:
        if part.only is not None:
            rows = rows.filter(holds(rows, part.only, self.source.label, self.source.decimal))
        rows = self._without(rows, part.leave_out)
        made = [
            to_column(
                rows,
                spec,
                self._target(name),
                source=self.source,
                as_of=self.as_of,
                keys=self.keys,
                findings=self.findings,
            )
            for name, spec in part.columns.items()
        ]
        return pl.DataFrame([rows[ROW], *made])

    def _completed(self, table: pl.DataFrame) -> pl.DataFrame:
        """Add the columns of ours that the export says nothing of, where they may be empty."""
        absent = [name for name in self.columns if name not in table.columns]
        needed = [name for name in absent if not self.columns[name].nullable]
        own = [name for name in table.columns if name not in self.columns and name != ROW]
        if needed:
            strange = "".join(near(name, own) for name in needed)
            raise InputError(
                f"The mapping of {self.plan.name!r} says nothing of {listed(needed)}, which every "
                f"row must have{strange}. It has: {listed(c for c in table.columns if c != ROW)}. "
                "Name the export's column, or give a constant by 'value'."
            )
        if absent:
            values = {"table": self.plan.name, "columns": absent}
            self.findings.append(Finding("left_empty", values))
        if own:
            values = {"table": self.plan.name, "columns": own}
            self.findings.append(Finding("extra", values))
        empty = [pl.lit(None, self.columns[name].dtype).alias(name) for name in absent]
        return table.with_columns(empty).select(*self.columns, *own, ROW)

    def _check_filled(self, table: pl.DataFrame) -> None:
        for name, column in self.columns.items():
            gone = table.filter(pl.col(name).is_null()) if not column.nullable else None
            if gone is not None and gone.height:
                raise InputError(
                    f"The column {name!r} of {self.plan.name!r} must be filled in every row; it "
                    f"is empty in {gone.height} of {table.height}, first in row {gone[ROW][0]} of "
                    f"{self.source.label}. Leave such rows out by a rule with its reason, or give "
                    "the column another origin."
                )

    def _check_rules(self, table: pl.DataFrame) -> None:
        _good, failure = self.schema.filter(table.select(list(self.columns)))
        counts = {rule: n for rule, n in failure.counts().items() if n}
        if not counts:
            return
        rule, n = next(iter(counts.items()))
        details = failure.details()
        example = details.filter(pl.col(rule).cast(pl.String) == "invalid").row(0, named=True)
        shown = {
            name: shown_value(example[name], personal=self._target(name).personal)
            for name in self.columns
            if example[name] is not None
        }
        others = f" Other rules broken: {listed(list(counts)[1:])}." if len(counts) > 1 else ""
        raise SchemaError(
            f"The table {self.plan.name!r} made from {self.source.label} breaks the rule {rule!r} "
            f"in {n} of {table.height} rows, for example "
            f"{', '.join(f'{k} = {v}' for k, v in shown.items())}.{others} Mend the mapping, or "
            "leave such rows out by a rule with its reason."
        )

    def _check_dates(self, table: pl.DataFrame) -> None:
        for name, column in self.columns.items():
            if column.dtype not in (pl.Date, pl.Datetime) or name.startswith("next_due"):
                continue
            late = int((table[name].cast(pl.Date) > self.as_of).sum())
            if late:
                values = {
                    "table": self.plan.name,
                    "column": name,
                    "as_of_on": self.as_of.isoformat(),
                    "rows": late,
                }
                self.findings.append(Finding("after_as_of", values))


def _stacked(parts: list[pl.DataFrame], *, distinct: bool) -> pl.DataFrame:
    table = pl.concat(parts, how="diagonal")
    if not distinct:
        return table
    columns = [name for name in table.columns if name != ROW]
    return table.unique(columns, keep="first", maintain_order=True)
