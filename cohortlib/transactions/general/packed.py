"""Read rows into packed records, and count the cells of the general table from them.

The fast way for tables without joined dates, further amounts, brackets and intervals, whose segments are one column of
the transactions. Records also have the codes of segments, and instants, so nothing needs to be sorted.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice

import numpy as np
import polars as pl

from cohortlib.engine.buffers import empty, zeros
from cohortlib.engine.partitions import FullError, partition_bits
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import run_workers
from cohortlib.errors import DataError, SchemaError
from cohortlib.read.arrays import Ints, min_max
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Stream
from cohortlib.read.text import is_text
from cohortlib.read.transactions import TransactionReader
from cohortlib.read.users import Users
from cohortlib.transactions.general.cells import Cells, Grid, lay_out
from cohortlib.transactions.general.question import NO_AMOUNT, Question
from cohortlib.transactions.general.rows import UserTable, needs_instants
from cohortlib.transactions.general.values import Codes, Values
from cohortlib.transactions.kernels import general as kernel
from cohortlib.transactions.kernels.segments import Clock, SegmentSums, SegmentUsers, add_segments, spread_groups
from cohortlib.transactions.netting import GROUP_ROWS
from cohortlib.transactions.reading import warn_of_ids
from cohortlib.transactions.records import Batch, Layout, Records, RecordsBuilder

_FIXED_BYTES = 64 << 20  # needed for any number of rows
_ROW_BYTES, _WIDE_ROW_BYTES = 17, 34  # of a detailed record, with keys of one word and of two
_MOST_SUMS = 1 << 25  # users × periods of a partition
_DENSE = 2  # rows per key, in an index by key
_MOST_CELLS = 1 << 22  # segments × groups × ages
_LATE = np.iinfo(np.int32).max


@dataclass
class PackedRows:
    """The rows of all users as packed records, for the layout and the columns of a table."""

    question: Question
    records: Records
    days: tuple[int, int]
    last_day: int | None
    values: dict[str, Values]
    row_columns: tuple[str, ...]
    meter: Meter
    joined: UserTable | None = None
    joined_days: tuple[int, int] | None = None
    magnitudes: tuple[int, ...] = ()  # Σ |units| of the amounts

    def count_cells(self, grid: Grid) -> Cells:
        """Add all users up, on threads."""
        groups = _Groups.of(self, grid)
        records, ranges = self.records, self.records.groups(GROUP_ROWS)

        def work(taken: Iterator[int]) -> SegmentSums:
            sums, users = groups.zero_sums(), self._buffers(groups.clock.span)
            for each in taken:
                part, end = ranges[each]
                add_segments(part, end, records.arrays, records.form, groups.clock, users, sums)
                self.meter.add(int(records.sizes[part:end].sum()))
            return sums

        sums = reduce(_add_sums, run_workers(len(ranges), self.question.settings.workers, work))
        self.meter.done()
        return groups.cells(sums, grid)

    def fits(self, grid: Grid) -> bool:
        """Return whether the sums of the users of a partition, and those of all groups, are small."""
        groups, settings = _Groups.of(self, grid), self.question.settings
        sums = self._most_users * groups.clock.span
        cells = groups.segments * (int(groups.starts[-1]) + groups.starts.size)
        fits = 8 * sums * settings.workers <= settings.budget // 4
        return fits and sums <= _MOST_SUMS and cells <= _MOST_CELLS

    @property
    def _direct(self) -> bool:
        """Whether keys are the numbers of users: better than a hash table if most of them are those of users."""
        form, sizes = self.records.form, self.records.sizes
        return not form.wide and _DENSE * (sizes.size << form.key_bits) <= int(sizes.sum())

    @property
    def _most_users(self) -> int:
        """The most users that a partition can have."""
        return 1 << self.records.form.key_bits if self._direct else int(self.records.sizes.max())

    def _buffers(self, span: int) -> SegmentUsers:
        """Return the buffers of one thread."""
        users, rows = self._most_users, 0 if self._direct else int(self.records.sizes.max())
        return SegmentUsers(
            self._direct, empty(1 << (2 * rows).bit_length() if rows else 0, np.int32),
            empty(rows, np.uint64), empty(rows, np.uint64), empty(rows, np.int32),
            empty(users, np.uint64), empty(users, np.uint32),
            # Pages that no user needs cost no memory.
            np.zeros(users * span, np.int64), np.zeros(users * ((span + 63) >> 6), np.uint64), empty(users, np.int32),
        )  # fmt: skip


@dataclass(frozen=True)
class _Groups:
    """Groups of users who are of one cohort and observed at the same ages; see ``kernels.segments``."""

    clock: Clock
    segments: int
    starts: Ints
    cohorts: Ints
    lasts: Ints  # the last age at which each group is observed, or −1
    overs: Ints  # the last that is over, or −1

    @classmethod
    def of(cls, rows: PackedRows, grid: Grid) -> "_Groups":
        """Group the users by first day: by themselves with an own clock, else by the periods of cohort and age."""
        rules, own = grid.rules, grid.rules.width > 0
        day = np.arange(rules.cut - rules.first_day + 1)
        first_row = bool(rows.row_columns) or not rules.same_unit
        if own:
            group_of, days = day, day
            lasts = overs = (rules.last_day - rules.first_day - day + 1) // rules.width - 1
        else:
            pairs = rules.cohorts.astype(np.int64) << 32 | rules.ages
            _, days, group_of = np.unique(pairs, return_index=True, return_inverse=True)
            lasts, overs = (edge - rules.ages[days].astype(np.int64) for edge in (rules.edge, rules.over))
        cohorts = rules.cohorts[days].astype(np.int64)
        shown = (cohorts >= rules.first_cohort) & (cohorts <= rules.last_cohort)
        if own:
            periods, span = day // rules.width, int(day[-1]) // rules.width + 1
        else:
            periods, span = np.where(rules.ages > rules.edge, _LATE, rules.ages), max(rules.edge, 0) + 1
        groups = np.where(shown[group_of], group_of, -1)
        if not own and not first_row:  # the group of a user is that of the first period
            groups = np.where(shown, np.arange(shown.size), -1)
        ranks = rows.values[rows.row_columns[0]].ranks() if rows.row_columns else np.zeros(1, np.uint32)
        settings = rows.question.settings
        clock = Clock(
            rules.first_day - rows.records.form.first_day, int(day[-1]), own, first_row, span, rules.above,
            settings.refunds == "signed", rules.retention, periods.astype(np.int32), groups.astype(np.int32), ranks,
        )  # fmt: skip
        starts = np.append(np.int64(0), np.cumsum(np.where(shown, np.clip(lasts + 1, 0, span), 0)))
        return cls(clock, max(int(np.prod(grid.counts)), 1), starts, cohorts, lasts, overs)

    def zero_sums(self) -> SegmentSums:
        """Return sums of zero."""
        groups = self.segments * (self.starts.size - 1)
        cells = zeros(2 * self.segments * int(self.starts[-1]), np.int64)
        return SegmentSums(self.starts, zeros(groups, np.int64), zeros(groups, np.int64), cells)

    def cells(self, sums: SegmentSums, grid: Grid) -> Cells:
        """Add groups up to cohorts."""
        number = np.flatnonzero(sums.sizes)
        groups, cohort_count = self.starts.size - 1, grid.rules.cohort_count
        cohort = self.cohorts[number % groups]
        keys, key_of = np.unique(number // groups * cohort_count + cohort, return_inverse=True)
        width = grid.widths[keys % cohort_count]
        ends = np.cumsum(width)
        offsets = ends - width
        sizes, firsts = np.zeros(keys.size, np.int64), np.zeros(keys.size, np.int64)
        np.add.at(sizes, key_of, sums.sizes[number])
        np.add.at(firsts, key_of, sums.firsts[number])
        cells = np.zeros((int(width.sum()), kernel.MORE), np.int64)
        spread_groups(number, offsets[key_of], self.lasts, self.overs, sums, cells)
        return Cells(keys, offsets, sizes, firsts, cells, np.zeros((0, kernel.WORDS), np.uint64))


def _add_sums(left: SegmentSums, right: SegmentSums) -> SegmentSums:
    for total, added in zip(left[1:], right[1:], strict=True):
        np.add(total, added, out=total)
    return left


def pack_rows(stream: Stream, question: Question) -> PackedRows | None:
    """Read all rows into packed records; None if the table needs more, or if its rows do not fit.

    Errors and warnings are left to the reading of all columns, which counts them over the whole source.
    """
    settings = question.settings
    dtype = stream.schema[settings.timestamp]
    simple = not (
        question.split or question.users is not None or question.amounts or question.brackets or question.confidence
        or settings.joined is not None or len(question.by) > 1
    )  # fmt: skip
    rows = stream.rows if stream.rows is not None else stream.expected
    if not simple or not rows or needs_instants(question, (), dtype):
        return None
    if not Users.has_one_type(stream.schema[settings.user]):
        return None
    budget = stream.rest(settings.budget) - _FIXED_BYTES
    with suppress(DataError, SchemaError):
        for wide in (False, True):
            if rows * (_WIDE_ROW_BYTES if wide else _ROW_BYTES) > budget:
                return None
            if wide or stream.schema[settings.user] != pl.String:
                with suppress(FullError):
                    return _read(stream, question, rows, wide=wide)
    return None


def _read(stream: Stream, question: Question, rows: int, *, wide: bool) -> PackedRows | None:
    """Read all rows; raise FullError if they do not fit. Keys of text, and integers that are far apart, are wide."""
    settings = question.settings
    reading = _Reading(stream, question, {name: Values(name) for name in question.by})
    batches = reading.batches()
    begin = list(islice(batches, 1))
    if not begin:
        return None
    bits = partition_bits(rows)
    layout = Layout.of(begin[0], bits, _id_range(stream, settings.user), wide=wide)
    if layout is None:
        raise FullError
    if question.by:
        layout = layout.detailed(begin[0].cut.instants.day)
    meter = Meter(settings.progress, rows)
    builder = RecordsBuilder(rows, bits, settings.workers, wide=wide, layout=layout)
    builder.add(chain(begin, batches), meter)
    records = builder.build()
    if records is None or builder.total >= 2**63:
        return None
    days = records.first, records.last
    question.check_days(*days)
    packed = PackedRows(question, records, days, reading.last_day, reading.values, question.by, meter)
    packed.magnitudes = (builder.total,)
    grid = lay_out(packed)
    if grid is not None and not packed.fits(grid):
        return None
    meter.correct(reading.dropped.rows)
    warn_of_ids(reading.reader)
    reading.dropped.warn("the table")
    return packed


def _id_range(stream: Stream, user: str) -> tuple[int, int] | None:
    """Return the least and the greatest integer id of a frame in memory."""
    dtype = stream.schema[user]
    if not isinstance(stream.source, pl.DataFrame) or not dtype.is_integer() or dtype == pl.UInt64:
        return None
    low, high = min_max(stream.source[user].alias(""))
    return None if low is None else (low, high)


class _Reading:
    """Parse batches, and add up what all of them have in common."""

    def __init__(self, stream: Stream, question: Question, values: dict[str, Values]) -> None:
        self.stream, self.question, self.values = stream, question, values
        self.reader = TransactionReader(question.settings.columns)
        self.dropped = Dropped()
        self.last_day: int | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield the rows of each batch; the codes of segments are found as they are asked for, on threads."""
        question, settings = self.question, self.question.settings
        for raw in self.stream.batches():
            frame = raw if question.money else raw.with_columns(pl.lit(1).alias(NO_AMOUNT))
            frame = self.reader.typed(frame)
            rows = self.reader.parse_typed(frame, in_units=question.money and is_text(raw.schema[settings.amount]))
            self.dropped += rows.dropped
            if rows.last_day is not None:
                self.last_day = rows.last_day if self.last_day is None else max(self.last_day, rows.last_day)
            if rows.cut is None:
                continue
            codes = None
            for name, values in self.values.items():
                column = (frame.drop_nulls(settings.roles) if rows.dropped.count else frame)[name]
                codes = _encoder(column, values)
            yield Batch(rows.users, rows.cut, rows.amounts, codes)


def _encoder(column: pl.Series, values: Values) -> Callable[[int, int], Codes]:
    def codes(first: int, count: int) -> Codes:
        return values.encode(column.slice(first, count))

    return codes
