"""Several questions of one questionnaire: counted sheets, from which everything is estimated.

A *sheet* is what one customer answered on one day. Sums over the sheets of a customer are all
that means, regressions and their clustered errors need; customers with the same sums are counted
together, so little comes home.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations_with_replacement
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError, listed, near
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_since,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.satisfaction.answers import Floats, when_text
from crm_analysis.wording import _, word_of

__all__ = ["Means", "Moments", "Sheets", "question_word"]


def question_word(code: str) -> str:
    """Write the code of a question in the reader's words; one that nobody knows stays.

    Examples
    --------
    >>> question_word("csat"), question_word("delivery_day")
    ('overall satisfaction', 'delivery day')
    """
    known = {
        "csat": _("overall satisfaction"),
        "nps": _("willingness to recommend"),
        "ces": _("ease"),
        "staff": _("staff"),
        "speed": _("speed"),
        "price": _("price"),
    }
    return known.get(code) or word_of(code)


@dataclass(frozen=True)
class Means:
    """Per distinct customer: sums of each question's place on its scale, and answers to it.

    Attributes
    ----------
    sums, answered : ndarray, shape (patterns, questions)
        Places run from 0 (lowest score) to 1 (highest).
    count : ndarray, shape (patterns,)
        Customers with these sums.
    """

    sums: Floats
    answered: Floats
    count: Floats


@dataclass(frozen=True)
class Moments:
    """Per distinct customer: sums over complete sheets of 1, each score and each product.

    Attributes
    ----------
    table : ndarray, shape (patterns, questions + 1, questions + 1)
        Sum over the customer's sheets of z z', with z = (1, scores).
    count : ndarray, shape (patterns,)
        Customers with these sums.
    """

    table: Floats
    count: Floats

    @property
    def n_sheets(self) -> float:
        """Return how many complete sheets there are."""
        return float(self.table[:, 0, 0] @ self.count)


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """What is asked of a table of answers to several questions, checked."""

    survey_col: str
    question_col: str
    score_col: str
    low_col: str
    high_col: str
    at_col: str | None
    customer_col: str | None
    questions: tuple[str, ...]
    since: date | None
    as_of: date
    by: tuple[str, ...]
    conf_level: float
    one_scale: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "as_of", check_as_of(self.as_of))
        check_conf_level(self.conf_level)
        group_names(self.by, taken=_OWN)
        if self.since is not None:
            check_since(self.since, self.as_of)
        if not self.questions or len(set(self.questions)) < len(self.questions):
            raise InputError(
                f"Questions {list(self.questions)} were asked for. Name each one once, "
                "and at least one."
            )

    def means(self, answers: object) -> Iterator[tuple[dict[str, Any], Means]]:
        """Return each group with its customers' sums."""
        frame, k = self._scored(answers), len(self.questions)
        low, high = nw.col("low"), nw.col("high")
        frame = frame.with_columns(((nw.col("score") - low) / (high - low)).alias("place"))
        sums = [
            column
            for i, question in enumerate(self.questions)
            for column in self._sums_of(i, question)
        ]
        units = frame.group_by(*keys_of(self.by), *self._unit()).agg(*sums)
        names = [f"{kind}{i}" for kind in "xn" for i in range(k)]
        for group, part in self._patterns(units, names):
            values = part.select(names).to_numpy().astype(np.float64)
            yield group, Means(values[:, :k], values[:, k:], part["count"].to_numpy().astype(float))

    def moments(self, answers: object) -> Iterator[tuple[dict[str, Any], Moments]]:
        """Return each group with its customers' sums of products, of complete sheets alone."""
        frame, k = self._scored(answers), len(self.questions)
        frame = frame.with_columns(nw.col("score").alias("place"))
        keys = [*keys_of(self.by), *self._unit()]
        per_sheet = keys if self.customer_col is None else [*keys, "survey"]
        sums = [
            column
            for i, question in enumerate(self.questions)
            for column in self._sums_of(i, question)
        ]
        sheets = frame.group_by(*per_sheet).agg(*sums)
        for i in range(k):
            sheets = sheets.filter(nw.col(f"n{i}") > 0)
        sheets = sheets.with_columns(
            (nw.col(f"x{i}") / nw.col(f"n{i}")).alias(f"z{i + 1}") for i in range(k)
        ).with_columns(nw.lit(1.0).alias("z0"))
        pairs = list(combinations_with_replacement(range(k + 1), 2))
        names = [f"m{i}_{j}" for i, j in pairs]
        products = [
            (nw.col(f"z{i}") * nw.col(f"z{j}")).alias(name)
            for (i, j), name in zip(pairs, names, strict=True)
        ]
        sheets = sheets.with_columns(*products)
        units = sheets.group_by(*keys).agg(*[nw.col(name).sum() for name in names])
        for group, part in self._patterns(units, names):
            values = part.select(names).to_numpy().astype(np.float64)
            table = np.empty((len(values), k + 1, k + 1))
            for (i, j), column in zip(pairs, values.T, strict=True):
                table[:, i, j] = table[:, j, i] = column
            yield group, Moments(table, part["count"].to_numpy().astype(float))

    def when_text(self) -> str:
        """Say which days' answers are counted."""
        return when_text(self.since, self.as_of)

    def _scored(self, answers: object) -> nw.LazyFrame[Any]:
        asked = {
            "survey": Asked(self.survey_col, "key", "survey_col"),
            "question": Asked(self.question_col, "text", "question_col"),
            "score": Asked(self.score_col, "number", "score_col", nullable=True),
            "low": Asked(self.low_col, "number", "low_col", nullable=True),
            "high": Asked(self.high_col, "number", "high_col", nullable=True),
        }
        if self.at_col is not None:
            asked["day"] = Asked(self.at_col, "date", "at_col", nullable=True)
        if self.customer_col is not None:
            asked["customer"] = Asked(self.customer_col, "key", "customer_col", nullable=True)
        frame = open_table(answers, asked, by=self.by).filter(~nw.col("score").is_null())
        if self.at_col is not None:
            frame = frame.filter(nw.col("day") <= to_day_number(self.as_of))
            if self.since is not None:
                frame = frame.filter(nw.col("day") >= to_day_number(self.since))
        self._check(frame)
        frame = frame.filter(nw.col("question").cast(nw.String).is_in(self.questions))
        if self.customer_col is not None:
            # Whoever is not known answered once: the sheet itself is the customer.
            lone = nw.when(nw.col("customer").is_null()).then(nw.col("survey")).alias("lone")
            frame = frame.with_columns(lone)
        return frame

    def _check(self, frame: nw.LazyFrame[Any]) -> None:
        """Refuse unknown questions, scores off their scale, and a question on two scales."""
        score, low, high = nw.col("score"), nw.col("low"), nw.col("high")
        off = nw.when((score < low) | (score > high)).then(nw.lit(1)).otherwise(nw.lit(0))
        found = collect(
            frame.with_columns(off.alias("off")).group_by("question").agg(
                low.min().alias("low"), low.max().alias("other_low"), high.min().alias("high"),
                high.max().alias("other_high"), nw.col("off").sum(), nw.len().alias("n"),
            ), order=["question"],
        )  # fmt: skip
        known = [str(name) for name in found["question"].to_list()]
        missing = [name for name in self.questions if name not in known]
        # In a small dealership nobody may have answered one of several: that is no mistake, but a
        # name that looks like another is.
        if missing and known and (missing == list(self.questions) or near(missing[0], known)):
            raise InputError(
                f"Question {missing[0]!r} was asked for{near(missing[0], known)}; there are "
                f"answers to: {listed(known)}. Choose among these."
            )
        used = found.filter(pl.col("question").cast(pl.String).is_in(self.questions))
        for row in used.to_dicts():
            _check_question(row)
        lengths = {row["high"] - row["low"] for row in used.to_dicts()}
        if self.one_scale and len(lengths) > 1:
            raise InputError(
                f"Questions {listed(self.questions)} have scales of different lengths. Name "
                "questions of one scale: raw scores of different ones do not add up."
            )

    def _unit(self) -> tuple[str, ...]:
        return ("survey",) if self.customer_col is None else ("customer", "lone")

    def _sums_of(self, i: int, question: str) -> tuple[nw.Expr, nw.Expr]:
        mine = nw.col("question").cast(nw.String) == question
        return (
            nw.when(mine).then(nw.col("place")).otherwise(nw.lit(0.0)).sum().alias(f"x{i}"),
            nw.when(mine).then(nw.lit(1.0)).otherwise(nw.lit(0.0)).sum().alias(f"n{i}"),
        )

    def _patterns(
        self, units: nw.LazyFrame[Any], names: Sequence[str]
    ) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
        rounded = units.with_columns(nw.col(name).round(9) for name in names)
        counted = collect(
            rounded.group_by(*keys_of(self.by), *names).agg(nw.len().alias("count")),
            by=self.by, order=names,
        )  # fmt: skip
        if not self.by:
            yield {}, counted
            return
        for part in counted.partition_by(self.by, maintain_order=True):
            yield part.select(self.by).row(0, named=True), part


def _check_question(row: dict[str, Any]) -> None:
    name = row["question"]
    if row["low"] is None or row["high"] is None or not row["low"] < row["high"]:
        raise InputError(
            f"Question {name!r} has no scale. State its lowest and highest score in every row."
        )
    if row["low"] != row["other_low"] or row["high"] != row["other_high"]:
        raise InputError(
            f"Question {name!r} was asked on more than one scale ({row['low']:g} to "
            f"{row['high']:g}, and to {row['other_high']:g} from {row['other_low']:g}). Means "
            "over different scales mean nothing: give the question of each scale its own name."
        )
    if row["off"]:
        raise InputError(
            f"{row['off']} of {row['n']} scores of question {name!r} lie off its scale "
            f"({row['low']:g} to {row['high']:g}). Correct or leave out those rows."
        )


_OWN = ("survey", "question", "score", "low", "high", "day", "customer", "lone", "place", "count",
        "importance", "coefficient", "coef_low", "coef_high", "mean", "r_squared")  # fmt: skip
