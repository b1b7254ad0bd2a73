"""Is the CRM used: who works in it week by week, and does it know of a sale before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.estimates import five_columns, small_n_notes
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
from crm_analysis.managers.shares import TeamShares, count_yes, team_shares
from crm_analysis.uncertainty import homogeneity_p_value, ratio_interval
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
)

__all__ = ["adoption", "logged_before_contract"]

_TAKEN = ("k", "total", "n_yes", "n_staff", "shrunk", "shrunk_low", "shrunk_high")


def adoption(
    weeks: object,
    *,
    person_col: str = "manager_id",
    week_col: str = "week_on",
    actions_col: str = "n_actions",
    least_actions: int = 1,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "clusters",
) -> TeamShares:
    """In what share of their weeks on duty do people work in the CRM (by person, linearised).

    Parameters
    ----------
    weeks : table
        One row per person and whole week on duty, on any backend: see `Warehouse.staff_weeks`.
        Who has left is on duty no more, and does not count against those who stay.
    person_col, week_col, actions_col : str
        Who, the first day of the week, and what they typed in that week.
    least_actions : int
        So many make a week one of work in the CRM.
    since : date, optional
    as_of : date
        Weeks that end later do not count.
    by : str or sequence of str
    conf_level : float
    ci_method : {"clusters"}
        A person's weeks are alike, so that people and not weeks are what varies.

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes`` (weeks of work), ``n_staff`` (people), ``n`` (weeks on duty),
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``; the last three null with fewer
        than two people.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("clusters",))
    asked = {
        "person": Asked(person_col, "key", "person_col"),
        "week": Asked(week_col, "date", "week_col"),
        "actions": Asked(actions_col, "number", "actions_col"),
    }
    frame = open_table(weeks, asked, by=by).filter(nw.col("week") <= to_day_number(as_of) - 6)
    if since is not None:
        frame = frame.filter(nw.col("week") >= to_day_number(since))
    active = nw.when(nw.col("actions") >= least_actions).then(nw.lit(1)).otherwise(nw.lit(0))
    frame = frame.with_columns(active.alias("k"))
    per_person = frame.group_by(*keys_of(by), "person").agg(
        nw.col("k").sum(), nw.len().alias("total")
    )
    people = collect(per_person, by=by, order=["person"])
    parts = people.partition_by(by, maintain_order=True) if by and people.height else [people]
    table = pl.concat([_weeks_row(part, by, conf_level) for part in parts])
    n_yes, n = int(table["n_yes"].sum()), int(table["n"].sum())
    return TeamShares(
        table=table, name=_("Weeks worked in the CRM"), unit="share",
        definition=_(
            "Share of the whole weeks on duty up to {as_of} in which a manager typed something "
            "into the CRM.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        by=by, conf_level=conf_level, notes=small_n_notes(table, by, what=_("weeks")),
        p_value=homogeneity_p_value(table["estimate"], table["std_error"]) if by else None,
        overall=n_yes / n if n else None, what=_("weeks"),
    )  # fmt: skip


def _weeks_row(people: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    k, n = people["k"].to_numpy(), people["total"].to_numpy()
    share, error, low, high = ratio_interval(k, n, conf_level)
    low, high = (float(np.clip(bound, 0, 1)) for bound in (low, high))
    row = pl.DataFrame(
        {
            "n_yes": pl.Series([int(k.sum())], dtype=pl.Int64),
            "n_staff": pl.Series([people.height], dtype=pl.Int64),
            **five_columns([int(n.sum())], [share], [error], [low], [high]),
        }
    )
    return people.select(by).head(1).join(row, how="cross") if by else row


def logged_before_contract(
    deals: object,
    *,
    contract_col: str = "contract_on",
    logged_col: str = "logged_at",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TeamShares:
    """Of what share of the contracts did the CRM know a contact before they were signed (Wilson).

    A sale whose first contact is typed in afterwards was made without the CRM.

    Parameters
    ----------
    deals : table
        One row per contract, on any backend: see `Warehouse.logged_deals`.
    contract_col, logged_col : str
        Day of the contract, and when the first contact was typed in (null: never); on the same day
        counts as before.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes``, ``n``, the five and, with groups, the shrunk ones.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "day": Asked(contract_col, "date", "contract_col"),
        "logged": Asked(logged_col, "moment", "logged_col", nullable=True),
    }
    frame = open_table(deals, asked, by=by).filter(nw.col("day") <= to_day_number(as_of))
    if since is not None:
        frame = frame.filter(nw.col("day") >= to_day_number(since))
    frame = frame.with_columns(((nw.col("day") + 1) * SECONDS_PER_DAY).alias("limit"))
    known = nw.when(nw.col("logged") < nw.col("limit")).then(nw.lit(1)).otherwise(nw.lit(0))
    counted = count_yes(frame.with_columns(known.alias("k")), by)
    return team_shares(
        counted, by=by, conf_level=conf_level, name=_("Contracts known of before they were signed"),
        definition=_(
            "Share of the contracts up to {as_of} of whose lead a contact had been typed in by the "
            "day of the contract.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        what=_("contracts"), key="contracts_known_of", better="higher",
    )  # fmt: skip
