"""How long the whole cycle of a sale takes, from the first enquiry to the contract."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import MINUTES_PER_DAY
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    group_label,
    groups_text,
    labelled_groups,
    small_n_notes,
)
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.funnel.attempts import check_within_days
from crm_analysis.funnel.lead_events import Columns, check_ends, open_events, stage_notes
from crm_analysis.funnel.results import days_text
from crm_analysis.funnel.stays import StayCounts, count_stays, from_zero
from crm_analysis.survival import CauseTimes, aalen_johansen, cause_times
from crm_analysis.uncertainty import homogeneity_p_value, normal_quantile
from crm_analysis.wording import _, amount, date_text, interval_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SalesCycle", "sales_cycle"]

_COUNTS = ("n_won", "n_lost", "n_open")
_DAYS = ("late_days", "late_low", "late_high", "mean_days", "mean_error", "mean_low", "mean_high")

FEW_SALES = 10
"""Below it the times of those won are read with care, however many leads there were."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SalesCycle(Estimates):
    """Days from the first enquiry to the contract, of those won: one row per group.

    The table has, beside the usual five, ``n_won``, ``n_lost``, ``n_open``, ``win_rate``,
    ``late_days``, ``mean_days`` and their bounds; see `sales_cycle`.
    """

    columns_with_unit: ClassVar[tuple[str, ...]] = (*Estimates.columns_with_unit, *_DAYS)
    n_col: ClassVar[str] = "n_won"

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | dict.fromkeys(_COUNTS, "count") | {"win_rate": "share"}

    def difference_p_value(self) -> float | None:
        """Return how surprising the differences of the means were if no group differed."""
        mean, error = (self.table[name].to_numpy() for name in ("mean_days", "mean_error"))
        return homogeneity_p_value(mean, error)

    def value_text(self, row: Mapping[str, Any]) -> str:
        """Write one row's median with its interval, of so many sales."""
        return _(
            "{value} ({level} interval {interval}, n = {n})",
            value=_("{value} days", value=amount(row["estimate"], self.unit)),
            level=percent(self.conf_level, 0), n=number(row[self.n_col]),
            interval=interval_text(row["conf_low"], row["conf_high"], self.unit),
        )  # fmt: skip

    def sentence(self) -> str:
        """Return within what time half and nine in ten of the sales come."""
        if self.by or self.table.height != 1 or self.table["estimate"][0] is None:
            return super().sentence()
        row = self.table.row(0, named=True)
        return _(
            "Half of the sales come within {value} of the first enquiry, nine in ten within "
            "{late} days; the mean is {mean}.",
            value=self.value_text(row), late=amount(row["late_days"], self.unit),
            mean=amount(row["mean_days"], self.unit),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the medians with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        rows = self.table.drop_nulls("estimate")
        figures.points(labelled_groups(rows, self.by), label="label", ax=ax)
        figures.write_units(ax, "days", axis="x")
        ax.set_xlim(left=0)
        ax.set_xlabel(_("Days within which half of the sales have come"))
        ax.set_title(self.name)
        return ax


def sales_cycle(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    from_stage: str = "new",
    to_stage: str = "contract",
    end_stages: Sequence[str] = ("lost",),
    within_days: float,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> SalesCycle:
    r"""How long is the cycle of a sale, from the first enquiry to the contract (Aalen-Johansen).

    The cycle runs from a lead's first event of `from_stage` to its first event, at the same moment
    or later, of `to_stage`; a lead that came back and enquired again has waited since the first
    time. Leads that are still open at the end of `as_of` count as watched so far: the mean of
    finished cycles alone is too short, because the long ones are not finished yet. Leads that were
    lost are not made to wait for a contract, which would make the cycle too long.

    Parameters
    ----------
    events : table
        One row per event, on any backend; events after `as_of` are ignored.
    unit_col, stage_col, at_col : str
        Columns of the lead, the stage and the moment (a date counts as its midnight).
    from_stage, to_stage : str
        Where the cycle begins and ends.
    end_stages : sequence of str
        Stages in which a lead ends without a sale.
    within_days : float
        Sales that come later than so many days are not counted: only a time that some leads were
        watched for can be spoken of. ``math.inf``: the longest watched.
    as_of : date
        Last day the data covers, to its end.
    by : str or sequence of str
        Group columns, the same in all events of a lead.
    conf_level : float
    ci_method : {"log-log"}
        For median and 90 %; the mean has a normal interval.

    Returns
    -------
    SalesCycle
        Per group ``n`` (leads), ``n_won``, ``n_lost`` (within the days), ``n_open`` (neither, as
        far as was watched), ``win_rate`` (share won within the days), ``estimate`` (median days of
        those won, whole minutes), ``conf_low``, ``conf_high``, ``late_days`` (days within which
        nine in ten of them come), ``late_low``, ``late_high``, ``mean_days``, ``mean_error``,
        ``mean_low`` and ``mean_high``. A median has no standard error: ``std_error`` is null.
        Null where nobody was won, or no lead was watched so long.

    Raises
    ------
    InputError
        A window that is not above 0, a stage named twice, a lead in several groups, an `as_of`
        before every event.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    .. math:: G(t) = F(t) / F(\tau)

    with F the cumulative incidence of a sale (lost leads compete, open ones are censored) and
    :math:`\tau` the window. Groups are compared by the means (Wald chi-squared).

    References
    ----------
    Aalen & Johansen (1978), Scand. J. Statistics 5:141-150.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> events = pl.DataFrame({
    ...     "opportunity_id": [1, 1, 2, 2, 3, 3, 4],
    ...     "stage": ["new", "contract", "new", "contract", "new", "lost", "new"],
    ...     "happened_at": [date(2026, 1, day) for day in (1, 11, 1, 31, 1, 6, 1)],
    ... })
    >>> cycle = sales_cycle(events, within_days=60, as_of=date(2026, 4, 1))
    >>> cycle.table.select("n", "n_won", "n_lost", "n_open", "estimate", "mean_days").row(0)
    (4, 2, 1, 1, 10.0, 20.0)
    """
    ends = check_ends((from_stage, to_stage), end_stages)
    within_days = check_within_days(within_days)
    check_one_of("ci_method", ci_method, ("log-log",))
    as_of, by = check_as_of(as_of), group_names(by, taken=(*_COUNTS, "win_rate", *_DAYS))
    conf_level = check_conf_level(conf_level)
    columns, stages = Columns(unit_col, stage_col, at_col), (from_stage, to_stage)
    frame = open_events(events, columns, by)
    notes = stage_notes(frame, stages, columns=columns, as_of=as_of)
    counts = count_stays(frame, columns=columns, stages=stages, end_stages=ends, as_of=as_of, by=by)
    table = _cycle_rows(counts, by, within_days, conf_level)
    return SalesCycle(
        table=table,
        name=_("Days from {first} to {last}", first=word_of(from_stage), last=word_of(to_stage)),
        unit="days",
        definition=_definition(from_stage, to_stage, within_days, as_of),
        by=by,
        conf_level=conf_level,
        notes=(*notes, *_notes(table, by)),
        key="sales_cycle",
        better="lower",
    )


def _cycle_rows(
    counts: Sequence[StayCounts], by: tuple[str, ...], within_days: float, conf_level: float
) -> pl.DataFrame:
    found = [_times(stays, within_days, conf_level) for stays in counts]
    if not by and not counts:
        found = [((0, 0, 0, 0), cause_times(_curves(None), 0, within_days))]
    n = np.array([one for one, _times_of in found], np.int64).reshape(-1, 4)
    times = [times_of for _n, times_of in found]
    median, late = ([one.quantiles[k] for one in times] for k in (0, 1))
    mean, error = (
        np.array([getattr(one, name) for one in times], np.float64) / MINUTES_PER_DAY
        for name in ("mean", "std_error")
    )
    half = normal_quantile(conf_level) * error
    columns: dict[str, Any] = {
        "win_rate": [one.share for one in times],
        **{
            f"late{end}": [one[k] / MINUTES_PER_DAY for one in late]
            for k, end in enumerate(("_days", "_low", "_high"))
        },
        "mean_days": mean, "mean_error": error, "mean_low": np.maximum(mean - half, 0),
        "mean_high": mean + half,
    }  # fmt: skip
    own = {name: pl.Series(v, dtype=pl.Float64).fill_nan(None) for name, v in columns.items()}
    days = np.array(median, np.float64).reshape(-1, 3).T / MINUTES_PER_DAY
    five = five_columns(n[:, 0], days[0], np.full(len(n), np.nan), days[1], days[2])
    table = pl.DataFrame(
        {name: [stays.group[name] for stays in counts] for name in by}
        | dict(zip(_COUNTS, (pl.Series(k, dtype=pl.Int64) for k in n[:, 1:].T), strict=True))
    )
    table = table.with_columns(**own, **five)
    return table.select(*by, *_COUNTS, "win_rate", *five, *_DAYS)


def _times(
    stays: StayCounts, within_days: float, conf_level: float
) -> tuple[tuple[int, int, int, int], CauseTimes]:
    """Return the leads, those won, lost and open within the window, and the times of the won."""
    longest = float(stays.minutes[-1])
    horizon = longest if math.isinf(within_days) else within_days * MINUTES_PER_DAY
    won, lost = (int(n) for n in stays.n[:2, stays.minutes <= horizon].sum(axis=1))
    whole = int(stays.n.sum())
    times = cause_times(_curves(stays), 0, horizon, conf_level=conf_level)
    return (whole, won, lost, whole - won - lost), times


def _curves(stays: StayCounts | None) -> Any:
    """Return the shares won and lost by each duration."""
    minutes = np.zeros(1, np.int64) if stays is None else stays.minutes
    n = np.zeros((3, 1), np.int64) if stays is None else stays.n
    minutes, entered, n = from_zero(minutes, n)
    return aalen_johansen(minutes, entered, n[:2], n[2])


def _definition(from_stage: str, to_stage: str, within_days: float, as_of: date) -> str:
    window = "" if math.isinf(within_days) else " " + _(
        "within {days}", days=days_text(within_days)
    )  # fmt: skip
    return _(
        "Days from a lead's first event {first} to its first {last}, of leads that come so far"
        "{window}. Leads open on {day} are censored, not left out, and lost ones compete "
        "(Aalen-Johansen; log-log intervals). Groups are compared by their means.",
        first=word_of(from_stage), last=word_of(to_stage), window=window, day=date_text(as_of),
    )  # fmt: skip


def _notes(table: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    if table.is_empty() or not table["n"].sum():
        return (_("There are no leads: nothing can be said."),)
    notes = []
    unknown = table.filter(pl.col("win_rate").is_null())
    if unknown.height:
        groups = groups_text([group_label(row, by) for row in unknown.to_dicts()])
        notes.append(
            _("No lead was watched for the whole window, so nothing is known of: {groups}.",
              groups=groups)
        )  # fmt: skip
    few = table.filter(pl.col("n_won") < FEW_SALES, pl.col("win_rate").is_not_null())
    if few.height:
        groups = groups_text([group_label(row, by) for row in few.to_dicts()])
        notes.append(
            _("Fewer than {least} sales in: {groups}; read the times with care.",
              least=number(FEW_SALES), groups=groups)
        )  # fmt: skip
    n_open, n = int(table["n_open"].sum()), int(table["n"].sum())
    if n_open:
        notes.append(
            _("{n} leads ({share}) were neither won nor lost within the window, as far as they "
              "were watched.", n=number(n_open), share=percent(n_open / n))
        )  # fmt: skip
    return (*notes, *small_n_notes(table, by, what=_("leads")))
