"""What lies behind every figure about answers: counted scores, compared groups.

Counting is relational and runs where the data lives; everything else starts from how often
each score was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.dates import to_day_number, with_civil
from crm_analysis.errors import InputError
from crm_analysis.estimates import FIVE
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.satisfaction.repeats import Repeats, count_repeats
from crm_analysis.uncertainty import (
    RANK_DRAWS,
    Ranks,
    Shrinkage,
    homogeneity_p_value,
    rank_draws,
    share_posterior,
    shrink_groups,
    wilson_interval,
)
from crm_analysis.wording import _, date_text, number, plural, word_of

__all__ = [
    "LEAST_GROUPS",
    "RANKED",
    "SHRUNK",
    "Compared",
    "Floats",
    "Period",
    "Question",
    "ScoreCounts",
    "check_on_scale",
    "check_scale",
    "check_since",
    "compare",
    "count_scores",
    "float_column",
    "population_error",
    "score_text",
    "share_bounds",
    "summary_of",
]

Floats = NDArray[np.float64]

Period = Literal["month", "quarter", "year"]
"""Calendar periods by which answers can be followed over time."""

PERIODS: tuple[Period, ...] = ("month", "quarter", "year")
_MONTHS: dict[str, int] = {"month": 1, "quarter": 3, "year": 12}

SHRUNK = ("shrunk", "shrunk_low", "shrunk_high")
"""What grouped estimates have beside the usual five."""

RANKED = ("rank_low", "rank_high", "chance_best")
"""What they have where groups can be ranked: bounds of the rank, chance of being the best."""

_WORTH_SAYING = 1.05
"""Design effects below this change no interval that a reader could see."""

LEAST_GROUPS = 3
"""From fewer groups nothing can be learnt about how groups vary."""

OWN = {"score", "late", "n", "value", "weight", "mean", "squares", "n_promoters", "n_passives",
        "n_detractors", "n_top", "n_answers", "n_in_time", *FIVE, *SHRUNK, *RANKED}  # fmt: skip


# Ask ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a table of answers, checked: the arguments that all metrics share.

    Attributes
    ----------
    groups : tuple of str
        The group columns, and ``period`` when the answers are followed over time.
    """

    score_col: str
    at_col: str | None
    customer_col: str | None
    scale: tuple[float, float]
    period: Period | None
    since: date | None
    as_of: date
    by: str | Sequence[str]
    conf_level: float
    groups: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        period = () if self.period is None else ("period",)
        by = group_names(self.by, taken=(*OWN, *period))
        check_conf_level(self.conf_level)
        object.__setattr__(self, "as_of", check_as_of(self.as_of))
        check_scale(self.scale)
        if self.period is not None:
            check_one_of("period", self.period, PERIODS)
        if self.since is not None:
            object.__setattr__(self, "since", check_since(self.since, self.as_of))
        if self.at_col is None and (self.period is not None or self.since is not None):
            raise InputError(
                "Answers of a stated time were asked for ('period' or 'since'), without the day "
                "of the answers. Name its column with 'at_col'."
            )
        object.__setattr__(self, "by", by)
        object.__setattr__(self, "groups", (*by, *period))

    def count(self, scores: object) -> ScoreCounts:
        """Count the answers by score, and refuse those off the scale."""
        counts = count_scores(
            scores, score_col=self.score_col, at_col=self.at_col, period=self.period,
            since=self.since, as_of=self.as_of, by=self.by,
        )  # fmt: skip
        check_on_scale(counts.table, self.score_col, self.scale)
        return counts

    def repeats(self, scores: object, value: Callable[[nw.Expr], nw.Expr]) -> Repeats | None:
        """Count who answered more than once; None where nobody says who answered."""
        if self.customer_col is None:
            return None
        months = None if self.period is None else _MONTHS[self.period]
        return count_repeats(
            scores, value, score_col=self.score_col, at_col=self.at_col,
            customer_col=self.customer_col, period_months=months, since=self.since,
            as_of=self.as_of, by=self.by,
        )  # fmt: skip

    def definition(self, text: str) -> str:
        """Say what is counted, of whom, and until when."""
        low, high = (score_text(bound) for bound in self.scale)
        scale = _("Scale from {low} to {high}.", low=low, high=high)
        who = _("Of those who answered; those who did not are not counted.")
        if self.customer_col is None:
            who += " " + _("Every answer counts as independent of the others.")
        else:
            who += " " + _("Intervals allow for customers who answered more than once.")
        until = when_text(self.since, self.as_of)
        if self.at_col is None:
            until = _("All answers of the table, as known on {as_of}.", as_of=date_text(self.as_of))
        return f"{text} {scale} {who} {until}"

    def notes(self, counts: ScoreCounts, repeats: Repeats | None = None) -> tuple[str, ...]:
        """Say what was left out, and what repeated answers cost."""
        n_blank, n_late, n_undated = counts.n_unanswered, counts.n_late, counts.n_undated
        left_out = {
            plural(n_blank, "{n} row without a score is not counted as an answer.",
                   "{n} rows without a score are not counted as answers."): n_blank,
            plural(n_late, "{n} answer given after {as_of} is left out.",
                   "{n} answers given after {as_of} are left out.",
                   as_of=date_text(self.as_of)): n_late,
            plural(n_undated, "{n} answer without a date is left out.",
                   "{n} answers without a date are left out."): n_undated,
        }  # fmt: skip
        notes = tuple(note for note, n in left_out.items() if n)
        if self.period is not None and self._ends_inside(counts.table):
            last = _period_of(self.as_of, self.period)
            notes += (_("The period {period} is not complete yet.", period=word_of(last)),)
        if repeats is not None and repeats.design_effect > _WORTH_SAYING:
            notes += (
                _(
                    "Some customers answered more than once ({answers} answers of {customers} "
                    "customers): the answers say as much as {effective} independent ones, and the "
                    "intervals are wider for that.",
                    answers=number(repeats.n_answers),
                    customers=number(repeats.n_customers),
                    effective=number(repeats.n_answers / repeats.design_effect),
                ),
            )
        return notes

    def _ends_inside(self, table: pl.DataFrame) -> bool:
        assert self.period is not None
        last = _period_of(self.as_of, self.period)
        complete = _period_of(self.as_of + timedelta(days=1), self.period) != last
        return not complete and last in table["period"].to_list()


