"""The grid of periods on which cohorts and ages are laid out."""

from typing import NamedTuple

import numpy as np
import polars as pl

from cohortlib.periods import Calendar


class Grid(NamedTuple):
    """Where users are placed.

    Periods count from the ordinal `origin`; the last, the right edge, is ``origin + span − 1``. Cohorts before the
    period `first` are left out.
    """

    origin: int
    span: int
    first: int

    def labels(self, calendar: Calendar) -> pl.Series:
        """Name the periods."""
        ordinals = np.arange(self.origin, self.origin + self.span, dtype=np.int64)
        return pl.Series("cohort", calendar.labels(ordinals), dtype=pl.String)


NOTHING = Grid(0, 0, 0)
