"""Cars and service are bought by different habits: their values are modelled apart and added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import FIVE, five_columns, labelled_groups
from crm_analysis.frames import group_names
from crm_analysis.lifetime.history import PurchaseHistory
from crm_analysis.lifetime.outlook import ModelEstimates
from crm_analysis.lifetime.value import LifetimeValue, lifetime_value, shared_model
from crm_analysis.lifetime.value_models import ValueModels, fit_value_models
from crm_analysis.uncertainty import sum_interval
from crm_analysis.wording import Unit, _, money, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ALL_PROCESSES", "ProcessValue", "value_by_process"]

ALL_PROCESSES = "together"
"""The row in which the processes are added."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LifetimeTotal(ModelEstimates):
    """The value of all processes together: one row per group, with its ``total``."""

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns: money, but for n."""
        return {**super().units(), "total": "money"}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ProcessValue(ModelEstimates):
    """The value of each kind of purchase, and of all: one row per group and ``kind``.

    The table has, beside the usual five (mean per customer), ``total``. The row ``together`` adds
    the processes: its n are the customers known to any of them.

    Attributes
    ----------
    customers : polars DataFrame
        One row per customer of any process: ``value_<process>`` for each (0 where the customer is
        not known to it, null where no model could be fitted) and ``value``, their sum. It names
        customers, so it belongs in analysis and never on a page.
    """

    customers: pl.DataFrame

    says_more: ClassVar[bool] = True

    def together(self) -> LifetimeTotal:
        """Return the sums alone: one row per group."""
        rows = self.table.filter(pl.col("kind") == ALL_PROCESSES).drop("kind")
        groups = tuple(name for name in self.by if name != "kind")
        return LifetimeTotal(
            table=rows, name=self.name, unit=self.unit, definition=self.definition,
            by=groups, conf_level=self.conf_level,
            notes=self.notes[-1 - len(shared_model(groups)) :], currency=self.currency,
            key=self.key, better=self.better, drifts=self.drifts,
        )  # fmt: skip

    def sentence(self) -> str:
        """Return the value of all processes together, and what each adds."""
        row = self.table.filter(pl.col("kind") == ALL_PROCESSES)
        if len(self.by) > 1 or row.is_empty() or row["estimate"][0] is None:
            return super().sentence()
        parts = self.table.filter(pl.col("kind") != ALL_PROCESSES)
        texts = [
            _("{process} {total}", process=_process(p), total=money(total, self.currency))
            for p, total in parts.select("kind", "total").iter_rows()
        ]
        return _(
            "{name}: {value}; {total} for all of them ({parts}).",
            name=self.name,
            value=self.value_text(row.row(0, named=True)),
            total=money(row["total"][0], self.currency),
            parts=", ".join(texts),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the value of each kind of purchase and of all, return the Axes."""
        ax = figures.new_axes(ax)
        named = self.table.with_columns(self._kinds())
        figures.points(labelled_groups(named, self.by), label="label", ax=ax)
        figures.write_units(ax, self.unit, axis="x", currency=self.currency)
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns: money, but for n."""
        return {**super().units(), "total": "money"}

    def _readable(self) -> pl.DataFrame:
        return super()._readable().with_columns(self._kinds())

    def _kinds(self) -> pl.Series:
        return pl.Series("kind", [_process(kind) for kind in self.table["kind"]], pl.String)


def _process(process: str) -> str:
    return {
        "car": _("sales of cars"),
        "service": _("service"),
        ALL_PROCESSES: _("together"),
    }.get(process, process)


def value_by_process(
    histories: Mapping[str, PurchaseHistory],
    *,
    models: Mapping[str, ValueModels] | None = None,
    horizon_months: float | None = 36,
    annual_discount_rate: float = 0.10,
    currency: str | None = None,
    n_resamples: int = 200,
    seed: int = 0,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
) -> ProcessValue:
    """What are customers worth when each kind of purchase has its own model? (a sum of values).

    Parameters
    ----------
    histories : mapping of process to PurchaseHistory
        One history per kind of purchase, such as ``{"car": …, "service": …}``, counted with values
        from the same customers' column.
    models : mapping of process to ValueModels, optional
        Chosen and fitted by `fit_value_models` where not given.
    horizon_months, annual_discount_rate, currency, n_resamples, seed, by, conf_level
        As in `lifetime_value`.

    Returns
    -------
    ProcessValue
        Columns of `by`, ``kind``, ``n`` (customers known to the process), ``estimate`` (mean
        value per such customer), ``std_error``, ``conf_low``, ``conf_high``, ``total``. The row
        ``together`` is per customer of any process; null where one process has no model.

    Raises
    ------
    InputError
        No history, or histories whose customers stand in different columns.

    Notes
    -----
    The sum's interval takes the models of the processes to be estimated independently (MOVER; Zou &
    Donner 2008). A process values only customers it knows: whoever comes for service and has not
    bought a car here adds no car to come.
    """
    by = group_names(by)
    who = _identity(histories)
    given = models or {}
    values = {}
    for process, history in histories.items():
        chosen = given.get(process) or fit_value_models(history)
        values[process] = lifetime_value(
            history, model=chosen.buying, spend_model=chosen.spend, horizon_months=horizon_months,
            annual_discount_rate=annual_discount_rate, currency=currency, n_resamples=n_resamples,
            seed=seed, by=by, conf_level=conf_level,
        ).with_notes(*chosen.notes)  # fmt: skip
    customers = _customers(values, [*by, *who])
    first = next(iter(values.values()))
    return ProcessValue(
        table=_table(values, customers, by),
        name=first.name,
        unit="money",
        definition=_definition(horizon_months, annual_discount_rate),
        by=(*by, "kind"),
        conf_level=first.conf_level,
        notes=_notes(values, shared_model(by)),
        currency=currency,
        key=first.key,
        better=first.better,
        drifts=first.drifts,
        customers=customers,
    )


def _definition(months: float | None, rate: float) -> str:
    ahead = (
        _("all that is to come") if months is None else _("the next {n} months", n=number(months))
    )
    return _(
        "Expected value of a customer's purchases ({ahead}), discounted at {rate} a year: each "
        "kind of purchase by its own models of buying and of spending, and their sum. The interval "
        "covers what is not known of the models' parameters, not the chance in what these "
        "customers will do.",
        ahead=ahead,
        rate=percent(rate, 1),
    )


def _identity(histories: Mapping[str, PurchaseHistory]) -> tuple[str, ...]:
    columns = {history.identity for history in histories.values()}
    if len(columns) != 1:
        found = listed(sorted({name for names in columns for name in names}))
        raise InputError(
            f"Values of {len(histories)} processes were to be added; their customers stand in "
            f"{found or 'no column'}. Count every history with the same customer_col."
        )
    return columns.pop()


def _customers(values: Mapping[str, LifetimeValue], who: Sequence[str]) -> pl.DataFrame:
    """Return one row per customer with the value of each process and their sum."""
    everybody = pl.concat([value.customers.select(who) for value in values.values()]).unique(
        maintain_order=True
    )
    for process, value in values.items():
        known = value.customers.select(
            *who, pl.col("value").alias(f"value_{process}"), pl.lit(value=True).alias("known")
        )
        joined = everybody.join(known, on=who, how="left", nulls_equal=True, maintain_order="left")
        absent = pl.col("known").is_null()
        everybody = joined.with_columns(
            pl.when(absent).then(0.0).otherwise(f"value_{process}").alias(f"value_{process}")
        ).drop("known")
    parts = [pl.col(f"value_{process}") for process in values]
    total = pl.fold(pl.lit(0.0), lambda total, part: total + part, parts)
    return everybody.with_columns(value=total)


def _table(
    values: Mapping[str, LifetimeValue], customers: pl.DataFrame, by: Sequence[str]
) -> pl.DataFrame:
    names = [*by, "kind", *FIVE, "total"]
    rows = [
        value.table.with_columns(kind=pl.lit(process)).select(names)
        for process, value in values.items()
    ]
    parts = pl.concat(rows)
    if by:
        counts = customers.group_by(by).agg(n=pl.len()).sort(by, nulls_last=True)
        heads = [counts.slice(i, 1) for i in range(counts.height)]
    else:
        heads = [pl.DataFrame({"n": [customers.height]})]
    sums = [_sum_row(head, parts, by) for head in heads]
    whole = pl.concat([parts, *sums])
    order = pl.Enum([*values, ALL_PROCESSES])
    return whole.sort(*by, pl.col("kind").cast(order), nulls_last=True) if by else whole


def _sum_row(head: pl.DataFrame, parts: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Add the processes of one group: totals, and per customer of any of them."""
    here = parts.join(head.select(by), on=by, how="semi", nulls_equal=True) if by else parts
    here = here.filter(pl.col("n") > 0)
    n = int(head["n"][0])
    columns = here.select("n", "estimate", "std_error", "conf_low", "conf_high").cast(pl.Float64)
    size, middle, error, low, high = (
        columns[name].fill_null(np.nan).to_numpy() for name in columns.columns
    )
    scale = size / n if n else size
    known = here.height > 0
    total = float((middle * scale).sum()) if known else np.nan
    bounds = sum_interval(middle * scale, low * scale, high * scale) if known else (np.nan, np.nan)
    spread = float(np.sqrt(((error * scale) ** 2).sum())) if known else np.nan
    five = five_columns([n], [total], [spread], [bounds[0]], [bounds[1]])
    table = pl.DataFrame(five).with_columns(
        kind=pl.lit(ALL_PROCESSES), total=pl.col("estimate") * n
    )
    groups = head.select(by).join(table, how="cross") if by else table
    return groups.select(parts.columns)


def _notes(values: Mapping[str, LifetimeValue], of_all: tuple[str, ...]) -> tuple[str, ...]:
    """Return each process's cautions under its name, and what the sum takes for granted."""
    found = [
        _("{process}: {note}", process=_process(process).capitalize(), note=note)
        for process, value in values.items()
        for note in dict.fromkeys(value.notes)
        if note not in of_all
    ]
    return (
        *found,
        _(
            "Each kind of purchase is valued per customer known to it, the sum per customer of "
            "any: the totals add up, the means do not."
        ),
        *of_all,
        _(
            "Who has not bought a car here adds no car to come. The sum's interval takes the "
            "models of the kinds to be independent."
        ),
    )
