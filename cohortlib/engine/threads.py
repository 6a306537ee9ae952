"""Run work on threads."""

import os
import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from cohortlib.errors import Arg, SettingError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_AHEAD = 4  # items per worker that are submitted before the first result is taken


def workers_for(threads: int | None) -> int:
    """Check the setting `threads` and return the number of threads; None means all that the process may use."""
    if threads is not None and (type(threads) is not int or threads < 1):
        what = (Arg("threads", threads), " is not a number of threads")
        raise SettingError(what, value=threads, expected="1 or more, or None")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads or available


def map_ordered(
    workers: int, work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: float = _AHEAD
) -> Generator[_Result, None, None]:
    """Call `work` for each item on threads and yield the results in order.

    Takes only a few items in advance: `ahead` for each worker. A generator that is closed early does not wait for its
    threads. The garbage collector can close it, in any thread: also in one that just starts, and holds a lock of
    :mod:`threading` without which no thread can be joined.
    """
    if workers == 1:
        yield from map(work, items)
        return
    pending: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    closed = False
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except GeneratorExit:
        closed = True
        raise
    finally:
        pool.shutdown(wait=not closed, cancel_futures=closed)


def on_threads(workers: int, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Call `work` for each item on threads and return the results in order."""
    return list(map_ordered(1 if len(items) == 1 else workers, work, items))


def run_workers(count: int, workers: int, work: Callable[[Iterator[int]], _Result]) -> list[_Result]:
    """Call `work` once per worker, with an iterator over the partitions; each of `count` goes to one worker."""
    partitions = queue.SimpleQueue[int]()
    for p in range(count):
        partitions.put(p)

    def take() -> Iterator[int]:
        with suppress(queue.Empty):
            while True:
                yield partitions.get_nowait()

    return on_threads(workers, lambda _: work(take()), range(min(workers, count)))
