"""A claim, what the data say of it, and the verdict: an interval against a claimed range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from crm_analysis.blocks import Block, BlockTable, Column
from crm_analysis.estimates import Estimates
from crm_analysis.wording import ABSENT, _, interval_text

__all__ = ["VERDICTS", "ClaimVerdict", "Verdict", "claims_table", "judge", "verdict_of"]

Verdict = Literal["supported", "contradicted", "not_testable"]

VERDICTS: tuple[Verdict, ...] = ("supported", "contradicted", "not_testable")


def judge(
    low: float | None, high: float | None, claimed_low: float, claimed_high: float
) -> Verdict:
    """Set an interval against a claimed range.

    The claim is supported when the whole interval lies within the range (a test of equivalence),
    contradicted when none of it does, and otherwise the data cannot tell.

    Parameters
    ----------
    low, high : float or None
        The interval; None = nothing is known.
    claimed_low, claimed_high : float
        What agrees with the claim.

    References
    ----------
    Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15:657-680 (two one-sided
    tests).

    Examples
    --------
    >>> judge(0.48, 0.52, 0.45, 0.55), judge(0.60, 0.70, 0.45, 0.55), judge(0.5, 0.6, 0.45, 0.55)
    ('supported', 'contradicted', 'not_testable')
    """
    if low is None or high is None:
        return "not_testable"
    if claimed_low <= low and high <= claimed_high:
        return "supported"
    if high < claimed_low or low > claimed_high:
        return "contradicted"
    return "not_testable"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ClaimVerdict(Estimates):
    """A claim set against the data: the estimate of what it speaks of, and the verdict.

    Attributes
    ----------
    claim : str
        The claim's sentence.
    source : str
        The document that makes it.
    claimed_low, claimed_high : float
        The range that is taken to agree with it.
    verdict : {"supported", "contradicted", "not_testable"}
    why : str
        What the verdict rests on.
    context : str
        Under which terms the estimate stands; empty where there is nothing to add.
    """

    claim: str
    source: str
    claimed_low: float
    claimed_high: float
    verdict: Verdict
    why: str
    context: str = ""

    def sentence(self) -> str:
        """Return the claim, the verdict and why."""
        text = _(
            "“{claim}”: {verdict}. {why}",
            claim=self.claim,
            verdict=self.verdict_text,
            why=self.why,
        )
        return f"{text} {self.context}".strip()

    @property
    def verdict_text(self) -> str:
        """The verdict in the reader's words."""
        return {
            "supported": _("supported"),
            "contradicted": _("contradicted"),
            "not_testable": _("not testable here"),
        }[self.verdict]

    @property
    def claimed_text(self) -> str:
        """The claimed range in the reader's words."""
        return interval_text(self.claimed_low, self.claimed_high, self.unit)

    def found_text(self) -> str:
        """Write what was found, with its interval and n."""
        row = self.table.row(0, named=True)
        return ABSENT if row["estimate"] is None else self.value_text(row)


def verdict_of(
    found: Estimates,
    *,
    claim: str,
    source: str,
    claimed: tuple[float, float],
    context: str = "",
    untestable: str | None = None,
) -> ClaimVerdict:
    """Judge a claim by estimates of one row; `untestable` says why no verdict is possible."""
    row = found.table.row(0, named=True)
    verdict = judge(row["conf_low"], row["conf_high"], *claimed)
    table = found.table
    if untestable is not None:
        verdict, why = "not_testable", untestable
        unknown = [pl.lit(None, pl.Float64).alias(c) for c in table.columns if c != "n"]
        table = table.with_columns(unknown)
    elif row["estimate"] is None or row["conf_low"] is None:
        why = " ".join((_("Nothing can be estimated from these data."), *found.notes[:1]))
    else:
        why = _found(found, row, claimed, verdict)
    return ClaimVerdict(
        table=table,
        name=found.name,
        unit=found.unit,
        definition=found.definition,
        conf_level=found.conf_level,
        notes=found.notes,
        currency=found.currency,
        claim=claim,
        source=source,
        claimed_low=claimed[0],
        claimed_high=claimed[1],
        verdict=verdict,
        why=why,
        context=context,
    )


def _found(
    found: Estimates, row: dict[str, float], claimed: tuple[float, float], verdict: Verdict
) -> str:
    value, bounds = found.value_text(row), interval_text(*claimed, found.unit)
    if verdict == "supported":
        return _("Found: {value}, all of it within {claimed}.", value=value, claimed=bounds)
    if verdict == "contradicted":
        return _("Found: {value}, all of it outside {claimed}.", value=value, claimed=bounds)
    return _(
        "Found: {value}, partly within {claimed} and partly not: the data cannot tell.",
        value=value,
        claimed=bounds,
    )


def claims_table(*verdicts: ClaimVerdict) -> Block:
    """Return the claims with what was claimed, what was found and the verdict, as one block.

    Parameters
    ----------
    *verdicts : ClaimVerdict
    """
    columns = (
        Column("claim", _("Claim")),
        Column("source", _("Where it stands")),
        Column("claimed", _("Claimed")),
        Column("found", _("Found here")),
        Column("verdict", _("Verdict")),
    )
    rows = tuple(
        (v.claim, v.source, v.claimed_text, v.found_text(), v.verdict_text) for v in verdicts
    )
    return Block(kind="notice", table=BlockTable(columns, rows), finding=" ".join(_why(verdicts)))


def _why(verdicts: tuple[ClaimVerdict, ...]) -> tuple[str, ...]:
    """Say why no verdict is possible, and under which terms the estimates stand."""
    undecided = [f"{v.claim}: {v.why}" for v in verdicts if v.verdict == "not_testable"]
    return (*undecided, *dict.fromkeys(v.context for v in verdicts if v.context))
