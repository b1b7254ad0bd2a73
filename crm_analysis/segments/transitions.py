"""From one state to the next: how customers move between classes, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import to_day_number, with_civil
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, share_columns
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
from crm_analysis.wording import _, date_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "PERIOD_MONTHS",
    "StateShares",
    "Transitions",
    "check_looks",
    "counted_moves",
    "moved",
    "state_shares",
    "state_transitions",
]

PERIOD_MONTHS = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StateShares(Estimates):
    """Shares of customers in each state, from the lowest to the highest; the last of `by`."""

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the states, the highest on top, and return the Axes."""
        if len(self.by) != 1:
            return super().plot(ax)
        ax = figures.new_axes(ax)
        rows = self.table.reverse().with_columns(
            pl.col(self.by[0]).map_elements(word_of, return_dtype=pl.String).alias("label")
        )
        figures.bars(rows, label="label", value="estimate", ax=ax, text=percent)
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_customers": "count"}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Transitions(Estimates):
    """Shares of customers who moved from one state to another.

    Attributes
    ----------
    states : tuple of str
        In the order in which they are shown.
    """

    states: tuple[str, ...]

    def sentence(self) -> str:
        """Say how many stayed where they were, and how many moved up or down."""
        n = int(self.table["n_moved"].sum())
        if not n:
            return _("{name}: nothing can be said (n = {n}).", name=self.name, n=number(0))
        place = {state: i for i, state in enumerate(self.states)}
        step = np.array([place[t] - place[f] for f, t in self.table.select(_FROM, _TO).iter_rows()])
        moved_ = self.table["n_moved"].to_numpy()
        up, down = int(moved_[step > 0].sum()), int(moved_[step < 0].sum())
        return _(
            "{stayed} stayed where they were, {up} moved up and {down} down (n = {n}).",
            stayed=percent((n - up - down) / n), up=percent(up / n), down=percent(down / n),
            n=number(n),
        )  # fmt: skip

    def share(self, from_state: str, to_state: str) -> Estimates:
        """Return the share that went from one state to another, as estimates of its own.

        Where nobody was in the first state, n is 0 and the estimate null.

        Raises
        ------
        InputError
            There is no such state.
        """
        check_one_of("from_state", from_state, self.states)
        check_one_of("to_state", to_state, self.states)
        groups = tuple(name for name in self.by if name not in (_FROM, _TO))
        rows = self.table.filter((pl.col(_FROM) == from_state) & (pl.col(_TO) == to_state))
        if rows.is_empty() and not groups:
            rows = pl.DataFrame(share_columns([0], [0], self.conf_level))
        return Estimates(
            table=rows,
            name=_(
                "Of those in “{start}”, now in “{end}”",
                start=word_of(from_state), end=word_of(to_state),
            ),
            unit=self.unit, definition=self.definition, by=groups, conf_level=self.conf_level,
            notes=self.notes, key=f"from_{from_state}_to_{to_state}".lower().replace(" ", "_"),
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the matrix, from-states in rows, and return the Axes."""
        ax = figures.new_axes(ax)
        place = {state: i for i, state in enumerate(self.states)}
        of_all = self.table.group_by(_FROM, _TO).agg(pl.col("n_moved").sum(), pl.col("n").sum())
        shown = of_all.sort(
            [pl.col(name).replace_strict(place, default=len(place)) for name in (_FROM, _TO)]
        ).with_columns(
            pl.when(pl.col("n") > 0).then(pl.col("n_moved") / pl.col("n")).alias("estimate"),
            pl.col(_FROM).map_elements(word_of, return_dtype=pl.String).alias("row"),
            pl.col(_TO).replace_strict(place, default=len(place)).alias("column"),
        )
        figures.heatmap(shown, row="row", column="column", ax=ax)
        columns = sorted(shown["column"].unique().to_list())
        rows = shown["row"].unique(maintain_order=True).to_list()
        most = shown["estimate"].max() or 0.0
        known = shown.select("row", "column", "estimate").drop_nulls()
        for row, column, share in known.iter_rows():
            dark = share > most / 2  # type: ignore[operator]
            ax.text(
                columns.index(column), rows.index(row), percent(share, 0), ha="center",
                va="center", color="white" if dark else "black",
            )  # fmt: skip
        ax.set_xticks(
            range(len(columns)), [word_of(self.states[c]) for c in columns], rotation=30,
            ha="right", rotation_mode="anchor",
        )  # fmt: skip
        ax.set_xlabel(_("to"))
        ax.set_ylabel(_("from"))
        ax.set_title(self.name)
        return ax

    def matrix(self) -> pl.DataFrame:
        """Return the shares as a square table, from-states in rows (without groups only)."""
        wide = self.table.pivot(on=_TO, index=_FROM, values="estimate", maintain_order=True)
        return wide.select(_FROM, *(name for name in self.states if name in wide.columns))

    def _figure_height(self) -> float | None:
        return None

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_moved": "count"}


_FROM, _TO = "from_state", "to_state"


def state_transitions(
    records: object,
    *,
    state_col: str,
    customer_col: str = "customer_id",
    at_col: str = "starts_on",
    period: Literal["month", "quarter", "year"] = "quarter",
    states: Sequence[str] = (),
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Transitions:
    r"""From each state, what share of customers is in which state one period later (Markov chain).

    Every pair of a customer's records in two neighbouring periods counts once; a period without a
    record leaves a gap over which nothing is counted.

    Parameters
    ----------
    records : table
        One row per customer and period, on any backend; later rows of a period are refused.
    state_col, customer_col, at_col : str
        `at_col` is any day of the period.
    period : {"month", "quarter", "year"}
    states : sequence of str
        The order of states, from the lowest; by default the alphabet's.
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Transitions
        Columns of `by`, ``from_state``, ``to_state``, ``n`` (pairs that begin in the state),
        ``n_moved``, ``estimate`` (share of them), ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        An unknown period.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    The maximum-likelihood estimate of a homogeneous first-order chain; pairs that begin in one
    state are independent under it.

    References
    ----------
    Anderson & Goodman (1957), Annals of Mathematical Statistics 28:89-110.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> seen = pl.DataFrame({
    ...     "customer_id": [1, 1, 2, 2], "state": ["a", "b", "a", "a"],
    ...     "starts_on": [date(2026, 1, 1), date(2026, 4, 1)] * 2,
    ... })
    >>> moves = state_transitions(seen, state_col="state", as_of=date(2026, 6, 30))
    >>> moves.table["estimate"].to_list()[:2]
    [0.5, 0.5]
    """
    by = group_names(by, taken=(_FROM, _TO, "n_moved", "total"))
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("period", period, tuple(PERIOD_MONTHS))
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "customer": Asked(customer_col, "key", "customer_col"),
        "state": Asked(state_col, "text", "state_col"),
        "day": Asked(at_col, "date", "at_col"),
    }
    frame = open_table(records, asked, by=by).filter(nw.col("day") <= to_day_number(as_of))
    pairs = _pairs(frame, period, keys_of(by))
    counted = collect(pairs, by=by, order=[_FROM, _TO])
    return moved(
        counted,
        states=tuple(states),
        by=by,
        conf_level=conf_level,
        name=_("Moves between states"),
        definition=_(
            "Of the customers in a state in one period, the share in each state in the next; "
            "periods up to {as_of}.",
            as_of=date_text(as_of),
        ),
        notes=(),
    )


def _pairs(frame: nw.LazyFrame[Any], period: str, groups: tuple[str, ...]) -> nw.LazyFrame[Any]:
    months = PERIOD_MONTHS[period]
    # A record of period p is followed by one of p + 1: sums of both meet in one group.
    frame = with_civil(frame, "day").with_columns(
        (nw.col("day_month") // months).cast(nw.Int64).alias("period")
    )
    keys = [*groups, "customer"]
    frame = frame.select(*keys, "period", nw.col("state").cast(nw.String).alias(_FROM))
    following = {"order_by": "period"}
    frame = frame.with_columns(
        nw.col(_FROM).shift(-1).over(*keys, **following).alias(_TO),
        nw.col("period").shift(-1).over(*keys, **following).alias("next"),
    )
    frame = frame.filter(nw.col("next") == nw.col("period") + 1)
    return frame.group_by(*groups, _FROM, _TO).agg(nw.len().alias("n_moved"))


def state_shares(
    people: pl.DataFrame, state: str, states: Sequence[str], by: Sequence[str], conf_level: float
) -> pl.DataFrame:
    """Count the customers of each group in each state; a state that nobody is in has zero."""
    order = pl.DataFrame({state: states}, schema={state: pl.String}).with_row_index("place")
    groups = people.select(by).unique(maintain_order=True) if by else pl.DataFrame({"one": [0]})
    counted = people.group_by([*by, state]).agg(pl.len().cast(pl.Int64).alias("n_customers"))
    table = (
        groups.join(order, how="cross")
        .join(counted, on=[*by, state], how="left", nulls_equal=True)
        .with_columns(pl.col("n_customers").fill_null(0))
        .sort([*by, "place"], nulls_last=True)
    )
    total = pl.col("n_customers").sum()
    table = table.with_columns((total.over(by) if by else total).alias("total"))
    five = share_columns(table["n_customers"], table["total"], conf_level)
    return table.select(*by, state, "n_customers", **five)


def check_looks(since: date, as_of: date) -> None:
    """Refuse two looks of which the first is not before the second."""
    if check_as_of(since) >= as_of:
        raise InputError(
            f"Moves between {since} and {as_of} were asked for, and the first day is not before "
            "the second. Pass an earlier 'since'."
        )


def counted_moves(
    before: pl.DataFrame, after: pl.DataFrame, state: str, by: Sequence[str]
) -> pl.DataFrame:
    """Count who went from which state to which, for `moved`; both looks have ``customer``."""
    pairs = before.rename({state: _FROM}).join(
        after.rename({state: _TO}), on=[*by, "customer"], how="inner", nulls_equal=True
    )
    return (
        pairs.group_by([*by, _FROM, _TO])
        .agg(pl.len().cast(pl.Int64).alias("n_moved"))
        .sort([*by, _FROM, _TO], nulls_last=True)
    )


def moved(
    counted: pl.DataFrame,
    *,
    states: tuple[str, ...],
    by: tuple[str, ...],
    conf_level: float,
    name: str,
    definition: str,
    notes: tuple[str, ...],
) -> Transitions:
    """Turn counted moves (`by`, ``from_state``, ``to_state``, ``n_moved``) into shares.

    Every state that somebody began in has a row for each state to go to, in every group.
    """
    seen = {*counted[_FROM].to_list(), *counted[_TO].to_list()}
    states = states + tuple(sorted(seen - set(states)))
    frame = pl.DataFrame({_FROM: states}, schema={_FROM: pl.String}).join(
        pl.DataFrame({_TO: states}, schema={_TO: pl.String}), how="cross"
    )
    if by:
        frame = counted.select(by).unique(maintain_order=True).join(frame, how="cross")
    table = frame.join(
        counted, on=[*by, _FROM, _TO], how="left", nulls_equal=True, maintain_order="left"
    ).with_columns(pl.col("n_moved").fill_null(0).cast(pl.Int64))
    table = table.with_columns(pl.col("n_moved").sum().over([*by, _FROM]).alias("total"))
    table = table.filter(pl.col("total") > 0)
    five = share_columns(table["n_moved"], table["total"], conf_level)
    return Transitions(
        table=table.select(*by, _FROM, _TO, "n_moved", **five),
        name=name,
        unit="share",
        definition=definition,
        by=(*by, _FROM, _TO),
        conf_level=conf_level,
        notes=notes,
        states=states,
    )
