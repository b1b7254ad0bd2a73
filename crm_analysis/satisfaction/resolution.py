"""How long complaints and requests take to be resolved, and whether they come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import MINUTES_PER_DAY, SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, share_columns, small_n_notes
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
from crm_analysis.survival import (
    KaplanMeier,
    count_durations,
    kaplan_meier,
    log_rank_p_value,
    quantile,
)
from crm_analysis.uncertainty import log_log_interval, wilson_interval
from crm_analysis.wording import (
    Unit,
    _,
    amount,
    counted_from,
    date_text,
    number,
    plural,
    word_of,
)

__all__ = ["CaseResolution", "complaint_resolution", "repeated_cases"]

_MINUTE = 60
_MEDIAN = ("median_days", "median_low", "median_high")
_TAKEN = (
    "n_unresolved",
    "n_past_due",
    *_MEDIAN,
    "opened",
    "resolved",
    "due",
    "minutes",
    "done",
    "late",
)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CaseResolution(Estimates):
    """Share of cases resolved in time, and the median time it takes.

    Attributes
    ----------
    within_days : float
    p_value : float or None
        Whether groups differ in how fast cases are resolved (log-rank).
    """

    within_days: float
    p_value: float | None = None

    def sentence(self) -> str:
        """Say what share is resolved in time, after how long half are, and how many wait."""
        known = self.table.drop_nulls("estimate")
        if self.by or known.height != 1:
            return super().sentence()
        row = known.row(0, named=True)
        text = f"{self.name}: {self.value_text(row)}"
        if row["median_days"] is not None:
            text += "; " + _("half are resolved after {days} days",
                             days=amount(row["median_days"], "days"))  # fmt: skip
        if row["n_past_due"]:
            text += "; " + plural(row["n_past_due"], "{n} is open past its day",
                                  "{n} are open past their day")  # fmt: skip
        return text + "."

    def difference_p_value(self) -> float | None:
        """Return the p-value of the log-rank test between groups."""
        return self.p_value

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        own: dict[str, Unit] = dict.fromkeys(("n_unresolved", "n_past_due"), "count")
        own |= dict.fromkeys(_MEDIAN, "days")
        return super().units() | own


def complaint_resolution(
    cases: object,
    *,
    opened_col: str = "opened_at",
    resolved_col: str = "resolved_at",
    due_col: str | None = "due_at",
    kind_col: str = "kind",
    kind: str | None = None,
    within_days: float = 7,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> CaseResolution:
    r"""How many complaints are resolved in time, and how long does it take (Kaplan-Meier).

    A case still open has been open at least until the end of `as_of`: it is censored there.
    Leaving open cases out would make slow work look quick.

    Parameters
    ----------
    cases : table
        One row per complaint, request or question, on any backend.
    opened_col, resolved_col : str
        When it came, and when it was resolved (null: it is open).
    due_col : str or None
        By when it had to be resolved; open cases past it are counted. None where nobody says.
    kind, kind_col : str
        Only cases of this kind, such as ``"complaint"``, and where a case says its own.
    within_days : float
        Days, nights included, within which a case should be resolved.
    since : date, optional
        First day of coming that is counted.
    as_of : date
        Last day the data covers; what is resolved later is open.
    by : str or sequence of str
    conf_level : float
    ci_method : {"log-log"}

    Returns
    -------
    CaseResolution
        Columns of `by`, ``n`` (cases), ``n_unresolved``, ``n_past_due`` (open and past their
        day; null without `due_col`), ``estimate`` (share resolved within the time), ``std_error``
        (Greenwood), ``conf_low``, ``conf_high`` (where none or all are resolved by then: Wilson
        at those still observed), ``median_days`` with ``median_low``, ``median_high`` (null where
        half are not resolved yet).

    Raises
    ------
    InputError
        A time that is not positive; cases resolved before they came.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Kaplan & Meier (1958), JASA 53:457-481; Brookmeyer & Crowley (1982), Biometrics 38:29-41.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import datetime
    >>> cases = pl.DataFrame({
    ...     "opened_at": [datetime(2026, 6, 1)] * 4,
    ...     "resolved_at": [datetime(2026, 6, day) for day in (2, 4, 20)] + [None],
    ... })
    >>> found = complaint_resolution(cases, due_col=None, as_of=date(2026, 6, 30))
    >>> found.table.select("n", "n_unresolved", "estimate", "median_days").row(0)
    (4, 1, 0.5, 3.0)
    """
    check_one_of("ci_method", ci_method, ("log-log",))
    names = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    _check_days(within_days)
    only = None if kind is None else (kind_col, kind)
    waits = _waits(cases, opened_col, resolved_col, due_col, since, as_of, names, only)
    parts = waits.partition_by(names, maintain_order=True) if names and waits.height else [waits]
    curves = [_curve(part) for part in parts]
    minutes = round(within_days * MINUTES_PER_DAY)
    table = pl.concat(
        part.select(names).head(1).with_columns(**row)
        if names and part.height
        else pl.DataFrame(row)
        for part, row in (
            (part, _row(part, curve, minutes, conf_level))
            for part, curve in zip(parts, curves, strict=True)
        )
    )
    if names and not waits.height:
        table = waits.select(names).hstack(table.head(0))
    overdue = pl.col("n_past_due") if due_col else pl.lit(None, pl.Int64).alias("n_past_due")
    table = table.with_columns(overdue)
    return CaseResolution(
        table=table, name=_resolved_name(kind, number(within_days, 0)),
        unit="share", by=names, conf_level=conf_level,
        key=f"{kind + '_' if kind else ''}resolved_within_{within_days:g}_days",
        better="higher", within_days=within_days,
        p_value=log_rank_p_value(curves) if names and len(curves) > 1 else None,
        definition=_(
            "Share of the cases that came up to {as_of} that are resolved within {days} days; a "
            "case still open counts with the time it has been open (Kaplan-Meier).",
            as_of=date_text(as_of), days=number(within_days, 0),
        ) + counted_from(since),
        notes=small_n_notes(table, names, what=_("cases")) + _open_note(table),
    )  # fmt: skip


def _resolved_name(kind: str | None, days: str) -> str:
    if kind == "complaint":
        return _("Complaints resolved within {days} days", days=days)
    name = _("Resolved within {days} days", days=days)
    return name if kind is None else f"{name}: {word_of(kind)}"


def _check_days(within_days: float) -> None:
    if not 0 < within_days < float("inf"):
        raise InputError(
            f"'within_days' must be a positive number of days; got {within_days!r}. Pass, say, 7."
        )


def _waits(
    cases: object,
    opened_col: str,
    resolved_col: str,
    due_col: str | None,
    since: date | None,
    as_of: date,
    by: tuple[str, ...],
    only: tuple[str, str] | None,
) -> pl.DataFrame:
    """Count cases by how many ``minutes`` they were open, ``done`` or not, ``late`` or not."""
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    asked = {
        "opened": Asked(opened_col, "moment", "opened_col"),
        "resolved": Asked(resolved_col, "moment", "resolved_col", nullable=True),
    }
    if due_col is not None:
        asked["due"] = Asked(due_col, "moment", "due_col", nullable=True)
    if only is not None:
        asked["kind"] = Asked(only[0], "text", "kind_col", nullable=True)
    frame = open_table(cases, asked, by=by).filter(nw.col("opened") < end)
    if only is not None:
        frame = frame.filter(nw.col("kind") == only[1])
    if since is not None:
        frame = frame.filter(
            nw.col("opened") >= to_day_number(check_since(since, as_of)) * SECONDS_PER_DAY
        )
    done = nw.when(nw.col("resolved") < end).then(nw.lit(1)).otherwise(nw.lit(0))
    frame = frame.with_columns(done.alias("done"))
    ended = nw.when(nw.col("done") == 1).then(nw.col("resolved")).otherwise(nw.lit(end))
    frame = frame.with_columns((ended - nw.col("opened")).alias("seconds"))
    late = nw.lit(0)
    if due_col is not None:
        past = (nw.col("done") == 0) & (nw.col("due") < end)
        late = nw.when(past).then(nw.lit(1)).otherwise(nw.lit(0))
    frame = frame.with_columns(late.alias("late"))
    keys = [*keys_of(by), "seconds", "done", "late"]
    counted = collect(frame.group_by(*keys).agg(nw.len().alias("n")), by=by,
                      order=["seconds", "done", "late"])  # fmt: skip
    backward = int(counted.filter(pl.col("seconds") < 0)["n"].sum())
    if backward:
        raise InputError(
            f"A case is resolved after it came; {backward} of {counted['n'].sum()} have "
            f"{resolved_col!r} before {opened_col!r}. Correct or leave out those rows."
        )
    return counted.with_columns(minutes=pl.col("seconds") // _MINUTE)


def _curve(part: pl.DataFrame) -> KaplanMeier:
    each = part.select("minutes", "done", "n").to_numpy().astype(np.int64).reshape(-1, 3)
    counts = count_durations(np.repeat(each[:, 0], each[:, 2]), np.repeat(each[:, 1], each[:, 2]))
    return kaplan_meier(counts.time, counts.n_entered, counts.n_exits.sum(axis=0),
                        counts.n_censored)  # fmt: skip


def _row(
    part: pl.DataFrame, curve: KaplanMeier, minutes: int, conf_level: float
) -> dict[str, pl.Series]:
    n = int(part["n"].sum())
    still, error, low, high = _share_open(curve, minutes, conf_level)
    five = five_columns([n], [1 - still], [error], [1 - high], [1 - low])
    half = np.array(quantile(curve, 0.5, conf_level)) / MINUTES_PER_DAY
    n_unresolved = int(part.filter(pl.col("done") == 0)["n"].sum())
    n_past_due = int(part.filter(pl.col("late") == 1)["n"].sum())
    return {
        "n": five["n"],
        "n_unresolved": pl.Series([n_unresolved]),
        "n_past_due": pl.Series([n_past_due]),
        **{name: five[name] for name in ("estimate", "std_error", "conf_low", "conf_high")},
        **{name: pl.Series([float(value)]).fill_nan(None)
           for name, value in zip(_MEDIAN, half, strict=True)},
    }  # fmt: skip


def _share_open(
    curve: KaplanMeier, minutes: int, conf_level: float
) -> tuple[float, float, float, float]:
    """Return the share still open after so long, with error and interval; ``nan`` if unknown."""
    nan = float("nan")
    at = int(np.searchsorted(curve.time, minutes, side="right")) - 1
    if at < 0 or not curve.n_at_risk[0]:
        return nan, nan, nan, nan
    still, error = float(curve.survival[at]), float(curve.std_error[at])
    if curve.time[-1] < minutes and still > 0:
        return nan, nan, nan, nan  # nobody was observed for so long
    if still in (0.0, 1.0):
        # Greenwood's error is nothing there; those observed at the last step bound it.
        reached = int(curve.n_at_risk[0] if still == 0.0 else curve.n_at_risk[at])
        bound = wilson_interval(still * reached, reached, conf_level)
        return still, 0.0, float(bound[0]), float(bound[1])
    low, high = log_log_interval(still, error, conf_level)
    return still, error, float(low), float(high)


def _open_note(table: pl.DataFrame) -> tuple[str, ...]:
    unknown = table.filter(pl.col("median_days").is_null() & (pl.col("n") > 0))
    if unknown.is_empty():
        return ()
    return (_("Where fewer than half are resolved, the median is not known."),)


# Do they come back? ------------------------------------------------------------------------------


def repeated_cases(
    cases: object,
    *,
    customer_col: str = "customer_id",
    topic_col: str = "about",
    opened_col: str = "opened_at",
    resolved_col: str = "resolved_at",
    within_days: int = 30,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Estimates:
    """How often does a customer come back with the same matter after it was resolved (Wilson).

    A CRM that knows no reopening still knows this: another case of the same customer about the
    same topic, opened after the first and at most so many days after that was resolved.

    Parameters
    ----------
    cases, opened_col, resolved_col, since, conf_level
        As in `complaint_resolution`.
    customer_col, topic_col : str
        Who came (a null customer cannot be followed and is left out), and with what.
    within_days : int
        Only cases resolved so long before the end of `as_of` count.
    as_of : date
    by : str or sequence of str
        Groups of the first of the two cases.
    ci_method : {"wilson"}

    Returns
    -------
    Estimates
        Columns of `by`, ``n`` (resolved cases), ``n_back`` (that came back), ``estimate``
        (share), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError, ColumnError
        As in `complaint_resolution`.

    Examples
    --------
    >>> import polars as pl
    >>> cases = pl.DataFrame({
    ...     "customer_id": [1, 1, 2], "about": "price",
    ...     "opened_at": [date(2026, 5, 1), date(2026, 5, 9), date(2026, 5, 1)],
    ...     "resolved_at": [date(2026, 5, 2), None, date(2026, 5, 2)],
    ... })
    >>> repeated_cases(cases, as_of=date(2026, 6, 30)).table.select("n", "n_back").row(0)
    (2, 1)
    """
    check_one_of("ci_method", ci_method, ("wilson",))
    names = group_names(by, taken=(*_TAKEN, "n_back"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    _check_days(within_days)
    counted = _count_repeats(
        cases, (customer_col, topic_col, opened_col, resolved_col), within_days, since, as_of, names
    )
    five = share_columns(counted["k"], counted["total"], conf_level)
    table = counted.select(*names, n_back="k").with_columns(**five)
    table = table.select(*names, "n", "n_back", "estimate", "std_error", "conf_low", "conf_high")
    return Estimates(
        table=table, name=_("Came back within {days} days", days=number(within_days)),
        unit="share", by=names, conf_level=conf_level,
        key=f"came_back_within_{within_days}_days", better="lower",
        definition=_(
            "Share of the cases resolved at least {days} days before the end of {as_of} after "
            "which the same customer came with the same matter within {days} days.",
            days=number(within_days), as_of=date_text(as_of),
        ) + counted_from(since),
        notes=small_n_notes(table, names, what=_("cases")),
    )  # fmt: skip


def _count_repeats(
    cases: object,
    columns: tuple[str, str, str, str],
    within_days: float,
    since: date | None,
    as_of: date,
    by: tuple[str, ...],
) -> pl.DataFrame:
    customer, topic, opened, resolved = columns
    window = round(within_days * SECONDS_PER_DAY)
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    asked = {
        "customer": Asked(customer, "key", "customer_col", nullable=True),
        "topic": Asked(topic, "text", "topic_col", nullable=True),
        "opened": Asked(opened, "moment", "opened_col"),
        "resolved": Asked(resolved, "moment", "resolved_col", nullable=True),
    }
    frame = open_table(cases, asked, by=by).filter(
        (nw.col("opened") < end) & ~nw.col("customer").is_null()
    )
    later = nw.col("opened").shift(-1).over("customer", "topic", order_by="opened")
    frame = frame.with_columns(later.alias("next")).filter(nw.col("resolved") + window < end)
    if since is not None:
        first = to_day_number(check_since(since, as_of)) * SECONDS_PER_DAY
        frame = frame.filter(nw.col("opened") >= first)
    back = nw.when(nw.col("next") - nw.col("resolved") <= window).then(nw.lit(1))
    frame = frame.with_columns(back.otherwise(nw.lit(0)).alias("k"))
    sums: list[Any] = [nw.col("k").sum(), nw.len().alias("total")]
    if by:
        return collect(frame.group_by(*keys_of(by)).agg(*sums), by=by)
    return collect(frame.select(*sums)).with_columns(pl.col("k").fill_null(0))
