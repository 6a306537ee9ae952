"""Find runs of days whose sums equal the differences of calendar periods."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.periods import Calendar
from cohortlib.read.arrays import Ints

Floats = NDArray[np.float64]
_LONGEST_RUN = 31  # days
_MAX_SUMS = 20_000_000  # sums of windows of days by period; longer runs are not tried beyond it
_BEST_PER_LENGTH = 8  # runs


@dataclass(frozen=True)
class DayCalendar:
    """Consecutive days and their periods."""

    days: Ints
    calendar: Calendar

    @cached_property
    def periods(self) -> Ints:
        """The ordinal of each day's period."""
        return self.calendar.ordinals(self.days)

    def indices(self, days: pl.Series) -> Ints:
        """Return the index of each date."""
        indices: Ints = days.cast(pl.Int32).to_numpy().astype(np.int64) - self.days[0]
        return indices

    def runs(self, amounts: Floats, ordinals: Ints, differences: Floats) -> list[tuple[int, int]]:
        """Find runs of days, as first and last index, that reduce the differences when their amounts are subtracted.

        Parameters
        ----------
        amounts
            The sum of each day.
        ordinals, differences
            Periods, and the difference of each.

        Returns
        -------
        list of tuple
            The best few runs of each length.
        """
        count = self.days.size
        starts = np.clip(self.calendar.first_days(ordinals) - self.days[0], 0, count)
        ends = np.clip(self.calendar.first_days(ordinals + 1) - self.days[0], 0, count)
        cumulative = np.concatenate([[0.0], np.cumsum(amounts)])
        longest = max(1, min(_LONGEST_RUN, count, _MAX_SUMS // max(1, count * ordinals.size)))
        runs: list[tuple[int, int]] = []
        begin = np.arange(count)
        for length in range(1, longest + 1):
            end = begin + length
            sums = cumulative[np.clip(end[:, None], starts, ends)] - cumulative[np.clip(begin[:, None], starts, ends)]
            change = (np.abs(differences - sums) - np.abs(differences)).sum(axis=1)[: count - length + 1]
            best = np.argsort(change, kind="stable")[:_BEST_PER_LENGTH]
            runs += [(int(index), int(index) + length - 1) for index in best if change[index] < 0]
        return runs
