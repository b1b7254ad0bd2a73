"""The closed-form worlds by name, in memory: `make_closed_form`."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from crm_analysis.errors import InputError, near
from synthetic.closed_form.bgnbd import BetaGeometricBuying, BetaGeometricModel
from synthetic.closed_form.buying import Frames, buying_curves, buying_frames
from synthetic.closed_form.markov_ladder import (
    MarkovLadder,
    ladder_curves,
    ladder_frames,
    transition_table,
)
from synthetic.closed_form.network import dealership_table
from synthetic.closed_form.parameters import Cohort, build, describe_parameters
from synthetic.closed_form.paretonbd import ParetoBuying, ParetoModel
from synthetic.closed_form.regular_visits import RegularVisits, RegularVisitsModel
from synthetic.closed_form.sbg import ShiftedBetaGeometric, sbg_curves, sbg_frames
from synthetic.closed_form.schemas import OPEN, SCHEMAS, fit
from synthetic.closed_form.weibull_competing_risks import CompetingRisks, risk_curves, risk_frames
from synthetic.keyed import Ints, Keyed
from synthetic.settings import as_toml

BLOCK = 32_768
"""Customers made at a time."""

N_CUSTOMERS = 10_000
"""Customers of a world when not said otherwise."""

_MOST_CUSTOMERS = 1_000_000_000

_BUYING = ("purchases", "truth_event", "truth_buyer", "truth_buyer_value")


@dataclass(frozen=True)
class World:
    """What there is to know of a world before it is made.

    Attributes
    ----------
    about : str
        What is exactly true in it.
    kind : type
        Its parameters.
    tables : tuple of str
        Tables with rows for customers, in order.
    block : callable
        Takes parameters, draws and ids; returns those tables.
    curves : callable
        Takes parameters; returns exact population curves.
    fixed : callable
        Takes parameters; returns further tables that do not depend on customers.
    """

    about: str
    kind: type[Cohort]
    tables: tuple[str, ...]
    block: Callable[[Any, Keyed, Ints], Frames]
    curves: Callable[[Any], pl.DataFrame]
    fixed: Callable[[Any], Frames] = lambda _: {}


def _buying(about: str, kind: type[Cohort], model: Any) -> World:
    return World(
        about=about,
        kind=kind,
        tables=_BUYING,
        block=partial(buying_frames, model),
        curves=partial(buying_curves, model),
    )


WORLDS: Mapping[str, World] = MappingProxyType(
    {
        "sbg": World(
            about="yearly contracts, shifted beta-geometric renewals",
            kind=ShiftedBetaGeometric,
            tables=("renewals", "spells", "purchases", "truth_contract"),
            block=sbg_frames,
            curves=sbg_curves,
        ),
        "bgnbd": _buying(
            "BG/NBD purchases with gamma-gamma spend", BetaGeometricBuying, BetaGeometricModel()
        ),
        "paretonbd": _buying(
            "Pareto/NBD purchases with gamma-gamma spend", ParetoBuying, ParetoModel()
        ),
        "regular_visits": _buying(
            "MBG/CNBD-k visits at regular intervals, with a warranty cliff if asked",
            RegularVisits, RegularVisitsModel(),
        ),
        "weibull_competing_risks": World(
            about="ownerships that end by repurchase here, elsewhere, or defection",
            kind=CompetingRisks,
            tables=("ownerships", "spells", "purchases", "truth_owner"),
            block=risk_frames,
            curves=risk_curves,
        ),
        "markov_ladder": World(
            about="a loyalty ladder, a Markov chain by quarter",
            kind=MarkovLadder,
            tables=("ladder", "purchases", "truth_climber", "truth_state"),
            block=ladder_frames,
            curves=ladder_curves,
            fixed=lambda parameters: {"truth_transition": transition_table(parameters)},
        ),
    }
)  # fmt: skip
"""Worlds by name."""


def find_world(name: str) -> World:
    """Return a world.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in WORLDS:
        raise InputError(
            f"Closed-form world {name!r} was asked for{near(name, WORLDS)}; there are "
            f"{', '.join(WORLDS)}. Choose one of these."
        )
    return WORLDS[name]


def parameter_rows(name: str, changes: Mapping[str, Any]) -> list[dict[str, str]]:
    """List every setting of a world, as `synthetic.settings.settings_rows` does.

    Parameters
    ----------
    name : str
        The world.
    changes : mapping of str to value
        Settings other than the defaults.

    Raises
    ------
    InputError
        No such world or setting, or a value outside its range.

    Examples
    --------
    >>> parameter_rows("bgnbd", {"r": 0.5})[-4]["value"]
    '0.5'
    """
    asked = dict(changes)
    count = asked.pop("n_customers", N_CUSTOMERS)
    _check_size("n_customers", count, 0)
    parameters = build(find_world(name).kind, asked)
    values = [as_toml(getattr(parameters, part.name)) for part in fields(parameters)]
    rows = [
        {key: row[key] for key in ("name", "unit", "meaning", "source", "confidence")}
        | {"value": value, "range": f"{row['least']} … {row['most']}" if row["least"] else ""}
        for row, value in zip(describe_parameters(parameters), values, strict=True)
    ]
    size = {
        "name": "n_customers", "value": str(count), "unit": "count",
        "range": f"0 … {_MOST_CUSTOMERS}", "meaning": "customers made", "source": "",
        "confidence": "a choice",
    }  # fmt: skip
    return [size, *rows]


