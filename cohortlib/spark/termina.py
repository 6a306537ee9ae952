"""Termina's cohort tables from a Spark frame: users are partitioned, each partition is summed, and the sums add."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import polars as pl

from cohortlib.errors import SettingError, listed
from cohortlib.fields import CUSTOMER_COHORTS, schema
from cohortlib.read.arrays import Ints
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, quoted
from cohortlib.spark.general import SparkTableKeywords, general_cohorts
from cohortlib.spark.sums import add_partitions
from cohortlib.spark.transactions import (
    PartitionedRows,
    PartitionReader,
    SparkCustomerKeywords,
    partitioned,
)
from cohortlib.transactions.customers import Customers
from cohortlib.transactions.keywords import TABLE_SETTINGS, with_settings
from cohortlib.transactions.sums import Sums, sums_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame as SparkFrame

_RANKED: dict[str, Any] = {
    **dict.fromkeys(("user_id", "cohort"), pl.String),
    **dict.fromkeys(("cohort_size_amount", "ltv", "acv"), pl.Float64),
    **dict.fromkeys(("active_periods", "total", "recent"), pl.Int64),
}


@with_settings
def cohorts(
    transactions: "SparkFrame", *, partitions: int | None = None, **settings: Unpack[SparkTableKeywords]
) -> pl.DataFrame:
    """Compute the cohort table of a Spark frame: exactly the table of :func:`cohortlib.termina.cohorts`.

    With a setting that only :func:`cohortlib.cohorts` has (`by`, `age`, `amounts` …, or ``amount=None``), it is exactly
    the table of that function.

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
    by, split, users, age, calendar, fiscal_start, retention, brackets, amounts, confidence
        As for :func:`cohortlib.cohorts`; `users` and `calendar` are tables in memory or files, which every worker gets.
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
    frames.check_partitions(partitions)
    if settings.get("amount", "amount") is None or any(name in settings for name in TABLE_SETTINGS):
        return general_cohorts(transactions, partitions, **settings)
    plain: Any = settings
    rows = partitioned(transactions, partitions, **plain)
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
    return add_partitions(rows, Sums, sums_of)


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
            exact = {"total": customers.sums.total[positions], "recent": customers.sums.recent[positions]}
            yield from frames.batches(customers.summary(positions).with_columns(**exact), _RANKED)
