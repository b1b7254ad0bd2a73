"""How often customers hear from the dealership, who begins, and who is to be greeted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.dates import DAYS_PER_YEAR, SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, group_label, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    open_table,
)
from crm_analysis.managers.shares import TeamShares, count_yes, team_shares
from crm_analysis.uncertainty import exact_rate_interval, ratio_interval, wilson_interval
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    duration_text,
    number,
    percent,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ContactFrequency",
    "contact_frequency",
    "greetings_due",
    "greetings_sent",
    "proactive_share",
]

NORM = {"customer": 4.0, "prospect": 6.0}
"""Contacts a year that handbooks of customer relations name for buyers and for prospects."""

_WITHIN = ("norm", "within_norm", "within_low", "within_high")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ContactFrequency(Estimates):
    """Contacts per customer and year, against a norm."""

    def sentence(self) -> str:
        """Say how often each kind of customer is contacted, and whether that is the norm."""
        rows = [row for row in self.table.to_dicts() if row["estimate"] is not None]
        if not rows or any(row["norm"] is None for row in rows):
            return super().sentence()
        said = [
            _(
                "{group}: {rate} contacts a year ({interval}) against a norm of {norm}; {share} "
                "had as many",
                group=group_label(row, self.by), rate=number(row["estimate"], 1),
                interval=_(
                    "{low} to {high}", low=number(row["conf_low"], 1),
                    high=number(row["conf_high"], 1),
                ),
                norm=number(row["norm"]), share=percent(row["within_norm"], 0),
            )
            for row in rows
        ]  # fmt: skip
        text = "; ".join(said)
        return f"{text[:1].upper()}{text[1:]}."

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        shares = dict.fromkeys(("within_norm", "within_low", "within_high"), "share")
        return super().units() | shares | {"n_contacts": "count"}


def contact_frequency(
    exposure: object,
    *,
    customer_col: str = "customer_id",
    contacts_col: str = "n_contacts",
    days_col: str = "days",
    category_col: str = "category",
    norms: Mapping[str, float] = NORM,
    least_days: int = 90,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "customers",
) -> ContactFrequency:
    r"""How many contacts a year does a customer get, and how many get as many as they should.

    .. math:: \text{rate} = \frac{\sum \text{contacts}}{\sum \text{days}} \cdot 365.25

    Parameters
    ----------
    exposure : table
        One row per customer and category, on any backend: see `Warehouse.contact_years`. Time
        before somebody was known, or after they bought, is not time without contact.
    customer_col, contacts_col, days_col, category_col : str
        Who; contacts that were made; days over which they were counted; and kind of customer.
    norms : mapping of str to float
        Contacts a year that each category should have.
    least_days : int
        Whoever was watched for less says nothing of the norm.
    as_of : date
        Last day that the exposure covers.
    by : str or sequence of str
        Beside the category.
    conf_level : float
    ci_method : {"customers", "poisson"}
        Whether customers vary (linearised ratio), or contacts fall at random (exact Poisson, too
        narrow where some are called often and others never).

    Returns
    -------
    ContactFrequency
        Columns of `by`, ``category``, ``n_contacts``, ``n`` (customers), ``estimate`` (contacts a
        year), ``std_error``, ``conf_low``, ``conf_high``, ``norm``, ``within_norm`` (share of
        customers with at least as many, whole contacts in their own time) and its Wilson bounds.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Garwood (1936), Biometrika 28:437-442; Cochran (1977), section 6.4.
    """
    names = (*group_names(by, taken=("n_contacts", category_col, *_WITHIN)), category_col)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("customers", "poisson"))
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "contacts": Asked(contacts_col, "number", "contacts_col"),
        "days": Asked(days_col, "number", "days_col"),
    }
    frame = open_table(exposure, asked, by=names).filter(nw.col("days") > 0)
    rows = collect(frame, by=names, order=["customer"])
    parts = rows.partition_by(names, maintain_order=True) if rows.height else []
    made = [_rate_row(part, names, norms, least_days, conf_level, ci_method) for part in parts]
    table = pl.concat(made, how="vertical_relaxed") if made else _no_rates(rows, names)
    return ContactFrequency(
        table=table, name=_("Contacts per customer and year"), unit="number",
        definition=_(
            "Contacts that were made, by the time for which customers were known, up to {as_of}; "
            "the norm is met by as many whole contacts as it asks for in a customer's own time, "
            "of at least {days} days.",
            as_of=date_text(as_of), days=number(least_days),
        ),
        by=names, conf_level=conf_level, notes=small_n_notes(table, names, what=_("customers")),
    )  # fmt: skip


def _rate_row(
    part: pl.DataFrame,
    names: tuple[str, ...],
    norms: Mapping[str, float],
    least_days: int,
    conf_level: float,
    ci_method: str,
) -> pl.DataFrame:
    contacts, days = part["contacts"].to_numpy(), part["days"].to_numpy()
    rate, error, low, high = ratio_interval(contacts, days / DAYS_PER_YEAR, conf_level)
    low = max(low, 0.0)
    if ci_method == "poisson":
        total, years = contacts.sum(), days.sum() / DAYS_PER_YEAR
        error = float(np.sqrt(total) / years)
        low, high = (float(bound) for bound in exact_rate_interval(total, years, conf_level))
    norm = norms.get(str(part[names[-1]][0]))
    within = _within(contacts, days, norm, least_days, conf_level)
    row = pl.DataFrame(
        {
            "n_contacts": pl.Series([int(contacts.sum())], dtype=pl.Int64),
            **five_columns([part.height], [rate], [error], [low], [high]),
            **{
                name: pl.Series([value], dtype=pl.Float64)
                for name, value in zip(_WITHIN, (norm, *within), strict=True)
            },
        }
    )
    return part.select(names).head(1).join(row, how="cross")


def _within(
    contacts: NDArray[Any], days: NDArray[Any], norm: float | None, least: int, conf_level: float
) -> tuple[float | None, float | None, float | None]:
    watched = days >= least
    if norm is None or not watched.any():
        return None, None, None
    due = np.floor(norm * days[watched] / DAYS_PER_YEAR)
    k, n = int((contacts[watched] >= due).sum()), int(watched.sum())
    low, high = wilson_interval(k, n, conf_level)
    return k / n, float(low), float(high)


def _no_rates(rows: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    nothing = np.zeros(0)
    empty = {"n_contacts": pl.Series([], dtype=pl.Int64)}
    empty |= five_columns(nothing, nothing, nothing, nothing, nothing)
    empty |= {name: pl.Series([], dtype=pl.Float64) for name in _WITHIN}
    return rows.select(names).with_columns(**empty)


def proactive_share(
    touches: object,
    *,
    direction_col: str = "direction",
    happened_col: str = "happened_at",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TeamShares:
    """What share of all contacts did the dealership begin (Wilson, shrunk).

    Parameters
    ----------
    touches : table
        One row per contact either way, on any backend: see `Warehouse.touches`.
    direction_col, happened_col : str
        ``outgoing`` or ``incoming``, and when.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes`` (outgoing), ``n``, the five and, with groups, the shrunk ones.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.
    """
    by = group_names(by, taken=("k", "total", "n_yes", "shrunk", "shrunk_low", "shrunk_high"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "way": Asked(direction_col, "text", "direction_col"),
        "at": Asked(happened_col, "moment", "happened_col"),
    }
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    frame = open_table(touches, asked, by=by).filter(nw.col("at") < end)
    if since is not None:
        frame = frame.filter(nw.col("at") >= to_day_number(since) * SECONDS_PER_DAY)
    way = nw.col("way").cast(nw.String)
    begun = nw.when(way == "outgoing").then(nw.lit(1)).otherwise(nw.lit(0))
    return team_shares(
        count_yes(frame.with_columns(begun.alias("k")), by), by=by, conf_level=conf_level,
        name=_("Contacts that the dealership began"),
        definition=_(
            "Share of the contacts made up to {as_of}, either way, that went out from the "
            "dealership.",
            as_of=date_text(as_of),
        ) + counted_from(since),
        what=_("contacts"),
    )  # fmt: skip


def greetings_sent(
    birthdays: object,
    *,
    due_col: str = "birthday_on",
    done_col: str = "greeted_at",
    within_days: int = 1,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TeamShares:
    """Of the birthdays that are known, what share was greeted in time (Wilson, shrunk).

    Parameters
    ----------
    birthdays : table
        One row per birthday of a customer who agreed to be contacted, on any backend: see
        `Warehouse.birthdays`. Customers without a known date are not in it.
    due_col, done_col : str
        The day, and when a greeting was sent (null: none).
    within_days : int
        Days before or after the birthday on which a greeting still counts.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TeamShares
        Columns of `by`, ``n_yes`` (greeted in time), ``n_off`` (too early or late), ``n``, the
        five and, with groups, the shrunk ones.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null.
    """
    taken = ("k", "total", "n_yes", "n_off", "shrunk", "shrunk_low", "shrunk_high")
    by = group_names(by, taken=taken)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "due": Asked(due_col, "date", "due_col"),
        "done": Asked(done_col, "date", "done_col", nullable=True),
    }
    frame = open_table(birthdays, asked, by=by).filter(nw.col("due") <= to_day_number(as_of))
    if since is not None:
        frame = frame.filter(nw.col("due") >= to_day_number(since))
    off = (nw.col("done") - nw.col("due")).abs()
    frame = frame.with_columns(
        nw.when(off <= within_days).then(nw.lit(1)).otherwise(nw.lit(0)).alias("k"),
        nw.when(off > within_days).then(nw.lit(1)).otherwise(nw.lit(0)).alias("n_off"),
    )
    return team_shares(
        count_yes(frame, by, "n_off"), by=by, conf_level=conf_level,
        name=_("Birthdays greeted in time"),
        definition=_(
            "Share of the known birthdays up to {as_of} of customers who agreed to be contacted "
            "for which a greeting was sent, at most {when} before or after.",
            as_of=date_text(as_of), when=duration_text(within_days, "day"),
        ) + counted_from(since),
        what=_("birthdays"),
    )  # fmt: skip


def greetings_due(
    customers: object,
    *,
    key_col: str = "customer_id",
    birth_col: str = "birth_on",
    consent_col: str = "consent",
    manager_col: str = "manager_id",
    within_days: int = 7,
    as_of: date,
) -> pl.DataFrame:
    """Whom to greet in the coming days: a list for the CRM, never for a page.

    Parameters
    ----------
    customers : table
        One row per customer, on any backend.
    key_col, birth_col, consent_col, manager_col : str
        Who; when born (null: not known); whether they agreed to be contacted; and who greets.
    within_days : int
        Days after `as_of`; 29 February is greeted on the 28th in other years.
    as_of : date

    Returns
    -------
    polars DataFrame
        ``customer_id``, ``manager_id``, ``birthday_on``, ``turns`` (age): those who agreed, by day.

    Raises
    ------
    InputError
        Fewer than one day, or more than a year.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> book = pl.DataFrame({
    ...     "customer_id": [1, 2, 3], "birth_on": [date(1980, 7, 2), date(1980, 7, 2), None],
    ...     "consent": [True, False, True], "manager_id": [7, 7, 7],
    ... })
    >>> greetings_due(book, as_of=date(2026, 6, 30)).rows()
    [(1, 7, datetime.date(2026, 7, 2), 46)]
    """
    as_of = check_as_of(as_of)
    if not 1 <= within_days <= 365:
        raise InputError(f"'within_days' must be from 1 to 365; got {within_days}. Pass, say, 7.")
    asked = {
        "customer_id": Asked(key_col, "key", "key_col"),
        "born": Asked(birth_col, "date", "birth_col", nullable=True),
        "agreed": Asked(consent_col, "flag", "consent_col", nullable=True),
        "manager_id": Asked(manager_col, "key", "manager_col", nullable=True),
    }
    frame = open_table(customers, asked).filter(~nw.col("born").is_null()).filter(nw.col("agreed"))
    rows = collect(frame).with_columns(born=pl.col("born").cast(pl.Int32).cast(pl.Date))
    years = [as_of.year, as_of.year + 1]
    every = rows.join(pl.DataFrame({"year": years}, schema={"year": pl.Int32}), how="cross")
    leap = (pl.col("born").dt.month() == 2) & (pl.col("born").dt.day() == 29)
    common = leap & ~pl.date("year", 1, 1).dt.is_leap_year()
    day = pl.when(common).then(28).otherwise(pl.col("born").dt.day())
    every = every.with_columns(birthday_on=pl.date("year", pl.col("born").dt.month(), day))
    ahead = (pl.col("birthday_on") - pl.lit(as_of)).dt.total_days()
    return (
        every.filter(ahead.is_between(1, within_days))
        .with_columns(turns=(pl.col("year") - pl.col("born").dt.year()).cast(pl.Int64))
        .select("customer_id", "manager_id", "birthday_on", "turns")
        .sort("birthday_on", "customer_id")
    )
