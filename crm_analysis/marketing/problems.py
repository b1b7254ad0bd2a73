"""Where it goes worse than elsewhere, of all that was looked at, without crying wolf."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import special

from crm_analysis.errors import InputError, listed, near
from crm_analysis.estimates import Estimates, five_columns, group_label
from crm_analysis.frames import check_conf_level
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, number, percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Problems", "benjamini_hochberg", "problem_finder"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Problems(Estimates):
    """Groups that are worse than the others, the surest first.

    Attributes
    ----------
    n_compared : int
        How many groups of all figures were compared.
    """

    n_compared: int

    def sentence(self) -> str:
        """Name the surest problem, or say that nothing stands out."""
        if self.table.is_empty():
            return _("No group stands out below the others ({n} compared).",
                     n=number(self.n_compared))  # fmt: skip
        row = self.table.row(0, named=True)
        return _(
            "{k} of {n} groups compared are worse than the others; the surest: {measure}, {group}.",
            k=number(self.table.height), n=number(self.n_compared), measure=row["measure"],
            group=row["group"],
        )  # fmt: skip

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"p_value": "number", "q_value": "number"}


def problem_finder(
    results: Sequence[Estimates],
    *,
    high_is_bad: Collection[str] = (),
    false_alarms: float = 0.1,
    conf_level: float = 0.95,
) -> Problems:
    """Which groups are worse than the others, of all figures together (Benjamini-Hochberg).

    Parameters
    ----------
    results : sequence of Estimates
        Figures by group, each with standard errors; rows without one are not compared.
    high_is_bad : collection of str
        Names of the figures of which more is worse, such as waiting times.
    false_alarms : float
        Share of false alarms to be expected among the groups that are named.
    conf_level : float

    Returns
    -------
    Problems
        ``measure``, ``group``, ``value`` and ``others`` (in the figure's own unit), ``n``,
        ``estimate`` (the difference), ``std_error``, ``conf_low``, ``conf_high``, ``p_value`` (one
        side) and ``q_value``: only the groups that are named, the surest first. Figures of several
        units stand in one table, so numbers are written plainly.

    Raises
    ------
    InputError
        A name in `high_is_bad` that no figure has, or a share outside (0, 1).

    References
    ----------
    Benjamini & Hochberg (1995), JRSS B 57:289-300.
    """
    conf_level = check_conf_level(conf_level)
    known = [result.name for result in results]
    for name in high_is_bad:
        if name not in known:
            raise InputError(
                f"high_is_bad names {name!r}{near(name, known)}; the figures are: {listed(known)}."
            )
    if not 0 < false_alarms < 1:
        raise InputError(f"'false_alarms' lies between 0 and 1; got {false_alarms}. Pass 0.1.")
    rows = [row for result in results for row in _against(result, result.name in high_is_bad)]
    columns = ("measure", "group", "value", "others", "n", "difference", "error", "p_value")
    table = pl.DataFrame(rows, schema=dict(zip(columns, _KINDS, strict=True)), orient="row")
    table = table.with_columns(
        q_value=pl.Series(benjamini_hochberg(table["p_value"].to_numpy()), dtype=pl.Float64)
    )
    worse = table.filter(pl.col("q_value") <= false_alarms).sort("p_value", maintain_order=True)
    gap, error = (worse[name].to_numpy() for name in ("difference", "error"))
    half = normal_quantile(conf_level) * error
    five = five_columns(worse["n"], gap, error, gap - half, gap + half)
    return Problems(
        table=worse.select("measure", "group", "value", "others").with_columns(
            **five, p_value=worse["p_value"], q_value=worse["q_value"]
        ),
        name=_("Where it goes worse than elsewhere"),
        unit="number",
        definition=_(
            "Each group against the others of its figure, weighted by how well they are known; of "
            "the groups named, at most {rate} are expected to be false alarms.",
            rate=percent(false_alarms, 0),
        ),
        by=("measure", "group"),
        conf_level=conf_level,
        n_compared=table.height,
    )


_KINDS = (pl.String, pl.String, pl.Float64, pl.Float64, pl.Int64, *(pl.Float64,) * 3)


def _against(result: Estimates, high_is_bad: bool) -> list[tuple[Any, ...]]:
    """Compare each group with the mean of the others, weighted by their variances."""
    table = result.table.filter(pl.col("std_error") > 0).drop_nulls("estimate")
    if table.height < 2:
        return []
    value, error = (table[name].to_numpy() for name in ("estimate", "std_error"))
    weight = 1 / error**2
    rest = weight.sum() - weight
    others = ((weight * value).sum() - weight * value) / rest
    gap = value - others
    spread = np.sqrt(error**2 + 1 / rest)
    p = special.ndtr(-gap / spread if high_is_bad else gap / spread)
    return [
        (result.name, group_label(row, result.by), value[i], others[i], row["n"], gap[i],
         spread[i], p[i])
        for i, row in enumerate(table.to_dicts())
    ]  # fmt: skip


def benjamini_hochberg(p_values: NDArray[Any]) -> NDArray[Any]:
    """Return q-values: the least false discovery rate at which each would be named.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return out
