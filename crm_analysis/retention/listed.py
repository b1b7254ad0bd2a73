"""Estimates that are read one after the other, not against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crm_analysis.estimates import Estimates
from crm_analysis.wording import _, amount, interval_text, number, percent, word_of

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
                "{name}: highest for “{group}”, {value}.",
                name=self.name,
                group=where,
                value=self.value_text(top),
            )
        rows = known.to_dicts()
        bounds = known.select("conf_low", "conf_high").null_count().sum_horizontal()[0]
        if len({row["n"] for row in rows}) > 1 or bounds:
            parts = [self._part(row, self.value_text(row)) for row in rows]
            return f"{self.name}: " + "; ".join(parts) + "."
        parts = [self._part(row, self._value_alone(row)) for row in rows]
        return _(
            "{name} (n = {n}, {level} intervals): {parts}.",
            name=self.name,
            n=number(rows[0]["n"]),
            level=percent(self.conf_level, 0),
            parts="; ".join(parts),
        )

    def _part(self, row: dict[str, Any], value: str) -> str:
        return _("{part} – {value}", part=word_of(row[self.by[0]]), value=value)

    def _value_alone(self, row: dict[str, Any]) -> str:
        value = amount(row["estimate"], self.unit, currency=self.currency)
        bounds = interval_text(row["conf_low"], row["conf_high"], self.unit, currency=self.currency)
        return f"{value} ({bounds})"
