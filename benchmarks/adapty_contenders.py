"""
The same question put to every engine: from frames of events and installs to the `values` of Adapty's cohort table.

The question is section 3 of the definitions with the default settings, month segments over the whole history: rows
that count, repeats, install days, ordinals within chains, each refund's payment, users and chains that stay or were
refunded, every field of each cell and of the total row.

The peers follow all the rules that the generated history brings up. They need not follow what it lacks: ids of single
events, family-shared rows, text instants, two payments of a chain at one instant. They sum floats, so they round sums
to cents, which changes nothing for amounts in cents.

Two rules look as if they needed a loop and need none:

- The latest payment that is not refunded yet: in each chain, a payment opens a bracket and a refund that names no
  payment closes one. A refund's payment is the row before it in its chain at its depth.
- Users who stay: a user is a payer from the first payment up to the first refund, so only the two first moments of each
  user count. In the renewals table, where each chain's ordinals run from 1 without gaps, a user has paid at p if the
  user's greatest ordinal is at least p.
"""

import warnings
from datetime import date, timedelta
from functools import partial
from string import Template
from typing import NamedTuple

import polars as pl
from polars import col

from benchmarks.contenders import connection
from benchmarks.measure import OURS, Contender, same_table
from benchmarks.subscriptions import START, history

EPOCH = date(1970, 1, 1)
FIRST = (START.astype(object).date() - EPOCH).days
DAY = 86_400_000_000
RENEWAL_DAYS = (0, 3, 7, 14, 28, 31, 61, 92, 183, 336, 550, 731)
KINDS = (
    "trial_started",
    "subscription_started",
    "trial_converted",
    "subscription_renewed",
    "non_subscription_purchase",
    "subscription_refunded",
    "non_subscription_purchase_refunded",
)
GRANTED = ("adapty_server_side_product", "adapty_dashboard_product", "adapty_promotion")

LABELS = ("type", "segment_start_date", "period")
COUNTS = ("installs", "subscriptions", "subscribers", "currently_active_period")
SUMS = ("revenue_usd", "proceeds_usd", "net_revenue_usd")
NUMBERS = (
    *SUMS,
    *("arpu_usd", "appu_usd", "anrpu_usd"),
    *("arppu_usd", "apppu_usd", "anrppu_usd"),
    *("arpas_usd", "appas_usd", "anrpas_usd"),
    *("revenue_relative", "proceeds_relative", "net_revenue_relative"),
    *("subscriptions_relative", "subscribers_relative"),
)


class Given(NamedTuple):
    """What is asked about; `first` and `last` are the days of the request, counted from 1970."""

    events: pl.DataFrame
    installs: pl.DataFrame
    first: int
    last: int


def given(events: int, ids: str) -> Given:
    """Make a history and ask about the whole of it."""
    frame, installs = history(events, ids=ids)
    return Given(frame, installs, FIRST, (frame["event_datetime"].max().date() - EPOCH).days)


def ours(asked: Given, threads: int, *, period_type: str) -> pl.DataFrame:
    import cohortlib as cl
    from cohortlib.errors import CohortlibWarning

    days = [(EPOCH + timedelta(days=day)).isoformat() for day in (asked.first, asked.last)]
    request = {"filters": {"date": days}, "period_unit": "month", "period_type": period_type}
    with warnings.catch_warnings():
        # It tells of refunds without a payment and the like, as it should.
        warnings.simplefilter("ignore", CohortlibWarning)
        return cl.adapty.cohort(asked.events, request, installs=asked.installs, threads=threads).values


