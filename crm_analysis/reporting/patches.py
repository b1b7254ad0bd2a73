"""Inside the kernel: notice which functions of the libraries a notebook has replaced.

A report that writes ``pl.DataFrame.head = …`` changes every later report of its kernel, and nothing
can put back what it does not know. So the functions and classes of the libraries that reports use
are remembered once, and looked at again after every report: some milliseconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

__all__ = ["remember", "replaced"]

_PACKAGES = {"builtins", "crm_analysis", "json", "matplotlib", "narwhals", "numpy", "polars"}
_KINDS = (FunctionType, BuiltinFunctionType, classmethod, property, staticmethod, type)

_held: list[tuple[str, Mapping[str, Any], dict[str, Any]]] = []


def remember() -> None:
    """Remember the functions and classes of the libraries as they are now."""
    _held[:] = [
        (place, names, {name: names[name] for name in list(names) if _is_held(place, name, names)})
        for place, names in _namespaces()
    ]


def replaced() -> str | None:
    """Return the name of a function that is no longer what it was; None where all are."""
    for place, names, before in _held:
        for name, value in before.items():
            if names.get(name) is not value:
                return f"{place}.{name}"
    return None


def _is_held(place: str, name: str, names: Mapping[str, Any]) -> bool:
    """Whether a name is worth holding: what is a module's own affair it may change itself."""
    private = name.startswith("_") and place in sys.modules
    return isinstance(names[name], _KINDS) and not private


def _namespaces() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """List the modules of the packages and the classes defined in them, with what they hold."""
    for place, module in list(sys.modules.items()):
        if place.partition(".")[0] not in _PACKAGES or not hasattr(module, "__dict__"):
            continue
        yield place, vars(module)
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == place:
                yield f"{place}.{name}", vars(value)
