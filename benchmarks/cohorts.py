"""
Termina's cohorts table, by month and by day, in every engine.

Every engine follows docs/definitions.md with the default settings: sum the amounts per user and period, keep the sums
above zero, use the first such period of a user as the cohort, count and sum by cohort and age, add all ages up to the
last period with a row of any kind, and compute the ratios and the ltv.

Each engine runs the fastest query that we tried for it; the comments list the others, with rough times for 10,000,000
rows by month, two threads. The other engines sum floats, so a sum that should be 0 can come out as 3e-17. Their queries
test for more than half a cent, which costs nothing and is the same rule for amounts in whole cents.

If integer ids leave enough bits, polars and ClickHouse pack user and period into one key, user * 65536 +
period, which works for months and days. A narrower key, user * 64 + month, has 64 bits too, so it gains nothing.
"""

from functools import partial
from string import Template
from typing import NamedTuple

import polars as pl
import pyarrow as pa
from polars import col
from pyarrow import parquet

from benchmarks import engines
from benchmarks.data import Transactions
from benchmarks.measure import OURS, Contender, Question, same_table

HALF_A_CENT = 0.005
WIDTH = 65536
COUNTS = ("cohort", "period", "cohort_size", "active_users")
MONEY = ("cohort_size_amount", "logo_retention", "amount", "amount_retention", "ltv")
FIELDS = (
    "cohort",
    "period",
    "cohort_size",
    "cohort_size_amount",
    "active_users",
    "logo_retention",
    "amount",
    "amount_retention",
    "ltv",
)


class Calendar(NamedTuple):
    """An engine's expressions for the period of `timestamp` and for the label of the period `cohort`."""

    period: object
    label: object


def ours(given: Transactions, threads: int, *, freq: str, max_memory: str | None = None) -> pl.DataFrame:
    import cohortlib as cl

    return cl.termina.cohorts(given.rows, freq=freq, threads=threads, max_memory=max_memory)


def ours_with(given: Transactions, threads: int, *, freq: str, own_threads: int) -> pl.DataFrame:
    """Answer with another number of threads than the other contenders."""
    del threads
    return ours(given, own_threads, freq=freq)


# --- polars ---------------------------------------------------------------------------------------------------
# Months as Int16 (years * 12 + months) are slightly faster than dt.truncate("1mo") or Int32, and much faster than text.
# Two keys instead of the packed one are 10 % slower. Casting text ids to Categorical costs more than it gains. For the
# first period of a user `over` is fastest on the streaming engine, and lists per user, exploded again, in memory. A
# join with a second group_by was not clearly faster on either. Taking the last period from the sums instead of a second
# scan of the timestamps takes 33 to 75 % longer, because polars computes the sums twice.

