"""Read Parquet files in batches, and find the file behind an error."""

from collections.abc import Iterator

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import SourceError
from cohortlib.read.tables import ChooseColumns, choose_columns, read_errors, unreadable


def scan_parquet(paths: list[str]) -> pl.LazyFrame:
    """Scan Parquet files lazily; later files may have more columns than the first."""
    return pl.scan_parquet(paths, glob=False, extra_columns="ignore")


def parquet_batches(frame: pl.LazyFrame, name: str, paths: list[str], choose: ChooseColumns) -> Iterator[pl.DataFrame]:
    """Read Parquet files in batches."""
    rows_read = 0
    with read_errors(name, lambda: find_bad_parquet(paths, choose, rows_read)):
        for batch in frame.collect_batches(maintain_order=True):
            yield batch
            rows_read += batch.height


def mixes_zones(paths: list[str], choose: ChooseColumns) -> bool:
    """Return whether one of the columns has instants with an offset from UTC in some files, and without in others.

    polars would read all files as the first.
    """
    kinds: dict[str, set[bool]] = {}
    for path in paths if len(paths) > 1 else ():
        schema = pl.read_parquet_schema(path)
        for name in choose(list(schema)):
            dtype = schema.get(name)
            if dtype == pl.Date or isinstance(dtype, pl.Datetime):
                kinds.setdefault(name, set()).add(getattr(dtype, "time_zone", None) is not None)
    return any(len(each) > 1 for each in kinds.values())


def find_bad_parquet(paths: list[str], choose: ChooseColumns, rows_read: int = 0) -> SourceError | None:
    """Find the file that cannot be read or has other columns; skip files whose rows have all been read.

    All footers are read before any rows.
    """
    columns: dict[str, pl.DataType] = {}
    unread: list[str] = []
    rows = 0
    for path in paths:
        frame = scan_parquet([path])
        try:
            schema = frame.collect_schema()
            rows += frame.select(pl.len()).collect().item()
        except (pl.exceptions.PolarsError, OSError) as error:
            return unreadable(repr(path), error)
        columns = columns or {name: schema[name] for name in choose_columns(schema.names(), choose)}
        for name, dtype in columns.items():
            if name not in schema:
                return SourceError(f"{path!r} has no column {name!r}", expected=f"the columns of {paths[0]!r}")
            if schema[name] != dtype:
                return SourceError(
                    f"column {name!r} of {path!r} is {schema[name]}", expected=f"{dtype}, as in {paths[0]!r}"
                )
        if rows > rows_read:
            unread.append(path)
    for path in unread:
        try:
            for _ in scan_parquet([path]).select(by_name(*columns)).collect_batches():
                pass
        except (pl.exceptions.PolarsError, OSError) as error:
            return unreadable(repr(path), error)
    return None
