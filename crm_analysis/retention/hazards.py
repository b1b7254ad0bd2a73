"""At what age of the car customers leave, and whether more do once its warranty is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis import figures
from crm_analysis.dates import DAYS_PER_MONTH, DAYS_PER_YEAR
from crm_analysis.errors import InputError
from crm_analysis.estimates import SMALL_N, Estimates, five_columns, p_text, small_n_notes
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    check_whole,
    group_names,
)
from crm_analysis.retention.listed import Listed
from crm_analysis.retention.spells import COUNTS, count_exits, labelled, parts_of
from crm_analysis.survival import RateRatio, exposure, rate_ratio
from crm_analysis.uncertainty import exact_rate_interval
from crm_analysis.wording import _, date_text, duration_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DepartureHazard", "departure_hazard"]

Floats = NDArray[np.float64]

_FEWEST_ENDS = 10
"""With fewer ends on a side of the warranty's end no trend of age can be told from a break."""


# Estimate ---------------------------------------------------------------------------------


def _banded(counts: pl.DataFrame, edges: Floats) -> tuple[Floats, Floats, Floats]:
    """Return for each band of age (days) the ends, the car-years and the cars seen in it."""
    key, entered, ended, censored = (counts[name].to_numpy() for name in COUNTS)
    left = ended + censored
    years = exposure(key, entered, left, edges) / DAYS_PER_YEAR
    # A departure on the very first day belongs to the first band.
    at = np.searchsorted(edges, np.maximum(key, 1e-9), side="left") - 1
    inside = (at >= 0) & (at < len(edges) - 1)
    ends = np.bincount(at[inside], ended[inside], len(edges) - 1).astype(np.float64)
    # Who left on the very first day was still seen in the first band.
    gone = np.where(key > 0, left, 0)
    cars = [entered[key < high].sum() - gone[key <= low].sum() for low, high in pairwise(edges)]
    return ends, years, np.array(cars, np.float64)


def _band_rows(counts: pl.DataFrame, band_months: int, conf_level: float) -> pl.DataFrame:
    whole = counts.group_by("key").agg(pl.col(COUNTS[1:]).sum()).sort("key")
    n_bands = max(1, int(np.ceil(int(whole["key"][-1]) / (band_months * DAYS_PER_MONTH))))
    months = np.arange(n_bands + 1, dtype=np.int64) * band_months
    ends, years, cars = _banded(whole, np.asarray(months * DAYS_PER_MONTH, np.float64))
    watched = years > 0
    low, high = exact_rate_interval(ends, years, conf_level)
    safe = np.where(watched, years, np.nan)
    five = five_columns(cars, ends / safe, np.sqrt(ends) / safe, low, high)
    rows = pl.DataFrame(
        {
            "age_months": months[:-1],
            "n_ended": ends.astype(np.int64),
            "car_years": years,
            **five,
        }
    )
    return rows.filter(pl.Series(watched))


@dataclass(frozen=True)
class _Sides:
    """Ends and car-years in the months around the end of the warranty, by month of age."""

    age: Floats
    after: NDArray[np.bool_]
    ends: Floats
    years: Floats


def _around(counts: pl.DataFrame, warranty: str, near: int, rush: int) -> _Sides:
    """Gather the months from `near` before to `near` after expiry, without those of the rush."""
    found: list[tuple[Floats, Any, Floats, Floats]] = []
    for group, part in parts_of(counts.filter(pl.col(warranty).is_not_null()), (warranty,)):
        expiry = int(group[warranty][0])
        own = part.group_by("key").agg(pl.col(COUNTS[1:]).sum()).sort("key")
        for first, last in ((expiry - near, expiry - rush), (expiry + rush, expiry + near)):
            months = np.arange(max(first, 0), max(last, 0) + 1, dtype=np.float64)
            if len(months) < 2:
                continue
            ends, years, _cars = _banded(own, months * DAYS_PER_MONTH)
            found.append((months[:-1], np.full(len(ends), first >= expiry), ends, years))
    if not found:
        empty = np.array([])
        return _Sides(empty, empty.astype(bool), empty, empty)
    age, after, ends, years = (np.concatenate(column) for column in zip(*found, strict=True))
    seen = years > 0
    return _Sides(age[seen], after[seen], ends[seen], years[seen])


