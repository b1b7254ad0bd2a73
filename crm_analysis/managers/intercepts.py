"""Leads in cells of alike ones, and a logistic model of them with an intercept for each manager."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from scipy import special

from crm_analysis.dates import to_day_number
from crm_analysis.errors import NotConvergedError
from crm_analysis.frames import Asked, collect, keys_of, open_table
from crm_analysis.uncertainty import shrink_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEAST_MANAGERS", "count_cells", "design_of", "one_step", "random_intercepts"]

LEAST_MANAGERS = 3
"""Fewer cannot be compared."""

_ROUNDS = 50
_SETTLED = 1e-6


def count_cells(
    leads: object,
    names: tuple[str, ...],
    traits: tuple[str, ...],
    opened_col: str,
    won_col: str,
    within_days: int,
    since: date | None,
    as_of: date,
    *,
    hired_col: str | None = None,
    edges: Sequence[float] = (),
) -> pl.DataFrame:
    """Count leads ``n`` and won ones ``k`` by manager, traits and whether they had their time.

    With `hired_col` also by ``band``: how many of the `edges` (days) the manager had been there
    for when the lead came; -1 for leads from before the first day.
    """
    asked = {
        "opened": Asked(opened_col, "date", "opened_col"),
        "won": Asked(won_col, "date", "won_col", nullable=True),
    }
    if hired_col is not None:
        asked["hired"] = Asked(hired_col, "date", "hired_col", nullable=True)
    by = (*names, *traits)
    last = to_day_number(as_of)
    frame = open_table(leads, asked, by=by).filter(nw.col("opened") <= last)
    if since is not None:
        frame = frame.filter(nw.col("opened") >= to_day_number(since))
    # Whoever nobody is responsible for says nothing of anybody's work.
    for key in keys_of(names):
        frame = frame.filter(~nw.col(key).is_null())
    frame = frame.with_columns(
        (nw.col("opened") <= last - within_days).cast(nw.Int64).alias("mature"),
        (nw.col("won") - nw.col("opened")).alias("wait"),
    )
    bands: tuple[str, ...] = ()
    if hired_col is not None:
        bands = ("band",)
        frame = frame.filter(~nw.col("hired").is_null())
        frame = frame.with_columns(_band(nw.col("opened") - nw.col("hired"), edges).alias("band"))
    won = nw.when(nw.col("wait") <= within_days).then(nw.lit(1)).otherwise(nw.lit(0))
    frame = frame.with_columns(won.alias("k"))
    counted = frame.group_by(*keys_of(by), "mature", *bands).agg(
        nw.len().alias("n"), nw.col("k").sum()
    )
    return collect(counted, by=by, order=["mature", *bands])


def _band(days: nw.Expr, edges: Sequence[float]) -> nw.Expr:
    passed = [nw.when(days >= edge).then(nw.lit(1)).otherwise(nw.lit(0)) for edge in (0, *edges)]
    return sum(passed[1:], passed[0]) - 1


def design_of(traits: pl.DataFrame, n: NDArray[Any], k: NDArray[Any]) -> NDArray[Any]:
    """Return a column of ones and an indicator for every value but each trait's most frequent.

    A value with which none or all were won has no finite effect: such values are put together as
    one, and with the most frequent one where even that does not help.
    """
    columns = [np.ones(len(n))]
    for name in traits.columns:
        cells = pl.DataFrame(
            {"value": traits[name].cast(pl.String).fill_null("\0"), "n": n, "k": k}
        )
        value = _folded(_folded(cells["value"], cells, "\1"), cells, None)
        often = cells.with_columns(value).group_by("value").agg(pl.col("n").sum())
        order = often.sort("n", "value", descending=[True, False])["value"].to_list()
        columns += [(value == one).to_numpy().astype(float) for one in order[1:]]
    return np.column_stack(columns)


def _folded(value: pl.Series, cells: pl.DataFrame, into: str | None) -> pl.Series:
    """Put values that tell won from lost without error into one, by default the most frequent."""
    sums = cells.with_columns(value).group_by("value").agg(pl.col("n", "k").sum())
    clear = sums.filter((pl.col("k") == 0) | (pl.col("k") == pl.col("n")))["value"].to_list()
    if into is None:
        into = sums.sort("n", "value", descending=[True, False])["value"][0]
    return value.replace(clear, [into] * len(clear))


def random_intercepts(
    design: NDArray[Any], n: NDArray[Any], k: NDArray[Any], who: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
    """Fit the fixed part and the managers' intercepts in turn until they agree.

    Returns the fixed part of each cell, each manager's intercept with its error (log odds), and
    the standard deviation between managers.
    """
    effect, start = np.zeros(int(who.max()) + 1), None
    for _round in range(_ROUNDS):
        start = _coefficients(design, n, k, effect[who], start)
        fixed = design @ start
        alone, error = one_step(fixed, effect, n, k, who)
        drawn = shrink_groups(alone, error)
        # The level of all managers is the intercept of the fixed part, not theirs.
        fresh = drawn.estimate - np.average(drawn.estimate, weights=1 / drawn.std_error**2)
        if np.max(np.abs(fresh - effect)) < _SETTLED:
            return fixed, fresh, drawn.std_error, float(np.sqrt(drawn.between_variance))
        effect = fresh
    raise NotConvergedError(
        f"The model of conversion by manager was fitted {_ROUNDS} times in turn and did not "
        "settle. Leave out traits with many rare values from 'adjust', or take a longer period."
    )


def _coefficients(
    design: NDArray[Any],
    n: NDArray[Any],
    k: NDArray[Any],
    offset: NDArray[Any],
    start: NDArray[Any] | None,
) -> NDArray[Any]:
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    model = GLM(np.column_stack([k, n - k]), design, family=Binomial(), offset=offset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # asked for in the next line
        fit = model.fit(start_params=start, method="newton", disp=False)
    if not fit.mle_retvals["converged"]:
        raise NotConvergedError(
            "The logistic model of leads did not settle: some traits together tell won from lost "
            "leads without error. Name fewer traits in 'adjust', or take a longer period."
        )
    return np.asarray(fit.params, np.float64)


def one_step(
    fixed: NDArray[Any], effect: NDArray[Any], n: NDArray[Any], k: NDArray[Any], who: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each manager's own intercept by one step from score and information, and its error."""
    chance = special.expit(fixed + effect[who])
    score = np.bincount(who, k - n * chance, len(effect))
    information = np.bincount(who, n * chance * (1 - chance), len(effect))
    return effect + score / information, 1 / np.sqrt(information)
