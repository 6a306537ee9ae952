"""Tables in memory and streams of batches; errors of sources."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import SchemaError, SourceError, listed


class ArrowStream(Protocol):
    """Anything that speaks the Arrow PyCapsule interface: pandas, pyarrow, a DuckDB relation."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the table as a stream of Arrow record batches."""


Source: TypeAlias = pl.DataFrame | pl.LazyFrame | ArrowStream | str | Path
Chooser: TypeAlias = Callable[[list[str]], list[str]]
_SLICE = 1 << 20  # rows


class Stream(NamedTuple):
    """A table that comes in batches.

    `schema` has the types of its columns, `rows` is the number of its rows, if that is known; `source` can be read once
    more.
    """

    source: Source
    schema: pl.Schema
    rows: int | None
    batches: Callable[[], Iterator[pl.DataFrame]]

    def begun(self, most: int) -> "Stream":
        """Read so many bytes; if that is all, it is a frame from now on."""
        rest = self.batches()
        begin: list[pl.DataFrame] = []
        size = 0
        for batch in rest:
            begin.append(batch)
            size += int(batch.estimated_size())
            if size > most:
                return self._replace(batches=lambda: chain(begin, rest))
        return in_memory(pl.concat(begin) if begin else pl.DataFrame(schema=self.schema))


def in_memory(frame: pl.DataFrame) -> Stream:
    """Return a table as a stream of slices."""
    return Stream(frame, frame.schema, frame.height, lambda: frame.iter_slices(_SLICE))


@contextmanager
def unreadable_source(what: str, guilty: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Say that something cannot be read; of many files it is said which, as the message that `guilty` finds."""
    try:
        yield
    except SourceError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(guilty() or f"{what} cannot be read: {first_line(error)}") from error


def chosen_columns(there: list[str], wanted: Chooser) -> list[str]:
    """Choose columns, each once, and say which is missing."""
    columns = list(dict.fromkeys(wanted(there)))
    for role, name in zip_longest(("user", "timestamp", "amount"), columns):
        if name is not None and name not in there:
            near = get_close_matches(name, there, 1)
            hint = f"{role}={near[0]!r}" if near else "name the columns with user=, timestamp= and amount="
            for mark in ";\t|":
                if len(there) == 1 and mark in there[0]:
                    hint = f"columns are separated by {mark!r} there; expected commas, and points in numbers"
            raise SchemaError(f"column {name!r} is not in the table; columns are {listed(there)}. Hint: {hint}")
    return columns


def collect(
    frame: pl.LazyFrame, wanted: Chooser, what: str, guilty: Callable[[], str | None] = lambda: None
) -> pl.DataFrame:
    """Read the wanted columns of a lazy table."""
    with unreadable_source(what, guilty):
        return select_columns(frame, wanted).collect()


def select_columns(frame: pl.LazyFrame, wanted: Chooser) -> pl.LazyFrame:
    """Select the wanted columns of a lazy table."""
    return frame.select(by_name(*chosen_columns(frame.collect_schema().names(), wanted)))


def first_line(error: BaseException) -> str:
    """Give the first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
