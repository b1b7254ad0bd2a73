"""Whether the ratios of a Cox regression stay the same however long a relationship has lasted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, p_text
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.retention.cox import CoxFit, regress
from crm_analysis.survival import Comparison, holm
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ProportionalHazards", "proportional_hazards"]

Floats = NDArray[np.float64]

_CLOCKS = ("km", "rank", "days")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ProportionalHazards(Estimates):
    """How far each ratio of a Cox regression moves from the first departure to the last.

    The table has, beside the usual five, ``trait``, ``n_exits``, ``ratio_first`` and
    ``ratio_last`` (the ratio at the first and the last departure, were it to move evenly),
    ``chi_squared``, ``p_value`` and ``p_adjusted`` (Holm, over the traits). The estimate is the
    last over the first: 1 where the ratio stays.

    Attributes
    ----------
    test : Comparison or None
        That no ratio moves, all traits together; None where no model can be fitted.
    """

    test: Comparison | None = None

    def sentence(self) -> str:
        """Return whether the ratios stay the same, and which of them move."""
        if self.test is None:
            return _("{name}: there is nothing to test.", name=self.name)
        text = {
            "x": number(self.test.statistic, 2),
            "k": number(self.test.freedom),
            "p": p_text(self.test.p_value),
        }
        if self.test.p_value >= 1 - self.conf_level:
            return _(
                "No change of the ratios with time is established (chi-squared {x} on {k}, {p}).",
                **text,
            )
        found = _("The ratios change with time (chi-squared {x} on {k}, {p})", **text)
        moved = self.table.filter(pl.col("p_adjusted") < 1 - self.conf_level).sort("p_value")
        if moved.is_empty():
            return found + "."
        parts = [
            _(
                "{trait} ×{first} at first and ×{last} at last",
                trait=row["trait"],
                first=number(row["ratio_first"], 2),
                last=number(row["ratio_last"], 2),
            )
            for row in moved.head(4).to_dicts()
        ]
        return _("{found}: {traits}.", found=found, traits="; ".join(parts))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw by what each ratio is multiplied around 1, on a ratio scale; return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(self.table, label="trait", ax=ax, reference=1.0)
        figures.ratio_axis(ax)
        ax.set_xlabel(_("Ratio at the last departure over that at the first"))
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"ratio_first": "number", "ratio_last": "number"}


def proportional_hazards(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    factors: str | Sequence[str],
    clock: str = "km",
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "score",
) -> ProportionalHazards:
    r"""Do the ratios of `hazard_ratios` hold at every time? (Grambsch & Therneau's score test).

    Each log ratio is let move as :math:`\beta_j + \theta_j g(t)`, and :math:`\theta_j = 0` is
    tested by the score: a weighted sum of the Schoenfeld residuals, which are the traits of those
    who left on a day less what is expected of those at risk.

    Parameters
    ----------
    spells, start_col, end_col, entry_col, factors, as_of
        As for `hazard_ratios`.
    clock : {"km", "rank", "days"}
        The transformation g of time: one minus the Kaplan-Meier curve just before the day (as R's
        ``cox.zph`` by default), the rank of the day among those on which somebody left, or days.
    conf_level : float
    ci_method : {"score"}
        One Newton step from :math:`\theta_j = 0`, whose Wald test is the score test itself.

    Returns
    -------
    ProportionalHazards
        Columns ``trait``, ``n_exits``, ``n`` (relationships), ``estimate`` (ratio at the last
        departure over that at the first), ``std_error``, ``conf_low``, ``conf_high``,
        ``ratio_first``, ``ratio_last``, ``chi_squared`` (on 1 degree), ``p_value``,
        ``p_adjusted``. Null, with a note, where no model can be fitted or all leave on one day.

    Raises
    ------
    InputError
        No factor, an unknown clock; spells that end before they start.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    A ratio that moves is still an average over time, weighted by when customers left, but it is
    wrong for the young and for the old relationship: show curves by trait, or fit periods apart.
    With very many departures changes too small to matter are found too.

    References
    ----------
    Grambsch & Therneau (1994), Biometrika 81:515-526; Schoenfeld (1982), Biometrika 69:239-241.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date, timedelta
    >>> first, days = date(2024, 1, 1), [3, 5, 9, 12, 14, 20]
    >>> spells = pl.DataFrame({
    ...     "started_on": [first] * 6,
    ...     "ended_on": [first + timedelta(days=d) for d in days],
    ...     "brand": ["Kia", "Lada", "Kia", "Lada", "Kia", "Lada"],
    ... })
    >>> found = proportional_hazards(spells, factors="brand", as_of=date(2024, 12, 31))
    >>> found.table.select("trait", pl.col("chi_squared", "p_value").round(2)).row(0)
    ('Lada', 0.0, 0.96)
    """
    names = group_names(factors)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("clock", clock, _CLOCKS)
    check_one_of("ci_method", ci_method, ("score",))
    if not names:
        raise InputError("A test was asked for without a factor. Name at least one column.")
    model = regress(spells, (start_col, end_col, entry_col), as_of, names)
    known = model.known
    found = None if model.fit is None else _moves(model.fit, clock)
    table = _table(model.traits, model.n_exits, known.height, found, conf_level)
    return ProportionalHazards(
        table=table,
        name=_("Whether the ratios of leaving stay the same over time"),
        unit="number",
        definition=_(
            "Ratio of the pace of leaving at the last departure over that at the first, were it to "
            "move evenly along {clock}; score test of Grambsch & Therneau (1994) on a Cox "
            "regression, relationships still open on {as_of} count until then.",
            clock=_clock_words(clock),
            as_of=date_text(as_of),
        ),
        by=("trait",),
        conf_level=conf_level,
        notes=_notes(model.n_left_out, found),
        test=None if found is None else found.test,
    )


# Steps ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Moves:
    """How the log ratios move from the first departure (clock at 0) to the last (at 1).

    Attributes
    ----------
    slope, error, first : ndarray, shape (traits,)
        Change of each log ratio with its standard error, and the log ratio at the start.
    test : Comparison
    """

    slope: Floats
    error: Floats
    first: Floats
    test: Comparison


def _moves(fit: CoxFit, clock: str) -> _Moves | None:
    """Return what the score test finds; None where all leave on one day."""
    there, sets = fit.there, fit.there.sets
    if len(sets.day) < 2:
        return None
    before = np.append(1.0, sets.stays()[:-1])
    ticks = {"km": 1 - before, "rank": np.arange(len(sets.day), dtype=float), "days": sets.day}
    g = ticks[clock]
    g = ((g - g[0]) / (g[-1] - g[0]))[sets.at]
    score = g @ there.residuals
    plain, mixed, moving = (there.information(g**power) for power in (0, 1, 2))
    # What is left of the information once the ratios themselves are fitted again.
    shifts = np.linalg.solve(plain, mixed)
    left = moving - mixed.T @ shifts
    own = np.diag(left)
    if (own <= 0).any() or np.linalg.matrix_rank(left) < len(left):
        return None
    slope, error = score / own, 1 / np.sqrt(own)
    statistic = float(score @ np.linalg.solve(left, score))
    p = float(stats.chi2.sf(statistic, len(own)))
    first = fit.beta - np.diag(shifts) * slope
    return _Moves(slope, error, first, Comparison(statistic, len(own), p))


def _table(
    traits: Sequence[str], n_exits: int, n: int, found: _Moves | None, conf_level: float
) -> pl.DataFrame:
    unknown = np.full(len(traits), np.nan)
    slope, error, first = (
        (unknown,) * 3 if found is None else (found.slope, found.error, found.first)
    )
    half = normal_quantile(conf_level) * error
    ratio = np.exp(slope)
    chi_squared = (slope / error) ** 2
    p = stats.chi2.sf(chi_squared, 1)
    more = {
        "ratio_first": np.exp(first),
        "ratio_last": np.exp(first + slope),
        "chi_squared": chi_squared,
        "p_value": p,
        "p_adjusted": holm(p),
    }
    low, high = np.exp(slope - half), np.exp(slope + half)
    return pl.DataFrame(
        {
            "trait": pl.Series(traits, dtype=pl.String),
            "n_exits": pl.Series([n_exits] * len(traits), dtype=pl.Int64),
            **five_columns(np.full(len(traits), n), ratio, ratio * error, low, high),
            **{k: pl.Series(v, dtype=pl.Float64).fill_nan(None) for k, v in more.items()},
        }
    )


def _clock_words(clock: str) -> str:
    return {
        "km": _("the share of customers who have left (Kaplan-Meier)"),
        "rank": _("the order of the days on which somebody left"),
        "days": _("days since the start"),
    }[clock]


def _notes(lost: int, found: _Moves | None) -> tuple[str, ...]:
    if found is None:
        return (
            _(
                "No model can be tested: nobody has left, all on one day, no trait varies, or two "
                "traits say the same."
            ),
        )
    notes: tuple[str, ...] = (
        _(
            "A ratio that changes with time is an average over all times: it is too large for one "
            "part of a relationship and too small for another. Then compare curves by trait "
            "instead of quoting one ratio."
        ),
    )
    if lost:
        notes += (
            _("{n} relationships in which a trait is not known are left out.", n=number(lost)),
        )
    return notes