def check_since(since: object, as_of: date) -> date:
    """Return the first day counted as a date not after `as_of`, or say what is wrong."""
    if not isinstance(since, date) or to_day_number(since) > to_day_number(as_of):
        raise InputError(
            f"'since' must be the first day to count, a datetime.date not after 'as_of' ({as_of}); "
            f"got {since!r}. Leave it out to count from the beginning."
        )
    return since


def when_text(since: date | None, as_of: date) -> str:
    """Say which days' answers are counted."""
    if since is None:
        return _("Answers given until {as_of}.", as_of=date_text(as_of))
    return _(
        "Answers given from {since} to {as_of}.", since=date_text(since), as_of=date_text(as_of)
    )


def check_scale(scale: tuple[float, float]) -> None:
    """Refuse a scale whose lowest score is not below its highest."""
    low, high = scale
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(
            f"'scale' must be the lowest and the highest score of the question; got {scale!r}. "
            "Pass, for example, scale=(1, 5)."
        )


def check_on_scale(table: pl.DataFrame, score_col: str, scale: tuple[float, float]) -> None:
    """Refuse counted scores (``score``, ``n``) that lie off the scale."""
    low, high = scale
    outside = table.filter((pl.col("score") < low) | (pl.col("score") > high))
    if outside.is_empty():
        return
    answers = table.filter(pl.col("score").is_not_null())["n"].sum()
    raise InputError(
        f"Scores from {low:g} to {high:g} were asked for; {outside['n'].sum()} of {answers} in "
        f"{score_col!r} lie outside, such as {outside['score'][0]:g}. Pass the question's own "
        "'scale', keep the answers to one question only, or correct those rows."
    )


def score_text(value: float) -> str:
    """Write a score: whole, or with one decimal."""
    return number(value, 0 if float(value).is_integer() else 1)


def _period_of(day: date, period: Period) -> str:
    month = pl.DataFrame({"day_month": [day.year * 12 + day.month - 1]})
    return str(month.select(text=_period_text(period))["text"][0])


# Count ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreCounts:
    """How often each score was given.

    Attributes
    ----------
    table : polars DataFrame
        The group columns, ``period`` when asked for, ``score`` (null: no answer) and ``n``.
    n_unanswered, n_late, n_undated : int
        Rows without a score; answers after `as_of`; answers without a date. None is counted.
    """

    table: pl.DataFrame
    n_unanswered: int
    n_late: int
    n_undated: int


def count_scores(
    scores: object,
    *,
    score_col: str = "score",
    at_col: str | None = "answered_on",
    period: Period | None = None,
    since: date | None = None,
    as_of: date,
    by: Sequence[str] = (),
) -> ScoreCounts:
    """Count how often each score was given from `since` until `as_of`, by group and period.

    Runs where the data lives; what comes home has at most one row per group and score (and
    month). Parameters as in `net_promoter_score`.
    """
    asked = {"score": Asked(score_col, "number", "score_col", nullable=True)}
    if at_col is not None:
        asked["day"] = Asked(at_col, "date", "at_col", nullable=True)
    frame = open_table(scores, asked, by=by)
    if since is not None:
        day = nw.col("day")
        frame = frame.filter(day.is_null() | (day >= to_day_number(since)))
    late = nw.col("day") > to_day_number(as_of) if at_col is not None else nw.lit(0)
    frame = frame.with_columns(late.cast(nw.Int64).alias("late"))
    if period is not None:
        frame = with_civil(frame, "day")
    own = ["score", "late", *(["day_month"] if period is not None else [])]
    counted = collect(frame.group_by(*keys_of(by), *own).agg(nw.len().alias("n")), by=by, order=own)
    if period is not None:
        counted = counted.with_columns(_period_text(period).alias("period"))
    return _kept(counted, [*by, *(["period"] if period is not None else [])])


