"""Policy worlds: one seed, with a policy and without, and what each customer does under either.

Both worlds share every random number, so a customer's two outcomes differ only by the policy, and
the world without advertising is a part of the world with it. In the treated world dealerships start
the policy in waves and a share of the customers is held out at random (`synthetic.rollout`): it is
an experiment of which the assignment and both outcomes of everybody are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dataframely as dy
import numpy as np
import polars as pl

from synthetic.config import Config, find_preset
from synthetic.formats import write_table
from synthetic.keyed import Flags, Ints, Keyed
from synthetic.places import (
    MAKER,
    MANIFEST,
    STAMP,
    TRUTH_FOLDER,
    beside,
    exchange,
    is_ours,
    read_facts,
    refuse_foreign,
)
from synthetic.progress import silent
from synthetic.rollout import (
    POLICIES,
    Policy,
    find_policy,
    make_rollout,
    policy_settings,
    rollout_table,
)
from synthetic.settings import with_settings
from synthetic.world import Network, network_of
from synthetic.writing import parts_of, write_network

WORLDS = ("base", "treated")
OUTCOMES = ("lead", "cars", "visits", "margin", "present")
"""What is compared: a first lead or visit came, cars delivered, visits to the workshop, the margin
of `truth_ledger`, and still here on the last day."""


class TruthPotential(dy.Schema):
    """What each customer does in the base world, and in one in which nobody is held out."""

    customer_id = dy.Int64(primary_key=True, description="customer of the treated or base world")
    outcome = dy.Enum(OUTCOMES, primary_key=True, description="what is counted up to as_of")
    y0 = dy.Float64(description="its value without the policy")
    y1 = dy.Float64(description="its value with it, from the day their dealership starts")
    assigned = dy.Bool(
        description="treated in the treated world: not held out (campaigns: everybody)"
    )


class TruthEffect(dy.Schema):
    """The true effect of the policy on each outcome, over all customers of either world."""

    outcome = dy.Enum(OUTCOMES, primary_key=True, description="what is counted up to as_of")
    n = dy.Int64(description="customers")
    n_assigned = dy.Int64(description="customers treated in the treated world")
    mean_y0 = dy.Float64(description="mean of y0")
    mean_y1 = dy.Float64(description="mean of y1")
    effect = dy.Float64(description="mean of y1 - y0 (ATE)")
    effect_assigned = dy.Float64(description="mean of y1 - y0 over those treated (ATT)")
    total = dy.Float64(
        description="sum of y1 - y0 over those treated: the treated world less the base world"
    )


class TruthRollout(dy.Schema):
    """When each dealership starts the policy."""

    dealership_id = dy.Int64(primary_key=True, description="dealership")
    wave = dy.Int64(min=1, description="wave of the roll-out, drawn at random")
    starts_on = dy.Date(description="first day of the policy")


POLICY_TABLES: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {
        "truth_potential": TruthPotential,
        "truth_effect": TruthEffect,
        "truth_rollout": TruthRollout,
    }
)
"""Truth tables beside two worlds."""

# --- potential outcomes --------------------------------------------------------------------------


def outcomes(
    tables: Mapping[str, pl.LazyFrame], truth: Mapping[str, pl.LazyFrame], config: Config
) -> pl.DataFrame:
    """Return the outcomes of every customer of one world, one row a customer.

    Parameters
    ----------
    tables, truth : mapping of str to polars.LazyFrame
        The world's open tables and its truth, of which customers, deals, service_orders,
        truth_fate and truth_ledger are used.
    config : Config
        What made it.

    Returns
    -------
    polars.DataFrame
        Columns customer_id and `OUTCOMES`, all Float64.
    """
    gone = pl.col("ended_on") <= config.as_of
    begun = truth["truth_fate"].filter(pl.col("started_on") <= config.as_of)
    delivered = tables["deals"].filter(pl.col("delivery_on").is_not_null())
    parts = {
        "cars": delivered.group_by("customer_id").agg(v=pl.len()),
        "visits": tables["service_orders"].group_by("customer_id").agg(v=pl.len()),
        "margin": truth["truth_ledger"].select("customer_id", v="margin"),
        "present": begun.select("customer_id", v=~gone.fill_null(value=False)),
    }
    whole = tables["customers"].select("customer_id", lead=pl.lit(1.0))
    for name, part in parts.items():
        column = part.select("customer_id", pl.col("v").cast(pl.Float64).alias(name))
        whole = whole.join(column, on="customer_id", how="left")
    return whole.with_columns(pl.col(OUTCOMES).fill_null(0.0)).sort("customer_id").collect()


def potential_outcomes(
    base: pl.DataFrame, full: pl.DataFrame, assigned: Callable[[Ints], Flags]
) -> pl.DataFrame:
    """Put outcomes without and with a policy side by side; who is missing has zeros there."""
    long = [
        one.unpivot(list(OUTCOMES), index="customer_id", variable_name="outcome", value_name=name)
        for one, name in ((base, "y0"), (full, "y1"))
    ]
    both = long[0].join(long[1], on=["customer_id", "outcome"], how="full", coalesce=True)
    both = both.with_columns(
        pl.col("y0", "y1").fill_null(0.0), pl.col("outcome").cast(pl.Enum(OUTCOMES))
    ).sort("customer_id", "outcome")
    treated = assigned(both["customer_id"].to_numpy())
    return both.with_columns(pl.Series("assigned", treated, dtype=pl.Boolean))


def _assigned(config: Config, seed: int) -> Callable[[Ints], Flags]:
    """Return who is treated in the world of a configuration: everybody where it has no policy."""
    rollout = make_rollout(config, Keyed(seed))
    if rollout.changes:
        return rollout.treated
    return lambda customer: np.ones(len(customer), dtype=np.bool_)


def _nobody_held_out(config: Config) -> Config:
    return with_settings(config, {"rollout.holdout_share": 0.0})


_NO_OUTCOMES = pl.DataFrame(schema={"customer_id": pl.Int64, **dict.fromkeys(OUTCOMES, pl.Float64)})
"""The outcomes of a world without customers."""


def _lived(config: Config, seed: int, workers: int = 1) -> pl.DataFrame:
    """Return the outcomes of a world, part by part: nothing else of it is kept."""
    parts = [
        outcomes(*({name: frame.lazy() for name, frame in frames.items()},) * 2, config)
        for frames in parts_of(config, seed, workers)
        if "customers" in frames
    ]
    return pl.concat(parts) if parts else _NO_OUTCOMES


def true_effects(potential: pl.DataFrame) -> pl.DataFrame:
    """Return the true effect on each outcome."""
    gain = pl.col("y1") - pl.col("y0")
    return (
        potential.group_by("outcome")
        .agg(
            n=pl.len().cast(pl.Int64),
            n_assigned=pl.col("assigned").sum().cast(pl.Int64),
            mean_y0=pl.col("y0").mean(),
            mean_y1=pl.col("y1").mean(),
            effect=gain.mean(),
            effect_assigned=gain.filter("assigned").mean(),
            total=gain.filter("assigned").sum(),
        )
        .with_columns(pl.col("effect_assigned").fill_null(0.0))
        .sort("outcome")
    )


# --- making them ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Worlds:
    """Two worlds of one seed.

    Attributes
    ----------
    policy : str
        Name of the policy that differs.
    base, treated : Network
        The two worlds.
    potential : polars.DataFrame
        `TruthPotential`: y0 and y1 of every customer and outcome, and who was treated.
    effects : polars.DataFrame
        `TruthEffect`: the true effect on each outcome.
    rollout : polars.DataFrame
        `TruthRollout`: when each dealership starts.
    """

    policy: str
    base: Network
    treated: Network
    potential: pl.DataFrame
    effects: pl.DataFrame
    rollout: pl.DataFrame


def make_worlds(
    *,
    policy: str,
    preset: str = "tiny",
    seed: int,
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Worlds:
    """Make the world of a policy and the world without it, in memory.

    Parameters
    ----------
    policy : str
        A name of `POLICIES`.
    preset : str
        One of `synthetic.PRESETS`.
    seed : int
        The seed of both worlds.
    settings : mapping, optional
        Settings of both worlds by their full names; those of ``rollout`` say when each dealership
        starts and how many customers are held out.
    **changes
        Fields of `Config` to change in both worlds.

    Returns
    -------
    Worlds
        The two networks, the potential outcomes and the true effects.

    Raises
    ------
    InputError
        Unknown policy, preset or setting.

    Examples
    --------
    >>> worlds = make_worlds(policy="campaigns", preset="tiny", seed=1, n_customers=100)
    >>> worlds.base.sizes()["customers"] <= worlds.treated.sizes()["customers"]
    True
    """
    config = with_settings(find_preset(preset, **changes), dict(settings or {}))
    sides = {
        world: with_settings(config, asked) for world, asked in policy_settings(policy).items()
    }
    made = {world: network_of(side, seed) for world, side in sides.items()}
    base, treated = (outcomes(made[w].tables, made[w].truth, sides[w]) for w in WORLDS)
    potential = _potential(sides["treated"], seed, base, treated)
    rollout = rollout_table(make_rollout(sides["treated"], Keyed(seed)))
    effects = true_effects(potential)
    return Worlds(policy, made["base"], made["treated"], potential, effects, rollout)


def _potential(
    config: Config, seed: int, base: pl.DataFrame, treated: pl.DataFrame, workers: int = 1
) -> pl.DataFrame:
    """Return potential outcomes; those held out are let live with the policy as well."""
    held_out = bool(config.rollout.policy) and config.rollout.holdout_share > 0
    full = _lived(_nobody_held_out(config), seed, workers) if held_out else treated
    return potential_outcomes(base, full, _assigned(config, seed))


_TABLES = ("truth_potential", "truth_effect", "truth_rollout")


def is_our_pair(out: Path) -> bool:
    """Say whether a folder holds nothing but two worlds that `write_worlds` wrote."""
    facts = read_facts(out / MANIFEST)
    if facts.get("made_by") != MAKER or "policy" not in facts:
        return False
    truth = out / TRUTH_FOLDER
    known = {out / MANIFEST, out / STAMP, truth, *(out / world for world in WORLDS)}
    known |= {truth / f"{name}.parquet" for name in _TABLES}
    inside = {path for path in out.iterdir() if path not in known}
    held = {path for path in truth.iterdir() if path not in known} if truth.is_dir() else set()
    return not inside and not held and all(is_ours(out / world) for world in WORLDS)


def write_worlds(
    out: Path | str,
    *,
    policy: str,
    preset: str = "small",
    seed: int,
    force: bool = False,
    progress: Callable[[int, int], None] = silent,
    workers: int = 1,
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> dict[str, int]:
    """Write the two worlds of a policy, `out/base` and `out/treated`, and their potential outcomes.

    Parameters
    ----------
    out : Path or str
        The folder to make. It appears whole or not at all.
    policy : str
        A name of `POLICIES`.
    preset, seed, force, progress, workers, settings, **changes
        As `synthetic.write_network` takes them, for both worlds.

    Returns
    -------
    dict of str to int
        Rows by table of both worlds, and of the potential outcomes.

    Raises
    ------
    InputError
        Unknown policy, preset or setting; or `out` holds something else or cannot be written to.
    """
    place = Path(out)
    config = with_settings(find_preset(preset, **changes), dict(settings or {}))
    sides = policy_settings(policy)
    if not (place.is_dir() and is_our_pair(place)):
        refuse_foreign(place, force=force)
    else:
        refuse_foreign(place, force=True)
    with beside(place) as folder:
        made = folder / "made"
        rows: dict[str, int] = {}
        made.mkdir()
        for world, asked in sides.items():
            count = write_network(
                made / world, preset=preset, seed=seed, progress=progress, workers=workers,
                settings=dict(settings or {}) | asked, **changes,
            )  # fmt: skip
            rows |= {f"{world}/{name}": n for name, n in count.items()}
        rows |= _write_potential(made, config, sides, seed, workers)
        facts = {"made_by": MAKER, "policy": policy, "seed": seed, "preset": preset}
        chosen = find_policy(policy)
        facts |= {"meaning": chosen.meaning, "worlds": sides, "treated": dict(chosen.treated)}
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        (made / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
        exchange(made, place, folder)
    return rows


def _write_potential(
    made: Path, config: Config, sides: dict[str, dict[str, Any]], seed: int, workers: int
) -> dict[str, int]:
    """Write potential outcomes and effects from the two worlds on disk."""
    ends = []
    for world in WORLDS:
        where = made / world
        names = ("customers", "deals", "service_orders")
        tables = {name: pl.scan_parquet(where / f"{name}.parquet") for name in names}
        truth = {
            name: pl.scan_parquet(where / TRUTH_FOLDER / f"{name}.parquet")
            for name in ("truth_fate", "truth_ledger")
        }
        ends.append(outcomes(tables, truth, with_settings(config, sides[world])))
    treated = with_settings(config, sides["treated"])
    potential = _potential(treated, seed, ends[0], ends[1], workers)
    rollout = rollout_table(make_rollout(treated, Keyed(seed)))
    parts = (potential, true_effects(potential), rollout)
    frames = dict(zip(_TABLES, parts, strict=True))
    (made / TRUTH_FOLDER).mkdir()
    for name, frame in frames.items():
        write_table(made / TRUTH_FOLDER / f"{name}.parquet", name, POLICY_TABLES[name], frame)
    return {name: frame.height for name, frame in frames.items()}


__all__ = [
    "OUTCOMES",
    "POLICIES",
    "WORLDS",
    "Policy",
    "TruthEffect",
    "TruthPotential",
    "TruthRollout",
    "Worlds",
    "find_policy",
    "make_worlds",
    "policy_settings",
    "potential_outcomes",
    "true_effects",
    "write_worlds",
]
