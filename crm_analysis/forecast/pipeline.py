"""What the open pipeline will bring: chances by stage and age, never a fixed percentage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.forecast.backtest import Backtest, judge
from crm_analysis.forecast.counts import count_bounds
from crm_analysis.forecast.reached import StageColumns, first_reached, stage_columns
from crm_analysis.forecast.semi_markov import Stays, expected
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    keys_of,
)
from crm_analysis.wording import (
    _,
    amount,
    date_text,
    duration_text,
    interval_text,
    number,
    percent,
    word_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["PipelineForecast", "pipeline_backtest", "pipeline_forecast"]

_PARTS = 20
"""Parts that the past is cut into for the jackknife."""

_LONGEST_DAYS = 730
"""Days in a stage past which hazards are not told apart."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PipelineForecast(Estimates):
    """Expected contracts from what is open now, by stage.

    Attributes
    ----------
    all_stages : Estimates
        The same with all stages together, by group: intervals of stages do not add up, because
        they rest on the same past.
    """

    all_stages: Estimates

    def total(self) -> Estimates:
        """Return the forecast for all stages together."""
        return self.all_stages

    def sentence(self) -> str:
        """Say how many contracts are expected."""
        return self.all_stages.sentence()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the expected contracts by stage with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        rows = [self.table.row(i, named=True) for i in range(self.table.height)]
        names = [" · ".join(word_of(row[name]) for name in self.by) for row in rows]
        labelled = self.table.with_columns(pl.Series("label", names, pl.String))
        figures.bars(
            labelled, label="label", value="estimate", ax=ax,
            text=lambda value: amount(value, "number"),
        )  # fmt: skip
        figures.write_units(ax, "count", axis="x")
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"mean_chance": "share", "median_age_days": "days"}


def pipeline_forecast(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    steps: Sequence[str],
    win_stage: str = "contract",
    lost_stage: str = "lost",
    horizon_days: int = 90,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "jackknife",
) -> PipelineForecast:
    r"""How many contracts will come from what is open now (competing risks by stage and age).

    What has happened to all opportunities so far says with what chance one that has been in a
    stage for so many days moves on, is lost or is won on each of the next; an opportunity that
    has been silent for a year therefore counts for little, whatever its stage.

    Parameters
    ----------
    events : table
        One row per event of an opportunity, on any backend: see `Warehouse.lead_events`.
    unit_col, stage_col, at_col : str
    steps : sequence of str
        Stages in their order, without the two ends. Going back to an earlier one changes nothing.
    win_stage, lost_stage : str
        The two ends.
    horizon_days : int
        Days after `as_of` in which contracts are counted.
    as_of : date
        Last day the data covers; later events are not looked at.
    by : str or sequence of str
        Groups to forecast apart, the same in all events of an opportunity; their chances come
        from all groups together, since one group's past is too short.
    conf_level : float
        Level of the prediction interval.
    ci_method : {"jackknife"}

    Returns
    -------
    PipelineForecast
        Columns of `by`, ``stage``, ``n`` (open opportunities), ``mean_chance``,
        ``median_age_days`` (in the stage), ``estimate`` (expected contracts), ``std_error`` (of
        the number that will come), ``conf_low``, ``conf_high``. Opportunities not opened yet are
        not in it: it is no sales forecast.

    Raises
    ------
    InputError
        Stages that repeat, a horizon below one day, or an end among the steps.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    The variance is that of independent chances, :math:`\sum p_i (1 - p_i)`, plus that of the
    chances themselves by the delete-a-group jackknife over opportunities (Kott 2001). It holds if
    the future is like the past: a change of prices, of the market or of work is not in it.

    References
    ----------
    Andersen et al. (1993), *Statistical Models Based on Counting Processes*, chapter IV; Kott
    (2001), Journal of Official Statistics 17:521-526.
    """
    columns = stage_columns(
        unit_col, stage_col, at_col, steps, win_stage, lost_stage, by,
        taken=("stage", "mean_chance", "median_age_days"),
    )  # fmt: skip
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("jackknife",))
    _check_horizon(horizon_days)
    return _forecast(
        first_reached(events, columns, as_of), columns, horizon_days, as_of, conf_level
    )


