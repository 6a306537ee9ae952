"""Loaded rows: the rows of all users, ready to be netted on a grid of periods."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import polars as pl

from cohortlib.read.nulls import Dropped
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.grid import EMPTY_GRID, Grid
from cohortlib.transactions.netting import Netting
from cohortlib.transactions.settings import Settings

_Result = TypeVar("_Result")

_SUMS_BYTES = 1 << 29  # for the sums of all threads; beyond this, cohorts are counted first


@dataclass(frozen=True)
class LoadedRows:
    """The rows of all users, and the grid they are placed on; its span is 0 if there is nothing to place.

    With `filter_deferred`, the filter of a prepared form is applied during netting, which saves a pass over the rows.
    Then the grid covers the rows before the filter, `last_day` is that of dropped rows alone, `first_day` is None, and
    `final_day` is known after netting.
    """

    settings: Settings
    last_day: int | None  # local day of the last row, including dropped rows; None without rows
    magnitude: int = 0  # Σ |units|
    grid: Grid = EMPTY_GRID
    netting: Netting | None = None  # the rows, ready to be netted; None if there is nothing to place
    dropped: Dropped = field(default_factory=Dropped)  # for a prepared form, counts before its filter
    first_day: int | None = None  # local day of the first row that was not dropped
    filter_deferred: bool = False
    caller_checks_fit: bool = False  # Spark reports how a joined table fits once, for all partitions

    @property
    def span(self) -> int:
        """Number of periods; 0 if there is nothing to place."""
        return self.grid.span

    @property
    def first(self) -> int:
        """The first period with cohorts to show."""
        return self.grid.first

    @property
    def last(self) -> int:
        """The ordinal of the right edge."""
        return self.grid.origin + self.grid.span - 1

    @property
    def labels(self) -> pl.Series:
        """The labels of the periods."""
        return self.grid.labels(self.settings.calendar)

    @property
    def parts(self) -> int:
        """Number of parts, of disjoint users, that :meth:`activity` can return one by one."""
        return 0 if self.netting is None else self.netting.parts

    @property
    def final_day(self) -> int | None:
        """Local day of the last row; with `filter_deferred` only after netting."""
        if not self.filter_deferred:
            return self.last_day
        return max((day for day in (self._placed.final_day, self.last_day) if day is not None), default=None)

    @property
    def _placed(self) -> Netting:
        if self.netting is None:
            raise ValueError("there are no rows to net")
        return self.netting

    def sums(self) -> Histogram:
        """Net all users and add them up by cohort and age."""
        kept = np.arange(self.span) >= self.first
        workers = self.settings.workers
        cells = 8 * self.span * (self.span + 1)
        if cells * workers > _SUMS_BYTES:
            # A cell for each cohort and age would take too much memory: count cohorts first, then make their cells.
            kept &= self._placed.sum_up(np.zeros(self.span, np.bool_), workers).size > 0
            cells = 16 * int((self.span - np.flatnonzero(kept)).sum())
            workers = min(workers, max(1, _SUMS_BYTES // max(cells, 1)))
        sums = self._placed.sum_up(kept, workers)
        self.finish()
        return sums

    def map_groups(self, work: Callable[[Iterator[Activity]], _Result]) -> list[_Result]:
        """Net all users on threads, and return the results of the threads.

        `work` takes the groups of users that its thread nets; each is valid until the next one.
        """
        netting = self._placed
        results = netting.run(
            lambda groups: work(users for _, users in netting.net_groups(groups)), self.settings.workers
        )
        self.finish()
        return results

    def activity(self, part: int | None = None) -> tuple[Activity, pl.Series]:
        """Net all users, cohorts before `first` included, and return a column of users that they have a row in.

        With `part`, only the users of that part; after the last part, call :meth:`finish`.
        """
        if part is not None:
            return self._placed.part_users(part, self.settings.workers)
        users = self._placed.all_users(self.settings.workers)
        self.finish()
        return users

    def finish(self) -> None:
        """Report how a joined table fits, unless the caller does; complete the progress."""
        if not self.caller_checks_fit:
            self._placed.finish()
