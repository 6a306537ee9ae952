"""How a table that is never whole in memory goes to a file."""

from collections.abc import Iterable, Iterator
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source


def write_parquet(pieces: Iterable[pl.DataFrame], schema: dict[str, type[pl.DataType]], stream: IO[bytes]) -> None:
    """Write a table to a Parquet file piece by piece, in order; a few pieces are in memory at a time."""

    def frames(*_: object) -> Iterator[pl.DataFrame]:
        yield from pieces

    register_io_source(frames, schema=pl.Schema(schema)).sink_parquet(stream)
