"""Generated tables, each written once in the layout of a case, and used as files or read into memory."""

import gzip
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from pyarrow import parquet

from benchmarks.adapty_rules import EPOCH, FIRST, History
from benchmarks.data import Transactions, own_bytes, transactions
from benchmarks.subscriptions import history

EVENTS, CUSTOMERS = "events", "customers"
GROUP = 1_000_000  # rows
SMALL = 1_000  # rows
SPARK_FILES = 32
WIDE = 20  # columns


class Data(NamedTuple):
    """
    A generated table.

    `ids` is a kind of user ids, or "events" for the history of a subscription app, or "customers" for customer tables,
    which are not written. `layout` is the writer of the
    Parquet files ("pyarrow": row groups of a million rows; "polars", "DuckDB", "Spark"; "small": files of 1,000 rows),
    or "csv" or "csv.gz", of 4 or 20 columns.
    """

    ids: str
    rows: int
    layout: str = "pyarrow"
    rows_per_user: float = 10
    shuffled: bool = False
    columns: int = 4

    def folder(self, root: Path) -> Path:
        """Return the folder of the files."""
        return root / "-".join(map(str, self))

    def path(self, root: Path, name: str = "rows") -> Path:
        """Return the file, or the glob of all files."""
        many = {"Spark": "*.parquet", "small": "*.parquet"}
        suffix = self.layout if self.layout.startswith("csv") else "parquet"
        return self.folder(root) / many.get(self.layout, f"{name}.{suffix}")


def write(data: Data, root: Path) -> None:
    """Generate a table, unless its folder exists."""
    if data.ids == CUSTOMERS or data.folder(root).exists():
        return
    print(f"generating {data}", file=sys.stderr, flush=True)
    root.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="unfinished-", dir=root))
    if data.ids == EVENTS:
        for name, frame in zip(("events", "installs"), history(data.rows), strict=True):
            _write_parquet(frame, place / f"{name}.parquet")
            if data.layout.startswith("csv"):
                _write_csv(frame, place / f"{name}.{data.layout}")
    elif data.layout in ("pyarrow", "csv", "csv.gz"):
        frame = transactions(data.rows, data.ids, rows_per_user=data.rows_per_user, shuffled=data.shuffled)
        if data.layout == "pyarrow":
            _write_parquet(frame, place / "rows.parquet")
        else:
            _write_csv(orders(frame, data.columns), place / f"rows.{data.layout}")
    else:
        source = data._replace(layout="pyarrow")
        write(source, root)
        WRITERS[data.layout](source.path(root), place)
    place.rename(data.folder(root))


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    parquet.write_table(frame.to_arrow(), path, row_group_size=GROUP)


def _write_csv(frame: pl.DataFrame, path: Path) -> None:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    frame.write_csv(plain, datetime_format="%Y-%m-%dT%H:%M:%S")
    if path.suffix == ".gz":
        with plain.open("rb") as source, gzip.open(path, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        plain.unlink()


def _by_polars(source: Path, folder: Path) -> None:
    pl.read_parquet(source).write_parquet(folder / "rows.parquet")


def _by_duckdb(source: Path, folder: Path) -> None:
    import duckdb

    duckdb.sql(f"copy (from '{source}') to '{folder}/rows.parquet'")


def _by_spark(source: Path, folder: Path) -> None:
    """Write as a Spark job does: many part files, each with its own row group, compressed by snappy."""
    from benchmarks import spark

    session = spark.session(os.cpu_count() or 1)
    session.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    rows = session.read.parquet(str(source)).repartition(SPARK_FILES)
    rows.write.parquet(str(folder / "job"))
    session.stop()
    for part in (folder / "job").glob("part-*.parquet"):
        part.rename(folder / part.name)
    shutil.rmtree(folder / "job")


def _small(source: Path, folder: Path) -> None:
    for number, part in enumerate(pl.read_parquet(source).iter_slices(SMALL)):
        part.write_parquet(folder / f"{number:05}.parquet")


WRITERS = {"polars": _by_polars, "DuckDB": _by_duckdb, "Spark": _by_spark, "small": _small}


def orders(rows: pl.DataFrame, columns: int) -> pl.DataFrame:
    """Add columns as a shop's export has them; every third note is in quotes."""
    rng = np.random.default_rng(1)

    def one_of(*texts: str | None) -> pl.Series:
        return pl.Series(texts, dtype=pl.String).gather(rng.integers(0, len(texts), rows.height))

    def number(limit: int) -> pl.Series:
        return pl.Series(rng.integers(0, limit, rows.height))

    country = one_of("Germany", "France", "United States", "Brazil", "Japan", "Italy", "Spain", "Poland")
    if columns < WIDE:
        return rows.with_columns(country=country)
    return rows.select(
        *(number(10**6).alias(name) for name in ("order_id", "session")),
        "user_id",
        one_of("USD").alias("currency"),
        "timestamp",
        (number(3_000) / 100).alias("discount"),
        one_of(*(f"SKU-{each:05}" for each in range(1_000))).alias("sku"),
        "amount",
        country.alias("country"),
        one_of("web", "ios", "android").alias("channel"),
        number(9).alias("quantity"),
        (number(3_000) / 100).alias("tax"),
        one_of(*(f"City {each}" for each in range(500))).alias("city"),
        number(10**5).alias("postcode"),
        one_of("paid", "refunded", "pending").alias("status"),
        one_of(None, "gift", "see, above").alias("note"),
        one_of(*(f"user{each}@example.com" for each in range(5_000))).alias("email"),
        *(number(100).alias(name) for name in ("visits", "items", "score")),
    )


def load(data: Data, root: Path, *, memory: bool) -> Any:
    """Load a table, as paths or in memory."""
    if data.ids != EVENTS:
        path = data.path(root)
        return Transactions(_in_memory(path) if memory else path, packable=data.ids in ("int", "random"))
    events, installs = data.path(root, "events"), data.folder(root) / "installs.parquet"
    last = pl.scan_parquet(data.folder(root) / "events.parquet").select(pl.col("event_datetime").max()).collect()
    tables = (_in_memory(events), _in_memory(installs)) if memory else (events, installs)
    return History(*tables, FIRST, (last.item().date() - EPOCH).days)


def _in_memory(path: Path) -> pl.DataFrame:
    """Read files into columns of one chunk each, with a copy of every string."""
    frame = pl.read_parquet(path).rechunk()
    for name, kind in frame.schema.items():
        if kind == pl.String:
            frame = frame.with_columns(own_bytes(frame[name]).alias(name))
    return frame
