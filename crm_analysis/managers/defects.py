"""What is wrong in the records, and where: duplicates, impossible values, keys of nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis import figures
from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import Estimates, share_columns
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    open_table,
)
from crm_analysis.managers.rules import KEYS, PARENTS, RULES, Rule
from crm_analysis.wording import ABSENT, _, date_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DataDefects", "data_defects"]

KEY_OF_NOTHING = "key_of_nothing"
_TAKEN = ("table", "rule", "field", "n_found", "key", "broken", *PARENTS)
_FOUND = {"table": pl.String, "rule": pl.String, "field": pl.String, "key": pl.Int64}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DataDefects(Estimates):
    """What is wrong, by table and rule.

    Attributes
    ----------
    records : polars DataFrame
        ``table, rule, field, key`` of every record that breaks a rule: a work list for whoever
        mends the CRM. It names single customers by their key: keep it off pages.
    n_kinds : int
        Kinds of defect that could be looked for.
    """

    records: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_FOUND))
    n_kinds: int = 0

    def sentence(self) -> str:
        """Say how much was looked at, and what was found most."""
        whole = self.table.group_by("table", "rule", "field", maintain_order=True).agg(
            pl.col("n_found", "n").sum()
        )
        found = whole.filter(pl.col("n_found") > 0).sort(
            "n_found", descending=True, maintain_order=True
        )
        if not self.n_kinds:
            return _("{name}: nothing can be said (n = {n}).", name=self.name, n=number(0))
        if found.is_empty():
            return _(
                "Of {k} kinds of defect looked for, nothing was found.", k=number(self.n_kinds)
            )
        most = found.row(0, named=True)
        return _(
            "Kinds of defect found: {found} of {k} looked for, in {records} records; most often: "
            "{rule} ({table}, {n}, {share} of those looked at).",
            found=number(found.height), k=number(self.n_kinds),
            records=number(self.records.select("table", "key").n_unique()),
            rule=word_of(most["rule"]), table=word_of(most["table"]), n=number(most["n_found"]),
            share=_few(most["n_found"] / most["n"]),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how frequent each defect is, the most frequent first, and return the Axes."""
        ax = figures.new_axes(ax)
        table = self.table.sort("estimate", descending=True, nulls_last=True, maintain_order=True)
        labels = [_label(row, self.by[:-3]) for row in table.to_dicts()]
        labelled = table.with_columns(pl.Series("label", labels, pl.String))
        figures.points(labelled, label="label", ax=ax)
        figures.write_units(ax, self.unit, axis="x")
        ax.set_title(self.name)
        return ax

    def found(self) -> DataDefects:
        """Return the same without the rules that nothing breaks."""
        return replace(self, table=self.table.filter(pl.col("n_found") > 0))

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_found": "count"}


def _label(row: Mapping[str, Any], groups: Sequence[str]) -> str:
    """Name a rule by itself, and a key by its table and where it should have led."""
    what = word_of(row["rule"])
    if row["rule"] == KEY_OF_NOTHING:
        what = f"{word_of(row['table'])}: {word_of(row['field'])} → {ABSENT}"
    return " · ".join([*(word_of(row[name]) for name in groups), what])


def _few(share: float) -> str:
    """Write a share with as many decimals as tell it from none at all."""
    return percent(share, 1 if share >= 0.0005 else 3)


