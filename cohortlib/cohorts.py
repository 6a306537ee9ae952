"""The engine: from transactions to sums over (cohort, age), and to the activity of each user.

Rows are ordered by partition of users; then each partition is netted by itself, in the cache. Whatever the threads
produce is added as integers, so the result does not depend on how many there were, or on the order of anything.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import polars as pl
from polars.selectors import by_name

from cohortlib import schema, sources
from cohortlib.activity import Activity, Histogram
from cohortlib.errors import DataError, SchemaError, listed
from cohortlib.netting import NOTHING, Grid, Netting, RecordsNetting
from cohortlib.partitions import Meter, bits_for
from cohortlib.records import Batch, Filing, Form, UnfitError
from cohortlib.schema import Amounts, Cut, Instants, Transactions, Users
from cohortlib.settings import Settings
from cohortlib.sources import Source

_SUMS_BYTES = 1 << 29  # what the sums of all threads may take together before cohorts are counted first


# --------------------------------------------------------------------------------------------------- the two roads


@dataclass(frozen=True)
class Question:
    """The rows of all users beside the grid in which they are to be placed; without rows its span is 0.

    `last_day` is the local day of the last row of all, kept or not, and `magnitude` is Σ |units|.
    """

    settings: Settings
    last_day: int | None
    magnitude: int = 0
    grid: Grid = NOTHING
    netting: Netting | None = None

    @classmethod
    def of(cls, source: Source, settings: Settings, *, whole: bool, beyond: bool = False) -> "Question":
        """Read a source and lay out the grid; unless the `whole` is asked for, batch by batch where that can be.

        The grid ends with the last row; users may be given cohorts `beyond` that, and be left to the caller.
        """
        if not whole and settings.joined is None:
            stream = sources.stream(source, lambda _: settings.roles, text=settings.user, number=settings.amount)
            if Users.alike(stream.schema[settings.user]):
                # What is wrong is better told of the whole table.
                with suppress(DataError, SchemaError):
                    with suppress(UnfitError):
                        return cls._of_batches(stream, settings, packed=True)
                    return cls._of_batches(stream, settings, packed=False)
            source = stream.source
        rows, joined = _read(source, settings)
        rows.dropped.tell("the table")
        users = [rows.users] if joined is None else [joined.users, rows.users]
        return cls._filed(settings, [rows], len(rows.users), joined, wide=rows.users.wide, users=users, beyond=beyond)

    @classmethod
    def _of_batches(cls, stream: sources.Stream, settings: Settings, *, packed: bool) -> "Question":
        dropped = schema.Dropped()

        def batches() -> Iterator[Transactions]:
            nonlocal dropped
            for frame in stream.batches():
                rows = _transactions(frame, settings)
                dropped += rows.dropped
                yield rows

        wide = stream.schema[settings.user] == pl.String
        question = cls._filed(settings, batches(), stream.rows, None, wide=wide, packed=packed)
        dropped.tell("the table")
        return question

    @classmethod
    def _filed(
        cls,
        settings: Settings,
        tables: Iterable[Transactions],
        rows: int,
        joined: Batch | None,
        *,
        wide: bool,
        packed: bool = False,
        users: list[Users] | None = None,
        beyond: bool = False,
    ) -> "Question":
        """File the rows of all tables, then lay out the grid."""
        amounts: list[Amounts] = []
        ends: list[int] = []

        def batches() -> Iterator[Batch]:
            for table in tables:
                amounts[:] = [table.amounts]
                if table.last_day is not None:
                    ends.append(table.last_day)
                if table.cut is not None:
                    yield Batch(table.users, table.cut, table.amounts)

        others = len(joined.users) if joined else 0
        meter = Meter(settings.progress, rows)
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
        start, last = settings.bounds(last_day)
        if beyond and records is not None:
            placed = settings.ordinal(records.last)
            last = placed if last is None else max(last, placed)
        if last is None or records is None:
            return cls(settings, last_day)
        # Where all rows lie after the right edge the grid has that one period, and the rows are checked all the same.
        origin = min(last, settings.ordinal(records.first))
        first = 0 if start is None else max(0, start - origin)
        grid = Grid(origin, last - origin + 1, first)
        return cls(settings, last_day, filing.total, grid, RecordsNetting(settings, grid, meter, records, users or []))

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
        self.rows.end()
        return sums

    def activity(self) -> tuple[Activity, pl.Series]:
        """Give everybody one by one, cohorts before `first` too, and the column of users in which each has a row."""
        users = self.rows.everybody(self.settings.workers)
        self.rows.end()
        return users


def _transactions(frame: pl.DataFrame, settings: Settings) -> Transactions:
    return schema.transactions(
        frame, *settings.roles,
        nulls=settings.nulls, decimals=settings.decimals, zone=settings.timezone, calendar=settings.calendar,
    )  # fmt: skip


def _read(source: Source, settings: Settings) -> tuple[Transactions, Batch | None]:
    """Read the transactions and, where it is asked for, the table of joined users."""
    joined = settings.joined
    there: list[str] = []

    def wanted(names: list[str]) -> list[str]:
        there.extend(names)
        return [*settings.roles, joined] if isinstance(joined, str) and joined in names else settings.roles

    frame = sources.read(source, wanted, text=settings.user, number=settings.amount)
    rows = _transactions(frame, settings)
    if joined is None:
        return rows, None
    if isinstance(joined, str) and joined in there:
        table = frame.select(by_name(settings.user, joined)).filter(frame[settings.user].alias("").is_not_null())
    else:
        if isinstance(joined, str) and not sources.files(joined):
            raise SchemaError(f"joined={joined!r} is neither a column nor a file; columns are {listed(there)}")
        if not (isinstance(joined, str | Path | pl.DataFrame | pl.LazyFrame) or hasattr(joined, "__arrow_c_stream__")):
            raise SchemaError(f"joined={joined!r} is neither a table nor the name of a column")
        table = sources.read(joined, lambda names: _joined_columns(names, settings.user), text=settings.user)
    table, dropped = schema.without_nulls(table, settings.nulls, "the joined table")
    dropped.tell("the joined table")
    users, others = Users.both(rows.users, Users.of(table[settings.user]))
    instants = Instants.of(table[table.columns[-1]])
    cut = Cut.of(instants, settings.timezone, settings.calendar)
    return replace(rows, users=users), None if cut is None else Batch(others, cut, None)


def _joined_columns(names: list[str], user: str) -> list[str]:
    """Find the column of dates in a joined table."""
    dates = [name for name in names if name != user]
    if user not in names or not ("joined" in names or len(dates) == 1):
        raise SchemaError(
            f"the joined table has columns {listed(names)}; expected {user!r} and 'joined' (or {user!r} and one other)"
        )
    return [user, "joined" if "joined" in names else dates[0]]