def _kept(counted: pl.DataFrame, groups: list[str]) -> ScoreCounts:
    unanswered = pl.col("score").is_null()
    undated, late = ~unanswered & pl.col("late").is_null(), ~unanswered & (pl.col("late") == 1)
    totals = counted.select(
        n_unanswered=pl.col("n").filter(unanswered).sum(),
        n_late=pl.col("n").filter(late).sum(),
        n_undated=pl.col("n").filter(undated).sum(),
    ).row(0, named=True)
    # A group in which nobody answered is still a group; a period without answers is not.
    answers = pl.col("score").is_not_null() & (pl.col("late") == 0)
    kept = counted.filter(answers if "period" in groups else answers | unanswered)
    table = (
        kept.group_by(*groups, "score").agg(pl.col("n").sum())
        if groups
        else kept.group_by("score").agg(pl.col("n").sum())
    )
    return ScoreCounts(table.sort(*groups, "score", nulls_last=True), **totals)


def _period_text(period: Period) -> pl.Expr:
    year, month = pl.col("day_month") // 12, pl.col("day_month") % 12
    if period == "year":
        return pl.format("{}", year)
    if period == "quarter":
        return pl.format("{}-Q{}", year, month // 3 + 1)
    return pl.format("{}-{}", year, (month + 1).cast(pl.String).str.zfill(2))


# Estimate ---------------------------------------------------------------------------------


def summary_of(
    counts: pl.DataFrame, groups: Sequence[str], value: pl.Expr, **classes: pl.Expr
) -> pl.DataFrame:
    """Return n, mean, sum of squared deviations and class counts of a value of each score."""
    answered = pl.col("score").is_not_null()
    v, n = pl.col("value"), pl.col("weight")
    mean = (v * n).sum() / n.sum()
    sums = {
        "n": n.sum(),
        "mean": mean,
        "squares": ((v - mean) ** 2 * n).sum(),
        **{name: n.filter(inside).sum() for name, inside in classes.items()},
    }
    weighted = counts.with_columns(
        value=value.cast(pl.Float64).fill_null(0.0),
        weight=pl.when(answered).then("n").otherwise(0),
    )
    if not groups:
        return weighted.select(**sums)
    return weighted.group_by(*groups).agg(**sums).sort(*groups, nulls_last=True)


def float_column(table: pl.DataFrame, column: str) -> Floats:
    """Return a column as floats, shape (rows,)."""
    return table[column].to_numpy().astype(np.float64)


def share_bounds(
    summary: pl.DataFrame, k: str, conf_level: float, design_effect: float = 1.0
) -> tuple[Floats, Floats]:
    """Bound the share of `k`, a column of counts, in ``n`` (Wilson at the effective n)."""
    n, inside = float_column(summary, "n"), float_column(summary, k)
    return wilson_interval(inside / design_effect, n / design_effect, conf_level)


def population_error(summary: pl.DataFrame) -> Floats:
    """Return the standard error of each group's mean, with n in the variance's denominator."""
    n = float_column(summary, "n")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(float_column(summary, "squares")) / n)


@dataclass(frozen=True)
class Compared:
    """What can be said of several groups together."""

    p_value: float | None
    shrunk: Shrinkage | None
    known: NDArray[np.bool_]
    ranks: Ranks | None = None


def compare(
    summary: pl.DataFrame, conf_level: float, design_effect: float = 1.0, share: str | None = None
) -> Compared:
    """Test, shrink and rank groups, with one variance within groups pooled over all of them.

    A group of three like answers has no variance of its own to speak of, and under the
    hypothesis that no group differs they all share one.

    Parameters
    ----------
    share : str, optional
        The column of counts whose share the mean is: shares are shrunk by the beta-binomial
        model, everything else by the normal one.
    """
    n, mean = float_column(summary, "n"), float_column(summary, "mean")
    known = n > 0
    freedom = float(n.sum() - known.sum())
    squares = float(float_column(summary, "squares").sum())
    if known.sum() < 2 or freedom < 1 or squares <= 0:
        return Compared(None, None, known)
    std_error = np.sqrt(design_effect * squares / freedom / n[known])
    p_value = homogeneity_p_value(mean[known], std_error, freedom=freedom)
    if known.sum() < LEAST_GROUPS:
        return Compared(p_value, None, known)
    if share is None:
        shrunk = shrink_groups(mean[known], std_error, conf_level)
        draws = np.random.default_rng(0).standard_normal((RANK_DRAWS, len(shrunk.estimate)))
        draws = shrunk.estimate + shrunk.std_error * draws
    else:
        won, size = float_column(summary, share)[known] / design_effect, n[known] / design_effect
        posterior = share_posterior(won, size)
        shrunk, draws = (
            posterior.shrink(won, size, conf_level),
            posterior.draw(won, size, RANK_DRAWS),
        )
    return Compared(p_value, shrunk, known, rank_draws(draws, conf_level))
