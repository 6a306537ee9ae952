"""Find the file and the line of a row of CSV files, for messages; they are read again for it, up to that row."""

import csv
import gzip
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeAlias

import polars as pl

Locate: TypeAlias = Callable[[int], str]
"""Return where a row is, from its number in the source: for CSV files ``'orders.csv, line 203'``."""


def locate_in(paths: list[str]) -> Locate:
    """Return a function that says where a row of some CSV files is; `paths` are in order."""

    def locate(row: int) -> str:
        with suppress(OSError, ValueError, csv.Error, pl.exceptions.PolarsError):
            return _in_files(paths, row)
        return f"row {row:,}"

    return locate


def _in_files(paths: list[str], row: int) -> str:
    for path in paths:
        rows = pl.scan_csv(path, glob=False, infer_schema=False).select(pl.len()).collect().item()
        if row < rows:
            return f"{Path(path).name}, line {_line(path, row):,}"
        row -= rows
    raise ValueError


def _line(path: str, row: int) -> int:
    """Return the line on which a row of a CSV file begins, from 1."""
    limit = csv.field_size_limit(1 << 30)
    try:
        with _open(path) as text:
            reader = csv.reader(text)
            next(reader)
            for _ in range(row):
                next(reader)
            return reader.line_num + 1
    except StopIteration:
        raise ValueError from None
    finally:
        csv.field_size_limit(limit)


def _open(path: str) -> IO[str]:
    if path.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    if path.lower().endswith(".zst"):
        raise ValueError
    return Path(path).open(encoding="utf-8", newline="")
