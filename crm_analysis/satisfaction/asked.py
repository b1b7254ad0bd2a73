"""Everyone who was asked, those who did not answer included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.satisfaction.answers import check_on_scale, check_scale, score_text
from crm_analysis.satisfaction.repeats import count_repeats
from crm_analysis.wording import Unit, _, date_text, number, plural

__all__ = ["KINDS_OF_SCORE", "AskedCounts", "Measure", "Surveys", "measure_of"]

KINDS_OF_SCORE = ("mean", "top", "nps")
_RECOMMENDING: tuple[float, float] = (0, 10)


@dataclass(frozen=True)
class Measure:
    """What is averaged over answers: a number for each score.

    Attributes
    ----------
    value : callable
        Turns a score into what is averaged, on any backend.
    lowest, highest : float
        Least and most that it can be.
    factor : float
        By which the average is multiplied to be read.
    """

    name: str
    unit: Unit
    key: str
    definition: str
    value: Callable[[nw.Expr], nw.Expr]
    lowest: float
    highest: float
    factor: float = 1.0


def measure_of(measure: str, scale: tuple[float, float], top: int) -> Measure:
    """Return what `measure` averages over answers.

    Raises
    ------
    InputError
        Another measure; a scale that is none, or not 0 to 10 for ``"nps"``; a `top` that leaves
        nothing below it.
    """
    check_one_of("measure", measure, KINDS_OF_SCORE)
    check_scale(scale)
    low, high = scale
    if measure == "mean":
        return Measure(
            _("Mean score"), "score", "mean_score", _("Mean of the answers."),
            lambda score: score, low, high,
        )  # fmt: skip
    if measure == "nps":
        if tuple(scale) != _RECOMMENDING:
            raise InputError(
                f"The net promoter score is defined for a question from 0 to 10; the scale is "
                f"{low:g} to {high:g}. Pass measure='mean' or 'top', or the other question."
            )
        return Measure(
            _("Net promoter score"), "points", "net_promoter_score",
            _("Share of answers from {promoters} up (promoters) minus share of answers up to "
              "{detractors} (detractors), in points from −100 to 100.",
              promoters=score_text(9), detractors=score_text(6)),
            lambda score: (score >= 9).cast(nw.Float64) - (score <= 6).cast(nw.Float64),
            -1, 1, 100.0,
        )  # fmt: skip
    if top < 1 or high - top < low:
        raise InputError(
            f"The top {top} scores of the scale {low:g} to {high:g} were asked for. "
            f"Pass a 'top' from 1 to {max(1, int(high - low))}."
        )
    return Measure(
        _("Share of the top {top} scores", top=number(top)), "share", f"top_{top}_scores",
        _("Share of answers above {cut}.", cut=score_text(high - top)),
        lambda score: (score > high - top).cast(nw.Float64), 0, 1,
    )  # fmt: skip


@dataclass(frozen=True)
class AskedCounts:
    """How often each score was given, and how often none.

    Attributes
    ----------
    table : polars DataFrame
        Group columns, ``score`` (null: no answer in time), ``y`` (what is averaged, null
        likewise) and ``n``.
    n_young, n_late : int
        Surveys sent too recently to count; answers that came too late and count as none.
    design_effect : float
        By which customers who answered more than once multiply the variance of a mean.
    """

    table: pl.DataFrame
    n_young: int
    n_late: int
    design_effect: float

    def notes(self) -> tuple[str, ...]:
        """Say what was left out."""
        notes: tuple[str, ...] = ()
        if self.n_young:
            notes += (plural(self.n_young, "{n} survey was sent too recently to count.",
                             "{n} surveys were sent too recently to count."),)  # fmt: skip
        if self.n_late:
            notes += (plural(self.n_late, "{n} answer came later and counts as none.",
                             "{n} answers came later and count as none."),)  # fmt: skip
        return notes


@dataclass(frozen=True, kw_only=True)
class Surveys:
    """What is asked of a table of surveys sent, checked.

    Attributes
    ----------
    within : tuple of str
        The columns of `by` within which customers who answered more than once are looked for.
    """

    score_col: str
    sent_col: str
    answered_col: str
    customer_col: str | None
    scale: tuple[float, float]
    measure: Measure
    within_days: float
    since: date | None
    as_of: date
    by: tuple[str, ...]
    within: tuple[str, ...]
    conf_level: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "as_of", check_as_of(self.as_of))
        check_conf_level(self.conf_level)
        if self.since is not None:
            check_since(self.since, self.as_of)
        group_names(self.by, taken=_OWN)
        if not 0 < self.within_days < float("inf"):
            raise InputError(
                f"'within_days' must be a positive number of days; got {self.within_days!r}. "
                "Pass, for example, within_days=30."
            )

    def count(self, surveys: object) -> AskedCounts:
        """Count surveys by group and score; runs where the data lives."""
        frame = self._open(surveys)
        keys = keys_of(self.by)
        counts = frame.group_by(*keys, "score", "y", "mature", "late").agg(nw.len().alias("n"))
        counted = collect(counts, by=self.by, order=["score", "mature", "late"])
        check_on_scale(counted, self.score_col, self.scale)
        mature = counted.filter(pl.col("mature") == 1)
        table = mature.group_by(*self.by, "score", "y").agg(pl.col("n").sum())
        return AskedCounts(
            table.sort(*self.by, "score", nulls_last=True),
            int(counted.filter(pl.col("mature") == 0)["n"].sum()),
            int(mature.filter(pl.col("late") == 1)["n"].sum()),
            self._design_effect(frame),
        )

    def _open(self, surveys: object) -> nw.LazyFrame[Any]:
        window = round(self.within_days * SECONDS_PER_DAY)
        end = (to_day_number(self.as_of) + 1) * SECONDS_PER_DAY
        asked = {
            "score": Asked(self.score_col, "number", "score_col", nullable=True),
            "sent": Asked(self.sent_col, "moment", "sent_col"),
            "answered": Asked(self.answered_col, "moment", "answered_col", nullable=True),
        }
        if self.customer_col is not None:
            asked["customer"] = Asked(self.customer_col, "key", "customer_col", nullable=True)
        frame = open_table(surveys, asked, by=self.by).filter(nw.col("sent") < end)
        if self.since is not None:
            frame = frame.filter(nw.col("sent") >= to_day_number(self.since) * SECONDS_PER_DAY)
        said, in_time = ~nw.col("score").is_null(), nw.col("answered") - nw.col("sent") <= window
        frame = frame.with_columns(
            (nw.col("sent") + window < end).cast(nw.Int64).alias("mature"),
            nw.when(said & in_time).then(nw.col("score")).alias("score"),
            nw.when(said & ~in_time).then(nw.lit(1)).otherwise(nw.lit(0)).alias("late"),
        )
        known = ~nw.col("score").is_null()
        y = nw.when(known).then(self.measure.value(nw.col("score")).cast(nw.Float64))
        return frame.with_columns(y.alias("y"))

    def _design_effect(self, frame: nw.LazyFrame[Any]) -> float:
        if self.customer_col is None:
            return 1.0
        return count_repeats(
            frame.filter(nw.col("mature") == 1), self.measure.value, score_col="score",
            at_col=None, customer_col="customer", period_months=None, since=None,
            as_of=self.as_of, by=keys_of(self.within),
        ).design_effect  # fmt: skip

    def when_text(self) -> str:
        """Say whose surveys are counted."""
        text = _(
            "Of surveys sent at least {days} days before the end of {as_of}; an answer counts up "
            "to {days} days after sending.",
            days=score_text(self.within_days),
            as_of=date_text(self.as_of),
        )
        if self.since is None:
            return text
        return text + " " + _("Sent on {since} or later.", since=date_text(self.since))


_OWN = ("score", "y", "n_answered", "mature", "late", "sent", "answered", "customer", "bound_low",
        "bound_high", "trait", "level", "mean", "weighting", "n_effective", "response")  # fmt: skip


def names_of(columns: str | Sequence[str]) -> tuple[str, ...]:
    """Return column names as a tuple, whether one or several were given."""
    return (columns,) if isinstance(columns, str) else tuple(columns)
