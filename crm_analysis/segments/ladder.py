"""The loyalty ladder: on which rung customers stand, and how they climb and fall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import keys_per_unit, to_day_number, with_elapsed_key
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, share_columns, small_n_notes
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
from crm_analysis.wording import _, date_text, duration_text, number, percent, word_of

__all__ = ["EVENT_KINDS", "RUNGS", "Ladder", "ladder_transitions", "loyalty_ladder"]

RUNGS = ("gone", "prospect", "buyer", "client", "supporter", "advocate")
"""From the lowest to the highest."""

EVENT_KINDS = ("enquiry", "purchase", "promoter", "critic", "referral")
"""What an event can be: asked, bought, would recommend, would not, brought a customer."""

_NEVER = -(10**9)
_TAKEN = ("customer", "from_state", "n_customers", "n_moved", "place", "rung", "to_state", "total")
_ENQUIRY, _PURCHASE, _PROMOTER, _CRITIC, _REFERRAL = EVENT_KINDS


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Ladder(StateShares):
    """Shares of the known customers on each rung."""

    def sentence(self) -> str:
        """Say how many are gone and how many are more than one-time buyers."""
        if self.by != ("rung",) or not self.table["n"].sum():
            return super().sentence()
        share = dict(self.table.select("rung", "estimate").iter_rows())
        loyal = sum(share[rung] or 0.0 for rung in RUNGS[RUNGS.index("client") :])
        return _(
            "{loyal} of all customers ever met are clients or more, {once} bought once, {gone} "
            "are gone (n = {n}).",
            loyal=percent(loyal), once=percent(share["buyer"]), gone=percent(share["gone"]),
            n=number(self.table["n"][0]),
        )  # fmt: skip

    def from_rung(self, rung: str) -> Estimates:
        """Return the share on a rung or above it, in all groups together.

        Raises
        ------
        InputError
            There is no such rung.
        """
        check_one_of("rung", rung, RUNGS)
        above = self.table.filter(pl.col("rung").is_in(RUNGS[RUNGS.index(rung) :]))
        k, n = (int(part["n_customers"].sum()) for part in (above, self.table))
        return Estimates(
            table=pl.DataFrame(share_columns([k], [n], self.conf_level)),
            name=_("Customers on the rung “{rung}” or above", rung=word_of(rung)),
            unit=self.unit, definition=self.definition, conf_level=self.conf_level,
            notes=self.notes, key=f"customers_from_{rung}", better="higher", drifts=True,
        )  # fmt: skip


def loyalty_ladder(
    events: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    kind_col: str = "kind",
    lapse_months: int = 18,
    opinion_months: int = 24,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Ladder:
    """On which rung of the loyalty ladder do customers stand (rules, Wilson).

    ========== =========================================================================
    gone       no event in the last `lapse_months`
    prospect   has asked, has not bought
    buyer      has bought on one day
    client     has bought on several days
    supporter  a client whose last answer, within `opinion_months`, was a promoter's
    advocate   a client who has brought a customer within `opinion_months`
    ========== =========================================================================

    Parameters
    ----------
    events : table
        One row per event of a customer, on any backend: see `Warehouse.loyalty_events`.
    customer_col, at_col, kind_col : str
        Kinds are those of `EVENT_KINDS`; others are refused.
    lapse_months, opinion_months : int
        Calendar months.
    as_of : date
        Day on which the rung is asked for; later events are not looked at.
    by : str or sequence of str
        A customer of two groups stands on a rung in each.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Ladder
        Columns of `by`, ``rung``, ``n`` (customers of the group), ``n_customers`` (on the rung),
        ``estimate`` (share), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        A window below one month; a kind of event that is not one of `EVENT_KINDS`.
    ColumnError
        A column is missing, of another type, or null.

    References
    ----------
    Christopher, Payne & Ballantyne (1991), *Relationship Marketing* (the ladder).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> seen = pl.DataFrame({
    ...     "customer_id": [1, 1, 2], "kind": ["purchase", "purchase", "enquiry"],
    ...     "happened_on": [date(2025, 9, 1), date(2026, 3, 1), date(2026, 5, 1)],
    ... })
    >>> loyalty_ladder(seen, as_of=date(2026, 6, 30)).table["n_customers"].to_list()
    [0, 1, 0, 1, 0, 0]
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    rules = _Rules(customer_col, at_col, kind_col, lapse_months, opinion_months, by)
    people = rules.rungs(events, as_of)
    table = state_shares(people, "rung", RUNGS, by, conf_level)
    whole = people.group_by(by).agg(pl.len().alias("n")) if by else people.select(n=pl.len())
    return Ladder(
        table=table,
        name=_("Share of customers on each rung of the loyalty ladder"),
        unit="share",
        definition=rules.definition(as_of),
        by=(*by, "rung"),
        conf_level=conf_level,
        notes=rules.notes(people) + small_n_notes(whole, by, what=_("customers")),
    )


