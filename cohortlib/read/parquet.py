"""Read Parquet files, whose columns may differ in order, number and width, and find the file behind an error."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from polars.selectors import by_name

from cohortlib.engine.threads import map_ordered
from cohortlib.errors import SchemaError, SourceError
from cohortlib.read.drift import common_type, converted, inexact
from cohortlib.read.folders import File, partition_columns, partition_type
from cohortlib.read.footers import Footer, read_footers
from cohortlib.read.large_groups import LargeGroups
from cohortlib.read.row_groups import LARGEST, FileSlice, file_slices
from cohortlib.read.small_files import Block, blocks_of, join
from cohortlib.read.tables import (
    DEFAULT_OPTIONS,
    PANIC,
    ChooseColumns,
    FileOptions,
    Source,
    Stream,
    choose_columns,
    first_line,
    read_errors,
    unreadable,
)

_Result = TypeVar("_Result")

FULL = 1 << 16
"""Smaller batches are joined up to this number of rows: each batch has a cost of its own."""

_TEXT_BYTES = 40  # of a string, about: its view, and its text
_SHARE = 8
_GROWTH = 1.6  # bytes in memory of a byte of a row group that is being decoded, beside its rows
_SMALL = 1 << 18  # bytes of a file that is read at once if it is the only one
_GROUP = 32 << 20  # bytes of a row group that is large


def scan_parquet(source: list[str] | bytes, options: FileOptions = DEFAULT_OPTIONS) -> pl.LazyFrame:
    """Scan Parquet files, or one in memory, lazily; later files may have more columns than the first."""
    stored = dict(options.storage_options) if options.storage_options else None
    return pl.scan_parquet(source, glob=False, extra_columns="ignore", hive_partitioning=False, storage_options=stored)


@dataclass(frozen=True)
class Parquet:
    """Parquet files, and the columns to read."""

    source: Source
    name: str
    files: list[File]
    choose: ChooseColumns
    options: FileOptions = field(default=DEFAULT_OPTIONS)
    max_bytes: int | None = None
    """A bound on memory, None for none."""

    def stream(self) -> Stream:
        """Read in batches, as files are decoded."""
        with read_errors(self.name):
            self._check_exact()
            lazy = None if self._blocks else self.lazy()
        with read_errors(self.name, self.find_bad_file):
            schema = self.columns if lazy is None else lazy.collect_schema()
        stream = Stream(self.source, schema, self.height, lambda: self._batches(lazy), self.locate)
        if self._slices is not None:
            stream = stream._replace(mapped=self._mapped)
        if self._large is not None:
            return stream._replace(reading=self._large.memory())
        large = self._group_bytes > _GROUP and self.max_bytes is not None
        return stream._replace(reading=self._decoders * self._group_bytes) if large else stream

    def head(self, rows: int) -> list[pl.DataFrame]:
        """Read the first rows of each file, in the types that the files have in common."""
        with read_errors(self.name, self.find_bad_file):
            self._check_exact()
            return [
                self._converted(self._scan([file.path]), n).head(rows).collect() for n, file in enumerate(self.files)
            ]

    @cached_property
    def height(self) -> int:
        """The number of rows, from the footers of the files."""
        if self._footers is not None:
            return sum(footer.rows for footer in self._footers)
        with read_errors(self.name, self.find_bad_file):
            return int(self._scan(self.paths).select(pl.len()).collect().item())

    @property
    def paths(self) -> list[str]:
        """The paths of the files."""
        return [file.path for file in self.files]

    @cached_property
    def stored(self) -> list[pl.Schema]:
        """The columns that each file holds; one object for files that can be read as one."""
        schemas: list[pl.Schema] = []
        of_key: dict[tuple[bytes, bytes], pl.Schema] = {}
        distinct: dict[Any, pl.Schema] = {}
        for number, file in enumerate(self.files):
            footer = None if self._footers is None else self._footers[number]
            key = None if footer is None else (footer.schema, footer.arrow)
            schema = None if key is None else of_key.get(key)
            if schema is None:
                try:
                    schema = self._scan([file.path]).collect_schema()
                except (pl.exceptions.PolarsError, OSError, PANIC) as error:
                    raise unreadable(repr(file.path), error) from error
                if footer is not None and key is not None:  # Arrow's description can differ in more than types
                    of_key[key] = schema = distinct.setdefault((footer.schema, *schema.items()), schema)
            schemas.append(schema)
        return schemas

    @cached_property
    def _footers(self) -> list[Footer] | None:
        """The footers of all files; None if some are not local, or not plain."""
        if len(self.files) == 1 and "://" not in self.paths[0] and Path(self.paths[0]).stat().st_size < _SMALL:
            return None  # polars is fast enough, and needs no kernel
        return read_footers(self.paths)

    @cached_property
    def schemas(self) -> list[pl.Schema]:
        """The columns of each file, with those of the partitions in its path."""
        names = {name for file in self.files for name in file.partitions}
        types = {name: partition_type(self.files, name) for name in names}
        known: dict[tuple[int, tuple[str, ...]], pl.Schema] = {}
        schemas = []
        for file, stored in zip(self.files, self.stored, strict=True):
            key = id(stored), tuple(file.partitions)
            if key not in known:
                known[key] = pl.Schema({**{name: types[name] for name in file.partitions}, **stored})
            schemas.append(known[key])
        return schemas

    @cached_property
    def columns(self) -> pl.Schema:
        """The columns to read, with the types that all files have in common; each file must have them."""
        distinct = list({id(schema): schema for schema in self.schemas}.values())
        every = list(dict.fromkeys(name for schema in distinct for name in schema))
        columns = pl.Schema()
        for name in choose_columns(every, self.choose):
            for file, schema in zip(self.files, self.schemas, strict=True):
                if name not in schema:
                    raise SourceError(f"{file.path!r} has no column {name!r}", expected="the same columns in all files")
            common = common_type(schema[name] for schema in distinct)
            if common is None:
                raise self._two_meanings(name)
            columns[name] = common
        return columns

    def _two_meanings(self, name: str) -> SourceError:
        first = next(schema[name] for schema in self.schemas if schema[name] != pl.Null)
        for file, schema in zip(self.files, self.schemas, strict=True):
            if common_type([first, schema[name]]) is None:
                return SourceError(
                    f"column {name!r} of {file.path!r} is {schema[name]}",
                    expected=f"{first}, as in {self.files[0].path!r}",
                )
        return SourceError(f"column {name!r} has types that do not fit together", expected="one type in all files")

    @cached_property
    def _have_one_type(self) -> bool:
        """Whether all files have all columns, each of one type."""
        columns, distinct = self.columns, {id(stored): stored for stored in self.stored}.values()
        return all(name in stored and stored[name] == columns[name] for stored in distinct for name in columns)

    @cached_property
    def _alike(self) -> list[range]:
        """Files in a row of one schema, and of one value of each partition that is read."""

        def kind(number: int) -> tuple[int, list[str | None]]:
            values = self.files[number].partitions
            return id(self.stored[number]), [values.get(name) for name in self.columns]

        runs = (list(run) for _, run in groupby(range(len(self.files)), kind))
        return [range(run[0], run[-1] + 1) for run in runs]

    @property
    def _max_rows(self) -> float:
        """The most rows to decode at once: an eighth of the memory."""
        row_bytes = sum(_TEXT_BYTES if dtype == pl.String else 8 for dtype in self.columns.dtypes())
        return math.inf if self.max_bytes is None else self.max_bytes / _SHARE / max(row_bytes, 1)

    @cached_property
    def _slices(self) -> list[FileSlice] | None:
        """The slices of all files if these are local and large; None if they are streamed."""
        if self._footers is None or self.height < len(self.files) * FULL or not self._have_one_type:
            return None
        if self._large is not None:
            return None
        return file_slices(self._footers, self._max_rows)

    @cached_property
    def _large(self) -> LargeGroups | None:
        """The files if they have row groups that are read page by page: those that would be decoded in pieces."""
        if self._footers is None or self.max_bytes is None or not self._have_one_type:
            return None
        largest = max((max(footer.groups, default=0) for footer in self._footers), default=0)
        return LargeGroups.open(self.paths, self.columns) if largest > max(LARGEST, self._max_rows) else None

    @cached_property
    def _blocks(self) -> list[Block] | None:
        """The files in blocks that are read at once, if they are local and small; None otherwise."""
        if self._footers is None or self.height >= len(self.files) * FULL:
            return None
        return blocks_of(self._footers, self._alike, self._max_rows)

    @cached_property
    def _group_bytes(self) -> int:
        """About the bytes of the largest row groups of a slice in memory, as far as they have the columns to read."""
        stored = max((part.stored / max(len(self.stored[part.file]), 1) for part in self._slices or ()), default=0)
        return int(_GROWTH * stored * len(self.columns))

    @cached_property
    def _decoders(self) -> int:
        """The number of threads that decode slices: as many as half of the memory has room for."""
        if self.max_bytes is None or not self._group_bytes:
            return self.options.workers
        return max(1, min(self.options.workers, self.max_bytes // 2 // self._group_bytes))

    def lazy(self) -> pl.LazyFrame:
        """Return the columns of all rows, in the types that the files have in common."""
        if self._have_one_type:
            return self._scan(self.paths).select(by_name(*self.columns))
        return pl.concat([self._converted(self._scan(self.paths[run.start : run.stop]), run[0]) for run in self._alike])

    def _converted(self, scan: pl.LazyFrame, number: int) -> pl.LazyFrame:
        """Return the rows of files like that of a number in the common types."""
        file, stored = self.files[number], self.stored[number]
        own = {name: stored[name] for name in self.columns if name in stored}
        expressions = [converted(name, dtype, self.columns[name]) for name, dtype in own.items()]
        for name in self.columns:
            if name not in own:
                expressions += partition_columns({name: file.partitions[name]}, self.columns[name])
        return scan.select(expressions).select(by_name(*self.columns))

    def _check_exact(self) -> None:
        """Raise SchemaError for integers that are not exact as the floats of other files."""
        if self._have_one_type:
            return
        for file, stored in zip(self.files, self.stored, strict=True):
            own = {name: stored[name] for name in self.columns if name in stored}
            every = {name: inexact(name, dtype, self.columns[name]) for name, dtype in own.items()}
            counts = [count.alias(name) for name, count in every.items() if count is not None]
            if not counts:
                continue
            row = self._scan([file.path]).select(counts).collect(engine="streaming")
            for name, count in row.row(0, named=True).items():
                if count:
                    raise SchemaError(
                        f"column {name!r} of {file.path!r} has {count:,} integers beyond 2**53, and floats elsewhere",
                        expected="values that are exact in both",
                    )

    def _scan(self, paths: list[str]) -> pl.LazyFrame:
        return scan_parquet(paths, self.options)

    def _batches(self, lazy: pl.LazyFrame | None) -> Iterator[pl.DataFrame]:
        if self._slices is not None:
            yield from self._mapped(lambda batch: batch)
            return
        rows_read = 0
        with read_errors(self.name, lambda: self.find_bad_file(rows_read)):
            small: list[pl.DataFrame] = []
            pending = 0
            for batch in self._decoded(lazy):
                small.append(batch)
                rows_read, pending = rows_read + batch.height, pending + batch.height
                if pending >= FULL:
                    yield _joined(small)
                    small, pending = [], 0
            if small:
                yield _joined(small)

    def _decoded(self, lazy: pl.LazyFrame | None) -> Iterator[pl.DataFrame]:
        """Decode blocks of small files on threads if all files are local, else stream."""
        if self._blocks:
            yield from map_ordered(self.options.workers, self._decoded_block, self._blocks, ahead=0.5)
        elif self._large is not None:
            yield from self._large.batches()
        else:
            yield from (self.lazy() if lazy is None else lazy).collect_batches(maintain_order=True)

    def _mapped(self, work: Callable[[pl.DataFrame], _Result]) -> Iterator[_Result]:
        """Decode slices of row groups on threads, which call `work` for each, and yield the results in order."""
        scans = [self._scan([path]).select(by_name(*self.columns)) for path in self.paths]

        # The bytes of a large row group are held for one column at a time.
        groups = [[name] for name in self.columns] if self._group_bytes > _GROUP else [list(self.columns)]

        def decode(part: FileSlice) -> tuple[int, _Result]:
            rows = scans[part.file].slice(part.first, part.rows)
            frame = pl.concat([rows.select(by_name(*names)).collect() for names in groups], how="horizontal")
            return part.rows, work(frame)

        rows_read = 0
        with read_errors(self.name, lambda: self.find_bad_file(rows_read)):
            # Half a result for each worker: no more slices than workers are decoded and not yet taken.
            for rows, result in map_ordered(self._decoders, decode, self._slices or (), ahead=0.5):
                rows_read += rows
                yield result

    def _decoded_block(self, block: Block) -> pl.DataFrame:
        """Decode a block of small files, each apart if they cannot be joined or decoded as one."""
        paths = self.paths[block.start : block.stop]
        footers = (self._footers or [])[block.start : block.stop]
        frame = None
        with suppress(pl.exceptions.PolarsError, OSError, PANIC):
            if len(paths) > 1 and (joined := join(paths, footers)) is not None:
                frame = self._converted(scan_parquet(joined), block.start).collect()
        if frame is None:
            frame = self._converted(self._scan(paths), block.start).collect()
        if frame.height != sum(footer.rows for footer in footers):
            raise SourceError(f"files have changed while they were read, between {paths[0]!r} and {paths[-1]!r}")
        return frame.rechunk()

    def locate(self, row: int) -> str:
        """Return the file of a row, and its number there, from 0."""
        at = row
        for file in self.files:
            rows = self._scan([file.path]).select(pl.len()).collect().item()
            if at < rows:
                return f"{file.path}, row {at:,}"
            at -= rows
        return f"row {row:,}"

    def find_bad_file(self, rows_read: int = 0) -> SourceError | None:
        """Find the file that cannot be read; skip files whose rows have all been read.

        All footers are read before any rows.
        """
        unread: list[str] = []
        rows = 0
        for file in self.files:
            frame = self._scan([file.path])
            try:
                frame.collect_schema()
                rows += frame.select(pl.len()).collect().item()
            except (pl.exceptions.PolarsError, OSError, PANIC) as error:
                return unreadable(repr(file.path), error)
            if rows > rows_read:
                unread.append(file.path)
        for path in unread:
            try:
                scan = self._scan([path])
                stored = scan.collect_schema()
                names = [name for name in self.columns if name in stored]
                for _ in scan.select(by_name(*names)).collect_batches():
                    pass
            except (pl.exceptions.PolarsError, OSError, PANIC) as error:
                return SourceError(f"{path!r} cannot be read: {first_line(error)}")
        return None


def _joined(batches: list[pl.DataFrame]) -> pl.DataFrame:
    return batches[0] if len(batches) == 1 else pl.concat(batches, rechunk=True)
