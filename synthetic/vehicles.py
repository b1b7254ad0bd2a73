"""Vehicles: identification numbers, colours, customers' own cars, and unsold stock."""

from __future__ import annotations

import numpy as np
import polars as pl

from crm_analysis.schema import CONDITIONS
from synthetic.cars import OWN_CAR, USED
from synthetic.clock import DAY, YEAR, chosen, dates, year_of
from synthetic.customers import Customers
from synthetic.deals import KEPT_A_YEAR, price_level, rounded
from synthetic.keyed import Ints, mix
from synthetic.network import Market
from synthetic.relation import Relations

_VIN_LETTERS = np.frombuffer(b"0123456789ABCDEFGHJKLMNPRSTUVWXYZ", dtype=np.uint8)
_STOCK_FROM = 9_000_000_000_000
"""First vehicle_id of unsold stock, above any customer's car."""

STOCK_A_SEAT = 12
STOCK_DAYS_MOST = 150
"""Unsold cars a sales seat, and the longest they have stood [assumed]."""


def vin_numbers(ids: Ints) -> pl.Series:
    """Return a VIN for each vehicle_id: a one-to-one scramble, so never the same twice."""
    rest = mix(ids.astype(np.uint64) + np.uint64(0x5851F42D4C957F2D))
    digits = np.empty((len(ids), 17), dtype=np.uint8)
    digits[:, :4] = np.frombuffer(b"XZZS", dtype=np.uint8)
    base = np.uint64(33)
    for place in range(16, 3, -1):
        digits[:, place] = _VIN_LETTERS[(rest % base).astype(np.int64)]
        rest //= base
    return pl.Series(digits.view("S17").ravel(), dtype=pl.Binary).cast(pl.String)


def own_cars(who: Customers, relations: Relations, end: int) -> pl.DataFrame:
    """Write cars that customers bought elsewhere and bring to the workshop."""
    cars = relations.cars
    keep = (cars["car"] == OWN_CAR) & (cars["start"] < end // DAY)
    customer, model = cars["customer"][keep], cars["model"][keep]
    start, age = cars["start"][keep], cars["age"][keep]
    none = np.zeros(len(customer), dtype=np.int64)
    return pl.DataFrame(
        {
            "vehicle_id": customer * 10 + OWN_CAR,
            "model_id": model + 1,
            "dealership_id": who.dealership[np.searchsorted(who.ids, customer)] + 1,
            "condition": chosen(CONDITIONS, np.full(len(customer), USED)),
            "model_year": year_of(start - np.floor(age * YEAR).astype(np.int64)),
            "arrived_on": dates(start),
            "cost": none,
            "list_price": none,
            "options_value": none,
            "customer_id": customer,
            "sold_on": pl.Series([None] * len(customer), dtype=pl.Date),
        }
    )


def stock(market: Market, end: int) -> pl.DataFrame:
    """Write new cars that stand unsold on the last day of the data."""
    config, draws = market.config, market.draws
    each = config.sales_seats * STOCK_A_SEAT
    dealership = np.repeat(np.arange(config.n_dealerships), each)
    ids = _STOCK_FROM + dealership * 100_000 + np.tile(np.arange(each), config.n_dealerships)
    stood = np.floor(STOCK_DAYS_MOST * draws.uniform("stock.days@1", ids) ** 1.6).astype(np.int64)
    arrived = end // DAY - 1 - stood
    used = draws.chance("stock.used@1", config.money.used_share, ids)
    age = np.where(used, 1 + np.floor(6 * draws.uniform("stock.age@1", ids)), 0.0)
    built = arrived - np.floor(age * YEAR).astype(np.int64)
    model = market.catalogue.pick(
        market.group[dealership], draws.uniform("stock.model@1", ids), built
    )
    base = market.catalogue.price[model] * price_level(market, arrived) * KEPT_A_YEAR**age
    options = rounded(market, base * 0.15 * draws.uniform("stock.options@1", ids), step=50)
    price = rounded(market, base, step=50) + options
    return pl.DataFrame(
        {
            "vehicle_id": ids,
            "model_id": model + 1,
            "dealership_id": dealership + 1,
            "condition": chosen(CONDITIONS, used.astype(np.int64)),
            "model_year": year_of(arrived) - age.astype(np.int64),
            "arrived_on": dates(arrived),
            "cost": rounded(market, price * 0.915, step=10),
            "list_price": price,
            "options_value": options,
            "customer_id": pl.Series([None] * len(ids), dtype=pl.Int64),
            "sold_on": pl.Series([None] * len(ids), dtype=pl.Date),
        }
    )


def vehicle_table(market: Market, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Join cars and give each its number and colour."""
    whole = pl.concat(parts, how="vertical_relaxed").sort("vehicle_id")
    ids = whole["vehicle_id"].to_numpy()
    colour = market.words.colours.draw(market.draws.uniform("car.colour@1", ids))
    return whole.with_columns(vin_numbers(ids).alias("vin"), colour.alias("colour"))
