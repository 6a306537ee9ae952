"""Read columns of CSV files as text, and check the shape of every row.

A kernel splits blocks of text on threads. A block ends at a line end outside of quotes, where a count of the quotes
before it is even; if quotes inside of fields make that wrong, the rest of the file is split in one thread. A fast
kernel splits what is regular; it leaves blocks with anything else to a slower one, which also finds what is wrong.
"""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels import csv as kernel
from cohortlib.engine.threads import map_ordered
from cohortlib.errors import SchemaError, SourceError
from cohortlib.read.bytes import BLOCK, text_blocks
from cohortlib.read.csv_blocks import NO_TEXT, Block, grouped, joined
from cohortlib.read.csv_header import Header, not_utf8, read_header
from cohortlib.read.folders import File, partition_columns
from cohortlib.read.tables import (
    DEFAULT_OPTIONS,
    ChooseColumns,
    FileOptions,
    Source,
    Stream,
    choose_columns,
    in_memory,
)
from cohortlib.read.typed import counted

_Result = TypeVar("_Result")
_AHEAD = 2  # blocks for each thread that are read in advance
_HELD = 5  # bytes in memory of a byte of text: the text, read and joined, and its columns
_LONGEST = 64 << 20  # bytes of a record
_ALL = 1 << 62


class _Records(NamedTuple):
    """What the kernel returns for a block, the frame, and the number of blank lines."""

    rows: int
    end: int
    ragged: int
    fault: int
    place: int
    fields: int
    frame: pl.DataFrame
    blank: int


