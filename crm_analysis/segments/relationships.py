"""What kind of relationship a customer has with us, from what they and we did (stated rules)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import add_months, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import share_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_whole,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.segments.transitions import (
    StateShares,
    Transitions,
    check_looks,
    counted_moves,
    moved,
    state_shares,
)
from crm_analysis.wording import _, date_text, duration_text, number, percent

__all__ = ["KINDS", "Relationships", "relationship_kinds", "relationship_transitions"]

KINDS = ("lapsed", "transactional", "repeated", "assisted", "dedicated", "long_term")
"""From the loosest to the closest."""

EVENTS = ("purchase", "contact")
_PURCHASE, _CONTACT = EVENTS
_ONE_PERSON = 2 / 3
"""From this share of the contacts on, one employee is the customer's own."""
_TAKEN = ("customer", "from_state", "n_customers", "n_moved", "place", "relationship", "to_state",
          "total")  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Relationships(StateShares):
    """Shares of those who ever bought with each kind of relationship."""

    def sentence(self) -> str:
        """Say how many are close, how many came once, and how many are lost."""
        if self.by != ("relationship",) or not self.table["n"].sum():
            return super().sentence()
        count = dict(self.table.select("relationship", "n_customers").iter_rows())
        n = int(self.table["n"][0])
        close = count["dedicated"] + count["long_term"]
        row = share_columns([close], [n], self.conf_level)
        return _(
            "{close} of those who ever bought have a long-term relationship or an employee of "
            "their own ({level} interval {low} to {high}, n = {n}); {assisted} more are cared for "
            "in person, {lapsed} are lost.",
            close=percent(close / n), level=percent(self.conf_level, 0),
            low=percent(row["conf_low"][0]), high=percent(row["conf_high"][0]), n=number(n),
            assisted=percent(count["assisted"] / n), lapsed=percent(count["lapsed"] / n),
        )  # fmt: skip