# DuckDB. What was tried, with rough times for 1,000,000 events, two threads, uuid ids, renewals and days:
# - Text keys all through, repeats by row_number over (user, transaction, kind): 2.0 s and 1.6 s.
# - Only rows whose hash occurs twice go through that row_number; users get a number; a user's first chain is null, so
#   that most keys of the big window are one number; it carries few columns, and instant and kind are one number:
#   1.5 s and 1.1 s. This is "DuckDB" below.
# - The same with 64-bit hashes in place of the texts: 1.0 s and 0.8 s. This is "DuckDB, hashed keys" below. Two texts
#   may meet in one hash, though among millions they hardly ever do; the answers are compared.
# - Ordinals from a sorted list for each chain, unnested again, are slower than the window in either form.
# - Common tables computed again are slower than materialized ones, days by casts to date slower than by division.
#   A polars frame handed over by its name, or a lazy one, is no faster than Arrow with string views.
COUNTED = """
with counted as materialized (
    select $user as user_key, kind, epoch_us(event_datetime) * 8 + kind as moment, $transaction as tx, $chain as chain,
        revenue_usd as r, proceeds_usd as p, net_revenue_usd as n,
        coalesce(epoch_us(subscription_expires_at) >= $last * $day, false) as open,
        epoch_us(install_date) as installed,
        xor(hash(transaction_id, kind), hash(profile_id)) as fingerprint
    from (select *, (case event_type $kinds end)::tinyint as kind from events)
    where kind is not null
        and environment = 'Production'
        and product_id not in $granted
        and (kind <= 4 or cancellation_reason is distinct from 'upgraded')
        and epoch_us(event_datetime) < ($last + 1) * $day
),
listed as materialized (
    select $user as user_key, min(epoch_us(install_date)) // $day as day from installs group by 1
),
users as materialized (
    select user_key, row_number() over ()::int as uid, first_chain, joined, $month_of_joined as segment
    from (
        select user_key, first_chain, coalesce(listed.day, known.day)::int as joined
        from (
            select user_key, $first_chain as first_chain,
                coalesce(min(installed), min(moment) filter (kind > 0) // 8) // $day as day
            from counted group by 1
        ) known left join listed using (user_key)
    )
    where joined between $first and $last
),
suspects as materialized (select fingerprint from counted group by 1 having count(*) > 1),
kept as materialized (
    select uid, segment, joined, kind, moment, tx, $other_chain as chain, r, p, n, open
    from (
        select * exclude (fingerprint, installed) from counted anti join suspects using (fingerprint)
        union all
        select * exclude (fingerprint, installed) from counted semi join suspects using (fingerprint)
        qualify tx is null or row_number() over (partition by user_key, tx, kind order by moment, r, p, n) = 1
    ) join users using (user_key)
),
refunds as materialized (
    select uid, segment, joined, chain, moment, tx, -abs(r) as r, -abs(p) as p, -abs(n) as n, row_number() over () as id
    from kept where kind > 4
),
named as materialized (
    select id, refunds.uid, paid.chain as of_chain, paid.moment as of_moment, paid.tx as of_tx
    from refunds join (select * from kept where kind between 1 and 4) paid using (uid, tx)
    qualify row_number() over (partition by id order by paid.moment) = 1
),
loose as materialized (select * from refunds anti join named using (id)),
touched as materialized (
    select uid, chain, moment, tx from kept k
    where kind between 1 and 4
        and exists (from loose l where l.uid = k.uid and l.chain is not distinct from k.chain)
),
brackets as (
    select uid, chain, moment, tx, id, sum(if(id is null, 1, -1)) over w + (id is not null)::int as depth
    from (
        select uid, chain, moment, tx, null as id from touched t
        where not exists (
            from named n where n.uid = t.uid and n.of_chain is not distinct from t.chain
                and n.of_moment = t.moment and n.of_tx is not distinct from t.tx
        )
        union all
        select uid, chain, moment, tx, id from loose
    )
    window w as (partition by uid, chain order by moment, tx nulls first rows unbounded preceding)
),
found as (
    select id, lag(moment) over (partition by uid, chain, depth order by moment, tx nulls first) as of_moment
    from brackets qualify id is not null
),
refunded as materialized (
    select refunds.*, of_chain, of_moment from refunds join named using (id)
    union all
    select loose.*, chain as of_chain, of_moment from loose join found using (id)
),
segments as (
    select segment, count(day) as installs
    from (select unnest(range($month_of_first, $month_of_last + 1)) as segment)
        left join (select day, $month_of_day as segment from listed where day between $first and $last) using (segment)
    group by 1
),
"""