def pipeline_backtest(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    steps: Sequence[str],
    win_stage: str = "contract",
    lost_stage: str = "lost",
    horizon_days: int = 90,
    n_origins: int = 6,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "jackknife",
) -> Backtest:
    """Would the pipeline forecast have been right in the past (rolling origin).

    The forecast is made again as of earlier days, `horizon_days` apart, each time from events
    that had happened by then, and held against the contracts that came.

    Parameters
    ----------
    events : table
        As in `pipeline_forecast`.
    unit_col, stage_col, at_col, steps, win_stage, lost_stage, horizon_days
        As in `pipeline_forecast`.
    n_origins : int
        Earlier days; fewer where the data do not reach back far enough.
    as_of : date
    conf_level : float
    ci_method : {"jackknife"}

    Returns
    -------
    Backtest
        One row an origin; see there.

    Raises
    ------
    InputError
        Fewer than one origin; and as in `pipeline_forecast`.
    ColumnError
        A column is missing, of another type, or null.
    """
    columns = stage_columns(unit_col, stage_col, at_col, steps, win_stage, lost_stage, ())
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("jackknife",))
    _check_horizon(horizon_days)
    if n_origins < 1:
        raise InputError(f"'n_origins' must be at least 1; got {n_origins}. Pass, say, 6.")
    whole = first_reached(events, columns, as_of)
    rows = []
    for back in range(n_origins, 0, -1):
        origin = as_of - timedelta(days=back * horizon_days)
        known = _known_by(whole, origin)
        start = to_day_number(origin)
        before = whole.filter(pl.col("won") <= start)["won"]
        made = _forecast(known, columns, horizon_days, origin, conf_level).total().table
        if made["estimate"].is_null().all() or before.len() < 1:
            continue
        open_now = known.filter(pl.col("won").is_null() & pl.col("lost").is_null())
        came = whole.join(open_now.select("unit"), on="unit", how="semi")
        actual = came.filter(pl.col("won").is_between(start + 1, start + horizon_days)).height
        row = made.row(0, named=True)
        rows.append(
            {
                "origin": origin, "ahead": horizon_days, "n": row["n"], "actual": float(actual),
                "estimate": row["estimate"], "conf_low": row["conf_low"],
                "conf_high": row["conf_high"],
                "naive": _naive(whole, origin, horizon_days),
            }
        )  # fmt: skip
    return judge(
        rows,
        name=_("Earlier forecasts of contracts from open leads"),
        definition=_(
            "Forecast as of earlier days for the {days} days after each, against the contracts "
            "that came from what was open then. Naive: as many as in the {days} days before.",
            days=number(horizon_days),
        ),
        conf_level=conf_level,
    )


def _naive(whole: pl.DataFrame, origin: date, horizon: int) -> float | None:
    """Return the contracts of the period before from what was open at its beginning."""
    start = to_day_number(origin) - horizon
    opened = pl.min_horizontal(pl.col("^day_.*$")) <= start
    settled = (pl.col("won") <= start) | (pl.col("lost") <= start)
    open_then = whole.filter(opened & ~settled.fill_null(False))
    if open_then.is_empty():
        return None
    return float(open_then.filter(pl.col("won").is_between(start + 1, start + horizon)).height)


def _check_horizon(horizon_days: int) -> None:
    if horizon_days < 1:
        raise InputError(
            f"A forecast for {horizon_days} days was asked for. It needs at least one: try 90."
        )


# Count ------------------------------------------------------------------------------------


def _known_by(whole: pl.DataFrame, day: date) -> pl.DataFrame:
    """Return what was known at the end of an earlier day."""
    last = to_day_number(day)
    days = pl.col("^(day_.*|won|lost)$")
    earlier = whole.with_columns(pl.when(days <= last).then(days))
    return earlier.filter(pl.any_horizontal(days.is_not_null()))


def _stays(reached: pl.DataFrame, columns: StageColumns, as_of: date) -> tuple[Stays, pl.DataFrame]:
    """Turn days reached into stays in stages; and say where each open opportunity is."""
    n_steps, last = len(columns.steps), to_day_number(as_of)
    days = reached.select(f"day_{i}" for i in range(n_steps)).to_numpy().astype(np.float64)
    won = reached["won"].cast(pl.Float64).to_numpy()
    lost = reached["lost"].cast(pl.Float64).to_numpy()
    end = np.fmin(np.fmin(won, lost), np.inf)
    end = np.where(np.isnan(end), np.inf, end)
    # A stage entered before an earlier one, or after the end, is no step forward.
    days = np.where(days <= end[:, None], days, np.nan)
    state, length, to, unit = [], [], [], []
    ended = np.where(won <= np.where(np.isnan(lost), np.inf, lost), n_steps, n_steps + 1)
    next_state = np.where(np.isfinite(end), ended, -1)
    moment = np.where(np.isfinite(end), end, np.nan)
    here = np.full(len(days), -1)
    since = np.full(len(days), np.nan)
    for step in range(n_steps - 1, -1, -1):
        day = days[:, step]
        forward = np.isfinite(day) & (day <= np.where(np.isnan(moment), np.inf, moment))
        place = np.flatnonzero(forward)
        stop = np.where(np.isnan(moment), last, moment)
        state.append(np.full(len(place), step))
        length.append((stop - day)[place].astype(np.int64))
        to.append(next_state[place])
        unit.append(place)
        fresh = forward & (here < 0) & (next_state == -1)
        here, since = np.where(fresh, step, here), np.where(fresh, day, since)
        next_state = np.where(forward, step, next_state)
        moment = np.where(forward, day, moment)
    stays = Stays(*(np.concatenate(part).astype(np.int64) for part in (state, length, to, unit)))
    is_open = here >= 0
    now = reached.select(*keys_of(columns.by), "unit").with_columns(
        state=pl.Series(here), age=pl.Series(np.where(is_open, last - since, 0).astype(np.int64))
    )
    return stays, now.filter(pl.Series(is_open))


# Estimate ---------------------------------------------------------------------------------


