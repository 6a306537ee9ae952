"""Columns of events as arrays: days, texts and users."""

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
class Days:
    """A column of instants as local days, `kernels.NONE` where it is null."""

    cut: Cut | None
    nulls: NDArray[np.bool_] | None

    @classmethod
    def of(cls, column: pl.Series, zone: str) -> "Days":
        """Prepare a column that may have nulls."""
        if column.null_count() == len(column):
            return cls(None, None)
        filled, nulls = without_nulls(column)
        return cls(Cut.of(Instants.of(filled), zone, Calendar("D")), nulls)

    def __bool__(self) -> bool:
        return self.cut is not None

    def __call__(self, first: int, size: int) -> NDArray[np.int32]:
        """Give `size` rows from `first` on; none where the column has no value at all."""
        if self.cut is None:
            return np.empty(0, np.int32)
        days = self.cut.local_days(first, size)
        if self.nulls is not None:
            days[self.nulls[first : first + size]] = NONE
        return days


@dataclass(frozen=True)
class Texts:
    """A column of ids: views, memory and bases as ``kernels.fingerprint_strings`` takes them, and which are null."""

    views: tuple[NDArray[Any], ...]
    nulls: NDArray[np.bool_] | None
    secret: Keys = field(default_factory=lambda: SECRET)

    @classmethod
    def of(cls, column: pl.Series, secret: Keys = SECRET) -> "Texts":
        """Look at a column where it lies; `secret` is what its keys are drawn by."""
        nulls = column.alias("").is_null().to_numpy() if column.null_count() else None
        pieces = string_views(column.rechunk(), nulls=False)
        return cls(
            pieces[0] if pieces else (np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty(0, np.uint64)),
            nulls,
            secret,
        )

    def there(self, rows: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Tell which of some rows have an id."""
        return np.ones(rows.size, np.bool_) if self.nulls is None else ~self.nulls[rows]

    def keys(self, rows: NDArray[np.uint32], *, wide: bool = False) -> tuple[Keys, Keys]:
        """Give some rows a key of one word, or of two."""
        if self.nulls is not None and self.nulls[rows].any():
            # Nobody knows what stands in the view of a null.
            there = self.there(rows)
            keys, keys2 = np.zeros(rows.size, np.uint64), np.zeros(rows.size * wide, np.uint64)
            found, found2 = self.keys(rows[there], wide=wide)
            keys[there] = found
            if wide:
                keys2[there] = found2
            return keys, keys2
        keys, keys2 = np.empty(rows.size, np.uint64), np.empty(rows.size * wide, np.uint64)
        fingerprint_strings(*self.views, rows, self.secret, keys, keys2)
        return keys, keys2


@dataclass(frozen=True)
class People:
    """The users of a table, as text or as numbers."""

    users: Users
    texts: Texts | None

    @classmethod
    def of(cls, users: Users) -> "People":
        """Take the ids of a column of users."""
        return cls(users, Texts.of(users.series) if users.wide else None)

    def __call__(self, first: int, size: int, rows: NDArray[np.uint32]) -> tuple[Keys, Keys]:
        """Give some of `size` rows from `first` on a key of one word, or of two where the ids are text."""
        if self.texts is not None:
            return self.texts.keys(rows, wide=True)
        keys, none = self.users.keys(first, size)
        return keys[rows - np.uint32(first)], none


def without_nulls(column: pl.Series) -> tuple[pl.Series, NDArray[np.bool_] | None]:
    """Fill nulls of instants with a value that stands there anyway, and mark where they were."""
    if not column.null_count():
        return column, None
    # Without its name, which polars may take for a pattern.
    plain = column.alias("")
    numbers = plain.to_physical()
    return numbers.fill_null(numbers.min()).cast(column.dtype).alias(column.name), plain.is_null().to_numpy()


def bits_of(column: pl.Series | None) -> NDArray[np.bool_] | None:
    """Return a boolean column as an array; None stays None."""
    return None if column is None else column.to_numpy()
