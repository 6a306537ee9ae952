"""Rows on disk, sorted by the hash of a key, so that a range of hashes is one slice of each file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from cohortlib.adapty.additive import repeated
from cohortlib.adapty.read.column_types import ColumnTypes, cast_to
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.states import StateCounts, latest_states, state_keys
from cohortlib.adapty.read.tables import RawTable, frame_bytes
from cohortlib.engine import files
from cohortlib.errors import Arg, CohortlibError, SourceError
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.users import Users

_BITS = 12
_BUCKETS = 1 << _BITS
BUFFER_SHARE = 0.1  # of the memory; sorting and writing the buffer need three times as much
PARTITION_SHARE = 0.4  # of the memory
_MIN_BYTES = 1 << 16  # of a buffer, so that files are not tiny
_STATE = "state"


class SpillFiles:
    """Rows on disk; each file is sorted by the bucket of the user's hash."""

    def __init__(self, folder: Path, name: str, buffer_bytes: int, zone: str, key: str = "user") -> None:
        self._key, self._zone = key, zone
        self.rows = np.zeros(_BUCKETS, np.int64)
        self.bytes = 0
        self._path, self._buffer_bytes = folder / name, buffer_bytes
        self._types = ColumnTypes()
        self._files: list[tuple[Path, Ints]] = []
        self._buffer: list[pl.DataFrame] = []
        self._size = 0

    def add_types(self, frame: pl.DataFrame) -> None:
        """Include the types of a frame in the common types of all rows."""
        self._types.add(frame)

    def append(self, frame: pl.DataFrame) -> None:
        """Buffer rows, and write the buffer when it is full."""
        if not frame.height:
            return
        if self._buffer and self._buffer[0].schema != frame.schema:
            self.flush()
        self._buffer.append(frame)
        self._size += frame_bytes(frame)
        if self._size > max(self._buffer_bytes, _MIN_BYTES):
            self.flush()

    def flush(self) -> None:
        """Write the buffer as one file."""
        if not self._buffer:
            return
        frame = pl.concat(self._buffer)
        self._buffer.clear()
        self.bytes, self._size = self.bytes + self._size, 0
        keys, _ = Users.of(frame[self._key]).keys(0, frame.height)
        buckets = (keys >> np.uint64(64 - _BITS)).astype(np.uint16)
        order = np.argsort(buckets, kind="stable")
        counts = np.bincount(buckets, minlength=_BUCKETS)
        self.rows += counts
        file = self._path.with_name(f"{self._path.name}-{len(self._files):05}.parquet")
        with _write_errors(file):
            frame[order].write_parquet(
                file, compression="lz4", statistics=False, row_group_size=max(1024, frame.height >> 6)
            )
        self._files.append((file, np.concatenate([[0], np.cumsum(counts)])))

    def read(self, first: int, last: int) -> pl.DataFrame:
        """Return the rows of buckets `first` to `last` (exclusive), in the common types of all rows."""
        types = self._types.common()
        empty = pl.DataFrame(schema=types)
        slices = [
            cast_to(
                pl.scan_parquet(file, glob=False).slice(edges[first], edges[last] - edges[first]).collect(),
                types,
                self._zone,
            )
            for file, edges in self._files
            if edges[last] > edges[first]
        ]
        return pl.concat([empty, *slices], rechunk=True)

    @property
    def row_bytes(self) -> int:
        """Average bytes of a row."""
        return self.bytes // max(1, int(self.rows.sum()))


class StateFiles:
    """RevenueCat's rows on disk by transaction, to select the latest state of each over all files."""

    def __init__(self, folder: Path, room: int, reading: Reading) -> None:
        self._folder, self._room, self._reading = folder, room, reading
        self._files: dict[tuple[object, ...], tuple[RawTable, SpillFiles]] = {}

    def append(self, table: RawTable) -> None:
        """Add rows; tables of different types are kept apart."""
        keys = state_keys(table, self._reading)
        shape = tuple(table.frame.schema.items())
        if shape not in self._files:
            name = f"states-{len(self._files):03}"
            spilled = SpillFiles(self._folder, name, int(self._room * BUFFER_SHARE), self._reading.zone, _STATE)
            self._files[shape] = RawTable(table.frame.clear(), table.mixed, locate=None), spilled
            spilled.add_types(table.frame.clear().with_columns(keys.select(_state())))
        self._files[shape][1].append(table.frame.with_columns(keys.select(_state())))

    def latest(self) -> Iterator[tuple[list[RawTable], StateCounts]]:
        """Yield the latest states, as many transactions at a time as fit."""
        for _, spilled in self._files.values():
            spilled.flush()
        need = sum(
            (spilled.rows * 2 * spilled.row_bytes for _, spilled in self._files.values()), np.zeros(_BUCKETS, int)
        )
        for first, last in pairwise(bucket_ranges(need, self._room * PARTITION_SHARE)):
            tables = [
                replace(table, frame=spilled.read(first, last).drop(_STATE)) for table, spilled in self._files.values()
            ]
            yield latest_states(tables, self._reading)


def _state() -> pl.Expr:
    """Return the key of a transaction; rows without an id are spread by their instants."""
    parts = [pl.coalesce(pl.col(name).cast(pl.String), pl.lit("")) for name in ("id", "renewal")]
    parts.append(pl.when(pl.col("id").is_null()).then(pl.col("updated").cast(pl.String)).otherwise(pl.lit("")))
    return pl.concat_str(*parts, separator=":").alias(_STATE)


def bucket_ranges(need: Ints, room: float) -> list[int]:
    """Split the buckets into ranges that fit in memory. Returns the bounds of the ranges."""
    cuts, size = [0], 0
    for bucket, bucket_bytes in enumerate(need.tolist()):
        if size and size + bucket_bytes > room:
            cuts.append(bucket)
            size = 0
        size += bucket_bytes
    return [*cuts, _BUCKETS]


class ChainFiles:
    """The keys of chains of all partitions, on disk, since the users of a chain may be in different partitions."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._files: list[Path] = []
        self._count = 0

    def append(self, keys: Keys) -> None:
        """Write the sorted keys of a partition."""
        file = self._folder / f"chains-{len(self._files):05}.npy"
        with _write_errors(file):
            np.save(file, keys)
        self._files.append(file)
        self._count += keys.size

    def repeated(self) -> int:
        """Count the keys that occur more than once, one range of keys after another."""
        columns: list[Keys] = [np.load(file, mmap_mode="r") for file in self._files]
        ranges = 1 << max(0, (16 * self._count // max(self._max_bytes, _MIN_BYTES)).bit_length())
        edges = [np.uint64(at * (2**64 // ranges)) for at in range(1, ranges)]
        cuts = [[0, *np.searchsorted(keys, np.array(edges, np.uint64)), keys.size] for keys in columns]
        count = 0
        for at in range(ranges):
            slices = [keys[cut[at] : cut[at + 1]] for keys, cut in zip(columns, cuts, strict=True)]
            merged = np.concatenate([np.empty(0, np.uint64), *slices])
            merged.sort()
            count += repeated(merged)
        return count


@contextmanager
def _write_errors(file: Path) -> Iterator[None]:
    try:
        with files.file_errors(file):
            yield
    except CohortlibError:
        raise
    except OSError as error:
        raise SourceError(
            f"the temporary file {str(file)!r} cannot be written: {error.strerror}",
            hint=(
                "set the environment variable TMPDIR to another folder for temporary files, or pass a larger ",
                Arg("max_memory"),
            ),
        ) from error
