"""How each engine is handed a table, in memory or as a Parquet file, and told its number of threads."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import polars as pl

if TYPE_CHECKING:
    import chdb
    import pyarrow as pa

Table = pl.DataFrame | Path


def scan(table: Table) -> pl.LazyFrame:
    """Begin a polars query; POLARS_MAX_THREADS is set before polars is imported."""
    return pl.scan_parquet(table) if isinstance(table, Path) else table.lazy()


def duck(sql: str, threads: int, **tables: Table) -> pl.DataFrame:
    """
    Ask DuckDB, which finds the tables by name.

    A frame is handed over as Arrow with string views, which copies nothing; for text ids that is a little faster than
    by the name of the polars frame.
    """
    connection = _duckdb(threads)
    for name, table in tables.items():
        if isinstance(table, Path):
            connection.execute(f"create or replace temp view {name} as from read_parquet('{table}')")
        else:
            connection.register(name, table.to_arrow(compat_level=pl.CompatLevel.newest()))
    try:
        return connection.sql(sql).pl()
    finally:
        for name in tables:
            connection.execute(f"drop view {name}")


@cache
def _duckdb(threads: int) -> duckdb.DuckDBPyConnection:
    """Connect once: a fresh connection for each call would cost DuckDB milliseconds."""
    connection = duckdb.connect()
    connection.execute(f"set threads = {threads}")
    connection.execute("set enable_progress_bar = false")
    return connection


def clickhouse(sql: str, threads: int, rows: Table, *, into: str = "ArrowTable") -> "pa.Table | pd.DataFrame":
    """
    Ask ClickHouse, inside this process; `{rows}` in the query is the table.

    A frame is handed over as Arrow with string views: the table function Python() reads the buffers where they lie.
    """
    if isinstance(rows, Path):
        source = f"file('{rows}', Parquet)"
    else:
        handed_over = rows.to_arrow(compat_level=pl.CompatLevel.newest())  # noqa: F841  found by its name in the query
        source = "Python(handed_over)"
    return _clickhouse().query(f"{sql.replace('{rows}', source)} settings max_threads = {threads}", into)


@cache
def _clickhouse() -> "chdb.state.sqlitelike.Connection":
    import chdb

    return chdb.connect(":memory:")


def in_pandas(table: Table) -> Table | pd.DataFrame:
    """Convert a frame before the clock starts; a file is read while it runs."""
    return table if isinstance(table, Path) else table.to_pandas()


def read_pandas(table: Path | pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return pd.read_parquet(table, columns=columns) if isinstance(table, Path) else table
