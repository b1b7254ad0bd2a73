"""A synthetic network of car dealerships over years, with the truth that made it.

`python -m synthetic generate --preset small --seed 1 --out DIR` writes one to a folder;
`make_network(preset="tiny", seed=1)` makes one in memory.
"""

from __future__ import annotations

from synthetic.config import PRESETS, Config, find_preset
from synthetic.world import Network, make_network
from synthetic.writing import write_network

__all__ = ["PRESETS", "Config", "Network", "find_preset", "make_network", "write_network"]
