"""How many leads get to the next step, and how fast.

A *lead* is one enquiry (``opportunity_id``); its *events* say when it came to which stage.
"""

from crm_analysis.funnel.rates import conversion_funnel
from crm_analysis.funnel.results import ConversionFunnel
from crm_analysis.funnel.stage_times import TimeInStage, time_in_stage

__all__ = ["ConversionFunnel", "TimeInStage", "conversion_funnel", "time_in_stage"]