def ladder_transitions(
    events: object,
    *,
    customer_col: str = "customer_id",
    at_col: str = "happened_on",
    kind_col: str = "kind",
    lapse_months: int = 18,
    opinion_months: int = 24,
    since: date,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Transitions:
    """How have customers climbed and fallen on the loyalty ladder between two days (Wilson).

    Parameters
    ----------
    events : table
        As in `loyalty_ladder`.
    customer_col, at_col, kind_col : str
    lapse_months, opinion_months : int
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
        Columns of `by`, ``from_state``, ``to_state``, ``n`` (customers on the rung at the first
        look), ``n_moved``, ``estimate`` (share of them on a rung at the second), ``std_error``,
        ``conf_low``, ``conf_high``. Customers first met between the looks are in the notes.

    Raises
    ------
    InputError
        `since` is not before `as_of`; and as in `loyalty_ladder`.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> seen = pl.DataFrame({
    ...     "customer_id": [1, 1], "kind": ["enquiry", "purchase"],
    ...     "happened_on": [date(2025, 9, 1), date(2026, 3, 1)],
    ... })
    >>> climbed = ladder_transitions(seen, since=date(2025, 12, 31), as_of=date(2026, 6, 30))
    >>> climbed.table.filter(pl.col("n_moved") > 0).select("from_state", "to_state").rows()
    [('prospect', 'buyer')]
    """
    by = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    check_looks(since, as_of)
    rules = _Rules(customer_col, at_col, kind_col, lapse_months, opinion_months, by)
    before, after = rules.rungs(events, since), rules.rungs(events, as_of)
    new = after.height - before.height
    notes = rules.notes(after)
    if new:
        notes += (_("{n} customers were first met after the first day.", n=number(new)),)
    return moved(
        counted_moves(before, after, "rung", by),
        states=RUNGS,
        by=by,
        conf_level=conf_level,
        name=_("Moves on the loyalty ladder"),
        definition=_(
            "Of the customers on a rung on {since}, the share on each rung on {as_of}. {rules}",
            since=date_text(since), as_of=date_text(as_of), rules=rules.definition(as_of),
        ),
        notes=notes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Rules:
    """The rules of the rungs, and the columns they are read from."""

    customer_col: str
    at_col: str
    kind_col: str
    lapse_months: int
    opinion_months: int
    by: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("lapse_months", "opinion_months"):
            check_whole(name, getattr(self, name))

    def rungs(self, events: object, day: date) -> pl.DataFrame:
        """Return groups, ``customer`` and ``rung`` as they stood on `day`."""
        people = collect(self._last_days(events, day), by=self.by, order=["customer"])
        self._check_kinds(people)
        lapse = self.lapse_months * keys_per_unit("month")
        opinion = self.opinion_months * keys_per_unit("month")
        bought = pl.col("n_days") > 1
        pleased = bought & (pl.col("since_promoter") < opinion)
        pleased &= pl.col("promoter_day") > pl.col("critic_day").fill_null(_NEVER)
        rung = (
            pl.when(pl.col("since_last") >= lapse)
            .then(pl.lit("gone"))
            .when(bought & (pl.col("since_referral") < opinion))
            .then(pl.lit("advocate"))
            .when(pleased)
            .then(pl.lit("supporter"))
            .when(bought)
            .then(pl.lit("client"))
            .when(pl.col("n_days") == 1)
            .then(pl.lit("buyer"))
            .otherwise(pl.lit("prospect"))
        )
        return people.select(*self.by, "customer", rung.alias("rung"))

    def _last_days(self, events: object, day: date) -> nw.LazyFrame[Any]:
        asked = {
            "customer": Asked(self.customer_col, "key", "customer_col"),
            "day": Asked(self.at_col, "date", "at_col"),
            "kind": Asked(self.kind_col, "text", "kind_col"),
        }
        last = to_day_number(day)
        frame = open_table(events, asked, by=self.by).filter(nw.col("day") <= last)
        kind = nw.col("kind").cast(nw.String)

        def of(which: str) -> nw.Expr:
            return nw.when(nw.col("kind") == which).then(nw.col("day"))

        frame = frame.with_columns(kind.alias("kind"))
        frame = frame.with_columns(
            of(_PURCHASE).alias("purchase"),
            of(_PROMOTER).alias("promoter"),
            of(_CRITIC).alias("critic"),
            of(_REFERRAL).alias("referral"),
            (~nw.col("kind").is_in(EVENT_KINDS)).cast(nw.Int64).alias("strange"),
        )
        frame = frame.group_by(*keys_of(self.by), "customer").agg(
            nw.col("day").max().alias("last_day"),
            # Two purchases on one day are one: first and last day tell one from several.
            nw.col("purchase").min().alias("first_purchase"),
            nw.col("purchase").max().alias("last_purchase"),
            nw.col("promoter").max().alias("promoter_day"),
            nw.col("critic").max().alias("critic_day"),
            nw.col("referral").max().alias("referral_day"),
            nw.col("strange").sum().alias("n_strange"),
        )
        once = nw.col("first_purchase") == nw.col("last_purchase")
        days = nw.when(nw.col("first_purchase").is_null()).then(nw.lit(0))
        frame = frame.with_columns(
            nw.lit(last).alias("today"),
            days.otherwise(nw.when(once).then(nw.lit(1)).otherwise(nw.lit(2))).alias("n_days"),
        )
        for name in ("last", "promoter", "referral"):
            frame = with_elapsed_key(frame, f"{name}_day", "today", "month", name=f"since_{name}")
        return frame

    def _check_kinds(self, people: pl.DataFrame) -> None:
        strange = int(people["n_strange"].sum() or 0)
        if strange:
            raise InputError(
                f"Column {self.kind_col!r} holds {strange} events of a kind that the ladder does "
                f"not know. It knows: {', '.join(EVENT_KINDS)}. Leave the others out, or give "
                "them one of these names."
            )

    def definition(self, as_of: date) -> str:
        return _(
            "Known by {as_of}. Prospect: asked, has not bought; buyer: bought on one day; client: "
            "on several; supporter: a client who said within {opinion} that they would recommend "
            "us; advocate: a client who brought a customer within {opinion}; gone: nothing heard "
            "for {lapse}.",
            as_of=date_text(as_of),
            opinion=duration_text(self.opinion_months, "month"),
            lapse=duration_text(self.lapse_months, "month"),
        )

    def notes(self, people: pl.DataFrame) -> tuple[str, ...]:
        if people.is_empty() or (people["rung"] == "advocate").any():
            return ()
        return (
            _(
                "Nobody is an advocate: the data do not say who brought whom, or nobody brought "
                "anybody."
            ),
        )
