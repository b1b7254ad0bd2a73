"""How many cars the workshop must expect: each by the time since it was last here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.forecast.backtest import Backtest, judge
from crm_analysis.forecast.counts import count_bounds
from crm_analysis.forecast.semi_markov import Stays, expected
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
from crm_analysis.wording import _, date_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["ServiceDemand", "service_demand", "service_demand_backtest"]

_PARTS = 10
_LONGEST_DAYS = 1_100
"""Days without a visit past which nobody is told apart: three years."""

_SINCE_DELIVERY, _SINCE_VISIT = 0, 1
_REWARD = np.array([0.0, 1.0])
_WEEK = 7
_LABELLED = 6
"""Weeks that have their day written under them, at most."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ServiceDemand(Estimates):
    """Visits expected by week."""

    def sentence(self) -> str:
        """Say how many visits are expected next week and on the whole."""
        known = self.table.drop_nulls("estimate")
        if self.by != ("week",) or known.is_empty():
            return super().sentence()
        first = known.row(0, named=True)
        return _(
            "{name}: {n} in the week from {day} ({level}% prediction interval {low} to {high}), "
            "{all} in {k} weeks.",
            name=self.name, n=number(first["estimate"]), day=date_text(first["week"]),
            level=number(100 * self.conf_level), low=number(first["conf_low"]),
            high=number(first["conf_high"]), all=number(float(known["estimate"].sum())),
            k=number(known.height),
        )  # fmt: skip

    def next_week(self) -> Estimates:
        """Return the forecast for the next week, as estimates of its own."""
        groups = tuple(name for name in self.by if name != "week")
        first = pl.col("week").min()
        return Estimates(
            table=self.table.filter(pl.col("week") == first), name=_("Visits expected next week"),
            unit=self.unit, definition=self.definition, by=groups, conf_level=self.conf_level,
            notes=self.notes, key="visits_next_week",
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the expected visits by week with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        groups = tuple(name for name in self.by if name != "week")
        figures.curve(self.table, x="week", by=groups, ax=ax)
        ax.set_ylim(bottom=0)
        ax.set_title(self.name)
        weeks = self.table["week"].unique().sort().to_list()
        shown = weeks[:: max(1, -(-len(weeks) // _LABELLED))]
        ax.set_xticks(shown, [date_text(week) for week in shown], rotation=30, ha="right")
        return ax

    def _figure_height(self) -> float | None:
        return None


def service_demand(
    events: object,
    *,
    car_col: str = "vehicle_id",
    at_col: str = "happened_on",
    visit_col: str = "is_visit",
    horizon_weeks: int = 12,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "jackknife",
) -> ServiceDemand:
    r"""How many visits must the workshop expect, by week (renewals by the time since the last one).

    What all cars have done so far says with what chance one that was last here so many days ago
    comes on each of the next days, and comes again after that. A car that has stayed away for
    long is expected hardly more, without anybody saying that it is gone.

    Parameters
    ----------
    events : table
        One row per delivery of a car, or visit, on any backend: see `Warehouse.car_events`.
    car_col, at_col : str
    visit_col : str
        True for a visit; false for the delivery with which a car becomes known.
    horizon_weeks : int
        Weeks after `as_of`.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        Groups to forecast apart, such as the dealership; chances come from all groups together.
        A car that is known in several groups is expected in each.
    conf_level : float
        Level of the prediction interval.
    ci_method : {"jackknife"}

    Returns
    -------
    ServiceDemand
        Columns of `by`, ``week`` (its first day), ``n`` (cars known), ``estimate`` (expected
        visits), ``std_error`` (of the number that will come), ``conf_low``, ``conf_high``. Cars
        that nobody has sold or seen yet are not in it.

    Raises
    ------
    InputError
        A horizon below one week.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    See `crm_analysis.forecast.semi_markov`. The variance is that of Poisson counts plus that of
    the chances by the delete-a-group jackknife over cars; season and workdays are not in it.

    References
    ----------
    Cox (1962), *Renewal Theory*, chapter 5; Kott (2001), Journal of Official Statistics
    17:521-526.
    """
    by = group_names(by, taken=("week",))
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("jackknife",))
    _check_horizon(horizon_weeks)
    days = _days(events, car_col, at_col, visit_col, as_of, by)
    table = _forecast(days, by, horizon_weeks, as_of, conf_level)
    return ServiceDemand(
        table=table,
        name=_("Visits expected"),
        unit="count",
        definition=_(
            "Every car known on {as_of}, with the chance of a visit in each of the next weeks that "
            "cars had which had been here as long ago; cars not sold yet are not in it.",
            as_of=date_text(as_of),
        ),
        by=(*by, "week"),
        conf_level=conf_level,
        notes=_notes(days),
    )


def service_demand_backtest(
    events: object,
    *,
    car_col: str = "vehicle_id",
    at_col: str = "happened_on",
    visit_col: str = "is_visit",
    horizon_weeks: int = 4,
    n_origins: int = 8,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "jackknife",
) -> Backtest:
    """Would the forecast of visits have been right in the past (rolling origin).

    Parameters
    ----------
    events : table
        As in `service_demand`.
    car_col, at_col, visit_col : str
    horizon_weeks : int
        Weeks that every earlier forecast sums up.
    n_origins : int
        Earlier days, `horizon_weeks` apart.
    as_of : date
    conf_level : float
    ci_method : {"jackknife"}

    Returns
    -------
    Backtest
        One row an origin. Naive: as many visits as in the same weeks a year before. Visits of
        cars first seen after the origin are no visits of a car known, and are not counted.

    Raises
    ------
    InputError
        A horizon or a number of origins below one.
    ColumnError
        A column is missing, of another type, or null.
    """
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("jackknife",))
    _check_horizon(horizon_weeks)
    if n_origins < 1:
        raise InputError(f"'n_origins' must be at least 1; got {n_origins}. Pass, say, 8.")
    days = _days(events, car_col, at_col, visit_col, as_of, ())
    span = horizon_weeks * _WEEK
    rows = [
        row
        for back in range(n_origins, 0, -1)
        if (row := _origin(days, as_of - timedelta(days=back * span), horizon_weeks, conf_level))
    ]
    return judge(
        rows,
        name=_("Earlier forecasts of visits"),
        definition=_(
            "Forecast again as of earlier days for the {k} weeks after each, against the visits "
            "that came of cars known then. Naive: the same weeks a year before.",
            k=number(horizon_weeks),
        ),
        conf_level=conf_level,
    )


def _origin(
    days: pl.DataFrame, origin: date, weeks: int, conf_level: float
) -> dict[str, Any] | None:
    start, span = to_day_number(origin), weeks * _WEEK
    known = days.filter(pl.col("day") <= start)
    if known.filter(pl.col("visit") == 1).is_empty():
        return None
    cells, chance, without = _chances(known, (), weeks, start)
    mean, variance = _sum(cells["n"].to_numpy(), chance.sum(axis=1), without.sum(axis=2))
    low, high = count_bounds(mean, variance, conf_level)

    def came(first: int) -> float:
        here = days.filter(pl.col("day") < first).select("car").unique()
        window = days.filter(
            (pl.col("visit") == 1) & pl.col("day").is_between(first, first + span - 1)
        )
        return float(window.join(here, on="car", how="semi").height)

    before = came(start + 1 - 364)  # the same weekdays, a year before
    return {
        "origin": origin, "ahead": weeks, "n": known["car"].n_unique(), "actual": came(start + 1),
        "estimate": mean, "conf_low": float(low), "conf_high": float(high),
        "naive": before if days["day"].min() <= start - 364 else None,  # type: ignore[operator]
    }  # fmt: skip


def _check_horizon(horizon_weeks: int) -> None:
    if horizon_weeks < 1:
        raise InputError(
            f"A forecast for {horizon_weeks} weeks was asked for. It needs at least one: try 12."
        )


# Count ------------------------------------------------------------------------------------


def _days(
    events: object, car_col: str, at_col: str, visit_col: str, as_of: date, by: tuple[str, ...]
) -> pl.DataFrame:
    """Return groups (`keys_of`), ``car``, ``day``, ``visit`` (1 or 0): a row per car and day."""
    asked = {
        "car": Asked(car_col, "key", "car_col"),
        "day": Asked(at_col, "date", "at_col"),
        "visit": Asked(visit_col, "flag", "visit_col"),
    }
    frame = open_table(events, asked, by=by).filter(nw.col("day") <= to_day_number(as_of))
    frame = frame.with_columns(nw.col("visit").cast(nw.Int64))
    frame = frame.group_by(*keys_of(by), "car", "day").agg(nw.col("visit").max())
    return collect(frame, order=[*keys_of(by), "car", "day"])


def _stays(days: pl.DataFrame, groups: tuple[str, ...], last: int) -> pl.DataFrame:
    keys = [*groups, "car"]
    following = pl.col("day").shift(-1).over(keys)
    return days.with_columns(following.alias("next")).select(
        *groups,
        pl.col("visit").alias("state"),
        (pl.col("next").fill_null(last) - pl.col("day")).alias("days"),
        # A second delivery of the same car begins anew and is no visit.
        pl.when(pl.col("next").is_null() | (pl.col("visit").shift(-1).over(keys) == 0))
        .then(pl.lit(-1))
        .otherwise(pl.lit(_SINCE_VISIT))
        .alias("to"),
        pl.col("car").rank("dense").cast(pl.Int64).alias("unit"),
        pl.col("next").is_null().alias("open"),
    )


# Estimate ---------------------------------------------------------------------------------


def _chances(
    days: pl.DataFrame, groups: tuple[str, ...], weeks: int, last: int
) -> tuple[pl.DataFrame, NDArray[Any], NDArray[Any]]:
    """Return cells of cars alike, the visits a week expected of each, and those without parts."""
    table = _stays(days, groups, last)
    stays = Stays(*(table[c].to_numpy().astype(np.int64) for c in ("state", "days", "to", "unit")))
    capped = pl.col("days").clip(upper_bound=_LONGEST_DAYS)
    cells = (
        table.filter("open")
        .group_by([*groups, "state", capped.alias("age")])
        .agg(pl.len().alias("n"))
        .sort([*groups, "state", "age"], nulls_last=True)
    )
    state, age = (cells[c].to_numpy().astype(np.int64) for c in ("state", "age"))

    whole = expected(
        stays, _REWARD, state, age, n_states=2, last_day=_LONGEST_DAYS, parts=_PARTS,
        horizon=weeks * _WEEK, every=_WEEK,
    )  # fmt: skip
    weekly = np.diff(whole, axis=2, prepend=0.0)
    return cells, weekly[0], weekly[1:]


def _sum(n: NDArray[Any], chance: NDArray[Any], without: NDArray[Any]) -> tuple[float, float]:
    """Return the expected sum over cells and its variance: Poisson's and the jackknife's."""
    mean = float(n @ chance)
    drawn = without @ n
    unsure = (_PARTS - 1) / _PARTS * float(np.sum((drawn - drawn.mean()) ** 2))
    return mean, mean + unsure


def _forecast(
    days: pl.DataFrame, by: tuple[str, ...], weeks: int, as_of: date, conf_level: float
) -> pl.DataFrame:
    last, keys = to_day_number(as_of), keys_of(by)
    starts = [as_of + timedelta(days=1 + _WEEK * week) for week in range(weeks)]
    known = bool((days["visit"] == 1).any())
    cells, chance, without = _chances(days, keys, weeks, last)
    numbered = cells.with_row_index("place")
    groups = numbered.partition_by(keys, maintain_order=True) if by and cells.height else [numbered]
    rows = []
    for part in groups:
        place, n = part["place"].to_numpy(), part["n"].to_numpy().astype(float)
        sums = [_sum(n, chance[place, w], without[:, place, w]) for w in range(weeks)]
        mean, variance = np.array(sums).T
        low, high = count_bounds(mean, variance, conf_level)
        columns = [mean, np.sqrt(variance), low, high]
        if not known:
            columns = [np.full(weeks, np.nan)] * 4
        table = pl.DataFrame({"week": starts, **five_columns(np.full(weeks, n.sum()), *columns)})
        rows.append(part.select(keys).head(1).join(table, how="cross") if by else table)
    return pl.concat(rows).rename(dict(zip(keys, by, strict=True)))


def _notes(days: pl.DataFrame) -> tuple[str, ...]:
    if days.is_empty():
        return (_("No car is known: there is nothing to forecast."),)
    if not (days["visit"] == 1).any():
        return (_("No car has ever come: chances are not known."),)
    return (
        _("It holds if the coming weeks are like the past; season and holidays are not in it."),
    )
