"""The dealerships of a closed-form world: names only, without any effect."""

from __future__ import annotations

import numpy as np
import polars as pl

from synthetic.closed_form.parameters import Cohort
from synthetic.keyed import Ints


def dealership_name(dealership: Ints) -> pl.Series:
    """Return the name of each dealership."""
    return pl.Series(
        [f"Dealership {number}" for number in range(int(dealership.max(initial=0)) + 1)],
        dtype=pl.String,
    ).gather(dealership)


def dealership_table(parameters: Cohort) -> pl.DataFrame:
    """Return the table of dealerships."""
    numbers = np.arange(1, parameters.n_dealerships + 1)
    empty = pl.lit(None)
    return pl.DataFrame(
        {"dealership_id": numbers, "name": dealership_name(numbers)}
    ).with_columns(
        network=pl.lit("Closed-form network"), region=empty, city=empty, brand_group=empty,
        opened_on=empty, sales_seats=empty, service_bays=empty,
    )  # fmt: skip
