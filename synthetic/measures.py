"""Values measured in a data set, each with its count and standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

Tables = Mapping[str, pl.LazyFrame]

YEAR = 365.25


@dataclass(frozen=True)
class Seen:
    """One measured value.

    Attributes
    ----------
    stratum : str
        What it is about; ``"all"`` for the whole.
    value : float
        The value.
    n : int
        Rows it rests on.
    std_error : float
        Its standard error, zero where it is not a sample.
    """

    stratum: str
    value: float
    n: int
    std_error: float = 0.0


@dataclass(frozen=True)
class World:
    """Tables with what must be known to measure them."""

    tables: Tables
    as_of: date
    currency: str
    defects: str = "none"

    def read(self, name: str, *columns: str) -> pl.DataFrame:
        """Return some columns of a table."""
        return self.tables[name].select(columns).collect()


def number_of(value: Any) -> float:
    """Return an aggregate as a number, NaN where there was nothing to aggregate."""
    return math.nan if value is None else float(value)


def share_of(stratum: str, part: int, whole: int) -> Iterator[Seen]:
    """Measure a share, with its binomial standard error."""
    if whole:
        p = part / whole
        yield Seen(stratum, p, whole, math.sqrt(p * (1 - p) / whole))


def ratio_of(stratum: str, top: pl.Series, bottom: pl.Series) -> Iterator[Seen]:
    """Measure a ratio of sums, with the standard error of a ratio estimator."""
    x, y = top.to_numpy().astype(np.float64), bottom.to_numpy().astype(np.float64)
    if len(x) > 1 and y.sum():
        ratio = x.sum() / y.sum()
        spread = math.sqrt(((x - ratio * y) ** 2).sum() / (len(x) - 1))
        yield Seen(stratum, float(ratio), len(x), spread / math.sqrt(len(x)) / float(y.mean()))


def median_of(stratum: str, values: pl.Series) -> Iterator[Seen]:
    """Measure a median; its standard error comes from the order statistics beside it."""
    if len(values) < 4:
        return
    x = np.sort(values.to_numpy().astype(np.float64))
    n = len(x)
    half = math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    yield Seen(stratum, float(np.median(x)), n, float(x[high] - x[low]) / 2)


def mean_of(stratum: str, values: pl.Series) -> Iterator[Seen]:
    """Measure a mean."""
    if len(values) > 1:
        spread = number_of(values.std())
        yield Seen(stratum, number_of(values.mean()), len(values), spread / math.sqrt(len(values)))
