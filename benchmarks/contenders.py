"""
The same question put to every engine: from a frame of transactions to the complete cohorts table.

The question is section 2.2 of the definitions with the default settings and months: sum the amounts of each
user and month, keep the sums above zero, take a user's first such month as the cohort, count and sum by
cohort and age, fill the grid up to the last month that has a row of any kind, and work out the ratios and
the ltv.

Every peer answers with the fastest of the forms that were tried for it; the comments name the others. Peers
sum floats, so a sum that ought to be 0 may come out as 3e-17: they ask for more than half a cent, which
costs nothing and is the same rule for amounts in whole cents.
"""

from functools import cache, partial

import duckdb
import numpy as np
import pandas as pd
import polars as pl
from polars import col

from benchmarks.measure import OURS, Contender, same_table

HALF_A_CENT = 0.005
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


def ours(frame: pl.DataFrame, threads: int) -> pl.DataFrame:
    import cohortlib as cl

    return cl.termina.cohorts(frame, threads=threads)


# polars: the fastest form known for each engine.
# The month is an Int16: a little faster than dt.truncate("1mo") or an Int32, and a lot faster than text.
# Integer ids that leave room for it are packed into one key with the month, which is faster by a tenth than
# two keys; text ids cast to Categorical first cost more than they gain.
# The first month of a user: `over` on the streaming engine; lists per user, exploded again, in memory. A join
# with a second group_by was not clearly faster on either.


