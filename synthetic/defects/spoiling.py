"""The pass itself: propose, label, and put the labels on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

import polars as pl

from crm_analysis.errors import InputError
from crm_analysis.schema import TABLES
from synthetic.config import Config
from synthetic.defects.cells import HEAVIEST, Block
from synthetic.defects.duplicates import duplicate_labels, find_duplicates
from synthetic.defects.labels import Frames, joined, key_of, key_text, no_labels, put_on
from synthetic.defects.late_entry import late_entry
from synthetic.defects.mileage import mileage_roll_back
from synthetic.defects.missing import missing_at_random, missing_by_value
from synthetic.defects.never_entered import never_entered, removed, without
from synthetic.defects.orphans import orphan_keys
from synthetic.defects.owners import owners
from synthetic.defects.phones import shared_phones
from synthetic.defects.stages import back_dated_stages, wrong_stage_order
from synthetic.defects.swapped_dates import swapped_dates
from synthetic.defects.trial_records import find_trials, trial_labels
from synthetic.defects.units import wrong_unit
from synthetic.keyed import Keyed

if TYPE_CHECKING:
    from synthetic.world import Network

OF_CELLS: tuple[Callable[[Block], Iterator[pl.DataFrame]], ...] = (
    missing_at_random,
    missing_by_value,
    shared_phones,
    swapped_dates,
    mileage_roll_back,
    wrong_unit,
    orphan_keys,
    wrong_stage_order,
    back_dated_stages,
    late_entry,
)
"""Kinds that change single cells."""


def _end(as_of: date) -> datetime:
    return datetime.combine(as_of + timedelta(days=1), time())


def _added(block: Block) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """Return the labels of added rows, and with which customer each added customer came."""
    copies, moved = find_duplicates(block)
    trials = find_trials(block)
    labels = [*duplicate_labels(block, copies, moved), *trial_labels(block, trials)]
    seconds = copies.select("customer_id", owner="duplicate_of", second=pl.lit(value=True))
    others = trials.select("customer_id", owner="beside", second=pl.lit(value=False))
    return labels, pl.concat([seconds, others])


def _owned(frames: Frames, origin: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return the owner of every row of a table, added ones too, by the text of its key."""
    known = owners(frames, table).select(key_text(table).alias("key"), "owner")
    if table not in {"customers", "opportunities", "stage_events"}:
        return known
    ids = origin.select(pl.col("customer_id").cast(pl.String).alias("key"), "owner")
    if table == "stage_events":
        ids = pl.concat([ids.with_columns(pl.col("key") + f"/{seq}") for seq in (1, 2)])
    return pl.concat([known, ids])


def _ordered_labels(frames: Frames, origin: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Sort labels by the customer they came with: the same order whatever the block."""
    parts = [
        part.join(_owned(frames, origin, str(name)), on="key", how="left")
        for (name,), part in labels.group_by("table", maintain_order=True)
    ]
    if not parts:
        return labels
    order = ["owner", "table", "key", "column", "kind"]
    return pl.concat(parts).sort(order, nulls_last=False).drop("owner")


def _placed(frames: Frames, origin: pl.DataFrame, clean: Frames) -> Frames:
    """Move added rows next to the rows of the customers they came with."""
    moved = {}
    for table in ("customers", "opportunities", "stage_events"):
        owner = _owned(clean, origin, table)
        moved[table] = (
            frames[table]
            .with_columns(key_text(table).alias("key"))
            .join(owner, on="key", how="left", maintain_order="left")
            .sort("owner", *key_of(table))
            .drop("key", "owner")
        )
    return frames | moved


def spoil(frames: Mapping[str, pl.DataFrame], config: Config, seed: int) -> Frames:
    """Spoil one part of a world, as `config.defects` asks.

    Parameters
    ----------
    frames : mapping of str to polars.DataFrame
        All tables of some customers or of the whole world; a part without customers is left as it
        is. A block of customers is spoiled in the same way alone as among others.
    config : Config
        The world's settings; `config.defects` is the level, `config.defect_rates` the rates.
    seed : int
        The world's seed.

    Returns
    -------
    dict of str to polars.DataFrame
        The same tables with their defects, and `truth_defect`.
    """
    whole, rates = dict(frames), config.defect_rates
    if config.defects == "none" or "customers" not in whole:
        return whole
    clean = {name: frame for name, frame in whole.items() if name in TABLES}
    draws = Keyed(seed)
    gone = never_entered(clean, draws, rates.at("never_entered", config.defects))
    never = never_entered(clean, draws, rates.at("never_entered", HEAVIEST))
    spared = without(clean, never)
    block = Block(spared, draws, rates, config.defects, _end(config.as_of), config.locale)
    added, origin = _added(block)
    cells = [labels for kind in OF_CELLS for labels in kind(block)]
    labels = joined([*removed(clean, gone), *added, *cells])
    spoiled = _placed(put_on(clean, labels), origin, clean)
    labels = _ordered_labels(clean, origin, labels)
    return whole | spoiled | {"truth_defect": labels} | _truth(whole, origin)


def _truth(whole: Frames, origin: pl.DataFrame) -> Frames:
    """Give second records the traits of the customers that they are."""
    known = whole.get("truth_customer")
    if known is None:
        return {}
    copies = (
        origin.filter("second")
        .join(known.rename({"customer_id": "owner"}), on="owner")
        .with_columns(duplicate_of="owner")
        .select(known.columns)
    )
    whole_truth = pl.concat([known, copies])
    return {
        "truth_customer": whole_truth.sort(
            pl.coalesce("duplicate_of", "customer_id"), "customer_id"
        )
    }


def with_defects(network: Network, level: str) -> Network:
    """Return a network as people really keep it, with a label on everything that is wrong.

    Parameters
    ----------
    network : Network
        A clean network, from `make_network`.
    level : str
        ``"none"``, ``"light"``, ``"medium"`` or ``"heavy"``; each holds the defects of those
        before it.

    Returns
    -------
    Network
        The same tables with defects; its truth has the labels in `truth_defect` and the second
        records in `truth_customer` (`duplicate_of`). The rates are `network.config.defect_rates`.

    Raises
    ------
    InputError
        There is no such level, or the network has defects already.

    Examples
    --------
    >>> from synthetic import make_network
    >>> network = make_network(preset="tiny", seed=1, n_customers=40)
    >>> labels = with_defects(network, "heavy").truth["truth_defect"].collect()
    >>> labels.height > 0
    True
    """
    if network.config.defects != "none":
        raise InputError(
            f"Defects {level!r} were asked for in a network that has them already "
            f"({network.config.defects}). Make a clean one with defects='none' first."
        )
    config = replace(network.config, defects=level)
    frames = {name: frame.collect() for name, frame in {**network.tables, **network.truth}.items()}
    level_row = pl.col("name") == "defects"
    frames["truth_params"] = frames["truth_params"].with_columns(
        pl.when(level_row).then(pl.lit(level)).otherwise("value").alias("value")
    )
    spoiled = spoil(frames, config, network.seed)
    return replace(
        network,
        config=config,
        tables={name: spoiled[name].lazy() for name in network.tables},
        truth={name: spoiled.get(name, no_labels()).lazy() for name in network.truth},
    )
