"""Adapty's table from Spark frames: each partition holds the rows of whole users, and their sums add."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl

from cohortlib.adapty.additive import SCHEMA, Sums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.compute import check_installs, make_plan
from cohortlib.adapty.inputs import events_for, installs_for
from cohortlib.adapty.keywords import RequestKeywords, with_settings
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read import revenuecat
from cohortlib.adapty.read.counted import check_nulls
from cohortlib.adapty.read.events import event_columns, known_columns, user_columns
from cohortlib.adapty.read.readers import NO_DEVICE
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.states import StateCounts, has_states, latest_states
from cohortlib.adapty.read.tables import RawTable
from cohortlib.errors import Arg, CohortlibError, SchemaError, one_of
from cohortlib.literals import Nulls
from cohortlib.read.ids import clean_ids
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, Note, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame as SparkFrame

    from cohortlib.adapty.request import Request


_KEYS = ("name", "segment", "column")
_PARTIAL_SUMS: dict[str, Any] = {"name": pl.String, **dict.fromkeys(("segment", "column", "high", "low"), pl.Int64)}
_NOTE = "note."
_USER = "user_key"
_COUNTS = ("cohortlib.superseded", "cohortlib.unordered")  # of a partition, in its first row
# There is one row per chain, so Spark counts the chains that several users share instead of returning all rows.
_COUNT_CHAINS = (
    "case when name = 'chain' then 'report.shared_chains' else name end as name",
    "segment",
    "case when name = 'chain' then cast(0 as bigint) else `column` end as `column`",
    "high",
    "case when name = 'chain' then cast(case when low > 1 then 1 else 0 end as bigint) else low end as low",
)


@with_settings
def adapty_cohort(
    events: "SparkFrame",
    request: "Mapping[str, object] | Request",
    *,
    installs: "SparkFrame | str | None" = None,
    nulls: Nulls = "error",
    partitions: int | None = None,
    **settings: Unpack[RequestKeywords],
) -> Answer:
    """Compute Adapty's cohort table of Spark frames: the answer of :func:`cohortlib.adapty.cohort`, to the bit.

    Events and installs are partitioned by user. Each partition is aggregated on one thread, Spark adds the sums, and
    returns a small table.

    Parameters
    ----------
    events
        A Spark frame, classic or of Spark Connect, with the columns of Adapty's event export or webhook, or of
        RevenueCat's transactions, of which the latest states count, over all partitions.
    request, timezone, conventions, event_types, products, nulls, decimals, timestamp_format, decimal, normalize
        As for :func:`cohortlib.adapty.cohort`.
    installs
        Required: a Spark frame of users and their `install_date`, or of ready counts, with `install_date` and
        `installs`; or ``"from_events"``, which counts only users seen in the events.
    partitions
        Number of partitions of users; None leaves it to Spark. The answer does not depend on it.

    Returns
    -------
    Answer
        As :func:`cohortlib.adapty.cohort` returns it, without predictions, since these need all cohorts at once.

    Raises
    ------
    RequestError, SettingError, SchemaError, DataError
        As for :func:`cohortlib.adapty.cohort`. Errors in a worker are raised here, with the same messages.
    """
    install_frame = _checked(events, installs, partitions)
    one_of("nulls", nulls, ("error", "drop"))
    plan = make_plan(request, **settings, threads=1)
    latest = _latest(events, plan) if has_states(events.columns) else events
    reader = _SparkEvents.of(latest, install_frame, plan)
    # Sums without rows: errors in columns and types are raised here, before Spark reads any row.
    empty = reader.sums((_empty(latest), None if install_frame is None else _empty(install_frame))).table()
    rows = reader.rows(latest, install_frame)
    if plan.rules.normalize is not None:
        rows = rows.mapInArrow(_NormalizedUsers(plan.reading()), rows.schema)
    by_user = rows.repartition(_USER) if partitions is None else rows.repartition(partitions, _USER)
    sums = by_user.drop(_USER).mapInArrow(_EventSums(reader), frames.ddl(_PARTIAL_SUMS))
    sums = sums.groupBy(*_KEYS).sum("high", "low").toDF(*_PARTIAL_SUMS)
    sums = sums.selectExpr(*_COUNT_CHAINS).groupBy(*_KEYS).sum("high", "low").toDF(*_PARTIAL_SUMS)
    table = pl.DataFrame(sums.toArrow())
    is_note = pl.col("name").str.starts_with(_NOTE)
    Note.all(text.removeprefix(_NOTE) for text in table.filter(is_note)["name"])
    table = table.filter(~is_note).with_columns(value=pl.col("high") * 2**32 + pl.col("low"))
    total = Sums.of_table(pl.concat([empty, table.select(*SCHEMA).cast(SCHEMA)]), plan)
    of_events, of_installs = total.dropped
    dropped = frames.in_order(of_events, reader.events), frames.in_order(of_installs, reader.installs or ())
    total = replace(total, dropped=dropped)
    for what, rows_dropped in zip(("the events", "the installs"), dropped, strict=True):
        check_nulls(what, rows_dropped, nulls)
    total.warn()
    return total.answer()


def _checked(events: "SparkFrame", installs: "SparkFrame | str | None", partitions: int | None) -> "SparkFrame | None":
    """Raise unless events and installs are Spark frames. Returns the frame of installs, or None for "from_events"."""
    frames.check_frame(events, "the events")
    frames.check_partitions(partitions)
    if installs is None:
        check_installs(installs)
    if isinstance(installs, str):
        if installs != "from_events":
            what = (Arg("installs", installs), " is not a Spark frame")
            raise SchemaError(what, value=installs, expected="a Spark frame, or 'from_events'")
        return None
    if installs is not None:
        frames.check_frame(installs, "the installs")
    return installs


@dataclass(frozen=True)
class _SparkEvents:
    """Read events and installs of a partition and aggregate them; columns are passed by position."""

    plan: RequestPlan
    events: dict[str, str]  # the columns to read, and their types in Spark SQL
    installs: dict[str, str] | None
    secret: bytes

    @classmethod
    def of(cls, events: "SparkFrame", installs: "SparkFrame | None", plan: RequestPlan) -> "_SparkEvents":
        """Select the columns to read."""
        types, conventions = frames.kinds(events), plan.conventions
        names = event_columns(
            list(types), user_unit=conventions.user_unit, refund_upgraded=conventions.refund_upgraded,
            optional=plan.optional_columns(),
        )  # fmt: skip
        install_types = None
        if installs is not None:
            known = known_columns()
            install_types = {name: kind for name, kind in frames.kinds(installs).items() if name in known}
        event_types = {name: types[name] for name in (*names, *(name for name in _COUNTS if name in types))}
        return cls(plan, event_types, install_types, os.urandom(16))

    def rows(self, events: "SparkFrame", installs: "SparkFrame | None") -> "SparkFrame":
        """Concatenate events and installs, each in columns of its own, with a common column for the user."""
        unit = self.plan.conventions.user_unit
        keys = [f"{_user(self.events, unit)} as {_USER}", "true as is_event"]
        of_events = [f"{quoted(name)} as e{at}" for at, name in enumerate(self.events)]
        if installs is None or self.installs is None:
            return events.selectExpr(*keys, *of_events)
        install_keys = [f"{_user(self.installs, unit)} as {_USER}", "false as is_event"]
        of_installs = [f"{quoted(name)} as i{at}" for at, name in enumerate(self.installs)]
        no_event = [f"cast(null as {kind}) as e{at}" for at, kind in enumerate(self.events.values())]
        no_install = [f"cast(null as {kind}) as i{at}" for at, kind in enumerate(self.installs.values())]
        return events.selectExpr(*keys, *of_events, *no_install).union(
            installs.selectExpr(*install_keys, *no_event, *of_installs)
        )

    def tables(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """Split the rows into events and installs, under the names of their columns."""
        is_event, columns = frame.to_series(0), frame.get_columns()[1:]

        def table(names: dict[str, str], columns: list[pl.Series]) -> pl.DataFrame:
            return pl.DataFrame([column.alias(name) for column, name in zip(columns, names, strict=True)])

        width = len(self.events)
        events = table(self.events, columns[:width])
        if self.installs is None:
            return events, None
        return events.filter(is_event), table(self.installs, columns[width:]).filter(~is_event)

    def sums(self, tables: tuple[pl.DataFrame, pl.DataFrame | None]) -> Sums:
        """Aggregate some users. Rows with nulls are dropped here, and checked over all partitions later."""
        events, installs = tables
        read = events_for(self.plan, events.select(pl.exclude(_COUNTS)), nulls="drop", states=False)
        if _COUNTS[0] in events.columns:
            read = read.with_states(StateCounts(*(int(events[name].sum()) for name in _COUNTS)))
        source = "from_events" if installs is None else installs
        read_installs = installs_for(self.plan, source, nulls="drop")
        return Sums.of(read, read_installs, self.plan, secret=self.secret)


@dataclass(frozen=True)
class _EventSums:
    """Aggregate a partition; the function passed to Spark."""

    reader: _SparkEvents

    def __call__(self, batches: Batches) -> Batches:
        frame = frames.read(batches)
        if frame is None:
            return
        try:
            table = self.reader.sums(self.reader.tables(frame)).table()
        except CohortlibError as error:
            table = pl.DataFrame([(_NOTE + Note.of(error).to_json(), 0, 0, 0)], schema=SCHEMA, orient="row")
        halves = {"high": pl.col("value") // 2**32, "low": pl.col("value") & (2**32 - 1)}
        yield from frames.batches(table.with_columns(**halves), _PARTIAL_SUMS)


def _latest(events: "SparkFrame", plan: RequestPlan) -> "SparkFrame":
    """Select the latest states of RevenueCat's transactions, whichever users they have, and add columns of counts."""
    from pyspark.sql.types import LongType, StructType

    conventions = plan.conventions
    names = event_columns(
        events.columns, user_unit=conventions.user_unit, refund_upgraded=conventions.refund_upgraded,
        optional=plan.optional_columns(),
    )  # fmt: skip
    if revenuecat.TRANSACTION not in names:
        return events  # which is an error
    chosen = events.select(*map(quoted, names))
    schema = StructType([*chosen.schema.fields])
    for name in _COUNTS:
        schema = schema.add(name, LongType())
    user = _user(frames.kinds(chosen), conventions.user_unit)
    key = f"coalesce(nullif(cast({quoted(revenuecat.TRANSACTION)} as string), ''), {user}, '')"
    keyed = chosen.selectExpr("*", f"{key} as {_USER}")
    return keyed.repartition(_USER).drop(_USER).mapInArrow(_LatestStates(plan.reading()), schema)


