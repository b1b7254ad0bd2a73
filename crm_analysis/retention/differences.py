"""Whether some groups of customers stay longer than others, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import special

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    group_label,
    groups_text,
    labelled_groups,
    p_text,
    small_n_notes,
)
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.retention.lengths import LENGTH_UNITS, LengthUnit, check_horizon, words_of_unit
from crm_analysis.retention.spells import COUNTS, count_exits, curve_of, length_of, parts_of
from crm_analysis.survival import Comparison, Weights, holm, log_rank, restricted_mean
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, amount, date_text, duration_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RetentionDifference", "retention_difference"]

_TESTS: tuple[Weights, ...] = ("log-rank", "gehan-breslow", "peto-peto")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RetentionDifference(Estimates):
    """Differences in the restricted mean: one row per group, against all others together.

    Of two groups there is one row: the first minus the second. The table has, beside the usual
    five, ``n_others``, ``mean`` and ``mean_others`` (restricted means), ``p_value`` and
    ``p_adjusted`` (Holm, over the rows).

    Attributes
    ----------
    test : Comparison or None
        The (weighted) log-rank test that all groups leave at one pace; None if not testable.
    """

    test: Comparison | None = None

    def sentence(self) -> str:
        """Return whether the groups differ, and which of them by more than chance."""
        if self.test is None:
            return _("{name}: there is nothing to compare.", name=self.name)
        p = p_text(self.test.p_value)
        if self.test.p_value >= 1 - self.conf_level:
            return _("No difference in retention between the groups is established ({p}).", p=p)
        found = _("The groups leave at different paces ({p})", p=p)
        clear = self.table.filter(pl.col("p_adjusted") < 1 - self.conf_level)
        if clear.is_empty():
            return found + "."
        parts = [
            f"{group_label(row, self.by)} ({_signed(row['estimate'], self.unit)})"
            for row in clear.sort("estimate").to_dicts()
        ]
        groups = groups_text(parts)
        if self.unit == "days":
            return _("{found}; days with us beside the others: {groups}.", found=found,
                     groups=groups)  # fmt: skip
        return _("{found}; months with us beside the others: {groups}.", found=found,
                 groups=groups)  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the differences with their intervals around 0 and return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(labelled_groups(self.table, self.by), label="label", ax=ax, reference=0.0)
        figures.write_units(ax, self.unit, axis="x")
        ax.set_xlabel(_("days") if self.unit == "days" else _("months"))
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        means = dict.fromkeys(("mean", "mean_others"), self.unit)
        return super().units() | means | {"n_others": "count"}


def _signed(value: float, unit: Any) -> str:
    return ("+" if value > 0 else "\N{MINUS SIGN}") + amount(abs(value), unit)


def retention_difference(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    horizon: float,
    unit: LengthUnit = "month",
    weights: Weights = "log-rank",
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "normal",
) -> RetentionDifference:
    """Do groups stay for different lengths of time (log-rank and restricted means).

    Whether they differ is tested over the whole curves; by how much is said in time: the mean
    time with us within the horizon, of each group minus that of all others together (of two
    groups: of the first minus the second).

    Parameters
    ----------
    spells, start_col, end_col, entry_col, as_of, conf_level
        As for `retention_curve`.
    horizon : float
        In `unit`, above 0.
    unit : {"day", "month"}
    weights : {"log-rank", "gehan-breslow", "peto-peto"}
        The log-rank test is strongest where one group leaves at a constant multiple of another's
        pace; the others give early differences more weight.
    by : str or sequence of str
        The groups; at least one column.
    ci_method : {"normal"}
        Of the difference, from the exact variances of two independent restricted means.

    Returns
    -------
    RetentionDifference
        Columns of `by`, ``n``, ``n_others``, ``mean``, ``mean_others``, ``estimate`` (difference
        in `unit`), ``std_error``, ``conf_low``, ``conf_high``, ``p_value``, ``p_adjusted``. Null
        where a mean is not known up to the horizon. The intervals are each at `conf_level`;
        ``p_adjusted`` allows for the number of rows (Holm).

    Raises
    ------
    InputError
        No column in `by`; else as `mean_retention`.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    References
    ----------
    Royston & Parmar (2013), BMC Medical Research Methodology 13:152; Holm (1979).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date, timedelta
    >>> first = date(2024, 1, 1)
    >>> days = [10, 20, 30, 40, 50, 60]
    >>> spells = pl.DataFrame({
    ...     "started_on": [first] * 6,
    ...     "ended_on": [first + timedelta(days=d) for d in days],
    ...     "brand": ["Kia", "Kia", "Kia", "Lada", "Lada", "Lada"],
    ... })
    >>> found = retention_difference(
    ...     spells, horizon=60, unit="day", as_of=date(2024, 12, 31), by="brand")
    >>> found.table["estimate"].round(6).to_list()
    [-30.0]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    horizon = check_horizon(horizon)
    check_one_of("unit", unit, LENGTH_UNITS)
    check_one_of("weights", weights, _TESTS)
    check_one_of("ci_method", ci_method, ("normal",))
    conf_level = check_conf_level(conf_level)
    if not by:
        raise InputError(
            "A difference between groups was asked for, and 'by' names no column. Pass the "
            "column whose groups are compared, such as by='dealership'."
        )
    counts = count_exits(
        spells, start_col=start_col, end_col=end_col, entry_col=entry_col,
        as_of=as_of, unit=unit, by=by,
    )  # fmt: skip
    parts = parts_of(counts, by)
    table = _differences(parts, counts, by, (horizon, unit), conf_level)
    return RetentionDifference(
        table=table,
        name=_("Difference in time with us within {horizon}",
               horizon=duration_text(round(horizon), unit)),
        unit=words_of_unit(unit),
        definition=_definition(len(parts), horizon, unit, as_of),
        by=by,
        conf_level=conf_level,
        notes=_notes(table, by, len(parts)),
        test=log_rank([curve_of(part) for _name, part in parts], weights),
    )  # fmt: skip


