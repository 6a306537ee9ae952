"""
The general table, in every engine: by 20 segments, and with own clocks of 30 days.

The other engines count the active users and their amount of each cell alone; we compute the whole table. The segment of
a user is the country of the first row with money in the first active month. An age is 30 days from the user's first
day with money, and counts once it is over. The comments list the queries that we tried, with rough times for 10,000,000
rows, two threads.
"""

from functools import partial
from typing import Any

import polars as pl
from polars import col

from benchmarks import cohorts, engines
from benchmarks.data import Transactions
from benchmarks.measure import OURS, Contender, Question, same_table

COUNTRIES = ("AT", "AU", "BE", "BR", "CA", "CH", "CZ", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IT", "JP", "NL", "PL",
             "SE", "US")  # fmt: skip
DAYS = 30


def with_country(given: Transactions, threads: int) -> Transactions:
    """Add a country for each user."""
    del threads
    rows = given.rows
    assert isinstance(rows, pl.DataFrame)
    countries = pl.Series("country", COUNTRIES)
    return given._replace(rows=rows.with_columns(countries.gather((rows["user_id"].hash(1) % 20).cast(pl.UInt32))))


def ours(given: Transactions, threads: int, **settings: Any) -> pl.DataFrame:
    import cohortlib as cl

    return cl.cohorts(given.rows, threads=threads, **settings)