def _plain_ratio(sides: _Sides, conf_level: float) -> RateRatio:
    d = [int(sides.ends[sides.after == side].sum()) for side in (False, True)]
    t = [float(sides.years[sides.after == side].sum()) for side in (False, True)]
    return rate_ratio((d[0], d[1]), (t[0], t[1]), conf_level)


def _ratio_beside_trend(sides: _Sides, conf_level: float) -> RateRatio:
    """Estimate the break beside a steady trend of age (Poisson regression on months of age)."""
    enough = all(sides.ends[sides.after == side].sum() >= _FEWEST_ENDS for side in (False, True))
    if not enough:
        return RateRatio(*[float("nan")] * 4)
    from statsmodels.genmod.families import Poisson
    from statsmodels.genmod.generalized_linear_model import GLM

    age = (sides.age - sides.age.mean()) / 12
    design = np.column_stack([np.ones_like(age), age, sides.after.astype(float)])
    fitted = GLM(sides.ends, design, family=Poisson(), exposure=sides.years).fit()
    low, high = fitted.conf_int(alpha=1 - conf_level)[2]
    return RateRatio(
        float(np.exp(fitted.params[2])), float(np.exp(low)), float(np.exp(high)),
        float(fitted.pvalues[2]),
    )  # fmt: skip


