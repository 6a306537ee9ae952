"""What a request and its settings mean for the rows: segments, calendar, numbering, and the columns to read."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cohortlib.adapty import filters
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.read.event_types import EventTypes
from cohortlib.adapty.read.settings import ISO_RULES, Reading
from cohortlib.adapty.request import Request
from cohortlib.engine.progress import Progress
from cohortlib.literals import Freq
from cohortlib.periods import Calendar, epoch_day
from cohortlib.read.arrays import Ints
from cohortlib.read.tables import DEFAULT_OPTIONS, FileOptions
from cohortlib.read.text import TextRules

_FREQ: dict[str, Freq] = {"day": "D", "week": "W", "month": "M", "quarter": "Q", "year": "A"}


@dataclass(frozen=True)
class Segments:
    """The install periods of a request, oldest first.

    `first` and `last` are the first and last day of the request's date range, `starts` the first day of each period,
    `ends` its last day within the range (days since 1970-01-01, int64), and `of_day` the segment of each day of the
    range.
    """

    first: int
    last: int
    starts: Ints
    ends: Ints
    of_day: NDArray[np.int32]

    @classmethod
    def of(cls, request: Request, calendar: Calendar) -> "Segments":
        """Split the date range of a request into periods of the calendar."""
        first, last = (epoch_day(day) for day in request.date)
        ordinals = calendar.ordinals(np.arange(first, last + 1, dtype=np.int64))
        periods = np.arange(ordinals[0], ordinals[-1] + 1)
        starts = calendar.first_days(periods)
        ends = np.append(starts[1:] - 1, last)
        return cls(first, last, starts, ends, (ordinals - ordinals[0]).astype(np.int32))

    def __len__(self) -> int:
        return self.starts.size


@dataclass(frozen=True)
class RequestPlan:
    """A request, its settings, and what follows from both."""

    request: Request
    conventions: Conventions
    timezone: str
    decimals: int
    threads: int | None
    progress: Progress | None
    event_types: EventTypes = ()
    """Renamed event types and Adapty's names of them."""
    products: tuple[tuple[str, str], ...] = ()
    """Products and their durations."""
    rules: TextRules = ISO_RULES
    """How text is read."""
    files: FileOptions = DEFAULT_OPTIONS
    """How files are opened."""

    @cached_property
    def segments(self) -> Segments:
        """The segments of the table."""
        return Segments.of(self.request, self.calendar)

    @property
    def calendar(self) -> Calendar:
        """The calendar of the segments' periods."""
        return Calendar(_FREQ[self.request.period_unit], self.conventions.week_start)

    @property
    def as_of(self) -> int:
        """The day that decides whether a period is over and a subscription is running."""
        return epoch_day(self.conventions.as_of or self.request.date[1])

    def reading(self, *, installs: bool = False) -> Reading:
        """Return how the columns of events, or of installs, are read."""
        every = self.conventions.after_to == "payments" and not installs
        last_day = None if every else epoch_day(self.request.date[1])
        return Reading(self.rules, self.files, self.timezone, self.decimals, last_day)

    @property
    def restarts(self) -> bool:
        """Whether numbering restarts with each product of a chain; it never does with numbers from the file."""
        restart = self.conventions.restart_per_product
        if self.consecutive:
            return False
        return bool(self.request.filters.store_product_id) if restart == "auto" else restart

    @property
    def consecutive(self) -> bool:
        """Whether payments are numbered by the column consecutive_payments."""
        return self.conventions.period_number == "consecutive" and self.request.period_type == "renewals"

    def optional_columns(self) -> set[str]:
        """List the columns of events that this request needs in addition to those always read."""
        columns = filters.columns(self.request.filters)
        return columns | {"consecutive_payments"} if self.consecutive else columns
