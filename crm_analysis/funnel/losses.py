"""Why leads are lost, and at which stage: winning and every reason compete for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import MINUTES_PER_DAY, SECONDS_PER_DAY, floor_divide
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    labelled_groups,
    share_columns,
    small_n_notes,
)
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    check_whole,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.funnel.lead_events import (
    Columns,
    check_ends,
    check_steps,
    last_second,
    open_events,
    stage_notes,
)
from crm_analysis.funnel.stays import StayCounts, count_stays, from_zero
from crm_analysis.survival import CumulativeIncidence, aalen_johansen, all_at_start
from crm_analysis.uncertainty import log_log_interval, wilson_interval
from crm_analysis.wording import Unit, _, date_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["Losses", "loss_reasons", "loss_stage"]

_OPEN, _WON, _LOST = range(3)
_SHARE = ("loss_share", "loss_share_low", "loss_share_high")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Losses(Estimates):
    """Shares lost for each reason, or at each stage, by so many days; see the metrics.

    Attributes
    ----------
    what : str
        The column of reasons or stages.
    within_days : int
    """

    what: str
    within_days: int

    columns_with_unit: ClassVar[tuple[str, ...]] = (*Estimates.columns_with_unit, *_SHARE)

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        return super().units() | dict.fromkeys(("n_won", "n_lost", "n_open", "n_moved_on"), "count")

    def lost(self) -> pl.DataFrame:
        """Return the rows of losses, without that of the won."""
        return self.table.filter(pl.col("loss_share").is_not_null())

    def sentence(self) -> str:
        """Return what most leads are lost by, of all leads and of those lost."""
        rows = self.lost().drop_nulls("estimate").sort("n_lost", descending=True)
        if rows.is_empty():
            return _("{name}: nothing can be said.", name=self.name)
        if len(self.by) > 1:
            return self._groups_text(rows)
        first = rows.row(0, named=True)
        said = _(
            "{name}: most often {reason}, {value}; that is {share} of the losses",
            name=self.name, reason=word_of(first[self.what]), value=self.value_text(first),
            share=percent(first["loss_share"]),
        )  # fmt: skip
        if rows.height == 1:
            return said + "."
        other = rows.row(1, named=True)
        reason = word_of(other[self.what])
        if first["loss_share_low"] > other["loss_share_high"]:
            return said + "; " + _("next is {reason}.", reason=reason)
        return said + "; " + _("not clearly more than {reason}.", reason=reason)

    def _groups_text(self, rows: pl.DataFrame) -> str:
        whole = rows.group_by(self.what).agg(pl.col("n_lost").sum()).sort("n_lost", self.what)
        most = whole[self.what][-1]
        part = rows.filter(pl.col(self.what).eq_missing(pl.lit(most)))
        groups = tuple(name for name in self.by if name != self.what)
        return Estimates(
            table=part, name=f"{self.name}, {word_of(most)}", unit="share",
            definition=self.definition, by=groups, conf_level=self.conf_level,
        ).sentence()  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares lost with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        rows = self.table.drop_nulls("n_lost")
        figures.points(labelled_groups(rows, self.by), label="label", ax=ax)
        figures.write_units(ax, self.unit, axis="x")
        ax.set_xlim(left=0)
        ax.set_title(self.name)
        return ax


# Reasons ----------------------------------------------------------------------------------


def loss_reasons(
    leads: object,
    *,
    opened_col: str = "opened_at",
    won_col: str = "won_at",
    closed_col: str = "closed_at",
    reason_col: str = "lost_reason",
    within_days: int = 90,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> Losses:
    """Of which reasons are leads lost, and how many are won instead (Aalen-Johansen).

    A lead that was won has not been lost, whatever became of its contract later; one that was
    closed without having been won was lost, for its reason or an unknown one; the others are
    still open and count as watched until `as_of`.

    Parameters
    ----------
    leads : table
        One row per lead, on any backend; those opened after `as_of` are not looked at.
    opened_col, won_col, closed_col : str
        Columns of the moments of opening, winning and closing; null where it has not come.
    reason_col : str
        Column of the reason; null is an unknown one.
    within_days : int
        Whole days after the opening at which the shares are read.
    since : date, optional
        First day of opening; leads opened before it are left out.
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"log-log"}
        Greenwood-type variance on the log(-log) scale; where nobody was lost for a reason, 0 to
        Wilson's upper bound for those still watched.

    Returns
    -------
    Losses
        One row per group and ``outcome`` ("won" and each reason, null the unknown one): ``n``
        (leads opened), ``estimate`` (share of all leads that have gone so within the days),
        ``std_error``, ``conf_low``, ``conf_high``, ``n_won`` or ``n_lost`` (up to `as_of`,
        however long it took), and of the lost with a known reason ``loss_share``,
        ``loss_share_low`` and ``loss_share_high`` (Wilson). Null where no lead was
        watched for so long.

    Raises
    ------
    InputError
        `within_days` that is no whole number above 0, an `as_of` that is no date.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    References
    ----------
    Aalen & Johansen (1978), Scand. J. Statistics 5:141-150.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> leads = pl.DataFrame({
    ...     "opened_at": [date(2026, 1, 1)] * 4,
    ...     "won_at": [date(2026, 1, 11), None, None, None],
    ...     "closed_at": [None, date(2026, 1, 5), date(2026, 1, 9), None],
    ...     "lost_reason": [None, "price", "price", None],
    ... })
    >>> lost = loss_reasons(leads, within_days=30, as_of=date(2026, 3, 1))
    >>> lost.table.select("outcome", "n", "estimate", "loss_share").rows()
    [('won', 4, 0.25, None), ('price', 4, 0.5, 1.0)]
    """
    within_days = check_whole("within_days", within_days)
    check_one_of("ci_method", ci_method, ("log-log",))
    as_of, by = check_as_of(as_of), group_names(by, taken=("outcome", "n_won", "n_lost", *_SHARE))
    conf_level = check_conf_level(conf_level)
    asked = {
        "opened": Asked(opened_col, "moment", "opened_col"),
        "won": Asked(won_col, "moment", "won_col", nullable=True),
        "closed": Asked(closed_col, "moment", "closed_col", nullable=True),
        "reason": Asked(reason_col, "key", "reason_col", nullable=True),
    }
    frame = open_table(leads, asked, by=by)
    if since is not None:
        first = last_second(check_since(since, as_of) - timedelta(1))
        frame = frame.filter(nw.col("opened") > first)
    counted = _count_ends(frame, as_of, by)
    table = _reason_table(counted, by, within_days, conf_level)
    return Losses(
        table=table,
        name=_("Leads lost within {n} days", n=number(within_days)),
        unit="share",
        definition=_(
            "Share of leads opened{since} that were won, or lost for each reason, within {n} days "
            "of their opening (Aalen-Johansen: the ends compete, and leads open on {day} count as "
            "watched until then). Beside it, the share of each reason among the lost whose reason "
            "is known, with Wilson's interval.",
            n=number(within_days),
            day=date_text(as_of),
            since="" if since is None else " " + _("since {day}", day=date_text(since)),
        ),
        by=(*by, "outcome"),
        conf_level=conf_level,
        notes=_reason_notes(table, counted, by),
        what="outcome",
        within_days=within_days,
    )  # fmt: skip


def _count_ends(frame: nw.LazyFrame[Any], as_of: date, by: Sequence[str]) -> pl.DataFrame:
    """Count leads by how they ended, why, and after how many whole days."""
    end = last_second(as_of)
    opened, won, closed = nw.col("opened"), nw.col("won"), nw.col("closed")
    frame = frame.filter(opened <= end).with_columns(
        won.fill_null(end + 1).alias("won"),
        # A contract that came first is not undone by what closed the lead afterwards.
        nw.when(won.is_null()).then(closed).otherwise(nw.lit(None, nw.Int64)).alias("closed"),
    )
    frame = frame.with_columns(closed.fill_null(end + 1))
    ended = nw.when(won <= end).then(won).otherwise(closed)
    frame = frame.with_columns(
        nw.when(won <= end).then(nw.lit(_WON)).otherwise(
            nw.when(closed <= end).then(nw.lit(_LOST)).otherwise(nw.lit(_OPEN))
        ).alias("end"),
        nw.when(ended <= end).then(ended).otherwise(nw.lit(end)).alias("until"),
    )  # fmt: skip
    frame = frame.with_columns(
        floor_divide(nw.col("until") - opened, SECONDS_PER_DAY).alias("days"),
        nw.when(nw.col("end") == _LOST)
        .then(nw.col("reason").cast(nw.String))
        .otherwise(nw.lit(None, nw.String))
        .alias("reason"),
    )
    keys = [*keys_of(by), "end", "reason", "days"]
    counted = collect(
        frame.group_by(*keys).agg(nw.len().alias("n_units")), by=by, order=["end", "reason", "days"]
    )
    before = counted.filter(pl.col("days") < 0)["n_units"].sum()
    if before:
        raise InputError(
            f"{before} leads were won or closed before they were opened. Correct or leave out "
            "those rows: `data_defects` finds them."
        )
    return counted


def _reason_table(
    counted: pl.DataFrame, by: tuple[str, ...], within_days: int, conf_level: float
) -> pl.DataFrame:
    lost = counted.filter(pl.col("end") == _LOST)
    totals = lost.group_by("reason").agg(pl.col("n_units").sum())
    reasons = totals.sort("n_units", "reason", descending=[True, False])["reason"].to_list()
    parts = []
    groups = counted.partition_by(list(by), maintain_order=True) if by else [counted]
    for part in groups if counted.height else []:
        own = _reason_rows(part, reasons, within_days, conf_level)
        values = part.row(0, named=True)
        group = [pl.lit(values[name], part.schema[name]).alias(name) for name in by]
        parts.append(own.select(*group, pl.all()))
    return pl.concat(parts) if parts else _no_rows(counted, by)


def _no_rows(counted: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    empty = counted.with_columns(reason=pl.lit(None, pl.String))
    return empty.select(*by, pl.col("reason").alias("outcome")).hstack(
        _reason_rows(
            pl.DataFrame({"end": [0], "reason": [None], "days": [0], "n_units": [0]}), [], 1, 0.95
        ).drop("outcome").clear()
    )  # fmt: skip


def _reason_rows(
    part: pl.DataFrame, reasons: list[str | None], within_days: int, conf_level: float
) -> pl.DataFrame:
    time = np.unique(np.append(part["days"].to_numpy(), 0))
    place = np.searchsorted(time, part["days"].to_numpy())
    n, kind = part["n_units"].to_numpy(), part["end"].to_numpy()
    why = part["reason"].to_list()
    cause = [0 if k == _WON else 1 + reasons.index(r) for k, r in zip(kind, why, strict=True)
             if k != _OPEN]  # fmt: skip
    exits = np.zeros((1 + len(reasons), len(time)), np.int64)
    np.add.at(exits, (np.array(cause, np.int64), place[kind != _OPEN]), n[kind != _OPEN])
    censored = np.zeros(len(time), np.int64)
    np.add.at(censored, place[kind == _OPEN], n[kind == _OPEN])
    entered = all_at_start(len(time), n.sum())
    found = aalen_johansen(time, entered, exits, censored)
    share, error, low, high = _read(found, within_days, conf_level)
    ended = exits.sum(axis=1)
    known = np.array([reason is not None for reason in reasons])
    n_known = int(ended[1:][known].sum()) if reasons else 0
    of_known = share_columns(ended[1:] * known, np.where(known, n_known, 0), conf_level)
    empty = pl.Series([None], dtype=pl.Float64)
    return pl.DataFrame(
        {
            "outcome": pl.Series(["won", *reasons], dtype=pl.String),
            **five_columns(np.full(len(share), n.sum()), share, error, low, high),
            "n_won": pl.Series([ended[0], *[None] * len(reasons)], dtype=pl.Int64),
            "n_lost": pl.Series([None, *ended[1:]], dtype=pl.Int64),
            "loss_share": pl.concat([empty, of_known["estimate"]]),
            "loss_share_low": pl.concat([empty, of_known["conf_low"]]),
            "loss_share_high": pl.concat([empty, of_known["conf_high"]]),
        }
    )


def _read(
    found: CumulativeIncidence, at: float, conf_level: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return each cause's incidence after so long, with bounds; nan where nobody was watched."""
    time = found.curve.time
    last = int(np.searchsorted(time, at, side="right")) - 1
    share, error = found.incidence[:, last].copy(), found.std_error[:, last].copy()
    low, high = log_log_interval(share, error, conf_level)
    watched = float(found.curve.n_at_risk[last])
    none = wilson_interval(np.zeros(1), np.array([max(watched, 1.0)]), conf_level)[1]
    low, high = np.where(share == 0, 0.0, low), np.where(share == 0, none, high)
    # With everybody gone the shares stand; with some still open nobody knows what is to come.
    if time[-1] < at and found.curve.survival[-1] > 0:
        return (np.full(len(share), np.nan),) * 4
    return share, error, low, high


