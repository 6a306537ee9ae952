"""Gather rows, batch by batch, into runs as large as memory allows; if there are several, spill them to disk."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.selectors import by_name, exclude

from cohortlib.engine.kernels.partition import Form, RecordArrays
from cohortlib.engine.partitions import Partitions, partition_bits
from cohortlib.engine.progress import Meter
from cohortlib.engine.spill import RUN_SHARE, Spill, ranges_within
from cohortlib.engine.threads import on_threads
from cohortlib.read.amounts import Amounts
from cohortlib.read.arrays import Ints
from cohortlib.read.instants import Cut, Instants, instants_of
from cohortlib.read.nulls import Dropped
from cohortlib.read.text import is_text
from cohortlib.read.transactions import TransactionReader, Transactions
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.records import Batch, Records, RecordsBuilder, renumber, row_numbers
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.manifest import DroppedFile, new_run
from cohortlib.transactions.store.part_files import write_dropped
from cohortlib.transactions.store.parts import DAY, DROPPED_USER, INSTANT, Part, build_part

_Result = TypeVar("_Result")

_PART_ROWS = 1 << 20  # most rows that a part should have
_MIN_ROWS = 1 << 16  # least rows of a run, and least that a part should have
_ASSUMED_ROWS = 1 << 28  # if the number of rows is unknown
_USER_ID = "\0user"  # the column of spilled frames, whose other columns have any name


class ReadBatch(NamedTuple):
    """A batch as read: users, instants and amounts, and other columns to keep."""

    rows: Transactions
    extras: pl.DataFrame | None
    dropped: pl.DataFrame | None  # the columns to keep, users and days of dropped rows


def read_batches(
    frames: Iterable[pl.DataFrame],
    settings: Settings,
    reader: TransactionReader,
    encoding: UserEncoding,
    keep: Sequence[str],
    *,
    instants: bool = False,
) -> Iterator[ReadBatch]:
    """Parse the three columns of each frame, and select the columns to keep, perhaps with the instants."""
    for raw in frames:
        frame = reader.typed(raw)
        rows = reader.parse_typed(frame, in_units=is_text(raw.schema[settings.amount]))
        without_nulls = frame.drop_nulls(settings.roles) if rows.dropped.count else frame
        users = encoding.users(without_nulls[settings.user])
        extras = without_nulls.select(by_name(*keep)) if keep else None
        if instants:
            column = instants_of(without_nulls[settings.timestamp]).alias(INSTANT)
            extras = column.to_frame() if extras is None else extras.with_columns(column)
        dropped = _dropped(frame, settings, encoding, keep) if keep and rows.dropped.count else None
        yield ReadBatch(replace(rows, users=users), extras, dropped)


def _dropped(frame: pl.DataFrame, settings: Settings, encoding: UserEncoding, keep: Sequence[str]) -> pl.DataFrame:
    """Return the kept columns, the users and the local days of dropped rows; the last two may be null."""
    dropped = frame.filter(pl.any_horizontal(by_name(*settings.roles).is_null()))
    has_day = dropped[settings.timestamp].is_not_null()
    rows = pl.concat([dropped.filter(has_day), dropped.filter(~has_day)])
    instants = rows[settings.timestamp].drop_nulls()
    cut = Cut.of(Instants.of(instants), settings.timezone, settings.calendar)
    days = pl.Series(DAY, [] if cut is None else cut.local_days(0, instants.len()), dtype=pl.Int32)
    users = encoding.users(rows[settings.user]).series.alias(DROPPED_USER)
    return rows.select(by_name(*keep)).with_columns(users, days.extend_constant(None, rows.height - days.len()))


class DroppedRows:
    """Kept columns and users of dropped rows: each combination of values once, with its latest day.

    A filter on kept columns takes all rows of a combination or none, and the right edge is a maximum, so no other day
    matters. Users matter for `joined` alone, so they are null if no kept column has dates. Combinations that take more
    than `max_bytes` go to disk.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._run, self._max_bytes = folder, new_run(), max_bytes
        self._frames: list[pl.DataFrame] = []
        self._bytes = 0.0
        self._files: list[DroppedFile] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows: kept columns, the user and the day."""
        if not any(dtype in (pl.Date, pl.Datetime) for dtype in rows.drop(DROPPED_USER, DAY).dtypes):
            rows = rows.with_columns(pl.lit(None, rows.schema[DROPPED_USER]).alias(DROPPED_USER))
        rows = _latest(rows.filter(pl.any_horizontal(by_name(DROPPED_USER, DAY).is_not_null())))
        if not rows.height:
            return
        self._frames.append(rows)
        self._bytes += rows.estimated_size()
        if self._bytes > self._max_bytes:
            rows = _latest(pl.concat(self._frames))
            self._frames, self._bytes = [rows], rows.estimated_size()
            if 2 * self._bytes > self._max_bytes:
                self._write()

    def files(self) -> tuple[DroppedFile, ...]:
        """Write the remaining rows, and return all files."""
        if self._frames:
            self._write()
        return tuple(self._files)

    def _write(self) -> None:
        name = f"{self._run}-{len(self._files):04}"
        self._files.append(write_dropped(self._folder, name, _latest(pl.concat(self._frames))))
        self._frames, self._bytes = [], 0.0


def _latest(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep each combination of kept values and user once, with its latest day."""
    return rows.group_by(exclude(DAY), maintain_order=True).agg(pl.col(DAY).max())


