"""Read Parquet files, whole or in batches."""

from collections.abc import Iterator

import polars as pl
from polars.selectors import by_name

from cohortlib.read.tables import Chooser, chosen_columns, first_line, unreadable_source


def parquet_batches(frame: pl.LazyFrame, what: str, found: list[str], wanted: Chooser) -> Iterator[pl.DataFrame]:
    """Read Parquet files in batches."""
    done = 0
    with unreadable_source(what, lambda: unreadable_parquet(found, wanted, done)):
        for batch in frame.collect_batches(maintain_order=True):
            yield batch
            done += batch.height


def unreadable_parquet(found: list[str], wanted: Chooser, done: int = 0) -> str | None:
    """Say which of many files it is that cannot be read; so many rows have been read.

    The ends of the files, which tell what is in them, are read first; then the rows from where reading stopped.
    """
    columns: dict[str, pl.DataType] = {}
    rest: list[str] = []
    rows = 0
    for file in found:
        frame = scan_parquet([file])
        try:
            there = frame.collect_schema()
            rows += frame.select(pl.len()).collect().item()
        except (pl.exceptions.PolarsError, OSError) as error:
            return f"{file!r} cannot be read: {first_line(error)}"
        columns = columns or {name: there[name] for name in chosen_columns(there.names(), wanted)}
        for name, kind in columns.items():
            if name not in there:
                return f"{file!r} has no column {name!r}; expected the columns of {found[0]!r}"
            if there[name] != kind:
                return f"column {name!r} of {file!r} is {there[name]}; expected {kind}, as in {found[0]!r}"
        if rows > done:
            rest.append(file)
    for file in rest:
        try:
            for _ in scan_parquet([file]).select(by_name(*columns)).collect_batches():
                pass
        except (pl.exceptions.PolarsError, OSError) as error:
            return f"{file!r} cannot be read: {first_line(error)}"
    return None


def scan_parquet(found: list[str]) -> pl.LazyFrame:
    """Scan Parquet files lazily."""
    # What else is in a file is nothing to us: over the years columns come.
    return pl.scan_parquet(found, glob=False, extra_columns="ignore")
