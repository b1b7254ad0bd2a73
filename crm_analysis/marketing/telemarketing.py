"""What calling a list of customers brought: who was reached, who came, who bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, share_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_period,
    check_whole,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.uncertainty import newcombe_difference
from crm_analysis.wording import (
    _,
    counted_from,
    date_text,
    duration_text,
    interval_text,
    number,
    percent,
    word_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CallResults", "call_results"]

_BESIDE = ("not_reached", "difference", "difference_low", "difference_high")
_TAKEN = (
    "step",
    "n_yes",
    "n_not_reached",
    *_BESIDE,
    "person",
    "customer",
    "calls",
    "spoke",
    "reached",
    "came",
    "first",
    "start",
)
VALUES = ("calls_answered", "people_reached")
"""The first steps of a list, as codes."""

_CALLS, _PEOPLE = VALUES


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CallResults(Estimates):
    """Shares of calls answered, of people reached, and of those who then came or bought.

    The table has the columns of `by` (the list), ``step``, ``n_yes`` and, for what people did
    afterwards, ``not_reached`` (the same share of those who were dialled and not reached) with the
    ``difference`` and its bounds.
    """

    within: str

    def sentence(self) -> str:
        """Say of the largest list how many were reached, and what they did more than others."""
        people = self.table.filter(pl.col("step") == _PEOPLE).drop_nulls("estimate")
        if people.is_empty():
            return _("{name}: nothing can be said.", name=self.name)
        lists = list(self.by[:-1])
        largest = people.sort("n", descending=True).row(0, named=True)
        where = " · ".join(word_of(largest[name]) for name in lists)
        reached = _(
            "{who}{share} of the people called were reached ({interval}; n = {n})",
            who=f"{self.name}, {where}: " if where else f"{self.name}: ",
            share=percent(largest["estimate"]),
            interval=interval_text(largest["conf_low"], largest["conf_high"], "share"),
            n=number(largest["n"]),
        )  # fmt: skip
        own = self.table
        for name in lists:
            own = own.filter(pl.col(name).eq_missing(pl.lit(largest[name])))
        row = _clearest(own.drop_nulls("difference"), self.conf_level)
        if row is None:
            none = _("what they did afterwards is not told apart from those who were not reached")
            return f"{reached}; {none}."
        more = _(
            "{step} within {within}: {share} of them, {other} of those not reached",
            step=word_of(row["step"]), within=self.within, share=percent(row["estimate"]),
            other=percent(row["not_reached"]),
        )  # fmt: skip
        return f"{reached}; {more}."

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of people reached by list with its interval, and return the Axes."""
        ax = figures.new_axes(ax)
        people = self.table.filter(pl.col("step") == _PEOPLE)
        labels = [
            " · ".join(word_of(row[name]) for name in self.by[:-1]) or word_of(_PEOPLE)
            for row in people.to_dicts()
        ]
        labelled = people.with_columns(pl.Series("label", labels, pl.String))
        figures.points(labelled, label="label", ax=ax)
        figures.write_units(ax, "share", axis="x")
        ax.set_title(_("People reached, of those called"))
        return ax

    def _figure_height(self) -> float:
        return figures.height_for(self.table.filter(pl.col("step") == _PEOPLE).height)

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        counts = dict.fromkeys(("n_yes", "n_not_reached"), "count")
        gaps = dict.fromkeys(_BESIDE[1:], "gap")
        return super().units() | {"not_reached": "share"} | gaps | counts


def _clearest(steps: pl.DataFrame, conf_level: float) -> dict[str, Any] | None:
    """Return the row whose difference is surest, if it stands after allowing for all of them."""
    if steps.is_empty():
        return None
    n, k = steps["n"].to_numpy(), steps["n_yes"].to_numpy()
    others = steps["n_not_reached"].to_numpy()
    level = 1 - (1 - conf_level) / steps.height
    yes = np.round(steps["not_reached"].to_numpy() * others)
    low, high = newcombe_difference(k, n, yes, others, level)
    away = np.maximum(low, -high)
    return steps.row(int(np.argmax(away)), named=True) if away.max() > 0 else None


