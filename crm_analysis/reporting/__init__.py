"""Reports: a notebook and its parameters in, a page that can be handed on out.

The command is `crm-report` (or `python -m crm_analysis.reporting`); `open_batch` and
`make_batch` are the same from Python. Nothing here knows a metric: a notebook computes, and
this package executes it with papermill, strictly, and writes what it shows.
"""

from __future__ import annotations

from crm_analysis.reporting.batch import Batch, Outcome, open_batch
from crm_analysis.reporting.making import make_batch
from crm_analysis.reporting.parameters import Parameter, read_parameters
from crm_analysis.reporting.plan import Plan, Run, make_runs, read_plan
from crm_analysis.reporting.single import Preview, preview

__all__ = [
    "Batch",
    "Outcome",
    "Parameter",
    "Plan",
    "Preview",
    "Run",
    "make_batch",
    "make_runs",
    "open_batch",
    "preview",
    "read_parameters",
    "read_plan",
]
