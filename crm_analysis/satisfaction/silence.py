"""Whether those who are dissatisfied, and those who keep silent, come again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY, floor_divide, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, p_text, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    check_whole,
    collect,
    open_table,
)
from crm_analysis.satisfaction.answers import check_on_scale, check_scale, score_text
from crm_analysis.survival import (
    KaplanMeier,
    count_durations,
    holm,
    kaplan_meier,
    log_rank_p_value,
)
from crm_analysis.uncertainty import log_log_interval
from crm_analysis.wording import Unit, _, date_text, duration_text, number, percent, word_of

__all__ = ["SilentDeparture", "silent_departure"]

KINDS = ("low_score", "middle_score", "high_score", "kept_silent")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SilentDeparture(Estimates):
    """Share of customers who did not come again, by what they answered.

    Attributes
    ----------
    p_value : float or None
        Whether those with low scores come again at another pace than those who kept silent
        (log-rank).
    """

    p_value: float | None = None

    def difference_p_value(self) -> float | None:
        """Return the p-value of low scores against no answer."""
        return self.p_value

    def sentence(self) -> str:
        """Say whether those who gave low scores stay away more than those who kept silent."""
        rows = {row["opinion"]: row for row in self.table.drop_nulls("estimate").to_dicts()}
        low, silent = rows.get("low_score"), rows.get("kept_silent")
        if low is None or silent is None or self.p_value is None:
            return _("{name}: nothing can be said in any group.", name=self.name)
        verdict = (
            _("they differ by more than chance ({p})", p=p_text(self.p_value))
            if self.p_value < 1 - self.conf_level
            else _("no difference between them is established (p = {p})",
                   p=number(self.p_value, 2))
        )  # fmt: skip
        return _(
            "{name}: {low} of those with low scores and {silent} of those who did not answer; "
            "{verdict}.",
            name=self.name, low=percent(low["estimate"]), silent=percent(silent["estimate"]),
            verdict=verdict,
        )  # fmt: skip

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_returned": "count"}


def silent_departure(
    surveys: object,
    *,
    score_col: str = "score",
    sent_col: str = "sent_at",
    answered_col: str = "answered_at",
    next_col: str = "returned_on",
    customer_col: str = "customer_id",
    scale: tuple[float, float],
    low_to: float,
    high_from: float,
    within_days: int = 30,
    horizon_days: int = 365,
    since: date | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> SilentDeparture:
    r"""Do customers with low scores stay away more than those who say nothing (Kaplan-Meier).

    Most of the dissatisfied do not complain; whether they leave shows only in that they do not
    come again. Time counts for all from the end of the window in which an answer was taken, so
    that having answered gives nobody a head start.

    Parameters
    ----------
    surveys : table
        One row per survey sent, on any backend; see `Warehouse.asked`.
    score_col, sent_col, answered_col : str
        As in `score_bounds`.
    next_col : str
        Day of the customer's first purchase or visit after that window (null: none yet).
    customer_col : str
        Who was asked: of several surveys the first one counts.
    scale : tuple of float
    low_to, high_from : float
        Scores up to, and from which, an answer is low and high.
    within_days : int
        Days after sending within which an answer is taken.
    horizon_days : int
        Days after that within which they may come again.
    since : date, optional
        First day of sending counted.
    as_of : date
        Last day the data covers; whoever has not come until then may still come.
    conf_level : float
    ci_method : {"log-log"}

    Returns
    -------
    SilentDeparture
        One row per opinion: ``opinion`` (``low_score``, ``middle_score``, ``high_score``,
        ``kept_silent``), ``n``, ``n_returned`` (until `as_of`), ``estimate`` (share who did not
        come within the horizon), ``std_error``, ``conf_low``, ``conf_high``. Null where nobody
        was observed so long.

    Raises
    ------
    InputError
        Cuts off the scale or overlapping; customers who came again before the window's end.
    ColumnError
        A column is missing or of another type.

    Notes
    -----
    A difference does not show that the score made them leave: both have causes in common.

    References
    ----------
    Anderson, Cain & Gelber (1983), J. Clinical Oncology 1:710-719 (the landmark); Mantel (1966).
    """
    check_one_of("ci_method", ci_method, ("log-log",))
    check_whole("within_days", within_days)
    check_whole("horizon_days", horizon_days)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_scale(scale)
    if not scale[0] <= low_to < high_from <= scale[1]:
        raise InputError(
            f"Low scores up to {low_to:g} and high ones from {high_from:g} were asked for on a "
            f"scale from {scale[0]:g} to {scale[1]:g}. Both must lie on it, low below high."
        )
    columns = (score_col, sent_col, answered_col, next_col, customer_col)
    counted = _count(surveys, columns, within_days, since, as_of)
    check_on_scale(counted, score_col, scale)
    score = pl.col("score")
    counted = counted.with_columns(
        opinion=pl.when(score.is_null()).then(pl.lit("kept_silent"))
        .when(score <= low_to).then(pl.lit("low_score"))
        .when(score >= high_from).then(pl.lit("high_score"))
        .otherwise(pl.lit("middle_score"))
    )  # fmt: skip
    curves = {name: _curve(counted.filter(pl.col("opinion") == name)) for name in KINDS}
    table = pl.concat(
        _row(counted.filter(pl.col("opinion") == name), name, curve, horizon_days, conf_level)
        for name, curve in curves.items()
    )
    return SilentDeparture(
        table=table, unit="share", by=("opinion",), conf_level=conf_level,
        name=_("Did not come again within {when}", when=duration_text(horizon_days, "day")),
        key="silent_departure", better="lower",
        definition=_(
            "Share of customers who made no purchase and no visit within {when} after the {days} "
            "days in which they could answer; low scores up to {low}, high from {high}; each "
            "customer's first survey. Data to {as_of}.",
            when=duration_text(horizon_days, "day"), days=number(within_days),
            low=score_text(low_to), high=score_text(high_from), as_of=date_text(as_of),
        ),
        notes=small_n_notes(table, ("opinion",), what=_("customers")) + _tests_note(curves),
        p_value=log_rank_p_value([curves["low_score"], curves["kept_silent"]]),
    )  # fmt: skip


def _count(
    surveys: object,
    columns: tuple[str, str, str, str, str],
    within_days: int,
    since: date | None,
    as_of: date,
) -> pl.DataFrame:
    """Count customers by ``score`` (null: none), ``days`` after the window, and ``came``."""
    score_col, sent_col, answered_col, next_col, customer_col = columns
    window, last = within_days * SECONDS_PER_DAY, to_day_number(as_of)
    asked = {
        "score": Asked(score_col, "number", "score_col", nullable=True),
        "sent": Asked(sent_col, "moment", "sent_col"),
        "answered": Asked(answered_col, "moment", "answered_col", nullable=True),
        "next": Asked(next_col, "date", "next_col", nullable=True),
        "customer": Asked(customer_col, "key", "customer_col", nullable=True),
    }
    frame = open_table(surveys, asked).filter(~nw.col("customer").is_null())
    if since is not None:
        first = to_day_number(check_since(since, as_of)) * SECONDS_PER_DAY
        frame = frame.filter(nw.col("sent") >= first)
    frame = frame.filter(nw.col("sent") == nw.col("sent").min().over("customer"))
    in_time = nw.col("answered") - nw.col("sent") <= window
    start = floor_divide(nw.col("sent"), SECONDS_PER_DAY) + within_days
    frame = frame.with_columns(
        nw.when(in_time).then(nw.col("score")).alias("score"),
        start.alias("start"),
        nw.when(nw.col("next") <= last).then(nw.lit(1)).otherwise(nw.lit(0)).alias("came"),
    ).filter(nw.col("start") <= last)
    end = nw.when(nw.col("came") == 1).then(nw.col("next")).otherwise(nw.lit(last))
    frame = frame.with_columns((end - nw.col("start")).alias("days"))
    counted = collect(
        frame.group_by("score", "days", "came").agg(nw.len().alias("n")),
        order=["score", "days", "came"],
    )
    early = int(counted.filter(pl.col("days") < 0)["n"].sum())
    if early:
        raise InputError(
            f"{early} customers came again before the {within_days} days in which they could "
            f"answer were over. {next_col!r} must be the first purchase or visit after that."
        )
    return counted


def _curve(part: pl.DataFrame) -> KaplanMeier:
    n = part["n"].to_numpy()
    days, came = (np.repeat(part[name].to_numpy(), n) for name in ("days", "came"))
    counts = count_durations(days.astype(np.int64), came.astype(np.int64))
    return kaplan_meier(counts.time, counts.n_entered, counts.n_exits.sum(axis=0),
                        counts.n_censored)  # fmt: skip


def _row(
    part: pl.DataFrame, name: str, curve: KaplanMeier, horizon: int, conf_level: float
) -> pl.DataFrame:
    n, nan = int(part["n"].sum()), float("nan")
    at = int(np.searchsorted(curve.time, horizon, side="right")) - 1
    values: tuple[Any, ...] = (nan, nan, nan, nan)
    if n and at >= 0 and (curve.time[-1] >= horizon or curve.survival[-1] == 0):
        still, error = float(curve.survival[at]), float(curve.std_error[at])
        low, high = log_log_interval(still, error, conf_level)
        values = (still, error, float(low), float(high))
    returned = int(part.filter(pl.col("came") == 1)["n"].sum())
    five = five_columns([n], *([value] for value in values))
    return pl.DataFrame(
        {"opinion": [name], "n": five["n"], "n_returned": [returned],
         **{key: five[key] for key in ("estimate", "std_error", "conf_low", "conf_high")}}
    )  # fmt: skip


def _tests_note(curves: dict[str, KaplanMeier]) -> tuple[str, ...]:
    """Say how each opinion stands to silence, allowing for three comparisons."""
    others = [name for name in KINDS if name != "kept_silent"]
    raw = [log_rank_p_value([curves[name], curves["kept_silent"]]) for name in others]
    adjusted = holm([np.nan if p is None else p for p in raw])
    parts = [
        f"{word_of(name)} {p_text(float(p))}"
        for name, p in zip(others, adjusted, strict=True)
        if np.isfinite(p)
    ]
    if not parts:
        return ()
    return (
        _("Against those who did not answer (log-rank, Holm over {k}): {tests}.",
          k=number(len(parts)), tests="; ".join(parts)),
        _("A difference does not show that the score made them leave."),
    )  # fmt: skip
