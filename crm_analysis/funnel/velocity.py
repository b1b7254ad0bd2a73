"""How much money the pipeline brings in a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, ClassVar

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    check_whole,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.funnel.lead_events import last_second
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, amount, date_text, number, percent, plural

__all__ = ["PipelineVelocity", "pipeline_velocity"]


_TAKEN = (
    "n_open", "n_fresh", "n_won", "win_rate", "mean_margin", "cycle_days", "lead_days", "classic",
    "classic_low", "classic_high",
)  # fmt: skip
_CLASSIC = ("classic", "classic_low", "classic_high")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PipelineVelocity(Estimates):
    """Money a day, and the four figures that make it; see `pipeline_velocity`."""

    columns_with_unit: ClassVar[tuple[str, ...]] = (*Estimates.columns_with_unit, *_CLASSIC)

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        counts = dict.fromkeys(("n_open", "n_fresh", "n_won"), "count")
        days = dict.fromkeys(("cycle_days", "lead_days"), "days")
        return super().units() | counts | days | {"win_rate": "share", "mean_margin": "money"}

    def sentence(self) -> str:
        """Return the velocity with what it is made of, and what the usual formula makes of it."""
        if self.by or self.table.height != 1 or self.table["estimate"][0] is None:
            return super().sentence()
        row = self.table.row(0, named=True)
        return _(
            "{name}: {value}, from {n} leads in work, {rate} of which are won at {margin} a sale, "
            "after {days} in work, won or not. The usual formula, in which every lead takes the "
            "{cycle} of those won, says {classic} ({low} to {high}).",
            name=self.name, value=self.value_text(row), n=number(row["n_fresh"]),
            rate=percent(row["win_rate"]), margin=self._money(row["mean_margin"]),
            days=_days(row["lead_days"]), cycle=_days(row["cycle_days"]),
            classic=self._money(row["classic"]), low=self._money(row["classic_low"]),
            high=self._money(row["classic_high"]),
        )  # fmt: skip

    def _money(self, value: float | None) -> str:
        return amount(value, "money", currency=self.currency)


def _days(days: float) -> str:
    return plural(round(days), "{n} day", "{n} days")


def pipeline_velocity(
    leads: object,
    *,
    opened_col: str = "opened_at",
    won_col: str = "won_at",
    closed_col: str = "closed_at",
    margin_col: str = "margin",
    within_days: int = 90,
    since: date | None = None,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "delta",
) -> PipelineVelocity:
    r"""How much margin does the pipeline bring in a day (leads in work x margin per day of work).

    .. math:: V = n_{fresh} \frac{\sum m}{\sum t}, \qquad
              V_{classic} = n_{open} \cdot \frac{k}{n} \cdot \frac{\sum m}{k} \cdot \frac{k}{\sum d}

    Margin m and time t are of the leads opened since `since` and at least `within_days` before
    `as_of`: what those won within the days brought, over the days that all of them were in work,
    won, lost or still open, each for no longer than `within_days`; :math:`n_{fresh}` are the leads
    now in work for no longer. By Little's law V is the flow of margin where the pipeline is neither
    filling nor emptying, however long lost leads linger. The usual formula puts the days d of the
    k that were won in place of all leads' time: it is the flow only where lost leads are closed as
    fast as the others are won, and says more than comes in where they linger.

    Parameters
    ----------
    leads : table
        One row per lead, on any backend.
    opened_col, won_col, closed_col : str
        Columns of the moments of opening, winning and closing; null where it has not come.
    margin_col : str
        Column of the margin of the sale that came of it; null where there is none yet. A sale
        whose margin is null counts as won, at the mean margin of the others.
    within_days : int
        Whole days that a lead is given.
    since : date, optional
        First day of opening of the leads that say how they go.
    currency : str, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"delta"}
        Intervals on the log scale from the variance between leads; how many are open is known,
        and has none.

    Returns
    -------
    PipelineVelocity
        Per group ``n_open`` (open on `as_of`), ``n_fresh`` (for no longer than `within_days`),
        ``n`` (leads that say how they go), ``n_won``, ``win_rate``, ``mean_margin``,
        ``cycle_days`` (mean, of those won), ``lead_days`` (mean days in work, of all),
        ``estimate`` (money a day), ``std_error``, ``conf_low``, ``conf_high``, and by the usual
        formula ``classic``, ``classic_low``, ``classic_high``. Null where none was won or the
        margin is not above 0 for the interval.

    Raises
    ------
    InputError
        `within_days` that is no whole number above 0, dates that are none.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    References
    ----------
    Little (1961), Operations Research 9:383-387.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> leads = pl.DataFrame({
    ...     "opened_at": [date(2026, 1, 1)] * 4 + [date(2026, 5, 1)] * 10,
    ...     "won_at": [date(2026, 1, 11), date(2026, 1, 31)] + [None] * 12,
    ...     "closed_at": [date(2026, 2, 1)] * 4 + [None] * 10,
    ...     "margin": [1000, 3000] + [None] * 12,
    ... })
    >>> velocity = pipeline_velocity(leads, as_of=date(2026, 5, 31))
    >>> asked = ("lead_days", "cycle_days", "estimate", "classic")
    >>> velocity.table.select(pl.col(asked).round(1)).row(0)
    (25.5, 20.0, 392.2, 500.0)
    """
    within_days = check_whole("within_days", within_days)
    check_one_of("ci_method", ci_method, ("delta",))
    as_of, by = check_as_of(as_of), group_names(by, taken=_TAKEN)
    since = None if since is None else check_since(since, as_of)
    conf_level = check_conf_level(conf_level)
    asked = {
        "opened": Asked(opened_col, "moment", "opened_col"),
        "won": Asked(won_col, "moment", "won_col", nullable=True),
        "closed": Asked(closed_col, "moment", "closed_col", nullable=True),
        "margin": Asked(margin_col, "number", "margin_col", nullable=True),
    }
    sums = _sums(open_table(leads, asked, by=by), within_days, since, as_of, by)
    table = _velocity(sums, by, conf_level)
    return PipelineVelocity(
        table=table,
        name=_("Margin that the pipeline brings a day"),
        unit="money",
        definition=_(
            "Leads in work on {day} for no more than {n} days, times the margin that a day in work "
            "brings: what leads opened{since} and at least {n} days before brought within {n} "
            "days, over the days they were in work, won or not. Beside it the usual formula: open "
            "leads, times share won, times mean margin, over the mean days of those won. Delta "
            "method on the log scale.",
            day=date_text(as_of), n=number(within_days),
            since="" if since is None else " " + _("since {day}", day=date_text(since)),
        ),
        by=by,
        conf_level=conf_level,
        notes=_notes(table, sums, by),
        currency=currency,
        key="pipeline_velocity",
        better="higher",
    )  # fmt: skip


def _sums(
    frame: nw.LazyFrame[Any], within_days: int, since: date | None, as_of: date, by: Sequence[str]
) -> pl.DataFrame:
    """Bring home the sums of won, margin and days, and of their squares and products."""
    end, window = last_second(as_of), within_days * SECONDS_PER_DAY
    first = last_second(since - timedelta(1)) + 1 if since is not None else None
    opened, won, closed = nw.col("opened"), nw.col("won"), nw.col("closed")
    frame = frame.filter(opened <= end).with_columns(
        won.fill_null(end + 1), closed.fill_null(end + 1)
    )
    ripe = (opened + window <= end) if first is None else (
        (opened + window <= end) & (opened >= first)
    )  # fmt: skip
    one, zero, none = nw.lit(1.0), nw.lit(0.0), nw.lit(0)
    still = (won > end) & (closed > end)
    over = nw.when(won < closed).then(won).otherwise(closed)
    frame = frame.with_columns(
        nw.when(still).then(nw.lit(1)).otherwise(none).alias("open"),
        nw.when(still & (opened + window > end)).then(nw.lit(1)).otherwise(none).alias("fresh"),
        nw.when(over - opened < window).then(over - opened).otherwise(nw.lit(window)).alias("work"),
        nw.when(ripe).then(one).otherwise(zero).alias("i"),
        nw.when(ripe & (won <= end) & (won - opened <= window))
        .then(one)
        .otherwise(zero)
        .alias("w"),
    )
    yes, known = nw.col("w") > 0, ~nw.col("margin").is_null()
    frame = frame.with_columns(
        nw.when(yes & known).then(nw.col("margin")).otherwise(zero).alias("m"),
        nw.when(yes & known).then(one).otherwise(zero).alias("p"),
        nw.when(yes).then((won - opened).cast(nw.Float64) / SECONDS_PER_DAY).otherwise(zero)
        .alias("d"),
        (nw.col("i") * nw.col("work").cast(nw.Float64) / SECONDS_PER_DAY).alias("t"),
    )  # fmt: skip
    products = [
        (nw.col(a) * nw.col(b)).sum().alias(f"{a}{b}")
        for i, a in enumerate(_PARTS)
        for b in _PARTS[i:]
    ]
    sums = [
        nw.col("open").sum().alias("n_open"),
        nw.col("fresh").sum().alias("n_fresh"),
        *[nw.col(x).sum() for x in _PARTS],
        *products,
    ]
    if by:
        return collect(frame.group_by(*keys_of(by)).agg(*sums), by=by)
    whole = collect(frame.select(*sums))
    return whole.with_columns(pl.all().fill_null(0))


_PARTS = ("i", "w", "m", "p", "d", "t")
"""Counted, won, margin, margin known, days to the contract and in work: one number each a lead."""


def _velocity(sums: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    names = ("n_open", "n_fresh", *_PARTS)
    total = {name: sums[name].to_numpy().astype(np.float64) for name in names}
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = total["m"] / total["p"]
        parts = {
            "win_rate": total["w"] / total["i"], "mean_margin": margin,
            "cycle_days": total["d"] / total["w"], "lead_days": total["t"] / total["i"],
        }  # fmt: skip
        flow = total["n_fresh"] * total["w"] * margin / total["t"]
        classic = total["n_open"] * parts["win_rate"] * margin / parts["cycle_days"]
    # What is the product of powers of sums has a log that is the sum of theirs, by these factors.
    sound = _bounds(sums, total, flow, {"w": 1, "m": 1, "p": -1, "t": -1}, conf_level)
    usual = _bounds(sums, total, classic, {"w": 2, "m": 1, "p": -1, "d": -1, "i": -1}, conf_level)
    parts |= dict(zip(_CLASSIC, (classic, *usual[1:]), strict=True))
    own = {
        name: pl.Series(np.where(np.isfinite(x), x, np.nan), dtype=pl.Float64).fill_nan(None)
        for name, x in parts.items()
    }
    five = five_columns(total["i"], flow, *sound)
    return (
        sums.select(*by, pl.col("n_open", "n_fresh", "w").cast(pl.Int64))
        .rename({"w": "n_won"})
        .with_columns(**own, **five)
        .select(*by, "n_open", "n_fresh", "n_won", *(n for n in own if n not in _CLASSIC), *five,
                *_CLASSIC)
    )  # fmt: skip


def _bounds(
    sums: pl.DataFrame, total: dict[str, Any], value: Any, slope: dict[str, int], conf_level: float
) -> tuple[Any, Any, Any]:
    """Return the standard error and the bounds of a product of powers of sums over leads."""
    variance = np.zeros(sums.height)
    with np.errstate(divide="ignore", invalid="ignore"):
        for a, power_a in slope.items():
            for b, power_b in slope.items():
                pair = f"{a}{b}" if _PARTS.index(a) <= _PARTS.index(b) else f"{b}{a}"
                variance += power_a * power_b * sums[pair].to_numpy() / (total[a] * total[b])
        spread = np.sqrt(np.maximum(variance, 0))
        half = normal_quantile(conf_level) * spread
        certain = np.isfinite(half) & (value > 0) & (total["w"] > 1)
        bounds = (value * spread, value * np.exp(-half), value * np.exp(half))
    error, low, high = (np.where(certain, one, np.nan) for one in bounds)
    return error, low, high


def _notes(table: pl.DataFrame, sums: pl.DataFrame, by: tuple[str, ...]) -> tuple[str, ...]:
    if table.is_empty():
        return (_("There are no leads: nothing can be said."),)
    notes: tuple[str, ...] = (
        _("Every lead in work counts alike here, whatever its stage and age, and the pipeline is "
          "taken to be neither filling nor emptying. The forecast of the pipeline tells leads "
          "apart."),
    )  # fmt: skip
    missing = int((sums["w"] - sums["p"]).sum())
    if missing:
        notes += (
            plural(missing, "{n} sale has no margin: it counts at the mean of the others.",
                   "{n} sales have no margin: they count at the mean of the others."),
        )  # fmt: skip
    if table["conf_low"].null_count():
        notes += (_("Where fewer than two leads were won, or without a margin above nothing, there "
                    "is no interval."),)  # fmt: skip
    return (*notes, *small_n_notes(table, by, what=_("leads")))
