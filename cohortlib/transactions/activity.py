"""Netted activity of users by period, and its sums: the histogram over (cohort, age)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.buffers import zeros
from cohortlib.engine.partitions import check_size
from cohortlib.errors import Arg
from cohortlib.read.arrays import Ints
from cohortlib.transactions.kernels.net import SumArrays, UserCells, histogram

_SMALLER = "a coarser ", Arg("freq"), ", ", Arg("start"), " or ", Arg("end"), "; the first or last date may be wrong"


@dataclass(frozen=True)
class Activity:
    """Users with their cohorts, and the amount of each of their periods.

    User u has the cells ``start[u]`` to ``start[u + 1]``, by period. Periods count from the first of the grid. `row` is
    a row of the user in the column of ids that comes with it.
    """

    cohort: NDArray[np.int32]
    row: NDArray[np.uint32]
    start: Ints
    period: NDArray[np.int32]
    active: NDArray[np.bool_]
    amount: Ints

    @property
    def cells(self) -> UserCells:
        """The arrays that kernels on activity take."""
        return UserCells(self.cohort, self.start, self.period, self.active, self.amount)

    @classmethod
    def empty(cls) -> "Activity":
        """Return the activity of no users."""
        ints = np.empty(0, np.int32)
        return cls(ints, ints.astype(np.uint32), np.zeros(1, np.int64), ints, ints > 0, ints.astype(np.int64))

    def copy(self) -> "Activity":
        """Copy the users out of the buffers that they were netted in."""
        return Activity(
            self.cohort.copy(), self.row.copy(), self.start.copy(),
            self.period.copy(), self.active.copy(), self.amount.copy(),
        )  # fmt: skip

    @classmethod
    def concat(cls, parts: list["Activity"]) -> "Activity":
        """Concatenate the users of disjoint parts."""
        shifts = np.cumsum([0] + [part.period.size for part in parts])
        starts = [part.start[:-1] + shift for part, shift in zip(parts, shifts, strict=False)]
        cohort, row, period, active, amount = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("cohort", "row", "period", "active", "amount")
        )
        return cls(cohort, row, np.concatenate([*starts, shifts[-1:]]).astype(np.int64), period, active, amount)


@dataclass(frozen=True)
class Histogram:
    """Sums over (cohort, age), as integers; the sums of disjoint users add.

    Each period of the grid is a cohort, with one entry in `size` and in `first_amount` (the active amount at age 0).
    Cohort c has one cell per age, from ``offsets[c]`` to ``offsets[c] + span − c``; with a negative offset it has none.
    A cell has two adjacent entries, `active` users and their `amount`, so that an update touches one cache line.
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
    def zeros(cls, span: int, kept: NDArray[np.bool_]) -> "Histogram":
        """Return sums of zero, with cells for the cohorts marked in `kept`."""
        ages = np.where(kept, span - np.arange(span, dtype=np.int64), 0)
        ends = np.cumsum(ages)
        cells = int(ends[-1])
        check_size(cells, _SMALLER)
        offsets = np.where(kept, ends - ages, -1)
        return cls(span, offsets, *(zeros(size, np.int64) for size in (span, span, 2 * cells)))

    def __add__(self, other: "Histogram") -> "Histogram":
        first_amount = self.first_amount + other.first_amount
        return Histogram(self.span, self.offsets, self.size + other.size, first_amount, self.cells + other.cells)

    def __iadd__(self, other: "Histogram") -> "Histogram":
        for total, added in zip(self.arrays[1:], other.arrays[1:], strict=True):
            np.add(total, added, out=total)
        return self

    def shown(self, first: int) -> Ints:
        """Return the cohorts to show: those with users and cells, from period `first` on."""
        return np.flatnonzero((self.size > 0) & (self.offsets >= 0) & (np.arange(self.span) >= first))

    def cells_of(self, shown: Ints) -> tuple[Ints, Ints, Ints]:
        """Return cohort, age and index of all cells of some cohorts, which must have cells."""
        ages = self.span - shown
        ends = np.cumsum(ages)
        age = np.arange(ends[-1] if ends.size else 0, dtype=np.int64) - np.repeat(ends - ages, ages)
        return np.repeat(shown, ages), age, np.repeat(self.offsets[shown], ages) + age

    def cumulative(self) -> Ints:
        """Return the cumulative amount of each cell: the sum over ages up to its own."""
        running = np.cumsum(self.amount)
        cohorts = np.flatnonzero(self.offsets >= 0)
        begins = self.offsets[cohorts]
        return running - np.repeat(running[begins] - self.amount[begins], self.span - cohorts)

    @property
    def arrays(self) -> SumArrays:
        """The arrays that kernels add users to."""
        return SumArrays(self.offsets, self.size, self.cells, self.first_amount)

    def add(self, users: Activity) -> None:
        """Add users in place; only for sums that are not shared."""
        histogram(users.cells, self.arrays)
