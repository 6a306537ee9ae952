"""Net the rows of parts on disk or in memory."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.progress import Meter
from cohortlib.read.arrays import read_only
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.joined import GIVEN, Given
from cohortlib.transactions.kernels.group import side_by_side
from cohortlib.transactions.netting import GROUP, Bench, Netting
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.parts import DAY, KEY, KEY2, SIZE, UNITS, USER, Part


class Shelf(Protocol):
    """Parts of disjoint users, in memory or on disk."""

    @property
    def count(self) -> int:
        """Number of parts."""

    def size(self, cut: int) -> int:
        """Give about the number of rows of a part."""

    def load(self, cut: int, *, users: Sequence[str] = (), rows: Sequence[str] = ()) -> Part:
        """Give a part, with more columns than the key, the day and the units."""

    @property
    def text(self) -> bool:
        """Whether keys have two words."""

    @property
    def cuts(self) -> Sequence[tuple[int, int]]:
        """The least and the greatest first word of a key in each part."""

    @property
    def asked(self) -> Sequence[str]:
        """The columns of rows that `kept` looks at."""

    def kept(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Tell which rows count; empty where all do."""


class PartsNetting(Netting):
    """Parts, one after the other; no row lies outside of the `days`."""

    def __init__(
        self,
        settings: Settings,
        grid: Grid,
        meter: Meter,
        shelf: Shelf,
        days: tuple[int, int],
        given: "Given | None" = None,
    ) -> None:
        super().__init__(settings, grid, meter)
        self._shelf, self._given = shelf, given
        self._origin = days[0]
        every = np.arange(days[0], days[1] + 1, dtype=np.int64)
        self._table = (settings.calendar.ordinals(every) - grid.origin).astype(np.int32)
        self._early: list[str] = []
        self._last_days: list[int] = []

    @property
    def final_day(self) -> int | None:
        """The last day of the rows that a filter has left in."""
        return max(self._last_days, default=None)

    @property
    def count(self) -> int:
        """Number of parts; and one for users who are given a cohort and have a row in none."""
        return self._shelf.count + (self._given is not None)

    def suspect(self, kind: int) -> str:
        """Name the first such user, as text."""
        return min(self._early) if kind == 5 or self._given is None else self._given.one_of_them

    def take(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Net parts, a piece at a time."""
        for group in groups:
            for activity in self._netted(self._loaded(group, named=self._given is not None), sums):
                yield group, activity
            self._done(group)

    def everybody(self, workers: int) -> tuple[Activity, pl.Series]:
        """Put everybody one after the other, in the order of the parts."""

        def work(groups: Iterator[int]) -> dict[int, tuple[Activity, pl.Series]]:
            found = {}
            for group in groups:
                found[group] = self.one(group, 1)
            return found

        parts: dict[int, tuple[Activity, pl.Series]] = reduce(operator.or_, self.net(work, workers))
        people, names = zip(*(parts[group] for group in sorted(parts)), strict=True)
        users = Activity.chained(list(people))
        return replace(users, row=np.arange(users.row.size, dtype=np.uint32)), pl.concat(names)

    def _done(self, group: int) -> None:
        if group < self._shelf.count:
            self.meter.add(self._shelf.size(group))

    @property
    def parts(self) -> int:
        """Number of parts."""
        return self.count

    def one(self, part: int, workers: int) -> tuple[Activity, pl.Series]:
        """Put the users of one part one after the other, and name them."""
        loaded = self._loaded(part, named=True)
        pieces = [activity.copy() for activity in self._netted(loaded, None)]
        users = Activity.chained(pieces or [Activity.nobody()])
        names = loaded.part.users[USER][users.row]
        self._done(part)
        return replace(users, row=np.arange(users.row.size, dtype=np.uint32)), names

    def _loaded(self, group: int, *, named: bool) -> "_Loaded":
        if self._given is None:
            part = self._shelf.load(group, users=[USER] * named, rows=self._shelf.asked)
            return _Loaded(part, np.empty(0, np.int32), self._shelf.kept(part.rows))
        wanted = [KEY, KEY2] if self._shelf.text else [KEY]
        theirs = self._theirs(group)
        if group == self._shelf.count:
            people = theirs.select(*wanted, USER).with_columns(pl.lit(0, pl.UInt32).alias(SIZE))
            part = Part.of(people.clear(), pl.DataFrame(schema={DAY: pl.Int32, UNITS: pl.Int64}))
            kept = np.empty(0, np.bool_)
        else:
            part = self._shelf.load(group, users=[*wanted, USER], rows=self._shelf.asked)
            kept = self._shelf.kept(part.rows)
        people = part.users.select(*wanted, USER, SIZE)
        mine = people.join(theirs.drop(USER), on=wanted, how="left", maintain_order="left")
        others = theirs.join(people, on=wanted, how="anti").with_columns(pl.lit(0, pl.UInt32).alias(SIZE))
        users = pl.concat([mine, others.select(mine.columns)])
        stretches = part.stretches
        ends = np.append(stretches.ends, np.full(others.height, stretches.sizes.size, np.int64))
        given = users[GIVEN].fill_null(-1).to_numpy()
        return _Loaded(Part(users, part.rows, replace(stretches, ends=ends)), given, kept)

    def _theirs(self, group: int) -> pl.DataFrame:
        """Take the users given a cohort whose keys are in the cut of a part, or, after the last, in that of none."""
        given = self._given.users if self._given is not None else pl.DataFrame()
        if group < self._shelf.count:
            return given.filter(pl.col(KEY).is_between(*self._shelf.cuts[group]))
        if not self._shelf.count:
            return given
        lows, highs = (np.array(ends, np.uint64) for ends in zip(*self._shelf.cuts, strict=True))
        key = given[KEY].to_numpy()
        cut = np.searchsorted(lows, key, side="right") - 1
        return given.filter((cut < 0) | (key > highs[np.maximum(cut, 0)]))

    def _netted(self, loaded: "_Loaded", sums: Histogram | None) -> Iterator[Activity]:
        """Net the users of a part; each piece lasts until the next."""
        part, given, kept = loaded
        tally = self.tally()
        stretches = part.stretches
        days, units = (read_only(part.rows[name].to_numpy()) for name in (DAY, UNITS))
        if kept.any():
            self._last_days.append(int(days.max(where=kept, initial=self._origin)))
        # A piece ends before the user with whom it would have too many rows, or too many users.
        weight = np.maximum(np.diff(stretches.until(), prepend=0), 1)
        until = np.cumsum(weight)
        cuts = np.unique(
            np.append(np.searchsorted(until, np.arange(0, until[-1] if until.size else 0, GROUP)), until.size)
        )
        most = int(np.diff(np.append(0, until)[cuts]).max(initial=1))
        bench = Bench(most, self.settings, self.grid, sums)
        for user, end in pairwise(cuts.tolist()):
            count = side_by_side(
                user, end, stretches.ends, stretches.starts, stretches.sizes, read_only(given), read_only(kept),
                days, units, self._table, np.int64(self._origin), self.grid.span, self.grid.span - 1, bench.above,
                bench.short, bench.row, bench.given, bench.ends, bench.periods, bench.units, bench.totals, bench.words,
            )  # fmt: skip
            yield bench.net(count, tally)
        if tally[5]:
            self._early.append(str(part.users[USER][int(tally[5]) - 1]))

    def end(self) -> None:
        """Tell of users who were given two cohorts, too."""
        if self._given is not None:
            self.tally()[2] = self._given.twice
        super().end()


class _Loaded(NamedTuple):
    """A part as it is netted: the period that each user is given, or −1; and which rows count."""

    part: Part
    given: NDArray[np.int32]
    kept: NDArray[np.bool_]
