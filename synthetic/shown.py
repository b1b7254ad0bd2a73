"""What a network in memory shows of itself in a notebook: what was made, and how much of it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from synthetic.columns import about
from synthetic.settings import changed_settings
from synthetic.world import SCHEMAS

if TYPE_CHECKING:
    from synthetic.world import Network


def _counts(tables: Mapping[str, pl.LazyFrame]) -> dict[str, int]:
    counts = pl.collect_all([frame.select(pl.len()) for frame in tables.values()])
    return {name: int(count.item()) for name, count in zip(tables, counts, strict=True)}


def _number(value: int) -> str:
    return f"{value:,}"


def _rows(counts: Mapping[str, int]) -> str:
    return "".join(
        f"<tr><td style='text-align:left'><code>{name}</code></td>"
        f"<td style='text-align:right'>{_number(count)}</td>"
        f"<td style='text-align:left'>{html.escape(about(SCHEMAS[name]))}</td></tr>"
        for name, count in counts.items()
    )


_HEAD = (
    "<thead><tr><th style='text-align:left'>table</th><th style='text-align:right'>rows</th>"
    "<th style='text-align:left'>what a row is</th></tr></thead>"
)


def _table(counts: Mapping[str, int]) -> str:
    return f"<table>{_HEAD}<tbody>{_rows(counts)}</tbody></table>"


def network_page(network: Network) -> str:
    """Return an HTML fragment: the world, its tables with their rows, its truth, its settings.

    Parameters
    ----------
    network : Network
        The network in memory; its tables are counted, not drawn.
    """
    config = network.config
    open_counts, truth_counts = _counts(network.tables), _counts(network.truth)
    total = sum(open_counts.values())
    changed = changed_settings(config)
    said = ", ".join(f"{name} = {value}" for name, value in changed.items()) or "none"
    title = f"Synthetic network: preset {config.preset}, seed {network.seed}"
    facts = (
        f"{_number(config.n_customers)} customers, {_number(config.n_dealerships)} dealerships, "
        f"{config.starts_on} to {config.as_of}, {config.locale}, {config.currency}; "
        f"{_number(total)} rows in {len(open_counts)} open tables, "
        f"{_number(sum(truth_counts.values()))} in {len(truth_counts)} truth tables. "
        f"Settings other than the preset's: {said}."
    )
    return (
        f"<div><strong>{html.escape(title)}</strong><p>{html.escape(facts)}</p>"
        "<p>What the CRM holds: <code>.tables</code>, each unread until "
        "<code>.tables['deals'].collect()</code>.</p>"
        f"{_table(open_counts)}"
        f"<details><summary>The truth that made it: <code>.truth</code></summary>"
        f"{_table(truth_counts)}</details></div>"
    )
