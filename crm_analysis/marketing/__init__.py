"""Where customers come from, what they ask for, and what it costs."""

from crm_analysis.marketing.costs import (
    CostRatio,
    Payback,
    acquisition_cost,
    cost_ratio,
    payback,
    retention_cost,
)
from crm_analysis.marketing.effects import CampaignEffect
from crm_analysis.marketing.holdout import holdout_effect
from crm_analysis.marketing.interrupted import interrupted_effect
from crm_analysis.marketing.sources import SourceEffectiveness, source_effectiveness
from crm_analysis.marketing.staggered import staggered_effect

__all__ = [
    "CampaignEffect",
    "CostRatio",
    "Payback",
    "SourceEffectiveness",
    "acquisition_cost",
    "cost_ratio",
    "holdout_effect",
    "interrupted_effect",
    "payback",
    "retention_cost",
    "source_effectiveness",
    "staggered_effect",
]
