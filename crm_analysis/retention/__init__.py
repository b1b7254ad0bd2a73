"""How long customers stay, and how many come back.

A *spell* is one relationship: it starts on a day, and it has ended on a day or is still open.
Open spells are censored at `as_of`: they say how long the relationship has lasted so far.
"""

from crm_analysis.retention.cohorts import (
    CohortRetention,
    cohort_retention,
    count_cohorts,
    repeat_rate,
)
from crm_analysis.retention.curve import RetentionCurve, retention_curve
from crm_analysis.retention.spells import count_exits

__all__ = [
    "CohortRetention",
    "RetentionCurve",
    "cohort_retention",
    "count_cohorts",
    "count_exits",
    "repeat_rate",
    "retention_curve",
]
