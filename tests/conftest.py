"""What several test files share: one table on every backend, and a small generated network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

BACKENDS = (
    "polars",
    "polars-lazy",
    "pandas",
    "pyarrow",
    "duckdb",
    pytest.param(
        "pyspark",
        marks=[
            pytest.mark.spark,
            # Spark's own sockets to its Java process are closed by chance, when they are collected.
            pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
            pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        ],
    ),
)

ToBackend = Callable[[pl.DataFrame], Any]


@pytest.fixture(scope="session")
def _spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.warehouse.dir", str(folder))
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def _duckdb() -> Iterator[ToBackend]:
    import duckdb

    with duckdb.connect() as connection:
        yield lambda table: connection.from_arrow(table.to_arrow())


@pytest.fixture(scope="session")
def _pyspark(_spark: Any) -> ToBackend:
    return lambda table: _spark.createDataFrame(table.to_arrow())


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> ToBackend:
    """Return a function that moves a polars table to one of the backends."""
    plain: dict[str, ToBackend] = {
        "polars": lambda table: table,
        "polars-lazy": lambda table: table.lazy(),
        "pandas": lambda table: table.to_pandas(),
        "pyarrow": lambda table: table.to_arrow(),
    }
    name = str(request.param)
    return plain[name] if name in plain else request.getfixturevalue(f"_{name}")


@pytest.fixture(scope="session")
def tiny_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny generated network (seed 1), made once a session."""
    from synthetic import write_network

    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_network(folder, preset="tiny", seed=1)
    return folder
