"""Open sources as tables of raw columns, whole or in batches; each file on its own, since headers may differ."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import polars as pl
from polars.selectors import by_name

from cohortlib.adapty.read import json_lines
from cohortlib.adapty.read.readers import are_dates, date_counts, is_text, is_whole
from cohortlib.errors import CohortlibError, SourceError
from cohortlib.read.sources import CSV, PARQUET, match_files, read
from cohortlib.read.tables import Source, first_line

Choose: TypeAlias = Callable[[list[str], str], list[str]]
"""Selects the columns to read, given those present and a name for the table; raises if one is missing."""

_BATCH = 1 << 16  # rows
_TEXT = 40  # rough bytes per text
# Rough bytes of memory per byte of a file, while it is read.
_GROWTH = {"csv": 4, "lines": 3}
_COMPRESSION = 8

_BatchT = TypeVar("_BatchT")


@dataclass(frozen=True)
class RawTable:
    """A table as read, before its columns are converted."""

    frame: pl.DataFrame
    mixed: bool = False
    """Whether rows may use different names for the same column, as JSON lines may."""
    dates: Collection[str] | None = None
    """The text columns that hold dates; None if the columns are whole, so that their values decide."""


@dataclass(frozen=True)
class TableStream:
    """A table that can be read in batches, more than once."""

    frame: pl.LazyFrame
    mixed: bool
    to_error: Callable[[Exception], SourceError]

    def batches(self, instants: Collection[str], texts: Collection[str]) -> Iterator[RawTable]:
        """Read the table, starting with an empty batch.

        Whether a text column of `instants` holds dates is decided from the whole column, in a pass of its own.
        Integer columns of `texts` are read as text.
        """
        cast = [name for name, kind in self._schema.items() if name in texts and is_whole(kind)]
        frame = self.frame.with_columns(pl.col(cast).cast(pl.String))
        yield RawTable(pl.DataFrame(schema=frame.collect_schema()), self.mixed, ())
        candidates = [name for name, kind in self._schema.items() if name in instants and is_text(kind)]
        with _source_errors(self.to_error):
            dates = frozenset(self._dates(candidates)) if candidates else ()
            for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=False):
                yield RawTable(batch, self.mixed, dates)

    def types(self, columns: Collection[str]) -> list[pl.DataType]:
        """Return the types of those of the columns that are present."""
        return [kind for name, kind in self._schema.items() if name in columns]

    @property
    def _schema(self) -> pl.Schema:
        return self.frame.collect_schema()

    def _dates(self, texts: list[str]) -> list[str]:
        counts = [count for name in texts for count in date_counts(pl.col(name).cast(pl.String))]
        row = self.frame.select(count.alias(str(at)) for at, count in enumerate(counts)).collect(engine="streaming")
        values = [count or 0 for count in row.row(0)]
        return [name for at, name in enumerate(texts) if are_dates(values[2 * at], values[2 * at + 1])]


@dataclass(frozen=True)
class BatchedTable(Generic[_BatchT]):
    """A source to be read in batches, with a function that converts one batch.

    What depends on a whole column is decided before the first batch, so batches are read as the whole would be. Only
    integers of more than 64 bits are read as text here.
    """

    source: Source
    choose: Choose
    fields: Collection[str]
    instants: Collection[str]
    users: Collection[str]
    read: Callable[[RawTable], _BatchT]
    assumed: Collection[str] = ()

    @cached_property
    def streams(self) -> list[TableStream]:
        """The tables of the source, opened."""
        return open_streams(self.source, self.choose, self.fields, self.assumed)

    @property
    def user_types(self) -> list[pl.DataType]:
        """The types of the columns of users, table by table."""
        return [kind for stream in self.streams for kind in stream.types(self.users)]

    def batches(self, *, as_text: bool) -> Iterator[_BatchT]:
        """Read all batches, starting each table with an empty one. With `as_text`, user ids are read as text."""
        for table in self.raw_batches(as_text=as_text):
            yield self.read(table)

    def raw_batches(self, *, as_text: bool) -> Iterator[RawTable]:
        """Yield the batches before they are read."""
        for stream in self.streams:
            yield from stream.batches(self.instants, self.users if as_text else ())


def frame_bytes(frame: pl.DataFrame) -> int:
    """Estimate the bytes of a frame, including the views of texts that polars leaves out."""
    return int(frame.estimated_size()) + 16 * frame.height * len(frame.select(pl.col(pl.String)).columns)


def estimate_memory(source: Source, choose: Choose, room: int, work: int) -> tuple[Source, int]:
    """Estimate the bytes needed to process a source in memory, with `work` bytes per row beside the rows.

    A lazy frame is collected as far as `room` allows. If it fits, the collected frame is returned in its place.
    """
    if isinstance(source, pl.DataFrame):
        return source, source.height * work
    if isinstance(source, pl.LazyFrame):
        return _collect_within(source, choose, room, work)
    if not isinstance(source, str | Path):
        return source, 0  # the size of an Arrow stream is unknown; it is read whole
    files, kind = _files(str(source))
    if kind != "parquet":
        sizes = [(Path(file).stat().st_size, file) for file in files if Path(file).is_file()]
        return source, sum(
            size * _GROWTH[kind] * (_COMPRESSION if file.lower().endswith((".gz", ".zst")) else 1)
            for size, file in sizes
        )
    need = 0
    for file in files:
        with _source_errors(partial(_unreadable, repr(file))):
            frame = _scan(file, kind)
            schema = frame.collect_schema()
            width = sum(_TEXT if is_text(schema[name]) else 8 for name in choose(schema.names(), repr(file)))
            need += frame.select(pl.len()).collect().item() * (2 * width + work)
    return source, need


def _collect_within(frame: pl.LazyFrame, choose: Choose, room: int, work: int) -> tuple[Source, int]:
    with _source_errors(partial(_unreadable, "the lazy frame")):
        chosen = frame.select(by_name(*choose(frame.collect_schema().names(), "the table")))
        batches, need = [pl.DataFrame(schema=chosen.collect_schema())], 0
        for batch in chosen.collect_batches(chunk_size=_BATCH):
            batches.append(batch)
            need += 2 * frame_bytes(batch) + batch.height * work
            if need > room:
                return frame, need
        return pl.concat(batches), need


def open_streams(
    source: Source, choose: Choose, fields: Collection[str], assumed: Collection[str] = ()
) -> list[TableStream]:
    """Open the tables of a source to be read in batches; the parameters are those of :func:`read_tables`."""
    if isinstance(source, pl.LazyFrame):
        scans = [(source, "the table")]
    elif isinstance(source, str | Path):
        files, kind = _files(str(source))
        if kind == "lines":
            lines = json_lines.scan(str(source), files, choose, fields, assumed)
            return [TableStream(lines, mixed=True, to_error=partial(json_lines.broken, files))]
        scans = [(_scan(file, kind), repr(file)) for file in files]
    else:
        scans = [(_read_in_memory(source, choose).lazy(), "the table")]
    streams = []
    for frame, where in scans:
        to_error = partial(_unreadable, where)
        with _source_errors(to_error):
            chosen = frame.select(by_name(*choose(frame.collect_schema().names(), where)))
            streams.append(TableStream(chosen, mixed=False, to_error=to_error))
    return streams


def read_tables(
    source: Source, choose: Choose, fields: Collection[str], assumed: Collection[str] = ()
) -> list[RawTable]:
    """Read the tables of a source.

    Parameters
    ----------
    source
        A frame, an Arrow stream, or the path or glob of CSV, Parquet or JSON lines files.
    choose
        Selects the columns to read.
    fields
        All names that are read from JSON lines.
    assumed
        Names that count as present in JSON lines even if no line has them.
    """
    if not isinstance(source, str | Path):
        return [RawTable(_read_in_memory(source, choose))]
    files, kind = _files(str(source))
    if kind == "lines":
        return [RawTable(json_lines.read(str(source), files, choose, fields, assumed), mixed=True)]
    return [RawTable(_collected(_scan(file, kind), choose, file)) for file in files]


def _read_in_memory(source: Source, choose: Choose) -> pl.DataFrame:
    return read(source, lambda columns: choose(columns, "the table"))


def _files(path: str) -> tuple[list[str], str]:
    """Return the files that a path or glob matches, and their kind by their names."""
    files, names = match_files(path, "CSV, Parquet or JSON lines files")
    if all(name.endswith(PARQUET) for name in names):
        return files, "parquet"
    if all(name.endswith(CSV) for name in names):
        return files, "csv"
    if all(name.removesuffix(".gz").removesuffix(".zst").endswith((".jsonl", ".ndjson", ".json")) for name in names):
        return files, "lines"
    raise SourceError(
        f"{path!r} is not of a known kind",
        expected=(
            "names that all end in .csv, .csv.gz or .csv.zst, all in .parquet, or all in .jsonl, .ndjson, .json or "
            "these with .gz"
        ),
        hint="for a folder pass a glob, such as 'folder/*.csv'",
    )


def _scan(file: str, kind: str) -> pl.LazyFrame:
    if kind == "parquet":
        return pl.scan_parquet(file, glob=False)
    return pl.scan_csv(file, glob=False, infer_schema=False)


def _collected(frame: pl.LazyFrame, choose: Choose, file: str) -> pl.DataFrame:
    with _source_errors(partial(_unreadable, repr(file))):
        return frame.select(choose(frame.collect_schema().names(), repr(file))).collect()


@contextmanager
def _source_errors(to_error: Callable[[Exception], SourceError]) -> Iterator[None]:
    """Raise polars' and the system's errors as errors of the source."""
    try:
        yield
    except CohortlibError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise to_error(error) from error


def _unreadable(where: str, error: Exception) -> SourceError:
    if isinstance(error, pl.exceptions.NoDataError):
        return SourceError(f"{where} is empty", expected="a CSV file with a header line")
    return SourceError(f"{where} cannot be read: {first_line(error)}")
