"""Estimates that are read one after the other, not against each other."""

from __future__ import annotations

from dataclasses import dataclass

from crm_analysis.estimates import Estimates
from crm_analysis.wording import _, word_of

__all__ = ["Listed"]

_MOST = 4
"""More rows than this make no sentence."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Listed(Estimates):
    """Estimates whose rows are parts or steps of one thing: their sentence lists them.

    Whether such rows differ by more than chance is no question, and is not tested.
    """

    def sentence(self) -> str:
        """Return the rows with their intervals, or the highest of many."""
        known = self.table.drop_nulls("estimate")
        if known.is_empty():
            return _("{name}: nothing can be said.", name=self.name)
        if len(self.by) > 1 or known.height > _MOST:
            top = known.sort("estimate").row(-1, named=True)
            where = " · ".join(word_of(top[name]) for name in self.by)
            return _(
                "{name}: highest in {group}, {value}.",
                name=self.name,
                group=where,
                value=self.value_text(top),
            )
        parts = [f"{word_of(row[self.by[0]])} – {self.value_text(row)}" for row in known.to_dicts()]
        return f"{self.name}: " + "; ".join(parts) + "."
