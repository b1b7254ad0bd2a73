"""Counted tables, kept for whoever asks for the same count of the same files.

A report's second language counts what its first has counted, and every dealership's the network
with which it compares itself: half of a batch's counts. A count is recalled where its plan and
what it reads are the same to the last byte: tables in memory are part of the plan, and files are
known by their place, size and time of change. Whatever is not certain to be so is counted anew:
plans with code of Python or with chance in them, and sources other than files that can be named.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from crm_analysis.remembered import LARGEST_BYTES, is_remembering, remembered

__all__ = ["collected", "contents", "file_state", "recalled"]

Engine = Literal["auto", "streaming"]

LARGEST_PLAN = 1_000_000
"""Bytes of a plan above which a count costs less than telling whether it is known."""

LARGEST_TABLE = 200_000
"""The same of a plan that carries a table in memory: to count one is quick, to write it is not."""

_SCAN = re.compile(r"\s*(?:Parquet|Csv|Ipc) SCAN \[([^\[\],]+)\]")
_IN_MEMORY = "DF ["
_NEVER_TWICE = ("python", "shuffle", "sample", "random", "cache", "sink")


def collected(
    plan: pl.LazyFrame,
    finish: Callable[[pl.DataFrame], pl.DataFrame] = lambda table: table,
    *,
    said: tuple[object, ...] = (),
    engine: Engine = "auto",
) -> pl.DataFrame:
    """Collect a plan of polars, or recall what it gave in this process (`remembered`).

    Parameters
    ----------
    plan : polars LazyFrame
    finish : callable, optional
        What is to be done with the collected table before it is kept; pure.
    said : tuple, optional
        Everything beside the table that `finish` follows.
    engine : {"auto", "streaming"}
        Streaming needs less memory where the answer is much smaller than what it is counted from,
        and may give rows in another order.

    Returns
    -------
    polars DataFrame
        The caller's own: changing it changes nothing that is kept.
    """
    key = _key(plan) if is_remembering() else None
    return recalled(key and (*key, *said), lambda: finish(plan.collect(engine=engine)))


def recalled(key: tuple[object, ...] | None, count: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """Return what `count` gave under this key in this process, or gives now.

    Parameters
    ----------
    key : tuple or None
        As for `remembered`; None where it cannot be told what the count follows from.
    count : callable
        Pure: it returns a table that follows from the key alone.

    Returns
    -------
    polars DataFrame
        The caller's own, as of `collected`.
    """
    if key is None:
        return count()
    return remembered(key, count, size=lambda table: int(table.estimated_size())).clone()


def contents(data: object, columns: Sequence[str]) -> tuple[object, ...] | None:
    """Return what tells these columns of a table apart from all others, for the key of a count.

    A plan would carry a table in memory as a whole, which for a large one costs more than most
    counts; its columns alone are known by a digest of their bytes, at a tenth of that.

    Returns
    -------
    tuple or None
        None where nothing is kept in this process, of tables that do not lie in memory, and of
        those so large that a count of them would hardly be kept.
    """
    if not (is_remembering() and isinstance(data, pl.DataFrame)):
        return None
    if not set(columns) <= set(data.columns) or data.estimated_size() > LARGEST_BYTES:
        return None
    asked = pl.DataFrame([data.get_column(name) for name in dict.fromkeys(columns)])
    # In one piece: how a table came to lie in memory is no part of what it holds.
    return ("contents", hashlib.sha256(asked.rechunk().serialize()).digest())


def _key(plan: pl.LazyFrame) -> tuple[object, ...] | None:
    """Return everything that a count follows from, or None where that cannot be told."""
    text = plan.explain(optimized=False)
    known, scans = _told_apart(text)
    if not known:
        return None
    try:
        files = tuple(file_state(Path(path)) for path in scans)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a format that may change: it lives in this process
            written = _Bounded(LARGEST_TABLE if _IN_MEMORY in text else LARGEST_PLAN)
            plan.serialize(written)
    except (OSError, pl.exceptions.PolarsError):
        return None
    return ("collected", bytes(written.text), files)


class _Bounded(io.RawIOBase):
    """Takes so many bytes and refuses more, so that a large plan is not written to its end."""

    def __init__(self, most: int) -> None:
        self.text, self._most = bytearray(), most

    def write(self, more: Any) -> int:
        if len(self.text) + len(more) > self._most:
            raise OSError("The plan is larger than it is worth.")
        self.text += more
        return len(more)


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


def file_state(path: Path) -> tuple[object, ...]:
    """Return what changes when a file does."""
    found = path.stat()
    return (str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
