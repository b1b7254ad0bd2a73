"""What a closed-form world assumes: frozen parameters that say what they mean and may be.

Each parameter carries its meaning, unit, source, confidence (``published``, ``derived`` or
``assumed``) and allowed range in its field's metadata; a world with a value outside it, or with a
parameter that it does not have, is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import date, timedelta
from typing import Any, Literal, TypeVar

import numpy as np

from crm_analysis.errors import InputError, listed, near
from synthetic.clock import YEAR

Confidence = Literal["published", "derived", "assumed"]
OWN = "our assumption"
WEEK = 7.0


def parameter(
    default: Any,
    meaning: str,
    unit: str,
    source: str,
    confidence: Confidence,
    *,
    least: Any = None,
    most: Any = None,
) -> Any:
    """Declare a parameter with its meaning, unit, source, confidence and allowed range."""
    facts = {
        "meaning": meaning, "unit": unit, "source": source, "confidence": confidence,
        "least": least, "most": most,
    }  # fmt: skip
    return field(default=default, metadata=facts)


def shape(default: float, meaning: str, source: str, confidence: Confidence) -> Any:
    """Declare the shape of a mixing distribution: positive, and not so small that draws vanish."""
    return parameter(default, meaning, "shape", source, confidence, least=0.05, most=1e3)


def scale(default: float, meaning: str, unit: str, source: str, confidence: Confidence) -> Any:
    """Declare a scale or rate parameter."""
    return parameter(default, meaning, unit, source, confidence, least=1e-3, most=1e6)


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Who is followed, since when and until when: what every closed-form world shares."""

    starts_on: date = parameter(
        date(2023, 1, 1), "first day on which customers come", "date", "choice", "assumed",
        least=date(1990, 1, 1), most=date(2100, 1, 1),
    )  # fmt: skip
    acquisition_days: int = parameter(
        365, "days over which customers come, each as likely", "days", "choice", "assumed",
        least=1, most=36_525,
    )  # fmt: skip
    as_of: date = parameter(
        date(2025, 12, 31), "last day that the open tables have seen", "date", "choice", "assumed",
        least=date(1990, 1, 1), most=date(2150, 1, 1),
    )  # fmt: skip
    horizon_days: int = parameter(
        365, "days past the last day over which the truth is followed and expected", "days",
        "choice", "assumed", least=1, most=36_525,
    )  # fmt: skip
    annual_discount_rate: float = parameter(
        0.10, "effective rate a year at which later money counts less", "fraction", OWN, "assumed",
        least=0.001, most=10.0,
    )  # fmt: skip
    n_dealerships: int = parameter(
        1, "dealerships among which customers are spread; without any effect", "count", "choice",
        "assumed", least=1, most=1_000,
    )  # fmt: skip
    currency: str = parameter("USD", "ISO code of the money", "text", "choice", "assumed")

    def __post_init__(self) -> None:
        """Refuse values outside their range, and a last day before the last customer has come."""
        for part in fields(self):
            _check(part, getattr(self, part.name))
        self.check()

    def check(self) -> None:
        """Refuse what no single range can say."""
        last = self.starts_on + timedelta(days=self.acquisition_days - 1)
        if self.as_of < last:
            raise InputError(
                f"Customers were asked to come from {self.starts_on} to {last} "
                f"(acquisition_days={self.acquisition_days}) in a world seen until as_of "
                f"{self.as_of}. Choose as_of on {last} or later, or fewer acquisition_days."
            )

    def discount(self, days: float = 1.0) -> float:
        """Return the continuous discount rate for a unit of so many days."""
        return math.log1p(self.annual_discount_rate) * days / YEAR


def _range(part: Field[Any]) -> str:
    least, most = part.metadata["least"], part.metadata["most"]
    if least is None and most is None:
        return str(part.metadata["unit"])
    return f"from {least} to {most}"


def _refused(part: Field[Any], value: object) -> InputError:
    return InputError(
        f"Parameter {part.name!r} ({part.metadata['meaning']}) was asked to be {value!r}; it may "
        f"be {_range(part)}, as {type(part.default).__name__}. Choose such a value; the default "
        f"is {part.default}."
    )


def _fits(part: Field[Any], value: object) -> bool:
    if isinstance(part.default, tuple):
        return isinstance(value, tuple)
    if isinstance(value, bool) or not isinstance(value, type(part.default)):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    least, most = part.metadata["least"], part.metadata["most"]
    return (least is None or value >= least) and (most is None or value <= most)


def _check(part: Field[Any], value: object) -> None:
    if not _fits(part, value):
        raise _refused(part, value)


P = TypeVar("P", bound=Cohort)


def build(kind: type[P], changes: Mapping[str, Any]) -> P:
    """Return a world's parameters with some changed, by value or as text (from a command line).

    Raises
    ------
    InputError
        There is no such parameter, or a value is outside the allowed range.
    """
    parts = {part.name: part for part in fields(kind)}
    for name in changes:
        if name not in parts:
            raise InputError(
                f"Parameter {name!r} was asked for{near(name, parts)}; this world has "
                f"{listed(parts, most=40)}. Choose one of these."
            )
    return kind(**{name: _read(parts[name], value) for name, value in changes.items()})


def _read(part: Field[Any], value: Any) -> Any:
    """Return a value in its parameter's type where that loses nothing."""
    if isinstance(value, str) and not isinstance(part.default, str):
        value = _parsed(part, value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(part.default, tuple):
        return _frozen(value)
    if isinstance(part.default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _parsed(part: Field[Any], text: str) -> Any:
    try:
        return date.fromisoformat(text) if isinstance(part.default, date) else json.loads(text)
    except ValueError as error:
        raise _refused(part, text) from error


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_frozen(each) for each in value)
    return float(value) if isinstance(value, int | np.floating) else value


def describe_parameters(parameters: Cohort) -> list[dict[str, str]]:
    """List every parameter: name, value, meaning, unit, source, confidence, least, most."""
    return [
        {"name": part.name, "value": str(getattr(parameters, part.name))}
        | {key: "" if fact is None else str(fact) for key, fact in part.metadata.items()}
        for part in fields(parameters)
    ]


def values_of(parameters: Cohort) -> dict[str, Any]:
    """Return the values as JSON can hold them."""
    values = {part.name: getattr(parameters, part.name) for part in fields(parameters)}
    return {k: v.isoformat() if isinstance(v, date) else v for k, v in values.items()}