RENEWALS = """
numbered as materialized (
    select uid, segment, moment, chain, r, p, n, open,
        count(*) filter (moment & 7 > 0) over w as number, lead(moment) over w is null as is_last
    from (select uid, segment, moment, chain, r, p, n, open from kept where kind <= 3)
    window w as (partition by uid, chain order by moment rows unbounded preceding)
),
once as (select uid, segment, r, p, n from kept where kind = 4),
back as materialized (
    select f.uid, f.segment, f.r, f.p, f.n, coalesce(number, 1) as number
    from refunded f left join numbered k
        on f.uid = k.uid and f.of_moment = k.moment and f.of_chain is not distinct from k.chain
),
cells as (
    select segment, number as period, count(*) filter (paid) as subscriptions,
        round(sum(r), 2) as r, round(sum(p), 2) as p, round(sum(n), 2) as n
    from (
        select segment, number, true as paid, r, p, n from numbered where moment & 7 > 0
        union all select segment, 1, true, r, p, n from once
        union all select segment, number, false, r, p, n from back
    ) group by all
),
widest as (select max(period) as period from cells),
ends as materialized (
    select segment, uid, max(number) as number, bool_or(subscribed) as activated
    from (
        select segment, uid, number, true as subscribed from numbered where is_last
        union all select segment, uid, 1, false from once
    ) group by all
),
reached as (
    select segment, period, sum(subscribers) as subscribers, sum(payers) as payers
    from (
        select segment, number as period, count(*) as subscribers, 0 as payers from ends where number > 0 group by all
        union all
        select segment, coalesce(refund - 1, (from widest)), 0, count(*)
        from ends left join (select uid, min(number) as refund from back group by 1) using (uid)
        where number > 0 group by all
    ) group by all
),
running as (
    select segment, min(number) as least from numbered k
    where is_last and open and not exists (
        from refunded f where f.uid = k.uid and f.of_moment = k.moment and f.of_chain is not distinct from k.chain
    ) group by 1
),
activated as (select segment, count(*) as activated from ends where activated group by 1),
filled as (
    select segment, period, installs, coalesce(activated, 0) as activated,
        coalesce(subscriptions, 0) as subscriptions,
        coalesce(sum(subscribers) over later, 0) as subscribers, coalesce(sum(payers) over later, 0) as payers,
        coalesce(r, 0) as r, coalesce(p, 0) as p, coalesce(n, 0) as n,
        sum(coalesce(r, 0)) over earlier as rs, sum(coalesce(p, 0)) over earlier as ps,
        sum(coalesce(n, 0)) over earlier as ns,
        coalesce(period > least, false) as active
    from segments cross join (select unnest(range(1, (from widest) + 1)) as period)
        left join cells using (segment, period) left join reached using (segment, period)
        left join activated using (segment) left join running using (segment)
    window earlier as (partition by segment order by period), later as (partition by segment order by period desc)
),
"""

# For each count only the steps at which it changes are kept, and added up to each day. An age below 0 is at most as
# many days as any, as age 0 is.
DAYS = """
aged as (
    select segment, moment // (8 * $day) - joined as age, sum(r) as r, sum(p) as p, sum(n) as n
    from (
        select segment, joined, moment, r, p, n from kept where kind between 1 and 4
        union all select segment, joined, moment, r, p, n from refunded
    ) group by all
),
firsts as (
    select segment, paid // (8 * $day) - joined as paid, refund // (8 * $day) - joined as refund,
        subscribed // (8 * $day) - joined as subscribed
    from (
        select uid, min(moment) filter (kind between 1 and 4) as paid, min(moment) filter (kind > 4) as refund,
            min(moment) filter (kind <= 3) as subscribed
        from kept group by 1
    ) join users using (uid)
),
chains as (
    select segment, paid // (8 * $day) - joined as paid, refund // (8 * $day) - joined as refund
    from (
        select c.uid, c.moment as paid, f.moment as refund
        from (select uid, chain, min(moment) as moment from kept where kind between 1 and 3 group by all) c
            left join (
                select uid, of_chain, min(moment) as moment from refunded
                where of_moment is null or of_moment & 7 < 4 group by all
            ) f on c.uid = f.uid and c.chain is not distinct from f.of_chain
        union all
        select k.uid, k.moment, f.moment
        from (select * from kept where kind = 4) k
            left join (
                select uid, of_chain, of_moment, min(moment) as moment from refunded
                where of_moment & 7 = 4 group by all
            ) f on k.uid = f.uid and k.moment = f.of_moment and k.chain is not distinct from f.of_chain
    ) join users using (uid)
),
periods as (select unnest($renewal_days) as period),
money as (
    select segment, period, round(sum(r), 2) as r, round(sum(p), 2) as p, round(sum(n), 2) as n
    from aged join periods on age <= period group by all
),
steps as (
    select segment, paid as age, count(*) as subscribers, 0 as subscriptions, 0 as activated
    from firsts where refund is null or paid < refund group by all
    union all select segment, refund, -count(*), 0, 0 from firsts where paid < refund group by all
    union all select segment, paid, 0, count(*), 0 from chains where refund is null or paid < refund group by all
    union all select segment, refund, 0, -count(*), 0 from chains where paid < refund group by all
    union all select segment, subscribed, 0, 0, count(*) from firsts where subscribed is not null group by all
),
counts as (
    select segment, period, sum(subscribers) as subscribers, sum(subscriptions) as subscriptions,
        sum(activated) as activated
    from steps join periods on age <= period group by all
),
filled as (
    select segment, period, installs, coalesce(activated, 0) as activated,
        coalesce(subscriptions, 0) as subscriptions, coalesce(subscribers, 0) as subscribers,
        coalesce(subscribers, 0) as payers,
        coalesce(r, 0) as r, coalesce(p, 0) as p, coalesce(n, 0) as n,
        coalesce(r, 0) as rs, coalesce(p, 0) as ps, coalesce(n, 0) as ns,
        least(epoch_us(last_day(make_date(segment // 12, segment % 12 + 1, 1))) // $day, $last) + period >= $last
            as active
    from segments cross join periods
        left join money using (segment, period) left join counts using (segment, period)
),
"""