def data_defects(
    tables: Mapping[str, object],
    *,
    parents: Mapping[str, object] | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> DataDefects:
    """Which records cannot be right, of those that can be checked (rules, Wilson).

    Looked for: customers entered twice (see `identity_consolidation`), phones of many, impossible
    phones, addresses, ages, VINs and odometers, dates and stages in an impossible order, prices and
    bills that do not add up, amounts in another unit, and keys that point to nothing.

    Parameters
    ----------
    tables : mapping of str to table
        The CRM's tables by their names in the schema, on any backend; a rule whose table or column
        is not there is left out.
    parents : mapping of str to table, optional
        Whole tables that keys point to, where `tables` are those of one dealership.
    as_of : date
        Day that the definition names; every record in the tables is looked at.
    by : str or sequence of str
        Columns that every table has, such as ``dealership_id``; tables without are left out.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    DataDefects
        Columns of `by`, ``table``, ``rule``, ``field``, ``n_found``, ``n`` (records that the rule
        can judge), ``estimate`` (share), ``std_error``, ``conf_low``, ``conf_high``; null where
        nothing could be judged. `records` has the keys, for the CRM.

    Raises
    ------
    InputError
        No table that a rule knows.
    ColumnError
        A column is of another type.

    Notes
    -----
    What is plausible is not found: a day and month exchanged, a lead never typed in.
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    known = [name for name in KEYS if name in tables]
    if not known:
        raise InputError(
            f"Defects were asked for in the tables {listed(sorted(tables))}; rules exist for: "
            f"{listed(KEYS)}. Pass a mapping of these names to tables."
        )
    keys = _parent_keys({**tables, **(parents or {})})
    judged = [row for name in known for row in _judged(name, tables[name], keys, by)]
    columns = [*by, "table", "rule", "field"]
    whole = pl.concat(judged, how="vertical_relaxed")
    counted = (
        whole.group_by(columns, maintain_order=True)
        .agg(pl.col("broken").sum().cast(pl.Int64).alias("n_found"), pl.col("broken").count())
        .sort("n_found", *columns, descending=[True, *([False] * len(columns))], nulls_last=True)
    )
    table = counted.select(
        *columns, "n_found", **share_columns(counted["n_found"], counted["broken"], conf_level)
    )
    return DataDefects(
        table=table, name=_("Records that cannot be right"), unit="share",
        definition=_(
            "Share of the records known by {as_of} that break a rule, of those that the rule can "
            "judge. Whatever is wrong but plausible is not among them.",
            as_of=date_text(as_of),
        ),
        by=(*by, "table", "rule", "field"), conf_level=conf_level,
        records=whole.filter("broken").select("table", "rule", "field", "key"),
        n_kinds=table.filter(pl.col("n") > 0).select("table", "rule", "field").n_unique(),
    )  # fmt: skip


def _parent_keys(tables: Mapping[str, object]) -> dict[str, pl.Series]:
    """Return the keys that exist, for each column that points to a table that is there."""
    found: dict[tuple[str, str], pl.Series] = {}
    for name, key in set(PARENTS.values()):
        if name in tables:
            asked = {"key": Asked(key, "key", "tables", nullable=True)}
            found[name, key] = collect(open_table(tables[name], asked))["key"].unique()
    return {column: found[place] for column, place in PARENTS.items() if place in found}


def _judged(
    name: str, table: object, parents: Mapping[str, pl.Series], by: tuple[str, ...]
) -> list[pl.DataFrame]:
    """Return each rule's verdict on each row of a table."""
    have = set(nw.from_native(table).collect_schema().names())  # type: ignore[call-overload]
    if not {KEYS[name], *by} <= have:
        return []
    rules = [rule for rule in RULES if rule.table == name and set(rule.needs) <= have]
    links = [column for column in parents if column in have and column != KEYS[name]]
    kinds: dict[str, Any] = dict.fromkeys(links, "key")
    for rule in rules:
        kinds |= rule.needs
    asked = {column: Asked(column, kind, "tables", nullable=True) for column, kind in kinds.items()}
    asked["key"] = Asked(KEYS[name], "key", "tables", nullable=True)
    rows = collect(open_table(table, asked, by=by), by=by)
    verdicts = [(rule.name, rule.field, _verdict(rule, rows)) for rule in rules]
    verdicts += [
        (KEY_OF_NOTHING, column, _points_nowhere(rows[column], parents[column])) for column in links
    ]
    return [
        rows.select(
            *by, pl.lit(name).alias("table"), pl.lit(rule).alias("rule"),
            pl.lit(column).alias("field"), pl.col("key").cast(pl.Int64), broken.alias("broken"),
        )
        for rule, column, broken in verdicts
    ]  # fmt: skip


def _verdict(rule: Rule, rows: pl.DataFrame) -> pl.Series:
    return rule.broken(rows).cast(pl.Boolean)


def _points_nowhere(column: pl.Series, keys: pl.Series) -> pl.Series:
    # pandas keeps whole numbers with gaps as floats.
    if column.dtype.is_float():
        column = column.cast(pl.Int64)
    missing = ~column.is_in(keys.implode())
    return pl.select(pl.when(column.is_not_null()).then(missing)).to_series()
