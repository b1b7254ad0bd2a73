"""Whether every channel is served as well as the others, given what comes through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from scipy import special

from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, group_label, share_columns, small_n_notes
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
from crm_analysis.marketing.sources import holm
from crm_analysis.tables import label_of
from crm_analysis.uncertainty import matched_difference, normal_quantile
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    duration_text,
    number,
    percent,
    plural,
    signed,
    signed_interval_text,
)

__all__ = ["ChannelParity", "channel_parity"]

_GAP = ("of_others", "difference", "difference_low", "difference_high", "matched", "p_holm")
_MOST_SAID = 3
"""Channels that a sentence names, the worst first."""
_TAKEN = ("k", "m", "n_yes", *_GAP)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ChannelParity(Estimates):
    """The share that came to something by channel, beside what others make of the same mix."""

    def sentence(self) -> str:
        """Name the channels that do worse or better than others would with the same mix."""
        known = self.table.drop_nulls("difference")
        if len(self.by) != 1 or known.is_empty():
            return super().sentence()
        sure = known.filter(pl.col("p_holm") < 1 - self.conf_level).sort("difference")
        if sure.is_empty():
            return _(
                "No channel differs from what others make of the same mix beyond chance "
                "({n} compared).",
                n=number(known.height),
            )
        said = [
            _(
                "{channel} {share}, where others would have had {expected} (difference {gap}, "
                "{interval})",
                channel=group_label(row, self.by), share=percent(row["estimate"]),
                expected=percent(row["of_others"]), gap=signed(row["difference"], "share"),
                interval=signed_interval_text(
                    row["difference_low"], row["difference_high"], "share"
                ),
            )
            for row in sure.head(_MOST_SAID).to_dicts()
        ]  # fmt: skip
        return _(
            "{k} of {n} channels differ from what others make of the same mix, the worst first: "
            "{channels}.",
            k=number(sure.height), n=number(known.height), channels="; ".join(said),
        )  # fmt: skip

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        shares = dict.fromkeys(("of_others", "matched"), "share")
        gaps = dict.fromkeys(("difference", "difference_low", "difference_high"), "gap")
        return super().units() | shares | gaps | {"n_yes": "count"}


def channel_parity(
    records: object,
    *,
    channel_col: str = "source",
    at_col: str = "opened_at",
    done_col: str = "sold_on",
    adjust: Sequence[str] = ("dealership", "condition"),
    within_days: float = 90,
    since: date | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "mover",
) -> ChannelParity:
    r"""Does each channel do as well as others with the same mix (direct standardisation).

    A channel may sell less only because it brings what sells badly everywhere. Each is therefore
    held against all others together, weighted as its own leads are spread over what `adjust`
    names.

    Parameters
    ----------
    records : table
        One row per lead, or per approach, on any backend.
    channel_col, at_col, done_col : str
        What is compared; when it came; and when it came to something (null: it did not). With
        ``at_col="happened_at"`` and ``done_col="handled_at"`` it is answers that are compared.
    adjust : sequence of str
        What the others must agree in; null is a value of its own.
    within_days : float
        Only rows that have had so many days are counted, and only what came within them.
    since : date, optional
    as_of : date
        Last day the data covers.
    conf_level : float
    ci_method : {"mover"}

    Returns
    -------
    ChannelParity
        One row a channel: ``n_yes``, ``n``, ``estimate`` (share), ``std_error``, ``conf_low``,
        ``conf_high`` (Wilson), ``of_others`` (share that the others have in this channel's mix),
        ``difference`` with its bounds, ``matched`` (share of its rows that have others like them;
        the difference is of those) and ``p_holm``, corrected for the number of channels. Null
        where nothing is alike.

    Raises
    ------
    InputError
        A window that is not above zero.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Yan & Su (2010), Statistics in Biopharmaceutical Research 2:329-335; Holm (1979), Scandinavian
    Journal of Statistics 6:65-70.

    Examples
    --------
    >>> import polars as pl
    >>> leads = pl.DataFrame({
    ...     "source": ["web"] * 4 + ["phone"] * 4, "condition": ["used"] * 4 + ["used", "new"] * 2,
    ...     "opened_at": [date(2026, 1, 5)] * 8,
    ...     "sold_on": [date(2026, 1, 9), None] * 2 + [None, date(2026, 1, 9)] * 2,
    ... })
    >>> found = channel_parity(leads, adjust=["condition"], as_of=date(2026, 6, 30)).table
    >>> found.select("source", "estimate", "of_others", "matched").rows()
    [('phone', 0.5, 0.5, 0.5), ('web', 0.5, 0.0, 1.0)]
    """
    adjust = group_names(adjust, taken=(*_TAKEN, channel_col))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("mover",))
    if within_days <= 0:
        raise InputError(
            f"A window of {within_days} days was asked for; it must be above 0. Pass, say, 90."
        )
    cells = _cells(records, channel_col, at_col, done_col, adjust, within_days, since, as_of)
    rows = [
        _row(cells, channel, channel_col, adjust, conf_level)
        for channel in cells[channel_col].unique(maintain_order=True)
    ]
    table = _table(rows, channel_col, conf_level)
    return ChannelParity(
        table=table,
        name=_("Share done within {window}, by channel", window=_window_text(within_days)),
        unit="share",
        definition=_(
            "Share within {window}, of what came at least that long before {as_of}, beside the "
            "share of all other channels, weighted by this channel's own mix of: {traits}.",
            window=_window_text(within_days),
            as_of=date_text(as_of), traits=", ".join(map(label_of, adjust)) or _("nothing"),
        ) + counted_from(since),
        by=(channel_col,),
        conf_level=conf_level,
        notes=small_n_notes(table, (channel_col,), what=_("cases")),
    )  # fmt: skip


def _window_text(days: float) -> str:
    """Write a window in days, hours or minutes, whichever makes it whole."""
    if float(days).is_integer():
        return duration_text(int(days), "day")
    minutes = round(days * 24 * 60)
    if minutes % 60:
        return plural(minutes, "{n} minute", "{n} minutes")
    return plural(minutes // 60, "{n} hour", "{n} hours")


def _cells(
    records: object,
    channel_col: str,
    at_col: str,
    done_col: str,
    adjust: tuple[str, ...],
    within_days: float,
    since: date | None,
    as_of: date,
) -> pl.DataFrame:
    """Count rows and successes by channel and stratum."""
    names = (channel_col, *adjust)
    asked = {
        "at": Asked(at_col, "moment", "at_col"),
        "done": Asked(done_col, "moment", "done_col", nullable=True),
    }
    window = round(within_days * SECONDS_PER_DAY)
    last = (to_day_number(as_of) + 1) * SECONDS_PER_DAY - window
    frame = open_table(records, asked, by=names).filter(nw.col("at") < last)
    if since is not None:
        frame = frame.filter(nw.col("at") >= to_day_number(since) * SECONDS_PER_DAY)
    # A day without a time of day counts from its midnight: the day of the lead itself is in time.
    waited = nw.col("done") - nw.col("at")
    frame = frame.with_columns(nw.when(waited <= window).then(1).otherwise(0).alias("k"))
    return collect(
        frame.group_by(*keys_of(names)).agg(nw.col("k").sum(), nw.len().alias("m")), by=names
    )


def _row(
    cells: pl.DataFrame, channel: Any, channel_col: str, adjust: tuple[str, ...], conf_level: float
) -> dict[str, Any]:
    here = pl.col(channel_col).eq_missing(pl.lit(channel))
    own, others = (
        cells.filter(side).group_by(adjust or pl.lit(0).alias("all")).agg(pl.col("k", "m").sum())
        for side in (here, ~here)
    )
    both = own.join(others, on=adjust or "all", suffix="_others", nulls_equal=True)
    row: dict[str, Any] = {channel_col: channel, "k": own["k"].sum(), "m": own["m"].sum()}
    if both.is_empty():
        return row | dict.fromkeys((*_GAP[:-1], "p"), float("nan"))
    found = matched_difference(both["k"], both["m"], both["k_others"], both["m_others"], conf_level)
    gap, low, high = found.difference
    error = (high - low) / 2 / normal_quantile(conf_level)
    bounds = dict(zip(_GAP[1:4], (gap, low, high), strict=True))
    matched = float(both["m"].to_numpy().sum() / own["m"].to_numpy().sum())
    p = float(special.erfc(abs(gap) / error / np.sqrt(2))) if error else 1.0
    return row | {"of_others": found.other[0], **bounds, "matched": matched, "p": p}


def _table(rows: list[dict[str, Any]], channel_col: str, conf_level: float) -> pl.DataFrame:
    schema: dict[str, Any] = {channel_col: pl.String, "k": pl.Int64, "m": pl.Int64}
    schema |= dict.fromkeys((*_GAP[:-1], "p"), pl.Float64)
    table = pl.DataFrame(rows, schema=schema)
    corrected = holm(table["p"].to_numpy()) if rows else np.zeros(0)
    return table.select(
        channel_col,
        pl.col("k").alias("n_yes"),
        **share_columns(table["k"], table["m"], conf_level),
        **{name: pl.col(name).fill_nan(None) for name in _GAP[:-1]},
        p_holm=pl.Series(corrected, dtype=pl.Float64).fill_nan(None),
    ).sort(channel_col, nulls_last=True)
