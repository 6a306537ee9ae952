"""Columns of events as arrays, a block of rows at a time: local days, keys of texts, keys of users."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.kernels.records import NONE
from cohortlib.engine.kernels.keys import fingerprint_strings
from cohortlib.periods import Calendar
from cohortlib.read.arrays import Keys, string_views
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.users import SECRET, Users


@dataclass(frozen=True)
class DayColumn:
    """A column of instants as local days; nulls become `NONE`."""

    cut: Cut | None
    nulls: NDArray[np.bool_] | None

    @classmethod
    def of(cls, column: pl.Series, zone: str) -> "DayColumn":
        """Prepare a column that may have nulls."""
        if column.null_count() == len(column):
            return cls(None, None)
        filled, nulls = without_nulls(column)
        return cls(Cut.of(Instants.of(filled), zone, Calendar("D")), nulls)

    def __bool__(self) -> bool:
        return self.cut is not None

    def __call__(self, first: int, size: int) -> NDArray[np.int32]:
        """Return the days of a block of rows; an empty array for a column without any value."""
        if self.cut is None:
            return np.empty(0, np.int32)
        days = self.cut.local_days(first, size)
        if self.nulls is not None:
            days[self.nulls[first : first + size]] = NONE
        return days


@dataclass(frozen=True)
class TextColumn:
    """A column of ids: views, memory and bases as ``fingerprint_strings`` takes them, and a mask of the nulls."""

    views: tuple[NDArray[Any], ...]
    nulls: NDArray[np.bool_] | None
    secret: Keys = field(default_factory=lambda: SECRET)

    @classmethod
    def of(cls, column: pl.Series, secret: Keys = SECRET) -> "TextColumn":
        """Prepare a column without copying its texts; keys depend on `secret`."""
        nulls = column.alias("").is_null().to_numpy() if column.null_count() else None
        pieces = string_views(column.rechunk(), nulls=False)
        return cls(
            pieces[0] if pieces else (np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty(0, np.uint64)),
            nulls,
            secret,
        )

    def present(self, rows: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Return which of some rows have an id."""
        return np.ones(rows.size, np.bool_) if self.nulls is None else ~self.nulls[rows]

    def keys(self, rows: NDArray[np.uint32], *, wide: bool = False) -> tuple[Keys, Keys]:
        """Return the keys of some rows, of one word or (`wide`) of two; the second array is empty otherwise."""
        if self.nulls is None or not self.nulls[rows].any():
            keys, keys2 = np.empty(rows.size, np.uint64), np.empty(rows.size * wide, np.uint64)
            fingerprint_strings(*self.views, rows, self.secret, keys, keys2)
            return keys, keys2
        # The view of a null may hold anything, so only the others are read.
        keys, keys2 = np.zeros(rows.size, np.uint64), np.zeros(rows.size * wide, np.uint64)
        present = self.present(rows)
        keys[present], second = self.keys(rows[present], wide=wide)
        if wide:
            keys2[present] = second
        return keys, keys2


@dataclass(frozen=True)
class UserColumn:
    """A column of user ids, texts or integers."""

    users: Users
    texts: TextColumn | None

    @classmethod
    def of(cls, users: Users) -> "UserColumn":
        """Prepare a column of users."""
        return cls(users, TextColumn.of(users.series) if users.wide else None)

    def __call__(self, first: int, size: int, rows: NDArray[np.uint32]) -> tuple[Keys, Keys]:
        """Return the keys of some rows of a block: one word for integers, two for texts."""
        if self.texts is not None:
            return self.texts.keys(rows, wide=True)
        keys, empty = self.users.keys(first, size)
        return keys[rows - np.uint32(first)], empty


def without_nulls(column: pl.Series) -> tuple[pl.Series, NDArray[np.bool_] | None]:
    """Fill nulls of instants with a value of the column, and return a mask of where they were."""
    if not column.null_count():
        return column, None
    # Without its name, which polars could take for a pattern.
    unnamed = column.alias("")
    numbers = unnamed.to_physical()
    return numbers.fill_null(numbers.min()).cast(column.dtype).alias(column.name), unnamed.is_null().to_numpy()


def bits_of(column: pl.Series | None) -> NDArray[np.bool_] | None:
    """Return a boolean column as an array; None stays None."""
    return None if column is None else column.to_numpy()
