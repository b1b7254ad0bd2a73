"""What comes next: sales, contracts from the pipeline, visits to the workshop.

A forecast is held against its own past: each has a backtest beside it.
"""

from crm_analysis.forecast.backtest import Backtest
from crm_analysis.forecast.demand import ServiceDemand, service_demand, service_demand_backtest
from crm_analysis.forecast.lead_score import LeadScore, ScoreLift, lead_score
from crm_analysis.forecast.pipeline import PipelineForecast, pipeline_backtest, pipeline_forecast
from crm_analysis.forecast.sales import SalesForecast, sales_backtest, sales_forecast

__all__ = [
    "Backtest",
    "LeadScore",
    "PipelineForecast",
    "SalesForecast",
    "ScoreLift",
    "ServiceDemand",
    "lead_score",
    "pipeline_backtest",
    "pipeline_forecast",
    "sales_backtest",
    "sales_forecast",
    "service_demand",
    "service_demand_backtest",
]
