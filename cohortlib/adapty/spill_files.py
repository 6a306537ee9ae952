"""Spill Adapty's rows as frames: events and installs by user, RevenueCat's rows by transaction, and keys of chains."""

from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import polars as pl

from cohortlib.adapty.additive import occurrences, repeated
from cohortlib.adapty.read.column_types import ColumnTypes, cast_to
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.states import StateCounts, latest_states, state_keys
from cohortlib.adapty.read.tables import RawTable, frame_bytes
from cohortlib.engine.partitions import Partitions
from cohortlib.engine.spill import RANGE_SHARE, RUN_SHARE, Spill, ranges_within
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.users import Users

_BITS = 12
_MIN_BYTES = 1 << 16  # of a run, so that files are not tiny
_STATE = "state"


class FrameSpill:
    """Frames on disk, partitioned by a key; they may differ in their types, and are read in the common ones."""

    def __init__(self, folder: Path, name: str, room: int, zone: str, key: str = "user") -> None:
        self._key, self._zone = key, zone
        self.bytes = 0
        self._spill = Spill(folder, name, _BITS)
        self._run_bytes = max(int(room * RUN_SHARE) // 2, _MIN_BYTES)  # a run is copied when its frames are joined
        self._types = ColumnTypes()
        self._run: list[pl.DataFrame] = []
        self._size = 0

    @property
    def rows(self) -> Ints:
        """The number of rows of each partition."""
        return self._spill.sizes

    def add_types(self, frame: pl.DataFrame) -> None:
        """Include the types of a frame in the common types of all rows."""
        self._types.add(frame)

    def sink(self, frame: pl.DataFrame) -> None:
        """Add rows, and write the run when it is full."""
        if not frame.height:
            return
        if self._run and self._run[0].schema != frame.schema:
            self.finalize()
        self._run.append(frame)
        self._size += frame_bytes(frame)
        if self._size > self._run_bytes:
            self.finalize()

    def finalize(self) -> None:
        """Write the rest of the rows."""
        if not self._run:
            return
        run = pl.concat(self._run, rechunk=True)
        self._run.clear()
        self.bytes, self._size = self.bytes + self._size, 0
        keys, _ = Users.of(run[self._key]).keys(0, run.height)
        self._spill.sink(Partitions.of_keys(keys, _BITS), run, itemgetter(0))

    def scan(self, partitions: range) -> pl.DataFrame:
        """Return the rows of some partitions, in the common types of all rows."""
        types = self._types.common()
        _, frames = self._spill.scan(partitions)
        frames = [pl.DataFrame(schema=types), *(cast_to(frame, types, self._zone) for frame in frames)]
        return pl.concat(frames, rechunk=True)

    @property
    def row_bytes(self) -> int:
        """Average bytes of a row."""
        return self.bytes // max(1, int(self.rows.sum()))


class StateFiles:
    """RevenueCat's rows on disk by transaction, to select the latest state of each over all files."""

    def __init__(self, folder: Path, room: int, reading: Reading) -> None:
        self._folder, self._room, self._reading = folder, room, reading
        self._files: dict[tuple[object, ...], tuple[RawTable, FrameSpill]] = {}

    def append(self, table: RawTable) -> None:
        """Add rows; tables of different types are kept apart."""
        keys = state_keys(table, self._reading)
        shape = tuple(table.frame.schema.items())
        if shape not in self._files:
            name = f"states-{len(self._files):03}"
            spilled = FrameSpill(self._folder, name, self._room, self._reading.zone, _STATE)
            self._files[shape] = RawTable(table.frame.clear(), table.mixed, locate=None), spilled
            spilled.add_types(table.frame.clear().with_columns(keys.select(_state())))
        self._files[shape][1].sink(table.frame.with_columns(keys.select(_state())))

    def latest(self) -> Iterator[tuple[list[RawTable], StateCounts]]:
        """Yield the latest states, as many transactions at a time as fit."""
        for _, spilled in self._files.values():
            spilled.finalize()
        need = sum(
            (spilled.rows * 2 * spilled.row_bytes for _, spilled in self._files.values()), np.zeros(1 << _BITS, int)
        )
        for partitions in ranges_within(need, self._room * RANGE_SHARE):
            tables = [
                replace(table, frame=spilled.scan(partitions).drop(_STATE)) for table, spilled in self._files.values()
            ]
            yield latest_states(tables, self._reading)


def _state() -> pl.Expr:
    """Return the key of a transaction; rows without an id are spread by their instants."""
    parts = [pl.coalesce(pl.col(name).cast(pl.String), pl.lit("")) for name in ("id", "renewal")]
    parts.append(pl.when(pl.col("id").is_null()).then(pl.col("updated").cast(pl.String)).otherwise(pl.lit("")))
    return pl.concat_str(*parts, separator=":").alias(_STATE)


class ChainKeys:
    """The keys of chains, on disk, since the users of a chain may be in different partitions."""

    def __init__(self, folder: Path, room: int) -> None:
        self._room = max(room, _MIN_BYTES)
        self._spill = Spill(folder, "chains", _BITS, ((np.uint64, 1),))

    def sink(self, keys: Keys) -> None:
        """Write some sorted keys."""
        firsts = np.arange(1 << _BITS, dtype=np.uint64) << np.uint64(64 - _BITS)
        starts = np.append(np.searchsorted(keys, firsts), keys.size)[:, None]
        self._spill.sink(Partitions.of(starts, (keys,), [1]))

    def occurrences(self, keys: Keys) -> Ints:
        """Count how often each of some keys occurs."""
        return sum((occurrences(chains, keys) for chains in self._sorted()), np.zeros(keys.size, np.int64))

    def repeated(self) -> int:
        """Count the keys that occur more than once."""
        return sum(repeated(chains) for chains in self._sorted())

    def _sorted(self) -> Iterator[Keys]:
        """Yield the sorted keys of some partitions after another."""
        for partitions in ranges_within(16 * self._spill.sizes, self._room * RANGE_SHARE):
            (keys,) = self._spill.scan(partitions)[0].columns
            keys.sort()
            yield keys
