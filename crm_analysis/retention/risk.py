"""Who is at risk of falling silent in the coming year: a model, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from crm_analysis import figures
from crm_analysis.dates import add_months, date_of, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_whole,
    collect,
    open_table,
)
from crm_analysis.logistic import LogisticModel, concordance, expected_by_band, fit_logistic, tenths
from crm_analysis.retention.listed import Listed
from crm_analysis.uncertainty import normal_quantile, wilson_interval
from crm_analysis.wording import _, date_text, duration_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DepartureRisk", "RiskCalibration", "departure_risk"]

Floats = NDArray[np.float64]

_BANDS = (0.25, 0.5)
"""Where the bands of risk begin: below a quarter, to a half, above."""

_FEWEST_PER_FACTOR = 10
"""Departures (and stays) for each factor below which a model is not trusted (Peduzzi 1996)."""


# Count ------------------------------------------------------------------------------------


def _count_patterns(
    snapshots: object, outcome_col: str, at_col: str, factors: Sequence[str]
) -> pl.DataFrame:
    """Count snapshots by their day, what was known then, and whether what came is known."""
    asked = {
        "day": Asked(at_col, "date", "at_col"),
        "left": Asked(outcome_col, "flag", "outcome_col", nullable=True),
    }
    named = {
        f"x{i}": Asked(name, "key", "factors", nullable=True) for i, name in enumerate(factors)
    }
    frame = open_table(snapshots, asked | named)
    numbers = [nw.col(name).cast(nw.Float64).alias(name) for name in named]
    frame = frame.with_columns(
        nw.when(nw.col("left").is_null()).then(nw.lit(0)).otherwise(nw.lit(1)).alias("over"),
        nw.col("left").cast(nw.Int64).alias("k"),
        *numbers,
    )
    keys = ["over", "day", *named]
    counted = frame.group_by(*keys).agg(nw.len().alias("n"), nw.col("k").sum().alias("k"))
    return collect(counted, order=keys)


def _parted(counted: pl.DataFrame, since: int | None, horizon_months: int) -> pl.DataFrame:
    """Say of each snapshot whether it teaches, tests, waits for its outcome, or none of these.

    A snapshot teaches only if its horizon was over before the first day of the test.
    """
    if since is None:
        since = counted.filter(pl.col("over") == 1)["day"].max()  # type: ignore[assignment]
    days = counted["day"].unique().to_list()
    over = [to_day_number(add_months(date_of(day), horizon_months)) for day in days]
    ends = pl.col("day").replace_strict(days, over, return_dtype=pl.Int64)
    first = pl.lit(since, pl.Int64)
    return counted.with_columns(
        part=pl.when(pl.col("over") == 0)
        .then(pl.lit("waits"))
        .when(ends <= first)
        .then(pl.lit("teaches"))
        .when(pl.col("day") >= first)
        .then(pl.lit("tests"))
        .otherwise(pl.lit("neither")),
        since=first,
    )


def _known(counted: pl.DataFrame, factors: Sequence[str]) -> pl.DataFrame:
    return counted.drop_nulls([f"x{i}" for i in range(len(factors))])


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RiskCalibration(Estimates):
    """Predicted against observed departures, by tenth of the predicted risk.

    The table has, beside the usual five, ``tenth``, ``predicted`` (mean risk) and ``n_left``.
    """

    def sentence(self) -> str:
        """Return how many were expected to leave, and how many did."""
        n = int(self.table["n"].sum())
        if not n:
            return _("{name}: no later snapshot tells whether it holds.", name=self.name)
        expected = float((self.table["predicted"] * self.table["n"]).sum()) / n
        k = int(self.table["n_left"].sum())
        low, high = (float(x) for x in wilson_interval(k, n, self.conf_level))
        row = {"estimate": k / n, "conf_low": low, "conf_high": high, "n": n}
        return _(
            "In the year kept for the test {expected} were expected to fall silent; it was "
            "{value}.",
            expected=percent(expected),
            value=self.value_text(row),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw observed shares over predicted risk beside the line of agreement."""
        ax = figures.new_axes(ax)
        figures.calibration(self.table, x="predicted", ax=ax)
        ax.set_xlabel(_("Predicted risk"))
        ax.set_ylabel(_("Share that fell silent"))
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"predicted": "share", "n_left": "count"}

    def _figure_height(self) -> float | None:
        return 4.6


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DepartureRisk(Estimates):
    """Odds ratios of falling silent within a year: one row per factor.

    The table has, beside the usual five, ``factor`` and ``p_value``. The estimate says by what
    the odds are multiplied for one more unit of the factor, the others staying as they are.

    Attributes
    ----------
    concordance : Estimates
        The chance that one who left had been given more risk than one who stayed, in the
        snapshots kept for the test; one half is no better than a coin.
    calibration : RiskCalibration
        Predicted against observed, in the same snapshots.
    slipping_away : Estimates
        Customers of the latest snapshot by band of risk, and how many of them are expected to
        fall silent: counts, no names.
    """

    concordance: Estimates
    calibration: RiskCalibration
    slipping_away: Estimates

    def sentence(self) -> str:
        """Return which factors matter most, beyond chance."""
        clear = self.table.filter(pl.col("p_value") < 1 - self.conf_level)
        if clear.is_empty():
            return _("{name}: no factor is established.", name=self.name)
        strong = clear.sort("p_value").head(4)
        parts = [
            _(
                "{factor} ×{ratio} ({low} to {high})",
                factor=word_of(row["factor"]),
                ratio=number(row["estimate"], 2),
                low=number(row["conf_low"], 2),
                high=number(row["conf_high"], 2),
            )
            for row in strong.to_dicts()
        ]
        return _(
            "The odds of falling silent within a year change most surely with: {factors}.",
            factors=", ".join(parts),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the odds ratios around 1, on a ratio scale, and return the Axes."""
        ax = figures.new_axes(ax)
        labels = [word_of(name) for name in self.table["factor"]]
        labelled = self.table.with_columns(pl.Series("label", labels, pl.String))
        figures.points(labelled, label="label", ax=ax, reference=1.0)
        figures.ratio_axis(ax)
        ax.set_xlabel(_("Odds multiplied by"))
        ax.set_title(self.name)
        return ax


# Ask --------------------------------------------------------------------------------------


def departure_risk(
    snapshots: object,
    *,
    outcome_col: str = "left",
    at_col: str = "snapshot_on",
    factors: Sequence[str],
    test_since: date | None = None,
    horizon_months: int = 12,
    conf_level: float = 0.95,
    ci_method: str = "wald",
) -> DepartureRisk:
    """What tells customers who will fall silent within a year (person-period logistic model).

    The model is taught by snapshots whose year was over before `test_since` and tested on those
    from then on: it never sees what a reader of that day could not have seen. Snapshots whose
    outcome is not known yet are scored.

    Parameters
    ----------
    snapshots : table
        One row per customer and date: what was known then, and what came after.
    outcome_col : str
        Whether the customer fell silent in the following `horizon_months`; null = not over yet.
    at_col : str
        The date.
    factors : sequence of str
        Columns of numbers or of true and false; a snapshot in which one is null is left out.
    test_since : date, optional
        First date of the test; without it the latest date whose outcomes are known.
    horizon_months : int
        How long each snapshot looks ahead.
    conf_level : float
    ci_method : {"wald"}
        Of the log odds ratios; the concordance by DeLong's variance, shares by Wilson's interval.

    Returns
    -------
    DepartureRisk
        Columns ``factor``, ``n`` (snapshots that taught), ``estimate`` (odds ratio),
        ``std_error``, ``conf_low``, ``conf_high``, ``p_value``; with `concordance`,
        `calibration` and `slipping_away`. A factor that never varies has a null row; all are null,
        with a note that says why, where no model can be fitted.

    Raises
    ------
    InputError
        No factor, or one twice.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    Ratios describe, they do not promise: a customer called more often may have been called
    because of signs that are not in the data. Assumes that snapshots of one customer tell of
    different years (a discrete-time hazard), so each counts as one.

    References
    ----------
    Singer & Willett (1993), J. Educational Statistics 18:155-195; DeLong, DeLong &
    Clarke-Pearson (1988), Biometrics 44:837-845; Peduzzi et al. (1996), J. Clinical Epidemiology
    49:1373-1379.
    """
    conf_level = check_conf_level(conf_level)
    check_whole("horizon_months", horizon_months)
    check_one_of("ci_method", ci_method, ("wald",))
    factors = _check_factors(factors)
    counted = _parted(
        _count_patterns(snapshots, outcome_col, at_col, factors),
        None if test_since is None else to_day_number(check_as_of(test_since)),
        horizon_months,
    )
    known = _known(counted, factors)
    teach = known.filter(pl.col("part") == "teaches")
    varying = [i for i in range(len(factors)) if teach[f"x{i}"].n_unique() > 1]
    columns = [f"x{i}" for i in varying]
    x, k, n = _arrays(teach, columns)
    model = fit_logistic(x, k, n) if varying and 0 < k.sum() < n.sum() else None
    table = _ratios(model, factors, varying, int(n.sum()), conf_level)
    first = counted["since"].drop_nulls()
    since = date_text(date_of(first[0])) if len(first) else _("no day")
    told = _Told(model, known, columns, duration_text(horizon_months, "month"), since, conf_level)
    return DepartureRisk(
        table=table,
        name=_("What goes with falling silent"),
        unit="number",
        definition=_(
            "Odds of no visit and no purchase within {horizon}, multiplied for one more unit of "
            "each factor, the others being equal; by logistic regression on dated snapshots whose "
            "outcome was known before {since}.",
            horizon=told.horizon,
            since=since,
        ),
        by=("factor",),
        conf_level=conf_level,
        notes=_notes(counted, known, table, teach, fitted=model is not None),
        concordance=_concordance_of(told),
        calibration=_calibration_of(told),
        slipping_away=_slipping_of(told),
    )


@dataclass(frozen=True)
class _Told:
    """A model (None = not fitted), the snapshots, and the words that say what they are."""

    model: LogisticModel | None
    known: pl.DataFrame
    columns: Sequence[str]
    horizon: str
    since: str
    conf_level: float

    def part(self, name: str) -> tuple[Floats, Floats, Floats, Floats]:
        """Return predicted risk, traits, ended and size of the snapshots of a part."""
        if self.model is None:
            return np.empty(0), np.empty((0, 0)), np.empty(0), np.empty(0)
        rows = self.known.filter(pl.col("part") == name)
        if name == "waits":
            rows = rows.filter(pl.col("day") == pl.col("day").max())
        x, k, n = _arrays(rows, self.columns)
        return self.model.predict(x), x, k, n


def _arrays(part: pl.DataFrame, columns: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    x = part.select(columns).to_numpy().astype(np.float64)
    return x, part["k"].fill_null(0).to_numpy().astype(float), part["n"].to_numpy().astype(float)


def _ratios(
    model: LogisticModel | None,
    factors: Sequence[str],
    varying: Sequence[int],
    n: int,
    conf_level: float,
) -> pl.DataFrame:
    beta = np.full(len(factors), np.nan)
    error = beta.copy()
    if model is not None:
        beta[varying] = model.coefficients[1:]
        error[varying] = np.sqrt(np.diag(model.covariance))[1:]
    half = normal_quantile(conf_level) * error
    p = 2 * special.ndtr(-np.abs(beta / error))
    ratio = np.exp(beta)
    five = five_columns(
        np.full(len(factors), n), ratio, ratio * error, np.exp(beta - half), np.exp(beta + half)
    )
    return pl.DataFrame(
        {
            "factor": list(factors),
            **five,
            "p_value": pl.Series(p, dtype=pl.Float64).fill_nan(None),
        }
    )


def _concordance_of(told: _Told) -> Estimates:
    p, _x, k, n = told.part("tests")
    found = concordance(p, k, n, told.conf_level)
    return Estimates(
        table=pl.DataFrame(five_columns([n.sum()], *([value] for value in found))),
        name=_("Concordance of the departure model"),
        unit="number",
        definition=_(
            "Chance that a customer who fell silent had been given a higher risk than one who did "
            "not, over snapshots since {since}; 0.5 is no better than a coin.",
            since=told.since,
        ),
        conf_level=told.conf_level,
        notes=() if np.isfinite(found[0]) else (_("No later snapshot has both kinds."),),
        key="concordance_of_departures",
        better="higher",
    )


def _calibration_of(told: _Told) -> RiskCalibration:
    p, _x, k, n = told.part("tests")
    table = tenths(p, k, n, told.conf_level, came="n_left")
    return RiskCalibration(
        table=table,
        name=_("Predicted and observed departures"),
        unit="share",
        definition=_(
            "Share of customers who fell silent within {horizon}, by tenth of the risk that the "
            "model had given them, over snapshots since {since}, which it had not seen.",
            horizon=told.horizon,
            since=told.since,
        ),
        by=("tenth",),
        conf_level=told.conf_level,
        notes=small_n_notes(table, ("tenth",), what=_("customers")),
    )


def _slipping_of(told: _Told) -> Estimates:
    p, x, _k, n = told.part("waits")
    size = n.astype(np.int64)
    five = expected_by_band(
        told.model, np.repeat(p, size), np.repeat(x, size, axis=0), _BANDS, told.conf_level
    )
    labels = (
        _("risk below {share}", share=percent(_BANDS[0], 0)),
        _("risk of {low} to {high}", low=percent(_BANDS[0], 0), high=percent(_BANDS[1], 0)),
        _("risk above {share}", share=percent(_BANDS[1], 0)),
    )
    table = pl.DataFrame({"risk": pl.Series(labels, dtype=pl.String), **five})
    return Listed(
        table=table,
        name=_("Customers expected to fall silent within {horizon}", horizon=told.horizon),
        unit="count",
        definition=_(
            "Active customers of the latest snapshot by the risk that the model gives them (n), "
            "and how many of each band are expected to make no visit and no purchase within "
            "{horizon}, with a prediction interval.",
            horizon=told.horizon,
        ),
        by=("risk",),
        conf_level=told.conf_level,
        notes=() if len(n) else (_("No snapshot is waiting for its outcome."),),
    )


def _notes(
    counted: pl.DataFrame,
    known: pl.DataFrame,
    table: pl.DataFrame,
    teach: pl.DataFrame,
    *,
    fitted: bool,
) -> tuple[str, ...]:
    left, n = int(teach["k"].sum()), int(teach["n"].sum())
    if not fitted:
        return (_no_model(left, n),)
    notes: tuple[str, ...] = (
        _("Ratios describe: what goes with leaving need not be what makes customers leave."),
    )
    known_rows = table.filter(pl.col("estimate").is_not_null()).height
    if min(left, n - left) < _FEWEST_PER_FACTOR * known_rows:
        notes += (
            _(
                "Only {n} departures or stays for {k} factors: the ratios are shaky.",
                n=number(min(left, n - left)),
                k=number(known_rows),
            ),
        )
    if lost := int(counted["n"].sum()) - int(known["n"].sum()):
        notes += (_("{n} snapshots in which a factor is not known are left out.", n=number(lost)),)
    constant = table.filter(pl.col("estimate").is_null())["factor"].to_list()
    if constant:
        names = ", ".join(word_of(name) for name in constant)
        notes += (_("Never varies, so that nothing can be said of it: {factors}.", factors=names),)
    return notes


def _no_model(left: int, n: int) -> str:
    if 0 < left < n:
        return _(
            "No model can be fitted: a factor tells those who left from those who stayed without "
            "exception, or two factors say the same."
        )
    return _(
        "No model can be fitted: of {n} earlier snapshots {left} fell silent, and it takes some "
        "that did and some that did not.",
        n=number(n),
        left=number(left),
    )


def _check_factors(factors: object) -> tuple[str, ...]:
    names = (factors,) if isinstance(factors, str) else tuple(factors)  # type: ignore[arg-type]
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"A model of departures was asked for with the factors {names!r}. Name at least one "
            "column, and each once."
        )
    return names
