"""Where customers come from, what they ask for, and what it costs."""

from crm_analysis.marketing.costs import (
    CostRatio,
    Payback,
    acquisition_cost,
    cost_ratio,
    payback,
    retention_cost,
)
from crm_analysis.marketing.cube import SalesCube, sales_cube
from crm_analysis.marketing.effects import CampaignEffect
from crm_analysis.marketing.enquiries import Traffic, traffic, visit_mix
from crm_analysis.marketing.holdout import holdout_effect
from crm_analysis.marketing.interrupted import interrupted_effect
from crm_analysis.marketing.mix import MixDecomposition, mix_decomposition
from crm_analysis.marketing.models import (
    PopularModels,
    PricePosition,
    average_deal,
    payment_mix,
    popular_models,
    price_position,
)
from crm_analysis.marketing.parity import ChannelParity, channel_parity
from crm_analysis.marketing.problems import Problems, problem_finder
from crm_analysis.marketing.sources import SourceEffectiveness, source_effectiveness
from crm_analysis.marketing.staggered import staggered_effect
from crm_analysis.marketing.stock import (
    StockAge,
    lost_for_want_of_stock,
    stock_age,
    stock_turnover,
)
from crm_analysis.marketing.telemarketing import CallResults, call_results
from crm_analysis.marketing.value_change import ValueChange, value_change

__all__ = [
    "CallResults",
    "CampaignEffect",
    "ChannelParity",
    "CostRatio",
    "MixDecomposition",
    "Payback",
    "PopularModels",
    "PricePosition",
    "Problems",
    "SalesCube",
    "SourceEffectiveness",
    "StockAge",
    "Traffic",
    "ValueChange",
    "acquisition_cost",
    "average_deal",
    "call_results",
    "channel_parity",
    "cost_ratio",
    "holdout_effect",
    "interrupted_effect",
    "lost_for_want_of_stock",
    "mix_decomposition",
    "payback",
    "payment_mix",
    "popular_models",
    "price_position",
    "problem_finder",
    "retention_cost",
    "sales_cube",
    "source_effectiveness",
    "staggered_effect",
    "stock_age",
    "stock_turnover",
    "traffic",
    "value_change",
    "visit_mix",
]
