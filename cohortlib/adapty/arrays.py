"""Columns of events as arrays, a block of rows at a time: local days, keys of texts, keys of users."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.kernels.records import NONE
from cohortlib.engine.kernels.keys import fingerprint_strings
from cohortlib.periods import Calendar
from cohortlib.read.arrays import Keys, read_only, string_views
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
        nulls = column.alias("").is_null().to_numpy() if column.null_count() else None
        return cls(Cut.of(Instants.of(column), zone, Calendar("D")), nulls)

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
    """A column of ids: views, memory and bases, as ``fingerprint_strings`` takes them, and its mask of nulls."""

    views: tuple[NDArray[Any], ...]
    nulls: NDArray[np.bool_]
    secret: Keys

    @classmethod
    def of(cls, column: pl.Series, secret: Keys = SECRET) -> "TextColumn":
        """Prepare a column without copying its texts; keys depend on `secret`."""
        pieces = string_views(column.rechunk(), nulls=False)
        views: tuple[NDArray[Any], ...] = np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty(0, np.uint64)
        if pieces:
            views = pieces[0]
        nulls = bits_of(column.alias("").is_null() if column.null_count() else None)
        return cls(tuple(read_only(array) for array in views), nulls, read_only(secret))

    def keys(self, rows: NDArray[np.uint32], *, wide: bool = False) -> tuple[Keys, Keys]:
        """Return the keys of some rows, of one word or (`wide`) of two; else the second array is empty. Nulls are 0."""
        keys, keys2 = np.empty(rows.size, np.uint64), np.empty(rows.size * wide, np.uint64)
        fingerprint_strings(*self.views, self.nulls, rows, self.secret, keys, keys2)
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


def bits_of(column: pl.Series | None) -> NDArray[np.bool_]:
    """Return a boolean column as a read-only array; None as an empty one."""
    return read_only(np.empty(0, np.bool_) if column is None else column.to_numpy())
