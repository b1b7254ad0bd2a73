"""Files beside a page: the tables that its notebook gives a reader to take away.

They are named after the page, ``marketer.en.sales_cube.csv`` beside ``marketer.en.html``, so that
whoever makes the page again knows which are its own: those it no longer has are taken away.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from crm_analysis.blocks import FILE_NAME, FILES_MIME
from crm_analysis.errors import ReportError
from crm_analysis.files import write_whole

__all__ = ["address_of", "name_beside", "put_beside", "tables_in"]


def name_beside(path: str, name: str) -> str:
    """Return what a file is called beside the page of that path.

    Examples
    --------
    >>> name_beside("north/marketer.en.html", "sales_cube.csv")
    'marketer.en.sales_cube.csv'
    """
    return f"{PurePosixPath(path).stem}.{name}"


def address_of(path: str, name: str) -> str:
    """Return the address of a file as the page beside it writes it."""
    return quote(name_beside(path, name))


def tables_in(notebook: Any) -> dict[str, bytes]:
    """Collect the files that an executed notebook gives to its reader, by name.

    Raises
    ------
    ReportError
        Two of one name, or what is no file of ours.
    """
    found: dict[str, bytes] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for name, data in output.get("data", {}).get(FILES_MIME, {}).items():
                if name in found:
                    raise ReportError(
                        f"Two tables of the notebook are to be written as {name!r}. Give each a "
                        "name of its own with downloadable(..., name=...)."
                    )
                found[name] = _bytes_of(name, data)
    return found


def _bytes_of(name: str, data: object) -> bytes:
    try:
        if re.fullmatch(FILE_NAME, name) and isinstance(data, str):
            return base64.b64decode(data, validate=True)
    except binascii.Error:
        pass
    raise ReportError(
        f"A file {name!r} was to stand beside the page; it is none that downloadable() makes. Use "
        "that function."
    )


def put_beside(page: Path, tables: Mapping[str, bytes]) -> list[str]:
    """Write the files of a page beside it, all or none, and take away those of before.

    Returns
    -------
    list of str
        Their names.

    Raises
    ------
    OSError
        One could not be written; then there is none.
    """
    names = {name_beside(page.name, name): data for name, data in tables.items()}
    for old in _own(page):
        if old.name not in names:
            old.unlink(missing_ok=True)
    try:
        for name, data in names.items():
            write_whole(page.with_name(name), data)
    except OSError:
        for name in names:
            page.with_name(name).unlink(missing_ok=True)
        raise
    return list(names)


def _own(page: Path) -> list[Path]:
    """List what lies beside a page and is named after it."""
    if not page.parent.is_dir():
        return []
    start = f"{page.stem}."
    return [
        path
        for path in page.parent.iterdir()
        if path.name.startswith(start) and re.fullmatch(FILE_NAME, path.name[len(start) :])
    ]
