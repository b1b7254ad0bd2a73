"""How many leads get to the next step, how fast, and what becomes of the others.

A *lead* is one enquiry (``opportunity_id``); its *events* say when it came to which stage.
"""

from crm_analysis.funnel.cycle import SalesCycle, sales_cycle
from crm_analysis.funnel.differences import ConversionDifference, conversion_difference
from crm_analysis.funnel.losses import Losses, loss_reasons, loss_stage
from crm_analysis.funnel.rates import conversion_funnel
from crm_analysis.funnel.results import ConversionFunnel
from crm_analysis.funnel.stage_costs import StageCost, stage_cost
from crm_analysis.funnel.stage_times import TimeInStage, time_in_stage
from crm_analysis.funnel.stalled import StalledLeads, stalled_leads
from crm_analysis.funnel.velocity import PipelineVelocity, pipeline_velocity

__all__ = [
    "ConversionDifference",
    "ConversionFunnel",
    "Losses",
    "PipelineVelocity",
    "SalesCycle",
    "StageCost",
    "StalledLeads",
    "TimeInStage",
    "conversion_difference",
    "conversion_funnel",
    "loss_reasons",
    "loss_stage",
    "pipeline_velocity",
    "sales_cycle",
    "stage_cost",
    "stalled_leads",
    "time_in_stage",
]