def _label(month: pl.Expr) -> pl.Expr:
    return pl.date(month // 12, month % 12 + 1, 1).dt.strftime("%Y-%m")


# --- by country -----------------------------------------------------------------------------------------------


def polars_by(given: Transactions, threads: int, *, engine: str) -> pl.DataFrame:
    """Join the rows of the first month: 0.9 s. The first country of each user and month in one group_by: 4 s."""
    del threads
    rows, month = engines.scan(given.rows), cohorts.POLARS["M"].period
    active = cohorts.polars_net(rows, month, packable=given.packable).filter(col.amount > cohorts.HALF_A_CENT)
    active = active.with_columns(start=col.slot.min().over("user_id"))
    first = active.filter(col.slot == col.start).select("user_id", "slot")
    paid = rows.filter(col.amount > 0).with_columns(slot=month).join(first, on=["user_id", "slot"], how="semi")
    countries = paid.group_by("user_id").agg(col.country.sort_by("timestamp").first())
    cells = active.join(countries, on="user_id").group_by("country", "start", period=col.slot - col.start)
    return (
        cells.agg(active_users=pl.len(), amount=col.amount.sum())
        .select("country", "period", "active_users", "amount", cohort=_label(col.start.cast(pl.Int32)))
        .collect(engine=engine)
    )


DUCKDB_BY = """
with net as (
    select user_id, (year(timestamp) * 12 + month(timestamp) - 1)::int as slot, sum(amount) as amount,
        arg_min(country, timestamp) filter (amount > 0) as country
    from transactions group by all
),
active as (select * from net where amount > 0.005),
first as (select user_id, min(slot) as start, arg_min(country, slot) as country from active group by user_id)
select first.country, strftime(make_date(start // 12, start % 12 + 1, 1), '%Y-%m') as cohort, slot - start as period,
    count(*) as active_users, sum(amount) as amount
from active join first using (user_id) group by all
"""

CLICKHOUSE_BY = """
with users as (
    select arrayMin(slots) as start, argMin(first, slot) as country, groupArray(slot) as slots, groupArray(net) as nets
    from (
        select user_id, toUInt16(toRelativeMonthNum(timestamp)) as slot, sum(amount) as net,
            argMinIf(country, timestamp, amount > 0) as first
        from {rows} group by user_id, slot having net > 0.005
    ) group by user_id
)
select country, formatDateTime(addMonths(toDate('1970-01-01'), start - 23641), '%Y-%m') as cohort,
    (slot - start)::Int64 as period, count()::Int64 as active_users, sum(sold) as amount
from users array join slots as slot, nets as sold group by country, start, slot
"""


# --- own clocks -----------------------------------------------------------------------------------------------


def polars_clock(given: Transactions, threads: int, *, engine: str) -> pl.DataFrame:
    del threads
    rows = engines.scan(given.rows).select("user_id", "amount", day=col.timestamp.dt.epoch("d").cast(pl.Int32))
    last = rows.select(col.day.max()).collect(engine=engine).item()
    first = rows.filter(col.amount > 0).group_by("user_id").agg(first=col.day.min())
    later = rows.join(first, on="user_id").filter(col.day >= col.first)
    age = (col.day - col.first) // DAYS
    if given.packable:
        nets = later.group_by("first", key=col.user_id * cohorts.WIDTH + age).agg(col.amount.sum())
        nets = nets.with_columns(period=col.key % cohorts.WIDTH)
    else:
        nets = later.group_by("user_id", "first", period=age).agg(col.amount.sum())
    over = col.first + (col.period + 1) * DAYS - 1 <= last
    cells = nets.filter((col.amount > cohorts.HALF_A_CENT) & over).group_by("first", "period")
    days = cells.agg(active_users=pl.len(), amount=col.amount.sum())
    return (
        days.group_by("period", cohort=col.first.cast(pl.Date).dt.strftime("%Y-%m"))
        .agg(col.active_users.sum(), col.amount.sum())
        .collect(engine=engine)
    )


DUCKDB_CLOCK = f"""
with rows as (select user_id, amount, (epoch_us(timestamp) // 86400000000)::int as day from transactions),
first as (select user_id, min(day) as first from rows where amount > 0 group by user_id),
net as (
    select user_id, first, (day - first) // {DAYS} as period, sum(amount) as amount
    from rows join first using (user_id) where day >= first group by all
),
days as (
    select first, period, count(*) as active_users, sum(amount) as amount from net
    where amount > 0.005 and first + (period + 1) * {DAYS} - 1 <= (select max(day) from rows) group by all
)
select strftime(date '1970-01-01' + first, '%Y-%m') as cohort, period, sum(active_users)::bigint as active_users,
    sum(amount) as amount
from days group by all
"""

CLICKHOUSE_CLOCK = f"""
with
    (select max(toRelativeDayNum(timestamp)) from {{rows}}) as last,
    users as (
        select user_id, minIf(toRelativeDayNum(timestamp), amount > 0) as first,
            groupArray(toRelativeDayNum(timestamp)) as days, groupArray(amount) as amounts
        from {{rows}} group by user_id having countIf(amount > 0) > 0
    ),
    net as (
        select user_id, first, intDiv(day - first, {DAYS}) as period, sum(amount) as sold
        from users array join days as day, amounts as amount where day >= first group by user_id, first, period
        having sold > 0.005
    )
select formatDateTime(toDate(first), '%Y-%m') as cohort, period::Int64 as period, count()::Int64 as active_users,
    sum(sold) as amount
from net where first + (period + 1) * {DAYS} - 1 <= last group by cohort, period
"""


# --- the questions --------------------------------------------------------------------------------------------


def duck(given: Transactions, threads: int, *, query: str) -> pl.DataFrame:
    return engines.duck(query, threads, transactions=given.rows)


def house(given: Transactions, threads: int, *, query: str) -> object:
    return engines.clickhouse(query, threads, given.rows)


def compare(answer: object, other: object, *, keys: tuple[str, ...]) -> None:
    """Raise AssertionError unless the cells with active users are equal; amounts may differ by float sums."""
    tables = (pl.DataFrame(each) if not isinstance(each, pl.DataFrame) else each for each in (answer, other))
    cells = (table.filter(col.active_users > 0).select(*keys, "active_users", "amount") for table in tables)
    left, right = (table.with_columns(col.period.cast(pl.Int64)).sort(keys) for table in cells)
    same_table(left, right, (*keys, "active_users"), ("amount",), rel=1e-6)


def question(kind: str) -> Question:
    """Return the question by "country" or by "clock", with all contenders."""
    settings = {"by": "country"} if kind == "country" else {"age": f"{DAYS}d"}
    polars = polars_by if kind == "country" else polars_clock
    duckdb, clickhouse = (DUCKDB_BY, CLICKHOUSE_BY) if kind == "country" else (DUCKDB_CLOCK, CLICKHOUSE_CLOCK)
    prepare = with_country if kind == "country" else Contender(ours).prepare
    return Question(
        {
            OURS: Contender(partial(ours, **settings), prepare),
            f"{OURS}, termina.cohorts": Contender(partial(cohorts.ours, freq="M"), answers=False),
            "polars, streaming": Contender(partial(polars, engine="streaming"), prepare),
            "polars, in memory": Contender(partial(polars, engine="in-memory"), prepare),
            "DuckDB, own table": Contender(
                partial(duck, query=duckdb), lambda given, threads: cohorts.duck_own(prepare(given, threads), threads)
            ),
            "DuckDB": Contender(partial(duck, query=duckdb), prepare),
            "ClickHouse, own table": Contender(
                partial(house, query=clickhouse),
                lambda given, threads: cohorts.house_own(prepare(given, threads), threads),
            ),
            "ClickHouse": Contender(partial(house, query=clickhouse), prepare),
        },
        partial(compare, keys=("country", "cohort", "period") if kind == "country" else ("cohort", "period")),
    )
