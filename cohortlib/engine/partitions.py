"""The road of all tables: rows ordered by partition of users, and threads over the partitions.

Every row of one user is in one partition, and a partition fits in the cache. Rows are ordered block by block, and
then each partition is worked on by itself; both on threads, over pieces that do not touch each other.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cohortlib.engine.kernels import partition
from cohortlib.engine.threads import on_threads
from cohortlib.errors import DataError

Write: TypeAlias = Callable[[NDArray[np.intp], Sequence[NDArray[Any]]], None]
Block: TypeAlias = Callable[[int, int], tuple[NDArray[np.uint64], Write]]
Kind: TypeAlias = tuple[DTypeLike, bool]

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
            partition.order(first, keys, bits, starts[first // BLOCK], from_row)
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


def check_size(rows: int, hint: str) -> None:
    """Refuse a result that cannot be held: more rows than polars counts, or more than the machine has memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**63
    if rows >= 2**32 - 1 or 100 * rows > memory:
        raise DataError(f"the table would have {rows:,} rows, more than fit. Hint: {hint}")
