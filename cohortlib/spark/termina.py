"""Termina's tables from a frame of Spark: whole users in each partition, our kernels on it, and sums that add."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from cohortlib.errors import CohortlibError, SettingError, listed
from cohortlib.fields import CUSTOMER_COHORTS, schema
from cohortlib.periods import Freq
from cohortlib.read.amounts import beyond_range
from cohortlib.read.arrays import Ints
from cohortlib.read.nulls import Nulls
from cohortlib.spark import frames
from cohortlib.spark.asked import WHERE, Asked, Reader, check_request, last_day_of
from cohortlib.spark.frames import Batches, Note, quoted
from cohortlib.termina.compute import check_customers
from cohortlib.transactions.customers import Basis, CustomerRows, Customers
from cohortlib.transactions.settings import BeforeJoined, Refunds, Settings
from cohortlib.transactions.sums import TABLE, Conventions, Sums, added_up

if TYPE_CHECKING:
    from pyspark.sql import DataFrame as SparkFrame

_HALVES = ("first_amount", "amount")  # sums of money go in two halves, so that no sum of them leaves 64 bits
_PARTIAL: dict[str, Any] = {
    **dict.fromkeys(("cohort", "age", "size", "active"), pl.Int64),
    **{f"{name}_{half}": pl.Int64 for name in _HALVES for half in ("high", "low")},
    "note": pl.String,
}
_KEYS = ("cohort", "age", "note")
_RANKED: dict[str, Any] = {
    "user_id": pl.String,
    "cohort": pl.String,
    "cohort_size_amount": pl.Float64,
    "ltv": pl.Float64,
    "acv": pl.Float64,
    "active_periods": pl.Int64,
    "total": pl.Int64,
    "recent": pl.Int64,
}


def cohorts(
    transactions: "SparkFrame",
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    freq: Freq = "M",
    timezone: str = "UTC",
    week_start: str = "monday",
    refunds: Refunds = "net",
    joined: "SparkFrame | str | None" = None,
    before_joined: BeforeJoined = "error",
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    complete_only: bool = False,
    nulls: Nulls = "error",
    decimals: int = 6,
    partitions: int | None = None,
) -> pl.DataFrame:
    """Compute the cohort table of a Spark frame: the table of :func:`cohortlib.termina.cohorts`, to the bit.

    The rows are sent to partitions by user; each partition is added up by itself, on one thread; Spark adds these
    sums; and the small table comes back.

    Parameters
    ----------
    transactions
        One row per money movement: a ``pyspark.sql.DataFrame``, classic or of Spark Connect.
    user, timestamp, amount
        Names of the columns: the user (integer or string), the instant (DATE, TIMESTAMP or TIMESTAMP_NTZ), the amount
        (float, integer or decimal; negative is a refund). A TIMESTAMP is an instant, whatever the time zone of the
        session; a TIMESTAMP_NTZ and a DATE stand as they are.
    joined
        Dates that set the users' cohorts from outside: a Spark frame with the user column and ``joined``, or the name
        of a column of `transactions`. They are then read once more before, for its last instant.
    partitions
        Number of partitions of users; None leaves it to Spark (``spark.sql.shuffle.partitions`` and what adaptive
        execution makes of it). The rows of one partition must fit the memory of a Python worker. The result does not
        depend on it.
    freq, timezone, week_start, refunds, before_joined, start, end, complete_only, nulls, decimals
        As for :func:`cohortlib.termina.cohorts`.

    Returns
    -------
    polars.DataFrame
        As of :func:`cohortlib.termina.cohorts`.

    Raises
    ------
    SettingError, SchemaError, DataError
        As for :func:`cohortlib.termina.cohorts`. What goes wrong in a worker is raised here, in the same words.

    Notes
    -----
    The workers must find cohortlib, and the same Python. ``docs/spark.md`` has an example that runs.
    """
    asked = check_request(
        transactions, joined, partitions,
        user=user, timestamp=timestamp, amount=amount, freq=freq, timezone=timezone, week_start=week_start,
        refunds=refunds, before_joined=before_joined, start=start, end=end, complete_only=complete_only, nulls=nulls,
        decimals=decimals,
    )  # fmt: skip
    sums = _added(asked)
    return sums.cohorts(start=start, end=end, complete_only=complete_only)


def customer_cohorts(
    transactions: "SparkFrame",
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    freq: Freq = "M",
    basis: Basis = "single_customer",
    rows: CustomerRows = "dense",
    top_n: int | None = None,
    rank_by: str | None = None,
    timezone: str = "UTC",
    week_start: str = "monday",
    refunds: Refunds = "net",
    joined: "SparkFrame | str | None" = None,
    before_joined: BeforeJoined = "error",
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    complete_only: bool = False,
    nulls: Nulls = "error",
    decimals: int = 6,
    partitions: int | None = None,
) -> "SparkFrame":
    """Lay out the customer table of a Spark frame, as a Spark frame: one row for each customer and age.

    Nothing of a customer comes to the driver. One pass over the rows is made at once, that of :func:`cohorts`: it finds
    whatever is wrong, the right edge, and the totals that customers may be measured against. The customers themselves
    are computed when, and as often as, the frame is.

    Parameters
    ----------
    transactions, user, timestamp, amount, joined, partitions
        As for :func:`cohorts`.
    rank_by
        With `top_n`: the name of a column of the summary of customers, greatest first. An expression, which might look
        at all customers, is for :func:`cohortlib.termina.customer_cohorts` alone.
    freq, basis, rows, top_n, timezone, week_start, refunds, before_joined, start, end, complete_only, nulls, decimals
        As for :func:`cohortlib.termina.customer_cohorts`.

    Returns
    -------
    pyspark.sql.DataFrame
        The rows of :func:`cohortlib.termina.customer_cohorts`, to the bit. Those of one customer stand together, by
        period; customers come in no order: ``.orderBy("cohort", "user_id", "period")`` gives one.

    Raises
    ------
    SettingError, SchemaError, DataError
        As for :func:`cohorts`.
    """
    check_customers(basis, rows, top_n, rank_by)
    if rank_by is not None and (not isinstance(rank_by, str) or rank_by not in list(_RANKED)[:6]):
        raise SettingError(
            f"rank_by={rank_by!s} cannot be ranked by on Spark; expected a column of the summary of customers: "
            f"{listed(list(_RANKED)[:6])}"
        )
    asked = check_request(
        transactions, joined, partitions,
        user=user, timestamp=timestamp, amount=amount, freq=freq, timezone=timezone, week_start=week_start,
        refunds=refunds, before_joined=before_joined, start=start, end=end, complete_only=complete_only, nulls=nulls,
        decimals=decimals,
    )  # fmt: skip
    sums = _added(asked)
    first, last = asked.settings.bounds(sums.last_day)
    everybody = (asked.ending(last).reader, basis, top_n, rank_by, None if basis == "single_customer" else sums)
    table = asked.parts().mapInArrow(
        _Customers(*everybody, dense=rows == "dense"), frames.ddl(schema(CUSTOMER_COHORTS))
    )
    if first is not None and last is not None and first > last:
        return table.where("false")
    if top_n is None:
        return table
    score = "cast(total as decimal(38, 0)) + cast(recent as decimal(38, 0))" if rank_by is None else quoted(rank_by)
    ranking = (
        asked.parts().mapInArrow(_Ranking(*everybody), frames.ddl(_RANKED)).selectExpr("user_id", f"{score} as score")
    )
    best = ranking.orderBy("score", "user_id", ascending=[False, True]).limit(top_n).select("user_id")
    return table.join(best, "user_id", "left_semi").select(*CUSTOMER_COHORTS)


# ------------------------------------------------------------------------------------------------------------- sums


def _added(asked: Asked) -> Sums:
    """Let all partitions be added up, and say what is to be said of them."""
    settings = asked.settings
    if settings.joined is not None:
        # Whether a date lies after the last period must be known where the users are.
        _, last = settings.bounds(_last_day_of_all(asked))
        asked = asked.ending(last)
    table = pl.DataFrame(
        asked.parts()
        .mapInArrow(_Adding(asked.reader), frames.ddl(_PARTIAL))
        .groupBy(*_KEYS)
        .sum(*(name for name in _PARTIAL if name not in _KEYS))
        .toDF(*_KEYS, *(name for name in _PARTIAL if name not in _KEYS))
        .toArrow()
    )
    note = Note.all(table["note"].drop_nulls())
    for where, found in zip(WHERE, (note.dropped, note.dropped_joined), strict=True):
        dropped = frames.in_order(found, asked.reader.names)
        if dropped.count and settings.nulls == "error":
            raise dropped.error(where)
        dropped.warn(where)
    if note.magnitude >= 2**63:
        raise beyond_range(f"column {settings.amount!r}", settings.decimals)
    if settings.joined is not None:
        note.fit.check(settings.before_joined)
    whole = {name: pl.col(f"{name}_high") * 2**32 + pl.col(f"{name}_low") for name in _HALVES}
    sums = table.filter(pl.col("note").is_null()).with_columns(**whole).select(*TABLE).sort("cohort", "age")
    return Sums(Conventions.of(settings), sums, note.last_day, note.magnitude)


@dataclass(frozen=True)
class _Adding:
    """Add up the users of a partition."""

    reader: Reader

    def __call__(self, batches: Batches) -> Batches:
        sums = None
        try:
            loaded, note = self.reader.load(batches)
            if loaded is not None:
                sums = added_up(loaded).table
                if loaded.netting is not None and loaded.settings.joined is not None:
                    note = replace(note, fit=loaded.netting.fit())
        except CohortlibError as error:
            note, sums = Note.of(error), None
        if sums is not None:
            halves = {f"{name}_high": pl.col(name) // 2**32 for name in _HALVES}
            halves |= {f"{name}_low": pl.col(name) & (2**32 - 1) for name in _HALVES}
            yield from frames.batches(sums.with_columns(**halves, note=pl.lit(None, pl.String)), _PARTIAL)
        if note != Note():
            yield from frames.batches(pl.DataFrame([{"note": note.written()}], schema=_PARTIAL), _PARTIAL)


def _last_day_of_all(asked: Asked) -> int | None:
    """Give the local day of the last row of all, kept or not."""
    found = asked.frame.selectExpr("at").mapInArrow(_Ends(asked.settings), "note string").toArrow()
    return Note.all(pl.DataFrame(found)["note"]).last_day


@dataclass(frozen=True)
class _Ends:
    """Find the last day of some rows."""

    settings: Settings

    def __call__(self, batches: Batches) -> Batches:
        frame = frames.read(batches)
        if frame is not None:
            try:
                note = Note(last_day_of(frame.to_series(0), self.settings))
            except CohortlibError as error:
                note = Note.of(error)
            yield from frames.batches(pl.DataFrame({"note": [note.written()]}), {"note": pl.String})


# -------------------------------------------------------------------------------------------------------- customers


@dataclass(frozen=True)
class _Everybody:
    """The customers of a partition, or those of them that rank highest, measured against the cohorts of all."""

    reader: Reader
    basis: Basis
    top_n: int | None
    rank_by: str | None
    totals: Sums | None

    def chosen(self, batches: Batches) -> tuple[Customers, Ints] | None:
        """Net the customers of a partition, and choose; None where there are none."""
        loaded, _ = self.reader.load(batches, keep_users=True)
        if loaded is None or not loaded.span:
            return None
        totals = None if self.totals is None else self.totals.placed(loaded.grid)
        customers = Customers.of(loaded, self.basis, totals)
        return customers, customers.select(self.top_n, self.rank_by)


@dataclass(frozen=True)
class _Customers(_Everybody):
    """Lay out the customers of a partition."""

    dense: bool

    def __call__(self, batches: Batches) -> Batches:
        chosen = self.chosen(batches)
        if chosen is not None:
            customers, which = chosen
            for piece in customers.batches(which, dense=self.dense):
                yield from frames.batches(piece, schema(CUSTOMER_COHORTS))


@dataclass(frozen=True)
class _Ranking(_Everybody):
    """Give what the customers of a partition are ranked by: whoever is among the first of all is so here."""

    def __call__(self, batches: Batches) -> Batches:
        chosen = self.chosen(batches)
        if chosen is not None:
            customers, which = chosen
            exact = {"total": customers.total[which], "recent": customers.recent[which]}
            yield from frames.batches(customers.summary(which).with_columns(**exact), _RANKED)
