"""The joined table: cohorts that come from outside."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from cohortlib.errors import DataError, SchemaError, listed, warn
from cohortlib.periods import Calendar
from cohortlib.read import sources
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.nulls import without_nulls
from cohortlib.read.sources import list_files, read
from cohortlib.read.tables import Source
from cohortlib.read.users import UserEncoding, Users
from cohortlib.transactions.settings import BeforeJoined, Settings
from cohortlib.transactions.store.parts import KEY, KEY2, USER


def joined_cut(table: pl.DataFrame, settings: Settings) -> Cut | None:
    """Cut the dates of a joined table, its last column."""
    return Cut.of(Instants.of(table[table.columns[-1]]), settings.timezone, settings.calendar)


def joined_table(settings: Settings, there: list[str], column: Callable[[], pl.DataFrame]) -> pl.DataFrame | None:
    """Read the table of users and dates from which cohorts are given; `column` does so where it is a column."""
    joined = settings.joined
    if joined is None:
        return None
    if settings.joined_in(there):
        table = column()
        table = table.filter(table[settings.user].alias("").is_not_null())
    else:
        if isinstance(joined, str) and not list_files(joined):
            raise SchemaError(f"joined={joined!r} is neither a column nor a file; columns are {listed(there)}")
        if not (isinstance(joined, str | Path | pl.DataFrame | pl.LazyFrame) or hasattr(joined, "__arrow_c_stream__")):
            raise SchemaError(f"joined={joined!r} is neither a table nor the name of a column")
        table = read(joined, lambda names: joined_columns(names, settings.user), text_column=settings.user)
    table, dropped = without_nulls(table, settings.nulls, "the joined table")
    dropped.warn("the joined table")
    return table


def joined_in_stream(source: Source, settings: Settings) -> pl.DataFrame | None:
    """Read the joined table beside transactions that are larger than memory; each user and date of a column once."""
    there: list[str] = []

    def wanted(names: list[str]) -> list[str]:
        there.extend(names)
        return [settings.user, *([str(settings.joined)] if settings.joined_in(names) else [])]

    stream = sources.stream(source, wanted, text_column=settings.user, max_bytes=0)

    def column() -> pl.DataFrame:
        found = pl.DataFrame(schema=stream.schema)
        for batch in stream.batches():
            found = pl.concat([found, batch]).unique(maintain_order=True)
        return found

    return joined_table(settings, there, column)


def joined_columns(names: list[str], user: str) -> list[str]:
    """Find the column of dates in a joined table."""
    dates = [name for name in names if name != user]
    if user not in names or not ("joined" in names or len(dates) == 1):
        raise SchemaError(
            f"the joined table has columns {listed(names)}; expected {user!r} and 'joined' (or {user!r} and one other)"
        )
    return [user, "joined" if "joined" in names else dates[0]]


GIVEN = "given"


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


class Given(NamedTuple):
    """Users who are given a cohort, each once: the key, the user, and the period `given`.

    So many rows gave a user another one than the first; `one_of_them` is such a user.
    """

    users: pl.DataFrame
    twice: int
    one_of_them: str


def given_of(encoding: UserEncoding, table: pl.DataFrame, cut: Cut, calendar: Calendar, origin: int) -> Given:
    """Key a table of users and dates, which the cut is of."""
    column = table.to_series(0)
    theirs = Users.of(column)
    if theirs.integers != encoding.integers:
        raise SchemaError(
            f"the users are {encoding.dtype} in the transactions and {column.dtype} in joined ({column[0]!r})",
            expected="the same type in both",
            hint="cast one of them",
        )
    users = encoding.users(column)
    key, key2 = users.keys(0, len(users))
    keys = {KEY: key} | ({KEY2: key2} if encoding.wide else {})
    periods = (calendar.ordinals(cut.local_days(0, len(users)).astype(np.int64)) - origin).astype(np.int32)
    frame = pl.DataFrame(keys | {USER: users.series.alias(""), GIVEN: periods})
    first = frame.unique([*keys], keep="first", maintain_order=True)
    other = frame.join(first, on=[*keys]).filter(pl.col(GIVEN) != pl.col(f"{GIVEN}_right"))
    return Given(first, other.height, str(other[USER][0]) if other.height else "")