VALUES = """
lines as (
    select segment, period, installs, activated, subscriptions, subscribers, payers, r, p, n, rs, ps, ns, active
    from filled
    union all
    select null, period, sum(installs), sum(activated), sum(subscriptions), sum(subscribers), sum(payers),
        sum(r), sum(p), sum(n), sum(rs), sum(ps), sum(ns), bool_or(active)
    from filled group by period
),
rounded as (
    select * replace (
        round(r, 2) as r, round(p, 2) as p, round(n, 2) as n, round(rs, 2) as rs, round(ps, 2) as ps, round(ns, 2) as ns
    ) from lines
)
select
    if(segment is null, 'total', 'single') as type,
    coalesce(make_date(segment // 12, segment % 12 + 1, 1), date '1970-01-01' + $first)::text as segment_start_date,
    period::bigint as period,
    installs::bigint as installs,
    r as revenue_usd,
    p as proceeds_usd,
    n as net_revenue_usd,
    coalesce(rs / nullif(installs, 0), 0) as arpu_usd,
    coalesce(ps / nullif(installs, 0), 0) as appu_usd,
    coalesce(ns / nullif(installs, 0), 0) as anrpu_usd,
    coalesce(rs / nullif(payers, 0), 0) as arppu_usd,
    coalesce(ps / nullif(payers, 0), 0) as apppu_usd,
    coalesce(ns / nullif(payers, 0), 0) as anrppu_usd,
    coalesce(rs / nullif(activated, 0), 0) as arpas_usd,
    coalesce(ps / nullif(activated, 0), 0) as appas_usd,
    coalesce(ns / nullif(activated, 0), 0) as anrpas_usd,
    subscriptions::bigint as subscriptions,
    subscribers::bigint as subscribers,
    coalesce(100 * r / nullif(first(r) over w, 0), 0) as revenue_relative,
    coalesce(100 * p / nullif(first(p) over w, 0), 0) as proceeds_relative,
    coalesce(100 * n / nullif(first(n) over w, 0), 0) as net_revenue_relative,
    coalesce(100 * subscriptions / nullif(first(subscriptions) over w, 0), 0) as subscriptions_relative,
    coalesce(100 * subscribers / nullif(first(subscribers) over w, 0), 0) as subscribers_relative,
    active as currently_active_period
from rounded
window w as (partition by segment order by period)
order by segment nulls first, period
"""

TEXT_KEYS = {
    "user": "profile_id",
    "transaction": "transaction_id",
    "chain": "coalesce(original_transaction_id, transaction_id)",
    "first_chain": "any_value(chain)",
    "other_chain": "nullif(chain, first_chain)",
}
HASHED_KEYS = {
    "user": "hash(profile_id)",
    "transaction": "if(transaction_id is null, null, hash(transaction_id))",
    "chain": "hash(coalesce(original_transaction_id, transaction_id))",
    "first_chain": "null",
    "other_chain": "chain",
}


