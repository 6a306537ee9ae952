"""Read columns of JSON lines: one object in each line."""

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import polars as pl

from cohortlib.errors import CohortlibError, SourceError
from cohortlib.read.bytes import text_blocks
from cohortlib.read.csv_header import not_utf8
from cohortlib.read.folders import File, partition_columns
from cohortlib.read.tables import (
    DEFAULT_OPTIONS,
    ChooseColumns,
    FileOptions,
    Source,
    Stream,
    choose_columns,
    first_line,
    in_memory,
)
from cohortlib.read.typed import Kinds, Places, typed_frame

_ROWS = 1 << 16  # of a batch


class _Objects(NamedTuple):
    """Some objects of a file, and their lines."""

    file: File
    objects: list[dict[str, Any]]
    lines: list[int]


@dataclass(frozen=True)
class Lines:
    """Files of JSON lines, and the columns to read."""

    source: Source
    files: list[File]
    choose: ChooseColumns
    options: FileOptions = field(default=DEFAULT_OPTIONS)

    def stream(self, *, whole: bool) -> Stream:
        """Read in batches; `whole` reads all rows at once. The types need a pass of their own over all rows."""
        stream = Stream(self.source, self.schema, self._survey[0], self._batches, self.locate)
        return in_memory(stream.frame(), self.locate) if whole else stream

    def head(self, rows: int) -> tuple[list[dict[str, Any]], list[int]]:
        """Return the first objects, at most as many as a batch has, and their lines."""
        first = next(self._objects(), None)
        return ([], []) if first is None else (first.objects[:rows], first.lines[:rows])

    @cached_property
    def _survey(self) -> tuple[int, dict[str, Kinds]]:
        """Count the rows, and what the values of each column are. An object without a column has a null there."""
        first = next(self._objects(), None)
        likely = None
        with suppress(CohortlibError):  # then the columns of the first rows are not all there are
            likely = set(self.choose(_names(first.objects))) if first is not None else None
        rows, kinds, names = self._count(likely)
        if not names:
            raise SourceError(f"{self.files[0].path!r} is empty", expected="one object in each line")
        columns = choose_columns(list(names), self.choose)
        if any(name not in kinds for name in columns):
            rows, kinds, names = self._count(None)
        return rows, {name: kinds.get(name, Kinds(name)) for name in columns}

    def _count(self, likely: set[str] | None) -> tuple[int, dict[str, Kinds], dict[str, None]]:
        """Count the rows and the values of some columns, or of all; return also the names of all columns."""
        kinds: dict[str, Kinds] = {}
        names: dict[str, None] = {}
        rows = 0
        for batch in self._objects():
            rows += len(batch.objects)
            names.update(dict.fromkeys([*_names(batch.objects), *batch.file.partitions]))
            place = Places(batch.file.path, "line", batch.lines)
            for name in names if likely is None else likely:
                kinds.setdefault(name, Kinds(name)).add((each.get(name) for each in batch.objects), place)
        return rows, kinds, names

    @cached_property
    def schema(self) -> pl.Schema:
        """The columns, and types that hold all of their values."""
        partitions = {name for file in self.files for name in file.partitions}
        return pl.Schema(
            {
                name: pl.String() if name in partitions and not kinds.counts else kinds.dtype()
                for name, kinds in self._survey[1].items()
            }
        )

    def _batches(self) -> Iterator[pl.DataFrame]:
        for batch in self._objects():
            kinds, partitions = self._survey[1], batch.file.partitions
            own = {name: self.schema[name] for name in kinds if kinds[name].counts or name not in partitions}
            values = {name: [each.get(name) for each in batch.objects] for name in own}
            frame = typed_frame(values, pl.Schema(own))
            added = {name: partitions[name] for name in self.schema if name not in own}
            if added:
                frame = frame.with_columns(partition_columns(added, pl.String()))
            yield frame.select(pl.col(*self.schema))

    def locate(self, row: int) -> str:
        """Return the file and the line of a row, counted from 0."""
        for batch in self._objects():
            if row < len(batch.lines):
                return Places(batch.file.path, "line", batch.lines)(row)
            row -= len(batch.lines)
        return f"row {row}"

    def _objects(self) -> Iterator[_Objects]:
        for file in self.files:
            objects, numbers = [], []
            for number, line in self._lines(file.path):
                objects.append(_parsed(file.path, number, line))
                numbers.append(number)
                if len(objects) == _ROWS:
                    yield _Objects(file, objects, numbers)
                    objects, numbers = [], []
            if objects:
                yield _Objects(file, objects, numbers)

    def _lines(self, path: str) -> Iterator[tuple[int, bytes]]:
        """Read the lines that are not blank, with their numbers."""
        number, carry = 0, b""
        with closing(text_blocks(path, self.options)) as blocks:
            for block in blocks:
                *lines, carry = (carry + block).split(b"\n")
                for line in lines:
                    number += 1
                    if line.strip():
                        yield number, line
        if carry.strip():
            yield number + 1, carry


def _names(objects: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in objects for name in each))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return result


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)


def _parsed(path: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise not_utf8(path, number) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{path}, line {number:,} is not JSON: {first_line(error)}",
            value=path,
            expected="one object in each line",
        ) from error
    if not isinstance(value, dict):
        raise SourceError(
            f"{path}, line {number:,} is a {type(value).__name__}", value=path, expected="one object in each line"
        )
    return value
