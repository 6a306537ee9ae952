"""Write and scan the Parquet files of a part."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import polars as pl

from cohortlib.engine import files
from cohortlib.transactions.store.manifest import DroppedFile, PartFile
from cohortlib.transactions.store.parts import DAY, KEY, KEY2, SIZE, UNITS, Part

_ROW_GROUP = 1 << 15  # rows; as many are read where a few are needed
_TYPES = {SIZE: pl.UInt32, DAY: pl.Int32, UNITS: pl.Int64, KEY: pl.UInt64, KEY2: pl.UInt64}


def write_part(folder: Path, name: str, part: Part, *, durable: bool = False) -> PartFile:
    """Write a part, whose rows are in the order of its users; if `durable`, wait until it is on disk."""
    # Uncompressed: dictionary encoding already removes most repetition, and decompressing takes longer than reading.
    for kind, frame in (("users", part.users), ("rows", part.rows)):
        file = folder / f"{name}.{kind}.parquet"
        with files.file_errors(file):
            group = _ROW_GROUP if kind == "rows" else None
            frame.write_parquet(file, compression="uncompressed", statistics=False, row_group_size=group)
            if durable:
                files.fsync(file)
    key = part.users[KEY].to_numpy()
    return PartFile(name, key.size, part.rows.height, int(key[0]), int(key[-1]))


def write_dropped(folder: Path, name: str, rows: pl.DataFrame) -> DroppedFile:
    """Write the kept columns, the users and the days of dropped rows."""
    file = folder / f"{name}.dropped.parquet"
    with files.file_errors(file):
        rows.write_parquet(file, compression="uncompressed", statistics=False)
    return DroppedFile(name, rows.height)


def has_valid_types(frame: pl.DataFrame) -> bool:
    """Return whether the columns that kernels read have their types and no nulls."""
    columns = [column for column in frame if column.name in _TYPES]
    return all(column.dtype == _TYPES[column.name] and not column.null_count() for column in columns)


def scan_part(file: Path) -> pl.LazyFrame:
    """Scan one Parquet file of a part."""
    return pl.scan_parquet(file, glob=False, hive_partitioning=False)


def parts_in_range(run: Sequence[PartFile], low: int, high: int) -> list[PartFile]:
    """Return the parts of a run that have keys from `low` to `high`, both inclusive."""
    begin = bisect_left(run, low, key=lambda part: part.high)
    return list(takewhile(lambda part: part.low <= high, run[begin:]))
