"""Draws of the mixing distributions, and a clock in whole millionths of a day.

Draws are quantiles at keyed uniforms, so each is a function of its key alone. What comes fresh
from a special function is rounded to 33 binary digits, and times are whole ticks of a millionth of
a day (0.09 seconds), so that the last bit of a processor's arithmetic does not change the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from synthetic.clock import day_of
from synthetic.closed_form.parameters import Cohort
from synthetic.keyed import Floats, Ints, Keyed

TICKS = 1_000_000
"""Ticks in a day."""

FAR_DAYS = 3_652_425.0
"""Ten thousand years: later times are cut here, beyond anything that is followed."""

_KEPT = 2.0**33
_LEAST = 1e-300


def rounded(value: Any) -> Floats:
    """Round to 33 binary digits (about ten decimal ones).

    Examples
    --------
    >>> float(rounded(0.1)) == 0.1, abs(float(rounded(0.1)) - 0.1) < 1e-10
    (False, True)
    """
    mantissa, exponent = np.frexp(np.asarray(value, dtype=np.float64))
    return np.asarray(np.ldexp(np.rint(mantissa * _KEPT) / _KEPT, exponent))


def gamma(draws: Keyed, field: str, shape: float, rate: Any, ids: Ints, event: Any = 0) -> Floats:
    """Return gamma variables of the shape and rate given, above zero."""
    value = special.gammaincinv(shape, draws.uniform(field, ids, event)) / rate
    return np.maximum(rounded(value), _LEAST)


def beta(draws: Keyed, field: str, a: float, b: float, ids: Ints) -> Floats:
    """Return beta variables, above zero."""
    return np.maximum(rounded(special.betaincinv(a, b, draws.uniform(field, ids))), _LEAST)


def ticks(days: Any) -> Ints:
    """Return days as whole ticks, at least one and at most ten thousand years."""
    near = np.minimum(np.asarray(days, dtype=np.float64), FAR_DAYS)
    return np.asarray(np.maximum(np.rint(near * TICKS), 1), dtype=np.int64)


def erlang_ticks(draws: Keyed, field: str, k: int, rate: Floats, ids: Ints, event: int) -> Ints:
    """Return gaps of k exponential phases of so many a week each, in ticks."""
    phases = draws.erlang(field, k, ids, event) * k
    return ticks(np.minimum(phases / np.maximum(rate, _LEAST), FAR_DAYS) * 7.0)


def last_day_of(at: Ints) -> Ints:
    """Return the number of the day, counted from the first, at whose end the tick is known."""
    return -(-at // TICKS)


def first_days(draws: Keyed, cohort: Cohort, ids: Ints) -> Ints:
    """Return the day, since 1970-01-01, on which each customer comes."""
    offset = draws.integer("closed.first_day@1", cohort.acquisition_days, ids)
    return day_of(cohort.starts_on) + offset


def dealership_of(draws: Keyed, cohort: Cohort, ids: Ints) -> Ints:
    """Return each customer's dealership, 1 … n, each as likely."""
    return 1 + draws.integer("closed.dealership@1", cohort.n_dealerships, ids)
