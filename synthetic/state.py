"""Where each relationship stands while its path is followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from synthetic.keyed import Flags, Floats, Ints


@dataclass
class State:
    """Where each relationship stands; arrays of shape (n,), changed in place along the way."""

    place: Ints
    customer: Ints
    start: Ints
    day: Ints
    satisfaction: Floats
    left: Floats
    model: Ints
    car: Ints
    bought: Ints
    car_age: Floats
    km_start: Floats
    warranty_ends: Ints
    kept_until: Ints
    p_return: Floats
    scheduled: Ints
    repair: Ints
    visited: Ints
    orders: Ints
    review: Ints
    year: Ints
    contacts: Ints
    cared: Flags
    end: Ints
    cause: Ints
    live: Flags


def blank_state(place: Ints, customer: Ints, start: Ints, left: Floats) -> State:
    """Return relationships on their first day, before anything is known of their cars."""
    n = len(place)
    whole: dict[str, Any] = {name: np.zeros(n, dtype=np.int64) for name in _WHOLE}
    real: dict[str, Any] = {
        name: np.zeros(n) for name in ("satisfaction", "car_age", "km_start", "p_return")
    }
    whole["visited"] -= 10**6
    return State(
        place=place, customer=customer, start=start, day=start.copy(), left=left,
        live=np.ones(n, dtype=np.bool_), cared=np.ones(n, dtype=np.bool_), **whole, **real,
    )  # fmt: skip


_WHOLE = (
    "model", "car", "bought", "warranty_ends", "kept_until", "scheduled", "repair", "visited",
    "orders", "review", "year", "contacts", "end", "cause",
)  # fmt: skip
