"""What moves satisfaction: how much each question explains of another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations, pairwise
from math import factorial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import check_one_of, check_whole
from crm_analysis.satisfaction.answers import Floats
from crm_analysis.satisfaction.index import covariances, percentiles, resampled
from crm_analysis.satisfaction.sheets import Moments, Sheets, question_word
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import Unit, _, interval_text, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Drivers", "relative_importance", "satisfaction_drivers"]

MOST_DRIVERS = 10
"""Every subset of the drivers is fitted: 1024 of ten."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Drivers(Estimates):
    """The share of what is explained that each driver accounts for, the largest first.

    Attributes
    ----------
    r_squared : float or None
        Share of the variance of the outcome that all drivers together explain.
    outcome : str
    """

    r_squared: float | None
    outcome: str

    def weights(self) -> dict[str, float]:
        """Return each driver's share, as weights for `satisfaction_index`.

        Take them once and keep them: an index whose weights change from wave to wave cannot be
        compared over time.
        """
        known = self.table.drop_nulls("estimate").sort("question")
        return dict(zip(known["question"], known["estimate"], strict=True))

    def sentence(self) -> str:
        """Name what explains most, and how much is explained at all."""
        known = self.table.drop_nulls("estimate")
        if known.is_empty() or self.r_squared is None:
            return _("{name}: nothing can be said in any group.", name=self.name)
        first = known.row(0, named=True)
        return _(
            "Of what explains “{outcome}” most is “{first}”: {value}; all questions together "
            "explain {r2} of its variance.",
            outcome=question_word(self.outcome), first=question_word(first["question"]),
            value=self.value_text(first), r2=percent(self.r_squared, 0),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        labels = [question_word(name) for name in self.table["question"]]
        labelled = self.table.with_columns(pl.Series("label", labels, pl.String))
        figures.points(labelled, label="label", ax=ax)
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def _readable(self) -> pl.DataFrame:
        words = [question_word(name) for name in self.table["question"]]
        return self.table.with_columns(pl.Series("question", words, pl.String))

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        own: dict[str, Unit] = dict.fromkeys(("coefficient", "coef_low", "coef_high"), "number")
        return super().units() | own | {"mean": "score"}


def relative_importance(covariance: Floats) -> Floats:
    r"""Share out what several variables explain of the first (LMG, the Shapley value of R²).

    .. math:: \mathrm{LMG}_j = \sum_{S \not\ni j} \frac{|S|! (q - |S| - 1)!}{q!}
              \big(R^2(S \cup j) - R^2(S)\big)

    Parameters
    ----------
    covariance : ndarray, shape (resamples, q + 1, q + 1)
        Covariance of the outcome, first, and its q drivers.

    Returns
    -------
    ndarray, shape (resamples, q)
        They add to R²; none is negative.

    References
    ----------
    Lindeman, Merenda & Gold (1980), *Introduction to Bivariate and Multivariate Analysis*,
    p. 119; Grömping (2006), J. Statistical Software 17(1).

    Examples
    --------
    >>> import numpy as np
    >>> relative_importance(np.array([[[1.0, 0.5, 0.3], [0.5, 1, 0], [0.3, 0, 1]]])).round(2)
    array([[0.25, 0.09]])
    """
    q = covariance.shape[1] - 1
    subsets = [s for size in range(q + 1) for s in combinations(range(1, q + 1), size)]
    explained = {frozenset(s): _r_squared(covariance, s) for s in subsets}
    shares = np.zeros((len(covariance), q))
    for s in subsets:
        weight = factorial(len(s)) * factorial(q - len(s) - 1) / factorial(q) if len(s) < q else 0
        for j in set(range(1, q + 1)) - set(s):
            shares[:, j - 1] += weight * (explained[frozenset({*s, j})] - explained[frozenset(s)])
    return shares


def _r_squared(covariance: Floats, subset: Sequence[int]) -> Floats:
    if not subset:
        return np.zeros(len(covariance))
    at = list(subset)
    among, with_outcome = covariance[:, at][:, :, at], covariance[:, at, 0]
    # Drivers that are copies of each other leave no inverse; they share what they explain.
    inverse = np.linalg.pinv(among, rcond=1e-10, hermitian=True)
    fitted = np.einsum("bi,bij,bj->b", with_outcome, inverse, with_outcome)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(fitted / covariance[:, 0, 0])


def satisfaction_drivers(
    answers: object,
    *,
    survey_col: str = "survey_id",
    question_col: str = "question",
    score_col: str = "score",
    low_col: str = "scale_min",
    high_col: str = "scale_max",
    at_col: str | None = "answered_on",
    customer_col: str | None = None,
    outcome: str = "csat",
    drivers: Sequence[str],
    since: date | None = None,
    n_resamples: int = 500,
    seed: int = 0,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "bootstrap",
) -> Drivers:
    r"""Which questions explain most of how satisfied customers are (relative importance, LMG).

    Parameters
    ----------
    answers, survey_col, question_col, score_col, low_col, high_col, at_col, customer_col
        As in `satisfaction_index`.
    outcome : str
        The question on satisfaction as a whole.
    drivers : sequence of str
        Questions on its parts, ten at most; all asked of the same customers.
    since, n_resamples, seed, as_of, conf_level
        As in `satisfaction_index`.
    ci_method : {"bootstrap"}
        Over customers.

    Returns
    -------
    Drivers
        One row per driver, the most important first: ``question``, ``n`` (sheets on which all
        was answered), ``mean``, ``estimate`` (share of the explained variance, adding to 1),
        ``std_error``, ``conf_low``, ``conf_high``, and the regression's ``coefficient`` (change
        of the outcome for one more point) with ``coef_low``, ``coef_high`` (clustered by
        customer). Null where there are too few sheets, or nothing to explain.

    Raises
    ------
    InputError
        No driver, or more than ten; the outcome among them; an unknown question.
    ColumnError
        As in `satisfaction_index`.

    Notes
    -----
    Questions of one sheet share the customer's mood: that one explains another is not yet that
    mending it would mend the other. Relative importance shares out what they explain together;
    coefficients say what each adds given the rest.

    References
    ----------
    Grömping (2006), J. Statistical Software 17(1); Liang & Zeger (1986), Biometrika 73:13-22.
    """
    check_one_of("ci_method", ci_method, ("bootstrap",))
    check_whole("n_resamples", n_resamples, least=100)
    if not 1 <= len(drivers) <= MOST_DRIVERS or outcome in drivers:
        raise InputError(
            f"Drivers {list(drivers)} of {outcome!r} were asked for. Name one to {MOST_DRIVERS} "
            "questions, the outcome itself not among them."
        )
    sheets = Sheets(
        survey_col=survey_col, question_col=question_col, score_col=score_col, low_col=low_col,
        high_col=high_col, at_col=at_col, customer_col=customer_col,
        questions=(outcome, *drivers), since=since, as_of=as_of, by=(), conf_level=conf_level,
    )  # fmt: skip
    _group, moments = next(sheets.moments(answers))
    table, r_squared = _estimate(moments, drivers, n_resamples, seed, conf_level)
    return Drivers(
        table=table, name=_("What explains “{outcome}”", outcome=question_word(outcome)),
        unit="share",
        by=("question",), conf_level=conf_level, key="satisfaction_drivers",
        definition=" ".join((
            _("Share of the explained variance of “{outcome}” that each question accounts for, "
              "averaged over every order of taking them in, of sheets on which all were "
              "answered.", outcome=question_word(outcome)),
            sheets.when_text(),
        )),
        notes=_notes(table, outcome), r_squared=r_squared, outcome=outcome,
    )  # fmt: skip


def _estimate(
    moments: Moments, drivers: Sequence[str], n_resamples: int, seed: int, conf_level: float
) -> tuple[pl.DataFrame, float | None]:
    n, q = moments.n_sheets, len(drivers)
    unknown = np.full(q, np.nan)
    columns = {"mean": unknown, "coefficient": unknown, "coef_low": unknown, "coef_high": unknown}
    five, r_squared = [unknown] * 4, None
    whole = moments.count[None, :]
    if n > q + 1 and _varies(moments, whole):
        importance = relative_importance(covariances(moments, whole))[0]
        r_squared = float(importance.sum())
        columns = _regression(moments, conf_level)
        if r_squared > 0:
            five = _shares(moments, importance / r_squared, n_resamples, seed, conf_level)
    table = pl.DataFrame({"question": list(drivers)}).with_columns(
        **{name: pl.Series(values, dtype=pl.Float64).fill_nan(None)
           for name, values in columns.items()},
        **five_columns(np.full(q, n), *five),
    )  # fmt: skip
    order = ["question", "n", "mean", "estimate", "std_error", "conf_low", "conf_high"]
    table = table.select(*order, "coefficient", "coef_low", "coef_high")
    return table.sort("estimate", "question", descending=[True, False], nulls_last=True), r_squared


def _varies(moments: Moments, counts: Floats) -> bool:
    return bool((np.diagonal(covariances(moments, counts)[0]) > 1e-12).all())


def _shares(
    moments: Moments, estimate: Floats, n_resamples: int, seed: int, conf_level: float
) -> list[Floats]:
    def shares(counts: Floats) -> Floats:
        found = relative_importance(covariances(moments, counts))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(found / found.sum(axis=1, keepdims=True))

    draws = resampled(moments.count, shares, n_resamples, seed)
    bounds = [percentiles(draws[:, j], estimate[j], conf_level) for j in range(len(estimate))]
    return [estimate, *np.array(bounds, np.float64).T]


def _regression(moments: Moments, conf_level: float) -> dict[str, Floats]:
    """Return means and slopes with standard errors clustered by customer."""
    sums = np.einsum("p,pij->ij", moments.count, moments.table)
    at = [0, *range(2, len(sums))]  # the constant and the drivers
    bread = np.linalg.pinv(sums[np.ix_(at, at)], hermitian=True)
    slope = bread @ sums[at, 1]
    scores = moments.table[:, at, 1] - moments.table[:, at][:, :, at] @ slope
    customers = float(moments.count.sum())
    meat = (scores * moments.count[:, None]).T @ scores * customers / max(customers - 1, 1)
    error = np.sqrt(np.diagonal(bread @ meat @ bread))
    half = normal_quantile(conf_level) * error
    return {
        "mean": sums[0, 2:] / sums[0, 0],
        "coefficient": slope[1:],
        "coef_low": (slope - half)[1:],
        "coef_high": (slope + half)[1:],
    }


def _notes(table: pl.DataFrame, outcome: str) -> tuple[str, ...]:
    notes = small_n_notes(table.head(1), (), what=_("sheets"))
    if table["estimate"].is_null().all():
        if table["n"][0]:
            notes += (_("Answers vary too little, or are too few, to say what explains them."),)
        return notes
    unclear = list(_unclear(table))
    if unclear:
        notes += (
            _("Whose order is not known: {pairs}.", pairs="; ".join(unclear)),
        )  # fmt: skip
    return (
        *notes,
        _("Answers of one sheet share the customer's mood: that a question explains “{outcome}” "
          "does not show that mending it would mend the other.", outcome=question_word(outcome)),
    )  # fmt: skip


def _unclear(table: pl.DataFrame) -> Iterator[str]:
    """Name neighbours whose intervals overlap: their order may be chance."""
    rows: list[dict[str, Any]] = table.drop_nulls("conf_low").to_dicts()
    for above, below in pairwise(rows):
        if above["conf_low"] <= below["conf_high"]:
            yield _(
                "“{above}” ({first}) and “{below}” ({second})",
                above=question_word(above["question"]),
                first=interval_text(above["conf_low"], above["conf_high"], "share"),
                below=question_word(below["question"]),
                second=interval_text(below["conf_low"], below["conf_high"], "share"),
            )
