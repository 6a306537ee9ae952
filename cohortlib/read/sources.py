"""Read columns of any source: frames, Arrow streams, Parquet and CSV files."""

import glob
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import SchemaError, SourceError
from cohortlib.read.csv import Csv
from cohortlib.read.lines import locate_in
from cohortlib.read.parquet import find_bad_parquet, mixes_zones, parquet_batches, scan_parquet
from cohortlib.read.tables import (
    ChooseColumns,
    Source,
    Stream,
    choose_columns,
    collect,
    first_line,
    in_memory,
    read_errors,
    select_columns,
)

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".csv.gz", ".csv.zst")
_KINDS = "Parquet or CSV files"
_COMPRESSION = 5  # a compressed CSV file has about this many times its size in text


def read(source: Source, choose: ChooseColumns) -> pl.DataFrame:
    """Read columns of a source; those of CSV files are text.

    Parameters
    ----------
    source
        A polars frame, lazy or not; the path or glob of Parquet or CSV files; or an Arrow stream.
    choose
        Returns the columns to read, from the names of all columns.
    """
    if isinstance(source, pl.DataFrame):
        return source.select(by_name(*choose_columns(source.columns, choose)))
    if isinstance(source, pl.LazyFrame):
        return collect(source, choose, "the lazy frame")
    if isinstance(source, str | Path):
        return _read_files(str(source), choose)
    if hasattr(source, "__arrow_c_stream__"):
        try:
            frame = pl.DataFrame(source)
        except Exception as error:
            raise SchemaError(
                f"the {type(source).__module__}.{type(source).__qualname__} cannot be read through the Arrow "
                f"interface: {first_line(error)}",
                hint="convert the instants to UTC" if "time zone" in str(error) else "",
            ) from error
        return frame.select(by_name(*choose_columns(frame.columns, choose)))
    raise SchemaError(
        f"a {type(source).__qualname__} is not a table",
        value=source,
        expected=f"a polars frame, the path of {_KINDS}, or an object with __arrow_c_stream__ "
        "(pandas, pyarrow, DuckDB)",
    )


def stream(source: Source, choose: ChooseColumns, *, max_bytes: int | None = None) -> Stream:
    """Read columns in batches: Parquet as it is decoded, other sources after reading them.

    The other parameters are those of :func:`read`.

    Parameters
    ----------
    max_bytes
        A bound on memory. With one, lazy frames and large CSV files are also read in batches, and their number of
        rows is not known in advance.
    """
    if isinstance(source, pl.LazyFrame) and max_bytes is not None:
        with read_errors("the lazy frame"):
            lazy = select_columns(source, choose)
            return Stream(source, lazy.collect_schema(), None, lambda: _lazy_batches(lazy))
    if isinstance(source, str | Path):
        paths, names = match_files(str(source), _KINDS)
        if all(name.endswith(PARQUET) for name in names):
            shown = repr(str(source))
            with read_errors(shown, lambda: find_bad_parquet(paths, choose)):
                lazy = select_columns(scan_parquet(paths), choose)
                rows = lazy.select(pl.len()).collect().item()
                schema = lazy.collect_schema()
                each = [[path] for path in paths] if mixes_zones(paths, choose) else [paths]

            def batches() -> Iterator[pl.DataFrame]:
                for group in each:
                    part = lazy if group == paths else select_columns(scan_parquet(group), choose)
                    yield from parquet_batches(part, shown, group, choose)

            return Stream(source, schema, rows, batches)
        all_csv = all(name.endswith(CSV) for name in names)
        if max_bytes is not None and all_csv and _text_size(paths) > max_bytes // 4:
            return Csv(str(source), paths, choose).stream()
        if all_csv:
            return in_memory(read(source, choose))._replace(locate=locate_in(paths))
    return in_memory(read(source, choose))


def _lazy_batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    with read_errors("the lazy frame"):
        yield from frame.collect_batches(maintain_order=True)


def _text_size(paths: list[str]) -> int:
    """Estimate the bytes of text in CSV files, which may be compressed."""
    return sum(Path(path).stat().st_size * (1 if path.lower().endswith(".csv") else _COMPRESSION) for path in paths)


def list_files(path: str) -> list[str]:
    """List the files of a path or glob; a URL is returned as it is."""
    try:
        return [path] if "://" in path or Path(path).is_file() else sorted(glob.glob(path, recursive=True))
    except (OSError, ValueError):  # no file can have this name
        return []


def match_files(path: str, kinds: str) -> tuple[list[str], list[str]]:
    """List the files of a path or glob, and their names without folders in lower case; there must be at least one."""
    paths = list_files(path)
    if not paths:
        problem = "no file matches" if glob.has_magic(path) else "there is no file"
        raise SourceError(f"{problem} {path!r}", value=path, expected=f"the path or glob of {kinds}")
    return paths, [Path(file).name.lower() for file in paths]


def _read_files(path: str, choose: ChooseColumns) -> pl.DataFrame:
    paths, names = match_files(path, _KINDS)
    if all(name.endswith(PARQUET) for name in names):
        with read_errors(repr(path), lambda: find_bad_parquet(paths, choose)):
            if mixes_zones(paths, choose):
                raise SchemaError(
                    f"the files {path!r} have instants with and without an offset from UTC", expected="one kind"
                )
        return collect(scan_parquet(paths), choose, repr(path), lambda: find_bad_parquet(paths, choose))
    if all(name.endswith(CSV) for name in names):
        return Csv(path, paths, choose).read()
    raise SourceError(
        f"{path!r} is neither Parquet nor CSV by its name",
        value=path,
        expected="names that all end in .parquet, or all in .csv or .csv.gz",
        hint="for a folder use a glob, such as 'folder/*.parquet'",
    )
