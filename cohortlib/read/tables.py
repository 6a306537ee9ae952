"""Tables in memory, tables in batches, and the errors of both."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import polars as pl
from polars.exceptions import PanicException
from polars.selectors import by_name

from cohortlib.errors import Arg, CohortlibError, SchemaError, SettingError, SourceError, Text, listed


class ArrowStream(Protocol):
    """A table with the Arrow PyCapsule interface: pandas, pyarrow, a DuckDB relation."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the table as a stream of Arrow record batches."""


Source: TypeAlias = pl.DataFrame | pl.LazyFrame | ArrowStream | str | Path | Sequence[str | Path]
ChooseColumns: TypeAlias = Callable[[list[str]], list[str]]
"""Return the columns to read, from the names of all columns."""

Locate: TypeAlias = Callable[[int], str]
"""Describe where a row stands, from its number in the source: ``'orders.csv, line 203'``."""

PANIC = PanicException
"""What polars raises where it fails on its own account; not an Exception."""

_BATCH = 1 << 20  # rows


@dataclass(frozen=True)
class FileOptions:
    """How files are read: the settings of these names.

    Attributes
    ----------
    encoding
        The encoding of text files, as Python names it; None for UTF-8, or UTF-16 with a byte order mark.
    sheet
        The name of the sheet of a workbook, or its number from 1.
    storage_options
        Options for URLs, which polars hands on to the store.
    workers
        The number of threads.
    """

    encoding: str | None = None
    sheet: str | int | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, hash=False)
    workers: int = 1

    def __post_init__(self) -> None:
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise SettingError(
                    (Arg("encoding", self.encoding), " is unknown"),
                    value=self.encoding,
                    expected="an encoding that Python knows, such as 'latin-1', 'cp1252' or 'utf-16-le'",
                ) from error
        if self.sheet is not None and (isinstance(self.sheet, bool) or not isinstance(self.sheet, str | int)):
            raise SettingError(
                (Arg("sheet", self.sheet), " is not a sheet"), value=self.sheet, expected="a name, or a number from 1"
            )
        if self.storage_options is not None and not isinstance(self.storage_options, Mapping):
            raise SettingError(
                # The options can hold keys, so that they are not shown.
                (Arg("storage_options"), f" is a {type(self.storage_options).__qualname__}"),
                expected="a dict of names and values",
            )


DEFAULT_OPTIONS = FileOptions()


class Stream(NamedTuple):
    """A table that is read in batches.

    Attributes
    ----------
    source
        The table itself, which can be read again.
    schema
        The columns and their types.
    rows
        The number of rows, or None if it is not known before they are read.
    batches
        Reads the rows, in batches of this schema.
    locate
        Describes where a row stands, counted from 0 over all batches: ``'orders.csv, line 203'``. It may read the
        files again, so it is for errors only.
    expected
        An estimate of the number of rows where it is not known.
    mapped
        Calls a function for each batch on the threads that read them, and yields the results in order; None if
        batches are not read on threads.
    reading
        About the bytes that reading takes, beyond a few batches: of large row groups, and of what polars reads ahead.
    """

    source: Source
    schema: pl.Schema
    rows: int | None
    batches: Callable[[], Iterator[pl.DataFrame]]
    locate: Locate = "row {:,}".format
    expected: int | None = None
    mapped: Callable[[Callable[[pl.DataFrame], Any]], Iterator[Any]] | None = None
    reading: int = 0

    def rest(self, budget: int) -> int:
        """Return the bytes of a budget that reading leaves for rows, at least a quarter of it."""
        return max(budget - self.reading, budget // 4)

    def buffered(self, max_bytes: int) -> "Stream":
        """Read the first `max_bytes`; a table that ends within them becomes a frame in memory."""
        batches = self.batches()
        buffer: deque[pl.DataFrame] = deque()
        size = 0
        for batch in batches:
            buffer.append(batch)
            size += int(batch.estimated_size())
            if size > max_bytes:  # a batch is kept no longer than it is needed
                return self._replace(batches=lambda: chain(_drained(buffer), batches), mapped=None)
        return in_memory(self._concat(list(buffer)), self.locate)

    def frame(self) -> pl.DataFrame:
        """Read all rows."""
        return self.source if isinstance(self.source, pl.DataFrame) else self._concat(list(self.batches()))

    def _concat(self, batches: list[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(batches) if batches else pl.DataFrame(schema=self.schema)


def _drained(buffer: deque[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    while buffer:
        yield buffer.popleft()


def in_memory(frame: pl.DataFrame, locate: Locate = "row {:,}".format) -> Stream:
    """Return a frame as a stream of slices."""
    return Stream(frame, frame.schema, frame.height, lambda: frame.iter_slices(_BATCH), locate)


@contextmanager
def read_errors(name: str, find_file: Callable[[], SourceError | None] = lambda: None) -> Iterator[None]:
    """Raise SourceError where polars cannot read a source, or panics.

    `find_file` finds the file at fault among many; where it returns None, the error is about `name`.
    """
    try:
        yield
    except CohortlibError:
        raise
    except (pl.exceptions.PolarsError, OSError, PANIC) as error:
        raise (find_file() or unreadable(name, error)) from error


def unreadable(name: str, error: BaseException) -> SourceError:
    """Return the error for a source that cannot be read."""
    return SourceError(f"{name} cannot be read: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def choose_columns(names: list[str], choose: ChooseColumns) -> list[str]:
    """Choose columns, each once; raise SchemaError if one does not exist, or stands there twice."""
    columns = list(dict.fromkeys(choose(names)))
    for role, column in zip_longest(("user", "timestamp", "amount"), columns):
        if column is None:
            continue
        if column not in names:
            raise SchemaError(
                f"column {column!r} is not in the table; columns are {listed(names)}",
                value=column,
                hint=_missing_hint(role, column, names),
            )
        if names.count(column) > 1:
            raise SchemaError(
                f"the table has {names.count(column)} columns {column!r}", value=column, expected="each name once"
            )
    return columns


def _missing_hint(role: str | None, column: str, names: list[str]) -> Text:
    similar = closest(column, names)
    if similar is None:
        return "name the columns with ", Arg("user"), ", ", Arg("timestamp"), " and ", Arg("amount")
    return Arg(role, similar) if role else f"there is a column {similar!r}"


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that is most like another one, regardless of upper and lower case; None if none is."""
    folded = {each.casefold(): each for each in names}
    similar = get_close_matches(name.casefold(), folded, 1)
    return folded[similar[0]] if similar else None


def select_columns(frame: pl.LazyFrame, choose: ChooseColumns) -> pl.LazyFrame:
    """Select columns of a lazy table."""
    return frame.select(by_name(*choose_columns(frame.collect_schema().names(), choose)))
