"""Report progress to the caller."""

from collections.abc import Callable
from threading import Lock
from typing import TypeAlias

from cohortlib.errors import Arg, SettingError

Progress: TypeAlias = Callable[[int, int], object]


class Meter:
    """Count processed rows over all threads and call `progress` with them; each row is processed twice.

    Reported counts never decrease, also after :meth:`restart`.
    """

    def __init__(self, progress: Progress | None, rows: int) -> None:
        self._progress, self._rows, self._processed, self._reported, self._lock = progress, rows, 0, 0, Lock()

    def restart(self) -> None:
        """Count from zero again."""
        with self._lock:
            self._processed = 0

    def correct(self, rows: int) -> None:
        """Set the number of rows, which was an estimate."""
        with self._lock:
            self._rows = max(rows, self._reported)

    def add(self, rows: int) -> None:
        """Add rows that one of the two passes has processed."""
        if self._progress is not None:
            with self._lock:
                self._processed += rows
                self._reported = max(self._reported, min(self._processed // 2, self._rows))
                self._progress(self._reported, self._rows)

    def done(self) -> None:
        """Report that all rows are done, dropped rows included."""
        if self._progress is not None:
            self._progress(self._rows, self._rows)


def check_progress(progress: object) -> None:
    """Raise SettingError if `progress` cannot be called."""
    if progress is not None and not callable(progress):
        what = (Arg("progress", progress), " cannot be called")
        raise SettingError(what, value=progress, expected="a function of two numbers")