def _reason_notes(
    table: pl.DataFrame, counted: pl.DataFrame, by: tuple[str, ...]
) -> tuple[str, ...]:
    lost = counted.filter(pl.col("end") == _LOST)
    n_lost, n_null = int(lost["n_units"].sum()), int(
        lost.filter(pl.col("reason").is_null())["n_units"].sum()
    )  # fmt: skip
    notes: tuple[str, ...] = ()
    if n_null:
        notes += (
            _("Of {n} lost leads {k} have no reason ({share}): they are a row of their own and "
              "in no share of reasons.", n=number(n_lost), k=number(n_null),
              share=percent(n_null / n_lost)),
        )  # fmt: skip
    if table["estimate"].null_count():
        notes += (_("No lead was watched for so many days: the shares are not known."),)
    sizes = table.group_by(by, maintain_order=True).agg(pl.col("n").first()) if by else table[:1]
    if table.is_empty():
        return (_("There are no leads: nothing can be said."),)
    return (*notes, *small_n_notes(sizes, by, what=_("leads")))


# Stages -----------------------------------------------------------------------------------


def loss_stage(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    stages: Sequence[str],
    end_stages: Sequence[str] = ("lost",),
    within_days: int = 90,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> Losses:
    """What share of the leads that come to a stage is lost there (Aalen-Johansen).

    A lead is lost at the last of the listed stages that it came to. Moving on and being lost
    compete; leads still there are censored at the end of `as_of`.

    Parameters
    ----------
    events, unit_col, stage_col, at_col, stages, end_stages, as_of, by, conf_level
        As for `time_in_stage`. What is lost after the last stage is not counted.
    within_days : int
        Days after coming to the stage at which the shares are read.
    ci_method : {"log-log"}
        As for `loss_reasons`.

    Returns
    -------
    Losses
        One row per group and stage but the last: ``stage``, ``n`` (leads that came to it),
        ``estimate`` (share of them lost there within the days), ``std_error``, ``conf_low``,
        ``conf_high``, ``n_moved_on``, ``n_lost``, ``n_open`` (up to `as_of`), and ``loss_share``
        (of all losses of the group), with ``loss_share_low`` and ``loss_share_high`` (Wilson).

    Raises
    ------
    InputError, ColumnError
        As for `time_in_stage`.

    References
    ----------
    Aalen & Johansen (1978), Scand. J. Statistics 5:141-150.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> events = pl.DataFrame({
    ...     "opportunity_id": [1, 1, 2, 2, 3, 3, 3],
    ...     "stage": ["contact", "visit", "contact", "lost", "contact", "visit", "lost"],
    ...     "happened_at": [date(2026, 1, day) for day in (1, 3, 1, 6, 1, 2, 9)],
    ... })
    >>> lost = loss_stage(events, stages=["contact", "visit", "sale"], within_days=30,
    ...                   as_of=date(2026, 3, 1))
    >>> lost.table.select("stage", "n", "n_lost", "loss_share").rows()
    [('contact', 3, 1, 0.5), ('visit', 2, 1, 0.5)]
    """
    names = check_steps(stages, "stages")
    ends = check_ends(names, end_stages)
    within_days = check_whole("within_days", within_days)
    check_one_of("ci_method", ci_method, ("log-log",))
    as_of, by = check_as_of(as_of), group_names(by, taken=("stage", "step", *_SHARE))
    conf_level = check_conf_level(conf_level)
    columns = Columns(unit_col, stage_col, at_col)
    frame = open_events(events, columns, by)
    notes = stage_notes(frame, names, columns=columns, as_of=as_of)
    stays = count_stays(frame, columns=columns, stages=names, end_stages=ends, as_of=as_of, by=by)
    table = _stage_table(stays, names, by, within_days, conf_level)
    if table["estimate"].null_count():
        notes += (_("No lead was watched for so many days: the shares are not known."),)
    return Losses(
        table=table,
        name=_("Leads lost at a stage"),
        unit="share",
        definition=_(
            "Share of the leads that came to a stage and were lost there within {n} days of it, "
            "without having come to a later one of {stages} (Aalen-Johansen: leads still there on "
            "{day} are censored). Beside it, which share of all losses happened there.",
            n=number(within_days), stages=", ".join(map(word_of, names)), day=date_text(as_of),
        ),
        by=(*by, "stage"),
        conf_level=conf_level,
        notes=(*notes, *small_n_notes(table, (*by, "stage"), what=_("leads"))),
        what="stage",
        within_days=within_days,
    )  # fmt: skip


def _stage_table(
    stays: Sequence[StayCounts],
    stages: tuple[str, ...],
    by: tuple[str, ...],
    within_days: int,
    conf_level: float,
) -> pl.DataFrame:
    rows = [_stage_row(one, within_days, conf_level) for one in stays]
    ended = np.array([one.n.sum(axis=1) for one in stays], np.int64).reshape(-1, 3)
    table = pl.DataFrame(
        {name: [one.group[name] for one in stays] for name in by}
        | {"stage": pl.Series([stages[one.step - 1] for one in stays], dtype=pl.String)}
    ).with_columns(
        **five_columns(ended.sum(axis=1), *np.array(rows, np.float64).reshape(-1, 4).T),
        n_moved_on=ended[:, 0], n_lost=ended[:, 1], n_open=ended[:, 2],
    )  # fmt: skip
    lost = pl.col("n_lost").sum()
    whole = table.select((lost.over(by) if by else lost).alias("of"))["of"]
    of_all = share_columns(ended[:, 1], np.broadcast_to(whole.to_numpy(), len(stays)), conf_level)
    return table.with_columns(
        loss_share=of_all["estimate"],
        loss_share_low=of_all["conf_low"],
        loss_share_high=of_all["conf_high"],
    )


def _stage_row(
    stays: StayCounts, within_days: int, conf_level: float
) -> tuple[float, float, float, float]:
    minutes, entered, n = from_zero(stays.minutes, stays.n)
    found = aalen_johansen(minutes, entered, n[:2], n[2])
    share, error, low, high = _read(found, within_days * MINUTES_PER_DAY, conf_level)
    return float(share[1]), float(error[1]), float(low[1]), float(high[1])
