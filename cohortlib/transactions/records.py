"""Records: rows written compactly, block by block, the records of a block by partition of users.

A record has the user's key, a local day and an amount in money units. Periods are computed later, so the same records
serve any frequency and right edge.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine import buffers
from cohortlib.engine.kernels.pack import (
    PackedRows,
    PlainRows,
    detail_rows,
    pack_rows,
    scatter_detailed,
    scatter_packed,
    scatter_wide,
)
from cohortlib.engine.kernels.partition import (
    JOINED,
    Block,
    Form,
    RecordArrays,
    count_records,
    write_narrow,
    write_records,
)
from cohortlib.engine.partitions import FullError, RowStore
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import map_ordered
from cohortlib.read.amounts import Amounts, magnitude
from cohortlib.read.arrays import Ints, Keys, read_only
from cohortlib.read.instants import Cut
from cohortlib.read.users import Users

_TAG, _ROW_SHIFT = 2, np.uint64(32)  # of a full record: the word of its tag, which has the row in its upper half
_BLOCK = 1 << 18  # rows that a thread writes at a time
_AHEAD = 2  # blocks for each thread that wait to be written
_ROOM = 1 << 16  # records, besides an eighth of the rows; not more than there are rows


Codes: TypeAlias = NDArray[np.uint32]
_TIME_DAYS = 3  # a local day ends within that many days of UTC, counted from the day before


class Batch(NamedTuple):
    """Rows to write: transactions; or, without amounts, joined users with the date that sets their cohort.

    ``codes(first, count)`` returns the codes of segments of some rows, for detailed records.
    """

    users: Users
    cut: Cut
    amounts: Amounts | None
    codes: Callable[[int, int], Codes] | None = None


class PackingError(FullError):
    """Rows do not fit packed records."""


class Layout(NamedTuple):
    """The layout of packed records: bits of a key (beyond those of the partition) and of a day, and their origins."""

    key_bits: int
    day_bits: int
    first_id: int
    first_day: int
    code_bits: int = 0

    def detailed(self, day: int) -> "Layout":
        """Return the layout of detailed records, for instants with so many ticks in a day."""
        return self._replace(code_bits=64 - (_TIME_DAYS * day).bit_length())

    @classmethod
    def of(cls, batch: Batch, bits: int, ids: tuple[int, int] | None = None, *, wide: bool = False) -> "Layout | None":
        """Choose a layout from the first batch, with room for later values; None if there is none.

        `ids` are the least and the greatest integer id of all batches, where they are known. With `wide`, keys take two
        words, also those of integers.
        """
        users, cut, amounts, _ = batch
        day_bits = 14
        first_day = cut.days[0] - (1 << day_bits - 1)
        if wide or users.wide or amounts is None:
            return cls(0, day_bits, 0, first_day)
        # Room for eight times the greatest amount; larger amounts take several records.
        money = np.abs(amounts.units(0, min(len(users), _BLOCK))).max(initial=0)
        key_bits = 64 - day_bits - (int(money).bit_length() + 4)
        if key_bits < 8:
            return None
        if ids is not None:
            id_bits = max((ids[1] - ids[0]).bit_length() - bits, 1)
            return cls(id_bits, day_bits, ids[0], first_day) if id_bits <= key_bits else None
        room = 1 << key_bits + bits
        low, high = users.bounds()
        first_id = 0 if low >= 0 and high < room else max(low - room // 4, -(2**63))
        return cls(key_bits, day_bits, first_id, first_day) if high - first_id < room else None


class Records(NamedTuple):
    """Records in memory, by partition of users: partition p has ``sizes[p]`` of them.

    All local days (since 1970-01-01) lie between `first` and `last`.
    """

    arrays: RecordArrays
    form: Form
    sizes: Ints
    first: int
    last: int

    def groups(self, rows: int) -> list[tuple[int, int]]:
        """Split the partitions into ranges of about `rows` rows, at least one partition each."""
        firsts = np.flatnonzero(np.diff((np.cumsum(self.sizes) - self.sizes) // rows, prepend=-1)).tolist()
        return list(zip(firsts, [*firsts[1:], self.sizes.size], strict=True))


class RecordsBuilder:
    """Build records from batches, on several threads, in a `RowStore`.

    Parameters
    ----------
    rows
        Upper bound of the number of rows.
    bits
        Top bits of the key that select the partition, one of ``2 ** bits``.
    workers
        Number of threads.
    wide
        Whether the keys of users take two words.
    layout
        Layout of packed records, or None for full ones. Rows that do not fit it raise `PackingError`, more records
        than there is room for `FullError`.
    """

    def __init__(self, rows: int, bits: int, workers: int, *, wide: bool, layout: Layout | None = None) -> None:
        self._workers, self._layout = workers, layout
        first = layout or Layout(0, 0, 0, 0)
        self._form = Form(
            bits, layout is not None, wide, first.key_bits, first.day_bits, first.first_day, first.code_bits
        )
        # Room for amounts that take several records.
        self._store = RowStore(rows + rows // 8 + min(_ROOM, rows), bits, ((np.uint64, self._form.width),))
        self._rows = 0
        self._days: list[tuple[int, int]] = []
        self.total = 0
        """Σ |units|."""

    def add(self, batches: Iterable[Batch], meter: Meter | None = None) -> None:
        """Write the rows of all batches; the next batch is read while earlier ones are written.

        A second call is allowed: in each partition its rows come after those of the first.
        """
        # Threads write most blocks of a batch while the next batch is parsed; more would keep more batches in memory.
        blocks = self._blocks(batches)
        for total in map_ordered(self._workers, lambda block: self._write(*block, meter), blocks, ahead=_AHEAD):
            self.total += total

    def _blocks(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, int, int, int]]:
        for batch in batches:
            users, cut, amounts, _ = batch
            self._days.append(cut.days)
            if self._layout is not None:
                low, high = (day - self._layout.first_day for day in cut.days)
                if low < 0 or high >> self._layout.day_bits:
                    raise PackingError
            # Fill the caches that all blocks share here, before several threads need them.
            self._keys(users, 0, 0)
            cut.local_days(0, 0)
            if amounts is not None:
                amounts.units(0, 0)
            for first in range(0, len(users), _BLOCK):
                yield batch, first, min(_BLOCK, len(users) - first), self._rows + first
            self._rows += len(users)

    def _keys(self, users: Users, first: int, size: int) -> tuple[Keys, Keys]:
        if self._layout is None or not self._layout.key_bits:
            key, key2 = users.keys(first, size)
            return key, np.zeros(size, np.uint64) if self._form.wide and not users.wide else key2
        keys = users.narrow_keys(first, size, self._layout.first_id, self._layout.key_bits + self._form.partition_bits)
        if keys is None:
            raise PackingError
        return keys, np.empty(0, np.uint64)

    def _write(self, batch: Batch, first: int, size: int, row: int, meter: Meter | None) -> int:
        """Write one block; return Σ |units|."""
        total = self._write_plain(batch, first, size, row)
        if total is None:
            total = self._write_any(batch, first, size, row)
        if meter is not None:
            meter.add(size)
        return total

    def _write_plain(self, batch: Batch, first: int, size: int, row: int) -> int | None:
        """Write one block in one pass over its columns, unless a column, or a value, needs more than that."""
        users, cut, amounts, _ = batch
        floats = None if amounts is None else amounts.floats(first, size)
        detailed = self._form.code_bits > 0
        if floats is None or amounts is None or self._layout is None or cut.starts.size > 1:
            return None
        if detailed and self._form.wide:
            return None
        keys, keys2 = self._keys(users, first, size) if self._form.wide else (None, None)
        ids = users.ids(first, size) if keys is None else read_only(keys.view(np.int64))
        rows = PlainRows(ids, cut.instants.ticks(first, size), floats)
        packed = PackedRows(buffers.empty(size, np.uint64), buffers.empty(size, np.uint16))
        counts = np.empty(1 << self._form.partition_bits, np.int64)
        fits, high, low = pack_rows(
            rows, self._form, np.int64(self._layout.first_id), users.secret, cut.day_cut(self._layout.first_day),
            float(10**amounts.decimals), packed, counts,
        )  # fmt: skip
        if not fits:
            return None
        begins, words = self._store.reserve_counts(counts, row), self._store.columns[0]
        if keys is not None:
            scatter_wide(packed, keys, keys2, begins, words)
        elif detailed:
            scatter_detailed(packed, self._details(batch, first, packed.words), begins, words)
        else:
            scatter_packed(packed, begins, words)
        return (int(high) << 32) + int(low)

    def _write_any(self, batch: Batch, first: int, size: int, row: int) -> int:
        """Write one block of any types, column by column."""
        users, cut, amounts, _ = batch
        keys, keys2 = self._keys(users, first, size)
        units = np.zeros(size, np.int64) if amounts is None else amounts.units(first, size)
        block = Block(keys, keys2, units, cut.local_days(first, size))
        if self._form.code_bits:
            days = (block.days - self._form.first_day).astype(np.uint64) << np.uint64(self._form.key_bits)
            block = block._replace(details=self._details(batch, first, days))
        counts = np.empty(1 << self._form.partition_bits, np.int64)
        records = int(count_records(block, self._form, counts))
        begins, words = self._store.reserve_counts(counts, row), self._store.columns[0]
        if self._form.width == 1 and records == size:
            write_narrow(block, self._form, begins, words)
        else:
            write_records(block, self._form, row, JOINED if amounts is None else np.uint64(0), begins, words)
        return magnitude(units)

    def _details(self, batch: Batch, first: int, days: Keys) -> Keys:
        """Return the details of the rows of a block, given records with their days."""
        if batch.codes is None:
            raise PackingError
        codes, instants = batch.codes(first, days.size), batch.cut.instants
        if codes.max(initial=0) >> self._form.code_bits:
            raise PackingError
        details = buffers.empty(days.size, np.uint64)
        detail_rows(instants.ticks(first, days.size), days, self._form, instants.day, codes, details)
        return details

    def build(self) -> Records | None:
        """Return the records, or None if there are no rows."""
        if not self._rows:
            return None
        table = self._store.finalize()
        first, last = min(day for day, _ in self._days), max(day for _, day in self._days)
        return Records(RecordArrays(table.starts, *table.columns), self._form, table.sizes, first, last)


def row_numbers(words: Keys, width: int) -> NDArray[np.uint32]:
    """Return the rows of full records of some words."""
    return (words[_TAG::width] >> _ROW_SHIFT).astype(np.uint32)


def renumber(words: Keys, width: int) -> None:
    """Set the rows of full records to their order."""
    tags = words[_TAG::width]
    tags &= (np.uint64(1) << _ROW_SHIFT) - np.uint64(1)
    tags |= np.arange(tags.size, dtype=np.uint64) << _ROW_SHIFT
