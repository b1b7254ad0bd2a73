"""How a key figure stands against another: the difference, its interval, and what follows.

Only differences whose interval leaves out zero are called up or down; the others are level, with
the words "no difference established". The interval is put together from the two figures' own
intervals (MOVER), so that it keeps what those know of small numbers: for two shares with Wilson's
intervals it is Newcombe's.

How much a difference weighs among others is the least that it may be: see `least_size`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import asin, sqrt
from typing import Any, Literal, NamedTuple

from crm_analysis.blocks import Change, KeyFigure
from crm_analysis.wording import _, amount, number, signed, signed_interval_text

__all__ = [
    "Difference",
    "against_target",
    "change",
    "compared_text",
    "difference",
    "least_size",
    "with_changes",
]

Against = Literal["previous", "network", "target", "reported"]


_NORMAL = 1.96
"""Standard errors from an estimate to the end of its interval; nearer is not needed here."""


class Difference(NamedTuple):
    """One figure less another, with an interval; its bounds are None where it has none."""

    value: float
    low: float | None
    high: float | None


def difference(figure: KeyFigure, other: KeyFigure, *, nested: bool = False) -> Difference | None:
    """How far is one figure above another (method of variance estimates recovery).

    Parameters
    ----------
    figure, other : KeyFigure
        With their estimates, bounds and counts.
    nested : bool
        Whether the cases of the one are all among those of the other, as a dealership's among the
        network's. The two then move together, by the covariance of a part's mean with its
        whole's, n(part) / n(whole) times the part's variance, though never by more than the
        whole's variance, which is what successive looks at one survival curve share.

    Returns
    -------
    Difference or None
        None where one of the two is not known. Without bounds where one has none, or where the
        two rest on the same cases: then nothing is independent that a test could hold apart.

    References
    ----------
    Zou & Donner (2008), Statistics in Medicine 27:1693-1702 (MOVER); Zou (2007), Psychological
    Methods 12:399-413 (correlated figures); Newcombe (1998), Statistics in Medicine 17:873-890,
    method 10; Jennison & Turnbull (1985), Annals of Statistics 13:1492-1516 (successive looks).

    Examples
    --------
    >>> now = KeyFigure("a", "", estimate=56 / 70, conf_low=.6918, conf_high=.8769, count=70)
    >>> then = KeyFigure("a", "", estimate=48 / 80, conf_low=.4905, conf_high=.7003, count=80)
    >>> tuple(round(bound, 4) for bound in difference(now, then))  # Newcombe: 0.0524 to 0.3339
    (0.2, 0.0525, 0.3338)
    """
    if figure.estimate is None or other.estimate is None:
        return None
    value = figure.estimate - other.estimate
    bounds = (figure.conf_low, figure.conf_high, other.conf_low, other.conf_high)
    if any(bound is None for bound in bounds) or (nested and _is_whole(figure, other)):
        return Difference(value, None, None)
    below, above = _arms(figure)
    other_below, other_above = _arms(other)
    together = _correlation(figure, other) if nested else 0.0
    low = value - _joined(below, other_above, together)
    return Difference(value, low, value + _joined(above, other_below, together))


def _arms(figure: KeyFigure) -> tuple[float, float]:
    assert figure.estimate is not None
    assert figure.conf_low is not None
    assert figure.conf_high is not None
    return max(figure.estimate - figure.conf_low, 0.0), max(figure.conf_high - figure.estimate, 0.0)


def _joined(arm: float, other_arm: float, correlation: float) -> float:
    squared = arm**2 + other_arm**2 - 2 * correlation * arm * other_arm
    return sqrt(max(squared, 0.0))


def _is_whole(figure: KeyFigure, other: KeyFigure) -> bool:
    return not figure.count or not other.count or figure.count == other.count


def _correlation(figure: KeyFigure, other: KeyFigure) -> float:
    part, whole = sorted((figure, other), key=lambda one: one.count or 0)
    share = (part.count or 0) / (whole.count or 1)
    spread, whole_spread = sum(_arms(part)), sum(_arms(whole))
    if spread == 0 or whole_spread == 0:
        return 0.0
    return min(share * spread / whole_spread, whole_spread / spread)


def least_size(
    low: float | None,
    high: float | None,
    *,
    value: float,
    unit: str | None = None,
    spread: float | None = None,
) -> float:
    """How large is a difference at least, on one scale for shares, scores, money and days.

    The end of its interval nearest to zero: a large difference that hardly leaves zero out counts
    for little, and so does a small one that is beyond doubt. Shares are measured by Cohen's h,
    scores by Cohen's d, everything else by its part of the larger of the two values; for shares
    about one half the three scales are nearly the same.

    Parameters
    ----------
    low, high : float or None
        Interval of `value` less what it is held against.
    value : float
        The value; what it is held against is not needed, since `low` and `high` say how far off
        it is.
    unit : str, optional
        ``"share"`` for shares as fractions, ``"score"`` or
        ``"points"`` for scores, whose zero means nothing.
    spread : float, optional
        Standard deviation of single answers, for scores.

    Returns
    -------
    float
        At least 0, and 0 where no difference is established.

    References
    ----------
    Cohen (1988), *Statistical Power Analysis for the Behavioral Sciences*, 2nd ed., chapters 2
    (d, in standard deviations) and 6 (h, of two shares on the scale of arcsines).

    Examples
    --------
    >>> round(least_size(0.1, 0.3, value=0.5, unit="share"), 3)  # 0.5 against at most 0.4
    0.201
    >>> least_size(-30.0, -20.0, value=80.0), least_size(-1.0, 4.0, value=10.0)
    (0.2, 0.0)
    """
    if low is not None and low > 0:
        least = low
    elif high is not None and high < 0:
        least = high
    else:
        return 0.0
    other = value - least
    if unit == "share":
        return abs(_arcsine(value) - _arcsine(other))
    if unit in ("score", "points") and spread:
        return abs(least) / spread
    return abs(least) / max(abs(value), abs(other))


def _arcsine(share: float) -> float:
    return 2 * asin(sqrt(min(max(share, 0.0), 1.0)))


def change(
    figure: KeyFigure,
    other: KeyFigure,
    *,
    against: Against,
    label: str | None = None,
    nested: bool = False,
) -> Change | None:
    """Say how a figure stands against another one.

    Parameters
    ----------
    figure, other : KeyFigure
        Of the same key and unit.
    against : {"previous", "network", "reported"}
    label : str, optional
        What it is held against, in words; without it those of `against`.
    nested : bool
        Whether the cases of the one are all among those of the other.

    Returns
    -------
    Change or None
        None where there is nothing to compare: a figure is not known, or the network is nothing
        but this dealership.
    """
    found = difference(figure, other, nested=nested)
    if found is None or (against == "network" and _is_whole(figure, other)):
        return None
    if figure.drifts and against != "network":
        figure = replace(figure, better=None)  # time did that, and nobody's work
    return _said(figure, found, against, label or _label(against))


def against_target(figure: KeyFigure, target: float) -> Change | None:
    """Say how a figure stands against its target, a number without an interval."""
    if figure.estimate is None:
        return None
    fixed = replace(figure, estimate=target, conf_low=target, conf_high=target)
    found = difference(figure, fixed)
    assert found is not None
    written = amount(target, _unit(figure), currency=figure.currency)
    label = _("against the target of {target}", target=written)
    return _said(figure, found, "target", label)


def compared_text(figure: KeyFigure) -> str:
    """Say a key figure and how it stands against others in one sentence, what differs first."""
    if figure.estimate is None:
        return _("{name}: nothing can be said (n = {n}).", name=figure.label,
                 n=number(figure.count or 0))  # fmt: skip
    within = ", ".join(text for text in (figure.interval, figure.n) if text)
    said = f"{figure.label}: {figure.value}" + (f" ({within})" if within else "")
    told = [_change_text(one) for one in figure.changes if one.direction != "level"]
    level = [one.label for one in figure.changes if one.direction == "level" and one.interval]
    if level:
        told.append(_("no difference established {others}", others=_either(level)))
    return "; ".join([said, *told]) + "."


def _either(labels: Sequence[str]) -> str:
    """Say what a figure was held against: ``against a year earlier or against the network``."""
    if len(labels) == 1:
        return labels[0]
    return _("{some} or {last}", some=", ".join(labels[:-1]), last=labels[-1])


def _change_text(one: Change) -> str:
    interval = f" ({one.interval})" if one.interval else ""
    verdict = f", {one.verdict}" if one.verdict else ""
    return f"{one.value} {one.label}{interval}{verdict}"


def with_changes(figure: KeyFigure, changes: Sequence[Change | None]) -> KeyFigure:
    """Return the figure with these changes; those that are None are left out."""
    return replace(figure, changes=(*figure.changes, *(one for one in changes if one is not None)))


def _label(against: Against) -> str:
    return {
        "previous": _("against a year earlier"),
        "network": _("against the whole network"),
        "target": _("against the target"),
        "reported": _("against the last report"),
    }[against]


def _said(figure: KeyFigure, found: Difference, against: Against, label: str) -> Change:
    direction = _direction(figure, found)
    better = {"higher": "up", "lower": "down", None: None}[figure.better]
    known = better is not None and direction != "level"
    unit, currency = _unit(figure), figure.currency
    assert figure.estimate is not None
    low, high = _bounds(figure, found)
    size = least_size(low, high, value=figure.estimate, unit=unit, spread=_spread(figure))
    digits = 1 if direction == "level" else _digits(found, unit)
    interval = None
    if found.low is not None and found.high is not None:
        interval = signed_interval_text(
            found.low, found.high, unit, currency=currency, digits=digits
        )
    return Change(
        against=against,
        label=label,
        value=signed(found.value, unit, currency=currency, digits=digits),
        direction=direction,
        good=(direction == better) if known else None,
        interval=interval,
        size=size,
    )


def _digits(found: Difference, unit: Any) -> int:
    """Return how many decimals show that the interval leaves out zero: "−0.04" and not "0.0"."""
    ends = [end for end in (found.low, found.high) if end is not None]
    nearest = min(ends, key=abs, default=found.value)
    # What is written without a sign has been rounded to zero.
    enough = (few for few in (1, 2) if signed(nearest, unit, digits=few)[0] in "+−")
    return next(enough, 3)


def _unit(figure: KeyFigure) -> Any:
    return figure.unit or "number"


def _direction(figure: KeyFigure, found: Difference) -> Literal["up", "down", "level"]:
    low, high = _bounds(figure, found)
    if low is not None and low > 0:
        return "up"
    return "down" if high is not None and high < 0 else "level"


def _spread(figure: KeyFigure) -> float | None:
    """Return about the standard deviation of single answers, from the interval of their mean."""
    if figure.conf_low is None or figure.conf_high is None or not figure.count:
        return None
    return sqrt(figure.count) * (figure.conf_high - figure.conf_low) / (2 * _NORMAL)


def _bounds(figure: KeyFigure, found: Difference) -> tuple[float | None, float | None]:
    # A count is what it is: it has no interval because nothing was estimated.
    counted = figure.unit == "count" and figure.conf_low is None
    return (found.value, found.value) if counted else (found.low, found.high)
