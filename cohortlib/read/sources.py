"""From whatever the user holds to a frame of the columns wanted: files, frames, Arrow streams."""

import glob
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import SchemaError, SourceError
from cohortlib.read.csv import Csv
from cohortlib.read.parquet import parquet_batches, scan_parquet, unreadable_parquet
from cohortlib.read.tables import (
    Chooser,
    Source,
    Stream,
    chosen_columns,
    collect,
    first_line,
    in_memory,
    select_columns,
    unreadable_source,
)

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".csv.gz", ".csv.zst")


def read(source: Source, wanted: Chooser, *, text: str, number: str | None = None) -> pl.DataFrame:
    """Read some columns of a source.

    Parameters
    ----------
    source
        A polars frame, lazy or not; the path or glob of Parquet or CSV files; or an Arrow stream.
    wanted
        Names the columns to read, given those that are there.
    text, number
        Columns which a CSV file is to be read as text (so that user 007 stays 007) and as floats.
    """
    if isinstance(source, pl.DataFrame):
        return source.select(by_name(*chosen_columns(source.columns, wanted)))
    if isinstance(source, pl.LazyFrame):
        return collect(source, wanted, "the lazy frame")
    if isinstance(source, str | Path):
        return _read_files(str(source), wanted, text, number)
    if hasattr(source, "__arrow_c_stream__"):
        try:
            frame = pl.DataFrame(source)
        except Exception as error:
            hint = ". Hint: convert the instants to UTC" if "time zone" in str(error) else ""
            raise SchemaError(
                f"the {type(source).__module__}.{type(source).__qualname__} cannot be read through the Arrow "
                f"interface: {first_line(error)}{hint}"
            ) from error
        return frame.select(by_name(*chosen_columns(frame.columns, wanted)))
    raise SchemaError(
        f"a {type(source).__qualname__} is no table; expected a polars frame, the path of Parquet or CSV files, or an "
        "object with __arrow_c_stream__ (pandas, pyarrow, DuckDB)"
    )


def stream(source: Source, wanted: Chooser, *, text: str, number: str | None = None, most: int | None = None) -> Stream:
    """Read some columns batch by batch: Parquet as it is decoded, anything else once it is read.

    The other parameters are those of :func:`read`.

    Parameters
    ----------
    most
        Bytes that may be taken, if there is a bound: then a lazy frame, and large CSV files, are not read at once, and
        nobody knows how many rows will come. Such batches can be asked for once.
    """
    if isinstance(source, pl.LazyFrame) and most is not None:
        with unreadable_source("the lazy frame"):
            lazy = select_columns(source, wanted)
            return Stream(source, lazy.collect_schema(), None, lambda: _lazy_batches(lazy))
    if isinstance(source, str | Path):
        found, names = named_files(str(source), "Parquet or CSV files")
        if all(name.endswith(PARQUET) for name in names):
            what = repr(str(source))
            with unreadable_source(what, lambda: unreadable_parquet(found, wanted)):
                lazy = select_columns(scan_parquet(found), wanted)
                rows = lazy.select(pl.len()).collect().item()
                return Stream(source, lazy.collect_schema(), rows, lambda: parquet_batches(lazy, what, found, wanted))
        if most is not None and all(name.endswith(CSV) for name in names) and _expanded(found) > most // 4:
            return Csv(str(source), found, wanted, text, number).stream()
    return in_memory(read(source, wanted, text=text, number=number))


def _lazy_batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    with unreadable_source("the lazy frame"):
        yield from frame.collect_batches(maintain_order=True)


def _expanded(found: list[str]) -> int:
    """Give about the bytes of text in some files, which may be packed."""
    return sum(Path(file).stat().st_size * (1 if file.lower().endswith(".csv") else 5) for file in found)


def files(path: str) -> list[str]:
    """List the files that a path or glob names."""
    try:
        return [path] if "://" in path or Path(path).is_file() else sorted(glob.glob(path, recursive=True))
    except (OSError, ValueError):  # no name that a file could have
        return []


def named_files(path: str, kinds: str) -> tuple[list[str], list[str]]:
    """List the files that a path or glob names, of which there must be one, and their bare names in small letters."""
    found = files(path)
    if not found:
        what = "no file matches" if glob.has_magic(path) else "there is no file"
        raise SourceError(f"{what} {path!r}; expected the path or glob of {kinds}")
    return found, [Path(file).name.lower() for file in found]


def _read_files(path: str, wanted: Chooser, text: str, number: str | None) -> pl.DataFrame:
    found, names = named_files(path, "Parquet or CSV files")
    if all(name.endswith(PARQUET) for name in names):
        return collect(scan_parquet(found), wanted, repr(path), lambda: unreadable_parquet(found, wanted))
    if all(name.endswith(CSV) for name in names):
        return Csv(path, found, wanted, text, number).read()
    raise SourceError(
        f"{path!r} is neither Parquet nor CSV by its name; expected names that all end in .parquet, or all in .csv "
        "or .csv.gz. Hint: for a folder give a glob, such as 'folder/*.parquet'"
    )