Span = tuple[float, LengthUnit]


def _differences(
    parts: Sequence[tuple[pl.DataFrame, pl.DataFrame]],
    counts: pl.DataFrame,
    by: tuple[str, ...],
    span: Span,
    conf_level: float,
) -> pl.DataFrame:
    compared = parts[:1] if len(parts) == 2 else parts if len(parts) > 2 else []
    rows = [_one_and_others(part, counts, span) for _group, part in compared]
    values = np.array(rows, np.float64).reshape(-1, 6)
    n, n_others, mean, mean_others, error, error_others = values.T
    difference, std_error = mean - mean_others, np.hypot(error, error_others)
    varies = std_error > 0
    half = np.where(varies, normal_quantile(conf_level) * std_error, np.nan)
    z = np.abs(difference) / np.where(varies, std_error, np.nan)
    p = 2 * special.ndtr(-z)
    names = [group for group, _part in compared]
    groups = pl.concat(names) if names else counts.select(by).clear()
    known = {"mean": mean, "mean_others": mean_others, "p_value": p, "p_adjusted": holm(p)}
    more = {
        name: pl.Series(name, column, pl.Float64).fill_nan(None) for name, column in known.items()
    }
    five = five_columns(n, difference, std_error, difference - half, difference + half)
    table = groups.hstack(pl.DataFrame({**five, **more}).get_columns())
    return table.with_columns(pl.Series("n_others", n_others.astype(np.int64), pl.Int64)).select(
        *by, "n", "n_others", "mean", "mean_others", "estimate", "std_error", "conf_low",
        "conf_high", "p_value", "p_adjusted",
    )  # fmt: skip


def _one_and_others(part: pl.DataFrame, counts: pl.DataFrame, span: Span) -> tuple[float, ...]:
    horizon, unit = span
    whole = counts.group_by("key").agg(pl.col(COUNTS[1:]).sum())
    own = part.select(*COUNTS)
    others = (
        whole.join(own, on="key", how="left", suffix="_own")
        .select("key", *(pl.col(c) - pl.col(f"{c}_own").fill_null(0) for c in COUNTS[1:]))
        .sort("key")
    )
    found = []
    for counted in (own, others):
        curve = curve_of(counted)
        found.append(restricted_mean(curve, length_of(curve.time, unit), horizon))
    one, rest = found
    sizes = (float(own["n_entered"].sum()), float(others["n_entered"].sum()))
    return (*sizes, one.mean, rest.mean, one.std_error, rest.std_error)


def _definition(n_groups: int, horizon: float, unit: LengthUnit, as_of: date) -> str:
    against = (
        _("of the first group minus that of the second")
        if n_groups == 2
        else _("of each group minus that of all others together")
    )
    return _(
        "Mean time with us within {horizon} (area under the retention curve), {against}; "
        "whether the curves differ is tested by the log-rank test; data to {as_of}.",
        horizon=duration_text(round(horizon), unit),
        against=against,
        as_of=date_text(as_of),
    )


def _notes(table: pl.DataFrame, by: tuple[str, ...], n_groups: int) -> tuple[str, ...]:
    if n_groups < 2:
        return (_("There are fewer than two groups: nothing can be compared."),)
    notes = small_n_notes(table, by, what=_("relationships"))
    if n_groups > 2:
        notes += (
            _(
                "{k} comparisons are made at once: p-values are adjusted for that (Holm), the "
                "intervals are not.",
                k=number(n_groups),
            ),
        )
    unknown = table.filter(pl.col("estimate").is_null())
    if not unknown.is_empty():
        groups = groups_text([group_label(row, by) for row in unknown.to_dicts()])
        notes += (_("Not observed for the whole horizon: {groups}.", groups=groups),)
    return notes
