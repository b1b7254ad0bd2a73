"""Customer metrics for car dealerships: every figure with its n, interval, definition and cautions.

Names are loaded when they are first used, so that a command which needs no statistics does
not wait for them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
