"""Is a share better than in the period before, and which share leaves most to be wished for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from crm_analysis.changes import least_size
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns
from crm_analysis.frames import check_conf_level, check_one_of
from crm_analysis.managers.defects import DataDefects
from crm_analysis.managers.duplicates import IdentityConsolidation
from crm_analysis.uncertainty import newcombe_difference
from crm_analysis.wording import _, interval_text, number, percent

__all__ = ["ShareChange", "by_shortfall", "share_change"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ShareChange(Estimates):
    """A share now beside that of the period before, and their difference.

    Attributes
    ----------
    now, before : Estimates
        The two shares.
    """

    now: Estimates
    before: Estimates

    def sentence(self) -> str:
        """Return the share now, and whether it has changed."""
        row, past = self.now.table.row(0, named=True), self.before.table.row(0, named=True)
        change = self.table.row(0, named=True)
        if row["estimate"] is None:
            return str(self.now)
        said = _("{name}: {value}", name=self.now.name, value=self.now.value_text(row))
        if change["estimate"] is None:
            return said + "; " + _("the period before says nothing.")
        interval = interval_text(100 * change["conf_low"], 100 * change["conf_high"], "points")
        if change["conf_low"] <= 0 <= change["conf_high"]:
            return said + "; " + _(
                "in the period before {share}, no change is established ({interval} points).",
                share=percent(past["estimate"]), interval=interval,
            )  # fmt: skip
        return said + "; " + _(
            "in the period before {share}, a change of {points} points ({interval}).",
            share=percent(past["estimate"]), points=number(100 * change["estimate"], 1),
            interval=interval,
        )  # fmt: skip

    def importance(self) -> float:
        """Return by how much at least the share has changed; 0 where no change is established."""
        share, low, high = self.table.select("share_now", "conf_low", "conf_high").row(0)
        return 0.0 if share is None else least_size(low, high, value=share, unit="share")

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | dict.fromkeys(("share_now", "share_before"), "share")


def share_change(
    now: Estimates,
    *,
    before: Estimates,
    conf_level: float = 0.95,
    ci_method: str = "newcombe",
) -> ShareChange:
    """By how much has a share changed since the period before (Newcombe's hybrid score).

    Parameters
    ----------
    now, before : Estimates
        One row each, with ``n_yes`` and ``n``.
    conf_level : float
    ci_method : {"newcombe"}

    Returns
    -------
    ShareChange
        ``share_now``, ``share_before``, ``n`` (both periods), ``estimate`` (difference),
        ``std_error``, ``conf_low``, ``conf_high``; null where a period has nothing.

    Raises
    ------
    InputError
        A result with several rows, or that is no share of a count.

    References
    ----------
    Newcombe (1998), Statistics in Medicine 17:873-890, method 10.
    """
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("newcombe",))
    for result in (now, before):
        if result.table.height != 1 or "n_yes" not in result.table.columns:
            raise InputError(
                f"The change of {result.name!r} was asked for; it has {result.table.height} rows. "
                "Pass shares of counts without groups."
            )
    (k_1, n_1), (k_2, n_2) = (
        result.table.select("n_yes", "n").cast(pl.Float64).row(0) for result in (now, before)
    )
    low, high = newcombe_difference(k_1, n_1, k_2, n_2, conf_level)
    share_1, share_2 = (k / n if n else np.nan for k, n in ((k_1, n_1), (k_2, n_2)))
    error = np.nan
    if n_1 and n_2:
        error = np.sqrt(share_1 * (1 - share_1) / n_1 + share_2 * (1 - share_2) / n_2)
    table = pl.DataFrame(
        {
            "share_now": pl.Series([share_1], dtype=pl.Float64).fill_nan(None),
            "share_before": pl.Series([share_2], dtype=pl.Float64).fill_nan(None),
            **five_columns([n_1 + n_2], [share_1 - share_2], [error], [low], [high]),
        }
    )
    return ShareChange(
        table=table, name=now.name, unit="share",
        definition=_(
            "{definition} Held against the same share in the period before.",
            definition=now.definition,
        ),
        conf_level=conf_level, notes=now.notes, now=now, before=before, key=now.key,
        better=now.better,
    )  # fmt: skip


def by_shortfall(*results: Estimates) -> list[Estimates]:
    """Put shares in the order in which they leave most to be wished for, those unknown last.

    Parameters
    ----------
    *results : Estimates
        Shares of what is in order, alone or with their change; of defects and of people with
        several records, the share that is not in order (of defects: the most frequent).
    """
    return sorted(results, key=lambda result: -_shortfall(result))


def _shortfall(result: Estimates) -> float:
    shares = (result.now if isinstance(result, ShareChange) else result).table["estimate"]
    known = [value for value in shares.to_list() if value is not None]
    if not known:
        return -1.0
    if isinstance(result, DataDefects | IdentityConsolidation):
        return float(max(known))
    return float(1 - min(known))
