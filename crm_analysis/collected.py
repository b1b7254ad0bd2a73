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
from collections.abc import Callable
from pathlib import Path

import polars as pl

from crm_analysis.remembered import is_remembering, remembered

__all__ = ["collected"]

LARGEST_PLAN = 4_000_000
"""Bytes of a plan above which a count costs less than telling whether it is known."""

_SCAN = re.compile(r"\s*(?:Parquet|Csv|Ipc) SCAN \[([^\[\],]+)\]")
_NEVER_TWICE = ("python", "shuffle", "sample", "random", "cache", "sink")


def collected(
    plan: pl.LazyFrame,
    finish: Callable[[pl.DataFrame], pl.DataFrame] = lambda table: table,
    *,
    said: tuple[object, ...] = (),
) -> pl.DataFrame:
    """Collect a plan of polars, or recall what it gave in this process (`remembered`).

    Parameters
    ----------
    plan : polars LazyFrame
    finish : callable, optional
        What is to be done with the collected table before it is kept; pure.
    said : tuple, optional
        Everything beside the table that `finish` follows.

    Returns
    -------
    polars DataFrame
        The caller's own: changing it changes nothing that is kept.
    """
    key = _key(plan) if is_remembering() else None
    if key is None:
        return finish(plan.collect())
    kept = remembered(
        (*key, *said), lambda: finish(plan.collect()), size=lambda kept: int(kept.estimated_size())
    )
    return kept.clone()


def _key(plan: pl.LazyFrame) -> tuple[object, ...] | None:
    """Return everything that a count follows from, or None where that cannot be told."""
    known, scans = _told_apart(plan.explain(optimized=False))
    if not known:
        return None
    try:
        files = tuple(_state(path) for path in scans)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a format that may change: it lives in this process
            written = plan.serialize()
    except (OSError, pl.exceptions.PolarsError):
        return None
    return None if len(written) > LARGEST_PLAN else ("collected", written, files)


def _told_apart(text: str) -> tuple[bool, list[str]]:
    """Say of a plan in words whether it can be known again, and which files it reads."""
    files: dict[str, None] = {}
    others = []
    for line in text.split("\n"):
        found = _SCAN.fullmatch(line) if "SCAN" in line else None
        if found is None:
            others.append(line)
        else:
            files[found[1]] = None
    # In one go: a search for each word alone is many times as fast as one pattern of them all.
    left = "\n".join(others)
    lowered = left.lower()
    strange = "SCAN" in left or any(word in lowered for word in _NEVER_TWICE)
    return not strange, list(files)


def _state(path: str) -> tuple[object, ...]:
    """Return what changes when a file does."""
    found = Path(path).stat()
    return (path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
