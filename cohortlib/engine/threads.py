"""Run work on threads."""

import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from cohortlib.errors import SettingError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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
