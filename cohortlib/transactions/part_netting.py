"""Net the rows of parts, on disk or in memory."""

import operator
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.progress import Meter
from cohortlib.read.arrays import read_only
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.joined import COHORT, JoinedCohorts
from cohortlib.transactions.kernels.counters import CONFLICTS, EARLY_ROW
from cohortlib.transactions.kernels.group import DatedRows, gather_grouped
from cohortlib.transactions.netting import GROUP_ROWS, Netting, Workspace, timeline
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.parts import DAY, KEY, KEY2, SIZE, UNITS, USER, FilteredStore, Part


class _LoadedPart(NamedTuple):
    """A part, the joined cohort of each user (or −1), and the mask of the rows that pass the filter."""

    part: Part
    joined: NDArray[np.int32]
    mask: NDArray[np.bool_]


class PartsNetting(Netting):
    """Net parts, one after the other; `days` are the first and the last day of their rows."""

    def __init__(
        self, settings: Settings, grid: Grid, meter: Meter, store: FilteredStore, days: tuple[int, int],
        joined: JoinedCohorts | None = None,
    ) -> None:  # fmt: skip
        super().__init__(settings, grid, meter)
        self._store, self._joined = store, joined
        self._first_day = days[0]
        self._timeline = timeline(settings, grid, days)
        self._early_users: list[str] = []
        self._last_days: list[int] = []

    @property
    def final_day(self) -> int | None:
        """The last day of the netted rows that passed the filter."""
        return max(self._last_days, default=None)

    @property
    def count(self) -> int:
        """Number of parts, plus a last group for joined users whose keys are in the range of no part."""
        return self._store.count + (self._joined is not None)

    @property
    def parts(self) -> int:
        """Number of parts."""
        return self.count

    def example_user(self, counter: int) -> str:
        """Return the first such user, compared as text."""
        if counter == EARLY_ROW or self._joined is None:
            return min(self._early_users)
        return self._joined.conflicting_user

    def net_groups(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Net parts, a slice of users at a time."""
        for group in groups:
            for activity in self._net(self._load(group, keep_users=self._joined is not None), sums):
                yield group, activity
            self._count_rows(group)

    def all_users(self, workers: int) -> tuple[Activity, pl.Series]:
        """Net all users, in the order of the parts."""

        def work(groups: Iterator[int]) -> dict[int, tuple[Activity, pl.Series]]:
            return {group: self.part_users(group, 1) for group in groups}

        by_part: dict[int, tuple[Activity, pl.Series]] = reduce(operator.or_, self.run(work, workers))
        activities, user_ids = zip(*(by_part[part] for part in sorted(by_part)), strict=True)
        users = Activity.concat(list(activities))
        return replace(users, row=np.arange(users.row.size, dtype=np.uint32)), pl.concat(user_ids)

    def part_users(self, part: int, workers: int) -> tuple[Activity, pl.Series]:
        """Net the users of one part, and return them with their ids."""
        loaded = self._load(part, keep_users=True)
        slices = [activity.copy() for activity in self._net(loaded, None)]
        users = Activity.concat(slices or [Activity.empty()])
        user_ids = loaded.part.users[USER][users.row]
        self._count_rows(part)
        return replace(users, row=np.arange(users.row.size, dtype=np.uint32)), user_ids

    def finish(self) -> None:
        """Count joined rows with conflicting cohorts, too."""
        if self._joined is not None:
            self.new_tally()[CONFLICTS] = self._joined.conflicts
        super().finish()

    def _count_rows(self, group: int) -> None:
        if group < self._store.count:
            self.meter.add(self._store.size(group))

    def _load(self, group: int, *, keep_users: bool) -> _LoadedPart:
        """Load a part with the joined users in its key range; the last group has the joined users in no range."""
        if self._joined is None:
            part = self._store.load(group, users=[USER] * keep_users, rows=self._store.filter_columns)
            return _LoadedPart(part, np.empty(0, np.int32), self._store.filter_mask(part.rows))
        key_columns = [KEY, KEY2] if self._store.text else [KEY]
        joined = self._joined_in(group)
        no_rows = pl.lit(0, pl.UInt32).alias(SIZE)
        if group == self._store.count:
            part_users = joined.select(*key_columns, USER).with_columns(no_rows)
            part = Part.of(part_users.clear(), pl.DataFrame(schema={DAY: pl.Int32, UNITS: pl.Int64}))
            mask = np.empty(0, np.bool_)
        else:
            part = self._store.load(group, users=[*key_columns, USER], rows=self._store.filter_columns)
            mask = self._store.filter_mask(part.rows)
        part_users = part.users.select(*key_columns, USER, SIZE)
        with_cohort = part_users.join(joined.drop(USER), on=key_columns, how="left", maintain_order="left")
        without_rows = joined.join(part_users, on=key_columns, how="anti").with_columns(no_rows)
        users = pl.concat([with_cohort, without_rows.select(with_cohort.columns)])
        ranges = part.ranges
        ends = np.append(ranges.ends, np.full(without_rows.height, ranges.sizes.size, np.int64))
        cohorts = users[COHORT].fill_null(-1).to_numpy()
        return _LoadedPart(Part(users, part.rows, replace(ranges, ends=ends)), cohorts, mask)

    def _joined_in(self, group: int) -> pl.DataFrame:
        """Return the joined users in the key range of a part; for the last group, those in no range."""
        joined = self._joined.users if self._joined is not None else pl.DataFrame()
        if group < self._store.count:
            return joined.filter(pl.col(KEY).is_between(*self._store.key_ranges[group]))
        if not self._store.count:
            return joined
        lows, highs = (np.array(ends, np.uint64) for ends in zip(*self._store.key_ranges, strict=True))
        key = joined[KEY].to_numpy()
        before = np.searchsorted(lows, key, side="right") - 1
        return joined.filter((before < 0) | (key > highs[np.maximum(before, 0)]))

    def _net(self, loaded: _LoadedPart, sums: Histogram | None) -> Iterator[Activity]:
        """Net the users of a part, a slice at a time; a result is valid until the next one."""
        part, joined, mask = loaded
        tally = self.new_tally()
        ranges = part.ranges
        days, units = (read_only(part.rows[name].to_numpy()) for name in (DAY, UNITS))
        if mask.any():
            self._last_days.append(int(days.max(where=mask, initial=self._first_day)))
        # A slice ends before the user with whom it would exceed GROUP_ROWS rows or users.
        weights = np.maximum(np.diff(ranges.cumulative_rows(), prepend=0), 1)
        until = np.cumsum(weights)
        bounds = np.unique(
            np.append(np.searchsorted(until, np.arange(0, until[-1] if until.size else 0, GROUP_ROWS)), until.size)
        )
        most = int(np.diff(np.append(0, until)[bounds]).max(initial=1))
        workspace = Workspace(most, self.settings, self.grid, sums)
        rows = DatedRows(days, units, read_only(mask))
        for user, end in pairwise(bounds.tolist()):
            count = gather_grouped(user, end, ranges.arrays, read_only(joined), rows, self._timeline, workspace.grouped)
            yield workspace.net(count, tally)
        if tally[EARLY_ROW]:
            self._early_users.append(str(part.users[USER][int(tally[EARLY_ROW]) - 1]))
