"""Transactions in a Spark frame: check them on the driver, partition them by user, and read them in workers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl

from cohortlib.errors import Arg, SchemaError, listed, silent_warnings
from cohortlib.periods import FIRST_DAY, date_of
from cohortlib.read.ids import Doubts, clean_ids
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.nulls import Dropped, without_nulls
from cohortlib.read.text import is_text
from cohortlib.read.transactions import TransactionReader
from cohortlib.read.users import Users
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, Note, quoted
from cohortlib.spark.text import NOT_PARSED, Parsed, needs_parsing, parse
from cohortlib.transactions.joined import joined_columns
from cohortlib.transactions.keywords import BeforeJoined, Customer, Edges, Parsing, Reading, Rules
from cohortlib.transactions.load import load
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame as SparkFrame


TABLES = ("the table", "the joined table")


class SparkAccountingKeywords(Reading, Parsing, Rules, Edges, total=False):
    """The settings of the accountings and of concentration on Spark."""


class SparkKeywords(Reading, Parsing, Rules, Edges, total=False):
    """The settings of ``cohorts`` on Spark."""

    joined: "SparkFrame | str | None"
    before_joined: BeforeJoined


class SparkCustomerKeywords(SparkKeywords, Customer, total=False):
    """The settings of ``customer_cohorts`` on Spark."""


@dataclass(frozen=True)
class PartitionReader:
    """Read the rows of a partition in a worker.

    Columns are known by position: the user, the instant, the amount, and with `joined` the join date.
    """

    settings: Settings
    names: tuple[str, ...]  # of the columns in the transactions, then of the join date
    tagged: bool  # whether the rows include those of the joined table; a last column is true for transactions
    parsed: Parsed = NOT_PARSED  # which columns were parsed from text before

    def load(self, batches: Batches, *, keep_users: bool = False) -> tuple[LoadedRows | None, Note]:
        """Load the rows of a partition, with user ids if `keep_users`, and return a note on them as well."""
        frame = self.read(batches)
        if frame is None:
            return None, Note()
        rows, joined = self._tables(frame)
        doubts = Doubts()
        users = rows.to_series(0)
        if is_text(users.dtype):
            rows = rows.with_columns(clean_ids(users, None, doubts))
        rows, dropped = without_nulls(rows, "drop", TABLES[0])
        # Dropped rows count for the last period too.
        last_day = last_day_of(frame.to_series(1), self.settings) if dropped.count else None
        dropped_joined = Dropped()
        if joined is not None:
            joined, dropped_joined = without_nulls(joined, "drop", TABLES[1])
        note = Note(last_day, 0, dropped, dropped_joined, null_words=doubts.null_words)
        if self.settings.nulls == "error" and (dropped.count or dropped_joined.count):
            return None, note
        # The last period depends on all partitions, so `complete_only` does not apply here.
        settings = replace(self.settings, joined=joined, threads=1, complete_only=False)
        with_users = keep_users or joined is not None
        # The driver warns, once for all partitions.
        with silent_warnings(), load(rows, settings, keep_users=with_users, may_spill=False) as loaded:
            pass
        days = [day for day in (last_day, loaded.last_day) if day is not None]
        note = replace(note, last_day=max(days, default=None), magnitude=loaded.magnitude)
        return replace(loaded, caller_checks_fit=True), note

    def read(self, batches: Batches) -> pl.DataFrame | None:
        """Read the batches of a partition; None without rows."""
        frame = frames.read(batches)
        return None if frame is None else self.parsed.typed(frame, self.settings.decimals)

    def _tables(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """Split a partition into transactions and joined table, with the names of their columns."""
        joined = None
        columns = frame.get_columns()
        rows = pl.DataFrame([column.alias(name) for column, name in zip(columns, self.names[:3], strict=False)])
        if len(self.names) > 3:
            joined = pl.DataFrame([columns[0].alias(self.names[0]), columns[3].alias(self.names[3])])
            if self.tagged:
                rows, joined = rows.filter(columns[4]), joined.filter(~columns[4])
            else:
                joined = joined.filter(columns[0].is_not_null())
        return rows, joined


@dataclass(frozen=True)
class PartitionedRows:
    """The checked rows of a call: the columns it needs, and how workers read them."""

    frame: "SparkFrame"
    reader: PartitionReader
    partitions: int | None

    @property
    def settings(self) -> Settings:
        """The settings of the call."""
        return self.reader.settings

    def ending(self, last: int | None) -> "PartitionedRows":
        """Return the same rows with `last` as the last period."""
        if last is None:
            return self
        settings = self.settings
        first, _ = settings.edges()
        first_day = int(settings.calendar.first_days(np.array([last]))[0])
        start = None if first is not None and first > last else settings.start
        settings = replace(settings, start=start, end=date_of(max(first_day, FIRST_DAY)), complete_only=False)
        return replace(self, reader=replace(self.reader, settings=settings))

    def by_user(self) -> "SparkFrame":
        """Repartition so that all rows of a user are in one partition."""
        if self.partitions is None:
            return self.frame.repartition("user_key")
        return self.frame.repartition(self.partitions, "user_key")


def partitioned(
    frame: "SparkFrame", partitions: int | None, **settings: Unpack[SparkCustomerKeywords]
) -> PartitionedRows:
    """Check a call as far as that is possible without reading rows, and select its columns."""
    joined = settings.get("joined")
    local: dict[str, Any] = {**settings, "joined": None if joined is None else "joined"}
    checked = Settings.of(**local)
    frames.check_frame(frame)
    frames.check_partitions(partitions)
    frames.check_columns(frame, {role: getattr(checked, role) for role in ("user", "timestamp", "amount")})
    kinds = frames.kinds(frame)
    roles = checked.roles
    no_rows = frames.empty({name: kinds[name] for name in roles})
    TransactionReader(checked.columns).parse(no_rows)
    aliases = ("user_key", "instant", "amount")
    columns = [f"{quoted(name)} as {alias}" for name, alias in zip(roles, aliases, strict=True)]
    if joined is None:
        reader = PartitionReader(checked, tuple(roles), tagged=False)
        return _parsed(frame.selectExpr(*columns), reader, partitions)
    if isinstance(joined, str):
        if joined not in kinds:
            what = (Arg("joined", joined), " is not a column")
            raise SchemaError(what, value=joined, expected=f"one of {listed(kinds)}")
        check_dates(frames.empty({joined: kinds[joined]})[joined])
        reader = PartitionReader(checked, (*roles, joined), tagged=False)
        rows = frame.selectExpr(*columns, f"{quoted(joined)} as joined")
        return _parsed(rows, reader, partitions)
    rows, joined_name = with_joined_table(frame, joined, checked, columns[1:])
    return _parsed(rows, PartitionReader(checked, (*roles, joined_name), tagged=True), partitions)


def _parsed(frame: "SparkFrame", reader: PartitionReader, partitions: int | None) -> PartitionedRows:
    """Parse the columns that are text, if there are any."""
    frame, columns = parse_if_needed(frame, reader.settings, tagged=reader.tagged)
    return PartitionedRows(frame, replace(reader, parsed=columns), partitions)


def parse_if_needed(frame: "SparkFrame", settings: Settings, *, tagged: bool) -> tuple["SparkFrame", Parsed]:
    """Parse the columns of user, instant and amount that are text, if there are any."""
    return parse(frame, settings, tagged=tagged) if needs_parsing(frame, settings) else (frame, NOT_PARSED)


def check_dates(dates: pl.Series) -> None:
    """Raise SchemaError unless join dates have a type of dates; unlike timestamps, they are not parsed from text."""
    if is_text(dates.dtype):
        raise SchemaError(
            f"the join dates, column {dates.name!r}, are text",
            value=dates.dtype, expected="dates or timestamps", hint=f"cast them in Spark: to_date({dates.name})",
        )  # fmt: skip
    Instants.of(dates)


def with_joined_table(
    frame: "SparkFrame", joined: "SparkFrame", settings: Settings, columns: list[str],
    more: Mapping[str, str] | None = None,
) -> tuple["SparkFrame", str]:  # fmt: skip
    """Append the joined table to the transactions; return also the name of its date column.

    `more` are further columns of the transactions, and the names that they get.
    """
    more = more or {}
    frames.check_frame(joined, "joined")
    kinds, joined_kinds = frames.kinds(frame), frames.kinds(joined)
    user, day = joined_columns(list(joined_kinds), settings.user)
    no_rows = frames.empty({user: kinds[user]})
    no_dates = frames.empty({name: joined_kinds[name] for name in (user, day)})
    check_dates(no_dates[day])
    key = _common_key(kinds[user], joined_kinds[user], Users.of(no_rows[user]), Users.of(no_dates[user]))
    user_key = f"cast({quoted(user)} as {key}) as user_key"
    rows = frame.selectExpr(
        user_key, *columns, f"cast(null as {joined_kinds[day]}) as joined", "true as is_transaction",
        *(f"{quoted(name)} as {alias}" for name, alias in more.items()),
    )  # fmt: skip
    dates = joined.selectExpr(
        user_key, f"cast(null as {kinds[settings.timestamp]}) as instant",
        f"cast(null as {kinds.get(settings.amount, 'bigint')}) as amount", f"{quoted(day)} as joined",
        "false as is_transaction", *(f"cast(null as {kinds[name]}) as {alias}" for name, alias in more.items()),
    )  # fmt: skip
    return rows.union(dates), day


def _common_key(kind: str, joined_kind: str, users: Users, joined: Users) -> str:
    """Return a type for the users of both tables, which must be of one kind."""
    if users.integers != joined.integers:
        what = f"the users are {kind} in the transactions and {joined_kind} in joined"
        raise SchemaError(what, expected="the same type in both", hint="cast one of them")
    if not users.integers:
        return "string"
    return "decimal(38, 0)" if "decimal" in kind + joined_kind else "bigint"


def last_day_of(instants: pl.Series, settings: Settings) -> int | None:
    """Return the local day of the last instant; None without any."""
    instants = instants.alias("").drop_nulls().alias(settings.timestamp)
    cut = Cut.of(Instants.of(instants), settings.timezone, settings.calendar)
    return None if cut is None else cut.days[1]
