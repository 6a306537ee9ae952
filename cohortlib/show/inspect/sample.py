"""Read the first rows of a source, some of each of its files, and describe how its files are written."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import Arg, CohortlibError, SchemaError, SourceError
from cohortlib.read.csv import Csv
from cohortlib.read.drift import common_type
from cohortlib.read.folders import File, Files, is_paths, resolve
from cohortlib.read.jsonl import Lines
from cohortlib.read.parquet import Parquet
from cohortlib.read.sources import check_sheet, stream
from cohortlib.read.tables import FileOptions, Locate, Source, Stream, read_errors
from cohortlib.read.typed import Kinds, Places, typed_frame

_MOST_FILES = 16
_MOST_SCANNED = 50_000_000  # rows, of which one column is read for its range
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_KINDS = {"parquet": "Parquet", "csv": "CSV", "lines": "JSON lines", "excel": "Excel", "delta": "Delta",
          "iceberg": "Iceberg"}  # fmt: skip
_UNDEFINED = r"[\x80-\x9f]"  # in latin-1 these are control characters, in cp1252 quotes and the euro sign


@dataclass(frozen=True)
class Sample:
    """The first rows of a source.

    Attributes
    ----------
    frame
        The rows, of the columns that all files have and that can be read.
    name
        The path, glob or type of the source.
    kind
        What it is: ``"CSV"``, ``"Parquet"``, ..., or ``"frame"``.
    total
        The number of rows of the source, or None if it is not known.
    locate
        Describes where a row of the sample stands.
    complete
        Whether these are all rows.
    files, files_read
        The number of files, and of those that rows are from; 0 for frames.
    layout
        The separator and the encoding of text files.
    size
        Bytes of the files, or None.
    unreadable
        The columns that cannot be used, each with the reason.
    table
        The Parquet files.
    opened
        The source, where it may be one that can be read only once.
    options
        How the files are opened.
    """

    frame: pl.DataFrame
    name: str
    kind: str
    total: int | None
    locate: Locate
    complete: bool
    files: int = 0
    files_read: int = 0
    layout: tuple[str, ...] = ()
    size: int | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    opened: Stream | None = None
    table: Parquet | None = None
    options: FileOptions = field(default_factory=FileOptions)

    def all_rows(self, source: Source) -> Stream:
        """Open the source for all rows of the columns of the sample."""
        if self.opened is not None:
            return self.opened
        return stream(source, lambda _: self.frame.columns, options=self.options, max_bytes=0)

    def span(self, name: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last instant of all rows of Parquet files, within the years that are read."""
        dtype = self.frame.schema[name]
        quick = self.total is not None and self.total <= _MOST_SCANNED
        if self.table is None or not quick or not (dtype == pl.Date or isinstance(dtype, pl.Datetime)):
            return None
        lazy = replace(self.table, choose=lambda _: [name]).lazy()
        column = by_name(name).as_expr()
        within = column.filter(column.dt.year().is_between(1900, 2200)).dt.replace_time_zone(None)
        if dtype == pl.Date:
            within = column.filter(column.dt.year().is_between(1900, 2200))
        within = within.cast(pl.Datetime("us"))
        with read_errors(self.name):
            row = (
                lazy.select(within.min().alias("first"), within.max().alias("last")).collect(engine="streaming").row(0)
            )
        return None if row[0] is None else (row[0].replace(tzinfo=UTC), row[1].replace(tzinfo=UTC))


