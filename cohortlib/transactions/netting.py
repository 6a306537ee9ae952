"""Net the rows of each user by period, one group of users at a time, on several threads."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import reduce
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.buffers import empty
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import run_workers
from cohortlib.read.arrays import Ints
from cohortlib.read.users import Users
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.joined import JoinedFit
from cohortlib.transactions.kernels import counters
from cohortlib.transactions.kernels.group import group_by_user
from cohortlib.transactions.kernels.net import net
from cohortlib.transactions.records import Records
from cohortlib.transactions.settings import Settings

_Result = TypeVar("_Result")

GROUP_ROWS = 1 << 15  # rows that a thread nets at a time
_SHORT_SUMS = 1 << 25  # most sums (users × periods) in one array; pages of it that are not used cost no memory


class Workspace:
    """Buffers of one thread, to net groups of up to `rows` rows."""

    def __init__(self, rows: int, settings: Settings, grid: Grid, sums: Histogram | None) -> None:
        span = grid.span
        self.span = span
        self.settings = settings
        self.above = 0 if settings.refunds == "drop" else np.iinfo(np.int64).min
        self.short = span <= 64 and rows * span <= _SHORT_SUMS
        self.row, self.joined = empty(rows, np.uint32), empty(rows, np.int32)
        self.ends = empty(rows, np.int64)
        self.periods, self.units = empty(rows, np.int32), empty(rows, np.int64)
        self.totals = np.zeros(rows * span if self.short else span, np.int64)
        self.words = np.zeros(rows if self.short else span // 64 + 1, np.uint64)
        self.cohort, self.start = empty(rows, np.int32), empty(rows + 1, np.int64)
        self.period, self.active = empty(rows, np.int32), empty(rows, np.bool_)
        self.amount = empty(rows, np.int64)
        # Without joined cohorts, users are added to the sums while they are netted.
        self.adds_directly = sums is not None and settings.joined is None
        self.sums = sums
        self.sum_arrays = sums.arrays if sums is not None and self.adds_directly else (np.empty(0, np.int64),) * 4

    def net(self, count: int, tally: Ints) -> Activity:
        """Net the users that a kernel has written to the buffers; the result is valid until the next call."""
        users, cells = net(
            count, self.row, self.joined, self.ends, self.periods, self.units,
            self.span, self.short, self.settings.refunds == "signed", self.settings.before_joined == "clip",
            tally, self.totals, self.words, *self.sum_arrays,
            self.cohort, self.start, self.period, self.active, self.amount,
        )  # fmt: skip
        netted = Activity(
            self.cohort[:users], self.row[:users], self.start[: users + 1],
            self.period[:cells], self.active[:cells], self.amount[:cells],
        )  # fmt: skip
        if self.sums is not None and not self.adds_directly:
            self.sums.add(netted)
        return netted


class Netting(ABC):
    """The rows of all users, in groups of users that can be netted independently."""

    def __init__(self, settings: Settings, grid: Grid, meter: Meter) -> None:
        self.settings, self.grid, self.meter = settings, grid, meter
        self.tallies: list[Ints] = []

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of groups."""

    @abstractmethod
    def net_groups(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Net groups one after the other, and add the users to `sums`; a result is valid until the next one."""

    @abstractmethod
    def all_users(self, workers: int) -> tuple[Activity, pl.Series]:
        """Net all users; return them with the column that has the ids of their rows."""

    @property
    def parts(self) -> int:
        """Number of parts, of disjoint users, that `part_users` can return."""
        return 1

    @property
    def final_day(self) -> int | None:
        """The last day of the netted rows that passed a filter; None without a filter."""
        return None

    def part_users(self, part: int, workers: int) -> tuple[Activity, pl.Series]:
        """Net the users of one part; otherwise as `all_users`."""
        return self.all_users(workers)

    @abstractmethod
    def example_user(self, counter: int) -> str:
        """Return a user for an error message: the one at EARLY_ROW or CONFLICT_ROW in the tallies."""

    def new_tally(self) -> Ints:
        """Return zeroed counters for one thread: see ``kernels.counters``."""
        tally = np.zeros(counters.COUNTERS, np.int64)
        self.tallies.append(tally)
        return tally

    def run(self, work: Callable[[Iterator[int]], _Result], workers: int) -> list[_Result]:
        """Run `work` on threads; each takes groups from the iterator until none are left."""
        self.tallies.clear()
        return run_workers(self.count, workers, work)

    def sum_up(self, kept: NDArray[np.bool_], workers: int) -> Histogram:
        """Net all users and add them up; `kept` marks the cohorts that have cells."""

        def work(groups: Iterator[int]) -> Histogram:
            sums = Histogram.zeros(self.grid.span, kept)
            for _ in self.net_groups(groups, sums):
                pass
            return sums

        return reduce(operator.add, self.run(work, workers))

    def finish(self) -> None:
        """After all groups: check how the joined table fits, and complete the progress."""
        if self.settings.joined is not None:
            self.fit().check(self.settings.before_joined)
        self.meter.done()

    def fit(self) -> JoinedFit:
        """Return how the joined table fits the netted rows."""
        early, late, conflicts, unlisted, listed = np.sum(self.tallies, axis=0)[: counters.LISTED + 1].tolist()
        user = None
        if conflicts:
            user = self.example_user(counters.CONFLICT_ROW)
        elif early and self.settings.before_joined == "error":
            user = self.example_user(counters.EARLY_ROW)
        return JoinedFit(early, late, conflicts, unlisted, listed, user)


class RecordsNetting(Netting):
    """Net records in memory, by ranges of partitions."""

    def __init__(self, settings: Settings, grid: Grid, meter: Meter, records: Records, users: list[Users]) -> None:
        super().__init__(settings, grid, meter)
        self._records, self._users = records, users
        self._groups = records.groups(GROUP_ROWS)
        days = np.arange(records.first, records.last + 1, dtype=np.int64)
        self._table = (settings.calendar.ordinals(days) - grid.origin).astype(np.int32)

    @property
    def count(self) -> int:
        """Number of ranges of partitions."""
        return len(self._groups)

    def example_user(self, counter: int) -> str:
        """Return the user of the first row that was written."""
        row = min(int(tally[counter]) for tally in self.tallies if tally[counter]) - 1
        return str(Users(self._user_ids).text(np.array([row], np.uint32))[0])

    @property
    def _user_ids(self) -> pl.Series:
        """The users of all rows, in the order in which rows were written."""
        series = [users.series.alias("") for users in self._users]
        return pl.concat(series) if len(series) > 1 else series[0]

    def net_groups(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Group the records of each range of partitions by user, and net them."""
        records, span, tally = self._records, self.grid.span, self.new_tally()
        most = max(int(records.sizes[part:end].sum()) for part, end in self._groups)
        rows = int(records.sizes.max())
        buffers = Workspace(most, self.settings, self.grid, sums)
        slots = empty(1 << (2 * rows).bit_length(), np.int32)
        codes, row_periods, row_units = empty(rows, np.int32), empty(rows, np.int32), empty(rows, np.int64)
        users, users2 = empty(most, np.uint64), empty(most, np.uint64)
        for group in groups:
            part, end = self._groups[group]
            count = group_by_user(
                part, end, records.arrays, records.form, self._table,
                np.int64(records.first - records.form.first_day), span, span - 1, buffers.above, buffers.short,
                slots, codes, row_periods, row_units, users, users2, buffers.row, buffers.joined,
                buffers.ends, buffers.periods, buffers.units, buffers.totals, buffers.words, tally,
            )  # fmt: skip
            yield group, buffers.net(count, tally)
            self.meter.add(int(records.sizes[part:end].sum()))

    def all_users(self, workers: int) -> tuple[Activity, pl.Series]:
        """Net all users, in the order of the partitions."""

        def work(groups: Iterator[int]) -> dict[int, Activity]:
            return {group: users.copy() for group, users in self.net_groups(groups)}

        by_group: dict[int, Activity] = reduce(operator.or_, self.run(work, workers))
        return Activity.concat([by_group[group] for group in sorted(by_group)]), self._user_ids
