"""Check a call on a Spark frame, and read its rows in a worker."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from cohortlib.errors import SchemaError, listed
from cohortlib.periods import FIRST_DAY, date_of
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.nulls import Dropped, without_nulls
from cohortlib.read.transactions import parse_transactions
from cohortlib.read.users import Users
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, Note, quoted
from cohortlib.transactions.joined import joined_columns
from cohortlib.transactions.load import load
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame as SparkFrame


WHERE = ("the table", "the joined table")


@dataclass(frozen=True)
class Reader:
    """How a worker reads the rows of its partition, by position: the user, the instant, the amount, maybe a date."""

    settings: Settings
    names: tuple[str, ...]
    """Of the columns of the transactions, then of the joined table."""
    tagged: bool
    """Whether rows of the joined table stand among the transactions; a mark tells which is which."""

    def load(self, batches: Batches, *, keep_users: bool = False) -> tuple[LoadedRows | None, Note]:
        """Load the rows of a partition, with user ids if `keep_users`, and return a note on them as well."""
        frame = frames.read(batches)
        if frame is None:
            return None, Note()
        rows, joined = self._tables(frame)
        rows, dropped = without_nulls(rows, "drop", WHERE[0])
        last_day = None
        if dropped.count:
            # The rows that are left out still tell where the table ends.
            last_day = last_day_of(frame.to_series(1), self.settings)
        dropped_joined = Dropped()
        if joined is not None:
            joined, dropped_joined = without_nulls(joined, "drop", WHERE[1])
        note = Note(last_day, 0, dropped, dropped_joined)
        if self.settings.nulls == "error" and (dropped.count or dropped_joined.count):
            return None, note
        # The last period of all rows is not that of these.
        settings = replace(self.settings, joined=joined, threads=1, complete_only=False)
        # The rows are in memory already.
        with load(rows, settings, keep_users=keep_users or joined is not None, may_spill=False) as loaded:
            pass
        days = [day for day in (last_day, loaded.last_day) if day is not None]
        note = replace(note, last_day=max(days, default=None), magnitude=loaded.magnitude)
        return replace(loaded, caller_checks_fit=True), note

    def _tables(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """Take the transactions and the joined table apart, under the names of their columns."""
        joined = None
        columns = frame.get_columns()
        rows = pl.DataFrame([column.alias(name) for column, name in zip(columns, self.names[:3], strict=False)])
        if len(self.names) > 3:
            joined = pl.DataFrame([columns[0].alias(self.names[0]), columns[3].alias(self.names[3])])
            here = columns[4] if self.tagged else None
            if here is not None:
                rows, joined = rows.filter(here), joined.filter(~here)
            else:
                joined = joined.filter(columns[0].is_not_null())
        return rows, joined


@dataclass(frozen=True)
class Asked:
    """A question to Spark, checked: the frame of the columns that are needed, and how workers read it."""

    frame: "SparkFrame"
    reader: Reader
    partitions: int | None

    @property
    def settings(self) -> Settings:
        """What the caller asked for."""
        return self.reader.settings

    def ending(self, last: int | None) -> "Asked":
        """Ask the same with the period `last` as the right edge."""
        if last is None:
            return self
        settings = self.settings
        first, _ = settings.edges()
        first_day = int(settings.calendar.first_days(np.array([last]))[0])
        settings = replace(
            settings,
            start=None if first is not None and first > last else settings.start,
            end=date_of(max(first_day, FIRST_DAY)),
            complete_only=False,
        )
        return replace(self, reader=replace(self.reader, settings=settings))

    def parts(self) -> "SparkFrame":
        """Send every row of one user to one partition."""
        if self.partitions is None:
            return self.frame.repartition("who")
        return self.frame.repartition(self.partitions, "who")


def check_request(frame: "SparkFrame", joined: "SparkFrame | str | None", partitions: int | None, **told: Any) -> Asked:  # noqa: ANN401
    """Check all that can be checked without a look at any row."""
    settings = Settings(**told, joined=None if joined is None else "joined")
    frames.check_frame(frame)
    frames.check_partitions(partitions)
    frames.check_columns(frame, {role: getattr(settings, role) for role in ("user", "timestamp", "amount")})
    kinds = frames.kinds(frame)
    roles = settings.roles
    here = frames.empty({name: kinds[name] for name in roles})
    parse_transactions(here, *roles, **settings.reading)
    columns = [f"{quoted(name)} as {role}" for name, role in zip(roles, ("who", "at", "amount"), strict=True)]
    if joined is None:
        return Asked(frame.selectExpr(*columns), Reader(settings, tuple(roles), tagged=False), partitions)
    if isinstance(joined, str):
        if joined not in kinds:
            raise SchemaError(f"joined={joined!r} is not a column; columns are {listed(kinds)}")
        Instants.of(frames.empty({joined: kinds[joined]})[joined])
        columns.append(f"{quoted(joined)} as joined")
        return Asked(frame.selectExpr(*columns), Reader(settings, (*roles, joined), tagged=False), partitions)
    frames.check_frame(joined, "joined")
    others = frames.kinds(joined)
    user, day = joined_columns(list(others), settings.user)
    there = frames.empty({name: others[name] for name in (user, day)})
    Instants.of(there[day])
    key = _common_key(kinds[user], others[user], Users.of(here[user]), Users.of(there[user]))
    rows = frame.selectExpr(
        f"cast({quoted(user)} as {key}) as who", *columns[1:], f"cast(null as {others[day]}) as joined", "true as here"
    )
    dates = joined.selectExpr(
        f"cast({quoted(user)} as {key}) as who", f"cast(null as {kinds[settings.timestamp]}) as at",
        f"cast(null as {kinds[settings.amount]}) as amount", f"{quoted(day)} as joined", "false as here",
    )  # fmt: skip
    return Asked(rows.union(dates), Reader(settings, (*roles, day), tagged=True), partitions)


def _common_key(kind: str, other: str, users: Users, joined: Users) -> str:
    """Give the type in which the users of both tables are the same, and refuse those that are not."""
    if users.integers != joined.integers:
        raise SchemaError(
            f"the users are {kind} in the transactions and {other} in joined; expected the same type in both. "
            "Hint: cast one of them"
        )
    if not users.integers:
        return "string"
    return "decimal(38, 0)" if "decimal" in kind + other else "bigint"


def last_day_of(instants: pl.Series, settings: Settings) -> int | None:
    """Give the local day of the last of some instants."""
    instants = instants.alias("").drop_nulls().alias(settings.timestamp)
    cut = Cut.of(Instants.of(instants), settings.timezone, settings.calendar)
    return None if cut is None else cut.days[1]
