"""Write a table that exceeds memory to a Parquet file, or to a folder of them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TypeAlias

import polars as pl
from polars.io.plugins import register_io_source

from cohortlib.engine import files

PolarsType: TypeAlias = pl.DataType | type[pl.DataType]

_MARK = "cohortlib.part"


def part_name(number: int) -> str:
    """Return the name of a file of the table."""
    return f"part-{number:05}.parquet"


def holds_only_parts(folder: Path) -> bool:
    """Check whether this module wrote every file in a folder."""
    try:
        return all(_MARK in pl.read_parquet_metadata(file) for file in folder.iterdir() if file.name != files.LOCK)
    except (pl.exceptions.PolarsError, OSError):
        return False


def write_parquet(batches: Iterable[pl.DataFrame], schema: Mapping[str, PolarsType], stream: IO[bytes]) -> None:
    """Write batches of a table to a Parquet file, in order; only a few are in memory at a time."""

    def frames(*_: object) -> Iterator[pl.DataFrame]:
        yield from batches

    register_io_source(frames, schema=pl.Schema(schema)).sink_parquet(stream, metadata={_MARK: "1"})
