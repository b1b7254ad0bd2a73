"""Columns collected event by event."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Log:
    """Columns collected event by event, joined at the end."""

    parts: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, **columns: np.ndarray) -> None:
        """Append one array to each column."""
        for name, values in columns.items():
            self.parts.setdefault(name, []).append(np.asarray(values))

    def join(self, *keys: str) -> dict[str, np.ndarray]:
        """Return the columns as whole arrays, sorted by `keys`, and forget the parts.

        One column at a time, so that no second copy of all of them is made.
        """
        order = np.lexsort([np.concatenate(self.parts[key]) for key in reversed(keys)])
        return {name: np.concatenate(self.parts.pop(name))[order] for name in list(self.parts)}