def _forecast(
    reached: pl.DataFrame, columns: StageColumns, horizon: int, as_of: date, conf_level: float
) -> PipelineForecast:
    stays, open_now = _stays(reached, columns, as_of)
    keys = keys_of(columns.by)
    cells = open_now.group_by([*keys, "state", "age"]).agg(pl.len().alias("n"))
    cells = cells.sort([*keys, "state", "age"], nulls_last=True)
    known = bool((stays.to >= len(columns.steps)).any())
    chance, parts = _chances(stays, cells, len(columns.steps), horizon)
    by_stage = _sums(cells, chance, parts, [*keys, "state"], conf_level, known=known)
    totals = _sums(cells, chance, parts, list(keys), conf_level, known=known)
    named = dict(zip(keys, columns.by, strict=True))
    notes = _notes(open_now, known=known)
    facts: dict[str, Any] = {
        "name": _("Contracts expected within {when}", when=duration_text(horizon, "day")),
        "unit": "number",
        "definition": _(
            "Open on {as_of}, each with the chance of a contract within {when} that leads "
            "had which had been in the same stage for as many days.",
            as_of=date_text(as_of),
            when=duration_text(horizon, "day"),
        ),
        "conf_level": conf_level,
        "notes": notes,
    }
    steps = dict(enumerate(columns.steps))
    stages = by_stage.with_columns(
        pl.col("state").replace_strict(steps, return_dtype=pl.String).alias("stage")
    )
    table = stages.drop("state").rename(named)
    table = table.select(*columns.by, "stage", pl.exclude(*columns.by, "stage"))
    whole = _Expected(
        table=totals.rename(named), by=columns.by, key="pipeline_contracts",
        **facts | {"unit": "count"},
    )  # fmt: skip
    return PipelineForecast(table=table, by=(*columns.by, "stage"), all_stages=whole, **facts)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Expected(Estimates):
    def value_text(self, row: Any) -> str:
        if row["conf_low"] is None:
            return super().value_text(row)
        return _(
            "{value} ({level} prediction interval {interval}; {n} open)",
            value=number(row["estimate"]),
            level=percent(self.conf_level, 0),
            interval=interval_text(row["conf_low"], row["conf_high"], "count"),
            n=number(row["n"]),
        )

    def units(self) -> dict[str, Any]:
        return super().units() | {"mean_chance": "share", "median_age_days": "days"}


def _chances(
    stays: Stays, cells: pl.DataFrame, n_steps: int, horizon: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each cell's chance of a contract, and the same without each part of the past."""
    state = cells["state"].to_numpy().astype(np.int64)
    age = cells["age"].to_numpy().astype(np.int64)
    reward = np.zeros(n_steps + 2)
    reward[n_steps] = 1.0

    chance = expected(
        stays, reward, state, age, n_states=n_steps, last_day=_LONGEST_DAYS, parts=_PARTS,
        horizon=horizon, every=horizon,
    )[:, :, 0]  # fmt: skip
    return chance[0], chance[1:]


def _sums(
    cells: pl.DataFrame,
    chance: NDArray[Any],
    without: NDArray[Any],
    keys: list[str],
    conf_level: float,
    *,
    known: bool,
) -> pl.DataFrame:
    numbered = cells.with_row_index("place")
    groups = (
        numbered.partition_by(keys, maintain_order=True) if keys and cells.height else [numbered]
    )
    rows = []
    for part in groups:
        place, n = part["place"].to_numpy(), part["n"].to_numpy().astype(float)
        expected = float(n @ chance[place])
        scatter = float(n @ (chance[place] * (1 - chance[place])))
        drawn = without[:, place] @ n
        unsure = (_PARTS - 1) / _PARTS * float(np.sum((drawn - drawn.mean()) ** 2))
        error = float(np.sqrt(scatter + unsure))
        total = float(n.sum())
        sure = known and total > 0
        low, high = count_bounds(expected, scatter + unsure, conf_level)
        bounds = (expected, error, float(low), min(float(high), total))
        values = bounds if sure else (np.nan,) * 4
        five = five_columns([total], *([value] for value in values))
        facts = {
            "mean_chance": [expected / total if sure else None],
            "median_age_days": [_weighted_median(part["age"].to_numpy(), n)],
        }
        row = pl.DataFrame(five).with_columns(
            **{name: pl.Series(value, dtype=pl.Float64) for name, value in facts.items()}
        )
        rows.append(part.select(keys).head(1).join(row, how="cross") if keys else row)
    return pl.concat(rows)


def _weighted_median(values: NDArray[Any], weights: NDArray[Any]) -> float | None:
    if not len(values):
        return None
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])


def _notes(open_now: pl.DataFrame, *, known: bool) -> tuple[str, ...]:
    if open_now.is_empty():
        return (_("Nothing is open: there is nothing to forecast."),)
    if not known:
        return (_("No lead has come to an end yet: chances are not known."),)
    notes: tuple[str, ...] = (
        _("It holds if the coming weeks are like the past; leads not opened yet are not in it."),
    )  # fmt: skip
    return notes + small_n_notes(pl.DataFrame({"n": [open_now.height]}), (), what=_("open leads"))
