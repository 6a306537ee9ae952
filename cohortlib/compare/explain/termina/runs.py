"""Runs of days, cells and customers in which tables differ."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.periods import Calendar
from cohortlib.read.arrays import Ints

Floats = NDArray[np.float64]
CENT = 0.01
_RUN = 31  # days of the longest run that is looked for
_CELLS = 20_000_000  # windows of days by periods that are looked at
_TRIED = 8  # runs of one length that are looked at closely
NAMED = 5  # customers that words name


def places_of(among: pl.Series, values: pl.Series) -> Ints:
    """Give the place of each value among sorted ones."""
    return np.searchsorted(among.to_numpy(), values.to_numpy())


def some_of(names: list[str]) -> str:
    """Name a few, and count the others."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


@dataclass(frozen=True)
class RunCalendar:
    """Consecutive days, and the period of each."""

    days: Ints
    calendar: Calendar

    @cached_property
    def periods(self) -> Ints:
        """The ordinal of each day's period."""
        return self.calendar.ordinals(self.days)

    def places(self, days: pl.Series) -> Ints:
        """Give the place of each of some days."""
        places: Ints = days.cast(pl.Int32).to_numpy().astype(np.int64) - self.days[0]
        return places

    def runs(self, amounts: Floats, ordinals: Ints, differ: Floats) -> list[tuple[int, int]]:
        """Find runs of days (first and last place) whose sums by period come close to `differ`.

        Of each length the best few; what a run's rows leave of the differences is less than they are.
        """
        count = self.days.size
        starts = np.clip(self.calendar.first_days(ordinals) - self.days[0], 0, count)
        ends = np.clip(self.calendar.first_days(ordinals + 1) - self.days[0], 0, count)
        running = np.concatenate([[0.0], np.cumsum(amounts)])
        longest = max(1, min(_RUN, count, _CELLS // max(1, count * ordinals.size)))
        found: list[tuple[int, int]] = []
        begin = np.arange(count)
        for length in range(1, longest + 1):
            end = begin + length
            theirs = running[np.clip(end[:, None], starts, ends)] - running[np.clip(begin[:, None], starts, ends)]
            rest = (np.abs(differ - theirs) - np.abs(differ)).sum(axis=1)[: count - length + 1]
            best = np.argsort(rest, kind="stable")[:_TRIED]
            found += [(int(place), int(place) + length - 1) for place in best if rest[place] < 0]
        return found


def simplest(low: float, high: float, otherwise: float) -> float:
    """Give the number of the fewest digits within an interval; `otherwise` where the interval is empty.

    >>> simplest(0.9199, 0.92003, 0.92)
    0.92
    """
    if low > high:
        return float(f"{otherwise:.6g}")
    middle = (low + high) / 2
    for digits in range(1, 16):
        short = float(f"{middle:.{digits}g}")
        if low <= short <= high:
            return short
    return middle
