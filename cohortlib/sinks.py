"""Where a table goes: to a file that is put in its place at once."""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` and put it in its place at the end, so that nobody reads half a file."""
    if path.exists() and not path.is_file():  # a device or a pipe has no place to be put in
        with path.open("wb") as stream:
            yield stream
        return
    path = path.resolve()  # behind a link, the file it names is the one to replace
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as stream:
            yield stream
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_parquet(pieces: Iterable[pl.DataFrame], schema: dict[str, type[pl.DataType]], stream: IO[bytes]) -> None:
    """Write a table to a Parquet file piece by piece, in order; a few pieces are in memory at a time."""

    def frames(*_: object) -> Iterator[pl.DataFrame]:
        yield from pieces

    try:
        register_io_source(frames, schema=pl.Schema(schema)).sink_parquet(stream)
    except pl.exceptions.ComputeError as error:
        # A full disk is a failed computation to polars, and only its words tell.
        told = re.search(r"\(os error (\d+)\)", str(error))
        if told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1]))) from error
