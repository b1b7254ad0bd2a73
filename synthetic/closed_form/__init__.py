"""Worlds in which an estimator's model is exactly true, with the exact answers.

`make_closed_form("bgnbd", n_customers=10_000, seed=1)` makes one in memory; `write_closed_form`
writes one as a data folder that `crm_analysis.open_warehouse` opens. Names are loaded when they are
first used: the tables of these worlds can be looked up without the mathematics that makes them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
