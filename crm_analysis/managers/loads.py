"""Who gets the leads and who has how many open: is the work shared evenly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from scipy import special

from crm_analysis.changes import least_size
from crm_analysis.estimates import Estimates, five_columns, group_label, share_columns
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
from crm_analysis.uncertainty import exact_rate_interval
from crm_analysis.wording import _, date_text, number, percent

__all__ = ["TrafficDistribution", "traffic_distribution", "workload"]

LEAST_EXPECTED = 5
"""Leads that each must have been expected to get before the chi-squared test is believed."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TrafficDistribution(Estimates):
    """Who gets which share of the leads, against their share of the days on duty.

    Attributes
    ----------
    p_value : float or None
        How surprising the differences were if leads fell to whoever was on duty.
    gini : float or None
        Unevenness of leads a day on duty, from 0 (all alike) to nearly 1 (one gets all).
    expected_gini : float or None
        What chance alone would make of it.
    """

    p_value: float | None = None
    gini: float | None = None
    expected_gini: float | None = None

    def difference_p_value(self) -> float | None:
        """Return the p-value of the chi-squared test."""
        return self.p_value

    def sentence(self) -> str:
        """Say whether leads are shared evenly, and who gets most of them."""
        known = self.table.drop_nulls("ratio").sort("ratio", *self.by)
        if known.height < 2:
            return _("{name}: nothing can be said in any group.", name=self.name)
        if self.p_value is None or self.p_value >= 1 - self.conf_level:
            return _(
                "{n} managers get leads as their days on duty say; no unevenness is established "
                "(p = {p}).",
                n=number(known.height),
                p=number(self.p_value, 2) if self.p_value is not None else "–",
            )  # fmt: skip
        low, high = known.row(0, named=True), known.row(-1, named=True)
        return _(
            "Leads are not shared by days on duty: {high} gets {most} of an even share, {low} "
            "{least} (Gini {gini}, by chance {chance}).",
            high=group_label(high, self.by), most=percent(high["ratio"], 0),
            low=group_label(low, self.by), least=percent(low["ratio"], 0),
            gini=number(self.gini, 2), chance=number(self.expected_gini, 2),
        )  # fmt: skip

    def importance(self) -> float:
        """Return how far at least somebody is from an even share, where one is not kept."""
        if self.p_value is None or self.p_value >= 1 - self.conf_level:
            return 0.0
        known = self.table.drop_nulls(["ratio", "ratio_low", "ratio_high"])
        rows = known.select("ratio", "ratio_low", "ratio_high").iter_rows()
        return max((least_size(low - 1, high - 1, value=v) for v, low, high in rows), default=0.0)

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        shares = dict.fromkeys(("even_share", "ratio", "ratio_low", "ratio_high"), "share")
        return super().units() | shares | {"days": "count"}


def traffic_distribution(
    loads: object,
    *,
    manager_col: str | Sequence[str] = "manager_id",
    leads_col: str = "n_leads",
    days_col: str = "days_on_duty",
    within: str | Sequence[str] = "dealership_id",
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TrafficDistribution:
    r"""Do managers get leads as their days on duty say (shares, chi-squared, Gini).

    Parameters
    ----------
    loads : table
        One row per manager, on any backend: see `Warehouse.manager_loads`.
    manager_col : str or sequence of str
        Who.
    leads_col, days_col : str
        Leads they got, and days on duty in the same period.
    within : str or sequence of str
        Whose leads could have been theirs: managers share those of their own dealership. Empty:
        all together.
    as_of : date
        Last day of the period.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TrafficDistribution
        Manager columns, ``n_yes`` (leads got), ``days``, ``even_share`` (by days on duty), ``n``
        (leads of the team), ``estimate`` (share got), ``std_error``, ``conf_low``, ``conf_high``,
        ``ratio`` (got by expected) with ``ratio_low`` and ``ratio_high`` (exact Poisson).

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    .. math:: X^2 = \sum_i \frac{(O_i - E_i)^2}{E_i}, \qquad E_i = N \frac{d_i}{\sum d}

    on as many degrees of freedom as managers less teams. The Gini is of leads a day, weighted by
    days; what chance makes of it is the mean over 200 draws of the same leads shared evenly.
    """
    teams = group_names(within) if within else ()
    extra = ("n_yes", "days", "even_share", "ratio", "ratio_low", "ratio_high")
    names = group_names(manager_col, taken=extra)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "leads": Asked(leads_col, "number", "leads_col"),
        "days": Asked(days_col, "number", "days_col"),
    }
    hidden = tuple(name for name in teams if name not in names)
    keys = (*names, *hidden)
    rows = collect(open_table(loads, asked, by=keys), by=keys, order=["leads"])
    rows = rows.filter(pl.col("days") > 0)
    sums = [pl.col(name).sum() for name in ("leads", "days")]
    team_leads, team_days = (total.over(teams) if teams else total for total in sums)
    rows = rows.with_columns(
        team_leads.alias("team"), (pl.col("days") / team_days).alias("even_share")
    )
    p_value, gini, chance = _evenness(rows, teams)
    table = _shares(rows, names, conf_level)
    return TrafficDistribution(
        table=table, name=_("Share of the team's leads"), unit="share",
        definition=_(
            "Share of the leads of a team up to {as_of} that went to a manager, beside the "
            "manager's share of the team's days on duty.",
            as_of=date_text(as_of),
        ),
        by=names, conf_level=conf_level, p_value=p_value, gini=gini, expected_gini=chance,
        notes=_few(rows),
    )  # fmt: skip


