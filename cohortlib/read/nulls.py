"""Nulls: an error, or dropped and counted."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from cohortlib.errors import DataError, warn

Nulls = Literal["error", "drop"]


@dataclass(frozen=True)
class Dropped:
    """How many rows there were, how many were dropped, and the nulls of each column; the parts of a table add."""

    rows: int = 0
    count: int = 0
    nulls: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Dropped") -> "Dropped":
        return Dropped(self.rows + other.rows, self.count + other.count, self.nulls + other.nulls)

    def tell(self, what: str) -> None:
        """Warn of the rows that were dropped."""
        if self.count:
            warn(f"{self.count:,} of {self.rows:,} rows of {what} dropped for nulls: {self.told}")

    @property
    def told(self) -> str:
        """Say in which columns the nulls are."""
        return _told(self.nulls)

    def refused(self, what: str) -> DataError:
        """Give the error for rows with nulls that were not to be dropped."""
        return DataError(
            f"{what} has nulls: {_told(self.nulls)}, of {self.rows:,} rows; expected none. Hint: nulls='drop' leaves "
            "these rows out"
        )


def without_nulls(frame: pl.DataFrame, nulls: Nulls, what: str) -> tuple[pl.DataFrame, Dropped]:
    """Refuse rows with a null, or drop them and count."""
    counts = Counter({name: frame[name].null_count() for name in frame.columns if frame[name].null_count()})
    if not counts:
        return frame, Dropped(len(frame), 0, counts)
    kept = frame.drop_nulls()
    dropped = Dropped(len(frame), len(frame) - len(kept), counts)
    if nulls == "error":
        raise dropped.refused(what)
    return kept, dropped


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} in column {name!r}" for name, count in counts.items())
