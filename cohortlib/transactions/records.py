"""Records: rows written compactly to pages, each page of one partition of users.

A record has the user's key, a local day and an amount in money units. Periods are computed later, so the same records
serve any frequency and right edge.
"""

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine import buffers
from cohortlib.engine.kernels.partition import JOINED, PAGE, write_records
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import map_ordered
from cohortlib.read.amounts import Amounts
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.instants import Cut
from cohortlib.read.users import Users

_BLOCK = 1 << 16  # rows that a thread writes at a time
_EXTENT = 1 << 10  # pages that a thread reserves at a time


class Batch(NamedTuple):
    """Rows to write: transactions; or, without amounts, joined users with the date that sets their cohort."""

    users: Users
    cut: Cut
    amounts: Amounts | None


class PackingError(Exception):
    """Rows do not fit packed records."""


class Layout(NamedTuple):
    """The layout of packed records: bits of a key (beyond those of the partition) and of a day, and their origins."""

    key_bits: int
    day_bits: int
    first_id: int
    first_day: int

    @classmethod
    def of(cls, batch: Batch, bits: int) -> "Layout | None":
        """Choose a layout from the first batch, with room for later values; None if there is none."""
        users, cut, amounts = batch
        day_bits = 14
        first_day = cut.days[0] - (1 << day_bits - 1)
        if users.wide or amounts is None:
            return cls(0, day_bits, 0, first_day)
        # Room for eight times the greatest amount; larger amounts take several records.
        money = np.abs(amounts.units(0, min(len(users), _BLOCK))).max(initial=0)
        key_bits = 64 - day_bits - (int(money).bit_length() + 4)
        if key_bits < 8:
            return None
        room = 1 << key_bits + bits
        low, high = users.bounds()
        first_id = 0 if low >= 0 and high < room else max(low - room // 4, -(2**63))
        return cls(key_bits, day_bits, first_id, first_day) if high - first_id < room else None


class Records(NamedTuple):
    """Records in memory, by partition of users.

    Partition p has the pages ``pages[edges[p]]`` to ``pages[edges[p + 1]]`` and ``sizes[p]`` records; page k has
    ``counts[k]`` records. `words` are the pages as `write_records` wrote them, packed if there is a `layout`; user
    keys take two words if `wide`. All local days (since 1970-01-01) lie between `first` and `last`.
    """

    edges: Ints
    pages: NDArray[np.int32]
    counts: NDArray[np.uint8]
    words: NDArray[np.uint64]
    wide: bool
    layout: Layout | None
    sizes: Ints
    first: int
    last: int

    def groups(self, rows: int) -> list[tuple[int, int]]:
        """Split the partitions into ranges of about `rows` rows, at least one partition each."""
        firsts = np.flatnonzero(np.diff((np.cumsum(self.sizes) - self.sizes) // rows, prepend=-1)).tolist()
        return list(zip(firsts, [*firsts[1:], self.sizes.size], strict=True))


class RecordsBuilder:
    """Build records from batches, on several threads.

    Each thread keeps an open page per partition and appends full pages to the shared buffer.

    Parameters
    ----------
    rows
        Upper bound of the number of rows.
    bits
        Top bits of the key that select the partition, one of ``2 ** bits``.
    workers
        Number of threads.
    wide
        Whether the keys of users take two words.
    layout
        Layout of packed records, or None for full ones. Rows that do not fit it raise `PackingError`.
    """

    def __init__(self, rows: int, bits: int, workers: int, *, wide: bool, layout: Layout | None = None) -> None:
        self._bits, self._wide, self._workers, self._layout = bits, wide, workers, layout
        self._width = (3 if wide else 1) if layout else (4 if wide else 3)
        # Two things leave pages partly unused, each at most twice: the open pages, and the rest of a reserved extent.
        most = rows // PAGE + 2 * workers * ((1 << bits) + _EXTENT)
        self._words = buffers.empty(most * PAGE * self._width, np.uint64)
        # Written as pages are reserved: `rows` can be far more than there are, and memory that is not touched is free.
        self._owners = np.empty(most, np.int16)
        self._counts = np.empty(most, np.uint8)
        self._open_pages: SimpleQueue[_OpenPages] = SimpleQueue()
        for _ in range(workers):
            self._open_pages.put(_OpenPages(1 << bits, self._width))
        self._reserved, self._lock = 0, Lock()
        self._unused = np.zeros(1 << bits, np.int64)
        self._rows = 0
        self._most = most
        self._days: list[tuple[int, int]] = []
        self.total = 0
        """Σ |units|."""

    def add(self, batches: Iterable[Batch], meter: Meter | None = None) -> None:
        """Write the rows of all batches; the next batch is read while earlier ones are written.

        A second call is allowed: in each partition its rows come after those of the first.
        """
        for high, low in map_ordered(self._workers, lambda block: self._write(*block, meter), self._blocks(batches)):
            self.total += (high << 32) + low
        for _ in range(self._workers):
            pages = self._open_pages.get()
            self._flush(pages)
            self._open_pages.put(pages)

    def _blocks(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, int, int, int]]:
        for batch in batches:
            users, cut, amounts = batch
            self._days.append(cut.days)
            if self._layout is not None:
                low, high = (day - self._layout.first_day for day in cut.days)
                if low < 0 or high >> self._layout.day_bits:
                    raise PackingError
            # Fill the caches that all blocks share here, before several threads need them.
            self._keys(users, 0, 0)
            cut.local_days(0, 0)
            if amounts is not None:
                amounts.units(0, 0)
            for first in range(0, len(users), _BLOCK):
                yield batch, first, min(_BLOCK, len(users) - first), self._rows + first
            self._rows += len(users)

    def _keys(self, users: Users, first: int, size: int) -> tuple[Keys, Keys]:
        if self._layout is None or not self._layout.key_bits:
            return users.keys(first, size)
        keys = users.narrow_keys(first, size, self._layout.first_id, self._layout.key_bits + self._bits)
        if keys is None:
            raise PackingError
        return keys, np.empty(0, np.uint64)

    def _write(self, batch: Batch, first: int, size: int, row: int, meter: Meter | None) -> tuple[int, int]:
        """Write one block; return the sums of the high and the low 32 bits of |units|."""
        users, cut, amounts = batch
        layout = self._layout or Layout(0, 0, 0, 0)
        keys, keys2 = self._keys(users, first, size)
        units = np.zeros(size, np.int64) if amounts is None else amounts.units(first, size)
        days = cut.local_days(first, size)
        flag = JOINED if amounts is None else np.uint64(0)
        at = highs = lows = 0
        pages = self._open_pages.get()
        try:
            while at < size:
                if pages.next == pages.end:
                    pages.next, pages.end = self._reserve(_EXTENT)
                at, pages.next, high, low = write_records(
                    row, at, keys, keys2, units, days, flag, self._bits,
                    self._layout is not None, layout.key_bits, layout.day_bits, layout.first_day,
                    pages.words, pages.filled, pages.next, pages.end, self._owners, self._words,
                )  # fmt: skip
                highs, lows = highs + int(high), lows + int(low)
        finally:
            self._open_pages.put(pages)
        if meter is not None:
            meter.add(size)
        return highs, lows

    def _reserve(self, pages: int) -> tuple[int, int]:
        with self._lock:
            self._reserved += pages
            if self._reserved > self._most:  # too many rows, or amounts that needed several records
                raise PackingError
            first, end = self._reserved - pages, self._reserved
        self._owners[first:end] = -1
        self._counts[first:end] = PAGE
        return first, end

    def _flush(self, pages: "_OpenPages") -> None:
        """Write the pages that are not full, and drop the rest of the extent: later rows must come in later pages."""
        opened = np.flatnonzero(pages.filled)
        page, end = self._reserve(opened.size)
        self._owners[page:end] = opened
        self._counts[page:end] = pages.filled[opened]
        self._unused[opened] += PAGE - pages.filled[opened].astype(np.int64)
        each = PAGE * self._width
        self._words[page * each : end * each].reshape(-1, each)[:] = pages.words.reshape(-1, each)[opened]
        pages.filled[:] = 0
        pages.next = pages.end

    def build(self) -> Records | None:
        """Return the records, or None if there are no rows."""
        if not self._rows:
            return None
        pages = np.flatnonzero(self._owners[: self._reserved] >= 0).astype(np.int32)
        owners = self._owners[pages]
        order = np.argsort(owners, kind="stable")
        edges = np.searchsorted(owners[order], np.arange((1 << self._bits) + 1)).astype(np.int64)
        sizes = np.diff(edges) * PAGE - self._unused
        first, last = min(day for day, _ in self._days), max(day for _, day in self._days)
        return Records(edges, pages[order], self._counts, self._words, self._wide, self._layout, sizes, first, last)


class _OpenPages:
    """The open pages of a thread, one per partition, and its reserved pages of the shared buffer: `next` to `end`."""

    def __init__(self, partitions: int, width: int) -> None:
        self.words = buffers.empty(partitions * PAGE * width, np.uint64)
        self.filled = np.zeros(partitions, np.uint8)
        self.next = self.end = 0
