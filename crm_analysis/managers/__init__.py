"""Who serves the customers, and how well the CRM is kept."""

from crm_analysis.managers.adjusted import AdjustedConversion, adjusted_conversion
from crm_analysis.managers.adoption import adoption, logged_before_contract
from crm_analysis.managers.books import Reconciliation, reconciliation
from crm_analysis.managers.changes import ShareChange, by_shortfall, share_change
from crm_analysis.managers.completeness import Completeness, data_completeness
from crm_analysis.managers.compliance import ProcessCompliance, process_compliance
from crm_analysis.managers.contacts import (
    ContactFrequency,
    contact_frequency,
    greetings_due,
    greetings_sent,
    proactive_share,
)
from crm_analysis.managers.defects import DataDefects, data_defects
from crm_analysis.managers.discipline import (
    answered_in_time,
    contact_discipline,
    entry_timeliness,
    overdue_contacts,
    response_time,
)
from crm_analysis.managers.duplicates import IdentityConsolidation, identity_consolidation
from crm_analysis.managers.flow import LeadsInWork, leads_in_work
from crm_analysis.managers.loads import TrafficDistribution, traffic_distribution, workload
from crm_analysis.managers.margin import margin_per_deal
from crm_analysis.managers.pay import PaySimulation, pay_simulation
from crm_analysis.managers.pay_scheme import PayScheme
from crm_analysis.managers.plan import PlanAttainment, plan_attainment
from crm_analysis.managers.ramp_up import RampUp, ramp_up
from crm_analysis.managers.scorecard import ManagerScorecard, manager_scorecard
from crm_analysis.managers.shares import TeamShares
from crm_analysis.managers.workshop import first_time_fix

__all__ = [
    "AdjustedConversion",
    "Completeness",
    "ContactFrequency",
    "DataDefects",
    "IdentityConsolidation",
    "LeadsInWork",
    "ManagerScorecard",
    "PayScheme",
    "PaySimulation",
    "PlanAttainment",
    "ProcessCompliance",
    "RampUp",
    "Reconciliation",
    "ShareChange",
    "TeamShares",
    "TrafficDistribution",
    "adjusted_conversion",
    "adoption",
    "answered_in_time",
    "by_shortfall",
    "contact_discipline",
    "contact_frequency",
    "data_completeness",
    "data_defects",
    "entry_timeliness",
    "first_time_fix",
    "greetings_due",
    "greetings_sent",
    "identity_consolidation",
    "leads_in_work",
    "logged_before_contract",
    "manager_scorecard",
    "margin_per_deal",
    "overdue_contacts",
    "pay_simulation",
    "plan_attainment",
    "proactive_share",
    "process_compliance",
    "ramp_up",
    "reconciliation",
    "response_time",
    "share_change",
    "traffic_distribution",
    "workload",
]
