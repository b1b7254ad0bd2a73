"""The scores: net promoter score, share of the top scores, mean, and how answers are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    share_columns,
    small_n_notes,
)
from crm_analysis.frames import check_one_of
from crm_analysis.satisfaction.answers import (
    Floats,
    Period,
    Question,
    float_column,
    population_error,
    score_text,
    share_bounds,
    summary_of,
)
from crm_analysis.satisfaction.repeats import Repeats
from crm_analysis.satisfaction.results import ScoreEstimates, ScoreShares, estimated
from crm_analysis.uncertainty import mean_interval, normal_quantile
from crm_analysis.wording import _, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "adjusted_wald_interval",
    "customer_effort_score",
    "mean_score",
    "net_promoter_score",
    "score_distribution",
    "top_box_score",
]

PSEUDO_ANSWERS = 3
"""Answers that the adjusted Wald interval adds: 3/4 promoter, 3/2 passive, 3/4 detractor."""

SUSPECT_FROM = 10
"""From this many answers on, none above the detractors looks like another question's scale."""


def adjusted_wald_interval(
    n_promoters: NDArray[Any],
    n_detractors: NDArray[Any],
    n: NDArray[Any],
    conf_level: float = 0.95,
) -> tuple[Floats, Floats]:
    """Bound net promoter shares, -1 to 1, with three added answers (Rocks' adjusted Wald).

    Three quarters of a promoter and of a detractor and one and a half passives are added
    before the normal interval is taken: it covers best of those compared, small groups
    included, and has a width even where all answers are alike. It is cut to the range of the
    score and, near its ends only, reaches out to the raw share. ``nan`` where `n` is 0.

    References
    ----------
    Rocks (2016), The American Statistician 70:365-372.
    """
    total = np.asarray(n, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = (n_promoters - n_detractors) / total
    size = total + PSEUDO_ANSWERS
    p, d = (n_promoters + PSEUDO_ANSWERS / 4) / size, (n_detractors + PSEUDO_ANSWERS / 4) / size
    half = normal_quantile(conf_level) * np.sqrt((p + d - (p - d) ** 2) / size)
    low = np.minimum(np.maximum(p - d - half, -1.0), raw)
    high = np.maximum(np.minimum(p - d + half, 1.0), raw)
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def net_promoter_score(
    scores: object,
    *,
    score_col: str = "score",
    at_col: str | None = "answered_on",
    customer_col: str | None = None,
    scale: tuple[float, float] = (0, 10),
    promoters_from: float = 9,
    detractors_to: float = 6,
    period: Period | None = None,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "adjusted-wald",
) -> ScoreEstimates:
    r"""By how much do promoters outnumber detractors (net promoter score).

    Parameters
    ----------
    scores : table
        One row per answer to one question, on any backend; a null score is no answer.
    score_col : str
        Column of the score, from 0 ("not at all likely to recommend") to 10.
    at_col : str or None
        Column of the day of the answer; answers after `as_of` are not counted. None when the
        table has no dates: then all of it counts.
    customer_col : str, optional
        Column of who answered. With it, intervals and comparisons allow for customers who
        answered more than once (design effect, pooled over groups); without it every answer
        counts as independent.
    scale : tuple of float
        Lowest and highest score that the question allows; others are refused.
    promoters_from, detractors_to : float
        Scores from which, and up to which, a customer counts as promoter and as detractor.
    period : {"month", "quarter", "year"}, optional
        Follow the score over calendar periods; adds the column ``period``.
    since : date, optional
        First day counted; without it answers count from the beginning.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        Group columns, such as the dealership or the employee.
    conf_level : float
    ci_method : {"adjusted-wald", "wald"}
        `adjusted_wald_interval`, or the plain normal interval, which is null where all
        answers are alike.

    Returns
    -------
    ScoreEstimates
        Columns of `by`, ``n`` (answers), ``n_promoters``, ``n_passives``, ``n_detractors``,
        ``estimate`` in points (-100 to 100), ``std_error``, ``conf_low``, ``conf_high``; with
        groups also ``shrunk``, ``shrunk_low``, ``shrunk_high`` and the rank among all groups:
        ``rank_low``, ``rank_high`` (1 is the highest), ``chance_best``; null below three groups.

    Raises
    ------
    InputError
        Scores outside the scale; cuts outside it or overlapping.
    ColumnError
        A column is missing or holds no numbers or dates.

    Notes
    -----
    .. math:: 100 (p - d), \qquad \mathrm{se} = 100 \sqrt{(p + d - (p - d)^2) / n}

    The denominator is those who answered, not those who were asked. Groups are shrunk by
    `uncertainty.shrink_groups` with one variance pooled within groups; periods are not,
    because neighbouring periods are no random sample.

    References
    ----------
    Reichheld (2003), Harvard Business Review 81(12):46-54; Rocks (2016), The American
    Statistician 70:365-372.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> answers = pl.DataFrame({"score": [0, 7, 7, 9, 9, 9, 9, 9, 9]})
    >>> print(net_promoter_score(answers, at_col=None, as_of=date(2026, 6, 30)))
    Net promoter score: 55.6 (95% interval 0.3 to 83.0, n = 9).
    """
    check_one_of("ci_method", ci_method, ("adjusted-wald", "wald"))
    question = Question(
        score_col=score_col, at_col=at_col, customer_col=customer_col, scale=scale,
        period=period, since=since, as_of=as_of, by=by, conf_level=conf_level,
    )  # fmt: skip
    _check_cuts(scale, promoters_from, detractors_to)
    counts = question.count(scores)
    promoter, detractor = pl.col("score") >= promoters_from, pl.col("score") <= detractors_to
    summary = summary_of(
        counts.table, question.groups, promoter.cast(pl.Int8) - detractor.cast(pl.Int8),
        n_promoters=promoter, n_passives=~promoter & ~detractor, n_detractors=detractor,
    )  # fmt: skip
    repeats = question.repeats(
        scores,
        lambda score: _one_if(score >= promoters_from) - _one_if(score <= detractors_to),
    )
    effect = _effect(repeats)
    return estimated(
        summary, population_error(summary), _net_bounds(summary, conf_level, ci_method, effect),
        groups=question.groups, design_effect=effect,
        classes=("n_promoters", "n_passives", "n_detractors"),
        factor=100.0, limits=(-100.0, 100.0), name=_("Net promoter score"), unit="points",
        definition=question.definition(
            _("Share of answers from {promoters} up (promoters) minus share of answers up to "
              "{detractors} (detractors), in points from −100 to 100.",
              promoters=score_text(promoters_from), detractors=score_text(detractors_to))
        ),
        notes=question.notes(counts, repeats) + _other_scale_note(counts.table, detractors_to),
        conf_level=conf_level, period=period, key="net_promoter_score",
    )  # fmt: skip


def _check_cuts(scale: tuple[float, float], promoters_from: float, detractors_to: float) -> None:
    low, high = scale
    if not low <= detractors_to < promoters_from <= high:
        raise InputError(
            f"Detractors up to {detractors_to:g} and promoters from {promoters_from:g} were "
            f"asked for on a scale from {low:g} to {high:g}. Both must lie on the scale, "
            "detractors below promoters; the score is defined for a question from 0 to 10."
        )


def _one_if(condition: nw.Expr) -> nw.Expr:
    return condition.cast(nw.Int64)


def _effect(repeats: Repeats | None) -> float:
    return 1.0 if repeats is None else repeats.design_effect


def _net_bounds(
    summary: pl.DataFrame, conf_level: float, ci_method: str, effect: float
) -> tuple[Floats, Floats]:
    n, up, down = (float_column(summary, c) for c in ("n", "n_promoters", "n_detractors"))
    if ci_method == "adjusted-wald":
        return adjusted_wald_interval(up / effect, down / effect, n / effect, conf_level)
    net, std_error = float_column(summary, "mean"), np.sqrt(effect) * population_error(summary)
    half = normal_quantile(conf_level) * np.where(std_error > 0, std_error, np.nan)
    return np.maximum(net - half, -1.0), np.minimum(net + half, 1.0)


def _other_scale_note(counts: pl.DataFrame, detractors_to: float) -> tuple[str, ...]:
    answered = counts.drop_nulls("score")
    n = int(answered["n"].sum())
    most = float(float_column(answered, "score").max(initial=-np.inf))
    if n < SUSPECT_FROM or most >= detractors_to:
        return ()
    return (
        _("No answer is above {most}: make sure that this is the question on recommending, "
          "and that its scale is the one stated.",
          most=score_text(most)),
    )  # fmt: skip


def top_box_score(
    scores: object,
    *,
    score_col: str = "score",
    at_col: str | None = "answered_on",
    customer_col: str | None = None,
    scale: tuple[float, float] = (1, 5),
    top: int = 2,
    period: Period | None = None,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> ScoreEstimates:
    """What share of answers is among the best of the scale (top-box, CSAT).

    Parameters
    ----------
    scores, score_col, at_col, customer_col, period, since, as_of, by, conf_level
        As in `net_promoter_score`.
    scale : tuple of float
        Lowest and highest score that the question allows; others are refused.
    top : int
        How many of the highest whole scores count as satisfied: 2 on a scale to 5 means 4, 5.
    ci_method : {"wilson"}

    Returns
    -------
    ScoreEstimates
        Columns of `by`, ``n`` (answers), ``n_top``, ``estimate`` (share, 0 to 1),
        ``std_error``, ``conf_low``, ``conf_high``; with groups also ``shrunk``,
        ``shrunk_low``, ``shrunk_high`` by the beta-binomial model (`share_posterior`), and
        ``rank_low``, ``rank_high``, ``chance_best``.

    Raises
    ------
    InputError, ColumnError
        As in `net_promoter_score`; `top` that leaves no score below it.

    References
    ----------
    Wilson (1927), JASA 22:209-212.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> answers = pl.DataFrame({"score": [5] * 10 + [4] * 8 + [1] * 2})
    >>> print(top_box_score(answers, at_col=None, as_of=date(2026, 6, 30)))
    Share of the top 2 scores: 90.0% (95% interval 69.9% to 97.2%, n = 20).
    """
    check_one_of("ci_method", ci_method, ("wilson",))
    question = Question(
        score_col=score_col, at_col=at_col, customer_col=customer_col, scale=scale,
        period=period, since=since, as_of=as_of, by=by, conf_level=conf_level,
    )  # fmt: skip
    low, high = scale
    if top < 1 or high - top < low:
        raise InputError(
            f"The top {top} scores of the scale {low:g} to {high:g} were asked for. "
            f"Pass a 'top' from 1 to {max(1, int(high - low))}."
        )
    counts = question.count(scores)
    inside = pl.col("score") > high - top
    summary = summary_of(counts.table, question.groups, inside, n_top=inside)
    repeats = question.repeats(scores, lambda score: _one_if(score > high - top))
    effect = _effect(repeats)
    return estimated(
        summary, population_error(summary), share_bounds(summary, "n_top", conf_level, effect),
        groups=question.groups, design_effect=effect, classes=("n_top",), share="n_top",
        limits=(0.0, 1.0), name=_("Share of the top {top} scores", top=number(top)), unit="share",
        key=f"top_{top}_scores",
        definition=question.definition(
            _("Share of answers above {cut}.", cut=score_text(high - top))
        ),
        notes=question.notes(counts, repeats), conf_level=conf_level, period=period,
    )  # fmt: skip


def mean_score(
    scores: object,
    *,
    score_col: str = "score",
    at_col: str | None = "answered_on",
    customer_col: str | None = None,
    scale: tuple[float, float],
    period: Period | None = None,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "t",
) -> ScoreEstimates:
    """How high do customers score on average (mean with Student's t interval).

    Parameters
    ----------
    scores, score_col, at_col, customer_col, period, since, as_of, by, conf_level
        As in `net_promoter_score`.
    scale : tuple of float
        Lowest and highest score that the question allows. It has no default, and scores
        outside it are refused: a mean over questions on different scales means nothing.
    ci_method : {"t"}
        Cut to the scale; null for one answer, or where all answers are alike.

    Returns
    -------
    ScoreEstimates
        Columns of `by`, ``n`` (answers), ``estimate`` on the question's own scale,
        ``std_error``, ``conf_low``, ``conf_high``; with groups also ``shrunk``,
        ``shrunk_low``, ``shrunk_high``, ``rank_low``, ``rank_high``, ``chance_best``.

    Raises
    ------
    InputError, ColumnError
        As in `net_promoter_score`.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> answers = pl.DataFrame({"score": [3, 4, 4, 5, 5]})
    >>> print(mean_score(answers, at_col=None, scale=(1, 5), as_of=date(2026, 6, 30)))
    Mean score: 4.20 (95% interval 3.16 to 5.00, n = 5).
    """
    check_one_of("ci_method", ci_method, ("t",))
    question = Question(
        score_col=score_col, at_col=at_col, customer_col=customer_col, scale=scale,
        period=period, since=since, as_of=as_of, by=by, conf_level=conf_level,
    )  # fmt: skip
    counts = question.count(scores)
    summary = summary_of(counts.table, question.groups, pl.col("score"))
    n = float_column(summary, "n")
    with np.errstate(divide="ignore", invalid="ignore"):
        std_dev = np.sqrt(float_column(summary, "squares") / (n - 1))
        std_error = std_dev / np.sqrt(n)
    spread = np.where(std_dev > 0, std_dev, np.nan)
    repeats = question.repeats(scores, lambda score: score)
    effect = _effect(repeats)
    low, high = mean_interval(float_column(summary, "mean"), spread, n / effect, conf_level)
    return estimated(
        summary, std_error, (np.maximum(low, scale[0]), np.minimum(high, scale[1])),
        groups=question.groups, design_effect=effect, limits=scale, name=_("Mean score"),
        key="mean_score",
        unit="score",
        definition=question.definition(_("Mean of the answers.")),
        notes=question.notes(counts, repeats), conf_level=conf_level, period=period,
    )  # fmt: skip


def customer_effort_score(
    scores: object,
    *,
    score_col: str = "score",
    at_col: str | None = "answered_on",
    customer_col: str | None = None,
    scale: tuple[float, float] = (1, 7),
    high_is_easy: bool = True,
    period: Period | None = None,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "t",
) -> ScoreEstimates:
    """How easy is it for customers to get what they came for (customer effort score).

    Parameters
    ----------
    scores, score_col, at_col, customer_col, period, since, as_of, by, conf_level, ci_method
        As in `mean_score`.
    scale : tuple of float
        1 to 7 for "The company made it easy for me", from "strongly disagree" on.
    high_is_easy : bool
        False for the older question, "How much effort did it take you?": there the lower mean
        is the better.

    Returns
    -------
    ScoreEstimates
        As of `mean_score`, which it is; it knows which way is better.

    Raises
    ------
    InputError, ColumnError
        As in `net_promoter_score`.

    References
    ----------
    Dixon, Freeman & Toman (2010), Harvard Business Review 88(7/8):116-122; Dixon, Toman & DeLisi
    (2013), *The Effortless Experience*, chapter 6 (the question from 1 to 7).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> answers = pl.DataFrame({"score": [7, 6, 6, 5, 2]})
    >>> print(customer_effort_score(answers, at_col=None, as_of=date(2026, 6, 30)))
    Customer effort score: 5.20 (95% interval 2.81 to 7.00, n = 5).
    """
    found = mean_score(
        scores, score_col=score_col, at_col=at_col, customer_col=customer_col, scale=scale,
        period=period, since=since, as_of=as_of, by=by, conf_level=conf_level,
        ci_method=ci_method,
    )  # fmt: skip
    easier = _("The higher, the easier.") if high_is_easy else _("The lower, the easier.")
    return replace(
        found, name=_("Customer effort score"), key="customer_effort_score",
        definition=f"{found.definition} {easier}", better="higher" if high_is_easy else "lower",
    )  # fmt: skip


def score_distribution(
    scores: object,
    *,
    score_col: str = "score",
    at_col: str | None = "answered_on",
    scale: tuple[float, float] = (0, 10),
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> ScoreShares:
    """How are the answers spread over the scale (share of each score).

    Parameters
    ----------
    scores, score_col, at_col, scale, since, as_of, by, conf_level
        As in `net_promoter_score`.
    ci_method : {"wilson"}

    Returns
    -------
    ScoreShares
        One row per group and score: every whole score of the scale, and others that were
        given. Columns of `by`, ``score``, ``n`` (answers of the group), ``n_answers`` (that
        gave this score), ``estimate`` (share, 0 to 1), ``std_error``, ``conf_low``,
        ``conf_high``.

    Raises
    ------
    InputError, ColumnError
        As in `net_promoter_score`.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> answers = pl.DataFrame({"score": [3, 4, 4, 5]})
    >>> shares = score_distribution(answers, at_col=None, scale=(1, 5), as_of=date(2026, 6, 30))
    >>> shares.table["n_answers"].to_list()
    [0, 0, 1, 2, 1]
    """
    check_one_of("ci_method", ci_method, ("wilson",))
    question = Question(
        score_col=score_col, at_col=at_col, customer_col=None, scale=scale, period=None,
        since=since, as_of=as_of, by=by, conf_level=conf_level,
    )  # fmt: skip
    counts = question.count(scores)
    return ScoreShares(
        table=_distribution(counts.table, question.groups, scale, conf_level),
        name=_("Answers by score"), unit="share", by=(*question.groups, "score"),
        conf_level=conf_level,
        definition=question.definition(_("Share of the answers that gave each score.")),
        notes=question.notes(counts) + small_n_notes(
            _totals(counts.table, question.groups), question.groups, what=_("answers")
        ),
    )  # fmt: skip


def _totals(counts: pl.DataFrame, groups: Sequence[str]) -> pl.DataFrame:
    answered = pl.col("n").filter(pl.col("score").is_not_null()).sum()
    if not groups:
        return counts.select(answered)
    return counts.group_by(*groups).agg(answered).sort(*groups, nulls_last=True)


def _distribution(
    counts: pl.DataFrame, groups: Sequence[str], scale: tuple[float, float], conf_level: float
) -> pl.DataFrame:
    whole = pl.Series("score", np.arange(np.ceil(scale[0]), scale[1] + 1e-9), pl.Float64)
    given = counts["score"].drop_nulls()
    every = pl.concat([whole, given]).unique().sort().to_frame()
    cells = _totals(counts, groups).join(every, how="cross")
    known = counts.rename({"n": "n_answers"}).drop_nulls("score")
    cells = cells.join(known, on=[*groups, "score"], how="left", nulls_equal=True)
    cells = cells.with_columns(pl.col("n_answers").fill_null(0)).sort(
        *groups, "score", nulls_last=True
    )
    five = share_columns(cells["n_answers"], cells["n"], conf_level)
    return cells.select(*groups, "score", "n", "n_answers").with_columns(**five)