def duck(asked: Given, threads: int, *, period_type: str, keys: dict[str, str]) -> pl.DataFrame:
    newest = pl.CompatLevel.newest()
    events = asked.events.to_arrow(compat_level=newest)  # noqa: F841  found by their names in the query
    installs = asked.installs.to_arrow(compat_level=newest)  # noqa: F841
    return connection(threads).sql(query(asked.first, asked.last, period_type, keys)).pl()


def query(first: int, last: int, period_type: str, keys: dict[str, str]) -> str:
    text = COUNTED + (RENEWALS if period_type == "renewals" else DAYS) + VALUES
    date_of = {"joined": "joined", "day": "day::int", "first": first, "last": last}
    months = {
        f"month_of_{name}": f"(year(date '1970-01-01' + {value}) * 12 + month(date '1970-01-01' + {value}) - 1)"
        for name, value in date_of.items()
    }
    return Template(text).substitute(
        keys,
        **months,
        kinds=" ".join(f"when '{kind}' then {code}" for code, kind in enumerate(KINDS)),
        granted=GRANTED,
        renewal_days=list(RENEWAL_DAYS),
        first=first,
        last=last,
        day=DAY,
    )


# polars. A step that several others use is collected once. Ordinals are running sums over rows in order of time, so
# nothing is sorted within chains. Keys are 64-bit hashes, as in "DuckDB, hashed keys"; the hash of two keys is made
# from theirs by arithmetic that wraps. Steps in which the order of rows matters run in memory on either engine. In
# processor time, for 1,000,000 events: renewals two thirds of "DuckDB, hashed keys", days a fifth to a third more.
ODD = pl.lit(0x9E3779B97F4A7C15, dtype=pl.UInt64)
ODDER = pl.lit(0xD6E8FEB86659FD93, dtype=pl.UInt64)
MONEY = ("r", "p", "n")


class Steps(NamedTuple):
    """What both tables are made from: users, the rows that are kept, refunds with their payments, segments."""

    kept: pl.LazyFrame
    numbered: pl.LazyFrame
    refunded: pl.LazyFrame
    segments: pl.LazyFrame


def polars(asked: Given, threads: int, *, period_type: str, engine: str) -> pl.DataFrame:
    """Answer with polars; its threads are set by POLARS_MAX_THREADS before it is imported."""
    del threads
    steps = _steps(asked, period_type, engine)
    filled = _renewals(steps, engine) if period_type == "renewals" else _days(steps, asked.last)
    return _values(filled, asked.first).collect(engine=engine)


