"""Handle rows with nulls: raise an error, or drop and count them."""

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from cohortlib.errors import Arg, DataError, warn
from cohortlib.literals import Nulls


@dataclass(frozen=True)
class Dropped:
    """Counts of rows, of dropped rows, and of nulls by column, also 0; the counts of parts of a table add."""

    rows: int = 0
    count: int = 0
    nulls: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Dropped") -> "Dropped":
        nulls = Counter(self.nulls)  # the columns keep their order, in whichever part the first null is
        nulls.update(other.nulls)
        return Dropped(self.rows + other.rows, self.count + other.count, nulls)

    def warn(self, table: str) -> None:
        """Warn about the rows that were dropped, if any."""
        if self.count:
            warn(f"{self.count:,} of {self.rows:,} rows of {table} dropped for nulls: {self.counts()}")

    def counts(self) -> str:
        """Format the number of nulls in each column."""
        return ", ".join(f"{count:,} in column {name!r}" for name, count in self.nulls.items() if count)

    def error(self, table: str) -> DataError:
        """Return the error for rows with nulls, where they are not dropped."""
        return DataError(
            f"{table} has nulls: {self.counts()}, of {self.rows:,} rows",
            expected="no nulls",
            hint=(Arg("nulls", "drop"), " skips these rows"),
        )


def without_nulls(frame: pl.DataFrame, nulls: Nulls, table: str) -> tuple[pl.DataFrame, Dropped]:
    """Return the rows without nulls and the counts; raise DataError for nulls if `nulls` is ``"error"``."""
    counts = Counter({name: frame[name].null_count() for name in frame.columns})
    if not counts.total():
        return frame, Dropped(len(frame), 0, counts)
    kept = frame.drop_nulls()
    dropped = Dropped(len(frame), len(frame) - len(kept), counts)
    if nulls == "error":
        raise dropped.error(table)
    return kept, dropped
