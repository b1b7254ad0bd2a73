"""How long customers stay, what ends it, who is slipping away, and how many come back.

A *spell* is one relationship: it starts on a day, and it has ended on a day or is still open.
Open spells are censored at `as_of`: they say how long the relationship has lasted so far.
"""

from crm_analysis.retention.churn import churn_rate
from crm_analysis.retention.cohorts import (
    CohortRetention,
    cohort_retention,
    count_cohorts,
    repeat_rate,
)
from crm_analysis.retention.curve import RetentionCurve, retention_curve
from crm_analysis.retention.departures import DepartureCauses, departure_causes
from crm_analysis.retention.differences import RetentionDifference, retention_difference
from crm_analysis.retention.hazards import DepartureHazard, departure_hazard
from crm_analysis.retention.lengths import mean_retention, median_retention
from crm_analysis.retention.proportionality import ProportionalHazards, proportional_hazards
from crm_analysis.retention.ratios import HazardRatios, hazard_ratios
from crm_analysis.retention.referrals import referral_rate
from crm_analysis.retention.repurchases import repurchase_rate
from crm_analysis.retention.risk import DepartureRisk, RiskCalibration, departure_risk
from crm_analysis.retention.service import (
    SERVICE_RULES,
    ServiceRetention,
    ServiceRule,
    service_retention,
    sold_and_serviced,
)
from crm_analysis.retention.signals import behaviour_change, next_purchase_chance
from crm_analysis.retention.spells import count_causes, count_exits

__all__ = [
    "SERVICE_RULES",
    "CohortRetention",
    "DepartureCauses",
    "DepartureHazard",
    "DepartureRisk",
    "HazardRatios",
    "ProportionalHazards",
    "RetentionCurve",
    "RetentionDifference",
    "RiskCalibration",
    "ServiceRetention",
    "ServiceRule",
    "behaviour_change",
    "churn_rate",
    "cohort_retention",
    "count_causes",
    "count_cohorts",
    "count_exits",
    "departure_causes",
    "departure_hazard",
    "departure_risk",
    "hazard_ratios",
    "mean_retention",
    "median_retention",
    "next_purchase_chance",
    "proportional_hazards",
    "referral_rate",
    "repeat_rate",
    "repurchase_rate",
    "retention_curve",
    "retention_difference",
    "service_retention",
    "sold_and_serviced",
]