@dataclass(frozen=True)
class RunPlan:
    """The sizes of runs and parts."""

    budget: int  # of memory, in bytes
    workers: int
    wide: bool  # whether keys have two words
    keep_users: bool  # whether user ids are kept, besides their keys
    rows: int | None  # None if the number of rows is unknown

    @property
    def part_rows(self) -> int:
        """Most rows of a part, of which each worker processes one."""
        return min(max(self.budget // (400 * self.workers), _MIN_ROWS), _PART_ROWS)

    @property
    def bits(self) -> int:
        """Top bits of the key that select the part."""
        return min(max(1, (self.rows or _ASSUMED_ROWS) // self.part_rows), 1 << 10).bit_length() - 1

    def part_ranges(self, sizes: Ints) -> list[range]:
        """Return the partitions of each part that has rows, from the number of rows of each partition."""
        each = sizes.size >> self.bits
        parts = np.flatnonzero(np.add.reduceat(sizes, np.arange(0, sizes.size, each)))
        return [range(p * each, (p + 1) * each) for p in parts.tolist()]

    def capacity(self, extra_bytes: int) -> int:
        """Return the most rows of a run, if each takes `extra_bytes` besides its record."""
        rows = int(self.budget * RUN_SHARE) // ((32 if self.wide else 24) + 4 + extra_bytes)
        return min(max(rows, _MIN_ROWS), self.rows or rows, 2**31)


@dataclass
class Totals:
    """Running totals over all batches; complete once the last run has been yielded."""

    days: list[tuple[int, int]] = field(default_factory=list)
    last_dropped: int | None = None
    magnitude: int = 0
    rows: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    dropped_before: int = 0  # rows that were dropped when a prepared form was written, which is read now
    amounts: Amounts | None = None
    dropped_rows: DroppedRows | None = None

    @property
    def first_day(self) -> int:
        """First day of the rows that were not dropped; 0 without rows."""
        return min((first for first, _ in self.days), default=0)

    @property
    def final_day(self) -> int:
        """Last day of the rows that were not dropped; −1 without rows."""
        return max((last for _, last in self.days), default=-1)

    @property
    def last_day(self) -> int | None:
        """Last day of all rows; None without rows."""
        days = [self.final_day] if self.days else []
        return max(days if self.last_dropped is None else [*days, self.last_dropped], default=None)

    def add(self, batch: ReadBatch) -> None:
        """Add the rows of a batch, and its dropped rows."""
        rows = batch.rows
        if batch.dropped is not None and self.dropped_rows is not None:
            self.dropped_rows.add(batch.dropped)
        self.dropped += rows.dropped
        self.amounts = rows.amounts
        if rows.last_dropped is not None:
            self.last_dropped = max(
                rows.last_dropped, rows.last_dropped if self.last_dropped is None else self.last_dropped
            )
        if rows.cut is not None:
            self.days.append(rows.cut.days)
            self.rows += len(rows.users)


@dataclass(frozen=True)
class MemoryParts:
    """The parts of a single run, in memory, with the methods of `Prepared` that netting uses."""

    parts: list[Part]
    key_ranges: list[tuple[int, int]]
    text: bool
    filter_columns: Sequence[str] = ()

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self.parts)

    def size(self, index: int) -> int:
        """Return the number of rows of a part."""
        return self.parts[index].rows.height

    def load(self, index: int, *, users: Sequence[str] = (), rows: Sequence[str] = ()) -> Part:
        """Return a part with all of its columns."""
        return self.parts[index]

    def filter_mask(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Return an empty mask: there is no filter."""
        return np.empty(0, np.bool_)


@dataclass(frozen=True)
class Run:
    """The rows of one run, partitioned by user; `last` if no rows come after it."""

    records: Records
    bits: int
    frame: pl.DataFrame | None  # the other columns to keep, with user ids as _USER_ID
    last: bool

    def part_ranges(self, plan: RunPlan) -> list[range]:
        """Return the partitions of each part that has rows."""
        return plan.part_ranges(self.records.sizes)

    def part(self, partitions: range) -> Part:
        """Group the rows of some partitions by user."""
        return _part_of(self.records, partitions, self.frame)

    def map_parts(self, plan: RunPlan, work: Callable[[int, Part], _Result]) -> list[_Result]:
        """Build the parts on several threads, and return ``work(number, part)`` of each, in order."""

        def build(numbered: tuple[int, range]) -> _Result:
            number, partitions = numbered
            return work(number, self.part(partitions))

        return on_threads(plan.workers, build, list(enumerate(self.part_ranges(plan))))


def gather_runs(batches: Iterable[ReadBatch], plan: RunPlan, totals: Totals, meter: Meter | None) -> Iterator[Run]:
    """Gather rows into runs, each as large as memory allows, and add them to the totals."""
    source = iter(batches)
    pending: list[ReadBatch] = []
    bits = None
    while first := pending.pop() if pending else next(source, None):
        frames: list[pl.DataFrame] = []
        capacity = max(plan.capacity(_extra_bytes(first, plan)), len(first.rows.users))
        bits = bits or max(plan.bits, partition_bits(capacity))

        def take(first: ReadBatch, capacity: int, frames: list[pl.DataFrame]) -> Iterator[Batch]:
            filled = 0
            for batch in chain([first], source):
                filled += len(batch.rows.users)
                if filled > capacity:
                    pending.append(batch)
                    return
                totals.add(batch)
                if batch.rows.cut is not None:
                    kept = [] if batch.extras is None else batch.extras.get_columns()
                    if plan.keep_users:
                        kept.append(batch.rows.users.series.alias(_USER_ID))
                    if kept:
                        frames.append(pl.DataFrame(kept))
                    yield Batch(batch.rows.users, batch.rows.cut, batch.rows.amounts)

        builder = RecordsBuilder(capacity, bits, plan.workers, wide=plan.wide)
        builder.add(take(first, capacity, frames), meter)
        totals.magnitude += builder.total
        records = builder.build()
        if totals.magnitude >= 2**63 and totals.amounts is not None:
            raise totals.amounts.too_large()
        if records is not None:
            yield Run(records, bits, pl.concat(frames, rechunk=True) if frames else None, last=not pending)
        del builder, records


def keep_in_memory(run: Run, plan: RunPlan) -> MemoryParts:
    """Build the parts of the only run in memory."""
    ranges = key_ranges(run.part_ranges(plan), run.bits)
    return MemoryParts(run.map_parts(plan, lambda _, part: part), ranges, plan.wide)


class SpilledRuns:
    """Runs on disk, in a folder, and their rows as parts, with the methods of `Prepared` that netting uses."""

    filter_columns: Sequence[str] = ()

    def __init__(self, folder: Path, plan: RunPlan) -> None:
        self._folder, self._plan = folder, plan
        self._form = Form(0, packed=False, wide=plan.wide)
        self._spill: Spill | None = None
        self._columns: list[str] = []

    def sink(self, run: Run) -> None:
        """Write a run."""
        records, width = run.records, self._form.width
        if self._spill is None:
            self._spill = Spill(self._folder, "rows", run.bits, ((np.uint64, width),))
        partitions = Partitions(records.arrays.edges, records.sizes, (records.arrays.words,), [width])
        self._spill.sink(partitions, run.frame, lambda columns: row_numbers(columns[0], width), self._plan.workers)

    @property
    def rows(self) -> int:
        """The number of rows so far."""
        return 0 if self._spill is None else int(self._spill.sizes.sum())

    def map_parts(self, work: Callable[[int, Part], _Result]) -> list[_Result]:
        """Return ``work(number, part)`` for each part of the plan, as `Run.map_parts`."""
        if self._spill is None:
            return []
        ranges = list(enumerate(self._plan.part_ranges(self._spill.sizes)))
        return on_threads(self._plan.workers, lambda pair: work(pair[0], self.part(pair[1])), ranges)

    @cached_property
    def ranges(self) -> list[range]:
        """The partitions of each part."""
        return [] if self._spill is None else ranges_within(self._spill.sizes, self._plan.part_rows)

    @property
    def text(self) -> bool:
        """Whether user ids are text; their keys have two words."""
        return self._plan.wide

    @property
    def key_ranges(self) -> list[tuple[int, int]]:
        """The key range of each part."""
        return key_ranges(self.ranges, 0 if self._spill is None else self._spill.bits)

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self.ranges)

    def size(self, index: int) -> int:
        """Return the number of rows of a part."""
        partitions = self.ranges[index]
        return 0 if self._spill is None else int(self._spill.sizes[partitions.start : partitions.stop].sum())

    def load(self, index: int, *, users: Sequence[str] = (), rows: Sequence[str] = ()) -> Part:
        """Return a part with all of its columns."""
        return self.part(self.ranges[index])

    def part(self, partitions: range) -> Part:
        """Read the rows of some partitions, and group them by user."""
        if self._spill is None:
            raise IndexError(partitions)
        rows, frames = self._spill.scan(partitions)
        (words,) = rows.columns
        renumber(words, self._form.width)
        records = Records(RecordArrays(rows.starts, words), self._form, rows.sizes, 0, 0)
        frame = pl.concat(frames, rechunk=True) if frames else None
        return _part_of(records, range(rows.count), frame)

    def filter_mask(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Return an empty mask: there is no filter."""
        return np.empty(0, np.bool_)


def _part_of(records: Records, partitions: range, frame: pl.DataFrame | None) -> Part:
    """Build a part from records, and the frame with the other columns of their rows."""
    user_ids = None if frame is None else frame.get_column(_USER_ID, default=None)
    extras = None if frame is None else frame.drop(_USER_ID, strict=False)
    return build_part(records, partitions, extras if extras is not None and extras.width else None, user_ids)


def key_ranges(ranges: Iterable[range], bits: int) -> list[tuple[int, int]]:
    """Return the least and the greatest key of ranges of partitions."""
    step = 1 << 64 - bits
    return [(part.start * step, part.stop * step - 1) for part in ranges]


def _extra_bytes(batch: ReadBatch, plan: RunPlan) -> int:
    """Estimate the bytes of a row besides its record."""
    users = batch.rows.users
    height = max(len(users), 1)
    extras = 0 if batch.extras is None else batch.extras.estimated_size()
    user_ids = users.series.estimated_size() + 8 * height if plan.keep_users else 0
    return int(2 * (extras + user_ids) // height)