def _steps(asked: Given, period_type: str, engine: str) -> Steps:
    counted = _done(_counted(asked).with_columns(copied=col("tx").is_not_null() & _fingerprint().is_duplicated()))
    listed = asked.installs.lazy().group_by(user=col("profile_id").hash()).agg(day=_us("install_date").min() // DAY)
    listed = _done(listed, engine)
    known = counted.group_by("user").agg(
        installed=col("installed").min() // DAY, paid=col("moment").filter(col("kind") > 0).min() // (8 * DAY)
    )
    users = (
        known.join(listed, on="user", how="left")
        .select("user", joined=pl.coalesce("day", "installed", "paid"))
        .filter(col("joined").is_between(asked.first, asked.last))
        .with_columns(segment=_month("joined"))
    )
    copied = counted.filter("copied").sort("moment", *MONEY)
    firsts = copied.unique(["user", "tx", "kind"], keep="first", maintain_order=True)
    kept = _done(pl.concat([counted.filter(~col("copied")), firsts]).join(users, on="user"), engine)

    numbered = kept.filter(col("kind") <= 4)
    if period_type == "renewals":
        subscribed = col("kind").is_between(1, 3).cast(pl.Int64).cum_sum().over("chain")
        numbered = numbered.sort("moment").with_columns(number=pl.when(col("kind") == 4).then(1).otherwise(subscribed))
    else:
        numbered = numbered.with_columns(number=pl.lit(1, dtype=pl.Int64))
    numbered = _done(numbered)

    span = range(_month_of(asked.first), _month_of(asked.last) + 1)
    installed = listed.filter(col("day").is_between(asked.first, asked.last))
    installed = installed.group_by(segment=_month("day")).agg(installs=pl.len().cast(pl.Int64))
    segments = pl.LazyFrame({"segment": span}, schema={"segment": pl.Int32}).join(installed, on="segment", how="left")
    return Steps(kept, numbered, _refunded(kept, numbered), segments.with_columns(col("installs").fill_null(0)))


def _counted(asked: Given) -> pl.LazyFrame:
    refund = col("kind") > 4
    money = {"r": "revenue_usd", "p": "proceeds_usd", "n": "net_revenue_usd"}
    return (
        asked.events.lazy()
        .filter(
            col("event_type").is_in(KINDS),
            col("environment") == "Production",
            ~col("product_id").is_in(GRANTED),
            _us("event_datetime") < (asked.last + 1) * DAY,
        )
        .with_columns(kind=col("event_type").replace_strict(KINDS, range(len(KINDS)), return_dtype=pl.Int8))
        .filter(~(refund & col("cancellation_reason").eq_missing("upgraded")))
        .select(
            "kind",
            user=col("profile_id").hash(),
            moment=_us("event_datetime") * 8 + col("kind"),
            tx=pl.when(col("transaction_id").is_not_null()).then(col("transaction_id").hash()),
            chain=pl.coalesce("original_transaction_id", "transaction_id").hash() * ODD + col("profile_id").hash(),
            open=(_us("subscription_expires_at") >= asked.last * DAY).fill_null(value=False),
            installed=_us("install_date"),
            **{name: pl.when(refund).then(-col(full).abs()).otherwise(col(full)) for name, full in money.items()},
        )
    )


def _refunded(kept: pl.LazyFrame, numbered: pl.LazyFrame) -> pl.LazyFrame:
    refunds = kept.filter(col("kind") > 4).with_row_index("id")
    paid = numbered.filter(col("kind") > 0)
    payments = paid.select("user", "tx", of_chain="chain", of_moment="moment", of_number="number")
    named = _done(refunds.join(payments, on=["user", "tx"]).sort("of_moment").unique("id", keep="first"))
    loose = refunds.join(named, on="id", how="anti")

    free = paid.join(loose, on="chain", how="semi").join(
        named.select("tx", chain="of_chain", moment="of_moment"),
        on=["chain", "moment", "tx"],
        how="anti",
        nulls_equal=True,
    )
    brackets = pl.concat([free, loose], how="diagonal").sort("moment", "tx")
    closing = col("id").is_not_null()
    depth = pl.when(closing).then(-1).otherwise(1).cum_sum().over("chain") + closing.cast(pl.Int32)
    before = {f"of_{name}": col(name).shift(1).over("chain", "depth") for name in ("moment", "number")}
    found = brackets.with_columns(depth=depth).with_columns(**before).filter(closing)
    found = loose.join(found.select("id", "of_moment", "of_number"), on="id").with_columns(of_chain="chain")
    return _done(pl.concat([named, found], how="diagonal").with_columns(number=col("of_number").fill_null(1)))


def _renewals(steps: Steps, engine: str) -> pl.LazyFrame:
    paid = steps.numbered.filter(col("kind") > 0)
    money = ["segment", "number", *MONEY]
    cells = (
        pl.concat([paid.select(*money, paid=1), steps.refunded.select(*money, paid=0)])
        .group_by("segment", period="number")
        .agg(col(*MONEY).sum().round(2), subscriptions=col("paid").sum().cast(pl.Int64))
        .collect(engine=engine)
    )
    widest = cells["period"].max() or 0
    # The rows of a chain stand in order of time.
    ends = _done(
        steps.numbered.filter(col("kind") <= 3)
        .group_by("chain")
        .agg(col("segment", "user").first(), col("number", "open", "moment").last())
    )
    once = paid.filter(col("kind") == 4).select("user", "segment", "number", activated=False)
    users = _done(
        pl.concat([ends.select("user", "segment", "number", activated=True), once])
        .group_by("user")
        .agg(col("segment").first(), col("number").max(), col("activated").any())
        .join(steps.refunded.group_by("user").agg(refund=col("number").min()), on="user", how="left"),
        engine,
    )
    payers = users.filter(col("number") > 0)
    reached = pl.concat(
        [
            payers.group_by("segment", period="number").agg(subscribers=_rows()),
            payers.group_by("segment", period=(col("refund") - 1).fill_null(widest)).agg(payers=_rows()),
        ],
        how="diagonal",
    )
    reached = reached.group_by("segment", "period").agg(col("subscribers", "payers").sum())
    refunded = steps.refunded.select(chain="of_chain", moment="of_moment")
    running = ends.filter("open").join(refunded, on=["chain", "moment"], how="anti")
    return (
        steps.segments.join(pl.LazyFrame({"period": range(1, widest + 1)}, schema={"period": pl.Int64}), how="cross")
        .join(cells.lazy(), on=["segment", "period"], how="left")
        .join(reached, on=["segment", "period"], how="left")
        .join(users.filter("activated").group_by("segment").agg(activated=_rows()), on="segment", how="left")
        .fill_null(0)
        .join(running.group_by("segment").agg(least=col("number").min()), on="segment", how="left")
        .sort("segment", "period")
        .with_columns(
            *(col(name).cum_sum().over("segment").alias(f"{name}s") for name in MONEY),
            col("subscribers", "payers").cum_sum(reverse=True).over("segment"),
            active=(col("period") > col("least")).fill_null(value=False),
        )
    )


def _days(steps: Steps, last: int) -> pl.LazyFrame:
    paid = steps.numbered.filter(col("kind") > 0)
    age = col("moment") // (8 * DAY) - col("joined")
    money = ["segment", "joined", "moment", *MONEY]
    aged = pl.concat([paid.select(money), steps.refunded.select(money)]).group_by("segment", age=age)

    subscribed, refund = col("kind") <= 3, col("kind") > 4
    firsts = steps.kept.with_columns(age=age).group_by("user")
    firsts = firsts.agg(
        col("segment").first(),
        paid=col("age").filter(col("kind").is_between(1, 4)).min(),
        refund=col("age").filter(refund).min(),
        subscribed=col("age").filter(subscribed).min(),
    )
    is_once = (col("of_moment") % 8 == 4).fill_null(value=False)
    refunded = steps.refunded.with_columns(age=age)
    of_chains = refunded.filter(~is_once).group_by(chain="of_chain").agg(refund=col("age").min())
    of_once = refunded.filter(is_once).group_by(chain="of_chain", moment="of_moment").agg(refund=col("age").min())
    chains = paid.filter(subscribed).with_columns(age=age).group_by("chain")
    chains = chains.agg(col("segment").first(), paid=col("age").min()).join(of_chains, on="chain", how="left")
    once = paid.filter(col("kind") == 4).join(of_once, on=["chain", "moment"], how="left")
    kinds = [chains.select("segment", "paid", "refund"), once.select("segment", "refund", paid=age)]

    steps_of_counts = [
        *_staying(firsts, "subscribers"),
        *_staying(pl.concat(kinds, how="diagonal"), "subscriptions"),
        firsts.drop_nulls("subscribed").group_by("segment", age="subscribed").agg(activated=_rows()),
        aged.agg(col(*MONEY).sum()),
    ]
    periods = pl.LazyFrame({"period": RENEWAL_DAYS}, schema={"period": pl.Int64})
    cells = (
        periods.join(pl.concat(steps_of_counts, how="diagonal"), how="cross")
        .filter(col("age") <= col("period"))
        .group_by("segment", "period")
        .agg(col(*MONEY, "subscribers", "subscriptions", "activated").sum())
    )
    month_end = _first_day("segment").dt.month_end().to_physical().cast(pl.Int64)
    return (
        steps.segments.join(periods, how="cross")
        .join(cells, on=["segment", "period"], how="left")
        .fill_null(0)
        .with_columns(
            *(col(name).alias(f"{name}s") for name in MONEY),
            payers="subscribers",
            active=pl.min_horizontal(month_end, last) + col("period") >= last,
        )
    )


def _staying(frame: pl.LazyFrame, name: str) -> list[pl.LazyFrame]:
    """Count the first payments of those who have one before their first refund, and take them off at that refund."""
    staying = frame.filter(col("paid").is_not_null(), (col("refund") > col("paid")).fill_null(value=True))
    return [
        staying.group_by("segment", age="paid").agg(_rows().alias(name)),
        staying.drop_nulls("refund").group_by("segment", age="refund").agg((-_rows()).alias(name)),
    ]


def _values(filled: pl.LazyFrame, first: int) -> pl.LazyFrame:
    counts = ["installs", "activated", "subscriptions", "subscribers", "payers"]
    sums = [*MONEY, *(f"{name}s" for name in MONEY)]
    total = filled.group_by("period").agg(col(*counts, *sums).sum(), col("active").any())
    lines = pl.concat([total, filled.select("segment", "period", *counts, *sums, "active")], how="diagonal")
    lines = lines.sort("segment", "period").with_columns(col(*sums).round(2))
    start = pl.coalesce(_first_day("segment"), pl.lit(EPOCH + timedelta(days=first)))
    shares = {"pu": "installs", "ppu": "payers", "pas": "activated"}
    averages = {
        f"a{short}{suffix}_usd": _quotient(col(f"{name}s"), col(by))
        for suffix, by in shares.items()
        for short, name in (("r", "r"), ("p", "p"), ("nr", "n"))
    }
    relatives = {"revenue": "r", "proceeds": "p", "net_revenue": "n"} | {name: name for name in counts[2:4]}
    return lines.select(
        pl.when(col("segment").is_null()).then(pl.lit("total")).otherwise(pl.lit("single")).alias("type"),
        start.dt.strftime("%Y-%m-%d").alias("segment_start_date"),
        "period",
        "installs",
        *(col(name).alias(full) for name, full in zip(MONEY, SUMS, strict=True)),
        *(average.alias(name) for name, average in averages.items()),
        "subscriptions",
        "subscribers",
        *(
            _quotient(100 * col(name), col(name).first().over("segment")).alias(f"{field}_relative")
            for field, name in relatives.items()
        ),
        col("active").alias("currently_active_period"),
    )


def _done(frame: pl.LazyFrame, engine: str = "in-memory") -> pl.LazyFrame:
    return frame.collect(engine=engine).lazy()


def _fingerprint() -> pl.Expr:
    return col("tx") + col("user") * ODD + col("kind").cast(pl.UInt64) * ODDER


def _us(name: str) -> pl.Expr:
    return col(name).dt.timestamp("us")


def _rows() -> pl.Expr:
    return pl.len().cast(pl.Int64)


def _quotient(above: pl.Expr, below: pl.Expr) -> pl.Expr:
    return pl.when(below != 0).then(above / below).otherwise(0.0)


def _month(name: str) -> pl.Expr:
    """Count months from days since 1970, the first of year 0 is 0."""
    day = col(name).cast(pl.Int32).cast(pl.Date)
    return day.dt.year() * 12 + day.dt.month().cast(pl.Int32) - 1


def _month_of(day: int) -> int:
    at = EPOCH + timedelta(days=day)
    return at.year * 12 + at.month - 1


def _first_day(name: str) -> pl.Expr:
    return pl.date(col(name) // 12, col(name) % 12 + 1, 1)


COHORT = {
    period_type: {
        OURS: Contender(partial(ours, period_type=period_type)),
        "polars, streaming": Contender(partial(polars, period_type=period_type, engine="streaming")),
        "polars, in memory": Contender(partial(polars, period_type=period_type, engine="in-memory")),
        "DuckDB": Contender(partial(duck, period_type=period_type, keys=TEXT_KEYS)),
        "DuckDB, hashed keys": Contender(partial(duck, period_type=period_type, keys=HASHED_KEYS)),
    }
    for period_type in ("renewals", "days")
}


def compare(answer: pl.DataFrame, other: pl.DataFrame, *, rel: float = 1e-9) -> None:
    """
    Raise AssertionError unless two answers are the same table.

    Labels, counts and flags must be equal; money and ratios may differ by `rel` of their size, since peers sum floats
    in any order.
    """
    same_table(_plain(answer), _plain(other), [*LABELS, *COUNTS], NUMBERS, rel=rel)


def _plain(answer: pl.DataFrame) -> pl.DataFrame:
    """Bring an answer to one order of columns and of rows."""
    total_first = col("type") != "total"
    return answer.select(*LABELS, *COUNTS, *NUMBERS).sort(total_first, "segment_start_date", "period")
