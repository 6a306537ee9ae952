"""
Termina's customer table, by month, in every engine, as a frame in memory: with all ages (dense) or the active ones.

One row per customer and age: cohort, user_id as text, period, cohort_size_amount (the customer's
amount at age 0), logo_retention, amount, amount_retention and ltv. Ordered by cohort, cohort_size_amount (descending),
user_id as text and period. 10,000,000 transactions make 33,000,000 rows with all ages.

The other engines sort the customers and then write the rows of each, so none of them sorts the table itself. The sums
per user and month are those of the cohorts table. Float sums may differ where sums of cents are equal, so these engines
sort by the amount rounded to cents.
"""

from functools import partial
from string import Template

import pandas as pd
import polars as pl
from polars import col

from benchmarks import cohorts, engines
from benchmarks.data import Transactions
from benchmarks.measure import OURS, Contender, Question, same_table

EXACT = ("cohort", "user_id", "period", "logo_retention")
MONEY = ("cohort_size_amount", "amount", "amount_retention", "ltv")
FIELDS = (
    "cohort",
    "user_id",
    "period",
    "cohort_size_amount",
    "logo_retention",
    "amount",
    "amount_retention",
    "ltv",
)


def ours(given: Transactions, threads: int, *, rows: str) -> pl.DataFrame:
    import cohortlib as cl

    return cl.termina.customer_cohorts(given.rows, rows=rows, threads=threads)


# --- polars ---------------------------------------------------------------------------------------------------
# The sorted customers determine the row of each amount. Scattering amounts to their rows takes 0.5 s for 1,000,000 rows
# on either engine; one lazy query that joins amounts to the rows of the customers, with cum_sum().over(user), 1.8 s.
# The ltv is one running sum over the table, in whole cents, minus the sum before each customer.


def dense_polars(given: Transactions, threads: int, *, engine: str) -> pl.DataFrame:
    del threads
    rows, calendar = engines.scan(given.rows), cohorts.POLARS["M"]
    net = cohorts.polars_net(rows, calendar.period, packable=given.packable)
    last = rows.select(col.timestamp.max()).select(last=calendar.period)
    customers = (
        net.filter(col.amount > cohorts.HALF_A_CENT)
        .with_columns(cents=(col.amount * 100).round().cast(pl.Int64))
        .group_by("user_id")
        .agg("slot", "cents", cohort=col.slot.min(), first=col.cents.get(col.slot.arg_min()))
        .with_columns(user_id=col.user_id.cast(pl.String))
        .sort("cohort", "first", "user_id", descending=[False, True, False])
        .join(last, how="cross", maintain_order="left")
        .with_columns(length=(col.last - col.cohort + 1).cast(pl.Int64))
        .with_columns(
            start=col.length.cum_sum() - col.length, before=col.cents.list.sum().cum_sum().shift(1).fill_null(0)
        )
        .collect(engine=engine)
    )
    active = customers.select("slot", "cents", at=col.start - col.cohort).explode("slot", "cents")
    cents = pl.zeros(customers["length"].sum(), pl.Int64, eager=True)
    cents = cents.scatter(active["at"] + active["slot"], active["cents"])
    return (
        customers.lazy()
        .select("user_id", "first", "before", cohort=calendar.label, period=pl.int_ranges("length"))
        .explode("period")
        .with_columns(cents=cents)
        .select(
            "cohort",
            "user_id",
            "period",
            (col("first") / 100).alias("cohort_size_amount"),
            (col.cents > 0).cast(pl.Float64).alias("logo_retention"),
            (col.cents / 100).alias("amount"),
            (col.cents / col("first")).alias("amount_retention"),
            ((col.cents.cum_sum() - col.before) / 100).alias("ltv"),
        )
        .collect(engine=engine)
    )


def active_polars(given: Transactions, threads: int, *, engine: str) -> pl.DataFrame:
    """
    Answer without scattering.

    Sorting by month before grouping, which keeps the order within each customer, takes 1.1 s of CPU time for 3,000,000
    rows; sorting the lists of each customer 1.6 s; sorting by customer and month, and again for the output, 1.5 s.
    """
    del threads
    net = cohorts.polars_net(engines.scan(given.rows), cohorts.POLARS["M"].period, packable=given.packable)
    return (
        net.filter(col.amount > cohorts.HALF_A_CENT)
        .with_columns(cents=(col.amount * 100).round().cast(pl.Int64))
        .sort("slot")
        .group_by("user_id")
        .agg("slot", "cents")
        .with_columns(user_id=col.user_id.cast(pl.String), cohort=col.slot.list.first(), first=col.cents.list.first())
        .sort("cohort", "first", "user_id", descending=[False, True, False])
        .with_columns(before=col.cents.list.sum().cum_sum().shift(1).fill_null(0))
        .explode("slot", "cents")
        .select(
            cohorts.POLARS["M"].label.alias("cohort"),
            "user_id",
            (col.slot - col.cohort).cast(pl.Int64).alias("period"),
            (col("first") / 100).alias("cohort_size_amount"),
            pl.lit(1.0).alias("logo_retention"),
            (col.cents / 100).alias("amount"),
            (col.cents / col("first")).alias("amount_retention"),
            ((col.cents.cum_sum() - col.before) / 100).alias("ltv"),
        )
        .collect(engine=engine)
    )


