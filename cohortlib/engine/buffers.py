"""Keep large buffers for the next call, whose memory the system would otherwise have to clear again.

:func:`empty` is `numpy.empty` with memory that earlier buffers have left. A buffer is reused only once no array refers
to it, so an array from here and all of its views are valid for as long as they exist.
"""

import os
import sys
from collections.abc import Callable
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cohortlib.engine import memory

LEAST = 1 << 16
"""Bytes of the smallest buffer that is kept."""
_SHARE = 8  # the pool keeps at most this part of the memory, one eighth


class Pool:
    """Free buffers of any size, at most `limit` bytes together; None for a share of the free memory at first use."""

    def __init__(self, limit: int | None = None) -> None:
        self._free: list[NDArray[np.uint8]] = []
        # Buffers come back whenever an array is deleted, also while this thread holds the lock.
        self._lock = RLock()
        self._limit = limit
        self._default: int | None = None

    @property
    def size(self) -> int:
        """The number of bytes that are kept."""
        return sum(buffer.nbytes for buffer in list(self._free))

    def take(self, size: int) -> NDArray[np.uint8]:
        """Return a buffer of at least `size` bytes: the smallest that fits and is at most half unused, or a new one."""
        with self._lock:
            fitting = [buffer for buffer in self._free if size <= buffer.nbytes <= 2 * size]
            if fitting:
                best = min(fitting, key=len)
                self._free = [buffer for buffer in self._free if buffer is not best]
                return best
        return np.empty(size, np.uint8)

    def give(self, buffer: NDArray[np.uint8]) -> None:
        """Keep a buffer, and drop the oldest ones that are too many."""
        with self._lock:
            self._free.append(buffer)
            self.trim(self.limit)

    def trim(self, limit: int) -> None:
        """Return memory to the system until at most `limit` bytes are kept; the oldest buffers go first."""
        with self._lock:
            while self._free and self.size > limit:
                del self._free[0]

    @property
    def limit(self) -> int:
        """The most bytes that are kept."""
        if self._limit is None:
            self._limit = memory.free() // _SHARE
        return self._limit

    def bound(self, max_memory: int | str | None) -> None:
        """Keep at most an eighth of `max_memory` from now on; of the free memory if it is None."""
        if max_memory is None:
            self._limit = self._default = self._default or memory.free() // _SHARE
        else:
            self._limit = memory.budget(max_memory) // _SHARE
        self.trim(self._limit)

    def reset_lock(self) -> None:
        """Make a new lock, in a forked process: another thread may have held the old one."""
        self._lock = RLock()


POOL = Pool()
"""The pool of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.reset_lock)


class _Owner:
    """A buffer that arrays refer to; with the last of them it goes back to its pool."""

    def __init__(self, pool: Pool, size: int) -> None:
        self._pool, self._buffer = pool, pool.take(size)
        self.__array_interface__ = self._buffer[:size].__array_interface__

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:  # modules may be gone by then
        if not is_finalizing():
            self._pool.give(self._buffer)


def empty(count: int, dtype: DTypeLike, pool: Pool = POOL) -> NDArray[Any]:
    """Return an array of any content."""
    dtype = np.dtype(dtype)
    size = count * dtype.itemsize
    if size < LEAST:
        return np.empty(count, dtype)
    return np.asarray(_Owner(pool, size)).view(dtype)


def zeros(count: int, dtype: DTypeLike, pool: Pool = POOL) -> NDArray[Any]:
    """Return an array of zeros. Clearing memory that is kept takes less than fetching pages from the system."""
    array = empty(count, dtype, pool)
    array.fill(0)
    return array


def free_memory() -> int:
    """Return the memory that is kept for the next call to the system; returns the number of bytes.

    After a call, cohortlib keeps its large buffers, so that the next call need not fetch memory from the system anew:
    at most an eighth of the memory that was free at first use, and of `max_memory` where it is set. Call this after the
    last table of a process that goes on with other work.
    """
    size = POOL.size
    POOL.trim(0)
    return size