def _break_table(sides: _Sides, conf_level: float) -> pl.DataFrame:
    ratios = [_plain_ratio(sides, conf_level), _ratio_beside_trend(sides, conf_level)]
    ratio, low, high, p = (np.array(column) for column in zip(*ratios, strict=True))
    unknown = np.full(2, np.nan)
    n = np.full(2, sides.ends.sum())
    # A ratio without a finite value, or bound, is not known.
    return pl.DataFrame(
        {
            "comparison": [_("after against before"), _("beside a trend of age")],
            **five_columns(n, ratio, unknown, np.where(np.isfinite(ratio), low, np.nan), high),
            "p_value": pl.Series(p, dtype=pl.Float64).fill_nan(None),
        }
    )


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DepartureHazard(Estimates):
    """Departures a car-year by age of the car: one row per group and band of age.

    The table has, beside the usual five, ``age_months`` (where the band begins), ``n_ended``
    and ``car_years`` (time at risk).

    Attributes
    ----------
    warranty_break : Estimates
        The pace after the end of the warranty over that before: two rows, plain (exact
        interval) and beside a steady trend of age (Poisson regression), with ``p_value``.
    band_months : int
    """

    warranty_break: Estimates
    band_months: int = 6

    def sentence(self) -> str:
        """Return by how much the pace changes at the end of the warranty."""
        row = self.warranty_break.table.row(0, named=True)
        if row["estimate"] is None:
            return _(
                "{name}: too few have left around the end of the warranty to compare.",
                name=self.name,
            )
        value = self.warranty_break.value_text(row)
        if row["p_value"] >= 1 - self.conf_level:
            return _(
                "After the end of the warranty customers leave {value} times as fast as before; "
                "a difference is not established ({p}).",
                value=value,
                p=p_text(row["p_value"]),
            )
        said = _(
            "After the end of the warranty customers leave {value} times as fast as before ({p}).",
            value=value,
            p=p_text(row["p_value"]),
        )
        aged = self._beside_age()
        return f"{said} {aged}" if aged else said

    def _beside_age(self) -> str:
        """Say what is left of the break where cars lose their owners faster by age alone."""
        row = self.warranty_break.table.row(-1, named=True)
        if self.warranty_break.table.height < 2 or row["estimate"] is None:
            return ""
        if row["p_value"] >= 1 - self.conf_level:
            return _(
                "Beside a steady trend of age that is {value}, and not established.",
                value=self.warranty_break.value_text(row),
            )
        return _(
            "Beside a steady trend of age it is {value} times.",
            value=self.warranty_break.value_text(row),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the pace by age, as steps with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.curve(self._drawn(), x="age_months", by=self.by, ax=ax, step=True)
        figures.write_units(ax, "share")
        ax.set_ylim(bottom=0)
        ax.set_xlim(left=0)
        figures.whole_ticks(ax, 12)
        ax.set_xlabel(_("Age of the car, months"))
        ax.set_title(self.name)
        return ax

    def _drawn(self) -> pl.DataFrame:
        # A band with few cars says nothing to the eye; the table has it. A step needs its end too.
        many = self.table.filter(pl.col("n") >= SMALL_N)
        shown = many if many.height else self.table
        last = shown.group_by(self.by or pl.lit(0).alias("all"), maintain_order=True).last()
        ends = last.with_columns(pl.col("age_months") + self.band_months)
        return pl.concat([shown, ends.select(shown.columns)])

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_ended": "count", "age_months": "count"}

    def _figure_height(self) -> float | None:
        return None


# Ask --------------------------------------------------------------------------------------


def departure_hazard(
    cars: object,
    *,
    start_col: str = "in_use_on",
    end_col: str = "ended_on",
    entry_col: str | None = "started_on",
    until_col: str | None = None,
    warranty_col: str = "warranty_months",
    band_months: int = 6,
    rush_months: int = 6,
    near_months: int = 24,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "exact",
) -> DepartureHazard:
    """At what pace do customers leave at each age of the car (piecewise constant hazard).

    Within each band of age the pace is departures over car-years at risk. At the end of the
    warranty the pace after is compared with that before, from `near_months` before to as long
    after, leaving out `rush_months` on either side: just before it ends customers rush in for
    free repairs, and a departure that is dated between visits cannot be told from one a little
    sooner or later.

    Parameters
    ----------
    cars : table
        One row per car, on any backend.
    start_col, end_col : str
        Day from which its age counts, and day on which its owner left; null = has not.
    entry_col : str or None
        Day from which the car was observed here; cars come at any age (left truncation).
    until_col : str, optional
        Day after which it was no longer observed, such as when its owner came with another car;
        null = it was until `as_of`.
    warranty_col : str
        Length of its warranty in months of age; null = not known, left out of the comparison.
    band_months : int
        Width of the bands of age.
    rush_months, near_months : int
        Months left out and months looked at on either side of the end of the warranty.
    as_of : date
        Last day on which a departure would be known: where departures are silences of W months,
        the last day of the data minus W.
    by : str or sequence of str
        Groups of the bands; the comparison is made over all cars.
    conf_level : float
    ci_method : {"exact"}
        Garwood's interval in each band; for the ratio, the exact conditional binomial.

    Returns
    -------
    DepartureHazard
        Columns of `by`, ``age_months``, ``n_ended``, ``car_years``, ``n`` (cars seen in the
        band), ``estimate`` (departures a car-year), ``std_error``, ``conf_low``, ``conf_high``;
        bands in which no car was seen have no row.

    Raises
    ------
    InputError
        Widths that are no whole months; a rush as long as what is looked at.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    The ratio is one of what a CRM sees. A true break looks smaller the less exactly departures
    are dated, and where mileage ends warranties sooner than their date; those who bought
    elsewhere are among the silent and need no warranty's end to do so.

    References
    ----------
    Holford (1980), Biometrics 36:299-305; Garwood (1936), Biometrika 28:437-442.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> cars = pl.DataFrame({
    ...     "in_use_on": [date(2020, 1, 1)] * 3, "started_on": [date(2020, 1, 1)] * 3,
    ...     "ended_on": [date(2021, 1, 1), date(2023, 6, 1), None], "warranty_months": [36] * 3,
    ... })
    >>> hazard = departure_hazard(cars, band_months=24, as_of=date(2024, 1, 1))
    >>> hazard.table.select("age_months", "n", "n_ended").rows()
    [(0, 3, 1), (24, 2, 1)]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("exact",))
    _check_widths(band_months, rush_months, near_months)
    if warranty_col in by:
        raise InputError(
            f"Groups by {warranty_col!r} were asked for, the column of the warranty. Group by a "
            "copy of it under another name."
        )
    counts = count_exits(
        cars, start_col=start_col, end_col=end_col, entry_col=entry_col, until_col=until_col,
        as_of=as_of, unit="day", by=(*by, warranty_col),
    )  # fmt: skip
    rows = [
        labelled(group, _band_rows(part, band_months, conf_level))
        for group, part in parts_of(counts, by)
    ]
    table = pl.concat(rows) if rows else _empty(counts, by)
    sides = _around(counts, warranty_col, near_months, rush_months)
    return DepartureHazard(
        table=table,
        name=_("Departures for each car-year, by age of the car"),
        unit="share",
        definition=_(
            "Departures divided by the years that cars of an age were observed, up to {as_of}; the "
            "warranty's end is judged by the {near} on either side of it, without the {rush} "
            "nearest to it.",
            as_of=date_text(as_of),
            near=duration_text(near_months, "month"),
            rush=duration_text(rush_months, "month"),
        ),
        by=by,
        conf_level=conf_level,
        notes=_hazard_notes(table, by),
        warranty_break=_break(sides, conf_level, near_months, rush_months),
        band_months=band_months,
    )


def _break(sides: _Sides, conf_level: float, near: int, rush: int) -> Estimates:
    before, after = (int(sides.ends[sides.after == side].sum()) for side in (False, True))
    table = _break_table(sides, conf_level)
    notes: tuple[str, ...] = ()
    if table["estimate"][1] is None:
        notes = (_("Too few have left on one side for a trend of age to be allowed for."),)
    return Listed(
        table=table,
        name=_("Pace of leaving after the end of the warranty over that before"),
        unit="number",
        definition=_(
            "Departures a car-year in the {near} after the end of the warranty ({after}), divided "
            "by those before ({before}), without the {rush} on either side; the second row allows "
            "for a steady trend of age.",
            near=duration_text(near, "month"),
            rush=duration_text(rush, "month"),
            before=number(before),
            after=number(after),
        ),
        by=("comparison",),
        conf_level=conf_level,
        notes=notes,
    )


def _empty(counts: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            **{name: pl.Series(name, [], counts.schema[name]) for name in by},
            "age_months": pl.Series("age_months", [], pl.Int64),
            "n_ended": pl.Series("n_ended", [], pl.Int64),
            "car_years": pl.Series("car_years", [], pl.Float64),
            **five_columns([], [], [], [], []),
        }
    )


def _hazard_notes(table: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    if table.is_empty():
        return (_("No car had been observed by then: there is nothing to count."),)
    bands = table.with_columns(
        age=pl.Series([duration_text(m, "month") for m in table["age_months"]], dtype=pl.String)
    )
    return (
        *small_n_notes(bands, (*by, "age"), what=_("cars")),
        _(
            "A departure that nobody announced is dated between the last visit and the next due; "
            "a break at the end of the warranty looks smaller for that."
        ),
    )


def _check_widths(band: int, rush: int, near: int) -> None:
    check_whole("band_months", band)
    check_whole("rush_months", rush, least=0)
    check_whole("near_months", near)
    if rush >= near:
        raise InputError(
            f"'near_months' ({near}) must be more than 'rush_months' ({rush}), or no month is left "
            "to compare. Look at more months, or leave out fewer."
        )
