"""What the checks of a model share: classes of customers, the marks of a forecast, its words."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crm_analysis.errors import InputError
from crm_analysis.frames import check_as_of
from crm_analysis.uncertainty import exact_rate_interval, mean_interval
from crm_analysis.wording import _, percent

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

__all__ = [
    "HIGHEST",
    "MISFIT",
    "MODEL_COLOUR",
    "calibration_end",
    "count_interval",
    "draw_expected",
    "frequency_classes",
    "off_text",
]

Floats = NDArray[np.float64]

HIGHEST = 7
"""Customers with this many repeats or more stand in one class."""

MISFIT = 0.05
"""From this share of customers in the wrong class, or bias of a forecast, a note warns."""

MODEL_COLOUR = "C1"


def frequency_classes() -> list[str]:
    """Return the names of the classes by repeat purchases."""
    return [*(str(k) for k in range(HIGHEST)), f"{HIGHEST}+"]


def draw_expected(table: pl.DataFrame, ax: Axes) -> None:
    """Draw what a model expects as diamonds, one per row."""
    known = [(v, row) for row, v in enumerate(table["expected"]) if v is not None]
    if known:
        ax.scatter(
            [v for v, _row in known], [row for _v, row in known],
            marker="D", color=MODEL_COLOUR, zorder=4, label=_("expected by the model"),
        )  # fmt: skip
        ax.legend(loc="best")


def count_interval(
    mean: Floats, deviation: Floats, n: NDArray[np.int64], conf_level: float
) -> tuple[Floats, Floats]:
    """Return Student's t interval of mean counts, never below none.

    Where nobody bought the upper bound is Poisson's: a class is not known to buy nothing.
    """
    low, high = mean_interval(mean, deviation, n, conf_level)
    nobody = mean == 0
    upper = exact_rate_interval(0 * n, n, conf_level)[1]
    return np.where(nobody, 0.0, np.maximum(low, 0.0)), np.where(nobody, upper, high)


def off_text(expected: float, seen: float) -> str:
    """Return by how much a forecast missed, in words."""
    if not seen:
        return _("none was made")
    share = expected / seen - 1
    if abs(share) < 0.0005:
        return _("as expected")
    if share > 0:
        return _("{share} too many expected", share=percent(share))
    return _("{share} too few expected", share=percent(-share))


def calibration_end(as_of: date, holdout_days: int) -> tuple[date, date]:
    """Return the last day of the data, and the last day that a model may see.

    Raises
    ------
    InputError
    """
    as_of = check_as_of(as_of)
    if holdout_days != int(holdout_days) or holdout_days < 1:
        raise InputError(
            f"'holdout_days' must be a whole number of days of 1 or more; got {holdout_days!r}. "
            "Pass, for example, holdout_days=180."
        )
    return as_of, as_of - timedelta(days=holdout_days)
