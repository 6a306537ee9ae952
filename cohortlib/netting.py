"""From the rows of every user to the activity of each: a group of users at a time, on threads."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib import kernels
from cohortlib.activity import Activity, Histogram
from cohortlib.errors import DataError, SchemaError, warn
from cohortlib.partitions import Meter, shared_out
from cohortlib.parts import DAY, KEY, KEY2, SIZE, UNITS, USER, Part
from cohortlib.periods import Calendar
from cohortlib.records import Form, Records
from cohortlib.schema import SECRET, Cut, Ints, Keys, Users, frozen
from cohortlib.settings import BeforeJoined, Settings

_Result = TypeVar("_Result")

GROUP = 1 << 15  # rows that a worker nets at a time
_GIVEN = "given"
_SHORT = 1 << 25  # sums of users by periods that may lie side by side; only those of users who are there are touched


class Grid(NamedTuple):
    """Where users are placed.

    Periods count from the ordinal `origin`; the last, the right edge, is ``origin + span − 1``. Cohorts before the
    period `first` are left out.
    """

    origin: int
    span: int
    first: int

    def labels(self, calendar: Calendar) -> pl.Series:
        """Name the periods."""
        ordinals = np.arange(self.origin, self.origin + self.span, dtype=np.int64)
        return pl.Series("cohort", calendar.labels(ordinals), dtype=pl.String)


NOTHING = Grid(0, 0, 0)


class Bench:
    """What a worker needs to net groups of up to so many rows, and users; and what it counts on the way."""

    def __init__(self, rows: int, settings: Settings, grid: Grid, sums: Histogram | None) -> None:
        span = grid.span
        self.span, self.rows = span, rows
        self.settings = settings
        self.above = 0 if settings.refunds == "drop" else np.iinfo(np.int64).min
        self.short = span <= 64 and rows * span <= _SHORT
        self.row, self.given = np.empty(rows, np.uint32), np.empty(rows, np.int32)
        self.ends, self.periods, self.units = (
            np.empty(rows, np.int64),
            np.empty(rows, np.int32),
            np.empty(rows, np.int64),
        )
        self.totals = np.zeros(rows * span if self.short else span, np.int64)
        self.words = np.zeros(rows if self.short else span // 64 + 1, np.uint64)
        self.cohort, self.start = np.empty(rows, np.int32), np.empty(rows + 1, np.int64)
        self.period, self.active = np.empty(rows, np.int32), np.empty(rows, np.bool_)
        self.amount = np.empty(rows, np.int64)
        # Only where nobody is given a cohort can users be added as they are netted.
        self.at_once = sums is not None and settings.joined is None
        self.sums = sums
        self.added = sums.added_to if sums is not None and self.at_once else (np.empty(0, np.int64),) * 4

    def net(self, count: int, tally: Ints) -> Activity:
        """Net users whose rows have been put together; what is given lasts until the next."""
        kept, cells = kernels.net(
            count, self.row, self.given, self.ends, self.periods, self.units,
            self.span, self.short, self.settings.refunds == "signed", self.settings.before_joined == "clip",
            tally, self.totals, self.words, *self.added,
            self.cohort, self.start, self.period, self.active, self.amount,
        )  # fmt: skip
        netted = Activity(
            self.cohort[:kept], self.row[:kept], self.start[: kept + 1],
            self.period[:cells], self.active[:cells], self.amount[:cells],
        )  # fmt: skip
        if self.sums is not None and not self.at_once:
            self.sums.add(netted)
        return netted


@dataclass(frozen=True)
class Fit:
    """How the dates of a joined table fit the rows, by count of users; that of disjoint users adds."""

    early: int = 0
    """Users who were active before their date."""
    late: int = 0
    """Users whose date lies after the last period."""
    twice: int = 0
    """Rows that give a user another period."""
    unlisted: int = 0
    """Active users without a date."""
    known: int = 0
    """Users with one."""
    user: str | None = None
    """One of those that an error is about."""

    def __add__(self, other: "Fit") -> "Fit":
        wrong = [fit for fit in (self, other) if fit.twice] or [self, other]
        return Fit(
            self.early + other.early,
            self.late + other.late,
            self.twice + other.twice,
            self.unlisted + other.unlisted,
            self.known + other.known,
            min((fit.user for fit in wrong if fit.user is not None), default=None),
        )

    def tell(self, before_joined: BeforeJoined) -> None:
        """Refuse what does not fit, or warn of it."""
        if self.twice:
            raise DataError(
                f"joined gives users more than one period, in {self.twice:,} rows, among them user {self.user!r}; "
                "expected one date for each user"
            )
        known = f"{self.known:,} users in joined"
        if self.early and before_joined == "error":
            raise DataError(
                f"{self.early:,} of {known} were active before their date there, among them user {self.user!r}. "
                "Hint: before_joined='clip' counts that at age 0, 'drop' leaves it out"
            )
        if self.early and before_joined == "drop":
            warn(f"{self.early:,} of {known} were active before their date there: that was dropped")
        if self.late:
            warn(f"{self.late:,} of {known} have a date after the last period: they were left out")
        if self.unlisted:
            warn(f"{self.unlisted:,} active users are not in joined: their cohort is their first active period")


class Netting(ABC):
    """The rows of all users, ready to be netted."""

    def __init__(self, settings: Settings, grid: Grid, meter: Meter) -> None:
        self.settings, self.grid, self.meter = settings, grid, meter
        self.tallies: list[Ints] = []

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of groups."""

    @abstractmethod
    def take(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Net groups, one after the other; each part lasts until the next. With `sums` users are added to them."""

    @abstractmethod
    def everybody(self, workers: int) -> tuple[Activity, pl.Series]:
        """Put everybody one after the other; give the column of users in which each has a row."""

    @property
    def parts(self) -> int:
        """Number of parts of disjoint users that can be looked at apart: one, unless there are more."""
        return 1

    @property
    def final_day(self) -> int | None:
        """The last day of the rows that a filter has left in what was netted; None where there is no filter."""
        return None

    def one(self, part: int, workers: int) -> tuple[Activity, pl.Series]:
        """Put the users of one part one after the other, as `everybody` does all."""
        return self.everybody(workers)

    @abstractmethod
    def suspect(self, kind: int) -> str:
        """Name a user whom the tallies count, of those early (5) or those given two cohorts (6)."""

    def tally(self) -> Ints:
        """Count what is met on one thread: see ``kernels.net``."""
        tally = np.zeros(7, np.int64)
        self.tallies.append(tally)
        return tally

    def net(self, work: Callable[[Iterator[int]], _Result], workers: int) -> list[_Result]:
        """Let each worker do its work on the groups that it takes, until all are netted."""
        self.tallies.clear()
        return shared_out(self.count, workers, work)

    def fold(self, kept: NDArray[np.bool_], workers: int) -> Histogram:
        """Add everybody up."""

        def work(groups: Iterator[int]) -> Histogram:
            sums = Histogram.zero(self.grid.span, kept)
            for _ in self.take(groups, sums):
                pass
            return sums

        return reduce(operator.add, self.net(work, workers))

    def end(self) -> None:
        """End, once all groups are netted: say what of the joined table did not fit."""
        if self.settings.joined is not None:
            self.fit().tell(self.settings.before_joined)
        self.meter.done()

    def fit(self) -> Fit:
        """Give what has been met of the joined table."""
        early, late, twice, unlisted, known = np.sum(self.tallies, axis=0)[:5].tolist()
        user = None
        if twice or (early and self.settings.before_joined == "error"):
            user = self.suspect(6 if twice else 5)
        return Fit(early, late, twice, unlisted, known, user)


class RecordsNetting(Netting):
    """Records in memory, by partition of users."""

    def __init__(self, settings: Settings, grid: Grid, meter: Meter, records: Records, users: list[Users]) -> None:
        super().__init__(settings, grid, meter)
        self._records, self._users = records, users
        self._groups = records.groups(GROUP)
        days = np.arange(records.first, records.last + 1, dtype=np.int64)
        self._table = (settings.calendar.ordinals(days) - grid.origin).astype(np.int32)

    @property
    def count(self) -> int:
        """Number of stretches of partitions."""
        return len(self._groups)

    def suspect(self, kind: int) -> str:
        """Name the user of the first such row that was filed."""
        row = min(int(tally[kind]) for tally in self.tallies if tally[kind]) - 1
        return str(Users(self._texts).text(np.array([row], np.uint32))[0])

    @property
    def _texts(self) -> pl.Series:
        """The users of all rows, in the order in which they were filed."""
        series = [users.series.alias("") for users in self._users]
        return pl.concat(series) if len(series) > 1 else series[0]

    def take(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Net stretches of partitions."""
        records, span, tally = self._records, self.grid.span, self.tally()
        most = max(int(records.sizes[part:end].sum()) for part, end in self._groups)
        rows = int(records.sizes.max())
        bench = Bench(most, self.settings, self.grid, sums)
        slots = np.empty(1 << (2 * rows).bit_length(), np.int32)
        codes, row_periods, row_units = np.empty(rows, np.int32), np.empty(rows, np.int32), np.empty(rows, np.int64)
        users, users2 = np.empty(most, np.uint64), np.empty(most, np.uint64)
        form = records.form or Form(0, 0, 0, 0)
        for group in groups:
            part, end = self._groups[group]
            count = kernels.bring_together(
                part, end, records.edges, records.pages, records.counts, records.words, records.wide,
                records.form is not None, form.key_bits, form.day_bits, self._table,
                np.int64(records.first - form.first_day),
                span, span - 1, bench.above, bench.short,
                slots, codes, row_periods, row_units, users, users2,
                bench.row, bench.given, bench.ends, bench.periods, bench.units, bench.totals, bench.words, tally,
            )  # fmt: skip
            yield group, bench.net(count, tally)
            self.meter.add(int(records.sizes[part:end].sum()))

    def everybody(self, workers: int) -> tuple[Activity, pl.Series]:
        """Put everybody one after the other, in the order of the partitions."""

        def work(groups: Iterator[int]) -> dict[int, Activity]:
            return {group: users.copy() for group, users in self.take(groups)}

        parts: dict[int, Activity] = reduce(operator.or_, self.net(work, workers))
        return Activity.chained([parts[group] for group in sorted(parts)]), self._texts


class Shelf(Protocol):
    """Parts of disjoint users, in memory or on disk."""

    @property
    def count(self) -> int:
        """Number of parts."""

    def size(self, cut: int) -> int:
        """Give about the number of rows of a part."""

    def load(self, cut: int, *, users: Sequence[str] = (), rows: Sequence[str] = ()) -> Part:
        """Give a part, with more columns than the key, the day and the units."""

    @property
    def text(self) -> bool:
        """Whether keys have two words."""

    @property
    def cuts(self) -> Sequence[tuple[int, int]]:
        """The least and the greatest first word of a key in each part."""

    @property
    def asked(self) -> Sequence[str]:
        """The columns of rows that `kept` looks at."""

    def kept(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Tell which rows count; empty where all do."""


class PartsNetting(Netting):
    """Parts, one after the other; no row lies outside of the `days`."""

    def __init__(
        self,
        settings: Settings,
        grid: Grid,
        meter: Meter,
        shelf: Shelf,
        days: tuple[int, int],
        given: "Given | None" = None,
    ) -> None:
        super().__init__(settings, grid, meter)
        self._shelf, self._given = shelf, given
        self._origin = days[0]
        every = np.arange(days[0], days[1] + 1, dtype=np.int64)
        self._table = (settings.calendar.ordinals(every) - grid.origin).astype(np.int32)
        self._early: list[str] = []
        self._last_days: list[int] = []

    @property
    def final_day(self) -> int | None:
        """The last day of the rows that a filter has left in."""
        return max(self._last_days, default=None)

    @property
    def count(self) -> int:
        """Number of parts; and one for users who are given a cohort and have a row in none."""
        return self._shelf.count + (self._given is not None)

    def suspect(self, kind: int) -> str:
        """Name the first such user, as text."""
        return min(self._early) if kind == 5 or self._given is None else self._given.one_of_them

    def take(self, groups: Iterator[int], sums: Histogram | None = None) -> Iterator[tuple[int, Activity]]:
        """Net parts, a piece at a time."""
        for group in groups:
            for activity in self._netted(self._loaded(group, named=self._given is not None), sums):
                yield group, activity
            self._done(group)

    def everybody(self, workers: int) -> tuple[Activity, pl.Series]:
        """Put everybody one after the other, in the order of the parts."""

        def work(groups: Iterator[int]) -> dict[int, tuple[Activity, pl.Series]]:
            found = {}
            for group in groups:
                found[group] = self.one(group, 1)
            return found

        parts: dict[int, tuple[Activity, pl.Series]] = reduce(operator.or_, self.net(work, workers))
        people, names = zip(*(parts[group] for group in sorted(parts)), strict=True)
        users = Activity.chained(list(people))
        return replace(users, row=np.arange(users.row.size, dtype=np.uint32)), pl.concat(names)

    def _done(self, group: int) -> None:
        if group < self._shelf.count:
            self.meter.add(self._shelf.size(group))

    @property
    def parts(self) -> int:
        """Number of parts."""
        return self.count

    def one(self, part: int, workers: int) -> tuple[Activity, pl.Series]:
        """Put the users of one part one after the other, and name them."""
        loaded = self._loaded(part, named=True)
        pieces = [activity.copy() for activity in self._netted(loaded, None)]
        users = Activity.chained(pieces or [Activity.nobody()])
        names = loaded.part.users[USER][users.row]
        self._done(part)
        return replace(users, row=np.arange(users.row.size, dtype=np.uint32)), names

    def _loaded(self, group: int, *, named: bool) -> "_Loaded":
        if self._given is None:
            part = self._shelf.load(group, users=[USER] * named, rows=self._shelf.asked)
            return _Loaded(part, np.empty(0, np.int32), self._shelf.kept(part.rows))
        wanted = [KEY, KEY2] if self._shelf.text else [KEY]
        theirs = self._theirs(group)
        if group == self._shelf.count:
            people = theirs.select(*wanted, USER).with_columns(pl.lit(0, pl.UInt32).alias(SIZE))
            part = Part.of(people.clear(), pl.DataFrame(schema={DAY: pl.Int32, UNITS: pl.Int64}))
            kept = np.empty(0, np.bool_)
        else:
            part = self._shelf.load(group, users=[*wanted, USER], rows=self._shelf.asked)
            kept = self._shelf.kept(part.rows)
        people = part.users.select(*wanted, USER, SIZE)
        mine = people.join(theirs.drop(USER), on=wanted, how="left", maintain_order="left")
        others = theirs.join(people, on=wanted, how="anti").with_columns(pl.lit(0, pl.UInt32).alias(SIZE))
        users = pl.concat([mine, others.select(mine.columns)])
        stretches = part.stretches
        ends = np.append(stretches.ends, np.full(others.height, stretches.sizes.size, np.int64))
        given = users[_GIVEN].fill_null(-1).to_numpy()
        return _Loaded(Part(users, part.rows, replace(stretches, ends=ends)), given, kept)

    def _theirs(self, group: int) -> pl.DataFrame:
        """Take the users given a cohort whose keys are in the cut of a part, or, after the last, in that of none."""
        given = self._given.users if self._given is not None else pl.DataFrame()
        if group < self._shelf.count:
            return given.filter(pl.col(KEY).is_between(*self._shelf.cuts[group]))
        if not self._shelf.count:
            return given
        lows, highs = (np.array(ends, np.uint64) for ends in zip(*self._shelf.cuts, strict=True))
        key = given[KEY].to_numpy()
        cut = np.searchsorted(lows, key, side="right") - 1
        return given.filter((cut < 0) | (key > highs[np.maximum(cut, 0)]))

    def _netted(self, loaded: "_Loaded", sums: Histogram | None) -> Iterator[Activity]:
        """Net the users of a part; each piece lasts until the next."""
        part, given, kept = loaded
        tally = self.tally()
        stretches = part.stretches
        days, units = (frozen(part.rows[name].to_numpy()) for name in (DAY, UNITS))
        if kept.any():
            self._last_days.append(int(days.max(where=kept, initial=self._origin)))
        # A piece ends before the user with whom it would have too many rows, or too many users.
        weight = np.maximum(np.diff(stretches.until(), prepend=0), 1)
        until = np.cumsum(weight)
        cuts = np.unique(
            np.append(np.searchsorted(until, np.arange(0, until[-1] if until.size else 0, GROUP)), until.size)
        )
        most = int(np.diff(np.append(0, until)[cuts]).max(initial=1))
        bench = Bench(most, self.settings, self.grid, sums)
        for user, end in pairwise(cuts.tolist()):
            count = kernels.side_by_side(
                user, end, stretches.ends, stretches.starts, stretches.sizes, frozen(given), frozen(kept), days, units,
                self._table, np.int64(self._origin), self.grid.span, self.grid.span - 1, bench.above, bench.short,
                bench.row, bench.given, bench.ends, bench.periods, bench.units, bench.totals, bench.words,
            )  # fmt: skip
            yield bench.net(count, tally)
        if tally[5]:
            self._early.append(str(part.users[USER][int(tally[5]) - 1]))

    def end(self) -> None:
        """Tell of users who were given two cohorts, too."""
        if self._given is not None:
            self.tally()[2] = self._given.twice
        super().end()


class Given(NamedTuple):
    """Users who are given a cohort, each once: the key, the user, and the period `given`.

    So many rows gave a user another one than the first; `one_of_them` is such a user.
    """

    users: pl.DataFrame
    twice: int
    one_of_them: str


@dataclass(frozen=True)
class People:
    """How users are told apart: kept as "Int64", "UInt64" or "String", and given keys by a secret.

    `whole` says that they came as whole numbers, of whatever width.
    """

    kind: str
    secret: Keys
    whole: bool

    @classmethod
    def of(cls, kind: pl.DataType, name: str, secret: Keys = SECRET) -> "People":
        """Choose by the type of a column, of which any part must be kept the same way."""
        users = Users.of(pl.Series(name, [], dtype=kind))
        text = users.series.dtype not in (pl.Int64, pl.UInt64) or not (Users.alike(kind) or kind == pl.Null)
        return cls("String" if text else str(users.series.dtype), secret, users.whole)

    @property
    def text(self) -> bool:
        """Whether keys have two words."""
        return self.kind == "String"

    def users(self, column: pl.Series) -> Users:
        """Take some users."""
        return Users(column.cast(_KINDS[self.kind]), self.whole, self.secret)


_KINDS: dict[str, type[pl.DataType]] = {"Int64": pl.Int64, "UInt64": pl.UInt64, "String": pl.String}


def given_of(people: People, table: pl.DataFrame, cut: Cut, calendar: Calendar, origin: int) -> Given:
    """Key a table of users and dates, which the cut is of."""
    column = table.to_series(0)
    theirs = Users.of(column)
    if theirs.whole != people.whole:
        raise SchemaError(
            f"the users are {people.kind} in the transactions and {column.dtype} in joined ({column[0]!r}); expected "
            "the same type in both. Hint: cast one of them"
        )
    users = people.users(column)
    key, key2 = users.keys(0, len(users))
    keys = {KEY: key} | ({KEY2: key2} if people.text else {})
    periods = (calendar.ordinals(cut.local_days(0, len(users)).astype(np.int64)) - origin).astype(np.int32)
    frame = pl.DataFrame(keys | {USER: users.series.alias(""), _GIVEN: periods})
    first = frame.unique([*keys], keep="first", maintain_order=True)
    other = frame.join(first, on=[*keys]).filter(pl.col(_GIVEN) != pl.col(f"{_GIVEN}_right"))
    return Given(first, other.height, str(other[USER][0]) if other.height else "")


class _Loaded(NamedTuple):
    """A part as it is netted: the period that each user is given, or −1; and which rows count."""

    part: Part
    given: NDArray[np.int32]
    kept: NDArray[np.bool_]
