"""Who the customers are: classes by value and behaviour, loyalty, debts, portraits."""

from crm_analysis.segments.assortment import AbcXyz, abc_xyz
from crm_analysis.segments.concentration import (
    AbcClasses,
    Concentration,
    abc_classes,
    value_concentration,
)
from crm_analysis.segments.ladder import Ladder, ladder_transitions, loyalty_ladder
from crm_analysis.segments.loyalty import LoyaltyLift, loyalty_activity, loyalty_lift
from crm_analysis.segments.migration import class_migration
from crm_analysis.segments.per_customer import value_per_customer
from crm_analysis.segments.portrait import Portrait, customer_portrait
from crm_analysis.segments.receivables import (
    Ageing,
    days_sales_outstanding,
    insolvent_customers,
    receivables_ageing,
)
from crm_analysis.segments.relationships import (
    Relationships,
    relationship_kinds,
    relationship_transitions,
)
from crm_analysis.segments.rfm import RfmSegments, rfm_segments
from crm_analysis.segments.transitions import Transitions, state_transitions

__all__ = [
    "AbcClasses",
    "AbcXyz",
    "Ageing",
    "Concentration",
    "Ladder",
    "LoyaltyLift",
    "Portrait",
    "Relationships",
    "RfmSegments",
    "Transitions",
    "abc_classes",
    "abc_xyz",
    "class_migration",
    "customer_portrait",
    "days_sales_outstanding",
    "insolvent_customers",
    "ladder_transitions",
    "loyalty_activity",
    "loyalty_ladder",
    "loyalty_lift",
    "receivables_ageing",
    "relationship_kinds",
    "relationship_transitions",
    "rfm_segments",
    "state_transitions",
    "value_concentration",
    "value_per_customer",
]