@dataclass
class _Pieces:
    """Rows of several files, one after the other."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    locates: list[Locate] = field(default_factory=list)
    complete: bool = True

    def add(self, frame: pl.DataFrame, rows: int, locate: Locate) -> None:
        self.frames.append(frame.head(rows))
        self.locates.append(locate)
        self.complete = self.complete and frame.height <= rows

    def locate(self, row: int) -> str:
        first = 0
        for end, locate in zip(accumulate(frame.height for frame in self.frames), self.locates, strict=True):
            if row < end:
                return locate(row - first)
            first = end
        return f"row {row:,}"


def read_sample(source: Source, options: FileOptions, rows: int) -> Sample:
    """Read the first rows of a source; of many files some rows of each, and of very many of some files."""
    check_sheet(source, options)
    if isinstance(source, pl.LazyFrame):
        with read_errors("the lazy frame"):
            head = source.head(rows + 1).collect()
        complete = head.height <= rows
        return Sample(head.head(rows), "the lazy frame", "lazy frame", len(head) if complete else None,
                      "row {:,}".format, complete)  # fmt: skip
    if not is_paths(source):
        return _stream_sample(source, options, rows, f"the {type(source).__qualname__}", "frame")
    files = resolve(source, options)  # type: ignore[arg-type]
    if files.kind in ("csv", "lines"):
        try:
            sample = _text_sample(files, options, rows)
        except SourceError as error:
            encoding = _encoding_of(error)
            if options.encoding is not None or encoding is None:
                raise
            options = replace(options, encoding=encoding)
            sample = _text_sample(files, options, rows)
            texts = pl.concat([sample.frame[name].cast(pl.String).alias("") for name in sample.frame.columns])
            if encoding == "latin-1" and texts.str.contains(_UNDEFINED).any():
                options = replace(options, encoding="cp1252")
                sample = _text_sample(files, options, rows)
    elif files.kind == "parquet":
        sample = _parquet_sample(files, options, rows)
    else:
        sample = _stream_sample(source, options, rows, files.name, _KINDS[files.kind])
        sample = replace(sample, files=len(files.files), files_read=len(files.files))
    return replace(sample, size=_size(files.files), options=options)


def _encoding_of(error: SourceError) -> str | None:
    """Return the encoding that an error suggests, or None."""
    parts = [error.hint] if isinstance(error.hint, str | Arg) else error.hint
    args = [part for part in parts if isinstance(part, Arg) and part.name == "encoding"]
    return str(args[0].value) if args and args[0].value is not ... else None


def _some_files(files: list[File]) -> list[File]:
    """Return some files, evenly spaced, with the first and the last."""
    if len(files) <= _MOST_FILES:
        return files
    return [files[at * (len(files) - 1) // (_MOST_FILES - 1)] for at in range(_MOST_FILES)]


def once(names: Iterable[str]) -> list[str]:
    """Return the names that do not stand twice."""
    return [name for name, count in Counter(names).items() if count == 1]


def _text_sample(files: Files, options: FileOptions, rows: int) -> Sample:
    """Read rows of files of CSV or JSON lines."""
    chosen = _some_files(files.files)
    each = max(rows // len(chosen), 1)
    pieces, layout, unreadable = _Pieces(), tuple[str, ...](), dict[str, str]()
    if files.kind == "csv":
        tables = [Csv(file.path, [file], once, options) for file in chosen]
        for table in tables:
            pieces.add(_head(table, each + 1), each, table.locate)
            names = table.headers[0].names
            unreadable |= {name: "stands twice in the header" for name in names if names.count(name) > 1}
        marks = Counter(_SEPARATORS[table.headers[0].separator] for table in tables)
        layout = (" and ".join(marks), options.encoding or _encoding(chosen[0].path))
    else:
        for file in chosen:
            frame, locate, other = _lines(file, options, each + 1)
            pieces.add(frame, each, locate)
            unreadable |= other
        layout = (options.encoding or "UTF-8",)
    frame, partial = _common(pieces.frames)
    unreadable |= partial
    complete = pieces.complete and len(chosen) == len(files.files)
    return Sample(
        frame, files.name, _KINDS[files.kind], frame.height if complete else None, pieces.locate, complete,
        len(files.files), len(chosen), layout, unreadable=unreadable,
    )  # fmt: skip


def _common(frames: list[pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the rows of all frames with the columns that all have, and why others are left out."""
    every = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    left_out: dict[str, str] = {}
    columns: dict[str, pl.Series] = {}
    for name in every:
        lacking = sum(name not in frame.columns for frame in frames if frame.width)
        if lacking:
            left_out[name] = f"is missing in {lacking:,} of the files"
            continue
        parts = [frame[name] for frame in frames if frame.width]
        dtype = common_type(part.dtype for part in parts)
        if dtype is None:
            left_out[name] = "has types that differ between files"
        else:
            columns[name] = pl.concat([part.cast(dtype) for part in parts])
    return pl.DataFrame(columns), left_out


def _head(table: Csv, rows: int) -> pl.DataFrame:
    """Read the first rows of a file, not more of it than needed."""
    frames: list[pl.DataFrame] = []
    with closing(table.batches()) as batches:  # type: ignore[type-var]
        for batch in batches:
            frames.append(batch)
            if sum(frame.height for frame in frames) >= rows:
                break
    return pl.concat(frames).head(rows) if frames else pl.DataFrame(schema=dict.fromkeys(table.columns, pl.String))


