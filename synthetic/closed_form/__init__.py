"""Worlds in which an estimator's model is exactly true, with the exact answers.

`make_closed_form("bgnbd", n_customers=10_000, seed=1)` makes one in memory; `write_closed_form`
writes one as a data folder that `crm_analysis.open_warehouse` opens.
"""

from __future__ import annotations

from synthetic.closed_form.folder import write_closed_form
from synthetic.closed_form.worlds import WORLDS, ClosedForm, World, find_world, make_closed_form

__all__ = [
    "WORLDS",
    "ClosedForm",
    "World",
    "find_world",
    "make_closed_form",
    "write_closed_form",
]