def relationship_kinds(
    events: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    kind_col: str = "kind",
    employee_col: str = "employee_id",
    lapse_months: int = 18,
    dedicated_contacts: int = 3,
    long_years: int = 3,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Relationships:
    """What kind of relationship do those who bought have with us (rules, Wilson).

    The first rule that holds decides; purchases and contacts of one day count once.

    ============= ==========================================================================
    lapsed        no purchase in the last `lapse_months`
    long_term     bought in each of the last `long_years` years
    dedicated     bought on several days; at least `dedicated_contacts` contacts in person in
                  the last year, two thirds of them with one employee
    assisted      bought on several days; a contact in person in the last year
    repeated      bought on several days; nobody spoke with them in the last year
    transactional bought on one day
    ============= ==========================================================================

    Osterwalder & Pigneur name communities and co-creation too, of which a CRM keeps no record, and
    part self-service from automated service, which it cannot tell apart: both are in "repeated".

    Parameters
    ----------
    events : table
        One row per purchase or contact in person, on any backend: see
        `Warehouse.relationship_events`.
    customer_col, at_col, kind_col, employee_col : str
        Kinds are ``purchase`` and ``contact``, others are refused; the employee is that of a
        contact, null where nobody is named.
    lapse_months, dedicated_contacts, long_years : int
        The limits of the rules.
    as_of : date
        Last day that is looked at; later events are not known.
    by : str or sequence of str
        A customer of two groups has a relationship in each.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Relationships
        Columns of `by`, ``relationship``, ``n`` (customers of the group who ever bought),
        ``n_customers`` (with this kind), ``estimate`` (share), ``std_error``, ``conf_low``,
        ``conf_high``. Kinds that nobody has are there with a share of zero.

    Raises
    ------
    InputError
        A limit below one; a kind of event that is not one of the two.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Osterwalder & Pigneur (2010), *Business Model Generation*, pp. 28-29 (the kinds).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> seen = pl.DataFrame({
    ...     "customer_id": [1, 1, 1, 2], "kind": ["purchase", "purchase", "contact", "purchase"],
    ...     "happened_on": [date(2025, 9, 1), date(2026, 3, 1), date(2026, 5, 1), date(2026, 4, 1)],
    ...     "employee_id": [None, None, 7, None],
    ... })
    >>> found = relationship_kinds(seen, as_of=date(2026, 6, 30)).table
    >>> found.filter(pl.col("n_customers") > 0)["relationship"].to_list()
    ['transactional', 'assisted']
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    rules = _Rules(customer_col, at_col, kind_col, employee_col, lapse_months, dedicated_contacts,
                   long_years, by)  # fmt: skip
    people = rules.kinds(events, as_of)
    whole = people.group_by(by).agg(pl.len().alias("n")) if by else people.select(n=pl.len())
    return Relationships(
        table=state_shares(people, "relationship", KINDS, by, conf_level),
        name=_("Share of buyers with each kind of relationship"),
        unit="share",
        definition=rules.definition(as_of),
        by=(*by, "relationship"),
        conf_level=conf_level,
        notes=small_n_notes(whole, by, what=_("customers")),
    )


def relationship_transitions(
    events: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    kind_col: str = "kind",
    employee_col: str = "employee_id",
    lapse_months: int = 18,
    dedicated_contacts: int = 3,
    long_years: int = 3,
    since: date,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Transitions:
    """How have relationships grown closer and looser between two days (Wilson).

    Parameters
    ----------
    events : table
        As in `relationship_kinds`.
    customer_col, at_col, kind_col, employee_col : str
    lapse_months, dedicated_contacts, long_years : int
    since : date
        Day of the first look; each look knows only what had happened by then.
    as_of : date
        Day of the second look.
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Transitions
        Columns of `by`, ``from_state``, ``to_state``, ``n`` (customers of the kind at the first
        look), ``n_moved``, ``estimate`` (share of them of a kind at the second), ``std_error``,
        ``conf_low``, ``conf_high``. Those whose first purchase came between the looks are in the
        notes.

    Raises
    ------
    InputError
        `since` is not before `as_of`; and as in `relationship_kinds`.
    ColumnError
        A column is missing, of another type, or null.
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    check_looks(since, as_of)
    rules = _Rules(customer_col, at_col, kind_col, employee_col, lapse_months, dedicated_contacts,
                   long_years, by)  # fmt: skip
    before, after = rules.kinds(events, since), rules.kinds(events, as_of)
    new = after.height - before.height
    return moved(
        counted_moves(before, after, "relationship", by),
        states=KINDS,
        by=by,
        conf_level=conf_level,
        name=_("Moves between kinds of relationship"),
        definition=_(
            "Of the customers with a kind of relationship on {since}, the share with each on "
            "{as_of}. {rules}",
            since=date_text(since), as_of=date_text(as_of), rules=rules.definition(as_of),
        ),
        notes=(_("{n} customers first bought after the first day.", n=number(new)),) if new else (),
    )  # fmt: skip


@dataclass(frozen=True)
class _Rules:
    """The rules of the kinds, and the columns they are read from."""

    customer_col: str
    at_col: str
    kind_col: str
    employee_col: str
    lapse_months: int
    dedicated_contacts: int
    long_years: int
    by: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("lapse_months", "dedicated_contacts", "long_years"):
            check_whole(name, getattr(self, name))

    def kinds(self, events: object, day: date) -> pl.DataFrame:
        """Return groups, ``customer`` and ``relationship`` of those who had bought by `day`."""
        people = collect(self._counted(events, day), by=self.by, order=["customer"])
        strange = int(people["n_strange"].sum() or 0)
        if strange:
            raise InputError(
                f"Column {self.kind_col!r} holds {strange} events that are neither purchases nor "
                f"contacts. Leave them out, or name them {_PURCHASE!r} or {_CONTACT!r}."
            )
        several, spoken = pl.col("n_days") > 1, pl.col("n_contacts") > 0
        own = (pl.col("n_contacts") >= self.dedicated_contacts) & (
            pl.col("most") >= _ONE_PERSON * pl.col("n_contacts")
        )
        every = pl.all_horizontal(f"year_{k}" for k in range(self.long_years))
        lapsed = pl.col("last_purchase") <= to_day_number(add_months(day, -self.lapse_months))
        kind = (
            pl.when(lapsed)
            .then(pl.lit("lapsed"))
            .when(every)
            .then(pl.lit("long_term"))
            .when(several & own)
            .then(pl.lit("dedicated"))
            .when(several & spoken)
            .then(pl.lit("assisted"))
            .when(several)
            .then(pl.lit("repeated"))
            .otherwise(pl.lit("transactional"))
        )
        buyers = people.filter(pl.col("n_days") > 0)
        return buyers.select(*self.by, "customer", kind.alias("relationship"))

    def _counted(self, events: object, day: date) -> nw.LazyFrame[Any]:
        """Count purchases and contacts of each customer: first by employee, then together."""
        asked = {
            "customer": Asked(self.customer_col, "key", "customer_col"),
            "day": Asked(self.at_col, "date", "at_col"),
            "kind": Asked(self.kind_col, "text", "kind_col"),
            "who": Asked(self.employee_col, "key", "employee_col", nullable=True),
        }
        last = to_day_number(day)
        who = [*keys_of(self.by), "customer"]
        frame = open_table(events, asked, by=self.by).filter(nw.col("day") <= last)
        kind = nw.col("kind").cast(nw.String)
        # Purchases belong to nobody in particular: they are counted in one part of a customer.
        person = nw.when(kind == _CONTACT).then(nw.col("who").cast(nw.String))
        frame = frame.select(
            *who, "day", kind.alias("kind"), person.fill_null("").alias("who")
        ).unique(subset=[*who, "who", "kind", "day"])
        bought, recent = nw.col("kind") == _PURCHASE, nw.col("day") > to_day_number(
            add_months(day, -12)
        )  # fmt: skip
        frame = frame.with_columns(
            bought.cast(nw.Int64).alias("purchase"),
            ((nw.col("kind") == _CONTACT) & recent).cast(nw.Int64).alias("contact"),
            (~nw.col("kind").is_in(EVENTS)).cast(nw.Int64).alias("strange"),
            nw.when(bought).then(nw.col("day")).alias("bought_day"),
            *(self._in_year(day, k).alias(f"year_{k}") for k in range(self.long_years)),
        )
        years = [f"year_{k}" for k in range(self.long_years)]
        frame = frame.group_by(*who, "who").agg(
            nw.col("purchase").sum(),
            nw.col("contact").sum(),
            nw.col("strange").sum(),
            nw.col("bought_day").max(),
            *(nw.col(name).max() for name in years),
        )
        frame = frame.group_by(*who).agg(
            nw.col("purchase").sum().alias("n_days"),
            nw.col("contact").sum().alias("n_contacts"),
            nw.col("strange").sum().alias("n_strange"),
            nw.col("bought_day").max().alias("last_purchase"),
            nw.col("contact").max().alias("most"),
            *(nw.col(name).max() for name in years),
        )
        return frame.with_columns((nw.col(name) > 0).alias(name) for name in years)

    def _in_year(self, day: date, years_back: int) -> nw.Expr:
        """Return whether a purchase fell into a year up to `day`, so many years back."""
        to = to_day_number(add_months(day, -12 * years_back))
        after = to_day_number(add_months(day, -12 * (years_back + 1)))
        inside = (nw.col("kind") == _PURCHASE) & (nw.col("day") > after) & (nw.col("day") <= to)
        return inside.cast(nw.Int64)

    def definition(self, as_of: date) -> str:
        return _(
            "Those who bought by {as_of}, by the first rule that holds. Lapsed: no purchase for "
            "{lapse}; long-term: bought in each of the last {years}; dedicated: bought on several "
            "days and spoken with at least {contacts} times in the last year, two thirds of them "
            "by one employee; assisted: bought on several days and spoken with in the last year; "
            "repeated: bought on several days; transactional: bought on one day.",
            as_of=date_text(as_of), lapse=duration_text(self.lapse_months, "month"),
            years=duration_text(self.long_years, "year"), contacts=number(self.dedicated_contacts),
        )  # fmt: skip
