"""From whatever the user holds to a frame of the columns wanted: files, frames, Arrow streams."""

import glob
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
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

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".csv.gz", ".csv.zst")
_SLICE = 1 << 20  # rows


def read(source: Source, wanted: Chooser, *, text: str, number: str | None = None) -> pl.DataFrame:
    """Read some columns of a source.

    Parameters
    ----------
    source
        A polars frame, lazy or not; the path or glob of Parquet or CSV files; or an Arrow stream.
    wanted
        Names the columns to read, given those that are there.
    text, number
        Columns which a CSV file is to be read as text (so that user 007 stays 007) and as floats.
    """
    if isinstance(source, pl.DataFrame):
        return source.select(by_name(*_chosen(source.columns, wanted)))
    if isinstance(source, pl.LazyFrame):
        return _collect(source, wanted, "the lazy frame")
    if isinstance(source, str | Path):
        return _read_files(str(source), wanted, text, number)
    if hasattr(source, "__arrow_c_stream__"):
        try:
            frame = pl.DataFrame(source)
        except Exception as error:
            hint = ". Hint: convert the instants to UTC" if "time zone" in str(error) else ""
            raise SchemaError(
                f"the {type(source).__module__}.{type(source).__qualname__} cannot be read through the Arrow "
                f"interface: {first_line(error)}{hint}"
            ) from error
        return frame.select(by_name(*_chosen(frame.columns, wanted)))
    raise SchemaError(
        f"a {type(source).__qualname__} is no table; expected a polars frame, the path of Parquet or CSV files, or an "
        "object with __arrow_c_stream__ (pandas, pyarrow, DuckDB)"
    )


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
        return _in_memory(pl.concat(begin) if begin else pl.DataFrame(schema=self.schema))


def stream(source: Source, wanted: Chooser, *, text: str, number: str | None = None, most: int | None = None) -> Stream:
    """Read some columns batch by batch: Parquet as it is decoded, anything else once it is read.

    The other parameters are those of :func:`read`.

    Parameters
    ----------
    most
        Bytes that may be taken, if there is a bound: then a lazy frame, and large CSV files, are not read at once, and
        nobody knows how many rows will come. Such batches can be asked for once.
    """
    if isinstance(source, pl.LazyFrame) and most is not None:
        with _unreadable("the lazy frame"):
            lazy = _selected(source, wanted)
            return Stream(source, lazy.collect_schema(), None, lambda: _lazy_batches(lazy))
    if isinstance(source, str | Path):
        found, names = named_files(str(source), "Parquet or CSV files")
        if all(name.endswith(PARQUET) for name in names):
            what = repr(str(source))
            with _unreadable(what, lambda: _unreadable_parquet(found, wanted)):
                lazy = _selected(_scan_parquet(found), wanted)
                rows = lazy.select(pl.len()).collect().item()
                return Stream(source, lazy.collect_schema(), rows, lambda: _batches(lazy, what, found, wanted))
        if most is not None and all(name.endswith(CSV) for name in names) and _expanded(found) > most // 4:
            return _Csv(str(source), found, wanted, text, number).stream()
    return _in_memory(read(source, wanted, text=text, number=number))


def _in_memory(frame: pl.DataFrame) -> Stream:
    return Stream(frame, frame.schema, frame.height, lambda: frame.iter_slices(_SLICE))


def _lazy_batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    with _unreadable("the lazy frame"):
        yield from frame.collect_batches(maintain_order=True)


def _expanded(found: list[str]) -> int:
    """Give about the bytes of text in some files, which may be packed."""
    return sum(Path(file).stat().st_size * (1 if file.lower().endswith(".csv") else 5) for file in found)


def _batches(frame: pl.LazyFrame, what: str, found: list[str], wanted: Chooser) -> Iterator[pl.DataFrame]:
    done = 0
    with _unreadable(what, lambda: _unreadable_parquet(found, wanted, done)):
        for batch in frame.collect_batches(maintain_order=True):
            yield batch
            done += batch.height


