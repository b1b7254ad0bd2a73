"""Who serves the customers, and how well the CRM is kept."""

from crm_analysis.managers.adjusted import AdjustedConversion, adjusted_conversion
from crm_analysis.managers.adoption import adoption, logged_before_contract
from crm_analysis.managers.books import Reconciliation, reconciliation
from crm_analysis.managers.completeness import Completeness, data_completeness
from crm_analysis.managers.defects import DataDefects, data_defects
from crm_analysis.managers.discipline import (
    answered_in_time,
    contact_discipline,
    entry_timeliness,
    overdue_contacts,
    response_time,
)
from crm_analysis.managers.duplicates import IdentityConsolidation, identity_consolidation
from crm_analysis.managers.shares import TeamShares

__all__ = [
    "AdjustedConversion",
    "Completeness",
    "DataDefects",
    "IdentityConsolidation",
    "Reconciliation",
    "TeamShares",
    "adjusted_conversion",
    "adoption",
    "answered_in_time",
    "contact_discipline",
    "data_completeness",
    "data_defects",
    "entry_timeliness",
    "identity_consolidation",
    "logged_before_contract",
    "overdue_contacts",
    "reconciliation",
    "response_time",
]
