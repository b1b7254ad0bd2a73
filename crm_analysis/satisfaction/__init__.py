"""What customers say.

An *answer* is a score on the scale of its question. Whoever did not answer says nothing here:
every figure is about those who answered, and `response_rate` says how many they are. What the
others might have said is asked by `nonresponse_check`, `score_bounds` and `weighted_score`.
"""

from crm_analysis.satisfaction.answers import Period, ScoreCounts, count_scores
from crm_analysis.satisfaction.drivers import Drivers, relative_importance, satisfaction_drivers
from crm_analysis.satisfaction.index import satisfaction_index, survey_alpha
from crm_analysis.satisfaction.nonresponse import (
    NonresponseCheck,
    ScoreBounds,
    nonresponse_check,
    score_bounds,
)
from crm_analysis.satisfaction.requests import TypicalRequests, typical_requests
from crm_analysis.satisfaction.resolution import (
    CaseResolution,
    complaint_resolution,
    repeated_cases,
)
from crm_analysis.satisfaction.responses import response_rate
from crm_analysis.satisfaction.results import ScoreEstimates, ScoreShares
from crm_analysis.satisfaction.scores import (
    adjusted_wald_interval,
    customer_effort_score,
    mean_score,
    net_promoter_score,
    score_distribution,
    top_box_score,
)
from crm_analysis.satisfaction.silence import SilentDeparture, silent_departure
from crm_analysis.satisfaction.value import (
    ClassScores,
    DissatisfiedValue,
    dissatisfied_value,
    value_weighted_score,
)
from crm_analysis.satisfaction.weighting import WeightedScore, effective_n, rake, weighted_score

__all__ = [
    "CaseResolution",
    "ClassScores",
    "DissatisfiedValue",
    "Drivers",
    "NonresponseCheck",
    "Period",
    "ScoreBounds",
    "ScoreCounts",
    "ScoreEstimates",
    "ScoreShares",
    "SilentDeparture",
    "TypicalRequests",
    "WeightedScore",
    "adjusted_wald_interval",
    "complaint_resolution",
    "count_scores",
    "customer_effort_score",
    "dissatisfied_value",
    "effective_n",
    "mean_score",
    "net_promoter_score",
    "nonresponse_check",
    "rake",
    "relative_importance",
    "repeated_cases",
    "response_rate",
    "satisfaction_drivers",
    "satisfaction_index",
    "score_bounds",
    "score_distribution",
    "silent_departure",
    "survey_alpha",
    "top_box_score",
    "typical_requests",
    "value_weighted_score",
    "weighted_score",
]
