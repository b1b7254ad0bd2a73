"""Places on disk: asked beforehand whether they can be written, and written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from crm_analysis.errors import CrmError

__all__ = ["check_writable", "write_whole"]


def check_writable(folder: Path, *, what: str, remedy: str, refusal: type[CrmError]) -> None:
    """Make a folder where there is none, and refuse one that takes no file.

    Parameters
    ----------
    folder : Path
    what : str
        What was to be written there, as a sentence begins: ``"Reports were"``.
    remedy : str
        What to do instead.
    refusal : type of CrmError

    Raises
    ------
    refusal
        With what was asked, what the system said, and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise refusal(
            f"{what} to be written into {folder}, and that cannot be done: "
            f"{error.strerror or error}. Free the place or {remedy}."
        ) from error


def write_whole(path: Path, content: str | bytes, *, lasting: bool = False) -> None:
    """Write a file so that it is there whole, or as it was before.

    Parameters
    ----------
    path : Path
        Its folder is made where there is none.
    content : str or bytes
        Text is written as UTF-8.
    lasting : bool
        Whether to wait until the disk has it, for what cannot be made again.

    Raises
    ------
    OSError
        The disk is full, or the place cannot be written; nothing half-written is left.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
