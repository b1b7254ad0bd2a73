"""Inside the kernel: notice what a report cannot be cleaned of, and bound what it prints.

`fresh` restores what can be restored. Threads still running, a child process, a closed standard
output cannot: then the kernel says so, and is replaced before the next report.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["MOST_PRINTED", "SpoiltError", "check", "remember"]

MOST_PRINTED = 200_000
"""Characters that one report may print; a page with more is not read by anyone."""

_CUT = "\n… the rest of what was printed was left out.\n"


class SpoiltError(RuntimeError):
    """The last report left something behind that only a new process is free of."""


@dataclass(frozen=True)
class _Room:
    """What a clean process has: its threads, its outputs, its answers to signals."""

    threads: frozenset[int | None]
    outputs: tuple[Any, Any]
    handlers: dict[int, Any]


_rooms: list[_Room] = []


class _Bound:
    """A stream's own `write`, until too much was written."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self._left = MOST_PRINTED

    def __call__(self, text: str) -> int | None:
        if self._left < 0:
            return len(text)
        self._left -= len(text)
        if self._left >= 0:
            return self._write(text)  # type: ignore[no-any-return]
        self._write(text[: self._left] + _CUT)
        return len(text)


def remember() -> None:
    """Remember the process as it is now, before any report, and make it ready for the first."""
    threads = frozenset(thread.ident for thread in threading.enumerate())
    _rooms[:] = [_Room(threads, (sys.stdout, sys.stderr), _handlers())]
    check()


def check() -> None:
    """Put outputs and signals back, and bound what the next report prints.

    Raises
    ------
    SpoiltError
        Something of the last report is still there.
    """
    room = _rooms[0]
    left = [t for t in threading.enumerate() if t.ident not in room.threads and t.is_alive()]
    if left:
        raise SpoiltError(f"a thread is still running: {left[0].name}")
    if _children():
        raise SpoiltError("a process that it started is still there")
    sys.stdout, sys.stderr = room.outputs
    for stream in room.outputs:
        if stream.closed:
            raise SpoiltError("standard output was closed")
        stream.write = _Bound(type(stream).write.__get__(stream))
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError as error:
            raise SpoiltError("standard output was closed") from error
    for number, handler in room.handlers.items():
        with suppress(OSError, ValueError, TypeError):
            signal.signal(number, handler)


def _handlers() -> dict[int, Any]:
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def _children() -> list[Any]:
    import psutil

    return [
        child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE
    ]