POLARS = {
    "M": Calendar(
        (col.timestamp.dt.year() * 12 + col.timestamp.dt.month() - 1).cast(pl.Int16),
        pl.date(col.cohort // 12, col.cohort % 12 + 1, 1).dt.strftime("%Y-%m"),
    ),
    "D": Calendar(
        col.timestamp.dt.epoch("d").cast(pl.Int16),
        col.cohort.cast(pl.Int32).cast(pl.Date).dt.strftime("%Y-%m-%d"),
    ),
}


def polars(given: Transactions, threads: int, *, freq: str, engine: str) -> pl.DataFrame:
    del threads
    rows, calendar = engines.scan(given.rows), POLARS[freq]
    active = polars_net(rows, calendar.period, packable=given.packable).filter(col.amount > HALF_A_CENT)
    if engine == "streaming":
        active = active.with_columns(cohort=col.slot.min().over("user_id"))
    else:
        active = active.group_by("user_id").agg("slot", "amount", cohort=col.slot.min()).explode("slot", "amount")
    cells = active.group_by("cohort", period=(col.slot - col.cohort).cast(pl.Int64)).agg(
        active_users=pl.len().cast(pl.Int64), amount=col.amount.sum()
    )
    last = rows.select(col.timestamp.max()).select(last=calendar.period)
    sizes = cells.filter(period=0).select("cohort", cohort_size="active_users", cohort_size_amount="amount")
    grid = sizes.join(last, how="cross").with_columns(period=pl.int_ranges(col.last - col.cohort + 1))
    return (
        grid.explode("period")
        .join(cells, on=["cohort", "period"], how="left")
        .with_columns(col.active_users.fill_null(0), col.amount.fill_null(0.0))
        .sort("cohort", "period")
        .select(
            calendar.label.alias("cohort"),
            "period",
            "cohort_size",
            "cohort_size_amount",
            "active_users",
            (col.active_users / col.cohort_size).alias("logo_retention"),
            "amount",
            (col.amount / col.cohort_size_amount).alias("amount_retention"),
            (col.amount.cum_sum().over("cohort") / col.cohort_size).alias("ltv"),
        )
        .collect(engine=engine)
    )


def polars_net(rows: pl.LazyFrame, period: pl.Expr, *, packable: bool) -> pl.LazyFrame:
    """Sum the amounts per user and period `slot`."""
    if not packable:
        return rows.group_by("user_id", slot=period).agg(col.amount.sum())
    net = rows.group_by(key=col.user_id * WIDTH + period).agg(col.amount.sum())
    return net.select("amount", user_id=col.key // WIDTH, slot=(col.key % WIDTH).cast(pl.Int16))


# --- DuckDB ---------------------------------------------------------------------------------------------------
# Joining the first month is faster than min() over (partition by user), which sorts, and than unnesting lists per user.
# One packed key is no faster than two (3.5 s of CPU time against 3.3 s). date_trunc, datediff and year * 12 + month are
# equally fast, as small integers too; materialized CTEs and preserve_insertion_order make no difference. Ids known to
# fit in 32 bits, cast to int, would save a tenth.

DUCKDB_CALENDARS = {
    "M": Calendar(
        "(year(timestamp) * 12 + month(timestamp) - 1)::int",
        "strftime(make_date(cohort // 12, cohort % 12 + 1, 1), '%Y-%m')",
    ),
    "D": Calendar("epoch_us(timestamp) // 86400000000", "strftime(date '1970-01-01' + cohort::int, '%Y-%m-%d')"),
}

DUCKDB = """
with net as (select user_id, $period as slot, sum(amount) as amount from transactions group by all),
active as (select * from net where amount > 0.005),
first as (select user_id, min(slot) as cohort from active group by user_id),
cells as (
    select cohort, slot - cohort as period, count(*) as active_users, sum(amount) as amount
    from active join first using (user_id) group by all
),
grid as (
    select cohort, active_users as cohort_size, amount as cohort_size_amount,
        unnest(range((select max(slot) from net) - cohort + 1)) as period
    from cells where period = 0
)
select
    $label as cohort,
    period,
    cohort_size,
    cohort_size_amount,
    coalesce(active_users, 0) as active_users,
    coalesce(active_users, 0) / cohort_size as logo_retention,
    coalesce(amount, 0) as amount,
    coalesce(amount, 0) / cohort_size_amount as amount_retention,
    sum(coalesce(amount, 0)) over (partition by cohort order by period) / cohort_size as ltv
from grid left join cells using (cohort, period)
order by grid.cohort, period
"""


def duck(given: Transactions, threads: int, *, freq: str) -> pl.DataFrame:
    query = Template(DUCKDB).substitute(DUCKDB_CALENDARS[freq]._asdict())
    return engines.duck(query, threads, transactions=given.rows)


# --- ClickHouse -----------------------------------------------------------------------------------------------
# Arrays per user, expanded by array join, with the packed key: 1.6 s, with two keys 1.9 s. Also tried, int ids:
# - Joining the first month: 3.7 s or more; min() over (partition by user): 5.3 s.
# - One array of (month, amount) pairs instead of two arrays: 2.9 s.
# - One-level hash tables: three times as long; toYear and toMonth instead of toRelativeMonthNum: a tenth longer.
# - One grouping by user only, with sumResample(0, 36, 1)(amount, month): 2.1 s; with sumMap: over a minute.
# UUID ids take 3.0 s; as toUUID(user_id) or sipHash128(user_id) 3.9 s, as fixed strings 3.3 s, numbered in an earlier
# grouping 3.1 s. With cityHash64(user_id) 2.4 s, but hashes can collide.
# A CTE that is used twice is computed twice, so the ages are arrays too, of length `ages` per cohort.

CLICKHOUSE_CALENDARS = {
    "M": Calendar(
        "toRelativeMonthNum(timestamp)", "formatDateTime(addMonths(toDate('1970-01-01'), start - 23641), '%Y-%m')"
    ),
    "D": Calendar("toRelativeDayNum(timestamp)", "toString(toDate(start))"),
}

CLICKHOUSE_NET = {
    False: """
        select user_id as user, toUInt16($period) as slot, sum(amount) as net
        from {rows} group by user, slot having net > 0.005
    """,
    True: """
        select bitShiftRight(key, 16) as user, toUInt16(bitAnd(key, 65535)) as slot, net
        from (select user_id * 65536 + $period as key, sum(amount) as net from {rows} group by key having net > 0.005)
    """,
}

CLICKHOUSE = """
with
    (select $period from (select max(timestamp) as timestamp from {rows})) as last,
    users as (
        select groupArray(slot) as slots, groupArray(net) as nets, arrayMin(slots) as start from ($net) group by user
    ),
    cohorts as (
        select start, last - start + 1 as length,
            arraySlice(countResample(0, $ages, 1)(slot - start), 1, length) as counts,
            arraySlice(sumResample(0, $ages, 1)(net, slot - start), 1, length) as sums
        from users array join slots as slot, nets as net group by start
    )
select
    $label as cohort,
    age::Int64 as period,
    counts[1] as cohort_size,
    sums[1] as cohort_size_amount,
    active as active_users,
    active / counts[1] as logo_retention,
    sold as amount,
    sold / sums[1] as amount_retention,
    total / counts[1] as ltv
from cohorts array join range(length::UInt32) as age, counts as active, sums as sold, arrayCumSum(sums) as total
order by start, age
"""
AGES = {"M": 36, "D": 1096}


def house(given: Transactions, threads: int, *, freq: str) -> pa.Table:
    calendar = CLICKHOUSE_CALENDARS[freq]
    net = Template(CLICKHOUSE_NET[given.packable]).substitute(calendar._asdict())
    query = Template(CLICKHOUSE).substitute(net=net, ages=AGES[freq], **calendar._asdict())
    return engines.clickhouse(query, threads, given.rows)


def duck_own(given: Transactions, threads: int) -> Transactions:
    """Load the rows into a table of DuckDB's own."""
    return given._replace(rows=engines.duck_own("transactions", given.rows, threads))


def house_own(given: Transactions, threads: int) -> Transactions:
    """Load the rows into a table of ClickHouse's own."""
    return given._replace(rows=engines.clickhouse_own("transactions", given.rows, threads))


# --- decoding alone -------------------------------------------------------------------------------------------

COLUMNS = ["user_id", "timestamp", "amount"]


def decoded_by_polars(given: Transactions, threads: int) -> pl.DataFrame:
    """Decode the columns in parallel and keep them: faster than to aggregate them on the streaming engine."""
    del threads
    return pl.read_parquet(given.rows, columns=COLUMNS)


def decoded_by_pyarrow(given: Transactions, threads: int) -> pa.Table:
    pa.set_cpu_count(threads)
    return parquet.read_table(given.rows, columns=COLUMNS)


# --- the question ---------------------------------------------------------------------------------------------


def compare(answer: object, other: object, *, rel: float = 1e-9) -> None:
    """
    Raise AssertionError unless two answers are equal.

    Labels, ages and counts must be equal. Money and ratios may differ by a relative `rel`, because other engines sum
    floats in any order.
    """
    same_table(answer, other, COUNTS, MONEY, rel=rel)


def question(freq: str) -> Question:
    """Return the question for months ("M") or days ("D"), with all contenders."""
    return Question(
        {
            OURS: Contender(partial(ours, freq=freq)),
            f"{OURS}, 1 thread": Contender(partial(ours_with, freq=freq, own_threads=1)),
            f"{OURS}, 2 threads": Contender(partial(ours_with, freq=freq, own_threads=2)),
            **{
                f"{OURS}, max_memory={limit}": Contender(partial(ours, freq=freq, max_memory=limit))
                for limit in ("200MB", "300MB", "1GB")
            },
            "polars, streaming": Contender(partial(polars, freq=freq, engine="streaming")),
            "polars, in memory": Contender(partial(polars, freq=freq, engine="in-memory")),
            "DuckDB, own table": Contender(partial(duck, freq=freq), duck_own),
            "DuckDB": Contender(partial(duck, freq=freq)),
            "ClickHouse, own table": Contender(partial(house, freq=freq), house_own),
            "ClickHouse": Contender(partial(house, freq=freq)),
            "decoding alone, polars": Contender(decoded_by_polars, answers=False),
            "decoding alone, pyarrow": Contender(decoded_by_pyarrow, answers=False),
        },
        compare,
    )
