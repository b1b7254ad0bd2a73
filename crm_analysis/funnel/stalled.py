"""Which open leads have stood still for longer than those who went on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import MINUTES_PER_DAY
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, group_label, share_columns
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.funnel.lead_events import (
    Columns,
    check_ends,
    check_steps,
    open_events,
    stage_notes,
)
from crm_analysis.funnel.stays import StayCounts, count_stays, together
from crm_analysis.wording import _, date_text, number, percent, plural, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["StalledLeads", "stalled_leads"]


_FEW = 20
"""Leads that must have gone on before their time sets a limit: below it 90 % is one lead or two."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StalledLeads(Estimates):
    """Open leads past the usual time: one row per group and stage; see `stalled_leads`.

    Attributes
    ----------
    quantile : float
        Share of those who moved on whose time is the limit.
    """

    quantile: float = 0.9

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        days = dict.fromkeys(("limit_days", "median_age_days", "oldest_days"), "days")
        return super().units() | {"n_stalled": "count", "n_moved_on": "count"} | days

    def total(self) -> Estimates:
        """Return the share of open leads that stand still, over all stages: one row per group."""
        groups = tuple(name for name in self.by if name != "stage")
        known = self.table.drop_nulls("limit_days")
        sums = pl.col("n", "n_stalled").sum()
        whole = known.group_by(groups, maintain_order=True).agg(sums) if groups else (
            known.select(sums)
        )  # fmt: skip
        columns = share_columns(whole["n_stalled"], whole["n"], self.conf_level)
        return Estimates(
            table=whole.with_columns(**columns), name=_("Open leads that stand still"),
            unit="share", definition=self.definition, by=groups, conf_level=self.conf_level,
            notes=self.notes, key="open_leads_that_stand_still", better="lower",
        )  # fmt: skip

    def sentence(self) -> str:
        """Return how many open leads stand still, and in which stage most of them do."""
        known = self.table.drop_nulls("limit_days")
        total = self.total()
        if known.is_empty() or not known["n"].sum():
            return _("{name}: no open lead can be judged.", name=self.name)
        if total.by:
            return total.sentence()
        worst = known.sort("n_stalled", descending=True, maintain_order=True).row(0, named=True)
        said = f"{total.name}: {total.value_text(total.table.row(0, named=True))}"
        if not worst["n_stalled"]:
            return said + "."
        return said + "; " + _(
            "most of them in stage {stage}: {k} of {n} stand there longer than the {days} days "
            "within which {share} of those who went on had left.",
            stage=word_of(worst["stage"]), k=number(worst["n_stalled"]), n=number(worst["n"]),
            days=number(worst["limit_days"], 1), share=percent(self.quantile, 0),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how many open leads of each stage stand still, and return the Axes."""
        ax = figures.new_axes(ax)
        labels = [
            f"{group_label(row, self.by)}\n{number(row['n_stalled'])} / {number(row['n'])}"
            for row in self._rows()
        ]
        labelled = self.table.with_columns(label=pl.Series(labels, dtype=pl.String))
        figures.points(labelled, label="label", ax=ax)
        figures.write_units(ax, self.unit, axis="x")
        ax.set_xlim(0, 1)
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return figures.height_for(2 * self.table.height)


def stalled_leads(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    stages: Sequence[str],
    end_stages: Sequence[str] = ("lost",),
    quantile: float = 0.9,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> StalledLeads:
    """Which share of open leads stands in a stage longer than those who went on ever needed.

    The limit of a stage is the time within which 90 % (`quantile`) of the leads that moved on
    from it had done so, all groups together: whoever is past it does what only one in ten of
    the successful did. A lead is open in the last listed stage that it came to.

    Parameters
    ----------
    events, unit_col, stage_col, at_col, stages, end_stages, as_of, by, conf_level
        As for `time_in_stage`.
    quantile : float
        Share of those who moved on whose time is the limit; above 0 and below 1.
    ci_method : {"wilson"}

    Returns
    -------
    StalledLeads
        One row per group and stage but the last: ``stage``, ``n`` (leads open there now),
        ``n_stalled``, ``estimate`` (their share), ``std_error``, ``conf_low``, ``conf_high``,
        ``limit_days``, ``n_moved_on`` (the leads that set it, all groups), ``median_age_days``
        and ``oldest_days`` (time that the open ones have stood there). The limit, and with it the
        share, is null where fewer than 20 leads have moved on; the share is null where no lead
        is open.

    Raises
    ------
    InputError
        A quantile that is not between 0 and 1, and whatever `time_in_stage` refuses.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date, timedelta
    >>> first, rows = date(2026, 1, 1), [(99, "contact", date(2026, 1, 1))]
    >>> for lead in range(30):
    ...     rows += [(lead, "contact", first), (lead, "visit", first + timedelta(lead % 10))]
    >>> events = pl.DataFrame(rows, schema=["opportunity_id", "stage", "happened_at"], orient="row")
    >>> still = stalled_leads(events, stages=["contact", "visit"], as_of=date(2026, 1, 20))
    >>> still.table.select("stage", "n", "n_stalled", "limit_days").rows()
    [('contact', 1, 1, 8.0)]
    """
    names = check_steps(stages, "stages")
    ends = check_ends(names, end_stages)
    if not 0 < quantile < 1:
        raise InputError(
            f"'quantile' must lie between 0 and 1; got {quantile!r}. Pass 0.9 for the time "
            "within which nine of ten moved on."
        )
    check_one_of("ci_method", ci_method, ("wilson",))
    as_of, by = check_as_of(as_of), group_names(by, taken=("stage", "n_stalled"))
    conf_level = check_conf_level(conf_level)
    columns = Columns(unit_col, stage_col, at_col)
    frame = open_events(events, columns, by)
    notes = stage_notes(frame, names, columns=columns, as_of=as_of)
    stays = count_stays(frame, columns=columns, stages=names, end_stages=ends, as_of=as_of, by=by)
    table = _table(stays, names, by, quantile, conf_level)
    return StalledLeads(
        table=table,
        name=_("Leads that stand still"),
        unit="share",
        definition=_(
            "Share of the leads open on {day} that have stood in their stage longer than the time "
            "within which {share} of those who moved on from it had done so. Wilson intervals.",
            day=date_text(as_of), share=percent(quantile, 0),
        ),
        by=(*by, "stage"),
        conf_level=conf_level,
        notes=(*notes, *_notes(table)),
        quantile=quantile,
    )  # fmt: skip


def _table(
    stays: Sequence[StayCounts],
    stages: tuple[str, ...],
    by: tuple[str, ...],
    share: float,
    conf_level: float,
) -> pl.DataFrame:
    limits = {}
    for step in sorted({one.step for one in stays}):
        moved = together([one for one in stays if one.step == step])
        limits[step] = _limit(moved.minutes, moved.n[0], share)
    rows = [_row(one, *limits[one.step]) for one in stays]
    columns = ("n", "n_stalled", "limit_days", "n_moved_on", "median_age_days", "oldest_days")
    types = (pl.Int64, pl.Int64, pl.Float64, pl.Int64, pl.Float64, pl.Float64)
    table = pl.DataFrame(
        {name: [one.group[name] for one in stays] for name in by}
        | {"stage": pl.Series([stages[one.step - 1] for one in stays], dtype=pl.String)}
    ).hstack(pl.DataFrame(rows, schema=dict(zip(columns, types, strict=True)), orient="row"))
    judged = table["limit_days"].is_not_null().to_numpy()
    n = np.where(judged, table["n"].to_numpy(), 0)
    found = share_columns(table["n_stalled"].fill_null(0).to_numpy(), n, conf_level)
    found["n"] = table["n"]
    return table.with_columns(**found).select(
        *by, "stage", *found, "n_stalled", *columns[2:]
    )  # fmt: skip


def _limit(minutes: NDArray[Any], n: NDArray[Any], share: float) -> tuple[float | None, int]:
    """Return the time within which a share had moved on, and how many that rests on."""
    total = int(n.sum())
    if total < _FEW:
        return None, total
    return float(minutes[_at_share(n, share)]), total


def _at_share(n: NDArray[Any], share: float) -> int:
    # The first length by which the share has come: rounding must not ask for one lead more.
    return int(np.searchsorted(np.cumsum(n), share * n.sum() - 1e-9))


def _row(stays: StayCounts, limit: float | None, n_moved_on: int) -> tuple[Any, ...]:
    still = stays.n[2]
    n_open = int(still.sum())
    n_stalled = None if limit is None else int(still[stays.minutes > limit].sum())
    median = oldest = None
    if n_open:
        median = stays.minutes[_at_share(still, 0.5)] / MINUTES_PER_DAY
        oldest = stays.minutes[np.flatnonzero(still)[-1]] / MINUTES_PER_DAY
    days = None if limit is None else limit / MINUTES_PER_DAY
    return n_open, n_stalled, days, n_moved_on, median, oldest


def _notes(table: pl.DataFrame) -> tuple[str, ...]:
    if not table["n"].sum():
        return (_("No lead is open: there is nothing to stand still."),)
    unknown = table.filter(pl.col("limit_days").is_null(), pl.col("n") > 0)
    if unknown.is_empty():
        return ()
    n = int(unknown["n"].sum())
    return (
        plural(n, "{n} open lead stands in a stage from which fewer than {few} have moved on, and "
               "is not judged.", "{n} open leads stand in stages from which fewer than {few} have "
               "moved on, and are not judged.", few=number(_FEW)),
    )  # fmt: skip
