"""The loyalty programme: who joins, and the points they earn, use and lose.

The satisfied join more often, and membership itself changes nothing: any difference between members
and others is selection. A point is worth one currency unit; a discount at the workshop is paid for
with points when a member has enough of them; points expire after a time without activity.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from crm_analysis.schema import POINT_KINDS, TIERS
from synthetic.clock import DAY, chosen, dates, masked
from synthetic.customers import Customers
from synthetic.keyed import Ints, logistic
from synthetic.log import Log
from synthetic.network import Market

if TYPE_CHECKING:
    from synthetic.relation import Relations

_EARN, _REDEEM, _EXPIRE = range(len(POINT_KINDS))
_ROOM, _CARS_FROM, _LAST = 10_000, 5_000, 9_999


def loyalty_tables(
    market: Market,
    who: Customers,
    relations: Relations,
    deals: pl.DataFrame,
    orders: pl.DataFrame,
    end: int,
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Write accounts and movements of points before minute `end`, and why each customer joined."""
    rules, fates = market.config.loyalty, relations.fates
    place, customer = fates["place"], fates["customer"]
    chance = logistic(rules.join_logit + rules.join_satisfaction * who.satisfaction[place])
    chance = np.round(chance, 9)
    uniform = market.draws.uniform("loyalty.joins@1", customer)
    truth = pl.DataFrame({"customer_id": customer, "join_probability": chance, "uniform": uniform})
    member = (uniform < chance) & (fates["start"] < end // DAY)
    ids, joined = customer[member], fates["start"][member]
    events = _events(ids, deals, orders)
    points = _move(market, events, end // DAY)
    earned = (
        points.filter(pl.col("points") > 0)
        .group_by("loyalty_account_id")
        .agg(pl.col("points").sum().alias("earned"))
    )
    accounts = pl.DataFrame(
        {
            "loyalty_account_id": ids,
            "dealership_id": who.dealership[place[member]] + 1,
            "customer_id": ids,
            "joined_on": dates(joined),
        }
    ).join(earned, on="loyalty_account_id", how="left", maintain_order="left")
    return accounts.with_columns(_tier(market)), points, truth


def _tier(market: Market) -> pl.Expr:
    rules, money = market.config.loyalty, market.config.money
    bill = money.service_bill_dollars if market.config.currency == "USD" else money.service_bill
    usual, earned = bill * rules.earn_service, pl.col("earned").fill_null(0)
    return (
        pl.when(earned >= rules.gold * usual)
        .then(pl.lit(TIERS[2]))
        .when(earned >= rules.silver * usual)
        .then(pl.lit(TIERS[1]))
        .otherwise(pl.lit(TIERS[0]))
        .alias("tier")
    )


def _events(members: Ints, deals: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    """List what members paid for, in order: deliveries, and closed orders they paid themselves."""
    cars = deals.filter(pl.col("delivery_on").is_not_null()).select(
        "customer_id",
        "dealership_id",
        day=pl.col("delivery_on"),
        car=pl.lit(value=True),
        source=pl.col("deal_id"),
        turn=_CARS_FROM + pl.col("deal_id") % 10 * 3,
        paid=pl.col("sale_price"),
        discount=pl.lit(0, dtype=pl.Int64),
    )
    visits = orders.filter(
        pl.col("closed_at").is_not_null() & (pl.col("payer") == "customer")
    ).select(
        "customer_id",
        "dealership_id",
        day=pl.col("closed_at").dt.date(),
        car=pl.lit(value=False),
        source=pl.col("service_order_id"),
        turn=pl.col("service_order_id") % 1000 * 3,
        paid=pl.col("labour") + pl.col("parts") - pl.col("discount"),
        discount=pl.col("discount"),
    )
    whole = pl.concat([cars, visits], how="vertical_relaxed")
    known = whole.filter(pl.col("customer_id").is_in(members.tolist()))
    return known.sort("customer_id", "day", "turn").with_columns(
        step=pl.int_range(pl.len()).over("customer_id")
    )


def _move(market: Market, events: pl.DataFrame, last_day: int) -> pl.DataFrame:
    """Carry the balance of every account through its events, all accounts at once."""
    rules, log = market.config.loyalty, Log()
    account = events["customer_id"].to_numpy()
    members, at = np.unique(account, return_inverse=True)
    home = np.zeros(len(members), dtype=np.int64)
    home[at] = events["dealership_id"].to_numpy()
    balance, seen = np.zeros(len(members), dtype=np.int64), np.zeros(len(members), dtype=np.int64)
    day = events["day"].to_physical().to_numpy().astype(np.int64)
    step, paid = events["step"].to_numpy(), events["paid"].to_numpy()
    rate = np.where(events["car"].to_numpy(), rules.earn_car, rules.earn_service)
    earned = np.floor(paid * rate).astype(np.int64)
    wish, turn = events["discount"].to_numpy(), events["turn"].to_numpy()
    order = np.argsort(step, kind="stable")
    cuts = np.searchsorted(step[order], np.arange(step.max() + 2 if len(step) else 1))
    for first, stop in pairwise(cuts.tolist()):
        now = order[first:stop]
        who = at[now]
        old = (day[now] - seen[who] > rules.expire_days) & (balance[who] > 0)
        _write(log, members[who][old], now[old], seen[who][old] + rules.expire_days,
               -balance[who][old], turn[now][old], _EXPIRE)  # fmt: skip
        balance[who] = np.where(old, 0, balance[who])
        uses = (wish[now] > 0) & (balance[who] >= wish[now])
        _write(log, members[who][uses], now[uses], day[now][uses], -wish[now][uses],
               turn[now][uses] + 1, _REDEEM)  # fmt: skip
        balance[who] -= np.where(uses, wish[now], 0)
        gains = earned[now] > 0
        _write(log, members[who][gains], now[gains], day[now][gains], earned[now][gains],
               turn[now][gains] + 2, _EARN)  # fmt: skip
        balance[who] += earned[now]
        seen[who] = day[now]
    old = (last_day - 1 - seen >= rules.expire_days) & (balance > 0)
    _write(log, members[old], np.full(int(old.sum()), -1), seen[old] + rules.expire_days,
           -balance[old], np.full(int(old.sum()), _LAST), _EXPIRE)  # fmt: skip
    return _movements(log, members, home, events)


def _write(
    log: Log, account: Ints, event: Ints, day: Ints, points: Ints, turn: Ints, kind: int
) -> None:
    log.add(
        account=account, event=event, day=day, points=points, id=account * _ROOM + turn,
        kind=np.full(len(account), kind),
    )  # fmt: skip


def _movements(log: Log, members: Ints, home: Ints, events: pl.DataFrame) -> pl.DataFrame:
    moved = log.join("id")
    event = moved["event"]
    used = (event >= 0) & (moved["kind"] != _EXPIRE)
    none = np.zeros(0, dtype=np.int64)
    car = events["car"].to_numpy()[event] if len(events) else none.astype(np.bool_)
    source = events["source"].to_numpy()[event] if len(events) else none
    return pl.DataFrame(
        {
            "loyalty_transaction_id": moved["id"],
            "loyalty_account_id": moved["account"],
            "dealership_id": home[np.searchsorted(members, moved["account"])],
            "happened_on": dates(moved["day"]),
            "kind": chosen(POINT_KINDS, moved["kind"]),
            "points": moved["points"],
            "deal_id": masked(source, used & car),
            "service_order_id": masked(source, used & ~car),
        }
    )
