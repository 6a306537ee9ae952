"""The engine: from transactions to sums over (cohort, age), and to the activity of each user.

Rows are ordered by partition of users; then each partition is netted by itself, in the cache. Whatever the threads
produce is added as integers, so the result does not depend on how many there were, or on the order of anything.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import reduce
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.selectors import by_name

from cohortlib import kernels, schema, sources
from cohortlib.errors import DataError, SchemaError, SettingError, listed, one_of, warn
from cohortlib.partitions import Meter, Progress, bits_for, check_progress, check_size, shared_out, workers_for
from cohortlib.periods import Calendar, Freq, check_zone, span
from cohortlib.records import Batch, Filing, Form, Records, UnfitError
from cohortlib.schema import Amounts, Cut, Instants, Ints, Transactions, Users
from cohortlib.sources import Source

Refunds = Literal["net", "signed", "drop"]
BeforeJoined = Literal["error", "clip", "drop"]
_Result = TypeVar("_Result")

_GROUP = 1 << 15  # rows that a worker nets at a time
_SHORT = 1 << 25  # sums of users by periods that may lie side by side; only those of users who are there are touched
_SUMS_BYTES = 1 << 29  # what the sums of all threads may take together before cohorts are counted first


@dataclass(frozen=True)
class Settings:
    """What the caller asked for, checked.

    The fields are the arguments of :func:`cohortlib.termina.cohorts`, under their names.
    """

    user: str = "user_id"
    timestamp: str = "timestamp"
    amount: str = "amount"
    freq: Freq = "M"
    timezone: str = "UTC"
    week_start: str = "monday"
    refunds: Refunds = "net"
    joined: Source | None = None
    before_joined: BeforeJoined = "error"
    start: str | date | datetime | None = None
    end: str | date | datetime | None = None
    complete_only: bool = False
    nulls: schema.Nulls = "error"
    decimals: int = 6
    threads: int | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        names = {"user": self.user, "timestamp": self.timestamp, "amount": self.amount}
        for role, name in names.items():
            if not isinstance(name, str):
                raise SettingError(f"{role}={name!r} is not a column's name; expected a string")
        if len(set(names.values())) < 3:
            raise SettingError(f"user, timestamp and amount name {listed(names.values())}; expected three columns")
        one_of("refunds", self.refunds, ("net", "signed", "drop"))
        one_of("before_joined", self.before_joined, ("error", "clip", "drop"))
        one_of("nulls", self.nulls, ("error", "drop"))
        one_of("complete_only", self.complete_only, (True, False))
        one_of("decimals", self.decimals, range(10))
        workers_for(self.threads)
        check_progress(self.progress)
        check_zone(self.timezone)
        first, last = self.edges()
        if first is not None and last is not None and first > last:
            raise SettingError(f"start={self.start!r} lies after end={self.end!r}; expected start before end")

    @property
    def calendar(self) -> Calendar:
        """How days become periods."""
        return Calendar(self.freq, self.week_start)

    @property
    def roles(self) -> list[str]:
        """The columns of users, instants and amounts."""
        return [self.user, self.timestamp, self.amount]

    @property
    def scale(self) -> int:
        """Units of money in one."""
        return int(10**self.decimals)

    @property
    def workers(self) -> int:
        """Number of threads."""
        return workers_for(self.threads)

    def edges(self) -> tuple[int | None, int | None]:
        """Give the ordinals that `start` and `end` name."""
        first = None if self.start is None else self.calendar.ordinal(span("start", self.start)[0])
        last = None if self.end is None else self.calendar.ordinal(span("end", self.end)[1])
        return first, last


# ------------------------------------------------------------------------------------------------------- the parts


@dataclass(frozen=True)
class Activity:
    """Users one by one: the cohort of each, and the active amount of each of its periods.

    The cells of user u stand at ``start[u]`` to ``start[u + 1]``, in order. Periods count from the first of the
    grid. `row` is a row in which the user stands (of the transactions, then of the joined table), where asked for.
    """

    cohort: NDArray[np.int32]
    row: NDArray[np.uint32]
    start: Ints
    period: NDArray[np.int32]
    active: NDArray[np.bool_]
    amount: Ints

    @property
    def cells(self) -> tuple[NDArray[Any], ...]:
        """The arrays that every kernel on activity takes."""
        return self.cohort, self.start, self.period, self.active, self.amount

    def copy(self) -> "Activity":
        """Take the users out of the arrays that they were netted in."""
        return Activity(
            self.cohort.copy(), self.row.copy(), self.start.copy(), *(cells.copy() for cells in self.cells[2:])
        )

    @classmethod
    def chained(cls, parts: list["Activity"]) -> "Activity":
        """Put the users of disjoint parts one after the other."""
        shifts = np.cumsum([0] + [part.period.size for part in parts])
        starts = [part.start[:-1] + shift for part, shift in zip(parts, shifts, strict=False)]
        return cls(
            np.concatenate([part.cohort for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([*starts, shifts[-1:]]).astype(np.int64),
            np.concatenate([part.period for part in parts]),
            np.concatenate([part.active for part in parts]),
            np.concatenate([part.amount for part in parts]),
        )


@dataclass(frozen=True)
class Sums:
    """The sums over (cohort, age): whole numbers, so tables of disjoint users add.

    A cohort is a row of the grid, now one for each period from the first on; `size` and `first_amount` (the active
    amount at age 0) have one entry each. The cells of cohort c stand at ``offsets[c]`` to ``offsets[c] + span − c``,
    one for each age; a cohort with a negative offset has been left out. A cell has two entries, side by side so that a
    user's activity touches one line of memory: `active` users, and their `amount`.
    """

    span: int
    offsets: Ints
    size: Ints
    first_amount: Ints
    cells: Ints

    @property
    def active(self) -> Ints:
        """Active users of each cell."""
        return self.cells[::2]

    @property
    def amount(self) -> Ints:
        """Σ amount of each cell."""
        return self.cells[1::2]

    @classmethod
    def zero(cls, span: int, kept: NDArray[np.bool_]) -> "Sums":
        """Make the sums of nobody, with cells for the cohorts `kept`."""
        ages = np.where(kept, span - np.arange(span, dtype=np.int64), 0)
        ends = np.cumsum(ages)
        cells = int(ends[-1])
        check_size(cells, "a coarser freq, start= or end=; or look for a wrong date, the first and the last")
        offsets = np.where(kept, ends - ages, -1)
        return cls(span, offsets, *(np.zeros(size, np.int64) for size in (span, span, 2 * cells)))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.span,
            self.offsets,
            self.size + other.size,
            self.first_amount + other.first_amount,
            self.cells + other.cells,
        )

    def grid(self, first: int) -> tuple[Ints, Ints, Ints]:
        """Give cohort, age and place of every cell to show: of cohorts with users, from the period `first` on."""
        shown = np.flatnonzero((self.size > 0) & (self.offsets >= 0) & (np.arange(self.span) >= first))
        ages = self.span - shown
        ends = np.cumsum(ages)
        age = np.arange(ends[-1] if ends.size else 0, dtype=np.int64) - np.repeat(ends - ages, ages)
        return np.repeat(shown, ages), age, np.repeat(self.offsets[shown], ages) + age

    def cumulative(self) -> Ints:
        """Sum the amount of each cohort over the ages up to each."""
        running = np.cumsum(self.amount)
        made = np.flatnonzero(self.offsets >= 0)
        places = self.offsets[made]
        return running - np.repeat(running[places] - self.amount[places], self.span - made)

    @property
    def added_to(self) -> tuple[Ints, ...]:
        """The arrays that every kernel which adds users takes."""
        return self.offsets, self.size, self.cells, self.first_amount

    def add(self, users: Activity) -> None:
        """Add users in place; for the owner of fresh sums alone."""
        kernels.histogram(*users.cells, *self.added_to)


# --------------------------------------------------------------------------------------------------- the two roads


@dataclass(frozen=True)
class Question:
    """The records of all users beside the grid in which they are to be placed.

    The periods of the grid count from the ordinal `origin`; the last, the right edge, is ``origin + span − 1``.
    Cohorts before the period `first` are left out. Where there is nothing to place, `records` is None and `span` is 0.
    `users` are the users of each row that was filed, where the source was read as a whole.
    """

    settings: Settings
    meter: Meter
    users: list[Users]
    records: Records | None
    origin: int = 0
    span: int = 0
    first: int = 0

    @classmethod
    def of(cls, source: Source, settings: Settings, *, whole: bool) -> "Question":
        """Read a source and lay out the grid; unless the `whole` is asked for, batch by batch where that can be."""
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
        question = cls._filed(settings, [rows], len(rows.users), joined, wide=rows.users.wide)
        return replace(question, users=users)

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

        calendar = settings.calendar
        start, last = settings.edges()
        # The periods of the last day of all rows and of the day after.
        told, after = calendar.ordinals(max(ends) + np.arange(2)).tolist() if ends else (None, None)
        last = told if last is None else last
        if last is None or records is None:
            return cls(settings, meter, [], None)
        if settings.complete_only and told == after == last:
            last -= 1
        # Where all rows lie after the right edge the grid has that one period, and the rows are checked all the same.
        origin = min(last, int(calendar.ordinals(np.array([records.first]))[0]))
        first = 0 if start is None else max(0, start - origin)
        return cls(settings, meter, [], records, origin, last - origin + 1, first)

    @property
    def texts(self) -> pl.Series:
        """The users of all rows, in the order in which they were filed."""
        series = [users.series.alias("") for users in self.users]
        return pl.concat(series) if len(series) > 1 else series[0]

    def labels(self) -> pl.Series:
        """Name the periods of the grid."""
        ordinals = np.arange(self.origin, self.origin + self.span, dtype=np.int64)
        return pl.Series("cohort", self.settings.calendar.labels(ordinals), dtype=pl.String)

    def sums(self) -> Sums:
        """Add up everybody."""
        kept = np.arange(self.span) >= self.first
        workers = self.settings.workers
        netting = _Netting.of(self)
        cells = 8 * self.span * (self.span + 1)
        if cells * workers > _SUMS_BYTES:
            # Too many cells to have them all: count the cohorts first, and make cells for those that exist.
            kept &= netting.fold(np.zeros(self.span, np.bool_), workers).size > 0
            cells = 16 * int((self.span - np.flatnonzero(kept)).sum())
            workers = min(workers, max(1, _SUMS_BYTES // max(cells, 1)))
        sums = netting.fold(kept, workers)
        netting.end()
        return sums

    def activity(self) -> Activity:
        """Give everybody one by one, cohorts before `first` too."""
        netting = _Netting.of(self)
        users = netting.everybody(self.settings.workers)
        netting.end()
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


@dataclass(frozen=True)
class _Netting:
    """Records ready to be netted, a group of partitions at a time."""

    question: Question
    records: Records
    groups: list[tuple[int, int]]
    table: NDArray[np.int32]
    """The period of each day from the first on."""
    tallies: list[Ints] = field(default_factory=list)

    @classmethod
    def of(cls, question: Question) -> "_Netting":
        """Prepare the netting of a question that has records."""
        records = question.records
        if records is None:
            raise ValueError("there are no records")
        days = np.arange(records.first, records.last + 1, dtype=np.int64)
        table = (question.settings.calendar.ordinals(days) - question.origin).astype(np.int32)
        return cls(question, records, records.groups(_GROUP), table)

    def take(self, groups: Iterator[int], sums: Sums | None = None) -> Iterator[tuple[int, Activity]]:
        """Net groups, one after the other; each lasts until the next. With `sums` users are added to them."""
        settings, records, span = self.question.settings, self.records, self.question.span
        above = 0 if settings.refunds == "drop" else np.iinfo(np.int64).min
        most = max(int(records.sizes[part:end].sum()) for part, end in self.groups)
        rows = int(records.sizes.max())
        short = span <= 64 and most * span <= _SHORT
        slots = np.empty(1 << (2 * rows).bit_length(), np.int32)
        codes, row_periods, row_units = np.empty(rows, np.int32), np.empty(rows, np.int32), np.empty(rows, np.int64)
        users, users2 = np.empty(most, np.uint64), np.empty(most, np.uint64)
        row, given, ends = np.empty(most, np.uint32), np.empty(most, np.int32), np.empty(most, np.int64)
        periods, units = np.empty(most, np.int32), np.empty(most, np.int64)
        totals = np.zeros(most * span if short else span, np.int64)
        words = np.zeros(most if short else span // 64 + 1, np.uint64)
        cohort, start = np.empty(most, np.int32), np.empty(most + 1, np.int64)
        period, active, amount = np.empty(most, np.int32), np.empty(most, np.bool_), np.empty(most, np.int64)
        tally = np.zeros(7, np.int64)
        self.tallies.append(tally)
        form = records.form or Form(0, 0, 0, 0)
        # Only where nobody is given a cohort can users be added as they are netted.
        at_once = sums is not None and settings.joined is None
        added = sums.added_to if sums is not None and at_once else (np.empty(0, np.int64),) * 4
        for group in groups:
            part, end = self.groups[group]
            count = kernels.bring_together(
                part, end, records.edges, records.pages, records.counts, records.words, records.wide,
                records.form is not None, form.key_bits, form.day_bits, self.table,
                np.int64(records.first - form.first_day),
                span, span - 1, above, short,
                slots, codes, row_periods, row_units,
                users, users2, row, given, ends, periods, units, totals, words, tally,
            )  # fmt: skip
            kept, cells = kernels.net(
                count, row, given, ends, periods, units,
                span, short, settings.refunds == "signed", settings.before_joined == "clip", tally, totals, words,
                *added, cohort, start, period, active, amount,
            )  # fmt: skip
            netted = Activity(
                cohort[:kept], row[:kept], start[: kept + 1], period[:cells], active[:cells], amount[:cells]
            )
            if sums is not None and not at_once:
                sums.add(netted)
            yield group, netted
            self.question.meter.add(int(records.sizes[part:end].sum()))

    def net(self, work: Callable[[Iterator[int]], _Result], workers: int) -> list[_Result]:
        """Let each worker do its work on the groups that it takes, until all are netted."""
        self.tallies.clear()
        return shared_out(len(self.groups), workers, work)

    def fold(self, kept: NDArray[np.bool_], workers: int) -> Sums:
        """Add everybody up."""

        def work(groups: Iterator[int]) -> Sums:
            sums = Sums.zero(self.question.span, kept)
            for _ in self.take(groups, sums):
                pass
            return sums

        return reduce(operator.add, self.net(work, workers))

    def everybody(self, workers: int) -> Activity:
        """Put everybody one after the other."""

        def work(groups: Iterator[int]) -> dict[int, Activity]:
            return {group: users.copy() for group, users in self.take(groups)}

        parts: dict[int, Activity] = reduce(operator.or_, self.net(work, workers))
        return Activity.chained([parts[group] for group in sorted(parts)])

    def end(self) -> None:
        """End, once all groups are netted: say what of the joined table did not fit."""
        if self.question.settings.joined is not None:
            self._tell()
        self.question.meter.done()

    def _tell(self) -> None:
        settings = self.question.settings
        early, late, twice, unlisted, known = np.sum(self.tallies, axis=0)[:5].tolist()
        if twice or (early and settings.before_joined == "error"):
            row = min(tally[6 if twice else 5] for tally in self.tallies if tally[6 if twice else 5]) - 1
            user = Users(self.question.texts).text(np.array([row], np.uint32))[0]
            if twice:
                raise DataError(
                    f"joined gives users more than one period, in {twice:,} rows, among them user {user!r}; expected "
                    "one date for each user"
                )
            raise DataError(
                f"{early:,} of {known:,} users in joined were active before their date there, among them user "
                f"{user!r}. Hint: before_joined='clip' counts that at age 0, 'drop' leaves it out"
            )
        if early and settings.before_joined == "drop":
            warn(f"{early:,} of {known:,} users in joined were active before their date there: that was dropped")
        if late:
            warn(f"{late:,} of {known:,} users in joined have a date after the last period: they were left out")
        if unlisted:
            warn(f"{unlisted:,} active users are not in joined: their cohort is their first active period")
