"""Adapty's cohort table in SQL for DuckDB."""

from string import Template

import polars as pl

from benchmarks import engines
from benchmarks.adapty_rules import DAY, GRANTED, KINDS, RENEWAL_DAYS, History

# Queries tried, with rough times for 1,000,000 events, two threads, uuid ids, renewals and days:
# - Text keys everywhere, duplicates by row_number over (user, transaction, kind): 2.0 s and 1.6 s.
# - row_number only for rows whose hash occurs twice; users are numbered; the first chain of a user is null, so most
#   keys of the large window are one number; the window has few columns, and instant and kind are packed into one
#   number: 1.5 s and 1.1 s. This is "DuckDB" below.
# - The same with 64-bit hashes instead of texts: 1.0 s and 0.8 s. This is "DuckDB, hashed keys" below. Hashes can
#   collide, but hardly ever do among millions of texts; the answers are compared.
# - Ordinals from a sorted list per chain, unnested, are slower than the window in both versions.
# - Recomputed CTEs are slower than materialized ones, and days by casts to date slower than by division. Passing a
#   polars frame by its name, or a lazy one, is no faster than Arrow with string views.
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
matched as (
    select id, lag(moment) over (partition by uid, chain, depth order by moment, tx nulls first) as of_moment
    from brackets qualify id is not null
),
refunded as materialized (
    select refunds.*, of_chain, of_moment from refunds join named using (id)
    union all
    select loose.*, chain as of_chain, of_moment from loose join matched using (id)
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

# For each count only its changes are kept, and summed up to each day. Ages below 0 count on every day, as age 0 does.
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


def answer(given: History, threads: int, *, period_type: str, keys: dict[str, str]) -> pl.DataFrame:
    sql = query(given.first, given.last, period_type, keys)
    return engines.duck(sql, threads, events=given.events, installs=given.installs)


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