# --- DuckDB ---------------------------------------------------------------------------------------------------
# Joining amounts to the rows of the customers: 2.3 s for 1,000,000 rows. Lists of each customer's amounts, looked up by
# age and unnested: 2.9 s, and not in order.

CUSTOMERS = """
with net as (select user_id, $period as slot, sum(amount) as amount from transactions group by all),
active as materialized (select user_id, slot, round(amount, 2) as amount from net where amount > 0.005),
customers as materialized (
    select *, $label as label, row_number() over (order by cohort, first desc, text) as rank
    from (
        select user_id, user_id::varchar as text, min(slot) as cohort, arg_min(amount, slot) as first
        from active group by all
    )
)
"""

DENSE = """,
grid as (
    select rank, user_id, unnest(range((select max(slot) from net) - cohort + 1)) as period, cohort, label, text, first
    from customers
)
select
    label as cohort,
    text as user_id,
    period,
    first as cohort_size_amount,
    (amount is not null)::double as logo_retention,
    coalesce(amount, 0) as amount,
    coalesce(amount, 0) / first as amount_retention,
    sum(coalesce(amount, 0)) over (partition by rank order by period) as ltv
from grid left join active on grid.user_id = active.user_id and grid.period = active.slot - grid.cohort
order by rank, period
"""

ACTIVE = """
select
    label as cohort,
    text as user_id,
    slot - cohort as period,
    first as cohort_size_amount,
    1.0::double as logo_retention,
    amount,
    amount / first as amount_retention,
    sum(amount) over (partition by rank order by slot) as ltv
from active join customers using (user_id)
order by rank, slot
"""


def duck(given: Transactions, threads: int, *, rows: str) -> pl.DataFrame:
    text = CUSTOMERS + (DENSE if rows == "dense" else ACTIVE)
    query = Template(text).substitute(cohorts.DUCKDB_CALENDARS["M"]._asdict())
    return engines.duck(query, threads, transactions=given.rows)


# --- ClickHouse -----------------------------------------------------------------------------------------------
# An array of all months per customer, sliced at the first month: 0.6 s for 1,000,000 rows as a pandas frame, 1.2 s as
# an Arrow table.

CLICKHOUSE_DENSE = """
with
    (select $period from (select max(timestamp) as timestamp from {rows})) as last,
    users as (
        select toString(user) as text, min(slot) as start, argMin(net, slot) as first,
            sumResample(0, 36, 1)(net, slot - $origin) as sums
        from (select user, slot, round(net, 2) as net from ($net)) group by user
        order by start, first desc, text
    )
select
    $label as cohort,
    text as user_id,
    (place - 1)::Int64 as period,
    first as cohort_size_amount,
    (sold > 0)::Float64 as logo_retention,
    sold as amount,
    sold / first as amount_retention,
    total as ltv
from (select text, start, first, arraySlice(sums, start - $origin + 1, last - start + 1) as own from users)
    array join own as sold, arrayCumSum(own) as total, arrayEnumerate(own) as place
"""


CLICKHOUSE_ACTIVE = """
with users as (
    select toString(user) as text, arraySort(groupArray((slot, round(net, 2)))) as pairs, pairs[1].1 as start,
        pairs[1].2 as first
    from ($net) group by user order by start, first desc, text
)
select
    $label as cohort,
    text as user_id,
    (pair.1 - start)::Int64 as period,
    first as cohort_size_amount,
    1::Float64 as logo_retention,
    pair.2 as amount,
    amount / first as amount_retention,
    total as ltv
from users array join pairs as pair, arrayCumSum(one -> one.2, pairs) as total
"""


def house(given: Transactions, threads: int, *, rows: str) -> pd.DataFrame:
    calendar = cohorts.CLICKHOUSE_CALENDARS["M"]
    net = Template(cohorts.CLICKHOUSE_NET[given.packable]).substitute(calendar._asdict())
    text = CLICKHOUSE_DENSE if rows == "dense" else CLICKHOUSE_ACTIVE
    query = Template(text).substitute(net=net, origin=2023 * 12 + 1, **calendar._asdict())
    return engines.clickhouse(query, threads, given.rows, into="DataFrame")


def compare(answer: object, other: object, *, rel: float = 1e-9) -> None:
    """Raise AssertionError unless two answers are equal, money within a relative `rel`."""
    same_table(answer, other, EXACT, MONEY, rel=rel)


def question(rows: str) -> Question:
    """Return the question for "dense" or "active" rows, with all contenders."""
    polars = dense_polars if rows == "dense" else active_polars
    return Question(
        {
            OURS: Contender(partial(ours, rows=rows)),
            "polars, streaming": Contender(partial(polars, engine="streaming")),
            "polars, in memory": Contender(partial(polars, engine="in-memory")),
            "DuckDB, own table": Contender(partial(duck, rows=rows), cohorts.duck_own),
            "ClickHouse, own table": Contender(partial(house, rows=rows), cohorts.house_own),
        },
        compare,
    )
