"""The grid of periods that cohorts and ages are laid out on."""

from typing import NamedTuple

import numpy as np
import polars as pl

from cohortlib.periods import Calendar


class Grid(NamedTuple):
    """Consecutive periods: `span` of them, from the ordinal `origin` on.

    The last, ``origin + span − 1``, is the right edge. Cohorts before period `first` (0 is the origin) are not shown.
    """

    origin: int
    span: int
    first: int

    @classmethod
    def between(cls, origin: int, last: int, first: int | None) -> "Grid":
        """Return the periods from `origin` to `last`; cohorts before `first`, if it is set, are not shown."""
        return cls(origin, last - origin + 1, 0 if first is None else max(0, first - origin))

    def labels(self, calendar: Calendar) -> pl.Series:
        """Return the labels of the periods."""
        ordinals = np.arange(self.origin, self.origin + self.span, dtype=np.int64)
        return pl.Series("cohort", calendar.labels(ordinals), dtype=pl.String)


EMPTY_GRID = Grid(0, 0, 0)
