"""From rows, batch by batch, to runs of parts: in memory as long as they fit, else on disk."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.selectors import by_name, exclude

from cohortlib.engine.partitions import partition_bits
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import on_threads
from cohortlib.read.amounts import Amounts
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.nulls import Dropped
from cohortlib.read.transactions import Transactions, parse_transactions
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.records import Batch, Filing, Records
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.manifest import Filed, FiledDropped, new_run
from cohortlib.transactions.store.part_files import write_dropped, write_part
from cohortlib.transactions.store.parts import DAY, Part, clustered

_PART = 1 << 20  # rows that a part should have
_SMALL = 1 << 16
_ROWS = 1 << 28  # that there may be where nobody knows
_ARENA = 0.4  # of the memory, for the rows that are being gathered


class Rows(NamedTuple):
    """Some rows: the three columns, the others that are kept, and those and the days of dropped rows."""

    told: Transactions
    extras: pl.DataFrame | None
    dropped: pl.DataFrame | None


def rows_of(
    batches: Iterable[pl.DataFrame], settings: Settings, encoding: UserEncoding, keep: Sequence[str]
) -> Iterator[Rows]:
    """Take the three columns of each batch, and those to be kept."""
    for frame in batches:
        told = parse_transactions(frame, *settings.roles, **settings.reading)
        kept = frame.drop_nulls(settings.roles) if told.dropped.count else frame
        users = encoding.users(kept[settings.user])
        extras = kept.select(by_name(*keep)) if keep else None
        dropped = _dropped(frame, settings, keep) if keep and told.dropped.count else None
        yield Rows(replace(told, users=users), extras, dropped)


def _dropped(frame: pl.DataFrame, settings: Settings, keep: Sequence[str]) -> pl.DataFrame | None:
    """Return the kept columns and the local days of rows that have an instant, but a null beside it."""
    dated = frame.filter(by_name(settings.timestamp).is_not_null())
    rows = dated.filter(pl.any_horizontal(by_name(settings.user, settings.amount).is_null()))
    cut = Cut.of(Instants.of(rows[settings.timestamp]), settings.timezone, settings.calendar)
    if cut is None:
        return None
    days = pl.Series(DAY, cut.local_days(0, rows.height), dtype=pl.Int32)
    return rows.select(by_name(*keep)).with_columns(days)


class DroppedRows:
    """Kept columns of dropped rows: each combination of values once, with its latest day.

    A filter on kept columns takes all rows of a combination or none, and the right edge is a maximum, so no other day
    matters. Combinations that take more memory than `most` bytes go to disk.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._run, self._most = folder, new_run(), most
        self._frames: list[pl.DataFrame] = []
        self._bytes = 0.0
        self._files: list[FiledDropped] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows: kept columns, and the day."""
        rows = _latest(rows)
        self._frames.append(rows)
        self._bytes += rows.estimated_size()
        if self._bytes > self._most:
            rows = _latest(pl.concat(self._frames))
            self._frames, self._bytes = [rows], rows.estimated_size()
            if 2 * self._bytes > self._most:
                self._write()

    def files(self) -> tuple[FiledDropped, ...]:
        """Write what is left, and return all files."""
        if self._frames:
            self._write()
        return tuple(self._files)

    def _write(self) -> None:
        name = f"{self._run}-{len(self._files):04}"
        self._files.append(write_dropped(self._folder, name, _latest(pl.concat(self._frames))))
        self._frames, self._bytes = [], 0.0


def _latest(rows: pl.DataFrame) -> pl.DataFrame:
    """Take each combination of kept values once, with its latest day."""
    return rows.group_by(exclude(DAY), maintain_order=True).agg(pl.col(DAY).max())


@dataclass(frozen=True)
class Plan:
    """How runs are made.

    Parameters
    ----------
    budget
        Bytes that may be taken.
    workers
        Number of threads.
    wide
        Whether keys have two words.
    named
        Whether users are kept, beside their keys.
    rows
        The number of rows that will come, where it is known.
    """

    budget: int
    workers: int
    wide: bool
    named: bool
    rows: int | None

    @property
    def bits(self) -> int:
        """How many top bits of the key tell the part."""
        a_part = min(max(self.budget // (400 * self.workers), _SMALL), _PART)
        return min(max(1, (self.rows or _ROWS) // a_part), 1 << 10).bit_length() - 1

    def capacity(self, extras: int) -> int:
        """Give the rows of a run, with so many bytes in each beside the record."""
        rows = int(self.budget * _ARENA) // ((32 if self.wide else 24) + 4 + extras)
        return min(max(rows, _SMALL), self.rows or rows, 2**31)


@dataclass
class Told:
    """What is to be known of all rows, once they have been gathered."""

    days: list[tuple[int, int]] = field(default_factory=list)
    last_day: int | None = None
    magnitude: int = 0
    rows: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    amounts: Amounts | None = None
    dropped_rows: DroppedRows | None = None

    def add(self, batch: Rows) -> None:
        """Take note of some rows."""
        rows = batch.told
        if batch.dropped is not None and self.dropped_rows is not None:
            self.dropped_rows.add(batch.dropped)
        self.dropped += rows.dropped
        self.amounts = rows.amounts
        if rows.last_day is not None:
            self.last_day = rows.last_day if self.last_day is None else max(self.last_day, rows.last_day)
        if rows.cut is not None:
            self.days.append(rows.cut.days)
            self.rows += len(rows.users)


@dataclass(frozen=True)
class Kept:
    """Parts in memory: no run came after the first."""

    parts: list[Part]
    cuts: list[tuple[int, int]]
    text: bool
    asked: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self.parts)

    def size(self, cut: int) -> int:
        """Give the number of rows of a part."""
        return self.parts[cut].rows.height

    def load(self, cut: int, *, users: Iterable[str] = (), rows: Iterable[str] = ()) -> Part:
        """Give a part, with all columns that it has."""
        return self.parts[cut]

    def kept(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """All rows count."""
        return np.empty(0, np.bool_)


@dataclass(frozen=True)
class Gathered:
    """Rows of one run, and whether none come after."""

    records: Records
    bits: int
    extras: pl.DataFrame | None
    names: pl.Series | None
    last: bool

    def parts(self, plan: Plan) -> list[range]:
        """Give the partitions of each part."""
        each = 1 << self.bits - plan.bits
        sizes = np.add.reduceat(self.records.sizes, np.arange(0, 1 << self.bits, each))
        return [range(p * each, (p + 1) * each) for p in np.flatnonzero(sizes).tolist()]

    def part(self, partitions: range) -> Part:
        """Bring the rows of each user together."""
        return clustered(self.records, partitions, self.extras, self.names)


def gathered(batches: Iterable[Rows], plan: Plan, told: Told, meter: Meter | None) -> Iterator[Gathered]:
    """Gather rows as long as there is room, again and again."""
    source = iter(batches)
    pending: list[Rows] = []
    while first := pending.pop() if pending else next(source, None):
        extras: list[pl.DataFrame] = []
        names: list[pl.Series] = []
        capacity = max(plan.capacity(_bytes(first, plan)), len(first.told.users))
        bits = max(plan.bits, partition_bits(capacity))

        def taken(first: Rows, capacity: int, extras: list[pl.DataFrame], names: list[pl.Series]) -> Iterator[Batch]:
            filled = 0
            for rows in chain([first], source):
                filled += len(rows.told.users)
                if filled > capacity:
                    pending.append(rows)
                    return
                told.add(rows)
                if rows.told.cut is not None:
                    if rows.extras is not None:
                        extras.append(rows.extras)
                    if plan.named:
                        names.append(rows.told.users.series.alias(""))
                    yield Batch(rows.told.users, rows.told.cut, rows.told.amounts)

        filing = Filing(capacity, bits, plan.workers, wide=plan.wide)
        filing.add(taken(first, capacity, extras, names), meter)
        told.magnitude += filing.total
        records = filing.records()
        if told.magnitude >= 2**63 and told.amounts is not None:
            raise told.amounts.too_large()
        if records is not None:
            yield Gathered(
                records, bits,
                pl.concat(extras, rechunk=True) if extras else None,
                pl.concat(names, rechunk=True) if names else None,
                last=not pending,
            )  # fmt: skip
        del filing, records


def kept(run: Gathered, plan: Plan) -> Kept:
    """Keep the parts of the only run in memory."""
    ranges = run.parts(plan)
    step = 1 << 64 - run.bits
    cuts = [(part.start * step, part.stop * step - 1) for part in ranges]
    return Kept(on_threads(plan.workers, run.part, ranges), cuts, plan.wide)


def written(run: Gathered, plan: Plan, folder: Path) -> list[Filed]:
    """Write the parts of a run."""
    name = new_run()

    def write(numbered: tuple[int, range]) -> Filed:
        number, partitions = numbered
        return write_part(folder, f"{name}-{number:04}", run.part(partitions))

    return on_threads(plan.workers, write, list(enumerate(run.parts(plan))))


def _bytes(rows: Rows, plan: Plan) -> int:
    """Give the bytes that a row takes beside its record."""
    height = max(len(rows.told.users), 1)
    extras = 0 if rows.extras is None else rows.extras.estimated_size()
    names = rows.told.users.series.estimated_size() + 8 * height if plan.named else 0
    return int(2 * (extras + names) // height)
