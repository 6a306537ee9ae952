"""Judge whether the data bear a cause out.

A cause is named only if it makes cells agree, if these carry more information than the choice of the cause, and if it
is needed. The rule is one of description length: the shortest story that turns the local table into the remote one
wins. A cell costs the bits that state its remote value to a reader who knows the local one; a cause costs log2 of its
alternatives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

MARGIN = 20.0  # bits by which the cells gained must exceed the choice: a chance of one in a million
HALF = 0.5  # of the cells that differed must agree,
WHOLE_CELLS, WHOLE_SHARE = 10, 0.05  # or all cells of whole cohorts, dates or customers: so many, and this share
LOST = 0.1  # cells that differ anew, at most, per cell gained

Places = Mapping[str, NDArray[np.int64]]
"""For "cohorts", "dates" and "customers" the number of each cell's group."""


def difference_bits(
    differences: Floats, unit: float | Floats, widest: float | Floats = np.inf, usual: float | Floats = 0.0
) -> Floats:
    """Return the bits that state differences: log2 of the numbers of that size, in units.

    Ages are the last axis. A difference that repeats the one of the age before (cumulative values, a cohort's size)
    carries only what is new, so that a number counts once. `widest` is the spread of the values: a number is never
    harder to state than by itself. `usual` is the spread of the differences: one that is smaller by chance could
    have been of that size.

    >>> difference_bits(np.array([[0.0, 3.0, 3.0, 3.5]]), 0.5).round(2).tolist()
    [[0.0, 3.7, 0.0, 1.58]]
    """
    step = np.diff(differences, axis=-1, prepend=0.0)
    size = np.minimum(np.abs(differences), np.abs(step))
    size = np.minimum(np.where(size > 0.5 * unit, np.maximum(size, usual), size), widest)
    return np.asarray(np.log2(1.0 + 2.0 * size / unit))


@dataclass(frozen=True, eq=False)
class Standing:
    """The cells of both tables at the start, compared under a story."""

    agrees: Bools
    bits: Floats  # of each cell that differs; 0 where it agrees, and where its value is derived from other cells
    extra: int = 0  # cells of rows that neither table had at the start and only one has now
    # The cells of rows that only the local table had at the start; they agree once it has them no longer.
    own: Bools | None = None

    @property
    def total(self) -> int:
        """The number of cells."""
        return self.agrees.size + self.extra

    @cached_property
    def agreeing(self) -> int:
        """The number of cells that agree."""
        return int(self.agrees.sum())

    @property
    def differing(self) -> int:
        """The number of cells that differ."""
        return self.total - self.agreeing

    @cached_property
    def remaining(self) -> float:
        """The bits that state all differences."""
        return float(self.bits.sum()) + self.extra


@dataclass(frozen=True)
class Evidence:
    """How well a story stands: cells and bits gained, and the bits of its choice."""

    gained: int
    lost: int
    differed: int
    bits: float  # of the cells gained, less those lost
    cost: float
    whole: int = 0  # cells of whole cohorts, dates or customers that all agree now
    # Of the cells that the remote table has: how many differed, and how many of these agree.
    remote_differed: int = 0
    remote_gained: int = 0
    partial: bool = True  # whether whole cohorts, dates or customers are enough

    @property
    def net(self) -> int:
        """How many more cells agree."""
        return self.gained - self.lost

    @property
    def surplus(self) -> float:
        """The bits that the gain exceeds the choice by."""
        return self.bits - self.cost

    @property
    def covers(self) -> bool:
        """Whether it makes half of the differing cells agree, or whole cohorts, dates or customers."""
        if self.partial and self.whole >= max(WHOLE_CELLS, WHOLE_SHARE * self.differed):
            return True
        # A table without rows has nothing that the remote one lacks: that alone explains nothing.
        return self.net >= HALF * self.differed and self.remote_gained >= HALF * self.remote_differed

    @property
    def passes(self) -> bool:
        """Whether the cause may be named."""
        return self.net > 0 and self.lost <= LOST * self.gained and self.surplus > MARGIN and self.covers

    @property
    def words(self) -> str:
        """How many of the differing cells agree, and if the cause may not be named, why."""
        cells = (
            f"all {self.differed:,} cells" if self.net == self.differed else f"{self.net:,} of {self.differed:,} cells"
        )
        if self.surplus <= MARGIN:
            return f"{cells}: could be chance"
        if self.lost > LOST * self.gained:
            return f"{cells}: {self.lost:,} others no longer agree"
        return cells if self.covers else f"{cells}: too few"


def judge(before: Standing, after: Standing, cost: float, places: Places, *, partial: bool = True) -> Evidence:
    """Judge a story of `cost` bits that turns `before` into `after`.

    Unless `partial`, it has to make half of the cells agree, not just those of whole cohorts, dates or customers.
    """
    gained = after.agrees & ~before.agrees
    lost = before.agrees & ~after.agrees
    extra = max(0, after.extra - before.extra)
    bits = float(before.bits[gained].sum() - np.maximum(after.bits[lost], 1.0).sum()) - extra
    whole = max((_whole(before, after, groups) for groups in places.values()), default=0)
    remote = np.ones(gained.size, np.bool_) if after.own is None else ~after.own
    return Evidence(
        int(gained.sum()), int(lost.sum()) + extra, before.differing, bits, cost, whole,
        int((~before.agrees & remote).sum()), int((gained & remote).sum()), partial,
    )  # fmt: skip


def bears_out(before: Standing, after: Standing, groups: NDArray[np.int64], group: int) -> bool:
    """Check that half of the cells that differed in a group agree."""
    differed = ~before.agrees & (groups == group)
    return int((after.agrees & differed).sum()) >= HALF * int(differed.sum())


def _whole(before: Standing, after: Standing, groups: NDArray[np.int64]) -> int:
    """Count the cells that differed in groups of which all cells agree now."""
    if not groups.size:
        return 0
    there = np.ones(groups.size, np.bool_) if after.own is None else ~after.own
    differed = np.bincount(groups, ~before.agrees)
    # Rows that vanished do not make a group: some of its remote cells have to agree.
    seen = np.bincount(groups, after.agrees & there) > 0
    differs = np.bincount(groups, ~after.agrees)
    return int(differed[(differs == 0) & (seen | (after.own is None))].sum())
