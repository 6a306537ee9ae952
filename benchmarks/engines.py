"""How each engine reads a table, in memory or from a Parquet file, and where its number of threads is set."""

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
    """Start a polars query. POLARS_MAX_THREADS must be set before polars is imported."""
    return pl.scan_parquet(table) if isinstance(table, Path) else table.lazy()


def duck(sql: str, threads: int, **tables: Table) -> pl.DataFrame:
    """
    Run a query in DuckDB, with the tables under their names.

    A frame is passed as Arrow with string views, which is zero-copy. For text ids this is slightly faster than
    passing the polars frame by its name.
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
    """Connect once, because a new connection for each call would cost DuckDB milliseconds."""
    connection = duckdb.connect()
    connection.execute(f"set threads = {threads}")
    connection.execute("set enable_progress_bar = false")
    return connection


def clickhouse(sql: str, threads: int, rows: Table, *, into: str = "ArrowTable") -> "pa.Table | pd.DataFrame":
    """
    Run a query in ClickHouse, in this process; `{rows}` in the query stands for the table.

    A frame is passed as Arrow with string views, whose buffers the table function Python() reads in place.
    """
    if isinstance(rows, Path):
        source = f"file('{rows}', Parquet)"
    else:
        arrow_table = rows.to_arrow(compat_level=pl.CompatLevel.newest())  # noqa: F841  the query refers to it by name
        source = "Python(arrow_table)"
    return _clickhouse().query(f"{sql.replace('{rows}', source)} settings max_threads = {threads}", into)


@cache
def _clickhouse() -> "chdb.state.sqlitelike.Connection":
    import chdb

    return chdb.connect(":memory:")


def in_pandas(table: Table) -> Table | pd.DataFrame:
    """Convert a frame to pandas, before timing starts. A file stays a path: reading it is timed."""
    return table if isinstance(table, Path) else table.to_pandas()


def read_pandas(table: Path | pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return pd.read_parquet(table, columns=columns) if isinstance(table, Path) else table
