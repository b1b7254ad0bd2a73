"""What a scheme of pay would have cost, and how much of it would have hung on luck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import stats

from crm_analysis import figures
from crm_analysis.dates import DAYS_PER_MONTH
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, p_text, share_columns
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    group_names,
)
from crm_analysis.managers.pay_counts import (
    PARTS,
    months_of,
    paid_to,
    people_of,
    pleased_by,
    sold_by,
    staff_of,
)
from crm_analysis.managers.pay_scheme import PayScheme, falls_apart
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, amount, date_text, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["PaySimulation", "pay_simulation"]

_LEAST_IN_GROUP = 3
"""Fewer managers than this do not make a row: it would tell one person's pay."""

_GROUPS = 4
_TAKEN = (
    *PARTS, "managers", "cars", "days", "months", "seen", "pace", "m", "m2", "unknown", "day_month",
    "variance", "pay",
)  # fmt: skip
_SUSPICION = 0.01
"""Chance below which more months just above a step than just below are called suspicious."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PaySimulation(Estimates):
    """Pay for a month on duty under a scheme, by quarter of the managers.

    The table has ``managers`` (the quarter; all together where quarters would be fewer than three
    people), ``n`` (managers), ``estimate`` (mean pay for a month on duty), and of it ``base``,
    ``deals``, ``margin``, ``bonus`` and ``pleased``.

    Attributes
    ----------
    total : Estimates
        Pay of the whole team over the period.
    cost_per_deal : Estimates
        Pay for a car delivered.
    steps : Estimates
        One row a step: ``cars``, ``n`` (manager-months), the share that reached it, and
        ``by_luck``: the chance that two months of the same manager, who sells at the same pace,
        fall on different sides of it.
    managers : Estimates
        Each manager's pay for a month on duty: for those who decide on pay, never for a page.
    """

    total: Estimates
    cost_per_deal: Estimates
    steps: Estimates
    managers: Estimates

    def sentence(self) -> str:
        """Say what the scheme would have cost, and how often a step would have been luck."""
        whole, car = (one.table.row(0, named=True) for one in (self.total, self.cost_per_deal))
        if whole["estimate"] is None or car["estimate"] is None:
            return _("{name}: nothing can be said.", name=self.name)
        if whole["n"] < _LEAST_IN_GROUP:
            least = number(_LEAST_IN_GROUP)
            return _("{name}: not shown for fewer than {n} managers.", name=self.name, n=least)
        cost = _(
            "Under this scheme the team would have been paid {total}, or {car} for a car delivered",
            total=self.total.value_text(whole),
            car=amount(car["estimate"], "money", currency=self.currency),
        )
        known = self.steps.table.drop_nulls("estimate")
        if known.is_empty():
            return f"{cost}."
        worst = known.sort("by_luck").row(-1, named=True)
        luck = _(
            "two months of the same manager at the same pace fall on different sides of the step "
            "at {cars} cars in {share} of pairs, by luck alone",
            share=percent(worst["by_luck"], 0),
            cars=number(worst["cars"]),
        )
        return f"{cost}; {luck}."

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw mean pay by quarter of the managers with its interval, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(self.table, label="managers", ax=ax)
        figures.write_units(ax, "money", axis="x", currency=self.currency)
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | dict.fromkeys(PARTS, "money")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Steps(Estimates):
    def sentence(self) -> str:
        """Say of each step how often it was reached: the steps are of the same months."""
        known = self.table.drop_nulls("estimate")
        if known.is_empty():
            return _("{name}: nothing can be said.", name=self.name)
        parts = [
            _("{cars} cars – {value}", cars=number(row["cars"]), value=self.value_text(row))
            for row in known.to_dicts()
        ]
        return f"{self.name}: " + "; ".join(parts) + "."

    def units(self) -> dict[str, Any]:
        return super().units() | {"by_luck": "share", "cars": "count", "n_reached": "count"}


def pay_simulation(
    deals: object,
    *,
    manager_col: str | Sequence[str] = "manager",
    margin_col: str = "margin",
    happened_col: str = "happened_on",
    days_col: str = "days_on_duty",
    score_col: str = "score",
    answered_col: str = "answered_on",
    scheme: PayScheme,
    loads: object,
    answers: object | None = None,
    currency: str | None = None,
    since: date,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "poisson",
) -> PaySimulation:
    r"""What would a scheme of pay have cost, and how much of it is luck (Poisson resampling).

    The scheme is laid over what was sold. It says nothing of what managers would have done under
    it: whoever is paid by steps may sell otherwise, or deliver in another month.

    Parameters
    ----------
    deals : table
        One row per delivered car, on any backend: see `Warehouse.deal_margins`.
    manager_col : str or sequence of str
        Who sold it: in all three tables.
    margin_col, happened_col : str
        Gross margin (null: not known, and nothing is paid of it), and day of delivery.
    days_col : str
        In `loads`: days on duty in the period.
    score_col, answered_col : str
        In `answers`: the score, and the day it was given.
    scheme : PayScheme
    loads : table
        One row per manager: see `Warehouse.manager_loads`, asked for the same period.
    answers : table, optional
        One row per answer about a manager's work; needed where `scheme.per_pleased` is paid.
    currency : str, optional
        ISO code of the money.
    since : date
        First day of delivery that is paid for.
    as_of : date
        Last day.
    conf_level : float
    ci_method : {"poisson"}

    Returns
    -------
    PaySimulation
        Columns ``managers``, ``n``, ``base``, ``deals``, ``margin``, ``bonus``, ``pleased``,
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``; with `total`, `cost_per_deal`,
        `steps` and `managers`. Null where nobody was on duty.

    Raises
    ------
    InputError
        A scheme that pays for satisfaction without `answers`.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    The intervals say what another year of the same managers at the same pace would have cost:
    each car is drawn a Poisson number of times (the Poisson bootstrap), which has a closed form.
    With pace :math:`\lambda` a month, pay x a car and bonus S(N), a month varies by
    :math:`\lambda \overline{x^2} + \mathrm{Var}\,S(N) + 2\bar x\,\mathrm{Cov}(S(N), N)`,
    :math:`N \sim \mathrm{Poisson}(\lambda)`. Whoever began within the period is paid the base by
    days; steps are not cut.

    References
    ----------
    Hanley & MacGibbon (2006), Computer Methods and Programs in Biomedicine 83:57-62 (Poisson
    bootstrap); Oyer (1998), Quarterly Journal of Economics 113:149-185 (sales moved to meet a
    quota).
    """
    names = group_names(manager_col, taken=_TAKEN)
    as_of = check_as_of(as_of)
    since = check_since(since, as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("poisson",))
    if scheme.per_pleased and answers is None:
        raise InputError(
            "The scheme pays for satisfied customers, but no answers were given. Pass 'answers', "
            "for example Warehouse.scores with its managers, or a scheme with per_pleased=0."
        )
    cars = sold_by(deals, names, margin_col, happened_col, since, as_of)
    staff = staff_of(loads, names, days_col)
    pleased = (
        pleased_by(answers, names, score_col, answered_col, scheme.good_score, since, as_of)
        if scheme.per_pleased
        else None
    )
    people = people_of(cars, staff, pleased, names)
    months = months_of(cars, people, names, scheme)
    paid = paid_to(people, months, names, scheme)
    told = _Told(scheme, since, as_of, conf_level, currency)
    return _answer(told, paid, months, names, int(cars["unknown"].sum()))


# Estimate ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    scheme: PayScheme
    since: date
    as_of: date
    conf_level: float
    currency: str | None

    def money(self, n: Sequence[int], value: Any, variance: Any) -> dict[str, pl.Series]:
        value, error = np.asarray(value, float), np.sqrt(np.asarray(variance, float))
        half = normal_quantile(self.conf_level) * error
        return five_columns(n, value, error, value - half, value + half)

    def estimates(self, table: pl.DataFrame, name: str, definition: str, **more: Any) -> Estimates:
        return Estimates(
            table=table, name=name, unit="money", definition=definition,
            conf_level=self.conf_level, currency=self.currency, **more,
        )  # fmt: skip


def _answer(
    told: _Told, paid: pl.DataFrame, months: pl.DataFrame, names: tuple[str, ...], unknown: int
) -> PaySimulation:
    cars = int(paid["cars"].sum())
    pay, variance = float(paid["pay"].sum()), float(paid["variance"].sum())
    some = paid.height > 0
    period = {"since": date_text(told.since), "as_of": date_text(told.as_of)}
    whole = told.money([paid.height], [pay if some else np.nan], [variance if some else np.nan])
    a_car = (pay / cars, variance / cars**2) if cars else (np.nan, np.nan)
    days = paid["days"].to_numpy()
    # Whoever had left, and is still credited with a car, counts with one month.
    lasted = np.where(days > 0, days / DAYS_PER_MONTH, 1.0)
    own = paid.select(names).with_columns(
        **told.money(paid["cars"].to_list(), paid["pay"] / lasted, paid["variance"] / lasted**2)
    )
    steps = _steps(told, months)
    return PaySimulation(
        table=_quarters(told, paid, lasted),
        name=_("Pay for a month under the scheme"),
        unit="money",
        definition=_(
            "What each manager would have been paid for a month on duty from {since} to {as_of}, "
            "by quarter of the managers; the interval is that of another such period at the same "
            "pace.",
            **period,
        ),
        by=("managers",),
        conf_level=told.conf_level,
        currency=told.currency,
        notes=_notes(months, unknown, told.scheme),
        total=told.estimates(
            pl.DataFrame(whole), _("Pay of the team"),
            _("Paid under the scheme for {since} to {as_of}, all managers together.", **period),
        ),
        cost_per_deal=told.estimates(
            pl.DataFrame(told.money([cars], [a_car[0]], [a_car[1]])), _("Pay for a car delivered"),
            _("Paid under the scheme for {since} to {as_of}, over the cars delivered.", **period),
            better="lower",
        ),
        steps=steps,
        managers=told.estimates(
            own, _("Pay of each manager"),
            _("Paid under the scheme for a month on duty; n is of cars."), by=names,
        ),
    )  # fmt: skip


def _quarters(told: _Told, paid: pl.DataFrame, lasted: NDArray[Any]) -> pl.DataFrame:
    """Put managers together by their pay, so that no row is one person's."""
    order = np.argsort(paid["pay"].to_numpy() / lasted, kind="stable")
    n = len(order)
    k = _GROUPS if n >= _GROUPS * _LEAST_IN_GROUP else 1
    labels = (
        [_("all managers")]
        if k == 1
        else [_("lowest quarter"), _("second quarter"), _("third quarter"), _("highest quarter")]
    )
    if n < _LEAST_IN_GROUP:
        order = order[:0]
    cuts = np.linspace(0, len(order), k + 1).round().astype(int)
    rows = [order[low:high] for low, high in pairwise(cuts)]
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = {
            name: [_mean(paid[name].to_numpy()[row], lasted[row]) for row in rows] for name in PARTS
        }
        value = [_mean(paid["pay"].to_numpy()[row], lasted[row]) for row in rows]
        variance = [
            float(paid["variance"].to_numpy()[row].sum() / lasted[row].sum() ** 2)
            if len(row) else np.nan for row in rows
        ]  # fmt: skip
    return pl.DataFrame({
        "managers": labels,
        **{name: pl.Series(column, dtype=pl.Float64).fill_nan(None)
           for name, column in parts.items()},
        **told.money([len(row) for row in rows], value, variance),
    })  # fmt: skip


