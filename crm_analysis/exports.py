"""Tables leave for a spreadsheet: a CSV file in which no text can become a formula.

A cell that begins with ``=``, ``+``, ``-`` or ``@`` is a formula to a spreadsheet, and a formula
can send what stands beside it to a stranger; a name in a CRM may begin so. Such texts get an
apostrophe before them, which a spreadsheet takes for "this is text". Numbers are written as
numbers, negative ones too.

Source: OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import polars as pl

from crm_analysis.errors import InputError
from crm_analysis.files import write_whole

__all__ = ["csv_text", "plain_cell", "to_csv"]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Of the last four, the wide forms, some spreadsheets in East Asia think the same."""

_NESTED = (pl.List, pl.Array, pl.Struct, pl.Object, pl.Binary)


def plain_cell(value: object) -> object:
    """Return a value as it may stand in a CSV file: a text that no spreadsheet will compute.

    Examples
    --------
    >>> plain_cell("=HYPERLINK(A1)"), plain_cell("North"), plain_cell(-1.5), plain_cell(None)
    ("'=HYPERLINK(A1)", 'North', -1.5, '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, int | float):
        return value
    text = str(value).replace("\0", "")
    # Some programs drop the blanks at the start and see what stands behind them.
    return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA_STARTS) else text


def csv_text(table: pl.DataFrame) -> str:
    """Write a table as CSV: a head, one line a row, null as an empty cell.

    Raises
    ------
    InputError
        A column holds lists, structures or bytes, which a cell cannot.
    """
    nested = [name for name, kind in table.schema.items() if isinstance(kind, _NESTED)]
    if nested:
        raise InputError(
            f"A CSV file was asked for, and the columns {', '.join(nested)} hold lists, structures "
            "or bytes, which no cell can. Leave them out or take them apart first."
        )
    rows = [table.columns, *table.iter_rows()]
    return "".join(",".join(map(_field, row)) + "\r\n" for row in rows)


def _field(value: object) -> str:
    """Write one field; every text in quotes, for spreadsheets that part fields by semicolons."""
    cell = plain_cell(value)
    if value is None or not isinstance(cell, str):
        return str(cell)
    return '"' + cell.replace('"', '""') + '"'


def to_csv(table: pl.DataFrame, path: str | Path) -> Path:
    """Write a table as a CSV file that Excel, LibreOffice and polars read, whole or not at all.

    Parameters
    ----------
    table : polars DataFrame
    path : str or Path
        Ends in ``.csv``; its folder is made where there is none, a file there is replaced.

    Returns
    -------
    Path
        The file. UTF-8 with a mark at its beginning, by which Excel knows Cyrillic; fields parted
        by commas, decimals by points.

    Raises
    ------
    InputError
        The name does not end in ``.csv``, a column cannot be written, or the place takes no file.
    """
    target = Path(path)
    if target.suffix.lower() != ".csv":
        raise InputError(
            f"A CSV file was to be written to {str(path)!r}, whose name does not end in .csv. "
            "Name it so: spreadsheets go by the name."
        )
    data = csv_text(table).encode("utf-8-sig")
    try:
        write_whole(target, data)
    except OSError as error:
        raise InputError(
            f"The file {target} was to be written, and that cannot be done: "
            f"{error.strerror or error}. Free the place or choose another."
        ) from error
    return target
