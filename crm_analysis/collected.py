"""Counted tables, kept for whoever asks for the same count of the same files.

A report's second language counts what its first has counted, and every dealership's the network
with which it compares itself: half of a batch's counts. A count is recalled where its plan and
what it reads are the same to the last byte: tables in memory are part of the plan, and files are
known by their place, size and time of change. Whatever is not certain to be so is counted anew:
plans with code of Python or with chance in them, and sources other than files that can be named.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import polars as pl

from crm_analysis.remembered import is_remembering, remembered

__all__ = ["collected"]

LARGEST_PLAN = 4_000_000
"""Bytes of a plan above which a count costs less than telling whether it is known."""

_SCAN = re.compile(r"^\s*(?:Parquet|Csv|Ipc) SCAN \[([^\[\],]+)\]$", re.MULTILINE)
_ANY_SCAN = re.compile(r"\bSCAN\b")
_NEVER_TWICE = re.compile(r"python|shuffle|sample|random|cache|sink", re.IGNORECASE)


def collected(plan: pl.LazyFrame) -> pl.DataFrame:
    """Collect a plan of polars, or recall what it gave in this process (`remembered`).

    Parameters
    ----------
    plan : polars LazyFrame

    Returns
    -------
    polars DataFrame
        The caller's own: changing it changes nothing that is kept.
    """
    key = _key(plan) if is_remembering() else None
    if key is None:
        return plan.collect()
    return remembered(key, plan.collect, size=lambda table: int(table.estimated_size())).clone()


def _key(plan: pl.LazyFrame) -> tuple[object, ...] | None:
    """Return everything that a count follows from, or None where that cannot be told."""
    text = plan.explain(optimized=False)
    scans = _SCAN.findall(text)
    if _NEVER_TWICE.search(_SCAN.sub("", text)) or len(scans) != len(_ANY_SCAN.findall(text)):
        return None
    try:
        files = tuple(_state(path) for path in dict.fromkeys(scans))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a format that may change: it lives in this process
            written = plan.serialize()
    except (OSError, pl.exceptions.PolarsError):
        return None
    return None if len(written) > LARGEST_PLAN else ("collected", written, files)


def _state(path: str) -> tuple[object, ...]:
    """Return what changes when a file does."""
    found = Path(path).stat()
    return (path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