def _mean(money: NDArray[Any], lasted: NDArray[Any]) -> float:
    return float(money.sum() / lasted.sum()) if len(money) else float("nan")


def _steps(told: _Told, months: pl.DataFrame) -> Estimates:
    counts = months["months"].to_numpy().astype(float)
    cars, pace = months["cars"].to_numpy(), months["pace"].to_numpy().astype(float)
    at = sorted(told.scheme.steps)
    reached = [float(counts[cars >= step].sum()) for step in at]
    total = counts.sum()
    luck = [counts @ falls_apart(pace, step) / total if total else np.nan for step in at]
    table = pl.DataFrame({
        "cars": pl.Series(at, dtype=pl.Int64),
        "n_reached": pl.Series(reached, dtype=pl.Float64).cast(pl.Int64),
        **share_columns(reached, np.full(len(at), total), told.conf_level),
        "by_luck": pl.Series(luck, dtype=pl.Float64).fill_nan(None),
    })  # fmt: skip
    return _Steps(
        table=table,
        name=_("Months that reached a step"),
        unit="share",
        definition=_(
            "Share of the managers' months with so many cars delivered; by luck: how often two "
            "months of a manager who sells at the same pace fall on different sides of the step."
        ),
        by=("cars",),
        conf_level=told.conf_level,
        notes=_moved_notes(months, at),
    )


