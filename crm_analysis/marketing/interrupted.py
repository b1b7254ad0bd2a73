"""A campaign without anybody to compare with: the series before and after, season taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import DAYS_PER_YEAR, date_of, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    open_table,
)
from crm_analysis.marketing.effects import CampaignEffect, with_naive
from crm_analysis.marketing.staggered import before_after
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from numpy.typing import NDArray

__all__ = ["interrupted_effect"]

WEEK = 7
FEWEST_WEEKS = 26
_SEASONAL_WEEKS = 104
"""Two years: before that a season cannot be told from a trend."""


def interrupted_effect(
    events: object,
    *,
    at_col: str = "opened_at",
    windows: Sequence[tuple[date, date]],
    since: date | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "hac",
) -> CampaignEffect:
    r"""How did leads change while campaigns ran, beside trend and season (Poisson, HAC errors).

    Use it where nobody was without the campaign; with someone to compare with, `staggered_effect`
    assumes less.

    Parameters
    ----------
    events : table
        One row per lead, on any backend.
    at_col : str
    windows : sequence of (date, date)
        First and last day of each campaign. A week counts as far as its days lie in one.
    since : date, optional
        First day of the series; else the first event.
    as_of : date
        Last day of the series.
    conf_level : float
    ci_method : {"hac"}
        Newey & West: neighbouring weeks may be alike.

    Returns
    -------
    CampaignEffect
        ``measure`` = ``"relative_lift"``, ``n`` (leads), and the five. `detail` has the series:
        ``week_on``, ``n``, ``campaign`` (share of the week in a campaign), ``fitted`` and
        ``without`` (what the model expects without campaigns). Null with fewer than 26 weeks, or
        where campaigns ran always or never.

    Raises
    ------
    InputError
        A window that ends before it begins, or none at all.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    .. math:: \log \mathrm{E} Y_t = \beta_0 + \beta_1 t + \mathrm{season}(t) + \delta\, x_t, \qquad
              \mathrm{lift} = e^{\delta} - 1

    on whole weeks; the season is two waves of a year, from two years of data on. The lag of the
    errors is :math:`\lfloor 4 (T / 100)^{2/9} \rfloor`.

    References
    ----------
    Wagner et al. (2002), J. Clinical Pharmacy and Therapeutics 27:299-309; Newey & West (1987),
    Econometrica 55:703-708; Newey & West (1994), Review of Economic Studies 61:631-653 (lag).
    """
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("hac",))
    for start, end in windows:
        if end < start:
            raise InputError(
                f"A campaign from {start} to {end} was given, which ends before it begins. Pass "
                "(first day, last day)."
            )
    if not windows:
        raise InputError(
            "The effect of campaigns was asked for without any. Pass 'windows' as a list of "
            "(first day, last day)."
        )
    series = _weeks(events, at_col, windows, since, as_of)
    fitted = _fit(series)
    five = _five(series, fitted, conf_level)
    detail = series if fitted is None else series.with_columns(
        fitted=pl.Series(fitted[2]), without=pl.Series(fitted[3])
    )  # fmt: skip
    effect = CampaignEffect(
        table=pl.DataFrame({"measure": ["relative_lift"], **five}),
        name=_("Leads while campaigns ran"),
        unit="share",
        definition=_(
            "Leads by week up to {as_of}, while campaigns ran against what trend and season let "
            "expect.",
            as_of=date_text(as_of),
        ),
        by=("measure",),
        conf_level=conf_level,
        notes=_notes(series, fitted),
        detail=detail,
        p_value=None if fitted is None else fitted[4],
    )
    return with_naive(effect, _naive(series, conf_level))


def _weeks(
    events: object,
    at_col: str,
    windows: Sequence[tuple[date, date]],
    since: date | None,
    as_of: date,
) -> pl.DataFrame:
    """Count events by whole week that ends at `as_of`, with the share of it in a campaign."""
    last = to_day_number(as_of)
    frame = open_table(events, {"day": Asked(at_col, "date", "at_col")})
    frame = frame.filter(nw.col("day") <= last)
    if since is not None:
        frame = frame.filter(nw.col("day") >= to_day_number(since))
    cells = collect(frame.group_by("day").agg(nw.len().alias("n")), order=["day"])
    day, n = cells["day"].to_numpy(), cells["n"].to_numpy()
    earliest = int(day[0]) if len(day) else last
    n_weeks = (last - (to_day_number(since) if since else earliest) + 1) // WEEK
    back = (last - day) // WEEK
    seen = back < n_weeks
    counts = np.bincount(n_weeks - 1 - back[seen], n[seen], n_weeks).astype(np.int64)
    first = last - n_weeks * WEEK + 1
    on = np.zeros(n_weeks * WEEK)
    for start, end in windows:
        on[max(to_day_number(start) - first, 0) : max(to_day_number(end) - first + 1, 0)] = 1.0
    return pl.DataFrame(
        {
            "week_on": pl.Series(
                [date_of(first + WEEK * i) for i in range(n_weeks)], dtype=pl.Date
            ),
            "n": counts,
            "campaign": on.reshape(n_weeks, WEEK).mean(axis=1),
        }
    )


def _fit(series: pl.DataFrame) -> tuple[float, float, NDArray[Any], NDArray[Any], float] | None:
    """Fit the model: effect and its error in logs, fitted, expected without, p-value."""
    on, y = series["campaign"].to_numpy(), series["n"].to_numpy().astype(float)
    if series.height < FEWEST_WEEKS or np.ptp(on) == 0 or y[on > 0].sum() == 0:
        return None
    from statsmodels.genmod.families import Poisson
    from statsmodels.genmod.generalized_linear_model import GLM

    t = np.arange(len(y))
    columns = [np.ones(len(y)), (t - t.mean()) / len(y)]
    if len(y) >= _SEASONAL_WEEKS:
        turn = 2 * np.pi * np.array([day.timetuple().tm_yday for day in series["week_on"]])
        columns += [f(k * turn / DAYS_PER_YEAR) for k in (1, 2) for f in (np.sin, np.cos)]
    design = np.column_stack([on, *columns])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    lags = int(4 * (len(y) / 100) ** (2 / 9))
    found = GLM(y, design, family=Poisson()).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    effect, error = float(found.params[0]), float(found.bse[0])
    fitted = np.asarray(found.fittedvalues, np.float64)
    return effect, error, fitted, fitted / np.exp(effect * on), float(found.pvalues[0])


def _five(series: pl.DataFrame, fitted: Any, conf_level: float) -> dict[str, pl.Series]:
    n = [int(series["n"].sum())]
    if fitted is None:
        return five_columns(n, *([float("nan")],) * 4)
    effect, error = fitted[:2]
    half = normal_quantile(conf_level) * error
    lift = np.exp([effect, effect - half, effect + half])
    return five_columns(n, [lift[0] - 1], [lift[0] * error], [lift[1] - 1], [lift[2] - 1])


def _naive(series: pl.DataFrame, conf_level: float) -> Estimates:
    """Compare weeks of campaigns with those of none, and nothing else."""
    on = series.filter(pl.col("campaign") > 0.5)
    off = series.filter(pl.col("campaign") <= 0.5)
    ratio = off.height / on.height if on.height else 0.0
    found = before_after(float(on["n"].sum()), float(off["n"].sum()), ratio, conf_level)
    return Estimates(
        table=pl.DataFrame(five_columns([int(on["n"].sum())], *([value] for value in found))),
        name=_("Weeks with campaigns against weeks without"),
        unit="share",
        definition=_("Mean leads of weeks with a campaign against those of weeks without."),
        conf_level=conf_level,
    )


def _notes(series: pl.DataFrame, fitted: Any) -> tuple[str, ...]:
    if fitted is None:
        return (
            _("Weeks with and without campaigns are too few to tell them from trend and season "
              "({n} weeks; {least} are needed).", n=number(series.height),
              least=number(FEWEST_WEEKS)),
        )  # fmt: skip
    notes: tuple[str, ...] = (
        _("Whatever else changed on the days of campaigns is taken for their effect."),
    )  # fmt: skip
    if series.height < _SEASONAL_WEEKS:
        notes += (_("With less than two years the season is not taken out."),)
    return notes
