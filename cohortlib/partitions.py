"""The road of all tables: rows ordered by partition of users, and threads over the partitions.

Every row of one user is in one partition, and a partition fits in the cache. Rows are ordered block by block, and
then each partition is worked on by itself; both on threads, over pieces that do not touch each other.
"""

import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cohortlib import kernels
from cohortlib.errors import DataError, SettingError

Progress: TypeAlias = Callable[[int, int], object]
Write: TypeAlias = Callable[[NDArray[np.intp], Sequence[NDArray[Any]]], None]
Block: TypeAlias = Callable[[int, int], tuple[NDArray[np.uint64], Write]]
Kind: TypeAlias = tuple[DTypeLike, bool]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

BLOCK = 1 << 15  # rows of a block; with its keys, periods and units it stays in the second-level cache
_PARTITION = 1 << 13  # rows that a partition should have, for the same reason
_MOST_PARTITIONS = 1 << 12


@dataclass(frozen=True)
class Partitions:
    """Columns whose rows are ordered by partition of users, block by block.

    The rows that block b has in partition p stand at ``starts[p, b]`` to ``starts[p + 1, b]``; `sizes` has the number
    of rows of each partition.
    """

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    columns: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, rows: int, bits: int, workers: int, block: Block, types: Sequence[Kind]) -> "Partitions":
        """Order the rows of a table.

        Parameters
        ----------
        rows
            Number of rows.
        bits
            The partition is told by as many top bits of the key: there are ``2 ** bits``.
        workers
            Number of threads.
        block
            Gives, for the first row of a block and the number of its rows, the keys of those that count, and what
            writes their columns in a given order. It is called once by itself before it is called on threads, so that
            it may prepare what is shared.
        types
            The type of each column, and whether the column is there; else it stays empty.
        """
        firsts = range(0, rows, BLOCK)
        starts = np.zeros((len(firsts), (1 << bits) + 1), np.int64)
        columns = tuple(np.empty(rows if there else 0, kind) for kind, there in types)

        def order(first: int) -> None:
            keys, write = block(first, min(BLOCK, rows - first))
            from_row = np.empty(keys.size, np.intp)
            kernels.order(first, keys, bits, starts[first // BLOCK], from_row)
            write(from_row, [column[first : first + keys.size] for column in columns])

        for first in firsts[:1]:
            order(first)
        on_threads(workers, order, firsts[1:])
        edges = np.ascontiguousarray(starts.T)
        return cls(edges, (edges[1:] - edges[:-1]).sum(axis=1), columns)

    @classmethod
    def empty(cls, bits: int, types: Sequence[Kind]) -> "Partitions":
        """Order no rows."""
        return cls.of(0, bits, 1, lambda first, size: (np.empty(0, np.uint64), lambda order, out: None), types)

    @property
    def count(self) -> int:
        """Number of partitions."""
        return self.sizes.size


def bits_for(*rows: int) -> int:
    """Choose how many bits of the key tell the partition, for tables of so many rows each."""
    if sum(rows) >= 2**32:
        raise DataError(f"{sum(rows):,} rows are more than one frame holds; expected fewer than 2**32")
    return min(max(1, max(rows) // _PARTITION), _MOST_PARTITIONS).bit_length() - 1


def workers_for(threads: int | None) -> int:
    """Check the argument `threads`, and give the number of threads: by default all that the process may use."""
    if threads is not None and (type(threads) is not int or threads < 1):
        raise SettingError(f"threads={threads!r} is not a number of threads; expected 1 or more, or None")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads or available


def in_turn(workers: int, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Do the work for each item, on threads, and give the results in order; few items are asked for ahead."""
    if workers == 1:
        yield from map(work, items)
        return
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def on_threads(workers: int, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Do the work for each item, on threads, and give the results in order."""
    return list(in_turn(1 if len(items) == 1 else workers, work, items))


def shared_out(count: int, workers: int, work: Callable[[Iterator[int]], _Result]) -> list[_Result]:
    """Let each worker do its work on the partitions that it takes, as long as there are any left."""
    left = queue.SimpleQueue[int]()
    for p in range(count):
        left.put(p)

    def take() -> Iterator[int]:
        with suppress(queue.Empty):
            while True:
                yield left.get_nowait()

    return on_threads(workers, lambda _: work(take()), range(min(workers, count)))


class Meter:
    """Count rows on several threads and tell the caller's `progress`; every row is seen twice.

    What is told never goes back, even where the work begins :meth:`anew`.
    """

    def __init__(self, progress: Progress | None, rows: int) -> None:
        self._progress, self._rows, self._seen, self._told, self._lock = progress, rows, 0, 0, Lock()

    def anew(self) -> None:
        """Begin to count from the first row again."""
        with self._lock:
            self._seen = 0

    def add(self, rows: int) -> None:
        """Count rows that one of the two passes has done."""
        if self._progress is not None:
            with self._lock:
                self._seen += rows
                self._told = max(self._told, min(self._seen // 2, self._rows))
                self._progress(self._told, self._rows)

    def done(self) -> None:
        """Tell that all is done: rows that were left out have not been seen twice."""
        if self._progress is not None:
            self._progress(self._rows, self._rows)


def check_progress(progress: object) -> None:
    """Refuse a `progress` that cannot be called."""
    if progress is not None and not callable(progress):
        raise SettingError(f"progress={progress!r} cannot be called; expected a function of two numbers")


def check_size(rows: int, hint: str) -> None:
    """Refuse a result that cannot be held: more rows than polars counts, or more than the machine has memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**63
    if rows >= 2**32 - 1 or 100 * rows > memory:
        raise DataError(f"the table would have {rows:,} rows, more than fit. Hint: {hint}")
