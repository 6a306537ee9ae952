"""Parts: some users, sorted by key, with all of their rows, grouped by user and cut to days.

The prepared form and states are made of parts, and spilled rows become parts as they are read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels.partition import UserTable
from cohortlib.read.arrays import Ints, Keys, read_only
from cohortlib.transactions.kernels.group import UserRanges
from cohortlib.transactions.kernels.parts import number_users, order_of_ranges, scatter_by_user
from cohortlib.transactions.records import Records

KEY, KEY2, SIZE, USER, DAY, UNITS = "key", "key2", "rows", "user", "local_day", "units"
"""The columns of a part. Users have a key (with a second word if they are text), their number of rows, and the user id
if it is kept. Rows have a local day (since 1970-01-01), an amount in money units, and the kept columns."""
INSTANT = "instant"
"""The column of instants of rows, in nanoseconds, if they are kept: the order of rows within a day."""
BATCH = "batch"
"""The column of a state's rows with the code of their batch."""
DROPPED_USER = "dropped_user"
"""The column of user ids in a file of dropped rows."""


@dataclass(frozen=True)
class RowRanges:
    """The rows of each user as ranges: user u has the ranges ``ends[u - 1]`` to ``ends[u]``.

    Range r has ``sizes[r]`` rows from ``starts[r]`` on.
    """

    ends: Ints
    starts: Ints
    sizes: NDArray[np.uint32]

    def __post_init__(self) -> None:
        # Arrays from polars are read-only. With all arrays read-only, kernels are compiled for one signature only.
        for name in ("ends", "starts", "sizes"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @classmethod
    def consecutive(cls, sizes: NDArray[np.uint32]) -> "RowRanges":
        """Return one range for each user, one after the other."""
        until = np.cumsum(sizes, dtype=np.int64)
        return cls(np.arange(1, sizes.size + 1, dtype=np.int64), until - sizes, sizes)

    @property
    def arrays(self) -> UserRanges:
        """The arrays that kernels take."""
        return UserRanges(self.ends, self.starts, self.sizes)

    def cumulative_rows(self) -> Ints:
        """Count the rows of users up to and including each user."""
        running: Ints = np.append(np.int64(0), np.cumsum(self.sizes, dtype=np.int64))[self.ends]
        return running


@dataclass(frozen=True)
class Part:
    """Some users, each once and sorted by key, and their rows, at the given ranges."""

    users: pl.DataFrame
    rows: pl.DataFrame
    ranges: RowRanges

    @classmethod
    def of(cls, users: pl.DataFrame, rows: pl.DataFrame) -> "Part":
        """Return a part whose rows are in the order of its users."""
        return cls(users, rows, RowRanges.consecutive(users[SIZE].to_numpy()))

    @classmethod
    def merge(cls, parts: Sequence["Part"]) -> "Part":
        """Merge parts, oldest first; the columns of a user come from the last part with that user."""
        parts = [part for part in parts if part.users.height] or list(parts[:1])
        if len(parts) == 1:
            return parts[0]
        if any(part.ranges.sizes.size != part.users.height for part in parts):
            raise ValueError("a merged part must be made contiguous before it is merged again")
        users = pl.concat([part.users for part in parts])
        order, ends = _group(*keys_of(users))
        shifts = np.cumsum([0] + [part.rows.height for part in parts])
        starts = np.concatenate([part.ranges.starts + shift for part, shift in zip(parts, shifts, strict=False)])
        sizes = np.concatenate([part.ranges.sizes for part in parts])
        user_sizes = np.diff(np.cumsum(sizes[order], dtype=np.int64)[ends - 1], prepend=0)
        users = users[order[ends - 1]].with_columns(pl.Series(SIZE, user_sizes, dtype=pl.UInt32))
        rows = pl.concat([part.rows for part in parts], rechunk=True)
        return cls(users, rows, RowRanges(ends, starts[order], sizes[order]))

    def contiguous(self) -> "Part":
        """Return the part with its rows in the order of its users."""
        ranges = self.ranges
        rows = int(ranges.sizes.sum(dtype=np.int64))
        starts = RowRanges.consecutive(ranges.sizes).starts
        if rows == self.rows.height and starts.size == self.users.height and (starts == ranges.starts).all():
            return self
        order = np.empty(rows, np.uint32)
        order_of_ranges(ranges.ends, ranges.starts, ranges.sizes, order)
        return Part.of(self.users, self.rows[order])

    def take(self, indices: Ints) -> "Part":
        """Return the users at ascending indices."""
        ranges = self.ranges
        begins = np.append(np.int64(0), ranges.ends[:-1])[indices]
        counts = ranges.ends[indices] - begins
        ends = np.cumsum(counts)
        taken = np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - counts, counts) + np.repeat(begins, counts)
        taken_ranges = RowRanges(ends, ranges.starts[taken], ranges.sizes[taken])
        return Part(self.users[indices], self.rows, taken_ranges).contiguous()

    def key_range(self, low: int, high: int) -> "Part":
        """Return the users whose first key word is from `low` to `high`, both inclusive; rows must be contiguous."""
        return next(self.slices([key_slice(self.users, low, high)]))

    def slices(self, bounds: Sequence[tuple[int, int]]) -> Iterator["Part"]:
        """Yield the users from one index to before another, for each pair of bounds; rows must be contiguous."""
        until = np.append(np.int64(0), self.ranges.cumulative_rows())
        for begin, end in bounds:
            yield Part.of(self.users[begin:end], self.rows[int(until[begin]) : int(until[end])])


