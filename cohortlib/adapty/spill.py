"""Aggregate more events than fit in memory: spill rows to files by user, then aggregate ranges of users.

Events are read in batches. Rows that count are buffered; when the buffer is full, it is sorted by the hash of the
user and written as one file. A partition is a range of hashes, chosen after all rows have been read so that it fits
in memory; its rows are one slice of each file. So there are few, long files, whatever the number of partitions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from pathlib import Path
from tempfile import gettempdir
from typing import TypeAlias

import numpy as np
import polars as pl

from cohortlib.adapty import forecast
from cohortlib.adapty.additive import Sums, repeated
from cohortlib.adapty.forecast import Ladder, Prediction
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.column_types import ColumnTypes, cast_to
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.read.installs import check_one_kind
from cohortlib.adapty.read.readers import is_whole, is_wide
from cohortlib.adapty.read.tables import BatchedTable, frame_bytes
from cohortlib.engine import files
from cohortlib.engine.progress import Progress
from cohortlib.errors import Arg, CohortlibError, SchemaError, SourceError
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.nulls import Dropped
from cohortlib.read.users import Users

EVENT_WORK = 160
"""Bytes that aggregation needs per event, beside the row itself."""
INSTALL_WORK = 60
"""The same per row of installs."""

_BITS = 12
_BUCKETS = 1 << _BITS
_BUFFER_SHARE = 0.1  # of the memory; sorting and writing the buffer need three times as much
_PARTITION_SHARE = 0.4  # of the memory
_MIN_BYTES = 1 << 16  # of a buffer, so that files are not tiny
_KIND = "kind"


class SpillFiles:
    """Rows on disk; each file is sorted by the bucket of the user's hash."""

    def __init__(self, folder: Path, name: str, buffer_bytes: int) -> None:
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
        keys, _ = Users.of(frame["user"]).keys(0, frame.height)
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
            cast_to(pl.scan_parquet(file, glob=False).slice(edges[first], edges[last] - edges[first]).collect(), types)
            for file, edges in self._files
            if edges[last] > edges[first]
        ]
        return pl.concat([empty, *slices], rechunk=True)

    @property
    def row_bytes(self) -> int:
        """Average bytes of a row."""
        return self.bytes // max(1, int(self.rows.sum()))


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


def aggregate(
    plan: RequestPlan,
    events: BatchedTable[Events],
    installs: BatchedTable[tuple[pl.DataFrame, Dropped]] | None,
    *,
    room: int,
    predict: bool,
) -> tuple[Sums, list[Prediction] | None]:
    """Aggregate all users in about `room` bytes, and predict if requested. Without `installs` events define them."""
    with files.temporary_folder(Path(gettempdir())) as folder:
        spilled = SpilledRows(plan, events, installs, folder, room, predict=predict)
        chains = ChainFiles(folder, int(room * _PARTITION_SHARE))

        def partials() -> Iterator[_Partial]:
            for part_events, part_installs, part_plan in spilled.partitions():
                sums = Sums.of(part_events, part_installs, part_plan)
                ladders = forecast.ladders(part_events, part_installs, plan, spilled.since) if predict else None
                chains.append(sums.chains)
                yield sums.without_chains(), ladders

        total, ladders = reduce(_add_partials, partials())
        predictions = forecast.predictions(ladders, plan) if predict else None
        return total.without_chains(chains.repeated()), predictions


_Partial: TypeAlias = tuple[Sums, tuple[Ladder, Ladder] | None]


def _add_partials(one: _Partial, other: _Partial) -> _Partial:
    (sums, ladders), (more_sums, more_ladders) = one, other
    if ladders is None or more_ladders is None:
        return sums + more_sums, None
    return sums + more_sums, (ladders[0] + more_ladders[0], ladders[1] + more_ladders[1])


