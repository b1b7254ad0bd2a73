"""A scheme of pay, and what luck makes of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from crm_analysis.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PayScheme", "bonus_moments", "falls_apart"]


@dataclass(frozen=True, kw_only=True)
class PayScheme:
    """How a sales manager is paid for a month.

    Attributes
    ----------
    base : float
        For a whole month on duty.
    per_deal : float
        For each car delivered.
    margin_share : float
        Of each car's gross margin, as a share.
    steps : mapping of int to float
        Bonus for a month by the cars delivered in it that it takes; the highest step reached
        counts: ``{3: 400, 5: 1000}``.
    per_pleased : float
        For each customer who gave at least `good_score`.
    good_score : float

    Examples
    --------
    >>> scheme = PayScheme(base=1000, per_deal=50, steps={3: 400, 5: 1000})
    >>> [scheme.bonus(cars) for cars in (2, 3, 4, 7)]
    [0.0, 400.0, 400.0, 1000.0]
    """

    base: float = 0.0
    per_deal: float = 0.0
    margin_share: float = 0.0
    steps: Mapping[int, float] = field(default_factory=dict)
    per_pleased: float = 0.0
    good_score: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot be a scheme; a plan file writes the cars of a step as text."""
        steps = {float(at): float(bonus) for at, bonus in self.steps.items()}
        if any(at != int(at) or at < 1 for at in steps):
            raise InputError(
                f"Steps at {sorted(steps)} cars a month were asked for. A step needs a whole "
                "number of cars from 1 on."
            )
        rising = [steps[at] for at in sorted(steps)]
        amounts = (self.base, self.per_deal, self.margin_share, self.per_pleased)
        if min((*amounts, *rising)) < 0 or rising != sorted(rising):
            raise InputError(
                f"The scheme {self} takes money away, or pays less for a higher step. Give "
                "amounts of 0 and above, and bonuses that rise with the cars."
            )
        object.__setattr__(self, "steps", {int(at): steps[at] for at in sorted(steps)})

    def bonus(self, cars: float) -> float:
        """Return the bonus for a month with so many cars."""
        reached = [at for at in self.steps if cars >= at]
        return float(self.steps[max(reached)]) if reached else 0.0


def bonus_moments(pace: NDArray[Any], scheme: PayScheme) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the variance of a month's bonus, and its covariance with the month's cars."""
    steps = sorted(scheme.steps)
    rises = [scheme.steps[at] - low for at, low in
             zip(steps, (0.0, *(scheme.steps[at] for at in steps)), strict=False)]  # fmt: skip
    mean, square, along = (np.zeros_like(pace) for _i in range(3))
    for at, rise in zip(steps, rises, strict=True):
        above = stats.poisson.sf(at - 1, pace)
        top = scheme.steps[at]
        mean += rise * above
        square += (top**2 - (top - rise) ** 2) * above
        # E[N; N >= k] = pace P(N >= k - 1).
        along += rise * pace * (stats.poisson.sf(at - 2, pace) - above)
    return square - mean**2, along


def falls_apart(pace: NDArray[Any], step: int) -> NDArray[Any]:
    """Return the chance that two months at a pace fall on different sides of a step."""
    above = stats.poisson.sf(step - 1, pace)
    return np.asarray(2 * above * (1 - above))
