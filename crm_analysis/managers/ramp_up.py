"""How fast new managers come up to those with experience, given the leads they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import special, stats

from crm_analysis import figures
from crm_analysis.dates import DAYS_PER_MONTH
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, p_text, small_n_notes
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.managers.intercepts import (
    LEAST_MANAGERS,
    count_cells,
    design_of,
    random_intercepts,
)
from crm_analysis.uncertainty import normal_quantile, wilson_interval
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    duration_text,
    number,
    percent,
    word_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["RampUp", "ramp_up"]

_TAKEN = (
    "months", "n_won", "n_managers", "raw", "raw_low", "raw_high", "odds", "odds_low", "odds_high",
    "mature", "k", "band",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RampUp(Estimates):
    """Conversion by months in the job, as if all had got the same leads and were as able.

    Attributes
    ----------
    p_value : float or None
        How surprising the differences from the experienced would be if months in the job made
        none (Wald's test of all together); None where it cannot be told.
    level_from : str or None
        The first months from which on no band is told apart from the experienced; None where the
        last before them still is, or nothing can be told.
    """

    p_value: float | None = None
    level_from: str | None = None

    def difference_p_value(self) -> float | None:
        """Return the p-value of the test that months in the job make no difference."""
        return self.p_value

    def sentence(self) -> str:
        """Say whether new managers sell less, and until when that can be told."""
        known = self.table.drop_nulls("estimate")
        if known.height < 2 or self.p_value is None:
            return _("{name}: nothing can be said.", name=self.name)
        new, old = known.row(0, named=True), known.row(-1, named=True)
        gap = _(
            "With the same leads, managers turn {new} of them into contracts in their first months "
            "({months}), and {old} with experience",
            new=percent(new["estimate"]), months=new["months"], old=percent(old["estimate"]),
        )  # fmt: skip
        if self.p_value >= 1 - self.conf_level:
            none = _(
                "no effect of the months in the job is established ({p})", p=p_text(self.p_value)
            )
            return f"{gap}; {none}."
        until = (
            _("a difference is established up to the last step before experience")
            if self.level_from is None
            else _(
                "none is told apart any more from this step on: {months}", months=self.level_from
            )
        )
        return f"{gap}; {until}."

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the adjusted conversions in the order of months, with the level of experience."""
        ax = figures.new_axes(ax)
        known = self.table.drop_nulls("estimate")
        level = known["estimate"][-1] if known.height else None
        figures.points(known, label="months", ax=ax, reference=level)
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        shares = dict.fromkeys(("raw", "raw_low", "raw_high"), "share")
        odds = dict.fromkeys(("odds", "odds_low", "odds_high"), "number")
        return super().units() | shares | odds | dict.fromkeys(("n_won", "n_managers"), "count")


def ramp_up(
    leads: object,
    *,
    manager_col: str | Sequence[str] = "manager",
    hired_col: str = "hired_on",
    opened_col: str = "opened_at",
    won_col: str = "won_at",
    adjust: Sequence[str] = ("source", "year"),
    months: Sequence[float] = (3, 6, 12, 24),
    within_days: int = 90,
    since: date | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "mixed-model",
) -> RampUp:
    r"""How fast do new managers sell as well as experienced ones (logistic mixed model).

    Each lead belongs to the months that its manager had been in the job for when it came. What
    the lead was worth (`adjust`), and how able the manager is (a random intercept), are taken
    away: raw shares would take it for learning that the weak leave early.

    Parameters
    ----------
    leads : table
        One row per lead, on any backend: see `Warehouse.leads`, with the first day of the manager
        from the table of employees.
    manager_col : str or sequence of str
        Who worked on it: a column, or several that name a manager together.
    hired_col, opened_col, won_col : str
        The manager's first day (null: not known, and left out), when the lead was opened, and
        when it was won (null: it was not).
    adjust : sequence of str
        Columns of categories in which leads differ, such as source and year; a null is a category
        of its own.
    months : sequence of float
        Months in the job at which a new step begins, rising; whoever has the last behind them is
        experienced.
    within_days : int
        Days that a lead is given; younger leads count neither way.
    since : date, optional
        First day of opening that is counted.
    as_of : date
        Last day the data covers.
    conf_level : float
    ci_method : {"mixed-model"}

    Returns
    -------
    RampUp
        One row a step: ``months``, ``n_managers``, ``n`` (leads), ``n_won``, ``raw`` with
        ``raw_low`` and ``raw_high`` (Wilson), ``odds`` against the experienced with ``odds_low``
        and ``odds_high``, and ``estimate`` (the share of *all* leads that managers of that step
        would win) with ``std_error``, ``conf_low``, ``conf_high``. Null where nobody was in that
        step, with fewer than three managers, or with no experienced one to compare with.

    Raises
    ------
    InputError
        Months that do not rise from above 0, or a window below one day.
    ColumnError
        A column is missing, of another type, or null.
    NotConvergedError
        The model did not settle.

    Notes
    -----
    Penalised quasi-likelihood as in `adjusted_conversion`, with the steps among the fixed effects.
    Their covariance is that of Henderson's equations, :math:`X'WX` bordered by :math:`Z'WZ +
    \tau^{-2}`: a step in which other managers worked carries the doubt about who they are. The
    variance between managers is taken as known.

    References
    ----------
    Breslow & Clayton (1993), JASA 88:9-25; Henderson (1975), Biometrics 31:423-447.
    """
    names = group_names(manager_col, taken=_TAKEN)
    traits = group_names(adjust, taken=(*_TAKEN, *names)) if adjust else ()
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("mixed-model",))
    steps = _check_months(months)
    if within_days < 1:
        raise InputError(f"'within_days' must be at least 1; got {within_days}. Pass, say, 90.")
    cells = count_cells(
        leads, names, traits, opened_col, won_col, within_days, since, as_of,
        hired_col=hired_col, edges=[month * DAYS_PER_MONTH for month in steps],
    )  # fmt: skip
    early = int(cells.filter(pl.col("band") < 0)["n"].sum())
    cells = cells.filter(pl.col("band") >= 0)
    young = int(cells.filter(pl.col("mature") == 0)["n"].sum())
    cells = cells.filter(pl.col("mature") == 1)
    labels = _labels(steps)
    table = _raw(cells, names, labels, conf_level)
    fit = _fit(cells, names, traits, len(steps))
    table, p_value = _with_estimates(table, fit, conf_level)
    return RampUp(
        table=table,
        name=_("Conversion by months in the job"),
        unit="share",
        definition=_(
            "Share of all leads opened at least {when} before {as_of} that managers would have "
            "turned into a contract within {when} after so many months in the job, from what "
            "became of their own, given {traits} and how able each manager is.",
            when=duration_text(within_days, "day"), as_of=date_text(as_of),
            traits=", ".join(word_of(name) for name in traits) or _("nothing"),
        ) + counted_from(since),
        by=("months",),
        conf_level=conf_level,
        notes=_notes(table, fit, cells, names, young, early),
        p_value=p_value,
        level_from=_level_from(table),
    )  # fmt: skip


