"""Read columns of any source: files, folders, frames, tables of a lake."""

import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import Arg, SchemaError, SettingError, SourceError, listed
from cohortlib.read import zips
from cohortlib.read.csv import Csv, bounded
from cohortlib.read.folders import CSV, EXCEL, PARQUET, Files, is_paths, match_files, resolve
from cohortlib.read.frames import frame_stream, is_frame
from cohortlib.read.parquet import Parquet
from cohortlib.read.paths import SHOWN, list_files
from cohortlib.read.tables import (
    DEFAULT_OPTIONS,
    ChooseColumns,
    FileOptions,
    Source,
    Stream,
    choose_columns,
    in_memory,
    read_errors,
    select_columns,
)

__all__ = ["CSV", "PARQUET", "is_table", "list_files", "match_files", "read", "stream", "text_size"]

_AHEAD = 200 << 20  # bytes that polars reads ahead of a lazy frame's batches, about
_COMPRESSION = 5  # a compressed text file has about this many times its size in text


def read(source: Source, choose: ChooseColumns, *, options: FileOptions = DEFAULT_OPTIONS) -> pl.DataFrame:
    """Read columns of a source.

    Parameters
    ----------
    source
        A polars frame, lazy or not; the path, glob, folder or URL of files, or a list of these; an Arrow stream; or
        a frame or table of another library.
    choose
        Returns the columns to read, from the names of all columns.
    options
        How files are read.
    """
    return stream(source, choose, options=options).frame()


def stream(
    source: Source,
    choose: ChooseColumns,
    *,
    options: FileOptions = DEFAULT_OPTIONS,
    max_bytes: int | None = None,
    expected: bool = False,
) -> Stream:
    """Read columns in batches: Parquet as it is decoded, other sources after reading them.

    Text files have columns of text. The other parameters are those of :func:`read`.

    Parameters
    ----------
    max_bytes
        A bound on memory. With one, lazy frames and large text files are also read in batches, and their number of
        rows is not known in advance.
    expected
        Whether an estimate of the number of rows is enough; then CSV of any size is read in batches.
    """
    if isinstance(source, pl.DataFrame):
        return in_memory(source.select(by_name(*choose_columns(source.columns, choose))))
    if isinstance(source, pl.LazyFrame):
        return lazy_stream(source, source, choose, "the lazy frame", whole=max_bytes is None)
    if is_paths(source):
        files = resolve(source, options)  # type: ignore[arg-type]
        return _file_stream(source, files, choose, options, max_bytes, expected=expected)
    if is_frame(source):
        native = frame_stream(source, choose, whole=max_bytes is None)
        if isinstance(native, Stream):
            return native
        return stream(native, choose, options=options, max_bytes=max_bytes)
    raise SchemaError(
        f"a {type(source).__qualname__} is not a table",
        value=source,
        expected=f"a polars frame, the path of {SHOWN}, or an object with __arrow_c_stream__ (pandas, pyarrow, DuckDB)",
    )


def check_sheet(source: object, options: FileOptions) -> None:
    """Raise SettingError if a sheet is set for files that are not workbooks."""
    if options.sheet is None or not is_paths(source):
        return
    paths = [source] if isinstance(source, str | PathLike) else source
    names = [str(path) for path in paths]  # type: ignore[attr-defined]
    if not any(name.lower().endswith(EXCEL) for name in names):
        raise SettingError(
            (Arg("sheet", options.sheet), f" is for workbooks, but the rows are read from {listed(names, 3)}"),
            value=options.sheet,
            expected="an .xlsx file",
        )


def is_table(source: object) -> bool:
    """Return whether a source can be read here."""
    return isinstance(source, pl.DataFrame | pl.LazyFrame) or is_paths(source) or is_frame(source)


def lazy_stream(source: Source, frame: pl.LazyFrame, choose: ChooseColumns, name: str, *, whole: bool) -> Stream:
    """Read a lazy frame, all of it or in batches."""
    with read_errors(name):
        lazy = select_columns(frame, choose)
        if whole:
            return in_memory(lazy.collect())
        schema = lazy.collect_schema()

    def batches() -> Iterator[pl.DataFrame]:
        with read_errors(name):
            yield from lazy.collect_batches(maintain_order=True)

    return Stream(source, schema, None, batches, reading=_AHEAD)


def _file_stream(
    source: Source,
    files: Files,
    choose: ChooseColumns,
    options: FileOptions,
    max_bytes: int | None,
    *,
    expected: bool,
) -> Stream:
    kind = files.kind
    if kind == "parquet":
        return Parquet(source, repr(files.name), files.files, choose, options, max_bytes).stream()
    sizes = [_size(file.path) for file in files.files]
    if kind == "csv" and max_bytes:
        options = bounded(options, max_bytes)
    if kind == "csv" and expected and sum(sizes) < math.inf:
        return Csv(source, files.files, choose, options).estimated(sizes)
    whole = max_bytes is None or sum(sizes) <= max_bytes // 4
    if kind == "csv":
        return Csv(source, files.files, choose, options).stream(whole=whole)
    if kind == "lines":
        from cohortlib.read.jsonl import Lines

        return Lines(source, files.files, choose, options).stream(whole=whole)
    if kind == "excel":
        from cohortlib.read.excel import Workbooks

        return Workbooks(source, files.files, choose, options).stream()
    from cohortlib.read.lake import folder_stream

    return folder_stream(source, files, choose, options, whole=max_bytes is None)


def text_size(files: Files) -> float:
    """Estimate the bytes of text in files, which may be compressed."""
    return sum(_size(file.path) for file in files.files)


def _size(path: str) -> float:
    if "://" in path:
        return math.inf
    if zips.split(path):
        return zips.size(path)
    try:
        on_disk = Path(path).stat().st_size
    except OSError as error:
        raise SourceError(f"{path!r} cannot be read: {error.strerror}", value=path) from error
    return on_disk * (_COMPRESSION if path.lower().endswith((".gz", ".zst")) else 1)
