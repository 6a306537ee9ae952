"""Store rows partitioned by user.

All rows of a user are in one partition, and a partition fits into the cache. Threads write blocks of rows, and later
process partitions; no two of them share memory they write to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cohortlib.engine import memory
from cohortlib.engine.buffers import POOL, empty
from cohortlib.engine.kernels.partition import copy_partitions, count_keys, write_numbers
from cohortlib.errors import DataError, Text

ColumnSpec: TypeAlias = tuple[DTypeLike, int]
"""The type of a column, and its entries per row; 0 if it is absent."""

BLOCK = 1 << 15  # rows that a thread writes at a time: they fit into the second-level cache
_PARTITION = 1 << 13  # rows that a partition should have, for the same reason
_MOST_PARTITIONS = 1 << 12
_MOST_ROWS = 2**32
_RESULT_BYTES = 100  # of a row of a result, with the sums that it is made of


class FullError(Exception):
    """A block has more rows than the store has room for."""


class RowStore:
    """Rows of fixed width, partitioned by the top bits of their keys, in one array or several.

    A thread counts the rows of a block by partition, reserves a region of the store, and writes each row to its place
    there. So the rows that a block has of one partition are next to each other, and no thread waits for another.

    Parameters
    ----------
    rows
        Upper bound of the number of rows. Room that is not used costs nothing.
    bits
        The partition of a row is the top `bits` of its key, so there are ``2 ** bits`` partitions.
    types
        The columns.
    """

    def __init__(self, rows: int, bits: int, types: Sequence[ColumnSpec]) -> None:
        self.bits, self._most = bits, rows
        self.columns = tuple(empty(rows * width, dtype) for dtype, width in types)
        self._widths = [width for _, width in types]
        self._reserved, self._lock = 0, Lock()
        self._edges: list[tuple[int, NDArray[np.int64]]] = []

    def reserve(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Reserve the region of a block, given the keys of its rows. Returns where each partition begins in it."""
        counts = np.empty(1 << self.bits, np.int64)
        count_keys(keys, self.bits, counts)
        return self.reserve_counts(counts)

    def reserve_counts(self, counts: NDArray[np.int64], row: int = 0) -> NDArray[np.int64]:
        """Reserve the region of a block, as `reserve`, given the number of its rows in each partition.

        The blocks of a partition will be in the order of `row`, whichever thread is first.
        """
        edges = np.zeros(counts.size + 1, np.int64)
        np.cumsum(counts, out=edges[1:])
        with self._lock:
            if self._reserved + edges[-1] > self._most:
                raise FullError
            edges += self._reserved
            self._reserved = int(edges[-1])
            self._edges.append((row, edges))
        return edges[:-1].copy()

    def finalize(self) -> "Partitions":
        """Return the rows by partition, once all blocks are written."""
        blocks = [edges for _, edges in sorted(self._edges, key=itemgetter(0))]
        edges = np.array(blocks, np.int64).reshape(-1, (1 << self.bits) + 1)
        return Partitions.of(np.ascontiguousarray(edges.T), self.columns, self._widths)


@dataclass(frozen=True)
class Partitions:
    """The rows of a `RowStore`: block b has those of partition p at ``starts[p, b]`` to ``starts[p + 1, b]``."""

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]  # the number of rows of each partition
    columns: tuple[NDArray[Any], ...]
    widths: Sequence[int]  # the entries per row of each column

    @classmethod
    def of(cls, starts: NDArray[np.int64], columns: tuple[NDArray[Any], ...], widths: Sequence[int]) -> "Partitions":
        """Return the partitions that begin in each block at `starts`."""
        return cls(starts, (starts[1:] - starts[:-1]).sum(axis=1), columns, widths)

    @classmethod
    def of_keys(cls, keys: NDArray[np.uint64], bits: int) -> "Partitions":
        """Partition rows of these keys; the only column is the number of the row."""
        store = RowStore(keys.size, bits, ((np.uint32, 1),))
        write_numbers(keys, bits, store.reserve(keys), store.columns[0])
        return store.finalize()

    @property
    def count(self) -> int:
        """The number of partitions."""
        return self.sizes.size

    def combine(self, partitions: range) -> "Chunk":
        """Copy the rows of some partitions, so that those of each are contiguous."""
        edges = np.zeros(len(partitions) + 1, np.int64)
        np.cumsum(self.sizes[partitions.start : partitions.stop], out=edges[1:])
        columns = []
        for column, width in zip(self.columns, self.widths, strict=True):
            copied = empty(int(edges[-1]) * width, column.dtype)
            copy_partitions(self.starts, partitions.start, partitions.stop, width, column, copied)
            columns.append(copied)
        return Chunk(partitions.start, edges, tuple(columns))


class Chunk(NamedTuple):
    """Rows in the order of their partitions: partition ``first + p`` has rows ``edges[p]`` to ``edges[p + 1]``."""

    first: int
    edges: NDArray[np.int64]
    columns: tuple[NDArray[Any], ...]


def partition_bits(*rows: int, size: int = _PARTITION) -> int:
    """Choose the number of key bits that select the partition, of about `size` rows of the largest of some tables."""
    if sum(rows) >= _MOST_ROWS:
        what = f"{sum(rows):,} rows are more than one frame holds"
        raise DataError(what, value=sum(rows), expected="fewer than 2**32")
    return min(max(1, max(rows) // size), _MOST_PARTITIONS).bit_length() - 1


def check_size(rows: int, hint: Text) -> None:
    """Raise DataError for a result with more rows than polars can count, or than fit into the free memory."""
    free = memory.free() + POOL.size
    if rows >= _MOST_ROWS - 1 or _RESULT_BYTES * rows > free:
        room = f"{free / 1e9:,.1f} GB" if free >= 1e9 else f"{free / 1e6:,.0f} MB"
        what = f"the table would have {rows:,} rows, more than fit into {room} of free memory"
        raise DataError(what, hint=hint)
