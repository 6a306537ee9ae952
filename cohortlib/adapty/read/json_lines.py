"""Read JSON lines or arrays as Adapty's webhook sends them: nested event_properties and attributions become columns."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import chain
from typing import NamedTuple

import polars as pl

from cohortlib.adapty.read.specs import ATTRIBUTION
from cohortlib.errors import SourceError
from cohortlib.read.bytes import text_blocks
from cohortlib.read.csv_header import not_utf8
from cohortlib.read.folders import Files
from cohortlib.read.tables import PANIC, FileOptions, Source, Stream, first_line, in_memory

_NETWORK = r'^\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*\{'  # the first key of a JSON object
_KEY = r'"(?:[^"\\]|\\.)*"\s*:\s*\{'
_LONGEST = 64 << 20  # bytes of a line, or of an element of an array
_ATTRIBUTIONS = "attributions"
_TARGETS = ("attribution_source", *(f"attribution_{field}" for field in ATTRIBUTION))
_NEWLINE = b"\n"
_WHITE = re.compile(r"[ \t\n\r]*")


class _Lines(NamedTuple):
    """Some lines of a file, or elements of its array, each as one line; the first has the number `first`."""

    path: str
    word: str
    first: int
    text: bytes

    def numbers(self) -> list[int]:
        """Return the numbers of those that are not blank."""
        return [number for number, line in enumerate(self.text.split(b"\n"), self.first) if line.strip()]


@dataclass(frozen=True)
class JsonLines:
    """Files of JSON lines or arrays, and the columns to read, as text.

    `choose`, `fields` and `assumed` are the parameters of :func:`cohortlib.adapty.read.tables.open_tables`.
    """

    source: Source
    files: Files
    choose: Callable[[list[str], str], list[str]]
    fields: Collection[str]
    assumed: Collection[str]
    options: FileOptions

    def stream(self, *, whole: bool) -> Stream:
        """Read in batches; `whole` reads all rows at once. The columns need a pass of their own over all rows."""
        if whole:
            frames = [self._parsed(lines) for lines in self._lines()]
            columns = self._columns(frames)
            flat = [_flattened(frame, self.fields, columns.networks).select(columns.names) for frame in frames]
            return in_memory(pl.concat([pl.DataFrame(schema=columns.schema), *flat]), self.locate)
        columns = self._columns(map(self._parsed, self._lines()))

        def batches() -> Iterator[pl.DataFrame]:
            for lines in self._lines():
                yield _flattened(self._parsed(lines), self.fields, columns.networks).select(columns.names)

        return Stream(self.source, columns.schema, None, batches, self.locate)

    def locate(self, row: int) -> str:
        """Return the file and the line of a row, counted from 0."""
        for lines in self._lines():
            numbers = lines.numbers()
            if row < len(numbers):
                return f"{lines.path}, {lines.word} {numbers[row]:,}"
            row -= len(numbers)
        return f"row {row}"

    def _columns(self, frames: Iterable[pl.DataFrame]) -> "_Columns":
        """Choose the columns, from those with a value in some row, and find the networks of all attributions."""
        survey = _Survey(self.fields)
        for frame in frames:
            survey.add(frame)
        networks, counts = survey.networks, survey.counts
        if networks:
            counts = counts + survey.attributed
        present = [name for name in self.fields if name in self.assumed or not survey.rows or counts[name]]
        names = self.choose(present, repr(self.files.name))
        if len(networks) > 1:
            names += [f"{name}@{at}" for at in range(1, len(networks) + 1) for name in names if name in _TARGETS]
        return _Columns(names, networks)

    def _lines(self) -> Iterator[_Lines]:
        """Read the lines of all files, and the elements of arrays, in blocks."""
        for file in self.files.files:
            with closing(text_blocks(file.path, self.options)) as blocks:
                yield from _file_lines(file.path, blocks)

    def _parsed(self, lines: _Lines) -> pl.DataFrame:
        try:
            lines.text.decode()
            return pl.read_ndjson(BytesIO(lines.text), schema=self._schema)
        except (pl.exceptions.PolarsError, PANIC, UnicodeDecodeError) as error:
            raise _broken(lines, error) from error

    @cached_property
    def _schema(self) -> dict[str, pl.DataType]:
        texts: dict[str, pl.DataType] = dict.fromkeys(self.fields, pl.String())
        return {**texts, "event_properties": pl.Struct(texts), _ATTRIBUTIONS: pl.String()}


class _Columns(NamedTuple):
    """The columns to read, and the networks of the attributions."""

    names: list[str]
    networks: list[str]

    @property
    def schema(self) -> pl.Schema:
        """The columns, all of text."""
        return pl.Schema(dict.fromkeys(self.names, pl.String()))


class _Survey:
    """Which columns have values, and which networks there are, over all blocks."""

    def __init__(self, fields: Collection[str]) -> None:
        self.rows = 0
        self.counts: Counter[str] = Counter()
        self.attributed: Counter[str] = Counter()
        self._fields = fields
        self._found: set[str] = set()
        self._usable = True

    @property
    def networks(self) -> list[str]:
        """The networks, sorted; none if attributions have another shape, and so cannot be used."""
        return sorted(self._found) if self._usable else []

    def add(self, frame: pl.DataFrame) -> None:
        """Look through a block."""
        self.rows += frame.height
        self.counts.update(_value_counts(_flattened(frame, self._fields, [])))
        attributions = frame[_ATTRIBUTIONS]
        if attributions.null_count() == len(attributions) or not any(name in _TARGETS for name in self._fields):
            return
        keys = attributions.str.extract_all(_KEY).list.explode().drop_nulls().unique()
        networks = sorted({str(json.loads(text[: text.rindex('"') + 1])) for text in keys})
        if not networks:
            return
        self._found.update(networks)
        try:
            flat = _flattened(frame, self._fields, networks)
        except pl.exceptions.ComputeError:
            self._usable = False
            return
        self.attributed.update(_value_counts(flat))


def _value_counts(frame: pl.DataFrame) -> dict[str, int]:
    return {column.name: len(column) - column.null_count() for column in frame.iter_columns()}


# ------------------------------------------------------------------------------------------------------- blocks


def _file_lines(path: str, blocks: Iterator[bytes]) -> Iterator[_Lines]:
    """Cut the text of a file into lines, or the array that it holds into elements."""
    first = b""
    while not first.strip() and (block := next(blocks, None)) is not None:
        first += block
    of_array = path.lower().removesuffix(".gz").removesuffix(".zst").endswith(".json") and first.lstrip()[:1] == b"["
    cut = _elements if of_array else _lines
    for lines in cut(path, chain([first], blocks)):
        if lines.text.strip():
            yield lines


def _lines(path: str, blocks: Iterable[bytes]) -> Iterator[_Lines]:
    number, carry = 1, b""
    for block in blocks:
        text = carry + block
        end = text.rfind(b"\n") + 1
        carry = text[end:]
        if len(carry) > _LONGEST:
            raise SourceError(f"{path}, line {number + text.count(_NEWLINE):,} is longer than {_LONGEST >> 20} MiB")
        yield _Lines(path, "line", number, text[:end])
        number += text.count(_NEWLINE)
    yield _Lines(path, "line", number, carry)


def _elements(path: str, blocks: Iterable[bytes]) -> Iterator[_Lines]:
    """Cut an array into its elements, each as one line."""
    decode, raw_decode = codecs.getincrementaldecoder("utf-8")().decode, json.JSONDecoder().raw_decode
    text, number, due = "", 1, "the array"
    for block in chain(blocks, [b""]):
        try:
            text += decode(block, not block)
        except UnicodeDecodeError as error:
            raise _broken_array(path, first_line(error)) from error
        elements: list[str] = []
        at = 0
        while (at := _WHITE.match(text, at).end()) < len(text):  # type: ignore[union-attr]
            mark = text[at]
            if due == "the array":
                at, due = at + 1, "an element or the end"
            elif due == "a comma or the end" and mark == ",":
                at, due = at + 1, "an element"
            elif due in ("a comma or the end", "an element or the end") and mark == "]":
                at, due = at + 1, "nothing"
            elif due in ("a comma or the end", "nothing"):
                raise _broken_array(path, f"{due} expected after element {number + len(elements) - 1:,}")
            else:
                try:
                    element, end = raw_decode(text, at)
                except ValueError as error:
                    if block and len(text) - at <= _LONGEST:
                        break  # the rest of the element is in the next block
                    raise _broken_array(path, first_line(error)) from error
                if problem := _problem(element):
                    raise _bad_line(path, "element", number + len(elements), problem)
                elements.append(text[at:end].replace("\n", " "))
                at, due = end, "a comma or the end"
        text = text[at:]
        yield _Lines(path, "element", number, "".join(f"{element}\n" for element in elements).encode())
        number += len(elements)
    if due != "nothing":
        raise _broken_array(path, f"it ends where {due} is expected")


# ------------------------------------------------------------------------------------------------------- errors


def _broken_array(path: str, problem: str) -> SourceError:
    return SourceError(f"{path!r} is broken: {problem}", value=path, expected="a JSON array, or JSON lines")


def _bad_line(path: str, word: str, number: int, problem: str) -> SourceError:
    return SourceError(f"{path}, {word} {number:,} {problem}", value=path, expected="a JSON object")


def _broken(lines: _Lines, error: BaseException) -> SourceError:
    """Return the error for lines that cannot be read, with the first that is not a JSON object."""
    for number, line in enumerate(lines.text.split(_NEWLINE), lines.first):
        if not line.strip():
            continue
        try:
            problem = _problem(json.loads(line))
        except UnicodeDecodeError:
            return not_utf8(lines.path, number)
        except (ValueError, RecursionError) as broken:
            problem = f"is broken: {first_line(broken)}"
        if problem:
            return _bad_line(lines.path, lines.word, number, problem)
    return SourceError(f"{lines.path!r} cannot be read: {first_line(error)}", value=lines.path)


def _problem(value: object) -> str | None:
    """Describe why a value cannot be a row; None if it can."""
    if not isinstance(value, dict):
        return f"is a {type(value).__name__}"
    if not isinstance(value.get("event_properties"), dict | None):
        return f"has event_properties that are a {type(value['event_properties']).__name__}"
    return None


# ------------------------------------------------------------------------------------------------------ columns


def _flattened(lines: pl.DataFrame, fields: Collection[str], networks: list[str]) -> pl.DataFrame:
    """Fill missing fields from event_properties, and missing attribution fields from attributions."""
    properties = pl.col("event_properties").struct
    flat = lines.select(*(pl.coalesce(name, properties.field(name)).alias(name) for name in fields), _ATTRIBUTIONS)
    targets = [name for name in _TARGETS if name in fields]
    if not networks or not targets:
        return flat.drop(_ATTRIBUTIONS)
    shape = pl.Struct({name: pl.Struct(dict.fromkeys(ATTRIBUTION, pl.String())) for name in networks})
    first = pl.col(_ATTRIBUTIONS).str.extract(_NETWORK)
    decoded = flat.select(first.alias("first"), pl.col(_ATTRIBUTIONS).str.json_decode(shape))
    of_first = {
        name: pl.coalesce(pl.when(pl.col("first") == network).then(_of_network(network, name)) for network in networks)
        for name in targets
    }
    columns = [of_first[name].alias(f"@{name}") for name in targets]
    if len(networks) > 1:
        columns += [
            _of_network(network, name).alias(f"{name}@{number}")
            for number, network in enumerate(networks, 1)
            for name in targets
        ]
    flat = pl.concat([flat.drop(_ATTRIBUTIONS), decoded.select(columns)], how="horizontal")
    return flat.with_columns(pl.coalesce(name, f"@{name}").alias(name) for name in targets).drop(
        f"@{name}" for name in targets
    )


def _of_network(network: str, name: str) -> pl.Expr:
    """Return a field of the attribution to one network."""
    attribution = pl.col(_ATTRIBUTIONS).struct.field(network)
    if name == "attribution_source":
        return pl.when(attribution.is_not_null()).then(pl.lit(network))
    return attribution.struct.field(name.removeprefix("attribution_"))
