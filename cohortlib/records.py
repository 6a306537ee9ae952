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

from cohortlib import kernels
from cohortlib.kernels import PAGE
from cohortlib.partitions import Meter, in_turn
from cohortlib.schema import Amounts, Cut, Ints, Users

_BLOCK = 1 << 16  # rows that a thread files at a time
_EXTENT = 1 << 10  # pages that a thread takes at a time


class Batch(NamedTuple):
    """Rows to be filed: transactions; or, without amounts, users whose cohort is given by a date."""

    users: Users
    cut: Cut
    amounts: Amounts | None


class Records(NamedTuple):
    """Rows by partition of users.

    Partition p has the pages ``pages[edges[p]]`` to ``pages[edges[p + 1]]``, and `sizes` has the number of its rows;
    page k has ``counts[k]`` records. `words` are three to a record, or four where users are `wide`; see `kernels.deal`.
    All local days (since 1970-01-01) lie between `first` and `last`.
    """

    edges: Ints
    pages: NDArray[np.int32]
    counts: NDArray[np.uint8]
    words: NDArray[np.uint64]
    wide: bool
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
    """

    def __init__(self, rows: int, bits: int, workers: int, *, wide: bool) -> None:
        self._bits, self._wide, self._workers, self._width = bits, wide, workers, 4 if wide else 3
        # Pages that stay half empty are at most those on the desks, twice, and what is left of an extent.
        most = rows // PAGE + workers * (2 * (1 << bits) + _EXTENT)
        self._words = np.empty(most * PAGE * self._width, np.uint64)
        self._owners = np.full(most, -1, np.int16)
        self._counts = np.full(most, PAGE, np.uint8)
        self._desks: SimpleQueue[_Desk] = SimpleQueue()
        for _ in range(workers):
            self._desks.put(_Desk(1 << bits, self._width))
        self._taken, self._lock = 0, Lock()
        self._lacking = np.zeros(1 << bits, np.int64)
        self._rows = 0
        self._days: list[tuple[int, int]] = []
        self.total = 0
        """Σ |units|."""

    def add(self, batches: Iterable[Batch], meter: Meter | None = None) -> None:
        """File the rows of all batches; the next is asked for while those before are being filed."""
        for high, low in in_turn(self._workers, lambda block: self._file(*block, meter), self._blocks(batches)):
            self.total += (high << 32) + low
        for _ in range(self._workers):
            desk = self._desks.get()
            self._clear(desk)
            self._desks.put(desk)

    def _blocks(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, int, int, int]]:
        for batch in batches:
            users, cut, amounts = batch
            self._days.append(cut.days)
            # What all blocks share is made here, not on several threads at once.
            users.keys(0, 0)
            cut.local_days(0, 0)
            if amounts is not None:
                amounts.units(0, 0)
            for first in range(0, len(users), _BLOCK):
                yield batch, first, min(_BLOCK, len(users) - first), self._rows + first
            self._rows += len(users)

    def _file(self, batch: Batch, first: int, size: int, row: int, meter: Meter | None) -> tuple[int, int]:
        users, cut, amounts = batch
        keys, keys2 = users.keys(first, size)
        units = np.zeros(size, np.int64) if amounts is None else amounts.units(first, size)
        days = cut.local_days(first, size)
        flag = kernels.JOINED if amounts is None else np.uint64(0)
        desk = self._desks.get()
        at = highs = lows = 0
        while at < size:
            if desk.page == desk.end:
                desk.page, desk.end = self._extent(_EXTENT)
            at, desk.page, high, low = kernels.deal(
                row, at, keys, keys2, units, days, flag, self._bits,
                desk.words, desk.filled, desk.page, desk.end, self._owners, self._words,
            )  # fmt: skip
            highs, lows = highs + int(high), lows + int(low)
        self._desks.put(desk)
        if meter is not None:
            meter.add(size)
        return highs, lows

    def _extent(self, pages: int) -> tuple[int, int]:
        with self._lock:
            self._taken += pages
            return self._taken - pages, self._taken

    def _clear(self, desk: "_Desk") -> None:
        """Put away the pages that are not full."""
        opened = np.flatnonzero(desk.filled)
        page, end = self._extent(opened.size)
        self._owners[page:end] = opened
        self._counts[page:end] = desk.filled[opened]
        self._lacking[opened] += PAGE - desk.filled[opened].astype(np.int64)
        each = PAGE * self._width
        self._words[page * each : end * each].reshape(-1, each)[:] = desk.words.reshape(-1, each)[opened]
        desk.filled[:] = 0

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
        return Records(edges, pages[order], self._counts, self._words, self._wide, sizes, first, last)


class _Desk:
    """A thread's open pages, one for each partition, and the stretch of pages that it fills."""

    def __init__(self, partitions: int, width: int) -> None:
        self.words = np.empty(partitions * PAGE * width, np.uint64)
        self.filled = np.zeros(partitions, np.uint8)
        self.page = self.end = 0
