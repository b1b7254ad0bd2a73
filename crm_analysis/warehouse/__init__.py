"""Open a dealership's tables, checked once, lazily.

`open_warehouse` takes a folder of Parquet files or one DuckDB file, refuses a broken table with the
rule it breaks, and returns a `Warehouse` whose tables and views are lazy.
"""

from __future__ import annotations

from crm_analysis.warehouse.door import Warehouse, open_warehouse

__all__ = ["Warehouse", "open_warehouse"]
