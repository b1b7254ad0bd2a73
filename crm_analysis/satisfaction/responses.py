"""Who answers at all: surveys sent against surveys answered in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError
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
from crm_analysis.satisfaction.answers import (
    OWN,
    check_since,
    population_error,
    score_text,
    share_bounds,
    summary_of,
)
from crm_analysis.satisfaction.results import ScoreEstimates, estimated
from crm_analysis.wording import _, date_text, plural

__all__ = ["response_rate"]


def response_rate(
    surveys: object,
    *,
    sent_col: str = "sent_at",
    answered_col: str = "answered_at",
    within_days: float = 30,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> ScoreEstimates:
    """What share of the surveys sent was answered in time (Wilson).

    Parameters
    ----------
    surveys : table
        One row per survey sent, on any backend.
    sent_col, answered_col : str
        Columns of the moment (or day) of sending and of the answer; null: not answered.
    within_days : float
        An answer counts up to this many days after sending, inclusive. Only surveys sent so
        long before the end of `as_of` are counted: of later ones too little is known yet.
    since : date, optional
        First day of sending counted; without it surveys count from the beginning.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        Group columns.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    ScoreEstimates
        Columns of `by`, ``n`` (surveys old enough), ``n_in_time``, ``estimate`` (share, 0 to
        1), ``std_error``, ``conf_low``, ``conf_high``; with groups also ``shrunk``,
        ``shrunk_low``, ``shrunk_high``.

    Raises
    ------
    InputError
        Surveys answered before they were sent; `within_days` that is not positive.
    ColumnError
        A column is missing or of another type; a survey without the moment it was sent.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> sent = [date(2026, 5, day) for day in (1, 2, 3, 31)]
    >>> answered = [date(2026, 5, 9), date(2026, 6, 20), None, None]
    >>> surveys = pl.DataFrame({"sent_at": sent, "answered_at": answered})
    >>> response_rate(surveys, as_of=date(2026, 6, 20)).table.select("n", "n_in_time").row(0)
    (3, 1)
    """
    check_one_of("ci_method", ci_method, ("wilson",))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    groups = group_names(by, taken=OWN)
    first = None if since is None else check_since(since, as_of)
    if not 0 < within_days < float("inf"):
        raise InputError(
            f"'within_days' must be a positive number of days; got {within_days!r}. "
            "Pass, for example, within_days=30."
        )
    counted = _count_responses(surveys, sent_col, answered_col, within_days, first, as_of, groups)
    _check_after_sending(counted, sent_col, answered_col)
    mature = counted.filter(pl.col("mature") == 1).select(
        *groups, "n", score=pl.col("in_time").fill_null(0).cast(pl.Float64)
    )
    summary = summary_of(mature, groups, pl.col("score"), n_in_time=pl.col("score") == 1)
    return estimated(
        summary, population_error(summary), share_bounds(summary, "n_in_time", conf_level),
        groups=groups, classes=("n_in_time",), share="n_in_time", ranked=False,
        limits=(0.0, 1.0), name=_("Response rate"), unit="share",
        conf_level=conf_level, what=_("surveys"),
        definition=_response_definition(within_days, first, as_of),
        notes=_response_notes(counted), key=f"response_rate_within_{within_days:g}_days",
    )  # fmt: skip


def _response_definition(within_days: float, since: date | None, as_of: date) -> str:
    text = _(
        "Share of surveys answered within {days} days of being sent, of those sent at least so "
        "long before the end of {as_of}.",
        days=score_text(within_days),
        as_of=date_text(as_of),
    )
    if since is None:
        return text
    return text + " " + _("Sent on {since} or later.", since=date_text(since))


def _count_responses(
    surveys: object,
    sent_col: str,
    answered_col: str,
    within_days: float,
    since: date | None,
    as_of: date,
    by: Sequence[str],
) -> pl.DataFrame:
    """Count surveys by group, by ``mature``, ``in_time`` (null: no answer) and ``backward``."""
    window = round(within_days * SECONDS_PER_DAY)
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    asked = {
        "sent": Asked(sent_col, "moment", "sent_col"),
        "answered": Asked(answered_col, "moment", "answered_col", nullable=True),
    }
    frame = open_table(surveys, asked, by=by).filter(nw.col("sent") < end)
    if since is not None:
        frame = frame.filter(nw.col("sent") >= to_day_number(since) * SECONDS_PER_DAY)
    frame = frame.with_columns(
        (nw.col("answered") - nw.col("sent")).alias("wait"),
        (nw.col("sent") + window < end).cast(nw.Int64).alias("mature"),
    ).with_columns(
        (nw.col("wait") <= window).cast(nw.Int64).alias("in_time"),
        (nw.col("wait") < 0).cast(nw.Int64).alias("backward"),
    )
    own = ("mature", "in_time", "backward")
    counted = frame.group_by(*keys_of(by), *own).agg(nw.len().alias("n"))
    return collect(counted, by=by, order=own)


def _check_after_sending(counted: pl.DataFrame, sent_col: str, answered_col: str) -> None:
    backward = counted.filter(pl.col("backward") == 1)["n"].sum()
    if backward:
        raise InputError(
            f"A survey is answered after it was sent; {backward} of {counted['n'].sum()} have "
            f"{answered_col!r} before {sent_col!r}. Correct or leave out those rows."
        )


def _response_notes(counted: pl.DataFrame) -> tuple[str, ...]:
    young = int(counted.filter(pl.col("mature") == 0)["n"].sum())
    late = int(counted.filter((pl.col("mature") == 1) & (pl.col("in_time") == 0))["n"].sum())
    notes: tuple[str, ...] = ()
    if young:
        notes += (plural(young, "{n} survey was sent too recently to count.",
                         "{n} surveys were sent too recently to count."),)  # fmt: skip
    if late:
        notes += (plural(late, "{n} answer came later and counts as none.",
                         "{n} answers came later and count as none."),)  # fmt: skip
    return notes