@dataclass(frozen=True)
class Csv:
    """CSV files, whose columns may differ in order and number, and the columns to read.

    `counts` has the number of blank lines, once the rows have been read.
    """

    source: Source
    files: list[File]
    choose: ChooseColumns
    options: FileOptions = field(default=DEFAULT_OPTIONS)
    counts: Counter[str] = field(default_factory=Counter, compare=False)

    def stream(self, *, whole: bool) -> Stream:
        """Read in batches; `whole` reads all rows at once."""
        schema = pl.Schema(dict.fromkeys(self.columns, pl.String()))
        stream = Stream(self.source, schema, None, self.batches, self.locate, reading=_reading(self.options.workers))
        return in_memory(stream.frame(), self.locate) if whole else stream

    def estimated(self, sizes: list[float]) -> Stream:
        """Read in batches, with an estimate of the number of rows; `sizes` are the bytes of text in each file."""
        rows = sum(size / header.width for size, header in zip(sizes, self.headers, strict=True))
        return self.stream(whole=False)._replace(expected=int(rows) + 1, mapped=self.mapped)

    @cached_property
    def headers(self) -> list[Header]:
        """The headers of the files."""
        return [read_header(file.path, self.options) for file in self.files]

    @cached_property
    def columns(self) -> list[str]:
        """The columns to read; each file must have them."""
        names = [[*header.names, *self._partitions(file, header)] for file, header in self._pairs()]
        every = list(dict.fromkeys(name for each in names for name in each))
        # A name that stands twice in a file stands twice here, so that it is refused if it is needed.
        twice = [name for name in every if any(each.count(name) > 1 for each in names)]
        try:
            columns = choose_columns([*every, *twice], self.choose)
        except SchemaError as error:
            self._check_titles(error)
            raise
        for file, each in zip(self.files, names, strict=True):
            for name in columns:
                if name not in each:
                    raise SourceError(f"{file.path!r} has no column {name!r}", expected="the same columns in all files")
        return columns

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read the rows in batches."""
        return self.mapped(lambda frame: frame)

    def mapped(self, work: Callable[[pl.DataFrame], _Result]) -> Iterator[_Result]:
        """Call `work` for each batch that has rows, on threads, and yield the results in order."""

        def parse(blocks: list[Block]) -> tuple[Block | None, int, list[_Result]]:
            frames, blank, failed = [], 0, None
            for block in blocks:
                records = self._parse(block)
                if records is None:
                    failed = block
                    break
                blank += records.blank
                if records.rows:
                    frames.append(records.frame)
            results = [work(frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=True))] if frames else []
            return failed, blank, results

        self.counts["blank_lines"] = sum(header.blank for header in self.headers)
        first: Block | None = self._first_block(0)
        while first is not None:
            failed = None
            with closing(map_ordered(self.options.workers, parse, grouped(self._blocks(first)), _AHEAD)) as batches:
                for failed, blank, results in batches:
                    self.counts["blank_lines"] += blank
                    yield from results
                    if failed is not None:
                        break
            if failed is None:
                return
            for _, records in self._in_sequence(failed):
                self.counts["blank_lines"] += records.blank
                if records.rows:
                    yield work(records.frame)
            first = self._next_file(failed)

    def locate(self, row: int) -> str:
        """Return the file and the line of a row, counted from 0."""
        for number in range(len(self.files)):
            for block, records in self._in_sequence(self._first_block(number), check=False):
                if row < records.rows:
                    _, end, *_ = self._split(block, np.zeros((0, 1), np.int32), row)
                    text = block.text[: block.size].tobytes()
                    while text.startswith((b"\n", b"\r\n"), end):
                        end = text.index(b"\n", end) + 1
                    return self._where(block, end)
                row -= records.rows
        return f"row {row}"

    # ------------------------------------------------------------------------------------------------- blocks

    def _pairs(self) -> Iterator[tuple[File, Header]]:
        return zip(self.files, self.headers, strict=True)

    @staticmethod
    def _partitions(file: File, header: Header) -> list[str]:
        return [name for name in file.partitions if name not in header.names]

    def _next_file(self, block: Block) -> Block | None:
        """Return an empty block at the first record of the next file; None after the last one."""
        return self._first_block(block.file + 1) if block.file + 1 < len(self.files) else None

    def _first_block(self, number: int) -> Block:
        """Return an empty block at the first record of a file."""
        header = self.headers[number]
        return Block.empty(number, header.size, header.lines + 1)

    def _blocks(self, first: Block) -> Iterator[Block]:
        """Cut the text of all files from `first` on into blocks at record ends."""
        block: Block | None = first
        while block is not None:
            yield from self._file_blocks(block)
            block = self._next_file(block)

    def _file_blocks(self, begin: Block) -> Iterator[Block]:
        file, offset, line = begin.file, begin.offset, begin.line
        carry = NO_TEXT
        with closing(self._text(begin)) as texts:
            for read in texts:
                text, size = joined(carry, read), carry.size + len(read)
                end = carry.size + read.rfind(b"\n") + 1 if b"\n" in read else 0
                if kernel.count_byte(text, end, kernel.QUOTE) % 2:
                    end = kernel.last_line_end(text, 0, end)
                if not end and size > _LONGEST:
                    yield Block.empty(file, offset, line, split=False)
                    return
                if end:
                    block = Block(file, text, end, offset, line, last=False)
                    yield block
                    line += block.lines(end)
                    offset += end
                carry = text[end:size]
        if carry.size:
            yield Block(file, joined(carry, b""), carry.size, offset, line, last=True)

    def _text(self, begin: Block) -> Generator[bytes, None, None]:
        """Read the text of a file from the beginning of a block on."""
        skip = begin.offset
        with closing(text_blocks(self.files[begin.file].path, self.options)) as texts:
            for text in texts:
                if skip < len(text):
                    yield text[skip:] if skip else text
                skip = max(0, skip - len(text))

    # ------------------------------------------------------------------------------------------------ records

    def _parse(self, block: Block) -> _Records | None:
        """Split a block; None if it does not end at a record end."""
        if not block.split:
            return None
        records = self._records(block, complete=True)
        if records.fault == kernel.OPEN_QUOTE and not block.last:
            return None
        self._check(block, records)
        return records

    def _in_sequence(self, begin: Block, *, check: bool = True) -> Iterator[tuple[Block, _Records]]:
        """Split the text of one file, each block from the end of the records before it."""
        offset, line, carry = begin.offset, begin.line, NO_TEXT
        with closing(self._text(begin)) as texts:
            ahead = next(texts, None)
            while True:
                text, size = joined(carry, ahead or b""), carry.size + len(ahead or b"")
                ahead = None if ahead is None else next(texts, None)
                block = Block(begin.file, text, size, offset, line, last=ahead is None)
                records = self._records(block, complete=block.last)
                if check:
                    self._check(block, records)
                yield block, records
                if ahead is None:
                    return
                carry = text[records.end : size]
                if carry.size > _LONGEST:
                    where = self._where(block, records.end)
                    raise SourceError(f"{where}: a row is longer than {_LONGEST >> 20} MiB", hint="is a quote open?")
                line += block.lines(records.end)
                offset += records.end

    def _records(self, block: Block, *, complete: bool) -> _Records:
        text = block.text
        header = self.headers[block.file]
        if block.size and int(text[: block.size].view(np.int8).min()) < 0:
            at = kernel.first_invalid(text, 0, block.size)
            # At the end of a block in sequence a character can be cut off.
            if at >= 0 and (complete or at < block.size - 3):
                raise not_utf8(self.files[block.file].path, block.line + block.lines(at))
        chosen = [name for name in self.columns if name in header.names]
        lines = block.lines(block.size)
        offsets = np.zeros((len(chosen), lines + 2), np.int32)
        values = _scratch(len(chosen) * (text.size + 16))
        counts = self._split(block, offsets, _ALL, values, complete=complete)
        rows = counts[0]
        parts = values.reshape(max(len(chosen), 1), -1)
        columns = {name: _strings(offsets[slot, : rows + 1], parts[slot]) for slot, name in enumerate(chosen)}
        frame = pl.DataFrame(columns)
        partitions = self.files[block.file].partitions
        added = {name: partitions[name] for name in self.columns if name not in columns}
        if added:
            frame = frame.with_columns(partition_columns(added, pl.String())).select(pl.col(*self.columns))
        # Only blank lines and line ends within quotes make lines more than rows.
        separator = np.uint8(ord(header.separator))
        blank = int(kernel.count_blank_lines(text, counts[1], separator)) if lines > rows else 0
        return _Records(*counts, frame, blank)

    def _split(
        self, block: Block, offsets: NDArray[np.int32], most: int, values: NDArray[np.uint8] | None = None,
        *, complete: bool = True,
    ) -> tuple[int, int, int, int, int, int]:  # fmt: skip
        header = self.headers[block.file]
        chosen = [name for name in self.columns if name in header.names] if values is not None else []
        slots = np.array([chosen.index(name) if name in chosen else -1 for name in header.names], np.int64)
        text, size, separator = block.text, block.size, np.uint8(ord(header.separator))
        if values is None:
            values = np.empty(0, np.uint8)
        elif complete and most == _ALL and size:
            if block.last and text[size - 1] != kernel.NEWLINE:
                text[size] = kernel.NEWLINE
                size += 1
            rows = kernel.split_regular(text, size, separator, slots, offsets, values)
            if rows >= 0:
                return rows, block.size, 0, kernel.OKAY, -1, 0
        returns = kernel.count_byte(text, block.size, kernel.RETURN) > 0
        result: tuple[int, int, int, int, int, int] = kernel.split_records(
            text, 0, block.size, separator, slots, complete, returns, most, offsets, values
        )
        return result

    # ------------------------------------------------------------------------------------------------- errors

    def _where(self, block: Block, at: int) -> str:
        """Return the file and the line of a place in a block."""
        return f"{self.files[block.file].path}, line {block.line + block.lines(at):,}"

    def _check(self, block: Block, records: _Records) -> None:
        """Raise SourceError for the first fault of a block."""
        if records.fault == kernel.OKAY:
            return
        path, header = self.files[block.file].path, self.headers[block.file]
        where = self._where(block, records.place)
        if records.fault == kernel.OPEN_QUOTE:
            raise SourceError(f"{where} opens a quote that is never closed", value=path)
        if records.fault == kernel.AFTER_QUOTE:
            raise SourceError(
                f"{where} has text after a closing quote",
                value=path,
                expected="a separator there; a quote inside of quotes is written twice",
            )
        if records.fault == kernel.LONE_RETURN:
            raise SourceError(
                f"{where} has a carriage return inside of a field",
                value=path,
                expected=r"lines that end with \n or \r\n",
            )
        ragged = self._count_ragged(block.file)
        more = f" ({ragged:,} rows of the file do not fit it)" if ragged > 1 else ""
        fields = counted(records.fields, "field")
        raise SourceError(
            f"{where} has {fields}, the header {len(header.names):,}{header.shown()}{more}",
            value=path,
            hint=_TITLES if len(header.names) == 1 else f"a field that holds {header.separator!r} must stand in quotes",
        )

    def _check_titles(self, error: SchemaError) -> None:
        """Raise SourceError if a file without the columns to read has other lines before its header."""
        for file, header in self._pairs():
            if header.following > len(header.names):
                fields = counted(len(header.names), "field")
                raise SourceError(
                    f"the first line of {file.path!r} has {fields}{header.shown()}, the next line {header.following:,}",
                    value=file.path,
                    expected="the names of the columns in the first line",
                    hint=_TITLES,
                ) from error

    def _count_ragged(self, number: int) -> int:
        """Count the ragged rows of a file, as far as quotes are right."""
        count = 0
        for _, records in self._in_sequence(self._first_block(number), check=False):
            count += records.ragged
            if records.fault not in (kernel.OKAY, kernel.RAGGED):
                break
        return count


def bounded(options: FileOptions, max_bytes: int) -> FileOptions:
    """Return options with as many workers as half of the memory has room for."""
    workers = next((count for count in range(options.workers, 1, -1) if 2 * _reading(count) <= max_bytes), 1)
    return replace(options, workers=workers)


def _reading(workers: int) -> int:
    """Estimate the bytes that reading takes."""
    blocks = 1 if workers == 1 else (_AHEAD + 1) * workers + 1
    return _HELD * BLOCK * blocks


_TITLES = "remove titles and comments before the line with the names of the columns"
_kept = threading.local()


def _scratch(size: int) -> NDArray[np.uint8]:
    """Return an array that the thread uses again: of fresh memory, most pages would be fetched for a few bytes."""
    if getattr(_kept, "values", NO_TEXT).size < size:
        _kept.values = np.empty(size, np.uint8)
    values: NDArray[np.uint8] = _kept.values[:size]
    return values


def _strings(offsets: NDArray[np.int32], values: NDArray[np.uint8]) -> pl.Series:
    """Return a column of text; empty text is null."""
    import nanoarrow

    present = offsets[1:] != offsets[:-1]
    validity: Any = None if present.all() else np.packbits(present, bitorder="little")
    buffers = [validity, offsets, values[: offsets[-1]].copy()]
    return pl.Series(nanoarrow.c_array_from_buffers(nanoarrow.string(), len(present), buffers))