def _moved(months: pl.DataFrame, step: int) -> str:
    """Say that more months just reach a step than just miss it, where chance does not explain it.

    Of a month with k or k - 1 cars at pace v the chance of k is v / (v + k) (Poisson).
    """
    near = months.filter(pl.col("cars").is_between(step - 1, step), pl.col("pace") > 0)
    counts, pace = near["months"].to_numpy().astype(float), near["pace"].to_numpy()
    chance = pace / (pace + step)
    variance = float(counts @ (chance * (1 - chance)))
    if not variance:
        return ""
    above = float(near.filter(pl.col("cars") == step)["months"].sum())
    p = float(stats.norm.sf((above - float(counts @ chance) - 0.5) / np.sqrt(variance)))
    if p >= _SUSPICION:
        return ""
    return _(
        "More months just reach {cars} cars than just miss it, beyond chance ({p}): were cars "
        "moved between months?",
        cars=number(step),
        p=p_text(p),
    )


def _moved_notes(months: pl.DataFrame, at: Sequence[int]) -> tuple[str, ...]:
    return tuple(text for text in (_moved(months, step) for step in at) if text)


def _notes(months: pl.DataFrame, unknown: int, scheme: PayScheme) -> tuple[str, ...]:
    notes: tuple[str, ...] = (
        _("Laid over what was sold: what managers would do under the scheme is not in it."),
    )
    notes += _moved_notes(months, sorted(scheme.steps))
    if unknown and scheme.margin_share:
        notes += (
            _("Of {n} cars the margin is not known: nothing is paid of it.", n=number(unknown)),
        )
    return notes
