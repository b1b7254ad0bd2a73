"""How much may be given away on a deal without losing money on the customer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.errors import ColumnError, InputError, listed
from crm_analysis.estimates import FIVE, Estimates, five_columns, small_n_notes
from crm_analysis.frames import Asked, check_conf_level, collect, group_names, keys_of, open_table
from crm_analysis.wording import Unit, _, money, number, percent

__all__ = ["AffordableDiscount", "affordable_discount"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AffordableDiscount(Estimates):
    """The largest discount that deals can bear: one row per group (or per deal).

    The table has, beside the usual five (mean over the group's deals; ``std_error`` is null),
    ``deal_margin`` and ``future_value`` (means, before any further discount), ``n_at_cost``
    (deals held at cost, which the future would let go lower) and ``n_without_room``.
    """

    def sentence(self) -> str:
        """Return the mean discount that can be borne, and how many deals can bear none."""
        text = super().sentence()
        if self.by or self.table["estimate"].null_count():
            return text
        row = self.table.row(0, named=True)
        rest = _(
            "{k} of {n} deals ({share}) can bear none",
            k=number(row["n_without_room"]),
            n=number(row["n"]),
            share=percent(row["n_without_room"] / row["n"]),
        )
        return f"{text[:-1]}; {rest}."

    def units(self) -> dict[str, Unit]:
        """Return the units of the columns."""
        own: dict[str, Unit] = {"deal_margin": "money", "future_value": "money"}
        counts: dict[str, Unit] = {"n_at_cost": "count", "n_without_room": "count"}
        return {**super().units(), **own, **counts}


def affordable_discount(
    deals: object,
    *,
    price_col: str = "sale_price",
    cost_col: str = "cost",
    income_col: str | None = "fni_income",
    future_value: Estimates | float = 0.0,
    least_margin: float = 0.0,
    below_cost_approved: bool = False,
    currency: str | None = None,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
) -> AffordableDiscount:
    r"""How large a further discount leaves enough margin, now and to come? (an identity).

    .. math:: \text{discount} = \max(0, \text{price} - \text{cost} + \text{income}
              + E[\text{future margin}] - \text{least margin})

    and, unless selling below cost is approved, no more than price - cost.

    Parameters
    ----------
    deals : table
        One row per deal, or per offer under discussion.
    price_col, cost_col : str
        The price as it stands now, and what the car costs.
    income_col : str, optional
        What the deal earns besides, such as finance and insurance; None = nothing.
    future_value : Estimates or float
        Expected discounted margin that the customer is still to bring if the deal is made, such as
        a `lifetime_value`, with its interval: one for all deals, or by columns that `deals` has
        (``customer_id`` for values by customer). It counts only what the deal brings: a customer
        who would stay without it owes it nothing.
    least_margin : float
        What must be left of deal and future together.
    below_cost_approved : bool
        Whether someone who may has agreed to sell below cost.
    currency : str, optional
        ISO code, for the words only.
    by : str or sequence of str
        Group columns; name the deal's own column for one row per deal.
    conf_level : float
        For the words only: the interval is that of `future_value`, at its level.

    Returns
    -------
    AffordableDiscount
        Columns of `by`, ``n`` (deals), ``estimate`` (mean of the largest discounts),
        ``std_error`` (null), ``conf_low``, ``conf_high`` (means of the discounts at the bounds of
        the future value, which share one model and so move together; null without an interval),
        ``deal_margin``, ``future_value``, ``n_at_cost``, ``n_without_room``. Null where a price, a
        cost or a future value is not known for any deal of the group.

    Raises
    ------
    InputError
        A future value or a least margin that is no number, or of another confidence level.
    ColumnError
        `deals` lacks a column by which the future value is given.

    Examples
    --------
    >>> deals = pl.DataFrame({"sale_price": [20_000], "cost": [19_200], "fni_income": [300]})
    >>> affordable_discount(deals, future_value=900.0, least_margin=500.0).table["estimate"][0]
    800.0
    >>> affordable_discount(
    ...     deals, future_value=900.0, least_margin=500.0, below_cost_approved=True
    ... ).table["estimate"][0]
    1500.0
    """
    by, conf_level = group_names(by), check_conf_level(conf_level)
    future = _future(future_value, conf_level)
    if not np.isfinite(least_margin):
        raise InputError(
            f"'least_margin' must be an amount of money; got {least_margin!r}. Pass 0 to let deal "
            "and future together just come out even."
        )
    keys = [name for name in future.columns if name not in _FUTURE]
    rows = _open_deals(deals, price_col, cost_col, income_col, [*by, *keys])
    priced = rows.join(future, on=keys, how="left") if keys else rows.join(future, how="cross")
    borne = _with_discounts(priced, least_margin, below_cost_approved)
    table = _table(borne, by)
    return AffordableDiscount(
        table=table,
        name=_("Largest affordable discount"),
        unit="money",
        definition=_definition(least_margin, below_cost_approved, currency),
        by=by,
        conf_level=conf_level,
        notes=_notes(priced) + _few(table, by),
        currency=currency,
    )


_FUTURE = ("future", "future_low", "future_high")


def _future(value: Estimates | float, conf_level: float) -> pl.DataFrame:
    if isinstance(value, Estimates):
        if value.conf_level != conf_level:
            raise InputError(
                f"The future value has an interval of {value.conf_level:.0%}, and one of "
                f"{conf_level:.0%} was asked for. Compute it with conf_level={conf_level}."
            )
        names = dict(zip(("estimate", "conf_low", "conf_high"), _FUTURE, strict=True))
        return value.table.select(*value.by, *names).rename(names)
    if not np.isfinite(value):
        raise InputError(
            f"'future_value' must be an amount of money or estimates of one; got {value!r}. Pass "
            "0.0 to count the deal alone."
        )
    unknown = pl.Series([None], dtype=pl.Float64)
    return pl.DataFrame({"future": [float(value)], "future_low": unknown, "future_high": unknown})


def _open_deals(
    deals: object, price_col: str, cost_col: str, income_col: str | None, groups: Sequence[str]
) -> pl.DataFrame:
    asked = {
        "price": Asked(price_col, "number", "price_col", nullable=True),
        "cost": Asked(cost_col, "number", "cost_col", nullable=True),
    }
    if income_col is not None:
        asked["income"] = Asked(income_col, "number", "income_col", nullable=True)
    groups = list(dict.fromkeys(groups))
    try:
        frame = open_table(deals, asked, by=groups)
    except ColumnError as error:
        raise ColumnError(
            f"{error} The deals need the columns {listed([*groups])}: those of 'by', and those by "
            "which the future value is given."
        ) from None
    if income_col is None:
        frame = frame.with_columns(nw.lit(0.0).alias("income"))
    return collect(frame.select("price", "cost", "income", *keys_of(groups)), by=groups)


def _with_discounts(
    priced: pl.DataFrame, least_margin: float, below_cost_approved: bool
) -> pl.DataFrame:
    front = pl.col("price") - pl.col("cost")
    most = pl.col("price") if below_cost_approved else pl.max_horizontal(front, pl.lit(0.0))
    margin = front + pl.col("income")

    def borne(future: str) -> pl.Expr:
        room = margin + pl.col(future) - least_margin
        known = pl.all_horizontal(pl.col("price", "cost", "income", future).is_not_null())
        return pl.when(known).then(pl.min_horizontal(pl.max_horizontal(room, pl.lit(0.0)), most))

    room = margin + pl.col("future") - least_margin
    return priced.with_columns(
        margin=margin,
        discount=borne("future"),
        low=borne("future_low"),
        high=borne("future_high"),
        at_cost=(room > most) & (not below_cost_approved),
        without=borne("future") <= 0,
    )


def _table(borne: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    known = pl.col("discount").is_not_null()
    aggregates = {
        "n": known.sum(),
        "mean": pl.col("discount").mean(),
        "low": pl.col("low").filter(known).mean(),
        "high": pl.col("high").filter(known).mean(),
        "deal_margin": pl.col("margin").filter(known).mean(),
        "future_value": pl.col("future").filter(known).mean(),
        "n_at_cost": pl.col("at_cost").filter(known).sum().cast(pl.Int64),
        "n_without_room": pl.col("without").filter(known).sum().cast(pl.Int64),
    }
    if by:
        found = borne.group_by(by).agg(**aggregates).sort(by, nulls_last=True)
    else:
        found = borne.select(**aggregates)
    numbers = found.select("mean", "low", "high").cast(pl.Float64).fill_null(np.nan)
    mean, low, high = (numbers[name].to_numpy() for name in numbers.columns)
    five = five_columns(found["n"].to_numpy(), mean, np.full(len(mean), np.nan), low, high)
    others = ("deal_margin", "future_value", "n_at_cost", "n_without_room")
    return found.select(*by, "n", *others).with_columns(**five).select(*by, *FIVE, *others)


def _definition(least_margin: float, approved: bool, currency: str | None) -> str:
    guard = (
        _("Selling below cost is approved.")
        if approved
        else _("Never below the car's cost: that needs an approval.")
    )
    return _(
        "The largest further discount that leaves {least} of the deal's margin and the expected "
        "discounted margin of the customer's future together. {guard} The interval covers what is "
        "not known of the future, not how deals differ.",
        least=money(least_margin, currency),
        guard=guard,
    )


def _few(table: pl.DataFrame, by: Sequence[str]) -> tuple[str, ...]:
    """Caution against few deals, unless each is asked for by itself."""
    one_by_one = bool(by) and int(table["n"].to_numpy().max(initial=0)) <= 1
    return () if one_by_one else small_n_notes(table, by, what=_("deals"))


def _notes(priced: pl.DataFrame) -> tuple[str, ...]:
    notes: tuple[str, ...] = (
        _(
            "A future that the customer would bring without the discount does not pay for it: use "
            "the discount to win or keep a deal, not as a gift."
        ),
    )
    unknown = priced.filter(
        pl.any_horizontal(pl.col("price", "cost", "income", "future").is_null())
    )
    if unknown.height:
        notes += (
            _(
                "Left out: {k} of {n} deals whose price, cost or future value is not known.",
                k=number(unknown.height),
                n=number(priced.height),
            ),
        )
    return notes
