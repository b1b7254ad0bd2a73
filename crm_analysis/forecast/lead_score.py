"""Which open leads are worth a call first: each one's chance of a contract, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import date_of, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.forecast.lead_snapshots import (
    PER,
    Factors,
    evenings,
    learn_factors,
    snapshots,
    suspect_values,
)
from crm_analysis.forecast.reached import StageColumns, first_reached, stage_columns
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, check_whole
from crm_analysis.logistic import (
    LogisticModel,
    concordance,
    expected_by_band,
    fit_logistic,
    tenths,
)
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import (
    _,
    amount,
    date_text,
    duration_text,
    interval_text,
    number,
    percent,
    word_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LeadScore", "ScoreLift", "lead_score"]

Floats = NDArray[np.float64]


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ScoreLift(Estimates):
    """What a score was worth on evenings it had not been taught by, by tenth of the score.

    The table has, beside the usual five, ``tenth`` (10 = the highest chances), ``predicted``
    (mean chance), ``n_won``, ``lift`` (share won over that of all) and ``caught`` (share of all
    contracts that came from this tenth and those above it).

    Attributes
    ----------
    concordance : Estimates
        The chance that a lead that was won had been given more than one that was not (area under
        the ROC curve).
    skill : Estimates
        By what share the mean squared error of the chances (Brier's score) is below that of giving
        every lead the share won before.
    """

    concordance: Estimates
    skill: Estimates

    def sentence(self) -> str:
        """Say how many of the contracts came from the highest tenth, and how sure the score is."""
        area = self.concordance.table.row(0, named=True)
        if self.table.is_empty() or area["conf_low"] is None:
            return _("{name}: the past is too short to tell.", name=self.name)
        top = self.table.row(-1, named=True)
        return _(
            "Tested on leads it had not seen, the tenth with the highest score brought {caught} of "
            "the contracts; of a lead that was won and one that was not, the one that was won had "
            "the higher score in {area} of pairs ({interval}; a coin: {coin}).",
            caught=percent(top["caught"], 0),
            area=percent(area["estimate"], 0),
            interval=interval_text(area["conf_low"], area["conf_high"], "share"),
            coin=percent(0.5, 0),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares won over the chances given, beside the line of agreement."""
        ax = figures.new_axes(ax)
        figures.calibration(self.table, x="predicted", ax=ax)
        ax.set_xlabel(_("Chance given"))
        ax.set_ylabel(_("Share won"))
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        shares = {"predicted": "share", "caught": "share"}
        return super().units() | shares | {"n_won": "count", "lift": "number"}

    def _figure_height(self) -> float | None:
        return 4.6


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LeadScore(Estimates):
    """Contracts expected of the leads open now, by band of their chance.

    The table has ``chance_band``, ``n`` (open leads) and the contracts expected of them.

    Attributes
    ----------
    leads : polars DataFrame
        ``unit`` and ``chance`` of every open lead, the best first: a list for the CRM, never for
        a page.
    odds : Estimates
        By what the odds of a contract are multiplied: ``factor``, ``value``, and the usual five.
        Of days and hours for twice as many; of a stage, and of a trait's value, against leads of
        the most usual one.
    lift : ScoreLift
        What the score was worth out of time.
    """

    leads: pl.DataFrame
    odds: Estimates
    lift: ScoreLift

    def sentence(self) -> str:
        """Say how many open leads are worth calling first, and what they should bring."""
        known = self.table.drop_nulls("estimate")
        n = int(known["n"].sum())
        if not n:
            return _("{name}: nothing can be said.", name=self.name)
        best = known.row(-1, named=True)
        return _(
            "{k} of {n} open leads are in the band “{band}” and should bring {share} of the "
            "contracts expected of all: {value}.",
            k=number(best["n"]), n=number(n), band=best["chance_band"],
            share=percent(best["estimate"] / known["estimate"].sum(), 0),
            value=self.value_text(best),
        )  # fmt: skip

    def value_text(self, row: Any) -> str:
        """Write an expected number with its prediction interval."""
        return _(
            "{value} ({level} prediction interval {interval})",
            value=number(row["estimate"]),
            level=percent(self.conf_level, 0),
            interval=interval_text(row["conf_low"], row["conf_high"], "count"),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the contracts expected of each band, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.bars(
            self.table.drop_nulls("estimate"), label="chance_band", value="estimate", ax=ax,
            text=lambda value: amount(value, "number"),
        )  # fmt: skip
        figures.write_units(ax, "count", axis="x")
        ax.set_title(self.name)
        return ax


# Ask --------------------------------------------------------------------------------------


def lead_score(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    steps: Sequence[str],
    win_stage: str = "contract",
    lost_stage: str = "lost",
    traits: str | Sequence[str] = ("source",),
    horizon_days: int = 30,
    n_test: int = 12,
    thresholds: Sequence[float] = (0.1, 0.3),
    since: date | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "wald",
) -> LeadScore:
    """Which open leads are likely to become contracts (person-period logistic model).

    On evenings of the past, `horizon_days` apart, every lead that was open is looked at as it was
    known then: the furthest stage, the days since it was opened and since it reached that stage,
    the hours to the first answer, which stages it had left out, and its traits. Whether it became
    a contract within the horizon is what the model learns. Its worth is judged on the last
    `n_test` evenings by a model that was taught by earlier ones alone; the leads open now are
    scored by one taught by all.

    Parameters
    ----------
    events : table
        One row per event of a lead, on any backend: see `Warehouse.lead_events`.
    unit_col, stage_col, at_col : str
        The lead, the stage, and when it was reached. With the moment of typing in as `at_col` the
        score knows what the CRM knew.
    steps : sequence of str
        Stages in their order, without the two ends. The second is the first answer.
    win_stage, lost_stage : str
        The two ends.
    traits : str or sequence of str
        Columns of categories, the same in all events of a lead and **known when it was opened**.
        A column that is filled in later (why it was lost, who won it instead) gives the outcome
        away, and the score would be good in the test alone.
    horizon_days : int
        Days ahead, and days between two evenings, so that no contract is counted twice.
    n_test : int
        Evenings kept for the test; a third of them where the past is short.
    thresholds : sequence of float
        Where the bands of chance begin, rising, between 0 and 1.
    since : date, optional
        First evening that teaches; by default the first with a lead.
    as_of : date
        Last day the data covers; later events are not looked at.
    conf_level : float
    ci_method : {"wald"}
        Of the log odds; the area under the curve by DeLong's variance, shares by Wilson's
        interval, expected contracts by chance and doubt about the model.

    Returns
    -------
    LeadScore
        Columns ``chance_band``, ``n`` (open leads of the band), ``estimate`` (contracts expected of
        them within the horizon), ``std_error``, ``conf_low``, ``conf_high``; with `odds`, `lift`
        and `leads`. Null, with a note that says why, where no model can be fitted.

    Raises
    ------
    InputError
        Thresholds that do not rise between 0 and 1; and as in `pipeline_forecast`.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    A chance describes a lead, it does not say what a call would change: those with a chance near
    one may need none. A lead counts once for each evening on which it is open; since its horizons
    do not overlap, they add up to its likelihood (a discrete-time hazard).

    References
    ----------
    Singer & Willett (1993), J. Educational Statistics 18:155-195; van Houwelingen (2007), Scand.
    J. Statistics 34:70-85 (landmarks); DeLong, DeLong & Clarke-Pearson (1988), Biometrics
    44:837-845; Brier (1950), Monthly Weather Review 78:1-3.
    """
    columns = stage_columns(
        unit_col, stage_col, at_col, steps, win_stage, lost_stage, traits, taken=_TAKEN
    )
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wald",))
    check_whole("horizon_days", horizon_days)
    check_whole("n_test", n_test)
    cuts = _check_thresholds(thresholds)
    last = to_day_number(as_of)
    reached = first_reached(events, columns, as_of, per=PER)
    first = None if since is None else to_day_number(since)
    days = evenings(reached, first, last, horizon_days)
    whole = snapshots(reached, columns, days, horizon_days, last)
    over = whole.drop_nulls("won")
    told = _Told(columns, duration_text(horizon_days, "day"), as_of, cuts, conf_level)
    model, factors = _fitted(over, columns)
    return _score(
        told, over, whole.filter(pl.col("day") == last), model, factors,
        _lift(told, over, _first_test(over, n_test)),
    )  # fmt: skip


_TAKEN = ("stage", "unit", "day", "won", "chance", "chance_band", "factor", "value")


@dataclass(frozen=True)
class _Told:
    columns: StageColumns
    horizon: str
    as_of: date
    cuts: tuple[float, ...]
    conf_level: float


def _check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    cuts = tuple(float(cut) for cut in thresholds)
    if not cuts or list(cuts) != sorted(set(cuts)) or cuts[0] <= 0 or cuts[-1] >= 1:
        raise InputError(
            f"Bands of chance beginning at {cuts} were asked for. 'thresholds' must rise between "
            "0 and 1: pass, say, (0.1, 0.3)."
        )
    return cuts


# Estimate ---------------------------------------------------------------------------------


def _first_test(over: pl.DataFrame, n_test: int) -> int | None:
    """Return the first day of the test, None where the past is too short for one."""
    days = over["day"].unique().sort()
    kept = min(n_test, len(days) // 3)
    return int(days[-kept]) if kept else None


def _fitted(over: pl.DataFrame, columns: StageColumns) -> tuple[LogisticModel | None, Factors]:
    factors = learn_factors(over, columns)
    won = _won(over)
    if not 0 < won.sum() < len(won):
        return None, factors
    return fit_logistic(factors.design(over), won, np.ones(len(won))), factors


def _won(frame: pl.DataFrame) -> Floats:
    return frame["won"].cast(pl.Float64).to_numpy().astype(np.float64)


def _lift(told: _Told, over: pl.DataFrame, first: int | None) -> ScoreLift:
    """Teach by the evenings before the test, and judge by the others."""
    test = over.filter(pl.col("day") >= first) if first is not None else over.clear()
    before = over.filter(pl.col("day") < first) if first is not None else over.clear()
    model, factors = _fitted(before, told.columns)
    if model is None:
        test = test.clear()
    came = _won(test)
    chance = np.empty(0) if model is None else model.predict(factors.design(test))
    since = _("no day") if first is None else date_text(date_of(first))
    one = np.ones(len(came))
    table = tenths(chance, came, one, told.conf_level, came="n_won")
    total = table["n_won"].sum()
    rest = pl.col("n_won").reverse().cum_sum().reverse()
    return ScoreLift(
        table=table.with_columns(
            lift=pl.col("estimate") * len(came) / total if total else pl.lit(None, pl.Float64),
            caught=rest / total if total else pl.lit(None, pl.Float64),
        ),
        name=_("The score of leads, tested on later ones"),
        unit="share",
        definition=_(
            "Leads open on evenings since {since}, by tenth of the chance that a model taught by "
            "earlier evenings gave them, and the share with a contract within {horizon}.",
            since=since,
            horizon=told.horizon,
        ),
        by=("tenth",),
        conf_level=told.conf_level,
        notes=_lift_notes(first, model),
        concordance=_concordance(told, chance, came),
        skill=_skill(told, chance, came, float(_won(before).mean()) if before.height else 0.0),
    )


def _lift_notes(first: int | None, model: LogisticModel | None) -> tuple[str, ...]:
    if first is None:
        return (_("The past is too short to keep a part of it for a test."),)
    if model is None:
        return (_("The evenings before the test do not determine a model."),)
    return ()


def _concordance(told: _Told, chance: Floats, came: Floats) -> Estimates:
    found = concordance(chance, came, np.ones(len(came)), told.conf_level)
    known = np.isfinite(found[0])
    return Estimates(
        table=pl.DataFrame(five_columns([len(came)], *([value] for value in found))),
        name=_("Concordance of the score of leads"),
        unit="number",
        definition=_(
            "Chance that a lead that was won had been given a higher chance than one that was "
            "not, on evenings the model had not been taught by; 0.5 is no better than a coin."
        ),
        conf_level=told.conf_level,
        notes=() if known else (_("No later evening has leads of both kinds."),),
    )


def _skill(told: _Told, chance: Floats, came: Floats, before: float) -> Estimates:
    """Hold Brier's score against that of the share won before, given to all alike."""
    plain = (before - came) ** 2
    value = error = float("nan")
    if len(came) > 1 and plain.sum() > 0:
        own = (chance - came) ** 2
        value = float(1 - own.mean() / plain.mean())
        # A ratio of two means of the same leads: by the delta method.
        residual = own - (1 - value) * plain
        error = float(residual.std(ddof=1) / np.sqrt(len(came)) / plain.mean())
    half = normal_quantile(told.conf_level) * error
    return Estimates(
        table=pl.DataFrame(
            five_columns([len(came)], [value], [error], [value - half], [value + half])
        ),
        name=_("Skill of the score of leads"),
        unit="share",
        definition=_(
            "Share by which the mean squared error of the chances is below that of giving every "
            "lead the share won before the test (Brier's skill score); none is no better, all is "
            "foresight."
        ),
        conf_level=told.conf_level,
        notes=() if np.isfinite(value) else (_("No later evening has leads to test it on."),),
    )


def _score(
    told: _Told,
    over: pl.DataFrame,
    now: pl.DataFrame,
    model: LogisticModel | None,
    factors: Factors,
    lift: ScoreLift,
) -> LeadScore:
    x = factors.design(now)
    chance = np.empty(0) if model is None else model.predict(x)
    five = expected_by_band(model, chance, x, told.cuts, told.conf_level)
    scored = now.select("unit") if model is not None else now.select("unit").clear()
    return LeadScore(
        table=pl.DataFrame({"chance_band": pl.Series(_bands(told.cuts), dtype=pl.String), **five}),
        name=_("Contracts expected of open leads within {when}", when=told.horizon),
        unit="count",
        definition=_(
            "Leads open on {as_of} by their chance of a contract within {when}, and the contracts "
            "expected of each band; the chance by logistic regression on what had been known of "
            "the leads open on earlier evenings: stage, days open and in the stage, first answer, "
            "stages left out, {traits}.",
            as_of=date_text(told.as_of),
            when=told.horizon,
            traits=", ".join(word_of(name) for name in told.columns.by) or _("nothing else"),
        ),
        by=("chance_band",),
        conf_level=told.conf_level,
        notes=_notes(told, over, model),
        leads=scored.with_columns(chance=pl.Series(chance)).sort(
            "chance", "unit", descending=[True, False]
        ),
        odds=_odds(told, model, factors, over.height),
        lift=lift,
    )


def _bands(cuts: Sequence[float]) -> list[str]:
    between = [
        _("chance of {low} to {high}", low=percent(low, 0), high=percent(high, 0))
        for low, high in pairwise(cuts)
    ]
    return [
        _("chance below {share}", share=percent(cuts[0], 0)),
        *between,
        _("chance above {share}", share=percent(cuts[-1], 0)),
    ]


def _odds(told: _Told, model: LogisticModel | None, factors: Factors, n: int) -> Estimates:
    names = factors.names() if model is not None else []
    beta = np.empty(0) if model is None else model.coefficients[1:]
    error = np.empty(0) if model is None else np.sqrt(np.diag(model.covariance))[1:]
    ratio, half = np.exp(beta), normal_quantile(told.conf_level) * error
    five = five_columns(
        np.full(len(beta), n), ratio, ratio * error, np.exp(beta - half), np.exp(beta + half)
    )
    values = [value or _("twice as many") for _factor, value in names]
    labels = {
        "factor": pl.Series([factor for factor, _value in names], dtype=pl.String),
        "value": pl.Series(values, dtype=pl.String),
    }
    return Estimates(
        table=pl.DataFrame({**labels, **five}),
        name=_("What the chance of a lead depends on"),
        unit="number",
        definition=_(
            "Odds of a contract within {when}, multiplied: for twice as many days or hours; for a "
            "stage passed that others left out; for each stage and value of a trait against the "
            "most usual one.",
            when=told.horizon,
        ),
        by=("factor", "value"),
        conf_level=told.conf_level,
        notes=(_("Ratios describe: what goes with winning need not be what wins."),),
    )


def _notes(told: _Told, over: pl.DataFrame, model: LogisticModel | None) -> tuple[str, ...]:
    k, n = int(_won(over).sum()), over.height
    if model is None:
        return (
            _(
                "No model can be fitted: of {n} open leads of earlier evenings {k} were won.",
                n=number(n),
                k=number(k),
            ),
        )
    given = [
        _(
            "All or none of the leads with {trait} = {value} were won: was it written down "
            "afterwards? Then leave {trait} out, for it gives the outcome away.",
            trait=word_of(trait),
            value=word_of(value),
        )
        for trait, value in suspect_values(over, told.columns)
    ]
    means = _("The chance says which leads are likely to buy, not what a call would change.")
    return (*given, means)
