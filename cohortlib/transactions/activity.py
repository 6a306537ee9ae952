"""What users did, period by period, and how it adds up: the histogram of activity over (cohort, age)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.partitions import check_size
from cohortlib.read.arrays import Ints
from cohortlib.transactions.kernels.net import histogram


@dataclass(frozen=True)
class Activity:
    """Users one by one: the cohort of each, and the active amount of each of its periods.

    The cells of user u stand at ``start[u]`` to ``start[u + 1]``, in order. Periods count from the first of the
    grid. `row` is a row in which the user stands (of the transactions, then of the joined table), where asked for.
    """

    cohort: NDArray[np.int32]
    row: NDArray[np.uint32]
    start: Ints
    period: NDArray[np.int32]
    active: NDArray[np.bool_]
    amount: Ints

    @property
    def cells(self) -> tuple[NDArray[Any], ...]:
        """The arrays that every kernel on activity takes."""
        return self.cohort, self.start, self.period, self.active, self.amount

    @classmethod
    def nobody(cls) -> "Activity":
        """Make the activity of nobody."""
        none = np.empty(0, np.int32)
        return cls(none, none.astype(np.uint32), np.zeros(1, np.int64), none, none > 0, none.astype(np.int64))

    def copy(self) -> "Activity":
        """Take the users out of the arrays that they were netted in."""
        return Activity(
            self.cohort.copy(), self.row.copy(), self.start.copy(), *(cells.copy() for cells in self.cells[2:])
        )

    @classmethod
    def chained(cls, parts: list["Activity"]) -> "Activity":
        """Put the users of disjoint parts one after the other."""
        shifts = np.cumsum([0] + [part.period.size for part in parts])
        starts = [part.start[:-1] + shift for part, shift in zip(parts, shifts, strict=False)]
        return cls(
            np.concatenate([part.cohort for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([*starts, shifts[-1:]]).astype(np.int64),
            np.concatenate([part.period for part in parts]),
            np.concatenate([part.active for part in parts]),
            np.concatenate([part.amount for part in parts]),
        )


@dataclass(frozen=True)
class Histogram:
    """The sums over (cohort, age): whole numbers, so tables of disjoint users add.

    A cohort is a row of the grid, now one for each period from the first on; `size` and `first_amount` (the active
    amount at age 0) have one entry each. The cells of cohort c stand at ``offsets[c]`` to ``offsets[c] + span − c``,
    one for each age; a cohort with a negative offset has been left out. A cell has two entries, side by side so that a
    user's activity touches one line of memory: `active` users, and their `amount`.
    """

    span: int
    offsets: Ints
    size: Ints
    first_amount: Ints
    cells: Ints

    @property
    def active(self) -> Ints:
        """Active users of each cell."""
        return self.cells[::2]

    @property
    def amount(self) -> Ints:
        """Σ amount of each cell."""
        return self.cells[1::2]

    @classmethod
    def zero(cls, span: int, kept: NDArray[np.bool_]) -> "Histogram":
        """Make the sums of nobody, with cells for the cohorts `kept`."""
        ages = np.where(kept, span - np.arange(span, dtype=np.int64), 0)
        ends = np.cumsum(ages)
        cells = int(ends[-1])
        check_size(cells, "a coarser freq, start= or end=; or look for a wrong date, the first and the last")
        offsets = np.where(kept, ends - ages, -1)
        return cls(span, offsets, *(np.zeros(size, np.int64) for size in (span, span, 2 * cells)))

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram(
            self.span,
            self.offsets,
            self.size + other.size,
            self.first_amount + other.first_amount,
            self.cells + other.cells,
        )

    def grid(self, first: int) -> tuple[Ints, Ints, Ints]:
        """Give cohort, age and place of every cell to show: of cohorts with users, from the period `first` on."""
        return self.cells_of((self.size > 0) & (self.offsets >= 0) & (np.arange(self.span) >= first))

    def cells_of(self, cohorts: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
        """Give cohort, age and place of every cell of some cohorts, which have cells."""
        shown = np.flatnonzero(cohorts)
        ages = self.span - shown
        ends = np.cumsum(ages)
        age = np.arange(ends[-1] if ends.size else 0, dtype=np.int64) - np.repeat(ends - ages, ages)
        return np.repeat(shown, ages), age, np.repeat(self.offsets[shown], ages) + age

    def cumulative(self) -> Ints:
        """Sum the amount of each cohort over the ages up to each."""
        running = np.cumsum(self.amount)
        made = np.flatnonzero(self.offsets >= 0)
        places = self.offsets[made]
        return running - np.repeat(running[places] - self.amount[places], self.span - made)

    @property
    def added_to(self) -> tuple[Ints, ...]:
        """The arrays that every kernel which adds users takes."""
        return self.offsets, self.size, self.cells, self.first_amount

    def add(self, users: Activity) -> None:
        """Add users in place; for the owner of fresh sums alone."""
        histogram(*users.cells, *self.added_to)