class SpilledRows:
    """Events and installs on disk, and the counts over all of them."""

    def __init__(
        self,
        plan: RequestPlan,
        events: BatchedTable[Events],
        installs: BatchedTable[tuple[pl.DataFrame, Dropped]] | None,
        folder: Path,
        room: int,
        *,
        predict: bool,
    ) -> None:
        self._plan, self._room = plan, room
        self._from_events = installs is None
        self.since = plan.request.date[0]
        self._predict = predict
        types = events.user_types, [] if installs is None else installs.user_types
        as_text = any(map(is_wide, types[0] + types[1]))
        buffer_bytes = int(room * _BUFFER_SHARE)
        self._install_files = SpillFiles(folder, "installs", buffer_bytes)
        self._install_counts: list[pl.DataFrame] = []
        self._dropped_installs = Dropped()
        if installs is not None:
            self._spill_installs(installs, as_text=as_text)
        self._event_files = SpillFiles(folder, "events", buffer_bytes)
        self._report: dict[str, int] = {}
        self._dropped_events = Dropped()
        self._spill_events(events, as_text=as_text)
        whole = [{is_whole(kind) for kind in kinds} for kinds in types]
        if whole[0] != whole[1] and self._event_files.rows.any() and self._install_files.rows.any():
            raise SchemaError(
                f"the users are {types[0][0]} in the events and {types[1][0]} in installs",
                expected="the same type in both",
                hint="cast one of them",
            )

    def _spill_installs(self, installs: BatchedTable[tuple[pl.DataFrame, Dropped]], *, as_text: bool) -> None:
        is_counts = []
        for frame, dropped in installs.batches(as_text=as_text):
            is_counts.append("installs" in frame.columns)
            check_one_kind(is_counts[-2:])
            self._dropped_installs += dropped
            if is_counts[-1]:
                self._install_counts.append(frame)
            else:
                self._install_files.add_types(frame)
                self._install_files.append(frame)
                self._update_since(Events(pl.DataFrame(), pl.Series(dtype=pl.Int8), {}), Installs(frame))
        self._install_files.flush()

    def _spill_events(self, events: BatchedTable[Events], *, as_text: bool) -> None:
        for batch in events.batches(as_text=as_text):
            self._report = {name: self._report.get(name, 0) + count for name, count in batch.report.items()}
            self._dropped_events += batch.dropped
            frame = batch.frame.with_columns(batch.kind.alias(_KIND))
            self._event_files.add_types(frame)
            self._event_files.append(frame.filter(batch.kind >= 0))
            self._update_since(batch, Installs(None))
            if self._plan.progress is not None:
                self._plan.progress(0, self._report["rows"])
        self._event_files.flush()

    def _update_since(self, events: Events, installs: Installs) -> None:
        if self._predict:
            self.since = forecast.earliest(events, installs, self.since)

    def partitions(self) -> Iterator[tuple[Events, Installs, RequestPlan]]:
        """Yield the rows of disjoint users, as many as fit. The first partition has the report of all reading."""
        done = 0
        for first, last in pairwise(self._cuts()):
            frame = self._event_files.read(first, last)
            report, dropped = self._report, self._dropped_events
            if first:
                report, dropped = dict.fromkeys(report, 0), Dropped()
            events = Events(frame.drop(_KIND), frame[_KIND], report, dropped)
            yield events, self._installs(first, last), replace(self._plan, progress=self._progress(done))
            done += frame.height
        if self._plan.progress is not None:
            self._plan.progress(self._report["rows"], self._report["rows"])

    def _progress(self, before: int) -> Progress | None:
        """Return a progress function for a partition, which adds the rows before it."""
        progress, rows = self._plan.progress, self._report["rows"]
        return None if progress is None else lambda done, _: progress(min(before + done, rows), rows)

    def _installs(self, first: int, last: int) -> Installs:
        if self._from_events:
            return Installs(None)
        dropped = Dropped() if first else self._dropped_installs
        if self._install_counts:
            # Ready counts cover all users, so the first partition has them all.
            types = ColumnTypes()
            for frame in self._install_counts:
                types.add(frame)
            counts = pl.concat([cast_to(frame, types.common()) for frame in self._install_counts])
            return Installs(counts.head(0) if first else counts, dropped)
        return Installs(self._install_files.read(first, last), dropped)

    def _cuts(self) -> list[int]:
        """Split the buckets into ranges that fit in memory. Returns the bounds of the ranges."""
        events, installs = self._event_files, self._install_files
        need = events.rows * (2 * events.row_bytes + EVENT_WORK) + installs.rows * (
            2 * installs.row_bytes + INSTALL_WORK
        )
        cuts, size = [0], 0
        for bucket, bucket_bytes in enumerate(need.tolist()):
            if size and size + bucket_bytes > self._room * _PARTITION_SHARE:
                cuts.append(bucket)
                size = 0
            size += bucket_bytes
        return [*cuts, _BUCKETS]
