"""The engine: from transactions to sums over (cohort, age), and to the activity of each user.

Rows are ordered by partition of users; then each partition is netted by itself, in the cache. Whatever the threads
produce is added as integers, so the result does not depend on how many there were, or on the order of anything.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.selectors import by_name

from cohortlib import kernels, schema, sources
from cohortlib.errors import DataError, SchemaError, SettingError, listed, one_of, warn
from cohortlib.partitions import (
    Meter,
    Partitions,
    Progress,
    bits_for,
    check_progress,
    check_size,
    shared_out,
    workers_for,
)
from cohortlib.periods import Calendar, Freq, check_zone, span
from cohortlib.schema import Amounts, Cut, Instants, Ints, Transactions, Users
from cohortlib.sources import Source

Refunds = Literal["net", "signed", "drop"]
BeforeJoined = Literal["error", "clip", "drop"]
_Result = TypeVar("_Result")

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
    one for each age; a cohort with a negative offset has been left out.
    """

    span: int
    offsets: Ints
    size: Ints
    first_amount: Ints
    active: Ints
    amount: Ints

    @classmethod
    def zero(cls, span: int, kept: NDArray[np.bool_]) -> "Sums":
        """Make the sums of nobody, with cells for the cohorts `kept`."""
        ages = np.where(kept, span - np.arange(span, dtype=np.int64), 0)
        ends = np.cumsum(ages)
        cells = int(ends[-1])
        check_size(cells, "a coarser freq, start= or end=; or look for a wrong date, the first and the last")
        offsets = np.where(kept, ends - ages, -1)
        return cls(span, offsets, *(np.zeros(size, np.int64) for size in (span, span, cells, cells)))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.span,
            self.offsets,
            self.size + other.size,
            self.first_amount + other.first_amount,
            self.active + other.active,
            self.amount + other.amount,
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

    def add(self, users: Activity) -> None:
        """Add users in place; for the owner of fresh sums alone."""
        kernels.histogram(*users.cells, self.offsets, self.size, self.active, self.amount, self.first_amount)


# --------------------------------------------------------------------------------------------------- the two roads


@dataclass(frozen=True)
class Question:
    """The rows of all users beside the grid in which they are to be placed.

    The periods of the grid count from the ordinal `origin`; the last, the right edge, is ``origin + span − 1``.
    Cohorts before the period `first` are left out. Where there is nothing to place, `span` is 0.
    """

    settings: Settings
    rows: Transactions
    joined: tuple[Users, Cut] | None
    origin: int
    span: int
    first: int

    @classmethod
    def of(cls, source: Source, settings: Settings) -> "Question":
        """Read a source and lay out the grid."""
        rows, joined = _read(source, settings)
        calendar = settings.calendar
        start, last = settings.edges()
        # The periods of the last day of all rows and of the day after.
        told, after = (
            (None, None) if rows.last_day is None else calendar.ordinals(rows.last_day + np.arange(2)).tolist()
        )
        last = told if last is None else last
        cuts = [cut for cut in (rows.cut, joined and joined[1]) if cut is not None]
        if last is None or not cuts:
            return cls(settings, rows, joined, 0, 0, 0)
        if settings.complete_only and told == after == last:
            last -= 1
        # Where all rows lie after the right edge the grid has that one period, and the rows are checked all the same.
        origin = min(last, *(int(cut.ordinals[0]) for cut in cuts))
        first = 0 if start is None else max(0, start - origin)
        return cls(settings, rows, joined, origin, last - origin + 1, first)

    @property
    def texts(self) -> Users:
        """The users of all rows, as `Activity.row` counts them."""
        if self.joined is None:
            return self.rows.users
        return Users(pl.concat([self.rows.users.series, self.joined[0].series.alias(self.rows.users.series.name)]))

    def labels(self) -> pl.Series:
        """Name the periods of the grid."""
        ordinals = np.arange(self.origin, self.origin + self.span, dtype=np.int64)
        return pl.Series("cohort", self.settings.calendar.labels(ordinals), dtype=pl.String)

    def sums(self) -> Sums:
        """Add up everybody."""
        kept = np.arange(self.span) >= self.first
        workers = self.settings.workers
        netting = _Netting.of(self, numbered=False)
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
        netting = _Netting.of(self, numbered=True)
        users = netting.everybody(self.settings.workers)
        netting.end()
        return users


def _read(source: Source, settings: Settings) -> tuple[Transactions, tuple[Users, Cut] | None]:
    """Read the transactions and, where it is asked for, the table of joined users."""
    roles = [settings.user, settings.timestamp, settings.amount]
    joined = settings.joined
    there: list[str] = []

    def wanted(names: list[str]) -> list[str]:
        there.extend(names)
        return [*roles, joined] if isinstance(joined, str) and joined in names else roles

    frame = sources.read(source, wanted, text=settings.user, number=settings.amount)
    rows = schema.transactions(
        frame, *roles,
        nulls=settings.nulls, decimals=settings.decimals, zone=settings.timezone, calendar=settings.calendar,
    )  # fmt: skip
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
    table = schema.without_nulls(table, settings.nulls, "the joined table")
    users, others = Users.both(rows.users, Users.of(table[settings.user]))
    instants = Instants.of(table[table.columns[-1]])
    cut = Cut.of(instants, settings.timezone, settings.calendar)
    return replace(rows, users=users), None if cut is None else (others, cut)