class PartStore(Protocol):
    """Parts of disjoint users, each of a range of keys, in memory or on disk."""

    @property
    def count(self) -> int:
        """Number of parts."""

    @property
    def text(self) -> bool:
        """Whether user ids are text; their keys have two words."""

    @property
    def key_ranges(self) -> list[tuple[int, int]]:
        """The least and the greatest key of each part."""

    def size(self, index: int) -> int:
        """Return about the number of rows of a part."""

    def load(self, index: int, *, users: Sequence[str] = (), rows: Sequence[str] = ()) -> Part:
        """Return a part with at least these columns of users and of rows."""


class FilteredStore(PartStore, Protocol):
    """Parts whose rows may be filtered."""

    @property
    def filter_columns(self) -> Sequence[str]:
        """The columns of rows that the filter needs."""

    def filter_mask(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Evaluate the filter on rows; without a filter, the mask is empty."""


def key_slice(users: pl.DataFrame, low: int, high: int) -> tuple[int, int]:
    """Find the slice of users whose first key word is from `low` to `high`, both inclusive."""
    key = users[KEY].to_numpy()
    begin = int(np.searchsorted(key, np.uint64(low), side="left"))
    return begin, int(np.searchsorted(key, np.uint64(high), side="right"))


def keys_of(users: pl.DataFrame) -> tuple[Keys, Keys]:
    """Return both words of the keys; the second is empty unless users are text."""
    key = users[KEY].to_numpy()
    return key, users[KEY2].to_numpy() if KEY2 in users.columns else np.empty(0, np.uint64)


def match_keys(key: Keys, key2: Keys, other: Keys, other2: Keys) -> tuple[Ints, Ints]:
    """Find the keys that are in both of two sorted, unique sequences; return their indices in each."""
    if not other.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    begins = np.searchsorted(other, key)
    matches = np.minimum(begins, other.size - 1)
    same = other[matches] == key
    if not key2.size:
        return np.flatnonzero(same), matches[same]
    both = same & (other2[matches] == key2)
    # Rarely, several users share the first word: compare the second word of each.
    for at in np.flatnonzero(same & ~both).tolist():
        until = int(np.searchsorted(other, key[at], side="right"))
        equal = np.flatnonzero(other2[begins[at] : until] == key2[at])
        if equal.size:
            matches[at], both[at] = begins[at] + equal[0], True
    return np.flatnonzero(both), matches[both]


def _group(key: Keys, key2: Keys) -> tuple[NDArray[np.intp], Ints]:
    """Sort keys, stable; return the order and the end of each group of equal keys."""
    order = np.lexsort((key2, key)) if key2.size else np.argsort(key, kind="stable")
    differs = key[order][1:] != key[order][:-1]
    if key2.size:
        differs |= key2[order][1:] != key2[order][:-1]
    return order, np.append(np.flatnonzero(differs) + 1, key.size).astype(np.int64)


def build_part(records: Records, partitions: range, extras: pl.DataFrame | None, user_ids: pl.Series | None) -> Part:
    """Build a part from the records of consecutive partitions: full records, not packed, without joined users.

    `extras` are other columns of all rows that were written, in their order, and `user_ids` their users.
    """
    height = int(records.sizes[partitions.start : partitions.stop].sum())
    most = int(records.sizes[partitions.start : partitions.stop].max(initial=1))
    days, units, rows = np.empty(height, np.int32), np.empty(height, np.int64), np.empty(height, np.uint32)
    slots = np.empty(1 << (2 * most).bit_length(), np.int32)
    codes = np.empty(most, np.int32)
    users = UserTable(slots, np.empty(most, np.uint64), np.empty(most, np.uint64))
    sizes, firsts = np.empty(most, np.uint32), np.empty(most, np.uint32)
    columns: list[tuple[NDArray[np.generic], ...]] = []
    at = 0
    for p in partitions:
        count = number_users(p, records.arrays, records.form, users, codes, sizes, firsts)
        order, _ = _group(users.keys[:count], users.keys2[: count * records.form.wide])
        counts = sizes[:count][order]
        places = np.empty(count, np.int64)
        places[order] = at + np.cumsum(counts, dtype=np.int64) - counts
        scatter_by_user(p, records.arrays, records.form, codes, places, days, units, rows)
        columns.append((users.keys[:count][order], users.keys2[:count][order], counts, firsts[:count][order]))
        at += int(records.sizes[p])
    key, key2, size, first = (np.concatenate(column) for column in zip(*columns, strict=True))
    user_frame = pl.DataFrame({KEY: key} | ({KEY2: key2} if records.form.wide else {}) | {SIZE: size})
    row_frame = pl.DataFrame({DAY: days, UNITS: units})
    if user_ids is not None:
        user_frame = user_frame.with_columns(user_ids[first].alias(USER))
    if extras is not None:
        row_frame = row_frame.hstack(extras[rows])
    return Part.of(user_frame, row_frame)
