"""What customers say.

An *answer* is a score on the scale of its question. Whoever did not answer says nothing here:
every figure is about those who answered, and `response_rate` says how many they are.
"""

from crm_analysis.satisfaction.answers import Period, ScoreCounts, count_scores
from crm_analysis.satisfaction.cases import CaseTopics, case_topics
from crm_analysis.satisfaction.responses import response_rate
from crm_analysis.satisfaction.results import ScoreEstimates, ScoreShares
from crm_analysis.satisfaction.scores import (
    adjusted_wald_interval,
    mean_score,
    net_promoter_score,
    score_distribution,
    top_box_score,
)

__all__ = [
    "CaseTopics",
    "Period",
    "ScoreCounts",
    "ScoreEstimates",
    "ScoreShares",
    "adjusted_wald_interval",
    "case_topics",
    "count_scores",
    "mean_score",
    "net_promoter_score",
    "response_rate",
    "score_distribution",
    "top_box_score",
]
