"""What the trade says of customers, tested on the user's own data.

Each claim is a sentence from a source document with the value it claims; the answer is an estimate
with an interval, and a verdict: supported, contradicted, or not testable here. A claim combines
several metrics, so this package stands on the floor above them.
"""

from crm_analysis.claims.customers import (
    claim_half_lost,
    claim_half_unprofitable,
    claim_late_payback,
    claim_retention_pays,
)
from crm_analysis.claims.verdict import VERDICTS, ClaimVerdict, claims_table, judge

__all__ = [
    "VERDICTS",
    "ClaimVerdict",
    "claim_half_lost",
    "claim_half_unprofitable",
    "claim_late_payback",
    "claim_retention_pays",
    "claims_table",
    "judge",
]