def _check_months(months: Sequence[float]) -> tuple[float, ...]:
    steps = tuple(float(month) for month in months)
    if not steps or list(steps) != sorted(set(steps)) or steps[0] <= 0:
        raise InputError(
            f"Steps beginning after {steps} months were asked for. 'months' must rise from above "
            "0: pass, say, (3, 6, 12, 24)."
        )
    return steps


def _labels(steps: Sequence[float]) -> list[str]:
    starts = (0.0, *steps)
    between = [f"{number(low)}–{number(high)}" for low, high in pairwise(starts)]
    return [*between, _("over {months}", months=number(steps[-1]))]


# Estimate ---------------------------------------------------------------------------------


def _raw(
    cells: pl.DataFrame, names: Sequence[str], labels: Sequence[str], conf_level: float
) -> pl.DataFrame:
    counts = cells.group_by("band").agg(
        pl.struct(names).n_unique().alias("n_managers"), pl.col("n", "k").sum()
    )
    steps = pl.DataFrame({"band": range(len(labels)), "months": labels})
    both = steps.with_columns(pl.col("band").cast(pl.Int64)).join(
        counts.with_columns(pl.col("band").cast(pl.Int64)), on="band", how="left",
        maintain_order="left",
    ).with_columns(pl.col("n_managers", "n", "k").cast(pl.Int64).fill_null(0))  # fmt: skip
    low, high = wilson_interval(both["k"].to_numpy(), both["n"].to_numpy(), conf_level)
    return both.select(
        "months", "n_managers", "n", pl.col("k").alias("n_won"),
        pl.when(pl.col("n") > 0).then(pl.col("k") / pl.col("n")).alias("raw"),
        pl.Series("raw_low", low).fill_nan(None), pl.Series("raw_high", high).fill_nan(None),
    )  # fmt: skip


@dataclass(frozen=True)
class _Fit:
    """Effects of the steps seen, in log odds against the experienced, and what goes with them.

    `shown` are the steps in order with the experienced last, `base` the other fixed part of each
    cell, `design` its columns, and `covariance` of step effects and coefficients together.
    """

    shown: list[int]
    effect: NDArray[Any]
    base: NDArray[Any]
    design: NDArray[Any]
    covariance: NDArray[Any]
    n: NDArray[Any]


