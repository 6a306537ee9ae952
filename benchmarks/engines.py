"""How each engine holds or reads a table: a frame, a table of its own, or files. Threads are set here too."""

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import polars as pl

if TYPE_CHECKING:
    import chdb
    import pandas as pd
    import pyarrow as pa


class Own(NamedTuple):
    """A table that an engine has loaded into memory before timing starts."""

    name: str


Table = pl.DataFrame | Path | Own  # the path of a file or a glob

INSTANT = "%Y-%m-%dT%H:%M:%S"
CSV_TYPES = {  # columns of CSV files that are not text: their types in polars, DuckDB and ClickHouse
    "timestamp": (pl.String, "TIMESTAMP", "DateTime64(6, 'UTC')"),
    "amount": (pl.Float64, "DOUBLE", "Float64"),
    "user_id": (pl.Int64, "BIGINT", "Int64"),
}
TEXT = (pl.String, "VARCHAR", "String")
CLICKHOUSE_TYPES = {pl.Int64: "Int64", pl.Float64: "Float64", pl.String: "String"}


def is_csv(path: Path) -> bool:
    """Return whether a file is CSV, plain or compressed."""
    return ".csv" in path.suffixes


def csv_types(path: Path) -> dict[str, tuple[type[pl.DataType], str, str]]:
    """Return the types of the columns of a CSV file of transactions; ids in quotes or with letters are text."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        names, first = (next(lines).rstrip("\n").split(",") for _ in range(2))
    types = {name: CSV_TYPES.get(name, TEXT) for name in names}
    if not first[names.index("user_id")].isdigit():
        types["user_id"] = TEXT
    return types


# --- polars ---------------------------------------------------------------------------------------------------


def scan(table: Table) -> pl.LazyFrame:
    """Start a polars query. POLARS_MAX_THREADS must be set before polars is imported."""
    if not isinstance(table, Path):
        return table.lazy()
    if not is_csv(table):
        return pl.scan_parquet(table)
    rows = pl.scan_csv(table, schema={name: kind for name, (kind, _, _) in csv_types(table).items()})
    return rows.with_columns(pl.col("timestamp").str.to_datetime(INSTANT))


# --- DuckDB ---------------------------------------------------------------------------------------------------


def duck(sql: str, threads: int, **tables: Table) -> pl.DataFrame:
    """
    Run a query in DuckDB, with the tables under their names.

    A frame is passed as Arrow with string views, which is zero-copy. For text ids this is slightly faster than
    passing the polars frame by its name.
    """
    connection = _duckdb(threads)
    for name, table in tables.items():
        if isinstance(table, pl.DataFrame):
            connection.register(name, table.to_arrow(compat_level=pl.CompatLevel.newest()))
        else:
            source = table.name if isinstance(table, Own) else _duckdb_file(table)
            connection.execute(f"create or replace temp view {name} as from {source}")
    try:
        return connection.sql(sql).pl()
    finally:
        for name in tables:
            connection.execute(f"drop view {name}")


def duck_own(name: str, frame: pl.DataFrame, threads: int) -> Own:
    """Load a frame into a table of DuckDB's own."""
    connection = _duckdb(threads)
    connection.register("loading", frame.to_arrow(compat_level=pl.CompatLevel.newest()))
    connection.execute(f"create or replace table own_{name} as from loading")
    connection.execute("drop view loading")
    return Own(f"own_{name}")


def _duckdb_file(path: Path) -> str:
    if not is_csv(path):
        return f"read_parquet('{path}')"
    # TIMESTAMP is a quarter faster than TIMESTAMPTZ.
    columns = {name: kind for name, (_, kind, _) in csv_types(path).items()}
    return f"read_csv('{path}', header = true, delim = ',', quote = '\"', auto_detect = false, columns = {columns})"


@cache
def _duckdb(threads: int) -> duckdb.DuckDBPyConnection:
    """Connect once, because a new connection for each call would cost DuckDB milliseconds."""
    connection = duckdb.connect()
    connection.execute(f"set threads = {threads}")
    connection.execute("set enable_progress_bar = false")
    return connection


# --- ClickHouse -----------------------------------------------------------------------------------------------


def clickhouse(sql: str, threads: int, rows: Table, *, into: str = "ArrowTable") -> "pa.Table | pd.DataFrame":
    """
    Run a query in ClickHouse, in this process; `{rows}` in the query stands for the table.

    A frame is passed as Arrow with string views, whose buffers the table function Python() reads in place.
    """
    settings = f"max_threads = {threads}"
    if isinstance(rows, Own):
        source = rows.name
    elif isinstance(rows, pl.DataFrame):
        arrow_table = rows.to_arrow(compat_level=pl.CompatLevel.newest())  # noqa: F841  the query refers to it by name
        source = "Python(arrow_table)"
    elif is_csv(rows):
        columns = ", ".join(f"{name} {kind}" for name, (_, _, kind) in csv_types(rows).items())
        source = f"file('{rows}', CSVWithNames, '{columns.replace(chr(39), chr(92) + chr(39))}')"
    else:
        source = f"file('{rows}', Parquet)"
    return _clickhouse().query(f"{sql.replace('{rows}', source)} settings {settings}", into)


def clickhouse_own(name: str, frame: pl.DataFrame, threads: int) -> Own:
    """
    Load a frame into a table of ClickHouse's own.

    Its engine is Memory, which is a fifth faster here than MergeTree in the order of the rows (1.0 and 1.2 s of CPU
    time for 10,000,000 rows).
    """
    connection = _clickhouse()
    arrow_table = frame.to_arrow(compat_level=pl.CompatLevel.newest())  # noqa: F841  the query refers to it by name
    columns = ", ".join(
        f"{column} {CLICKHOUSE_TYPES.get(type(kind) if isinstance(kind, pl.DataType) else kind, _instant(kind))}"
        for column, kind in frame.schema.items()
    )
    connection.query(f"drop table if exists own_{name}")
    connection.query(f"create table own_{name} ({columns}) engine = Memory")
    connection.query(f"insert into own_{name} select * from Python(arrow_table) settings max_threads = {threads}")
    return Own(f"own_{name}")


def _instant(kind: pl.DataType) -> str:
    return (
        f"DateTime64({ {'ms': 3, 'us': 6, 'ns': 9}[kind.time_unit] }, 'UTC')" if isinstance(kind, pl.Datetime) else ""
    )


@cache
def _clickhouse() -> "chdb.state.sqlitelike.Connection":
    import chdb

    return chdb.connect(":memory:")
