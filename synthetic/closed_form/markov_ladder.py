r"""World ``markov_ladder``: customers climb and fall on the loyalty ladder, a step a quarter.

The state in a quarter depends on the state in the one before alone, by one transition matrix P for
everybody: the shares after n quarters are :math:`\pi_0 P^n`, and the discounted margin expected
from a state is :math:`\sum_{n \ge 1} (P / (1 + d))^n m = ((I - P / (1 + d))^{-1} - I)\, m`.

Clock: quarters are the model's own time, so dates are exact: the first day of each quarter from
`starts_on`; a state holds for its quarter.

References
----------
Pfeifer & Carraway (2000), "Modeling customer relationships as Markov chains", Journal of
Interactive Marketing 14(2), 43-55. The ladder: Christopher, Payne & Ballantyne (1991),
"Relationship Marketing".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from crm_analysis.errors import InputError
from synthetic.clock import dates, day_of, month_of
from synthetic.closed_form.buying import Frames
from synthetic.closed_form.draws import dealership_of, rounded
from synthetic.closed_form.network import dealership_name
from synthetic.closed_form.parameters import OWN, Cohort, parameter
from synthetic.closed_form.schemas import STATES
from synthetic.keyed import Floats, Ints, Keyed

_QUARTER = 3
_DAYS_IN_16_QUARTERS = 1461
_TOLERANCE = 1e-9
"""By how much a row of chances may miss one: rounding in a settings file."""

_LOST = STATES.index("lost")


@dataclass(frozen=True, kw_only=True)
class MarkovLadder(Cohort):
    """Parameters of the ladder; time in quarters; states: prospect … advocate, lost."""

    starts_on: date = parameter(
        date(2019, 1, 1), "first day of the first quarter observed", "date", "choice", "assumed",
        least=date(1990, 1, 1), most=date(2100, 1, 1),
    )  # fmt: skip
    acquisition_days: int = parameter(
        1_096, "days over which customers come, in whole quarters, each as likely", "days",
        "choice", "assumed", least=92, most=36_525,
    )  # fmt: skip
    horizon_days: int = parameter(
        732, "days past the last over which the truth is followed, in whole quarters", "days",
        "choice", "assumed", least=92, most=36_525,
    )  # fmt: skip
    transition: tuple[tuple[float, ...], ...] = parameter(
        (
            (0.70, 0.25, 0.00, 0.00, 0.00, 0.05),
            (0.00, 0.78, 0.14, 0.00, 0.00, 0.08),
            (0.00, 0.04, 0.84, 0.08, 0.00, 0.04),
            (0.00, 0.00, 0.06, 0.86, 0.06, 0.02),
            (0.00, 0.00, 0.02, 0.05, 0.92, 0.01),
            (0.00, 0.00, 0.00, 0.00, 0.00, 1.00),
        ),
        "chance of each state in the next quarter, a row a state", "probability", OWN, "assumed",
    )  # fmt: skip
    initial: tuple[float, ...] = parameter(
        (0.6, 0.4, 0.0, 0.0, 0.0, 0.0), "chance of each state in the first quarter", "probability",
        OWN, "assumed",
    )  # fmt: skip
    margins: tuple[float, ...] = parameter(
        (0.0, 120.0, 220.0, 300.0, 340.0, 0.0), "margin of a quarter in each state",
        "currency units", OWN, "assumed",
    )  # fmt: skip
    margin_share: float = parameter(
        0.46, "margin to revenue", "fraction", OWN, "assumed", least=0.01, most=1.0
    )

    def check(self) -> None:
        """Refuse chances that do not sum to one, wrong shapes, and quarters that start midway."""
        super().check()
        if self.starts_on.day != 1:
            raise InputError(
                f"Parameter 'starts_on' was asked to be {self.starts_on}, and quarters start on "
                "the first of a month. Choose such a day."
            )
        if len(self.transition) != len(STATES):
            raise _wrong("transition", f"{len(self.transition)} rows")
        for place, row in enumerate(self.transition):
            _check_chances(place, row)
        _check_chances("initial", self.initial)
        margins: tuple[Any, ...] = self.margins
        finite = [isinstance(value, float) and math.isfinite(value) for value in margins]
        if len(finite) != len(STATES) or not all(finite):
            raise _wrong("margins", str(margins))

    @property
    def n_entry(self) -> int:
        """Quarters in which customers come."""
        return self.acquisition_days * 16 // _DAYS_IN_16_QUARTERS

    @property
    def n_quarters(self) -> int:
        """Quarters observed by `as_of`."""
        months = (self.as_of.year - self.starts_on.year) * 12
        months += self.as_of.month - self.starts_on.month
        return months // _QUARTER + 1

    @property
    def n_ahead(self) -> int:
        """Quarters of the horizon."""
        return self.horizon_days * 16 // _DAYS_IN_16_QUARTERS


def _wrong(name: str, found: str) -> InputError:
    return InputError(
        f"Parameter {name!r} was asked to be {found}; it needs one value for each of the "
        f"{len(STATES)} states ({', '.join(STATES)}). Give these."
    )


def _check_chances(name: int | str, row: object) -> None:
    which = f"row {name} of 'transition' ({STATES[name]})" if isinstance(name, int) else repr(name)
    if not isinstance(row, tuple) or len(row) != len(STATES):
        raise _wrong("transition" if isinstance(name, int) else name, str(row))
    numbers = all(isinstance(each, float) and 0 <= each <= 1 for each in row)
    if not numbers or abs(sum(row) - 1) > _TOLERANCE:
        raise InputError(
            f"The chances in {which} were asked to be {row}; each may be from 0 to 1 and they must "
            "sum to 1. Correct them."
        )


def transition_matrix(parameters: MarkovLadder) -> Floats:
    """Return P, shape (6, 6)."""
    return np.array(parameters.transition)


def shares_after(parameters: MarkovLadder, n_quarters: int) -> Floats:
    """Return the exact shares of the states after 0 … n quarters, shape (n + 1, 6)."""
    shares, matrix = [np.array(parameters.initial)], transition_matrix(parameters)
    for _ in range(n_quarters):
        shares.append(shares[-1] @ matrix)
    return np.stack(shares)


def expected_margins(parameters: MarkovLadder) -> tuple[Floats, Floats]:
    """Return the margin expected over the horizon, and discounted for ever, from each state.

    Both count the quarters after the present one; each later quarter is discounted once more.
    """
    matrix, margin = transition_matrix(parameters), np.array(parameters.margins)
    near, step = np.zeros(len(STATES)), np.eye(len(STATES))
    for _ in range(parameters.n_ahead):
        step = step @ matrix
        near = near + step @ margin
    faded = matrix / (1 + parameters.annual_discount_rate) ** (_QUARTER / 12)
    ever = np.linalg.solve(np.eye(len(STATES)) - faded, margin) - margin
    return near, ever


def quarter_days(parameters: MarkovLadder, quarters: Ints) -> Ints:
    """Return the first day of quarters 0, 1, …, since 1970-01-01."""
    month = month_of(np.array([day_of(parameters.starts_on)]))[0] + _QUARTER * quarters
    return np.asarray(month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64))


def _cumulated(chances: tuple[float, ...]) -> Floats:
    total = np.cumsum(chances)
    total[-1] = 1.0
    # A state of chance zero after the last possible one must not be reached by rounding.
    last = int(np.flatnonzero(np.array(chances) > 0)[-1])
    total[last:] = 1.0
    return np.asarray(total)


def _paths(draws: Keyed, parameters: MarkovLadder, ids: Ints, entry: Ints) -> Ints:
    """Return states by customer and quarter up to the horizon, -1 before entry."""
    last = parameters.n_quarters + parameters.n_ahead
    steps = np.stack([_cumulated(row) for row in parameters.transition])
    first = _cumulated(parameters.initial)
    state = np.full((len(ids), last), -1, dtype=np.int64)
    for quarter in range(last):
        age = quarter - entry
        uniform = draws.uniform("ladder.state@1", ids, np.maximum(age, 0))
        before = state[:, quarter - 1] if quarter else state[:, 0]
        limits = np.where((age == 0)[:, None], first, steps[before])
        now = (uniform[:, None] >= limits).sum(axis=1)
        state[:, quarter] = np.where(age >= 0, now, -1)
    return state


def ladder_frames(parameters: MarkovLadder, draws: Keyed, ids: Ints) -> Frames:
    """Return the tables of a block of customers."""
    entry = draws.integer("ladder.entry@1", parameters.n_entry, ids)
    state = _paths(draws, parameters, ids, entry)
    seen = parameters.n_quarters
    dealership = dealership_of(draws, parameters, ids)
    home = pl.DataFrame(
        {
            "customer_id": ids,
            "dealership_id": dealership,
            "dealership": dealership_name(dealership),
        }
    )
    ladder = _long(parameters, ids, state[:, :seen], 0).join(
        home, on="customer_id", maintain_order="left"
    )
    return {
        "ladder": ladder,
        "purchases": _purchases(parameters, ladder),
        "truth_climber": _truth(parameters, ids, entry, state[:, seen - 1]),
        "truth_state": _long(parameters, ids, state[:, seen:], seen),
    }


def _names(states: Ints) -> pl.Series:
    return pl.Series(states).replace_strict(dict(enumerate(STATES)), return_dtype=pl.Enum(STATES))


def _long(parameters: MarkovLadder, ids: Ints, state: Ints, since: int) -> pl.DataFrame:
    row, quarter = np.nonzero(state >= 0)
    return pl.DataFrame(
        {
            "customer_id": ids[row],
            "observed_on": dates(quarter_days(parameters, quarter + since)),
            "state": _names(state[row, quarter]),
        }
    )


def _purchases(parameters: MarkovLadder, ladder: pl.DataFrame) -> pl.DataFrame:
    margin = pl.col("state").replace_strict(
        dict(zip(STATES, parameters.margins, strict=True)), return_dtype=pl.Float64
    )
    return (
        ladder.with_columns(margin=margin, happened_on="observed_on", kind=pl.lit("service"))
        .filter(pl.col("margin") != 0)
        .with_columns(revenue=(pl.col("margin") / parameters.margin_share).round(2))
    )


def _truth(parameters: MarkovLadder, ids: Ints, entry: Ints, now: Ints) -> pl.DataFrame:
    near, ever = expected_margins(parameters)
    ahead = np.linalg.matrix_power(transition_matrix(parameters), parameters.n_ahead)
    return pl.DataFrame(
        {
            "customer_id": ids,
            "entered_on": dates(quarter_days(parameters, entry)),
            "state": _names(now),
            "lost_probability": rounded(ahead[now, _LOST]).clip(0, 1),
            "expected_margin": rounded(near[now]),
            "discounted_margin": rounded(ever[now]),
        }
    )


def transition_table(parameters: MarkovLadder) -> pl.DataFrame:
    """Return the transition matrix as a table."""
    n = len(STATES)
    return pl.DataFrame(
        {
            "from_state": _names(np.repeat(np.arange(n), n)),
            "to_state": _names(np.tile(np.arange(n), n)),
            "probability": transition_matrix(parameters).ravel(),
        }
    )


def ladder_curves(parameters: MarkovLadder) -> pl.DataFrame:
    """Return the exact share of each state by quarters since entry."""
    last = parameters.n_quarters + parameters.n_ahead - 1
    shares = shares_after(parameters, last)
    return pl.concat(
        pl.DataFrame(
            {"time": np.arange(last + 1, dtype=np.float64), "value": rounded(shares[:, place])}
        ).with_columns(
            quantity=pl.lit(f"share {name}"), group=pl.lit("all"), time_unit=pl.lit("quarter")
        )
        for place, name in enumerate(STATES)
    )
