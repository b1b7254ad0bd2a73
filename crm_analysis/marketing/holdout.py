"""A campaign with a randomised holdout: those who got it against those who by lot did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from scipy import special

from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import SMALL_N, five_columns
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    open_table,
)
from crm_analysis.marketing.effects import CampaignEffect
from crm_analysis.uncertainty import newcombe_difference
from crm_analysis.wording import _, date_text, number, percent

if TYPE_CHECKING:
    from datetime import date

__all__ = ["Arm", "arm_difference", "holdout_effect", "relative_lift"]

SUSPICIOUS_SPLIT = 0.001
"""Below this p-value the arms are not split as they were meant to be: the usual alarm level of
sample-ratio checks (Fabijan et al. 2019, KDD: 2156-2164)."""


@dataclass(frozen=True)
class Arm:
    """One arm of an experiment: units, the sum of their outcomes and of the squares."""

    n: float
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """Return the mean outcome, ``nan`` without units."""
        return self.total / self.n if self.n else float("nan")

    @property
    def variance(self) -> float:
        """Return the sample variance, ``nan`` below two units."""
        if self.n < 2:
            return float("nan")
        return max(self.squares - self.total**2 / self.n, 0.0) / (self.n - 1)


def relative_lift(
    treated: Arm, control: Arm, conf_level: float = 0.95
) -> tuple[float, float, float, float, float]:
    r"""Compare two means as a ratio less one, with its delta-method error.

    .. math:: \hat r = \frac{\bar y_1}{\bar y_0} - 1, \quad
              \mathrm{var} = \frac{s_1^2}{n_1 \bar y_0^2} + \frac{\bar y_1^2 s_0^2}{n_0 \bar y_0^4}

    Returns
    -------
    lift, std_error, low, high, p_value : float
        By Student's t with Welch's degrees of freedom; ``nan`` where the control's mean is 0 or an
        arm has fewer than two units.

    References
    ----------
    Deng, Knoblich & Lu (2018), KDD: 233-242 (delta method); Welch (1947), Biometrika 34:28-35.

    Examples
    --------
    >>> control = Arm(3407, 1396.87, 52377.9767)
    >>> lift, _error, low, high, p = relative_lift(Arm(3461, 2422.7, 134698.29), control)
    >>> [round(value, 5) for value in (lift, low, high, p)]
    [0.70732, -0.03526, 1.44989, 0.06191]
    """
    nan = float("nan")
    y1, y0 = treated.mean, control.mean
    if not (treated.n >= 2 and control.n >= 2 and y0 != 0):
        return (y1 / y0 - 1 if y0 else nan), nan, nan, nan, nan
    lift = y1 / y0 - 1
    error = float(
        np.sqrt(treated.variance / treated.n / y0**2 + y1**2 * control.variance / control.n / y0**4)
    )
    return lift, error, *_t_bounds(lift, error, treated, control, conf_level)


def arm_difference(
    treated: Arm, control: Arm, conf_level: float = 0.95
) -> tuple[float, float, float, float, float]:
    """Compare two means by their difference (Welch): difference, error, low, high, p-value."""
    difference = treated.mean - control.mean
    if treated.n < 2 or control.n < 2:
        return difference, *(float("nan"),) * 4
    error = float(np.sqrt(treated.variance / treated.n + control.variance / control.n))
    return difference, error, *_t_bounds(difference, error, treated, control, conf_level)


def _t_bounds(
    value: float, error: float, treated: Arm, control: Arm, conf_level: float
) -> tuple[float, float, float]:
    a, b = treated.variance / treated.n, control.variance / control.n
    if a + b == 0 or error == 0:
        return float("nan"), float("nan"), float("nan")
    freedom = (a + b) ** 2 / (a**2 / (treated.n - 1) + b**2 / (control.n - 1))
    half = float(special.stdtrit(freedom, 0.5 + conf_level / 2)) * error
    p_value = float(2 * special.stdtr(freedom, -abs(value / error)))
    return value - half, value + half, p_value


def holdout_effect(
    units: object,
    *,
    outcome_col: str,
    treated_col: str,
    at_col: str | None = None,
    treated_share: float | None = None,
    since: date | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "newcombe",
) -> CampaignEffect:
    """What did a campaign bring to those chosen for it by lot (Newcombe; delta method, Welch).

    Everyone counts in the arm they were drawn into, whether or not the campaign reached them.

    Parameters
    ----------
    units : table
        One row per customer (or whatever was drawn by lot), on any backend.
    outcome_col : str
        What came of them: 0 and 1, a count, or money. A null counts as nothing.
    treated_col : str
        Whether the lot gave them the campaign (true) or held them out.
    at_col : str, optional
        The day they were drawn, if `since` and `as_of` are to choose among them.
    treated_share : float, optional
        The share meant to be treated: arms split otherwise are a sign that something is lost.
    since : date, optional
    as_of : date
        Last day of the outcome.
    conf_level : float
    ci_method : {"newcombe", "welch"}
        Interval of the difference of shares; outcomes other than 0 and 1 always take Welch's.

    Returns
    -------
    CampaignEffect
        Rows ``measure`` = ``"difference"`` and ``"relative_lift"`` with ``n`` and the five, the
        first in the outcome's own unit. `detail` holds the arms. The two can disagree: a
        difference may be established while its ratio is not.

    Raises
    ------
    InputError
        A share outside (0, 1), or an arm without anybody.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Newcombe (1998), Statistics in Medicine 17:873-890; Deng, Knoblich & Lu (2018), KDD: 233-242;
    Fabijan et al. (2019), KDD: 2156-2164 (sample-ratio check).
    """
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("newcombe", "welch"))
    if treated_share is not None and not 0 < treated_share < 1:
        raise InputError(
            f"A treated share of {treated_share!r} was asked for; it lies between 0 and 1. Pass "
            "0.75 when a quarter was held out."
        )
    arms, shares = _arms(units, outcome_col, treated_col, at_col, since, as_of)
    treated, control = arms[True], arms[False]
    if not (treated.n and control.n):
        raise InputError(
            f"Two arms were asked for; {treated.n:.0f} rows are treated and {control.n:.0f} held "
            f"out. Look at {treated_col!r}: without a holdout there is nothing to compare with."
        )
    difference = arm_difference(treated, control, conf_level)
    if shares and ci_method == "newcombe":
        bounds = newcombe_difference(treated.total, treated.n, control.total, control.n, conf_level)
        difference = (*difference[:2], float(bounds[0]), float(bounds[1]), difference[4])
    lift = relative_lift(treated, control, conf_level)
    n = int(treated.n + control.n)
    rows = list(zip(difference, lift, strict=True))
    table = pl.DataFrame(
        {
            "measure": ["difference", "relative_lift"],
            **five_columns([n, n], *rows[:4]),
        }
    )
    return CampaignEffect(
        table=table,
        name=_("Effect of the campaign"),
        unit="share",
        definition=_(
            "Mean outcome of those drawn for the campaign against that of those held out by lot, "
            "up to {as_of}: the difference, and as a share of the held out.",
            as_of=date_text(as_of),
        ),
        by=("measure",),
        conf_level=conf_level,
        notes=_notes(treated, control, treated_share, difference, lift, conf_level),
        detail=_detail(arms),
        p_value=lift[4] if np.isfinite(lift[4]) else None,
    )


def _arms(
    units: object,
    outcome_col: str,
    treated_col: str,
    at_col: str | None,
    since: date | None,
    as_of: date,
) -> tuple[dict[bool, Arm], bool]:
    """Sum the outcome by arm; and say whether it is always 0 or 1."""
    asked = {
        "treated": Asked(treated_col, "flag", "treated_col"),
        "y": Asked(outcome_col, "number", "outcome_col", nullable=True),
    }
    if at_col is not None:
        asked["day"] = Asked(at_col, "date", "at_col")
    frame = open_table(units, asked)
    if at_col is not None:
        frame = frame.filter(nw.col("day") <= to_day_number(as_of))
        if since is not None:
            frame = frame.filter(nw.col("day") >= to_day_number(since))
    frame = frame.with_columns(nw.col("y").fill_null(0.0)).with_columns(
        (nw.col("y") * nw.col("y")).alias("squares"),
        nw.when((nw.col("y") != 0) & (nw.col("y") != 1)).then(nw.lit(1)).otherwise(nw.lit(0))
        .alias("other"),
    )  # fmt: skip
    counted = collect(
        frame.group_by("treated").agg(
            nw.len().alias("n"), nw.col("y").sum(), nw.col("squares").sum(), nw.col("other").sum()
        )
    )
    arms = {True: Arm(0, 0.0, 0.0), False: Arm(0, 0.0, 0.0)}
    for row in counted.iter_rows(named=True):
        arms[bool(row["treated"])] = Arm(row["n"], row["y"], row["squares"])
    return arms, not int(counted["other"].sum() or 0)


def _detail(arms: dict[bool, Arm]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {"arm": name, "n": int(arms[key].n), "total": arms[key].total, "mean": arms[key].mean}
        for key, name in ((True, "treated"), (False, "held_out"))
    ]
    return pl.DataFrame(rows)


def _notes(
    treated: Arm,
    control: Arm,
    treated_share: float | None,
    difference: tuple[float, ...],
    lift: tuple[float, ...],
    conf_level: float,
) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if treated_share is not None:
        p = _split_p_value(treated.n, control.n, treated_share)
        if p < SUSPICIOUS_SPLIT:
            share = treated.n / (treated.n + control.n)
            notes += (
                _("{share} were treated where {meant} were meant to be (p < {level}): somebody "
                  "is lost, and the comparison is not to be trusted.",
                  share=percent(share), meant=percent(treated_share),
                  level=number(SUSPICIOUS_SPLIT, 3)),
            )  # fmt: skip
    level = 1 - conf_level
    if (difference[4] < level) != (lift[4] < level):
        notes += (
            _("The difference (p = {a}) and the ratio (p = {b}) disagree on whether there is an "
              "effect: take neither for proof.", a=number(difference[4], 3),
              b=number(lift[4], 3)),
        )  # fmt: skip
    if min(treated.n, control.n) < SMALL_N:
        notes += (
            _("An arm has fewer than {n} units: read with care.", n=number(SMALL_N)),
        )  # fmt: skip
    return notes


def _split_p_value(treated: float, control: float, share: float) -> float:
    """Test the split against the one that was meant (chi-squared, one degree)."""
    n = treated + control
    z2 = (treated - n * share) ** 2 / (n * share * (1 - share))
    return float(special.chdtrc(1, z2))