def _encoding(path: str) -> str:
    """Return the encoding of a local file by its mark."""
    if "://" in path:
        return "UTF-8"
    with Path(path).open("rb") as file:
        return "UTF-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "UTF-8"


def _lines(file: File, options: FileOptions, rows: int) -> tuple[pl.DataFrame, Locate, dict[str, str]]:
    """Read rows of JSON lines; return also why columns are left out."""
    objects, numbers = Lines(file.path, [file], once, options).head(rows)
    place = Places(file.path, "line", numbers)
    names = list(dict.fromkeys(name for each in objects for name in each))
    schema, unreadable = pl.Schema(), dict[str, str]()
    values: dict[str, list[Any]] = {}
    for name in names:
        values[name] = [each.get(name) for each in objects]
        kinds = Kinds(name)
        kinds.add(values[name], place)
        try:
            schema[name] = kinds.dtype()
        except SchemaError as error:
            unreadable[name] = str(error)
    frame = typed_frame(values, schema)
    added = {name: pl.lit(value, pl.String) for name, value in file.partitions.items() if name not in names}
    return frame.with_columns(**added), place, unreadable


def _parquet_sample(files: Files, options: FileOptions, rows: int) -> Sample:
    chosen = _some_files(files.files)
    each = max(rows // len(chosen), 1)
    table = Parquet(files.name, repr(files.name), chosen, once, options)
    every = list(dict.fromkeys(name for schema in table.schemas for name in schema))
    unreadable = {}
    for name in every:
        lacking = sum(name not in schema for schema in table.schemas)
        if lacking:
            unreadable[name] = f"is missing in {lacking:,} of the files"
        elif common_type(schema[name] for schema in table.schemas) is None:
            unreadable[name] = "has types that differ between files"
    good = [name for name in every if name not in unreadable]
    table = replace(table, choose=lambda _: good)
    pieces = _Pieces()
    for file, frame in zip(chosen, table.head(each + 1), strict=True):
        pieces.add(frame, each, lambda row, path=file.path: f"{path}, row {row:,}")  # type: ignore[misc]
    every_file = Parquet(files.name, repr(files.name), files.files, once, options)
    total = every_file.height
    complete = pieces.complete and len(chosen) == len(files.files)
    return Sample(
        pl.concat(pieces.frames), files.name, "Parquet", total, pieces.locate, complete, len(files.files), len(chosen),
        unreadable=unreadable, table=None if complete else every_file,
    )  # fmt: skip


def _stream_sample(source: Source, options: FileOptions, rows: int, name: str, kind: str) -> Sample:
    """Read rows of any other source; leave out columns of types that cannot be read."""
    seen: list[str] = []

    def every(names: list[str]) -> list[str]:
        seen[:] = names
        return once(names)

    def head(choose: Callable[[list[str]], list[str]]) -> tuple[pl.DataFrame, Stream]:
        opened = stream(source, choose, options=options, max_bytes=0)
        frames: list[pl.DataFrame] = []
        for batch in opened.batches():
            frames.append(batch)
            if sum(frame.height for frame in frames) > rows:
                break
        frame = pl.concat(frames) if frames else pl.DataFrame(schema=opened.schema)
        return frame, opened

    unreadable: dict[str, str] = {}
    failed: CohortlibError | None = None
    try:
        frame, opened = head(every)
    except CohortlibError as error:
        failed = error.with_traceback(None)  # its frames would keep a result of DuckDB open
    if failed is not None:
        failed.__cause__ = failed.__context__ = None
        good: list[str] = []
        for column in once(seen):
            try:
                head(lambda _, column=column: [column])  # type: ignore[misc]
                good.append(column)
            except CohortlibError as error:
                unreadable[column] = error.text()
        if not good:
            raise failed
        frame, opened = head(lambda _: good)
    unreadable |= {twice: "stands twice" for twice, count in Counter(seen).items() if count > 1}
    complete = frame.height <= rows
    return Sample(frame.head(rows), name, kind, frame.height if complete else opened.rows, opened.locate,
                  complete, unreadable=unreadable, opened=opened)  # fmt: skip


def _size(files: list[File]) -> int | None:
    """Return the bytes of local files."""
    try:
        return sum(Path(file.path).stat().st_size for file in files)
    except OSError:
        return None
