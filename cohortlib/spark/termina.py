"""Termina's tables from a Spark frame: users are partitioned, each partition is summed, and the sums add."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import polars as pl

from cohortlib.errors import CohortlibError, SettingError, listed
from cohortlib.fields import CUSTOMER_COHORTS, schema
from cohortlib.read.amounts import beyond_range
from cohortlib.read.arrays import Ints
from cohortlib.read.ids import Doubts
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, Note, quoted
from cohortlib.spark.transactions import (
    TABLES,
    PartitionedRows,
    PartitionReader,
    SparkCustomerKeywords,
    SparkKeywords,
    last_day_of,
    partitioned,
)
from cohortlib.transactions.additive import SumsSettings
from cohortlib.transactions.customers import Customers
from cohortlib.transactions.keywords import with_settings
from cohortlib.transactions.sums import TABLE, Sums, sums_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame as SparkFrame

_HALVES = ("first_amount", "amount")  # sums of money are split in two halves, whose sums cannot overflow 64 bits
_PARTIAL: dict[str, Any] = {
    **dict.fromkeys(("cohort", "age", "size", "active"), pl.Int64),
    **{f"{name}_{half}": pl.Int64 for name in _HALVES for half in ("high", "low")},
    "note": pl.String,
}
_KEYS = ("cohort", "age", "note")
_RANKED: dict[str, Any] = {
    **dict.fromkeys(("user_id", "cohort"), pl.String),
    **dict.fromkeys(("cohort_size_amount", "ltv", "acv"), pl.Float64),
    **dict.fromkeys(("active_periods", "total", "recent"), pl.Int64),
}


@with_settings
def cohorts(
    transactions: "SparkFrame", *, partitions: int | None = None, **settings: Unpack[SparkKeywords]
) -> pl.DataFrame:
    """Compute the cohort table of a Spark frame: exactly the table of :func:`cohortlib.termina.cohorts`.

    Rows are repartitioned by user. A worker sums each partition on one thread, Spark adds the sums, and only the small
    table returns to the driver.

    Parameters
    ----------
    transactions
        One row per payment or refund: a ``pyspark.sql.DataFrame``, classic or of Spark Connect.
    user, timestamp, amount
        Names of the columns: the user (integer or string), the instant (DATE, TIMESTAMP, TIMESTAMP_NTZ or STRING), the
        amount (float, integer, decimal or STRING; negative is a refund). A TIMESTAMP is an instant, whatever the
        session's time zone; a TIMESTAMP_NTZ and a DATE are used as they are. Text is read by the rule for files, in
        two more passes: one to check it over all partitions, one to parse it.
    joined
        Join dates, which set the users' cohorts: a Spark frame with the user column and ``joined``, or the name of a
        column of `transactions`. This needs a second pass over `transactions`, for the last instant.
    partitions
        Number of partitions of users; None leaves it to Spark (``spark.sql.shuffle.partitions`` and adaptive
        execution). The rows of one partition must fit the memory of a Python worker. The result does not
        depend on it.
    freq, timezone, week_start, refunds, before_joined, start, end, complete_only, nulls, timestamp_format, decimal, \
    assume_zone, normalize, decimals
        As for :func:`cohortlib.termina.cohorts`. User ids are not compared with each other, so there is no warning of
        ids that differ only in case.

    Returns
    -------
    polars.DataFrame
        As for :func:`cohortlib.termina.cohorts`.

    Raises
    ------
    SettingError, SchemaError, DataError
        As for :func:`cohortlib.termina.cohorts`. Errors of workers are raised here with the same message.

    Notes
    -----
    Workers need cohortlib and the same Python version. ``docs/spark.md`` has a complete example.
    """
    rows = partitioned(transactions, partitions, **settings)
    checked = rows.settings
    return _sums(rows).cohorts(start=checked.start, end=checked.end, complete_only=checked.complete_only)


@with_settings
def customer_cohorts(
    transactions: "SparkFrame", *, partitions: int | None = None, **settings: Unpack[SparkCustomerKeywords]
) -> "SparkFrame":
    """Compute the customer table of a Spark frame, as a Spark frame: one row for each customer and age.

    Customers do not pass through the driver. One pass over the rows, that of :func:`cohorts`, runs at once: it checks
    the rows and finds the last period and the totals of cohorts. The customers are computed lazily, with the frame.

    Parameters
    ----------
    transactions, user, timestamp, amount, joined, partitions
        As for :func:`cohorts`.
    rank_by
        With `top_n`: the name of a column of the summary of customers, highest first. Expressions, which may look at
        all customers, are only for :func:`cohortlib.termina.customer_cohorts`.
    freq, basis, rows, top_n, timezone, week_start, refunds, before_joined, start, end, complete_only, nulls, \
    timestamp_format, decimal, assume_zone, normalize, decimals
        As for :func:`cohortlib.termina.customer_cohorts`.

    Returns
    -------
    pyspark.sql.DataFrame
        Exactly the rows of :func:`cohortlib.termina.customer_cohorts`. A customer's rows are adjacent and sorted by
        period; the order of customers is arbitrary: sort with ``.orderBy("cohort", "user_id", "period")``.

    Raises
    ------
    SettingError, SchemaError, DataError
        As for :func:`cohorts`.
    """
    rank_by = settings.get("rank_by")
    if rank_by is not None and (not isinstance(rank_by, str) or rank_by not in list(_RANKED)[:6]):
        columns = listed(list(_RANKED)[:6])
        what = f"rank_by={rank_by!s} is not supported on Spark"
        raise SettingError(what, expected=f"a column of the summary of customers: {columns}")
    rows = partitioned(transactions, partitions, **settings)
    checked = rows.settings
    sums = _sums(rows)
    first, last = checked.bounds(sums.last_day)
    arguments = (rows.ending(last).reader, None if checked.basis == "single_customer" else sums)
    table = rows.by_user().mapInArrow(_CustomerTable(*arguments), frames.ddl(schema(CUSTOMER_COHORTS)))
    if first is not None and last is not None and first > last:
        return table.where("false")
    if checked.top_n is None:
        return table
    score = "cast(total as decimal(38, 0)) + cast(recent as decimal(38, 0))" if rank_by is None else quoted(rank_by)
    scores = rows.by_user().mapInArrow(_CustomerScores(*arguments), frames.ddl(_RANKED))
    scores = scores.selectExpr("user_id", f"{score} as score")
    best = scores.orderBy("score", "user_id", ascending=[False, True]).limit(checked.top_n).select("user_id")
    return table.join(best, "user_id", "left_semi").select(*CUSTOMER_COHORTS)


def _sums(rows: PartitionedRows) -> Sums:
    """Compute the sums of all partitions; raise their errors and warnings."""
    settings = rows.settings
    if settings.joined is not None:
        # Whether a join date is after the last period must be known in every partition.
        notes = rows.frame.selectExpr("instant").mapInArrow(_LastDay(rows.reader), "note string").toArrow()
        _, last = settings.bounds(Note.all(pl.DataFrame(notes)["note"]).last_day)
        rows = rows.ending(last)
    values = [name for name in _PARTIAL if name not in _KEYS]
    partial = rows.by_user().mapInArrow(_TransactionSums(rows.reader), frames.ddl(_PARTIAL))
    table = pl.DataFrame(partial.groupBy(*_KEYS).sum(*values).toDF(*_KEYS, *values).toArrow())
    note = Note.all(table["note"].drop_nulls())
    for what, nulls in zip(TABLES, (note.dropped, note.dropped_joined), strict=True):
        dropped = frames.in_order(nulls, rows.reader.names)
        if dropped.count and settings.nulls == "error":
            raise dropped.error(what)
        dropped.warn(what)
    Doubts(note.null_words).warn(settings.user, settings.normalize)
    if note.magnitude >= 2**63:
        raise beyond_range(f"column {settings.amount!r}", settings.decimals)
    if settings.joined is not None:
        note.fit.check(settings.before_joined)
    joined_halves = {name: pl.col(f"{name}_high") * 2**32 + pl.col(f"{name}_low") for name in _HALVES}
    cells = table.filter(pl.col("note").is_null()).with_columns(**joined_halves).select(*TABLE).sort("cohort", "age")
    return Sums(SumsSettings.of(settings), cells, note.last_day, note.magnitude)


@dataclass(frozen=True)
class _TransactionSums:
    """Sum the users of a partition."""

    reader: PartitionReader

    def __call__(self, batches: Batches) -> Batches:
        sums = None
        try:
            loaded, note = self.reader.load(batches)
            if loaded is not None:
                sums = sums_of(loaded).table
                if loaded.netting is not None and loaded.settings.joined is not None:
                    note = replace(note, fit=loaded.netting.fit())
        except CohortlibError as error:
            note, sums = Note.of(error), None
        if sums is not None:
            halves = {f"{name}_high": pl.col(name) // 2**32 for name in _HALVES}
            halves |= {f"{name}_low": pl.col(name) & (2**32 - 1) for name in _HALVES}
            yield from frames.batches(sums.with_columns(**halves, note=pl.lit(None, pl.String)), _PARTIAL)
        if note != Note():
            yield from frames.batches(pl.DataFrame([{"note": note.to_json()}], schema=_PARTIAL), _PARTIAL)


@dataclass(frozen=True)
class _LastDay:
    """Find the last day of a partition."""

    reader: PartitionReader

    def __call__(self, batches: Batches) -> Batches:
        frame = frames.read(batches)
        if frame is not None:
            try:
                instants = self.reader.parsed.instants(frame.to_series(0))
                note = Note(last_day_of(instants, self.reader.settings))
            except CohortlibError as error:
                note = Note.of(error)
            yield from frames.batches(pl.DataFrame({"note": [note.to_json()]}), {"note": pl.String})


@dataclass(frozen=True)
class _PartitionCustomers:
    """Net the customers of a partition. With `top_n`, the best of all customers are among the best of each partition.

    `totals` are the sums of all users, for customers that are compared with their cohort.
    """

    reader: PartitionReader
    totals: Sums | None

    def chosen(self, batches: Batches) -> Iterator[tuple[Customers, Ints]]:
        """Yield the customers of a partition with the positions of those in the table, if there are rows."""
        settings = self.reader.settings
        loaded, _ = self.reader.load(batches, keep_users=True)
        if loaded is not None and loaded.span:
            totals = None if self.totals is None else self.totals.on_grid(loaded.grid)
            customers = Customers.of(loaded, settings.basis, totals)
            yield customers, customers.select(settings.top_n, settings.rank_by)


@dataclass(frozen=True)
class _CustomerTable(_PartitionCustomers):
    """Compute the customer table of a partition."""

    def __call__(self, batches: Batches) -> Batches:
        for customers, positions in self.chosen(batches):
            for batch in customers.batches(positions, dense=self.reader.settings.rows == "dense"):
                yield from frames.batches(batch, schema(CUSTOMER_COHORTS))


@dataclass(frozen=True)
class _CustomerScores(_PartitionCustomers):
    """Compute the scores that rank the customers of a partition."""

    def __call__(self, batches: Batches) -> Batches:
        for customers, positions in self.chosen(batches):
            exact = {"total": customers.total[positions], "recent": customers.recent[positions]}
            yield from frames.batches(customers.summary(positions).with_columns(**exact), _RANKED)