def _few(rows: pl.DataFrame) -> tuple[str, ...]:
    few = rows.filter(pl.col("team") * pl.col("even_share") < LEAST_EXPECTED).height
    if not few:
        return ()
    return (
        _("{n} managers were to get fewer than {least} leads; they are left out of the test.",
          n=number(few), least=number(LEAST_EXPECTED)),
    )  # fmt: skip


def _shares(rows: pl.DataFrame, names: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    leads, team = rows["leads"].to_numpy(), rows["team"].to_numpy()
    expected = team * rows["even_share"].to_numpy()
    low, high = exact_rate_interval(leads, expected, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = leads / expected
    sides = {"ratio": ratio, "ratio_low": low, "ratio_high": high}
    table = rows.select(
        *names, pl.col("leads").cast(pl.Int64).alias("n_yes"), "days", "even_share",
        **share_columns(leads, team, conf_level),
        **{k: pl.Series(v, dtype=pl.Float64).fill_nan(None) for k, v in sides.items()},
    )  # fmt: skip
    return table.sort("ratio", *names, descending=[True, *([False] * len(names))], nulls_last=True)


def _evenness(
    rows: pl.DataFrame, teams: tuple[str, ...]
) -> tuple[float | None, float | None, float | None]:
    """Return the p-value of the chi-squared test, the Gini, and the Gini of an even sharing."""
    usable = rows.filter(pl.col("team") * pl.col("even_share") >= LEAST_EXPECTED)
    if usable.height < 2:
        return None, None, None
    freedom, statistic = 0, 0.0
    parts = usable.partition_by(teams, maintain_order=True) if teams else [usable]
    rng = np.random.default_rng(0)
    drawn = []
    for part in parts:
        got, days = part["leads"].to_numpy(), part["days"].to_numpy()
        expected = got.sum() * days / days.sum()
        statistic += float(np.sum((got - expected) ** 2 / expected))
        freedom += part.height - 1
        drawn.append(rng.multinomial(int(got.sum()), days / days.sum(), 200))
    # Leads a day differ between teams by how many come at all: only the ratio to the even share
    # is unevenness within one.
    usable = pl.concat(parts)
    even = (usable["team"] * usable["even_share"]).to_numpy()
    gini = _gini(usable["leads"].to_numpy(), even)
    chance = float(np.mean([_gini(draw, even) for draw in np.hstack(drawn)]))
    p_value = float(special.chdtrc(freedom, statistic)) if freedom else None
    return p_value, gini, chance


def _gini(got: Any, even: Any) -> float:
    """Return the Gini of `got` by `even`, weighted by `even`: mean difference by twice the mean."""
    ratio, weight = got / even, even / np.sum(even)
    mean = float(np.sum(weight * ratio))
    if mean == 0:
        return 0.0
    apart = np.abs(ratio[:, None] - ratio[None, :])
    return float(np.sum(weight[:, None] * weight[None, :] * apart) / (2 * mean))


def workload(
    loads: object,
    *,
    open_col: str = "n_open",
    present_col: str = "is_present",
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "poisson",
) -> Estimates:
    """How many open leads does a manager have in hand (a stock, exact Poisson).

    Parameters
    ----------
    loads : table
        One row per manager, on any backend: see `Warehouse.manager_loads`.
    open_col, present_col : str
        Leads open at the end of `as_of`, and whether the manager still worked then. Leads of those
        who have left wait for a new owner: they are noted.
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"poisson"}
        What another day of the same flow might show.

    Returns
    -------
    Estimates
        Columns of `by`, ``n_open``, ``n`` (managers at work), ``estimate`` (open leads each),
        ``std_error``, ``conf_low``, ``conf_high``; null where nobody is at work.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.
    """
    by = group_names(by, taken=("n_open", "k"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("poisson",))
    asked = {
        "open": Asked(open_col, "number", "open_col"),
        "present": Asked(present_col, "flag", "present_col"),
    }
    frame = open_table(loads, asked, by=by).with_columns(
        nw.when(nw.col("present")).then(nw.lit(1)).otherwise(nw.lit(0)).alias("k"),
        nw.when(nw.col("present")).then(nw.col("open")).otherwise(nw.lit(0.0)).alias("n_open"),
        nw.when(~nw.col("present")).then(nw.col("open")).otherwise(nw.lit(0.0)).alias("left"),
    )
    sums = tuple(nw.col(name).sum() for name in ("k", "n_open", "left"))
    counted = (
        collect(frame.group_by(*keys_of(by)).agg(*sums), by=by) if by
        else collect(frame.select(*sums)).with_columns(pl.all().fill_null(0))
    )  # fmt: skip
    leads, staff = (counted[name].to_numpy().astype(float) for name in ("n_open", "k"))
    low, high = exact_rate_interval(leads, staff, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, error = leads / staff, np.sqrt(leads) / staff
    table = counted.select(
        *by, pl.col("n_open").cast(pl.Int64), **five_columns(staff, mean, error, low, high)
    )
    left = int(counted["left"].sum())
    notes = (_("{n} open leads belong to managers who have left.", n=number(left)),) if left else ()
    return Estimates(
        table=table, name=_("Open leads per manager"), unit="number",
        definition=_(
            "Leads open at the end of {as_of} by managers at work that day.",
            as_of=date_text(as_of),
        ),
        by=by, conf_level=conf_level, notes=notes, key="open_leads_per_manager",
    )  # fmt: skip
