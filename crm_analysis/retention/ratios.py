"""How much faster or slower customers with a trait leave (Cox regression)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    group_names,
)
from crm_analysis.retention.cox import CoxFit, regress
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["HazardRatios", "hazard_ratios"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class HazardRatios(Estimates):
    """Ratios of the pace of leaving: one row per trait, or per value of a trait.

    The table has, beside the usual five, ``trait`` (in the reader's words), ``n_exits``
    and ``p_value``.

    Attributes
    ----------
    concordance : float or None
        Harrell's: how often, of two customers, the one who left sooner had been given the higher
        pace; one half is no better than a coin. In the same data that taught the model.
    """

    concordance: float | None = None

    def sentence(self) -> str:
        """Return the traits that go most surely with leaving sooner or later."""
        clear = self.table.filter(pl.col("p_value") < 1 - self.conf_level).sort("p_value")
        if clear.is_empty():
            return _("{name}: no trait is established.", name=self.name)
        parts = [
            f"{row['trait']} ×{number(row['estimate'], 2)}" for row in clear.head(4).to_dicts()
        ]
        return _("The pace of leaving goes most surely with: {traits}.", traits=", ".join(parts))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the ratios around 1, on a ratio scale, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(self.table, label="trait", ax=ax, reference=1.0)
        figures.ratio_axis(ax)
        ax.set_xlabel(_("Pace of leaving multiplied by"))
        ax.set_title(self.name)
        return ax


def hazard_ratios(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    factors: str | Sequence[str],
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "wald",
) -> HazardRatios:
    """How much faster do customers with a trait leave than others (Cox, Efron's ties).

    Parameters
    ----------
    spells, start_col, end_col, entry_col, as_of
        As for `retention_curve`; time is counted in days.
    factors : str or sequence of str
        Columns known at the start of each relationship. A number counts by its value; words, and
        true or false, by their values, each against the most frequent one. Relationships in which
        one is null are left out.
    conf_level : float
    ci_method : {"wald"}
        Of the log ratios.

    Returns
    -------
    HazardRatios
        Columns ``trait``, ``n_exits``, ``n`` (relationships), ``estimate`` (ratio),
        ``std_error``, ``conf_low``, ``conf_high``, ``p_value``. Null, with a note that says why,
        where no model can be fitted.

    Raises
    ------
    InputError
        No factor; spells that end before they start.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    Assumes that the ratio is the same at every time since the start. Ratios describe: what goes
    with leaving need not be what makes customers leave.

    References
    ----------
    Cox (1972), JRSS B 34:187-220; Efron (1977), JASA 72:557-565; Harrell et al. (1982), JAMA
    247:2543-2546.

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
    >>> found = hazard_ratios(spells, factors="brand", as_of=date(2024, 12, 31))
    >>> found.table.select("trait", pl.col("estimate").round(2)).row(0)
    ('Lada', 0.53)
    """
    names = group_names(factors)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wald",))
    if not names:
        raise InputError("Ratios were asked for without a factor. Name at least one column.")
    found = regress(spells, (start_col, end_col, entry_col), as_of, names)
    fit = found.fit
    # Of those who came late nobody knows how long they would have been there before.
    agreed = None if fit is None or entry_col is not None else fit.concordance()
    table = _table(found.traits, found.n_exits, found.known.height, fit, conf_level)
    return HazardRatios(
        table=table,
        name=_("Pace of leaving, by trait"),
        unit="number",
        definition=_(
            "Pace of leaving at any time since the start, multiplied for one more unit of a "
            "number, or against the most frequent value ({references}), the other traits being "
            "equal; Cox regression, relationships still open on {as_of} count until then.",
            references="; ".join(found.references) or _("none"),
            as_of=date_text(as_of),
        ),
        by=("trait",),
        conf_level=conf_level,
        notes=_notes(found.n_left_out, agreed, fitted=fit is not None),
        concordance=agreed,
    )


# Steps ------------------------------------------------------------------------------------


def _table(
    traits: Sequence[str], n_exits: int, n: int, fit: CoxFit | None, conf_level: float
) -> pl.DataFrame:
    unknown = np.full(len(traits), np.nan)
    beta, error = (unknown, unknown) if fit is None else (fit.beta, fit.error)
    half = normal_quantile(conf_level) * error
    ratio, p = np.exp(beta), 2 * special.ndtr(-np.abs(beta / error))
    return pl.DataFrame(
        {
            "trait": pl.Series(traits, dtype=pl.String),
            "n_exits": pl.Series([n_exits] * len(traits), dtype=pl.Int64),
            **five_columns(
                np.full(len(traits), n),
                ratio,
                ratio * error,
                np.exp(beta - half),
                np.exp(beta + half),
            ),
            "p_value": pl.Series(p, dtype=pl.Float64).fill_nan(None),
        }
    )


def _notes(lost: int, concordance: float | None, *, fitted: bool) -> tuple[str, ...]:
    if not fitted:
        return (
            _(
                "No model can be fitted: nobody has left, no trait varies, some value of one has "
                "nobody who left, or two traits say the same."
            ),
        )
    notes: tuple[str, ...] = (
        _("Ratios describe: what goes with leaving need not be what makes customers leave."),
    )
    if lost:
        notes += (
            _("{n} relationships in which a trait is not known are left out.", n=number(lost)),
        )
    if concordance is not None:
        notes += (
            _(
                "Concordance {value}: 0.5 would be no better than a coin.",
                value=number(concordance, 2),
            ),
        )
    return notes
