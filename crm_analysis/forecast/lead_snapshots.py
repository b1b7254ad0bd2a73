"""What was known of each open lead on evenings of the past, and what came of it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crm_analysis.forecast.reached import StageColumns
from crm_analysis.frames import keys_of

__all__ = ["PER", "Factors", "evenings", "learn_factors", "snapshots", "suspect_values"]

Floats = NDArray[np.float64]

PER = 60
"""Moments are read to the minute."""

_DAY = 24 * 60
_FEWEST = 5
"""Won, and not won, below which a value has no odds of its own."""

VALUES = ("days_open", "days_in_stage", "hours_to_answer", "passed")
"""Factors as codes."""

NUMBERS = VALUES[:3]
"""Counted from the events, as the binary logarithm of one more: odds are those of a doubling."""


def evenings(reached: pl.DataFrame, since: int | None, as_of: int, spacing: int) -> list[int]:
    """Return the days of snapshots, `spacing` apart and the last of them `as_of`."""
    first = reached.select(pl.min_horizontal(pl.col("^day_.*$").min())).item()
    if first is None:
        return [as_of]
    start = first // _DAY if since is None else max(since, first // _DAY)
    return list(range(as_of, start - 1, -spacing))[::-1]


def snapshots(
    reached: pl.DataFrame,
    columns: StageColumns,
    days: Sequence[int],
    horizon_days: int,
    as_of: int,
) -> pl.DataFrame:
    """Return one row for each evening and lead open on it: what was known, and whether it won.

    Nothing after the evening enters but ``won``, which is null where the horizon is not over.
    """
    times = reached.select(f"day_{i}" for i in range(len(columns.steps))).to_numpy().astype(float)
    ends = np.stack([reached[name].cast(pl.Float64).to_numpy() for name in ("won", "lost")])
    open_on = [_open_on(times, ends, (day + 1) * _DAY) for day in days]
    place = np.concatenate([np.flatnonzero(here) for here in open_on])
    day = np.repeat(np.asarray(days, np.int64), [int(here.sum()) for here in open_on])
    midnight = (day + 1) * _DAY
    known = times[place] < midnight[:, None]
    seen = np.where(known, times[place], np.nan)
    furthest = known.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    numbers = {
        "days_open": (midnight - np.fmin.reduce(seen, axis=1)) / _DAY,
        "days_in_stage": (midnight - seen[np.arange(len(place)), furthest]) / _DAY,
        "hours_to_answer": _hours_to_answer(seen),
    }
    won = pl.Series("won", ends[0, place] < midnight + horizon_days * _DAY)
    return reached.select("unit", *keys_of(columns.by))[place].with_columns(
        pl.Series("day", day),
        pl.Series("stage", columns.steps, pl.String).gather(furthest),
        *(pl.Series(name, np.log2(1 + value)) for name, value in numbers.items()),
        *(pl.Series(f"had_{i}", known[:, i]) for i in range(len(columns.steps))),
        # What is not over is not known.
        pl.when(pl.Series(day + horizon_days <= as_of)).then(won).alias("won"),
    )


def _open_on(times: Floats, ends: Floats, midnight: int) -> NDArray[np.bool_]:
    """Tell which leads have come by a midnight, and have not ended."""
    return np.asarray((times < midnight).any(axis=1) & ~(ends < midnight).any(axis=0))


def _hours_to_answer(seen: Floats) -> Floats:
    """Return hours from the first stage to the second; 0 where there was no second yet."""
    if seen.shape[1] < 2:
        return np.zeros(len(seen))
    hours = (seen[:, 1] - seen[:, 0]) / 60
    return np.maximum(np.nan_to_num(hours), 0.0)


@dataclass(frozen=True)
class Factors:
    """What a score is made of, as the snapshots that teach it allow.

    Attributes
    ----------
    numbers : tuple of str
        Columns of `NUMBERS` that vary.
    skipped : dict of str to str
        Columns that say whether a stage was passed which some leave out, and that stage.
    values : dict of str to tuple of str
        Of each column of categories the values with odds of their own. All others, those that
        come up later among them, are taken together.
    """

    numbers: tuple[str, ...]
    skipped: dict[str, str]
    values: dict[str, tuple[str, ...]]

    def design(self, frame: pl.DataFrame) -> Floats:
        """Return the traits of each snapshot in the order of `names`."""
        exprs = [pl.col(name) for name in self.numbers]
        exprs += [pl.col(name).cast(pl.Float64) for name in self.skipped]
        exprs += [
            (_text(name) == value).cast(pl.Float64).alias(f"{name}={value}")
            for name, values in self.values.items()
            for value in values
        ]
        out = frame.select(exprs).to_numpy().astype(np.float64)
        return out.reshape(frame.height, len(exprs))

    def names(self) -> list[tuple[str, str | None]]:
        """Return factor and value of each column of the design; no value for a number."""
        plain: list[tuple[str, str | None]] = [(name, None) for name in self.numbers]
        plain += [("passed", step) for step in self.skipped.values()]
        groups = [(name, v) for name, values in self.values.items() for v in values]
        return plain + [(name.removeprefix("by_"), v) for name, v in groups]


_NULL = "unknown"


def _text(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String).fill_null(_NULL)


def learn_factors(teach: pl.DataFrame, columns: StageColumns) -> Factors:
    """Say what a score can be made of: what varies, and is met with and without a contract."""
    numbers = tuple(name for name in NUMBERS if teach[name].n_unique() > 1)
    order = {step: i for i, step in enumerate(columns.steps)}
    place = teach["stage"].replace_strict(order, return_dtype=pl.Int64)
    skipped = {
        f"had_{i}": step
        for i, step in enumerate(columns.steps)
        if 0 < i < len(columns.steps) - 1 and _tells(teach.filter(place > i), f"had_{i}")
    }
    names = ("stage", *keys_of(columns.by))
    return Factors(numbers, skipped, {name: _values(teach, name) for name in names})


def _tells(beyond: pl.DataFrame, name: str) -> bool:
    """Whether a stage was passed by some, left out by some, and each kind won and did not win."""
    counts = beyond.group_by(name, "won").len()["len"].to_list()
    return len(counts) == 4 and min(counts) >= _FEWEST


def _values(teach: pl.DataFrame, name: str) -> tuple[str, ...]:
    """Return the values with odds of their own, but for the most frequent: the others' measure."""
    counts = _counts(teach, name)
    rare = (pl.col("k") < _FEWEST) | (pl.col("n") - pl.col("k") < _FEWEST)
    known = counts.filter(~rare)
    if known.is_empty():
        return ()
    rest = counts.filter(rare).select(pl.col("n", "k").sum()).row(0)
    # Rare values together are the measure where they can be; else the most frequent value is.
    if min(rest[1], rest[0] - rest[1]) < _FEWEST:
        known = known.slice(1)
    return tuple(known["value"])


def _counts(teach: pl.DataFrame, name: str) -> pl.DataFrame:
    return (
        teach.group_by(_text(name).alias("value"))
        .agg(pl.len().alias("n"), pl.col("won").cast(pl.Int64).sum().alias("k"))
        .sort("n", "value", descending=[True, False])
    )


def suspect_values(teach: pl.DataFrame, columns: StageColumns) -> list[tuple[str, str]]:
    """Return values of traits that all or none of many won: as if written down afterwards."""
    won = teach["won"].cast(pl.Float64).to_numpy()
    mean = float(won.mean()) if len(won) else 0.0
    found = []
    for name, column in zip(keys_of(columns.by), columns.by, strict=True):
        for value, n, k in _counts(teach, name).iter_rows():
            none, every = k == 0 and n * mean > _SURPRISE, k == n and n * (1 - mean) > _SURPRISE
            if none or every:
                found.append((column, value))
    return found


_SURPRISE = 10
"""Expected contracts at which none at all is no chance any more: once in 20,000 (Poisson)."""
