"""A synthetic network of car dealerships over years, with the truth that made it.

`python -m synthetic generate --preset small --seed 1 --out DIR` writes one to a folder;
`make_network(preset="tiny", seed=1)` makes one in memory.
"""

from __future__ import annotations

from synthetic.config import PRESETS, Config, find_preset
from synthetic.defects import repair, with_defects
from synthetic.policies import POLICIES, Worlds, make_worlds, write_worlds
from synthetic.values import customer_values
from synthetic.world import Network, make_network
from synthetic.writing import write_network

__all__ = [
    "POLICIES",
    "PRESETS",
    "Config",
    "Network",
    "Worlds",
    "customer_values",
    "find_preset",
    "make_network",
    "make_worlds",
    "repair",
    "with_defects",
    "write_network",
    "write_worlds",
]
