"""A synthetic network of car dealerships over years, with the truth that made it.

`python -m synthetic generate --preset small --seed 1 --out DIR` writes one to a folder;
`make_network(preset="tiny", seed=1)` makes one in memory. Names are loaded when they are first
used, so that a command waits only for what it needs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
