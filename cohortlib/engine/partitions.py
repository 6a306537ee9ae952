"""Order the rows of a table by partition of users.

All rows of a user are in one partition, and a partition fits into the cache. Threads order blocks of rows, and later
process partitions; no two of them share memory they write to.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cohortlib.engine.buffers import empty
from cohortlib.engine.kernels.partition import partition_order
from cohortlib.engine.threads import on_threads
from cohortlib.errors import DataError, Text

WriteColumns: TypeAlias = Callable[[NDArray[np.intp], Sequence[NDArray[Any]]], None]
"""Write the columns of a block, its rows in a given order, to arrays."""
ReadBlock: TypeAlias = Callable[[int, int], tuple[NDArray[np.uint64], WriteColumns]]
"""Read the block of a first row and a number of rows: the keys of the rows that count, and how to write the columns."""
ColumnSpec: TypeAlias = tuple[DTypeLike, bool]
"""The type of a column, and whether it is present; an absent column is empty."""

BLOCK = 1 << 15  # rows of a block: with keys, periods and units it fits into the second-level cache
_PARTITION = 1 << 13  # rows that a partition should have, for the same reason
_MOST_PARTITIONS = 1 << 12
_MOST_ROWS = 2**32


@dataclass(frozen=True)
class Partitions:
    """Columns whose rows are ordered by partition of users within each block.

    Block b has the rows of partition p at ``starts[p, b]`` to ``starts[p + 1, b]``.
    """

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]  # the number of rows of each partition
    columns: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, rows: int, bits: int, workers: int, read_block: ReadBlock, types: Sequence[ColumnSpec]) -> "Partitions":
        """Order the rows of a table.

        The partition of a row is the top `bits` of its key, so there are ``2 ** bits`` partitions. The first call of
        `read_block` is finished before the others start on threads, so it can prepare what they share.
        """
        firsts = range(0, rows, BLOCK)
        starts = np.zeros((len(firsts), (1 << bits) + 1), np.int64)
        columns = tuple(empty(rows if present else 0, dtype) for dtype, present in types)

        def order(first: int) -> None:
            keys, write = read_block(first, min(BLOCK, rows - first))
            from_row = np.empty(keys.size, np.intp)
            partition_order(first, keys, bits, starts[first // BLOCK], from_row)
            write(from_row, [column[first : first + keys.size] for column in columns])

        for first in firsts[:1]:
            order(first)
        on_threads(workers, order, firsts[1:])
        edges = np.ascontiguousarray(starts.T)
        return cls(edges, (edges[1:] - edges[:-1]).sum(axis=1), columns)

    @classmethod
    def empty(cls, bits: int, types: Sequence[ColumnSpec]) -> "Partitions":
        """Return partitions without rows."""
        return cls.of(0, bits, 1, lambda first, size: (np.empty(0, np.uint64), lambda order, out: None), types)

    @property
    def count(self) -> int:
        """The number of partitions."""
        return self.sizes.size


def partition_bits(*rows: int) -> int:
    """Choose the number of key bits that select the partition, for tables with these numbers of rows."""
    if sum(rows) >= _MOST_ROWS:
        what = f"{sum(rows):,} rows are more than one frame holds"
        raise DataError(what, value=sum(rows), expected="fewer than 2**32")
    return min(max(1, max(rows) // _PARTITION), _MOST_PARTITIONS).bit_length() - 1


def check_size(rows: int, hint: Text) -> None:
    """Raise DataError for a result with more rows than polars can count, or than fit into the machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**63
    if rows >= _MOST_ROWS - 1 or 100 * rows > memory:
        raise DataError(f"the table would have {rows:,} rows, more than fit", hint=hint)
