"""Whose work turns leads into contracts, given the leads they got: adjusted, shrunk, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
from scipy import special

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    group_label,
    labelled_groups,
    small_n_notes,
)
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    group_names,
)
from crm_analysis.managers.intercepts import (
    LEAST_MANAGERS,
    count_cells,
    design_of,
    one_step,
    random_intercepts,
)
from crm_analysis.uncertainty import (
    RANK_DRAWS,
    homogeneity_p_value,
    rank_draws,
)
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    duration_text,
    interval_text,
    number,
    percent,
    word_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["AdjustedConversion", "adjusted_conversion"]

_TAKEN = (
    "n_won", "raw", "raw_low", "raw_high", "expected", "rank_low", "rank_high", "chance_best",
    "mature", "k",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AdjustedConversion(Estimates):
    """Conversion of each manager, as if all had got the same leads.

    Attributes
    ----------
    p_value : float or None
        How surprising the differences were if all managers worked alike.
    between_sd : float
        Standard deviation between managers' true effects, in log odds.
    mean : float
        Conversion of all leads together.
    """

    p_value: float | None
    between_sd: float
    mean: float

    compares_groups: ClassVar[bool] = True

    def difference_p_value(self) -> float | None:
        """Return the p-value of the test that all managers work alike."""
        return self.p_value

    def sentence(self) -> str:
        """Say whether managers differ, and by how much."""
        known = self.table.drop_nulls("estimate")
        if known.height < LEAST_MANAGERS:
            return _("{name}: too few managers to compare.", name=self.name)
        if self.p_value is None or self.p_value >= 1 - self.conf_level:
            return _(
                "The {n} compared turn {mean} of their leads into contracts; no difference between "
                "them is established (p = {p}).",
                n=number(known.height), mean=percent(self.mean),
                p=number(self.p_value, 2) if self.p_value is not None else "–",
            )  # fmt: skip
        best, worst = known.row(0, named=True), known.row(-1, named=True)
        return _(
            "Given the same leads, conversion runs from {low} ({worst}; {low_interval}) to {high} "
            "({best}; {high_interval}) among the {n} compared.",
            low=percent(worst["estimate"]), worst=group_label(worst, self.by),
            low_interval=interval_text(worst["conf_low"], worst["conf_high"], "share"),
            high=percent(best["estimate"]), best=group_label(best, self.by),
            high_interval=interval_text(best["conf_low"], best["conf_high"], "share"),
            n=number(known.height),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the adjusted conversions with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(
            labelled_groups(self.table, self.by), label="label", ax=ax, reference=self.mean
        )
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        shares = dict.fromkeys(("raw", "raw_low", "raw_high", "expected", "chance_best"), "share")
        counts = dict.fromkeys(("n_won", "rank_low", "rank_high"), "count")
        return super().units() | shares | counts


def adjusted_conversion(
    leads: object,
    *,
    manager_col: str | Sequence[str] = "manager",
    opened_col: str = "opened_at",
    won_col: str = "won_at",
    adjust: Sequence[str] = ("source",),
    within_days: int = 90,
    since: date | None = None,
    seed: int = 0,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "empirical-bayes",
) -> AdjustedConversion:
    r"""Which managers turn more leads into contracts, given the leads they got (random intercepts).

    A logistic model says what each lead was worth: its source, and whatever else `adjust` names.
    What a manager adds to that in log odds is a random intercept: few leads say little, so such a
    manager is drawn toward the others. The estimate is the share of *all* leads that the manager
    would have won.

    Parameters
    ----------
    leads : table
        One row per lead, on any backend: see `Warehouse.leads`.
    manager_col : str or sequence of str
        Who worked on it: a column, or several that name a manager together.
    opened_col, won_col : str
        When it was opened, and when it was won (null: it was not).
    adjust : sequence of str
        Columns of categories in which leads differ; a null is a category of its own. Name what
        was so before the manager began: what they themselves change must not be taken away.
    within_days : int
        Days that a lead is given; younger leads count neither way.
    since : date, optional
        First day of opening that is counted.
    seed : int
        Of the draws behind the ranks.
    as_of : date
        Last day the data covers.
    conf_level : float
    ci_method : {"empirical-bayes"}

    Returns
    -------
    AdjustedConversion
        The best first: manager columns, ``n`` (leads), ``n_won``, ``raw`` with ``raw_low`` and
        ``raw_high`` (Wilson), ``expected`` (share that these leads would bring on average),
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``, ``rank_low`` and ``rank_high``
        (interval of the rank, 1 = best) and ``chance_best``. Null with fewer than three managers.

    Raises
    ------
    InputError
        A window below one day.
    ColumnError
        A column is missing, of another type, or null.
    NotConvergedError
        The model did not settle.

    Notes
    -----
    The fixed part is statsmodels' binomial GLM; each manager's intercept is the one-step estimate
    from score and information, shrunk with the variance between managers by Paule & Mandel, and
    both are repeated until they agree: penalised quasi-likelihood. Intervals carry the mean
    squared error of Prasad & Rao; the ranks are those of draws from it.

    References
    ----------
    Breslow & Clayton (1993), JASA 88:9-25; Goldstein & Spiegelhalter (1996), JRSS A 159:385-443
    (league tables and their uncertainty).
    """
    names = group_names(manager_col, taken=_TAKEN)
    traits = group_names(adjust, taken=(*_TAKEN, *names)) if adjust else ()
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("empirical-bayes",))
    if within_days < 1:
        raise InputError(f"'within_days' must be at least 1; got {within_days}. Pass, say, 90.")
    cells = count_cells(leads, names, traits, opened_col, won_col, within_days, since, as_of)
    young = int(cells.filter(pl.col("mature") == 0)["n"].sum())
    cells = cells.filter(pl.col("mature") == 1)
    table, between, p_value = _estimate(cells, names, traits, conf_level, seed)
    total = int(cells["n"].sum())
    return AdjustedConversion(
        table=table,
        name=_("Conversion, given the same leads"),
        unit="share",
        definition=_(
            "Share of all leads opened at least {when} before {as_of} that each would have turned "
            "into a contract within {when}, judged by what became of its own, given: {traits}.",
            when=duration_text(within_days, "day"), as_of=date_text(as_of),
            traits=", ".join(word_of(name) for name in traits) or _("nothing"),
        ) + counted_from(since),
        by=names,
        conf_level=conf_level,
        notes=_notes(table, names, young),
        p_value=p_value,
        between_sd=between,
        mean=float(cells["k"].sum() / total) if total else float("nan"),
    )  # fmt: skip


# Estimate ---------------------------------------------------------------------------------


def _estimate(
    cells: pl.DataFrame,
    names: tuple[str, ...],
    traits: tuple[str, ...],
    conf_level: float,
    seed: int,
) -> tuple[pl.DataFrame, float, float | None]:
    managers = cells.select(names).unique(maintain_order=True).with_row_index("manager_place")
    cells = cells.join(managers, on=list(names), how="left", maintain_order="left")
    who = cells["manager_place"].to_numpy().astype(np.int64)
    n, k = cells["n"].to_numpy().astype(float), cells["k"].to_numpy().astype(float)
    size, won = (np.bincount(who, values, managers.height) for values in (n, k))
    unknown = np.full(managers.height, np.nan)
    extra = {"expected": unknown, "rank_low": unknown, "rank_high": unknown, "chance_best": unknown}
    columns = five_columns(size, unknown, unknown, unknown, unknown)
    between, p_value = 0.0, None
    if managers.height >= LEAST_MANAGERS and 0 < k.sum() < n.sum():
        design = design_of(cells.select(traits), n, k)
        fixed, effect, error, between = random_intercepts(design, n, k, who)
        alone, alone_error = one_step(fixed, np.zeros_like(effect), n, k, who)
        p_value = homogeneity_p_value(alone, alone_error)
        extra = _ranks(effect, error, conf_level, seed)
        extra["expected"] = np.bincount(who, n * special.expit(fixed)) / size
        columns = _on_all_leads(fixed, n, size, effect, error, conf_level)
    raw = _raw(won, size, conf_level)
    table = managers.drop("manager_place").with_columns(
        n_won=pl.Series(won, dtype=pl.Float64).cast(pl.Int64),
        **{name: pl.Series(value).fill_nan(None) for name, value in (raw | extra).items()},
        **columns,
    )
    table = table.with_columns(pl.col("rank_low", "rank_high").cast(pl.Int64))
    return table.sort("estimate", *names, descending=[True, *([False] * len(names))],
                      nulls_last=True), between, p_value  # fmt: skip


def _on_all_leads(
    fixed: NDArray[Any],
    n: NDArray[Any],
    size: NDArray[Any],
    effect: NDArray[Any],
    error: NDArray[Any],
    conf_level: float,
) -> dict[str, pl.Series]:
    """Turn intercepts into the share of all leads that each would win."""
    z = float(special.ndtri(0.5 + conf_level / 2))
    weight = n / n.sum()

    def share(log_odds: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(special.expit(fixed[None, :] + log_odds[:, None]) @ weight)

    chance = special.expit(fixed[None, :] + effect[:, None])
    slope = (chance * (1 - chance)) @ weight
    low, high = share(effect - z * error), share(effect + z * error)
    return five_columns(size, share(effect), slope * error, low, high)


def _ranks(
    effect: NDArray[Any], error: NDArray[Any], conf_level: float, seed: int
) -> dict[str, NDArray[Any]]:
    """Return the interval of each rank and the chance of being the best, from draws."""
    rng = np.random.default_rng(seed)
    ranks = rank_draws(effect + error * rng.standard_normal((RANK_DRAWS, len(effect))), conf_level)
    return {"rank_low": ranks.low, "rank_high": ranks.high, "chance_best": ranks.best}


def _raw(won: NDArray[Any], size: NDArray[Any], conf_level: float) -> dict[str, NDArray[Any]]:
    from crm_analysis.uncertainty import wilson_interval

    low, high = wilson_interval(won, size, conf_level)
    return {"raw": won / size, "raw_low": low, "raw_high": high}


def _notes(table: pl.DataFrame, names: tuple[str, ...], young: int) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if table.height < LEAST_MANAGERS:
        notes += (_("A comparison needs at least {n} managers.", n=number(LEAST_MANAGERS)),)
    elif table["estimate"].is_null().all():
        notes += (_("No lead was won, or none was lost: nothing can be compared."),)
    else:
        notes += (_("Read the intervals, not the places in the list."),)
    if young:
        notes += (
            _("{n} leads have not had their time yet and count neither way.", n=number(young)),
        )
    return notes + small_n_notes(table, names, what=_("leads"))
