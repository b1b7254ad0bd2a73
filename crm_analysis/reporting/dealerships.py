"""The names of the dealerships in a folder or file of data: all that a plan needs to know of it.

Reports know nothing of the warehouse, so the names are read here, from the one column; polars
or DuckDB are imported only when a plan asks for all dealerships of data not seen before.
"""

from __future__ import annotations

from pathlib import Path

from crm_analysis.errors import ReportError

__all__ = ["dealership_names"]


def dealership_names(data: Path) -> dict[str, str]:
    """Return the dealerships' names by their ids, in the order of these.

    Raises
    ------
    ReportError
        The data has no dealerships table that can be read.
    """
    table = data / "dealerships.parquet"
    if data.is_dir() and not table.is_file():
        raise ReportError(
            f"The plan asks for all dealerships, and {data} has no dealerships.parquet. "
            "Check the folder, or list the dealerships by name in the plan."
        )
    return _from_parquet(table) if data.is_dir() else _from_duckdb(data)


def _from_parquet(table: Path) -> dict[str, str]:
    import polars as pl

    try:
        frame = pl.read_parquet(table, columns=["dealership_id", "name"])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(table, error) from error
    return {str(own): str(name) for own, name in frame.sort("dealership_id").iter_rows()}


def _from_duckdb(file: Path) -> dict[str, str]:
    import duckdb

    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            query = "select dealership_id, name from dealerships order by dealership_id"
            rows = connection.sql(query).fetchall()
    except duckdb.Error as error:
        raise _unreadable(file, error) from error
    return {str(own): str(name) for own, name in rows}


def _unreadable(path: Path, error: Exception) -> ReportError:
    return ReportError(
        f"The dealerships' names could not be read from {path}: {error}. It needs the columns "
        "dealership_id and name; or list the dealerships by name in the plan."
    )
