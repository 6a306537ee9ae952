"""Generated tables: written to Parquet once, and used as files or read into memory."""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from benchmarks.adapty_rules import EPOCH, FIRST, History
from benchmarks.data import Transactions, own_bytes, transactions
from benchmarks.subscriptions import history

SOURCES = ("memory", "parquet")
TRANSACTIONS, SUBSCRIPTIONS = "transactions", "subscriptions"


class Shape(NamedTuple):
    """The parameters of a generated table."""

    rows: int
    ids: str
    rows_per_user: float = 10
    shuffled: bool = False


def write(kind: str, shape: Shape, folder: Path) -> None:
    """Generate a table and write it to an empty folder."""
    if kind == TRANSACTIONS:
        transactions(shape.rows, shape.ids, rows_per_user=shape.rows_per_user, shuffled=shape.shuffled).write_parquet(
            folder / "transactions.parquet"
        )
        return
    events, installs = history(shape.rows, ids=shape.ids)
    events.write_parquet(folder / "events.parquet")
    installs.write_parquet(folder / "installs.parquet")


def load(kind: str, ids: str, folder: Path, source: str) -> Transactions | History:
    """Load the tables of `write`, as paths or in memory."""

    def table(name: str) -> pl.DataFrame | Path:
        path = folder / f"{name}.parquet"
        return path if source == "parquet" else _in_memory(path)

    if kind == TRANSACTIONS:
        return Transactions(table("transactions"), packable=ids == "int")
    last = pl.scan_parquet(folder / "events.parquet").select(pl.col("event_datetime").max()).collect().item().date()
    return History(table("events"), table("installs"), FIRST, (last - EPOCH).days)


def _in_memory(path: Path) -> pl.DataFrame:
    """Read a file into columns of one chunk each, with a copy of every string."""
    frame = pl.read_parquet(path).rechunk()
    for name, kind in frame.schema.items():
        if kind == pl.String:
            frame = frame.with_columns(own_bytes(frame[name]).alias(name))
    return frame
