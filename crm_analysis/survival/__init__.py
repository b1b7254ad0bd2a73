"""Durations of which some are still running: curves, causes and comparisons; counts in, arrays out.

Everything here starts from counts at distinct durations: how many entered, ended (of each cause)
and were censored. `kaplan_meier` and `aalen_johansen` say what share has ended, `quantile` and
`restricted_mean` how long it takes, `cause_times` how long to one cause of several, `log_rank`
whether groups differ, `exposure` and `rate_ratio` how fast.
"""

from crm_analysis.survival.causes import CumulativeIncidence, aalen_johansen
from crm_analysis.survival.comparisons import (
    Comparison,
    Weights,
    holm,
    log_rank,
    log_rank_p_value,
)
from crm_analysis.survival.conditional import CauseTimes, cause_times
from crm_analysis.survival.counts import DurationCounts, all_at_start, count_durations
from crm_analysis.survival.curves import (
    KaplanMeier,
    Quantile,
    RestrictedMean,
    at_risk,
    kaplan_meier,
    quantile,
    restricted_mean,
)
from crm_analysis.survival.rates import RateRatio, exposure, rate_ratio

__all__ = [
    "CauseTimes",
    "Comparison",
    "CumulativeIncidence",
    "DurationCounts",
    "KaplanMeier",
    "Quantile",
    "RateRatio",
    "RestrictedMean",
    "Weights",
    "aalen_johansen",
    "all_at_start",
    "at_risk",
    "cause_times",
    "count_durations",
    "exposure",
    "holm",
    "kaplan_meier",
    "log_rank",
    "log_rank_p_value",
    "quantile",
    "rate_ratio",
    "restricted_mean",
]