def _joined_columns(names: list[str], user: str) -> list[str]:
    """Find the column of dates in a joined table."""
    dates = [name for name in names if name != user]
    if user not in names or not ("joined" in names or len(dates) == 1):
        raise SchemaError(
            f"the joined table has columns {listed(names)}; expected {user!r} and 'joined' (or {user!r} and one other)"
        )
    return [user, "joined" if "joined" in names else dates[0]]


def _partition(
    question: Question,
    table: tuple[Users, Cut] | None,
    amounts: Amounts | None,
    bits: int,
    row: int | None,
    meter: Meter,
) -> Partitions:
    """Order a table by partition. Without amounts no row is left out; `row` is the number of the first."""
    settings = question.settings
    wide = table is not None and table[0].wide
    types = (
        (np.uint64, True),
        (np.uint64, wide),
        (np.int32, True),
        (np.int64, amounts is not None),
        (np.uint32, row is not None),
    )
    if table is None:
        return Partitions.empty(bits, types)
    users, cut = table
    periods_of_days = cut.table(question.origin)
    above = 0 if settings.refunds == "drop" else np.iinfo(np.int64).min
    totals: list[int] = []

    def block(first: int, size: int) -> tuple[NDArray[np.int32], tuple[NDArray[Any], ...]]:
        periods = cut.periods(first, size, periods_of_days)
        units = rows = np.empty(0, np.int64)
        if amounts is not None:
            units = amounts.units(first, size)
            totals.append(schema.magnitude(units))
            kernels.leave_out(units, periods, question.span - 1, above)
            meter.add(size)
        if row is not None:
            rows = np.arange(first + row, first + row + size, dtype=np.uint32)
        return periods, (*users.keys(first, size), periods, units, rows)

    ordered = Partitions.of(len(users), bits, settings.workers, block, types)
    if amounts is not None and sum(totals) >= 2**63:
        raise amounts.too_large()
    return ordered


@dataclass(frozen=True)
class _Netting:
    """Both tables, ordered by partition, ready to be netted."""

    question: Question
    rows: Partitions
    joined: Partitions
    numbered: bool
    meter: Meter
    tallies: list[Ints] = field(default_factory=list)

    @classmethod
    def of(cls, question: Question, *, numbered: bool) -> "_Netting":
        rows, joined = question.rows, question.joined
        others = len(joined[0]) if joined else 0
        bits = bits_for(len(rows), others)
        meter = Meter(question.settings.progress, len(rows))
        first, second = (0, len(rows)) if numbered else (None, None)
        table = None if rows.cut is None else (rows.users, rows.cut)
        return cls(
            question,
            _partition(question, table, rows.amounts, bits, first, meter),
            _partition(question, joined, None, bits, second, meter),
            numbered,
            meter,
        )

    def take(self, parts: Iterator[int]) -> Iterator[tuple[int, Activity]]:
        """Net partitions, one after the other; each lasts until the next."""
        settings, rows, joined = self.question.settings, self.rows, self.joined
        keys, keys2, periods, units, numbers = rows.columns
        joined_keys, joined_keys2, joined_periods, _, joined_numbers = joined.columns
        scratch = kernels.make_scratch(int(max(1, (rows.sizes + joined.sizes).max())), self.question.span)
        tally = np.zeros(7, np.int64)
        self.tallies.append(tally)
        for p in parts:
            users = kernels.activity(
                p, rows.starts, keys, keys2, periods, units, numbers,
                joined.starts, joined_keys, joined_keys2, joined_periods, joined_numbers,
                self.question.span, settings.refunds == "signed", settings.before_joined == "clip",
                tally, scratch,
            )  # fmt: skip
            yield p, Activity(*users)
            self.meter.add(int(rows.sizes[p]))

    def net(self, work: Callable[[Iterator[tuple[int, Activity]]], _Result], workers: int) -> list[_Result]:
        """Net all partitions, and let each worker do its work on those that it nets."""
        self.tallies.clear()
        return shared_out(self.rows.count, workers, lambda parts: work(self.take(parts)))

    def fold(self, kept: NDArray[np.bool_], workers: int) -> Sums:
        """Add everybody up."""

        def work(netted: Iterator[tuple[int, Activity]]) -> Sums:
            sums = Sums.zero(self.question.span, kept)
            for _, users in netted:
                sums.add(users)
            return sums

        return reduce(operator.add, self.net(work, workers))

    def everybody(self, workers: int) -> Activity:
        """Put everybody one after the other."""

        def work(netted: Iterator[tuple[int, Activity]]) -> dict[int, Activity]:
            return {p: users.copy() for p, users in netted}

        parts: dict[int, Activity] = reduce(operator.or_, self.net(work, workers))
        return Activity.chained([parts[p] for p in sorted(parts)])

    def end(self) -> None:
        """End, once all partitions are netted: say what of the joined table did not fit."""
        if self.question.settings.joined is not None:
            self._tell()
        self.meter.done()

    def _tell(self) -> None:
        settings = self.question.settings
        early, late, twice, unlisted, known = np.sum(self.tallies, axis=0)[:5].tolist()
        if twice or (early and settings.before_joined == "error"):
            if not self.numbered:
                # Only now is a row worth its memory: do it again, to name a user.
                again = _Netting.of(replace(self.question, settings=replace(settings, progress=None)), numbered=True)
                again.fold(np.zeros(self.question.span, np.bool_), 1)
                return again.end()
            row = min(tally[6 if twice else 5] for tally in self.tallies if tally[6 if twice else 5]) - 1
            user = self.question.texts.text(np.array([row], np.uint32))[0]
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
