"""One index of several questions, and whether they belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from scipy import special

from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, group_label, small_n_notes
from crm_analysis.frames import check_one_of, check_whole
from crm_analysis.satisfaction.answers import Floats
from crm_analysis.satisfaction.asked import names_of
from crm_analysis.satisfaction.sheets import Means, Moments, Sheets, question_word
from crm_analysis.wording import _, number, percent

__all__ = [
    "covariances",
    "feldt_interval",
    "percentiles",
    "resampled",
    "satisfaction_index",
    "survey_alpha",
]

MOST = 1000.0
"""The index of customers who all give the highest score of every question."""
_COUNTS_AT_ONCE = 2_000_000


def resampled(
    count: Floats, statistic: Callable[[Floats], Floats], n_resamples: int, seed: int
) -> Floats:
    """Resample customers and return a statistic of each resample.

    Customers with the same answers are exchangeable, so drawing how many of each kind there are
    is the bootstrap over customers itself.

    Parameters
    ----------
    count : ndarray, shape (patterns,)
        Customers of each kind.
    statistic : callable
        Takes counts of shape (resamples, patterns) and returns one row for each resample.
    """
    n, rng = int(count.sum()), np.random.default_rng(seed)
    step = max(1, _COUNTS_AT_ONCE // len(count))
    sizes = [min(step, n_resamples - at) for at in range(0, n_resamples, step)]
    draws = [statistic(rng.multinomial(n, count / n, size).astype(np.float64)) for size in sizes]
    return np.concatenate(draws)


def satisfaction_index(
    answers: object,
    *,
    survey_col: str = "survey_id",
    question_col: str = "question",
    score_col: str = "score",
    low_col: str = "scale_min",
    high_col: str = "scale_max",
    at_col: str | None = "answered_on",
    customer_col: str | None = None,
    weights: Mapping[str, float],
    since: date | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "bootstrap",
) -> Estimates:
    r"""How satisfied are customers, by one index of several questions (0 to 1000, bootstrap).

    Parameters
    ----------
    answers : table
        One row per survey and question answered, on any backend.
    survey_col, question_col, score_col : str
    low_col, high_col : str
        Lowest and highest score of the question's scale.
    at_col : str or None
        Day of the answer; later ones than `as_of` are not counted. None when there are no dates.
    customer_col : str, optional
        Who answered: customers are resampled, and count once however often they answered.
    weights : mapping of question to float
        How much each question counts; they are divided by their sum. Keep those of the first
        wave (`satisfaction_drivers` can find them): an index whose weights change cannot be
        compared over time.
    since : date, optional
    n_resamples, seed : int
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"bootstrap"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n`` (customers, or surveys without `customer_col`), ``estimate`` (0 to
        1000), ``std_error``, ``conf_low``, ``conf_high``. Null where nobody answered, and the
        interval where one did.

    Raises
    ------
    InputError
        Weights that are not positive; an unknown question; scores off their scale; a question
        asked on two scales.
    ColumnError
        A column is missing or of another type.

    Notes
    -----
    .. math:: I = 1000 \sum_i w_i \frac{\bar y_i - \min_i}{\max_i - \min_i}

    Each mean is over those who answered that question. Where a group was never asked one, the
    others' weights are divided by their own sum, and a note says so: such groups are not
    comparable with the rest.

    References
    ----------
    The form is that of the industry's customer satisfaction index studies, 0 to 1000; percentile
    bootstrap: Efron & Tibshirani (1993), chapter 13.

    Examples
    --------
    >>> import polars as pl
    >>> answers = pl.DataFrame({
    ...     "survey_id": [1, 1, 2, 2], "question": ["staff", "price"] * 2,
    ...     "score": [5, 3, 4, 3], "scale_min": 1, "scale_max": 5,
    ... })
    >>> found = satisfaction_index(answers, weights={"staff": 3, "price": 1}, at_col=None,
    ...                            as_of=date(2026, 6, 30))
    >>> found.table["estimate"].to_list()
    [781.25]
    """
    check_one_of("ci_method", ci_method, ("bootstrap",))
    check_whole("n_resamples", n_resamples, least=100)
    if not weights or not all(0 < w < float("inf") for w in weights.values()):
        raise InputError(
            f"The weights were given as {dict(weights)!r}. Name at least one question, each with a "
            "positive weight, such as {'staff': 0.5, 'price': 0.5}."
        )
    sheets = Sheets(
        survey_col=survey_col, question_col=question_col, score_col=score_col, low_col=low_col,
        high_col=high_col, at_col=at_col, customer_col=customer_col, questions=tuple(weights),
        since=since, as_of=as_of, by=names_of(by), conf_level=conf_level,
    )  # fmt: skip
    weight = np.array(list(weights.values()), np.float64)
    rows, partly = [], list[str]()
    for group, means in sheets.means(answers):
        rows.append((group, _index_row(means, weight, n_resamples, seed, conf_level)))
        if _unasked(means).any():
            partly.append(group_label(group, sheets.by))
    table = _table(rows, sheets.by)
    return Estimates(
        table=table, name=_("Customer satisfaction index"), unit="points", by=sheets.by,
        conf_level=conf_level, key="satisfaction_index", better="higher",
        definition=" ".join((
            _("Weighted mean of the answers, each on its own scale, from 0 (all lowest) to 1000 "
              "(all highest); weights: {weights}.", weights=_weights_text(weights)),
            sheets.when_text(),
        )),
        notes=small_n_notes(table, sheets.by, what=_("respondents")) + _partly_note(partly),
    )  # fmt: skip


def _weights_text(weights: Mapping[str, float]) -> str:
    total = sum(weights.values())
    return ", ".join(
        f"{question_word(name)} {percent(w / total, 0)}" for name, w in weights.items()
    )


def _partly_note(groups: Sequence[str]) -> tuple[str, ...]:
    if not groups:
        return ()
    return (
        _("Not every question was asked in: {groups}. The others' weights stand in for it, so "
          "such an index is not comparable with the rest.", groups=", ".join(groups)),
    )  # fmt: skip


def _unasked(means: Means) -> Any:
    return means.count @ means.answered == 0 if len(means.count) else np.array([False])


def _index_row(
    means: Means, weight: Floats, n_resamples: int, seed: int, conf_level: float
) -> tuple[float, ...]:
    n, nan = float(means.count.sum()), float("nan")
    asked = ~_unasked(means)
    if not n or not asked.any():
        return n, nan, nan, nan, nan
    estimate = float(_index_of(means, weight, means.count[None, :])[0])
    if n < 2:
        return n, estimate, nan, nan, nan
    draws = resampled(
        means.count, lambda counts: _index_of(means, weight, counts), n_resamples, seed
    )
    return n, estimate, *percentiles(draws, estimate, conf_level)


def percentiles(draws: Floats, estimate: float, conf_level: float) -> tuple[float, float, float]:
    """Return the standard error and interval of resampled estimates; ``nan`` if all are alike."""
    known = draws[np.isfinite(draws)]
    nan = float("nan")
    if len(known) < 2 or np.ptp(known) == 0:
        return nan, nan, nan
    tail = (1 - conf_level) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    # A percentile interval need not hold the estimate; one that does not would only puzzle.
    return float(known.std(ddof=1)), min(float(low), estimate), max(float(high), estimate)


def _index_of(means: Means, weight: Floats, counts: Floats) -> Floats:
    """Return the index for each row of counts of customers; null questions stand out."""
    total, answered = counts @ means.sums, counts @ means.answered
    asked = answered > 0
    mean = np.where(asked, total / np.where(asked, answered, 1.0), 0.0)
    used = np.where(asked, weight, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(MOST * (mean * used).sum(axis=1) / used.sum(axis=1), np.float64)


def _table(
    rows: Sequence[tuple[dict[str, Any], tuple[float, ...]]], by: tuple[str, ...]
) -> pl.DataFrame:
    """Put groups and their five numbers together; without any groups there are no rows."""
    values = np.array([row for _group, row in rows], np.float64).reshape(len(rows), 5)
    five = five_columns(*values.T)
    if not by:
        return pl.DataFrame(five)
    groups = pl.DataFrame(
        [group for group, _row in rows], schema=list(by), infer_schema_length=None
    )
    return groups.with_columns(**five)


# Do the questions belong together? ------------------------------------------------------------


def survey_alpha(
    answers: object,
    *,
    survey_col: str = "survey_id",
    question_col: str = "question",
    score_col: str = "score",
    low_col: str = "scale_min",
    high_col: str = "scale_max",
    at_col: str | None = "answered_on",
    customer_col: str | None = None,
    questions: Sequence[str],
    since: date | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "bootstrap",
) -> Estimates:
    r"""Do several questions measure one thing (Cronbach's alpha).

    Parameters
    ----------
    answers, survey_col, question_col, score_col, low_col, high_col, at_col, customer_col
        As in `satisfaction_index`.
    questions : sequence of str
        At least two, all on scales of one length.
    since, n_resamples, seed, as_of, by, conf_level
        As in `satisfaction_index`.
    ci_method : {"bootstrap", "feldt"}
        Over customers, or Feldt's F, exact for normal answers that are parallel and each from
        another customer.

    Returns
    -------
    Estimates
        Columns of `by`, ``n`` (sheets on which every question was answered), ``estimate`` (at
        most 1), ``std_error`` (null with Feldt's), ``conf_low``, ``conf_high``. Null below two
        sheets, or where answers are all alike.

    Raises
    ------
    InputError
        Fewer than two questions; questions on scales of different lengths.
    ColumnError
        As in `satisfaction_index`.

    Notes
    -----
    .. math:: \alpha = \frac{k}{k - 1} \Big(1 - \frac{\sum s_i^2}{s^2_{\mathrm{sum}}}\Big)

    Sheets with a question left out are not counted. A high alpha says that answers move together,
    not that they measure what is meant; it grows with the number of questions.

    References
    ----------
    Cronbach (1951), Psychometrika 16:297-334; Feldt (1965), Psychometrika 30:357-370; Feldt,
    Woodruff & Salih (1987), Applied Psychological Measurement 11:93-103.
    """
    check_one_of("ci_method", ci_method, ("bootstrap", "feldt"))
    check_whole("n_resamples", n_resamples, least=100)
    if len(questions) < 2:
        raise InputError("Alpha is of several questions together. Name at least two.")
    sheets = Sheets(
        survey_col=survey_col, question_col=question_col, score_col=score_col, low_col=low_col,
        high_col=high_col, at_col=at_col, customer_col=customer_col, questions=tuple(questions),
        since=since, as_of=as_of, by=names_of(by), conf_level=conf_level, one_scale=True,
    )  # fmt: skip
    resampling = None if ci_method == "feldt" else (n_resamples, seed)
    rows = [
        (group, _alpha_row(moments, resampling, conf_level))
        for group, moments in sheets.moments(answers)
    ]
    table = _table(rows, sheets.by)
    return Estimates(
        table=table, name=_("Cronbach's alpha"), unit="number", by=sheets.by,
        conf_level=conf_level, key="survey_alpha", better="higher",
        definition=" ".join((
            _("How far the answers to {k} questions ({questions}) move together, of sheets on "
              "which all were answered.", k=number(len(questions)),
              questions=", ".join(question_word(name) for name in questions)),
            sheets.when_text(),
        )),
        notes=small_n_notes(table, sheets.by, what=_("sheets")),
    )  # fmt: skip


def _alpha_row(
    moments: Moments, resampling: tuple[int, int] | None, conf_level: float
) -> tuple[float, ...]:
    n, nan = moments.n_sheets, float("nan")
    estimate = float(_alpha_of(moments, moments.count[None, :])[0]) if n >= 2 else nan
    if not np.isfinite(estimate):
        return n, nan, nan, nan, nan
    if resampling is None:
        low, high = feldt_interval(estimate, n, moments.table.shape[1] - 1, conf_level)
        return n, estimate, nan, low, high
    draws = resampled(moments.count, lambda counts: _alpha_of(moments, counts), *resampling)
    return n, estimate, *percentiles(draws, estimate, conf_level)


def _alpha_of(moments: Moments, counts: Floats) -> Floats:
    spread = covariances(moments, counts)
    k = spread.shape[1]
    own, whole = np.trace(spread, axis1=1, axis2=2), spread.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = k / (k - 1) * (1 - own / whole)
    return np.asarray(np.where(whole > 0, alpha, np.nan))


def covariances(moments: Moments, counts: Floats) -> Floats:
    """Return the covariance of the questions for each row of counts of customers."""
    k = moments.table.shape[1]
    sums = (counts @ moments.table.reshape(len(moments.table), k * k)).reshape(-1, k, k)
    n = sums[:, :1, :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[:, 0, 1:] / n[:, 0]
        products = sums[:, 1:, 1:] - n * mean[:, :, None] * mean[:, None, :]
        return np.asarray(products / (n - 1))


def feldt_interval(alpha: float, n: float, k: int, conf_level: float = 0.95) -> tuple[float, float]:
    """Bound Cronbach's alpha of `k` questions on `n` sheets (Feldt's F distribution).

    Examples
    --------
    >>> low, high = feldt_interval(0.913, 873, 20)
    >>> round(low, 4), round(high, 4)
    (0.9044, 0.9212)
    """
    tail = (1 - conf_level) / 2
    freedom = (n - 1, (n - 1) * (k - 1))
    low, high = (1 - (1 - alpha) * special.fdtri(*freedom, p) for p in (1 - tail, tail))
    return float(low), float(high)
