"""Adapty's table from frames of Spark: the events and installs of whole users in each partition, and parts that add."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.adapty.compute import events_for, installs_for, needed, question_of
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.parts import SCHEMA, Part
from cohortlib.adapty.question import Question
from cohortlib.adapty.read.columns import are_dates
from cohortlib.adapty.read.counted import refuse_nulls
from cohortlib.adapty.read.events import columns_of_events, columns_of_instants, columns_of_users, known_columns
from cohortlib.adapty.read.names import NO_DEVICE
from cohortlib.errors import CohortlibError, SchemaError, one_of
from cohortlib.literals import Nulls
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, Note, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame as SparkFrame

    from cohortlib.adapty.request import Request


_KEYS = ("name", "segment", "column")
_PARTIAL: dict[str, Any] = {"name": pl.String, **dict.fromkeys(("segment", "column", "high", "low"), pl.Int64)}
_NOTE = "note."
# Each chain of each user is a row. Spark counts those of several users, and so they stay where they are.
_COUNTED = (
    "case when name = 'chain' then 'report.shared_chains' else name end as name",
    "segment",
    "case when name = 'chain' then cast(0 as bigint) else `column` end as `column`",
    "high",
    "case when name = 'chain' then cast(case when low > 1 then 1 else 0 end as bigint) else low end as low",
)


def adapty_cohort(
    events: "SparkFrame",
    request: "Mapping[str, object] | Request",
    *,
    installs: "SparkFrame | str | None" = None,
    timezone: str = "UTC",
    conventions: Conventions | None = None,
    nulls: Nulls = "error",
    decimals: int = 6,
    partitions: int | None = None,
) -> Answer:
    """Compute Adapty's cohort table of Spark frames: the answer of :func:`cohortlib.adapty.cohort`, to the bit.

    Events and installs are sent to partitions by user; each partition is added up by itself, on one thread; Spark adds
    these sums; and the small table comes back.

    Parameters
    ----------
    events
        A Spark frame, classic or of Spark Connect, with the columns of Adapty's event export or webhook, or of
        RevenueCat's transactions.
    request, timezone, conventions, nulls, decimals
        As for :func:`cohortlib.adapty.cohort`.
    installs
        A Spark frame of users and their `install_date`, or of ready counts, with `install_date` and `installs`; or
        ``"from_events"``, which counts only users seen in the events. It must be given.
    partitions
        Number of partitions of users; None leaves it to Spark. The answer does not depend on it.

    Returns
    -------
    Answer
        As of :func:`cohortlib.adapty.cohort`, without predictions: these look at all cohorts of every user at once.

    Raises
    ------
    RequestError, SettingError, SchemaError, DataError
        As for :func:`cohortlib.adapty.cohort`. What goes wrong in a worker is raised here, in the same words.

    Notes
    -----
    Where instants are text, the events are read once more before, to see whether they are instants or dates.
    """
    listed = _checked(events, installs, partitions)
    one_of("nulls", nulls, ("error", "drop"))
    question = question_of(request, timezone=timezone, conventions=conventions, decimals=decimals, threads=1)
    reader = _Reader.of(events, listed, question)
    # What can be told without a look at any row is told before there is one, and of frames without rows too.
    nobody = reader.part((_empty(events), None if listed is None else _empty(listed))).table()
    reader = replace(reader, dates=(_dates(events, reader.events), _dates(listed, reader.installs)))
    rows = reader.rows(events, listed)
    parts = (rows.repartition("who") if partitions is None else rows.repartition(partitions, "who")).drop("who")
    sums = (
        parts.mapInArrow(_Adding(reader), frames.ddl(_PARTIAL)).groupBy(*_KEYS).sum("high", "low").toDF(*_PARTIAL)
    )  # fmt: skip
    sums = sums.selectExpr(*_COUNTED).groupBy(*_KEYS).sum("high", "low").toDF(*_PARTIAL)
    found = pl.DataFrame(sums.toArrow())
    noted = pl.col("name").str.starts_with(_NOTE)
    Note.all(text.removeprefix(_NOTE) for text in found.filter(noted)["name"])
    found = found.filter(~noted).with_columns(value=pl.col("high") * 2**32 + pl.col("low"))
    part = Part.of_table(pl.concat([nobody, found.select(*SCHEMA).cast(SCHEMA)]), question)
    mine, theirs = part.dropped
    part = replace(part, dropped=(frames.in_order(mine, reader.events), frames.in_order(theirs, reader.installs or ())))
    for what, dropped in zip(("the events", "the installs"), part.dropped, strict=True):
        refuse_nulls(what, dropped, nulls)
    part.tell()
    return part.answer()


def _checked(events: "SparkFrame", installs: "SparkFrame | str | None", partitions: int | None) -> "SparkFrame | None":
    """Refuse what are no frames of Spark; give that of installs, where it is one."""
    frames.check_frame(events, "the events")
    frames.check_partitions(partitions)
    if installs is None:
        needed(installs)
    if isinstance(installs, str):
        if installs != "from_events":
            raise SchemaError(f"installs={installs!r} is no frame of Spark; expected one, or 'from_events'")
        return None
    if installs is not None:
        frames.check_frame(installs, "the installs")
    return installs


@dataclass(frozen=True)
class _Reader:
    """How a worker reads the events and installs of its partition, by position, and what it makes of them."""

    question: Question
    events: dict[str, str]
    """The columns that are read, and their types in Spark's SQL."""
    installs: dict[str, str] | None
    dates: tuple[frozenset[str], frozenset[str]]
    """The columns of text that hold dates and not instants, of both."""
    secret: bytes

    @classmethod
    def of(cls, events: "SparkFrame", installs: "SparkFrame | None", question: Question) -> "_Reader":
        """Choose the columns that are read."""
        kinds, conventions, theirs = frames.kinds(events), question.conventions, None
        read = columns_of_events(
            list(kinds), user_unit=conventions.user_unit, refund_upgraded=conventions.refund_upgraded,
            wanted=question.wanted(),
        )  # fmt: skip
        if installs is not None:
            others = frames.kinds(installs)
            theirs = {name: others[name] for name in others if name in known_columns()}
        return cls(question, {name: kinds[name] for name in read}, theirs, (frozenset(), frozenset()), os.urandom(16))

    def rows(self, events: "SparkFrame", installs: "SparkFrame | None") -> "SparkFrame":
        """Put events and installs under one another, each in columns of its own, beside the user that both have."""
        unit = self.question.conventions.user_unit
        mine = [f"{quoted(name)} as e{at}" for at, name in enumerate(self.events)]
        if installs is None or self.installs is None:
            return events.selectExpr(f"{_user(self.events, unit)} as who", "true as here", *mine)
        theirs = [f"{quoted(name)} as i{at}" for at, name in enumerate(self.installs)]
        no_event = [f"cast(null as {kind}) as e{at}" for at, kind in enumerate(self.events.values())]
        no_install = [f"cast(null as {kind}) as i{at}" for at, kind in enumerate(self.installs.values())]
        return events.selectExpr(f"{_user(self.events, unit)} as who", "true as here", *mine, *no_install).union(
            installs.selectExpr(f"{_user(self.installs, unit)} as who", "false as here", *no_event, *theirs)
        )

    def tables(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """Take events and installs apart, under the names of their columns."""
        here, columns = frame.to_series(0), frame.get_columns()[1:]

        def table(names: dict[str, str], columns: list[pl.Series]) -> pl.DataFrame:
            return pl.DataFrame([column.alias(name) for column, name in zip(columns, names, strict=True)])

        width = len(self.events)
        events = table(self.events, columns[:width])
        if self.installs is None:
            return events, None
        return events.filter(here), table(self.installs, columns[width:]).filter(~here)

    def part(self, tables: tuple[pl.DataFrame, pl.DataFrame | None]) -> Part:
        """Add up the users of some rows; how many were left out for nulls is told of all parts together."""
        events, installs = tables
        read = events_for(self.question, events, nulls="drop", dates=self.dates[0])
        who = "from_events" if installs is None else installs
        listed = installs_for(self.question, who, nulls="drop", dates=self.dates[1])
        return Part.of(read, listed, self.question, secret=self.secret)


@dataclass(frozen=True)
class _Adding:
    """Add up the users of a partition."""

    reader: _Reader

    def __call__(self, batches: Batches) -> Batches:
        frame = frames.read(batches)
        if frame is None:
            return
        try:
            table = self.reader.part(self.reader.tables(frame)).table()
        except CohortlibError as error:
            table = pl.DataFrame([(_NOTE + Note.of(error).written(), 0, 0, 0)], schema=SCHEMA, orient="row")
        halves = {"high": pl.col("value") // 2**32, "low": pl.col("value") & (2**32 - 1)}
        yield from frames.batches(table.with_columns(**halves), _PARTIAL)


def _empty(frame: "SparkFrame") -> pl.DataFrame:
    """Make the table of nobody, with all columns."""
    return frames.empty(frames.kinds(frame), strict=False)


def _user(kinds: dict[str, str], unit: str) -> str:
    """Write what tells the user, in SQL: the first of some columns with a value, as text."""
    texts = [f"nullif(cast({quoted(name)} as string), '')" for name in columns_of_users(list(kinds), unit)]
    if unit == "device_id":
        texts = [f"nullif({text}, '{NO_DEVICE}')" for text in texts]
    return f"coalesce({', '.join(texts)})" if texts else "cast(null as string)"


def _dates(frame: "SparkFrame | None", kinds: dict[str, str] | None) -> frozenset[str]:
    """Name the columns of text that hold dates and not instants, which all values together tell."""
    if frame is None or kinds is None:
        return frozenset()
    known = columns_of_instants()
    texts = [name for name, kind in frames.empty(kinds).schema.items() if name in known and kind == pl.String]
    if not texts:
        return frozenset()
    # As columns.date_counts does.
    counts = [
        f"sum(case when {told} then 1 else 0 end)"
        for name in map(quoted, texts)
        for told in (f"{name} <> ''", f"octet_length({name}) = 10")
    ]
    found = [count or 0 for count in pl.DataFrame(frame.selectExpr(*counts).toArrow()).row(0)]
    return frozenset(name for at, name in enumerate(texts) if are_dates(*found[2 * at : 2 * at + 2]))
