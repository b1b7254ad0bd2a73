"""The ways an analysis can fail, each saying what was asked, what was found and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ColumnError",
    "CrmError",
    "InputError",
    "NotConvergedError",
    "ReportError",
    "SchemaError",
    "listed",
    "near",
]


class CrmError(Exception):
    """Anything this package refuses to do; catch it to catch them all."""


class InputError(CrmError, ValueError):
    """The data or an argument cannot be used as it stands."""


class ColumnError(InputError):
    """A table lacks a column, or a column holds another type than was asked for."""


class SchemaError(InputError):
    """A table of the data breaks one of the rules of its schema."""


class NotConvergedError(CrmError, RuntimeError):
    """A model could not be fitted; the message says what was tried."""


class ReportError(CrmError, RuntimeError):
    """A report, a plan or a parameter that cannot be carried out."""


def near(name: str, options: Iterable[str], *, alike: float = 0.6) -> str:
    """Say which known name an unknown one resembles.

    Parameters
    ----------
    name : str
        The name that was asked for.
    options : iterable of str
        The names that exist.
    alike : float
        How much of two names must agree, from 0 to 1.

    Returns
    -------
    str
        ``" (did you mean 'x'?)"``, or an empty string when nothing is close.

    Examples
    --------
    >>> near("ended_on", ["end_on", "dealer"])
    " (did you mean 'end_on'?)"
    >>> near("colour", ["end_on", "dealer"])
    ''
    """
    found = get_close_matches(name, list(options), n=1, cutoff=alike)
    return f" (did you mean {found[0]!r}?)" if found else ""


def listed(names: Iterable[object], *, most: int = 20) -> str:
    """Write names as a list for a message, cut after `most` of them.

    Examples
    --------
    >>> listed(["b", "a"])
    'b, a'
    >>> listed(range(4), most=2)
    '0, 1 and 2 more'
    >>> listed([])
    'nothing'
    """
    texts = [str(name) for name in names]
    if not texts:
        return "nothing"
    if len(texts) <= most:
        return ", ".join(texts)
    return f"{', '.join(texts[:most])} and {len(texts) - most} more"
