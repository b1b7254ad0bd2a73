"""Policy worlds: one seed, two policies, and what each customer does under either.

Both worlds share every random number, so a customer's two outcomes differ only by the policy, and
the world without advertising is a part of the world with it. A fair coin of each customer's own
says in which arm an experiment would have put them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dataframely as dy
import polars as pl

from crm_analysis.errors import InputError, near
from synthetic.config import Config, find_preset
from synthetic.formats import write_table
from synthetic.keyed import Keyed
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
from synthetic.settings import with_settings
from synthetic.world import Network, network_of
from synthetic.writing import write_network

WORLDS = ("base", "treated")
OUTCOMES = ("lead", "cars", "visits", "margin", "present")
"""What is compared: a first lead or visit came, cars delivered, visits to the workshop, the margin
of `truth_ledger`, and still here on the last day."""


@dataclass(frozen=True)
class Policy:
    """A policy as settings: what it means, and how its two worlds differ from the preset."""

    meaning: str
    base: Mapping[str, Any]
    treated: Mapping[str, Any]


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "contacts": Policy(
            "contacts with customers from four to six a year", {}, {"contacts.customers_a_year": 6}
        ),
        "response": Policy(
            "every approach is answered, web leads and chats within ten minutes",
            {},
            {"funnel.response_within": 10.0, "funnel.rescued": 1.0},
        ),
        "reminders": Policy(
            "every service reminder is sent on time by a machine", {}, {"contacts.automatic": 1.0}
        ),
        "retention": Policy(
            "the hazard of defection is a fifth lower", {}, {"relation.hazard": 0.8}
        ),
        "discount": Policy(
            "no discount above three per cent of the list price", {}, {"money.discount_cap": 0.03}
        ),
        "campaigns": Policy(
            "advertising runs, with its staggered roll-out and holdout, against none",
            {"campaigns.running": 0},
            {},
        ),
    }
)
"""Policies by name."""

_SCALED = ("relation.hazard",)
"""Settings that a policy multiplies rather than replaces."""


class TruthPotential(dy.Schema):
    """What each customer does in either world."""

    customer_id = dy.Int64(primary_key=True, description="customer of the treated or base world")
    outcome = dy.Enum(OUTCOMES, primary_key=True, description="what is counted up to as_of")
    y0 = dy.Float64(description="its value in the base world")
    y1 = dy.Float64(description="its value in the treated world")
    assigned = dy.Bool(description="a fair experiment would have treated them")


class TruthEffect(dy.Schema):
    """The true effect of the policy on each outcome, over all customers of either world."""

    outcome = dy.Enum(OUTCOMES, primary_key=True, description="what is counted up to as_of")
    n = dy.Int64(description="customers")
    mean_y0 = dy.Float64(description="mean in the base world")
    mean_y1 = dy.Float64(description="mean in the treated world")
    effect = dy.Float64(description="mean of y1 - y0 (ATE)")
    effect_assigned = dy.Float64(description="mean of y1 - y0 over those assigned (ATT)")


POLICY_TABLES: Mapping[str, type[dy.Schema]] = MappingProxyType(
    {"truth_potential": TruthPotential, "truth_effect": TruthEffect}
)
"""Truth tables beside two worlds."""


def find_policy(name: str) -> Policy:
    """Return a policy.

    Raises
    ------
    InputError
        There is no such policy.
    """
    if name not in POLICIES:
        raise InputError(
            f"Policy {name!r} was asked for{near(name, POLICIES)}; there are "
            f"{', '.join(POLICIES)}. Choose one of these."
        )
    return POLICIES[name]


def policy_settings(config: Config, policy: str) -> dict[str, dict[str, Any]]:
    """Return the settings that each world of a policy changes in a configuration.

    Examples
    --------
    >>> policy_settings(find_preset("tiny"), "contacts")
    {'base': {}, 'treated': {'contacts.customers_a_year': 6}}
    """
    chosen = find_policy(policy)
    sides = zip(WORLDS, (chosen.base, chosen.treated), strict=True)
    return {world: _absolute(config, changes) for world, changes in sides}


def _absolute(config: Config, changes: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(changes)
    for name in _SCALED:
        if name in out:
            section, setting = name.split(".")
            out[name] = round(getattr(getattr(config, section), setting) * out[name], 9)
    return out


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


def potential_outcomes(base: pl.DataFrame, treated: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Put the outcomes of two worlds side by side; who is missing in one has zeros there."""
    long = [
        one.unpivot(list(OUTCOMES), index="customer_id", variable_name="outcome", value_name=name)
        for one, name in ((base, "y0"), (treated, "y1"))
    ]
    both = long[0].join(long[1], on=["customer_id", "outcome"], how="full", coalesce=True)
    both = both.with_columns(
        pl.col("y0", "y1").fill_null(0.0), pl.col("outcome").cast(pl.Enum(OUTCOMES))
    ).sort("customer_id", "outcome")
    ids = both["customer_id"].to_numpy()
    coin = Keyed(seed).chance("policy.assigned@1", 0.5, ids)
    return both.with_columns(pl.Series("assigned", coin, dtype=pl.Boolean))


def true_effects(potential: pl.DataFrame) -> pl.DataFrame:
    """Return the true effect on each outcome."""
    gain = pl.col("y1") - pl.col("y0")
    return (
        potential.group_by("outcome")
        .agg(
            n=pl.len().cast(pl.Int64),
            mean_y0=pl.col("y0").mean(),
            mean_y1=pl.col("y1").mean(),
            effect=gain.mean(),
            effect_assigned=gain.filter("assigned").mean(),
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
        `TruthPotential`: y0 and y1 of every customer and outcome.
    effects : polars.DataFrame
        `TruthEffect`: the true effect on each outcome.
    """

    policy: str
    base: Network
    treated: Network
    potential: pl.DataFrame
    effects: pl.DataFrame


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
        Settings of both worlds by their full names.
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
    made = {
        world: network_of(with_settings(config, asked), seed)
        for world, asked in policy_settings(config, policy).items()
    }
    ends = [outcomes(made[world].tables, made[world].truth, made[world].config) for world in WORLDS]
    potential = potential_outcomes(ends[0], ends[1], seed)
    return Worlds(policy, made["base"], made["treated"], potential, true_effects(potential))


def is_our_pair(out: Path) -> bool:
    """Say whether a folder holds nothing but two worlds that `write_worlds` wrote."""
    facts = read_facts(out / MANIFEST)
    if facts.get("made_by") != MAKER or "policy" not in facts:
        return False
    truth = out / TRUTH_FOLDER
    known = {out / MANIFEST, out / STAMP, truth, *(out / world for world in WORLDS)}
    known |= {truth / f"{name}.parquet" for name in ("truth_potential", "truth_effect")}
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
    sides = policy_settings(config, policy)
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
        rows |= _write_potential(made, config, sides, seed)
        facts = {"made_by": MAKER, "policy": policy, "seed": seed, "preset": preset}
        facts |= {"meaning": find_policy(policy).meaning, "worlds": sides}
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        (made / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
        exchange(made, place, folder)
    return rows


def _write_potential(
    made: Path, config: Config, sides: dict[str, dict[str, Any]], seed: int
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
    potential = potential_outcomes(ends[0], ends[1], seed)
    frames = {"truth_potential": potential, "truth_effect": true_effects(potential)}
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
    "Worlds",
    "find_policy",
    "make_worlds",
    "policy_settings",
    "potential_outcomes",
    "true_effects",
    "write_worlds",
]
