"""What a state stores for each user, and how new rows change it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.threads import on_threads
from cohortlib.read.arrays import Ints, read_only
from cohortlib.transactions.activity import Histogram
from cohortlib.transactions.kernels.group import DatedRows, Timeline
from cohortlib.transactions.kernels.update import UserSums, advance
from cohortlib.transactions.saved_sums import TABLE
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.history import UserSlice, read_history, users_in_ranges
from cohortlib.transactions.store.manifest import Manifest
from cohortlib.transactions.store.part_checks import COHORT, LAST, NET, NEVER, STANDING
from cohortlib.transactions.store.parts import DAY, SIZE, UNITS, Part, key_slice, keys_of, match_keys
from cohortlib.transactions.store.prepared import Prepared
from cohortlib.transactions.sums import histogram_table

_CUTS = 8  # partitions that a thread takes at a time


class Standing(NamedTuple):
    """Cohort, last active period and its net of each user; ``kernels.update`` updates the arrays."""

    cohort: NDArray[np.int32]
    last: NDArray[np.int32]
    amount: Ints

    @classmethod
    def none(cls, users: int) -> "Standing":
        """Return the standing of users without rows."""
        return cls(np.full(users, -1, np.int32), np.full(users, -1, np.int32), np.zeros(users, np.int64))

    @classmethod
    def read(cls, users: pl.DataFrame, origin: int) -> "Standing":
        """Read the standing from columns; periods count from the ordinal `origin`."""

        def counted(name: str) -> NDArray[np.int32]:
            ordinals = users[name].to_numpy()
            return np.where(ordinals == NEVER, -1, ordinals - np.int32(origin)).astype(np.int32)

        return cls(counted(COHORT), counted(LAST), users[NET].to_numpy(writable=True))

    def put(self, users: Ints | slice, values: "Standing") -> None:
        """Overwrite the standing of some users."""
        self.cohort[users], self.last[users] = values.cohort, values.last
        self.amount[users] = values.amount

    def columns(self, origin: int) -> list[pl.Series]:
        """Return the standing as columns."""
        cohort, last = (np.where(at < 0, NEVER, at + np.int32(origin)).astype(np.int32) for at in self[:2])
        return [pl.Series(COHORT, cohort), pl.Series(LAST, last), pl.Series(NET, self.amount)]


class SumsBuilder:
    """Sums that users are added to, each thread in its own histogram."""

    def __init__(self, settings: Settings, manifest: Manifest) -> None:
        self.first_day = manifest.first_day
        days = np.arange(manifest.first_day, manifest.final_day + 1, dtype=np.int64)
        ordinals = settings.calendar.ordinals(days)
        self.origin = int(ordinals[0]) if days.size else 0
        self.span = int(ordinals[-1]) - self.origin + 1 if days.size else 0
        above = 0 if settings.refunds == "drop" else np.iinfo(np.int64).min
        self._timeline = Timeline((ordinals - self.origin).astype(np.int32), self.first_day, self.span, above)
        self._signed = settings.refunds == "signed"
        self._all: list[Histogram] = []
        self._free: SimpleQueue[Histogram] = SimpleQueue()

    def advance(self, part: Part, standing: Standing) -> NDArray[np.bool_]:
        """Update users with the rows of a part; return which users have late rows. See ``kernels.update``."""
        try:
            sums = self._free.get_nowait()
        except Empty:
            sums = Histogram.zeros(self.span, np.ones(self.span, np.bool_))
            self._all.append(sums)
        late = np.zeros(part.users.height, np.bool_)
        days, units = (read_only(part.rows[name].to_numpy()) for name in (DAY, UNITS))
        rows = DatedRows(days, units, read_only(np.empty(0, np.bool_)))
        user = UserSums(np.zeros(self.span, np.int64), np.zeros(self.span // 64 + 1, np.uint64))
        advance(part.ranges.arrays, rows, self._timeline, self._signed, user, standing, late, sums.arrays)
        self._free.put(sums)
        return late

    def table(self, sign: int = 1) -> pl.DataFrame:
        """Return the sums of all threads, multiplied by a sign."""
        parts = [histogram_table(sums, self.origin) for sums in self._all]
        table = pl.concat([pl.DataFrame(schema=TABLE), *parts])
        return table.with_columns(pl.col(*list(TABLE)[2:]) * sign)


@dataclass(frozen=True)
class Update:
    """Compute the new standing of users with new rows, and the change of the sums."""

    store: Prepared
    gained: SumsBuilder
    lost: SumsBuilder
    workers: int

    def of(self, part: Part) -> Standing:
        """Return the standing of a part's users after its rows."""
        key, _ = keys_of(part.users)
        shift = 64 - self.store.manifest.bits
        tops = key >> np.uint64(shift) if shift < 64 else np.zeros(key.size, np.uint64)
        first = np.flatnonzero(np.append(True, tops[1:] != tops[:-1]))
        cuts = [(int(tops[at]) << shift, (int(tops[at]) + 1 << shift) - 1) for at in first]
        standing = Standing.none(key.size)

        def update(batch: Sequence[tuple[int, int]]) -> None:
            seen = users_in_ranges(self.store, batch, [*STANDING])
            ranges = [key_slice(part.users, *cut) for cut in batch]
            late: list[Ints] = []
            for (begin, end), piece, earlier in zip(ranges, part.slices(ranges), seen, strict=True):
                updated, late_users = self._advanced(piece, earlier)
                standing.put(slice(begin, end), updated)
                late.append(begin + late_users)
            late_users = np.concatenate(late)
            if late_users.size:
                earlier = [users for cut in seen for users in cut]
                standing.put(late_users, self._recomputed(part.take(late_users), earlier))

        on_threads(self.workers, update, [cuts[at : at + _CUTS] for at in range(0, len(cuts), _CUTS)])
        return standing

    def _advanced(self, part: Part, seen: list[UserSlice]) -> tuple[Standing, Ints]:
        """Update the users of one cut from their last standing; return also the positions of users with late rows."""
        standing = Standing.none(part.users.height)
        key, key2 = keys_of(part.users)
        left = np.arange(key.size)
        for _, users, _ in seen:
            positions, matches = match_keys(key[left], key2[left] if key2.size else key2, *keys_of(users))
            known = Standing.read(users[matches], self.gained.origin)
            standing.put(left[positions], known)
            left = np.delete(left, positions)
        return standing, np.flatnonzero(self.gained.advance(part, standing))

    def _recomputed(self, part: Part, seen: list[UserSlice]) -> Standing:
        """Recompute users from all of their rows: subtract their old sums, add the new ones."""
        users = part.users.select(*self.store.user_columns[:-1], SIZE)
        before = read_history(self.store, users, seen)
        self.lost.advance(before, Standing.none(before.users.height))
        after = Part.merge([before, replace(part, users=users)])
        standing = Standing.none(after.users.height)
        self.gained.advance(after, standing)
        return standing
