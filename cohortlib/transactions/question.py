"""The engine: from transactions to sums over (cohort, age), and to the activity of each user.

Rows are ordered by partition of users; then each partition is netted by itself, in the cache. Whatever the threads
produce is added as integers, so the result does not depend on how many there were, or on the order of anything.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from polars.selectors import by_name

from cohortlib.engine import files
from cohortlib.engine.partitions import bits_for
from cohortlib.engine.progress import Meter
from cohortlib.errors import DataError, SchemaError, SettingError
from cohortlib.read import sources
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Source, Stream
from cohortlib.read.transactions import Transactions, transactions
from cohortlib.read.users import People, Users
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.grid import NOTHING, Grid
from cohortlib.transactions.joined import given_of, joined_cut, joined_in_stream, joined_table
from cohortlib.transactions.netting import Netting, RecordsNetting
from cohortlib.transactions.part_netting import PartsNetting, Shelf
from cohortlib.transactions.records import Batch, Filing, Form, UnfitError
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.manifest import Filed, Manifest
from cohortlib.transactions.store.prepared import Prepared, opened
from cohortlib.transactions.store.spill import Plan, Told, gathered, kept, rows_of, written

if TYPE_CHECKING:
    from cohortlib.read.amounts import Amounts

_BESIDE = 64 << 20  # bytes that are taken whatever the number of rows
_WIDE = 4096  # periods, whose sums take 64 MB a thread
_SUMS_BYTES = 1 << 29  # what the sums of all threads may take together before cohorts are counted first


# --------------------------------------------------------------------------------------------------- the two roads


@dataclass(frozen=True)
class Question:
    """The rows of all users beside the grid in which they are to be placed; without rows its span is 0.

    `last_day` is the local day of the last row of all, kept or not, `first_day` that of the first row kept, and
    `magnitude` is Σ |units|. `dropped` counts all rows, those of a prepared form before its filter, and those with
    nulls. Where it is `silent` it is left to the caller to say what of a joined table did not fit. Where it is `wide`
    rows are filtered as they are netted: the grid reaches to the end of all rows, `last_day` is that of dropped rows
    alone, and `final_day` is known after the netting.
    """

    settings: Settings
    last_day: int | None
    magnitude: int = 0
    grid: Grid = NOTHING
    netting: Netting | None = None
    silent: bool = False
    wide: bool = False
    dropped: Dropped = field(default_factory=Dropped)
    first_day: int | None = None

    @classmethod
    @contextmanager
    def of(
        cls, source: Source, settings: Settings, *, whole: bool, beyond: bool = False, bounded: bool = True
    ) -> Iterator["Question"]:
        """Read a source and lay out the grid; what had to go to disk is there until the end.

        Parameters
        ----------
        source, settings
            What is asked, of what.
        whole
            Whether users are to be named.
        beyond
            The grid ends with the last row; users may be given cohorts beyond that, and be left to the caller.
        bounded
            Whether rows may go to disk where they take more memory than there is.
        """
        with ExitStack() as stack:
            budget = settings.budget if bounded else None
            yield cls._read(source, settings, stack, whole=whole, beyond=beyond, budget=budget)

    @classmethod
    def _read(
        cls, source: Source, settings: Settings, stack: ExitStack, *, whole: bool, beyond: bool, budget: int | None
    ) -> "Question":
        source = opened(source)
        if isinstance(source, Prepared):
            told = source.manifest
            _check_same(source, settings)
            people = People(told.kind, told.key_secret, whole=told.whole)
            joined = joined_table(settings, source.columns, lambda: source.dates(str(settings.joined)))
            meter = Meter(settings.progress, told.rows)
            # To find the last day under a filter takes a third of the time, and can wait for the netting where nobody
            # is placed by it, unless a far day that is left out would make the sums large.
            span = settings.ordinal(told.final_day) - settings.ordinal(told.first_day) + 1
            wide = source.only is not None and told.rows > 0 and not (whole or joined is not None or span > _WIDE)
            days = (told.first_day, told.final_day, told.final_day) if wide else source.days()
            question = cls._of_parts(
                settings, source, days, told.magnitude, meter, people, joined, beyond=beyond or wide
            )
            rows = Dropped(told.rows + told.dropped, told.dropped)
            first = None if wide else question.first_day  # nobody has looked for it
            last_day = source.last_dropped_day() if wide else question.last_day
            return replace(question, wide=wide, dropped=rows, first_day=first, last_day=last_day)
        if budget is None and (whole or settings.joined is not None):
            return cls._of_whole(source, settings, beyond=beyond)
        stream = sources.stream(source, settings.wanted, text=settings.user, number=settings.amount, most=budget)
        if stream.rows is None and budget is not None:
            stream = stream.begun(budget // 4)
        alike = Users.alike(stream.schema[settings.user])
        by_batches = not whole and settings.joined is None and alike
        room = _Room.of(stream, settings, by_batches=by_batches)
        if budget is None or room.packed <= budget:
            # What is wrong is better told of the whole table.
            with suppress(DataError, SchemaError):
                meter = Meter(settings.progress, stream.rows or 0)
                if by_batches:
                    with suppress(UnfitError):
                        return cls._of_batches(stream, settings, meter, packed=True)
                if by_batches and (budget is None or room.full <= budget):
                    meter.anew()
                    return cls._of_batches(stream, settings, meter, packed=False)
        if budget is not None and room.full > budget:
            folder = stack.enter_context(files.scratch(Path(gettempdir())))
            return cls._spilled(source, stream, settings, budget, folder, named=whole, beyond=beyond)
        return cls._of_whole(stream.source, settings, beyond=beyond)

    @classmethod
    def _of_whole(cls, source: Source, settings: Settings, *, beyond: bool) -> "Question":
        there: list[str] = []

        def wanted(names: list[str]) -> list[str]:
            there.extend(names)
            return settings.wanted(names)

        frame = sources.read(source, wanted, text=settings.user, number=settings.amount)
        rows = transactions(frame, *settings.roles, **settings.reading)
        table = joined_table(settings, there, lambda: frame.select(by_name(settings.user, str(settings.joined))))
        batch, users = None, [rows.users]
        if table is not None:
            mine, others = Users.both(rows.users, Users.of(table[settings.user]))
            cut = joined_cut(table, settings)
            batch = None if cut is None else Batch(others, cut, None)
            rows = replace(rows, users=mine)
            users = [others, mine] if batch is not None else [mine]
        rows.dropped.tell("the table")
        meter = Meter(settings.progress, len(rows.users))
        question = cls._filed(
            settings, [rows], len(rows.users), batch, meter, wide=rows.users.wide, users=users, beyond=beyond
        )
        return replace(question, dropped=rows.dropped)

    @classmethod
    def _spilled(
        cls, source: Source, stream: Stream, settings: Settings, budget: int, folder: Path,
        *, named: bool, beyond: bool,
    ) -> "Question":  # fmt: skip
        people = People.of(stream.schema[settings.user], settings.user)
        plan = Plan(budget, settings.workers, people.text, named or settings.joined is not None, stream.rows)
        meter = Meter(settings.progress if stream.rows else None, stream.rows or 0)
        told = Told()
        batches = rows_of(stream.batches(), settings, people, ())
        runs: list[tuple[Filed, ...]] = []
        alone = None
        for run in gathered(batches, plan, told, meter):
            if run.last and not runs:
                alone = kept(run, plan)
            else:
                runs.append(tuple(written(run, plan, folder)))
            del run  # before the next is gathered
        told.dropped.tell("the table")
        first, final = min((day for day, _ in told.days), default=0), max((day for _, day in told.days), default=-1)
        manifest = Manifest(
            bits=plan.bits, kind=people.kind, rows=told.rows, first_day=first, final_day=final, runs=tuple(runs)
        )
        joined = joined_in_stream(source, settings) if settings.joined is not None else None
        question = cls._of_parts(
            settings, alone or Prepared(folder, manifest), (first, final, told.last_day), told.magnitude, meter, people,
            joined, beyond=beyond,
        )  # fmt: skip
        return replace(question, dropped=told.dropped)

    @classmethod
    def _of_parts(
        cls, settings: Settings, shelf: Shelf, days: tuple[int, int, int | None], magnitude: int, meter: Meter,
        people: People, table: pl.DataFrame | None, *, beyond: bool,
    ) -> "Question":  # fmt: skip
        """Lay out the grid for parts, whose rows lie between the first two days; the third is the last of all rows."""
        first, final, last_day = days
        cut = (
            None
            if table is None
            else Cut.of(Instants.of(table[table.columns[-1]]), settings.timezone, settings.calendar)
        )
        placed = [first, final] if first <= final else []
        placed += [] if cut is None else cut.days
        grid = _grid(settings, last_day, placed, beyond=beyond)
        if grid is None:
            return cls(settings, last_day)
        given = None if cut is None or table is None else given_of(people, table, cut, settings.calendar, grid.origin)
        netting = PartsNetting(settings, grid, meter, shelf, (first, final), given)
        return cls(settings, last_day, magnitude, grid, netting, first_day=first if first <= final else None)

    @classmethod
    def _of_batches(cls, stream: Stream, settings: Settings, meter: Meter, *, packed: bool) -> "Question":
        dropped = Dropped()

        def batches() -> Iterator[Transactions]:
            nonlocal dropped
            for frame in stream.batches():
                rows = transactions(frame, *settings.roles, **settings.reading)
                dropped += rows.dropped
                yield rows

        wide = stream.schema[settings.user] == pl.String
        question = cls._filed(settings, batches(), stream.rows or 0, None, meter, wide=wide, packed=packed)
        dropped.tell("the table")
        return replace(question, dropped=dropped)

    @classmethod
    def _filed(
        cls,
        settings: Settings,
        tables: Iterable[Transactions],
        rows: int,
        joined: Batch | None,
        meter: Meter,
        *,
        wide: bool,
        packed: bool = False,
        users: list[Users] | None = None,
        beyond: bool = False,
    ) -> "Question":
        """File the rows of all tables, then lay out the grid."""
        amounts: list[Amounts] = []
        begins: list[int] = []
        ends: list[int] = []

        def batches() -> Iterator[Batch]:
            for table in tables:
                amounts[:] = [table.amounts]
                if table.last_day is not None:
                    ends.append(table.last_day)
                if table.cut is not None:
                    begins.append(table.cut.days[0])
                    yield Batch(table.users, table.cut, table.amounts)

        others = len(joined.users) if joined else 0
        bits = bits_for(rows, others)
        filed: Iterable[Batch] = batches()
        form = None
        if packed:
            begin = list(islice(filed, 1))
            form = Form.of(begin[0], bits) if begin else None
            filed = chain(begin, filed)
        filing = Filing(rows + others, bits, settings.workers, wide=wide, form=form)
        if joined is not None:
            filing.add([joined])
        filing.add(filed, meter)
        records = filing.records()
        if filing.total >= 2**63:
            raise amounts[0].too_large()

        last_day = max(ends) if ends else None
        placed = [records.first, records.last] if records is not None else []
        grid = _grid(settings, last_day, placed, beyond=beyond)
        if grid is None or records is None:
            return cls(settings, last_day)
        netting = RecordsNetting(settings, grid, meter, records, users or [])
        return cls(settings, last_day, filing.total, grid, netting, first_day=min(begins, default=None))

    @property
    def span(self) -> int:
        """Number of periods; 0 where there is nothing to place."""
        return self.grid.span

    @property
    def first(self) -> int:
        """The first period whose cohorts are shown."""
        return self.grid.first

    @property
    def last(self) -> int:
        """The ordinal of the right edge."""
        return self.grid.origin + self.grid.span - 1

    @property
    def labels(self) -> pl.Series:
        """The names of the periods."""
        return self.grid.labels(self.settings.calendar)

    @property
    def rows(self) -> Netting:
        """The rows of all users; only where there is something to place."""
        if self.netting is None:
            raise ValueError("there are no rows")
        return self.netting

    @property
    def final_day(self) -> int | None:
        """The last day; where the grid is `wide`, once all rows are netted."""
        if not self.wide:
            return self.last_day
        return max((day for day in (self.rows.final_day, self.last_day) if day is not None), default=None)

    def sums(self) -> Histogram:
        """Add up everybody."""
        kept = np.arange(self.span) >= self.first
        workers = self.settings.workers
        cells = 8 * self.span * (self.span + 1)
        if cells * workers > _SUMS_BYTES:
            # Too many cells to have them all: count the cohorts first, and make cells for those that exist.
            kept &= self.rows.fold(np.zeros(self.span, np.bool_), workers).size > 0
            cells = 16 * int((self.span - np.flatnonzero(kept)).sum())
            workers = min(workers, max(1, _SUMS_BYTES // max(cells, 1)))
        sums = self.rows.fold(kept, workers)
        if not self.silent:
            self.rows.end()
        return sums

    def activity(self, part: int | None = None) -> tuple[Activity, pl.Series]:
        """Give everybody one by one, cohorts before `first` too, and the column of users in which each has a row.

        If one `part` is asked for, it is left to the caller to end the netting.
        """
        if part is not None:
            return self.rows.one(part, self.settings.workers)
        users = self.rows.everybody(self.settings.workers)
        if not self.silent:
            self.rows.end()
        return users


def _grid(settings: Settings, last_day: int | None, placed: Sequence[int], *, beyond: bool) -> Grid | None:
    """Lay out the grid for rows between two days; None where there is nothing to place."""
    start, last = settings.bounds(last_day)
    if not placed:
        return None
    if beyond:
        last = max(settings.ordinal(max(placed)), settings.ordinal(max(placed)) if last is None else last)
    if last is None:
        return None
    # Where all rows lie after the right edge the grid has that one period, and the rows are checked all the same.
    origin = min(last, settings.ordinal(min(placed)))
    return Grid(origin, last - origin + 1, 0 if start is None else max(0, start - origin))


class _Room(NamedTuple):
    """The bytes that rows take in memory, about: as packed records, and as full ones."""

    packed: float
    full: float

    @classmethod
    def of(cls, stream: Stream, settings: Settings, *, by_batches: bool) -> "_Room":
        """Estimate; where nobody knows the number of rows they take more than there is."""
        if stream.rows is None:
            return cls(math.inf, math.inf)
        if not by_batches:  # the table is read as a whole
            return cls(math.inf, _BESIDE + 100 * stream.rows)
        text = stream.schema[settings.user] == pl.String
        return cls(*(_BESIDE + width * stream.rows for width in ((26, 36) if text else (9, 27))))


def _check_same(prepared: Prepared, settings: Settings) -> None:
    """Refuse to read the prepared form by other settings than it was written by: the result would be another."""
    for name in ("user", "timestamp", "amount", "timezone", "decimals"):
        was, asked = getattr(prepared.manifest, name), getattr(settings, name)
        if was != asked:
            raise SettingError(
                f"{name}={asked!r} is asked of {str(prepared.folder)!r}, which was prepared with {name}={was!r}; "
                f"expected the same. Hint: {name}={was!r}, or prepare the transactions anew"
            )