def polars(frame: pl.DataFrame, threads: int, *, engine: str) -> pl.DataFrame:
    """Answer with polars; its threads are set by POLARS_MAX_THREADS before it is imported."""
    del threads
    net = _net_packed(frame) if _packable(frame["user_id"]) else _net(frame)
    active = net.filter(col.amount > HALF_A_CENT)
    if engine == "streaming":
        active = active.with_columns(cohort=col.month.min().over("user_id"))
    else:
        active = active.group_by("user_id").agg("month", "amount", cohort=col.month.min())
        active = active.explode("month", "amount")
    cells = active.group_by("cohort", period=(col.month - col.cohort).cast(pl.Int64)).agg(
        active_users=pl.len().cast(pl.Int64), amount=col.amount.sum()
    )
    last = frame.lazy().select(col.timestamp.max()).select(last=_month("timestamp"))
    sizes = cells.filter(period=0).select("cohort", cohort_size="active_users", cohort_size_amount="amount")
    grid = sizes.join(last, how="cross").with_columns(period=pl.int_ranges(col.last - col.cohort + 1))
    return (
        grid.explode("period")
        .join(cells, on=["cohort", "period"], how="left")
        .with_columns(col.active_users.fill_null(0), col.amount.fill_null(0.0))
        .sort("cohort", "period")
        .select(
            pl.date(col.cohort // 12, col.cohort % 12 + 1, 1).dt.strftime("%Y-%m").alias("cohort"),
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


def _net(frame: pl.DataFrame) -> pl.LazyFrame:
    return frame.lazy().group_by("user_id", month=_month("timestamp")).agg(col.amount.sum())


def _net_packed(frame: pl.DataFrame) -> pl.LazyFrame:
    key = col.user_id * 65536 + _month("timestamp")
    unpacked = {"user_id": col.key // 65536, "month": (col.key % 65536).cast(pl.Int16)}
    return frame.lazy().group_by(key=key).agg(col.amount.sum()).select("amount", **unpacked)


def _packable(ids: pl.Series) -> bool:
    return ids.dtype == pl.Int64 and bool(ids.is_between(0, 2**47 - 1).all())


def _month(name: str) -> pl.Expr:
    """Count months, the first of year 0 is 0."""
    return (col(name).dt.year() * 12 + col(name).dt.month() - 1).cast(pl.Int16)


# DuckDB: the first month joined back is faster than min() over (partition by user), which sorts, and than
# lists per user unnested again. date_trunc, datediff and year * 12 + month are alike within the noise, and
# so is preserve_insertion_order. Handed over as Arrow with string views, which copies nothing, text ids are
# a little faster than through the name of the polars frame.
DUCKDB = """
with net as (
    select user_id, (year(timestamp) * 12 + month(timestamp) - 1)::int as month, sum(amount) as amount
    from rows group by all
),
active as (select * from net where amount > 0.005),
first as (select user_id, min(month) as cohort from active group by user_id),
cells as (
    select cohort, month - cohort as period, count(*) as active_users, sum(amount) as amount
    from active join first using (user_id) group by all
),
grid as (
    select cohort, active_users as cohort_size, amount as cohort_size_amount,
        unnest(range((select max(month) from net) - cohort + 1)) as period
    from cells where period = 0
)
select
    strftime(make_date(cohort // 12, cohort % 12 + 1, 1), '%Y-%m') as cohort,
    period,
    cohort_size,
    cohort_size_amount,
    coalesce(active_users, 0) as active_users,
    coalesce(active_users, 0) / cohort_size as logo_retention,
    coalesce(amount, 0) as amount,
    coalesce(amount, 0) / cohort_size_amount as amount_retention,
    sum(coalesce(amount, 0)) over (partition by cohort order by period) / cohort_size as ltv
from grid left join cells using (cohort, period)
order by cohort, period
"""


def duck(frame: pl.DataFrame, threads: int) -> pl.DataFrame:
    rows = frame.to_arrow(compat_level=pl.CompatLevel.newest())  # noqa: F841  found by its name in the query
    return connection(threads).sql(DUCKDB).pl()


@cache
def connection(threads: int) -> duckdb.DuckDBPyConnection:
    """Connect once: a fresh connection for each call would cost DuckDB milliseconds."""
    made = duckdb.connect()
    made.execute(f"set threads = {threads}")
    made.execute("set enable_progress_bar = false")
    return made


# pandas: one integer key of factorized user and month beats groupby(["user_id", month]) by a little for
# integer ids and by half for text; transform("min") beats a Series mapped back and drop_duplicates after a
# sort.


def in_pandas(frame: pd.DataFrame, threads: int) -> pd.DataFrame:
    """Answer with pandas, which has one thread."""
    del threads
    month = frame["timestamp"].to_numpy().astype("datetime64[M]").astype(np.int64)
    last = month.max()
    key = pd.factorize(frame["user_id"])[0] * np.int64(65536) + month
    net = frame["amount"].groupby(key, sort=False).sum()
    net = net[net > HALF_A_CENT]
    user, month = np.divmod(net.index.to_numpy(), 65536)
    active = pd.DataFrame({"month": month, "amount": net.to_numpy()})
    active["cohort"] = active["month"].groupby(user, sort=False).transform("min")
    active["period"] = active["month"] - active["cohort"]
    cells = active.groupby(["cohort", "period"])["amount"].agg(active_users="count", amount="sum")

    cohorts = cells.index.unique("cohort")
    grid = [(cohort, period) for cohort in cohorts for period in range(last - cohort + 1)]
    table = cells.reindex(pd.MultiIndex.from_tuples(grid, names=["cohort", "period"]), fill_value=0)
    by_cohort = table.groupby("cohort")
    table["cohort_size"] = by_cohort["active_users"].transform("first")
    table["cohort_size_amount"] = by_cohort["amount"].transform("first")
    table["logo_retention"] = table["active_users"] / table["cohort_size"]
    table["amount_retention"] = table["amount"] / table["cohort_size_amount"]
    table["ltv"] = by_cohort["amount"].cumsum() / table["cohort_size"]
    table = table.reset_index()
    table["cohort"] = table["cohort"].to_numpy().astype("datetime64[M]").astype(str)
    return table[list(FIELDS)]


COHORTS = {
    OURS: Contender(ours),
    "polars, streaming": Contender(partial(polars, engine="streaming")),
    "polars, in memory": Contender(partial(polars, engine="in-memory")),
    "DuckDB": Contender(duck),
    "pandas": Contender(in_pandas, pl.DataFrame.to_pandas),
}


def compare(answer: pl.DataFrame | pd.DataFrame, other: pl.DataFrame | pd.DataFrame, *, rel: float = 1e-9) -> None:
    """
    Raise AssertionError unless two answers are the same table.

    Labels, ages and counts must be equal; money and ratios may differ by `rel` of their size, since peers sum
    floats in any order.
    """
    same_table(_plain(answer), _plain(other), COUNTS, MONEY, rel=rel)


def _plain(answer: pl.DataFrame | pd.DataFrame) -> pl.DataFrame:
    """Bring an answer to the published columns, types and order."""
    frame = answer if isinstance(answer, pl.DataFrame) else pl.from_pandas(answer)
    types = dict.fromkeys(FIELDS, pl.Float64) | dict.fromkeys(COUNTS, pl.Int64) | {"cohort": pl.String}
    return frame.select(FIELDS).cast(types)
