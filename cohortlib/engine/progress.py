"""Report progress to the caller."""

from collections.abc import Callable
from threading import Lock
from typing import TypeAlias

from cohortlib.errors import SettingError

Progress: TypeAlias = Callable[[int, int], object]


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
