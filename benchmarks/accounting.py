"""
Termina's growth accounting, by month, in every engine.

Sum the amounts per user and month, keep the sums above zero, and compare each with the one before: retained, new,
resurrected, expansion and contraction per month. Who left follows from the totals, so no engine looks for them. Then
come the ratios, and one row for each month from the first to the last with a row of any kind.

The sums per user and month are those of the cohorts table, as is the rule of half a cent for float sums. The comments
list the queries that we tried, with rough times for 10,000,000 rows, two threads.
"""

from functools import partial
from string import Template

import polars as pl
from polars import col

from benchmarks import cohorts, engines
from benchmarks.data import Transactions
from benchmarks.measure import OURS, Contender, Question, same_table

COMPONENTS = ("retained", "new", "resurrected", "expansion", "contraction", "churned")
RATIOS = ("quick_ratio", "gross_retention", "net_churn")
FIELDS = ("date", "amount", *COMPONENTS, *RATIOS)


def ours(given: Transactions, threads: int) -> pl.DataFrame:
    import cohortlib as cl

    return cl.termina.growth_accounting(given.rows, threads=threads).select(FIELDS)


# --- polars ---------------------------------------------------------------------------------------------------
# One packed key, sorted, puts a user's months side by side, so the month before is the row before: 1.1 s. Two joins
# instead, with the month before and the first month: 4 % longer on the streaming engine, 40 % in memory.


def polars(given: Transactions, threads: int, *, engine: str) -> pl.DataFrame:
    del threads
    rows, calendar = engines.scan(given.rows), cohorts.POLARS["M"]
    if given.packable:
        net = rows.group_by(key=col.user_id * cohorts.WIDTH + calendar.period).agg(col.amount.sum())
        active = net.filter(col.amount > cohorts.HALF_A_CENT).sort("key")
        active = active.with_columns(user_id=col.key // cohorts.WIDTH, slot=(col.key % cohorts.WIDTH).cast(pl.Int16))
    else:
        net = rows.group_by("user_id", slot=calendar.period).agg(col.amount.sum())
        active = net.filter(col.amount > cohorts.HALF_A_CENT).sort("user_id", "slot")
    known = (col.user_id == col.user_id.shift()).fill_null(value=False)
    active = active.select(
        "slot", "amount", known=known, stayed=known & (col.slot == col.slot.shift() + 1), before=col.amount.shift()
    )
    by_month = (
        active.group_by("slot")
        .agg(
            amount=col.amount.sum(),
            new=col.amount.filter(~col.known).sum(),
            retained=pl.min_horizontal("amount", "before").filter("stayed").sum(),
            resurrected=col.amount.filter(col.known & ~col.stayed).sum(),
            expansion=(col.amount - col.before).clip(lower_bound=0).filter("stayed").sum(),
            contraction=(col.amount - col.before).clip(upper_bound=0).filter("stayed").sum(),
        )
        .collect(engine=engine)
    )
    last = rows.select(col.timestamp.max()).select(last=calendar.period).collect(engine=engine).item()
    first = int(by_month["slot"].min())  # type: ignore[arg-type]
    months = pl.DataFrame({"slot": pl.int_range(first, last + 1, dtype=pl.Int16, eager=True)})
    table = months.join(by_month, on="slot", how="left").sort("slot").fill_null(0.0)
    before = col.amount.shift(fill_value=0.0)
    table = table.with_columns(churned=col.retained - col.contraction - before, before=before)
    lost = -col.churned - col.contraction
    return table.select(
        _label("slot"),
        "amount",
        *COMPONENTS,
        quick_ratio=pl.when(lost > 0).then((col.new + col.resurrected + col.expansion) / lost),
        gross_retention=pl.when(col.before > 0).then(col.retained / col.before),
        net_churn=pl.when(col.before > 0).then((lost - col.resurrected - col.expansion) / col.before),
    )


def _label(name: str) -> pl.Expr:
    """Return the labels of months."""
    return pl.date(pl.col(name) // 12, pl.col(name) % 12 + 1, 1).dt.strftime("%Y-%m").alias("date")


# --- DuckDB ---------------------------------------------------------------------------------------------------

NET = """
with net as (select user_id, $period as slot, sum(amount) as amount from transactions group by all),
active as (select * from net where amount > 0.005),
"""

# lag() sorts within users: 1.8 s.
LAG = """
pairs as (
    select slot, amount, lag(slot) over user as last, lag(amount) over user as prior
    from active window user as (partition by user_id order by slot)
),
"""

# Two joins, with the month before and with the first month, take 2 % longer.
JOIN = """
first as (select user_id, min(slot) as first from active group by user_id),
pairs as (
    select a.slot, a.amount,
        case when b.amount is not null then a.slot - 1 when a.slot > first then 0 end as last, b.amount as prior
    from active a join first using (user_id) left join active b on a.user_id = b.user_id and a.slot = b.slot + 1
),
"""

REST = """
months as (
    select slot, sum(amount) as amount,
        coalesce(sum(amount) filter (last is null), 0) as new,
        coalesce(sum(amount) filter (last < slot - 1), 0) as resurrected,
        coalesce(sum(least(amount, prior)) filter (last = slot - 1), 0) as retained,
        coalesce(sum(greatest(amount - prior, 0)) filter (last = slot - 1), 0) as expansion,
        coalesce(sum(least(amount - prior, 0)) filter (last = slot - 1), 0) as contraction
    from pairs group by slot
),
grid as (
    select slot, coalesce(amount, 0) as amount, coalesce(new, 0) as new, coalesce(resurrected, 0) as resurrected,
        coalesce(retained, 0) as retained, coalesce(expansion, 0) as expansion, coalesce(contraction, 0) as contraction,
        coalesce(lag(coalesce(amount, 0)) over (order by slot), 0) as prior
    from (select unnest(range((select min(slot) from active), (select max(slot) from net) + 1))::int as slot)
        left join months using (slot)
),
lost as (select *, retained - contraction - prior as churned, prior - retained as lost from grid)
select
    strftime(make_date(slot // 12, slot % 12 + 1, 1), '%Y-%m') as date,
    amount, retained, new, resurrected, expansion, contraction, churned,
    case when lost > 0 then (new + resurrected + expansion) / lost end as quick_ratio,
    case when prior > 0 then retained / prior end as gross_retention,
    case when prior > 0 then (lost - resurrected - expansion) / prior end as net_churn
from lost order by slot
"""


def duck(given: Transactions, threads: int, *, pairs: str = LAG) -> pl.DataFrame:
    query = Template(NET + pairs + REST).substitute(period=cohorts.DUCKDB_CALENDARS["M"].period)
    return engines.duck(query, threads, transactions=given.rows)


# --- the question ---------------------------------------------------------------------------------------------


def compare(answer: object, other: object) -> None:
    """Raise AssertionError unless two answers are equal; money and ratios may differ by float sums."""
    same_table(answer, other, ("date",), FIELDS[1:], rel=1e-6)


def question() -> Question:
    """Return the question, with all contenders."""
    return Question(
        {
            OURS: Contender(ours),
            "polars, streaming": Contender(partial(polars, engine="streaming")),
            "polars, in memory": Contender(partial(polars, engine="in-memory")),
            "DuckDB, own table": Contender(duck, cohorts.duck_own),
            "DuckDB": Contender(duck),
        },
        compare,
    )
