"""Inside the kernel: notice what a report cannot be cleaned of, and bound what it prints.

`fresh` restores what can be restored. Threads still running, a child process, a closed standard
output or a function of a library that was replaced cannot: then the kernel says so, and is
replaced before the next report.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from crm_analysis.reporting import patches

__all__ = ["MOST_PRINTED", "SpoiltError", "check", "remember"]

MOST_PRINTED = 200_000
"""Characters that one report may print; a page with more is not read by anyone."""

_MACHINERY = {"zmq", "ipykernel", "IPython", "tornado"}
_CUT = "\n… the rest of what was printed was left out.\n"


class SpoiltError(RuntimeError):
    """The last report left something behind that only a new process is free of."""


@dataclass(frozen=True)
class _Room:
    """What a clean process has: its threads, its outputs, its answers to signals."""

    threads: frozenset[int | None]
    outputs: tuple[Any, Any]
    handlers: dict[int, Any]
    recursion: int


_rooms: list[_Room] = []


_printed: dict[str, int] = {}


def remember() -> None:
    """Remember the process as it is now, before any report, and make it ready for the first."""
    from IPython.core.getipython import get_ipython

    threads = frozenset(thread.ident for thread in threading.enumerate())
    outputs = (sys.stdout, sys.stderr)
    _rooms[:] = [_Room(threads, outputs, _handlers(), sys.getrecursionlimit())]
    shell: Any = get_ipython()
    shell.ask_exit = _exit
    # IPython puts a copy of what is printed aside, in a `write` of its own for each cell: only
    # from here on is there a place in front of that one.
    shell.events.register("pre_run_cell", _bound)
    patches.remember()
    check()
    # What the imports made stays for good: not looking through it again and again saves a tenth
    # of a second a report.
    gc.collect()
    gc.freeze()


def _exit() -> None:
    """End a notebook at `quit()` as at `sys.exit()`; IPython's own would end the process later.

    Raises
    ------
    SystemExit
    """
    raise SystemExit


def _bound(_cell: object = None) -> None:
    """Bound what the cell that begins may print, by what those before it have left."""
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        stream.write = _bounded(name, stream.write)  # type: ignore[method-assign]


def _bounded(name: str, write: Callable[[str], int]) -> Callable[[str], int]:
    def write_within_bounds(text: str) -> int:
        left = MOST_PRINTED - _printed.get(name, 0)
        _printed[name] = _printed.get(name, 0) + len(text)
        if left >= len(text):
            return write(text)
        if left >= 0:
            write(text[:left] + _CUT)
            _printed[name] += 1  # said once
        return len(text)

    return write_within_bounds


def check() -> None:
    """Put outputs and signals back, and begin anew to count what is printed.

    Raises
    ------
    SpoiltError
        Something of the last report is still there.
    """
    room = _rooms[0]
    _printed.clear()
    left = [thread for thread in threading.enumerate() if _is_of_a_report(thread, room)]
    if left:
        raise SpoiltError(f"a thread is still running: {left[0].name}")
    if _children():
        raise SpoiltError("a process that it started is still there")
    if name := patches.replaced():
        raise SpoiltError(f"a function of a library was replaced: {name}")
    sys.setrecursionlimit(room.recursion)
    sys.stdout, sys.stderr = room.outputs
    for stream in room.outputs:
        if stream.closed:
            raise SpoiltError("standard output was closed")
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError as error:
            raise SpoiltError("standard output was closed") from error
    for number, handler in room.handlers.items():
        with suppress(OSError, ValueError, TypeError):
            signal.signal(number, handler)


def _is_of_a_report(thread: threading.Thread, room: _Room) -> bool:
    """Whether a notebook started a thread; the kernel's own machinery starts some late."""
    package = type(thread).__module__.partition(".")[0]
    return thread.ident not in room.threads and package not in _MACHINERY


def _handlers() -> dict[int, Any]:
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def _children() -> list[Any]:
    import psutil

    return [
        child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE
    ]
