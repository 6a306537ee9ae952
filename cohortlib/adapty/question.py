"""What is asked of the rows: the request, what it leaves open, and the segments that follow from both."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cohortlib.adapty import filters
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.request import Request
from cohortlib.engine.progress import Progress
from cohortlib.literals import Freq
from cohortlib.periods import Calendar, epoch_day
from cohortlib.read.arrays import Ints

_FREQ: dict[str, Freq] = {"day": "D", "week": "W", "month": "M", "quarter": "Q", "year": "A"}


@dataclass(frozen=True)
class Segments:
    """The install periods of a frame, oldest first.

    `first` and `last` are its first and last day, `starts` the first day of each period, `ends` its last day within
    the frame (days since 1970-01-01, int64), and `of_day` the segment of each day of the frame.
    """

    first: int
    last: int
    starts: Ints
    ends: Ints
    of_day: NDArray[np.int32]

    @classmethod
    def of(cls, request: Request, week_start: str) -> "Segments":
        """Cut the days of a frame to periods."""
        first, last = (epoch_day(day) for day in request.date)
        calendar = Calendar(_FREQ[request.period_unit], week_start)
        ordinals = calendar.ordinals(np.arange(first, last + 1, dtype=np.int64))
        periods = np.arange(ordinals[0], ordinals[-1] + 1)
        starts = calendar.first_days(periods)
        ends = np.append(starts[1:] - 1, last)
        return cls(first, last, starts, ends, (ordinals - ordinals[0]).astype(np.int32))

    def __len__(self) -> int:
        return self.starts.size


@dataclass(frozen=True)
class Question:
    """What is asked of the rows: the request, and all that it leaves open."""

    request: Request
    conventions: Conventions
    timezone: str
    decimals: int
    threads: int | None
    progress: Progress | None

    @cached_property
    def segments(self) -> Segments:
        """The segments of the table."""
        return Segments.of(self.request, self.conventions.week_start)

    @property
    def calendar(self) -> Calendar:
        """What cuts days to the segments' periods."""
        return Calendar(_FREQ[self.request.period_unit], self.conventions.week_start)

    @property
    def as_of(self) -> int:
        """The day on which is judged what may still grow."""
        return epoch_day(self.conventions.as_of or self.request.date[1])

    @property
    def restarts(self) -> bool:
        """Whether each product of a chain counts by itself; numbers from the file are left as they are."""
        restart = self.conventions.restart_per_product
        if self.consecutive:
            return False
        return bool(self.request.filters.store_product_id) if restart == "auto" else restart

    @property
    def consecutive(self) -> bool:
        """Whether payments have the number that the file gives them."""
        return self.conventions.period_number == "consecutive" and self.request.period_type == "renewals"

    def wanted(self) -> set[str]:
        """Name the columns of events that are needed beside those that always are."""
        needed = filters.columns(self.request.filters)
        return needed | {"consecutive_payments"} if self.consecutive else needed