def call_results(
    calls: object,
    *,
    customer_col: str = "customer_id",
    called_col: str = "done_at",
    result_col: str = "result",
    happened_col: str = "happened_on",
    kind_col: str = "kind",
    outcomes: object,
    reached: Sequence[str] = ("reached", "refused"),
    within_days: int = 30,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> CallResults:
    """What did calling our customers bring: reached, came, bought (shares of people, Wilson).

    A person counts once on a list, however often they were dialled; attempts have a share of
    their own. What people did afterwards is counted from the day after their first call, and held
    against those whom that call did not reach: whoever is dialled often is reached at last, and
    is dialled often because there is much to do with them.

    Parameters
    ----------
    calls : table
        One row per call that was made, on any backend: see `Warehouse.calls`.
    customer_col : str
        Who was called: in both tables.
    called_col, result_col : str
        In `calls`: when (to the moment, where it is known), and what came of it (null: not written
        down, which counts as not reached).
    happened_col, kind_col : str
        In `outcomes`: the day, and what it was.
    outcomes : table
        What customers did, of any kind: see `Warehouse.comings`.
    reached : sequence of str
        Results of a call in which somebody was spoken to.
    within_days : int
        Days in which people can come; lists are cut so long before `as_of`.
    since : date, optional
        First day of calling that is counted.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
        What makes a list: its purpose, the dealership, a campaign.
    conf_level : float
    ci_method : {"wilson"}
        Of shares; differences by Newcombe's interval.

    Returns
    -------
    CallResults
        Columns of `by`, ``step`` (``calls_answered``, ``people_reached``, then each kind of
        outcome), ``n`` (calls; people called; people reached by their first call), ``n_yes``,
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``; and of those whom their first
        call did not reach ``n_not_reached``, ``not_reached`` and the ``difference`` from it with
        ``difference_low`` and ``difference_high`` (null for the first two steps).

    Raises
    ------
    InputError
        No result that counts as reached.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    Who answers the phone differs from who does not: the difference is an upper guess at what the
    call did, unless whom to call was drawn by lot (then use `holdout_effect`).

    References
    ----------
    Wilson (1927), JASA 22:209-212; Newcombe (1998), Statistics in Medicine 17:873-890.
    """
    groups = group_names(by, taken=_TAKEN)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    check_whole("within_days", within_days)
    check_period(since, as_of)
    if isinstance(reached, str) or not reached:
        raise InputError(
            f"'reached' must list the results in which somebody was spoken to; got {reached!r}. "
            'Pass, for example, reached=["reached", "refused"].'
        )
    last = to_day_number(as_of)
    people = _people(
        calls, customer_col, called_col, result_col, reached, groups,
        None if since is None else to_day_number(since), last - within_days,
    )  # fmt: skip
    came = _came(people, outcomes, customer_col, happened_col, kind_col, within_days)
    table = _table(people, came, groups, conf_level)
    when = duration_text(within_days, "day")
    return CallResults(
        table=table,
        name=_("What calling brought"),
        unit="share",
        definition=_(
            "Calls made up to {when} before {as_of}: share that reached somebody; people on a list "
            "who were reached at least once; and of those whom their first call reached, who came "
            "or bought within {when} from the day after, beside those whom it did not reach.",
            when=when,
            as_of=date_text(as_of),
        )
        + counted_from(since),
        by=(*groups, "step"),
        conf_level=conf_level,
        notes=(
            _(
                "Who answers the phone differs from who does not: the difference need not be what "
                "the call did."
            ),
            *small_n_notes(table.filter(pl.col("n") > 0), (*groups, "step"), what=_("people")),
        ),
        within=when,
    )


# Count ------------------------------------------------------------------------------------


def _people(
    calls: object,
    customer_col: str,
    called_col: str,
    result_col: str,
    reached: Sequence[str],
    groups: tuple[str, ...],
    since: int | None,
    last: int,
) -> pl.DataFrame:
    """Return one row per person on a list: calls, answered ones, and what came of the first."""
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "at": Asked(called_col, "moment", "called_col"),
        "result": Asked(result_col, "key", "result_col", nullable=True),
    }
    frame = open_table(calls, asked, by=groups)
    frame = frame.filter(nw.col("at") < (last + 1) * SECONDS_PER_DAY)
    if since is not None:
        frame = frame.filter(nw.col("at") >= since * SECONDS_PER_DAY)
    spoke = nw.col("result").cast(nw.String).is_in([str(one) for one in reached])
    frame = frame.with_columns(
        nw.when(spoke).then(nw.lit(1)).otherwise(nw.lit(0)).alias("spoke"),
        nw.when(spoke).then(nw.col("at")).alias("spoke_at"),
    )
    keys = (*keys_of(groups), "customer")
    counted = frame.group_by(*keys).agg(
        nw.len().alias("calls"),
        nw.col("spoke").sum(),
        nw.col("spoke_at").min(),
        nw.col("at").min(),
    )
    found = collect(counted, order=keys).with_row_index("person")
    return found.rename(dict(zip(keys_of(groups), groups, strict=True))).with_columns(
        reached=pl.col("spoke") > 0,
        first=(pl.col("spoke_at") == pl.col("at")).fill_null(value=False),
        start=pl.col("at") // SECONDS_PER_DAY,
    )


