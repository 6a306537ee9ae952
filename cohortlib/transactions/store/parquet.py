"""How a table that is never whole in memory goes to a file, or to a folder of files."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source

from cohortlib.engine import files

_MARK = "cohortlib.part"


def name_of_part(number: int) -> str:
    """Name a file of a folder."""
    return f"part-{number:05}.parquet"


def are_parts(folder: Path) -> bool:
    """Tell whether all that a folder holds are files that were written here."""
    try:
        return all(_MARK in pl.read_parquet_metadata(file) for file in folder.iterdir() if file.name != files.LOCK)
    except (pl.exceptions.PolarsError, OSError):
        return False


def write_parquet(pieces: Iterable[pl.DataFrame], schema: dict[str, type[pl.DataType]], stream: IO[bytes]) -> None:
    """Write a table to a Parquet file piece by piece, in order; a few pieces are in memory at a time."""

    def frames(*_: object) -> Iterator[pl.DataFrame]:
        yield from pieces

    register_io_source(frames, schema=pl.Schema(schema)).sink_parquet(stream, metadata={_MARK: "1"})
