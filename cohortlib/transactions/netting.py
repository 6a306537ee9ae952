"""From the rows of every user to the activity of each: a group of users at a time, on threads."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import reduce
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import run_workers
from cohortlib.read.arrays import Ints
from cohortlib.read.users import Users
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.joined import Fit
from cohortlib.transactions.kernels.group import bring_together
from cohortlib.transactions.kernels.net import net
from cohortlib.transactions.records import Form, Records
from cohortlib.transactions.settings import Settings

_Result = TypeVar("_Result")

GROUP = 1 << 15  # rows that a worker nets at a time
_SHORT = 1 << 25  # sums of users by periods that may lie side by side; only those of users who are there are touched


class Bench:
    """What a worker needs to net groups of up to so many rows, and users; and what it counts on the way."""

    def __init__(self, rows: int, settings: Settings, grid: Grid, sums: Histogram | None) -> None:
        span = grid.span
        self.span, self.rows = span, rows
        self.settings = settings
        self.above = 0 if settings.refunds == "drop" else np.iinfo(np.int64).min
        self.short = span <= 64 and rows * span <= _SHORT
        self.row, self.given = np.empty(rows, np.uint32), np.empty(rows, np.int32)
        self.ends, self.periods, self.units = (
            np.empty(rows, np.int64),
            np.empty(rows, np.int32),
            np.empty(rows, np.int64),
        )
        self.totals = np.zeros(rows * span if self.short else span, np.int64)
        self.words = np.zeros(rows if self.short else span // 64 + 1, np.uint64)
        self.cohort, self.start = np.empty(rows, np.int32), np.empty(rows + 1, np.int64)
        self.period, self.active = np.empty(rows, np.int32), np.empty(rows, np.bool_)
        self.amount = np.empty(rows, np.int64)
        # Only where nobody is given a cohort can users be added as they are netted.
        self.at_once = sums is not None and settings.joined is None
        self.sums = sums
        self.added = sums.added_to if sums is not None and self.at_once else (np.empty(0, np.int64),) * 4

    def net(self, count: int, tally: Ints) -> Activity:
        """Net users whose rows have been put together; what is given lasts until the next."""
        kept, cells = net(
            count, self.row, self.given, self.ends, self.periods, self.units,
            self.span, self.short, self.settings.refunds == "signed", self.settings.before_joined == "clip",
            tally, self.totals, self.words, *self.added,
            self.cohort, self.start, self.period, self.active, self.amount,
        )  # fmt: skip
        netted = Activity(
            self.cohort[:kept], self.row[:kept], self.start[: kept + 1],
            self.period[:cells], self.active[:cells], self.amount[:cells],
        )  # fmt: skip
        if self.sums is not None and not self.at_once:
            self.sums.add(netted)
        return netted


class Netting(ABC):
    """The rows of all users, ready to be netted."""

    def __init__(self, settings: Settings, grid: Grid, meter: Meter) -> None:
        self.settings, self.grid, self.meter = settings, grid, meter
        self.tallies: list[Ints] = []

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of groups."""

    @abstractmethod
    def take(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Net groups, one after the other; each part lasts until the next. With `sums` users are added to them."""

    @abstractmethod
    def everybody(self, workers: int) -> tuple[Activity, pl.Series]:
        """Put everybody one after the other; give the column of users in which each has a row."""

    @property
    def parts(self) -> int:
        """Number of parts of disjoint users that can be looked at apart: one, unless there are more."""
        return 1

    @property
    def final_day(self) -> int | None:
        """The last day of the rows that a filter has left in what was netted; None where there is no filter."""
        return None

    def one(self, part: int, workers: int) -> tuple[Activity, pl.Series]:
        """Put the users of one part one after the other, as `everybody` does all."""
        return self.everybody(workers)

    @abstractmethod
    def suspect(self, kind: int) -> str:
        """Name a user whom the tallies count, of those early (5) or those given two cohorts (6)."""

    def tally(self) -> Ints:
        """Count what is met on one thread: see ``kernels.net``."""
        tally = np.zeros(7, np.int64)
        self.tallies.append(tally)
        return tally

    def net(self, work: Callable[[Iterator[int]], _Result], workers: int) -> list[_Result]:
        """Let each worker do its work on the groups that it takes, until all are netted."""
        self.tallies.clear()
        return run_workers(self.count, workers, work)

    def fold(self, kept: NDArray[np.bool_], workers: int) -> Histogram:
        """Add everybody up."""

        def work(groups: Iterator[int]) -> Histogram:
            sums = Histogram.zero(self.grid.span, kept)
            for _ in self.take(groups, sums):
                pass
            return sums

        return reduce(operator.add, self.net(work, workers))

    def end(self) -> None:
        """End, once all groups are netted: say what of the joined table did not fit."""
        if self.settings.joined is not None:
            self.fit().tell(self.settings.before_joined)
        self.meter.done()

    def fit(self) -> Fit:
        """Give what has been met of the joined table."""
        early, late, twice, unlisted, known = np.sum(self.tallies, axis=0)[:5].tolist()
        user = None
        if twice or (early and self.settings.before_joined == "error"):
            user = self.suspect(6 if twice else 5)
        return Fit(early, late, twice, unlisted, known, user)


class RecordsNetting(Netting):
    """Records in memory, by partition of users."""

    def __init__(self, settings: Settings, grid: Grid, meter: Meter, records: Records, users: list[Users]) -> None:
        super().__init__(settings, grid, meter)
        self._records, self._users = records, users
        self._groups = records.groups(GROUP)
        days = np.arange(records.first, records.last + 1, dtype=np.int64)
        self._table = (settings.calendar.ordinals(days) - grid.origin).astype(np.int32)

    @property
    def count(self) -> int:
        """Number of stretches of partitions."""
        return len(self._groups)

    def suspect(self, kind: int) -> str:
        """Name the user of the first such row that was filed."""
        row = min(int(tally[kind]) for tally in self.tallies if tally[kind]) - 1
        return str(Users(self._texts).text(np.array([row], np.uint32))[0])

    @property
    def _texts(self) -> pl.Series:
        """The users of all rows, in the order in which they were filed."""
        series = [users.series.alias("") for users in self._users]
        return pl.concat(series) if len(series) > 1 else series[0]

    def take(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Net stretches of partitions."""
        records, span, tally = self._records, self.grid.span, self.tally()
        most = max(int(records.sizes[part:end].sum()) for part, end in self._groups)
        rows = int(records.sizes.max())
        bench = Bench(most, self.settings, self.grid, sums)
        slots = np.empty(1 << (2 * rows).bit_length(), np.int32)
        codes, row_periods, row_units = np.empty(rows, np.int32), np.empty(rows, np.int32), np.empty(rows, np.int64)
        users, users2 = np.empty(most, np.uint64), np.empty(most, np.uint64)
        form = records.form or Form(0, 0, 0, 0)
        for group in groups:
            part, end = self._groups[group]
            count = bring_together(
                part, end, records.edges, records.pages, records.counts, records.words, records.wide,
                records.form is not None, form.key_bits, form.day_bits, self._table,
                np.int64(records.first - form.first_day),
                span, span - 1, bench.above, bench.short,
                slots, codes, row_periods, row_units, users, users2,
                bench.row, bench.given, bench.ends, bench.periods, bench.units, bench.totals, bench.words, tally,
            )  # fmt: skip
            yield group, bench.net(count, tally)
            self.meter.add(int(records.sizes[part:end].sum()))

    def everybody(self, workers: int) -> tuple[Activity, pl.Series]:
        """Put everybody one after the other, in the order of the partitions."""

        def work(groups: Iterator[int]) -> dict[int, Activity]:
            return {group: users.copy() for group, users in self.take(groups)}

        parts: dict[int, Activity] = reduce(operator.or_, self.net(work, workers))
        return Activity.chained([parts[group] for group in sorted(parts)]), self._texts
