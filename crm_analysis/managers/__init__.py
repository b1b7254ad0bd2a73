"""Who serves the customers, and how well the CRM is kept."""

from crm_analysis.managers.adjusted import AdjustedConversion, adjusted_conversion
from crm_analysis.managers.discipline import (
    answered_in_time,
    contact_discipline,
    entry_timeliness,
    overdue_contacts,
    response_time,
)
from crm_analysis.managers.shares import TeamShares
from crm_analysis.managers.workshop import first_time_fix

__all__ = [
    "AdjustedConversion",
    "TeamShares",
    "adjusted_conversion",
    "answered_in_time",
    "contact_discipline",
    "entry_timeliness",
    "first_time_fix",
    "overdue_contacts",
    "response_time",
]
