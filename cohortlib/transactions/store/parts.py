"""Parts: some users, and all of their rows, user by user and cut to days.

What is on disk, what is spilled where memory is short, and what is updated is made of these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.read.arrays import Ints, Keys, read_only
from cohortlib.transactions.kernels.parts import lay_together, name_users, put_together
from cohortlib.transactions.records import Records

KEY, KEY2, SIZE, USER, DAY, UNITS = "key", "key2", "rows", "user", "local_day", "units"
"""The columns of a part: of users the key, its second word where they are text, the number of their rows, and where it
is kept the user; of rows the local day (since 1970-01-01), the money units, and the columns that the caller keeps."""


@dataclass(frozen=True)
class Stretches:
    """Where the rows of users are: those of user u are the stretches ``ends[u - 1]`` to ``ends[u]``.

    Stretch s has ``sizes[s]`` rows from ``starts[s]`` on.
    """

    ends: Ints
    starts: Ints
    sizes: NDArray[np.uint32]

    def __post_init__(self) -> None:
        # Some come from polars, read-only; kernels are compiled apart for either kind.
        for name in ("ends", "starts", "sizes"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @classmethod
    def one_each(cls, sizes: NDArray[np.uint32]) -> "Stretches":
        """Take it that users stand one after the other."""
        until = np.cumsum(sizes, dtype=np.int64)
        return cls(np.arange(1, sizes.size + 1, dtype=np.int64), until - sizes, sizes)

    def until(self) -> Ints:
        """Count the rows up to and with each user."""
        running: Ints = np.append(np.int64(0), np.cumsum(self.sizes, dtype=np.int64))[self.ends]
        return running


@dataclass(frozen=True)
class Part:
    """Some users, each once, by key; and their rows, where the stretches say."""

    users: pl.DataFrame
    rows: pl.DataFrame
    stretches: Stretches

    @classmethod
    def of(cls, users: pl.DataFrame, rows: pl.DataFrame) -> "Part":
        """Take users whose rows stand in their order."""
        return cls(users, rows, Stretches.one_each(users[SIZE].to_numpy()))

    @classmethod
    def merged(cls, parts: Sequence["Part"]) -> "Part":
        """Bring together the users of several parts, each from the last that has the user."""
        parts = [part for part in parts if part.users.height] or list(parts[:1])
        if len(parts) == 1:
            return parts[0]
        users = pl.concat([part.users for part in parts])
        order, ends = _grouped(*keys(users))
        shifts = np.cumsum([0] + [part.rows.height for part in parts])
        starts = np.concatenate([part.stretches.starts + shift for part, shift in zip(parts, shifts, strict=False)])
        sizes = np.concatenate([part.stretches.sizes for part in parts])
        if any(part.stretches.sizes.size != part.users.height for part in parts):
            raise ValueError("a part that has been merged is laid together before it is merged again")
        return cls(
            users[order[ends - 1]].with_columns(pl.Series(SIZE, _summed(sizes[order], ends), dtype=pl.UInt32)),
            pl.concat([part.rows for part in parts], rechunk=True),
            Stretches(ends, starts[order], sizes[order]),
        )

    def laid_together(self) -> "Part":
        """Put the rows in the order of the users."""
        stretches = self.stretches
        rows = int(stretches.sizes.sum(dtype=np.int64))
        there = Stretches.one_each(stretches.sizes).starts
        if rows == self.rows.height and there.size == self.users.height and (there == stretches.starts).all():
            return self
        order = np.empty(rows, np.uint32)
        lay_together(stretches.ends, stretches.starts, stretches.sizes, order)
        return Part.of(self.users, self.rows[order])

    def only(self, places: Ints) -> "Part":
        """Take some users, by their places, in ascending order."""
        stretches = self.stretches
        begins = np.append(np.int64(0), stretches.ends[:-1])[places]
        counts = stretches.ends[places] - begins
        ends = np.cumsum(counts)
        taken = np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - counts, counts) + np.repeat(begins, counts)
        mine = Stretches(ends, stretches.starts[taken], stretches.sizes[taken])
        return Part(self.users[places], self.rows, mine).laid_together()

    def between(self, low: int, high: int) -> "Part":
        """Take the users with a first word of the key from `low` to `high`, both inclusive; they stand in order."""
        return next(self.pieces([between(self.users, low, high)]))

    def pieces(self, places: Sequence[tuple[int, int]]) -> Iterator["Part"]:
        """Take users from one place to before another, again and again; their rows stand in order."""
        until = np.append(np.int64(0), self.stretches.until())
        for begin, end in places:
            yield Part.of(self.users[begin:end], self.rows[int(until[begin]) : int(until[end])])


def between(users: pl.DataFrame, low: int, high: int) -> tuple[int, int]:
    """Find the stretch of users with a first word of the key from `low` to `high`, both inclusive."""
    key = users[KEY].to_numpy()
    begin = int(np.searchsorted(key, np.uint64(low), side="left"))
    return begin, int(np.searchsorted(key, np.uint64(high), side="right"))


def keys(users: pl.DataFrame) -> tuple[Keys, Keys]:
    """Give the keys of users."""
    key = users[KEY].to_numpy()
    return key, users[KEY2].to_numpy() if KEY2 in users.columns else np.empty(0, np.uint64)


def matched(key: Keys, key2: Keys, others: Keys, others2: Keys) -> tuple[Ints, Ints]:
    """Find keys among others, both in order and each once: the places of those found, here and there."""
    here = np.searchsorted(others, key)
    there = np.minimum(here, max(others.size - 1, 0))
    if not others.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    same = others[there] == key
    if not key2.size:
        return np.flatnonzero(same), there[same]
    # Two users may share the first word; hardly ever do they.
    sure = same & (others2[there] == key2)
    for at in np.flatnonzero(same & ~sure).tolist():
        until = int(np.searchsorted(others, key[at], side="right"))
        again = np.flatnonzero(others2[here[at] : until] == key2[at])
        if again.size:
            there[at], sure[at] = here[at] + again[0], True
    return np.flatnonzero(sure), there[sure]


def _grouped(key: Keys, key2: Keys) -> tuple[NDArray[np.intp], Ints]:
    """Order keys, stable; give the end of each group of equal ones."""
    order = np.lexsort((key2, key)) if key2.size else np.argsort(key, kind="stable")
    differs = key[order][1:] != key[order][:-1]
    if key2.size:
        differs |= key2[order][1:] != key2[order][:-1]
    return order, np.append(np.flatnonzero(differs) + 1, key.size).astype(np.int64)


def _summed(sizes: NDArray[np.uint32], ends: Ints) -> Ints:
    """Sum the sizes of each group."""
    running = np.cumsum(sizes, dtype=np.int64)[ends - 1]
    return np.diff(running, prepend=0)


def clustered(records: Records, partitions: range, extras: pl.DataFrame | None, names: pl.Series | None) -> Part:
    """Make a part of the users of some partitions of full records.

    Parameters
    ----------
    records
        Not packed, without joined users.
    partitions
        One after the other.
    extras
        Other columns of all rows that were filed, in their order.
    names
        The users of all rows that were filed; then they are kept.
    """
    height = int(records.sizes[partitions.start : partitions.stop].sum())
    most = int(records.sizes[partitions.start : partitions.stop].max(initial=1))
    days, units, rows = np.empty(height, np.int32), np.empty(height, np.int64), np.empty(height, np.uint32)
    slots = np.empty(1 << (2 * most).bit_length(), np.int32)
    codes = np.empty(most, np.int32)
    users, users2 = np.empty(most, np.uint64), np.empty(most, np.uint64)
    sizes, firsts = np.empty(most, np.uint32), np.empty(most, np.uint32)
    found: list[tuple[NDArray[np.generic], ...]] = []
    at = 0
    for p in partitions:
        count = name_users(
            p, records.edges, records.pages, records.counts, records.words, records.wide,
            slots, codes, users, users2, sizes, firsts,
        )  # fmt: skip
        order, _ = _grouped(users[:count], users2[: count * records.wide])
        mine = sizes[:count][order]
        places = np.empty(count, np.int64)
        places[order] = at + np.cumsum(mine, dtype=np.int64) - mine
        put_together(
            p, records.edges, records.pages, records.counts, records.words, records.wide,
            codes, places, days, units, rows,
        )  # fmt: skip
        found.append((users[:count][order], users2[:count][order], mine, firsts[:count][order]))
        at += int(records.sizes[p])
    key, key2, size, first = (np.concatenate(column) for column in zip(*found, strict=True))
    columns = {KEY: key} | ({KEY2: key2} if records.wide else {}) | {SIZE: size}
    frame = pl.DataFrame({DAY: days, UNITS: units})
    people = pl.DataFrame(columns)
    if names is not None:
        people = people.with_columns(names[first].alias(USER))
    if extras is not None:
        frame = frame.hstack(extras[rows])
    return Part.of(people, frame)
