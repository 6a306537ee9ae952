"""Refuse to work in a forked process in which polars waits for threads that exist in its parent alone."""

import os
import sys
from pathlib import Path

from cohortlib.errors import CohortlibError


class _Forks:
    """What is known about this process: whether it used polars, and was forked from one that did."""

    has_run = False
    without_threads = False
    parent_has_threads = False


def check_fork() -> None:
    """Raise CohortlibError in a process forked from one that has threads of polars: a call would never return."""
    if _Forks.without_threads:
        raise CohortlibError(
            "this process was forked from one that used polars, whose threads it lacks, so the call would never return",
            expected="a process that was started anew",
            hint="multiprocessing.get_context('spawn') or ('forkserver'), or threads: cohortlib runs on several itself",
        )
    _Forks.has_run = True


def _has_threads() -> bool:
    """Return whether polars has started threads; where they cannot be listed, whether a call has used it."""
    if "polars" not in sys.modules:
        return False
    try:
        names = [(thread / "comm").read_bytes() for thread in Path("/proc/self/task").iterdir()]
    except OSError:
        return _Forks.has_run
    return any(name.startswith((b"polars-0", b"async-executor", b"tokio")) for name in names)


def _before() -> None:
    _Forks.parent_has_threads = _has_threads()


def _in_child() -> None:
    _Forks.without_threads |= _Forks.parent_has_threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