def _check_size(name: str, value: Any, least: int) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not least <= int(value) <= _MOST_CUSTOMERS:
        raise InputError(
            f"{name} was asked to be {value!r}; it may be a whole number from {least} to "
            f"{_MOST_CUSTOMERS:,}. Choose such a number."
        )


def table_names(world: World, parameters: Cohort) -> tuple[str, ...]:
    """Return the names of a world's tables, in the order of their schemas."""
    made = {"dealerships", *world.tables, "truth_parameters", "truth_curve"}
    return tuple(name for name in SCHEMAS if name in made | set(world.fixed(parameters)))


def generate_blocks(
    world: World, parameters: Cohort, *, n_customers: int, seed: int, block_size: int = BLOCK
) -> Iterator[Frames]:
    """Yield the tables of a world in parts: what is fixed, then each block of customers.

    Raises
    ------
    InputError
        A size or seed that no world can have.
    """
    _check_size("n_customers", n_customers, 0)
    _check_size("seed", seed, 0)
    _check_size("block_size", block_size, 1)
    draws = Keyed(int(seed))
    fixed = {
        "dealerships": dealership_table(parameters),
        "truth_parameters": pl.DataFrame(describe_parameters(parameters)),
        "truth_curve": world.curves(parameters),
        **world.fixed(parameters),
    }
    yield {name: fit(name, frame) for name, frame in fixed.items()}
    for start in range(0, max(n_customers, 1), block_size):
        ids = np.arange(start + 1, min(start + block_size, n_customers) + 1, dtype=np.int64)
        frames = world.block(parameters, draws, ids)
        yield {name: fit(name, frames[name]) for name in world.tables}


@dataclass(frozen=True)
class ClosedForm:
    """A closed-form world held in memory.

    Attributes
    ----------
    name : str
        The world.
    parameters : Cohort
        What made it, together with `seed` and `n_customers`.
    n_customers, seed : int
    tables : mapping of str to polars.LazyFrame
        The open tables: ``purchases`` and others in the shapes the library reads.
    truth : mapping of str to polars.LazyFrame
        The truth tables of `synthetic.closed_form.schemas.TRUTH`.
    """

    name: str
    parameters: Cohort
    n_customers: int
    seed: int
    tables: Mapping[str, pl.LazyFrame]
    truth: Mapping[str, pl.LazyFrame]

    def settings(self) -> pl.DataFrame:
        """Return every parameter with its meaning, unit, source, confidence and range."""
        return pl.DataFrame(describe_parameters(self.parameters))

    def sizes(self) -> dict[str, int]:
        """Return the number of rows of each table, open and truth."""
        every = {**self.tables, **self.truth}
        return {name: frame.select(pl.len()).collect().item() for name, frame in every.items()}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{count:,}</td></tr>"
            for name, count in self.sizes().items()
        )
        title = f"Closed-form world {self.name} ({WORLDS[self.name].about}), seed {self.seed}"
        return (
            f"<table><caption>{html.escape(title)}, as of {self.parameters.as_of}</caption>"
            f"<tr><th>table</th><th>rows</th></tr>{rows}</table>"
        )


def make_closed_form(
    name: str,
    *,
    n_customers: int = N_CUSTOMERS,
    seed: int,
    block_size: int = BLOCK,
    **parameters: Any,
) -> ClosedForm:
    """Make a world in which an estimator's model is exactly true, in memory.

    Parameters
    ----------
    name : str
        ``"sbg"``, ``"bgnbd"``, ``"paretonbd"``, ``"regular_visits"``,
        ``"weibull_competing_risks"`` or ``"markov_ladder"``.
    n_customers : int
        Customers; the first ones of a larger world are those of a smaller one.
    seed : int
        The same seed gives the same data.
    block_size : int
        Customers made at a time; it does not change the data.
    **parameters
        Parameters of the world to change, e.g. ``r=0.5``; `WORLDS` names their class.

    Returns
    -------
    ClosedForm
        Lazy open tables, and the truth: latents, states and exact expectations.

    Raises
    ------
    InputError
        Unknown world or parameter, or a value outside its range.

    Examples
    --------
    >>> world = make_closed_form("bgnbd", n_customers=50, seed=1)
    >>> world.truth["truth_buyer"].collect().height
    50
    """
    world = find_world(name)
    made = build(world.kind, parameters)
    parts: dict[str, list[pl.DataFrame]] = {}
    blocks = generate_blocks(world, made, n_customers=n_customers, seed=seed, block_size=block_size)
    for frames in blocks:
        for table, frame in frames.items():
            parts.setdefault(table, []).append(frame)
    whole = {table: pl.concat(parts[table]).lazy() for table in table_names(world, made)}
    return ClosedForm(
        name=name,
        parameters=made,
        n_customers=int(n_customers),
        seed=int(seed),
        tables={table: frame for table, frame in whole.items() if table in OPEN},
        truth={table: frame for table, frame in whole.items() if table not in OPEN},
    )
