"""The cars that customers buy and own: model, condition, age."""

from __future__ import annotations

import numpy as np

from synthetic.clock import YEAR
from synthetic.keyed import Floats, Ints
from synthetic.network import Market

NEW, USED, DEMO = 0, 1, 2
OWN_CAR = 9
"""Place of a car bought elsewhere among a customer's cars; others have their opportunity's."""


def draw_cars(market: Market, dealership: Ints, ids: Ints, day: Ints) -> tuple[Ints, Ints, Floats]:
    """Draw the model, condition and age in years of the car each opportunity is about.

    `day` is the day on which it opens: a used car is one of those on sale when it was new.
    """
    draws, money = market.draws, market.config.money
    chosen = draws.uniform("car.condition@1", ids)
    used, demo = chosen < money.used_share, chosen > 1 - money.demo_share
    condition = np.where(used, USED, np.where(demo, DEMO, NEW))
    years = 1.0 + 7.0 * draws.uniform("car.age@1", ids) ** 1.5
    age = np.where(used, years, np.where(demo, 0.5, 0.0))
    built = day - np.floor(age * YEAR).astype(np.int64)
    uniform = draws.uniform("car.model@1", ids)
    return market.catalogue.pick(market.group[dealership], uniform, built), condition, age
