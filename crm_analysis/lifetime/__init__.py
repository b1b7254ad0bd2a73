"""What customers are worth.

`purchase_history` counts how often, how recently and for how much each customer has bought;
`fit_beta_geometric` and `fit_gamma_gamma` model how buying and spending differ over customers;
`lifetime_value` joins them into what these customers will bring. `realised_value` and its like
count what they have brought, from a margin ledger; `affordable_discount` and `retention_leverage`
say what follows.
"""

from crm_analysis.lifetime.beta_binomial import (
    BetaGeometricBetaBinomial,
    OpportunityHistory,
    fit_beta_geometric_beta_binomial,
    opportunity_history,
)
from crm_analysis.lifetime.beta_geometric import BetaGeometric, fit_beta_geometric
from crm_analysis.lifetime.buying_model import BuyingModel
from crm_analysis.lifetime.comparison import (
    ModelComparison,
    ModelReliability,
    compare_models,
    model_reliability,
)
from crm_analysis.lifetime.covariates import PurchaseCovariates, purchase_covariates
from crm_analysis.lifetime.discount import AffordableDiscount, affordable_discount
from crm_analysis.lifetime.follow_up import LaterValue, later_value
from crm_analysis.lifetime.gamma_gamma import GammaGamma, fit_gamma_gamma
from crm_analysis.lifetime.history import PurchaseHistory, purchase_history
from crm_analysis.lifetime.holdout import HoldoutComparison, holdout_comparison
from crm_analysis.lifetime.leverage import (
    RetentionLeverage,
    retention_leverage,
    yearly_retention,
)
from crm_analysis.lifetime.model_checks import (
    FrequencyCheck,
    PurchaseTracking,
    frequency_check,
    purchase_tracking,
)
from crm_analysis.lifetime.model_parameters import ModelParameters
from crm_analysis.lifetime.outlook import ModelEstimates
from crm_analysis.lifetime.pareto_nbd import ParetoNbd, fit_pareto_nbd
from crm_analysis.lifetime.payback import (
    CumulativeValue,
    LossShare,
    PaybackTime,
    cumulative_value,
    loss_share,
    payback_time,
)
from crm_analysis.lifetime.processes import ProcessValue, value_by_process
from crm_analysis.lifetime.realised import PartValues, RealisedValue, realised_value
from crm_analysis.lifetime.regular_beta_geometric import (
    RegularBetaGeometric,
    fit_modified_beta_geometric,
    fit_regular_beta_geometric,
)
from crm_analysis.lifetime.shifted_beta_geometric import (
    RenewalCounts,
    ShiftedBetaGeometric,
    fit_shifted_beta_geometric,
    renewal_counts,
)
from crm_analysis.lifetime.value import (
    LifetimeValue,
    PurchaseRegularity,
    active_share,
    buying_parameters,
    expected_purchases,
    lifetime_value,
    purchase_regularity,
    spend_parameters,
)
from crm_analysis.lifetime.value_models import ValueModels, fit_value_models

__all__ = [
    "AffordableDiscount",
    "BetaGeometric",
    "BetaGeometricBetaBinomial",
    "BuyingModel",
    "CumulativeValue",
    "FrequencyCheck",
    "GammaGamma",
    "HoldoutComparison",
    "LaterValue",
    "LifetimeValue",
    "LossShare",
    "ModelComparison",
    "ModelEstimates",
    "ModelParameters",
    "ModelReliability",
    "OpportunityHistory",
    "ParetoNbd",
    "PartValues",
    "PaybackTime",
    "ProcessValue",
    "PurchaseCovariates",
    "PurchaseHistory",
    "PurchaseRegularity",
    "PurchaseTracking",
    "RealisedValue",
    "RegularBetaGeometric",
    "RenewalCounts",
    "RetentionLeverage",
    "ShiftedBetaGeometric",
    "ValueModels",
    "active_share",
    "affordable_discount",
    "buying_parameters",
    "compare_models",
    "cumulative_value",
    "expected_purchases",
    "fit_beta_geometric",
    "fit_beta_geometric_beta_binomial",
    "fit_gamma_gamma",
    "fit_modified_beta_geometric",
    "fit_pareto_nbd",
    "fit_regular_beta_geometric",
    "fit_shifted_beta_geometric",
    "fit_value_models",
    "frequency_check",
    "holdout_comparison",
    "later_value",
    "lifetime_value",
    "loss_share",
    "model_reliability",
    "opportunity_history",
    "payback_time",
    "purchase_covariates",
    "purchase_history",
    "purchase_regularity",
    "purchase_tracking",
    "realised_value",
    "renewal_counts",
    "retention_leverage",
    "spend_parameters",
    "value_by_process",
    "yearly_retention",
]
