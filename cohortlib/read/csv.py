"""Read CSV files as text, and find the file behind an error."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import polars as pl

from cohortlib.errors import SourceError, listed
from cohortlib.read.lines import locate_in
from cohortlib.read.tables import ChooseColumns, Stream, read_errors, select_columns, unreadable


@dataclass(frozen=True)
class Csv:
    """CSV files with the same header, and the columns to read.

    Attributes
    ----------
    name
        The path or glob, for messages.
    paths
        The files.
    """

    name: str
    paths: list[str]
    choose: ChooseColumns

    def read(self) -> pl.DataFrame:
        """Read all rows."""
        with self._read_errors():
            return self._checked().collect()

    def stream(self) -> Stream:
        """Read in batches."""
        lazy = self._checked()
        return Stream(self.name, lazy.collect_schema(), None, lambda: self._batches(lazy), locate_in(self.paths))

    def _batches(self, lazy: pl.LazyFrame) -> Iterator[pl.DataFrame]:
        with self._read_errors():
            yield from lazy.collect_batches(maintain_order=True)

    def _checked(self) -> pl.LazyFrame:
        """Scan the files; raise SourceError if there is no header."""
        with self._read_errors():
            try:
                return self._scan(self.paths)
            except pl.exceptions.NoDataError as error:
                if len(self.paths) > 1:
                    raise
                raise SourceError(f"{self.name!r} is empty", expected="a CSV file with a header line") from error

    def _scan(self, paths: list[str]) -> pl.LazyFrame:
        """Scan the columns of some of the files."""
        return select_columns(_scan_csv(paths), self.choose)

    def _read_errors(self) -> AbstractContextManager[None]:
        return read_errors(repr(self.name), self._find_bad_file)

    def _find_bad_file(self) -> SourceError | None:
        """Find the file that cannot be read or whose header differs from the first."""
        header: list[str] = []
        for path in self.paths:
            try:
                names = _scan_csv([path]).collect_schema().names()
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


def _scan_csv(paths: list[str]) -> pl.LazyFrame:
    """Scan CSV files with every column as text; one parser reads text for all sources."""
    return pl.scan_csv(paths, glob=False, infer_schema=False)
