"""The loading door: `open_warehouse` and what it opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from crm_analysis.collected import collected
from crm_analysis.dates import add_months
from crm_analysis.errors import InputError, SchemaError, listed, near
from crm_analysis.schema import (
    ADVERTISING,
    PURCHASE_KINDS,
    RISK_FACTORS,
    SOURCES,
    TABLES,
    TABLES_AND_VIEWS,
)
from crm_analysis.warehouse import ledger as books
from crm_analysis.warehouse import opinions, views
from crm_analysis.warehouse.checks import check as check_tables
from crm_analysis.warehouse.checks import conform
from crm_analysis.warehouse.sources import Source, find_data, open_source
from crm_analysis.wording import _, number

_EVENTS = (
    ("traffic", "happened_at"),
    ("opportunities", "opened_at"),
    ("stage_events", "happened_at"),
    ("deals", "contract_on"),
    ("service_orders", "opened_at"),
    ("surveys", "sent_at"),
    ("customers", "created_at"),
)
"""Columns that say how far the data reach."""

_ACTIVITY = ("deals", "service_orders")
"""Tables of which at least one is needed to say what customers bought."""


@dataclass(frozen=True)
class Warehouse:
    """A dealership's (or a network's) tables, lazy.

    Attributes
    ----------
    path : Path
        Folder or DuckDB file.
    as_of : date
        Last day the data cover: the manifest's, or the day of the latest event.
    manifest : mapping
        What the data say of themselves; empty where they say nothing.
    dealership : str or None
        The one dealership that every table and view is limited to; None = the network.
    """

    path: Path
    as_of: date
    manifest: Mapping[str, Any]
    dealership: str | None = None
    dealership_id: int | None = None
    _source: Source = field(repr=False, kw_only=True)
    _conformed: dict[str, tuple[pl.LazyFrame, pl.LazyFrame]] = field(
        default_factory=dict, compare=False, repr=False, kw_only=True
    )

    @property
    def currency(self) -> str | None:
        """Return the ISO code of the data's money, None where the data do not say."""
        code = self.manifest.get("currency")
        return None if code is None else str(code)

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the names of the tables that are there."""
        return self._source.names()

    def table(self, name: str) -> pl.LazyFrame:
        """Return one table, limited to the dealership if one was chosen.

        Parameters
        ----------
        name : str
            A name of `crm_analysis.schema.TABLES_AND_VIEWS`.

        Raises
        ------
        InputError
            There is no such table, or these data lack it.
        """
        if name not in self.tables:
            known = name in TABLES_AND_VIEWS
            why = "the data do not have it" if known else "there is no table of that name"
            hint = "" if known else near(name, TABLES_AND_VIEWS)
            raise InputError(
                f"Table {name!r} was asked for{hint}; {why}. {self.path} has: "
                f"{listed(self.tables)}. Ask for one of these, or add {name} to the data."
            )
        frame = self._conform(name)
        return frame if self.dealership_id is None else self._limited(name, frame)

    def _conform(self, name: str) -> pl.LazyFrame:
        """Return a table in its schema's types, looked at once while the source gives the same."""
        frame = self._source.scan(name)
        if name not in self._conformed or self._conformed[name][0] is not frame:
            self._conformed[name] = (frame, conform(name, frame))
        return self._conformed[name][1]

    @staticmethod
    def read(view: pl.LazyFrame) -> pl.DataFrame:
        """Read a view, or a plan of several, into memory: once for many figures that count it.

        Where reports are made one after another the next, in another language, is given what
        this one read, as long as the files are the same.

        Parameters
        ----------
        view : polars LazyFrame
            As the methods here return them, filtered, joined or cut to some columns.
        """
        return collected(view)

    def _activity(self, name: str) -> pl.LazyFrame:
        """Return a table of what customers did, empty where only the others are kept.

        A dealership may export its sales without its workshop, or the other way round; one of the
        two must be there.
        """
        if not set(_ACTIVITY) & set(self.tables):
            return self.table(_ACTIVITY[0])
        if name in self.tables:
            return self.table(name)
        return TABLES[name].create_empty().lazy()

    @property
    def _only_purchases(self) -> bool:
        """Whether purchases ready made are all that says what customers did."""
        return "purchases" in self.tables and not set(_ACTIVITY) & set(self.tables)

    def _limited(self, name: str, frame: pl.LazyFrame) -> pl.LazyFrame:
        if "dealership_id" in TABLES_AND_VIEWS[name].columns():
            return frame.filter(pl.col("dealership_id") == self.dealership_id)
        if name == "survey_answers":
            return frame.join(self.table("surveys").select("survey_id"), on="survey_id", how="semi")
        return frame

    def _view(self, name: str, derive: Callable[[], pl.LazyFrame]) -> pl.LazyFrame:
        """Return a view as the data hold it ready made, or else derived from the open tables."""
        return self.table(name) if name in self.tables else derive()

    def day(self, as_of: str | date | None = None) -> date:
        """Return the day as of which to look at the data: the one asked for, or their last.

        Parameters
        ----------
        as_of : str or date, optional
            A day such as ``"2025-12-31"``; without it the last day that the data cover.

        Raises
        ------
        InputError
            Not a day, or one after the last that the data cover: nothing is known of it, and
            whoever is still here would look as if they had stayed until then.
        """
        if as_of is None:
            return self.as_of
        try:
            day = as_of if isinstance(as_of, date) else date.fromisoformat(as_of)
        except ValueError:
            raise InputError(
                f"The data were asked for as of {as_of!r}, which is not a day. Write it as "
                f"{self.as_of}."
            ) from None
        if day > self.as_of:
            raise InputError(
                f"The data were asked for as of {day}; they cover no day after {self.as_of}. Pass "
                f"{self.as_of} or an earlier day, or leave 'as_of' out."
            )
        return day

    @property
    def risk_factors(self) -> tuple[str, ...]:
        """Return the columns of `departure_snapshots` that say what was known of a customer."""
        return RISK_FACTORS

    def months_before(self, months: int, day: date | None = None) -> date:
        """Return the day so many calendar months before `day`, by default the data's last."""
        return add_months(day or self.as_of, -months)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Return what a reader should know of tables that are not there."""
        if {"spells", "purchases"} & set(self.tables):
            return ()
        missing = set(_ACTIVITY) - set(self.tables)
        if missing == {"deals"}:
            return (_("These data hold no sales: customers are known by their visits alone."),)
        if missing == {"service_orders"}:
            return (_("These data hold no visits: customers are known by their cars alone."),)
        return ()

    def dealerships(self) -> list[str]:
        """Return the names of the dealerships, in order of their id."""
        return _names(self.table("dealerships"))

    def network(self) -> Warehouse:
        """Return the same data without the limit to one dealership."""
        return replace(self, dealership=None, dealership_id=None)

    def looks(self, day: date, *, earlier_days: int = 365) -> dict[str, tuple[Warehouse, date]]:
        """Return how to look at the data so that a figure can be held against others.

        Parameters
        ----------
        day : date
            The day as of which the page looks at them.
        earlier_days : int
            How many days before it the other look lies.

        Returns
        -------
        dict of str to (Warehouse, date)
            ``"now"``; ``"earlier"``, the same data as of the earlier day; and, where one
            dealership was chosen, ``"network"``, all dealerships as of `day`.
        """
        found = {"now": (self, day), "earlier": (self, day - timedelta(days=earlier_days))}
        if self.dealership_id is not None:
            found["network"] = (self.network(), day)
        return found

    def spells(self, *, inactive_months: int = 18, as_of: date | None = None) -> pl.LazyFrame:
        """Return each customer's service relationship: when it began, and when it ended if it did.

        It begins with the first delivered car or service visit. It ends on the day when
        `inactive_months` have passed since the last activity, the first time that happens; a
        customer who comes back later has still left once. Whether it has ended by a day is known on
        that day (a stopping time), so an open relationship is censored at `as_of` without bias.

        Parameters
        ----------
        inactive_months : int
            Calendar months without activity after which a customer counts as having left.
        as_of : date, optional
            Look at the data as of an earlier day.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, dealership, brand, started_kind, started_on, ended_on`; one
            row a customer, `ended_on` null while the relationship is open.

        Raises
        ------
        InputError
            `inactive_months` is not a whole number of at least one.
        """
        _check_months(inactive_months)
        day = as_of or self.as_of
        if self._only_purchases:
            bought = views.purchase_activity(self.table("purchases"), as_of=day)
            return self._view(
                "spells",
                lambda: views.spells(
                    self.table, as_of=day, inactive_months=inactive_months, activity=bought
                ),
            )
        return self._view(
            "spells",
            lambda: views.spells(self._activity, as_of=day, inactive_months=inactive_months),
        )

    def spell_rule(self, inactive_months: int = 18) -> str:
        """Say in a sentence what `spells` calls an end, for the page that shows them."""
        if "spells" in self.tables:
            return _("When a relationship began and ended is taken from the data as they are.")
        return _(
            "A customer counts as gone on the day {months} months without a visit have run out: "
            "nobody can be gone sooner, a silent departure shows only then, and so more have "
            "left than are seen to have left. Only a customer's first relationship counts.",
            months=number(inactive_months),
        )

    def ownership_spells(
        self, *, inactive_months: int | None = 18, as_of: date | None = None
    ) -> pl.LazyFrame:
        """Return each car delivered here, until the customer's next step: when, and what it was.

        It ends when the customer takes delivery of the next car here, when a later lead of theirs
        is lost to a competitor, or when `inactive_months` have passed without any activity;
        whichever comes first. Each is known on the day it happens.

        Parameters
        ----------
        inactive_months : int or None
            Calendar months of silence that count as having stopped coming. None: silence is no
            end, so that only purchases count.
        as_of : date, optional
            Look at the data as of an earlier day.

        Returns
        -------
        polars.LazyFrame
            `vehicle_id, customer_id, dealership_id, dealership, brand, condition, started_on,
            ended_on, cause`; one row a car, `ended_on` and `cause` null while none has come.

        Raises
        ------
        InputError
            `inactive_months` is not a whole number of at least one.
        """
        if inactive_months is not None:
            _check_months(inactive_months)
        return self._view(
            "ownership_spells",
            lambda: views.ownership_spells(
                self._activity, as_of=as_of or self.as_of, inactive_months=inactive_months
            ),
        )

    def car_parc(self, *, inactive_months: int = 18, as_of: date | None = None) -> pl.LazyFrame:
        """Return each car ever delivered or serviced here, with its age, warranty and last visit.

        Parameters
        ----------
        inactive_months : int
            Calendar months without a visit that count as a departure. It is dated half a year
            after the last visit, in the middle of the year in which the next was due, and is
            known only when the months are over: read `ended_on` to `inactive_months` before the
            last day.
        as_of : date, optional
            Look at the data as of an earlier day.

        Returns
        -------
        polars.LazyFrame
            `vehicle_id, customer_id, dealership_id, dealership, brand, model, condition,
            sold_here, in_use_on, warranty_months, started_on, last_on, left_on, until_on,
            ended_on, age_years, warranty`. A car whose owner came later with another has not lost
            its owner: it is known until `until_on`, and has no `ended_on`.

        Raises
        ------
        InputError
            `inactive_months` is not a whole number of at least one.
        """
        _check_months(inactive_months)
        return self._view(
            "car_parc",
            lambda: views.car_parc(
                self._activity, as_of=as_of or self.as_of, inactive_months=inactive_months
            ),
        )

    def departure_snapshots(
        self, *, active_months: int = 18, as_of: date | None = None
    ) -> pl.LazyFrame:
        """Return what was known of active customers on yearly dates, and who then fell silent.

        The dates are the last day and the same day of each year before. A customer is active who
        has taken a delivery or come to the workshop within `active_months` before. Nothing that
        was learnt after a date is in its row, but for `left`.

        Parameters
        ----------
        active_months : int
            Calendar months.
        as_of : date, optional
            Look at the data as of an earlier day.

        Returns
        -------
        polars.LazyFrame
            `customer_id, snapshot_on, dealership_id, dealership, left, months_since_visit, overdue,
            visits_two_years, years_with_us, bought_here, car_age_years, after_warranty,
            low_score, high_score, complained, contacts_a_year`; `left` says that the following
            twelve months passed without activity, null while they are not over.

        Raises
        ------
        InputError
            `active_months` is not a whole number of at least one.
        """
        _check_months(active_months)
        return self._view(
            "departure_snapshots",
            lambda: views.departure_snapshots(
                self._activity, as_of=as_of or self.as_of, active_months=active_months,
                horizon_months=12,
            ),
        )  # fmt: skip

    def purchases(self, *, kind: str | None = None) -> pl.LazyFrame:
        """Return what customers bought: delivered cars and closed service orders.

        Parameters
        ----------
        kind : {"car", "service"}, optional
            Only purchases of this kind.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, dealership, happened_on, kind, revenue, margin`, money in
            whole currency units. A car's revenue is sale price + accessories + finance and
            insurance income, and its margin leaves accessories out, whose cost is not kept. A
            service order the dealership itself pays has no revenue.

        Raises
        ------
        InputError
            There is no such kind.
        """
        if kind is not None and kind not in PURCHASE_KINDS:
            raise InputError(
                f"Purchases of the kind {kind!r} were asked for{near(kind, PURCHASE_KINDS)}. "
                f"There are: {listed(PURCHASE_KINDS)}. Ask for one of these, or leave it out."
            )
        bought = self._view("purchases", lambda: views.purchases(self._activity))
        return bought if kind is None else bought.filter(pl.col("kind") == kind)

    def ledger(
        self,
        *,
        call_cost: float | None = None,
        message_cost: float | None = None,
        accessories_margin: float | None = None,
        trade_in_margin: float | None = None,
    ) -> pl.LazyFrame:
        """Return every movement of money with a customer: what was earned, and what it cost.

        Parameters
        ----------
        call_cost, message_cost : float, optional
            Cost of one call and of one message, in currency units, which no table holds. Without
            them the usual ones of the currency (`warehouse.ledger.USUAL_COSTS`), and where there
            are none contacts are left out; `ledger_rule` says which.
        accessories_margin, trade_in_margin : float, optional
            Gross margin of accessories (0.35 of their price) and of a car taken in (0.05 of the
            allowance).

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, dealership, happened_on, part, amount`; amounts above zero
            are gross margin, below zero cost. Parts: ``front`` (margin of cars at list price),
            ``finance`` (and insurance), ``accessories``, ``trade_in``, ``service``, ``discount``,
            ``contacts``, ``advertising``, ``compensation``. A year's advertising is shared equally
            among the leads of the source it advertises for. An order that the dealership itself
            pays has no revenue, only costs.

        Raises
        ------
        InputError
            A cost or a margin below 0.
        """
        costs = books.unit_costs(
            self.currency, call=call_cost, message=message_cost,
            accessories_margin=accessories_margin, trade_in_margin=trade_in_margin,
        )  # fmt: skip
        if self._only_purchases:
            bought = self.table("purchases")
            return self._view("ledger", lambda: books.ledger_of_purchases(self.table, bought))
        return self._view("ledger", lambda: books.ledger(self.table, self.tables, costs))

    def ledger_rule(
        self,
        *,
        call_cost: float | None = None,
        message_cost: float | None = None,
        accessories_margin: float | None = None,
        trade_in_margin: float | None = None,
    ) -> tuple[str, ...]:
        """Say in sentences how `ledger` was made, with the same arguments."""
        if "ledger" in self.tables:
            return (_("Earnings and costs are taken from the data's own ledger as they are."),)
        if self._only_purchases:
            return (_("Only margins of purchases are known: no cost is counted."),)
        costs = books.unit_costs(
            self.currency, call=call_cost, message=message_cost,
            accessories_margin=accessories_margin, trade_in_margin=trade_in_margin,
        )  # fmt: skip
        return books.ledger_rule(self.tables, costs, self.currency)

    def service_visits(self) -> pl.LazyFrame:
        """Return closed service orders with the car's brand and model, revenue and margin."""
        return self._view("service_visits", lambda: views.service_visits(self._activity))

    def scores(self, question: str = "nps") -> pl.LazyFrame:
        """Return the answers to one scale question.

        Parameters
        ----------
        question : str
            Code of the question, e.g. ``"nps"`` or ``"csat"``.

        Returns
        -------
        polars.LazyFrame
            `survey_id, customer_id, employee_id, employee, dealership_id, dealership, kind,
            answered_on, score`.

        Raises
        ------
        InputError
            There are scale questions, and none has this code.
        """
        if "scores" in self.tables:
            return self.table("scores")
        self._check_question(question)
        return views.scores(self.table, question=question)

    def _check_question(self, question: str) -> None:
        scales = self.table("survey_questions").filter(pl.col("type").cast(pl.String) == "scale")
        codes = scales.select("code").collect().to_series().to_list()
        if codes and question not in codes:  # where nothing is asked at all, nobody has answered
            raise InputError(
                f"Scores of question {question!r} were asked for{near(question, codes)}; the scale "
                f"questions are: {listed(codes)}. Choose one of these."
            )

    def asked(self, question: str = "nps", *, within_days: int = 30) -> pl.LazyFrame:
        """Return every survey sent, with its answer to one scale question where there is one.

        Parameters
        ----------
        question : str
            Code of the question.
        within_days : int
            Days after sending within which an answer is taken.

        Returns
        -------
        polars.LazyFrame
            `survey_id, customer_id, employee_id, dealership_id, kind, channel, sent_at,
            answered_at` (null: not answered), `returned_on` (first purchase after those days;
            null: none), `score` (null: none), `dealership, employee`.

        Raises
        ------
        InputError
            There are scale questions, and none has this code.
        """
        self._check_question(question)
        return opinions.asked(
            self.table, self.purchases(), question=question, within_days=within_days
        )

    def question_scores(self) -> pl.LazyFrame:
        """Return the answers to all scale questions.

        Returns
        -------
        polars.LazyFrame
            `survey_id, score, question` (its code)`, scale_min, scale_max, customer_id,
            employee_id, dealership_id, kind, answered_on, dealership, employee`.
        """
        return opinions.question_scores(self.table)

    def customer_scores(
        self, question: str = "csat", *, since: date, as_of: date | None = None
    ) -> pl.LazyFrame:
        """Return who bought in a period, what they brought, and their last score of it.

        Parameters
        ----------
        question : str
            Code of the question.
        since, as_of : date
            First and last day of the period.

        Returns
        -------
        polars.LazyFrame
            `customer_id, revenue, score` (null: no answer in the period).

        Raises
        ------
        InputError
            There are scale questions, and none has this code.
        """
        self._check_question(question)
        return opinions.customer_scores(
            self.table, self.purchases(), question=question, since=since,
            as_of=as_of or self.as_of,
        )  # fmt: skip

    def case_values(self, *, since: date, as_of: date | None = None) -> pl.LazyFrame:
        """Return every complaint, request and question with what its customer is worth.

        Parameters
        ----------
        since, as_of : date
            First and last day of the period in which purchases count.

        Returns
        -------
        polars.LazyFrame
            The table of cases, and `revenue`: what the customer brought in the period, whole
            currency units; 0 for nothing, and for a case without a customer.
        """
        return opinions.case_values(
            self.table, self.purchases(), since=since, as_of=as_of or self.as_of
        )

    def lead_events(self, *, since: date | None = None, until: date | None = None) -> pl.LazyFrame:
        """Return stage events with the opportunity's customer, manager, source and opening.

        Parameters
        ----------
        since, until : date, optional
            Only opportunities opened on these days or between them.
        """
        events = self._view("lead_events", lambda: views.lead_events(self.table))
        opened_on = pl.col("opened_at").dt.date()
        events = events if since is None else events.filter(opened_on >= since)
        return events if until is None else events.filter(opened_on <= until)

    def leads(self) -> pl.LazyFrame:
        """Return one row per opportunity, with when it was opened and when it was won.

        Returns
        -------
        polars.LazyFrame
            The columns of `opportunities` and ``won_at`` (first contract; null = none), ``manager``
            and ``dealership`` (names), ``brand``, ``model`` and ``year`` (of opening).
        """
        return self._view("leads", lambda: views.leads(self.table))

    def loyalty_events(self) -> pl.LazyFrame:
        """Return what the loyalty ladder is read from.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, dealership, happened_on, kind`; kinds are ``enquiry``,
            ``purchase``, ``promoter`` (a score of 9 or 10) and ``critic`` (any other).
        """
        return self._view(
            "loyalty_events", lambda: views.loyalty_events(self.table, self.purchases())
        )

    def relationship_events(self) -> pl.LazyFrame:
        """Return what kinds of relationship are read from.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, dealership, happened_on, kind, employee_id`; kinds are
            ``purchase`` (no employee) and ``contact``: a call in which the customer was reached.
        """
        return views.relationship_events(self.table, self.purchases())

    def loyalty_points(self) -> pl.LazyFrame:
        """Return movements of loyalty points, with one empty row for an account without any.

        Nothing where the data have no loyalty programme.

        Returns
        -------
        polars.LazyFrame
            The columns of `loyalty_accounts`, ``happened_on``, ``kind``, ``points`` and
            ``dealership``.
        """
        return views.loyalty_points(self.table, has=self.tables.__contains__)

    def loyalty_members(self, *, landmark_days: int = 30) -> pl.LazyFrame:
        """Return buyers as they stood some days after their first purchase.

        Parameters
        ----------
        landmark_days : int
            Days after the first purchase until which joining counts; from then on they are
            watched.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, dealership, started_kind, started_on, started_year,
            watched_from, joined_on, is_member, returned_on`; the last is the first purchase after
            ``watched_from``, null without one.
        """
        return views.loyalty_members(
            self.table, self.purchases, landmark_days=landmark_days, has=self.tables.__contains__
        )

    def car_events(self) -> pl.LazyFrame:
        """Return deliveries of cars and visits to the workshop.

        Returns
        -------
        polars.LazyFrame
            `vehicle_id, dealership_id, dealership, happened_on, is_visit`.
        """
        return self._view("car_events", lambda: views.car_events(self._activity))

    def sales(self) -> pl.LazyFrame:
        """Return contracts that were not cancelled, with car, source and money.

        Returns
        -------
        polars.LazyFrame
            The columns of `deals`, and ``brand``, ``model``, ``segment``, ``condition``,
            ``arrived_on``, ``source``, ``opened_at``, ``dealership``, ``revenue``, ``margin``,
            ``year`` and ``month`` (``2025-03``) of the contract.
        """
        return views.sales(self.table)

    def lead_sales(self) -> pl.LazyFrame:
        """Return `leads` with ``sold_on``, ``revenue`` and ``margin`` of the sale, null without."""
        return views.lead_sales(self.table)

    def lead_costs(
        self, *, call_cost: float | None = None, message_cost: float | None = None
    ) -> pl.LazyFrame:
        """Return what was spent on each lead, and when.

        Parameters
        ----------
        call_cost, message_cost : float, optional
            Cost of one call and of one message, in currency units, as in `ledger`;
            `lead_cost_rule` says what was assumed.

        Returns
        -------
        polars.LazyFrame
            `opportunity_id, happened_at, cost, kind`; kinds are ``advertising`` (a lead's share of
            the year's, on its opening) and ``contacts`` (calls and messages made for it).
        """
        costs = books.unit_costs(self.currency, call=call_cost, message=message_cost)
        return books.lead_costs(self.table, self.tables, costs)

    def lead_cost_rule(
        self, *, call_cost: float | None = None, message_cost: float | None = None
    ) -> tuple[str, ...]:
        """Say in sentences what `lead_costs` assumes, with the same arguments."""
        costs = books.unit_costs(self.currency, call=call_cost, message=message_cost)
        return books.lead_cost_rule(self.tables, costs, self.currency)

    def spend(self, *, channel_sources: Mapping[str, str] | None = None) -> pl.LazyFrame:
        """Return advertising money by day, dealership and channel.

        Parameters
        ----------
        channel_sources : mapping of str to str, optional
            The source of leads that a channel's money is held against, where it is another than
            in `warehouse.views.ADVERTISED`: search and social against web, radio against phone.
            The data do not say it.

        Returns
        -------
        polars.LazyFrame
            The columns of `campaign_days`, and ``name``, ``channel``, ``dealership`` and
            ``source``.

        Raises
        ------
        InputError
            There is no such channel or source.
        """
        return views.spend(self.table, _channel_sources(channel_sources))

    def marketing_rule(
        self,
        *,
        channel_sources: Mapping[str, str] | None = None,
        call_cost: float | None = None,
        message_cost: float | None = None,
    ) -> tuple[str, ...]:
        """Say in sentences what `spend` and `keeping_costs` assume, with the same arguments."""
        costs = books.unit_costs(self.currency, call=call_cost, message=message_cost)
        return books.marketing_rule(_channel_sources(channel_sources), costs, self.currency)

    def approaches(self) -> pl.LazyFrame:
        """Return `traffic` with names, and the model asked for where an approach became a lead."""
        return views.approaches(self.table)

    def stock(self) -> pl.LazyFrame:
        """Return cars put up for sale here, with ``arrived_on``, ``sold_on`` and their model."""
        return views.stock(self.table)

    def campaign_plan(self) -> pl.LazyFrame:
        """Return `campaigns` with the dealership's name: the roll-out, and who was held out."""
        return views.campaign_plan(self.table)

    def keeping_costs(
        self, *, call_cost: float | None = None, message_cost: float | None = None
    ) -> pl.LazyFrame:
        """Return what was spent on keeping customers: contacts, service discounts, amends.

        Parameters
        ----------
        call_cost, message_cost : float, optional
            What one call and one message cost, in the currency of the data, which do not say it;
            by default the usual ones of the currency, as in `ledger`. Where there are none,
            contacts are left out.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, happened_on, cost, kind, dealership`; kinds are
            ``contact`` (outgoing, not for a lead), ``discount`` and ``compensation``.
        """
        costs = books.unit_costs(self.currency, call=call_cost, message=message_cost)
        return views.keeping_costs(
            self.table, call=costs.call, message=costs.message, has=self.tables.__contains__
        )

    def visits(self) -> pl.LazyFrame:
        """Return who came for what.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, happened_on, kind, dealership`; kinds are ``first_visit``
            and ``later_visit`` to the showroom by somebody known, ``test_drive`` and ``service``.
        """
        return views.visits(self.table, has=self.tables.__contains__)

    def demand(self) -> pl.LazyFrame:
        """Return the models that customers asked for, drove and bought.

        Returns
        -------
        polars.LazyFrame
            `dealership_id, dealership, source, brand, model, happened_on, kind`; kinds are
            ``enquiry``, ``test_drive`` and ``deal``; a null model = none was named.
        """
        return views.demand(self.table)

    def portraits(self, *, as_of: date | None = None) -> pl.LazyFrame:
        """Return what the CRM knows of who its customers are, without a name in it.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, dealership, kind, gender, age_band, city, income_band,
            has_children, consent`; one row a customer met by `as_of`.
        """
        return self._view(
            "portraits", lambda: views.portraits(self.table, as_of=as_of or self.as_of)
        )

    def all_tables(self, *, whole: bool = False) -> dict[str, pl.LazyFrame]:
        """Return every open table that is there, by name.

        Parameters
        ----------
        whole : bool
            Those of the whole network, though one dealership was chosen: a customer of another
            dealership is still somebody.
        """
        names = [name for name in TABLES if name in self.tables]
        if whole:
            return {name: self._conform(name) for name in names}
        return {name: self.table(name) for name in names}

    def required_fields(self) -> pl.LazyFrame:
        """Return one row per record and field that a sale needs, from its stage on.

        Returns
        -------
        polars.LazyFrame
            `dealership_id, manager_id, table, field, value, due_on` and the columns of
            `with_managers`; `value` is text, `due_on` null where the field is not required. It
            holds phones and e-mails.
        """
        return views.required_fields(self.table)

    def billed_deals(self) -> pl.LazyFrame:
        """Return delivered deals beside their invoices, and invoices without one.

        Returns
        -------
        polars.LazyFrame
            `deal_id, dealership_id, manager_id, deal_amount, in_crm, invoice_amount, in_books,
            happened_on` and the columns of `with_managers`; `deal_amount` is what the customer has
            to pay after trade-in and credit, null for a leased car, whose advance the contract does
            not say.
        """
        return views.billed_deals(self.table)

    def staff_weeks(self, *, as_of: date | None = None) -> pl.LazyFrame:
        """Return one row per sales manager and whole week on duty.

        Returns
        -------
        polars.LazyFrame
            `manager_id, dealership_id, week_on` (a Monday), `n_actions` (stages and contacts typed
            in), `manager, manager_no, dealership`.
        """
        return views.staff_weeks(self.table, as_of=as_of or self.as_of)

    def logged_deals(self) -> pl.LazyFrame:
        """Return deals with when the first contact with their lead was typed in.

        Returns
        -------
        polars.LazyFrame
            `deal_id, opportunity_id, dealership_id, manager_id, contract_on, logged_at` (null:
            never), `manager, manager_no, dealership`.
        """
        return views.logged_deals(self.table)

    def contact_years(self, *, since: date, as_of: date | None = None) -> pl.LazyFrame:
        """Return days and contacts of each customer, before and after the first car.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, manager_id, consent, category` (``prospect`` until the
            first delivery, ``customer`` from then on), `days` (in the period), `n_contacts` (made
            on them), `manager, manager_no, dealership`.
        """
        return views.contact_years(self.table, since=since, as_of=as_of or self.as_of)

    def calls(self) -> pl.LazyFrame:
        """Return the calls that went out and were made, with what for and what came of them.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, purpose, done_at, result, dealership`.
        """
        return views.calls(self.table)

    def comings(self) -> pl.LazyFrame:
        """Return what customers did: came, had a car serviced, signed a contract.

        Returns
        -------
        polars.LazyFrame
            ``customer_id``, ``happened_on`` and ``kind``: ``visit``, ``service``, ``contract``.
        """
        return views.comings(self.table, has=self.tables.__contains__)

    def touches(self) -> pl.LazyFrame:
        """Return every contact that was made, either way.

        Returns
        -------
        polars.LazyFrame
            `dealership_id, manager_id, direction, happened_at, manager, manager_no, dealership`.
        """
        return views.touches(self.table)

    def birthdays(self, *, since: date, as_of: date | None = None) -> pl.LazyFrame:
        """Return the known birthdays in a period of customers who agreed to be contacted.

        Returns
        -------
        polars.LazyFrame
            `customer_id, dealership_id, manager_id, birthday_on, greeted_at` (null: no greeting),
            `manager, manager_no, dealership`.
        """
        return views.birthdays(self.table, since=since, as_of=as_of or self.as_of)

    def manager_loads(self, *, since: date, as_of: date | None = None) -> pl.LazyFrame:
        """Return one row per sales manager with what they had to do.

        Returns
        -------
        polars.LazyFrame
            `manager_id, dealership_id, days_on_duty` (in the period), `is_present` (on the last
            day), `n_leads` (got in the period), `n_open` (on the last day), and the columns of
            `with_managers`.
        """
        return views.manager_loads(self.table, since=since, as_of=as_of or self.as_of)

    def deal_margins(self) -> pl.LazyFrame:
        """Return delivered cars: `deal_id, happened_on, margin`, manager and dealership."""
        return views.deal_margins(self.table)

    def typed_in(self) -> pl.LazyFrame:
        """Return stages and contacts: `happened_at, entered_at`, manager and dealership."""
        return views.typed_in(self.table)

    def planned_contacts(self) -> pl.LazyFrame:
        """Return planned contacts: `kind, purpose, due_at, done_at`, manager and dealership."""
        return views.planned_contacts(self.table)

    def answers(self) -> pl.LazyFrame:
        """Return approaches: `kind, source, happened_at, handled_at`, and who answered."""
        return views.answers(self.table)

    def with_managers(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return a table with ``manager`` (name), ``manager_no`` (number) and ``dealership``.

        Parameters
        ----------
        frame : polars.LazyFrame
            A table with ``manager_id`` and ``dealership_id``.
        """
        return views.with_managers(self.table, frame)


def open_warehouse(
    data: str | Path, *, dealership: str | int | None = None, check: bool = True
) -> Warehouse:
    """Open a dealership's tables, checked once.

    Parameters
    ----------
    data : str or Path
        A folder of Parquet files, one a table, or one DuckDB file. A relative path is tried from
        the working folder, then from the project's root (the nearest folder above with a
        pyproject.toml).
    dealership : str or int, optional
        Name or id of the dealership to limit everything to; without it, the whole network.
    check : bool
        Check columns, types, rules, keys and foreign keys. Files that have passed are not checked
        again until they change.

    Returns
    -------
    Warehouse
        Lazy tables and views.

    Raises
    ------
    InputError
        No such data, or no such dealership.
    ColumnError
        A column is missing or of another type.
    SchemaError
        Rows break a rule; the message says which, how many, and gives an example.

    Examples
    --------
    >>> warehouse = open_warehouse("reports/out/data/small")  # doctest: +SKIP
    >>> warehouse.table("deals").filter(pl.col("discount") > 0).collect()  # doctest: +SKIP
    """
    source = open_source(find_data(data))
    if check:
        check_tables(source)
    manifest = source.manifest()
    _check_complete(source, manifest)
    name, key = (None, None) if dealership is None else _find_dealership(source, dealership)
    return Warehouse(
        path=source.path,
        as_of=_as_of(source, manifest),
        manifest=manifest,
        dealership=name,
        dealership_id=key,
        _source=source,
    )


def _check_complete(source: Source, manifest: Mapping[str, Any]) -> None:
    lost = sorted(set(manifest.get("tables", {})) & set(TABLES_AND_VIEWS) - set(source.names()))
    if lost:
        raise SchemaError(
            f"The manifest of {source.path} lists the tables {listed(lost)}, and they are not "
            "there. Answers without them would be others. Put them back, make the data again, or "
            "take them out of the manifest."
        )


def _channel_sources(asked: Mapping[str, str] | None) -> dict[str, str]:
    """Return the source of each channel, the usual one where none was asked for."""
    for name, value, allowed in [
        *(("channel", channel, ADVERTISING) for channel in asked or ()),
        *(("source", source, SOURCES) for source in (asked or {}).values()),
    ]:
        if value not in allowed:
            raise InputError(
                f"The {name} {value!r} was asked for{near(value, allowed)}. There are: "
                f"{listed(allowed)}. Pass, say, channel_sources={{'radio': 'walk_in'}}."
            )
    return {**views.ADVERTISED, **(asked or {})}


def _check_months(months: object) -> None:
    if isinstance(months, int) and not isinstance(months, bool) and months >= 1:
        return
    raise InputError(
        f"inactive_months was asked to be {months!r}. It is a whole number of calendar months, at "
        "least 1: try 18."
    )


def _names(dealerships: pl.LazyFrame) -> list[str]:
    return dealerships.sort("dealership_id").select("name").collect().to_series().to_list()


def _find_dealership(source: Source, asked: str | int) -> tuple[str, int]:
    """Return name and id of a dealership asked for by either."""
    if "dealerships" not in source.names():
        raise InputError(
            f"Dealership {asked!r} was asked for, and {source.path} has no table 'dealerships'. "
            "Add the table, or leave the dealership out to see all the data."
        )
    rows = (
        conform("dealerships", source.scan("dealerships")).select("dealership_id", "name").collect()
    )
    known = dict(rows.select("name", "dealership_id").iter_rows())
    by_id = {str(key): name for name, key in known.items()}
    name = by_id.get(str(asked), str(asked))
    if name not in known:
        raise InputError(
            f"Dealership {asked!r} was asked for{near(str(asked), known)}; there are: "
            f"{listed(known)}. Choose one of these names, or its id."
        )
    return name, known[name]


def _as_of(source: Source, manifest: Mapping[str, Any]) -> date:
    """Return the manifest's last day, or the day of the latest event."""
    stated = manifest.get("as_of")
    if stated is not None:
        try:
            return date.fromisoformat(str(stated))
        except ValueError as error:
            raise InputError(
                f"The manifest of {source.path} gives as_of {stated!r}, which is not a day like "
                "2025-12-31. Correct it."
            ) from error
    names = source.names()
    latest = [
        conform(table, source.scan(table))
        .select(pl.col(column).cast(pl.Date).max())
        .collect()
        .item()
        for table, column in _EVENTS
        if table in names
    ]
    days = [day for day in latest if day is not None]
    if not days:
        raise InputError(
            f"The last day that {source.path} covers was asked for, and no table there has a dated "
            "row. "
            'Add a manifest.json with {"as_of": "2025-12-31"} (the day of the export).'
        )
    latest_day: date = max(days)
    return latest_day
