"""The loyalty programme: who uses it, what is redeemed, and whether members come back more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.blocks import BlockTable
from crm_analysis.dates import add_months, to_day_number
from crm_analysis.estimates import Estimates, five_columns, group_label, share_columns
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
from crm_analysis.tables import label_of
from crm_analysis.uncertainty import matched_difference, normal_quantile, ratio_interval
from crm_analysis.wording import (
    _,
    date_text,
    duration_text,
    number,
    percent,
    signed,
    signed_interval_text,
)

__all__ = ["LoyaltyLift", "loyalty_activity", "loyalty_lift"]

MEASURES = (
    "active_members",
    "members_who_redeemed",
    "points_redeemed",
    "members",
    "like_members",
    "difference",
    "difference_unmatched",
)
_USE, _LIFT = MEASURES[:3], MEASURES[3:]
_DIFFERENCES = ("difference", "difference_unmatched")
_ESTIMATED = ("estimate", "std_error", "conf_low", "conf_high")


# Use ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Use(Estimates):
    def sentence(self) -> str:
        """List the measures: they are not held against each other."""
        if self.by != ("measure",) or self.table["estimate"].null_count():
            return super().sentence()
        said = [
            _("{label} {value}", label=group_label(row, self.by), value=self.value_text(row))
            for row in self.table.to_dicts()
        ]
        return _("{name}: {items}.", name=self.name, items="; ".join(said))


def loyalty_activity(
    movements: object,
    *,
    account_col: str = "loyalty_account_id",
    joined_col: str = "joined_on",
    at_col: str = "happened_on",
    kind_col: str = "kind",
    points_col: str = "points",
    active_months: int = 12,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Estimates:
    """How many members use the loyalty programme, and how many points are redeemed (Wilson, ratio).

    Parameters
    ----------
    movements : table
        One row per movement of points, and one without a movement for an account that has none,
        on any backend: see `Warehouse.loyalty_points`.
    account_col, joined_col, at_col, kind_col, points_col : str
        Kinds are ``earn``, ``redeem`` and ``expire``; day, kind and points are null for an account
        without movements.
    active_months : int
        A member is active who earned or redeemed in so many months up to `as_of`. Members of a
        shorter time are left out.
    as_of : date
        Last day the data covers.
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}
        For the shares of members; points are a ratio of two sums over members.

    Returns
    -------
    Estimates
        Columns of `by`, ``measure`` (``active_members``, ``members_who_redeemed`` ever,
        ``points_redeemed`` of those earned), ``n`` (members), ``estimate`` (share),
        ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        Less than a month.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> moved = pl.DataFrame({
    ...     "loyalty_account_id": [1, 1, 2], "joined_on": [date(2024, 1, 1)] * 3,
    ...     "happened_on": [date(2026, 1, 5), date(2026, 2, 5), None],
    ...     "kind": ["earn", "redeem", None], "points": [100, -40, None],
    ... })
    >>> loyalty_activity(moved, as_of=date(2026, 6, 30)).table["estimate"].to_list()
    [0.5, 0.5, 0.4]
    """
    by = group_names(by, taken=("account", "earned", "measure", "recent", "redeemed"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    check_whole("active_months", active_months)
    start = to_day_number(add_months(as_of, -active_months))
    asked = {
        "account": Asked(account_col, "key", "account_col"),
        "joined": Asked(joined_col, "date", "joined_col"),
        "day": Asked(at_col, "date", "at_col", nullable=True),
        "kind": Asked(kind_col, "text", "kind_col", nullable=True),
        "points": Asked(points_col, "number", "points_col", nullable=True),
    }
    frame = open_table(movements, asked, by=by).filter(nw.col("joined") <= start)
    known = nw.col("day") <= to_day_number(as_of)
    kind = nw.col("kind").cast(nw.String)
    frame = frame.with_columns(
        nw.when(known & (kind == "earn")).then(nw.col("points")).otherwise(0.0).alias("earned"),
        nw.when(known & (kind == "redeem")).then(-nw.col("points")).otherwise(0.0)
        .alias("redeemed"),
        nw.when(known & (kind != "expire") & (nw.col("day") > start)).then(1).otherwise(0)
        .alias("recent"),
    )  # fmt: skip
    members = collect(
        frame.group_by(*keys_of(by), "account").agg(
            nw.col("earned").sum(), nw.col("redeemed").sum(), nw.col("recent").max()
        ),
        by=by,
        order=["account"],
    )
    parts = members.partition_by(by, maintain_order=True) if by and members.height else [members]
    table = pl.concat(
        [
            part.select(by).head(1).join(_use(part, conf_level), how="cross")
            if by
            else _use(part, conf_level)
            for part in parts
        ]
    )
    return _Use(
        table=table,
        name=_("Use of the loyalty programme"),
        unit="share",
        definition=_(
            "Of the members of at least {months} on {as_of}: the share that earned or redeemed "
            "points in that time, the share that ever redeemed, and the points redeemed over those "
            "earned.",
            months=duration_text(active_months, "month"), as_of=date_text(as_of),
        ),
        by=(*by, "measure"),
        conf_level=conf_level,
    )  # fmt: skip


def _use(members: pl.DataFrame, conf_level: float) -> pl.DataFrame:
    n = members.height
    k = [int((members["recent"] > 0).sum()), int((members["redeemed"] > 0).sum())]
    shares = pl.DataFrame(share_columns(k, [n, n], conf_level))
    points = ratio_interval(
        members["redeemed"].to_numpy(), members["earned"].to_numpy(), conf_level
    )
    ratio = pl.DataFrame(five_columns([n], *([value] for value in points)))
    return pl.concat([shares, ratio]).insert_column(0, pl.Series("measure", _USE))


# Lift ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LoyaltyLift(Estimates):
    """How much more often members came back than others like them."""

    def sentence(self) -> str:
        """Say the difference, and that it is no effect."""
        row = dict(zip(_LIFT, self.table.to_dicts(), strict=True))["difference"]
        if row["estimate"] is None:
            return super().sentence()
        value = self._points_text(row)
        if row["conf_low"] is not None and row["conf_low"] > 0:
            return _(
                "Members came back more often than others like them, by {value}; who joins is "
                "fonder of us to begin with, so this is the most that the programme can have done.",
                value=value,
            )
        if row["conf_high"] is not None and row["conf_high"] < 0:
            return _("Members came back less often than others like them: {value}.", value=value)
        return _(
            "That members come back more often than others like them is not established: {value}.",
            value=value,
        )

    def _block_table(self) -> BlockTable:
        """Write the differences of shares in percentage points, as the finding does."""
        shown = super()._block_table()
        places = [p for p, column in enumerate(shown.columns) if column.name in _ESTIMATED]
        cells = [list(row) for row in shown.rows]
        for line, row in zip(cells, self.table.to_dicts(), strict=True):
            if row["measure"] in _DIFFERENCES:
                for place in places:
                    value = row[shown.columns[place].name]
                    error = shown.columns[place].name == "std_error"
                    line[place] = signed(value, "share").lstrip("+" if error else "")
        return replace(shown, rows=tuple(map(tuple, cells)))

    def _points_text(self, row: dict[str, Any]) -> str:
        """Write a difference of shares, in percentage points, with its interval and n."""
        value, n = signed(row["estimate"], "share"), number(row["n"])
        if row["conf_low"] is None or row["conf_high"] is None:
            return _("{value} (n = {n}, no interval)", value=value, n=n)
        return _(
            "{value} ({level} interval {interval}, n = {n})",
            value=value, level=percent(self.conf_level, 0), n=n,
            interval=signed_interval_text(row["conf_low"], row["conf_high"], "share"),
        )  # fmt: skip


def loyalty_lift(
    customers: object,
    *,
    member_col: str = "is_member",
    start_col: str = "watched_from",
    returned_col: str = "returned_on",
    adjust: Sequence[str] = ("started_kind",),
    within_days: int = 365,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "mover",
) -> LoyaltyLift:
    r"""Do members of the loyalty programme come back more often than others like them (matching).

    Customers are compared within strata that agree in all of `adjust`; the others are weighted as
    members are spread over them (direct standardisation). Everyone is watched from a day on which
    membership is already known, so that nobody is counted as a member for having come back.

    Parameters
    ----------
    customers : table
        One row per customer, on any backend: see `Warehouse.loyalty_members`.
    member_col, start_col, returned_col : str
        Member on the day from which they are watched; that day; first purchase after it (null:
        none).
    adjust : sequence of str
        What members and others must agree in; null is a value of its own.
    within_days : int
        Whoever is watched for less is left out; a return counts within it.
    as_of : date
        Last day the data covers.
    conf_level : float
    ci_method : {"mover"}
        Wilson's bounds of each stratum, put together.

    Returns
    -------
    LoyaltyLift
        Rows ``measure``: ``members``, ``like_members`` (others, in the members' mix),
        ``difference`` of the two, and ``difference_unmatched``, each with ``n`` (customers in
        strata that hold both; for the last all), ``estimate``, ``std_error``, ``conf_low``,
        ``conf_high``. Null where no stratum holds both.

    Raises
    ------
    InputError
        A window below one day.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    With :math:`w_s` the share of members in stratum s,

    .. math:: \hat\Delta = \sum_s w_s (\hat p_{1s} - \hat p_{0s})

    It is no effect of the programme: those who like the dealership join more often. The notes give
    the E-value: an unseen trait that raises both joining and coming back by that factor would
    explain the difference away.

    References
    ----------
    Yan & Su (2010), Statistics in Biopharmaceutical Research 2:329-335 (stratified intervals);
    Zou & Donner (2008), Statistics in Medicine 27:1693-1702; VanderWeele & Ding (2017), Annals of
    Internal Medicine 167:268-274 (E-value); Anderson, Cain & Gelber (1983), J. Clinical Oncology
    1:710-719 (why membership must be known before the watching begins).

    Examples
    --------
    >>> import polars as pl
    >>> people = pl.DataFrame({
    ...     "is_member": [True, True, False, False], "watched_from": [date(2024, 1, 1)] * 4,
    ...     "returned_on": [date(2024, 5, 1), None, None, None], "started_kind": ["car"] * 4,
    ... })
    >>> loyalty_lift(people, as_of=date(2026, 6, 30)).table["estimate"].to_list()
    [0.5, 0.0, 0.5, 0.5]
    """
    adjust = group_names(adjust, taken=("member", "k", "m"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("mover",))
    check_whole("within_days", within_days)
    asked = {
        "member": Asked(member_col, "flag", "member_col"),
        "start": Asked(start_col, "date", "start_col"),
        "returned": Asked(returned_col, "date", "returned_col", nullable=True),
    }
    last = to_day_number(as_of - timedelta(days=within_days))
    frame = open_table(customers, asked, by=adjust).filter(nw.col("start") <= last)
    back = nw.col("returned") - nw.col("start") <= within_days
    frame = frame.with_columns(
        nw.when(back).then(nw.lit(1)).otherwise(nw.lit(0)).alias("back"),
        nw.col("member").cast(nw.Int64).alias("member"),
    )
    counted = collect(
        frame.group_by(*keys_of(adjust), "member").agg(
            nw.len().alias("m"), nw.col("back").sum().alias("k")
        ),
        by=adjust,
        order=["member"],
    )
    rows, left_out, ratio = _compared(counted, adjust, conf_level)
    table = pl.DataFrame(five_columns(*np.array(rows, np.float64).T))
    return LoyaltyLift(
        table=table.insert_column(0, pl.Series("measure", _LIFT)),
        name=_("Members who came back, beside others like them"),
        unit="share",
        definition=_(
            "Share with a purchase within {days} of the day from which they were watched, of "
            "members on that day and of others who agree with them in: {traits}; the others are "
            "weighted as members are. Watched up to {as_of}.",
            days=duration_text(within_days, "day"),
            traits=", ".join(label_of(name).lower() for name in adjust) or _("nothing"),
            as_of=date_text(as_of),
        ),
        by=("measure",),
        conf_level=conf_level,
        notes=_notes(left_out, ratio),
    )  # fmt: skip


Row = tuple[float, float, float, float, float]


def _compared(
    counted: pl.DataFrame, adjust: tuple[str, ...], conf_level: float
) -> tuple[list[Row], int, float | None]:
    """Return the four rows, the number of members without a match, and the bound's risk ratio."""
    sides = [
        counted.filter(member=side).select(*adjust, pl.col("m", "k").name.suffix(str(side)))
        for side in (0, 1)
    ]
    how: dict[str, Any] = (
        {"on": adjust, "how": "inner", "nulls_equal": True} if adjust else {"how": "cross"}
    )
    both = sides[0].join(sides[1], **how)
    all_k, all_n = (
        [float(side[f"{name}{i}"].sum()) for i, side in enumerate(sides)] for name in ("k", "m")
    )
    plain = _difference_row(all_k[1], all_n[1], all_k[0], all_n[0], conf_level)
    n0, k0, n1, k1 = (both[name].to_numpy().astype(float) for name in ("m0", "k0", "m1", "k1"))
    if not len(n1):
        return [*[_unknown(0.0)] * 3, plain], int(all_n[1]), None
    found = matched_difference(k1, n1, k0, n0, conf_level)
    sizes = (n1.sum(), n0.sum(), n1.sum() + n0.sum())
    sides_and_gap = (found.first, found.other, found.difference)
    rows = [_row(n, part, conf_level) for n, part in zip(sizes, sides_and_gap, strict=True)]
    share, low = found.first[0], found.difference[1]
    ratio = share / (share - low) if 0 < low < share else None
    return [*rows, plain], int(all_n[1] - n1.sum()), ratio


def _unknown(n: float) -> Row:
    nan = float("nan")
    return n, nan, nan, nan, nan


def _row(n: float, part: tuple[float, float, float], conf_level: float) -> Row:
    estimate, low, high = part
    return float(n), estimate, (high - low) / 2 / normal_quantile(conf_level), low, high


def _difference_row(k1: float, n1: float, k0: float, n0: float, conf_level: float) -> Row:
    if not n1 or not n0:
        return _unknown(n1 + n0)
    found = matched_difference([k1], [n1], [k0], [n0], conf_level)
    return _row(n1 + n0, found.difference, conf_level)


def _notes(left_out: int, ratio: float | None) -> tuple[str, ...]:
    notes: tuple[str, ...] = (
        _(
            "Who joins is not drawn by lot: nothing here proves what the programme does. Hold some "
            "customers out by lot to learn that."
        ),
    )
    if left_out:
        notes += (_("{n} members have nobody like them and are left out.", n=number(left_out)),)
    if ratio is not None:
        e_value = ratio + float(np.sqrt(ratio * (ratio - 1)))
        notes += (
            _(
                "A trait that we do not see would be enough to bring the interval down to nothing "
                "if it made both joining and coming back more likely by {times}.",
                times=percent(e_value - 1, 0),
            ),
        )
    return notes
