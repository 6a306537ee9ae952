"""Tables in memory, tables in batches, and the errors of both."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import Arg, SchemaError, SourceError, Text, listed


class ArrowStream(Protocol):
    """A table with the Arrow PyCapsule interface: pandas, pyarrow, a DuckDB relation."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the table as a stream of Arrow record batches."""


Source: TypeAlias = pl.DataFrame | pl.LazyFrame | ArrowStream | str | Path
ChooseColumns: TypeAlias = Callable[[list[str]], list[str]]
"""Return the columns to read, from the names of all columns."""

_BATCH = 1 << 20  # rows


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
    locate
        Returns where a row is, from its number: for CSV files ``'orders.csv, line 203'``.
    """

    source: Source
    schema: pl.Schema
    rows: int | None
    batches: Callable[[], Iterator[pl.DataFrame]]
    locate: Callable[[int], str] = "row {:,}".format

    def buffered(self, max_bytes: int) -> "Stream":
        """Read the first `max_bytes`; a table that ends within them becomes a frame in memory."""
        batches = self.batches()
        buffer: list[pl.DataFrame] = []
        size = 0
        for batch in batches:
            buffer.append(batch)
            size += int(batch.estimated_size())
            if size > max_bytes:
                return self._replace(batches=lambda: chain(buffer, batches))
        frame = pl.concat(buffer) if buffer else pl.DataFrame(schema=self.schema)
        return in_memory(frame)._replace(locate=self.locate)


def in_memory(frame: pl.DataFrame) -> Stream:
    """Return a frame as a stream of slices."""
    return Stream(frame, frame.schema, frame.height, lambda: frame.iter_slices(_BATCH))


@contextmanager
def read_errors(name: str, find_file: Callable[[], SourceError | None] = lambda: None) -> Iterator[None]:
    """Raise SourceError where polars cannot read a source.

    `find_file` finds the file at fault among many; where it returns None, the error is about `name`.
    """
    try:
        yield
    except SourceError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise (find_file() or unreadable(name, error)) from error


def unreadable(name: str, error: Exception) -> SourceError:
    """Return the error for a source that cannot be read."""
    return SourceError(f"{name} cannot be read: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def choose_columns(names: list[str], choose: ChooseColumns) -> list[str]:
    """Choose columns, each once; raise SchemaError if one does not exist."""
    columns = list(dict.fromkeys(choose(names)))
    for role, column in zip_longest(("user", "timestamp", "amount"), columns):
        if column is not None and column not in names:
            raise SchemaError(
                f"column {column!r} is not in the table; columns are {listed(names)}",
                value=column,
                hint=_missing_hint(role, column, names),
            )
    return columns


def _missing_hint(role: str | None, column: str, names: list[str]) -> Text:
    for separator in ";\t|":
        if len(names) == 1 and separator in names[0]:
            return f"the file separates columns by {separator!r}; write it with commas, and decimal points in numbers"
    similar = get_close_matches(column, names, 1)
    if not similar:
        return "name the columns with ", Arg("user"), ", ", Arg("timestamp"), " and ", Arg("amount")
    return Arg(role, similar[0]) if role else f"there is a column {similar[0]!r}"


def select_columns(frame: pl.LazyFrame, choose: ChooseColumns) -> pl.LazyFrame:
    """Select columns of a lazy table."""
    return frame.select(by_name(*choose_columns(frame.collect_schema().names(), choose)))


def collect(
    frame: pl.LazyFrame,
    choose: ChooseColumns,
    name: str,
    find_file: Callable[[], SourceError | None] = lambda: None,
) -> pl.DataFrame:
    """Read columns of a lazy table."""
    with read_errors(name, find_file):
        return select_columns(frame, choose).collect()