@dataclass(frozen=True)
class _NormalizedUsers:
    """Normalize the common column of users, so that ids that count as one are in one partition."""

    reading: Reading

    def __call__(self, batches: Batches) -> Batches:
        import pyarrow as pa

        for batch in batches:
            users = pl.Series(_USER, batch.column(0), dtype=pl.String)
            ids = clean_ids(users, self.reading.rules.normalize, None).to_arrow().cast(pa.string())
            yield pa.RecordBatch.from_arrays([ids, *batch.columns[1:]], schema=batch.schema)


@dataclass(frozen=True)
class _LatestStates:
    """Select the latest states of a partition; a function passed to Spark."""

    reading: Reading

    def __call__(self, batches: Batches) -> Batches:
        import pyarrow as pa

        filled = [batch for batch in batches if batch.num_rows]
        frame = frames.read(iter(filled))
        if frame is None:
            return
        table = pa.Table.from_batches(filled)
        (latest,), counts = latest_states([RawTable(frame, locate=None)], self.reading)
        kept = table if latest.rows is None else table.take(latest.rows.to_arrow())
        for name, count in zip(_COUNTS, (counts.superseded, counts.unordered), strict=True):
            column = np.zeros(kept.num_rows, np.int64)
            column[:1] = count
            kept = kept.append_column(name, pa.array(column))
        yield from kept.combine_chunks().to_batches(max_chunksize=1 << 16)


def _empty(frame: "SparkFrame") -> pl.DataFrame:
    return frames.empty(frames.kinds(frame), strict=False)


def _user(kinds: dict[str, str], unit: str) -> str:
    """Return the SQL expression of the user: the first column with a value, as text."""
    texts = [f"nullif(cast({quoted(name)} as string), '')" for name in user_columns(list(kinds), unit)]
    if unit == "device_id":
        texts = [f"nullif({text}, '{NO_DEVICE}')" for text in texts]
    return f"coalesce({', '.join(texts)})" if texts else "cast(null as string)"
