"""The joined table: dates that set the cohorts of users, in place of their first active period."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from cohortlib.errors import Arg, DataError, SchemaError, listed, warn
from cohortlib.periods import Calendar
from cohortlib.read import sources
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.nulls import without_nulls
from cohortlib.read.sources import is_table, list_files, read
from cohortlib.read.tables import Source
from cohortlib.read.users import UserEncoding, Users
from cohortlib.transactions.keywords import BeforeJoined
from cohortlib.transactions.reading import typed_pairs
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.parts import KEY, KEY2, USER

COHORT = "joined_cohort"


def joined_cut(table: pl.DataFrame, settings: Settings) -> Cut | None:
    """Cut the dates of a joined table, its last column."""
    return Cut.of(Instants.of(table[table.columns[-1]]), settings.timezone, settings.calendar)


def joined_table(
    settings: Settings, columns: list[str], read_column: Callable[[], pl.DataFrame]
) -> pl.DataFrame | None:
    """Read the users and dates of `joined`; None without one.

    If `joined` is one of the `columns` of the transactions, `read_column` reads it with the users.
    """
    joined = settings.joined
    if joined is None:
        return None
    if settings.joined_is_one_of(columns):
        table = read_column()
        table = typed_pairs(table, settings)
        table = table.filter(table[settings.user].alias("").is_not_null())
    else:
        if isinstance(joined, str) and "://" not in joined and not list_files(joined):
            what = (Arg("joined", joined), " is neither a column nor a file")
            raise SchemaError(what, value=joined, expected=f"a file, or one of the columns {listed(columns)}")
        if not is_table(joined):
            what = (Arg("joined", joined), " is not a table")
            raise SchemaError(what, value=joined, expected="a table or the name of a column")
        table = read(joined, lambda names: joined_columns(names, settings.user), options=settings.file_options)
    table, dropped = without_nulls(typed_pairs(table, settings), settings.nulls, "the joined table")
    dropped.warn("the joined table")
    return table


def joined_in_stream(source: Source, settings: Settings) -> pl.DataFrame | None:
    """Read the joined table of transactions that exceed memory; of a column, the distinct pairs of user and date."""
    columns: list[str] = []

    def choose(names: list[str]) -> list[str]:
        columns.extend(names)
        return [settings.user, *([str(settings.joined)] if settings.joined_is_one_of(names) else [])]

    stream = sources.stream(source, choose, options=settings.file_options, max_bytes=0)

    def read_column() -> pl.DataFrame:
        pairs = pl.DataFrame(schema=stream.schema)
        for batch in stream.batches():
            pairs = pl.concat([pairs, batch]).unique(maintain_order=True)
        return pairs

    return joined_table(settings, columns, read_column)


def joined_columns(names: list[str], user: str) -> list[str]:
    """Choose the columns of users and of dates in a joined table."""
    dates = [name for name in names if name != user]
    if user not in names or not ("joined" in names or len(dates) == 1):
        expected = f"{user!r} and 'joined', or {user!r} and one other column"
        raise SchemaError(f"the joined table has columns {listed(names)}", value=names, expected=expected)
    return [user, "joined" if "joined" in names else dates[0]]


@dataclass(frozen=True)
class JoinedFit:
    """How a joined table fits the rows, as counts of users; the fits of disjoint users add."""

    early: int = 0  # users who were active before their date
    late: int = 0  # users whose date lies after the last period
    conflicts: int = 0  # joined rows that assign a user another period than the user's first
    unlisted: int = 0  # active users without a date
    listed: int = 0  # users with a date
    user: str | None = None  # a user that an error is about

    def __add__(self, other: "JoinedFit") -> "JoinedFit":
        causes = [fit for fit in (self, other) if fit.conflicts] or [self, other]
        user = min((fit.user for fit in causes if fit.user is not None), default=None)
        return JoinedFit(
            self.early + other.early, self.late + other.late, self.conflicts + other.conflicts,
            self.unlisted + other.unlisted, self.listed + other.listed, user,
        )  # fmt: skip

    def check(self, before_joined: BeforeJoined) -> None:
        """Raise DataError for conflicts and early activity, as `before_joined` says; warn about the rest."""
        if self.conflicts:
            what = f"joined has more than one period for some users, in {self.conflicts:,} rows, among them user"
            raise DataError(f"{what} {self.user!r}", value=self.user, expected="one date per user")
        users = f"{self.listed:,} users in joined"
        if self.early and before_joined == "error":
            raise DataError(
                f"{self.early:,} of {users} were active before their date there, among them user {self.user!r}",
                value=self.user,
                hint=(
                    Arg("before_joined", "clip"), " counts that activity at age 0, ",
                    Arg("before_joined", "drop"), " leaves it out",
                ),
            )  # fmt: skip
        if self.early and before_joined == "drop":
            warn(f"{self.early:,} of {users} were active before their date there: that activity was dropped")
        if self.late:
            warn(f"{self.late:,} of {users} have a date after the last period: they were left out")
        if self.unlisted:
            warn(f"{self.unlisted:,} active users are not in joined: their cohort is their first active period")


class JoinedCohorts(NamedTuple):
    """Users with a joined cohort, each once: the key, the user id, and the period in column `COHORT`.

    `conflicts` counts the rows that assign a user another period than the first; `conflicting_user` is such a user.
    """

    users: pl.DataFrame
    conflicts: int
    conflicting_user: str


def joined_cohorts(
    encoding: UserEncoding, table: pl.DataFrame, cut: Cut, calendar: Calendar, origin: int
) -> JoinedCohorts:
    """Compute keys and periods of a joined table; `cut` has its dates, periods count from the ordinal `origin`."""
    column = table.to_series(0)
    if Users.of(column).integers != encoding.integers:
        what = f"the users are {encoding.dtype} in the transactions and {column.dtype} in joined ({column[0]!r})"
        raise SchemaError(what, expected="the same type in both", hint="cast one of them")
    users = encoding.users(column)
    key, key2 = users.keys(0, len(users))
    keys = {KEY: key} | ({KEY2: key2} if encoding.wide else {})
    periods = (calendar.ordinals(cut.local_days(0, len(users)).astype(np.int64)) - origin).astype(np.int32)
    frame = pl.DataFrame(keys | {USER: users.series.alias(""), COHORT: periods})
    first = frame.unique([*keys], keep="first", maintain_order=True)
    other = frame.join(first, on=[*keys]).filter(pl.col(COHORT) != pl.col(f"{COHORT}_right"))
    return JoinedCohorts(first, other.height, str(other[USER][0]) if other.height else "")
