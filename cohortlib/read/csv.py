"""Read CSV files."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import SchemaError, SourceError, listed
from cohortlib.read.tables import Chooser, Stream, first_line, in_memory, select_columns, unreadable_source


@dataclass(frozen=True)
class Csv:
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
            return in_memory(_typeless(schema))
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
        return select_columns(
            _scan_csv(found, {name: kind for name, kind in types.items() if name in there}), self.wanted
        )

    def _unreadable(self) -> AbstractContextManager[None]:
        return unreadable_source(repr(self.path), self._guilty)

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
