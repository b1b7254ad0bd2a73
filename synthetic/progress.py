"""Progress with the time that is left: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Take what is told and show nothing."""


_LINES = 10
"""Lines that a log gets for a whole run."""


@contextmanager
def progress_shown() -> Iterator[Tell]:
    """Give a function to be told customers done and their total, and show them on stderr."""
    if sys.stderr.isatty():
        with _bar() as tell:
            yield tell
    else:
        yield _log()


@contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("customers"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("customers", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _log() -> Tell:
    started, told = time.monotonic(), -1

    def tell(done: int, total: int) -> None:
        nonlocal told
        step = _LINES * done // total if total else _LINES
        if step > told:
            told = step
            spent = time.monotonic() - started
            left = f", {spent * (total - done) / done:.0f} s left" if 0 < done < total else ""
            sys.stderr.write(f"  {done:,} of {total:,} customers{left}\n")

    return tell