def _fit(
    cells: pl.DataFrame, names: Sequence[str], traits: Sequence[str], last: int
) -> _Fit | None:
    managers = cells.select(names).unique(maintain_order=True).with_row_index("manager_place")
    n, k = cells["n"].to_numpy().astype(float), cells["k"].to_numpy().astype(float)
    band = cells["band"].to_numpy().astype(np.int64)
    sums = np.bincount(band, n, last + 1), np.bincount(band, k, last + 1)
    shown = [step for step in range(last) if 0 < sums[1][step] < sums[0][step]]
    both_kinds = 0 < sums[1][last] < sums[0][last] if len(band) else False
    if managers.height < LEAST_MANAGERS or not shown or not both_kinds:
        return None
    # A step in which all or none were won has no finite effect of its own, and is left out.
    kept = np.isin(band, [*shown, last])
    cells, n, k, band = cells.filter(pl.Series(kept)), n[kept], k[kept], band[kept]
    who = cells.join(managers, on=list(names), how="left", maintain_order="left", nulls_equal=True)
    place = who["manager_place"].to_numpy().astype(np.int64)
    traits_of = design_of(cells.select(traits), n, k)
    steps = np.column_stack([(band == step).astype(float) for step in shown])
    design = np.column_stack([traits_of, steps])
    fixed, effect, _error, between = random_intercepts(design, n, k, place)
    coefficients = np.linalg.lstsq(design, fixed, rcond=None)[0]
    chance = special.expit(fixed + effect[place])
    covariance = _covariance(design, n * chance * (1 - chance), place, len(effect), between)
    of_steps = coefficients[traits_of.shape[1] :]
    return _Fit(shown, of_steps, fixed - steps @ of_steps + effect[place], traits_of, covariance, n)


def _covariance(
    design: NDArray[Any], weight: NDArray[Any], place: NDArray[Any], n_managers: int, between: float
) -> NDArray[Any]:
    """Return the covariance of the fixed effects with the managers' intercepts taken out."""
    inner = design.T @ (design * weight[:, None])
    if between > 0:
        cross = np.zeros((n_managers, design.shape[1]))
        np.add.at(cross, place, design * weight[:, None])
        own = np.bincount(place, weight, n_managers) + 1 / between**2
        inner = inner - cross.T @ (cross / own[:, None])
    return np.asarray(np.linalg.pinv(inner))


def _with_estimates(
    table: pl.DataFrame, fit: _Fit | None, conf_level: float
) -> tuple[pl.DataFrame, float | None]:
    unknown = np.full(table.height, np.nan)
    odds, error = unknown.copy(), unknown.copy()
    share, share_error, low, high = (unknown.copy() for _i in range(4))
    p_value = None
    z = normal_quantile(conf_level)
    if fit is not None:
        n_traits = fit.design.shape[1]
        own = fit.covariance[n_traits:, n_traits:]
        p_value = float(
            stats.chi2.sf(fit.effect @ np.linalg.pinv(own) @ fit.effect, len(fit.shown))
        )
        odds[-1], error[-1] = 0.0, 0.0
        odds[fit.shown], error[fit.shown] = fit.effect, np.sqrt(np.diag(own))
        weight = fit.n / fit.n.sum()
        for step in (*fit.shown, table.height - 1):
            chance = special.expit(fit.base + odds[step])
            slope = weight * chance * (1 - chance)
            gradient = np.zeros(len(fit.covariance))
            gradient[:n_traits] = slope @ fit.design
            if step in fit.shown:
                gradient[n_traits + fit.shown.index(step)] = slope.sum()
            share[step] = weight @ chance
            share_error[step] = np.sqrt(gradient @ fit.covariance @ gradient)
        # On the logit scale the interval stays inside (0, 1).
        half = z * share_error / (share * (1 - share))
        low, high = special.expit(special.logit(share) + np.array([[-1], [1]]) * half)
    ratio = {
        "odds": np.exp(odds), "odds_low": np.exp(odds - z * error),
        "odds_high": np.exp(odds + z * error),
    }  # fmt: skip
    out = table.with_columns(
        **{name: pl.Series(value).fill_nan(None) for name, value in ratio.items()},
        **five_columns(table["n"].to_numpy(), share, share_error, low, high),
    )
    return out, p_value


def _level_from(table: pl.DataFrame) -> str | None:
    """Return the first step from which on none is told apart from the experienced."""
    found = None
    for row in table.slice(0, table.height - 1).reverse().iter_rows(named=True):
        if row["odds"] is None:
            continue
        if not row["odds_low"] <= 1 <= row["odds_high"]:
            return found
        found = str(row["months"])
    return found


def _notes(
    table: pl.DataFrame,
    fit: _Fit | None,
    cells: pl.DataFrame,
    names: Sequence[str],
    young: int,
    early: int,
) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if cells.select(names).unique().height < LEAST_MANAGERS:
        notes += (_("A comparison needs at least {n} managers.", n=number(LEAST_MANAGERS)),)
    elif fit is None:
        notes += (_("There are no leads of new and of experienced managers to compare."),)
    else:
        notes += (_("Not told apart is not the same as equal: look at the width of the interval."),)
    if young:
        notes += (
            _("{n} leads have not had their time yet and count neither way.", n=number(young)),
        )
    if early:
        notes += (
            _("{n} leads came before their manager's first day and are left out.", n=number(early)),
        )
    return notes + small_n_notes(table, ("months",), what=_("leads"))