def _came(
    people: pl.DataFrame,
    outcomes: object,
    customer_col: str,
    happened_col: str,
    kind_col: str,
    within_days: int,
) -> pl.DataFrame:
    """Return who did what within their days: ``person`` and ``step``, each once."""
    asked = {
        "customer": Asked(customer_col, "key", "customer_col", nullable=True),
        "day": Asked(happened_col, "date", "happened_col"),
        "kind": Asked(kind_col, "key", "kind_col"),
    }
    frame = open_table(outcomes, asked).filter(~nw.col("customer").is_null())
    frame = frame.with_columns(nw.col("kind").cast(nw.String))
    rows = collect(frame.select("customer", "day", "kind"), order=["customer", "day", "kind"])
    kinds = pl.DataFrame({"step": rows["kind"].unique().sort()})
    both = people.select("person", "customer", "start").join(rows, on="customer")
    wait = pl.col("day") - pl.col("start")
    hits = both.filter(wait.is_between(1, within_days)).select(
        "person", pl.col("kind").alias("step")
    )
    return people.select("person", "first").join(kinds, how="cross").join(
        hits.unique().with_columns(came=pl.lit(value=True)), on=["person", "step"], how="left"
    ).with_columns(pl.col("came").fill_null(value=False))  # fmt: skip


# Estimate ---------------------------------------------------------------------------------


def _table(
    people: pl.DataFrame, came: pl.DataFrame, groups: tuple[str, ...], conf_level: float
) -> pl.DataFrame:
    kept = [*groups, "place", "step"]
    count = pl.len().cast(pl.Int64)
    nothing = [pl.lit(0, pl.Int64).alias(name) for name in ("other", "other_yes")]
    reached = people.group_by(groups) if groups else people.group_by(pl.lit(1).alias("all"))
    steps = reached.agg(
        calls=pl.col("calls").sum().cast(pl.Int64), spoke=pl.col("spoke").sum().cast(pl.Int64),
        people=count, reached=pl.col("reached").sum().cast(pl.Int64),
    )  # fmt: skip
    first = [
        steps.select(
            *groups, pl.lit(place).alias("place"), pl.lit(step).alias("step"),
            pl.col(n).alias("n"), pl.col(k).alias("n_yes"), *nothing,
        )
        for place, (step, n, k) in enumerate(
            [(_CALLS, "calls", "spoke"), (_PEOPLE, "people", "reached")]
        )
    ]  # fmt: skip
    yes, of = pl.col("came").cast(pl.Int64), pl.col("first")
    later = (
        came.join(people.select("person", *groups), on="person")
        .group_by(*groups, "step")
        .agg(
            n=of.sum().cast(pl.Int64), n_yes=yes.filter(of).sum(),
            other=(~of).sum().cast(pl.Int64), other_yes=yes.filter(~of).sum(),
        )
        .select(*groups, pl.lit(2).alias("place"), "step", "n", "n_yes", "other", "other_yes")
    )  # fmt: skip
    table = pl.concat([*first, later]).sort(kept, nulls_last=True)
    k, n, k0, n0 = (table[c].to_numpy().astype(float) for c in ("n_yes", "n", "other_yes", "other"))
    with np.errstate(divide="ignore", invalid="ignore"):
        other = k0 / n0
        gap = np.where(n0 > 0, k / n - other, np.nan)
    known = (n > 0) & (n0 > 0)
    low, high = np.full(len(n), np.nan), np.full(len(n), np.nan)
    bounds = newcombe_difference(k[known], n[known], k0[known], n0[known], conf_level)
    low[known], high[known] = bounds
    beside = zip(_BESIDE, (other, gap, low, high), strict=True)
    of_others = pl.when(pl.col("other") > 0).then("other").alias("n_not_reached")
    return table.select(*groups, "step", "n_yes", of_others).with_columns(
        **share_columns(k, n, conf_level),
        **{name: pl.Series(value, dtype=pl.Float64).fill_nan(None) for name, value in beside},
    )
