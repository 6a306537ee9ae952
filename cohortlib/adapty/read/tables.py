"""Open sources as tables of raw columns, whole or in batches; each file on its own, since headers may differ."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Generic, TypeAlias, TypeVar

import polars as pl
from polars.selectors import by_name

from cohortlib.adapty.read.json_lines import JsonLines
from cohortlib.adapty.read.readers import is_whole, read_each
from cohortlib.adapty.read.settings import Reading
from cohortlib.read import sources
from cohortlib.read.csv import Csv
from cohortlib.read.folders import File, is_paths, resolve
from cohortlib.read.parquet import Parquet
from cohortlib.read.tables import FileOptions, Locate, Source, Stream, choose_columns, in_memory, read_errors
from cohortlib.read.text import is_text

Choose: TypeAlias = Callable[[list[str], str], list[str]]
"""Selects the columns to read, given those present and a name for the table; raises if one is missing."""

_BATCH = 1 << 16  # rows
_READING = 256 << 20  # bytes that bound the batches of Parquet files: rows have many columns of text
_TEXT = 40  # rough bytes per text
# Rough bytes of memory per byte of text, while it is read.
_GROWTH = {"csv": 4, "lines": 3}

_BatchT = TypeVar("_BatchT")


@dataclass(frozen=True)
class RawTable:
    """A table, or some of its rows, as read, before its columns are converted.

    Attributes
    ----------
    mixed
        Whether rows may use different names for the same column, as JSON lines may.
    locate
        Describes where a row of the table stands; None if this is not known.
    first, rows
        The number of the first row in the table, and those of all rows from there; None if none is missing.
    blank_lines
        The number of blank lines, which are not rows of the frame.
    """

    frame: pl.DataFrame
    mixed: bool = False
    locate: Locate | None = "row {:,}".format
    first: int = 0
    rows: pl.Series | None = None
    blank_lines: int = 0

    @property
    def where(self) -> Locate | None:
        """Describes where a row of the frame stands."""
        locate, rows = self.locate, self.rows
        if locate is None:
            return None
        return lambda row: locate(self.first + (row if rows is None else int(rows[row])))

    def filter(self, keep: pl.Series) -> "RawTable":
        """Return some rows."""
        rows = pl.int_range(self.frame.height, eager=True) if self.rows is None else self.rows
        return replace(self, frame=self.frame.filter(keep), rows=rows.filter(keep))


@dataclass(frozen=True)
class TableStream:
    """A table that is read whole or in batches; `counts` has the number of blank lines, once they have been read."""

    stream: Stream
    mixed: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def whole(self) -> RawTable:
        """Read the table."""
        frame = self.stream.frame()
        return RawTable(frame, self.mixed, self.stream.locate, blank_lines=self.counts["blank_lines"])

    def batches(self, texts: Collection[str]) -> Iterator[RawTable]:
        """Read the table in batches, the first one empty. Integer columns of `texts` are read as text.

        An empty batch at the end has the number of blank lines.
        """
        cast = [name for name, kind in self.stream.schema.items() if name in texts and is_whole(kind)]
        as_text = by_name(cast).cast(pl.String)
        row = 0
        empty = pl.DataFrame(schema=self.stream.schema).with_columns(as_text)
        yield RawTable(empty, self.mixed)
        for batch in self.stream.batches():
            for part in batch.iter_slices(_BATCH):
                yield RawTable(part.with_columns(as_text) if cast else part, self.mixed, self.stream.locate, row)
                row += part.height
        if self.counts["blank_lines"]:
            yield RawTable(empty, self.mixed, blank_lines=self.counts["blank_lines"])

    def types(self, columns: Collection[str]) -> list[pl.DataType]:
        """Return the types of those of the columns that are present."""
        return [kind for name, kind in self.stream.schema.items() if name in columns]


@dataclass(frozen=True)
class BatchedTable(Generic[_BatchT]):
    """A source to be read in batches, with a function that converts one batch.

    A batch is read as the whole would be. Only integers of more than 64 bits are read as text here. Nulls of all
    batches are to be checked as `nulls` says, which ``read`` does not.
    """

    source: Source
    choose: Choose
    fields: Collection[str]
    users: Collection[str]
    reading: Reading
    nulls: str
    read: Callable[[RawTable], _BatchT]
    assumed: Collection[str] = ()
    room: int = _READING  # bytes of memory

    @cached_property
    def rest(self) -> int:
        """The bytes that reading leaves of the room."""
        return min((stream.stream.rest(self.room) for stream in self.streams), default=self.room)

    @cached_property
    def streams(self) -> list[TableStream]:
        """The tables of the source, opened."""
        reading, max_bytes = self.reading, min(self.room, _READING)
        return open_tables(
            self.source, self.choose, self.fields, reading, self.assumed, whole=False, max_bytes=max_bytes
        )

    @property
    def user_types(self) -> list[pl.DataType]:
        """The types of the columns of users, table by table."""
        return [kind for stream in self.streams for kind in stream.types(self.users)]

    def batches(self, *, as_text: bool) -> Iterator[_BatchT]:
        """Read all batches, starting each table with an empty one. With `as_text`, user ids are read as text."""
        yield from read_each(partial(self.read, table) for table in self.raw_batches(as_text=as_text))

    def raw_batches(self, *, as_text: bool) -> Iterator[RawTable]:
        """Yield the batches before they are read."""
        for stream in self.streams:
            yield from stream.batches(self.users if as_text else ())


def frame_bytes(frame: pl.DataFrame) -> int:
    """Estimate the bytes of a frame, including the views of texts that polars leaves out."""
    return int(frame.estimated_size()) + 16 * frame.height * len(frame.select(pl.col(pl.String)).columns)


def estimate_memory(
    source: Source, choose: Choose, options: FileOptions, room: float, work: int
) -> tuple[Source, float]:
    """Estimate the bytes needed to process a source in memory, with `work` bytes per row beside the rows.

    Lazy frames and tables of a lake are read as far as `room` allows. If all fits, the frame is returned in place of
    the source.
    """
    if isinstance(source, pl.DataFrame):
        return source, source.height * work
    if not isinstance(source, pl.LazyFrame):
        if not is_paths(source):
            return source, 0  # the size of an Arrow stream is unknown; it is read whole
        files = resolve(source, options)  # type: ignore[arg-type]
        if files.kind in _GROWTH:
            return source, sources.text_size(files) * _GROWTH[files.kind]
        if files.kind == "parquet":
            return source, sum(_parquet_bytes(_parquet(file, choose, options), work) for file in files.files)
    stream = sources.stream(source, _choose_of("the table", choose), options=options, max_bytes=0)
    batches, need = [pl.DataFrame(schema=stream.schema)], 0
    for batch in stream.batches():
        batches.append(batch)
        need += 2 * frame_bytes(batch) + batch.height * work
        if need > room:
            return source, need
    return pl.concat(batches), need


def _parquet_bytes(parquet: Parquet, work: int) -> int:
    width = sum(_TEXT if is_text(kind) else 8 for kind in parquet.columns.values())
    return parquet.height * (2 * width + work)


def open_tables(
    source: Source,
    choose: Choose,
    fields: Collection[str],
    reading: Reading,
    assumed: Collection[str] = (),
    *,
    whole: bool,
    max_bytes: int = _READING,
) -> list[TableStream]:
    """Open the tables of a source.

    Parameters
    ----------
    source
        Any source that :func:`cohortlib.read.sources.stream` reads.
    choose
        Selects the columns to read.
    fields
        All names that are read from JSON lines.
    assumed
        Names that count as present in JSON lines even if no line has them.
    whole
        Whether each table is read at once.
    max_bytes
        A bound on the memory of batches.
    """
    options = reading.files
    if is_paths(source):
        files = resolve(source, options)  # type: ignore[arg-type]
        if files.kind == "csv":
            tables = [_csv(file, choose, options) for file in files.files]
            return [TableStream(csv.stream(whole=whole), counts=csv.counts) for csv in tables]
        if files.kind == "parquet":
            return [_open_parquet(_parquet(file, choose, options), max_bytes, whole=whole) for file in files.files]
        if files.kind == "lines":
            lines = JsonLines(source, files, choose, fields, assumed, options)
            return [TableStream(lines.stream(whole=whole), mixed=True)]
    stream = sources.stream(source, _choose_of("the table", choose), options=options, max_bytes=None if whole else 0)
    return [TableStream(stream)]


def read_tables(
    source: Source, choose: Choose, fields: Collection[str], reading: Reading, assumed: Collection[str] = ()
) -> list[RawTable]:
    """Read the tables of a source; the parameters are those of :func:`open_tables`."""
    return [table.whole() for table in open_tables(source, choose, fields, reading, assumed, whole=True)]


def _csv(file: File, choose: Choose, options: FileOptions) -> Csv:
    return Csv(file.path, [file], _choose_of(repr(file.path), choose), options)


def _parquet(file: File, choose: Choose, options: FileOptions) -> Parquet:
    return Parquet(file.path, repr(file.path), [file], _choose_of(repr(file.path), choose), options)


def _open_parquet(parquet: Parquet, max_bytes: int, *, whole: bool) -> TableStream:
    if not whole:
        return TableStream(replace(parquet, max_bytes=max_bytes).stream())
    with read_errors(parquet.name, parquet.find_bad_file):
        return TableStream(in_memory(parquet.lazy().collect(), parquet.locate))


def _choose_of(where: str, choose: Choose) -> Callable[[list[str]], list[str]]:
    return lambda columns: choose_columns(columns, lambda names: choose(names, where))
