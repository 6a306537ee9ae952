"""Records: the rows of every user, in pages of one partition each, from one table or from one batch after the other.

A record has a user's key, a local day and a whole number of money units. It knows nothing of periods, so the tables of
any frequency and up to any right edge are made of the same records.
"""

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.kernels.partition import JOINED, PAGE, write_records
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import map_ordered
from cohortlib.read.amounts import Amounts
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.instants import Cut
from cohortlib.read.users import Users

_BLOCK = 1 << 16  # rows that a thread files at a time
_EXTENT = 1 << 10  # pages that a thread takes at a time


class Batch(NamedTuple):
    """Rows to be filed: transactions; or, without amounts, users whose cohort is given by a date."""

    users: Users
    cut: Cut
    amounts: Amounts | None


class UnfitError(Exception):
    """Rows do not fit packed records."""


class Form(NamedTuple):
    """How records are packed: the bits of a key beside those of the partition, of a day, and where both begin."""

    key_bits: int
    day_bits: int
    first_id: int
    first_day: int

    @classmethod
    def of(cls, batch: Batch, bits: int) -> "Form | None":
        """Choose a form by the first of many batches, with room for what may follow; None where there is none."""
        users, cut, amounts = batch
        day_bits = 14
        first_day = cut.days[0] - (1 << day_bits - 1)
        if users.wide or amounts is None:
            return cls(0, day_bits, 0, first_day)
        # Eight times the greatest amount; more becomes several records.
        money = np.abs(amounts.units(0, min(len(users), _BLOCK))).max(initial=0)
        key_bits = 64 - day_bits - (int(money).bit_length() + 4)
        if key_bits < 8:
            return None
        room = 1 << key_bits + bits
        low, high = users.bounds()
        first_id = 0 if low >= 0 and high < room else max(low - room // 4, -(2**63))
        return cls(key_bits, day_bits, first_id, first_day) if high - first_id < room else None


class Records(NamedTuple):
    """Rows by partition of users.

    Partition p has the pages ``pages[edges[p]]`` to ``pages[edges[p + 1]]``, and `sizes` has the number of its rows;
    page k has ``counts[k]`` records. `words` are those of `kernels.deal`, in the `form` if they are packed; the keys of
    users take two if they are `wide`. All local days (since 1970-01-01) lie between `first` and `last`.
    """

    edges: Ints
    pages: NDArray[np.int32]
    counts: NDArray[np.uint8]
    words: NDArray[np.uint64]
    wide: bool
    form: Form | None
    sizes: Ints
    first: int
    last: int

    def groups(self, rows: int) -> list[tuple[int, int]]:
        """Cut the partitions into stretches of about so many rows, never less than one partition."""
        firsts = np.flatnonzero(np.diff((np.cumsum(self.sizes) - self.sizes) // rows, prepend=-1)).tolist()
        return list(zip(firsts, [*firsts[1:], self.sizes.size], strict=True))


class Filing:
    """Records while they are being made.

    Parameters
    ----------
    rows
        At least the number of rows that will be filed.
    bits
        The partition is told by as many top bits of the key: there are ``2 ** bits``.
    workers
        Number of threads.
    wide
        Whether the keys of users take two words.
    form
        How to pack the records, if so. Then `UnfitError` is raised where rows do not fit.
    """

    def __init__(self, rows: int, bits: int, workers: int, *, wide: bool, form: Form | None = None) -> None:
        self._bits, self._wide, self._workers, self._form = bits, wide, workers, form
        self._width = (3 if wide else 1) if form else (4 if wide else 3)
        # Pages that stay half empty are those on the desks, and what is left of an extent, at most twice.
        most = rows // PAGE + 2 * workers * ((1 << bits) + _EXTENT)
        self._words = np.empty(most * PAGE * self._width, np.uint64)
        self._owners = np.full(most, -1, np.int16)
        self._counts = np.full(most, PAGE, np.uint8)
        self._desks: SimpleQueue[_Desk] = SimpleQueue()
        for _ in range(workers):
            self._desks.put(_Desk(1 << bits, self._width))
        self._taken, self._lock = 0, Lock()
        self._lacking = np.zeros(1 << bits, np.int64)
        self._rows = 0
        self._most = most
        self._days: list[tuple[int, int]] = []
        self.total = 0
        """Σ |units|."""

    def add(self, batches: Iterable[Batch], meter: Meter | None = None) -> None:
        """File the rows of all batches; the next is asked for while those before are being filed.

        It may be called twice; then, in each partition, the rows of the first call come before those of the second.
        """
        for high, low in map_ordered(self._workers, lambda block: self._file(*block, meter), self._blocks(batches)):
            self.total += (high << 32) + low
        for _ in range(self._workers):
            desk = self._desks.get()
            self._clear(desk)
            self._desks.put(desk)

    def _blocks(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, int, int, int]]:
        for batch in batches:
            users, cut, amounts = batch
            self._days.append(cut.days)
            if self._form is not None:
                low, high = (day - self._form.first_day for day in cut.days)
                if low < 0 or high >> self._form.day_bits:
                    raise UnfitError
            # What all blocks share is made here, not on several threads at once.
            self._keys(users, 0, 0)
            cut.local_days(0, 0)
            if amounts is not None:
                amounts.units(0, 0)
            for first in range(0, len(users), _BLOCK):
                yield batch, first, min(_BLOCK, len(users) - first), self._rows + first
            self._rows += len(users)

    def _keys(self, users: Users, first: int, size: int) -> tuple[Keys, Keys]:
        if self._form is None or not self._form.key_bits:
            return users.keys(first, size)
        keys = users.narrow_keys(first, size, self._form.first_id, self._form.key_bits + self._bits)
        if keys is None:
            raise UnfitError
        return keys, np.empty(0, np.uint64)

    def _file(self, batch: Batch, first: int, size: int, row: int, meter: Meter | None) -> tuple[int, int]:
        users, cut, amounts = batch
        form = self._form or Form(0, 0, 0, 0)
        keys, keys2 = self._keys(users, first, size)
        units = np.zeros(size, np.int64) if amounts is None else amounts.units(first, size)
        days = cut.local_days(first, size)
        flag = JOINED if amounts is None else np.uint64(0)
        at = highs = lows = 0
        desk = self._desks.get()
        try:
            while at < size:
                if desk.page == desk.end:
                    desk.page, desk.end = self._extent(_EXTENT)
                at, desk.page, high, low = write_records(
                    row, at, keys, keys2, units, days, flag, self._bits,
                    self._form is not None, form.key_bits, form.day_bits, form.first_day,
                    desk.words, desk.filled, desk.page, desk.end, self._owners, self._words,
                )  # fmt: skip
                highs, lows = highs + int(high), lows + int(low)
        finally:
            self._desks.put(desk)
        if meter is not None:
            meter.add(size)
        return highs, lows

    def _extent(self, pages: int) -> tuple[int, int]:
        with self._lock:
            self._taken += pages
            if self._taken > self._most:  # so many amounts do not fit one record
                raise UnfitError
            return self._taken - pages, self._taken

    def _clear(self, desk: "_Desk") -> None:
        """Put away the pages that are not full, and leave the extent: what is filed later must come later."""
        opened = np.flatnonzero(desk.filled)
        page, end = self._extent(opened.size)
        self._owners[page:end] = opened
        self._counts[page:end] = desk.filled[opened]
        self._lacking[opened] += PAGE - desk.filled[opened].astype(np.int64)
        each = PAGE * self._width
        self._words[page * each : end * each].reshape(-1, each)[:] = desk.words.reshape(-1, each)[opened]
        desk.filled[:] = 0
        desk.page = desk.end

    def records(self) -> Records | None:
        """Give what was filed, or None if that was no row."""
        if not self._rows:
            return None
        pages = np.flatnonzero(self._owners >= 0).astype(np.int32)
        owners = self._owners[pages]
        order = np.argsort(owners, kind="stable")
        edges = np.searchsorted(owners[order], np.arange((1 << self._bits) + 1)).astype(np.int64)
        sizes = np.diff(edges) * PAGE - self._lacking
        first, last = min(day for day, _ in self._days), max(day for _, day in self._days)
        return Records(edges, pages[order], self._counts, self._words, self._wide, self._form, sizes, first, last)


class _Desk:
    """A thread's open pages, one for each partition, and the stretch of pages that it fills."""

    def __init__(self, partitions: int, width: int) -> None:
        self.words = np.empty(partitions * PAGE * width, np.uint64)
        self.filled = np.zeros(partitions, np.uint8)
        self.page = self.end = 0
