"""Read CSV files, and find the file or the value behind an error."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import SchemaError, SourceError, listed
from cohortlib.read.tables import ChooseColumns, Stream, in_memory, read_errors, select_columns, unreadable


@dataclass(frozen=True)
class Csv:
    """CSV files with the same header, and the columns to read.

    Attributes
    ----------
    name
        The path or glob, for messages.
    paths
        The files.
    text_column, number_column
        The column to read as text, and the one to read as floats.
    """

    name: str
    paths: list[str]
    choose: ChooseColumns
    text_column: str | None
    number_column: str | None

    def read(self) -> pl.DataFrame:
        """Read all rows."""
        with self._number_errors():
            lazy = self._checked()
            with self._read_errors():
                frame = lazy.collect()
        return frame if frame.height else _without_types(frame.columns)

    def stream(self) -> Stream:
        """Read in batches."""
        with self._number_errors():
            lazy = self._checked()
            schema = lazy.collect_schema()
            with self._read_errors():
                empty = lazy.head(1).collect().is_empty()
        if empty:
            return in_memory(_without_types(schema))
        return Stream(self.name, schema, None, lambda: self._batches(lazy))

    def _batches(self, lazy: pl.LazyFrame) -> Iterator[pl.DataFrame]:
        with self._number_errors(), self._read_errors():
            yield from lazy.collect_batches(maintain_order=True)

    def _checked(self) -> pl.LazyFrame:
        """Scan the files; raise SchemaError for dates that can be read in more than one way."""
        with self._read_errors():
            try:
                lazy = self._scan(self.paths)
            except pl.exceptions.NoDataError as error:
                if len(self.paths) > 1:
                    raise
                raise SourceError(f"{self.name!r} is empty", expected="a CSV file with a header line") from error
        for column, dtype in lazy.collect_schema().items():
            if not dtype.is_temporal():
                continue
            # polars reads 01/02/2026 as 1 February, but it may mean 2 January. polars uses one format for the whole
            # column, so the first value is enough.
            with self._read_errors():
                texts = _scan_csv(self.paths, {column: pl.String})
                first = texts.select(by_name(column)).drop_nulls().head(1).collect().to_series()
            if not first.str.contains(r"^\s*\d{4}[-/]\d{2}[-/]\d{2}").all():
                raise SchemaError(
                    f"column {column!r} of {self.name!r} holds dates such as {first[0]!r}, which can be read in more "
                    "than one way",
                    value=first[0],
                    expected="ISO dates such as '2026-01-31' or '2026-01-31T12:00:00Z'",
                    hint=f"read the file with polars and parse it: pl.col({column!r}).str.to_date('%d/%m/%Y')",
                )
        return lazy

    def _scan(self, paths: list[str]) -> pl.LazyFrame:
        """Scan some of the files, with the columns and their types."""
        names = _scan_csv(paths, {}).collect_schema().names()
        dtypes = {self.text_column: pl.String, self.number_column: pl.Float64}
        return select_columns(
            _scan_csv(paths, {name: dtype for name, dtype in dtypes.items() if name in names}), self.choose
        )

    def _read_errors(self) -> AbstractContextManager[None]:
        return read_errors(repr(self.name), self._find_bad_file)

    def _find_bad_file(self) -> SourceError | None:
        """Find the file that cannot be read or whose header differs from the first."""
        header: list[str] = []
        for path in self.paths:
            try:
                names = _scan_csv([path], {}).collect_schema().names()
                header = header or names
                if names != header:
                    return SourceError(
                        f"{path!r} has columns {listed(names)}", expected=f"{listed(header)}, as in {self.paths[0]!r}"
                    )
                for _ in self._scan([path]).collect_batches():
                    pass
            except (pl.exceptions.PolarsError, OSError) as error:
                return unreadable(repr(path), error)
        return None

    @contextmanager
    def _number_errors(self) -> Iterator[None]:
        """If files cannot be read because the column of numbers holds text, raise SchemaError with the count."""
        try:
            yield
        except SourceError:
            if self.number_column is not None:
                raw = pl.col(self.number_column)
                bad = raw.filter(raw.is_not_null() & raw.cast(pl.Float64, strict=False).is_null())
                count, first = 0, None
                with suppress(pl.exceptions.PolarsError, OSError):  # then the numbers are not the reason
                    lazy = _scan_csv(self.paths, {self.number_column: pl.String})
                    lazy = lazy.select(bad.len().alias("count"), bad.first().alias("first"))
                    count, first = lazy.collect(engine="streaming").row(0)
                if count:
                    rows = "1 row" if count == 1 else f"{count:,} rows"
                    raise SchemaError(
                        f"column {self.number_column!r} of {self.name!r} holds text in {rows}, such as {first!r}",
                        value=first,
                        expected="numbers such as 12.5, without currency or thousands separators",
                    ) from None
            raise


def _without_types(columns: Iterable[str]) -> pl.DataFrame:
    """Return the table of a file without rows, whose column types are unknown."""
    return pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))


def _scan_csv(paths: list[str], dtypes: dict[str, type[pl.DataType]]) -> pl.LazyFrame:
    return pl.scan_csv(paths, glob=False, try_parse_dates=True, schema_overrides=dtypes)
