"""Net the rows of each user by period, one group of users at a time, on several threads."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.buffers import empty, zeros
from cohortlib.engine.kernels.partition import UserTable
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import run_workers
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.users import NarrowIds, Users
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.joined import JoinedFit
from cohortlib.transactions.kernels import counters
from cohortlib.transactions.kernels.add import PartitionUsers, add_users
from cohortlib.transactions.kernels.group import Grouped, PartitionRows, Timeline, group_by_user
from cohortlib.transactions.kernels.net import NO_SUMS, NetRules, UserCells, net
from cohortlib.transactions.records import Records
from cohortlib.transactions.settings import Settings

_Result = TypeVar("_Result")

GROUP_ROWS = 1 << 15  # rows that a thread nets at a time
_RANGES = 16  # ranges of packed records for each thread: the last ones take a sixteenth of the time, or less
_SPARSE = 4  # keys per row, in an index by key
_INDEXED_SUMS = 5 << 14  # most sums of all keys and periods in one array: 640 kB of a second-level cache
_SHORT_SUMS = 1 << 25  # most sums (users × periods) in one array; pages of it that are not used cost no memory


class Workspace:
    """Buffers of one thread, to net groups of up to `rows` rows."""

    def __init__(self, rows: int, settings: Settings, grid: Grid, sums: Histogram | None) -> None:
        span = grid.span
        short = span <= 64 and rows * span <= _SHORT_SUMS
        self.grouped = Grouped(
            empty(rows, np.uint32),
            empty(rows, np.int32),
            short,
            np.zeros(rows * span if short else span, np.int64),
            np.zeros(rows if short else span // 64 + 1, np.uint64),
            empty(rows, np.int64),
            empty(rows, np.int32),
            empty(rows, np.int64),
        )
        self._cells = UserCells(
            empty(rows, np.int32),
            empty(rows + 1, np.int64),
            empty(rows, np.int32),
            empty(rows, np.bool_),
            empty(rows, np.int64),
        )
        self._rules = NetRules(span, settings.refunds == "signed", settings.before_joined == "clip")
        # Without joined cohorts, users are added to the sums while they are netted.
        self._adds_directly = sums is not None and settings.joined is None
        self._sums = sums
        self._sum_arrays = sums.arrays if sums is not None and self._adds_directly else NO_SUMS

    def net(self, count: int, tally: Ints) -> Activity:
        """Net the users that a kernel has written to the buffers; the result is valid until the next call."""
        users, cells = net(count, self.grouped, self._rules, tally, self._sum_arrays, self._cells)
        cohort, start, period, active, amount = self._cells
        netted = Activity(
            cohort[:users], self.grouped.row[:users], start[: users + 1],
            period[:cells], active[:cells], amount[:cells],
        )  # fmt: skip
        if self._sums is not None and not self._adds_directly:
            self._sums.add(netted)
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

        return reduce(operator.iadd, self.run(work, workers))

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


def partition_users(records: Records, span: int) -> PartitionUsers:
    """Return buffers of one thread, to add the users of packed records."""
    rows = int(records.sizes.max())
    form = records.form
    keys = 1 << form.key_bits
    # An index by key beats a hash table as long as it is not much larger.
    direct = not form.wide and keys * records.sizes.size <= _SPARSE * int(records.sizes.sum())
    indexed = direct and span <= 64 and keys * span <= _INDEXED_SUMS
    users = keys if indexed else min(rows, keys) if direct else rows
    short = span <= 64 and users * span <= _SHORT_SUMS
    hashed = 0 if direct else users
    by_row = 0 if short else rows
    return PartitionUsers(
        direct,
        indexed,
        short,
        empty(keys if direct else 1 << (2 * rows).bit_length(), np.int32),
        empty(hashed, np.uint64),
        empty(hashed, np.uint64),
        zeros(users * span if short else span, np.int64),
        np.zeros(users if short else span // 64 + 1, np.uint64),
        empty(0 if short else max(users, keys if direct else 0), np.int64),
        empty(0 if direct else by_row, np.int32),
        empty(by_row, np.uint64),
        empty(min(by_row, span), np.int64),
        empty(min(by_row, span), np.int64),
    )


def timeline(settings: Settings, grid: Grid, days: tuple[int, int], counted_from: int = 0) -> Timeline:
    """Return the periods of the first to the last of `days`, which kernels count from the day `counted_from`."""
    ordinals = settings.calendar.ordinals(np.arange(days[0], days[1] + 1, dtype=np.int64))
    above = 0 if settings.refunds == "drop" else np.iinfo(np.int64).min
    return Timeline((ordinals - grid.origin).astype(np.int32), days[0] - counted_from, grid.span, above)


class RecordsNetting(Netting):
    """Net records in memory, by ranges of partitions."""

    def __init__(
        self, settings: Settings, grid: Grid, meter: Meter, records: Records, users: list[Users] | NarrowIds
    ) -> None:
        super().__init__(settings, grid, meter)
        self._records, self._users = records, users
        self._groups = records.groups(GROUP_ROWS)
        self._timeline = timeline(settings, grid, (records.first, records.last), records.form.first_day)

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
        if isinstance(self._users, NarrowIds):
            raise ValueError("packed records have no row numbers")
        series = [users.series.alias("") for users in self._users]
        return pl.concat(series) if len(series) > 1 else series[0]

    def net_groups(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Group the records of each range of partitions by user, and net them."""
        for group, activity, _ in self._net_with_keys(groups, sums):
            yield group, activity

    def _net_with_keys(
        self, groups: Iterator[int], sums: Histogram | None = None
    ) -> Iterator[tuple[int, Activity, Keys]]:
        """Net groups as `net_groups`, with the keys of the users that have been grouped."""
        records, tally = self._records, self.new_tally()
        most = max(int(records.sizes[part:end].sum()) for part, end in self._groups)
        rows = int(records.sizes.max())
        workspace = Workspace(most, self.settings, self.grid, sums)
        slots = empty(1 << (2 * rows).bit_length(), np.int32)
        users = UserTable(slots, empty(most, np.uint64), empty(most, np.uint64))
        buffer = PartitionRows(empty(rows, np.int32), empty(rows, np.int32), empty(rows, np.int64))
        for group in groups:
            part, end = self._groups[group]
            count = group_by_user(
                part, end, records.arrays, records.form, self._timeline, users, buffer, workspace.grouped, tally
            )
            yield group, workspace.net(count, tally), users.keys
            self.meter.add(int(records.sizes[part:end].sum()))

    def sum_up(self, kept: NDArray[np.bool_], workers: int) -> Histogram:
        """Net the users of packed records partition by partition; others by group."""
        if not self._records.form.packed:
            return super().sum_up(kept, workers)
        records, signed = self._records, self.settings.refunds == "signed"
        # A few large ranges of partitions for each thread: a call takes as long as netting a thousand rows.
        ranges = records.groups(max(GROUP_ROWS, int(records.sizes.sum()) // (_RANGES * workers)))

        def work(numbers: Iterator[int]) -> Histogram:
            sums, users = Histogram.zeros(self.grid.span, kept), partition_users(records, self.grid.span)
            for number in numbers:
                part, end = ranges[number]
                add_users(part, end, records.arrays, records.form, self._timeline, signed, users, sums.arrays)
                self.meter.add(int(records.sizes[part:end].sum()))
            return sums

        return reduce(operator.iadd, run_workers(len(ranges), workers, work))

    def all_users(self, workers: int) -> tuple[Activity, pl.Series]:
        """Net all users, in the order of the partitions. The ids of packed records are found from their keys."""
        packed = self._records.form.packed

        def work(groups: Iterator[int]) -> dict[int, tuple[Activity, Keys]]:
            return {
                group: (users.copy(), keys[users.row if packed else slice(0)])
                for group, users, keys in self._net_with_keys(groups)
            }

        by_group: dict[int, tuple[Activity, Keys]] = reduce(operator.or_, self.run(work, workers))
        activities, keys = zip(*(by_group[group] for group in sorted(by_group)), strict=True)
        users = Activity.concat(list(activities))
        if not isinstance(self._users, NarrowIds):
            return users, self._user_ids
        ids = self._users.of(np.concatenate(keys))
        return replace(users, row=np.arange(users.row.size, dtype=np.uint32)), ids
