"""Termina's accountings and concentration from a Spark frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Unpack

import numpy as np
import polars as pl

from cohortlib.read.arrays import Ints
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches
from cohortlib.spark.sums import add_partitions
from cohortlib.spark.transactions import PartitionReader, SparkAccountingKeywords, partitioned
from cohortlib.termina.frames import Concentration
from cohortlib.transactions.accounting import AccountingSums, accounting_sums_of
from cohortlib.transactions.activity import Activity
from cohortlib.transactions.additive import AdditiveTable, SumsSettings
from cohortlib.transactions.concentration import RANKED, frames_of, largest, ranked
from cohortlib.transactions.grid import EMPTY_GRID, Grid
from cohortlib.transactions.keywords import Edges, with_settings
from cohortlib.transactions.loaded import LoadedRows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame as SparkFrame


@with_settings
def user_accounting(
    transactions: "SparkFrame", *, partitions: int | None = None, **settings: Unpack[SparkAccountingKeywords]
) -> pl.DataFrame:
    """Compute the user accounting of a Spark frame: exactly the table of :func:`cohortlib.termina.user_accounting`.

    Rows are repartitioned by user. A worker sums each partition on one thread, Spark adds the sums, and only the small
    table returns to the driver.

    Parameters
    ----------
    transactions, user, timestamp, amount, partitions
        As for :func:`cohorts`.
    freq, timezone, week_start, refunds, start, end, complete_only, nulls, timestamp_format, decimal, assume_zone, \
    normalize, decimals
        As for :func:`cohortlib.termina.user_accounting`.

    Raises
    ------
    SettingError, SchemaError, DataError
        As for :func:`cohorts`.
    """
    sums, edges = _accounting(transactions, partitions, settings)
    return sums.user_accounting(**edges)


@with_settings
def growth_accounting(
    transactions: "SparkFrame", *, partitions: int | None = None, **settings: Unpack[SparkAccountingKeywords]
) -> pl.DataFrame:
    """Compute the growth accounting of a Spark frame: exactly the table of :func:`cohortlib.termina.growth_accounting`.

    Parameters
    ----------
    transactions, user, timestamp, amount, partitions, freq, timezone, week_start, refunds, start, end, \
    complete_only, nulls, timestamp_format, decimal, assume_zone, normalize, decimals
        As for :func:`user_accounting`.

    Raises
    ------
    SettingError, SchemaError, DataError
        As for :func:`cohorts`.
    """
    sums, edges = _accounting(transactions, partitions, settings)
    return sums.growth_accounting(**edges)


@with_settings
def concentration(
    transactions: "SparkFrame", *, partitions: int | None = None, **settings: Unpack[SparkAccountingKeywords]
) -> Concentration:
    """Compute the concentration of a Spark frame: exactly the result of :func:`cohortlib.termina.concentration`.

    Percentiles need the amounts of all users. Spark counts the users of each amount and period, and the counts return
    to the driver: as many rows as there are different amounts, summed over the periods. A second pass over the rows
    finds the top users of the last period.

    Parameters
    ----------
    transactions, user, timestamp, amount, partitions, freq, timezone, week_start, refunds, start, end, \
    complete_only, nulls, timestamp_format, decimal, assume_zone, normalize, decimals
        As for :func:`user_accounting`.

    Raises
    ------
    SettingError, SchemaError, DataError
        As for :func:`cohorts`.
    """
    rows = partitioned(transactions, partitions, **settings)
    counts = add_partitions(rows, _AmountCounts, _count_amounts)
    first, last = rows.settings.bounds(counts.last_day)
    table = counts.table.filter(pl.col("period") <= (last or 0))
    top = pl.DataFrame(schema=RANKED)
    if last is None or table.is_empty():
        return Concentration(**frames_of(rows.settings, EMPTY_GRID, np.empty(0, np.int64), iter(()), top))
    if int(table["period"].to_numpy()[-1]) == last:
        work = _TopUsers(rows.ending(last).reader)
        top = ranked(pl.DataFrame(rows.by_user().mapInArrow(work, frames.ddl(RANKED)).toArrow()))
    grid = Grid.between(int(table["period"].to_numpy()[0]), last, first)
    active = np.zeros(grid.span, np.int64)
    np.add.at(active, table["period"].to_numpy() - grid.origin, table["users"].to_numpy())
    return Concentration(**frames_of(rows.settings, grid, active, _sorted_amounts(table), top))


def _accounting(
    transactions: "SparkFrame", partitions: int | None, settings: SparkAccountingKeywords
) -> tuple[AccountingSums, Edges]:
    """Return the sums behind both accountings, and the edges of the table."""
    rows = partitioned(transactions, partitions, **settings)
    checked = rows.settings
    edges = Edges(start=checked.start, end=checked.end, complete_only=checked.complete_only)
    return add_partitions(rows, AccountingSums, accounting_sums_of), edges


@dataclass(frozen=True, eq=False)
class _AmountCounts(AdditiveTable):
    """How many active users have each amount in each period."""

    columns = dict.fromkeys(("period", "amount", "users"), pl.Int64)
    keys = ("period", "amount")


def _count_amounts(loaded: LoadedRows) -> _AmountCounts:
    """Count the users of each amount and period."""
    table = pl.DataFrame(schema=_AmountCounts.columns)
    if loaded.span:

        def work(groups: Iterator[Activity]) -> list[pl.DataFrame]:
            return [
                pl.DataFrame({"period": users.period[users.active], "amount": users.amount[users.active]})
                for users in groups
            ]

        cells = pl.concat(chain.from_iterable(loaded.map_groups(work)))
        period = pl.col("period").cast(pl.Int64) + loaded.grid.origin
        table = cells.group_by(period, "amount").agg(pl.len().cast(pl.Int64).alias("users"))
    return _AmountCounts(SumsSettings.of(loaded.settings), table, loaded.last_day, loaded.magnitude)


def _sorted_amounts(table: pl.DataFrame) -> Iterator[Ints]:
    """Yield the amounts of each period, ascending, once for each user; the table is sorted."""
    for (_,), counts in table.group_by("period", maintain_order=True):
        yield np.repeat(counts["amount"].to_numpy(), counts["users"].to_numpy())


@dataclass(frozen=True)
class _TopUsers:
    """Find the largest users of a partition in the last period, which `end` sets."""

    reader: PartitionReader

    def __call__(self, batches: Batches) -> Batches:
        loaded, _ = self.reader.load(batches, keep_users=True)
        if loaded is not None and loaded.span:
            yield from frames.batches(largest(*loaded.activity(), loaded.span - 1), RANKED)