@contextmanager
def _unreadable(what: str, guilty: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Say that something cannot be read; of many files it is said which, as the message that `guilty` finds."""
    try:
        yield
    except SourceError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(guilty() or f"{what} cannot be read: {first_line(error)}") from error


def _unreadable_parquet(found: list[str], wanted: Chooser, done: int = 0) -> str | None:
    """Say which of many files it is that cannot be read; so many rows have been read.

    The ends of the files, which tell what is in them, are read first; then the rows from where reading stopped.
    """
    columns: dict[str, pl.DataType] = {}
    rest: list[str] = []
    rows = 0
    for file in found:
        frame = _scan_parquet([file])
        try:
            there = frame.collect_schema()
            rows += frame.select(pl.len()).collect().item()
        except (pl.exceptions.PolarsError, OSError) as error:
            return f"{file!r} cannot be read: {first_line(error)}"
        columns = columns or {name: there[name] for name in _chosen(there.names(), wanted)}
        for name, kind in columns.items():
            if name not in there:
                return f"{file!r} has no column {name!r}; expected the columns of {found[0]!r}"
            if there[name] != kind:
                return f"column {name!r} of {file!r} is {there[name]}; expected {kind}, as in {found[0]!r}"
        if rows > done:
            rest.append(file)
    for file in rest:
        try:
            for _ in _scan_parquet([file]).select(by_name(*columns)).collect_batches():
                pass
        except (pl.exceptions.PolarsError, OSError) as error:
            return f"{file!r} cannot be read: {first_line(error)}"
    return None


def _scan_parquet(found: list[str]) -> pl.LazyFrame:
    # What else is in a file is nothing to us: over the years columns come.
    return pl.scan_parquet(found, glob=False, extra_columns="ignore")


def _chosen(there: list[str], wanted: Chooser) -> list[str]:
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


def _collect(
    frame: pl.LazyFrame, wanted: Chooser, what: str, guilty: Callable[[], str | None] = lambda: None
) -> pl.DataFrame:
    with _unreadable(what, guilty):
        return _selected(frame, wanted).collect()


def _selected(frame: pl.LazyFrame, wanted: Chooser) -> pl.LazyFrame:
    return frame.select(by_name(*_chosen(frame.collect_schema().names(), wanted)))


def files(path: str) -> list[str]:
    """List the files that a path or glob names."""
    try:
        return [path] if "://" in path or Path(path).is_file() else sorted(glob.glob(path, recursive=True))
    except (OSError, ValueError):  # no name that a file could have
        return []


def named_files(path: str, kinds: str) -> tuple[list[str], list[str]]:
    """List the files that a path or glob names, of which there must be one, and their bare names in small letters."""
    found = files(path)
    if not found:
        what = "no file matches" if glob.has_magic(path) else "there is no file"
        raise SourceError(f"{what} {path!r}; expected the path or glob of {kinds}")
    return found, [Path(file).name.lower() for file in found]


def _read_files(path: str, wanted: Chooser, text: str, number: str | None) -> pl.DataFrame:
    found, names = named_files(path, "Parquet or CSV files")
    if all(name.endswith(PARQUET) for name in names):
        return _collect(_scan_parquet(found), wanted, repr(path), lambda: _unreadable_parquet(found, wanted))
    if all(name.endswith(CSV) for name in names):
        return _Csv(path, found, wanted, text, number).read()
    raise SourceError(
        f"{path!r} is neither Parquet nor CSV by its name; expected names that all end in .parquet, or all in .csv "
        "or .csv.gz. Hint: for a folder give a glob, such as 'folder/*.parquet'"
    )


@dataclass(frozen=True)
class _Csv:
    """CSV files of one header, and what of them is wanted: the columns, one as text, one as numbers."""

    path: str
    found: list[str]
    wanted: Chooser
    text: str
    number: str | None

    def read(self) -> pl.DataFrame:
        """Read all rows."""
        with self._bad_numbers_told():
            lazy = self._checked()
            with self._unreadable():
                frame = lazy.collect()
        return frame if frame.height else _typeless(frame.columns)

    def stream(self) -> Stream:
        """Read batch by batch."""
        with self._bad_numbers_told():
            lazy = self._checked()
            schema = lazy.collect_schema()
            with self._unreadable():
                empty = lazy.head(1).collect().is_empty()
        if empty:
            return _in_memory(_typeless(schema))
        return Stream(self.path, schema, None, lambda: self._batches(lazy))

    def _batches(self, lazy: pl.LazyFrame) -> Iterator[pl.DataFrame]:
        with self._bad_numbers_told(), self._unreadable():
            yield from lazy.collect_batches(maintain_order=True)

    def _checked(self) -> pl.LazyFrame:
        """Choose the columns and their types, and refuse dates of more than one meaning."""
        with self._unreadable():
            try:
                lazy = self._scan(self.found)
            except pl.exceptions.NoDataError as error:
                if len(self.found) > 1:
                    raise
                raise SourceError(f"{self.path!r} is empty; expected a CSV file with a header line") from error
        for name, kind in lazy.collect_schema().items():
            if not kind.is_temporal():
                continue
            # polars reads 01/02/2026 as the first of February; whoever wrote it may not have meant that.
            # One form is read for the whole column, so the first value shows it.
            with self._unreadable():
                first = _scan_csv(self.found, {name: pl.String}).select(by_name(name)).drop_nulls().head(1).collect()
            written = first.to_series()
            if not written.str.contains(r"^\s*\d{4}[-/]\d{2}[-/]\d{2}").all():
                raise SchemaError(
                    f"column {name!r} of {self.path!r} holds dates such as {written[0]!r}, which can be read in more "
                    "than one way; expected ISO dates such as '2026-01-31' or '2026-01-31T12:00:00Z'. Hint: in "
                    f"polars, pl.col({name!r}).str.to_date('%d/%m/%Y') says which"
                )
        return lazy

    def _scan(self, found: list[str]) -> pl.LazyFrame:
        """Choose the columns and their types in some of the files."""
        there = _scan_csv(found, {}).collect_schema().names()
        types: dict[str, type[pl.DataType]] = {self.text: pl.String}
        if self.number is not None:
            types[self.number] = pl.Float64
        return _selected(_scan_csv(found, {name: kind for name, kind in types.items() if name in there}), self.wanted)

    def _unreadable(self) -> AbstractContextManager[None]:
        return _unreadable(repr(self.path), self._guilty)

    def _guilty(self) -> str | None:
        """Say which of the files it is that cannot be read, or has another header than the first."""
        header: list[str] = []
        for file in self.found:
            try:
                there = _scan_csv([file], {}).collect_schema().names()
                header = header or there
                if there != header:
                    return f"{file!r} has columns {listed(there)}; expected {listed(header)}, as in {self.found[0]!r}"
                for _ in self._scan([file]).collect_batches():
                    pass
            except (pl.exceptions.PolarsError, OSError) as error:
                return f"{file!r} cannot be read: {first_line(error)}"
        return None

    @contextmanager
    def _bad_numbers_told(self) -> Iterator[None]:
        """Where files cannot be read because of words in the column of numbers, say so, and count them."""
        try:
            yield
        except SourceError:
            if self.number is not None:
                raw = pl.col(self.number)
                bad = raw.filter(raw.is_not_null() & raw.cast(pl.Float64, strict=False).is_null())
                told = bad.len().alias("count"), bad.first().alias("first")
                count, first = 0, None
                with suppress(pl.exceptions.PolarsError, OSError):  # then it is no number that is wrong
                    lazy = _scan_csv(self.found, {self.number: pl.String}).select(told)
                    count, first = lazy.collect(engine="streaming").row(0)
                if count:
                    where = "1 row" if count == 1 else f"{count:,} rows"
                    raise SchemaError(
                        f"column {self.number!r} of {self.path!r} holds text in {where}, "
                        f"such as {first!r}; expected numbers such as 12.5, without currency or separators of thousands"
                    ) from None
            raise


def _typeless(columns: Iterable[str]) -> pl.DataFrame:
    """Make the table of a file without a row: there is nothing to tell the types from."""
    return pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))


def _scan_csv(found: list[str], types: dict[str, type[pl.DataType]]) -> pl.LazyFrame:
    return pl.scan_csv(found, glob=False, try_parse_dates=True, schema_overrides=types)


def first_line(error: BaseException) -> str:
    """Give the first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
