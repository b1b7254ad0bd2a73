"""One batch at a time in a folder: a lock that the system takes off when its process ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from crm_analysis.errors import ReportError

__all__ = ["locked"]

_NAME = ".lock"
_FAR = 1 << 30
"""Windows locks bytes: one far behind the text, so that others may still read who holds it."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    The lock belongs to the open file and not to the file's being there, so that one left behind
    by a process that was killed holds nobody up.

    Raises
    ------
    ReportError
        Another process holds it; the message says which.
    """
    with (folder / _NAME).open("a+", encoding="utf-8") as file:
        if not _taken(file):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ReportError(
                f"A batch is being made in {folder} already, by {holder}. Wait until it ends, or "
                "name another folder with 'out' in the plan."
            )
        with suppress(OSError):  # a full disk takes no words; the lock holds all the same
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def _taken(file: IO[str]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a network folder without locks: batches there are kept apart by hand
        return True
    return True
