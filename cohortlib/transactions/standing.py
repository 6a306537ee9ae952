"""What a state keeps of each user, and how new rows change it."""

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
from cohortlib.transactions.kernels.update import advance
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.history import UserSlice, read_history, users_in_ranges
from cohortlib.transactions.store.manifest import Manifest, damaged
from cohortlib.transactions.store.parts import DAY, SIZE, UNITS, Part, key_slice, keys_of, match_keys
from cohortlib.transactions.store.prepared import Prepared
from cohortlib.transactions.sums import TABLE, as_table

_COHORT, _LAST, _NET = "cohort", "last_period", "last_net"
STANDING = [_COHORT, _LAST, _NET]
_NEVER = -(2**31)
_CUTS = 8  # that a thread looks through at a time


class Standing(NamedTuple):
    """How users stand, in arrays that are brought up to date: see ``kernels.update``."""

    cohort: NDArray[np.int32]
    last: NDArray[np.int32]
    amount: Ints

    @classmethod
    def none(cls, users: int) -> "Standing":
        """Begin without any row."""
        return cls(np.full(users, -1, np.int32), np.full(users, -1, np.int32), np.zeros(users, np.int64))

    @classmethod
    def read(cls, users: pl.DataFrame, origin: int) -> "Standing":
        """Take the standing from columns; periods count from the ordinal `origin`."""

        def counted(name: str) -> NDArray[np.int32]:
            ordinals = users[name].to_numpy()
            return np.where(ordinals == _NEVER, -1, ordinals - np.int32(origin)).astype(np.int32)

        return cls(counted(_COHORT), counted(_LAST), users[_NET].to_numpy(writable=True))

    def put(self, places: Ints | slice, others: "Standing") -> None:
        """Write how some users stand."""
        self.cohort[places], self.last[places] = others.cohort, others.last
        self.amount[places] = others.amount

    def columns(self, origin: int) -> list[pl.Series]:
        """Write columns."""
        cohort, last = (np.where(at < 0, _NEVER, at + np.int32(origin)).astype(np.int32) for at in self[:2])
        return [pl.Series(_COHORT, cohort), pl.Series(_LAST, last), pl.Series(_NET, self.amount)]


class Adding:
    """The periods of all days, and sums over them: each thread adds to its own."""

    def __init__(self, settings: Settings, manifest: Manifest) -> None:
        self.first_day = manifest.first_day
        days = np.arange(manifest.first_day, manifest.final_day + 1, dtype=np.int64)
        ordinals = settings.calendar.ordinals(days)
        self.origin = int(ordinals[0]) if days.size else 0
        self.span = int(ordinals[-1]) - self.origin + 1 if days.size else 0
        self._table = (ordinals - self.origin).astype(np.int32)
        self._signed = settings.refunds == "signed"
        self._above = np.int64(0 if settings.refunds == "drop" else np.iinfo(np.int64).min)
        self._all: list[Histogram] = []
        self._free: SimpleQueue[Histogram] = SimpleQueue()

    def advance(self, part: Part, standing: Standing) -> NDArray[np.bool_]:
        """Bring users up to date with the rows of a part, and tell who is late: see ``kernels.update``."""
        try:
            sums = self._free.get_nowait()
        except Empty:
            sums = Histogram.zeros(self.span, np.ones(self.span, np.bool_))
            self._all.append(sums)
        late = np.zeros(part.users.height, np.bool_)
        ranges = part.ranges
        advance(
            ranges.ends, ranges.starts, ranges.sizes,
            *(read_only(part.rows[name].to_numpy()) for name in (DAY, UNITS)),
            self._table, np.int64(self.first_day), self._above, self._signed,
            np.zeros(self.span, np.int64), np.zeros(self.span // 64 + 1, np.uint64),
            *standing, late, *sums.arrays,
        )  # fmt: skip
        self._free.put(sums)
        return late

    def table(self, sign: int = 1) -> pl.DataFrame:
        """Give what has been added, or what is to be taken away."""
        parts = [as_table(sums, self.origin) for sums in self._all]
        table = pl.concat([pl.DataFrame(schema=TABLE), *parts])
        return table.with_columns(pl.col(*list(TABLE)[2:]) * sign)


@dataclass(frozen=True)
class Update:
    """How the users of new rows stand."""

    store: Prepared
    gained: Adding
    lost: Adding
    workers: int

    def of(self, part: Part) -> Standing:
        """Bring the users of a part up to date."""
        key, _ = keys_of(part.users)
        shift = 64 - self.store.manifest.bits
        tops = key >> np.uint64(shift) if shift < 64 else np.zeros(key.size, np.uint64)
        first = np.flatnonzero(np.append(True, tops[1:] != tops[:-1]))
        key_ranges = [(int(tops[at]) << shift, (int(tops[at]) + 1 << shift) - 1) for at in first]
        standing = Standing.none(key.size)

        def some(cuts: Sequence[tuple[int, int]]) -> None:
            seen = users_in_ranges(self.store, cuts, STANDING)
            places = [key_slice(part.users, *cut) for cut in cuts]
            late: list[Ints] = []
            for (begin, end), piece, here in zip(places, part.slices(places), seen, strict=True):
                stood, behind = self._within(piece, here)
                standing.put(slice(begin, end), stood)
                late.append(begin + behind)
            behind = np.concatenate(late)
            if behind.size:
                standing.put(behind, self._anew(part.take(behind), [one for here in seen for one in here]))

        on_threads(self.workers, some, [key_ranges[at : at + _CUTS] for at in range(0, len(key_ranges), _CUTS)])
        return standing

    def _within(self, part: Part, seen: list[UserSlice]) -> tuple[Standing, Ints]:
        """Bring the users of one cut up to date, but for those who are late; give the places of these."""
        standing = Standing.none(part.users.height)
        key, key2 = keys_of(part.users)
        left = np.arange(key.size)
        for part_of, users, _ in seen:
            places, found = match_keys(key[left], key2[left] if key2.size else key2, *keys_of(users))
            known = Standing.read(users[found], self.gained.origin)
            if any(((at < -1) | (at >= self.gained.span)).any() for at in (known.cohort, known.last)):
                raise damaged(self.store.folder / part_of.name)
            standing.put(left[places], known)
            left = np.delete(left, places)
        return standing, np.flatnonzero(self.gained.advance(part, standing))

    def _anew(self, part: Part, seen: list[UserSlice]) -> Standing:
        """Work users out from all of their rows."""
        users = part.users.select(*self.store.user_columns[:-1], SIZE)
        before = read_history(self.store, users, seen)
        self.lost.advance(before, Standing.none(before.users.height))
        after = Part.merge([before, replace(part, users=users)])
        standing = Standing.none(after.users.height)
        self.gained.advance(after, standing)
        return standing
